//! Which option files are read, which of their groups, and what is taken from them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::lexer::{self, Long};
use super::settings::Origin;
use super::table::{Argument, Support, Table};
use super::usage_error::UsageError;
use super::value::Given;
use super::{Interface, Parser, secret};
use crate::defaults_file::{Entry, OptionFileError, OptionFiles};

/// Groups read for the options of the server.
pub const SERVER_GROUPS: [&str; 6] =
    ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"];
/// Groups read for the options of the connection.
pub const CLIENT_GROUPS: [&str; 3] = ["client", "client-server", "client-mariadb"];
/// Groups for this program alone.
pub const BACKUP_GROUPS: [&str; 3] = ["xtrabackup", "mariabackup", "mariadb-backup"];

/// Options that only count at the start of the command line.
#[derive(Debug, Default)]
pub(super) struct First {
    pub no_defaults: bool,
    pub file: Option<PathBuf>,
    pub extra_file: Option<PathBuf>,
    pub group_suffix: Option<OsString>,
    pub print: bool,
    /// How many words these options take, the name of the program included.
    pub len: usize,
}

/// Groups of option files and what they are read for.
pub(super) struct Groups(Vec<(String, Origin)>);

impl Groups {
    fn origins(&self, group: &str) -> impl Iterator<Item = Origin> {
        let mut origins: Vec<Origin> = self
            .0
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(group))
            .map(|(_, origin)| *origin)
            .collect();
        origins.dedup();
        origins.into_iter()
    }
}

