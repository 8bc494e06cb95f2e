//! `backup.cnf` and `backup-prepare.cnf`: what `BACKUP SERVER` (13) and the script around it tell
//! of a backup, whose redo log is an archive.
//!
//! ```text
//! [server]                             the rest of the file:
//! # checkpoint=46104                   checkpoint at which the log begins
//! innodb_log_recovery_start=46120      its end LSN
//! innodb_log_recovery_target=98304     where the log ends
//! ```
//!
//! A server that is started with the file recovers up to the target, and is read-only.

use std::io;
use std::path::Path;

use anyhow::{Context, ensure};
use innodb::Lsn;

use super::my_cnf::{BackupMyCnf, Options};
use super::read_text;

/// Name of the file that `BACKUP SERVER` writes: [`BackupCnf`].
pub const BACKUP_CNF: &str = "backup.cnf";
/// Name of the file that the script writes: the server's options that prepare needs.
pub const BACKUP_PREPARE_CNF: &str = "backup-prepare.cnf";

const START: &str = "innodb_log_recovery_start";
const TARGET: &str = "innodb_log_recovery_target";

/// Contents of `backup.cnf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupCnf {
    /// The checkpoint, if a comment tells it.
    pub checkpoint: Option<Lsn>,
    /// Where the records of the checkpoint begin.
    pub recovery_start: Lsn,
    /// Nothing that ends behind this LSN belongs to the backup.
    pub recovery_target: Lsn,
}

impl BackupCnf {
    /// Reads `backup.cnf` of backup `dir`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`BackupCnf::parse`], or what reading reports, with the path.
    pub fn find(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(BACKUP_CNF);
        if !path.try_exists().with_context(|| format!("look for {}", path.display()))? {
            return Ok(None);
        }
        let text = read_text(&path)?;
        Self::parse(&text).with_context(|| format!("read {}", path.display())).map(Some)
    }

    /// Parses the file.
    ///
    /// # Errors
    ///
    /// A setting that is missing, 0 or no number; a target before the start.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let options = Options::parse(text)?;
        let lsn = |key| -> anyhow::Result<Lsn> {
            let lsn = options.number(key)?.unwrap_or(0);
            ensure!(lsn != 0, "{key} is missing: without it, the log cannot be applied");
            Ok(Lsn(lsn))
        };
        let (recovery_start, recovery_target) = (lsn(START)?, lsn(TARGET)?);
        ensure!(
            recovery_target >= recovery_start,
            "{TARGET}={recovery_target} cannot be reached: it is before {START}={recovery_start}"
        );
        let comment = text.lines().find_map(|line| {
            let (key, value) = line.trim().strip_prefix('#')?.split_once('=')?;
            (key.trim() == "checkpoint").then_some(value.trim())
        });
        let checkpoint = match comment {
            Some(value) => {
                let lsn = value.parse().with_context(|| format!("checkpoint is {value:?}"))?;
                Some(Lsn(lsn))
            }
            None => None,
        };
        Ok(Self { checkpoint, recovery_start, recovery_target })
    }

    /// `text` of a `backup.cnf` without the settings that a server cannot use any more once the
    /// log was applied; they stay as comments.
    pub fn without_recovery(text: &str) -> String {
        let mut result = String::new();
        for line in text.lines() {
            let key = line.split('=').next().unwrap_or_default().trim().replace('-', "_");
            let key = key.strip_prefix("loose_").unwrap_or(&key);
            if key == START || key == TARGET {
                result.push_str("# ");
            }
            result.push_str(line);
            result.push('\n');
        }
        result
    }
}

