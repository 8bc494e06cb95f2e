//! Engines that come as plugins: what a backup holds of them, with both tools.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::tool::{Running, Tool, run};
use mysql::prelude::Queryable as _;

const ROCKSDB: [&str; 2] = ["--plugin-load-add=ha_rocksdb.so", "--plugin-maturity=unknown"];
const MROONGA: [&str; 2] = ["--plugin-load-add=ha_mroonga.so", "--plugin-maturity=unknown"];

/// Commits in both engines at once, while it lives.
struct RocksWriter {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl RocksWriter {
    fn start(server: &TestServer) -> Self {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let mut connection = server.connect();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for id in 2_000_000.. {
                if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                for sql in [
                    "BEGIN".to_owned(),
                    format!("INSERT INTO test.r VALUES ({id}, MD5({id}))"),
                    format!("INSERT INTO test.i VALUES ({id}, MD5({id}))"),
                    "COMMIT".to_owned(),
                ] {
                    connection.query_drop(&sql).unwrap();
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn rocksdb_round_trip(series: Series, backs_up: &Tool, prepares: &Tool, verb: &str) {
    let mut source = TestServer::start_series(series, &ROCKSDB);
    source.execute_all(&[
        "CREATE TABLE test.r (id INT PRIMARY KEY, v TEXT) ENGINE=ROCKSDB",
        "CREATE TABLE test.parts (id INT PRIMARY KEY) ENGINE=ROCKSDB PARTITION BY HASH(id) PARTITIONS 3",
        "CREATE TABLE test.i (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB",
        "INSERT INTO test.r SELECT seq, MD5(seq) FROM test.seq_1_to_10000",
        "INSERT INTO test.parts SELECT seq FROM test.seq_1_to_1000",
        "SET GLOBAL rocksdb_force_flush_memtable_now=ON",
    ]);
    let writer = RocksWriter::start(&source);
    let backup = source.dir().join("backup");
    backs_up.backup(&source, &backup, &["--parallel=2"]);
    writer.stop();
    source.execute("INSERT INTO test.r VALUES (0, 'after the backup')");
    assert!(!source.datadir().join("#rocksdb/mariabackup-checkpoint").exists());
    let state = State::of(&source);
    prepares.prepare(&backup, &[]);
    let mut restored = TestServer::prepare(series, &ROCKSDB);
    run(&mut prepares.restore_command(verb, &backup, &restored, &[])).expect_success();
    assert_eq!(backup.join("#rocksdb/CURRENT").exists(), verb == "--copy-back");
    restored.launch();
    replay_binlog(&source, &backup, &restored);
    let after = State::of(&restored);
    state.assert_same_as(&after);
    check_tables(&restored);
    source.shutdown();
}

#[test]
fn rocksdb_tables_survive_our_backup() {
    for series in Series::CURRENT {
        rocksdb_round_trip(series, &Tool::Ours, &Tool::Ours, "--copy-back");
        rocksdb_round_trip(series, &Tool::Ours, &Tool::Reference(series), "--move-back");
    }
}

#[test]
fn rocksdb_tables_survive_the_backup_of_the_reference() {
    for series in Series::CURRENT {
        rocksdb_round_trip(series, &Tool::Reference(series), &Tool::Ours, "--move-back");
    }
}

#[test]
fn a_checkpoint_left_over_is_replaced_and_files_are_linked() {
    let source = TestServer::start(&ROCKSDB);
    source.execute_all(&[
        "CREATE TABLE test.r (id INT PRIMARY KEY, v TEXT) ENGINE=ROCKSDB",
        "INSERT INTO test.r SELECT seq, MD5(seq) FROM test.seq_1_to_10000",
        "SET GLOBAL rocksdb_create_checkpoint='./#rocksdb/mariabackup-checkpoint'",
        "INSERT INTO test.r VALUES (0, 'not in the old checkpoint')",
    ]);
    let backup = source.dir().join("backup");
    Tool::Ours.backup(&source, &backup, &[]);
    let tables = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let tables = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "sst"));
        let mut inodes: Vec<u64> = tables.map(|entry| entry.metadata().unwrap().ino()).collect();
        inodes.sort_unstable();
        inodes
    };
    let linked = tables(&backup.join("#rocksdb"));
    assert!(!linked.is_empty());
    assert_eq!(linked, tables(&source.datadir().join("#rocksdb")));
    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, Series::V10_11, &ROCKSDB);
    assert_eq!(restored.query_u64("SELECT COUNT(*) FROM test.r"), 10001);
}

#[test]
fn rocksdb_elsewhere_is_restored_elsewhere() {
    let options = [&ROCKSDB[..], &["--rocksdb-datadir={dir}/rocks"]].concat();
    for prepares in [Tool::Ours, Tool::Reference(Series::V10_11)] {
        let source = TestServer::start(&options);
        source.execute_all(&[
            "CREATE TABLE test.r (id INT PRIMARY KEY, v TEXT) ENGINE=ROCKSDB",
            "INSERT INTO test.r SELECT seq, MD5(seq) FROM test.seq_1_to_1000",
        ]);
        let backup = source.dir().join("backup");
        Tool::Ours.backup(&source, &backup, &[]);
        Tool::Ours.prepare(&backup, &[]);
        let restored = prepares.restore(&backup, Series::V10_11, &options);
        assert_eq!(restored.query_u64("SELECT COUNT(*) FROM test.r"), 1000);
        assert!(!restored.datadir().join("#rocksdb").exists());
    }
}

#[test]
fn mroonga_tables_survive() {
    for series in Series::CURRENT {
        for (backs_up, prepares) in [
            (Tool::Ours, Tool::Ours),
            (Tool::Ours, Tool::Reference(series)),
            (Tool::Reference(series), Tool::Ours),
        ] {
            let mut source = TestServer::start_series(series, &MROONGA);
            source.execute_all(&[
                "CREATE TABLE test.m (id INT PRIMARY KEY, v TEXT, FULLTEXT KEY (v)) ENGINE=Mroonga",
                "CREATE TABLE test.wrapped (id INT PRIMARY KEY, v TEXT, FULLTEXT KEY (v)) \
                 ENGINE=Mroonga COMMENT='engine \"InnoDB\"'",
                "INSERT INTO test.m SELECT seq, CONCAT('word', seq, ' others') FROM test.seq_1_to_500",
                "INSERT INTO test.wrapped SELECT seq, CONCAT('word', seq) FROM test.seq_1_to_500",
            ]);
            // Written through memory while everything else is copied.
            let mut blocker = source.connect();
            let blocker_id = blocker.connection_id();
            let blocker = std::thread::spawn(move || {
                let _ = blocker.query_drop(
                    "INSERT INTO test.m SELECT seq, CONCAT('slow', seq, ' ', SLEEP(0.01)) \
                     FROM test.seq_1000_to_100000",
                );
            });
            let backup = source.dir().join("backup");
            let tool = Running::start(&mut backs_up.backup_command(&source, &backup, &[]));
            let sql = "SELECT COUNT(*) FROM information_schema.processlist \
                       WHERE info LIKE 'BACKUP STAGE BLOCK_DDL%'";
            wait_until("BLOCK_DDL", || source.query_u64(sql) > 0);
            source.execute(format!("KILL QUERY {blocker_id}"));
            tool.wait().expect_success();
            blocker.join().unwrap();
            source.execute("INSERT INTO test.m VALUES (2000000, 'after the backup')");
            let queries = [
                "SELECT COUNT(*), SUM(CRC32(v)) FROM test.m",
                "SELECT id FROM test.m WHERE MATCH(v) AGAINST('word77')",
                "SELECT COUNT(*) FROM test.m WHERE MATCH(v) AGAINST('others')",
                "SELECT id FROM test.wrapped WHERE MATCH(v) AGAINST('word78')",
                "SELECT COUNT(*) FROM test.wrapped",
            ];
            let before = queries.map(|sql| source.query(sql));
            prepares.prepare(&backup, &[]);
            let restored = prepares.restore(&backup, series, &MROONGA);
            replay_binlog(&source, &backup, &restored);
            assert_eq!(before, queries.map(|sql| restored.query(sql)));
            source.shutdown();
        }
    }
}

#[test]
fn tables_whose_rows_are_elsewhere_are_named() {
    let options = [
        "--plugin-load-add=ha_spider.so",
        "--plugin-load-add=ha_s3.so",
        "--plugin-load-add=ha_connect.so",
        "--plugin-load-add=ha_federatedx.so",
        "--plugin-load-add=ha_sphinx.so",
        "--plugin-load-add=ha_blackhole.so",
        "--plugin-maturity=unknown",
    ];
    for series in Series::CURRENT {
        let source = TestServer::start_series(series, &options);
        source.execute_all(&[
            "CREATE TABLE test.far (a INT PRIMARY KEY) ENGINE=SPIDER \
             COMMENT='wrapper \"mysql\", table \"t\", host \"127.0.0.1\", port \"9\"'",
            "CREATE TABLE test.sph (id BIGINT UNSIGNED NOT NULL, weight INT NOT NULL, \
             query VARCHAR(3072) NOT NULL, INDEX(query)) ENGINE=SPHINX \
             CONNECTION='sphinx://localhost:9/test'",
            "CREATE TABLE test.hole (a INT) ENGINE=BLACKHOLE",
            "CREATE TABLE test.mem (a INT) ENGINE=MEMORY",
            "CREATE TABLE test.con (a INT NOT NULL, b CHAR(10)) ENGINE=CONNECT TABLE_TYPE=CSV",
            "INSERT INTO test.con VALUES (1, 'x'), (2, 'y')",
            "CREATE TABLE test.s (a INT) ENGINE=Aria",
            "CREATE DATABASE other",
            "CREATE TABLE other.t (a INT)",
        ]);
        // There is no object storage to put a table into: this is what it would leave here.
        stub(&source, "stub", 41, "S3");
        // This one wants to see the other server first.
        stub(&source, "fed", 18, "FEDERATED");
        fs::write(source.datadir().join("other/stray.txt"), "not of a table").unwrap();
        let backup = source.dir().join("backup");
        let said = Tool::Ours.backup(&source, &backup, &[]);
        for (engine, place, table) in [
            ("SPIDER", "other servers", "test.far"),
            ("FEDERATED", "other servers", "test.fed"),
            ("SPHINX", "search server", "test.sph"),
            ("S3", "object storage", "test.stub"),
        ] {
            let line = said.lines().find(|line| line.contains(&format!("a table of {engine} ")));
            let line = line.unwrap_or_else(|| panic!("{engine}: {said}"));
            assert!(line.contains(place) && line.ends_with(table), "{line}");
        }
        assert!(said.contains("Skipping other/stray.txt"), "{said}");
        for name in ["far.frm", "fed.frm", "stub.frm", "hole.frm", "mem.frm"] {
            assert!(backup.join("test").join(name).exists(), "{name}");
        }
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &options);
        assert_eq!(restored.query_u64("SELECT COUNT(*) FROM test.con"), 2);
        restored.execute("INSERT INTO test.mem VALUES (1)");
    }
}

