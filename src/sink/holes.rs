//! Zeros that are not written: they stay holes.

use std::io;

use innodb::flags::SpaceFlags;

use super::SinkFile;

/// How many zeros of a file are worth a hole, bytes; `flags` of a tablespace. In those of
/// compressed pages the server has punched holes behind each page.
pub fn hole_size(flags: Option<SpaceFlags>) -> usize {
    let is_compressed = |flags: SpaceFlags| flags.page_compression().is_some();
    if flags.is_some_and(is_compressed) { 4 << 10 } else { 64 << 10 }
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
