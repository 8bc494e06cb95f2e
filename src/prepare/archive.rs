//! The directory that `BACKUP SERVER` of 13 leaves, and the script around it: the redo log as files
//! of an archive, `backup.cnf` instead of the metadata of other backups.
//!
//! Once all is checked, and before anything is changed, the backup gets the metadata that others
//! have ([`adopt`]). At the end it has their log too, and the files of the archive go ([`retire`]):
//! a server takes one or the other. Until then they are only read; they may be links to the
//! server's own.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::datadir::DataFilePath;
use innodb::encrypted::KeySource;
use innodb::space::SpaceHeader;
use innodb::{Lsn, PageSize};
use redo::archive::{self, ArchiveFile, ArchiveHeader};
use redo::encryption::Encryption;
use redo::header::{Checkpoint, HEADER_SIZE};
use redo::reader::Reader;

use super::markers::remove_if_there;
use super::storage::Storage;
use crate::durable;
use crate::hint::WithHint;
use crate::keys_source;
use crate::mapped::Mapped;
use crate::metadata::backup_cnf::{self, BACKUP_CNF};
use crate::metadata::{
    BACKUP_MY_CNF, BackupCnf, BackupMyCnf, BackupType, Checkpoints, Found, MetadataNames, Plugins,
};

/// Creator of the log that prepare leaves; an archive does not tell the version of its server.
pub(super) const CREATOR: &str = "Backup 13.0";
/// Page 0 at most.
const PAGE_LEN_MAX: usize = 1 << 16;

/// What the server's options are: as the script told, or as far as the files tell.
///
/// # Errors
///
/// A `backup-prepare.cnf` that cannot be used; without it, data files that tell nothing.
pub(super) fn server_options(dir: &Path) -> anyhow::Result<BackupMyCnf> {
    if let Some(cnf) = backup_cnf::server_options(dir)? {
        return Ok(cnf);
    }
    let files = system_files(dir)?;
    let page_size = page_size(&dir.join("ibdata1"))?;
    Ok(BackupMyCnf {
        checksum_algorithm: "full_crc32".into(),
        data_file_path: files,
        log_file_size: 96 << 20,
        page_size: u32::try_from(page_size.logical())?,
        undo_directory: "./".into(),
        undo_tablespaces: 0,
        compression_level: 6,
        buffer_pool_filename: None,
        // Tables that are encrypted stay so.
        plugins: Some(Plugins { encrypt_tables: "ON".into(), ..Plugins::default() }),
    })
}

/// `ibdata1`, `ibdata2` and so on, as far as they are there.
fn system_files(dir: &Path) -> anyhow::Result<DataFilePath> {
    let mut files = Vec::new();
    for number in 1_u32.. {
        let path = dir.join(format!("ibdata{number}"));
        let len = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > 1 => break,
            metadata => metadata.with_context(|| format!("open {}", path.display())).hint(
                "where the files of the system tablespace have other names, backup-prepare.cnf \
                 tells them by innodb_data_file_path, and innodb_page_size",
            )?,
        }
        .len();
        // Only the last one has any size.
        files.push(format!("ibdata{number}:{}M", (len >> 20).max(1)));
    }
    Ok(DataFilePath::parse(&format!("{}:autoextend", files.join(";")))?)
}

/// The page size of the server, from page 0 of its system tablespace.
fn page_size(path: &Path) -> anyhow::Result<PageSize> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut head = vec![0; PAGE_LEN_MAX];
    file.read_exact_at(&mut head, 0).with_context(|| format!("read {}", path.display()))?;
    let header = SpaceHeader::parse(&head)
        .with_context(|| format!("page 0 of {} is unusable", path.display()))?;
    Ok(header.flags().page_size())
}

/// The files of an archive as far as the backup needs them.
pub(super) struct ArchivedLog {
    files: Vec<(ArchiveFile, Mapped)>,
    encryption: Option<Encryption>,
    /// Where the log begins.
    pub checkpoint: Checkpoint,
    /// Where it ends.
    pub target: Lsn,
}

