//! `--copy-back` and `--move-back`: a prepared backup becomes a data directory.
//!
//! First a plan says where every file goes (`plan`), then all of it is checked, and only then
//! the first byte is written (`transfer`). No existing file is ever overwritten. The first file
//! of the system tablespace gets its name last of all: a data directory that was not restored
//! completely has none, and no server starts on it.

mod plan;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use indicatif::HumanBytes;
use rustix::fs::Access;

use self::plan::Plan;
use self::transfer::Owner;
use crate::hint::WithHint;
use crate::metadata::backup_cnf::BACKUP_CNF;
use crate::metadata::{BackupType, Checkpoints, CorruptedPages, corrupted_pages, incomplete};
use crate::options::{RestoreMode, RestoreOptions};
use crate::prepare;
use crate::report::Report;

/// What to do about a full disk.
const NO_SPACE: &str = "make space on the file system of the data directory, then restore again";

/// Restores a backup.
///
/// # Errors
///
/// Whatever speaks against it, before anything is written: no prepared backup, a data directory
/// that is not empty, a file that is in the way or missing, not enough space. After a failure
/// while copying, what was written is removed again; after a failure while moving, what was moved
/// is moved back.
pub fn run(options: &RestoreOptions, report: &Report) -> anyhow::Result<()> {
    let options = &RestoreOptions {
        datadir: std::path::absolute(&options.datadir).context("find the current directory")?,
        ..options.clone()
    };
    check_backup(options, report)?;
    let corrupted = CorruptedPages::read(&options.target_dir)?;
    warn_of_damage(&corrupted, report);
    check_datadir(options)?;
    let plan = Plan::new(options)?;
    let owner = future_owner(options, report)?;
    check_targets(&plan)?;
    check_space(&plan, options.mode)?;
    transfer::run(&plan, options, owner, report).hint_if_full(NO_SPACE)?;
    // Again where nobody overlooks it.
    warn_of_damage(&corrupted, report);
    if owner.is_none() && is_root() {
        report.say(format_args!(
            "The restored files belong to root. Hint: chown -R mysql:mysql {}",
            plan.roots().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" ")
        ));
    } else if !is_root() {
        report.say(
            "The restored files belong to you. Should the server run as another user, give them \
             to it (chown -R mysql:mysql).",
        );
    }
    Ok(())
}

/// The backup is restored as it is, like by the reference: perhaps it is all there is.
fn warn_of_damage(corrupted: &CorruptedPages, report: &Report) {
    if !corrupted.is_empty() {
        report.say(format_args!(
            "WARNING!!! {} pages of the backup are damaged, and so they are in what is restored, as \
             {} lists them: {}. Reads of these pages fail; CHECK TABLE finds the tables.",
            corrupted.count(),
            corrupted_pages::NAME,
            corrupted.in_words()
        ));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether there is a prepared backup.
fn check_backup(options: &RestoreOptions, report: &Report) -> anyhow::Result<()> {
    let dir = &options.target_dir;
    let metadata = fs::metadata(dir).with_context(|| format!("open backup {}", dir.display()))?;
    ensure!(metadata.is_dir(), "backup {} is no directory", dir.display());
    incomplete::refuse(dir)?;
    prepare::refuse_half_applied(dir)?;
    let problem = match Checkpoints::find(dir) {
        Ok(Some(found)) => match found.checkpoints.backup_type {
            BackupType::LogApplied => return Ok(()),
            BackupType::FullBackuped => {
                format!("the backup in {} is not prepared; run --prepare first", dir.display())
            }
            BackupType::Incremental => bail!(
                "{} is an incremental backup, which cannot be restored by itself; run --prepare \
                 --incremental-dir={0} on the full backup it is based on, and restore that",
                dir.display()
            ),
        },
        // Its log is of a form that only recovery with the settings in that file takes.
        Ok(None) if dir.join(BACKUP_CNF).exists() => bail!(
            "the backup in {}, made by BACKUP SERVER, is not prepared; run --prepare first",
            dir.display()
        ),
        Ok(None) => format!("{} holds no finished backup: no checkpoints file", dir.display()),
        Err(error) => format!("{error:#}"),
    };
    ensure!(options.force_unprepared, "{problem} (--force-unprepared restores it as it is)");
    report.say(format_args!("Warning: {problem}. Restored as it is, as you wish."));
    Ok(())
}

/// Whether the data directory is empty, or need not be.
fn check_datadir(options: &RestoreOptions) -> anyhow::Result<()> {
    let dir = &options.datadir;
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("open {}", dir.display())),
    };
    let empty = entries.next().is_none();
    ensure!(
        empty || options.force_non_empty_directories,
        "Original data directory {} is not empty!",
        dir.display()
    );
    Ok(())
}

