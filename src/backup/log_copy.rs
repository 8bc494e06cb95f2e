//! The copy of the redo log into the backup: the follower with a file of the sink as destination.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Receiver;
use innodb::Lsn;
use innodb::encrypted::KeySource;
use redo::header::Checkpoint;

use super::redo_copy::{CopiedLog, FileEvent, Lag, RedoCopier, RedoCopyError};
use crate::sink::{Sink, SinkFile};

/// Name of the log, on the server and in the backup.
const NAME: &str = "ib_logfile0";

/// A running copy of the redo log.
pub struct LogCopy {
    copier: RedoCopier<LogFile>,
    events: Receiver<FileEvent>,
}

impl LogCopy {
    /// Starts to copy the log in the folder `dir`, naming `creator` in its header.
    ///
    /// # Errors
    ///
    /// The log cannot be read or decrypted, or the backup holds one already.
    pub fn start(
        dir: &Path,
        creator: &str,
        keys: Option<Arc<dyn KeySource>>,
        sink: &dyn Sink,
    ) -> anyhow::Result<Self> {
        let out =
            sink.create_urgent(Path::new(NAME)).context("create ib_logfile0 in the backup")?;
        let out = LogFile { out, len: 0 };
        let (copier, events) = RedoCopier::start(&dir.join(NAME), creator, keys, out)?;
        Ok(Self { copier, events })
    }

    /// The checkpoint at which the copy begins.
    pub fn start_checkpoint(&self) -> Checkpoint {
        self.copier.start_checkpoint()
    }

    /// Fails if the copy has failed.
    ///
    /// # Errors
    ///
    /// That of the copy.
    pub fn check(&self) -> Result<(), RedoCopyError> {
        self.copier.position().map(drop)
    }

    /// File operations in the part of the log that was copied and not asked for before.
    pub fn events(&self) -> impl Iterator<Item = FileEvent> {
        self.events.try_iter()
    }

    /// Waits until everything before `lsn` is copied, or nothing was for `patience`; whether it is.
    ///
    /// # Errors
    ///
    /// The copy has failed.
    pub fn wait_for(&self, lsn: Lsn, patience: Duration) -> Result<bool, RedoCopyError> {
        self.copier.wait_for(lsn, patience)
    }

    /// Holds the copy and returns its position.
    ///
    /// # Errors
    ///
    /// The copy has failed.
    pub fn pause(&self) -> Result<Lsn, RedoCopyError> {
        self.copier.pause()
    }

    /// The newest checkpoint in the server's log.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn newest_checkpoint(&self) -> Result<Checkpoint, RedoCopyError> {
        self.copier.checkpoint()
    }

    /// Lets the held copy go on, up to `end` and no further.
    ///
    /// # Errors
    ///
    /// The copy has failed.
    pub fn resume_until(&self, end: Lsn) -> Result<(), RedoCopyError> {
        self.copier.set_limit(end)?;
        self.copier.resume();
        Ok(())
    }

    /// Notes how far the server is.
    pub fn note_server_lsn(&self, lsn: Lsn) {
        self.copier.note_server_lsn(lsn);
    }

    /// Notes that the server's file holds everything before `lsn`, which the server has told as
    /// its flushed LSN: the copy need not prove it.
    pub fn note_flushed(&self, lsn: Lsn) {
        self.copier.note_flushed(lsn);
    }

    /// How far the copy is behind the server.
    pub fn lag(&self) -> Lag {
        self.copier.lag()
    }

    /// Waits for the end of the copy and closes it. Returns what was copied and the file operations
    /// not asked for before.
    ///
    /// # Errors
    ///
    /// The copy has failed, or nothing was copied for `patience`.
    pub fn finish(self, patience: Duration) -> anyhow::Result<(CopiedLog, Vec<FileEvent>)> {
        let (copied, file) = self.copier.drain(patience)?;
        file.out.finish(file.len).context("finish ib_logfile0 in the backup")?;
        Ok((copied, self.events.try_iter().collect()))
    }
}

/// The log in the backup, written from start to end.
struct LogFile {
    out: Box<dyn SinkFile>,
    len: u64,
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_at(self.len, bytes)?;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
