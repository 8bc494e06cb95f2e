//! The redo log onto the files of a backup: read whole, checked, then applied. What is read before
//! the first write and what is written is the same for every kind of prepare; what happens between
//! is not.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, ensure};
use innodb::encrypted::KeySource;
use innodb::{Lsn, SpaceId};
use redo::header::Checkpoint;

use super::index::{self, Index};
use super::journal::LogId;
use super::log::CopiedLog;
use super::memory::Budget;
use super::page::Log;
use super::recover::{Recovery, recover};
use super::scan::{self, Extent, Scanned};
use super::spaces::{Space, Spaces};
use super::storage::Storage;
use super::{binlog, binlog_files, corrupted};
use crate::durable::{self, FileSystem};
use crate::hints;
use crate::metadata::{Checkpoints, CorruptedPages, Found};
use crate::options::{EngineBinlog, PrepareOptions};
use crate::report::Report;

const BINLOG_POSITION: &str = "xtrabackup_binlog_pos_innodb";
/// Files that stay free for other purposes than tablespaces.
const RESERVED_FILES: u64 = 64;

/// What every step of a prepare needs.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    /// The directory that changes.
    pub dir: &'a Path,
    /// On which file system it is.
    pub file_system: &'a FileSystem,
    /// As given.
    pub options: &'a PrepareOptions,
    /// Of encrypted pages.
    pub keys: Option<&'a dyn KeySource>,
    /// Where changes go.
    pub storage: &'a dyn Storage,
    /// Messages and progress.
    pub report: &'a Report,
}

/// A log that was read to its end.
pub(super) struct ReadLog<'a> {
    /// The log.
    log: &'a CopiedLog,
    /// Its records.
    pub records: Log<'a>,
    /// Where it begins.
    pub extent: Extent,
    /// What it tells about tablespaces.
    pub scanned: Scanned,
    index: Index,
    budget: Budget,
}

impl ReadLog<'_> {
    /// Which log it is.
    pub(super) fn id(&self) -> LogId {
        LogId { first_lsn: self.extent.checkpoint.lsn, end: self.scanned.end }
    }

    /// Whether the log reaches as far as the backup says.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(super) fn check_end(&self, expected: &Checkpoints) -> anyhow::Result<()> {
        let reached = check_end(self.scanned.end, expected, self.extent.checkpoint);
        // A log of 10.5 to 10.7 that cannot be decrypted looks empty.
        match self.log.doubt().filter(|_| self.scanned.end == self.extent.checkpoint.lsn) {
            Some(doubt) => reached.context(doubt),
            None => reached,
        }
    }
}

/// The log must reach as far as the backup says.
pub(super) fn check_end(
    end: Lsn,
    expected: &Checkpoints,
    checkpoint: Checkpoint,
) -> anyhow::Result<()> {
    let needed = expected.last_lsn.max(expected.to_lsn).max(checkpoint.end_lsn);
    ensure!(
        end >= needed,
        "The log was only applied up to LSN {end}, instead of {needed}: the redo log of the backup \
         is damaged or cut. Nothing was changed"
    );
    Ok(())
}

