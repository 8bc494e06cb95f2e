//! Values of the options once the command line and the option files were read.

use std::collections::HashMap;
use std::ffi::OsStr;

use super::table::Spec;
use super::value::{self, Value};

/// Where a value comes from; the greatest wins, and of equals the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `[mysqld]` and its relatives.
    ServerGroup,
    /// `[client]` and its relatives.
    ClientGroup,
    /// `[mariabackup]` and its relatives.
    BackupGroup,
    /// `backup-my.cnf` of the backup that is prepared.
    Backup,
    /// The command line.
    CommandLine,
    /// The command line after `--mysqld-args`.
    ServerArguments,
}

/// Values of all options.
#[derive(Debug, Default)]
pub struct Settings {
    values: HashMap<&'static str, (Value, Origin)>,
    /// Every value that was given, also those that others go before.
    given: Vec<(&'static Spec, Value, Origin)>,
}

impl Settings {
    /// Sets the option, unless a greater origin has set it.
    pub fn set(&mut self, spec: &'static Spec, value: Value, origin: Origin) {
        self.given.push((spec, value.clone(), origin));
        let name = spec.alias_of.unwrap_or(spec.name);
        if self.origin(name).is_none_or(|known| known <= origin) {
            self.values.insert(name, (value, origin));
        }
    }

    /// Sets the option `name`, whatever has set it before.
    pub fn force(&mut self, name: &'static str, value: Value) {
        debug_assert!(Spec::find(name).is_some(), "--{name} is not in the table");
        self.values.insert(name, (value, Origin::CommandLine));
    }

    /// The options that `origin` gives, in its order.
    pub fn given(&self, origin: Origin) -> impl Iterator<Item = (&'static Spec, &Value)> {
        let given = self.given.iter().filter(move |(_, _, at)| *at == origin);
        given.map(|(spec, value, _)| (*spec, value))
    }

    /// Where the value of `name` comes from; `None` if it is the default.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        self.values.get(name).map(|(_, origin)| *origin)
    }

    /// Value of `name`, which is in the table.
    pub fn value(&self, name: &str) -> Value {
        let spec = Spec::find(name);
        debug_assert!(spec.is_some(), "--{name} is not in the table");
        match self.values.get(name) {
            Some((value, _)) => value.clone(),
            None => spec.map_or(Value::Unset, value::default_of),
        }
    }

    /// Whether the flag `name` is set.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name) == Value::Flag(true)
    }

    /// The flag `name`, if anything sets it.
    pub fn flag_if_set(&self, name: &str) -> Option<bool> {
        self.origin(name).map(|_| self.flag(name))
    }

    /// Text of `name`, if it has one and is not empty.
    pub fn text(&self, name: &str) -> Option<std::ffi::OsString> {
        match self.value(name) {
            Value::Text(text) if text != OsStr::new("") => Some(text),
            _ => None,
        }
    }

    /// The number `name`, if it has a value.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }
}
