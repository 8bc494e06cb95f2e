//! What is neither an ordinary nor a partitioned table: tables of engines with less features,
//! views, triggers, routines, sequences, system-versioned tables, databases.

use std::fmt::Write as _;

use crate::workload;

use super::kind::Kind;
use super::step::{Action, Context, quoted, sql};
use super::tables::create;

/// Objects of one kind that come and go, at most this many.
const MOST: usize = 4;

/// Everything of one worker.
#[derive(Debug, Default)]
pub struct Objects {
    csv: Vec<String>,
    archive: Vec<String>,
    merge: Vec<String>,
    views: Vec<String>,
    /// The table that has triggers, and their names.
    trigger_table: String,
    triggers: Vec<String>,
    routines: Vec<String>,
    sequences: Vec<String>,
    versioned: Vec<String>,
    databases: Vec<String>,
    imports: u64,
}

const COLUMNS: &str = "(id BIGINT NOT NULL, k INT NOT NULL, c VARCHAR(200) NOT NULL)";
const CHILDREN: [&str; 3] = ["child_a", "child_b", "child_c"];
/// Tables whose tablespaces are discarded and imported.
const IMPORTED: [&str; 2] = ["import_a", "import_b"];
const SEQUENCE_ENGINES: [&str; 3] = ["InnoDB", "Aria", "MyISAM"];
/// Where triggers write to, and what views show.
const BASE: &str = "base";

impl Objects {
    /// Creates what the others build on.
    pub fn set_up(&mut self, c: &mut Context) -> Vec<Action> {
        let mut actions = Vec::new();
        for child in CHILDREN {
            let path = c.own(child);
            actions.push(sql(format!("CREATE TABLE {path} {COLUMNS} ENGINE=MyISAM")));
            actions.push(rows(c, &path, 20));
        }
        actions.push(sql(format!("{} ENGINE=InnoDB", create(&c.own(BASE)))));
        self.trigger_table = c.fresh("watched");
        actions.push(sql(format!(
            "CREATE TABLE {} {COLUMNS} ENGINE=InnoDB",
            c.own(&self.trigger_table)
        )));
        for table in IMPORTED {
            let path = c.own(table);
            actions.push(sql(format!("{} ENGINE=InnoDB", create(&path))));
            actions.push(super::tables::fill(c, &path, 0, 40));
        }
        actions.push(sql(format!(
            "CREATE TABLE {} (name VARCHAR(20) PRIMARY KEY, export INT NOT NULL, \
             away BOOL NOT NULL) ENGINE=InnoDB",
            c.own(EXPORTS)
        )));
        actions
    }

    /// The names of all tables.
    pub fn names(&self, c: &Context) -> Vec<String> {
        let fixed = CHILDREN.into_iter().chain(IMPORTED).chain([BASE, EXPORTS]);
        let own = fixed
            .map(str::to_owned)
            .chain([self.trigger_table.clone()])
            .chain(self.csv.iter().chain(&self.archive).chain(&self.versioned).cloned())
            .chain(self.merge.iter().cloned())
            .map(|name| c.own(&name));
        let others = self.databases.iter();
        own.chain(others.flat_map(|name| ["i", "a"].map(|table| quoted(name, table)))).collect()
    }

    /// A statement on the rows of one table.
    pub fn dml(&mut self, c: &mut Context) -> Action {
        match c.random.below(7) {
            0 if !self.csv.is_empty() => change_rows(c, &self.csv),
            1 if !self.archive.is_empty() => {
                let path = any_of(c, &self.archive);
                rows(c, &path, 3)
            }
            2 if !self.merge.is_empty() => change_rows(c, &self.merge),
            3 => {
                let table = self.trigger_table.clone();
                change_rows(c, &[table])
            }
            4 if !self.sequences.is_empty() => {
                let sequence = any_of(c, &self.sequences);
                sql(format!("DO NEXTVAL({sequence})"))
            }
            5 if !self.versioned.is_empty() => change_rows(c, &self.versioned),
            _ => {
                let table = *c.random.pick(&IMPORTED);
                let path = c.own(table);
                Action::Contended(workload::statement(&mut c.random, &path))
            }
        }
    }

