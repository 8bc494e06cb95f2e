//! System tablespaces of several files, that grow and that shrink.

#![cfg(test)]

use std::fs;

use compat_tests::backed_up::BackedUp;
use compat_tests::compare::{Allowed, State, assert_same_files, check_tables};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::tool::Tool;
use compat_tests::workload::{Tables, create_tables_of};

/// Tables in the system tablespace, which grows while it is copied.
#[test]
fn tables_in_several_files() {
    let options = [
        "--innodb-data-file-path=ibdata1:12M;ibdata2:2M;ibdata3:2M:autoextend",
        "--innodb-autoextend-increment=1",
        "--innodb-file-per-table=OFF",
        "--innodb-log-file-size=16M",
    ];
    let formats = [
        ("busy.redundant", "ENGINE=InnoDB ROW_FORMAT=REDUNDANT"),
        ("busy.dynamic", "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"),
    ];
    let tables = Tables::new(&formats, &[]);
    for series in [Series::V10_5, Series::V10_11, Series::V11_8] {
        let source = TestServer::start_series(series, &options);
        create_tables_of(&source, &tables);
        let len =
            |source: &TestServer| fs::metadata(source.datadir().join("ibdata3")).unwrap().len();
        let before = len(&source);
        // Slow enough to grow meanwhile.
        let backed_up = BackedUp::of(source, &tables, &["--throttle=1"]);
        let after = len(&backed_up.source);
        assert!(before >= 2 << 20 && after > before, "{series}: {before}, then {after}");
        backed_up.check();
    }
}

/// 11.2 and later shrink it when they start; the log that tells is copied.
#[test]
fn shrunk_at_the_start_of_the_server() {
    let options = [
        "--innodb-data-file-path=ibdata1:12M:autoextend:autoshrink",
        "--innodb-file-per-table=OFF",
        "--innodb-fast-shutdown=0",
        "--innodb-undo-tablespaces=3",
    ];
    let series = Series::V11_8;
    let mut source = TestServer::start_series(series, &options);
    source.execute_all(&[
        "CREATE TABLE test.big (id INT PRIMARY KEY, v VARCHAR(2000)) ENGINE=InnoDB",
        "INSERT INTO test.big SELECT seq, REPEAT('x', 2000) FROM test.seq_1_to_20000",
        "SET GLOBAL innodb_file_per_table=ON",
        "CREATE TABLE test.small (id INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO test.small VALUES (1), (2)",
        "DROP TABLE test.big",
    ]);
    let len = |dir: &std::path::Path| fs::metadata(dir.join("ibdata1")).unwrap().len();
    let before = len(&source.datadir());
    assert!(before > 40 << 20, "{before}");
    source.shutdown();
    source.launch();
    let after = len(&source.datadir());
    assert!(after < before / 2, "{before}, then {after}:\n{}", source.error_log_tail());
    source.execute("INSERT INTO test.small VALUES (3)");
    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &[]);
    let state = State::of(&source);

    let ours = source.dir().join("ours");
    let theirs = source.dir().join("theirs");
    for (tool, dir) in [(Tool::Ours, &ours), (Tool::Reference(series), &theirs)] {
        copy_tree(&backup, dir);
        tool.prepare(dir, &[]);
        assert_eq!(len(dir), after);
    }
    assert_same_files(&theirs, &ours, Allowed::Aria);
    let restored = Tool::Ours.restore(&ours, series, &options);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}
