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
//! An incremental backup is applied by the module `incremental`. A backup of `BACKUP SERVER` gets the metadata of others before 1, and loses its archive of the
//! log after 4: see `archive`.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use innodb::Lsn;
use rustix::fs::FlockOperation;

use super::apply::Work;
use super::journal;
use super::log::CopiedLog;
use super::markers::{self, Plan};
use super::page::Log;
use super::scan::Scanned;
use super::spaces::Spaces;
use super::storage::{Disk, Storage};
use super::{archive, corrupted, export, incremental, keys, links, log};
use crate::compression;
use crate::durable::{self, FileSystem};
use crate::hint::WithHint;
use crate::keys_source;
use crate::metadata::backup_cnf::BACKUP_CNF;
use crate::metadata::checkpoints::Found;
use crate::metadata::incomplete;
use crate::metadata::{BackupCnf, BackupMyCnf, BackupType, Checkpoints, CorruptedPages};
use crate::options::PrepareOptions;
use crate::report::Report;

/// Prepares the full backup in `options.target_dir`, or applies an incremental one to it.
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
    )?;
    if options.export {
        let _lock = lock(&options.target_dir)?;
        export::run(options, report)?;
    }
    Ok(())
}

/// [`run`] with changes through `storage`.
pub(super) fn run_on(
    options: &PrepareOptions,
    report: &Report,
    storage: &dyn Storage,
) -> anyhow::Result<()> {
    let dir = options.target_dir.as_path();
    compression::refuse(dir)?;
    if let Some(incremental_dir) = &options.incremental_dir {
        compression::refuse(incremental_dir)?;
        return incremental::run_on(options, incremental_dir, report, storage);
    }
    incremental::state::refuse(dir)?;
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
    let work = Work { dir, file_system: &file_system, options, keys, storage, report };
    let log = match &archive {
        Some(archive) => Some(CopiedLog::open_archive(dir, archive, keys)?),
        None => CopiedLog::open(dir)?,
    };
    let interrupted = Interrupted::find(dir, log.as_ref())?;
    // From here on things are changed only if an earlier run, which found all good, did before.
    interrupted.finish(work)?;
    match &log {
        Some(log) => apply(work, log, &cnf, &mut found, &listed)?,
        None => log::check_emptied(dir, interrupted.journal.and_then(|journal| journal.id))?,
    }
    archive::retire(dir, storage)?;
    let rest = corrupted::settle(dir, listed, &cnf, keys, storage, report)?;
    if let Some(correction) = aria::control::correct_last_log_number(dir)? {
        report.detail(format_args!(
            "aria_log_control: last log number {} instead of {}",
            correction.to, correction.from
        ));
        work.replace(&correction.path, &correction.bytes)?;
    }
    remove_empty_folders(dir)?;
    let prepared = Checkpoints { backup_type: BackupType::LogApplied, ..found.checkpoints };
    work.replace(&found.path, prepared.render().as_bytes())?;
    if let (Some(extra), Some(name)) = (&options.extra_lsndir, found.path.file_name()) {
        durable::create_dir_all(extra).with_context(|| format!("create {}", extra.display()))?;
        work.replace(&extra.join(name), prepared.render().as_bytes())?;
    }
    clean_up(dir, storage)?;
    corrupted::check_rest(dir, &rest)
}

/// Applies the log and replaces it by an empty one.
fn apply(
    work: Work<'_>,
    log: &CopiedLog,
    cnf: &BackupMyCnf,
    found: &mut Found,
    listed: &CorruptedPages,
) -> anyhow::Result<()> {
    let Work { dir, keys, storage, report, .. } = work;
    let mut plan = Plan::of(dir)?;
    if log.rules_files() {
        links::fetch(dir, &mut plan)?;
    }
    let mut spaces = Spaces::discover(dir, &plan, cnf, keys)?;
    let reader = log.reader(keys);
    let read = work.read_log(log, Log::new(&reader, log.extent().checkpoint.lsn), &spaces)?;
    if let Some(target) = read.extent.target {
        check_target(&read.scanned, target)?;
        found.checkpoints.to_lsn = read.extent.checkpoint.lsn;
        found.checkpoints.last_lsn = read.scanned.end;
    }
    read.check_end(&found.checkpoints)?;
    if log.rules_files() {
        spaces.follow(&read.scanned, &mut plan, report)?;
    }
    spaces.resolve(dir, &read.scanned, read.records, report)?;
    if log.rules_files() {
        links::check(dir, &spaces)?;
    }
    keys::check(dir, &spaces)?;
    // Whether it can be read: it is corrected at the end.
    aria::control::correct_last_log_number(dir)?;

    if log.rules_files() {
        archive::adopt(dir, cnf, found, storage)?;
        links::make_missing(dir, &spaces, &read.scanned, storage)?;
    }
    plan.execute(dir, storage, report)?;
    work.apply_log(read, &spaces, listed, found)
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
pub(super) fn lock(dir: &Path) -> anyhow::Result<File> {
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
    fn finish(&self, work: Work<'_>) -> anyhow::Result<()> {
        let Work { dir, storage, report, .. } = work;
        markers::resume(dir, storage, report)?;
        let Some(journal) = self.journal.as_ref().filter(|_| !self.is_recovered) else {
            return Ok(());
        };
        let pages = journal.replay(dir, storage)?;
        report.say(format_args!("An earlier run was interrupted: {pages} pages written again."));
        // The journal of this run will take its place.
        work.sync()
    }
}

/// An archive must reach its target.
fn check_target(scanned: &Scanned, target: Lsn) -> anyhow::Result<()> {
    ensure!(
        scanned.is_cut || scanned.end >= target,
        "innodb_log_recovery_target={target} cannot be reached: the redo log ends at LSN {}. \
         Nothing was changed",
        scanned.end
    );
    Ok(())
}

/// Databases that were dropped while the backup ran, folders out of which files were moved.
pub(super) fn remove_empty_folders(dir: &Path) -> anyhow::Result<()> {
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
