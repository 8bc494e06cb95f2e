//! The log of 10.5 to 10.7: blocks of 512 bytes, whose payload is one stream of mini-transactions.
//!
//! ```text
//!    0  header: format, creator; two checkpoint slots at 512 and 1536 (module `header`)
//! 2048  ring of blocks, each
//!         0  number, length of the data, offset of the first mini-transaction, checkpoint number
//!        12  payload
//!       504  key version (encrypted logs; else payload)
//!       508  CRC-32C
//! ```
//!
//! LSNs count whole blocks. A mini-transaction is its records and a byte 0, and goes on in the
//! payload of the next block. The log ends at the first block that is not full, or is not the one
//! that belongs there. Source: `log0log.h`, `log0recv.cc` of 10.6; checked on files of 10.5.

mod block;
mod copier;
mod header;

use innodb::Lsn;
use innodb::encrypted::LocalKey;

use crate::encryption::Encryption;
pub use block::Cut;
use block::{Block, PAYLOAD_AT};
pub use copier::{BlockCopier, CopyError, Taken};
pub(crate) use header::{BlockHeader, BlockSlot};
pub use header::{HEADER_LEN, HEADER_SIZE};

/// Bytes of a block.
pub const BLOCK_LEN: usize = 512;
const BLOCK: u64 = 512;
/// The records of a mini-transaction have fewer bytes than this: a server that recovers reads the
/// log into a buffer of this size (`RECV_PARSING_BUF_SIZE`).
pub const RECORDS_LEN_MAX: usize = 2 << 20;

/// How the payload of blocks counts in LSNs, and how far blocks have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Payload of a full block, bytes.
    per_block: u64,
    end: Lsn,
}

impl Payload {
    /// Blocks up to `end` have been read.
    pub fn new(is_encrypted: bool, end: Lsn) -> Self {
        Self { per_block: if is_encrypted { 492 } else { 496 }, end }
    }

    /// Where the last block that was read ends: behind its data, or where the next block begins.
    pub fn end(self) -> Lsn {
        self.end
    }

    /// The LSN `len` bytes of payload after `lsn`; `None` beyond 64 bits.
    pub fn advance(self, lsn: Lsn, len: u64) -> Option<Lsn> {
        let lsn = first_payload(lsn);
        let blocks = (lsn.0 % BLOCK - PAYLOAD_AT).checked_add(len)? / self.per_block;
        lsn.checked_add(len)?.checked_add(blocks.checked_mul(BLOCK - self.per_block)?)
    }
}

/// `lsn`, or the first byte of payload in its block if it is in the block's header.
fn first_payload(lsn: Lsn) -> Lsn {
    Lsn(block_of(lsn).0 | (lsn.0 % BLOCK).max(PAYLOAD_AT))
}

/// LSN of the block that holds `lsn`.
pub fn block_of(lsn: Lsn) -> Lsn {
    Lsn(lsn.0 - lsn.0 % BLOCK)
}

/// Where blocks are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRing {
    /// LSN of a block, and its distance from the end of the header, bytes.
    block: Lsn,
    distance: u64,
    /// Bytes of all blocks, a multiple of [`BLOCK`], not 0.
    capacity: u64,
}

impl BlockRing {
    /// `offset`: where `lsn` is in a file of `file_len` bytes. `None` if that is impossible.
    pub(crate) fn new(lsn: Lsn, offset: u64, file_len: u64) -> Option<Self> {
        let room = file_len.checked_sub(HEADER_LEN)?;
        let capacity = room - room % BLOCK;
        let distance = offset.checked_sub(HEADER_LEN)?;
        // No file is longer than 63 bits can tell; sums of two distances have 64.
        let is_possible = i64::try_from(file_len).is_ok();
        let valid = is_possible && distance < capacity && lsn.0 % BLOCK == offset % BLOCK;
        let distance = distance - distance % BLOCK;
        valid.then_some(Self { block: block_of(lsn), distance, capacity })
    }

    pub(crate) fn capacity(self) -> u64 {
        self.capacity
    }

    /// Offset in the file of the block that holds `lsn`, and bytes from there to the ring's end.
    pub(crate) fn place(self, lsn: Lsn) -> (u64, u64) {
        let block = block_of(lsn);
        let position = if block >= self.block {
            (block.since(self.block) % self.capacity + self.distance) % self.capacity
        } else {
            let back = self.block.since(block) % self.capacity;
            (self.capacity - back + self.distance) % self.capacity
        };
        (HEADER_LEN + position, self.capacity - position)
    }
}

