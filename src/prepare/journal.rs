//! Makes torn writes good: before a page is changed in its file, what will be different is stored
//! here and synced.
//!
//! ```text
//! header  magic, version; first and end LSN of the log
//! frame   magic, length, CRC-32C of the contents; contents: items
//! item    1: path of a file           length u16, bytes; the pages that follow are of it
//!         2: page                     offset u64, count of ranges u32; each range: start u16,
//!                                     length u16, both in units of 8 bytes, and the new bytes
//! ```
//!
//! All integers are big-endian. A write that was cut anywhere leaves a mixture of old and new
//! bytes; bytes that are in no range are equal in both, so writing the ranges again gives exactly
//! the new page. The last frame may be incomplete: then it was not synced, and its pages were not
//! touched. A page that the log builds from nothing is never read, and needs no journal, with one
//! exception: page 0, which tells what a file is.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::Lsn;

use super::storage::Storage;
use crate::durable;

/// Its name in the backup; copy back leaves `.tmp` files out.
pub(super) const NAME: &str = "mariabackup_journal.tmp";

const MAGIC: [u8; 8] = *b"MBJRNL01";
const FRAME_MAGIC: u32 = 0x4d42_4652;
const HEADER_LEN: usize = 24;
const FRAME_HEADER_LEN: usize = 16;
/// Ranges count in words of this many bytes; page sizes are multiples of it.
const WORD: usize = 8;
const ITEM_FILE: u8 = 1;
const ITEM_PAGE: u8 = 2;
/// A frame is at most this long; a longer one in a file is garbage.
const FRAME_LEN_MAX: u64 = 1 << 31;

/// For which log a journal was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId {
    /// First LSN of the log.
    pub first_lsn: Lsn,
    /// End of the log.
    pub end: Lsn,
}

/// Contents of a frame in the making.
#[derive(Debug, Default)]
pub(super) struct Contents {
    bytes: Vec<u8>,
}

impl Contents {
    /// Starts anew.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether there is nothing to be stored.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes so far.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The pages that follow are of the file `path`, relative to the backup.
    pub(super) fn file(&mut self, path: &Path) {
        let path = path.as_os_str().as_bytes();
        self.bytes.push(ITEM_FILE);
        self.bytes.extend(low_u16(path.len()));
        self.bytes.extend(path);
    }

    /// Stores in what `new`, at `offset` of the file, differs from `old`. Where `old` is shorter
    /// or has no counterpart, everything differs.
    pub(super) fn page(&mut self, offset: u64, old: &[u8], new: &[u8]) {
        self.bytes.push(ITEM_PAGE);
        self.bytes.extend(offset.to_be_bytes());
        let count_at = self.bytes.len();
        self.bytes.extend([0; 4]);
        let mut count = 0_u32;
        let (old, _) = old.as_chunks::<WORD>();
        let (new, _) = new.as_chunks::<WORD>();
        let differs = |at: usize| new.get(at).is_some_and(|new| old.get(at) != Some(new));
        let mut at = 0;
        while let Some(start) = next_difference(old, new, at) {
            let mut end = start + 1;
            while differs(end) && end - start < usize::from(u16::MAX) {
                end += 1;
            }
            self.bytes.extend(low_u16(start));
            self.bytes.extend(low_u16(end - start));
            self.bytes.extend(new.get(start..end).unwrap_or_default().as_flattened());
            count += 1;
            at = end;
        }
        if let Some(stored) = self.bytes.get_mut(count_at..count_at + 4) {
            stored.copy_from_slice(&count.to_be_bytes());
        }
    }
}

/// First word from `at` on that is not equal in both.
#[inline]
fn next_difference(old: &[[u8; WORD]], new: &[[u8; WORD]], mut at: usize) -> Option<usize> {
    const BLOCK: usize = 8;
    while let (Some(a), Some(b)) = (old.get(at..at + BLOCK), new.get(at..at + BLOCK)) {
        if a != b {
            break;
        }
        at += BLOCK;
    }
    let rest = new.get(at..)?;
    let differs = |&i: &usize| old.get(at + i) != rest.get(i);
    (0..rest.len()).find(differs).map(|i| at + i)
}

