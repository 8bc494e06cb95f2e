//! The InnoDB redo log: file header and checkpoints, ring arithmetic, mini-transactions, records,
//! and applying records to pages.
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
