//! Pages of indexes: the list of their records, in both forms.
//!
//! ```text
//! page     24  type (17855; 17854: of an R-tree; 18: root of a table that was altered instantly)
//!          42  u16: bit 15: the newer form    56  u64 (root) last AUTO_INCREMENT value
//!          64  u16 level; leaves: 0            66  u64 index id
//! older    infimum at 101, supremum at 116
//! record   -6  info bits    -4  u16: bit 0: offsets of 1 byte, bits 1 to 10: number of fields
//!          -2  u16 place of the next record; before -6, backwards: where each field ends
//! newer    infimum at 99, supremum at 112
//! record   -5  info bits    -3  low 3 bits: kind    -2  i16 from here to the next record
//! ```
//!
//! Source: `page0page.h`, `rem0rec.h`; checked on files of 10.5, 10.11 and 11.8.

use crate::bytes::{array_at, be16, be32};
use crate::lsn::{PageId, PageNo};
use crate::page::PageType;

/// Flag of a record that is deleted, but still there.
const DELETED: u8 = 0x20;
/// Flag of the first record of the first page of a level.
const FIRST: u8 = 0x10;
/// Longest path of pages without one that is repeated.
const LEVELS_MAX: u16 = 64;

/// An index page in its plain form.
#[derive(Debug, Clone, Copy)]
pub struct IndexPage<'a> {
    bytes: &'a [u8],
    is_newer: bool,
}

/// A record of an index page.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    page: IndexPage<'a>,
    origin: usize,
}

/// A tree of pages that is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The page has another type, or another level than its place in the tree demands.
    #[error("page {page} is not the page of an index that belongs there")]
    Page {
        /// Which one.
        page: PageId,
    },
    /// The list of pages comes back to one of its pages.
    #[error("the pages of the index that begins with page {root} run in circles")]
    Circle {
        /// The root.
        root: PageId,
    },
}

impl<'a> IndexPage<'a> {
    /// `None` for pages of another type.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let page_type = PageType(be16(bytes, 24)?);
        let is_index = [PageType::INDEX, PageType::RTREE, PageType::INSTANT].contains(&page_type);
        let is_newer = be16(bytes, 42)? & 0x8000 != 0;
        is_index.then_some(Self { bytes, is_newer })
    }

    /// Whether the table was altered instantly; told by the root of its clustered index.
    pub fn is_instant(&self) -> bool {
        be16(self.bytes, 24).map(PageType) == Some(PageType::INSTANT)
    }

    /// Whether the records are in the newer form, that of all row formats but REDUNDANT.
    pub fn is_newer(&self) -> bool {
        self.is_newer
    }

    /// Distance to the leaves.
    pub fn level(&self) -> u16 {
        be16(self.bytes, 64).unwrap_or(u16::MAX)
    }

    /// The index.
    pub fn index_id(&self) -> u64 {
        array_at(self.bytes, 66).map_or(0, u64::from_be_bytes)
    }

    /// The root of a clustered index: the last value of `AUTO_INCREMENT`; 0: none.
    pub fn auto_increment(&self) -> u64 {
        array_at(self.bytes, 56).map_or(0, u64::from_be_bytes)
    }

    /// The page before this one on its level.
    pub fn prev(&self) -> Option<PageNo> {
        be32(self.bytes, 8).filter(|&page_no| page_no != u32::MAX).map(PageNo)
    }

    /// The page behind this one on its level.
    pub fn next(&self) -> Option<PageNo> {
        be32(self.bytes, 12).filter(|&page_no| page_no != u32::MAX).map(PageNo)
    }

    /// The records in their order. A list that is damaged ends early.
    pub fn records(self) -> impl Iterator<Item = Record<'a>> {
        let (infimum, supremum) = if self.is_newer { (99, 112) } else { (101, 116) };
        let mut at = self.behind(infimum);
        // A page has no more records than this; a list that runs in circles ends too.
        (0..self.bytes.len() / 5).map_while(move |_| {
            let origin = at.filter(|&origin| origin != supremum && origin != 0)?;
            at = self.behind(origin);
            Some(Record { page: self, origin })
        })
    }

    fn behind(self, origin: usize) -> Option<usize> {
        let next = usize::from(be16(self.bytes, origin.checked_sub(2)?)?);
        if self.is_newer {
            Some((origin + next) & 0xffff & (self.bytes.len() - 1))
        } else {
            Some(next)
        }
    }

    /// Whether records are marked as deleted, and not yet removed.
    pub fn has_deleted_records(self) -> bool {
        self.records().any(|record| record.is_deleted() && !record.is_first())
    }
}

