//! Against an archive that a test writes as a server of 13 does: the files are made ahead and
//! filled with real mini-transactions, which do not depend on where they are.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use innodb::encrypted::{CipherMode, KeySource};
use redo::archive::name_of_first_lsn;
use redo::file::LogFile;
use redo::header::{HEADER_LEN, HEADER_SIZE, LogHeader};
use redo::reader::Reader;
use tempfile::TempDir;

use super::format_tests::{LOGS, keys, mtrs};
use super::tests::{Sink, failure, mtr, reached, write_record};
use super::*;

const CREATOR: &str = "Backup 13.0";
const LONG: Duration = Duration::from_secs(20);
const FILE_LEN: u64 = 4 << 20;
const PAYLOAD: u64 = FILE_LEN - HEADER_LEN;
const FIRST: Lsn = Lsn(HEADER_LEN);

/// A server that archives its log.
struct Archiver {
    dir: TempDir,
    mode: Option<CipherMode>,
    checkpoint: Checkpoint,
    /// Of the header of an encrypted file.
    encryption: [u8; 28],
    /// The files that there are or were.
    files: Vec<File>,
    /// The mini-transactions of a real log.
    model: Vec<Vec<u8>>,
    /// What a copy must hold.
    expected: Vec<u8>,
}

impl Archiver {
    /// Begins with the log of a real server.
    fn start(log: &[u8], mode: Option<CipherMode>) -> Self {
        let file = LogFile::parse(log, log.len() as u64).unwrap();
        let checkpoint = file.checkpoint();
        let keys = mode.map(keys);
        let reader = Reader::new(log, &file, keys.as_deref());
        let mut found = reader.mtrs(checkpoint.lsn).unwrap();
        let mut model = Vec::new();
        while let Some(mtr) = found.next().unwrap() {
            let at = usize::try_from(file.place(mtr.start()).unwrap().offset).unwrap();
            let len = usize::try_from(mtr.end().since(mtr.start())).unwrap();
            model.push(log[at..at + len].to_vec());
        }
        let mut server = Self {
            dir: TempDir::new().unwrap(),
            mode,
            checkpoint,
            encryption: *log[48..].first_chunk().unwrap(),
            files: Vec::new(),
            model,
            expected: Vec::new(),
        };
        for number in 0..server.model.len() {
            server.append(number);
        }
        let offset = HEADER_LEN + checkpoint.end_lsn.since(FIRST);
        let at = if mode.is_some() { 32 } else { 0 };
        server.files[0].write_all_at(&offset.to_be_bytes(), at).unwrap();
        server
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.path().join(name_of_first_lsn(Lsn(FIRST.0 + number * PAYLOAD)))
    }

    /// Makes the next file, ahead.
    fn create(&mut self) {
        let file = File::create_new(self.path(self.files.len() as u64)).unwrap();
        file.set_len(FILE_LEN).unwrap();
        if self.mode.is_some() {
            file.write_all_at(&self.encryption, 0).unwrap();
        }
        self.files.push(file);
    }

    fn lsn(&self) -> Lsn {
        Lsn(self.checkpoint.lsn.0 + self.expected.len() as u64)
    }

    /// Appends a mini-transaction, in pieces; makes the next file when it is needed.
    fn append(&mut self, number: usize) {
        let stored = self.model[number % self.model.len()].clone();
        self.append_bytes(&stored, number);
    }

    fn append_bytes(&mut self, stored: &[u8], seed: usize) {
        let mut position = self.lsn().since(FIRST);
        // The terminator is overwritten by what follows.
        for piece in [stored, &[0]].concat().chunks(1 + seed * 37 % 900) {
            let (number, offset) = (position / PAYLOAD, HEADER_LEN + position % PAYLOAD);
            let number = usize::try_from(number).unwrap();
            let left = usize::try_from(FILE_LEN - offset).unwrap().min(piece.len());
            position += piece.len() as u64;
            while (self.files.len() as u64) * PAYLOAD < position {
                self.create();
            }
            self.files[number].write_all_at(&piece[..left], offset).unwrap();
            if left < piece.len() {
                self.files[number + 1].write_all_at(&piece[left..], HEADER_LEN).unwrap();
            }
        }
        self.expected.extend_from_slice(stored);
    }

    fn copier(&self) -> (RedoCopier<Sink>, Sink) {
        let sink = Sink::default();
        let keys: Option<Arc<dyn KeySource>> = self.mode.map(keys);
        let log = self.dir.path().join("ib_logfile0");
        let (copier, _) = RedoCopier::start(&log, CREATOR, keys, sink.clone()).unwrap();
        (copier, sink)
    }

    /// The copy is an ordinary log, and holds what was written.
    fn check(&self, copy: &Sink) {
        let copy = copy.0.lock().unwrap();
        let log = LogFile::parse(&copy[..HEADER_SIZE], copy.len() as u64).unwrap();
        assert_eq!((log.checkpoint(), log.creator()), (self.checkpoint, CREATOR));
        assert_eq!(log.encryption().is_some(), self.mode.is_some());
        assert!(copy[HEADER_SIZE..] == self.expected, "{} bytes differ", copy.len());
        let found = mtrs(&copy, self.mode);
        assert_eq!(found.last().map(|(end, _)| *end), Some(self.lsn()));
    }
}

