//! The stream of `mbstream` and of `mariadb-backup --stream`: chunks, each with the path of its
//! file, so that files can be interleaved.
//!
//! ```text
//! 0            8       9      10            14      14 + n
//! | "XBSTCK01" | flags | kind | path length | path  | by kind
//!              |    1  |   1  |  4, is n    |       |
//!
//! P  payload   length 8, offset in the file 8, CRC-32 of the bytes 4, the bytes
//! E  end       of the file, which has what came before; an empty file is nothing but this
//! S  seek      offset 8: the next payload goes there
//! R  rename    length 4, new path: of a file that has ended
//! D  remove    a file that has ended, a directory, or with `*` at the end all that begin so
//! ```
//!
//! All integers are little-endian. A stream has neither head nor end: it ends between two chunks,
//! when every file has ended. Payloads of one file are in order. 10.5 knows only `P` and `E`.
//!
//! Sources: `xbstream.h`, `xbstream_read.cc`, `xbstream_write.cc`; checked on streams of 10.11.

#![forbid(unsafe_code)]

mod error;
mod path;
mod reader;
mod writer;

pub use error::StreamError;
pub use path::{is_removed, relative};
pub use reader::{Body, Chunk, Reader};
pub use writer::Writer;

/// First bytes of a chunk.
const MAGIC: [u8; 8] = *b"XBSTCK01";
/// Bytes of a chunk before its path.
const HEAD_LEN: usize = 14;
/// Longest path, bytes.
pub const PATH_LEN_MAX: usize = 511;

/// Flag: a chunk of an unknown kind may be skipped; it continues as a payload does.
const IGNORABLE: u8 = 1;
/// Flag of a file's first chunk: the file may be there from earlier in the stream and is replaced.
const REWRITE: u8 = 2;

const PAYLOAD: u8 = b'P';
const END: u8 = b'E';
const SEEK: u8 = b'S';
const RENAME: u8 = b'R';
const REMOVE: u8 = b'D';