/// The key of an encrypted log, and what else its blocks need.
#[derive(Debug)]
pub struct BlockCipher {
    key: LocalKey,
    key_version: u32,
    nonce: [u8; 4],
}

impl BlockCipher {
    /// `key` must have been derived with `encryption`, from the server's key of `key_version`.
    pub fn new(encryption: &Encryption, key_version: u32, key: LocalKey) -> Self {
        Self { key, key_version, nonce: encryption.nonce }
    }
}

/// Why no more blocks were taken. Final in a log nobody writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlocksEnd {
    /// All given bytes were taken.
    NeedMore,
    /// The last block is not full: the log ends there. If the server writes more, it writes that
    /// block again.
    Partial,
    /// The block has another number: it was not written in this lap yet.
    Old,
    /// The checksum is right, but the block is of a later lap: the server overwrote what was not
    /// read yet.
    Overwritten,
    /// The block belongs here but its checksum is wrong: half written, or damaged.
    Torn,
    /// The length of the data is impossible, or smaller than before.
    Length(u16),
    /// Another version of the key is needed; go on with [`Blocks::set_cipher`].
    KeyVersion(u32),
}

/// Takes the payload out of blocks, one after the other.
#[derive(Debug)]
pub struct Blocks {
    /// Where the data taken so far ends.
    end: Lsn,
    is_encrypted: bool,
    cipher: Option<BlockCipher>,
    /// Of the block before; 0: none.
    checkpoint_no: u32,
}

impl Blocks {
    /// Begins at `start`, for instance at a checkpoint. `cipher`: of an encrypted log.
    pub fn new(start: Lsn, cipher: Option<BlockCipher>) -> Self {
        let is_encrypted = cipher.is_some();
        Self { end: first_payload(start), is_encrypted, cipher, checkpoint_no: 0 }
    }

    /// Replaces the key, when another version is needed.
    pub fn set_cipher(&mut self, cipher: BlockCipher) {
        self.cipher = Some(cipher);
    }

    /// Begins again, at `start`.
    pub fn restart(&mut self, start: Lsn) {
        self.end = first_payload(start);
        self.checkpoint_no = 0;
    }

    fn into_cipher(self) -> Option<BlockCipher> {
        self.cipher
    }

    /// LSN of the block that must be given next: the last one again, while it is not full.
    pub fn next_block(&self) -> Lsn {
        block_of(self.end)
    }

    /// Where the data taken so far ends.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// How what was taken counts, for [`crate::mtr::Layout::Blocks`].
    pub fn payload(&self) -> Payload {
        Payload::new(self.is_encrypted, self.end)
    }

    /// Takes valid blocks from `bytes`, the first of which is [`Self::next_block`], and appends
    /// their payload to `payload`; of a block that was taken before, what is new.
    pub fn take(&mut self, bytes: &[u8], payload: &mut Vec<u8>) -> BlocksEnd {
        for bytes in bytes.chunks_exact(BLOCK_LEN) {
            let lsn = self.next_block();
            let block = match Block::read(bytes, lsn, self.cipher.as_ref()) {
                Ok(block) => block,
                Err(end) => return end,
            };
            let number = block.checkpoint_no();
            // Old even though its number fits: numbers repeat every 512 GiB.
            if number < self.checkpoint_no && self.checkpoint_no - number > 1 << 31 {
                return BlocksEnd::Old;
            }
            let from = self.end.0 - lsn.0;
            let Some(new) = block.data(from.max(PAYLOAD_AT)) else {
                return BlocksEnd::Length(block.data_len());
            };
            payload.extend_from_slice(new);
            self.checkpoint_no = number;
            self.end = Lsn(lsn.0.saturating_add(block.data_len().into()));
            if !block.is_full() {
                return BlocksEnd::Partial;
            }
        }
        BlocksEnd::NeedMore
    }

    /// The block `bytes`, at `lsn`, cut to the data before `end`, which is in that block: the last
    /// block of a log that ends there.
    ///
    /// # Errors
    ///
    /// Why the block cannot be read; [`BlocksEnd::Length`] if its data ends before `end`.
    pub fn cut(&self, bytes: &[u8], lsn: Lsn, end: Lsn) -> Result<Cut, BlocksEnd> {
        Block::read(bytes, lsn, self.cipher.as_ref())?.cut(lsn, end, self.cipher.as_ref())
    }
}

#[cfg(test)]
mod tests;
