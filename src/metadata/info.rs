//! The info file: how, when and from what a backup was made, one `key = value` a line.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone};
use innodb::Lsn;
use mdl::position::BinlogPosition;

use super::{MetadataNames, binlog_in_words, one_line, read_text};

/// Form of times.
const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// Contents of the info file. Times there are `YYYY-MM-DD HH:MM:SS`, local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// `SELECT UUID()`.
    pub uuid: String,
    /// Value of `--history`, or empty.
    pub name: String,
    /// Name the program was called by.
    pub tool_name: String,
    /// Its arguments, without passwords.
    pub tool_command: String,
    /// Version of the program.
    pub tool_version: String,
    /// `SELECT VERSION()`.
    pub server_version: String,
    /// When the backup began.
    pub start_time: DateTime<Local>,
    /// When it ended.
    pub end_time: DateTime<Local>,
    /// Whole seconds for which DDL was blocked.
    pub lock_time: u64,
    /// Binary log position, if there is a binary log.
    pub binlog_pos: Option<BinlogPosition>,
    /// As in the checkpoints file.
    pub from_lsn: Lsn,
    /// As in the checkpoints file.
    pub to_lsn: Lsn,
    /// Tables were left out.
    pub partial: bool,
    /// An incremental backup.
    pub incremental: bool,
    /// `file`, or `mbstream`.
    pub format: &'static str,
    /// Compressed.
    pub compressed: bool,
}

impl Info {
    /// Whether tables were left out of backup `dir` on purpose, by the file's own words. A backup
    /// without the file tells nothing of the kind.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn is_partial(dir: &Path) -> anyhow::Result<bool> {
        Ok(Self::value(dir, "partial")?.is_some_and(|value| value == "Y"))
    }

    /// Version of the server that backup `dir` is of, if the file tells.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn server_version(dir: &Path) -> anyhow::Result<Option<String>> {
        Self::value(dir, "server_version")
    }

    fn value(dir: &Path, key: &str) -> anyhow::Result<Option<String>> {
        for names in [MetadataNames::NEW, MetadataNames::OLD] {
            let path = dir.join(names.info);
            if path.exists() {
                let text = super::read_text(&path)?;
                let mut pairs = text.lines().filter_map(|line| line.split_once(" = "));
                return Ok(pairs
                    .find(|(found, _)| *found == key)
                    .map(|(_, value)| value.to_owned()));
            }
        }
        Ok(None)
    }

    /// Contents of the file, in the reference's order.
    pub fn render(&self) -> String {
        let yes_no = |yes| if yes { "Y" } else { "N" };
        let binlog_pos = self.binlog_pos.as_ref().map(binlog_in_words).unwrap_or_default();
        let (lock_time, from_lsn, to_lsn) =
            (self.lock_time.to_string(), self.from_lsn.to_string(), self.to_lsn.to_string());
        let (start_time, end_time) = (time(self.start_time), time(self.end_time));
        let lines: [(&str, &str); 17] = [
            ("uuid", &self.uuid),
            ("name", &self.name),
            ("tool_name", &self.tool_name),
            ("tool_command", &self.tool_command),
            ("tool_version", &self.tool_version),
            ("ibbackup_version", &self.tool_version),
            ("server_version", &self.server_version),
            ("start_time", &start_time),
            ("end_time", &end_time),
            ("lock_time", &lock_time),
            ("binlog_pos", &binlog_pos),
            ("innodb_from_lsn", &from_lsn),
            ("innodb_to_lsn", &to_lsn),
            ("partial", yes_no(self.partial)),
            ("incremental", yes_no(self.incremental)),
            ("format", self.format),
            ("compressed", if self.compressed { "compressed" } else { "N" }),
        ];
        let mut text = String::new();
        for (key, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {}", one_line(value));
        }
        text
    }
}

/// When the backup with the info file `path` began; `None` where that cannot be read.
pub fn start_time(path: &Path) -> Option<SystemTime> {
    let text = read_text(path).ok()?;
    let value = |line: &str| {
        Some(line.strip_prefix("start_time")?.trim_start().strip_prefix('=')?.trim().to_owned())
    };
    let time = NaiveDateTime::parse_from_str(&text.lines().find_map(value)?, TIME).ok()?;
    // The earlier one where the clock was set back that night.
    Some(Local.from_local_datetime(&time).earliest()?.into())
}

/// A time as the info file has it.
fn time(time: DateTime<Local>) -> String {
    time.format(TIME).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the reference of 10.11.19.
    const REAL: &str = "\
uuid = d8e3f721-e5a2-11f1-bb65-02fc00000001
name = \ntool_name = mariadb-backup
tool_command = --no-defaults --backup -uroot -S /tmp/s.sock --target-dir=full
tool_version = 10.11.19-MariaDB
ibbackup_version = 10.11.19-MariaDB
server_version = 10.11.19-MariaDB-0+deb12u1
start_time = 2026-11-21 11:58:20
end_time = 2026-11-21 11:58:21
lock_time = 0
binlog_pos = \ninnodb_from_lsn = 0
innodb_to_lsn = 45441
partial = N
incremental = N
format = file
compressed = N
";

    fn real() -> Info {
        Info {
            uuid: "d8e3f721-e5a2-11f1-bb65-02fc00000001".into(),
            name: String::new(),
            tool_name: "mariadb-backup".into(),
            tool_command: "--no-defaults --backup -uroot -S /tmp/s.sock --target-dir=full".into(),
            tool_version: "10.11.19-MariaDB".into(),
            server_version: "10.11.19-MariaDB-0+deb12u1".into(),
            start_time: Local.with_ymd_and_hms(2026, 11, 21, 11, 58, 20).unwrap(),
            end_time: Local.with_ymd_and_hms(2026, 11, 21, 11, 58, 21).unwrap(),
            lock_time: 0,
            binlog_pos: None,
            from_lsn: Lsn(0),
            to_lsn: Lsn(45441),
            partial: false,
            incremental: false,
            format: "file",
            compressed: false,
        }
    }

    #[test]
    fn renders_as_the_reference() {
        assert_eq!(real().render(), REAL);
    }

    #[test]
    fn the_start_is_read_from_a_file_of_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xtrabackup_info");
        assert_eq!(start_time(&path), None);
        std::fs::write(&path, REAL).unwrap();
        let start = DateTime::<Local>::from(start_time(&path).unwrap());
        assert_eq!(time(start), "2026-11-21 11:58:20");
        std::fs::write(&path, REAL.replace("11:58:20", "11:58")).unwrap();
        assert_eq!(start_time(&path), None);
    }

    #[test]
    fn a_value_stays_on_its_line() {
        let text = Info { name: "a\nformat = x".into(), ..real() }.render();
        assert_eq!(text.lines().count(), 17);
        assert_eq!(text.lines().nth(1), Some("name = a format = x"));
    }

    #[test]
    fn names_the_binary_log_position() {
        let gtid = "0-1-33".to_owned();
        let at = BinlogPosition { file: "mb.000001".into(), position: 6282, gtid };
        let text = Info { binlog_pos: Some(at), partial: true, ..real() }.render();
        let wanted = "binlog_pos = filename 'mb.000001', position '6282', \
                      GTID of the last change '0-1-33'\n";
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("partial = Y\n"), "{text}");
    }
}
