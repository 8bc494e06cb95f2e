//! Which databases and tables belong to a backup: `--databases`, `--tables` and their relatives.
//!
//! Names are compared as they are on disk, `database/table.extension`, in file-name encoding; an
//! entry of a list may also be written as in SQL. What precedes the first dot of the file's name is
//! the table: `db.opt` is table `db`. In this order:
//!
//! 1. a database that is excluded, or not among the included ones, is left out;
//! 2. a table that an excluding pattern or entry names is left out;
//! 3. one that an including pattern or entry names is taken; 2 and 3 are tried with the name of the
//!    partition first;
//! 4. tables of a database that is included as a whole are taken;
//! 5. others are left out if anything was to be included, and otherwise taken.
//!
//! Source: `check_if_skip_table` in `xtrabackup.cc`, checked by running mariadb-backup 10.11.19.

mod ere;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use mdl::filename;
use regex::bytes::Regex;

/// Longest name in a list, in bytes (`NAME_LEN`).
const NAME_MAX: usize = 3 * 64;
/// Marks in file names of parts of a table: partitions, and indexes that are kept as tables.
const PARTS: [&[u8]; 2] = [b"#P#", b"#i#"];

/// The options as they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterOptions {
    /// `--databases`
    pub databases: Option<Vec<u8>>,
    /// `--databases-file`
    pub databases_file: Option<ListFile>,
    /// `--databases-exclude`
    pub databases_exclude: Option<Vec<u8>>,
    /// `--tables`
    pub tables: Option<Vec<u8>>,
    /// `--tables-file`
    pub tables_file: Option<ListFile>,
    /// `--tables-exclude`
    pub tables_exclude: Option<Vec<u8>>,
}

impl FilterOptions {
    /// Whether any of the options was given, so that the backup counts as a partial one.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }
}

/// A file with a list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    /// Its path from the working directory, absolute.
    pub path: PathBuf,
    /// Its path as it was typed; where the other is not there, one from the data directory.
    pub typed: PathBuf,
}

/// Decides about databases and files.
#[derive(Debug, Default)]
pub struct TableFilter {
    included: List,
    excluded: List,
}

/// One side of a filter.
#[derive(Debug, Default)]
struct List {
    /// Databases that are named, and whether as a whole.
    databases: HashMap<Vec<u8>, bool>,
    tables: Vec<Vec<u8>>,
    patterns: Vec<(Vec<u8>, Regex)>,
    has_databases: bool,
}

/// What becomes of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    LeftOut,
    /// Only tables that are named.
    InPart,
    /// All tables that are not excluded.
    Whole,
    /// Nothing is said about it.
    Unnamed,
}

impl TableFilter {
    /// Reads all lists; relative files that are not in the working directory are looked for in
    /// `datadir`.
    ///
    /// # Errors
    ///
    /// A pattern that is none, a name that cannot be one, a file that cannot be read.
    pub fn new(options: &FilterOptions, datadir: &Path) -> anyhow::Result<Self> {
        let mut filter = Self::default();
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        for entry in entries(options.databases.as_deref(), blank) {
            filter.included.add_entry(entry)?;
        }
        for entry in lines_of(options.databases_file.as_ref(), datadir)? {
            filter.included.add_entry(&entry)?;
        }
        for entry in entries(options.databases_exclude.as_deref(), blank) {
            filter.excluded.add_entry(entry)?;
        }
        let comma = |byte: &u8| *byte == b',';
        for pattern in entries(options.tables.as_deref(), comma) {
            filter.included.add_pattern(pattern, "tables")?;
        }
        for entry in lines_of(options.tables_file.as_ref(), datadir)? {
            let is_full = entry.contains(&b'.');
            ensure!(is_full, "`{}` is not fully qualified name.", shown(&entry));
            filter.included.add_entry(&entry)?;
        }
        for pattern in entries(options.tables_exclude.as_deref(), comma) {
            filter.excluded.add_pattern(pattern, "tables-exclude")?;
        }
        Ok(filter)
    }

