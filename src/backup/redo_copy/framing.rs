//! How the followed log stands in its file, and what decrypts it.

use std::sync::Arc;

use innodb::encrypted::{KeySource, LocalKey};
use redo::Ring;
use redo::blocks::{BlockCipher, BlockCopier};
use redo::encryption::Encryption;
use redo::file::LogFile;
use redo::mtr::{Layout, Mtr, Stored};

use super::RedoCopyError;

/// The two ways.
pub(super) enum Framing {
    /// Mini-transactions one after the other: 10.8 and later.
    Ring(RingFraming),
    /// Blocks of 512 bytes: 10.5 to 10.7.
    Blocks(BlockFraming),
}

impl Framing {
    /// That of a log with this header, to be copied from its checkpoint on.
    pub(super) fn of(
        header: &LogFile,
        keys: Option<Arc<dyn KeySource>>,
    ) -> Result<Self, RedoCopyError> {
        let encryption = header.encryption().copied();
        let key = match (&encryption, &keys) {
            (None, _) => None,
            (Some(_), None) => return Err(RedoCopyError::NoKeys),
            (Some(encryption), Some(keys)) => {
                let version = encryption.key_version();
                Some((*encryption, derive(encryption, &**keys, version)?))
            }
        };
        if let Some(ring) = header.ring() {
            return Ok(Self::Ring(RingFraming { ring, key, clear: Vec::new() }));
        }
        let cipher = key
            .map(|(encryption, key)| BlockCipher::new(&encryption, encryption.key_version(), key));
        let copier = BlockCopier::new(header.checkpoint().lsn, cipher);
        Ok(Self::Blocks(BlockFraming { copier, encryption, keys }))
    }
}

fn derive(
    encryption: &Encryption,
    keys: &dyn KeySource,
    version: u32,
) -> Result<LocalKey, RedoCopyError> {
    encryption.key(keys, version).map_err(|error| RedoCopyError::Key(Arc::new(error)))
}

/// A ring of mini-transactions.
pub(super) struct RingFraming {
    ring: Ring,
    key: Option<(Encryption, LocalKey)>,
    /// A mini-transaction that was decrypted.
    clear: Vec<u8>,
}

impl RingFraming {
    pub(super) fn ring(&self) -> Ring {
        self.ring
    }

    pub(super) fn layout(&self) -> Layout {
        if self.key.is_some() { Layout::EncryptedRing(self.ring) } else { Layout::Ring(self.ring) }
    }

    /// The mini-transaction in the clear: its file names are encrypted too.
    pub(super) fn decrypt<'m>(&'m mut self, stored: &Stored<'m>) -> Result<Mtr<'m>, RedoCopyError> {
        match (&self.key, stored.plain()) {
            (_, Some(mtr)) => Ok(mtr),
            (Some((encryption, key)), None) => {
                Ok(stored.decrypt(encryption, key, &mut self.clear)?)
            }
            (None, None) => Err(RedoCopyError::NoKeys),
        }
    }

    /// Goes on in a file that replaced the log.
    pub(super) fn switch(&mut self, header: &LogFile) -> Result<(), RedoCopyError> {
        let encryption = self.key.as_ref().map(|(encryption, _)| encryption);
        if header.encryption() != encryption {
            return Err(RedoCopyError::EncryptionChanged);
        }
        if let Some(ring) = header.ring() {
            self.ring = ring;
        }
        Ok(())
    }
}

/// A ring of blocks.
pub(super) struct BlockFraming {
    pub(super) copier: BlockCopier,
    encryption: Option<Encryption>,
    keys: Option<Arc<dyn KeySource>>,
}

impl BlockFraming {
    /// Gets the key in the version that the next block needs.
    pub(super) fn change_key(&mut self, version: u32) -> Result<(), RedoCopyError> {
        let (Some(encryption), Some(keys)) = (&self.encryption, &self.keys) else {
            return Err(RedoCopyError::NoKeys);
        };
        let key = derive(encryption, &**keys, version)?;
        self.copier.set_cipher(BlockCipher::new(encryption, version, key));
        Ok(())
    }
}
