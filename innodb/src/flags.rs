//! Page size and row format of a tablespace: `FSP_SPACE_FLAGS`, u32 at byte 54 of page 0.
//!
//! Two layouts exist, told apart by bit 4. It marks `full_crc32` files, the default since 10.5:
//!
//! ```text
//! 31           8 7        5 4 3        0      full_crc32
//! | 0            | algorithm |1| page size |  page size: 512 << n, n = 3..7
//!
//! 31   17 16         15   11 10   9        6 5            4   1 0
//! | 0    | page      | 0    | any | page size | ATOMIC_BLOBS | zip | POST_ANTELOPE |   older
//!        compressed                 (0: 16k)                 size
//! ```
//!
//! Sources: `fsp0types.h`, `fil_space_t::is_valid_flags` in `fil0fil.h`; checked on 10.11.

use std::fmt;

/// Smallest and largest `innodb_page_size` as shifts: 4 KiB and 64 KiB.
const PAGE_SHIFTS: std::ops::RangeInclusive<u32> = 12..=16;
/// The page size that a zero in the older layout stands for: 16 KiB.
const DEFAULT_SHIFT: u32 = 14;

const FULL_CRC32_MARKER: u32 = 1 << 4;
const POST_ANTELOPE: u32 = 1;
const ATOMIC_BLOBS: u32 = 1 << 5;
const PAGE_COMPRESSED: u32 = 1 << 16;
/// Older layout: bits that must be 0. Bit 10 was `DATA_DIR` in old versions and means nothing now.
const RESERVED: u32 = !0x1_ffff | 0b1_1111 << 11;

/// The flags of a tablespace, known to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpaceFlags(u32);

impl SpaceFlags {
    /// Flags of a `full_crc32` tablespace of uncompressed pages.
    pub fn full_crc32(page_size: PageSize) -> Self {
        Self(FULL_CRC32_MARKER | (u32::from(page_size.logical_shift) - 9))
    }

    /// Takes the stored value. Whether the page size is that of the instance, as it must be, is
    /// for the caller to compare.
    ///
    /// # Errors
    ///
    /// A [`FlagsError`] for every value that no supported server writes, which includes the
    /// misplaced bits of page-compressed tables made by 10.1.0 to 10.1.20.
    pub fn parse(raw: u32) -> Result<Self, FlagsError> {
        let flags = Self(raw);
        if flags.is_full_crc32() {
            if raw >> 8 != 0 {
                return Err(FlagsError::Reserved(raw));
            }
            if raw >> 5 > PageCompression::Snappy as u32 {
                return Err(FlagsError::CompressionAlgorithm(raw));
            }
            if !(3..=7).contains(&(raw & 15)) {
                return Err(FlagsError::PageSize(raw));
            }
            return Ok(flags);
        }
        if raw & RESERVED != 0 {
            return Err(FlagsError::Reserved(raw));
        }
        if raw & ATOMIC_BLOBS != 0 && raw & POST_ANTELOPE == 0 {
            return Err(FlagsError::RowFormat(raw));
        }
        if !matches!(raw >> 6 & 15, 0 | 3 | 4 | 6 | 7) {
            return Err(FlagsError::PageSize(raw));
        }
        if flags.zip_code() != 0 {
            if raw & ATOMIC_BLOBS == 0 {
                return Err(FlagsError::RowFormat(raw));
            }
            if flags.logical_shift() > DEFAULT_SHIFT || flags.zip_code() + 9 > flags.logical_shift()
            {
                return Err(FlagsError::KeyBlockSize(raw));
            }
        }
        Ok(flags)
    }

    /// The value as stored.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// Whether pages carry one CRC-32C over the whole page in their last 4 bytes.
    pub fn is_full_crc32(self) -> bool {
        self.0 & FULL_CRC32_MARKER != 0
    }

    /// The size of the pages in the file and in the buffer pool.
    pub fn page_size(self) -> PageSize {
        let logical = self.logical_shift();
        let zip = if self.is_full_crc32() { 0 } else { self.zip_code() };
        let physical = if zip == 0 { logical } else { zip + 9 };
        PageSize::from_shifts(logical, physical)
    }

    /// Whether the table is `ROW_FORMAT=COMPRESSED`: pages without a trailer, of
    /// `KEY_BLOCK_SIZE`, which may equal the page size of the instance.
    pub fn is_row_compressed(self) -> bool {
        !self.is_full_crc32() && self.zip_code() != 0
    }

    /// How pages may be compressed as a whole (`PAGE_COMPRESSED=1`), if at all.
    pub fn page_compression(self) -> Option<PageCompression> {
        if !self.is_full_crc32() {
            return (self.0 & PAGE_COMPRESSED != 0).then_some(PageCompression::NamedInPage);
        }
        PageCompression::numbered(self.0 >> 5)
    }

