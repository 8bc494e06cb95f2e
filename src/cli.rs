//! The command line and the option files, by the rules of MariaDB's own programs. They are not
//! those of any parser library: `-` and `_` are equal, values may follow in the next word,
//! `--skip-` takes an option back, option files have groups and precedence. So the words are
//! read here, and clap renders the help and the manual page from the same [`table`].

pub mod help;
mod lexer;
mod resolve;
pub mod secret;
mod settings;
pub mod table;
pub mod usage_error;
mod value;

use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::defaults_file::{Entry, OptionFiles};
use crate::options::Command;

use lexer::{Known, Long};
use secret::Secret;
use settings::{Origin, Settings};
use table::{Argument, Kind, Spec, Support, Table};
use usage_error::UsageError;
use value::Given;

/// Groups read for the options of the server.
pub const SERVER_GROUPS: [&str; 6] =
    ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"];
/// Groups read for the options of the connection.
pub const CLIENT_GROUPS: [&str; 3] = ["client", "client-server", "client-mariadb"];
/// Groups for this program alone.
pub const BACKUP_GROUPS: [&str; 3] = ["xtrabackup", "mariabackup", "mariadb-backup"];

/// What the parser knows of the process.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Environment variables.
    pub variables: HashMap<String, OsString>,
    /// Working directory.
    pub directory: PathBuf,
    /// Option files that every program of MariaDB reads first.
    pub usual_files: Vec<PathBuf>,
    /// Whether somebody can be asked for a password.
    pub interactive: bool,
}

impl Environment {
    /// That of this process.
    ///
    /// # Errors
    ///
    /// If the working directory is gone.
    pub fn of_process() -> io::Result<Self> {
        let variables =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Ok(Self {
            variables: variables.collect(),
            directory: env::current_dir()?,
            usual_files: ["/etc/my.cnf", "/etc/mysql/my.cnf"].map(PathBuf::from).to_vec(),
            interactive: io::stdin().is_terminal(),
        })
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name)
    }

    /// `path` made absolute; a `~` at its start is the home directory.
    fn absolute(&self, path: &OsStr) -> PathBuf {
        let home = self.variable("HOME").map(PathBuf::from);
        let below_home = match (Path::new(path).strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => None,
        };
        // Collecting drops a slash at the end and `.` inside.
        self.directory.join(below_home.unwrap_or_else(|| path.into())).components().collect()
    }
}

/// A command line that was read.
pub struct Invocation {
    /// Name the program was called by, as typed.
    pub program: String,
    /// Lines to show before anything else.
    pub warnings: Vec<String>,
    /// Passwords on the command line.
    pub secrets: Vec<Secret>,
    /// What to do.
    pub action: Result<Action, UsageError>,
}

/// What to do.
pub enum Action {
    /// Back up, prepare or restore.
    Run {
        /// What exactly.
        command: Command,
        /// The password is still to be asked for.
        ask_password: bool,
    },
    /// Print the version.
    Version,
    /// Print this help.
    Help(String),
    /// Print this text.
    PrintDefaults(String),
}

/// Reads the command line and the option files.
pub fn parse(arguments: &[OsString], environment: &Environment) -> Invocation {
    let program = arguments
        .first()
        .map_or_else(|| "mariabackup".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut parser = Parser {
        arguments,
        environment,
        program,
        settings: Settings::default(),
        warnings: Vec::new(),
        secrets: Vec::new(),
        asked_by: None,
        server_socket: None,
        first_error: None,
    };
    let action = parser.parse();
    let Parser { program, warnings, secrets, .. } = parser;
    Invocation { program, warnings, secrets, action }
}

/// Options that only count at the start of the command line.
#[derive(Debug, Default)]
struct First {
    no_defaults: bool,
    file: Option<PathBuf>,
    extra_file: Option<PathBuf>,
    group_suffix: Option<OsString>,
    print: bool,
    /// How many words these options take, the name of the program included.
    len: usize,
}

struct Parser<'a> {
    arguments: &'a [OsString],
    environment: &'a Environment,
    program: String,
    settings: Settings,
    warnings: Vec<String>,
    secrets: Vec<Secret>,
    /// `--password` without a password, as typed, and why the next word is none.
    asked_by: Option<String>,
    /// `socket` of a server group.
    server_socket: Option<OsString>,
    first_error: Option<UsageError>,
}

