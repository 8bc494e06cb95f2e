//! Names of databases and tables as the server writes them in file names.
//!
//! | Character | In the file name |
//! |---|---|
//! | ASCII letter, digit, `_` | itself |
//! | letter with two cases (Latin, Greek, Cyrillic, ...) | `@` and two characters, listed in `filename_letters.txt` |
//! | any other | `@` and four hexadecimal digits, a UTF-16 code unit |
//!
//! Names that are devices on Windows (`con`) get `@@@` at the end. A file whose name does not
//! decode belongs to a table that SQL calls `#mysql50#` and the file name.
//! Source: the character set `filename` of server 10.11.19; the letters are the output of
//! `CONVERT(CHAR(n USING utf16) USING filename)` for all n.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

/// Marks a character that does not stand for itself.
const ESCAPE: char = '@';

/// Put after a name that is a device on Windows.
const DEVICE_SUFFIX: &str = "@@@";

/// What SQL puts before a file name that does not decode.
const UNDECODABLE_PREFIX: &str = "#mysql50#";

const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// Lines: second character of the escape, then pairs of the first character and the letter.
static LETTERS: LazyLock<HashMap<(char, char), char>> = LazyLock::new(|| {
    let mut letters = HashMap::new();
    for line in include_str!("filename_letters.txt").lines() {
        let mut fields = line.split(' ');
        let Some(second) = fields.next().and_then(|field| field.chars().next()) else { continue };
        for pair in fields {
            let mut chars = pair.chars();
            if let (Some(first), Some(letter)) = (chars.next(), chars.next()) {
                letters.insert((first, second), letter);
            }
        }
    }
    letters
});

static ESCAPES: LazyLock<HashMap<char, (char, char)>> =
    LazyLock::new(|| LETTERS.iter().map(|(&escape, &letter)| (letter, escape)).collect());

/// The identifier whose file is called so, without extension and partition.
///
/// A name that no server writes becomes `#mysql50#` and itself, which SQL understands.
pub fn decode(file_name: &str) -> String {
    try_decode(file_name).unwrap_or_else(|| format!("{UNDECODABLE_PREFIX}{file_name}"))
}

/// As [`decode`]; `None` for a name that no server writes.
pub fn try_decode(file_name: &str) -> Option<String> {
    let encoded = file_name.strip_suffix(DEVICE_SUFFIX).unwrap_or(file_name);
    let mut identifier = String::with_capacity(encoded.len());
    let mut rest = encoded.chars();
    while let Some(c) = rest.next() {
        if is_plain(c) {
            identifier.push(c);
        } else if c == ESCAPE {
            let escape = rest.as_str();
            if let Some(letter) = letter(escape) {
                identifier.push(letter);
                rest = escape.get(2..)?.chars();
            } else {
                let digits =
                    escape.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
                let unit = u32::from_str_radix(digits, 16).ok()?;
                identifier.push(char::from_u32(unit)?);
                rest = escape.get(4..)?.chars();
            }
        } else {
            return None;
        }
    }
    (!identifier.is_empty()).then_some(identifier)
}

fn letter(escape: &str) -> Option<char> {
    let mut chars = escape.chars();
    LETTERS.get(&(chars.next()?, chars.next()?)).copied()
}

/// The file name, without extension, of an identifier.
pub fn encode(identifier: &str) -> String {
    if let Some(file_name) = identifier.strip_prefix(UNDECODABLE_PREFIX) {
        return file_name.to_owned();
    }
    let mut file_name = String::with_capacity(identifier.len());
    for c in identifier.chars() {
        if is_plain(c) {
            file_name.push(c);
        } else if let Some(&(first, second)) = ESCAPES.get(&c) {
            file_name.extend([ESCAPE, first, second]);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(file_name, "{ESCAPE}{unit:04x}");
            }
        }
    }
    if is_device(&file_name) {
        file_name.push_str(DEVICE_SUFFIX);
    }
    file_name
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_device(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let numbered = |device: &&str| {
        upper.strip_prefix(*device).is_some_and(|number| matches!(number.as_bytes(), [b'1'..=b'9']))
    };
    DEVICES.contains(&upper.as_str()) || NUMBERED_DEVICES.iter().any(numbered)
}

/// A table by the names that SQL knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    database: String,
    table: String,
}

impl TableName {
    /// From identifiers.
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self { database: database.into(), table: table.into() }
    }

    /// From the name of a database's folder and the name of a file in it without its extension,
    /// which may name a partition (`t1#P#p0`).
    pub fn from_file_names(folder: &str, stem: &str) -> Self {
        let table = partition_at(stem).and_then(|at| stem.get(..at)).unwrap_or(stem);
        Self { database: decode(folder), table: decode(table) }
    }

    /// Identifier of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Identifier of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Both identifiers in backquotes.
    pub fn quoted(&self) -> String {
        let quoted = crate::session::quoted;
        format!("{}.{}", quoted(&self.database), quoted(&self.table))
    }
}

/// Where the partition's part of a file name starts: at `#P#` or, on some systems, `#p#`.
fn partition_at(stem: &str) -> Option<usize> {
    stem.find("#P#").into_iter().chain(stem.find("#p#")).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identifiers and the files that server 10.11.19 made for them.
    const NAMES: [(&str, &str); 17] = [
        ("t1", "t1"),
        ("a b-c.ä€", "a@0020b@002dc@002e@0k@20ac"),
        ("ü-1", "@1o@002d1"),
        ("x@y#z`q", "x@0040y@0023z@0060q"),
        ("CLOCK$", "CLOCK@0024"),
        ("a/b", "a@002fb"),
        ("日本", "@65e5@672c"),
        ("pä", "p@0k"),
        ("Ԁ", "@P6"),
        ("Ⅳ", "@J9"),
        ("con", "con@@@"),
        ("Aux", "Aux@@@"),
        ("com1", "com1@@@"),
        ("lpt9", "lpt9@@@"),
        ("com0", "com0"),
        ("com10", "com10"),
        ("con x", "con@0020x"),
    ];

    #[test]
    fn names_of_a_server_both_ways() {
        for (identifier, file_name) in NAMES {
            assert_eq!(encode(identifier), file_name);
            assert_eq!(decode(file_name), identifier);
        }
    }

    #[test]
    fn all_letters_are_listed() {
        assert_eq!(LETTERS.len(), 1510);
        assert_eq!(ESCAPES.len(), 1510);
    }

    #[test]
    fn every_character_round_trips() {
        for c in (1..=0xffff).filter_map(char::from_u32) {
            let name = c.to_string();
            assert_eq!(try_decode(&encode(&name)), Some(name), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn files_of_no_table_keep_their_name() {
        for name in ["x@y", "a-b", "#sql-1", "@", "@0", "@002", "@d800", "t@@@@", "ä", "@00zz", ""]
        {
            assert_eq!(try_decode(name), None, "{name}");
            assert_eq!(decode(name), format!("#mysql50#{name}"));
            assert_eq!(encode(&decode(name)), name);
        }
    }

    #[test]
    fn tables_of_files() {
        let table = TableName::from_file_names("@1o@002d1", "@65e5@672c#P#p0");
        assert_eq!(table, TableName::new("ü-1", "日本"));
        assert_eq!(table.quoted(), "`ü-1`.`日本`");
        assert_eq!(TableName::from_file_names("d", "x#p#a#sp#b").table(), "x");
        assert_eq!(TableName::new("a`", "b").quoted(), "`a```.`b`");
    }
}
