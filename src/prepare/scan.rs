//! One pass over the copied log: index entries for page changes, and what the log tells about
//! tablespaces as a whole. Changes nothing.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, bail};
use innodb::{Lsn, PageNo, SpaceId};
use redo::fsp::FspChange;
use redo::header::Checkpoint;
use redo::mtr::{Mtr, Run, RunKind};
use redo::record::{FileRecord, Record, is_binlog};

use super::index::Entry;
use super::page::Log;
use super::spaces::path_in_backup;
use crate::report::Report;

/// Bytes between two updates of the progress line.
const PROGRESS_STEP: u64 = 16 << 20;

/// What the log tells about a tablespace.
#[derive(Debug, Default)]
pub(super) struct SpaceFacts {
    /// Whether the log changes any page.
    pub has_pages: bool,
    /// Last size written to page 0, pages.
    pub size: Option<u32>,
    /// Last flags written to page 0.
    pub flags: Option<u32>,
    /// `TRIM_PAGES`: start of the mini-transaction and first page cut off.
    pub trims: Vec<(Lsn, PageNo)>,
    /// Last name and where it was logged.
    pub name: Option<(Lsn, Vec<u8>)>,
    /// The tablespace was dropped.
    pub is_deleted: bool,
    /// Start of the last mini-transaction that dropped it. If it is there nevertheless, it was
    /// imported again with its old id, and nothing that was logged before is about this file.
    pub dropped_at: Option<Lsn>,
    /// Entries of page 0. For tablespaces without a usable file those since its last
    /// initialisation, else all that change how pages are encrypted.
    pub page0: Vec<Entry>,
}

/// Result of the pass.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Tablespaces in the log.
    pub spaces: HashMap<SpaceId, SpaceFacts>,
    /// End of the last complete mini-transaction.
    pub end: Lsn,
    /// Entries of the binary log that InnoDB keeps (12.3 and later), in the order of the log.
    pub binlog: Vec<Entry>,
    /// Whether a mini-transaction follows that was left out, as it ends behind the target.
    pub is_cut: bool,
}

impl Scanned {
    /// Files of the tablespaces that are there in the end, `DATABASE/TABLE.ibd`.
    pub(super) fn names(&self) -> HashSet<PathBuf> {
        let named = self.spaces.values().filter(|facts| !facts.is_deleted);
        named.filter_map(|facts| Some(path_in_backup(&facts.name.as_ref()?.1))).collect()
    }
}

/// Which part of the log is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Where it begins.
    pub checkpoint: Checkpoint,
    /// Whether the checkpoint tells its end LSN; if not (10.5 to 10.7), its `FILE_CHECKPOINT` is
    /// somewhere behind it.
    pub is_end_lsn_known: bool,
    /// Whether nothing may follow the checkpoint: a server of 10.5 to 10.7 that shuts down leaves
    /// not even its `FILE_CHECKPOINT`.
    pub may_be_empty: bool,
    /// Mini-transactions that end behind this LSN are left out.
    pub target: Option<Lsn>,
}

struct Scanner<'c, T> {
    extent: Extent,
    /// `FILE_CHECKPOINT` for `checkpoint` was found.
    is_confirmed: bool,
    take_entry: &'c mut T,
    encryption_at: &'c dyn Fn(SpaceId) -> Option<Range<u32>>,
    /// Facts by number, and the numbers of the tablespaces; the last one looked up.
    facts: Vec<(SpaceId, SpaceFacts)>,
    numbers: HashMap<SpaceId, usize>,
    latest: Option<(SpaceId, usize)>,
    binlog: Vec<Entry>,
}

/// Reads the log as far as `extent` says, or to its end, and gives the entries to `take_entry`.
/// `encryption_at`: of tablespaces whose page 0 is in a file, which of its bytes tell how pages are
/// encrypted.
///
/// # Errors
///
/// Records that mean nothing; a log without its checkpoint.
pub(super) fn scan(
    log: Log<'_>,
    extent: Extent,
    encryption_at: &dyn Fn(SpaceId) -> Option<Range<u32>>,
    take_entry: &mut impl FnMut(Entry),
    report: &Report,
) -> anyhow::Result<Scanned> {
    let mut scanner = Scanner {
        extent,
        is_confirmed: false,
        take_entry,
        encryption_at,
        facts: Vec::new(),
        numbers: HashMap::new(),
        latest: None,
        binlog: Vec::new(),
    };
    let (end, is_cut) = scanner.run(log, report)?;
    let is_empty = extent.may_be_empty && end == extent.checkpoint.lsn;
    if !scanner.is_confirmed && !is_empty {
        bail!(scanner.not_confirmed());
    }
    let spaces = scanner.facts.into_iter().collect();
    Ok(Scanned { spaces, end, binlog: scanner.binlog, is_cut })
}

