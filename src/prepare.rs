//! `--prepare`: applies the redo log of a full backup to its pages. No undo processing: the
//! server rolls back at its first start.
//!
//! ```text
//! run       order of steps
//! apply     reads the log, applies it, leaves an empty one
//! incremental   an incremental backup onto a prepared one
//! archive   what BACKUP SERVER of 13 leaves: its files of the redo log
//! links     tables with DATA DIRECTORY in such a backup
//! markers   tables dropped, renamed, created during the backup: .del, .ren, .new files
//! spaces    tablespaces by id: files, sizes, which are not there or must be rebuilt
//! scan      reads the log once: index entries of page changes, facts about tablespaces
//! index     entries by page, sorted, in memory or spilled to a file
//! recover   entries onto pages: read, verify, apply, journal, write
//! keys      keys of encrypted tablespaces: whether they are there, and the right ones
//! log       the log of the backup, and the empty one that is left
//! journal   what makes torn writes good again
//! corrupted pages that were damaged when they were copied
//! binlog_files   the binary log that InnoDB keeps (12.3 and later)
//! export    .cfg files, to import single tables elsewhere
//! outlook   what would be done, for those who only look
//! binlog    binary log position in the rollback segments
//! ```

mod apply;
mod archive;
mod binlog;
mod binlog_files;
mod corrupted;
mod export;
mod incremental;
mod index;
mod journal;
mod keys;
mod links;
mod log;
mod markers;
mod memory;
pub mod outlook;
mod page;
mod recover;
mod run;
mod scan;
mod spaces;
mod storage;
#[cfg(test)]
mod tests;

pub use incremental::state::refuse as refuse_half_applied;
pub use run::run;
