//! One block.

use innodb::Lsn;
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK_LEN, BlockCipher, BlocksEnd};
use crate::format::covered;

/// Where the payload begins, bytes from the block's start (`LOG_BLOCK_HDR_SIZE`).
pub(super) const PAYLOAD_AT: u64 = 12;
/// Where it ends in a plain log; in an encrypted one, 4 bytes before.
const PAYLOAD_END: u16 = 508;
/// Length of the data of a full block.
const FULL: u16 = 512;
/// Set in the number of the first block of a write (`LOG_BLOCK_FLUSH_BIT_MASK`).
const FLUSH_BIT: u32 = 1 << 31;
/// Block numbers go up to this, then begin with 1 again.
const NUMBER_MAX: u32 = 1 << 30;

/// A block as it is stored.
pub type Cut = [u8; BLOCK_LEN];

#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBlock {
    number: U32,
    /// With the 12 bytes before the payload; 512 if the block is full.
    data_len: U16,
    /// Offset of the first mini-transaction that begins here, 0 if none.
    first_mtr: U16,
    checkpoint_no: U32,
    payload: [u8; 492],
    /// In encrypted logs; otherwise payload.
    key_version: U32,
    crc: U32,
}
const _: () = assert!(size_of::<RawBlock>() == BLOCK_LEN);

/// A valid block, in the clear.
pub(super) struct Block {
    raw: RawBlock,
    /// Where the payload of a full block ends.
    payload_end: u16,
}

impl Block {
    /// Checks the block `bytes`, which is at `lsn`, and decrypts it.
    pub(super) fn read(
        bytes: &[u8],
        lsn: Lsn,
        cipher: Option<&BlockCipher>,
    ) -> Result<Self, BlocksEnd> {
        let (raw, _) = RawBlock::ref_from_prefix(bytes).map_err(|_| BlocksEnd::NeedMore)?;
        let number = raw.number.get() & !FLUSH_BIT;
        let ahead = number.wrapping_sub(number_of(lsn)) % NUMBER_MAX;
        let is_intact = raw.crc.get() == crc32c::crc32c(covered(raw.as_bytes()));
        match (ahead, is_intact) {
            (0, true) if (1..=NUMBER_MAX).contains(&number) => {}
            (0, false) => return Err(BlocksEnd::Torn),
            (1.., true) if ahead < NUMBER_MAX / 2 && number != 0 => {
                return Err(BlocksEnd::Overwritten);
            }
            _ => return Err(BlocksEnd::Old),
        }
        let mut block = Self { raw: raw.clone(), payload_end: PAYLOAD_END };
        if let Some(cipher) = cipher {
            let version = block.raw.key_version.get();
            if version != cipher.key_version {
                return Err(BlocksEnd::KeyVersion(version));
            }
            block.payload_end = PAYLOAD_END - 4;
            let iv = block.iv(lsn, cipher);
            cipher.key.decrypt(&iv, block.encrypted_part());
        }
        let len = block.data_len();
        let valid = u64::from(len) >= PAYLOAD_AT && (len == FULL || len <= block.payload_end);
        if valid { Ok(block) } else { Err(BlocksEnd::Length(len)) }
    }

    /// Number of the block, without the flush bit, nonce of the checkpoint, LSN of the block.
    fn iv(&self, lsn: Lsn, cipher: &BlockCipher) -> [u8; 16] {
        let number = (self.raw.number.get() & !FLUSH_BIT).to_be_bytes();
        let lsn = lsn.0.to_be_bytes();
        let mut parts = number.iter().chain(&cipher.nonce).chain(&lsn);
        std::array::from_fn(|_| parts.next().copied().unwrap_or_default())
    }

    /// Bytes 4 to 503.
    fn encrypted_part(&mut self) -> &mut [u8] {
        self.raw.as_mut_bytes().get_mut(4..BLOCK_LEN - 8).unwrap_or_default()
    }

    /// Length of the data, with the block's header; 512 if the block is full.
    pub(super) fn data_len(&self) -> u16 {
        self.raw.data_len.get()
    }

    pub(super) fn is_full(&self) -> bool {
        self.data_len() == FULL
    }

    pub(super) fn checkpoint_no(&self) -> u32 {
        self.raw.checkpoint_no.get()
    }

    /// The data from the offset `from` on; `None` if there is less.
    pub(super) fn data(&self, from: u64) -> Option<&[u8]> {
        let end = self.data_len().min(self.payload_end);
        self.raw.as_bytes().get(usize::try_from(from).ok()?..end.into())
    }

    /// The block with nothing behind `end`, as stored.
    pub(super) fn cut(
        mut self,
        lsn: Lsn,
        end: Lsn,
        cipher: Option<&BlockCipher>,
    ) -> Result<Cut, BlocksEnd> {
        let too_short = BlocksEnd::Length(self.data_len());
        let len = u16::try_from(end.since(lsn)).map_err(|_| too_short)?;
        let last = self.data_len().min(self.payload_end);
        if u64::from(len) < PAYLOAD_AT || len > last {
            return Err(too_short);
        }
        let payload_end = usize::from(self.payload_end);
        let rest = self.raw.as_mut_bytes().get_mut(len.into()..payload_end);
        rest.unwrap_or_default().fill(0);
        self.raw.data_len = len.into();
        // What begins behind the cut is gone; the next one will begin right there.
        self.raw.first_mtr = self.raw.first_mtr.get().min(len).into();
        if let Some(cipher) = cipher {
            let iv = self.iv(lsn, cipher);
            cipher.key.encrypt(&iv, self.encrypted_part());
        }
        self.raw.crc = crc32c::crc32c(covered(self.raw.as_bytes())).into();
        Ok(zerocopy::transmute!(self.raw))
    }
}

/// Number of the block at `lsn`.
fn number_of(lsn: Lsn) -> u32 {
    u32::try_from((lsn.0 >> 9) % u64::from(NUMBER_MAX)).unwrap_or_default() + 1
}

#[cfg(test)]
impl Block {
    /// The block in the clear.
    pub(super) fn bytes(&self) -> &[u8] {
        self.raw.as_bytes()
    }
}
