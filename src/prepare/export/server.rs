//! Has a server of the backup's series export tables: started on the backup itself, as mariadb-backup
//! does it. The server rolls back, purges and merges; afterwards the backup has another redo log than
//! its incremental backups go on from, which a mark tells.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::thread;

use anyhow::{Context, bail, ensure};
use mdl::filename::TableName;

use crate::durable;
use crate::hint::WithHint;
use crate::metadata::{self, Info, exported};
use crate::options::PrepareOptions;
use crate::prepare::log::LOG;
use crate::report::Report;

/// Where servers are installed, besides the folders of `PATH`.
const FOLDERS: [&str; 8] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/usr/local/libexec",
    "/usr/local/bin",
    "/usr/local/mariadb/bin",
    "/usr/local/mysql/bin",
    "/opt/mariadb/bin",
];
const PROGRAMS: [&str; 2] = ["mariadbd", "mysqld"];
/// Options of the server while it works.
const OPTION_FILE: &str = "mariabackup_export.tmp";
/// What a server says of a table whose file is not there.
const MISSES_A_TABLE: [&str; 4] = [
    "Operating system error number 2 ",
    "The error means the system cannot find the path specified",
    "Could not find a valid tablespace file for",
    "Refer to https://mariadb.com/kb/en/innodb-data-dictionary-troubleshooting",
];
/// Bytes of the buffer pool, as there.
const MEMORY: u64 = 100 << 20;

/// Exports the tables with these tablespace files, `DATABASE/TABLE.ibd`.
///
/// # Errors
///
/// No server; what it failed at; tables that it did not export.
pub(super) fn export(
    options: &PrepareOptions,
    files: &[PathBuf],
    report: &Report,
) -> anyhow::Result<()> {
    let dir = options.target_dir.as_path();
    let version = Info::server_version(dir)?;
    let series = version.as_deref().and_then(series);
    let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    let server = find(options, series).with_context(|| format!("not exported: {shown}"))?;
    for file in files {
        let cfg = dir.join(file.with_extension("cfg"));
        durable::remove_leftover(&cfg).with_context(|| format!("remove {}", cfg.display()))?;
    }
    exported::mark(dir)?;
    // The empty log that a prepared backup of 10.5 to 10.7 has.
    let log = dir.join(LOG);
    if log.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        fs::remove_file(&log).with_context(|| format!("remove {}", log.display()))?;
    }
    let option_file = dir.join(OPTION_FILE);
    durable::remove_leftover(&option_file)?;
    durable::write_new(&option_file, &option_text(options)?)
        .with_context(|| format!("write {}", option_file.display()))?;
    let mut command = Command::new(&server);
    let memory = options.use_memory.unwrap_or(MEMORY);
    command
        .current_dir(dir)
        .arg(format!("--defaults-file=./{OPTION_FILE}"))
        .args(["--datadir=.", "--innodb", "--innodb-fast-shutdown=0", "--loose-partition"])
        .arg(format!("--innodb-buffer-pool-size={memory}"))
        .args(["--console", "--skip-log-error", "--skip-log-bin", "--bootstrap"])
        .args(["--innodb-buffer-pool-dump-at-shutdown=0", "--innodb-buffer-pool-load-at-startup=0"])
        .stdin(Stdio::piped())
        .stdout(io::stderr())
        .stderr(Stdio::piped());
    let is_partial = Info::is_partial(dir)?;
    report.say(format_args!("Prepare export : executing {}", server.display()));
    let status = command.spawn().and_then(|mut child| {
        let (stdin, messages) = (child.stdin.take(), child.stderr.take());
        thread::scope(|scope| {
            scope.spawn(|| messages.map(|messages| pass_on(messages, is_partial, report)));
            if let Some(mut stdin) = stdin {
                // A server that does not read on says why.
                let _ = stdin.write_all(statements(files).as_bytes());
            }
            child.wait()
        })
    });
    let _ = fs::remove_file(&option_file);
    let status = status.with_context(|| format!("run {}", server.display()))?;
    ensure!(
        status.success(),
        "{} failed ({status}), its messages are above; not exported: {shown}",
        server.display()
    );
    let is_missing = |file: &&PathBuf| !dir.join(file.with_extension("cfg")).exists();
    let missing: Vec<String> =
        files.iter().filter(is_missing).map(|file| file.display().to_string()).collect();
    ensure!(missing.is_empty(), "the server did not export {}", missing.join(", "));
    durable::sync_filesystem(dir).with_context(|| format!("sync {}", dir.display()))?;
    report.say(format_args!("{} tables were exported by a server.", files.len()));
    Ok(())
}

