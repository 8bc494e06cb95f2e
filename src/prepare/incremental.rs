//! `--prepare --incremental-dir`: brings a prepared backup to the state of an incremental one,
//! which is only read, so that it can be applied to other copies of the same backup too.
//!
//! ```text
//! source       the incremental backup: files of changed pages, whole tables, metadata
//! plan         which file of the target is which tablespace; what is renamed, removed, made
//! pages        changed pages: verified, then written
//! other_files  what is no tablespace: replaced
//! state        how far it got, for the next run
//! ```
//!
//! Everything is checked before the first write. Then the state is stored, and each step can be
//! repeated after a kill at any point; when all it did is durable, the state names the next one:
//!
//! 1. names: tablespaces are renamed and removed by a stored list (`markers`), made, copied. A
//!    repetition decides anew: first pages are as they were;
//! 2. pages: each is written as a whole;
//! 3. redo: as with a full backup, whose log is that of the incremental one: page LSN and journal
//!    tell and mend;
//! 4. other files: removed and copied;
//!
//! and last, by rename, the checkpoints file. Until the state is removed after that, the target is
//! refused by everything else than a run with the same incremental backup.

mod other_files;
mod pages;
mod plan;
mod source;
pub(super) mod state;

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};

use self::plan::Plan;
use self::source::Source;
use self::state::{State, Step};
use super::apply::{ReadLog, Work};
use super::log::{self, CopiedLog};
use super::page::Log;
use super::run::{lock, remove_empty_folders};
use super::spaces::Spaces;
use super::storage::Storage;
use super::{corrupted, journal, keys, markers};
use crate::durable::{self, FileSystem};
use crate::hint::WithHint;
use crate::keys_source;
use crate::metadata::{BackupType, Checkpoints, CorruptedPages, Found, exported, incomplete};
use crate::options::PrepareOptions;
use crate::report::Report;

/// Applies the incremental backup in `incremental_dir` to the one in `options.target_dir`.
///
/// # Errors
///
/// A target that is not prepared, or not what the incremental backup is based on; damaged files,
/// an incomplete log; what the system reports. Nothing was changed unless the message says
/// otherwise, and a repetition finishes the work.
pub(super) fn run_on(
    options: &PrepareOptions,
    incremental_dir: &Path,
    report: &Report,
    storage: &dyn Storage,
) -> anyhow::Result<()> {
    let dir = options.target_dir.as_path();
    ensure!(dir.is_dir(), "Can't change dir to '{}': there is no such directory", dir.display());
    let source = Source::open(incremental_dir)?;
    report.say(format_args!(
        "incremental backup from {} is enabled.",
        source.found.checkpoints.from_lsn
    ));
    incomplete::refuse(dir)?;
    let found = Checkpoints::find_finished(dir)?;
    let _lock = lock(dir)?;
    let state = State::find(dir)?;
    let keys = keys_source::open(source.cnf.plugins.as_ref(), &options.keys)?;
    let keys = keys.as_deref();
    let file_system = FileSystem::of(dir).with_context(|| format!("open {}", dir.display()))?;
    let work = Work { dir, file_system: &file_system, options, keys, storage, report };
    match &state {
        Some(state) => check_same(dir, state, &source)?,
        None if is_applied(dir, &found, &source)? => {
            report.say("This incremental backup seems to be already applied.");
            return corrupted::check_rest(dir, &CorruptedPages::read(dir)?);
        }
        None => check_base(dir, &found.checkpoints, &source)?,
    }
    let log = CopiedLog::open(&source.dir)?
        .with_context(|| format!("{}: the redo log is empty", source.dir.display()))?;
    let mut listed = CorruptedPages::read(dir)?;
    listed.extend(CorruptedPages::read(&source.dir)?);
    aria::control::correct_last_log_number(&source.dir)?;

    let run = Run { work, source: &source, log: &log, listed: &listed, found: &found };
    let step = match state {
        Some(state) => {
            report.say("An earlier run was interrupted: going on.");
            markers::resume(dir, storage, report)?;
            state.step
        }
        None => Step::Names,
    };
    let records = log.reader(keys);
    let records = Log::new(&records, log.extent().checkpoint.lsn);
    if step < Step::OtherFiles {
        run.redo(step, records)?;
    }
    run.finish()
}

