//! The table of the server in which `--history` records backups, and from which incremental ones
//! find their base. It is the reference's: each tool finds the backups of the other.
//!
//! Before 10.11 it is `PERCONA_SCHEMA.xtrabackup_history`, from then on
//! `mysql.mariadb_backup_history`; the columns are those of the info file.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use innodb::Lsn;
use mdl::session::{Session, SessionError, string_literal};
use mdl::version::ServerVersion;

use crate::hint::WithHint;
use crate::metadata::{Info, binlog_in_words};
use crate::options::RecordKey;
use crate::report::Report;

const NAMED_MARIADB: (u32, u32) = (10, 11);
const MBSTREAM: (u32, u32) = (10, 6);
/// `ER_NO_SUCH_TABLE`
const NO_SUCH_TABLE: u16 = 1146;
/// In the order of [`row`].
const COLUMNS: &str = "uuid, name, tool_name, tool_command, tool_version, ibbackup_version, \
     server_version, start_time, end_time, lock_time, binlog_pos, innodb_from_lsn, innodb_to_lsn, \
     partial, incremental, format, compressed";

/// What backups to a stream of xbstream chunks have as their format.
pub fn stream_format(version: &ServerVersion) -> &'static str {
    if version.series() < MBSTREAM { "xbstream" } else { "mbstream" }
}

/// The table of a server.
#[derive(Debug, Clone, Copy)]
pub struct History {
    schema: &'static str,
    table: &'static str,
    charset: &'static str,
    stream_format: &'static str,
}

impl History {
    /// That of a server of this version.
    pub fn of(version: &ServerVersion) -> Self {
        let (schema, table) = if version.series() < NAMED_MARIADB {
            ("PERCONA_SCHEMA", "xtrabackup_history")
        } else {
            ("mysql", "mariadb_backup_history")
        };
        let charset = if version.series() < MBSTREAM { "utf8" } else { "utf8mb3" };
        Self { schema, table, charset, stream_format: stream_format(version) }
    }

    /// Makes sure that there is a table and that a row can be inserted: that is to fail before a
    /// backup, not after it.
    ///
    /// # Errors
    ///
    /// That of the server: privileges, `read_only`.
    pub fn prepare(self, session: &mut Session) -> anyhow::Result<()> {
        let Self { schema, table, .. } = self;
        self.create(session)
            .and_then(|()| session.execute(&self.insertion(&["NULL"; 17].map(str::to_owned), "EXPLAIN ")))
            .with_context(|| {
                format!("make sure that the backup can be recorded in {schema}.{table}")
            })
            .hint(format!(
                "the account needs CREATE, ALTER, INSERT and SELECT on {schema}.{table}, and a server with \
                 read_only also READ ONLY ADMIN; or leave out --history"
            ))
    }

    fn create(self, session: &mut Session) -> Result<(), SessionError> {
        let Self { schema, table, charset, stream_format } = self;
        let format = format!("enum('file','tar','{stream_format}')");
        let found = session.query(&format!(
            "SELECT column_type FROM information_schema.columns WHERE table_schema = '{schema}' \
             AND table_name = '{table}' AND column_name = 'format'"
        ))?;
        match found.first().and_then(|row| row.at(0)) {
            Some(known) if known.eq_ignore_ascii_case(&format) => return Ok(()),
            // Of an older server.
            Some(_) => {
                return session.execute(&format!(
                    "ALTER TABLE {schema}.{table} MODIFY format {format} DEFAULT NULL"
                ));
            }
            None => {}
        }
        if schema != "mysql" {
            session.execute(&format!("CREATE DATABASE IF NOT EXISTS {schema}"))?;
        }
        session.execute(&format!(
            "CREATE TABLE IF NOT EXISTS {schema}.{table} (\
             uuid VARCHAR(40) NOT NULL PRIMARY KEY, \
             name VARCHAR(255) DEFAULT NULL, \
             tool_name VARCHAR(255) DEFAULT NULL, \
             tool_command TEXT DEFAULT NULL, \
             tool_version VARCHAR(255) DEFAULT NULL, \
             ibbackup_version VARCHAR(255) DEFAULT NULL, \
             server_version VARCHAR(255) DEFAULT NULL, \
             start_time TIMESTAMP NULL DEFAULT NULL, \
             end_time TIMESTAMP NULL DEFAULT NULL, \
             lock_time BIGINT UNSIGNED DEFAULT NULL, \
             binlog_pos VARCHAR(128) DEFAULT NULL, \
             innodb_from_lsn BIGINT UNSIGNED DEFAULT NULL, \
             innodb_to_lsn BIGINT UNSIGNED DEFAULT NULL, \
             partial ENUM('Y', 'N') DEFAULT NULL, \
             incremental ENUM('Y', 'N') DEFAULT NULL, \
             format {format} DEFAULT NULL, \
             compressed ENUM('Y', 'N') DEFAULT NULL\
             ) CHARACTER SET {charset} ENGINE=InnoDB"
        ))
    }

