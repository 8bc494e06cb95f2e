//! Encrypted tables: what their checksums cover is the page before it was encrypted.
//!
//! ```text
//!                     plain     key version   encrypted      plain
//! rows (head, tail)   [0, 12)   at 12         [16, S-4)      checksum
//! rows (long values)  [0, 8)    at 8          [12, S-4)      checksum
//! index               [0, p)    at p          [p+8, used)    p, p+8: key number, flags, used length
//! ```
//!
//! S is the block size, p the length of LSN and transaction id. Bitmaps and the header of the index
//! file are not encrypted. The last 22 bytes of that header hold what keys and IVs are made of. The
//! key is key 1. Source: `ma_crypt.c`; checked on files of 10.11.

use innodb::encrypted::{KeyError, KeySource, LocalKey};

use crate::table::{self, FileKind, IndexHeader, PageError};

/// The key of all tables.
const KEY_ID: u32 = 1;
/// Bytes of the parameters: scheme, length, and these.
const PARAMETERS_LEN: usize = 22;
/// Scheme and length of the parameters that follow.
const SCHEME: [u8; 2] = [1, 20];
/// Where the type of a page of rows stands, and which bits of it tell.
const TYPE_AT: usize = 7;
const TYPE_MASK: u8 = 7;
/// A page of a long value.
const TYPE_LONG: u8 = 3;
/// Key version 0: not encrypted.
const NOT_ENCRYPTED: u32 = 0;

/// What the header of a table's index file tells about its encryption; nothing in it is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    space: [u8; 4],
    seed: [u8; 16],
}

impl Parameters {
    /// Those at the end of `header`, which is all of the header.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        let parameters: &[u8; PARAMETERS_LEN] = header.last_chunk()?;
        let (scheme, rest) = parameters.split_first_chunk()?;
        let (space, seed) = rest.split_first_chunk()?;
        (*scheme == SCHEME).then_some(Self { space: *space, seed: *seed.first_chunk()? })
    }
}

/// An encrypted page that cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptedPageError {
    /// The page is torn, damaged, or was encrypted with another key.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The key is not to be had.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl IndexHeader {
    /// As [`verify_page`](Self::verify_page), also of a table whose pages are encrypted.
    ///
    /// # Errors
    ///
    /// [`EncryptedPageError`]; on a live server, read the page again first.
    pub fn verify_page_with(
        &self,
        keys: &dyn KeySource,
        kind: FileKind,
        offset: u64,
        page: &[u8],
    ) -> Result<(), EncryptedPageError> {
        match (self.verify_page(kind, offset, page), self.encryption()) {
            (Err(PageError::Encrypted), Some(parameters)) => {
                let page_no = u32::try_from(offset / u64::from(self.block_len()))
                    .map_err(|_| PageError::Offset { offset })?;
                let mut plain = page.to_vec();
                self.decrypt(keys, parameters, kind, page_no, &mut plain)?;
                Ok(self.verify_plain(kind, page_no, &plain)?)
            }
            (verified, _) => Ok(verified?),
        }
    }

    /// Decrypts the page in place, and leaves 0 for the version of its key.
    fn decrypt(
        &self,
        keys: &dyn KeySource,
        parameters: &Parameters,
        kind: FileKind,
        page_no: u32,
        page: &mut [u8],
    ) -> Result<(), EncryptedPageError> {
        let len = page.len();
        let truncated = || PageError::Truncated { len };
        let page_type = page.get(TYPE_AT).map(|byte| byte & TYPE_MASK);
        let (version_at, encrypted) = match kind {
            FileKind::Data if page_type == Some(TYPE_LONG) => (8, 12..len.saturating_sub(4)),
            FileKind::Data => (12, 16..len.saturating_sub(4)),
            FileKind::Index => {
                let prefix = self.prefix_len();
                let used = self.used_len(page)?;
                (prefix - 4, prefix + table::KEY_FLAGS_USED..used)
            }
        };
        let field = page.get_mut(version_at..).and_then(<[u8]>::first_chunk_mut::<4>);
        let field = field.ok_or_else(truncated)?;
        let version = u32::from_le_bytes(std::mem::take(field));
        if version == NOT_ENCRYPTED {
            return Ok(());
        }
        let key = keys.key(KEY_ID, version)?;
        let key = LocalKey::derive(&key, &parameters.seed, keys.mode());
        let iv = parameters.iv(page_no, page).ok_or_else(truncated)?;
        key.decrypt(&iv, page.get_mut(encrypted).ok_or_else(truncated)?);
        Ok(())
    }
}

