//! Incremental backups of the reference, applied by both tools: the same bytes, link by link, and
//! in the end the source.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use compat_tests::compare::{Allowed, State, assert_same_files, check_tables, replay_binlog};
use compat_tests::installation::{Series, workspace_dir};
use compat_tests::random::Random;
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::size;
use compat_tests::tool::{Running, Tool, run, verify};
use compat_tests::workload::{Workload, create_tables};

/// What changes tables between two backups: each list once, after the full backup and so on.
const DDL: [&[&str]; 5] = [
    &[
        "CREATE DATABASE later",
        "CREATE TABLE later.t (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE=InnoDB",
        "INSERT INTO later.t SELECT seq, REPEAT('l', 100) FROM test.seq_1_to_3000",
        "RENAME TABLE chain.a TO chain.x, chain.b TO chain.a, chain.x TO chain.b",
        "CREATE TABLE chain.pc (id INT PRIMARY KEY, v VARCHAR(2000)) ENGINE=InnoDB \
         PAGE_COMPRESSED=1",
        "INSERT INTO chain.pc SELECT seq, REPEAT(seq, 300) FROM test.seq_1_to_2000",
    ],
    &[
        "DROP TABLE chain.dropped",
        "RENAME TABLE chain.moved TO later.moved",
        "TRUNCATE TABLE chain.truncated",
        "INSERT INTO chain.truncated SELECT seq FROM test.seq_1_to_500",
        "DROP TABLE chain.again",
        "CREATE TABLE chain.again (other VARCHAR(20)) ENGINE=InnoDB ROW_FORMAT=COMPRESSED",
        "INSERT INTO chain.again VALUES ('one'), ('two')",
    ],
    &[
        "ALTER TABLE later.t ADD COLUMN w INT DEFAULT 7, ADD KEY (w)",
        "ALTER TABLE chain.again FORCE",
        "DROP DATABASE gone",
        "DROP TABLE chain.myisam",
        "CREATE TABLE chain.csv (id INT NOT NULL) ENGINE=CSV",
        "UPDATE chain.pc SET v = REPEAT(id, 150) WHERE id % 3 = 0",
    ],
    &[
        "ALTER TABLE chain.parts REORGANIZE PARTITION p0 INTO \
         (PARTITION p00 VALUES LESS THAN (50), PARTITION p01 VALUES LESS THAN (100))",
        "DROP DATABASE later",
        "CREATE DATABASE later",
        "CREATE TABLE later.t (id INT PRIMARY KEY) ENGINE=InnoDB",
    ],
    &["INSERT INTO later.t SELECT seq FROM test.seq_1_to_10", "OPTIMIZE TABLE chain.a"],
];

fn create(source: &TestServer) {
    create_tables(source);
    source.execute_all(&[
        "CREATE DATABASE chain",
        "CREATE DATABASE gone",
        "CREATE DATABASE empty",
        "CREATE TABLE chain.a (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE chain.b (id INT PRIMARY KEY, v INT) ENGINE=InnoDB",
        "CREATE TABLE chain.dropped (id INT) ENGINE=InnoDB",
        "CREATE TABLE chain.moved (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE chain.truncated (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE chain.again (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE chain.myisam (id INT) ENGINE=MyISAM",
        "CREATE TABLE chain.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY RANGE (id) \
         (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (200))",
        "CREATE TABLE gone.t (id INT) ENGINE=InnoDB",
        "INSERT INTO chain.a SELECT seq FROM test.seq_1_to_100",
        "INSERT INTO chain.b SELECT seq, seq FROM test.seq_1_to_100",
        "INSERT INTO chain.moved SELECT seq FROM test.seq_1_to_100",
        "INSERT INTO chain.parts SELECT seq FROM test.seq_1_to_150",
    ]);
}

/// Lets the server write all changed pages to their files and make a checkpoint: the next backup
/// has them as changed pages, and the log does not build them. (Pages that are compressed when the
/// log is applied would differ: compressors do.)
fn flush(source: &TestServer) {
    source.execute_all(&[
        "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0",
        "SET GLOBAL innodb_max_dirty_pages_pct = 0",
    ]);
    wait_until("a checkpoint", || {
        let age = source.query("SHOW GLOBAL STATUS LIKE 'Innodb_checkpoint_age'");
        let age = age.first().and_then(|row| row.last()?.parse::<u64>().ok());
        age.is_some_and(|age| age < 1000)
    });
    source.execute("SET GLOBAL innodb_max_dirty_pages_pct = 90");
}

/// A chain of backups by `tool`, each taken under load, after the statements in `ddl`.
fn chain(source: &TestServer, tool: &Tool, ddl: &[&[&str]], more: &[&str]) -> Vec<PathBuf> {
    let mut links = Vec::<PathBuf>::new();
    for number in 0..=ddl.len() {
        let link = source.dir().join(format!("link{number}"));
        let mut options = more.to_vec();
        let base = links.last().map(|base| format!("--incremental-basedir={}", base.display()));
        options.extend(base.as_deref());
        flush(source);
        let load = Workload::start(source, number as u64, 2);
        load.wait_for(100);
        tool.backup(source, &link, &options);
        load.stop();
        links.push(link);
        ddl.get(number).into_iter().for_each(|statements| source.execute_all(statements));
    }
    links
}

fn copy_of(dir: &Path, name: &str) -> PathBuf {
    let copy = dir.with_file_name(name);
    copy_tree(dir, &copy);
    copy
}

