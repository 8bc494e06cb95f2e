//! Waits of a backup: what is waited for and in which order, what is said meanwhile, what stays
//! blocked and what does not.

#![cfg(test)]

use compat_tests::compare::State;
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::statement::{Statement, wait_for_process};
use compat_tests::tool::{Running, Tool, run};
use mysql::prelude::Queryable as _;

const ROCKSDB: [&str; 2] = ["--plugin-load-add=ha_rocksdb.so", "--plugin-maturity=unknown"];
const FTWRL: &str = "--consistency-lock=ftwrl";

fn tables(server: &TestServer) {
    server.execute_all(&[
        "CREATE TABLE test.i (id INT PRIMARY KEY, n INT) ENGINE=InnoDB",
        "INSERT INTO test.i VALUES (1, 1), (2, 2)",
        "CREATE TABLE test.m (id INT, n INT) ENGINE=MyISAM",
        "CREATE TABLE test.other (id INT, n INT) ENGINE=MyISAM",
    ]);
}

/// Fails if a lock is not free.
fn at_once(server: &TestServer, sql: &str) {
    server.execute(format!("SET STATEMENT lock_wait_timeout = 1 FOR {sql}"));
}

/// The number of milliseconds after `words`.
fn milliseconds(text: &str, words: &str) -> u64 {
    let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("no {words}: {text}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_checkpoint_of_myrocks_is_reserved_before_any_lock_and_for_no_longer_than_asked() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &ROCKSDB);
        tables(&server);
        let mut owner = server.connect();
        owner.query_drop("DO GET_LOCK('mariabackup_rocksdb_checkpoint', 0)").unwrap();
        let named = format!("connection {} (root, idle for", owner.connection_id());
        let backup = server.dir().join("backup");
        let bounded = ["--startup-wait-timeout=1"];
        run(&mut Tool::Ours.backup_command(&server, &backup, &bounded)).expect_failure(&[
            "reserve the checkpoint of MyRocks",
            "waited 1 s",
            &named,
            "\nHint: ",
        ]);
        std::fs::remove_dir_all(&backup).unwrap();

        let options = ["--lock-ddl-per-table"];
        let tool = Running::backup(&server, &options);
        wait_for_process(&server, "info LIKE 'SELECT GET_LOCK%'");
        // Neither a table nor the one backup that there can be.
        at_once(&server, "ALTER TABLE test.i ADD c INT");
        let mut other = server.connect();
        for sql in ["SET lock_wait_timeout = 1", "BACKUP STAGE START", "BACKUP STAGE END"] {
            other.query_drop(sql).unwrap();
        }
        drop(owner);
        tool.wait().expect_success();
    }
}

#[test]
fn queries_are_killed_for_the_read_lock_alone() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        tables(&server);
        let select = Statement::start(&server, "SELECT SLEEP(1000)");
        let mut owner = server.connect();
        owner.query_drop("LOCK TABLES test.i WRITE").unwrap();
        let kill = ["--kill-long-queries-timeout=1", "--kill-long-query-type=ALL"];
        let tool =
            Running::backup(&server, &[&kill[..], &[FTWRL, "--lock-ddl-per-table"]].concat());
        wait_for_process(&server, "state = 'Waiting for table metadata lock' AND time >= 4");
        assert!(!select.has_ended());
        drop(owner);
        let text = tool.wait().expect_success();
        assert!(!text.contains("Killing query"), "{text}");
        select.kill(&server);
    }
}

#[test]
fn after_an_attempt_only_what_is_told_stays_blocked_and_no_pause_counts() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        tables(&server);
        let sql = "INSERT INTO test.m SELECT seq, SLEEP(0.1) FROM test.seq_1_to_100000";
        let insert = Statement::start(&server, sql);
        let tool = Running::backup(&server, &[]);
        let mut said = String::new();
        wait_until("the attempt to be given up", || {
            said = tool.said();
            said.contains("BACKUP STAGE BLOCK_DDL was not granted in ")
        });
        let words = "until then only writes to tables without transactions, and DDL on them, wait";
        assert!(said.contains(words), "{said}");
        for sql in [
            "CREATE TABLE test.x (a INT) ENGINE=InnoDB",
            "ALTER TABLE test.x ADD b INT",
            "DROP TABLE test.x",
            "CREATE TABLE test.y (a INT) ENGINE=MyISAM",
            "INSERT INTO test.i VALUES (3, 3)",
        ] {
            at_once(&server, sql);
        }
        let mut client = server.connect();
        client.query_drop("SET lock_wait_timeout = 1").unwrap();
        // They take 3 s in which nothing else is blocked.
        for _ in 0..3 {
            let error = client.query_drop("INSERT INTO test.other VALUES (1, 1)").unwrap_err();
            assert!(error.to_string().contains("1205"), "{error}");
        }
        insert.kill(&server);
        let text = tool.wait().expect_success();
        let waited = milliseconds(&text, "Acquired locks for BACKUP STAGE BLOCK_DDL; waited ");
        let blocked = milliseconds(&text, "DDL was blocked for ");
        assert!((5000..=waited - 2500).contains(&blocked), "{text}");
    }
}

#[test]
fn the_backup_itself_is_not_named_as_who_holds_it_up() {
    let server = TestServer::start(&[]);
    tables(&server);
    let mut owner = server.connect();
    owner.query_drop("LOCK TABLES test.i WRITE").unwrap();
    let tool = Running::backup(&server, &["--lock-ddl-per-table"]);
    let mut said = String::new();
    wait_until("the wait to be told", || {
        said = tool.said();
        said.contains("Waiting for SELECT 1 FROM `test`.`i` LIMIT 0 for ")
    });
    drop(owner);
    assert!(said.contains("held up by an idle connection that has locked test.i"), "{said}");
    tool.wait().expect_success();
}

/// From BACKUP STAGE FLUSH on, DDL waits that may have locked a table whose files are to be copied.
#[test]
fn ddl_that_waits_with_a_table_locked_does_not_hold_up_the_backup_that_it_waits_for() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        source.execute_all(&[
            "CREATE TABLE test.p (id INT) ENGINE=MyISAM PARTITION BY RANGE (id) \
             (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE)",
            "INSERT INTO test.p VALUES (1), (11)",
            "CREATE TABLE test.m ENGINE=MyISAM SELECT * FROM test.p",
        ]);
        let backup = source.dir().join("backup");
        // By now it knows which tables are in use, and test.p comes next.
        let point = "locked test.m";
        let mut tool = HookedBackup::start(&source, &backup, &["--parallel=1"], &[point]);
        tool.wait_at(point);
        let state = State::of(&source);
        let sql = "SET STATEMENT lock_wait_timeout = 20 FOR \
                   ALTER TABLE test.p TRUNCATE PARTITION low";
        let ddl = Statement::start(&source, sql);
        wait_for_process(&source, &format!("id = {} AND state LIKE 'Waiting%'", ddl.id));
        tool.go_on(point);
        tool.wait().expect_success();
        ddl.end().unwrap_or_else(|error| panic!("{series}: {error}"));
        assert_eq!(source.query_u64("SELECT COUNT(*) FROM test.p"), 1);
        source.shutdown();
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        state.assert_same_as(&State::of(&restored));
    }
}
