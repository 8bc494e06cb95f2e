//! Tells whether two servers hold the same rows, or two backups the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mysql::Conn;

use crate::installation::{Series, prefixed};
use crate::server::{TestServer, rows};

/// Row count and checksum of every table of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    tables: BTreeMap<String, (String, String)>,
}

impl State {
    /// Reads all tables; nobody may write meanwhile.
    pub fn of(server: &TestServer) -> Self {
        let mut connection = server.connect();
        let names = rows(
            &mut connection,
            // The left out tables of schema mysql change without a trace in the binary log.
            "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') \
             FROM information_schema.tables \
             WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema NOT IN ('information_schema', 'performance_schema', 'sys') \
             AND NOT (table_schema = 'mysql' AND (table_name LIKE '%\\_stats' \
             OR table_name IN ('general_log', 'slow_log', 'gtid_slave_pos', 'transaction_registry')))",
        );
        let generated = tables_with_generated_columns(&mut connection);
        let tables = names
            .into_iter()
            .flatten()
            .map(|name| {
                // Not COUNT(*), which Aria and MyISAM answer from a counter.
                let sql = format!("SELECT IFNULL(SUM(1), 0) FROM {name}");
                let count = rows(&mut connection, &sql);
                let sql = checksum_query(&name, &generated);
                let sum = rows(&mut connection, &sql);
                let text = |rows: Vec<Vec<String>>| {
                    rows.into_iter().flatten().last().expect("one row with one value")
                };
                (name, (text(count), text(sum)))
            })
            .collect();
        Self { tables }
    }

    /// Whether the server has the table, named with schema and backticks.
    pub fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// Number of tables.
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// Asserts that both servers hold the same tables with the same rows.
    #[track_caller]
    pub fn assert_same_as(&self, restored: &Self) {
        let mut differences = String::new();
        for (name, state) in &self.tables {
            let other = restored.tables.get(name);
            if other != Some(state) {
                let _ = writeln!(differences, "{name}: (rows, checksum) {state:?}, then {other:?}");
            }
        }
        for name in restored.tables.keys().filter(|name| !self.tables.contains_key(*name)) {
            let _ = writeln!(differences, "{name}: only after the restore");
        }
        assert!(differences.is_empty(), "tables differ:\n{differences}");
    }
}

