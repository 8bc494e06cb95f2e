//! Copies the files of engines other than `InnoDB`, and what belongs to no engine: `.frm`,
//! `db.opt`, triggers.
//!
//! Files are copied early and looked at again once no DDL can run: [`FileCopy::reconcile`]
//! compares each with what was copied (inode, size, times), copies what is new or changed and
//! removes what is gone. That needs no knowledge of the statements that ran meanwhile.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use innodb::datadir::FileIdentity;

use super::copy::Check;
use super::definitions::Definitions;
use super::source_file::SourceFile;
use crate::report::Report;
use crate::sink::{self, Sink};
use crate::threads::in_threads;

/// Bytes read and written at a time.
const UNIT: usize = 1 << 20;
/// Bytes read of a small file.
const SMALL_UNIT: usize = 16 << 10;
/// File times advance in steps of at most this: a file changed so shortly before it was copied
/// may have changed once more without another time.
const CLOCK_STEP: Duration = Duration::from_millis(50);

/// A file to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFile {
    /// Where the server has it.
    pub path: PathBuf,
    /// Where the backup gets it, relative.
    pub target: PathBuf,
    /// The file as it was listed.
    pub identity: FileIdentity,
}

/// What is known of a file in the backup.
#[derive(Debug, Clone)]
enum Copied {
    /// The file before it was read.
    File {
        identity: FileIdentity,
        /// Whether a later change must show in the identity.
        settled: bool,
    },
    /// Not a copy of anything.
    Placeholder,
}

/// Whether anything can change a file while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// The server may be writing.
    Possible,
    /// A lock keeps the server from writing.
    Blocked,
}

/// Copies files and remembers them.
pub struct FileCopy<'a> {
    sink: &'a dyn Sink,
    report: &'a Report,
    check: Check<'a>,
    threads: usize,
    copied: Mutex<HashMap<PathBuf, Copied>>,
    definitions: Definitions,
}

impl<'a> FileCopy<'a> {
    /// Copies to `sink` in `threads` threads, as long as `check` finds nothing.
    pub fn new(sink: &'a dyn Sink, report: &'a Report, check: Check<'a>, threads: usize) -> Self {
        Self {
            sink,
            report,
            check,
            threads,
            copied: Mutex::default(),
            definitions: Definitions::default(),
        }
    }

    /// Copies `files` in all threads. Files that vanished are left out.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn copy_all(&self, files: &[OtherFile], writers: Writers) -> anyhow::Result<()> {
        in_threads(self.threads, files, |thread, file| self.copy(file, writers, thread))
    }

    /// Copies one file, in the place of its former copy if there is one, and says so. A file that
    /// vanished is left out, unless a lock keeps it.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn copy(&self, file: &OtherFile, writers: Writers, thread: usize) -> anyhow::Result<()> {
        self.report.say_as(thread, sink::announcement(self.sink, &file.path, &file.target));
        self.copy_silently(file, writers)?;
        self.report.say_as(thread, "        ...done");
        Ok(())
    }

    /// As [`copy`](Self::copy), but says nothing: while commits are blocked, a slow reader of the
    /// messages must not hold up the server.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn copy_silently(&self, file: &OtherFile, writers: Writers) -> anyhow::Result<()> {
        let source = match SourceFile::open(&file.path) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && writers == Writers::Possible =>
            {
                return Ok(());
            }
            other => other.with_context(|| format!("open {}", file.path.display()))?,
        };
        let now = SystemTime::now();
        let identity =
            source.identity().with_context(|| format!("stat {}", file.path.display()))?;
        let settled = writers == Writers::Blocked || is_settled(&identity, now);
        let out = sink::create_or_replace(self.sink, &file.target);
        let target = file.target.display();
        let out = out.with_context(|| format!("create {target} in the backup"))?;
        // One byte more than there is: the end is seen with the first reading. No less than this,
        // because the file may just begin to grow.
        let unit = usize::try_from(identity.size + 1).unwrap_or(UNIT).clamp(SMALL_UNIT, UNIT);
        let mut buffer = vec![0; unit];
        let mut offset = 0;
        loop {
            (self.check)()?;
            let len = source
                .read_at(&mut buffer, offset)
                .with_context(|| format!("read {} at offset {offset}", file.path.display()))?;
            let Some(bytes) = buffer.get(..len).filter(|bytes| !bytes.is_empty()) else { break };
            out.write_at(offset, bytes).with_context(|| format!("write {target} to the backup"))?;
            if offset == 0 {
                self.definitions.note(&file.target, bytes);
            }
            self.report.advance(len as u64);
            offset += len as u64;
            if len < unit {
                break;
            }
        }
        out.finish(offset).with_context(|| format!("finish {target} in the backup"))?;
        self.copied().insert(file.target.clone(), Copied::File { identity, settled });
        Ok(())
    }

    /// Creates an empty file that stands for nothing on the server.
    ///
    /// # Errors
    ///
    /// Any failure to write.
    pub fn placeholder(&self, target: &Path) -> anyhow::Result<()> {
        let out = self.sink.create(target).and_then(|out| out.finish(0));
        out.with_context(|| format!("create {} in the backup", target.display()))?;
        self.copied().insert(target.to_path_buf(), Copied::Placeholder);
        Ok(())
    }

    /// Makes the backup hold exactly `files`: copies what is new or changed since it was copied,
    /// removes what is gone. `keep` are targets that someone else looks after.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn reconcile(
        &self,
        files: &[OtherFile],
        keep: impl Fn(&Path) -> bool,
        writers: Writers,
    ) -> anyhow::Result<()> {
        let listed: HashSet<&Path> = files.iter().map(|file| file.target.as_path()).collect();
        let gone: Vec<PathBuf> = self
            .copied()
            .keys()
            .filter(|target| !listed.contains(target.as_path()) && !keep(target))
            .cloned()
            .collect();
        for target in gone {
            self.sink
                .remove(&target)
                .with_context(|| format!("remove {} from the backup", target.display()))?;
            self.report.say(format_args!("Removing {}", target.display()));
            self.copied().remove(&target);
            self.definitions.forget(&target);
        }
        let changed: Vec<OtherFile> =
            files.iter().filter(|file| self.is_changed(file)).cloned().collect();
        self.copy_all(&changed, writers)
    }

    /// Whether `file`, as listed, is not what was copied.
    fn is_changed(&self, file: &OtherFile) -> bool {
        match self.copied().get(&file.target) {
            Some(Copied::File { identity, settled }) => !settled || *identity != file.identity,
            Some(Copied::Placeholder) | None => true,
        }
    }

    /// What the descriptions of tables among the copied files say.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Whether a file was copied to `target`.
    pub fn has(&self, target: &Path) -> bool {
        self.copied().contains_key(target)
    }

    fn copied(&self) -> MutexGuard<'_, HashMap<PathBuf, Copied>> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the file was last changed so long before `now` that a change after `now` must give it
/// other times.
pub fn is_settled(identity: &FileIdentity, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let limit = i64::try_from(now.saturating_sub(CLOCK_STEP).as_nanos()).unwrap_or(i64::MAX);
    identity.mtime.max(identity.ctime) < limit
}
