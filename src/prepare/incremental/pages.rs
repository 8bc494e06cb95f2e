//! The changed pages: all are read and verified before the first write, then written to their
//! places, by all threads, in pieces of bounded size.
//!
//! A page is written as a whole, and so can be written again after a kill, whatever is there.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use anyhow::Context;
use innodb::delta::DeltaReader;
use innodb::page::CodecError;
use innodb::{PageId, PageNo};

use super::plan::{Changed, Plan};
use super::source::DAMAGED;
use crate::backup::copy::page_check::PageCheck;
use crate::hint::WithHint;
use crate::metadata::CorruptedPages;
use crate::prepare::apply::{ReadLog, Work};
use crate::prepare::index::page_of;
use crate::prepare::scan::scan;
use crate::prepare::spaces::{Space, Spaces, open};
use crate::threads::in_threads;

/// Bytes of pages that a thread has at a time, if not less than a page.
const PIECE: usize = 1 << 20;
/// Damaged pages that are looked at further; a file with more is damaged.
const BAD_MAX: usize = 10_000;
/// Holes begin and end at multiples of this.
const FILE_BLOCK: u64 = 4096;

/// A run of pages in a file of changed pages.
struct Piece<'p> {
    changed: &'p Changed<'p>,
    /// Stands before the list of the block.
    reader: DeltaReader,
    /// Which pages of the block.
    slots: Range<usize>,
}

/// Pages of a piece, read.
struct Read {
    /// Number, and where the page is in `bytes`.
    pages: Vec<(PageNo, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Piece<'_> {
    fn read(&self, file: &File) -> anyhow::Result<Read> {
        let size = self.changed.delta.meta.page_size;
        let mut reader = self.reader.clone();
        let offset = reader.next_list()?.context("a block is missing")?;
        let mut list = vec![0; size];
        file.read_exact_at(&mut list, offset)?;
        let block = reader.list(&list)?;
        let chosen = block.pages().skip(self.slots.start).take(self.slots.len());
        let mut start = None;
        let mut pages = Vec::with_capacity(self.slots.len());
        for (index, (page_no, offset)) in chosen.enumerate() {
            start = start.or(Some(offset));
            pages.push((page_no, index * size..(index + 1) * size));
        }
        let mut bytes = vec![0; pages.len() * size];
        file.read_exact_at(&mut bytes, start.unwrap_or(0))?;
        Ok(Read { pages, bytes })
    }
}

/// Cuts all files of changed pages into pieces.
fn pieces<'p>(plan: &'p Plan<'_>) -> anyhow::Result<Vec<Piece<'p>>> {
    let mut pieces = Vec::new();
    for changed in &plan.changed {
        let delta = changed.delta;
        let size = delta.meta.page_size;
        let context = || format!("read {}", delta.path.display());
        let file = File::open(&delta.path).with_context(context)?;
        let mut reader = DeltaReader::new(size, delta.len).with_context(context)?;
        let mut list = vec![0; size];
        loop {
            let before = reader.clone();
            let Some(offset) = reader.next_list().with_context(context)? else { break };
            file.read_exact_at(&mut list, offset).with_context(context)?;
            let count = reader.list(&list).with_context(context)?.pages().len();
            let step = (PIECE / size).max(1);
            for start in (0..count).step_by(step) {
                let slots = start..(start + step).min(count);
                pieces.push(Piece { changed, reader: before.clone(), slots });
            }
        }
    }
    Ok(pieces)
}

/// A page that is not what the server wrote.
struct Bad {
    page: PageId,
    place: String,
    error: CodecError,
}

/// Verifies every changed page. Changes nothing.
///
/// # Errors
///
/// A page that is damaged, is not in `listed` as such, and is not built anew by the log; a key that
/// is not there.
pub(super) fn verify(
    work: Work<'_>,
    plan: &Plan<'_>,
    spaces: &Spaces<'_>,
    listed: &CorruptedPages,
    log: &ReadLog<'_>,
) -> anyhow::Result<()> {
    let pieces = pieces(plan)?;
    let total = pieces.iter().map(|p| (p.slots.len() * p.changed.delta.meta.page_size) as u64);
    work.report.phase("Verifying changed pages", total.sum());
    let by_path = spaces.by_path();
    let bad = Mutex::new(Vec::new());
    in_threads(work.threads(), &pieces, |_, piece| {
        let delta = piece.changed.delta;
        let context = || format!("read {}", delta.path.display());
        let file = File::open(&delta.path).with_context(context)?;
        let read = piece.read(&file).with_context(context)?;
        work.report.advance(read.bytes.len() as u64);
        // A file without a page 0 that the log does not build either is left alone.
        let Some(&(space, index)) = by_path.get(delta.target.as_path()) else { return Ok(()) };
        let mut check = PageCheck::new(space.context(), work.keys);
        for (page_no, range) in read.pages {
            let bytes = read.bytes.get(range).unwrap_or_default();
            let offset = u64::from(page_no.0) * bytes.len() as u64;
            let Some(page_no) = space.page_at(index, offset) else { continue };
            let page = PageId { space: space.id, page_no };
            if let Err(error) = check.check(bytes, page_no.0)
                && !listed.contains(page)
            {
                let place = format!("page {page_no} in {}", delta.path.display());
                let mut bad = bad.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if !matches!(error, CodecError::Page(_)) || bad.len() == BAD_MAX {
                    return Err(error).context(format!("{place} cannot be read")).hint(DAMAGED);
                }
                bad.push(Bad { page, place, error });
            }
        }
        Ok(())
    })?;
    work.report.phase_done();
    let bad = bad.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if bad.is_empty() { Ok(()) } else { forgive(work, bad, spaces, log) }
}

/// Whether nobody will read any of the pages: the log builds them anew, or cuts them off.
fn forgive(
    work: Work<'_>,
    mut bad: Vec<Bad>,
    spaces: &Spaces<'_>,
    log: &ReadLog<'_>,
) -> anyhow::Result<()> {
    let wanted: HashSet<PageId> = bad.iter().map(|bad| bad.page).collect();
    let mut rebuilt = HashSet::new();
    let mut take = |entry: crate::prepare::index::Entry| {
        let page = page_of(entry.page());
        if entry.is_restart() && wanted.contains(&page) {
            rebuilt.insert(page);
        }
    };
    scan(log.records, log.extent, &|_| Some(0..0), &mut take, work.report)?;
    let is_cut = |page: PageId| {
        let first = spaces.get(page.space).and_then(Space::first_trimmed);
        first.is_some_and(|first| page.page_no >= first)
    };
    bad.retain(|bad| !rebuilt.contains(&bad.page) && !is_cut(bad.page));
    let more = bad.len().saturating_sub(1);
    let Some(first) = bad.into_iter().next() else { return Ok(()) };
    let place = if more == 0 {
        format!("{} is damaged", first.place)
    } else {
        format!("{} and {more} more changed pages are damaged", first.place)
    };
    Err(first.error).context(place).hint(DAMAGED)
}

/// Writes every changed page to its place; durable when it returns.
///
/// # Errors
///
/// What reading and writing report; it can be repeated.
pub(super) fn write(work: Work<'_>, plan: &Plan<'_>, spaces: &Spaces<'_>) -> anyhow::Result<()> {
    let by_path = spaces.by_path();
    let is_sparse = |changed: &Changed<'_>| {
        let space = by_path.get(changed.delta.target.as_path());
        space.is_some_and(|(space, _)| space.flags.page_compression().is_some())
    };
    for changed in &plan.changed {
        set_len(work, changed, is_sparse(changed))?;
    }
    if let Some((last, len)) = &plan.extended {
        let path = work.dir.join(last);
        let file = open(&path)?;
        let now = file.metadata().with_context(|| format!("open {}", path.display()))?.len();
        if now < *len {
            let extended = work.storage.set_len(&file, *len);
            extended.with_context(|| format!("extend {} to {len} bytes", path.display()))?;
        }
    }
    let pieces = pieces(plan)?;
    let total = pieces.iter().map(|p| (p.slots.len() * p.changed.delta.meta.page_size) as u64);
    work.report.phase("Applying changed pages", total.sum());
    in_threads(work.threads(), &pieces, |_, piece| {
        let delta = piece.changed.delta;
        let context = || format!("read {}", delta.path.display());
        let file = File::open(&delta.path).with_context(context)?;
        let read = piece.read(&file).with_context(context)?;
        let path = work.dir.join(&delta.target);
        let written = write_piece(work, &open(&path)?, &read, is_sparse(piece.changed));
        written.with_context(|| format!("write {}", path.display()))?;
        work.report.advance(read.bytes.len() as u64);
        Ok(())
    })?;
    work.report.phase_done();
    work.sync()
}

