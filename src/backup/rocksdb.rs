//! `MyRocks`: the files of a checkpoint that the server made.

use std::path::Path;

use anyhow::Context;
use innodb::datadir::FileIdentity;
use mdl::rocksdb::Checkpoint;

use super::attempt::Leftover;
use super::other_files::{FileCopy, OtherFile, Writers};
use crate::report::Report;
use crate::sink::Sink;

/// Folder of the engine's files in a backup.
pub const FOLDER: &str = "#rocksdb";

/// Extensions of files that the engine never changes once they are there, so that a link is as
/// good as a copy. Its logs it may use again.
const UNCHANGING: [&str; 2] = ["sst", "blob"];

/// The engine's part of a backup.
pub struct MyRocks<'a> {
    checkpoint: Checkpoint,
    leftover: &'a Leftover,
}

impl<'a> MyRocks<'a> {
    /// Makes `checkpoint` later, and notes in `leftover` when it is there.
    pub fn new(checkpoint: Checkpoint, leftover: &'a Leftover) -> Self {
        Self { checkpoint, leftover }
    }

    /// Has the engine write out what it keeps in memory: only a matter of speed.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub fn write_out(&mut self) -> anyhow::Result<()> {
        self.checkpoint.write_out().context("have MyRocks write out its memory")
    }

    /// Makes the checkpoint.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub fn create(&mut self) -> anyhow::Result<()> {
        self.leftover.note(self.checkpoint.path());
        self.checkpoint.create().context("make a checkpoint of MyRocks")
    }

    /// Takes the files of the checkpoint into the backup and removes it.
    ///
    /// # Errors
    ///
    /// Any failure to read or write; the checkpoint is removed all the same.
    pub fn copy(
        self,
        sink: &dyn Sink,
        files: &FileCopy<'_>,
        report: &Report,
    ) -> anyhow::Result<()> {
        let dir = self.checkpoint.path();
        let mut copied = Vec::new();
        let mut linked = 0;
        let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        for entry in entries.with_context(|| format!("list {}", dir.display()))? {
            let path = entry.path();
            let target = Path::new(FOLDER).join(entry.file_name());
            let unchanging = path
                .extension()
                .is_some_and(|extension| UNCHANGING.iter().any(|e| extension == *e));
            let link = || sink.link(&path, &target);
            if unchanging && link().with_context(|| format!("link {}", target.display()))? {
                linked += 1;
                continue;
            }
            let metadata =
                std::fs::metadata(&path).with_context(|| format!("stat {}", path.display()))?;
            copied.push(OtherFile { target, identity: FileIdentity::from(&metadata), path });
        }
        files.copy_all(&copied, Writers::Blocked)?;
        report.say(format_args!(
            "Took the checkpoint of MyRocks: {linked} files linked, {} copied",
            copied.len()
        ));
        self.checkpoint.remove().context("remove the checkpoint of MyRocks from the server")?;
        self.leftover.clear();
        Ok(())
    }
}