/// Whether the files of changed pages in the incremental backup `dir` are whole and go together.
/// Looks at no page.
///
/// # Errors
///
/// They do not; it is no finished incremental backup.
pub(super) fn check_lists(dir: &Path) -> anyhow::Result<()> {
    Source::open(dir).map(drop)
}

/// What the steps share.
struct Run<'r> {
    work: Work<'r>,
    source: &'r Source,
    log: &'r CopiedLog,
    listed: &'r CorruptedPages,
    /// Of the target.
    found: &'r Found,
}

impl Run<'_> {
    /// All steps up to the redo log, from `step` on.
    fn redo(&self, step: Step, records: Log<'_>) -> anyhow::Result<()> {
        let Work { dir, keys, .. } = self.work;
        let (read, spaces) = if step < Step::Redo {
            let plan = Plan::of(self.work, self.source, step > Step::Names)?;
            let spaces = plan.spaces(dir, keys)?;
            let (read, spaces) = self.read(records, spaces)?;
            plan.check(&spaces)?;
            pages::verify(self.work, &plan, &spaces, self.listed, &read)?;
            if step == Step::Names {
                plan.check_room(dir, &spaces)?;
                // What an earlier prepare left has nothing to do with this one.
                markers::remove_if_there(self.work.storage, &dir.join(journal::NAME))?;
                self.begin(Step::Names)?;
                plan.name_files(self.work)?;
                self.begin(Step::Pages)?;
            }
            pages::write(self.work, &plan, &spaces)?;
            self.begin(Step::Redo)?;
            (read, spaces)
        } else {
            if let Some(journal) = journal::Found::find(dir)?.filter(|found| found.id.is_some()) {
                let pages = journal.replay(dir, self.work.storage)?;
                self.work.report.say(format_args!("{pages} pages written again."));
                self.work.sync()?;
            }
            let files = markers::Plan::of(dir)?;
            self.read(records, Spaces::discover(dir, &files, &self.source.cnf, keys)?)?
        };
        self.work.apply_log(read, &spaces, self.listed, self.found)?;
        self.begin(Step::OtherFiles)
    }

    /// Reads the log and decides about every tablespace in it. Changes nothing.
    fn read<'l, 'k>(
        &self,
        records: Log<'l>,
        mut spaces: Spaces<'k>,
    ) -> anyhow::Result<(ReadLog<'l>, Spaces<'k>)>
    where
        Self: 'l,
    {
        let read = self.work.read_log(self.log, records, &spaces)?;
        read.check_end(&self.source.found.checkpoints)?;
        spaces.resolve(&self.source.dir, &read.scanned, records, self.work.report)?;
        keys::check(self.work.dir, &spaces)?;
        Ok((read, spaces))
    }

    fn begin(&self, step: Step) -> anyhow::Result<()> {
        let dir = &self.source.dir;
        let incremental_dir = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let state = State { identity: self.source.identity.clone(), incremental_dir, step };
        state.store(self.work.dir, self.work.storage)
    }

    /// The last step, and what tells that all is done.
    fn finish(&self) -> anyhow::Result<()> {
        let Work { dir, keys, storage, report, options, .. } = self.work;
        let cnf = &self.source.cnf;
        other_files::replace(self.work, self.source)?;
        let rest = corrupted::settle(dir, self.listed.clone(), cnf, keys, storage, report)?;
        if let Some(correction) = aria::control::correct_last_log_number(dir)? {
            self.work.replace(&correction.path, &correction.bytes)?;
        }
        remove_empty_folders(dir)?;
        other_files::make_empty_databases(self.work, self.source)?;
        self.work.sync()?;
        let checkpoints = after(&self.found.checkpoints, &self.source.found.checkpoints);
        let bytes = checkpoints.render();
        self.work.replace(&self.found.path, bytes.as_bytes())?;
        if let (Some(extra), Some(name)) = (&options.extra_lsndir, self.found.path.file_name()) {
            durable::create_dir_all(extra)
                .with_context(|| format!("create {}", extra.display()))?;
            self.work.replace(&extra.join(name), bytes.as_bytes())?;
        }
        markers::remove_if_there(storage, &dir.join(journal::NAME))?;
        markers::remove_if_there(storage, &dir.join(state::NAME))?;
        storage.sync_dir(dir).with_context(|| format!("sync {}", dir.display()))?;
        corrupted::check_rest(dir, &rest)
    }
}

