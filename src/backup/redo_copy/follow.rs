//! The thread that follows the log.
//!
//! It works in rounds: read a window from the end of the copy on, take the complete and proven
//! mini-transactions in it, write them to the destination, publish the new position. Between
//! rounds it can be held. A round that finds nothing is a stall: the log ends here for now, the
//! file was replaced, or the server overwrote what was not copied yet.
//!
//! # What proves a mini-transaction
//!
//! Checksum and sequence byte alone do not. The server writes whole blocks, and the rest of the
//! last one is whatever its log buffer held: log of a few KiB before, valid and of the same lap.
//! A terminator stands before it, but a read that meets a write halfway can return the block's
//! new beginning and its old rest: then stale log follows without a terminator, and now and then
//! its mini-transactions begin exactly where the new ones end. (Seen on 10.11 at 30 MB/s: once in
//! 5 s.) So only bytes that cannot change any more are taken:
//!
//! - what is before a block into which a valid mini-transaction reaches from the block before,
//!   because a server fills a block before it writes the next one, and stale log never goes on in
//!   the next block, which still holds log of the lap before, with the other sequence byte;
//! - what is before the end LSN of a checkpoint, or before an LSN that the server calls flushed;
//! - the end of the log, when it has not changed for [`SETTLE`].
//!
//! Each time, the knowledge is older than the read whose bytes are taken.
//!
//! Files of an archive (13) are like the first lap of a ring, with zeros where the other lap would
//! be; what is in them stays until it is removed, so only a file that is missing is an overrun.
//!
//! All this is about logs of 10.8 and later. In those of blocks, number and checksum of a block
//! tell stale ones and half written ones; only the last block is written again, so it is held back.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use innodb::encrypted::KeySource;
use redo::blocks::{BLOCK_LEN, BlocksEnd};
use redo::header::Checkpoint;
use redo::mtr::{Mtr, Run, RunKind, Stored, Unfinished};
use redo::record::{self, FileRecord, Record};
use redo::{Lsn, PageNo, Ring};

use super::framing::Framing;
use super::live_log::{AtPath, LiveLog};
use super::shared::{Shared, Step};
use super::{FileChange, FileEvent, RedoCopyError};

/// Bytes read when little is expected. Reading this from the page cache takes microseconds.
const WINDOW_MIN: usize = 16 << 10;
/// Bytes read at once when far behind; more than any mini-transaction has.
const WINDOW_MAX: usize = 4 << 20;
const _: () = assert!(WINDOW_MAX > redo::mtr::WINDOW_LEN_MIN);
/// A mini-transaction that is half written will be complete in a moment.
const TORN_WAIT: Duration = Duration::from_micros(200);
/// Between two looks at a log that may grow at any time.
const POLL: Duration = Duration::from_millis(1);
/// The same, when nothing has happened for [`IDLE_AFTER`] and nobody waits.
const POLL_IDLE: Duration = Duration::from_millis(10);
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// A write of a block takes microseconds; one that takes this long was never seen.
const SETTLE: Duration = Duration::from_millis(20);
/// Blocks of the log file: the largest unit in which a server writes.
const BLOCK: u64 = 4096;
/// A stall this long is examined, and again after the same time.
const EXAMINE_AFTER: Duration = Duration::from_millis(20);
/// How long the rest of a log that the server has replaced may take to settle.
const REPLACED_PATIENCE: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct Follower<W> {
    pub(super) log: LiveLog,
    pub(super) path: PathBuf,
    pub(super) keys: Option<Arc<dyn KeySource>>,
    pub(super) shared: Arc<Shared>,
    pub(super) out: W,
    pub(super) events: Sender<FileEvent>,
    pub(super) framing: Framing,
    /// The limit was reached, and everything before it was copied.
    pub(super) is_complete: bool,
    /// End of the copy.
    pub(super) position: Lsn,
    /// Everything before this is final in the file.
    pub(super) proven: Lsn,
    pub(super) window: Window,
    pub(super) tail: Option<Tail>,
    pub(super) stall: Option<Stall>,
}

/// Valid mini-transactions at the end of the log that are not proven yet.
pub(super) struct Tail {
    since: Instant,
    bytes: Vec<u8>,
}

/// The bytes last read.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// How much to read next.
    want: usize,
}

