//! Copies the pages of tablespaces: by range, so that one big file keeps all threads busy; every
//! page verified on the very bytes that are written.
//!
//! A page can be seen torn while the server writes it: a page that fails is read again, with
//! pauses, before it is called damaged. What the server changes after a page was read is in the
//! redo log, so files may grow meanwhile; a file that shrinks must be one that the log truncates.

use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use innodb::SpaceId;
use innodb::doublewrite::TRX_SYS_PAGE_NO;
use innodb::encrypted::KeySource;
use innodb::flags::PageCompression;
use innodb::page::{ChecksumAlgorithm, SpaceContext};
use innodb::space::SpaceHeader;

use self::delta::{Changed, DeltaFile};
use self::holes::hole_at;
use self::queue::{Destination, OpenFile, Queue, Task};
use super::first_page::{self, FirstPage};
use super::source_file::SourceFile;
use super::spaces::{CopiedSpace, TableName};
use crate::hint::WithHint;
use crate::hints;
use crate::hooks::{self, dbug};
use crate::metadata::CorruptedPages;
use crate::report::Report;
use crate::sink::{self, Sink};

mod delta;
mod holes;
pub(crate) mod page_check;
mod queue;
mod throttle;
mod verify;

pub use self::delta::Changes;
pub use self::page_check::PageCheck;
pub use self::throttle::Throttle;

/// Bytes read, verified and written at a time: small enough to stay in a processor's cache.
const UNIT: usize = 1 << 20;
/// Bytes of changed pages that a thread keeps.
const KEPT: usize = 4 << 20;
/// How often a page that fails is read before it is called damaged (the reference: 10).
const TRIES: u32 = 10;

/// A tablespace file to copy.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the server has it.
    pub path: PathBuf,
    /// Where the backup gets it, relative.
    pub target: PathBuf,
    /// Bytes, as far as known: decides the order only.
    pub len: u64,
    /// Which pages it holds.
    pub kind: SourceKind,
}

impl Source {
    /// Whether it is a table that was there when the backup began.
    fn is_listed_table(&self) -> bool {
        matches!(self.kind, SourceKind::Table(_))
    }
}

/// Which pages a file holds.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// One of the files of the system tablespace.
    System {
        /// Number of the file's first page.
        first_page: u32,
        /// From the header of the first file.
        header: SpaceHeader,
    },
    /// An undo tablespace.
    Undo,
    /// A table of its own file.
    Table(TableName),
    /// A table that the server has just created: the redo log writes all of its pages, so that
    /// what the file holds need not be valid yet.
    New {
        /// The table.
        name: TableName,
        /// Its id, as the redo log tells.
        id: SpaceId,
    },
    /// A table that is copied after DDL was blocked; `initialised` if the redo log writes all of
    /// its pages, so that what the file holds need not be valid yet.
    LateTable {
        /// The table.
        name: TableName,
        /// Whether the redo log initialises the tablespace.
        initialised: bool,
    },
}

/// What all copies of a run came to.
#[derive(Debug, Default)]
pub struct Copied {
    /// Tables and undo tablespaces.
    pub spaces: HashMap<SpaceId, CopiedSpace>,
    /// Tables whose page 0 was not usable: the server had not written it yet.
    pub deferred: Vec<TableName>,
    /// Undo tablespaces of which some page was not usable or not there: good only if the redo
    /// log truncates them.
    pub suspect: HashMap<SpaceId, Suspect>,
    /// Damaged pages, if they are listed and copied as they are.
    pub corrupted: CorruptedPages,
    /// Tables whose file became another one's while it was copied: what was copied is useless.
    pub replaced: HashSet<SpaceId>,
    /// Files of the backup that were begun; each is whole unless the copy failed.
    pub written: HashSet<PathBuf>,
    /// Bytes read.
    pub bytes: u64,
}

/// The first unusable page of an undo tablespace.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with which page.
    pub problem: String,
}

