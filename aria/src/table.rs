//! Tables: the header of the index file (`.MAI`), the checksums of the pages of both files.
//!
//! ```text
//! .MAI   0  FE FE 09 03      4  options (0x800: pages have checksums)    6  header length
//!       12  where the base information begins: b           22  kind of rows (3: in pages)
//!      b+16 key start: offset of the first index page      b+90  extra options (1: encrypted)
//!     b+100 block size                                     b+106 born transactional
//! page  S-4 CRC-32 that begins with the page number, or that there is none
//! ```
//!
//! Integers of the header are big-endian, checksums little-endian. Source: `ma_open.c`,
//! `maria_def.h`, `ma_pagecrc.c`; checked on files of 10.11.
//!
//! Behind the first 24 bytes: open count and changed flags, 2 bytes each, then the LSNs of
//! [`Generation`], 7 bytes each (`_ma_state_info_write_sub` in `ma_open.c`).
//!
//! A table may be copied while the server writes if each of its pages can be told from a torn one
//! (checksums) and the log makes the whole consistent (transactional): [`IndexHeader::is_online_safe`].

use crate::encrypted::Parameters;
use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of LSN and transaction id at the start of the index pages of a transactional table.
const TRANSACTIONAL_PREFIX: usize = 7 + 6;
/// Bytes of the key's version, in the index pages of encrypted tables behind that; and of what
/// stands in place of the LSN before it, if the table is not transactional.
const KEY_VERSION: usize = 4;
const PSEUDO_LSN: usize = 7;
/// Key number and flags, before the used length of an index page.
const KEY_AND_FLAGS: usize = 2;
/// The same with the used length.
pub(crate) const KEY_FLAGS_USED: usize = KEY_AND_FLAGS + 2;
/// Option: pages have checksums (`HA_OPTION_PAGE_CHECKSUM`).
const PAGE_CHECKSUMS: u16 = 0x800;
/// In place of a checksum: none. Of bitmap pages 1 less.
const NO_CHECKSUM: u32 = 0xFFFF_FFFF;
const NO_BITMAP_CHECKSUM: u32 = 0xFFFF_FFFE;
/// What a checksum that looks like none is replaced by.
const REPLACED_CHECKSUM: u32 = 0xFFFF_FFFD;

#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    options: U16,
    header_len: U16,
    state_len: U16,
    base_len: U16,
    base_at: U16,
    key_parts: U16,
    unique_parts: U16,
    keys: u8,
    uniques: u8,
    unused: u8,
    fulltext_keys: u8,
    data_file_type: u8,
    original_type: u8,
    open_count: U16,
    changed: U16,
    create_rename_lsn: [u8; 7],
    is_of_horizon: [u8; 7],
    skip_redo_lsn: [u8; 7],
}
const _: () = assert!(size_of::<RawHeader>() == 49);

/// From where on the log tells all that happened to a table. Another value means that the table
/// was written to without the log: created anew, truncated, filled in bulk, repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation {
    create_rename_lsn: [u8; 7],
    skip_redo_lsn: [u8; 7],
}

#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBase {
    uuid: [u8; 16],
    key_start: U64,
    other: [u8; 66],
    extra_options: U16,
    other_2: [u8; 8],
    block_size: U16,
    other_3: [u8; 4],
    born_transactional: u8,
}
const _: () = assert!(size_of::<RawBase>() == 107);

/// A file of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `.MAI`: header and index pages.
    Index,
    /// `.MAD`: rows and bitmaps of free space.
    Data,
}

/// What is wrong with the header of an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// It ends before what it says it has; read at least 64 KiB, or all.
    #[error("the file ends within its header")]
    Truncated,
    /// Another file, or another version.
    #[error("it does not begin like the index file of an Aria table")]
    Magic,
    /// A block size that no server has, or a first page that is at no multiple of it.
    #[error("blocks of {block_size} bytes, the first at offset {key_start}, are impossible")]
    Blocks {
        /// Bytes.
        block_size: u32,
        /// Bytes from the start of the file.
        key_start: u64,
    },
}

/// What is wrong with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Not a whole page: the file is just being extended, or cut.
    #[error("the page has {len} bytes only")]
    Truncated {
        /// Bytes.
        len: usize,
    },
    /// The offset is none of a page.
    #[error("no page begins at offset {offset}")]
    Offset {
        /// Bytes from the start of the file.
        offset: u64,
    },
    /// The used length of an index page is impossible.
    #[error("the index page has {used} bytes in use")]
    UsedLength {
        /// Bytes.
        used: u16,
    },
    /// The checksum is wrong: torn, or damaged.
    #[error("the checksum of the page is {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// In the page.
        stored: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// The checksum is that of the page before it was encrypted.
    #[error("the page is encrypted")]
    Encrypted,
}

