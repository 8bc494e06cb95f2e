//! The last step before a page is written: LSN, checksum, and the fields that go with them.

use super::{ChecksumAlgorithm, PageError, PageType};
use crate::bytes::be16;
use crate::checksum;
use crate::flags::SpaceFlags;
use crate::lsn::{Lsn, PageId, SpaceId};

/// `FIL_PAGE_FILE_FLUSH_LSN`.
const FLUSH_LSN: usize = 26;
/// The transaction system header.
const TRX_SYS_PAGE: u32 = 5;

/// Stamps `lsn` and the checksum onto a plain page, byte for byte as the server does before it
/// writes (`buf_flush_init_for_writing` in `buf0flu.cc`, 10.11; `innodb_checksum_algorithm` one of
/// the CRC-32C forms, the only ones from 10.6 on).
///
/// Plain means neither encrypted nor compressed as a whole. `ROW_FORMAT=COMPRESSED` pages come in
/// their physical form. A page of a tablespace with page compression becomes a valid uncompressed
/// page, which such a tablespace may hold.
///
/// # Errors
///
/// [`PageError::Length`] if `bytes` is not one physical page of a tablespace with `flags`;
/// nothing is changed then.
pub fn seal(bytes: &mut [u8], flags: SpaceFlags, id: PageId, lsn: Lsn) -> Result<(), PageError> {
    seal_with(ChecksumAlgorithm::Crc32, bytes, flags, id, lsn)
}

/// As [`seal`], by any setting. It decides about files older than `full_crc32` alone: a server of
/// 10.5 whose setting is strict takes no other checksums there.
pub(super) fn seal_with(
    algorithm: ChecksumAlgorithm,
    bytes: &mut [u8],
    flags: SpaceFlags,
    id: PageId,
    lsn: Lsn,
) -> Result<(), PageError> {
    use ChecksumAlgorithm::{
        Crc32, FullCrc32, Innodb, None, StrictCrc32, StrictFullCrc32, StrictInnodb, StrictNone,
    };
    let expected = flags.page_size().physical();
    if bytes.len() != expected {
        return Err(PageError::Length { len: bytes.len(), expected });
    }
    // The step that clears these fields is that of encryption and compression.
    let clears = !is_special(id) && flags.page_compression().is_none();
    let lsn = lsn.0.to_be_bytes();
    let [.., a, b, c, d] = lsn;
    let lsn_low = [a, b, c, d];
    put(bytes, 16, &lsn);

    if flags.is_full_crc32() {
        if clears {
            put(bytes, 0, &[0; 4]);
        }
        put(bytes, expected - 8, &lsn_low);
        let computed = checksum::full_crc32(bytes.get(..expected - 4).unwrap_or_default());
        put(bytes, expected - 4, &computed.to_be_bytes());
        return Ok(());
    }

    if flags.is_row_compressed() {
        let computed = match algorithm {
            Innodb | StrictInnodb => checksum::innodb_row_compressed(bytes),
            None | StrictNone => checksum::NO_CHECKSUM,
            Crc32 | StrictCrc32 | FullCrc32 | StrictFullCrc32 => {
                checksum::crc32_row_compressed(bytes)
            }
        };
        put(bytes, 0, &computed.to_be_bytes());
    } else {
        put(bytes, expected - 4, &lsn_low);
        if expected == 16384 {
            repair_type(bytes, id);
        }
        let first = match algorithm {
            Innodb | StrictInnodb => checksum::innodb_new(bytes),
            None | StrictNone => checksum::NO_CHECKSUM,
            Crc32 | StrictCrc32 | FullCrc32 | StrictFullCrc32 => checksum::crc32(bytes),
        };
        put(bytes, 0, &first.to_be_bytes());
        // Covers the first.
        let is_innodb = matches!(algorithm, Innodb | StrictInnodb);
        let second = if is_innodb { checksum::innodb_old(bytes) } else { first };
        put(bytes, expected - 8, &second.to_be_bytes());
    }
    if clears {
        // Not covered by the checksum.
        put(bytes, 26, &[0; 8]);
    }
    Ok(())
}

