//! `--prepare --export`: the files beside those of the server's `FLUSH TABLES ... FOR EXPORT`, and
//! tables imported from a backup beside those on the server.

#![cfg(test)]

use std::fs;
use std::path::Path;

use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree, rows};
use compat_tests::tool::{Tool, run};
use mysql::prelude::Queryable as _;

/// Tables of every shape: name, columns and options, statements afterwards.
const SHAPES: &[(&str, &str, &[&str])] = &[
    ("plain", "(a INT)", &[]),
    (
        "keyed",
        "(a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(30) NOT NULL, c CHAR(9), d TEXT, UNIQUE (b), KEY (c, d(20)), KEY (d(5)))",
        // Where the server cannot count the rows before, it has a higher next value in memory.
        &["INSERT INTO keyed (b, c, d) VALUES ('a', 'b', REPEAT('x', 9000)), ('c', 'd', 'e')"],
    ),
    ("unused", "(a BIGINT AUTO_INCREMENT PRIMARY KEY)", &[]),
    (
        "redundant",
        "(a CHAR(10) CHARACTER SET utf8mb3, b VARCHAR(10), PRIMARY KEY (a), KEY (b)) ROW_FORMAT=REDUNDANT",
        &[],
    ),
    (
        "compact",
        "(a INT, b CHAR(10) CHARACTER SET utf8mb4, c CHAR(9) CHARACTER SET utf16, PRIMARY KEY (b), KEY (c)) ROW_FORMAT=COMPACT",
        &[],
    ),
    (
        "compressed",
        "(a INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
        &["INSERT INTO compressed SELECT seq, REPEAT(seq, 50) FROM seq_1_to_900"],
    ),
    (
        "page_compressed",
        "(a INT PRIMARY KEY, b TEXT) PAGE_COMPRESSED=1",
        &["INSERT INTO page_compressed SELECT seq, REPEAT(seq, 50) FROM seq_1_to_900"],
    ),
    (
        "full_text",
        "(a INT, b TEXT, FULLTEXT (b), KEY (a))",
        &["INSERT INTO full_text VALUES (1, 'some words')"],
    ),
    (
        "places",
        "(a INT PRIMARY KEY, g GEOMETRY NOT NULL, SPATIAL INDEX (g))",
        &["INSERT INTO places VALUES (1, POINT(1, 2))"],
    ),
    (
        "computed",
        "(a INT PRIMARY KEY, b INT, v INT AS (b + 1) VIRTUAL, s INT AS (b * 2) STORED, KEY (v), KEY (s, v))",
        &["INSERT INTO computed (a, b) SELECT seq, seq FROM seq_1_to_100"],
    ),
    (
        "versioned",
        "(a INT PRIMARY KEY, b INT) WITH SYSTEM VERSIONING",
        &["INSERT INTO versioned VALUES (1, 1)"],
    ),
    (
        "types",
        "(a DECIMAL(10, 2), b DOUBLE, c FLOAT, d DATETIME(3), e ENUM('x', 'y'), f SET('x', 'y'), g BIT(9), h BINARY(4), i VARBINARY(700), j LONGBLOB, k YEAR, l TIME, m DATE, n JSON, o UUID, p INET6, q CHAR(3) CHARACTER SET latin1, KEY (i(100), a), KEY (o, p))",
        &[],
    ),
    (
        "instant_add",
        "(a INT PRIMARY KEY, b INT)",
        &[
            "INSERT INTO instant_add SELECT seq, seq FROM seq_1_to_2000",
            "ALTER TABLE instant_add ADD c VARCHAR(20) DEFAULT 'c', ALGORITHM=INSTANT",
        ],
    ),
    (
        "instant_drop",
        "(a INT, b VARCHAR(10), c CHAR(5) NOT NULL, d INT, PRIMARY KEY (a, c))",
        &[
            "INSERT INTO instant_drop SELECT seq, seq, seq % 9, seq FROM seq_1_to_5000",
            "ALTER TABLE instant_drop DROP b, ALGORITHM=INSTANT",
            "ALTER TABLE instant_drop ADD e INT AFTER a, MODIFY d INT FIRST, ALGORITHM=INSTANT",
        ],
    ),
    (
        "instant_key",
        "(k VARCHAR(30) PRIMARY KEY, b TEXT, c CHAR(7)) ROW_FORMAT=COMPACT",
        &[
            "INSERT INTO instant_key SELECT seq, seq, seq % 10 FROM seq_1_to_50",
            "ALTER TABLE instant_key DROP c, ADD x BLOB FIRST, ALGORITHM=INSTANT",
        ],
    ),
    (
        "instant_redundant",
        "(a INT PRIMARY KEY, b INT, c INT) ROW_FORMAT=REDUNDANT",
        &[
            "INSERT INTO instant_redundant SELECT seq, seq, seq FROM seq_1_to_50",
            "ALTER TABLE instant_redundant DROP b, ALGORITHM=INSTANT",
        ],
    ),
    ("`a-b c`", "(a INT, `ä ö` INT, KEY `ü` (`ä ö`))", &[]),
    (
        "parts",
        "(a INT PRIMARY KEY, b INT, KEY (b)) PARTITION BY RANGE (a) SUBPARTITION BY HASH (a) SUBPARTITIONS 2 (PARTITION p0 VALUES LESS THAN (10), PARTITION `P 1` VALUES LESS THAN MAXVALUE)",
        &["INSERT INTO parts SELECT seq, seq FROM seq_1_to_100"],
    ),
    (
        "purged",
        "(a INT PRIMARY KEY, b INT, KEY (b))",
        &[
            "INSERT INTO purged SELECT seq, seq FROM seq_1_to_900",
            "UPDATE purged SET b = b + 1000 WHERE a % 3 = 0",
            "DELETE FROM purged WHERE a % 2",
        ],
    ),
];