/// Makes table `test.NAME` of `engine` from the Aria table `test.s`, as that engine would have it.
fn stub(server: &TestServer, name: &str, number: u8, engine: &str) {
    let dir = server.datadir().join("test");
    let mut frm = fs::read(dir.join("s.frm")).unwrap();
    let at = frm.windows(4).rposition(|window| window == b"Aria").unwrap();
    let len = u16::try_from(engine.len()).unwrap().to_le_bytes();
    frm.splice(at - 2..at + 4, len.into_iter().chain(engine.bytes()));
    frm[3] = number;
    fs::write(dir.join(name).with_extension("frm"), frm).unwrap();
}

#[test]
fn a_table_of_an_engine_that_nothing_is_known_of_fails_the_backup() {
    let source = TestServer::start(&[]);
    source.execute("CREATE TABLE test.s (a INT) ENGINE=Aria");
    // The server counts this among its engines, and it has no tables.
    stub(&source, "strange", 21, "binlog");
    let backup = source.dir().join("backup");
    let mut command = Tool::Ours.backup_command(&source, &backup, &[]);
    run(&mut command).expect_failure(&["cannot back up a table of binlog: test.strange"]);
    // One that is not loaded cannot be read by the server either.
    stub(&source, "strange", 43, "TokuDB");
    let backup = source.dir().join("backup2");
    Tool::Ours.backup(&source, &backup, &[]);
}

