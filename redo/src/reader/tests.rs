use innodb::encrypted::CipherMode;

use super::*;
use crate::archive::ArchiveHeader;
use crate::test_keys::TestKeys;

const RING: &[u8] = include_bytes!("../../testdata/10.11/ib_logfile0.head");
const CBC: &[u8] = include_bytes!("../../testdata/10.11/backup-log-cbc");
const BLOCKS: &[u8] = include_bytes!("../../testdata/10.5/backup-log-cbc");

const KEYS: Option<&dyn KeySource> = Some(&TestKeys { mode: CipherMode::Cbc, newest: 1 });

/// Start, end and records of each mini-transaction.
fn all(reader: &Reader<'_>, lsn: Lsn) -> Vec<(Lsn, Lsn, String)> {
    let mut mtrs = reader.mtrs(lsn).unwrap();
    let mut found = Vec::new();
    while let Some(mtr) = mtrs.next().unwrap() {
        let records: Vec<_> = mtr.records().map(Result::unwrap).collect();
        found.push((mtr.start(), mtr.end(), format!("{records:?}")));
    }
    assert_eq!(found.last().map_or(lsn, |(_, end, _)| *end), mtrs.lsn());
    found
}

fn log_of(bytes: &[u8]) -> LogFile {
    LogFile::parse(&bytes[..12_288], bytes.len() as u64).unwrap()
}

/// Positions of all mini-transactions and what is in them, of a log that is in one piece.
fn expected(bytes: &[u8]) -> Vec<(Lsn, Lsn, String)> {
    let log = log_of(bytes);
    let found = all(&Reader::new(bytes, &log, KEYS), log.checkpoint().lsn);
    assert!(found.len() > 800);
    found
}

/// The log behind `checkpoint` as files of an archive of `payload` bytes each.
fn archive(bytes: &[u8], start: Lsn, payload: usize) -> Vec<(ArchiveFile, Vec<u8>)> {
    let log = log_of(bytes);
    let offset = usize::try_from(log.place(start).unwrap().offset).unwrap();
    let parts = bytes[offset..].chunks(payload).enumerate().map(|(number, part)| {
        let mut file = vec![0; 12_288];
        file.extend(part);
        file.resize(12_288 + payload, 0);
        let first_lsn = Lsn(start.0 + (number * payload) as u64);
        (ArchiveFile { first_lsn, len: file.len() as u64 }, file)
    });
    parts.collect()
}

fn read_archive<'a>(files: &'a [(ArchiveFile, Vec<u8>)], bytes: &[u8]) -> Reader<'a> {
    let files = files.iter().map(|(file, bytes)| (*file, &bytes[..])).collect();
    Reader::of_archive(files, log_of(bytes).encryption().copied(), KEYS)
}

#[test]
fn archives_read_as_one_log() {
    for bytes in [RING, CBC] {
        let expected = expected(bytes);
        let start = log_of(bytes).checkpoint().lsn;
        for payload in [1 << 20, 9_000, 1_001, 300] {
            let files = archive(bytes, start, payload);
            let reader = read_archive(&files, bytes);
            assert!(all(&reader, start) == expected, "files of {payload} bytes");
        }
        // From anywhere.
        let files = archive(bytes, start, 1000);
        let reader = read_archive(&files, bytes);
        for (number, (lsn, ..)) in expected.iter().enumerate().step_by(100) {
            assert!(all(&reader, *lsn) == expected[number..]);
        }
        assert_eq!(all(&reader, Lsn(start.0 - 1)), []);
        assert_eq!(all(&reader, Lsn(u64::MAX)), []);
    }
    assert_eq!(all(&Reader::of_archive(Vec::new(), None, None), Lsn(20_000)), []);
}

#[test]
fn an_archive_ends_where_a_file_is_missing() {
    let expected = expected(RING);
    let start = log_of(RING).checkpoint().lsn;
    let mut files = archive(RING, start, 5_000);
    let gap = files.remove(4).0.first_lsn;
    let found = all(&read_archive(&files, RING), start);
    let before = expected.iter().take_while(|(_, end, _)| *end <= gap).count();
    assert!(found == expected[..before]);
}

