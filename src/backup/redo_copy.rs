//! Follows the redo log of a running server and copies it.
//!
//! The copier starts before anything else is copied and never waits while there is something to
//! read: log that the server overwrites before it was copied is lost, and the backup with it. It
//! copies whole mini-transactions that are proven to be final, up to a limit that is set under
//! the last lock, and not a byte further. While the log does not grow, the copy ends up to 20 ms
//! later than the log, unless [`RedoCopier::note_flushed`] tells it better.
//!
//! The stages: [`RedoCopier::start`] (the copy begins at the newest checkpoint),
//! [`RedoCopier::pause`], [`RedoCopier::checkpoint`] and the reading of the end LSN,
//! [`RedoCopier::set_limit`], [`RedoCopier::resume`], [`RedoCopier::drain`].

#[cfg(test)]
mod archive_tests;
mod error;
mod follow;
#[cfg(test)]
mod format_tests;
mod framing;
mod live_archive;
mod live_log;
mod shared;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use innodb::encrypted::KeySource;
use redo::header::Checkpoint;
use redo::{Lsn, PageNo, SpaceId};

use crate::hooks::dbug;

pub use self::error::RedoCopyError;
use self::follow::{Follower, Window};
use self::framing::Framing;
use self::live_log::LiveLog;
use self::shared::Shared;

/// How long an aborted thread may take to end before it is left alone.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);
/// A round takes milliseconds unless the destination is blocked.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// Something the log tells about a data file, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEvent {
    /// Start of the mini-transaction.
    pub lsn: Lsn,
    /// The tablespace.
    pub space: SpaceId,
    /// What happened to it.
    pub change: FileChange,
}

/// What happened to a data file; paths as the server opened them (`./db/table.ibd` or absolute).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// It was created.
    Create {
        /// The file.
        path: PathBuf,
    },
    /// It is about to be deleted.
    Delete {
        /// The file.
        path: PathBuf,
    },
    /// It was renamed.
    Rename {
        /// Its path before.
        from: PathBuf,
        /// Its path from now on.
        to: PathBuf,
    },
    /// Its first change since a checkpoint follows.
    Modify {
        /// The file.
        path: PathBuf,
    },
    /// Its page 0 was initialised: the tablespace was created, or an undo tablespace truncated.
    InitFirstPage,
    /// It was cut to this number of pages.
    Trim {
        /// Pages that remain.
        page_no: PageNo,
    },
}

/// How close the copy is to being overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Bytes of log that the server has written and the copy has not, as far as was noted.
    pub bytes: u64,
    /// Bytes that the server can write before it reaches the copy's position from behind.
    pub headroom: u64,
    /// Bytes of log that fit into the server's file.
    pub capacity: u64,
    /// A log size, bytes, that would be comfortable for the largest lag so far.
    pub enough: u64,
}

/// A complete copy of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedLog {
    /// The checkpoint at which the copy begins; its LSN is the copy's first LSN.
    pub checkpoint: Checkpoint,
    /// Where it ends: the limit.
    pub end_lsn: Lsn,
}

/// Copies the log in a thread of its own until its limit is reached, it fails, or it is dropped.
/// After a failure every call returns that error.
pub struct RedoCopier<W> {
    shared: Arc<Shared>,
    path: PathBuf,
    keys: Option<Arc<dyn KeySource>>,
    checkpoint: Checkpoint,
    thread: Option<JoinHandle<Option<W>>>,
}

