//! Files as `mariadb-backup --compress` and the program `qpress` write them (`.qp`), one file in
//! each.
//!
//! ```text
//! "qpress10"   chunk size 8
//! "F"          name length 4, name, 0
//! "NEWBNEWB"   offset of the block in the file 8, Adler-32 of the block 4, block (`quicklz`)
//! ...
//! "ENDSENDS"   0, 8 bytes
//! ```
//!
//! All integers are little-endian. Sources: `ds_compress.cc` and what it writes in 10.11.

#![forbid(unsafe_code)]

mod error;
mod packer;
pub mod quicklz;
mod unpack;

pub use error::QpressError;
pub use packer::{block, end, head};
pub use unpack::unpack;

const MAGIC: [u8; 8] = *b"qpress10";
const BLOCK: [u8; 8] = *b"NEWBNEWB";
const END: [u8; 8] = *b"ENDSENDS";

/// Longest block that is read, bytes before compression.
pub const BLOCK_LEN_MAX: usize = 64 << 20;
