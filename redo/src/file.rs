//! A log file of any format that servers from 10.5 on write as `ib_logfile0`, and that backups
//! hold: what its header tells, and where an LSN is in it.
//!
//! Files of an archive are in the module `archive`.

use innodb::Lsn;

use crate::archive::ArchiveFile;
use crate::blocks::{self, BlockHeader, BlockSlot};
use crate::encryption::Encryption;
use crate::format::Format;
use crate::header::{self, Checkpoint, HeaderError, LogHeader};
use crate::{Ring, blocks::block_of};

/// The header of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    kind: Kind,
    file_len: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Ring { header: LogHeader, ring: Ring, checkpoint: Checkpoint },
    Blocks { header: BlockHeader, slot: Box<BlockSlot> },
}

/// Where a part of the log is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// LSN of the first byte: the one asked for, or that of the block which holds it.
    pub lsn: Lsn,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes from there to the end of the ring; the log goes on at [`LogFile::ring_offset`].
    pub contiguous: u64,
}

impl LogFile {
    /// Reads the header of a file of `file_len` bytes from `head`, its first
    /// [`header::HEADER_LEN`] bytes (all of it, if it is shorter).
    ///
    /// # Errors
    ///
    /// Every [`HeaderError`] but [`HeaderError::NotSupported`]. In a file that a server writes, a
    /// wrong checksum and [`HeaderError::NoCheckpoint`] deserve a second reading.
    pub fn parse(head: &[u8], file_len: u64) -> Result<Self, HeaderError> {
        let (label, creator, format) = header::recognise(head)?;
        let kind = match format {
            Format::Ring | Format::EncryptedRing => {
                let header = LogHeader::of_label(label, creator, format)?;
                let ring = header.ring(file_len)?;
                let checkpoint = Checkpoint::newest(head, header.first_lsn())?;
                Kind::Ring { header, ring, checkpoint }
            }
            Format::Blocks | Format::EncryptedBlocks => {
                let header = BlockHeader::of_label(label, creator, format)?;
                let slot = Box::new(header.newest(head, file_len)?);
                Kind::Blocks { header, slot }
            }
        };
        Ok(Self { kind, file_len })
    }

    /// The log whose oldest file is `first` of an archive, as if it were one file that never ends:
    /// what [`Self::place`] tells is in the file that holds the LSN, and counts from `first`.
    pub fn of_archive(
        first: ArchiveFile,
        checkpoint: Checkpoint,
        encryption: Option<Encryption>,
    ) -> Self {
        let header = LogHeader::of_archive(first.first_lsn, encryption);
        let kind = Kind::Ring { header, ring: Ring::archive(first.first_lsn), checkpoint };
        Self { kind, file_len: first.len }
    }

    /// The format.
    pub fn format(&self) -> Format {
        match &self.kind {
            Kind::Ring { header, .. } => header.format(),
            Kind::Blocks { header, .. } => header.format(),
        }
    }

    /// Who wrote the file: `MariaDB 10.11.19`, or `Backup 10.11.19`.
    pub fn creator(&self) -> &str {
        match &self.kind {
            Kind::Ring { header, .. } => header.creator(),
            Kind::Blocks { header, .. } => &header.creator,
        }
    }

    /// Whether a backup tool wrote the file.
    pub fn is_backup(&self) -> bool {
        self.creator().starts_with("Backup ")
    }

    /// The newest checkpoint. Its end LSN is its LSN where that is unknown
    /// ([`Self::is_end_lsn_known`]).
    pub fn checkpoint(&self) -> Checkpoint {
        match &self.kind {
            Kind::Ring { checkpoint, .. } => *checkpoint,
            Kind::Blocks { slot, .. } => slot.checkpoint,
        }
    }

    /// Whether the checkpoint tells its end LSN. If not (10.5 to 10.7), its `FILE_CHECKPOINT` may
    /// be anywhere after its LSN.
    pub fn is_end_lsn_known(&self) -> bool {
        match &self.kind {
            Kind::Ring { .. } => true,
            Kind::Blocks { slot, .. } => slot.is_end_lsn_known(),
        }
    }

    /// How the log is encrypted, if it is.
    pub fn encryption(&self) -> Option<&Encryption> {
        match &self.kind {
            Kind::Ring { header, .. } => header.encryption(),
            Kind::Blocks { slot, .. } => slot.encryption.as_ref(),
        }
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// LSNs that fit into the file.
    pub fn capacity(&self) -> u64 {
        match &self.kind {
            Kind::Ring { ring, .. } => ring.capacity(),
            Kind::Blocks { slot, .. } => slot.ring.capacity(),
        }
    }

    /// How LSNs are laid out in the file, but for blocks.
    pub fn ring(&self) -> Option<Ring> {
        match &self.kind {
            Kind::Ring { ring, .. } => Some(*ring),
            Kind::Blocks { .. } => None,
        }
    }

    /// Offset in the file of the ring's first byte.
    pub fn ring_offset(&self) -> u64 {
        match &self.kind {
            Kind::Ring { .. } => header::HEADER_LEN,
            Kind::Blocks { .. } => blocks::HEADER_LEN,
        }
    }

    /// Where `lsn` is, or would be; `None` before the first LSN.
    pub fn place(&self, lsn: Lsn) -> Option<Place> {
        match &self.kind {
            Kind::Ring { ring, .. } => {
                Some(Place { lsn, offset: ring.offset(lsn)?, contiguous: ring.contiguous(lsn)? })
            }
            Kind::Blocks { slot, .. } => {
                let (offset, contiguous) = slot.ring.place(lsn);
                Some(Place { lsn: block_of(lsn), offset, contiguous })
            }
        }
    }

    /// The first bytes of the copy that a backup makes of this log from the checkpoint on. The
    /// copy goes on with the mini-transactions from there on, each with the sequence byte 1, or
    /// with the blocks from that of the checkpoint on. `creator` is cut to 31 bytes; the server
    /// knows backups by `Backup ` and a version.
    pub fn copied_header(&self, creator: &str) -> Vec<u8> {
        match &self.kind {
            Kind::Ring { header, checkpoint, .. } => header.copied(*checkpoint, creator).to_vec(),
            Kind::Blocks { header, slot } => header.copied(slot, creator).to_vec(),
        }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }
}

#[cfg(test)]
mod tests;
