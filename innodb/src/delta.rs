//! Changed pages of a data file: `NAME.delta` of an incremental backup.
//!
//! ```text
//! file:   full block, full block, ..., last block       block: list page, its pages
//! list:   | "xtra", last block: "XTRA" | number | number | ... | 0xFFFFFFFF unless full |
//! ```
//!
//! Pages of `P` bytes, as they stand in the data file: the physical size of `ROW_FORMAT=COMPRESSED`
//! ones. Numbers are big-endian, those of pages in this very file, and go up. A list has `P / 4`
//! entries, the first of which is the mark, so that a full block has `P / 4 - 1` pages besides its
//! list. The last block can be without pages, or full, and then nothing follows it.
//!
//! Source: `write_filt.cc` of mariadb-backup; checked on files written by 10.11.

use std::ops::RangeInclusive;

use crate::bytes::be32;
use crate::lsn::PageNo;

/// Mark of a block that others follow: "xtra".
const MORE: u32 = 0x7874_7261;
/// Mark of the last block: "XTRA".
const LAST: u32 = 0x5854_5241;
/// After the last number of a list that is not full.
const END: u32 = u32::MAX;
/// Bytes of an entry of a list.
const ENTRY: usize = 4;
/// Physical sizes of pages.
const PAGE_SIZES: RangeInclusive<usize> = 1 << 10..=64 << 10;

/// Whether pages of a data file can be of `bytes` bytes.
pub fn is_page_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && PAGE_SIZES.contains(&bytes)
}

/// Why a delta file is unusable. Offsets are bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// No size of a page.
    #[error("pages of {0} bytes do not exist")]
    PageSize(usize),
    /// The file ends within a block.
    #[error("the file has {len} bytes, but the block at offset {offset} ends at {end}")]
    Cut {
        /// Start of the block.
        offset: u64,
        /// Its end by its own account.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// A block begins with something else.
    #[error("{found:#010x} at offset {offset} does not begin a block")]
    Magic {
        /// Start of the block.
        offset: u64,
        /// Its first four bytes.
        found: u32,
    },
    /// A block that others follow is not full.
    #[error("the block at offset {offset} has {pages} pages, but others follow it")]
    NotFull {
        /// Start of the block.
        offset: u64,
        /// Its pages.
        pages: usize,
    },
    /// A page comes twice, or after one of a higher number.
    #[error("page {page_no} at offset {offset} is listed after page {before}")]
    Order {
        /// Place of its number.
        offset: u64,
        /// The page.
        page_no: u32,
        /// The one before.
        before: u32,
    },
    /// The file goes on after its last block.
    #[error("the last block ends at offset {end}, but the file has {len} bytes")]
    Trailing {
        /// End of the block.
        end: u64,
        /// Length of the file.
        len: u64,
    },
}

/// Gives changed pages their places in a new delta file.
#[derive(Debug)]
pub struct DeltaLayout {
    page_size: usize,
    /// Start of the block that is being filled.
    block: u64,
    /// Its list.
    list: Vec<u8>,
}

/// Where something of a delta file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// What goes there: a whole page.
    pub bytes: Vec<u8>,
}

impl DeltaLayout {
    /// For pages of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// [`DeltaError::PageSize`]
    pub fn new(page_size: usize) -> Result<Self, DeltaError> {
        if !is_page_size(page_size) {
            return Err(DeltaError::PageSize(page_size));
        }
        Ok(Self { page_size, block: 0, list: Vec::with_capacity(page_size) })
    }

    /// Takes the next page, whose number is higher than those before. Returns its offset in the
    /// file and, if that begins a block, the list of the one before, which is to be written too.
    pub fn add(&mut self, page_no: PageNo) -> (u64, Option<ListPage>) {
        let full = (self.list.len() == self.page_size).then(|| {
            let list = self.take_list(MORE);
            self.block += (self.page_size / ENTRY * self.page_size) as u64;
            list
        });
        if self.list.is_empty() {
            // The mark is set when it is known.
            self.list.extend([0; ENTRY]);
        }
        let offset = self.block + (self.list.len() / ENTRY * self.page_size) as u64;
        self.list.extend(page_no.0.to_be_bytes());
        (offset, full)
    }

    /// The last list, to be written too, and the length of the file. No page can follow.
    pub fn finish(&mut self) -> (ListPage, u64) {
        let slots = (self.list.len() / ENTRY).max(1);
        let len = self.block + (slots * self.page_size) as u64;
        (self.take_list(LAST), len)
    }

    fn take_list(&mut self, mark: u32) -> ListPage {
        let mut bytes = std::mem::replace(&mut self.list, Vec::with_capacity(self.page_size));
        bytes.resize(bytes.len().max(ENTRY), 0);
        if let Some(first) = bytes.first_chunk_mut() {
            *first = mark.to_be_bytes();
        }
        if bytes.len() < self.page_size {
            bytes.extend(END.to_be_bytes());
        }
        bytes.resize(self.page_size, 0);
        ListPage { offset: self.block, bytes }
    }
}