/// Called again and again while files are copied; its error ends the copy. Without a complete log
/// and its locks a backup is worth nothing, however long it goes on.
pub type Check<'a> = &'a (dyn Fn() -> anyhow::Result<()> + Sync);

/// What the copy of pages needs of its surroundings.
pub struct PageCopy<'a> {
    /// Where pages go.
    pub sink: &'a dyn Sink,
    /// Messages and progress.
    pub report: &'a Report,
    /// What makes all pages useless.
    pub check: Check<'a>,
    /// Size of the instance's pages, bytes.
    pub page_size: usize,
    /// Which checksums older files may have.
    pub algorithm: ChecksumAlgorithm,
    /// Algorithms by which the server itself cannot read pages.
    pub missing_compressions: &'a [PageCompression],
    /// The server's keys.
    pub keys: Option<&'a dyn KeySource>,
    /// `--throttle`
    pub throttle: Option<Throttle>,
    /// `--parallel`
    pub threads: usize,
    /// Whether the server is held up meanwhile.
    pub is_urgent: bool,
    /// `--log-innodb-page-corruption`
    pub lists_corruption: bool,
    /// `--extended-validation`: an encrypted page must be good in its plain form, too.
    pub decrypted_pages: DecryptedPages,
    /// Which pages of tablespaces that the base of this incremental backup can have count. `None`:
    /// the backup is a full one.
    pub changes: Option<&'a Changes>,
}

/// What becomes of an encrypted page that is as the server wrote it, going by its checksum, but
/// that none of the server's keys turns into a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecryptedPages {
    /// It is as damaged as any other.
    MustBeGood,
    /// It is named and copied: so the server has it.
    AreNamed,
}

