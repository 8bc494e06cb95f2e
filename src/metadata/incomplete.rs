//! The mark of a directory that is no backup: there from the first moment of a backup on, removed
//! only when all else is on stable storage. Whatever ends a backup early, a kill or a power loss
//! too, leaves it behind. It is text for whoever finds the directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use chrono::{DateTime, Local};

use crate::durable;
use crate::hint::WithHint;

/// Name of the mark in the backup's directory.
pub const NAME: &str = "mariabackup_incomplete";

/// The mark of a backup that is being taken.
#[derive(Debug)]
pub struct IncompleteMark {
    path: PathBuf,
    text: String,
}

impl IncompleteMark {
    /// Marks `dir` durably. The mark is there, without text, even where the disk is full.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] where another backup has marked the directory; what
    /// creating, writing or syncing reports.
    pub fn place(dir: &Path, started: DateTime<Local>, command: &str) -> io::Result<Self> {
        let text = format!(
            "This directory is not a backup.\n\n\
             A backup into it was begun and is either still running or ended too early.\n\
             Begun:   {}\n\
             Process: {}\n\
             Command: {command}\n\n\
             Should it run no more: remove this directory and take the backup again.\n",
            timestamp(started),
            std::process::id(),
        );
        let mark = Self { path: dir.join(NAME), text };
        durable::create_exclusive(&mark.path, durable::file_mode())?;
        durable::sync_dir(dir)?;
        mark.append("")?;
        Ok(mark)
    }

    /// Adds to the mark why the backup ended. Makes the mark anew if it is gone.
    ///
    /// # Errors
    ///
    /// What writing or syncing reports.
    pub fn add_reason(&self, reason: &str) -> io::Result<()> {
        let reason = reason.replace('\n', " ");
        self.append(&format!("\nEnded:   {}\nReason:  {reason}\n", timestamp(Local::now())))?;
        durable::sync_parent(&self.path)
    }

    /// Adds `more` to what is there: the text, unless there was no space for it.
    fn append(&self, more: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(durable::file_mode());
        let mut file = options.open(&self.path)?;
        let text = if file.metadata()?.len() == 0 { self.text.as_str() } else { "" };
        file.write_all([text, more].concat().as_bytes())?;
        file.sync_data()
    }

    /// Removes the mark durably: the directory is a backup.
    ///
    /// # Errors
    ///
    /// What removing or syncing reports; the mark may be there or not.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        durable::sync_parent(&self.path)
    }
}

fn timestamp(time: DateTime<Local>) -> String {
    time.format("%Y-%m-%d %H:%M:%S %z").to_string()
}

/// Refuses a directory that is marked.
///
/// # Errors
///
/// That it is, naming the mark.
pub fn refuse(dir: &Path) -> anyhow::Result<()> {
    if dir.join(NAME).symlink_metadata().is_err() {
        return Ok(());
    }
    Err(anyhow!("{} is not a complete backup: {NAME} exists", dir.display())).hint(format!(
        "{NAME} tells when the backup began and why it ended; if it runs no more, remove the \
         directory and take the backup again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint;

    fn text(dir: &Path) -> String {
        fs::read_to_string(dir.join(NAME)).unwrap()
    }

    #[test]
    fn mark_tells_of_the_command_and_the_end_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        refuse(dir.path()).unwrap();
        let mark = IncompleteMark::place(dir.path(), Local::now(), "tool --backup").unwrap();
        assert!(text(dir.path()).contains("Command: tool --backup\n"));
        mark.add_reason("no space\nleft").unwrap();
        let text = text(dir.path());
        assert!(text.starts_with("This directory is not a backup.\n"), "{text}");
        assert!(text.ends_with("Reason:  no space left\n"), "{text}");
        let (error, hint) = hint::describe(&refuse(dir.path()).unwrap_err());
        assert!(error.ends_with("is not a complete backup: mariabackup_incomplete exists"));
        assert!(hint.unwrap().contains("take the backup again"));
        mark.remove().unwrap();
        refuse(dir.path()).unwrap();
    }

    #[test]
    fn two_backups_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let place = || IncompleteMark::place(dir.path(), Local::now(), "tool");
        place().unwrap();
        assert_eq!(place().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn mark_without_text_or_gone_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mark = IncompleteMark::place(dir.path(), Local::now(), "tool").unwrap();
        fs::write(dir.path().join(NAME), "").unwrap();
        mark.add_reason("first").unwrap();
        assert!(text(dir.path()).contains("Command: tool\n"));
        mark.remove().unwrap();
        mark.add_reason("second").unwrap();
        let text = text(dir.path());
        assert!(text.contains("Command: tool\n") && text.ends_with("second\n"), "{text}");
    }
}
