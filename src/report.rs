//! What a person sees: message lines in the reference's form, and on a terminal one live line of
//! progress.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes that a pipe takes at once if it takes any.
const PIPE_BUF: usize = 4096;

/// Prints messages to standard error, `[NN] YYYY-MM-DD HH:MM:SS text` in local time, where `NN`
/// is the number of the thread that speaks.
#[derive(Clone)]
pub struct Report {
    bar: ProgressBar,
    verbose: bool,
    redo_lag: Arc<AtomicU64>,
    /// Lines that are kept back, while they are.
    held: Arc<Mutex<Option<VecDeque<String>>>>,
}

impl Report {
    /// Messages to standard error; a live line too if that is a terminal.
    pub fn to_stderr(verbose: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, draw_target());
        Self { bar, verbose, redo_lag: Arc::default(), held: Arc::default() }
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
        if let Some(lines) = &mut *self.held() {
            lines.push_back(text.to_string());
            return;
        }
        self.bar.suspend(|| write_line(&text));
    }

    /// Keeps back all that is said until [`release`](Self::release), and shows no live line: a
    /// terminal that stands still, or a pipe that nobody reads, must not hold up whoever speaks.
    pub fn hold(&self) {
        self.phase_done();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        self.held().get_or_insert_default();
    }

    /// Writes what was kept back, as far as that can be done without waiting.
    pub fn let_out(&self) {
        let mut held = self.held();
        let Some(lines) = &mut *held else { return };
        while lines.front().is_some_and(|line| takes_at_once(line.len() + 1))
            && let Some(line) = lines.pop_front()
        {
            write_line(&line);
        }
    }

    /// Writes what was kept back and keeps back nothing more.
    pub fn release(&self) {
        let Some(lines) = self.held().take() else { return };
        for line in lines {
            write_line(line);
        }
        self.bar.set_draw_target(draw_target());
    }

    fn held(&self) -> MutexGuard<'_, Option<VecDeque<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether standard error takes `len` bytes without waiting.
fn takes_at_once(len: usize) -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    len <= PIPE_BUF && ready.is_ok_and(|count| count > 0)
}
