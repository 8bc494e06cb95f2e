//! The command line and the option files, by the rules of MariaDB's own programs. They are not
//! those of any parser library: `-` and `_` are equal, values may follow in the next word,
//! `--skip-` takes an option back, option files have groups and precedence. So the words are
//! read here, and clap renders the help and the manual page from the same [`table`].

mod files;
pub mod help;
mod innobackupex;
mod lexer;
mod print_param;
mod resolve;
pub mod secret;
mod settings;
pub mod table;
pub mod usage_error;
mod value;

use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::defaults_file::OptionFiles;
use crate::options::Command;

use lexer::{Known, Long};
use secret::Secret;
use settings::{Origin, Settings};
use table::{Argument, Spec, Table};
use usage_error::UsageError;
use value::Given;

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
    /// Print the version as innobackupex does: this text, on standard output.
    InnobackupexVersion(String),
    /// Print this help.
    Help(String),
    /// Print this text.
    PrintDefaults(String),
    /// Print this text, and say that all went well.
    PrintParam(String),
}

/// Reads the command line and the option files.
pub fn parse(arguments: &[OsString], environment: &Environment) -> Invocation {
    let mut parser = Parser::new(arguments, environment);
    let action = parser.parse();
    let Parser { program, warnings, .. } = parser;
    Invocation { program, warnings, action }
}

/// Finds the passwords and other secrets on the command line. Reads no file: it could be a pipe, which can be read
/// only once.
pub fn secrets(arguments: &[OsString], environment: &Environment) -> Vec<Secret> {
    let mut parser = Parser::new(arguments, environment);
    let first = parser.first_options();
    parser.command_line(first.len);
    parser.secrets
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
    /// What the first word says.
    interface: Interface,
    /// Words that are no options.
    words: Vec<&'a OsStr>,
    first_error: Option<UsageError>,
}

/// The word that stands where others have `--backup` or `--prepare`.
pub const VERIFY: &str = "verify";

/// How the program is spoken to, by the first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    /// No word, but options.
    Usual,
    /// `verify`
    Verify,
    /// `--innobackupex`
    Innobackupex,
}

impl Interface {
    fn of(arguments: &[OsString]) -> Self {
        match arguments.get(1).and_then(|word| word.to_str()) {
            Some(VERIFY) => Self::Verify,
            Some("--innobackupex") => Self::Innobackupex,
            _ => Self::Usual,
        }
    }
}

impl<'a> Parser<'a> {
    fn new(arguments: &'a [OsString], environment: &'a Environment) -> Self {
        let program = arguments
            .first()
            .map_or_else(|| "mariabackup".into(), |name| name.to_string_lossy())
            .into_owned();
        Self {
            arguments,
            environment,
            program,
            settings: Settings::default(),
            warnings: Vec::new(),
            secrets: Vec::new(),
            asked_by: None,
            server_socket: None,
            interface: Interface::of(arguments),
            words: Vec::new(),
            first_error: None,
        }
    }

