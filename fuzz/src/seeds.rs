//! Inputs to begin with, made from the files of real servers that the tests have.

use std::fs;
use std::path::{Path, PathBuf};

use innodb::Lsn;
use redo::file::LogFile;
use redo::header::HEADER_SIZE;
use redo::reader::Reader;

/// Contents of a file of the workspace.
pub fn file(name: &str) -> Vec<u8> {
    let path = workspace_dir().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files in a folder of the workspace, by name.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = workspace_dir().join(folder);
    let entries =
        fs::read_dir(&path).unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
    let names = entries.flatten().filter(|entry| entry.path().is_file());
    let mut names: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), file(&format!("{folder}/{name}")))).collect()
}

/// `head` before `bytes`.
fn with(head: &[u8], bytes: &[u8]) -> Vec<u8> {
    [head, bytes].concat()
}

const LOGS: [&str; 9] = [
    "redo/testdata/10.5/ib_logfile0.head",
    "redo/testdata/10.5/backup-log-cbc",
    "redo/testdata/10.5/backup-header",
    "redo/testdata/10.11/ib_logfile0.head",
    "redo/testdata/10.11/backup-log-cbc",
    "redo/testdata/10.11/backup-header",
    "redo/testdata/10.11/prepared-log",
    "redo/testdata/11.8/backup-log-cbc",
    "redo/testdata/10.5/header-cbc",
];

/// Headers of logs.
pub fn log_headers() -> Vec<Vec<u8>> {
    let headers = LOGS.iter().map(|name| {
        let mut bytes = file(name);
        bytes.truncate(HEADER_SIZE + 200);
        with(&[1, 0, 0, 0, 4, 0, 0, 0, 0], &bytes)
    });
    headers.collect()
}

/// Records of the first mini-transactions of real logs.
fn real_mtrs() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for name in ["redo/testdata/10.11/ib_logfile0.head", "redo/testdata/10.5/ib_logfile0.head"] {
        let bytes = file(name);
        let Ok(log) = LogFile::parse(bytes.get(..HEADER_SIZE).unwrap_or(&bytes), 96 << 20) else {
            continue;
        };
        let reader = Reader::new(&bytes, &log, None);
        let Ok(mut mtrs) = reader.mtrs(first_lsn(&log)) else { continue };
        while let Ok(Some(mtr)) = mtrs.next() {
            found.extend(mtr.records_at(0..mtr.sequence_at()).map(<[u8]>::to_vec));
        }
    }
    found
}

fn first_lsn(log: &LogFile) -> Lsn {
    log.ring().map_or(log.checkpoint().lsn, redo::Ring::first_lsn)
}

/// With its length before it.
fn piece(bytes: &[u8]) -> Vec<u8> {
    with(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes(), bytes)
}

/// Several mini-transactions each.
pub fn log_records() -> Vec<Vec<u8>> {
    let mtrs: Vec<_> = real_mtrs().iter().map(|records| piece(records)).collect();
    mtrs.chunks(20).take(60).map(<[Vec<u8>]>::concat).collect()
}

/// Payload of blocks.
pub fn log_blocks() -> Vec<Vec<u8>> {
    let payload: Vec<u8> =
        real_mtrs().iter().take(400).flat_map(|records| with(records, &[0])).collect();
    let mut seeds = Vec::new();
    for flags in [0, 1] {
        for blocks in payload.chunks(496 * 4).take(12) {
            let blocks: Vec<u8> = blocks
                .chunks(496)
                .flat_map(|block| with(&[if block.len() < 496 { 0xf0 } else { 1 }], &piece(block)))
                .collect();
            seeds.push(with(&[flags], &blocks));
        }
    }
    seeds
}

/// Records alone.
pub fn records() -> Vec<Vec<u8>> {
    real_mtrs().into_iter().take(500).collect()
}

/// Records with a page to apply them to.
pub fn applied_records() -> Vec<Vec<u8>> {
    let mtrs = real_mtrs();
    let seeds = (0..6).flat_map(|how| {
        mtrs.iter().step_by(5).take(60).map(move |records| with(&[how], &piece(records)))
    });
    seeds.collect()
}

/// Folders of pages.
const PAGES: [&str; 10] = [
    "10.11/crc32",
    "10.11/crc32_4k",
    "10.11/crc32_4k_keys",
    "10.11/crc32_keys",
    "10.11/full_crc32",
    "10.11/full_crc32_4k",
    "10.11/full_crc32_4k_keys",
    "10.11/full_crc32_keys",
    "10.5/innodb_4k",
    "10.5/none_4k",
];

fn real_pages() -> Vec<(String, Vec<u8>)> {
    PAGES.iter().flat_map(|folder| files(&format!("innodb/testdata/{folder}"))).collect()
}