/// A server with all shapes that its series has, and their names.
fn server_with_shapes(series: Series) -> (TestServer, Vec<&'static str>) {
    let server = TestServer::start_series(series, &["--innodb-purge-rseg-truncate-frequency=128"]);
    let mut connection = server.connect();
    let mut execute = |sql: &str| {
        connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    execute("USE test");
    let mut names = Vec::new();
    for (name, definition, statements) in SHAPES {
        let definition = match series {
            Series::V10_5 => definition.replace("o UUID", "o INET6"),
            _ => (*definition).to_owned(),
        };
        execute(&format!("CREATE TABLE {name} {definition}"));
        statements.iter().for_each(|sql| execute(sql));
        names.push(*name);
    }
    if series != Series::V10_5 {
        execute("CREATE TABLE descending (a INT, b INT, PRIMARY KEY (a DESC), KEY (b DESC, a))");
        names.push("descending");
    }
    if series == Series::V11_8 {
        execute("CREATE TABLE vectors (a INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v))");
        execute("INSERT INTO vectors VALUES (1, x'000000000000000000000000')");
        names.push("vectors");
    }
    (server, names)
}

/// Lets the server purge all there is.
fn purge(server: &TestServer) {
    server.execute("SET GLOBAL innodb_max_purge_lag_wait=0");
}

/// The `.cfg` files in the folder of database `test`, by name.
fn cfg_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir.join("test")).unwrap().map(|entry| entry.unwrap().path());
    let cfg = entries.filter(|path| path.extension() == Some("cfg".as_ref()));
    let mut files: Vec<_> = cfg
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Imports `table` of database `test` from `backup` into `target`; what its check says.
fn import(backup: &Path, source: &TestServer, target: &TestServer, table: &str) -> String {
    let mut connection = source.connect();
    let definition = rows(&mut connection, &format!("SHOW CREATE TABLE test.{table}"));
    let mut connection = target.connect();
    connection.query_drop("USE test").unwrap();
    connection.query_drop(&definition[0][1]).unwrap();
    connection.query_drop(format!("ALTER TABLE {table} DISCARD TABLESPACE")).unwrap();
    for extension in ["ibd", "cfg"] {
        let name = format!("test/{table}.{extension}");
        fs::copy(backup.join(&name), target.datadir().join(&name)).unwrap();
    }
    connection
        .query_drop(format!("ALTER TABLE {table} IMPORT TABLESPACE"))
        .unwrap_or_else(|error| panic!("import {table}: {error}"));
    let check = rows(&mut connection, &format!("CHECK TABLE {table}"));
    check[0].last().unwrap().clone()
}

fn same_files_as_the_server(series: Series) {
    let (source, names) = server_with_shapes(series);
    purge(&source);
    let mut connection = source.connect();
    let tables: Vec<String> = names.iter().map(|name| format!("test.{name}")).collect();
    connection.query_drop(format!("FLUSH TABLES {} FOR EXPORT", tables.join(", "))).unwrap();
    let expected = cfg_files(&source.datadir());
    let own = source.dir().join("own");
    fs::create_dir(&own).unwrap();
    copy_tree(&source.datadir().join("test"), &own.join("test"));
    connection.query_drop("UNLOCK TABLES").unwrap();
    assert!(expected.len() > names.len());
    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &[]);
    let said = Tool::Ours.prepare(&backup, &["--export"]);
    assert!(!said.contains("A server is needed"), "{said}");
    let got = cfg_files(&backup);
    let listed = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(listed(&got), listed(&expected));
    for ((name, got), (_, expected)) in got.iter().zip(&expected) {
        assert_eq!(got, expected, "{name}");
    }
    // A second time, and the state of the backup stays what it is for incremental ones.
    Tool::Ours.prepare(&backup, &["--export"]);
    assert!(!backup.join("mariabackup_exported").exists());
    let target = TestServer::start_series(series, &[]);
    for name in names.iter().filter(|name| !["parts", "`a-b c`", "vectors"].contains(name)) {
        let check = import(&backup, &source, &target, name);
        // Some the server (10.5) cannot import from its own files either.
        if check != "OK" {
            target.execute(format!("DROP TABLE test.{name}"));
            assert_eq!(check, import(&own, &source, &target, name), "{name}");
            continue;
        }
        let sum = |server: &TestServer| {
            let mut connection = server.connect();
            let count = rows(&mut connection, &format!("SELECT COUNT(*) FROM test.{name}"));
            let all = rows(&mut connection, &format!("SELECT * FROM test.{name}"));
            (count, all)
        };
        assert!(sum(&source) == sum(&target), "{name}");
    }
}

