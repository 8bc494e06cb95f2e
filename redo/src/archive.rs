//! The archived log of 13 (`innodb_log_archive=ON`): files that continue each other.
//!
//! ```text
//! name   ib_<LSN of the byte at 12288, 16 hexadecimal digits>.log
//!     0  encryption parameters, 28 bytes, and 4 zeros, only in encrypted logs
//!        offset in the file of each completed checkpoint's mini-transactions, 8 bytes each; zeros
//! 12288  mini-transactions (see the module `mtr`), to the end of the file or of the log
//! ```
//!
//! No format, creator, first LSN or checksum. A mini-transaction can go on in the next file.
//! Source: `log0log.cc` of 13.0; checked on files made from logs of 10.11 and 11.8.

use innodb::Lsn;
use zerocopy::FromBytes;

use crate::encryption::{Encryption, Scope};
use crate::header::{HEADER_LEN, HEADER_SIZE, HeaderError, RawEncryption};

/// The smallest file that a server makes, bytes.
pub const FILE_LEN_MIN: u64 = 4 << 20;
/// Files are multiples of this, bytes.
pub const FILE_LEN_UNIT: u64 = 4096;
/// Bytes before the offsets of an encrypted file.
const CRYPT_LEN: usize = 32;

/// The first LSN of the file called `name`, without folder; `None` if that is not the name of a
/// file of an archive.
pub fn first_lsn_of_name(name: &[u8]) -> Option<Lsn> {
    let digits = name.strip_prefix(b"ib_")?.strip_suffix(b".log")?;
    let valid =
        digits.len() == 16 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let digits = std::str::from_utf8(digits).ok().filter(|_| valid)?;
    u64::from_str_radix(digits, 16).ok().filter(|&lsn| lsn >= HEADER_LEN).map(Lsn)
}

/// The name of the file whose first LSN is `first_lsn`.
pub fn name_of_first_lsn(first_lsn: Lsn) -> String {
    format!("ib_{:016x}.log", first_lsn.0)
}

/// A file of an archive, as its folder lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveFile {
    /// LSN of the byte at 12288, from the name.
    pub first_lsn: Lsn,
    /// Bytes.
    pub len: u64,
}

impl ArchiveFile {
    /// LSN behind the last byte: the first LSN of the next file.
    pub fn end_lsn(self) -> Lsn {
        Lsn(self.first_lsn.0.saturating_add(self.len.saturating_sub(HEADER_LEN)))
    }

    /// Whether a server would take the file.
    fn is_usable(self) -> bool {
        self.len >= FILE_LEN_MIN && self.len.is_multiple_of(FILE_LEN_UNIT)
    }
}

/// The newest files of `files` that continue each other without a gap, oldest first. Whatever is
/// left out cannot be used: it is before a gap, or too small, or not a multiple of
/// [`FILE_LEN_UNIT`].
pub fn chain(files: impl IntoIterator<Item = ArchiveFile>) -> Vec<ArchiveFile> {
    let mut files: Vec<_> = files.into_iter().filter(|file| file.is_usable()).collect();
    files.sort_unstable();
    let links = files.iter().rev().zip(files.iter().rev().skip(1));
    let last = files.len().min(1);
    let linked = links.take_while(|(next, file)| file.end_lsn() == next.first_lsn).count();
    files.split_off(files.len() - last - linked)
}

/// The header of a file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveHeader {
    encryption: Option<Encryption>,
    /// End LSNs of the checkpoints, in the order in which they were made.
    end_lsns: Vec<Lsn>,
}

impl ArchiveHeader {
    /// Reads the header of `file` from `head`, its first 12288 bytes.
    ///
    /// # Errors
    ///
    /// [`HeaderError::TooSmall`]; [`HeaderError::Field`] of an encryption key other than 1.
    pub fn parse(head: &[u8], file: ArchiveFile) -> Result<Self, HeaderError> {
        let len = head.len() as u64;
        let head = head.get(..HEADER_SIZE).ok_or(HeaderError::TooSmall { len })?;
        let word = |at: usize| head.get(at..).and_then(|tail| tail.first_chunk::<4>());
        let word = |at| word(at).map_or(0, |word| u32::from_be_bytes(*word));
        let mut encryption = None;
        // An offset has 8 bytes, but less than 2^32 as its value.
        if word(0) != 0 && u64::from(word(0)) < HEADER_LEN {
            let (raw, _) =
                RawEncryption::read_from_prefix(head).map_err(|_| HeaderError::TooSmall { len })?;
            encryption = raw.parameters(Scope::Mtrs)?;
        }
        let at = if encryption.is_some() { CRYPT_LEN } else { 0 };
        let offsets = head.get(at..).unwrap_or_default();
        // Before the release, offsets had 4 bytes.
        let width = if word(at) == 0 { 8 } else { 4 };
        let end_lsns = offsets
            .chunks_exact(width)
            .map(|offset| offset.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
            .take_while(|offset| (HEADER_LEN..file.len).contains(offset))
            .map_while(|offset| file.first_lsn.checked_add(offset - HEADER_LEN))
            .collect();
        Ok(Self { encryption, end_lsns })
    }

    /// How the log is encrypted, if it is.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// End LSNs of the checkpoints in this file ([`crate::header::Checkpoint::end_lsn`]), newest
    /// first. Their LSNs, which can be in an earlier file, are in their `FILE_CHECKPOINT`
    /// ([`crate::reader::Reader::checkpoint_at`]); the newest one may not be complete yet.
    pub fn end_lsns(&self) -> impl Iterator<Item = Lsn> {
        self.end_lsns.iter().rev().copied()
    }
}

#[cfg(test)]
mod tests;
