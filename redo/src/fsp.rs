//! What the log tells about a tablespace as a whole: its size and flags, which stand in page 0.

use std::ops::Range;

use innodb::Lsn;

use crate::RedoError;
use crate::record::{self, Record};

/// Offset of `FSP_SIZE` in page 0, bytes.
const SIZE_AT: u32 = 46;
/// Offset of `FSP_SPACE_FLAGS` in page 0, bytes.
const FLAGS_AT: u32 = 54;

/// Changes of size and flags by one run of records of a page 0. Whether the page itself is newer
/// than the run does not matter: the last size in the log counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FspChange {
    /// Size of the tablespace from now on, pages.
    pub size: Option<u32>,
    /// Flags of the tablespace (`FSP_SPACE_FLAGS`).
    pub flags: Option<u32>,
    /// Whether any byte that was asked for may have changed.
    pub is_watched: bool,
}

impl FspChange {
    /// Reads the run `bytes` at `lsn`, which must be of a page with number 0 (the caller knows
    /// that from [`crate::mtr::Run::page`]). Only a `WRITE` of the whole field counts. `watched`:
    /// bytes of the page.
    ///
    /// # Errors
    ///
    /// [`RedoError`] if a record is malformed.
    pub fn of_run(bytes: &[u8], lsn: Lsn, watched: &Range<u32>) -> Result<Self, RedoError> {
        let mut change = Self::default();
        for record in record::decode_run(bytes, lsn) {
            let record = record?;
            let (offset, len) = match record {
                Record::Write { offset, data, .. } => {
                    change.size = field(offset, data, SIZE_AT).or(change.size);
                    change.flags = field(offset, data, FLAGS_AT).or(change.flags);
                    (offset, u32::try_from(data.len()).unwrap_or(u32::MAX))
                }
                Record::Memset { offset, len, .. } | Record::Memmove { offset, len, .. } => {
                    (offset, len)
                }
                _ => continue,
            };
            change.is_watched |= offset < watched.end && offset.saturating_add(len) > watched.start;
        }
        Ok(change)
    }

    /// Whether the run changed neither.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The four bytes at `at` of the page, if `data` written to `offset` holds all of them.
fn field(offset: u32, data: &[u8], at: u32) -> Option<u32> {
    let from = usize::try_from(at.checked_sub(offset)?).ok()?;
    data.get(from..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_flags_are_seen_only_where_written_whole() {
        // WRITE to page 5:0 at 46.
        let size = [0x37, 5, 0, 46, 0, 0, 1, 0];
        let change = FspChange::of_run(&size, Lsn(1), &(60..70)).unwrap();
        assert_eq!(change, FspChange { size: Some(256), flags: None, is_watched: false });
        let part = [0x37, 5, 0, 47, 0, 0, 1, 0];
        assert!(FspChange::of_run(&part, Lsn(1), &(60..70)).unwrap().is_empty());
        let three = [0x36, 5, 0, 46, 0, 0, 1];
        assert!(FspChange::of_run(&three, Lsn(1), &(60..70)).unwrap().is_empty());
    }

    #[test]
    fn watched_bytes_are_those_that_any_record_changes() {
        let watched = |run: &[u8]| FspChange::of_run(run, Lsn(1), &(60..70)).unwrap().is_watched;
        // WRITE of 4 bytes at 56, 57, 69 and 70; MEMSET of 4 bytes at 57.
        assert!(!watched(&[0x37, 5, 0, 56, 1, 1, 1, 1]));
        assert!(watched(&[0x37, 5, 0, 57, 1, 1, 1, 1]));
        assert!(watched(&[0x37, 5, 0, 69, 1, 1, 1, 1]));
        assert!(!watched(&[0x37, 5, 0, 70, 1, 1, 1, 1]));
        assert!(watched(&[0x45, 5, 0, 57, 4, 0]));
    }

    #[test]
    fn one_write_can_cover_both_and_the_last_one_counts() {
        // INIT_PAGE 5:0; same page WRITE at 24 + 20, 16 bytes; same page WRITE at 60 + 2.
        let mut run = vec![0x12, 5, 0, 0xb0, 3, 20];
        run.extend([0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0]);
        run.extend([0xb2, 2, 9]);
        let change = FspChange::of_run(&run, Lsn(1), &(60..70)).unwrap();
        assert_eq!(change, FspChange { size: Some(7), flags: Some(21), is_watched: true });
        run.extend([0x37, 5, 0, 46, 0, 0, 0, 9]);
        assert_eq!(FspChange::of_run(&run, Lsn(1), &(60..70)).unwrap().size, Some(9));
    }
}
