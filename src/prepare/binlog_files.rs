//! The binary log that InnoDB keeps (12.3 and later): files `binlog-N.ibb`, brought up to date by
//! the redo log like data files.
//!
//! ```text
//! page 0  u32 magic, u32 page size (its power of two), u32 major, u32 minor version,
//!         u64 number of the file, u64 pages, u64 start LSN, ...; CRC-32C of 0..508 at 508
//! page    ...; CRC-32C of all before in the last 4 bytes
//! ```
//!
//! Little-endian. A record names the lowest bit of the file's number, and its page: the file is the
//! last one with that bit that had begun by then. Bytes are only ever added, so that writing them
//! again changes nothing. The first record of a file covers the used part of page 0, and makes the
//! file. Source: `fsp_binlog.cc`, `innodb_binlog.cc` of 12.3; checked on files made for tests.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use innodb::Lsn;
use innodb::datadir::{binlog_file_name, binlog_file_number};
use redo::record::Record;

use super::index::Entry;
use super::markers::remove_if_there;
use super::page::Log;
use super::spaces::open;
use super::storage::Storage;
use crate::report::Report;

const MAGIC: u32 = 0x010D_FEFE;
/// The part of page 0 that has a checksum of its own.
const HEADER_LEN: usize = 512;
const CRC_LEN: usize = 4;
/// Of the only page size that there is.
const PAGE_LEN: usize = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 14;
/// More pages than this no file has: `max_binlog_size` is at most 1 GiB.
const PAGES_MAX: u64 = 1 << 17;

/// The files in backup `dir`, by number.
fn list(dir: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let read = || -> io::Result<_> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(binlog_file_number) {
                files.push((number, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    };
    read().with_context(|| format!("list {}", dir.display()))
}

/// What page 0 tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    number: u64,
    pages: u64,
    start: Lsn,
}

impl Header {
    /// Reads the used part of page 0; its checksum is not in the log.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b));
        let u64_at = |at: usize| bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b));
        if u32_at(0)? != MAGIC || u32_at(4)? != PAGE_SHIFT || u32_at(8)? > 1 {
            return None;
        }
        let header = Self { number: u64_at(16)?, pages: u64_at(24)?, start: Lsn(u64_at(32)?) };
        (header.pages <= PAGES_MAX).then_some(header)
    }

    /// That of a file, if it has one.
    fn of_file(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(is_sealed(&bytes).then(|| Self::parse(&bytes)).flatten())
    }
}

/// Whether the last bytes are the checksum of the others.
fn is_sealed(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<CRC_LEN>()
        .is_some_and(|(covered, crc)| crc32c::crc32c(covered).to_le_bytes() == *crc)
}

fn seal(bytes: &mut [u8]) {
    if let Some((covered, crc)) = bytes.split_last_chunk_mut::<CRC_LEN>() {
        *crc = crc32c::crc32c(covered).to_le_bytes();
    }
}

/// A file with its page that is being changed.
struct Open {
    header: Header,
    path: PathBuf,
    file: File,
    page: Option<(u64, Vec<u8>)>,
}

impl Open {
    /// The page `page_no`; what was changed before is written.
    fn page(&mut self, page_no: u64, storage: &dyn Storage) -> anyhow::Result<&mut [u8]> {
        if self.page.as_ref().is_none_or(|(number, _)| *number != page_no) {
            self.write_out(storage)?;
            let mut page = vec![0; PAGE_LEN];
            let read = self.file.read_exact_at(&mut page, page_no * PAGE_LEN as u64);
            read.with_context(|| format!("read page {page_no} of {}", self.path.display()))?;
            self.page = Some((page_no, page));
        }
        Ok(self.page.as_mut().map(|(_, page)| page.as_mut_slice()).unwrap_or_default())
    }

    fn write_out(&mut self, storage: &dyn Storage) -> anyhow::Result<()> {
        if let Some((page_no, mut page)) = self.page.take() {
            if page_no == 0
                && let Some(header) = page.get_mut(..HEADER_LEN)
            {
                seal(header);
            }
            seal(&mut page);
            let written = storage.write_at(&self.file, &page, page_no * PAGE_LEN as u64);
            written.with_context(|| format!("write page {page_no} of {}", self.path.display()))?;
        }
        Ok(())
    }
}

/// Removes the files from backup `dir`.
///
/// # Errors
///
/// What listing and removing report.
pub(super) fn remove(dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
    list(dir)?.iter().try_for_each(|(_, path)| remove_if_there(storage, path))
}

