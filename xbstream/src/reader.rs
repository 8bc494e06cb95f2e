//! Reads a stream, and finds out whether it is whole.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::path::{is_removed, relative};
use crate::{
    END, HEAD_LEN, IGNORABLE, MAGIC, PATH_LEN_MAX, PAYLOAD, REMOVE, RENAME, REWRITE, SEEK,
    StreamError,
};

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The file, relative to the directory of the stream, without `.` and `..`.
    pub path: PathBuf,
    /// What it says of the file.
    pub body: Body,
}

/// What a chunk says of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Bytes of the file, which [`Reader::read_payload`] returns. The file begins with its first
    /// chunk.
    Payload {
        /// Where they belong.
        offset: u64,
        /// Whether the file replaces an earlier one of the stream.
        rewrite: bool,
    },
    /// The file is complete.
    End {
        /// Whether the file, if it is empty, replaces an earlier one of the stream.
        rewrite: bool,
    },
    /// The next payload goes elsewhere; checked against it by the reader.
    Seek {
        /// Whether the file, if it begins here, replaces an earlier one of the stream.
        rewrite: bool,
    },
    /// A complete file gets another path.
    Rename {
        /// The new one, as [`Chunk::path`].
        to: PathBuf,
    },
    /// A complete file is removed, or all whose paths begin so.
    Remove {
        /// Whether `path` is the beginning of paths.
        is_prefix: bool,
    },
}

/// Reads chunks. Whatever a damaged, cut or forged stream holds is an error: a wrong checksum, a
/// gap in a file, a file that comes twice or does not end, a path that leads elsewhere.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes of the stream that were read.
    position: u64,
    /// What is left of the current chunk.
    payload: Option<Payload>,
    /// Files that have begun and not ended, and their bytes so far.
    open: BTreeMap<PathBuf, u64>,
    /// Files that have ended.
    ended: HashSet<PathBuf>,
}

#[derive(Debug)]
struct Payload {
    /// Where the chunk begins.
    start: u64,
    path: PathBuf,
    rest: u64,
    crc: Hasher,
    expected: u32,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which need not be buffered.
    pub fn new(input: R) -> Self {
        let (open, ended) = (BTreeMap::new(), HashSet::new());
        Self { input, position: 0, payload: None, open, ended }
    }

