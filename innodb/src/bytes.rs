//! Checked big-endian reads and writes at fixed offsets, and a fast test for zeros.

/// The big-endian `u16` at `offset`, or `None` where `bytes` is too short.
pub(crate) fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_be_bytes)
}

/// The big-endian `u32` at `offset`, or `None` where `bytes` is too short.
pub(crate) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_be_bytes)
}

/// The `N` bytes at `offset`, or `None` where `bytes` is too short.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Whether every byte is zero. Looks at the first bytes alone where these are not zero, else at
/// blocks long enough to be compared with vector instructions.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|block| block.iter().fold(0, |or, &byte| or | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_checked() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(be16(&bytes, 6), Some(0x0708));
        assert_eq!(be16(&bytes, 7), None);
        assert_eq!(be32(&bytes, 1), Some(0x0203_0405));
        assert_eq!(be32(&bytes, 5), None);
        assert_eq!(be32(&bytes, usize::MAX), None);
    }

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        let mut bytes = [0; 1000];
        assert!(is_zero(&bytes));
        assert!(is_zero(&[]));
        for at in [0, 255, 256, 767, 768, 999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
