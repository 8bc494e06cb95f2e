//! What the thread and its owner tell each other.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redo::Lsn;

use super::{Lag, RedoCopyError};

/// Guarded by one lock that is never held over I/O.
struct State {
    /// Where the copy begins.
    from: Lsn,
    /// End of the copy.
    position: Lsn,
    limit: Option<Lsn>,
    mode: Mode,
    /// Callers that want the thread between two rounds.
    holders: u32,
    /// Callers that wait for the position.
    waiters: u32,
    /// The thread is in a round.
    busy: bool,
    /// Something changed that the thread should look at.
    kicked: bool,
    end: Option<Result<(), RedoCopyError>>,
    capacity: u64,
    /// The largest LSN the server is known to have reached.
    server_lsn: Lsn,
    /// The file holds everything before this.
    flushed: Lsn,
    lag_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Copying,
    Paused,
    Aborted,
}

/// What the thread does next.
pub(super) enum Step {
    Copy {
        limit: Option<Lsn>,
        /// Everything before this is final in the file, by the server's word.
        flushed: Lsn,
    },
    Stop,
}

pub(super) struct Shared {
    state: Mutex<State>,
    /// For the thread: it may go on, or should look again.
    to_thread: Condvar,
    /// For everybody else: the position moved, a round or the thread ended.
    to_owner: Condvar,
}

impl Shared {
    /// The copy begins at `from`; the server has written everything before `server_lsn`.
    pub(super) fn new(from: Lsn, server_lsn: Lsn, capacity: u64) -> Self {
        let state = State {
            from,
            position: from,
            limit: None,
            mode: Mode::Copying,
            holders: 0,
            waiters: 0,
            busy: false,
            kicked: false,
            end: None,
            capacity,
            server_lsn,
            flushed: server_lsn,
            lag_max: server_lsn.since(from),
        };
        Self { state: Mutex::new(state), to_thread: Condvar::new(), to_owner: Condvar::new() }
    }

    /// Nothing panics while it holds the lock, and every field is valid by itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The thread's side.

