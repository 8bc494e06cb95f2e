//! Reads an archive from start to end.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{BLOCK, KIND_AT, LONG_NAME, is_header, padding, parse_number};

/// Longest name.
const NAME_LEN_MAX: u64 = 4096;
/// Most pieces of a sparse file.
const PIECES_MAX: usize = 1 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// It ends within something.
    #[error("the archive is cut at offset {0:#x}")]
    Cut(u64),
    /// What stands where a header should is none.
    #[error("no valid header at offset {0:#x}")]
    Header(u64),
    /// Something other than zeros follows the end.
    #[error("something follows the end of the archive at offset {0:#x}")]
    Trailing(u64),
    /// A path that leads elsewhere.
    #[error("invalid filename {name} at offset {offset:#x}")]
    Name {
        /// Where the header is.
        offset: u64,
        /// The path.
        name: String,
    },
    /// A link, a device, or whatever no backup has.
    #[error(
        "{name} at offset {offset:#x} is neither a file nor a folder, but of the kind {kind:?}"
    )]
    Kind {
        /// Where the header is.
        offset: u64,
        /// The path.
        name: String,
        /// The kind.
        kind: char,
    },
    /// What reading reports.
    #[error("read the archive")]
    Read(#[source] io::Error),
}

/// A file or folder of the archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it belongs; a `/` at the start of the name is left out, as `tar` does it.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file of so many bytes.
    File(u64),
}

