//! A backup as a stream in xbstream format: files go to the output in pieces, those of several files
//! in turn. What must not wait for the output goes through a [`Spool`](super::Spool).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xbstream::Writer;

use super::sequence::Sequence;
use super::{Sink, SinkFile};

/// Bytes of a file that are sent together.
const CHUNK: usize = 1 << 20;

/// A stream that a backup is written to.
pub struct Stream {
    output: Arc<Mutex<Writer<File>>>,
    files: Mutex<BTreeSet<PathBuf>>,
}

impl Stream {
    /// Writes to `output`.
    pub fn new(output: File) -> Self {
        Self { output: Arc::new(Mutex::new(Writer::new(output))), files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, path: &Path, rewrite: bool) -> Box<dyn SinkFile> {
        Box::new(StreamFile {
            path: path.to_path_buf(),
            rewrite,
            output: Arc::clone(&self.output),
            bytes: Mutex::new(Sequence::new(CHUNK)),
        })
    }
}

impl Sink for Stream {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        if !self.files().insert(path.to_path_buf()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.file(path, false))
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        if self.has(path) { Ok(self.file(path, true)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.files().remove(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        lock(&self.output).remove(path)
    }

    fn has(&self, path: &Path) -> bool {
        self.files().contains(path)
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

    fn verb(&self) -> &'static str {
        "Streaming"
    }

    fn sync_some(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether it arrives is up to whoever reads a pipe.
    fn sync(&self) -> io::Result<()> {
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
    bytes: Mutex<Sequence>,
}

impl StreamFile {
    fn bytes(&self) -> MutexGuard<'_, Sequence> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        lock(&self.output).payload(&self.path, at, bytes, self.rewrite)
    }
}

impl SinkFile for StreamFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.bytes().write_at(offset, bytes, &mut |at, piece| self.send(at, piece))
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        self.bytes().end(len, &mut |at, piece| self.send(at, piece))?;
        lock(&self.output).end(&self.path, self.rewrite)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Seek as _, SeekFrom};

    use xbstream::{Body, Reader};

    use super::super::Spool;
    use super::*;

    fn stream() -> (File, Spool<Stream>) {
        let file = tempfile::tempfile().unwrap();
        let stream = Stream::new(file.try_clone().unwrap());
        (file, Spool::new(stream, &std::env::temp_dir()))
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

    fn put(sink: &Spool<Stream>, path: &str, bytes: &[u8]) {
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
