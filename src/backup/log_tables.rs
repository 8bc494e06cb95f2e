//! The tables that hold the server's logs, `mysql.general_log` and `mysql.slow_log`: written under
//! every lock but the last, and possibly big. Their bulk is copied when DDL is blocked, the tail
//! when commits are.

use anyhow::Context;

use super::other_files::{FileCopy, GrowingFile, OtherFile, Writers};
use super::plan::{Plan, is_log_table};
use crate::sink::Sink;

/// Data files of log tables while they are copied.
#[derive(Default)]
pub struct LogTables {
    growing: Vec<(OtherFile, GrowingFile)>,
    whole: Vec<OtherFile>,
}

impl LogTables {
    /// Copies what the data files hold now. DDL must be blocked.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn copy_bulk(sink: &dyn Sink, plan: &Plan) -> anyhow::Result<Self> {
        let mut tables = Self::default();
        for ((database, table), entry) in &plan.engine_tables {
            if !is_log_table(database, table) {
                continue;
            }
            for file in &entry.files {
                // Only CSV files are certain to grow at their end alone.
                if file.target.extension().is_some_and(|extension| extension == "CSV") {
                    let mut growing = GrowingFile::open(sink, &file.path, &file.target)?;
                    let copied = growing.identity().and_then(|now| growing.copy_to(now.size));
                    copied.with_context(|| format!("copy {}", file.path.display()))?;
                    tables.growing.push((file.clone(), growing));
                } else {
                    tables.whole.push(file.clone());
                }
            }
        }
        Ok(tables)
    }

    /// Copies the tails. Commits must be blocked; says nothing.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn copy_tails(&mut self, files: &FileCopy<'_>) -> anyhow::Result<()> {
        for (file, growing) in &mut self.growing {
            let copied = growing.identity().and_then(|now| {
                growing.copy_to(now.size)?;
                growing.finish(now.size)
            });
            copied.with_context(|| format!("copy {}", file.path.display()))?;
        }
        self.whole.iter().try_for_each(|file| files.copy_silently(file, Writers::Blocked))
    }
}
