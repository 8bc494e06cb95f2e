//! Page 0 of tablespaces, the place of the doublewrite area, files of changed pages.

use innodb::delta::DeltaReader;
use innodb::doublewrite::Doublewrite;
use innodb::page::{ChecksumAlgorithm, SpaceContext, verify};
use innodb::space::{EncryptionMetadata, SpaceHeader};
use innodb::tablespace::SystemFiles;
use innodb::{PageSize, SpaceFlags};

use crate::bytes::{first, put, take};

/// The largest page there is, bytes.
const PAGE_MAX: usize = 64 << 10;

/// A page 0, filled up with zeros: its header, and the page by that.
pub fn header(data: &[u8]) {
    let (choice, data) = first(data);
    let (lens, data) = take::<8>(data);
    let mut page0 = data.to_vec();
    if choice & 1 == 0 {
        page0.resize(PAGE_MAX, 0);
    }
    if choice & 2 == 0 {
        put(&mut page0, 4, &[0; 4]);
        if let Some(id) = page0.get(34..38).map(<[u8]>::to_vec) {
            put(&mut page0, 38, &id);
        }
    }
    let _ = SpaceHeader::parse(data);
    let sizes = (12..17).filter_map(|shift| PageSize::uncompressed(1 << shift));
    for size in sizes {
        let _ = EncryptionMetadata::find(&page0, size);
        let _ = Doublewrite::parse(&page0, size).map(|area| area.contains(u32::MAX));
        let len = u64::from_le_bytes(lens);
        if let Some(files) = SystemFiles::new(size, &[len, len / 2, 1]) {
            for page_no in [0, u32::MAX, u32::try_from(len >> 33).unwrap_or(1)] {
                let (index, offset) = files.locate(page_no);
                assert_eq!(files.page_no(index, offset), Some(page_no));
            }
        }
    }
    let Ok(header) = SpaceHeader::parse(&page0) else { return };
    assert_eq!(SpaceFlags::parse(header.flags().raw()), Ok(header.flags()));
    let physical = header.flags().page_size().physical();
    assert!(physical <= PAGE_MAX && page0.len() >= physical);
    let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
    let _ = verify(page0.get(..physical).unwrap_or_default(), 0, &context);
}

/// A file of changed pages, of a size of pages that is chosen.
pub fn delta(data: &[u8]) {
    let (choice, data) = first(data);
    let size = 1 << (choice % 18);
    let Ok(mut reader) = DeltaReader::new(size, data.len() as u64) else { return };
    let mut before = None;
    while let Ok(Some(offset)) = reader.next_list() {
        let list = usize::try_from(offset).ok().and_then(|at| data.get(at..at + size));
        let Ok(block) = reader.list(list.unwrap_or_default()) else { return };
        for (page_no, offset) in block.pages() {
            assert!(offset + size as u64 <= data.len() as u64 && before < Some(page_no));
            before = Some(page_no);
        }
    }
}
