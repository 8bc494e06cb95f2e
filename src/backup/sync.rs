//! Brings new files to stable storage little by little, so that no sync holds up the server for
//! long where it uses the same file system.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;

use crate::sink::Sink;

/// Pause between two syncs.
const INTERVAL: Duration = Duration::from_millis(250);

/// Does `work` while another thread syncs what it writes, as far as that is worth it.
///
/// # Errors
///
/// That of `work`; what was written cannot be made durable.
pub fn syncing<T>(sink: &dyn Sink, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (end, stop) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let syncs = scope.spawn(move || {
            while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                sink.sync_some()?;
            }
            sink.sync_some()
        });
        let result = work();
        drop(end);
        let synced = syncs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let result = result?;
        synced.context("bring the backup to stable storage")?;
        Ok(result)
    })
}
