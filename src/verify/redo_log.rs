//! The redo log: every mini-transaction from its checkpoint to its end.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::bail;
use innodb::encrypted::KeySource;
use innodb::page::Page;
use innodb::{Lsn, PageId};
use rustix::fs::FlockOperation;

use super::directory::{Directory, Kind, LOG, read_start};
use super::findings::Findings;
use crate::prepare::outlook::{LogSummary, Outlook, StillLog};
use crate::report::Report;

/// Offset of the LSN that page 0 of the system tablespace has where the log is an empty file.
const FLUSH_LSN: usize = 26;

/// What the log tells about the pages.
#[derive(Default)]
pub(super) struct RedoLog {
    /// No page is newer; unknown where the log is unusable.
    pub end: Option<Lsn>,
    /// Tablespaces that it names.
    pub names: HashSet<PathBuf>,
    /// Pages, those of the dictionary too, are as they will be.
    pub is_applied: bool,
    /// Of a raw backup: what prepare would make of it, unless it would refuse it.
    pub outlook: Option<Outlook>,
    /// Why prepare would refuse it.
    pub refusal: Option<anyhow::Error>,
}

/// Reads the log, and compares its end with what the metadata says.
///
/// # Errors
///
/// A server has started on the directory.
pub(super) fn check(
    directory: &Directory,
    keys: Option<&dyn KeySource>,
    findings: &Findings,
    report: &Report,
) -> anyhow::Result<RedoLog> {
    let name = directory.name_of(&directory.log_dir.join(LOG));
    let mut redo = RedoLog::default();
    let _lock = lock(directory)?;
    let opened = match StillLog::open(&directory.log_dir, keys) {
        Ok(opened) => opened,
        Err(error) => {
            findings.add(&name, format_args!("{error:#}"));
            return Ok(redo);
        }
    };
    let Some(log) = opened else {
        redo.end = flush_lsn(directory).filter(|_| directory.kind != Kind::Raw);
        if redo.end.is_none() {
            findings.add(&name, "it is empty");
        }
        redo.is_applied = true;
        check_end(directory, redo.end, &name, findings);
        return Ok(redo);
    };
    match log.summary(report) {
        Ok(LogSummary { start, end, names, has_changes }) => {
            report.say(format_args!("The redo log goes from LSN {start} to {end}."));
            (redo.end, redo.names, redo.is_applied) = (Some(end), names, !has_changes);
            check_end(directory, Some(end), &name, findings);
        }
        Err(error) => {
            findings.add(&name, format_args!("{error:#}"));
            return Ok(redo);
        }
    }
    if let (Kind::Raw, Some(cnf), Some(found)) = (directory.kind, &directory.cnf, &directory.found)
    {
        let outlook = Outlook::of(&directory.dir, cnf, &found.checkpoints, &log, report);
        match outlook {
            Ok(outlook) => redo.outlook = Some(outlook),
            Err(error) => redo.refusal = Some(error),
        }
    }
    Ok(redo)
}

/// Those of the pages `wanted` that the log builds anew.
///
/// # Errors
///
/// A log that cannot be read; a server has started on the directory.
pub(super) fn rebuilt(
    directory: &Directory,
    keys: Option<&dyn KeySource>,
    wanted: &HashSet<PageId>,
    report: &Report,
) -> anyhow::Result<HashSet<PageId>> {
    let _lock = lock(directory)?;
    match StillLog::open(&directory.log_dir, keys)? {
        Some(log) => log.rebuilt(wanted, report),
        None => Ok(HashSet::new()),
    }
}

fn check_end(directory: &Directory, end: Option<Lsn>, name: &str, findings: &Findings) {
    let Some(found) = &directory.found else { return };
    let needed = found.checkpoints.last_lsn.max(found.checkpoints.to_lsn);
    if let Some(end) = end.filter(|&end| end < needed) {
        let file = directory.name_of(&found.path);
        findings.add(
            name,
            format_args!(
                "it ends at LSN {end}, but must reach {needed} by {file}: it is damaged or cut"
            ),
        );
    }
}

/// A server of 10.5 to 10.7 that finds an empty file takes the LSN from there.
fn flush_lsn(directory: &Directory) -> Option<Lsn> {
    let (path, _) = directory.system_files.first()?;
    let start = read_start(path).ok()?;
    Page::new(&start)?;
    let lsn = start.get(FLUSH_LSN..)?.first_chunk().map(|lsn| Lsn(u64::from_be_bytes(*lsn)))?;
    (lsn.0 != 0).then_some(lsn)
}

/// While the log is in memory, no server may start on a data directory: it would write to it.
/// Servers lock the first file of the system tablespace. Nothing else here opens it meanwhile,
/// which would end the lock.
fn lock(directory: &Directory) -> anyhow::Result<Option<File>> {
    let Some((path, _)) = directory.system_files.first() else { return Ok(None) };
    if directory.kind != Kind::DataDirectory {
        return Ok(None);
    }
    // Without the file there is no server either.
    let Ok(file) = File::open(path) else { return Ok(None) };
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockShared)
        .map_err(io::Error::from)
    {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            bail!("{} is in use: a server has just been started", directory.dir.display())
        }
        // Where locks are not supported, there is none.
        _ => Ok(Some(file)),
    }
}
