//! Writers that keep a server busy while it is backed up: tables of every kind, and a sequence of
//! statements for each thread that its seed decides.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable as _;

use crate::pace::Pace;
use crate::random::Random;
use crate::server::{POLL, TestServer};

/// Transactional tables: name, and what follows the columns in their definition.
const INNODB: [(&str, &str); 8] = [
    ("busy.t_redundant", "ENGINE=InnoDB ROW_FORMAT=REDUNDANT"),
    ("busy.t_compact", "ENGINE=InnoDB ROW_FORMAT=COMPACT"),
    ("busy.t_dynamic", "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"),
    ("busy.t_compressed", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
    ("busy.t_fulltext", "ENGINE=InnoDB"),
    ("busy.t_parts", "ENGINE=InnoDB PARTITION BY HASH(id) PARTITIONS 4"),
    ("busy.t_elsewhere", "ENGINE=InnoDB DATA DIRECTORY='{dir}/elsewhere'"),
    ("`odd-schéma`.`t #1$`", "ENGINE=InnoDB"),
];

/// The other tables.
const OTHERS: [(&str, &str); 7] = [
    ("busy.a_transactional", "ENGINE=Aria TRANSACTIONAL=1"),
    ("busy.a_plain", "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC"),
    ("busy.a_pages", "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=PAGE"),
    ("busy.a_parts", "ENGINE=Aria PARTITION BY HASH(id) PARTITIONS 3"),
    ("busy.m_plain", "ENGINE=MyISAM"),
    ("busy.m_parts", "ENGINE=MyISAM PARTITION BY HASH(id) PARTITIONS 3"),
    ("`odd-schéma`.`m #2$`", "ENGINE=MyISAM"),
];

/// The tables of a workload: names, and what follows the columns in their definitions. `{dir}`
/// stands for the server's own folder.
#[derive(Debug, Clone)]
pub struct Tables {
    innodb: Vec<(String, String)>,
    others: Vec<(String, String)>,
}

impl Tables {
    /// These, in database `busy`: transactional ones, and others.
    pub fn new(innodb: &[(&str, &str)], others: &[(&str, &str)]) -> Self {
        let owned = |tables: &[(&str, &str)]| {
            tables.iter().map(|(name, more)| ((*name).to_owned(), (*more).to_owned())).collect()
        };
        Self { innodb: owned(innodb), others: owned(others) }
    }
}

impl Default for Tables {
    /// Tables of every kind that a server has with its default settings.
    fn default() -> Self {
        Self::new(&INNODB, &OTHERS)
    }
}

/// Number of different ids in a table.
const IDS: u64 = 2000;

/// The values of the indexed column `k`.
const KS: Range<u64> = 0..1000;

/// Server options with which the checkpoint stays behind, so that a backup holds much redo.
pub const MUCH_REDO: [&str; 4] = [
    "--innodb-log-file-size=1G",
    "--innodb-buffer-pool-size=512M",
    "--innodb-adaptive-flushing=0",
    "--innodb-max-dirty-pages-pct=99.9",
];

/// Creates the default tables and puts some rows into each.
pub fn create_tables(server: &TestServer) {
    create_tables_of(server, &Tables::default());
}

/// Creates these tables and puts some rows into each.
pub fn create_tables_of(server: &TestServer, tables: &Tables) {
    let dir = server.dir().to_str().expect("UTF-8");
    let mut connection = server.connect();
    let mut run = |sql: &str| {
        connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    run("CREATE DATABASE busy");
    run("CREATE DATABASE `odd-schéma` CHARACTER SET utf8mb4");
    let mut random = Random::new(0);
    for (name, definition) in tables.innodb.iter().chain(&tables.others) {
        let more = if name.contains("fulltext") { ", FULLTEXT KEY (c)" } else { "" };
        let definition = definition.replace("{dir}", dir);
        run(&format!(
            "CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, k INT NOT NULL, \
             c VARCHAR(200) NOT NULL, b MEDIUMBLOB, KEY (k), KEY (c(20), k){more}) {definition}"
        ));
        for _ in 0..10 {
            run(&insert("INSERT IGNORE INTO", name, &mut random, 0..IDS, KS, 20));
        }
    }
    run("CREATE TABLE busy.csv (id BIGINT NOT NULL, c VARCHAR(100) NOT NULL) ENGINE=CSV");
}

/// Threads that write until they are stopped.
pub struct Workload {
    stop: Arc<AtomicBool>,
    statements: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts `threads` writers on the tables of [`create_tables`].
    ///
    /// Every writer has a second connection, whose transactions stay open for a while.
    pub fn start(server: &TestServer, seed: u64, threads: u64) -> Self {
        Self::start_on(server, &Tables::default(), seed, threads)
    }

    /// As [`start`](Self::start), on the tables of [`create_tables_of`].
    pub fn start_on(server: &TestServer, tables: &Tables, seed: u64, threads: u64) -> Self {
        Self::start_at_pace(server, tables, seed, threads, Pace::FULL)
    }

    /// As [`start_on`](Self::start_on), with pauses.
    pub fn start_at_pace(
        server: &TestServer,
        tables: &Tables,
        seed: u64,
        threads: u64,
        pace: Pace,
    ) -> Self {
        let tables = Arc::new(tables.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let statements = Arc::new(AtomicU64::new(0));
        let threads = (0..threads)
            .map(|number| {
                let mut writer = Writer {
                    random: Random::new(seed.wrapping_mul(1000).wrapping_add(number)),
                    connection: connect(server),
                    held: connect(server),
                    // No two open transactions wait for each other.
                    held_ids: (number + 1) * 1_000_000,
                    held_statements: 0,
                    statements: Arc::clone(&statements),
                    tables: Arc::clone(&tables),
                };
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        pace.step(|| writer.step());
                    }
                })
            })
            .collect();
        Self { stop, statements, threads }
    }

    /// Waits until the writers have run `count` more statements.
    pub fn wait_for(&self, count: u64) {
        let target = self.statements.load(Ordering::Relaxed) + count;
        while self.statements.load(Ordering::Relaxed) < target {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a writer failed");
            thread::sleep(POLL);
        }
    }

    /// Waits until the server has written `len` bytes of redo since its checkpoint.
    pub fn wait_for_redo(&self, server: &TestServer, len: u64) {
        while server.query_u64(
            "SELECT variable_value FROM information_schema.global_status \
             WHERE variable_name = 'Innodb_checkpoint_age'",
        ) < len
        {
            self.wait_for(10);
        }
    }

    /// Ends the writers, rolls back what they left open, and tells how many statements they ran.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer failed");
        }
        self.statements.load(Ordering::Relaxed)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    random: Random,
    connection: Conn,
    held: Conn,
    held_ids: u64,
    held_statements: u64,
    statements: Arc<AtomicU64>,
    tables: Arc<Tables>,
}

