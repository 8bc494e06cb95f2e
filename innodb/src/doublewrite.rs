//! The doublewrite area: two runs of pages in the system tablespace that hold copies of pages of
//! any tablespace. They are never judged, and a backup copies them as they are.
//!
//! ```text
//! `TRX_SYS` page, from 200 bytes before its end:
//! 0        10      14        18        22 ......... 34                          38
//! | segment | magic | block 1 | block 2 | the same 3 | slots have space ids: magic |
//! ```
//!
//! Source: `TRX_SYS_DOUBLEWRITE*` in `trx0sys.h`; checked on files of 10.11.

use crate::flags::PageSize;
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Number of the page of the system tablespace that says where the area is.
pub const TRX_SYS_PAGE_NO: u32 = 5;

const MAGIC: u32 = 536_853_855;
/// Distance of the record from the end of the page.
const FROM_END: usize = 200;

#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    segment: [u8; 10],
    magic: U32,
    block1: U32,
    block2: U32,
    magic_again: U32,
    block1_again: U32,
    block2_again: U32,
    space_ids_stored: U32,
}
const _: () = assert!(size_of::<Record>() == 38);

/// Where the doublewrite area is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doublewrite {
    /// First pages of both blocks.
    blocks: [u32; 2],
    /// Pages of each block: an extent, or 0 where there is no area.
    len: u32,
}

impl Doublewrite {
    /// No doublewrite area: the server was never started with `innodb_doublewrite`.
    pub const ABSENT: Self = Self { blocks: [0; 2], len: 0 };

    /// Where the server creates the area in a new instance: the second and third extent.
    pub fn usual(page_size: PageSize) -> Self {
        let extent = page_size.extent_pages();
        Self { blocks: [extent, 2 * extent], len: extent }
    }

    /// Reads where the area is from the `TRX_SYS` page, which the caller has verified.
    ///
    /// # Errors
    ///
    /// [`DoublewriteError`] if the page is too short or its two copies of the record disagree.
    pub fn parse(trx_sys: &[u8], page_size: PageSize) -> Result<Self, DoublewriteError> {
        let start = trx_sys.len().checked_sub(FROM_END).ok_or(DoublewriteError::TooShort)?;
        let record = trx_sys.get(start..).ok_or(DoublewriteError::TooShort)?;
        let (record, _) =
            Record::ref_from_prefix(record).map_err(|_| DoublewriteError::TooShort)?;
        let first = [record.magic, record.block1, record.block2].map(U32::get);
        let second = [record.magic_again, record.block1_again, record.block2_again].map(U32::get);
        match (first, second) {
            ([MAGIC, block1, block2], second) if second == first => {
                Ok(Self { blocks: [block1, block2], len: page_size.extent_pages() })
            }
            ([MAGIC, ..], _) | (_, [MAGIC, ..]) => Err(DoublewriteError::Copies { first, second }),
            _ => Ok(Self::ABSENT),
        }
    }

    /// Whether page `page_no` of the system tablespace is part of the area.
    pub fn contains(&self, page_no: u32) -> bool {
        self.blocks.iter().any(|&block| page_no.wrapping_sub(block) < self.len)
    }
}

/// A `TRX_SYS` page that does not say where the doublewrite area is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DoublewriteError {
    /// Not a whole page.
    #[error("the `TRX_SYS` page is too short")]
    TooShort,
    /// Magic number, first and second block, twice.
    #[error("the `TRX_SYS` page has two places of the doublewrite area: {first:?} and {second:?}")]
    Copies {
        /// First copy.
        first: [u32; 3],
        /// Second copy.
        second: [u32; 3],
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata;

    #[test]
    fn area_of_a_real_instance() {
        let page = testdata::page("full_crc32/ibdata1.5");
        let area = Doublewrite::parse(&page, PageSize::DEFAULT).unwrap();
        assert_eq!(area, Doublewrite::usual(PageSize::DEFAULT));
        assert_eq!(
            [0, 63, 64, 127, 128, 191, 192, u32::MAX].map(|page_no| area.contains(page_no)),
            [false, false, true, true, true, true, false, false]
        );
    }

    #[test]
    fn area_is_absent_without_magic() {
        let area = Doublewrite::parse(&[0; 16384], PageSize::DEFAULT).unwrap();
        assert_eq!(area, Doublewrite::ABSENT);
        assert!(!area.contains(0) && !area.contains(64));
    }

    #[test]
    fn errors() {
        let mut page = testdata::page("full_crc32/ibdata1.5");
        let start = page.len() - FROM_END;
        page[start + 29] ^= 1;
        assert_eq!(
            Doublewrite::parse(&page, PageSize::DEFAULT),
            Err(DoublewriteError::Copies { first: [MAGIC, 64, 128], second: [MAGIC, 65, 128] })
        );
        page[start + 10] ^= 1;
        assert!(matches!(
            Doublewrite::parse(&page, PageSize::DEFAULT),
            Err(DoublewriteError::Copies { .. })
        ));
        assert_eq!(
            Doublewrite::parse(&page[..199], PageSize::DEFAULT),
            Err(DoublewriteError::TooShort)
        );
    }
}
