//! Statements that are copying a table when `BLOCK_DDL` comes, and go on until after the backup:
//! the server lets DDL be blocked meanwhile.

#![cfg(test)]

use std::fs;
use std::thread;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::tool::Tool;
use mysql::prelude::Queryable as _;

/// Points between which the statement copies.
const POINTS: [&str; 3] = ["before-block-ddl", "in-block-ddl", "in-block-commit"];

/// The intermediate tablespaces in schema `test`.
fn intermediate(server: &TestServer) -> Vec<String> {
    fs::read_dir(server.datadir().join("test"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("#sql"))
        .collect()
}

/// Backs up `source` while `change` copies table `test.t` from before `BLOCK_DDL` on, and ends
/// that statement afterwards.
fn back_up_during(source: &TestServer, change: &str) {
    let backup = source.dir().join("backup");
    let mut tool = HookedBackup::start(source, &backup, &[], &POINTS);
    tool.wait_at("before-block-ddl");
    let mut connection = source.connect();
    let id = connection.connection_id();
    let change = change.to_owned();
    let alter = thread::spawn(move || connection.query_drop(change));
    wait_until("a table to be copied", || {
        assert!(!alter.is_finished(), "the statement has ended");
        intermediate(source).iter().any(|name| name.contains(".ibd"))
    });
    for point in POINTS {
        tool.wait_at(point);
        // Rows of other tables are changed meanwhile.
        if point != "in-block-commit" {
            source.execute("INSERT INTO test.other SELECT MAX(id) + 1 FROM test.other");
        }
        assert!(!alter.is_finished(), "the statement has ended at {point}");
        tool.go_on(point);
    }
    tool.wait().expect_success();
    assert!(!alter.is_finished(), "the statement has ended before the backup");
    source.execute(format!("KILL QUERY {id}"));
    alter.join().unwrap().unwrap_err();
}

/// Has both tools prepare a copy of the backup; restores, lets `work` use the server and compares.
fn check_with_both_tools(source: &TestServer, work: &str) {
    let state = State::of(source);
    for tool in [Tool::Ours, Tool::Reference(source.series())] {
        let backup = source.dir().join("prepared");
        copy_tree(&source.dir().join("backup"), &backup);
        tool.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, source.series(), &[]);
        println!("prepared by {tool:?}: restored");
        wait_until("intermediate tables to be dropped", || intermediate(&restored).is_empty());
        replay_binlog(source, &backup, &restored);
        state.assert_same_as(&State::of(&restored));
        restored.execute(work);
        check_tables(&restored);
        let left = "SELECT COUNT(*) FROM information_schema.innodb_sys_tables \
                    WHERE name LIKE 'test/#sql%'";
        assert_eq!(restored.query_u64(left), 0);
        fs::remove_dir_all(&backup).unwrap();
    }
}

/// The statement `change` is ended after the backup, `afterwards` is what the replay does.
fn check(change: &str, afterwards: &str) {
    for series in Series::CURRENT {
        let source = TestServer::start_series(series, &[]);
        source.execute_all(&[
            "CREATE TABLE test.other ENGINE=InnoDB SELECT 1 id",
            "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(5000)) ENGINE=InnoDB CHARSET=latin1",
            "INSERT INTO test.t SELECT seq, REPEAT('v', 5000) FROM test.seq_1_to_1000",
            // To compute the column takes long for each row, for all far longer than a backup.
            "ALTER TABLE test.t ADD n CHAR(128) AS (SHA2(REPEAT(v, 3000), 512)) VIRTUAL",
        ]);
        back_up_during(&source, change);
        source.execute_all(&["ALTER TABLE test.t DROP n", afterwards]);
        source.execute("DELETE FROM test.t WHERE id % 9 = 3");
        check_with_both_tools(&source, afterwards);
    }
}

#[test]
fn table_that_is_copied_when_ddl_is_blocked_is_the_old_one() {
    check(
        "ALTER TABLE test.t ADD m CHAR(128) AS (SHA2(REPEAT(v, 3000), 512)) PERSISTENT, \
         ADD FULLTEXT (v), ALGORITHM=COPY",
        "ALTER TABLE test.t FORCE, ALGORITHM=COPY",
    );
}

#[test]
fn table_that_is_rebuilt_when_ddl_is_blocked_is_the_old_one() {
    check(
        "ALTER TABLE test.t ADD INDEX (n), FORCE, ALGORITHM=INPLACE",
        "ALTER TABLE test.t FORCE, ALGORITHM=INPLACE",
    );
}