    /// Inserts the row of a backup.
    ///
    /// # Errors
    ///
    /// That of the server.
    pub fn record(self, session: &mut Session, info: &Info) -> Result<(), SessionError> {
        // Long command lines and lists of GTIDs are cut, as by the reference, not refused.
        session.execute("SET SESSION sql_mode = ''")?;
        session.execute(&self.insertion(&row(info), ""))
    }

    fn insertion(self, values: &[String], before: &str) -> String {
        let Self { schema, table, .. } = self;
        format!("{before}INSERT INTO {schema}.{table} ({COLUMNS}) VALUES ({})", values.join(", "))
    }

    /// The LSN up to which the newest recorded backup that `key` names has all changes, and when it
    /// was begun.
    ///
    /// # Errors
    ///
    /// There is none; that of the server.
    pub fn find(
        self,
        session: &mut Session,
        key: &RecordKey,
        report: &Report,
    ) -> anyhow::Result<(Lsn, Option<SystemTime>)> {
        let Self { schema, table, .. } = self;
        let (column, value) = key.column_and_value();
        let found = session.query(&format!(
            "SELECT innodb_to_lsn, UNIX_TIMESTAMP(start_time) FROM {schema}.{table} \
             WHERE {column} = {} AND innodb_to_lsn IS NOT NULL ORDER BY innodb_to_lsn DESC LIMIT 1",
            string_literal(value)
        ));
        let found = match found {
            Err(error) if error.code() == Some(NO_SUCH_TABLE) => None,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "Error while attempting to find history record for {column} {value} in \
                         {schema}.{table}"
                    )
                });
            }
            Ok(rows) => rows.first().map(|row| {
                let lsn = row.at(0).and_then(|lsn| lsn.parse().ok()).map(Lsn);
                (lsn, row.at(1).and_then(parse_time))
            }),
        };
        let Some((Some(lsn), time)) = found else {
            return Err(anyhow!(
                "Error while attempting to find history record for {column} {value}"
            ))
            .hint(format!(
                "{schema}.{table} has a row for each complete backup with --history; give a name or \
                 uuid from there, or the base by --incremental-basedir"
            ));
        };
        report.say(format_args!("Found and using lsn: {lsn} for {column} {value}"));
        Ok((lsn, time))
    }
}

/// Seconds since 1970, with or without a fraction.
fn parse_time(text: &str) -> Option<SystemTime> {
    let seconds = text.split('.').next()?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The row of a backup, as SQL.
fn row(info: &Info) -> [String; 17] {
    let yes_no = |yes| if yes { "'Y'" } else { "'N'" }.to_owned();
    let time =
        |time: chrono::DateTime<chrono::Local>| format!("FROM_UNIXTIME({})", time.timestamp());
    [
        string_literal(&info.uuid),
        string_literal(&info.name),
        string_literal(&info.tool_name),
        string_literal(&info.tool_command),
        string_literal(&info.tool_version),
        string_literal(&info.tool_version),
        string_literal(&info.server_version),
        time(info.start_time),
        time(info.end_time),
        info.lock_time.to_string(),
        string_literal(&info.binlog_pos.as_ref().map(binlog_in_words).unwrap_or_default()),
        info.from_lsn.to_string(),
        info.to_lsn.to_string(),
        yes_no(info.partial),
        yes_no(info.incremental),
        string_literal(info.format),
        yes_no(info.compressed),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_has_its_table() {
        for (version, table, format) in [
            ("10.5.29-MariaDB", "PERCONA_SCHEMA.xtrabackup_history", "xbstream"),
            ("10.6.20-MariaDB", "PERCONA_SCHEMA.xtrabackup_history", "mbstream"),
            ("10.11.19-MariaDB", "mysql.mariadb_backup_history", "mbstream"),
            ("11.8.6-MariaDB", "mysql.mariadb_backup_history", "mbstream"),
        ] {
            let history = History::of(&ServerVersion::parse(version).unwrap());
            assert_eq!(format!("{}.{}", history.schema, history.table), table);
            assert_eq!(history.stream_format, format);
        }
    }

    #[test]
    fn times_are_seconds() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        for text in ["1795000000", "1795000000.000000"] {
            assert_eq!(parse_time(text), Some(expected));
        }
        assert_eq!(parse_time(""), None);
    }
}