/// Reads an archive, or several behind each other.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes that were read.
    position: u64,
    /// Pieces of the current file that are still to come: where they belong, and their lengths.
    pieces: VecDeque<(u64, u64)>,
    /// Zeros behind them.
    padding: usize,
    has_end: bool,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, position: 0, pieces: VecDeque::new(), padding: 0, has_end: false }
    }

    /// Whether the zeros that end an archive were there.
    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// The next entry, or `None` at the end. Skips what was not read of the one before.
    ///
    /// # Errors
    ///
    /// Any [`TarError`]
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        while self.read_piece(&mut [0; BLOCK])?.is_some() {}
        let mut long_name = None;
        loop {
            let offset = self.position;
            let mut block = [0; BLOCK];
            match self.read_up_to(&mut block)? {
                0 if long_name.is_none() => return Ok(None),
                BLOCK => {}
                _ => return Err(TarError::Cut(self.position)),
            }
            if block == [0; BLOCK] && long_name.is_none() {
                // Another archive may follow.
                self.has_end = true;
                continue;
            }
            if !is_header(&block) {
                let end = self.has_end;
                return Err(if end {
                    TarError::Trailing(offset)
                } else {
                    TarError::Header(offset)
                });
            }
            let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
            let len = parse_number(field(124, 136)).ok_or(TarError::Header(offset))?;
            let kind = block.get(KIND_AT).copied().unwrap_or_default();
            if kind == LONG_NAME {
                long_name = Some(self.read_name(offset, len)?);
                continue;
            }
            self.has_end = false;
            let is_posix = field(257, 263) == b"ustar\0";
            let name = match long_name.take() {
                Some(name) => name,
                None if is_posix && field(345, 346) != [0] => {
                    [text(field(345, 500)), b"/", text(field(0, 100))].concat()
                }
                None => text(field(0, 100)).to_vec(),
            };
            let is_folder = kind == b'5' || (matches!(kind, b'0' | 0) && name.ends_with(b"/"));
            let path = Self::path(offset, &name)?;
            self.padding = padding(len);
            let total = match kind {
                b'0' | b'7' | 0 | b'5' => {
                    self.pieces = VecDeque::from([(0, len)]);
                    len
                }
                b'S' => self.sparse(offset, &block, len)?,
                _ => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return Err(TarError::Kind { offset, name, kind: char::from(kind) });
                }
            };
            // The folder of the archive itself.
            let Some(path) = path else { continue };
            let kind = if is_folder { Kind::Folder } else { Kind::File(total) };
            return Ok(Some(Entry { path, kind }));
        }
    }

    /// The next bytes of the current file: where they belong, and how many of `buffer` they fill.
    ///
    /// # Errors
    ///
    /// [`TarError::Cut`], [`TarError::Read`]
    pub fn read_piece(&mut self, buffer: &mut [u8]) -> Result<Option<(u64, usize)>, TarError> {
        while let Some((at, len)) = self.pieces.front_mut() {
            if *len == 0 {
                self.pieces.pop_front();
                continue;
            }
            let wanted = usize::try_from(*len).unwrap_or(usize::MAX).min(buffer.len());
            let place = *at;
            (*at, *len) = (*at + wanted as u64, *len - wanted as u64);
            self.read_exact(buffer.get_mut(..wanted).unwrap_or_default())?;
            return Ok(Some((place, wanted)));
        }
        let padding = std::mem::take(&mut self.padding);
        self.read_exact([0; BLOCK].get_mut(..padding).unwrap_or_default())?;
        Ok(None)
    }

    /// The pieces of a sparse file whose header is `block`; returns its length.
    fn sparse(&mut self, offset: u64, block: &[u8; BLOCK], stored: u64) -> Result<u64, TarError> {
        let invalid = || TarError::Header(offset);
        let mut pieces = VecDeque::new();
        let mut add = |bytes: &[u8]| -> Result<(), TarError> {
            for piece in bytes.chunks_exact(24) {
                let (at, len) = piece.split_at(12);
                if text(at).is_empty() && text(len).is_empty() {
                    break;
                }
                let at = parse_number(at).ok_or_else(invalid)?;
                let len = parse_number(len).ok_or_else(invalid)?;
                pieces.push_back((at, len));
            }
            if pieces.len() > PIECES_MAX { Err(invalid()) } else { Ok(()) }
        };
        add(block.get(386..482).unwrap_or_default())?;
        let mut more = block.get(482).is_some_and(|flag| *flag != 0);
        let total = block.get(483..495).and_then(parse_number).ok_or_else(invalid)?;
        while more {
            let mut block = [0; BLOCK];
            self.read_exact(&mut block)?;
            add(block.get(..504).unwrap_or_default())?;
            more = block.get(504).is_some_and(|flag| *flag != 0);
        }
        // In order, within the file, and as many bytes as there are.
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (at, len) in &pieces {
            let next = at.checked_add(*len).filter(|next| *at >= end && *next <= total);
            end = next.ok_or_else(invalid)?;
            sum += len;
        }
        if sum != stored {
            return Err(invalid());
        }
        self.pieces = pieces;
        Ok(total)
    }

    fn read_name(&mut self, offset: u64, len: u64) -> Result<Vec<u8>, TarError> {
        let len = usize::try_from(len.min(NAME_LEN_MAX + 1)).unwrap_or_default();
        if len as u64 > NAME_LEN_MAX {
            return Err(TarError::Header(offset));
        }
        let mut name = vec![0; len.next_multiple_of(BLOCK)];
        self.read_exact(&mut name)?;
        name.truncate(len);
        Ok(text(&name).to_vec())
    }

    /// The path meant by `name`; `None` for the folder of the archive.
    fn path(offset: u64, name: &[u8]) -> Result<Option<PathBuf>, TarError> {
        let start = name.iter().take_while(|byte| **byte == b'/').count();
        let inner = name.get(start..).unwrap_or_default();
        let inner = inner.strip_suffix(b"/").unwrap_or(inner);
        if Path::new(OsStr::from_bytes(inner)).components().all(|c| c.as_os_str() == ".")
            && !inner.is_empty()
        {
            return Ok(None);
        }
        xbstream::relative(inner).map(Some).ok_or_else(|| TarError::Name {
            offset,
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let read = self.read_up_to(buffer)?;
        if read == buffer.len() { Ok(()) } else { Err(TarError::Cut(self.position)) }
    }

    fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut len = 0;
        while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        self.position += len as u64;
        Ok(len)
    }
}

