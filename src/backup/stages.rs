//! Taking the locks of a backup one after the other: what is said before and after each, who is
//! named while it is waited for, and who is ended to get it.
//!
//! From `BLOCK_DDL` to the end a thread of its own writes what is said: a slow reader of the
//! messages must not keep the server waiting.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use mdl::definition_locks::{DefinitionLocks, NotLocked};
use mdl::facts::ServerFacts;
use mdl::holders::{self, Holder, Holders};
use mdl::privileges::{Grants, Privilege};
use mdl::rocksdb::Checkpoint;
use mdl::session::{Session, SessionError};
use mdl::stage::{
    CommitBlocked, DdlBlocked, Ended, Flushed, LockKind, LockMonitor, StageSession, Started,
};
use mdl::wait::{Notice, Wait, Watch};

use super::log_copy::LogCopy;
use crate::filter::TableFilter;
use crate::hint::WithHint;
use crate::hooks::dbug;
use crate::options::BackupOptions;
use crate::report::Report;

/// How often it is told who holds up a lock.
const ANNOUNCEMENT: Duration = Duration::from_secs(10);
/// How often the list of processes is read while a lock is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// A step from one stage to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Flush,
    BlockDdl,
    BlockCommit,
    End,
}

/// Where no lock is had.
const NOTHING: &str = "nothing waits";

impl Step {
    /// What messages call it; `None` where it is no step of its own.
    fn name(self, kind: LockKind) -> Option<&'static str> {
        match (kind, self) {
            (LockKind::ReadLock, Self::Flush) => Some("FLUSH TABLES"),
            (LockKind::ReadLock, Self::BlockDdl) => Some("FLUSH TABLES WITH READ LOCK"),
            (LockKind::ReadLock, Self::End) => Some("UNLOCK TABLES"),
            (LockKind::ReadLock, Self::Start | Self::BlockCommit) => None,
            (_, Self::Start) => Some("BACKUP STAGE START"),
            (_, Self::Flush) => Some("BACKUP STAGE FLUSH"),
            (_, Self::BlockDdl) => Some("BACKUP STAGE BLOCK_DDL"),
            (_, Self::BlockCommit) => Some("BACKUP STAGE BLOCK_COMMIT"),
            (_, Self::End) => Some("BACKUP STAGE END"),
        }
    }

    /// What the locks of the steps before keep waiting, as seen on 10.11 and 11.8.
    fn blocked_before(self, kind: LockKind) -> &'static str {
        match (kind, self) {
            (LockKind::Stages, Self::BlockDdl) => {
                "only writes to tables without transactions, and DDL on them, wait"
            }
            (LockKind::Stages, Self::BlockCommit) => {
                "DDL and writes to tables without transactions wait, but no commit"
            }
            _ => NOTHING,
        }
    }
}

/// What all waits for locks have in common.
pub struct Stages<'a> {
    options: &'a BackupOptions,
    report: &'a Report,
    /// `--lock-ddl-per-table`
    definitions: Option<DefinitionLocks>,
    /// Statements that were ended, or could not be.
    killed: RefCell<HashSet<(u64, u64)>>,
    /// Why a wait was given up.
    failed: RefCell<Option<anyhow::Error>>,
}

impl<'a> Stages<'a> {
    /// Has taken none yet.
    pub fn new(options: &'a BackupOptions, report: &'a Report) -> Self {
        let (killed, failed) = <_>::default();
        Self { options, report, definitions: None, killed, failed }
    }

