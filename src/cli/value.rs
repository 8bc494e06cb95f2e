//! From the text of a value to the value, with the reference's rules for each form.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::table::{Kind, Number, Spec};
use super::usage_error::UsageError;

/// Value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a flag or marker.
    Flag(bool),
    /// Of a string, a path, a list or a fraction.
    Text(OsString),
    /// The option was taken back with `--skip-`.
    Unset,
    /// Of a number, within its limits.
    Number(u64),
    /// Of a choice, spelt as in the table.
    Choice(&'static str),
}

/// What stands beside an option's name.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// Nothing.
    Nothing,
    /// `--skip-` or `--disable-`
    Disabled,
    /// `--enable-`
    Enabled,
    /// A value.
    Text(&'a OsStr),
}

/// Reads the value of `spec`. `None`: it is to be ignored; `warnings` tells.
///
/// # Errors
///
/// [`UsageError::Suffix`], [`UsageError::Value`], [`UsageError::ArgumentNotAllowed`].
pub fn read(
    spec: &Spec,
    given: Given<'_>,
    program: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, UsageError> {
    let digit = match given {
        Given::Nothing | Given::Enabled => OsStr::new("1"),
        Given::Disabled => OsStr::new("0"),
        Given::Text(text) => text,
    };
    match spec.kind {
        Kind::Marker => match given {
            Given::Nothing => Ok(Some(Value::Flag(true))),
            _ => Err(UsageError::ArgumentNotAllowed(spec.display_name())),
        },
        Kind::Flag(_) => {
            let value = truth(digit);
            if value.is_none() {
                let digit = digit.to_string_lossy();
                warnings.push(format!(
                    "Warning: {program}: ignoring option '--{}' due to invalid value '{digit}'",
                    spec.name
                ));
            }
            Ok(value.map(Value::Flag))
        }
        Kind::Text(_) => Ok(Some(match given {
            Given::Nothing => Value::Text(spec.bare.into()),
            Given::Enabled => Value::Text("1".into()),
            Given::Disabled => Value::Unset,
            Given::Text(text) => Value::Text(text.to_owned()),
        })),
        Kind::Number(number) => number_value(spec, number, digit, warnings).map(Some),
        Kind::Fraction => {
            if digit.is_empty() {
                return Ok(None);
            }
            let valid = digit.to_str().is_some_and(|text| text.trim().parse::<f64>().is_ok());
            let name = spec.display_name();
            let why = || format!("Invalid decimal value for option '{name}'");
            if valid {
                Ok(Some(Value::Text(digit.to_owned())))
            } else {
                Err(bad(spec, digit, Some(why())))
            }
        }
        Kind::Choice(..) if digit.is_empty() => Ok(None),
        Kind::Choice(names, _) => choice(names, digit)
            .map(|name| Some(Value::Choice(name)))
            .ok_or_else(|| bad(spec, digit, None)),
    }
}

/// The value of `spec` where nothing sets it.
pub fn default_of(spec: &Spec) -> Value {
    match spec.kind {
        Kind::Flag(value) => Value::Flag(value),
        Kind::Marker => Value::Flag(false),
        Kind::Text(default) => default.map_or(Value::Unset, |text| Value::Text(text.into())),
        Kind::Number(number) => number.default.map_or(Value::Unset, Value::Number),
        Kind::Fraction => Value::Unset,
        Kind::Choice(_, default) => Value::Choice(default),
    }
}

fn truth(text: &OsStr) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["1", "on", "true"]) {
        Some(true)
    } else if is(&["0", "off", "false"]) {
        Some(false)
    } else {
        None
    }
}

fn choice(names: &'static [&'static str], text: &OsStr) -> Option<&'static str> {
    let by_name = names.iter().find(|name| text.eq_ignore_ascii_case(name));
    let by_index = || names.get(text.to_str()?.parse::<usize>().ok()?);
    by_name.or_else(by_index).copied()
}

fn bad(spec: &Spec, text: &OsStr, why: Option<String>) -> UsageError {
    let value = text.to_string_lossy().into_owned();
    UsageError::Value { option: spec.display_name(), value, why }
}

