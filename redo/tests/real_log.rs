//! Logs written by servers, record by record against what an independent decoder prints.

#![cfg(test)]

mod keys;

use std::fmt::Write;

use innodb::encrypted::{CipherMode, KeySource};
use redo::file::LogFile;
use redo::header::{Checkpoint, LogHeader};
use redo::mtr::{Mtr, Run, RunKind, Unfinished};
use redo::reader::{ReadError, Reader};
use redo::record::{self, Extended, FileRecord, InsertKind, Record};
use redo::{Lsn, Ring};

use keys::TestKeys;

const LOG: &[u8] = include_bytes!("../testdata/10.11/ib_logfile0.head");
const EXPECTED: &str = include_str!("../testdata/10.11/records.txt");
/// Size of the file whose first bytes these are.
const FILE_LEN: u64 = 4 << 20;

fn ring() -> Ring {
    LogHeader::parse(LOG).unwrap().ring(FILE_LEN).unwrap()
}

/// All mini-transactions from the newest checkpoint on, and where the log ends.
fn mtrs() -> (Vec<Mtr<'static>>, Lsn) {
    let ring = ring();
    let mut lsn = Checkpoint::newest(LOG, ring.first_lsn()).unwrap().lsn;
    let mut mtrs = Vec::new();
    loop {
        let offset = usize::try_from(ring.offset(lsn).unwrap()).unwrap();
        match Mtr::parse(&LOG[offset..], lsn, ring) {
            Ok(mtr) => {
                lsn = mtr.end();
                mtrs.push(mtr);
            }
            Err(end) => {
                assert_eq!(end, Unfinished::Nothing);
                return (mtrs, lsn);
            }
        }
    }
}

/// Length and first bytes, as in the expected text.
fn bytes(data: &[u8]) -> String {
    let mut text = format!("[{}]", data.len());
    for byte in data.iter().take(4) {
        write!(text, "{byte:02x}").unwrap();
    }
    text + if data.len() > 4 { "..." } else { "" }
}

/// Where, what, and with which parameters.
fn describe(record: &Record<'_>) -> String {
    let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    let place = match record {
        Record::FreePage(page)
        | Record::InitPage(page)
        | Record::TrimPages(page)
        | Record::Ignored(page)
        | Record::Extended(page, _)
        | Record::Write { page, .. }
        | Record::Memset { page, .. }
        | Record::Memmove { page, .. } => format!("{} {}", page.space, page.page_no),
        Record::File(
            FileRecord::Create { space, .. }
            | FileRecord::Delete { space, .. }
            | FileRecord::Modify { space, .. }
            | FileRecord::Rename { space, .. },
        ) => format!("{space} -"),
        Record::File(FileRecord::Checkpoint(_) | FileRecord::Padding) => "0 -".to_owned(),
    };
    let parameters = match record {
        Record::Write { offset, data, .. } => format!(" {offset} {}", bytes(data)),
        Record::Memset { offset, len, pattern, .. } => {
            format!(" {offset} {len} {}", bytes(pattern))
        }
        Record::Memmove { offset, len, source, .. } => format!(" {offset} {len} {source}"),
        Record::Extended(_, extended) => parameters(extended),
        Record::File(
            FileRecord::Create { name: n, .. }
            | FileRecord::Delete { name: n, .. }
            | FileRecord::Modify { name: n, .. },
        ) => format!(" {}", name(n)),
        Record::File(FileRecord::Rename { from, to, .. }) => {
            format!(" {} {}", name(from), name(to))
        }
        Record::File(FileRecord::Checkpoint(lsn)) => format!(" {lsn}"),
        _ => String::new(),
    };
    format!(" {place} {}{parameters}", record.type_name())
}

