//! One look at all entries of a data directory and its database directories.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What identifies a file and its state: another value means another file, or a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the contents, in nanoseconds since 1970.
    pub mtime: i64,
    /// Time of the last change of contents, name or attributes, in nanoseconds since 1970.
    pub ctime: i64,
}

impl FileIdentity {
    /// Whether both are the same file, changed or not.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&Metadata> for FileIdentity {
    fn from(metadata: &Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What kind of file an entry is, or points to if it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A socket, pipe or device.
    Other,
}

/// An entry of a directory. Symbolic links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name in its directory.
    pub name: OsString,
    /// Kind of file.
    pub kind: EntryKind,
    /// Identity and state.
    pub identity: FileIdentity,
}

/// A directory of the data directory. Not each is a database: the caller knows
/// `ignore_db_dirs`, `#rocksdb` and `lost+found`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseDir {
    /// Name, in the server's encoding for file names.
    pub name: OsString,
    /// Data directory and name.
    pub path: PathBuf,
    /// Everything in it, sorted by name.
    pub entries: Vec<Entry>,
}

/// The entries of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatadirListing {
    /// Directories, sorted by name.
    pub databases: Vec<DatabaseDir>,
    /// Everything else in the data directory itself, sorted by name.
    pub root: Vec<Entry>,
}

impl DatadirListing {
    /// Lists `datadir` and those of its directories whose name `is_wanted` accepts. Entries that
    /// vanish meanwhile are left out. Not a snapshot: the server may work meanwhile.
    ///
    /// # Errors
    ///
    /// [`DatadirError`] for anything that cannot be read; only `datadir` itself must exist.
    pub fn read(
        datadir: &Path,
        mut is_wanted: impl FnMut(&OsStr) -> bool,
    ) -> Result<Self, DatadirError> {
        let (directories, root) = read_entries(datadir)?
            .into_iter()
            .partition::<Vec<_>, _>(|entry| entry.kind == EntryKind::Directory);
        let names = directories.into_iter().map(|entry| entry.name);
        let wanted: Vec<_> = names.filter(|name| is_wanted(name)).collect();
        let databases = read_databases(datadir, &wanted)?;
        Ok(Self { databases, root })
    }

    /// The tablespaces of tables, sorted by database and file name. Reads the `.isl` files, which
    /// may vanish too.
    ///
    /// # Errors
    ///
    /// [`DatadirError`] for an `.isl` file that cannot be read.
    pub fn tablespaces(&self) -> Result<Vec<FoundFile>, DatadirError> {
        let mut found = Vec::new();
        for database in &self.databases {
            for entry in database.entries.iter().filter(|entry| entry.kind != EntryKind::Directory)
            {
                let Some((table, extension)) = tablespace_name(&entry.name) else { continue };
                let file = match extension {
                    Extension::Ibd => Some(FoundFile {
                        database: database.name.clone(),
                        table: table.to_owned(),
                        path: database.path.join(&entry.name),
                        is_remote: false,
                        identity: Some(entry.identity),
                    }),
                    Extension::Isl => remote_file(database, table, &entry.name)?,
                };
                found.extend(file);
            }
        }
        Ok(found)
    }
}

/// A tablespace of a table or partition, found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Name of the directory of the database.
    pub database: OsString,
    /// Name of the file without `.ibd` or `.isl`.
    pub table: OsString,
    /// Where the data is.
    pub path: PathBuf,
    /// Whether `path` comes from an `.isl` file.
    pub is_remote: bool,
    /// Identity and state; none if an `.isl` file names a path where nothing is.
    pub identity: Option<FileIdentity>,
}

/// All tablespaces of tables in `datadir`.
///
/// # Errors
///
/// [`DatadirError`] for anything that cannot be read.
pub fn list_tablespaces(datadir: &Path) -> Result<Vec<FoundFile>, DatadirError> {
    DatadirListing::read(datadir, |_| true)?.tablespaces()
}

