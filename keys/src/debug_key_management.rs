//! The plugin `debug_key_management`: one key, which anybody can know, in as many versions as one
//! likes. Tests of encryption use it; it protects nothing.

use innodb::encrypted::{CipherMode, Key, KeyError, KeySource};

/// The only key there is.
const KEY_ID: u32 = 1;

/// The keys of a server with `debug_key_management_version`.
#[derive(Debug, Clone, Copy)]
pub struct DebugKeys {
    latest: u32,
}

impl DebugKeys {
    /// With this latest version.
    pub fn new(latest: u32) -> Self {
        Self { latest }
    }

    fn check(key_id: u32) -> Result<(), KeyError> {
        if key_id == KEY_ID { Ok(()) } else { Err(KeyError::Missing { key_id }) }
    }
}

impl KeySource for DebugKeys {
    /// 16 bytes: the version, big endian, and zeros (`get_key` in `debug_key_management_plugin.cc`).
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
        Self::check(key_id)?;
        let bytes = (u128::from(version) << 96).to_be_bytes();
        Key::new(&bytes).ok_or(KeyError::MissingVersion { key_id, version })
    }

    fn latest_version(&self, key_id: u32) -> Result<u32, KeyError> {
        Self::check(key_id).map(|()| self.latest)
    }

    fn mode(&self) -> CipherMode {
        CipherMode::Cbc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_of_one_key() {
        let keys = DebugKeys::new(7);
        assert_eq!(keys.latest_version(1).unwrap(), 7);
        assert!(matches!(keys.latest_version(2), Err(KeyError::Missing { key_id: 2 })));
        assert!(matches!(keys.key(0, 1), Err(KeyError::Missing { key_id: 0 })));
        assert_eq!(keys.key(1, 0x102).unwrap().bits(), 128);
    }
}
