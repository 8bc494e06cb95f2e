//! A backup as a tar archive. Its entries begin with their lengths: each file is kept in a temporary
//! file until it has ended, then sent. What was sent cannot be taken back.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{Sink, SinkFile};
use crate::{durable, tar};

/// Bytes that are sent together.
const PIECE: usize = 1 << 20;

/// An archive that a backup is written to.
pub struct Archive {
    output: Arc<Mutex<File>>,
    /// Where files are kept.
    dir: PathBuf,
    files: Mutex<BTreeSet<PathBuf>>,
}

impl Archive {
    /// Writes to `output`; keeps files in the folder `dir` until they have ended.
    pub fn new(output: File, dir: &Path) -> Self {
        let output = Arc::new(Mutex::new(output));
        Self { output, dir: dir.to_path_buf(), files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is sent stays.
    fn refuse(&self, path: &Path) -> io::Error {
        if self.has(path) {
            io::Error::new(io::ErrorKind::Unsupported, "an archive cannot take back what it holds")
        } else {
            io::ErrorKind::NotFound.into()
        }
    }
}

impl Sink for Archive {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        if !self.files().insert(path.to_path_buf()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (file, output) = (durable::unnamed_file(&self.dir)?, Arc::clone(&self.output));
        Ok(Box::new(Member { path: path.to_path_buf(), file, output }))
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        Err(self.refuse(path))
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Err(self.refuse(path))
    }

    fn has(&self, path: &Path) -> bool {
        self.files().contains(path)
    }

    /// Folders come with the files in them.
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_empty_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn takes_any_offset(&self) -> bool {
        true
    }

    fn verb(&self) -> &'static str {
        "Streaming"
    }

    fn sync_some(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether it arrives is up to whoever reads a pipe.
    fn sync(&self) -> io::Result<()> {
        let output = lock(&self.output);
        // Nothing else can be synced.
        if output.metadata()?.is_file() { output.sync_all() } else { Ok(()) }
    }

    fn complete(&self) -> io::Result<()> {
        lock(&self.output).write_all(&tar::END)?;
        self.sync()
    }
}

fn lock(output: &Mutex<File>) -> MutexGuard<'_, File> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file on its way into an archive.
struct Member {
    path: PathBuf,
    file: File,
    output: Arc<Mutex<File>>,
}

impl SinkFile for Member {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        let mut output = lock(&self.output);
        output.write_all(&tar::head(&self.path, len, time.as_secs())?)?;
        let mut buffer = vec![0; PIECE];
        let mut left = len;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let bytes = buffer.get_mut(..part).unwrap_or_default();
            file.read_exact(bytes)?;
            output.write_all(bytes)?;
            left -= part as u64;
        }
        output.write_all(tar::END.get(..tar::padding(len)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.tar");
        let sink = Archive::new(File::create(&path).unwrap(), dir.path());
        let long = format!("d/{}", "n".repeat(200));
        for (name, len) in [("a", 0), ("d/t.ibd", 700_000), (&long, 512)] {
            let out = sink.create(Path::new(name)).unwrap();
            out.write_at(len / 2, &vec![b'x'; usize::try_from(len / 2).unwrap()]).unwrap();
            out.finish(len).unwrap();
        }
        let a = Path::new("a");
        assert_eq!(sink.create(a).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(sink.remove(a).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(sink.replace(Path::new("b")).err().unwrap().kind(), io::ErrorKind::NotFound);
        sink.complete().unwrap();
        let output = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("a\nd/t.ibd\n{long}\n"));
        let status = Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(dir.path()).status();
        assert!(status.unwrap().success());
        let found = std::fs::read(dir.path().join("d/t.ibd")).unwrap();
        assert!(found == [vec![0; 350_000], vec![b'x'; 350_000]].concat());
    }
}
