//! Tables of schema `mysql` that the server itself writes to under every lock but the last: the
//! logs (`general_log`, `slow_log`), which can be big, and the statistics. They are copied like
//! all others at first; under each lock, and at last with commits blocked, only what has changed
//! since is written again.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use innodb::datadir::FileIdentity;

use super::other_files::{OtherFile, is_settled};
use super::plan::{Plan, is_written_under_locks};
use super::source_file::SourceFile;
use crate::sink::{self, Sink, SinkFile};
use crate::threads::in_threads;

/// Bytes of which a checksum tells whether they changed.
const BLOCK: usize = 64 << 10;
const BLOCK_U64: u64 = 64 << 10;
/// Extension of a MyISAM table's index file.
const MYISAM_INDEX: &str = "MYI";
/// Where that file has the length of the data file: 8 bytes, big endian (`mi_state_info_write` in
/// `mi_open.c`; checked on files of 10.11 and 11.8).
const MYISAM_DATA_LEN: std::ops::Range<usize> = 68..76;

/// The files of these tables while they are copied.
pub struct SystemTables<'a> {
    sink: &'a dyn Sink,
    threads: usize,
    files: HashMap<PathBuf, ChangingFile>,
}

impl<'a> SystemTables<'a> {
    /// Copies to `sink` in `threads` threads.
    pub fn new(sink: &'a dyn Sink, threads: usize) -> Self {
        Self { sink, threads, files: HashMap::new() }
    }

    /// Whether the file `target` is of these tables.
    pub fn has(&self, target: &Path) -> bool {
        self.files.contains_key(target)
    }

    /// Copies what the files of the tables in `plan` hold now; files that are not in it leave the
    /// backup. Says nothing: a slow reader of messages must not hold up the server.
    ///
    /// # Errors
    ///
    /// Any failure to read or write. A file that vanished or became shorter meanwhile is left out.
    pub fn copy(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let tables = plan
            .engine_tables
            .iter()
            .filter(|((database, table), _)| is_written_under_locks(database, table));
        let listed: Vec<&OtherFile> = tables.flat_map(|(_, table)| &table.files).collect();
        let same = |target: &PathBuf, file: &ChangingFile| {
            listed.iter().any(|listed| {
                listed.target == *target && listed.identity.is_same_file(&file.identity)
            })
        };
        let stale: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(target, file)| !same(target, file))
            .map(|(target, _)| target.clone())
            .collect();
        for target in stale {
            self.files.remove(&target);
            self.sink
                .remove(&target)
                .with_context(|| format!("remove {} from the backup", target.display()))?;
        }
        for file in listed {
            if !self.files.contains_key(&file.target)
                && let Some(opened) = ChangingFile::open(self.sink, file)?
            {
                self.files.insert(file.target.clone(), opened);
            }
        }
        self.update()
    }

    /// As [`copy`](Self::copy), of the same files: nobody can have made others meanwhile.
    ///
    /// # Errors
    ///
    /// As [`copy`](Self::copy).
    pub fn update(&mut self) -> anyhow::Result<()> {
        // MyISAM appends a row to the data file and then counts it in the index file. What the
        // data file holds beyond that count is of a later moment than the index file, read first.
        let is_index = |target: &Path| target.extension() == Some(OsStr::new(MYISAM_INDEX));
        self.update_those(&is_index)?;
        let indexes = self.files.iter().filter(|(target, _)| is_index(target));
        let ends: Vec<(PathBuf, u64)> = indexes
            .filter_map(|(target, index)| Some((target.with_extension("MYD"), index.data_len()?)))
            .collect();
        for (data, end) in ends {
            if let Some(data) = self.files.get_mut(&data) {
                data.set_end(end);
            }
        }
        self.update_those(&|target| !is_index(target))
    }

    fn update_those(&mut self, wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<()> {
        let files = self.files.iter_mut().filter(|(target, _)| wanted(target));
        let files: Vec<_> =
            files.map(|(target, file)| (target.display(), std::sync::Mutex::new(file))).collect();
        in_threads(self.threads, &files, |_, (target, file)| {
            let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let updated = file.update();
            updated
                .with_context(|| format!("copy {} to {target} in the backup", file.path.display()))
        })
    }
}

/// A file that changes while it is copied.
struct ChangingFile {
    path: PathBuf,
    source: SourceFile,
    out: Box<dyn SinkFile>,
    /// Checksums of the blocks that were copied; the last may be short.
    blocks: Vec<u32>,
    /// Bytes that were copied.
    len: u64,
    /// The file before it was read.
    identity: FileIdentity,
    /// Whether a later change must show in the identity.
    settled: bool,
    /// Whether its bytes, once written, stay.
    grows_only: bool,
    /// Where the copy ends, whatever the file holds behind it.
    end: u64,
    /// The first bytes of the copy.
    head: Vec<u8>,
}

