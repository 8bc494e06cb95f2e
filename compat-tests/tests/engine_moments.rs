//! DDL of each kind, on tables of each engine but InnoDB, at each moment of a backup. Test hooks
//! hold the backup there. Tables carry the number of their moment in their names.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree, rows};
use compat_tests::tool::Tool;
use mysql::prelude::Queryable as _;

/// Points at which statements run. At the last two, the server lets nobody write to tables without
/// transactions any more; DDL goes on.
const MOMENTS: [&str; 7] = [
    "before-listing",
    "after-listing",
    "after-tablespaces",
    "after-aria",
    "after-plain",
    "in-flush",
    "before-block-ddl",
];
/// The first of those moments.
const FLUSH: usize = 5;

/// Aria's smallest log files.
const OPTIONS: [&str; 2] = ["--aria-log-file-size=8388608", "--plugin-load-add=ha_archive.so"];

/// An engine and what it can do.
struct Engine {
    /// What follows the columns of a table.
    clause: &'static str,
    /// Whether tables have a key, and sequences can be made.
    keys: bool,
    partitions: bool,
    /// Whether tables are written in FLUSH, too.
    transactional: bool,
}

const ARIA: Engine = Engine {
    clause: "ENGINE=Aria TRANSACTIONAL=1",
    keys: true,
    partitions: true,
    transactional: true,
};
const ARIA_PLAIN: Engine =
    Engine { clause: "ENGINE=Aria TRANSACTIONAL=0", transactional: false, ..ARIA };
const MYISAM: Engine = Engine { clause: "ENGINE=MyISAM", ..ARIA_PLAIN };
const CSV: Engine = Engine { clause: "ENGINE=CSV", keys: false, partitions: false, ..ARIA_PLAIN };
const ARCHIVE: Engine =
    Engine { clause: "ENGINE=ARCHIVE", keys: false, partitions: true, transactional: false };

/// Tables of a moment, filled with rows.
const TABLES: [&str; 20] = [
    "drop", "ren", "x", "c1", "c2", "ch1", "trunc", "alter", "force", "conv", "opt", "rep", "repl",
    "again", "keys", "trg", "untrg", "swap", "del", "log",
];

const DDL: [&str; 31] = [
    "DROP TABLE test.{t}_drop",
    "RENAME TABLE test.{t}_ren TO test.{t}_renamed",
    "RENAME TABLE test.{t}_x TO two.{t}_x",
    "RENAME TABLE test.{t}_c1 TO test.{t}_tmp, test.{t}_c2 TO test.{t}_c1, test.{t}_tmp TO test.{t}_c2",
    "RENAME TABLE test.{t}_ch1 TO test.{t}_ch2",
    "RENAME TABLE test.{t}_ch2 TO test.{t}_ch3",
    "ALTER TABLE test.{t}_alter ADD COLUMN n INT NOT NULL DEFAULT 7",
    "ALTER TABLE test.{t}_force FORCE",
    "ALTER TABLE test.{t}_conv ENGINE=InnoDB",
    "ALTER TABLE test.{t}_from {e}",
    "OPTIMIZE TABLE test.{t}_opt",
    "REPAIR TABLE test.{t}_rep",
    "CREATE TABLE test.{t}_new {c} {e}",
    "CREATE TABLE test.{t}_gone {c} {e}",
    "DROP TABLE test.{t}_gone",
    "CREATE TABLE test.{t}_made {c} {e}",
    "RENAME TABLE test.{t}_made TO two.{t}_moved",
    "CREATE OR REPLACE TABLE test.{t}_repl {c} {e}",
    "DROP TABLE test.{t}_again",
    "CREATE TABLE test.{t}_again (other INT NOT NULL) {e}",
    "CREATE DATABASE {t}_newdb",
    "CREATE TABLE {t}_newdb.t {c} {e}",
    "CREATE DATABASE {t}_empty",
    "DROP DATABASE {t}_db",
    "ALTER DATABASE {t}_alt CHARACTER SET latin2",
    "CREATE VIEW test.{t}_view2 AS SELECT id FROM test.{t}_alter",
    "ALTER VIEW test.{t}_view1 AS SELECT id + 1 AS id FROM test.{t}_force",
    "DROP VIEW test.{t}_view0",
    "CREATE TRIGGER test.{t}_trigger BEFORE INSERT ON test.{t}_trg FOR EACH ROW SET NEW.v = 'x'",
    "DROP TRIGGER test.{t}_untrigger",
    "RENAME TABLE test.{t}_swap TO two.{t}_swap, test.{t}_del TO test.{t}_swap",
];

