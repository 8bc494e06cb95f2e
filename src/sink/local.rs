//! A backup in a local directory.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Sink, SinkFile};
use crate::durable::FileSystem;
use crate::hooks::dbug;
use crate::{durable, hints};

/// Bytes of a file that may be on their way to the disk before the writer waits for them.
const BEHIND: usize = 32 << 20;
/// A file with fewer bytes is left to the kernel and the final sync: for thousands of small files
/// starting each by itself costs more than it saves.
const SMALL: u64 = 1 << 20;
/// So many new files are worth a sync of their own. While a file system commits to its journal what
/// new files have changed, everybody else who writes to it waits: ext4, 15,000 files: 60 ms.
const MANY_FILES: u64 = 100;

/// A directory that a backup is written to.
pub struct LocalDir {
    root: PathBuf,
    /// Open since before the first write, so that no failed write-back goes unnoticed.
    file_system: FileSystem,
    written: Mutex<HashSet<PathBuf>>,
    /// Files created since the last sync.
    unsynced: AtomicU64,
}

impl LocalDir {
    /// Uses the directory `root`; creates it unless it exists. Its parent must exist.
    ///
    /// # Errors
    ///
    /// Those of creating the directory.
    pub fn create(root: &Path) -> io::Result<Self> {
        make_dir(root)?;
        let file_system = FileSystem::of(root)?;
        let root = root.to_path_buf();
        Ok(Self { root, file_system, written: Mutex::default(), unsynced: AtomicU64::new(0) })
    }

    fn open_new(&self, path: &Path, waits: bool) -> io::Result<Box<dyn SinkFile>> {
        let full = self.root.join(path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(durable::file_mode());
        let file = match options.open(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    self.create_dir(parent)?;
                }
                options.open(&full)?
            }
            other => other?,
        };
        self.unsynced.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(LocalFile { file, waits, len: AtomicU64::new(0), behind: Mutex::default() }))
    }

    /// Renames a file that was written here; nothing if none of that name was.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is a file of the new name; those of the file system.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.written().remove(from) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            self.create_dir(parent)?;
        }
        durable::rename_new(&self.root.join(from), &self.root.join(to))?;
        self.written().insert(to.to_path_buf());
        Ok(())
    }

    /// Removes what was written here: the file `path`, or all that is in the folder `path`, with
    /// the folder; or all files whose path begins so and goes on without a slash.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn remove_all(&self, path: &Path, is_prefix: bool) -> io::Result<()> {
        let is_meant = |other: &&PathBuf| xbstream::is_removed(other, path, is_prefix);
        let meant: Vec<_> = self.written().iter().filter(is_meant).cloned().collect();
        meant.iter().try_for_each(|path| self.remove(path))?;
        let is_folder = !is_prefix && self.root.join(path).is_dir();
        if is_folder { self.remove_empty_dir(path) } else { Ok(()) }
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates one directory, unless it is there.
fn make_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(durable::dir_mode()).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

