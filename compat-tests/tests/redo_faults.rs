//! A redo log that is resized, written late, or written too fast while it is copied.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::Tool;
use compat_tests::workload::{Counter, Workload, create_tables};

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.expect("run kill").success());
}

/// Asserts that `backup`, with the binary log, gives what `source` holds.
fn assert_restores(source: &mut TestServer, backup: &Path) {
    let state = State::of(source);
    source.shutdown();
    // Where a restore puts the tables with DATA DIRECTORY.
    let elsewhere = source.dir().join("elsewhere");
    if elsewhere.exists() {
        std::fs::rename(&elsewhere, source.dir().join("moved")).unwrap();
    }
    Tool::Ours.prepare(backup, &[]);
    let restored = Tool::Ours.restore(backup, source.series(), &[]);
    replay_binlog(source, backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

fn resize(server: &TestServer, mib: u64) {
    server.execute(format!("SET GLOBAL innodb_log_file_size = {}", mib << 20));
    let file = server.datadir().join("ib_logfile0");
    wait_until("the log to be resized", || {
        std::fs::metadata(&file).is_ok_and(|file| file.len() == mib << 20)
    });
}

#[test]
fn a_log_resized_while_it_is_copied_is_followed() {
    const POINTS: [(&str, u64); 5] = [
        ("before-listing", 96),
        ("in-file ibdata1", 20),
        ("after-tablespaces", 200),
        ("in-flush", 16),
        ("before-block-ddl", 48),
    ];
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &["--innodb-log-file-size=32M"]);
        source.execute_all(&[
            "CREATE TABLE test.counter (id BIGINT PRIMARY KEY, v TEXT) ENGINE=InnoDB",
            "CREATE TABLE test.bulk (id INT, v TEXT) ENGINE=InnoDB",
        ]);
        let load = Counter::start(&source, "test.counter");
        load.wait_for(50);
        let backup = source.dir().join("backup");
        let points = POINTS.map(|(point, _)| point);
        let mut tool = HookedBackup::start(&source, &backup, &[], &points);
        for (point, mib) in POINTS {
            tool.wait_at(point);
            resize(&source, mib);
            source.execute("INSERT INTO test.bulk SELECT seq, MD5(seq) FROM test.seq_1_to_5000");
            load.wait_for(50);
            tool.go_on(point);
        }
        tool.wait().expect_success();
        load.stop();
        assert_restores(&mut source, &backup);
    }
}

#[test]
fn a_log_that_the_server_writes_late_is_waited_for() {
    for series in Series::CURRENT {
        for timeout in ["1", "2700"] {
            let timeout = format!("--innodb-flush-log-at-timeout={timeout}");
            let options = ["--innodb-flush-log-at-trx-commit=0", &timeout];
            let mut source = TestServer::start_series(series, &options);
            source.execute("CREATE TABLE test.late (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB");
            let backup = source.dir().join("backup");
            let mut tool = HookedBackup::start(&source, &backup, &[], &["before-block-commit"]);
            tool.wait_at("before-block-commit");
            // These are in the server's memory alone, and nothing comes after them.
            source.execute("INSERT INTO test.late SELECT seq, MD5(seq) FROM test.seq_1_to_5000");
            tool.go_on("before-block-commit");
            let began = Instant::now();
            tool.wait().expect_success();
            assert!(began.elapsed() < Duration::from_secs(20));
            assert_restores(&mut source, &backup);
        }
    }
}

/// A backup of a server with the smallest log, and that server.
fn with_small_log(series: Series) -> (TestServer, PathBuf) {
    let source = TestServer::start_series(series, &["--innodb-log-file-size=4M"]);
    create_tables(&source);
    let backup = source.dir().join("backup");
    (source, backup)
}

#[test]
fn a_log_that_was_overwritten_fails_the_backup_at_once() {
    for series in Series::CURRENT {
        let (source, backup) = with_small_log(series);
        let load = Workload::start(&source, 9, 2);
        let point = "in-file ibdata1";
        let mut tool = HookedBackup::start(&source, &backup, &["--parallel=2"], &[point]);
        tool.wait_at(point);
        let pid = tool.tool().child().id();
        signal("STOP", pid);
        let lsn = || {
            source.query_u64(
                "SELECT variable_value FROM information_schema.global_status \
                 WHERE variable_name = 'Innodb_lsn_current'",
            )
        };
        let start = lsn();
        while lsn() - start < 6 << 20 {
            load.wait_for(20);
        }
        signal("CONT", pid);
        thread::sleep(Duration::from_millis(500));
        tool.go_on(point);
        let began = Instant::now();
        let stderr = tool.wait().expect_failure(&[
            "Was only able to copy log from",
            "overwritten",
            "innodb_log_file_size",
        ]);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(!stderr.contains("BACKUP STAGE FLUSH"), "{stderr}");
        // Twice what would have borne it.
        let words = stderr.split("innodb_log_file_size to ").nth(1).unwrap();
        let enough: u64 = words.split(' ').next().unwrap().parse().unwrap();
        assert!((12 << 20..100 << 20).contains(&enough), "{stderr}");
        load.stop();
    }
}
