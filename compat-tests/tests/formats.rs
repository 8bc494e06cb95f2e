//! Backups of servers with storage settings that the combinations of `matrix` do not have, under
//! load: taken by ours, prepared by either tool, restored, brought up to date from the binary log
//! and compared.

#![cfg(test)]

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use compat_tests::backed_up::BackedUp;
use compat_tests::compare::State;
use compat_tests::installation::{Series, workspace_dir};
use compat_tests::server::{PROVIDERS, TestServer, copy_tree, wait_until};
use compat_tests::tool::{Running, Tool, run};
use compat_tests::vault::{TOKEN, Vault};
use compat_tests::workload::{Tables, Workload, create_tables_of};
use mysql::prelude::Queryable as _;

/// A table of every row format that pages of the usual size have.
const ROW_FORMATS: [(&str, &str); 8] = [
    ("busy.redundant", "ENGINE=InnoDB ROW_FORMAT=REDUNDANT"),
    ("busy.compact", "ENGINE=InnoDB ROW_FORMAT=COMPACT"),
    ("busy.dynamic", "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"),
    ("busy.zip16", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=16"),
    ("busy.zip8", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
    ("busy.zip4", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ("busy.zip2", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"),
    ("busy.zip1", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"),
];

const OTHERS: [(&str, &str); 2] =
    [("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")];

/// Pages of one file that were written under different settings.
#[test]
fn checksums_that_change() {
    let series = Series::V10_5;
    let source = TestServer::start_series(series, &["--innodb-checksum-algorithm=innodb"]);
    let tables = Tables::new(&ROW_FORMATS, &OTHERS);
    create_tables_of(&source, &tables);
    for algorithm in ["none", "crc32"] {
        source.execute(format!("SET GLOBAL innodb_checksum_algorithm = {algorithm}"));
        let load = Workload::start_on(&source, &tables, 3, 2);
        load.wait_for(300);
        load.stop();
        source.execute("FLUSH TABLES busy.dynamic, busy.zip4 FOR EXPORT");
    }
    BackedUp::of(source, &tables, &[]).check();
}

/// Tables that were made under different settings, and changed under others.
#[test]
fn checksums_of_each_table() {
    for series in Series::CURRENT {
        let source = TestServer::start_series(series, &["--innodb-checksum-algorithm=crc32"]);
        let tables = Tables::new(&ROW_FORMATS, &OTHERS);
        create_tables_of(&source, &tables);
        for algorithm in ["full_crc32", "strict_crc32", "strict_full_crc32"] {
            source.execute(format!("SET GLOBAL innodb_checksum_algorithm = {algorithm}"));
            source.execute("ALTER TABLE busy.redundant FORCE");
            source.execute(format!("CREATE TABLE test.{algorithm} LIKE busy.zip4"));
            source.execute(format!("INSERT INTO test.{algorithm} SELECT * FROM busy.dynamic"));
        }
        source.execute("SET GLOBAL innodb_checksum_algorithm = full_crc32");
        source.execute("ALTER TABLE busy.zip4 FORCE");
        BackedUp::of(source, &tables, &[]).check();
    }
}

#[test]
fn any_number_of_undo_tablespaces() {
    let tables = Tables::new(&ROW_FORMATS[..3], &[]);
    for (series, count) in
        [(Series::V10_11, 0), (Series::V10_5, 0), (Series::V10_5, 2), (Series::V11_8, 127)]
    {
        let count = format!("--innodb-undo-tablespaces={count}");
        let options = [count.as_str(), "--innodb-undo-directory={dir}/undo"];
        let backed_up = BackedUp::new(series, &options, &tables);
        backed_up.check();
    }
}

#[test]
fn encrypted_aria_tables() {
    let options = key_options(&["--aria-encrypt-tables=ON", "--encrypt-tmp-disk-tables=ON"]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let aria = [
        ("busy.transactional", "ENGINE=Aria TRANSACTIONAL=1"),
        ("busy.pages", "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=PAGE"),
        ("busy.fixed", "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC"),
        ("busy.parts", "ENGINE=Aria TRANSACTIONAL=1 PARTITION BY HASH(id) PARTITIONS 3"),
    ];
    for series in [Series::V10_5, Series::V10_11, Series::V11_8] {
        BackedUp::new(series, &options, &Tables::new(&ROW_FORMATS[..1], &aria)).check();
    }
}

/// Algorithms of page compression, with their numbers as `innodb_compression_algorithm`.
const COMPRESSIONS: [&str; 6] = ["zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"];

/// A table compressed by each algorithm. Which one it is, the server's setting says at the moment
/// when the table is made, or for older checksums, when a page is written.
fn compressed_tables() -> Vec<(String, String)> {
    let table = |name: &&str| {
        let definition = "ENGINE=InnoDB PAGE_COMPRESSED=1".to_owned();
        (format!("busy.{name}"), definition)
    };
    COMPRESSIONS.iter().map(table).collect()
}

fn borrowed(tables: &[(String, String)]) -> Vec<(&str, &str)> {
    tables.iter().map(|(name, definition)| (name.as_str(), definition.as_str())).collect()
}

fn check_compressed_pages(series: Series, more: &[&str], encryption: &str) {
    let options = [&PROVIDERS, more].concat();
    let source = TestServer::start_series(series, &options);
    let tables = compressed_tables();
    create_tables_of(&source, &Tables::new(&[], &OTHERS));
    for (name, definition) in &tables {
        let algorithm = name.strip_prefix("busy.").unwrap();
        source.execute(format!("SET GLOBAL innodb_compression_algorithm = {algorithm}"));
        source.execute(format!(
            "CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, k INT NOT NULL, \
             c VARCHAR(200) NOT NULL, b MEDIUMBLOB, KEY (k)) {definition} {encryption}"
        ));
        source.execute(format!(
            "INSERT INTO {name} SELECT seq, seq % 1000, REPEAT('abcdefghij', 15), NULL \
             FROM test.seq_1_to_20000"
        ));
    }
    let tables = Tables::new(&borrowed(&tables), &OTHERS);
    let backed_up = BackedUp::of(source, &tables, &[]);
    for algorithm in COMPRESSIONS {
        let file = format!("busy/{algorithm}.ibd");
        let blocks = |path: PathBuf| fs::metadata(path.join(&file)).unwrap().blocks();
        let (theirs, ours) = (blocks(backed_up.source.datadir()), blocks(backed_up.backup.clone()));
        // The server goes on writing meanwhile.
        assert!(ours <= theirs + theirs / 4, "{file}: {theirs} blocks became {ours}");
    }
    backed_up.check();
}

#[test]
fn compressed_pages() {
    check_compressed_pages(Series::V10_11, &[], "");
}

/// Options of a server with the keys 1 and 2.
fn key_options(more: &[&str]) -> Vec<String> {
    let keys = workspace_dir().join("keys/testdata/plain");
    let file = format!("--file-key-management-filename={}", keys.display());
    let plugin = ["--plugin-load-add=file_key_management".to_owned(), file];
    plugin.into_iter().chain(more.iter().map(|&option| option.to_owned())).collect()
}

/// Tables that are encrypted explicitly, by default, and not.
const ENCRYPTED: [(&str, &str); 5] = [
    ("busy.key_1", "ENGINE=InnoDB ENCRYPTED=YES"),
    ("busy.key_2", "ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2"),
    ("busy.zip", "ENGINE=InnoDB ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ("busy.by_default", "ENGINE=InnoDB"),
    ("busy.not", "ENGINE=InnoDB ENCRYPTED=NO"),
];

/// Waits until the system and undo tablespaces are encrypted too.
fn wait_for_encryption(server: &TestServer) {
    wait_until("tablespaces to be encrypted", || {
        server.query_u64(
            "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption \
             WHERE min_key_version = 0 AND name NOT LIKE 'busy/not%'",
        ) == 0
    });
}

fn check_encrypted_tables(series: Series, more: &[&str]) {
    let options = key_options(more);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let source = TestServer::start_series(series, &options);
    let tables = Tables::new(&ENCRYPTED, &OTHERS);
    create_tables_of(&source, &tables);
    if more.iter().any(|option| option.contains("encrypt-tables")) {
        wait_for_encryption(&source);
    }
    let backed_up = BackedUp::of(source, &tables, &[]);
    backed_up.check();
}

#[test]
fn encrypted_system_and_undo_tablespaces() {
    let options = [
        "--innodb-encrypt-tables=FORCE",
        "--innodb-encryption-threads=4",
        "--innodb-undo-tablespaces=3",
        "--innodb-page-size=4k",
    ];
    // No table can be left out.
    let keys = key_options(&options);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let source = TestServer::start_series(Series::V10_11, &keys);
    let tables = Tables::new(&ENCRYPTED[..2], &OTHERS);
    create_tables_of(&source, &tables);
    wait_for_encryption(&source);
    BackedUp::of(source, &tables, &[]).check();
}

#[test]
fn compressed_and_encrypted_pages() {
    let options = key_options(&["--innodb-checksum-algorithm=crc32"]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    check_compressed_pages(Series::V11_8, &options, "ENCRYPTED=YES ENCRYPTION_KEY_ID=2");
}

/// Encryption begins, and ends again, on all tablespaces while the backup runs.
fn check_changing_encryption(series: Series, checksums: &str) {
    let checksums = format!("--innodb-checksum-algorithm={checksums}");
    let options = [&checksums, "--innodb-encryption-threads=4", "--innodb-undo-tablespaces=3"];
    let options = key_options(&options);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let source = TestServer::start_series(series, &options);
    let tables = Tables::new(&ENCRYPTED, &OTHERS);
    create_tables_of(&source, &tables);
    let mut connection = source.connect();
    let (stop, stopped) = mpsc::channel::<()>();
    let changes = thread::spawn(move || {
        for value in ["ON", "OFF"].iter().cycle() {
            let sql = format!("SET GLOBAL innodb_encrypt_tables = {value}");
            connection.query_drop(sql).unwrap();
            let pause = Duration::from_millis(300);
            if stopped.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
                break;
            }
        }
    });
    let backed_up = BackedUp::of(source, &tables, &["--throttle=3"]);
    drop(stop);
    changes.join().unwrap();
    backed_up.check();
}

#[test]
fn encryption_changes_while_the_backup_runs() {
    check_changing_encryption(Series::V11_8, "full_crc32");
    check_changing_encryption(Series::V10_11, "crc32");
}

/// The file that tells prepare of keys and compression is that of the reference, byte by byte, but
/// for the secret of the key file, which is to be given to prepare.
#[test]
fn plugins_and_keys_are_recorded_as_the_reference_does() {
    let encrypted = workspace_dir().join("keys/testdata/sha1");
    let file = format!("--file-key-management-filename={}", encrypted.display());
    let with_secret = [
        "--plugin-load-add=file_key_management",
        &file,
        "--file-key-management-filekey=secret",
        "--file-key-management-encryption-algorithm=aes_ctr",
        "--plugin-load-add=provider_lz4",
        "--innodb-encrypt-log=ON",
        "--innodb-encrypt-tables=FORCE",
    ];
    for series in Series::CURRENT {
        for options in [&with_secret[..], &["--plugin-load-add=provider_snappy"]] {
            let source = TestServer::start_series(series, options);
            let text = |tool: Tool, name: &str| {
                let target = source.dir().join(name);
                // Without an option file, the reference does not learn this one from the server.
                let checksums = "--innodb-checksum-algorithm=full_crc32";
                let said = tool.backup(&source, &target, &[checksums]);
                assert!(tool != Tool::Ours || !said.contains("secret"), "{said}");
                fs::read_to_string(target.join("backup-my.cnf")).unwrap()
            };
            let theirs = text(Tool::Reference(series), "theirs");
            let expected = theirs.replace("filekey=secret", "filekey=");
            assert_eq!(text(Tool::Ours, "ours"), expected);
            if theirs == expected {
                continue;
            }
            let target = source.dir().join("ours");
            let copy = source.dir().join("copy");
            copy_tree(&target, &copy);
            let without = run(&mut Tool::Ours.prepare_command(&target, &[]));
            without.expect_failure(&["no filekey is given", "--file-key-management-filekey"]);
            let secret = source.dir().join("secret");
            fs::write(&secret, "secret").unwrap();
            let option = format!("--file-key-management-filekey=FILE:{}", secret.display());
            Tool::Ours.prepare(&target, &[&option]);
            // The reference takes it from this file alone.
            let filekey = format!("filekey=FILE:{}\n", secret.display());
            let with_secret = expected.replace("filekey=\n", &filekey);
            fs::write(copy.join("backup-my.cnf"), with_secret).unwrap();
            Tool::Reference(series).prepare(&copy, &[]);
        }
    }
}

#[test]
fn missing_and_wrong_keys_are_named() {
    let own_keys = tempfile::NamedTempFile::new().unwrap();
    let keys = fs::read_to_string(workspace_dir().join("keys/testdata/plain")).unwrap();
    fs::write(own_keys.path(), &keys).unwrap();
    let file = format!("--file-key-management-filename={}", own_keys.path().display());
    let options = ["--plugin-load-add=file_key_management", &file];
    let source = TestServer::start_series(Series::V10_11, &options);
    source.execute_all(&[
        "CREATE TABLE test.t (id INT) ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
        "INSERT INTO test.t SELECT seq FROM test.seq_1_to_10000",
        "FLUSH TABLES test.t FOR EXPORT",
    ]);
    let try_with = |keys: &str, words: &[&str]| {
        fs::write(own_keys.path(), keys).unwrap();
        let target = source.dir().join("backup");
        let mut command = Tool::Ours.backup_command(&source, &target, &[]);
        run(&mut command).expect_failure(words);
        target.exists()
    };
    // The server has read its keys at its start.
    let without_2: Vec<&str> = keys.lines().filter(|line| !line.starts_with("2;")).collect();
    assert!(!try_with(&without_2.join("\n"), &["there is no key 2"]));
    assert!(!try_with("nonsense", &["key file", "line 1"]));
    let other_2 = format!("{}\n2;{}\n", without_2.join("\n"), "0".repeat(32));
    assert!(!try_with(&other_2, &["test/t", "key 2 in version 1 does not fit"]));
}

/// New versions of the keys, with which all pages are encrypted anew while the backup runs.
#[test]
fn keys_of_a_vault_that_rotate() {
    let vault = Vault::start();
    let mut options = vault.server_options();
    options.extend(
        [
            "--innodb-encrypt-log=ON",
            "--innodb-encrypt-tables=ON",
            "--innodb-encryption-threads=4",
            "--innodb-encryption-rotate-key-age=1",
        ]
        .map(str::to_owned),
    );
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let source = TestServer::start_series(Series::V10_11, &options);
    let tables = Tables::new(&ENCRYPTED, &OTHERS);
    create_tables_of(&source, &tables);
    wait_for_encryption(&source);
    let backup = source.dir().join("backup");
    let words = ["--hashicorp-key-management-token"];
    run(&mut Tool::Ours.backup_command(&source, &backup, &[])).expect_failure(&words);
    assert!(!backup.exists());

    let load = Workload::start_on(&source, &tables, 7, 3);
    load.wait_for(300);
    // Slow enough for pages of several versions.
    let mut command = Tool::Ours.backup_command(&source, &backup, &["--throttle=2"]);
    let mut tool = Running::start(command.env("VAULT_TOKEN", TOKEN));
    while tool.child().try_wait().unwrap().is_none() {
        vault.rotate();
        load.wait_for(50);
    }
    let said = tool.wait().expect_success();
    assert!(!said.contains(TOKEN), "{said}");
    load.wait_for(100);
    load.stop();
    let state = State::of(&source);
    let newest = source.query_u64(
        "SELECT MAX(min_key_version) FROM information_schema.innodb_tablespaces_encryption",
    );
    assert!(newest > 1, "{newest}");
    for file in ["backup-my.cnf", "xtrabackup_info"] {
        assert!(!fs::read_to_string(backup.join(file)).unwrap().contains(TOKEN));
    }
    BackedUp { source, backup, state }.check();
}

#[test]
fn encrypted_redo_log() {
    for (series, mode) in [(Series::V10_11, "aes_cbc"), (Series::V11_8, "aes_ctr")] {
        let mode = format!("--file-key-management-encryption-algorithm={mode}");
        let options = ["--innodb-encrypt-log=ON", "--innodb-log-file-size=4M", &mode];
        check_encrypted_tables(series, &options);
    }
}

#[test]
fn redo_log_of_blocks() {
    let tables = Tables::new(&ROW_FORMATS, &OTHERS);
    BackedUp::new(Series::V10_5, &["--innodb-log-file-size=4M"], &tables).check();
}

/// Tables of other engines, elsewhere, in partitions: a server that has no log of its DDL.
#[test]
fn usual_tables_of_10_5() {
    let mut backed_up = BackedUp::new(Series::V10_5, &[], &Tables::default());
    // The restored tables belong in the same place.
    backed_up.source.shutdown();
    let elsewhere = backed_up.source.dir().join("elsewhere");
    fs::rename(&elsewhere, elsewhere.with_file_name("moved")).unwrap();
    backed_up.check();
}
