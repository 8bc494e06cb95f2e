//! A session that holds locks, kept alive by a thread of its own.
//!
//! While locks are held, the server drops the connection after 30 idle seconds, and the thread
//! says something every few seconds. So a program that is stopped or cut off does not hold up the
//! server, and one that lost its locks learns it, at the latest from the statement that lets go of
//! them: it runs on the very connection that held them.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::session::{Rows, Session, SessionError};

/// Idle seconds after which the server drops the connection that holds locks.
pub(crate) const WAIT_TIMEOUT: u32 = 30;

/// Pause between signs of life.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(3);

/// Longest wait for the answer to a sign of life: longer than the server's patience, because a
/// server that is merely slow keeps the locks.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);

const ER_QUERY_INTERRUPTED: u16 = 1317;

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

/// A statement for the session's thread, and where its result goes.
struct Command {
    sql: String,
    reply: SyncSender<Result<Rows, SessionError>>,
}

/// The result of a statement that runs.
#[derive(Debug)]
pub(crate) struct Pending(Receiver<Result<Rows, SessionError>>);

impl Pending {
    /// The result, if it is there within `patience`.
    pub(crate) fn wait_for(&self, patience: Duration) -> Option<Result<Rows, SessionError>> {
        match self.0.recv_timeout(patience) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(thread_gone())),
        }
    }
}

fn thread_gone() -> SessionError {
    SessionError::LocksLost { reason: "its thread has ended".to_owned() }
}

/// The thread that owns the session. Dropped, it disconnects.
#[derive(Debug)]
pub(crate) struct KeptSession {
    commands: SyncSender<Command>,
    monitor: LockMonitor,
    connection_id: u32,
    thread: JoinHandle<()>,
}

impl KeptSession {
    /// Takes over `session`; from here on the server must hear of it.
    pub(crate) fn start(mut session: Session) -> Result<Self, SessionError> {
        session.execute(&format!("SET SESSION wait_timeout={WAIT_TIMEOUT}"))?;
        let connection_id = session.connection_id();
        let monitor = LockMonitor::default();
        let (commands, inbox) = mpsc::sync_channel(1);
        let watched = monitor.clone();
        let thread = thread::Builder::new()
            .name("locks".to_owned())
            .spawn(move || serve(session, &inbox, &watched))
            .map_err(SessionError::Thread)?;
        Ok(Self { commands, monitor, connection_id, thread })
    }

    /// The server's id of the connection.
    pub(crate) fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// A handle for other threads.
    pub(crate) fn monitor(&self) -> &LockMonitor {
        &self.monitor
    }

    /// Runs a statement.
    pub(crate) fn run(&self, sql: &str) -> Result<Rows, SessionError> {
        self.begin(sql)?.0.recv().map_err(|_| thread_gone())?
    }

    /// Begins to run a statement.
    pub(crate) fn begin(&self, sql: &str) -> Result<Pending, SessionError> {
        self.monitor.check()?;
        let (reply, result) = mpsc::sync_channel(1);
        let sent = self.commands.send(Command { sql: sql.to_owned(), reply });
        sent.map_err(|_| thread_gone())?;
        Ok(Pending(result))
    }

    /// Disconnects and waits until that is done.
    pub(crate) fn stop(self) {
        let Self { commands, thread, .. } = self;
        drop(commands);
        // The thread has nothing to report: its last statement is answered.
        let _ = thread.join();
    }
}

/// Runs statements, and signs of life between them, until nobody can send any more.
fn serve(mut session: Session, inbox: &Receiver<Command>, monitor: &LockMonitor) {
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
                // Nobody waits for the result any more if the caller gave up.
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

/// Tells the server that this program is there.
pub(crate) fn sign_of_life(session: &mut Session) -> Result<(), SessionError> {
    session.set_timeout(Some(HEARTBEAT_TIMEOUT))?;
    match session.execute("DO 1") {
        // KILL QUERY hit a statement that does nothing.
        Err(error) if error.code() == Some(ER_QUERY_INTERRUPTED) => {}
        result => result?,
    }
    session.set_timeout(None)
}
