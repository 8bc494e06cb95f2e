//! The index of the log: an entry for each run of records of a page, sorted by page and then by
//! position in the log.
//!
//! Entries are collected in log order into chunks. Threads sort the chunks; sorted chunks stay in
//! memory up to a limit, further ones go to a temporary file. [`Merge`] then delivers the entries
//! page by page. What precedes the last `INIT_PAGE` or `FREE_PAGE` of a page is left out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use innodb::{Lsn, PageId};
use redo::mtr::{Mtr, Run, RunKind};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a run does, in the lowest bits of [`Entry::packed`].
const CHANGE: u64 = 0;
const INIT: u64 = 1;
const FREE: u64 = 2;
const IGNORED: u64 = 3;

/// A run of records of one page in one mini-transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Entry {
    /// Tablespace in the upper half, page number in the lower.
    page: u64,
    /// LSN of the run's first byte.
    lsn: u64,
    /// Bits 0-1: kind; 2-22: bytes from the mini-transaction's start to the run; 23-43: length of
    /// the run; 44-63: from the run's end to the mini-transaction's, in LSNs, or [`FAR`].
    packed: u64,
}
const _: () = assert!(size_of::<Entry>() == 24);
/// Bits of the first two distances.
const BITS: u32 = 21;
const LOW: u64 = (1 << BITS) - 1;
/// The end of the mini-transaction is as far away or farther; the log tells where it is.
const FAR: u64 = 0xf_ffff;
const _: () = assert!(redo::mtr::RECORDS_LEN_MAX <= 1 << BITS);
const _: () = assert!(redo::blocks::RECORDS_LEN_MAX <= 1 << BITS);

impl Entry {
    /// The entry of `run` in `mtr`; `None` if there is nothing to apply to a page.
    pub(super) fn of(mtr: &Mtr<'_>, run: &Run) -> Option<Self> {
        let kind = match run.kind {
            RunKind::Change => CHANGE,
            RunKind::Init => INIT,
            RunKind::Free => FREE,
            RunKind::Ignored => IGNORED,
            RunKind::Trim | RunKind::File => return None,
        };
        let back = run.range.start as u64;
        let lsn = mtr.start().0 + back;
        let len = run.range.len() as u64;
        let forward = mtr.end().since(Lsn(lsn + len)).min(FAR);
        Some(Self {
            page: key(run.page),
            lsn,
            packed: kind | back << 2 | len << (2 + BITS) | forward << (2 + 2 * BITS),
        })
    }

    /// The page, as a [`key`].
    pub(super) fn page(&self) -> u64 {
        self.page
    }

    /// The mini-transaction's start, and bytes of its records before the run. In blocks (10.5 to
    /// 10.7) the run is somewhat later in the log than this sum, which orders runs alike.
    pub(super) fn lsn(&self) -> Lsn {
        Lsn(self.lsn)
    }

    /// Length of the run in bytes.
    pub(super) fn len(&self) -> u64 {
        self.packed >> (2 + BITS) & LOW
    }

    /// Bytes of the mini-transaction before the run.
    pub(super) fn start_in_mtr(&self) -> u64 {
        self.packed >> 2 & LOW
    }

    /// Start of the mini-transaction.
    pub(super) fn mtr_start(&self) -> Lsn {
        Lsn(self.lsn - self.start_in_mtr())
    }

    /// End of the mini-transaction, unless it is far away.
    pub(super) fn mtr_end(&self) -> Option<Lsn> {
        let forward = self.packed >> (2 + 2 * BITS);
        (forward != FAR).then(|| Lsn(self.lsn + self.len() + forward))
    }

    /// Whether the run begins with `INIT_PAGE`.
    pub(super) fn is_init(&self) -> bool {
        self.packed & 3 == INIT
    }

    /// Whether the run is `FREE_PAGE`.
    pub(super) fn is_free(&self) -> bool {
        self.packed & 3 == FREE
    }

    /// Whether nothing before this run matters for the page.
    pub(super) fn is_restart(&self) -> bool {
        self.is_init() || self.is_free()
    }
}

/// A page id as one number, in the order in which pages are recovered.
pub(super) fn key(page: PageId) -> u64 {
    u64::from(page.space.0) << 32 | u64::from(page.page_no.0)
}

/// The page id of [`key`].
pub(super) fn page_of(key: u64) -> PageId {
    let low = |n: u64| u32::try_from(n & 0xffff_ffff).unwrap_or_default();
    PageId::new(low(key >> 32), low(key))
}

/// Takes entries in log order. Created by [`build`].
pub(super) struct Collector {
    chunk: Vec<Entry>,
    limit: usize,
    next: usize,
    full: Sender<(usize, Vec<Entry>)>,
    empty: Receiver<Vec<Entry>>,
}

