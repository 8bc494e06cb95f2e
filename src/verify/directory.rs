//! What kind of directory is to be checked, what its metadata says, and whether it is in use.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use innodb::datadir::DataFilePath;
use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::findings::Findings;
use crate::hint::WithHint;
use crate::metadata::backup_cnf::BACKUP_CNF;
use crate::metadata::{
    BACKUP_MY_CNF, BackupMyCnf, BackupType, Checkpoints, Found, MetadataNames, incomplete,
};
use crate::options::VerifyOptions;
use crate::prepare::{self, outlook};

/// The redo log.
pub(super) const LOG: &str = "ib_logfile0";
/// System tablespace where nothing tells another.
const DATA_FILE_PATH: &str = "ibdata1:12M:autoextend";
/// Bytes that hold page 0 whatever its size.
const PAGE_MAX: usize = 64 << 10;

/// Kinds of directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A backup that is not prepared: the log goes on where the pages end.
    Raw,
    /// A prepared backup.
    Prepared,
    /// Changed pages, to be merged into a prepared backup.
    Incremental,
    /// Of a server that does not run.
    DataDirectory,
}

/// A directory to be checked.
#[derive(Debug)]
pub(super) struct Directory {
    /// Where it is.
    pub dir: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Of a backup: its range of LSNs.
    pub found: Option<Found>,
    /// Of a backup: options of its server.
    pub cnf: Option<BackupMyCnf>,
    /// Files of the system tablespace: where they are, and how many bytes all but the last have.
    pub system_files: Vec<(PathBuf, u64)>,
    /// Where the undo tablespaces are.
    pub undo_dir: PathBuf,
    /// Where the redo log is.
    pub log_dir: PathBuf,
    /// Where Aria's log is.
    pub aria_dir: PathBuf,
    /// As long as the directory is open, nobody prepares it.
    pub lock: Option<File>,
}

impl Directory {
    /// Finds out what `options.dir` is. What a backup lacks is added to `findings`.
    ///
    /// # Errors
    ///
    /// It is neither a backup nor a data directory, not complete, or in use.
    pub(super) fn open(options: &VerifyOptions, findings: &Findings) -> anyhow::Result<Self> {
        let dir = options.dir.as_path();
        let context = || format!("open {}", dir.display());
        if !dir.metadata().with_context(context)?.is_dir() {
            bail!("{} is not a directory", dir.display());
        }
        incomplete::refuse(dir)?;
        let has = |name: &str| dir.join(name).symlink_metadata().is_ok();
        if has(BACKUP_CNF) {
            return Err(anyhow!("{} is a backup that BACKUP SERVER took", dir.display()))
                .hint("run --prepare on it, and verify what that makes of it");
        }
        let found = Checkpoints::find(dir)?;
        let mut directory = if found.is_some() || has(BACKUP_MY_CNF) {
            Self::backup(dir, found, findings)?
        } else if [LOG, "ibdata1", aria::control::FILE_NAME].into_iter().any(has)
            || options.innodb_data_file_path.is_some()
        {
            Self::data_directory(options)?
        } else {
            return Err(anyhow!(
                "{} is neither a backup nor the data directory of a server: it has no {}, no \
                 {BACKUP_MY_CNF}, no {LOG}, no ibdata1 and no {}",
                dir.display(),
                MetadataNames::NEW.checkpoints,
                aria::control::FILE_NAME
            ));
        };
        directory.check_unused()?;
        if directory.found.is_some() {
            directory.lock = Some(lock(dir)?);
        }
        Ok(directory)
    }

