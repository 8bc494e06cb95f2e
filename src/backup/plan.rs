//! What to copy: one listing of the data directory, sorted by what has to happen to each file.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use innodb::SpaceId;
use innodb::datadir::{self, DataFilePath, DatadirListing, EntryKind, FileIdentity};
use innodb::page::ChecksumAlgorithm;
use innodb::space::SpaceHeader;
use mdl::dictionary;
use mdl::facts::ServerFacts;
use mdl::session::Session;

use super::copy::{Source, SourceKind};
use super::first_page::{self, FirstPage};
use super::other_files::OtherFile;
use super::source_file::SourceFile;
use super::spaces::{ListedSpace, TableName};
use crate::filter::TableFilter;

/// Everything in the data directory that belongs into a backup.
#[derive(Debug, Default)]
pub struct Plan {
    /// Tablespaces of tables.
    pub tables: Vec<Listed>,
    /// Files that belong to no engine or only describe tables: `.frm`, `.isl`, `.opt`, ...
    pub plain: Vec<OtherFile>,
    /// Tables of other engines, by database and table (without partition), in file-name encoding.
    pub engine_tables: BTreeMap<(String, String), EngineTable>,
    /// Folders of databases, relative, and whether they are empty.
    pub databases: Vec<(PathBuf, bool)>,
    /// Files that Mroonga writes to through memory, so that their times tell nothing.
    pub mapped: Vec<OtherFile>,
    /// The binary log, if InnoDB keeps it: the redo log brings it up to date.
    pub binlog: Vec<OtherFile>,
    /// Files in database folders that no engine known here uses.
    pub unknown: Vec<OtherFile>,
    /// `.isl` files and the tablespaces that they name, which are not there.
    pub missing: Vec<(PathBuf, PathBuf)>,
    /// Tablespace files by the name of a table that has another one.
    pub unused: Vec<PathBuf>,
    /// Folders of databases that the filter leaves out.
    pub left_out_databases: Vec<OsString>,
    /// Files in other folders that the filter leaves out.
    pub left_out: Vec<PathBuf>,
    /// Tables with a tablespace in `tables` and a `.isl` file that names another one.
    doubled: Vec<(OtherFile, Listed)>,
}

/// A tablespace file and where it goes.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Name and file.
    pub space: ListedSpace,
    /// Where the server has it.
    pub path: PathBuf,
}

/// The files of a table of another engine.
#[derive(Debug, Default)]
pub struct EngineTable {
    /// Its files, partitions included.
    pub files: Vec<OtherFile>,
    /// Whether they are Aria's.
    pub aria: bool,
}

/// What a file in a database folder is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileClass {
    Tablespace,
    Link,
    Plain,
    Engine,
    Aria,
    Mroonga,
    Intermediate,
    Unknown,
}

fn classify(name: &OsStr) -> FileClass {
    let bytes = name.as_bytes();
    if bytes.starts_with(b"#sql") {
        return FileClass::Intermediate;
    }
    // DATABASE.mrn, with more behind it. Where they are is a setting.
    if bytes.windows(4).any(|window| window == b".mrn") {
        return FileClass::Mroonga;
    }
    let extension = Path::new(name).extension().map(OsStr::as_bytes);
    // Partitions that ALTER TABLE has not finished, of any engine but InnoDB, whose are in the log.
    if [b"#TMP#", b"#REN#"].iter().any(|mark| bytes.windows(5).any(|window| window == *mark))
        && extension != Some(b"ibd")
    {
        return FileClass::Intermediate;
    }
    match extension {
        Some(b"ibd") => FileClass::Tablespace,
        Some(b"isl") => FileClass::Link,
        Some(b"frm" | b"TRG" | b"TRN" | b"opt" | b"par") => FileClass::Plain,
        Some(b"MYD" | b"MYI" | b"MRG" | b"ARM" | b"ARZ" | b"CSM" | b"CSV") => FileClass::Engine,
        Some(b"MAD" | b"MAI") => FileClass::Aria,
        _ => FileClass::Unknown,
    }
}

