//! `MyRocks`: the files of a checkpoint that the server made.

use std::path::Path;

use anyhow::Context;
use innodb::datadir::FileIdentity;
use mdl::rocksdb::Checkpoint;

use super::other_files::{FileCopy, OtherFile, Writers};
use crate::report::Report;
use crate::sink::Sink;

/// Folder of the engine's files in a backup.
pub const FOLDER: &str = "#rocksdb";

/// Extensions of files that the engine never changes once they are there, so that a link is as
/// good as a copy. Its logs it may use again.
const UNCHANGING: [&str; 2] = ["sst", "blob"];

/// Takes the files of the checkpoint into the backup and removes it.
///
/// # Errors
///
/// Any failure to read or write; the checkpoint is removed all the same.
pub fn copy_checkpoint(
    checkpoint: Checkpoint,
    sink: &dyn Sink,
    files: &FileCopy<'_>,
    report: &Report,
) -> anyhow::Result<()> {
    let dir = checkpoint.path();
    let mut copied = Vec::new();
    let mut linked = 0;
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for entry in entries.with_context(|| format!("list {}", dir.display()))? {
        let path = entry.path();
        let target = Path::new(FOLDER).join(entry.file_name());
        let unchanging =
            path.extension().is_some_and(|extension| UNCHANGING.iter().any(|e| extension == *e));
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
    checkpoint.remove().context("remove the checkpoint of MyRocks from the server")
}
