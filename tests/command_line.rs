//! The program as a process: exit codes, streams, and what others see of it.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mariabackup"));
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    program().arg("--no-defaults").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_goes_to_standard_error() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    let line = format!("{} based on MariaDB server ", env!("CARGO_BIN_EXE_mariabackup"));
    assert!(text(&output.stderr).starts_with(&line));
}

#[test]
fn help_goes_to_standard_output() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    assert!(text(&output.stdout).contains("--version-check"));

    let output = run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("--version-check"));
    assert!(text(&output.stderr).contains(" based on MariaDB server "));
}

#[test]
fn a_reader_that_closes_early_is_no_failure() {
    let mut child = program().arg("--help").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn exit_codes_are_those_of_the_reference() {
    for (arguments, code) in [
        (&["--nosuch"][..], 2),
        (&["--core-file=1"], 4),
        (&["--target-dir"], 5),
        (&["--nosuch=1"], 7),
        (&["--parallel=abc"], 9),
        (&["--open-files-limit=-1"], 13),
        (&["--prepare", "word"], 1),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(!text(&output.stderr).contains("completed OK!"));
    }
}

/// Waits until `probe` gives something, for ten seconds at most.
fn poll<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nothing came");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts the program with an option file that is a pipe, so that it waits for the options.
fn start_waiting(pipe: &Path, arguments: &[&str]) -> Child {
    mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut first = std::ffi::OsString::from("--defaults-file=");
    first.push(pipe);
    program().arg(first).args(arguments).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_password_leaves_the_list_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("my.cnf");
    let arguments = ["--backup", "-psecret1", "--password", "secret2", "--password=secret3"];
    let child = start_waiting(&pipe, &arguments);
    let process = Path::new("/proc").join(child.id().to_string());
    let shown = poll(|| {
        let shown = text(&fs::read(process.join("cmdline")).unwrap()).replace('\0', " ");
        shown.contains("--password x --password=x").then_some(shown)
    });
    assert!(shown.starts_with(env!("CARGO_BIN_EXE_mariabackup")), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    let environment = text(&fs::read(process.join("environ")).unwrap());
    assert!(!environment.contains("secret"), "{environment}");
    // `pgrep` and `pidof` look here.
    poll(|| (fs::read_to_string(process.join("comm")).unwrap() == "mariabackup\n").then_some(()));

    // The true arguments are in force, and the file is read once: the options in it count.
    fs::File::options()
        .write(true)
        .open(&pipe)
        .unwrap()
        .write_all(b"[mariabackup]\nno=1\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).ends_with(": unknown variable 'no=1'\n"));
}

#[test]
fn an_inherited_notice_of_hidden_arguments_is_ignored() {
    for value in ["1:0", "x", "1:99999", ""] {
        let output = program()
            .env("MARIABACKUP_ARGUMENTS", value)
            .args(["--no-defaults", "--nosuch"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{value}");
    }
}
