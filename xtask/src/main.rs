//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! This program has next to no dependencies, so that it can be built on a bare machine and install
//! what building and testing the rest takes. Every command it runs is printed first.

mod dist;
mod fuzz;
mod install;
mod licenses;
mod mtr;
mod run;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::install::Need;
use crate::run::{cargo, run, run_built, target_dir};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo             back up a busy server, restore it, prove that nothing is missing
  test [FILTER]    unit tests, then tests on real servers against the real mariadb-backup
  bench [VARIANT]  ours and mariadb-backup in turn: all, backup, single, encrypted, prepare,
                   verification, stream, zstd, stall, tables, engines
  chaos OPTIONS    backups under random DDL on tables of every kind, each restored and compared:
                   --seeds A..B --server 10.5|10.11|11.8 [--tool ours|reference]
                   [--log-size 16M|96M] [--keep DIR]; a seed that fails keeps its files and tells how
                   to run it again
  fuzz [TARGET...] [--seconds N]
                   each target (all by default) under libFuzzer for N seconds (600); what it finds is
                   in target/fuzz/findings
  redo SECONDS     a gentle load of every kind on servers of each series for that long, up to an
                   hour; every record of their redo logs must be known
  mtr SERIES [--tool ours|reference] [TEST...]
                   MariaDB's own tests of its backup tool on 10.5, 10.11 or 11.8, with ours in the
                   tool's place; logs and data of the servers are in target/mtr/SERIES
  dist             one static binary with its link names in target/dist
  licenses         check that every dependency's license goes with ours
  install          only install what `test` needs

Packages that are missing are installed with apt-get. MARIABACKUP_SERVERS names the folder of the
servers of other Debian releases (target/servers), MARIABACKUP_MIRROR the Debian mirror they come
from (by default that of this machine).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[&str]) -> anyhow::Result<()> {
    let Some((command, rest)) = arguments.split_first() else { bail!("no command\n\n{USAGE}") };
    match (*command, rest) {
        ("demo", []) => demo(),
        ("test", [] | [_]) => test(rest),
        ("bench", [] | [_]) => bench(rest),
        ("chaos", [_, ..]) => chaos(rest),
        ("fuzz", _) => fuzz::fuzz(rest),
        ("redo", [seconds]) => redo(seconds),
        ("mtr", [_, ..]) => mtr::mtr(rest),
        ("dist", []) => dist::dist(),
        ("licenses", []) => licenses::check(),
        ("install", []) => {
            install::install(&[Need::Build, Need::Server, Need::OtherServers, Need::Programs])
        }
        ("help" | "--help" | "-h", []) => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown command: {}\n\n{USAGE}", arguments.join(" ")),
    }
}

fn demo() -> anyhow::Result<()> {
    install::install(&[Need::Build, Need::Server])?;
    run(cargo().args(["build", "--release", "--package=mariabackup"]))?;
    run(cargo().args(["build", "--package=compat-tests", "--bin=demo"]))?;
    run_built("debug", "demo", &target_dir().join("release/mariabackup"), &[])
}

fn test(filter: &[&str]) -> anyhow::Result<()> {
    install::install(&[Need::Build, Need::Server, Need::OtherServers, Need::Programs])?;
    run(cargo().args(["test", "--workspace", "--exclude=compat-tests"]).args(filter))?;
    let program = target_dir().join("debug/mariabackup");
    let program_with_hooks = target_dir().join("debug/mariabackup-hooks");
    run(cargo().args(["build", "--package=mariabackup", "--features=test-hooks"]))?;
    fs::copy(&program, &program_with_hooks).context("keep the program with test hooks")?;
    run(cargo().args(["build", "--package=mariabackup"]))?;
    run(cargo()
        .args(["test", "--package=compat-tests", "--no-fail-fast"])
        .args(filter)
        .env("MARIABACKUP_BIN", program)
        .env("MARIABACKUP_HOOKS_BIN", program_with_hooks))
}

fn chaos(options: &[&str]) -> anyhow::Result<()> {
    install::install(&[Need::Build, Need::Server, Need::OtherServers, Need::Programs])?;
    run(cargo().args(["build", "--release", "--package=mariabackup"]))?;
    run(cargo().args(["build", "--package=compat-tests", "--bin=chaos"]))?;
    run_built("debug", "chaos", &target_dir().join("release/mariabackup"), options)
}

fn redo(seconds: &str) -> anyhow::Result<()> {
    install::install(&[Need::Build, Need::Server, Need::OtherServers, Need::Programs])?;
    // An hour's log fits into such a file.
    run(cargo()
        .args(["test", "--package=compat-tests", "--test=redo_decoding", "--", "--nocapture"])
        .env("REDO_SECONDS", seconds)
        .env("REDO_REST", "150")
        .env("REDO_LOG_MIB", "4096"))
}

fn bench(variant: &[&str]) -> anyhow::Result<()> {
    install::install(&[Need::Build, Need::Server, Need::Sysbench])?;
    run(cargo().args(["build", "--release", "--package=mariabackup"]))?;
    run(cargo().args(["build", "--package=compat-tests", "--bin=bench"]))?;
    run_built("debug", "bench", &target_dir().join("release/mariabackup"), variant)
}
