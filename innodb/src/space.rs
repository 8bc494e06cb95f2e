//! Page 0 of a tablespace: its id, size, flags, and whether its pages may be encrypted.
//!
//! ```text
//! 0       38       42  46   50         54    58                  150 ...          188 + ...
//! | page  | space  |   |size|free limit|flags| lists of extents  | descriptors     | encryption |
//! | header| id     |   |    |          |     |                   | of extents      | metadata   |
//! ```
//!
//! Sources: `FSP_*` in `fsp0fsp.h`, `fil_space_read_crypt_data` in `fil0crypt.cc`; checked on
//! files of 10.11.

use crate::bytes::{array_at, is_zero};
use crate::flags::{FlagsError, PageSize, SpaceFlags};
use crate::lsn::SpaceId;
use crate::page::{HEADER_LEN, Page};
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// First part of the space header, after the page header.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FspHeader {
    space_id: U32,
    unused: U32,
    size: U32,
    free_limit: U32,
    flags: U32,
    fragment_pages_used: U32,
}
const _: () = assert!(size_of::<FspHeader>() == 24);

/// Encryption metadata in page 0, after its magic.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CryptHeader {
    magic: [u8; 6],
    scheme: u8,
    iv_len: u8,
    iv: [u8; 16],
    min_key_version: U32,
    key_id: U32,
    encryption: u8,
}
const _: () = assert!(size_of::<CryptHeader>() == 33);

const CRYPT_MAGIC: [u8; 6] = *b"s\x0e\x0cREt";

/// What page 0 says about its tablespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceHeader {
    space_id: SpaceId,
    size: u32,
    free_limit: u32,
    flags: SpaceFlags,
    encryption: Option<EncryptionMetadata>,
}

impl SpaceHeader {
    /// Reads the header from `page0`, the start of a data file (more than one page does no harm).
    /// Looks at the fields alone; [`page::verify`](crate::page::verify) checks the whole page.
    ///
    /// # Errors
    ///
    /// [`SpaceHeaderError::Zero`] for a page never written, [`SpaceHeaderError::TooShort`] for less
    /// than a page, else what is wrong with it.
    pub fn parse(page0: &[u8]) -> Result<Self, SpaceHeaderError> {
        let too_short = |needed| SpaceHeaderError::TooShort { len: page0.len(), needed };
        let page = Page::new(page0).ok_or(too_short(1024))?;
        let body = page0.get(HEADER_LEN..).unwrap_or_default();
        let (fsp, _) = FspHeader::ref_from_prefix(body).map_err(|_| too_short(1024))?;
        if is_zero(page0) {
            return Err(SpaceHeaderError::Zero);
        }
        let flags = SpaceFlags::parse(fsp.flags.get())?;
        let page_size = flags.page_size();
        let page0 = page0.get(..page_size.physical()).ok_or(too_short(page_size.physical()))?;
        if is_zero(page0) {
            return Err(SpaceHeaderError::Zero);
        }
        if page.page_no().0 != 0 {
            return Err(SpaceHeaderError::PageNo(page.page_no().0));
        }
        let (space_id, in_body) = (page.space_id(), SpaceId(fsp.space_id.get()));
        if space_id != in_body {
            return Err(SpaceHeaderError::SpaceIds { header: space_id, body: in_body });
        }
        if space_id.is_reserved() {
            return Err(SpaceHeaderError::ReservedSpaceId(space_id));
        }
        Ok(Self {
            space_id,
            size: fsp.size.get(),
            free_limit: fsp.free_limit.get(),
            flags,
            encryption: EncryptionMetadata::find(page0, page_size),
        })
    }

    /// The tablespace.
    pub fn space_id(&self) -> SpaceId {
        self.space_id
    }

    /// Pages of the tablespace, all files of the system tablespace together (`FSP_SIZE`). The
    /// file may be longer or, with small pages, a little shorter.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Pages from here on were never allocated (`FSP_FREE_LIMIT`).
    pub fn free_limit(&self) -> u32 {
        self.free_limit
    }

    /// Page size and format.
    pub fn flags(&self) -> SpaceFlags {
        self.flags
    }

    /// The encryption metadata, if there is any. It alone does not mean that pages are encrypted.
    pub fn encryption(&self) -> Option<&EncryptionMetadata> {
        self.encryption.as_ref()
    }
}

/// How pages of a tablespace are encrypted, if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptionMetadata {
    /// 0: no page is encrypted; 1: the only scheme.
    pub scheme: u8,
    /// From which the key of the tablespace is derived.
    pub iv: [u8; 16],
    /// No page is encrypted with an older version of the key.
    pub min_key_version: u32,
    /// The key in the key management.
    pub key_id: u32,
    /// 0: as `innodb_encrypt_tables` says, 1: `ENCRYPTED=YES`, 2: `ENCRYPTED=NO`.
    pub encryption: u8,
}

impl EncryptionMetadata {
    /// Where the metadata stands in page 0, in bytes: after the descriptors of all pages up to
    /// the next page of descriptors.
    pub fn offset(page_size: PageSize) -> usize {
        let extent_pages = usize::try_from(page_size.extent_pages()).unwrap_or(64);
        let descriptor_len = 24 + extent_pages / 4;
        188 + descriptor_len * page_size.physical() / extent_pages
    }

    /// How many bytes the metadata has in page 0.
    pub const LEN: usize = size_of::<CryptHeader>();

