//! Zeros that are not written: they stay holes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

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

/// Bytes that a [`HoleWriter`] writes together.
const PIECE: usize = 1 << 20;
/// Its holes: as small as a block of most file systems, so that pages that were written without
/// their trailing zeros take no more room than before.
const HOLE: usize = 4 << 10;

/// Writes a new file from start to end; blocks of zeros stay holes.
#[derive(Debug)]
pub struct HoleWriter {
    file: File,
    /// Bytes that were written, or left out.
    at: u64,
    /// Those that follow.
    buffer: Vec<u8>,
}

impl HoleWriter {
    /// Writes to `file`, which is empty.
    pub fn new(file: File) -> Self {
        Self { file, at: 0, buffer: Vec::new() }
    }

    /// Writes what is left, and sets the length.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.file.set_len(self.at)
    }
}

impl Write for HoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PIECE.saturating_sub(self.buffer.len()).max(1));
        self.buffer.extend_from_slice(bytes.get(..len).unwrap_or_default());
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        write_nonzero(&&self.file, self.at, &bytes, HOLE)?;
        self.at += bytes.len() as u64;
        self.buffer = bytes;
        self.buffer.clear();
        Ok(())
    }
}

impl SinkFile for &File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn finish(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn blocks_of_zeros_are_holes() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = HoleWriter::new(file.try_clone().unwrap());
        let bytes = [&[1; 4096][..], &vec![0; 3 << 20], &[2; 4096 + 7], &[0; 100]].concat();
        for piece in bytes.chunks(1000) {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap();
        let mut found = vec![0xff; bytes.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == bytes);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), bytes.len() as u64);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }
}
