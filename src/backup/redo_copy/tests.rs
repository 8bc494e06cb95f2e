//! Against a log file that a test writes as a server does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use redo::Ring;
use redo::header::{HEADER_LEN, HEADER_SIZE, LogHeader};
use redo::mtr::{Mtr, Unfinished};
use tempfile::TempDir;

use super::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);
const CREATOR: &str = "Backup 10.11.19";

/// Writes a log: mini-transactions in a ring, each followed by a terminator.
pub(super) struct Server {
    dir: TempDir,
    file: File,
    ring: Ring,
    lsn: Lsn,
    /// What a copy that begins at the first LSN must hold.
    expected: Vec<u8>,
}

fn checkpoint_at(lsn: Lsn) -> Checkpoint {
    Checkpoint { lsn, end_lsn: lsn }
}

/// A log file whose checkpoint is its first LSN.
fn create(path: &Path, first_lsn: Lsn, capacity: u64) -> (File, Ring) {
    let model = include_bytes!("../../../redo/testdata/10.11/backup-header");
    let header = LogHeader::parse(model).unwrap();
    let area = header.copied(checkpoint_at(first_lsn), "MariaDB 10.11.19");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(HEADER_LEN + capacity).unwrap();
    file.write_all_at(&area, 0).unwrap();
    (file, Ring::new(first_lsn, HEADER_LEN + capacity).unwrap())
}

/// The stored form of one mini-transaction, all but the sequence byte right.
pub(super) fn mtr(records: &[u8]) -> Vec<u8> {
    [records, &[1], &crc32c::crc32c(records).to_be_bytes()].concat()
}

/// A WRITE of `len` bytes, most of which look like terminators.
pub(super) fn write_record(len: usize, seed: usize) -> Vec<u8> {
    let payload = [&[5, 3, 46][..], &vec![u8::try_from(seed % 5).unwrap(); len]].concat();
    // The length counts its own bytes: 1 to 3.
    let mut record = if payload.len() > 16_524 {
        let long = u32::try_from(payload.len() + 3 - 15 - 16_512).unwrap().to_be_bytes();
        vec![0x30, 0xc0 | long[1], long[2], long[3]]
    } else if payload.len() > 141 {
        let long = u16::try_from(payload.len() + 2 - 15 - 128).unwrap().to_be_bytes();
        vec![0x30, 0x80 | long[0], long[1]]
    } else if payload.len() > 15 {
        vec![0x30, u8::try_from(payload.len() + 1 - 15).unwrap()]
    } else {
        vec![0x30 | u8::try_from(payload.len()).unwrap()]
    };
    record.extend(payload);
    record
}

