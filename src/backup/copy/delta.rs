//! The files of an incremental backup: of a tablespace file the pages that changed, and what
//! tablespace they are of.
//!
//! Pages stand in a file in the order of their numbers, however many threads look for them: each
//! takes ranges, keeps the changed pages of a range, and adds them when it is the range's turn.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use innodb::delta::DeltaLayout;
use innodb::page::{Page, SpaceContext};
use innodb::{Lsn, PageNo};

use crate::backup::source_file::SourceFile;
use crate::durable;
use crate::metadata::SpaceMeta;
use crate::metadata::space_meta::delta_names;
use crate::sink::{Sink, SinkFile};

/// Bytes of a block kept in memory for a destination that needs files in order.
const HELD: usize = 16 << 20;

/// Which pages count as changed. The only source of them, a look at all pages, is behind this.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Those with a later LSN.
    pub since: Lsn,
    /// All pages of tables whose file was made later than this: IMPORT TABLESPACE keeps the LSNs that the pages
    /// had wherever they come from. `None`: nobody knows when the base was taken.
    pub base_time: Option<SystemTime>,
    /// Where blocks are kept that are too big for the memory.
    pub tmpdir: PathBuf,
}

impl Changes {
    /// The LSN beyond which pages of `file` count as changed; `None`: all but zeros do.
    fn since(&self, file: &SourceFile) -> Option<Lsn> {
        let born = file.created();
        let is_young = self.base_time.is_some_and(|time| born.is_ok_and(|born| born >= time));
        (!is_young).then_some(self.since)
    }
}

/// Changed pages of a range, which are still to be added to the file.
#[derive(Debug, Default)]
pub struct Changed {
    numbers: Vec<PageNo>,
    bytes: Vec<u8>,
}

impl Changed {
    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes those pages of `bytes` that belong into `file`, `first` being the number of the first
    /// page in its data file: those that changed, and those that start at a byte of `damaged`.
    pub fn collect(&mut self, file: &DeltaFile, first: u32, bytes: &[u8], damaged: &[usize]) {
        for (number, (index, page)) in (first..).zip(bytes.chunks_exact(file.page_size).enumerate())
        {
            let is_changed = Page::new(page).is_some_and(|page| match file.since {
                Some(since) => page.lsn() > since,
                None => !page.is_zero(),
            });
            if is_changed || damaged.contains(&(index * file.page_size)) {
                self.numbers.push(PageNo(number));
                self.bytes.extend_from_slice(page);
            }
        }
    }

    /// Whether page `number` of its data file is among them.
    pub fn contains(&self, number: u32) -> bool {
        self.numbers.binary_search(&PageNo(number)).is_ok()
    }
}

/// A file of changed pages that is being written.
pub struct DeltaFile {
    out: Box<dyn SinkFile>,
    page_size: usize,
    /// Pages with a later LSN count; `None`: all but zeros.
    since: Option<Lsn>,
    state: Mutex<State>,
}

struct State {
    layout: DeltaLayout,
    /// The block that its list goes before, where the destination needs files in order.
    held: Option<Held>,
}

impl DeltaFile {
    /// Creates the two files for the data file `file`, which is to be `target`.
    ///
    /// # Errors
    ///
    /// Those of the destination.
    pub fn create(
        sink: &dyn Sink,
        target: &Path,
        file: &SourceFile,
        context: &SpaceContext,
        changes: &Changes,
        is_table: bool,
    ) -> anyhow::Result<Self> {
        let (delta, meta) = delta_names(target);
        let text = SpaceMeta::new(context.space_id(), context.flags()).render();
        let written = sink.create(&meta).and_then(|out| {
            out.write_at(0, text.as_bytes())?;
            out.finish(text.len() as u64)
        });
        written.with_context(|| format!("write {} to the backup", meta.display()))?;
        let page_size = context.flags().page_size().physical();
        let created = sink.create(&delta);
        let out = created.with_context(|| format!("create {} in the backup", delta.display()))?;
        let held = (!sink.takes_any_offset()).then(|| Held::new(&changes.tmpdir));
        let since = if is_table { changes.since(file) } else { Some(changes.since) };
        let state = Mutex::new(State { layout: DeltaLayout::new(page_size)?, held });
        Ok(Self { out, page_size, since, state })
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Adds pages, which come after all that were added before, and leaves `pages` empty.
    ///
    /// # Errors
    ///
    /// Those of the destination, and of the folder for temporary files.
    pub fn add(&self, pages: &mut Changed) -> io::Result<()> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Pages that stand together are written together.
        let mut run = Run::default();
        let all = pages.numbers.iter().zip(pages.bytes.chunks_exact(self.page_size));
        for (index, (number, _)) in all.enumerate() {
            let (offset, list) = state.layout.add(*number);
            let start = index * self.page_size;
            if let Some(list) = list {
                run.write(&pages.bytes, state.held.as_mut(), &*self.out)?;
                self.out.write_at(list.offset, &list.bytes)?;
                state.held.as_mut().map_or(Ok(()), |held| held.send(&*self.out))?;
                run = Run::default();
            }
            if run.len == 0 {
                run = Run { offset, start, len: 0 };
            }
            run.len += self.page_size;
        }
        run.write(&pages.bytes, state.held.as_mut(), &*self.out)?;
        pages.numbers.clear();
        pages.bytes.clear();
        Ok(())
    }

