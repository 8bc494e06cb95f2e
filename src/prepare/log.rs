//! The redo log of a backup, and what is left of it in the end.
//!
//! A log in one file is here, one in files of an archive in the module `archive`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use innodb::encrypted::KeySource;
use innodb::page::{Page, set_flush_lsn};
use innodb::{Lsn, PageNo, SpaceId};
use redo::encryption::Encryption;
use redo::file::LogFile;
use redo::header::{self, FINAL_LOG_SIZE, HEADER_SIZE};
use redo::reader::Reader;
use redo::{Format, encryption};

use super::archive::{self, ArchivedLog};
use super::journal::{Contents, Journal, LogId};
use super::scan::Extent;
use super::spaces::{Spaces, open};
use super::storage::Storage;
use crate::mapped::Mapped;
use crate::metadata::{BackupCnf, BackupMyCnf};

/// Name of the log in one file.
pub(super) const LOG: &str = "ib_logfile0";

/// The log as the backup copied it.
pub(super) struct CopiedLog {
    /// `ib_logfile0`, which is there or will be.
    path: PathBuf,
    source: Source,
}

enum Source {
    OneFile { mapped: Mapped, file: LogFile },
    Archive(ArchivedLog),
}

impl CopiedLog {
    /// Opens the log of backup `dir`; `None` if it is the empty file that a prepared backup of 10.5
    /// to 10.7 has.
    ///
    /// # Errors
    ///
    /// A file that is missing or no log.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(LOG);
        let mapped = Mapped::open(&path).with_context(|| format!("open {}", path.display()))?;
        let bytes = mapped.bytes();
        if bytes.is_empty() {
            return Ok(None);
        }
        let head = bytes.get(..HEADER_SIZE).unwrap_or(bytes);
        let file = LogFile::parse(head, bytes.len() as u64)
            .with_context(|| format!("{} is unusable", path.display()))?;
        Ok(Some(Self { path, source: Source::OneFile { mapped, file } }))
    }

    /// Opens the files of an archive in backup `dir`, of which `cnf` tells.
    ///
    /// # Errors
    ///
    /// As of [`ArchivedLog::open`].
    pub(super) fn open_archive(
        dir: &Path,
        cnf: &BackupCnf,
        keys: Option<&dyn KeySource>,
    ) -> anyhow::Result<Self> {
        let source = Source::Archive(ArchivedLog::open(dir, cnf, keys)?);
        Ok(Self { path: dir.join(LOG), source })
    }

    /// Bytes of the log.
    pub(super) fn len(&self) -> u64 {
        match &self.source {
            Source::OneFile { file, .. } => file.file_len(),
            Source::Archive(log) => log.len(),
        }
    }

    /// Tells the system that the log will be read from start to end, and no longer so.
    pub(super) fn expect_sequential(&self, sequential: bool) {
        match &self.source {
            Source::OneFile { mapped, .. } => mapped.expect_sequential(sequential),
            Source::Archive(log) => log.expect_sequential(sequential),
        }
    }

    /// Reads the log.
    pub(super) fn reader<'a>(&'a self, keys: Option<&'a dyn KeySource>) -> Reader<'a> {
        match &self.source {
            Source::OneFile { mapped, file } => Reader::new(mapped.bytes(), file, keys),
            Source::Archive(log) => log.reader(keys),
        }
    }

    /// Where the log begins and ends.
    pub(super) fn extent(&self) -> Extent {
        match &self.source {
            Source::OneFile { file, .. } => Extent {
                checkpoint: file.checkpoint(),
                is_end_lsn_known: file.is_end_lsn_known(),
                may_be_empty: !self.is_ring(),
                target: None,
            },
            Source::Archive(log) => Extent {
                checkpoint: log.checkpoint,
                is_end_lsn_known: true,
                may_be_empty: false,
                target: Some(log.target),
            },
        }
    }

    /// Nothing but a checkpoint: as prepare leaves it, or of an idle server.
    pub(super) fn is_empty(&self) -> bool {
        self.is_ring() && self.len() <= FINAL_LOG_SIZE as u64
    }

    /// What to say if the log cannot be read: perhaps it is the key.
    pub(super) fn doubt(&self) -> Option<String> {
        match &self.source {
            Source::OneFile { file, .. } => Some(doubt_of(&self.path, file.encryption()?)),
            Source::Archive(log) => log.doubt(self.path.parent()?),
        }
    }

    /// Whether the log is that of 10.8 or later.
    pub(super) fn is_ring(&self) -> bool {
        match &self.source {
            Source::OneFile { file, .. } => {
                matches!(file.format(), Format::Ring | Format::EncryptedRing)
            }
            Source::Archive(_) => true,
        }
    }

    /// Whether files follow what the log tells: `BACKUP SERVER` copies those that there were at the
    /// checkpoint, and a server makes, renames and removes the others when it recovers.
    pub(super) fn rules_files(&self) -> bool {
        matches!(self.source, Source::Archive(_))
    }

    /// Leaves an empty log in `dir` that ends where this one does, as the reference does: all is in
    /// the data files and durable.
    ///
    /// # Errors
    ///
    /// What reading and writing report.
    pub(super) fn replace(
        &self,
        dir: &Path,
        spaces: &Spaces<'_>,
        id: LogId,
        storage: &dyn Storage,
    ) -> anyhow::Result<()> {
        let empty = if self.is_ring() {
            let creator = self.creator();
            let empty = header::final_log(id.end, &creator).context("the end LSN is too small")?;
            empty.to_vec()
        } else {
            stamp_end(dir, spaces, id, storage)?;
            Vec::new()
        };
        let path = dir.join(LOG);
        storage.replace(&path, &empty).with_context(|| format!("write {}", path.display()))
    }

    /// Creator of the log that prepare leaves: the tool that made the copy, or one of the version
    /// of the server.
    fn creator(&self) -> String {
        let creator = match &self.source {
            Source::OneFile { file, .. } => file.creator(),
            Source::Archive(_) => archive::CREATOR,
        };
        match creator.strip_prefix("MariaDB ") {
            Some(version) => format!("Backup {version}"),
            None => creator.to_owned(),
        }
    }
}

