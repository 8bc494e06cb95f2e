//! The order of a backup's stages.
//!
//! ```text
//! START         InnoDB files, transactional Aria tables, descriptions of tables
//! FLUSH         tables of other engines not in use, each under BACKUP LOCK
//! BLOCK_DDL     what is left and what changed; DDL seen so far resolved, late tables copied
//! BLOCK_COMMIT  end LSN = the follower's limit; flush the log; positions; tails
//! END           follower drains to its limit -> metadata, sync, done
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use aria::log::{LogSnapshot, LogWatch};
use chrono::{DateTime, Local};
use innodb::encrypted::KeySource;
use innodb::{Lsn, SpaceId};
use mdl::facts::ServerFacts;
use mdl::lock::TableLocks;
use mdl::session::{Session, SessionError};
use mdl::stage::{CommitBlocked, LockKind, LockMonitor, StageSession};

use super::attempt::Attempt;
use super::base::Base;
use super::copy::{Changes, Copied, DecryptedPages, PageCopy, Source, SourceKind, Throttle};
use super::engines::OtherEngines;
use super::history::History;
use super::log_copy::LogCopy;
use super::monitor::Monitor;
use super::plan::{self, Plan, is_written_under_locks};
use super::positions::{self, Positions};
use super::rocksdb::MyRocks;
use super::spaces::{self, LoggedFiles, Resolution, TableName};
use super::stages::{self, Stages};
use super::sync;
use super::target;
use crate::filter::TableFilter;
use crate::hint::WithHint;
use crate::hints;
use crate::hooks::{self, dbug};
use crate::metadata::{CorruptedPages, Info, corrupted_pages};
use crate::options::{BackupOptions, EngineBinlog, IncrementalBase, Output, StreamFormat};
use crate::report::Report;
use crate::sink::Sink;

/// `ER_SPECIFIC_ACCESS_DENIED_ERROR`
const ACCESS_DENIED: u16 = 1227;
/// The log of a server that runs without InnoDB is read to its end if it stands still for so long.
const LOG_END: Duration = Duration::from_secs(1);
/// How long the copied log may stand still before an LSN that the server has already written.
const LOG_PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for the server to write its log by itself before it is asked to.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of log that are copied in no time.
const CLOSE_BEHIND: u64 = 1 << 20;
/// How often the copy of the log may try to come close to a server that goes on writing.
const CATCH_UP_ROUNDS: u32 = 20;

/// Takes a backup.
///
/// # Errors
///
/// Whatever keeps the backup from being complete, consistent and durable; the target then lacks
/// the checkpoints file and is marked as incomplete, and `--prepare` refuses it.
pub fn run(options: &BackupOptions, report: &Report) -> anyhow::Result<()> {
    let started = Local::now();
    if let Some(wanted) = options.open_files_limit {
        let limit = hints::raise_open_files_limit(wanted);
        report.say(format_args!("open files limit requested {wanted}, set to {limit}"));
    }
    let base = options.incremental.as_ref().map(Base::find).transpose()?.flatten();
    let mut session = Session::connect(&options.connection)?;
    let facts = ServerFacts::read(&mut session)?;
    target::check_server(&facts, options, report)?;
    let filter = TableFilter::new(&options.filter, &facts.datadir)?;
    let keys = target::keys(&facts, options, &mut session)?;
    if options.check_privileges && options.locks.kind != LockKind::None {
        mdl::privileges::check(&mut session, &facts)?;
        stages::warn_of_privileges(options, report, &mut session)?;
    }
    let base = match &options.incremental {
        Some(IncrementalBase::Recorded(key)) => {
            Some(Base::recorded(key, &facts, &mut session, report)?)
        }
        _ => base,
    };
    if let Some(base) = &base {
        base.check(&facts, &mut session, report)?;
    }
    if options.history.is_some() {
        History::of(&facts.version).prepare(&mut session)?;
    }
    let changes = base.map(|base| Changes {
        since: base.lsn,
        base_time: base.time,
        tmpdir: options.tmpdir.clone(),
    });
    let sink = target::open(options, &facts)?;
    let attempt = Attempt::begin(options, started, report)?;
    let server = Server { facts: &facts, keys, session: &mut session };
    let result = back_up(options, report, server, &filter, changes, &*sink, &attempt);
    let place = target::place(options);
    let Done { info, corrupted } = attempt
        .end(result)
        .with_context(|| format!("the backup {place} is not complete"))
        .hint_if_full(target::no_space(options))?;
    if options.history.is_some() {
        History::of(&facts.version).record(&mut session, &info).with_context(|| {
            format!("the backup {place} is complete, but it is not recorded on the server")
        })?;
    }
    if corrupted.is_empty() {
        return Ok(());
    }
    report.say(format_args!(
        "Error: corrupted innodb pages are found and logged to {} file",
        corrupted_pages::NAME
    ));
    let what = anyhow!(
        "the backup {place} is complete, but {} pages in it are damaged, as they are on the \
         server: {}",
        corrupted.count(),
        corrupted.in_words()
    );
    Err(what).hint(
        "--prepare repairs pages that the redo log holds or that are free, and tells which stay \
         damaged; have the server check and rebuild the tables, and take the backup again",
    )
}

