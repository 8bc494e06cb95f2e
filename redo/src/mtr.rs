//! Mini-transactions: the atomic units of the log.
//!
//! This is how they stand in a plain log of 10.8 and later; for the others see [`Layout`].
//!
//! ```text
//! record ... record   each begins with a byte > 1 and tells its length
//! sequence byte       0 or 1: the lap of the ring in which this byte lies
//! CRC-32C, 4 bytes    of the records
//! ```
//!
//! The next one follows at once. The log ends where no valid mini-transaction begins: stale bytes
//! of the lap before have the other sequence byte. In a file that a server writes, this may also
//! be one that is not completely written yet. Framing reads no payload; [`Mtr::runs`] reads page
//! ids, [`Mtr::records`] everything. Source: `recv_sys_t::parse` in `log0recv.cc`; checked on
//! files of 10.11.

mod stored;

use std::ops::Range;

use innodb::{Lsn, PageId};

use crate::record::{self, Records};
use crate::varint::{self, BadVarint};
use crate::{Malformed, RedoError, Ring};

pub use stored::{Layout, Stored};

/// The records of a mini-transaction have fewer bytes than this (10.8 and later).
pub const RECORDS_LEN_MAX: usize = 1 << 20;
/// A window of this many bytes always holds a whole mini-transaction (10.8 and later).
pub const WINDOW_LEN_MIN: usize = RECORDS_LEN_MAX + TRAILER_LEN + NONCE_LEN;
/// Sequence byte and CRC.
const TRAILER_LEN: usize = 5;
/// Between sequence byte and CRC, in encrypted logs.
const NONCE_LEN: usize = 8;

/// Why no complete, valid mini-transaction begins at a position. Final in a log nobody writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// The first byte is 0 or 1: nothing was written here yet, or the log ends.
    Nothing,
    /// It goes on behind the given bytes. Not returned if these are [`WINDOW_LEN_MIN`] or more
    /// (10.8 and later).
    NeedMore,
    /// Checksum or sequence byte are wrong: half written, or left over from the lap before.
    Torn,
    /// A length is malformed, or the records exceed the largest length: garbage.
    TooLong,
}

/// A complete mini-transaction with the right checksum and sequence byte, in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtr<'a> {
    start: Lsn,
    end: Lsn,
    records: &'a [u8],
    /// Bytes that follow the records in the log.
    trailer_len: usize,
}

impl<'a> Mtr<'a> {
    /// Parses the mini-transaction at the start of `bytes`, whose first byte is at `start` in a
    /// plain log of 10.8 or later. The bytes may go on behind it; where it wraps around the end of
    /// the ring, the caller joins the parts first. [`Stored`] takes all kinds of logs.
    ///
    /// # Errors
    ///
    /// Why there is none, see [`Unfinished`].
    #[inline]
    pub fn parse(bytes: &'a [u8], start: Lsn, ring: Ring) -> Result<Self, Unfinished> {
        Stored::in_ring::<0>(bytes, start, ring).map(Stored::as_mtr)
    }

    /// A mini-transaction of a log of 10.5 to 10.7, whose extent is known.
    pub(crate) fn of_blocks(records: &'a [u8], start: Lsn, end: Lsn) -> Self {
        Self { start, end, records, trailer_len: 1 }
    }

    /// LSN of the first byte.
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// LSN behind the last byte: where the next one begins, and what changed pages carry.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// All bytes in the log, with what follows the records; in blocks (10.5 to 10.7) not counting
    /// their headers and trailers. At most [`WINDOW_LEN_MIN`] from 10.8 on.
    pub fn stored_len(&self) -> usize {
        self.records.len() + self.trailer_len
    }

    /// Where the sequence byte stands, bytes from the start: the length of the records.
    pub fn sequence_at(&self) -> usize {
        self.records.len()
    }