    /// Ends the file, to which all pages were added.
    ///
    /// # Errors
    ///
    /// Those of the destination.
    pub fn finish(&self) -> io::Result<()> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, len) = state.layout.finish();
        self.out.write_at(list.offset, &list.bytes)?;
        state.held.as_mut().map_or(Ok(()), |held| held.send(&*self.out))?;
        self.out.finish(len)
    }
}

/// Pages that stand together, in the file at `offset` and among those to be added at `start`.
#[derive(Default)]
struct Run {
    offset: u64,
    start: usize,
    len: usize,
}

impl Run {
    fn write(&self, pages: &[u8], held: Option<&mut Held>, out: &dyn SinkFile) -> io::Result<()> {
        let bytes = pages.get(self.start..self.start + self.len).unwrap_or_default();
        match held {
            _ if bytes.is_empty() => Ok(()),
            Some(held) => held.push(self.offset, bytes),
            None => out.write_at(self.offset, bytes),
        }
    }
}

/// Bytes that are to be sent later, in memory or beyond that in a temporary file.
struct Held {
    tmpdir: PathBuf,
    /// Where they belong.
    offset: u64,
    file: Option<File>,
    /// Bytes in the file; those in memory follow.
    in_file: u64,
    bytes: Vec<u8>,
}

impl Held {
    fn new(tmpdir: &Path) -> Self {
        let tmpdir = tmpdir.to_path_buf();
        Self { tmpdir, offset: 0, file: None, in_file: 0, bytes: Vec::new() }
    }

    /// Adds bytes for `offset`, which are behind those that are there.
    fn push(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.in_file == 0 && self.bytes.is_empty() {
            self.offset = offset;
        }
        if self.bytes.len() + bytes.len() > HELD {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(durable::unnamed_file(&self.tmpdir)?),
            };
            file.write_all_at(&self.bytes, self.in_file)?;
            self.in_file += self.bytes.len() as u64;
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Sends all of them.
    fn send(&mut self, out: &dyn SinkFile) -> io::Result<()> {
        let mut at = 0;
        if let Some(file) = &self.file {
            let mut buffer = vec![0; 1 << 20];
            while at < self.in_file {
                let len = usize::try_from(self.in_file - at).unwrap_or(usize::MAX);
                let part = len.min(buffer.len());
                let part = buffer.get_mut(..part).unwrap_or_default();
                file.read_exact_at(part, at)?;
                out.write_at(self.offset + at, part)?;
                at += part.len() as u64;
            }
        }
        if !self.bytes.is_empty() {
            out.write_at(self.offset + at, &self.bytes)?;
        }
        self.bytes.clear();
        self.in_file = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek as _, SeekFrom};

    use innodb::SpaceFlags;
    use innodb::delta::DeltaReader;
    use innodb::page::ChecksumAlgorithm;
    use innodb::space::SpaceHeader;

    use super::*;
    use crate::sink::{LocalDir, Stream};

    const PAGE: usize = 1024;

    /// Page 0 of a table with `KEY_BLOCK_SIZE=1`, id 7.
    fn context() -> SpaceContext {
        let mut page = vec![0; PAGE];
        for at in [34, 38] {
            page[at..at + 4].copy_from_slice(&7_u32.to_be_bytes());
        }
        page[24..26].copy_from_slice(&8_u16.to_be_bytes());
        page[46..50].copy_from_slice(&64_u32.to_be_bytes());
        page[54..58].copy_from_slice(&SpaceFlags::parse(0x23).unwrap().raw().to_be_bytes());
        let header = SpaceHeader::parse(&page).unwrap();
        SpaceContext::new(&header, ChecksumAlgorithm::Crc32)
    }

    /// A page with this LSN.
    fn page(lsn: u64) -> Vec<u8> {
        let mut bytes = vec![0x5a; PAGE];
        bytes[16..24].copy_from_slice(&lsn.to_be_bytes());
        bytes
    }

    fn changes(tmpdir: &Path, since: u64) -> Changes {
        Changes { since: Lsn(since), base_time: None, tmpdir: tmpdir.to_path_buf() }
    }

    #[test]
    fn pages_count_as_changed_by_their_lsn_or_as_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("t.ibd");
        fs::write(&source, b"").unwrap();
        let source = SourceFile::open(&source).unwrap();
        let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
        let changes = changes(dir.path(), 100);
        let target = Path::new("d/t.ibd");
        let file = DeltaFile::create(&sink, target, &source, &context(), &changes, true).unwrap();
        let bytes = [page(99), page(100), page(101), vec![0; PAGE], page(u64::MAX)].concat();
        let mut pages = Changed::default();
        pages.collect(&file, 10, &bytes, &[PAGE]);
        assert_eq!(pages.numbers, [PageNo(11), PageNo(12), PageNo(14)]);
        assert!(pages.contains(12) && !pages.contains(13));
        file.add(&mut pages).unwrap();
        assert_eq!(pages.len(), 0);
        file.finish().unwrap();

        let backup = dir.path().join("backup/d");
        let meta = fs::read_to_string(backup.join("t.ibd.meta")).unwrap();
        assert_eq!(meta, "page_size = 1024\nzip_size = 1024 \nspace_id = 7\n");
        let delta = fs::read(backup.join("t.ibd.delta")).unwrap();
        let pages = [page(100), page(101), page(u64::MAX)].concat();
        assert_eq!((delta.len(), &delta[PAGE..]), (4 * PAGE, &pages[..]));
    }