impl Writer {
    fn step(&mut self) {
        match self.random.below(16) {
            0..4 => {
                let sql = self.statement_on_innodb();
                self.run(&sql);
            }
            4..9 => self.transaction(),
            9..11 => self.held_transaction(),
            11 => {
                let text = self.random.text(60);
                let id = self.random.below(IDS);
                self.run(&format!("INSERT INTO busy.csv VALUES ({id}, '{text}')"));
            }
            _ => {
                // A server can be tested with InnoDB alone.
                let tables = Arc::clone(&self.tables);
                let others = if tables.others.is_empty() { &tables.innodb } else { &tables.others };
                let (table, _) = self.random.pick(others).clone();
                let sql = statement(&mut self.random, &table);
                self.run(&sql);
            }
        }
    }

    /// Some statements on several tables that come and go together.
    fn transaction(&mut self) {
        self.run("BEGIN");
        for _ in 0..2 + self.random.below(6) {
            let sql = self.statement_on_innodb();
            self.run(&sql);
        }
        let end = if self.random.below(8) == 0 { "ROLLBACK" } else { "COMMIT" };
        self.run(end);
    }

    /// One statement of a transaction that stays open over many others.
    fn held_transaction(&mut self) {
        let (table, _) = self.random.pick(&self.tables.innodb).clone();
        // Values of its own in `k` keep others' searches from waiting for these rows.
        let (ids, ks) = (self.held_ids..self.held_ids + 100, 2000..3000);
        let sql = insert("REPLACE INTO", &table, &mut self.random, ids, ks, 5);
        if self.held_statements == 0 {
            run(&mut self.held, "BEGIN");
        }
        run(&mut self.held, &sql);
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.held_statements += 1;
        if self.held_statements > 20 {
            let end = if self.random.below(3) == 0 { "ROLLBACK" } else { "COMMIT" };
            run(&mut self.held, end);
            self.held_statements = 0;
        }
    }

