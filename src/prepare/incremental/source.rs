//! An incremental backup as it is: which tablespaces it has changed pages of, or whole. It is read
//! only.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::delta::DeltaReader;
use innodb::space::SpaceHeader;
use innodb::{PageNo, SpaceId};

use crate::hint::WithHint;
use crate::metadata::{BackupMyCnf, BackupType, Checkpoints, Found, SpaceMeta, incomplete};
use crate::prepare::log::LOG;
use crate::prepare::markers::Plan;
use crate::prepare::spaces::Space;

const DELTA: &str = ".delta";
const META: &str = ".meta";
/// What to do about it.
pub(super) const DAMAGED: &str =
    "the incremental backup is damaged: restore it from where it came from. Nothing was changed";

/// An incremental backup.
pub(super) struct Source {
    /// Its directory.
    pub dir: PathBuf,
    /// Its range of LSNs.
    pub found: Found,
    /// Options of its server.
    pub cnf: BackupMyCnf,
    /// Which one it is.
    pub identity: Identity,
    /// Files of the system tablespace and undo tablespaces: changed pages.
    pub shared: Vec<Delta>,
    /// Tables with changed pages.
    pub changed: Vec<Delta>,
    /// Tables that it has whole.
    pub whole: Vec<Whole>,
}

/// A data file of which it has the changed pages.
#[derive(Debug)]
pub(super) struct Delta {
    /// What the data file is called in the target in the end.
    pub target: PathBuf,
    /// Where the pages are.
    pub path: PathBuf,
    /// What tablespace they belong to.
    pub meta: SpaceMeta,
    /// Bytes of the file of changed pages.
    pub len: u64,
    /// How many pages it has, and the last one.
    pub pages: u64,
    pub last: Option<PageNo>,
    /// Where page 0 is in it.
    pub page0: Option<u64>,
}

/// A data file that it has whole.
#[derive(Debug)]
pub(super) struct Whole {
    /// What it is called in the target in the end.
    pub target: PathBuf,
    /// Where it is.
    pub path: PathBuf,
}

/// Tells one incremental backup from another, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity(String);

impl Identity {
    /// As [`as_str`](Self::as_str) gave it.
    pub(super) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Source {
    /// Reads all of backup `dir` but its pages and its log.
    ///
    /// # Errors
    ///
    /// It is no finished incremental backup; files of changed pages, or those that tell of them,
    /// that are cut or contradict each other; markers that do.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        ensure!(
            dir.is_dir(),
            "Can't change dir to '{}': there is no such directory",
            dir.display()
        );
        incomplete::refuse(dir)?;
        let found = Checkpoints::find(dir)?.with_context(|| {
            format!(
                "cannot open {}/xtrabackup_checkpoints (nor mariadb_backup_checkpoints): the \
                 directory is no backup, or the backup was not finished",
                dir.display()
            )
        })?;
        ensure!(
            found.checkpoints.backup_type == BackupType::Incremental,
            "{} is no incremental backup: its backup_type is {}",
            dir.display(),
            found.checkpoints.backup_type
        );
        let mut shared = Vec::new();
        for name in names(dir)? {
            if let Some(data_file) = without(Path::new(&name), DELTA) {
                shared.push(Delta::open(&dir.join(&name), data_file)?);
            }
        }
        let plan = Plan::of_changes(dir)?;
        let (mut changed, mut whole) = (Vec::new(), Vec::new());
        for (target, current) in plan.tables() {
            let path = dir.join(current);
            if without(current, DELTA).is_some() {
                changed.push(Delta::open(&path, target.to_owned())?);
            } else {
                whole.push(Whole { target: target.to_owned(), path });
            }
        }
        check_ids(changed.iter().chain(&shared))?;
        let cnf = BackupMyCnf::read(dir)?;
        let identity = identify(dir, &found, shared.iter().chain(&changed), &whole)?;
        let dir = dir.to_owned();
        Ok(Self { dir, found, cnf, identity, shared, changed, whole })
    }
}

impl Delta {
    /// Whether it belongs to a table: it is in the folder of a database.
    pub(super) fn is_of_table(&self) -> bool {
        self.target.components().count() > 1
    }

    /// What page 0 tells, which is at `offset`.
    ///
    /// # Errors
    ///
    /// It is unusable, or that of another tablespace.
    pub(super) fn header(&self, offset: u64) -> anyhow::Result<SpaceHeader> {
        let place = || format!("page 0 at offset {offset} of {} is unusable", self.path.display());
        let mut page0 = vec![0; self.meta.page_size];
        File::open(&self.path)
            .and_then(|file| file.read_exact_at(&mut page0, offset))
            .with_context(place)?;
        let header = SpaceHeader::parse(&page0).with_context(place).hint(DAMAGED)?;
        let id = header.space_id();
        let is_own = self.meta.space_id.is_none_or(|own| own == id);
        ensure!(is_own, "{}: it belongs to tablespace {id}", place());
        Ok(header)
    }

