//! Signals end a backup within a second, whatever it is doing; the server is free and the target
//! says that it is no backup.

#![cfg(test)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::compare::metadata_name;
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::{Outcome, Running, Tool, run};
use mysql::prelude::Queryable as _;

const MARK: &str = "mariabackup_incomplete";

/// Name and number.
const SIGNALS: [(&str, i32); 4] = [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)];

const POINTS: [&str; 7] = [
    "before-listing",
    "in-file ibdata1",
    "in-flush",
    "in-block-ddl",
    "in-block-commit",
    "after-end",
    "before-checkpoints",
];

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.expect("run kill").success());
}

fn server_with_tables(series: Series) -> TestServer {
    let server = TestServer::start_series(series, &[]);
    server.execute_all(&[
        "CREATE TABLE test.t ENGINE=InnoDB SELECT seq FROM test.seq_1_to_100",
        "CREATE TABLE test.m (id INT, n INT) ENGINE=MyISAM",
    ]);
    server
}

/// Sends the signal and waits for the end, which must be that of the signal and come within a
/// second.
fn end_by(mut tool: HookedBackup, (name, number): (&str, i32)) -> Outcome {
    signal(name, tool.tool().child().id());
    let sent = Instant::now();
    let outcome = tool.wait();
    let passed = sent.elapsed();
    assert!(passed < Duration::from_secs(1), "SIG{name}: {passed:?}\n{}", outcome.stderr);
    assert_eq!(outcome.status.signal(), Some(number), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("completed OK!"), "{}", outcome.stderr);
    outcome
}

/// Nobody of the backup is at the server any more, and nothing waits.
fn assert_free(server: &TestServer) {
    wait_until("the server to be free", || {
        server.query("SELECT id FROM information_schema.processlist WHERE user = 'root'").len() == 1
    });
    let mut client = server.connect();
    for sql in [
        "SET SESSION lock_wait_timeout = 5",
        "CREATE TABLE test.free (a INT) ENGINE=InnoDB",
        "INSERT INTO test.free VALUES (1)",
        "DROP TABLE test.free",
    ] {
        client.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Neither a backup nor a place for one.
fn assert_refused(server: &TestServer, target: &Path) {
    assert!(!target.join(metadata_name(server.series(), "checkpoints")).exists());
    let words = [MARK, target.to_str().unwrap()];
    run(&mut Tool::Ours.prepare_command(target, &[])).expect_failure(&words);
    run(&mut Tool::Ours.backup_command(server, target, &[])).expect_failure(&words);
    let empty = TestServer::prepare(server.series(), &[]);
    run(&mut Tool::Ours.restore_command("--copy-back", target, &empty, &["--force-unprepared"]))
        .expect_failure(&words);
}

#[test]
fn a_signal_ends_a_backup_at_every_stage() {
    for (series, first) in Series::CURRENT.into_iter().zip([0, 2]) {
        let server = server_with_tables(series);
        for (index, point) in POINTS.into_iter().enumerate() {
            let (name, number) = SIGNALS[(first + index) % SIGNALS.len()];
            println!("{series}: SIG{name} at {point}");
            let target = server.dir().join(format!("backup{index}"));
            let mut tool = HookedBackup::start(&server, &target, &[], &[point]);
            tool.wait_at(point);
            let outcome = end_by(tool, (name, number));
            assert!(outcome.stderr.contains(&format!("SIG{name}")), "{}", outcome.stderr);
            let mark = fs::read_to_string(target.join(MARK)).unwrap();
            assert!(mark.contains("--backup") && mark.contains(&format!("SIG{name}")), "{mark}");
            assert_free(&server);
            assert_refused(&server, &target);
        }
    }
}

#[test]
fn a_signal_tells_of_a_checkpoint_of_myrocks_that_is_left_on_the_server() {
    let options = ["--plugin-load-add=ha_rocksdb.so", "--plugin-maturity=unknown"];
    let server = TestServer::start(&options);
    server.execute("CREATE TABLE test.r (id INT PRIMARY KEY) ENGINE=ROCKSDB");
    let folder = server.datadir().join("#rocksdb/mariabackup-checkpoint");
    for (point, is_left) in [("in-block-ddl", false), ("after-end", true)] {
        let target = server.dir().join(point);
        let mut tool = HookedBackup::start(&server, &target, &[], &[point]);
        tool.wait_at(point);
        let outcome = end_by(tool, ("TERM", 15));
        let mark = fs::read_to_string(target.join(MARK)).unwrap();
        for text in [&outcome.stderr, &mark] {
            assert_eq!(text.contains("mariabackup-checkpoint"), is_left, "{text}");
        }
        assert_eq!(folder.exists(), is_left);
        assert_free(&server);
    }
    Tool::Ours.backup(&server, &server.dir().join("good"), &[]);
    assert!(!folder.exists());
}

#[test]
fn a_killed_backup_is_marked_at_every_stage() {
    let server = server_with_tables(Series::V10_11);
    for (index, point) in POINTS.into_iter().enumerate() {
        let target = server.dir().join(format!("backup{index}"));
        let mut tool = HookedBackup::start(&server, &target, &[], &[point]);
        tool.wait_at(point);
        end_by(tool, ("KILL", 9));
        let mark = fs::read_to_string(target.join(MARK)).unwrap();
        assert!(mark.contains("--backup"), "{mark}");
        assert_free(&server);
        assert_refused(&server, &target);
    }
}

#[test]
fn a_complete_backup_has_no_mark_and_a_failed_one_its_reason() {
    let mut server = server_with_tables(Series::V10_11);
    let target = server.dir().join("good");
    Tool::Ours.backup(&server, &target, &[]);
    assert!(!target.join(MARK).exists());

    let target = server.dir().join("failed");
    let mut tool = HookedBackup::start(&server, &target, &[], &["in-flush"]);
    tool.wait_at("in-flush");
    let names = || -> std::collections::BTreeSet<_> {
        fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = names();
    server.kill();
    tool.go_on("in-flush");
    tool.wait().expect_failure(&["Server has gone away"]);
    assert!(before.is_subset(&names()), "{before:?} {:?}", names());
    let mark = fs::read_to_string(target.join(MARK)).unwrap();
    assert!(mark.contains("Reason:") && mark.contains("gone away"), "{mark}");
}

#[test]
fn a_signal_ends_a_backup_that_waits_for_a_lock() {
    for series in Series::CURRENT {
        let server = server_with_tables(series);
        let mut writer = server.connect();
        let writer_id = writer.connection_id();
        let writer = thread::spawn(move || {
            // It is killed in the end.
            let _ = writer
                .query_drop("INSERT INTO test.m SELECT seq, SLEEP(0.1) FROM test.seq_1_to_100000");
        });
        let waits = |statement: &str| {
            let sql = format!(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{statement}%'"
            );
            server.query_u64(sql) > 0
        };
        wait_until("the writer", || waits("INSERT INTO test.m"));
        let target = server.dir().join("backup");
        let tool = HookedBackup::start(&server, &target, &[], &[]);
        wait_until("the wait for the lock", || waits("BACKUP STAGE BLOCK_DDL"));
        end_by(tool, ("TERM", 15));
        let ended = Instant::now();
        wait_until("the statement to vanish", || !waits("BACKUP STAGE"));
        assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
        server.execute(format!("KILL QUERY {writer_id}"));
        writer.join().unwrap();
        assert_free(&server);
        assert!(target.join(MARK).exists());
    }
}

#[test]
fn a_signal_ends_a_backup_that_waits_for_the_server() {
    let server = server_with_tables(Series::V11_8);
    let target = server.dir().join("backup");
    let mut tool = HookedBackup::start(&server, &target, &[], &["in-flush"]);
    tool.wait_at("in-flush");
    signal("STOP", server.pid());
    tool.go_on("in-flush");
    // The statement is sent, and there is no answer.
    thread::sleep(Duration::from_millis(200));
    end_by(tool, ("INT", 2));
    signal("CONT", server.pid());
    assert_free(&server);
    assert!(target.join(MARK).exists());
}

#[test]
fn a_signal_ends_a_backup_whose_messages_nobody_reads() {
    let server = server_with_tables(Series::V10_11);
    let target = server.dir().join("backup");
    let pipe = server.dir().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for both, so that neither side waits for the other.
    let both = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let point = "in-file ibdata1";
    let mut tool = HookedBackup::start_by(&server, &target, &[], &[point], |inner| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "pipe=$1; shift; exec \"$@\" 2>\"$pipe\"", "sh"]).arg(&pipe);
        shell.arg(inner.get_program()).args(inner.get_args());
        shell
    });
    tool.wait_at(point);
    let mut writer = both.try_clone().unwrap();
    // Ends only with this process: by then the pipe is full.
    thread::spawn(move || writer.write_all(&vec![b'x'; 1 << 20]));
    thread::sleep(Duration::from_millis(100));
    tool.go_on(point);
    thread::sleep(Duration::from_millis(200));
    end_by(tool, ("TERM", 15));
    assert_free(&server);
    let mark = fs::read_to_string(target.join(MARK)).unwrap();
    assert!(mark.contains("SIGTERM"), "{mark}");
}