impl Plan {
    /// Lists what `filter` takes of the data directory of the server, which is asked where files
    /// leave a doubt.
    ///
    /// # Errors
    ///
    /// Those of listing and asking; a `.isl` file that cannot be read; two files of one tablespace.
    pub fn discover(
        facts: &ServerFacts,
        filter: &TableFilter,
        session: &mut Session,
    ) -> anyhow::Result<Self> {
        let mut left_out = Vec::new();
        let listing = DatadirListing::read(&facts.datadir, |name| {
            let is_left_out = !facts.ignores_database(name) && !filter.takes_database(name);
            left_out.extend(is_left_out.then(|| name.to_owned()));
            !is_left_out && !facts.ignores_database(name)
        })?;
        let mut plan = Self::sort(listing, facts, filter)?;
        plan.left_out_databases = left_out;
        plan.settle_doubled(facts, session)?;
        if let Some(dir) = facts.engine_binlog_dir() {
            plan.binlog = binlog_files(dir).with_context(|| format!("list {}", dir.display()))?;
        }
        Ok(plan)
    }

    fn sort(
        listing: DatadirListing,
        facts: &ServerFacts,
        filter: &TableFilter,
    ) -> anyhow::Result<Self> {
        let mut plan = Self::default();
        for entry in listing.root {
            let is_mroonga = classify(&entry.name) == FileClass::Mroonga;
            let is_key = entry.name.as_bytes().starts_with(b"aws-kms-key");
            let file = OtherFile {
                path: facts.datadir.join(&entry.name),
                target: entry.name.into(),
                identity: entry.identity,
            };
            match (is_mroonga, is_key) {
                (true, _) => plan.mapped.push(file),
                (false, true) => plan.plain.push(file),
                (false, false) => {}
            }
        }
        for database in listing.databases {
            let folder = PathBuf::from(&database.name);
            let mut known = 0;
            let entries = database.entries.len();
            let names: HashSet<OsString> =
                database.entries.iter().map(|entry| entry.name.clone()).collect();
            for entry in database.entries.into_iter().filter(|e| e.kind == EntryKind::File) {
                let target = folder.join(&entry.name);
                let path = database.path.join(&entry.name);
                let class = classify(&entry.name);
                if !filter.takes(&target) {
                    if class != FileClass::Intermediate {
                        plan.left_out.push(target);
                    }
                    continue;
                }
                known += usize::from(class != FileClass::Unknown);
                let file = OtherFile { path, target, identity: entry.identity };
                match class {
                    FileClass::Tablespace => plan.add_table(file),
                    FileClass::Link => plan.add_link(file, &names)?,
                    FileClass::Plain => plan.plain.push(file),
                    FileClass::Engine => plan.add_engine_file(&database.name, file, false),
                    FileClass::Aria => plan.add_engine_file(&database.name, file, true),
                    FileClass::Mroonga => plan.mapped.push(file),
                    FileClass::Intermediate => {}
                    FileClass::Unknown => plan.unknown.push(file),
                }
            }
            let is_empty = entries == 0 && filter.takes(&folder.join("db.opt"));
            if known > 0 || is_empty {
                plan.databases.push((folder, is_empty));
            }
        }
        Ok(plan)
    }

    fn add_table(&mut self, file: OtherFile) {
        if let Some(name) = TableName::of_file(&file.target) {
            let space = ListedSpace { name, identity: file.identity };
            self.tables.push(Listed { space, path: file.path });
        }
    }

