//! Files that follow the log: made, renamed and removed as it says. `BACKUP SERVER` copies the
//! tablespaces that there were at the checkpoint, each under the name that it had by then.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::SpaceId;

use super::{DataFile, Head, Kind, Log, Plan, Report, Scanned, Space, SpaceFacts, Spaces, owners};
use crate::prepare::markers::is_inside;

impl Spaces<'_> {
    /// Renames and removes files in `plan`, and lets [`Spaces::resolve`] make new ones. Changes
    /// nothing on disk.
    ///
    /// # Errors
    ///
    /// A name that is none, or of two tablespaces.
    pub(in crate::prepare) fn follow(
        &mut self,
        scanned: &Scanned,
        plan: &mut Plan,
        report: &Report,
    ) -> anyhow::Result<()> {
        self.follows_log = true;
        let mut names = HashSet::new();
        let mut ids: Vec<_> = scanned.spaces.iter().collect();
        ids.sort_by_key(|&(id, _)| *id);
        for (&id, facts) in ids {
            let Some((_, name)) = &facts.name else { continue };
            let name = path_of(name)?;
            names.insert(name.clone());
            let Some(file) = self.by_id.get_mut(&id).and_then(Space::file_of_table) else {
                continue;
            };
            if facts.is_deleted {
                report.detail(format_args!("{} was dropped", file.path.display()));
                plan.send(&file.current, None);
                self.by_id.remove(&id);
            } else if name != file.path {
                plan.send(&file.current, Some(name.clone()));
                file.path = name;
            }
        }
        self.drop_obsolete(&names, scanned, plan)
    }

    /// Removes files that were never written and whose names the log gives to nobody, or to other
    /// files.
    fn drop_obsolete(
        &mut self,
        names: &HashSet<PathBuf>,
        scanned: &Scanned,
        plan: &mut Plan,
    ) -> anyhow::Result<()> {
        let mut taken = HashMap::<&Path, SpaceId>::new();
        for space in self.by_id.values().filter(|space| space.kind == Kind::Table) {
            for file in &space.files {
                if let Some(other) = taken.insert(&file.path, space.id) {
                    bail!(
                        "the redo log gives {} the name of another one: tablespaces {other} and {} \
                         would both be {}",
                        file.current.display(),
                        space.id,
                        file.path.display()
                    );
                }
            }
        }
        let owners = owners(scanned);
        self.unusable.retain(|unusable| {
            let path = unusable.file.path.as_path();
            let is_needed = owners.contains_key(path) && !taken.contains_key(path);
            let is_obsolete = names.contains(path) && !is_needed;
            if is_obsolete {
                plan.send(&unusable.file.current, None);
            }
            !is_obsolete
        });
        Ok(())
    }

    /// A tablespace of the log that is in no file.
    pub(super) fn make(
        &mut self,
        path: PathBuf,
        id: SpaceId,
        facts: &SpaceFacts,
        owners: &HashMap<PathBuf, SpaceId>,
        log: Log<'_>,
        report: &Report,
    ) -> anyhow::Result<()> {
        let shown = path.display();
        if owners.get(&path) != Some(&id) {
            report.detail(format_args!("{shown}: tablespace {id} lost its name to another one"));
            return Ok(());
        }
        let missing = || {
            format!(
                "tablespace {id} ({shown}) is not in the backup, and the redo log, which changes \
                 it, does not make it"
            )
        };
        let header = self.page0_of_log(id, facts, log, &missing)?;
        let mut files = self.by_id.values().flat_map(|space| &space.files);
        ensure!(
            !files.any(|file| file.path == path),
            "the redo log makes {shown} (tablespace {id}), which is another tablespace in the \
             backup"
        );
        report.detail(format_args!("{shown} is made from the redo log"));
        let head = Head { path: None, offset: 0, len: 0 };
        let file = DataFile { current: path.clone(), path, head, len: 0, is_new: true };
        self.insert(Kind::Table, vec![file], &header)
    }
}

impl Space {
    /// Its only file, if it is that of a table.
    fn file_of_table(&mut self) -> Option<&mut DataFile> {
        self.files.first_mut().filter(|_| self.kind == Kind::Table)
    }
}

/// `db/table.ibd` of a name in the log, which becomes the name of a file.
fn path_of(name: &[u8]) -> anyhow::Result<PathBuf> {
    let path = super::path_in_backup(name);
    let is_table = is_inside(&path) && path.components().count() == 2;
    is_table.then_some(path).with_context(|| {
        format!("the redo log has the file name {:?}, of no table", name.escape_ascii().to_string())
    })
}
