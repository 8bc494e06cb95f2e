//! Locks on the definitions of all `InnoDB` tables: whoever wants to change one waits.
//!
//! An open transaction that has read a table keeps its definition from being changed, in every
//! series and without a privilege but `SELECT`. It reads no row, so it keeps no old versions.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::filename::TableName;
use crate::kept::{KeptSession, LockMonitor};
use crate::session::{ConnectOptions, Session, SessionError};
use crate::wait::{self, Manner, Watch};

/// Names are those of files: folder, slash, table, perhaps partition.
const TABLES: &str =
    "SELECT name, space FROM information_schema.innodb_sys_tables WHERE name LIKE '%/%'";

const ER_LOCK_DEADLOCK: u16 = 1213;

/// How often all locks are taken anew after the transaction lost against a statement that wanted
/// the same tables in another order.
const ATTEMPTS: u32 = 10;

/// A transaction that keeps the definitions of tables as they are. Dropped, it ends.
#[derive(Debug)]
pub struct DefinitionLocks {
    session: KeptSession,
    count: usize,
}

/// A table whose definition could not be locked.
#[derive(Debug)]
pub struct NotLocked {
    /// Its tablespace.
    pub space_id: String,
    /// Its name.
    pub table: TableName,
    /// Why.
    pub error: SessionError,
}

impl DefinitionLocks {
    /// Locks all tables of which one of the tablespaces, such as `db/table`, is `wanted`, waiting at
    /// most `patience` for each; tells of each that cannot be locked.
    ///
    /// # Errors
    ///
    /// [`SessionError::LockTimeout`] if a lock was not had in time, [`SessionError`] if the server
    /// does not answer.
    pub fn take(
        options: &ConnectOptions,
        patience: Option<Duration>,
        watch: &mut Watch<'_>,
        wanted: impl Fn(&str) -> bool,
        mut not_locked: impl FnMut(NotLocked),
    ) -> Result<Self, SessionError> {
        let session = KeptSession::start(Session::connect(options)?)?;
        let mut attempt = 1;
        loop {
            match lock_all(&session, patience, watch, &wanted) {
                Err(error) if error.code() == Some(ER_LOCK_DEADLOCK) && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok((count, failed)) => {
                    failed.into_iter().for_each(&mut not_locked);
                    return Ok(Self { session, count });
                }
            }
        }
    }

    /// Number of tables that are locked.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A handle that tells whether the locks are held.
    pub fn monitor(&self) -> LockMonitor {
        self.session.monitor().clone()
    }

    /// Lets go of the locks.
    ///
    /// # Errors
    ///
    /// [`SessionError`] if they were lost before.
    pub fn release(self) -> Result<(), SessionError> {
        self.session.run("COMMIT")?;
        self.session.stop();
        Ok(())
    }
}

/// Begins a transaction with all tables; those that could not be locked.
fn lock_all(
    session: &KeptSession,
    patience: Option<Duration>,
    watch: &mut Watch<'_>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(usize, Vec<NotLocked>), SessionError> {
    // Partitions have a tablespace each, but one definition.
    let mut tables = BTreeMap::new();
    for row in session.run(TABLES)?.iter() {
        let (Some(name), Some(space)) = (row.at(0), row.at(1)) else { continue };
        if let Some(table) = table_of(name).filter(|_| wanted(name)) {
            tables.entry(table).or_insert_with(|| space.to_owned());
        }
    }
    // Ends what an attempt before left.
    session.run("ROLLBACK")?;
    session.run("BEGIN")?;
    let mut failed = Vec::new();
    let count = tables.len();
    for (table, space_id) in tables {
        let sql = format!("SELECT 1 FROM {} LIMIT 0", table.quoted());
        match wait::acquire(session, &sql, Manner::Quiet, patience, watch) {
            Err(error @ SessionError::Server { .. }) if error.code() != Some(ER_LOCK_DEADLOCK) => {
                failed.push(NotLocked { space_id, table, error });
            }
            result => drop(result?),
        }
    }
    Ok((count - failed.len(), failed))
}

/// The table of a tablespace; `None` for those that SQL does not know: auxiliary tables of
/// full-text indexes, and what a rebuild is writing.
fn table_of(name: &str) -> Option<TableName> {
    let (folder, stem) = name.split_once('/')?;
    let hidden = stem.starts_with("FTS_") && is_auxiliary(stem) || stem.starts_with("#sql");
    (!hidden).then(|| TableName::from_file_names(folder, stem))
}

/// `FTS_` and 16 hexadecimal digits, the id of the table that it belongs to.
fn is_auxiliary(name: &str) -> bool {
    let digits = name.get(4..20).unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_sql_knows() {
        let table = |name| table_of(name).map(|table| table.quoted());
        assert_eq!(table("test/p#P#p0").as_deref(), Some("`test`.`p`"));
        assert_eq!(table("d@002d1/a@0020b").as_deref(), Some("`d-1`.`a b`"));
        assert_eq!(table("test/FTS_x").as_deref(), Some("`test`.`FTS_x`"));
        for hidden in [
            "test/FTS_0000000000000017_BEING_DELETED",
            "test/FTS_0000000000000017_0000000000000023_INDEX_1",
            "test/#sql-alter-1-2",
            "SYS_FOREIGN",
        ] {
            assert_eq!(table(hidden), None, "{hidden}");
        }
    }
}