    /// Waits until copying is allowed, then marks the round as begun.
    pub(super) fn next_round(&self) -> Step {
        let held = |state: &mut State| match state.mode {
            Mode::Copying => state.holders > 0,
            Mode::Paused => true,
            Mode::Aborted => false,
        };
        let mut state =
            self.to_thread.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner);
        if state.mode == Mode::Aborted {
            return Step::Stop;
        }
        state.busy = true;
        state.kicked = false;
        Step::Copy { limit: state.limit, flushed: state.flushed }
    }

    /// Publishes the position after a round; `complete`: this was the last one.
    pub(super) fn round_done(&self, position: Lsn, complete: bool) {
        let mut state = self.lock();
        state.busy = false;
        state.position = position;
        if complete {
            state.end = Some(Ok(()));
        }
        self.to_owner.notify_all();
    }

    /// Waits until the log should be looked at again.
    pub(super) fn wait_for_change(&self, timeout: Duration) {
        let quiet = |state: &mut State| !state.kicked && state.mode != Mode::Aborted;
        drop(self.to_thread.wait_timeout_while(self.lock(), timeout, quiet));
    }

    pub(super) fn in_a_hurry(&self) -> bool {
        let state = self.lock();
        state.limit.is_some() || state.waiters > 0
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.lock().capacity = capacity;
    }

    /// The thread is gone; `error` unless it had reached the limit.
    pub(super) fn ended(&self, error: Option<RedoCopyError>) {
        let mut state = self.lock();
        state.busy = false;
        if let Some(error) = error {
            state.end = Some(Err(error));
        }
        self.to_owner.notify_all();
    }

    /// The error for log at `position` having been overwritten by log up to `written`.
    pub(super) fn overrun(&self, position: Lsn, written: Lsn) -> RedoCopyError {
        let state = self.lock();
        let known = written.max(state.server_lsn);
        let behind = known.since(position).max(state.lag_max).max(state.capacity);
        RedoCopyError::Overrun {
            from: state.from,
            to: position,
            target: state.limit.unwrap_or(known),
            enough: enough(behind),
        }
    }

    // The owner's side.

    pub(super) fn position(&self) -> Result<Lsn, RedoCopyError> {
        let state = self.lock();
        state.check()?;
        Ok(state.position)
    }

    /// Waits until the position is `lsn` or more, as long as it moves at least once in `patience`;
    /// whether it is.
    pub(super) fn wait_for(&self, lsn: Lsn, patience: Duration) -> Result<bool, RedoCopyError> {
        let mut state = self.lock();
        state.waiters += 1;
        state.kicked = true;
        self.to_thread.notify_all();
        let mut state =
            self.wait_while(state, patience, |state| state.end.is_none() && state.position < lsn);
        state.waiters -= 1;
        state.check()?;
        Ok(state.position >= lsn)
    }

    /// Waits while `pending`, until the position has not moved for `patience`: how long a copy may
    /// take depends on how far it is behind.
    fn wait_while<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        patience: Duration,
        mut pending: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        loop {
            let before = state.position;
            let (now, waited) = self
                .to_owner
                .wait_timeout_while(state, patience, &mut pending)
                .unwrap_or_else(PoisonError::into_inner);
            state = now;
            if !waited.timed_out() || state.position == before {
                return state;
            }
        }
    }

    /// Runs `change` while the thread is between two rounds, or gone.
    fn between_rounds<T>(
        &self,
        timeout: Duration,
        change: impl FnOnce(&mut State) -> Result<T, RedoCopyError>,
    ) -> Result<T, RedoCopyError> {
        let mut state = self.lock();
        state.holders += 1;
        let (mut state, waited) = self
            .to_owner
            .wait_timeout_while(state, timeout, |state| state.busy)
            .unwrap_or_else(PoisonError::into_inner);
        state.holders -= 1;
        state.kicked = true;
        let result = if waited.timed_out() {
            Err(RedoCopyError::Stuck)
        } else {
            state.check().and_then(|()| change(&mut state))
        };
        self.to_thread.notify_all();
        result
    }

    pub(super) fn pause(&self, timeout: Duration) -> Result<Lsn, RedoCopyError> {
        self.between_rounds(timeout, |state| {
            state.mode = Mode::Paused;
            Ok(state.position)
        })
    }

    pub(super) fn resume(&self) {
        let mut state = self.lock();
        state.mode = Mode::Copying;
        state.kicked = true;
        self.to_thread.notify_all();
    }

    pub(super) fn set_limit(&self, limit: Lsn, timeout: Duration) -> Result<(), RedoCopyError> {
        self.between_rounds(timeout, |state| {
            if state.position > limit {
                return Err(RedoCopyError::LimitPassed { position: state.position, limit });
            }
            state.limit = Some(limit);
            Ok(())
        })
    }

    pub(super) fn note_server_lsn(&self, lsn: Lsn) {
        let mut state = self.lock();
        state.server_lsn = state.server_lsn.max(lsn);
        state.lag_max = state.lag_max.max(state.server_lsn.since(state.position));
    }

    pub(super) fn note_flushed(&self, lsn: Lsn) {
        let mut state = self.lock();
        state.flushed = state.flushed.max(lsn);
        state.kicked = true;
        self.to_thread.notify_all();
    }

    pub(super) fn lag(&self) -> Lag {
        let state = self.lock();
        let bytes = state.server_lsn.since(state.position);
        Lag {
            bytes,
            headroom: state.capacity.saturating_sub(bytes),
            capacity: state.capacity,
            enough: enough(state.lag_max),
        }
    }

    /// Waits for the end of the copy, as long as it moves at least once in `patience`; where it is.
    pub(super) fn drain(&self, patience: Duration) -> Result<Lsn, RedoCopyError> {
        let started = Instant::now();
        let mut state = self.lock();
        state.check()?;
        let Some(limit) = state.limit else { return Err(RedoCopyError::NoLimit) };
        state.mode = Mode::Copying;
        state.kicked = true;
        self.to_thread.notify_all();
        let state = self.wait_while(state, patience, |state| state.end.is_none());
        state.check()?;
        if state.end.is_some() {
            return Ok(state.position);
        }
        let missing = limit.since(state.position);
        if missing < state.capacity {
            let (from, to) = (state.from, state.position);
            let waited = started.elapsed();
            return Err(RedoCopyError::NotReached { from, to, target: limit, waited });
        }
        let position = state.position;
        drop(state);
        Err(self.overrun(position, limit))
    }

    /// Tells the thread to end, and gives it a moment to do so.
    pub(super) fn abort(&self, timeout: Duration) {
        let mut state = self.lock();
        state.mode = Mode::Aborted;
        self.to_thread.notify_all();
        let running = |state: &mut State| state.end.is_none();
        drop(self.to_owner.wait_timeout_while(state, timeout, running));
    }
}

impl State {
    /// The error that ended the thread, if one did.
    fn check(&self) -> Result<(), RedoCopyError> {
        match &self.end {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

/// A log size that bears a copy which is `behind` bytes behind: twice that, in whole MiB.
fn enough(behind: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    behind.saturating_mul(2).div_ceil(MIB).saturating_mul(MIB).max(4 * MIB)
}
