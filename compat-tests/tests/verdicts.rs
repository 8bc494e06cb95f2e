//! Verdicts about pages against the real innochecksum: on the files of real servers, and on pages
//! damaged at random, of every format. No page that innochecksum rejects may pass here.
//!
//! `COMPAT_PAGES`: damaged pages of each format.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use compat_tests::installation::{Series, workspace_dir};
use compat_tests::random::Random;
use compat_tests::server::{PROVIDERS, TestServer};
use compat_tests::size;
use innodb::doublewrite::Doublewrite;
use innodb::encrypted::{CipherMode, KeySource};
use innodb::page::{ChecksumAlgorithm, PageCodec, SpaceContext, verify};
use innodb::space::SpaceHeader;
use keys::{Digest, FileKeyOptions, FileKeys};

/// A data file: its pages, and how they are stored.
struct DataFile {
    path: PathBuf,
    bytes: Vec<u8>,
    context: SpaceContext,
}

impl DataFile {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let header = SpaceHeader::parse(&bytes)
            .unwrap_or_else(|error| panic!("page 0 of {}: {error}", path.display()));
        let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
        Self { path: path.to_owned(), bytes, context: context.with_space_id_checked() }
    }

    fn physical(&self) -> usize {
        self.context.flags().page_size().physical()
    }

    /// Numbers of the pages of a file with `bytes` that are rejected here, as a backup does.
    fn ours(&self, bytes: &[u8], keys: &dyn KeySource) -> BTreeSet<usize> {
        let codec = PageCodec::new(self.context, Some(keys));
        let mut plain = vec![0; self.physical()];
        let pages = bytes.chunks_exact(self.physical()).enumerate();
        let bad = pages.filter(|(number, page)| {
            let page_no = u32::try_from(*number).unwrap();
            match verify(page, page_no, &self.context) {
                Err(error) if error.is_undecided() => {}
                Ok(()) if self.context.may_be_encrypted() => {}
                decided => return decided.is_err(),
            }
            codec.decode(page, page_no, &mut plain).is_err()
        });
        bad.map(|(number, _)| number).collect()
    }
}

/// Numbers of the pages that innochecksum of `series` rejects.
fn theirs(series: Series, path: &Path) -> BTreeSet<usize> {
    let log = path.with_extension("innochecksum");
    let mut command = series.command("usr/bin", "innochecksum");
    command.arg("--allow-mismatches=100000000").arg("--log").arg(&log).arg(path);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {}\n{text}", path.display(), output.status);
    let numbers = text.lines().filter_map(|line| {
        line.strip_prefix("Fail: page::")?.strip_suffix(" invalid")?.parse().ok()
    });
    numbers.collect()
}

/// Damages the page `bytes`; `stale`: the same page as it was before, `other`: another page.
fn damage(random: &mut Random, bytes: &mut [u8], stale: &[u8], other: &[u8]) -> &'static str {
    let len = bytes.len();
    let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).unwrap();
    match below(12) {
        0..3 => {
            for _ in 0..=below(3) {
                bytes[below(len)] ^= 1 << below(8);
            }
            "flipped bits"
        }
        // Headers and trailers have rules of their own.
        3 => {
            let at = if below(2) == 0 { below(38) } else { len - 1 - below(12) };
            bytes[at] = u8::try_from(below(256)).unwrap();
            "a byte of header or trailer"
        }
        4 => {
            let sector = below(len / 512) * 512;
            bytes[sector..sector + 512].fill(0);
            "a sector of zeros"
        }
        5 => {
            bytes.rotate_left(len / 2);
            "halves swapped"
        }
        6 => {
            let block = 4096.min(len / 2);
            for at in (0..len).step_by(block) {
                if below(2) == 0 {
                    bytes[at..at + block].copy_from_slice(&stale[at..at + block]);
                }
            }
            "torn blocks"
        }
        7 => {
            bytes.copy_from_slice(other);
            "another page"
        }
        8 => {
            bytes[len / 2..].copy_from_slice(&stale[len / 2..]);
            "a stale second half"
        }
        9 => {
            bytes[len / 2..].copy_from_slice(&other[len / 2..]);
            "another page's second half"
        }
        10 => {
            bytes[..len / 2].fill(0);
            "zeros before the second half"
        }
        _ => {
            let at = below(len - 16);
            let filling = [0, 0xff, 0xde][below(3)];
            bytes[at..at + 16].fill(filling);
            "filled bytes"
        }
    }
}

/// What comparing a format came to.
struct Counts {
    pages: usize,
    both: usize,
    ours_alone: usize,
    none: usize,
}