/// The ring that was switched to an archive has sequence bytes of its lap.
#[test]
fn sequence_bytes_of_an_archive_mean_nothing() {
    let start = log_of(RING).checkpoint().lsn;
    let mut files = archive(RING, start, 1 << 20);
    let first = crate::mtr::Mtr::parse(&files[0].1[12_288..], start, Ring::endless(start));
    let at = 12_288 + first.unwrap().sequence_at();
    files[0].1[at] ^= 1;
    assert!(all(&read_archive(&files, RING), start) == expected(RING));
}

#[test]
fn checkpoints_are_confirmed_by_their_records() {
    for bytes in [RING, CBC] {
        let log = log_of(bytes);
        let reader = Reader::new(bytes, &log, KEYS);
        let checkpoint = log.checkpoint();
        assert_eq!(reader.checkpoint_at(checkpoint.end_lsn).unwrap(), Some(checkpoint));
        // Something else; nothing.
        let other = expected(bytes)[3].0;
        assert_eq!(reader.checkpoint_at(other).unwrap(), None);
        assert_eq!(reader.checkpoint_at(Lsn(1 << 40)).unwrap(), None);
        // In an archive, the header tells where to look.
        let mut files = archive(bytes, checkpoint.lsn, 4 << 20);
        let offset = 12_288 + checkpoint.end_lsn.since(checkpoint.lsn);
        let at = if log.encryption().is_some() {
            let raw = crate::header::RawEncryption::from(log.encryption().copied());
            files[0].1[..28].copy_from_slice(zerocopy::IntoBytes::as_bytes(&raw));
            32
        } else {
            0
        };
        files[0].1[at..at + 8].copy_from_slice(&offset.to_be_bytes());
        let header = ArchiveHeader::parse(&files[0].1[..12_288], files[0].0).unwrap();
        assert_eq!(header.encryption().is_some(), log.encryption().is_some());
        let reader = read_archive(&files, bytes);
        let found = header.end_lsns().find_map(|end_lsn| reader.checkpoint_at(end_lsn).unwrap());
        assert_eq!(found, Some(checkpoint));
    }
}

/// Prepare reads in any order: each mini-transaction alone.
#[test]
fn reading_can_begin_at_any_mini_transaction() {
    for bytes in [RING, CBC, BLOCKS] {
        let log = log_of(bytes);
        let reader = Reader::new(bytes, &log, KEYS);
        let mut mtrs = reader.mtrs(log.checkpoint().lsn).unwrap();
        for (start, end, records) in expected(bytes).into_iter().rev() {
            mtrs.seek(start);
            let mtr = mtrs.next().unwrap().unwrap();
            let found: Vec<_> = mtr.records().map(Result::unwrap).collect();
            assert_eq!((mtr.start(), mtr.end()), (start, end));
            assert!(format!("{found:?}") == records, "{start}");
        }
    }
}

#[test]
fn plain_records_are_read_in_place() {
    let log = log_of(RING);
    let reader = Reader::new(RING, &log, None);
    let mut mtrs = reader.mtrs(log.checkpoint().lsn).unwrap();
    while let Some(mtr) = mtrs.next().unwrap() {
        for run in mtr.runs().map(Result::unwrap) {
            let lsn = Lsn(mtr.start().0 + run.range.start as u64);
            assert_eq!(reader.in_place(lsn, run.range.len()), Some(mtr.run_bytes(&run)));
        }
    }
    assert_eq!(reader.in_place(Lsn(12_287), 1), None);
    assert_eq!(reader.in_place(Lsn(12_288), RING.len()), None, "more than there is");
    for bytes in [CBC, BLOCKS] {
        let log = log_of(bytes);
        let reader = Reader::new(bytes, &log, KEYS);
        assert_eq!(reader.in_place(log.checkpoint().lsn, 1), None);
    }
}

