//! Whatever the bytes are, the parsers return, and runs and records agree about them.

#![cfg(test)]

use proptest::collection::vec;
use proptest::prelude::*;
use redo::fsp::FspChange;
use redo::header::{Checkpoint, LogHeader};
use redo::mtr::{Mtr, RunKind};
use redo::record::{self, Record};
use redo::{Lsn, Ring};

/// Bytes in which records are likely: type bytes, small numbers, and anything else.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        prop::sample::select(&[0x02, 0x12, 0x23, 0x34, 0x35, 0x46, 0x55, 0xb3, 0xc4, 0xa1][..]),
        0..12_u8,
        any::<u8>(),
    ];
    vec(kind, 0..60)
}

/// Bytes that begin with records of one page whose lengths are right.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let record =
        (0..8_u8, any::<bool>(), vec(0..200_u8, 1..12)).prop_map(|(kind, same, payload)| {
            let len = u8::try_from(payload.len()).unwrap();
            [&[kind << 4 | u8::from(same) << 7 | len][..], &payload].concat()
        });
    vec(record, 1..6).prop_map(|records| records.concat())
}

proptest! {
    #[test]
    fn parsers_return(bytes in bytes(), lsn in any::<u64>(), first_lsn in any::<u64>()) {
        let _ = LogHeader::parse(&bytes);
        let _ = Checkpoint::parse(&bytes, Lsn(first_lsn));
        let _ = Checkpoint::newest(&bytes, Lsn(first_lsn));
        let _ = FspChange::of_run(&bytes, Lsn(lsn));
        prop_assert!(record::decode_run(&bytes, Lsn(lsn)).count() <= bytes.len());
        for ring in [Ring::endless(Lsn(first_lsn)), Ring::new(Lsn(first_lsn), 12_304).unwrap()] {
            let _ = Mtr::parse(&bytes, Lsn(lsn), ring);
        }
    }

    #[test]
    fn runs_and_records_agree(mut records in prop_oneof![records(), bytes()]) {
        let crc = crc32c::crc32c(&records).to_be_bytes();
        let len = records.len();
        records.push(1);
        records.extend(crc);
        let lsn = Lsn(50_000);
        let Ok(mtr) = Mtr::parse(&records, lsn, Ring::endless(lsn)) else { return Ok(()) };
        prop_assume!(mtr.sequence_at() == len);
        let all: Result<Vec<_>, _> = mtr.records().collect();
        let mut decoded = Vec::new();
        for run in mtr.runs() {
            let Ok(run) = run else {
                prop_assert!(all.is_err(), "only the runs are refused");
                return Ok(());
            };
            for record in record::decode_run(mtr.run_bytes(&run), lsn) {
                let Ok(record) = record else {
                    prop_assert!(all.is_err(), "only the run is refused");
                    return Ok(());
                };
                let expected = match record {
                    Record::FreePage(_) => RunKind::Free,
                    Record::InitPage(_) => RunKind::Init,
                    Record::TrimPages(_) => RunKind::Trim,
                    Record::File(_) => RunKind::File,
                    _ => run.kind,
                };
                prop_assert_eq!(run.kind, expected);
                decoded.push(record);
            }
        }
        // Alone, a FILE_CHECKPOINT is always the last record.
        match all {
            Ok(all) => prop_assert_eq!(all, decoded),
            Err(error) => prop_assert_eq!(error.cause, redo::Malformed::CheckpointNotLast),
        }
    }
}
