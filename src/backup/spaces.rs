//! The table of spaces: which tablespace was copied under which name, and what became of it.
//!
//! Tablespaces are known by id, because names change hands while a backup runs. The table is fed
//! by the copy (`id`, name and file identity at the time of opening), by the file operations in
//! the redo log, in LSN order, and by a second listing of the directories once no DDL can run.
//! From these, [`resolve`] says what must be corrected in the backup: `.del`, `.ren` and `.new`
//! markers, the form in which both our `--prepare` and the reference's take it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use innodb::SpaceId;
use innodb::datadir::FileIdentity;

use super::redo_copy::{FileChange, FileEvent};
use crate::filter::TableFilter;

/// A table's name as a path without extension, `db/table`, in file-name encoding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(PathBuf);

impl TableName {
    /// The name of the tablespace file `path`: its last two components without `.ibd` or `.isl`.
    /// `None` where the path has no such form.
    pub fn of_file(path: &Path) -> Option<Self> {
        let file = Path::new(path.file_name()?);
        let table = match file.extension()?.as_bytes() {
            b"ibd" | b"isl" => file.file_stem()?,
            _ => return None,
        };
        let database = path.parent()?.file_name()?;
        Some(Self(Path::new(database).join(table)))
    }

    /// The name by which an undo tablespace is known here: its file's.
    pub fn of_undo(file: &Path) -> Self {
        Self(file.to_path_buf())
    }

    /// The path, relative to a data directory, of this table's file with `extension`.
    pub fn with_extension(&self, extension: &str) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(".");
        path.push(extension);
        path.into()
    }

    /// Whether this names a table and not an undo tablespace.
    pub fn is_table(&self) -> bool {
        self.0.components().count() == 2
    }

    /// `db/table` as bytes, in file-name encoding.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// `db/table` for messages.
    pub fn display(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    /// Whether the server uses the file only while it rebuilds a table.
    pub fn is_intermediate(&self) -> bool {
        self.0.file_name().is_some_and(|name| name.as_bytes().starts_with(b"#sql"))
    }
}

/// A tablespace that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedSpace {
    /// The name it had when its file was opened.
    pub name: TableName,
    /// The file that was read.
    pub identity: FileIdentity,
}

/// What the redo log says of one tablespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Logged {
    /// Its name, unless it was deleted last.
    name: Option<TableName>,
    /// What was copied is of no use: the file was deleted once. It can be there again with the
    /// same id: DISCARD TABLESPACE and IMPORT TABLESPACE.
    useless: bool,
}

/// File operations of the log, folded in LSN order.
#[derive(Debug, Default)]
pub struct LoggedFiles {
    spaces: HashMap<SpaceId, Logged>,
    trimmed: HashSet<SpaceId>,
    initialised: HashSet<SpaceId>,
}

impl LoggedFiles {
    /// Takes the next event of the log.
    pub fn note(&mut self, event: &FileEvent) {
        match &event.change {
            FileChange::Create { path } | FileChange::Modify { path } => {
                self.spaces.entry(event.space).or_default().name = TableName::of_file(path);
            }
            FileChange::Rename { to, .. } => {
                self.spaces.entry(event.space).or_default().name = TableName::of_file(to);
            }
            FileChange::Delete { .. } => {
                *self.spaces.entry(event.space).or_default() = Logged { name: None, useless: true };
            }
            FileChange::Trim { .. } => {
                self.trimmed.insert(event.space);
            }
            FileChange::InitFirstPage => {
                self.initialised.insert(event.space);
            }
        }
    }

    /// Whether the log truncates the tablespace, so that what its file held does not matter.
    pub fn is_trimmed(&self, space: SpaceId) -> bool {
        self.trimmed.contains(&space)
    }

    /// Notes that what was copied of a tablespace cannot be used, whatever the log tells.
    pub fn note_useless(&mut self, space: SpaceId) {
        self.spaces.entry(space).or_default().useless = true;
    }

    fn is_useless(&self, space: SpaceId) -> bool {
        self.spaces.get(&space).is_some_and(|space| space.useless)
    }