impl Parser<'_> {
    /// Reads the options that only count at the start.
    pub(super) fn first_options(&self) -> First {
        let start = 1 + usize::from(self.interface != Interface::Usual);
        let mut first = First { len: start, ..First::default() };
        let word = |at: usize| self.arguments.get(at).map(OsString::as_os_str);
        if word(start) == Some(OsStr::new("--no-defaults")) {
            first.no_defaults = true;
            first.len += 1;
        }
        while let Some(word) = word(first.len) {
            if let Some(path) = lexer::strip(word, "--defaults-file=")
                && !first.no_defaults
                && first.file.is_none()
            {
                first.file = Some(self.environment.absolute(path));
            } else if let Some(path) = lexer::strip(word, "--defaults-extra-file=")
                && !first.no_defaults
                && first.extra_file.is_none()
            {
                first.extra_file = Some(self.environment.absolute(path));
            } else if let Some(suffix) = lexer::strip(word, "--defaults-group-suffix=")
                && !first.no_defaults
                && first.group_suffix.is_none()
            {
                first.group_suffix = Some(suffix.to_owned());
            } else if word == "--print-defaults" && !first.print {
                first.print = true;
            } else {
                break;
            }
            first.len += 1;
        }
        if first.group_suffix.is_none() {
            let suffix = ["MARIADB_GROUP_SUFFIX", "MYSQL_GROUP_SUFFIX"]
                .into_iter()
                .find_map(|name| self.environment.variable(name));
            first.group_suffix = suffix.cloned();
        }
        first
    }

    pub(super) fn read_option_files(
        &self,
        first: &First,
        prepare: bool,
        files: &mut OptionFiles,
    ) -> Result<(), OptionFileError> {
        if let Some(file) = &first.file {
            return files.read(file);
        }
        // A backup is prepared with the options of its own server.
        if first.no_defaults || prepare {
            return Ok(());
        }
        for file in &self.environment.usual_files {
            files.read_if_there(file)?;
        }
        let home = ["MARIADB_HOME", "MYSQL_HOME"]
            .into_iter()
            .find_map(|name| self.environment.variable(name));
        if let Some(home) = home {
            files.read_if_there(&self.environment.absolute(home).join("my.cnf"))?;
        }
        if let Some(file) = &first.extra_file {
            files.read(file)?;
        }
        if let Some(home) = self.environment.variable("HOME") {
            files.read_if_there(&Path::new(home).join(".my.cnf"))?;
        }
        Ok(())
    }

    pub(super) fn groups(&self, first: &First, prepare: bool) -> Groups {
        let mut server: Vec<String> = SERVER_GROUPS.map(str::to_owned).to_vec();
        let named =
            |name: &str| self.settings.text(name).map(|group| group.to_string_lossy().into_owned());
        server.extend(named("defaults-group"));
        if !prepare && let Some(series) = self.series_of_backup() {
            server.extend(["mysqld", "mariadb", "mariadbd"].map(|name| format!("{name}-{series}")));
        }
        let mut client: Vec<String> = CLIENT_GROUPS.map(str::to_owned).to_vec();
        client.extend(named("login-path"));
        let backup = BACKUP_GROUPS.map(str::to_owned).to_vec();
        let mut groups = Vec::new();
        for (names, origin) in [
            (server, Origin::ServerGroup),
            (client, Origin::ClientGroup),
            (backup, Origin::BackupGroup),
        ] {
            for name in names {
                if let Some(suffix) = &first.group_suffix {
                    groups.push((format!("{name}{}", suffix.to_string_lossy()), origin));
                }
                groups.push((name, origin));
            }
        }
        groups.sort_by_key(|(_, origin)| *origin);
        Groups(groups)
    }

    /// Series (`10.11`) of the server that the backup to be restored comes from: its groups
    /// `[mysqld-10.11]` count. While a backup is taken the server's series is not known yet.
    fn series_of_backup(&self) -> Option<String> {
        if !self.settings.flag("copy-back") && !self.settings.flag("move-back") {
            return None;
        }
        let target = self.environment.absolute(&self.settings.text("target-dir")?);
        let info = ["mariadb_backup_info", "xtrabackup_info"]
            .iter()
            .find_map(|name| fs::read_to_string(target.join(name)).ok())?;
        let version = info.lines().find_map(|line| line.strip_prefix("server_version = "))?;
        let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
        Some(format!("{}.{}", numbers.next()?, numbers.next()?))
    }

    pub(super) fn take_entries(&mut self, entries: &[Entry], groups: &Groups) {
        for entry in entries {
            for origin in groups.origins(&entry.group) {
                if let Err(error) = self.take_entry(entry, origin) {
                    self.note(error);
                }
            }
        }
    }

    fn take_entry(&mut self, entry: &Entry, origin: Origin) -> Result<(), UsageError> {
        let text = lexer::join(&entry.name, entry.value.as_deref());
        let table = match origin {
            Origin::ServerGroup | Origin::Backup => Table::Server,
            Origin::ClientGroup => Table::Client,
            _ => self.own_table(),
        };
        let known = match lexer::long(&text, table) {
            Long::Known(known) => known,
            Long::Unknown { loose, has_value } if origin == Origin::BackupGroup => {
                return self.unknown(&text, loose, has_value);
            }
            Long::Unknown { .. } => {
                if origin == Origin::ServerGroup && entry.name == "socket" {
                    self.server_socket.clone_from(&entry.value);
                }
                return Ok(());
            }
        };
        let warnings = self.warnings.len();
        let result =
            if known.spec.argument == Argument::Required && matches!(known.given, Given::Nothing) {
                Err(UsageError::ArgumentRequired(format!("--{}", known.spec.name)))
            } else {
                self.assign(&known, origin)
            };
        // What a newer server takes for values of options without effect is its own affair.
        let is_servers = origin < Origin::BackupGroup || origin == Origin::Backup;
        if is_servers && known.spec.support == Support::NoEffect {
            self.warnings.truncate(warnings);
            return Ok(());
        }
        result.map_err(|error| self.of_innobackupex(known.spec, error))
    }

    /// The backup's own InnoDB options go before those of any other file.
    pub(super) fn read_backup_my_cnf(&mut self) {
        let Some(target) = self.settings.text("target-dir") else { return };
        let path = self.environment.absolute(&target).join("backup-my.cnf");
        let mut files = OptionFiles::default();
        if let Err(error) = files.read_if_there(&path) {
            self.note(UsageError::OptionFile(error.to_string()));
        }
        self.warnings.append(&mut files.warnings);
        for entry in files.entries.iter().filter(|entry| entry.group == "mysqld") {
            if let Err(error) = self.take_entry(entry, Origin::Backup) {
                self.note(error);
            }
        }
    }

    /// Text of `--print-defaults`: the server options of the files, then the command line.
    pub(super) fn defaults(&self, first: &First, entries: &[Entry]) -> String {
        let groups = self.groups(first, false);
        let is_server = |entry: &&Entry| {
            groups.origins(&entry.group).any(|origin| origin == Origin::ServerGroup)
        };
        let mut words: Vec<String> = entries
            .iter()
            .filter(is_server)
            .map(|entry| lexer::join(&entry.name, entry.value.as_deref()))
            .map(|text| format!("--{}", text.display()))
            .collect();
        words.extend(
            secret::masked(self.arguments, &self.secrets, "...")
                .iter()
                .skip(first.len)
                .map(|word| word.to_string_lossy().into_owned()),
        );
        let program = &self.program;
        words.push("\n".to_owned());
        let words = words.join(" ");
        format!("{program} would have been started with the following arguments:\n{words}")
    }
}
