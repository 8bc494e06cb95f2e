//! The archived log of a running server of 13: files that continue each other, of which the server
//! writes to the last one and removes none but by order of its administrator.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use innodb::encrypted::KeySource;
use redo::Lsn;
use redo::archive::{self, ArchiveFile, ArchiveHeader};
use redo::encryption::Encryption;
use redo::file::LogFile;
use redo::header::{Checkpoint, HEADER_LEN, HEADER_SIZE, HeaderError};
use redo::reader::{ReadError, Reader};

use super::RedoCopyError;
use super::live_log::{CHECKPOINT_TRIES, read_error};

/// Newest checkpoints of a file that are looked at: the very newest one may not be complete.
const CHECKPOINTS: usize = 8;
/// How much is read of the mini-transactions of a checkpoint: they name all tablespaces that were
/// changed since the one before.
const CHECKPOINT_LENS: [usize; 4] = [1 << 16, 1 << 19, 1 << 22, 1 << 25];

/// The files of an archive.
pub(super) struct LiveArchive {
    dir: PathBuf,
    keys: Option<Arc<dyn KeySource>>,
    /// Those in use, oldest first, without a gap.
    open: Vec<(ArchiveFile, File)>,
    /// The checkpoint that was found last, and whether the log is encrypted.
    newest: Option<(Checkpoint, Option<Encryption>)>,
}

impl LiveArchive {
    /// The archive in `dir`, and what it says about itself; `None` if there is none.
    pub(super) fn open(
        dir: &Path,
        keys: Option<Arc<dyn KeySource>>,
    ) -> Result<Option<(Self, LogFile)>, RedoCopyError> {
        let dir = dir.to_owned();
        let mut log = Self { dir, keys, open: Vec::new(), newest: None };
        let Some(&first) = archive::chain(log.list()?).first() else { return Ok(None) };
        let (checkpoint, encryption) = log.newest_checkpoint()?;
        let header = LogFile::of_archive(first, checkpoint, encryption);
        Ok(Some((log, header)))
    }

    /// The newest checkpoint now in the files.
    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint, RedoCopyError> {
        self.newest_checkpoint().map(|(checkpoint, _)| checkpoint)
    }

