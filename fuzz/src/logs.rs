//! Redo logs: headers of all formats, and whatever stands behind a header.

use innodb::Lsn;
use innodb::encrypted::CipherMode;
use redo::archive::{self, ArchiveFile, ArchiveHeader};
use redo::blocks::{BlockCopier, CopyError};
use redo::file::LogFile;
use redo::fsp::FspChange;
use redo::header::{Checkpoint, HEADER_SIZE, LogHeader, final_log};
use redo::reader::Reader;
use redo::record;

use crate::bytes::{first, piece, put, take};
use crate::keys::AnyKey;
use crate::seeds::file;

/// Sets the checksum of each 512 bytes from `at` on.
fn seal_blocks(bytes: &mut [u8], at: usize) {
    let (_, blocks) = bytes.split_at_mut(at.min(bytes.len()));
    for block in blocks.chunks_exact_mut(512) {
        seal(block);
    }
}

/// Sets the checksum in the last 4 bytes.
fn seal(bytes: &mut [u8]) {
    if let Some((covered, stored)) = bytes.split_last_chunk_mut() {
        *stored = crc32c::crc32c(covered).to_be_bytes();
    }
}

/// Headers: damaged ones, and with the checksums that would show it.
pub fn header(data: &[u8]) {
    let (flags, data) = first(data);
    let (lens, data) = take(data);
    let mut head = data.to_vec();
    if flags & 1 != 0 {
        seal_blocks(&mut head, 0);
        for slot in [4096, 8192] {
            if let Some(slot) = head.get_mut(slot..slot + 64) {
                seal(slot);
            }
        }
    }
    let len = u64::from_le_bytes(lens);
    let _ = LogHeader::parse(&head);
    let _ = Checkpoint::newest(&head, Lsn(len));
    for len in [head.len() as u64, len] {
        let Ok(log) = LogFile::parse(&head, len) else { continue };
        let (checkpoint, copied) = (log.checkpoint(), log.copied_header("Backup 1.2.3"));
        let again = LogFile::parse(&copied, 1 << 62);
        assert!(again.is_ok_and(|again| again.checkpoint().lsn == checkpoint.lsn));
        for lsn in [checkpoint.lsn, checkpoint.end_lsn, Lsn(0), Lsn(len), Lsn(u64::MAX)] {
            if let Some(place) = log.place(lsn) {
                assert!(place.lsn <= lsn && place.contiguous > 0);
            }
        }
        read(&Reader::new(&head, &log, Some(&AnyKey(CipherMode::Cbc))), checkpoint.lsn);
    }
    let _ = final_log(Lsn(len), "Backup");
}

/// A log of 10.8 or later that holds the given records, with right checksums.
pub fn ring(data: &[u8]) {
    let Some(mut bytes) = final_log(Lsn(50_016), "MariaDB 11.8.6").map(|log| log.to_vec()) else {
        return;
    };
    bytes.truncate(HEADER_SIZE);
    bytes.extend(mtrs::<0>(data));
    read_file(&bytes);
}

/// The same, as if it were encrypted: what is decrypted is anything.
pub fn encrypted_ring(data: &[u8]) {
    let mut bytes = file("redo/testdata/11.8/backup-log-cbc");
    bytes.truncate(HEADER_SIZE);
    bytes.extend(mtrs::<8>(data));
    read_file(&bytes);
}

/// Mini-transactions, each a piece of `data`; `N`: bytes of the nonce.
fn mtrs<const N: usize>(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !data.is_empty() {
        let records;
        (records, data) = piece(data, 1 << 14);
        bytes.extend(records);
        bytes.push(1);
        bytes.extend([0x5a; N]);
        let covered = [records, &[0x5a; N]].concat();
        bytes.extend(crc32c::crc32c(&covered).to_be_bytes());
    }
    bytes
}

/// Blocks of 10.5 to 10.7 with right numbers, plain and encrypted.
pub fn blocks(data: &[u8]) {
    read_file(&log_of_blocks(data));
}

/// The same blocks, copied while they are written.
pub fn copied_blocks(data: &[u8]) {
    let bytes = log_of_blocks(data);
    let Ok(log) = LogFile::parse(&bytes, bytes.len() as u64) else { return };
    let mut copier = BlockCopier::new(log.checkpoint().lsn, None);
    let limits = [None, None, Some(Lsn(copier.position().0.saturating_add(data.len() as u64 / 2)))];
    for limit in limits {
        let place = log.place(copier.window_start());
        let window = place.and_then(|place| bytes.get(usize::try_from(place.offset).ok()?..));
        let _ = copier.take(window.unwrap_or_default(), limit, |_| Ok::<(), CopyError>(()));
    }
}