    /// A `.isl` file names a tablespace elsewhere; both are copied. `names` are all files of the
    /// database.
    fn add_link(&mut self, file: OtherFile, names: &HashSet<OsString>) -> anyhow::Result<()> {
        let path = match datadir::read_isl(&file.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // It may just be being written.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                self.missing.push((file.target, PathBuf::new()));
                return Ok(());
            }
            other => other.with_context(|| format!("read {}", file.path.display()))?,
        };
        let remote = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other.with_context(|| format!("stat {}", path.display()))?),
        };
        match (remote, TableName::of_file(&file.target)) {
            (Some(metadata), Some(name)) => {
                let identity = FileIdentity::from(&metadata);
                let local = file.target.with_extension("ibd");
                let is_doubled = local.file_name().is_some_and(|name| names.contains(name));
                let remote = Listed { space: ListedSpace { name, identity }, path };
                if is_doubled {
                    self.doubled.push((file, remote));
                    return Ok(());
                }
                self.tables.push(remote);
            }
            _ if is_left_over(&file.target, names) => return Ok(()),
            _ => self.missing.push((file.target.clone(), path)),
        }
        self.plain.push(file);
        Ok(())
    }

    /// Of two tablespaces by one name, one here and one where a `.isl` file says, the server (10.11,
    /// 11.8) uses the one with the id that its dictionary has for the table.
    fn settle_doubled(&mut self, facts: &ServerFacts, session: &mut Session) -> anyhow::Result<()> {
        let doubled = std::mem::take(&mut self.doubled);
        if doubled.is_empty() {
            return Ok(());
        }
        let name = |table: &Listed| table.space.name.display().to_string();
        let names: Vec<String> = doubled.iter().map(|(_, remote)| name(remote)).collect();
        let ids = dictionary::space_ids(session, &names).context("ask for the ids of tables")?;
        for (link, remote) in doubled {
            let same_name = |table: &&mut Listed| table.space.name == remote.space.name;
            let Some(local) = self.tables.iter_mut().find(same_name) else { continue };
            // A file that the server has just made and not written yet can be any table's.
            let is_used = |path: &Path| -> anyhow::Result<Option<bool>> {
                let id = read_space_id(path, facts.checksum_algorithm)?;
                Ok(id.map(|id| ids.get(&name(&remote)) == Some(&id)))
            };
            match (is_used(&local.path)?, is_used(&remote.path)?) {
                (Some(true), Some(true)) => {
                    let (local, remote) = (local.path.display(), remote.path.display());
                    bail!("{local} and {remote} are one tablespace");
                }
                (Some(false) | None, Some(true)) | (Some(false), None) => {
                    self.unused.push(std::mem::replace(local, remote).path);
                    self.plain.push(link);
                }
                _ => self.unused.push(remote.path),
            }
        }
        Ok(())
    }

    fn add_engine_file(&mut self, database: &OsStr, file: OtherFile, aria: bool) {
        let stem = file.target.file_stem().unwrap_or_default().to_string_lossy();
        // Partitions (#P#) and indexes kept as tables (#i#) are part of their table.
        let table = stem.split_once("#P#").or_else(|| stem.split_once("#i#"));
        let table = table.map_or(&*stem, |(table, _)| table).to_owned();
        let key = (database.to_string_lossy().into_owned(), table);
        let entry = self.engine_tables.entry(key).or_default();
        entry.aria |= aria;
        entry.files.push(file);
    }

    /// All that is listed of databases, taken or left out.
    pub fn all_files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let tables = self.tables.iter().map(|table| table.space.name.with_extension("ibd"));
        let engines = self.engine_tables.values().flat_map(|entry| &entry.files);
        let others = self.plain.iter().chain(&self.mapped).chain(&self.unknown).chain(engines);
        let taken = tables.chain(others.map(|file| file.target.clone()));
        taken.chain(self.left_out.iter().cloned())
    }

    /// The sources of all listed tables.
    pub fn table_sources(&self) -> impl Iterator<Item = Source> + '_ {
        self.tables.iter().map(|table| Source {
            path: table.path.clone(),
            target: table.space.name.with_extension("ibd"),
            len: table.space.identity.size,
            kind: SourceKind::Table(table.space.name.clone()),
        })
    }
}

/// The files of the binary log that InnoDB keeps in `dir`.
fn binlog_files(dir: &Path) -> std::io::Result<Vec<OtherFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().and_then(datadir::binlog_file_number).is_none() {
            continue;
        }
        match entry.metadata() {
            // Purged meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            metadata => files.push(OtherFile {
                path: entry.path(),
                target: entry.file_name().into(),
                identity: FileIdentity::from(&metadata?),
            }),
        }
    }
    Ok(files)
}

/// Whether the link `link`, whose tablespace is missing, belongs to no table. The server (10.11,
/// 11.8) leaves such links behind where it renames a table into another database; a restore would
/// put a later table of that name where the link says, not where the server looks for it.
fn is_left_over(link: &Path, names: &HashSet<OsString>) -> bool {
    let stem = link.file_stem().unwrap_or_default().to_string_lossy();
    let table = stem.split_once("#P#").map_or(&*stem, |(table, _)| table);
    let has = |name: String| names.contains(&OsString::from(name));
    // The auxiliary tables of full-text indexes have no description.
    let is_described = table.starts_with("FTS_") || has(format!("{table}.frm"));
    !is_described || has(format!("{stem}.ibd"))
}

