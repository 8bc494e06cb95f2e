//! The stages of `BACKUP STAGE`, in their order.
//!
//! The locks belong to a connection that a thread of its own keeps alive: while locks are held,
//! the server drops the connection after 30 idle seconds, and the thread says something every few
//! seconds. So a program that is stopped or cut off does not hold up the server, and a backup that
//! lost its locks learns it, at the latest from `BACKUP STAGE END`: that statement works on the
//! very connection that held the locks.

use std::marker::PhantomData;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use innodb::Lsn;

use crate::position::{self, BinlogPosition};
use crate::session::{ConnectOptions, Rows, Session, SessionError};

/// Idle seconds after which the server drops the connection that holds locks.
const WAIT_TIMEOUT: u32 = 30;

/// Pause between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Longest wait for the answer to a sign of life: longer than the server's patience, because a
/// server that is merely slow keeps the locks.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for a lock, in seconds, where none is given: a year, the longest there is.
const LOCK_WAIT_TIMEOUT: u64 = 31_536_000;

const FLUSH_ENGINE_LOGS: &str = "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS";

const ER_QUERY_INTERRUPTED: u16 = 1317;

/// No stage yet.
#[derive(Debug)]
pub struct Idle(());
/// `BACKUP STAGE START`: Aria's and MyISAM's log cleaning is stopped.
#[derive(Debug)]
pub struct Started(());
/// `BACKUP STAGE FLUSH`: new writes to non-transactional tables are blocked.
#[derive(Debug)]
pub struct Flushed(());
/// `BACKUP STAGE BLOCK_DDL`: DDL and all writes to non-transactional tables are blocked.
#[derive(Debug)]
pub struct DdlBlocked(());
/// `BACKUP STAGE BLOCK_COMMIT`: commits are blocked.
#[derive(Debug)]
pub struct CommitBlocked(());

/// The session that holds the backup's locks. Dropped in any state, it lets go of them.
#[derive(Debug)]
pub struct StageSession<S> {
    actor: Actor,
    waited: Duration,
    /// When DDL began to be blocked.
    ddl_since: Option<Instant>,
    /// When commits began to be blocked.
    commit_since: Option<Instant>,
    stage: PhantomData<S>,
}

/// How long the server was held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Time from `BLOCK_DDL` asked for until END was answered.
    pub ddl_blocked: Duration,
    /// Time from `BLOCK_COMMIT` asked for until END was answered.
    pub commit_blocked: Duration,
}

/// Tells from any thread whether the locks are still held.
#[derive(Debug, Clone, Default)]
pub struct LockMonitor {
    lost: Arc<OnceLock<String>>,
}

impl LockMonitor {
    /// Costs nothing.
    ///
    /// # Errors
    ///
    /// [`SessionError::LocksLost`] once the connection is known to be gone.
    pub fn check(&self) -> Result<(), SessionError> {
        match self.lost.get() {
            None => Ok(()),
            Some(reason) => Err(SessionError::LocksLost { reason: reason.clone() }),
        }
    }

    fn set_lost(&self, reason: &str) {
        self.lost.get_or_init(|| reason.to_owned());
    }
}

impl<S> StageSession<S> {
    /// How long the server took to enter the stage.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The server's id of the connection.
    pub fn connection_id(&self) -> u32 {
        self.actor.connection_id
    }

    /// Whether the locks are still held, as far as is known.
    ///
    /// # Errors
    ///
    /// [`SessionError::LocksLost`] if not.
    pub fn check(&self) -> Result<(), SessionError> {
        self.actor.monitor.check()
    }

    /// A handle for other threads that copy under the locks.
    pub fn monitor(&self) -> LockMonitor {
        self.actor.monitor.clone()
    }

    fn enter<T>(self, stage: &str) -> Result<StageSession<T>, SessionError> {
        let begun = Instant::now();
        self.actor.run(format!("BACKUP STAGE {stage}"))?;
        Ok(StageSession {
            actor: self.actor,
            waited: begun.elapsed(),
            ddl_since: self.ddl_since,
            commit_since: self.commit_since,
            stage: PhantomData,
        })
    }
}

impl StageSession<Idle> {
    /// Connects. `lock_wait_timeout`: longest wait for each stage in seconds; a year when absent.
    ///
    /// # Errors
    ///
    /// As [`Session::connect`].
    pub fn connect(
        options: &ConnectOptions,
        lock_wait_timeout: Option<u64>,
    ) -> Result<Self, SessionError> {
        let mut session = Session::connect(options)?;
        let seconds = lock_wait_timeout.unwrap_or(LOCK_WAIT_TIMEOUT).min(LOCK_WAIT_TIMEOUT);
        session.execute(&format!("SET SESSION lock_wait_timeout={seconds}"))?;
        let actor = Actor::start(session).map_err(SessionError::Thread)?;
        let waited = Duration::ZERO;
        Ok(Self { actor, waited, ddl_since: None, commit_since: None, stage: PhantomData })
    }

    /// Enters START; from here on the connection must be heard of.
    ///
    /// # Errors
    ///
    /// [`SessionError`]; the locks, if any, are let go of. So for all stages.
    pub fn start(self) -> Result<StageSession<Started>, SessionError> {
        self.actor.run(format!("SET SESSION wait_timeout={WAIT_TIMEOUT}"))?;
        self.enter("START")
    }
}

