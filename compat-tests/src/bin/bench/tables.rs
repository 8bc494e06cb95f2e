//! Thousands of small tables: backup and prepare, and how long DDL and commits wait meanwhile.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::server::{TestServer, copy_tree};
use compat_tests::size;
use compat_tests::tool::Tool;
use compat_tests::workload::Counter;
use mysql::prelude::Queryable as _;

use super::{
    TOOLS, flush_pages, median, percent, print_ratio, read_all, remove, sync, sync_all,
    time_and_memory,
};

const DATABASES: u64 = 10;
/// How many connections create tables.
const LOADERS: u64 = 4;

/// A server with `innodb` tables of `InnoDB` and `others` of `MyISAM` and Aria, of 50 rows each.
fn load(innodb: u64, others: u64) -> TestServer {
    let (innodb, others) = (percent(innodb), percent(others));
    println!("\n# creating {innodb} InnoDB and {others} other tables in {DATABASES} databases");
    let server = TestServer::start(&[
        "--innodb-buffer-pool-size=1500M",
        "--innodb-log-file-size=1000M",
        "--innodb-flush-log-at-trx-commit=0",
        "--sync-frm=0",
        "--table-open-cache=4000",
        "--open-files-limit=65535",
    ]);
    server.execute("CREATE TABLE test.counter (id BIGINT PRIMARY KEY, v TEXT)");
    for database in 0..DATABASES {
        server.execute(format!("CREATE DATABASE d{database}"));
    }
    server.execute(format!("CREATE TABLE test.rows_wanted ({COLUMNS})"));
    server
        .execute("INSERT INTO test.rows_wanted SELECT seq, REPEAT('x', 50) FROM test.seq_1_to_50");
    for_tables(&server, "t", innodb, |name| {
        [
            format!("CREATE TABLE {name} ({COLUMNS}) ENGINE=InnoDB"),
            format!("INSERT INTO {name} SELECT * FROM test.rows_wanted"),
        ]
    });
    for_tables(&server, "m", others, |name| {
        let engine = if name.ends_with(['0', '2', '4', '6', '8']) { "MyISAM" } else { "Aria" };
        [
            format!("CREATE TABLE {name} ({COLUMNS}) ENGINE={engine}"),
            format!("INSERT INTO {name} SELECT * FROM test.rows_wanted"),
        ]
    });
    server
}

const COLUMNS: &str = "id INT PRIMARY KEY, a VARCHAR(100), KEY (a)";

/// Runs the statements of each of `count` tables, on several connections.
fn for_tables<const N: usize>(
    server: &TestServer,
    prefix: &str,
    count: u64,
    statements: impl Fn(&str) -> [String; N] + Sync,
) {
    let statements = &statements;
    thread::scope(|scope| {
        for loader in 0..LOADERS {
            scope.spawn(move || {
                let mut connection = server.connect();
                connection.query_drop("SET sql_log_bin = 0").expect("SET");
                for table in (0..count).filter(|table| table % LOADERS == loader) {
                    let name = format!("d{}.{prefix}{table}", table % DATABASES);
                    for sql in statements(&name) {
                        connection
                            .query_drop(&sql)
                            .unwrap_or_else(|error| panic!("{sql}: {error}"));
                    }
                }
            });
        }
    });
}

/// Compares backups, of tables just created and of settled ones, and preparations.
pub fn compare(innodb: u64, others: u64) {
    let server = load(innodb, others);
    compare_backups(&server, "tables just created");
    flush_pages(&server);
    for_tables(&server, "t", percent(innodb), |name| {
        [format!("UPDATE {name} SET a = CONCAT('y', id) WHERE id IN (3, 17)")]
    });
    compare_backups(&server, "two rows of each table changed");
    compare_prepares(&server);
}

/// Compares how long commits and DDL wait during a backup of a server with many tables of other
/// engines.
pub fn compare_stalls(others: u64) {
    let server = load(0, others);
    server.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
    flush_pages(&server);
    compare_backups(&server, "stalls");
}

