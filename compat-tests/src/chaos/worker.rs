//! Runs the planned steps against a server, in threads.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mysql::Conn;
use mysql::prelude::Queryable as _;

use crate::pace::Pace;
use crate::server::TestServer;

use super::imports;
use super::kind::{Counts, Tally};
use super::planner::Planner;
use super::step::{Action, Step};

/// Errors of statements on tables that others change too, and of rows for partitions that are away.
const TOLERATED: [u16; 6] = [
    1205, // lock wait timeout
    1213, // deadlock
    1146, // no such table
    1412, // the table's definition has changed
    1526, // no partition for the value
    1020, // the row has changed since it was read
];

/// Threads that take steps until they are stopped.
pub struct Workers {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Workers {
    /// Creates the tables of `count` workers, then starts them. The server needs
    /// [`SERVER_OPTIONS`](super::SERVER_OPTIONS).
    pub fn start(server: &TestServer, seed: u64, count: u64, pace: Pace) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
        let elsewhere = server.dir().join("elsewhere");
        let elsewhere = elsewhere.to_str().expect("UTF-8");
        let start = Instant::now();
        let mut workers: Vec<Worker> = (0..count)
            .map(|number| Worker {
                planner: Planner::new(seed, number, server.series(), elsewhere),
                connection: connect(server),
                datadir: server.datadir(),
                exports: imports::exports_dir(server),
                log: StatementLog::create(server.dir(), number, start),
                tally: Arc::clone(&tally),
            })
            .collect();
        for worker in &mut workers {
            worker.set_up();
        }
        let threads = workers
            .into_iter()
            .map(|worker| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || worker.run(&stop, pace))
            })
            .collect();
        Self { stop, tally, threads }
    }

    /// The successful steps so far.
    ///
    /// # Panics
    ///
    /// As a worker that has failed.
    pub fn counts(&mut self) -> Counts {
        if let Some(place) = self.threads.iter().position(JoinHandle::is_finished)
            && let Err(panic) = self.threads.swap_remove(place).join()
        {
            std::panic::resume_unwind(panic);
        }
        self.tally.now()
    }

    /// Ends all workers; the names of the tables that they left.
    pub fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let tables = self.threads.drain(..).flat_map(|thread| match thread.join() {
            Ok(tables) => tables,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let mut tables: Vec<String> = tables.collect();
        tables.sort();
        tables.dedup();
        tables
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    planner: Planner,
    connection: Conn,
    datadir: PathBuf,
    exports: PathBuf,
    log: StatementLog,
    tally: Arc<Tally>,
}

impl Worker {
    fn set_up(&mut self) {
        for action in self.planner.set_up() {
            self.act(&action);
        }
    }

    fn run(mut self, stop: &AtomicBool, pace: Pace) -> Vec<String> {
        while !stop.load(Ordering::Relaxed) {
            let next = self.planner.next_step();
            pace.step(|| self.take(&next));
        }
        self.planner.tables()
    }

    fn take(&mut self, step: &Step) {
        let mut succeeded = true;
        for action in &step.actions {
            succeeded &= self.act(action);
        }
        if succeeded {
            self.tally.add(step.kind);
        }
    }

    /// Whether the action succeeded; a failure is then one that is tolerated.
    fn act(&mut self, action: &Action) -> bool {
        match action {
            Action::Sql(sql) => {
                let result = self.query(sql);
                result.unwrap_or_else(|error| panic!("{sql}: {error}"));
                true
            }
            Action::Contended(sql) => match self.query(sql) {
                Ok(()) => true,
                Err(mysql::Error::MySqlError(error)) if TOLERATED.contains(&error.code) => false,
                Err(error) => panic!("{sql}: {error}"),
            },
            Action::Unlogged(sql) => {
                for sql in ["SET SESSION sql_log_bin=0", sql, "SET SESSION sql_log_bin=1"] {
                    self.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
                true
            }
            Action::CopyOut { table, export } => {
                imports::copy_out(&self.datadir, table, &self.exports, *export);
                true
            }
            Action::CopyIn { table, export } => {
                imports::copy_in(&self.exports, *export, &self.datadir, table);
                true
            }
        }
    }

    fn query(&mut self, sql: &str) -> mysql::Result<()> {
        let start = Instant::now();
        let result = self.connection.query_drop(sql);
        self.log.note(start, sql, &result);
        result
    }
}

/// A connection that waits long where it must not lose, and short where it may.
fn connect(server: &TestServer) -> Conn {
    let mut connection = server.connect();
    for sql in [
        // Where the tables of the engine SEQUENCE are looked for.
        "USE test",
        "SET SESSION innodb_lock_wait_timeout = 1",
        // Longer than any backup here blocks DDL.
        "SET SESSION lock_wait_timeout = 60",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ] {
        connection.query_drop(sql).expect("prepare a connection");
    }
    connection
}

/// The statements of one worker: begin and end in milliseconds, text, error.
struct StatementLog {
    file: BufWriter<File>,
    zero: Instant,
}

impl StatementLog {
    fn create(dir: &Path, worker: u64, zero: Instant) -> Self {
        let file = File::create(dir.join(format!("statements-{worker}.log")));
        Self { file: BufWriter::new(file.expect("create a log")), zero }
    }

    fn note(&mut self, start: Instant, sql: &str, result: &mysql::Result<()>) {
        let zero = self.zero;
        let millis = |at: Instant| at.duration_since(zero).as_millis();
        // The rows are in the binary log.
        let text: String = sql.chars().take(400).collect();
        let outcome = result.as_ref().err().map(|error| format!(" -- {error}"));
        writeln!(
            self.file,
            "{:6} {:6} {text}{}",
            millis(start),
            millis(Instant::now()),
            outcome.unwrap_or_default()
        )
        .expect("write a log");
    }
}