    /// A step of one of the kinds of this module.
    pub fn step(&mut self, kind: Kind, c: &mut Context) -> Vec<Action> {
        let mut actions = Vec::new();
        let a = &mut actions;
        match kind {
            Kind::CsvCreate => simple(c, Change::Create, "CSV", &mut self.csv, a),
            Kind::CsvChange => simple(c, Change::Alter, "CSV", &mut self.csv, a),
            Kind::CsvDrop => simple(c, Change::Drop, "CSV", &mut self.csv, a),
            Kind::ArchiveCreate => simple(c, Change::Create, "ARCHIVE", &mut self.archive, a),
            Kind::ArchiveChange => simple(c, Change::Alter, "ARCHIVE", &mut self.archive, a),
            Kind::ArchiveDrop => simple(c, Change::Drop, "ARCHIVE", &mut self.archive, a),
            Kind::MergeCreate => self.merge(Change::Create, c, a),
            Kind::MergeChange => self.merge(Change::Alter, c, a),
            Kind::MergeDrop => self.merge(Change::Drop, c, a),
            Kind::ViewCreate => self.view(Change::Create, c, a),
            Kind::ViewRename => self.view(Change::Alter, c, a),
            Kind::ViewDrop => self.view(Change::Drop, c, a),
            Kind::TriggerCreate => self.trigger(Change::Create, c, a),
            Kind::TriggerRename => self.trigger(Change::Alter, c, a),
            Kind::TriggerDrop => self.trigger(Change::Drop, c, a),
            Kind::RoutineCreate => self.routine(Change::Create, c, a),
            Kind::RoutineDrop => self.routine(Change::Drop, c, a),
            Kind::SequenceCreate => self.sequence(Change::Create, c, a),
            Kind::SequenceChange => self.sequence(Change::Alter, c, a),
            Kind::SequenceDrop => self.sequence(Change::Drop, c, a),
            Kind::VersionedCreate => self.versioned(Change::Create, c, a),
            Kind::VersionedChange => self.versioned(Change::Alter, c, a),
            Kind::VersionedDrop => self.versioned(Change::Drop, c, a),
            Kind::DatabaseCreate => self.database(Change::Create, c, a),
            Kind::DatabaseChange => self.database(Change::Alter, c, a),
            Kind::DatabaseDrop => self.database(Change::Drop, c, a),
            Kind::DiscardImport => self.import(c, a),
            _ => unreachable!("{kind} belongs elsewhere"),
        }
        actions
    }

    fn merge(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        let union = |c: &mut Context| {
            let first = c.index(CHILDREN.len());
            let children: Vec<String> =
                CHILDREN.iter().cycle().skip(first).take(2).map(|child| c.own(child)).collect();
            format!("UNION=({}) INSERT_METHOD=LAST", children.join(", "))
        };
        for (change, name) in come_and_go(c, change, "m", &mut self.merge) {
            let path = c.own(&name);
            actions.push(sql(match change {
                Change::Create => {
                    format!("CREATE TABLE {path} {COLUMNS} ENGINE=MERGE {}", union(c))
                }
                Change::Drop | Change::Alter => format!("DROP TABLE {path}"),
            }));
        }
        if change == Change::Alter {
            let name = any_of(c, &self.merge);
            actions.push(sql(format!("ALTER TABLE {name} {}", union(c))));
        }
    }

    fn view(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        let base = c.own(BASE);
        let select =
            |c: &mut Context| format!("AS SELECT id, k + {} AS k FROM {base}", c.random.below(100));
        for (change, view) in come_and_go(c, change, "v", &mut self.views) {
            let path = c.own(&view);
            actions.push(sql(match change {
                Change::Create => format!("CREATE VIEW {path} {}", select(c)),
                Change::Drop | Change::Alter => format!("DROP VIEW {path}"),
            }));
        }
        if change == Change::Alter {
            let place = c.index(self.views.len());
            let new = c.fresh("v");
            if let Some(name) = self.views.get_mut(place) {
                actions.push(sql(format!("RENAME TABLE {} TO {}", c.own(name), c.own(&new))));
                actions.push(sql(format!("CREATE OR REPLACE VIEW {} {}", c.own(&new), select(c))));
                *name = new;
            }
        }
    }

    fn trigger(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        let table = c.own(&self.trigger_table);
        for (change, trigger) in come_and_go(c, change, "trigger", &mut self.triggers) {
            let name = c.own(&trigger);
            let event = *c.random.pick(&["BEFORE INSERT", "AFTER UPDATE", "BEFORE DELETE"]);
            actions.push(sql(match change {
                Change::Create => format!(
                    "CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW \
                     REPLACE INTO {} VALUES ({}, 1, 'by a trigger', NULL)",
                    c.own(BASE),
                    c.random.below(3000)
                ),
                Change::Drop | Change::Alter => format!("DROP TRIGGER {name}"),
            }));
        }
        if change == Change::Alter {
            self.trigger_table = c.fresh("watched");
            let new = c.own(&self.trigger_table);
            actions.push(sql(format!("RENAME TABLE {table} TO {new}")));
        }
        let table = self.trigger_table.clone();
        actions.push(change_rows(c, &[table]));
    }

