//! Makes the binary that is given to others, and proves that it runs where it will be used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::install::{self, Need};
use crate::run::{cargo, output, run, run_built, target_dir};

/// The only platform so far.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Names under which existing scripts call the program.
const LINK_NAMES: [&str; 2] = ["mariadb-backup", "mbstream"];

/// Debian releases in whose trees the binary must run.
const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];

/// Builds the static binary into `target/dist` and tries it in other Debian releases.
pub fn dist() -> anyhow::Result<()> {
    install::install(&[Need::Build, Need::Server])?;
    let built = build_static("release", &[])?;
    let dist = target_dir().join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("create {}", dist.display()))?;
    let program = dist.join("mariabackup");
    fs::copy(&built, &program).with_context(|| format!("copy {}", built.display()))?;
    check_static(&program)?;
    for name in LINK_NAMES {
        let link = dist.join(name);
        match symlink("mariabackup", &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("link {}", link.display()));
            }
            _ => {}
        }
    }
    install::install_trees(&RELEASES)?;
    run(cargo().args(["build", "--package=compat-tests", "--bin=portable"]))?;
    run_built("debug", "portable", &program, &RELEASES)?;
    eprintln!("made {}", program.display());
    Ok(())
}

/// Builds the program so that it needs nothing of the system it runs on; where it is.
pub fn build_static(profile: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let profile_dir = if profile == "dev" { "debug" } else { profile };
    run(cargo()
        .args(["build", "--package=mariabackup"])
        .arg(format!("--profile={profile}"))
        .arg(format!("--features={}", features.join(",")))
        .arg(format!("--target={TARGET}"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("OPENSSL_STATIC", "1"))?;
    Ok(target_dir().join(TARGET).join(profile_dir).join("mariabackup"))
}

/// Fails if the program asks for a dynamic linker or a shared library.
fn check_static(program: &Path) -> anyhow::Result<()> {
    // `ldd` fails for some static programs and says so in words for others.
    let headers = output(std::process::Command::new("readelf").arg("-Wld").arg(program))?;
    for word in ["INTERP", "(NEEDED)"] {
        if headers.contains(word) {
            bail!("{} is not static: it has {word}\n{headers}", program.display());
        }
    }
    Ok(())
}
