//! Where every file of a backup goes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::datadir::{DataFilePath, is_undo_file_name, read_isl};

use crate::compression;
use crate::durable::name_ends_with;
use crate::metadata::backup_cnf::{BACKUP_CNF, BACKUP_PREPARE_CNF};
use crate::metadata::{BACKUP_MY_CNF, BackupMyCnf, MetadataNames, exported};
use crate::options::{RestoreMode, RestoreOptions};

/// Ends of names that stay in the backup.
const STAYING: [&str; 9] = [
    BACKUP_MY_CNF,
    exported::NAME,
    "xtrabackup_binary",
    MetadataNames::OLD.binlog_info,
    MetadataNames::NEW.binlog_info,
    MetadataNames::OLD.checkpoints,
    MetadataNames::NEW.checkpoints,
    ".pmap",
    ".tmp",
];

/// The folder that has the files of `MyRocks`, in a backup and unless told otherwise.
const ROCKSDB: &str = "#rocksdb";
const LOG_FILE: &str = "ib_logfile0";
const BUFFER_POOL: &str = "ib_buffer_pool";

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Folders that must be there, parents first.
    pub dirs: Vec<PathBuf>,
    /// Files, in the order in which they are moved: those without which a restore is refused last,
    /// so that one that was killed while moving can be run again.
    pub files: Vec<PlannedFile>,
}

/// A file to be copied or moved.
#[derive(Debug)]
pub(super) struct PlannedFile {
    /// Below the backup, for messages.
    pub name: PathBuf,
    /// Where it is.
    pub source: PathBuf,
    /// Where it goes. Absolute.
    pub target: PathBuf,
    /// Its name until all other files are there, for the one file that gets its own name last.
    pub temporary: Option<PathBuf>,
    /// Bytes.
    pub len: u64,
    /// Bytes without holes.
    pub allocated: u64,
    /// File system on which it is.
    pub device: u64,
    rank: Rank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Other,
    Log,
    System,
    /// The first file of the system tablespace.
    First,
}

impl Plan {
    /// Looks at every file of the backup.
    ///
    /// # Errors
    ///
    /// A file that is missing, that nothing is known to do with, or two for one place.
    pub fn new(options: &RestoreOptions) -> anyhow::Result<Self> {
        let mut planner = Planner::new(options)?;
        planner.root()?;
        planner.finish()
    }

    /// The data directory and all others outside of it.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        let mut roots = Vec::<&Path>::new();
        for dir in self.target_dirs() {
            if !roots.iter().any(|root| dir.starts_with(root)) {
                roots.retain(|root| !root.starts_with(dir));
                roots.push(dir);
            }
        }
        roots.into_iter()
    }

    /// Every folder that is written to, some more than once.
    pub fn target_dirs(&self) -> impl Iterator<Item = &Path> {
        let parents = self.files.iter().filter_map(|file| file.target.parent());
        self.dirs.iter().map(PathBuf::as_path).chain(parents)
    }
}

