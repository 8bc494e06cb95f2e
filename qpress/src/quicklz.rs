//! Blocks of `QuickLZ` 1.5.0, level 1.
//!
//! ```text
//! flags 1    bit 0: compressed, bit 1: lengths of 4 bytes, else of 1; 0x44
//! lengths    of the block, of what it holds
//! not compressed: the bytes. Compressed: groups of up to 31 tokens
//!   control word 4: bit by bit from the lowest, whether a token is a match; then a 1
//!   literal    the byte
//!   match      hash << 4 | length - 2, 2 bytes; or hash << 4, 2 bytes, and length 1
//! ```
//!
//! A match does not say where it is from, but how it begins: the hash of three bytes. Both sides
//! keep for each hash the last position that had it, of those that are known to both: after a
//! literal all but the last two, after a match none inside of it. The last 10 bytes at least are
//! literals, and the block has as many bytes as a header of 9 and that much more at least.

use std::ops::Range;

/// Values of the hash.
const HASHES: usize = 4096;
/// Positions behind this distance from the end are literals.
const TAIL: usize = 11;
/// A match ends before so many bytes from the end.
const AFTER_MATCH: usize = 4;
const MATCH_LEN: Range<usize> = 3..256;
/// Tokens of a control word.
const GROUP: u32 = 31;
const COMPRESSED: u8 = 1;
const LONG: u8 = 2;
/// Level 1, no stream, and what all versions set.
const FLAGS: u8 = 0x44;
/// Blocks are never shorter.
const LEN_MIN: usize = 9;
/// From so many bytes on, lengths have 4 bytes.
const LONG_FROM: usize = 216;

/// A block that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuickLzError {
    /// Its header is not that of a block of level 1.
    #[error("the header of the block is invalid")]
    Header,
    /// It ends too early, or what it holds is longer than it says.
    #[error("the block is too short")]
    Short,
    /// A match with what was not there yet.
    #[error("the block repeats what it did not have")]
    Match,
}

/// What the header of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header.
    pub header_len: usize,
    /// Bytes of the block, with the header.
    pub block_len: usize,
    /// Bytes that it holds.
    pub len: usize,
    is_compressed: bool,
}

impl Header {
    /// Bytes of the header that begins with `flags`.
    ///
    /// # Errors
    ///
    /// [`QuickLzError::Header`]
    pub fn len_by(flags: u8) -> Result<usize, QuickLzError> {
        let known = flags & !(COMPRESSED | LONG) == FLAGS;
        known.then_some(if flags & LONG == 0 { 3 } else { 9 }).ok_or(QuickLzError::Header)
    }

    /// Reads the header at the start of `block`.
    ///
    /// # Errors
    ///
    /// [`QuickLzError::Header`], [`QuickLzError::Short`]
    pub fn parse(block: &[u8]) -> Result<Self, QuickLzError> {
        let flags = *block.first().ok_or(QuickLzError::Short)?;
        let header_len = Self::len_by(flags)?;
        let lengths = block.get(1..header_len).ok_or(QuickLzError::Short)?;
        let (block_len, len) = match lengths.as_chunks::<4>() {
            ([block_len, len], []) => (u32::from_le_bytes(*block_len), u32::from_le_bytes(*len)),
            (_, [block_len, len]) => (u32::from(*block_len), u32::from(*len)),
            _ => return Err(QuickLzError::Header),
        };
        let bytes = |len| usize::try_from(len).map_err(|_| QuickLzError::Header);
        let (block_len, len) = (bytes(block_len)?, bytes(len)?);
        let is_compressed = flags & COMPRESSED != 0;
        let fits = if is_compressed {
            block_len > header_len
        } else {
            Some(block_len) == header_len.checked_add(len)
        };
        fits.then_some(Self { header_len, block_len, len, is_compressed })
            .ok_or(QuickLzError::Header)
    }
}

/// The last position of each hash, of those that both sides know.
struct Positions {
    table: Box<[u32]>,
    /// The next one that was not looked at.
    next: usize,
}

impl Positions {
    fn new() -> Self {
        Self { table: vec![u32::MAX; HASHES].into_boxed_slice(), next: 0 }
    }

    /// Takes in the positions before `end`.
    fn extend_to(&mut self, bytes: &[u8], end: usize) {
        while self.next < end {
            if let (Some(hash), Ok(position)) = (hash(bytes, self.next), u32::try_from(self.next))
                && let Some(entry) = self.table.get_mut(hash)
            {
                *entry = position;
            }
            self.next += 1;
        }
    }