    fn routine(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        for (change, routine) in come_and_go(c, change, "f", &mut self.routines) {
            let name = c.own(&routine);
            actions.push(sql(match change {
                Change::Create => format!(
                    "CREATE FUNCTION {name}(a INT) RETURNS INT DETERMINISTIC RETURN a + {}",
                    c.random.below(1000)
                ),
                Change::Drop | Change::Alter => format!("DROP FUNCTION {name}"),
            }));
        }
    }

    fn sequence(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        for (change, sequence) in come_and_go(c, change, "seq", &mut self.sequences) {
            let path = c.own(&sequence);
            let engine = *c.random.pick(&SEQUENCE_ENGINES);
            match change {
                Change::Create => {
                    actions.push(sql(format!("CREATE SEQUENCE {path} CACHE 5 ENGINE={engine}")));
                    actions.push(sql(format!("DO NEXTVAL({path})")));
                }
                Change::Drop | Change::Alter => actions.push(sql(format!("DROP SEQUENCE {path}"))),
            }
        }
        if change == Change::Alter {
            let place = c.index(self.sequences.len());
            let new = c.fresh("seq");
            if let Some(name) = self.sequences.get_mut(place) {
                let path = c.own(name);
                let start = c.random.below(10_000);
                actions.push(sql(format!("ALTER SEQUENCE {path} RESTART {start}")));
                actions.push(sql(format!("RENAME TABLE {path} TO {}", c.own(&new))));
                actions.push(sql(format!("DO NEXTVAL({})", c.own(&new))));
                *name = new;
            }
        }
    }

    fn versioned(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        for (change, table) in come_and_go(c, change, "versioned", &mut self.versioned) {
            let path = c.own(&table);
            let engine = *c.random.pick(&SEQUENCE_ENGINES);
            let parts = *c.random.pick(&[
                "",
                " PARTITION BY SYSTEM_TIME (PARTITION old HISTORY, PARTITION new CURRENT)",
            ]);
            match change {
                Change::Create => {
                    actions.push(sql(format!(
                        "CREATE TABLE {path} {COLUMNS} ENGINE={engine} \
                         WITH SYSTEM VERSIONING{parts}"
                    )));
                    actions.push(rows(c, &path, 10));
                }
                Change::Drop | Change::Alter => actions.push(sql(format!("DROP TABLE {path}"))),
            }
        }
        if change == Change::Alter {
            let place = c.index(self.versioned.len());
            let new = c.fresh("versioned");
            let column = c.plain("z");
            if let Some(name) = self.versioned.get_mut(place) {
                let path = c.own(name);
                actions.push(change_rows(c, std::slice::from_ref(name)));
                actions.push(sql(format!(
                    "ALTER TABLE {path} ADD COLUMN {column} INT NOT NULL DEFAULT 3"
                )));
                actions.push(change_rows(c, std::slice::from_ref(name)));
                actions.push(sql(format!("ALTER TABLE {path} DROP COLUMN {column}")));
                actions.push(sql(format!("RENAME TABLE {path} TO {}", c.own(&new))));
                *name = new;
            }
        }
    }

    fn database(&mut self, change: Change, c: &mut Context, actions: &mut Vec<Action>) {
        let prefix = format!("{}_d", c.schema);
        for (change, name) in come_and_go(c, change, &prefix, &mut self.databases) {
            match change {
                Change::Create => {
                    actions.push(sql(format!("CREATE DATABASE `{name}`")));
                    for (table, engine) in [("i", "InnoDB"), ("a", "Aria")] {
                        let path = quoted(&name, table);
                        actions.push(sql(format!("CREATE TABLE {path} {COLUMNS} ENGINE={engine}")));
                        actions.push(rows(c, &path, 5));
                    }
                }
                Change::Drop | Change::Alter => {
                    actions.push(sql(format!("DROP DATABASE `{name}`")));
                }
            }
        }
        if change == Change::Alter {
            let name = c.random.pick(&self.databases).clone();
            let set = *c.random.pick(&["utf8mb4", "latin1", "utf8mb3"]);
            actions.push(sql(format!("ALTER DATABASE `{name}` CHARACTER SET {set}")));
        }
    }

