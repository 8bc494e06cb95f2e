//! Order of the steps of `--prepare`.
//!
//! Everything that can be checked is checked before the first write: state, log, tablespaces.
//! Then each step can be repeated after a kill at any point, and the files come out the same:
//!
//! 1. renames: a stored list, see `markers`;
//! 2. sizes of files: set to what the log says;
//! 3. pages: the page LSN tells what was applied, the journal mends what was torn, pages that the
//!    log builds are built again; all synced;
//! 4. the log is replaced by an empty one with the same end: a repetition from here on finds
//!    nothing to apply;
//! 5. pages that were damaged when they were copied: free ones are zeroed, and those that stay
//!    damaged are listed, by rename; see `corrupted`;
//! 6. the checkpoints file says so, by rename: from here on a repetition does nothing but step 5;
//! 7. the journal is removed.
//!
//! A backup of `BACKUP SERVER` gets the metadata of others before 1, and loses its archive of the
//! log after 4: see `archive`.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use innodb::encrypted::KeySource;
use innodb::{Lsn, SpaceId};
use redo::header::Checkpoint;
use rustix::fs::FlockOperation;

use super::journal::{self, LogId};
use super::log::CopiedLog;
use super::markers::{self, Plan};
use super::memory::Budget;
use super::page::Log;
use super::recover::{Recovery, recover};
use super::scan::Extent;
use super::spaces::{Space, Spaces};
use super::storage::{Disk, Storage};
use super::{archive, binlog, binlog_files, corrupted, index, keys, links, log, scan};
use crate::durable::{self, FileSystem};
use crate::hint::WithHint;
use crate::hints;
use crate::keys_source;
use crate::metadata::backup_cnf::BACKUP_CNF;
use crate::metadata::checkpoints::Found;
use crate::metadata::incomplete;
use crate::metadata::{BackupCnf, BackupMyCnf, BackupType, Checkpoints, CorruptedPages};
use crate::options::{EngineBinlog, PrepareOptions};
use crate::report::Report;

const BINLOG_POSITION: &str = "xtrabackup_binlog_pos_innodb";
/// Files that stay free for other purposes than tablespaces.
const RESERVED_FILES: u64 = 64;

/// Prepares the full backup in `options.target_dir`.
///
/// # Errors
///
/// A directory that is no full backup, damaged files, an incomplete log; what the system reports.
/// Nothing was changed unless the message says otherwise, and a repetition can finish the work.
/// Pages that were damaged when they were copied and cannot be repaired, when all else is done.
pub fn run(options: &PrepareOptions, report: &Report) -> anyhow::Result<()> {
    run_on(options, report, &Disk).hint_if_full(
        "make space on the file system of --target-dir and run --prepare again: it goes on with \
         the same backup",
    )
}

