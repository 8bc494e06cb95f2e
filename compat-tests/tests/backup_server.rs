//! Prepare and restore of what `BACKUP SERVER` of 13 leaves. No such server is packaged: the
//! directories are made from data files of servers that run, as they were at a checkpoint, and from
//! their redo log since then, as files of an archive.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use compat_tests::compare::{Allowed, State, assert_same_file_names, check_tables, differences};
use compat_tests::installation::{Series, prefixed};
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::tool::{Tool, run};
use compat_tests::workload::{Tables, Workload, create_tables_of};
use redo::Lsn;
use redo::archive::name_of_first_lsn;
use redo::file::LogFile;
use redo::header::{Checkpoint, HEADER_SIZE};

/// The smallest file that servers make, and the log in it.
const FILE_LEN: u64 = 4 << 20;
const PAYLOAD: u64 = FILE_LEN - HEADER_SIZE as u64;

const KEYS: [&str; 4] = [
    "--plugin-load-add=file_key_management",
    concat!(
        "--file-key-management-filename=",
        env!("CARGO_MANIFEST_DIR"),
        "/../keys/testdata/plain"
    ),
    "--file-key-management-encryption-algorithm=aes_ctr",
    "--loose-innodb-encrypt-log=ON",
];

/// Redo from a checkpoint on, without gaps, and the 28 bytes about its encryption.
struct Redo {
    checkpoint: Checkpoint,
    bytes: Vec<u8>,
    encryption: Option<[u8; 28]>,
}

impl Redo {
    /// What the file has from `checkpoint` on, its own if that is none; to `end`, or as far as it goes.
    fn read(path: &Path, checkpoint: Option<Checkpoint>, end: Lsn) -> Self {
        let bytes = fs::read(path).expect("read the log");
        let log = header_of(&bytes);
        let checkpoint = checkpoint.unwrap_or_else(|| log.checkpoint());
        let place = log.place(checkpoint.lsn).expect("a place in the log");
        let start = usize::try_from(place.offset).expect("a length in memory");
        let len = usize::try_from(end.since(checkpoint.lsn)).expect("a length in memory");
        assert!(len as u64 <= place.contiguous, "the log wraps");
        let encryption =
            log.encryption().is_some().then(|| *bytes[48..].first_chunk().expect("a header"));
        Self { checkpoint, bytes: bytes[start..start + len].to_vec(), encryption }
    }

    fn end(&self) -> Lsn {
        Lsn(self.checkpoint.lsn.0 + self.bytes.len() as u64)
    }

