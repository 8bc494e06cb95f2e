//! Tables dropped, renamed or created while the backup ran: marker files of the reference, turned
//! into moves of whole files.
//!
//! ```text
//! DB/NAME.del    NAME.ibd was dropped
//! DB/NAME.ren    NAME.ibd was renamed; holds the new name, DB/NAME without extension
//! DB/NAME.new    replaces NAME.ibd
//! ```
//!
//! In an incremental backup they are about `NAME.ibd.delta`.
//!
//! Renames may form chains and circles. So every file first moves to a temporary name of its own,
//! then to its final one. The list of moves is stored before the first, and again between the two
//! steps: after a kill, each step can be repeated ([`resume`]), for no file gets a final name
//! before all have left theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::storage::Storage;
use crate::durable;
use crate::report::Report;

/// The stored list of moves; copy back leaves `.tmp` files out.
pub(super) const LIST: &str = "mariabackup_moves.tmp";
/// File of a table, and of its changed pages.
const IBD: &str = ".ibd";
const IBD_DELTA: &str = ".ibd.delta";
/// First line of the list.
const MAGIC: &[u8] = b"mariabackup moves 1";

/// What becomes of the tablespace files. Paths are relative to the backup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    moves: Vec<Move>,
    markers: Vec<PathBuf>,
    /// `.ibd` files that stay where they are.
    unmoved: Vec<PathBuf>,
}

/// A file that moves, or is removed if there is nowhere to.
#[derive(Debug, PartialEq, Eq)]
struct Move {
    from: PathBuf,
    to: Option<PathBuf>,
}

/// What a step of the list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Files go to their temporary names.
    Leave,
    /// Files go to their final names.
    Arrive,
}

impl Plan {
    /// Reads the names in backup `dir` and decides. Changes nothing.
    ///
    /// # Errors
    ///
    /// Markers that contradict each other or name no table; what reading reports.
    pub(super) fn of(dir: &Path) -> anyhow::Result<Self> {
        Self::of_files(dir, IBD)
    }

    /// As [`of`](Self::of) in an incremental backup, whose tables have files of changed pages.
    /// Nothing is to be moved there: the plan tells how the tables are called in the end.
    ///
    /// # Errors
    ///
    /// As of [`of`](Self::of).
    pub(super) fn of_changes(dir: &Path) -> anyhow::Result<Self> {
        Self::of_files(dir, IBD_DELTA)
    }

    /// `suffix`: of the files that the tables have.
    fn of_files(dir: &Path, suffix: &str) -> anyhow::Result<Self> {
        let names = table_files(dir, suffix)?;
        let mut plan = Self::default();
        // Final name of each table, without extension; none: removed.
        let mut tables: BTreeMap<&Path, Option<PathBuf>> =
            names.tables.iter().map(|name| (name.as_path(), Some(name.clone()))).collect();
        for name in &names.del {
            if let Some(to) = tables.get_mut(name.as_path()) {
                *to = None;
            }
            plan.markers.push(with_suffix(name, ".del"));
        }
        let mut targets = BTreeMap::new();
        for name in &names.ren {
            let marker = with_suffix(name, ".ren");
            let target = new_name(&dir.join(&marker))?;
            if let Some(to) = tables.get_mut(name.as_path()).filter(|to| to.is_some()) {
                if let Some(other) = targets.insert(target.clone(), name) {
                    bail!(
                        "{} and {} are both to be renamed to {}",
                        name.display(),
                        other.display(),
                        target.display()
                    );
                }
                *to = Some(target);
            }
            plan.markers.push(marker);
        }
        for (target, name) in &targets {
            let stays = tables.get(target.as_path()).is_some_and(|to| to.as_ref() == Some(target));
            ensure!(
                !stays || target == *name,
                "{} is to be renamed to {}, which exists and is neither renamed nor dropped",
                name.display(),
                target.display()
            );
        }
        let new: BTreeSet<&PathBuf> = names.new.iter().collect();
        for (name, to) in tables {
            // A new file replaces what would have had its name.
            let to = to.filter(|to| !new.contains(to));
            let from = with_suffix(name, suffix);
            let to = to.map(|to| with_suffix(&to, IBD));
            if to.as_ref() == Some(&from) {
                plan.unmoved.push(from);
            } else {
                plan.moves.push(Move { from, to });
            }
        }
        for name in &names.new {
            let (from, to) = (with_suffix(name, ".new"), with_suffix(name, IBD));
            plan.moves.push(Move { from, to: Some(to) });
        }
        Ok(plan)
    }