impl Collector {
    /// Takes one entry. Does nothing any more once a sorter has failed; [`build`] tells.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.chunk.len() == self.limit {
            self.flush();
        }
        self.chunk.push(entry);
    }

    fn flush(&mut self) {
        // A failed sorter has given up its end of the channel.
        let mut fresh = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(self.limit));
        fresh.clear();
        let full = std::mem::replace(&mut self.chunk, fresh);
        let _ = self.full.send((self.next, full));
        self.next += 1;
    }
}

impl Extend<Entry> for Collector {
    fn extend<T: IntoIterator<Item = Entry>>(&mut self, entries: T) {
        for entry in entries {
            self.push(entry);
        }
    }
}

/// A sorted chunk.
enum Chunk {
    Memory(Vec<Entry>),
    /// Bytes of the temporary file.
    Spilled(Range<u64>),
}

/// All entries, sorted.
pub(super) struct Index {
    /// In log order: of two chunks with entries of one page, those in the first are earlier.
    chunks: Vec<Chunk>,
    spill: Option<File>,
    /// Bytes of records to be applied.
    record_bytes: u64,
    memory: usize,
}

impl Index {
    /// Bytes of records to be applied.
    pub(super) fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Whether entries had to be spilled.
    pub(super) fn is_spilled(&self) -> bool {
        self.chunks.iter().any(|chunk| matches!(chunk, Chunk::Spilled(_)))
    }
}

/// Builds the index of what `collect` pushes, in at most about `memory` bytes, with `threads`
/// sorters. `spill` makes the temporary file, if one is needed.
///
/// # Errors
///
/// Those of `collect`, or of writing the temporary file.
pub(super) fn build<R>(
    memory: usize,
    threads: usize,
    spill: impl Fn() -> anyhow::Result<File> + Sync,
    collect: impl FnOnce(&mut Collector) -> anyhow::Result<R>,
) -> anyhow::Result<(Index, R)> {
    // One chunk is collected, one waits, each sorter has one; at least half is for sorted ones.
    let limit = (memory / size_of::<Entry>() / (2 * (threads + 2))).clamp(1 << 12, 1 << 20);
    let kept_max = memory.saturating_sub((threads + 2) * limit * size_of::<Entry>());
    let kept = AtomicUsize::new(0);
    let record_bytes = AtomicU64::new(0);
    let spilled = Mutex::new((None::<File>, 0_u64));
    let sorted = Mutex::new(Vec::<(usize, Chunk)>::new());
    let (full, to_sort) = bounded::<(usize, Vec<Entry>)>(1);
    let (recycle, empty) = bounded::<Vec<Entry>>(threads + 1);

    let sort = |to_sort: Receiver<(usize, Vec<Entry>)>, recycle: Sender<Vec<Entry>>| {
        for (number, mut entries) in to_sort {
            entries.sort_unstable_by_key(|entry| (entry.page, entry.lsn));
            prune(&mut entries);
            let bytes = entries.iter().map(Entry::len).sum();
            record_bytes.fetch_add(bytes, Ordering::Relaxed);
            let size = size_of_val(entries.as_slice());
            let chunk = if kept.fetch_add(size, Ordering::Relaxed) + size <= kept_max {
                entries.shrink_to_fit();
                Chunk::Memory(entries)
            } else {
                kept.fetch_sub(size, Ordering::Relaxed);
                let mut spilled = spilled.lock().unwrap_or_else(PoisonError::into_inner);
                let (file, end) = &mut *spilled;
                let file = match file {
                    Some(file) => file,
                    None => file.insert(spill()?),
                };
                file.write_all_at(entries.as_bytes(), *end)
                    .context("write the temporary file with the index of the redo log")?;
                let start = *end;
                *end += size as u64;
                let range = start..*end;
                drop(spilled);
                let _ = recycle.try_send(entries);
                Chunk::Spilled(range)
            };
            sorted.lock().unwrap_or_else(PoisonError::into_inner).push((number, chunk));
        }
        anyhow::Ok(())
    };

    let collected = std::thread::scope(|scope| {
        let sort = &sort;
        let sorters: Vec<_> = (0..threads)
            .map(|_| {
                let (to_sort, recycle) = (to_sort.clone(), recycle.clone());
                scope.spawn(move || sort(to_sort, recycle))
            })
            .collect();
        // With the last sorter the channel must close, or the collector would wait for ever.
        drop(to_sort);
        let mut collector =
            Collector { chunk: Vec::with_capacity(limit), limit, next: 0, full, empty };
        let collected = collect(&mut collector);
        collector.flush();
        drop(collector);
        for sorter in sorters {
            sorter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        collected
    })?;
    let mut chunks = sorted.into_inner().unwrap_or_else(PoisonError::into_inner);
    chunks.sort_by_key(|&(number, _)| number);
    let index = Index {
        chunks: chunks.into_iter().map(|(_, chunk)| chunk).collect(),
        spill: spilled.into_inner().unwrap_or_else(PoisonError::into_inner).0,
        record_bytes: record_bytes.into_inner(),
        memory,
    };
    Ok((index, collected))
}

/// Removes from sorted entries those before the last restart of their page.
fn prune(entries: &mut Vec<Entry>) {
    let mut kept = 0;
    let mut page_start = 0;
    for at in 0..entries.len() {
        let Some(&entry) = entries.get(at) else { break };
        let is_first =
            kept == 0 || entries.get(kept - 1).is_none_or(|before| before.page != entry.page);
        if is_first {
            page_start = kept;
        } else if entry.is_restart() {
            kept = page_start;
        }
        if let Some(to) = entries.get_mut(kept) {
            *to = entry;
        }
        kept += 1;
    }
    entries.truncate(kept);
}

/// Reads one sorted chunk.
struct Cursor {
    entries: Vec<Entry>,
    at: usize,
    /// What was not read yet.
    rest: Range<u64>,
}

impl Cursor {
    fn peek(&self) -> Option<&Entry> {
        self.entries.get(self.at)
    }
}

/// Entries page by page, from all chunks.
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    /// Next page of each chunk that has one.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    spill: Option<File>,
    /// Entries of a spilled chunk read at a time.
    read_len: usize,
    /// The page whose entries are being delivered.
    current: Option<u64>,
}

