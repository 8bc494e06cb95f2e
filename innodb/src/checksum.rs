//! The formulas of page checksums. Which of them must match where is decided in
//! [`page::verify`](crate::page::verify).
//!
//! ```text
//! full_crc32        4 last bytes        CRC-32C [0, P-4)
//! crc32             0..4 and P-8..P-4   CRC-32C [4, 26) xor CRC-32C [38, P-8)
//! crc32, zip        0..4                CRC-32C [4, 16) xor CRC-32C [24, 26) xor CRC-32C [34, Z)
//! innodb, new       0..4                fold [4, 26) + fold [38, P-8)
//! innodb, old       P-8..P-4            fold [0, 26)
//! innodb, zip       0..4                Adler-32 of [4, 16) [24, 26) [34, Z), started at 0
//! ```
//!
//! A page shorter than the fixed offsets has the checksum of its empty parts: no caller passes
//! one, and none can panic. Sources: `buf0checksum.cc`, `page0zip.cc`, `ut0rnd.h`.

/// Stored instead of a checksum where checksums are turned off (`BUF_NO_CHECKSUM_MAGIC`).
pub const NO_CHECKSUM: u32 = 0xDEAD_BEEF;

/// `full_crc32`: of `covered`, which is everything before the checksum itself.
#[inline]
pub fn full_crc32(covered: &[u8]) -> u32 {
    crc32c::crc32c(covered)
}

/// `crc32` of a page with a trailer.
#[inline]
pub fn crc32(page: &[u8]) -> u32 {
    crc32c::crc32c(header(page)) ^ crc32c::crc32c(body(page))
}

/// `crc32` of a `ROW_FORMAT=COMPRESSED` page.
#[inline]
pub fn crc32_row_compressed(page: &[u8]) -> u32 {
    row_compressed_parts(page).into_iter().fold(0, |crc, part| crc ^ crc32c::crc32c(part))
}

/// `innodb` of a page with a trailer, in its first 4 bytes. Slow: byte by byte.
pub fn innodb_new(page: &[u8]) -> u32 {
    fold(header(page)).wrapping_add(fold(body(page)))
}

/// `innodb` of a page with a trailer, 8 bytes before its end: covers the header with the checksum
/// in its first 4 bytes.
pub fn innodb_old(page: &[u8]) -> u32 {
    fold(page.get(..26).unwrap_or_default())
}

/// `innodb` of a `ROW_FORMAT=COMPRESSED` page: Adler-32, but started at 0 where the standard
/// starts at 1.
pub fn innodb_row_compressed(page: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    /// As many bytes as the sums can take before they overflow 32 bits.
    const BLOCK: usize = 5552;
    let (mut low, mut high) = (0_u32, 0_u32);
    for block in row_compressed_parts(page).into_iter().flat_map(|part| part.chunks(BLOCK)) {
        for &byte in block {
            low += u32::from(byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    high << 16 | low
}

/// What the header contributes: page number to page type.
fn header(page: &[u8]) -> &[u8] {
    page.get(4..26).unwrap_or_default()
}

/// What follows the header, up to the second checksum.
fn body(page: &[u8]) -> &[u8] {
    page.len().checked_sub(8).and_then(|end| page.get(38..end)).unwrap_or_default()
}

fn row_compressed_parts(page: &[u8]) -> [&[u8]; 3] {
    let part = |from, to| page.get(from..to).unwrap_or_default();
    [part(4, 16), part(24, 26), part(34, page.len())]
}

/// Low 32 bits of the old hash of byte strings. Its 64-bit sums carry nothing down from the upper
/// half, so 32 bits are enough.
fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |fold, &byte| {
        let byte = u32::from(byte);
        let mixed = ((fold ^ byte ^ 0x6294_6a4f) << 8).wrapping_add(fold);
        (mixed ^ 0x573e_d587).wrapping_add(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::be32;
    use crate::testdata;

    #[test]
    fn crc32_formulas_match_what_servers_stored() {
        for name in ["full_crc32/dynamic.5", "full_crc32/encrypted.4", "full_crc32_4k/compact.5"] {
            let page = testdata::page(name);
            let end = page.len() - 4;
            assert_eq!(Some(full_crc32(&page[..end])), be32(&page, end), "{name}");
        }
        for name in ["crc32/redundant.5", "crc32/compact_instant.3", "crc32_4k/dynamic.5"] {
            let page = testdata::page(name);
            assert_eq!(Some(crc32(&page)), be32(&page, 0), "{name}");
            assert_eq!(Some(crc32(&page)), be32(&page, page.len() - 8), "{name}");
        }
        for name in ["crc32/compressed1.4", "crc32/compressed8.4"] {
            let page = testdata::page(name);
            assert_eq!(Some(crc32_row_compressed(&page)), be32(&page, 0), "{name}");
        }
        let page = testdata::page("crc32/encrypted.4");
        assert_eq!(Some(crc32(&page)), be32(&page, 30));
        let page = testdata::page("crc32/encrypted_compressed4.4");
        assert_eq!(Some(crc32_row_compressed(&page)), be32(&page, 30));
    }

    /// Expected values: an independent implementation, on the same pages.
    #[test]
    fn old_formulas() {
        for (name, new, old) in [
            ("crc32/redundant.5", 0xe349_bab1, 0x89e3_9960),
            ("crc32_4k/dynamic.5", 0xef68_e53e, 0x1130_00d4),
            ("full_crc32/dynamic.5", 0xfc98_80e1, 0x27ce_7f6a),
        ] {
            let page = testdata::page(name);
            assert_eq!((innodb_new(&page), innodb_old(&page)), (new, old), "{name}");
        }
        assert_eq!(innodb_row_compressed(&testdata::page("crc32/compressed1.4")), 0x921f_4d87);
        assert_eq!(innodb_row_compressed(&testdata::page("crc32/compressed8.4")), 0xef51_495b);
        assert_eq!(innodb_row_compressed(&testdata::page("crc32/redundant.5")), 0x9875_1132);
    }

    #[test]
    fn short_input_is_harmless() {
        for len in [0, 3, 25, 33, 40, 45] {
            let page = vec![7; len];
            let _ = (crc32(&page), crc32_row_compressed(&page), innodb_new(&page));
            assert_eq!(innodb_old(&page) == 0, len < 26);
            assert_eq!(innodb_row_compressed(&page) == 0, len < 16);
        }
    }
}