#[test]
fn what_the_server_lacks_is_named() {
    let source = TestServer::start(&[]);
    source.execute_all(&[
        "CREATE TABLE test.m (a INT) ENGINE=MyISAM",
        "CREATE TABLE test.parts (a INT) ENGINE=Aria PARTITION BY HASH(a) PARTITIONS 2",
        "CREATE TABLE test.v (a INT) ENGINE=MyISAM",
        "FLUSH TABLES",
    ]);
    let dir = source.datadir().join("test");
    fs::remove_file(dir.join("m.MYD")).unwrap();
    fs::remove_file(dir.join("parts#P#p1.MAI")).unwrap();
    fs::write(dir.join("v.frm"), "no description").unwrap();
    let backup = source.dir().join("backup");
    let said = Tool::Ours.backup(&source, &backup, &[]);
    for words in [
        "Warning: the server has no test/m.MYD",
        "CHECK TABLE test.m.",
        "Warning: the server has no test/parts#P#p1.MAI",
        "Warning: test/v.frm is not understood",
    ] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }
}

#[test]
fn rows_of_rocksdb_without_the_engine_are_not_passed_over() {
    let mut with = TestServer::start(&ROCKSDB);
    with.execute("CREATE TABLE test.rocks (id INT PRIMARY KEY) ENGINE=ROCKSDB");
    with.shutdown();
    let mut without = TestServer::prepare(Series::V10_11, &[]);
    copy_tree(&with.datadir(), &without.datadir());
    without.launch();
    let backup = without.dir().join("backup");
    run(&mut Tool::Ours.backup_command(&without, &backup, &[]))
        .expect_failure(&["test.rocks", "INSTALL SONAME"]);
}
