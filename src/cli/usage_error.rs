//! Why a command line is refused: messages in the reference's form, and its exit codes.

use std::fmt::Write as _;

/// Options of other tools of this kind that ask for what is always done.
const NEVER_NEEDED: [&str; 2] = ["apply-log-only", "redo-only"];

/// What is wrong with the command line or an option file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// No such option; none with a value either.
    #[error("unknown option '{0}'")]
    UnknownOption(String),
    /// No such option; it was given a value.
    #[error("unknown variable '{0}'")]
    UnknownVariable(String),
    /// A value for an option that takes none.
    #[error("option '--{0}' cannot take an argument")]
    ArgumentNotAllowed(String),
    /// No value for an option that needs one; the option as it was typed.
    #[error("option '{0}' requires an argument")]
    ArgumentRequired(String),
    /// `--autoset-` for an option that cannot set itself.
    #[error("automatic setup request is unsupported by option '--{0}'")]
    CannotAutoset(String),
    /// A number with an unknown suffix.
    #[error("Error while setting value '{value}' to '{option}'")]
    Suffix {
        /// Name of the option.
        option: String,
        /// The value.
        value: String,
        /// First letter of what follows the digits.
        suffix: char,
    },
    /// A value that the option does not have; `why` is a line of its own.
    #[error("Error while setting value '{value}' to '{option}'")]
    Value {
        /// Name of the option.
        option: String,
        /// The value.
        value: String,
        /// What is wrong with it, if that can be said.
        why: Option<String>,
    },
    /// A word that is no option.
    #[error("mariabackup: Error: unknown argument: '{0}'")]
    UnknownArgument(String),
    /// An option that must come first.
    #[error("--{0} must be specified first on the command line")]
    MustBeFirst(&'static str),
    /// An option file that cannot be used; the message is complete.
    #[error("{0}")]
    OptionFile(String),
    /// No mode, or more than one; the help.
    #[error("no mode was chosen")]
    NoMode(String),
    /// Two modes.
    #[error("Error: --{0} and --{1} are mutually exclusive")]
    Exclusive(&'static str, &'static str),
    /// What only innobackupex complains of.
    #[error("{0}")]
    Innobackupex(String),
    /// A bad value of one of innobackupex's own options.
    #[error("{0}")]
    OfInnobackupex(Box<UsageError>),
    /// A known option that this version cannot serve.
    #[error("option '--{0}' is not supported yet by this version")]
    NotSupported(String),
    /// Options that contradict each other, the mode or the environment.
    #[error("{0}")]
    Message(String),
    /// `--password` without a password where nobody can be asked.
    #[error(
        "option '{0}' requires an argument: what follows is no password; write --password=PASSWORD \
         or set the environment variable MYSQL_PWD"
    )]
    NoPassword(String),
    /// A bad value of `--protocol`.
    #[error("{0} to protocol{1}\nAlternatives are: 'TCP','SOCKET','PIPE'")]
    Protocol(&'static str, String),
}

impl UsageError {
    /// Exit code, the one the reference has for this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownOption(_) => 2,
            Self::ArgumentNotAllowed(_) => 4,
            Self::ArgumentRequired(_) | Self::NoPassword(_) => 5,
            Self::UnknownVariable(_) => 7,
            Self::Suffix { .. } => 9,
            Self::CannotAutoset(_) | Self::Value { .. } => 13,
            _ => 1,
        }
    }

    /// The lowest is told, of several; `--help` and `--version` are served but for rank 0.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::UnknownOption(_) | Self::UnknownVariable(_) => 1,
            Self::UnknownArgument(_) => 2,
            _ => 0,
        }
    }

    /// The lines for standard error. `program`: name the program was called by; `now`: time in
    /// the form of all messages.
    pub fn lines(&self, program: &str, now: &str) -> String {
        match self {
            Self::Suffix { option, value, suffix } => format!(
                "Unknown suffix '{suffix}' used for variable '{option}' (value '{value}'). Legal \
                 suffix characters are: K, M, G, T, P, E\n{program}: {self}"
            ),
            Self::Value { why, .. } => {
                let mut lines = String::new();
                if let Some(why) = why {
                    let _ = writeln!(lines, "{why}");
                }
                lines + &format!("{program}: {self}")
            }
            Self::UnknownOption(name) if NEVER_NEEDED.contains(&name.trim_start_matches('-')) => {
                format!(
                    "{program}: {self}\nHint: leave it out: --prepare never rolls back, and every \
                     prepared backup takes further incremental ones"
                )
            }
            Self::UnknownOption(_)
            | Self::UnknownVariable(_)
            | Self::ArgumentNotAllowed(_)
            | Self::ArgumentRequired(_)
            | Self::NoPassword(_)
            | Self::CannotAutoset(_) => format!("{program}: {self}"),
            // The date is YYMMDD there.
            Self::Innobackupex(text) => {
                let now = now.get(2..).unwrap_or_default().replace('-', "");
                format!("{now} innobackupex: {text}")
            }
            Self::OfInnobackupex(error) => error.lines(program, now),
            Self::MustBeFirst(_) => format!("[00] FATAL ERROR: {now} {self}"),
            Self::UnknownArgument(_)
            | Self::Exclusive(..)
            | Self::NotSupported(_)
            | Self::Message(_) => format!("[00] {now} {self}"),
            Self::OptionFile(why) => {
                format!("{why}\nFatal error in defaults handling. Program aborted")
            }
            Self::NoMode(_) | Self::Protocol(..) => self.to_string(),
        }
    }
}
