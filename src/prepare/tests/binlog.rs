//! The binary log that InnoDB keeps: made-up files beside a stored backup, whose redo log goes on
//! with records about them.

use redo::file::LogFile;
use redo::header::HEADER_SIZE;
use redo::reader::Reader;

use super::*;

const PAGE: usize = 16_384;

/// Page 0 as the redo log has it.
fn header(number: u64, pages: u64, start: u64) -> Vec<u8> {
    let words = [0x010d_fefe_u32, 14, 1, 0].map(u32::to_le_bytes).concat();
    let rest = [number, pages, start, 64, 0, 0].map(u64::to_le_bytes).concat();
    [words, rest].concat()
}

fn seal(page: &mut [u8]) {
    let (covered, crc) = page.split_last_chunk_mut::<4>().unwrap();
    *crc = crc32c::crc32c(covered).to_le_bytes();
}

/// A file with these bytes in its pages.
fn file(header: &[u8], pages: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; PAGE * 4];
    bytes[..header.len()].copy_from_slice(header);
    seal(&mut bytes[..512]);
    seal(&mut bytes[..PAGE]);
    for (page, contents) in bytes.chunks_mut(PAGE).skip(1).zip(pages) {
        page[..contents.len()].copy_from_slice(contents);
        seal(page);
    }
    bytes
}

/// A mini-transaction with one record: `data` at `offset` of a page of the file with this lowest bit.
fn write(bit: u8, page: u8, offset: u8, data: &[u8]) -> Vec<u8> {
    let payload = [&[0xf0, 0xef, 0xdf, 0xbf, 0x70 + bit, page, offset], data].concat();
    let len = payload.len();
    let head = if len > 15 {
        vec![0x30, u8::try_from(len + 1 - 15).unwrap()]
    } else {
        vec![0x30 | u8::try_from(len).unwrap()]
    };
    let records = [head, payload].concat();
    let crc = crc32c::crc32c(&records).to_be_bytes();
    [&records[..], &[1], &crc].concat()
}

/// The stored backup with two files of the binary log: one in use, one made ahead.
fn with_binlog() -> tempfile::TempDir {
    let dir = backup();
    let path = dir.path().join("ib_logfile0");
    let mut log = fs::read(&path).unwrap();
    let parsed = LogFile::parse(&log[..HEADER_SIZE], log.len() as u64).unwrap();
    let end = {
        let reader = Reader::new(&log, &parsed, None);
        let mut mtrs = reader.mtrs(parsed.checkpoint().lsn).unwrap();
        while mtrs.next().unwrap().is_some() {}
        mtrs.lsn()
    };
    let len = HEADER_SIZE + usize::try_from(end.since(parsed.checkpoint().lsn)).unwrap();
    log.truncate(len);
    log.extend(write(0, 1, 3, b"defghi"));
    log.extend(write(0, 2, 0, b"second page"));
    // Files begin where their header is in the log.
    let lsn = |log: &[u8]| end.0 + (log.len() - len) as u64;
    log.extend(write(1, 0, 0, &header(5, 4, lsn(&log))));
    log.extend(write(1, 1, 0, b"of file 5"));
    log.extend(write(1, 1, 9, b", more"));
    log.extend(write(0, 0, 0, &header(6, 4, lsn(&log))));
    log.extend(write(0, 1, 0, b"of file 6"));
    fs::write(path, log).unwrap();
    let old = file(&header(4, 4, 1000), &[b"abcde"]);
    fs::write(dir.path().join("binlog-000004.ibb"), old).unwrap();
    fs::write(dir.path().join("binlog-000005.ibb"), vec![0; 4 * PAGE]).unwrap();
    fs::write(dir.path().join("binlog-000007.ibb"), vec![0; 4 * PAGE]).unwrap();
    dir
}

#[test]
fn files_are_brought_up_to_date() {
    let dir = with_binlog();
    prepare(dir.path(), &super::super::storage::Disk).unwrap();
    let read = |number| fs::read(dir.path().join(format!("binlog-00000{number}.ibb")));
    assert!(read(4).unwrap() == file(&header(4, 4, 1000), &[b"abcdefghi", b"second page"]));
    let start = |file: &[u8]| u64::from_le_bytes(*file[32..].first_chunk().unwrap());
    let five = read(5).unwrap();
    assert!(five == file(&header(5, 4, start(&five)), &[b"of file 5, more"]));
    let six = read(6).unwrap();
    assert!(six == file(&header(6, 4, start(&six)), &[b"of file 6"]));
    assert!(read(7).is_err(), "a file made ahead");
    // Nothing else is different.
    let found = contents(dir.path());
    for line in expected(BACKUP).lines().filter(|line| !line.ends_with("ib_logfile0")) {
        assert!(found.contains(line), "{line}");
    }
}

#[test]
fn a_killed_run_can_be_repeated() {
    let whole = with_binlog();
    prepare(whole.path(), &super::super::storage::Disk).unwrap();
    assert_repeatable(&with_binlog, &contents(whole.path()), None, 23);
}

#[test]
fn left_out_it_stays_out() {
    let names = |dir: &Path| contents(dir).matches(".ibb").count();
    let dir = with_binlog();
    let skipping = PrepareOptions { engine_binlog: EngineBinlog::Skipped, ..options(dir.path()) };
    run_on(&skipping, &Report::to_stderr(false), &super::super::storage::Disk).unwrap();
    assert_eq!(names(dir.path()), 0);
    // A backup without the files.
    let dir = with_binlog();
    for number in [4, 5, 7] {
        fs::remove_file(dir.path().join(format!("binlog-00000{number}.ibb"))).unwrap();
    }
    prepare(dir.path(), &super::super::storage::Disk).unwrap();
    assert_eq!(names(dir.path()), 0);
}

#[test]
fn records_outside_of_a_file_are_refused() {
    for bad in [write(0, 4, 0, b"x"), write(0, 0, 0, b"no header of a file")] {
        let dir = with_binlog();
        let path = dir.path().join("ib_logfile0");
        let log = [fs::read(&path).unwrap(), bad].concat();
        fs::write(path, log).unwrap();
        let error = prepare(dir.path(), &super::super::storage::Disk).unwrap_err();
        assert!(format!("{error:#}").contains("binary log record at LSN"), "{error:#}");
    }
}