/// What comes before the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{END, head, seal};

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            bytes.extend(head(Path::new(name), content.len() as u64, 0).unwrap());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes
    }

    /// Sets bytes of the header at `at`, and its checksum.
    fn patch(archive: &mut [u8], at: usize, offset: usize, bytes: &[u8]) {
        let header = &mut archive[at..at + BLOCK];
        header[offset..offset + bytes.len()].copy_from_slice(bytes);
        seal(header.try_into().unwrap());
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, TarError> {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let Kind::File(len) = entry.kind else { continue };
            let mut content = vec![0; usize::try_from(len).unwrap()];
            let mut buffer = [0; 700];
            while let Some((at, read)) = reader.read_piece(&mut buffer)? {
                let at = usize::try_from(at).unwrap();
                content[at..at + read].copy_from_slice(&buffer[..read]);
            }
            found.push((entry.path.to_str().unwrap().to_owned(), content));
        }
        Ok(found)
    }

    #[test]
    fn files_with_and_without_an_end() {
        let long = format!("d/{}", "n".repeat(300));
        let files: [(&str, &[u8]); 3] = [("a", b"x"), (&long, &[7; 1500]), ("d/empty", b"")];
        let bytes = archive(&files);
        let expected: Vec<_> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        assert_eq!(read(&bytes).unwrap(), expected);
        let ended = [&bytes[..], &END].concat();
        assert_eq!(read(&ended).unwrap(), expected);
        // What the script around BACKUP SERVER appends, and what tar fills up its last record with.
        let more =
            [&bytes[..], &archive(&[("backup-prepare.cnf", b"[mariadbd]\n")]), &END, &[0; 9216]];
        assert_eq!(read(&more.concat()).unwrap().len(), 4);
        let mut reader = Reader::new(&ended[..]);
        while reader.next_entry().unwrap().is_some() {}
        assert!(reader.has_end());
    }

    #[test]
    fn cuts_and_rubbish_are_errors() {
        let bytes = archive(&[("a", &[1; 600]), ("b", b"2")]);
        for len in (1..bytes.len()).filter(|len| *len != 3 * BLOCK) {
            assert!(read(&bytes[..len]).is_err(), "{len}");
        }
        let more = [&bytes[..], &END, &[1; BLOCK]].concat();
        assert!(matches!(read(&more), Err(TarError::Trailing(_))));
        assert!(matches!(read(&[1; BLOCK]), Err(TarError::Header(0))));
        let mut damaged = bytes.clone();
        damaged[5] ^= 1;
        assert!(matches!(read(&damaged), Err(TarError::Header(0))));
    }

    #[test]
    fn sparse_files_have_holes() {
        let mut bytes = archive(&[("s.ibd", &[9; 1000])]);
        patch(&mut bytes, 0, KIND_AT, b"S");
        let field = |value: u64| format!("{value:011o} ").into_bytes();
        let map = [field(100), field(600), field(5000), field(400), field(9000), field(0)].concat();
        patch(&mut bytes, 0, 386, &map);
        patch(&mut bytes, 0, 483, &field(9000));
        let mut expected = vec![0; 9000];
        expected[100..700].fill(9);
        expected[5000..5400].fill(9);
        assert_eq!(read(&bytes).unwrap(), [("s.ibd".to_owned(), expected)]);
        for (offset, value) in [(483, 100), (386, 5001), (398, 601), (386 + 24, 500)] {
            let mut damaged = bytes.clone();
            patch(&mut damaged, 0, offset, &field(value));
            assert!(matches!(read(&damaged), Err(TarError::Header(0))), "{offset}");
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut bytes = archive(&[("f", b"x")]);
        patch(&mut bytes, 0, 124, &crate::tar::number(u64::MAX));
        let mut reader = Reader::new(&bytes[..]);
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!(entry.kind, Kind::File(u64::MAX));
        assert!(matches!(reader.next_entry(), Err(TarError::Cut(_))));
    }

    #[test]
    fn links_devices_and_escapes_are_refused() {
        for kind in *b"123456xgMK" {
            if kind == b'5' {
                continue;
            }
            let mut bytes = archive(&[("f", b"")]);
            patch(&mut bytes, 0, KIND_AT, &[kind]);
            assert!(matches!(read(&bytes), Err(TarError::Kind { .. })), "{}", char::from(kind));
        }
        for name in ["../f", "d/../../f", "/../f", ".."] {
            assert!(matches!(read(&archive(&[(name, b"")])), Err(TarError::Name { .. })), "{name}");
        }
        let inside = read(&archive(&[("/var/t.ibd", b"1"), ("./f", b"2"), ("d/", b"")])).unwrap();
        let names: Vec<_> = inside.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["var/t.ibd", "f"]);
    }
}
