//! A backup that loses its server or one of its connections fails, says so, and leaves no lock.

#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::compare::metadata_name;
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use mysql::prelude::Queryable as _;

const MARK: &str = "mariabackup_incomplete";

fn server_with_tables(series: Series) -> TestServer {
    let server = TestServer::start_series(series, &[]);
    server.execute_all(&[
        "CREATE TABLE test.t (id INT) ENGINE=InnoDB",
        "CREATE TABLE test.m ENGINE=MyISAM SELECT seq FROM test.seq_1_to_100",
    ]);
    server
}

/// The backup's connections in the order in which they were made: the first, that of the stages,
/// one for table locks, and while files are copied the one that watches the log.
fn connections(server: &TestServer) -> Vec<u64> {
    let sql = "SELECT id FROM information_schema.processlist \
               WHERE user = 'root' AND id <> CONNECTION_ID() ORDER BY id";
    server.query(sql).into_iter().flatten().map(|id| id.parse().unwrap()).collect()
}

/// The statements end at once if nothing is locked.
fn assert_free(server: &TestServer) {
    wait_until("the server to be free", || connections(server).is_empty());
    let mut client = server.connect();
    for sql in [
        "SET SESSION lock_wait_timeout = 5",
        "CREATE TABLE test.free (a INT) ENGINE=InnoDB",
        "INSERT INTO test.free VALUES (1)",
        "INSERT INTO test.m (seq) VALUES (1)",
        "DROP TABLE test.free",
    ] {
        client.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

fn assert_marked(target: &Path, series: Series, words: &[&str]) {
    let mark = fs::read_to_string(target.join(MARK)).unwrap();
    assert!(mark.contains("Reason:"), "{mark}");
    assert!(words.iter().any(|word| mark.contains(word)), "none of {words:?}: {mark}");
    assert!(!target.join(metadata_name(series, "checkpoints")).exists());
}

/// What the server says to a killed connection, or the system says of it.
const LOST: [&str; 3] = ["gone away", "Connection was killed", "was lost"];

#[test]
fn a_killed_connection_fails_the_backup() {
    // The point, and which connection.
    const KILLS: [(&str, usize); 12] = [
        ("in-file ibdata1", 0),
        ("in-file ibdata1", 1),
        ("in-file ibdata1", 2),
        ("in-flush", 0),
        ("in-flush", 1),
        ("locked test.m", 2),
        ("in-block-ddl", 0),
        ("in-block-ddl", 1),
        ("before-block-commit", 1),
        ("in-block-commit", 0),
        ("in-block-commit", 1),
        ("after-end", 0),
    ];
    for series in Series::CURRENT {
        let server = server_with_tables(series);
        for (index, (point, connection)) in KILLS.into_iter().enumerate() {
            println!("{series}: connection {connection} at {point}");
            let target = server.dir().join(format!("backup{index}"));
            let mut tool = HookedBackup::start(&server, &target, &["--parallel=1"], &[point]);
            tool.wait_at(point);
            server.execute(format!("KILL {}", connections(&server)[connection]));
            tool.go_on(point);
            tool.wait().expect_failure(&[]);
            assert_marked(&target, series, &LOST);
            assert_free(&server);
        }
    }
}

#[test]
fn the_connection_that_watches_the_log_is_made_again() {
    for series in Series::CURRENT {
        let server = server_with_tables(series);
        let target = server.dir().join("backup");
        let point = "in-file ibdata1";
        let mut tool = HookedBackup::start(&server, &target, &["--parallel=1"], &[point]);
        tool.wait_at(point);
        let before = connections(&server);
        server.execute(format!("KILL {}", before[3]));
        wait_until("another connection", || {
            connections(&server).iter().any(|id| !before.contains(id))
        });
        tool.go_on(point);
        let stderr = tool.wait().expect_success();
        assert!(stderr.contains("connection that watches the redo log was lost"), "{stderr}");
        assert!(!target.join(MARK).exists());
    }
}

#[test]
fn a_server_that_was_restarted_fails_the_backup() {
    const POINTS: [&str; 7] = [
        "before-listing",
        "in-file ibdata1",
        "in-flush",
        "in-block-ddl",
        "before-block-commit",
        "in-block-commit",
        "after-end",
    ];
    for (series, crash) in Series::CURRENT.into_iter().zip([true, false]) {
        let mut server = server_with_tables(series);
        for (index, point) in POINTS.into_iter().enumerate() {
            println!("{series}: {point}");
            let target = server.dir().join(format!("backup{index}"));
            let mut tool = HookedBackup::start(&server, &target, &[], &[point]);
            tool.wait_at(point);
            if crash {
                server.kill();
            } else {
                server.shutdown();
            }
            server.launch();
            tool.go_on(point);
            tool.wait().expect_failure(&[]);
            assert_marked(&target, series, &LOST);
            assert_free(&server);
        }
    }
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.expect("run kill").success());
}

/// A backup that is stopped (a terminal's Ctrl-Z, a frozen container) does not hold up the server
/// for longer than a minute, and fails when it goes on. Takes half a minute, for all of them
/// together.
#[test]
fn a_stopped_backup_lets_go_of_the_server() {
    // The statement waits for the stage's lock.
    const CASES: [(&str, &str); 4] = [
        ("locked test.m", "ALTER TABLE test.m ADD c INT"),
        ("in-flush", "INSERT INTO test.m VALUES (7)"),
        ("in-block-ddl", "CREATE TABLE test.n (id INT)"),
        ("in-block-commit", "INSERT INTO test.t VALUES (7)"),
    ];
    thread::scope(|scope| {
        for series in Series::CURRENT {
            for (point, sql) in CASES {
                scope.spawn(move || stopped_backup_lets_go(series, point, sql));
            }
        }
    });
}

fn stopped_backup_lets_go(series: Series, point: &str, sql: &str) {
    let server = server_with_tables(series);
    let target = server.dir().join("backup");
    let mut tool = HookedBackup::start(&server, &target, &[], &[point]);
    tool.wait_at(point);
    let pid = tool.tool().child().id();
    signal("STOP", pid);
    let stopped = Instant::now();
    server.execute(sql);
    let held_up = stopped.elapsed();
    assert!(held_up > Duration::from_secs(3), "{point}: {sql} had no lock to wait for");
    assert!(held_up < Duration::from_secs(60), "{point}: {sql} waited for {held_up:?}");
    signal("CONT", pid);
    tool.go_on(point);
    tool.wait().expect_failure(&["lost"]);
    assert_marked(&target, series, &LOST);
    assert_free(&server);
}