/// Stamps the LSN with which a server of 10.5 to 10.7 begins without a log onto page 0 of the system
/// tablespace, `bytes`, which stays as valid as it is. Source: `fil_write_flushed_lsn` of 10.5.
pub fn set_flush_lsn(bytes: &mut [u8], flags: SpaceFlags, lsn: Lsn) {
    put(bytes, FLUSH_LSN, &lsn.0.to_be_bytes());
    // The checksums of older files do not cover it.
    if flags.is_full_crc32()
        && let Some((covered, stored)) = bytes.split_last_chunk_mut()
    {
        *stored = checksum::full_crc32(covered).to_be_bytes();
    }
}

/// Whether the page is one of two that are never encrypted, nor compressed as a whole, whatever
/// the tablespace: the space header and the transaction system header.
pub(super) fn is_special(id: PageId) -> bool {
    id.page_no.0 == 0 || id == PageId::new(0, TRX_SYS_PAGE)
}

/// Files made before MySQL 5.5, all with pages of 16 KiB, may have garbage for a page type.
fn repair_type(bytes: &mut [u8], id: PageId) {
    let Some(stored) = be16(bytes, 24).map(PageType) else { return };
    let expected = match (id.space, id.page_no.0 % 16384) {
        (_, 0) if id.page_no.0 == 0 => PageType::FSP_HDR,
        (_, 0) => PageType::XDES,
        (_, 1) => PageType::IBUF_BITMAP,
        (SpaceId::SYSTEM, TRX_SYS_PAGE) if id.page_no.0 == TRX_SYS_PAGE => PageType::TRX_SYS,
        _ => match stored {
            PageType::INDEX
            | PageType::INSTANT
            | PageType::RTREE
            | PageType::UNDO_LOG
            | PageType::INODE
            | PageType::IBUF_FREE_LIST
            | PageType::ALLOCATED
            | PageType::SYS
            | PageType::TRX_SYS
            | PageType::BLOB
            | PageType::ZBLOB
            | PageType::ZBLOB2 => stored,
            _ => PageType::UNKNOWN,
        },
    };
    if stored != expected {
        put(bytes, 24, &expected.0.to_be_bytes());
    }
}

