//! Damaged pages: a backup with `--log-innodb-page-corruption` takes all the rest, tells which they
//! are and says by its exit code that they are there; prepare repairs what the redo log can repair,
//! lists the others, and neither hides nor spreads damage.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use compat_tests::compare::{Allowed, differences};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::tool::{Outcome, Tool, run};
use innodb::extent::is_free;
use innodb::space::SpaceHeader;

const LIST: &str = "innodb_corrupted_pages";
const OPTION: &str = "--log-innodb-page-corruption";
/// Of a table with some hundred rows: in use, neither the root nor a page of another kind.
const LEAF: u32 = 7;

/// Keys 1 and 2.
const KEYS: [&str; 2] = [
    "--plugin-load-add=file_key_management",
    concat!(
        "--file-key-management-filename=",
        env!("CARGO_MANIFEST_DIR"),
        "/../keys/testdata/plain"
    ),
];

/// Tables of the database `f`, one of each format of pages.
const FORMATS: [(&str, &str); 7] = [
    ("plain", ""),
    ("zip", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
    ("packed", "PAGE_COMPRESSED=1"),
    ("secret", "ENCRYPTED=YES"),
    ("secret_zip", "ENCRYPTED=YES ENCRYPTION_KEY_ID=2 ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ("secret_packed", "ENCRYPTED=YES PAGE_COMPRESSED=1"),
    ("shrunk", ""),
];

fn create(server: &TestServer, name: &str, definition: &str) {
    server.execute_all(&[
        "CREATE DATABASE IF NOT EXISTS f",
        &format!(
            "CREATE TABLE f.{name} (id INT PRIMARY KEY, v CHAR(120) NOT NULL) ENGINE=InnoDB \
             STATS_PERSISTENT=0 {definition}"
        ),
        &format!("INSERT INTO f.{name} SELECT seq, SHA2(seq, 256) FROM test.seq_1_to_6000"),
    ]);
}

/// Number of rows and checksum of tables.
fn sums(server: &TestServer, tables: &[&str]) -> Vec<Vec<Vec<String>>> {
    let sum = |table| {
        [format!("SELECT COUNT(*) FROM f.{table}"), format!("CHECKSUM TABLE f.{table} EXTENDED")]
            .map(|sql| server.query(sql))
            .concat()
    };
    tables.iter().map(sum).collect()
}

/// Whether the server finds nothing wrong with a table.
fn is_good(server: &TestServer, table: &str) -> bool {
    let answers = server.query(format!("CHECK TABLE f.{table} EXTENDED"));
    answers.last().and_then(|row| row.last()).is_some_and(|text| text == "OK")
}

fn file(dir: &Path, table: &str) -> PathBuf {
    dir.join("f").join(table).with_extension("ibd")
}

fn header(path: &Path) -> (SpaceHeader, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    (SpaceHeader::parse(&bytes).unwrap(), bytes)
}

/// Damages a page in the middle of what it stores.
fn damage(path: &Path, page_no: u32) {
    let (header, _) = header(path);
    let offset = header.flags().page_size().offset(page_no);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"damage!!", offset + 200).unwrap();
}

/// A page as it is stored.
fn page(path: &Path, page_no: u32) -> Vec<u8> {
    let (header, bytes) = header(path);
    let size = header.flags().page_size();
    let start = usize::try_from(size.offset(page_no)).unwrap();
    bytes[start..start + size.physical()].to_vec()
}

/// A free page of the first extents that is not the first one.
fn free_page(path: &Path) -> u32 {
    let (header, bytes) = header(path);
    let size = header.flags().page_size();
    let pages = u32::try_from(bytes.len() / size.physical()).unwrap();
    (8..pages).rev().find(|page_no| is_free(&bytes, *page_no, size).unwrap()).unwrap()
}

fn space_id(path: &Path) -> u32 {
    header(path).0.space_id().0
}

/// What the list must say of pages of tables of `datadir`.
fn list(datadir: &Path, pages: &[(&str, u32)]) -> String {
    let pages: BTreeMap<u32, (&str, u32)> =
        pages.iter().map(|page| (space_id(&file(datadir, page.0)), *page)).collect();
    let lines = pages.iter().map(|(id, (table, page_no))| format!("f/{table} {id}\n{page_no}\n"));
    lines.collect()
}

fn read_list(backup: &Path) -> String {
    fs::read_to_string(backup.join(LIST)).unwrap()
}

/// Our backup of a server with damaged pages: it is complete, and says what is damaged.
fn back_up_damage(server: &TestServer, backup: &Path, count: usize) {
    let command = &mut Tool::Ours.backup_command(server, backup, &[OPTION]);
    assert_tells_of_damage(run(command), backup, count);
}

#[track_caller]
fn assert_tells_of_damage(outcome: Outcome, backup: &Path, count: usize) {
    let said = format!("is complete, but {count} pages in it are damaged");
    outcome.expect_failure(&[
        "corrupted innodb pages are found and logged to innodb_corrupted_pages file",
        &said,
        "Hint: --prepare repairs",
    ]);
    assert!(!backup.join("mariabackup_incomplete").exists());
}

/// Prepares a backup in which pages stay damaged, by either tool.
fn prepare_damage(tool: &Tool, backup: &Path) -> String {
    let outcome = run(&mut tool.prepare_command(backup, &[]));
    let stderr = outcome.expect_failure(&["can not be fixed"]);
    let checkpoints = fs::read_dir(backup)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().ends_with("_checkpoints"))
        .unwrap();
    assert!(fs::read_to_string(checkpoints).unwrap().contains("log-applied"), "{stderr}");
    stderr
}