/// The server that is backed up.
struct Server<'a> {
    facts: &'a ServerFacts,
    keys: Option<Arc<dyn KeySource>>,
    session: &'a mut Session,
}

/// A complete backup.
struct Done {
    info: Info,
    /// Pages that were damaged.
    corrupted: CorruptedPages,
}

fn back_up(
    options: &BackupOptions,
    report: &Report,
    server: Server<'_>,
    filter: &TableFilter,
    changes: Option<Changes>,
    sink: &dyn Sink,
    attempt: &Attempt,
) -> anyhow::Result<Done> {
    let Server { facts, keys, session } = server;
    if options.checkpoint_now {
        write_checkpoint(session)?;
        report.say("Finished waiting for checkpoint");
    }
    if options.check_privileges {
        positions::check_privileges(session, options.positions)?;
    }
    let replica = positions::stop_replica(options, report)?;
    // First of all: changes made while files are listed and copied must be in the copied log.
    let creator = facts.version.creator();
    let log = LogCopy::start(&facts.log_group_home_dir(), &creator, keys.clone(), sink)?;
    let start = log.start_checkpoint().lsn;
    report.say(format_args!("Copying the redo log from LSN {start}"));
    let mut stages = Stages::new(options, report);
    let checkpoint = stages.reserve_checkpoint(facts, &log, session)?;
    stages.lock_definitions(filter, &log, session)?;
    let stage = stages.start(&log, session)?;
    dbug::event("after_backup_stage_start");
    let locks = stages.monitors(&stage);
    let work = Backup { options, report, facts, filter, keys, changes, sink, log, locks };

    let aria_log = Mutex::new(LogWatch::start(&facts.aria_log_dir())?);
    dbug::event("after_scanning_log_files");
    let threads = options.parallel.get();
    let locks = TableLocks::connect(&options.connection, options.locks, threads)?;
    let check = || work.check();
    let rocksdb = checkpoint.map(|checkpoint| MyRocks::new(checkpoint, attempt.leftover()));
    let engines = OtherEngines::new(facts, sink, report, &locks, &check, threads, rocksdb);
    let mut engines = engines.with_keys(work.keys.as_deref());
    let logged = Mutex::default();
    hooks::reach("before-listing");
    let mut plan = Plan::discover(facts, filter, session)?;
    work.tell_left_out(&plan);
    if options.engine_binlog == EngineBinlog::Skipped && !plan.binlog.is_empty() {
        report.say(format_args!("Skipping the binary log: {} files", plan.binlog.len()));
        plan.binlog.clear();
    }
    hooks::reach("after-listing");
    dbug::event("after_load_tablespaces");
    let (stage, mut copied) = work.watching(&aria_log, &logged, || {
        let (stage, copied) = sync::syncing(sink, || {
            engines.create_databases(&plan)?;
            let mut copied = work.copy_tablespaces(&plan)?;
            hooks::reach("after-tablespaces");
            if work.can_replace() {
                engines.copy_online(&plan)?;
            }
            work.catch_up(session)?;
            copied = work.copy_new_tables(&plan, &logged, copied)?;

            work.catch_up(session)?;
            let stage = stages.flush(stage, &work.log, session)?;
            hooks::reach("in-flush");
            if work.can_replace() {
                engines.copy_idle(session, &plan)?;
            }
            Ok((stage, copied))
        })?;
        hooks::reach("before-block-ddl");
        // The server must not wait for whoever reads the backup.
        sink.hold(true);
        Ok((stages.block_ddl(stage, &work.log, session)?, copied))
    })?;
    hooks::reach("in-block-ddl");
    dbug::event("after_backup_stage_block_ddl");
    let mut logged: LoggedFiles = logged.into_inner().unwrap_or_else(PoisonError::into_inner);
    let now = work.catch_up_with_ddl(session, &mut logged)?;
    dbug::event("backup_fix_ddl");
    let resolution = work.resolve_tablespaces(&now, &mut logged, &mut copied)?;
    dbug::event("after_backup_fix_ddl");
    engines.reconcile(&plan, &now)?;
    dbug::event("after_stage_block_ddl");
    work.write_out_logs(session)?;
    hooks::reach("before-block-commit");

    let mut stage = stages.block_commit(stage, &work.log, session)?;
    hooks::reach("in-block-commit");
    dbug::event("after_backup_stage_block_commit");
    let aria_log = aria_log.into_inner().unwrap_or_else(PoisonError::into_inner);
    let point = work.read_point(&mut stage, &mut engines, aria_log)?;
    if options.locks.kind == LockKind::None {
        work.check_unchanged(session, &now, &engines)?;
    }
    let lock_time = stages.end(stage)?.ddl_blocked;
    sink.hold(false);
    drop(replica);
    hooks::reach("after-end");
    locks.check()?;

    let tablespaces = resolution.tablespaces(&copied.written);
    engines.finish(&now, &tablespaces, &point.aria_log)?;
    work.finish(session, &point, copied, &mut logged, attempt.started(), lock_time)
}

