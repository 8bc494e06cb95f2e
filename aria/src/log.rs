//! Log files `aria_log.NNNNNNNN`: pages of 8 KiB, the first of which is a header.
//!
//! ```text
//! header   0  FE FE 0B 01 `MARIALOG`   12  creation time, µs   20  10000
//!         24  server version           28  server id           32  page size - 1
//!         34  file number (3)          37  maximum LSN (7; 0 until the next file is created)
//! page     0  page number (3)           3  file number (3)      6  flags (1 CRC, 2 sectors)
//! ```
//!
//! All integers are little-endian. Source: `ma_loghandler.c`; checked on files of 10.11.
//!
//! A log grows by pages at its end; only its last page is rewritten while it fills. So at the
//! moment that a backup restores, it is enough to note the length of the last file and to read its
//! last page: [`LogWatch::finish`]. The rest does not change any more and can be copied later.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::control::{self, ControlError, ControlFile};

/// Bytes of a log page (`TRANSLOG_PAGE_SIZE`).
pub const PAGE_LEN: usize = 8192;
const PAGE_LEN_U64: u64 = 8192;

const MAGIC: [u8; 12] = *b"\xFE\xFE\x0B\x01MARIALOG";
/// Flags of a page: CRC, protected sectors, and both.
const KNOWN_FLAGS: u8 = 3;
const NAME_PREFIX: &str = "aria_log.";

/// A position in Aria's log: file number and bytes from its start.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Default,
)]
#[repr(C)]
pub struct LogLsn {
    file_no: [u8; 3],
    offset: U32,
}
const _: () = assert!(size_of::<LogLsn>() == 7);

impl LogLsn {
    /// Position `offset` in file number `file_no`, of which 24 bits count.
    pub fn new(file_no: u32, offset: u32) -> Self {
        let [a, b, c, _] = file_no.to_le_bytes();
        Self { file_no: [a, b, c], offset: U32::new(offset) }
    }

    /// The file; 0: none, as in a log without checkpoint.
    pub fn file_no(self) -> u32 {
        u24(self.file_no)
    }

    /// Bytes from the start of the file.
    pub fn offset(self) -> u32 {
        self.offset.get()
    }
}

impl fmt::Display for LogLsn {
    /// As the server writes it: `(1,0x64e6c)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{:#x})", self.file_no(), self.offset())
    }
}

impl fmt::Debug for LogLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_le_bytes([a, b, c, 0])
}

/// Number of a log file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNo(pub u32);

impl FileNo {
    /// Greatest number: 24 bits hold it.
    const MAX: u32 = (1 << 24) - 1;

    /// `aria_log.` and eight digits.
    pub fn file_name(self) -> String {
        format!("{NAME_PREFIX}{:08}", self.0)
    }

    /// The number in the name of a log file; `None`: not the name of one.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(NAME_PREFIX)?;
        if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().filter(|no| (1..=Self::MAX).contains(no)).map(Self)
    }
}

/// Numbers of the log files in folder `dir`, in ascending order. Gaps are possible.
///
/// # Errors
///
/// What listing the folder reports.
pub fn file_numbers(dir: &Path) -> io::Result<Vec<FileNo>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Some(no) = entry?.file_name().to_str().and_then(FileNo::from_file_name) {
            numbers.push(no);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is wrong with a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// No header page: the file was just being created, nothing is in it.
    #[error("it has {len} bytes, less than its header page")]
    Truncated {
        /// Bytes.
        len: usize,
    },
    /// Another file.
    #[error("it does not begin like an Aria log")]
    Magic,
    /// Pages of another size.
    #[error("log pages of {page_len} bytes are not supported")]
    PageLen {
        /// Bytes.
        page_len: u32,
    },
    /// The file has the name of another one.
    #[error("its header has file number {found}, its name {expected}")]
    FileNo {
        /// In the header.
        found: u32,
        /// By its name.
        expected: u32,
    },
}

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 12],
    created: U64,
    version: U32,
    server_version: U32,
    server_id: U32,
    page_len_minus_1: U16,
    file_no: [u8; 3],
    max_lsn: LogLsn,
}
const _: () = assert!(size_of::<RawHeader>() == 44);

