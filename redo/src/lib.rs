//! The InnoDB redo log: file header and checkpoints, ring arithmetic, mini-transactions, records,
//! and applying records to pages.
//!
//! ```text
//!                 header    framing                                 encryption
//! 10.5 to 10.7    blocks    blocks of 512 bytes                     of blocks
//! 10.8 and later  header    mini-transactions in a ring (mtr)       of mini-transactions
//! 13, archived    archive   mini-transactions in files, on and on   of mini-transactions
//! ```
//!
//! Their records are the same. `file` tells the formats apart; `reader` reads them all alike, once
//! nobody writes any more. Who copies a log that is being written works with `mtr` or with
//! [`blocks::BlockCopier`].
//!
//! Knows no server, no thread and no option.

#![forbid(unsafe_code)]

pub mod apply;
pub mod archive;
pub mod blocks;
pub mod encryption;
mod error;
pub mod file;
mod format;
pub mod fsp;
pub mod header;
pub mod mtr;
pub mod reader;
pub mod record;
mod ring;
#[cfg(test)]
#[path = "../tests/keys/mod.rs"]
mod test_keys;
mod varint;

pub use error::{Malformed, RedoError};
pub use format::Format;
pub use innodb::{Lsn, PageId, PageNo, SpaceId};
pub use ring::Ring;
