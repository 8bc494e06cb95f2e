//! Order of the steps of `verify`.

use std::collections::HashSet;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;
use innodb::PageId;

use super::directory::{Directory, Kind};
use super::findings::{BadPage, Findings};
use super::pages::{Checked, PageChecker};
use super::redo_log::{self, RedoLog};
use super::tablespaces::{DataFile, Lister, Tablespaces};
use super::{aria, directory, files};
use crate::compression;
use crate::hint;
use crate::keys_source;
use crate::metadata::CorruptedPages;
use crate::options::VerifyOptions;
use crate::prepare::outlook;
use crate::report::Report;

/// Checks the directory `options.dir` and prints what is wrong.
///
/// # Errors
///
/// [`super::Damaged`] if anything is; any other error means that it could not be checked.
pub fn run(options: &VerifyOptions, report: &Report) -> anyhow::Result<()> {
    compression::refuse(&options.dir)?;
    let findings = Findings::default();
    let directory = Directory::open(options, &findings)?;
    report.say(format_args!("{} is {}.", directory.dir.display(), kind_in_words(directory.kind)));
    let plugins = directory.cnf.as_ref().and_then(|cnf| cnf.plugins.as_ref());
    let keys = keys_source::open(plugins, &options.keys)?;
    let keys = keys.as_deref();
    let threads = options.parallel.map_or_else(processors, NonZeroUsize::get);

    files::check_metadata(&directory, &findings);
    if directory.kind == Kind::Incremental
        && let Err(error) = outlook::check_changes(&directory.dir)
    {
        findings.add("changed pages", format_args!("{}", hint::describe(&error).0));
    }
    let redo = redo_log::check(&directory, keys, &findings, report)?;
    let lister = Lister { directory: &directory, redo: &redo, keys, findings: &findings };
    let Tablespaces { files: data_files, tables } = lister.list()?;
    let database_files = files::check(&directory, &tables, &findings)?;
    let asked: HashSet<Vec<u8>> = database_files.without_tablespace.keys().cloned().collect();
    let checker = PageChecker {
        files: &data_files,
        keys,
        end: redo.end,
        may_end_anywhere: directory.kind == Kind::Raw,
        asked: &asked,
        findings: &findings,
        report,
    };
    let Checked { pages, tables } = checker.run(threads);
    let unknown =
        files::check_missing(database_files.without_tablespace, &tables, &redo.names, &findings);
    let log_pages = aria::check_log(&directory, &findings)?;
    let aria_pages =
        aria::check_tables(&directory, &database_files.files, keys, threads, &findings);
    forgive_rebuilt(&directory, &redo, &data_files, keys, &findings, report)?;
    name_known(&directory, &findings)?;
    // What was found is the reason, or else there is another one.
    if let Some(refusal) = redo.refusal.as_ref().filter(|_| findings.is_empty()) {
        findings
            .add(directory::LOG, format_args!("--prepare would refuse the backup: {refusal:#}"));
    }
    directory.check_unused().context("what was found means nothing")?;

    // Until the log is applied, the dictionary lacks the newest tables.
    for file in unknown.iter().filter(|_| redo.is_applied) {
        report.say(format_args!(
            "Warning: there is no {}, and InnoDB's dictionary does not tell whether its table \
             needs one.",
            file.display()
        ));
    }
    if database_files.deltas > 0 {
        report.say(format_args!(
            "Warning: the changed pages of an incremental backup ({} .delta files) were not \
             checked, but only that they are there: --prepare checks them before it applies them.",
            database_files.deltas
        ));
    }
    show(&findings, &data_files, options.verbose)?;
    report.say(format_args!(
        "Checked {} data files with {pages} pages, {log_pages} pages of Aria's log and \
         {aria_pages} of its tables, {} files of databases.",
        data_files.len(),
        database_files.files.len()
    ));
    findings
        .damage(&directory.dir.display().to_string())
        .map_or(Ok(()), |damaged| Err(damaged.into()))
}

fn kind_in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Raw => "a backup that is not prepared yet",
        Kind::Prepared => "a prepared backup",
        Kind::Incremental => "an incremental backup",
        Kind::DataDirectory => "taken for the data directory of a server",
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Forgets pages that the log builds anew or cuts off: nobody will read what is in the file.
fn forgive_rebuilt(
    directory: &Directory,
    redo: &RedoLog,
    data_files: &[DataFile],
    keys: Option<&dyn innodb::encrypted::KeySource>,
    findings: &Findings,
    report: &Report,
) -> anyhow::Result<()> {
    let id =
        |page: &BadPage| Some(PageId { space: page.space?, page_no: innodb::PageNo(page.page_no) });
    let mut wanted = HashSet::new();
    findings.retain_pages(|_, page| {
        wanted.extend(id(page));
        true
    });
    if wanted.is_empty() || redo.end.is_none() {
        return Ok(());
    }
    let rebuilt = redo_log::rebuilt(directory, keys, &wanted, report)?;
    let is_gone = |name: &str, page_no| {
        let file = data_files.iter().find(|file| file.name == name);
        let outlook = redo.outlook.as_ref().zip(file).and_then(|(outlook, file)| {
            outlook.space(file.path.strip_prefix(&directory.dir).unwrap_or(&file.path))
        });
        outlook.is_some_and(|outlook| outlook.is_gone(page_no))
    };
    findings.retain_pages(|name, page| {
        !id(page).is_some_and(|id| rebuilt.contains(&id)) && !is_gone(name, page.page_no)
    });
    Ok(())
}

/// Marks the pages that were damaged already when the backup was taken.
fn name_known(directory: &Directory, findings: &Findings) -> anyhow::Result<()> {
    let known = CorruptedPages::read(&directory.dir)?;
    findings.retain_pages(|_, page| {
        let is_known = page.space.is_some_and(|space| {
            known.contains(PageId { space, page_no: innodb::PageNo(page.page_no) })
        });
        if is_known {
            page.what = format!("known since the backup was taken: {}", page.what);
        }
        true
    });
    Ok(())
}

/// Prints the findings, and with `all` the good files too. A reader that has seen enough is no
/// failure.
fn show(findings: &Findings, data_files: &[DataFile], all: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut result = Ok(());
    let mut print = |line: String| {
        if result.is_ok() {
            result = writeln!(out, "{line}");
        }
    };
    if all {
        for file in data_files.iter().filter(|file| !findings.has(&file.name)) {
            print(format!("{}: good", Path::new(&file.name).display()));
        }
    }
    findings.show(all, print);
    match result.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(()),
    }
}