impl Server {
    fn start(capacity: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let first_lsn = Lsn(50_000);
        let (file, ring) = create(&dir.path().join("ib_logfile0"), first_lsn, capacity);
        Self { dir, file, ring, lsn: first_lsn, expected: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ib_logfile0")
    }

    fn put(&self, lsn: Lsn, bytes: &[u8]) {
        let until_end = usize::try_from(self.ring.contiguous(lsn).unwrap()).unwrap();
        let (before, after) = bytes.split_at(until_end.min(bytes.len()));
        self.file.write_all_at(before, self.ring.offset(lsn).unwrap()).unwrap();
        self.file.write_all_at(after, HEADER_LEN).unwrap();
    }

    /// Appends a mini-transaction in two writes, torn in between.
    fn append_torn(&mut self, records: &[u8], tear: usize, between: impl FnOnce(&Self)) {
        let mut stored = mtr(records);
        self.expected.extend(&stored);
        stored[records.len()] = self.ring.sequence(Lsn(self.lsn.0 + records.len() as u64)).unwrap();
        stored.push(0);
        let (first, second) = stored.split_at(tear.min(stored.len()));
        self.put(self.lsn, first);
        between(self);
        self.put(Lsn(self.lsn.0 + first.len() as u64), second);
        self.lsn = Lsn(self.lsn.0 + stored.len() as u64 - 1);
    }

    fn append(&mut self, records: &[u8]) {
        self.append_torn(records, 0, |_| {});
    }

    /// Writes a checkpoint into one of the slots.
    fn checkpoint(&self, checkpoint: Checkpoint, slot: u64) {
        let model = LogHeader::parse(include_bytes!("../../../redo/testdata/10.11/backup-header"));
        let area = model.unwrap().copied(checkpoint, "");
        self.file.write_all_at(&area[4096..4160], slot * 4096).unwrap();
    }

    /// Replaces the file by one with another size that begins at `first_lsn` and holds what was
    /// written since, as a server does at the end of resizing.
    fn resize(&mut self, first_lsn: Lsn, capacity: u64) {
        let path = self.dir.path().join("ib_logfile101");
        let (file, ring) = create(&path, first_lsn, capacity);
        let from = usize::try_from(first_lsn.0 - 50_000).unwrap();
        (self.file, self.ring) = (file, ring);
        let kept = [&self.expected[from..], &[0]].concat();
        self.put(first_lsn, &kept);
        std::fs::rename(path, self.path()).unwrap();
    }

    fn copier(&self) -> (RedoCopier<Sink>, Receiver<FileEvent>, Sink) {
        let sink = Sink::default();
        let (copier, events) =
            RedoCopier::start(&self.path(), CREATOR, None, sink.clone()).unwrap();
        (copier, events, sink)
    }

    fn check(&self, copy: &Sink) {
        let copy = copy.0.lock().unwrap();
        let (header, payload) = copy.split_at(HEADER_SIZE);
        let header = LogHeader::parse(header).unwrap();
        assert_eq!((header.first_lsn(), header.creator()), (Lsn(50_000), CREATOR));
        assert!(payload == self.expected, "{} bytes differ", payload.len());
    }
}

/// What the copier wrote.
#[derive(Clone, Default)]
pub(super) struct Sink(pub(super) Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for what the server has written.
pub(super) fn reached<W: Write + Send + 'static>(copier: &RedoCopier<W>, lsn: Lsn) {
    copier.note_flushed(lsn);
    assert!(copier.wait_for(lsn, LONG).unwrap(), "stuck at {:?}", copier.position());
}

/// The error that ends a copy, however it is noticed.
pub(super) fn failure<W: Write + Send + 'static>(copier: &RedoCopier<W>) -> RedoCopyError {
    let started = Instant::now();
    let error = copier.wait_for(Lsn(u64::MAX), LONG).unwrap_err();
    assert!(started.elapsed() < LONG);
    assert_eq!(copier.position().unwrap_err().to_string(), error.to_string());
    assert_eq!(copier.pause().unwrap_err().to_string(), error.to_string());
    assert_eq!(copier.checkpoint().unwrap_err().to_string(), error.to_string());
    error
}

#[test]
fn copies_what_a_busy_server_writes_through_many_laps() {
    for capacity in [4000, 60_000, 300_000] {
        let mut server = Server::start(capacity);
        let (copier, _events, sink) = server.copier();
        let mut written = 0;
        for n in 0..4000 {
            let record = write_record(n * 7919 % 900 + 1, n);
            let tear = n * 31 % (record.len() + 6);
            written += record.len() as u64 + 5;
            while server.lsn.since(copier.position().unwrap()) + 2000 > capacity {
                reached(&copier, server.lsn);
            }
            server.append_torn(&record, tear, |_| std::thread::yield_now());
        }
        assert!(written > 5 * capacity);
        copier.set_limit(server.lsn).unwrap();
        let (log, _) = copier.drain(LONG).unwrap();
        assert_eq!(log.checkpoint, checkpoint_at(Lsn(50_000)));
        assert_eq!((log.end_lsn, server.expected.len() as u64), (server.lsn, written));
        server.check(&sink);
    }
}