    #[test]
    fn all_pages_of_a_file_younger_than_the_base_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.ibd");
        fs::write(&path, b"").unwrap();
        let file = SourceFile::open(&path).unwrap();
        let born = file.created().unwrap();
        let with = |base_time| Changes { base_time, ..changes(dir.path(), 100) };
        assert_eq!(with(Some(born)).since(&file), None);
        assert_eq!(
            with(Some(born + std::time::Duration::from_nanos(1))).since(&file),
            Some(Lsn(100))
        );
        assert_eq!(with(None).since(&file), Some(Lsn(100)));

        let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
        let changes = with(Some(born));
        let target = Path::new("d/t.ibd");
        let file = DeltaFile::create(&sink, target, &file, &context(), &changes, true).unwrap();
        let mut pages = Changed::default();
        pages.collect(&file, 0, &[page(0), vec![0; PAGE], page(9)].concat(), &[]);
        assert_eq!(pages.numbers, [PageNo(0), PageNo(2)]);
    }

    /// More than a block, and more than is kept in memory of one.
    #[test]
    fn a_destination_that_needs_order_gets_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.ibd");
        fs::write(&path, b"").unwrap();
        let source = SourceFile::open(&path).unwrap();
        let local = LocalDir::create(&dir.path().join("backup")).unwrap();
        let mut output = tempfile::tempfile().unwrap();
        let stream = Stream::new(output.try_clone().unwrap());
        let changes = changes(dir.path(), 0);
        for sink in [&local as &dyn Sink, &stream] {
            let target = Path::new("t.ibd");
            let file =
                DeltaFile::create(sink, target, &source, &context(), &changes, true).unwrap();
            for first in (0..600).step_by(100) {
                let bytes: Vec<u8> = (first..first + 100).flat_map(|n| page(n + 1)).collect();
                let mut pages = Changed::default();
                pages.collect(&file, u32::try_from(first).unwrap(), &bytes, &[]);
                file.add(&mut pages).unwrap();
            }
            file.finish().unwrap();
            sink.sync().unwrap();
        }
        let expected = fs::read(dir.path().join("backup/t.ibd.delta")).unwrap();
        let mut reader = DeltaReader::new(PAGE, expected.len() as u64).unwrap();
        let mut count = 0;
        while let Some(offset) = reader.next_list().unwrap() {
            let at = usize::try_from(offset).unwrap();
            for (number, offset) in reader.list(&expected[at..at + PAGE]).unwrap().pages() {
                let at = usize::try_from(offset).unwrap();
                assert_eq!(expected[at..at + PAGE], page(u64::from(number.0) + 1));
                count += 1;
            }
        }
        assert_eq!(count, 600);
        output.seek(SeekFrom::Start(0)).unwrap();
        let mut reader = xbstream::Reader::new(output);
        let mut streamed: Vec<u8> = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            let mut buffer = vec![0; 1 << 20];
            let is_delta = chunk.path == Path::new("t.ibd.delta");
            if !matches!(chunk.body, xbstream::Body::Payload { .. }) {
                continue;
            }
            loop {
                let len = reader.read_payload(&mut buffer).unwrap();
                if len == 0 {
                    break;
                }
                if is_delta {
                    streamed.extend(&buffer[..len]);
                }
            }
        }
        assert!(streamed == expected);
    }

    #[test]
    fn what_is_held_is_the_same_in_memory_and_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
        let out = sink.create(Path::new("f")).unwrap();
        let mut held = Held::new(dir.path());
        let piece = |byte: u8| vec![byte; 7 << 20];
        let mut at = 5;
        for byte in 1..=4 {
            held.push(at, &piece(byte)).unwrap();
            at += 7 << 20;
        }
        assert!(held.in_file > 0 && held.bytes.len() <= HELD);
        held.send(&*out).unwrap();
        held.push(at, b"next").unwrap();
        held.send(&*out).unwrap();
        let expected = [&[0; 5][..], &piece(1), &piece(2), &piece(3), &piece(4), b"next"].concat();
        assert!(fs::read(dir.path().join("backup/f")).unwrap() == expected);
    }
}