/// Reads the lists of a delta file, one after the other; the caller reads the bytes.
#[derive(Debug, Clone)]
pub struct DeltaReader {
    page_size: usize,
    /// Length of the file.
    len: u64,
    /// Start of the next block, if there is one.
    next: Option<u64>,
    /// The page listed last.
    before: Option<u32>,
}

impl DeltaReader {
    /// A file of `len` bytes with pages of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// [`DeltaError::PageSize`]
    pub fn new(page_size: usize, len: u64) -> Result<Self, DeltaError> {
        if !is_page_size(page_size) {
            return Err(DeltaError::PageSize(page_size));
        }
        Ok(Self { page_size, len, next: Some(0), before: None })
    }

    /// Where the next list is: a page from this offset on. `None`: all were read.
    ///
    /// # Errors
    ///
    /// [`DeltaError::Cut`] where the file ends before it.
    pub fn next_list(&self) -> Result<Option<u64>, DeltaError> {
        let Some(offset) = self.next else { return Ok(None) };
        let end = offset.saturating_add(self.page_size as u64);
        if end > self.len {
            return Err(DeltaError::Cut { offset, end, len: self.len });
        }
        Ok(Some(offset))
    }

    /// Takes the list that is next, `bytes` of a page, and returns the pages of its block. All of
    /// them are within the file.
    ///
    /// # Errors
    ///
    /// A [`DeltaError`] for all that the reference does not write; none is left when the last block
    /// was read without one.
    pub fn list(&mut self, bytes: &[u8]) -> Result<Block, DeltaError> {
        let Some(offset) = self.next_list()? else {
            return Err(DeltaError::Trailing { end: self.len, len: self.len });
        };
        let found = be32(bytes, 0).unwrap_or_default();
        if !matches!(found, MORE | LAST) || bytes.len() != self.page_size {
            return Err(DeltaError::Magic { offset, found });
        }
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        let mut pages = Vec::new();
        for (index, entry) in entries.iter().enumerate().skip(1) {
            let page_no = u32::from_be_bytes(*entry);
            if page_no == END {
                break;
            }
            if let Some(before) = self.before.filter(|before| *before >= page_no) {
                let offset = offset + (index * ENTRY) as u64;
                return Err(DeltaError::Order { offset, page_no, before });
            }
            self.before = Some(page_no);
            pages.push(PageNo(page_no));
        }
        let end = offset + ((1 + pages.len()) * self.page_size) as u64;
        if end > self.len {
            return Err(DeltaError::Cut { offset, end, len: self.len });
        }
        if found == LAST {
            if end != self.len {
                return Err(DeltaError::Trailing { end, len: self.len });
            }
            self.next = None;
        } else {
            if 1 + pages.len() != entries.len() {
                return Err(DeltaError::NotFull { offset, pages: pages.len() });
            }
            self.next = Some(end);
        }
        Ok(Block { first: offset + self.page_size as u64, page_size: self.page_size, pages })
    }
}

/// The pages of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Offset of the first page.
    first: u64,
    page_size: usize,
    pages: Vec<PageNo>,
}

