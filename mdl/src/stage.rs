//! The locks of a backup, in their order: the stages of `BACKUP STAGE`, or one global read lock in
//! their place, or none at all.
//!
//! The locks belong to a connection that is kept alive: see [`LockMonitor`].

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use innodb::Lsn;

use crate::galera::GaleraPosition;
use crate::kept::KeptSession;
use crate::position::{self, BinlogPosition};
use crate::replica::ReplicaPosition;
use crate::session::{ConnectOptions, Rows, Session, SessionError};
use crate::wait::{self, Manner, Watch};

pub use crate::kept::LockMonitor;

const FLUSH_ENGINE_LOGS: &str = "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS";

/// What makes the moment for which a backup stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LockKind {
    /// `BACKUP STAGE`
    #[default]
    Stages,
    /// `FLUSH TABLES WITH READ LOCK`: blocks DDL, writes and commits, all at once.
    ReadLock,
    /// Nothing.
    None,
}

/// The locks that a backup takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LockOptions {
    /// Which.
    pub kind: LockKind,
    /// Longest wait for each of them; for ever when absent.
    pub patience: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Flush,
    BlockDdl,
    BlockCommit,
    End,
}

impl LockKind {
    /// The statement that enters a stage, if it takes one.
    fn statement(self, stage: Stage) -> Option<&'static str> {
        match (self, stage) {
            (Self::Stages, Stage::Start) => Some("BACKUP STAGE START"),
            (Self::Stages, Stage::Flush) => Some("BACKUP STAGE FLUSH"),
            (Self::Stages, Stage::BlockDdl) => Some("BACKUP STAGE BLOCK_DDL"),
            (Self::Stages, Stage::BlockCommit) => Some("BACKUP STAGE BLOCK_COMMIT"),
            (Self::Stages, Stage::End) => Some("BACKUP STAGE END"),
            (Self::ReadLock, Stage::Flush) => Some("FLUSH NO_WRITE_TO_BINLOG TABLES"),
            (Self::ReadLock, Stage::BlockDdl) => Some("FLUSH TABLES WITH READ LOCK"),
            (Self::ReadLock, Stage::End) => Some("UNLOCK TABLES"),
            (Self::ReadLock, Stage::Start | Stage::BlockCommit) | (Self::None, _) => None,
        }
    }
}

impl Stage {
    /// A request for START or `BLOCK_DDL` makes DDL wait, one for `BLOCK_COMMIT` all commits. FLUSH
    /// is granted at once; writes to non-transactional tables wait from there on.
    fn manner(self) -> Manner {
        match self {
            Self::Flush | Self::End => Manner::Quiet,
            Self::Start | Self::BlockDdl | Self::BlockCommit => Manner::InTheWay,
        }
    }
}

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
    session: KeptSession,
    options: LockOptions,
    waited: Duration,
    reached: Instant,
    /// Since when DDL has been blocked, as if there had been no pauses between attempts.
    ddl_since: Option<Instant>,
    /// Since when commits have, likewise.
    commit_since: Option<Instant>,
    stage: PhantomData<S>,
}

/// How long the server was held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Time for which `BLOCK_DDL` was asked for and held, without pauses between attempts.
    pub ddl_blocked: Duration,
    /// The same of `BLOCK_COMMIT`. Of a global read lock, both are its own.
    pub commit_blocked: Duration,
}

impl<S> StageSession<S> {
    /// How long the server took to enter the stage.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How long the stage has lasted.
    pub fn held(&self) -> Duration {
        self.reached.elapsed()
    }

    /// The server's id of the connection.
    pub fn connection_id(&self) -> u32 {
        self.session.connection_id()
    }

    /// Whether the locks are still held, as far as is known.
    ///
    /// # Errors
    ///
    /// [`SessionError::LocksLost`] if not.
    pub fn check(&self) -> Result<(), SessionError> {
        self.session.monitor().check()
    }

    /// A handle for other threads that copy under the locks.
    pub fn monitor(&self) -> LockMonitor {
        self.session.monitor().clone()
    }

