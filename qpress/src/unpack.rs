//! Reads a compressed file.

use std::io::{self, Read, Write};

use crate::quicklz::{self, Header};
use crate::{BLOCK, BLOCK_LEN_MAX, END, MAGIC, QpressError};

/// Longest name that is skipped.
const NAME_LEN_MAX: u32 = 4096;
/// Zeros at the end.
const END_LEN: usize = 8;

/// Unpacks `input` into `output`; returns how many bytes it had. The name that it holds is not
/// looked at: the file's own counts.
///
/// # Errors
///
/// A file that is damaged or cut; what reading and writing report. `output` then holds what came
/// before.
pub fn unpack(input: impl Read, mut output: impl Write) -> Result<u64, QpressError> {
    let mut input = Input { input, offset: 0 };
    input.skip_start()?;
    let (mut block, mut bytes) = (Vec::new(), Vec::new());
    loop {
        match input.take::<8>()? {
            BLOCK => {}
            END => break,
            _ => return Err(QpressError::Damaged { offset: input.offset }),
        }
        input.read_block(&mut block)?;
        let offset = input.offset;
        quicklz::decompress(&block, &mut bytes)
            .map_err(|source| QpressError::Block { offset, source })?;
        output.write_all(&bytes).map_err(QpressError::Write)?;
        input.offset += bytes.len() as u64;
    }
    input.take::<END_LEN>()?;
    if input.fill(&mut [0])? > 0 {
        return Err(QpressError::Trailing);
    }
    Ok(input.offset)
}

struct Input<R> {
    input: R,
    /// Bytes that were unpacked.
    offset: u64,
}

impl<R: Read> Input<R> {
    fn skip_start(&mut self) -> Result<(), QpressError> {
        let magic: [u8; 8] = self.take()?;
        let _chunk_len: [u8; 8] = self.take()?;
        let kind: [u8; 1] = self.take()?;
        let len = u32::from_le_bytes(self.take()?);
        if magic != MAGIC || kind != *b"F" || len > NAME_LEN_MAX {
            return Err(QpressError::Magic);
        }
        for _ in 0..=len {
            self.take::<1>()?;
        }
        Ok(())
    }

    /// Reads a block with its header, and checks that it is the one that was written here.
    fn read_block(&mut self, block: &mut Vec<u8>) -> Result<(), QpressError> {
        let offset = self.offset;
        let stored = u64::from_le_bytes(self.take()?);
        if stored != offset {
            return Err(QpressError::Order { offset, stored });
        }
        let checksum = u32::from_le_bytes(self.take()?);
        let invalid = |source| QpressError::Block { offset, source };
        block.clear();
        block.extend_from_slice(&self.take::<1>()?);
        let flags = block.first().copied().unwrap_or_default();
        let header_len = Header::len_by(flags).map_err(invalid)?;
        self.extend(block, header_len)?;
        let header = Header::parse(block).map_err(invalid)?;
        if header.len > BLOCK_LEN_MAX || header.block_len > BLOCK_LEN_MAX {
            return Err(QpressError::Damaged { offset });
        }
        self.extend(block, header.block_len)?;
        let computed = adler2::adler32_slice(block);
        if computed != checksum {
            return Err(QpressError::Checksum { offset, stored: checksum, computed });
        }
        Ok(())
    }

    /// Reads until `block` has `len` bytes. Takes no memory for bytes that do not come.
    fn extend(&mut self, block: &mut Vec<u8>, len: usize) -> Result<(), QpressError> {
        let missing = len.saturating_sub(block.len()) as u64;
        let read = self.input.by_ref().take(missing).read_to_end(block);
        let read = read.map_err(QpressError::Read)?;
        if read as u64 == missing { Ok(()) } else { Err(QpressError::Cut { offset: self.offset }) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], QpressError> {
        let mut bytes = [0; N];
        let read = self.fill(&mut bytes)?;
        if read == N { Ok(bytes) } else { Err(QpressError::Cut { offset: self.offset }) }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, QpressError> {
        let mut len = 0;
        while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(QpressError::Read(error)),
            }
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of a backup that 10.11 compressed: a .frm of 1145 bytes, and the tablespace of an empty
    /// table.
    const FRM: &[u8] = include_bytes!("../testdata/t.frm.qp");
    const SPACE: &[u8] = include_bytes!("../testdata/t.new.qp");
    const TEXT: &[u8] = include_bytes!("../testdata/xtrabackup_binlog_info.qp");

    fn unpacked(input: &[u8]) -> Result<Vec<u8>, QpressError> {
        let mut output = Vec::new();
        let len = unpack(input, &mut output)?;
        assert_eq!(len, output.len() as u64);
        Ok(output)
    }

    fn packed(name: &str, bytes: &[u8], block_len: usize) -> Vec<u8> {
        let mut out = crate::head(name.as_bytes(), block_len);
        for (index, block) in bytes.chunks(block_len).enumerate() {
            crate::block((index * block_len) as u64, block, &mut out);
        }
        out.extend(crate::end());
        out
    }

    #[test]
    fn real_files() {
        let frm = unpacked(FRM).unwrap();
        assert_eq!((frm.len(), &frm[..4]), (1145, &b"\xfe\x01\x0a\x0c"[..]));
        // The part of each page that is not zero was written by itself.
        let space = unpacked(SPACE).unwrap();
        assert!(space.len().is_multiple_of(16384), "{}", space.len());
        assert_eq!(unpacked(TEXT).unwrap(), b"bin.000001\t521\t0-1-1\n");
    }

    #[test]
    fn ours_are_as_real_ones() {
        let ours = packed("xtrabackup_binlog_info", &unpacked(TEXT).unwrap(), 1 << 16);
        // Up to the block: it holds the text as it is, where the other one has only literals.
        assert_eq!(ours[..60], TEXT[..60]);
        let frm = unpacked(FRM).unwrap();
        let ours = packed("t.frm", &frm, 1 << 16);
        assert_eq!(unpacked(&ours).unwrap(), frm);
        assert!(ours.len() < FRM.len() + 60, "{} and {}", ours.len(), FRM.len());
        assert_eq!(ours[..36], FRM[..36]);
        assert_eq!(unpacked(&packed("empty", b"", 1 << 16)).unwrap(), b"");
        let space = unpacked(SPACE).unwrap();
        assert!(unpacked(&packed("t.ibd", &space, 3000)).unwrap() == space);
    }

    #[test]
    fn every_cut_is_noticed() {
        for len in 0..FRM.len() {
            assert!(matches!(unpacked(&FRM[..len]), Err(QpressError::Cut { .. })), "{len}");
        }
        let more = [FRM, b"x"].concat();
        assert!(matches!(unpacked(&more), Err(QpressError::Trailing)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frm = unpacked(FRM).unwrap();
        // Chunk size, the name and the zeros at the end tell nothing.
        let ignored = [8..16, 21..27, FRM.len() - 8..FRM.len()];
        for at in (0..FRM.len()).filter(|at| !ignored.iter().any(|range| range.contains(at))) {
            for bit in 0..8 {
                let mut bytes = FRM.to_vec();
                bytes[at] ^= 1 << bit;
                let unnoticed = unpacked(&bytes).is_ok_and(|unpacked| unpacked == frm);
                assert!(!unnoticed, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut bytes = FRM.to_vec();
        // Of the block, and of what it holds.
        bytes[48..56].fill(0xff);
        assert!(matches!(unpacked(&bytes), Err(QpressError::Damaged { .. })));
    }
}
