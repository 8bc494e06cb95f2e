//! Our prepare on backups of the reference, of servers with every format of pages and logs: the
//! same bytes as the reference's, and a server that runs on them.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use compat_tests::compare::{Allowed, State, check_tables, differences, replay_binlog};
use compat_tests::installation::{Series, prefixed};
use compat_tests::random::Random;
use compat_tests::server::{POLL, PROVIDERS, TestServer, copy_tree};
use compat_tests::tool::{Tool, run};
use innodb::encrypted::{CipherMode, KeySource};
use innodb::page::{ChecksumAlgorithm, Decoded, PageCodec, SpaceContext};
use innodb::space::SpaceHeader;
use keys::{Digest, FileKeyOptions, FileKeys};
use mysql::Conn;
use mysql::prelude::Queryable as _;

/// Keys 1 and 2.
const KEY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/testdata/plain");

/// Options of a server with keys. `loose`: the template of data directories has none.
fn with_keys<'a>(options: &[&'a str]) -> Vec<&'a str> {
    const KEYS: [&str; 3] = [
        "--plugin-load-add=file_key_management",
        concat!(
            "--file-key-management-filename=",
            env!("CARGO_MANIFEST_DIR"),
            "/../keys/testdata/plain"
        ),
        "--file-key-management-encryption-algorithm=aes_ctr",
    ];
    [options, &KEYS].concat()
}

/// Tables to be written to: name in the database `f`, and what follows their columns.
type Tables<'a> = [(&'a str, &'a str)];