    fn enter<T>(
        self,
        stage: Stage,
        watch: &mut Watch<'_>,
    ) -> Result<StageSession<T>, SessionError> {
        let begun = Instant::now();
        let mut asked = Duration::ZERO;
        let Self { session, options, mut ddl_since, mut commit_since, .. } = self;
        if let Some(sql) = options.kind.statement(stage) {
            asked = wait::acquire(&session, sql, stage.manner(), options.patience, watch)?;
        }
        let reached = Instant::now();
        // An attempt that fails blocks as one that does not; in the pauses nothing is blocked.
        let since = reached.checked_sub(asked).or(Some(reached));
        match (options.kind, stage) {
            (LockKind::Stages, Stage::BlockDdl) => ddl_since = since,
            (LockKind::Stages, Stage::BlockCommit) => commit_since = since,
            (LockKind::ReadLock, Stage::BlockDdl) => (ddl_since, commit_since) = (since, since),
            _ => {}
        }
        let (waited, stage) = (reached - begun, PhantomData);
        Ok(StageSession { session, options, waited, reached, ddl_since, commit_since, stage })
    }
}

impl StageSession<Idle> {
    /// Connects; from here on the connection must be heard of.
    ///
    /// # Errors
    ///
    /// As [`Session::connect`].
    pub fn connect(options: &ConnectOptions, locks: LockOptions) -> Result<Self, SessionError> {
        Ok(Self {
            session: KeptSession::start(Session::connect(options)?)?,
            options: locks,
            waited: Duration::ZERO,
            reached: Instant::now(),
            ddl_since: None,
            commit_since: None,
            stage: PhantomData,
        })
    }

    /// Enters START.
    ///
    /// # Errors
    ///
    /// [`SessionError`]; the locks, if any, are let go of. So for all stages.
    pub fn start(self, watch: &mut Watch<'_>) -> Result<StageSession<Started>, SessionError> {
        self.enter(Stage::Start, watch)
    }
}

impl StageSession<Started> {
    /// Enters FLUSH.
    ///
    /// # Errors
    ///
    /// As [`start`](StageSession::start).
    pub fn flush(self, watch: &mut Watch<'_>) -> Result<StageSession<Flushed>, SessionError> {
        self.enter(Stage::Flush, watch)
    }
}

impl StageSession<Flushed> {
    /// Enters `BLOCK_DDL`; waits for statements in progress that write non-transactional tables.
    /// A global read lock waits for all that write, and blocks commits too.
    ///
    /// # Errors
    ///
    /// As [`start`](StageSession::start).
    pub fn block_ddl(
        self,
        watch: &mut Watch<'_>,
    ) -> Result<StageSession<DdlBlocked>, SessionError> {
        self.enter(Stage::BlockDdl, watch)
    }
}

impl StageSession<DdlBlocked> {
    /// Enters `BLOCK_COMMIT`; waits for commits in progress.
    ///
    /// # Errors
    ///
    /// As [`start`](StageSession::start).
    pub fn block_commit(
        self,
        watch: &mut Watch<'_>,
    ) -> Result<StageSession<CommitBlocked>, SessionError> {
        self.enter(Stage::BlockCommit, watch)
    }
}

impl StageSession<CommitBlocked> {
    /// Runs a statement on the connection that holds the locks.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub fn query(&mut self, sql: &str) -> Result<Rows, SessionError> {
        self.session.run(sql)
    }

    /// End of InnoDB's log in memory: the end of a mini-transaction.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn innodb_lsn_current(&mut self) -> Result<Option<Lsn>, SessionError> {
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

    /// Where the server goes on as a replica; `None` if it is none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn replica_position(&mut self) -> Result<Option<ReplicaPosition>, SessionError> {
        ReplicaPosition::read(|sql| self.query(sql))
    }

    /// What the server tells as a node of Galera; `None` if it is none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn galera_position(&mut self) -> Result<Option<GaleraPosition>, SessionError> {
        GaleraPosition::read(|sql| self.query(sql))
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
        // Without locks the connection proves nothing, but it must not have failed unnoticed.
        self.session.run(self.options.kind.statement(Stage::End).unwrap_or("DO 1"))?;
        let since = |begun: Option<Instant>| begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let ended =
            Ended { ddl_blocked: since(self.ddl_since), commit_blocked: since(self.commit_since) };
        self.session.stop();
        Ok(ended)
    }
}
