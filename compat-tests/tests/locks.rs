//! The locks of a backup: what waits for them, who is named, ended or left alone, and what is
//! restored where other locks than the usual ones, or none, were taken.

#![cfg(test)]

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::statement::{Statement, killed, wait_for_process};
use compat_tests::tool::{Running, Tool, run};
use compat_tests::workload::{Counter, Workload, create_tables};
use mysql::prelude::Queryable as _;

const FTWRL: &str = "--consistency-lock=ftwrl";

fn tables(server: &TestServer) {
    server.execute_all(&[
        "CREATE TABLE test.i (id INT PRIMARY KEY, n INT) ENGINE=InnoDB",
        "INSERT INTO test.i VALUES (1, 1), (2, 2)",
        "CREATE TABLE test.m (id INT, n INT) ENGINE=MyISAM",
        "INSERT INTO test.m VALUES (1, 1)",
    ]);
}

/// Runs a backup that must give up, and checks that it left no lock.
fn gives_up(server: &TestServer, options: &[&str], words: &[&str]) {
    let backup = server.dir().join("backup");
    let outcome = run(&mut Tool::Ours.backup_command(server, &backup, options));
    let text = outcome.expect_failure(words);
    assert!(text.contains("\nHint: "), "{text}");
    server.execute("SET STATEMENT lock_wait_timeout=1 FOR CREATE TABLE test.free (a INT)");
    server.execute("DROP TABLE test.free");
    fs::remove_dir_all(&backup).unwrap();
}

#[test]
fn a_wait_that_is_too_long_names_who_holds_it_up_and_leaves_no_lock() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        tables(&server);
        let bounded = "--startup-wait-timeout=1";

        let mut owner = server.connect();
        owner.query_drop("LOCK TABLES test.m WRITE").unwrap();
        let words = ["BACKUP STAGE START: Lock wait timeout exceeded", "has locked test.m"];
        gives_up(&server, &[bounded], &words);
        gives_up(&server, &[bounded, FTWRL], &["FLUSH TABLES WITH READ LOCK", "test.m"]);
        server.execute("INSTALL SONAME 'metadata_lock_info'");
        let named = format!("connection {} (root, idle for", owner.connection_id());
        gives_up(&server, &[bounded], &["BACKUP STAGE START", &named, "test.m"]);
        drop(owner);

        let sql = "INSERT INTO test.m SELECT seq, SLEEP(0.1) FROM test.seq_1_to_100000";
        let insert = Statement::start(&server, sql);
        let words = ["BACKUP STAGE BLOCK_DDL: Lock wait timeout exceeded", "waited 1 s", sql];
        gives_up(&server, &[bounded], &words);
        insert.kill(&server);
    }
}

/// A backup asks for a lock again and again, and others go on meanwhile.
fn others_go_on(series: Series, options: &[&str], sql: &str, lock: &str, others: &[&str]) {
    let mut source = TestServer::start_series(series, &[]);
    tables(&source);
    let statement = Statement::start(&source, sql);
    let mut tool = Running::backup(&source, options);
    // Only a lock that is waited for holds up others, until it is given up.
    wait_for_process(&source, &format!("info LIKE '{lock}%' AND state LIKE 'Waiting%'"));
    for sql in others {
        let begun = Instant::now();
        source.execute(sql);
        assert!(begun.elapsed() < Duration::from_secs(8), "{sql} took {:?}", begun.elapsed());
    }
    assert!(tool.child().try_wait().unwrap().is_none());
    statement.kill(&source);
    let text = tool.wait().expect_success();
    for words in ["was not granted in 5 s and is asked for again later", sql] {
        assert!(text.contains(words), "{words}: {text}");
    }
    restores(&mut source, series, &Tool::Ours);
}

