//! The tools under test: ours, and the mariadb-backup of each server series.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::installation::{Series, prefixed, workspace_dir};
use crate::server::TestServer;

/// A backup program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// The program of this workspace.
    Ours,
    /// mariadb-backup of a series.
    Reference(Series),
}

/// What a run of a tool left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it said.
    pub stderr: String,
}

impl Tool {
    /// A command line of this tool that reads no option file.
    pub fn command(&self) -> Command {
        let mut command = self.bare_command();
        command.arg("--no-defaults");
        command
    }

    /// A command line of this tool that holds nothing yet: it reads the option files of the machine.
    pub fn bare_command(&self) -> Command {
        let mut command = match self {
            Self::Ours => Command::new(our_program()),
            Self::Reference(series) => series.command("usr/bin", "mariadb-backup"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The `mbstream` that belongs to the tool.
    pub fn mbstream(&self) -> Command {
        match self {
            Self::Ours => {
                let mut command = Command::new(our_program());
                command.arg0("mbstream");
                command
            }
            Self::Reference(series) => series.command("usr/bin", "mbstream"),
        }
    }

    /// The command that backs up `server` into `target`.
    pub fn backup_command(&self, server: &TestServer, target: &Path, options: &[&str]) -> Command {
        let mut command = self.command();
        command
            .args(["--backup", "--user=root"])
            .arg(prefixed("--socket=", &server.socket()))
            .arg(prefixed("--target-dir=", target))
            .args(options);
        command
    }

    /// Backs up `server` into `target` and returns what the tool said.
    pub fn backup(&self, server: &TestServer, target: &Path, options: &[&str]) -> String {
        run(&mut self.backup_command(server, target, options)).expect_success()
    }

    /// The command that prepares the backup `target`, with the options in the backup's own option
    /// file.
    pub fn prepare_command(&self, target: &Path, options: &[&str]) -> Command {
        let mut command = self.bare_command();
        command.arg("--prepare").arg(prefixed("--target-dir=", target)).args(options);
        command
    }

    /// Prepares the backup `target`.
    pub fn prepare(&self, target: &Path, options: &[&str]) -> String {
        run(&mut self.prepare_command(target, options)).expect_success()
    }

    /// The command that restores the backup `target` into the folders of `server`.
    ///
    /// `verb` is `--copy-back` or `--move-back`. The server's data directory must be empty, and
    /// its options tell where else files belong.
    pub fn restore_command(
        &self,
        verb: &str,
        target: &Path,
        server: &TestServer,
        options: &[&str],
    ) -> Command {
        const PLACES: [&str; 6] = [
            "--innodb-data-home-dir",
            "--innodb-data-file-path",
            "--innodb-undo-directory",
            "--innodb-log-group-home-dir",
            "--aria-log-dir-path",
            "--rocksdb-datadir",
        ];
        let places =
            server.options().iter().filter(|option| PLACES.iter().any(|p| option.starts_with(p)));
        let mut command = self.command();
        command
            .arg(verb)
            .arg(prefixed("--target-dir=", target))
            .arg(prefixed("--datadir=", &server.datadir()))
            .args(places)
            .args(options);
        command
    }

    /// Copies the backup `target` into the folders of `server`, which does not run.
    pub fn copy_back(&self, target: &Path, server: &TestServer) -> String {
        run(&mut self.restore_command("--copy-back", target, server, &[])).expect_success()
    }

    /// Restores the backup `target` into a new server of `series` with `options`, and starts it.
    pub fn restore(&self, target: &Path, series: Series, options: &[&str]) -> TestServer {
        let mut server = TestServer::prepare(series, options);
        self.copy_back(target, &server);
        server.launch();
        server
    }

    /// Moves the backup `target` into the folders of `server`, which does not run.
    pub fn move_back(&self, target: &Path, server: &TestServer) -> String {
        run(&mut self.restore_command("--move-back", target, server, &[])).expect_success()
    }
}

impl Outcome {
    /// Asserts that the tool succeeded, by its exit code and by its last line.
    #[track_caller]
    pub fn expect_success(self) -> String {
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(
            self.status.success() && last.ends_with("completed OK!"),
            "{}\n{}\n{}",
            self.command,
            self.stderr,
            self.status
        );
        self.stderr
    }

    /// Asserts that the tool failed in an orderly way and named each of `words`.
    #[track_caller]
    pub fn expect_failure(self, words: &[&str]) -> String {
        let Self { command, status, stderr } = self;
        let code = status.code();
        assert!(code.is_some_and(|code| code != 0), "{command}: {status}\n{stderr}");
        assert!(!stderr.contains("completed OK!"), "{command}\n{stderr}");
        assert!(!stderr.contains("panicked at"), "{command}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{command}: no word of {word:?}\n{stderr}");
        }
        stderr
    }
}

/// What our program says of a directory.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Exit code: 0 good, 1 damaged, 2 not checked.
    pub code: i32,
    /// A line each.
    pub findings: String,
    /// Messages.
    pub stderr: String,
}

/// Verifies a directory by our program, with `options` and no option file.
pub fn verify(dir: &Path, options: &[&str]) -> Verdict {
    let mut command = Command::new(our_program());
    command.args(["verify", "--no-defaults"]).arg(dir).args(options).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Verdict {
        code: output.status.code().unwrap_or_else(|| panic!("{command:?} was killed")),
        findings: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A tool at work, to be killed or waited for.
pub struct Running {
    command: String,
    child: Child,
    // A file, not a pipe: nobody reads while the tool works.
    stderr: File,
}

impl Running {
    /// Runs the command in the background.
    pub fn start(command: &mut Command) -> Self {
        let stderr = tempfile::tempfile().expect("make a file");
        command.stderr(stderr.try_clone().expect("share a file"));
        let child = command.spawn().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        Self { command: format!("{command:?}"), child, stderr }
    }

    /// Starts our backup of `server` into its folder `backup`.
    pub fn backup(server: &TestServer, options: &[&str]) -> Self {
        let backup = server.dir().join("backup");
        Self::start(&mut Tool::Ours.backup_command(server, &backup, options))
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What the tool has said so far.
    pub fn said(&self) -> String {
        // The tool writes where the file stands, so that must not be moved.
        let len = self.stderr.metadata().expect("ask for the length of what the tool said").len();
        let mut bytes = vec![0; usize::try_from(len).expect("a length in memory")];
        self.stderr.read_exact_at(&mut bytes, 0).expect("read what the tool said");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Outcome {
        let status = self.child.wait().expect("wait for the tool");
        let stderr = self.said();
        Outcome { command: self.command, status, stderr }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    Running::start(command).wait()
}

/// Our program: `MARIABACKUP_BIN`, or built from this workspace as this test was.
pub fn our_program() -> &'static OsStr {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("MARIABACKUP_BIN", "mariabackup", &[])).as_os_str()
}

/// Our program with the feature `test-hooks`: `MARIABACKUP_HOOKS_BIN`, or built likewise.
pub(crate) fn program_with_hooks() -> &'static OsStr {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let features = ["--features=test-hooks"];
    PROGRAM
        .get_or_init(|| program("MARIABACKUP_HOOKS_BIN", "mariabackup-hooks", &features))
        .as_os_str()
}

/// The program that `variable` names, or one built with `options` and kept as `name`.
fn program(variable: &str, name: &str, options: &[&str]) -> PathBuf {
    // Both programs are built under one name.
    static BUILDING: Mutex<()> = Mutex::new(());
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let _building = BUILDING.lock().expect("another build failed");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace_dir())
        .args(["build", "--quiet", "--package=mariabackup", "--bin=mariabackup"])
        .args(options);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().expect("run cargo");
    assert!(status.success(), "{command:?}: {status}");
    // Test programs are in `deps` beside the program, those of xtask beside it.
    let test = std::env::current_exe().expect("a path");
    let found = test.ancestors().map(|dir| dir.join("mariabackup")).find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("no mariabackup beside {}", test.display()));
    let kept = found.with_file_name(name);
    if kept != found {
        std::fs::copy(&found, &kept).expect("copy the program");
    }
    kept
}