    fn newest_checkpoint(&mut self) -> Result<(Checkpoint, Option<Encryption>), RedoCopyError> {
        for _ in 0..CHECKPOINT_TRIES {
            if let Some(found) = self.find_checkpoint()? {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let path = self.dir.join("ib_*.log");
        Err(RedoCopyError::Header { path, source: HeaderError::NoCheckpoint })
    }

    fn find_checkpoint(
        &mut self,
    ) -> Result<Option<(Checkpoint, Option<Encryption>)>, RedoCopyError> {
        let chain = archive::chain(self.list()?);
        let first_lsn = chain.first().map_or(Lsn(u64::MAX), |file| file.first_lsn);
        for &file in chain.iter().rev() {
            let path = self.path_of(file);
            let mut head = vec![0; HEADER_SIZE];
            File::open(&path)
                .and_then(|file| file.read_exact_at(&mut head, 0))
                .map_err(|error| read_error("read", &path, error))?;
            let header = ArchiveHeader::parse(&head, file)
                .map_err(|source| RedoCopyError::Header { path, source })?;
            let encryption = header.encryption().copied();
            for end_lsn in header.end_lsns().take(CHECKPOINTS) {
                let known = self.newest.filter(|(newest, _)| newest.end_lsn == end_lsn);
                let found = match known {
                    Some((checkpoint, _)) => Some(checkpoint),
                    None => self.checkpoint_at(end_lsn, encryption)?,
                };
                if let Some(checkpoint) = found.filter(|found| found.lsn >= first_lsn) {
                    self.newest = Some((checkpoint, encryption));
                    return Ok(self.newest);
                }
            }
        }
        Ok(None)
    }

    /// The checkpoint whose mini-transactions begin at `end_lsn`, if they are all there.
    fn checkpoint_at(
        &self,
        end_lsn: Lsn,
        encryption: Option<Encryption>,
    ) -> Result<Option<Checkpoint>, RedoCopyError> {
        let (dir, keys) = (self.dir.clone(), self.keys.clone());
        let mut log = Self { dir, keys, open: Vec::new(), newest: None };
        for len in CHECKPOINT_LENS {
            let mut bytes = vec![0; HEADER_SIZE + len];
            log.read(end_lsn, bytes.get_mut(HEADER_SIZE..).unwrap_or_default())?;
            let file = ArchiveFile { first_lsn: end_lsn, len: bytes.len() as u64 };
            let reader = Reader::of_archive(vec![(file, &bytes)], encryption, self.keys.as_deref());
            match reader.checkpoint_at(end_lsn) {
                Ok(None) => {}
                // Half written, or of a log that is encrypted differently.
                Err(ReadError::Malformed(_)) => return Ok(None),
                Err(ReadError::Key { source, .. }) => {
                    return Err(RedoCopyError::Key(Arc::new(source)));
                }
                Err(_) => return Err(RedoCopyError::NoKeys),
                Ok(found) => return Ok(found),
            }
        }
        Ok(None)
    }

    /// Fills `window` with the log from `lsn` on; zeros where there is no file.
    pub(super) fn read(&mut self, lsn: Lsn, window: &mut [u8]) -> Result<(), RedoCopyError> {
        self.open.retain(|(file, _)| file.end_lsn() >= lsn);
        let (mut at, mut rest) = (lsn, window);
        while !rest.is_empty() {
            let Some((file, handle)) = self.file_at(at)? else { break };
            let left = usize::try_from(file.end_lsn().since(at)).unwrap_or(usize::MAX);
            let (piece, more) = rest.split_at_mut(left.min(rest.len()));
            let offset = at.since(file.first_lsn).saturating_add(HEADER_LEN);
            let read = handle.read_exact_at(piece, offset);
            read.map_err(|error| read_error("read", &self.path_of(file), error))?;
            at = Lsn(at.0.saturating_add(piece.len() as u64));
            rest = more;
        }
        rest.fill(0);
        Ok(())
    }

    /// The file that holds `lsn`: open, or to be opened as the next one.
    fn file_at(&mut self, lsn: Lsn) -> Result<Option<(ArchiveFile, &File)>, RedoCopyError> {
        let holds = |file: &ArchiveFile| file.first_lsn <= lsn && lsn < file.end_lsn();
        if !self.open.iter().any(|(file, _)| holds(file)) {
            let next = match self.open.last_mut() {
                None => archive::chain(self.list()?).into_iter().find(holds),
                Some((last, handle)) => {
                    // A file that is being made grows.
                    let metadata = handle.metadata();
                    last.len =
                        metadata.map_err(|error| read_error("examine", &self.dir, error))?.len();
                    (last.end_lsn() == lsn).then_some(ArchiveFile { first_lsn: lsn, len: 0 })
                }
            };
            if let Some(next) = next {
                self.open_file(next)?;
            }
        }
        let found = self.open.iter().find(|(file, _)| holds(file));
        Ok(found.map(|(file, handle)| (*file, handle)))
    }

    /// Opens a file, if it is there by now.
    fn open_file(&mut self, file: ArchiveFile) -> Result<(), RedoCopyError> {
        let path = self.path_of(file);
        let handle = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            handle => handle.map_err(|error| read_error("open", &path, error))?,
        };
        let metadata = handle.metadata().map_err(|error| read_error("examine", &path, error))?;
        let file = ArchiveFile { len: metadata.len(), ..file };
        if !archive::chain([file]).is_empty() {
            self.open.push((file, handle));
        }
        Ok(())
    }

    /// Whether log that follows `position` is gone: of what follows the files in use, the next file
    /// is not there, but later ones are.
    pub(super) fn has_gap(&self, position: Lsn) -> Result<bool, RedoCopyError> {
        let files = self.list()?;
        let end = self.open.last().map(|(file, _)| file.end_lsn());
        let holds_next = |file: &ArchiveFile| match end {
            Some(end) => file.first_lsn == end,
            None => file.first_lsn <= position && position < file.end_lsn(),
        };
        let is_later = |file: &ArchiveFile| file.first_lsn > end.unwrap_or(position);
        Ok(files.iter().any(is_later) && !files.iter().any(holds_next))
    }

    fn path_of(&self, file: ArchiveFile) -> PathBuf {
        self.dir.join(archive::name_of_first_lsn(file.first_lsn))
    }

    fn list(&self) -> Result<Vec<ArchiveFile>, RedoCopyError> {
        list(&self.dir).map_err(|error| read_error("list", &self.dir, error))
    }
}

/// The files of an archive in `dir`.
pub(super) fn list(dir: &Path) -> io::Result<Vec<ArchiveFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(first_lsn) = archive::first_lsn_of_name(entry.file_name().as_bytes()) else {
            continue;
        };
        match entry.metadata() {
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => files.push(ArchiveFile { first_lsn, len: metadata?.len() }),
        }
    }
    Ok(files)
}
