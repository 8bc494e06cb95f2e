//! The program `mbstream`: files to a stream, a stream to files.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::report::Report;
use crate::stdio;

mod create;
mod extract;
pub mod options;

use options::{Mode, Options, Request, UsageError};

/// Whether the program was called by a name that means `mbstream`.
pub fn is_meant(program: &str) -> bool {
    let name = Path::new(program).file_name().unwrap_or_default();
    ["mbstream", "xbstream", "mbstream-server"].iter().any(|known| name == *known)
}

/// Runs the program with its command line, its name first. Every failure has exit code 1.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let program =
        arguments.first().map_or_else(|| "mbstream".into(), |name| name.to_string_lossy());
    let result = match options::parse(arguments) {
        Ok(Request::Help(text)) => print(&text),
        Ok(Request::Run(options)) => run(&options),
        Err(UsageError(text)) => {
            eprintln!("{program}: {text}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what is asked for.
///
/// # Errors
///
/// A stream that is not whole, a file that is there already, what the system reports.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let report = Report::to_stderr(options.verbose);
    let dir = options.directory.as_deref().unwrap_or(Path::new("."));
    match &options.mode {
        Mode::Create(files) => {
            let output = stdio::output().context("open standard output")?;
            create::create(dir, files, output, &report)
        }
        Mode::Extract => {
            let input = stdio::input().context("open standard input")?;
            extract::extract(input, dir, options.parallel, &report)
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).context("write to standard output")
}