impl ChangingFile {
    /// `None` where the file vanished.
    fn open(sink: &dyn Sink, file: &OtherFile) -> anyhow::Result<Option<Self>> {
        let source = match SourceFile::open(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("open {}", file.path.display()))?,
        };
        let identity =
            source.identity().with_context(|| format!("stat {}", file.path.display()))?;
        let out = sink::create_or_replace_urgent(sink, &file.target)
            .with_context(|| format!("create {} in the backup", file.target.display()))?;
        Ok(Some(Self {
            path: file.path.clone(),
            source,
            out,
            blocks: Vec::new(),
            len: 0,
            identity,
            settled: false,
            grows_only: file.path.extension().is_some_and(|extension| extension == "CSV"),
            end: u64::MAX,
            head: Vec::new(),
        }))
    }

    /// Ends the copy at byte `end`.
    fn set_end(&mut self, end: u64) {
        self.settled &= self.end == end;
        self.end = end;
    }

    /// Of a MyISAM index file: the length of the data file.
    fn data_len(&self) -> Option<u64> {
        let bytes = self.head.get(MYISAM_DATA_LEN)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }

    /// Writes to the copy what changed since the last time.
    fn update(&mut self) -> io::Result<()> {
        let now = SystemTime::now();
        let identity = self.source.identity()?;
        if self.settled && identity == self.identity {
            return Ok(());
        }
        let mut buffer = vec![0; BLOCK];
        let mut at = self.unchanged_blocks(&mut buffer)?;
        loop {
            let offset = at as u64 * BLOCK_U64;
            let len = self.source.read_at(&mut buffer, offset)?;
            let left = self.end.saturating_sub(offset);
            let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = buffer.get(..len).unwrap_or_default();
            if at == 0 {
                let head = bytes.get(..MYISAM_DATA_LEN.end).unwrap_or(bytes);
                self.head = head.to_vec();
            }
            if len == 0 {
                self.blocks.truncate(at);
                self.len = offset;
                break;
            }
            let (sum, end) = (crc32c::crc32c(bytes), offset + len as u64);
            let known = self.blocks.get_mut(at);
            // A block that was short when it was copied has the checksum of fewer bytes.
            let same = known.as_deref() == Some(&sum) && end <= self.len;
            match known {
                Some(known) => *known = sum,
                None => self.blocks.push(sum),
            }
            if !same {
                self.out.write_at(offset, bytes)?;
            }
            at += 1;
            if len < BLOCK {
                self.blocks.truncate(at);
                self.len = end;
                break;
            }
        }
        self.identity = identity;
        self.settled = is_settled(&identity, now);
        self.out.finish(self.len)
    }

    /// How many blocks from the start need no look. Of a file that only grows all whole ones,
    /// unless it was emptied and has grown again: then the last of them is another, because every
    /// row of a log begins with its time.
    fn unchanged_blocks(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let whole = usize::try_from(self.len / BLOCK_U64).unwrap_or(0);
        let (true, Some(last)) = (self.grows_only, whole.checked_sub(1)) else { return Ok(0) };
        let len = self.source.read_at(buffer, last as u64 * BLOCK_U64)?;
        let same = len == BLOCK && self.blocks.get(last) == Some(&crc32c::crc32c(buffer));
        Ok(if same { whole } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::LocalDir;
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    struct Case {
        dir: tempfile::TempDir,
        path: PathBuf,
        copy: ChangingFile,
    }

    impl Case {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let identity = FileIdentity::from(&fs::metadata(&path).unwrap());
            let file = OtherFile { path: path.clone(), target: name.into(), identity };
            let copy = ChangingFile::open(&sink, &file).unwrap().unwrap();
            let mut case = Self { dir, path, copy };
            case.assert_same();
            case
        }

        fn assert_same(&mut self) {
            self.copy.update().unwrap();
            let name = self.path.file_name().unwrap();
            let copy = fs::read(self.dir.path().join("backup").join(name)).unwrap();
            assert!(copy == fs::read(&self.path).unwrap(), "{}", copy.len());
        }

        fn append(&self, bytes: &[u8]) {
            let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
            file.write_all(bytes).unwrap();
        }

        /// Changes a byte of the copy, to see whether it is written again.
        fn spoil(&self, offset: u64) {
            self.copy.out.write_at(offset, b"?").unwrap();
        }

        fn is_spoilt(&self, offset: u64) -> bool {
            let name = self.path.file_name().unwrap();
            let copy = fs::read(self.dir.path().join("backup").join(name)).unwrap();
            copy[usize::try_from(offset).unwrap()] == b'?'
        }
    }

    #[test]
    fn whatever_length_a_file_has_and_gets() {
        for start in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            for more in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5] {
                for name in ["log.CSV", "log.MYD"] {
                    let mut case = Case::new(name, &vec![b'a'; start]);
                    case.append(&vec![b'b'; more]);
                    case.assert_same();
                    case.append(b"c");
                    case.assert_same();
                }
            }
        }
    }

    #[test]
    fn an_emptied_log_is_copied_anew() {
        for len in [0, 10, BLOCK, 3 * BLOCK, 5 * BLOCK + 1] {
            let mut case = Case::new("log.CSV", &vec![b'a'; 3 * BLOCK + 7]);
            OpenOptions::new().write(true).open(&case.path).unwrap().set_len(0).unwrap();
            case.append(&vec![b'b'; len]);
            case.assert_same();
        }
    }

    #[test]
    fn of_a_growing_file_the_tail_alone_is_written() {
        let mut case = Case::new("log.CSV", &vec![b'a'; 3 * BLOCK + 7]);
        case.spoil(1);
        case.spoil(3 * BLOCK_U64 + 1);
        case.append(b"b");
        case.copy.update().unwrap();
        assert!(case.is_spoilt(1));
        assert!(!case.is_spoilt(3 * BLOCK_U64 + 1));
    }

    #[test]
    fn of_other_files_the_changed_blocks_alone_are_written() {
        let mut case = Case::new("log.MYD", &vec![b'a'; 3 * BLOCK + 7]);
        case.spoil(1);
        case.spoil(BLOCK_U64 + 1);
        let file = OpenOptions::new().write(true).open(&case.path).unwrap();
        file.write_all_at(b"x", BLOCK_U64).unwrap();
        case.copy.update().unwrap();
        assert!(case.is_spoilt(1));
        assert!(!case.is_spoilt(BLOCK_U64 + 1));
        file.set_len(BLOCK_U64 + 1).unwrap();
        case.copy.update().unwrap();
        case.spoil(1);
        file.write_all_at(b"y", 0).unwrap();
        case.assert_same();
    }
}