/// As a server does: whole blocks, behind the terminator whatever the log buffer held before. Here
/// the mini-transactions of that stale log nearly always begin where new ones end, and every write
/// is torn everywhere.
#[test]
fn stale_log_behind_a_torn_write_is_never_copied() {
    const BLOCK: usize = 4096;
    let mut server = Server::start(64 * BLOCK as u64);
    let (copier, _events, sink) = server.copier();
    let mut buffer = vec![0; 2 * BLOCK];
    let (mut block_lsn, mut used) = (server.lsn, 0);
    for n in 0..1500 {
        while server.lsn.since(copier.position().unwrap()) > 40 * BLOCK as u64 {
            assert!(copier.wait_for(Lsn(server.lsn.0 - 30 * BLOCK as u64), LONG).unwrap());
        }
        // Mini-transactions of 32 bytes, different ones.
        for k in 0..=n % 5 {
            let mut record = [7; 27];
            record[..5].copy_from_slice(&[0x30, 11, 5, 3, 46]);
            record[5..9].copy_from_slice(&u32::try_from(n * 8 + k).unwrap().to_be_bytes());
            // The first one is shorter, so that later ones reach into the next block.
            let record = if server.expected.is_empty() { &[0xf1, 0] } else { &record[..] };
            let mut stored = mtr(record);
            server.expected.extend(&stored);
            let sequence_lsn = Lsn(server.lsn.0 + record.len() as u64);
            stored[record.len()] = server.ring.sequence(sequence_lsn).unwrap();
            buffer[used..used + stored.len()].copy_from_slice(&stored);
            used += stored.len();
            server.lsn = Lsn(server.lsn.0 + stored.len() as u64);
        }
        let blocks = used.div_ceil(BLOCK);
        buffer[used] = if used % BLOCK == 0 { buffer[used] } else { 0 };
        for (lsn, piece) in (block_lsn.0..).step_by(25).zip(buffer[..blocks * BLOCK].chunks(25)) {
            server.put(Lsn(lsn), piece);
        }
        if used >= BLOCK {
            // The rest moves to the front of the buffer; behind it the old log stays.
            buffer.copy_within(BLOCK..used, 0);
            used -= BLOCK;
            block_lsn = Lsn(block_lsn.0 + BLOCK as u64);
        }
    }
    copier.set_limit(server.lsn).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}

#[test]
fn the_end_of_a_quiet_log_is_copied_when_it_has_settled() {
    let mut server = Server::start(8 << 20);
    let (copier, _events, sink) = server.copier();
    for len in [1, 4000, 100_000, (1 << 20) - 8] {
        server.append(&write_record(len, 1));
        assert!(copier.wait_for(server.lsn, LONG).unwrap());
    }
    // Valid, and followed by neither a terminator nor the end of a block: not the end of a log.
    let record = write_record(40, 2);
    let mut stored = mtr(&record);
    stored.push(0x37);
    server.put(server.lsn, &stored);
    assert!(!copier.wait_for(Lsn(server.lsn.0 + 1), 3 * SHORT).unwrap());
    // By the server's word it is log all the same.
    server.expected.extend(&stored[..stored.len() - 1]);
    let end = Lsn(server.lsn.0 + stored.len() as u64 - 1);
    copier.note_flushed(end);
    assert!(copier.wait_for(end, LONG).unwrap());
    copier.set_limit(end).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}

#[test]
fn the_largest_mini_transactions_fit_wherever_they_begin() {
    let mut server = Server::start(5 << 20);
    let (copier, _events, sink) = server.copier();
    for n in 0..12 {
        server.append(&write_record((1 << 20) - 8, n));
        server.append(&write_record(n * 5000 + 1, n));
        if n % 3 == 2 {
            reached(&copier, server.lsn);
        }
    }
    copier.set_limit(server.lsn).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}

#[test]
fn a_backlog_is_copied_to_the_limit_and_not_further() {
    let mut server = Server::start(20 << 20);
    for n in 0..15_000 {
        server.append(&write_record(n % 700 + 1, n));
    }
    let limit = server.lsn;
    let expected = server.expected.clone();
    server.append(&write_record(50, 1));
    let (copier, _events, sink) = server.copier();
    // Wherever it is by now.
    match copier.set_limit(limit) {
        Ok(()) => {
            let (log, _) = copier.drain(LONG).unwrap();
            assert_eq!(log.end_lsn, limit);
            assert!(sink.0.lock().unwrap()[HEADER_SIZE..] == expected);
        }
        Err(error) => assert!(matches!(error, RedoCopyError::LimitPassed { .. }), "{error}"),
    }
}

#[test]
fn nothing_is_copied_while_paused_and_the_limit_is_exact() {
    let mut server = Server::start(100_000);
    let (copier, _events, sink) = server.copier();
    server.append(&write_record(10, 1));
    reached(&copier, server.lsn);
    let position = copier.pause().unwrap();
    assert_eq!(position, server.lsn);
    server.append(&write_record(20, 2));
    let limit = server.lsn;
    let expected = server.expected.clone();
    server.append(&write_record(30, 3));
    assert!(!copier.wait_for(limit, SHORT).unwrap());
    assert_eq!(copier.position().unwrap(), position);
    copier.set_limit(limit).unwrap();
    assert!(!copier.wait_for(limit, SHORT).unwrap());
    copier.resume();
    reached(&copier, limit);
    assert!(!copier.wait_for(server.lsn, LONG).unwrap(), "it ends at its limit");
    let (log, _) = copier.drain(LONG).unwrap();
    assert_eq!(log.end_lsn, limit);
    assert!(sink.0.lock().unwrap()[HEADER_SIZE..] == expected);
}

