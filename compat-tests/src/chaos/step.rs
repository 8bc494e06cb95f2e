//! What the planner hands to a worker: steps of statements and file copies.

use crate::random::Random;

use super::kind::Kind;

/// Statements that belong together.
#[derive(Debug, Clone)]
pub struct Step {
    /// What they are.
    pub kind: Kind,
    /// In order.
    pub actions: Vec<Action>,
}

/// One thing a worker does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A statement on tables of the worker's own, which must succeed.
    Sql(String),
    /// A statement that may lose against another client's, or find no partition for a row.
    Contended(String),
    /// A statement that is kept out of the binary log.
    Unlogged(String),
    /// Copies the exported files of the table with this name and path away.
    CopyOut {
        /// Schema and table, of plain letters.
        table: (String, String),
        /// Number of the export.
        export: u64,
    },
    /// Copies the files of an export in the place of the table's.
    CopyIn {
        /// Schema and table, of plain letters.
        table: (String, String),
        /// Number of the export.
        export: u64,
    },
}

/// A statement that must succeed.
pub fn sql(text: impl Into<String>) -> Action {
    Action::Sql(text.into())
}

/// What all families of tables of a worker share.
#[derive(Debug)]
pub struct Context {
    /// Decides everything.
    pub random: Random,
    /// The worker's main schema; the other one has `b` after it.
    pub schema: String,
    /// Where tables outside of the data directory are, the server's own folder being `{dir}`.
    pub elsewhere: String,
    next_name: u64,
}

impl Context {
    /// For the worker `number` of the run with `seed`.
    pub fn new(seed: u64, number: u64, elsewhere: String) -> Self {
        let random = Random::new(seed.wrapping_mul(1000).wrapping_add(500 + number));
        Self { random, schema: format!("w{number}"), elsewhere, next_name: 0 }
    }

    /// A name that nothing had before; now and then one that is encoded in file names.
    pub fn fresh(&mut self, prefix: &str) -> String {
        let name = self.plain(prefix);
        if self.random.below(5) == 0 { name + " é#$" } else { name }
    }

    /// A name of plain letters that nothing had before.
    pub fn plain(&mut self, prefix: &str) -> String {
        self.next_name += 1;
        format!("{prefix}{}", self.next_name)
    }

    /// One of two schemas.
    pub fn any_schema(&mut self) -> String {
        let schema = self.schema.clone();
        if self.random.below(4) == 0 { schema + "b" } else { schema }
    }

    /// `name` in the worker's main schema, quoted.
    pub fn own(&self, name: &str) -> String {
        quoted(&self.schema, name)
    }

    /// Takes a random item out of `items`.
    pub fn take<T>(&mut self, items: &mut Vec<T>) -> Option<T> {
        if items.is_empty() {
            return None;
        }
        Some(items.swap_remove(self.index(items.len())))
    }

    /// The place of a random item in a list of `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.random.below(len as u64)).expect("below a usize")
    }
}

/// A name with its schema.
pub fn quoted(schema: &str, name: &str) -> String {
    format!("`{schema}`.`{name}`")
}