/// Prepares and restores the backup, replays the binary log and compares.
fn restores(source: &mut TestServer, series: Series, tool: &Tool) {
    let backup = source.dir().join("backup");
    let state = State::of(source);
    source.shutdown();
    if source.dir().join("elsewhere").exists() {
        fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();
    }
    tool.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, series, &[]);
    replay_binlog(source, &backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

#[test]
fn ddl_goes_on_while_a_long_statement_keeps_the_stage_from_being_reached() {
    let sql = "CREATE TABLE test.x ENGINE=InnoDB SELECT seq, SLEEP(0.1) FROM test.seq_1_to_100000";
    let others = ["CREATE TABLE test.y (a INT)", "ALTER TABLE test.y ADD b INT"];
    for series in Series::CURRENT {
        others_go_on(series, &[], sql, "BACKUP STAGE START", &others);
    }
}

#[test]
fn writes_go_on_while_a_long_statement_keeps_the_read_lock_from_being_had() {
    let sql = "UPDATE test.i SET n = n + SLEEP(1000) WHERE id = 2";
    let others = ["INSERT INTO test.i VALUES (3, 3)", "INSERT INTO test.m VALUES (3, 3)"];
    for series in Series::CURRENT {
        others_go_on(series, &[FTWRL], sql, "FLUSH TABLES WITH READ LOCK", &others);
    }
}

#[test]
fn ddl_waits_for_tables_locked_one_by_one_and_is_killed_in_the_end() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        tables(&source);
        source.execute_all(&[
            "CREATE TABLE test.parts (a INT) ENGINE=InnoDB PARTITION BY HASH(a) PARTITIONS 3",
            "CREATE TABLE test.`w ä` (a INT, t TEXT, FULLTEXT(t)) ENGINE=InnoDB",
        ]);
        let backup = source.dir().join("backup");
        let points = ["before-listing", "before-block-ddl"];
        let options = ["--lock-ddl-per-table"];
        let mut tool = HookedBackup::start(&source, &backup, &options, &points);
        tool.wait_at("before-listing");
        let mut impatient = source.connect();
        impatient.query_drop("SET lock_wait_timeout = 1").unwrap();
        for sql in [
            "ALTER TABLE test.i ADD c INT",
            "DROP TABLE test.`w ä`",
            "ALTER TABLE test.parts COALESCE PARTITION 1",
        ] {
            let error = impatient.query_drop(sql).unwrap_err();
            assert!(error.to_string().contains("1205"), "{sql}: {error}");
        }
        // Other engines' tables, new tables and writes are as free as ever.
        source.execute_all(&[
            "ALTER TABLE test.m ADD c INT",
            "CREATE TABLE test.late ENGINE=InnoDB SELECT 1 a",
            "INSERT INTO test.i VALUES (3, 3)",
        ]);
        tool.go_on("before-listing");
        tool.wait_at("before-block-ddl");
        let alter = Statement::start(&source, "ALTER TABLE test.i ADD c INT");
        let trigger = "CREATE TRIGGER test.tr BEFORE INSERT ON test.i FOR EACH ROW SET @a = 1";
        let trigger = Statement::start(&source, trigger);
        // Only behind those who wait a reader waits, too.
        let waits = "state = 'Waiting for table metadata lock'";
        for id in [alter.id, trigger.id] {
            wait_for_process(&source, &format!("{waits} AND id = {id}"));
        }
        let read = Statement::start(&source, "SELECT *, SLEEP(0.2) FROM test.i");
        wait_for_process(&source, &format!("{waits} AND id = {}", read.id));
        tool.go_on("before-block-ddl");
        let text = tool.wait().expect_success();
        assert!(text.contains("Killing MDL waiting connection"), "{text}");
        assert!(text.contains("ALTER TABLE test.i ADD c INT"), "{text}");
        assert!(!text.contains("locking MDL failed"), "{text}");
        assert!(killed(&alter.end()) && killed(&trigger.end()));
        read.end().unwrap();
        // Nothing is locked any more.
        source.execute("ALTER TABLE test.i ADD c INT");
        restores(&mut source, series, &Tool::Ours);
    }
}

