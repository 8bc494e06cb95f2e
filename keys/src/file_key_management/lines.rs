//! The text of a key file.
//!
//! ```text
//! # comment
//! 1;770A8A65DA156D24EE2A093277530142 anything
//! ```

use super::LineError;
use crate::hex;
use innodb::encrypted::Key;
use std::collections::BTreeMap;

/// All keys by their id; of two keys with one id the later counts. Blanks may precede an id,
/// anything may follow a key, and the text ends at the first NUL byte.
///
/// # Errors
///
/// Number and fault of the first line that is neither empty nor a comment nor a key.
pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<u32, Key>, (usize, LineError)> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut keys = BTreeMap::new();
    for (number, line) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
        if let Some((id, key)) = parse_line(line).map_err(|error| (number, error))? {
            keys.insert(id, key);
        }
    }
    Ok(keys)
}

/// `None` for lines without a key. `line` includes its end, if it has one: blanks up to the end of
/// the file are an error.
fn parse_line(line: &[u8]) -> Result<Option<(u32, Key)>, LineError> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c);
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let line = line.get(start..).unwrap_or_default();
    if matches!(line.first(), Some(b'#' | b'\n')) {
        return Ok(None);
    }
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, rest) = line.split_at_checked(digits).ok_or(LineError::Syntax)?;
    if id.is_empty() {
        return Err(LineError::Syntax);
    }
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    let id = id.filter(|&id| id != 0).ok_or(LineError::KeyId)?;
    let rest = rest.strip_prefix(b";").ok_or(LineError::Syntax)?;
    Ok(Some((id, parse_key(rest)?)))
}

fn parse_key(text: &[u8]) -> Result<Key, LineError> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    hex::parse_key(text.get(..digits).unwrap_or_default()).ok_or(LineError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "770A8A65DA156D24EE2A093277530142";

    fn ids_and_bits(text: &str) -> Result<Vec<(u32, u32)>, (usize, LineError)> {
        let keys = parse(text.as_bytes())?;
        Ok(keys.iter().map(|(&id, key)| (id, key.bits())).collect())
    }

    /// Tried on a server of 10.11, one by one: each is accepted.
    #[test]
    fn lines_that_the_server_takes() {
        for text in [
            format!("1;{KEY}"),
            format!("1;{KEY}\r\n"),
            format!("\r\n\n  \t# c\n1;{KEY} # rest ; x\n"),
            format!("1;{KEY}x"),
            format!("01;{}\n", KEY.to_lowercase()),
            format!("1;{KEY}\n\0garbage"),
        ] {
            assert_eq!(ids_and_bits(&text), Ok(vec![(1, 128)]), "{text:?}");
        }
        let text = format!("1;{KEY}\n4294967295;{KEY}{KEY}\n 2;{KEY}0011223344556677\n");
        let expected = vec![(1, 128), (2, 192), (u32::MAX, 256)];
        assert_eq!(ids_and_bits(&text), Ok(expected));
    }

    /// Tried on a server of 10.11, one by one: each is refused.
    #[test]
    fn lines_that_the_server_refuses() {
        use LineError::{Key, KeyId, Syntax};
        for (line, error) in [
            ("2;F0F1", Key),
            ("2; F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF", Key),
            ("2;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFFF", Key),
            ("2;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFE", Key),
            ("2;", Key),
            ("2 ;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF", Syntax),
            ("2", Syntax),
            ("xyz", Syntax),
            ("-2;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF", Syntax),
            ("0;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF", KeyId),
            ("4294967296;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF", KeyId),
            ("99999999999999999999;F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF", KeyId),
        ] {
            let text = format!("1;{KEY}\n{line}\n3;{KEY}\n");
            assert_eq!(ids_and_bits(&text), Err((2, error)), "{line}");
        }
        assert_eq!(ids_and_bits(&format!("1;{KEY}\n   ")), Err((2, Syntax)));
        assert_eq!(ids_and_bits(&format!("1;{KEY}{KEY}00")), Err((1, Key)));
    }

    #[test]
    fn later_keys_replace_earlier_ones() {
        let text = format!("1;{KEY}\n1;{KEY}{KEY}\n");
        assert_eq!(ids_and_bits(&text), Ok(vec![(1, 256)]));
    }

    #[test]
    fn no_lines() {
        assert_eq!(ids_and_bits(""), Ok(vec![]));
        assert_eq!(ids_and_bits("\n# nothing\n"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_on_likely_text(text in "[0-9a-f;# \\n\\r]{0,200}") {
            let _ = parse(text.as_bytes());
        }
    }
}
