//! Read-only memory maps of files of our own; the only module that needs `unsafe`.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::{Advice, Mmap};

/// A file in memory.
pub struct Mapped {
    /// Nothing for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl Mapped {
    /// Maps the file `path`. It must be a file of a backup, which no other process changes: not
    /// one that a server may write or truncate.
    ///
    /// # Errors
    ///
    /// What `open` or `mmap` reports.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// Maps an open file, as [`Self::open`].
    ///
    /// # Errors
    ///
    /// What `mmap` reports.
    #[allow(unsafe_code, reason = "mapping a file is unsafe by nature")]
    pub fn of(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the map is private and read-only. It is sound as long as nobody changes or cuts
        // the file meanwhile: it belongs to a backup, of which prepare is the only user (it holds
        // a lock on the folder) and which it replaces by rename only. A file of an archive that is
        // the server's too is one that the server has finished, or a copy of it was made.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map: Some(map) })
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// Tells the system that the file will be read from start to end, and no longer so.
    pub fn expect_sequential(&self, sequential: bool) {
        let advice = if sequential { Advice::Sequential } else { Advice::Normal };
        // Just a hint.
        let _ = self.map.as_ref().map(|map| map.advise(advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_files_with_and_without_contents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Mapped::open(&path).unwrap().bytes(), b"");
        std::fs::write(&path, b"log").unwrap();
        let mapped = Mapped::open(&path).unwrap();
        mapped.expect_sequential(true);
        assert_eq!(mapped.bytes(), b"log");
        assert!(Mapped::open(&dir.path().join("none")).is_err());
    }
}
