//! The log of a running server: read by position, never mapped. A log in one file is here, one in
//! files of an archive in the module `live_archive`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use innodb::encrypted::KeySource;
use redo::Lsn;
use redo::file::LogFile;
use redo::header::{Checkpoint, HEADER_LEN, HEADER_SIZE, HeaderError};

use super::RedoCopyError;
use super::live_archive::{self, LiveArchive};

/// A server writes one checkpoint slot at a time. Both can be unreadable only if it writes both
/// while they are being read.
pub(super) const CHECKPOINT_TRIES: u32 = 10;

/// An open log.
pub(super) struct LiveLog {
    source: Source,
    /// `ib_logfile0`, which is there unless the log is an archive.
    path: PathBuf,
    header: LogFile,
}

enum Source {
    File {
        file: File,
        len: u64,
        /// Device and inode.
        id: (u64, u64),
    },
    Archive(LiveArchive),
}

/// What stands at the path of an open log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AtPath {
    /// The open log.
    Same,
    /// Another one: the server resized or rebuilt its log, or began or ended to archive it.
    Other,
}

impl LiveLog {
    /// Opens the log at `path`, or the archive in its folder. `keys`: of the server.
    pub(super) fn open(
        path: &Path,
        keys: Option<Arc<dyn KeySource>>,
    ) -> Result<Self, RedoCopyError> {
        let failed = |action| move |error| read_error(action, path, error);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(Path::new("."));
                let archive = LiveArchive::open(dir, keys)?;
                let (archive, header) = archive.ok_or_else(|| failed("open")(error))?;
                let source = Source::Archive(archive);
                return Ok(Self { source, path: path.to_owned(), header });
            }
            file => file.map_err(failed("open"))?,
        };
        let metadata = file.metadata().map_err(failed("examine"))?;
        let len = metadata.len();
        if len < HEADER_LEN {
            let source = HeaderError::TooSmall { len };
            return Err(RedoCopyError::Header { path: path.to_owned(), source });
        }
        let header = read_header(&file, path, len)?;
        let id = (metadata.dev(), metadata.ino());
        Ok(Self { source: Source::File { file, len, id }, path: path.to_owned(), header })
    }

    /// What the log said about itself when it was opened.
    pub(super) fn header(&self) -> &LogFile {
        &self.header
    }

    /// The newest checkpoint now in the log.
    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint, RedoCopyError> {
        match &mut self.source {
            Source::File { file, len, .. } => Ok(read_header(file, &self.path, *len)?.checkpoint()),
            Source::Archive(archive) => archive.checkpoint(),
        }
    }

    /// Whether the path still leads to this log.
    pub(super) fn at_path(&self) -> Result<AtPath, RedoCopyError> {
        let metadata = match (std::fs::metadata(&self.path), &self.source) {
            (Err(error), source) if error.kind() == io::ErrorKind::NotFound => match source {
                Source::Archive(_) => return Ok(AtPath::Same),
                Source::File { .. } if self.has_archive() => return Ok(AtPath::Other),
                Source::File { .. } => return Err(read_error("examine", &self.path, error)),
            },
            (metadata, _) => metadata.map_err(|error| read_error("examine", &self.path, error))?,
        };
        match &self.source {
            Source::File { id, len, .. } if (metadata.dev(), metadata.ino()) == *id => {
                if metadata.len() == *len {
                    Ok(AtPath::Same)
                } else {
                    Err(RedoCopyError::SizeChanged { path: self.path.clone() })
                }
            }
            _ => Ok(AtPath::Other),
        }
    }

    fn has_archive(&self) -> bool {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        live_archive::list(dir).is_ok_and(|files| !files.is_empty())
    }

    /// Whether log that follows `position` was removed.
    pub(super) fn has_gap(&self, position: Lsn) -> Result<bool, RedoCopyError> {
        match &self.source {
            Source::File { .. } => Ok(false),
            Source::Archive(archive) => archive.has_gap(position),
        }
    }

    /// Whether the server reuses the space of old log.
    pub(super) fn is_reused(&self) -> bool {
        matches!(self.source, Source::File { .. })
    }

    /// Fills `window` with the log from `lsn` on, or from the block that holds it, joining the end
    /// and the beginning of the ring. It must not be longer than the ring.
    pub(super) fn read(&mut self, lsn: Lsn, window: &mut [u8]) -> Result<(), RedoCopyError> {
        let failed = |error| read_error("read", &self.path, error);
        let file = match &mut self.source {
            Source::File { file, .. } => file,
            Source::Archive(archive) => return archive.read(lsn, window),
        };
        let place = self.header.place(lsn);
        let place = place.ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let until_end = usize::try_from(place.contiguous).unwrap_or(usize::MAX).min(window.len());
        let (before, after) = window.split_at_mut(until_end);
        file.read_exact_at(before, place.offset).map_err(failed)?;
        file.read_exact_at(after, self.header.ring_offset()).map_err(failed)
    }
}

/// Reads the header with its newest checkpoint; again, where a write may have been in the way.
fn read_header(file: &File, path: &Path, len: u64) -> Result<LogFile, RedoCopyError> {
    let mut tries = 0;
    loop {
        let mut area = [0; HEADER_SIZE];
        file.read_exact_at(&mut area, 0).map_err(|error| read_error("read", path, error))?;
        match LogFile::parse(&area, len) {
            Ok(header) => return Ok(header),
            Err(HeaderError::NoCheckpoint | HeaderError::Checksum { .. })
                if tries < CHECKPOINT_TRIES =>
            {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(source) => return Err(RedoCopyError::Header { path: path.to_owned(), source }),
        }
    }
}

pub(super) fn read_error(action: &'static str, path: &Path, error: io::Error) -> RedoCopyError {
    RedoCopyError::Read { action, path: path.to_owned(), source: Arc::new(error) }
}