struct Planner<'a> {
    options: &'a RestoreOptions,
    /// Names of the system tablespace's files and where they go.
    system: Vec<(String, PathBuf)>,
    undo_dir: PathBuf,
    log_dir: PathBuf,
    aria_dir: PathBuf,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(options: &'a RestoreOptions) -> anyhow::Result<Self> {
        let in_datadir = |dir: &Option<PathBuf>| {
            clean(&options.datadir.join(dir.as_deref().unwrap_or(Path::new(""))))
        };
        let home_dir = in_datadir(&options.innodb_data_home_dir);
        let undo_dir = in_datadir(&options.innodb_undo_directory);
        let log_dir = in_datadir(&options.innodb_log_group_home_dir);
        let aria_dir = in_datadir(&options.aria_log_dir_path);
        let dirs = [in_datadir(&None), undo_dir.clone(), home_dir.clone(), log_dir.clone()];
        let plan =
            Plan { dirs: dirs.into_iter().chain([aria_dir.clone()]).collect(), files: Vec::new() };
        let system = system_files(options, &home_dir)?;
        Ok(Self { options, system, undo_dir, log_dir, aria_dir, plan })
    }

    /// Plans what is in the root of the backup.
    fn root(&mut self) -> anyhow::Result<()> {
        let backup = &self.options.target_dir;
        let datadir = clean(&self.options.datadir);
        let real = backup.canonicalize().with_context(|| format!("open {}", backup.display()))?;
        ensure!(
            !resolve(&datadir)?.starts_with(&real),
            "the data directory {} is inside the backup {}",
            datadir.display(),
            backup.display()
        );
        for (name, metadata) in entries(backup)? {
            let path = backup.join(&name);
            if metadata.is_dir() {
                let target = match &self.options.rocksdb_datadir {
                    Some(dir) if name == Path::new(ROCKSDB) => clean(&datadir.join(dir)),
                    _ => datadir.join(&name),
                };
                if name != Path::new("lost+found") {
                    self.folder(&name, &path, &target)?;
                }
                continue;
            }
            let Some((target, rank)) = self.root_file(&name, &datadir)? else { continue };
            self.file(name, path, target, &metadata, rank)?;
        }
        Ok(())
    }

    /// Where file `name` of the root goes; `None`: nowhere.
    fn root_file(&self, name: &Path, datadir: &Path) -> anyhow::Result<Option<(PathBuf, Rank)>> {
        let text = name.to_str().unwrap_or_default();
        let mut system = self.system.iter().enumerate();
        if let Some((index, (_, target))) = system.find(|(_, (file, _))| file == text) {
            let rank = if index == 0 { Rank::First } else { Rank::System };
            return Ok(Some((target.clone(), rank)));
        }
        if self.stays(name)? || [BACKUP_CNF, BACKUP_PREPARE_CNF].contains(&text) {
            return Ok(None);
        }
        let dump = self.options.innodb_buffer_pool_filename.as_deref();
        if text == BUFFER_POOL || dump.is_some_and(|dump| dump == text) {
            return Ok(dump.map(|dump| (clean(&datadir.join(dump)), Rank::Other)));
        }
        let (dir, rank) = match text {
            LOG_FILE => (&self.log_dir, Rank::Log),
            _ if text.starts_with("aria_log") => (&self.aria_dir, Rank::Other),
            _ if is_undo_file_name(text) => (&self.undo_dir, Rank::Other),
            _ => return Ok(Some((datadir.join(name), Rank::Other))),
        };
        Ok(Some((dir.join(name), rank)))
    }

    /// Plans the folder `path`, with all that is in it, to become `target`.
    fn folder(&mut self, name: &Path, path: &Path, target: &Path) -> anyhow::Result<()> {
        self.plan.dirs.push(target.to_owned());
        for (entry, metadata) in entries(path)? {
            let (name, path, target) = (name.join(&entry), path.join(&entry), target.join(&entry));
            if metadata.is_dir() {
                // Only whole databases may stand elsewhere; deeper links could go in circles.
                ensure!(!path.is_symlink(), "{} is a link to a folder", path.display());
                self.folder(&name, &path, &target)?;
            } else if !self.stays(&name)? {
                let target = data_directory(&name, &path)?.unwrap_or(target);
                self.file(name, path, target, &metadata, Rank::Other)?;
            }
        }
        Ok(())
    }

    /// Whether file `name` is for the backup alone.
    fn stays(&self, name: &Path) -> anyhow::Result<bool> {
        let text = name.as_os_str();
        if compression::is_compressed(text) {
            let unpacked = self.options.target_dir.join(name).with_extension("");
            ensure!(
                unpacked.exists(),
                "{} is compressed; run --decompress, then --prepare",
                name.display()
            );
            return Ok(true);
        }
        Ok(STAYING.iter().any(|end| name_ends_with(text, end)))
    }

    fn file(
        &mut self,
        name: PathBuf,
        source: PathBuf,
        target: PathBuf,
        metadata: &Metadata,
        rank: Rank,
    ) -> anyhow::Result<()> {
        ensure!(metadata.is_file(), "{} is neither file nor folder", source.display());
        ensure!(
            self.options.mode == RestoreMode::Copy || !source.is_symlink(),
            "{} is a link, which cannot be moved; use --copy-back",
            source.display()
        );
        let temporary = (rank == Rank::First).then(|| {
            let mut temporary = target.file_name().unwrap_or_default().to_owned();
            temporary.push(".restoring");
            target.with_file_name(temporary)
        });
        self.plan.files.push(PlannedFile {
            name,
            source,
            target,
            temporary,
            len: metadata.len(),
            allocated: metadata.len().min(metadata.blocks().saturating_mul(512)),
            device: metadata.dev(),
            rank,
        });
        Ok(())
    }

    /// Checks what only the whole shows.
    fn finish(mut self) -> anyhow::Result<Plan> {
        let backup = self.options.target_dir.display();
        for name in self.system.iter().map(|(name, _)| name.as_str()).chain([LOG_FILE]) {
            ensure!(
                self.plan.files.iter().any(|file| file.name == Path::new(name)),
                "{name} is missing in the backup {backup}"
            );
        }
        let mut sources = BTreeMap::new();
        for file in &self.plan.files {
            if let Some(other) = sources.insert(file.target.as_path(), &file.name) {
                bail!(
                    "{} and {} would both become {}",
                    other.display(),
                    file.name.display(),
                    file.target.display()
                );
            }
        }
        let mut dirs: Vec<PathBuf> =
            self.plan.target_dirs().map(Path::to_owned).collect::<Vec<_>>();
        dirs.sort();
        dirs.dedup();
        if let Some(file) = self.plan.files.iter().find(|file| dirs.contains(&file.target)) {
            bail!("{} must be a file and a folder", file.target.display());
        }
        self.plan.dirs = dirs;
        self.plan.files.sort_by(|one, other| {
            (one.rank, other.len, &one.name).cmp(&(other.rank, one.len, &other.name))
        });
        Ok(self.plan)
    }
}

