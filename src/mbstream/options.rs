//! Command line of `mbstream`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, value_parser};

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Print this help.
    Help(String),
    /// Create or extract.
    Run(Options),
}

/// Options of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Which way.
    pub mode: Mode,
    /// `--directory`
    pub directory: Option<PathBuf>,
    /// `--parallel`: threads that write.
    pub parallel: NonZeroUsize,
    /// `--verbose`
    pub verbose: bool,
}

/// Which way.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// `--create`: these files.
    Create(Vec<PathBuf>),
    /// `--extract`
    Extract,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

/// The options as clap sees them.
pub fn command() -> clap::Command {
    let flag = |name: &'static str, letter, help: &'static str| {
        Arg::new(name).long(name).short(letter).action(ArgAction::SetTrue).help(help)
    };
    clap::Command::new("mbstream")
        .version(crate::cli::help::VERSION)
        .about("Packs files into a stream in xbstream format, and unpacks it")
        .override_usage(
            "mbstream -c [OPTIONS] FILES... > STREAM\n       mbstream -x [OPTIONS] < STREAM",
        )
        .term_width(80)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .arg(flag("help", '?', "Display this help and exit."))
        .arg(flag("create", 'c', "Stream the specified files to standard output."))
        .arg(flag(
            "extract",
            'x',
            "Extract files from the stream on standard input. No existing file is overwritten; a \
             stream that is empty, cut or damaged is an error.",
        ))
        .arg(
            Arg::new("directory")
                .long("directory")
                .short('C')
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Change to this directory first."),
        )
        .arg(flag("verbose", 'v', "Print the name of each file to standard error."))
        .arg(
            Arg::new("parallel")
                .long("parallel")
                .short('p')
                .value_name("NUMBER")
                .value_parser(value_parser!(u32))
                .allow_negative_numbers(true)
                .default_value("1")
                .help("Number of threads that write files while the stream is read."),
        )
        .arg(
            Arg::new("files")
                .value_name("FILES")
                .num_args(0..)
                .value_parser(value_parser!(PathBuf))
                .help("Regular files, in the stream under just these names."),
        )
}

/// Reads the command line, the program's name first.
///
/// # Errors
///
/// What cannot be meant; the text goes behind the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Request, UsageError> {
    let no_name = [OsString::from("mbstream")];
    let arguments = if arguments.is_empty() { &no_name } else { arguments };
    let mut matches = command().try_get_matches_from(arguments).map_err(|error| said(&error))?;
    if matches.get_flag("help") {
        return Ok(Request::Help(command().render_help().to_string()));
    }
    let files: Vec<PathBuf> = matches.remove_many("files").into_iter().flatten().collect();
    let mode = match (matches.get_flag("create"), matches.get_flag("extract")) {
        (true, true) => return Err(usage("can't set specify both -c and -x.")),
        (false, false) => return Err(usage("either -c or -x must be specified.")),
        (true, false) if files.is_empty() => return Err(usage("no files are specified.")),
        (true, false) => Mode::Create(files),
        (false, true) => Mode::Extract,
    };
    let parallel = matches.get_one::<u32>("parallel").and_then(|&n| usize::try_from(n).ok());
    Ok(Request::Run(Options {
        mode,
        directory: matches.remove_one("directory"),
        parallel: parallel.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN),
        verbose: matches.get_flag("verbose"),
    }))
}

fn usage(text: &str) -> UsageError {
    UsageError(text.to_owned())
}

/// A mistake that clap found, in the words of MariaDB's programs.
fn said(error: &clap::Error) -> UsageError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let option = context(ContextKind::InvalidArg);
    let name = option.split([' ', '=']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    UsageError(match error.kind() {
        ErrorKind::UnknownArgument => format!("unknown option '{option}'"),
        ErrorKind::InvalidValue if value.is_empty() => {
            format!("option '{name}' requires an argument")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            format!("Error while setting value '{value}' to '{}'", name.trim_start_matches('-'))
        }
        _ => error.to_string().trim_start_matches("error: ").trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Request, UsageError> {
        let words: Vec<_> = ["mbstream"].iter().chain(words).map(OsString::from).collect();
        parse(&words)
    }

    fn run(mode: Mode, directory: Option<&str>, parallel: usize, verbose: bool) -> Request {
        let parallel = NonZeroUsize::new(parallel).unwrap();
        Request::Run(Options { mode, directory: directory.map(PathBuf::from), parallel, verbose })
    }

    #[test]
    fn lines_that_scripts_use() {
        for (words, expected) in [
            (&["-x"][..], run(Mode::Extract, None, 1, false)),
            (&["-x", "-C", "d/"], run(Mode::Extract, Some("d/"), 1, false)),
            (&["-p", "4", "-x", "-Cd"], run(Mode::Extract, Some("d"), 4, false)),
            (&["-xvp4"], run(Mode::Extract, None, 4, true)),
            (&["--extract", "--parallel=3", "x"], run(Mode::Extract, None, 3, false)),
            (&["--extr", "--direc=o", "-p0"], run(Mode::Extract, Some("o"), 1, false)),
            (&["-x", "-p", "2", "-p", "5"], run(Mode::Extract, None, 5, false)),
            (&["-c", "a"], run(Mode::Create(vec!["a".into()]), None, 1, false)),
            (
                &["-v", "-c", "a", "b/c", "-C", "d"],
                run(Mode::Create(vec!["a".into(), "b/c".into()]), Some("d"), 1, true),
            ),
            (&["-c", "--", "-x"], run(Mode::Create(vec!["-x".into()]), None, 1, false)),
        ] {
            assert_eq!(parse_words(words), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn mistakes() {
        for (words, expected) in [
            (&[][..], "either -c or -x must be specified."),
            (&["a"], "either -c or -x must be specified."),
            (&["-c", "-x", "a"], "can't set specify both -c and -x."),
            (&["-c"], "no files are specified."),
            (&["-x", "--foo"], "unknown option '--foo'"),
            (&["--version"], "unknown option '--version'"),
            (&["-x", "-p"], "option '--parallel' requires an argument"),
            (&["-x", "-pz"], "Error while setting value 'z' to 'parallel'"),
        ] {
            assert_eq!(parse_words(words), Err(usage(expected)), "{words:?}");
        }
    }

    #[test]
    fn help_names_every_option() {
        let Ok(Request::Help(text)) = parse_words(&["-?"]) else { panic!("no help") };
        for name in ["--create", "--extract", "--directory", "--parallel", "--verbose", "--help"] {
            assert!(text.contains(name), "{name}\n{text}");
        }
        assert_eq!(parse_words(&["--help", "-x"]), Ok(Request::Help(text)));
    }
}