    /// `KEY_BLOCK_SIZE` as a power of two times 512; 0 for none. Of the older layout only.
    fn zip_code(self) -> u32 {
        self.0 >> 1 & 15
    }

    fn logical_shift(self) -> u32 {
        let code = if self.is_full_crc32() { self.0 & 15 } else { self.0 >> 6 & 15 };
        if code == 0 { DEFAULT_SHIFT } else { code + 9 }
    }
}

/// The algorithm of a `PAGE_COMPRESSED` tablespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum PageCompression {
    /// The file predates `full_crc32`: every compressed page names its own algorithm.
    NamedInPage = 0,
    /// A zlib stream.
    Zlib = 1,
    /// A raw LZ4 block.
    Lz4 = 2,
    /// An LZO1X block.
    Lzo = 3,
    /// An .xz container.
    Lzma = 4,
    /// A bzip2 stream.
    Bzip2 = 5,
    /// A raw snappy block.
    Snappy = 6,
}

impl PageCompression {
    /// The algorithm with this number in flags and pages, `None` for 0 and unknown numbers.
    pub(crate) fn numbered(number: u32) -> Option<Self> {
        let known = [Self::Zlib, Self::Lz4, Self::Lzo, Self::Lzma, Self::Bzip2, Self::Snappy];
        known.into_iter().find(|&algorithm| algorithm as u32 == number)
    }
}

impl fmt::Display for PageCompression {
    /// The name as in `innodb_compression_algorithm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NamedInPage => "an algorithm named in each page",
            Self::Zlib => "zlib",
            Self::Lz4 => "lz4",
            Self::Lzo => "lzo",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Snappy => "snappy",
        })
    }
}

/// Sizes of a tablespace's pages, both powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageSize {
    logical_shift: u8,
    physical_shift: u8,
}

impl PageSize {
    /// 16 KiB, the default of `innodb_page_size`.
    pub const DEFAULT: Self = Self { logical_shift: 14, physical_shift: 14 };

    /// The page size `bytes` of an instance, or `None` if that is not 4, 8, 16, 32 or 64 KiB.
    pub fn uncompressed(bytes: usize) -> Option<Self> {
        let shift = bytes.checked_ilog2()?;
        (bytes.is_power_of_two() && PAGE_SHIFTS.contains(&shift))
            .then(|| Self::from_shifts(shift, shift))
    }

    fn from_shifts(logical: u32, physical: u32) -> Self {
        let narrow = |shift| u8::try_from(shift).expect("callers pass 9 to 24");
        Self { logical_shift: narrow(logical), physical_shift: narrow(physical) }
    }

    /// Bytes of a page in the buffer pool: `innodb_page_size`, 4 KiB to 64 KiB.
    pub fn logical(self) -> usize {
        1 << self.logical_shift
    }

    /// Bytes of a page in the file: `KEY_BLOCK_SIZE` for `ROW_FORMAT=COMPRESSED`, 1 KiB to
    /// 64 KiB; else as [`logical`](Self::logical).
    pub fn physical(self) -> usize {
        1 << self.physical_shift
    }

    /// Pages of an extent (`FSP_EXTENT_SIZE`): 1 MiB worth of logical pages, at least 64 pages.
    pub fn extent_pages(self) -> u32 {
        1 << 20_u32.saturating_sub(self.logical_shift.into()).max(6)
    }

    /// Byte offset of page `page_no` in a file that starts with page 0.
    pub fn offset(self, page_no: u32) -> u64 {
        u64::from(page_no) << self.physical_shift
    }

    /// How many whole pages `len` bytes hold, as far as page numbers (32 bits) can count them.
    pub fn pages_in(self, len: u64) -> u32 {
        u32::try_from(len >> self.physical_shift).unwrap_or(u32::MAX)
    }
}

