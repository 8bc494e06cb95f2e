//! The work of a copy, shared by its threads: files are opened one by one, the biggest first, and
//! their bytes are claimed in ranges, so that all threads help with the last file. Few files are
//! open at a time: one is opened only when all ranges of those before it are claimed.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow};
use innodb::page::{self, Page, SpaceContext};
use innodb::{PageId, PageNo, SpaceId};

use super::delta::DeltaFile;
use super::{Copied, Source, SourceKind, Suspect, TRIES};
use crate::backup::source_file::SourceFile;
use crate::backup::spaces::{CopiedSpace, TableName};
use crate::hint::WithHint;
use crate::hooks::dbug;
use crate::report::Report;
use crate::sink::{self, SinkFile};

/// Bytes that a thread claims of a file at a time.
const CLAIM: u64 = 4 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file while it is copied.
pub struct OpenFile {
    /// Where it comes from and goes to.
    pub source: Source,
    /// The server's.
    pub file: SourceFile,
    /// What the backup gets of it.
    pub out: Destination,
    /// What pages are verified by; none where the redo log initialises all of them.
    pub context: Option<SpaceContext>,
    /// Number of the file's first page.
    pub first_page: u32,
    /// Bytes to copy.
    pub len: u64,
}

impl OpenFile {
    /// Ends the copy, all ranges of which are written.
    ///
    /// # Errors
    ///
    /// Those of the destination.
    pub fn finish(&self, report: &Report, thread: usize) -> anyhow::Result<()> {
        let target = self.source.target.display();
        let finished = match &self.out {
            Destination::Whole(out) => out.finish(self.len),
            Destination::Changed(delta) => delta.finish(),
        };
        finished.with_context(|| format!("finish {target} in the backup"))?;
        report.say_as(thread, "        ...done");
        if self.source.is_listed_table() {
            dbug::table_event("after_copy", &self.source.target);
        }
        Ok(())
    }

    /// How many zeros in a row, so aligned, become a hole of the copy. In files of compressed pages
    /// the server has punched holes behind each page; in others only those that are worth it are
    /// made.
    pub fn hole_size(&self) -> usize {
        sink::hole_size(self.context.as_ref().map(SpaceContext::flags))
    }

    /// Whether the file is no more the one of tablespace `id` that was opened: IMPORT TABLESPACE
    /// writes all pages anew.
    fn is_replaced(&self, id: SpaceId) -> bool {
        let mut header = [0; page::HEADER_LEN];
        let is_shorter = self.file.identity().is_ok_and(|now| now.size < self.len);
        let is_read = self.file.read_at(&mut header, 0).is_ok();
        is_shorter || is_read && Page::new(&header).is_none_or(|page| page.space_id() != id)
    }
}

/// What a backup gets of a file.
pub enum Destination {
    /// All of it.
    Whole(Box<dyn SinkFile>),
    /// Changed pages.
    Changed(DeltaFile),
}

/// A piece of work of one thread.
pub enum Task {
    /// Open this file.
    Open(Source),
    /// Copy the bytes from `start` to `end`.
    Range {
        /// The file.
        file: Arc<OpenFile>,
        /// First byte.
        start: u64,
        /// Byte after the last.
        end: u64,
    },
}

/// A file of which ranges are still to be claimed or in work.
struct Slot {
    file: Arc<OpenFile>,
    next: u64,
    in_work: usize,
    /// Byte up to which the ranges have had their turn, and those behind it that need none.
    turn: u64,
    passed: BTreeMap<u64, u64>,
}

impl Slot {
    fn new(file: Arc<OpenFile>) -> Self {
        Self { file, next: 0, in_work: 0, turn: 0, passed: BTreeMap::new() }
    }
}

#[derive(Default)]
struct QueueState {
    /// Biggest last.
    waiting: Vec<Source>,
    /// Threads that are opening a file, which can bring more ranges.
    opening: usize,
    slots: Vec<Slot>,
    copied: Copied,
    error: Option<anyhow::Error>,
}

