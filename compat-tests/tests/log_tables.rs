//! Tables of the server's own logs, of tens of megabytes and written to under every lock.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use compat_tests::compare::check_tables;
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::Tool;
use mysql::prelude::Queryable as _;

/// Statements of a megabyte with which the logs begin.
const BIG: usize = 20;

/// Clients that make the server log, while they live.
struct Talkers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Talkers {
    fn start(server: &TestServer) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let talk = |client: usize| {
            let (mut connection, stop) = (server.connect(), Arc::clone(&stop));
            thread::spawn(move || {
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let text = "x".repeat(usize::try_from(number % 977).unwrap());
                    let sql = format!("DO 'client {client} statement {number} \"\\n, {text}'");
                    connection.query_drop(sql).unwrap();
                }
            })
        };
        let threads = (0..2).map(talk).collect();
        Self { stop, threads }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// The rows of a log, in their order; of long texts their checksums.
fn log(server: &TestServer, table: &str, text: &str) -> Vec<Vec<String>> {
    server.query(format!(
        "SELECT thread_id, LENGTH({text}), MD5({text}), LEFT({text}, 60) FROM mysql.{table}"
    ))
}

/// Backs up a server that writes both logs, as tables of `engine`, and compares.
fn logs_survive(series: Series, engine: &str) {
    const LOGS: [(&str, &str); 2] = [("general_log", "argument"), ("slow_log", "sql_text")];
    let mut source = TestServer::start_series(series, &["--max-allowed-packet=64M"]);
    for (log, _) in LOGS {
        source.execute(format!("ALTER TABLE mysql.{log} ENGINE={engine}"));
    }
    source.execute_all(&[
        "SET GLOBAL log_output='TABLE', long_query_time=0",
        "SET GLOBAL general_log=1, slow_query_log=1",
    ]);
    for number in 0..BIG {
        source.execute(format!("DO '{number} {}'", "y".repeat(1 << 20)));
    }
    let talkers = Talkers::start(&source);
    let backup = source.dir().join("backup");
    let points = ["in-block-ddl", "in-block-commit", "after-end"];
    let mut tool = HookedBackup::start(&source, &backup, &["--parallel=2"], &points);
    // Both logs grow under each lock and after the last.
    for point in points {
        tool.wait_at(point);
        let sizes = || {
            LOGS.map(|(log, _)| {
                let files = std::fs::read_dir(source.datadir().join("mysql")).unwrap();
                let files = files.map(|file| file.unwrap());
                let of_log =
                    files.filter(|file| file.file_name().to_string_lossy().starts_with(log));
                of_log.map(|file| file.metadata().unwrap().len()).sum::<u64>()
            })
        };
        let before = sizes();
        wait_until("logs to grow", || {
            sizes().iter().zip(before).all(|(now, before)| *now > before + 100_000)
        });
        tool.go_on(point);
    }
    tool.wait().expect_success();
    talkers.stop();
    source.execute("SET GLOBAL general_log=0, slow_query_log=0");
    let expected = LOGS.map(|(table, text)| log(&source, table, text));
    source.shutdown();

    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, series, &[]);
    for ((table, text), expected) in LOGS.into_iter().zip(expected) {
        let got = log(&restored, table, text);
        let len = got.len();
        assert!(expected.get(..len).is_some_and(|start| start == got), "{series} {table}: {len}");
        assert!(len > BIG && len < expected.len(), "{series} {table}: {len}, {}", expected.len());
        // The backup's own statements tell for which moment it stands.
        let has = |sql: &str| got.iter().any(|row| row.last().is_some_and(|text| text == sql));
        let before = ["BACKUP STAGE BLOCK_DDL", "BACKUP STAGE BLOCK_COMMIT"];
        assert!(before.iter().all(|sql| has(sql)), "{series} {table}");
        assert!(!has("BACKUP STAGE END"), "{series} {table}");
    }
    check_tables(&restored);
    // The server goes on with the logs.
    restored.execute_all(&["SET GLOBAL log_output='TABLE', general_log=1", "DO 'restored'"]);
    restored.execute("SET GLOBAL general_log=0");
    let sql = "SELECT COUNT(*) FROM mysql.general_log WHERE argument = 'DO \\'restored\\''";
    assert_eq!(restored.query_u64(sql), 1);
}

#[test]
fn logs_in_csv_tables() {
    for series in Series::CURRENT {
        logs_survive(series, "CSV");
    }
}

#[test]
fn logs_in_myisam_tables() {
    for series in Series::CURRENT {
        logs_survive(series, "MyISAM");
    }
}
