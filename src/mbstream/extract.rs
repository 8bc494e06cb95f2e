//! A stream to files: one thread reads and checks, others write.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use crossbeam_channel::{Receiver, Sender, bounded};
use innodb::space::SpaceHeader;
use xbstream::{Body, Chunk, Reader};

use crate::metadata::backup_cnf::BACKUP_CNF;
use crate::report::Report;
use crate::sink::{self, LocalDir, Sink as _, SinkFile};
use crate::tar;
use crate::tar::reader::{Entry, Kind};

/// Bytes that are read and written at a time.
const PIECE: usize = 1 << 20;
/// Pieces that wait to be written, for each thread that writes.
const QUEUED: usize = 8;

/// Extracts the stream `input` into the directory `dir`. When it returns without an error, all
/// files are complete and on stable storage.
///
/// # Errors
///
/// A stream that is empty, cut, damaged or leads elsewhere; a file that is there already, which is
/// left as it is; what the system reports. What was extracted until then stays.
pub fn extract(
    input: impl Read,
    dir: &Path,
    threads: NonZeroUsize,
    report: &Report,
) -> anyhow::Result<()> {
    ensure!(dir.is_dir(), "Can't change dir to '{}': it is no directory", dir.display());
    let target = LocalDir::create(dir).with_context(|| format!("open {}", dir.display()))?;
    let (start, input) = peek(input).context("read the stream")?;
    let input = start.as_slice().chain(input);
    if start.first_chunk().is_some_and(tar::is_header) {
        extract_tar(input, &target, report)?;
        return target.sync().with_context(|| format!("sync {}", dir.display()));
    }
    let (pieces, queue) = bounded::<Piece>(threads.get() * QUEUED);
    let (spare, buffers) = bounded::<Vec<u8>>(threads.get() * QUEUED);
    let failure = Failure::default();
    thread::scope(|scope| {
        let failure = &failure;
        for _ in 0..threads.get() {
            let (queue, spare) = (queue.clone(), spare.clone());
            scope.spawn(move || write_pieces(queue, &spare, failure));
        }
        // Without it, nobody would be left to tell the reader that all who write are gone.
        drop(queue);
        let files = Files { target: &target, open: HashMap::new(), pieces, buffers, report };
        let mut reader = Reader::new(input);
        let read = files.read(&mut reader, failure).and_then(|()| check_is_whole(reader.ended()));
        if let Err(error) = read {
            failure.note(error);
        }
    });
    failure.into_result()?;
    target.sync().with_context(|| format!("sync {}", dir.display()))
}

/// The start of `input`, as much as tells its format.
fn peek<R: Read>(mut input: R) -> io::Result<(Vec<u8>, R)> {
    let mut start = Vec::new();
    input.by_ref().take(tar::BLOCK as u64).read_to_end(&mut start)?;
    Ok((start, input))
}

/// Extracts an archive, which `BACKUP SERVER` or `--stream=tar` wrote.
fn extract_tar(input: impl Read, target: &LocalDir, report: &Report) -> anyhow::Result<()> {
    let mut reader = tar::reader::Reader::new(input);
    let mut files = HashSet::new();
    let mut buffer = vec![0; PIECE];
    while let Some(Entry { path, kind }) = reader.next_entry()? {
        report.detail(path.display());
        let Kind::File(len) = kind else {
            target.create_dir(&path).with_context(|| format!("create {}", path.display()))?;
            continue;
        };
        ensure!(files.insert(path.clone()), "{} comes twice", path.display());
        let write = || format!("write {}", path.display());
        let out = target.create(&path).with_context(|| {
            format!("Can't create/write to file '{}': failed to create file", path.display())
        })?;
        while let Some((at, read)) = reader.read_piece(&mut buffer)? {
            let bytes = buffer.get(..read).unwrap_or_default();
            sink::write_nonzero(&*out, at, bytes, sink::hole_size(None)).with_context(write)?;
        }
        out.finish(len).with_context(write)?;
    }
    // BACKUP SERVER writes no end, but this file last of all.
    ensure!(
        reader.has_end() || files.contains(Path::new(BACKUP_CNF)),
        "the archive ends without the zeros that end one, and without {BACKUP_CNF}: it is cut"
    );
    check_is_whole(&files)
}

/// The first failure of any thread.
#[derive(Default)]
struct Failure {
    is_there: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

impl Failure {
    fn note(&self, error: anyhow::Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.is_there.store(true, Ordering::Relaxed);
    }

    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    fn into_result(self) -> anyhow::Result<()> {
        let error = self.error.into_inner().unwrap_or_else(PoisonError::into_inner);
        error.map_or(Ok(()), Err)
    }
}

/// Bytes of a file that are to be written.
struct Piece {
    file: Arc<Target>,
    offset: u64,
    bytes: Vec<u8>,
}

/// A file that is being written.
struct Target {
    path: PathBuf,
    out: Box<dyn SinkFile>,
    /// So many zeros become a hole.
    hole: AtomicUsize,
    len: AtomicU64,
    /// Pieces that are not written yet, and 1 until the stream says that the file has ended.
    shares: AtomicUsize,
}

impl Target {
    /// Gives up a share; the last one ends the file.
    fn release(&self) -> anyhow::Result<()> {
        if self.shares.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let end = self.out.finish(self.len.load(Ordering::Relaxed));
        end.with_context(|| format!("write {}", self.path.display()))
    }

