//! The checkpoints file: state of a backup and its range of LSNs.
//!
//! ```text
//! backup_type = full-backuped        or incremental, log-applied
//! from_lsn = 0                       incremental: where the one before ended
//! to_lsn = 45441                     checkpoint, base of the next incremental
//! last_lsn = 286330                  end of the copied log
//! recover_binlog_info = 0            absent in 10.5
//! ```

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use innodb::Lsn;

use super::{MetadataNames, read_text};
use crate::durable;

/// State of a backup, in the words of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupType {
    /// `full-backuped`: a full backup, to be prepared.
    FullBackuped,
    /// `incremental`: to be merged into a prepared full backup.
    Incremental,
    /// `log-applied`: prepared.
    LogApplied,
}

impl BackupType {
    const ALL: [Self; 3] = [Self::FullBackuped, Self::Incremental, Self::LogApplied];

    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FullBackuped => "full-backuped",
            Self::Incremental => "incremental",
            Self::LogApplied => "log-applied",
        }
    }
}

impl fmt::Display for BackupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Contents of the checkpoints file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoints {
    /// State.
    pub backup_type: BackupType,
    /// 0, or for an incremental backup what it is based on.
    pub from_lsn: Lsn,
    /// Newest checkpoint when the end of the log was determined.
    pub to_lsn: Lsn,
    /// End of the copied log.
    pub last_lsn: Lsn,
    /// `--binlog-info=lockless`: prepare finds the binary log position. `None`: no such line.
    pub recover_binlog_info: Option<bool>,
}

/// A checkpoints file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where, which also tells which series of names the backup has.
    pub path: PathBuf,
    /// Which names the backup has.
    pub names: MetadataNames,
    /// Contents.
    pub checkpoints: Checkpoints,
}