/// The server's options in `backup-prepare.cnf` of backup `dir`; `None` if there is no such file.
///
/// # Errors
///
/// As of [`BackupMyCnf::parse_server`], or what reading reports, with the path.
pub fn server_options(dir: &Path) -> anyhow::Result<Option<BackupMyCnf>> {
    let path = dir.join(BACKUP_PREPARE_CNF);
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.with_context(|| format!("open {}", path.display()))?,
    };
    let text = read_text(&path)?;
    BackupMyCnf::parse_server(&text).with_context(|| format!("read {}", path.display())).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CNF: &str = "[server]\n# checkpoint=46104\ninnodb_log_recovery_start=46120\n\
                       innodb_log_recovery_target=98304\n";

    #[test]
    fn parses_what_the_server_writes() {
        let expected = BackupCnf {
            checkpoint: Some(Lsn(46_104)),
            recovery_start: Lsn(46_120),
            recovery_target: Lsn(98_304),
        };
        assert_eq!(BackupCnf::parse(CNF).unwrap(), expected);
        let other = "[mariadbd]\r\ninnodb-log-recovery-target = 98304\r\n\
                     loose_innodb_log_recovery_start=46120\r\n";
        assert_eq!(BackupCnf::parse(other).unwrap(), BackupCnf { checkpoint: None, ..expected });
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, message) in [
            (CNF.replace("target=98304", "target=0"), "innodb_log_recovery_target is missing"),
            (CNF.replace("_start=46120", "_x=1"), "innodb_log_recovery_start is missing"),
            (CNF.replace("=46120", "=x"), "innodb_log_recovery_start is \"x\""),
            (CNF.replace("=98304", "=46119"), "target=46119 cannot be reached"),
            (CNF.replace("=46104", "="), "checkpoint is \"\""),
            (CNF.replace("[server]", "[client]"), "innodb_log_recovery_start is missing"),
            (String::new(), "innodb_log_recovery_start is missing"),
        ] {
            let error = format!("{:#}", BackupCnf::parse(&text).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn what_is_left_for_a_server_tells_of_no_recovery() {
        let text = format!("{CNF}datadir=/d\nloose-innodb-log-recovery-start = 1");
        let left = BackupCnf::without_recovery(&text);
        let expected = "[server]\n# checkpoint=46104\n# innodb_log_recovery_start=46120\n\
                        # innodb_log_recovery_target=98304\ndatadir=/d\n\
                        # loose-innodb-log-recovery-start = 1\n";
        assert_eq!(left, expected);
        assert_eq!(BackupCnf::without_recovery(&left), expected);
    }

    #[test]
    fn the_script_tells_the_options_of_the_server() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(server_options(dir.path()).unwrap(), None);
        let text = "# mariadbd=/usr/sbin/mariadbd\n[mariadbd]\ninnodb_page_size=4096\n\
                    innodb_data_file_path=a/ibdata1:12M;ibdata2:4M:autoextend\n\
                    innodb_undo_tablespaces=3\ninnodb_checksum_algorithm=full_crc32\n\
                    innodb_log_file_size=100663296\nplugin-load-add=ha_archive.so\n\
                    plugin-load-add=provider_lz4=provider_lz4.so\n\
                    plugin-load-add=file_key_management.so\nplugin-dir=/plugins\n\
                    innodb_encrypt_log=ON\nloose-file_key_management_filename=/keys\n\
                    loose-file-key-management-encryption-algorithm=aes_ctr\n";
        std::fs::write(dir.path().join(BACKUP_PREPARE_CNF), text).unwrap();
        let cnf = server_options(dir.path()).unwrap().unwrap();
        assert_eq!(cnf.page_size, 4096);
        assert_eq!(cnf.data_file_path.to_string(), "ibdata1:12M;ibdata2:4M:autoextend");
        assert_eq!((cnf.undo_tablespaces, cnf.log_file_size), (3, 100_663_296));
        let plugins = cnf.plugins.clone().unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            plugins.load,
            [
                pair("provider_lz4", "provider_lz4"),
                pair("file_key_management", "file_key_management")
            ]
        );
        assert_eq!(
            plugins.variables,
            [
                pair("file_key_management_filename", "/keys"),
                pair("file_key_management_encryption_algorithm", "aes_ctr"),
            ]
        );
        assert_eq!((plugins.encrypt_log, plugins.encrypt_tables.as_str()), (Some(true), "ON"));
        // What prepare keeps of it says the same.
        assert_eq!(BackupMyCnf::parse(&cnf.render()).unwrap(), cnf);
        std::fs::write(dir.path().join(BACKUP_PREPARE_CNF), "[mariadbd]\n").unwrap();
        let error = format!("{:#}", server_options(dir.path()).unwrap_err());
        assert!(error.contains("backup-prepare.cnf: innodb_page_size is missing"), "{error}");
    }
}