#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawPageHeader {
    page_no: [u8; 3],
    file_no: [u8; 3],
    flags: u8,
}
const _: () = assert!(size_of::<RawPageHeader>() == 7);

/// The header of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHeader {
    /// Its number.
    pub file_no: FileNo,
    /// Greatest LSN in the file; `None` until the next file is created.
    pub max_lsn: Option<LogLsn>,
    /// Version of the server that created it, 101119 for 10.11.19.
    pub server_version: u32,
}

impl LogHeader {
    /// Parses the header in `bytes`, the first page of a file named after number `expected`.
    ///
    /// # Errors
    ///
    /// Any [`LogError`].
    pub fn parse(bytes: &[u8], expected: FileNo) -> Result<Self, LogError> {
        let truncated = LogError::Truncated { len: bytes.len() };
        let page = bytes.get(..PAGE_LEN).ok_or(truncated)?;
        let (raw, _) = RawHeader::ref_from_prefix(page).map_err(|_| truncated)?;
        if raw.magic != MAGIC {
            return Err(LogError::Magic);
        }
        if usize::from(raw.page_len_minus_1.get()) != PAGE_LEN - 1 {
            return Err(LogError::PageLen { page_len: u32::from(raw.page_len_minus_1.get()) + 1 });
        }
        let file_no = FileNo(u24(raw.file_no));
        if file_no != expected {
            return Err(LogError::FileNo { found: file_no.0, expected: expected.0 });
        }
        let max_lsn = Some(raw.max_lsn).filter(|lsn| *lsn != LogLsn::default());
        Ok(Self { file_no, max_lsn, server_version: raw.server_version.get() })
    }
}

/// What is wrong with a page of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogPageError {
    /// Less than a page.
    #[error("the page has {len} bytes only")]
    Truncated {
        /// Bytes.
        len: usize,
    },
    /// It is another page, of this file or another one.
    #[error("the page says that it is page {page_no} of file {file_no}")]
    Place {
        /// By the page.
        page_no: u32,
        /// By the page.
        file_no: u32,
    },
    /// Flags that no server sets.
    #[error("the page has the flags {flags:#x}")]
    Flags {
        /// By the page.
        flags: u8,
    },
}

/// Checks that `bytes` is page `page_no`, not the header, of file `file_no`. Servers write no
/// checksums into this log, so that this is all that a page tells.
///
/// # Errors
///
/// Any [`LogPageError`].
pub fn verify_page(bytes: &[u8], file_no: FileNo, page_no: u32) -> Result<(), LogPageError> {
    let truncated = LogPageError::Truncated { len: bytes.len() };
    let page = bytes.get(..PAGE_LEN).ok_or(truncated)?;
    let (header, _) = RawPageHeader::ref_from_prefix(page).map_err(|_| truncated)?;
    let (found_page, found_file) = (u24(header.page_no), u24(header.file_no));
    if found_page != page_no || found_file != file_no.0 {
        return Err(LogPageError::Place { page_no: found_page, file_no: found_file });
    }
    if header.flags & !KNOWN_FLAGS != 0 {
        return Err(LogPageError::Flags { flags: header.flags });
    }
    Ok(())
}

/// Aria's log of a running server, watched from before the first table is copied until the moment
/// that the backup restores.
///
/// A transactional table that is copied while the server writes is made whole by recovery from the
/// checkpoint that was newest **before** its first page was read; a newer one would skip changes
/// that reached the server's file after the copy. So the control file is that of
/// [`LogWatch::start`], and all log from there on must be kept: the server removes log files that
/// it does not need any more, so the watch holds them open.
#[derive(Debug)]
pub struct LogWatch {
    dir: PathBuf,
    control: Option<ControlFile>,
    files: BTreeMap<FileNo, File>,
}

/// How often a file that is just being written is read before that is called an error.
const ATTEMPTS: usize = 100;

