//! What can be wrong with the contents of a log whose checksums are right.

use innodb::Lsn;

/// A record that does not mean anything. The mini-transaction's checksum was right, so this is
/// a format this version does not know, or a fault of the server; never a torn write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("redo log record at LSN {lsn} is malformed")]
pub struct RedoError {
    /// Position of the record's first byte.
    pub lsn: Lsn,
    /// What is wrong with it.
    #[source]
    pub cause: Malformed,
}

/// Why a record cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The record goes past the end of its mini-transaction.
    #[error("it is longer than its mini-transaction")]
    Overrun,
    /// A variable-length integer is truncated, unknown or too large for its place.
    #[error("invalid variable-length integer")]
    Integer,
    /// Bytes are missing or left over.
    #[error("wrong length for a record of type {0:#04x}")]
    Length(u8),
    /// A file record type that does not exist.
    #[error("unknown type {0:#04x}")]
    Type(u8),
    /// A subtype of `EXTENDED` that does not exist.
    #[error("unknown subtype {0} of EXTENDED")]
    Subtype(u8),
    /// The record refers to the page of the record before it, which has none, or which leaves
    /// nothing to continue (`FREE_PAGE`, `TRIM_PAGES`).
    #[error("nothing to continue from the record before it")]
    SamePage,
    /// The changed bytes begin in the page header or end behind the largest possible page.
    #[error("offset {offset} and length {len} are not in a page")]
    Range {
        /// Bytes from the start of the page.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// `EXTENDED` on one of the first three pages of a tablespace.
    #[error("index or undo operation on page {0}")]
    Page(u32),
    /// A file record without a usable file name or with an impossible tablespace.
    #[error("invalid tablespace or file name")]
    File,
    /// `FILE_CHECKPOINT` is not the last record of its mini-transaction.
    #[error("FILE_CHECKPOINT is not the last record")]
    CheckpointNotLast,
}