impl StageSession<Started> {
    /// Enters FLUSH.
    ///
    /// # Errors
    ///
    /// As [`start`](StageSession::start).
    pub fn flush(self) -> Result<StageSession<Flushed>, SessionError> {
        self.enter("FLUSH")
    }
}

impl StageSession<Flushed> {
    /// Enters `BLOCK_DDL`; waits for statements in progress that write non-transactional tables.
    ///
    /// # Errors
    ///
    /// As [`start`](StageSession::start).
    pub fn block_ddl(mut self) -> Result<StageSession<DdlBlocked>, SessionError> {
        self.ddl_since = Some(Instant::now());
        self.enter("BLOCK_DDL")
    }
}

impl StageSession<DdlBlocked> {
    /// Enters `BLOCK_COMMIT`; waits for commits in progress.
    ///
    /// # Errors
    ///
    /// As [`start`](StageSession::start).
    pub fn block_commit(mut self) -> Result<StageSession<CommitBlocked>, SessionError> {
        self.commit_since = Some(Instant::now());
        self.enter("BLOCK_COMMIT")
    }
}

impl StageSession<CommitBlocked> {
    /// Runs a statement on the connection that holds the locks.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub fn query(&mut self, sql: &str) -> Result<Rows, SessionError> {
        self.actor.run(sql.to_owned())
    }

    /// End of InnoDB's log in memory: the end of a mini-transaction.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn innodb_lsn_current(&mut self) -> Result<Lsn, SessionError> {
        position::current_lsn_by(|sql| self.query(sql))
    }

    /// Makes the engines write their logs.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn flush_engine_logs(&mut self) -> Result<(), SessionError> {
        self.query(FLUSH_ENGINE_LOGS).map(drop)
    }

    /// Position in the binary log; `None` if the server writes none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn binlog_position(&mut self) -> Result<Option<BinlogPosition>, SessionError> {
        BinlogPosition::read(|sql| self.query(sql))
    }

    /// Enters END, which lets go of all locks, and disconnects.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: then the locks were lost before, and the backup is not consistent.
    pub fn end(self) -> Result<Ended, SessionError> {
        let ended: StageSession<Idle> = self.enter("END")?;
        let since = |begun: Option<Instant>| begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let result = Ended {
            ddl_blocked: since(ended.ddl_since),
            commit_blocked: since(ended.commit_since),
        };
        ended.actor.stop();
        Ok(result)
    }
}

/// A statement for the connection's thread, and where its result goes.
struct Command {
    sql: String,
    reply: SyncSender<Result<Rows, SessionError>>,
}

/// The thread that owns the connection.
#[derive(Debug)]
struct Actor {
    commands: SyncSender<Command>,
    monitor: LockMonitor,
    connection_id: u32,
    thread: JoinHandle<()>,
}

impl Actor {
    fn start(session: Session) -> std::io::Result<Self> {
        let connection_id = session.connection_id();
        let monitor = LockMonitor::default();
        let (commands, inbox) = mpsc::sync_channel(1);
        let watched = monitor.clone();
        let thread = thread::Builder::new()
            .name("backup-stage".to_owned())
            .spawn(move || serve(session, &inbox, &watched))?;
        Ok(Self { commands, monitor, connection_id, thread })
    }

    fn run(&self, sql: String) -> Result<Rows, SessionError> {
        self.monitor.check()?;
        let (reply, result) = mpsc::sync_channel(1);
        let gone = |_| SessionError::LocksLost { reason: "its thread has ended".to_owned() };
        self.commands.send(Command { sql, reply }).map_err(|_| gone(mpsc::RecvError))?;
        result.recv().map_err(gone)?
    }

    /// Disconnects and waits until that is done.
    fn stop(self) {
        let Self { commands, thread, .. } = self;
        drop(commands);
        // The thread has nothing to report: its last statement is answered.
        let _ = thread.join();
    }
}

/// Runs statements, and signs of life between them, until nobody can send any more.
fn serve(mut session: Session, inbox: &mpsc::Receiver<Command>, monitor: &LockMonitor) {
    loop {
        match inbox.recv_timeout(HEARTBEAT) {
            Ok(Command { sql, reply }) => {
                let result = match monitor.check() {
                    Ok(()) => session.query(&sql),
                    Err(lost) => Err(lost),
                };
                if let Err(error @ SessionError::Lost { .. }) = &result {
                    monitor.set_lost(&error.to_string());
                }
                // Nobody waits for the result if the caller has panicked.
                let _ = reply.send(result);
            }
            Err(RecvTimeoutError::Timeout) if monitor.check().is_ok() => {
                if let Err(error) = sign_of_life(&mut session) {
                    monitor.set_lost(&error.to_string());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn sign_of_life(session: &mut Session) -> Result<(), SessionError> {
    session.set_timeout(Some(HEARTBEAT_TIMEOUT))?;
    match session.execute("DO 1") {
        // KILL QUERY hit a statement that does nothing.
        Err(error) if error.code() == Some(ER_QUERY_INTERRUPTED) => {}
        result => result?,
    }
    session.set_timeout(None)
}