/// What all steps of a backup share.
struct Backup<'a> {
    options: &'a BackupOptions,
    report: &'a Report,
    facts: &'a ServerFacts,
    /// What belongs to the backup.
    filter: &'a TableFilter,
    /// If it has any.
    keys: Option<Arc<dyn KeySource>>,
    /// What counts as changed, in an incremental backup.
    changes: Option<Changes>,
    sink: &'a dyn Sink,
    log: LogCopy,
    /// They tell at once when a lock is lost.
    locks: Vec<LockMonitor>,
}

/// The moment for which the backup stands.
struct Point {
    /// The newest checkpoint at that moment: the base of the next incremental backup.
    checkpoint: Lsn,
    /// The end of the copied log.
    end: Lsn,
    /// Where the server stands in other logs.
    positions: Positions,
    /// Aria's log.
    aria_log: LogSnapshot,
}

impl Backup<'_> {
    /// Fails if the log or the locks are lost, without which all copying is in vain.
    fn check(&self) -> anyhow::Result<()> {
        self.log.check()?;
        Ok(stages::check(&self.locks)?)
    }

    /// Whether a file that was copied can be copied again. The mbstream of 10.5 cannot read such a
    /// stream, and an archive cannot take a file back; files that may change are then left until they
    /// do not.
    fn can_replace(&self) -> bool {
        match self.options.output {
            Output::Directory => true,
            Output::Stream(StreamFormat::Xbstream) => self.facts.version.series() >= (10, 6),
            Output::Stream(StreamFormat::Tar) => false,
        }
    }

    /// Tells what the filter leaves out, and what it names that is not there.
    fn tell_left_out(&self, plan: &Plan) {
        if self.filter.is_empty() {
            return;
        }
        for database in &plan.left_out_databases {
            self.report.say(format_args!("Skipping db: ./{}", database.display()));
        }
        for file in &plan.left_out {
            self.report.say(format_args!("Skipping ./{}.", file.display()));
        }
        let taken = plan.databases.iter().map(|(folder, _)| folder.as_os_str());
        let folders: Vec<&OsStr> =
            taken.chain(plan.left_out_databases.iter().map(OsString::as_os_str)).collect();
        let files: Vec<PathBuf> = plan.all_files().collect();
        let (included, excluded) = self.filter.idle(&folders, &files);
        for entry in included {
            self.report.say(format_args!(
                "Warning: nothing on the server matches '{entry}', which is to be backed up."
            ));
        }
        for entry in excluded {
            self.report.say(format_args!(
                "Note: nothing on the server matches '{entry}', which is to be left out."
            ));
        }
    }

    /// Does `work`, up to the lock that blocks DDL, while another thread watches the server's logs.
    fn watching<T>(
        &self,
        aria_log: &Mutex<LogWatch>,
        logged: &Mutex<LoggedFiles>,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let session = Session::connect(&self.options.connection)?;
        let (end, stop) = mpsc::channel();
        std::thread::scope(|scope| {
            let monitor =
                Monitor { options: &self.options.connection, log: &self.log, aria_log, logged };
            scope.spawn(move || monitor.run(session, self.report, &stop));
            let result = work();
            drop(end);
            result
        })
    }

    /// Copies tablespaces that were not copied `before`; returns what all copies came to.
    fn copy_pages(
        &self,
        sources: Vec<Source>,
        before: Copied,
        phase: &'static str,
        is_urgent: bool,
    ) -> anyhow::Result<Copied> {
        self.report.phase(phase, sources.iter().map(|source| source.len).sum());
        let copy = PageCopy {
            sink: self.sink,
            report: self.report,
            check: &|| self.check(),
            page_size: self.facts.innodb_page_size,
            algorithm: self.facts.checksum_algorithm,
            missing_compressions: &self.facts.missing_compressions(),
            keys: self.keys.as_deref(),
            // As fast as possible, whatever the limit, while DDL waits.
            throttle: self.options.throttle.filter(|_| !is_urgent).map(Throttle::new),
            threads: self.options.parallel.get(),
            is_urgent,
            lists_corruption: self.options.log_page_corruption,
            decrypted_pages: if self.options.extended_validation {
                DecryptedPages::MustBeGood
            } else {
                DecryptedPages::AreNamed
            },
            changes: self.changes.as_ref(),
        };
        let copied = copy.run(sources, before);
        self.report.phase_done();
        copied
    }

    fn copy_tablespaces(&self, plan: &Plan) -> anyhow::Result<Copied> {
        let mut sources = plan::system_sources(self.facts)?;
        sources.extend(plan::undo_sources(self.facts)?);
        sources.extend(plan.table_sources());
        self.copy_pages(sources, Copied::default(), "Copying", false)
    }

    /// A second look at tables whose page 0 the server had not written yet. Those of which the log
    /// tells that they are new are copied now, whatever their files hold: the log writes all of
    /// their pages. Thousands of them must not be left until DDL is blocked.
    fn copy_new_tables(
        &self,
        plan: &Plan,
        logged: &Mutex<LoggedFiles>,
        mut copied: Copied,
    ) -> anyhow::Result<Copied> {
        let deferred = std::mem::take(&mut copied.deferred);
        // In an incremental backup they are whole files, which cannot be taken back everywhere.
        let is_incremental = self.changes.is_some();
        if deferred.is_empty() || is_incremental && !self.can_replace() {
            return Ok(copied);
        }
        let extension = if is_incremental { "new" } else { "ibd" };
        let sources = {
            let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
            self.log.events().for_each(|event| logged.note(&event));
            let listed: HashMap<_, _> = plan.tables.iter().map(|t| (&t.space.name, t)).collect();
            let owners = logged.owners();
            let source = |name: TableName| {
                let table = listed.get(&name)?;
                let id = *owners.get(&name)?;
                logged.is_initialised(id).then(|| Source {
                    path: table.path.clone(),
                    target: name.with_extension(extension),
                    len: table.space.identity.size,
                    kind: SourceKind::New { name, id },
                })
            };
            deferred.into_iter().filter_map(source).collect()
        };
        self.copy_pages(sources, copied, "Copying new tables", false)
    }

    /// Waits, while nobody is held up, until the copied log is close behind the server's: later
    /// steps wait for it with locks held.
    fn catch_up(&self, session: &mut Session) -> anyhow::Result<()> {
        for _ in 0..CATCH_UP_ROUNDS {
            let Some(lsn) = mdl::position::innodb_lsn_flushed(session)? else {
                // Nobody writes to the log, so it has an end.
                self.log.wait_for(Lsn(u64::MAX), LOG_END)?;
                return Ok(());
            };
            self.log.note_server_lsn(lsn);
            if self.log.lag().bytes < CLOSE_BEHIND {
                break;
            }
            self.reach(lsn)?;
        }
        Ok(())
    }

    /// Waits until the log is copied up to `lsn`, which the server has written.
    fn reach(&self, lsn: Lsn) -> anyhow::Result<()> {
        let reached = self.log.wait_for(lsn, LOG_PATIENCE)?;
        ensure!(
            reached,
            "the copy of the redo log stands still: for {LOG_PATIENCE:?} nothing was copied, \
             although the server has written it up to LSN {lsn}"
        );
        Ok(())
    }

    /// Waits until the copied log holds every DDL statement that ran before DDL was blocked, and
    /// lists the data directory once more.
    fn catch_up_with_ddl(
        &self,
        session: &mut Session,
        logged: &mut LoggedFiles,
    ) -> anyhow::Result<Plan> {
        // Records of file operations are always durable, so the flushed LSN is enough.
        if let Some(lsn) = mdl::position::innodb_lsn_flushed(session)? {
            self.log.note_server_lsn(lsn);
            self.report.say(format_args!("Waiting for log copy thread to read lsn {lsn}"));
            self.log.note_flushed(lsn);
            self.reach(lsn)?;
        }
        self.log.events().for_each(|event| logged.note(&event));
        let plan = Plan::discover(self.facts, self.filter, session)?;
        for file in &plan.unused {
            self.report.say(format_args!(
                "Skipping {}: the table of this name has another tablespace.",
                file.display()
            ));
        }
        if let Some((link, path)) = plan.missing.first() {
            bail!("{} names the tablespace {}, which is not there", link.display(), path.display());
        }
        Ok(plan)
    }

    /// Writes the markers for dropped and renamed tables and copies those created meanwhile.
    fn resolve_tablespaces(
        &self,
        plan: &Plan,
        logged: &mut LoggedFiles,
        copied: &mut Copied,
    ) -> anyhow::Result<Resolution> {
        for id in &copied.replaced {
            logged.note_useless(*id);
        }
        // Markers are for changed pages; what was copied whole is copied again by its new name.
        for (id, space) in &copied.spaces {
            let is_whole = copied.written.contains(&space.name.with_extension("new"));
            if is_whole && logged.name(*id) != Some(&space.name) {
                logged.note_useless(*id);
            }
        }
        let tables = copied.spaces.iter().filter(|(_, space)| space.name.is_table());
        let tables: HashMap<_, _> = tables.map(|(id, space)| (*id, space.clone())).collect();
        let listed: Vec<_> = plan.tables.iter().map(|table| table.space.clone()).collect();
        let paths: HashMap<&TableName, &Path> =
            plan.tables.iter().map(|table| (&table.space.name, table.path.as_path())).collect();
        let resolution = spaces::resolve(&tables, logged, &listed, |name| match paths.get(name) {
            Some(path) => plan::read_space_id(path, self.facts.checksum_algorithm),
            None => Ok(None),
        })?;
        if let Some((id, one, other)) = resolution.duplicates.first() {
            bail!("{} and {} are both tablespace {id}", one.display(), other.display());
        }
        self.write_markers(&resolution, &mut copied.written)?;
        let owners = logged.owners();
        let late: Vec<Source> = plan
            .tables
            .iter()
            .filter(|table| resolution.copy.binary_search(&table.space.name).is_ok())
            .map(|table| {
                let name = table.space.name.clone();
                let owner = owners.get(&name);
                let initialised = owner.is_some_and(|id| logged.is_initialised(*id));
                Source {
                    path: table.path.clone(),
                    target: name.with_extension("new"),
                    len: table.space.identity.size,
                    kind: SourceKind::LateTable { name, initialised },
                }
            })
            .collect();
        let late = self.copy_pages(late, Copied::default(), "Copying new tables", true)?;
        copied.bytes += late.bytes;
        copied.suspect.extend(late.suspect);
        copied.corrupted.retain(|_, space| match resolution.name_after(&space.name) {
            Some(name) => {
                space.name = name.to_vec();
                true
            }
            None => false,
        });
        copied.corrupted.extend(late.corrupted);
        copied.written.extend(late.written);
        Ok(resolution)
    }

    fn write_markers(
        &self,
        resolution: &Resolution,
        written: &mut HashSet<PathBuf>,
    ) -> anyhow::Result<()> {
        let write = |name: &TableName, extension, content: &[u8]| {
            let target = name.with_extension(extension);
            let result = self.sink.create(&target).and_then(|out| {
                out.write_at(0, content)?;
                out.finish(content.len() as u64)
            });
            result.with_context(|| format!("write {} to the backup", target.display()))
        };
        for name in &resolution.deleted {
            self.report.say(format_args!("DDL tracking : {} was dropped", name.display()));
            let whole = name.with_extension("new");
            if written.remove(&whole) {
                let removed = self.sink.remove(&whole);
                removed.with_context(|| format!("remove {}", whole.display()))?;
            } else {
                write(name, "del", b"")?;
            }
        }
        for (from, to) in &resolution.renamed {
            self.report.say(format_args!(
                "DDL tracking : {} was renamed to {}",
                from.display(),
                to.display()
            ));
            write(from, "ren", to.as_bytes())?;
        }
        Ok(())
    }

    /// Has the redo log and the binary log written out now, because what is left of that the
    /// server does with every commit waiting. Only a matter of speed, but a server that cannot
    /// flush its log now will not do so then: that fails the backup.
    fn write_out_logs(&self, session: &mut Session) -> anyhow::Result<()> {
        self.flush_logs(session.execute("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"))?;
        let Ok(Some(position)) = mdl::position::binlog(session) else { return Ok(()) };
        let Some(path) = self.facts.binlog_path(&position.file) else { return Ok(()) };
        if let Ok(file) = std::fs::File::open(path) {
            let _ = file.sync_data();
        }
        Ok(())
    }

    /// Without locks an account without privileges may take a backup: then the log is waited for.
    fn flush_logs(&self, flushed: Result<(), SessionError>) -> anyhow::Result<()> {
        match flushed {
            Err(error)
                if self.options.locks.kind == LockKind::None
                    && error.code() == Some(ACCESS_DENIED) =>
            {
                self.report.say(format_args!("Warning: the redo log is not flushed: {error}"));
                Ok(())
            }
            other => other.context("flush the redo log"),
        }
    }

    /// With commits blocked: the end of the redo log, in exactly this order. The LSN is read once,
    /// while the follower is held, and the log is flushed after it was read: then the file holds
    /// everything up to that LSN.
    fn read_point(
        &self,
        stage: &mut StageSession<CommitBlocked>,
        engines: &mut OtherEngines<'_>,
        aria_log: LogWatch,
    ) -> anyhow::Result<Point> {
        // Before any other statement: the server has just closed its own log tables.
        engines.copy_tails()?;
        let copied = self.log.pause()?;
        let checkpoint = self.log.newest_checkpoint()?.lsn;
        let end = stage.innodb_lsn_current()?.unwrap_or(copied);
        ensure!(copied <= end, "the redo log was copied to LSN {copied}, beyond LSN {end}");
        self.log.resume_until(end)?;
        self.flush_logs(stage.flush_engine_logs())?;
        let positions = Positions::read(stage, self.facts, self.options.positions)?;
        let aria_log = aria_log.finish()?;
        Ok(Point { checkpoint, end, positions, aria_log })
    }

    /// After the locks: the rest of the redo log, metadata, everything to stable storage. The
    /// checkpoints file comes last, because it alone says that this is a backup.
    fn finish(
        self,
        session: &mut Session,
        point: &Point,
        copied: Copied,
        logged: &mut LoggedFiles,
        started: DateTime<Local>,
        lock_time: Duration,
    ) -> anyhow::Result<Done> {
        self.report.say(format_args!(
            "mariabackup: The latest check point (for incremental): '{}'",
            point.checkpoint
        ));
        self.wait_for_end(session, point)?;
        let (log, events) = self.log.finish(LOG_PATIENCE)?;
        for event in &events {
            if let Some(what) = spaces::late_ddl(event, self.filter) {
                return Err(unexpected_ddl(self.options, &what));
            }
            logged.note(event);
        }
        // Undo tablespaces of which something was missing are good if the log truncates them.
        for (id, suspect) in &copied.suspect {
            let path = suspect.path.display();
            ensure!(logged.is_trimmed(*id), "{path} is damaged: {}", suspect.problem);
        }
        let mut corrupted = copied.corrupted;
        // Of the system tablespace the log truncates the end alone.
        corrupted.retain(|id, _| id == SpaceId::SYSTEM || !logged.is_trimmed(id));
        let metadata = target::Metadata {
            options: self.options,
            facts: self.facts,
            base: self.changes.as_ref().map(|changes| changes.since),
            checkpoint: point.checkpoint,
            end: log.end_lsn,
            positions: &point.positions,
            corrupted: &corrupted,
            started,
            lock_time,
        };
        let info = metadata.write(self.sink, session, self.report)?;
        self.report.say(format_args!(
            "Redo log (from LSN {} to {}) was copied.",
            log.checkpoint.lsn, log.end_lsn
        ));
        Ok(Done { info, corrupted })
    }

    /// Without locks: fails if tables of other engines, or definitions, are not those of `before`.
    fn check_unchanged(
        &self,
        session: &mut Session,
        before: &Plan,
        engines: &OtherEngines<'_>,
    ) -> anyhow::Result<()> {
        let now = Plan::discover(self.facts, self.filter, session)?;
        match late_change(before, &now, |target| engines.is_logged(target)) {
            Some(what) => Err(unexpected_ddl(self.options, &what)),
            None => Ok(()),
        }
    }

    /// With `innodb_flush_log_at_trx_commit=0` the flush statement may have written nothing: the
    /// log then appears with the server's next write, or with a checkpoint.
    fn wait_for_end(&self, session: &mut Session, point: &Point) -> anyhow::Result<()> {
        self.report.say(format_args!("Waiting for log copy thread to read lsn {}", point.end));
        let patience = self.facts.flush_log_at_timeout + Duration::from_secs(1);
        let patience = patience.min(WRITE_PATIENCE);
        if self.log.wait_for(point.end, patience)? {
            return Ok(());
        }
        if mdl::position::innodb_lsn_flushed(session)?.is_some_and(|lsn| lsn < point.end) {
            self.report.say("The server has not written its log; asking for a checkpoint.");
            write_checkpoint(session)?;
        }
        Ok(())
    }
}