/// The work of a run, shared by its threads.
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    bytes: AtomicU64,
}

impl Queue {
    /// All work that `waiting` (biggest last) makes, after what was copied `before`.
    pub fn new(waiting: Vec<Source>, before: Copied) -> Self {
        let bytes = AtomicU64::new(before.bytes);
        let state = QueueState { waiting, copied: before, ..QueueState::default() };
        Self { state: Mutex::new(state), changed: Condvar::new(), bytes }
    }

    /// The next piece of work; waits for files that are being opened. `None`: nothing is left.
    pub fn next(&self, any_offset: bool) -> Option<Task> {
        let mut state = lock(&self.state);
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(slot) = state.slots.iter_mut().find(|slot| slot.next < slot.file.len) {
                let start = slot.next;
                let len = if any_offset { CLAIM } else { slot.file.len };
                slot.next = start.saturating_add(len).min(slot.file.len);
                slot.in_work += 1;
                return Some(Task::Range { file: slot.file.clone(), start, end: slot.next });
            }
            if let Some(source) = state.waiting.pop() {
                state.opening += 1;
                return Some(Task::Open(source));
            }
            if state.opening == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the outcome of [`Task::Open`]: a file whose ranges all threads may claim, not empty.
    pub fn opened(&self, file: Option<Arc<OpenFile>>) {
        let mut state = lock(&self.state);
        state.opening -= 1;
        state.slots.extend(file.map(Slot::new));
        self.changed.notify_all();
    }

    /// Waits until all ranges of `file` before the one from `start` on have had their turn. False:
    /// the work of all has ended. Ranges are claimed in order and nobody waits for a later one.
    pub fn await_turn(&self, file: &Arc<OpenFile>, start: u64) -> bool {
        let mut state = lock(&self.state);
        loop {
            let slot = state.slots.iter().find(|slot| Arc::ptr_eq(&slot.file, file));
            match slot {
                _ if state.error.is_some() => return false,
                Some(slot) if slot.turn != start => {}
                _ => return true,
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the turn of a range, or takes note that it needs none.
    pub fn pass_turn(&self, file: &Arc<OpenFile>, start: u64, end: u64) {
        let mut state = lock(&self.state);
        let slot = state.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.file, file));
        let Some(slot) = slot else { return };
        slot.passed.insert(start, end);
        while let Some(end) = slot.passed.remove(&slot.turn) {
            slot.turn = end;
        }
        self.changed.notify_all();
    }

    /// Notes that a range of `file` is done; whether it was the last.
    pub fn done(&self, file: &Arc<OpenFile>) -> bool {
        let mut state = lock(&self.state);
        let Some(index) = state.slots.iter().position(|slot| Arc::ptr_eq(&slot.file, file)) else {
            return false;
        };
        let Some(slot) = state.slots.get_mut(index) else { return false };
        slot.in_work -= 1;
        let complete = slot.in_work == 0 && slot.next == slot.file.len;
        if complete {
            state.slots.swap_remove(index);
        }
        complete
    }

    /// Whether the tablespace was not copied before; if so it is now spoken for.
    pub fn claim(&self, id: SpaceId, space: CopiedSpace) -> bool {
        let mut state = lock(&self.state);
        match state.copied.spaces.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(space);
                true
            }
        }
    }

    /// Adds to the bytes that were read.
    pub fn count(&self, len: u64) {
        self.bytes.fetch_add(len, Ordering::Relaxed);
    }

    /// Notes a table that the server had not written yet.
    pub fn defer(&self, name: TableName) {
        lock(&self.state).copied.deferred.push(name);
    }

    /// Notes a file that the backup has now.
    pub fn note_written(&self, target: PathBuf) {
        lock(&self.state).copied.written.insert(target);
    }