/// Applies `incremental`, from a copy of it: the reference eats it up.
fn apply(tool: &Tool, target: &Path, incremental: &Path, more: &[&str]) -> String {
    let copy = copy_of(incremental, "eaten");
    let dir = format!("--incremental-dir={}", copy.display());
    let mut options = vec![dir.as_str()];
    options.extend(more);
    let said = tool.prepare(target, &options);
    if *tool == Tool::Ours {
        assert_same_files(incremental, &copy, Allowed::Nothing);
    }
    fs::remove_dir_all(copy).unwrap();
    said
}

/// Takes a chain of backups, has both tools apply each link to what they made of the links before,
/// and restores what ours made.
fn both_apply_a_chain_to_the_same_bytes(series: Series, options: &[&str]) {
    let reference = Tool::Reference(series);
    let mut source = TestServer::start_series(series, options);
    create(&source);
    let links = chain(&source, &reference, &DDL, &[]);
    let state = State::of(&source);
    source.shutdown();
    let (theirs, ours) = (copy_of(&links[0], "theirs"), copy_of(&links[0], "ours"));
    reference.prepare(&theirs, &[]);
    Tool::Ours.prepare(&ours, &[]);
    for link in &links[1..] {
        apply(&reference, &theirs, link, &[]);
        apply(&Tool::Ours, &ours, link, &["--use-memory=16M", "--parallel=3"]);
        assert_same_files(&theirs, &ours, Allowed::Aria);
    }
    fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();
    let restored = Tool::Ours.restore(&ours, series, options);
    replay_binlog(&source, &ours, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

#[test]
fn a_chain_of_five_of_10_5() {
    both_apply_a_chain_to_the_same_bytes(Series::V10_5, &["--innodb-undo-tablespaces=3"]);
}

#[test]
fn a_chain_of_five_of_10_11() {
    let system = "--innodb-data-file-path=ibdata1:12M;ibdata2:2M:autoextend";
    both_apply_a_chain_to_the_same_bytes(Series::V10_11, &["--innodb-undo-tablespaces=2", system]);
}

#[test]
fn a_chain_of_five_of_11_8() {
    both_apply_a_chain_to_the_same_bytes(Series::V11_8, &[]);
}

/// Kills runs at any moment, twice in every other round, and runs them again: the same bytes as
/// undisturbed ones.
#[test]
fn killed_at_any_moment_and_run_again() {
    let series = Series::V10_11;
    let source = TestServer::start_series(series, &["--innodb-undo-tablespaces=2"]);
    create(&source);
    let links = chain(&source, &Tool::Reference(series), &DDL[..1], &[]);
    let base = copy_of(&links[0], "base");
    Tool::Ours.prepare(&base, &[]);
    let incremental = format!("--incremental-dir={}", links[1].display());
    let undisturbed = copy_of(&base, "undisturbed");
    let start = Instant::now();
    Tool::Ours.prepare(&undisturbed, &[&incremental]);
    let whole = start.elapsed();
    let mut random = Random::new(1);
    let mut killed = 0;
    for round in 0..size("COMPAT_KILLS", 6) {
        let copy = copy_of(&base, "copy");
        for _ in 0..=round % 2 {
            let mut tool = Running::start(&mut Tool::Ours.prepare_command(&copy, &[&incremental]));
            thread::sleep(whole * u32::try_from(random.below(1000)).unwrap() / 1000);
            tool.child().kill().unwrap();
            killed += u64::from(!tool.wait().status.success());
        }
        if copy.join("mariabackup_incremental.tmp").exists() {
            let other = TestServer::prepare(series, &[]);
            run(&mut Tool::Ours.restore_command("--copy-back", &copy, &other, &[]))
                .expect_failure(&["was being applied to", "--incremental-dir="]);
            assert_eq!(verify(&copy, &[]).code, 2);
        }
        Tool::Ours.prepare(&copy, &[&incremental]);
        assert_same_files(&undisturbed, &copy, Allowed::Nothing);
        fs::remove_dir_all(&copy).unwrap();
    }
    assert!(killed > 0, "every run had ended before it was killed");
}

/// Encrypted tables and logs; a key that is missing is told before anything is changed.
#[test]
fn encrypted_pages_and_logs() {
    let keys = workspace_dir().join("keys/testdata/plain");
    let keys = format!("--file-key-management-filename={}", keys.display());
    let options = [
        "--plugin-load-add=file_key_management",
        keys.as_str(),
        "--innodb-encrypt-tables=ON",
        "--innodb-encrypt-log=ON",
        "--innodb-encryption-threads=2",
    ];
    for series in [Series::V10_5, Series::V10_11] {
        let reference = Tool::Reference(series);
        let mut source = TestServer::start_series(series, &options);
        create(&source);
        let links = chain(&source, &reference, &DDL[..2], &[]);
        source.shutdown();
        fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();
        let (theirs, ours) = (copy_of(&links[0], "theirs"), copy_of(&links[0], "ours"));
        reference.prepare(&theirs, &[]);
        Tool::Ours.prepare(&ours, &[]);
        let before = copy_of(&ours, "before");
        let incremental = format!("--incremental-dir={}", links[1].display());
        let no_keys = ["--file-key-management-filename=/nonexistent", &incremental];
        run(&mut Tool::Ours.prepare_command(&ours, &no_keys)).expect_failure(&["/nonexistent"]);
        assert_same_files(&before, &ours, Allowed::Nothing);
        for link in &links[1..] {
            apply(&reference, &theirs, link, &[]);
            apply(&Tool::Ours, &ours, link, &[]);
            assert_same_files(&theirs, &ours, Allowed::Aria);
        }
        let restored = Tool::Ours.restore(&ours, series, &options);
        check_tables(&restored);
    }
}
