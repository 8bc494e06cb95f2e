//! A file that can only be written from start to end: pieces of equal length, zeros for holes.

use std::io;

/// Turns what is written to a file into pieces that follow each other.
#[derive(Debug)]
pub struct Sequence {
    piece_len: usize,
    /// Bytes in the pieces so far.
    sent: u64,
    /// Those that follow.
    buffer: Vec<u8>,
}

/// Takes a piece and its place in the file.
pub type Send<'a> = &'a mut dyn FnMut(u64, &[u8]) -> io::Result<()>;

impl Sequence {
    /// Pieces of `piece_len` bytes, but for the last one.
    pub fn new(piece_len: usize) -> Self {
        Self { piece_len: piece_len.max(1), sent: 0, buffer: Vec::new() }
    }

    /// Adds `bytes` at `offset`, which is not before what was added.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is; those of `send`.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8], send: Send<'_>) -> io::Result<()> {
        self.fill(offset, send)?;
        self.append(bytes, send)
    }

    /// Ends the file, which has `len` bytes. The last piece may be empty.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn end(&mut self, len: u64, send: Send<'_>) -> io::Result<()> {
        self.fill(len, send)?;
        send(self.sent, &self.buffer)?;
        self.sent += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8], send: Send<'_>) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.buffer.is_empty() && bytes.len() >= self.piece_len {
                let (piece, rest) = bytes.split_at(self.piece_len);
                send(self.sent, piece)?;
                self.sent += piece.len() as u64;
                bytes = rest;
                continue;
            }
            let room = self.piece_len.saturating_sub(self.buffer.len());
            let (some, rest) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(some);
            bytes = rest;
            if self.buffer.len() == self.piece_len {
                send(self.sent, &self.buffer)?;
                self.sent += self.buffer.len() as u64;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// Adds zeros up to byte `end`.
    fn fill(&mut self, end: u64, send: Send<'_>) -> io::Result<()> {
        let zeros = [0; 16 << 10];
        loop {
            let at = self.sent + self.buffer.len() as u64;
            let Some(missing) = end.checked_sub(at) else {
                let text = format!("byte {end} comes after byte {at}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            let len = usize::try_from(missing).unwrap_or(usize::MAX).min(zeros.len());
            let Some(zeros) = zeros.get(..len).filter(|zeros| !zeros.is_empty()) else {
                return Ok(());
            };
            self.append(zeros, send)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other() {
        let mut pieces = Vec::new();
        let mut send = |at, bytes: &[u8]| {
            pieces.push((at, bytes.to_vec()));
            Ok(())
        };
        let mut sequence = Sequence::new(4);
        sequence.write_at(1, b"abcdef", &mut send).unwrap();
        sequence.write_at(8, b"ghijklmnop", &mut send).unwrap();
        let error = sequence.write_at(17, b"x", &mut send).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        sequence.end(19, &mut send).unwrap();
        let expected: [(u64, &[u8]); 5] =
            [(0, b"\0abc"), (4, b"def\0"), (8, b"ghij"), (12, b"klmn"), (16, b"op\0")];
        assert_eq!(pieces, expected.map(|(at, bytes)| (at, bytes.to_vec())));
    }
}