/// [`run`] with changes through `storage`.
pub(super) fn run_on(
    options: &PrepareOptions,
    report: &Report,
    storage: &dyn Storage,
) -> anyhow::Result<()> {
    let dir = options.target_dir.as_path();
    let Backup { found, archive } = find_backup(dir)?;
    let _lock = lock(dir)?;
    match found.as_ref().map_or(BackupType::FullBackuped, |found| found.checkpoints.backup_type) {
        BackupType::FullBackuped => report.say("This target seems to be not prepared yet."),
        BackupType::LogApplied => {
            report.say("This target seems to be already prepared.");
            let listed = CorruptedPages::read(dir)?;
            if !listed.is_empty() {
                let cnf = BackupMyCnf::read(dir)?;
                let keys = keys_source::open(cnf.plugins.as_ref(), &options.keys)?;
                let rest = corrupted::settle(dir, listed, &cnf, keys.as_deref(), storage, report)?;
                clean_up(dir, storage)?;
                return corrupted::check_rest(dir, &rest);
            }
            return clean_up(dir, storage);
        }
        BackupType::Incremental => bail!(
            "This target does not have correct metadata. {} is an incremental backup: it is \
             prepared together with its full backup",
            dir.display()
        ),
    }
    // What BACKUP SERVER and its script wrote is there to the end, and has secrets of keys too.
    let is_servers = archive.is_some() || dir.join(BACKUP_CNF).exists();
    let cnf = if is_servers { archive::server_options(dir)? } else { BackupMyCnf::read(dir)? };
    let mut found = found.unwrap_or_else(|| archive::checkpoints_file(dir));
    let listed = CorruptedPages::read(dir)?;
    let file_system = FileSystem::of(dir).with_context(|| format!("open {}", dir.display()))?;

    let keys = keys_source::open(cnf.plugins.as_ref(), &options.keys)?;
    let keys = keys.as_deref();
    let log = match &archive {
        Some(archive) => Some(CopiedLog::open_archive(dir, archive, keys)?),
        None => CopiedLog::open(dir)?,
    };
    let interrupted = Interrupted::find(dir, log.as_ref())?;
    // From here on things are changed only if an earlier run, which found all good, did before.
    interrupted.finish(dir, storage, &file_system, report)?;
    match &log {
        Some(log) => {
            apply(options, log, &cnf, keys, &mut found, &listed, &file_system, storage, report)?;
        }
        None => log::check_emptied(dir, interrupted.journal.and_then(|journal| journal.id))?,
    }
    archive::retire(dir, storage)?;
    let rest = corrupted::settle(dir, listed, &cnf, keys, storage, report)?;
    if let Some(correction) = aria::control::correct_last_log_number(dir)? {
        report.detail(format_args!(
            "aria_log_control: last log number {} instead of {}",
            correction.to, correction.from
        ));
        replace(storage, &correction.path, &correction.bytes)?;
    }
    remove_empty_folders(dir)?;
    let prepared = Checkpoints { backup_type: BackupType::LogApplied, ..found.checkpoints };
    replace(storage, &found.path, prepared.render().as_bytes())?;
    if let (Some(extra), Some(name)) = (&options.extra_lsndir, found.path.file_name()) {
        durable::create_dir_all(extra).with_context(|| format!("create {}", extra.display()))?;
        replace(storage, &extra.join(name), prepared.render().as_bytes())?;
    }
    clean_up(dir, storage)?;
    corrupted::check_rest(dir, &rest)
}

/// Applies the log and replaces it by an empty one.
#[allow(clippy::too_many_arguments, reason = "one call, all of them are needed")]
fn apply(
    options: &PrepareOptions,
    log: &CopiedLog,
    cnf: &BackupMyCnf,
    keys: Option<&dyn KeySource>,
    found: &mut Found,
    listed: &CorruptedPages,
    file_system: &FileSystem,
    storage: &dyn Storage,
    report: &Report,
) -> anyhow::Result<()> {
    let dir = options.target_dir.as_path();
    let mut plan = Plan::of(dir)?;
    if log.rules_files() {
        links::fetch(dir, &mut plan)?;
    }
    let mut spaces = Spaces::discover(dir, &plan, cnf, keys)?;
    let budget = Budget::new(options.use_memory);
    let threads = options.parallel.map_or_else(processors, NonZeroUsize::get);
    let extent = log.extent();
    let reader = log.reader(keys);
    let records = Log::new(&reader, extent.checkpoint.lsn);
    let (index, scanned) = read_log(dir, log, records, extent, &spaces, budget, threads, report)?;
    if let Some(target) = extent.target {
        check_target(&scanned, target)?;
        found.checkpoints.to_lsn = extent.checkpoint.lsn;
        found.checkpoints.last_lsn = scanned.end;
    }
    let reached = check_end(scanned.end, &found.checkpoints, extent.checkpoint);
    // A log of 10.5 to 10.7 that cannot be decrypted looks empty.
    match log.doubt().filter(|_| scanned.end == extent.checkpoint.lsn) {
        Some(doubt) => reached.context(doubt)?,
        None => reached?,
    }
    if log.rules_files() {
        spaces.follow(&scanned, &mut plan, report)?;
    }
    spaces.resolve(dir, &scanned, records, report)?;
    if log.rules_files() {
        links::check(dir, &spaces)?;
    }
    keys::check(dir, &spaces)?;
    // Whether it can be read: it is corrected at the end.
    aria::control::correct_last_log_number(dir)?;

    if log.rules_files() {
        archive::adopt(dir, cnf, found, storage)?;
        links::make_missing(dir, &spaces, &scanned, storage)?;
    }
    plan.execute(dir, storage, report)?;
    for space in spaces.iter() {
        space.create(dir, storage)?;
        space.resize(dir, storage)?;
    }
    report.phase("Applying the redo log", index.record_bytes());
    let log_id = LogId { first_lsn: extent.checkpoint.lsn, end: scanned.end };
    let recovery = Recovery {
        dir,
        spaces: &spaces,
        log: records,
        log_id,
        corrupted: listed,
        budget,
        threads,
        open_spaces: open_spaces(options.open_files_limit, budget.batches),
        storage,
        report,
    };
    let pages = recover(&recovery, index)?;
    report.phase_done();
    if options.engine_binlog == EngineBinlog::Skipped {
        binlog_files::remove(dir, storage)?;
    } else {
        binlog_files::recover(dir, &scanned.binlog, records, storage, report)?;
    }
    storage.sync_all(dir, file_system).with_context(|| format!("sync {}", dir.display()))?;
    let (first, end) = (extent.checkpoint.lsn, scanned.end);
    report.say(format_args!("Redo log (from LSN {first} to {end}) was applied to {pages} pages."));

    // The reference of 10.5 does not write it.
    if log.is_ring() || found.checkpoints.recover_binlog_info.is_some() {
        let written = write_binlog_position(dir, &spaces, found, storage, report);
        match written {
            Err(error) if !listed.is_empty() && corrupted::is_damage(&error) => {
                report.say(format_args!("Warning: no binary log position was found: {error:#}"));
            }
            written => written?,
        }
    }
    log.replace(dir, &spaces, log_id, storage)
}

