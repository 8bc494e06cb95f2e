//! Pages of real files for the tests of this crate, and the keys of their servers;
//! the `README.md` of each version tells their origin.

use crate::encrypted::{CipherMode, Key, KeyError, KeySource};

/// The page in `testdata/10.11`/`name`.
pub(crate) fn page(name: &str) -> Vec<u8> {
    page_of("10.11", name)
}

/// The page in `testdata`/`version`/`name`.
pub(crate) fn page_of(version: &str, name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/{version}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The keys of all servers, in version 1.
#[derive(Debug)]
pub(crate) struct Keys(pub CipherMode);

impl KeySource for Keys {
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
        if version != 1 {
            return Err(KeyError::MissingVersion { key_id, version });
        }
        let bytes: &[u8] = match key_id {
            1 => &[
                0x77, 0x0a, 0x8a, 0x65, 0xda, 0x15, 0x6d, 0x24, 0xee, 0x2a, 0x09, 0x32, 0x77, 0x53,
                0x01, 0x42,
            ],
            2 => &[
                0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd,
                0xfe, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
            ],
            3 => &[
                0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d,
                0x77, 0x81, 0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3,
                0x09, 0x14, 0xdf, 0xf4,
            ],
            _ => return Err(KeyError::Missing { key_id }),
        };
        Ok(Key::new(bytes).unwrap())
    }

    fn latest_version(&self, key_id: u32) -> Result<u32, KeyError> {
        self.key(key_id, 1).map(|_| 1)
    }

    fn mode(&self) -> CipherMode {
        self.0
    }
}