#[test]
fn same_files_as_the_server_10_11() {
    same_files_as_the_server(Series::V10_11);
}

#[test]
fn same_files_as_the_server_11_8() {
    same_files_as_the_server(Series::V11_8);
}

#[test]
fn same_files_as_the_server_10_5() {
    same_files_as_the_server(Series::V10_5);
}

/// Tables with open changes are exported by a server, all others as they are.
#[test]
fn an_imported_table_has_the_committed_rows() {
    let source = TestServer::start(&[]);
    for table in ["inserts", "deletes", "unpurged", "clean"] {
        source.execute(format!("CREATE TABLE test.{table} (a INT PRIMARY KEY, b INT, KEY (b))"));
        source.execute(format!("INSERT INTO test.{table} SELECT seq, seq FROM test.seq_1_to_1000"));
    }
    purge(&source);
    // What is deleted while somebody could still see it is not purged.
    let mut reader = source.connect();
    reader.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
    source.execute("DELETE FROM test.unpurged WHERE a > 400");
    let mut writer = source.connect();
    writer.query_drop("BEGIN").unwrap();
    writer
        .query_drop("INSERT INTO test.inserts SELECT seq, seq FROM test.seq_1001_to_1400")
        .unwrap();
    writer.query_drop("DELETE FROM test.deletes WHERE a <= 500").unwrap();
    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &[]);
    writer.query_drop("ROLLBACK").unwrap();
    for sql in ["XA START 'x'", "INSERT INTO test.clean VALUES (0, 0)", "XA END 'x'"] {
        writer.query_drop(sql).unwrap();
    }
    writer.query_drop("XA PREPARE 'x'").unwrap();
    let prepared = source.dir().join("prepared");
    Tool::Ours.backup(&source, &prepared, &[]);
    writer.query_drop("XA ROLLBACK 'x'").unwrap();
    let command = &mut Tool::Ours.prepare_command(&prepared, &["--export"]);
    run(command).expect_failure(&["test/clean.ibd cannot be exported", "XA RECOVER"]);

    let wrong = ["--export", "--export-server=/bin/true"];
    let said = run(&mut Tool::Ours.prepare_command(&backup, &wrong)).expect_failure(&[
        "test/deletes.ibd",
        "test/inserts.ibd",
        "/bin/true is not a server",
    ]);
    assert!(!said.contains("export test/clean.ibd"), "{said}");
    assert!(backup.join("test/clean.cfg").exists());
    assert!(!backup.join("test/inserts.cfg").exists());
    let said = Tool::Ours.prepare(&backup, &["--export"]);
    for (table, why) in [
        ("inserts", "changes are to be rolled back"),
        ("deletes", "changes are to be rolled back"),
        ("unpurged", "deleted rows are to be purged"),
    ] {
        let line = format!("A server is needed to export test/{table}.ibd: {why}");
        assert!(said.contains(&line), "{said}");
    }
    assert!(backup.join("mariabackup_exported").exists());
    assert!(!backup.join("ib_buffer_pool").exists());
    let target = TestServer::start(&[]);
    for (table, rows) in [("inserts", 1000), ("deletes", 1000), ("unpurged", 400), ("clean", 1000)]
    {
        assert_eq!(import(&backup, &source, &target, table), "OK", "{table}");
        assert_eq!(target.query_u64(format!("SELECT COUNT(*) FROM test.{table}")), rows, "{table}");
    }
    // Again: the server's work may have been interrupted, so that it has to go on with all tables.
    Tool::Ours.prepare(&backup, &["--export"]);
    assert!(backup.join("test/clean.cfg").exists());
    // It can be restored all the same.
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &[]);
    assert_eq!(restored.query_u64("SELECT COUNT(*) FROM test.inserts"), 1000);
    assert!(!restored.datadir().join("mariabackup_exported").exists());
}