/// Compares the verdicts about `wanted` damaged pages of `file`; `stale`: the file as it was before.
fn compare_damaged(
    series: Series,
    file: &DataFile,
    stale: &[u8],
    wanted: usize,
    random: &mut Random,
    keys: &dyn KeySource,
) -> Counts {
    let physical = file.physical();
    let last = file.bytes.len().min(stale.len()) / physical;
    let used = |number: &usize| {
        file.bytes[number * physical..(number + 1) * physical].iter().any(|&byte| byte != 0)
    };
    // Page 0 tells innochecksum how the others are stored.
    let numbers: Vec<usize> = (1..last).filter(used).collect();
    assert!(numbers.len() > 4, "{}", file.path.display());
    let damaged_path = file.path.with_file_name("damaged.ibd");
    let mut counts = Counts { pages: 0, both: 0, ours_alone: 0, none: 0 };
    while counts.pages < wanted {
        let mut bytes = file.bytes.clone();
        let mut damaged = Vec::new();
        for &number in numbers.iter().take(wanted - counts.pages) {
            let range = number * physical..(number + 1) * physical;
            let other = numbers[usize::try_from(random.below(numbers.len() as u64)).unwrap()];
            let other = &file.bytes[other * physical..(other + 1) * physical];
            let page = &mut bytes[range.clone()];
            let how = damage(random, page, &stale[range.clone()], other);
            if page != &file.bytes[range] {
                damaged.push((number, how));
            }
        }
        fs::write(&damaged_path, &bytes).unwrap();
        let (theirs, ours) = (theirs(series, &damaged_path), file.ours(&bytes, keys));
        for (number, how) in damaged {
            let page = &bytes[number * physical..(number + 1) * physical];
            counts.pages += 1;
            match (theirs.contains(&number), ours.contains(&number)) {
                (true, true) => counts.both += 1,
                (false, true) => counts.ours_alone += 1,
                (false, false) => counts.none += 1,
                (true, false) => panic!(
                    "innochecksum of {series} rejects page {number} of {} ({how}), which passes \
                     here:\n{:02x?}",
                    file.path.display(),
                    &page[..64]
                ),
            }
        }
    }
    fs::remove_file(&damaged_path).unwrap();
    counts
}

/// Compares the verdicts about all data files of a server with `tables`, and about damaged pages of
/// each of the tables.
fn compare(series: Series, options: &[&str], tables: &[(&str, &str)]) {
    let wanted = usize::try_from(size("COMPAT_PAGES", 150)).unwrap();
    let mut source = TestServer::start_series(series, options);
    for (name, definition) in tables {
        if let Some(algorithm) = name.strip_prefix("pc_") {
            source.execute(format!("SET GLOBAL innodb_compression_algorithm = {algorithm}"));
        }
        source.execute_all(&[
            &format!(
                "CREATE TABLE test.{name} (id INT PRIMARY KEY, k INT NOT NULL, c VARCHAR(120) NOT \
                 NULL, b MEDIUMBLOB, KEY (k), KEY (c(20))) ENGINE=InnoDB {definition}"
            ),
            &format!(
                "INSERT INTO test.{name} SELECT seq, seq * 7919 % 10007, CONCAT(MD5(seq), \
                 REPEAT('x', seq % 60)), IF(seq % 40, NULL, REPEAT(MD5(seq), seq % 900)) FROM \
                 test.seq_1_to_4000"
            ),
        ]);
    }
    source.shutdown();
    let path = |name: &str| source.datadir().join(format!("test/{name}.ibd"));
    let stale: Vec<_> = tables.iter().map(|(name, _)| fs::read(path(name)).unwrap()).collect();
    source.launch();
    for (name, _) in tables {
        source.execute(format!(
            "UPDATE test.{name} SET k = k + 1, c = MD5(c) WHERE id % 3 = 0 OR id > 3000"
        ));
    }
    source.shutdown();
    let keys = keys();
    check_good_files(series, &source.datadir(), &keys);
    let mut random = Random::new(11);
    let mut report = String::new();
    for ((name, _), stale) in tables.iter().zip(&stale) {
        let file = DataFile::read(&source.datadir().join(format!("test/{name}.ibd")));
        let counts = compare_damaged(series, &file, stale, wanted, &mut random, &keys);
        let Counts { pages, both, ours_alone, none } = counts;
        writeln!(
            report,
            "{series} {name}: {pages} damaged pages, {both} rejected by both, {ours_alone} here \
             alone, {none} by none"
        )
        .unwrap();
        // Without checksums, or in the hole of a compressed page, most damage shows nowhere.
        assert!(both + ours_alone > pages / 10, "{report}");
    }
    println!("{report}");
}

