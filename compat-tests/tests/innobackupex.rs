//! `--innobackupex` and `--print-param`, beside the real program.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use compat_tests::compare::State;
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;

const REFERENCE: Tool = Tool::Reference(Series::V10_11);

/// Runs `tool` with just these words.
fn run(tool: &Tool, dir: &Path, words: &[&str]) -> Output {
    let mut command = tool.bare_command();
    command.args(words).current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn innobackupex(tool: &Tool, dir: &Path, words: &[&str]) -> String {
    let words = [&["--innobackupex", "--no-defaults"], words].concat();
    let output = run(tool, dir, &words);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.ends_with(" completed OK!\n"), "{words:?}\n{said}");
    said
}

/// The lines of innobackupex itself, without their dates.
fn own_lines(said: &str) -> Vec<&str> {
    let own = |line: &'_ str| line.split_once(" innobackupex: ").map(|(_, text)| text.len());
    said.lines().filter_map(|line| Some(&line[line.len() - own(line)?..])).collect()
}

#[test]
fn bad_command_lines_end_alike() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &[][..],
        &["a", "b"],
        &["--stream=zip", "d"],
        &["--incremental-lsn=5", "d"],
        &["--incremental-basedir=x", "d"],
        &["--nosuch", "d"],
        &["--nosuch=1", "d"],
        &["--redo-only", "--apply-log", "d"],
        &["--user"],
        &["--core-file=1", "d"],
        &["--kill-long-query-type=x", "d"],
        &["--compress-threads=abc", "d"],
        &["--parallel=abc", "d"],
        &["--binlog-info=x", "d"],
        &["--protocol=x", "d"],
        &["--copy-back", "--apply-log", "d"],
        &["--decompress", "--copy-back", "d"],
        &["--apply-log", "nowhere"],
        &["--decompress", "nowhere"],
        &["--print-param"],
    ] {
        let words = [&["--innobackupex", "--no-defaults"], words].concat();
        let [ours, theirs] = [Tool::Ours, REFERENCE].map(|tool| run(&tool, dir.path(), &words));
        let said = [text(&ours.stderr), text(&theirs.stderr)];
        assert_eq!(ours.status.code(), theirs.status.code(), "{words:?}\n{said:?}");
        assert_eq!(own_lines(&said[0]), own_lines(&said[1]), "{words:?}");
    }
    let version = |tool| run(&tool, dir.path(), &["--innobackupex", "--no-defaults", "-v"]);
    let start = |output: Output| {
        text(&output.stdout).split(' ').take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(start(version(Tool::Ours)), start(version(REFERENCE)));
}

#[test]
fn param_are_printed_alike() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.cnf");
    fs::write(
        &file,
        "[mysqld]\ndatadir=/file/dir\ninnodb_flush_method=O_DIRECT_NO_FSYNC\ninnodb-page-size=4k\n\
         innodb_io_capacity=300\nparallel=3\naria_log_dir_path=al\ntmpdir=/ttt\n\
         innodb_force_recovery=1\ninnodb_log_file_size=10M\ninnodb_undo_directory=u\n\
         [mariabackup]\ninnodb_compression_level=3\ntarget_dir=/t\n[foo]\ndatadir=/other\n",
    )
    .unwrap();
    let file = format!("--defaults-file={}", file.display());
    for words in [
        &[&file, "--print-param"][..],
        &[
            &file,
            "--print-param",
            "--defaults-group=foo",
            "--innodb-checksum-algorithm=crc32",
            "-t/u",
        ],
        &["--no-defaults", "--print-param"],
        &["--no-defaults", "--print-param", "--copy-back", "--innodb-undo-tablespaces=500"],
        &[
            "--no-defaults",
            "--print-param",
            "--mysqld-args",
            "--datadir=/y",
            "--innodb-page-size=8k",
        ],
        &["--no-defaults", "--print-param", "--prepare", "--copy-back"],
    ] {
        let [ours, theirs] = [Tool::Ours, REFERENCE].map(|tool| run(&tool, dir.path(), words));
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{words:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{words:?}");
        let ends = |output: &Output| text(&output.stderr).ends_with(" completed OK!\n");
        assert_eq!(ends(&ours), ends(&theirs), "{words:?}");
    }
}

/// The only thing in `dir`.
fn only(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    path
}

#[test]
fn whole_cycles() {
    let server = TestServer::start(&[]);
    server.execute("CREATE DATABASE d");
    server.execute(
        "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB SELECT seq id FROM d.seq_1_to_100",
    );
    let state = State::of(&server);
    let dir = server.dir().join("work");
    fs::create_dir(&dir).unwrap();
    let socket = format!("--socket={}", server.socket().display());
    for (name, backup, prepare, restore) in [
        ("ours", Tool::Ours, Tool::Ours, Tool::Ours),
        ("mixed", Tool::Ours, REFERENCE, Tool::Ours),
        ("theirs", REFERENCE, Tool::Ours, REFERENCE),
    ] {
        let base = format!("{name}/base");
        let said = innobackupex(&backup, &dir, &["-u", "root", &socket, &base]);
        assert_eq!(own_lines(&said), ["Starting the backup operation"]);
        let target = only(&dir.join(&base));
        let stamp = target.file_name().unwrap().to_str().unwrap();
        assert_eq!(stamp.len(), "2026-11-22_00-51-28".len(), "{stamp}");
        let target = target.to_str().unwrap();
        innobackupex(&prepare, &dir, &["--apply-log", "--use-memory=100M", target]);
        let mut restored = TestServer::prepare(Series::V10_11, &[]);
        let datadir = format!("--datadir={}", restored.datadir().display());
        let said = innobackupex(&restore, &dir, &["--copy-back", &datadir, target]);
        assert_eq!(own_lines(&said), ["Starting the copy-back operation"]);
        restored.launch();
        state.assert_same_as(&State::of(&restored));
    }
    let said = innobackupex(&Tool::Ours, &dir, &["-uroot", &socket, "--no-timestamp", "plain"]);
    assert!(said.contains("IMPORTANT: Please check that the backup run completes successfully."));
    assert!(dir.join("plain/xtrabackup_checkpoints").is_file());
    let mut stream = Tool::Ours.bare_command();
    stream.args(["--innobackupex", "--no-defaults", "-uroot", &socket, "--stream=xbstream", "./"]);
    let output = stream.current_dir(&dir).stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"XBSTCK01"));
}