/// The files of the system tablespace.
///
/// # Errors
///
/// A file that is missing, raw or unreadable, and a damaged page 0.
pub fn system_sources(facts: &ServerFacts) -> anyhow::Result<Vec<Source>> {
    let files = DataFilePath::parse(&facts.innodb_data_file_path)
        .with_context(|| format!("understand {}", facts.innodb_data_file_path))?;
    let mut sources: Vec<Source> = Vec::new();
    let mut header = None;
    let mut first_page = 0;
    for data_file in files.files() {
        let path = facts.data_home_dir().join(data_file.path());
        if data_file.raw().is_some() {
            bail!("{} is a raw device, which is not supported", path.display());
        }
        let file = SourceFile::open(&path).with_context(|| format!("open {}", path.display()))?;
        let len = file.identity().with_context(|| format!("stat {}", path.display()))?.size;
        let header = match &header {
            Some(header) => header,
            None => header.insert(read_system_header(&file, &path, facts.checksum_algorithm)?),
        };
        let name = PathBuf::from(data_file.name());
        let kind = SourceKind::System { first_page, header: *header };
        sources.push(Source { target: name, path, len, kind });
        let pages = len / header.flags().page_size().physical() as u64;
        first_page += u32::try_from(pages).context("size of the system tablespace")?;
    }
    Ok(sources)
}

fn read_system_header(
    file: &SourceFile,
    path: &Path,
    algorithm: ChecksumAlgorithm,
) -> anyhow::Result<SpaceHeader> {
    match first_page::read(file, algorithm).with_context(|| format!("read {}", path.display()))? {
        FirstPage::Header(header) => Ok(header),
        FirstPage::Unwritten => bail!("page 0 of {} was never written", path.display()),
        FirstPage::Damaged(problem) => {
            bail!("page 0 at offset 0 of {} is damaged: {problem}", path.display())
        }
    }
}

/// The undo tablespaces: `undo001`, `undo002`, ... until one is missing.
///
/// # Errors
///
/// Those of `stat`.
pub fn undo_sources(facts: &ServerFacts) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for number in 1..=127 {
        let name = datadir::undo_file_name(number);
        let path = facts.undo_directory().join(&name);
        let len = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            other => other.with_context(|| format!("stat {}", path.display()))?.len(),
        };
        sources.push(Source { path, target: name.into(), len, kind: SourceKind::Undo });
    }
    Ok(sources)
}

/// The id in page 0 of a tablespace file; `None` where page 0 was not written yet or the file is
/// gone.
///
/// # Errors
///
/// Those of reading.
pub fn read_space_id(path: &Path, algorithm: ChecksumAlgorithm) -> anyhow::Result<Option<SpaceId>> {
    let file = match SourceFile::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("open {}", path.display()))?,
    };
    match first_page::read(&file, algorithm).with_context(|| format!("read {}", path.display()))? {
        FirstPage::Header(header) => Ok(Some(header.space_id())),
        FirstPage::Unwritten | FirstPage::Damaged(_) => Ok(None),
    }
}

/// Tables that the server writes to under every lock but the last.
pub fn is_written_under_locks(database: &str, table: &str) -> bool {
    is_statistics(database, table) || is_log_table(database, table)
}

/// The tables of engine-independent statistics: `mysql.*stats` but for `InnoDB`'s.
pub fn is_statistics(database: &str, table: &str) -> bool {
    database == "mysql" && table.ends_with("stats") && !table.starts_with("inno")
}

/// The tables that hold the server's logs.
pub fn is_log_table(database: &str, table: &str) -> bool {
    database == "mysql" && matches!(table, "general_log" | "slow_log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_log_that_innodb_keeps() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["binlog-000000.ibb", "binlog-000001.ibb", "binlog.000001", "ibdata1"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let mut files = binlog_files(dir.path()).unwrap();
        files.sort_by(|a, b| a.target.cmp(&b.target));
        let found: Vec<_> = files.iter().map(|file| file.target.to_str().unwrap()).collect();
        assert_eq!(found, ["binlog-000000.ibb", "binlog-000001.ibb"]);
        assert_eq!(files[0].path, dir.path().join("binlog-000000.ibb"));
        assert_eq!(files[0].identity.size, 17);
    }
}
