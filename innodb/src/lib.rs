//! InnoDB tablespace files: page identity, page sizes, flags, checksums, space headers, and which
//! files make up a data directory.
//!
//! Knows no server, no thread and no option. Formats are those of MariaDB 10.5 to 13.x.

#![forbid(unsafe_code)]

mod bytes;
pub mod cfg;
pub mod change_buffer;
pub mod checksum;
pub mod compressed;
pub mod datadir;
pub mod delta;
pub mod dictionary;
pub mod doublewrite;
pub mod encrypted;
pub mod extent;
pub mod flags;
pub mod index_page;
pub mod lsn;
pub mod page;
pub mod rollback;
pub mod space;
pub mod tablespace;
#[cfg(test)]
mod testdata;
pub mod undo;

pub use flags::{PageSize, SpaceFlags};
pub use lsn::{Lsn, PageId, PageNo, SpaceId};