impl Parameters {
    /// Number of the table, number of the page, LSN.
    fn iv(&self, page_no: u32, page: &[u8]) -> Option<[u8; 16]> {
        let [file_0, file_1, file_2, offset @ ..] = *page.first_chunk::<7>()?;
        let file = [file_0, file_1, file_2, 0];
        let number = page_no.to_le_bytes();
        let parts = [self.space, number, offset, file];
        let mut bytes = parts.iter().flatten().copied();
        Some(std::array::from_fn(|_| bytes.next().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use innodb::encrypted::{CipherMode, Key};

    const INDEX: &[u8] = include_bytes!("../testdata/10.11.19/keys_cbc.MAI");
    const ROWS: &[u8] = include_bytes!("../testdata/10.11.19/keys_cbc.MAD");
    /// Key 1 of `keys/testdata/plain`.
    const KEY: u128 = 0x770a_8a65_da15_6d24_ee2a_0932_7753_0142;

    #[derive(Debug)]
    struct Keys(u128, CipherMode);

    impl KeySource for Keys {
        fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
            match (key_id, version) {
                (1, 1) => Key::new(&self.0.to_be_bytes()).ok_or(KeyError::Missing { key_id }),
                _ => Err(KeyError::MissingVersion { key_id, version }),
            }
        }

        fn latest_version(&self, _: u32) -> Result<u32, KeyError> {
            Ok(1)
        }

        fn mode(&self) -> CipherMode {
            self.1
        }
    }

    const GOOD: Keys = Keys(KEY, CipherMode::Cbc);

    fn pages(kind: FileKind, file: &[u8]) -> impl Iterator<Item = (u64, FileKind, &[u8])> {
        (0..).step_by(8192).zip(file.chunks(8192)).map(move |(offset, page)| (offset, kind, page))
    }

    fn all_pages() -> impl Iterator<Item = (u64, FileKind, &'static [u8])> {
        pages(FileKind::Index, INDEX).chain(pages(FileKind::Data, ROWS))
    }

    #[test]
    fn pages_of_real_files_pass() {
        let header = IndexHeader::parse(INDEX).unwrap();
        let mut encrypted = 0;
        for (offset, kind, page) in all_pages() {
            header.verify_page_with(&GOOD, kind, offset, page).unwrap();
            encrypted += u32::from(header.verify_page(kind, offset, page).is_err());
        }
        // Two indexes; rows, and the long value.
        assert!(encrypted >= 4, "{encrypted}");
    }

    #[test]
    fn damage_and_wrong_keys_are_found() {
        let header = IndexHeader::parse(INDEX).unwrap();
        let wrong = [Keys(KEY + 1, CipherMode::Cbc), Keys(KEY, CipherMode::Ctr)];
        for (offset, kind, page) in all_pages() {
            if header.verify_page(kind, offset, page).is_ok() {
                continue;
            }
            for keys in &wrong {
                let error = header.verify_page_with(keys, kind, offset, page).unwrap_err();
                assert!(matches!(error, EncryptedPageError::Page(_)), "{error}");
            }
            let mut damaged = page.to_vec();
            damaged[30] ^= 1;
            let error = header.verify_page_with(&GOOD, kind, offset, &damaged).unwrap_err();
            assert!(matches!(error, EncryptedPageError::Page(_)), "{error}");
        }
    }

    #[test]
    fn another_version_is_asked_for() {
        let header = IndexHeader::parse(INDEX).unwrap();
        let (offset, kind, page) = all_pages()
            .find(|(at, kind, page)| header.verify_page(*kind, *at, page).is_err())
            .unwrap();
        let mut page = page.to_vec();
        page[header.prefix_len() - 4] = 2;
        let error = header.verify_page_with(&GOOD, kind, offset, &page).unwrap_err();
        assert_eq!(error.to_string(), "there is no version 2 of key 1");
    }

    #[test]
    fn parameters_of_another_scheme_are_none() {
        assert_eq!(Parameters::parse(&[0; 21]), None);
        assert_eq!(Parameters::parse(&[0; 22]), None);
        assert!(Parameters::parse(&[&SCHEME[..], &[7; 20]].concat()).is_some());
    }
}
