//! Keeping passwords and other secrets out of what `ps` and the backup's metadata show, and asking for it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process;

use rustix::fs::MemfdFlags;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex};

/// `PID:FD`: process FD holds the true arguments of process PID.
const ARGUMENTS: &str = "MARIABACKUP_ARGUMENTS";

/// Name of that file.
const MEMFD_NAME: &str = "mariabackup-arguments";

/// Bytes of an argument that nobody may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    /// Number of the argument; 0 is the program's name.
    pub argument: usize,
    /// How many of its first bytes may be seen.
    pub keep: usize,
}

/// The arguments with `cover` in place of every secret.
pub fn masked(arguments: &[OsString], secrets: &[Secret], cover: &str) -> Vec<OsString> {
    let mask = |(number, argument): (usize, &OsString)| {
        let secret = secrets.iter().find(|secret| secret.argument == number);
        let Some(kept) = secret.and_then(|secret| argument.as_bytes().get(..secret.keep)) else {
            return argument.clone();
        };
        OsString::from_vec([kept, cover.as_bytes()].concat())
    };
    arguments.iter().enumerate().map(mask).collect()
}

/// Replaces this process by itself with arguments that show no secret; the true ones wait in an
/// anonymous file in memory. Returns if there are none, or if it was done before.
///
/// # Errors
///
/// If the process cannot be replaced; it goes on as it is.
pub fn hide(arguments: &[OsString], secrets: &[Secret]) -> io::Result<()> {
    if secrets.is_empty() || hidden_arguments_fd().is_some() {
        return Ok(());
    }
    let fd = rustix::fs::memfd_create(MEMFD_NAME, MemfdFlags::empty())?;
    let mut file = File::from(fd);
    for argument in arguments {
        file.write_all(argument.as_bytes())?;
        file.write_all(&[0])?;
    }
    let place = format!("{}:{}", process::id(), file.as_raw_fd());
    let shown = masked(arguments, secrets, "x");
    let mut command = process::Command::new("/proc/self/exe");
    command.env(ARGUMENTS, place).args(shown.iter().skip(1));
    if let Some(name) = shown.first() {
        command.arg0(name);
    }
    Err(command.exec())
}

/// The arguments of this process, with the secrets that it has hidden from itself.
///
/// # Errors
///
/// If the hidden arguments cannot be read.
pub fn arguments() -> io::Result<Vec<OsString>> {
    let shown: Vec<OsString> = env::args_os().collect();
    let Some(fd) = hidden_arguments_fd() else { return Ok(shown) };
    // The descriptor stays open; the secret does not stay in it.
    let mut file = File::options().read(true).write(true).open(format!("/proc/self/fd/{fd}"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    file.set_len(0)?;
    if let Some(name) = shown.first().and_then(|name| Path::new(name).file_name()) {
        // The kernel calls the process `exe` after its start by that name; only looks.
        let _ = fs::write("/proc/self/comm", name.as_bytes());
    }
    let words = bytes.strip_suffix(&[0]).unwrap_or(&bytes).split(|byte| *byte == 0);
    Ok(words.map(|word| OsStr::from_bytes(word).to_owned()).collect())
}

/// Descriptor of the hidden arguments; of this process, not of one that started it.
fn hidden_arguments_fd() -> Option<u32> {
    let value = env::var(ARGUMENTS).ok()?;
    let (pid, fd) = value.split_once(':')?;
    let fd: u32 = fd.parse().ok()?;
    let file = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let is_ours = file.to_str()?.starts_with(&format!("/memfd:{MEMFD_NAME}"));
    (is_ours && pid.parse() == Ok(process::id())).then_some(fd)
}

/// Asks on the terminal, without showing what is typed.
///
/// # Errors
///
/// If there is no terminal, or it ends.
pub fn ask_password() -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = termios::tcgetattr(&terminal)?;
    let mut silent = before.clone();
    // An interrupt would leave the terminal silent: it ends the line instead.
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    let interrupt = before.special_codes[SpecialCodeIndex::VINTR];
    silent.special_codes[SpecialCodeIndex::VEOL] = interrupt;
    termios::tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    terminal.write_all(b"Enter password: ")?;
    // The terminal gives one line at a time, and no longer one.
    let mut line = [0; 4096];
    let read = terminal.read(&mut line);
    termios::tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    terminal.write_all(b"\n")?;
    let line = line.get(..read?).unwrap_or_default();
    match line.last() {
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(last) if *last == interrupt => Err(io::ErrorKind::Interrupted.into()),
        Some(_) => String::from_utf8(line.strip_suffix(b"\n").unwrap_or(line).to_vec())
            .map_err(|_| io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered() {
        let arguments = ["prog", "--password=secret", "-p", "word", "-Vpx"].map(OsString::from);
        let secrets = [
            Secret { argument: 1, keep: 11 },
            Secret { argument: 3, keep: 0 },
            Secret { argument: 4, keep: 3 },
        ];
        let shown = masked(&arguments, &secrets, "...");
        assert_eq!(shown, ["prog", "--password=...", "-p", "...", "-Vp..."]);
    }
}