    /// Writes the log as files of an archive, the first of which begins `before` bytes before the
    /// checkpoint. All but the last are read-only, one more is made ahead.
    fn write_archive(&self, dir: &Path, before: u64) {
        let before = before.min(self.checkpoint.lsn.0 - HEADER_SIZE as u64);
        let first = self.checkpoint.lsn.0 - before;
        let before = usize::try_from(before).expect("a length in memory");
        let log = [vec![0x5e; before], self.bytes.clone()].concat();
        let payload = usize::try_from(PAYLOAD).expect("a length in memory");
        let mut count = 0;
        for (number, part) in (0..).zip(log.chunks(payload).chain([&[][..]])) {
            let first_lsn = Lsn(first + number * PAYLOAD);
            let mut file = vec![0; HEADER_SIZE];
            if let Some(encryption) = self.encryption {
                file[..28].copy_from_slice(&encryption);
            }
            let end_lsn = self.checkpoint.end_lsn;
            if (first_lsn.0..first_lsn.0 + PAYLOAD).contains(&end_lsn.0) {
                let offset = HEADER_SIZE as u64 + end_lsn.since(first_lsn);
                let at = if self.encryption.is_some() { 32 } else { 0 };
                file[at..at + 8].copy_from_slice(&offset.to_be_bytes());
            }
            file.extend(part);
            file.resize(HEADER_SIZE + payload, 0);
            let path = dir.join(name_of_first_lsn(first_lsn));
            fs::write(&path, file).expect("write a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("set the mode");
            count += 1;
        }
        assert!(count > 1);
    }

    fn write_cnf(&self, dir: &Path, target: Lsn) {
        let cnf = format!(
            "[server]\n# checkpoint={}\ninnodb_log_recovery_start={}\n\
             innodb_log_recovery_target={target}\n",
            self.checkpoint.lsn, self.checkpoint.end_lsn
        );
        fs::write(dir.join("backup.cnf"), cnf).expect("write a file");
    }
}

fn header_of(bytes: &[u8]) -> LogFile {
    LogFile::parse(&bytes[..HEADER_SIZE], bytes.len() as u64).expect("a log")
}

/// What the script around BACKUP SERVER writes beside it.
fn write_prepare_cnf(dir: &Path, server: &TestServer) {
    let mut lines = vec!["# mariadbd=/usr/sbin/mariadbd".to_owned(), "[mariadbd]".to_owned()];
    for name in [
        "innodb_page_size",
        "innodb_data_file_path",
        "innodb_undo_tablespaces",
        "innodb_checksum_algorithm",
        "innodb_log_file_size",
    ] {
        let value = server.query_text(format!("SELECT @@{name}"));
        lines.push(format!("{name}={value}"));
    }
    if server.options().iter().any(|option| option.contains("file_key_management")) {
        let plugin = ["plugin-load-add=file_key_management.so", "innodb_encrypt_log=ON"];
        lines.extend(plugin.map(str::to_owned));
        for name in ["filename", "encryption_algorithm"] {
            let name = format!("file_key_management_{name}");
            let value = server.query_text(format!("SELECT @@{name}"));
            lines.push(format!("loose-{name}={value}"));
        }
    }
    fs::write(dir.join("backup-prepare.cnf"), lines.join("\n")).expect("write a file");
}

/// Files of other backups that one of BACKUP SERVER has not.
fn remove_metadata(dir: &Path) {
    for entry in fs::read_dir(dir).expect("list a folder") {
        let path = entry.expect("list a folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_metadata = ["xtrabackup_", "mariadb_backup_"].iter().any(|p| name.starts_with(p));
        if is_metadata || name == "backup-my.cnf" || name == "ib_logfile0" {
            fs::remove_file(&path).expect("remove a file");
        }
    }
}

/// BACKUP SERVER does not copy the pages of the doublewrite buffer: two extents of 1 MiB each.
fn clear_doublewrite(dir: &Path, page_size: u64) {
    let file = fs::File::options().read(true).write(true).open(dir.join("ibdata1"));
    let file = file.expect("open the system tablespace");
    let mut page = vec![0; usize::try_from(page_size).expect("a length in memory")];
    file.read_exact_at(&mut page, 5 * page_size).expect("read page 5");
    let at = page.len() - 200 + 10;
    let number = |at: usize| u32::from_be_bytes(*page[at..].first_chunk().expect("a page"));
    assert_eq!(number(at), 536_853_855, "no doublewrite buffer");
    for first in [number(at + 4), number(at + 8)] {
        let extent = vec![0; 1 << 20];
        file.write_all_at(&extent, u64::from(first) * page_size).expect("write zeros");
    }
}

/// The end of the log that a backup has.
fn last_lsn(backup: &Path) -> Lsn {
    let names = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];
    let text = names.iter().find_map(|name| fs::read_to_string(backup.join(name)).ok());
    let text = text.expect("a checkpoints file");
    let lsn = text.lines().find_map(|line| line.strip_prefix("last_lsn = ")).expect("an LSN");
    Lsn(lsn.parse().expect("an LSN"))
}

fn copy(from: &Path, name: &str) -> PathBuf {
    let to = from.with_file_name(name);
    copy_tree(from, &to);
    to
}

/// Prepared in both forms, a backup of a busy server has the same pages, and a server runs on it.
fn both_forms_are_prepared_to_the_same(series: Series, options: &[&str], with_cnf: bool) {
    let mut source = TestServer::start_series(series, options);
    let encrypted = options.iter().any(|option| option.contains("key-management"));
    let formats: &[(&str, &str)] = if encrypted {
        &[
            ("busy.enc", "ENGINE=InnoDB ENCRYPTED=YES"),
            ("busy.enc2", "ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2"),
            ("busy.plain", "ENGINE=InnoDB ENCRYPTED=NO"),
        ]
    } else {
        &[
            ("busy.dynamic", "ENGINE=InnoDB"),
            ("busy.zip", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"),
        ]
    };
    let tables = Tables::new(formats, &[("busy.aria", "ENGINE=Aria TRANSACTIONAL=1")]);
    create_tables_of(&source, &tables);
    let load = Workload::start_on(&source, &tables, 3, 3);
    // More than two files of the archive.
    load.wait_for_redo(&source, 3 * FILE_LEN);
    let ordinary = source.dir().join("ordinary");
    Tool::Ours.backup(&source, &ordinary, &["--parallel=2"]);
    load.stop();

    let archived = copy(&ordinary, "archived");
    let redo = Redo::read(&archived.join("ib_logfile0"), None, last_lsn(&archived));
    assert!(redo.bytes.len() as u64 > FILE_LEN, "{} bytes of redo", redo.bytes.len());
    assert_eq!(redo.encryption.is_some(), encrypted);
    remove_metadata(&archived);
    redo.write_archive(&archived, 5_000);
    redo.write_cnf(&archived, redo.end());
    let mut prepare_options = Vec::new();
    if with_cnf {
        write_prepare_cnf(&archived, &source);
    } else if encrypted {
        prepare_options.extend([KEYS[1], KEYS[2]]);
    }
    let page_size = source.query_u64("SELECT @@innodb_page_size");
    // The same in both.
    clear_doublewrite(&archived, page_size);
    clear_doublewrite(&ordinary, page_size);
    source.shutdown();

    if encrypted && !with_cnf {
        let failed = run(&mut Tool::Ours.prepare_command(&archived, &[]));
        failed.expect_failure(&["the redo log is encrypted with encryption key 1"]);
    }
    let mut too_early = Tool::Ours.restore_command(
        "--copy-back",
        &archived,
        &TestServer::prepare(series, &[]),
        &[],
    );
    run(&mut too_early).expect_failure(&["made by BACKUP SERVER, is not prepared"]);
    Tool::Ours.prepare(&archived, &prepare_options);
    Tool::Ours.prepare(&ordinary, &[]);
    let found = differences(&ordinary, &archived, Allowed::Nothing);
    let expected = ["backup", "xtrabackup_", "mariadb_backup_", "ib_logfile0: page 0 byte"];
    let found: Vec<_> =
        found.lines().filter(|line| !expected.iter().any(|name| line.starts_with(name))).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));