impl Work<'_> {
    /// Threads that may work.
    pub(super) fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.options.parallel.map_or_else(processors, NonZeroUsize::get)
    }

    /// Reads the log to its end; `spaces` are those whose pages it may change. Changes nothing.
    ///
    /// # Errors
    ///
    /// Records that mean nothing, a log without its checkpoint.
    pub(super) fn read_log<'l>(
        &self,
        log: &'l CopiedLog,
        records: Log<'l>,
        spaces: &Spaces<'_>,
    ) -> anyhow::Result<ReadLog<'l>> {
        let (dir, extent) = (self.dir, log.extent());
        let budget = Budget::new(self.options.use_memory);
        self.report.phase("Scanning the redo log", log.len());
        log.expect_sequential(true);
        let encryption_at = |id: SpaceId| spaces.get(id).map(Space::encryption_at);
        let spill = || {
            durable::unnamed_file(dir)
                .with_context(|| format!("create a file in {}", dir.display()))
        };
        let result = index::build(budget.index, self.threads(), spill, |collector| {
            let take = &mut |entry| collector.push(entry);
            scan::scan(records, extent, &encryption_at, take, self.report)
        });
        let (index, scanned) = match log.doubt() {
            Some(doubt) => result.context(doubt)?,
            None => result?,
        };
        log.expect_sequential(false);
        self.report.phase_done();
        if index.is_spilled() {
            let what = "The index of the redo log exceeds the memory; the rest is in a file.";
            self.report.detail(what);
        }
        Ok(ReadLog { log, records, extent, scanned, index, budget })
    }

    /// Applies a log whose tablespaces are resolved, makes everything durable, notes the binary
    /// log position and leaves an empty log. `listed` pages get no redo.
    ///
    /// # Errors
    ///
    /// Damaged pages, records that cannot be applied, what the system reports. A repetition goes
    /// on from there.
    pub(super) fn apply_log(
        &self,
        read: ReadLog<'_>,
        spaces: &Spaces<'_>,
        listed: &CorruptedPages,
        found: &Found,
    ) -> anyhow::Result<()> {
        let Self { dir, storage, report, .. } = *self;
        let log_id = read.id();
        let ReadLog { log, records, extent, scanned, index, budget } = read;
        for space in spaces.iter() {
            space.create(dir, storage)?;
            space.resize(dir, storage)?;
        }
        report.phase("Applying the redo log", index.record_bytes());
        let recovery = Recovery {
            dir,
            spaces,
            log: records,
            log_id,
            corrupted: listed,
            budget,
            threads: self.threads(),
            open_spaces: open_spaces(self.options.open_files_limit, budget.batches),
            storage,
            report,
        };
        let pages = recover(&recovery, index)?;
        report.phase_done();
        if self.options.engine_binlog == EngineBinlog::Skipped {
            binlog_files::remove(dir, storage)?;
        } else {
            binlog_files::recover(dir, &scanned.binlog, records, storage, report)?;
        }
        self.sync()?;
        let (first, end) = (extent.checkpoint.lsn, scanned.end);
        report.say(format_args!(
            "Redo log (from LSN {first} to {end}) was applied to {pages} pages."
        ));

        // The reference of 10.5 does not write it.
        if log.is_ring() || found.checkpoints.recover_binlog_info.is_some() {
            match self.write_binlog_position(spaces, found) {
                Err(error) if !listed.is_empty() && corrupted::is_damage(&error) => {
                    report
                        .say(format_args!("Warning: no binary log position was found: {error:#}"));
                }
                written => written?,
            }
        }
        log.replace(dir, spaces, log_id, storage)
    }

    /// Makes everything in the directory durable.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        let synced = self.storage.sync_all(self.dir, self.file_system);
        synced.with_context(|| format!("sync {}", self.dir.display()))
    }

    /// Gives a file new contents.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.storage.replace(path, bytes);
        written.with_context(|| format!("write {}", path.display()))
    }

    fn write_binlog_position(&self, spaces: &Spaces<'_>, found: &Found) -> anyhow::Result<()> {
        let position =
            binlog::read_position(self.dir, spaces).context("read the binary log position")?;
        let file = String::from_utf8_lossy(&position.file);
        self.report.say(format_args!("Last binlog file {file}, position {}", position.position));
        let tail = format!("\t{}\n", position.position);
        let text = [position.file.as_slice(), tail.as_bytes()].concat();
        self.replace(&self.dir.join(BINLOG_POSITION), &text)?;
        if found.checkpoints.recover_binlog_info == Some(true) {
            self.replace(&self.dir.join("xtrabackup_binlog_info"), &text)?;
        }
        Ok(())
    }
}

/// How many tablespaces each batch may keep open.
fn open_spaces(wanted: Option<u64>, batches: usize) -> usize {
    let limit = hints::raise_open_files_limit(wanted.unwrap_or(4096));
    // Each batch, and those whose files are being synced.
    let per_batch = limit.saturating_sub(RESERVED_FILES) / (2 * batches as u64 + 8);
    usize::try_from(per_batch.clamp(1, 64)).unwrap_or(1)
}