/// Extends a file to what page 0 tells, and what its changed pages need.
fn set_len(work: Work<'_>, changed: &Changed<'_>, is_sparse: bool) -> anyhow::Result<()> {
    let path = work.dir.join(&changed.delta.target);
    let file = open(&path)?;
    let now = file.metadata().with_context(|| format!("open {}", path.display()))?.len();
    let len = changed.head.len;
    if now >= len {
        return Ok(());
    }
    let done = if is_sparse {
        work.storage.set_sparse_len(&file, len)
    } else {
        work.storage.set_len(&file, len)
    };
    done.with_context(|| format!("extend {} to {len} bytes", path.display()))
}

/// Writes pages, adjacent ones together; what compression leaves empty becomes a hole.
fn write_piece(work: Work<'_>, file: &File, read: &Read, is_sparse: bool) -> std::io::Result<()> {
    let mut rest = read.pages.as_slice();
    while let Some(((first, range), after)) = rest.split_first() {
        let (mut last, mut end) = (*first, range.end);
        rest = after;
        while let Some(((next, range), after)) = rest.split_first()
            && next.0 == last.0 + 1
        {
            (last, end, rest) = (*next, range.end, after);
        }
        let bytes = read.bytes.get(range.start..end).unwrap_or_default();
        let at = u64::from(first.0) * range.len() as u64;
        work.storage.write_at(file, bytes, at)?;
        if is_sparse {
            for (index, page) in bytes.chunks(range.len()).enumerate() {
                let at = at + (index * range.len()) as u64;
                let used = page.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                let (used, end) = ((used as u64).next_multiple_of(FILE_BLOCK), page.len() as u64);
                if used < end {
                    work.storage.punch_hole(file, at + used, end - used)?;
                }
            }
        }
    }
    Ok(())
}