    let server_options: Vec<&str> = source.options().iter().map(String::as_str).collect();
    let states = [&ordinary, &archived].map(|backup| {
        let mut restored = TestServer::prepare(series, &server_options);
        let verb = if backup == &ordinary { "--copy-back" } else { "--move-back" };
        run(&mut Tool::Ours.restore_command(verb, backup, &restored, &[])).expect_success();
        assert!(!restored.datadir().join("backup.cnf").exists());
        restored.launch();
        check_tables(&restored);
        State::of(&restored)
    });
    states[0].assert_same_as(&states[1]);
}

#[test]
fn plain_archive() {
    both_forms_are_prepared_to_the_same(Series::V10_11, &["--innodb-log-file-size=64M"], true);
}

#[test]
fn archive_without_the_options_of_the_server() {
    let options = [
        "--innodb-page-size=4k",
        "--innodb-log-file-size=64M",
        "--innodb-data-file-path=ibdata1:12M;ibdata2:4M:autoextend",
        "--innodb-undo-tablespaces=3",
    ];
    both_forms_are_prepared_to_the_same(Series::V11_8, &options, false);
}

#[test]
fn encrypted_archive_with_keys_of_the_options_of_the_server() {
    let options = [&KEYS[..], &["--innodb-log-file-size=64M"]].concat();
    both_forms_are_prepared_to_the_same(Series::V11_8, &options, true);
}

#[test]
fn encrypted_archive_with_keys_of_the_command_line() {
    let options = [&KEYS[..], &["--innodb-log-file-size=64M"]].concat();
    both_forms_are_prepared_to_the_same(Series::V10_11, &options, false);
}

