//! What a backup needs to know about the server: its variables, and the plugins that matter.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use innodb::flags::PageCompression;
use innodb::page::ChecksumAlgorithm;

use crate::session::{Row, Session, SessionError};
use crate::version::ServerVersion;

/// Storage engines that hold data outside of what is copied.
const UNSUPPORTED: &str = "SELECT plugin_name FROM information_schema.plugins \
    WHERE plugin_status = 'ACTIVE' AND plugin_type = 'STORAGE ENGINE' \
    AND plugin_name IN ('TokuDB', 'Columnstore')";

/// Key managements, and what compresses pages.
const PAGE_PLUGINS: &str = "SELECT plugin_name, plugin_library, plugin_type = 'ENCRYPTION' \
    FROM information_schema.plugins WHERE plugin_status = 'ACTIVE' AND (plugin_type = 'ENCRYPTION' \
    OR plugin_type = 'DAEMON' AND plugin_name LIKE 'provider\\_%')";

/// What a server that runs with `--skip-innodb` does not tell: its own defaults. The files of
/// `InnoDB` are there all the same; page 0 of each and the header of the redo log tell the rest.
const WITHOUT_INNODB: [(&str, &str); 13] = [
    ("innodb_buffer_pool_filename", "ib_buffer_pool"),
    ("innodb_checksum_algorithm", "full_crc32"),
    ("innodb_compression_level", "6"),
    ("innodb_data_file_path", "ibdata1:12M:autoextend"),
    ("innodb_data_home_dir", ""),
    ("innodb_encrypt_log", "OFF"),
    ("innodb_encrypt_tables", "OFF"),
    ("innodb_flush_log_at_timeout", "1"),
    ("innodb_log_file_size", "100663296"),
    ("innodb_log_group_home_dir", "./"),
    ("innodb_page_size", "16384"),
    ("innodb_undo_directory", "./"),
    ("innodb_undo_tablespaces", "0"),
];

/// Storage engines that the server runs.
const ENGINES: &str = "SELECT plugin_name FROM information_schema.plugins \
    WHERE plugin_status = 'ACTIVE' AND plugin_type = 'STORAGE ENGINE'";

/// Where `MyRocks` has its files unless it is told otherwise.
const ROCKSDB_FOLDER: &str = "#rocksdb";

/// Folder that a file system makes; never a database.
const LOST_AND_FOUND: &str = "lost+found";

/// Tablespaces that have pages encrypted with keys that the server has.
const ENCRYPTED_SPACES: &str = "SELECT current_key_id, name \
    FROM information_schema.innodb_tablespaces_encryption \
    WHERE encryption_scheme = 1 AND min_key_version > 0 AND current_key_version < 4294967295";

/// `ER_UNKNOWN_TABLE`
const UNKNOWN_TABLE: u16 = 1109;

/// A tablespace that has encrypted pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedSpace {
    /// Its name, `database/table` for a table.
    pub name: String,
    /// Id of the key.
    pub key_id: u32,
}

/// The tablespaces that have encrypted pages, as far as the server tells: it lists those that it
/// has opened.
///
/// # Errors
///
/// [`SessionError`]
pub fn encrypted_spaces(session: &mut Session) -> Result<Vec<EncryptedSpace>, SessionError> {
    let rows = match session.query(ENCRYPTED_SPACES) {
        // The table is a plugin, which a server may run without.
        Err(error) if error.code() == Some(UNKNOWN_TABLE) => return Ok(Vec::new()),
        other => other?,
    };
    let space = |row: Row<'_>| {
        let key_id = row.at(0)?.parse().ok()?;
        Some(EncryptedSpace { name: row.at(1).unwrap_or_default().to_owned(), key_id })
    };
    Ok(rows.iter().filter_map(space).collect())
}

/// A plugin without which pages cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePlugin {
    /// Its name.
    pub name: String,
    /// Its library, without folder and extension.
    pub library: String,
    /// Its system variables with their values, if it is a key management.
    pub variables: Option<Vec<(String, String)>>,
}

