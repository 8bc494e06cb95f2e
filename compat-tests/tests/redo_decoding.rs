//! All records of logs that servers of each series write under every load there is: each is known,
//! and the log ends where the server says.
//!
//! `REDO_SECONDS` makes the load longer, `REDO_REST` gentler, `REDO_LOG_MIB` the log larger; with
//! `REDO_KEEP`, the folder of that name gets the logs, for other decoders. All of it is run by
//! `cargo xtask redo SECONDS`.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use compat_tests::chaos::{self, Workers};
use compat_tests::installation::{Series, workspace_dir};
use compat_tests::pace::Pace;
use compat_tests::random::Random;
use compat_tests::server::{PROVIDERS, TestServer};
use compat_tests::size;
use compat_tests::workload::{Tables, Workload, create_tables};
use innodb::encrypted::CipherMode;
use keys::{Digest, FileKeyOptions, FileKeys};
use mysql::Conn;
use mysql::prelude::Queryable as _;
use redo::file::LogFile;
use redo::header::HEADER_LEN;
use redo::reader::Reader;
use redo::{Format, Lsn};

/// Records of every kind that need no other setting than these.
const OPTIONS: [&str; 5] = [
    "--innodb-undo-tablespaces=3",
    "--innodb-undo-log-truncate=ON",
    "--innodb-max-undo-log-size=10M",
    "--innodb-purge-rseg-truncate-frequency=1",
    // Enough to recover in one batch: in several, servers fail to write to undo tablespaces that
    // were truncated later ("outside the bounds of the file"; 10.11).
    "--innodb-buffer-pool-size=512M",
];

/// Statements on tables that neither of the other loads has, over and over.
struct RareLoad {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl RareLoad {
    fn start(server: &TestServer, encrypts: bool, pace: Pace) -> Self {
        let series = server.series();
        let stop = Arc::new(AtomicBool::new(false));
        let mut rare = Rare {
            connection: server.connect(),
            random: Random::new(5),
            round: 0,
            encrypts,
            compressions: compressions(series),
        };
        rare.run("CREATE DATABASE rare");
        rare.run("CREATE TABLE rare.undo (id INT PRIMARY KEY, v VARCHAR(250)) ENGINE=InnoDB");
        rare.run("INSERT INTO rare.undo SELECT seq, REPEAT('u', 250) FROM test.seq_1_to_20000");
        rare.run(
            "CREATE TABLE rare.spatial (id INT AUTO_INCREMENT PRIMARY KEY, g POINT NOT NULL, \
             SPATIAL KEY (g)) ENGINE=InnoDB",
        );
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    rare.round += 1;
                    pace.step(|| rare.spatial());
                    pace.step(|| rare.bulk_insert());
                    pace.step(|| rare.page_compression());
                    pace.step(|| rare.prepared_transaction());
                    if rare.round % 8 == 1 {
                        pace.step(|| rare.much_undo());
                    }
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a writer failed");
    }
}

/// What `innodb_compression_algorithm` can be.
fn compressions(series: Series) -> &'static [&'static str] {
    match series {
        Series::V10_5 => &["zlib", "lz4", "lzma", "bzip2", "snappy"],
        Series::V10_11 | Series::V11_8 => &["zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"],
    }
}

struct Rare {
    connection: Conn,
    random: Random,
    round: u64,
    encrypts: bool,
    compressions: &'static [&'static str],
}

