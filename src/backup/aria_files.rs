//! Aria's transaction log, and those Aria tables that may be copied while they are written: the
//! ones that Aria logs and whose pages have checksums. They are copied page by page, and made
//! whole by the recovery of the restored server, which replays the log.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use aria::log::LogSnapshot;
use aria::table::{FileKind, Generation, IndexHeader};
use innodb::encrypted::KeySource;
use mdl::lock::TableLocks;

use super::copy::Check;
use super::other_files::OtherFile;
use super::plan::{EngineTable, Plan, is_written_under_locks};
use super::source_file::SourceFile;
use crate::hooks::dbug;
use crate::report::Report;
use crate::sink::{self, Sink, SinkFile};
use crate::threads::in_threads;

/// Bytes read, verified and written at a time.
const UNIT: usize = 1 << 20;
/// Bytes in which the header of every index file ends.
const HEADER_MAX: usize = 8 << 10;
/// How often a page that fails is read, 100 ms apart, before it is called damaged.
const TRIES: u32 = 10;

/// Copies the log as it was at the moment of `snapshot`, and the control file.
///
/// # Errors
///
/// Any failure to read or write.
pub fn copy_log(snapshot: &LogSnapshot, sink: &dyn Sink) -> anyhow::Result<()> {
    let mut buffer = vec![0; UNIT];
    for file in &snapshot.files {
        let name = file.file_no().file_name();
        let out = sink
            .create(Path::new(&name))
            .with_context(|| format!("create {name} in the backup"))?;
        let mut offset = 0;
        while offset < file.len() {
            let unit = usize::try_from(file.len() - offset).unwrap_or(UNIT).min(UNIT);
            let bytes = buffer.get_mut(..unit).context("read buffer too small")?;
            file.read_exact_at(bytes, offset)
                .with_context(|| format!("read {name} at offset {offset}"))?;
            out.write_at(offset, bytes).with_context(|| format!("write {name} to the backup"))?;
            offset += unit as u64;
        }
        out.finish(offset).with_context(|| format!("finish {name} in the backup"))?;
    }
    if let Some(control) = &snapshot.control {
        let bytes = control.as_bytes();
        let written = sink.create(Path::new(aria::control::FILE_NAME)).and_then(|out| {
            out.write_at(0, bytes)?;
            out.finish(bytes.len() as u64)
        });
        written.context("write aria_log_control to the backup")?;
    }
    Ok(())
}

/// A file of a table that was copied, and what the table's header said before.
#[derive(Debug)]
struct CopiedFile {
    file: OtherFile,
    generation: Generation,
}

/// Aria tables that were copied while they could be written.
pub struct AriaTables<'a> {
    sink: &'a dyn Sink,
    report: &'a Report,
    locks: &'a TableLocks,
    check: Check<'a>,
    /// The server's keys.
    keys: Option<&'a dyn KeySource>,
    threads: usize,
    copied: Mutex<HashMap<PathBuf, CopiedFile>>,
}

impl<'a> AriaTables<'a> {
    /// Copies to `sink` in `threads` threads, opening each table under a lock, as long as `check`
    /// finds nothing.
    pub fn new(
        sink: &'a dyn Sink,
        report: &'a Report,
        locks: &'a TableLocks,
        check: Check<'a>,
        threads: usize,
    ) -> Self {
        Self { sink, report, locks, check, keys: None, threads, copied: Mutex::default() }
    }

    /// The keys with which pages of encrypted tables are verified; without, such tables are copied
    /// by somebody else, when nobody writes.
    pub fn set_keys(&mut self, keys: Option<&'a dyn KeySource>) {
        self.keys = keys;
    }

    /// Whether the file `target` is one of a table that was copied here.
    pub fn has(&self, target: &Path) -> bool {
        self.copied().contains_key(target)
    }