impl Block {
    /// Each page with its offset in the delta file, where they stand one after the other.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = (PageNo, u64)> + '_ {
        let place = |index: usize| self.first + (index * self.page_size) as u64;
        self.pages.iter().enumerate().map(move |(index, page_no)| (*page_no, place(index)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::Page;
    use crate::testdata;

    const SIZE: usize = 1024;
    /// Entries of a list.
    const SLOTS: u32 = 256;

    /// A delta file of these pages, each filled with the low byte of its number.
    fn delta(page_size: usize, pages: impl IntoIterator<Item = u32>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut layout = DeltaLayout::new(page_size).unwrap();
        let mut put = |offset: u64, page: &[u8]| {
            let offset = usize::try_from(offset).unwrap();
            bytes.resize(bytes.len().max(offset + page.len()), 0);
            bytes[offset..offset + page.len()].copy_from_slice(page);
        };
        for page_no in pages {
            let (offset, list) = layout.add(PageNo(page_no));
            if let Some(list) = list {
                put(list.offset, &list.bytes);
            }
            put(offset, &vec![page_no.to_le_bytes()[0]; page_size]);
        }
        let (list, len) = layout.finish();
        put(list.offset, &list.bytes);
        assert_eq!(bytes.len() as u64, len);
        bytes
    }

    /// All pages of a delta file, with their offsets.
    fn read(page_size: usize, bytes: &[u8]) -> Result<Vec<(u32, u64)>, DeltaError> {
        let mut reader = DeltaReader::new(page_size, bytes.len() as u64)?;
        let mut pages = Vec::new();
        while let Some(offset) = reader.next_list()? {
            let offset = usize::try_from(offset).unwrap();
            let block = reader.list(&bytes[offset..offset + page_size])?;
            pages.extend(block.pages().map(|(page_no, offset)| (page_no.0, offset)));
        }
        Ok(pages)
    }

    #[test]
    fn real_files_are_read_and_written_alike() {
        for (name, page_size, expected) in [
            ("t.ibd.delta", 4096, &[8][..]),
            ("u.ibd.delta", 4096, &[]),
            ("z.ibd.delta", 1024, &[7]),
        ] {
            let bytes = testdata::page(&format!("delta_4k/{name}"));
            let pages = read(page_size, &bytes).unwrap();
            assert_eq!(pages.iter().map(|page| page.0).collect::<Vec<_>>(), expected, "{name}");
            for (page_no, offset) in &pages {
                let page = Page::new(&bytes[usize::try_from(*offset).unwrap()..]).unwrap();
                assert_eq!(page.page_no(), PageNo(*page_no));
            }
            let own = delta(page_size, pages.iter().map(|page| page.0));
            assert_eq!(own[..page_size], bytes[..page_size], "{name}");
            assert_eq!(own.len(), bytes.len());
        }
    }

    #[test]
    fn the_list_of_a_file_without_pages() {
        let bytes = delta(SIZE, []);
        assert_eq!(bytes[..8], [b'X', b'T', b'R', b'A', 0xff, 0xff, 0xff, 0xff]);
        assert_eq!((bytes.len(), read(SIZE, &bytes).unwrap()), (SIZE, vec![]));
    }

    #[test]
    fn a_block_ends_when_another_page_comes() {
        let full = delta(SIZE, 10..10 + SLOTS - 1);
        assert_eq!(full.len(), SIZE * 256);
        assert_eq!((&full[..4], &full[SIZE - 4..SIZE]), (&b"XTRA"[..], &264_u32.to_be_bytes()[..]));
        assert_eq!(read(SIZE, &full).unwrap().len(), 255);

        let more = delta(SIZE, 10..10 + SLOTS);
        assert_eq!(more.len(), SIZE * 258);
        assert_eq!(
            (&more[..4], &more[SIZE * 256..][..12]),
            (&b"xtra"[..], &{ [&b"XTRA"[..], &265_u32.to_be_bytes(), &[0xff; 4]].concat() }[..])
        );
        assert_eq!(more[SIZE..SIZE * 256], full[SIZE..]);
        let pages = read(SIZE, &more).unwrap();
        assert_eq!((pages.len(), pages[254]), (256, (264, 255 * 1024)));
        assert_eq!(pages[255], (265, 257 * 1024));
    }

    /// The bytes of two blocks with one of them changed.
    fn changed(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = delta(SIZE, 0..SLOTS);
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        file
    }

    #[test]
    fn what_nobody_writes_is_an_error_that_names_the_place() {
        let good = delta(SIZE, 0..SLOTS);
        let (len, second) = (good.len() as u64, 256 * 1024);
        for (bytes, error) in [
            (vec![], DeltaError::Cut { offset: 0, end: 1024, len: 0 }),
            (good[..1023].to_vec(), DeltaError::Cut { offset: 0, end: 1024, len: 1023 }),
            (good[..1024].to_vec(), DeltaError::Cut { offset: 0, end: second, len: 1024 }),
            // Between blocks: the last one is missing.
            (
                good[..256 * 1024].to_vec(),
                DeltaError::Cut { offset: second, end: second + 1024, len: second },
            ),
            (
                good[..good.len() - 1].to_vec(),
                DeltaError::Cut { offset: second, end: len, len: len - 1 },
            ),
            ([&good[..], &[0]].concat(), DeltaError::Trailing { end: len, len: len + 1 }),
            (changed(0, b"XTRA"), DeltaError::Trailing { end: second, len }),
            (changed(0, b"Xtra"), DeltaError::Magic { offset: 0, found: 0x5874_7261 }),
            (changed(256 * 1024, &[0; 4]), DeltaError::Magic { offset: second, found: 0 }),
            (changed(8, &[0, 0, 0, 0]), DeltaError::Order { offset: 8, page_no: 0, before: 0 }),
            (
                changed(256 * 1024 + 4, &[0, 0, 0, 9]),
                DeltaError::Order { offset: second + 4, page_no: 9, before: 254 },
            ),
            (changed(12, &[0xff; 4]), DeltaError::NotFull { offset: 0, pages: 2 }),
        ] {
            assert_eq!(read(SIZE, &bytes), Err(error));
        }
        for size in [0, 512, 1000, 4097, 128 << 10] {
            assert_eq!(read(size, &good), Err(DeltaError::PageSize(size)));
            assert_eq!(DeltaLayout::new(size).unwrap_err(), DeltaError::PageSize(size));
        }
    }

    #[test]
    fn a_list_of_another_length_is_none() {
        let mut reader = DeltaReader::new(SIZE, SIZE as u64).unwrap();
        let error = DeltaError::Magic { offset: 0, found: LAST };
        assert_eq!(reader.list(&delta(SIZE, [])[..8]), Err(error));
        assert!(reader.list(&delta(SIZE, [])).is_ok());
        assert!(reader.list(&delta(SIZE, [])).is_err());
    }

    proptest! {
        #[test]
        fn every_file_that_is_written_is_read(
            numbers in proptest::collection::btree_set(0_u32..u32::MAX, 0..700),
            shift in 10..13_u32,
        ) {
            let size = 1 << shift;
            let pages = read(size, &delta(size, numbers.iter().copied())).unwrap();
            prop_assert!(pages.iter().map(|page| page.0).eq(numbers));
        }
    }
}
