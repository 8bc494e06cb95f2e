//! The InnoDB redo log: file header and checkpoints, ring arithmetic, mini-transactions, records,
//! and applying records to pages.
//!
//! Knows no server, no thread and no option.

#![forbid(unsafe_code)]

pub mod record;

pub use innodb::{Lsn, PageId, PageNo, SpaceId};