impl<W: Write + Send + 'static> RedoCopier<W> {
    /// Starts to copy the log at `path` (`ib_logfile0`), or the archive in its folder (`ib_*.log`,
    /// 13), to `out`, from its newest checkpoint on.
    /// The header is written at once, naming `creator` (`Backup ` and a version). `keys` are those
    /// of the server, for encrypted logs.
    ///
    /// # Errors
    ///
    /// The log cannot be read or has an unusable format, its key is missing, or `out` fails.
    pub fn start(
        path: &Path,
        creator: &str,
        keys: Option<Arc<dyn KeySource>>,
        mut out: W,
    ) -> Result<(Self, Receiver<FileEvent>), RedoCopyError> {
        let log = LiveLog::open(path, keys.clone())?;
        let checkpoint = log.header().checkpoint();
        let framing = Framing::of(log.header(), keys.clone())?;
        out.write_all(&log.header().copied_header(creator))
            .map_err(|error| RedoCopyError::Write(Arc::new(error)))?;
        let capacity = log.header().capacity();
        let shared = Arc::new(Shared::new(checkpoint.lsn, checkpoint.end_lsn, capacity));
        let (events, receiver) = crossbeam_channel::unbounded();
        let follower = Follower {
            log,
            path: path.to_owned(),
            keys: keys.clone(),
            shared: Arc::clone(&shared),
            out,
            events,
            framing,
            is_complete: false,
            position: checkpoint.lsn,
            proven: checkpoint.end_lsn,
            window: Window::default(),
            tail: None,
            stall: None,
        };
        dbug::event("before_innodb_log_copy_thread_started");
        let thread = std::thread::Builder::new()
            .name("redo copy".to_owned())
            .spawn(move || run(follower))
            .map_err(|error| RedoCopyError::Thread(Arc::new(error)))?;
        let path = path.to_owned();
        Ok((Self { shared, path, keys, checkpoint, thread: Some(thread) }, receiver))
    }

    /// The checkpoint at which the copy begins.
    pub fn start_checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// End of what is copied so far. Events of everything before it have been sent.
    ///
    /// # Errors
    ///
    /// The copy has failed.
    pub fn position(&self) -> Result<Lsn, RedoCopyError> {
        self.shared.position()
    }

    /// Waits until everything before `lsn` is copied, or nothing was for `patience`; whether it is.
    ///
    /// # Errors
    ///
    /// The copy has failed.
    pub fn wait_for(&self, lsn: Lsn, patience: Duration) -> Result<bool, RedoCopyError> {
        self.shared.wait_for(lsn, patience)
    }

    /// The newest checkpoint in the server's log now.
    ///
    /// # Errors
    ///
    /// The copy has failed, or the log cannot be read.
    pub fn checkpoint(&self) -> Result<Checkpoint, RedoCopyError> {
        self.shared.position()?;
        // Opened anew: the server may have replaced the file.
        LiveLog::open(&self.path, self.keys.clone())?.checkpoint()
    }

    /// Notes that the server's log has grown to `lsn`, for [`RedoCopier::lag`] and for messages.
    pub fn note_server_lsn(&self, lsn: Lsn) {
        self.shared.note_server_lsn(lsn);
    }

    /// Notes that the server's log file holds everything before `lsn`: its status
    /// `Innodb_lsn_flushed`, or an `Innodb_lsn_current` that was read before a
    /// `FLUSH ENGINE LOGS` which is done and which writes (it does not in 10.11 with
    /// `innodb_flush_log_at_trx_commit=0`). Spares the copier about 20 ms at the end of a log that
    /// does not grow; a wrong word lets it take half written log.
    pub fn note_flushed(&self, lsn: Lsn) {
        self.shared.note_flushed(lsn);
    }

    /// How far the copy is behind the LSN last noted.
    pub fn lag(&self) -> Lag {
        self.shared.lag()
    }

    /// Holds the copy: after this nothing more is copied until [`RedoCopier::resume`]. Returns its
    /// position.
    ///
    /// # Errors
    ///
    /// The copy has failed, or does not come to rest within 30 s.
    pub fn pause(&self) -> Result<Lsn, RedoCopyError> {
        self.shared.pause(ROUND_TIMEOUT)
    }

    /// Lets a held copy go on.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Copies up to `end_lsn`, which must be the end of a mini-transaction, and no further. Can be
    /// called while the copy is held or runs.
    ///
    /// # Errors
    ///
    /// The copy has failed, or has passed `end_lsn` already.
    pub fn set_limit(&self, end_lsn: Lsn) -> Result<(), RedoCopyError> {
        self.shared.set_limit(end_lsn, ROUND_TIMEOUT)
    }

    /// Waits until the limit is reached; lets a held copy go on. Returns what was copied, and the
    /// destination, flushed.
    ///
    /// # Errors
    ///
    /// The copy has failed, has no limit, or nothing was copied for `patience`.
    pub fn drain(mut self, patience: Duration) -> Result<(CopiedLog, W), RedoCopyError> {
        let end_lsn = self.shared.drain(patience)?;
        let out = self.thread.take().and_then(|thread| thread.join().ok().flatten());
        let out = out.ok_or(RedoCopyError::Panicked)?;
        Ok((CopiedLog { checkpoint: self.checkpoint, end_lsn }, out))
    }
}

impl<W> Drop for RedoCopier<W> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shared.abort(ABORT_TIMEOUT);
        }
    }
}

/// The body of the thread: whatever happens, its end becomes known.
fn run<W: Write>(follower: Follower<W>) -> Option<W> {
    let shared = Arc::clone(&follower.shared);
    let run = std::panic::AssertUnwindSafe(|| follower.run());
    let (out, error) = match std::panic::catch_unwind(run) {
        Ok(Ok(out)) => (Some(out), None),
        Ok(Err(error)) => (None, Some(error)),
        Err(_) => (None, Some(RedoCopyError::Panicked)),
    };
    shared.ended(error);
    out
}
