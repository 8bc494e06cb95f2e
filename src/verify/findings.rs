//! What is wrong, by file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use innodb::SpaceId;

/// Pages of a file that are kept; more are only counted.
const KEPT: usize = 10_000;
/// Pages of a file that are shown unless all are asked for.
const SHOWN: usize = 20;

/// A page with something wrong.
#[derive(Debug, Clone)]
pub(super) struct BadPage {
    /// Its tablespace; none where page numbers are not those of `InnoDB`.
    pub space: Option<SpaceId>,
    /// Its number.
    pub page_no: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

#[derive(Debug, Default)]
struct FileFindings {
    /// About the file as a whole.
    lines: Vec<String>,
    pages: Vec<BadPage>,
    /// Pages that were not kept.
    more: u64,
}

/// What was found, by the name of the file in the directory.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<BTreeMap<String, FileFindings>>);

/// The directory is damaged; the findings were shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problems} in {files} of {dir}")]
pub struct Damaged {
    problems: Count,
    files: Count,
    dir: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

impl Findings {
    /// Adds something that is wrong with a file as a whole.
    pub(super) fn add(&self, file: &str, what: impl fmt::Display) {
        self.lock().entry(file.to_owned()).or_default().lines.push(what.to_string());
    }

    /// Adds a page.
    pub(super) fn add_page(&self, file: &str, page: BadPage) {
        let mut files = self.lock();
        let found = files.entry(file.to_owned()).or_default();
        if found.pages.len() < KEPT {
            found.pages.push(page);
        } else {
            found.more += 1;
        }
    }

    /// Keeps the pages for which `keep` says so, with what it makes of them.
    pub(super) fn retain_pages(&self, mut keep: impl FnMut(&str, &mut BadPage) -> bool) {
        let mut files = self.lock();
        for (name, found) in &mut *files {
            found.pages.retain_mut(|page| keep(name, page));
        }
        files.retain(|_, found| {
            !found.lines.is_empty() || !found.pages.is_empty() || found.more != 0
        });
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether anything is wrong with the file.
    pub(super) fn has(&self, file: &str) -> bool {
        self.lock().contains_key(file)
    }

    /// Gives every finding to `show`, as a line; of each file all pages only if `all` are wanted.
    pub(super) fn show(&self, all: bool, mut show: impl FnMut(String)) {
        for (name, found) in &mut *self.lock() {
            for line in &found.lines {
                show(format!("{name}: {line}"));
            }
            found.pages.sort_by_key(|page| page.offset);
            let shown = if all { found.pages.len() } else { SHOWN };
            for BadPage { page_no, offset, what, .. } in found.pages.iter().take(shown) {
                show(format!("{name}: page {page_no} at offset {offset}: {what}"));
            }
            let rest = found.pages.len().saturating_sub(shown) as u64 + found.more;
            if rest > 0 {
                show(format!("{name}: {}", Count(rest, "more page")));
            }
        }
    }

    /// What it comes to; `None` if nothing is wrong. `dir`: the directory as it was given.
    pub(super) fn damage(&self, dir: &str) -> Option<Damaged> {
        let files = self.lock();
        let problems = files
            .values()
            .map(|found| found.more + (found.lines.len() + found.pages.len()) as u64)
            .sum();
        (problems > 0).then(|| Damaged {
            problems: Count(problems, "problem"),
            files: Count(files.len() as u64, "file"),
            dir: dir.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, FileFindings>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