/// The columns, as text, of each table that has generated ones. `CHECKSUM TABLE` takes anything for
/// their values, even of stored ones.
fn tables_with_generated_columns(connection: &mut Conn) -> HashMap<String, Vec<String>> {
    let columns = rows(
        connection,
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`'), \
         CONCAT('QUOTE(`', column_name, '`)'), extra LIKE '%GENERATED%' \
         FROM information_schema.columns WHERE table_schema <> 'information_schema'",
    );
    let mut tables = HashMap::<_, Vec<_>>::new();
    let mut generated = HashSet::new();
    for row in columns {
        let Ok([table, column, is_generated]) = <[String; 3]>::try_from(row) else { continue };
        if is_generated == "1" {
            generated.insert(table.clone());
        }
        tables.entry(table).or_default().push(column);
    }
    tables.retain(|table, _| generated.contains(table));
    tables
}

/// The statement that computes a checksum of all rows of a table.
fn checksum_query(name: &str, generated: &HashMap<String, Vec<String>>) -> String {
    match generated.get(name) {
        None => format!("CHECKSUM TABLE {name} EXTENDED"),
        Some(columns) => {
            let columns = columns.join(", ");
            format!("SELECT BIT_XOR(CRC32(CONCAT_WS(',', {columns}))) FROM {name}")
        }
    }
}

/// Lets the server check each of its tables with all indexes.
#[track_caller]
pub fn check_tables(server: &TestServer) {
    let mut connection = server.connect();
    let names = rows(
        &mut connection,
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables \
         WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') AND table_schema NOT IN ('information_schema', 'performance_schema', 'sys')",
    );
    for name in names.into_iter().flatten() {
        // An answer is: table, operation, kind of message, text. Copies of tables that were open
        // may be "not closed properly", which is a warning.
        let answers = rows(&mut connection, &format!("CHECK TABLE {name} EXTENDED"));
        let bad =
            answers.iter().any(|row| row.iter().any(|text| text.eq_ignore_ascii_case("error")));
        let last = answers.last().and_then(|row| row.last()).map(String::as_str);
        let supported = last != Some("The storage engine for the table doesn't support check");
        assert!(!bad && (last == Some("OK") || !supported), "{name}: {answers:?}");
    }
}

/// The binary log position recorded in a backup.
pub fn binlog_position(backup: &Path) -> (String, u64) {
    let names = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"];
    let path = names.map(|name| backup.join(name)).into_iter().find(|path| path.is_file());
    let path = path.unwrap_or_else(|| panic!("no binary log position in {}", backup.display()));
    let text = fs::read_to_string(&path).expect("read the binary log position");
    let mut fields = text.trim_end_matches('\n').split('\t');
    let file = fields.next().expect("a first field").to_owned();
    let position = fields.next().and_then(|position| position.parse().ok());
    (file, position.unwrap_or_else(|| panic!("no position in {}: {text:?}", path.display())))
}

/// Replays what `source` wrote to its binary log after `backup` was taken, up to the end.
///
/// The source may be stopped, but its files must be there.
pub fn replay_binlog(source: &TestServer, backup: &Path, restored: &TestServer) {
    let (first, position) = binlog_position(backup);
    let series = restored.series();
    let mut files: Vec<PathBuf> = fs::read_dir(source.dir().join("binlog"))
        .expect("list binary logs")
        .map(|entry| entry.expect("list binary logs").path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Numbers have a fixed width. The index is no log.
            name >= first.as_str() && Path::new(name).extension().is_some_and(|e| e != "index")
        })
        .filter(|path| path.extension().is_some_and(|e| e.to_str().is_some_and(is_number)))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "binary log {first} is missing");
    let mut reader = series.command("usr/bin", "mariadb-binlog");
    reader.arg("--no-defaults").arg(format!("--start-position={position}")).args(&files);
    let mut reader = reader.stdout(Stdio::piped()).spawn().expect("run mariadb-binlog");
    let mut client = series.command("usr/bin", "mariadb");
    client
        .args(["--no-defaults", "--user=root", "--binary-mode", "--max-allowed-packet=1G"])
        .arg(prefixed("--socket=", &restored.socket()))
        .stdin(reader.stdout.take().expect("a pipe"));
    let output = client.output().expect("run mariadb");
    // Its end of the pipe: a reader whose output nobody takes must not wait for ever.
    drop(client);
    let client = output;
    let reader = reader.wait().expect("wait for mariadb-binlog");
    let message = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "replay from {first}, {position}: {message}");
    assert!(reader.success(), "mariadb-binlog from {first}, {position}: {reader}");
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Files that two right preparations of one backup may leave with different bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// None.
    Nothing,
    /// Aria's: the reference recovers that engine's tables, ours leaves that to the server.
    Aria,
}

impl Allowed {
    fn allows(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self == Self::Aria
            && (name.starts_with("aria_log")
                || Path::new(name).extension().is_some_and(|e| e == "MAI" || e == "MAD"))
    }
}

/// Asserts that two folders hold the same files with the same bytes.
///
/// The message names file, page and offset of the first differences, for pages of 16 KiB.
#[track_caller]
pub fn assert_same_files(a: &Path, b: &Path, allowed: Allowed) {
    let differences = differences(a, b, allowed);
    let (a, b) = (a.display(), b.display());
    assert!(differences.is_empty(), "{a} (first) and {b} (second) differ:\n{differences}");
}

/// What two folders differ in, a line for each place; empty if in nothing.
pub fn differences(a: &Path, b: &Path, allowed: Allowed) -> String {
    let (files_a, files_b) = (files(a), files(b));
    let mut differences = String::new();
    for name in files_a.keys().filter(|name| !files_b.contains_key(*name)) {
        if !allowed.allows(name) {
            let _ = writeln!(differences, "{}: only in {}", name.display(), a.display());
        }
    }
    for (name, len_b) in &files_b {
        if allowed.allows(name) {
            continue;
        }
        let Some(len_a) = files_a.get(name) else {
            let _ = writeln!(differences, "{}: only in {}", name.display(), b.display());
            continue;
        };
        if len_a != len_b {
            let _ = writeln!(differences, "{}: {len_a} and {len_b} bytes", name.display());
        }
        for (offset, byte_a, byte_b) in different_bytes(&a.join(name), &b.join(name)) {
            let _ = writeln!(
                differences,
                "{}: page {} byte {} (offset {offset}): {byte_a:02x} and {byte_b:02x}",
                name.display(),
                offset / 16384,
                offset % 16384,
            );
        }
    }
    differences
}

/// Asserts that two data directories hold files of the same tables and other objects, in all
/// databases but the server's own: each one's, and none that belongs to nothing.
///
/// Left out is what the server names by ids of its own, or leaves behind itself: intermediate
/// tables, auxiliary tables of full-text indexes, links to tablespaces, files to be imported.
#[track_caller]
pub fn assert_same_file_names(a: &Path, b: &Path) {
    const OWN: [&str; 3] = ["mysql", "performance_schema", "sys"];
    let names = |dir: &Path| -> BTreeSet<PathBuf> {
        files(dir)
            .into_keys()
            .filter(|path| {
                let database = path.parent().and_then(Path::to_str).unwrap_or_default();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let extension = path.extension().and_then(|name| name.to_str()).unwrap_or_default();
                !database.is_empty()
                    && !OWN.contains(&database)
                    && !name.starts_with("#sql")
                    && !name.starts_with("FTS_")
                    && !["isl", "cfg"].contains(&extension)
            })
            .collect()
    };
    let (names_a, names_b) = (names(a), names(b));
    let differences: Vec<_> = names_a.symmetric_difference(&names_b).collect();
    let (a, b) = (a.display(), b.display());
    assert!(differences.is_empty(), "only in one of {a} and {b}: {differences:?}");
}

/// Offsets, with both bytes, of the first difference in each of the first few pages that differ.
fn different_bytes(a: &Path, b: &Path) -> Vec<(u64, u8, u8)> {
    const PAGE_LEN: u64 = 16384;
    const SHOWN: usize = 8;
    let open = |path: &Path| {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        BufReader::with_capacity(1 << 20, file)
    };
    let (mut a, mut b) = (open(a), open(b));
    let mut differences = Vec::new();
    for page in 0.. {
        let read = |reader: &mut BufReader<File>| {
            let mut bytes = Vec::new();
            reader.take(PAGE_LEN).read_to_end(&mut bytes).expect("read a file");
            bytes
        };
        let (page_a, page_b) = (read(&mut a), read(&mut b));
        if page_a.is_empty() || page_b.is_empty() || differences.len() == SHOWN {
            break;
        }
        if page_a != page_b {
            let pairs = page_a.into_iter().zip(page_b);
            let first = (page * PAGE_LEN..).zip(pairs).find(|(_, (a, b))| a != b);
            differences.extend(first.map(|(offset, (a, b))| (offset, a, b)));
        }
    }
    differences
}

/// Paths relative to `dir`, and lengths, of all regular files.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(dir.join(&folder))
            .unwrap_or_else(|error| panic!("list {}: {error}", dir.join(&folder).display()));
        for entry in entries {
            let entry = entry.expect("list a folder");
            let name = folder.join(entry.file_name());
            let metadata = entry.metadata().expect("stat");
            if metadata.is_dir() {
                folders.push(name);
            } else {
                found.insert(name, metadata.len());
            }
        }
    }
    found
}

/// The name of a metadata file in the backup of a server of `series`.
pub fn metadata_name(series: Series, suffix: &str) -> String {
    let prefix = if series == Series::V11_8 { "mariadb_backup" } else { "xtrabackup" };
    format!("{prefix}_{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datadir(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn same_file_names_but_for_what_the_server_names() {
        let a = datadir(&["ibdata1", "d/t.frm", "d/#sql-1.ibd", "d/FTS_1.ibd", "d/t.isl"]);
        let b = datadir(&["ib_logfile0", "d/t.frm", "mysql/x.frm"]);
        assert_same_file_names(a.path(), b.path());
    }

    #[test]
    #[should_panic(expected = "d/u.MAD")]
    fn file_that_belongs_to_nothing() {
        assert_same_file_names(
            datadir(&["d/t.frm"]).path(),
            datadir(&["d/t.frm", "d/u.MAD"]).path(),
        );
    }
}
