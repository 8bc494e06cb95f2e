//! The server's version, from the text that it announces.

use std::fmt;

/// Oldest series that has `BACKUP STAGE` and a redo log that is known here.
const OLDEST: (u32, u32) = (10, 5);

/// Put before the true version by servers up to 10.x, for the sake of old replicas.
const REPLICATION_PREFIX: &str = "5.5.5-";

/// Version of a MariaDB server, 10.5 or later.
///
/// Compares by number alone: major, minor, patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
    text: String,
}

impl ServerVersion {
    /// Reads a version such as `10.11.19-MariaDB-log`, with or without the prefix `5.5.5-`.
    /// `None`: not a MariaDB server, older than 10.5, or no version at all.
    pub fn parse(text: &str) -> Option<Self> {
        let text = Self::without_prefix(text);
        let (major, minor, patch) = numbers(text)?;
        let supported = text.contains("MariaDB") && (major, minor) >= OLDEST;
        supported.then(|| Self { major, minor, patch, text: text.to_owned() })
    }

    /// The text without the prefix `5.5.5-` that older series announce.
    pub(crate) fn without_prefix(text: &str) -> &str {
        text.strip_prefix(REPLICATION_PREFIX).unwrap_or(text)
    }

    /// The text as the server's `VERSION()` has it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Major and minor number, such as `(10, 11)`.
    pub fn series(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// What a backup's copy of the redo log names as its creator, such as `Backup 10.11.19`.
    pub fn creator(&self) -> String {
        format!("Backup {}.{}.{}", self.major, self.minor, self.patch)
    }

    /// Numbers and name alone, such as `10.11.19-MariaDB`.
    pub fn series_text(&self) -> String {
        format!("{}.{}.{}-MariaDB", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn numbers(text: &str) -> Option<(u32, u32, u32)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text.get(..end)?.split('.');
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_announce() {
        for (text, numbers) in [
            ("5.5.5-10.11.19-MariaDB-0+deb12u1-log", (10, 11, 19)),
            ("10.5.23-MariaDB", (10, 5, 23)),
            ("11.8.6-MariaDB-0+deb13u1 from Debian-log", (11, 8, 6)),
            ("10.6.16-11-MariaDB-enterprise-log", (10, 6, 16)),
            ("13.0.1-MariaDB", (13, 0, 1)),
        ] {
            let version = ServerVersion::parse(text).unwrap();
            assert_eq!((version.major, version.minor, version.patch), numbers, "{text}");
            assert!(!version.as_str().starts_with("5.5.5-"));
        }
    }

    #[test]
    fn names_the_backup_writes() {
        let version = ServerVersion::parse("5.5.5-10.11.19-MariaDB-log").unwrap();
        assert_eq!(version.to_string(), "10.11.19-MariaDB-log");
        assert_eq!(version.series_text(), "10.11.19-MariaDB");
        assert_eq!(version.creator(), "Backup 10.11.19");
    }

    #[test]
    fn refuses_other_and_older_servers() {
        for text in [
            "8.0.36-0ubuntu0.22.04.1",
            "5.5.5-10.4.34-MariaDB-1:10.4.34+maria~ubu2004",
            "5.7.44-log",
            "5.5.5-MariaDB",
            "10.11-MariaDB",
            "99999999999.1.1-MariaDB",
            "MariaDB",
            "",
        ] {
            assert_eq!(ServerVersion::parse(text), None, "{text}");
        }
    }
}
