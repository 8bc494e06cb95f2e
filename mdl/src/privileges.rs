//! What the account may do, from `SHOW GRANTS`.
//!
//! The server lists the account's own grants and those of its active role with all roles granted
//! to it; roles that are granted but not active give nothing and their grants are not listed.

use crate::facts::ServerFacts;
use crate::session::{Session, SessionError, quoted};
use crate::version::ServerVersion;

/// Server whose `SUPER` no longer stands for other privileges.
const SUPER_SPLIT: (u32, u32) = (11, 0);

/// Checks that the account may do what a backup with its binary log position needs, before
/// anything is copied or locked.
///
/// # Errors
///
/// [`PrivilegeError::Missing`] if not.
pub fn check(session: &mut Session, facts: &ServerFacts) -> Result<(), PrivilegeError> {
    let mut needed = vec![Privilege::Reload, Privilege::Process];
    if facts.log_bin {
        needed.push(Privilege::BinlogMonitor);
    }
    Ok(Grants::read(session)?.require(&needed)?)
}

/// A failed check of privileges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// The server does not say.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Privileges are missing.
    #[error(transparent)]
    Missing(#[from] MissingPrivileges),
}

impl PrivilegeError {
    /// What the operator can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Session(error) => error.hint(),
            Self::Missing(missing) => Some(format!("run {}", missing.grant_statement())),
        }
    }
}

/// A privilege on `*.*` that a part of a backup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Privilege {
    /// `BACKUP STAGE`, `BACKUP LOCK`, `FLUSH`.
    Reload,
    /// InnoDB's status.
    Process,
    /// `SHOW MASTER STATUS`; called `REPLICATION CLIENT` by older servers.
    BinlogMonitor,
    /// `SHOW ALL SLAVES STATUS`.
    SlaveMonitor,
    /// Stopping and starting replication.
    ReplicationSlaveAdmin,
    /// `KILL` of other accounts' statements.
    ConnectionAdmin,
}

impl Privilege {
    /// Name in `GRANT` statements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reload => "RELOAD",
            Self::Process => "PROCESS",
            Self::BinlogMonitor => "BINLOG MONITOR",
            Self::SlaveMonitor => "SLAVE MONITOR",
            Self::ReplicationSlaveAdmin => "REPLICATION SLAVE ADMIN",
            Self::ConnectionAdmin => "CONNECTION ADMIN",
        }
    }

    /// Other names that grant it.
    fn other_names(self) -> &'static [&'static str] {
        match self {
            Self::Reload | Self::Process | Self::ConnectionAdmin => &[],
            Self::BinlogMonitor => &["REPLICATION CLIENT"],
            Self::SlaveMonitor => &["REPLICA MONITOR"],
            Self::ReplicationSlaveAdmin => &["REPLICATION REPLICA ADMIN"],
        }
    }

    /// Whether `SUPER` contained it before it was split up.
    fn was_part_of_super(self) -> bool {
        !matches!(self, Self::Reload | Self::Process)
    }
}

/// The grants that are in force in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    lines: Vec<String>,
    /// Privileges on `*.*`, in upper case.
    global: Vec<String>,
    account: String,
    super_split: bool,
}

impl Grants {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// [`SessionError`] if it does not answer.
    pub fn read(session: &mut Session) -> Result<Self, SessionError> {
        let rows = session.query("SHOW GRANTS")?;
        let lines: Vec<_> = rows.iter().filter_map(|row| row.at(0)).map(str::to_owned).collect();
        let account = session.query_value("SELECT CURRENT_USER()")?;
        Ok(Self::parse(&lines, &account, session.version()))
    }

    /// `account`: user and host with `@` between, not quoted.
    fn parse(lines: &[String], account: &str, version: &ServerVersion) -> Self {
        let global = lines.iter().filter_map(|line| global_privileges(line)).flatten().collect();
        let lines = lines.iter().map(|line| without_secrets(line)).collect();
        let account = match account.rsplit_once('@') {
            Some((user, host)) => format!("{}@{}", quoted(user), quoted(host)),
            None => quoted(account),
        };
        Self { lines, global, account, super_split: version.series() >= SUPER_SPLIT }
    }