/// The files of the system tablespace and where they go: by the option, else as in the backup.
fn system_files(
    options: &RestoreOptions,
    home_dir: &Path,
) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let cnf = options.target_dir.join(BACKUP_MY_CNF);
    let of_backup = if cnf.exists() { Some(BackupMyCnf::read(&options.target_dir)?) } else { None };
    let of_backup = of_backup.map(|cnf| cnf.data_file_path);
    let wanted = match (&options.innodb_data_file_path, &of_backup) {
        (Some(wanted), _) => DataFilePath::parse(wanted)?,
        (None, Some(of_backup)) => of_backup.clone(),
        (None, None) => bail!(
            "{} is missing: tell the files of the system tablespace by --innodb-data-file-path",
            cnf.display()
        ),
    };
    let names = |path: &DataFilePath| -> Vec<String> {
        path.files().iter().map(|file| file.name().to_owned()).collect()
    };
    if let Some(of_backup) = &of_backup {
        ensure!(
            names(of_backup) == names(&wanted),
            "innodb_data_file_path is {wanted}, but the files of the backup are {of_backup}: \
             their names must be the same, in the same order"
        );
    }
    let mut files = Vec::new();
    for file in wanted.files() {
        ensure!(file.raw().is_none(), "{}: raw devices cannot be restored to", file.path());
        let name = file.name();
        ensure!(!matches!(name, "" | "." | ".."), "{:?} is no file name", file.path());
        files.push((name.to_owned(), clean(&home_dir.join(file.path()))));
    }
    Ok(files)
}

/// Where the tablespace `name` of a table with a `DATA DIRECTORY` goes.
fn data_directory(name: &Path, path: &Path) -> anyhow::Result<Option<PathBuf>> {
    if name.extension() != Some(OsStr::new("ibd")) {
        return Ok(None);
    }
    let isl = path.with_extension("isl");
    if isl.symlink_metadata().is_err() {
        return Ok(None);
    }
    let target = read_isl(&isl).with_context(|| format!("read {}", isl.display()))?;
    // Not any file of the system, but the table's: a backup may come from anywhere. Its folder has
    // the name of another database where the server renamed the table from there.
    ensure!(
        target.is_absolute() && target.file_name() == name.file_name(),
        "{} says {}, which is no place for {}",
        isl.display(),
        target.display(),
        name.display()
    );
    ensure!(
        target.components().all(|part| part != Component::ParentDir),
        "{} has a path with `..`",
        isl.display()
    );
    Ok(Some(clean(&target)))
}

/// Names and metadata (behind links) in folder `dir`, in order.
fn entries(dir: &Path) -> anyhow::Result<Vec<(PathBuf, Metadata)>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
    };
    let mut names = read().with_context(|| format!("list {}", dir.display()))?;
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let path = dir.join(&name);
            let metadata =
                fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
            Ok((name, metadata))
        })
        .collect()
}

/// `path` without `.` and doubled slashes; what is `..` stays, as it may follow a link.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `path` with links followed as far as it exists.
fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    let existing = super::existing_ancestor(path);
    let mut real =
        existing.canonicalize().with_context(|| format!("look at {}", existing.display()))?;
    for part in path.strip_prefix(existing).unwrap_or(Path::new("")).components() {
        ensure!(
            part != Component::ParentDir,
            "{} has `..` below a folder that does not exist",
            path.display()
        );
        real.push(part);
    }
    Ok(real)
}