const PARTITION_DDL: [&str; 8] = [
    "ALTER TABLE test.{t}_p ADD PARTITION (PARTITION p4 VALUES LESS THAN (400))",
    "ALTER TABLE test.{t}_p DROP PARTITION p1",
    "ALTER TABLE test.{t}_p TRUNCATE PARTITION p2",
    "ALTER TABLE test.{t}_p EXCHANGE PARTITION p3 WITH TABLE test.{t}_ex",
    "ALTER TABLE test.{t}_p2 REORGANIZE PARTITION p2, p3 INTO (PARTITION p3 VALUES LESS THAN (300))",
    "ALTER TABLE test.{t}_p3 REMOVE PARTITIONING",
    "RENAME TABLE test.{t}_p4 TO two.{t}_p4",
    "DROP TABLE test.{t}_p5",
];

const SEQUENCE_DDL: [&str; 5] = [
    "CREATE SEQUENCE test.{t}_s1 {e}",
    "DROP SEQUENCE test.{t}_s2",
    "ALTER SEQUENCE test.{t}_s3 RESTART 1000",
    "RENAME TABLE test.{t}_s4 TO test.{t}_s5",
    "ALTER TABLE test.{t}_versioned ADD SYSTEM VERSIONING",
];

const KEY_DDL: [&str; 3] = [
    "ALTER TABLE test.{t}_keys ADD KEY k (v)",
    "ALTER TABLE test.{t}_keys DISABLE KEYS",
    "ALTER TABLE test.{t}_keys ENABLE KEYS",
];

/// Writes to what the DDL made.
const DML: [&str; 9] = [
    "INSERT INTO test.{t}_renamed VALUES (1001, 'renamed')",
    "INSERT INTO two.{t}_x VALUES (1002, 'moved')",
    "INSERT INTO test.{t}_c1 VALUES (1003, 'circle')",
    "INSERT INTO test.{t}_new SELECT seq, MD5(seq) FROM test.seq_1_to_3000",
    "INSERT INTO {t}_newdb.t VALUES (1, 'new')",
    "INSERT INTO test.{t}_bulk SELECT seq, MD5(seq) FROM test.seq_1_to_5000",
    "INSERT INTO test.{t}_log SELECT seq, REPEAT(MD5(seq), 3) FROM test.seq_1_to_3000",
    "CREATE TABLE test.{t}_select {c} {e} SELECT seq AS id, MD5(seq) AS v FROM test.seq_1_to_500",
    "INSERT INTO test.{t}_again VALUES (5)",
];

impl Engine {
    fn fill_in(&self, sql: &str, moment: usize) -> String {
        let key = if self.keys { ", KEY (id)" } else { "" };
        sql.replace("{t}", &format!("m{moment}"))
            .replace("{e}", self.clause)
            .replace("{c}", &format!("(id INT NOT NULL, v VARCHAR(100) NOT NULL{key})"))
    }

    fn truncates(&self) -> bool {
        !self.clause.contains("ARCHIVE")
    }

    /// What has to be there before the backup begins.
    fn setup(&self) -> Vec<String> {
        let mut setup = vec!["CREATE DATABASE two".to_owned()];
        for moment in 0..MOMENTS.len() {
            let mut add = |sql: &str| setup.push(self.fill_in(sql, moment));
            for table in TABLES {
                add(&format!("CREATE TABLE test.{{t}}_{table} {{c}} {{e}}"));
                add(&format!(
                    "INSERT INTO test.{{t}}_{table} SELECT seq, CONCAT('{table} ', seq) \
                     FROM test.seq_1_to_50"
                ));
            }
            for sql in [
                "CREATE TABLE test.{t}_bulk {c} {e}",
                "CREATE TABLE test.{t}_from {c} ENGINE=InnoDB SELECT 1 AS id, 'x' AS v",
                "CREATE DATABASE {t}_db",
                "CREATE TABLE {t}_db.t {c} {e}",
                "CREATE DATABASE {t}_alt",
                "CREATE VIEW test.{t}_view0 AS SELECT id FROM test.{t}_opt",
                "CREATE VIEW test.{t}_view1 AS SELECT id FROM test.{t}_opt",
                "CREATE TRIGGER test.{t}_untrigger BEFORE INSERT ON test.{t}_untrg FOR EACH ROW \
                 SET NEW.v = 'x'",
            ] {
                add(sql);
            }
            if self.partitions {
                let key = if self.keys { ", KEY (id)" } else { "" };
                for table in ["p", "p2", "p3", "p4", "p5"] {
                    add(&format!(
                        "CREATE TABLE test.{{t}}_{table} (id INT NOT NULL, v VARCHAR(100) NOT NULL\
                         {key}) {{e}} PARTITION BY RANGE (id) (PARTITION p1 VALUES LESS THAN (100), \
                         PARTITION p2 VALUES LESS THAN (200), PARTITION p3 VALUES LESS THAN (300))"
                    ));
                    add(&format!(
                        "INSERT INTO test.{{t}}_{table} SELECT seq, MD5(seq) FROM test.seq_1_to_299"
                    ));
                }
                add("CREATE TABLE test.{t}_ex {c} {e}");
                add("INSERT INTO test.{t}_ex VALUES (222, 'exchanged')");
            }
            if self.keys {
                for table in ["s2", "s3", "s4"] {
                    add(&format!("CREATE SEQUENCE test.{{t}}_{table} {{e}}"));
                }
                add("CREATE TABLE test.{t}_versioned {c} {e}");
            }
        }
        setup
    }

