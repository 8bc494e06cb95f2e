//! Tables with DATA DIRECTORY, whose tablespaces are found by `.isl` files.

#![cfg(test)]

use std::fs;

use compat_tests::compare::{State, check_tables};
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;

/// The server leaves the `.isl` file of a table behind that it renames into another database.
///
/// Its tablespace stays in the folder of the old one, where the server itself no longer finds it
/// after two restarts; so the tables do not stay here.
#[test]
fn link_that_a_rename_left_behind_is_no_table() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        let elsewhere = source.dir().join("elsewhere");
        source.execute_all(&[
            "CREATE DATABASE other",
            &format!("CREATE TABLE test.a (id INT) DATA DIRECTORY='{}'", elsewhere.display()),
            &format!("CREATE TABLE test.b (id INT) DATA DIRECTORY='{}'", elsewhere.display()),
            "RENAME TABLE test.a TO other.a, test.b TO other.b",
            "RENAME TABLE other.a TO other.c, other.b TO other.d",
            "DROP TABLE other.c, other.d",
            // Not elsewhere, whatever the old link says.
            "CREATE TABLE test.b (id INT)",
            "INSERT INTO test.b VALUES (3)",
        ]);
        for link in ["a.isl", "b.isl"] {
            assert!(source.datadir().join("test").join(link).exists(), "{series}: no {link}");
        }
        let backup = source.dir().join("backup");
        Tool::Ours.backup(&source, &backup, &[]);
        let state = State::of(&source);
        source.shutdown();
        fs::rename(&elsewhere, source.dir().join("moved")).unwrap();

        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}

/// A link that a rename left behind beside a new table of the old name, and a stray file beside
/// the link of a table.
#[test]
fn of_two_tablespaces_by_one_name_the_one_in_the_dictionary_is_saved() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        let elsewhere = source.dir().join("elsewhere");
        let far = format!("DATA DIRECTORY='{}'", elsewhere.display());
        source.execute_all(&[
            "CREATE DATABASE other",
            &format!("CREATE TABLE test.near (id INT PRIMARY KEY) {far}"),
            "RENAME TABLE test.near TO other.near",
            "CREATE TABLE test.near (id INT PRIMARY KEY)",
            "INSERT INTO test.near VALUES (2)",
            &format!("CREATE TABLE test.far (id INT PRIMARY KEY) {far}"),
            "INSERT INTO test.far VALUES (3)",
            &format!(
                "CREATE TABLE test.parts (id INT PRIMARY KEY) PARTITION BY RANGE (id) \
                 (PARTITION p0 VALUES LESS THAN (5), PARTITION p1 VALUES LESS THAN (9) {far})"
            ),
            "INSERT INTO test.parts VALUES (4), (5)",
            "CREATE TABLE other.stray (id INT PRIMARY KEY)",
            "FLUSH TABLES other.stray FOR EXPORT",
        ]);
        let test = source.datadir().join("test");
        for name in ["far.ibd", "parts#P#p1.ibd"] {
            fs::copy(source.datadir().join("other/stray.ibd"), test.join(name)).unwrap();
        }
        source.execute("DROP TABLE other.stray");
        assert!(test.join("near.isl").exists() && elsewhere.join("test/near.ibd").exists());
        let backup = source.dir().join("backup");
        let said = Tool::Ours.backup(&source, &backup, &[]);
        for path in [elsewhere.join("test/near.ibd"), test.join("far.ibd")] {
            assert!(said.contains(&format!("Skipping {}", path.display())), "{said}");
        }
        // The server itself no longer finds it after a restart.
        source.execute("DROP TABLE other.near");
        let state = State::of(&source);
        source.shutdown();
        fs::rename(&elsewhere, source.dir().join("moved")).unwrap();

        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        restored.execute("DROP TABLE other.near");
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
        assert!(
            elsewhere.join("test/far.ibd").exists() && !elsewhere.join("test/near.ibd").exists()
        );
    }
}

#[test]
fn two_files_of_one_tablespace_by_one_name_fail_the_backup() {
    let source = TestServer::start(&[]);
    let elsewhere = source.dir().join("elsewhere");
    let far = format!("DATA DIRECTORY='{}'", elsewhere.display());
    source.execute_all(&[
        &format!("CREATE TABLE test.t (id INT PRIMARY KEY) {far}"),
        "FLUSH TABLES test.t FOR EXPORT",
    ]);
    fs::copy(elsewhere.join("test/t.ibd"), source.datadir().join("test/t.ibd")).unwrap();
    let mut command = Tool::Ours.backup_command(&source, &source.dir().join("backup"), &[]);
    compat_tests::tool::run(&mut command).expect_failure(&["t.ibd are one tablespace"]);
}

/// The server has no file of a table in the system tablespace, or of a discarded tablespace.
#[test]
fn table_without_a_tablespace_of_its_own_is_no_loss() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &["--innodb-file-per-table=0"]);
        source.execute_all(&[
            "CREATE TABLE test.inside (id INT PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO test.inside VALUES (1)",
            "CREATE TABLE test.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 2",
            "INSERT INTO test.parts VALUES (1), (2)",
            "SET GLOBAL innodb_file_per_table=1",
            "CREATE TABLE test.discarded (id INT PRIMARY KEY) ENGINE=InnoDB",
            "ALTER TABLE test.discarded DISCARD TABLESPACE",
        ]);
        assert!(!source.datadir().join("test/inside.ibd").exists());
        let backup = source.dir().join("backup");
        let said = Tool::Ours.backup(&source, &backup, &[]);
        assert!(!said.contains("Warning"), "{said}");
        source.execute("DROP TABLE test.discarded");
        let state = State::of(&source);
        source.shutdown();
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        restored.execute("DROP TABLE test.discarded");
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}
