//! Running commands, each printed before it runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Prints and runs a command; an error unless it succeeds.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("+ {}", shown(command));
    let status = command.status().with_context(|| format!("run {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}

/// Prints and runs a command; what it wrote to standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    eprintln!("+ {}", shown(command));
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{}: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {} says", shown(command)))
}

/// Prints and runs a shell script as root, by sudo if need be. It stops at the first failure.
pub fn run_as_root(script: &str) -> anyhow::Result<()> {
    let mut command = if is_root()? {
        Command::new("sh")
    } else {
        let mut command = Command::new("sudo");
        command.arg("sh");
        command
    };
    run(command.args(["-euc", script]))
}

/// Runs a program of `compat-tests` with `ours` as the tool to be tried.
pub fn run_built(profile: &str, name: &str, ours: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let program = target_dir().join(profile).join(name);
    run(Command::new(program).args(arguments).env("MARIABACKUP_BIN", ours))
}

/// Tells whether this process runs as root.
pub fn is_root() -> anyhow::Result<bool> {
    Ok(fs::metadata("/proc/self").context("find out who runs this")?.uid() == 0)
}

/// The cargo that runs this, in the folder of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_dir());
    command
}

/// The folder of the workspace.
pub fn workspace_dir() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().expect("a crate of a workspace")
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    let dir = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace_dir().join(dir)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