    /// The statements of a moment.
    fn statements(&self, moment: usize) -> Vec<String> {
        let mut statements = DDL.to_vec();
        if self.truncates() {
            statements.push("TRUNCATE TABLE test.{t}_trunc");
        }
        if self.partitions {
            // ARCHIVE can neither empty a partition nor give one away.
            let can = |sql: &&&str| {
                self.truncates() || !sql.contains("TRUNCATE") && !sql.contains("EXCHANGE")
            };
            statements.extend(PARTITION_DDL.iter().filter(can));
        }
        if self.keys {
            statements.extend(SEQUENCE_DDL);
        }
        if self.keys {
            statements.extend(KEY_DDL);
        }
        if moment < FLUSH || self.transactional {
            statements.extend(DML);
        }
        if moment >= FLUSH {
            statements.retain(|sql| !self.waits_in_flush(sql));
        }
        statements.into_iter().map(|sql| self.fill_in(sql, moment)).collect()
    }
}

impl Engine {
    /// Whether the server lets the statement wait from FLUSH on: those that write rows to tables
    /// without transactions, sequences among them.
    fn waits_in_flush(&self, sql: &str) -> bool {
        let starts = |starts: &[&str]| starts.iter().any(|start| sql.starts_with(start));
        starts(&["ALTER SEQUENCE", "CREATE SEQUENCE"])
            || !self.transactional
                && starts(&[
                    "ALTER TABLE",
                    "OPTIMIZE",
                    "REPAIR",
                    "TRUNCATE",
                    "CREATE TRIGGER",
                    "DROP TRIGGER",
                ])
    }
}

/// Names of all files in the folders of databases.
fn names(datadir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let entries = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    for folder in entries(datadir).filter(|path| path.is_dir()) {
        for file in entries(&folder) {
            names.insert(file.strip_prefix(datadir).unwrap().display().to_string());
        }
        names.insert(folder.strip_prefix(datadir).unwrap().display().to_string());
    }
    names
}

/// What is no table: views with their rows, triggers, default character sets, next values.
fn other_objects(server: &TestServer) -> Vec<Vec<String>> {
    let mut connection = server.connect();
    let mut found = Vec::new();
    for sql in [
        "SELECT table_schema, table_name, view_definition FROM information_schema.views \
         WHERE table_schema <> 'sys' ORDER BY 1, 2",
        "SELECT trigger_schema, trigger_name, action_statement FROM information_schema.triggers \
         WHERE trigger_schema <> 'sys' ORDER BY 1, 2",
        "SELECT schema_name, default_character_set_name FROM information_schema.schemata ORDER BY 1",
    ] {
        found.extend(rows(&mut connection, sql));
    }
    let sequences = rows(
        &mut connection,
        "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables \
         WHERE table_type = 'SEQUENCE' ORDER BY 1",
    );
    for name in sequences.into_iter().flatten() {
        let values = rows(&mut connection, &format!("SELECT next_not_cached_value FROM {name}"));
        found.extend(values.into_iter().map(|value| [vec![name.clone()], value].concat()));
    }
    found
}

#[track_caller]
fn assert_same_names(source: &BTreeSet<String>, restored: &BTreeSet<String>, by: &Tool) {
    let lost: Vec<_> = source.difference(restored).collect();
    let too_many: Vec<_> = restored.difference(source).collect();
    assert!(lost.is_empty() && too_many.is_empty(), "{by:?}: lost {lost:?}, too many {too_many:?}");
}

