//! Writes a compressed file: a head, blocks, an end. Blocks do not depend on each other, so that
//! several can be compressed at a time.

use crate::{BLOCK, END, MAGIC, quicklz};

/// What comes first: for the file called `name`, without folder, in blocks of `block_len` bytes
/// before compression.
pub fn head(name: &[u8], block_len: usize) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&(block_len as u64).to_le_bytes());
    head.push(b'F');
    head.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(name);
    head.push(0);
    head
}

/// Compresses `bytes`, which stand at `offset` in the file, and adds the block to `out`.
pub fn block(offset: u64, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&BLOCK);
    out.extend_from_slice(&offset.to_le_bytes());
    let checksum_at = out.len();
    out.extend_from_slice(&[0; 4]);
    quicklz::compress(bytes, out);
    let checksum = adler2::adler32_slice(out.get(checksum_at + 4..).unwrap_or_default());
    if let Some(place) = out.get_mut(checksum_at..checksum_at + 4) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// What comes last.
pub fn end() -> [u8; 16] {
    let mut end = [0; 16];
    let (magic, _) = end.split_at_mut(END.len());
    magic.copy_from_slice(&END);
    end
}