    /// Whether the log writes page 0 of the tablespace from nothing.
    pub fn is_initialised(&self, space: SpaceId) -> bool {
        self.initialised.contains(&space)
    }

    /// The tablespaces that own each name at the end of the log, as far as the log tells.
    pub fn owners(&self) -> HashMap<&TableName, SpaceId> {
        let mut owners = HashMap::new();
        for (id, space) in &self.spaces {
            let Some(name) = &space.name else { continue };
            // Ids grow: of two with one name the later owns it.
            let owner = owners.entry(name).or_insert(*id);
            *owner = (*owner).max(*id);
        }
        owners
    }

    /// The last name of the tablespace that the log tells.
    pub fn name(&self, space: SpaceId) -> Option<&TableName> {
        self.spaces.get(&space)?.name.as_ref()
    }
}

/// A tablespace file in the second listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSpace {
    /// Its name.
    pub name: TableName,
    /// The file.
    pub identity: FileIdentity,
}

/// Corrections of the backup, in the order in which prepare applies them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Names under which tablespaces were copied that no longer exist.
    pub deleted: Vec<TableName>,
    /// Copied names and what they are called now.
    pub renamed: Vec<(TableName, TableName)>,
    /// Names whose files must be copied now.
    pub copy: Vec<TableName>,
    /// Two files with one id: nobody can tell which of them is the table.
    pub duplicates: Vec<(SpaceId, TableName, TableName)>,
}

impl Resolution {
    /// What prepare makes of the name under which a tablespace was copied; `None` if it deletes it.
    pub fn name_after<'n>(&'n self, copied: &'n [u8]) -> Option<&'n [u8]> {
        if self.deleted.iter().any(|name| name.as_bytes() == copied) {
            return None;
        }
        let renamed = self.renamed.iter().find(|(from, _)| from.as_bytes() == copied);
        Some(renamed.map_or(copied, |(_, to)| to.as_bytes()))
    }

    /// The tablespaces, `DATABASE/TABLE.ibd`, that prepare makes of a backup with these
    /// corrections and the files `written`.
    pub fn tablespaces(&self, written: &HashSet<PathBuf>) -> HashSet<PathBuf> {
        let former = self.renamed.iter().map(|(from, _)| from).chain(&self.deleted);
        let former: HashSet<PathBuf> = former.map(|name| name.with_extension("ibd")).collect();
        let is_kept =
            |file: &&PathBuf| file.extension() == Some("ibd".as_ref()) && !former.contains(*file);
        let kept = written.iter().filter(is_kept).cloned();
        let is_whole = |file: &&PathBuf| file.extension() == Some("new".as_ref());
        let whole = written.iter().filter(is_whole).map(|file| file.with_extension("ibd"));
        let renamed = self.renamed.iter();
        let renamed = renamed.filter(|(from, _)| written.contains(&from.with_extension("ibd")));
        let renamed = renamed.map(|(_, to)| to.with_extension("ibd"));
        kept.chain(whole).chain(renamed).collect()
    }
}