fn low_u16(value: usize) -> [u8; 2] {
    let [.., high, low] = value.to_be_bytes();
    [high, low]
}

/// The journal being written.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Journal {
    /// Begins a journal; there must be none.
    ///
    /// # Errors
    ///
    /// What creating, writing or syncing reports.
    pub(super) fn create(dir: &Path, id: LogId, storage: &dyn Storage) -> anyhow::Result<Self> {
        let path = dir.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(durable::file_mode())
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        let header = [MAGIC, id.first_lsn.0.to_be_bytes(), id.end.0.to_be_bytes()].concat();
        let mut journal = Self { file, path, end: 0 };
        journal.append(&header, storage)?;
        journal.sync(storage)?;
        storage.sync_dir(dir).with_context(|| format!("sync {}", dir.display()))?;
        Ok(journal)
    }

    /// Bytes stored.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Stores contents durably.
    ///
    /// # Errors
    ///
    /// What writing or syncing reports.
    pub(super) fn store<'c>(
        &mut self,
        frames: impl Iterator<Item = &'c Contents>,
        storage: &dyn Storage,
    ) -> anyhow::Result<()> {
        let start = self.end;
        for contents in frames.filter(|contents| !contents.is_empty()) {
            let bytes = contents.as_bytes();
            let mut header = [0; FRAME_HEADER_LEN];
            let (magic, rest) = header.split_at_mut(4);
            magic.copy_from_slice(&FRAME_MAGIC.to_be_bytes());
            let (len, crc) = rest.split_at_mut(8);
            len.copy_from_slice(&(bytes.len() as u64).to_be_bytes());
            crc.copy_from_slice(&crc32c::crc32c(bytes).to_be_bytes());
            self.append(&header, storage)?;
            self.append(bytes, storage)?;
        }
        if self.end > start { self.sync(storage) } else { Ok(()) }
    }

    fn append(&mut self, bytes: &[u8], storage: &dyn Storage) -> anyhow::Result<()> {
        let written = storage.write_at(&self.file, bytes, self.end);
        written.with_context(|| format!("write {}", self.path.display()))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self, storage: &dyn Storage) -> anyhow::Result<()> {
        storage.sync(&self.file).with_context(|| format!("sync {}", self.path.display()))
    }

    /// Forgets everything stored: all pages of it are durable in their files.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn restart(&mut self, storage: &dyn Storage) -> anyhow::Result<()> {
        self.end = HEADER_LEN as u64;
        let cut = storage.set_len(&self.file, self.end);
        cut.with_context(|| format!("cut {}", self.path.display()))?;
        self.sync(storage)
    }
}

/// A journal found in a backup.
pub(super) struct Found {
    file: File,
    path: PathBuf,
    /// For which log; none if not even the header is complete.
    pub id: Option<LogId>,
}

