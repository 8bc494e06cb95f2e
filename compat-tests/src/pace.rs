//! How hard threads work on a server.

use std::thread;
use std::time::{Duration, Instant};

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses after each step of a thread, by how long the step took: so a server is busy for the same
/// part of the time, however fast the machine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    rest: u32,
}

impl Pace {
    /// No pauses.
    pub const FULL: Self = Self { rest: 0 };

    /// Pauses `rest` times as long as each step.
    pub fn resting(rest: u32) -> Self {
        Self { rest }
    }

    /// Takes a step, then pauses, but never for long: threads are to end soon when they are told.
    pub fn step(self, step: impl FnOnce()) {
        let start = Instant::now();
        step();
        thread::sleep((start.elapsed() * self.rest).min(LONGEST));
    }
}
