//! Reading a log of any format that nobody writes to any more and that is in memory, or mapped:
//! the copy in a backup, the log of a stopped server, the files of an archive.
//!
//! Whatever the format, the result is one stream of plain mini-transactions. Of plain logs from
//! 10.8 on nothing is copied (but where a mini-transaction goes on in the ring's next lap, or in
//! the next file).

use innodb::Lsn;
use innodb::encrypted::{KeyError, KeySource, LocalKey};

use crate::archive::ArchiveFile;
use crate::blocks::{BlockCipher, Blocks, BlocksEnd};
use crate::encryption::Encryption;
use crate::file::{Kind, LogFile};
use crate::header::{Checkpoint, HEADER_SIZE};
use crate::mtr::{Layout, Mtr, Stored, Unfinished, WINDOW_LEN_MIN};
use crate::record::{FileRecord, Record};
use crate::{RedoError, Ring};

/// Blocks that are unpacked at first, and the most at once; bytes.
const BLOCKS_FIRST: u64 = 4 << 10;
const BLOCKS_MOST: u64 = 256 << 10;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log is encrypted, and there is no key management.
    #[error("the redo log is encrypted with encryption key 1, which is not known")]
    NoKeys,
    /// The log is encrypted with a key that is not to be had.
    #[error("the redo log is encrypted from LSN {lsn} on")]
    Key {
        /// Where.
        lsn: Lsn,
        /// Why there is no key.
        source: KeyError,
    },
    /// A record that does not mean anything.
    #[error(transparent)]
    Malformed(#[from] RedoError),
}

/// A log in memory.
#[derive(Clone)]
pub struct Reader<'a> {
    source: Source<'a>,
    encryption: Option<Encryption>,
    keys: Option<&'a dyn KeySource>,
}

