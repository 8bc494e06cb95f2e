//! Tablespaces that go and come back (DISCARD and IMPORT TABLESPACE).
//!
//! The binary log does not hold what was in the files, so these statements are kept out of it and
//! bring back the very rows that were there. A backup whose position is between the two statements
//! must hold a table without its tablespace; before the binary log is replayed, the tablespace is
//! imported there too. A table of the workers says, with the same position, when that is right.

use std::fs;
use std::path::{Path, PathBuf};

use mysql::prelude::Queryable as _;

use crate::server::{TestServer, rows};

use super::objects::EXPORTS;

const EXTENSIONS: [&str; 2] = ["ibd", "cfg"];

/// The folder of the exported files.
pub fn exports_dir(server: &TestServer) -> PathBuf {
    server.dir().join("exports")
}

/// Copies the exported files of a table to `exports`.
pub fn copy_out(datadir: &Path, table: &(String, String), exports: &Path, export: u64) {
    fs::create_dir_all(exports).expect("make a folder");
    for extension in EXTENSIONS {
        copy(&in_datadir(datadir, table, extension), &exported(exports, table, export, extension));
    }
}

/// Copies files from `exports` to the place of the table's.
pub fn copy_in(exports: &Path, export: u64, datadir: &Path, table: &(String, String)) {
    for extension in EXTENSIONS {
        copy(&exported(exports, table, export, extension), &in_datadir(datadir, table, extension));
    }
}

/// Imports the tablespaces that were away at the position of the backup that is in `restored`. One
/// that is missing and was not away stays so, to be noticed.
pub fn import_missing(restored: &TestServer, exports: &Path, workers: u64) {
    const TABLESPACE_DISCARDED: u16 = 1814;
    let mut connection = restored.connect();
    connection.query_drop("SET SESSION sql_log_bin=0").expect("set a variable");
    for worker in 0..workers {
        let schema = format!("w{worker}");
        let sql = format!("SELECT name, export FROM {schema}.{EXPORTS} WHERE away");
        for row in rows(&mut connection, &sql) {
            let [name, export] = row.as_slice() else { panic!("{row:?}") };
            let export = export.parse().expect("a number");
            let sql = format!("SELECT COUNT(*) FROM {schema}.{name}");
            match connection.query_drop(sql) {
                Ok(()) => continue,
                Err(mysql::Error::MySqlError(error)) if error.code == TABLESPACE_DISCARDED => {}
                Err(error) => panic!("{schema}.{name}: {error}"),
            }
            let table = (schema.clone(), name.clone());
            copy_in(exports, export, &restored.datadir(), &table);
            let sql = format!("ALTER TABLE {schema}.{name} IMPORT TABLESPACE");
            connection.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}

fn in_datadir(datadir: &Path, (schema, name): &(String, String), extension: &str) -> PathBuf {
    datadir.join(schema).join(name).with_extension(extension)
}

fn exported(
    exports: &Path,
    (schema, name): &(String, String),
    export: u64,
    extension: &str,
) -> PathBuf {
    exports.join(format!("{schema}.{name}.{export}.{extension}"))
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
}