impl PagePlugin {
    /// `row`: name, library, whether it is a key management.
    fn of(row: &Row<'_>, variables: &Variables) -> Option<Self> {
        let (name, library) = (row.at(0)?.to_owned(), row.at(1)?);
        let library = library.rsplit_once('.').map_or(library, |(stem, _)| stem).to_owned();
        let prefix = format!("{}_", name.to_lowercase());
        let variables = (row.at(2) == Some("1")).then(|| variables.starting_with(&prefix));
        Some(Self { name, library, variables })
    }
}

/// Settings of a server, as they are while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Version of the server.
    pub version: ServerVersion,
    /// Data directory, absolute.
    pub datadir: PathBuf,
    /// Sizes and names of the system tablespace's files, as set.
    pub innodb_data_file_path: String,
    /// Which checksums pages have.
    pub checksum_algorithm: ChecksumAlgorithm,
    /// Bytes of a page.
    pub innodb_page_size: usize,
    /// Bytes of the redo log.
    pub innodb_log_file_size: u64,
    /// Folder of the undo tablespaces, as set.
    pub innodb_undo_directory_as_set: String,
    /// Number of undo tablespaces beside the system tablespace.
    pub innodb_undo_tablespaces: u32,
    /// Level of page compression.
    pub innodb_compression_level: u32,
    /// Name of the file that lists the buffer pool's pages, as set.
    pub innodb_buffer_pool_filename: String,
    /// Whether the redo log is encrypted.
    pub innodb_encrypt_log: bool,
    /// Whether tables are encrypted that do not say so, as set: OFF, ON or FORCE.
    pub innodb_encrypt_tables: String,
    /// Plugins without which pages cannot be read.
    pub page_plugins: Vec<PagePlugin>,
    /// Longest time for which the server keeps written log back from the file.
    pub flush_log_at_timeout: Duration,
    /// Whether there is a binary log.
    pub log_bin: bool,
    /// Folder of the server's plugins.
    pub plugin_dir: PathBuf,
    /// The server's socket.
    pub socket: PathBuf,
    log_group_home_dir: PathBuf,
    data_home_dir: PathBuf,
    undo_directory: PathBuf,
    aria_log_dir: PathBuf,
    log_bin_basename: Option<PathBuf>,
    /// Only if InnoDB keeps the binary log.
    engine_binlog_dir: Option<PathBuf>,
    ignored_databases: Vec<String>,
    unsupported: Vec<String>,
    engines: Vec<String>,
    /// As set.
    rocksdb_datadir: Option<PathBuf>,
}