/// A finished backup.
struct Backup {
    /// Its checkpoints file; none: `BACKUP SERVER` made it, and no run came as far as to write one.
    found: Option<Found>,
    /// The log is still the archive of which this tells.
    archive: Option<BackupCnf>,
}

fn find_backup(dir: &Path) -> anyhow::Result<Backup> {
    ensure!(dir.is_dir(), "Can't change dir to '{}': there is no such directory", dir.display());
    incomplete::refuse(dir)?;
    let found = Checkpoints::find(dir)?;
    let log = dir.join(log::LOG);
    let has_log = log.try_exists().with_context(|| format!("look for {}", log.display()))?;
    let archive = if has_log && found.is_some() { None } else { BackupCnf::find(dir)? };
    if found.is_none() && archive.is_none() {
        bail!(
            "cannot open {}/xtrabackup_checkpoints (nor mariadb_backup_checkpoints): the \
             directory is no backup, or the backup was not finished",
            dir.display()
        );
    }
    ensure!(
        archive.is_none() || !has_log,
        "{} is beside {BACKUP_CNF}: BACKUP SERVER leaves no such file, and does not tell whether \
         it or the archive (ib_*.log) is the redo log",
        log.display()
    );
    Ok(Backup { found, archive })
}

/// Keeps a second prepare out until the result is dropped. Also finds out whether the directory
/// can be written at all.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let context = || format!("{} cannot be written", dir.display());
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).with_context(context)?;
    let file = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("{} is being prepared by another process", dir.display())
        }
        // Where locks are not supported, there is none.
        _ => Ok(file),
    }
}

/// What a killed run left.
struct Interrupted {
    journal: Option<journal::Found>,
    /// The journal's pages were all synced: the log is the empty one already.
    is_recovered: bool,
}

impl Interrupted {
    /// `log`: none if it was replaced by an empty file.
    fn find(dir: &Path, log: Option<&CopiedLog>) -> anyhow::Result<Self> {
        let journal = journal::Found::find(dir)?;
        let Some(log) = log else { return Ok(Self { journal, is_recovered: true }) };
        let first_lsn = log.extent().checkpoint.lsn;
        let Some(id) = journal.as_ref().and_then(|journal| journal.id) else {
            return Ok(Self { journal: None, is_recovered: false });
        };
        let is_recovered = log.is_empty() && first_lsn != id.first_lsn && first_lsn < id.end;
        ensure!(
            is_recovered || first_lsn == id.first_lsn,
            "{} belongs to another redo log (LSN {} to {}) than that of the backup, which begins \
             at {first_lsn}",
            dir.join(journal::NAME).display(),
            id.first_lsn,
            id.end
        );
        Ok(Self { journal, is_recovered })
    }