    /// Whether everything belongs to the backup.
    pub fn is_empty(&self) -> bool {
        self.included.is_empty() && self.excluded.is_empty()
    }

    /// Whether anything in the folder of a database may belong to the backup.
    pub fn takes_database(&self, folder: &OsStr) -> bool {
        self.database(folder.as_bytes()) != Database::LeftOut
    }

    /// Whether the file `DATABASE/FILE` belongs to the backup.
    pub fn takes(&self, file: &Path) -> bool {
        if self.is_empty() {
            return true;
        }
        let (Some(folder), Some(name)) =
            (file.parent().and_then(Path::file_name), file.file_name())
        else {
            return true;
        };
        let database = self.database(folder.as_bytes());
        if database == Database::LeftOut {
            return false;
        }
        let name = name.as_bytes();
        let table = name.split(|byte| *byte == b'.').next().unwrap_or(name);
        for table in [Some(table), whole_table(table)].into_iter().flatten() {
            let name = Name::of(folder.as_bytes(), table);
            if self.excluded.names(&name) {
                return false;
            }
            if self.included.names(&name) {
                return true;
            }
        }
        match database {
            Database::Whole => true,
            Database::LeftOut | Database::InPart => false,
            Database::Unnamed => self.included.patterns.is_empty(),
        }
    }

    fn database(&self, folder: &[u8]) -> Database {
        if self.excluded.database(folder) == Some(true) {
            return Database::LeftOut;
        }
        match (self.included.has_databases, self.included.database(folder)) {
            (false, _) => Database::Unnamed,
            (true, None) => Database::LeftOut,
            (true, Some(true)) => Database::Whole,
            (true, Some(false)) => Database::InPart,
        }
    }

    /// The entries and patterns that name nothing of `files`, each `DATABASE/FILE`, and `folders`:
    /// those that include, and those that exclude.
    pub fn idle(&self, folders: &[&OsStr], files: &[PathBuf]) -> (Vec<String>, Vec<String>) {
        (self.included.idle(folders, files), self.excluded.idle(folders, files))
    }
}

/// `database.table` as it is matched.
struct Name {
    on_disk: Vec<u8>,
    in_sql: Option<Vec<u8>>,
}

impl Name {
    fn of(folder: &[u8], table: &[u8]) -> Self {
        let on_disk = [folder, b".", table].concat();
        let in_sql = decoded(folder).zip(decoded(table));
        Self { on_disk, in_sql: in_sql.map(|(folder, table)| [&*folder, b".", &*table].concat()) }
    }

    fn is(&self, entry: &[u8]) -> bool {
        self.on_disk == entry || self.in_sql.as_deref() == Some(entry)
    }
}

impl List {
    fn is_empty(&self) -> bool {
        !self.has_databases && self.patterns.is_empty()
    }

    /// Adds `database` or `database.table`.
    fn add_entry(&mut self, entry: &[u8]) -> anyhow::Result<()> {
        let dot = entry.iter().position(|byte| *byte == b'.');
        let (database, table) = match dot {
            Some(dot) => (entry.get(..dot).unwrap_or_default(), entry.get(dot + 1..)),
            None => (entry, None),
        };
        for name in [Some(database), table].into_iter().flatten() {
            ensure!(name.len() <= NAME_MAX, "name `{}` is too long.", shown(entry));
            let is_valid = !name.iter().any(|byte| b"/\\~".contains(byte));
            ensure!(is_valid, "name `{}` is not valid.", shown(entry));
        }
        self.has_databases = true;
        let is_whole = self.databases.entry(database.to_vec()).or_default();
        match table {
            Some(_) => self.tables.push(entry.to_vec()),
            None => *is_whole = true,
        }
        Ok(())
    }