/// What to say if an encrypted log cannot be read.
pub(super) fn doubt_of(path: &Path, encryption: &Encryption) -> String {
    format!(
        "{} is encrypted with version {} of key {}; it cannot be read, with a wrong key or because \
         it is damaged. Nothing was changed",
        path.display(),
        encryption.key_version(),
        encryption::KEY_ID
    )
}

/// A server of 10.5 to 10.7 that finds an empty file in place of its log takes the LSN from page 0
/// of the system tablespace.
fn stamp_end(
    dir: &Path,
    spaces: &Spaces<'_>,
    id: LogId,
    storage: &dyn Storage,
) -> anyhow::Result<()> {
    let space = spaces.get(SpaceId::SYSTEM).context("there is no system tablespace")?;
    let (index, offset) = space.locate(PageNo(0));
    let name = &space.files.get(index).context("the system tablespace has no file")?.path;
    let path = dir.join(name);
    let file: File = open(&path)?;
    let mut old = vec![0; space.flags.page_size().physical()];
    file.read_exact_at(&mut old, offset).with_context(|| format!("read {}", path.display()))?;
    let mut new = old.clone();
    set_flush_lsn(&mut new, space.flags, id.end);
    let mut contents = Contents::default();
    contents.file(name);
    contents.page(offset, &old, &new);
    // All pages of an earlier journal are durable.
    Journal::create(dir, id, storage)?.store(std::iter::once(&contents), storage)?;
    let write = || format!("write page 0 of {}", path.display());
    storage.write_at(&file, &new, offset).with_context(write)?;
    storage.sync(&file).with_context(write)
}

/// Up to which LSN the prepared backup `dir` is, whose options are `cnf`.
///
/// # Errors
///
/// A server has written to it since; a log or a page 0 that cannot be read.
pub(super) fn reached(dir: &Path, cnf: &BackupMyCnf) -> anyhow::Result<Lsn> {
    if let Some(log) = CopiedLog::open(dir)? {
        ensure!(
            log.is_empty(),
            "{} is not what prepare leaves: a server has run on the target (as --export does), so \
             that it is no base for an incremental backup any more",
            dir.join(LOG).display()
        );
        return Ok(log.extent().checkpoint.lsn);
    }
    let first = cnf.data_file_path.files().first().context("innodb_data_file_path is empty")?;
    let path = dir.join(first.name());
    let mut page0 = vec![0; usize::try_from(cnf.page_size)?];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut page0, 0))
        .with_context(|| format!("read {}", path.display()))?;
    Ok(Page::new(&page0).map_or(Lsn(0), |page| page.flush_lsn()))
}

/// Whether an earlier run had come so far that it replaced the log by an empty file.
///
/// # Errors
///
/// There is nothing that such a run leaves.
pub(super) fn check_emptied(dir: &Path, journal: Option<LogId>) -> anyhow::Result<()> {
    ensure!(journal.is_some(), "{} is empty: the redo log is missing", dir.join(LOG).display());
    Ok(())
}
