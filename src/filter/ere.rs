//! POSIX extended regular expressions as `regcomp` of the GNU C library takes them, for byte strings
//! in the C locale: parsed here, with the same error texts, and run by `regex`.
//!
//! Only whether a pattern is found anywhere counts, so that which of several matches is the longest
//! does not matter. Back-references, an extension, are refused. The extensions `\w`, `\W`, `\s`, `\S`,
//! `\b`, `\B`, `\<`, `\>`, `` \` `` and `\'` are taken; any other escaped character is itself, `\d` too.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

/// Largest number in an interval (`RE_DUP_MAX`).
const REPEAT_MAX: u32 = 0x7fff;
/// Longest name of a character class or collating symbol.
const CLASS_NAME_MAX: usize = 32;

/// Why a pattern is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EreError {
    /// `REG_BADPAT`
    #[error("Invalid regular expression")]
    Pattern,
    /// `REG_ECOLLATE`
    #[error("Invalid collation character")]
    Collation,
    /// `REG_ECTYPE`
    #[error("Invalid character class name")]
    Class,
    /// `REG_EESCAPE`
    #[error("Trailing backslash")]
    Backslash,
    /// `REG_ESUBREG`
    #[error("Invalid back reference")]
    BackReference,
    /// Valid, but not supported here.
    #[error("back-references are not supported")]
    NoBackReferences,
    /// `REG_EBRACK`
    #[error("Unmatched [, [^, [:, [., or [=")]
    Bracket,
    /// `REG_EPAREN`
    #[error("Unmatched ( or \\(")]
    Parenthesis,
    /// `REG_EBRACE`
    #[error("Unmatched \\{{")]
    Brace,
    /// `REG_BADBR`
    #[error("Invalid content of \\{{\\}}")]
    Interval,
    /// `REG_ERANGE`
    #[error("Invalid range end")]
    Range,
    /// `REG_BADRPT`
    #[error("Invalid preceding regular expression")]
    Repetition,
    /// `REG_ESIZE`
    #[error("Regular expression too big")]
    Size,
}

/// The pattern as one that `regex` runs.
///
/// # Errors
///
/// [`EreError`]
pub fn compile(pattern: &[u8]) -> Result<Regex, EreError> {
    let mut parser = Parser { rest: pattern, out: String::new(), groups: 0, completed: 0 };
    parser.alternatives(0)?;
    let built = RegexBuilder::new(&parser.out).unicode(false).dot_matches_new_line(true).build();
    built.map_err(|_| EreError::Size)
}

