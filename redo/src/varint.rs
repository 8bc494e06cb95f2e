//! Variable-length integers of the log: 1 to 5 bytes, big endian, no two encodings of one value.
//! Source: `mlog_decode_varint` in `mtr0log.h`.

const MIN_2: u32 = 1 << 7;
const MIN_3: u32 = MIN_2 + (1 << 14);
const MIN_4: u32 = MIN_3 + (1 << 21);
const MIN_5: u32 = MIN_4 + (1 << 28);

/// Why there is no integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadVarint {
    /// The bytes end within it.
    Short,
    /// The first byte is impossible, or the value exceeds 32 bits.
    Malformed,
}

/// Takes the integer at the start of `bytes`: its value and the bytes behind it.
#[inline]
pub(crate) fn take(bytes: &[u8]) -> Result<(u32, &[u8]), BadVarint> {
    match *bytes {
        [b0 @ ..=0x7f, ref rest @ ..] => Ok((b0.into(), rest)),
        [b0 @ ..=0xbf, b1, ref rest @ ..] => {
            Ok((MIN_2 + u32::from_be_bytes([0, 0, b0 & 0x3f, b1]), rest))
        }
        [b0 @ ..=0xdf, b1, b2, ref rest @ ..] => {
            Ok((MIN_3 + u32::from_be_bytes([0, b0 & 0x1f, b1, b2]), rest))
        }
        [b0 @ ..=0xef, b1, b2, b3, ref rest @ ..] => {
            Ok((MIN_4 + u32::from_be_bytes([b0 & 0x0f, b1, b2, b3]), rest))
        }
        [0xf0, b1, b2, b3, b4, ref rest @ ..] => {
            let above = u32::from_be_bytes([b1, b2, b3, b4]);
            Ok((MIN_5.checked_add(above).ok_or(BadVarint::Malformed)?, rest))
        }
        [0xf1..=0xff, ..] => Err(BadVarint::Malformed),
        _ => Err(BadVarint::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_boundary() {
        let cases: [(&[u8], u32); 13] = [
            (&[0x00], 0),
            (&[0x7f], 127),
            (&[0x80, 0x00], 128),
            (&[0xbf, 0xff], 16_511),
            (&[0xc0, 0x00, 0x00], 16_512),
            (&[0xdf, 0xff, 0xff], 2_113_663),
            (&[0xe0, 0x00, 0x00, 0x00], 2_113_664),
            (&[0xef, 0xff, 0xff, 0xff], 270_549_119),
            (&[0xf0, 0x00, 0x00, 0x00, 0x00], 270_549_120),
            (&[0xf0, 0xef, 0xdf, 0xbf, 0x7f], u32::MAX),
            (&[0x81, 0x02], 386),
            (&[0xc1, 0x02, 0x03], 82_563),
            (&[0xe1, 0x02, 0x03, 0x04], 19_022_724),
        ];
        for (bytes, value) in cases {
            assert_eq!(take(bytes), Ok((value, &[][..])), "{bytes:02x?}");
            let longer = [bytes, &[0xaa, 0x01]].concat();
            assert_eq!(take(&longer), Ok((value, &[0xaa, 0x01][..])), "{longer:02x?}");
            let (_, shorter) = bytes.split_last().unwrap();
            assert_eq!(take(shorter), Err(BadVarint::Short), "{shorter:02x?}");
        }
    }

    #[test]
    fn impossible_integers() {
        assert_eq!(take(&[0xf0, 0xef, 0xdf, 0xbf, 0x80]), Err(BadVarint::Malformed));
        assert_eq!(take(&[0xf1, 0, 0, 0, 0, 0]), Err(BadVarint::Malformed));
        assert_eq!(take(&[0xff]), Err(BadVarint::Malformed));
    }
}