    /// The records with page ids and offsets resolved. Ends after the first error.
    pub fn records(&self) -> Records<'a> {
        record::decode_run(self.records, self.start)
    }

    /// The records grouped by page, nothing but page ids decoded. Ends after the first error.
    pub fn runs(&self) -> Runs<'a> {
        Runs { bytes: self.records, at: 0, start: self.start, seen_page: false }
    }

    /// Bytes of the records, counted from the start of the mini-transaction; `None` if they are not
    /// all in it.
    pub fn records_at(&self, range: Range<usize>) -> Option<&'a [u8]> {
        self.records.get(range)
    }

    /// The bytes of a run, for [`record::decode_run`]; empty if the run is not of this
    /// mini-transaction.
    pub fn run_bytes(&self, run: &Run) -> &'a [u8] {
        self.records.get(run.range.clone()).unwrap_or_default()
    }
}

/// Extent of a record, known from its first bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Bytes before the payload: the type byte, and the length where that does not hold it.
    pub header_len: usize,
    /// Bytes of the whole record; never less than `header_len`.
    pub len: usize,
}

impl Frame {
    /// Reads the extent of the record at the start of `bytes`, which may end within the record.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, BadVarint> {
        let (&kind, rest) = bytes.split_first().ok_or(BadVarint::Short)?;
        let short = usize::from(kind & 15);
        if short != 0 {
            return Ok(Self { header_len: 1, len: 1 + short });
        }
        let (long, payload) = varint::take(rest)?;
        // The length counts its own bytes (at most 5), less 15.
        let len = usize::try_from(long).ok().and_then(|long| long.checked_add(16));
        Ok(Self { header_len: bytes.len() - payload.len(), len: len.ok_or(BadVarint::Malformed)? })
    }
}

/// Consecutive records of one page, the first of which names the page; or one file record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The page. Of file records the page number is 0 and means nothing.
    pub page: PageId,
    /// Where the records stand, bytes from the start of the mini-transaction.
    pub range: Range<usize>,
    /// What kind of records they are.
    pub kind: RunKind,
}

/// What a run does to its page, as far as the index of the log needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunKind {
    /// Changes of the page.
    Change,
    /// Begins with `INIT_PAGE`: whatever was logged for the page before does not matter. Further
    /// changes may follow.
    Init,
    /// `FREE_PAGE`: whatever was logged for the page before does not matter, its contents stay.
    Free,
    /// `TRIM_PAGES`: the tablespace was cut to this page number.
    Trim,
    /// Nothing that changes a page (`RESERVED`, unknown kinds of `OPTION`).
    Ignored,
    /// A file record.
    File,
}

/// Iterator over the page runs of a mini-transaction.
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    /// All records.
    bytes: &'a [u8],
    /// Where the next run begins; the length of `bytes` at the end.
    at: usize,
    start: Lsn,
    /// Whether a page record was seen: from then on bit 7 means "same page", not "file record".
    seen_page: bool,
}

/// Bits 6..4 of a record's first byte, and its payload.
struct Head<'a> {
    same_page: bool,
    kind: u8,
    payload: &'a [u8],
    end: usize,
}

