//! Redo log records.
//!
//! A record is a type byte, an optional length, and a payload; see `mtr0types.h`. This module
//! turns the records of one mini-transaction into [`Record`]s with absolute page ids and offsets.
//!
//! ```text
//! type byte   bit 7: same page as the record before (before the first page record: file record)
//!             bits 6..4: type; bits 3..0: bytes that follow, 0: a length follows
//! page id     unless same page: tablespace id, page number
//! payload     by type; offsets of WRITE, MEMSET, MEMMOVE count from the end of the change before
//! ```

use innodb::{Lsn, PageId, SpaceId};

use crate::mtr::Frame;
use crate::{Malformed, RedoError, varint};

/// One record with its page id and offsets resolved (the log abbreviates both).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// The page was freed: nothing before it matters any more, its contents stay as they are.
    FreePage(PageId),
    /// The page was initialised: zeros apart from its identity; nothing before it matters.
    InitPage(PageId),
    /// An operation on an index or undo page.
    Extended(PageId, Extended<'a>),
    /// The tablespace was cut to `page_no` pages (undo truncation, shrinking of space 0).
    TrimPages(PageId),
    /// Bytes to copy to `offset`.
    Write {
        /// The page.
        page: PageId,
        /// Bytes from the start of the page, at least 8 (of the binary log, [`is_binlog`]: 0).
        offset: u32,
        /// What to store there.
        data: &'a [u8],
    },
    /// `pattern`, repeated to fill `len` bytes from `offset`; the last repetition is cut.
    Memset {
        /// The page.
        page: PageId,
        /// Bytes from the start of the page, at least 8.
        offset: u32,
        /// Bytes to fill.
        len: u32,
        /// What to repeat; never empty.
        pattern: &'a [u8],
    },
    /// `len` bytes within the page; source and destination may overlap.
    Memmove {
        /// The page.
        page: PageId,
        /// Destination, bytes from the start of the page, at least 8.
        offset: u32,
        /// Bytes to move.
        len: u32,
        /// Source, bytes from the start of the page, at least 8.
        source: u32,
    },
    /// A record without effect on the page (`OPTION`, and `RESERVED` of future versions).
    Ignored(PageId),
    /// An operation on a file.
    File(FileRecord<'a>),
}

impl Record<'_> {
    /// The name of its type, as in `mtr0types.h`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::FreePage(_) => "FREE_PAGE",
            Self::InitPage(_) => "INIT_PAGE",
            Self::Extended(_, extended) => extended.type_name(),
            Self::TrimPages(_) => "TRIM_PAGES",
            Self::Write { .. } => "WRITE",
            Self::Memset { .. } => "MEMSET",
            Self::Memmove { .. } => "MEMMOVE",
            Self::Ignored(_) => "OPTION",
            Self::File(FileRecord::Create { .. }) => "FILE_CREATE",
            Self::File(FileRecord::Delete { .. }) => "FILE_DELETE",
            Self::File(FileRecord::Rename { .. }) => "FILE_RENAME",
            Self::File(FileRecord::Modify { .. }) => "FILE_MODIFY",
            Self::File(FileRecord::Checkpoint(_)) => "FILE_CHECKPOINT",
            Self::File(FileRecord::Padding) => "PADDING",
        }
    }
}

impl Extended<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::InitRowFormatRedundant => "INIT_ROW_FORMAT_REDUNDANT",
            Self::InitRowFormatDynamic => "INIT_ROW_FORMAT_DYNAMIC",
            Self::UndoInit => "UNDO_INIT",
            Self::UndoAppend(_) => "UNDO_APPEND",
            Self::Insert { kind: InsertKind::HeapRedundant, .. } => "INSERT_HEAP_REDUNDANT",
            Self::Insert { kind: InsertKind::ReuseRedundant, .. } => "INSERT_REUSE_REDUNDANT",
            Self::Insert { kind: InsertKind::HeapDynamic, .. } => "INSERT_HEAP_DYNAMIC",
            Self::Insert { kind: InsertKind::ReuseDynamic, .. } => "INSERT_REUSE_DYNAMIC",
            Self::DeleteRowFormatRedundant { .. } => "DELETE_ROW_FORMAT_REDUNDANT",
            Self::DeleteRowFormatDynamic { .. } => "DELETE_ROW_FORMAT_DYNAMIC",
        }
    }
}

