//! `--dbug`, with which MariaDB's own tests steer its backup tool through races and failures: names
//! of what to do, after `+d,`. As all hooks it is there only with the cargo feature `test-hooks`.

#[cfg(feature = "test-hooks")]
mod armed;
#[cfg(feature = "test-hooks")]
pub use armed::{
    ddl_waits_for_metadata_lock, event, fail, rename_under_metadata_lock, table_event,
};

#[cfg(not(feature = "test-hooks"))]
pub use disarmed::{
    ddl_waits_for_metadata_lock, event, fail, rename_under_metadata_lock, table_event,
};

#[cfg(not(feature = "test-hooks"))]
mod disarmed {
    use std::io;
    use std::path::Path;

    /// With `mariabackup_events`: the SQL that the environment variable `name` holds.
    #[inline]
    pub fn event(_name: &str) {}

    /// As [`event`], for a table or its file: the variable's name ends in `_DATABASE_TABLE`.
    #[inline]
    pub fn table_event(_name: &str, _table: &Path) {}

    /// With the flag `name`: an error, as if a system call had failed.
    #[inline]
    #[allow(clippy::unnecessary_wraps, reason = "it fails where it is armed")]
    pub fn fail(_name: &str) -> io::Result<()> {
        Ok(())
    }

    /// With `rename_during_mdl_lock_table`: `test.t1` becomes `test.t2`.
    #[inline]
    pub fn rename_under_metadata_lock() {}

    /// With `check_mdl_lock_works`: an `ALTER TABLE test.t` begins, and must have to wait.
    #[inline]
    pub fn ddl_waits_for_metadata_lock() {}
}
