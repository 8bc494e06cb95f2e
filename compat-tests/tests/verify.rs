//! `verify` on real backups and data directories: good ones pass, whatever their format, and every
//! damage is found and named.

#![cfg(test)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use compat_tests::installation::{Series, workspace_dir};
use compat_tests::server::{PROVIDERS, TestServer, copy_tree};
use compat_tests::tool::{Tool, verify};
use compat_tests::workload::{Tables, Workload, create_tables_of};

#[track_caller]
fn assert_good(dir: &Path, options: &[&str], what: &str) {
    let verdict = verify(dir, options);
    assert_eq!((verdict.code, verdict.findings.as_str()), (0, ""), "{what}\n{}", verdict.stderr);
    assert!(verdict.stderr.trim_end().ends_with("completed OK!"), "{what}\n{}", verdict.stderr);
    assert!(!verdict.stderr.contains("Warning"), "{what}\n{}", verdict.stderr);
}

/// Asserts that what is found is about `file` alone, and names each of `words`.
#[track_caller]
fn assert_damaged(dir: &Path, options: &[&str], file: &str, words: &[&str]) {
    let verdict = verify(dir, options);
    assert_eq!(verdict.code, 1, "{file}\n{}{}", verdict.findings, verdict.stderr);
    assert!(!verdict.stderr.contains("completed OK!"), "{}", verdict.stderr);
    assert!(!verdict.findings.is_empty(), "{file}");
    for line in verdict.findings.lines() {
        assert!(line.starts_with(&format!("{file}: ")), "{file}\n{}", verdict.findings);
    }
    for word in words {
        assert!(verdict.findings.contains(word), "{word}\n{}", verdict.findings);
    }
}

/// A file of a directory that is damaged and repaired again.
struct Damage<'a> {
    dir: &'a Path,
    options: &'a [&'a str],
}

impl Damage<'_> {
    fn open(&self, file: &str) -> File {
        let path = self.dir.join(file);
        let open = OpenOptions::new().read(true).write(true).open(&path);
        open.unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
    }

    /// Flips a bit at `offset`: found, with these words.
    #[track_caller]
    fn flipped(&self, name: &str, offset: u64, words: &[&str]) {
        let file = self.open(name);
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
        assert_damaged(self.dir, self.options, name, words);
        file.write_all_at(&byte, offset).unwrap();
    }

    /// Flips a bit in the middle of a page.
    #[track_caller]
    fn page(&self, name: &str, page_no: u64, page_size: u64) {
        let offset = page_no * page_size;
        let words = [&*format!("{name}: page {page_no} at offset {offset}: ")];
        self.flipped(name, offset + 100, &words);
    }

    /// Removes the file: found, with these words.
    #[track_caller]
    fn removed(&self, name: &str, words: &[&str]) {
        let (path, kept) = (self.dir.join(name), self.dir.with_file_name("removed"));
        fs::rename(&path, &kept).unwrap();
        assert_damaged(self.dir, self.options, name, words);
        fs::rename(&kept, &path).unwrap();
    }

    /// Cuts the file to `len`: found, with these words.
    #[track_caller]
    fn cut(&self, name: &str, len: u64, words: &[&str]) {
        let (path, kept) = (self.dir.join(name), self.dir.with_file_name("kept"));
        fs::copy(&path, &kept).unwrap();
        self.open(name).set_len(len).unwrap();
        assert_damaged(self.dir, self.options, name, words);
        fs::rename(&kept, &path).unwrap();
    }
}

const INNODB: [(&str, &str); 2] = [
    ("busy.parts", "ENGINE=InnoDB PARTITION BY HASH(id) PARTITIONS 3"),
    ("busy.dynamic", "ENGINE=InnoDB"),
];
const OTHERS: [(&str, &str); 2] =
    [("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")];

/// Directories of one server: raw backups of both tools, prepared, and the data directory after a
/// kill and after a shutdown.
struct Directories {
    source: TestServer,
    raw: PathBuf,
    prepared: PathBuf,
}