    /// Whether `space` is the tablespace of which it has pages.
    ///
    /// # Errors
    ///
    /// It is another one, or has pages of another size.
    pub(super) fn check_space(&self, space: &Space) -> anyhow::Result<()> {
        let (path, target) = (self.path.display(), self.target.display());
        if let Some(id) = self.meta.space_id.filter(|id| *id != space.id) {
            bail!("{path} has changed pages of tablespace {id}, but {target} is {}", space.id);
        }
        let size = space.flags.page_size().physical();
        let is_same = self.meta.page_size == size
            && self.meta.is_row_compressed == space.flags.is_row_compressed();
        ensure!(
            is_same,
            "{path} has pages of {} bytes, but those of {target} have {size} (or are compressed \
             in another way)",
            self.meta.page_size
        );
        Ok(())
    }

    /// Reads the lists of the file `path` and what belongs to it; `target`: of which data file.
    fn open(path: &Path, target: PathBuf) -> anyhow::Result<Self> {
        let meta = without(path, DELTA).unwrap_or_default();
        let meta = SpaceMeta::read(&with_suffix(&meta, META)).hint(DAMAGED)?;
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let len = file.metadata().with_context(|| format!("open {}", path.display()))?.len();
        let mut delta =
            Self { target, path: path.to_owned(), meta, len, pages: 0, last: None, page0: None };
        let read = delta.read_lists(&file);
        read.with_context(|| format!("{} is damaged", path.display())).hint(DAMAGED)?;
        Ok(delta)
    }

    fn read_lists(&mut self, file: &File) -> anyhow::Result<()> {
        let mut reader = DeltaReader::new(self.meta.page_size, self.len)?;
        let mut list = vec![0; self.meta.page_size];
        while let Some(offset) = reader.next_list()? {
            file.read_exact_at(&mut list, offset)
                .with_context(|| format!("read the list at offset {offset}"))?;
            for (page_no, offset) in reader.list(&list)?.pages() {
                self.pages += 1;
                self.last = Some(page_no);
                if page_no == PageNo(0) {
                    self.page0 = Some(offset);
                }
            }
        }
        Ok(())
    }
}

/// No two files may be of one tablespace, but for those of the system tablespace.
fn check_ids<'d>(deltas: impl Iterator<Item = &'d Delta>) -> anyhow::Result<()> {
    let mut known = HashMap::new();
    for delta in deltas {
        let Some(id) = delta.meta.space_id.filter(|id| *id != SpaceId::SYSTEM) else { continue };
        if let Some(other) = known.insert(id, &delta.path) {
            bail!("{} and {} are both tablespace {id}", delta.path.display(), other.display());
        }
    }
    Ok(())
}

fn identify<'d>(
    dir: &Path,
    found: &Found,
    deltas: impl Iterator<Item = &'d Delta>,
    whole: &[Whole],
) -> anyhow::Result<Identity> {
    let Checkpoints { from_lsn, to_lsn, last_lsn, .. } = found.checkpoints;
    let log = dir.join(LOG);
    let log_len = log.metadata().with_context(|| format!("open {}", log.display()))?.len();
    let mut text = format!("{log_len}\n");
    // When and where it was taken; a backup without it is one all the same.
    if let Ok(info) = fs::read(dir.join(found.names.info)) {
        text.push_str(&String::from_utf8_lossy(&info));
    }
    for delta in deltas {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", delta.target.display(), delta.len);
    }
    for file in whole {
        let _ = writeln!(text, "{}", file.target.display());
    }
    let crc = crc32c::crc32c(text.as_bytes());
    Ok(Identity(format!("{from_lsn} {to_lsn} {last_lsn} {crc:08x}")))
}

/// Names of the regular files in a folder, sorted.
pub(super) fn names(dir: &Path) -> anyhow::Result<Vec<OsString>> {
    let list = || -> std::io::Result<Vec<_>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name());
            }
        }
        names.sort();
        Ok(names)
    };
    list().with_context(|| format!("list {}", dir.display()))
}

/// The path without `suffix`, if it has it and a name before.
fn without(path: &Path, suffix: &str) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes().strip_suffix(suffix.as_bytes())?;
    (!name.is_empty()).then(|| path.with_file_name(OsStr::from_bytes(name)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}