/// Translates while it reads.
struct Parser<'a> {
    rest: &'a [u8],
    out: String,
    /// Groups that were begun.
    groups: u32,
    /// Bits: groups that were ended, which a back-reference can name.
    completed: u16,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Branches with `|` between, up to the end, or to the `)` of the group.
    fn alternatives(&mut self, depth: usize) -> Result<(), EreError> {
        // What `regex` would refuse too; the library runs out of its stack.
        if depth > 100 {
            return Err(EreError::Size);
        }
        loop {
            match self.peek() {
                None => return Ok(()),
                Some(b')') if depth > 0 => return Ok(()),
                Some(b'|') => {
                    self.next();
                    self.out.push('|');
                }
                Some(_) => self.expression(depth)?,
            }
        }
    }

    /// One thing and what repeats it.
    fn expression(&mut self, depth: usize) -> Result<(), EreError> {
        // Nothing can repeat these.
        if let Some(anchor) = self.anchor() {
            self.out.push_str(anchor);
            return Ok(());
        }
        let start = self.out.len();
        match self.next() {
            Some(b'*' | b'+' | b'?' | b'{') => return Err(EreError::Repetition),
            Some(b'(') => self.group(depth)?,
            Some(b'[') => self.bracket()?,
            Some(b'.') => self.out.push_str("[^\\x00]"),
            Some(b'\\') => match self.next() {
                None => return Err(EreError::Backslash),
                Some(b'w') => self.out.push_str("[0-9A-Za-z_]"),
                Some(b'W') => self.out.push_str("[^0-9A-Za-z_]"),
                Some(b's') => self.out.push_str("[[:space:]]"),
                Some(b'S') => self.out.push_str("[^[:space:]]"),
                Some(digit @ b'1'..=b'9') => {
                    let is_known = self.completed & 1 << (digit - b'0') != 0;
                    return Err(if is_known {
                        EreError::NoBackReferences
                    } else {
                        EreError::BackReference
                    });
                }
                Some(byte) => self.byte(byte),
            },
            Some(byte) => self.byte(byte),
            None => {}
        }
        loop {
            let count = match self.peek() {
                Some(b'*') => "*".to_owned(),
                Some(b'+') => "+".to_owned(),
                Some(b'?') => "?".to_owned(),
                Some(b'{') => {
                    self.next();
                    let interval = self.interval()?;
                    self.repeat(start, &interval);
                    continue;
                }
                _ => return Ok(()),
            };
            self.next();
            self.repeat(start, &count);
        }
    }

    /// A place in the text: its beginning, the end of a word.
    fn anchor(&mut self) -> Option<&'static str> {
        let (len, anchor) = match self.rest {
            [b'^', ..] => (1, "^"),
            [b'$', ..] => (1, "$"),
            [b'\\', b'<', ..] => (2, r"\b{start}"),
            [b'\\', b'>', ..] => (2, r"\b{end}"),
            [b'\\', b'b', ..] => (2, r"\b"),
            [b'\\', b'B', ..] => (2, r"\B"),
            [b'\\', b'`', ..] => (2, r"\A"),
            [b'\\', b'\'', ..] => (2, r"\z"),
            _ => return None,
        };
        self.rest = self.rest.get(len..).unwrap_or_default();
        Some(anchor)
    }

    fn byte(&mut self, byte: u8) {
        let _ = write!(self.out, "\\x{byte:02x}");
    }

    /// Repeats what was written from `start` on.
    fn repeat(&mut self, start: usize, count: &str) {
        self.out.insert_str(start, "(?:");
        self.out.push(')');
        self.out.push_str(count);
    }

    fn group(&mut self, depth: usize) -> Result<(), EreError> {
        self.groups += 1;
        let number = self.groups;
        self.out.push_str("(?:");
        self.alternatives(depth + 1)?;
        if self.next() != Some(b')') {
            return Err(EreError::Parenthesis);
        }
        self.out.push(')');
        if number < 10 {
            self.completed |= 1 << number;
        }
        Ok(())
    }

    /// `n}`, `n,}`, `n,m}` or `,m}`.
    fn interval(&mut self) -> Result<String, EreError> {
        let (first, end) = self.number()?;
        let (min, max) = match end {
            b'}' => (first.ok_or(EreError::Interval)?, first),
            _ => match self.number()? {
                (max, b'}') => (first.unwrap_or(0), max),
                _ => return Err(EreError::Interval),
            },
        };
        if max.is_some_and(|max| min > max) {
            return Err(EreError::Interval);
        }
        if max.unwrap_or(min) > REPEAT_MAX {
            return Err(EreError::Size);
        }
        let max = max.map(|max| max.to_string()).unwrap_or_default();
        Ok(format!("{{{min},{max}}}"))
    }

    /// Digits, if there are any, and the `,` or `}` behind.
    fn number(&mut self) -> Result<(Option<u32>, u8), EreError> {
        let mut number = None;
        let mut is_number = true;
        loop {
            match self.next() {
                None => return Err(EreError::Brace),
                Some(end @ (b',' | b'}')) if is_number => return Ok((number, end)),
                Some(b',' | b'}') => return Err(EreError::Interval),
                Some(digit @ b'0'..=b'9') => {
                    let value = number.unwrap_or(0) * 10 + u32::from(digit - b'0');
                    number = Some(value.min(REPEAT_MAX + 1));
                }
                Some(_) => is_number = false,
            }
        }
    }

    /// A list of characters, from behind its `[`.
    fn bracket(&mut self) -> Result<(), EreError> {
        let mut set = [false; 256];
        let is_negated = self.peek() == Some(b'^');
        if is_negated {
            self.next();
        }
        if self.rest.is_empty() {
            return Err(EreError::Pattern);
        }
        let mut is_first = true;
        while is_first || self.peek() != Some(b']') {
            let element = self.element(is_first)?;
            is_first = false;
            let is_range = match (&element, self.rest) {
                (_, []) | (Element::Byte(_) | Element::Symbol(_), [b'-']) => {
                    return Err(EreError::Bracket);
                }
                (Element::Byte(_) | Element::Symbol(_), [b'-', next, ..]) => *next != b']',
                _ => false,
            };
            if is_range {
                self.next();
                let end = self.element(true)?;
                let (start, end) = (element.range_end()?, end.range_end()?);
                if start > end {
                    return Err(EreError::Range);
                }
                (start..=end).for_each(|byte| put(&mut set, byte));
            } else {
                element.add_to(&mut set)?;
            }
            if self.rest.is_empty() {
                return Err(EreError::Bracket);
            }
        }
        self.next();
        self.out.push_str(if is_negated { "[^" } else { "[" });
        for (byte, _) in set.iter().enumerate().filter(|(_, is_in)| **is_in) {
            let _ = write!(self.out, "\\x{byte:02x}");
        }
        self.out.push(']');
        Ok(())
    }

    fn element(&mut self, accepts_hyphen: bool) -> Result<Element, EreError> {
        match (self.next(), self.peek()) {
            (None, _) => Err(EreError::Bracket),
            (Some(b'['), Some(kind @ (b'.' | b'=' | b':'))) => {
                self.next();
                let name = self.symbol(kind)?;
                Ok(match kind {
                    b'.' => Element::Symbol(name),
                    b'=' => Element::Equivalents(name),
                    _ => Element::Class(name),
                })
            }
            // Three of them are one.
            (Some(b'-'), Some(b'-')) if self.rest.get(1) == Some(&b'-') => {
                self.rest = self.rest.get(2..).unwrap_or_default();
                Ok(Element::Byte(b'-'))
            }
            (Some(b'-'), next) if !accepts_hyphen && next != Some(b']') => Err(EreError::Range),
            (Some(byte), _) => Ok(Element::Byte(byte)),
        }
    }

    /// The name up to `kind` and `]`.
    fn symbol(&mut self, kind: u8) -> Result<Vec<u8>, EreError> {
        let mut name = Vec::new();
        loop {
            let byte = self.next().ok_or(EreError::Bracket)?;
            if self.rest.is_empty() || name.len() >= CLASS_NAME_MAX {
                return Err(EreError::Bracket);
            }
            if byte == kind && self.peek() == Some(b']') {
                self.next();
                return Ok(name);
            }
            name.push(byte);
        }
    }
}