/// Some or all entries of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The page.
    pub page: PageId,
    /// No further part follows.
    pub is_last: bool,
}

impl Merge {
    /// Starts at the first page.
    ///
    /// # Errors
    ///
    /// Those of reading the temporary file.
    pub(super) fn new(index: Index) -> io::Result<Self> {
        let spilled = index.chunks.iter().filter(|chunk| matches!(chunk, Chunk::Spilled(_)));
        let read_len = index.memory / 4 / size_of::<Entry>() / spilled.count().max(1);
        let mut merge = Self {
            cursors: Vec::with_capacity(index.chunks.len()),
            heap: BinaryHeap::new(),
            spill: index.spill,
            read_len: read_len.clamp(1 << 8, 1 << 15),
            current: None,
        };
        for (number, chunk) in index.chunks.into_iter().enumerate() {
            let mut cursor = match chunk {
                Chunk::Memory(entries) => Cursor { entries, at: 0, rest: 0..0 },
                Chunk::Spilled(rest) => Cursor { entries: Vec::new(), at: 0, rest },
            };
            refill(&mut cursor, merge.spill.as_ref(), merge.read_len)?;
            if let Some(first) = cursor.peek() {
                merge.heap.push(Reverse((first.page, number)));
            }
            merge.cursors.push(cursor);
        }
        Ok(merge)
    }

    /// Appends the next entries to `to`: of one page, in log order, all or about `limit` of them.
    /// Entries of this call that a later one makes obsolete are taken off again. `None` at the
    /// end.
    ///
    /// # Errors
    ///
    /// Those of reading the temporary file.
    pub(super) fn next(&mut self, limit: usize, to: &mut Vec<Entry>) -> io::Result<Option<Part>> {
        let start = to.len();
        let Some(&Reverse((page, _))) = self.heap.peek() else { return Ok(None) };
        self.current = Some(page);
        while let Some(mut top) = self.heap.peek_mut() {
            let Reverse((next_page, number)) = *top;
            if next_page != page {
                break;
            }
            if to.len() - start >= limit {
                return Ok(Some(Part { page: page_of(page), is_last: false }));
            }
            let Some(cursor) = self.cursors.get_mut(number) else { break };
            loop {
                let room = limit.saturating_sub(to.len() - start).max(1);
                let rest = cursor.entries.get(cursor.at..).unwrap_or_default();
                let count = rest.iter().take(room).take_while(|entry| entry.page == page).count();
                let taken = rest.get(..count).unwrap_or_default();
                // Only the first entry of a page in a chunk can be a restart.
                if taken.first().is_some_and(Entry::is_restart) {
                    to.truncate(start);
                }
                to.extend_from_slice(taken);
                cursor.at += count;
                if cursor.at < cursor.entries.len() || cursor.rest.is_empty() {
                    break;
                }
                refill(cursor, self.spill.as_ref(), self.read_len)?;
            }
            if let Some(next) = cursor.peek() {
                *top = Reverse((next.page, number));
            } else {
                PeekMut::pop(top);
                // Frees the memory of a chunk that was kept in it.
                cursor.entries = Vec::new();
            }
        }
        Ok(Some(Part { page: page_of(page), is_last: true }))
    }
}