fn copy(backup: &Path, name: &str) -> PathBuf {
    let copy = backup.with_file_name(name);
    copy_tree(backup, &copy);
    copy
}

/// A page of each format is damaged while the server is down: all used but one.
fn damage_in_every_format(series: Series, options: &[&str]) {
    let options = [&KEYS, options].concat();
    let mut source = TestServer::start_series(series, &options);
    for (name, definition) in FORMATS {
        create(&source, name, definition);
        create(&source, &format!("good_{name}"), definition);
    }
    source.execute("DELETE FROM f.shrunk WHERE id > 100");
    let tables = FORMATS.map(|(name, _)| name);
    let good = FORMATS.map(|(name, _)| format!("good_{name}"));
    let good: Vec<&str> = good.iter().map(String::as_str).chain(["shrunk"]).collect();
    let before = sums(&source, &good);
    // Deleted rows are gone, and so are their pages, when nothing is left to purge.
    source.execute("SET GLOBAL innodb_max_purge_lag_wait = 0");
    source.execute("SET GLOBAL innodb_fast_shutdown = 0");
    source.shutdown();
    let datadir = source.datadir();
    let damaged = tables.map(|table| {
        let path = file(&datadir, table);
        let page_no = if table == "shrunk" { free_page(&path) } else { LEAF };
        damage(&path, page_no);
        (table, page_no)
    });
    let in_use = damaged.split_last().unwrap().1;
    source.launch();
    // Of a server that did nothing, the reference of 11.8 finds no binary log position.
    create(&source, "late", "");

    // Without the option the first one ends the backup.
    let backup = source.dir().join("backup");
    let refused = run(&mut Tool::Ours.backup_command(&source, &backup, &[]));
    refused.expect_failure(&["failed to read page", "f/", ".ibd", "page ", OPTION]);
    assert!(backup.join("mariabackup_incomplete").exists());
    fs::remove_dir_all(&backup).unwrap();

    back_up_damage(&source, &backup, damaged.len());
    assert_eq!(read_list(&backup), list(&datadir, &damaged));
    let reference = Tool::Reference(series);
    let theirs = source.dir().join("theirs");
    reference.backup(&source, &theirs, &[OPTION]);
    assert_eq!(read_list(&theirs), read_list(&backup));
    source.shutdown();

    // Each tool prepares what the other one saved, with the same outcome.
    let ours_by_them = copy(&backup, "ours_by_them");
    prepare_damage(&reference, &ours_by_them);
    for dir in [&backup, &theirs] {
        let stderr = prepare_damage(&Tool::Ours, dir);
        assert!(stderr.contains("of tablespace f/shrunk was successfully fixed."), "{stderr}");
        assert!(stderr.contains("6 pages in it stay damaged"), "{stderr}");
        assert_eq!(read_list(dir), list(&datadir, in_use));
    }
    assert_eq!(differences(&ours_by_them, &backup, Allowed::Aria), "");

    let mut restored = TestServer::prepare(series, &options);
    let said = Tool::Ours.copy_back(&backup, &restored);
    assert_eq!(said.matches("WARNING!!! 6 pages of the backup are damaged").count(), 2, "{said}");
    restored.launch();
    assert_eq!(sums(&restored, &good), before);
    for table in good {
        assert!(is_good(&restored, table), "{table}");
    }
    for (table, page_no) in in_use {
        let pages = [&datadir, &restored.datadir()].map(|dir| page(&file(dir, table), *page_no));
        assert_eq!(pages[0], pages[1], "page {page_no} of {table}");
        // A server of 10.5 ends when it reads such a page.
        assert!(series == Series::V10_5 || !is_good(&restored, table), "{table}");
    }
}

