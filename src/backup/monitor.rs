//! Watches the server's logs until DDL is blocked: how far the redo log is ahead of its copy,
//! for the progress line and for an early warning; what the redo log says about files; which new
//! files Aria's log gets, to hold them before they can be removed.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aria::log::LogWatch;
use innodb::Lsn;
use mdl::position;
use mdl::session::{ConnectOptions, Session, SessionError};

use super::log_copy::LogCopy;
use super::spaces::LoggedFiles;
use crate::report::Report;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Share of the log's capacity, in percent, at which a warning is due.
const WARN_AT: u64 = 50;

/// What is watched.
pub struct Monitor<'a> {
    /// How to reach the server once more.
    pub options: &'a ConnectOptions,
    /// The copy of the redo log.
    pub log: &'a LogCopy,
    /// Aria's log.
    pub aria_log: &'a Mutex<LogWatch>,
    /// Takes what the redo log says about files, which would otherwise pile up.
    pub logged: &'a Mutex<LoggedFiles>,
}

impl Monitor<'_> {
    /// Watches until the other end of `stop` is dropped.
    pub fn run(&self, session: Session, report: &Report, stop: &mpsc::Receiver<()>) {
        let mut session = Some(session);
        let mut warned = false;
        while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            // What cannot be opened now is missed, and told, when the end of the log is noted.
            let _ = self.aria_log.lock().unwrap_or_else(PoisonError::into_inner).poll();
            self.fold_events();
            let was_connected = session.is_some();
            match self.server_lsn(&mut session) {
                Ok(Some(lsn)) => self.log.note_server_lsn(lsn),
                // A server that is gone is noticed by those who hold its locks.
                Err(error) if was_connected => report.say(format_args!(
                    "Warning: the connection that watches the redo log was lost: {error}; \
                     connecting again"
                )),
                Ok(None) | Err(_) => {}
            }
            let lag = self.log.lag();
            report.redo_lag(lag.bytes);
            if !warned && lag.bytes > lag.capacity / 100 * WARN_AT {
                warned = true;
                report.say(format_args!(
                    "Warning: the copy of the redo log is {} bytes behind; in {} bytes the server \
                     overwrites what was not copied. innodb_log_file_size={} would be enough.",
                    lag.bytes, lag.headroom, lag.enough
                ));
            }
        }
    }

    fn fold_events(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        self.log.events().for_each(|event| logged.note(&event));
    }

    /// Asks the server, over a new connection if there is none. None is left after a failure.
    fn server_lsn(&self, session: &mut Option<Session>) -> Result<Option<Lsn>, SessionError> {
        let mut open = match session.take() {
            Some(session) => session,
            None => Session::connect(self.options)?,
        };
        let lsn = position::innodb_lsn_current(&mut open)?;
        *session = Some(open);
        Ok(lsn)
    }
}
