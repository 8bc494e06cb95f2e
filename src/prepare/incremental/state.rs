//! How far an incremental backup has been applied to its target: a file there, from before the
//! first change of the target until after the last one.
//!
//! While it is there, the target is neither what it was nor what it will be.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::source::Identity;
use crate::hint::WithHint;
use crate::prepare::storage::Storage;

/// Its name; copy back leaves `.tmp` files out.
pub(in crate::prepare) const NAME: &str = "mariabackup_incremental.tmp";
/// First field.
const MAGIC: &[u8] = b"mariabackup incremental 1";

/// What is to be done next; all before is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Tablespaces are renamed, removed, made.
    Names,
    /// Changed pages are written.
    Pages,
    /// The redo log is applied.
    Redo,
    /// The files of other engines and the metadata are replaced.
    OtherFiles,
}

impl Step {
    const ALL: [(Self, &'static [u8]); 4] = [
        (Self::Names, b"names"),
        (Self::Pages, b"pages"),
        (Self::Redo, b"redo"),
        (Self::OtherFiles, b"files"),
    ];
}

/// Contents of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Which incremental backup it is.
    pub identity: Identity,
    /// Where that was.
    pub incremental_dir: PathBuf,
    /// How far it got.
    pub step: Step,
}

impl State {
    /// That of target `dir`, if something is being applied to it.
    ///
    /// # Errors
    ///
    /// A file that is none; what reading reports.
    pub(super) fn find(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(NAME);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("read {}", path.display()))?,
        };
        let state = Self::parse(&bytes);
        state.with_context(|| format!("{} is damaged", path.display())).map(Some)
    }

    /// Makes this the state of target `dir`, durably.
    ///
    /// # Errors
    ///
    /// What writing reports.
    pub(super) fn store(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
        let path = dir.join(NAME);
        let written = storage.replace(&path, &self.render());
        written.with_context(|| format!("write {}", path.display()))
    }

    fn render(&self) -> Vec<u8> {
        let step = Step::ALL.iter().find(|(step, _)| *step == self.step);
        let fields = [
            MAGIC,
            step.map_or(b"", |(_, word)| word),
            self.identity.as_str().as_bytes(),
            self.incremental_dir.as_os_str().as_bytes(),
        ];
        fields.join(&0)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.split(|&b| b == 0);
        let (magic, step) = (fields.next()?, fields.next()?);
        let (identity, dir) = (fields.next()?, fields.next()?);
        let (step, _) = Step::ALL.into_iter().find(|(_, word)| *word == step)?;
        let incremental_dir = PathBuf::from(OsString::from_vec(dir.to_vec()));
        let identity = Identity::from_text(std::str::from_utf8(identity).ok()?);
        let is_whole = magic == MAGIC && fields.next().is_none();
        is_whole.then_some(Self { identity, incremental_dir, step })
    }
}

/// Refuses a directory to which an incremental backup is being applied.
///
/// # Errors
///
/// That it is, with the command that goes on.
pub fn refuse(dir: &Path) -> anyhow::Result<()> {
    if dir.join(NAME).symlink_metadata().is_err() {
        return Ok(());
    }
    let from = match State::find(dir) {
        Ok(Some(state)) => state.incremental_dir.display().to_string(),
        _ => "DIRECTORY".to_owned(),
    };
    Err(anyhow!(
        "an incremental backup, {from}, was being applied to {} when that ended early",
        dir.display()
    ))
    .hint(format!(
        "run it again, it goes on: --prepare --target-dir={} --incremental-dir={from}",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint;
    use crate::prepare::storage::Disk;

    fn state() -> State {
        State {
            identity: Identity::from_text("1 2 3 abc"),
            incremental_dir: PathBuf::from("/backup/tuesday"),
            step: Step::Pages,
        }
    }

    #[test]
    fn a_state_is_found_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::find(dir.path()).unwrap(), None);
        refuse(dir.path()).unwrap();
        for (step, _) in Step::ALL {
            let state = State { step, ..state() };
            state.store(dir.path(), &Disk).unwrap();
            assert_eq!(State::find(dir.path()).unwrap(), Some(state));
        }
        let (error, hint) = hint::describe(&refuse(dir.path()).unwrap_err());
        assert!(error.contains("incremental backup, /backup/tuesday, was being"), "{error}");
        assert!(hint.unwrap().contains("--incremental-dir=/backup/tuesday"));
    }

    #[test]
    fn a_damaged_state_is_an_error_and_no_target_either() {
        let dir = tempfile::tempdir().unwrap();
        let whole = state().render();
        for bytes in [&b""[..], b"mariabackup", &whole[..30], &[&whole[..], b"\0x"].concat()] {
            fs::write(dir.path().join(NAME), bytes).unwrap();
            let error = State::find(dir.path()).unwrap_err().to_string();
            assert!(error.ends_with("is damaged"), "{error}");
            refuse(dir.path()).unwrap_err();
        }
    }
}
