//! `--throttle`: how fast pages may be read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bounds the bytes read a second, over all threads.
pub struct Throttle {
    bytes_per_second: u64,
    next: Mutex<Instant>,
}

impl Throttle {
    /// `rate` reads of 10 MiB a second, the unit of `--throttle`.
    pub fn new(rate: u32) -> Self {
        let bytes_per_second = u64::from(rate).max(1) * (10 << 20);
        Self { bytes_per_second, next: Mutex::new(Instant::now()) }
    }

    /// Waits until `len` more bytes may be read.
    pub fn take(&self, len: usize) {
        let nanos = len as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let wait = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*next).max(Instant::now());
            *next = start + cost;
            start.saturating_duration_since(Instant::now())
        };
        std::thread::sleep(wait);
    }
}
