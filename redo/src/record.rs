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
mod tests {
    use super::*;

    const LSN: Lsn = Lsn(7_000);

    fn decode(bytes: &[u8]) -> Result<Vec<Record<'_>>, RedoError> {
        decode_run(bytes, LSN).collect()
    }

    /// Why the last of these records is refused; `at`: where it begins.
    fn refusal(bytes: &[u8], at: u64) -> Malformed {
        let error = decode(bytes).unwrap_err();
        assert_eq!(error.lsn, Lsn(LSN.0 + at), "{bytes:02x?}");
        error.cause
    }

    fn page() -> PageId {
        PageId::new(5, 3)
    }

    #[test]
    fn page_records() {
        let long_id = [0x19, 0xf0, 0xef, 0xdf, 0xbf, 0x71, 0xe0, 0, 0, 1];
        let cases: [(&[u8], Record<'_>); 9] = [
            (&[0x02, 5, 3], Record::FreePage(page())),
            (&[0x12, 5, 3], Record::InitPage(page())),
            (&long_id, Record::InitPage(PageId::new(0xffff_fff1, 2_113_665))),
            (&[0x63, 5, 3, 10], Record::Ignored(page())),
            (&[0x23, 5, 3, 10], Record::TrimPages(page())),
            (&[0x34, 5, 3, 8, 9], Record::Write { page: page(), offset: 8, data: &[9] }),
            (
                &[0x46, 5, 3, 0x80, 0, 2, 0xee],
                Record::Memset { page: page(), offset: 128, len: 2, pattern: &[0xee] },
            ),
            (
                &[0x55, 5, 3, 100, 4, 8],
                Record::Memmove { page: page(), offset: 100, len: 4, source: 105 },
            ),
            (
                &[0x55, 5, 3, 100, 4, 9],
                Record::Memmove { page: page(), offset: 100, len: 4, source: 95 },
            ),
        ];
        for (bytes, record) in cases {
            assert_eq!(decode(bytes), Ok(vec![record]), "{bytes:02x?}");
        }
    }

    #[test]
    fn offsets_count_from_the_change_before() {
        let bytes = [
            0x12, 5, 3, // INIT_PAGE: 24
            0xb3, 2, 1, 2, // WRITE at 26, 2 bytes
            0xc3, 0, 9, 0, // MEMSET at 28, 9 bytes
            0xd3, 3, 6, 1, // MEMMOVE to 40 from 39, 6 bytes
            0xe1, 9, // RESERVED
            0xf1, 9, // OPTION
            0xb2, 4, 7, // WRITE at 50
            0xa1, 1, // INIT_ROW_FORMAT_DYNAMIC: 24 again
            0xb2, 0, 7, // WRITE at 24
            0x35, 6, 4, 8, 1, 2, // WRITE to 6:4 at 8
            0xb2, 0, 3, // WRITE to 6:4 at 10
        ];
        let other = PageId::new(6, 4);
        let expected = vec![
            Record::InitPage(page()),
            Record::Write { page: page(), offset: 26, data: &[1, 2] },
            Record::Memset { page: page(), offset: 28, len: 9, pattern: &[0] },
            Record::Memmove { page: page(), offset: 40, len: 6, source: 39 },
            Record::Ignored(page()),
            Record::Ignored(page()),
            Record::Write { page: page(), offset: 50, data: &[7] },
            Record::Extended(page(), Extended::InitRowFormatDynamic),
            Record::Write { page: page(), offset: 24, data: &[7] },
            Record::Write { page: other, offset: 8, data: &[1, 2] },
            Record::Write { page: other, offset: 10, data: &[3] },
        ];
        assert_eq!(decode(&bytes), Ok(expected));
    }

    #[test]
    fn index_and_undo_page_operations() {
        let insert = |kind, shift| Extended::Insert {
            kind,
            prev: 130,
            shift,
            enc: 16,
            hdr_copy: 1,
            data_copy: 2,
            literal: &[0xaa, 0xbb],
        };
        let cases: [(&[u8], Extended<'_>); 10] = [
            (&[0], Extended::InitRowFormatRedundant),
            (&[1], Extended::InitRowFormatDynamic),
            (&[2], Extended::UndoInit),
            (&[3, 8, 9], Extended::UndoAppend(&[8, 9])),
            (&[4, 0x80, 2, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::HeapRedundant, 0)),
            (&[5, 0x80, 2, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::ReuseRedundant, 0)),
            (&[6, 0x80, 2, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::HeapDynamic, 0)),
            (&[7, 0x80, 2, 11, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::ReuseDynamic, 11)),
            (&[8, 100], Extended::DeleteRowFormatRedundant { prev: 100 }),
            (
                &[9, 100, 4, 50],
                Extended::DeleteRowFormatDynamic { prev: 100, hdr_size: 4, data_size: 50 },
            ),
        ];
        for (payload, extended) in cases {
            let len = u8::try_from(2 + payload.len()).unwrap();
            let bytes = [&[0x20 | len, 5, 3], payload].concat();
            assert_eq!(decode(&bytes), Ok(vec![Record::Extended(page(), extended)]));
            // Not on the first three pages.
            let bytes = [&[0x20 | len, 5, 2], payload].concat();
            assert_eq!(refusal(&bytes, 0), Malformed::Page(2));
        }
    }

    #[test]
    fn file_records() {
        let (a, b) = (&b"./d/a.ibd"[..], &b"./d/b.ibd"[..]);
        let space = SpaceId(9);
        let record = |kind: u8, payload: &[u8]| {
            let len = u8::try_from(payload.len() + 1 - 15).unwrap();
            [&[kind, len][..], payload].concat()
        };
        // 15 to 142 bytes after the type byte take a length of one byte.
        let name = b"./database/table.ibd";
        let cases = [
            (0x80, FileRecord::Create { space, name }),
            (0x90, FileRecord::Delete { space, name }),
            (0xb0, FileRecord::Modify { space, name }),
        ];
        for (kind, expected) in cases {
            let bytes = record(kind, &[&[9, 0][..], name].concat());
            assert_eq!(decode(&bytes), Ok(vec![Record::File(expected)]));
        }
        let bytes = record(0xa0, &[&[9, 0], a, &[0], b].concat());
        let rename = FileRecord::Rename { space, from: a, to: b };
        assert_eq!(decode(&bytes), Ok(vec![Record::File(rename)]));
        // One after the other; the page record behind them ends the file records.
        let bytes =
            [&record(0xb0, &[&[9, 0][..], name].concat())[..], &bytes, &[0x12, 9, 0]].concat();
        let expected = vec![
            Record::File(FileRecord::Modify { space, name }),
            Record::File(rename),
            Record::InitPage(PageId::new(9, 0)),
        ];
        assert_eq!(decode(&bytes), Ok(expected));
        let short = [0x8b, 9, 0, b'.', b'/', b'd', b'/', b'a', b'.', b'i', b'b', b'd'];
        assert_eq!(decode(&short), Ok(vec![Record::File(FileRecord::Create { space, name: a })]));
    }

    #[test]
    fn checkpoints_and_padding() {
        let checkpoint = [0xfa, 0, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0x90];
        let expected = Record::File(FileRecord::Checkpoint(Lsn(44_944)));
        assert_eq!(decode(&checkpoint), Ok(vec![expected]));
        let padding = Record::File(FileRecord::Padding);
        assert_eq!(decode(&[0xf1, 0]), Ok(vec![padding]));
        assert_eq!(decode(&[0xf2, 0, 0]), Ok(vec![padding]));
        assert_eq!(decode(&[0xf5, 0, 0, 0, 0, 0, 0xf1, 0]), Ok(vec![padding, padding]));
        let followed = [&checkpoint[..], &[0xf1, 0]].concat();
        assert_eq!(refusal(&followed, 0), Malformed::CheckpointNotLast);
        assert_eq!(refusal(&[0xf3, 0, 0, 1], 0), Malformed::Length(0xf3));
        assert_eq!(refusal(&[0xfa, 1, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0x90], 0), Malformed::File);
        assert_eq!(refusal(&[0xf1, 1], 0), Malformed::Integer);
    }

    #[test]
    fn impossible_file_records() {
        let name = *b"./d/a.ibd";
        let bytes = |kind: u8, space: u8, page_no: u8, name: &[u8]| {
            let len = u8::try_from(name.len() + 2).unwrap();
            [&[kind | len, space, page_no][..], name].concat()
        };
        assert_eq!(refusal(&bytes(0x80, 0, 0, &name), 0), Malformed::File, "system tablespace");
        assert_eq!(refusal(&bytes(0x80, 9, 1, &name), 0), Malformed::File, "page number");
        assert_eq!(refusal(&bytes(0x80, 9, 0, b"./d/a.frm"), 0), Malformed::File, "suffix");
        assert_eq!(refusal(&bytes(0x80, 9, 0, b".\0d/a.ibd"), 0), Malformed::File, "NUL");
        assert_eq!(refusal(&bytes(0xb0, 9, 0, b""), 0), Malformed::File, "no name");
        assert_eq!(refusal(&bytes(0xa0, 9, 0, &name), 0), Malformed::File, "one name");
        assert_eq!(refusal(&bytes(0xa0, 9, 0, b"a.ibd\0b.ibd\0"), 0), Malformed::File, "three");
        for kind in [0xc0, 0xd0, 0xe0] {
            let bytes = bytes(kind, 9, 0, &name);
            assert_eq!(refusal(&bytes, 0), Malformed::Type(bytes[0]));
        }
    }

    #[test]
    fn wrong_lengths() {
        let cases: [(&[u8], Malformed); 12] = [
            (&[0x03, 5, 3, 0], Malformed::Length(0x03)),
            (&[0x13, 5, 3, 0], Malformed::Length(0x13)),
            (&[0x22, 5, 3], Malformed::Length(0x22)),
            (&[0x24, 5, 3, 0, 0], Malformed::Length(0x24)),
            (&[0x24, 5, 3, 10, 0], Malformed::Length(0x24)),
            (&[0x25, 5, 3, 8, 100, 0], Malformed::Length(0x25)),
            (&[0x25, 5, 3, 9, 100, 4], Malformed::Integer),
            (&[0x23, 5, 3, 11], Malformed::Subtype(11)),
            (&[0x32, 5, 3], Malformed::Integer),
            (&[0x44, 5, 3, 46, 2], Malformed::Length(0x44)),
            (&[0x46, 5, 3, 46, 1, 7, 7], Malformed::Length(0x46)),
            (&[0x56, 5, 3, 46, 2, 1, 0], Malformed::Length(0x56)),
        ];
        for (bytes, cause) in cases {
            assert_eq!(refusal(bytes, 0), cause, "{bytes:02x?}");
        }
        // A record longer than what is left; a run that begins in the middle of one.
        assert_eq!(refusal(&[0x12, 5, 3, 0x35, 5, 3, 46], 3), Malformed::Overrun);
        assert_eq!(refusal(&[0x30], 0), Malformed::Integer);
    }

    #[test]
    fn ranges_outside_of_any_page() {
        let range = |offset, len| Malformed::Range { offset, len };
        let cases: [(&[u8], Malformed); 9] = [
            (&[0x34, 5, 3, 7, 0], range(7, 1)),
            (&[0x33, 5, 3, 8], range(8, 0)),
            // 65536, and 65535 with two bytes.
            (&[0x36, 5, 3, 0xc0, 0xbf, 0x80, 1], range(65_536, 1)),
            (&[0x37, 5, 3, 0xc0, 0xbf, 0x7f, 1, 2], range(65_535, 2)),
            (&[0x45, 5, 3, 46, 0, 1], range(46, 0)),
            (&[0x48, 5, 3, 0xc0, 0xbf, 0x7f, 2, 0, 0], range(65_535, 2)),
            // From 7; from behind the page; from before it.
            (&[0x55, 5, 3, 9, 2, 3], range(7, 2)),
            (&[0x57, 5, 3, 0xc0, 0xbf, 0x7e, 2, 0], range(65_535, 2)),
            (&[0x55, 5, 3, 9, 2, 21], range(9, 2)),
        ];
        for (bytes, cause) in cases {
            assert_eq!(refusal(bytes, 0), cause, "{bytes:02x?}");
        }
        let last = Record::Write { page: page(), offset: 65_535, data: &[1] };
        assert_eq!(decode(&[0x36, 5, 3, 0xc0, 0xbf, 0x7f, 1]), Ok(vec![last]));
        // Integers of four bytes are not offsets, however small.
        assert_eq!(refusal(&[0x37, 5, 3, 0xe0, 0, 0, 0, 1], 0), Malformed::Integer);
    }

    #[test]
    fn pages_of_the_binary_log_begin_with_their_first_byte() {
        // WRITE to 0xfffffff1:2 at 0; same page at 7.
        let id = [0xf0, 0xef, 0xdf, 0xbf, 0x71, 2];
        let bytes = [&[0x39][..], &id, &[0, 0xaa, 0xbb], &[0xb2, 5, 0xcc]].concat();
        let page = PageId::new(0xffff_fff1, 2);
        assert!(is_binlog(page) && page.space.is_reserved());
        assert_eq!(
            decode(&bytes),
            Ok(vec![
                Record::Write { page, offset: 0, data: &[0xaa, 0xbb] },
                Record::Write { page, offset: 7, data: &[0xcc] },
            ])
        );
        // Nowhere else.
        let other = [0x39, 0xf0, 0xef, 0xdf, 0xbf, 0x72, 2, 0, 0xaa, 0xbb];
        assert_eq!(refusal(&other, 0), Malformed::Range { offset: 0, len: 2 });
        assert!(!is_binlog(PageId::new(0xffff_fff2, 0)));
        assert!(!is_binlog(PageId::new(0xffff_ffef, 0)));
    }

    #[test]
    fn same_page_needs_something_to_continue() {
        let cases: [(&[u8], u64); 6] = [
            (&[0x02, 5, 3, 0xb2, 46, 7], 3),
            (&[0x02, 5, 3, 0xa1, 1], 3),
            (&[0x23, 5, 3, 10, 0xc3, 46, 7, 0], 4),
            // The ignored record changes nothing.
            (&[0x02, 5, 3, 0xe1, 1, 0xb2, 46, 7], 5),
            (&[0x12, 5, 3, 0x91, 1], 3),
            (&[0x12, 5, 3, 0x81, 1], 3),
        ];
        for (bytes, at) in cases {
            assert_eq!(refusal(bytes, at), Malformed::SamePage, "{bytes:02x?}");
        }
        // TRIM_PAGES names its page.
        assert_eq!(refusal(&[0x12, 5, 3, 0xa1, 10], 3), Malformed::Length(0xa1));
    }

    #[test]
    fn an_error_ends_the_iteration() {
        let mut records = decode_run(&[0x12, 5, 3, 0x81, 1, 0x12, 5, 4], LSN);
        assert!(records.next().is_some_and(|record| record.is_ok()));
        assert!(records.next().is_some_and(|record| record.is_err()));
        assert_eq!(records.next(), None);
        assert_eq!(decode(&[]), Ok(vec![]));
    }
}
