//! A backup that has begun: it ends complete, or its target says that it is none.
//!
//! Signals that end a program end a backup within a second, whatever its threads wait for: a lock,
//! a slow disk, a reader of standard error that reads no more. Nothing is undone then. The
//! connections break, with which the server's locks go, and the mark in the target stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Local};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use super::target;
use crate::hint::{self, WithHint};
use crate::metadata::incomplete::{self, IncompleteMark};
use crate::options::{BackupOptions, Output};
use crate::report::Report;

/// Signals that end a backup.
const SIGNALS: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];
/// How long the last words may take before the process ends without them.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The backup goes on.
const RUNNING: u8 = 0;
/// It came to an end of its own.
const ENDED: u8 = 1;
/// A signal ends it.
const SIGNALLED: u8 = 2;

/// A backup that has begun.
pub struct Attempt {
    shared: Arc<Shared>,
    started: DateTime<Local>,
    leftover: Leftover,
}

struct Shared {
    state: AtomicU8,
    /// A stream has none: it just ends, without the files that come last.
    mark: Option<IncompleteMark>,
}

/// The checkpoint of `MyRocks` that stays on the server if the backup ends now.
#[derive(Debug, Clone, Default)]
pub struct Leftover(Arc<Mutex<Option<PathBuf>>>);

impl Leftover {
    /// There is one, or is about to be.
    pub fn note(&self, folder: &Path) {
        *self.folder() = Some(folder.to_owned());
    }

    /// There is none any more.
    pub fn clear(&self) {
        *self.folder() = None;
    }

    /// What to say of it.
    fn words(&self) -> Option<String> {
        let folder = self.folder().as_ref()?.display().to_string();
        Some(format!(
            "the checkpoint of MyRocks stays on the server: {folder} can be removed, or the next \
             backup does so"
        ))
    }

    fn folder(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// Marks the target directory as incomplete, if there is one; from here on signals end the backup in order. Those that
    /// were ignored, as by `nohup`, still are.
    ///
    /// # Errors
    ///
    /// The mark cannot be made, or another backup has made it; signals cannot be handled.
    pub fn begin(
        options: &BackupOptions,
        started: DateTime<Local>,
        report: &Report,
    ) -> anyhow::Result<Self> {
        let dir = &options.target_dir;
        let command = format!("{} {}", options.tool_name, options.tool_command);
        let place = || {
            IncompleteMark::place(dir, started, &command)
                .with_context(|| {
                    let dir = dir.display();
                    format!("mark {dir} as an incomplete backup by the file {}", incomplete::NAME)
                })
                .hint_if_full(target::NO_SPACE)
                .hint("the target directory must be writable, and no other backup may use it")
        };
        let mark = (options.output == Output::Directory).then(place).transpose()?;
        let shared = Arc::new(Shared { state: AtomicU8::new(RUNNING), mark });
        let ignored = ignored_signals();
        let wanted = SIGNALS.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals = Signals::new(wanted).context("handle signals")?;
        let leftover = Leftover::default();
        let (watched, report, left) = (Arc::clone(&shared), report.clone(), leftover.clone());
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                signals.forever().for_each(|signal| watched.end_by(signal, &report, &left));
            })
            .context("start the thread that waits for signals")?;
        Ok(Self { shared, started, leftover })
    }

    /// When it began.
    pub fn started(&self) -> DateTime<Local> {
        self.started
    }

    /// Takes note of what would be left on the server.
    pub fn leftover(&self) -> &Leftover {
        &self.leftover
    }

    /// Ends the attempt: with the mark removed where `result` is good, otherwise with the reason
    /// in it.
    ///
    /// # Errors
    ///
    /// That of `result`, or the mark cannot be removed.
    pub fn end<T>(self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        if let Err(SIGNALLED) =
            self.shared.state.compare_exchange(RUNNING, ENDED, Ordering::AcqRel, Ordering::Acquire)
        {
            // The process is about to end by the signal; this result came after it.
            loop {
                thread::park();
            }
        }
        let Some(mark) = &self.shared.mark else { return result };
        let result = result.and_then(|value| {
            mark.remove().context("remove the incomplete mark")?;
            Ok(value)
        });
        if let Err(error) = &result {
            let (reason, _) = hint::describe(error);
            // The error itself tells more than that the disk does not take this either.
            let _ = mark.add_reason(&reason);
        }
        result
    }
}

impl Shared {
    fn end_by(self: &Arc<Self>, signal: i32, report: &Report, left: &Leftover) {
        let running =
            self.state.compare_exchange(RUNNING, SIGNALLED, Ordering::AcqRel, Ordering::Acquire);
        if running.is_ok() {
            self.last_words(signal, report, left.words());
        }
        // As if it had not been handled: the shell sees a process that was ended by this signal.
        let _ = low_level::emulate_default_handler(signal);
        low_level::exit(128 + signal);
    }

    /// Says what happens and notes it in the mark. Both can block for ever: then without.
    fn last_words(self: &Arc<Self>, signal: i32, report: &Report, left: Option<String>) {
        let reason = format!("received {}", low_level::signal_name(signal).unwrap_or("a signal"));
        let left = left.map(|words| format!("; {words}")).unwrap_or_default();
        let (done, is_done) = mpsc::channel();
        let say = {
            let (report, done) = (report.clone(), done.clone());
            let text = format!("FATAL ERROR: {reason}: the backup is not complete{left}");
            move || {
                report.phase_done();
                report.attach();
                report.say(text);
                let _ = done.send(());
            }
        };
        let shared = Arc::clone(self);
        let note = move || {
            if let Some(mark) = &shared.mark {
                let _ = mark.add_reason(&format!("{reason}{left}"));
            }
            let _ = done.send(());
        };
        // Without threads the process just ends.
        let threads = [thread::Builder::new().spawn(say), thread::Builder::new().spawn(note)];
        let until = Instant::now() + LAST_WORDS;
        for _ in threads.iter().flatten() {
            let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// Signals that this process was told to ignore when it was started, as bits.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or(0)
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(parse_ignored(status), Some(1 << (SIGHUP - 1) | 1 << 12));
        assert_eq!(parse_ignored("Name:\tx\n"), None);
    }
}
