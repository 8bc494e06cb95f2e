//! Watches the server's logs while files are copied: how far the redo log is ahead of its copy,
//! for the progress line and for an early warning; which new files Aria's log gets, to hold them
//! before they can be removed.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aria::log::LogWatch;
use mdl::position;
use mdl::session::Session;

use super::log_copy::LogCopy;
use crate::report::Report;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Share of the log's capacity, in percent, at which a warning is due.
const WARN_AT: u64 = 50;

/// Watches until the other end of `stop` is dropped.
pub fn run(
    mut session: Session,
    log: &LogCopy,
    aria_log: &Mutex<LogWatch>,
    report: &Report,
    stop: &mpsc::Receiver<()>,
) {
    let mut warned = false;
    while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // A server that is gone is noticed by those who need it.
        let Ok(lsn) = position::innodb_lsn_current(&mut session) else { return };
        // What cannot be opened now is missed, and told, when the end of the log is noted.
        let _ = aria_log.lock().unwrap_or_else(PoisonError::into_inner).poll();
        log.note_server_lsn(lsn);
        let lag = log.lag();
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
