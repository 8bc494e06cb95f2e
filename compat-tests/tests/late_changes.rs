//! What changes after it was copied and before DDL is blocked, by a log, without one, or behind the
//! server's back.

#![cfg(test)]

use std::fs;
use std::thread;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::{Running, Tool};
use mysql::prelude::Queryable as _;

const TABLES: [&str; 8] = [
    "CREATE TABLE test.m (id INT PRIMARY KEY, n INT) ENGINE=MyISAM",
    "CREATE TABLE test.bulk (id INT PRIMARY KEY, v TEXT) ENGINE=Aria TRANSACTIONAL=1",
    "CREATE TABLE test.cut (id INT PRIMARY KEY, v TEXT) ENGINE=Aria TRANSACTIONAL=1",
    "INSERT INTO test.cut SELECT seq, MD5(seq) FROM test.seq_1_to_5000",
    "CREATE TABLE test.gone (id INT PRIMARY KEY) ENGINE=InnoDB SELECT seq id FROM test.seq_1_to_100",
    "CREATE TABLE test.old (id INT PRIMARY KEY) ENGINE=InnoDB SELECT seq id FROM test.seq_1_to_200",
    "CREATE TABLE test.again (id INT PRIMARY KEY) ENGINE=InnoDB SELECT seq id FROM test.seq_1_to_300",
    "CREATE DATABASE left_over",
];

/// All of them while everything is copied and the stage that blocks DDL is waited for.
const CHANGES: [&str; 9] = [
    "INSERT INTO test.bulk SELECT seq, MD5(seq) FROM test.seq_1_to_20000",
    "TRUNCATE TABLE test.cut",
    "INSERT INTO test.cut VALUES (1, 'the only one')",
    "DROP TABLE test.gone",
    "RENAME TABLE test.old TO test.renamed",
    "CREATE TABLE test.old (id INT PRIMARY KEY) ENGINE=InnoDB SELECT seq id FROM test.seq_1_to_7",
    "TRUNCATE TABLE test.again",
    "INSERT INTO test.again VALUES (8)",
    "DROP DATABASE left_over",
];

/// A backup that waits for the server to enter FLUSH, after it has copied everything once.
struct WaitingBackup {
    tool: Running,
    blocker_id: u32,
    blocker: thread::JoinHandle<()>,
}

impl WaitingBackup {
    fn start(source: &TestServer) -> Self {
        let mut blocker = source.connect();
        let blocker_id = blocker.connection_id();
        let blocker = thread::spawn(move || {
            // It is killed in the end.
            let _ = blocker
                .query_drop("INSERT INTO test.m SELECT seq, SLEEP(0.1) FROM test.seq_1_to_100000");
        });
        wait_for_statement(source, "INSERT INTO test.m");
        let backup = source.dir().join("backup");
        let tool = Running::start(&mut Tool::Ours.backup_command(source, &backup, &[]));
        wait_for_statement(source, "BACKUP STAGE BLOCK_DDL");
        Self { tool, blocker_id, blocker }
    }

    fn go_on(self, source: &TestServer) -> compat_tests::tool::Outcome {
        source.execute(format!("KILL QUERY {}", self.blocker_id));
        let outcome = self.tool.wait();
        self.blocker.join().unwrap();
        outcome
    }
}

fn wait_for_statement(server: &TestServer, start: &str) {
    let sql =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{start}%'");
    wait_until(&format!("the statement {start}"), || server.query_u64(&sql) > 0);
}

#[test]
fn tables_changed_while_the_backup_waits_are_as_on_the_server() {
    for series in Series::CURRENT {
        for prepares in [Tool::Ours, Tool::Reference(series)] {
            let mut source = TestServer::start_series(series, &[]);
            source.execute_all(&TABLES);
            let waiting = WaitingBackup::start(&source);
            source.execute_all(&CHANGES);
            waiting.go_on(&source).expect_success();
            source.execute("INSERT INTO test.renamed VALUES (1000)");
            let state = State::of(&source);
            let backup = source.dir().join("backup");
            prepares.prepare(&backup, &[]);
            let restored = Tool::Ours.restore(&backup, series, &[]);
            replay_binlog(&source, &backup, &restored);
            state.assert_same_as(&State::of(&restored));
            check_tables(&restored);
            source.shutdown();
        }
    }
}

#[test]
fn a_second_file_of_a_tablespace_fails_the_backup() {
    let source = TestServer::start(&[]);
    source.execute_all(&TABLES);
    source.execute("FLUSH TABLES test.old FOR EXPORT");
    let dir = source.datadir().join("test");
    fs::copy(dir.join("old.ibd"), dir.join("stray.ibd")).unwrap();
    let backup = source.dir().join("backup");
    let mut command = Tool::Ours.backup_command(&source, &backup, &[]);
    compat_tests::tool::run(&mut command).expect_failure(&["are both tablespace", "test/stray"]);
}

#[test]
fn a_link_to_a_tablespace_that_is_not_there_fails_the_backup() {
    let source = TestServer::start(&[]);
    let elsewhere = source.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    source.execute(format!(
        "CREATE TABLE test.far (id INT PRIMARY KEY) DATA DIRECTORY='{}'",
        elsewhere.display()
    ));
    fs::rename(elsewhere.join("test/far.ibd"), elsewhere.join("test/moved")).unwrap();
    let backup = source.dir().join("backup");
    let mut command = Tool::Ours.backup_command(&source, &backup, &[]);
    compat_tests::tool::run(&mut command).expect_failure(&["far.isl", "not there"]);
}

#[test]
fn an_empty_file_in_place_of_a_tablespace_keeps_no_backup_from_being_used() {
    let mut source = TestServer::start(&[]);
    source.execute_all(&TABLES);
    fs::write(source.datadir().join("test/junk.ibd"), "").unwrap();
    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &[]);
    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &[]);
    State::of(&source).assert_same_as(&State::of(&restored));
    source.shutdown();
}