impl Directories {
    /// Asserts that all are good. `options`: for the data directory.
    fn of(
        series: Series,
        server_options: &[&str],
        tables: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let mut source = TestServer::start_series(series, server_options);
        let tables = Tables::new(&[tables, &INNODB].concat(), &OTHERS);
        create_tables_of(&source, &tables);
        // None of these has a file, or one that the server does not use.
        source.execute_all(&[
            "SET GLOBAL innodb_file_per_table=0",
            "CREATE TABLE test.shared (a INT PRIMARY KEY) ENGINE=InnoDB",
            "SET GLOBAL innodb_file_per_table=1",
            "CREATE TABLE test.discarded (a INT PRIMARY KEY) ENGINE=InnoDB",
            "ALTER TABLE test.discarded DISCARD TABLESPACE",
            "CREATE VIEW test.v AS SELECT 1",
            "CREATE SEQUENCE test.s",
        ]);
        // From here on, the log does not build whole tables.
        source.shutdown();
        source.launch();
        let raw = source.dir().join("raw");
        let load = Workload::start_on(&source, &tables, 7, 3);
        load.wait_for(300);
        Tool::Ours.backup(&source, &raw, &["--parallel=2"]);
        let theirs = source.dir().join("theirs");
        Tool::Reference(series).backup(&source, &theirs, &[]);
        load.wait_for(100);
        let in_use = verify(&source.datadir(), options);
        assert_eq!((in_use.code, in_use.findings.as_str()), (2, ""));
        assert!(in_use.stderr.contains("is in use"), "{}", in_use.stderr);
        load.stop();
        source.kill();
        assert_good(&source.datadir(), options, "killed");
        source.launch();
        source.shutdown();
        assert_good(&source.datadir(), options, "shut down");
        assert_good(&raw, &[], "raw");
        assert_good(&theirs, &[], "of the reference");
        let prepared = source.dir().join("prepared");
        copy_tree(&raw, &prepared);
        Tool::Ours.prepare(&prepared, &[]);
        assert_good(&prepared, &[], "prepared");
        let restored = TestServer::prepare(series, &[]);
        Tool::Ours.copy_back(&prepared, &restored);
        let sealed: Vec<&str> =
            options.iter().copied().filter(|o| o.starts_with("--file-key")).collect();
        assert_good(&restored.datadir(), &sealed, "restored");
        Tool::Reference(series).prepare(&theirs, &[]);
        assert_good(&theirs, &[], "prepared by the reference");
        Self { source, raw, prepared }
    }
}

/// Damage of every kind of file that all formats have, in pages of `page_size` bytes.
fn check_damage(directories: &Directories, page_size: u64, options: &[&str]) {
    let datadir = directories.source.datadir();
    for (dir, options, what) in [
        (directories.raw.as_path(), &[][..], "raw"),
        (&directories.prepared, &[], "prepared"),
        (&datadir, options, "datadir"),
    ] {
        println!("{what}");
        let damage = Damage { dir, options };
        damage.page("ibdata1", 7, page_size);
        damage.page("ibdata1", 0, page_size);
        // Others, the log of a raw backup may build anew.
        damage.page("undo001", 2, page_size);
        damage.page("busy/dynamic.ibd", 2, page_size);
        damage.page("busy/parts#P#p1.ibd", 2, page_size);
        damage.flipped("aria_log_control", 40, &["checksum"]);
        damage.flipped("aria_log.00000001", 3 * 8192 + 1, &["page 3 at offset 24576"]);
        damage.flipped("busy/aria.MAD", 8192 + 200, &["page 1 at offset 8192", "checksum"]);
        damage.flipped("busy/aria.MAI", 2, &["does not begin like"]);
        damage.removed("busy/dynamic.ibd", &["it is missing", "dictionary"]);
        damage.removed("busy/parts#P#p2.ibd", &["it is missing", "dictionary"]);
        damage.removed("busy/aria.MAD", &["it is missing"]);
        damage.removed("busy/myisam.MYI", &["it is missing"]);
        damage.removed("undo002", &["it is missing", "rollback segments"]);
        damage.removed("undo001", &["it is missing", "rollback segments"]);
        damage.removed("ib_logfile0", &["ib_logfile0"]);
        if what != "raw" {
            // The log of a raw backup may tell that a file has grown.
            damage.cut("busy/dynamic.ibd", 5 * page_size, &["ends too early", "it has 5 pages"]);
            damage.cut("undo002", 40 * page_size + 17, &["ends too early", "within a page"]);
        }
        assert_good(dir, options, "repaired");
    }
    for (dir, names) in [(&directories.raw, "raw"), (&directories.prepared, "prepared")] {
        let is_new = dir.join("mariadb_backup_checkpoints").exists();
        let start = if is_new { "mariadb_backup" } else { "xtrabackup" };
        // Where the keys are, that file alone tells.
        let damage = Damage { dir, options };
        damage.removed("backup-my.cnf", &["backup-my.cnf"]);
        damage.removed(&format!("{start}_info"), &["it is missing"]);
        damage.removed(&format!("{start}_binlog_info"), &["it is missing", "binary log"]);
        let kept = dir.with_file_name("checkpoints");
        let checkpoints = dir.join(format!("{start}_checkpoints"));
        fs::rename(&checkpoints, &kept).unwrap();
        assert_damaged(dir, options, "mariadb_backup_checkpoints", &["it is missing"]);
        fs::rename(&kept, &checkpoints).unwrap();
        println!("{names}: metadata");
    }
    let log = directories.raw.join("ib_logfile0");
    let len = fs::metadata(&log).unwrap().len();
    let damage = Damage { dir: &directories.raw, options: &[] };
    damage.flipped("ib_logfile0", len / 2, &["ib_logfile0: "]);
    damage.cut("ib_logfile0", len - 600, &["must reach"]);
}