/// What becomes of the range of LSNs of the target: as with the reference, `last_lsn` stays what it
/// was where the server made no checkpoint between the backups.
fn after(target: &Checkpoints, applied: &Checkpoints) -> Checkpoints {
    let mut after = Checkpoints { backup_type: BackupType::LogApplied, ..*target };
    if after.to_lsn < applied.to_lsn {
        (after.to_lsn, after.last_lsn) = (applied.to_lsn, applied.last_lsn);
    }
    after
}

/// Whether the interrupted run was one with the same incremental backup.
fn check_same(dir: &Path, state: &State, source: &Source) -> anyhow::Result<()> {
    if state.identity == source.identity {
        return Ok(());
    }
    let refused = state::refuse(dir);
    refused.with_context(|| format!("{} is another incremental backup", source.dir.display()))?;
    bail!("{} is gone", dir.join(state::NAME).display())
}

/// Whether an earlier run has done all there is to do: the target has come to where the incremental
/// backup ends, and has its files.
fn is_applied(dir: &Path, found: &Found, source: &Source) -> anyhow::Result<bool> {
    let (target, applied) = (&found.checkpoints, &source.found.checkpoints);
    let is_there = target.backup_type == BackupType::LogApplied
        && (target.to_lsn, target.last_lsn) == (applied.to_lsn, applied.last_lsn)
        && applied.from_lsn < applied.to_lsn;
    if !is_there {
        return Ok(false);
    }
    // It has an id of its own; one whose checkpoints file is enough may do without.
    let info = source.found.names.info;
    let (own, other) = (dir.join(info), source.dir.join(info));
    match (own.is_file(), other.is_file()) {
        (true, true) => durable::same_contents(&own, &other)
            .with_context(|| format!("compare {} and {}", own.display(), other.display())),
        (own, other) => Ok(own == other),
    }
}

/// Whether the target is what the incremental backup is based on.
fn check_base(dir: &Path, target: &Checkpoints, source: &Source) -> anyhow::Result<()> {
    exported::refuse(dir)?;
    match target.backup_type {
        BackupType::LogApplied => {}
        BackupType::FullBackuped => {
            return Err(anyhow!("error: applying incremental backup needs a prepared target."))
                .hint(format!("run --prepare --target-dir={} first", dir.display()));
        }
        BackupType::Incremental => bail!(
            "This target does not have correct metadata. {} is an incremental backup itself",
            dir.display()
        ),
    }
    let (to, from) = (target.to_lsn, source.found.checkpoints.from_lsn);
    if to != from {
        let why = if from < to {
            "it is older than the target; apply the incremental backups in the order in which they \
             were taken, each once"
        } else {
            "another one, taken between the two, has to be applied before"
        };
        return Err(anyhow!(
            "error: This incremental backup seems not to be proper for the target. Check 'to_lsn' \
             of the target and 'from_lsn' of the incremental. The target's to_lsn is {to}, but \
             from_lsn of {} is {from}",
            source.dir.display()
        ))
        .hint(format!("{why}; nothing was changed"));
    }
    // Where the server made no checkpoint between backups, their ranges tell nothing.
    let (reached, end) = (log::reached(dir, &source.cnf)?, source.found.checkpoints.last_lsn);
    ensure!(
        reached <= end,
        "error: This incremental backup seems not to be proper for the target: it ends at LSN \
         {end}, but the target is at {reached} already. Nothing was changed"
    );
    Ok(())
}
