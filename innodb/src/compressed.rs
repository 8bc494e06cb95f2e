//! Pages compressed as a whole (`PAGE_COMPRESSED=1`): from their form in the file to the page and
//! back.
//!
//! ```text
//! full_crc32:
//! 0        24          26                        n-5      n-4       n          P
//! | header |0x8000|n/256| stream, zeros          |(end)   | CRC-32C | zeros    |
//!
//! older:
//! 0          4      24      26                    34      38      40 / 42
//! |0xDEADBEEF|header| 34354 | algorithm           |space  | length| stream, zeros  |
//! |          |      | 37401 | key version, checksum |id   |       | algorithm, stream, zeros
//! ```
//!
//! In `full_crc32` files the flags name the algorithm, and n, a multiple of 256, includes the
//! padding. Streams of LZ4, LZO and snappy do not know their end: the byte `end` does, as the
//! low byte of the length that would have been enough. Type 37401 is for pages that are encrypted
//! too; they are decrypted first (see [`encrypted`](crate::encrypted)). A page that would not
//! become shorter is stored as it is, as are pages of extent descriptors and unused ones.
//!
//! Sources: `fil_page_compress_for_full_crc32`, `fil_page_decompress` in `fil0pagecompress.cc`;
//! checked on files of 10.11, all algorithms.

mod algorithm;

use crate::bytes::{array_at, be16};
use crate::checksum::NO_CHECKSUM;
use crate::flags::{PageCompression, SpaceFlags};
use crate::page::{HEADER_LEN, Page, PageError, PageType};

/// `full_crc32`: the header that stays as it is, with the length in place of the type.
const PLAIN_LEN: usize = 26;
/// The checksum after the stream.
const CHECKSUM_LEN: usize = 4;

/// Whether the page is stored compressed. In a `full_crc32` file it may still be encrypted, which
/// covers what [`decompress`] needs; likewise a page of type
/// [`PAGE_COMPRESSED_ENCRYPTED`](PageType::PAGE_COMPRESSED_ENCRYPTED).
pub fn is_compressed(page: &Page<'_>, flags: SpaceFlags) -> bool {
    let page_type = page.page_type();
    if flags.is_full_crc32() { page_type.is_compressed_length() } else { page_type.is_compressed() }
}

/// Decompresses a page that [`is_compressed`] into `out`, one logical page long. Its header must
/// then be that of the stored page; its checksum, in older files, is to be verified by the caller.
///
/// # Errors
///
/// [`PageError::CompressedLength`] or [`PageError::CompressedHeader`] if there is no stream to be
/// found, [`PageError::CompressedStream`] if it is damaged, [`PageError::PageNo`] or
/// [`PageError::CompressedHeader`] if another page was in it. `out` is undefined then.
pub fn decompress(page: &Page<'_>, flags: SpaceFlags, out: &mut [u8]) -> Result<(), PageError> {
    let stream = Stream::find(page, flags)?;
    let algorithm = stream.algorithm;
    if !algorithm::decompress(algorithm, stream.bytes, out) {
        return Err(PageError::CompressedStream { algorithm });
    }
    let inner = Page::new(out).ok_or(PageError::CompressedHeader)?;
    let (stored, expected) = (inner.page_no().0, page.page_no().0);
    if stored != expected {
        return Err(PageError::PageNo { stored, expected });
    }
    if inner.lsn() != page.lsn() || is_compressed(&inner, flags) {
        return Err(PageError::CompressedHeader);
    }
    Ok(())
}

/// What is compressed, and how.
pub(crate) struct Stream<'a> {
    algorithm: PageCompression,
    bytes: &'a [u8],
}

impl<'a> Stream<'a> {
    /// The stream of a plain compressed page.
    pub(crate) fn find(page: &Page<'a>, flags: SpaceFlags) -> Result<Self, PageError> {
        if flags.is_full_crc32() {
            let algorithm = flags.page_compression().ok_or(PageError::CompressedHeader)?;
            Self::full_crc32(page, algorithm)
        } else {
            Self::older(page).ok_or(PageError::CompressedHeader)
        }
    }

    fn full_crc32(page: &Page<'a>, algorithm: PageCompression) -> Result<Self, PageError> {
        let bytes = page.checksummed()?;
        let (bytes, _) = bytes.split_last_chunk::<CHECKSUM_LEN>().unwrap_or((bytes, &[0; 4]));
        let bytes = if knows_its_end(algorithm) {
            bytes
        } else {
            let (&end, _) = bytes.split_last().unwrap_or((&0, bytes));
            // Bytes of padding before and after, all in all less than 256.
            let padding = (256 - usize::from(end)) % 256;
            let len = bytes.len().checked_sub(1 + padding).ok_or(PageError::CompressedHeader)?;
            bytes.get(..len).unwrap_or_default()
        };
        let bytes = bytes.get(PLAIN_LEN..).ok_or(PageError::CompressedHeader)?;
        Ok(Self { algorithm, bytes })
    }

