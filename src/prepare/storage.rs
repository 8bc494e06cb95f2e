//! The seam through which prepare changes the backup: tests let any step fail.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::durable;

/// Bytes copied at a time.
const COPY_LEN: usize = 256 << 10;

/// Changes of files and folders. After an error nothing more is tried.
pub(super) trait Storage: Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents of `file` durable.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Cuts `file`, or extends it with zeros, for which space is made.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// As [`set_len`](Self::set_len), but zeros are a hole.
    fn set_sparse_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Makes a hole of `len` bytes, which are zeros already, at `offset`; nothing happens where the
    /// file system cannot do that.
    fn punch_hole(&self, file: &File, offset: u64, len: u64) -> io::Result<()>;
    /// Renames a file, replacing another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates an empty file.
    fn create(&self, path: &Path) -> io::Result<()>;
    /// Makes `to`, which is not there, a copy of `from`. Holes stay holes.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.create(to)?;
        let (from, to) = (File::open(from)?, File::options().write(true).open(to)?);
        let len = from.metadata()?.len();
        let mut buffer = vec![0; COPY_LEN];
        let mut at = 0;
        while let Some(data) = durable::next_data(&from, at)?.filter(|data| *data < len) {
            let piece = usize::try_from(len - data).map_or(COPY_LEN, |left| left.min(COPY_LEN));
            let piece = buffer.get_mut(..piece).unwrap_or_default();
            from.read_exact_at(piece, data)?;
            self.write_at(&to, piece, data)?;
            at = data + piece.len() as u64;
        }
        self.set_sparse_len(&to, len)
    }
    /// Gives a file new contents, durably, by rename.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything in folder `dir` durable, which is on `file_system`.
    fn sync_all(&self, dir: &Path, file_system: &durable::FileSystem) -> io::Result<()>;
}

/// The real one.
pub(super) struct Disk;

impl Storage for Disk {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        let now = file.metadata()?.len();
        if len > now {
            // Fails now rather than in the middle if the disk is too small.
            match rustix::fs::fallocate(file, FallocateFlags::empty(), now, len - now) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        file.set_len(len)
    }

    fn set_sparse_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn punch_hole(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file, flags, offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        durable::create_exclusive(path, durable::file_mode()).map(drop)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        durable::write_atomically(path, bytes)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        durable::sync_dir(dir)
    }

    fn sync_all(&self, dir: &Path, file_system: &durable::FileSystem) -> io::Result<()> {
        let mut paths = Vec::new();
        if list(dir, &mut paths)? {
            // What others write to the same file system shall not hold us up.
            paths.iter().try_for_each(|path| File::open(path)?.sync_all())
        } else {
            file_system.sync()
        }
    }
}

/// More files than this are not synced one by one.
const FILES_MAX: usize = 512;

/// Appends `dir` and everything in it; false if there are too many files.
fn list(dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<bool> {
    paths.push(dir.to_owned());
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if paths.len() >= FILES_MAX {
            return Ok(false);
        }
        if kind.is_dir() {
            if !list(&entry.path(), paths)? {
                return Ok(false);
            }
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(true)
}