fn refill(cursor: &mut Cursor, spill: Option<&File>, read_len: usize) -> io::Result<()> {
    let Some(spill) = spill.filter(|_| cursor.at == cursor.entries.len()) else { return Ok(()) };
    let left = (cursor.rest.end - cursor.rest.start) / size_of::<Entry>() as u64;
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(read_len);
    cursor.entries.resize(count, Entry { page: 0, lsn: 0, packed: 0 });
    cursor.at = 0;
    spill.read_exact_at(cursor.entries.as_mut_bytes(), cursor.rest.start)?;
    cursor.rest.start += size_of_val(cursor.entries.as_slice()) as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn entry(page: u64, lsn: u64, kind: u64) -> Entry {
        Entry { page, lsn, packed: kind | 1 << (2 + BITS) }
    }

    #[test]
    fn an_entry_holds_the_greatest_distances() {
        let packed = INIT | LOW << 2 | LOW << 23 | (FAR - 1) << 44;
        let entry = Entry { page: key(PageId::new(7, 9)), lsn: 5 << 40, packed };
        assert_eq!(page_of(entry.page), PageId::new(7, 9));
        assert_eq!(entry.mtr_start(), Lsn((5 << 40) - 0x1f_ffff));
        assert_eq!(entry.mtr_end(), Some(Lsn((5 << 40) + 0x1f_ffff + 0xf_fffe)));
        assert_eq!((entry.start_in_mtr(), entry.len()), (0x1f_ffff, 0x1f_ffff));
        let far = Entry { packed: packed | FAR << 44, ..entry };
        assert_eq!((far.mtr_end(), far.mtr_start()), (None, entry.mtr_start()));
        assert!(entry.is_init() && entry.is_restart() && !entry.is_free());
    }

    /// Entries in log order; `lsn` counts them.
    fn sample(count: u64) -> Vec<Entry> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        (0..count)
            .map(|lsn| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let page = if seed.is_multiple_of(3) { 5 } else { seed >> 8 & 0xff };
                entry(page, lsn, if (seed >> 32).trailing_zeros() >= 12 { INIT } else { CHANGE })
            })
            .collect()
    }

    fn expected(entries: &[Entry]) -> BTreeMap<u64, Vec<Entry>> {
        let mut pages = BTreeMap::<u64, Vec<Entry>>::new();
        for entry in entries {
            let page = pages.entry(entry.page).or_default();
            if entry.is_restart() {
                page.clear();
            }
            page.push(*entry);
        }
        pages
    }

    fn delivered(memory: usize, limit: usize, entries: &[Entry]) -> BTreeMap<u64, Vec<Entry>> {
        let spill = || Ok(tempfile::tempfile()?);
        let (index, ()) = build(memory, 2, spill, |collector| {
            collector.extend(entries.iter().copied());
            Ok(())
        })
        .unwrap();
        let mut merge = Merge::new(index).unwrap();
        let mut pages = BTreeMap::<u64, Vec<Entry>>::new();
        let mut part_entries = Vec::new();
        let mut last = None;
        while let Some(part) = merge.next(limit, &mut part_entries).unwrap() {
            let page = pages.entry(key(part.page)).or_default();
            assert!(last < Some(key(part.page)), "page delivered twice");
            if part_entries.first().is_some_and(Entry::is_restart) {
                page.clear();
            }
            page.append(&mut part_entries);
            if part.is_last {
                last = Some(key(part.page));
            }
        }
        pages
    }

    #[test]
    fn every_memory_size_delivers_the_same() {
        let entries = sample(200_000);
        let expected = expected(&entries);
        for memory in [0, 1 << 20, 1 << 30] {
            for limit in [1000, usize::MAX] {
                assert_eq!(delivered(memory, limit, &entries), expected, "{memory} {limit}");
            }
        }
    }

    #[test]
    fn little_memory_spills() {
        let spill = || Ok(tempfile::tempfile()?);
        let collect = |collector: &mut Collector| {
            collector.extend(sample(100_000));
            Ok(())
        };
        assert!(build(1 << 20, 1, spill, collect).unwrap().0.is_spilled());
        assert!(!build(1 << 30, 1, spill, collect).unwrap().0.is_spilled());
    }

    #[test]
    fn an_empty_log_has_an_empty_index() {
        assert_eq!(delivered(1 << 20, 10, &[]), BTreeMap::new());
    }

    #[test]
    fn errors_of_the_temporary_file_are_told() {
        let spill = || anyhow::bail!("no room");
        let result = build(0, 1, spill, |collector| {
            collector.extend(sample(20_000));
            Ok(())
        });
        assert!(result.is_err_and(|error| error.to_string() == "no room"));
    }
}
