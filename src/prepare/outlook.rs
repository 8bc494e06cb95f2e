//! What a log holds and what prepare would make of it, for those who only look: nothing is changed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use innodb::encrypted::KeySource;
use innodb::page::SpaceContext;
use innodb::{Lsn, PageId, PageNo};

use super::apply::check_end;
use super::index::page_of;
use super::log::CopiedLog;
use super::markers::Plan;
use super::page::Log;
use super::scan::scan;
use super::spaces::{Space, Spaces};
use crate::metadata::{BackupMyCnf, Checkpoints};
use crate::report::Report;

/// A log file that is not written to meanwhile.
pub struct StillLog<'k> {
    log: CopiedLog,
    keys: Option<&'k dyn KeySource>,
}

/// What a log as a whole tells.
#[derive(Debug, Default)]
pub struct LogSummary {
    /// Where it begins: at its checkpoint.
    pub start: Lsn,
    /// End of the last complete mini-transaction.
    pub end: Lsn,
    /// Files of the tablespaces that it names, as `DATABASE/TABLE.ibd`.
    pub names: HashSet<PathBuf>,
    /// Whether it changes any page.
    pub has_changes: bool,
}

impl<'k> StillLog<'k> {
    /// Opens the log in folder `dir`; `None` if it is the empty file that a prepared backup of 10.5
    /// to 10.7 has.
    ///
    /// # Errors
    ///
    /// A file that is missing or no log.
    pub fn open(dir: &Path, keys: Option<&'k dyn KeySource>) -> anyhow::Result<Option<Self>> {
        Ok(CopiedLog::open(dir)?.map(|log| Self { log, keys }))
    }

    /// Reads all records from the checkpoint to the end.
    ///
    /// # Errors
    ///
    /// Records that mean nothing, a log without its checkpoint, a key that is not to be had.
    pub fn summary(&self, report: &Report) -> anyhow::Result<LogSummary> {
        let reader = self.log.reader(self.keys);
        let extent = self.log.extent();
        let records = Log::new(&reader, extent.checkpoint.lsn);
        let scanned = scan(records, extent, &|_| Some(0..0), &mut |_| {}, report);
        let scanned = match self.log.doubt() {
            Some(doubt) => scanned.context(doubt)?,
            None => scanned?,
        };
        Ok(LogSummary {
            start: extent.checkpoint.lsn,
            end: scanned.end.max(extent.checkpoint.end_lsn),
            names: scanned.names(),
            has_changes: scanned.spaces.values().any(|facts| facts.has_pages),
        })
    }

    /// Those of the pages `wanted` that the log builds anew, so that it does not matter what is in
    /// the file.
    ///
    /// # Errors
    ///
    /// As [`summary`](Self::summary).
    pub fn rebuilt(
        &self,
        wanted: &HashSet<PageId>,
        report: &Report,
    ) -> anyhow::Result<HashSet<PageId>> {
        let reader = self.log.reader(self.keys);
        let extent = self.log.extent();
        let records = Log::new(&reader, extent.checkpoint.lsn);
        let mut rebuilt = HashSet::new();
        let mut take = |entry: super::index::Entry| {
            let page = page_of(entry.page());
            if entry.is_restart() && wanted.contains(&page) {
                rebuilt.insert(page);
            }
        };
        scan(records, extent, &|_| Some(0..0), &mut take, report)?;
        Ok(rebuilt)
    }
}

/// What prepare would make of a backup.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Tablespaces by their first file as it is called now.
    spaces: HashMap<PathBuf, SpaceOutlook>,
}

/// What prepare would make of a tablespace.
#[derive(Debug)]
pub struct SpaceOutlook {
    /// How pages are stored, by page 0 and by what the log makes of it.
    pub context: SpaceContext,
    /// Pages that there will be.
    pub pages: u32,
    /// Whether the log cuts pages off.
    pub is_cut: bool,
    gone: Vec<PageNo>,
}

impl SpaceOutlook {
    fn of(space: &Space) -> Self {
        let gone = space.first_trimmed().into_iter().collect();
        Self { context: space.context(), pages: space.size, is_cut: space.has_trims(), gone }
    }

    /// Whether the log cuts the page off.
    pub fn is_gone(&self, page_no: u32) -> bool {
        self.gone.iter().any(|first| page_no >= first.0)
    }
}

impl Outlook {
    /// Does everything that prepare does before its first write.
    ///
    /// # Errors
    ///
    /// Whatever would keep the backup from being prepared.
    pub fn of(
        dir: &Path,
        cnf: &BackupMyCnf,
        checkpoints: &Checkpoints,
        log: &StillLog<'_>,
        report: &Report,
    ) -> anyhow::Result<Self> {
        let plan = Plan::of(dir)?;
        let mut spaces = Spaces::discover(dir, &plan, cnf, log.keys)?;
        let reader = log.log.reader(log.keys);
        let extent = log.log.extent();
        let records = Log::new(&reader, extent.checkpoint.lsn);
        let encryption_at = |id| spaces.get(id).map(Space::encryption_at);
        let scanned = scan(records, extent, &encryption_at, &mut |_| {}, report)?;
        check_end(scanned.end, checkpoints, extent.checkpoint)?;
        spaces.resolve(dir, &scanned, records, report)?;
        super::keys::check(dir, &spaces)?;
        let outlook = |space: &Space| {
            let first = space.files.first()?.current.clone();
            Some((first, SpaceOutlook::of(space)))
        };
        Ok(Self { spaces: spaces.iter().filter_map(outlook).collect() })
    }

    /// The tablespace whose first file is `current`; `None` where prepare would leave the file as
    /// it is.
    pub fn space(&self, current: &Path) -> Option<&SpaceOutlook> {
        self.spaces.get(current)
    }
}

/// The tablespace files of an unprepared backup: as they will be called, and as they are now.
///
/// # Errors
///
/// Markers of renamed tables that contradict each other; what reading reports.
pub fn table_files(dir: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let plan = Plan::of(dir)?;
    Ok(plan.tables().map(|(to, from)| (to.to_owned(), from.to_owned())).collect())
}

/// Whether the files of changed pages in the incremental backup `dir` are whole and go together.
///
/// # Errors
///
/// They do not.
pub fn check_changes(dir: &Path) -> anyhow::Result<()> {
    super::incremental::check_lists(dir)
}

/// Whether a prepare of `dir` was interrupted and has to be repeated.
pub fn is_interrupted(dir: &Path) -> bool {
    [super::journal::NAME, super::markers::LIST].iter().any(|name| dir.join(name).exists())
}