impl Checkpoints {
    /// Contents of the file, as the reference writes it.
    pub fn render(&self) -> String {
        let mut text = format!(
            "backup_type = {}\nfrom_lsn = {}\nto_lsn = {}\nlast_lsn = {}\n",
            self.backup_type, self.from_lsn, self.to_lsn, self.last_lsn
        );
        if let Some(recover) = self.recover_binlog_info {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "recover_binlog_info = {}", u8::from(recover));
        }
        text
    }

    /// Parses the contents of the file. Order, blanks and line ends do not matter, unknown keys
    /// are left alone; all else that is unexpected is an error.
    ///
    /// # Errors
    ///
    /// A key that is missing or there twice, a value that is none, a line without `=`, by line.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut backup_type = None;
        let (mut from_lsn, mut to_lsn, mut last_lsn) = (None, None, None);
        let mut recover_binlog_info = None;
        for (line_no, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                bail!("line {line_no}: expected `key = value`, found {line:?}");
            };
            let (key, value) = (key.trim(), value.trim());
            let twice = match key {
                "backup_type" => {
                    let found = BackupType::ALL.into_iter().find(|kind| kind.as_str() == value);
                    backup_type
                        .replace(found.with_context(|| {
                            format!("line {line_no}: unknown backup_type {value:?}")
                        })?)
                        .is_some()
                }
                "from_lsn" => from_lsn.replace(lsn(line_no, key, value)?).is_some(),
                "to_lsn" => to_lsn.replace(lsn(line_no, key, value)?).is_some(),
                "last_lsn" => last_lsn.replace(lsn(line_no, key, value)?).is_some(),
                "recover_binlog_info" => match value {
                    "0" | "1" => recover_binlog_info.replace(value == "1").is_some(),
                    _ => bail!("line {line_no}: recover_binlog_info is {value:?}, not 0 or 1"),
                },
                _ => false,
            };
            if twice {
                bail!("line {line_no}: {key} is there twice");
            }
        }
        let missing = |key| format!("line {}: {key} is missing", text.lines().count() + 1);
        Ok(Self {
            backup_type: backup_type.with_context(|| missing("backup_type"))?,
            from_lsn: from_lsn.with_context(|| missing("from_lsn"))?,
            to_lsn: to_lsn.with_context(|| missing("to_lsn"))?,
            last_lsn: last_lsn.with_context(|| missing("last_lsn"))?,
            recover_binlog_info,
        })
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// As [`Checkpoints::parse`], or what reading reports, with the path.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_text(path)?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Finds and reads the checkpoints file of backup `dir` under its new or old name; `None` if
    /// there is neither: no finished backup.
    ///
    /// Both are there where the reference of a newer series prepared a backup with old names: it
    /// leaves the old file as it was. Then the new one counts, provided that it is what prepare
    /// makes of the old one.
    ///
    /// # Errors
    ///
    /// As [`Checkpoints::read`]; two files that contradict each other.
    pub fn find(dir: &Path) -> anyhow::Result<Option<Found>> {
        let read = |names: MetadataNames| -> anyhow::Result<Option<Found>> {
            let path = dir.join(names.checkpoints);
            match path.symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    return Err(error).with_context(|| format!("look for {}", path.display()));
                }
                Ok(_) => {}
            }
            let checkpoints = Self::read(&path)?;
            Ok(Some(Found { path, names, checkpoints }))
        };
        let (new, old) = (read(MetadataNames::NEW)?, read(MetadataNames::OLD)?);
        if let (Some(new), Some(old)) = (&new, &old)
            && !new.checkpoints.follows(&old.checkpoints)
        {
            bail!(
                "{} and {} contradict each other; remove the one that is not of this backup",
                new.path.display(),
                old.path.display()
            );
        }
        Ok(new.or(old))
    }

    /// As [`Checkpoints::find`], where only a finished backup will do.
    ///
    /// # Errors
    ///
    /// As [`Checkpoints::find`]; there is none.
    pub fn find_finished(dir: &Path) -> anyhow::Result<Found> {
        Self::find(dir)?.with_context(|| {
            format!(
                "{} holds no finished backup: neither {} nor {} is there",
                dir.display(),
                MetadataNames::NEW.checkpoints,
                MetadataNames::OLD.checkpoints
            )
        })
    }

    /// Whether this is `before`, or what prepare, with or without incremental backups, makes of it.
    fn follows(&self, before: &Self) -> bool {
        self == before
            || (self.backup_type == BackupType::LogApplied
                && self.from_lsn == before.from_lsn
                && self.to_lsn >= before.to_lsn
                && self.last_lsn >= before.last_lsn)
    }

    /// Replaces the file `path`, durably and by rename.
    ///
    /// # Errors
    ///
    /// What writing reports, with the path.
    pub fn write_atomically(&self, path: &Path) -> anyhow::Result<()> {
        durable::write_atomically(path, self.render().as_bytes())
            .with_context(|| format!("write {}", path.display()))
    }
}

