//! The log file of a running server: read by position, never mapped.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redo::Lsn;
use redo::file::LogFile;
use redo::header::{Checkpoint, HEADER_LEN, HEADER_SIZE, HeaderError};

use super::RedoCopyError;

/// A server writes one checkpoint slot at a time. Both can be unreadable only if it writes both
/// while they are being read.
const CHECKPOINT_TRIES: u32 = 10;

/// An open log file.
pub(super) struct LiveLog {
    file: File,
    path: PathBuf,
    header: LogFile,
    len: u64,
    /// Device and inode.
    id: (u64, u64),
}

/// What stands at the path of an open log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AtPath {
    /// The open file.
    Same,
    /// Another file: the server resized or rebuilt its log.
    Other,
}

impl LiveLog {
    pub(super) fn open(path: &Path) -> Result<Self, RedoCopyError> {
        let failed = |action| move |error| read_error(action, path, error);
        let file = File::open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("examine"))?;
        let len = metadata.len();
        if len < HEADER_LEN {
            let source = HeaderError::TooSmall { len };
            return Err(RedoCopyError::Header { path: path.to_owned(), source });
        }
        let header = read_header(&file, path, len)?;
        let id = (metadata.dev(), metadata.ino());
        Ok(Self { file, path: path.to_owned(), header, len, id })
    }

    /// What the log said about itself when it was opened.
    pub(super) fn header(&self) -> &LogFile {
        &self.header
    }

    /// The newest checkpoint now in the file.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint, RedoCopyError> {
        Ok(read_header(&self.file, &self.path, self.len)?.checkpoint())
    }

    /// Whether the path still leads to this file.
    pub(super) fn at_path(&self) -> Result<AtPath, RedoCopyError> {
        let metadata = std::fs::metadata(&self.path)
            .map_err(|error| read_error("examine", &self.path, error))?;
        if (metadata.dev(), metadata.ino()) != self.id {
            Ok(AtPath::Other)
        } else if metadata.len() != self.len {
            Err(RedoCopyError::SizeChanged { path: self.path.clone() })
        } else {
            Ok(AtPath::Same)
        }
    }

    /// Fills `window` with the log from `lsn` on, or from the block that holds it, joining the end
    /// and the beginning of the ring. It must not be longer than the ring.
    pub(super) fn read(&self, lsn: Lsn, window: &mut [u8]) -> Result<(), RedoCopyError> {
        let failed = |error| read_error("read", &self.path, error);
        let place = self.header.place(lsn);
        let place = place.ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let until_end = usize::try_from(place.contiguous).unwrap_or(usize::MAX).min(window.len());
        let (before, after) = window.split_at_mut(until_end);
        self.file.read_exact_at(before, place.offset).map_err(failed)?;
        self.file.read_exact_at(after, self.header.ring_offset()).map_err(failed)
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

fn read_error(action: &'static str, path: &Path, error: io::Error) -> RedoCopyError {
    RedoCopyError::Read { action, path: path.to_owned(), source: Arc::new(error) }
}
