//! From LSN to file offset: the log file as a ring (10.8 and later).
//!
//! A file of an archive (13) is a ring of which only the first lap is used.

use innodb::Lsn;

use crate::header::HEADER_LEN;

/// Smallest useful log: the header and one `FILE_CHECKPOINT` mini-transaction.
const FILE_LEN_MIN: u64 = HEADER_LEN + 16;

/// The payload of a log file: `capacity` bytes behind the header, the first of which is
/// `first_lsn` in the first lap and `first_lsn + n * capacity` in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    first_lsn: Lsn,
    capacity: u64,
    /// Whether sequence bytes tell the lap.
    is_sequenced: bool,
}

impl Ring {
    /// The ring of a log file of `file_len` bytes; `None` if the file is too small to be one.
    pub fn new(first_lsn: Lsn, file_len: u64) -> Option<Self> {
        let capacity = file_len.checked_sub(HEADER_LEN)?;
        (file_len >= FILE_LEN_MIN).then_some(Self { first_lsn, capacity, is_sequenced: true })
    }

    /// A log that never wraps, whatever its length: the copy in a backup.
    pub fn endless(first_lsn: Lsn) -> Self {
        Self { first_lsn, capacity: u64::MAX, is_sequenced: true }
    }

    /// Files of an archive, one after the other, from `first_lsn` on. A server writes 1 as the
    /// sequence byte there; but when archiving is switched on, a ring becomes the first file.
    pub fn archive(first_lsn: Lsn) -> Self {
        Self { first_lsn, capacity: u64::MAX, is_sequenced: false }
    }

    /// LSN of the first payload byte of the first lap.
    pub fn first_lsn(self) -> Lsn {
        self.first_lsn
    }

    /// Bytes of log that fit.
    pub fn capacity(self) -> u64 {
        self.capacity
    }

    /// Lap and position in it, bytes; `None` before the first LSN.
    fn place(self, lsn: Lsn) -> Option<(u64, u64)> {
        let distance = lsn.0.checked_sub(self.first_lsn.0)?;
        if distance < self.capacity {
            return Some((0, distance));
        }
        Some((distance / self.capacity, distance % self.capacity))
    }

    /// Position of `lsn`'s byte, bytes from the start of the file; `None` before the first LSN
    /// and where the result would not fit into 64 bits.
    pub fn offset(self, lsn: Lsn) -> Option<u64> {
        let (_, position) = self.place(lsn)?;
        position.checked_add(HEADER_LEN)
    }

    /// Bytes from `lsn` to the end of its lap: what one read can deliver. At least 1.
    pub fn contiguous(self, lsn: Lsn) -> Option<u64> {
        let (_, position) = self.place(lsn)?;
        Some(self.capacity - position)
    }

    /// The sequence byte (0 or 1) of a mini-transaction whose records end at `lsn`.
    pub fn sequence(self, lsn: Lsn) -> Option<u8> {
        let (lap, _) = self.place(lsn)?;
        Some(u8::from(lap % 2 == 0))
    }

    /// Whether a mini-transaction whose records end at `lsn` can have this sequence byte.
    #[inline]
    pub(crate) fn accepts(self, lsn: Lsn, sequence: u8) -> bool {
        !self.is_sequenced || self.sequence(lsn) == Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_sequence_bytes_follow_the_laps() {
        let ring = Ring::new(Lsn(50_000), HEADER_LEN + 100).unwrap();
        let expected = [
            (50_000, 12_288, 1, 100),
            (50_099, 12_387, 1, 1),
            (50_100, 12_288, 0, 100),
            (50_199, 12_387, 0, 1),
            (50_200, 12_288, 1, 100),
        ];
        for (lsn, offset, sequence, contiguous) in expected {
            assert_eq!(ring.offset(Lsn(lsn)), Some(offset), "LSN {lsn}");
            assert_eq!(ring.sequence(Lsn(lsn)), Some(sequence), "LSN {lsn}");
            assert_eq!(ring.contiguous(Lsn(lsn)), Some(contiguous), "LSN {lsn}");
        }
        assert_eq!(ring.offset(Lsn(49_999)), None);
        assert_eq!(ring.sequence(Lsn(49_999)), None);
    }

    #[test]
    fn the_last_lsns_neither_overflow_nor_wrap() {
        let ring = Ring::new(Lsn(12_288), 4 << 20).unwrap();
        assert!(ring.offset(Lsn(u64::MAX)).is_some());
        let endless = Ring::endless(Lsn(12_288));
        assert_eq!(endless.offset(Lsn(1 << 40)), Some(1 << 40));
        assert_eq!(endless.sequence(Lsn(u64::MAX)), Some(1));
        assert_eq!(Ring::endless(Lsn(0)).offset(Lsn(u64::MAX - 1)), None);
    }

    #[test]
    fn a_file_must_hold_more_than_a_header() {
        assert_eq!(Ring::new(Lsn(12_288), 12_303), None);
        assert_eq!(Ring::new(Lsn(12_288), 0), None);
        assert_eq!(Ring::new(Lsn(12_288), 12_304).unwrap().capacity(), 16);
    }
}