/// Compares what was copied with what exists once DDL is blocked.
///
/// `listed` are all tablespace files but intermediate ones. `id_of` reads the id in page 0 of a
/// listed file, `None` where page 0 was not written yet; it is asked only about files that are
/// not the ones that were copied.
///
/// # Errors
///
/// Those of `id_of`.
pub fn resolve<E, S: BuildHasher>(
    copied: &HashMap<SpaceId, CopiedSpace, S>,
    logged: &LoggedFiles,
    listed: &[ListedSpace],
    mut id_of: impl FnMut(&TableName) -> Result<Option<SpaceId>, E>,
) -> Result<Resolution, E> {
    let by_file: HashMap<_, _> = copied.iter().map(|(id, c)| (file(&c.identity), *id)).collect();
    let owners = logged.owners();
    let mut now: BTreeMap<SpaceId, &TableName> = BTreeMap::new();
    let mut replaced = HashSet::new();
    let mut resolution = Resolution::default();
    for file in listed {
        // The very file that was copied is known without a look at page 0 if the log tells that
        // the tablespace has this name. If it tells nothing of it, nobody may have touched the
        // file: it can have come from elsewhere, and IMPORT TABLESPACE writes no record.
        let same = by_file.get(&self::file(&file.identity)).filter(|id| {
            let is_here = match (logged.name(**id), copied.get(id)) {
                (Some(name), _) => *name == file.name,
                (None, Some(copy)) => copy.name == file.name && copy.identity == file.identity,
                (None, None) => false,
            };
            let is_owner = owners.get(&file.name).is_none_or(|owner| owner == *id);
            is_here && is_owner && !logged.is_useless(**id)
        });
        let id = match same {
            Some(id) => Some(*id),
            None => id_of(&file.name)?,
        };
        let is_copy = id.is_some_and(|id| {
            let file_is = |c: &CopiedSpace| c.identity.is_same_file(&file.identity);
            !logged.is_useless(id) && copied.get(&id).is_some_and(file_is)
        });
        if !is_copy {
            resolution.copy.push(file.name.clone());
        }
        if let Some(id) = id {
            if let Some(other) = now.insert(id, &file.name) {
                resolution.duplicates.push((id, other.clone(), file.name.clone()));
            }
            if !is_copy {
                replaced.insert(id);
            }
        }
    }
    for id in &replaced {
        now.remove(id);
    }
    for (id, copy) in copied {
        match now.get(id) {
            None => resolution.deleted.push(copy.name.clone()),
            Some(name) if **name != copy.name => {
                resolution.renamed.push((copy.name.clone(), (*name).clone()));
            }
            Some(_) => {}
        }
    }
    resolution.deleted.sort();
    resolution.renamed.sort();
    resolution.copy.sort();
    Ok(resolution)
}

/// What `event`, logged after DDL was blocked, does to which table, if that is one that a backup
/// of what `filter` takes holds: such as `create on d/t`.
pub fn late_ddl(event: &FileEvent, filter: &TableFilter) -> Option<String> {
    let (what, path, former) = match &event.change {
        FileChange::Create { path } => ("create", path, None),
        FileChange::Delete { path } => ("delete", path, None),
        FileChange::Rename { from, to } => ("rename", to, TableName::of_file(from)),
        _ => return None,
    };
    let takes = |name: &TableName| filter.takes(&name.with_extension("ibd"));
    let name = TableName::of_file(path).filter(|name| !name.is_intermediate())?;
    if !takes(&name) && !former.is_some_and(|former| takes(&former)) {
        return None;
    }
    // The auxiliary tables of full-text indexes come and go by themselves.
    let own = !name.0.file_name()?.as_bytes().starts_with(b"FTS_");
    own.then(|| format!("{what} on {}", name.display()))
}