#[test]
fn a_limit_at_the_position_ends_the_copy_at_once() {
    let mut server = Server::start(100_000);
    let (copier, _events, sink) = server.copier();
    server.append(&write_record(10, 1));
    reached(&copier, server.lsn);
    copier.pause().unwrap();
    copier.set_limit(server.lsn).unwrap();
    // Draining implies going on.
    assert_eq!(copier.drain(LONG).unwrap().0.end_lsn, server.lsn);
    server.check(&sink);
}

#[test]
fn an_empty_log_is_a_header() {
    let server = Server::start(100_000);
    let (copier, _events, sink) = server.copier();
    copier.set_limit(Lsn(50_000)).unwrap();
    assert_eq!(copier.drain(LONG).unwrap().0.end_lsn, Lsn(50_000));
    server.check(&sink);
}

#[test]
fn limits_that_cannot_be_met() {
    let mut server = Server::start(100_000);
    let (copier, _events, _) = server.copier();
    server.append(&write_record(10, 1));
    reached(&copier, server.lsn);
    let passed = copier.set_limit(Lsn(50_001)).unwrap_err();
    assert!(matches!(passed, RedoCopyError::LimitPassed { limit: Lsn(50_001), .. }));
    let start = server.lsn;
    copier.set_limit(Lsn(start.0 + 5)).unwrap();
    server.append(&write_record(10, 1));
    match failure(&copier) {
        RedoCopyError::LimitInside { limit, start: at, end } => {
            assert_eq!((limit, at, end), (Lsn(start.0 + 5), start, server.lsn));
        }
        error => panic!("{error}"),
    }
    let (copier, _events, _) = server.copier();
    assert!(matches!(copier.drain(LONG), Err(RedoCopyError::NoLimit)));
}