impl<'a> Runs<'a> {
    #[inline]
    fn head(&self, at: usize) -> Option<Result<Head<'a>, Malformed>> {
        let rest = self.bytes.get(at..)?;
        let first = *rest.first()?;
        let Ok(frame) = Frame::of(rest) else { return Some(Err(Malformed::Integer)) };
        let Some(payload) = rest.get(frame.header_len..frame.len) else {
            return Some(Err(Malformed::Overrun));
        };
        Some(Ok(Head {
            same_page: first & 0x80 != 0,
            kind: first & 0x70,
            payload,
            end: at + frame.len,
        }))
    }

    #[inline]
    fn run(&mut self, first: &Head<'a>) -> Result<Run, (usize, Malformed)> {
        let start = self.at;
        let at_start = |cause| (start, cause);
        if first.same_page && !self.seen_page {
            let page = record::file_space(first.kind, first.payload).map_err(at_start)?;
            return Ok(Run { page, range: start..first.end, kind: RunKind::File });
        }
        if first.same_page {
            return Err((start, Malformed::SamePage));
        }
        let (page, rest) = record::page_id(first.payload).map_err(at_start)?;
        self.seen_page = true;
        let mut kind = match first.kind {
            record::FREE_PAGE => RunKind::Free,
            record::INIT_PAGE => RunKind::Init,
            record::EXTENDED if rest == [record::TRIM_PAGES] => RunKind::Trim,
            record::RESERVED => RunKind::Ignored,
            record::OPTION if !record::is_page_checksum(rest) => RunKind::Ignored,
            _ => RunKind::Change,
        };
        let mut end = first.end;
        while self.bytes.get(end).is_some_and(|first| first & 0x80 != 0) {
            let Some(head) = self.head(end) else { break };
            let head = head.map_err(|cause| (end, cause))?;
            match head.kind {
                record::RESERVED | record::OPTION => {}
                record::FREE_PAGE | record::INIT_PAGE => return Err((end, Malformed::SamePage)),
                record::EXTENDED if head.payload == [record::TRIM_PAGES] => {
                    return Err((end, Malformed::SamePage));
                }
                _ => match kind {
                    RunKind::Free | RunKind::Trim => return Err((end, Malformed::SamePage)),
                    RunKind::Ignored => kind = RunKind::Change,
                    _ => {}
                },
            }
            end = head.end;
        }
        Ok(Run { page, range: start..end, kind })
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run, RedoError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let run = match self.head(self.at)? {
            Ok(first) => self.run(&first),
            Err(cause) => Err((self.at, cause)),
        };
        match run {
            Ok(run) => {
                self.at = run.range.end;
                Some(Ok(run))
            }
            Err((at, cause)) => {
                self.at = self.bytes.len();
                Some(Err(RedoError { lsn: Lsn(self.start.0.saturating_add(at as u64)), cause }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    /// Page 5:3: WRITE at 46; same page: MEMSET at 54, MEMMOVE to 126.
    const PAGES: [u8; 21] = [
        0x37, 5, 3, 0x2e, 0, 0, 1, 0, 0xc3, 4, 0x40, 0, 0xd3, 8, 0x0a, 7, 1, 0x3b, 0x74, 0x89, 0x08,
    ];
    /// `FILE_CHECKPOINT(44944)`.
    const CHECKPOINT: [u8; 16] =
        [0xfa, 0, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0x90, 1, 0xae, 0x3b, 0xe7, 0x12];
    const START: Lsn = Lsn(50_000);

    fn with_trailer(records: &[u8]) -> Vec<u8> {
        [records, &[1], &crc32c::crc32c(records).to_be_bytes()].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Mtr<'_>, Unfinished> {
        Mtr::parse(bytes, START, Ring::endless(START))
    }

    type RunResult = Result<Run, RedoError>;

    fn runs(records: &[u8]) -> Vec<RunResult> {
        let bytes = with_trailer(records);
        parse(&bytes).unwrap().runs().collect()
    }

    #[allow(clippy::unnecessary_wraps, reason = "compared with what the iterator returns")]
    fn run(space: u32, page_no: u32, range: Range<usize>, kind: RunKind) -> RunResult {
        Ok(Run { page: PageId::new(space, page_no), range, kind })
    }

    fn malformed(at: u64, cause: Malformed) -> RedoError {
        RedoError { lsn: Lsn(START.0 + at), cause }
    }

    #[test]
    fn one_page_with_three_changes() {
        let mtr = parse(&PAGES).unwrap();
        assert_eq!((mtr.start(), mtr.end()), (START, Lsn(50_021)));
        assert_eq!((mtr.stored_len(), mtr.sequence_at()), (21, 16));
        let page = PageId::new(5, 3);
        let records: Result<Vec<_>, _> = mtr.records().collect();
        assert_eq!(
            records.unwrap(),
            [
                Record::Write { page, offset: 46, data: &[0, 0, 1, 0] },
                Record::Memset { page, offset: 54, len: 64, pattern: &[0] },
                Record::Memmove { page, offset: 126, len: 10, source: 122 },
            ]
        );
        let runs: Vec<_> = mtr.runs().collect();
        assert_eq!(runs, [run(5, 3, 0..16, RunKind::Change)]);
        assert_eq!(mtr.run_bytes(runs[0].as_ref().unwrap()), &PAGES[..16]);
    }

    #[test]
    fn what_follows_does_not_matter() {
        for next in [&[][..], &[0], &[1], &[0xff; 40], &PAGES] {
            assert_eq!(parse(&[&CHECKPOINT, next].concat()).unwrap().end(), Lsn(50_016));
        }
    }

    #[test]
    fn nothing_is_written_where_a_terminator_stands() {
        assert_eq!(parse(&[0, 0x37, 5]), Err(Unfinished::Nothing));
        assert_eq!(parse(&[1]), Err(Unfinished::Nothing));
        assert_eq!(parse(&[]), Err(Unfinished::NeedMore));
    }

    #[test]
    fn every_truncation_needs_more() {
        for len in 0..PAGES.len() {
            assert_eq!(parse(&PAGES[..len]), Err(Unfinished::NeedMore), "{len} bytes");
        }
    }

    #[test]
    fn no_changed_bit_passes() {
        for at in 0..PAGES.len() {
            for bit in 0..8 {
                let mut bytes = [&PAGES[..], &[0; 64]].concat();
                bytes[at] ^= 1 << bit;
                assert!(parse(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn the_sequence_byte_is_that_of_its_own_lap() {
        let file_len = crate::header::HEADER_LEN + 100;
        let ring = Ring::new(START, file_len).unwrap();
        let mut bytes = PAGES;
        for distance in 0..400 {
            let lap = (distance + 16) / 100;
            for sequence in [0, 1] {
                bytes[16] = sequence;
                let valid = Mtr::parse(&bytes, Lsn(START.0 + distance), ring);
                assert_eq!(valid.is_ok(), u64::from(sequence) != lap % 2, "{distance}");
                assert!(valid.is_ok() || valid == Err(Unfinished::Torn));
            }
        }
    }

    #[test]
    fn garbage_lengths_end_the_log() {
        // 0x30, then 0xe0..: more than 2 MiB.
        assert_eq!(parse(&[0x30, 0xe0, 0, 0, 0]), Err(Unfinished::TooLong));
        assert_eq!(parse(&[0x30, 0xf1, 0, 0, 0, 0]), Err(Unfinished::TooLong));
        assert_eq!(parse(&[0x30, 0xf0, 0xff, 0xff, 0xff, 0xff]), Err(Unfinished::TooLong));
        assert_eq!(parse(&[0x30]), Err(Unfinished::NeedMore));
        assert_eq!(parse(&[0x30, 0x80]), Err(Unfinished::NeedMore));
    }

    #[test]
    fn records_have_less_than_one_mib() {
        // A page id and a WRITE of `more` bytes altogether.
        let record = |len: u32| {
            let long = (len - 16 - 16_512).to_be_bytes();
            let mut record = vec![0x30, 0xc0 | long[1], long[2], long[3], 5, 3, 46];
            record.resize(len as usize, 7);
            record
        };
        let longest = with_trailer(&record((1 << 20) - 1));
        assert_eq!(parse(&longest).unwrap().stored_len(), (1 << 20) + 4);
        assert!(longest.len() <= WINDOW_LEN_MIN);
        assert_eq!(parse(&with_trailer(&record(1 << 20))), Err(Unfinished::TooLong));
        // Also when known from the length alone, or from many records together.
        assert_eq!(parse(&record(1 << 20)[..8]), Err(Unfinished::TooLong));
        let half = record(1 << 19);
        assert_eq!(parse(&[&half[..], &half].concat()), Err(Unfinished::TooLong));
    }

    #[test]
    fn interleaved_pages_make_a_run_each_time_they_are_named() {
        let records = [
            0x12, 5, 3, // INIT_PAGE 5:3
            0xb2, 30, 9, // same page: WRITE at 54
            0x34, 5, 4, 46, 8, // WRITE 5:4 at 46
            0x34, 5, 3, 46, 7, // WRITE 5:3 at 46: counts from 0 again
            0xb2, 0, 6, // same page: WRITE at 47
            0x02, 5, 4, // FREE_PAGE 5:4
        ];
        assert_eq!(
            runs(&records),
            [
                run(5, 3, 0..6, RunKind::Init),
                run(5, 4, 6..11, RunKind::Change),
                run(5, 3, 11..19, RunKind::Change),
                run(5, 4, 19..22, RunKind::Free),
            ]
        );
        let bytes = with_trailer(&records);
        let page = PageId::new(5, 3);
        let decoded: Vec<_> =
            record::decode_run(&bytes[11..19], START).map(Result::unwrap).collect();
        assert_eq!(
            decoded,
            [
                Record::Write { page, offset: 46, data: &[7] },
                Record::Write { page, offset: 47, data: &[6] },
            ]
        );
    }

    #[test]
    fn file_records_are_runs_of_their_own_until_the_first_page_record() {
        let mut records = vec![0xb0, 0, 9, 0];
        records.extend(b"./a/tab1.ibd");
        let file_end = records.len();
        records.extend([0x34, 9, 3, 46, 8, 0xb2, 0, 6]);
        assert_eq!(
            runs(&records),
            [
                run(9, 0, 0..file_end, RunKind::File),
                run(9, 3, file_end..file_end + 8, RunKind::Change),
            ]
        );
        let checkpoint: Vec<_> = parse(&CHECKPOINT).unwrap().runs().collect();
        assert_eq!(checkpoint, [run(0, 0, 0..11, RunKind::File)]);
        assert_eq!(runs(&[0xf1, 0]), [run(0, 0, 0..2, RunKind::File)]);
    }

    #[test]
    fn kinds_that_the_index_must_know() {
        assert_eq!(runs(&[0x24, 2, 0x80, 0, 10]), [run(2, 128, 0..5, RunKind::Trim)]);
        assert_eq!(runs(&[0x64, 2, 3, 99, 98]), [run(2, 3, 0..5, RunKind::Ignored)]);
        assert_eq!(runs(&[0x74, 2, 3, 99, 98]), [run(2, 3, 0..5, RunKind::Ignored)]);
        // OPTION with a page checksum.
        assert_eq!(runs(&[0x77, 2, 3, 0, 1, 2, 3, 4]), [run(2, 3, 0..8, RunKind::Change)]);
        // RESERVED, then a change of the same page.
        assert_eq!(runs(&[0x63, 2, 3, 99, 0xb2, 46, 7]), [run(2, 3, 0..7, RunKind::Change)]);
        assert_eq!(runs(&[0x02, 2, 3, 0xe1, 7]), [run(2, 3, 0..5, RunKind::Free)]);
    }

    #[test]
    fn runs_and_records_refuse_the_same_sequences() {
        let cases: [(&[u8], u64, Malformed); 6] = [
            // FREE_PAGE, then a change of the same page.
            (&[0x02, 5, 3, 0xb2, 46, 7], 3, Malformed::SamePage),
            // TRIM_PAGES, then a change of the same page.
            (&[0x23, 5, 3, 10, 0xb2, 46, 7], 4, Malformed::SamePage),
            // A change, then INIT_PAGE or FREE_PAGE that does not name its page.
            (&[0x34, 5, 3, 46, 7, 0x91, 1], 5, Malformed::SamePage),
            (&[0x34, 5, 3, 46, 7, 0x81, 1], 5, Malformed::SamePage),
            // A page id that goes beyond its record.
            (&[0x31, 5], 0, Malformed::Integer),
            (&[0x32, 5, 0x80], 0, Malformed::Integer),
        ];
        for (records, at, cause) in cases {
            let bytes = with_trailer(records);
            let mtr = parse(&bytes).unwrap();
            let error = malformed(at, cause);
            let last = mtr.records().last().unwrap();
            assert_eq!(last, Err(error), "{records:02x?}");
            assert_eq!(mtr.runs().last().unwrap().unwrap_err(), error, "{records:02x?}");
            assert!(mtr.records().filter(Result::is_err).count() == 1);
        }
    }
}