    /// The statements that `SHOW GRANTS` lists, with hashes of passwords left out.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether the account has a privilege on `*.*`.
    pub fn has(&self, privilege: Privilege) -> bool {
        let by_super = privilege.was_part_of_super() && !self.super_split;
        self.global.iter().any(|name| {
            name == "ALL PRIVILEGES"
                || name == privilege.name()
                || privilege.other_names().contains(&name.as_str())
                || (by_super && name == "SUPER")
        })
    }

    /// Checks that all these privileges are there.
    ///
    /// # Errors
    ///
    /// [`MissingPrivileges`] with those that are not.
    pub fn require(&self, needed: &[Privilege]) -> Result<(), MissingPrivileges> {
        let missing: Vec<_> = needed.iter().copied().filter(|&p| !self.has(p)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let account = self.account.clone();
        Err(MissingPrivileges { missing, account, grants: self.lines.clone() })
    }
}

/// Privileges that the account lacks. Reads as one line for each, then the current grants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}\n{}", self.lines().join("\n"), self.current_grants().join("\n"))]
pub struct MissingPrivileges {
    missing: Vec<Privilege>,
    account: String,
    grants: Vec<String>,
}

impl MissingPrivileges {
    /// One line for each missing privilege, such as
    /// `missing required privilege RELOAD on *.*`.
    pub fn lines(&self) -> Vec<String> {
        let line = |p: &Privilege| format!("missing required privilege {} on *.*", p.name());
        self.missing.iter().map(line).collect()
    }

    /// The current grants in the form that scripts know: a heading and numbered lines.
    pub fn current_grants(&self) -> Vec<String> {
        let mut lines = vec!["Current privileges, as reported by 'SHOW GRANTS': ".to_owned()];
        let numbered = self.grants.iter().zip(1..).map(|(grant, n)| format!("  {n}.{grant}"));
        lines.extend(numbered);
        lines
    }