fn write_checkpoint(session: &mut Session) -> anyhow::Result<()> {
    session
        .execute("SET GLOBAL innodb_log_checkpoint_now=1")
        .context("make the server write its redo log and a checkpoint")
}

/// The first file of `before` or `now` that was created, deleted or changed between: definitions,
/// and tables of other engines than those that `is_logged`.
fn late_change(before: &Plan, now: &Plan, is_logged: impl Fn(&Path) -> bool) -> Option<String> {
    let files = |plan: &Plan| -> BTreeMap<_, _> {
        let tables = plan.engine_tables.iter();
        let tables = tables.filter(|((db, table), _)| !is_written_under_locks(db, table));
        let engines = tables.flat_map(|(_, entry)| &entry.files);
        let files = engines.filter(|file| !is_logged(&file.target)).chain(&plan.plain);
        files.map(|file| (file.target.clone(), file.identity)).collect()
    };
    let (before, now) = (files(before), files(now));
    let changed = before.iter().find_map(|(target, identity)| match now.get(target) {
        None => Some(("delete", target)),
        Some(other) if other != identity => Some(("change", target)),
        Some(_) => None,
    });
    let created = || now.keys().find(|target| !before.contains_key(*target));
    let (what, target) = changed.or_else(|| created().map(|target| ("create", target)))?;
    Some(format!("{what} on {}", target.display()))
}

fn unexpected_ddl(options: &BackupOptions, what: &str) -> anyhow::Error {
    let (unexpected, cure) = match options.locks.kind {
        LockKind::None => ("", " Remove --no-lock option to fix."),
        LockKind::Stages | LockKind::ReadLock => ("Unexpected ", ""),
    };
    anyhow!(
        "{unexpected}DDL operation detected in the late phase of backup while executing {what}. \
         Backup is inconsistent.{cure}"
    )
}