    /// Waits until no piece is on its way, or something failed. Seldom needed, and for short.
    fn wait_until_written(&self, failure: &Failure) {
        while self.shares.load(Ordering::Acquire) > 1 && !failure.is_there() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let written =
            sink::write_nonzero(&*self.out, offset, bytes, self.hole.load(Ordering::Relaxed));
        written.with_context(|| format!("write {}", self.path.display()))?;
        self.len.fetch_max(offset + bytes.len() as u64, Ordering::Relaxed);
        self.release()
    }
}

fn write_pieces(queue: Receiver<Piece>, spare: &Sender<Vec<u8>>, failure: &Failure) {
    for Piece { file, offset, bytes } in queue {
        if failure.is_there() {
            continue;
        }
        if let Err(error) = file.write(offset, &bytes) {
            failure.note(error);
        }
        // There are enough if it is full.
        let _ = spare.try_send(bytes);
    }
}

/// The files of the stream, on the side that reads.
struct Files<'a> {
    target: &'a LocalDir,
    /// Files that have not ended, and where their next piece goes.
    open: HashMap<PathBuf, Arc<Target>>,
    pieces: Sender<Piece>,
    /// Buffers that were written.
    buffers: Receiver<Vec<u8>>,
    report: &'a Report,
}

impl Files<'_> {
    /// Reads the stream until it ends, or until there was a failure.
    fn read(mut self, reader: &mut Reader<impl Read>, failure: &Failure) -> anyhow::Result<()> {
        while let Some(Chunk { path, body }) = reader.next_chunk()? {
            if failure.is_there() {
                break;
            }
            match body {
                Body::Payload { offset, rewrite } => {
                    self.read_payload(reader, &path, offset, rewrite)?;
                }
                Body::Seek { rewrite } => {
                    let file = self.open(&path, rewrite, &[])?;
                    file.wait_until_written(failure);
                    // What is written over may not be zeros.
                    file.hole.store(usize::MAX, Ordering::Relaxed);
                }
                Body::End { rewrite } => {
                    self.open(&path, rewrite, &[])?.release()?;
                    self.open.remove(&path);
                }
                Body::Rename { to } => {
                    let renamed = self.target.rename(&path, &to);
                    renamed.with_context(|| format!("rename {}", path.display()))?;
                }
                Body::Remove { is_prefix } => {
                    let removed = self.target.remove_all(&path, is_prefix);
                    removed.with_context(|| format!("remove {}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    fn read_payload(
        &mut self,
        reader: &mut Reader<impl Read>,
        path: &Path,
        mut offset: u64,
        rewrite: bool,
    ) -> anyhow::Result<()> {
        loop {
            let mut bytes = self.buffers.try_recv().unwrap_or_default();
            bytes.resize(PIECE, 0);
            let len = reader.read_payload(&mut bytes)?;
            bytes.truncate(len);
            if len == 0 {
                return Ok(());
            }
            let file = self.open(path, rewrite, &bytes)?;
            file.shares.fetch_add(1, Ordering::Relaxed);
            let sent = self.pieces.send(Piece { file, offset, bytes });
            sent.map_err(|_| anyhow!("a thread that writes ended unexpectedly"))?;
            offset += len as u64;
        }
    }

    /// The file `path`, created if this is its first chunk, which has `bytes`.
    fn open(&mut self, path: &Path, rewrite: bool, bytes: &[u8]) -> anyhow::Result<Arc<Target>> {
        if let Some(file) = self.open.get(path) {
            return Ok(Arc::clone(file));
        }
        self.report.detail(path.display());
        let out = if rewrite {
            sink::create_or_replace(self.target, path)
        } else {
            self.target.create(path)
        };
        let out = out.with_context(|| {
            format!("Can't create/write to file '{}': failed to create file", path.display())
        })?;
        let flags = SpaceHeader::parse(bytes).ok().map(|header| header.flags());
        let file = Arc::new(Target {
            path: path.to_path_buf(),
            out,
            hole: AtomicUsize::new(sink::hole_size(flags)),
            len: AtomicU64::new(0),
            shares: AtomicUsize::new(1),
        });
        self.open.insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }
}

/// A stream that was cut between two files looks whole. That of a backup ends with the files that
/// tell about it.
fn check_is_whole(files: &HashSet<PathBuf>) -> anyhow::Result<()> {
    let has = |name: &str| files.iter().any(|path| is(path, name));
    let is_backup = (has("ib_logfile0") || has("aria_log_control")) && !has(BACKUP_CNF);
    for name in ["info", "checkpoints"] {
        let (old, new) = (format!("xtrabackup_{name}"), format!("mariadb_backup_{name}"));
        ensure!(
            !is_backup || has(&old) || has(&new),
            "the stream ends before the backup does: it has no {old} (or {new}), which comes late. \
             What was extracted is no backup"
        );
    }
    Ok(())
}

/// Whether `path` is the file `name` of a backup, perhaps compressed.
fn is(path: &Path, name: &str) -> bool {
    let rest = path.to_str().and_then(|path| path.strip_prefix(name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests;
