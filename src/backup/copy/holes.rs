//! Holes of tablespace files: they are neither read nor written.

use std::io;

use anyhow::Context;

use super::first_page;
use super::queue::OpenFile;
use crate::sink::SinkFile;

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

/// Writes `bytes` but for pieces of `hole` zeros, which stay holes.
///
/// # Errors
///
/// Those of the destination.
pub fn write_nonzero(out: &dyn SinkFile, offset: u64, bytes: &[u8], hole: usize) -> io::Result<()> {
    let mut start = None;
    for (index, piece) in bytes.chunks(hole).enumerate() {
        let at = index * hole;
        let zero = piece.len() == hole && is_zero(piece);
        match (start, zero) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                write_part(out, offset, bytes, from, at)?;
                start = None;
            }
            _ => {}
        }
    }
    match start {
        Some(from) => write_part(out, offset, bytes, from, bytes.len()),
        None => Ok(()),
    }
}

fn write_part(
    out: &dyn SinkFile,
    offset: u64,
    bytes: &[u8],
    from: usize,
    to: usize,
) -> io::Result<()> {
    out.write_at(offset + from as u64, bytes.get(from..to).unwrap_or_default())
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&b| b == 0)
}