#[test]
fn a_limit_that_is_never_written_is_not_reached() {
    let mut server = Server::start(100_000);
    let (copier, _events, _) = server.copier();
    server.append(&write_record(10, 1));
    reached(&copier, server.lsn);
    copier.set_limit(Lsn(60_000)).unwrap();
    let message = copier.drain(SHORT).err().unwrap().to_string();
    let expected = format!("Was only able to copy log from 50000 to {}, not 60000; ", server.lsn);
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn overwritten_log_is_noticed_early() {
    // Known from the checkpoint's LSN; known from its end LSN alone.
    for by_lsn in [true, false] {
        let capacity = 40_000;
        let mut server = Server::start(capacity);
        let (copier, _events, _) = server.copier();
        server.append(&write_record(10, 1));
        reached(&copier, server.lsn);
        let position = copier.pause().unwrap();
        while server.lsn.since(position) < capacity + 1000 {
            server.append(&write_record(500, 2));
        }
        let before = Lsn(server.lsn.0 - 30_000);
        let (lsn, end_lsn) = if by_lsn { (before, before) } else { (position, server.lsn) };
        server.checkpoint(Checkpoint { lsn, end_lsn }, 2);
        copier.note_server_lsn(server.lsn);
        copier.resume();
        let error = failure(&copier);
        let message = error.to_string();
        let expected =
            format!("Was only able to copy log from 50000 to {position}, not {}: ", server.lsn);
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.contains("try increasing innodb_log_file_size to 4194304"), "{message}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn checkpoints_alone_are_no_overrun() {
    let mut server = Server::start(40_000);
    let (copier, _events, sink) = server.copier();
    for n in 0..300_u64 {
        server.append(&write_record(500, 1));
        reached(&copier, server.lsn);
        // Up to the very end of what is written.
        server.checkpoint(checkpoint_at(server.lsn), 1 + n % 2);
    }
    assert_eq!(copier.checkpoint().unwrap(), checkpoint_at(server.lsn));
    assert_eq!(copier.start_checkpoint(), checkpoint_at(Lsn(50_000)));
    // Longer than it takes to examine a stall.
    assert!(!copier.wait_for(Lsn(u64::MAX), 3 * SHORT).unwrap());
    copier.set_limit(server.lsn).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}

#[test]
fn a_resized_log_is_followed_into_the_new_file() {
    let mut server = Server::start(20_000);
    let (copier, _events, sink) = server.copier();
    for (n, capacity) in [100_000, 9000, 300_000].into_iter().enumerate() {
        let mut first_lsn = server.lsn;
        for k in 0..100 {
            server.append(&write_record(k * 7 + 1, n));
            if k == 40 {
                first_lsn = server.lsn;
            }
            if k % 8 == 0 {
                reached(&copier, server.lsn);
            }
        }
        if capacity < 20_000 {
            first_lsn = server.lsn;
        }
        reached(&copier, server.lsn);
        // Written before the switch, in both files; not copied yet.
        copier.pause().unwrap();
        server.append(&write_record(300, n));
        server.resize(first_lsn, capacity);
        server.append(&write_record(400, n));
        copier.resume();
        reached(&copier, server.lsn);
        assert_eq!(copier.lag().capacity, capacity);
    }
    copier.set_limit(server.lsn).unwrap();
    copier.drain(LONG).unwrap();
    server.check(&sink);
}

#[test]
fn a_new_log_that_begins_too_late_is_an_error() {
    let mut server = Server::start(20_000);
    let (copier, _events, _) = server.copier();
    server.append(&write_record(10, 1));
    reached(&copier, server.lsn);
    let position = server.lsn;
    let first_lsn = Lsn(position.0 + 4096);
    server.expected.resize(5000, 0);
    server.resize(first_lsn, 50_000);
    match failure(&copier) {
        RedoCopyError::Replaced { position: at, first_lsn: new } => {
            assert_eq!((at, new), (position, first_lsn));
        }
        error => panic!("{error}"),
    }
}

#[test]
fn changes_of_the_file_itself() {
    let server = Server::start(20_000);
    let (copier, _events, _) = server.copier();
    server.file.set_len(HEADER_LEN + 30_000).unwrap();
    assert!(matches!(failure(&copier), RedoCopyError::SizeChanged { .. }));
    let server = Server::start(20_000);
    let (copier, _events, _) = server.copier();
    std::fs::remove_file(server.path()).unwrap();
    assert!(matches!(failure(&copier), RedoCopyError::Read { action: "examine", .. }));
    // Cut: what cannot be read is never taken for the end of the log.
    let server = Server::start(20_000);
    let (copier, _events, _) = server.copier();
    server.file.set_len(HEADER_LEN).unwrap();
    assert!(matches!(failure(&copier), RedoCopyError::Read { action: "read", .. }));
}

#[test]
fn files_are_reported_in_the_order_of_the_log() {
    let mut server = Server::start(100_000);
    let (copier, events, _) = server.copier();
    let record = |kind: u8, space: u8, names: &[u8]| {
        let payload = [&[space, 0], names].concat();
        let long = u8::try_from(payload.len() + 1 - 15).unwrap();
        [&[kind, long][..], &payload].concat()
    };
    let mut expected = Vec::new();
    let mut append = |records: &[u8], space: u32, change: FileChange| {
        let space = SpaceId(space);
        expected.push(FileEvent { lsn: server.lsn, space, change });
        server.append(records);
    };
    let path = |name: &str| PathBuf::from(name);
    let (name, other) = ("./database/a.ibd", "/elsewhere/b.ibd");
    let created = record(0x80, 9, name.as_bytes());
    append(&created, 9, FileChange::Create { path: path(name) });
    // INIT_PAGE of page 0 and 1, TRIM_PAGES.
    append(&[0x12, 9, 0, 0x12, 9, 1], 9, FileChange::InitFirstPage);
    append(&[0x24, 3, 0x82, 0, 10], 3, FileChange::Trim { page_no: PageNo(640) });
    append(&record(0xb0, 9, name.as_bytes()), 9, FileChange::Modify { path: path(name) });
    let renamed = record(0xa0, 9, &[name.as_bytes(), &[0], other.as_bytes()].concat());
    append(&renamed, 9, FileChange::Rename { from: path(name), to: path(other) });
    append(&record(0x90, 9, other.as_bytes()), 9, FileChange::Delete { path: path(other) });
    // Nothing to tell: FILE_CHECKPOINT, padding, FREE_PAGE of page 0.
    server.append(&[0xfa, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x50]);
    server.append(&[0xf1, 0]);
    server.append(&[0x02, 9, 0]);
    // What was sent is complete once the position is reached.
    reached(&copier, server.lsn);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), expected);
    // Nobody has to listen.
    drop(events);
    server.append(&created);
    reached(&copier, server.lsn);
}

#[test]
fn records_that_are_not_understood_end_the_copy() {
    let mut server = Server::start(100_000);
    let (copier, _events, _) = server.copier();
    // FREE_PAGE of the same page as the record before.
    server.append(&[0x34, 5, 3, 46, 7, 0x81, 1]);
    let error = failure(&copier);
    assert!(matches!(error, RedoCopyError::Record(_)), "{error}");
}