/// To whom the restored files are given: for root, to the owner of the data directory. `None`:
/// they keep the owner they have.
fn future_owner(options: &RestoreOptions, report: &Report) -> anyhow::Result<Option<Owner>> {
    let dir = &options.datadir;
    if !is_root() || !dir.exists() {
        return Ok(None);
    }
    let metadata = fs::metadata(dir).with_context(|| format!("open {}", dir.display()))?;
    if metadata.uid() == 0 {
        return Ok(None);
    }
    let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
    report.detail(format_args!("Restored files are given to user {}", owner.uid));
    Ok(Some(owner))
}

/// Whether nothing is in the way.
fn check_targets(plan: &Plan) -> anyhow::Result<()> {
    let in_the_way: Vec<&Path> = plan
        .files
        .iter()
        .flat_map(|file| [Some(&file.target), file.temporary.as_ref()])
        .flatten()
        .filter(|target| target.symlink_metadata().is_ok())
        .map(PathBuf::as_path)
        .collect();
    if let Some(first) = in_the_way.first() {
        let others = match in_the_way.len() - 1 {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        bail!(
            "Can't create file '{}' (errno: 17 \"File exists\"){others}; nothing was written",
            first.display()
        );
    }
    for dir in plan.target_dirs() {
        let existing = existing_ancestor(dir);
        let metadata =
            fs::metadata(existing).with_context(|| format!("look at {}", existing.display()))?;
        ensure!(
            metadata.is_dir(),
            "cannot create {}: {} is no directory",
            dir.display(),
            existing.display()
        );
        rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK)
            .with_context(|| format!("write to {}", existing.display()))?;
    }
    Ok(())
}

/// `path`, or the nearest directory above it that exists.
fn existing_ancestor(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

/// Magic numbers of file systems that share extents or compress: only they know what they need.
const FRUGAL_FILE_SYSTEMS: [u64; 4] = [0x9123_683E, 0x5846_5342, 0xCA45_1A4E, 0x2FC1_2FC1];

/// Whether every file system has space for what it is to take.
fn check_space(plan: &Plan, mode: RestoreMode) -> anyhow::Result<()> {
    let mut needs = BTreeMap::<u64, (u64, &Path)>::new();
    for file in &plan.files {
        let Some(dir) = file.target.parent() else { continue };
        let dir = existing_ancestor(dir);
        let device = device(dir)?;
        if file.device == device && (mode == RestoreMode::Move || shares_extents(dir)) {
            continue;
        }
        let need = needs.entry(device).or_insert((0, dir));
        need.0 = need.0.saturating_add(file.allocated);
    }
    for (need, dir) in needs.into_values() {
        let space =
            rustix::fs::statvfs(dir).with_context(|| format!("look at {}", dir.display()))?;
        let blocks = if is_root() { space.f_bfree } else { space.f_bavail };
        let free = blocks.saturating_mul(space.f_frsize);
        if need > free {
            return Err(anyhow!(
                "not enough space on the file system of {}: {} are needed, {} are free; nothing \
                 was written",
                dir.display(),
                HumanBytes(need),
                HumanBytes(free)
            ))
            .hint(NO_SPACE);
        }
    }
    Ok(())
}

fn shares_extents(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|system| {
        u64::try_from(system.f_type).is_ok_and(|magic| FRUGAL_FILE_SYSTEMS.contains(&magic))
    })
}

fn device(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.dev())
}
