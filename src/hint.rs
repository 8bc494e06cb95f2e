//! What the operator can do about an error, carried beside the error.

use std::fmt;

/// A context of an [`anyhow::Error`] that is printed after the error, on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint(String);

impl fmt::Display for Hint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Adds a [`Hint`] to a failed result.
pub trait WithHint<T> {
    /// Says what the operator can do: an imperative without a full stop.
    ///
    /// # Errors
    ///
    /// The error it was called on.
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(Hint(text.into())))
    }
}

/// The causes of `error` from the outermost on, joined by colons, and the outermost hint.
pub fn describe(error: &anyhow::Error) -> (String, Option<String>) {
    let hint = error.downcast_ref::<Hint>().map(Hint::to_string);
    let causes: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| hint.as_ref() != Some(cause))
        .collect();
    (causes.join(": "), hint)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_hint_stands_apart_from_the_causes() {
        let failed: Result<(), _> = Err(anyhow!("no space"));
        let error = failed.hint("free some").context("write the backup").unwrap_err();
        let expected = ("write the backup: no space".to_owned(), Some("free some".to_owned()));
        assert_eq!(describe(&error), expected);
    }

    #[test]
    fn an_error_needs_no_hint() {
        let error = anyhow!("no space").context("write the backup");
        assert_eq!(describe(&error), ("write the backup: no space".to_owned(), None));
    }
}