impl Rare {
    fn run(&mut self, sql: &str) {
        self.connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn spatial(&mut self) {
        for _ in 0..5 {
            let (x, y) = (self.random.below(900), 60 + self.random.below(900));
            self.run(&format!(
                "INSERT INTO rare.spatial (g) SELECT POINT({x} + seq, {y} - seq * 3) \
                 FROM test.seq_1_to_20"
            ));
        }
        let (x, id) = (self.random.below(1000), self.random.below(500));
        self.run(&format!("UPDATE rare.spatial SET g = POINT({x}, 7) WHERE id % 500 = {id}"));
        self.run(&format!(
            "DELETE FROM rare.spatial WHERE MBRContains(ST_GeomFromText(\
             'POLYGON(({x} 0, {x} 900, 900 900, 900 0, {x} 0))'), g) LIMIT 90"
        ));
    }

    /// Rows for an empty table, with which 10.6 and later log whole pages.
    fn bulk_insert(&mut self) {
        let format = *self.random.pick(&["REDUNDANT", "COMPACT", "DYNAMIC", "COMPRESSED"]);
        self.run("SET SESSION unique_checks=0, foreign_key_checks=0");
        self.run(&format!(
            "CREATE TABLE rare.bulk (id INT PRIMARY KEY, k INT, c CHAR(100), b TEXT, KEY (k)) \
             ENGINE=InnoDB ROW_FORMAT={format}"
        ));
        for end in ["ROLLBACK", "COMMIT"] {
            self.run("BEGIN");
            self.run(
                "INSERT INTO rare.bulk SELECT seq, seq % 7, REPEAT('b', 90), \
                 IF(seq % 100, NULL, REPEAT('text', 9000)) FROM test.seq_1_to_1000",
            );
            self.run(end);
        }
        self.run("SET SESSION unique_checks=1, foreign_key_checks=1");
        self.run("DELETE FROM rare.bulk WHERE id % 3 = 1");
        self.run("TRUNCATE TABLE rare.bulk");
        self.run("DROP TABLE rare.bulk");
    }

    fn page_compression(&mut self) {
        let algorithm = *self.random.pick(self.compressions);
        // What this server was built with.
        let sql = format!("SET GLOBAL innodb_compression_algorithm = {algorithm}");
        let _ = self.connection.query_drop(sql);
        let encrypted = if self.encrypts && self.round.is_multiple_of(2) { "YES" } else { "NO" };
        let encryption =
            if self.encrypts { format!("ENCRYPTED={encrypted}") } else { String::new() };
        self.run(&format!(
            "CREATE OR REPLACE TABLE rare.small (id INT PRIMARY KEY, k INT, c VARCHAR(200), \
             KEY (k)) ENGINE=InnoDB PAGE_COMPRESSED=1 {encryption}"
        ));
        self.run(
            "INSERT INTO rare.small SELECT seq, seq % 9, REPEAT('c', seq % 200) \
             FROM test.seq_1_to_500",
        );
        self.run("UPDATE rare.small SET k = k + 1, c = REPEAT('d', 150) WHERE k > 5");
    }

    fn prepared_transaction(&mut self) {
        let end = if self.round.is_multiple_of(2) { "COMMIT" } else { "ROLLBACK" };
        self.run("XA START 'x'");
        self.run("UPDATE rare.undo SET v = REPEAT('x', 240) WHERE id BETWEEN 50 AND 90");
        self.run("INSERT INTO rare.spatial (g) VALUES (POINT(-1, -1))");
        self.run("XA END 'x'");
        self.run("XA PREPARE 'x'");
        self.run(&format!("XA {end} 'x'"));
    }

    /// Enough for undo tablespaces to be truncated.
    fn much_undo(&mut self) {
        let text = self.round % 10;
        self.run(&format!("UPDATE rare.undo SET v = REPEAT('{text}', 249)"));
    }
}

/// The header, and the file up to somewhere behind `lsn`: logs may be larger than memory.
fn read_log(path: &Path, lsn: Lsn) -> (LogFile, Vec<u8>) {
    let log = parse_header(path);
    let end = log.place(lsn).unwrap().offset + (64 << 20);
    let mut bytes = Vec::new();
    File::open(path).unwrap().take(end).read_to_end(&mut bytes).unwrap();
    (log, bytes)
}

fn parse_header(path: &Path) -> LogFile {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let mut head = Vec::new();
    file.take(HEADER_LEN).read_to_end(&mut head).unwrap();
    LogFile::parse(&head, len).unwrap()
}

/// Where the log ends, but for what the server does by itself.
fn current_lsn(server: &TestServer) -> Lsn {
    let lsn = server.query_u64(
        "SELECT variable_value FROM information_schema.global_status \
         WHERE variable_name = 'Innodb_lsn_current'",
    );
    server.execute("FLUSH ENGINE LOGS");
    Lsn(lsn)
}

fn every_record_is_known(series: Series, options: &[&str], format: Format) {
    let pace = Pace::resting(u32::try_from(size("REDO_REST", 0)).unwrap());
    let encrypts = options.iter().any(|option| option.contains("key-management"));
    let log_size = format!("--innodb-log-file-size={}M", size("REDO_LOG_MIB", 512));
    let providers: &[&str] = if series == Series::V10_5 { &[] } else { &PROVIDERS };
    let options =
        [&OPTIONS[..], &chaos::SERVER_OPTIONS, &[log_size.as_str()], providers, options].concat();
    let mut server = TestServer::start_series(series, &options);
    let path = server.datadir().join("ib_logfile0");
    let start = parse_header(&path).checkpoint().lsn;

    create_tables(&server);
    let load = Workload::start_at_pace(&server, &Tables::default(), 3, 1, pace);
    let workers = Workers::start(&server, 3, 1, pace);
    let rare = RareLoad::start(&server, encrypts, pace);
    thread::sleep(Duration::from_secs(size("REDO_SECONDS", 3)));
    // Servers cannot import tablespaces while encryption changes.
    workers.stop();
    if encrypts {
        server.execute("SET GLOBAL innodb_encrypt_tables = ON");
        thread::sleep(Duration::from_secs(1));
    }
    rare.stop();
    let statements = load.stop();
    let lsn = current_lsn(&server);
    server.kill();

    let (log, bytes) = read_log(&path, lsn);
    assert_eq!(log.format(), format);
    let room = log.capacity() - (1 << 20);
    assert!(lsn.since(start) < room, "{start} to {lsn}: REDO_LOG_MIB is too small");
    let name = if encrypts { format!("{series}-encrypted") } else { series.to_string() };
    if let Some(dir) = std::env::var_os("REDO_KEEP") {
        fs::create_dir_all(&dir).unwrap();
        fs::copy(&path, Path::new(&dir).join(&name)).unwrap();
    }
    let keys = FileKeys::open(&FileKeyOptions {
        filename: workspace_dir().join("keys/testdata/plain"),
        filekey: None,
        mode: CipherMode::Ctr,
        digest: Digest::default(),
        pbkdf2_iterations: None,
    })
    .unwrap();
    let reader = Reader::new(&bytes, &log, encrypts.then_some(&keys));
    let mut mtrs = reader.mtrs(start).unwrap();
    let (mut mtr_count, mut counts) = (0_u64, BTreeMap::new());
    while let Some(mtr) = mtrs.next().unwrap() {
        mtr_count += 1;
        for record in mtr.records() {
            let record = record.unwrap_or_else(|error| panic!("{name}, {}: {error}", mtr.start()));
            *counts.entry(record.type_name()).or_insert(0_u64) += 1;
        }
    }
    let end = mtrs.lsn();
    assert!(end >= lsn, "{name}: the log ends at {end}, the server was at {lsn}");
    println!(
        "{name}: {statements} statements and others, {mtr_count} mini-transactions from {start} to \
         {end}; {counts:#?}"
    );
    for kind in EXPECTED {
        assert!(counts.contains_key(kind), "no {kind} in {counts:?}");
    }
    // The server reads that far too.
    server.launch();
    let said = fs::read_to_string(server.error_log()).unwrap();
    let message = format!("log sequence number {end};");
    assert!(said.contains(&message), "no {message:?} in {}", server.error_log_tail());
}

/// What every log holds after such a load.
const EXPECTED: [&str; 20] = [
    "FREE_PAGE",
    "INIT_PAGE",
    "WRITE",
    "MEMSET",
    "MEMMOVE",
    "INIT_ROW_FORMAT_REDUNDANT",
    "INIT_ROW_FORMAT_DYNAMIC",
    "UNDO_INIT",
    "UNDO_APPEND",
    "INSERT_HEAP_REDUNDANT",
    "INSERT_REUSE_REDUNDANT",
    "INSERT_HEAP_DYNAMIC",
    "INSERT_REUSE_DYNAMIC",
    "DELETE_ROW_FORMAT_REDUNDANT",
    "DELETE_ROW_FORMAT_DYNAMIC",
    "TRIM_PAGES",
    "FILE_CREATE",
    "FILE_DELETE",
    "FILE_RENAME",
    "FILE_MODIFY",
];

const ENCRYPTED: [&str; 5] = [
    "--plugin-load-add=file_key_management",
    concat!(
        "--file-key-management-filename=",
        env!("CARGO_MANIFEST_DIR"),
        "/../keys/testdata/plain"
    ),
    "--file-key-management-encryption-algorithm=aes_ctr",
    "--innodb-encryption-threads=2",
    "--innodb-encrypt-log=ON",
];

#[test]
fn every_record_of_10_5_is_known() {
    every_record_is_known(Series::V10_5, &[], Format::Blocks);
}

#[test]
fn every_record_of_10_11_is_known() {
    every_record_is_known(Series::V10_11, &[], Format::Ring);
}

#[test]
fn every_record_of_11_8_is_known() {
    every_record_is_known(Series::V11_8, &[], Format::Ring);
}

#[test]
fn every_encrypted_record_of_10_5_is_known() {
    every_record_is_known(Series::V10_5, &ENCRYPTED, Format::EncryptedBlocks);
}

#[test]
fn every_encrypted_record_of_11_8_is_known() {
    every_record_is_known(Series::V11_8, &ENCRYPTED, Format::EncryptedRing);
}
