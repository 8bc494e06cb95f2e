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
