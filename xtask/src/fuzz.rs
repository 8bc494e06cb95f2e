//! `cargo xtask fuzz`: the targets of the crate `fuzz` under libFuzzer. A stable compiler will do:
//! the instrumentation is LLVM's own, and no sanitizer is needed, as the code is safe Rust.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::install::{self, Need};
use crate::run::{cargo, output, run, target_dir};

/// How libFuzzer sees which way the code goes.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
];

/// With a target of its own, the flags are not those of build scripts.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Runs the targets named by `options`, or all, one after the other. A target that finds something
/// does not keep the others from running.
pub fn fuzz(options: &[&str]) -> anyhow::Result<()> {
    let (targets, seconds) = match options.split_last_chunk::<2>() {
        Some((targets, ["--seconds", seconds])) => {
            (targets, seconds.parse::<u32>().context("--seconds takes a number")?)
        }
        _ => (options, 600),
    };
    install::install(&[Need::Build, Need::Fuzz])?;
    let known = output(cargo().args(["run", "--quiet", "--package=fuzz"]))?;
    let known: Vec<&str> = known.lines().collect();
    if let Some(unknown) = targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown}, but {}", known.join(", "));
    }
    let dir = target_dir().join("fuzz");
    let program = build(&dir.join("build"))?;
    let targets = if targets.is_empty() { &known } else { targets };
    let mut failed = Vec::new();
    for name in targets {
        let corpus = dir.join("corpus").join(name);
        let findings = dir.join("findings").join(name);
        fs::create_dir_all(&findings).context("make a folder for findings")?;
        run(cargo().args(["run", "--quiet", "--package=fuzz", "--", name]).arg(&corpus))?;
        let fuzzed = run(Command::new(&program)
            .env("FUZZ_TARGET", name)
            .arg(&corpus)
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg(format!("-max_total_time={seconds}"))
            // Pages of 64 KiB, and what is chosen about them.
            .args(["-max_len=66000", "-timeout=10", "-rss_limit_mb=1024"])
            .args(["-print_final_stats=1", "-verbosity=0"]));
        if fuzzed.is_err() {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("{} failed; see {}", failed.join(", "), dir.join("findings").display());
    }
    Ok(())
}

/// Builds the targets with instrumentation.
fn build(dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    run(cargo()
        .args(["build", "--release", "--package=fuzz", "--bin=fuzz"])
        .arg(format!("--target={PLATFORM}"))
        .env("CARGO_TARGET_DIR", dir)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")))?;
    Ok(dir.join(PLATFORM).join("release/fuzz"))
}