    /// Copies all tables of `plan` that allow it.
    ///
    /// # Errors
    ///
    /// A page that stays damaged, any failure to read or write.
    pub fn copy_online(&self, plan: &Plan) -> anyhow::Result<()> {
        let tables: Vec<_> = plan
            .engine_tables
            .iter()
            .filter(|((database, table), entry)| {
                entry.aria && !is_written_under_locks(database, table)
            })
            .collect();
        in_threads(self.threads, &tables, |thread, ((database, table_name), entry)| {
            let opened = {
                let _lock = self.locks.lock(thread, database, table_name)?;
                self.open_online(&entry.files)?
            };
            for table in opened {
                self.copy(&table, thread)?;
            }
            dbug::table_event("after_aria_table_copy", &Path::new(database).join(table_name));
            Ok(())
        })
    }

    /// Opens the files of a table, or of each of its partitions, that may be copied online.
    fn open_online(&self, files: &[OtherFile]) -> anyhow::Result<Vec<OpenTable>> {
        let mut opened = Vec::new();
        for index in files.iter().filter(|file| is_index(file)) {
            let data_path = index.path.with_extension("MAD");
            let Some(data) = files.iter().find(|file| file.path == data_path) else { continue };
            if let Some(table) = OpenTable::open(index, data, self.keys.is_some())? {
                opened.push(table);
            }
        }
        Ok(opened)
    }

    fn copy(&self, table: &OpenTable, thread: usize) -> anyhow::Result<()> {
        let files = [
            (&table.index, &table.index_file, FileKind::Index),
            (&table.data, &table.data_file, FileKind::Data),
        ];
        for (file, source, kind) in files {
            let target = file.target.display();
            self.report.say_as(thread, sink::announcement(self.sink, &file.path, &file.target));
            let out = sink::create_or_replace(self.sink, &file.target);
            let out = out.with_context(|| format!("create {target} in the backup"))?;
            let len = self
                .copy_pages(source, &*out, &table.header, kind)
                .with_context(|| format!("copy {} to {target}", file.path.display()))?;
            out.finish(len).with_context(|| format!("finish {target} in the backup"))?;
            let identity = source.identity().with_context(|| format!("stat {target}"))?;
            let copied = OtherFile { identity, ..file.clone() };
            let generation = table.header.generation();
            let copied = CopiedFile { file: copied, generation };
            self.copied().insert(file.target.clone(), copied);
            self.report.say_as(thread, "        ...done");
        }
        Ok(())
    }

    /// With DDL blocked: copies tables whose files are others than were copied, or were written to
    /// without the log, forgets tables that are gone or may no longer be copied like this (someone
    /// else copies those anew).
    ///
    /// # Errors
    ///
    /// As [`copy_online`](Self::copy_online).
    pub fn reconcile(&self, plan: &Plan) -> anyhow::Result<()> {
        let mut listed = HashMap::new();
        for entry in plan.engine_tables.values().filter(|entry| entry.aria) {
            for file in &entry.files {
                listed.insert(file.target.clone(), file.identity);
            }
        }
        let same = |copy: &CopiedFile| {
            let file = &copy.file;
            let now = listed.get(&file.target);
            now.is_some_and(|now| now.is_same_file(&file.identity))
                && (!is_index(file) || read_generation(&file.path) == Some(copy.generation))
        };
        // The two files of a table are of use only together.
        let stale = Mutex::new(HashSet::new());
        {
            let known = self.copied();
            let copies: Vec<&CopiedFile> = known.values().collect();
            in_threads(self.threads, &copies, |_, copy| {
                if !same(copy) {
                    let files = ["MAI", "MAD"].map(|ext| copy.file.target.with_extension(ext));
                    stale.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
                }
                Ok(())
            })?;
        }
        let stale = stale.into_inner().unwrap_or_else(PoisonError::into_inner);
        for target in stale {
            self.report.say(format_args!("Removing {}", target.display()));
            self.sink
                .remove(&target)
                .with_context(|| format!("remove {} from the backup", target.display()))?;
            self.copied().remove(&target);
        }
        let changed: Vec<&EngineTable> = plan
            .engine_tables
            .iter()
            .filter(|((database, table), entry)| {
                let done = entry.files.iter().all(|file| self.has(&file.target));
                entry.aria && !done && !is_written_under_locks(database, table)
            })
            .map(|(_, entry)| entry)
            .collect();
        in_threads(self.threads, &changed, |thread, entry| {
            for table in self.open_online(&entry.files)? {
                self.copy(&table, thread)?;
            }
            Ok(())
        })
    }

