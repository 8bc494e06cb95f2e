//! One page: its header, whether it is intact ([`verify`]), how it is made ready for writing
//! ([`seal`]), and both for encrypted and compressed pages too ([`PageCodec`]).
//!
//! ```text
//! 0         4       8    12   16   24    26          34     38           P-8         P-4     P
//! |checksum |page no|prev|next|LSN |type |flush LSN  |space |  contents  |checksum   |LSN low|
//! |key vers.|       |    |    |    |     |(key vers.)|id    |            |LSN low    |CRC    |
//! ```
//!
//! First line: files older than `full_crc32`; second line: what differs with it.
//! `ROW_FORMAT=COMPRESSED` pages have no trailer: contents go on to the end.
//! Source: `FIL_PAGE_*` in `fil0types.h`; checked on files of 10.11.

mod algorithm;
mod codec;
mod seal;
mod verify;

pub use algorithm::{ChecksumAlgorithm, UnknownAlgorithm};
pub use codec::{CodecError, Decoded, PageCodec};
pub use seal::{seal, set_flush_lsn};
pub use verify::{SpaceContext, verify};

use crate::bytes::is_zero;
use crate::flags::{PageCompression, SpaceFlags};
use crate::lsn::{Lsn, PageNo, SpaceId};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the page header; the contents follow (`FIL_PAGE_DATA`).
pub const HEADER_LEN: usize = size_of::<FilHeader>();

/// `prev` or `next` of a page that has none (`FIL_NULL`).
const NONE: u32 = u32::MAX;

/// First 38 bytes of a page.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FilHeader {
    /// `full_crc32` files: encryption key version, 0 if none. Older files: the page checksum.
    key_version_or_checksum: U32,
    page_no: U32,
    prev: U32,
    next: U32,
    /// End LSN of the newest mini-transaction applied to the page.
    lsn: U64,
    page_type: U16,
    /// Older files: encryption key version and checksum, or a value that means nothing any more.
    key_version: U32,
    encrypted_checksum: U32,
    space_id: U32,
}
const _: () = assert!(size_of::<FilHeader>() == 38);

/// A view of a page in its physical form, that is, as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    header: &'a FilHeader,
    bytes: &'a [u8],
}

impl<'a> Page<'a> {
    /// A view of `bytes`, or `None` where there is not even a whole header.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = FilHeader::ref_from_prefix(bytes).ok()?;
        Some(Self { header, bytes })
    }

    /// All bytes of the page.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the page is nothing but zeros: allocated and never written, or wiped after it was
    /// freed.
    pub fn is_zero(&self) -> bool {
        is_zero(self.bytes)
    }

    /// The number of the page, by its own account.
    pub fn page_no(&self) -> PageNo {
        PageNo(self.header.page_no.get())
    }

    /// End LSN of the newest mini-transaction applied to the page. Never encrypted.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.header.lsn.get())
    }

    /// What the page holds. In a `full_crc32` file, see [`PageType::is_compressed_length`] first.
    pub fn page_type(&self) -> PageType {
        PageType(self.header.page_type.get())
    }

    /// The tablespace, by the page's account. Meaningless for encrypted or compressed pages of
    /// `full_crc32` files.
    pub fn space_id(&self) -> SpaceId {
        SpaceId(self.header.space_id.get())
    }

    /// On page 0 of the system tablespace of 10.5 to 10.7, in place of the fields about keys: up
    /// to which LSN all pages are (`FIL_PAGE_FILE_FLUSH_LSN`).
    pub fn flush_lsn(&self) -> Lsn {
        let (high, low) = (self.header.key_version.get(), self.header.encrypted_checksum.get());
        Lsn(u64::from(high) << 32 | u64::from(low))
    }

    /// The version of the key with which the page is encrypted, 0 if it is not. Pages that are
    /// never encrypted may have anything there.
    pub(crate) fn key_version(&self, flags: SpaceFlags) -> u32 {
        let header = self.header;
        let field =
            if flags.is_full_crc32() { header.key_version_or_checksum } else { header.key_version };
        field.get()
    }

    /// First 4 bytes: the checksum in files older than `full_crc32`, else the key version.
    pub(crate) fn checksum_field(&self) -> u32 {
        self.header.key_version_or_checksum.get()
    }

    /// `full_crc32`: what the checksum covers, and the checksum: the page up to the end of what
    /// is compressed, or all of it.
    pub(crate) fn checksummed(&self) -> Result<&'a [u8], PageError> {
        let page_type = self.page_type();
        if !page_type.is_compressed_length() {
            return Ok(self.bytes);
        }
        let len = page_type.compressed_len();
        // Shorter than header and checksum: only 0, since it is a multiple of 256.
        let part = self.bytes.get(..len).filter(|part| !part.is_empty() && len < self.bytes.len());
        part.ok_or(PageError::CompressedLength { len })
    }

    /// The page to the left on the same level of a B-tree.
    pub fn prev(&self) -> Option<PageNo> {
        link(self.header.prev)
    }

    /// The page to the right on the same level of a B-tree, or the next of a chain.
    pub fn next(&self) -> Option<PageNo> {
        link(self.header.next)
    }
}

fn link(stored: U32) -> Option<PageNo> {
    (stored.get() != NONE).then(|| PageNo(stored.get()))
}

/// What a page holds (`FIL_PAGE_TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageType(pub u16);