fn everything_survives(
    series: Series,
    setup: &[String],
    statements: impl Fn(usize) -> Vec<String>,
) {
    let mut source = TestServer::start_series(series, &OPTIONS);
    let mut connection = source.connect();
    let mut run = |sql: &str| {
        // An answer of OPTIMIZE or REPAIR is a result set.
        connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    for sql in setup {
        run(sql);
    }
    run("FLUSH TABLES");
    // What the locks keep waiting shall not wait for ever.
    run("SET SESSION lock_wait_timeout = 5");
    let backup = source.dir().join("backup");
    let mut tool = HookedBackup::start(&source, &backup, &["--parallel=2"], &MOMENTS);
    for (moment, point) in MOMENTS.iter().enumerate() {
        tool.wait_at(point);
        for sql in statements(moment) {
            run(&sql);
        }
        tool.go_on(point);
    }
    tool.wait().expect_success();
    run("CREATE TABLE test.last (id INT) ENGINE=InnoDB");
    run("DROP TABLE test.last");
    // Before the tables are read: of a table of ARCHIVE the server makes the .frm when it is wanted.
    let files = names(&source.datadir());
    let (state, objects) = (State::of(&source), other_objects(&source));
    let by_reference = source.dir().join("by-reference");
    copy_tree(&backup, &by_reference);
    for (prepares, backup) in [(Tool::Ours, &backup), (Tool::Reference(series), &by_reference)] {
        prepares.prepare(backup, &[]);
        let mut restored = TestServer::prepare(series, &OPTIONS);
        Tool::Ours.copy_back(backup, &restored);
        let mut got = names(&restored.datadir());
        // mariadb-backup makes one for a database that has no file.
        let placeholder = |name: &String| name.ends_with("/db.opt") && !files.contains(name);
        got.retain(|name| !placeholder(name));
        assert_same_names(&files, &got, &prepares);
        restored.launch();
        replay_binlog(&source, backup, &restored);
        state.assert_same_as(&State::of(&restored));
        assert_eq!(objects, other_objects(&restored), "prepared by {prepares:?}");
        check_tables(&restored);
    }
    source.shutdown();
}

fn engine_survives(engine: &Engine) {
    for series in Series::CURRENT {
        everything_survives(series, &engine.setup(), |moment| engine.statements(moment));
    }
}

#[test]
fn transactional_aria_tables_survive_all_ddl() {
    engine_survives(&ARIA);
}

#[test]
fn other_aria_tables_survive_all_ddl() {
    engine_survives(&ARIA_PLAIN);
}

#[test]
fn myisam_tables_survive_all_ddl() {
    engine_survives(&MYISAM);
}

#[test]
fn csv_tables_survive_all_ddl() {
    engine_survives(&CSV);
}

#[test]
fn archive_tables_survive_all_ddl() {
    engine_survives(&ARCHIVE);
}

#[test]
fn merge_tables_survive_all_ddl() {
    let engine = &MYISAM;
    let mut setup = vec!["CREATE DATABASE two".to_owned()];
    for moment in 0..MOMENTS.len() {
        for sql in [
            "CREATE TABLE test.{t}_a {c} {e}",
            "CREATE TABLE test.{t}_b {c} {e}",
            "INSERT INTO test.{t}_a VALUES (1, 'a')",
            "INSERT INTO test.{t}_b VALUES (2, 'b')",
        ] {
            setup.push(engine.fill_in(sql, moment));
        }
        for table in ["drop", "ren", "union", "repl"] {
            let sql = format!(
                "CREATE TABLE test.{{t}}_{table} {{c}} ENGINE=MERGE UNION=(test.{{t}}_a, \
                 test.{{t}}_b) INSERT_METHOD=LAST"
            );
            setup.push(engine.fill_in(&sql, moment));
        }
    }
    let statements = |moment| {
        [
            "DROP TABLE test.{t}_drop",
            "RENAME TABLE test.{t}_ren TO test.{t}_renamed",
            "CREATE OR REPLACE TABLE test.{t}_repl {c} ENGINE=MERGE UNION=(test.{t}_a)",
            "CREATE TABLE test.{t}_new {c} ENGINE=MERGE UNION=(test.{t}_a, test.{t}_b)",
        ]
        .into_iter()
        .chain((moment < FLUSH).then_some("ALTER TABLE test.{t}_union UNION=(test.{t}_b)"))
        .map(|sql| engine.fill_in(sql, moment))
        .collect()
    };
    for series in Series::CURRENT {
        everything_survives(series, &setup, statements);
    }
}