    /// The statement that grants what is missing.
    pub fn grant_statement(&self) -> String {
        let names: Vec<_> = self.missing.iter().map(|privilege| privilege.name()).collect();
        format!("GRANT {} ON *.* TO {};", names.join(", "), self.account)
    }
}

/// Privileges of a line `GRANT ... ON *.* TO ...`; `None` for any other line.
///
/// Names are compared outside of backquotes only: a database may be called `x ON *.* TO y`.
fn global_privileges(line: &str) -> Option<Vec<String>> {
    let list = line.strip_prefix("GRANT ")?;
    let end = list.find(['`', '\'', '"']).unwrap_or(list.len());
    let (names, _) = list.get(..end)?.split_once(" ON *.* TO ")?;
    Some(names.split(',').map(|name| name.trim().to_ascii_uppercase()).collect())
}

/// The line without what follows `IDENTIFIED`, up to the next clause.
fn without_secrets(line: &str) -> String {
    let Some((before, identified)) = split_unquoted(line, &[" IDENTIFIED "]) else {
        return line.to_owned();
    };
    let after = split_unquoted(identified, &[" REQUIRE ", " WITH "]).map_or("", |(_, after)| after);
    format!("{before} IDENTIFIED ...{after}")
}

/// Splits before the first of the words that stands outside of quotes.
fn split_unquoted<'a>(text: &'a str, words: &[&str]) -> Option<(&'a str, &'a str)> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        let (before, here) = text.split_at_checked(at)?;
        match quote {
            None if words.iter().any(|word| here.starts_with(word)) => return Some((before, here)),
            None if matches!(c, '`' | '\'' | '"') => quote = Some(c),
            Some(q) if q == c && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && !escaped && quote != Some('`');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ServerVersion {
        ServerVersion::parse(text).unwrap()
    }

    fn grants(lines: &[&str]) -> Grants {
        let lines: Vec<_> = lines.iter().map(|&line| line.to_owned()).collect();
        Grants::parse(&lines, "bkp@local@host", &version("10.11.19-MariaDB"))
    }

    const NEEDED: [Privilege; 3] =
        [Privilege::Reload, Privilege::Process, Privilege::BinlogMonitor];

    #[test]
    fn privileges_on_everything_count() {
        for lines in [
            &[
                "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO `bkp`@`%` IDENTIFIED BY PASSWORD '*F3'",
            ][..],
            &["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"],
            &["GRANT RELOAD, PROCESS, REPLICATION CLIENT ON *.* TO `bkp`@`%`"],
            &["GRANT RELOAD, PROCESS, SUPER ON *.* TO `bkp`@`%`"],
            &[
                "GRANT `r1` TO `roled`@`localhost`",
                "GRANT USAGE ON *.* TO `roled`@`localhost` IDENTIFIED BY PASSWORD '*7B'",
                "GRANT `r2` TO `r1`",
                "GRANT RELOAD, PROCESS ON *.* TO `r1`",
                "GRANT BINLOG MONITOR ON *.* TO `r2`",
                "SET DEFAULT ROLE `r1` FOR `roled`@`localhost`",
            ],
        ] {
            assert_eq!(grants(lines).require(&NEEDED), Ok(()), "{lines:?}");
        }
    }

    #[test]
    fn other_scopes_do_not_count() {
        for line in [
            "GRANT ALL PRIVILEGES ON `d`.* TO `onlydb`@`localhost`",
            "GRANT USAGE ON *.* TO `x`@`%`",
            "GRANT `RELOAD` TO `x`@`%`",
            "GRANT RELOAD ON `a ON *.* TO `.* TO `x`@`%`",
            "GRANT SELECT (`RELOAD`, `a`), INSERT (`b`) ON `d`.`t` TO `x`@`localhost`",
            "GRANT PROXY ON `x`@`y` TO `x`@`localhost`",
            "GRANT EXECUTE ON PROCEDURE `d`.`p` TO `x`@`localhost`",
            "SET DEFAULT ROLE `RELOAD` FOR `x`@`localhost`",
        ] {
            let missing = grants(&[line]).require(&NEEDED).unwrap_err();
            assert_eq!(missing.missing, NEEDED, "{line}");
        }
    }

    #[test]
    fn super_lost_its_parts() {
        let lines = ["GRANT SUPER ON *.* TO `x`@`%`".to_owned()];
        let new = Grants::parse(&lines, "x@%", &version("11.8.6-MariaDB"));
        assert!(!new.has(Privilege::BinlogMonitor));
        assert!(!grants(&["GRANT SUPER ON *.* TO `x`@`%`"]).has(Privilege::Reload));
    }

    #[test]
    fn what_is_missing_is_named_with_its_cure() {
        let missing = grants(&["GRANT PROCESS ON *.* TO `bkp`@`%` IDENTIFIED BY PASSWORD '*6F'"])
            .require(&NEEDED)
            .unwrap_err();
        assert_eq!(
            missing.to_string(),
            "missing required privilege RELOAD on *.*\n\
             missing required privilege BINLOG MONITOR on *.*\n\
             Current privileges, as reported by 'SHOW GRANTS': \n  \
               1.GRANT PROCESS ON *.* TO `bkp`@`%` IDENTIFIED ..."
        );
        assert_eq!(
            missing.grant_statement(),
            "GRANT RELOAD, BINLOG MONITOR ON *.* TO `bkp@local`@`host`;"
        );
        assert_eq!(
            missing.current_grants(),
            [
                "Current privileges, as reported by 'SHOW GRANTS': ",
                "  1.GRANT PROCESS ON *.* TO `bkp`@`%` IDENTIFIED ..."
            ]
        );
    }

    #[test]
    fn hashes_of_passwords_are_not_shown() {
        for (line, shown) in [
            (
                "GRANT USAGE ON *.* TO `x`@`%` IDENTIFIED VIA ed25519 USING 'S\\'e' OR unix_socket \
                 REQUIRE SSL WITH GRANT OPTION",
                "GRANT USAGE ON *.* TO `x`@`%` IDENTIFIED ... REQUIRE SSL WITH GRANT OPTION",
            ),
            (
                "GRANT USAGE ON *.* TO `x IDENTIFIED y`@`%`",
                "GRANT USAGE ON *.* TO `x IDENTIFIED y`@`%`",
            ),
            ("GRANT `r` TO `x`@`%` WITH ADMIN OPTION", "GRANT `r` TO `x`@`%` WITH ADMIN OPTION"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }
}
