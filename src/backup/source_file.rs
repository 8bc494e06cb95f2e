//! Reads files of a running server and leaves its page cache as it was: what was not in memory
//! before is forgotten again, what was stays.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use innodb::datadir::FileIdentity;
use rustix::io::{Errno, ReadWriteFlags};

use crate::{durable, hints};

/// A file of the server, open for reading.
pub struct SourceFile {
    file: File,
    /// Whether the file system tells what is in memory (`RWF_NOWAIT`).
    tells_residency: AtomicBool,
}

impl SourceFile {
    /// Opens `path` without changing its access time where that is allowed.
    ///
    /// # Errors
    ///
    /// Those of opening.
    pub fn open(path: &Path) -> io::Result<Self> {
        let noatime = i32::try_from(rustix::fs::OFlags::NOATIME.bits()).unwrap_or(0);
        let quiet = OpenOptions::new().read(true).custom_flags(noatime).open(path);
        let file = match quiet {
            // Only the owner of a file may leave its access time alone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path)?,
            other => other?,
        };
        Ok(Self { file, tells_residency: AtomicBool::new(true) })
    }

    /// Which file this is, and its size.
    ///
    /// # Errors
    ///
    /// Those of `fstat`.
    pub fn identity(&self) -> io::Result<FileIdentity> {
        self.file.metadata().map(|metadata| FileIdentity::from(&metadata))
    }

    /// When the file was made.
    ///
    /// # Errors
    ///
    /// The file system does not tell.
    pub fn created(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.created()
    }

    /// Where the next data is, from `offset` on; `None` if nothing but a hole, or nothing at all,
    /// follows. A file system that knows of no holes says `offset`.
    ///
    /// # Errors
    ///
    /// Those of `lseek`.
    pub fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        durable::next_data(&self.file, offset)
    }

    /// Fills `bytes` from `offset` on and returns how many bytes there were: fewer than asked
    /// for only at the end of the file.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let resident = self.read_resident(bytes, offset)?;
        let mut got = resident;
        while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + got as u64) {
                Ok(0) => break,
                Ok(len) => got += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if got > resident && self.tells_residency.load(Ordering::Relaxed) {
            hints::forget(&self.file, offset + resident as u64, (got - resident) as u64);
        }
        Ok(got)
    }

    /// Reads what is in memory already, from `offset` up to the first byte that is not.
    fn read_resident(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while self.tells_residency.load(Ordering::Relaxed) {
            let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) else { break };
            let mut buffers = [io::IoSliceMut::new(rest)];
            let at = offset + got as u64;
            match rustix::io::preadv2(self.file.as_fd(), &mut buffers, at, ReadWriteFlags::NOWAIT) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(len) => got += len,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.tells_residency.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(got)
    }
}