/// A server that was stopped and started again, so that the files of its tablespaces are known as
/// they were at a checkpoint, the last one before its redo of today.
struct Continued {
    source: TestServer,
    /// The tablespaces.
    before: PathBuf,
    checkpoint: Checkpoint,
}

impl Continued {
    /// `statements` are run before.
    fn new(series: Series, statements: &[&str]) -> Self {
        let options = ["--innodb-log-file-size=64M", "--innodb-max-dirty-pages-pct=99"];
        let mut source = TestServer::start_series(series, &options);
        let elsewhere = source.dir().join("elsewhere");
        let elsewhere = elsewhere.to_str().expect("UTF-8");
        for statement in statements {
            source.execute(statement.replace("{elsewhere}", elsewhere));
        }
        source.shutdown();
        let before = source.dir().join("before");
        copy_tree(&source.datadir(), &before);
        let log = fs::read(before.join("ib_logfile0")).expect("read the log");
        let checkpoint = header_of(&log).checkpoint();
        source.launch();
        Self { source, before, checkpoint }
    }

    /// The redo since then, up to `end`.
    fn redo(&self, end: Lsn) -> Redo {
        Redo::read(&self.source.datadir().join("ib_logfile0"), Some(self.checkpoint), end)
    }

    /// What BACKUP SERVER leaves that began then and ends now: all but the tablespaces is copied at
    /// the end.
    fn backup(&self) -> (PathBuf, Redo) {
        let dir = self.source.dir().join("backup");
        Tool::Ours.backup(&self.source, &dir, &[]);
        let redo = self.redo(last_lsn(&dir));
        remove_metadata(&dir);
        let is_tablespace = |name: &str| {
            let path = Path::new(name);
            path.extension().is_some_and(|e| e == "ibd" || e == "new" || e == "ren" || e == "del")
                || name.starts_with("ibdata")
                || name.starts_with("undo")
        };
        for_each_file(&dir, &mut |path, name| {
            if is_tablespace(name) {
                fs::remove_file(path).expect("remove a file");
            }
        });
        for_each_file(&self.before, &mut |path, name| {
            if is_tablespace(name) {
                let to = dir.join(path.strip_prefix(&self.before).expect("below it"));
                fs::create_dir_all(to.parent().expect("a folder")).expect("make a folder");
                fs::copy(path, to).expect("copy a file");
            }
        });
        redo.write_archive(&dir, 3_000_000);
        redo.write_cnf(&dir, redo.end());
        (dir, redo)
    }
}

fn for_each_file(dir: &Path, each: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).expect("list a folder") {
        let path = entry.expect("list a folder").path();
        if path.is_dir() {
            for_each_file(&path, each);
        } else {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            each(&path, name);
        }
    }
}