impl Found {
    /// Looks for a journal.
    ///
    /// # Errors
    ///
    /// What reading reports; a file of this name that is none.
    pub(super) fn find(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("open {}", path.display()))?,
        };
        let mut header = Vec::new();
        (&file)
            .take(HEADER_LEN as u64)
            .read_to_end(&mut header)
            .with_context(|| format!("read {}", path.display()))?;
        let id = match header.as_chunks::<8>() {
            // An interrupted creation: no page was changed yet.
            (words, _) if words.len() < 3 || header.iter().all(|&b| b == 0) => None,
            ([magic, first, end, ..], _) if *magic == MAGIC => Some(LogId {
                first_lsn: Lsn(u64::from_be_bytes(*first)),
                end: Lsn(u64::from_be_bytes(*end)),
            }),
            _ => bail!("{} is not a journal of this program", path.display()),
        };
        Ok(Some(Self { file, path, id }))
    }

    /// Writes the pages of all complete frames to their files; the caller syncs. Returns how many.
    ///
    /// # Errors
    ///
    /// A frame whose contents mean nothing although its checksum is right; what the system
    /// reports.
    pub(super) fn replay(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<u64> {
        let len = self.file.metadata().with_context(|| format!("read {}", self.path.display()))?;
        let (len, mut at) = (len.len(), HEADER_LEN as u64);
        let mut files = HashMap::new();
        let mut pages = 0;
        while let Some(contents) = self.frame(at, len)? {
            at += (FRAME_HEADER_LEN + contents.len()) as u64;
            pages += replay_frame(&contents, dir, &mut files, storage)
                .with_context(|| format!("repeat the writes of {}", self.path.display()))?;
        }
        Ok(pages)
    }

    /// The contents of the frame at `at`; `None` if no complete one begins there.
    fn frame(&self, at: u64, len: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let rest = len.saturating_sub(at);
        if rest < FRAME_HEADER_LEN as u64 {
            return Ok(None);
        }
        let context = || format!("read {}", self.path.display());
        let mut header = [0; FRAME_HEADER_LEN];
        self.file.read_exact_at(&mut header, at).with_context(context)?;
        let mut header = Reader { bytes: &header };
        let (Some(magic), Some(frame_len), Some(crc)) = (header.u32(), header.u64(), header.u32())
        else {
            return Ok(None);
        };
        let fits = frame_len <= FRAME_LEN_MAX && frame_len <= rest - FRAME_HEADER_LEN as u64;
        if magic != FRAME_MAGIC || !fits {
            return Ok(None);
        }
        let mut contents = vec![0; usize::try_from(frame_len)?];
        self.file
            .read_exact_at(&mut contents, at + FRAME_HEADER_LEN as u64)
            .with_context(context)?;
        Ok((crc32c::crc32c(&contents) == crc).then_some(contents))
    }
}

fn replay_frame(
    contents: &[u8],
    dir: &Path,
    files: &mut HashMap<PathBuf, File>,
    storage: &dyn Storage,
) -> anyhow::Result<u64> {
    const DAMAGED: &str = "the journal is damaged";
    let mut reader = Reader { bytes: contents };
    let mut file = None::<PathBuf>;
    let mut pages = 0;
    while let Some(item) = reader.u8() {
        if item == ITEM_FILE {
            let len = reader.u16().context(DAMAGED)?;
            let name = reader.take(len.into()).context(DAMAGED)?;
            let name = PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()));
            ensure!(super::markers::is_inside(&name), DAMAGED);
            if !files.contains_key(&name) {
                let path = dir.join(&name);
                let opened = OpenOptions::new().write(true).open(&path);
                // A few at a time: there may be more than the system lets us open.
                files.clear();
                files.insert(
                    name.clone(),
                    opened.with_context(|| format!("open {}", path.display()))?,
                );
            }
            file = Some(name);
            continue;
        }
        ensure!(item == ITEM_PAGE, DAMAGED);
        let name = file.as_ref().context(DAMAGED)?;
        let file = files.get(name).context(DAMAGED)?;
        let offset = reader.u64().context(DAMAGED)?;
        for _ in 0..reader.u32().context(DAMAGED)? {
            let start = u64::from(reader.u16().context(DAMAGED)?) * WORD as u64;
            let len = usize::from(reader.u16().context(DAMAGED)?) * WORD;
            let bytes = reader.take(len).context(DAMAGED)?;
            let at = offset.checked_add(start).context(DAMAGED)?;
            storage
                .write_at(file, bytes, at)
                .with_context(|| format!("write {}", dir.join(name).display()))?;
        }
        pages += 1;
    }
    Ok(pages)
}

