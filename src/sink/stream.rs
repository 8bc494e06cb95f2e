//! A backup as a stream in xbstream format.
//!
//! Files go to the output in pieces, those of several files in turn. What must not wait for the
//! output, or is written more than once, is kept in temporary files until [`Sink::sync`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xbstream::Writer;

use super::{Sink, SinkFile};
use crate::durable;

/// Bytes of a file that are sent together.
const CHUNK: usize = 1 << 20;

/// A stream that a backup is written to.
pub struct Stream {
    output: Arc<Mutex<Writer<File>>>,
    /// Where files are kept that cannot be sent yet.
    tmpdir: PathBuf,
    files: Mutex<BTreeMap<PathBuf, Place>>,
}

/// Where a file is.
enum Place {
    /// In the stream.
    Sent,
    /// In a temporary file.
    Kept(Arc<Kept>),
}

impl Stream {
    /// Writes to `output`; keeps in the folder `tmpdir` what cannot be sent yet.
    pub fn new(output: File, tmpdir: &Path) -> Self {
        let output = Arc::new(Mutex::new(Writer::new(output)));
        Self { output, tmpdir: tmpdir.to_path_buf(), files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Place>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a new file.
    fn begin(&self, path: &Path, place: Place) -> io::Result<()> {
        let mut files = self.files();
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        files.insert(path.to_path_buf(), place);
        Ok(())
    }

    fn file(&self, path: &Path, rewrite: bool) -> StreamFile {
        let output = Arc::clone(&self.output);
        StreamFile { path: path.to_path_buf(), rewrite, output, state: Mutex::default() }
    }
}

impl Sink for Stream {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        self.begin(path, Place::Sent)?;
        Ok(Box::new(self.file(path, false)))
    }

    fn create_urgent(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        let file = durable::unnamed_file(&self.tmpdir)?;
        let kept = Arc::new(Kept { file, len: Mutex::default() });
        self.begin(path, Place::Kept(Arc::clone(&kept)))?;
        Ok(Box::new(kept))
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        let before = self.files().insert(path.to_path_buf(), Place::Sent);
        match before {
            Some(Place::Sent) => Ok(Box::new(self.file(path, true))),
            Some(Place::Kept(_)) => Ok(Box::new(self.file(path, false))),
            None => {
                self.files().remove(path);
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let before = self.files().remove(path);
        match before {
            Some(Place::Sent) => lock(&self.output).remove(path),
            Some(Place::Kept(_)) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// There are no folders in a stream, only files in them.
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_empty_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn takes_any_offset(&self) -> bool {
        false
    }

    fn sync_some(&self) -> io::Result<()> {
        Ok(())
    }

    /// Sends what was kept. Whether it arrives is up to whoever reads a pipe.
    fn sync(&self) -> io::Result<()> {
        let kept: Vec<_> = self
            .files()
            .iter_mut()
            .filter_map(|(path, place)| match std::mem::replace(place, Place::Sent) {
                Place::Kept(kept) => Some((path.clone(), kept)),
                Place::Sent => None,
            })
            .collect();
        for (path, kept) in kept {
            kept.send(&self.file(&path, false))?;
        }
        lock(&self.output).sync()
    }
}

fn lock(output: &Mutex<Writer<File>>) -> MutexGuard<'_, Writer<File>> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Durability of an output.
trait SyncOutput {
    fn sync(&mut self) -> io::Result<()>;
}

impl SyncOutput for Writer<File> {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        let file = self.get_ref();
        // Nothing else can be synced.
        if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
    }
}

/// A file that is sent while it is written, from start to end.
struct StreamFile {
    path: PathBuf,
    rewrite: bool,
    output: Arc<Mutex<Writer<File>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that were sent.
    sent: u64,
    /// Those that follow.
    buffer: Vec<u8>,
}

impl StreamFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, sent: &mut u64, bytes: &[u8]) -> io::Result<()> {
        lock(&self.output).payload(&self.path, *sent, bytes, self.rewrite)?;
        *sent += bytes.len() as u64;
        Ok(())
    }

    fn append(&self, state: &mut State, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if state.buffer.is_empty() && bytes.len() >= CHUNK {
                let (whole, rest) = bytes.split_at(bytes.len() / CHUNK * CHUNK);
                whole.chunks(CHUNK).try_for_each(|chunk| self.send(&mut state.sent, chunk))?;
                bytes = rest;
                continue;
            }
            let (some, rest) = bytes.split_at(bytes.len().min(CHUNK - state.buffer.len()));
            state.buffer.extend_from_slice(some);
            bytes = rest;
            if state.buffer.len() == CHUNK {
                self.send(&mut state.sent, &state.buffer)?;
                state.buffer.clear();
            }
        }
        Ok(())
    }

    /// Adds zeros up to byte `end`; the stream knows no holes.
    fn fill(&self, state: &mut State, end: u64) -> io::Result<()> {
        let zeros = [0; 16 << 10];
        loop {
            let at = state.sent + state.buffer.len() as u64;
            let Some(missing) = end.checked_sub(at) else {
                let text = format!("{}: byte {end} comes after byte {at}", self.path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            let len = usize::try_from(missing).unwrap_or(usize::MAX).min(zeros.len());
            let Some(zeros) = zeros.get(..len).filter(|zeros| !zeros.is_empty()) else {
                return Ok(());
            };
            self.append(state, zeros)?;
        }
    }
}

impl SinkFile for StreamFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        self.fill(&mut state, offset)?;
        self.append(&mut state, bytes)
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        self.fill(&mut state, len)?;
        let State { sent, buffer } = &mut *state;
        self.send(sent, buffer)?;
        buffer.clear();
        lock(&self.output).end(&self.path, self.rewrite)
    }
}

/// A file that is kept until the end of the backup.
struct Kept {
    file: File,
    /// Bytes, once it was finished.
    len: Mutex<Option<u64>>,
}

impl Kept {
    fn send(&self, out: &dyn SinkFile) -> io::Result<()> {
        let len = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        let len = len.ok_or_else(|| io::Error::other("a file was not finished"))?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < len {
            let part = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
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
    use std::io::{Seek as _, SeekFrom};

    use xbstream::{Body, Reader};

    use super::*;

    fn stream() -> (File, Stream) {
        let file = tempfile::tempfile().unwrap();
        let stream = Stream::new(file.try_clone().unwrap(), &std::env::temp_dir());
        (file, stream)
    }

    /// Files of the stream, and the order of their ends.
    fn files(mut stream: File) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<PathBuf>) {
        stream.seek(SeekFrom::Start(0)).unwrap();
        let mut reader = Reader::new(stream);
        let (mut files, mut ended) = (BTreeMap::<PathBuf, Vec<u8>>::new(), Vec::new());
        while let Some(chunk) = reader.next_chunk().unwrap() {
            match chunk.body {
                Body::Payload { offset, rewrite } => {
                    let bytes = files.entry(chunk.path).or_default();
                    if rewrite && offset == 0 {
                        bytes.clear();
                    }
                    let mut buffer = vec![0; CHUNK];
                    loop {
                        let len = reader.read_payload(&mut buffer).unwrap();
                        if len == 0 {
                            break;
                        }
                        bytes.extend(&buffer[..len]);
                    }
                }
                Body::End { .. } => {
                    files.entry(chunk.path.clone()).or_default();
                    ended.push(chunk.path);
                }
                Body::Remove { is_prefix: false } => drop(files.remove(&chunk.path)),
                other => panic!("{other:?}"),
            }
        }
        (files, ended)
    }

    fn put(sink: &Stream, path: &str, bytes: &[u8]) {
        let file = sink.create(Path::new(path)).unwrap();
        file.write_at(0, bytes).unwrap();
        file.finish(bytes.len() as u64).unwrap();
    }

    #[test]
    fn pieces_and_holes_make_the_file() {
        let (output, sink) = stream();
        let big: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = sink.create(Path::new("d/t.ibd")).unwrap();
        file.write_at(3, b"abc").unwrap();
        file.write_at(10, &big).unwrap();
        file.finish(big.len() as u64 + 20).unwrap();
        put(&sink, "empty", b"");
        let (files, _) = files(output);
        let expected = [&b"\0\0\0abc\0\0\0\0"[..], &big, &[0; 10]].concat();
        assert!(files[Path::new("d/t.ibd")] == expected);
        assert!(files[Path::new("empty")].is_empty());
    }

    #[test]
    fn bytes_cannot_be_taken_back() {
        let (_, sink) = stream();
        let file = sink.create(Path::new("t")).unwrap();
        file.write_at(0, b"abc").unwrap();
        assert_eq!(file.write_at(2, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(file.finish(2).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn urgent_files_come_last_as_they_were_in_the_end() {
        let (output, sink) = stream();
        let log = sink.create_urgent(Path::new("ib_logfile0")).unwrap();
        log.write_at(0, b"first, longer").unwrap();
        log.finish(13).unwrap();
        put(&sink, "t", b"1");
        log.write_at(0, b"F").unwrap();
        log.finish(5).unwrap();
        sink.sync().unwrap();
        put(&sink, "xtrabackup_checkpoints", b"2");
        sink.sync().unwrap();
        let (files, ended) = files(output);
        assert_eq!(files[Path::new("ib_logfile0")], b"First");
        let order = ["t", "ib_logfile0", "xtrabackup_checkpoints"].map(PathBuf::from);
        assert_eq!(ended, order);
    }

    #[test]
    fn own_files_are_replaced_and_removed() {
        let (output, sink) = stream();
        let [t, kept, other] = ["t", "kept", "other"].map(Path::new);
        put(&sink, "t", b"first, longer");
        let error = sink.create(t).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let file = sink.replace(t).unwrap();
        file.write_at(0, b"2nd").unwrap();
        file.finish(3).unwrap();
        sink.create_urgent(kept).unwrap();
        sink.remove(kept).unwrap();
        assert_eq!(sink.replace(other).err().unwrap().kind(), io::ErrorKind::NotFound);
        assert_eq!(sink.remove(other).unwrap_err().kind(), io::ErrorKind::NotFound);
        put(&sink, "other", b"x");
        sink.remove(other).unwrap();
        sink.sync().unwrap();
        let (files, _) = files(output);
        assert_eq!(files.into_iter().collect::<Vec<_>>(), [(t.into(), b"2nd".to_vec())]);
    }
}