/// Operations on index and undo pages (`EXTENDED` records); offsets are relative to the page's
/// infimum where the source says so, and are resolved when the record is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended<'a> {
    /// Empty index page, `ROW_FORMAT=REDUNDANT`.
    InitRowFormatRedundant,
    /// Empty index page, `ROW_FORMAT=COMPACT` and `DYNAMIC`.
    InitRowFormatDynamic,
    /// Empty undo page.
    UndoInit,
    /// A record appended to an undo page.
    UndoAppend(&'a [u8]),
    /// A record inserted behind `prev`.
    Insert {
        /// From the heap's top or from the free list; `REDUNDANT` or `DYNAMIC` record format.
        kind: InsertKind,
        /// Predecessor, bytes after infimum.
        prev: u32,
        /// `shift` of a reused record (0 for the other kinds), as in the log (zig-zag).
        shift: u32,
        /// Header length and status or field count and info bits, as in the log.
        enc: u32,
        /// Header bytes to copy from the predecessor.
        hdr_copy: u32,
        /// Data bytes to copy from the predecessor.
        data_copy: u32,
        /// The remaining header bytes, then the remaining data bytes.
        literal: &'a [u8],
    },
    /// The record behind `prev` was deleted, `ROW_FORMAT=REDUNDANT`.
    DeleteRowFormatRedundant {
        /// Predecessor, bytes after infimum.
        prev: u32,
    },
    /// The record behind `prev` was deleted, `ROW_FORMAT=COMPACT` and `DYNAMIC`.
    DeleteRowFormatDynamic {
        /// Predecessor, bytes after infimum.
        prev: u32,
        /// Size of the variable part of the deleted record's header, bytes.
        hdr_size: u32,
        /// Size of the deleted record's data, bytes.
        data_size: u32,
    },
}

/// Where an inserted record's space comes from, and its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertKind {
    /// From the heap's top, `ROW_FORMAT=REDUNDANT`.
    HeapRedundant,
    /// From the free list, `ROW_FORMAT=REDUNDANT`.
    ReuseRedundant,
    /// From the heap's top, `ROW_FORMAT=COMPACT` and `DYNAMIC`.
    HeapDynamic,
    /// From the free list, `ROW_FORMAT=COMPACT` and `DYNAMIC`.
    ReuseDynamic,
}

/// Operations on files; names as the server opened them (`./db/table.ibd` or absolute).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRecord<'a> {
    /// A tablespace file was created.
    Create {
        /// The new tablespace.
        space: SpaceId,
        /// Its file.
        name: &'a [u8],
    },
    /// A tablespace file is about to be deleted.
    Delete {
        /// The tablespace.
        space: SpaceId,
        /// Its file.
        name: &'a [u8],
    },
    /// A tablespace file was renamed.
    Rename {
        /// The tablespace.
        space: SpaceId,
        /// The file's name before.
        from: &'a [u8],
        /// The file's name from now on.
        to: &'a [u8],
    },
    /// The first change of a tablespace since the newest checkpoint follows.
    Modify {
        /// The tablespace.
        space: SpaceId,
        /// Its file.
        name: &'a [u8],
    },
    /// All pages changed before this LSN had been written when the checkpoint was made.
    Checkpoint(Lsn),
    /// Nothing.
    Padding,
}

// Bits 6..4 of the type byte, for page records (`mrec_type_t`).
pub(crate) const FREE_PAGE: u8 = 0x00;
pub(crate) const INIT_PAGE: u8 = 0x10;
pub(crate) const EXTENDED: u8 = 0x20;
const WRITE: u8 = 0x30;
const MEMSET: u8 = 0x40;
const MEMMOVE: u8 = 0x50;
pub(crate) const RESERVED: u8 = 0x60;
pub(crate) const OPTION: u8 = 0x70;
/// The subtype of `EXTENDED` that cuts a tablespace (`mrec_ext_t`).
pub(crate) const TRIM_PAGES: u8 = 10;

