//! Work in several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::bail;

/// Runs `work` on each of `items` in `threads` threads.
///
/// # Errors
///
/// The first of `work`, which ends all threads.
pub fn in_threads<T: Sync>(
    threads: usize,
    items: &[T],
    work: impl Fn(usize, &T) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let run = &|thread| {
        while !failed.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = work(thread, item) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    if items.len() < 2 || threads < 2 {
        return run(0);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mut result = Ok(());
        for worker in workers {
            match worker.join() {
                Ok(outcome) => result = result.and(outcome),
                Err(_) => bail!("a thread ended unexpectedly"),
            }
        }
        result
    })
}