/// A stopped server's log wraps at any byte: of a block log at any block.
#[test]
fn rings_go_on_at_their_beginning() {
    let expected = expected(BLOCKS);
    let log = log_of(BLOCKS);
    let blocks = &BLOCKS[2048..];
    let offset = u64::from_be_bytes(*BLOCKS[512 + 16..].first_chunk().unwrap());
    let slot_at = if offset == 0 { 1536 } else { 512 };
    for turn in (512..blocks.len()).step_by(512 * 7) {
        let (before, after) = blocks.split_at(blocks.len() - turn);
        let mut file = [&BLOCKS[..2048], after, before].concat();
        let offset = 2048 + turn as u64 + log.checkpoint().lsn.0 % 512;
        let slot = &mut file[slot_at..slot_at + 512];
        slot[16..24].copy_from_slice(&offset.to_be_bytes());
        let crc = crc32c::crc32c(&slot[..508]).to_be_bytes();
        slot[508..].copy_from_slice(&crc);
        let log = log_of(&file);
        let found = all(&Reader::new(&file, &log, KEYS), log.checkpoint().lsn);
        assert!(found == expected, "turned by {turn}");
    }
}

#[test]
fn an_encrypted_ring_goes_on_at_its_beginning() {
    let expected = expected(CBC);
    let log = log_of(CBC);
    let start = log.checkpoint().lsn;
    for lap in [40_000_usize, 44_444] {
        // As if the log had begun a lap before; what is behind a lap is in the next one.
        let first_lsn = start.0 - 30_000;
        let capacity = lap as u64;
        let mut file = CBC[..12_288].to_vec();
        file[8..16].copy_from_slice(&first_lsn.to_be_bytes());
        let crc = crc32c::crc32c(&file[..508]).to_be_bytes();
        file[508..512].copy_from_slice(&crc);
        file.resize(12_288 + lap, 0);
        let ring = Ring::new(Lsn(first_lsn), 12_288 + capacity).unwrap();
        let last = expected.iter().take_while(|(_, end, _)| end.since(start) < capacity).count();
        for (from, end, _) in &expected[..last] {
            let at = usize::try_from(12_288 + from.since(start)).unwrap();
            let len = usize::try_from(end.since(*from)).unwrap();
            let mut bytes = CBC[at..at + len].to_vec();
            let sequence_at = len - 13;
            bytes[sequence_at] = ring.sequence(Lsn(end.0 - 13)).unwrap();
            for (lsn, byte) in (from.0..).zip(bytes) {
                file[usize::try_from(ring.offset(Lsn(lsn)).unwrap()).unwrap()] = byte;
            }
        }
        let log = log_of(&file);
        let found = all(&Reader::new(&file, &log, KEYS), start);
        assert!(found.len() >= last && found[..last] == expected[..last]);
        assert!(last < expected.len() && last > 100);
    }
}

#[test]
fn keys_are_asked_for_by_version() {
    let log = log_of(BLOCKS);
    let start = log.checkpoint().lsn;
    let none = Reader::new(BLOCKS, &log, None);
    assert!(matches!(none.mtrs(start), Err(ReadError::NoKeys)));
    // The third block was written with version 2.
    let mut bytes = BLOCKS.to_vec();
    let block = &mut bytes[2048 + 2 * 512..][..512];
    block[507] = 2;
    let crc = crc32c::crc32c(&block[..508]).to_be_bytes();
    block[508..].copy_from_slice(&crc);
    // Both versions are the same key.
    let keys = TestKeys { mode: CipherMode::Cbc, newest: 2 };
    assert!(all(&Reader::new(&bytes, &log, Some(&keys)), start) == expected(BLOCKS));
    let reader = Reader::new(&bytes, &log, KEYS);
    let mut mtrs = reader.mtrs(start).unwrap();
    let error = loop {
        match mtrs.next() {
            Ok(mtr) => assert!(mtr.is_some()),
            Err(error) => break error,
        }
    };
    let ReadError::Key { lsn, source } = error else { panic!("{error}") };
    assert_eq!(lsn, Lsn(crate::blocks::block_of(start).0 + 2 * 512));
    assert!(matches!(source, KeyError::MissingVersion { key_id: 1, version: 2 }), "{source}");
    // Nor is there the first one.
    let keys = TestKeys { mode: CipherMode::Cbc, newest: 0 };
    let error = Reader::new(BLOCKS, &log, Some(&keys)).mtrs(start).err();
    assert!(matches!(error, Some(ReadError::Key { .. })));
}
