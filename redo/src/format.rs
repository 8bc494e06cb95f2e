//! Which format a log has: told by its first four bytes.

use crate::header::HeaderError;

/// `log_t::FORMAT_10_5`, "PHYS".
const FORMAT_10_5: u32 = 0x5048_5953;
/// `log_t::FORMAT_10_8`, "Phys".
pub(crate) const FORMAT_10_8: u32 = 0x5068_7973;
/// `log_t::FORMAT_ENC_11`: as 10.8, whole mini-transactions encrypted.
pub(crate) const FORMAT_ENC_11: u32 = 0xf09f_979d;
/// Set in the formats of encrypted logs up to 10.7.
pub(crate) const FORMAT_ENCRYPTED: u32 = 1 << 31;

/// A format that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 10.5 to 10.7: blocks of 512 bytes (module `blocks`).
    Blocks,
    /// 10.8 and later: mini-transactions one after the other (module `mtr`). Also early encrypted
    /// logs, which their encryption parameters tell apart.
    Ring,
    /// Present releases of 10.11 and later: as [`Self::Ring`], encrypted.
    EncryptedRing,
    /// 10.5 to 10.7, encrypted.
    EncryptedBlocks,
}

impl Format {
    /// Recognises the format by the first four bytes of a log. Files of an archive (13) have no
    /// such number: know them by name first ([`crate::archive::first_lsn_of_name`]).
    ///
    /// # Errors
    ///
    /// [`HeaderError::TooOld`] and [`HeaderError::Unknown`], with `creator`.
    pub(crate) fn recognise(number: u32, creator: &str) -> Result<Self, HeaderError> {
        let creator = creator.to_owned();
        let versions = match number & !FORMAT_ENCRYPTED {
            0 => "MariaDB 10.1 or older",
            1 => "MariaDB 10.2 or MySQL 5.7",
            2..=6 => "MySQL 8",
            103 => "MariaDB 10.3",
            104 => "MariaDB 10.4",
            _ => "",
        };
        match number {
            FORMAT_10_8 => Ok(Self::Ring),
            FORMAT_ENC_11 => Ok(Self::EncryptedRing),
            FORMAT_10_5 => Ok(Self::Blocks),
            _ if number == FORMAT_10_5 | FORMAT_ENCRYPTED => Ok(Self::EncryptedBlocks),
            _ if !versions.is_empty() => Err(HeaderError::TooOld { creator, versions }),
            _ => Err(HeaderError::Unknown { format: number, creator }),
        }
    }

    /// The number in the file.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ring => FORMAT_10_8,
            Self::EncryptedRing => FORMAT_ENC_11,
            Self::Blocks => FORMAT_10_5,
            Self::EncryptedBlocks => FORMAT_10_5 | FORMAT_ENCRYPTED,
        }
    }
}

/// The text of a NUL-padded field, fit for a message.
pub(crate) fn printable(field: &[u8]) -> String {
    let text: String = field
        .iter()
        .take_while(|&&b| b != 0)
        .map(|&b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '?' })
        .collect();
    if text.is_empty() { "an unnamed version".to_owned() } else { text }
}

/// All bytes but the CRC in the last four.
pub(crate) fn covered(bytes: &[u8]) -> &[u8] {
    bytes.split_last_chunk::<4>().map_or(bytes, |(covered, _)| covered)
}
