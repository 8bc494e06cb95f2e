//! Brings pages up to date: entries page by page, in batches, through a chain of threads.
//!
//! ```text
//! dispatch  entries in page order -> batches          this thread
//! bring     read, verify, apply, seal, compare         several threads
//! journal   store differences, sync                    one thread
//! write     pages into their files                     one thread
//! flush     sync the files, so that little is left     one thread
//! ```
//!
//! Every page is in one batch, once. A batch is written only after its differences are durable
//! (module `journal`). Batches are reused, which bounds the memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use innodb::page::{Decoded, PageCodec};
use innodb::{PageId, PageNo};
use rustix::fs::Advice;

use super::corrupted;
use super::index::{Entry, Index, Merge, Part};
use super::journal::{Contents, Journal, LogId};
use super::memory::Budget;
use super::page::{Log, LogRuns, State, frame_of};
use super::spaces::{Space, Spaces, open};
use super::storage::Storage;
use crate::metadata::CorruptedPages;
use crate::report::Report;

/// When the journal has this many bytes, all written pages are synced and it starts anew.
const JOURNAL_LEN_MAX: u64 = 1 << 30;
/// Frames stored with one sync have about this many bytes.
const JOURNAL_GROUP: usize = 32 << 20;
/// Holes begin and end at multiples of this.
const FILE_BLOCK: u64 = 4096;
/// Pages this close to each other, in bytes, are fetched together.
const READAHEAD_GAP: u64 = 256 << 10;

/// What the steps share.
pub(super) struct Recovery<'a> {
    /// The backup.
    pub dir: &'a Path,
    /// Its tablespaces.
    pub spaces: &'a Spaces<'a>,
    /// Its log.
    pub log: Log<'a>,
    /// For which log the journal is.
    pub log_id: LogId,
    /// Pages that were damaged when they were copied: those that are get no redo.
    pub corrupted: &'a CorruptedPages,
    /// Sizes of batches.
    pub budget: Budget,
    /// Threads that bring pages up to date.
    pub threads: usize,
    /// Tablespaces that may be open at a time.
    pub open_spaces: usize,
    /// Where changes go.
    pub storage: &'a dyn Storage,
    /// Progress.
    pub report: &'a Report,
}

/// An open tablespace.
struct OpenSpace<'a> {
    space: &'a Space,
    decoder: PageCodec<'a>,
    encoder: PageCodec<'a>,
    files: Vec<File>,
}

impl OpenSpace<'_> {
    fn place(&self, dir: &Path, page_no: PageNo) -> String {
        self.space.place(dir, page_no)
    }
}

/// Pages on their way.
#[derive(Default)]
struct Batch<'a> {
    spaces: Vec<Arc<OpenSpace<'a>>>,
    jobs: Vec<Job>,
    entries: Vec<Entry>,
    /// Images of the pages, one behind the other. Longer if the batch was used for more before.
    images: Vec<u8>,
    /// Bytes of `images` in use.
    len: usize,
    contents: Contents,
}

/// A page of a batch.
struct Job {
    /// Index of the tablespace in the batch, of the file in the tablespace; offset in the file.
    space: usize,
    file: usize,
    offset: u64,
    page_no: PageNo,
    /// Where its entries are in the batch, how many; where its image is, of which length.
    entries: (usize, usize),
    image: (usize, usize),
    /// Bytes of the stored page that hold something; zeros follow.
    stored_len: usize,
    /// The log builds the page: it is not read.
    is_built: bool,
    /// Set if entries were applied on dispatch.
    begun: Option<Box<Begun>>,
    is_dirty: bool,
}

/// A page with so many entries that they are applied while they arrive.
struct Begun {
    state: State,
    image: Vec<u8>,
    /// As read; nothing if the log builds the page.
    old: Vec<u8>,
    /// Does not matter if the log builds the page after all.
    failure: Option<anyhow::Error>,
}

enum ToWrite<'a> {
    Batch(Box<Batch<'a>>),
    /// Answers when everything before is durable.
    Barrier(Sender<()>),
}