/// As `strtoll` and `strtoull` do it: blanks, a sign, digits, then one letter that multiplies;
/// what follows the letter is not looked at, and no digits at all are zero.
fn number_value(
    spec: &Spec,
    number: Number,
    text: &OsStr,
    warnings: &mut Vec<String>,
) -> Result<Value, UsageError> {
    let name = spec.display_name();
    let shown = text.to_string_lossy();
    let rest = text.as_bytes().trim_ascii_start();
    let (negative, rest) = match rest.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, rest),
    };
    if negative && !number.signed {
        let why = format!("Incorrect unsigned value: '{shown}' for {name}");
        return Err(bad(spec, text, Some(why)));
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, suffix) = rest.split_at(digits);
    let limit = if number.signed { u64::MAX / 2 } else { u64::MAX };
    let out_of_range = || {
        let kind = if number.signed { "int64" } else { "uint64" };
        let why = format!("Integer value out of range for {kind}: '{shown}' for {name}");
        bad(spec, text, Some(why))
    };
    let mut magnitude = 0u64;
    for digit in digits {
        magnitude = magnitude
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| *value <= limit)
            .ok_or_else(out_of_range)?;
    }
    let factor_bits = match suffix.first().map(u8::to_ascii_lowercase) {
        None => 0,
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        Some(b'p') => 50,
        Some(b'e') => 60,
        Some(_) => {
            let suffix = String::from_utf8_lossy(suffix).chars().next().unwrap_or_default();
            return Err(UsageError::Suffix { option: name, value: shown.into_owned(), suffix });
        }
    };
    let magnitude = magnitude.checked_mul(1 << factor_bits).ok_or_else(out_of_range)?;
    let rounded = |value: u64| value - value % number.multiple_of.max(1);
    let wanted = if negative { 0 } else { magnitude };
    let value = rounded(wanted.min(number.max)).max(number.min);
    if (negative && magnitude > 0) || !(number.min..=number.max).contains(&wanted) {
        let kind = if number.signed { "signed" } else { "unsigned" };
        let sign = if negative { "-" } else { "" };
        warnings.push(format!(
            "Warning: option '{name}': {kind} value {sign}{magnitude} adjusted to {value}"
        ));
    }
    Ok(Value::Number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> (Result<Option<Value>, UsageError>, Vec<String>) {
        let mut warnings = Vec::new();
        let spec = Spec::find(name).unwrap();
        (read(spec, Given::Text(OsStr::new(text)), "prog", &mut warnings), warnings)
    }

    fn number(name: &str, text: &str) -> u64 {
        match read_text(name, text) {
            (Ok(Some(Value::Number(value))), warnings) if warnings.is_empty() => value,
            other => panic!("{name}={text}: {other:?}"),
        }
    }

    #[test]
    fn numbers_take_suffixes() {
        assert_eq!(number("parallel", "4"), 4);
        assert_eq!(number("parallel", " +4"), 4);
        assert_eq!(number("parallel", "1k"), 1024);
        assert_eq!(number("parallel", "1Kx"), 1024);
        assert_eq!(number("use-memory", "16m"), 16 << 20);
        assert_eq!(number("use-memory", "1G"), 1 << 30);
        assert_eq!(number("use-memory", "2t"), 2 << 40);
        assert_eq!(number("use-memory", "3P"), 3 << 50);
        assert_eq!(number("use-memory", "1e"), 1 << 60);
        assert_eq!(number("throttle", "-0"), 0);
        assert_eq!(number("throttle", ""), 0);
    }

    #[test]
    fn memory_is_rounded_down_to_eight_mebibytes() {
        assert_eq!(number("use-memory", "129m"), 134_217_728);
    }

    #[test]
    fn numbers_out_of_range_are_moved_with_a_warning() {
        let cases = [
            ("parallel", "0", 1, "Warning: option 'parallel': unsigned value 0 adjusted to 1"),
            ("parallel", "", 1, "Warning: option 'parallel': unsigned value 0 adjusted to 1"),
            ("throttle", "-1", 0, "Warning: option 'throttle': signed value -1 adjusted to 0"),
            (
                "use-memory",
                "1M",
                8 << 20,
                "Warning: option 'use-memory': unsigned value 1048576 adjusted to 8388608",
            ),
            (
                "innodb-page-size",
                "3000",
                4096,
                "Warning: option 'innodb_page_size': signed value 3000 adjusted to 4096",
            ),
            (
                "innodb-undo-tablespaces",
                "999",
                126,
                "Warning: option 'innodb_undo_tablespaces': unsigned value 999 adjusted to 126",
            ),
        ];
        for (name, text, value, warning) in cases {
            let (result, warnings) = read_text(name, text);
            assert_eq!(result, Ok(Some(Value::Number(value))));
            assert_eq!(warnings, [warning]);
        }
    }

    #[test]
    fn bad_numbers_tell_why() {
        let lines = |name, text| {
            let error = read_text(name, text).0.unwrap_err();
            (error.exit_code(), error.lines("prog", ""))
        };
        assert_eq!(
            lines("parallel", "abc"),
            (
                9,
                "Unknown suffix 'a' used for variable 'parallel' (value 'abc'). Legal suffix \
                 characters are: K, M, G, T, P, E\nprog: Error while setting value 'abc' to \
                 'parallel'"
                    .to_owned()
            )
        );
        assert_eq!(
            lines("open-files-limit", "-1"),
            (
                13,
                "Incorrect unsigned value: '-1' for open_files_limit\nprog: Error while setting \
                 value '-1' to 'open_files_limit'"
                    .to_owned()
            )
        );
        let big = "99999999999999999999999";
        assert_eq!(
            lines("parallel", big),
            (
                13,
                format!(
                    "Integer value out of range for uint64: '{big}' for parallel\nprog: Error \
                     while setting value '{big}' to 'parallel'"
                )
            )
        );
        assert_eq!(lines("throttle", "9223372036854775808").0, 13);
        assert_eq!(lines("use-memory", "17E").0, 13);
        assert_eq!(lines("innodb-max-dirty-pages-pct", "x").0, 13);
    }

    #[test]
    fn flags_are_true_or_false_or_ignored() {
        for text in ["1", "on", "TRUE"] {
            assert_eq!(read_text("backup", text).0, Ok(Some(Value::Flag(true))));
        }
        for text in ["0", "Off", "false"] {
            assert_eq!(read_text("backup", text).0, Ok(Some(Value::Flag(false))));
        }
        let (result, warnings) = read_text("backup", "maybe");
        assert_eq!(result, Ok(None));
        let expected = "Warning: prog: ignoring option '--backup' due to invalid value 'maybe'";
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn choices_go_by_name_or_index() {
        assert_eq!(read_text("binlog-info", "ON").0, Ok(Some(Value::Choice("on"))));
        assert_eq!(read_text("binlog-info", "1").0, Ok(Some(Value::Choice("lockless"))));
        assert_eq!(read_text("binlog-info", "").0, Ok(None));
        for text in ["foo", "4", "-1"] {
            let error = read_text("binlog-info", text).0.unwrap_err();
            assert_eq!(error.exit_code(), 13, "{text}");
        }
    }

    #[test]
    fn a_marker_takes_no_value() {
        let error = read_text("core-file", "1").0.unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert_eq!(error.lines("prog", ""), "prog: option '--core-file' cannot take an argument");
    }
}