/// Reads an `.isl` file: the path of the `.ibd` file of a table with a `DATA DIRECTORY`.
///
/// # Errors
///
/// Those of the system; [`io::ErrorKind::InvalidData`] if the file names no path.
pub fn read_isl(path: &Path) -> io::Result<PathBuf> {
    let mut target = std::fs::read(path)?;
    let len = target.iter().rposition(|&byte| byte > b' ').map_or(0, |last| last + 1);
    target.truncate(len);
    if target.is_empty() || target.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the link file names no path"));
    }
    Ok(PathBuf::from(OsString::from_vec(target)))
}

/// A file or directory that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct DatadirError {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl DatadirError {
    fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

enum Extension {
    Ibd,
    Isl,
}

/// Table and extension of a tablespace's file name. Temporary and intermediate tables (`#sql...`)
/// are none.
fn tablespace_name(name: &OsStr) -> Option<(&OsStr, Extension)> {
    let bytes = name.as_bytes();
    let (table, extension) = if let Some(table) = bytes.strip_suffix(b".ibd") {
        (table, Extension::Ibd)
    } else {
        (bytes.strip_suffix(b".isl")?, Extension::Isl)
    };
    let named = !table.is_empty() && !table.starts_with(b"#sql");
    named.then(|| (OsStr::from_bytes(table), extension))
}

fn remote_file(
    database: &DatabaseDir,
    table: &OsStr,
    isl: &OsStr,
) -> Result<Option<FoundFile>, DatadirError> {
    let isl = database.path.join(isl);
    let path = match read_isl(&isl) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DatadirError { path: isl, source }),
    };
    let identity = match std::fs::metadata(&path) {
        Ok(metadata) => Some(FileIdentity::from(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(DatadirError { path, source }),
    };
    Ok(Some(FoundFile {
        database: database.name.clone(),
        table: table.to_owned(),
        path,
        is_remote: true,
        identity,
    }))
}

/// Lists directories of `datadir` in all processors: the second listing of a backup has DDL
/// waiting. Those that vanish are left out.
fn read_databases(datadir: &Path, names: &[OsString]) -> Result<Vec<DatabaseDir>, DatadirError> {
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut read = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = datadir.join(name);
            match read_entries(&path) {
                Ok(entries) => read.push(DatabaseDir { name: name.clone(), path, entries }),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(names.len());
    let mut databases = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(read_some)).collect();
        let mut databases = read_some()?;
        for other in others {
            let read = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            databases.extend(read?);
        }
        Ok(databases)
    })?;
    databases.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(databases)
}