impl PageCopy<'_> {
    /// Copies all `sources`, the biggest first, but for tablespaces that were copied `before`;
    /// returns what all copies came to.
    ///
    /// # Errors
    ///
    /// A damaged page (file, page number, offset), any failure to read or write, and the end of
    /// the redo copy.
    pub fn run(&self, mut sources: Vec<Source>, before: Copied) -> anyhow::Result<Copied> {
        sources.sort_by_key(|source| source.len);
        let queue = Queue::new(sources, before);
        std::thread::scope(|scope| {
            for thread in 0..self.threads {
                let queue = &queue;
                scope.spawn(move || {
                    // The others would wait for ever for what this thread was doing.
                    let work = AssertUnwindSafe(|| self.work(queue, thread));
                    match catch_unwind(work) {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => queue.fail(error),
                        Err(_) => queue.fail(anyhow!("a copy thread ended unexpectedly")),
                    }
                });
            }
        });
        queue.into_result()
    }

    fn work(&self, queue: &Queue, thread: usize) -> anyhow::Result<()> {
        if !self.is_urgent {
            hints::yield_to_others();
        }
        let mut buffer = vec![0; UNIT];
        while let Some(task) = queue.next(self.sink.takes_any_offset()) {
            (self.check)()?;
            match task {
                Task::Open(source) => match self.open(queue, source, thread, &mut buffer)? {
                    Some((file, read)) if file.len <= UNIT as u64 => {
                        // A small file is done by the one that has read its start anyway.
                        queue.opened(None);
                        let len = usize::try_from(file.len).unwrap_or(UNIT);
                        let Some(bytes) = buffer.get_mut(..len).filter(|b| !b.is_empty()) else {
                            file.finish(self.report, thread)?;
                            continue;
                        };
                        let mut changed = Changed::default();
                        self.copy_unit(queue, &file, 0, bytes, read.min(len), &mut changed)?;
                        add_changed(queue, &file, 0, &mut changed)?;
                        file.finish(self.report, thread)?;
                    }
                    Some((file, _)) => queue.opened(Some(file)),
                    None => queue.opened(None),
                },
                Task::Range { file, start, end } => {
                    self.copy_range(queue, &file, start, end, &mut buffer)?;
                    queue.pass_turn(&file, start, end);
                    if queue.done(&file) {
                        file.finish(self.report, thread)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens a file and learns its id and format from page 0. Also returns how many bytes of its
    /// start are now in `buffer`. `None` where there is nothing to copy: the file vanished, its
    /// page 0 was never written, or it was copied by another name.
    fn open(
        &self,
        queue: &Queue,
        source: Source,
        thread: usize,
        buffer: &mut [u8],
    ) -> anyhow::Result<Option<(Arc<OpenFile>, usize)>> {
        hooks::reach(format_args!("before-file {}", source.target.display()));
        if source.is_listed_table() {
            dbug::table_event("before_copy", &source.target);
        }
        let file = match SourceFile::open(&source.path) {
            Ok(file) => file,
            Err(error) if is_gone(&error, &source.kind) => {
                self.report.say_as(
                    thread,
                    format_args!(
                        "{} was dropped or renamed before it was copied.",
                        source.path.display()
                    ),
                );
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("open {}", source.path.display()));
            }
        };
        let identity =
            file.identity().with_context(|| format!("stat {}", source.path.display()))?;
        let mut first_page = 0;
        let (header, read) = if let SourceKind::System { header, first_page: first } = &source.kind
        {
            first_page = *first;
            (Some(*header), 0)
        } else {
            let small = identity.size <= buffer.len() as u64;
            let wanted = if small { buffer.len() } else { first_page::MAX_PAGE };
            let start = buffer.get_mut(..wanted).context("read buffer too small")?;
            self.read_header(&file, &source, start)?
        };
        match (&header, &source.kind) {
            (_, SourceKind::System { .. }) | (None, SourceKind::LateTable { .. }) => {}
            (None, SourceKind::Table(name)) => {
                queue.defer(name.clone());
                return Ok(None);
            }
            (None, SourceKind::Undo) => bail!("{} has no header", source.path.display()),
            (header, kind) => {
                let name = match kind {
                    SourceKind::Table(name)
                    | SourceKind::New { name, .. }
                    | SourceKind::LateTable { name, .. } => name.clone(),
                    _ => TableName::of_undo(&source.target),
                };
                let id = match (header, kind) {
                    (Some(header), _) => header.space_id(),
                    (None, SourceKind::New { id, .. }) => *id,
                    (None, _) => bail!("{} has no header", source.path.display()),
                };
                if !queue.claim(id, CopiedSpace { name, identity }) {
                    self.report.say_as(
                        thread,
                        format_args!("{} was copied by its former name.", source.path.display()),
                    );
                    return Ok(None);
                }
            }
        }
        let context = header.map(|header| SpaceContext::new(&header, self.algorithm));
        // A partial page at the end is one that the server is just adding: the redo log has it.
        let page = header.map_or(1, |header| header.flags().page_size().physical()) as u64;
        let len = identity.size / page * page;
        let out =
            match (self.changes, &context, &source.kind) {
                (
                    Some(changes),
                    Some(context),
                    SourceKind::System { .. } | SourceKind::Undo | SourceKind::Table(_),
                ) => Destination::Changed(DeltaFile::create(
                    self.sink,
                    &source.target,
                    &file,
                    context,
                    changes,
                    matches!(source.kind, SourceKind::Table(_)),
                )?),
                _ => Destination::Whole(self.sink.create(&source.target).with_context(|| {
                    format!("create {} in the backup", source.target.display())
                })?),
            };
        queue.note_written(source.target.clone());
        self.report.say_as(thread, sink::announcement(self.sink, &source.path, &source.target));
        hooks::reach(format_args!("opened-file {}", source.target.display()));
        Ok(Some((Arc::new(OpenFile { source, file, out, context, first_page, len }), read)))
    }

    /// The header of a file that is not of the system tablespace; `None` when page 0 was never
    /// written, which is what a table looks like that the server has just created. Also returns
    /// how many bytes of the start of the file were read.
    fn read_header(
        &self,
        file: &SourceFile,
        source: &Source,
        start: &mut [u8],
    ) -> anyhow::Result<(Option<SpaceHeader>, usize)> {
        let path = &source.path;
        let tries = match &source.kind {
            // There is a second look at such tables, and waiting for each would add up.
            SourceKind::Table(_)
            | SourceKind::New { .. }
            | SourceKind::LateTable { initialised: true, .. } => 1,
            _ => first_page::UNWRITTEN_TRIES,
        };
        let (first, read) = first_page::read_start(file, self.algorithm, tries, start)
            .with_context(|| format!("read {}", path.display()))?;
        let header = self.judge_header(first, source)?;
        Ok((header, read))
    }

    fn judge_header(
        &self,
        first: FirstPage,
        source: &Source,
    ) -> anyhow::Result<Option<SpaceHeader>> {
        let path = &source.path;
        match (first, &source.kind) {
            (FirstPage::Header(header), _) => {
                let size = header.flags().page_size().logical();
                ensure!(
                    size == self.page_size,
                    "{} has pages of {size} bytes, the server of {}",
                    path.display(),
                    self.page_size
                );
                if let Some(algorithm) = header.flags().page_compression()
                    && self.missing_compressions.contains(&algorithm)
                {
                    return Err(anyhow!(
                        "{} is compressed by {algorithm}: the server has not loaded \
                         provider_{algorithm} and cannot read it itself",
                        path.display()
                    ))
                    .hint(format!("INSTALL SONAME 'provider_{algorithm}', or drop the table"));
                }
                Ok(Some(header))
            }
            (
                _,
                SourceKind::Table(_)
                | SourceKind::New { .. }
                | SourceKind::LateTable { initialised: true, .. },
            ) => Ok(None),
            (FirstPage::Unwritten, SourceKind::LateTable { .. }) => {
                self.report.say(format_args!(
                    "Warning: {} holds no tablespace; copied as it is.",
                    path.display()
                ));
                Ok(None)
            }
            (FirstPage::Unwritten, _) => bail!("page 0 of {} was never written", path.display()),
            (FirstPage::Damaged(problem), _) => {
                bail!("page 0 at offset 0 of {} is damaged: {problem}", path.display())
            }
        }
    }

    fn copy_range(
        &self,
        queue: &Queue,
        file: &Arc<OpenFile>,
        start: u64,
        end: u64,
        buffer: &mut [u8],
    ) -> anyhow::Result<()> {
        let mut offset = start;
        let mut changed = Changed::default();
        while offset < end {
            let hole = hole_at(file, offset, end)?;
            if hole > 0 {
                self.report.advance(hole);
                offset += hole;
                continue;
            }
            let unit = usize::try_from(end - offset).unwrap_or(UNIT).min(UNIT);
            let Some(bytes) = buffer.get_mut(..unit) else { bail!("read buffer too small") };
            self.copy_unit(queue, file, offset, bytes, 0, &mut changed)?;
            offset += unit as u64;
            if changed.len() >= KEPT {
                add_changed(queue, file, start, &mut changed)?;
            }
        }
        add_changed(queue, file, start, &mut changed)
    }

    /// Copies the bytes at `offset` that fill `bytes`, of which `read` were read already. In an
    /// incremental backup, adds to `changed` what is to be copied of them.
    fn copy_unit(
        &self,
        queue: &Queue,
        file: &OpenFile,
        offset: u64,
        bytes: &mut [u8],
        read: usize,
        changed: &mut Changed,
    ) -> anyhow::Result<()> {
        let len = bytes.len() as u64;
        if let Some(throttle) = &self.throttle {
            throttle.take(bytes.len());
        }
        let path = &file.source.path;
        let Some(rest) = bytes.get_mut(read..) else { bail!("read beyond the buffer") };
        let at = offset + read as u64;
        let got = file
            .file
            .read_at(rest, at)
            .with_context(|| format!("read {} at offset {at}", path.display()))?;
        if let Some(missing) = rest.get_mut(got..).filter(|rest| !rest.is_empty()) {
            // The server cut the file: only right where the log tells the same.
            missing.fill(0);
            queue.suspect(file, format!("the file ends at byte {}", at + got as u64))?;
        }
        let damaged = self.verify(queue, file, offset, bytes)?;
        match &file.out {
            Destination::Whole(out) => {
                let written = sink::write_nonzero(&**out, offset, bytes, file.hole_size());
                let target = file.source.target.display();
                written.with_context(|| format!("write {target} to the backup"))?;
            }
            Destination::Changed(delta) => {
                let first = offset / delta.page_size() as u64;
                changed.collect(delta, u32::try_from(first)?, bytes, &damaged);
                check_rollback_segments(file, changed)?;
            }
        }
        self.report.advance(len);
        queue.count(len);
        hooks::reach(format_args!("in-file {}", file.source.target.display()));
        Ok(())
    }
}

/// Adds the changed pages of the range from `start` on to their file, when it is their turn.
fn add_changed(
    queue: &Queue,
    file: &Arc<OpenFile>,
    start: u64,
    changed: &mut Changed,
) -> anyhow::Result<()> {
    let Destination::Changed(delta) = &file.out else { return Ok(()) };
    if changed.len() == 0 {
        return Ok(());
    }
    ensure!(queue.await_turn(file, start), "another thread failed");
    let target = file.source.target.display();
    delta.add(changed).with_context(|| format!("write {target}.delta to the backup"))
}

/// Fails where the rollback segments are no more where the base has them: they lie in undo
/// tablespaces that it lacks, and --prepare, ours or the reference's, makes no such file.
fn check_rollback_segments(file: &OpenFile, changed: &Changed) -> anyhow::Result<()> {
    let is_first = matches!(file.source.kind, SourceKind::System { first_page: 0, .. });
    if !is_first || !changed.contains(TRX_SYS_PAGE_NO) {
        return Ok(());
    }
    Err(anyhow!(
        "--incremental backup is impossible if the server had been restarted with different \
         innodb_undo_tablespaces."
    ))
    .hint("take a full backup")
}

fn is_gone(error: &io::Error, kind: &SourceKind) -> bool {
    let may_vanish = matches!(kind, SourceKind::Table(_) | SourceKind::New { .. });
    may_vanish && error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::path::Path;
    use std::time::Duration;

    use innodb::flags::SpaceFlags;
    use innodb::page::seal;
    use innodb::{Lsn, PageId, PageSize};

    use super::*;
    use crate::hint;
    use crate::sink::LocalDir;

    const PAGE: usize = 16384;
    const ID: u32 = 7;

    fn flags() -> SpaceFlags {
        SpaceFlags::full_crc32(PageSize::uncompressed(PAGE).unwrap())
    }

    /// A valid page of tablespace [`ID`] filled with its number.
    fn page(page_no: u32) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(page_no % 251).unwrap() + 1; PAGE];
        bytes[..38].fill(0);
        bytes[4..8].copy_from_slice(&page_no.to_be_bytes());
        bytes[34..38].copy_from_slice(&ID.to_be_bytes());
        if page_no == 0 {
            bytes[24..26].copy_from_slice(&8u16.to_be_bytes());
            bytes[38..42].copy_from_slice(&ID.to_be_bytes());
            bytes[46..50].copy_from_slice(&64u32.to_be_bytes());
            bytes[54..58].copy_from_slice(&flags().raw().to_be_bytes());
            bytes[150..].fill(0);
        }
        seal(&mut bytes, flags(), PageId::new(ID, page_no), Lsn(1000)).unwrap();
        bytes
    }

    fn tablespace(pages: u32) -> Vec<u8> {
        (0..pages).flat_map(page).collect()
    }

    struct Fixture {
        dir: tempfile::TempDir,
        sink: LocalDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("d")).unwrap();
            let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
            Self { dir, sink }
        }

        fn source(&self, name: &str, contents: &[u8]) -> Source {
            let path = self.dir.path().join("d").join(name);
            fs::write(&path, contents).unwrap();
            let table = TableName::of_file(&path).unwrap();
            let target = table.with_extension("ibd");
            Source { path, target, len: contents.len() as u64, kind: SourceKind::Table(table) }
        }

        fn copy(&self, sources: Vec<Source>) -> anyhow::Result<Copied> {
            self.copy_checking(sources, &|| Ok(()))
        }

        /// With `--log-innodb-page-corruption`.
        fn copy_listing(&self, sources: Vec<Source>) -> anyhow::Result<Copied> {
            let report = Report::to_stderr(false);
            let copy = PageCopy { lists_corruption: true, ..self.page_copy(&report, &|| Ok(())) };
            copy.run(sources, Copied::default())
        }

        fn copy_checking(
            &self,
            sources: Vec<Source>,
            check: &(dyn Fn() -> anyhow::Result<()> + Sync),
        ) -> anyhow::Result<Copied> {
            let report = Report::to_stderr(false);
            self.page_copy(&report, check).run(sources, Copied::default())
        }

        fn page_copy<'a>(&'a self, report: &'a Report, check: Check<'a>) -> PageCopy<'a> {
            PageCopy {
                sink: &self.sink,
                report,
                check,
                page_size: PAGE,
                algorithm: ChecksumAlgorithm::FullCrc32,
                missing_compressions: &[],
                keys: None,
                throttle: None,
                threads: 3,
                is_urgent: false,
                lists_corruption: false,
                decrypted_pages: DecryptedPages::MustBeGood,
                changes: None,
            }
        }

        fn backup(&self, name: &str) -> Vec<u8> {
            fs::read(self.dir.path().join("backup/d").join(name)).unwrap()
        }
    }

    #[test]
    fn all_pages_of_a_big_file_and_of_small_ones_are_copied() {
        let fixture = Fixture::new();
        let big = tablespace(1000);
        let small = tablespace(4);
        let mut sources = vec![fixture.source("big.ibd", &big)];
        // The same tablespace id twice would be one file seen by two names.
        let copied = fixture.copy(std::mem::take(&mut sources)).unwrap();
        assert_eq!(fixture.backup("big.ibd"), big);
        assert_eq!(copied.bytes, big.len() as u64);
        let fixture = Fixture::new();
        let copied = fixture.copy(vec![fixture.source("small.ibd", &small)]).unwrap();
        assert_eq!(fixture.backup("small.ibd"), small);
        assert!(copied.spaces.contains_key(&SpaceId(ID)));
    }

    #[test]
    fn file_seen_by_two_names_is_copied_once() {
        let fixture = Fixture::new();
        let bytes = tablespace(4);
        let sources = vec![fixture.source("a.ibd", &bytes), fixture.source("b.ibd", &bytes)];
        let copied = fixture.copy(sources).unwrap();
        assert_eq!(copied.spaces.len(), 1);
        let entries = fs::read_dir(fixture.dir.path().join("backup/d")).unwrap();
        assert_eq!(entries.count(), 1);
    }

    #[test]
    fn damaged_page_is_an_error_that_names_it() {
        let fixture = Fixture::new();
        let mut bytes = tablespace(8);
        bytes[5 * PAGE + 100] ^= 1;
        let error = fixture.copy(vec![fixture.source("a.ibd", &bytes)]).unwrap_err();
        let (error, hint) = hint::describe(&error);
        assert!(hint.unwrap().contains("--log-innodb-page-corruption"));
        assert!(error.contains("a.ibd"), "{error}");
        assert!(error.contains("page 5 at offset 81920"), "{error}");
    }

    #[test]
    fn page_that_is_being_written_is_read_again() {
        let fixture = Fixture::new();
        let bytes = tablespace(8);
        let mut torn = bytes.clone();
        torn[3 * PAGE + 8192..4 * PAGE].fill(0xaa);
        let source = fixture.source("a.ibd", &torn);
        let file = File::options().write(true).open(&source.path).unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            file.write_all_at(&page(3), 3 * PAGE as u64).unwrap();
        });
        fixture.copy(vec![source]).unwrap();
        writer.join().unwrap();
        assert_eq!(fixture.backup("a.ibd"), bytes);
    }

    #[test]
    fn damaged_pages_are_listed_and_copied_as_they_are() {
        let fixture = Fixture::new();
        let mut bytes = tablespace(200);
        // Many in a row too: all of them share the pauses.
        let damaged: Vec<usize> = [3].into_iter().chain(100..160).collect();
        for page_no in &damaged {
            bytes[page_no * PAGE + 999] ^= 0xff;
        }
        let sources =
            vec![fixture.source("a.ibd", &bytes), fixture.source("b.ibd", &tablespace(4))];
        let copied = fixture.copy_listing(sources).unwrap();
        assert_eq!(fixture.backup("a.ibd"), bytes);
        let numbers: Vec<String> = damaged.iter().map(usize::to_string).collect();
        let expected = format!("d/a {ID}\n{}\n", numbers.join(" "));
        assert_eq!(String::from_utf8(copied.corrupted.render()).unwrap(), expected);
    }

    #[test]
    fn damaged_pages_of_undo_and_system_tablespaces_are_listed() {
        let fixture = Fixture::new();
        let mut bytes = tablespace(64);
        bytes[40 * PAGE + 9] ^= 0xff;
        let mut undo = fixture.source("undo001.ibd", &bytes);
        (undo.kind, undo.target) = (SourceKind::Undo, "undo001".into());
        let copied = fixture.copy_listing(vec![undo]).unwrap();
        assert!(copied.suspect.is_empty());
        assert_eq!(copied.corrupted.render(), format!("undo001 {ID}\n40\n").as_bytes());

        // Pages count across the files of the system tablespace.
        let header = SpaceHeader::parse(&bytes).unwrap();
        let bytes: Vec<u8> = (64..80).flat_map(page).collect();
        let mut system = fixture.source("ibdata2.ibd", &bytes);
        system.kind = SourceKind::System { first_page: 64, header };
        system.target = "ibdata2".into();
        let mut file = bytes;
        file[7 * PAGE + 100] ^= 0xff;
        fs::write(&system.path, &file).unwrap();
        let copied = fixture.copy_listing(vec![system]).unwrap();
        assert_eq!(copied.corrupted.render(), format!("ibdata2 {ID}\n71\n").as_bytes());
    }

    /// Without page 0 nobody knows what the file is.
    #[test]
    fn damaged_page_0_is_an_error_even_where_damage_is_listed() {
        let fixture = Fixture::new();
        let mut bytes = tablespace(4);
        bytes[1000] ^= 0xff;
        let mut source = fixture.source("new.ibd", &bytes);
        let SourceKind::Table(name) = source.kind.clone() else { unreachable!() };
        source.kind = SourceKind::LateTable { name, initialised: false };
        let error = fixture.copy_listing(vec![source]).unwrap_err().to_string();
        assert!(error.contains("page 0 at offset 0"), "{error}");
    }

    #[test]
    fn zeros_and_a_partial_page_at_the_end() {
        let fixture = Fixture::new();
        let mut bytes = tablespace(4);
        bytes.extend(vec![0; 200 * PAGE]);
        let whole = bytes.len();
        bytes.extend([1, 2, 3]);
        fixture.copy(vec![fixture.source("a.ibd", &bytes)]).unwrap();
        assert_eq!(fixture.backup("a.ibd"), bytes[..whole]);
    }

    #[test]
    fn holes_are_neither_read_nor_written() {
        let fixture = Fixture::new();
        let source = fixture.source("sparse.ibd", &tablespace(4));
        let file = File::options().write(true).open(&source.path).unwrap();
        let (last, len) = (20 << 30, (20 << 30) + 4 * PAGE as u64);
        let page_no = u32::try_from(last / PAGE as u64).unwrap();
        file.write_all_at(&page(page_no), last).unwrap();
        file.set_len(len).unwrap();
        let copied = fixture.copy(vec![source]).unwrap();
        assert!(copied.bytes < 4 << 20, "{} bytes read", copied.bytes);
        let copy = File::open(fixture.dir.path().join("backup/d/sparse.ibd")).unwrap();
        let metadata = copy.metadata().unwrap();
        assert_eq!(metadata.len(), len);
        assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks", metadata.blocks());
        let mut bytes = vec![0; PAGE];
        copy.read_exact_at(&mut bytes, last).unwrap();
        assert_eq!(bytes, page(page_no));
    }

    #[test]
    fn table_whose_pages_were_not_written_yet_is_deferred() {
        let fixture = Fixture::new();
        let sources =
            vec![fixture.source("zeros.ibd", &vec![0; 4 * PAGE]), fixture.source("empty.ibd", &[])];
        let mut copied = fixture.copy(sources).unwrap();
        copied.deferred.sort();
        let name = |name| TableName::of_file(Path::new(name)).unwrap();
        assert_eq!(copied.deferred, [name("d/empty.ibd"), name("d/zeros.ibd")]);
        assert!(!fixture.dir.path().join("backup/d").exists());
    }

    #[test]
    fn late_table_that_the_log_initialises_is_copied_as_it_is() {
        let fixture = Fixture::new();
        let mut source = fixture.source("new.ibd", &vec![0; 4 * PAGE]);
        let SourceKind::Table(name) = source.kind.clone() else { unreachable!() };
        source.kind = SourceKind::LateTable { name, initialised: true };
        fixture.copy(vec![source]).unwrap();
        assert_eq!(fixture.backup("new.ibd"), vec![0; 4 * PAGE]);
    }

    #[test]
    fn garbage_that_the_log_does_not_initialise_is_an_error() {
        let fixture = Fixture::new();
        let mut source = fixture.source("new.ibd", &vec![0x55; 4 * PAGE]);
        let SourceKind::Table(name) = source.kind.clone() else { unreachable!() };
        source.kind = SourceKind::LateTable { name, initialised: false };
        let error = fixture.copy(vec![source]).unwrap_err().to_string();
        assert!(error.contains("page 0 at offset 0"), "{error}");
    }

    #[test]
    fn vanished_file_is_left_out() {
        let fixture = Fixture::new();
        let source = fixture.source("gone.ibd", &tablespace(4));
        fs::remove_file(&source.path).unwrap();
        let copied = fixture.copy(vec![source]).unwrap();
        assert!(copied.spaces.is_empty());
    }

    #[test]
    fn truncated_undo_tablespace_is_left_to_the_log() {
        let fixture = Fixture::new();
        let mut bytes = tablespace(64);
        bytes[40 * PAGE + 9] ^= 0xff;
        let mut source = fixture.source("undo001.ibd", &bytes);
        source.kind = SourceKind::Undo;
        let copied = fixture.copy(vec![source]).unwrap();
        let suspect = copied.suspect.get(&SpaceId(ID)).unwrap();
        assert!(suspect.problem.contains("page 40"), "{}", suspect.problem);
    }

    #[test]
    fn failed_redo_copy_ends_the_copy() {
        let fixture = Fixture::new();
        let sources = vec![fixture.source("a.ibd", &tablespace(4))];
        let error = fixture.copy_checking(sources, &|| bail!("overrun")).unwrap_err();
        assert_eq!(error.to_string(), "overrun");
    }

    #[test]
    fn panic_of_one_thread_ends_the_copy() {
        let fixture = Fixture::new();
        let sources = vec![fixture.source("a.ibd", &tablespace(4))];
        // It happens after the thread has taken the file, which the others wait for.
        let error = fixture.copy_checking(sources, &|| panic!("as the test wants it")).unwrap_err();
        assert_eq!(error.to_string(), "a copy thread ended unexpectedly");
    }
}