impl<'a> Parser<'a> {
    fn parse(&mut self) -> Result<Action, UsageError> {
        let tool_name =
            Path::new(&self.program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if tool_name == "mbstream" || tool_name == "xbstream" {
            let text = format!("{tool_name} is not supported yet by this version");
            return Err(UsageError::Message(text));
        }
        let first_word = self.arguments.get(1).and_then(|word| word.to_str());
        if let Some(name @ ("innobackupex" | "mysqld" | "mariadbd")) =
            first_word.and_then(|word| word.strip_prefix("--"))
        {
            return Err(UsageError::NotSupported(name.to_owned()));
        }
        let first = self.first_options();
        self.command_line(first.len);
        let prepare = self.settings.flag("prepare");
        let mut files = OptionFiles::default();
        let read = self.read_option_files(&first, prepare, &mut files);
        self.warnings.append(&mut files.warnings);
        read.map_err(|error| UsageError::OptionFile(error.to_string()))?;
        if first.print {
            return Ok(Action::PrintDefaults(self.defaults(&first, &files.entries)));
        }
        let groups = self.groups(&first, prepare);
        self.take_entries(&files.entries, &groups);
        if prepare {
            self.read_backup_my_cnf();
        }
        self.decide(&tool_name)
    }

    fn first_options(&self) -> First {
        let mut first = First { len: 1, ..First::default() };
        let word = |at: usize| self.arguments.get(at).map(OsString::as_os_str);
        if word(1) == Some(OsStr::new("--no-defaults")) {
            first.no_defaults = true;
            first.len = 2;
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

    /// Reads the words from number `at` on. Keeps the first error and reads on: `--help` and
    /// `--version` are served beside an unknown option.
    fn command_line(&mut self, mut at: usize) {
        let mut only_words = false;
        while let Some(word) = self.arguments.get(at) {
            at += 1;
            let result = if only_words || word.as_bytes().first() != Some(&b'-') || word == "-" {
                Err(UsageError::UnknownArgument(word.to_string_lossy().into_owned()))
            } else if word == "--" {
                only_words = true;
                Ok(())
            } else if let Some(text) = lexer::strip(word, "--") {
                if let Long::Known(known) = lexer::long(text, Table::Server)
                    && known.spec.name == "mysqld-args"
                {
                    return self.server_arguments(at);
                }
                self.long(text, &mut at)
            } else {
                self.short(word, &mut at)
            };
            if let Err(error) = result {
                self.note(error);
            }
        }
    }

    /// Keeps the first error; one about a value goes before one about an unknown option.
    fn note(&mut self, error: UsageError) {
        let better = match &self.first_error {
            None => true,
            Some(known) => known.is_unknown() && !error.is_unknown(),
        };
        if better {
            self.first_error = Some(error);
        }
    }

    /// A long option; `at` is the number of the word after it.
    fn long(&mut self, text: &OsStr, at: &mut usize) -> Result<(), UsageError> {
        for name in ["defaults-file", "defaults-extra-file"] {
            if lexer::split(text).0 == name.as_bytes() && lexer::split(text).1.is_some() {
                return Err(UsageError::MustBeFirst(name));
            }
        }
        let mut known = match lexer::long(text, Table::Both) {
            Long::Known(known) => known,
            Long::Unknown { loose, has_value } => return self.unknown(text, loose, has_value),
        };
        if known.autoset {
            return self.assign(&known, Origin::CommandLine);
        }
        let is_password = known.spec.name == "password";
        if known.spec.argument == Argument::Required && matches!(known.given, Given::Nothing) {
            let name = format!("--{}", known.spec.name);
            match self.next_word(known.spec, &name, at)? {
                Some(word) => known.given = Given::Text(word),
                None => return Ok(()),
            }
        } else if let (true, Given::Text(password)) = (is_password, known.given) {
            let len = self.arguments.get(*at - 1).map_or(0, |word| word.len());
            self.hide(*at - 1, len - password.len());
        }
        self.assign(&known, Origin::CommandLine)
    }

    fn unknown(&mut self, text: &OsStr, loose: bool, has_value: bool) -> Result<(), UsageError> {
        let text = text.to_string_lossy().into_owned();
        let error = if has_value {
            UsageError::UnknownVariable(text)
        } else {
            UsageError::UnknownOption(format!("--{text}"))
        };
        if loose {
            self.warnings.push(format!("Warning: {}: {error}", self.program));
            return Ok(());
        }
        Err(error)
    }

    /// Letters after one dash.
    fn short(&mut self, word: &OsStr, at: &mut usize) -> Result<(), UsageError> {
        let bytes = word.as_bytes();
        for (offset, byte) in bytes.iter().enumerate().skip(1) {
            let letter = char::from(*byte);
            let Some(spec) = Spec::find_short(letter) else {
                return Err(UsageError::UnknownOption(format!("-{letter}")));
            };
            if spec.argument != Argument::Required {
                self.assign_plain(spec, Given::Nothing)?;
                continue;
            }
            let joined = bytes.get(offset + 1..).unwrap_or_default();
            if !joined.is_empty() {
                if spec.name == "password" {
                    self.hide(*at - 1, offset + 1);
                }
                return self.assign_plain(spec, Given::Text(OsStr::from_bytes(joined)));
            }
            return match self.next_word(spec, &format!("-{letter}"), at)? {
                Some(word) => self.assign_plain(spec, Given::Text(word)),
                None => Ok(()),
            };
        }
        Ok(())
    }

    /// The word after an option that needs a value. `None`: the password is to be asked for,
    /// because an option follows where it should stand. `typed`: the option, for messages.
    fn next_word(
        &mut self,
        spec: &Spec,
        typed: &str,
        at: &mut usize,
    ) -> Result<Option<&'a OsStr>, UsageError> {
        let word = self.arguments.get(*at);
        if spec.name != "password" {
            *at += 1;
            return match word {
                Some(word) => Ok(Some(word)),
                None => Err(UsageError::ArgumentRequired(typed.to_owned())),
            };
        }
        match word {
            Some(word) if word.as_bytes().first() != Some(&b'-') => {
                self.hide(*at, 0);
                *at += 1;
                Ok(Some(word))
            }
            _ => {
                self.asked_by = Some(typed.to_owned());
                Ok(None)
            }
        }
    }

    fn hide(&mut self, argument: usize, keep: usize) {
        self.asked_by = None;
        if self.arguments.get(argument).is_some_and(|word| word.len() > keep) {
            self.secrets.push(Secret { argument, keep });
        }
    }

    /// Options of the server after `--mysqld-args`; those that are not known are ignored.
    fn server_arguments(&mut self, mut at: usize) {
        while let Some(word) = self.arguments.get(at) {
            at += 1;
            let Some(text) = lexer::strip(word, "--") else { continue };
            let Long::Known(mut known) = lexer::long(text, Table::Server) else { continue };
            if known.spec.argument == Argument::Required && matches!(known.given, Given::Nothing) {
                let Some(word) = self.arguments.get(at) else { continue };
                at += 1;
                known.given = Given::Text(word);
            }
            if let Err(error) = self.assign(&known, Origin::ServerArguments) {
                self.note(error);
            }
        }
    }

    fn assign(&mut self, known: &Known<'_>, origin: Origin) -> Result<(), UsageError> {
        let Known { spec, given, autoset, maximum } = *known;
        if autoset && matches!(spec.kind, Kind::Number(_)) {
            return Err(UsageError::CannotAutoset(spec.display_name()));
        }
        if maximum {
            return Ok(());
        }
        if let Some(value) = value::read(spec, given, &self.program, &mut self.warnings)? {
            self.settings.set(spec, value, origin);
        }
        Ok(())
    }

    fn assign_plain(&mut self, spec: &'static Spec, given: Given<'_>) -> Result<(), UsageError> {
        let known = Known { spec, given, autoset: false, maximum: false };
        self.assign(&known, Origin::CommandLine)
    }
}

/// Groups of option files and what they are read for.
struct Groups(Vec<(String, Origin)>);

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
    fn read_option_files(
        &self,
        first: &First,
        prepare: bool,
        files: &mut OptionFiles,
    ) -> Result<(), crate::defaults_file::OptionFileError> {
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

    fn groups(&self, first: &First, prepare: bool) -> Groups {
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

    fn take_entries(&mut self, entries: &[Entry], groups: &Groups) {
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
            _ => Table::Both,
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
        if known.spec.argument == Argument::Required && matches!(known.given, Given::Nothing) {
            return Err(UsageError::ArgumentRequired(format!("--{}", known.spec.name)));
        }
        // What a newer server takes for values of options without effect is its own affair.
        let lenient = table != Table::Both && known.spec.support == Support::NoEffect;
        if lenient {
            return Ok(());
        }
        self.assign(&known, origin)
    }

    /// The backup's own InnoDB options go before those of any other file.
    fn read_backup_my_cnf(&mut self) {
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
    fn defaults(&self, first: &First, entries: &[Entry]) -> String {
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
        let words = words.join(" ");
        format!("{program} would have been started with the following arguments:\n{words} \n")
    }
}

#[cfg(test)]
mod tests;