    fn statement_on_innodb(&mut self) -> String {
        let (table, _) = self.random.pick(&self.tables.innodb).clone();
        statement(&mut self.random, &table)
    }

    fn run(&mut self, sql: &str) {
        run(&mut self.connection, sql);
        self.statements.fetch_add(1, Ordering::Relaxed);
    }
}

/// A change of some rows of a table with the columns of [`create_tables`].
pub(crate) fn statement(random: &mut Random, table: &str) -> String {
    let first = random.below(IDS);
    let last = first + random.below(12);
    match random.below(8) {
        0..3 => {
            let count = 1 + random.below(8);
            insert("INSERT INTO", table, random, first..first + 40, KS, count)
                + " ON DUPLICATE KEY UPDATE k = k + 1, c = VALUES(c)"
        }
        3 => {
            let count = 1 + random.below(4);
            insert("REPLACE INTO", table, random, first..first + 40, KS, count)
        }
        4 => {
            let len = 1 + random.below(190);
            let text = random.text(len);
            format!("UPDATE {table} SET c = '{text}' WHERE id BETWEEN {first} AND {last}")
        }
        5 => {
            let value = blob(random);
            format!("UPDATE {table} SET b = {value}, k = k + 7 WHERE id = {first}")
        }
        6 => format!("DELETE FROM {table} WHERE id BETWEEN {first} AND {last}"),
        _ => {
            let k = random.below(1000);
            format!("UPDATE {table} SET k = k * 3 % 1000 WHERE k = {k} LIMIT 5")
        }
    }
}

/// A connection whose statements seldom wait for each other, and never for long.
fn connect(server: &TestServer) -> Conn {
    let mut connection = server.connect();
    for sql in [
        "SET SESSION innodb_lock_wait_timeout = 1",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ] {
        connection.query_drop(sql).expect("set a variable");
    }
    connection
}

/// Runs a statement, which may lose against another one.
fn run(connection: &mut Conn, sql: &str) {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    const DEADLOCK: u16 = 1213;
    match connection.query_drop(sql) {
        Ok(()) => {}
        Err(mysql::Error::MySqlError(error))
            if error.code == LOCK_WAIT_TIMEOUT || error.code == DEADLOCK => {}
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// A statement with `rows` new rows.
pub(crate) fn insert(
    verb: &str,
    table: &str,
    random: &mut Random,
    ids: Range<u64>,
    ks: Range<u64>,
    rows: u64,
) -> String {
    let mut sql = format!("{verb} {table} (id, k, c, b) VALUES ");
    for row in 0..rows {
        let id = random.within(&ids);
        let k = random.within(&ks);
        let len = random.below(200);
        let text = random.text(len);
        let blob = blob(random);
        let comma = if row == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}({id}, {k}, '{text}', {blob})");
    }
    sql
}

/// A literal: often NULL, mostly short, sometimes longer than a page.
fn blob(random: &mut Random) -> String {
    match random.below(16) {
        0..6 => "NULL".to_owned(),
        6..14 => {
            let len = random.below(500);
            format!("'{}'", random.text(len))
        }
        14 => format!("REPEAT('{}', {})", random.text(40), random.below(200)),
        _ => format!("REPEAT('{}', {})", random.text(60), random.below(900)),
    }
}

/// A client that commits numbered rows one at a time and notes how long each commit took.
pub struct Counter {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Counter {
    /// Starts to insert 1, 2, 3, ... into `table (id BIGINT PRIMARY KEY, v TEXT)`.
    pub fn start(server: &TestServer, table: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let mut connection = server.connect();
        let table = table.to_owned();
        let thread = thread::spawn({
            let (stop, committed) = (Arc::clone(&stop), Arc::clone(&committed));
            move || {
                let mut durations = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = committed.load(Ordering::Relaxed) + 1;
                    let start = std::time::Instant::now();
                    let sql = format!("INSERT INTO {table} VALUES ({id}, REPEAT('x', 100))");
                    connection.query_drop(sql).expect("insert a row");
                    durations.push(start.elapsed());
                    committed.store(id, Ordering::Relaxed);
                }
                durations
            }
        });
        Self { stop, committed, thread }
    }

    /// The newest committed number.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until `count` more rows are there.
    pub fn wait_for(&self, count: u64) {
        let target = self.committed() + count;
        while self.committed() < target {
            assert!(!self.thread.is_finished(), "the counter failed");
            thread::sleep(POLL);
        }
    }

    /// Ends; the time each commit took.
    pub fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the counter failed")
    }
}
