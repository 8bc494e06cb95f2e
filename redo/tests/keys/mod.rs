//! The key management of the servers that wrote the encrypted logs in `testdata`: their key file.

use innodb::encrypted::{CipherMode, Key, KeyError, KeySource};

/// Key 1, up to a version.
#[derive(Debug)]
pub struct TestKeys {
    /// `file_key_management_encryption_algorithm`.
    pub mode: CipherMode,
    /// The newest version; all have the same key.
    pub newest: u32,
}

impl TestKeys {
    /// What a key file has: version 1 alone.
    pub fn new(mode: CipherMode) -> Self {
        Self { mode, newest: 1 }
    }
}

impl KeySource for TestKeys {
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
        if key_id != 1 {
            return Err(KeyError::Missing { key_id });
        }
        if !(1..=self.newest).contains(&version) {
            return Err(KeyError::MissingVersion { key_id, version });
        }
        let key = [
            0xa7, 0xad, 0xdd, 0x9a, 0xde, 0xa9, 0x97, 0x8f, 0xda, 0x19, 0xf2, 0x1e, 0x6b, 0xe9,
            0x87, 0x88, 0x0e, 0x68, 0xac, 0x92, 0x63, 0x2c, 0xa0, 0x52, 0xe5, 0xbb, 0x42, 0xb1,
            0xa5, 0x06, 0x93, 0x9a,
        ];
        Ok(Key::new(&key).expect("32 bytes"))
    }

    fn latest_version(&self, _: u32) -> Result<u32, KeyError> {
        Ok(self.newest)
    }

    fn mode(&self) -> CipherMode {
        self.mode
    }
}
