//! Aria's log begins new files while the backup runs: no row may be lost.

#![cfg(test)]

use std::fs;
use std::thread;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::{Running, Tool};
use mysql::prelude::Queryable as _;

/// Aria's smallest log files, and no checkpoint: all rows are in the log alone.
const OPTIONS: [&str; 3] = [
    "--aria-log-file-size=8388608",
    "--aria-checkpoint-interval=0",
    "--aria-checkpoint-log-activity=0",
];

fn rows_survive(series: Series, backs_up: &Tool, prepares: &Tool) {
    let mut source = TestServer::start_series(series, &OPTIONS);
    source.execute(
        "CREATE TABLE test.a (id INT PRIMARY KEY, b MEDIUMTEXT) ENGINE=Aria TRANSACTIONAL=1",
    );
    source.execute("CREATE TABLE test.m (id INT PRIMARY KEY, n INT) ENGINE=MyISAM");
    let mut writer = source.connect();
    let mut id = 0;
    let mut insert = |count| {
        for _ in 0..count {
            id += 1;
            let sql = format!("INSERT INTO test.a VALUES ({id}, REPEAT(MD5({id}), 1000))");
            writer.query_drop(sql).unwrap();
        }
    };
    insert(20);

    // While this statement runs, the server lets no backup go on to BLOCK_DDL.
    let mut blocker = source.connect();
    let blocker_id = blocker.connection_id();
    let blocker = thread::spawn(move || {
        // It is killed in the end.
        let _ = blocker
            .query_drop("INSERT INTO test.m SELECT seq, SLEEP(0.1) FROM test.seq_1_to_100000");
    });
    wait_for_statement(&source, "INSERT INTO test.m");
    let backup = source.dir().join("backup");
    let tool = Running::start(&mut backs_up.backup_command(&source, &backup, &[]));
    wait_for_statement(&source, "BACKUP STAGE BLOCK_DDL");
    let before = last_log(&source);
    while last_log(&source) < before + 2 {
        insert(20);
    }
    source.execute(format!("KILL QUERY {blocker_id}"));
    tool.wait().expect_success();
    blocker.join().unwrap();
    insert(20);
    let state = State::of(&source);

    prepares.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, series, &OPTIONS);
    let recovered = restored.query_u64("SELECT COUNT(*) FROM test.a");
    assert!(recovered >= 500, "{recovered} rows: those of the first log files alone");
    replay_binlog(&source, &backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
    source.shutdown();
}

fn wait_for_statement(server: &TestServer, start: &str) {
    let sql =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{start}%'");
    wait_until(&format!("the statement {start}"), || server.query_u64(&sql) > 0);
}

/// The number of the newest file of Aria's log.
fn last_log(server: &TestServer) -> u64 {
    let entries = fs::read_dir(server.datadir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter_map(|name| name.strip_prefix("aria_log.")?.parse().ok());
    numbers.max().unwrap()
}

#[test]
fn rows_survive_our_backup_and_prepare() {
    for series in Series::CURRENT {
        rows_survive(series, &Tool::Ours, &Tool::Ours);
    }
}

#[test]
fn rows_survive_our_backup_and_the_prepare_of_the_reference() {
    for series in Series::CURRENT {
        rows_survive(series, &Tool::Ours, &Tool::Reference(series));
    }
}

#[test]
fn rows_survive_the_backup_of_the_reference_and_our_prepare() {
    for series in Series::CURRENT {
        rows_survive(series, &Tool::Reference(series), &Tool::Ours);
    }
}