#[test]
fn damage_in_every_format_of_10_11() {
    damage_in_every_format(Series::V10_11, &[]);
}

#[test]
fn damage_in_every_format_of_11_8_with_older_checksums() {
    damage_in_every_format(Series::V11_8, &["--innodb-checksum-algorithm=crc32"]);
}

#[test]
fn damage_in_every_format_of_10_5() {
    damage_in_every_format(Series::V10_5, &["--innodb-page-size=8k"]);
}

/// Pages are damaged in the files while the server has them in memory, and changes them. So there
/// is redo for them: onto one the log cannot be applied, which ends the reference's prepare, the
/// other it writes from nothing.
fn damage_with_redo(series: Series) {
    let options = [
        "--innodb-max-dirty-pages-pct=99.99",
        "--innodb-adaptive-flushing=OFF",
        "--innodb-log-file-size=64M",
    ];
    let mut source = TestServer::start_series(series, &options);
    for table in ["changed", "rewritten", "good"] {
        create(&source, table, "");
    }
    // The log begins anew, with all pages in the files.
    source.shutdown();
    source.launch();
    sums(&source, &["changed", "rewritten", "good"]);
    let datadir = source.datadir();
    for table in ["changed", "rewritten"] {
        damage(&file(&datadir, table), LEAF);
    }
    source.execute("UPDATE f.changed SET v = REVERSE(v)");
    source.execute("UPDATE f.good SET v = REVERSE(v)");
    source.execute("DELETE FROM f.rewritten");
    // The server frees the pages when it purges, and takes them again.
    source.execute("SET GLOBAL innodb_max_purge_lag_wait = 0");
    source.execute("INSERT INTO f.rewritten SELECT seq, SHA1(seq) FROM test.seq_1_to_5000");
    let before = sums(&source, &["rewritten", "good"]);

    let backup = source.dir().join("backup");
    back_up_damage(&source, &backup, 2);
    let expected = list(&datadir, &[("changed", LEAF), ("rewritten", LEAF)]);
    assert_eq!(read_list(&backup), expected);
    let damaged = page(&file(&backup, "changed"), LEAF);

    let stderr = prepare_damage(&Tool::Ours, &backup);
    let fixed = format!("Corrupted page {LEAF} of tablespace f/rewritten was successfully fixed.");
    assert!(stderr.contains(&fixed), "{stderr}");
    assert_eq!(read_list(&backup), list(&datadir, &[("changed", LEAF)]));
    assert_eq!(page(&file(&backup, "changed"), LEAF), damaged);
    let restored = Tool::Ours.restore(&backup, series, &[]);
    assert_eq!(sums(&restored, &["rewritten", "good"]), before);
    assert!(is_good(&restored, "rewritten") && is_good(&restored, "good"));
    assert!(series == Series::V10_5 || !is_good(&restored, "changed"));
}

#[test]
fn damage_with_redo_of_10_11() {
    damage_with_redo(Series::V10_11);
}

#[test]
fn damage_with_redo_of_10_5() {
    damage_with_redo(Series::V10_5);
}

