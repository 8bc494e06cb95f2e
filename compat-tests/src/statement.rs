//! A statement that is in a backup's way, or has one in its way.

use std::thread::{self, JoinHandle};

use mysql::prelude::Queryable as _;

use crate::server::{TestServer, wait_until};

/// A statement that runs on a connection of its own until it ends or is killed.
pub struct Statement {
    /// The server's id of the connection.
    pub id: u32,
    thread: JoinHandle<mysql::Result<()>>,
}

impl Statement {
    /// Starts `sql` and waits until the server runs it.
    pub fn start(server: &TestServer, sql: &str) -> Self {
        let mut connection = server.connect();
        let id = connection.connection_id();
        let text = sql.to_owned();
        let thread = thread::spawn(move || connection.query_drop(text));
        wait_for_process(server, &format!("id = {id} AND info IS NOT NULL"));
        Self { id, thread }
    }

    /// Ends it.
    pub fn kill(self, server: &TestServer) {
        server.execute(format!("KILL QUERY {}", self.id));
        // That is what it was killed for.
        let _ = self.end();
    }

    /// Whether it runs no more.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// That of the statement.
    pub fn end(self) -> mysql::Result<()> {
        self.thread.join().expect("run a statement")
    }
}

/// Waits for a line in the list of processes.
pub fn wait_for_process(server: &TestServer, condition: &str) {
    let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE {condition}");
    wait_until(condition, || server.query_u64(&sql) > 0);
}

/// Whether `KILL QUERY` ended it.
pub fn killed(result: &mysql::Result<()>) -> bool {
    matches!(result, Err(mysql::Error::MySqlError(error)) if error.code == 1317)
}
