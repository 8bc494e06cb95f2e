//! Tar archives in GNU's older format, as `BACKUP SERVER` writes them and `tar` reads them.
//!
//! ```text
//! a header of 512 bytes, the file's bytes, zeros up to a multiple of 512; and so on
//!   0 name 100 · 100 mode 8 · 124 size 12 · 136 time 12 · 148 checksum 8 · 156 kind 1
//!   257 "ustar  \0" · 386 four pieces of a sparse file · 482 whether more follow · 483 its length 12
//! kind L: the bytes are the name of the next file, where it has more than 100
//! kind S: the bytes are the pieces alone; each is an offset 12 and a length 12
//! at the end two headers of zeros, which BACKUP SERVER leaves out
//! ```
//!
//! Numbers are octal digits, or, with the highest bit set, big-endian.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub mod reader;

/// Bytes of a header, and of what everything is a multiple of.
pub const BLOCK: usize = 512;
/// Longest name that a header has room for.
const NAME_LEN: usize = 100;
/// The name under which a long name stands.
const LONG_LINK: &[u8] = b"././@LongLink";
/// Largest number of 11 octal digits.
const OCTAL_MAX: u64 = (1 << 33) - 1;
const KIND_AT: usize = 156;
const LONG_NAME: u8 = b'L';
const REGULAR: u8 = b'0';

/// The zeros that end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What comes before the `len` bytes of the file `path`: readable for its owner and group, changed
/// at `time` (seconds since 1970).
///
/// # Errors
///
/// `InvalidInput` for a name with a zero byte.
pub fn head(path: &Path, len: u64, time: u64) -> io::Result<Vec<u8>> {
    let name = path.as_os_str().as_bytes();
    if name.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::with_capacity(3 * BLOCK);
    if name.len() > NAME_LEN {
        let long = [name, &[0]].concat();
        bytes.extend(header(LONG_LINK, LONG_NAME, long.len() as u64, 0));
        bytes.extend_from_slice(&long);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend(header(name.get(..NAME_LEN).unwrap_or(name), REGULAR, len, time));
    Ok(bytes)
}

/// How many zeros follow `len` bytes.
pub fn padding(len: u64) -> usize {
    let over = usize::try_from(len % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

fn header(name: &[u8], kind: u8, len: u64, time: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, name);
    put(100, b"0000640\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, &number(len));
    put(136, &number(time));
    put(KIND_AT, &[kind]);
    put(257, b"ustar  \0");
    seal(&mut header);
    header
}

/// Sets the checksum of a header.
pub fn seal(header: &mut [u8; BLOCK]) {
    let digits = format!("{:06o}\0 ", checksum(header));
    for (to, from) in header.iter_mut().skip(148).zip(digits.bytes()) {
        *to = from;
    }
}

fn number(value: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    let digits = if value <= OCTAL_MAX {
        format!("{value:011o}\0").into_bytes()
    } else {
        [&[0x80, 0, 0, 0][..], &value.to_be_bytes()].concat()
    };
    for (to, from) in bytes.iter_mut().zip(digits) {
        *to = from;
    }
    bytes
}

/// Sum of a header's bytes, with blanks for the checksum itself.
fn checksum(header: &[u8; BLOCK]) -> u32 {
    let byte = |(at, byte): (usize, &u8)| {
        if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) }
    };
    header.iter().enumerate().map(byte).sum()
}

/// The number in a field of a header.
fn parse_number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let start = u64::from(first & 0x7f);
        let step = |value: u64, byte: &u8| value.checked_mul(256)?.checked_add(u64::from(*byte));
        return rest.iter().try_fold(start, step);
    }
    let text = field.trim_ascii_start();
    let digits = text.iter().take_while(|byte| !b" \0".contains(byte));
    digits.into_iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Whether `block` is the header of a file in an archive.
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    let stored = block.get(148..156).and_then(parse_number);
    stored == Some(u64::from(checksum(block))) && block.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size() {
        for value in [0, 1, 0o777, OCTAL_MAX, OCTAL_MAX + 1, 1 << 40, u64::MAX] {
            assert_eq!(parse_number(&number(value)), Some(value));
        }
        assert_eq!(&number(8), b"00000000010\0");
        assert_eq!(parse_number(b"  644 \0"), Some(0o644));
        assert_eq!(parse_number(b"8"), None);
        assert_eq!(parse_number(&[0xff; 12]), None);
    }

    #[test]
    fn long_names_stand_before_the_file() {
        let short = head(Path::new("d/t.ibd"), 5, 0).unwrap();
        assert_eq!(short.len(), BLOCK);
        assert!(short.starts_with(b"d/t.ibd\0") && is_header(short[..].try_into().unwrap()));
        let name = "x".repeat(600);
        let long = head(Path::new(&name), 5, 0).unwrap();
        assert_eq!(long.len(), 4 * BLOCK);
        assert!(long[BLOCK..].starts_with(name.as_bytes()));
        assert_eq!([0, 1, 512, u64::MAX].map(padding), [0, 511, 0, 1]);
    }
}