impl LogWatch {
    /// Begins to watch the log in folder `dir`. Call it before the first Aria table is read.
    ///
    /// # Errors
    ///
    /// What listing or reading reports; a damaged control file; log files without one.
    pub fn start(dir: &Path) -> Result<Self, WatchError> {
        let mut attempt = 1;
        loop {
            let before = read_control(dir);
            let mut watch = Self { dir: dir.to_owned(), control: None, files: BTreeMap::new() };
            watch.poll()?;
            // Unchanged: no checkpoint came between, after which a file might have been removed.
            match (before, read_control(dir)) {
                (Ok(before), Ok(after)) if before == after => {
                    if before.is_none() && !watch.files.is_empty() {
                        return Err(WatchError::NoControlFile { dir: dir.to_owned() });
                    }
                    watch.control = before;
                    return Ok(watch);
                }
                (_, Err(error)) if attempt == ATTEMPTS => return Err(error),
                _ if attempt == ATTEMPTS => {
                    return Err(WatchError::Unsteady { path: dir.join(control::FILE_NAME) });
                }
                _ => attempt += 1,
            }
        }
    }

    /// Opens files that are new. Call it now and then, at least once for every time that the
    /// server could fill a log file and remove it again after a checkpoint (seconds).
    ///
    /// # Errors
    ///
    /// What listing or opening reports.
    pub fn poll(&mut self) -> Result<(), WatchError> {
        for file_no in file_numbers(&self.dir).map_err(WatchError::io(&self.dir))? {
            if let Entry::Vacant(place) = self.files.entry(file_no) {
                let path = self.dir.join(file_no.file_name());
                match File::open(&path) {
                    Ok(file) => {
                        place.insert(file);
                    }
                    // Removed since it was listed; if it was needed, `finish` sees the gap.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(WatchError::io(&path)(error)),
                }
            }
        }
        Ok(())
    }

    /// Notes where the log ends. Call it when no statement can write to Aria tables (`BACKUP STAGE
    /// BLOCK_COMMIT`): quick, whatever the size of the log. The copying comes later.
    ///
    /// # Errors
    ///
    /// What listing or reading reports; a file that recovery needs came and went between two
    /// calls of [`LogWatch::poll`].
    pub fn finish(mut self) -> Result<LogSnapshot, WatchError> {
        self.poll()?;
        let Some(control) = self.control else {
            // An engine that never ran has neither; one that starts meanwhile has both.
            return match self.files.keys().next() {
                None => Ok(LogSnapshot { control: None, files: Vec::new() }),
                Some(_) => Err(WatchError::NoControlFile { dir: self.dir }),
            };
        };
        let mut files = Vec::new();
        for (file_no, file) in self.files {
            let path = self.dir.join(file_no.file_name());
            files.extend(LogFile::new(file_no, file).map_err(WatchError::io(&path))?);
        }
        let numbers: Vec<FileNo> = files.iter().map(|file| file.file_no).collect();
        let last = control
            .last_of_run(&numbers)
            .map_err(|missing| WatchError::Gap { path: self.dir.join(missing.file_name()) })?;
        // The server's own count tells a gap in this log from leftovers of another one.
        let newest = steady_control(&self.dir)?.map_or(0, |newest| newest.last_log_no());
        if newest > last.0 {
            let missing = FileNo(last.0.saturating_add(1));
            return Err(WatchError::Gap { path: self.dir.join(missing.file_name()) });
        }
        // What is beyond a gap, or before one, is not of this log.
        let first = first_of_run(&numbers, last);
        files.retain(|file| (first..=last).contains(&file.file_no));
        if let Some(file) = files.last_mut() {
            let path = self.dir.join(file.file_no.file_name());
            file.keep_changing_pages().map_err(WatchError::io(&path))?;
        }
        let control = Some(control.with_last_log_no(last.0));
        Ok(LogSnapshot { control, files })
    }
}

/// First number of the consecutive run in `numbers` that ends with `last`.
fn first_of_run(numbers: &[FileNo], last: FileNo) -> FileNo {
    let mut first = last;
    for no in numbers.iter().rev().skip_while(|no| **no >= last) {
        if no.0.checked_add(1) != Some(first.0) {
            break;
        }
        first = *no;
    }
    first
}

