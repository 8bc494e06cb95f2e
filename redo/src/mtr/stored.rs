//! How mini-transactions stand in the log.

use innodb::Lsn;
use innodb::encrypted::LocalKey;

use super::{Frame, Mtr, NONCE_LEN, RECORDS_LEN_MAX, TRAILER_LEN, Unfinished};
use crate::blocks::Payload;
use crate::encryption::{self, Encryption};
use crate::varint::BadVarint;
use crate::{RedoError, Ring};

/// What follows the records of a mini-transaction, and how LSNs count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Sequence byte, CRC-32C of the records: 10.8 and later.
    Ring(Ring),
    /// Sequence byte, nonce of 8 bytes, CRC-32C of the records as stored and of the nonce:
    /// encrypted logs of 10.8 and later.
    EncryptedRing(Ring),
    /// A byte 0 alone; the blocks around have the checksums: 10.5 to 10.7.
    Blocks(Payload),
}

/// A complete mini-transaction as it is stored, perhaps encrypted; it has the right checksum and
/// sequence byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    mtr: Mtr<'a>,
    nonce: Option<[u8; NONCE_LEN]>,
}

impl<'a> Stored<'a> {
    /// Parses the mini-transaction at the start of `bytes`, whose first byte is at `start` in the
    /// log. The bytes may go on behind it; in a ring the caller joins the end and the beginning,
    /// of blocks it gives the payload.
    ///
    /// # Errors
    ///
    /// Why there is none, see [`Unfinished`]. In blocks there is no [`Unfinished::Nothing`]: a 0
    /// where a record should begin is padding, and makes a mini-transaction without records.
    #[inline]
    pub fn parse(bytes: &'a [u8], start: Lsn, layout: Layout) -> Result<Self, Unfinished> {
        match layout {
            Layout::Ring(ring) => Self::in_ring::<0>(bytes, start, ring),
            Layout::EncryptedRing(ring) => Self::in_ring::<NONCE_LEN>(bytes, start, ring),
            Layout::Blocks(payload) => Self::in_blocks(bytes, start, payload),
        }
    }

    /// `N`: bytes of the nonce.
    #[inline]
    pub(super) fn in_ring<const N: usize>(
        bytes: &'a [u8],
        start: Lsn,
        ring: Ring,
    ) -> Result<Self, Unfinished> {
        let len = records_len::<1>(bytes, RECORDS_LEN_MAX)?;
        if len == 0 {
            return Err(Unfinished::Nothing);
        }
        let (records, trailer) = bytes.split_at_checked(len).ok_or(Unfinished::NeedMore)?;
        let (&sequence, trailer) = trailer.split_first().ok_or(Unfinished::NeedMore)?;
        let (nonce, trailer) = trailer.split_first_chunk::<N>().ok_or(Unfinished::NeedMore)?;
        let crc = *trailer.first_chunk::<4>().ok_or(Unfinished::NeedMore)?;
        let trailer_len = TRAILER_LEN + N;
        let sequence_lsn = start.checked_add(len as u64).ok_or(Unfinished::TooLong)?;
        let end = sequence_lsn.checked_add(trailer_len as u64).ok_or(Unfinished::TooLong)?;
        let mut computed = crc32c::crc32c(records);
        if N != 0 {
            computed = crc32c::crc32c_append(computed, nonce);
        }
        if !ring.accepts(sequence_lsn, sequence) || computed != u32::from_be_bytes(crc) {
            return Err(Unfinished::Torn);
        }
        let nonce = nonce.first_chunk().copied();
        Ok(Self { mtr: Mtr { start, end, records, trailer_len }, nonce })
    }

    fn in_blocks(bytes: &'a [u8], start: Lsn, payload: Payload) -> Result<Self, Unfinished> {
        let len = records_len::<0>(bytes, crate::blocks::RECORDS_LEN_MAX)?;
        let records = bytes.get(..len).ok_or(Unfinished::NeedMore)?;
        let end = payload.advance(start, len as u64 + 1).ok_or(Unfinished::TooLong)?;
        // Where it fills a block, the next one must have been written too.
        if end > payload.end() {
            return Err(Unfinished::NeedMore);
        }
        Ok(Self { mtr: Mtr::of_blocks(records, start, end), nonce: None })
    }

    /// LSN of the first byte.
    pub fn start(&self) -> Lsn {
        self.mtr.start
    }

    /// LSN behind the last byte: where the next one begins, and what changed pages carry.
    pub fn end(&self) -> Lsn {
        self.mtr.end
    }

    /// All bytes in the log, as [`Mtr::stored_len`].
    pub fn stored_len(&self) -> usize {
        self.mtr.stored_len()
    }

    /// Where the sequence byte (10.8 and later) or the final 0 stands, bytes from the start.
    pub fn sequence_at(&self) -> usize {
        self.mtr.sequence_at()
    }

    /// The mini-transaction, where it is not encrypted.
    pub fn plain(&self) -> Option<Mtr<'a>> {
        self.nonce.is_none().then_some(self.mtr)
    }

    /// The mini-transaction, decrypted into `clear`, of a log with the parameters `encryption`.
    /// What is not encrypted is not copied.
    ///
    /// # Errors
    ///
    /// A record whose page id cannot be read ([`encryption::Scope::Records`]). A wrong key does
    /// not show here: its records mean nothing.
    pub fn decrypt<'c>(
        &self,
        encryption: &Encryption,
        key: &LocalKey,
        clear: &'c mut Vec<u8>,
    ) -> Result<Mtr<'c>, RedoError>
    where
        'a: 'c,
    {
        if let Some(mtr) = self.plain() {
            return Ok(mtr);
        }
        encryption::decrypt_mtr(self, encryption.scope(), key, clear)?;
        Ok(Mtr { records: clear, ..self.mtr })
    }

    pub(crate) fn nonce(&self) -> Option<[u8; NONCE_LEN]> {
        self.nonce
    }

    /// The records as they are stored.
    pub(crate) fn records(&self) -> &'a [u8] {
        self.mtr.records
    }

    /// The mini-transaction, whether it is in the clear or not.
    #[inline]
    pub(super) fn as_mtr(self) -> Mtr<'a> {
        self.mtr
    }
}

/// Length of the records at the start of `bytes`: up to a byte of at most `LAST` where one should
/// begin. Less than `max`.
#[inline]
fn records_len<const LAST: u8>(bytes: &[u8], max: usize) -> Result<usize, Unfinished> {
    let mut at = 0;
    loop {
        match bytes.get(at..) {
            Some([first, ..]) if *first <= LAST => return Ok(at),
            Some(rest @ [_, ..]) => {
                at += match Frame::of(rest) {
                    Ok(frame) => frame.len,
                    Err(BadVarint::Short) => return Err(Unfinished::NeedMore),
                    Err(BadVarint::Malformed) => return Err(Unfinished::TooLong),
                };
                if at >= max {
                    return Err(Unfinished::TooLong);
                }
            }
            _ => return Err(Unfinished::NeedMore),
        }
    }
}
