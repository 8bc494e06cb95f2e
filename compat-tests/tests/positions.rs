//! Where the server stands in other logs than InnoDB's: as a replica, and in its own binary log.

#![cfg(test)]

use std::fs;
use std::path::Path;

use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::{Tool, run};

const NETWORK: &str = "--skip-networking=0";

fn backup(server: &TestServer, target: &Path, options: &[&str]) -> String {
    let mut command = Tool::Ours.command();
    command.args(["--backup", "--user=root"]).args(options);
    command.arg(format!("--socket={}", server.socket().display()));
    command.arg(format!("--target-dir={}", target.display()));
    let outcome = run(&mut command);
    assert!(outcome.status.success(), "{}: {}", outcome.command, outcome.stderr);
    outcome.stderr
}

fn restored(target: &Path, options: &[&str]) -> TestServer {
    let mut server = TestServer::prepare(compat_tests::installation::Series::V10_11, options);
    for words in [vec!["--prepare"], vec!["--copy-back"]] {
        let mut command = Tool::Ours.command();
        command.args(words).arg(format!("--target-dir={}", target.display()));
        command.arg(format!("--datadir={}", server.datadir().display()));
        let outcome = run(&mut command);
        assert!(outcome.status.success(), "{}: {}", outcome.command, outcome.stderr);
    }
    server.launch();
    server
}

/// What a backup of `server` records about replication, and says of it.
fn slave_info(server: &TestServer, name: &str) -> (Option<String>, String) {
    let target = server.dir().join(name);
    let said = backup(server, &target, &["--slave-info"]);
    let words = said.lines().filter_map(|line| line.split_once("MySQL slave binlog position: "));
    let words = words.map(|(_, words)| words.to_owned()).collect();
    (fs::read_to_string(target.join("xtrabackup_slave_info")).ok(), words)
}

#[test]
fn all_kinds_of_primaries_are_recorded() {
    let server = TestServer::start(&[]);
    assert_eq!(slave_info(&server, "none"), (None, String::new()));
    server.execute("CHANGE MASTER TO MASTER_HOST='localhost', MASTER_USE_GTID=no");
    let expected = (
        Some("CHANGE MASTER TO MASTER_LOG_FILE='', MASTER_LOG_POS=0;\n".to_owned()),
        "master '' filename '' position '0'".to_owned(),
    );
    assert_eq!(slave_info(&server, "one"), expected);
    server.execute_all(&[
        "SET GLOBAL gtid_slave_pos='1-1-1,2-2-2'",
        "CHANGE MASTER 'b' TO MASTER_HOST='localhost', MASTER_USE_GTID=slave_pos",
    ]);
    let expected = (
        Some(
            "SET GLOBAL gtid_slave_pos = '1-1-1,2-2-2';\n\
             CHANGE MASTER TO MASTER_LOG_FILE='', MASTER_LOG_POS=0;\n\
             CHANGE MASTER 'b' TO master_use_gtid = slave_pos;\n"
                .to_owned(),
        ),
        "gtid_slave_pos '1-1-1,2-2-2'; master '' filename '' position '0'; \
         master 'b' master_use_gtid = slave_pos"
            .to_owned(),
    );
    assert_eq!(slave_info(&server, "two"), expected);
    // A backup without an account's right to ask does not begin to copy.
    server.execute_all(&[
        "CREATE USER b@localhost",
        "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO b@localhost",
    ]);
    let mut command = Tool::Ours.command();
    command.args(["--backup", "--user=b", "--slave-info"]);
    command.arg(format!("--socket={}", server.socket().display()));
    command.arg(format!("--target-dir={}", server.dir().join("refused").display()));
    let outcome = run(&mut command);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.stderr.contains("missing required privilege SLAVE MONITOR on *.*"),
        "{}",
        outcome.stderr
    );
    assert!(!server.dir().join("refused/ibdata1").exists());
}

#[test]
fn a_copy_of_a_replica_goes_on_where_the_backup_stands() {
    let primary = TestServer::start(&[NETWORK]);
    primary.execute_all(&[
        "CREATE USER repl@127.0.0.1",
        "GRANT REPLICATION SLAVE ON *.* TO repl@127.0.0.1",
        "CREATE TABLE test.t (id INT AUTO_INCREMENT PRIMARY KEY, a INT)",
        "INSERT INTO test.t (a) SELECT seq FROM test.seq_1_to_1000",
    ]);
    let to_primary = |gtid: &str| {
        format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl'{gtid}",
            primary.port()
        )
    };
    let options = ["--server-id=2", "--log-slave-updates"];
    let replica = TestServer::start(&options);
    replica.execute_all(&[&to_primary(", MASTER_USE_GTID=slave_pos"), "START SLAVE"]);
    let rows = "SELECT COUNT(*), SUM(a) FROM test.t";
    let has_all = |server: &TestServer| {
        server.query("SHOW TABLES FROM test").len() == 1
            && server.query(rows) == primary.query(rows)
    };
    wait_until("the replica", || has_all(&replica));

    let target = replica.dir().join("backup");
    let said = backup(&replica, &target, &["--slave-info", "--safe-slave-backup"]);
    assert!(said.contains("Slave open temp tables: 0") && said.contains("Slave is safe to backup"));
    primary.execute("INSERT INTO test.t (a) SELECT seq FROM test.seq_1_to_100");
    // Its SQL thread runs again.
    wait_until("the replica after its backup", || has_all(&replica));

    let copy = restored(&target, &["--server-id=3"]);
    assert!(!has_all(&copy));
    copy.execute(to_primary(""));
    let info = fs::read_to_string(target.join("xtrabackup_slave_info")).unwrap();
    for statement in info.lines() {
        copy.execute(statement.trim_end_matches(';'));
    }
    copy.execute("START SLAVE");
    wait_until("the copy of the replica", || has_all(&copy));
}

#[test]
fn the_position_in_the_binary_log_is_read_from_the_server_from_innodb_or_not_at_all() {
    let server = TestServer::start(&[]);
    server.execute_all(&[
        "CREATE TABLE test.t (a INT) ENGINE=InnoDB",
        "INSERT INTO test.t VALUES (1)",
    ]);
    let read = |name: &str, value: &str| {
        let target = server.dir().join(name);
        backup(&server, &target, &[value]);
        let mut command = Tool::Ours.command();
        command.arg("--prepare").arg(format!("--target-dir={}", target.display()));
        assert!(run(&mut command).status.success());
        fs::read_to_string(target.join("xtrabackup_binlog_info")).ok()
    };
    let status = server.query("SHOW MASTER STATUS").remove(0);
    let (file, position) = (status[0].clone(), status[1].clone());
    assert_eq!(read("off", "--binlog-info=off"), None);
    let on = read("on", "--binlog-info=on").unwrap();
    assert!(on.starts_with(&format!("{file}\t{position}\t0-1-")), "{on}");
    let recovered = read("lockless", "--binlog-info=lockless").unwrap();
    assert!(recovered.ends_with(&format!("{file}\t{position}\n")), "{recovered}");
}