enum ToFlush<'a> {
    Spaces(Vec<Arc<OpenSpace<'a>>>),
    Barrier(Sender<()>),
}

/// Applies all entries of `index`; returns how many pages were written. The files are not all
/// synced at the end.
///
/// # Errors
///
/// Damaged pages, records that cannot be applied, what the system reports; with the place.
pub(super) fn recover(recovery: &Recovery<'_>, index: Index) -> anyhow::Result<u64> {
    let batches = recovery.budget.batches.max(2 * recovery.threads + 4);
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let (free_tx, free) = unbounded::<Box<Batch<'_>>>();
    for _ in 0..batches {
        // The receiver is there.
        let _ = free_tx.send(Box::default());
    }
    let (work_tx, work) = bounded(recovery.threads);
    let (done_tx, done) = bounded(batches);
    let (write_tx, write) = bounded(batches);
    let (flush_tx, flush) = bounded(4);
    let guard = |result: anyhow::Result<()>| {
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..recovery.threads {
            let (work, done_tx) = (work.clone(), done_tx.clone());
            threads.push(scope.spawn(|| guard(recovery.bring_all(work, done_tx))));
        }
        drop((work, done_tx));
        threads.push(scope.spawn(|| guard(recovery.keep_journal(done, write_tx))));
        let written = &written;
        threads.push(scope.spawn(|| guard(recovery.write_all(write, free_tx, flush_tx, written))));
        threads.push(scope.spawn(|| guard(recovery.flush_all(flush))));
        let mut result = guard(recovery.dispatch(index, &free, work_tx, &stop));
        // Errors of threads that lost their neighbour are none: that one tells.
        for thread in threads {
            let other = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
    })?;
    Ok(written.into_inner())
}

#[allow(clippy::needless_pass_by_value, reason = "a thread that ends closes its channels")]
impl<'a> Recovery<'a> {
    /// Makes batches of the entries.
    fn dispatch(
        &self,
        index: Index,
        free: &Receiver<Box<Batch<'a>>>,
        work: Sender<Box<Batch<'a>>>,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let limit = (self.budget.batch / size_of::<Entry>()).max(64);
        let mut merge = Merge::new(index).context("read the index of the redo log")?;
        let mut log = self.log.runs()?;
        let mut current: Option<Arc<OpenSpace<'a>>> = None;
        let mut begun: Option<Box<Begun>> = None;
        let Ok(mut batch) = free.recv() else { return Ok(()) };
        loop {
            let start = batch.entries.len();
            let next = merge.next(limit, &mut batch.entries);
            let Some(Part { page, is_last }) = next.context("read the index of the redo log")?
            else {
                break;
            };
            let Some(space) = self.spaces.get(page.space) else {
                batch.entries.truncate(start);
                continue;
            };
            if space.has_trims() {
                let mut tail = batch.entries.split_off(start);
                tail.retain(|entry| !space.is_trimmed(page.page_no, entry.mtr_start()));
                batch.entries.append(&mut tail);
            }
            let open_space = match current.take().filter(|open| open.space.id == page.space) {
                Some(open) => open,
                None => Arc::new(self.open(space)?),
            };
            let entries = batch.entries.get(start..).unwrap_or_default();
            if !is_last {
                self.begin(&open_space, page, entries, &mut begun, &mut log);
                batch.entries.truncate(start);
                current = Some(open_space);
                continue;
            }
            if begun.is_some() {
                self.begin(&open_space, page, entries, &mut begun, &mut log);
                batch.entries.truncate(start);
            }
            if !matches!(entries_of(&batch, start), [_, ..]) && begun.is_none() {
                current = Some(open_space);
                continue;
            }
            // Freed and not used again: stays as it is.
            if !wipes_freed(space) && matches!(entries_of(&batch, start), [only] if only.is_free())
            {
                batch.entries.truncate(start);
                current = Some(open_space);
                continue;
            }
            self.add(&mut batch, &open_space, page, start, begun.take())?;
            current = Some(open_space);
            let page_len = space.flags.page_size().physical();
            let is_full = batch.len + page_len > self.budget.batch
                || batch.entries.len() >= limit
                || batch.spaces.len() >= self.open_spaces;
            if is_full {
                Self::fetch(&batch);
                if work.send(batch).is_err() || stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                match free.recv() {
                    Ok(next) => batch = next,
                    Err(_) => return Ok(()),
                }
            }
        }
        let _ = work.send(batch);
        Ok(())
    }

