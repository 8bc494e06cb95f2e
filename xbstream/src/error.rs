//! What is wrong with a stream.

use std::io;
use std::path::PathBuf;

/// A stream that is not to be trusted. Offsets count from the start of the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// It cannot be read.
    #[error("cannot read the stream at offset {offset:#x}")]
    Read {
        /// Where.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// There is not a single chunk: whatever was to write it has failed.
    #[error("the stream is empty")]
    Empty,
    /// It ends in the middle of a chunk.
    #[error("unexpected end of stream at offset {offset:#x}{}", of(path.as_ref()))]
    Cut {
        /// Where it ends.
        offset: u64,
        /// File of the chunk, if that much was read.
        path: Option<PathBuf>,
    },
    /// It ends in the middle of files.
    #[error(
        "the stream ends at offset {offset:#x}, but {} has not ended{}",
        path.display(),
        more(*others)
    )]
    Unfinished {
        /// Where it ends.
        offset: u64,
        /// The first of the files, by name.
        path: PathBuf,
        /// How many others.
        others: usize,
    },
    /// No chunk begins where one should.
    #[error("wrong chunk magic at offset {offset:#x}: this is no xbstream, or it is damaged")]
    Magic {
        /// Where.
        offset: u64,
    },
    /// The bytes are not those that were written.
    #[error(
        "invalid checksum at offset {offset:#x}: expected {expected:#x}, read {read:#x} ({})",
        path.display()
    )]
    Checksum {
        /// Where the chunk begins.
        offset: u64,
        /// Of the bytes.
        expected: u32,
        /// In the stream.
        read: u32,
        /// File of the chunk.
        path: PathBuf,
    },
    /// A kind of chunk that nothing is known about.
    #[error("unknown chunk type {kind:#04x} at offset {offset:#x}")]
    Kind {
        /// Where the chunk begins.
        offset: u64,
        /// The kind.
        kind: u8,
    },
    /// A path that is too long, or empty.
    #[error("path of {len} bytes at offset {offset:#x}")]
    PathLen {
        /// Where the chunk begins.
        offset: u64,
        /// Bytes of the path.
        len: u32,
    },
    /// A path that leads out of the directory, or to no file.
    #[error("invalid filename {name} at offset {offset:#x}")]
    Name {
        /// Where the chunk begins.
        offset: u64,
        /// The path, as it stands there.
        name: String,
    },
    /// The payload does not continue the file.
    #[error(
        "a chunk of {} at offset {offset:#x} belongs at byte {found} of the file, not at {expected}",
        path.display()
    )]
    Order {
        /// Where the chunk begins.
        offset: u64,
        /// The file.
        path: PathBuf,
        /// Its bytes so far.
        expected: u64,
        /// Where the chunk says that it belongs.
        found: u64,
    },
    /// A file that was complete begins once more.
    #[error("{} comes twice, again at offset {offset:#x}", path.display())]
    Twice {
        /// Where the chunk begins.
        offset: u64,
        /// The file.
        path: PathBuf,
    },
    /// A file is renamed or removed before it is complete.
    #[error("{} is renamed or removed at offset {offset:#x}, but has not ended", path.display())]
    Open {
        /// Where the chunk begins.
        offset: u64,
        /// The file.
        path: PathBuf,
    },
}

fn of(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(", in the middle of {}", path.display())).unwrap_or_default()
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", nor have {others} others") }
}