    /// Remembers a problem that is none if the server truncates the undo tablespace, or has put
    /// another table into the file meanwhile; an error for all other files.
    ///
    /// # Errors
    ///
    /// The problem, with the name of the file.
    pub fn suspect(&self, file: &OpenFile, problem: String) -> anyhow::Result<()> {
        let path = &file.source.path;
        match (&file.source.kind, &file.context) {
            (SourceKind::Undo, Some(context)) => {
                let suspect = Suspect { path: path.clone(), problem };
                let id = context.space_id();
                lock(&self.state).copied.suspect.entry(id).or_insert(suspect);
                Ok(())
            }
            _ if self.note_replaced(file) => Ok(()),
            _ => Err(anyhow!(
                "failed to read page after {TRIES} retries. File {} seems to be corrupted: \
                 {problem}",
                path.display()
            ))
            .hint(
                "look for the cause in the server's error log and in what it is stored on; \
                 --log-innodb-page-corruption backs up all the same and lists the damaged pages",
            ),
        }
    }

    /// Lists damaged pages, which are copied as they are; false if another table has been put into
    /// the file meanwhile.
    pub fn list_corrupted(&self, file: &OpenFile, pages: impl Iterator<Item = PageNo>) -> bool {
        let Some(context) = file.context.filter(|_| !self.note_replaced(file)) else {
            return false;
        };
        let name = match &file.source.kind {
            SourceKind::Table(name)
            | SourceKind::New { name, .. }
            | SourceKind::LateTable { name, .. } => name.as_bytes(),
            SourceKind::System { .. } | SourceKind::Undo => {
                file.source.target.as_os_str().as_bytes()
            }
        };
        let corrupted = &mut lock(&self.state).copied.corrupted;
        for page_no in pages {
            corrupted.add(PageId { space: context.space_id(), page_no }, name);
        }
        true
    }

    /// Whether a table's file became another one's meanwhile, which is remembered.
    pub fn note_replaced(&self, file: &OpenFile) -> bool {
        let id = match (&file.source.kind, &file.context) {
            (SourceKind::New { id, .. }, None) => *id,
            (SourceKind::Table(_) | SourceKind::New { .. }, Some(context)) => context.space_id(),
            _ => return false,
        };
        let is_replaced = file.is_replaced(id);
        if is_replaced {
            lock(&self.state).copied.replaced.insert(id);
        }
        is_replaced
    }

    /// Ends the work of all threads; the first error counts.
    pub fn fail(&self, error: anyhow::Error) {
        let mut state = lock(&self.state);
        state.error.get_or_insert(error);
        self.changed.notify_all();
    }

