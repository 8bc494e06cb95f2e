//! Where rollback segments are: slots of the `TRX_SYS` page.
//!
//! ```text
//! page 0:5   56  128 slots: u32 tablespace, u32 page; 0xFFFFFFFF: unused
//! ```
//!
//! Source: `trx0sys.h`; checked on files of 10.11.

use crate::bytes::be32;
use crate::lsn::PageId;

const SLOTS: usize = 128;
const SLOTS_AT: usize = 56;
/// `FIL_NULL`: no page.
const NONE: u32 = u32::MAX;

/// The header pages of all rollback segments, from the `TRX_SYS` page `trx_sys`.
pub fn segments(trx_sys: &[u8]) -> impl Iterator<Item = PageId> {
    let slots = trx_sys.get(SLOTS_AT..).unwrap_or_default();
    slots.as_chunks::<8>().0.iter().take(SLOTS).filter_map(|slot| {
        let (space, page_no) = (be32(slot, 0)?, be32(slot, 4)?);
        (page_no != NONE && space != NONE).then(|| PageId::new(space, page_no))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata;

    #[test]
    fn segments_of_a_real_instance() {
        let found: Vec<_> = segments(&testdata::page("full_crc32/ibdata1.5")).collect();
        assert_eq!(found.len(), 128);
        assert_eq!(found.first(), Some(&PageId::new(0, 6)));
        assert_eq!(found.last(), Some(&PageId::new(0, 300)));
        assert_eq!(segments(&[0xff; 16384]).count(), 0);
        assert_eq!(segments(&[1; 60]).count(), 0);
    }
}