    /// Copies a file page by page, each verified; returns its size.
    fn copy_pages(
        &self,
        source: &SourceFile,
        out: &dyn SinkFile,
        header: &IndexHeader,
        kind: FileKind,
    ) -> anyhow::Result<u64> {
        let page_size = header.block_size();
        let unit = UNIT / page_size * page_size;
        let mut buffer = vec![0; unit];
        let mut offset = 0;
        loop {
            (self.check)()?;
            let len = source.read_at(&mut buffer, offset).context("read")?;
            let Some(bytes) = buffer.get_mut(..len) else { bail!("read beyond the buffer") };
            for (index, page) in bytes.chunks_mut(page_size).enumerate() {
                let at = offset + (index * page_size) as u64;
                self.verify_page(source, header, kind, at, page)?;
            }
            out.write_at(offset, bytes).context("write")?;
            self.report.advance(len as u64);
            offset += len as u64;
            if len < unit {
                return Ok(offset);
            }
        }
    }

    /// Checks a page, and reads it again where it fails.
    fn verify_page(
        &self,
        source: &SourceFile,
        header: &IndexHeader,
        kind: FileKind,
        offset: u64,
        page: &mut [u8],
    ) -> anyhow::Result<()> {
        for attempt in 0.. {
            let verified = match self.keys {
                Some(keys) => header.verify_page_with(keys, kind, offset, page),
                None => header.verify_page(kind, offset, page).map_err(Into::into),
            };
            match verified {
                Ok(()) => break,
                Err(error) if attempt == TRIES => {
                    return Err(error)
                        .with_context(|| format!("page at offset {offset} is damaged"));
                }
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(if attempt == 0 { 1 } else { 100 }));
            source.read_at(page, offset)?;
        }
        Ok(())
    }

    fn copied(&self) -> MutexGuard<'_, HashMap<PathBuf, CopiedFile>> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_index(file: &OtherFile) -> bool {
    file.path.extension().is_some_and(|extension| extension == "MAI")
}

/// `None` where the header cannot be read: then the table is copied again.
fn read_generation(path: &Path) -> Option<Generation> {
    let mut start = vec![0; HEADER_MAX];
    let len = SourceFile::open(path).ok()?.read_at(&mut start, 0).ok()?;
    Some(IndexHeader::parse(start.get(..len)?).ok()?.generation())
}

/// A table, or a partition of one, whose two files belong together.
struct OpenTable {
    index: OtherFile,
    index_file: SourceFile,
    data: OtherFile,
    data_file: SourceFile,
    header: IndexHeader,
}

impl OpenTable {
    /// `None` where the table vanished or must not be copied while it is written.
    fn open(index: &OtherFile, data: &OtherFile, has_keys: bool) -> anyhow::Result<Option<Self>> {
        let open = |file: &OtherFile| match SourceFile::open(&file.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).with_context(|| format!("open {}", file.path.display())),
        };
        let (Some(index_file), Some(data_file)) = (open(index)?, open(data)?) else {
            return Ok(None);
        };
        let mut start = vec![0; HEADER_MAX];
        let len = index_file
            .read_at(&mut start, 0)
            .with_context(|| format!("read {}", index.path.display()))?;
        match IndexHeader::parse(start.get(..len).unwrap_or_default()) {
            Ok(header) if header.is_online_safe() && (has_keys || !header.is_encrypted()) => {
                Ok(Some(Self {
                    index: index.clone(),
                    index_file,
                    data: data.clone(),
                    data_file,
                    header,
                }))
            }
            // Other tables are copied under a lock, whatever their header says.
            _ => Ok(None),
        }
    }
}