#[derive(Clone)]
enum Source<'a> {
    Ring { bytes: &'a [u8], ring: Ring },
    Blocks { bytes: &'a [u8], log: LogFile },
    Archive { files: Vec<(ArchiveFile, &'a [u8])>, ring: Ring },
}

impl<'a> Reader<'a> {
    /// A log with the header `log`; `bytes`: the whole file. `keys`: for an encrypted log.
    pub fn new(bytes: &'a [u8], log: &LogFile, keys: Option<&'a dyn KeySource>) -> Self {
        let source = match log.kind() {
            Kind::Ring { ring, .. } => Source::Ring { bytes, ring: *ring },
            Kind::Blocks { .. } => Source::Blocks { bytes, log: log.clone() },
        };
        Self { source, encryption: log.encryption().copied(), keys }
    }

    /// The files of an archive with their bytes, oldest first and without a gap
    /// ([`crate::archive::chain`]). `encryption`: from the header of the newest one.
    pub fn of_archive(
        files: Vec<(ArchiveFile, &'a [u8])>,
        encryption: Option<Encryption>,
        keys: Option<&'a dyn KeySource>,
    ) -> Self {
        let first_lsn = files.first().map_or(Lsn(u64::MAX), |(file, _)| file.first_lsn);
        let source = Source::Archive { files, ring: Ring::archive(first_lsn) };
        Self { source, encryption, keys }
    }

    /// The mini-transactions from `lsn` on, where one must begin.
    ///
    /// # Errors
    ///
    /// [`ReadError::NoKeys`], [`ReadError::Key`].
    pub fn mtrs(&self, lsn: Lsn) -> Result<Mtrs<'a, '_>, ReadError> {
        let key = match &self.encryption {
            None => None,
            Some(encryption) => Some(self.key(encryption, encryption.key_version(), lsn)?),
        };
        let state = match (&self.source, &self.encryption) {
            (Source::Blocks { .. }, None) => State::Blocks(Unpacked::new(lsn, None)),
            (Source::Blocks { .. }, Some(encryption)) => {
                let cipher =
                    key.map(|key| BlockCipher::new(encryption, encryption.key_version(), key));
                State::Blocks(Unpacked::new(lsn, cipher))
            }
            (Source::Ring { ring, .. } | Source::Archive { ring, .. }, None) => {
                State::Mtrs { layout: Layout::Ring(*ring), key: None }
            }
            (Source::Ring { ring, .. } | Source::Archive { ring, .. }, Some(_)) => {
                State::Mtrs { layout: Layout::EncryptedRing(*ring), key }
            }
        };
        Ok(Mtrs { reader: self, state, lsn, joined: Vec::new(), clear: Vec::new() })
    }

    /// `len` bytes of records at `lsn`, if the log has them in the clear and in one piece: true of
    /// plain logs from 10.8 on that do not wrap. Otherwise see [`Mtrs::seek`]. Nothing is checked;
    /// the bytes must have been part of a mini-transaction of [`Self::mtrs`].
    #[inline]
    pub fn in_place(&self, lsn: Lsn, len: usize) -> Option<&'a [u8]> {
        let is_plain = self.encryption.is_none() && !matches!(self.source, Source::Blocks { .. });
        is_plain.then(|| self.piece(lsn).get(..len)).flatten()
    }

    /// The checkpoint whose `FILE_MODIFY` and `FILE_CHECKPOINT` begin at `end_lsn`; `None` if
    /// there is something else.
    ///
    /// # Errors
    ///
    /// As of [`Mtrs::next`].
    pub fn checkpoint_at(&self, end_lsn: Lsn) -> Result<Option<Checkpoint>, ReadError> {
        let mut mtrs = self.mtrs(end_lsn)?;
        while let Some(mtr) = mtrs.next()? {
            for record in mtr.records() {
                match record? {
                    Record::File(FileRecord::Checkpoint(lsn)) => {
                        return Ok((lsn <= end_lsn).then_some(Checkpoint { lsn, end_lsn }));
                    }
                    Record::File(FileRecord::Modify { .. } | FileRecord::Padding) => {}
                    _ => return Ok(None),
                }
            }
        }
        Ok(None)
    }

    fn key(&self, encryption: &Encryption, version: u32, lsn: Lsn) -> Result<LocalKey, ReadError> {
        let keys = self.keys.ok_or(ReadError::NoKeys)?;
        encryption.key(keys, version).map_err(|source| ReadError::Key { lsn, source })
    }

    /// The log from `lsn` on as far as it is in one piece; empty outside of it.
    fn piece(&self, lsn: Lsn) -> &'a [u8] {
        let place = match &self.source {
            Source::Ring { bytes, ring } => ring.offset(lsn).map(|offset| (*bytes, offset)),
            Source::Blocks { bytes, log } => log.place(lsn).map(|place| (*bytes, place.offset)),
            Source::Archive { files, .. } => {
                let next = files.partition_point(|(file, _)| file.first_lsn <= lsn);
                let file = next.checked_sub(1).and_then(|file| files.get(file));
                file.map(|(file, bytes)| {
                    (*bytes, lsn.since(file.first_lsn).saturating_add(HEADER_SIZE as u64))
                })
            }
        };
        place
            .and_then(|(bytes, offset)| bytes.get(usize::try_from(offset).ok()?..))
            .unwrap_or_default()
    }

    /// Bytes of log that can be there at most.
    fn capacity(&self) -> u64 {
        match &self.source {
            Source::Ring { ring, .. } => ring.capacity(),
            Source::Blocks { log, .. } => log.capacity(),
            Source::Archive { .. } => u64::MAX,
        }
    }

    /// The log from `lsn` on, pieces joined, enough for any mini-transaction.
    fn join(&self, lsn: Lsn, joined: &mut Vec<u8>) {
        let most = usize::try_from(self.capacity()).unwrap_or(usize::MAX).min(WINDOW_LEN_MIN);
        joined.clear();
        let mut at = lsn;
        while joined.len() < most {
            let piece = self.piece(at);
            let piece = piece.get(..most - joined.len()).unwrap_or(piece);
            let Some(next) = at.checked_add(piece.len() as u64) else { return };
            if piece.is_empty() {
                return;
            }
            joined.extend_from_slice(piece);
            at = next;
        }
    }
}

/// The mini-transactions of a log, one after the other. [`Mtrs::next`] lends each one.
pub struct Mtrs<'a, 'r> {
    reader: &'r Reader<'a>,
    state: State,
    lsn: Lsn,
    /// Pieces of the log that are not one in the file.
    joined: Vec<u8>,
    /// The records of the last mini-transaction, decrypted.
    clear: Vec<u8>,
}

enum State {
    Mtrs { layout: Layout, key: Option<LocalKey> },
    Blocks(Unpacked),
}

/// Payload of blocks.
struct Unpacked {
    blocks: Blocks,
    payload: Vec<u8>,
    /// Where the next mini-transaction begins in it.
    at: usize,
    /// Why there is no more, once that is known.
    end: Option<BlocksEnd>,
    /// Bytes of blocks to unpack next.
    step: u64,
}

impl Mtrs<'_, '_> {
    /// Where the next mini-transaction would begin: after the last one, the end of the log.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Goes on at `lsn`, where a mini-transaction must begin, instead.
    pub fn seek(&mut self, lsn: Lsn) {
        self.lsn = lsn;
        if let State::Blocks(unpacked) = &mut self.state {
            unpacked.seek(lsn);
        }
    }

    /// The next mini-transaction, in the clear; `None` at the end of the log.
    ///
    /// # Errors
    ///
    /// [`ReadError::Key`] if another version of the key is needed; [`ReadError::Malformed`] if a
    /// record is needed to decrypt the others and cannot be read.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Mtr<'_>>, ReadError> {
        let mtr = match &mut self.state {
            State::Blocks(unpacked) => unpacked.next(self.reader, self.lsn)?,
            State::Mtrs { layout, key } => {
                let piece = self.reader.piece(self.lsn);
                let stored = match Stored::parse(piece, self.lsn, *layout) {
                    Err(Unfinished::NeedMore) => {
                        self.reader.join(self.lsn, &mut self.joined);
                        Stored::parse(&self.joined, self.lsn, *layout)
                    }
                    stored => stored,
                };
                match (stored, &self.reader.encryption, key) {
                    (Err(_), _, _) => None,
                    (Ok(stored), Some(encryption), Some(key)) => {
                        Some(stored.decrypt(encryption, key, &mut self.clear)?)
                    }
                    (Ok(stored), _, _) => stored.plain(),
                }
            }
        };
        if let Some(mtr) = &mtr {
            self.lsn = mtr.end();
        }
        Ok(mtr)
    }
}

impl Unpacked {
    fn new(lsn: Lsn, cipher: Option<BlockCipher>) -> Self {
        let blocks = Blocks::new(lsn, cipher);
        Self { blocks, payload: Vec::new(), at: 0, end: None, step: BLOCKS_FIRST }
    }

    fn seek(&mut self, lsn: Lsn) {
        self.blocks.restart(lsn);
        self.payload.clear();
        (self.at, self.end, self.step) = (0, None, BLOCKS_FIRST);
    }

    fn next(&mut self, reader: &Reader<'_>, lsn: Lsn) -> Result<Option<Mtr<'_>>, ReadError> {
        let (end, len) = loop {
            let rest = self.payload.get(self.at..).unwrap_or_default();
            match Stored::parse(rest, lsn, Layout::Blocks(self.blocks.payload())) {
                Ok(stored) => break (stored.end(), stored.sequence_at()),
                Err(Unfinished::NeedMore) if self.end.is_none() => self.unpack(reader)?,
                Err(_) => return Ok(None),
            }
        };
        let records = self.payload.get(self.at..).and_then(|rest| rest.get(..len));
        self.at += len + 1;
        Ok(records.map(|records| Mtr::of_blocks(records, lsn, end)))
    }

    /// Unpacks more blocks.
    fn unpack(&mut self, reader: &Reader<'_>) -> Result<(), ReadError> {
        self.payload.drain(..self.at);
        self.at = 0;
        let lsn = self.blocks.next_block();
        let piece = reader.piece(lsn);
        let step = usize::try_from(self.step).unwrap_or(piece.len());
        let bytes = piece.get(..step).unwrap_or(piece);
        self.step = (self.step * 2).min(BLOCKS_MOST);
        self.end = match self.blocks.take(bytes, &mut self.payload) {
            BlocksEnd::NeedMore if self.blocks.next_block() == lsn => Some(BlocksEnd::NeedMore),
            BlocksEnd::NeedMore => None,
            BlocksEnd::KeyVersion(version) => {
                let encryption = reader.encryption.as_ref().ok_or(ReadError::NoKeys)?;
                let key = reader.key(encryption, version, self.blocks.next_block())?;
                self.blocks.set_cipher(BlockCipher::new(encryption, version, key));
                None
            }
            end => Some(end),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
