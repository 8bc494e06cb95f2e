//! Standard input and output for bulk data, without the buffers of the standard library.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// Bytes that a pipe should hold, so that both ends switch seldom.
const PIPE_LEN: usize = 1 << 20;

/// Standard output.
///
/// # Errors
///
/// It is closed, or a terminal.
pub fn output() -> io::Result<File> {
    own(io::stdout().as_fd().try_clone_to_owned()?)
}

/// Standard input.
///
/// # Errors
///
/// It is closed, or a terminal.
pub fn input() -> io::Result<File> {
    own(io::stdin().as_fd().try_clone_to_owned()?)
}

fn own(fd: OwnedFd) -> io::Result<File> {
    if rustix::termios::isatty(&fd) {
        return Err(io::Error::other("it is a terminal, not a file or a pipe"));
    }
    widen(&fd);
    Ok(File::from(fd))
}

/// Widens a pipe; without the right to do so, or if it is none, all works as well.
fn widen(fd: impl AsFd) {
    if fcntl_getpipe_size(&fd).is_ok_and(|len| len < PIPE_LEN) {
        let _ = fcntl_setpipe_size(&fd, PIPE_LEN);
    }
}