/// A time without progress.
pub(super) struct Stall {
    since: Instant,
    examined: Instant,
    /// What the examination found, to be confirmed by one more fruitless round.
    suspicion: Option<Suspicion>,
}

#[derive(Clone, Copy)]
enum Suspicion {
    Replaced,
    Gap,
    Overrun(Checkpoint),
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Something was copied.
    Progress,
    /// Another round at once: with a larger window, or with more that is proven.
    Again,
    /// Nothing is there.
    Nothing,
    /// Something incomplete or unproven is there.
    Torn,
}

impl<W: Write> Follower<W> {
    /// Copies until the limit is reached, then flushes and returns the destination.
    pub(super) fn run(mut self) -> Result<W, RedoCopyError> {
        loop {
            let limit = match self.shared.next_round() {
                Step::Stop => return Err(RedoCopyError::Aborted),
                Step::Copy { limit, flushed } => {
                    self.proven = self.proven.max(flushed);
                    limit
                }
            };
            let round = self.round(limit);
            if self.is_complete && round.is_ok() {
                self.out.flush().map_err(|error| RedoCopyError::Write(Arc::new(error)))?;
                self.shared.round_done(self.position, true);
                return Ok(self.out);
            }
            self.shared.round_done(self.position, false);
            match round? {
                Round::Progress => self.stall = None,
                Round::Again => {}
                stalled => self.stalled(stalled)?,
            }
        }
    }

    fn round(&mut self, limit: Option<Lsn>) -> Result<Round, RedoCopyError> {
        match self.framing {
            Framing::Ring(_) => self.ring_round(limit),
            Framing::Blocks(_) => self.block_round(limit),
        }
    }

    fn ring_round(&mut self, limit: Option<Lsn>) -> Result<Round, RedoCopyError> {
        let Framing::Ring(framing) = &mut self.framing else { return Ok(Round::Nothing) };
        if limit.is_some_and(|limit| limit <= self.position) {
            self.is_complete = true;
            return Ok(Round::Progress);
        }
        let (ring, layout) = (framing.ring(), framing.layout());
        let largest = usize::try_from(ring.capacity()).unwrap_or(WINDOW_MAX).min(WINDOW_MAX);
        let len = self.window.want.clamp(WINDOW_MIN, WINDOW_MAX).min(largest);
        // Only ever grows: no zeroing of memory that is about to be read into.
        if self.window.bytes.len() < len {
            self.window.bytes.resize(len, 0);
        }
        let window = self.window.bytes.get_mut(..len).unwrap_or_default();
        self.log.read(self.position, window)?;
        let proven = self.proven;
        let mut accepted = 0;
        let mut position = self.position;
        let (mut seen, mut lsn) = (0, self.position);
        let end = loop {
            let rest = window.get_mut(seen..).unwrap_or_default();
            let stored = match Stored::parse(rest, lsn, layout) {
                Ok(stored) => stored,
                Err(end) => break end,
            };
            seen += stored.stored_len();
            lsn = stored.end();
            if lsn > proven || limit == Some(position) {
                // A look ahead: where it reaches into another block, the block before is final.
                if let Some(block) = block_start(ring, lsn).filter(|&block| block > stored.start())
                {
                    self.proven = self.proven.max(block);
                }
                continue;
            }
            if let Some(limit) = limit.filter(|&limit| lsn > limit) {
                let start = stored.start();
                return Err(RedoCopyError::LimitInside { limit, start, end: lsn });
            }
            announce(&framing.decrypt(&stored)?, &self.events)?;
            let sequence_at = stored.sequence_at();
            (accepted, position) = (seen, lsn);
            // The copy never wraps, so all of it is in the first lap. The CRC does not cover this.
            if let Some(sequence) = rest.get_mut(sequence_at) {
                *sequence = 1;
            }
        };
        let (taken, unproven) =
            window.get(..seen).unwrap_or_default().split_at_checked(accepted).unwrap_or_default();
        self.out.write_all(taken).map_err(|error| RedoCopyError::Write(Arc::new(error)))?;
        self.position = position;
        // A log that ends in the middle of a block has a terminator there.
        let whole =
            end == Unfinished::Nothing || ring.offset(lsn).is_some_and(|at| at % BLOCK == 0);
        let full = end == Unfinished::NeedMore;
        let can_grow = full && len < largest;
        if whole && !can_grow && Tail::settled(&mut self.tail, unproven) {
            self.proven = self.proven.max(lsn);
        }
        self.window.want = match (can_grow, taken.is_empty()) {
            (true, _) => len * 4,
            (false, false) if full => len,
            _ if self.proven > proven => len,
            _ => WINDOW_MIN + unproven.len(),
        };
        Ok(if !taken.is_empty() {
            Round::Progress
        } else if can_grow || self.proven > proven {
            Round::Again
        } else if unproven.is_empty() && end == Unfinished::Nothing {
            Round::Nothing
        } else {
            Round::Torn
        })
    }

