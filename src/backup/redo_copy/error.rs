//! Why the redo log could not be copied.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use innodb::encrypted::KeyError;
use redo::blocks::CopyError;
use redo::header::HeaderError;
use redo::{Lsn, RedoError};

/// Why the follower stopped. Cloned to every caller that asks afterwards.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RedoCopyError {
    /// The log could not be opened, examined or read.
    #[error("cannot {action} {}", path.display())]
    Read {
        /// What was tried.
        action: &'static str,
        /// The log file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The log is not one that can be copied.
    #[error("cannot use {}", path.display())]
    Header {
        /// The log file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// The destination does not take the copy.
    #[error("cannot write ib_logfile0, the copy of the redo log, to the backup")]
    Write(#[source] Arc<io::Error>),
    /// The thread could not be started.
    #[error("cannot start the thread that copies the redo log")]
    Thread(#[source] Arc<io::Error>),
    /// A mini-transaction with the right checksum holds a record that is not understood.
    #[error("the redo log cannot be understood")]
    Record(#[from] RedoError),
    /// The log is encrypted, and its key is not to be had.
    #[error("the redo log is encrypted with key {}", redo::encryption::KEY_ID)]
    Key(#[source] Arc<KeyError>),
    /// The log is encrypted, and the server names no key management.
    #[error(
        "the redo log is encrypted with key {}, and no keys are given",
        redo::encryption::KEY_ID
    )]
    NoKeys,
    /// What begins there is no mini-transaction, in blocks that are as the server wrote them.
    #[error(
        "there is no mini-transaction at LSN {lsn}: the redo log is damaged, or the key does not fit"
    )]
    Malformed {
        /// Where.
        lsn: Lsn,
    },
    /// The log was rebuilt with other parameters of encryption than those in the copy's header.
    #[error("the server replaced its redo log by one that is encrypted in another way")]
    EncryptionChanged,
    /// The server overwrote log before it was copied.
    #[error(
        "Was only able to copy log from {from} to {to}, not {target}: the server has overwritten \
         what follows; try increasing innodb_log_file_size to {enough} bytes or more"
    )]
    Overrun {
        /// Where the copy begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
        /// How far the log goes, or the limit where that is known.
        target: Lsn,
        /// A log size, bytes, with which this would not have happened.
        enough: u64,
    },
    /// The log did not grow to the limit in time.
    #[error(
        "Was only able to copy log from {from} to {to}, not {target}; the server did not write the \
         rest to its log file within {} ms, and did not overwrite it either", waited.as_millis()
    )]
    NotReached {
        /// Where the copy begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
        /// The limit.
        target: Lsn,
        /// How long.
        waited: Duration,
    },
    /// The log was rebuilt, and the new file begins behind the copy's end.
    #[error(
        "the server replaced its redo log; the new one begins at LSN {first_lsn}, but only what is \
         before LSN {position} was copied"
    )]
    Replaced {
        /// End of the copy.
        position: Lsn,
        /// First LSN of the new log.
        first_lsn: Lsn,
    },
    /// Files of an archive were removed before they were copied.
    #[error(
        "the log is complete only to LSN {position}: the file of the archived redo log (ib_*.log) \
         that follows was removed before it was copied"
    )]
    Removed {
        /// End of the copy.
        position: Lsn,
    },
    /// The log file changed its size without being replaced, which no server does.
    #[error("the size of {} changed", path.display())]
    SizeChanged {
        /// The log file.
        path: PathBuf,
    },
    /// No mini-transaction ends at the limit.
    #[error("the mini-transaction from LSN {start} to {end} goes beyond the limit {limit}")]
    LimitInside {
        /// The limit.
        limit: Lsn,
        /// Start of the mini-transaction.
        start: Lsn,
        /// End of it.
        end: Lsn,
    },
    /// More has been copied than the limit allows.
    #[error("the redo log was already copied to LSN {position}, the limit is {limit}")]
    LimitPassed {
        /// End of the copy.
        position: Lsn,
        /// The limit.
        limit: Lsn,
    },
    /// The end of the copy was asked for without saying where it is.
    #[error("the copy of the redo log has no limit")]
    NoLimit,
    /// The thread did not come to rest in time: the destination does not take any data.
    #[error("the copy of the redo log is stuck: its destination takes no data")]
    Stuck,
    /// The copier was dropped.
    #[error("the copy of the redo log was aborted")]
    Aborted,
    /// The thread ended by a fault of this program.
    #[error("the thread that copies the redo log ended unexpectedly")]
    Panicked,
}

impl From<CopyError> for RedoCopyError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::LimitInside { limit, start, end } => Self::LimitInside { limit, start, end },
            CopyError::Malformed { lsn } => Self::Malformed { lsn },
        }
    }
}

impl RedoCopyError {
    /// What the operator can do, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Overrun { .. } => Some(
                "a larger innodb_log_file_size lets the copy fall further behind; a faster \
                 destination or a time with fewer writes helps as well",
            ),
            Self::Removed { .. } => Some(
                "leave the files of the archived redo log (ib_*.log) where they are until the \
                 backup is done, then take it again",
            ),
            Self::NotReached { .. } => Some(
                "check that the directory of the redo log is that of the server that was asked, \
                 and innodb_flush_log_at_trx_commit",
            ),
            _ => None,
        }
    }
}