impl<T: FnMut(Entry)> Scanner<'_, T> {
    fn run(&mut self, log: Log<'_>, report: &Report) -> anyhow::Result<(Lsn, bool)> {
        let Extent { checkpoint, is_end_lsn_known, target, .. } = self.extent;
        let mut mtrs = log.mtrs()?;
        let mut end = checkpoint.lsn;
        let mut reported = end;
        // Whatever the reason, the log ends where there is no more; the caller compares that with
        // its metadata.
        while let Some(mtr) = mtrs.next()? {
            if target.is_some_and(|target| mtr.end() > target) {
                return Ok((end, true));
            }
            if is_end_lsn_known && !self.is_confirmed && mtr.start() >= checkpoint.end_lsn {
                self.confirm(&mtr)?;
            }
            for run in mtr.runs() {
                self.take(&mtr, &run?)?;
            }
            end = mtr.end();
            if end.since(reported) >= PROGRESS_STEP {
                report.advance(end.since(reported));
                reported = end;
            }
        }
        Ok((end, false))
    }

    /// From the end LSN on, the checkpoint's own mini-transactions must follow.
    fn confirm(&mut self, mtr: &Mtr<'_>) -> anyhow::Result<()> {
        for record in mtr.records() {
            match record? {
                Record::File(FileRecord::Checkpoint(lsn)) if lsn == self.extent.checkpoint.lsn => {
                    self.is_confirmed = true;
                }
                Record::File(
                    FileRecord::Modify { .. } | FileRecord::Checkpoint(_) | FileRecord::Padding,
                ) => {}
                _ => bail!(self.not_confirmed()),
            }
        }
        Ok(())
    }

    fn not_confirmed(&self) -> String {
        let Checkpoint { lsn, end_lsn } = self.extent.checkpoint;
        format!("Missing FILE_CHECKPOINT({lsn}) at {end_lsn}: the redo log is corrupted")
    }

    #[inline]
    fn take(&mut self, mtr: &Mtr<'_>, run: &Run) -> anyhow::Result<()> {
        if run.kind == RunKind::File {
            return self.file_records(mtr, run);
        }
        if run.page.space.is_reserved() {
            // No tablespace.
            self.binlog.extend(Entry::of(mtr, run).filter(|_| is_binlog(run.page)));
            return Ok(());
        }
        let facts = self.facts(run.page.space);
        facts.has_pages = true;
        if run.kind == RunKind::Trim {
            facts.trims.push((mtr.start(), run.page.page_no));
            return Ok(());
        }
        let Some(entry) = Entry::of(mtr, run) else { return Ok(()) };
        if run.page.page_no.0 == 0 {
            self.take_page0(mtr, run, entry)?;
        }
        (self.take_entry)(entry);
        Ok(())
    }

    fn take_page0(&mut self, mtr: &Mtr<'_>, run: &Run, entry: Entry) -> anyhow::Result<()> {
        let space = run.page.space;
        let watched = (self.encryption_at)(space);
        let change = FspChange::of_run(
            mtr.run_bytes(run),
            entry.lsn(),
            watched.as_ref().unwrap_or(&(0..0)),
        )?;
        let is_needed = watched.is_none() || change.is_watched;
        let facts = self.facts(space);
        // 0 means nothing.
        facts.size = change.size.filter(|&size| size != 0).or(facts.size);
        facts.flags = change.flags.or(facts.flags);
        if is_needed {
            // What a page 0 that is in a file was encrypted by before, pages may still be.
            if entry.is_restart() && watched.is_none() {
                facts.page0.clear();
            }
            facts.page0.push(entry);
        }
        Ok(())
    }

    fn file_records(&mut self, mtr: &Mtr<'_>, run: &Run) -> anyhow::Result<()> {
        let lsn = Lsn(mtr.start().0 + run.range.start as u64);
        // The last record of a mini-transaction only if it is the last run.
        let bytes = mtr.run_bytes(run);
        let mtr_start = mtr.start();
        for record in redo::record::decode_run(bytes, lsn) {
            let (space, name, is_deleted) = match record.context("read a file record")? {
                Record::File(
                    FileRecord::Create { space, name } | FileRecord::Modify { space, name },
                ) => (space, name, false),
                Record::File(FileRecord::Rename { space, to, .. }) => (space, to, false),
                Record::File(FileRecord::Delete { space, name }) => (space, name, true),
                Record::File(FileRecord::Checkpoint(lsn)) => {
                    let Extent { checkpoint, is_end_lsn_known, .. } = self.extent;
                    self.is_confirmed |= !is_end_lsn_known && lsn == checkpoint.lsn;
                    continue;
                }
                _ => continue,
            };
            let facts = self.facts(space);
            facts.is_deleted = is_deleted;
            if facts.is_deleted {
                facts.dropped_at = Some(mtr_start);
                facts.size = None;
                facts.flags = None;
                facts.trims.clear();
                facts.page0.clear();
            }
            facts.name = Some((lsn, name.to_vec()));
        }
        Ok(())
    }

    #[inline]
    fn facts(&mut self, space: SpaceId) -> &mut SpaceFacts {
        let number = match self.latest {
            Some((latest, number)) if latest == space => number,
            _ => self.number(space),
        };
        // Never out of range: numbers are made with the facts.
        let number = number.min(self.facts.len().saturating_sub(1));
        #[allow(clippy::indexing_slicing, reason = "there is at least one")]
        &mut self.facts[number].1
    }

    fn number(&mut self, space: SpaceId) -> usize {
        let facts = &mut self.facts;
        let number = *self.numbers.entry(space).or_insert_with(|| {
            facts.push((space, SpaceFacts::default()));
            facts.len() - 1
        });
        self.latest = Some((space, number));
        number
    }
}
