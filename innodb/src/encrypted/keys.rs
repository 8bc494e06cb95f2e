//! Keys, and where they come from.

use std::fmt;
use zeroize::Zeroizing;

/// A key as the key management gives it: 128, 192 or 256 bits. Wiped from memory after use, and
/// never printed.
#[derive(Clone)]
pub struct Key(pub(super) KeyBytes);

#[derive(Clone)]
pub(super) enum KeyBytes {
    Bits128(Zeroizing<[u8; 16]>),
    Bits192(Zeroizing<[u8; 24]>),
    Bits256(Zeroizing<[u8; 32]>),
}

impl Key {
    /// A copy of `bytes`, or `None` if they are not 16, 24 or 32. The caller wipes the original.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = match bytes.len() {
            16 => KeyBytes::Bits128(Zeroizing::new(bytes.try_into().ok()?)),
            24 => KeyBytes::Bits192(Zeroizing::new(bytes.try_into().ok()?)),
            32 => KeyBytes::Bits256(Zeroizing::new(bytes.try_into().ok()?)),
            _ => return None,
        };
        Some(Self(bytes))
    }

    /// How long the key is, in bits.
    pub fn bits(&self) -> u32 {
        match self.0 {
            KeyBytes::Bits128(_) => 128,
            KeyBytes::Bits192(_) => 192,
            KeyBytes::Bits256(_) => 256,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bits)", self.bits())
    }
}

/// How a key management uses its keys. No file tells: the server's option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CipherMode {
    /// `aes_cbc`. What is left after whole blocks of 16 bytes is combined with the encrypted IV.
    #[default]
    Cbc,
    /// `aes_ctr`.
    Ctr,
}

/// A key management. Asked for every page, from several threads: implementations that have to
/// look far keep what they found.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// Key `key_id` in `version`, as they stand in page 0 and in the page.
    ///
    /// # Errors
    ///
    /// A [`KeyError`]: there is no such key, or it could not be had.
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError>;

    /// The version of key `key_id` with which pages are encrypted now. At least 1.
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn latest_version(&self, key_id: u32) -> Result<u32, KeyError>;

    /// How the keys are used.
    fn mode(&self) -> CipherMode;
}

/// A key that is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key management does not know the key.
    #[error("there is no key {key_id}")]
    Missing {
        /// Its id.
        key_id: u32,
    },
    /// The key management knows the key, but not in this version.
    #[error("there is no version {version} of key {key_id}")]
    MissingVersion {
        /// Its id.
        key_id: u32,
        /// The version asked for.
        version: u32,
    },
    /// The key management did not answer, or not with a key.
    #[error("cannot get key {key_id}")]
    Unavailable {
        /// Its id.
        key_id: u32,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_keys() {
        for len in 0..40 {
            let key = Key::new(&vec![7; len]);
            assert_eq!(key.is_some(), matches!(len, 16 | 24 | 32), "{len}");
            assert!(key.is_none_or(|key| usize::try_from(key.bits()).unwrap() == 8 * len));
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let key = Key::new(&[0xab; 24]).unwrap();
        assert_eq!(format!("{key:?}"), "Key(192 bits)");
    }
}