impl<'a> Record<'a> {
    fn info(&self) -> u8 {
        let before = if self.page.is_newer { 5 } else { 6 };
        let at = self.origin.checked_sub(before);
        at.and_then(|at| self.page.bytes.get(at)).map_or(0, |byte| byte & 0xf0)
    }

    /// Whether it is marked as deleted.
    pub fn is_deleted(&self) -> bool {
        self.info() & DELETED != 0
    }

    /// Whether it is marked as the first of its level. On a leaf, that is no row, but tells of
    /// columns that were added or dropped instantly, and [`Self::is_deleted`] then means that
    /// their description is stored elsewhere.
    pub fn is_first(&self) -> bool {
        self.info() & FIRST != 0
    }

    /// The kind of a record in the newer form (`REC_STATUS`).
    pub fn kind(&self) -> u8 {
        let at = self.origin.checked_sub(3);
        at.and_then(|at| self.page.bytes.get(at)).map_or(0, |byte| byte & 7)
    }

    /// The page from where its data begin.
    pub fn data(&self) -> &'a [u8] {
        self.page.bytes.get(self.origin..).unwrap_or_default()
    }

    /// A field of a record in the older form; `None` if it is NULL, or not there.
    pub fn field(&self, number: usize) -> Option<&'a [u8]> {
        let start = if number == 0 { 0 } else { self.field_end(number - 1)?.0 };
        let (end, is_null) = self.field_end(number)?;
        if is_null {
            return None;
        }
        self.page.bytes.get(self.origin + start..self.origin + end)
    }

    /// Where a field of a record in the older form ends, from its origin, and whether it is NULL.
    pub fn field_end(&self, number: usize) -> Option<(usize, bool)> {
        let (page, origin) = (self.page.bytes, self.origin);
        let bits = be16(page, origin.checked_sub(4)?)?;
        if number >= usize::from(bits >> 1 & 0x3ff) {
            return None;
        }
        if bits & 1 != 0 {
            let byte = page.get(origin.checked_sub(7 + number)?)?;
            Some((usize::from(byte & 0x7f), byte & 0x80 != 0))
        } else {
            let word = be16(page, origin.checked_sub(8 + 2 * number)?)?;
            Some((usize::from(word & 0x3fff), word & 0x8000 != 0))
        }
    }

    fn last_field(&self) -> Option<&'a [u8]> {
        let bits = be16(self.page.bytes, self.origin.checked_sub(4)?)?;
        self.field(usize::from(bits >> 1 & 0x3ff).checked_sub(1)?)
    }
}

/// Visits the leaves of a tree whose records are in the older form, in their order. `read` gives a
/// page in its plain form.
///
/// # Errors
///
/// Those of `read` and `visit`; pages that are no tree.
pub fn visit_leaves<E: From<TreeError>>(
    root: PageId,
    read: &mut dyn FnMut(PageId) -> Result<Vec<u8>, E>,
    visit: &mut dyn FnMut(IndexPage<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut id = root;
    let mut bytes = read(id)?;
    let mut expected = None;
    loop {
        let wrong = || TreeError::Page { page: id };
        let page = IndexPage::new(&bytes).filter(|page| !page.is_newer).ok_or_else(wrong)?;
        let level = page.level();
        if level > LEVELS_MAX || expected.is_some_and(|expected| level != expected) {
            return Err(wrong().into());
        }
        let Some(below) = level.checked_sub(1) else { break };
        let first = page.records().next();
        let child = first.and_then(|record| be32(record.last_field()?, 0)).ok_or_else(wrong)?;
        id = PageId { space: root.space, page_no: PageNo(child) };
        expected = Some(below);
        bytes = read(id)?;
    }
    let mut seen = std::collections::HashSet::new();
    loop {
        if !seen.insert(id) {
            return Err(TreeError::Circle { root }.into());
        }
        let page = IndexPage::new(&bytes).filter(|page| page.level() == 0);
        let page = page.ok_or(TreeError::Page { page: id })?;
        visit(page)?;
        let Some(next) = page.next() else { return Ok(()) };
        id.page_no = next;
        bytes = read(id)?;
    }
}
