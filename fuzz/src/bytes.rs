//! Taking an input apart, and writing fields.

/// The first byte of an input, and the rest; 0 of an empty one.
pub fn first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (first, rest))
}

/// The first `N` bytes, filled up with zeros, and the rest.
pub fn take<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let (taken, rest) = data.split_at(data.len().min(N));
    let mut bytes = [0; N];
    put(&mut bytes, 0, taken);
    (bytes, rest)
}

/// A length, at most `most`, at the start of the input; that many bytes, and the rest.
pub fn piece(data: &[u8], most: usize) -> (&[u8], &[u8]) {
    let (len, rest) = take(data);
    rest.split_at(usize::from(u16::from_le_bytes(len)).min(most).min(rest.len()))
}

/// Writes `value` at `offset`, as far as there is room.
pub fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(offset).zip(value) {
        *to = *from;
    }
}