    /// Reads the metadata in `page0`, if there is any; looks at nothing else.
    pub fn find(page0: &[u8], page_size: PageSize) -> Option<Self> {
        let metadata = page0.get(Self::offset(page_size)..)?;
        if array_at(metadata, 0) != Some(CRYPT_MAGIC) {
            return None;
        }
        let (metadata, _) = CryptHeader::ref_from_prefix(metadata).ok()?;
        Some(Self {
            scheme: metadata.scheme,
            iv: metadata.iv,
            min_key_version: metadata.min_key_version.get(),
            key_id: metadata.key_id.get(),
            encryption: metadata.encryption,
        })
    }
}

/// A page 0 that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpaceHeaderError {
    /// Less than a page: the file is just being created, or was cut.
    #[error("first page has {len} bytes of {needed}")]
    TooShort {
        /// Bytes given.
        len: usize,
        /// Bytes of the page, or of the smallest page where the size is not known.
        needed: usize,
    },
    /// The first page was never written.
    #[error("first page is all zeros")]
    Zero,
    /// The flags are invalid.
    #[error(transparent)]
    Flags(#[from] FlagsError),
    /// It is some other page, or a later file of the system tablespace.
    #[error("first page is page {0}")]
    PageNo(u32),
    /// Page header and space header contradict each other.
    #[error("first page has two space ids: {header} and {body}")]
    SpaceIds {
        /// In the page header.
        header: SpaceId,
        /// In the space header.
        body: SpaceId,
    },
    /// Only the temporary tablespace may have such an id.
    #[error("space id {0} is reserved")]
    ReservedSpaceId(SpaceId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata;
    use proptest::prelude::*;

    #[test]
    fn headers_of_real_files() {
        let header = SpaceHeader::parse(&testdata::page("full_crc32/dynamic.0")).unwrap();
        assert_eq!(header.flags().raw(), 0x15);
        assert!(header.size() >= 5 && header.free_limit() <= header.size().max(64));
        assert_eq!(header.encryption(), None);

        let header = SpaceHeader::parse(&testdata::page("full_crc32/ibdata1.0")).unwrap();
        assert_eq!(header.space_id(), SpaceId::SYSTEM);

        let header = SpaceHeader::parse(&testdata::page("full_crc32/encrypted.0")).unwrap();
        let encryption = header.encryption().unwrap();
        assert_eq!((encryption.scheme, encryption.encryption), (1, 1));
        assert_eq!((encryption.key_id, encryption.min_key_version), (1, 1));
        assert_ne!(encryption.iv, [0; 16]);
    }

    #[test]
    fn metadata_offsets() {
        for (raw, offset) in [
            (0x13, 1596),
            (0x14, 3772),
            (0x15, 10428),
            (0x16, 20668),
            (0x17, 41148),
            (0xe3, 540),
            (0xe5, 892),
            (0x123, 636),
            (0x127, 1980),
            (0x23, 828),
            (0x25, 1468),
            (0x27, 2748),
            (0x29, 5308),
        ] {
            let page_size = SpaceFlags::parse(raw).unwrap().page_size();
            assert_eq!(EncryptionMetadata::offset(page_size), offset, "{raw:#x}");
        }
    }

    #[test]
    fn each_error() {
        let page = testdata::page("full_crc32/dynamic.0");
        let damaged = |at: usize, value: &[u8]| {
            let mut page = page.clone();
            page[at..at + value.len()].copy_from_slice(value);
            SpaceHeader::parse(&page)
        };
        let id = SpaceHeader::parse(&page).unwrap().space_id();
        assert_eq!(
            SpaceHeader::parse(&[]),
            Err(SpaceHeaderError::TooShort { len: 0, needed: 1024 })
        );
        assert_eq!(
            SpaceHeader::parse(&page[..61]),
            Err(SpaceHeaderError::TooShort { len: 61, needed: 1024 })
        );
        assert_eq!(
            SpaceHeader::parse(&page[..16383]),
            Err(SpaceHeaderError::TooShort { len: 16383, needed: 16384 })
        );
        assert_eq!(SpaceHeader::parse(&[0; 16384]), Err(SpaceHeaderError::Zero));
        assert_eq!(damaged(7, &[3]), Err(SpaceHeaderError::PageNo(3)));
        assert_eq!(
            damaged(54, &[0, 0, 1, 0x15]),
            Err(SpaceHeaderError::Flags(FlagsError::Reserved(0x115)))
        );
        assert_eq!(
            damaged(34, &[0, 1, 2, 3]),
            Err(SpaceHeaderError::SpaceIds { header: SpaceId(0x0001_0203), body: id })
        );
        assert_eq!(
            damaged(34, &[255, 255, 255, 254, 255, 255, 255, 254]),
            Err(SpaceHeaderError::ReservedSpaceId(SpaceId(0xffff_fffe)))
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = SpaceHeader::parse(&bytes);
        }

        #[test]
        fn never_panics_with_valid_flags(
            mut bytes in prop::collection::vec(any::<u8>(), 58..5000),
            flags in prop::sample::select(vec![0x13_u32, 0x15, 0x23, 0xe3, 0x29]),
        ) {
            bytes[54..58].copy_from_slice(&flags.to_be_bytes());
            let _ = SpaceHeader::parse(&bytes);
        }
    }
}
