//! What must be there: the metadata of a backup, and the data files of each table.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use innodb::datadir::{DatadirListing, EntryKind};
use innodb::dictionary::Table;

use super::directory::{Directory, Kind};
use super::findings::Findings;
use crate::backup::definitions::{Definitions, NeededFile};

/// A file in the folder of a database.
#[derive(Debug)]
pub(super) struct TableFile {
    /// Where it is.
    pub path: PathBuf,
}

/// What the folders of databases hold.
pub(super) struct DatabaseFiles {
    /// All files.
    pub files: Vec<TableFile>,
    /// Tables of `InnoDB` without a tablespace file of their own, by their names in the dictionary.
    pub without_tablespace: HashMap<Vec<u8>, PathBuf>,
    /// Changed pages of an incremental backup, which are not checked.
    pub deltas: u64,
}

/// Lists the folders of databases and compares the definitions of tables with the files. `tables`:
/// the tablespaces there are.
///
/// # Errors
///
/// A folder that cannot be listed.
pub(super) fn check(
    directory: &Directory,
    tables: &HashSet<PathBuf>,
    findings: &Findings,
) -> anyhow::Result<DatabaseFiles> {
    let listing = DatadirListing::read(&directory.dir, |_| true)?;
    let definitions = Definitions::default();
    let mut there = HashSet::new();
    let mut files = Vec::new();
    let is_delta = |name: &OsStr| Path::new(name).extension() == Some(OsStr::new("delta"));
    let mut deltas = listing.root.iter().filter(|entry| is_delta(&entry.name)).count();
    for database in &listing.databases {
        for entry in database.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            let path = database.path.join(&entry.name);
            let target = Path::new(&database.name).join(&entry.name);
            // Left over from an ALTER TABLE that ended early; the server removes them.
            if entry.name.as_bytes().starts_with(b"#sql") {
                continue;
            }
            deltas += usize::from(is_delta(&entry.name));
            if matches!(target.extension().and_then(OsStr::to_str), Some("frm" | "par")) {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                definitions.note(&target, &bytes);
            }
            there.insert(target);
            files.push(TableFile { path });
        }
    }
    let (needed, unknown) = definitions.needed_files();
    for (file, why) in unknown {
        findings.add(&file.display().to_string(), format_args!("it is not understood: {why}"));
    }
    let mut without_tablespace = HashMap::new();
    for NeededFile { file, is_of_innodb } in needed {
        if is_of_innodb && !tables.contains(&file) && directory.kind != Kind::Incremental {
            let name = file.with_extension("").into_os_string().as_bytes().to_vec();
            without_tablespace.insert(name, file);
        } else if !is_of_innodb && !there.contains(&file) {
            findings.add(&file.display().to_string(), "it is missing: its table needs it");
        }
    }
    let deltas = deltas as u64;
    Ok(DatabaseFiles { files, without_tablespace, deltas })
}

/// Decides about the tables without a tablespace file by what the dictionary and the log say;
/// returns those of which they say nothing.
pub(super) fn check_missing(
    without_tablespace: HashMap<Vec<u8>, PathBuf>,
    tables: &HashMap<Vec<u8>, Table>,
    named: &HashSet<PathBuf>,
    findings: &Findings,
) -> Vec<PathBuf> {
    let mut unknown = Vec::new();
    for (name, file) in without_tablespace {
        match tables.get(&name) {
            Some(Table { space: 0, .. } | Table { is_discarded: true, .. }) => {}
            Some(Table { space, .. }) => findings.add(
                &file.display().to_string(),
                format_args!("it is missing: the dictionary has the table in tablespace {space}"),
            ),
            None if named.contains(&file) => findings
                .add(&file.display().to_string(), "it is missing: the redo log is about it too"),
            None => unknown.push(file),
        }
    }
    unknown.sort();
    unknown
}

/// The metadata files that a backup must have besides those that were read.
pub(super) fn check_metadata(directory: &Directory, findings: &Findings) {
    let Some(found) = &directory.found else { return };
    let has = |name: &str| directory.dir.join(name).symlink_metadata().is_ok();
    let info = found.names.info;
    let Ok(text) = fs::read_to_string(directory.dir.join(info)) else {
        let lacks = if has(info) { "it cannot be read" } else { "it is missing" };
        findings.add(info, format_args!("{lacks}: it tells how the backup was made"));
        return;
    };
    let position = text.lines().find_map(|line| line.strip_prefix("binlog_pos = "));
    let has_position = position.is_some_and(|position| !position.trim().is_empty());
    if has_position && !has(found.names.binlog_info) {
        findings.add(
            found.names.binlog_info,
            format_args!("it is missing: {info} tells of a position in the binary log"),
        );
    }
}
