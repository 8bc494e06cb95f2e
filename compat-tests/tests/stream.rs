//! Backups to a stream: under load and DDL, unpacked by either mbstream, prepared and restored.

#![cfg(test)]

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use compat_tests::compare::{State, check_tables, metadata_name, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::{Running, Tool};
use compat_tests::workload::{Tables, Workload, create_tables_of};

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
