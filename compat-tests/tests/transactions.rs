//! Transactions that are open, or prepared, while a server is backed up.

#![cfg(test)]

use std::fs;

use compat_tests::compare::{Allowed, State, assert_same_files, check_tables};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::tool::Tool;
use mysql::prelude::Queryable as _;

/// A transaction that has changed as many rows is rolled back; prepared ones are still there, to be
/// committed or rolled back.
fn survive(series: Series, rows: u32) {
    let options = ["--innodb-undo-tablespaces=2", "--innodb-log-file-size=256M"];
    let mut source = TestServer::start_series(series, &options);
    source.execute_all(&[
        "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(100), KEY (v)) ENGINE=InnoDB",
        "CREATE TABLE test.x (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE=InnoDB",
        &format!("INSERT INTO test.t SELECT seq, REPEAT('c', 90) FROM test.seq_1_to_{rows}"),
        "INSERT INTO test.x SELECT seq, 'committed' FROM test.seq_1_to_10",
    ]);
    let state = State::of(&source);
    let mut open = source.connect();
    for sql in [
        "BEGIN".to_owned(),
        "UPDATE test.t SET v = REPEAT('o', 95)".to_owned(),
        "DELETE FROM test.t WHERE id % 10 = 3".to_owned(),
        format!("INSERT INTO test.t SELECT -seq, REPEAT('n', 90) FROM test.seq_1_to_{rows}"),
    ] {
        open.query_drop(sql).unwrap();
    }
    let mut prepared = Vec::new();
    for (name, id) in [("to commit", 1), ("to roll back", 2)] {
        let mut connection = source.connect();
        for sql in [
            format!("XA START '{name}'"),
            format!("UPDATE test.x SET v = 'prepared' WHERE id = {id}"),
            format!("INSERT INTO test.x VALUES ({id} + 100, 'new')"),
            format!("XA END '{name}'"),
            format!("XA PREPARE '{name}'"),
        ] {
            connection.query_drop(sql).unwrap();
        }
        prepared.push(connection);
    }
    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &["--parallel=2"]);
    source.kill();
    drop((open, prepared));

    let prepare = |tool: Tool, name: &str| {
        let dir = source.dir().join(name);
        copy_tree(&backup, &dir);
        tool.prepare(&dir, &[]);
        dir
    };
    let ours = prepare(Tool::Ours, "ours");
    let theirs = prepare(Tool::Reference(series), "theirs");
    assert_same_files(&theirs, &ours, Allowed::Aria);
    fs::remove_dir_all(theirs).unwrap();

    let restored = Tool::Ours.restore(&ours, series, &options);
    let recovered = restored.query("XA RECOVER");
    let mut names: Vec<&str> =
        recovered.iter().filter_map(|row| row.last()).map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["to commit", "to roll back"]);
    restored.execute_all(&["XA COMMIT 'to commit'", "XA ROLLBACK 'to roll back'"]);
    let x = "SELECT GROUP_CONCAT(id, v ORDER BY id) FROM test.x WHERE v <> 'committed'";
    assert_eq!(restored.query_text(x), "1prepared,101new");
    restored.execute_all(&[
        "DELETE FROM test.x WHERE id = 101",
        "UPDATE test.x SET v = 'committed' WHERE id = 1",
    ]);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

#[test]
fn transactions_survive_on_10_5() {
    survive(Series::V10_5, 20_000);
}

#[test]
fn transactions_survive_on_10_11() {
    survive(Series::V10_11, 100_000);
}

#[test]
fn transactions_survive_on_11_8() {
    survive(Series::V11_8, 20_000);
}