fn parameters(extended: &Extended<'_>) -> String {
    match *extended {
        Extended::UndoAppend(data) => format!(" {}", bytes(data)),
        Extended::Insert { kind, prev, shift, enc, hdr_copy, data_copy, literal } => {
            let shift = match kind {
                InsertKind::HeapDynamic | InsertKind::ReuseDynamic => format!(" {shift}"),
                InsertKind::HeapRedundant | InsertKind::ReuseRedundant => String::new(),
            };
            format!(" {prev}{shift} {enc} {hdr_copy} {data_copy} {}", bytes(literal))
        }
        Extended::DeleteRowFormatRedundant { prev } => format!(" {prev}"),
        Extended::DeleteRowFormatDynamic { prev, hdr_size, data_size } => {
            format!(" {prev} {hdr_size} {data_size}")
        }
        Extended::InitRowFormatRedundant | Extended::InitRowFormatDynamic | Extended::UndoInit => {
            String::new()
        }
    }
}

#[test]
fn every_record_is_decoded_as_expected() {
    let (mtrs, end) = mtrs();
    assert_eq!((mtrs.len(), end), (1105, Lsn(94_228)));
    let mut expected = EXPECTED.lines();
    for mtr in mtrs {
        assert_eq!(expected.next().unwrap(), format!("{} {}", mtr.start(), mtr.end()));
        for record in mtr.records() {
            assert_eq!(
                Some(describe(&record.unwrap()).as_str()),
                expected.next(),
                "{}",
                mtr.start()
            );
        }
    }
    assert_eq!(expected.next(), None);
}

/// What the log holds from its checkpoint on, as the independent decoder prints it; how many
/// mini-transactions and records, and where it ends.
fn text(bytes: &[u8], keys: Option<&dyn KeySource>) -> (String, (u32, u32, Lsn)) {
    let head = bytes.get(..12_288).unwrap_or(bytes);
    let log = LogFile::parse(head, bytes.len() as u64).unwrap();
    let reader = Reader::new(bytes, &log, keys);
    let mut mtrs = reader.mtrs(log.checkpoint().lsn).unwrap();
    let mut text = String::new();
    let (mut mtr_count, mut record_count) = (0, 0);
    while let Some(mtr) = mtrs.next().unwrap() {
        mtr_count += 1;
        writeln!(text, "{} {}", mtr.start(), mtr.end()).unwrap();
        for record in mtr.records() {
            record_count += 1;
            writeln!(text, "{}", describe(&record.unwrap())).unwrap();
        }
    }
    (text, (mtr_count, record_count, mtrs.lsn()))
}

#[test]
fn every_record_in_blocks_is_decoded_as_expected() {
    let bytes = include_bytes!("../testdata/10.5/ib_logfile0.head");
    let expected = include_str!("../testdata/10.5/records.txt");
    let (text, counts) = text(bytes, None);
    for (line, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text.len(), expected.len());
    assert_eq!(counts, (1196, 3388, Lsn(85_347)));
}

/// Of these, only the checksum of the expected text is kept.
#[test]
fn every_record_of_encrypted_logs_is_decoded_as_expected() {
    let cbc_10_5 = include_bytes!("../testdata/10.5/backup-log-cbc");
    let ctr_10_5 = include_bytes!("../testdata/10.5/backup-log-ctr");
    let cbc_10_11 = include_bytes!("../testdata/10.11/backup-log-cbc");
    let ctr_10_11 = include_bytes!("../testdata/10.11/backup-log-ctr");
    let cbc_11_8 = include_bytes!("../testdata/11.8/backup-log-cbc");
    let (cbc, ctr) = (CipherMode::Cbc, CipherMode::Ctr);
    let cases = [
        (&cbc_10_5[..], cbc, (1195, 3385, Lsn(85_935)), 0xe747_4624),
        (ctr_10_5, ctr, (1244, 3630, Lsn(88_515)), 0x74bc_d1ad),
        (cbc_10_11, cbc, (876, 2594, Lsn(91_804)), 0xba1a_3b4c),
        (ctr_10_11, ctr, (876, 2594, Lsn(91_804)), 0x6d32_d95b),
        (cbc_11_8, cbc, (871, 2514, Lsn(91_303)), 0xee8c_1e33),
    ];
    for (number, (bytes, mode, counts, checksum)) in cases.into_iter().enumerate() {
        let (text, found) = text(bytes, Some(&TestKeys::new(mode)));
        assert_eq!(found, counts, "log {number}");
        assert_eq!(crc32c::crc32c(text.as_bytes()), checksum, "log {number}");
        // Without a key, nothing is read.
        let log = LogFile::parse(&bytes[..12_288], bytes.len() as u64).unwrap();
        let reader = Reader::new(bytes, &log, None);
        assert!(matches!(reader.mtrs(log.checkpoint().lsn), Err(ReadError::NoKeys)));
    }
}