    /// The tablespace files that there will be: final name, and name before the moves.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let moved = self.moves.iter().filter_map(|m| Some((m.to.as_deref()?, m.from.as_path())));
        let unmoved = self.unmoved.iter().map(|path| (path.as_path(), path.as_path()));
        moved.chain(unmoved)
    }

    /// Has the file `from` moved to `to`, or removed if there is nowhere to.
    pub(super) fn send(&mut self, from: &Path, to: Option<PathBuf>) {
        self.unmoved.retain(|path| path != from);
        match self.moves.iter_mut().find(|planned| planned.from == from) {
            Some(planned) => planned.to = to,
            None => self.moves.push(Move { from: from.to_owned(), to }),
        }
    }

    /// Moves the files and removes the markers, durably.
    ///
    /// # Errors
    ///
    /// What the system reports; a repetition goes on from there.
    pub(super) fn execute(
        &self,
        dir: &Path,
        storage: &dyn Storage,
        report: &Report,
    ) -> anyhow::Result<()> {
        if self.moves.is_empty() && self.markers.is_empty() {
            return Ok(());
        }
        for Move { from, to } in &self.moves {
            match to {
                Some(to) => {
                    report.say(format_args!("Renaming {} to {}", from.display(), to.display()));
                }
                None => report.say(format_args!("Removing {}", from.display())),
            }
        }
        self.store(dir, Step::Leave, storage)?;
        self.go_on(dir, Step::Leave, storage)
    }

    fn go_on(&self, dir: &Path, step: Step, storage: &dyn Storage) -> anyhow::Result<()> {
        if step == Step::Leave {
            for folder in self.moves.iter().filter_map(|m| m.to.as_ref()?.parent()) {
                let folder = dir.join(folder);
                durable::create_dir_all(&folder)
                    .with_context(|| format!("create {}", folder.display()))?;
            }
            self.leave(dir, storage)?;
            self.sync(dir, storage)?;
            self.store(dir, Step::Arrive, storage)?;
        }
        self.arrive(dir, storage)?;
        for marker in &self.markers {
            remove_if_there(storage, &dir.join(marker))?;
        }
        self.sync(dir, storage)?;
        remove_if_there(storage, &dir.join(LIST))?;
        storage.sync_dir(dir).with_context(|| format!("sync {}", dir.display()))
    }

    fn leave(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
        for (number, Move { from, .. }) in self.moves.iter().enumerate() {
            let (from, temporary) = (dir.join(from), dir.join(temporary(from, number)));
            if !exists(&temporary)? {
                storage
                    .rename(&from, &temporary)
                    .with_context(|| format!("rename {}", from.display()))?;
            }
        }
        Ok(())
    }

    fn arrive(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
        for (number, Move { from, to }) in self.moves.iter().enumerate() {
            let temporary = dir.join(temporary(from, number));
            if !exists(&temporary)? {
                continue;
            }
            let Some(to) = to else {
                remove_if_there(storage, &temporary)?;
                continue;
            };
            let to = dir.join(to);
            storage
                .rename(&temporary, &to)
                .with_context(|| format!("rename {} to {}", temporary.display(), to.display()))?;
        }
        Ok(())
    }

    /// Syncs every folder in which names change.
    fn sync(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
        let moved = self.moves.iter().flat_map(|m| [Some(m.from.as_path()), m.to.as_deref()]);
        let paths = moved.flatten().chain(self.markers.iter().map(PathBuf::as_path));
        let folders: BTreeSet<PathBuf> =
            paths.filter_map(|path| Some(dir.join(path.parent()?))).collect();
        for folder in folders {
            storage.sync_dir(&folder).with_context(|| format!("sync {}", folder.display()))?;
        }
        Ok(())
    }

    fn store(&self, dir: &Path, step: Step, storage: &dyn Storage) -> anyhow::Result<()> {
        let mut fields: Vec<&[u8]> = vec![MAGIC, if step == Step::Leave { b"1" } else { b"2" }];
        for Move { from, to } in &self.moves {
            fields.push(b"move");
            fields.push(from.as_os_str().as_bytes());
            fields.push(to.as_ref().map_or(b"", |to| to.as_os_str().as_bytes()));
        }
        for marker in &self.markers {
            fields.push(b"marker");
            fields.push(marker.as_os_str().as_bytes());
        }
        let path = dir.join(LIST);
        storage
            .replace(&path, &fields.join(&0))
            .with_context(|| format!("write {}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Option<(Self, Step)> {
        let mut fields = bytes.split(|&b| b == 0);
        if fields.next()? != MAGIC {
            return None;
        }
        let step = match fields.next()? {
            b"1" => Step::Leave,
            b"2" => Step::Arrive,
            _ => return None,
        };
        let path = |field: &[u8]| -> Option<PathBuf> {
            let path = PathBuf::from(OsString::from_vec(field.to_vec()));
            is_inside(&path).then_some(path)
        };
        let mut plan = Self::default();
        while let Some(kind) = fields.next() {
            match kind {
                b"move" => {
                    let from = path(fields.next()?)?;
                    let to = fields.next()?;
                    let to = if to.is_empty() { None } else { Some(path(to)?) };
                    plan.moves.push(Move { from, to });
                }
                b"marker" => plan.markers.push(path(fields.next()?)?),
                _ => return None,
            }
        }
        Some((plan, step))
    }
}

/// Finishes what a killed run began. The log was found good before that run moved anything.
///
/// # Errors
///
/// A damaged list; what the system reports.
pub(super) fn resume(dir: &Path, storage: &dyn Storage, report: &Report) -> anyhow::Result<()> {
    let path = dir.join(LIST);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes.with_context(|| format!("read {}", path.display()))?,
    };
    let (plan, step) =
        Plan::parse(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    report.say("Finishing the renames of an interrupted run.");
    plan.go_on(dir, step, storage)
}

/// Names without their extension, relative to the backup.
#[derive(Default)]
struct TableFiles {
    tables: Vec<PathBuf>,
    del: Vec<PathBuf>,
    ren: Vec<PathBuf>,
    new: Vec<PathBuf>,
}

/// Lists all database folders, sorted. `suffix`: of the files of tables.
fn table_files(dir: &Path, suffix: &str) -> anyhow::Result<TableFiles> {
    let mut files = TableFiles::default();
    let list = |dir: &Path| -> anyhow::Result<Vec<OsString>> {
        let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect();
        let names: io::Result<Vec<OsString>> = read();
        let mut names = names.with_context(|| format!("list {}", dir.display()))?;
        names.sort();
        Ok(names)
    };
    for folder in list(dir)? {
        if !dir.join(&folder).is_dir() {
            continue;
        }
        for name in list(&dir.join(&folder))? {
            let kinds = [
                (suffix, &mut files.tables),
                (".del", &mut files.del),
                (".ren", &mut files.ren),
                (".new", &mut files.new),
            ];
            for (suffix, kind) in kinds {
                if let Some(stem) = name.as_bytes().strip_suffix(suffix.as_bytes())
                    && !stem.is_empty()
                {
                    kind.push(Path::new(&folder).join(OsStr::from_bytes(stem)));
                }
            }
        }
    }
    Ok(files)
}

/// Reads a `.ren` file.
fn new_name(marker: &Path) -> anyhow::Result<PathBuf> {
    let content = fs::read(marker).with_context(|| format!("read {}", marker.display()))?;
    let name = PathBuf::from(OsString::from_vec(content));
    let shown = name.as_os_str().as_bytes();
    let valid = is_inside(&name)
        && name.components().count() == 2
        && shown.len() < 1024
        && !shown.iter().any(|&b| b == 0 || b == b'\n');
    ensure!(valid, "{} holds no name of a table: {}", marker.display(), name.display());
    Ok(name)
}

/// Whether the path stays below the folder it is joined to.
pub(super) fn is_inside(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && path.components().all(|component| matches!(component, Component::Normal(_)))
}

fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn temporary(from: &Path, number: usize) -> PathBuf {
    from.with_file_name(format!(".mariabackup-{number}.tmp"))
}

fn exists(path: &Path) -> anyhow::Result<bool> {
    path.try_exists().with_context(|| format!("look for {}", path.display()))
}

pub(super) fn remove_if_there(storage: &dyn Storage, path: &Path) -> anyhow::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::storage::Disk;

    /// A folder with these files, each of which holds its own name.
    fn files(names: &[&str], renames: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        for (marker, target) in renames {
            fs::write(dir.path().join(marker), target).unwrap();
        }
        dir
    }

    /// Names and contents of all files.
    fn contents(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for folder in fs::read_dir(dir).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[track_caller]
    fn assert_result(names: &[&str], renames: &[(&str, &str)], expected: &[(&str, &str)]) {
        let dir = files(names, renames);
        let plan = Plan::of(dir.path()).unwrap();
        let mut tables: Vec<_> = plan
            .tables()
            .map(|(to, from)| (to.display().to_string(), from.display().to_string()))
            .collect();
        tables.sort();
        plan.execute(dir.path(), &Disk, &Report::to_stderr(false)).unwrap();
        let owned = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
        let expected: Vec<_> = expected.iter().map(owned).collect();
        assert_eq!(contents(dir.path()), expected);
        assert_eq!(tables, expected);
    }

    #[test]
    fn dropped_renamed_and_new_tables() {
        assert_result(
            &[
                "a/t.ibd",
                "a/gone.ibd",
                "a/gone.del",
                "a/never.del",
                "a/n.new",
                "a/old.ibd",
                "a/old.new",
            ],
            &[("a/t.ren", "b/u"), ("a/unknown.ren", "b/v")],
            &[("a/n.ibd", "a/n.new"), ("a/old.ibd", "a/old.new"), ("b/u.ibd", "a/t.ibd")],
        );
    }

    #[test]
    fn chains_and_circles_of_renames() {
        assert_result(
            &["a/1.ibd", "a/2.ibd", "a/3.ibd", "a/x.ibd", "a/y.ibd", "a/z.ibd", "a/z.del"],
            &[
                ("a/1.ren", "a/2"),
                ("a/2.ren", "a/3"),
                ("a/3.ren", "a/1"),
                ("a/x.ren", "a/y"),
                ("a/y.ren", "a/z"),
            ],
            &[
                ("a/1.ibd", "a/3.ibd"),
                ("a/2.ibd", "a/1.ibd"),
                ("a/3.ibd", "a/2.ibd"),
                ("a/y.ibd", "a/x.ibd"),
                ("a/z.ibd", "a/y.ibd"),
            ],
        );
    }

    /// The old table was renamed, then a new one got its name.
    #[test]
    fn a_new_table_with_the_name_of_a_renamed_one() {
        assert_result(
            &["a/t.ibd", "a/t.new"],
            &[("a/t.ren", "a/u")],
            &[("a/t.ibd", "a/t.new"), ("a/u.ibd", "a/t.ibd")],
        );
        assert_result(&["a/t.ibd", "a/u.new"], &[("a/t.ren", "a/u")], &[("a/u.ibd", "a/u.new")]);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |names: &[&str], renames: &[(&str, &str)], message: &str| {
            let error = Plan::of(files(names, renames).path()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        refused(&["a/t.ibd", "a/u.ibd"], &[("a/t.ren", "a/u")], "neither renamed nor dropped");
        let both = &[("a/t.ren", "a/v"), ("a/u.ren", "a/v")];
        refused(&["a/t.ibd", "a/u.ibd"], both, "are both to be renamed to a/v");
        for target in ["", "t", "/a/t", "../t", "a/../t", "a/b/t", "a/t\n", "a/\0"] {
            refused(&["a/t.ibd"], &[("a/t.ren", target)], "holds no name of a table");
        }
    }

    #[test]
    fn a_damaged_list_is_refused() {
        let dir = files(&["a/t.ibd"], &[]);
        resume(dir.path(), &Disk, &Report::to_stderr(false)).unwrap();
        let lists: [&[u8]; 6] = [
            b"",
            b"mariabackup moves 1\x003",
            b"mariabackup moves 1\x001\0move\0a/t.ibd",
            b"mariabackup moves 1\x001\0move\0../t.ibd\0a/u.ibd",
            b"mariabackup moves 1\x001\0move\0a/t.ibd\0/u.ibd",
            b"mariabackup moves 1\x001\0other\0a",
        ];
        for list in lists {
            fs::write(dir.path().join(LIST), list).unwrap();
            let error = resume(dir.path(), &Disk, &Report::to_stderr(false)).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "{error}");
        }
    }
}
