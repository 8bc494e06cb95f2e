//! Tables of every row format, what is written to them, and backups that are taken meanwhile.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use compat_tests::random::Random;
use compat_tests::server::{POLL, TestServer};
use mysql::Conn;
use mysql::prelude::Queryable as _;

/// A table to be written to, in the database `f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name too: `pc_` and an algorithm of page compression, or another format.
    pub format: String,
    /// What follows the columns.
    pub definition: String,
}

impl Table {
    pub fn new(format: &str, definition: &str) -> Self {
        Self { format: format.to_owned(), definition: definition.to_owned() }
    }
}

/// Creates these tables with some rows.
pub fn create(server: &TestServer, tables: &[Table]) {
    server.execute("CREATE DATABASE IF NOT EXISTS f");
    let mut connection = server.connect();
    let mut random = Random::new(1);
    for Table { format: name, definition } in tables {
        if let Some(algorithm) = name.strip_prefix("pc_") {
            query(
                &mut connection,
                &format!("SET GLOBAL innodb_compression_algorithm='{algorithm}'"),
            );
        }
        let sql = format!(
            "CREATE TABLE f.{name} (id INT PRIMARY KEY, k INT NOT NULL, c VARCHAR(120) NOT NULL, \
             b MEDIUMBLOB, KEY (k), KEY (c(20))) ENGINE=InnoDB {definition}"
        );
        query(&mut connection, &sql);
        for start in (0..2000).step_by(100) {
            query(&mut connection, &insert(name, start..start + 100, &mut random));
        }
    }
}

fn query(connection: &mut Conn, sql: &str) {
    connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn insert(table: &str, ids: Range<u64>, random: &mut Random) -> String {
    let rows: Vec<String> = ids
        .map(|id| {
            let (text, k) = (random.text(80), random.below(1000));
            let blob = if id % 50 == 0 { random.below(30_000) } else { 0 };
            format!("({id}, {k}, '{text}', REPEAT('{text}', {blob} / 80))")
        })
        .collect();
    format!("REPLACE INTO f.{table} VALUES {}", rows.join(", "))
}

/// Writes everything that is in memory to the data files.
pub fn flush(server: &TestServer) {
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0.001");
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct=0");
    let dirty = "SELECT variable_value FROM information_schema.global_status \
                 WHERE variable_name = 'Innodb_buffer_pool_pages_dirty'";
    while server.query_u64(dirty) > 0 {
        thread::sleep(POLL);
    }
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct=90");
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0");
}

/// Writes to the tables until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    statements: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    pub fn start(server: &TestServer, tables: &[Table]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let statements = Arc::new(AtomicU64::new(0));
        let names: Vec<String> = tables.iter().map(|table| table.format.clone()).collect();
        let mut connection = server.connect();
        let thread = thread::spawn({
            let (stop, statements) = (Arc::clone(&stop), Arc::clone(&statements));
            move || {
                let mut random = Random::new(2);
                while !stop.load(Ordering::Relaxed) {
                    let name = random.pick(&names);
                    let first = random.below(3000);
                    let sql = match random.below(8) {
                        0..4 => insert(name, first..first + random.below(40) + 1, &mut random),
                        4..6 => {
                            let text = random.text(40);
                            format!(
                                "UPDATE f.{name} SET c = '{text}', k = k + 1 WHERE id BETWEEN \
                                 {first} AND {first} + 20"
                            )
                        }
                        6 => format!(
                            "DELETE FROM f.{name} WHERE id BETWEEN {first} AND {first} + 300"
                        ),
                        _ => {
                            format!("UPDATE f.{name} SET b = REPEAT(c, 200) WHERE id = {first}")
                        }
                    };
                    query(&mut connection, &sql);
                    statements.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, statements, thread }
    }

    pub fn wait_for(&self, count: u64) {
        let target = self.statements.load(Ordering::Relaxed) + count;
        while self.statements.load(Ordering::Relaxed) < target {
            assert!(!self.thread.is_finished(), "the writer failed");
            thread::sleep(POLL);
        }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer failed");
    }
}
