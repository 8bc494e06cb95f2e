//! Ordinary tables of InnoDB, Aria and MyISAM, inside and outside of the data directory.

use crate::workload;

use super::kind::Kind;
use super::step::{Action, Context, quoted, sql};

/// How many tables are left when some are dropped.
const FEWEST: usize = 12;
/// Columns that ALTER adds to a table before it takes them away.
const MOST_COLUMNS: usize = 3;
/// Rows of a bulk insert.
const BULK_ROWS: u64 = 600;

/// Engine and row format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    Redundant,
    Compact,
    Dynamic,
    Compressed,
    AriaTransactional,
    AriaPages,
    AriaPlain,
    MyIsam,
}

const INNODB: [Storage; 4] =
    [Storage::Redundant, Storage::Compact, Storage::Dynamic, Storage::Compressed];
const OTHERS: [Storage; 4] =
    [Storage::AriaTransactional, Storage::AriaPages, Storage::AriaPlain, Storage::MyIsam];

impl Storage {
    fn is_innodb(self) -> bool {
        INNODB.contains(&self)
    }

    /// All options are named, so that none is left over from another engine.
    fn options(self) -> &'static str {
        match self {
            Self::Redundant => "ENGINE=InnoDB ROW_FORMAT=REDUNDANT KEY_BLOCK_SIZE=0",
            Self::Compact => "ENGINE=InnoDB ROW_FORMAT=COMPACT KEY_BLOCK_SIZE=0",
            Self::Dynamic => "ENGINE=InnoDB ROW_FORMAT=DYNAMIC KEY_BLOCK_SIZE=0",
            Self::Compressed => "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
            Self::AriaTransactional => {
                "ENGINE=Aria ROW_FORMAT=DEFAULT KEY_BLOCK_SIZE=0 TRANSACTIONAL=1"
            }
            Self::AriaPages => "ENGINE=Aria ROW_FORMAT=PAGE KEY_BLOCK_SIZE=0 TRANSACTIONAL=0",
            Self::AriaPlain => "ENGINE=Aria ROW_FORMAT=DYNAMIC KEY_BLOCK_SIZE=0 TRANSACTIONAL=0",
            Self::MyIsam => "ENGINE=MyISAM ROW_FORMAT=DEFAULT KEY_BLOCK_SIZE=0",
        }
    }
}

/// Whether a table has a full-text index. A hidden column for one stays after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fulltext {
    Never,
    Now,
    Before,
}

#[derive(Debug, Clone)]
struct Table {
    schema: String,
    name: String,
    storage: Storage,
    /// Columns added by ALTER.
    columns: Vec<String>,
    /// The type of column `k`.
    k: &'static str,
    indexed: bool,
    fulltext: Fulltext,
    elsewhere: bool,
}

impl Table {
    fn path(&self) -> String {
        quoted(&self.schema, &self.name)
    }

    fn create(&self, c: &Context) -> String {
        let elsewhere = if self.elsewhere {
            format!(" DATA DIRECTORY='{}'", c.elsewhere)
        } else {
            String::new()
        };
        format!("{} {}{elsewhere}", create(&self.path()), self.storage.options())
    }

    /// As after CREATE TABLE.
    fn reset(&mut self, storage: Storage) {
        self.storage = storage;
        self.columns.clear();
        self.k = "INT";
        self.indexed = false;
        self.fulltext = Fulltext::Never;
    }
}

/// The statement that creates an ordinary table, without its options.
pub fn create(path: &str) -> String {
    format!(
        "CREATE TABLE {path} (id BIGINT NOT NULL PRIMARY KEY, k INT NOT NULL, \
         c VARCHAR(200) NOT NULL, b MEDIUMBLOB, KEY (k), KEY (c(20), k))"
    )
}

/// Some rows for a table.
pub fn fill(c: &mut Context, path: &str, first: u64, rows: u64) -> Action {
    let ids = first..first + 2000;
    sql(workload::insert("INSERT IGNORE INTO", path, &mut c.random, ids, 0..1000, rows))
}

/// A change of some rows.
pub fn change(c: &mut Context, path: &str) -> Action {
    Action::Contended(workload::statement(&mut c.random, path))
}

/// The tables of one worker.
#[derive(Debug, Default)]
pub struct Tables {
    tables: Vec<Table>,
    elsewhere: Vec<Table>,
}

impl Tables {
    /// Creates the first tables.
    pub fn set_up(&mut self, c: &mut Context) -> Vec<Action> {
        let mut actions = Vec::new();
        for storage in INNODB.into_iter().chain(OTHERS).cycle().take(FEWEST + 4) {
            self.add(c, storage, &mut actions);
        }
        for _ in 0..2 {
            self.add_elsewhere(c, &mut actions);
        }
        actions
    }