#[test]
fn unusable_logs_are_refused_at_the_start() {
    let start =
        |path: &Path| RedoCopier::start(path, CREATOR, None, Sink::default()).err().unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ib_logfile0");
    assert!(matches!(start(&path), RedoCopyError::Read { action: "open", .. }));
    for len in [0, 12_287, 12_303, 1 << 20] {
        File::create(&path).unwrap().set_len(len).unwrap();
        let error = start(&path);
        assert!(matches!(error, RedoCopyError::Header { .. }), "{error}");
        assert!(error.to_string().contains("ib_logfile0"), "{error}");
    }
    let server = Server::start(100_000);
    server.file.write_all_at(&[1; 64], 4096).unwrap();
    let error = start(&server.path());
    let RedoCopyError::Header { source, .. } = error else { panic!("{error}") };
    assert_eq!(source, redo::header::HeaderError::NoCheckpoint);
}

/// Takes the header, then fails or panics.
struct Faulty {
    left: usize,
    panics: bool,
}

impl Write for Faulty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.left);
        self.left -= taken;
        assert!(taken > 0 || bytes.is_empty() || !self.panics, "as asked");
        if taken == 0 && !bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_destination_ends_the_copy() {
    let mut server = Server::start(100_000);
    server.append(&write_record(100, 1));
    let start = |left, panics| {
        let sink = Faulty { left, panics };
        RedoCopier::start(&server.path(), CREATOR, None, sink).map(|(copier, _)| copier)
    };
    assert!(matches!(start(HEADER_SIZE - 1, false), Err(RedoCopyError::Write(_))));
    for left in [HEADER_SIZE, HEADER_SIZE + 50] {
        let copier = start(left, false).unwrap();
        assert!(matches!(failure(&copier), RedoCopyError::Write(_)));
        assert!(matches!(copier.drain(LONG), Err(RedoCopyError::Write(_))));
        let copier = start(left, true).unwrap();
        assert!(matches!(failure(&copier), RedoCopyError::Panicked));
    }
}

#[test]
fn dropping_the_copier_ends_its_thread() {
    let server = Server::start(100_000);
    let (copier, _events, sink) = server.copier();
    drop(copier);
    assert_eq!(Arc::strong_count(&sink.0), 1);
    let (copier, _events, sink) = server.copier();
    copier.pause().unwrap();
    drop(copier);
    assert_eq!(Arc::strong_count(&sink.0), 1);
}

#[test]
fn lag_and_headroom() {
    let mut server = Server::start(6 << 20);
    let (copier, _events, _) = server.copier();
    copier.pause().unwrap();
    copier.note_server_lsn(Lsn(50_000 + (5 << 20)));
    copier.note_server_lsn(Lsn(60_000)); // an older reading
    let lag = Lag { bytes: 5 << 20, headroom: 1 << 20, capacity: 6 << 20, enough: 10 << 20 };
    assert_eq!(copier.lag(), lag);
    server.append(&write_record(100_000, 1));
    copier.resume();
    reached(&copier, server.lsn);
    let bytes = (5 << 20) - server.lsn.since(Lsn(50_000));
    assert_eq!((copier.lag().bytes, copier.lag().enough), (bytes, 10 << 20));
}

/// What a stopped reader sees is what the copy must hold: its own mini-transactions end where the
/// limit was.
#[test]
fn the_copy_parses_to_its_end() {
    let mut server = Server::start(3000);
    let (copier, _events, sink) = server.copier();
    for n in 0..200 {
        server.append(&write_record(n * 13 % 700 + 1, n));
        reached(&copier, server.lsn);
    }
    copier.set_limit(server.lsn).unwrap();
    copier.drain(LONG).unwrap();
    let copy = sink.0.lock().unwrap();
    let ring = LogHeader::parse(&copy).unwrap().ring(copy.len() as u64).unwrap();
    let mut lsn = ring.first_lsn();
    let end = loop {
        let at = usize::try_from(ring.offset(lsn).unwrap()).unwrap().min(copy.len());
        match Mtr::parse(&copy[at..], lsn, ring) {
            Ok(mtr) => lsn = mtr.end(),
            Err(end) => break end,
        }
        if lsn.since(ring.first_lsn()) == ring.capacity() {
            break Unfinished::NeedMore;
        }
    };
    assert_eq!((end, lsn), (Unfinished::NeedMore, server.lsn));
}