#[test]
fn tables_that_may_not_be_read_are_not_locked_and_named() {
    let server = TestServer::start(&[]);
    tables(&server);
    server.execute_all(&[
        "CREATE USER b@localhost",
        "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO b@localhost",
        "GRANT SELECT ON mysql.* TO b@localhost",
    ]);
    let text =
        Running::backup(&server, &["--lock-ddl-per-table", "--user=b"]).wait().expect_success();
    let words = "Warning : locking MDL failed for space id ";
    assert!(text.contains(words) && text.contains(", name `test`.`i`: "), "{text}");
    assert!(text.contains("Warning: missing required privilege CONNECTION ADMIN"), "{text}");
}

#[test]
fn a_lost_connection_with_tables_locked_one_by_one_fails_the_backup() {
    let server = TestServer::start(&[]);
    tables(&server);
    let backup = server.dir().join("backup");
    let points = ["before-block-ddl"];
    let mut tool = HookedBackup::start(&server, &backup, &["--lock-ddl-per-table"], &points);
    tool.wait_at("before-block-ddl");
    let sql = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx";
    wait_for_process(&server, "command = 'Sleep'");
    let held: Vec<String> = server.query(sql).concat();
    let idle = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' ORDER BY id";
    // The second connection of the backup, or the only one with a transaction.
    let id = held.first().cloned().unwrap_or_else(|| server.query(idle).concat().remove(1));
    server.execute(format!("KILL {id}"));
    wait_until("the connection to be gone", || !server.query(idle).concat().contains(&id));
    tool.go_on("before-block-ddl");
    tool.wait().expect_failure(&["the backup in"]);
}

/// A round trip of a busy server.
fn round_trip(series: Series, options: &[&str], seed: u64) -> String {
    let mut source = TestServer::start_series(series, &[]);
    create_tables(&source);
    let load = Workload::start(&source, seed, 3);
    load.wait_for(1000);
    let text = Running::backup(&source, options).wait().expect_success();
    load.wait_for(500);
    load.stop();
    restores(&mut source, series, &Tool::Ours);
    text
}

#[test]
fn all_rows_survive_a_global_read_lock() {
    for series in Series::CURRENT {
        for seed in [1, 2] {
            let text = round_trip(series, &[FTWRL, "--parallel=2"], seed);
            assert!(!text.contains("BACKUP STAGE BLOCK"), "{text}");
        }
    }
}

#[test]
fn all_rows_survive_with_tables_locked_one_by_one() {
    for series in Series::CURRENT {
        round_trip(series, &["--lock-ddl-per-table"], 3);
    }
}

#[test]
fn a_global_read_lock_takes_no_stage_and_no_lock_of_a_table() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &["--general-log", "--log-output=FILE"]);
        tables(&server);
        let log = server.dir().join("general");
        server.execute(format!("SET GLOBAL general_log_file = '{}'", log.display()));
        Running::backup(&server, &[FTWRL]).wait().expect_success();
        let text = fs::read_to_string(&log).unwrap();
        for word in ["BACKUP STAGE", "BACKUP LOCK"] {
            assert!(!text.contains(word), "{word}");
        }
        let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word}"));
        let lock = at("FLUSH TABLES WITH READ LOCK");
        let unlock = at("UNLOCK TABLES");
        assert!(lock < at("SHOW MASTER STATUS") || text.matches("SHOW MASTER STATUS").count() > 1);
        assert!(lock < unlock && text[lock..unlock].contains("Innodb_lsn_current"));
    }
}

