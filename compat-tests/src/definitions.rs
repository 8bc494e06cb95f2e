//! What the tables, views, triggers and sequences of two servers are, rather than their rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::server::{TestServer, rows};

/// Definitions of everything but the server's own schemas.
#[derive(Debug, PartialEq, Eq)]
pub struct Definitions {
    objects: BTreeMap<String, String>,
}

const OWN_SCHEMAS: &str = "('information_schema', 'performance_schema', 'sys', 'mysql')";

impl Definitions {
    /// Reads all definitions, and of sequences where they stand.
    ///
    /// History rows of system-versioned tables, and what full-text indexes find, are taken for
    /// definitions, since [`State`](crate::compare::State) does not see them.
    pub fn of(server: &TestServer) -> Self {
        let mut connection = server.connect();
        let mut objects = BTreeMap::new();
        let mut query = |key: String, sql: &str| {
            let text: Vec<String> =
                rows(&mut connection, sql).into_iter().map(|row| row.join(" | ")).collect();
            objects.insert(key, without_auto_increment(&text.join("\n")));
        };
        for row in server.query(format!(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables \
             WHERE table_schema NOT IN {OWN_SCHEMAS}"
        )) {
            let [schema, name, kind] = row.as_slice() else { panic!("{row:?}") };
            let path = format!("`{schema}`.`{name}`");
            let what = if kind == "VIEW" { "VIEW" } else { "TABLE" };
            query(format!("{kind} {path}"), &format!("SHOW CREATE {what} {path}"));
            if kind == "SEQUENCE" {
                query(format!("next of {path}"), &format!("SELECT * FROM {path}"));
            }
            if kind == "SYSTEM VERSIONED" {
                let sql = format!(
                    "SELECT COUNT(*), SUM(CRC32(CONCAT_WS(',', id, k, c, row_start, row_end))) \
                     FROM {path} FOR SYSTEM_TIME ALL"
                );
                query(format!("history of {path}"), &sql);
            }
        }
        for row in server.query(
            "SELECT DISTINCT table_schema, table_name, column_name \
             FROM information_schema.statistics WHERE index_type = 'FULLTEXT'",
        ) {
            let [schema, name, column] = row.as_slice() else { panic!("{row:?}") };
            let path = format!("`{schema}`.`{name}`");
            let sql = format!(
                "SELECT COUNT(*) FROM {path} \
                 WHERE MATCH (`{column}`) AGAINST ('page* redo* undo*' IN BOOLEAN MODE)"
            );
            query(format!("words of {path}"), &sql);
        }
        let others = [
            "SELECT CONCAT('schema ', schema_name), default_character_set_name \
             FROM information_schema.schemata",
            "SELECT CONCAT('trigger ', trigger_schema, '.', trigger_name), action_timing, \
             event_manipulation, event_object_table, action_statement \
             FROM information_schema.triggers",
            "SELECT CONCAT('routine ', routine_schema, '.', routine_name), routine_definition \
             FROM information_schema.routines WHERE routine_schema <> 'sys'",
        ];
        for row in others.into_iter().flat_map(|sql| server.query(sql)) {
            let mut columns = row.into_iter();
            let key = columns.next().expect("a name");
            objects.insert(key, columns.collect::<Vec<_>>().join(" | "));
        }
        Self { objects }
    }

    /// Asserts that both servers have the same of everything.
    #[track_caller]
    pub fn assert_same_as(&self, restored: &Self) {
        let mut differences = String::new();
        for (key, text) in &self.objects {
            let other = restored.objects.get(key);
            if other != Some(text) {
                let _ = writeln!(differences, "{key}: {text}\nthen {other:?}");
            }
        }
        for key in restored.objects.keys().filter(|key| !self.objects.contains_key(*key)) {
            let _ = writeln!(differences, "{key}: only after the restore");
        }
        assert!(differences.is_empty(), "definitions differ:\n{differences}");
    }
}

/// The next value of a counter depends on statements that were rolled back.
fn without_auto_increment(text: &str) -> String {
    let Some((before, after)) = text.split_once(" AUTO_INCREMENT=") else { return text.to_owned() };
    before.to_owned() + after.trim_start_matches(|c: char| c.is_ascii_digit())
}
