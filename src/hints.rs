//! Hints to the kernel: what to write out soon, what to forget, who may wait.
//!
//! None of them changes what a file holds; a failure is not an error, only slower.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::process::Resource;

/// Raises the limit of open files to `wanted` as far as that is allowed; never lowers it. Returns
/// the limit in force.
pub fn raise_open_files_limit(wanted: u64) -> u64 {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    limit.current = Some(wanted.min(most).max(limit.current.unwrap_or(u64::MAX)));
    // What there is must do where it cannot be raised.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets this thread step back when others, the server's above all, want the processor.
pub fn yield_to_others() {
    let _ = rustix::process::nice(10);
}

/// Asks the kernel to start writing `len` bytes at `offset` to the disk, without waiting.
pub fn start_writeback(file: &File, offset: u64, len: usize) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the descriptor is open for the whole call, and no memory is passed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Waits until `len` bytes at `offset`, whose writing was started, are on the disk. Not a sync: it
/// does not cover the file's own description.
///
/// # Errors
///
/// That of the writing, which may be told here only once. A file system that cannot wait is none.
pub fn wait_for_writeback(file: &File, offset: u64, len: usize) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return Ok(()) };
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open for the whole call, and no memory is passed.
    let failed = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, how) } != 0;
    match io::Error::last_os_error() {
        error if failed && matches!(error.raw_os_error(), Some(libc::EIO | libc::ENOSPC)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Tells the kernel that `len` bytes at `offset` will not be needed again.
pub fn forget(file: &File, offset: u64, len: u64) {
    let advice = rustix::fs::Advice::DontNeed;
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(len), advice);
}
