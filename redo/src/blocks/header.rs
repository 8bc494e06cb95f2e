//! The first 2048 bytes of a log of 10.5 to 10.7.
//!
//! ```text
//!    0  format, subformat, LSN of the start, creator, zeros; CRC-32C at 508 (as in later logs)
//!  512  checkpoint slot, even numbers
//! 1536  checkpoint slot, odd numbers
//! 2048  blocks
//! ```
//!
//! Source: `LOG_HEADER_*` and `LOG_CHECKPOINT_*` in `log0log.h`, `log0crypt.cc` of 10.6; checked on
//! files of 10.5.

use innodb::Lsn;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK_LEN, BlockRing};
use crate::encryption::{Encryption, Scope};
use crate::format::{Format, covered};
use crate::header::{Checkpoint, HeaderError, Label, RawEncryption, verify_checksum};

/// Bytes before the first block.
pub const HEADER_LEN: u64 = 2048;
/// [`HEADER_LEN`] as the length of an array.
pub const HEADER_SIZE: usize = 2048;
const SLOT_OFFSETS: [usize; 2] = [512, 1536];
/// The subformat of physical records (`log_t::FORMAT_10_5`).
const SUBFORMAT: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSlot {
    number: U64,
    lsn: U64,
    /// Of the checkpoint's byte in the file.
    offset: U64,
    /// `innodb_log_buffer_size`.
    buffer_size: U64,
    key_version: U32,
    nonce: [u8; 4],
    message: [u8; 16],
    zero: [u8; 440],
    /// 0 if unknown.
    end_lsn: U64,
    zero_2: [u8; 4],
    crc: U32,
}
const _: () = assert!(size_of::<RawSlot>() == BLOCK_LEN);

/// What a log of blocks says about itself, apart from its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) creator: String,
    format: Format,
}

impl BlockHeader {
    pub(crate) fn of_label(
        label: &Label,
        creator: String,
        format: Format,
    ) -> Result<Self, HeaderError> {
        verify_checksum(label.as_bytes())?;
        let word = label.word();
        if word != SUBFORMAT {
            return Err(HeaderError::Field { field: "subformat", value: word.into() });
        }
        Ok(Self { creator, format })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn is_encrypted(&self) -> bool {
        self.format == Format::EncryptedBlocks
    }

    /// The newest checkpoint of a log with these first 2048 bytes. The server writes the slots in
    /// turn, so at most one is torn at any time.
    pub(crate) fn newest(&self, area: &[u8], file_len: u64) -> Result<BlockSlot, HeaderError> {
        SLOT_OFFSETS
            .iter()
            .filter_map(|&at| self.slot(area.get(at..)?, file_len))
            .max_by_key(|slot| slot.raw.number.get())
            .ok_or(HeaderError::NoCheckpoint)
    }

    fn slot(&self, bytes: &[u8], file_len: u64) -> Option<BlockSlot> {
        let (raw, _) = RawSlot::ref_from_prefix(bytes).ok()?;
        if raw.crc.get() != crc32c::crc32c(covered(raw.as_bytes())) {
            return None;
        }
        let lsn = Lsn(raw.lsn.get());
        let ring = BlockRing::new(lsn, raw.offset.get(), file_len)?;
        let end_lsn = match raw.end_lsn.get() {
            0 => lsn,
            end => Lsn(end),
        };
        let encryption = self.is_encrypted().then(|| Encryption {
            scope: Scope::Blocks,
            key_version: raw.key_version.get(),
            message: raw.message,
            nonce: raw.nonce,
        });
        let checkpoint = Checkpoint { lsn, end_lsn };
        (end_lsn >= lsn).then(|| BlockSlot { raw: raw.clone(), checkpoint, ring, encryption })
    }

    /// The header of the copy that a backup makes from the checkpoint `slot` on. The copy begins
    /// with the block that holds the checkpoint.
    pub(crate) fn copied(&self, slot: &BlockSlot, creator: &str) -> [u8; HEADER_SIZE] {
        let lsn = slot.checkpoint.lsn;
        let crypt = RawEncryption::from(None);
        let label = Label::new(self.format, SUBFORMAT, lsn, creator, crypt);
        let mut raw = slot.raw.clone();
        raw.offset = (HEADER_LEN + lsn.0 % super::BLOCK).into();
        raw.crc = crc32c::crc32c(covered(raw.as_bytes())).into();
        let [even, odd] = SLOT_OFFSETS;
        let slot_at = if raw.number.get().is_multiple_of(2) { even } else { odd };
        let mut area = [0; HEADER_SIZE];
        for (at, part) in [(0, label.as_bytes()), (slot_at, raw.as_bytes())] {
            for (to, from) in area.iter_mut().skip(at).zip(part) {
                *to = *from;
            }
        }
        area
    }
}

/// A valid checkpoint slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockSlot {
    raw: RawSlot,
    /// An end LSN that is unknown is that of the checkpoint itself.
    pub(crate) checkpoint: Checkpoint,
    pub(crate) ring: BlockRing,
    pub(crate) encryption: Option<Encryption>,
}

impl BlockSlot {
    pub(crate) fn is_end_lsn_known(&self) -> bool {
        self.raw.end_lsn.get() != 0
    }
}
