//! Redo log records.
//!
//! A record is a type byte, an optional length, and a payload; see `mtr0types.h`. This module
//! turns the records of one mini-transaction into [`Record`]s with absolute page ids and offsets.

use innodb::{Lsn, PageId, SpaceId};

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
        /// Bytes from the start of the page, at least 8.
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