/// Passes on what the server says. Of a partial backup it misses the tables that were left out, and
/// calls that errors: those are none.
fn pass_on(messages: ChildStderr, is_partial: bool, report: &Report) {
    for line in BufReader::new(messages).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if !is_partial || !MISSES_A_TABLE.iter().any(|words| line.contains(words)) {
            report.line(line);
        }
    }
}

/// One line for each statement, as the server wants it there.
fn statements(files: &[PathBuf]) -> String {
    let table = |file: &PathBuf| {
        let stem = file.file_stem()?.to_str()?;
        let stem = stem.split_once("#P#").map_or(stem, |(table, _)| table);
        Some(TableName::from_file_names(file.parent()?.to_str()?, stem).quoted())
    };
    let tables: BTreeSet<String> = files.iter().filter_map(table).collect();
    let mut text = "SET NAMES UTF8;\n".to_owned();
    for table in tables {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR NOT FOUND,SQLEXCEPTION BEGIN END;\
             FLUSH TABLES {table} FOR EXPORT;END;\nUNLOCK TABLES;"
        );
    }
    text
}

/// The backup's options, and what this run was given about keys.
fn option_text(options: &PrepareOptions) -> anyhow::Result<Vec<u8>> {
    let path = options.target_dir.join(metadata::BACKUP_MY_CNF);
    let mut text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    text.extend(b"\n[mysqld]\n");
    for (variable, value) in options.keys.iter() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        text.extend(format!("loose-{variable}=\"{value}\"\n").bytes());
    }
    Ok(text)
}

/// A server of `series` (any, if that is not known).
fn find(options: &PrepareOptions, series: Option<(u32, u32)>) -> anyhow::Result<PathBuf> {
    let is_right = |found: Option<(u32, u32)>| series.is_none() || found == series;
    let wanted = series.map_or("MariaDB".to_owned(), |(a, b)| format!("MariaDB {a}.{b}"));
    if let Some(path) = &options.export_server {
        let found = version_of(path).with_context(|| format!("run {}", path.display()))?;
        ensure!(
            is_right(series_of_program(&found)),
            "{} is not a server of {wanted}: {}",
            path.display(),
            found.trim()
        );
        return Ok(path.clone());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(FOLDERS.iter().map(PathBuf::from));
    let mut others = BTreeSet::new();
    for path in folders.flat_map(|folder| PROGRAMS.map(|program| folder.join(program))) {
        let Ok(version) = version_of(&path) else { continue };
        if is_right(series_of_program(&version)) {
            return Ok(path);
        }
        others.insert(format!("{} ({})", path.display(), version.trim()));
    }
    let others = others.into_iter().collect::<Vec<_>>().join(", ");
    let found = if others.is_empty() { String::new() } else { format!(", but {others}") };
    let error: anyhow::Result<PathBuf> =
        (|| bail!("no server of {wanted} was found on this machine{found}"))();
    error
        .hint("install the server, or name it by --export-server, and run --prepare --export again")
}

fn version_of(program: &Path) -> io::Result<String> {
    let arguments: [OsString; 2] = ["--no-defaults".into(), "--version".into()];
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `mariadbd  Ver 10.11.19-MariaDB ...`
fn series_of_program(version: &str) -> Option<(u32, u32)> {
    series(version.split_once("Ver ")?.1)
}

fn series(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().splitn(3, '.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let of = series_of_program;
        let text = "/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu";
        assert_eq!(of(text), Some((10, 11)));
        assert_eq!(of("mysqld  Ver 8.0.1"), Some((8, 0)));
        assert_eq!(of("something else"), None);
    }

    #[test]
    fn one_statement_for_all_partitions() {
        let files = ["d@002d/t@0060.ibd", "d/p#P#p0.ibd", "d/p#P#p1#SP#s.ibd"].map(PathBuf::from);
        let text = statements(&files);
        assert_eq!(text.matches("FLUSH TABLES").count(), 2);
        assert!(text.contains("FLUSH TABLES `d`.`p` FOR EXPORT;END;\nUNLOCK TABLES;\n"), "{text}");
        assert!(text.contains("FLUSH TABLES `d-`.`t``` FOR EXPORT"), "{text}");
    }
}