/// Takes fields off the start; `None` at the end.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::storage::Disk;
    use std::fs;

    const ID: LogId = LogId { first_lsn: Lsn(50_000), end: Lsn(60_000) };

    fn store(dir: &Path, frames: &[Contents]) {
        Journal::create(dir, ID, &Disk).unwrap().store(frames.iter(), &Disk).unwrap();
    }

    fn replay(dir: &Path) -> anyhow::Result<u64> {
        Found::find(dir).unwrap().unwrap().replay(dir, &Disk)
    }

    #[test]
    fn a_page_is_stored_as_what_differs() {
        let old = [7; 64];
        let mut new = old;
        new[9] = 1;
        new[16] = 2;
        new[63] = 3;
        let mut contents = Contents::default();
        contents.page(4096, &old, &new);
        let mut expected = vec![2, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 2, 0, 1, 0, 2];
        expected.extend(&new[8..24]);
        expected.extend([0, 7, 0, 1]);
        expected.extend(&new[56..]);
        assert_eq!(contents.as_bytes(), expected);
    }

    /// Whatever mixture of old and new bytes a cut write leaves.
    #[test]
    fn replay_makes_the_new_page_of_any_mixture() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let old: Vec<u8> = (0..=255).cycle().take(8192).collect();
        let new: Vec<u8> = old.iter().enumerate().map(|(i, b)| b ^ u8::from(i % 97 < 3)).collect();
        let mut contents = Contents::default();
        contents.file(Path::new("f"));
        contents.page(0, &old[..4096], &new[..4096]);
        contents.page(4096, &[], &new[4096..]);
        store(dir.path(), &[contents]);
        for cut in [0, 1, 100, 4095, 4096, 5000, 8192] {
            let mixture = [&new[..cut.min(4096)], &old[cut.min(4096)..4096], &[9; 4096]].concat();
            fs::write(&file, mixture).unwrap();
            assert_eq!(replay(dir.path()).unwrap(), 2);
            assert_eq!(fs::read(&file).unwrap(), new, "cut at {cut}");
        }
    }

    #[test]
    fn an_incomplete_frame_is_ignored_and_the_ones_before_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), [0; 16]).unwrap();
        let frame = |byte| {
            let mut contents = Contents::default();
            contents.file(Path::new("f"));
            contents.page(0, &[], &[byte; 8]);
            contents
        };
        store(dir.path(), &[frame(1), frame(2)]);
        let path = dir.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        let first_end = HEADER_LEN + FRAME_HEADER_LEN + frame(1).as_bytes().len();
        for len in first_end..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(replay(dir.path()).unwrap(), 1, "{len}");
            assert_eq!(fs::read(dir.path().join("f")).unwrap()[..8], [1; 8]);
        }
        for at in first_end..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            fs::write(&path, damaged).unwrap();
            assert_eq!(replay(dir.path()).unwrap(), 1, "byte {at}");
        }
        for len in 0..HEADER_LEN {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(Found::find(dir.path()).unwrap().unwrap().id, None);
        }
    }

    #[test]
    fn the_journal_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Found::find(dir.path()).unwrap().is_none());
        let mut contents = Contents::default();
        contents.file(Path::new("none"));
        contents.page(0, &[], &[1; 8]);
        let mut journal = Journal::create(dir.path(), ID, &Disk).unwrap();
        journal.store(std::iter::once(&contents), &Disk).unwrap();
        let error = replay(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains("none"), "{error:#}");
        journal.restart(&Disk).unwrap();
        let found = Found::find(dir.path()).unwrap().unwrap();
        assert_eq!((found.id, found.replay(dir.path(), &Disk).unwrap()), (Some(ID), 0));
        fs::write(dir.path().join(NAME), [b'x'; 100]).unwrap();
        assert!(Found::find(dir.path()).is_err());
    }

    #[test]
    fn contents_that_mean_nothing_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), [0; 16]).unwrap();
        let bad: [&[u8]; 6] = [
            &[3],
            &[1, 0, 5, b'f'],
            &[1, 0, 4, b'.', b'.', b'/', b'f'],
            &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 1, b'f', 2, 0],
            &[1, 0, 1, b'f', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
        ];
        for bytes in bad {
            store(dir.path(), &[Contents { bytes: bytes.to_vec() }]);
            let error = format!("{:#}", replay(dir.path()).unwrap_err());
            assert!(error.contains("the journal is damaged"), "{error}");
        }
    }
}