/// Tables that are made, renamed, dropped, truncated and rebuilt after the tablespaces were copied.
#[test]
fn tablespaces_follow_the_log() {
    for series in Series::CURRENT {
        let mut continued = Continued::new(
            series,
            &[
                "CREATE DATABASE other",
                "CREATE TABLE test.kept (id INT PRIMARY KEY, v TEXT)",
                "CREATE TABLE test.gone (id INT PRIMARY KEY)",
                "CREATE TABLE test.a (id INT PRIMARY KEY) SELECT 1 id",
                "CREATE TABLE test.b (id INT PRIMARY KEY) SELECT 2 id",
                "CREATE TABLE test.cut (id INT PRIMARY KEY) SELECT 3 id",
                "CREATE TABLE test.rebuilt (id INT PRIMARY KEY, v TEXT)",
                "CREATE TABLE test.moved (id INT PRIMARY KEY) SELECT 4 id",
                "CREATE TABLE test.again (id INT PRIMARY KEY) SELECT 5 id",
                "CREATE TABLE test.far (id INT PRIMARY KEY) DATA DIRECTORY='{elsewhere}' SELECT 6 id",
                "CREATE TABLE test.far_gone (id INT PRIMARY KEY) DATA DIRECTORY='{elsewhere}'",
                "CREATE TABLE test.parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3",
            ],
        );
        let elsewhere = continued.source.dir().join("elsewhere");
        let far = format!("DATA DIRECTORY='{}'", elsewhere.display());
        // Unpacked from the stream without --absolute-names.
        let unpacked = elsewhere.strip_prefix("/").expect("an absolute path");
        let unpacked = continued.before.join(unpacked);
        fs::create_dir_all(unpacked.parent().expect("a folder")).expect("make a folder");
        copy_tree(&elsewhere, &unpacked);
        continued.source.execute_all(&[
            "INSERT INTO test.kept SELECT seq, REPEAT('k', 300) FROM test.seq_1_to_9000",
            "DROP TABLE test.gone",
            "RENAME TABLE test.a TO test.swap, test.b TO test.a, test.swap TO test.b",
            "TRUNCATE TABLE test.cut",
            "INSERT INTO test.cut VALUES (7)",
            "INSERT INTO test.rebuilt SELECT seq, REPEAT('r', 200) FROM test.seq_1_to_3000",
            "ALTER TABLE test.rebuilt FORCE",
            "ALTER TABLE test.rebuilt ADD KEY (v(10)), ALGORITHM=INPLACE",
            "RENAME TABLE test.moved TO other.moved2",
            "DROP TABLE test.again",
            "CREATE TABLE test.again (id INT PRIMARY KEY, c INT) ROW_FORMAT=COMPRESSED",
            "INSERT INTO test.again SELECT seq, seq FROM test.seq_1_to_2000",
            "CREATE DATABASE fresh",
            "CREATE TABLE fresh.t (id INT PRIMARY KEY, v TEXT, FULLTEXT KEY (v))",
            "INSERT INTO fresh.t VALUES (1, 'one two'), (2, 'three')",
            "CREATE TABLE fresh.short (id INT PRIMARY KEY)",
            "DROP TABLE fresh.short",
            "INSERT INTO test.far VALUES (8)",
            "DROP TABLE test.far_gone",
            &format!("CREATE TABLE test.far_new (id INT PRIMARY KEY) {far} SELECT 9 id"),
            "ALTER TABLE test.parts COALESCE PARTITION 1",
            "INSERT INTO test.parts SELECT seq FROM test.seq_1_to_50",
        ]);
        let (backup, redo) = continued.backup();
        assert!(redo.bytes.len() as u64 > FILE_LEN);
        let state = State::of(&continued.source);
        continued.source.shutdown();
        fs::rename(&elsewhere, continued.source.dir().join("moved")).expect("move a folder");

        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &["--innodb-log-file-size=64M"]);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
        assert_same_file_names(&continued.source.datadir(), &restored.datadir());
        for name in ["far", "far_new"] {
            assert!(elsewhere.join("test").join(name).with_extension("ibd").exists(), "{name}");
        }
    }
}

/// Nothing behind the target is there, though the log goes on.
#[test]
fn a_target_within_the_log() {
    let continued = Continued::new(
        Series::V10_11,
        &["CREATE TABLE test.t (id INT PRIMARY KEY, v TEXT)", "SET GLOBAL innodb_fast_shutdown=0"],
    );
    let source = &continued.source;
    source.execute("INSERT INTO test.t SELECT seq, REPEAT('x', 200) FROM test.seq_1_to_2000");
    let lsn = "SELECT variable_value FROM information_schema.global_status \
               WHERE variable_name = 'Innodb_lsn_current'";
    let target = Lsn(source.query_u64(lsn));
    let state = State::of(source);
    source.execute("UPDATE test.t SET v = REPEAT('y', 300)");
    source.execute("DELETE FROM test.t WHERE id > 100");
    let (backup, redo) = continued.backup();
    assert!(redo.end() > target);

    let far = copy(&backup, "far");
    redo.write_cnf(&far, Lsn(redo.end().0 + 1));
    let message = format!(
        "innodb_log_recovery_target={} cannot be reached: the redo log ends at LSN {}",
        redo.end().0 + 1,
        redo.end()
    );
    let mut prepare = Tool::Ours.command();
    prepare.arg("--prepare").arg(prefixed("--target-dir=", &far));
    run(&mut prepare).expect_failure(&[&message]);

    redo.write_cnf(&backup, target);
    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &["--innodb-log-file-size=64M"]);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}