/// Times backups and what waits for them, of both tools in turn.
fn compare_backups(server: &TestServer, what: &str) {
    println!("\n# backup --parallel=2, {what}");
    let mut targets = Vec::new();
    let (mut times, mut commits, mut ddl) = Default::default();
    for run in 0..size("BENCH_RUNS", 3) {
        for (name, tool) in &TOOLS {
            // A new name each time: ext4 hands out inodes that were just freed only after a long
            // search.
            let target = server.dir().join(format!("backup-{name}-{run}"));
            let measured = measure(server, tool, &target);
            println!(
                "{name}: {:.2} s, longest commit {:.1} ms, longest wait of DDL {:.0} ms, load {}",
                measured.time.as_secs_f64(),
                millis(measured.commit),
                millis(measured.ddl),
                load_average()
            );
            push(&mut times, name, measured.time);
            push(&mut commits, name, measured.commit);
            push(&mut ddl, name, measured.ddl);
            targets.push(target);
        }
    }
    for target in targets {
        remove(&target);
    }
    print_medians(&format!("backup, {what}, with sync"), times);
    print_medians("longest commit", commits);
    print_medians("longest wait of DDL", ddl);
}

/// Durations of the reference and of ours.
type Pair = [Vec<Duration>; 2];

fn push(pair: &mut Pair, name: &str, time: Duration) {
    let [reference, ours] = pair;
    if name == "ours" { ours.push(time) } else { reference.push(time) }
}

fn print_medians(what: &str, pair: Pair) {
    let [reference, ours] = pair.map(median);
    print_ratio(what, reference, ours);
}

struct Measured {
    time: Duration,
    commit: Duration,
    ddl: Duration,
}

fn measure(server: &TestServer, tool: &Tool, target: &Path) -> Measured {
    read_all(&server.datadir());
    sync_all();
    server.execute("TRUNCATE TABLE test.counter");
    let counter = Counter::start(server, "test.counter");
    counter.wait_for(50);
    let is_over = AtomicBool::new(false);
    let first = counter.committed();
    let (time, ddl) = thread::scope(|scope| {
        let probe = scope.spawn(|| longest_ddl(server, &is_over));
        let start = Instant::now();
        tool.backup(server, target, &["--parallel=2"]);
        sync(target);
        let time = start.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (time, probe.join().expect("the probe"))
    });
    let last = counter.committed();
    let commits = counter.stop();
    let during = (1..).zip(commits).filter(|(id, _)| (first..=last + 1).contains(id));
    let commit = during.map(|(_, time)| time).max().unwrap_or_default();
    Measured { time, commit, ddl }
}

/// How long the slowest of many DDL statements takes: as long as DDL is blocked, for one of them
/// always waits then.
fn longest_ddl(server: &TestServer, is_over: &AtomicBool) -> Duration {
    let mut connection = server.connect();
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        connection.query_drop("CREATE OR REPLACE VIEW test.probe AS SELECT 1").expect("DDL");
        longest = longest.max(start.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    longest
}

/// Times preparations of one backup, of both tools in turn.
fn compare_prepares(server: &TestServer) {
    let [(_, reference), _] = &TOOLS;
    let source = server.dir().join("backup-source");
    reference.backup(server, &source, &["--parallel=2"]);
    let mut times = Pair::default();
    let mut targets: Vec<PathBuf> = vec![source.clone()];
    for run in 0..size("BENCH_RUNS", 3) {
        for (name, tool) in &TOOLS {
            let target = server.dir().join(format!("prepared-{name}-{run}"));
            std::fs::create_dir(&target).expect("make a folder");
            copy_tree(&source, &target);
            sync_all();
            let start = Instant::now();
            let (_, memory) = time_and_memory(&mut tool.prepare_command(&target, &[]));
            sync(&target);
            let time = start.elapsed();
            println!(
                "prepare, {name}: {:.2} s, RssAnon {} MiB, load {}",
                time.as_secs_f64(),
                memory >> 20,
                load_average()
            );
            push(&mut times, name, time);
            targets.push(target);
        }
    }
    for target in targets {
        remove(&target);
    }
    print_medians("prepare, many tables, with sync", times);
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How busy others kept the machine.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