#[test]
fn a_backup_under_nohup_goes_on() {
    let server = server_with_tables(Series::V10_11);
    let target = server.dir().join("backup");
    let mut tool = HookedBackup::start_by(&server, &target, &[], &["in-flush"], |inner| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
        shell.arg(inner.get_program()).args(inner.get_args());
        shell
    });
    tool.wait_at("in-flush");
    signal("HUP", tool.tool().child().id());
    thread::sleep(Duration::from_millis(100));
    tool.go_on("in-flush");
    tool.wait().expect_success();
    assert!(!target.join(MARK).exists());
}

/// They can be killed at any point, so that nothing needs to be done about a signal.
#[test]
fn a_signal_ends_prepare_and_restore_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // Both read this file early, and wait for a writer.
    let status = Command::new("mkfifo").arg(dir.path().join("xtrabackup_checkpoints")).status();
    assert!(status.unwrap().success());
    let empty = TestServer::prepare(Series::V10_11, &[]);
    for (name, number) in SIGNALS {
        for command in [
            &mut Tool::Ours.prepare_command(dir.path(), &[]),
            &mut Tool::Ours.restore_command("--copy-back", dir.path(), &empty, &[]),
        ] {
            let mut tool = Running::start(command);
            let pid = tool.child().id();
            wait_until("the wait for the file", || {
                // Name in parentheses, then the state: sleeping.
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                stat.contains("(mariabackup") && stat.contains(") S ")
            });
            signal(name, pid);
            let sent = Instant::now();
            let outcome = tool.wait();
            assert_eq!(outcome.status.signal(), Some(number), "{}", outcome.stderr);
            assert!(sent.elapsed() < Duration::from_secs(1));
        }
    }
}
