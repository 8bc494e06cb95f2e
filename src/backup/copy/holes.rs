//! Holes of tablespace files are not read.

use anyhow::Context;

use super::first_page;
use super::queue::OpenFile;

/// The largest page there is, bytes.
const MAX_PAGE: u64 = first_page::MAX_PAGE as u64;

/// How many bytes from `offset` on, `end` at most, are pages of a hole: they stay one.
///
/// # Errors
///
/// Those of the file system.
pub fn hole_at(file: &OpenFile, offset: u64, end: u64) -> anyhow::Result<u64> {
    let context = || format!("look for holes in {}", file.source.path.display());
    let data = match file.file.next_data(offset).with_context(context)? {
        Some(data) => data.min(end),
        // All the rest is a hole, unless the file has become shorter.
        None if file.file.identity().with_context(context)?.size >= end => end,
        None => offset,
    };
    let hole = data.saturating_sub(offset);
    Ok(if data == end { hole } else { hole / MAX_PAGE * MAX_PAGE })
}