/// Which file this is, whatever its name and contents.
fn file(identity: &FileIdentity) -> (u64, u64) {
    (identity.device, identity.inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::of_file(Path::new(&format!("./{name}.ibd"))).unwrap()
    }

    fn identity(inode: u64) -> FileIdentity {
        FileIdentity { device: 1, inode, size: 65536, mtime: 0, ctime: 0 }
    }

    /// Tables with id = inode, copied by these names.
    fn copied(tables: &[(u32, &str)]) -> HashMap<SpaceId, CopiedSpace> {
        tables
            .iter()
            .map(|(id, name)| {
                let space = CopiedSpace { name: table(name), identity: identity(u64::from(*id)) };
                (SpaceId(*id), space)
            })
            .collect()
    }

    fn listed(tables: &[(u32, &str)]) -> Vec<ListedSpace> {
        tables
            .iter()
            .map(|(id, name)| ListedSpace { name: table(name), identity: identity(u64::from(*id)) })
            .collect()
    }

    fn logged(events: &[(u32, &str, &str)]) -> LoggedFiles {
        let mut files = LoggedFiles::default();
        for (id, what, name) in events {
            let path = PathBuf::from(format!("./{name}.ibd"));
            let change = match *what {
                "create" => FileChange::Create { path },
                "rename" => FileChange::Rename { from: PathBuf::new(), to: path },
                "delete" => FileChange::Delete { path },
                _ => FileChange::Modify { path },
            };
            files.note(&FileEvent { lsn: innodb::Lsn(0), space: SpaceId(*id), change });
        }
        files
    }

    /// Resolves with page 0 of every listed file holding its inode as id.
    fn resolved(
        before: &[(u32, &str)],
        events: &[(u32, &str, &str)],
        after: &[(u32, &str)],
    ) -> Resolution {
        let ids: HashMap<TableName, SpaceId> =
            after.iter().map(|(id, name)| (table(name), SpaceId(*id))).collect();
        let id_of = |name: &TableName| Ok::<_, ()>(ids.get(name).copied());
        resolve(&copied(before), &logged(events), &listed(after), id_of).unwrap()
    }

    fn expected(deleted: &[&str], renamed: &[(&str, &str)], copy: &[&str]) -> Resolution {
        Resolution {
            deleted: deleted.iter().map(|name| table(name)).collect(),
            renamed: renamed.iter().map(|(from, to)| (table(from), table(to))).collect(),
            copy: copy.iter().map(|name| table(name)).collect(),
            duplicates: Vec::new(),
        }
    }

    #[test]
    fn nothing_happened() {
        let tables = [(1, "d/a"), (2, "d/b")];
        assert_eq!(resolved(&tables, &[], &tables), Resolution::default());
    }

    #[test]
    fn dropped_created_and_renamed_tables() {
        let got = resolved(
            &[(1, "d/a"), (2, "d/b")],
            &[(1, "delete", "d/a"), (2, "rename", "e/c"), (3, "create", "d/n")],
            &[(2, "e/c"), (3, "d/n")],
        );
        assert_eq!(got, expected(&["d/a"], &[("d/b", "e/c")], &["d/n"]));
    }

    #[test]
    fn tablespaces_of_a_corrected_backup() {
        let resolution = expected(
            &["d/gone", "d/replaced"],
            &[("d/a", "d/b"), ("d/b", "d/a"), ("d/lost", "d/lost_too")],
            &["d/replaced", "d/new", "d/not_copied"],
        );
        let files = ["gone.ibd", "replaced.ibd", "a.ibd", "b.ibd", "same.ibd"];
        let written = files.iter().chain(&["replaced.new", "new.new"]);
        let written = written.map(|file| Path::new("d").join(file)).collect();
        let mut tablespaces: Vec<_> = resolution.tablespaces(&written).into_iter().collect();
        tablespaces.sort();
        let names = ["d/a.ibd", "d/b.ibd", "d/new.ibd", "d/replaced.ibd", "d/same.ibd"];
        assert_eq!(tablespaces, names.map(PathBuf::from));
    }

    #[test]
    fn circle_of_renames_and_a_new_table_by_an_old_name() {
        let got = resolved(
            &[(1, "d/a"), (2, "d/b"), (3, "d/c")],
            &[
                (1, "rename", "d/t"),
                (2, "rename", "d/a"),
                (1, "rename", "d/b"),
                (3, "rename", "d/old"),
                (4, "create", "d/c"),
            ],
            &[(2, "d/a"), (1, "d/b"), (4, "d/c"), (3, "d/old")],
        );
        let renamed = [("d/a", "d/b"), ("d/b", "d/a"), ("d/c", "d/old")];
        assert_eq!(got, expected(&[], &renamed, &["d/c"]));
    }

    #[test]
    fn file_of_a_dropped_table_whose_inode_is_used_again() {
        // Inode 1 now holds another tablespace, by the same name.
        let ids = |_: &TableName| Ok::<_, ()>(Some(SpaceId(7)));
        let events = logged(&[(1, "delete", "d/a"), (7, "create", "d/a")]);
        let got = resolve(&copied(&[(1, "d/a")]), &events, &listed(&[(1, "d/a")]), ids).unwrap();
        assert_eq!(got, expected(&["d/a"], &[], &["d/a"]));
    }

    #[test]
    fn file_of_a_table_dropped_without_a_trace_whose_inode_is_used_again() {
        // A checkpoint hid the deletion. The new tablespace has another name, or the log names it.
        let ids = |_: &TableName| Ok::<_, ()>(Some(SpaceId(7)));
        for (events, name) in [(logged(&[]), "d/b"), (logged(&[(7, "create", "d/a")]), "d/a")] {
            let listed = listed(&[(1, name)]);
            let got = resolve(&copied(&[(1, "d/a")]), &events, &listed, ids).unwrap();
            assert_eq!(got, expected(&["d/a"], &[], &[name]));
        }
    }

    #[test]
    fn imported_table_of_which_the_log_tells_nothing() {
        let got = resolved(&[(1, "d/a")], &[], &[(9, "d/a")]);
        assert_eq!(got, expected(&["d/a"], &[], &["d/a"]));
    }

    #[test]
    fn table_imported_again_with_its_id_and_even_its_inode() {
        let events = [(1, "delete", "d/a"), (1, "modify", "d/a")];
        let got = resolved(&[(1, "d/a")], &events, &[(1, "d/a")]);
        assert_eq!(got, expected(&["d/a"], &[], &["d/a"]));
    }

    #[test]
    fn foreign_file_that_becomes_a_discarded_table_s() {
        // Copied by the id it came with; then it got that of the table, deleted before.
        let ids = |_: &TableName| Ok::<_, ()>(Some(SpaceId(7)));
        let events = logged(&[(7, "delete", "d/a"), (7, "modify", "d/a")]);
        let got = resolve(&copied(&[(1, "d/a")]), &events, &listed(&[(1, "d/a")]), ids).unwrap();
        assert_eq!(got, expected(&["d/a"], &[], &["d/a"]));
    }

    #[test]
    fn file_that_changed_without_a_word_in_the_log_is_looked_at() {
        let mut files = listed(&[(1, "d/a")]);
        files[0].identity.ctime += 1;
        for (now, expected) in [(1, Resolution::default()), (7, expected(&["d/a"], &[], &["d/a"]))]
        {
            let id_of = |_: &TableName| Ok::<_, ()>(Some(SpaceId(now)));
            let got = resolve(&copied(&[(1, "d/a")]), &logged(&[]), &files, id_of).unwrap();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn copy_that_is_of_no_use_is_made_again() {
        let mut events = logged(&[]);
        events.note_useless(SpaceId(1));
        let id_of = |_: &TableName| Ok::<_, ()>(Some(SpaceId(1)));
        let got = resolve(&copied(&[(1, "d/a")]), &events, &listed(&[(1, "d/a")]), id_of).unwrap();
        assert_eq!(got, expected(&["d/a"], &[], &["d/a"]));
    }

    #[test]
    fn stray_copy_of_a_tablespace_is_told() {
        let id_of = |_: &TableName| Ok::<_, ()>(Some(SpaceId(1)));
        let files = listed(&[(1, "d/a"), (2, "d/a_old")]);
        let got = resolve(&copied(&[(1, "d/a")]), &logged(&[]), &files, id_of).unwrap();
        assert_eq!(got.duplicates, [(SpaceId(1), table("d/a"), table("d/a_old"))]);
    }

    #[test]
    fn rename_that_a_checkpoint_hid() {
        let got = resolved(&[(1, "d/a")], &[], &[(1, "d/b")]);
        assert_eq!(got, expected(&[], &[("d/a", "d/b")], &[]));
    }

    #[test]
    fn names_of_files() {
        let of = |path: &str| TableName::of_file(Path::new(path));
        assert_eq!(of("/elsewhere/d/t#P#p0.ibd"), Some(table("d/t#P#p0")));
        assert_eq!(of("d/t.isl"), Some(table("d/t")));
        assert_eq!(of("d/t.frm"), None);
        assert_eq!(of("t.ibd"), None);
        assert_eq!(table("d/t").with_extension("new"), Path::new("d/t.new"));
        assert!(table("d/#sql-1").is_intermediate());
        assert!(!TableName::of_undo(Path::new("undo001")).is_table());
    }

    #[test]
    fn later_tablespace_owns_a_name() {
        let events = logged(&[
            (1, "create", "d/a"),
            (2, "create", "d/a"),
            (3, "create", "d/a"),
            (3, "delete", "d/a"),
        ]);
        assert_eq!(events.owners().get(&table("d/a")), Some(&SpaceId(2)));
    }
}