/// Applies `entries`, in the order of the log, to the files in `dir`. Without such files, the backup
/// has no binary log, and nothing is done.
///
/// # Errors
///
/// Records that fit no file; what reading and writing report.
pub(super) fn recover(
    dir: &Path,
    entries: &[Entry],
    log: Log<'_>,
    storage: &dyn Storage,
    report: &Report,
) -> anyhow::Result<()> {
    let files = list(dir)?;
    if files.is_empty() {
        return Ok(());
    }
    let mut files = Files { dir, storage, open: Vec::new(), empty: Vec::new() };
    files.find()?;
    let mut runs = log.runs()?;
    for entry in entries {
        for record in runs.records(entry)? {
            let Record::Write { page, offset, data } = record? else { continue };
            let lsn = entry.mtr_start();
            let offset = usize::try_from(offset)?;
            let place = || format!("apply the binary log record at LSN {lsn}");
            files
                .apply(lsn, page.space.0 & 1, u64::from(page.page_no.0), offset, data)
                .with_context(place)?;
        }
    }
    files.finish()?;
    report.detail(format_args!("{} records were applied to the binary log", entries.len()));
    Ok(())
}

struct Files<'a> {
    dir: &'a Path,
    storage: &'a dyn Storage,
    open: Vec<Open>,
    /// Made ahead, with nothing in them.
    empty: Vec<(u64, PathBuf)>,
}

impl Files<'_> {
    fn find(&mut self) -> anyhow::Result<()> {
        for (number, path) in list(self.dir)? {
            let file = open(&path)?;
            let header = Header::of_file(&file);
            match header.with_context(|| format!("read {}", path.display()))? {
                Some(header) => {
                    ensure!(
                        header.number == number,
                        "{} says that it is file {} of the binary log",
                        path.display(),
                        header.number
                    );
                    self.open.push(Open { header, path, file, page: None });
                }
                None => self.empty.push((number, path)),
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        lsn: Lsn,
        bit: u32,
        page_no: u64,
        offset: usize,
        data: &[u8],
    ) -> anyhow::Result<()> {
        if page_no == 0 && offset == 0 {
            return self.begin(bit, data);
        }
        let storage = self.storage;
        let candidates = self
            .open
            .iter_mut()
            .filter(|file| file.header.number & 1 == u64::from(bit) && file.header.start <= lsn);
        // None: of a file that was purged, or was durable before the log began.
        let Some(file) = candidates.max_by_key(|file| file.header.start) else { return Ok(()) };
        let path = file.path.clone();
        let outside = || format!("page {page_no} at {offset} is outside of {}", path.display());
        ensure!(page_no < file.header.pages && page_no > 0, outside());
        let page = file.page(page_no, storage)?;
        let end = offset.checked_add(data.len()).filter(|&end| end <= PAGE_LEN - CRC_LEN);
        let place = end.and_then(|end| page.get_mut(offset..end)).with_context(outside)?;
        place.copy_from_slice(data);
        Ok(())
    }

    /// The record that begins a file.
    fn begin(&mut self, bit: u32, data: &[u8]) -> anyhow::Result<()> {
        let header = Header::parse(data).filter(|header| header.number & 1 == u64::from(bit));
        let header = header.context("it begins a file, but is no header of one")?;
        ensure!(data.len() <= HEADER_LEN - CRC_LEN, "its header has {} bytes", data.len());
        let known = self.open.iter().position(|file| file.header.number == header.number);
        if known.is_none_or(|at| self.open.get(at).is_some_and(|file| file.header != header)) {
            // A new one, also where the server began anew with old numbers.
            if let Some(at) = known {
                self.open.remove(at);
            }
            self.make(header)?;
        }
        let storage = self.storage;
        let file = self.open.iter_mut().find(|file| file.header == header);
        let page = file.context("the file is there")?.page(0, storage)?;
        page.fill(0);
        if let Some(place) = page.get_mut(..data.len()) {
            place.copy_from_slice(data);
        }
        Ok(())
    }

    fn make(&mut self, header: Header) -> anyhow::Result<()> {
        let path = self.dir.join(binlog_file_name(header.number));
        self.empty.retain(|(number, _)| *number != header.number);
        if !path.exists() {
            self.storage.create(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let file = open(&path)?;
        let len = header.pages * PAGE_LEN as u64;
        for len in [0, len] {
            let sized = self.storage.set_len(&file, len);
            sized.with_context(|| format!("set the size of {} to {len}", path.display()))?;
        }
        self.open.push(Open { header, path, file, page: None });
        Ok(())
    }

    /// Writes and syncs everything; files that hold nothing go.
    fn finish(&mut self) -> anyhow::Result<()> {
        for file in &mut self.open {
            file.write_out(self.storage)?;
            let synced = self.storage.sync(&file.file);
            synced.with_context(|| format!("sync {}", file.path.display()))?;
        }
        for (_, path) in &self.empty {
            remove_if_there(self.storage, path)?;
        }
        Ok(())
    }
}