#[test]
fn long_queries_are_waited_for_before_the_read_lock() {
    let server = TestServer::start(&[]);
    tables(&server);
    let select = Statement::start(&server, "SELECT SLEEP(1000)");
    thread::sleep(Duration::from_millis(1100));
    let options = |more: &[&'static str]| {
        [&[FTWRL, "--ftwrl-wait-timeout=2", "--ftwrl-wait-threshold=1"], more].concat()
    };
    let words = ["Unable to obtain lock. Please try again later.", "SELECT SLEEP(1000)"];
    gives_up(&server, &options(&[]), &words);
    gives_up(&server, &options(&["--ftwrl-wait-query-type=SELECT"]), &words);
    // It is neither an update nor in the way.
    let options = options(&["--ftwrl-wait-query-type=UPDATE"]);
    Running::backup(&server, &options).wait().expect_success();
    select.kill(&server);
}

#[test]
fn long_queries_in_the_way_of_the_read_lock_are_killed() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        tables(&server);
        let select = Statement::start(&server, "SELECT SLEEP(1000)");
        let update =
            Statement::start(&server, "UPDATE test.i SET n = n + SLEEP(1000) WHERE id = 2");
        let kill = ["--kill-long-queries-timeout=1", "--kill-long-query-type=UPDATE", FTWRL];
        let text = Running::backup(&server, &kill).wait().expect_success();
        let words = format!("Killing query connection {} (root, for", update.id);
        assert!(text.contains(&words), "{text}");
        assert!(killed(&update.end()));
        assert!(!select.has_ended());
        select.kill(&server);
    }
}

#[test]
fn without_locks_innodb_is_consistent() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        source.execute("CREATE TABLE test.t (id BIGINT PRIMARY KEY, v TEXT)");
        let load = Counter::start(&source, "test.t");
        load.wait_for(200);
        let text = Running::backup(&source, &["--no-lock"]).wait().expect_success();
        load.wait_for(200);
        load.stop();
        assert!(text.contains("may be inconsistent"), "{text}");
        let backup = source.dir().join("backup");
        let state = State::of(&source);
        source.shutdown();
        Tool::Ours.prepare(&backup, &[]);
        // Where InnoDB stands, the binary log's own position does not tell.
        let position = fs::read_to_string(backup.join("xtrabackup_binlog_pos_innodb")).unwrap();
        let names = ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"];
        let info = names.map(|name| backup.join(name)).into_iter().find(|path| path.exists());
        fs::write(info.unwrap(), &position).unwrap();
        let restored = restore_rolled_back(&backup, series);
        replay_binlog(&source, &backup, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}

