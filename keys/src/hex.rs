//! Keys in hexadecimal digits.

use innodb::encrypted::Key;
use zeroize::Zeroizing;

/// Longest key in bytes.
const MAX_KEY_LEN: usize = 32;

/// The key with exactly these digits: 32, 48 or 64 of them.
pub(crate) fn parse_key(digits: &[u8]) -> Option<Key> {
    let mut bytes = Zeroizing::new([0; MAX_KEY_LEN]);
    let (pairs, rest) = digits.as_chunks::<2>();
    let target = bytes.get_mut(..pairs.len()).filter(|_| rest.is_empty())?;
    for (byte, [high, low]) in target.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Key::new(target)
}

fn value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_keys() {
        for (digits, bits) in [
            ("770A8A65DA156D24EE2A093277530142", Some(128)),
            ("770a8a65da156d24ee2a09327753014200112233445566ff", Some(192)),
            ("770A8A65DA156D24EE2A09327753014", None),
            ("770A8A65DA156D24EE2A09327753014g", None),
            ("770A8A65DA156D24EE2A0932775301", None),
            ("", None),
        ] {
            assert_eq!(parse_key(digits.as_bytes()).map(|key| key.bits()), bits, "{digits}");
        }
        assert_eq!(parse_key(&[b'0'; 64]).map(|key| key.bits()), Some(256));
        assert!(parse_key(&[b'0'; 66]).is_none());
    }
}