    fn parse(&mut self) -> Result<Action, UsageError> {
        let tool_name =
            Path::new(&self.program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let first_word = self.arguments.get(1).and_then(|word| word.to_str());
        if let Some(name @ ("mysqld" | "mariadbd")) =
            first_word.and_then(|word| word.strip_prefix("--"))
        {
            return Err(UsageError::NotSupported(name.to_owned()));
        }
        let first = self.first_options();
        self.command_line(first.len);
        if self.interface == Interface::Innobackupex {
            "innobackupex".clone_into(&mut self.program);
            self.take_directory();
        }
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

    /// Reads the words from number `at` on. Keeps the first error and reads on: `--help` and
    /// `--version` are served beside an unknown option.
    fn command_line(&mut self, mut at: usize) {
        let mut only_words = false;
        while let Some(word) = self.arguments.get(at) {
            at += 1;
            let result = if only_words || word.as_bytes().first() != Some(&b'-') || word == "-" {
                self.word(word)
            } else if word == "--" {
                only_words = true;
                Ok(())
            } else if let Some(text) = lexer::strip(word, "--") {
                if lexer::split(text).0 == b"mysqld-args" {
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

    /// A word that is no option: the directory to be verified, or innobackupex's.
    fn word(&mut self, word: &'a OsStr) -> Result<(), UsageError> {
        if self.interface == Interface::Innobackupex {
            self.words.push(word);
            return Ok(());
        }
        let target = Spec::find("target-dir");
        let is_given = self.settings.origin("target-dir") == Some(Origin::CommandLine);
        match target.filter(|_| self.interface == Interface::Verify && !is_given) {
            Some(target) => self.assign_plain(target, Given::Text(word)),
            None => Err(UsageError::UnknownArgument(word.to_string_lossy().into_owned())),
        }
    }

    /// Where the options of the command line are looked for.
    fn own_table(&self) -> Table {
        match self.interface {
            Interface::Innobackupex => Table::Innobackupex,
            Interface::Usual | Interface::Verify => Table::Both,
        }
    }

    /// Keeps the first error; one about a value goes before one about an unknown option, and that
    /// before one about a word that is none.
    fn note(&mut self, error: UsageError) {
        if self.first_error.as_ref().is_none_or(|known| error.rank() < known.rank()) {
            self.first_error = Some(error);
        }
    }

    /// A long option; `at` is the number of the word after it.
    fn long(&mut self, text: &'a OsStr, at: &mut usize) -> Result<(), UsageError> {
        for name in ["defaults-file", "defaults-extra-file"] {
            // The very first one without a value is just unknown.
            let is_first = *at == 2;
            if lexer::split(text).0 == name.as_bytes()
                && (!is_first || lexer::split(text).1.is_some())
            {
                return Err(UsageError::MustBeFirst(name));
            }
        }
        let known = match lexer::long(text, self.own_table()) {
            Long::Known(known) => known,
            Long::Unknown { loose, has_value } => return self.unknown(text, loose, has_value),
        };
        let spec = known.spec;
        self.known(known, at).map_err(|error| self.of_innobackupex(spec, error))
    }

    /// A long option that is in the table.
    fn known(&mut self, mut known: Known<'a>, at: &mut usize) -> Result<(), UsageError> {
        if known.autoset {
            return self.assign(&known, Origin::CommandLine);
        }
        if known.spec.argument == Argument::Required && matches!(known.given, Given::Nothing) {
            let name = format!("--{}", known.spec.name);
            match self.next_word(known.spec, &name, at)? {
                Some(word) => known.given = Given::Text(word),
                None => return Ok(()),
            }
        } else if let Given::Text(value) = known.given {
            self.hide_value(known.spec, *at - 1, value);
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
    fn short(&mut self, word: &'a OsStr, at: &mut usize) -> Result<(), UsageError> {
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
            let joined = OsStr::from_bytes(bytes.get(offset + 1..).unwrap_or_default());
            return self
                .short_value(spec, letter, joined, at)
                .map_err(|error| self.of_innobackupex(spec, error));
        }
        Ok(())
    }

    /// The value of the option `letter`: `joined` to it, or the next word.
    fn short_value(
        &mut self,
        spec: &'static Spec,
        letter: char,
        joined: &'a OsStr,
        at: &mut usize,
    ) -> Result<(), UsageError> {
        if !joined.is_empty() {
            self.hide_value(spec, *at - 1, joined);
            return self.assign_plain(spec, Given::Text(joined));
        }
        match self.next_word(spec, &format!("-{letter}"), at)? {
            Some(word) => self.assign_plain(spec, Given::Text(word)),
            None => Ok(()),
        }
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
            let word = word.ok_or_else(|| UsageError::ArgumentRequired(typed.to_owned()))?;
            self.hide_value(spec, *at, word);
            *at += 1;
            return Ok(Some(word));
        }
        match word {
            Some(word) if word.as_bytes().first() != Some(&b'-') => {
                self.hide_value(spec, *at, word);
                *at += 1;
                Ok(Some(word))
            }
            _ => {
                self.asked_by = Some(typed.to_owned());
                Ok(None)
            }
        }
    }

    /// Notes that `value`, the end of an argument, must not be shown, if it is that of a secret.
    fn hide_value(&mut self, spec: &Spec, argument: usize, value: &OsStr) {
        if !spec.is_secret {
            return;
        }
        if spec.name == "password" {
            self.asked_by = None;
        }
        if !value.is_empty() {
            let len = self.arguments.get(argument).map_or(0, |word| word.len());
            self.secrets.push(Secret { argument, keep: len.saturating_sub(value.len()) });
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
                self.hide_value(known.spec, at, word);
                at += 1;
                known.given = Given::Text(word);
            } else if let Given::Text(value) = known.given {
                self.hide_value(known.spec, at - 1, value);
            }
            if let Err(error) = self.assign(&known, Origin::ServerArguments) {
                self.note(error);
            }
        }
    }

    fn assign(&mut self, known: &Known<'_>, origin: Origin) -> Result<(), UsageError> {
        let Known { spec, given, autoset, maximum } = *known;
        if autoset && spec.argument != Argument::No {
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

#[cfg(test)]
mod tests;