    fn get(&self, hash: usize) -> Option<usize> {
        let position = self.table.get(hash).copied().filter(|&position| position != u32::MAX)?;
        usize::try_from(position).ok()
    }
}

fn hash(bytes: &[u8], at: usize) -> Option<usize> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk::<3>()?;
    let value = u32::from_le_bytes([a, b, c, 0]);
    usize::try_from((value >> 12 ^ value) & 0xfff).ok()
}

/// Decompresses the block at the start of `block` into `out`, which is emptied.
///
/// # Errors
///
/// A block that is not valid; nothing is reserved for more bytes than the block can hold.
pub fn decompress(block: &[u8], out: &mut Vec<u8>) -> Result<(), QuickLzError> {
    out.clear();
    let header = Header::parse(block)?;
    let body = block.get(header.header_len..header.block_len).ok_or(QuickLzError::Short)?;
    if !header.is_compressed {
        out.extend_from_slice(body);
        return Ok(());
    }
    let mut input = Input { bytes: body, control: 1 };
    let mut positions = Positions::new();
    let limit = header.len.saturating_sub(TAIL);
    while out.len() < header.len {
        if input.next_is_match()? {
            let [low, high] = input.take::<2>()?;
            let code = usize::from(u16::from_le_bytes([low, high]));
            let len = match code & 15 {
                0 => usize::from(input.take::<1>()?[0]),
                len => len + 2,
            };
            let from = positions.get(code >> 4).filter(|&from| from < out.len());
            let from = from.ok_or(QuickLzError::Match)?;
            let start = out.len();
            if len < MATCH_LEN.start || start + len > header.len {
                return Err(QuickLzError::Short);
            }
            for at in from..from + len {
                // It may repeat what it has just added.
                let byte = out.get(at).copied().ok_or(QuickLzError::Match)?;
                out.push(byte);
            }
            positions.extend_to(out, start + 1);
            positions.next = out.len();
        } else {
            let is_tail = out.len() >= limit;
            out.push(input.take::<1>()?[0]);
            if !is_tail {
                positions.extend_to(out, out.len().saturating_sub(2));
            }
        }
    }
    Ok(())
}

/// What is left of a compressed block.
struct Input<'a> {
    bytes: &'a [u8],
    /// Tokens of the group that follow, and a 1.
    control: u32,
}

impl Input<'_> {
    fn next_is_match(&mut self) -> Result<bool, QuickLzError> {
        if self.control == 1 {
            self.control = u32::from_le_bytes(self.take()?);
            if self.control < 2 {
                return Err(QuickLzError::Header);
            }
        }
        let is_match = self.control & 1 != 0;
        self.control >>= 1;
        Ok(is_match)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], QuickLzError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(QuickLzError::Short)?;
        self.bytes = rest;
        Ok(*taken)
    }
}

/// Compresses `bytes`, less than 4 GiB, into a block, which is added to `out`.
pub fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let long = bytes.len() >= LONG_FROM;
    let header_len = if long { 9 } else { 3 };
    out.resize(start + header_len, 0);
    let mut output = Output { out, control_at: 0, control: 0, tokens: GROUP };
    let mut positions = Positions::new();
    let mut at = 0;
    while at < bytes.len() {
        if let Some((code, len)) = find_match(bytes, at, &positions) {
            output.token(true);
            let short = u16::try_from(len - 2).ok().filter(|&len| len < 16);
            output.out.extend_from_slice(&(code << 4 | short.unwrap_or(0)).to_le_bytes());
            if let (None, Ok(len)) = (short, u8::try_from(len)) {
                output.out.push(len);
            }
            positions.extend_to(bytes, at + 1);
            at += len;
            positions.next = at;
        } else {
            output.token(false);
            output.out.extend(bytes.get(at));
            let is_tail = at >= bytes.len().saturating_sub(TAIL);
            at += 1;
            if !is_tail {
                positions.extend_to(bytes, at.saturating_sub(2));
            }
        }
    }
    output.end_group();
    if out.len() - start < LEN_MIN {
        out.resize(start + LEN_MIN, 0);
    }
    let is_compressed = out.len() - start < header_len + bytes.len();
    if !is_compressed {
        out.truncate(start + header_len);
        out.extend_from_slice(bytes);
    }
    let flags = FLAGS | if is_compressed { COMPRESSED } else { 0 };
    let (block_len, len) = (out.len() - start, bytes.len());
    let header = out.get_mut(start..start + header_len).unwrap_or_default();
    match (u8::try_from(block_len), u8::try_from(len)) {
        (Ok(block_len), Ok(len)) if !long => header.copy_from_slice(&[flags, block_len, len]),
        _ => {
            let word = |value| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
            if let Some((first, lengths)) = header.split_first_mut() {
                *first = flags | LONG;
                lengths.copy_from_slice([word(block_len), word(len)].as_flattened());
            }
        }
    }
}

