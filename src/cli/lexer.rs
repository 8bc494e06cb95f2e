//! From a word of the command line or a line of an option file to an option of the table.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::table::{Spec, Table};
use super::value::Given;

/// Prefixes of long names.
const PREFIXES: [(&str, Prefix); 6] = [
    ("skip-", Prefix::Disable),
    ("disable-", Prefix::Disable),
    ("enable-", Prefix::Enable),
    ("maximum-", Prefix::Maximum),
    ("loose-", Prefix::Loose),
    ("autoset-", Prefix::Autoset),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Disable,
    Enable,
    Maximum,
    Loose,
    Autoset,
}

/// A long option, found or not.
#[derive(Debug)]
pub enum Long<'a> {
    /// It is in the table.
    Known(Known<'a>),
    /// It is not.
    Unknown {
        /// It may be unknown: `--loose-`.
        loose: bool,
        /// A value stands beside it.
        has_value: bool,
    },
}

/// A long option of the table.
#[derive(Debug)]
pub struct Known<'a> {
    /// The option.
    pub spec: &'static Spec,
    /// What stands beside its name.
    pub given: Given<'a>,
    /// The option is to choose its own value.
    pub autoset: bool,
    /// Its largest possible value is meant, not its value.
    pub maximum: bool,
}

/// Looks `text` up, which is `name` or `name=value` without the dashes before it. `table`: where
/// to look.
pub fn long(text: &OsStr, table: Table) -> Long<'_> {
    let (name, value) = split(text);
    let find = |name: &str| Spec::find(name).filter(|spec| spec.table.serves(table));
    let name = String::from_utf8_lossy(name).to_lowercase().replace('_', "-");
    let mut rest = name.as_str();
    let mut prefixes = Vec::new();
    loop {
        if let Some(spec) = find(rest) {
            let toggle = |prefix: &&Prefix| matches!(prefix, Prefix::Disable | Prefix::Enable);
            let off = value == Some(OsStr::new("0"));
            let given = match (prefixes.iter().rfind(toggle), value) {
                (Some(prefix), _) if (*prefix == Prefix::Disable) != off => Given::Disabled,
                (Some(_), _) => Given::Enabled,
                (None, Some(value)) => Given::Text(value),
                (None, None) => Given::Nothing,
            };
            let autoset = prefixes.contains(&Prefix::Autoset);
            let maximum = prefixes.contains(&Prefix::Maximum);
            return Long::Known(Known { spec, given, autoset, maximum });
        }
        let stripped = PREFIXES
            .iter()
            .find_map(|(text, prefix)| rest.strip_prefix(text).map(|stripped| (stripped, *prefix)));
        let Some((stripped, prefix)) = stripped else {
            let loose = prefixes.contains(&Prefix::Loose);
            return Long::Unknown { loose, has_value: value.is_some() };
        };
        rest = stripped;
        prefixes.push(prefix);
    }
}

/// Name and value of `name=value`.
pub fn split(text: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = bytes.split_at(at);
            (name, value.split_first().map(|(_, value)| OsStr::from_bytes(value)))
        }
        None => (bytes, None),
    }
}

/// What is left of `word` after `start`.
pub fn strip<'a>(word: &'a OsStr, start: &str) -> Option<&'a OsStr> {
    word.as_bytes().strip_prefix(start.as_bytes()).map(OsStr::from_bytes)
}

/// `name=value` of an option file's line.
pub fn join(name: &OsStr, value: Option<&OsStr>) -> OsString {
    let mut joined = name.as_bytes().to_vec();
    if let Some(value) = value {
        joined.push(b'=');
        joined.extend_from_slice(value.as_bytes());
    }
    OsString::from_vec(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(text: &str) -> (String, String) {
        match long(OsStr::new(text), Table::Both) {
            Long::Known(known) => (known.spec.name.to_owned(), format!("{:?}", known.given)),
            Long::Unknown { .. } => panic!("{text} is unknown"),
        }
    }

    #[test]
    fn names_fold_case_and_underscores() {
        for text in ["target-dir=X", "target_dir=X", "Target_Dir=X"] {
            assert_eq!(known(text), ("target-dir".to_owned(), "Text(\"X\")".to_owned()));
        }
        assert_eq!(known("user=a=b").1, "Text(\"a=b\")");
        assert_eq!(known("user=").1, "Text(\"\")");
        assert_eq!(known("user").1, "Nothing");
    }

    #[test]
    fn prefixes_combine() {
        for (text, given) in [
            ("skip-verbose", "Disabled"),
            ("disable-verbose", "Disabled"),
            ("enable_verbose", "Enabled"),
            ("loose-verbose", "Nothing"),
            ("loose-verbose=0", "Text(\"0\")"),
            ("Loose_Skip_verbose", "Disabled"),
            ("skip-loose-verbose", "Disabled"),
            ("maximum-verbose", "Nothing"),
            ("skip-verbose=1", "Disabled"),
            ("skip-verbose=0", "Enabled"),
            ("enable-verbose=0", "Disabled"),
        ] {
            assert_eq!(known(text), ("verbose".to_owned(), given.to_owned()), "{text}");
        }
    }

    #[test]
    fn abbreviations_and_strangers_are_unknown() {
        for (text, expected) in [
            ("back", (false, false)),
            ("target", (false, false)),
            ("nosuch=1", (false, true)),
            ("skip-nosuch", (false, false)),
            ("loose-nosuch", (true, false)),
            ("skip-loose-nosuch=", (true, true)),
            ("", (false, false)),
            ("=x", (false, true)),
            ("skip-", (false, false)),
        ] {
            match long(OsStr::new(text), Table::Both) {
                Long::Unknown { loose, has_value } => assert_eq!((loose, has_value), expected),
                Long::Known(known) => panic!("{text} is {}", known.spec.name),
            }
        }
    }

    #[test]
    fn tables_are_separate() {
        let found = |text, table| matches!(long(OsStr::new(text), table), Long::Known(_));
        assert!(found("user", Table::Client) && !found("user", Table::Server));
        assert!(found("datadir", Table::Server) && !found("datadir", Table::Client));
        assert!(found("log", Table::Server) && found("log", Table::Client));
        assert!(found("include=x", Table::Innobackupex) && found("user", Table::Innobackupex));
        assert!(!found("include=x", Table::Both) && !found("include=x", Table::Client));
    }
}
