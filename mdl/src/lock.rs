//! Locks of single tables (`BACKUP LOCK`), and which tables are in use.
//!
//! `BACKUP LOCK` keeps DDL off a table, also off one that does not exist (yet). It belongs to the
//! connection: a guard that is let go on a broken connection tells that the lock was lost before.

use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::Instant;

use crate::filename::TableName;
use crate::holders::Holders;
use crate::kept::{self, HEARTBEAT, WAIT_TIMEOUT};
use crate::session::{ConnectOptions, Rows, Session, SessionError};
use crate::stage::{LockKind, LockOptions};
use crate::wait::ER_LOCK_WAIT_TIMEOUT;

/// Sessions for table locks, one for each copying thread. The server drops them when it does not
/// hear of this program for 30 seconds; a thread keeps them alive.
#[derive(Debug)]
pub struct TableLocks {
    shared: Arc<Shared>,
    /// Dropped, it ends the thread.
    _alive: Sender<()>,
}

#[derive(Debug)]
struct Shared {
    slots: Vec<Slot>,
    /// First lock that could not be released, so that it may have been lost earlier.
    lost: OnceLock<String>,
}

#[derive(Debug)]
struct Slot {
    /// Held as long as a lock is.
    turn: Mutex<()>,
    /// Held as long as a statement runs.
    session: Mutex<Session>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TableLocks {
    /// Connects `threads` sessions, at least one; none for other kinds of locks than stages, which
    /// have no locks of single tables.
    ///
    /// # Errors
    ///
    /// As [`Session::connect`].
    pub fn connect(
        options: &ConnectOptions,
        locks: LockOptions,
        threads: usize,
    ) -> Result<Self, SessionError> {
        let connect = |_| {
            let mut session = Session::connect(options)?;
            session.execute(&format!("SET SESSION wait_timeout={WAIT_TIMEOUT}"))?;
            if let Some(patience) = locks.patience {
                let seconds = patience.as_secs().max(1);
                session.execute(&format!("SET SESSION lock_wait_timeout={seconds}"))?;
            }
            Ok(Slot { turn: Mutex::new(()), session: Mutex::new(session) })
        };
        let threads = if locks.kind == LockKind::Stages { threads.max(1) } else { 0 };
        let slots = (0..threads).map(connect).collect::<Result<_, SessionError>>()?;
        let shared = Arc::new(Shared { slots, lost: OnceLock::new() });
        let (alive, ended) = mpsc::channel();
        let watched = Arc::clone(&shared);
        thread::Builder::new()
            .name("table locks".to_owned())
            .spawn(move || watched.keep_alive(&ended))
            .map_err(SessionError::Thread)?;
        Ok(Self { shared, _alive: alive })
    }

    /// Locks a table by the name of its folder and of a file in it without extension, on the
    /// session of a thread. Waits while another thread has a lock on the same session.
    ///
    /// # Errors
    ///
    /// [`SessionError::LockTimeout`] if it was not had in time, [`SessionError::LocksLost`] if an
    /// earlier lock was lost.
    pub fn lock(
        &self,
        thread: usize,
        folder: &str,
        stem: &str,
    ) -> Result<TableLock<'_>, SessionError> {
        self.check()?;
        let shared = &*self.shared;
        let index = thread.checked_rem(shared.slots.len()).unwrap_or(0);
        let Some(slot) = shared.slots.get(index) else {
            return Ok(TableLock { shared, held: None });
        };
        let turn = lock(&slot.turn);
        let mut session = lock(&slot.session);
        let table = TableName::from_file_names(folder, stem).quoted();
        let sql = format!("BACKUP LOCK {table}");
        let begun = Instant::now();
        match session.execute(&sql) {
            Err(error) if error.code() == Some(ER_LOCK_WAIT_TIMEOUT) => {
                let holders = Holders::read(&mut session).unwrap_or_default();
                Err(SessionError::lock_timeout(&sql, begun.elapsed(), holders))
            }
            Err(error) => Err(shared.noted(error)),
            Ok(()) => Ok(TableLock { shared, held: Some((slot, turn)) }),
        }
    }