#[test]
fn usual_pages() {
    let options = ["--innodb-undo-tablespaces=2"];
    let directories = Directories::of(Series::V10_11, &options, &[], &[]);
    check_damage(&directories, 16384, &[]);
    let known = directories.prepared.join("innodb_corrupted_pages");
    let id = fs::read(directories.prepared.join("busy/dynamic.ibd")).unwrap()[34..38].to_vec();
    let id = u32::from_be_bytes(id.try_into().unwrap());
    fs::write(&known, format!("busy/dynamic {id}\n3 5\n")).unwrap();
    let damage = Damage { dir: &directories.prepared, options: &[] };
    damage.flipped("busy/dynamic.ibd", 3 * 16384 + 100, &["page 3 ", "known since the backup"]);
}

#[test]
fn logs_of_blocks_and_older_checksums() {
    let options = [
        "--innodb-undo-tablespaces=2",
        "--innodb-page-size=4k",
        "--innodb-checksum-algorithm=crc32",
    ];
    let tables = [
        ("busy.redundant", "ENGINE=InnoDB ROW_FORMAT=REDUNDANT"),
        ("busy.zip1", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"),
        ("busy.zip4", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ];
    let directories = Directories::of(Series::V10_5, &options, &tables, &[]);
    check_damage(&directories, 4096, &[]);
    let damage = Damage { dir: &directories.raw, options: &[] };
    damage.page("busy/zip1.ibd", 2, 1024);
    for dir in [&directories.prepared, &directories.source.datadir()] {
        let damage = Damage { dir, options: &[] };
        damage.page("busy/zip1.ibd", 5, 1024);
        damage.page("busy/zip4.ibd", 4, 4096);
        damage.page("busy/redundant.ibd", 4, 4096);
    }
}

/// Options of a server with keys.
fn key_options(more: &[&str]) -> Vec<String> {
    let plugin = ["--plugin-load-add=file_key_management".to_owned(), key_file()];
    plugin.into_iter().chain(more.iter().map(|&option| option.to_owned())).collect()
}

fn key_file() -> String {
    let keys = workspace_dir().join("keys/testdata/plain");
    format!("--file-key-management-filename={}", keys.display())
}

#[test]
fn encrypted_and_compressed_pages_and_logs() {
    let options = key_options(&[
        "--loose-innodb-encrypt-tables=ON",
        "--loose-innodb-encrypt-log=ON",
        "--innodb-encryption-threads=2",
        "--aria-encrypt-tables=ON",
        "--innodb-undo-tablespaces=2",
    ]);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(PROVIDERS).collect();
    let tables = [
        ("busy.key_2", "ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2"),
        ("busy.zip", "ENGINE=InnoDB ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
        ("busy.pc", "ENGINE=InnoDB ENCRYPTED=NO PAGE_COMPRESSED=1"),
        ("busy.pc_key", "ENGINE=InnoDB ENCRYPTED=YES PAGE_COMPRESSED=1"),
    ];
    let keys = key_file();
    let directories = Directories::of(Series::V11_8, &options, &tables, &[&keys]);
    check_damage(&directories, 16384, &[&keys]);
    let datadir = directories.source.datadir();
    for (dir, options) in [(&directories.prepared, &[][..]), (&datadir, &[keys.as_str()])] {
        let damage = Damage { dir, options };
        damage.page("busy/key_2.ibd", 3, 16384);
        damage.page("busy/zip.ibd", 4, 4096);
        damage.page("busy/pc.ibd", 3, 16384);
        damage.page("busy/pc_key.ibd", 3, 16384);
    }
    // Without the keys a log cannot be read.
    let without = verify(&directories.source.datadir(), &[]);
    assert_eq!(without.code, 1);
    assert!(without.findings.contains("ib_logfile0: "), "{}", without.findings);
    let elsewhere = verify(&directories.raw, &["--file-key-management-filename=/nonexistent"]);
    assert_eq!((elsewhere.code, elsewhere.findings.as_str()), (2, ""), "{}", elsewhere.stderr);
}

/// Files in several places, files of a system tablespace, imported and unusual tablespaces.
#[test]
fn files_in_many_places() {
    let options = [
        "--innodb-data-file-path=ibdata1:12M;ibdata2:8M;ibdata3:4M:autoextend",
        "--innodb-data-home-dir={dir}/home",
        "--innodb-undo-directory={dir}/undo",
        "--innodb-undo-tablespaces=3",
        "--innodb-log-group-home-dir={dir}/log",
        "--innodb-page-size=8k",
    ];
    let mut source = TestServer::start_series(Series::V10_11, &options);
    let far = ("busy.far", "ENGINE=InnoDB DATA DIRECTORY='{dir}/far'");
    let tables = Tables::new(&[far, INNODB[1]], &OTHERS);
    create_tables_of(&source, &tables);
    let load = Workload::start_on(&source, &tables, 1, 2);
    load.wait_for(200);
    load.stop();
    // Pages of an imported tablespace were written by another one.
    source.execute_all(&[
        "CREATE TABLE test.i LIKE busy.dynamic",
        "ALTER TABLE test.i DISCARD TABLESPACE",
        "FLUSH TABLES busy.dynamic FOR EXPORT",
    ]);
    let backup = source.dir().join("backup");
    let datadir = source.datadir();
    let mut exporter = source.connect();
    mysql::prelude::Queryable::query_drop(&mut exporter, "FLUSH TABLES busy.dynamic FOR EXPORT")
        .unwrap();
    for extension in ["ibd", "cfg"] {
        let name =
            |folder: &str, table: &str| datadir.join(format!("{folder}/{table}.{extension}"));
        fs::copy(name("busy", "dynamic"), name("test", "i")).unwrap();
    }
    drop(exporter);
    source.execute("ALTER TABLE test.i IMPORT TABLESPACE");
    Tool::Ours.backup(&source, &backup, &[]);
    assert_good(&backup, &[], "raw");
    source.shutdown();
    let dir = source.dir().to_str().unwrap().to_owned();
    let places: Vec<String> = options[..5].iter().map(|o| o.replace("{dir}", &dir)).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    assert_good(&datadir, &places, "data directory");
    for (file, first, page_no) in [
        ("far/busy/far.ibd", 0, 4),
        ("home/ibdata2", 1536, 2),
        ("home/ibdata3", 2560, 3),
        ("undo/undo003", 0, 7),
    ] {
        let path = source.dir().join(file);
        let bytes = fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        damaged[page_no * 8192 + 5] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let word = format!("page {} at offset {}", first + page_no, page_no * 8192);
        assert_damaged(&datadir, &places, path.to_str().unwrap(), &[&word]);
        fs::write(&path, &bytes).unwrap();
    }
    let moved = source.dir().join("moved");
    fs::rename(source.dir().join("undo/undo002"), &moved).unwrap();
    let undo = source.dir().join("undo/undo002");
    assert_damaged(&datadir, &places, undo.to_str().unwrap(), &["it is missing"]);
}

#[test]
fn what_is_no_backup_or_not_complete() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = verify(dir.path(), &[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("neither a backup nor the data directory"), "{nothing:?}");
    fs::write(dir.path().join("mariabackup_incomplete"), "").unwrap();
    let incomplete = verify(dir.path(), &[]);
    assert_eq!(incomplete.code, 2);
    assert!(incomplete.stderr.contains("is not a complete backup"), "{incomplete:?}");
    let gone = verify(&dir.path().join("gone"), &[]);
    assert_eq!((gone.code, gone.findings.as_str()), (2, ""));
}