/// Flags that no supported server writes; the value is in each variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// Bits are set that must be 0.
    #[error("tablespace flags {0:#x} have unknown bits set")]
    Reserved(u32),
    /// The page size code stands for none.
    #[error("tablespace flags {0:#x} name no page size")]
    PageSize(u32),
    /// `full_crc32`: the number of the compression algorithm is unknown.
    #[error("tablespace flags {0:#x} name an unknown page compression algorithm")]
    CompressionAlgorithm(u32),
    /// The row format bits contradict each other.
    #[error("tablespace flags {0:#x} have contradicting row format bits")]
    RowFormat(u32),
    /// `KEY_BLOCK_SIZE` exceeds the page size, or the page size allows none.
    #[error("tablespace flags {0:#x} have a KEY_BLOCK_SIZE that does not fit the page size")]
    KeyBlockSize(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// raw, `full_crc32`, logical, physical, compressed rows, page compression; all but the last
    /// of files of 10.11.
    type Valid = (u32, bool, usize, usize, bool, Option<PageCompression>);

    #[test]
    fn known_flags() {
        let valid: &[Valid] = &[
            (0x13, true, 4096, 4096, false, None),
            (0x14, true, 8192, 8192, false, None),
            (0x15, true, 16384, 16384, false, None),
            (0x16, true, 32768, 32768, false, None),
            (0x17, true, 65536, 65536, false, None),
            (0x35, true, 16384, 16384, false, Some(PageCompression::Zlib)),
            (0x55, true, 16384, 16384, false, Some(PageCompression::Lz4)),
            (0x75, true, 16384, 16384, false, Some(PageCompression::Lzo)),
            (0x95, true, 16384, 16384, false, Some(PageCompression::Lzma)),
            (0xb5, true, 16384, 16384, false, Some(PageCompression::Bzip2)),
            (0xd5, true, 16384, 16384, false, Some(PageCompression::Snappy)),
            (0, false, 16384, 16384, false, None),
            (0x21, false, 16384, 16384, false, None),
            (0x23, false, 16384, 1024, true, None),
            (0x25, false, 16384, 2048, true, None),
            (0x27, false, 16384, 4096, true, None),
            (0x29, false, 16384, 8192, true, None),
            (0x2b, false, 16384, 16384, true, None),
            (0xe3, false, 4096, 1024, true, None),
            (0xe7, false, 4096, 4096, true, None),
            (0x1e1, false, 65536, 65536, false, None),
            (0x10021, false, 16384, 16384, false, Some(PageCompression::NamedInPage)),
            (0x421, false, 16384, 16384, false, None),
        ];
        for &(raw, full_crc32, logical, physical, zip, compression) in valid {
            let flags = SpaceFlags::parse(raw).unwrap();
            let size = flags.page_size();
            assert_eq!(flags.raw(), raw);
            assert_eq!(flags.is_full_crc32(), full_crc32, "{raw:#x}");
            assert_eq!((size.logical(), size.physical()), (logical, physical), "{raw:#x}");
            assert_eq!(flags.is_row_compressed(), zip, "{raw:#x}");
            assert_eq!(flags.page_compression(), compression, "{raw:#x}");
        }
    }

    #[test]
    fn each_error() {
        for (raw, error) in [
            (0x115, FlagsError::Reserved(0x115)),
            (0xf5, FlagsError::CompressionAlgorithm(0xf5)),
            (0x12, FlagsError::PageSize(0x12)),
            (0x18, FlagsError::PageSize(0x18)),
            (0x2_0021, FlagsError::Reserved(0x2_0021)),
            (0x821, FlagsError::Reserved(0x821)),
            (0x20, FlagsError::RowFormat(0x20)),
            (0x61, FlagsError::PageSize(0x61)),
            (0x161, FlagsError::PageSize(0x161)),
            (0x221, FlagsError::PageSize(0x221)),
            (0x9, FlagsError::RowFormat(0x9)),
            (0x2d, FlagsError::KeyBlockSize(0x2d)),
            (0xe9, FlagsError::KeyBlockSize(0xe9)),
            (0x1a3, FlagsError::KeyBlockSize(0x1a3)),
            (u32::MAX, FlagsError::Reserved(u32::MAX)),
        ] {
            assert_eq!(SpaceFlags::parse(raw), Err(error), "{raw:#x}");
        }
    }

    #[test]
    fn sizes() {
        let extents: Vec<_> = [4096, 8192, 16384, 32768, 65536]
            .map(|bytes| PageSize::uncompressed(bytes).unwrap().extent_pages())
            .into();
        assert_eq!(extents, [256, 128, 64, 64, 64]);
        for bytes in [0, 1, 512, 2048, 5000, 131_072, usize::MAX] {
            assert_eq!(PageSize::uncompressed(bytes), None, "{bytes}");
        }
        let zip = SpaceFlags::parse(0xe3).unwrap().page_size();
        assert_eq!((zip.extent_pages(), zip.offset(5), zip.pages_in(5119)), (256, 5120, 4));
        assert_eq!(PageSize::DEFAULT, PageSize::uncompressed(16384).unwrap());
        assert_eq!(PageSize::DEFAULT.pages_in(u64::MAX), u32::MAX);
        assert_eq!(SpaceFlags::full_crc32(PageSize::DEFAULT).raw(), 0x15);
    }

    proptest! {
        #[test]
        fn valid_flags_have_possible_sizes(raw in any::<u32>(), low in 0_u32..0x2_0000) {
            for raw in [raw, low] {
                if let Ok(flags) = SpaceFlags::parse(raw) {
                    let size = flags.page_size();
                    prop_assert!((4096..=65536).contains(&size.logical()));
                    prop_assert!((1024..=size.logical()).contains(&size.physical()));
                }
            }
        }
    }
}