    /// What the copies came to.
    ///
    /// # Errors
    ///
    /// The first that a thread had.
    pub fn into_result(self) -> anyhow::Result<Copied> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.error {
            Some(error) => Err(error),
            None => Ok(Copied { bytes: self.bytes.into_inner(), ..state.copied }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::sink::{LocalDir, Sink};

    struct Files {
        dir: tempfile::TempDir,
        sink: LocalDir,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let sink = LocalDir::create(&dir.path().join("backup")).unwrap();
            Self { dir, sink }
        }

        fn source(&self, name: &str, len: u64) -> Source {
            let path = self.dir.path().join(name);
            fs::write(&path, []).unwrap();
            Source { path, target: name.into(), len, kind: SourceKind::Undo }
        }

        fn open(&self, source: Source) -> Arc<OpenFile> {
            let file = SourceFile::open(&source.path).unwrap();
            let out = Destination::Whole(self.sink.create(&source.target).unwrap());
            let len = source.len;
            Arc::new(OpenFile { source, file, out, context: None, first_page: 0, len })
        }
    }

    /// The next piece of work, which must be a file to open.
    fn next_source(queue: &Queue) -> Source {
        match queue.next(true) {
            Some(Task::Open(source)) => source,
            _ => panic!("no file to open"),
        }
    }

    /// The next piece of work, which must be a range.
    fn next_range(queue: &Queue, any_offset: bool) -> (Arc<OpenFile>, u64, u64) {
        match queue.next(any_offset) {
            Some(Task::Range { file, start, end }) => (file, start, end),
            _ => panic!("no range to copy"),
        }
    }

    #[test]
    fn biggest_file_comes_first_and_in_ranges() {
        let files = Files::new();
        let queue = Queue::new(
            vec![files.source("small", 1), files.source("big", CLAIM + 5)],
            Copied::default(),
        );
        let source = next_source(&queue);
        assert_eq!(source.target, Path::new("big"));
        queue.opened(Some(files.open(source)));
        let (big, start, end) = next_range(&queue, true);
        assert_eq!((start, end), (0, CLAIM));
        let (_, start, end) = next_range(&queue, true);
        assert_eq!((start, end), (CLAIM, CLAIM + 5));
        // Its ranges are all claimed, so the next file is opened though none of them is done.
        assert_eq!(next_source(&queue).target, Path::new("small"));
        assert!(!queue.done(&big));
        assert!(queue.done(&big));
    }

    #[test]
    fn destination_that_needs_order_gives_a_file_to_one_thread() {
        let files = Files::new();
        let queue = Queue::new(vec![files.source("big", 3 * CLAIM)], Copied::default());
        let source = next_source(&queue);
        queue.opened(Some(files.open(source)));
        let (_, start, end) = next_range(&queue, false);
        assert_eq!((start, end), (0, 3 * CLAIM));
        assert!(queue.next(false).is_none());
    }

    #[test]
    fn file_that_its_opener_deals_with_leaves_nothing() {
        let files = Files::new();
        let queue =
            Queue::new(vec![files.source("gone", 1), files.source("small", 0)], Copied::default());
        next_source(&queue);
        queue.opened(None);
        next_source(&queue);
        queue.opened(None);
        assert!(queue.next(true).is_none());
    }

    #[test]
    fn thread_waits_for_the_ranges_of_a_file_that_another_opens() {
        let files = Files::new();
        let queue = Queue::new(vec![files.source("a", 2 * CLAIM)], Copied::default());
        let source = next_source(&queue);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| next_range(&queue, true).1);
            let file = files.open(source);
            queue.opened(Some(file));
            let own = next_range(&queue, true).1;
            let mut starts = [own, waiting.join().unwrap()];
            starts.sort_unstable();
            assert_eq!(starts, [0, CLAIM]);
        });
    }

    #[test]
    fn ranges_have_their_turns_in_order_whoever_is_done_first() {
        let files = Files::new();
        let queue = Queue::new(vec![files.source("a", 4 * CLAIM)], Copied::default());
        let source = next_source(&queue);
        queue.opened(Some(files.open(source)));
        let ranges: Vec<_> = (0..4).map(|_| next_range(&queue, true)).collect();
        let (file, ..) = &ranges[0];
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            // The second needs no turn and is done before the first.
            queue.pass_turn(file, ranges[1].1, ranges[1].2);
            for index in [3, 2, 0] {
                let (queue, order, (file, start, end)) = (&queue, &order, &ranges[index]);
                scope.spawn(move || {
                    assert!(queue.await_turn(file, *start));
                    lock(order).push(index);
                    queue.pass_turn(file, *start, *end);
                });
            }
        });
        assert_eq!(order.into_inner().unwrap(), [0, 2, 3]);
    }

    #[test]
    fn whoever_waits_for_a_turn_learns_of_an_error() {
        let files = Files::new();
        let queue = Queue::new(vec![files.source("a", 2 * CLAIM)], Copied::default());
        let source = next_source(&queue);
        queue.opened(Some(files.open(source)));
        let (file, ..) = next_range(&queue, true);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.await_turn(&file, CLAIM));
            queue.fail(anyhow::anyhow!("no space"));
            assert!(!waiting.join().unwrap());
        });
    }

    #[test]
    fn first_error_ends_the_work_of_all() {
        let files = Files::new();
        let queue = Queue::new(vec![files.source("a", 1)], Copied::default());
        queue.fail(anyhow::anyhow!("first"));
        queue.fail(anyhow::anyhow!("second"));
        assert!(queue.next(true).is_none());
        assert_eq!(queue.into_result().unwrap_err().to_string(), "first");
    }
}
