//! Keys for what is encrypted: one key for all ids and versions.

use innodb::encrypted::{CipherMode, Key, KeyError, KeySource};

/// A key management that knows every key but those with id 9.
#[derive(Debug)]
pub struct AnyKey(pub CipherMode);

impl KeySource for AnyKey {
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
        match key_id {
            9 => Err(KeyError::Missing { key_id }),
            _ => Key::new(&[7; 16]).ok_or(KeyError::MissingVersion { key_id, version }),
        }
    }

    fn latest_version(&self, _: u32) -> Result<u32, KeyError> {
        Ok(3)
    }

    fn mode(&self) -> CipherMode {
        self.0
    }
}