    /// The next chunk, or `None` at the end of a whole stream. Skips what was not read of the
    /// payload before.
    ///
    /// # Errors
    ///
    /// Any [`StreamError`]; nothing can be read any more then.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, StreamError> {
        loop {
            self.skip_payload()?;
            let start = self.position;
            let mut head = [0; HEAD_LEN];
            let read = self.read_up_to(&mut head)?;
            if read == 0 {
                return self.end().map(|()| None);
            }
            let [magic @ .., flags, kind, a, b, c, d] = head;
            if MAGIC.iter().zip(&magic).take(read).any(|(expected, found)| expected != found) {
                return Err(StreamError::Magic { offset: start });
            }
            if read < HEAD_LEN {
                return Err(StreamError::Cut { offset: self.position, path: None });
            }
            let name = self.read_path(start, u32::from_le_bytes([a, b, c, d]), None)?;
            let (name, is_prefix) = match name.split_last() {
                Some((b'*', prefix)) if kind == REMOVE => (prefix, true),
                _ => (name.as_slice(), false),
            };
            let path = checked(start, name)?;
            let rewrite = flags & REWRITE != 0;
            let body = match kind {
                PAYLOAD => self.begin_payload(start, &path, rewrite)?,
                END => {
                    self.begin(start, &path, rewrite)?;
                    self.open.remove(&path);
                    self.ended.insert(path.clone());
                    Body::End { rewrite }
                }
                SEEK => {
                    let offset = u64::from_le_bytes(self.take(Some(&path))?);
                    self.begin(start, &path, rewrite)?;
                    self.open.insert(path.clone(), offset);
                    Body::Seek { rewrite }
                }
                RENAME => {
                    let len = u32::from_le_bytes(self.take(Some(&path))?);
                    let to = checked(start, &self.read_path(start, len, Some(&path))?)?;
                    self.rename(start, &path, &to)?;
                    Body::Rename { to }
                }
                REMOVE => {
                    self.remove(start, &path, is_prefix)?;
                    Body::Remove { is_prefix }
                }
                _ if flags & IGNORABLE != 0 => {
                    let (_, payload) = self.read_payload_head(start, &path)?;
                    self.payload = Some(payload);
                    continue;
                }
                _ => return Err(StreamError::Kind { offset: start, kind }),
            };
            return Ok(Some(Chunk { path, body }));
        }
    }

    /// Reads the next bytes of the payload into `buffer`; 0 once all were read and found right.
    ///
    /// # Errors
    ///
    /// [`StreamError::Cut`], [`StreamError::Checksum`], [`StreamError::Read`]. Bytes that were
    /// returned before [`StreamError::Checksum`] are not to be trusted.
    pub fn read_payload(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        let Some(payload) = &mut self.payload else { return Ok(0) };
        let len = usize::try_from(payload.rest).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = buffer.get_mut(..len).unwrap_or_default();
        let read = read_up_to(&mut self.input, bytes, &mut self.position)?;
        if read < len {
            let path = Some(payload.path.clone());
            return Err(StreamError::Cut { offset: self.position, path });
        }
        payload.crc.update(bytes);
        payload.rest -= len as u64;
        if payload.rest == 0
            && let Some(done) = self.payload.take()
        {
            let expected = done.crc.finalize();
            if expected != done.expected {
                return Err(StreamError::Checksum {
                    offset: done.start,
                    expected,
                    read: done.expected,
                    path: done.path,
                });
            }
        }
        Ok(len)
    }

    /// Bytes of the stream that were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All files that have ended, but for those that were removed, by their last names.
    pub fn ended(&self) -> &HashSet<PathBuf> {
        &self.ended
    }

    fn end(&self) -> Result<(), StreamError> {
        if self.position == 0 {
            return Err(StreamError::Empty);
        }
        let Some(path) = self.open.keys().next() else { return Ok(()) };
        let others = self.open.len() - 1;
        Err(StreamError::Unfinished { offset: self.position, path: path.clone(), others })
    }

    fn begin_payload(
        &mut self,
        start: u64,
        path: &Path,
        rewrite: bool,
    ) -> Result<Body, StreamError> {
        let (offset, payload) = self.read_payload_head(start, path)?;
        let expected = self.begin(start, path, rewrite)?;
        let end = offset.checked_add(payload.rest);
        let Some(end) = end.filter(|_| offset == expected) else {
            let path = path.to_path_buf();
            return Err(StreamError::Order { offset: start, path, expected, found: offset });
        };
        self.open.insert(path.to_path_buf(), end);
        self.payload = Some(payload);
        Ok(Body::Payload { offset, rewrite })
    }

    fn read_payload_head(
        &mut self,
        start: u64,
        path: &Path,
    ) -> Result<(u64, Payload), StreamError> {
        let rest = u64::from_le_bytes(self.take(Some(path))?);
        let offset = u64::from_le_bytes(self.take(Some(path))?);
        let expected = u32::from_le_bytes(self.take(Some(path))?);
        let path = path.to_path_buf();
        Ok((offset, Payload { start, path, rest, crc: Hasher::new(), expected }))
    }

    /// Takes note of a file, unless it has begun already; returns how many bytes it has so far.
    fn begin(&mut self, start: u64, path: &Path, rewrite: bool) -> Result<u64, StreamError> {
        if let Some(&len) = self.open.get(path) {
            return Ok(len);
        }
        if self.ended.remove(path) && !rewrite {
            return Err(StreamError::Twice { offset: start, path: path.to_path_buf() });
        }
        self.open.insert(path.to_path_buf(), 0);
        Ok(0)
    }

    fn rename(&mut self, start: u64, from: &Path, to: &Path) -> Result<(), StreamError> {
        let offset = start;
        for path in [from, to] {
            if self.open.contains_key(path) {
                return Err(StreamError::Open { offset, path: path.to_path_buf() });
            }
        }
        if self.ended.contains(to) {
            return Err(StreamError::Twice { offset, path: to.to_path_buf() });
        }
        // A file that is not there was left out of the backup.
        if self.ended.remove(from) {
            self.ended.insert(to.to_path_buf());
        }
        Ok(())
    }

    fn remove(&mut self, start: u64, path: &Path, is_prefix: bool) -> Result<(), StreamError> {
        let is_meant = |other: &Path| is_removed(other, path, is_prefix);
        if let Some(open) = self.open.keys().find(|open| is_meant(open)) {
            return Err(StreamError::Open { offset: start, path: open.clone() });
        }
        self.ended.retain(|other| !is_meant(other));
        Ok(())
    }

    fn skip_payload(&mut self) -> Result<(), StreamError> {
        let mut buffer = [0; 4096];
        while self.payload.is_some() {
            self.read_payload(&mut buffer)?;
        }
        Ok(())
    }

    fn read_path(
        &mut self,
        start: u64,
        len: u32,
        of: Option<&Path>,
    ) -> Result<Vec<u8>, StreamError> {
        let fits = usize::try_from(len).ok().filter(|len| (1..=PATH_LEN_MAX).contains(len));
        let fits = fits.ok_or(StreamError::PathLen { offset: start, len })?;
        let mut name = vec![0; fits];
        self.fill(&mut name, of)?;
        Ok(name)
    }

    fn take<const N: usize>(&mut self, of: Option<&Path>) -> Result<[u8; N], StreamError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, of)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], of: Option<&Path>) -> Result<(), StreamError> {
        if self.read_up_to(bytes)? == bytes.len() {
            return Ok(());
        }
        Err(StreamError::Cut { offset: self.position, path: of.map(Path::to_path_buf) })
    }

    fn read_up_to(&mut self, bytes: &mut [u8]) -> Result<usize, StreamError> {
        read_up_to(&mut self.input, bytes, &mut self.position)
    }
}

/// Fills `bytes` as far as the input goes.
fn read_up_to(
    input: &mut impl Read,
    bytes: &mut [u8],
    position: &mut u64,
) -> Result<usize, StreamError> {
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => {
                len += read;
                *position += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(StreamError::Read { offset: *position, source }),
        }
    }
    Ok(len)
}

fn checked(start: u64, name: &[u8]) -> Result<PathBuf, StreamError> {
    relative(name).ok_or_else(|| StreamError::Name {
        offset: start,
        name: OsStr::from_bytes(name).to_string_lossy().escape_debug().to_string(),
    })
}

#[cfg(test)]
mod tests;