impl ServerFacts {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// [`SessionError`], and [`SessionError::NoValue`] for a variable that is absent or strange.
    pub fn read(session: &mut Session) -> Result<Self, SessionError> {
        let mut variables = session.variables()?;
        for (name, value) in WITHOUT_INNODB {
            variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let variables = Variables(variables);
        let mut names = |sql| -> Result<Vec<String>, SessionError> {
            let rows = session.query(sql)?;
            Ok(rows.iter().filter_map(|row| row.at(0)).map(str::to_owned).collect())
        };
        let (unsupported, engines) = (names(UNSUPPORTED)?, names(ENGINES)?);
        let rows = session.query(PAGE_PLUGINS)?;
        let plugins = rows.iter().filter_map(|row| PagePlugin::of(&row, &variables)).collect();
        let mut facts =
            Self::from_variables(&variables, session.version().clone(), unsupported, engines)?;
        facts.page_plugins = plugins;
        Ok(facts)
    }

    fn from_variables(
        variables: &Variables,
        version: ServerVersion,
        unsupported: Vec<String>,
        engines: Vec<String>,
    ) -> Result<Self, SessionError> {
        let datadir = PathBuf::from(variables.text("datadir")?);
        // An empty or relative path counts from the data directory.
        let folder = |name| variables.text(name).map(|path| datadir.join(path));
        let list = variables.text("ignore_db_dirs").unwrap_or_default();
        Ok(Self {
            innodb_data_file_path: variables.text("innodb_data_file_path")?.to_owned(),
            checksum_algorithm: variables.parse("innodb_checksum_algorithm")?,
            innodb_page_size: variables.parse("innodb_page_size")?,
            innodb_log_file_size: variables.parse("innodb_log_file_size")?,
            innodb_undo_directory_as_set: variables.text("innodb_undo_directory")?.to_owned(),
            innodb_undo_tablespaces: variables.parse("innodb_undo_tablespaces")?,
            innodb_compression_level: variables.parse("innodb_compression_level")?,
            innodb_buffer_pool_filename: variables.text("innodb_buffer_pool_filename")?.to_owned(),
            innodb_encrypt_log: variables.is_on("innodb_encrypt_log")?,
            innodb_encrypt_tables: variables.text("innodb_encrypt_tables")?.to_owned(),
            page_plugins: Vec::new(),
            flush_log_at_timeout: Duration::from_secs(
                variables.parse("innodb_flush_log_at_timeout")?,
            ),
            log_bin: variables.is_on("log_bin")?,
            plugin_dir: variables.text("plugin_dir")?.into(),
            socket: folder("socket")?,
            log_group_home_dir: folder("innodb_log_group_home_dir")?,
            data_home_dir: folder("innodb_data_home_dir")?,
            undo_directory: folder("innodb_undo_directory")?,
            aria_log_dir: folder("aria_log_dir_path")?,
            log_bin_basename: folder("log_bin_basename").ok(),
            engine_binlog_dir: variables
                .text("binlog_storage_engine")
                .is_ok_and(|engine| engine.eq_ignore_ascii_case("innodb"))
                .then(|| folder("binlog_directory").unwrap_or_else(|_| datadir.clone())),
            ignored_databases: list.split(',').map(str::to_owned).collect(),
            rocksdb_datadir: variables.text("rocksdb_datadir").ok().map(PathBuf::from),
            unsupported,
            engines,
            version,
            datadir,
        })
    }

    /// Folder of the redo log.
    pub fn log_group_home_dir(&self) -> PathBuf {
        self.log_group_home_dir.clone()
    }

    /// Folder from which the names of the system tablespace's files count.
    pub fn data_home_dir(&self) -> PathBuf {
        self.data_home_dir.clone()
    }

    /// Folder of the undo tablespaces.
    pub fn undo_directory(&self) -> PathBuf {
        self.undo_directory.clone()
    }

    /// Folder of Aria's log.
    pub fn aria_log_dir(&self) -> PathBuf {
        self.aria_log_dir.clone()
    }

    /// A file of the binary log, by its name without folder.
    pub fn binlog_path(&self, file: &str) -> Option<PathBuf> {
        self.log_bin_basename.as_deref().map(|base| base.with_file_name(file))
    }

    /// Folder of the binary log, if `InnoDB` keeps it (12.3 and later).
    pub fn engine_binlog_dir(&self) -> Option<&Path> {
        self.engine_binlog_dir.as_deref()
    }

    /// Whether the server takes a folder in the data directory for no database.
    pub fn ignores_database(&self, folder: &OsStr) -> bool {
        folder == LOST_AND_FOUND
            || folder == ROCKSDB_FOLDER
            || self.rocksdb_datadir().is_some_and(|dir| {
                // Comparing paths leaves out `.` and slashes at the end.
                self.datadir.join(dir) == self.datadir.join(folder)
            })
            || folder.as_encoded_bytes().starts_with(b".")
            || self.ignored_databases.iter().any(|name| OsStr::new(name) == folder)
    }

    /// Whether the server runs the storage engine.
    pub fn has_engine(&self, name: &str) -> bool {
        self.engines.iter().any(|engine| engine.eq_ignore_ascii_case(name))
    }

    /// Folder of `MyRocks`, as set, if the server runs that engine.
    pub fn rocksdb_datadir(&self) -> Option<&Path> {
        self.rocksdb_datadir.as_deref().filter(|_| self.has_engine("ROCKSDB"))
    }

    /// Whether there are files of `MyRocks` in the data directory, whether the server runs that
    /// engine or not.
    pub fn has_rocksdb_folder(&self) -> bool {
        self.datadir.join(ROCKSDB_FOLDER).is_dir()
    }

    /// The algorithms of `PAGE_COMPRESSED` whose provider plugin the server has not loaded: it cannot
    /// read such pages itself. Before 10.7 they were built in.
    pub fn missing_compressions(&self) -> Vec<PageCompression> {
        use PageCompression::{Bzip2, Lz4, Lzma, Lzo, Snappy};
        let is_missing = |algorithm: &PageCompression| {
            let provider = format!("provider_{algorithm}");
            self.page_plugins.iter().all(|plugin| plugin.name != provider)
        };
        let has_providers = self.version.series() >= (10, 7);
        let known = [Bzip2, Lz4, Lzma, Lzo, Snappy].into_iter();
        known.filter(|algorithm| has_providers && is_missing(algorithm)).collect()
    }

    /// A plugin in use whose data cannot be backed up.
    pub fn unsupported_plugin(&self) -> Option<&str> {
        self.unsupported.first().map(String::as_str)
    }

    /// Whether a path lies in the data directory, by name alone.
    pub fn is_in_datadir(&self, path: &Path) -> bool {
        path.starts_with(&self.datadir)
    }
}

struct Variables(HashMap<String, String>);

impl Variables {
    fn text(&self, name: &str) -> Result<&str, SessionError> {
        self.0.get(name).map(String::as_str).ok_or_else(|| Self::missing(name))
    }