    fn block_round(&mut self, limit: Option<Lsn>) -> Result<Round, RedoCopyError> {
        let Framing::Blocks(framing) = &mut self.framing else { return Ok(Round::Nothing) };
        let capacity = usize::try_from(self.log.header().capacity()).unwrap_or(WINDOW_MAX);
        let largest = capacity.min(WINDOW_MAX);
        let len = self.window.want.clamp(WINDOW_MIN, WINDOW_MAX).min(largest);
        let len = len - len % BLOCK_LEN;
        if self.window.bytes.len() < len {
            self.window.bytes.resize(len, 0);
        }
        let window = self.window.bytes.get_mut(..len).unwrap_or_default();
        self.log.read(framing.copier.window_start(), window)?;
        let taken = framing.copier.take(window, limit, |mtr| announce(mtr, &self.events))?;
        let last = taken.last.as_ref().map(<[u8; BLOCK_LEN]>::as_slice);
        for blocks in [taken.blocks, last.unwrap_or_default()] {
            self.out.write_all(blocks).map_err(|error| RedoCopyError::Write(Arc::new(error)))?;
        }
        self.is_complete = last.is_some();
        let before = std::mem::replace(&mut self.position, framing.copier.position());
        let has_more = taken.end == BlocksEnd::NeedMore;
        let can_grow = has_more && taken.blocks.is_empty() && len < largest;
        self.window.want = match (can_grow, has_more) {
            (true, _) => len * 4,
            (false, true) => len,
            (false, false) => WINDOW_MIN,
        };
        match taken.end {
            BlocksEnd::KeyVersion(version) => {
                framing.change_key(version)?;
                Ok(Round::Again)
            }
            _ if self.position > before => Ok(Round::Progress),
            _ if can_grow => Ok(Round::Again),
            BlocksEnd::Overwritten if taken.is_at_start => {
                Err(self.shared.overrun(self.position, self.position))
            }
            BlocksEnd::Partial | BlocksEnd::Old => Ok(Round::Nothing),
            _ => Ok(Round::Torn),
        }
    }

    /// Finds out why there is nothing to copy, if that lasts; waits a little.
    fn stalled(&mut self, round: Round) -> Result<(), RedoCopyError> {
        let now = Instant::now();
        let mut stall =
            self.stall.take().unwrap_or(Stall { since: now, examined: now, suspicion: None });
        match stall.suspicion {
            Some(Suspicion::Replaced) => match self.switch() {
                // The last of the old file counts once it has settled, like every end of a log.
                Err(RedoCopyError::Replaced { .. })
                    if now.duration_since(stall.since) < REPLACED_PATIENCE =>
                {
                    self.shared.wait_for_change(POLL);
                    self.stall = Some(stall);
                    return Ok(());
                }
                result => return result,
            },
            Some(Suspicion::Gap) => {
                return Err(RedoCopyError::Removed { position: self.position });
            }
            Some(Suspicion::Overrun(checkpoint)) => {
                return Err(self.shared.overrun(self.position, checkpoint.end_lsn));
            }
            None => {}
        }
        if now.duration_since(stall.examined) >= EXAMINE_AFTER {
            stall.examined = now;
            stall.suspicion = self.examine()?;
        }
        if stall.suspicion.is_none() {
            let lasted = now.duration_since(stall.since);
            let wait = if round == Round::Torn && lasted < EXAMINE_AFTER {
                TORN_WAIT
            } else if lasted < IDLE_AFTER || self.shared.in_a_hurry() {
                POLL
            } else {
                POLL_IDLE
            };
            self.shared.wait_for_change(wait);
        }
        self.stall = Some(stall);
        Ok(())
    }