    fn open(&self, space: &'a Space) -> anyhow::Result<OpenSpace<'a>> {
        let files: anyhow::Result<_> =
            space.files.iter().map(|file| open(&self.dir.join(&file.path))).collect();
        let (decoder, encoder) = (self.spaces.decoder(space), self.spaces.encoder(space));
        Ok(OpenSpace { space, decoder, encoder, files: files? })
    }

    /// Applies a part of the entries of a page that has very many.
    fn begin(
        &self,
        open: &OpenSpace<'a>,
        page: PageId,
        entries: &[Entry],
        begun: &mut Option<Box<Begun>>,
        log: &mut LogRuns<'a>,
    ) {
        let Some(first) = entries.first() else { return };
        let page_len = open.space.flags.page_size().physical();
        if first.is_restart() || begun.is_none() {
            let mut fresh = Begun {
                state: State::new(),
                image: vec![0; page_len],
                old: Vec::new(),
                failure: None,
            };
            if !first.is_restart() {
                fresh.old.resize(page_len, 0);
                match self.read_page(open, page.page_no, &mut fresh.old, &mut fresh.image) {
                    Ok(()) => fresh.state = State::of_image(&fresh.image),
                    Err(error) => fresh.failure = Some(error),
                }
            }
            *begun = Some(Box::new(fresh));
        }
        if let Some(begun) = begun
            && begun.failure.is_none()
        {
            let frame = frame_of(open.space.flags);
            let applied = begun.state.apply(&mut begun.image, entries, log, frame);
            begun.failure = applied.with_context(|| self.cannot_apply(open, page.page_no)).err();
        }
    }

    fn read_page(
        &self,
        open: &OpenSpace<'a>,
        page_no: PageNo,
        stored: &mut [u8],
        image: &mut [u8],
    ) -> anyhow::Result<()> {
        self.check_exists(open, page_no)?;
        let (index, offset) = open.space.locate(page_no);
        let file = open.files.get(index).context("the tablespace has no such file")?;
        read_padded(file, stored, offset).with_context(|| self.cannot_read(open, page_no))?;
        self.decode(open, page_no, stored, image)
    }

    /// Brings a page to its plain form, to which records apply.
    fn decode(
        &self,
        open: &OpenSpace<'a>,
        page_no: PageNo,
        stored: &[u8],
        image: &mut [u8],
    ) -> anyhow::Result<()> {
        let decoded = open.decoder.decode(stored, page_no.0, image);
        if decoded.with_context(|| self.cannot_apply(open, page_no))? == Decoded::AsStored {
            image.copy_from_slice(stored);
        }
        Ok(())
    }

    /// Puts a page into the batch.
    fn add(
        &self,
        batch: &mut Batch<'a>,
        open: &Arc<OpenSpace<'a>>,
        page: PageId,
        start: usize,
        mut begun: Option<Box<Begun>>,
    ) -> anyhow::Result<()> {
        if let Some(failure) = begun.as_mut().and_then(|begun| begun.failure.take()) {
            return if self.is_known_damage(page, &failure) { Ok(()) } else { Err(failure) };
        }
        let is_built = match &begun {
            Some(begun) => begun.old.is_empty(),
            None => entries_of(batch, start).first().is_some_and(Entry::is_restart),
        };
        if !is_built {
            self.check_exists(open, page.page_no)?;
        }
        let is_new = batch.spaces.last().is_none_or(|last| !Arc::ptr_eq(last, open));
        if is_new {
            batch.spaces.push(Arc::clone(open));
        }
        let (file, offset) = open.space.locate(page.page_no);
        let page_len = open.space.flags.page_size().physical();
        batch.jobs.push(Job {
            space: batch.spaces.len() - 1,
            file,
            offset,
            page_no: page.page_no,
            entries: (start, batch.entries.len() - start),
            image: (batch.len, page_len),
            stored_len: page_len,
            is_built,
            begun,
            is_dirty: false,
        });
        batch.len += page_len;
        Ok(())
    }

    fn check_exists(&self, open: &OpenSpace<'a>, page_no: PageNo) -> anyhow::Result<()> {
        if page_no.0 >= open.space.size {
            bail!("{}: it is behind the end of the tablespace", self.cannot_apply(open, page_no));
        }
        Ok(())
    }

    /// Tells the system which parts of files will be read soon.
    fn fetch(batch: &Batch<'a>) {
        let mut pending: Option<(&File, u64, u64)> = None;
        let advise = |(file, start, end): (&File, u64, u64)| {
            // Just a hint.
            let _ = rustix::fs::fadvise(
                file,
                start,
                std::num::NonZeroU64::new(end - start),
                Advice::WillNeed,
            );
        };
        for job in batch.jobs.iter().filter(|job| !job.is_built && job.begun.is_none()) {
            let Some(file) = batch.spaces.get(job.space).and_then(|s| s.files.get(job.file)) else {
                continue;
            };
            let end = job.offset + job.image.1 as u64;
            pending = match pending {
                Some((before, start, before_end))
                    if std::ptr::eq(before, file)
                        && job.offset >= before_end
                        && job.offset - before_end <= READAHEAD_GAP =>
                {
                    Some((file, start, end))
                }
                other => {
                    other.into_iter().for_each(advise);
                    Some((file, job.offset, end))
                }
            };
        }
        pending.into_iter().for_each(advise);
    }

    /// Brings the pages of batches up to date.
    fn bring_all(
        &self,
        work: Receiver<Box<Batch<'a>>>,
        done: Sender<Box<Batch<'a>>>,
    ) -> anyhow::Result<()> {
        let mut old = Vec::new();
        let mut log = self.log.runs()?;
        for mut batch in work {
            self.bring(&mut batch, &mut old, &mut log)?;
            if done.send(batch).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn bring(
        &self,
        batch: &mut Batch<'a>,
        old: &mut Vec<u8>,
        log: &mut LogRuns<'a>,
    ) -> anyhow::Result<()> {
        let Batch { spaces, jobs, entries, images, len, contents } = batch;
        if images.len() < *len {
            // Exactly: the budget counts on it.
            images.reserve_exact(self.budget.batch.max(*len) - images.len());
            images.resize(*len, 0);
        }
        self.read(spaces, jobs, images)?;
        let mut journal_file = None;
        let mut record_bytes = 0;
        for job in jobs {
            let Some(open) = spaces.get(job.space) else { continue };
            let (start, count) = job.entries;
            let entries = entries.get(start..start + count).unwrap_or_default();
            record_bytes += entries.iter().map(Entry::len).sum::<u64>();
            let (start, len) = job.image;
            let Some(image) = images.get_mut(start..start + len) else { continue };
            let context = || self.cannot_apply(open, job.page_no);
            let mut state = if let Some(begun) = job.begun.take() {
                image.copy_from_slice(&begun.image);
                *old = begun.old;
                begun.state
            } else if job.is_built {
                old.clear();
                State::new()
            } else {
                old.clear();
                old.extend_from_slice(image);
                match self.decode(open, job.page_no, old, image) {
                    Err(error) if self.is_known_damage(job.page(open), &error) => {
                        // The image may be half decrypted.
                        image.copy_from_slice(old);
                        continue;
                    }
                    decoded => decoded?,
                }
                State::of_image(image)
            };
            let frame = frame_of(open.space.flags);
            state.apply(image, entries, log, frame).with_context(context)?;
            job.is_dirty = state.is_dirty;
            if state.is_freed && wipes_freed(open.space) && job.page_no.0 < open.space.size {
                image.fill(0);
                (job.is_dirty, job.stored_len) = (true, 0);
                continue;
            }
            if !job.is_dirty {
                // Nothing stays in the clear that is not needed so.
                if old.len() == image.len() {
                    image.copy_from_slice(old);
                }
                continue;
            }
            job.stored_len =
                state.encode(image, &open.encoder, job.page_no).with_context(context)?;
            if !job.is_built || job.page_no.0 == 0 {
                let place = (job.space, job.file);
                if journal_file != Some(place) {
                    journal_file = Some(place);
                    if let Some(file) = open.space.files.get(job.file) {
                        contents.file(&file.path);
                    }
                }
                contents.page(job.offset, old, image);
            }
        }
        self.report.advance(record_bytes);
        Ok(())
    }

    /// Reads the pages that the log does not build, adjacent ones together.
    fn read(
        &self,
        spaces: &[Arc<OpenSpace<'a>>],
        jobs: &[Job],
        images: &mut [u8],
    ) -> anyhow::Result<()> {
        let is_read = |job: &&Job| !job.is_built && job.begun.is_none();
        let mut rest = jobs;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if !is_read(&first) {
                continue;
            }
            let mut last = first;
            while let Some((next, after)) = rest.split_first()
                && is_read(&next)
                && next.follows(last)
            {
                last = next;
                rest = after;
            }
            let Some(open) = spaces.get(first.space) else { continue };
            let range = first.image.0..last.image.0 + last.image.1;
            if let (Some(file), Some(buffer)) = (open.files.get(first.file), images.get_mut(range))
            {
                read_padded(file, buffer, first.offset)
                    .with_context(|| self.cannot_read(open, first.page_no))?;
            }
        }
        Ok(())
    }

    /// Stores differences and passes on the batches whose differences are durable.
    fn keep_journal(
        &self,
        done: Receiver<Box<Batch<'a>>>,
        write: Sender<ToWrite<'a>>,
    ) -> anyhow::Result<()> {
        let mut journal: Option<Journal> = None;
        let mut group = Vec::new();
        while let Ok(first) = done.recv() {
            let mut len = first.contents.as_bytes().len();
            group.push(first);
            while len < JOURNAL_GROUP
                && let Ok(next) = done.try_recv()
            {
                len += next.contents.as_bytes().len();
                group.push(next);
            }
            if len > 0 {
                let journal = match &mut journal {
                    Some(journal) => journal,
                    None => journal.insert(Journal::create(self.dir, self.log_id, self.storage)?),
                };
                if journal.len() > JOURNAL_LEN_MAX {
                    let (answer, durable) = bounded(1);
                    if write.send(ToWrite::Barrier(answer)).is_err() || durable.recv().is_err() {
                        return Ok(());
                    }
                    journal.restart(self.storage)?;
                }
                journal.store(group.iter().map(|batch| &batch.contents), self.storage)?;
            }
            for batch in group.drain(..) {
                if write.send(ToWrite::Batch(batch)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes pages into their files and gives the batches back.
    fn write_all(
        &self,
        write: Receiver<ToWrite<'a>>,
        free: Sender<Box<Batch<'a>>>,
        flush: Sender<ToFlush<'a>>,
        written: &AtomicU64,
    ) -> anyhow::Result<()> {
        for message in write {
            let mut batch = match message {
                ToWrite::Batch(batch) => batch,
                ToWrite::Barrier(answer) => {
                    if flush.send(ToFlush::Barrier(answer)).is_err() {
                        break;
                    }
                    continue;
                }
            };
            let pages = self.write(&batch)?;
            written.fetch_add(pages, Ordering::Relaxed);
            let spaces = std::mem::take(&mut batch.spaces);
            batch.jobs.clear();
            batch.entries.clear();
            batch.contents.clear();
            batch.len = 0;
            // The dispatcher may have finished.
            let _ = free.send(batch);
            if pages > 0 && flush.send(ToFlush::Spaces(spaces)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes the changed pages, adjacent ones together; returns how many.
    fn write(&self, batch: &Batch<'a>) -> anyhow::Result<u64> {
        let mut pages = 0;
        let mut rest = batch.jobs.as_slice();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if !first.is_dirty {
                continue;
            }
            pages += 1;
            let mut last = first;
            while let Some((next, after)) = rest.split_first()
                && next.is_dirty
                && next.follows(last)
            {
                pages += 1;
                last = next;
                rest = after;
            }
            let Some(open) = batch.spaces.get(first.space) else { continue };
            let range = first.image.0..last.image.0 + last.image.1;
            if let (Some(file), Some(images)) =
                (open.files.get(first.file), batch.images.get(range))
            {
                self.storage
                    .write_at(file, images, first.offset)
                    .with_context(|| format!("write {}", open.place(self.dir, first.page_no)))?;
            }
        }
        for job in batch.jobs.iter().filter(|job| job.is_dirty && job.stored_len < job.image.1) {
            let open = batch.spaces.get(job.space);
            let Some((open, file)) = open.and_then(|open| Some((open, open.files.get(job.file)?)))
            else {
                continue;
            };
            let stored = (job.stored_len as u64).next_multiple_of(FILE_BLOCK);
            let end = job.image.1 as u64;
            if stored < end {
                self.storage
                    .punch_hole(file, job.offset + stored, end - stored)
                    .with_context(|| format!("write {}", open.place(self.dir, job.page_no)))?;
            }
        }
        Ok(pages)
    }

    /// Keeps the disk busy, and what is left for the last sync short.
    fn flush_all(&self, flush: Receiver<ToFlush<'a>>) -> anyhow::Result<()> {
        let mut group: Vec<Arc<OpenSpace<'a>>> = Vec::new();
        while let Ok(first) = flush.recv() {
            let mut barrier = None;
            for message in std::iter::once(first).chain(flush.try_iter()) {
                match message {
                    ToFlush::Spaces(spaces) => group.extend(spaces),
                    ToFlush::Barrier(answer) => barrier = Some(answer),
                }
            }
            group.sort_by_key(Arc::as_ptr);
            group.dedup_by(|a, b| Arc::ptr_eq(a, b));
            for open in group.drain(..) {
                for (file, data) in open.files.iter().zip(&open.space.files) {
                    self.storage
                        .sync(file)
                        .with_context(|| format!("sync {}", self.dir.join(&data.path).display()))?;
                }
            }
            // Only now is everything before it durable.
            if let Some(answer) = barrier {
                let _ = answer.send(());
            }
        }
        Ok(())
    }

    /// Whether `error` is what is known of the page since it was copied.
    fn is_known_damage(&self, page: PageId, error: &anyhow::Error) -> bool {
        self.corrupted.contains(page) && corrupted::is_damage(error)
    }

    fn cannot_apply(&self, open: &OpenSpace<'a>, page_no: PageNo) -> String {
        format!("Unable to apply log to corrupted {}", open.place(self.dir, page_no))
    }

    fn cannot_read(&self, open: &OpenSpace<'a>, page_no: PageNo) -> String {
        format!("read {}", open.place(self.dir, page_no))
    }
}

impl Job {
    fn page(&self, open: &OpenSpace<'_>) -> PageId {
        PageId { space: open.space.id, page_no: self.page_no }
    }

    /// Whether the page comes right after `before` in the file and in the batch.
    fn follows(&self, before: &Self) -> bool {
        self.space == before.space
            && self.file == before.file
            && self.offset == before.offset + before.image.1 as u64
            && self.image.0 == before.image.0 + before.image.1
    }
}

/// Whether pages that the log frees are made holes: those of tablespaces with page compression,
/// where the server does the same.
fn wipes_freed(space: &Space) -> bool {
    space.flags.page_compression().is_some()
}

fn entries_of<'b>(batch: &'b Batch<'_>, start: usize) -> &'b [Entry] {
    batch.entries.get(start..).unwrap_or_default()
}

/// Fills `buffer`; behind the end of the file are zeros.
fn read_padded(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => {
                rest.fill(0);
                break;
            }
            Ok(len) => filled += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
