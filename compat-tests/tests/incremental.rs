//! Incremental backups of ours, prepared by the reference; chains that both tools made.

#![cfg(test)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use compat_tests::compare::{State, check_tables, metadata_name, replay_binlog};
use compat_tests::installation::{Series, prefixed};
use compat_tests::server::{TestServer, wait_until};
use compat_tests::tool::{Running, Tool, run};
use compat_tests::workload::{Tables, Workload, create_tables_of};

/// Backs up what changed since the backup `base`.
fn increment(tool: &Tool, server: &TestServer, base: &Path, target: &Path, options: &[&str]) {
    let mut command = tool.backup_command(server, target, options);
    run(command.arg(prefixed("--incremental-basedir=", base))).expect_success();
}

/// Prepares `base` and applies `increments` in order.
fn prepare(tool: &Tool, base: &Path, increments: &[PathBuf]) {
    tool.prepare(base, &[]);
    for increment in increments {
        let mut command = tool.prepare_command(base, &[]);
        run(command.arg(prefixed("--incremental-dir=", increment))).expect_success();
    }
}

/// Has the server write all pages.
fn write_pages(server: &TestServer) {
    server.execute_all(&[
        "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0",
        "SET GLOBAL innodb_max_dirty_pages_pct = 0",
    ]);
    let dirty = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'";
    wait_until("all pages to be written", || server.query(dirty)[0][1] == "0");
}

