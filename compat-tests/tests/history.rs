//! The table of the server in which backups are recorded: rows of ours and of the reference, and
//! incremental backups based on them.

#![cfg(test)]

use std::fs;

use compat_tests::compare::metadata_name;
use compat_tests::installation::{Series, prefixed};
use compat_tests::server::TestServer;
use compat_tests::tool::{Tool, run};

/// Columns that both tools fill alike for backups of the same kind.
const ALIKE: &str = "tool_version, ibbackup_version, server_version, binlog_pos, innodb_from_lsn = 0, \
     `partial`, incremental, format, compressed";

fn records_and_finds(series: Series, table: &str) {
    let source = TestServer::start_series(series, &["--log-bin=mb"]);
    let dir = |name: &str| source.dir().join(name);
    let text = |name: &str, kind: &str| {
        fs::read_to_string(dir(name).join(metadata_name(series, kind))).unwrap()
    };
    let value = |name: &str, kind: &str, key: &str| {
        let text = text(name, kind);
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        found.unwrap_or_else(|| panic!("{key}: {text}")).to_owned()
    };
    let definition = || source.query(format!("SHOW CREATE TABLE {table}"))[0][1].clone();
    let alike =
        |name: &str| source.query(format!("SELECT {ALIKE} FROM {table} WHERE name = '{name}'"));
    let create = "CREATE TABLE test.t (id INT PRIMARY KEY) ENGINE=InnoDB";
    source.execute_all(&[
        create,
        "INSERT INTO test.t VALUES (1)",
        "CREATE USER full@localhost IDENTIFIED BY 'x'",
        "GRANT ALL ON *.* TO full@localhost",
    ]);
    let reference = Tool::Reference(series);

    // The same table, the same row.
    reference.backup(&source, &dir("theirs"), &["--history=their's"]);
    let theirs = definition();
    source.execute(format!("ALTER TABLE {table} RENAME test.kept"));
    Tool::Ours.backup(&source, &dir("full"), &["--history=week's", "--user=full", "--password=x"]);
    assert_eq!(definition(), theirs);
    source.execute(format!("INSERT INTO {table} SELECT * FROM test.kept"));
    // The reference's own INSERT has moved the position on.
    let without_position = |name: &str| {
        let mut row = alike(name).remove(0);
        row.remove(3);
        row
    };
    assert_eq!(without_position("week''s"), without_position("their''s"));
    let row = source.query(format!(
        "SELECT uuid, name, tool_name, tool_command, CAST(start_time AS CHAR), \
         CAST(end_time AS CHAR), lock_time, binlog_pos, innodb_from_lsn, innodb_to_lsn \
         FROM {table} WHERE name = 'week''s'"
    ));
    for (key, value_there) in [
        "uuid",
        "name",
        "tool_name",
        "tool_command",
        "start_time",
        "end_time",
        "lock_time",
        "binlog_pos",
        "innodb_from_lsn",
        "innodb_to_lsn",
    ]
    .iter()
    .zip(&row[0])
    {
        assert_eq!(&value("full", "info", key), value_there, "{key}");
    }
    assert!(row[0][3].contains("--password=..."), "{row:?}");

    // A base is found by name, by uuid, and in the row of the other tool.
    let uuid = |name: &str| value(name, "info", "uuid");
    source.execute("INSERT INTO test.t VALUES (2)");
    let found = |target: &str, option: &str, base: &str| {
        let said = Tool::Ours.backup(&source, &dir(target), &[option, "--history=inc"]);
        let lsn = value(base, "checkpoints", "to_lsn");
        assert!(said.contains(&format!("Found and using lsn: {lsn} for ")), "{said}");
        assert!(!said.contains("it is not known when the base was taken"), "{said}");
        assert_eq!(value(target, "checkpoints", "from_lsn"), lsn);
    };
    found("by-name", "--incremental-history-name=week's", "full");
    found("by-uuid", &format!("--incremental-history-uuid={}", uuid("full")), "full");
    found("on-theirs", "--incremental-history-name=their's", "theirs");
    reference.backup(&source, &dir("theirs-on-ours"), &["--incremental-history-name=week's"]);
    let lsn = value("full", "checkpoints", "to_lsn");
    assert_eq!(value("theirs-on-ours", "checkpoints", "from_lsn"), lsn);
    assert_eq!(alike("inc").len(), 3);
    assert_eq!(alike("inc")[0][5..7], ["N".to_owned(), "Y".to_owned()]);
    Tool::Ours.prepare(&dir("theirs"), &[]);
    let mut apply = Tool::Ours.prepare_command(&dir("theirs"), &[]);
    run(apply.arg(prefixed("--incremental-dir=", &dir("on-theirs")))).expect_success();
    let restored = Tool::Ours.restore(&dir("theirs"), series, &[]);
    assert_eq!(restored.query_u64("SELECT SUM(id) FROM test.t"), 3);
    drop(restored);

    fails_early(&source, table);
}

/// What fails is not recorded, and fails before anything is made.
fn fails_early(source: &TestServer, table: &str) {
    let series = source.series();
    let dir = |name: &str| source.dir().join(name);
    let count = || source.query_u64(format!("SELECT COUNT(*) FROM {table}"));
    let before = count();
    let fails = |options: &[&str], words: &[&str]| {
        let mut command = Tool::Ours.backup_command(source, &dir("none"), options);
        run(&mut command).expect_failure(words);
        assert!(!dir("none").exists(), "{options:?}");
        assert_eq!(count(), before);
    };
    fails(
        &["--incremental-history-name=zz"],
        &["Error while attempting to find history record for name zz"],
    );
    fails(
        &["--incremental-history-uuid=zz", "--history"],
        &["Error while attempting to find history record for uuid zz"],
    );
    let monitor =
        if series == Series::V10_5 { "BINLOG MONITOR" } else { "BINLOG MONITOR, SLAVE MONITOR" };
    source.execute_all(&[
        "CREATE USER few@localhost",
        &format!("GRANT RELOAD, PROCESS, {monitor} ON *.* TO few@localhost"),
        &format!("GRANT SELECT ON {table} TO few@localhost"),
    ]);
    fails(&["--user=few", "--history"], &["INSERT command denied", table]);
    source.execute(format!("GRANT INSERT ON {table} TO few@localhost"));
    source.execute("SET GLOBAL read_only = 1");
    fails(&["--user=few", "--history"], &["--read-only", table]);
    source.execute("SET GLOBAL read_only = 0");
    Tool::Ours.backup(source, &dir("few"), &["--user=few", "--history"]);
    let nameless = format!("SELECT COUNT(*) FROM {table} WHERE name = ''");
    assert_eq!(source.query_u64(nameless), 1);

    // A row that is refused after all: the backup is complete.
    // Tables of the schema mysql have no triggers.
    if series == Series::V10_5 {
        source.execute(format!(
            "CREATE TRIGGER PERCONA_SCHEMA.no BEFORE INSERT ON {table} FOR EACH ROW \
             SIGNAL SQLSTATE '45000'"
        ));
        let mut command = Tool::Ours.backup_command(source, &dir("late"), &["--history"]);
        run(&mut command).expect_failure(&["is complete, but it is not recorded"]);
        assert!(!dir("late").join("mariabackup_incomplete").exists());
        Tool::Ours.prepare(&dir("late"), &[]);
    }
}

#[test]
fn rows_are_those_of_the_reference() {
    records_and_finds(Series::V10_11, "mysql.mariadb_backup_history");
    records_and_finds(Series::V10_5, "PERCONA_SCHEMA.xtrabackup_history");
}