    fn backup(dir: &Path, found: Option<Found>, findings: &Findings) -> anyhow::Result<Self> {
        prepare::refuse_half_applied(dir)?;
        if outlook::is_interrupted(dir) {
            return Err(anyhow!("{} was being prepared when that ended early", dir.display()))
                .hint(
                    "run --prepare on it again: it goes on, and then there is something to check",
                );
        }
        if found.is_none() {
            let name = MetadataNames::NEW.checkpoints;
            findings.add(
                name,
                format_args!(
                    "it is missing, as is {}: without one the backup cannot be prepared",
                    MetadataNames::OLD.checkpoints
                ),
            );
        }
        let cnf = match BackupMyCnf::read(dir) {
            Ok(cnf) => Some(cnf),
            Err(error) => {
                findings.add(BACKUP_MY_CNF, format_args!("{error:#}"));
                None
            }
        };
        // Prepare of 10.5 to 10.7 leaves an empty log.
        let is_prepared = || dir.join(LOG).metadata().is_ok_and(|log| log.len() == 0);
        let kind = match found.as_ref().map(|found| found.checkpoints.backup_type) {
            Some(BackupType::LogApplied) => Kind::Prepared,
            Some(BackupType::Incremental) => Kind::Incremental,
            None if is_prepared() => Kind::Prepared,
            Some(BackupType::FullBackuped) | None => Kind::Raw,
        };
        let spec = match &cnf {
            Some(cnf) => cnf.data_file_path.clone(),
            None => DataFilePath::parse(DATA_FILE_PATH)?,
        };
        let files = spec.files().iter().map(|file| (dir.join(file.name()), file.size()));
        Ok(Self {
            dir: dir.to_owned(),
            kind,
            found,
            cnf,
            system_files: files.collect(),
            undo_dir: dir.to_owned(),
            log_dir: dir.to_owned(),
            aria_dir: dir.to_owned(),
            lock: None,
        })
    }

    fn data_directory(options: &VerifyOptions) -> anyhow::Result<Self> {
        let dir = &options.dir;
        let place = |place: &Option<PathBuf>| {
            place.as_ref().map_or_else(|| dir.clone(), |place| dir.join(place))
        };
        let spec = options.innodb_data_file_path.as_deref().unwrap_or(DATA_FILE_PATH);
        let spec = DataFilePath::parse(spec)?;
        let home = place(&options.innodb_data_home_dir);
        let files = spec.files().iter().map(|file| (home.join(file.path()), file.size()));
        Ok(Self {
            dir: dir.clone(),
            kind: Kind::DataDirectory,
            found: None,
            cnf: None,
            system_files: files.collect(),
            undo_dir: place(&options.innodb_undo_directory),
            log_dir: place(&options.innodb_log_group_home_dir),
            aria_dir: place(&options.aria_log_dir_path),
            lock: None,
        })
    }

    /// Whether no server runs on the directory: servers lock some of their files.
    ///
    /// # Errors
    ///
    /// One does.
    pub(super) fn check_unused(&self) -> anyhow::Result<()> {
        let files = [self.log_dir.join(LOG), self.aria_dir.join(aria::control::FILE_NAME)];
        let system = self.system_files.iter().map(|(path, _)| path);
        for path in system.chain(&files) {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.with_context(|| format!("open {}", path.display()))?,
            };
            // Only asks: the file is not locked.
            let lock = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock));
            if let Ok(Some(lock)) = lock {
                let by = lock
                    .pid
                    .map_or_else(String::new, |pid| format!(", process {}", pid.as_raw_nonzero()));
                return Err(anyhow!(
                    "{} is in use: a server{by} has locked {}",
                    self.dir.display(),
                    path.display()
                ))
                .hint("stop the server, or back it up and check the backup");
            }
        }
        Ok(())
    }

    /// The name of a file in messages: from the directory on where it is in it.
    pub(super) fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.dir).unwrap_or(path).display().to_string()
    }
}

/// As much of the start of a file as the largest page 0 has.
///
/// # Errors
///
/// Those of reading.
pub(super) fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut start = Vec::new();
    File::open(path)?.take(PAGE_MAX as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Prepare takes this lock alone.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let file = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("{} is being prepared by another process", dir.display())
        }
        // Where locks are not supported, there is none.
        _ => Ok(file),
    }
}