    fn add_pattern(&mut self, pattern: &[u8], option: &str) -> anyhow::Result<()> {
        let regex = ere::compile(pattern).map_err(|error| {
            let pattern = shown(pattern);
            anyhow::anyhow!("mariabackup: error: {option} regcomp({pattern}): {error}")
        })?;
        self.patterns.push((pattern.to_vec(), regex));
        Ok(())
    }

    /// Whether the database is named, and if so whether as a whole.
    fn database(&self, folder: &[u8]) -> Option<bool> {
        let in_sql = decoded(folder);
        let of = |name: &[u8]| self.databases.get(name).copied();
        of(folder).or_else(|| of(&in_sql?))
    }

    fn names(&self, name: &Name) -> bool {
        self.patterns.iter().any(|(_, regex)| regex.is_match(&name.on_disk))
            || self.tables.iter().any(|entry| name.is(entry))
    }

    fn idle(&self, folders: &[&OsStr], files: &[PathBuf]) -> Vec<String> {
        let mut databases: Vec<&[u8]> = self
            .databases
            .iter()
            .filter(|(_, is_whole)| **is_whole)
            .map(|(name, _)| name.as_slice())
            .collect();
        databases.retain(|name| {
            let is_it = |folder: &&OsStr| {
                folder.as_bytes() == *name || decoded(folder.as_bytes()).as_deref() == Some(*name)
            };
            !folders.iter().any(is_it)
        });
        let mut tables: Vec<&[u8]> = self.tables.iter().map(Vec::as_slice).collect();
        let mut patterns: Vec<&(Vec<u8>, Regex)> = self.patterns.iter().collect();
        for file in files {
            let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { continue };
            let name = name.as_bytes();
            let table = name.split(|byte| *byte == b'.').next().unwrap_or(name);
            for table in [Some(table), whole_table(table)].into_iter().flatten() {
                let name = Name::of(folder.as_os_str().as_bytes(), table);
                tables.retain(|entry| !name.is(entry));
                patterns.retain(|(_, regex)| !regex.is_match(&name.on_disk));
            }
        }
        let patterns = patterns.into_iter().map(|(pattern, _)| pattern.as_slice());
        let mut idle: Vec<_> = databases.into_iter().chain(tables).chain(patterns).collect();
        idle.sort_unstable();
        idle.dedup();
        idle.into_iter().map(shown).collect()
    }
}

/// The table of which `table` is a part, if it is one.
fn whole_table(table: &[u8]) -> Option<&[u8]> {
    let starts = PARTS
        .iter()
        .filter_map(|mark| table.windows(mark.len()).position(|window| window == *mark));
    starts.min().and_then(|start| table.get(..start))
}

/// A name in file-name encoding as SQL has it; a partition keeps its mark.
fn decoded(name: &[u8]) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(name).ok()?;
    let at = whole_table(name.as_bytes()).map_or(name.len(), <[u8]>::len);
    let (table, part) = name.split_at_checked(at)?;
    Some(format!("{}{part}", filename::try_decode(table)?).into_bytes())
}

/// The entries of a list in one option.
fn entries(list: Option<&[u8]>, is_delimiter: impl Fn(&u8) -> bool) -> impl Iterator<Item = &[u8]> {
    let entries = list.unwrap_or_default().split(is_delimiter);
    entries.filter(|entry| !entry.is_empty())
}

/// The lines of a file; none without a file.
fn lines_of(file: Option<&ListFile>, datadir: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let bytes = match std::fs::read(&file.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::read(datadir.join(&file.typed)).map_err(|_| error)
        }
        read => read,
    };
    let bytes = bytes.with_context(|| format!("cannot open {}", file.path.display()))?;
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    match lines.pop() {
        None => {}
        Some(last) if last.is_empty() => {}
        Some(last) => bail!(
            "`{}...` name is too long: the last line of {} does not end",
            shown(&last),
            file.path.display()
        ),
    }
    Ok(lines)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests;