impl Sink for LocalDir {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        let file = self.open_new(path, true)?;
        self.written().insert(path.to_path_buf());
        Ok(file)
    }

    fn create_urgent(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        let file = self.open_new(path, false)?;
        self.written().insert(path.to_path_buf());
        Ok(file)
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        self.remove(path)?;
        self.create(path)
    }

    fn link(&self, source: &Path, path: &Path) -> io::Result<bool> {
        if let Some(parent) = path.parent() {
            self.create_dir(parent)?;
        }
        match fs::hard_link(source, self.root.join(path)) {
            Ok(()) => {
                self.written().insert(path.to_path_buf());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // Another file system, one without links, a file of somebody else: all can be copied.
            Err(_) => Ok(false),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // Only what this backup wrote may go: the directory can hold files of others.
        if !self.written().remove(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::remove_file(self.root.join(path))
    }

    fn has(&self, path: &Path) -> bool {
        self.written().contains(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match make_dir(&self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = path.parent() else { return Err(error) };
                self.create_dir(parent)?;
                make_dir(&self.root.join(path))
            }
            other => other,
        }
    }

    fn remove_empty_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir(self.root.join(path)) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn takes_any_offset(&self) -> bool {
        true
    }

    fn sync_some(&self) -> io::Result<()> {
        if self.unsynced.load(Ordering::Relaxed) < MANY_FILES { Ok(()) } else { self.sync() }
    }

    fn sync(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file_system.sync()
    }
}

struct LocalFile {
    file: File,
    /// Whether the writer may be made to wait.
    waits: bool,
    /// Bytes up to the end of what was written.
    len: AtomicU64,
    /// Ranges on their way to the disk, oldest first, and their bytes.
    behind: Mutex<(VecDeque<(u64, usize)>, usize)>,
}

impl LocalFile {
    /// Takes what was written some time ago out of memory, where the server's files belong.
    fn drop_behind(&self, offset: u64, len: usize) -> io::Result<()> {
        let mut written = Vec::new();
        {
            let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
            let (ranges, bytes) = &mut *behind;
            ranges.push_back((offset, len));
            *bytes += len;
            while *bytes > BEHIND {
                let Some(range) = ranges.pop_front() else { break };
                *bytes -= range.1;
                written.push(range);
            }
        }
        for (offset, len) in written {
            hints::wait_for_writeback(&self.file, offset, len)?;
            hints::forget(&self.file, offset, len as u64);
        }
        Ok(())
    }
}

impl SinkFile for LocalFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        let len = self.len.fetch_max(end, Ordering::Relaxed).max(end);
        if len < SMALL {
            return Ok(());
        }
        // Started now, the final sync has little left to do.
        hints::start_writeback(&self.file, offset, bytes.len());
        if self.waits { self.drop_behind(offset, bytes.len()) } else { Ok(()) }
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        dbug::fail("my_close_fail")?;
        // Nothing was there before: the file ends where the last byte was written, or, if it was
        // cut meanwhile, at that place again once that many bytes are written.
        if self.len.load(Ordering::Relaxed) == len { Ok(()) } else { self.file.set_len(len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> (tempfile::TempDir, LocalDir) {
        let dir = tempfile::tempdir().unwrap();
        let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
        (dir, sink)
    }

    #[test]
    fn ranges_in_any_order_and_holes_make_the_file() {
        let (dir, sink) = sink();
        let file = sink.create(Path::new("db/t.ibd")).unwrap();
        file.write_at(6, b"cd").unwrap();
        file.write_at(0, b"ab").unwrap();
        file.finish(10).unwrap();
        assert_eq!(fs::read(dir.path().join("backup/db/t.ibd")).unwrap(), b"ab\0\0\0\0cd\0\0");
    }

    #[test]
    fn existing_file_is_never_overwritten() {
        let (dir, sink) = sink();
        let path = dir.path().join("backup/precious");
        fs::write(&path, b"old").unwrap();
        let error = sink.create(Path::new("precious")).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let error = sink.replace(Path::new("precious")).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(sink.remove(Path::new("precious")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn many_new_files_are_worth_a_sync() {
        let (_dir, sink) = sink();
        for number in 1..=MANY_FILES {
            sink.sync_some().unwrap();
            assert_eq!(sink.unsynced.load(Ordering::Relaxed), number - 1);
            sink.create(Path::new(&format!("{number}.frm"))).unwrap();
        }
        sink.sync_some().unwrap();
        assert_eq!(sink.unsynced.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_is_linked_where_that_can_be() {
        let (dir, sink) = sink();
        let source = dir.path().join("source");
        fs::write(&source, b"rows").unwrap();
        assert!(sink.link(&source, Path::new("f/linked")).unwrap());
        assert_eq!(fs::read(dir.path().join("backup/f/linked")).unwrap(), b"rows");
        let error = sink.link(&source, Path::new("f/linked")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!sink.link(Path::new("/proc/self/status"), Path::new("f/other")).unwrap());
        sink.remove(Path::new("f/linked")).unwrap();
        assert!(source.exists());
    }

    #[test]
    fn own_file_is_replaced_and_removed() {
        let (dir, sink) = sink();
        let path = Path::new("t.frm");
        sink.create(path).unwrap().write_at(0, b"first, longer").unwrap();
        sink.replace(path).unwrap().write_at(0, b"second").unwrap();
        assert_eq!(fs::read(dir.path().join("backup/t.frm")).unwrap(), b"second");
        sink.remove(path).unwrap();
        assert!(!dir.path().join("backup/t.frm").exists());
    }

    #[test]
    fn own_files_are_renamed_and_removed_together() {
        let (dir, sink) = sink();
        let root = dir.path().join("backup");
        for path in ["a/t#P#p0.ibd", "a/t#P#p1.ibd", "a/t.frm", "b/c/t.frm"] {
            sink.create(Path::new(path)).unwrap();
        }
        fs::write(root.join("a/t#P#other"), b"").unwrap();
        let [frm, renamed] = ["a/t.frm", "c/u.frm"].map(Path::new);
        sink.rename(Path::new("missing"), renamed).unwrap();
        sink.rename(frm, renamed).unwrap();
        assert!(!root.join(frm).exists() && root.join(renamed).exists());
        sink.create(frm).unwrap();
        let error = sink.rename(frm, renamed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);

        sink.remove_all(Path::new("a/t#P#"), true).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(root.join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["t#P#other", "t.frm"]);
        sink.remove_all(Path::new("b/c"), false).unwrap();
        assert!(root.join("b").exists() && !root.join("b/c").exists());
        sink.remove_all(Path::new("nowhere"), false).unwrap();
    }

    #[test]
    fn missing_parent_of_the_root_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = LocalDir::create(&dir.path().join("no/such")).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
