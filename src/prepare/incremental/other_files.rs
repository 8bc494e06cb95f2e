//! What is not a tablespace: an incremental backup has all of it whole, and it replaces that of the
//! target.
//!
//! ```text
//! databases    all files but tablespaces go; those of the incremental backup come
//! aria_log*    likewise
//! #rocksdb     likewise
//! others       files of these names come: positions, backup info, keys, Mroonga
//! ```
//!
//! All of it can be repeated: what is there does not matter.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;

use super::plan::{copy, make_folder};
use super::source::{Source, names};
use crate::durable;
use crate::metadata::MetadataNames;
use crate::prepare::apply::Work;
use crate::prepare::markers::remove_if_there;
use crate::threads::in_threads;

const ROCKSDB: &str = "#rocksdb";
const ARIA_LOG: &str = "aria_log";
/// Ends of names of files of tablespaces and of what tells of their changes.
const OF_TABLESPACES: [&str; 6] = [".ibd", ".delta", ".meta", ".new", ".ren", ".del"];
/// Ends of names in the target that stay, as with the reference.
const KEPT: [&str; 3] = ["ibd", "delta", "meta"];

/// Replaces the files of other engines, definitions of tables, and metadata. The caller syncs.
///
/// # Errors
///
/// What the system reports.
pub(super) fn replace(work: Work<'_>, source: &Source) -> anyhow::Result<()> {
    let (from, to) = (source.dir.as_path(), work.dir);
    let mut copies = Vec::new();
    for database in folders(to)? {
        let folder = to.join(&database);
        let is_rocksdb = database == ROCKSDB;
        for name in names(&folder)? {
            if is_rocksdb || !ends_in(&name, &KEPT) {
                remove_if_there(work.storage, &folder.join(name))?;
            }
        }
    }
    for database in folders(from)? {
        let folder = from.join(&database);
        let is_rocksdb = database == ROCKSDB;
        for name in names(&folder)? {
            if is_rocksdb || !ends_in(&name, &OF_TABLESPACES) {
                copies.push(Path::new(&database).join(name));
            }
        }
    }
    for name in names(to)? {
        if starts_with(&name, ARIA_LOG) {
            remove_if_there(work.storage, &to.join(name))?;
        }
    }
    let buffer_pool = source.cnf.buffer_pool_filename.as_deref();
    for name in names(from)? {
        if is_replaced(&name) || buffer_pool.is_some_and(|buffer_pool| name == buffer_pool) {
            copies.push(name.into());
        }
    }
    in_threads(work.threads(), &copies, |thread, path| {
        let (from, to) = (from.join(path), to.join(path));
        make_folder(&to)?;
        work.report
            .say_as(thread + 1, format_args!("Copying {} to ./{}", from.display(), path.display()));
        copy(work, &from, &to)
    })
}

/// Makes the databases that are empty in the incremental backup: they exist.
///
/// # Errors
///
/// What the system reports.
pub(super) fn make_empty_databases(work: Work<'_>, source: &Source) -> anyhow::Result<()> {
    for database in folders(&source.dir)? {
        if names(&source.dir.join(&database))?.is_empty() {
            let folder = work.dir.join(&database);
            durable::create_dir_all(&folder)
                .with_context(|| format!("create {}", folder.display()))?;
        }
    }
    Ok(())
}

/// Whether a file of the root of an incremental backup replaces that of the target.
fn is_replaced(name: &OsStr) -> bool {
    let metadata = [MetadataNames::OLD, MetadataNames::NEW];
    let of_metadata = metadata.iter().any(|names| {
        [names.info, names.binlog_info, names.slave_info, names.galera_info]
            .into_iter()
            .any(|known| name == known)
    });
    of_metadata
        || ["donor_galera_info", "ib_lru_dump"].into_iter().any(|known| name == known)
        || [ARIA_LOG, "aws-kms-key"].into_iter().any(|start| starts_with(name, start))
        || name.as_bytes().windows(4).any(|part| part == b".mrn")
}

fn starts_with(name: &OsStr, start: &str) -> bool {
    name.as_bytes().starts_with(start.as_bytes())
}

fn ends_in(name: &OsStr, ends: &[&str]) -> bool {
    ends.iter().any(|end| name.as_bytes().ends_with(end.as_bytes()))
}

/// Names of the folders in a folder, sorted.
fn folders(dir: &Path) -> anyhow::Result<Vec<OsString>> {
    let list = || -> std::io::Result<Vec<_>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name());
            }
        }
        names.sort();
        Ok(names)
    };
    list().with_context(|| format!("list {}", dir.display()))
}