/// Prepare decodes run by run: it must see what a decoder of whole mini-transactions sees.
#[test]
fn runs_cover_all_records_and_decode_alone() {
    for mtr in mtrs().0 {
        let runs: Vec<Run> = mtr.runs().map(Result::unwrap).collect();
        let mut decoded = Vec::new();
        let mut at = 0;
        for run in &runs {
            assert_eq!(run.range.start, at);
            at = run.range.end;
            for record in record::decode_run(mtr.run_bytes(run), mtr.start()) {
                let record = record.unwrap();
                check_kind(run, &record);
                decoded.push(record);
            }
        }
        assert_eq!(at, mtr.sequence_at());
        let all: Vec<_> = mtr.records().map(Result::unwrap).collect();
        assert_eq!(decoded, all, "mini-transaction at {}", mtr.start());
    }
}

fn check_kind(run: &Run, record: &Record<'_>) {
    let page = match record {
        Record::FreePage(page) => {
            assert_eq!(run.kind, RunKind::Free);
            page
        }
        Record::File(_) => {
            assert_eq!(run.kind, RunKind::File);
            return;
        }
        Record::InitPage(page) => {
            assert_eq!(run.kind, RunKind::Init);
            page
        }
        Record::TrimPages(page) | Record::Ignored(page) | Record::Extended(page, _) => page,
        Record::Write { page, .. } | Record::Memset { page, .. } | Record::Memmove { page, .. } => {
            assert!(matches!(run.kind, RunKind::Change | RunKind::Init));
            page
        }
    };
    assert_eq!(*page, run.page);
}

/// A mini-transaction may straddle the end of the ring at any byte.
#[test]
fn a_mini_transaction_wraps_at_every_byte() {
    let (mtrs, _) = mtrs();
    let mtr = mtrs.iter().find(|mtr| mtr.stored_len() > 100).unwrap();
    let start = usize::try_from(ring().offset(mtr.start()).unwrap()).unwrap();
    let stored = &LOG[start..start + mtr.stored_len()];
    let capacity = 1000;
    let first_lsn = Lsn(20_000);
    let ring = Ring::new(first_lsn, 12_288 + capacity).unwrap();
    for before_end in 0..=stored.len() as u64 {
        let lsn = Lsn(first_lsn.0 + 3 * capacity - before_end);
        let mut file = vec![0; usize::try_from(12_288 + capacity).unwrap()];
        let mut bytes = stored.to_vec();
        // Laps 2 and 3 of 0, 1, 2, 3, ...: the sequence byte is that of its own position.
        let wrapped = before_end <= mtr.sequence_at() as u64;
        bytes[mtr.sequence_at()] = u8::from(!wrapped);
        for (lsn, byte) in (lsn.0..).zip(&bytes) {
            file[usize::try_from(ring.offset(Lsn(lsn)).unwrap()).unwrap()] = *byte;
        }
        let from = usize::try_from(ring.offset(lsn).unwrap()).unwrap();
        let joined = [&file[from..], &file[12_288..from]].concat();
        let parsed = Mtr::parse(&joined, lsn, ring).unwrap();
        assert_eq!(parsed.end(), Lsn(lsn.0 + stored.len() as u64), "{before_end} before the end");
        assert!(parsed.records().eq(mtr.records()));
        bytes[mtr.sequence_at()] ^= 1;
        assert_eq!(Mtr::parse(&bytes, lsn, ring), Err(Unfinished::Torn));
    }
}