/// Copies `value` to `offset`, which is inside of any page.
pub(super) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(field) = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..value.len())) {
        field.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Page;
    use crate::testdata;

    /// Seals `page` with its own LSN after the fields that are to be stamped were overwritten.
    fn resealed(page: &[u8], flags: u32, space: u32, page_no: u32) -> Vec<u8> {
        let flags = SpaceFlags::parse(flags).unwrap();
        let lsn = Page::new(page).unwrap().lsn();
        let mut sealed = page.to_vec();
        let len = sealed.len();
        sealed[16..24].fill(0xaa);
        sealed[..4].fill(0xaa);
        if !flags.is_row_compressed() {
            sealed[len - 8..].fill(0xaa);
        }
        sealed[26..34].fill(0xaa);
        seal(&mut sealed, flags, PageId::new(space, page_no), lsn).unwrap();
        sealed
    }

    #[test]
    fn pages_of_real_servers_come_out_the_same() {
        for (name, flags, space, page_no) in [
            ("full_crc32_4k/compact.5", 0x13, 6, 5),
            ("crc32/redundant.5", 0, 5, 5),
            ("crc32/compact_instant.3", 0, 6, 3),
            ("crc32/compressed8.4", 0x29, 24, 4),
            ("crc32/compressed1.4", 0x23, 21, 4),
            ("crc32_4k/dynamic.5", 0xe1, 7, 5),
        ] {
            let mut page = testdata::page(name);
            if SpaceFlags::parse(flags).unwrap().is_full_crc32() {
                // Nothing but contents there.
                page[26..34].fill(0xaa);
                let end = page.len() - 4;
                let computed = checksum::full_crc32(&page[..end]).to_be_bytes();
                page[end..].copy_from_slice(&computed);
            }
            assert!(resealed(&page, flags, space, page_no) == page, "{name}");
        }
        let page = testdata::page("full_crc32/dynamic.5");
        let mut sealed = page.clone();
        seal(&mut sealed, SpaceFlags::parse(0x15).unwrap(), PageId::new(7, 5), Lsn(10_773_290))
            .unwrap();
        assert!(sealed == page);
    }

    #[test]
    fn other_formulas() {
        for (name, flags, id) in [
            ("innodb_4k/t_DYNAMIC.5", 0xe1, PageId::new(7, 5)),
            ("innodb_4k/zip1.6", 0xe3, PageId::new(11, 6)),
            ("none_4k/t_DYNAMIC.5", 0xe1, PageId::new(7, 5)),
            ("none_4k/zip1.6", 0xe3, PageId::new(11, 6)),
        ] {
            let page = testdata::page_of("10.5", name);
            let flags = SpaceFlags::parse(flags).unwrap();
            let stored = Page::new(&page).unwrap();
            assert_eq!((stored.space_id(), stored.page_no()), (id.space, id.page_no), "{name}");
            let algorithms = if name.starts_with("innodb") {
                [ChecksumAlgorithm::Innodb, ChecksumAlgorithm::StrictInnodb]
            } else {
                [ChecksumAlgorithm::None, ChecksumAlgorithm::StrictNone]
            };
            for algorithm in algorithms {
                let mut sealed = page.clone();
                sealed[..4].fill(0xaa);
                if !flags.is_row_compressed() {
                    sealed[4088..].fill(0xaa);
                }
                seal_with(algorithm, &mut sealed, flags, id, stored.lsn()).unwrap();
                assert!(sealed == page, "{name} {algorithm}");
            }
        }
    }

    #[test]
    fn fields_of_special_pages_are_kept() {
        for (space, page_no, kept) in [(9, 0, true), (0, 5, true), (9, 5, false), (0, 6, false)] {
            let mut page = vec![1; 16384];
            seal(&mut page, SpaceFlags::parse(0).unwrap(), PageId::new(space, page_no), Lsn(7))
                .unwrap();
            assert_eq!(page[26..34] == [1; 8], kept, "{space}:{page_no}");
            let mut page = vec![1; 16384];
            seal(&mut page, SpaceFlags::parse(0x15).unwrap(), PageId::new(space, page_no), Lsn(7))
                .unwrap();
            assert_eq!(page[..4] == [1; 4], kept, "{space}:{page_no}");
            assert_eq!(page[26..34], [1; 8]);
        }
        let mut page = vec![1; 16384];
        seal(&mut page, SpaceFlags::parse(0x10021).unwrap(), PageId::new(9, 5), Lsn(7)).unwrap();
        assert_eq!(page[26..34], [1; 8]);
    }

    #[test]
    fn types_are_repaired_in_old_16k_files_alone() {
        let sealed_type = |raw: u32, space: u32, page_no: u32, page_type: PageType| {
            let flags = SpaceFlags::parse(raw).unwrap();
            let mut page = vec![0; flags.page_size().physical()];
            page[24..26].copy_from_slice(&page_type.0.to_be_bytes());
            seal(&mut page, flags, PageId::new(space, page_no), Lsn(1)).unwrap();
            Page::new(&page).unwrap().page_type()
        };
        let garbage = PageType(0x1234);
        for (space, page_no, page_type, expected) in [
            (9, 0, garbage, PageType::FSP_HDR),
            (9, 16384, PageType::INDEX, PageType::XDES),
            (9, 16385, garbage, PageType::IBUF_BITMAP),
            (9, 1, garbage, PageType::IBUF_BITMAP),
            (0, 5, garbage, PageType::TRX_SYS),
            (9, 5, garbage, PageType::UNKNOWN),
            (0, 16389, garbage, PageType::UNKNOWN),
            (9, 5, PageType::INDEX, PageType::INDEX),
            (9, 5, PageType::XDES, PageType::UNKNOWN),
            (9, 5, PageType::IBUF_BITMAP, PageType::UNKNOWN),
            (9, 5, PageType::ALLOCATED, PageType::ALLOCATED),
            (9, 5, PageType::RTREE, PageType::RTREE),
        ] {
            assert_eq!(sealed_type(0, space, page_no, page_type), expected, "{space}:{page_no}");
            for other in [0x15, 0xc0, 0x29, 0x2b] {
                assert_eq!(sealed_type(other, space, page_no, page_type), page_type, "{other:#x}");
            }
        }
    }

    #[test]
    fn length_must_be_that_of_a_page() {
        let mut short = vec![1; 8192];
        let result = seal(&mut short, SpaceFlags::parse(0x15).unwrap(), PageId::new(1, 1), Lsn(1));
        assert_eq!(result, Err(PageError::Length { len: 8192, expected: 16384 }));
        assert_eq!(short, vec![1; 8192]);
    }
}
