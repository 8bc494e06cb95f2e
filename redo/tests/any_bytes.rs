//! Whatever the bytes are, the parsers return, and runs and records agree about them.

#![cfg(test)]

mod keys;

use innodb::encrypted::CipherMode;
use proptest::collection::vec;
use proptest::prelude::*;
use redo::archive::{self, ArchiveFile, ArchiveHeader};
use redo::blocks::{BlockCopier, Blocks, CopyError, Payload};
use redo::file::LogFile;
use redo::fsp::FspChange;
use redo::header::{Checkpoint, LogHeader};
use redo::mtr::{Layout, Mtr, RunKind, Stored};
use redo::reader::Reader;
use redo::record::{self, Record};
use redo::{Lsn, Ring};

use keys::TestKeys;

/// Logs of all formats, from which damaged ones are made.
const LOGS: [&[u8]; 6] = [
    include_bytes!("../testdata/10.5/ib_logfile0.head"),
    include_bytes!("../testdata/10.5/backup-log-cbc"),
    include_bytes!("../testdata/10.5/backup-log-ctr"),
    include_bytes!("../testdata/10.11/ib_logfile0.head"),
    include_bytes!("../testdata/10.11/backup-log-cbc"),
    include_bytes!("../testdata/11.8/backup-log-cbc"),
];

/// Sets the checksum of each 512 bytes from `at` on, so that damage is met behind it.
fn seal(bytes: &mut [u8], at: usize) {
    for part in bytes.get_mut(at..).unwrap_or_default().chunks_exact_mut(512) {
        let crc = crc32c::crc32c(&part[..508]).to_be_bytes();
        part[508..].copy_from_slice(&crc);
    }
}

/// Reads and copies whatever can be read from the log in `bytes`.
fn read_all(bytes: &[u8], lsn: Option<Lsn>) {
    let keys = TestKeys { newest: u32::MAX, ..TestKeys::new(CipherMode::Cbc) };
    let head = bytes.get(..12_288).unwrap_or(bytes);
    let Ok(log) = LogFile::parse(head, bytes.len() as u64) else { return };
    let _ = LogFile::parse(&log.copied_header("Backup"), bytes.len() as u64);
    let reader = Reader::new(bytes, &log, Some(&keys));
    let _ = reader.checkpoint_at(log.checkpoint().end_lsn);
    let mut copier = BlockCopier::new(log.checkpoint().lsn, None);
    let limit = lsn.filter(|lsn| lsn.0 % 2 == 0);
    for _ in 0..2 {
        let place = log.place(copier.window_start()).map_or(0, |place| place.offset);
        let window = usize::try_from(place).ok().and_then(|at| bytes.get(at..));
        let _ = copier.take(window.unwrap_or_default(), limit, |_| Ok::<(), CopyError>(()));
    }
    let Ok(mut mtrs) = reader.mtrs(lsn.unwrap_or(log.checkpoint().lsn)) else { return };
    let mut count = 0;
    while let Ok(Some(mtr)) = mtrs.next() {
        count += 1;
        let _ = (mtr.records().count(), mtr.runs().count());
        // A ring has no two laps; blocks without records are one byte long.
        assert!(count <= bytes.len());
    }
}

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
        let _ = FspChange::of_run(&bytes, Lsn(lsn), &(0..9));
        prop_assert!(record::decode_run(&bytes, Lsn(lsn)).count() <= bytes.len());
        for ring in [Ring::endless(Lsn(first_lsn)), Ring::new(Lsn(first_lsn), 12_304).unwrap()] {
            let _ = Mtr::parse(&bytes, Lsn(lsn), ring);
            let _ = Stored::parse(&bytes, Lsn(lsn), Layout::EncryptedRing(ring));
        }
        let payload = Payload::new(lsn % 2 == 0, Lsn(first_lsn));
        let _ = Stored::parse(&bytes, Lsn(lsn), Layout::Blocks(payload));
        let _ = Blocks::new(Lsn(lsn), None).take(&bytes, &mut Vec::new());
        let _ = archive::first_lsn_of_name(&bytes);
        let file = ArchiveFile { first_lsn: Lsn(first_lsn), len: lsn };
        let _ = ArchiveHeader::parse(&bytes, file);
        prop_assert!(archive::chain([file, file]).len() <= 2);
        let head = [&bytes[..], &[0; 12_288]].concat();
        if let Ok(header) = ArchiveHeader::parse(&head, file) {
            prop_assert!(header.end_lsns().all(|end| end >= file.first_lsn));
        }
    }

    /// Damage in the header, the blocks or the mini-transactions of real logs, with and without
    /// the checksums that would show it.
    #[test]
    fn damaged_logs_are_read_to_some_end(
        log in prop::sample::select(&LOGS[..]),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_header in any::<bool>(),
        is_sealed in any::<bool>(),
        len in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        lsn in prop::option::of(any::<u64>()),
    ) {
        let mut bytes = log.to_vec();
        let room = if in_header { 2048 } else { bytes.len() };
        for (at, value) in damage {
            bytes[at.index(room)] = value;
        }
        if is_cut {
            bytes.truncate(len.index(bytes.len()));
        }
        if is_sealed {
            seal(&mut bytes, 0);
        }
        read_all(&bytes, lsn.map(Lsn));
    }

    /// Blocks with right numbers and checksums and any payload.
    #[test]
    fn any_payload_in_blocks(payload in vec(records(), 1..40), len in 12..508_u16) {
        let mut bytes = LOGS[0][..2048].to_vec();
        let lsn = LogFile::parse(&bytes, 4 << 20).unwrap().checkpoint().lsn;
        bytes[512 + 16..512 + 24].copy_from_slice(&(2048 + lsn.0 % 512).to_be_bytes());
        bytes[1536 + 16..1536 + 24].copy_from_slice(&(2048 + lsn.0 % 512).to_be_bytes());
        let payload = payload.concat();
        let parts = payload.chunks(496);
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            let mut block = [0; 512];
            let block_no = u32::try_from(lsn.0 / 512).unwrap() + u32::try_from(number).unwrap() + 1;
            block[..4].copy_from_slice(&block_no.to_be_bytes());
            let len = if number == last { len } else { 512 };
            block[4..6].copy_from_slice(&len.to_be_bytes());
            block[12..12 + part.len()].copy_from_slice(part);
            bytes.extend(block);
        }
        seal(&mut bytes, 512);
        read_all(&bytes, None);
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
