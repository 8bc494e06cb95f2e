//! Encrypted pages.
//!
//! ```text
//!                    plain             encrypted         plain
//! full_crc32         [0, 26)           [26, e-4)         checksum, of what is in the file
//! older              [0, 38)           [38, P-8)         8 bytes
//! older, type 37401  [0, 42)           [42, 42 + n)      zeros
//! ```
//!
//! P is the physical page size, e the same or the length of a page compressed as a whole, n the
//! length at byte 38. Which version of the tablespace's key was used stands in the page: at 0
//! (`full_crc32`) or at 26; 0 means that the page is not encrypted, which also happens in
//! encrypted tablespaces: while keys change, and always for pages 0, the `TRX_SYS` page and pages
//! of extent descriptors. The older formats keep the checksum of the plain page in its place and
//! have one of the encrypted page at 30. Scheme and IV of a tablespace are in its page 0, see
//! [`EncryptionMetadata`].
//!
//! Sources: `fil_space_encrypt` and `fil_space_decrypt` in `fil0crypt.cc`; checked on files of
//! 10.11.

mod cipher;
mod keys;

pub use cipher::LocalKey;
pub use keys::{CipherMode, Key, KeyError, KeySource};

use crate::bytes::be16;
use crate::flags::SpaceFlags;
use crate::lsn::SpaceId;
use crate::page::{HEADER_LEN, Page, PageError, PageType};
use crate::space::EncryptionMetadata;
use std::ops::Range;

/// Where the key version is in files older than `full_crc32`; the checksum follows.
pub(crate) const OLDER_KEY_VERSION: usize = 26;

/// Decrypts (or encrypts) what is encrypted in `bytes`, a page of tablespace `space` whose header
/// is as it is in the file.
///
/// # Errors
///
/// [`PageError::CompressedLength`] or [`PageError::CompressedHeader`] if there is nothing that
/// could be decrypted; `bytes` is unchanged then.
pub(crate) fn apply(
    direction: Direction,
    key: &LocalKey,
    bytes: &mut [u8],
    flags: SpaceFlags,
    space: SpaceId,
) -> Result<(), PageError> {
    let len = bytes.len();
    let short = PageError::Length { len, expected: flags.page_size().physical() };
    let page = Page::new(bytes).ok_or(short)?;
    let range = encrypted_range(&page, flags)?;
    let space = if flags.is_full_crc32() { space } else { page.space_id() };
    let iv = iv(&page, space);
    let data = bytes.get_mut(range).ok_or(PageError::CompressedHeader)?;
    match direction {
        Direction::Encrypt => key.encrypt(&iv, data),
        Direction::Decrypt => key.decrypt(&iv, data),
    }
    Ok(())
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

fn encrypted_range(page: &Page<'_>, flags: SpaceFlags) -> Result<Range<usize>, PageError> {
    if flags.is_full_crc32() {
        return Ok(26..page.checksummed()?.len() - 4);
    }
    if page.page_type() == PageType::PAGE_COMPRESSED_ENCRYPTED {
        let len = be16(page.bytes(), HEADER_LEN).map_or(0, usize::from);
        return Ok(42..42 + len);
    }
    Ok(HEADER_LEN..page.bytes().len() - 8)
}

/// Space id, page number and LSN, little-endian here alone.
fn iv(page: &Page<'_>, space: SpaceId) -> [u8; 16] {
    let mut iv = [0; 16];
    let (ids, lsn) = iv.split_at_mut(8);
    let (space_id, page_no) = ids.split_at_mut(4);
    space_id.copy_from_slice(&space.0.to_le_bytes());
    page_no.copy_from_slice(&page.page_no().0.to_le_bytes());
    lsn.copy_from_slice(&page.lsn().0.to_le_bytes());
    iv
}

/// Key `version` of the tablespace with `metadata` in its page 0.
///
/// # Errors
///
/// Those of the key management.
pub(crate) fn local_key(
    keys: &dyn KeySource,
    metadata: &EncryptionMetadata,
    version: u32,
) -> Result<LocalKey, KeyError> {
    let key = keys.key(metadata.key_id, version)?;
    Ok(LocalKey::derive(&key, &metadata.iv, keys.mode()))
}