fn log_of_blocks(data: &[u8]) -> Vec<u8> {
    let (flags, mut data) = first(data);
    let name = if flags & 1 == 0 { "ib_logfile0.head" } else { "backup-log-cbc" };
    let mut bytes = file(&format!("redo/testdata/10.5/{name}"));
    bytes.truncate(2048);
    let Ok(log) = LogFile::parse(&bytes, 4 << 20) else { return bytes };
    let lsn = log.checkpoint().lsn.0;
    let mut number = u32::try_from(lsn / 512 % (1 << 30)).unwrap_or_default() + 1;
    // The ring begins with the block of the checkpoint.
    for slot in [512, 1536] {
        put(&mut bytes, slot + 16, &(2048 + lsn % 512).to_be_bytes());
    }
    while !data.is_empty() {
        let mut block = [0; 512];
        let (kind, payload);
        (kind, data) = first(data);
        (payload, data) = piece(data, 496);
        let len = if kind < 0xf0 { 512 } else { 12 + u16::try_from(payload.len()).unwrap_or(0) };
        put(&mut block, 0, &number.to_be_bytes());
        put(&mut block, 4, &len.to_be_bytes());
        put(&mut block, 11, &[1]);
        put(&mut block, 12, payload);
        if flags & 1 != 0 {
            put(&mut block, 504, &[0, 0, 0, kind & 3]);
        }
        bytes.extend(block);
        number += 1;
    }
    if flags & 2 == 0 {
        seal_blocks(&mut bytes, 512);
    }
    bytes
}

/// Files of an archive: headers, chains, and what they hold.
pub fn archive(data: &[u8]) {
    let (flags, data) = first(data);
    let (fields, data) = take::<40>(data);
    let _ = archive::first_lsn_of_name(data);
    let mut head = vec![0; HEADER_SIZE];
    put(&mut head, 0, &fields);
    if flags & 1 != 0 {
        put(&mut head, 0, &[0, 0, 0, 1]);
    }
    let bytes = [&head, &mtrs::<0>(data)[..]].concat();
    // Where the file is cut in two.
    let cut = HEADER_SIZE + data.len() * usize::from(flags) / 256;
    let (one, two) = bytes.split_at(cut.min(bytes.len()));
    let (first_lsn, len) = (Lsn(50_000), one.len() as u64);
    let one_file = ArchiveFile { first_lsn, len };
    let two_file = ArchiveFile { first_lsn: one_file.end_lsn(), len: two.len() as u64 };
    let header = ArchiveHeader::parse(&head, one_file);
    let encryption = header.as_ref().ok().and_then(|header| header.encryption().copied());
    let two = [&head, two].concat();
    let _ = archive::chain([one_file, two_file, ArchiveFile { len: u64::MAX, ..two_file }]);
    let keys = AnyKey(CipherMode::Ctr);
    let files = vec![(one_file, one), (two_file, two.as_slice())];
    let reader = Reader::of_archive(files, encryption, Some(&keys));
    for end_lsn in header.iter().flat_map(ArchiveHeader::end_lsns).take(4) {
        let _ = reader.checkpoint_at(end_lsn);
    }
    read(&reader, first_lsn);
}

/// Records, as they stand in a mini-transaction.
pub fn records(data: &[u8]) {
    let lsn = Lsn(1 << 40);
    assert!(record::decode_run(data, lsn).count() <= data.len());
    let _ = FspChange::of_run(data, lsn, &(1000..1033));
}

fn read_file(bytes: &[u8]) {
    let Ok(log) = LogFile::parse(bytes.get(..HEADER_SIZE).unwrap_or(bytes), bytes.len() as u64)
    else {
        return;
    };
    for mode in [CipherMode::Cbc, CipherMode::Ctr] {
        let keys = AnyKey(mode);
        let reader = Reader::new(bytes, &log, Some(&keys));
        let _ = reader.checkpoint_at(log.checkpoint().end_lsn);
        read(&reader, log.checkpoint().lsn);
    }
}

/// Reads all that can be read.
fn read(reader: &Reader<'_>, start: Lsn) {
    let Ok(mut mtrs) = reader.mtrs(start) else { return };
    let mut lsn = start;
    while let Ok(Some(mtr)) = mtrs.next() {
        assert!(mtr.start() >= lsn && mtr.end() > mtr.start(), "the log does not go on");
        lsn = mtr.end();
        let _ = mtr.records().count();
        for run in mtr.runs().map_while(Result::ok) {
            records(mtr.run_bytes(&run));
        }
    }
    mtrs.seek(lsn);
    assert!(!matches!(mtrs.next(), Ok(Some(_))), "the log goes on behind its end");
}