    fn parse<T: FromStr>(&self, name: &str) -> Result<T, SessionError> {
        self.text(name)?.parse().map_err(|_| Self::missing(name))
    }

    fn is_on(&self, name: &str) -> Result<bool, SessionError> {
        self.text(name).map(|value| value == "ON" || value == "1")
    }

    /// In the order of their names, as the server shows them.
    fn starting_with(&self, prefix: &str) -> Vec<(String, String)> {
        let found = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        let mut found: Vec<_> = found.map(|(name, value)| (name.clone(), value.clone())).collect();
        found.sort();
        found
    }

    fn missing(name: &str) -> SessionError {
        SessionError::no_value("SHOW VARIABLES", name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a server 10.11.19.
    const VARIABLES: &[(&str, &str)] = &[
        ("aria_log_dir_path", "/srv/aria/"),
        ("datadir", "/srv/data/"),
        ("ignore_db_dirs", "tmp,other"),
        ("innodb_buffer_pool_filename", "ib_buffer_pool"),
        ("innodb_checksum_algorithm", "full_crc32"),
        ("innodb_compression_level", "6"),
        ("innodb_data_file_path", "ibdata1:12M:autoextend"),
        ("innodb_data_home_dir", ""),
        ("innodb_encrypt_log", "OFF"),
        ("innodb_encrypt_tables", "FORCE"),
        ("innodb_flush_log_at_timeout", "1"),
        ("innodb_log_file_size", "100663296"),
        ("innodb_log_group_home_dir", "./"),
        ("innodb_page_size", "16384"),
        ("innodb_undo_directory", "../undo"),
        ("innodb_undo_tablespaces", "3"),
        ("log_bin", "ON"),
        ("log_bin_basename", "/srv/log/mb"),
        ("plugin_dir", "/usr/lib/mysql/plugin/"),
        ("rocksdb_datadir", "./rocks"),
        ("socket", "/run/mysqld/mysqld.sock"),
    ];

    fn facts(without: &str) -> Result<ServerFacts, SessionError> {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let kept = VARIABLES.iter().filter(|(name, _)| *name != without);
        let version = ServerVersion::parse("10.11.19-MariaDB").unwrap();
        let engines = vec!["ROCKSDB".to_owned()];
        let variables = Variables(kept.map(pair).collect());
        ServerFacts::from_variables(&variables, version, Vec::new(), engines)
    }

    #[test]
    fn facts_of_a_server() {
        let facts = facts("").unwrap();
        assert_eq!(facts.datadir, Path::new("/srv/data"));
        assert_eq!(facts.innodb_page_size, 16384);
        assert_eq!(facts.checksum_algorithm, ChecksumAlgorithm::FullCrc32);
        assert_eq!(facts.innodb_undo_tablespaces, 3);
        assert_eq!(facts.log_group_home_dir(), Path::new("/srv/data"));
        assert_eq!(facts.data_home_dir(), Path::new("/srv/data"));
        assert_eq!(facts.undo_directory(), Path::new("/srv/data/../undo"));
        assert_eq!(facts.aria_log_dir(), Path::new("/srv/aria"));
        assert_eq!(facts.binlog_path("mb.000002"), Some("/srv/log/mb.000002".into()));
        assert!(facts.log_bin && !facts.innodb_encrypt_log);
        assert_eq!(facts.unsupported_plugin(), None);
    }

    #[test]
    fn folders_that_are_no_databases() {
        let facts = facts("").unwrap();
        for (folder, ignored) in
            [("tmp", true), ("other", true), ("lost+found", true), (".x", true), ("test", false)]
        {
            assert_eq!(facts.ignores_database(OsStr::new(folder)), ignored, "{folder}");
        }
        assert!(facts.is_in_datadir(Path::new("/srv/data/x")));
    }

    #[test]
    fn the_folder_of_rocksdb_is_no_database() {
        let mut facts = facts("").unwrap();
        assert_eq!(facts.rocksdb_datadir(), Some(Path::new("./rocks")));
        for (set, folder, ignored) in [
            ("./rocks", "rocks", true),
            ("./rocks", "#rocksdb", true),
            ("./rocks", "rock", false),
            ("/srv/data/rocks/", "rocks", true),
            ("/srv/elsewhere", "elsewhere", false),
            ("./db/rocks", "db", false),
        ] {
            facts.rocksdb_datadir = Some(set.into());
            assert_eq!(facts.ignores_database(OsStr::new(folder)), ignored, "{set} {folder}");
        }
        facts.engines.clear();
        assert_eq!(facts.rocksdb_datadir(), None);
        assert!(!facts.has_engine("InnoDB"));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let Err(SessionError::NoValue { value, .. }) = facts("datadir") else { panic!() };
        assert_eq!(value, "datadir");
        assert_eq!(facts("log_bin_basename").unwrap().binlog_path("x"), None);
    }

    #[test]
    fn the_folder_of_the_binary_log_that_innodb_keeps() {
        let dir = |more: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let variables = Variables(VARIABLES.iter().chain(more).map(pair).collect());
            let version = ServerVersion::parse("12.3.1-MariaDB").unwrap();
            let facts = ServerFacts::from_variables(&variables, version, Vec::new(), Vec::new());
            facts.unwrap().engine_binlog_dir().map(Path::to_owned)
        };
        assert_eq!(dir(&[]), None);
        assert_eq!(dir(&[("binlog_storage_engine", ""), ("binlog_directory", "b")]), None);
        let innodb = ("binlog_storage_engine", "InnoDB");
        assert_eq!(dir(&[innodb, ("binlog_directory", "")]), Some("/srv/data/".into()));
        assert_eq!(dir(&[innodb, ("binlog_directory", "b")]), Some("/srv/data/b".into()));
        assert_eq!(dir(&[innodb, ("binlog_directory", "/b")]), Some("/b".into()));
    }
}
