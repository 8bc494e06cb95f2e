//! The InnoDB redo log: file header and checkpoints, ring arithmetic, mini-transactions, records,
//! and applying records to pages.
//!
//! Knows no server, no thread and no option.

#![forbid(unsafe_code)]

pub mod apply;
mod error;
pub mod fsp;
pub mod header;
pub mod mtr;
pub mod record;
mod ring;
mod varint;

pub use error::{Malformed, RedoError};
pub use innodb::{Lsn, PageId, PageNo, SpaceId};
pub use ring::Ring;