// Bits 6..4 of the type byte, for file records (`mfile_type_t`).
const FILE_CREATE: u8 = 0x00;
const FILE_DELETE: u8 = 0x10;
const FILE_RENAME: u8 = 0x20;
const FILE_MODIFY: u8 = 0x30;
const FILE_CHECKPOINT: u8 = 0x70;

/// The largest page. Whether a change fits into a page of its tablespace is known when applied.
const PAGE_LEN_MAX: u32 = 1 << 16;
/// Changes begin behind the first 8 bytes: checksum and page number are not logged.
const OFFSET_MIN: u32 = 8;
/// `LOG_BINLOG_ID_0`: the two newest files of the binary log kept in InnoDB (12.3 and later) have
/// this "tablespace" and the next one; the lowest bit is that of the file's number.
const BINLOG_SPACE: u32 = 0xffff_fff0;
/// Where the offset of the record after an `INIT_PAGE` or `EXTENDED` counts from (page type).
const AFTER_INIT: u32 = 24;

/// Decodes a run of records that begins with one that names its page, or with a file record:
/// the bytes of a [`crate::mtr::Run`], or all records of a mini-transaction. `lsn` is the position
/// of the first byte, for messages.
pub fn decode_run(bytes: &[u8], lsn: Lsn) -> Records<'_> {
    Records { rest: bytes, lsn, page: None, last: None }
}

/// Iterator over the records of a run or a mini-transaction. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    /// Position of `rest`.
    lsn: Lsn,
    /// Page of the record before; none before the first page record.
    page: Option<PageId>,
    /// What the next offset counts from; none where no offset can follow.
    last: Option<u32>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RedoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, _) = self.rest.split_first()?;
        let lsn = self.lsn;
        let record = self.split_record().and_then(|payload| {
            let more = !self.rest.is_empty();
            self.record(first, payload, more)
        });
        Some(record.map_err(|cause| {
            self.rest = &[];
            RedoError { lsn, cause }
        }))
    }
}

impl<'a> Records<'a> {
    /// Takes one record off; what is left of it after type and length.
    fn split_record(&mut self) -> Result<&'a [u8], Malformed> {
        let frame = Frame::of(self.rest).map_err(|_| Malformed::Integer)?;
        let (record, rest) = self.rest.split_at_checked(frame.len).ok_or(Malformed::Overrun)?;
        self.lsn = self.lsn.checked_add(frame.len as u64).ok_or(Malformed::Overrun)?;
        self.rest = rest;
        record.get(frame.header_len..).ok_or(Malformed::Overrun)
    }

    fn record(
        &mut self,
        first: u8,
        payload: &'a [u8],
        more: bool,
    ) -> Result<Record<'a>, Malformed> {
        let (kind, same_page) = (first & 0x70, first & 0x80 != 0);
        let (page, payload) = match self.page {
            None if same_page => return file_record(first, payload, more).map(Record::File),
            Some(_) if same_page && kind <= INIT_PAGE => return Err(Malformed::SamePage),
            Some(page) if same_page => (page, payload),
            _ => {
                self.last = Some(0);
                page_id(payload)?
            }
        };
        self.page = Some(page);
        let mut cursor = Cursor { bytes: payload, first };
        let (record, last) = match kind {
            FREE_PAGE => (cursor.end(Record::FreePage(page))?, None),
            INIT_PAGE => (cursor.end(Record::InitPage(page))?, Some(AFTER_INIT)),
            EXTENDED if payload == [TRIM_PAGES] && !same_page => (Record::TrimPages(page), None),
            EXTENDED if page.page_no.0 < 3 => return Err(Malformed::Page(page.page_no.0)),
            EXTENDED if self.last.is_none() => return Err(Malformed::SamePage),
            EXTENDED => (Record::Extended(page, cursor.extended()?), Some(AFTER_INIT)),
            RESERVED | OPTION => (Record::Ignored(page), self.last),
            WRITE | MEMSET | MEMMOVE => {
                let (record, end) = cursor.change(page, kind, self.last)?;
                (record, Some(end))
            }
            _ => return Err(Malformed::Type(first)),
        };
        self.last = last;
        Ok(record)
    }
}