/// All files of changed pages below a folder, with their descriptions.
fn deltas(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if entry.file_type().unwrap().is_dir() => folders.push(path),
                Some("delta" | "meta") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// On a server where nothing happens, both tools write the same bytes.
fn same_bytes(series: Series, options: &[&str]) {
    let source = TestServer::start_series(series, options);
    source.execute_all(&[
        "SET GLOBAL innodb_purge_rseg_truncate_frequency = 1",
        "CREATE TABLE test.big (id INT PRIMARY KEY, v VARCHAR(900)) ENGINE=InnoDB",
        "CREATE TABLE test.zip (id INT PRIMARY KEY, v VARCHAR(900)) ENGINE=InnoDB \
         ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1",
        "CREATE TABLE test.pc (id INT PRIMARY KEY, v VARCHAR(900)) ENGINE=InnoDB PAGE_COMPRESSED=1",
        "CREATE TABLE test.same (id INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO test.big SELECT seq, REPEAT(MD5(seq), 20) FROM test.seq_1_to_20000",
        "INSERT INTO test.pc SELECT seq, REPEAT(MD5(seq), 20) FROM test.seq_1_to_2000",
    ]);
    // Tables made in the second in which the base is begun count as younger.
    thread::sleep(Duration::from_millis(1100));
    let dir = |name: &str| source.dir().join(name);
    let reference = Tool::Reference(series);
    reference.backup(&source, &dir("base"), &[]);
    source.execute_all(&[
        "UPDATE test.big SET v = 'changed' WHERE id % 97 = 3",
        // More than a block of changed pages.
        "INSERT INTO test.zip SELECT seq, CONCAT(SHA2(seq, 512), SHA2(-seq, 512)) \
         FROM test.seq_1_to_3000",
        "UPDATE test.pc SET v = REPEAT('x', 900) WHERE id % 500 = 3",
        "CREATE TABLE test.new (id INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO test.new VALUES (1)",
    ]);
    let history = "SELECT variable_value FROM information_schema.global_status \
                   WHERE variable_name = 'Innodb_history_list_length'";
    wait_until("purge", || source.query_u64(history) == 0);
    write_pages(&source);
    increment(&reference, &source, &dir("base"), &dir("theirs"), &[]);
    increment(&Tool::Ours, &source, &dir("base"), &dir("ours"), &["--parallel=3"]);
    let files = deltas(&dir("theirs"));
    assert_eq!(files, deltas(&dir("ours")));
    assert!(files.contains(&"test/zip.ibd.delta".into()), "{files:?}");
    assert!(fs::metadata(dir("ours").join("test/zip.ibd.delta")).unwrap().len() > 2 * 256 * 1024);
    for file in &files {
        let [theirs, ours] = ["theirs", "ours"].map(|name| fs::read(dir(name).join(file)).unwrap());
        assert!(theirs == ours, "{} differs: {} {}", file.display(), theirs.len(), ours.len());
    }
    // The server may have made a checkpoint between both.
    let lines = |name: &str, kind: &str, keys: &[&str]| -> Vec<String> {
        let text = fs::read_to_string(dir(name).join(metadata_name(series, kind))).unwrap();
        let is_wanted = |line: &&str| keys.iter().any(|key| line.starts_with(key));
        text.lines().filter(is_wanted).map(str::to_owned).collect()
    };
    for (kind, keys) in [
        ("checkpoints", &["backup_type", "from_lsn"][..]),
        ("info", &["innodb_from_lsn", "incremental", "partial"]),
    ] {
        let [theirs, ours] = ["theirs", "ours"].map(|name| lines(name, kind, keys));
        assert_eq!((theirs.len(), &theirs), (keys.len(), &ours));
    }
}

#[test]
fn bytes_of_an_idle_server_are_those_of_the_reference() {
    same_bytes(Series::V10_5, &["--innodb-page-size=4k"]);
    same_bytes(Series::V10_11, &["--innodb-undo-tablespaces=2"]);
    same_bytes(Series::V11_8, &["--innodb-data-file-path=ibdata1:4M;ibdata2:8M:autoextend"]);
}

/// Tables of the kinds that a chain is about.
fn tables() -> Tables {
    Tables::new(
        &[
            ("busy.dynamic", "ENGINE=InnoDB"),
            ("busy.zip", "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
            ("busy.pc", "ENGINE=InnoDB PAGE_COMPRESSED=1"),
            ("busy.parts", "ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3"),
            ("busy.elsewhere", "ENGINE=InnoDB DATA DIRECTORY='{dir}/elsewhere'"),
        ],
        &[("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")],
    )
}

/// Statements of every kind that make, move and remove tables; `number` makes names.
fn ddl(number: u32) -> Vec<String> {
    let kept = number.wrapping_sub(2);
    [
        "CREATE DATABASE IF NOT EXISTS s{n}",
        "CREATE TABLE s{n}.a (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB",
        "INSERT INTO s{n}.a SELECT seq, REPEAT('a', 500) FROM seq_1_to_200",
        "CREATE TABLE s{n}.b ENGINE=InnoDB SELECT * FROM s{n}.a",
        "CREATE TABLE s{n}.m ENGINE=MyISAM SELECT * FROM s{n}.a",
        "RENAME TABLE s{n}.a TO s{n}.x, s{n}.b TO s{n}.a, s{n}.x TO s{n}.b",
        "TRUNCATE TABLE s{n}.b",
        "INSERT INTO s{n}.b VALUES (1, 'after')",
        "ALTER TABLE s{n}.a FORCE",
        "RENAME TABLE IF EXISTS s{k}.a TO s{n}.from_before",
        "DROP TABLE IF EXISTS s{k}.b",
        "CREATE TABLE IF NOT EXISTS test.again (id INT PRIMARY KEY, v INT) ENGINE=InnoDB",
        "INSERT INTO test.again VALUES ({n}, {n}) ON DUPLICATE KEY UPDATE v = {n}",
        "CREATE TABLE test.new_{n} (id INT PRIMARY KEY) ENGINE=InnoDB ROW_FORMAT=COMPRESSED",
        "INSERT INTO test.new_{n} SELECT seq FROM seq_1_to_300",
        "DROP TABLE IF EXISTS test.again",
        "CREATE TABLE test.again (id INT PRIMARY KEY, v INT) ENGINE=InnoDB",
        "INSERT INTO test.again VALUES (7, {n})",
    ]
    .map(|sql| sql.replace("{n}", &number.to_string()).replace("{k}", &kept.to_string()))
    .into()
}

/// A chain of backups by these tools, the first one full, under load and with DDL between and
/// meanwhile; the reference prepares it.
fn chain(series: Series, tools: &[Tool]) {
    let options = ["--innodb-undo-tablespaces=2", "--innodb-log-file-size=96M"];
    let mut source = TestServer::start_series(series, &options);
    let tables = tables();
    create_tables_of(&source, &tables);
    for sql in ddl(1) {
        source.execute(format!("/* before */ {}", sql.replace("FROM seq_", "FROM test.seq_")));
    }
    let load = Workload::start_on(&source, &tables, 3, 2);
    let root = source.dir().to_path_buf();
    let dir = |number: usize| root.join(format!("backup{number}"));
    for (number, tool) in tools.iter().enumerate() {
        load.wait_for(200);
        let first = 10 * u32::try_from(number).unwrap() + 10;
        let run_ddl = |number: u32| {
            for sql in ddl(number) {
                source.execute(sql.replace("FROM seq_", "FROM test.seq_"));
            }
        };
        run_ddl(first);
        run_ddl(first + 1);
        thread::scope(|scope| {
            scope.spawn(|| (first + 2..first + 5).for_each(run_ddl));
            if number == 0 {
                tool.backup(&source, &dir(0), &["--parallel=2"]);
            } else if number % 2 == 0 && *tool == Tool::Ours {
                stream_increment(&source, &dir(number - 1), &dir(number));
            } else {
                increment(tool, &source, &dir(number - 1), &dir(number), &["--parallel=2"]);
            }
        });
    }
    load.wait_for(200);
    load.stop();
    let state = State::of(&source);
    let increments: Vec<_> = (1..tools.len()).map(dir).collect();
    prepare(&Tool::Reference(series), &dir(0), &increments);
    source.kill();
    fs::remove_dir_all(root.join("elsewhere")).unwrap();
    let restored = Tool::Ours.restore(&dir(0), series, &options);
    replay_binlog(&source, &dir(0), &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

/// Backs up what changed as a stream, and unpacks it.
fn stream_increment(server: &TestServer, base: &Path, target: &Path) {
    let stream = target.with_extension("stream");
    let nowhere = server.dir().join("nowhere");
    let mut command =
        Tool::Ours.backup_command(server, &nowhere, &["--stream=xbstream", "--parallel=2"]);
    command.arg(prefixed("--incremental-basedir=", base)).stdout(File::create(&stream).unwrap());
    Running::start(&mut command).wait().expect_success();
    fs::create_dir(target).unwrap();
    let mut command = Tool::Reference(server.series()).mbstream();
    command.args(["-x", "-C"]).arg(target).stdin(File::open(&stream).unwrap());
    let output = command.stdout(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn ours_chain(series: Series) {
    chain(series, &[const { Tool::Ours }; 5]);
}

#[test]
fn chain_of_ours_on_10_5() {
    ours_chain(Series::V10_5);
}

#[test]
fn chain_of_ours_on_10_11() {
    ours_chain(Series::V10_11);
}

#[test]
fn chain_of_ours_on_11_8() {
    ours_chain(Series::V11_8);
}

#[test]
fn chain_of_both_tools() {
    let reference = Tool::Reference(Series::V10_11);
    chain(Series::V10_11, &[reference.clone(), Tool::Ours, reference, Tool::Ours]);
}

/// IMPORT TABLESPACE leaves pages the LSNs that they had wherever they come from, older than the
/// base, or sets them to 0. The reference takes them for unchanged.
#[test]
fn tables_imported_since_the_base_are_whole() {
    for series in [Series::V10_5, Series::V10_11, Series::V11_8] {
        let source = TestServer::start_series(series, &[]);
        source.execute_all(&[
            "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(900)) ENGINE=InnoDB",
            "INSERT INTO test.t SELECT seq, REPEAT('1', 900) FROM test.seq_1_to_3000",
            "CREATE TABLE test.u LIKE test.t",
            "INSERT INTO test.u SELECT seq, REPEAT('2', 900) FROM test.seq_1_to_5000",
        ]);
        let export = source.dir().join("export");
        fs::create_dir(&export).unwrap();
        let mut connection = source.connect();
        {
            use mysql::prelude::Queryable as _;
            connection.query_drop("FLUSH TABLES test.t FOR EXPORT").unwrap();
            for name in ["t.ibd", "t.cfg"] {
                fs::copy(source.datadir().join("test").join(name), export.join(name)).unwrap();
            }
            connection.query_drop("UNLOCK TABLES").unwrap();
        }
        source.execute("INSERT INTO test.t SELECT seq, '' FROM test.seq_3001_to_9000");
        source.execute("DELETE FROM test.t WHERE id < 2000");
        thread::sleep(Duration::from_millis(1100));
        let dir = |name: &str| source.dir().join(name);
        let status = |name| {
            let rows = source.query(format!("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_{name}'"));
            rows[0][1].parse::<u64>().unwrap()
        };
        let checkpoint = || {
            let lsn = status("current");
            write_pages(&source);
            if series == Series::V10_5 {
                wait_until("a checkpoint", || status("last_checkpoint") >= lsn);
            } else {
                source.execute("SET GLOBAL innodb_log_checkpoint_now = 1");
            }
        };
        checkpoint();
        Tool::Ours.backup(&source, &dir("base"), &[]);
        source.execute("CREATE TABLE test.v LIKE test.u");
        for table in ["t", "v"] {
            source.execute(format!("ALTER TABLE test.{table} DISCARD TABLESPACE"));
            for extension in ["ibd", "cfg"] {
                let to = source.datadir().join("test").join(format!("{table}.{extension}"));
                fs::copy(export.join(format!("t.{extension}")), to).unwrap();
            }
            source.execute(format!("ALTER TABLE test.{table} IMPORT TABLESPACE"));
        }
        // The reference applies no log to a table that was discarded in that very log.
        checkpoint();
        source.execute("UPDATE test.v SET v = 'changed' WHERE id % 100 = 1");
        increment(&Tool::Ours, &source, &dir("base"), &dir("inc"), &["--parallel=2"]);
        let len = |name: &str| fs::metadata(dir("inc").join("test").join(name)).unwrap().len();
        let lens = ["t.ibd.delta", "u.ibd.delta"].map(len);
        assert!(lens[0] > 2_000_000 && lens[1] < 1_000_000, "{lens:?}");
        let state = State::of(&source);
        prepare(&Tool::Reference(series), &dir("base"), &[dir("inc")]);
        let restored = Tool::Ours.restore(&dir("base"), series, &[]);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}

/// What cannot be a base is refused before anything is made.
#[test]
fn what_cannot_be_a_base_is_refused() {
    let mut source = TestServer::start(&["--innodb-undo-tablespaces=2"]);
    let root = source.dir().to_path_buf();
    let dir = |name: &str| root.join(name);
    let refused = |server: &TestServer, options: &[&str], words: &[&str]| {
        let target = server.dir().join("refused");
        run(&mut Tool::Ours.backup_command(server, &target, options)).expect_failure(words);
        assert!(!target.exists());
    };
    let based_on = |dir: &Path| format!("--incremental-basedir={}", dir.display());
    Tool::Ours.backup(&source, &dir("base"), &[]);
    refused(&source, &[&based_on(&dir("none"))], &["none holds no finished backup"]);
    refused(&source, &["--incremental-lsn=99999999999"], &["up to LSN 99999999999", "is at LSN"]);
    let text = fs::read_to_string(dir("base").join("xtrabackup_checkpoints")).unwrap();
    let broken = dir("broken");
    fs::create_dir(&broken).unwrap();
    for name in ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"] {
        fs::write(broken.join(name), text.replace("to_lsn", "to")).unwrap();
        refused(&source, &[&based_on(&broken)], &[name, "to_lsn is missing"]);
        fs::remove_file(broken.join(name)).unwrap();
    }

    // Of another server, the LSN alone could be right.
    let other = TestServer::start(&["--innodb-undo-tablespaces=2"]);
    other.execute_all(&[
        "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(900)) ENGINE=InnoDB",
        "INSERT INTO test.t SELECT seq, REPEAT('1', 900) FROM test.seq_1_to_3000",
    ]);
    source.execute_all(&[
        "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(900)) ENGINE=InnoDB",
        "INSERT INTO test.t SELECT seq, REPEAT('1', 900) FROM test.seq_1_to_9000",
    ]);
    write_pages(&other);
    let foreign = dir("foreign");
    Tool::Ours.backup(&other, &foreign, &[]);
    refused(&source, &[&based_on(&foreign)], &["foreign cannot be the base", "another server"]);

    let text = fs::read_to_string(dir("base").join("backup-my.cnf")).unwrap();
    let small = dir("small");
    fs::create_dir(&small).unwrap();
    fs::copy(dir("base").join("xtrabackup_checkpoints"), small.join("xtrabackup_checkpoints"))
        .unwrap();
    fs::write(small.join("backup-my.cnf"), text.replace("_size=16384", "_size=4096")).unwrap();
    refused(&source, &[&based_on(&small)], &["pages of 4096 bytes, the server of 16384"]);

    let base = dir("base");
    source.execute("SET GLOBAL innodb_fast_shutdown = 0");
    source.shutdown();
    let mut more = TestServer::prepare(Series::V10_11, &["--innodb-undo-tablespaces=4"]);
    fs::remove_dir(more.datadir()).unwrap();
    fs::rename(source.datadir(), more.datadir()).unwrap();
    more.launch();
    let target = more.dir().join("target");
    let mut command = Tool::Ours.backup_command(&more, &target, &[&based_on(&base)]);
    run(&mut command).expect_failure(&[
        "--incremental backup is impossible if the server had been restarted with different \
         innodb_undo_tablespaces.",
        "take a full backup",
    ]);
    assert!(target.join("mariabackup_incomplete").exists());
}