    fn examine(&mut self) -> Result<Option<Suspicion>, RedoCopyError> {
        if self.log.at_path()? == AtPath::Other {
            return Ok(Some(Suspicion::Replaced));
        }
        if self.log.has_gap(self.position)? {
            return Ok(Some(Suspicion::Gap));
        }
        let checkpoint = self.log.checkpoint()?;
        self.proven = self.proven.max(checkpoint.end_lsn);
        if !self.log.is_reused() {
            return Ok(None);
        }
        // Whatever is before the checkpoint is durable in the file, unless its place has been
        // reused; whatever is before its end LSN was written.
        let lap = self.log.header().capacity();
        let overrun =
            checkpoint.lsn > self.position || checkpoint.end_lsn.since(self.position) >= lap;
        Ok(overrun.then_some(Suspicion::Overrun(checkpoint)))
    }

    /// Goes on in the file that replaced the log; the old one has been read to its end.
    fn switch(&mut self) -> Result<(), RedoCopyError> {
        let log = LiveLog::open(&self.path, self.keys.clone())?;
        // Servers with logs of blocks replace them at a start alone.
        let first_lsn = log.header().ring().map_or(log.header().checkpoint().lsn, Ring::first_lsn);
        if self.position < first_lsn {
            return Err(RedoCopyError::Replaced { position: self.position, first_lsn });
        }
        match &mut self.framing {
            Framing::Ring(framing) => framing.switch(log.header())?,
            Framing::Blocks(_) => {
                return Err(RedoCopyError::Replaced { position: self.position, first_lsn });
            }
        }
        self.shared.set_capacity(log.header().capacity());
        self.log = log;
        Ok(())
    }
}

/// LSN of the first byte of the block that holds the byte before `end`.
fn block_start(ring: Ring, end: Lsn) -> Option<Lsn> {
    let last = end.0.checked_sub(1)?;
    last.checked_sub(ring.offset(Lsn(last))? % BLOCK).map(Lsn)
}

impl Tail {
    /// Whether the unproven bytes have been the same for [`SETTLE`]; remembers them.
    fn settled(tail: &mut Option<Self>, unproven: &[u8]) -> bool {
        if unproven.is_empty() {
            *tail = None;
            return false;
        }
        match tail {
            Some(same) if same.bytes == unproven => same.since.elapsed() >= SETTLE,
            _ => {
                *tail = Some(Self { since: Instant::now(), bytes: unproven.to_vec() });
                false
            }
        }
    }
}

/// Tells about what a mini-transaction does to files.
fn announce(mtr: &Mtr<'_>, events: &Sender<FileEvent>) -> Result<(), RedoCopyError> {
    for run in mtr.runs() {
        let run = run?;
        let change = match run.kind {
            RunKind::File => file_change(mtr, &run)?,
            RunKind::Trim => Some(FileChange::Trim { page_no: run.page.page_no }),
            RunKind::Init if run.page.page_no == PageNo(0) => Some(FileChange::InitFirstPage),
            _ => None,
        };
        if let Some(change) = change {
            // Nobody listens any more once it is known what to copy.
            let _ = events.send(FileEvent { lsn: mtr.start(), space: run.page.space, change });
        }
    }
    Ok(())
}

fn file_change(mtr: &Mtr<'_>, run: &Run) -> Result<Option<FileChange>, RedoCopyError> {
    let path = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
    // Alone, a FILE_CHECKPOINT is the last record; that it is so here too is prepare's concern.
    let Some(record) = record::decode_run(mtr.run_bytes(run), mtr.start()).next() else {
        return Ok(None);
    };
    Ok(match record? {
        Record::File(FileRecord::Create { name, .. }) => {
            Some(FileChange::Create { path: path(name) })
        }
        Record::File(FileRecord::Delete { name, .. }) => {
            Some(FileChange::Delete { path: path(name) })
        }
        Record::File(FileRecord::Modify { name, .. }) => {
            Some(FileChange::Modify { path: path(name) })
        }
        Record::File(FileRecord::Rename { from, to, .. }) => {
            Some(FileChange::Rename { from: path(from), to: path(to) })
        }
        _ => None,
    })
}
