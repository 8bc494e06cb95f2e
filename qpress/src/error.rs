//! What is wrong with a compressed file.

use std::io;

use crate::quicklz::QuickLzError;

/// A file that cannot be unpacked. Offsets are those of the unpacked file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QpressError {
    /// It cannot be read.
    #[error("cannot read the compressed file")]
    Read(#[source] io::Error),
    /// What is unpacked cannot be written.
    #[error("cannot write what is unpacked")]
    Write(#[source] io::Error),
    /// It does not begin as such files do.
    #[error("this is no file of qpress, or not one of a single file")]
    Magic,
    /// It ends too early.
    #[error("the compressed file is cut, in or after the block at offset {offset}")]
    Cut {
        /// Where the last whole block ends.
        offset: u64,
    },
    /// Neither a block nor the end where one should be.
    #[error("the compressed file is damaged after offset {offset}")]
    Damaged {
        /// Where the last block ends.
        offset: u64,
    },
    /// A block that belongs elsewhere.
    #[error("the block at offset {offset} says that it belongs at {stored}")]
    Order {
        /// Where it is.
        offset: u64,
        /// Where it says that it is.
        stored: u64,
    },
    /// The bytes of a block are not those that were written.
    #[error(
        "checksum of the block at offset {offset}: {stored:#010x}, but {computed:#010x} by its bytes"
    )]
    Checksum {
        /// Where it is.
        offset: u64,
        /// As stored.
        stored: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// A block that cannot be decompressed.
    #[error("the block at offset {offset} cannot be decompressed")]
    Block {
        /// Where it is.
        offset: u64,
        /// Why not.
        source: QuickLzError,
    },
    /// Something follows the end.
    #[error("something follows the end of the compressed file")]
    Trailing,
}
