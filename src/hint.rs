//! What the operator can do about an error, carried beside the error.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

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

/// Adds a [`Hint`] to a failed result. The first hint, of whoever was closest to the failure, stays
/// the only one.
pub trait WithHint<T>: Sized {
    /// Says what the operator can do: an imperative without a full stop.
    ///
    /// # Errors
    ///
    /// The error it was called on.
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.hint_where(|_| true, text)
    }

    /// As [`hint`](Self::hint), where it failed because a disk is full or a quota used up.
    ///
    /// # Errors
    ///
    /// The error it was called on.
    fn hint_if_full(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.hint_where(is_full, text)
    }

    /// As [`hint`](Self::hint), for the errors that `applies` tells.
    ///
    /// # Errors
    ///
    /// The error it was called on.
    fn hint_where(
        self,
        applies: impl FnOnce(&anyhow::Error) -> bool,
        text: impl Into<String>,
    ) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint_where(
        self,
        applies: impl FnOnce(&anyhow::Error) -> bool,
        text: impl Into<String>,
    ) -> anyhow::Result<T> {
        self.map_err(Into::into).map_err(|error| {
            let has_one = error.downcast_ref::<Hint>().is_some();
            if !has_one && applies(&error) { error.context(Hint(text.into())) } else { error }
        })
    }
}

/// Whether a file system took no more: no space, no more files, or none for this user.
fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let shared = || cause.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref);
        let code = cause.downcast_ref().or_else(shared).and_then(io::Error::raw_os_error);
        matches!(code, Some(libc::ENOSPC | libc::EDQUOT))
    })
}

/// What the libraries' errors know to say.
fn known_hint(error: &(dyn Error + 'static)) -> Option<String> {
    let session = error.downcast_ref::<SessionError>().and_then(SessionError::hint);
    let privileges = || error.downcast_ref::<PrivilegeError>().and_then(PrivilegeError::hint);
    let redo = || error.downcast_ref::<RedoCopyError>()?.hint().map(str::to_owned);
    session.or_else(privileges).or_else(redo)
}

/// The causes of `error` from the outermost on, joined by colons, and its hint.
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
    fn the_first_hint_stays_the_only_one() {
        let failed: Result<(), _> = Err(anyhow!("no space"));
        let error = failed.hint("free some").context("write").hint("try again").unwrap_err();
        let expected = ("write: no space".to_owned(), Some("free some".to_owned()));
        assert_eq!(describe(&error), expected);
    }

    #[test]
    fn a_full_disk_has_a_hint_of_its_own() {
        let hint = |error: anyhow::Error| {
            describe(&Err::<(), _>(error).hint_if_full("free some").unwrap_err()).1
        };
        let failed = io::Error::from_raw_os_error;
        let full = RedoCopyError::Write(Arc::new(failed(libc::ENOSPC)));
        assert_eq!(hint(anyhow::Error::new(full).context("copy")).as_deref(), Some("free some"));
        assert_eq!(hint(failed(libc::EDQUOT).into()).as_deref(), Some("free some"));
        assert_eq!(hint(failed(libc::EIO).into()), None);
    }

    #[test]
    fn an_error_needs_no_hint() {
        let error = anyhow!("no space").context("write the backup");
        assert_eq!(describe(&error), ("write the backup: no space".to_owned(), None));
    }
}
