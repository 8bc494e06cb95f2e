//! Backups to a stream: under load and DDL, unpacked by either mbstream, prepared and restored.

#![cfg(test)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use compat_tests::compare::{State, check_tables, metadata_name, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::{Running, Tool, run};
use compat_tests::workload::{Tables, Workload, create_tables_of};
use mysql::prelude::Queryable as _;

/// Streams a backup of `server` into the file `stream`; returns what was said.
fn stream_backup(server: &TestServer, stream: &Path, options: &[&str]) -> String {
    let options = [&["--stream=xbstream", "--parallel=3"], options].concat();
    let mut command = Tool::Ours.backup_command(server, &server.dir().join("nowhere"), &options);
    command.stdout(File::create(stream).unwrap());
    let said = Running::start(&mut command).wait().expect_success();
    assert!(!server.dir().join("nowhere").exists());
    said
}

fn unpack(tool: &Tool, stream: &Path, dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mut command = tool.mbstream();
    let output = command
        .args(["-x", "-C"])
        .arg(dir)
        .stdin(File::open(stream).unwrap())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn check(series: Series) {
    let source = TestServer::start_series(series, &[]);
    let tables = Tables::new(
        &[
            ("busy.dynamic", "ENGINE=InnoDB"),
            ("busy.zip", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
            ("busy.parts", "ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3"),
        ],
        &[
            ("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"),
            ("busy.aria_plain", "ENGINE=Aria TRANSACTIONAL=0"),
            ("busy.myisam", "ENGINE=MyISAM"),
        ],
    );
    create_tables_of(&source, &tables);
    source.execute("CREATE TABLE busy.emptied (id INT PRIMARY KEY) ENGINE=InnoDB");
    let load = Workload::start_on(&source, &tables, 5, 3);
    load.wait_for(500);
    let stream = source.dir().join("stream");
    let extra = source.dir().join("lsn");
    let extra_option = format!("--extra-lsndir={}", extra.display());
    stream_backup(&source, &stream, &[&extra_option]);
    load.wait_for(200);
    load.stop();
    let state = State::of(&source);
    for (name, tool) in [("ours", Tool::Ours), ("theirs", Tool::Reference(series))] {
        let dir = source.dir().join(name);
        unpack(&tool, &stream, &dir);
        for entry in fs::read_dir(&extra).unwrap() {
            let name = entry.unwrap().file_name();
            assert_eq!(fs::read(extra.join(&name)).unwrap(), fs::read(dir.join(&name)).unwrap());
        }
        let info = fs::read_to_string(dir.join(metadata_name(series, "info"))).unwrap();
        let format = if series == Series::V10_5 { "xbstream" } else { "mbstream" };
        assert!(info.contains(&format!("\nformat = {format}\n")), "{info}");
        tool.prepare(&dir, &[]);
        let restored = Tool::Ours.restore(&dir, series, &[]);
        replay_binlog(&source, &dir, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}

#[test]
fn streams_of_10_11() {
    check(Series::V10_11);
}

#[test]
fn streams_of_11_8() {
    check(Series::V11_8);
}

#[test]
fn streams_of_10_5() {
    check(Series::V10_5);
}

#[test]
fn a_reader_that_goes_away_fails_the_backup() {
    let server = TestServer::start(&[]);
    let mut command =
        Tool::Ours.backup_command(&server, Path::new("nowhere"), &["--stream=mbstream"]);
    command.stdout(Stdio::piped());
    let mut running = Running::start(&mut command);
    drop(running.child().stdout.take());
    let outcome = running.wait();
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the backup to standard output is not complete"));
    assert!(outcome.stderr.contains("Broken pipe"), "{}", outcome.stderr);
}

/// Copies the pipe `from` to the file `to`, but for as long as it is told to stop.
fn slow_reader(from: &Path, to: &Path, stopped: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (from, to, stopped) = (from.to_owned(), to.to_owned(), Arc::clone(stopped));
    thread::spawn(move || {
        let (mut from, mut to) = (File::open(from).unwrap(), File::create(to).unwrap());
        let mut bytes = vec![0; 1 << 16];
        loop {
            while stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            let len = from.read(&mut bytes).unwrap();
            if len == 0 {
                return;
            }
            to.write_all(&bytes[..len]).unwrap();
        }
    })
}

fn check_stopped_reader(options: &[&str]) {
    let server = TestServer::start(&[]);
    server.execute_all(&[
        "CREATE DATABASE d",
        "CREATE TABLE d.old (id INT PRIMARY KEY, v VARCHAR(256)) ENGINE=MyISAM",
        "INSERT INTO d.old SELECT seq, CONCAT(SHA2(seq, 512), SHA2(-seq, 512)) FROM d.seq_1_to_20000",
        "CREATE TABLE d.gone (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE d.frozen (id INT PRIMARY KEY) ENGINE=InnoDB",
    ]);
    // A table in use is copied with DDL blocked.
    let mut user = server.connect();
    user.query_drop("HANDLER d.old OPEN").unwrap();
    let (pipe, stream) = (server.dir().join("pipe"), server.dir().join("stream"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let stopped = Arc::new(AtomicBool::new(false));
    let reader = slow_reader(&pipe, &stream, &stopped);
    let options = [&["--stream=mbstream"], options].concat();
    let point = "before-block-ddl";
    let mut backup =
        HookedBackup::start_by(&server, Path::new("nowhere"), &options, &[point], |command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "pipe=$1; shift; exec \"$@\" > \"$pipe\"", "sh"]).arg(&pipe);
            shell.arg(command.get_program()).args(command.get_args());
            shell
        });
    backup.wait_at(point);
    stopped.store(true, Ordering::Relaxed);
    // More than a pipe holds.
    server.execute_all(&[
        "DROP TABLE d.gone",
        "CREATE TABLE d.late (id INT PRIMARY KEY, v VARCHAR(256)) ENGINE=InnoDB \
         SELECT seq id, CONCAT(SHA2(seq, 512), SHA2(-seq, 512)) v FROM d.seq_1_to_20000",
    ]);
    let state = State::of(&server);
    backup.go_on(point);
    let said = |backup: &mut HookedBackup| backup.tool().said();
    // The locks go although nobody reads.
    wait_until("the end of the locks", || said(&mut backup).contains("BACKUP STAGE END"));
    server.execute_all(&[
        "SET lock_wait_timeout = 20",
        "CREATE TABLE d.after (id INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO d.frozen VALUES (1)",
    ]);
    assert!(!said(&mut backup).contains("completed OK!"));
    stopped.store(false, Ordering::Relaxed);
    backup.wait().expect_success();
    reader.join().unwrap();
    let dir = server.dir().join("unpacked");
    unpack(&Tool::Reference(Series::V10_11), &stream, &dir);
    if options.len() > 1 {
        let mut command = Tool::Ours.command();
        command.args(["--decompress", "--remove-original", "--target-dir"]).arg(&dir);
        run(&mut command).expect_success();
    }
    Tool::Ours.prepare(&dir, &[]);
    let restored = Tool::Ours.restore(&dir, Series::V10_11, &[]);
    state.assert_same_as(&State::of(&restored));
}

#[test]
fn a_reader_that_stops_holds_up_nobody() {
    check_stopped_reader(&[]);
}

#[test]
fn a_reader_of_a_compressed_stream_that_stops_holds_up_nobody() {
    check_stopped_reader(&["--compress=zstd"]);
}

#[test]
fn archives_are_read_by_tar_and_by_mbstream() {
    let source = TestServer::start(&[]);
    let tables = Tables::new(
        &[("busy.plain", "ENGINE=InnoDB"), ("busy.holes", "ENGINE=InnoDB PAGE_COMPRESSED=1")],
        &[("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")],
    );
    create_tables_of(&source, &tables);
    let load = Workload::start_on(&source, &tables, 9, 3);
    load.wait_for(300);
    let archive = source.dir().join("backup.tar");
    let options = ["--stream=tar", "--parallel=3"];
    let mut command = Tool::Ours.backup_command(&source, Path::new("nowhere"), &options);
    command.stdout(File::create(&archive).unwrap());
    run(&mut command).expect_success();
    load.wait_for(100);
    load.stop();
    let state = State::of(&source);
    let [by_tar, by_mbstream] = ["by-tar", "by-mbstream"].map(|name| source.dir().join(name));
    fs::create_dir(&by_tar).unwrap();
    let output = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&by_tar).output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    unpack(&Tool::Ours, &archive, &by_mbstream);
    let diff = Command::new("diff").arg("-r").arg(&by_tar).arg(&by_mbstream).status().unwrap();
    assert!(diff.success());
    let info = fs::read_to_string(by_tar.join("xtrabackup_info")).unwrap();
    assert!(info.contains("\nformat = tar\n"), "{info}");
    for (tool, dir) in [(Tool::Reference(Series::V10_11), by_tar), (Tool::Ours, by_mbstream)] {
        tool.prepare(&dir, &[]);
        let restored = Tool::Ours.restore(&dir, Series::V10_11, &[]);
        replay_binlog(&source, &dir, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }

    // Cut anywhere, it is noticed.
    let bytes = fs::read(&archive).unwrap();
    for part in [1, 500, 999] {
        let cut = source.dir().join("cut");
        fs::write(&cut, &bytes[..bytes.len() * part / 1000]).unwrap();
        let dir = source.dir().join(format!("cut-{part}"));
        fs::create_dir(&dir).unwrap();
        let mut command = Tool::Ours.mbstream();
        command.args(["-x", "-C"]).arg(&dir).stdin(File::open(&cut).unwrap());
        assert_eq!(command.output().unwrap().status.code(), Some(1), "{part}");
    }
}
