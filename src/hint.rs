//! What the operator can do about an error, carried beside the error.

use std::error::Error;
use std::fmt;

use mdl::privileges::PrivilegeError;
use mdl::session::SessionError;

use crate::backup::redo_copy::RedoCopyError;

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

/// What the libraries' errors know to say.
fn known_hint(error: &(dyn Error + 'static)) -> Option<String> {
    let session = error.downcast_ref::<SessionError>().and_then(SessionError::hint);
    let privileges = || error.downcast_ref::<PrivilegeError>().and_then(PrivilegeError::hint);
    let redo = || error.downcast_ref::<RedoCopyError>()?.hint().map(str::to_owned);
    session.or_else(privileges).or_else(redo)
}

/// The causes of `error` from the outermost on, joined by colons, and the outermost hint.
pub fn describe(error: &anyhow::Error) -> (String, Option<String>) {
    let given = error.downcast_ref::<Hint>().map(Hint::to_string);
    let hint = given.or_else(|| error.chain().find_map(known_hint));
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