/// All that was damaged is repaired: then it is a good backup.
#[test]
fn damage_that_the_redo_log_repairs() {
    let mut source = TestServer::start(&[]);
    create(&source, "shrunk", "");
    source.execute("DELETE FROM f.shrunk WHERE id > 100");
    source.execute("SET GLOBAL innodb_fast_shutdown = 0");
    source.shutdown();
    let path = file(&source.datadir(), "shrunk");
    let page_no = free_page(&path);
    damage(&path, page_no);
    source.launch();
    let backup = source.dir().join("backup");
    back_up_damage(&source, &backup, 1);
    let theirs = copy(&backup, "theirs");
    for (tool, dir) in [(Tool::Ours, &backup), (Tool::Reference(Series::V10_11), &theirs)] {
        tool.prepare(dir, &[]);
        assert!(!dir.join(LIST).exists());
    }
    assert_eq!(differences(&theirs, &backup, Allowed::Aria), "");
    let said = Tool::Ours.copy_back(&backup, &TestServer::prepare(Series::V10_11, &[]));
    assert!(!said.contains("WARNING"), "{said}");
}

/// Tables that are dropped, renamed and filled anew after they were copied.
#[test]
fn damaged_tables_that_change_while_the_backup_runs() {
    let mut source = TestServer::start(&[]);
    let tables = ["dropped", "renamed", "truncated", "kept"];
    for table in tables {
        create(&source, table, "");
    }
    source.shutdown();
    let datadir = source.datadir();
    for table in tables {
        damage(&file(&datadir, table), LEAF);
    }
    let ids = ["renamed", "kept"].map(|table| space_id(&file(&datadir, table)));
    source.launch();
    let backup = source.dir().join("backup");
    let point = "after-tablespaces";
    let mut hooked = HookedBackup::start(&source, &backup, &[OPTION], &[point]);
    hooked.wait_at(point);
    source.execute_all(&[
        "DROP TABLE f.dropped",
        "RENAME TABLE f.renamed TO f.other",
        "TRUNCATE TABLE f.truncated",
        "INSERT INTO f.truncated SELECT seq, 'again' FROM test.seq_1_to_1000",
    ]);
    let before = sums(&source, &["truncated"]);
    hooked.go_on(point);
    assert_tells_of_damage(hooked.wait(), &backup, 2);
    let [renamed, kept] = ids;
    let expected = format!("f/other {renamed}\n{LEAF}\nf/kept {kept}\n{LEAF}\n");
    assert_eq!(read_list(&backup), expected);

    prepare_damage(&Tool::Ours, &backup);
    assert_eq!(read_list(&backup), expected);
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &[]);
    assert_eq!(sums(&restored, &["truncated"]), before);
    assert!(is_good(&restored, "truncated"));
    assert!(!is_good(&restored, "other") && !is_good(&restored, "kept"));
}

/// The option is about damaged pages alone.
#[test]
fn the_option_hides_nothing_else() {
    let mut source = TestServer::start(&KEYS);
    create(&source, "secret", "ENCRYPTED=YES ENCRYPTION_KEY_ID=2");
    create(&source, "plain", "");
    source.shutdown();
    source.launch();
    let keys = source.dir().join("keys");
    let all = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/testdata/plain"));
    let all = all.unwrap();
    let key_file = format!("--file-key-management-filename={}", keys.display());
    let refused = |source: &TestServer, words: &[&str]| {
        let backup = source.dir().join("backup");
        let command = &mut Tool::Ours.backup_command(source, &backup, &[OPTION, &key_file]);
        run(command).expect_failure(words);
        assert!(!backup.join(LIST).exists());
        let _ = fs::remove_dir_all(&backup);
    };
    fs::write(&keys, all.replace("F0F1", "F0F2")).unwrap();
    refused(&source, &["key 2 "]);
    fs::write(&keys, all.lines().next().unwrap()).unwrap();
    refused(&source, &["there is no key 2"]);
    fs::write(&keys, &all).unwrap();

    // Without its page 0 nobody knows what a file holds.
    source.shutdown();
    damage(&file(&source.datadir(), "plain"), 0);
    source.launch();
    refused(&source, &["page 0 at offset 0 of", "f/plain.ibd"]);
    let theirs = source.dir().join("theirs");
    let reference = Tool::Reference(Series::V10_11);
    let command = &mut reference.backup_command(&source, &theirs, &[OPTION]);
    run(command).expect_failure(&["Failed to validate first page of the file f/plain"]);
}
