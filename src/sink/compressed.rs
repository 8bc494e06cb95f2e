//! A sink that compresses files on their way to another one, each for itself. Threads of its own
//! share the pieces of all files; what is on its way is bounded.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::sequence::Sequence;
use super::{Sink, SinkFile};
use crate::compression::Compression;
use crate::hints;
use crate::metadata::MetadataNames;

/// Pieces of a file that may be on their way, for each thread.
const IN_FLIGHT: u64 = 3;

/// A sink that compresses.
pub struct Compressed<S> {
    inner: S,
    compression: Compression,
    in_flight: u64,
    /// Absent while the threads are ended.
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// A piece to be compressed.
struct Job {
    file: Arc<Packing>,
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl<S: Sink> Compressed<S> {
    /// Compresses files for `inner`, in so many threads.
    pub fn new(inner: S, compression: Compression, threads: usize) -> Self {
        let threads = threads.max(1);
        let (jobs, queue) = bounded(threads);
        let work = |queue: Receiver<Job>| {
            move || {
                hints::yield_to_others();
                queue.iter().for_each(Job::run);
            }
        };
        Self {
            inner,
            compression,
            in_flight: IN_FLIGHT * threads as u64,
            jobs: Some(jobs),
            threads: (0..threads).map(|_| thread::spawn(work(queue.clone()))).collect(),
        }
    }

    fn file(&self, path: &Path, out: Box<dyn SinkFile>) -> io::Result<Box<dyn SinkFile>> {
        if is_plain(path) {
            return Ok(out);
        }
        let jobs = self.jobs.clone().ok_or_else(gone)?;
        let head = self.compression.head(path);
        out.write_at(0, &head)?;
        let state = State { at: head.len() as u64, ..State::default() };
        let (compression, state, moved) = (self.compression, Mutex::new(state), Condvar::new());
        let packing = Arc::new(Packing { compression, out, state, moved });
        let bytes = Mutex::new(Sequence::new(compression.piece_len()));
        Ok(Box::new(CompressedFile { packing, bytes, jobs, in_flight: self.in_flight }))
    }
}

/// Scripts look into this file, so that it stays as it is.
fn is_plain(path: &Path) -> bool {
    [&MetadataNames::OLD, &MetadataNames::NEW]
        .iter()
        .any(|names| path == Path::new(names.checkpoints))
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses ended unexpectedly")
}

impl<S> Drop for Compressed<S> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // What it could not do was told to whoever waited for it.
            let _ = thread.join();
        }
    }
}

impl<S: Sink> Sink for Compressed<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        self.file(path, self.inner.create(&self.stored_as(path))?)
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        self.file(path, self.inner.replace(&self.stored_as(path))?)
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(&self.stored_as(path))
    }

    fn has(&self, path: &Path) -> bool {
        self.inner.has(&self.stored_as(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn remove_empty_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_empty_dir(path)
    }

    fn takes_any_offset(&self) -> bool {
        false
    }

    fn verb(&self) -> &'static str {
        match self.inner.verb() {
            "Streaming" => "Compressing and streaming",
            _ => "Compressing",
        }
    }

    fn stored_as(&self, path: &Path) -> PathBuf {
        if is_plain(path) {
            return path.to_path_buf();
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(self.compression.extension());
        name.into()
    }

    fn sync_some(&self) -> io::Result<()> {
        self.inner.sync_some()
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn complete(&self) -> io::Result<()> {
        self.inner.complete()
    }
}

/// A file that is compressed, on the side of its writer.
struct CompressedFile {
    packing: Arc<Packing>,
    bytes: Mutex<Sequence>,
    jobs: Sender<Job>,
    /// Pieces that may be on their way.
    in_flight: u64,
}

impl CompressedFile {
    fn bytes(&self) -> MutexGuard<'_, Sequence> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let number = self.packing.begin(self.in_flight)?;
        let job = Job { file: Arc::clone(&self.packing), number, offset, bytes: bytes.to_vec() };
        self.jobs.send(job).map_err(|_| gone())
    }
}

impl SinkFile for CompressedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.bytes().write_at(offset, bytes, &mut |at, piece| self.send(at, piece))
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        self.bytes().end(len, &mut |at, piece| self.send(at, piece))?;
        self.packing.finish(len)
    }
}

/// A file that is compressed, on the side of the threads.
struct Packing {
    compression: Compression,
    out: Box<dyn SinkFile>,
    state: Mutex<State>,
    /// A piece was written, or something failed.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Pieces that were handed out.
    begun: u64,
    /// Pieces that were written.
    written: u64,
    /// Bytes that were written.
    at: u64,
    /// Pieces whose turn has not come.
    ready: BTreeMap<u64, Vec<u8>>,
    /// What went wrong first, until it is told.
    error: Option<io::Error>,
    failed: bool,
}