fn lsn(line_no: usize, key: &str, value: &str) -> anyhow::Result<Lsn> {
    // `parse` alone would take a plus sign.
    if !value.bytes().all(|b| b.is_ascii_digit()) {
        bail!("line {line_no}: {key} is {value:?}, not a number");
    }
    let value = value.parse().with_context(|| format!("line {line_no}: {key} is {value:?}"))?;
    Ok(Lsn(value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Written by the reference of 10.11.19.
    const FULL: &str = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45441\n\
                        last_lsn = 286330\nrecover_binlog_info = 0\n";

    fn full() -> Checkpoints {
        Checkpoints {
            backup_type: BackupType::FullBackuped,
            from_lsn: Lsn(0),
            to_lsn: Lsn(45441),
            last_lsn: Lsn(286_330),
            recover_binlog_info: Some(false),
        }
    }

    #[test]
    fn renders_as_the_reference() {
        assert_eq!(full().render(), FULL);
        let of_10_5 = Checkpoints {
            backup_type: BackupType::LogApplied,
            recover_binlog_info: None,
            ..full()
        };
        assert_eq!(
            of_10_5.render(),
            "backup_type = log-applied\nfrom_lsn = 0\nto_lsn = 45441\nlast_lsn = 286330\n"
        );
    }

    #[test]
    fn parses_what_people_and_tools_make_of_it() {
        assert_eq!(Checkpoints::parse(FULL).unwrap(), full());
        assert_eq!(Checkpoints::parse(&FULL.replace('\n', "\r\n")).unwrap(), full());
        assert_eq!(Checkpoints::parse(&FULL.replace(" = ", "=")).unwrap(), full());
        assert_eq!(Checkpoints::parse(FULL.trim_end()).unwrap(), full());
        assert_eq!(Checkpoints::parse(&format!("{FULL}compact = 0\n\n")).unwrap(), full());
    }

    #[test]
    fn parses_every_rendering() {
        for backup_type in BackupType::ALL {
            for recover_binlog_info in [None, Some(false), Some(true)] {
                let one = Checkpoints {
                    backup_type,
                    from_lsn: Lsn(1),
                    to_lsn: Lsn(u64::MAX),
                    last_lsn: Lsn(u64::MAX),
                    recover_binlog_info,
                };
                assert_eq!(Checkpoints::parse(&one.render()).unwrap(), one);
            }
        }
    }

    #[test]
    fn names_the_line_of_an_error() {
        for (text, message) in [
            ("", "line 1: backup_type is missing"),
            (&FULL.replace("to_lsn = 45441\n", ""), "line 5: to_lsn is missing"),
            (&FULL.replace("last_lsn = 286330\n", ""), "line 5: last_lsn is missing"),
            (&FULL.replace("full-backuped", "full"), "line 1: unknown backup_type \"full\""),
            (&FULL.replace("45441", "45x"), "line 3: to_lsn is \"45x\", not a number"),
            (&FULL.replace("45441", "-1"), "line 3: to_lsn is \"-1\", not a number"),
            (&FULL.replace("45441", ""), "line 3: to_lsn is \"\""),
            (&FULL.replace("45441", "18446744073709551616"), "line 3: to_lsn is \"1844"),
            (&FULL.replace("info = 0", "info = 2"), "line 5: recover_binlog_info is \"2\""),
            (&format!("{FULL}to_lsn = 1\n"), "line 6: to_lsn is there twice"),
            (&format!("{FULL}\u{0}\u{fffd}\n"), "line 6: expected `key = value`"),
        ] {
            let error = Checkpoints::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }

    #[test]
    fn finds_either_name_and_names_the_file_of_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoints::find(dir.path()).unwrap(), None);
        let error = Checkpoints::find_finished(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no finished backup"), "{error}");
        let old = dir.path().join("xtrabackup_checkpoints");
        full().write_atomically(&old).unwrap();
        let found = Checkpoints::find(dir.path()).unwrap().unwrap();
        assert_eq!((&found.path, found.checkpoints), (&old, full()));
        assert_eq!(found.names, MetadataNames::OLD);

        fs::write(&old, "").unwrap();
        let error = format!("{:#}", Checkpoints::find(dir.path()).unwrap_err());
        assert!(error.contains("xtrabackup_checkpoints: line 1: "), "{error}");
    }

    #[test]
    fn of_two_files_the_prepared_one_counts_and_a_contradiction_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        full().write_atomically(&dir.path().join("xtrabackup_checkpoints")).unwrap();
        let new = dir.path().join("mariadb_backup_checkpoints");
        let prepared = Checkpoints { backup_type: BackupType::LogApplied, ..full() };
        for accepted in [full(), prepared, Checkpoints { to_lsn: Lsn(50_000), ..prepared }] {
            accepted.write_atomically(&new).unwrap();
            let found = Checkpoints::find_finished(dir.path()).unwrap();
            assert_eq!((&found.path, found.checkpoints), (&new, accepted));
        }
        for refused in [
            Checkpoints { backup_type: BackupType::Incremental, ..full() },
            Checkpoints { last_lsn: Lsn(286_331), ..full() },
            Checkpoints { to_lsn: Lsn(1), ..prepared },
            Checkpoints { from_lsn: Lsn(1), ..prepared },
        ] {
            refused.write_atomically(&new).unwrap();
            let error = Checkpoints::find(dir.path()).unwrap_err().to_string();
            assert!(error.contains("contradict"), "{error}");
        }
    }
}
