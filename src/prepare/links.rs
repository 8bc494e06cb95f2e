//! Tables with `DATA DIRECTORY` in what `BACKUP SERVER` leaves. Elsewhere they lie in the folder of
//! their database, beside the link (`.isl`) that tells where they go; this brings them there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use innodb::datadir::read_isl;

use super::markers::Plan;
use super::scan::Scanned;
use super::spaces::{Spaces, path_in_backup};
use super::storage::Storage;
use crate::durable;

/// Plans to move files to the folders of their databases that were unpacked to their whole path,
/// below the backup: `BACKUP SERVER` has absolute names in its stream, and tar takes off the slash.
///
/// # Errors
///
/// What reading reports.
pub(super) fn fetch(dir: &Path, plan: &mut Plan) -> anyhow::Result<()> {
    for folder in list(dir)?.into_iter().filter(|path| path.is_dir()) {
        for below in list(&folder)?.into_iter().filter(|path| path.is_dir()) {
            fetch_from(dir, &below, plan)?;
        }
    }
    Ok(())
}

fn fetch_from(dir: &Path, folder: &Path, plan: &mut Plan) -> anyhow::Result<()> {
    for path in list(folder)? {
        // Links could lead in circles.
        let metadata = path.symlink_metadata();
        if metadata.with_context(|| format!("look at {}", path.display()))?.is_dir() {
            fetch_from(dir, &path, plan)?;
        } else if path.extension() == Some(OsStr::new("ibd")) {
            let name = path_in_backup(path.as_os_str().as_bytes());
            plan.send(path.strip_prefix(dir).unwrap_or(&path), Some(name));
        }
    }
    Ok(())
}

/// Finds out whether a table has a link, but no tablespace. A link without a table is one that a
/// rename left behind.
///
/// # Errors
///
/// There is one; what reading reports.
pub(super) fn check(dir: &Path, spaces: &Spaces<'_>) -> anyhow::Result<()> {
    let known: HashSet<&Path> =
        spaces.iter().flat_map(|space| &space.files).map(|file| file.path.as_path()).collect();
    for (table, target) in lonely_links(dir)? {
        let name = table.file_stem().unwrap_or_default().as_bytes();
        let end = name.windows(3).position(|part| part == b"#P#" || part == b"#p#");
        let name = OsStr::from_bytes(name.get(..end.unwrap_or(name.len())).unwrap_or(name));
        let has_table = dir.join(table.with_file_name(name)).with_extension("frm").exists();
        if has_table && !known.contains(table.as_path()) {
            bail!(
                "{} is not in the backup: its link says that it is {}, which may be the server's \
                 own. Where it was unpacked to, it must be moved from",
                dir.join(&table).display(),
                target.display()
            );
        }
    }
    Ok(())
}

/// Makes the links that copy-back needs and that are not there: of tables that the log names by an
/// absolute path, and of those that lie in the backup as that.
///
/// # Errors
///
/// What writing reports.
pub(super) fn make_missing(
    dir: &Path,
    spaces: &Spaces<'_>,
    scanned: &Scanned,
    storage: &dyn Storage,
) -> anyhow::Result<()> {
    for space in spaces.iter() {
        let Some(file) = space.files.first() else { continue };
        let facts = scanned.spaces.get(&space.id);
        let logged = facts.and_then(|facts| facts.name.as_ref()).map(|(_, name)| name.as_slice());
        let is_unpacked = file.current.components().count() > 2;
        let unpacked = is_unpacked.then(|| Path::new("/").join(&file.current));
        let target = logged.or(unpacked.as_ref().map(|path| path.as_os_str().as_bytes()));
        let link = dir.join(&file.path).with_extension("isl");
        if let Some(target) = target.filter(|target| target.starts_with(b"/"))
            && !link.exists()
        {
            let folder = link.parent().unwrap_or(dir);
            durable::create_dir_all(folder)
                .with_context(|| format!("create {}", folder.display()))?;
            storage.replace(&link, target).with_context(|| format!("write {}", link.display()))?;
        }
    }
    Ok(())
}

/// Links in the folders of databases without a tablespace file beside them: the file that belongs
/// there, below `dir`, and what the link says.
fn lonely_links(dir: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let mut links = Vec::new();
    for folder in list(dir)?.into_iter().filter(|path| path.is_dir()) {
        for path in list(&folder)? {
            let table = path.with_extension("ibd");
            if path.extension() != Some(OsStr::new("isl")) || table.exists() {
                continue;
            }
            let target = read_isl(&path).with_context(|| format!("read {}", path.display()))?;
            links.push((table.strip_prefix(dir).unwrap_or(&table).to_owned(), target));
        }
    }
    links.sort();
    Ok(links)
}

/// Paths of what is in `dir`.
fn list(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
    let paths: std::io::Result<_> = read();
    paths.with_context(|| format!("list {}", dir.display()))
}
