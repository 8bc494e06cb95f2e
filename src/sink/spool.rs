//! A sink before another one that makes its writers wait: a stream, or one that compresses.
//!
//! Files that are urgent, or written more than once, are kept in temporary files until
//! [`Sink::sync`]; so is everything that is written while the server is held up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Sink, SinkFile};
use crate::durable;

/// Bytes that are sent together.
const PIECE: usize = 1 << 20;

/// A sink that keeps files for `inner`.
pub struct Spool<S> {
    inner: S,
    /// Where files are kept.
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    holds: bool,
    kept: BTreeMap<PathBuf, Entry>,
    /// Files that `inner` is still to remove, and folders that it is to remove if they are empty.
    removed: BTreeSet<PathBuf>,
    removed_dirs: BTreeSet<PathBuf>,
}

struct Entry {
    file: Arc<Kept>,
    /// Whether `inner` has an older file of that name.
    replaces: bool,
}

impl<S: Sink> Spool<S> {
    /// Keeps files in the folder `dir`.
    pub fn new(inner: S, dir: &Path) -> Self {
        Self { inner, dir: dir.to_path_buf(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, path: &Path, replaces: bool) -> io::Result<Box<dyn SinkFile>> {
        let file =
            Arc::new(Kept { file: durable::unnamed_file(&self.dir)?, len: Mutex::default() });
        let entry = Entry { file: Arc::clone(&file), replaces };
        self.state().kept.insert(path.to_path_buf(), entry);
        Ok(Box::new(file))
    }

    /// Whether `inner` has a file that is still to be removed there.
    fn is_replaced(&self, path: &Path) -> bool {
        self.state().removed.remove(path)
    }
}

impl<S: Sink> Sink for Spool<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        if self.has(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let replaces = self.is_replaced(path);
        if replaces || self.state().holds {
            return self.keep(path, replaces);
        }
        self.inner.create(path)
    }

    fn create_urgent(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        if self.has(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let replaces = self.is_replaced(path);
        self.keep(path, replaces)
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        let kept = self.state().kept.get(path).map(|entry| entry.replaces);
        match kept {
            Some(replaces) => self.keep(path, replaces),
            None if !self.has(path) => Err(io::ErrorKind::NotFound.into()),
            None if self.state().holds => self.keep(path, true),
            None => self.inner.replace(path),
        }
    }

    fn link(&self, source: &Path, path: &Path) -> io::Result<bool> {
        if self.state().holds { Ok(false) } else { self.inner.link(source, path) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.has(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        {
            let mut state = self.state();
            let kept = state.kept.remove(path);
            if kept.as_ref().is_some_and(|entry| !entry.replaces) {
                return Ok(());
            }
            if state.holds || kept.is_some() {
                state.removed.insert(path.to_path_buf());
                return Ok(());
            }
        }
        self.inner.remove(path)
    }

    fn has(&self, path: &Path) -> bool {
        let state = self.state();
        state.kept.contains_key(path) || (!state.removed.contains(path) && self.inner.has(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state().removed_dirs.remove(path);
        self.inner.create_dir(path)
    }

    fn remove_empty_dir(&self, path: &Path) -> io::Result<()> {
        {
            let mut state = self.state();
            if state.holds {
                state.removed_dirs.insert(path.to_path_buf());
                return Ok(());
            }
        }
        self.inner.remove_empty_dir(path)
    }

    fn takes_any_offset(&self) -> bool {
        self.inner.takes_any_offset()
    }

    fn verb(&self) -> &'static str {
        self.inner.verb()
    }

    fn stored_as(&self, path: &Path) -> PathBuf {
        self.inner.stored_as(path)
    }

    fn hold(&self, holds: bool) {
        self.state().holds = holds;
    }

    fn sync_some(&self) -> io::Result<()> {
        self.inner.sync_some()
    }

    /// Sends what was kept.
    fn sync(&self) -> io::Result<()> {
        self.send()?;
        self.inner.sync()
    }

    fn complete(&self) -> io::Result<()> {
        self.send()?;
        self.inner.complete()
    }
}

impl<S: Sink> Spool<S> {
    fn send(&self) -> io::Result<()> {
        let State { holds: _, kept, removed, removed_dirs } = std::mem::take(&mut *self.state());
        removed.iter().try_for_each(|path| self.inner.remove(path))?;
        for (path, Entry { file, replaces }) in kept {
            let out = if replaces { self.inner.replace(&path) } else { self.inner.create(&path) };
            file.send(&*out?)?;
        }
        removed_dirs.iter().try_for_each(|path| self.inner.remove_empty_dir(path))
    }
}

/// A file that is kept.
struct Kept {
    file: File,
    /// Bytes, once it was finished.
    len: Mutex<Option<u64>>,
}

impl Kept {
    fn send(&self, out: &dyn SinkFile) -> io::Result<()> {
        let len = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        let len = len.ok_or_else(|| io::Error::other("a file was not finished"))?;
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < len {
            let part = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
            let bytes = buffer.get_mut(..part).unwrap_or_default();
            self.file.read_exact_at(bytes, at)?;
            out.write_at(at, bytes)?;
            at += part as u64;
        }
        out.finish(len)
    }
}

impl SinkFile for Arc<Kept> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        *self.len.lock().unwrap_or_else(PoisonError::into_inner) = Some(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sink::LocalDir;

    fn spool() -> (tempfile::TempDir, Spool<LocalDir>) {
        let dir = tempfile::tempdir().unwrap();
        let inner = LocalDir::create(&dir.path().join("backup")).unwrap();
        let spool = Spool::new(inner, dir.path());
        (dir, spool)
    }

    fn put(out: io::Result<Box<dyn SinkFile>>, bytes: &[u8]) {
        let out = out.unwrap();
        out.write_at(0, bytes).unwrap();
        out.finish(bytes.len() as u64).unwrap();
    }

    #[test]
    fn while_it_holds_nothing_reaches_the_other_sink() {
        let (dir, spool) = spool();
        let root = dir.path().join("backup");
        let [old, changed, gone, new, brief] =
            ["d/old", "d/changed", "gone/t", "new", "brief"].map(Path::new);
        for path in [old, changed, gone] {
            put(spool.create(path), b"first");
        }
        spool.hold(true);
        put(spool.replace(changed), b"2nd");
        spool.remove(gone).unwrap();
        spool.remove_empty_dir(Path::new("gone")).unwrap();
        put(spool.create(new), b"new");
        put(spool.create(brief), b"x");
        spool.remove(brief).unwrap();
        // Removed and there again, and once more.
        spool.remove(old).unwrap();
        put(spool.create(old), b"third");
        spool.remove(old).unwrap();
        put(spool.create(old), b"4th");
        for path in [old, changed, new] {
            assert_eq!(spool.create(path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        }
        for path in [gone, brief] {
            assert_eq!(spool.replace(path).err().unwrap().kind(), io::ErrorKind::NotFound);
            assert_eq!(spool.remove(path).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        for path in [old, changed, gone] {
            assert_eq!(fs::read(root.join(path)).unwrap(), b"first");
        }
        spool.hold(false);
        put(spool.create(Path::new("later")), b"later");
        assert!(!root.join(new).exists() && root.join("later").exists());
        spool.sync().unwrap();
        assert_eq!(fs::read(root.join(old)).unwrap(), b"4th");
        assert_eq!(fs::read(root.join(changed)).unwrap(), b"2nd");
        assert_eq!(fs::read(root.join(new)).unwrap(), b"new");
        assert!(!root.join("gone").exists() && !root.join(brief).exists());
    }

    #[test]
    fn a_folder_that_comes_back_stays() {
        let (dir, spool) = spool();
        put(spool.create(Path::new("d/t")), b"");
        spool.hold(true);
        spool.remove(Path::new("d/t")).unwrap();
        spool.remove_empty_dir(Path::new("d")).unwrap();
        spool.create_dir(Path::new("d")).unwrap();
        spool.sync().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("backup/d")).unwrap().count(), 0);
    }

    #[test]
    fn an_urgent_file_may_be_written_again() {
        let (dir, spool) = spool();
        let path = Path::new("ib_logfile0");
        let log = spool.create_urgent(path).unwrap();
        log.write_at(0, b"first, longer").unwrap();
        log.finish(13).unwrap();
        log.write_at(0, b"F").unwrap();
        log.finish(5).unwrap();
        assert!(!dir.path().join("backup/ib_logfile0").exists());
        assert_eq!(spool.create(path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        spool.sync().unwrap();
        assert_eq!(fs::read(dir.path().join("backup/ib_logfile0")).unwrap(), b"First");
        assert_eq!(spool.create(path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_file_that_was_not_finished_is_an_error() {
        let (_dir, spool) = spool();
        spool.create_urgent(Path::new("t")).unwrap().write_at(0, b"x").unwrap();
        assert!(spool.sync().is_err());
    }
}
