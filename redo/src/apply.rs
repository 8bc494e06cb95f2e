//! Applies records to the image of a page.
//!
//! The image is that of the page as InnoDB changes it: decrypted and decompressed, except that of
//! `ROW_FORMAT=COMPRESSED` the compressed image is changed, which only plain byte operations do.
//! Every offset is checked against the image: a record that does not fit is an error, and what it
//! left in the image must be thrown away. Which records to apply (page LSN, initialised and freed
//! pages) is the caller's decision. Sources: `log_phys_t::apply()` in `log0recv.cc`, and the
//! functions `page_apply_*` in `page0cur.cc`; checked against prepared backups of 10.5 to 11.8.

mod index;

use innodb::PageId;

use crate::record::{Extended, InsertKind, Record};
use index::{IndexPage, Insert};

/// `FIL_PAGE_TYPE`.
const PAGE_TYPE: usize = 24;
/// `FIL_PAGE_UNDO_LOG`.
const TYPE_UNDO_LOG: usize = 2;
/// Bytes behind the usable part of an uncompressed page (`FIL_PAGE_DATA_END`).
const TRAILER_LEN: usize = 8;
/// `TRX_UNDO_PAGE_HDR + TRX_UNDO_PAGE_FREE`: where the next undo record goes.
const UNDO_FREE: usize = 42;
/// `TRX_UNDO_PAGE_HDR + TRX_UNDO_PAGE_HDR_SIZE`: where the first undo record can be.
const UNDO_START: usize = 56;
/// Bytes 38 to 55 of an empty undo page: type 0, start and end of records 56, empty list node.
const EMPTY_UNDO_HEADER: [u8; 18] =
    [0, 0, 0, 0x38, 0, 0x38, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
/// `TRX_UNDO_SEG_HDR + TRX_UNDO_SEG_HDR_SIZE`: bytes from here on are cleared.
const UNDO_CLEARED: usize = 86;

/// What an image of a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The whole logical page.
    Uncompressed,
    /// The image of a `ROW_FORMAT=COMPRESSED` page as in the file.
    Compressed,
}

/// Why a record cannot be applied. Offsets and lengths in bytes, from the start of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Bytes that the record or the page refers to are not in the page.
    #[error("bytes {offset} to {offset}+{len} are not in the page")]
    Range {
        /// Start; a large number where an offset would be negative.
        offset: usize,
        /// Length.
        len: usize,
    },
    /// An index or undo operation on one of the first three pages, or on a compressed image.
    #[error("an index or undo operation is not possible on page {0}")]
    NotIndexOrUndo(PageId),
    /// The record is for the other record format than the page's.
    #[error("the record format of the page is a different one")]
    RecordFormat,
    /// Following the list from this record, no record belongs to a directory slot.
    #[error("no directory slot covers the record at {0}")]
    NoOwner(usize),
    /// No directory slot points to this record.
    #[error("no directory slot for the record at {0}")]
    NoSlot(usize),
    /// The space for an inserted record is not in the page's heap.
    #[error("the heap has no room for {len} bytes at {start}")]
    Heap {
        /// Where the record would start.
        start: usize,
        /// Its length, header included.
        len: usize,
    },
    /// The free list is empty, but the record wants to reuse its head.
    #[error("the free list is empty")]
    NothingFree,
    /// The lengths in an insert contradict each other.
    #[error("the parts of an inserted record do not add up")]
    InsertLengths,
    /// A counter of the page header would become negative.
    #[error("the counter at {0} would become negative")]
    Counter(usize),
    /// An undo record does not fit.
    #[error("no room for an undo record of {len} bytes at {free}")]
    UndoFull {
        /// Where it would start.
        free: usize,
        /// Its length without the two offsets around it.
        len: usize,
    },
    /// The record is for no page (`FILE_` records), or for a whole tablespace (`TRIM_PAGES`).
    #[error("the record is not for a page")]
    NotForPage,
}

/// Applies `record` to `page`, the image of the page that the record names.
///
/// [`Record::FreePage`] and [`Record::Ignored`] change nothing. The LSN and the checksum of the
/// page are left to the caller.
///
/// # Errors
///
/// All of [`ApplyError`]; the image is then useless.
pub fn apply(record: &Record<'_>, page: &mut [u8], frame: Frame) -> Result<(), ApplyError> {
    match *record {
        Record::Write { offset, data, .. } => {
            bytes_mut(page, to_usize(offset), data.len())?.copy_from_slice(data);
            Ok(())
        }
        Record::Memset { offset, len, pattern, .. } => {
            fill(bytes_mut(page, to_usize(offset), to_usize(len))?, pattern);
            Ok(())
        }
        Record::Memmove { offset, len, source, .. } => {
            copy(page, to_usize(source), to_usize(offset), to_usize(len))
        }
        Record::InitPage(id) => initialise(page, id),
        Record::FreePage(_) | Record::Ignored(_) => Ok(()),
        Record::Extended(id, operation) => {
            if frame == Frame::Compressed || id.page_no.0 < 3 {
                return Err(ApplyError::NotIndexOrUndo(id));
            }
            apply_extended(operation, page)
        }
        Record::TrimPages(_) | Record::File(_) => Err(ApplyError::NotForPage),
    }
}