/// The entries of a directory, sorted by name.
fn read_entries(directory: &Path) -> Result<Vec<Entry>, DatadirError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        |source| DatadirError { path, source }
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at(directory))? {
        let entry = entry.map_err(at(directory))?;
        // Without a walk along the whole path, but for links.
        let metadata = match entry.metadata() {
            Ok(metadata) if metadata.is_symlink() => std::fs::metadata(entry.path()),
            other => other,
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at(&entry.path())(error)),
        };
        let kind = if metadata.is_dir() {
            EntryKind::Directory
        } else if metadata.is_file() {
            EntryKind::File
        } else {
            EntryKind::Other
        };
        entries.push(Entry {
            name: entry.file_name(),
            kind,
            identity: FileIdentity::from(&metadata),
        });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.to_str().unwrap()).collect()
    }

    /// A data directory with links, foreign files and a remote tablespace.
    fn datadir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for directory in ["data/db", "data/skipped", "elsewhere/linked", "remote/db"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in [
            "data/ibdata1",
            "data/db/t.ibd",
            "data/db/t.frm",
            "data/db/t#P#p0.ibd",
            "data/db/#sql-alter-1.ibd",
            "data/db/.ibd",
            "data/db/t.ibd.old",
            "data/skipped/t.ibd",
            "elsewhere/linked/far.ibd",
            "remote/db/r.ibd",
        ] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::create_dir(root.join("data/db/dir.ibd")).unwrap();
        symlink(root.join("elsewhere/linked"), root.join("data/linked")).unwrap();
        symlink(root.join("nowhere"), root.join("data/dangling")).unwrap();
        let isl = root.join("remote/db/r.ibd").into_os_string().into_vec();
        fs::write(root.join("data/db/r.isl"), [&isl[..], b" \r\n\0"].concat()).unwrap();
        let isl = root.join("remote/db/gone.ibd").into_os_string().into_vec();
        fs::write(root.join("data/db/gone.isl"), isl).unwrap();
        dir
    }

    #[test]
    fn lists_each_entry_once() {
        let dir = datadir();
        let datadir = dir.path().join("data");
        let listing = DatadirListing::read(&datadir, |name| name != "skipped").unwrap();
        assert_eq!(names(&listing.root), ["ibdata1"]);
        let [db, linked] = &listing.databases[..] else { panic!("{listing:?}") };
        assert_eq!((db.name.to_str(), linked.name.to_str()), (Some("db"), Some("linked")));
        assert_eq!(
            names(&db.entries),
            [
                "#sql-alter-1.ibd",
                ".ibd",
                "dir.ibd",
                "gone.isl",
                "r.isl",
                "t#P#p0.ibd",
                "t.frm",
                "t.ibd",
                "t.ibd.old"
            ]
        );
        assert_eq!(db.entries[2].kind, EntryKind::Directory);
        assert_eq!(db.entries[7].identity.size, 13);
        assert_eq!(db.path, datadir.join("db"));
        assert_eq!(listing, DatadirListing::read(&datadir, |name| name != "skipped").unwrap());
    }

    #[test]
    fn finds_tablespaces() {
        let dir = datadir();
        let found = list_tablespaces(&dir.path().join("data")).unwrap();
        let summary: Vec<_> = found
            .iter()
            .map(|file| {
                let path = file.path.strip_prefix(dir.path()).unwrap().to_str().unwrap();
                let size = file.identity.map(|identity| identity.size);
                (file.table.to_str().unwrap(), path, file.is_remote, size)
            })
            .collect();
        assert_eq!(
            summary,
            [
                ("gone", "remote/db/gone.ibd", true, None),
                ("r", "remote/db/r.ibd", true, Some(15)),
                ("t#P#p0", "data/db/t#P#p0.ibd", false, Some(18)),
                ("t", "data/db/t.ibd", false, Some(13)),
                ("far", "data/linked/far.ibd", false, Some(24)),
                ("t", "data/skipped/t.ibd", false, Some(18)),
            ]
        );
    }

    #[test]
    fn identity_tells_changes() {
        let dir = datadir();
        let path = dir.path().join("data/db/t.ibd");
        let before = FileIdentity::from(&fs::metadata(&path).unwrap());
        fs::write(&path, "longer than before").unwrap();
        let changed = FileIdentity::from(&fs::metadata(&path).unwrap());
        assert!(before != changed && before.is_same_file(&changed));
        // A replacement while the first file exists has another inode.
        let other = dir.path().join("data/db/u.ibd");
        fs::write(&other, "longer than before").unwrap();
        fs::rename(&other, &path).unwrap();
        let replaced = FileIdentity::from(&fs::metadata(&path).unwrap());
        assert!(!replaced.is_same_file(&changed));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = datadir();
        let missing = dir.path().join("missing");
        let error = list_tablespaces(&missing).unwrap_err();
        assert_eq!((error.path.as_path(), error.is_not_found()), (missing.as_path(), true));

        let isl = dir.path().join("data/db/gone.isl");
        fs::write(&isl, " \n").unwrap();
        let error = list_tablespaces(&dir.path().join("data")).unwrap_err();
        assert_eq!(error.path, isl);
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidData);

        // A path through a regular file is no vanished entry.
        fs::write(&isl, "/dev/null/x.ibd").unwrap();
        let error = list_tablespaces(&dir.path().join("data")).unwrap_err();
        assert_eq!(error.path, Path::new("/dev/null/x.ibd"));
    }
}