/// Whether the page is in a file of the binary log kept in InnoDB (12.3 and later), where only
/// [`Record::Write`] occurs; which of the two newest files tells the lowest bit of its number. No
/// data file has such a tablespace, and no `FILE_` record names it.
pub fn is_binlog(page: PageId) -> bool {
    page.space.0 & !1 == BINLOG_SPACE
}

/// Takes the page id at the start of a page record's payload.
#[inline]
pub(crate) fn page_id(payload: &[u8]) -> Result<(PageId, &[u8]), Malformed> {
    let (space, rest) = varint::take(payload).map_err(|_| Malformed::Integer)?;
    let (page_no, rest) = varint::take(rest).map_err(|_| Malformed::Integer)?;
    Ok((PageId::new(space, page_no), rest))
}

/// Whether this is the payload, after the page id, of an `OPTION` record with a page checksum:
/// written by debug builds, without effect on the page.
#[inline]
pub(crate) fn is_page_checksum(payload: &[u8]) -> bool {
    matches!(payload, [0, _, _, _, _])
}

/// The tablespace of a file record, as the page id with number 0. `f1 00` has no page number.
pub(crate) fn file_space(kind: u8, payload: &[u8]) -> Result<PageId, Malformed> {
    if kind == FILE_CHECKPOINT && payload == [0] {
        return Ok(PageId::new(0, 0));
    }
    page_id(payload).map(|(page, _)| page)
}

fn file_record(first: u8, payload: &[u8], more: bool) -> Result<FileRecord<'_>, Malformed> {
    let kind = first & 0x70;
    if kind == FILE_CHECKPOINT && payload == [0] {
        return Ok(FileRecord::Padding);
    }
    let (page, rest) = page_id(payload)?;
    if page.page_no.0 != 0 {
        return Err(Malformed::File);
    }
    if kind == FILE_CHECKPOINT {
        return checkpoint_record(first, page.space, rest, more);
    }
    if page.space == SpaceId::SYSTEM {
        return Err(Malformed::File);
    }
    let space = page.space;
    match kind {
        FILE_CREATE => Ok(FileRecord::Create { space, name: file_name(rest)? }),
        FILE_DELETE => Ok(FileRecord::Delete { space, name: file_name(rest)? }),
        FILE_MODIFY => Ok(FileRecord::Modify { space, name: file_name(rest)? }),
        FILE_RENAME => {
            let mut names = rest.splitn(2, |&b| b == 0);
            let (Some(from), Some(to)) = (names.next(), names.next()) else {
                return Err(Malformed::File);
            };
            Ok(FileRecord::Rename { space, from: file_name(from)?, to: file_name(to)? })
        }
        _ => Err(Malformed::Type(first)),
    }
}

fn checkpoint_record(
    first: u8,
    space: SpaceId,
    rest: &[u8],
    more: bool,
) -> Result<FileRecord<'_>, Malformed> {
    if space != SpaceId::SYSTEM {
        return Err(Malformed::File);
    }
    match <[u8; 8]>::try_from(rest) {
        Ok(_) if more => Err(Malformed::CheckpointNotLast),
        Ok(lsn) => Ok(FileRecord::Checkpoint(Lsn(u64::from_be_bytes(lsn)))),
        Err(_) if rest.iter().all(|&b| b == 0) => Ok(FileRecord::Padding),
        Err(_) => Err(Malformed::Length(first)),
    }
}

/// Checks a file name as the server does: no NUL, and the suffix of a tablespace.
fn file_name(name: &[u8]) -> Result<&[u8], Malformed> {
    let valid = name.ends_with(b".ibd") && !name.contains(&0);
    if valid { Ok(name) } else { Err(Malformed::File) }
}