    /// `None` if the header contradicts itself.
    fn older(page: &Page<'a>) -> Option<Self> {
        let bytes = page.bytes();
        let (algorithm, start) = if page.page_type() == PageType::PAGE_COMPRESSED {
            (u64::from_be_bytes(array_at(bytes, 26)?), 40)
        } else {
            (be16(bytes, 40)?.into(), 42)
        };
        let algorithm = u32::try_from(algorithm).ok().and_then(PageCompression::numbered)?;
        let len = usize::from(be16(bytes, HEADER_LEN)?);
        let bytes = bytes.get(start..)?.get(..len)?;
        let valid = page.checksum_field() == NO_CHECKSUM && len != 0;
        valid.then_some(Self { algorithm, bytes })
    }
}

fn knows_its_end(algorithm: PageCompression) -> bool {
    use PageCompression::{Bzip2, Lzma, Zlib};
    matches!(algorithm, Zlib | Lzma | Bzip2)
}

/// Compresses `image`, a page of a `full_crc32` tablespace with these flags, in place, up to its
/// checksum: encryption and checksum follow. Returns the length n of the stored page, its checksum
/// included; the rest of `image` is zeros and may become a hole.
///
/// `None`, and `image` unchanged, if the page stays as it is: it would not become shorter, is of a
/// type that is never compressed, or the tablespace has no algorithm.
pub(crate) fn compress(image: &mut [u8], flags: SpaceFlags) -> Option<usize> {
    let algorithm = flags.page_compression().filter(|_| flags.is_full_crc32())?;
    let page_type = Page::new(image)?.page_type();
    let stays = matches!(page_type, PageType::ALLOCATED | PageType::FSP_HDR | PageType::XDES)
        || page_type.is_compressed_length();
    if stays {
        return None;
    }
    let stream = algorithm::compress(algorithm, image)?;
    let end_len = usize::from(!knows_its_end(algorithm));
    let enough = PLAIN_LEN + stream.len() + end_len + CHECKSUM_LEN;
    let len = enough.next_multiple_of(256);
    if len >= image.len() || !restores(algorithm, &stream, image) {
        return None;
    }
    let [.., end] = enough.to_be_bytes();
    let length = u16::try_from(len >> 8).ok()? | PageType::COMPRESSED_LENGTH;
    let (header, rest) = image.split_at_mut_checked(PLAIN_LEN)?;
    let (target, padding) = rest.split_at_mut_checked(stream.len())?;
    target.copy_from_slice(&stream);
    padding.fill(0);
    header.get_mut(24..)?.copy_from_slice(&length.to_be_bytes());
    if end_len != 0 {
        *image.get_mut(len - CHECKSUM_LEN - 1)? = end;
    }
    Some(len)
}