    /// Waits, while nobody is held up yet, until no other backup has a checkpoint of `MyRocks`.
    /// `None` on a server without that engine.
    ///
    /// # Errors
    ///
    /// [`SessionError`]
    pub fn reserve_checkpoint(
        &self,
        facts: &ServerFacts,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<Option<Checkpoint>> {
        let Some(dir) = facts.rocksdb_datadir() else { return Ok(None) };
        self.report.say("Reserving the checkpoint of MyRocks");
        let Self { options, .. } = self;
        let (connection, patience) = (&options.connection, options.locks.patience);
        let mut watch = self.watch(None, log, session);
        let checkpoint = Checkpoint::reserve(connection, dir, &facts.datadir, patience, &mut watch);
        drop(watch);
        self.explained(checkpoint).context("reserve the checkpoint of MyRocks").map(Some)
    }

    /// Handles that tell whether the locks of this and of `stage` are held.
    pub fn monitors<S>(&self, stage: &StageSession<S>) -> Vec<LockMonitor> {
        let definitions = self.definitions.as_ref().map(DefinitionLocks::monitor);
        definitions.into_iter().chain([stage.monitor()]).collect()
    }

    /// `--lock-ddl-per-table`, before all stages, of the tables that `filter` takes.
    ///
    /// # Errors
    ///
    /// [`SessionError`]
    pub fn lock_definitions(
        &mut self,
        filter: &TableFilter,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<()> {
        if !self.options.lock_ddl_per_table {
            return Ok(());
        }
        let (options, report) = (self.options, self.report);
        report.say("Locking the definition of each InnoDB table (--lock-ddl-per-table)");
        dbug::rename_under_metadata_lock();
        let begun = Instant::now();
        let not_locked = |NotLocked { space_id, table, error }: NotLocked| {
            report.say(format_args!(
                "Warning : locking MDL failed for space id {space_id}, name {}: {error}",
                table.quoted()
            ));
        };
        let mut watch = self.watch(None, log, session);
        let patience = options.locks.patience;
        let wanted = |space: &str| filter.takes(Path::new(&format!("{space}.ibd")));
        let connection = &options.connection;
        let taken = DefinitionLocks::take(connection, patience, &mut watch, wanted, not_locked);
        drop(watch);
        let taken = self.explained(taken)?;
        report.say(format_args!(
            "Locked the definitions of {} tables; waited {} ms",
            taken.count(),
            begun.elapsed().as_millis()
        ));
        self.definitions = Some(taken);
        dbug::ddl_waits_for_metadata_lock();
        Ok(())
    }

    /// Enters START.
    ///
    /// # Errors
    ///
    /// The stage was not reached: then no lock is left. So for all stages.
    pub fn start(
        &self,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<StageSession<Started>> {
        if self.options.locks.kind == LockKind::None {
            self.report.say(
                "Warning: no lock is taken (--no-lock). Tables of other engines than InnoDB may \
                 be inconsistent, and the position in the binary log is not that of the backup: \
                 --prepare writes InnoDB's own to xtrabackup_binlog_pos_innodb.",
            );
        }
        let stage = StageSession::connect(&self.options.connection, self.options.locks)?;
        self.enter(Step::Start, stage, StageSession::start, log, session)
    }

    /// Enters FLUSH.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn flush(
        &self,
        stage: StageSession<Started>,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<StageSession<Flushed>> {
        self.say_finished(Step::Start, stage.held());
        self.enter(Step::Flush, stage, StageSession::flush, log, session)
    }

    /// Enters `BLOCK_DDL`. From here to the end, nobody who speaks waits until it is written.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn block_ddl(
        &self,
        stage: StageSession<Flushed>,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<StageSession<DdlBlocked>> {
        self.say_finished(Step::Flush, stage.held());
        if self.options.locks.kind == LockKind::ReadLock {
            self.wait_for_long_queries(log, session)?;
        }
        if self.definitions.is_some() {
            self.kill_waiting_ddl(session);
        }
        self.report.detach().context("start the thread that writes messages")?;
        self.enter(Step::BlockDdl, stage, StageSession::block_ddl, log, session)
    }

    /// Enters `BLOCK_COMMIT`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn block_commit(
        &self,
        stage: StageSession<DdlBlocked>,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<StageSession<CommitBlocked>> {
        if self.options.locks.kind != LockKind::ReadLock {
            self.say_finished(Step::BlockDdl, stage.held());
        }
        self.enter(Step::BlockCommit, stage, StageSession::block_commit, log, session)
    }

    fn enter<S, T>(
        &self,
        step: Step,
        stage: StageSession<S>,
        enter: fn(StageSession<S>, &mut Watch<'_>) -> Result<StageSession<T>, SessionError>,
        log: &LogCopy,
        session: &mut Session,
    ) -> anyhow::Result<StageSession<T>> {
        let name = step.name(self.options.locks.kind);
        if let Some(name) = &name {
            let verb = if step == Step::BlockDdl { "Started" } else { "Starting" };
            self.report.say(format_args!("{verb} {name}"));
            if step == Step::Start {
                self.report.say("Acquiring BACKUP LOCKS...");
            }
        }
        let stage = enter(stage, &mut self.watch(Some(step), log, session));
        let stage = self.explained(stage)?;
        if let Some(name) = name {
            let waited = stage.waited().as_millis();
            self.report.say(format_args!("Acquired locks for {name}; waited {waited} ms"));
        }
        Ok(stage)
    }

    /// Releases the locks and tells how long they were held.
    ///
    /// # Errors
    ///
    /// The locks were lost before.
    pub fn end(self, stage: StageSession<CommitBlocked>) -> anyhow::Result<Ended> {
        let held = stage.held();
        let ended = stage.end()?;
        match self.options.locks.kind {
            LockKind::ReadLock => self.say_finished(Step::BlockDdl, ended.commit_blocked),
            _ => self.say_finished(Step::BlockCommit, held),
        }
        if let Some(name) = Step::End.name(self.options.locks.kind) {
            self.report.say(format_args!("Executing {name}"));
        }
        if let Some(definitions) = self.definitions {
            definitions.release().context("let go of the definitions of tables")?;
        }
        if self.options.locks.kind == LockKind::None {
            self.report.attach();
            return Ok(ended);
        }
        self.report.say(format_args!(
            "All tables unlocked; DDL was blocked for {} ms, commits for {} ms",
            ended.ddl_blocked.as_millis(),
            ended.commit_blocked.as_millis()
        ));
        self.report.attach();
        Ok(ended)
    }

    fn say_finished(&self, step: Step, held: Duration) {
        if let Some(name) = step.name(self.options.locks.kind) {
            let held = held.as_millis();
            self.report.say(format_args!("Finished {name}; held {held} ms"));
        }
    }

    /// Puts in the place of a wait that was given up the reason for that.
    fn explained<T>(&self, result: Result<T, SessionError>) -> anyhow::Result<T> {
        match (result, self.failed.take()) {
            (Err(SessionError::GaveUp { statement }), Some(reason)) => {
                Err(reason.context(format!("gave up waiting for {statement}")))
            }
            (result, _) => Ok(result?),
        }
    }

    /// Looks on while the lock of a step is waited for, or one before all steps.
    fn watch<'w>(
        &'w self,
        step: Option<Step>,
        log: &'w LogCopy,
        session: &'w mut Session,
    ) -> Watch<'w> {
        let kind = self.options.locks.kind;
        let mut announced = Duration::ZERO;
        let mut looked = Duration::ZERO;
        let onlooker = move |session: &mut Session, wait: &Wait<'_>, notice: Notice<'_>| {
            if let Err(error) = log.check() {
                *self.failed.borrow_mut() = Some(error.into());
                return ControlFlow::Break(());
            }
            match notice {
                Notice::SteppedBack(holders) => {
                    announced = wait.waited;
                    let blocked = step.map_or(NOTHING, |step| step.blocked_before(kind));
                    self.say_stepped_back(wait, blocked, holders);
                }
                Notice::Waiting if wait.waited >= announced + ANNOUNCEMENT => {
                    announced = wait.waited;
                    // A server that does not answer is noticed by those who need it.
                    if let Ok(holders) = wait.holders(session) {
                        self.say_waiting(wait, &holders);
                    }
                }
                Notice::Waiting => {}
            }
            if wait.waited >= looked + LOOK {
                looked = wait.waited;
                if self.definitions.is_some() {
                    self.kill_waiting_ddl(session);
                }
                if (kind, step) == (LockKind::ReadLock, Some(Step::BlockDdl)) {
                    self.kill_long_queries(session, wait.waited);
                }
            }
            ControlFlow::Continue(())
        };
        Watch::new(session, Box::new(onlooker))
    }

    fn say_waiting(&self, wait: &Wait<'_>, holders: &Holders) {
        let seconds = wait.waited.as_secs();
        self.report.say(format_args!(
            "Waiting for {} for {seconds} s, held up by {holders}",
            wait.statement
        ));
    }

    fn say_stepped_back(&self, wait: &Wait<'_>, blocked: &str, holders: &Holders) {
        let seconds = wait.waited.as_secs();
        self.report.say(format_args!(
            "{} was not granted in {seconds} s and is asked for again later, so that others are \
             not held up: until then {blocked}; held up by {holders}",
            wait.statement
        ));
    }

    /// `--ftwrl-wait-timeout`: nothing else is held up meanwhile.
    fn wait_for_long_queries(&self, log: &LogCopy, session: &mut Session) -> anyhow::Result<()> {
        let Some(patience) = self.options.locks.patience else { return Ok(()) };
        let rule = self.options.long_queries;
        let (seconds, threshold) = (patience.as_secs(), rule.wait_threshold.as_secs());
        self.report.say(format_args!(
            "Waiting {seconds} seconds for queries running longer than {threshold} seconds to \
             finish"
        ));
        let begun = Instant::now();
        let mut named = HashSet::new();
        loop {
            log.check()?;
            let mut sessions = holders::statements(session)?;
            sessions.retain(|holder| {
                holder.seconds >= threshold
                    && holder.statement.as_deref().is_some_and(|sql| rule.wait_type.contains(sql))
            });
            if sessions.is_empty() {
                return Ok(());
            }
            for holder in &sessions {
                if named.insert((holder.id, holder.query_id)) {
                    self.report.say(format_args!("Waiting for query: {holder}"));
                }
            }
            if begun.elapsed() >= patience {
                let holders = Holders { sessions, ..Holders::default() };
                self.report.say("Unable to obtain lock. Please try again later.");
                return Err(anyhow::anyhow!(
                    "FLUSH TABLES WITH READ LOCK was not asked for: after {seconds} s there are \
                     queries that have been running for more than {threshold} s: {holders}"
                ))
                .hint("wait longer (--ftwrl-wait-timeout), or for less (--ftwrl-wait-query-type)");
            }
            thread::sleep(LOOK);
        }
    }

    /// `--kill-long-queries-timeout`: what ran before the lock was asked for.
    fn kill_long_queries(&self, session: &mut Session, waited: Duration) {
        let rule = self.options.long_queries;
        if rule.kill_after.is_none_or(|kill_after| waited < kill_after) {
            return;
        }
        self.kill(session, "Killing query", |holder| {
            holder.seconds >= waited.as_secs()
                && holder.statement.as_deref().is_some_and(|sql| rule.kill_type.contains(sql))
        });
    }

    /// DDL that waits for our locks on definitions may hold what we wait for. A replica whose SQL
    /// thread was ended would stand still: it is named alone.
    fn kill_waiting_ddl(&self, session: &mut Session) {
        self.kill(session, "Killing MDL waiting", Holder::is_waiting_ddl);
    }

    fn kill(&self, session: &mut Session, words: &str, which: impl Fn(&Holder) -> bool) {
        let Ok(statements) = holders::statements(session) else { return };
        for holder in statements.iter().filter(|holder| which(holder)) {
            if !self.killed.borrow_mut().insert((holder.id, holder.query_id)) {
                continue;
            }
            if holder.is_system() {
                self.report.say(format_args!(
                    "Not killed, because it is a thread of the server, as of a replica: {holder}"
                ));
                continue;
            }
            self.report.say(format_args!("{words} {holder}"));
            if let Err(error) = holder.kill(session) {
                self.report.say(format_args!("Warning: it cannot be killed: {error}"));
            }
        }
    }
}

/// Warns if other accounts' statements are to be killed and may not be.
///
/// # Errors
///
/// [`SessionError`]
pub fn warn_of_privileges(
    options: &BackupOptions,
    report: &Report,
    session: &mut Session,
) -> Result<(), SessionError> {
    let kills_queries =
        options.locks.kind == LockKind::ReadLock && options.long_queries.kill_after.is_some();
    if options.lock_ddl_per_table || kills_queries {
        let needed = [Privilege::ConnectionAdmin];
        if let Err(missing) = Grants::read(session)?.require(&needed) {
            missing.lines().iter().for_each(|line| report.say(format_args!("Warning: {line}")));
        }
    }
    Ok(())
}

/// Fails if one of the locks is lost.
///
/// # Errors
///
/// [`SessionError::LocksLost`]
pub fn check(monitors: &[LockMonitor]) -> Result<(), SessionError> {
    monitors.iter().try_for_each(LockMonitor::check)
}