impl State {
    fn check(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None if self.failed => Err(io::Error::other("the file could not be written before")),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: io::Error) {
        if !self.failed {
            (self.failed, self.error) = (true, Some(error));
        }
    }
}

impl Packing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer than `in_flight` pieces are on their way; the number of the next one.
    fn begin(&self, in_flight: u64) -> io::Result<u64> {
        let is_full = |state: &mut State| !state.failed && state.begun - state.written >= in_flight;
        let state = self.moved.wait_while(self.state(), is_full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.check()?;
        state.begun += 1;
        Ok(state.begun - 1)
    }

    /// Writes what is next of the pieces that are ready.
    fn put(&self, number: u64, piece: io::Result<Vec<u8>>) {
        let mut state = self.state();
        match piece {
            Ok(piece) => drop(state.ready.insert(number, piece)),
            Err(error) => state.fail(error),
        }
        while !state.failed {
            let next = state.written;
            let Some(piece) = state.ready.remove(&next) else { break };
            match self.out.write_at(state.at, &piece) {
                Ok(()) => {
                    state.at += piece.len() as u64;
                    state.written += 1;
                }
                Err(error) => state.fail(error),
            }
        }
        self.moved.notify_all();
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        let is_open = |state: &mut State| !state.failed && state.written < state.begun;
        let state = self.moved.wait_while(self.state(), is_open);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.check()?;
        let end = self.compression.end(len);
        self.out.write_at(state.at, &end)?;
        state.at += end.len() as u64;
        self.out.finish(state.at)
    }
}

impl Job {
    fn run(self) {
        let Self { file, number, offset, bytes } = self;
        // The writer would wait for ever for a piece that does not come.
        let work = AssertUnwindSafe(|| file.compression.piece(offset, &bytes));
        file.put(number, catch_unwind(work).unwrap_or_else(|_| Err(gone())));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::compression;
    use crate::sink::{self, LocalDir};

    fn sink(compression: Compression) -> (tempfile::TempDir, Compressed<LocalDir>) {
        let dir = tempfile::tempdir().unwrap();
        let inner = LocalDir::create(&dir.path().join("backup")).unwrap();
        (dir, Compressed::new(inner, compression, 3))
    }

    #[test]
    fn files_are_compressed_in_their_order() {
        let big: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        for compression in [Compression::QuickLz(5000), Compression::Zstd(1), Compression::Lz4] {
            let (dir, sink) = sink(compression);
            thread::scope(|scope| {
                for name in ["a", "b", "c"] {
                    let (sink, big) = (&sink, &big);
                    scope.spawn(move || {
                        let out = sink.create(Path::new(name)).unwrap();
                        out.write_at(3, b"abc").unwrap();
                        out.write_at(10, big).unwrap();
                        out.finish(big.len() as u64 + 20).unwrap();
                    });
                }
            });
            let expected = [&b"\0\0\0abc\0\0\0\0"[..], &big, &[0; 10]].concat();
            for name in ["a", "b", "c"] {
                let path = sink.stored_as(Path::new(name));
                assert_eq!(path.extension().unwrap(), compression.extension());
                let mut found = Vec::new();
                let file = File::open(dir.path().join("backup").join(&path)).unwrap();
                compression::unpack(file, &path, &mut found).unwrap();
                assert!(found == expected, "{name} by {compression:?}");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_files() {
        let (dir, sink) = sink(Compression::QuickLz(65536));
        let [t, checkpoints] = ["d/t.frm", "xtrabackup_checkpoints"].map(Path::new);
        for path in [t, checkpoints] {
            sink.create(path).unwrap().finish(0).unwrap();
            assert!(sink.has(path));
            assert_eq!(sink.create(path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        }
        let root = dir.path().join("backup");
        assert!(root.join("d/t.frm.qp").exists() && root.join(checkpoints).exists());
        sink::create_or_replace(&sink, t).unwrap().finish(0).unwrap();
        sink.remove(t).unwrap();
        assert!(!sink.has(t) && fs::read_dir(root.join("d")).unwrap().count() == 0);
    }

    /// A destination that is full.
    struct Full;

    impl SinkFile for Full {
        fn write_at(&self, offset: u64, _: &[u8]) -> io::Result<()> {
            if offset == 0 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn finish(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failed_write_is_told_and_ends_the_file() {
        let (_dir, sink) = sink(Compression::QuickLz(65536));
        let out = sink.file(Path::new("t"), Box::new(Full)).unwrap();
        let bytes = vec![7; 64 << 20];
        let error = out.write_at(0, &bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(out.finish(bytes.len() as u64).is_err());
    }
}