    /// The tablespace of a table goes and comes back. The contents of files are not in the binary
    /// log, so the table keeps its rows, and nothing of this is logged but in which state it is:
    /// see [`super::imports`].
    fn import(&mut self, c: &mut Context, actions: &mut Vec<Action>) {
        let name = (*c.random.pick(&IMPORTED)).to_owned();
        let path = c.own(&name);
        self.imports += 1;
        let export = self.imports;
        let table = (c.schema.clone(), name.clone());
        let exports = c.own(EXPORTS);
        let unlogged = |text: String| Action::Unlogged(text);
        actions.extend([
            unlogged(format!("FLUSH TABLES {path} FOR EXPORT")),
            Action::CopyOut { table: table.clone(), export },
            unlogged("UNLOCK TABLES".to_owned()),
            sql(format!("REPLACE INTO {exports} VALUES ('{name}', {export}, 1)")),
            unlogged(format!("ALTER TABLE {path} DISCARD TABLESPACE")),
            Action::CopyIn { table, export },
            unlogged(format!("ALTER TABLE {path} IMPORT TABLESPACE")),
            sql(format!("REPLACE INTO {exports} VALUES ('{name}', {export}, 0)")),
            super::tables::change(c, &path),
        ]);
    }
}

/// The table that says which exports there are, and whose tablespace may be away.
pub const EXPORTS: &str = "exports";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Create,
    Drop,
    /// What is there gets another shape or name.
    Alter,
}

/// The objects that come and go so that `change` is possible, and its own one; notes them.
fn come_and_go(
    c: &mut Context,
    change: Change,
    prefix: &str,
    names: &mut Vec<String>,
) -> Vec<(Change, String)> {
    let mut changes = Vec::new();
    let (least, most) = match change {
        Change::Create => (0, MOST - 1),
        Change::Drop => (2, MOST),
        Change::Alter => (1, MOST),
    };
    while names.len() > most {
        changes.extend(c.take(names).map(|name| (Change::Drop, name)));
    }
    let wanted = if change == Change::Create { names.len() + 1 } else { least };
    while names.len() < wanted {
        let name = c.fresh(prefix);
        names.push(name.clone());
        changes.push((Change::Create, name));
    }
    if change == Change::Drop {
        changes.extend(c.take(names).map(|name| (Change::Drop, name)));
    }
    changes
}

/// Tables of engines that know little more than INSERT.
fn simple(
    c: &mut Context,
    change: Change,
    engine: &str,
    names: &mut Vec<String>,
    actions: &mut Vec<Action>,
) {
    for (change, name) in come_and_go(c, change, "plain", names) {
        let path = c.own(&name);
        if change == Change::Create {
            actions.push(sql(format!("CREATE TABLE {path} {COLUMNS} ENGINE={engine}")));
            actions.push(rows(c, &path, 10));
        } else {
            actions.push(sql(format!("DROP TABLE {path}")));
        }
    }
    if change == Change::Alter {
        let place = c.index(names.len());
        let new = c.fresh("plain");
        let column = c.plain("z");
        let Some(name) = names.get_mut(place) else { return };
        let path = c.own(name);
        actions.push(sql(format!("ALTER TABLE {path} ADD COLUMN {column} INT NOT NULL DEFAULT 3")));
        actions.push(rows(c, &path, 3));
        actions.push(sql(format!("ALTER TABLE {path} DROP COLUMN {column}")));
        let verb = if engine == "CSV" { "TRUNCATE" } else { "OPTIMIZE" };
        actions.push(sql(format!("{verb} TABLE {path}")));
        let path = c.own(&new);
        actions.push(sql(format!("RENAME TABLE {} TO {path}", c.own(name))));
        actions.push(rows(c, &path, 3));
        *name = new;
    }
}

/// Some rows for a table with [`COLUMNS`].
fn rows(c: &mut Context, path: &str, count: u64) -> Action {
    let mut text = format!("INSERT INTO {path} (id, k, c) VALUES ");
    for row in 0..count {
        let comma = if row == 0 { "" } else { ", " };
        let (id, k, len) = (c.random.below(1000), c.random.below(1000), c.random.below(60));
        let word = c.random.text(len);
        let _ = write!(text, "{comma}({id}, {k}, '{word}')");
    }
    sql(text)
}

/// A change of rows of one of `names`, which have [`COLUMNS`].
fn change_rows(c: &mut Context, names: &[String]) -> Action {
    let path = any_of(c, names);
    let id = c.random.below(1000);
    let last = id + c.random.below(50);
    match c.random.below(4) {
        0 => {
            let text = c.random.text(30);
            sql(format!(
                "UPDATE {path} SET k = k + 1, c = '{text}' WHERE id BETWEEN {id} AND {last}"
            ))
        }
        1 => sql(format!("DELETE FROM {path} WHERE id BETWEEN {id} AND {last}")),
        _ => rows(c, &path, 5),
    }
}

fn any_of(c: &mut Context, names: &[String]) -> String {
    let name = c.random.pick(names);
    c.own(name)
}