/// Both take all pages of all files of a data directory, but for the doublewrite area.
fn check_good_files(series: Series, datadir: &Path, keys: &dyn KeySource) {
    let mut files = vec![datadir.join("ibdata1")];
    for folder in ["", "mysql", "test"] {
        for entry in fs::read_dir(datadir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.extension().is_some_and(|extension| extension == "ibd")
                || innodb::datadir::is_undo_file_name(name)
            {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 4);
    for path in files {
        let file = DataFile::read(&path);
        assert_eq!(file.ours(&file.bytes, keys), BTreeSet::new(), "{}", path.display());
        let area = Doublewrite::usual(file.context.flags().page_size());
        let is_system = path.ends_with("ibdata1");
        let mut rejected = theirs(series, &path);
        rejected.retain(|&page_no| !is_system || !area.contains(u32::try_from(page_no).unwrap()));
        assert_eq!(rejected, BTreeSet::new(), "{}", path.display());
    }
}

fn keys() -> FileKeys {
    FileKeys::open(&FileKeyOptions {
        filename: workspace_dir().join("keys/testdata/plain"),
        filekey: None,
        mode: CipherMode::Cbc,
        digest: Digest::default(),
        pbkdf2_iterations: None,
    })
    .unwrap()
}

/// Options of a server with these keys.
fn with_keys(options: &[&str]) -> Vec<String> {
    let file = workspace_dir().join("keys/testdata/plain");
    let file = format!("--file-key-management-filename={}", file.display());
    let plugin = ["--plugin-load-add=file_key_management".to_owned(), file];
    plugin.into_iter().chain(options.iter().map(|&option| option.to_owned())).collect()
}

fn compare_with_keys(series: Series, options: &[&str], tables: &[(&str, &str)]) {
    let options = with_keys(options);
    compare(series, &options.iter().map(String::as_str).collect::<Vec<_>>(), tables);
}

const ROW_FORMATS: [(&str, &str); 3] = [
    ("redundant", "ROW_FORMAT=REDUNDANT"),
    ("compact", "ROW_FORMAT=COMPACT"),
    ("dynamic", "ROW_FORMAT=DYNAMIC"),
];
const ZIP: [(&str, &str); 3] = [
    ("zip_1", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"),
    ("zip_2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"),
    ("zip_4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
];
const ZIP_16K: [(&str, &str); 2] = [
    ("zip_8", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
    ("zip_16", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=16"),
];
const PAGE_COMPRESSED: [(&str, &str); 6] = [
    ("pc_zlib", "PAGE_COMPRESSED=1"),
    ("pc_lz4", "PAGE_COMPRESSED=1"),
    ("pc_lzo", "PAGE_COMPRESSED=1"),
    ("pc_lzma", "PAGE_COMPRESSED=1"),
    ("pc_bzip2", "PAGE_COMPRESSED=1"),
    ("pc_snappy", "PAGE_COMPRESSED=1"),
];

#[test]
fn full_crc32_and_row_compressed_pages() {
    compare(Series::V10_11, &[], &[&ROW_FORMATS[..], &ZIP, &ZIP_16K].concat());
}

#[test]
fn crc32_pages_of_4k() {
    let options = ["--innodb-page-size=4k", "--innodb-checksum-algorithm=crc32"];
    compare(Series::V11_8, &options, &[&ROW_FORMATS[..], &ZIP].concat());
}

#[test]
fn large_pages() {
    compare(Series::V10_11, &["--innodb-page-size=64k"], &ROW_FORMATS);
    let options = ["--innodb-page-size=32k", "--innodb-checksum-algorithm=crc32"];
    compare(Series::V11_8, &options, &ROW_FORMATS);
}

#[test]
fn checksums_of_10_5() {
    let tables = [&ROW_FORMATS[..], &ZIP].concat();
    compare(Series::V10_5, &["--innodb-checksum-algorithm=innodb"], &tables);
    compare(Series::V10_5, &["--innodb-checksum-algorithm=none"], &tables);
}

#[test]
fn page_compressed_pages() {
    compare(Series::V10_11, &PROVIDERS, &PAGE_COMPRESSED);
    let options = [&PROVIDERS[..], &["--innodb-checksum-algorithm=crc32"]].concat();
    compare(Series::V10_11, &options, &PAGE_COMPRESSED);
}

#[test]
fn encrypted_pages() {
    let tables = [
        ("enc", "ENCRYPTED=YES"),
        ("enc_redundant", "ENCRYPTED=YES ROW_FORMAT=REDUNDANT ENCRYPTION_KEY_ID=2"),
        ("enc_zip", "ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
        ("enc_pc", "ENCRYPTED=YES PAGE_COMPRESSED=1"),
    ];
    compare_with_keys(Series::V11_8, &[], &tables);
    compare_with_keys(Series::V10_11, &["--innodb-checksum-algorithm=crc32"], &tables);
}