/// Nobody looks at a page again before the server needs it: a stream that does not give it back
/// is not written.
fn restores(algorithm: PageCompression, stream: &[u8], image: &[u8]) -> bool {
    let mut restored = vec![0; image.len()];
    algorithm::decompress(algorithm, stream, &mut restored) && restored == image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{ChecksumAlgorithm, SpaceContext, verify};
    use crate::space::SpaceHeader;
    use crate::testdata;
    use proptest::prelude::*;

    const FULL_CRC32_4K: u32 = 0x13;
    const OLDER_4K: u32 = 0x100e1;

    /// Page 5 of the table of each algorithm, with the CRC-32C of the page without bytes that say
    /// nothing (see [`crc`]). Expected values: an independent implementation.
    const PAGES: [(&str, u32, u32); 12] = [
        ("full_crc32_4k_keys/pc_zlib.5", 0x33, 0x93ef_4dc6),
        ("full_crc32_4k_keys/pc_lz4.5", 0x53, 0x7e19_b011),
        ("full_crc32_4k_keys/pc_lzo.5", 0x73, 0x982e_2520),
        ("full_crc32_4k_keys/pc_lzma.5", 0x93, 0x535e_aab7),
        ("full_crc32_4k_keys/pc_bzip2.5", 0xb3, 0x2603_ba83),
        ("full_crc32_4k_keys/pc_snappy.5", 0xd3, 0x1514_0576),
        ("crc32_4k_keys/pc_zlib.5", OLDER_4K, 0x6c79_9179),
        ("crc32_4k_keys/pc_lz4.5", OLDER_4K, 0x6891_cb1e),
        ("crc32_4k_keys/pc_lzo.5", OLDER_4K, 0x91ac_25cf),
        ("crc32_4k_keys/pc_lzma.5", OLDER_4K, 0xd2dc_dc67),
        ("crc32_4k_keys/pc_bzip2.5", OLDER_4K, 0xc8f1_0d3a),
        ("crc32_4k_keys/pc_snappy.5", OLDER_4K, 0x752f_d5dd),
    ];

    fn decompressed(bytes: &[u8], flags: u32) -> Result<Vec<u8>, PageError> {
        let flags = SpaceFlags::parse(flags).unwrap();
        let page = Page::new(bytes).unwrap();
        assert!(is_compressed(&page, flags));
        let mut out = vec![0xee; flags.page_size().logical()];
        decompress(&page, flags, &mut out).map(|()| out)
    }

    /// CRC-32C without the field of key version and the like.
    fn crc(mut page: Vec<u8>, flags: u32) -> u32 {
        let nothing = if flags & 0x10 != 0 { 0..4 } else { 26..34 };
        page[nothing].fill(0);
        crc32c::crc32c(&page)
    }

    #[test]
    fn pages_of_every_algorithm() {
        for (name, flags, expected) in PAGES {
            let page = decompressed(&testdata::page(name), flags).unwrap();
            assert_eq!(crc(page.clone(), flags), expected, "{name}");
            if flags == OLDER_4K {
                let header = SpaceHeader::parse(&testdata::page("crc32_4k_keys/enc_pc_zlib.0"));
                let context = SpaceContext::new(&header.unwrap(), ChecksumAlgorithm::StrictCrc32);
                assert_eq!(verify(&page, 5, &context), Ok(()), "{name}");
            }
        }
        let page = decompressed(&testdata::page("full_crc32/page_compressed.1"), 0x35).unwrap();
        assert_eq!(Page::new(&page).unwrap().page_type(), PageType::IBUF_BITMAP);
        let page = decompressed(&testdata::page("crc32/page_compressed.1"), 0x10021).unwrap();
        assert_eq!(Page::new(&page).unwrap().page_type(), PageType::IBUF_BITMAP);
    }

    #[test]
    fn damaged_streams() {
        for (name, raw, expected) in PAGES {
            let flags = SpaceFlags::parse(raw).unwrap();
            let page = testdata::page(name);
            let stream = Stream::find(&Page::new(&page).unwrap(), flags).unwrap();
            // The others have no checksum of their own.
            let checks = matches!(stream.algorithm, PageCompression::Zlib | PageCompression::Bzip2);
            let start = if flags.is_full_crc32() { 26 } else { 40 };
            for at in start..start + stream.bytes.len() {
                let mut damaged = page.clone();
                damaged[at] ^= 0x10;
                match decompressed(&damaged, raw) {
                    Ok(result) => assert!(!checks || crc(result, raw) == expected, "{name} {at}"),
                    Err(
                        PageError::CompressedStream { .. }
                        | PageError::CompressedHeader
                        | PageError::PageNo { .. },
                    ) => {}
                    Err(error) => panic!("{name} byte {at}: {error}"),
                }
            }
            if !flags.is_full_crc32() {
                let shorter = u16::try_from(stream.bytes.len() - 1).unwrap().to_be_bytes();
                let mut cut = page.clone();
                cut[38..40].copy_from_slice(&shorter);
                let error = PageError::CompressedStream { algorithm: stream.algorithm };
                assert_eq!(decompressed(&cut, raw), Err(error), "{name}");
            }
        }
    }

    #[test]
    fn another_page_inside_is_found() {
        for (name, flags, _) in PAGES {
            let mut page = testdata::page(name);
            page[7] = 6;
            let expected = Err(PageError::PageNo { stored: 5, expected: 6 });
            assert_eq!(decompressed(&page, flags), expected);
            page[7] = 5;
            page[20] ^= 1;
            assert_eq!(decompressed(&page, flags), Err(PageError::CompressedHeader));
        }
    }

    #[test]
    fn streams_of_another_length() {
        let page = testdata::page("full_crc32_4k_keys/pc_zlib.5");
        let flags = SpaceFlags::parse(0x33).unwrap();
        for len in [4095, 4097, 0] {
            let result = decompress(&Page::new(&page).unwrap(), flags, &mut vec![0; len]);
            assert!(matches!(result, Err(PageError::CompressedStream { .. })), "{len}");
        }
    }

    #[test]
    fn impossible_headers() {
        let mut page = testdata::page("full_crc32_4k_keys/pc_lz4.5");
        // No algorithm in the flags.
        assert_eq!(decompressed(&page, FULL_CRC32_4K), Err(PageError::CompressedHeader));
        page[25] = 0x10;
        assert_eq!(decompressed(&page, 0x53), Err(PageError::CompressedLength { len: 4096 }));
        // The end of the stream would be before its start.
        page[25] = 1;
        page[256 - 5] = 1;
        assert_eq!(decompressed(&page, 0x53), Err(PageError::CompressedHeader));
        let mut page = testdata::page("crc32_4k_keys/pc_lz4.5");
        page[33] = 7;
        assert_eq!(decompressed(&page, OLDER_4K), Err(PageError::CompressedHeader));
    }

    #[test]
    fn compressed_again() {
        for (name, raw, _) in PAGES.into_iter().filter(|page| page.1 != OLDER_4K) {
            let flags = SpaceFlags::parse(raw).unwrap();
            let image = decompressed(&testdata::page(name), raw).unwrap();
            let mut page = image.clone();
            let len = compress(&mut page, flags).unwrap();
            assert!(len.is_multiple_of(256) && len < 2048, "{name}: {len}");
            assert_eq!(page[..24], image[..24]);
            assert!(page[len..].iter().all(|&byte| byte == 0));
            assert_eq!(decompressed(&page, raw), Ok(image), "{name}");
        }
    }

    /// Random enough that nothing gets shorter.
    fn noise(at: usize) -> u8 {
        let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
    }

    #[test]
    fn pages_that_are_stored_as_they_are() {
        let unchanged = |page_type: u16, flags: u32, fill: fn(usize) -> u8| {
            let flags = SpaceFlags::parse(flags).unwrap();
            let mut page: Vec<u8> = (0..flags.page_size().logical()).map(fill).collect();
            page[24..26].copy_from_slice(&page_type.to_be_bytes());
            let before = page.clone();
            compress(&mut page, flags).is_none() && page == before
        };
        for (page_type, stays) in [(0, true), (8, true), (9, true), (0x8001, true), (6, false)] {
            assert_eq!(unchanged(page_type, 0x33, |_| 7), stays, "{page_type}");
        }
        assert!(unchanged(6, FULL_CRC32_4K, |_| 7));
        assert!(unchanged(6, OLDER_4K, |_| 7));
        for flags in [0x33, 0x53, 0x73, 0x93, 0xb3, 0xd3] {
            assert!(unchanged(6, flags, noise), "{flags:#x}");
        }
    }

    proptest! {
        #[test]
        fn compressed_pages_come_back(
            words in prop::collection::vec(any::<u64>(), 1..300),
            algorithm in 1_u32..=6,
            size in 3_u32..=7,
        ) {
            let flags = SpaceFlags::parse(algorithm << 5 | 0x10 | size).unwrap();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let len = flags.page_size().logical();
            let mut image: Vec<u8> = bytes.iter().copied().cycle().take(len).collect();
            image[24..26].copy_from_slice(&17855_u16.to_be_bytes());
            let mut page = image.clone();
            if compress(&mut page, flags).is_some() {
                prop_assert_eq!(decompressed(&page, flags.raw()), Ok(image));
            } else {
                prop_assert_eq!(page, image);
            }
        }

        #[test]
        fn never_panics(
            bytes in prop::collection::vec(any::<u8>(), 38..4096),
            older in any::<bool>(),
            algorithm in 1_u8..=6,
            magic in any::<bool>(),
        ) {
            let mut page = bytes;
            page.resize(4096, 0);
            let flags = if older {
                page[..4].copy_from_slice(&NO_CHECKSUM.to_be_bytes());
                page[24..26].copy_from_slice(&34354_u16.to_be_bytes());
                page[26..34].copy_from_slice(&u64::from(algorithm).to_be_bytes());
                page[38] = 0;
                OLDER_4K
            } else {
                page[24] = 0x80;
                page[25] &= 0xf;
                u32::from(algorithm) << 5 | FULL_CRC32_4K
            };
            // Past the first checks of the algorithms that have a magic number.
            let start = if older { 40 } else { 26 };
            if magic {
                let name = ["zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"][usize::from(algorithm) - 1];
                let real = testdata::page(&format!("full_crc32_4k_keys/pc_{name}.5"));
                page[start..start + 24].copy_from_slice(&real[26..50]);
            }
            let _ = decompressed(&page, flags);
        }
    }
}
