//! Parses the command line, dispatches, prints the error, sets the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use mariabackup::backup;
use mariabackup::cli::usage_error::UsageError;
use mariabackup::cli::{self, Action, Environment, help, secret};
use mariabackup::decompress;
use mariabackup::hint;
use mariabackup::mbstream;
use mariabackup::names;
use mariabackup::options::Command;
use mariabackup::prepare;
use mariabackup::report::{AlreadyTold, Report};
use mariabackup::restore;
use mariabackup::verify;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.first().is_some_and(|name| mbstream::is_meant(&name.to_string_lossy())) {
        return mbstream::main(&arguments);
    }
    names::use_built_in_services();
    run().unwrap_or_else(|error| {
        tell(&error);
        ExitCode::FAILURE
    })
}

fn tell(error: &anyhow::Error) {
    if error.is::<AlreadyTold>() {
        return;
    }
    let (text, hint) = hint::describe(error);
    say(&format!("[00] FATAL ERROR: {} {text}", now()));
    if let Some(hint) = hint {
        say(&format!("Hint: {hint}"));
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = secret::arguments().context("read the hidden arguments")?;
    let environment = Environment::of_process().context("find the working directory")?;
    if let Err(error) = secret::hide(&arguments, &cli::secrets(&arguments, &environment)) {
        say(&format!("Warning: the password cannot be hidden from the list of processes: {error}"));
    }
    let invocation = cli::parse(&arguments, &environment);
    for warning in &invocation.warnings {
        say(warning);
    }
    let program = &invocation.program;
    let (mut command, ask_password) = match invocation.action {
        Ok(Action::Run { command, ask_password }) => (command, ask_password),
        Ok(Action::Version) => {
            say(&help::version(program));
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Action::PrintParam(text)) => {
            print(&text)?;
            say(&format!("[00] {} completed OK!", now()));
            return Ok(ExitCode::SUCCESS);
        }
        Ok(
            Action::Help(text) | Action::PrintDefaults(text) | Action::InnobackupexVersion(text),
        ) => {
            print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            if let UsageError::NoMode(help) = &error {
                print(help)?;
                say(&help::version(program));
            } else {
                say(&error.lines(program, &now()));
            }
            return Ok(ExitCode::from(error.exit_code()));
        }
    };
    if ask_password && let Command::Backup(options) = &mut command {
        options.connection.password = Some(secret::ask_password().context("ask for the password")?);
    }
    say(&help::version(program));
    if let Err(error) = execute(&command) {
        // What was checked and found damaged is told apart from what could not be checked.
        let unchecked = matches!(command, Command::Verify(_)) && !error.is::<verify::Damaged>();
        tell(&error);
        return Ok(if unchecked { ExitCode::from(2) } else { ExitCode::FAILURE });
    }
    say(&format!("[00] {} completed OK!", now()));
    Ok(ExitCode::SUCCESS)
}

fn execute(command: &Command) -> anyhow::Result<()> {
    let report = Report::to_stderr(command.verbose());
    let result = match command {
        Command::Restore(options) => restore::run(options, &report),
        Command::Prepare(options) => prepare::run(options, &report),
        Command::Backup(options) => backup::run(options, &report),
        Command::Decompress(options) => decompress::run(options, &report),
        Command::Verify(options) => verify::run(options, &report),
    };
    // Neither the live line nor what is not written yet must stand in the way of what is said last.
    report.phase_done();
    report.attach();
    result
}

/// Nothing can be done about a closed standard error; the exit code still tells.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A reader that has seen enough is no failure: `mariabackup --help | grep -q WORD`.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(()),
    }
}

fn now() -> String {
    chrono::Local::now().format("%Y-%m-%d %H:%M:%S").to_string()
}