fn apply_extended(operation: Extended<'_>, page: &mut [u8]) -> Result<(), ApplyError> {
    match operation {
        Extended::InitRowFormatRedundant => index::create_redundant(page),
        Extended::InitRowFormatDynamic => index::create_dynamic(page),
        Extended::UndoInit => undo_init(page),
        Extended::UndoAppend(data) => undo_append(page, data),
        Extended::Insert { kind, prev, shift, enc, hdr_copy, data_copy, literal } => {
            let insert = Insert {
                prev: to_usize(prev),
                shift: to_usize(shift),
                enc: to_usize(enc),
                header_copy: to_usize(hdr_copy),
                data_copy: to_usize(data_copy),
                literal,
            };
            match kind {
                InsertKind::HeapRedundant => IndexPage::redundant(page)?.insert(&insert, false),
                InsertKind::ReuseRedundant => IndexPage::redundant(page)?.insert(&insert, true),
                InsertKind::HeapDynamic => IndexPage::dynamic(page)?.insert(&insert, false),
                InsertKind::ReuseDynamic => IndexPage::dynamic(page)?.insert(&insert, true),
            }
        }
        Extended::DeleteRowFormatRedundant { prev } => {
            IndexPage::redundant(page)?.delete(to_usize(prev), None)
        }
        Extended::DeleteRowFormatDynamic { prev, hdr_size, data_size } => {
            let sizes = Some((to_usize(hdr_size), to_usize(data_size)));
            IndexPage::dynamic(page)?.delete(to_usize(prev), sizes)
        }
    }
}

fn initialise(page: &mut [u8], id: PageId) -> Result<(), ApplyError> {
    page.fill(0);
    bytes_mut(page, 4, 4)?.copy_from_slice(&id.page_no.0.to_be_bytes());
    bytes_mut(page, 8, 8)?.fill(0xff);
    bytes_mut(page, 34, 4)?.copy_from_slice(&id.space.0.to_be_bytes());
    Ok(())
}

fn undo_init(page: &mut [u8]) -> Result<(), ApplyError> {
    set_u16(page, PAGE_TYPE, TYPE_UNDO_LOG)?;
    bytes_mut(page, 38, EMPTY_UNDO_HEADER.len())?.copy_from_slice(&EMPTY_UNDO_HEADER);
    let cleared = page.len().saturating_sub(UNDO_CLEARED + TRAILER_LEN);
    bytes_mut(page, UNDO_CLEARED, cleared)?.fill(0);
    Ok(())
}

/// Stores the record between the offset of its end and that of its start.
fn undo_append(page: &mut [u8], data: &[u8]) -> Result<(), ApplyError> {
    let free = u16_at(page, UNDO_FREE)?;
    let full = ApplyError::UndoFull { free, len: data.len() };
    let end = free + 4 + data.len();
    if free < UNDO_START || end + 2 + TRAILER_LEN >= page.len() {
        return Err(full);
    }
    set_u16(page, UNDO_FREE, end)?;
    set_u16(page, free, end)?;
    bytes_mut(page, free + 2, data.len())?.copy_from_slice(data);
    set_u16(page, end - 2, free)
}

/// Repeats `pattern` over `to`; the last repetition is cut.
fn fill(to: &mut [u8], pattern: &[u8]) {
    match *pattern {
        [] => {}
        [byte] => to.fill(byte),
        _ => {
            for chunk in to.chunks_mut(pattern.len()) {
                for (to, from) in chunk.iter_mut().zip(pattern) {
                    *to = *from;
                }
            }
        }
    }
}

/// Moves `len` bytes; the ranges may overlap.
fn copy(page: &mut [u8], from: usize, to: usize, len: usize) -> Result<(), ApplyError> {
    bytes(page, from, len)?;
    bytes(page, to, len)?;
    page.copy_within(from..from + len, to);
    Ok(())
}

fn bytes(page: &[u8], offset: usize, len: usize) -> Result<&[u8], ApplyError> {
    page.get(offset..).and_then(|tail| tail.get(..len)).ok_or(ApplyError::Range { offset, len })
}

fn bytes_mut(page: &mut [u8], offset: usize, len: usize) -> Result<&mut [u8], ApplyError> {
    page.get_mut(offset..)
        .and_then(|tail| tail.get_mut(..len))
        .ok_or(ApplyError::Range { offset, len })
}

fn byte_mut(page: &mut [u8], offset: usize) -> Result<&mut u8, ApplyError> {
    page.get_mut(offset).ok_or(ApplyError::Range { offset, len: 1 })
}

fn byte_at(page: &[u8], offset: usize) -> Result<usize, ApplyError> {
    page.get(offset).copied().map(usize::from).ok_or(ApplyError::Range { offset, len: 1 })
}

fn u16_at(page: &[u8], offset: usize) -> Result<usize, ApplyError> {
    match page.get(offset..).and_then(<[u8]>::first_chunk) {
        Some(word) => Ok(u16::from_be_bytes(*word).into()),
        None => Err(ApplyError::Range { offset, len: 2 }),
    }
}

/// Stores the low 16 bits of `value`.
fn set_u16(page: &mut [u8], offset: usize, value: usize) -> Result<(), ApplyError> {
    let [.., high, low] = value.to_be_bytes();
    match page.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
        Some(word) => {
            *word = [high, low];
            Ok(())
        }
        None => Err(ApplyError::Range { offset, len: 2 }),
    }
}

/// On a machine where a `usize` is too small, the bounds check that follows fails.
fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
