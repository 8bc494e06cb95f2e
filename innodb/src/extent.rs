//! Extent descriptors: which pages are in use.
//!
//! ```text
//! page 0 and every physical-page-size-th page, from byte 150, one per extent:
//! 0         8           20      24
//! | segment | list node | state | 2 bits per page, lowest first: free, (unused) |
//! ```
//!
//! Source: `XDES_*` in `fsp0fsp.h`; checked on files of 10.11.

use crate::bytes::be32;
use crate::flags::PageSize;

/// Where the descriptors start in their page.
const START: usize = 150;
const STATE: usize = 20;
const BITMAP: usize = 24;

/// Number of the page that holds the descriptor of page `page_no`.
pub fn descriptor_page_no(page_no: u32, page_size: PageSize) -> u32 {
    // Physical page sizes are powers of two below 2^17.
    let pages = u32::try_from(page_size.physical()).unwrap_or(1 << 16);
    page_no & !(pages - 1)
}

/// Whether page `page_no` is free, by `descriptors`, the page named by [`descriptor_page_no`].
/// An extent without a state was never used: its pages are free.
///
/// `None` if `descriptors` is too short.
pub fn is_free(descriptors: &[u8], page_no: u32, page_size: PageSize) -> Option<bool> {
    let extent_pages = usize::try_from(page_size.extent_pages()).ok()?;
    let index = page_no - descriptor_page_no(page_no, page_size);
    let index = usize::try_from(index).ok()?;
    let descriptor_len = BITMAP + extent_pages / 4;
    let descriptor = descriptors.get(START + index / extent_pages * descriptor_len..)?;
    if be32(descriptor, STATE)? == 0 {
        return Some(true);
    }
    let page = index % extent_pages;
    let byte = descriptor.get(BITMAP + page / 4)?;
    Some(byte >> (2 * (page % 4)) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SpaceFlags, testdata};

    #[test]
    fn free_pages_of_real_files() {
        let page = testdata::page("full_crc32/dynamic.0");
        let free = |page_no| is_free(&page, page_no, PageSize::DEFAULT);
        // Space header, bitmap, inodes, two index roots.
        assert!((0..5).all(|page_no| free(page_no) == Some(false)));
        assert_eq!(free(63), Some(true));
        assert_eq!(free(16383), Some(true));
        assert_eq!(is_free(&page[..150], 0, PageSize::DEFAULT), None);

        let size = SpaceFlags::parse(0x23).unwrap().page_size();
        let page = testdata::page("crc32/compressed1.0");
        assert!((0..4).all(|page_no| is_free(&page, page_no, size) == Some(false)));
    }

    #[test]
    fn descriptor_pages_repeat() {
        assert_eq!(descriptor_page_no(16383, PageSize::DEFAULT), 0);
        assert_eq!(descriptor_page_no(16384, PageSize::DEFAULT), 16384);
        assert_eq!(descriptor_page_no(u32::MAX, PageSize::DEFAULT), 0xffff_c000);
        let size = SpaceFlags::parse(0x23).unwrap().page_size();
        assert_eq!(descriptor_page_no(1025, size), 1024);
    }
}