/// Pages 0, and the page of the transaction system.
pub fn first_pages() -> Vec<Vec<u8>> {
    let wanted = |name: &str| {
        Path::new(name).extension().is_some_and(|page_no| page_no == "0") || name == "ibdata1.5"
    };
    let pages = real_pages().into_iter().filter(|(name, _)| wanted(name));
    pages.map(|(_, page)| with(&[0; 9], &page)).collect()
}

/// Pages of all kinds, as those of several tablespaces.
pub fn pages() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (_, page) in real_pages() {
        for kind in [0, 2, 5, 13, 14, 19, 21, 22] {
            for choice in [0, 8] {
                seeds.push(with(&[kind, choice, 5, 2], &page));
            }
        }
    }
    seeds
}

/// Streams of compressed pages.
pub fn compressed_pages() -> Vec<Vec<u8>> {
    let algorithms = ["zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"];
    let mut seeds = Vec::new();
    for (name, page) in real_pages() {
        let algorithm =
            (0_u8..).zip(algorithms).find(|(_, a)| name.starts_with(&format!("pc_{a}")));
        let Some((number, _)) = algorithm else { continue };
        for (kind, algorithm, start) in [(0, 1 + number, 26), (1, 2 * number + 3, 40)] {
            seeds.push(with(&[kind, algorithm, 0, 0], page.get(start..).unwrap_or_default()));
        }
    }
    seeds
}

/// Control file and headers of log files of Aria.
pub fn aria_logs() -> Vec<Vec<u8>> {
    let control = [
        &[0xfe, 0xfe, 0x0c, 0x01][..],
        &[0xb8; 16],
        &[0x1e, 0, 0x16, 0, 0, 0x20, 0, 0, 0, 0],
        &[0, 0, 0, 0, 1, 0, 0, 0x6c, 0x4e, 6, 0, 1, 0, 0, 0, 0xe6, 0, 0, 0, 0, 0, 0],
    ];
    let log = [
        &b"\xFE\xFE\x0B\x01MARIALOG"[..],
        &[0; 8],
        &10000_u32.to_le_bytes(),
        &101_119_u32.to_le_bytes(),
        &[0; 4],
        &8191_u16.to_le_bytes(),
        &[1, 0, 0],
        &[0; 7],
    ];
    vec![with(&[1], &control.concat()), with(&[1], &log.concat()), b"\0aria_log.00000001".to_vec()]
}

/// Files of Aria tables.
pub fn aria_tables() -> Vec<Vec<u8>> {
    files("aria/testdata/10.11.19").into_iter().map(|(_, bytes)| with(&[0; 8], &bytes)).collect()
}

/// `.frm` and `.par` files.
pub fn definitions() -> Vec<Vec<u8>> {
    let folders = ["mdl/testdata/10.11", "mdl/testdata/11.8"];
    folders.iter().flat_map(|folder| files(folder)).map(|(_, bytes)| bytes).collect()
}

/// Files of changed pages, as they are and with a last block after a full one.
pub fn deltas() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (name, bytes) in files("innodb/testdata/10.11/delta_4k") {
        let shift = if name.starts_with('z') { 10 } else { 12 };
        seeds.push(with(&[shift], &bytes));
    }
    let numbers = (0..255_u32).flat_map(u32::to_be_bytes);
    let mut blocks: Vec<u8> = b"xtra".iter().copied().chain(numbers).collect();
    blocks.resize(256 * 1024, 1);
    blocks.extend([&b"XTRA"[..], &300_u32.to_be_bytes(), &[0xff; 4], &[0; 2048 - 12]].concat());
    seeds.push(with(&[10], &blocks));
    seeds
}

/// Option, checkpoints and `.meta` files.
pub fn metadata() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> =
        files("src/metadata/testdata/10.11.19").into_iter().map(|(_, bytes)| bytes).collect();
    seeds.push(
        b"backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45441\nlast_lsn = 286330\n\
          recover_binlog_info = 0\n"
            .to_vec(),
    );
    seeds.push(b"page_size = 1024\nzip_size = 1024 \nspace_id = 6\n".to_vec());
    seeds.push(b"/a/ibdata1:12M;b:1G:autoextend:max:5G".to_vec());
    seeds
}

/// An archive with a name of more than 100 bytes, and a sparse file.
pub fn archives() -> Vec<Vec<u8>> {
    use mariabackup::tar::{BLOCK, END, head};
    let mut archive = Vec::new();
    for name in ["aria_log_control", &"n".repeat(150), "d/t.ibd"] {
        archive.extend(head(std::path::Path::new(name), 5, 0).unwrap_or_default());
        archive.extend_from_slice(b"bytes");
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    let mut sparse = head(std::path::Path::new("s"), 5, 0).unwrap_or_default();
    for (at, bytes) in
        [(156, &b"S"[..]), (386, b"00000000100 00000000005 "), (483, b"00000010000 ")]
    {
        if let Some(place) = sparse.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    sparse.extend_from_slice(b"bytes");
    sparse.resize(sparse.len().next_multiple_of(BLOCK), 0);
    vec![[&archive[..], &sparse, &END].concat(), archive]
}