/// Restores; transactions that were prepared but not committed are rolled back, as the binary log
/// from InnoDB's position on holds them.
fn restore_rolled_back(backup: &Path, series: Series) -> TestServer {
    let mut server = TestServer::prepare(series, &[]);
    Tool::Ours.copy_back(backup, &server);
    let mut command = series.server_command();
    command
        .arg("--user=root")
        .arg(format!("--datadir={}", server.datadir().display()))
        .arg(format!("--socket={}", server.socket().display()))
        .arg(format!("--log-bin={}", server.dir().join("tmp/unused").display()))
        .args(["--skip-networking", "--tc-heuristic-recover=ROLLBACK"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // It ends once that is done.
    command.status().unwrap();
    server.launch();
    server
}

#[test]
fn late_changes_without_locks_fail_the_backup() {
    let cure = "Backup is inconsistent. Remove --no-lock option to fix.";
    for (sql, what) in [
        ("CREATE TABLE test.late (a INT) ENGINE=InnoDB", "late phase of backup"),
        ("INSERT INTO test.m VALUES (7, 7)", "executing change on test/m.MYD"),
        ("DROP TABLE test.m", "executing delete on test/m."),
    ] {
        let server = TestServer::start(&[]);
        tables(&server);
        let backup = server.dir().join("backup");
        let points = ["before-block-commit"];
        let mut tool = HookedBackup::start(&server, &backup, &["--no-lock"], &points);
        tool.wait_at("before-block-commit");
        server.execute(sql);
        tool.go_on("before-block-commit");
        tool.wait().expect_failure(&[what, cure]);
    }
}

/// `O_NONBLOCK`
const NONBLOCK: i32 = 0o4000;

/// Reads a named pipe until the flag is set, and until the words were read; what was read.
fn drain(path: &Path, stop: &AtomicBool, words: &str) -> String {
    let mut pipe = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).unwrap();
    let (mut text, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let begun = Instant::now();
    loop {
        let last = stop.load(Ordering::Relaxed);
        while let Ok(len @ 1..) = pipe.read(&mut buffer) {
            text.extend_from_slice(&buffer[..len]);
        }
        if last {
            let text = str::from_utf8(&text).unwrap();
            if text.contains(words) {
                return text.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no {words}: {text}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Fills a named pipe, so that it takes nothing more.
fn fill(path: &Path) {
    let mut pipe = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(path).unwrap();
    for unit in [4096, 1] {
        while pipe.write(&vec![b'\n'; unit]).is_ok() {}
    }
}

#[test]
fn a_full_pipe_for_messages_holds_no_lock() {
    for series in Series::CURRENT {
        for point in ["in-block-ddl", "in-block-commit"] {
            let server = TestServer::start_series(series, &[]);
            tables(&server);
            let pipe = server.dir().join("pipe");
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            // It stays open, whoever comes and goes.
            let _held = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
            let backup = server.dir().join("backup");
            let into_pipe = |command: Command| {
                let mut shell = Command::new("sh");
                shell.args(["-c", "exec \"$@\" 2>\"$0\""]).arg(&pipe);
                shell.arg(command.get_program()).args(command.get_args());
                shell
            };
            let mut tool = HookedBackup::start_by(&server, &backup, &[], &[point], into_pipe);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                // What is said with DDL blocked can be read before it is free again.
                let words = "Acquired locks for BACKUP STAGE BLOCK_DDL";
                let reader = scope.spawn(|| drain(&pipe, &stop, words));
                tool.wait_at(point);
                stop.store(true, Ordering::Relaxed);
                reader.join().unwrap();
            });
            fill(&pipe);
            tool.go_on(point);
            let mut client = server.connect();
            for sql in [
                "SET SESSION lock_wait_timeout = 20",
                "CREATE TABLE test.free (a INT) ENGINE=InnoDB",
                "INSERT INTO test.free VALUES (1)",
            ] {
                client.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            assert!(tool.tool().child().try_wait().unwrap().is_none());
            stop.store(false, Ordering::Relaxed);
            let text = thread::scope(|scope| {
                let reader = scope.spawn(|| drain(&pipe, &stop, "completed OK!"));
                let outcome = tool.wait();
                stop.store(true, Ordering::Relaxed);
                assert!(outcome.status.success());
                reader.join().unwrap()
            });
            assert!(text.contains("All tables unlocked"), "{text}");
        }
    }
}

#[test]
fn each_lock_is_announced_with_its_real_durations() {
    let server = TestServer::start(&[]);
    tables(&server);
    let backup = server.dir().join("backup");
    let points = ["in-block-ddl"];
    let mut tool = HookedBackup::start(&server, &backup, &[], &points);
    tool.wait_at("in-block-ddl");
    thread::sleep(Duration::from_millis(2100));
    tool.go_on("in-block-ddl");
    let text = tool.wait().expect_success();
    for stage in ["START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"] {
        for words in ["Acquired locks for", "Finished"] {
            assert!(text.contains(&format!("{words} BACKUP STAGE {stage}; ")), "{stage}: {text}");
        }
    }
    let held = text.split("Finished BACKUP STAGE BLOCK_DDL; held ").nth(1).unwrap();
    let held: u64 = held.split(' ').next().unwrap().parse().unwrap();
    assert!((2000..6000).contains(&held), "{text}");
    let info = fs::read_to_string(backup.join("xtrabackup_info")).unwrap();
    assert!(["2", "3", "4", "5"].iter().any(|s| info.contains(&format!("\nlock_time = {s}\n"))));
}
