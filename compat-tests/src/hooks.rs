//! A backup that a test makes wait at named points: `hooks::reach` in the program's source names
//! them. It needs the program with the feature `test-hooks`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::installation::prefixed;
use crate::server::{TestServer, wait_until};
use crate::tool::{Outcome, Running, program_with_hooks};

/// A backup in progress.
pub struct HookedBackup {
    tool: Running,
    dir: PathBuf,
    _temporary: tempfile::TempDir,
}

impl HookedBackup {
    /// Starts to back up `server` into `target`; waits at each of `points` when it gets there.
    ///
    /// A point is named as in the program's source, a path at a point with `.` for `/`, as in
    /// `in-file test.t.ibd`.
    pub fn start(server: &TestServer, target: &Path, options: &[&str], points: &[&str]) -> Self {
        Self::start_by(server, target, options, points, |command| command)
    }

    /// As [`start`](Self::start), with the command line that `wrap` makes of the backup's. It must
    /// become the backup's own process (`exec`).
    pub fn start_by(
        server: &TestServer,
        target: &Path,
        options: &[&str],
        points: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Self {
        let temporary = tempfile::tempdir().expect("make a folder");
        let dir = temporary.path().to_owned();
        for point in points {
            fs::write(dir.join(point), "").expect("arm a point");
        }
        let mut command = Command::new(program_with_hooks());
        command
            .args(["--no-defaults", "--backup", "--user=root"])
            .arg(prefixed("--socket=", &server.socket()))
            .arg(prefixed("--target-dir=", target))
            .args(options);
        let mut command = wrap(command);
        command.env("MARIABACKUP_TEST_HOOKS", &dir).stdin(Stdio::null()).stdout(Stdio::null());
        let tool = Running::start(&mut command);
        Self { tool, dir, _temporary: temporary }
    }

    /// Waits until the backup waits at `point`.
    pub fn wait_at(&mut self, point: &str) {
        let reached = self.reached(point);
        wait_until(&format!("the point {point}"), || {
            let ended = self.tool.child().try_wait().expect("ask for the tool's state");
            assert!(
                reached.exists() || ended.is_none(),
                "the tool ended before {point}:\n{}",
                self.tool.said()
            );
            reached.exists()
        });
    }

    /// Waits until the backup waits at one of `points`, and tells which.
    pub fn wait_at_any<'a>(&mut self, points: &[&'a str]) -> &'a str {
        let mut found = None;
        wait_until(&format!("one of the points {points:?}"), || {
            let ended = self.tool.child().try_wait().expect("ask for the tool's state");
            found = points.iter().find(|point| self.reached(point).exists());
            if ended.is_some() {
                let said = self.tool.said();
                assert!(found.is_some(), "the tool ended before {points:?}:\n{said}");
            }
            found.is_some()
        });
        found.expect("one of them")
    }

    /// Lets the backup go on, which waits at `point`.
    pub fn go_on(&mut self, point: &str) {
        fs::remove_file(self.reached(point)).expect("release a point");
    }

    /// The process.
    pub fn tool(&mut self) -> &mut Running {
        &mut self.tool
    }

    /// Waits for the end of the backup.
    pub fn wait(self) -> Outcome {
        self.tool.wait()
    }

    fn reached(&self, point: &str) -> PathBuf {
        self.dir.join(format!("{point}.reached"))
    }
}
