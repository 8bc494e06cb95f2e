//! What a person sees: message lines in the reference's form, and on a terminal one live line of
//! progress.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// An error of which all has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("see above")]
pub struct AlreadyTold;

/// Prints messages to standard error, `[NN] YYYY-MM-DD HH:MM:SS text` in local time, where `NN`
/// is the number of the thread that speaks.
#[derive(Clone)]
pub struct Report {
    bar: ProgressBar,
    verbose: bool,
    redo_lag: Arc<AtomicU64>,
    /// Who writes instead of those who speak, while they must not wait.
    writer: Arc<Mutex<Option<Writer>>>,
}

/// A thread that writes lines.
struct Writer {
    lines: Sender<String>,
    thread: JoinHandle<()>,
}

impl Report {
    /// Messages to standard error; a live line too if that is a terminal.
    pub fn to_stderr(verbose: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, draw_target());
        Self { bar, verbose, redo_lag: Arc::default(), writer: Arc::default() }
    }

    /// Says `text` as the main thread.
    pub fn say(&self, text: impl fmt::Display) {
        self.say_as(0, text);
    }

    /// Says `text` as thread number `thread`.
    pub fn say_as(&self, thread: usize, text: impl fmt::Display) {
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
        self.line(format_args!("[{thread:02}] {now} {text}"));
    }

    /// Says `text` if `--verbose` was given.
    pub fn detail(&self, text: impl fmt::Display) {
        if self.verbose {
            self.say(text);
        }
    }

    /// Prints a line without prefix.
    pub fn line(&self, text: impl fmt::Display) {
        if let Some(writer) = &*self.writer() {
            // It ends only with the channel.
            let _ = writer.lines.send(text.to_string());
            return;
        }
        self.bar.suspend(|| write_line(&text));
    }

    /// From here to [`attach`](Self::attach), a thread of its own writes what is said, and no live
    /// line is shown: a terminal that stands still, or a pipe that nobody reads, must not hold up
    /// whoever speaks.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn detach(&self) -> io::Result<()> {
        self.phase_done();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        let mut writer = self.writer();
        if writer.is_none() {
            let (lines, said) = mpsc::channel();
            let thread = thread::Builder::new()
                .name("messages".to_owned())
                .spawn(move || said.iter().for_each(|line: String| write_line(line)))?;
            *writer = Some(Writer { lines, thread });
        }
        Ok(())
    }

    /// Waits until all is written; whoever speaks writes again.
    pub fn attach(&self) {
        let Some(Writer { lines, thread }) = self.writer().take() else { return };
        drop(lines);
        // It has nothing to report.
        let _ = thread.join();
        self.bar.set_draw_target(draw_target());
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the live line of a phase of which `total` bytes are to be done.
    pub fn phase(&self, name: &'static str, total: u64) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_position(0);
        self.bar.set_prefix(name);
        self.bar.set_message("");
        let style = ProgressStyle::with_template(
            "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} ETA {eta}",
        );
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(Duration::from_millis(250));
    }

    /// Notes that `len` more bytes of the phase are done.
    pub fn advance(&self, len: u64) {
        self.bar.inc(len);
    }

    /// Shows how many bytes of redo log the server is ahead of the copy.
    pub fn redo_lag(&self, bytes: u64) {
        if self.redo_lag.swap(bytes, Ordering::Relaxed) != bytes && !self.bar.is_hidden() {
            self.bar.set_message(format!("redo lag {}", HumanBytes(bytes)));
        }
    }

    /// Ends the live line.
    pub fn phase_done(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}

/// The live line goes to a terminal alone.
fn draw_target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Nothing can be done about a closed standard error; the exit code still tells.
fn write_line(text: impl fmt::Display) {
    // Standard error has no buffer: each piece would be a system call.
    let line = format!("{text}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
