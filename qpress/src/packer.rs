//! Writes a compressed file.

use crate::{BLOCK, END, MAGIC, quicklz};

/// Compresses one file, from start to end.
#[derive(Debug)]
pub struct Packer {
    chunk_len: usize,
    /// What comes before the first block, until that is written.
    start: Vec<u8>,
    /// Bytes that were compressed.
    offset: u64,
    /// Those that follow.
    chunk: Vec<u8>,
}

impl Packer {
    /// For the file called `name`, without folder, in pieces of `chunk_len` bytes.
    pub fn new(name: &[u8], chunk_len: usize) -> Self {
        let mut start = MAGIC.to_vec();
        start.extend_from_slice(&(chunk_len as u64).to_le_bytes());
        start.push(b'F');
        start.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        start.extend_from_slice(name);
        start.push(0);
        Self { chunk_len, start, offset: 0, chunk: Vec::new() }
    }

    /// Compresses `bytes`, which follow; adds to `out` what is to be written.
    pub fn add(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = self.chunk_len.saturating_sub(self.chunk.len()).max(1);
            let (some, rest) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(some);
            bytes = rest;
            if self.chunk.len() >= self.chunk_len {
                self.end_chunk(out);
            }
        }
    }

    /// Ends the file; adds to `out` the rest of what is to be written.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.end_chunk(out);
        out.append(&mut self.start);
        out.extend_from_slice(&END);
        out.extend_from_slice(&[0; 8]);
    }

    fn end_chunk(&mut self, out: &mut Vec<u8>) {
        if self.chunk.is_empty() {
            return;
        }
        out.append(&mut self.start);
        out.extend_from_slice(&BLOCK);
        out.extend_from_slice(&self.offset.to_le_bytes());
        let checksum_at = out.len();
        out.extend_from_slice(&[0; 4]);
        quicklz::compress(&self.chunk, out);
        let checksum = adler2::adler32_slice(out.get(checksum_at + 4..).unwrap_or_default());
        if let Some(place) = out.get_mut(checksum_at..checksum_at + 4) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        self.offset += self.chunk.len() as u64;
        self.chunk.clear();
    }
}