/// Hash and length of a match for what begins at `at`.
fn find_match(bytes: &[u8], at: usize, positions: &Positions) -> Option<(u16, usize)> {
    if at + TAIL > bytes.len() {
        return None;
    }
    let hash = hash(bytes, at)?;
    let from = positions.get(hash)?;
    let end = (bytes.len() - AFTER_MATCH).min(at + MATCH_LEN.end - 1);
    let (here, there) = (bytes.get(at..end)?, bytes.get(from..)?);
    // Nearer ones overlap in a way that some programs do not understand.
    let len = here.iter().zip(there).take_while(|(here, there)| here == there).count();
    let usable = MATCH_LEN.contains(&len) && at - from > 2;
    usable.then(|| u16::try_from(hash).ok().map(|hash| (hash, len))).flatten()
}

/// A block that is being written.
struct Output<'a> {
    out: &'a mut Vec<u8>,
    /// Where the control word of the group is.
    control_at: usize,
    control: u32,
    /// Tokens of the group.
    tokens: u32,
}

impl Output<'_> {
    fn token(&mut self, is_match: bool) {
        if self.tokens == GROUP {
            self.end_group();
            self.control_at = self.out.len();
            self.out.extend_from_slice(&[0; 4]);
            (self.control, self.tokens) = (0, 0);
        }
        self.control |= u32::from(is_match) << self.tokens;
        self.tokens += 1;
    }

    fn end_group(&mut self) {
        let word = (self.control | 1 << GROUP).to_le_bytes();
        if self.control_at > 0
            && let Some(place) = self.out.get_mut(self.control_at..self.control_at + 4)
        {
            place.copy_from_slice(&word);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(bytes: &[u8]) -> Vec<u8> {
        let mut block = b"before".to_vec();
        compress(bytes, &mut block);
        let block = block.split_off(6);
        assert_eq!(Header::parse(&block).unwrap().block_len, block.len());
        let mut out = b"rubbish".to_vec();
        decompress(&block, &mut out).unwrap();
        assert!(out == bytes, "{} bytes", bytes.len());
        block
    }

    /// The block of a file of 28 bytes that 10.11 wrote; all are literals.
    const REAL: &[u8] = b"\x45\x1c\x15\x00\x00\x00\x80bin.000001\t521\t0-1-1\n";

    #[test]
    fn short_real_block() {
        let mut out = Vec::new();
        decompress(REAL, &mut out).unwrap();
        assert_eq!(out, b"bin.000001\t521\t0-1-1\n");
    }

    #[test]
    fn every_length() {
        for len in 0..700 {
            round_trip(&vec![b'x'; len]);
            let mixed: Vec<u8> = (0..len).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
            round_trip(&mixed);
        }
    }

    #[test]
    fn repeated_text_becomes_short() {
        let text = b"a row of a table, and ".repeat(2000);
        let block = round_trip(&text);
        assert!(block.len() * 20 < text.len(), "{} of {}", block.len(), text.len());
    }

    #[test]
    fn what_cannot_be_compressed_is_stored() {
        let mut state = 88_172_645_463_325_252_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(30_000)
        .collect();
        assert_eq!(round_trip(&noise).len(), noise.len() + 9);
    }

    #[test]
    fn every_truncation_is_noticed() {
        let block = round_trip(&b"a row of a table, and ".repeat(20));
        for len in 0..block.len() {
            assert!(decompress(&block[..len], &mut Vec::new()).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(0_u8..4, 0..5000)) {
            round_trip(&bytes);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), long: bool) {
            let _ = decompress(&bytes, &mut Vec::new());
            let flags = if long { 0x47 } else { 0x45 };
            let _ = decompress(&[&[flags], &bytes[..]].concat(), &mut Vec::new());
        }

        #[test]
        fn never_panics_on_damage(at in 0_usize..60, byte: u8) {
            let mut block = round_trip(&b"a row of a table, and ".repeat(20));
            let at = at % block.len();
            block[at] = byte;
            let mut out = Vec::new();
            let _ = decompress(&block, &mut out);
            prop_assert!(out.len() <= 255 * block.len());
        }
    }
}