    /// From here on, no lock is waited for: [`try_lock`](Self::try_lock).
    ///
    /// # Errors
    ///
    /// [`SessionError`], [`SessionError::LocksLost`] if an earlier lock was lost.
    pub fn wait_no_more(&self) -> Result<(), SessionError> {
        self.check()?;
        let mut sessions = self.shared.slots.iter().map(|slot| lock(&slot.session));
        sessions
            .try_for_each(|mut session| session.execute("SET SESSION lock_wait_timeout=0"))
            .map_err(|error| self.shared.noted(error))
    }

    /// As [`lock`](Self::lock), after [`wait_no_more`](Self::wait_no_more): `None` where DDL holds
    /// the table. It may itself wait for a lock of the backup, which no one would ever find out:
    /// the server looks for deadlocks, but these are locks of two connections.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock(
        &self,
        thread: usize,
        folder: &str,
        stem: &str,
    ) -> Result<Option<TableLock<'_>>, SessionError> {
        match self.lock(thread, folder, stem) {
            Err(SessionError::LockTimeout { .. }) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Whether every lock so far was held until it was released.
    ///
    /// # Errors
    ///
    /// [`SessionError::LocksLost`] if not: what was copied under it may be inconsistent.
    pub fn check(&self) -> Result<(), SessionError> {
        match self.shared.lost.get() {
            None => Ok(()),
            Some(reason) => Err(SessionError::LocksLost { reason: reason.clone() }),
        }
    }
}

impl Shared {
    /// Notes a connection that is gone: locks may have gone with it.
    fn noted(&self, error: SessionError) -> SessionError {
        match error {
            SessionError::Lost { .. } => {
                let reason = self.lost.get_or_init(|| error.to_string()).clone();
                SessionError::LocksLost { reason }
            }
            other => other,
        }
    }

    fn keep_alive(&self, ended: &Receiver<()>) {
        while ended.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            for slot in &self.slots {
                let mut session = match slot.session.try_lock() {
                    Ok(session) => session,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    // A statement runs.
                    Err(TryLockError::WouldBlock) => continue,
                };
                if let Err(error) = kept::sign_of_life(&mut session) {
                    self.lost.get_or_init(|| error.to_string());
                }
            }
        }
    }
}

/// A lock on a table, released when dropped. [`TableLocks::check`] tells whether it held that long.
#[derive(Debug)]
#[must_use]
pub struct TableLock<'a> {
    shared: &'a Shared,
    held: Option<(&'a Slot, MutexGuard<'a, ()>)>,
}

impl Drop for TableLock<'_> {
    fn drop(&mut self) {
        if let Some((slot, _turn)) = &self.held
            && let Err(error) = lock(&slot.session).execute("BACKUP UNLOCK")
        {
            self.shared.lost.get_or_init(|| error.to_string());
        }
    }
}

/// Tables in use at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablesInUse(HashSet<TableName>);

impl TablesInUse {
    pub(crate) fn new(rows: &Rows) -> Self {
        let name = |row: crate::session::Row<'_>| Some(TableName::new(row.at(0)?, row.at(1)?));
        Self(rows.iter().filter_map(name).collect())
    }

    /// Whether the table is in use, by the name of its folder and of a file in it without
    /// extension.
    pub fn contains(&self, folder: &str, stem: &str) -> bool {
        self.0.contains(&TableName::from_file_names(folder, stem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_in_use_by_their_files() {
        let columns = ["Database", "Table", "In_use", "Name_locked"].map(str::to_owned).to_vec();
        let row = ["ü-1", "日本", "1", "0"].map(|value| Some(value.to_owned())).to_vec();
        let in_use = TablesInUse::new(&Rows::new(columns, vec![row]));
        assert!(in_use.contains("@1o@002d1", "@65e5@672c"));
        assert!(in_use.contains("@1o@002d1", "@65e5@672c#P#p0"));
        assert!(!in_use.contains("d", "t"));
    }
}
