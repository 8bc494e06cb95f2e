//! The mark of a backup that a server has worked on: `--prepare --export` has one roll back and
//! purge where that is needed. No further incremental backup fits it then.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::durable;

/// Name of the file.
pub const NAME: &str = "mariabackup_exported";

const TEXT: &str = "A server rolled back and purged this backup, for --prepare --export.\n\
                    It can be restored, but no incremental backup can be applied to it.\n";

/// Marks backup `dir`, before the server starts.
///
/// # Errors
///
/// Those of writing.
pub fn mark(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(NAME);
    durable::write_atomically(&path, TEXT.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}

/// Whether backup `dir` has the mark.
pub fn is_marked(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Refuses to apply an incremental backup to a backup with the mark.
///
/// # Errors
///
/// The mark is there.
pub fn refuse(dir: &Path) -> anyhow::Result<()> {
    ensure!(
        !is_marked(dir),
        "{} was exported by a server, which changed it: no incremental backup can be applied to it \
         any more. Nothing was changed",
        dir.display()
    );
    Ok(())
}