impl ArchivedLog {
    /// Opens the files of backup `dir` for reading.
    ///
    /// # Errors
    ///
    /// Files that are missing, do not continue each other, or do not begin as `cnf` says.
    pub(super) fn open(
        dir: &Path,
        cnf: &BackupCnf,
        keys: Option<&dyn KeySource>,
    ) -> anyhow::Result<Self> {
        let (start, target) = (cnf.recovery_start, cnf.recovery_target);
        let chain = archive::chain(list(dir)?.into_iter().map(|(file, _)| file));
        let first = chain
            .first()
            .with_context(|| format!("{} has no file of the redo log (ib_*.log)", dir.display()))?;
        if start < first.first_lsn {
            bail!(
                "the redo log is not complete: innodb_log_recovery_start of {} is {start}, but \
                 the files that continue each other begin with {}",
                dir.join(BACKUP_CNF).display(),
                archive::name_of_first_lsn(first.first_lsn)
            );
        }
        let needed = chain.iter().filter(|file| file.first_lsn < target);
        let files = needed
            .map(|&file| {
                let path = dir.join(archive::name_of_first_lsn(file.first_lsn));
                let mapped = map(dir, &path);
                mapped.map(|m| (file, m)).with_context(|| format!("open {}", path.display()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let encryption = encryption(dir, &files)?;
        let checkpoint = Checkpoint { lsn: start, end_lsn: start };
        let mut log = Self { files, encryption, checkpoint, target };
        let reader = log.reader(keys);
        let found = match (reader.checkpoint_at(start), log.doubt(dir)) {
            (found, Some(doubt)) => found.context(doubt)?,
            (found, None) => found?,
        };
        log.checkpoint = found.with_context(|| {
            format!(
                "{} says innodb_log_recovery_start={start}, but the redo log has no FILE_CHECKPOINT \
                 there",
                dir.join(BACKUP_CNF).display()
            )
        })?;
        let lsn = log.checkpoint.lsn;
        ensure!(
            cnf.checkpoint.is_none_or(|told| told == lsn),
            "{} says checkpoint={}, but the redo log has FILE_CHECKPOINT({lsn}) at \
             innodb_log_recovery_start={start}",
            dir.join(BACKUP_CNF).display(),
            cnf.checkpoint.unwrap_or_default()
        );
        ensure!(
            lsn >= first.first_lsn,
            "the redo log is not complete: its checkpoint is at LSN {lsn}, but the files that \
             continue each other begin with {}",
            archive::name_of_first_lsn(first.first_lsn)
        );
        Ok(log)
    }

    /// Reads the log.
    pub(super) fn reader<'a>(&'a self, keys: Option<&'a dyn KeySource>) -> Reader<'a> {
        let files = self.files.iter().map(|(file, mapped)| (*file, mapped.bytes())).collect();
        Reader::of_archive(files, self.encryption, keys)
    }

    /// Bytes of log.
    pub(super) fn len(&self) -> u64 {
        self.target.since(self.checkpoint.lsn)
    }

    /// As of [`Mapped`].
    pub(super) fn expect_sequential(&self, sequential: bool) {
        for (_, mapped) in &self.files {
            mapped.expect_sequential(sequential);
        }
    }

    /// What to say if the log cannot be read: perhaps it is the key.
    pub(super) fn doubt(&self, dir: &Path) -> Option<String> {
        Some(super::log::doubt_of(&dir.join("ib_*.log"), self.encryption.as_ref()?))
    }
}

/// The files of an archive in `dir`, with their paths, in order.
fn list(dir: &Path) -> anyhow::Result<Vec<(ArchiveFile, PathBuf)>> {
    let read = || -> io::Result<_> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Some(first_lsn) = archive::first_lsn_of_name(entry.file_name().as_bytes()) {
                let len = entry.path().metadata()?.len();
                files.push((ArchiveFile { first_lsn, len }, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    };
    read().with_context(|| format!("list {}", dir.display()))
}

/// Maps a file of the archive. One that may be the server's own, and that it may still write, is
/// copied before.
fn map(dir: &Path, path: &Path) -> io::Result<Mapped> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let is_final = metadata.mode() & 0o222 == 0;
    if metadata.nlink() == 1 || is_final {
        return Mapped::of(&file);
    }
    let copy = durable::unnamed_file(dir)?;
    let len = metadata.len();
    copy.set_len(len)?;
    durable::copy_range(&file, &copy, 0, len, &mut |_| {})?;
    Mapped::of(&copy)
}

/// How the log is encrypted, if it is. A header of zeros tells nothing.
fn encryption(dir: &Path, files: &[(ArchiveFile, Mapped)]) -> anyhow::Result<Option<Encryption>> {
    let mut known: Option<(Option<Encryption>, String)> = None;
    for (file, mapped) in files {
        let name = archive::name_of_first_lsn(file.first_lsn);
        let head = mapped.bytes().get(..HEADER_SIZE).unwrap_or_default();
        if head.iter().all(|&byte| byte == 0) {
            continue;
        }
        let header = ArchiveHeader::parse(head, *file)
            .with_context(|| format!("{} is unusable", dir.join(&name).display()))?;
        let encryption = header.encryption().copied();
        if let Some((_, other)) = known.as_ref().filter(|(known, _)| *known != encryption) {
            bail!("{other} and {name} are not encrypted in the same way: they are not of one log");
        }
        known = Some((encryption, name));
    }
    Ok(known.and_then(|(encryption, _)| encryption))
}

/// The checkpoints file that the backup will get; the LSNs are still to be found out.
pub(super) fn checkpoints_file(dir: &Path) -> Found {
    let names = MetadataNames::NEW;
    Found {
        path: dir.join(names.checkpoints),
        names,
        checkpoints: Checkpoints {
            backup_type: BackupType::FullBackuped,
            from_lsn: Lsn(0),
            to_lsn: Lsn(0),
            last_lsn: Lsn(0),
            recover_binlog_info: Some(false),
        },
    }
}

/// Gives the backup the metadata of others, durably: it is known to be complete, and nothing else
/// was changed yet.
///
/// # Errors
///
/// What writing reports.
pub(super) fn adopt(
    dir: &Path,
    cnf: &BackupMyCnf,
    found: &Found,
    storage: &dyn Storage,
) -> anyhow::Result<()> {
    let write = |path: &Path, text: String| {
        storage.replace(path, text.as_bytes()).with_context(|| format!("write {}", path.display()))
    };
    let mut cnf = cnf.clone();
    let _ = cnf.plugins.as_mut().map(keys_source::leave_out_secrets);
    write(&dir.join(BACKUP_MY_CNF), cnf.render())?;
    write(&found.path, found.checkpoints.render())
}

/// Removes the files of the archive, and from `backup.cnf` what is about them: the log that takes
/// their place is there. Does nothing with other backups.
///
/// # Errors
///
/// What reading, writing and removing report.
pub(super) fn retire(dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
    let path = dir.join(BACKUP_CNF);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    for (_, file) in list(dir)? {
        remove_if_there(storage, &file)?;
    }
    let left = BackupCnf::without_recovery(&text);
    storage.replace(&path, left.as_bytes()).with_context(|| format!("write {}", path.display()))
}