/// The header of an index file, as far as copying needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHeader {
    key_start: u64,
    block_size: u16,
    options: u16,
    has_rows_in_pages: bool,
    is_transactional: bool,
    is_encrypted: bool,
    encryption: Option<Parameters>,
    generation: Generation,
}

impl IndexHeader {
    /// Parses the start of a `.MAI` file.
    ///
    /// # Errors
    ///
    /// Any [`HeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| HeaderError::Truncated)?;
        if raw.magic != [0xFE, 0xFE, 0x09, 0x03] {
            return Err(HeaderError::Magic);
        }
        let base = bytes.get(usize::from(raw.base_at.get())..).ok_or(HeaderError::Truncated)?;
        let (base, _) = RawBase::ref_from_prefix(base).map_err(|_| HeaderError::Truncated)?;
        let (block_size, key_start) = (base.block_size.get(), base.key_start.get());
        let possible = block_size.is_power_of_two()
            && block_size >= 1024
            && key_start.is_multiple_of(u64::from(block_size));
        if !possible {
            return Err(HeaderError::Blocks { block_size: block_size.into(), key_start });
        }
        let is_encrypted = base.extra_options.get() & 1 != 0;
        let all = bytes.get(..raw.header_len.get().into());
        let encryption = all.filter(|_| is_encrypted).and_then(Parameters::parse);
        Ok(Self {
            key_start,
            block_size,
            options: raw.options.get(),
            has_rows_in_pages: raw.data_file_type == 3,
            is_transactional: base.born_transactional != 0,
            is_encrypted,
            encryption,
            generation: Generation {
                create_rename_lsn: raw.create_rename_lsn,
                skip_redo_lsn: raw.skip_redo_lsn,
            },
        })
    }

    /// Whether the table may be copied while it is written, each page verified.
    pub fn is_online_safe(&self) -> bool {
        self.is_transactional && self.has_rows_in_pages && self.has_checksums()
    }

    /// Whether pages have checksums; without, [`verify_page`](Self::verify_page) is of no use.
    pub fn has_checksums(&self) -> bool {
        self.options & PAGE_CHECKSUMS != 0
    }

    /// From where on the log tells all.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the pages are encrypted: then they are verified by
    /// [`verify_page_with`](Self::verify_page_with).
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// How, as far as that is known.
    pub(crate) fn encryption(&self) -> Option<&Parameters> {
        self.encryption.as_ref()
    }

    pub(crate) fn block_len(&self) -> u16 {
        self.block_size
    }

    /// Bytes of a page, in both files.
    pub fn block_size(&self) -> usize {
        usize::from(self.block_size)
    }

    /// Checks page `page`, which is at `offset` in the file of kind `kind`. What has no checksum
    /// passes: the header of the index file, pages of zeros (allocated, never written), pages that
    /// say so, rows that are not in pages.
    ///
    /// # Errors
    ///
    /// A [`PageError`]; on a live server, read the page again first.
    pub fn verify_page(&self, kind: FileKind, offset: u64, page: &[u8]) -> Result<(), PageError> {
        let has_pages = match kind {
            FileKind::Index => offset >= self.key_start,
            FileKind::Data => self.has_rows_in_pages,
        };
        if !has_pages {
            return Ok(());
        }
        let block_size = u64::from(self.block_size);
        let page_no = u32::try_from(offset / block_size).ok();
        let page_no = page_no
            .filter(|_| offset.is_multiple_of(block_size))
            .ok_or(PageError::Offset { offset })?;
        let truncated = PageError::Truncated { len: page.len() };
        if page.len() != self.block_size() {
            return Err(truncated);
        }
        let (covered, stored) = page.split_last_chunk().ok_or(truncated)?;
        let stored = u32::from_le_bytes(*stored);
        let is_bitmap = kind == FileKind::Data && self.is_bitmap(page_no);
        let none = if is_bitmap { NO_BITMAP_CHECKSUM } else { NO_CHECKSUM };
        if stored == none || (stored == 0 && covered.iter().all(|&byte| byte == 0)) {
            return Ok(());
        }
        if self.is_encrypted && !is_bitmap {
            return Err(PageError::Encrypted);
        }
        self.verify_plain(kind, page_no, page)
    }

    /// Checks a page of the right length, which has a checksum and is not encrypted any more.
    pub(crate) fn verify_plain(
        &self,
        kind: FileKind,
        page_no: u32,
        page: &[u8],
    ) -> Result<(), PageError> {
        let truncated = PageError::Truncated { len: page.len() };
        let (covered, stored) = page.split_last_chunk().ok_or(truncated)?;
        let stored = u32::from_le_bytes(*stored);
        let covered = match kind {
            FileKind::Data => covered,
            FileKind::Index => {
                let used = self.used_len(covered)?;
                covered.get(..used).unwrap_or(covered)
            }
        };
        let computed = checksum(page_no, covered);
        if stored == computed { Ok(()) } else { Err(PageError::Checksum { stored, computed }) }
    }

    /// Page 0 and every further one after as many pages as one bitmap describes: 16 pages by 6
    /// bytes.
    fn is_bitmap(&self, page_no: u32) -> bool {
        let described = u32::from(self.block_size.saturating_sub(4)) / 6 * 16;
        page_no.is_multiple_of(described.saturating_add(1))
    }

    /// Bytes of an index page before key number and flags.
    pub(crate) fn prefix_len(&self) -> usize {
        match (self.is_transactional, self.is_encrypted) {
            (true, false) => TRANSACTIONAL_PREFIX,
            (true, true) => TRANSACTIONAL_PREFIX + KEY_VERSION,
            (false, false) => 0,
            (false, true) => PSEUDO_LSN + KEY_VERSION,
        }
    }

    /// How many bytes of an index page its checksum covers. `covered`: without the checksum.
    pub(crate) fn used_len(&self, covered: &[u8]) -> Result<usize, PageError> {
        let used_at = self.prefix_len() + KEY_AND_FLAGS;
        let used = match covered.get(used_at..) {
            Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        let len = usize::from(used);
        let is_possible = len >= used_at + 2 && len <= covered.len();
        if is_possible { Ok(len) } else { Err(PageError::UsedLength { used }) }
    }
}