impl PageType {
    /// Allocated; contents undefined.
    pub const ALLOCATED: Self = Self(0);
    /// Undo log.
    pub const UNDO_LOG: Self = Self(2);
    /// File segment inodes.
    pub const INODE: Self = Self(3);
    /// Free list of the change buffer.
    pub const IBUF_FREE_LIST: Self = Self(4);
    /// Change buffer bitmap.
    pub const IBUF_BITMAP: Self = Self(5);
    /// Rollback segment headers, dictionary header and the like.
    pub const SYS: Self = Self(6);
    /// Transaction system header: page 5 of the system tablespace.
    pub const TRX_SYS: Self = Self(7);
    /// Space header: page 0.
    pub const FSP_HDR: Self = Self(8);
    /// Extent descriptors.
    pub const XDES: Self = Self(9);
    /// Part of a long column.
    pub const BLOB: Self = Self(10);
    /// First page of a compressed long column.
    pub const ZBLOB: Self = Self(11);
    /// Further page of a compressed long column.
    pub const ZBLOB2: Self = Self(12);
    /// None of the others: written over garbage in files of very old versions.
    pub const UNKNOWN: Self = Self(13);
    /// Root of a clustered index with instantly changed columns.
    pub const INSTANT: Self = Self(18);
    /// R-tree of a spatial index.
    pub const RTREE: Self = Self(17854);
    /// B-tree.
    pub const INDEX: Self = Self(17855);
    /// Compressed as a whole, in a file older than `full_crc32`.
    pub const PAGE_COMPRESSED: Self = Self(34354);
    /// The same and then encrypted.
    pub const PAGE_COMPRESSED_ENCRYPTED: Self = Self(37401);

    /// In a `full_crc32` file: marks a length in place of a type.
    pub(crate) const COMPRESSED_LENGTH: u16 = 0x8000;

    /// In a file older than `full_crc32`: whether the page is compressed as a whole, possibly
    /// encrypted too.
    pub fn is_compressed(self) -> bool {
        matches!(self, Self::PAGE_COMPRESSED | Self::PAGE_COMPRESSED_ENCRYPTED)
    }

    /// In a `full_crc32` file: whether the field is not a type but the length of the page after
    /// it was compressed as a whole.
    pub fn is_compressed_length(self) -> bool {
        self.0 & Self::COMPRESSED_LENGTH != 0
    }

    /// The length meant by [`is_compressed_length`](Self::is_compressed_length), in bytes: a
    /// multiple of 256 that includes the header and the checksum.
    fn compressed_len(self) -> usize {
        usize::from(self.0 & !Self::COMPRESSED_LENGTH) << 8
    }
}

/// Why a page cannot be used, or not be judged; `stored` is what the page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Not as many bytes as a page of the tablespace has.
    #[error("{len} bytes are not a page of {expected} bytes")]
    Length {
        /// Bytes given.
        len: usize,
        /// Bytes of a page in the file.
        expected: usize,
    },
    /// The page belongs to another place of the file.
    #[error("page number {stored} found where page {expected} belongs")]
    PageNo {
        /// Stored number.
        stored: u32,
        /// Number by position.
        expected: u32,
    },
    /// The page belongs to another tablespace.
    #[error("space id {stored} found in tablespace {expected}")]
    SpaceId {
        /// Stored id.
        stored: u32,
        /// The tablespace's id.
        expected: u32,
    },
    /// `full_crc32`: the page claims a compressed length that is no less than its size, or 0.
    #[error("impossible length {len} of a compressed page")]
    CompressedLength {
        /// Claimed length in bytes.
        len: usize,
    },
    /// The bytes are not those the checksum was computed of.
    #[error("checksum {stored:#010x} does not match {computed:#010x}")]
    Checksum {
        /// Stored checksum, the first where there are two.
        stored: u32,
        /// What the preferred formula gives.
        computed: u32,
    },
    /// Header and trailer stem from different writes.
    #[error("LSN ends in {header:#010x} in the header, {trailer:#010x} in the trailer")]
    Lsn {
        /// Low half of the LSN in the header.
        header: u32,
        /// Its repetition at the end of the page.
        trailer: u32,
    },
    /// The header of a page compressed as a whole contradicts itself, or what was compressed.
    #[error("invalid header of a compressed page")]
    CompressedHeader,
    /// What is compressed cannot be decompressed, or not to the size of a page.
    #[error("the page cannot be decompressed ({algorithm})")]
    CompressedStream {
        /// How it is compressed.
        algorithm: PageCompression,
    },
    /// Not judged: the checksum is inside of what is compressed.
    #[error("the page must be decompressed before it can be verified")]
    NeedsDecompression,
    /// Not judged: the checksum is inside of what is encrypted.
    #[error("the page must be decrypted before it can be verified")]
    NeedsDecryption,
}

impl PageError {
    /// Whether the page was not judged, rather than found damaged.
    pub fn is_undecided(self) -> bool {
        matches!(self, Self::NeedsDecompression | Self::NeedsDecryption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata;

    #[test]
    fn header_of_a_real_page() {
        let bytes = testdata::page("full_crc32/dynamic.5");
        let page = Page::new(&bytes).unwrap();
        assert_eq!((page.page_no(), page.space_id()), (PageNo(5), SpaceId(7)));
        assert_eq!(page.lsn(), Lsn(10_773_290));
        assert_eq!(page.page_type(), PageType::INDEX);
        assert_eq!((page.prev(), page.next()), (None, Some(PageNo(32))));
        assert!(!page.is_zero());
        assert_eq!(page.bytes(), &bytes[..]);
    }

    #[test]
    fn page_needs_a_header() {
        assert!(Page::new(&[0; 37]).is_none());
        assert!(Page::new(&[0; 38]).unwrap().is_zero());
    }

    #[test]
    fn compressed_length_in_place_of_the_type() {
        assert!(!PageType::INDEX.is_compressed_length());
        let bytes = testdata::page("full_crc32/page_compressed.1");
        let page_type = Page::new(&bytes).unwrap().page_type();
        assert!(page_type.is_compressed_length());
        assert_eq!(page_type.compressed_len(), 256);
    }
}