    /// Finishes the renames and repeats the writes that may be torn.
    fn finish(
        &self,
        dir: &Path,
        storage: &dyn Storage,
        file_system: &FileSystem,
        report: &Report,
    ) -> anyhow::Result<()> {
        markers::resume(dir, storage, report)?;
        let Some(journal) = self.journal.as_ref().filter(|_| !self.is_recovered) else {
            return Ok(());
        };
        let pages = journal.replay(dir, storage)?;
        report.say(format_args!("An earlier run was interrupted: {pages} pages written again."));
        // The journal of this run will take its place.
        storage.sync_all(dir, file_system).with_context(|| format!("sync {}", dir.display()))
    }
}

#[allow(clippy::too_many_arguments, reason = "one call, all of them are needed")]
fn read_log(
    dir: &Path,
    log: &CopiedLog,
    records: Log<'_>,
    extent: Extent,
    spaces: &Spaces<'_>,
    budget: Budget,
    threads: usize,
    report: &Report,
) -> anyhow::Result<(index::Index, scan::Scanned)> {
    report.phase("Scanning the redo log", log.len());
    log.expect_sequential(true);
    let encryption_at = |id: SpaceId| spaces.get(id).map(Space::encryption_at);
    let spill = || {
        durable::unnamed_file(dir).with_context(|| format!("create a file in {}", dir.display()))
    };
    let result = index::build(budget.index, threads, spill, |collector| {
        scan::scan(records, extent, &encryption_at, &mut |entry| collector.push(entry), report)
    });
    let result = match log.doubt() {
        Some(doubt) => result.context(doubt)?,
        None => result?,
    };
    log.expect_sequential(false);
    report.phase_done();
    let (index, _) = &result;
    if index.is_spilled() {
        report.detail("The index of the redo log exceeds the memory; the rest is in a file.");
    }
    Ok(result)
}

/// An archive must reach its target.
fn check_target(scanned: &scan::Scanned, target: Lsn) -> anyhow::Result<()> {
    ensure!(
        scanned.is_cut || scanned.end >= target,
        "innodb_log_recovery_target={target} cannot be reached: the redo log ends at LSN {}. \
         Nothing was changed",
        scanned.end
    );
    Ok(())
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

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// How many tablespaces each batch may keep open.
fn open_spaces(wanted: Option<u64>, batches: usize) -> usize {
    let limit = hints::raise_open_files_limit(wanted.unwrap_or(4096));
    // Each batch, and those whose files are being synced.
    let per_batch = limit.saturating_sub(RESERVED_FILES) / (2 * batches as u64 + 8);
    usize::try_from(per_batch.clamp(1, 64)).unwrap_or(1)
}

fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    storage.replace(path, bytes).with_context(|| format!("write {}", path.display()))
}

fn write_binlog_position(
    dir: &Path,
    spaces: &Spaces<'_>,
    found: &Found,
    storage: &dyn Storage,
    report: &Report,
) -> anyhow::Result<()> {
    let position = binlog::read_position(dir, spaces).context("read the binary log position")?;
    let file = String::from_utf8_lossy(&position.file);
    report.say(format_args!("Last binlog file {file}, position {}", position.position));
    let text = [position.file.as_slice(), format!("\t{}\n", position.position).as_bytes()].concat();
    replace(storage, &dir.join(BINLOG_POSITION), &text)?;
    if found.checkpoints.recover_binlog_info == Some(true) {
        replace(storage, &dir.join("xtrabackup_binlog_info"), &text)?;
    }
    Ok(())
}

/// Databases that were dropped while the backup ran, folders out of which files were moved.
fn remove_empty_folders(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_folders(&entry.path())?;
            // Fails for all that are not empty.
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

/// Removes what only an unfinished run needs.
fn clean_up(dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
    markers::remove_if_there(storage, &dir.join(journal::NAME))?;
    storage.sync_dir(dir).with_context(|| format!("sync {}", dir.display()))
}
