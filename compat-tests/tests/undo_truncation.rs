//! Undo tablespaces that the server truncates at each moment of a backup.

#![cfg(test)]

use std::fs;
use std::sync::mpsc;
use std::thread;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::{Series, workspace_dir};
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::tool::Tool;
use mysql::prelude::Queryable as _;

/// Has both tools prepare a copy of the backup; restores and compares.
fn check_with_both_tools(source: &TestServer, options: &[&str]) {
    let state = State::of(source);
    for tool in [Tool::Ours, Tool::Reference(source.series())] {
        let backup = source.dir().join("prepared");
        copy_tree(&source.dir().join("backup"), &backup);
        tool.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, source.series(), options);
        println!("prepared by {tool:?}: restored");
        replay_binlog(source, &backup, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
        fs::remove_dir_all(&backup).unwrap();
    }
}

/// Several undo tablespaces, which the server truncates as soon as they are above 10 MiB.
const UNDO: [&str; 4] = [
    "--innodb-undo-tablespaces=3",
    "--innodb-undo-log-truncate=ON",
    "--innodb-max-undo-log-size=10M",
    "--innodb-purge-rseg-truncate-frequency=1",
];

const TRUNCATIONS: &str = "SELECT variable_value FROM information_schema.global_status \
                           WHERE variable_name = 'Innodb_undo_truncations'";

/// Undo tablespaces grow before and are truncated while the backup waits at `point`.
fn undo_truncated_at(series: Series, point: &str, threads: &str) {
    let source = TestServer::start_series(series, &UNDO);
    source.execute_all(&[
        "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(250)) ENGINE=InnoDB",
        "INSERT INTO test.t SELECT seq, REPEAT('x', 250) FROM test.seq_1_to_20000",
    ]);
    // A reader of old rows keeps the server from truncating.
    let mut reader = source.connect();
    reader.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let mut writer = source.connect();
            thread::spawn(move || {
                for text in ["a", "b", "c"] {
                    writer
                        .query_drop(format!(
                            "UPDATE test.t SET v = REPEAT('{text}', 249) WHERE id % 3 = {n}"
                        ))
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let len = |n| fs::metadata(source.datadir().join(format!("undo00{n}"))).unwrap().len();
    assert!((1..=3).any(|n| len(n) > 10 << 20), "{:?}", [len(1), len(2), len(3)]);
    let largest = (1..=3).max_by_key(|n| len(*n)).unwrap();
    let point = point.replace("undo", &format!("undo00{largest}"));
    assert_eq!(source.query_u64(TRUNCATIONS), 0);

    let backup = source.dir().join("backup");
    let mut tool = HookedBackup::start(&source, &backup, &[threads], &[&point]);
    tool.wait_at(&point);
    drop(reader);
    wait_until("undo tablespaces to be truncated", || {
        source.execute("DELETE FROM test.t ORDER BY id LIMIT 10");
        source.query_u64(TRUNCATIONS) > 0 && len(largest) == 10 << 20
    });
    source.execute("UPDATE test.t SET v = 'afterwards' WHERE id % 5 = 1");
    tool.go_on(&point);
    tool.wait().expect_success();
    source.execute("UPDATE test.t SET v = 'after the backup' WHERE id % 7 = 1");
    check_with_both_tools(&source, &UNDO);
}

#[test]
fn undo_tablespaces_truncated_before_they_are_opened() {
    for series in Series::CURRENT {
        undo_truncated_at(series, "before-file undo", "--parallel=1");
    }
}

#[test]
fn undo_tablespaces_truncated_when_they_are_open() {
    for series in Series::CURRENT {
        undo_truncated_at(series, "opened-file undo", "--parallel=1");
    }
}

#[test]
fn undo_tablespaces_truncated_while_they_are_copied() {
    for series in Series::CURRENT {
        undo_truncated_at(series, "in-file undo", "--parallel=2");
    }
}

#[test]
fn undo_tablespaces_truncated_after_they_were_copied() {
    for series in Series::CURRENT {
        undo_truncated_at(series, "after-tablespaces", "--parallel=2");
    }
}

/// Encrypted undo tablespaces, truncated over and over while they are copied.
#[test]
fn undo_tablespaces_truncated_every_second() {
    let keys = workspace_dir().join("keys/testdata/plain");
    let keys = format!("--file-key-management-filename={}", keys.display());
    let encryption = [
        "--plugin-load-add=file_key_management",
        &keys,
        "--innodb-encrypt-tables=ON",
        "--innodb-encryption-threads=2",
        "--innodb-encrypt-log=ON",
    ];
    let options = [&UNDO[..], &encryption].concat();
    for series in [Series::V10_5, Series::V11_8] {
        let source = TestServer::start_series(series, &options);
        source.execute_all(&[
            "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(250)) ENGINE=InnoDB",
            "INSERT INTO test.t SELECT seq, REPEAT('x', 250) FROM test.seq_1_to_20000",
        ]);
        let (stop, stopped) = mpsc::channel::<()>();
        let mut writer = source.connect();
        let writer = thread::spawn(move || {
            let mut round = 0;
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                round += 1;
                let sql = format!("UPDATE test.t SET v = REPEAT('{}', 249)", round % 10);
                writer.query_drop(sql).unwrap();
            }
        });
        let truncations = || source.query_u64(TRUNCATIONS);
        wait_until("undo tablespaces to be truncated", || truncations() > 0);
        let before = truncations();
        let backup = source.dir().join("backup");
        // Takes several seconds.
        Tool::Ours.backup(&source, &backup, &["--parallel=2", "--throttle=1"]);
        let during = truncations() - before;
        drop(stop);
        writer.join().unwrap();
        assert!(during > 1, "{series}: {during} truncations");
        check_with_both_tools(&source, &options);
    }
}
