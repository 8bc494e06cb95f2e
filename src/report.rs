//! What a person sees: message lines in the reference's form, and on a terminal one live line of
//! progress.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints messages to standard error, `[NN] YYYY-MM-DD HH:MM:SS text` in local time, where `NN`
/// is the number of the thread that speaks.
#[derive(Clone)]
pub struct Report {
    bar: ProgressBar,
    verbose: bool,
    redo_lag: Arc<AtomicU64>,
}

impl Report {
    /// Messages to standard error; a live line too if that is a terminal.
    pub fn to_stderr(verbose: bool) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(4)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        Self { bar, verbose, redo_lag: Arc::default() }
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
        // Nothing can be done about a closed standard error; the exit code still tells.
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
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