/// Logs of servers from 10.8 on: those of blocks are not archived.
fn logs() -> impl Iterator<Item = (&'static [u8], Option<CipherMode>)> {
    LOGS.into_iter().skip(3)
}

#[test]
fn an_archive_is_followed_from_file_to_file() {
    for (log, mode) in logs() {
        let mut server = Archiver::start(log, mode);
        let (copier, sink) = server.copier();
        assert_eq!(copier.start_checkpoint(), server.checkpoint);
        let mut number = 0;
        while server.lsn().since(FIRST) < 2 * PAYLOAD + 100_000 {
            server.append(number);
            number += 1;
            if number % 1000 == 0 {
                reached(&copier, server.lsn());
            }
        }
        assert_eq!(copier.checkpoint().unwrap(), server.checkpoint);
        copier.set_limit(server.lsn()).unwrap();
        copier.drain(LONG).unwrap();
        server.check(&sink);
    }
}

/// All of it is there already, the last file but one is read-only, and one more was made ahead.
#[test]
fn a_backlog_in_several_files_is_copied() {
    let (log, mode) = logs().next().unwrap();
    let mut server = Archiver::start(log, mode);
    while server.lsn().since(FIRST) < PAYLOAD + 1_000_000 {
        server.append(server.expected.len());
    }
    server.create();
    let (copier, sink) = server.copier();
    copier.set_limit(server.lsn()).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}

#[test]
fn files_that_are_removed_too_early_are_missed() {
    let (log, mode) = logs().next().unwrap();
    let mut server = Archiver::start(log, mode);
    let (copier, _sink) = server.copier();
    reached(&copier, server.lsn());
    // The open one could be read to its end.
    fs::remove_file(server.path(0)).unwrap();
    server.create();
    server.create();
    fs::remove_file(server.path(1)).unwrap();
    let error = failure(&copier);
    let RedoCopyError::Removed { position } = error else { panic!("{error}") };
    assert_eq!(position, server.lsn());
    assert!(error.hint().is_some());
}

/// The current file is renamed when archiving is switched on or off; its contents stay.
#[test]
fn archiving_is_switched_on_and_off() {
    let (log, _) = logs().next().unwrap();
    let model = LogHeader::parse(log).unwrap();
    let mut server = Archiver::start(log, None);
    let ring_path = server.dir.path().join("ib_logfile0");
    let area = |first_lsn: Lsn, checkpoint: Checkpoint| {
        let mut area = model.copied(checkpoint, "MariaDB 13.0.1");
        area[8..16].copy_from_slice(&first_lsn.0.to_be_bytes());
        let crc = crc32c::crc32c(&area[..508]);
        area[508..512].copy_from_slice(&crc.to_be_bytes());
        area
    };
    // Off at first: the ring has the same bytes.
    let archived = fs::read(server.path(0)).unwrap();
    let offset = &archived[..8];
    server.files[0].write_all_at(&area(FIRST, server.checkpoint), 0).unwrap();
    fs::rename(server.path(0), &ring_path).unwrap();
    let (copier, sink) = server.copier();
    reached(&copier, server.lsn());
    // On.
    let file = File::options().write(true).open(&ring_path).unwrap();
    file.write_all_at(&[0; HEADER_SIZE], 0).unwrap();
    file.write_all_at(offset, 0).unwrap();
    fs::rename(&ring_path, server.path(0)).unwrap();
    let mut number = 0;
    while server.lsn().since(FIRST) < PAYLOAD + 50_000 {
        server.append(number);
        number += 1;
        if number % 1000 == 0 {
            reached(&copier, server.lsn());
        }
    }
    reached(&copier, server.lsn());
    // Off: the second file becomes a ring, with a checkpoint of its own.
    let lsn = server.lsn();
    let record = [&[0xfa, 0, 0], &lsn.0.to_be_bytes()[..]].concat();
    server.append_bytes(&mtr(&record), 1);
    let first_lsn = Lsn(FIRST.0 + PAYLOAD);
    let checkpoint = Checkpoint { lsn, end_lsn: lsn };
    server.files[1].write_all_at(&area(first_lsn, checkpoint), 0).unwrap();
    fs::rename(server.path(1), &ring_path).unwrap();
    let ring = File::options().write(true).open(&ring_path).unwrap();
    for number in 0..50 {
        let stored = mtr(&write_record(100 + number, number));
        let at = HEADER_LEN + server.lsn().since(first_lsn);
        ring.write_all_at(&[&stored[..], &[0]].concat(), at).unwrap();
        server.expected.extend(stored);
    }
    reached(&copier, server.lsn());
    assert_eq!(copier.checkpoint().unwrap(), checkpoint);
    copier.set_limit(server.lsn()).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}