    /// The names of all tables.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.tables.iter().chain(&self.elsewhere).map(Table::path)
    }

    /// A statement on the rows of one table, of InnoDB if `transactional`.
    pub fn dml(&mut self, c: &mut Context, transactional: bool) -> Action {
        let tables: Vec<&Table> = self
            .tables
            .iter()
            .chain(&self.elsewhere)
            .filter(|table| !transactional || table.storage.is_innodb())
            .collect();
        match tables.get(c.index(tables.len().max(1))) {
            Some(table) => change(c, &table.path()),
            None => sql("DO 1"),
        }
    }

    /// A step of a kind that is about ordinary tables.
    pub fn step(&mut self, kind: Kind, c: &mut Context) -> Vec<Action> {
        let mut actions = Vec::new();
        let path = match kind {
            Kind::CreateInnodb => self.create_new(c, &INNODB, &mut actions),
            Kind::CreateOther => self.create_new(c, &OTHERS, &mut actions),
            Kind::CreateOrReplace => self.create_or_replace(c, &mut actions),
            Kind::CreateLike => self.create_like(c, &mut actions),
            Kind::CreateSelect => self.create_select(c, &mut actions),
            Kind::Drop => self.drop_some(c, 1, &mut actions),
            Kind::DropMany => self.drop_some(c, 4, &mut actions),
            Kind::Rename | Kind::RenameAcross => self.rename(c, kind, &mut actions),
            Kind::RenameChain => Some(self.rename_chain(c, &mut actions)),
            Kind::RenameCircle => self.rename_circle(c, &mut actions),
            Kind::RenameAndCreate => self.rename_and_create(c, &mut actions),
            Kind::TruncateInnodb => self.truncate(c, &INNODB, &mut actions),
            Kind::TruncateOther => self.truncate(c, &OTHERS, &mut actions),
            Kind::BulkInsertInnodb => self.bulk_insert(c, &INNODB, &mut actions),
            Kind::BulkInsertOther => self.bulk_insert(c, &OTHERS, &mut actions),
            Kind::ConvertFromInnodb => self.convert(c, &INNODB, &OTHERS, &mut actions),
            Kind::ConvertToInnodb => self.convert(c, &OTHERS, &INNODB, &mut actions),
            Kind::ConvertOther => self.convert(c, &OTHERS, &OTHERS, &mut actions),
            Kind::AlterRowFormat => self.alter_row_format(c, &mut actions),
            Kind::AlterInstantAdd | Kind::AlterInstantDrop => {
                self.alter_instant(c, kind, &mut actions)
            }
            Kind::ElsewhereCreate
            | Kind::ElsewhereRename
            | Kind::ElsewhereTruncate
            | Kind::ElsewhereRebuild
            | Kind::ElsewhereDrop => self.elsewhere(c, kind, &mut actions),
            _ => self.alter(c, kind, &mut actions),
        };
        if let Some(path) = path {
            actions.push(change(c, &path));
        }
        actions
    }

    fn add(&mut self, c: &mut Context, storage: Storage, actions: &mut Vec<Action>) -> usize {
        let table = Table {
            schema: c.any_schema(),
            name: c.fresh("t"),
            storage,
            columns: Vec::new(),
            k: "INT",
            indexed: false,
            fulltext: Fulltext::Never,
            elsewhere: false,
        };
        actions.push(sql(table.create(c)));
        actions.push(fill(c, &table.path(), 0, 20));
        self.tables.push(table);
        self.tables.len() - 1
    }

    /// The place of a table that is stored in one of these ways, created if need be.
    fn find(&mut self, c: &mut Context, of: &[Storage], actions: &mut Vec<Action>) -> usize {
        self.find_with(c, of, |_| true, actions)
    }

    fn find_with(
        &mut self,
        c: &mut Context,
        of: &[Storage],
        condition: impl Fn(&Table) -> bool,
        actions: &mut Vec<Action>,
    ) -> usize {
        let found: Vec<usize> = self
            .tables
            .iter()
            .enumerate()
            .filter(|(_, table)| of.contains(&table.storage) && condition(table))
            .map(|(place, _)| place)
            .collect();
        if found.is_empty() {
            let storage = *c.random.pick(of);
            self.add(c, storage, actions)
        } else {
            *c.random.pick(&found)
        }
    }

    fn any(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> usize {
        let all: Vec<Storage> = INNODB.into_iter().chain(OTHERS).collect();
        self.find(c, &all, actions)
    }

    fn create_new(
        &mut self,
        c: &mut Context,
        of: &[Storage],
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        let storage = *c.random.pick(of);
        let place = self.add(c, storage, actions);
        self.tables.get(place).map(Table::path)
    }

    fn create_or_replace(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> Option<String> {
        let place = self.any(c, actions);
        let of = if c.random.below(2) == 0 { &INNODB } else { &OTHERS };
        let storage = *c.random.pick(of);
        let table = self.tables.get_mut(place)?;
        table.reset(storage);
        actions.push(sql(table.create(c).replacen("CREATE", "CREATE OR REPLACE", 1)));
        let path = table.path();
        actions.push(fill(c, &path, 0, 10));
        Some(path)
    }

    fn create_like(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> Option<String> {
        let place = self.any(c, actions);
        let like = self.tables.get(place)?.clone();
        let table = Table { schema: c.any_schema(), name: c.fresh("l"), ..like.clone() };
        let path = table.path();
        actions.push(sql(format!("CREATE TABLE {path} LIKE {}", like.path())));
        actions.push(fill(c, &path, 0, 10));
        self.tables.push(table);
        Some(path)
    }

    fn create_select(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> Option<String> {
        let place = self.any(c, actions);
        let from = self.tables.get(place)?.path();
        let of = if c.random.below(2) == 0 { &INNODB } else { &OTHERS };
        let table = Table {
            schema: c.any_schema(),
            name: c.fresh("s"),
            storage: *c.random.pick(of),
            columns: Vec::new(),
            k: "INT",
            indexed: false,
            fulltext: Fulltext::Never,
            elsewhere: false,
        };
        let path = table.path();
        actions.push(sql(format!(
            "CREATE TABLE {path} (PRIMARY KEY (id), KEY (k), KEY (c(20), k)) {} \
             AS SELECT id, k, c, b FROM {from}",
            table.storage.options()
        )));
        self.tables.push(table);
        Some(path)
    }

    fn drop_some(
        &mut self,
        c: &mut Context,
        count: usize,
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        while self.tables.len() < FEWEST + count {
            let of = if c.random.below(2) == 0 { &INNODB } else { &OTHERS };
            let storage = *c.random.pick(of);
            self.add(c, storage, actions);
        }
        let dropped: Vec<String> =
            (0..count).filter_map(|_| c.take(&mut self.tables)).map(|table| table.path()).collect();
        actions.push(sql(format!("DROP TABLE {}", dropped.join(", "))));
        None
    }

    fn rename(&mut self, c: &mut Context, kind: Kind, actions: &mut Vec<Action>) -> Option<String> {
        let place = self.any(c, actions);
        let table = self.tables.get_mut(place)?;
        rename(c, table, kind == Kind::RenameAcross, actions);
        Some(table.path())
    }

    /// a to n, b to a, c to b: names change hands, in one statement or in several.
    fn rename_chain(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> String {
        let mut tables: Vec<Table> = (0..3).filter_map(|_| c.take(&mut self.tables)).collect();
        let mut free = (c.any_schema(), c.fresh("n"));
        let path = quoted(&free.0, &free.1);
        let mut renames = Vec::new();
        for table in &mut tables {
            let from = table.path();
            let old = (table.schema.clone(), table.name.clone());
            (table.schema, table.name) = free;
            free = old;
            renames.push(format!("{from} TO {}", table.path()));
        }
        self.tables.extend(tables);
        if c.random.below(2) == 0 {
            actions.push(sql(format!("RENAME TABLE {}", renames.join(", "))));
        } else {
            actions.extend(renames.iter().map(|rename| sql(format!("RENAME TABLE {rename}"))));
        }
        path
    }

    /// Three tables exchange their names.
    fn rename_circle(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> Option<String> {
        let mut tables: Vec<Table> = (0..3).filter_map(|_| c.take(&mut self.tables)).collect();
        let names: Vec<_> =
            tables.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
        let between = c.own("between");
        let paths: Vec<String> = tables.iter().map(Table::path).collect();
        let mut renames = Vec::new();
        renames.push(format!("{} TO {between}", paths.first()?));
        for pair in paths.windows(2) {
            if let [to, from] = pair {
                renames.push(format!("{from} TO {to}"));
            }
        }
        renames.push(format!("{between} TO {}", paths.last()?));
        actions.push(sql(format!("RENAME TABLE {}", renames.join(", "))));
        let count = names.len();
        for (place, table) in tables.iter_mut().enumerate() {
            let name = names.get((place + count - 1) % count)?;
            (table.schema, table.name) = name.clone();
        }
        self.tables.extend(tables);
        paths.into_iter().next()
    }

    /// A table goes away from its name, which a new one takes.
    fn rename_and_create(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> Option<String> {
        let place = self.any(c, actions);
        let table = self.tables.get_mut(place)?;
        let mut new = table.clone();
        rename(c, table, false, actions);
        new.reset(*c.random.pick(&INNODB));
        actions.push(sql(new.create(c)));
        let path = new.path();
        actions.push(fill(c, &path, 0, 10));
        self.tables.push(new);
        Some(path)
    }

    fn truncate(
        &mut self,
        c: &mut Context,
        of: &[Storage],
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        let place = self.find(c, of, actions);
        let path = self.tables.get(place)?.path();
        actions.push(sql(format!("TRUNCATE TABLE {path}")));
        actions.push(fill(c, &path, 0, 10));
        Some(path)
    }

    /// Many rows for an empty table, in one statement and without checks: engines have ways of
    /// their own for that.
    fn bulk_insert(
        &mut self,
        c: &mut Context,
        of: &[Storage],
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        let place = self.find(c, of, actions);
        let path = self.tables.get(place)?.path();
        actions.push(sql(format!("TRUNCATE TABLE {path}")));
        actions.push(sql("SET SESSION unique_checks=0, foreign_key_checks=0"));
        actions.push(sql(format!(
            "INSERT INTO {path} (id, k, c, b) SELECT seq, seq % 1000, MD5(seq), \
             REPEAT(SHA2(seq, 512), seq % 7) FROM seq_1_to_{BULK_ROWS}"
        )));
        actions.push(sql("SET SESSION unique_checks=1, foreign_key_checks=1"));
        Some(path)
    }

    fn convert(
        &mut self,
        c: &mut Context,
        from: &[Storage],
        to: &[Storage],
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        let place = self.find(c, from, actions);
        let table = self.tables.get_mut(place)?;
        let to: Vec<Storage> =
            to.iter().copied().filter(|storage| *storage != table.storage).collect();
        table.storage = *c.random.pick(&to);
        let path = table.path();
        actions.push(sql(format!("ALTER TABLE {path} {}", table.storage.options())));
        Some(path)
    }

    fn alter_row_format(&mut self, c: &mut Context, actions: &mut Vec<Action>) -> Option<String> {
        let place = self.find(c, &INNODB, actions);
        let table = self.tables.get_mut(place)?;
        let to: Vec<Storage> =
            INNODB.into_iter().filter(|storage| *storage != table.storage).collect();
        table.storage = *c.random.pick(&to);
        let (path, options) = (table.path(), table.storage.options());
        let options = options.strip_prefix("ENGINE=InnoDB ").unwrap_or(options);
        actions.push(sql(format!("ALTER TABLE {path} {options}, ALGORITHM=INPLACE")));
        Some(path)
    }

    fn alter_instant(
        &mut self,
        c: &mut Context,
        kind: Kind,
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        let formats = [Storage::Redundant, Storage::Compact, Storage::Dynamic];
        let adds = kind == Kind::AlterInstantAdd;
        let fits = |table: &Table| {
            let count = table.columns.len();
            table.fulltext == Fulltext::Never && if adds { count < MOST_COLUMNS } else { count > 0 }
        };
        let place = self.find_with(c, &formats, fits, actions);
        let column = c.plain("x");
        let after = ["", " FIRST", " AFTER id"];
        let after = c.random.pick::<&str>(&after);
        let table = self.tables.get_mut(place)?;
        let path = table.path();
        if adds || table.columns.is_empty() {
            actions.push(sql(format!(
                "ALTER TABLE {path} ADD COLUMN {column} VARCHAR(20) NOT NULL \
                 DEFAULT 'instant'{after}, ALGORITHM=INSTANT"
            )));
            actions.push(change(c, &path));
            table.columns.push(column);
        }
        if !adds {
            let column = c.take(&mut table.columns)?;
            actions
                .push(sql(format!("ALTER TABLE {path} DROP COLUMN {column}, ALGORITHM=INSTANT")));
        }
        Some(path)
    }

    /// What ALTER and OPTIMIZE do to a table of any engine.
    fn alter(&mut self, c: &mut Context, kind: Kind, actions: &mut Vec<Action>) -> Option<String> {
        let place = if kind == Kind::AlterInplace {
            self.find(c, &INNODB, actions)
        } else {
            self.any(c, actions)
        };
        let table = self.tables.get_mut(place)?;
        let path = table.path();
        let add_or_drop = |has: bool, add: bool, what: &str, name: &str| {
            let mut statements = Vec::new();
            // What is to be added must not be there, what is to be dropped must.
            if has == add {
                let change = if add { format!("DROP KEY {name}") } else { format!("ADD {what}") };
                statements.push(sql(format!("ALTER TABLE {path} {change}")));
            }
            let change = if add { format!("ADD {what}") } else { format!("DROP KEY {name}") };
            statements.push(sql(format!("ALTER TABLE {path} {change}")));
            statements
        };
        match kind {
            Kind::AlterCopy => {
                table.k = if table.k == "INT" { "BIGINT" } else { "INT" };
                actions.push(sql(format!(
                    "ALTER TABLE {path} MODIFY COLUMN k {} NOT NULL, ALGORITHM=COPY",
                    table.k
                )));
            }
            Kind::AlterInplace => {
                let change = if table.columns.len() < MOST_COLUMNS {
                    let column = c.plain("y");
                    table.columns.push(column.clone());
                    format!("ADD COLUMN {column} INT NOT NULL DEFAULT 7")
                } else {
                    format!("DROP COLUMN {}", c.take(&mut table.columns)?)
                };
                actions.push(sql(format!("ALTER TABLE {path} {change}, FORCE, ALGORITHM=INPLACE")));
            }
            Kind::Force => actions.push(sql(format!("ALTER TABLE {path} FORCE"))),
            Kind::Optimize => actions.push(sql(format!("OPTIMIZE TABLE {path}"))),
            Kind::AddIndex | Kind::DropIndex => {
                let add = kind == Kind::AddIndex;
                actions.extend(add_or_drop(table.indexed, add, "KEY extra (k, c(50))", "extra"));
                table.indexed = add;
            }
            Kind::AddFulltext | Kind::DropFulltext => {
                let add = kind == Kind::AddFulltext;
                let has = table.fulltext == Fulltext::Now;
                actions.extend(add_or_drop(has, add, "FULLTEXT KEY words (c)", "words"));
                table.fulltext = if add { Fulltext::Now } else { Fulltext::Before };
            }
            _ => unreachable!("{kind} is not about ordinary tables"),
        }
        Some(path)
    }

    fn add_elsewhere(&mut self, c: &mut Context, actions: &mut Vec<Action>) {
        let formats = [Storage::Redundant, Storage::Compact, Storage::Dynamic];
        let table = Table {
            schema: c.any_schema(),
            name: c.fresh("e"),
            storage: *c.random.pick(&formats),
            columns: Vec::new(),
            k: "INT",
            indexed: false,
            fulltext: Fulltext::Never,
            elsewhere: true,
        };
        actions.push(sql(table.create(c)));
        actions.push(fill(c, &table.path(), 0, 20));
        self.elsewhere.push(table);
    }

    /// Tables with DATA DIRECTORY.
    fn elsewhere(
        &mut self,
        c: &mut Context,
        kind: Kind,
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        if kind == Kind::ElsewhereCreate || self.elsewhere.is_empty() {
            self.add_elsewhere(c, actions);
        }
        let place = c.index(self.elsewhere.len());
        if kind == Kind::ElsewhereDrop {
            let table = self.elsewhere.swap_remove(place);
            actions.push(sql(format!("DROP TABLE {}", table.path())));
            return None;
        }
        let table = self.elsewhere.get_mut(place)?;
        match kind {
            Kind::ElsewhereRename => {
                // Not into another database: the server then looks for the tablespace in the wrong
                // place when it is started again (10.11, 11.8).
                rename(c, table, false, actions);
            }
            Kind::ElsewhereTruncate => {
                actions.push(sql(format!("TRUNCATE TABLE {}", table.path())));
                actions.push(fill(c, &table.path(), 0, 10));
            }
            Kind::ElsewhereRebuild => {
                actions.push(sql(format!("ALTER TABLE {} FORCE", table.path())));
            }
            _ => {}
        }
        Some(table.path())
    }
}

fn rename(c: &mut Context, table: &mut Table, across: bool, actions: &mut Vec<Action>) {
    let from = table.path();
    if across {
        let main = c.schema.clone();
        table.schema = if table.schema == main { main + "b" } else { main };
    }
    // Now and then under its own name, if it goes to another schema.
    if !across || c.random.below(2) == 0 {
        table.name = c.fresh("n");
    }
    actions.push(sql(format!("RENAME TABLE {from} TO {}", table.path())));
}
