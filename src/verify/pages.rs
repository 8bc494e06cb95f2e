//! Every page of the data files, by all threads: a range of a file at a time.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use innodb::dictionary::{self, Table};
use innodb::encrypted::KeySource;
use innodb::page::{CodecError, Decoded, Page, PageCodec};
use innodb::{Lsn, SpaceId};

use super::findings::{BadPage, Findings};
use super::tablespaces::DataFile;
use crate::backup::copy::page_check::PageCheck;
use crate::durable;
use crate::report::Report;

/// Bytes read at a time, and bytes of a file that are one piece of work; multiples of every page
/// size.
const READ: usize = 1 << 20;
const RANGE: u64 = 16 << 20;

/// What is needed to check pages.
pub(super) struct PageChecker<'a> {
    /// The files.
    pub files: &'a [DataFile],
    /// Keys of encrypted pages.
    pub keys: Option<&'a dyn KeySource>,
    /// No page may be newer.
    pub end: Option<Lsn>,
    /// Whether a file may end within a page.
    pub may_end_anywhere: bool,
    /// Tables whose places are asked of the dictionary, by name.
    pub asked: &'a HashSet<Vec<u8>>,
    /// Where findings go.
    pub findings: &'a Findings,
    /// For progress.
    pub report: &'a Report,
}

/// What checking came to.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Pages, those in holes included.
    pub pages: u64,
    /// Of the tables asked for: where they are, by the newest page that tells.
    pub tables: HashMap<Vec<u8>, Table>,
}

/// The work that is left.
struct Queue<'a> {
    files: std::slice::Iter<'a, DataFile>,
    current: Option<(&'a DataFile, Arc<File>, u64)>,
}

/// A part of a file.
struct Range<'a> {
    file: &'a DataFile,
    open: Arc<File>,
    start: u64,
    end: u64,
}

/// Of the tables asked for, the newest page that tells, and what.
type Places = HashMap<Vec<u8>, (Lsn, Table)>;

impl<'a> PageChecker<'a> {
    /// Checks all pages in `threads` threads.
    pub(super) fn run(&self, threads: usize) -> Checked {
        let total = self.files.iter().map(|file| file.len).sum();
        self.report.phase("Checking pages", total);
        let queue = Mutex::new(Queue { files: self.files.iter(), current: None });
        let pages = AtomicU64::new(0);
        let tables = Mutex::new(Places::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut buffer = vec![0; READ];
                    while let Some(range) = self.next(&queue) {
                        let checked = self.check(&range, &mut buffer, &tables);
                        pages.fetch_add(checked, Ordering::Relaxed);
                    }
                });
            }
        });
        self.report.phase_done();
        let tables = tables.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tables = tables.into_iter().map(|(name, (_, table))| (name, table)).collect();
        Checked { pages: pages.into_inner(), tables }
    }

    fn next(&self, queue: &Mutex<Queue<'a>>) -> Option<Range<'a>> {
        let mut queue = lock(queue);
        loop {
            if let Some((file, open, start)) = queue.current.take() {
                let end = file.len.min(start + RANGE);
                if end < file.len {
                    queue.current = Some((file, Arc::clone(&open), end));
                }
                return Some(Range { file, open, start, end });
            }
            let file = queue.files.next()?;
            match File::open(&file.path) {
                Ok(open) if file.len > 0 => queue.current = Some((file, Arc::new(open), 0)),
                Ok(_) => {}
                Err(error) => {
                    self.findings.add(&file.name, format_args!("it cannot be read: {error}"));
                }
            }
        }
    }

    /// Checks a part of a file; returns how many pages it has.
    fn check(&self, range: &Range<'_>, buffer: &mut [u8], tables: &Mutex<Places>) -> u64 {
        let Range { file, open, start, end } = range;
        let page_size = file.context.flags().page_size();
        let physical = page_size.physical();
        let mut check = PageCheck::new(file.context, self.keys);
        let mut pages = 0;
        let mut at = *start;
        let may_have_holes =
            open.metadata().is_ok_and(|metadata| metadata.blocks() * 512 < metadata.len());
        while at < *end {
            if may_have_holes {
                let hole = hole_at(open, at, *end).unwrap_or(0) / physical as u64 * physical as u64;
                pages += hole / physical as u64;
                at += hole;
                self.report.advance(hole);
                if hole > 0 {
                    continue;
                }
            }
            let wanted = usize::try_from(*end - at).unwrap_or(READ).min(READ);
            let Some(bytes) = buffer.get_mut(..wanted) else { break };
            if let Err(error) = open.read_exact_at(bytes, at) {
                self.findings
                    .add(&file.name, format_args!("it cannot be read at offset {at}: {error}"));
                at += wanted as u64;
                continue;
            }
            for (index, page) in bytes.chunks(physical).enumerate() {
                let offset = at + (index * physical) as u64;
                if page.len() < physical {
                    if !self.may_end_anywhere {
                        self.findings.add(
                            &file.name,
                            format_args!(
                                "it ends within a page: {} bytes are left over",
                                page.len()
                            ),
                        );
                    }
                    continue;
                }
                let page_no = file.first_page.saturating_add(page_size.pages_in(offset));
                pages += 1;
                if let Err(what) = self.judge(file, &mut check, page, page_no) {
                    let space = Some(file.context.space_id());
                    self.findings.add_page(&file.name, BadPage { space, page_no, offset, what });
                } else if file.context.space_id() == SpaceId::SYSTEM && !self.asked.is_empty() {
                    self.look_for_tables(file, page, page_no, tables);
                }
            }
            self.report.advance(wanted as u64);
            at += wanted as u64;
        }
        pages
    }

    fn judge(
        &self,
        file: &DataFile,
        check: &mut PageCheck<'_>,
        bytes: &[u8],
        page_no: u32,
    ) -> Result<(), String> {
        check.check(bytes, page_no).map_err(|error| described(&error))?;
        let Some(page) = Page::new(bytes) else { return Ok(()) };
        match self.end {
            Some(end) if page.lsn() > end && !file.context.is_unverified(page_no) => {
                Err(format!("its LSN {} is beyond the end of the redo log, {end}", page.lsn()))
            }
            _ => Ok(()),
        }
    }

    /// Notes what a page of the dictionary says about the tables asked for.
    fn look_for_tables(&self, file: &DataFile, bytes: &[u8], page_no: u32, tables: &Mutex<Places>) {
        let mut plain = Vec::new();
        let mut page = bytes;
        if file.context.may_be_encrypted() {
            plain.resize(bytes.len(), 0);
            let codec = PageCodec::new(file.context, self.keys);
            match codec.decode(bytes, page_no, &mut plain) {
                Ok(Decoded::InBuffer) => page = &plain,
                Ok(Decoded::AsStored) => {}
                Err(_) => return,
            }
        }
        if !dictionary::has_tables(page) {
            return;
        }
        let lsn = Page::new(page).map_or(Lsn(0), |page| page.lsn());
        let mut tables = lock(tables);
        for table in dictionary::tables(page).filter(|table| self.asked.contains(&table.name)) {
            let known = tables.get(&table.name).map(|(known, _)| *known);
            if known.is_none_or(|known| known <= lsn) {
                tables.insert(table.name.clone(), (lsn, table));
            }
        }
    }
}

/// An error with its causes.
fn described(error: &CodecError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Bytes from `offset` on, `end` at most, that are a hole.
fn hole_at(file: &File, offset: u64, end: u64) -> io::Result<u64> {
    let data = durable::next_data(file, offset)?.unwrap_or(end).min(end);
    Ok(data.saturating_sub(offset))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