/// The payload of a page record after the page id; every `take` is checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    /// Type byte of the record, for messages.
    first: u8,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.bytes.split_first().ok_or(Malformed::Length(self.first))?;
        self.bytes = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let (value, rest) = varint::take(self.bytes).map_err(|_| Malformed::Integer)?;
        self.bytes = rest;
        Ok(value)
    }

    /// An offset or length in a page; 4 and 5 bytes are not accepted by the server.
    fn short_varint(&mut self) -> Result<u32, Malformed> {
        match self.bytes {
            [0xe0..=0xff, ..] => Err(Malformed::Integer),
            _ => self.varint(),
        }
    }

    /// All that is left.
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// `value`, if nothing is left.
    fn end<T>(&self, value: T) -> Result<T, Malformed> {
        if self.bytes.is_empty() { Ok(value) } else { Err(Malformed::Length(self.first)) }
    }

    /// `WRITE`, `MEMSET` or `MEMMOVE`, and the end of the changed range.
    fn change(
        &mut self,
        page: PageId,
        kind: u8,
        last: Option<u32>,
    ) -> Result<(Record<'a>, u32), Malformed> {
        let last = last.ok_or(Malformed::SamePage)?;
        let offset = last.checked_add(self.short_varint()?).ok_or(Malformed::Integer)?;
        if kind == WRITE {
            let data = self.rest();
            let len = u32::try_from(data.len()).map_err(|_| Malformed::Length(self.first))?;
            let first = if is_binlog(page) { 0 } else { OFFSET_MIN };
            let end = range_end(offset, len, first)?;
            return Ok((Record::Write { page, offset, data }, end));
        }
        let len = self.short_varint()?;
        let end = range_end(offset, len, OFFSET_MIN)?;
        if kind == MEMSET {
            let pattern = self.rest();
            let pattern_len = u32::try_from(pattern.len()).unwrap_or(u32::MAX);
            if pattern.is_empty() || pattern_len > len {
                return Err(Malformed::Length(self.first));
            }
            return Ok((Record::Memset { page, offset, len, pattern }, end));
        }
        let distance = self.short_varint()?;
        let back = distance % 2 == 1;
        let distance = (distance >> 1) + 1;
        let source = if back { offset.checked_sub(distance) } else { offset.checked_add(distance) };
        let source = source.ok_or(Malformed::Range { offset, len })?;
        range_end(source, len, OFFSET_MIN)?;
        self.end((Record::Memmove { page, offset, len, source }, end))
    }

    fn extended(&mut self) -> Result<Extended<'a>, Malformed> {
        match self.byte()? {
            0 => self.end(Extended::InitRowFormatRedundant),
            1 => self.end(Extended::InitRowFormatDynamic),
            2 => self.end(Extended::UndoInit),
            3 => Ok(Extended::UndoAppend(self.rest())),
            4 => self.insert(InsertKind::HeapRedundant),
            5 => self.insert(InsertKind::ReuseRedundant),
            6 => self.insert(InsertKind::HeapDynamic),
            7 => self.insert(InsertKind::ReuseDynamic),
            8 => {
                let prev = self.varint()?;
                self.end(Extended::DeleteRowFormatRedundant { prev })
            }
            9 => {
                let (prev, hdr_size, data_size) = (self.varint()?, self.varint()?, self.varint()?);
                self.end(Extended::DeleteRowFormatDynamic { prev, hdr_size, data_size })
            }
            // In a record that does not name its page, or with more bytes.
            TRIM_PAGES => Err(Malformed::Length(self.first)),
            other => Err(Malformed::Subtype(other)),
        }
    }

    fn insert(&mut self, kind: InsertKind) -> Result<Extended<'a>, Malformed> {
        Ok(Extended::Insert {
            kind,
            prev: self.varint()?,
            shift: if kind == InsertKind::ReuseDynamic { self.varint()? } else { 0 },
            enc: self.varint()?,
            hdr_copy: self.varint()?,
            data_copy: self.varint()?,
            literal: self.rest(),
        })
    }
}

/// End of a range of at least one byte that lies in a page and does not begin before `first`.
fn range_end(offset: u32, len: u32, first: u32) -> Result<u32, Malformed> {
    let end = offset.checked_add(len).filter(|&end| end <= PAGE_LEN_MAX);
    match end {
        Some(end) if offset >= first && len > 0 => Ok(end),
        _ => Err(Malformed::Range { offset, len }),
    }
}

#[cfg(test)]
mod tests;
