//! Many tables and databases with few files open at a time, tables with large holes, and a small
//! redo log that is written round and round.
//!
//! The sizes suit a test that runs every day; these make them as large as they should be once:
//! `SCALE_TABLES=20000 SCALE_DATABASES=500 SCALE_SPARSE_GIB=20 SCALE_SECONDS=600`.

#![cfg(test)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::size;
use compat_tests::tool::{Tool, run};
use compat_tests::workload::{Workload, create_tables};
use mysql::prelude::Queryable as _;

/// The same command in a shell that lets it have only `count` files open.
fn with_open_files(count: u64, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    limited
}

#[test]
fn many_tables_and_databases_with_256_open_files() {
    let tables = size("SCALE_TABLES", 600);
    let databases = size("SCALE_DATABASES", 40);
    let mut source = TestServer::start(&[
        "--innodb-log-file-size=512M",
        "--sync-frm=0",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    let mut connection = source.connect();
    let mut execute = |sql: String| {
        connection.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    for database in 0..databases {
        execute(format!("CREATE DATABASE many{database}"));
    }
    for table in 0..tables {
        let name = format!("many{}.t{table}", table % databases);
        let engine = if table % 10 == 9 {
            ["Aria", "MyISAM"][usize::from(table % 20 == 9)]
        } else {
            "InnoDB"
        };
        execute(format!("CREATE TABLE {name} (id INT PRIMARY KEY, v INT) ENGINE={engine}"));
        execute(format!("INSERT INTO {name} VALUES (1, {table})"));
    }
    let backup = source.dir().join("backup");
    let limited = |command: Command| run(&mut with_open_files(256, &command)).expect_success();
    limited(Tool::Ours.backup_command(&source, &backup, &["--parallel=4"]));
    let state = State::of(&source);
    source.shutdown();
    limited(Tool::Ours.prepare_command(&backup, &["--parallel=4"]));
    let mut restored = TestServer::prepare(Series::V10_11, &[]);
    limited(Tool::Ours.restore_command("--copy-back", &backup, &restored, &["--parallel=4"]));
    restored.launch();
    state.assert_same_as(&State::of(&restored));
}

/// Bytes of a file that are not a hole.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).expect("stat").blocks() * 512
}

#[test]
fn holes_of_a_large_table_stay_holes() {
    let gib = size("SCALE_SPARSE_GIB", 2);
    let mut source = TestServer::start(&[]);
    source.execute("CREATE TABLE test.sparse (id INT PRIMARY KEY, v INT)");
    source.execute("INSERT INTO test.sparse SELECT seq, seq FROM test.seq_1_to_1000");
    source.shutdown();
    // A tablespace may have more pages than are in use yet.
    let path = source.datadir().join("test/sparse.ibd");
    let file = File::options().write(true).open(&path).expect("open the tablespace");
    file.set_len(gib << 30).expect("extend the tablespace");
    source.launch();
    source.execute("UPDATE test.sparse SET v = v + 1");
    let state = State::of(&source);

    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &["--parallel=2"]);
    source.shutdown();
    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &[]);
    for dir in [backup, restored.datadir()] {
        let copy = dir.join("test/sparse.ibd");
        assert_eq!(fs::metadata(&copy).expect("stat").len(), gib << 30);
        let allocated = allocated(&copy);
        assert!(allocated < 16 << 20, "{allocated} bytes in {}", copy.display());
    }
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

/// The server writes its log many times over while the backup cannot go on.
#[test]
fn small_log_is_followed_while_a_backup_takes_long() {
    let time = Duration::from_secs(size("SCALE_SECONDS", 5));
    let options = ["--innodb-log-file-size=10M"];
    let mut source = TestServer::start(&options);
    create_tables(&source);
    let backup = source.dir().join("backup");
    let load = Workload::start(&source, 1, 3);
    let mut tool = HookedBackup::start(&source, &backup, &[], &["after-listing"]);
    tool.wait_at("after-listing");
    let first = lsn(&source);
    let start = Instant::now();
    while start.elapsed() < time || lsn(&source) - first < 30 << 20 {
        assert!(tool.tool().child().try_wait().expect("ask for the state").is_none(), "ended");
        thread::sleep(Duration::from_millis(100));
    }
    let written = lsn(&source) - first;
    tool.go_on("after-listing");
    tool.wait().expect_success();
    load.stop();
    println!("{} MiB of log in {:.0} s", written >> 20, start.elapsed().as_secs_f64());
    let state = State::of(&source);
    source.shutdown();
    fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).expect("rename");
    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &options);
    replay_binlog(&source, &backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

fn lsn(server: &TestServer) -> u64 {
    server.query_u64(
        "SELECT variable_value FROM information_schema.global_status \
         WHERE variable_name = 'Innodb_lsn_current'",
    )
}
