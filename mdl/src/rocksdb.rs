//! Checkpoints of `MyRocks`: hard links to all of its files, made by the server in a folder beside
//! them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::session::{ConnectOptions, Session, SessionError, string_literal};
use crate::wait::{self, Watch};

/// Folder of the checkpoint, in that of the engine; the server removes it by this name alone.
const FOLDER: &str = "mariabackup-checkpoint";
/// The user lock that keeps the checkpoints of two backups apart, which mariadb-backup takes too.
const USER_LOCK: &str = "mariabackup_rocksdb_checkpoint";

/// The right to make a checkpoint, then the checkpoint; dropped, both are given up.
#[derive(Debug)]
pub struct Checkpoint {
    /// Holds the user lock.
    session: Session,
    /// The folder as the server knows it.
    name: PathBuf,
    /// The folder.
    path: PathBuf,
    exists: bool,
}

impl Checkpoint {
    /// Waits, at most `patience`, until no other backup has a checkpoint, and removes one that was
    /// left over. `rocksdb_datadir` is as set, `datadir` what it is relative to.
    ///
    /// # Errors
    ///
    /// [`SessionError`], and [`SessionError::LockTimeout`] if another backup keeps its checkpoint
    /// for too long.
    pub fn reserve(
        options: &ConnectOptions,
        rocksdb_datadir: &Path,
        datadir: &Path,
        patience: Option<Duration>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, SessionError> {
        let mut session = Session::connect(options)?;
        wait::acquire_user_lock(&mut session, USER_LOCK, patience, watch)?;
        let name = rocksdb_datadir.join(FOLDER);
        let mut checkpoint = Self { session, path: datadir.join(&name), name, exists: false };
        if checkpoint.path.symlink_metadata().is_ok() {
            checkpoint.remove_files()?;
        }
        Ok(checkpoint)
    }

    /// Has the engine write out what it keeps in memory, so that it has little left to write when
    /// the checkpoint is made. Only a matter of speed.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn write_out(&mut self) -> Result<(), SessionError> {
        self.session.execute("SET GLOBAL rocksdb_force_flush_memtable_now=ON")
    }

    /// Makes the checkpoint.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn create(&mut self) -> Result<(), SessionError> {
        let name = string_literal(&self.name.to_string_lossy());
        self.exists = true;
        self.session.execute(&format!("SET GLOBAL rocksdb_create_checkpoint={name}"))
    }

    /// The folder of the checkpoint, which has no folders in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the checkpoint and lets other backups make theirs.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn remove(mut self) -> Result<(), SessionError> {
        self.exists = false;
        self.remove_files()?;
        self.session.query(&format!("SELECT RELEASE_LOCK('{USER_LOCK}')")).map(drop)
    }

    fn remove_files(&mut self) -> Result<(), SessionError> {
        self.session.execute("SET GLOBAL rocksdb_remove_mariabackup_checkpoint=ON")
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if self.exists {
            // The backup failed already. What cannot be removed now, the next backup removes.
            let _ = self.remove_files();
        }
    }
}