/// One thing in a list of characters.
enum Element {
    Byte(u8),
    Symbol(Vec<u8>),
    Equivalents(Vec<u8>),
    Class(Vec<u8>),
}

impl Element {
    fn range_end(&self) -> Result<u8, EreError> {
        match self {
            Self::Byte(byte) => Ok(*byte),
            Self::Symbol(name) => single(name),
            Self::Equivalents(_) | Self::Class(_) => Err(EreError::Range),
        }
    }

    fn add_to(&self, set: &mut [bool; 256]) -> Result<(), EreError> {
        match self {
            Self::Byte(byte) => put(set, *byte),
            // In the C locale each character is equivalent to itself alone.
            Self::Symbol(name) | Self::Equivalents(name) => put(set, single(name)?),
            Self::Class(name) => {
                let is_in = class(name).ok_or(EreError::Class)?;
                (0..=u8::MAX).filter(is_in).for_each(|byte| put(set, byte));
            }
        }
        Ok(())
    }
}

fn put(set: &mut [bool; 256], byte: u8) {
    if let Some(is_in) = set.get_mut(usize::from(byte)) {
        *is_in = true;
    }
}

fn single(name: &[u8]) -> Result<u8, EreError> {
    match name {
        [byte] => Ok(*byte),
        _ => Err(EreError::Collation),
    }
}

fn class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    include!("ere_cases.rs");

    #[test]
    fn same_answers_as_the_c_library() {
        for (pattern, expected) in CASES {
            let got = match compile(pattern.as_bytes()) {
                Ok(regex) => SUBJECTS
                    .iter()
                    .map(|subject| if regex.is_match(subject.as_bytes()) { '1' } else { '0' })
                    .collect::<String>(),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, *expected, "{pattern}");
        }
    }

    #[test]
    fn back_references_are_refused() {
        assert_eq!(compile(br"(a)\1").unwrap_err(), EreError::NoBackReferences);
        assert_eq!(compile(br"(a\1)").unwrap_err(), EreError::BackReference);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_pattern_or_an_error(
            pattern in prop::collection::vec(prop::sample::select(&b"a1.*+?{}()[]|^$\\-:=,bw]\xff"[..]), 0..24),
        ) {
            if let Ok(regex) = compile(&pattern) {
                regex.is_match(b"db.table");
            }
        }
    }
}