fn read_control(dir: &Path) -> Result<Option<ControlFile>, WatchError> {
    let path = dir.join(control::FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) => match ControlFile::parse(&bytes) {
            Ok(control) => Ok(Some(control)),
            Err(source) => Err(WatchError::Control { path, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WatchError::io(&path)(error)),
    }
}

/// Reads the control file until it is not just being rewritten.
fn steady_control(dir: &Path) -> Result<Option<ControlFile>, WatchError> {
    let mut attempt = 1;
    loop {
        match read_control(dir) {
            Err(WatchError::Control { .. }) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

/// Why Aria's log cannot be backed up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// A file or folder cannot be read.
    #[error("read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The control file is damaged.
    #[error("{} is damaged", path.display())]
    Control {
        /// Which.
        path: PathBuf,
        /// How.
        source: ControlError,
    },
    /// The control file changes all the time.
    #[error("{} changes whenever it is read", path.display())]
    Unsteady {
        /// Which.
        path: PathBuf,
    },
    /// Log files without a control file.
    #[error("{} has Aria log files but no {}", dir.display(), control::FILE_NAME)]
    NoControlFile {
        /// The folder.
        dir: PathBuf,
    },
    /// A log file that recovery needs is missing.
    #[error("{} is needed and missing", path.display())]
    Gap {
        /// Which.
        path: PathBuf,
    },
}

impl WatchError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// Aria's log at the end of a [`LogWatch`]: what of it belongs to the backup.
#[derive(Debug)]
pub struct LogSnapshot {
    /// The control file, with the right last log number; `None`: there is no Aria log at all.
    pub control: Option<ControlFile>,
    /// The files, consecutive, in ascending order of their numbers.
    pub files: Vec<LogFile>,
}

/// A log file in a [`LogSnapshot`], cut at the moment of the snapshot.
#[derive(Debug)]
pub struct LogFile {
    file_no: FileNo,
    file: File,
    len: u64,
    /// Offset and bytes of pages that the server changes later.
    kept: Vec<(u64, Vec<u8>)>,
}

impl LogFile {
    /// `None`: the file is just being created, it has not even its header.
    fn new(file_no: FileNo, file: File) -> io::Result<Option<Self>> {
        let len = file.metadata()?.len();
        let len = len - len % PAGE_LEN_U64;
        Ok((len > 0).then_some(Self { file_no, file, len, kept: Vec::new() }))
    }

    /// Its number, which is also its name.
    pub fn file_no(&self) -> FileNo {
        self.file_no
    }

    /// Bytes that belong to the backup, whole pages.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Keeps the two pages of the last file that change later: the header, which gets its maximum
    /// LSN when the next file is created, and the last page, which is filled up in place.
    fn keep_changing_pages(&mut self) -> io::Result<()> {
        for offset in [0, self.len.saturating_sub(PAGE_LEN_U64)] {
            let mut page = vec![0; PAGE_LEN];
            self.file.read_exact_at(&mut page, offset)?;
            // Aria's checkpoints go on under any lock: take no page that is half written.
            let mut again = vec![0; PAGE_LEN];
            for _ in 0..ATTEMPTS {
                self.file.read_exact_at(&mut again, offset)?;
                if page == again {
                    break;
                }
                std::mem::swap(&mut page, &mut again);
            }
            self.kept.push((offset, page));
        }
        Ok(())
    }

    /// Fills `buffer` with the bytes of the snapshot at `offset`, which with the length of
    /// `buffer` must lie within [`LogFile::len`]. Any time later is fine, also if the server has
    /// removed the file since.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] beyond the end, or what reading reports.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, offset)?;
        for (page_at, page) in &self.kept {
            let from = offset.max(*page_at);
            let to = end.min(page_at.saturating_add(PAGE_LEN_U64));
            if let (Some(target), Some(source)) = (
                range(from, to, offset).and_then(|range| buffer.get_mut(range)),
                range(from, to, *page_at).and_then(|range| page.get(range)),
            ) {
                target.copy_from_slice(source);
            }
        }
        Ok(())
    }
}

/// `from..to` as indexes into what begins at `base`; `None` if that is nothing.
fn range(from: u64, to: u64, base: u64) -> Option<Range<usize>> {
    let start = usize::try_from(from.checked_sub(base)?).ok()?;
    let end = usize::try_from(to.checked_sub(base)?).ok()?;
    (start < end).then_some(start..end)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// First 48 bytes of the log of a 10.11 server.
    const REAL: [u8; 48] = [
        0xfe, 0xfe, 0x0b, 0x01, 0x4d, 0x41, 0x52, 0x49, 0x41, 0x4c, 0x4f, 0x47, 0x34, 0x65, 0x7c,
        0x10, 0xc8, 0x60, 0x06, 0x00, 0x10, 0x27, 0x00, 0x00, 0xff, 0x8a, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x00, 0xff, 0x1f, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff,
        0xff, 0xff, 0xff,
    ];

    /// A header page like the real one, for file `no`.
    pub(crate) fn header(no: u32) -> Vec<u8> {
        let mut page = REAL.to_vec();
        page[34..37].copy_from_slice(&no.to_le_bytes()[..3]);
        page.resize(PAGE_LEN, 0xFF);
        page
    }

    #[test]
    fn parses_a_real_header() {
        let parsed = LogHeader::parse(&header(1), FileNo(1)).unwrap();
        let wanted = LogHeader { file_no: FileNo(1), max_lsn: None, server_version: 101_119 };
        assert_eq!(parsed, wanted);
    }

    #[test]
    fn pages_tell_their_place() {
        // Of a 10.11 server.
        let mut page = vec![0x02, 0, 0, 0x01, 0, 0, 0, 0xc0, 0x95, 0x03, 0x87, 0x01, 0x07, 0, 3, 0];
        let truncated = LogPageError::Truncated { len: 16 };
        assert_eq!(verify_page(&page, FileNo(1), 2), Err(truncated));
        page.resize(PAGE_LEN, 0);
        assert_eq!(verify_page(&page, FileNo(1), 2), Ok(()));
        for (file_no, page_no) in [(1, 3), (2, 2)] {
            let error = verify_page(&page, FileNo(file_no), page_no);
            assert_eq!(error, Err(LogPageError::Place { page_no: 2, file_no: 1 }));
        }
        page[6] = 4;
        assert_eq!(verify_page(&page, FileNo(1), 2), Err(LogPageError::Flags { flags: 4 }));
    }

    #[test]
    fn a_finished_file_has_its_maximum_lsn() {
        let mut page = header(2);
        page[37..44].copy_from_slice(&[2, 0, 0, 0x12, 0xe0, 0x7f, 0]);
        let parsed = LogHeader::parse(&page, FileNo(2)).unwrap();
        assert_eq!(parsed.max_lsn, Some(LogLsn::new(2, 0x7f_e012)));
        assert_eq!(LogLsn::new(2, 0x7f_e012).to_string(), "(2,0x7fe012)");
    }

    #[test]
    fn other_files_are_refused() {
        let parse = |page: &[u8]| LogHeader::parse(page, FileNo(1)).unwrap_err();
        assert_eq!(parse(&[]), LogError::Truncated { len: 0 });
        assert_eq!(parse(&header(1)[..8191]), LogError::Truncated { len: 8191 });
        assert_eq!(parse(&[0; PAGE_LEN]), LogError::Magic);
        assert_eq!(parse(&header(2)), LogError::FileNo { found: 2, expected: 1 });
        let mut page = header(1);
        page[33] = 0x0f;
        assert_eq!(parse(&page), LogError::PageLen { page_len: 4096 });
    }

    #[test]
    fn file_names() {
        assert_eq!(FileNo(7).file_name(), "aria_log.00000007");
        assert_eq!(FileNo::from_file_name("aria_log.00000012"), Some(FileNo(12)));
        for name in [
            "aria_log.00000000",
            "aria_log.1",
            "aria_log.0000000x",
            "aria_log.+0000001",
            "aria_log.000000001",
            "aria_log.99999999",
            "aria_log_control",
            "aria_log.",
            "",
        ] {
            assert_eq!(FileNo::from_file_name(name), None, "{name}");
        }
    }

    fn write(dir: &Path, no: u32, bytes: &[u8]) {
        fs::write(dir.join(FileNo(no).file_name()), bytes).unwrap();
    }

    /// A folder with log files of one page, numbers `files`, and a control file.
    fn log_dir(files: &[u32], checkpoint: u32, last: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for &no in files {
            write(dir.path(), no, &header(no));
        }
        let control = control::tests::control_file(checkpoint, last);
        fs::write(dir.path().join("aria_log_control"), control.as_bytes()).unwrap();
        dir
    }

    fn contents(file: &LogFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn a_snapshot_is_not_moved_by_later_writes() {
        let dir = log_dir(&[1], 1, 1);
        let dir = dir.path();
        let watch = LogWatch::start(dir).unwrap();
        // The server goes on: another file, a newer checkpoint.
        let first = [header(1), vec![1; 3 * PAGE_LEN]].concat();
        write(dir, 1, &first);
        let second = [header(2), vec![2; 2 * PAGE_LEN]].concat();
        write(dir, 2, &[&second[..], &[9; 100]].concat()); // a page that is just being appended
        write(dir, 3, &[]); // and a file
        let newer = control::tests::control_file(2, 2);
        fs::write(dir.join("aria_log_control"), newer.as_bytes()).unwrap();

        let snapshot = watch.finish().unwrap();
        let mut changed = second.clone();
        changed[37] = 2;
        changed[2 * PAGE_LEN + 50..].fill(7);
        changed.extend([8; PAGE_LEN]);
        write(dir, 2, &changed);
        fs::remove_file(dir.join("aria_log.00000001")).unwrap();

        let control = snapshot.control.unwrap();
        assert_eq!((control.checkpoint().file_no(), control.last_log_no()), (1, 2));
        let [one, two] = &snapshot.files[..] else { panic!("{:?}", snapshot.files) };
        assert_eq!((one.file_no(), two.file_no()), (FileNo(1), FileNo(2)));
        assert_eq!(contents(one), first);
        assert_eq!(contents(two), second);
    }

    #[test]
    fn a_part_of_a_file_reads_as_the_whole() {
        let dir = log_dir(&[], 1, 1);
        let all = [header(1), [3, 1, 4, 1, 5, 9].repeat(PAGE_LEN / 2)].concat();
        write(dir.path(), 1, &all);
        let snapshot = LogWatch::start(dir.path()).unwrap().finish().unwrap();
        write(dir.path(), 1, &vec![0; 4 * PAGE_LEN]);
        let kept = |at: usize| !(PAGE_LEN..3 * PAGE_LEN).contains(&at);
        for (offset, len) in
            [(0, 10), (8190, 4), (8192, 8), (24_570, 20), (32_760, 8), (100, 32_000)]
        {
            let mut part = vec![1; len];
            snapshot.files[0].read_exact_at(&mut part, offset as u64).unwrap();
            for (at, byte) in (offset..).zip(part) {
                assert_eq!(byte, if kept(at) { all[at] } else { 0 }, "{offset} {at}");
            }
        }
        let error = snapshot.files[0].read_exact_at(&mut [0; 9], 32_760).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_that_came_and_went_unseen_is_an_error() {
        let dir = log_dir(&[1], 1, 1);
        for during_watch in [true, false] {
            let mut watch = LogWatch::start(dir.path()).unwrap();
            if during_watch {
                write(dir.path(), 3, &header(3));
                let control = control::tests::control_file(3, 3);
                fs::write(dir.path().join("aria_log_control"), control.as_bytes()).unwrap();
            } else {
                watch.control = Some(control::tests::control_file(1, 3));
            }
            let error = watch.finish().unwrap_err().to_string();
            assert!(error.contains("aria_log.00000002 is needed"), "{error}");
        }
    }

    #[test]
    fn an_older_file_of_the_run_belongs_to_the_backup() {
        let dir = log_dir(&[2, 4, 5, 6, 8], 5, 5);
        let snapshot = LogWatch::start(dir.path()).unwrap().finish().unwrap();
        let numbers: Vec<u32> = snapshot.files.iter().map(|file| file.file_no().0).collect();
        assert_eq!(numbers, [4, 5, 6]);
        assert_eq!(snapshot.control.unwrap().last_log_no(), 6);
    }

    #[test]
    fn without_log_nothing_is_to_be_copied_and_without_control_file_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = LogWatch::start(dir.path()).unwrap().finish().unwrap();
        assert!(snapshot.control.is_none() && snapshot.files.is_empty());
        write(dir.path(), 1, &header(1));
        let error = LogWatch::start(dir.path()).unwrap_err();
        assert!(matches!(error, WatchError::NoControlFile { .. }), "{error}");
        fs::write(dir.path().join("aria_log_control"), "rubbish").unwrap();
        let error = LogWatch::start(dir.path()).unwrap_err();
        assert!(matches!(error, WatchError::Control { .. }), "{error}");
    }
}