/// The checksum of `bytes` on page `page_no`.
fn checksum(page_no: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(page_no);
    hasher.update(bytes);
    hasher.finalize().min(REPLACED_CHECKSUM)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONLINE: &[u8] = include_bytes!("../testdata/10.11.19/small.MAI");
    const ONLINE_ROWS: &[u8] = include_bytes!("../testdata/10.11.19/small.MAD");
    const NOT_LOGGED: &[u8] = include_bytes!("../testdata/10.11.19/nt.MAI");
    const NOT_LOGGED_ROWS: &[u8] = include_bytes!("../testdata/10.11.19/nt.MAD");
    const DYNAMIC: &[u8] = include_bytes!("../testdata/10.11.19/dyn.MAI");
    const NO_CHECKSUMS: &[u8] = include_bytes!("../testdata/10.11.19/nocrc.MAI");
    const ENCRYPTED: &[u8] = include_bytes!("../testdata/10.11.19/enc.MAI");
    const ENCRYPTED_ROWS: &[u8] = include_bytes!("../testdata/10.11.19/enc.MAD");

    const ALL: [&[u8]; 5] = [ONLINE, NOT_LOGGED, DYNAMIC, NO_CHECKSUMS, ENCRYPTED];

    fn verify(header: &IndexHeader, kind: FileKind, file: &[u8]) -> Result<usize, PageError> {
        let mut offset = 0;
        for page in file.chunks(header.block_size()) {
            header.verify_page(kind, offset, page)?;
            offset += page.len() as u64;
        }
        Ok(file.len() / header.block_size())
    }

    #[test]
    fn tells_which_tables_may_be_copied_live() {
        let online = IndexHeader::parse(ONLINE).unwrap();
        assert_eq!((online.block_size(), online.key_start), (8192, 8192));
        for (file, online_safe, encrypted) in [
            (ONLINE, true, false),
            (NOT_LOGGED, false, false),
            (DYNAMIC, false, false),
            (NO_CHECKSUMS, false, false),
            (ENCRYPTED, true, true),
        ] {
            let header = IndexHeader::parse(file).unwrap();
            assert_eq!((header.is_online_safe(), header.is_encrypted()), (online_safe, encrypted));
        }
    }

    #[test]
    fn pages_of_real_files_pass() {
        let header = IndexHeader::parse(ONLINE).unwrap();
        assert_eq!(verify(&header, FileKind::Index, ONLINE), Ok(2));
        assert_eq!(verify(&header, FileKind::Data, ONLINE_ROWS), Ok(2));
        let header = IndexHeader::parse(NOT_LOGGED).unwrap();
        assert_eq!(verify(&header, FileKind::Index, NOT_LOGGED), Ok(3));
        assert_eq!(verify(&header, FileKind::Data, NOT_LOGGED_ROWS), Ok(2));
        for file in [DYNAMIC, NO_CHECKSUMS] {
            let header = IndexHeader::parse(file).unwrap();
            verify(&header, FileKind::Index, file).unwrap();
        }
    }

    #[test]
    fn encrypted_pages_cannot_be_verified_but_bitmaps_can() {
        let header = IndexHeader::parse(ENCRYPTED).unwrap();
        assert_eq!(verify(&header, FileKind::Index, ENCRYPTED), Err(PageError::Encrypted));
        assert_eq!(verify(&header, FileKind::Data, ENCRYPTED_ROWS), Err(PageError::Encrypted));
        assert_eq!(verify(&header, FileKind::Data, &ENCRYPTED_ROWS[..8192]), Ok(1));
    }

    #[test]
    fn damage_and_other_places_are_found() {
        let header = IndexHeader::parse(ONLINE).unwrap();
        for offset in [0_usize, 8192] {
            let page = &ONLINE_ROWS[offset..offset + 8192];
            for at in [0, 7, 100, 4095, 8187, 8191] {
                let mut damaged = page.to_vec();
                damaged[at] ^= 1;
                let error = header.verify_page(FileKind::Data, offset as u64, &damaged);
                assert!(matches!(error, Err(PageError::Checksum { .. })), "{offset} {at}");
            }
            let error = header.verify_page(FileKind::Data, offset as u64 + 16384, page);
            assert!(matches!(error, Err(PageError::Checksum { .. })));
        }
        let page = &ONLINE[8192..];
        let mut damaged = page.to_vec();
        damaged[20] ^= 1;
        let error = header.verify_page(FileKind::Index, 8192, &damaged);
        assert!(matches!(error, Err(PageError::Checksum { .. })));
        for used in [[0, 0], [0, 16], [0xFF, 0xFF]] {
            damaged[15..17].copy_from_slice(&used);
            let error = header.verify_page(FileKind::Index, 8192, &damaged);
            assert_eq!(error, Err(PageError::UsedLength { used: u16::from_be_bytes(used) }));
        }
    }

    #[test]
    fn what_is_no_page_is_named() {
        let header = IndexHeader::parse(ONLINE).unwrap();
        let verify = |offset, page| header.verify_page(FileKind::Data, offset, page);
        let page = &ONLINE_ROWS[..8192];
        assert_eq!(verify(1, page), Err(PageError::Offset { offset: 1 }));
        let offset = 1 << 45;
        assert_eq!(verify(offset, page), Err(PageError::Offset { offset }));
        assert_eq!(verify(0, &page[..100]), Err(PageError::Truncated { len: 100 }));
        assert_eq!(verify(0, &[]), Err(PageError::Truncated { len: 0 }));
    }

    #[test]
    fn pages_without_checksum_pass() {
        let header = IndexHeader::parse(ONLINE).unwrap();
        let mut page = vec![0; 8192];
        for (page_no, fill, passes) in [
            (0, 0, true),
            (1, 0, true),
            (0, NO_BITMAP_CHECKSUM, true),
            (21_825, NO_BITMAP_CHECKSUM, true),
            (1, NO_CHECKSUM, true),
            (1, NO_BITMAP_CHECKSUM, false),
            (0, NO_CHECKSUM, false),
            (21_824, NO_BITMAP_CHECKSUM, false),
        ] {
            page[8188..].copy_from_slice(&u32::to_le_bytes(fill));
            let result = header.verify_page(FileKind::Data, page_no * 8192, &page);
            assert_eq!(result.is_ok(), passes, "{page_no} {fill:x}");
        }
        page[8188..].fill(0);
        page[5] = 1;
        assert!(header.verify_page(FileKind::Data, 8192, &page).is_err());
    }

    #[test]
    fn headers_cut_at_any_length_or_of_other_files_are_refused() {
        let base_at = usize::from(u16::from_be_bytes([ONLINE[12], ONLINE[13]]));
        for len in 0..base_at + 107 {
            assert_eq!(IndexHeader::parse(&ONLINE[..len]), Err(HeaderError::Truncated));
        }
        assert!(IndexHeader::parse(&ONLINE[..base_at + 107]).is_ok());
        assert_eq!(IndexHeader::parse(ONLINE_ROWS), Err(HeaderError::Magic));
        let mut bytes = ONLINE.to_vec();
        for block_size in [0_u16, 512, 8191] {
            bytes[base_at + 100..base_at + 102].copy_from_slice(&block_size.to_be_bytes());
            let error = IndexHeader::parse(&bytes).unwrap_err();
            let block_size = block_size.into();
            assert_eq!(error, HeaderError::Blocks { block_size, key_start: 8192 });
        }
        bytes[12..14].fill(0xFF);
        assert_eq!(IndexHeader::parse(&bytes), Err(HeaderError::Truncated));
    }

    proptest! {
        #[test]
        fn any_header_and_page_return(
            file in 0..ALL.len(),
            changes in prop::collection::vec((0..600_usize, any::<u8>()), 0..8),
            offset in any::<u64>(),
        ) {
            let mut bytes = ALL[file].to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(header) = IndexHeader::parse(&bytes) {
                let page = bytes.get(..header.block_size()).unwrap_or(&bytes);
                for kind in [FileKind::Index, FileKind::Data] {
                    let _ = header.verify_page(kind, offset, page);
                    let _ = header.verify_page(kind, offset & !0xFFFF, page);
                }
            }
        }
    }
}
