//! `--innobackupex`: the command line of the older program of that name. It has a directory as a word
//! of its own, a backup goes to a new directory below it, and its other modes are options.

use std::ffi::OsStr;

use chrono::Local;

use super::table::Spec;
use super::usage_error::UsageError;
use super::value::Value;
use super::{Interface, Parser};

/// Options that need `--incremental`.
const INCREMENTAL: [&str; 4] = [
    "incremental-lsn",
    "incremental-basedir",
    "incremental-history-name",
    "incremental-history-uuid",
];

impl<'a> Parser<'a> {
    /// `error` of the option `spec`, as it counts in this mode.
    pub(super) fn of_innobackupex(&self, spec: &Spec, error: UsageError) -> UsageError {
        if self.interface == Interface::Innobackupex && spec.is_of_innobackupex() {
            UsageError::OfInnobackupex(Box::new(error))
        } else {
            error
        }
    }

    /// Brings what was given into the usual form: the directory of the backup is `--target-dir`, a
    /// file of databases is `--databases-file`. Announces what comes.
    pub(super) fn adapt_innobackupex(&mut self) -> Result<(), UsageError> {
        let dir = self.directory()?;
        let mut target = self.environment.absolute(dir);
        let is_incremental = INCREMENTAL.iter().any(|name| self.settings.text(name).is_some());
        let wants_incremental = self.settings.flag("incremental");
        if is_incremental && !wants_incremental {
            return Err(UsageError::Innobackupex(
                "Error: --incremental-lsn, --incremental-basedir, --incremental-history-name and \
                 --incremental-history-uuid require the --incremental option."
                    .to_owned(),
            ));
        }
        let modes = [
            ("prepare", "apply-log"),
            ("copy-back", "copy-back"),
            ("move-back", "move-back"),
            ("decompress", "decompress"),
        ];
        let mode = modes.into_iter().find(|(option, _)| self.settings.flag(option));
        let mode = mode.map_or("backup", |(_, name)| name);
        let now = Local::now();
        self.warnings.push(format!(
            "{} innobackupex: Starting the {mode} operation\n\nIMPORTANT: Please check that the \
             {mode} run completes successfully.\n           At the end of a successful {mode} run \
             innobackupex\n           prints \"completed OK!\".\n",
            now.format("%y%m%d %H:%M:%S")
        ));
        if mode == "backup" {
            if !self.settings.flag("no-timestamp") && self.settings.text("stream").is_none() {
                target.push(now.format("%Y-%m-%d_%H-%M-%S").to_string());
            }
            if wants_incremental && !is_incremental {
                let text =
                    "Warning: --incremental alone says not since when: this is a full backup";
                self.warnings.push(text.to_owned());
            }
        }
        self.settings.force("target-dir", Value::Text(target.into_os_string()));
        let databases = self.settings.text("databases");
        if let Some(file) = databases.filter(|text| text.to_string_lossy().starts_with('/')) {
            self.settings.force("databases-file", Value::Text(file));
            self.settings.force("databases", Value::Unset);
        }
        Ok(())
    }

    /// Takes the directory for the target before option files are read, which may be in it.
    pub(super) fn take_directory(&mut self) {
        if let Ok(dir) = self.directory() {
            self.settings.force("target-dir", Value::Text(dir.to_owned()));
        }
    }

    /// The one word that is no option.
    fn directory(&self) -> Result<&'a OsStr, UsageError> {
        match self.words.as_slice() {
            [dir] => Ok(dir),
            [] => Err(UsageError::Innobackupex("Missing argument".to_owned())),
            [_, more, ..] => {
                let more = more.to_string_lossy();
                Err(UsageError::Innobackupex(format!("Error: extra argument found {more}")))
            }
        }
    }
}