const PLAIN: [(&str, &str); 3] = [
    ("redundant", "ROW_FORMAT=REDUNDANT"),
    ("compact", "ROW_FORMAT=COMPACT"),
    ("dynamic", "ROW_FORMAT=DYNAMIC"),
];
const ENCRYPTED: [(&str, &str); 4] = [
    ("enc_1", "ENCRYPTED=YES"),
    ("enc_2", "ENCRYPTED=YES ENCRYPTION_KEY_ID=2 ROW_FORMAT=REDUNDANT"),
    ("enc_no", "ENCRYPTED=NO"),
    ("enc_default", ""),
];
const ROW_COMPRESSED: [(&str, &str); 3] = [
    ("zip_1", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"),
    ("zip_2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"),
    ("zip_4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
];
const ROW_COMPRESSED_16K: [(&str, &str); 2] = [
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

fn create(server: &TestServer, tables: &Tables<'_>) {
    server.execute("CREATE DATABASE IF NOT EXISTS f");
    let mut connection = server.connect();
    let mut random = Random::new(1);
    for (name, definition) in tables {
        if let Some(algorithm) = name.strip_prefix("pc_") {
            query(
                &mut connection,
                &format!("SET GLOBAL innodb_compression_algorithm='{algorithm}'"),
            );
        }
        let sql = format!(
            "CREATE TABLE f.{name} (id INT PRIMARY KEY, k INT NOT NULL, c VARCHAR(120) NOT NULL, \
             b MEDIUMBLOB, KEY (k), KEY (c(20))) ENGINE=InnoDB {definition}"
        );
        query(&mut connection, &sql);
        for start in (0..2000).step_by(100) {
            query(&mut connection, &insert(name, start..start + 100, &mut random));
        }
    }
}

fn query(connection: &mut Conn, sql: &str) {
    connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn insert(table: &str, ids: std::ops::Range<u64>, random: &mut Random) -> String {
    let rows: Vec<String> = ids
        .map(|id| {
            let (text, k) = (random.text(80), random.below(1000));
            let blob = if id % 50 == 0 { random.below(30_000) } else { 0 };
            format!("({id}, {k}, '{text}', REPEAT('{text}', {blob} / 80))")
        })
        .collect();
    format!("REPLACE INTO f.{table} VALUES {}", rows.join(", "))
}

/// Writes everything that is in memory to the data files.
fn flush(server: &TestServer) {
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0.001");
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct=0");
    let dirty = "SELECT variable_value FROM information_schema.global_status \
                 WHERE variable_name = 'Innodb_buffer_pool_pages_dirty'";
    while server.query_u64(dirty) > 0 {
        thread::sleep(POLL);
    }
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct=90");
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0");
}

/// Writes to the tables until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    statements: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(server: &TestServer, tables: &Tables<'_>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let statements = Arc::new(AtomicU64::new(0));
        let names: Vec<String> = tables.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut connection = server.connect();
        let thread = thread::spawn({
            let (stop, statements) = (Arc::clone(&stop), Arc::clone(&statements));
            move || {
                let mut random = Random::new(2);
                while !stop.load(Ordering::Relaxed) {
                    let name = random.pick(&names);
                    let first = random.below(3000);
                    let sql = match random.below(8) {
                        0..4 => insert(name, first..first + random.below(40) + 1, &mut random),
                        4..6 => {
                            let text = random.text(40);
                            format!(
                                "UPDATE f.{name} SET c = '{text}', k = k + 1 WHERE id BETWEEN \
                                 {first} AND {first} + 20"
                            )
                        }
                        6 => format!(
                            "DELETE FROM f.{name} WHERE id BETWEEN {first} AND {first} + 300"
                        ),
                        _ => {
                            format!("UPDATE f.{name} SET b = REPEAT(c, 200) WHERE id = {first}")
                        }
                    };
                    query(&mut connection, &sql);
                    statements.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, statements, thread }
    }

    fn wait_for(&self, count: u64) {
        let target = self.statements.load(Ordering::Relaxed) + count;
        while self.statements.load(Ordering::Relaxed) < target {
            assert!(!self.thread.is_finished(), "the writer failed");
            thread::sleep(POLL);
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer failed");
    }
}

/// A server whose tables were written to while the reference backed it up.
struct Backup {
    source: TestServer,
    dir: PathBuf,
    state: State,
}

fn back_up(series: Series, options: &[&str], tables: &Tables<'_>) -> Backup {
    back_up_after(series, options, tables, &[])
}

/// As [`back_up`]; `statements` are run before the backup.
fn back_up_after(
    series: Series,
    options: &[&str],
    tables: &Tables<'_>,
    statements: &[&str],
) -> Backup {
    let mut options = options.to_vec();
    options.extend(["--innodb-log-file-size=64M", "--innodb-buffer-pool-size=128M"]);
    let source = TestServer::start_series(series, &options);
    create(&source, tables);
    flush(&source);
    let load = Load::start(&source, tables);
    load.wait_for(300);
    source.execute_all(statements);
    let dir = source.dir().join("backup");
    Tool::Reference(series).backup(&source, &dir, &["--parallel=2"]);
    load.wait_for(50);
    load.stop();
    let state = State::of(&source);
    Backup { source, dir, state }
}

fn copy(backup: &Path, name: &str) -> PathBuf {
    let copy = backup.with_file_name(name);
    copy_tree(backup, &copy);
    copy
}

/// The reference takes page size and keys from the backup unless it is to read no option file.
fn reference_prepares(series: Series, dir: &Path) {
    let mut command = series.command("usr/bin", "mariadb-backup");
    command.arg("--prepare").arg(prefixed("--target-dir=", dir));
    run(&mut command).expect_success();
}

/// Both prepare the backup, to the same bytes; a server runs on ours and brings it up to date.
fn both_prepare_to_the_same(series: Series, options: &[&str], tables: &Tables<'_>) {
    assert_both_prepare(series, back_up(series, options, tables));
}

fn assert_both_prepare(series: Series, backup: Backup) {
    let Backup { mut source, dir, state } = backup;
    source.shutdown();
    let ours = both_prepare(series, &dir);
    let server_options: Vec<&str> = source.options().iter().map(String::as_str).collect();
    let restored = Tool::Ours.restore(&ours, series, &server_options);
    replay_binlog(&source, &dir, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

/// Both prepare a copy, to the same bytes.
fn both_prepare(series: Series, backup: &Path) -> PathBuf {
    let theirs = copy(backup, "theirs");
    reference_prepares(series, &theirs);
    let ours = copy(backup, "ours");
    Tool::Ours.prepare(&ours, &[]);
    assert_same(&theirs, &ours);
    ours
}

/// The same bytes, but for page compression: there the same pages, since compressors differ.
#[track_caller]
fn assert_same(theirs: &Path, ours: &Path) {
    let found = differences(theirs, ours, Allowed::Aria);
    let found: Vec<&str> = found.lines().filter(|line| !line.starts_with("f/pc_")).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for entry in fs::read_dir(theirs.join("f")).expect("list a folder") {
        let name = entry.expect("list a folder").file_name().into_string().expect("UTF-8");
        if let Some(table) = name.strip_suffix(".ibd").filter(|name| name.starts_with("pc_")) {
            println!("{table}");
            let (theirs, ours) = (theirs.join("f").join(&name), ours.join("f").join(&name));
            assert_same_pages(&theirs, &ours);
        }
    }
}

fn assert_same_pages(theirs: &Path, ours: &Path) {
    let keys = keys();
    let (a, b) = (plain_pages(theirs, &keys), plain_pages(ours, &keys));
    assert_eq!(a.len(), b.len(), "{}", ours.display());
    let blocks = |path| fs::metadata(path).expect("stat").blocks();
    let (blocks_a, blocks_b) = (blocks(theirs), blocks(ours));
    assert!(blocks_b <= blocks_a + 64, "{blocks_a} and {blocks_b} blocks: {}", ours.display());
    for (page_no, (a, b)) in a.iter().zip(&b).enumerate() {
        let first = a.iter().zip(b).position(|(a, b)| a != b);
        assert_eq!(first, None, "first difference in page {page_no} of {}", ours.display());
    }
}

fn keys() -> FileKeys {
    FileKeys::open(&FileKeyOptions {
        filename: KEY_FILE.into(),
        filekey: None,
        mode: CipherMode::Ctr,
        digest: Digest::default(),
        pbkdf2_iterations: None,
    })
    .expect("read the keys")
}

/// The pages of a data file, decrypted and decompressed.
fn plain_pages(path: &Path, keys: &dyn KeySource) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("read a data file");
    let header = SpaceHeader::parse(&bytes).expect("a page 0");
    let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
    let codec = PageCodec::new(context, Some(keys));
    let pages = bytes.chunks_exact(header.flags().page_size().physical());
    (0..)
        .zip(pages)
        .map(|(page_no, page)| {
            let mut plain = vec![0; page.len()];
            match codec.decode(page, page_no, &mut plain) {
                Ok(Decoded::AsStored) => page.to_vec(),
                Ok(Decoded::InBuffer) => plain,
                Err(error) => panic!("page {page_no} of {}: {error}", path.display()),
            }
        })
        .collect()
}

#[test]
fn pages_of_4k() {
    let tables = [&PLAIN[..], &ROW_COMPRESSED].concat();
    both_prepare_to_the_same(Series::V10_11, &["--innodb-page-size=4k"], &tables);
}

#[test]
fn pages_of_8k() {
    let tables = [&PLAIN[..], &ROW_COMPRESSED, &ROW_COMPRESSED_16K[..1]].concat();
    both_prepare_to_the_same(Series::V11_8, &["--innodb-page-size=8k"], &tables);
}

#[test]
fn pages_of_16k() {
    let tables = [&PLAIN[..], &ROW_COMPRESSED, &ROW_COMPRESSED_16K].concat();
    both_prepare_to_the_same(Series::V10_11, &[], &tables);
}

#[test]
fn pages_of_32k() {
    both_prepare_to_the_same(Series::V10_11, &["--innodb-page-size=32k"], &PLAIN);
}

#[test]
fn pages_of_64k() {
    both_prepare_to_the_same(Series::V11_8, &["--innodb-page-size=64k"], &PLAIN);
}

#[test]
fn pages_with_older_checksums() {
    let options = ["--innodb-checksum-algorithm=crc32", "--innodb-page-size=4k"];
    let tables = [&PLAIN[..], &ROW_COMPRESSED].concat();
    both_prepare_to_the_same(Series::V10_11, &options, &tables);
    let tables = [&PLAIN[..], &ROW_COMPRESSED, &ROW_COMPRESSED_16K].concat();
    both_prepare_to_the_same(
        Series::V10_11,
        &["--innodb-checksum-algorithm=strict_crc32"],
        &tables,
    );
}

#[test]
fn encrypted_pages() {
    let tables = [&ENCRYPTED[..], &PLAIN].concat();
    both_prepare_to_the_same(Series::V10_11, &with_keys(&[]), &tables);
}

#[test]
fn pages_encrypted_by_default() {
    let options = with_keys(&[
        "--loose-innodb-encrypt-tables=ON",
        "--innodb-encryption-threads=2",
        "--innodb-page-size=4k",
    ]);
    let tables = [&ENCRYPTED[..], &PLAIN].concat();
    both_prepare_to_the_same(Series::V11_8, &options, &tables);
}

#[test]
fn encrypted_pages_with_older_checksums() {
    let options = with_keys(&[
        "--innodb-checksum-algorithm=crc32",
        "--loose-innodb-encrypt-tables=ON",
        "--innodb-encryption-threads=2",
    ]);
    let zipped =
        ROW_COMPRESSED.map(|(name, definition)| (name, format!("{definition} ENCRYPTED=YES")));
    let zipped = zipped.iter().map(|(name, definition)| (*name, definition.as_str()));
    let tables: Vec<_> = ENCRYPTED.into_iter().chain(zipped).collect();
    both_prepare_to_the_same(Series::V10_11, &options, &tables);
}

#[test]
fn compressed_pages() {
    both_prepare_to_the_same(Series::V10_11, &PROVIDERS, &PAGE_COMPRESSED);
}

#[test]
fn compressed_pages_with_older_checksums() {
    let options = [&PROVIDERS[..], &["--innodb-checksum-algorithm=crc32"]].concat();
    both_prepare_to_the_same(Series::V10_11, &options, &PAGE_COMPRESSED);
}

#[test]
fn compressed_and_encrypted_pages() {
    let tables = PAGE_COMPRESSED.map(|(name, _)| (name, "PAGE_COMPRESSED=1 ENCRYPTED=YES"));
    for algorithm in ["full_crc32", "crc32"] {
        let algorithm = format!("--innodb-checksum-algorithm={algorithm}");
        let options = with_keys(&[&PROVIDERS[..], &[&algorithm]].concat());
        both_prepare_to_the_same(Series::V10_11, &options, &tables);
    }
}

/// What cannot be decrypted is found before anything is written.
#[test]
fn wrong_and_missing_keys() {
    let Backup { source: _source, dir, .. } = back_up(Series::V10_11, &with_keys(&[]), &ENCRYPTED);
    let keys = dir.with_file_name("keys");
    let file = format!("--file-key-management-filename={}", keys.display());
    let good = fs::read_to_string(KEY_FILE).expect("read the keys");
    let (first, second) = good.trim_end().split_once('\n').expect("two keys");
    let cases = [
        (good.replace("770A", "770B"), "--open-files-limit=1000", "key 1 "),
        (good.replace("F0F1", "F0F2"), "--open-files-limit=1000", "key 2 "),
        (good.clone(), "--file-key-management-encryption-algorithm=aes_cbc", "key 1 "),
        (format!("{first}\n"), "--open-files-limit=1000", "there is no key 2"),
        (second.replacen('2', "1", 1), "--open-files-limit=1000", "key 1 "),
    ];
    let copy = copy(&dir, "copy");
    for (content, option, message) in cases {
        fs::write(&keys, &content).expect("write the keys");
        let mut command = Tool::Ours.prepare_command(&copy, &[&file, option]);
        run(&mut command).expect_failure(&[message, "f/enc_", "Nothing was changed"]);
        assert_eq!(differences(&dir, &copy, Allowed::Nothing), "", "{message}");
    }
    fs::write(&keys, &good).expect("write the keys");
    Tool::Ours.prepare(&copy, &[&file]);
}

#[test]
fn wrong_and_missing_keys_of_logs() {
    let options = with_keys(&["--loose-innodb-encrypt-log=ON"]);
    for series in [Series::V10_5, Series::V10_11] {
        let Backup { source: _source, dir, .. } = back_up(series, &options, &PLAIN[..1]);
        let keys = dir.with_file_name("keys");
        let file = format!("--file-key-management-filename={}", keys.display());
        let good = fs::read_to_string(KEY_FILE).expect("read the keys");
        let copy = copy(&dir, "copy");
        let second = good.lines().last().expect("a second key");
        for content in [&good.replace("770A", "770B"), second] {
            fs::write(&keys, content).expect("write the keys");
            let mut command = Tool::Ours.prepare_command(&copy, &[&file]);
            run(&mut command).expect_failure(&["key 1"]);
            assert_eq!(differences(&dir, &copy, Allowed::Nothing), "", "{series}");
        }
    }
}

#[test]
fn encrypted_logs() {
    let options = with_keys(&["--loose-innodb-encrypt-log=ON"]);
    let tables = [&ENCRYPTED[..], &PLAIN].concat();
    for series in Series::CURRENT {
        both_prepare_to_the_same(series, &options, &tables);
    }
}

#[test]
fn logs_of_blocks() {
    let tables = [&PLAIN[..], &ROW_COMPRESSED, &ROW_COMPRESSED_16K].concat();
    both_prepare_to_the_same(Series::V10_5, &[], &tables);
}

#[test]
fn encrypted_logs_of_blocks() {
    let options = with_keys(&["--loose-innodb-encrypt-log=ON", "--innodb-page-size=4k"]);
    let tables = [&ENCRYPTED[..], &PLAIN].concat();
    both_prepare_to_the_same(Series::V10_5, &options, &tables);
}

#[test]
fn checksums_of_10_5() {
    let tables = [&PLAIN[..], &ROW_COMPRESSED].concat();
    for algorithm in ["innodb", "none"] {
        println!("{algorithm}");
        let option = format!("--innodb-checksum-algorithm={algorithm}");
        both_prepare_to_the_same(Series::V10_5, &[&option], &tables);
        // On what the reference leaves with these, a server does not start.
        let option = format!("--innodb-checksum-algorithm=strict_{algorithm}");
        let Backup { source: _source, dir, .. } = back_up(Series::V10_5, &[&option], &tables);
        both_prepare(Series::V10_5, &dir);
    }
}

/// Servers encrypt and decrypt while they run: page 0 tells only later than other pages.
#[test]
fn encryption_that_begins_and_ends() {
    let tables = [&ENCRYPTED[2..], &PLAIN, &ROW_COMPRESSED].concat();
    let options = with_keys(&["--innodb-encryption-threads=4"]);
    let on = ["SET GLOBAL innodb_encrypt_tables=ON"];
    let begins = back_up_after(Series::V10_11, &options, &tables, &on);
    assert_both_prepare(Series::V10_11, begins);
    let options = with_keys(&["--innodb-encryption-threads=4", "--loose-innodb-encrypt-tables=ON"]);
    let off = ["SET GLOBAL innodb_encrypt_tables=OFF"];
    let ends = back_up_after(Series::V10_11, &options, &tables, &off);
    assert_both_prepare(Series::V10_11, ends);
}
