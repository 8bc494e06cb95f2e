//! What the descriptions of tables say of their data files: the last check of a backup, and whose
//! rows it cannot hold.
//!
//! Descriptions are read as they are copied, so that the check needs no file again. It comes after
//! the locks: then the backup holds what it will ever hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{anyhow, bail};
use mdl::facts::ServerFacts;
use mdl::filename;
use mdl::frm::{self, Definition, Engine, FrmError};

use super::plan::Plan;
use crate::hint::WithHint;
use crate::report::Report;

/// Names of tables that a message shows at most.
const SHOWN: usize = 10;

/// A copied description.
#[derive(Debug)]
enum Described {
    Frm(Result<Definition, FrmError>),
    Par(Result<Vec<String>, FrmError>),
}

/// A data file of a described table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeededFile {
    /// Relative to the data directory.
    pub file: PathBuf,
    /// The table may also be in the system tablespace, or its tablespace discarded.
    pub is_of_innodb: bool,
}

/// What the `.frm` and `.par` files of the backup say, by their places in it.
#[derive(Debug, Default)]
pub struct Definitions(Mutex<HashMap<PathBuf, Described>>);

impl Definitions {
    /// Takes the contents of a file that was copied to `target`, if it describes a table.
    pub fn note(&self, target: &Path, bytes: &[u8]) {
        let described = match target.extension().and_then(OsStr::to_str) {
            Some("frm") => Described::Frm(Definition::parse(bytes)),
            Some("par") => Described::Par(frm::partition_names(bytes)),
            _ => return,
        };
        self.lock().insert(target.to_path_buf(), described);
    }

    /// Forgets a file that was removed.
    pub fn forget(&self, target: &Path) {
        self.lock().remove(target);
    }

    /// Checks that the backup has the files of all engines that the server has, and the tablespace
    /// of each table and partition of `InnoDB` that it describes. `listed` is what the server has,
    /// `has` tells what the backup has.
    ///
    /// A tablespace of a table that no description names is not looked for: it may be a file that
    /// the server does not use. One that the server does not have is none of its files: the table is
    /// in the system tablespace, or its tablespace was discarded.
    ///
    /// # Errors
    ///
    /// A file was lost.
    pub fn check(
        &self,
        listed: &Plan,
        has: impl Fn(&Path) -> bool,
        report: &Report,
    ) -> anyhow::Result<()> {
        let engine_files = listed.engine_tables.values().flat_map(|entry| &entry.files);
        let files = engine_files.chain(&listed.plain).chain(&listed.mapped);
        let mut on_server: HashSet<PathBuf> = files.map(|file| file.target.clone()).collect();
        let mut lost: Vec<_> = on_server.iter().filter(|file| !has(file)).cloned().collect();
        on_server.extend(listed.tables.iter().map(|table| table.space.name.with_extension("ibd")));
        let mut lacking = Vec::new();
        let definitions = self.lock();
        for (target, described) in &*definitions {
            let definition = match described {
                Described::Frm(Ok(definition)) => definition,
                Described::Par(Ok(_)) => continue,
                Described::Frm(Err(error)) | Described::Par(Err(error)) => {
                    let target = target.display();
                    report.say(format_args!("Warning: {target} is not understood: {error}."));
                    continue;
                }
            };
            for file in expected_files(&definitions, target, definition) {
                match (has(&file), on_server.contains(&file)) {
                    (true, _) => {}
                    (false, true) => lost.push(file),
                    (false, false) if is_of_innodb(definition) => {}
                    (false, false) => lacking.push(file),
                }
            }
        }
        lacking.sort();
        for file in lacking {
            report.say(format_args!(
                "Warning: the server has no {}, which the table needs. Check it there: CHECK \
                 TABLE {}.",
                file.display(),
                table_name(&file)
            ));
        }
        lost.sort();
        lost.dedup();
        match lost.first() {
            None => Ok(()),
            Some(file) => bail!(
                "{} was not copied{}",
                file.display(),
                match lost.len() {
                    1 => String::new(),
                    count => format!(", one of {count} such files"),
                }
            ),
        }
    }

    /// Refuses tables of engines that the server runs and of which nothing is known here: nobody
    /// can tell where their rows are.
    ///
    /// # Errors
    ///
    /// The tables.
    pub fn refuse_unknown_engines(&self, facts: &ServerFacts) -> anyhow::Result<()> {
        for (engine, tables) in self.tables_by_engine() {
            if let Engine::Other(name) = &engine
                && !is_known(name)
                && facts.has_engine(name)
            {
                bail!(
                    "this version cannot back up {}: {}",
                    counted(tables.len(), name),
                    shown(&tables)
                );
            }
        }
        Ok(())
    }

    /// Tells of tables whose rows are not in files of the data directory, and of those whose
    /// engine the server does not run, so that nobody can tell where their rows are.
    ///
    /// # Errors
    ///
    /// Tables of `MyRocks`, whose rows lie there but cannot be had without the server.
    pub fn report_engines(&self, facts: &ServerFacts, report: &Report) -> anyhow::Result<()> {
        for (engine, tables) in self.tables_by_engine() {
            let is_foreign = match &engine {
                Engine::RocksDb | Engine::Mroonga | Engine::Connect => true,
                Engine::Other(name) => !is_known(name),
                _ => false,
            };
            if is_foreign && !facts.has_engine(engine.name()) {
                let counted = counted(tables.len(), engine.name());
                let shown = shown(&tables);
                if engine == Engine::RocksDb && facts.has_rocksdb_folder() {
                    return Err(anyhow!("the rows of {counted} cannot be saved: {shown}")).hint(
                        "the server does not run MyRocks; load the plugin (INSTALL SONAME \
                         'ha_rocksdb') or drop the tables",
                    );
                }
                report.say(format_args!(
                    "Warning: the server does not run the engine of {counted}, of which the \
                     backup may hold the definition alone: {shown}"
                ));
            }
            let Some(place) = rows_elsewhere(&engine) else { continue };
            report.say(format_args!(
                "Note: of {} the backup holds the definition alone, as the rows {place}: {}",
                counted(tables.len(), engine.name()),
                shown(&tables)
            ));
        }
        Ok(())
    }

    /// Tables by engine, in the form in which SQL names them.
    pub fn tables_by_engine(&self) -> BTreeMap<Engine, Vec<String>> {
        let mut tables = BTreeMap::<_, Vec<String>>::new();
        for (target, described) in &*self.lock() {
            if let Described::Frm(Ok(Definition::Table { engine, .. })) = described {
                tables.entry(engine.clone()).or_default().push(table_name(target));
            }
        }
        for names in tables.values_mut() {
            names.sort();
        }
        tables
    }

    /// The folders of databases that have tables of `wanted`.
    pub fn databases_with(&self, wanted: &Engine) -> HashSet<PathBuf> {
        let definitions = self.lock();
        let with = definitions.iter().filter_map(|(target, described)| match described {
            Described::Frm(Ok(Definition::Table { engine, .. })) if engine == wanted => {
                target.parent().map(Path::to_path_buf)
            }
            _ => None,
        });
        with.collect()
    }

    /// The data files that the described tables and partitions must have, or for tables of `InnoDB`
    /// can have; and the descriptions that are not understood, with why.
    pub fn needed_files(&self) -> (Vec<NeededFile>, Vec<(PathBuf, String)>) {
        let definitions = self.lock();
        let (mut needed, mut unknown) = (Vec::new(), Vec::new());
        for (target, described) in &*definitions {
            match described {
                Described::Frm(Ok(definition)) => {
                    let is_of_innodb = is_of_innodb(definition);
                    let files = expected_files(&definitions, target, definition);
                    needed.extend(files.into_iter().map(|file| NeededFile { file, is_of_innodb }));
                }
                Described::Par(Ok(_)) => {}
                Described::Frm(Err(error)) | Described::Par(Err(error)) => {
                    unknown.push((target.clone(), error.to_string()));
                }
            }
        }
        (needed, unknown)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Described>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_innodb(definition: &Definition) -> bool {
    matches!(definition, Definition::Table { engine: Engine::InnoDb, .. })
}

/// The data files of the table whose description is `target`.
fn expected_files(
    definitions: &HashMap<PathBuf, Described>,
    target: &Path,
    definition: &Definition,
) -> Vec<PathBuf> {
    let Definition::Table { engine, is_partitioned } = definition else { return Vec::new() };
    let stem = target.with_extension("");
    let mut stems = vec![stem.clone()];
    if *is_partitioned {
        // Without a list there is nothing to compare with; that it is missing, the server tells.
        let names = match definitions.get(&target.with_extension("par")) {
            Some(Described::Par(Ok(names))) => names.as_slice(),
            _ => &[],
        };
        let name = |partition: &String| {
            let mut name = stem.clone().into_os_string();
            name.push("#P#");
            name.push(partition);
            PathBuf::from(name)
        };
        stems = names.iter().map(name).collect();
    }
    let with_extensions = |stem: PathBuf| {
        engine.extensions().iter().map(move |extension| {
            let mut name = stem.clone().into_os_string();
            name.push(".");
            name.push(extension);
            PathBuf::from(name)
        })
    };
    stems.into_iter().flat_map(with_extensions).collect()
}

/// Engines without files of their own for each table, in upper case, and where their rows are, if
/// they have any.
const WITHOUT_FILES: [(&str, &str); 11] = [
    ("SPIDER", "are on other servers"),
    ("FEDERATED", "are on other servers"),
    ("S3", "are in object storage"),
    ("SPHINX", "are in a search server"),
    ("OQGRAPH", "are those of other tables"),
    ("BLACKHOLE", ""),
    ("MEMORY", ""),
    ("SEQUENCE", ""),
    ("PERFORMANCE_SCHEMA", ""),
    ("EXAMPLE", ""),
    ("TEST_SQL_DISCOVERY", ""),
];

fn is_known(engine: &str) -> bool {
    WITHOUT_FILES.iter().any(|(name, _)| engine.eq_ignore_ascii_case(name))
}

/// Where the rows of an engine are that keeps none in the data directory.
fn rows_elsewhere(engine: &Engine) -> Option<&'static str> {
    let Engine::Other(name) = engine else { return None };
    let known = WITHOUT_FILES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    known.map(|(_, place)| *place).filter(|place| !place.is_empty())
}

fn counted(count: usize, engine: &str) -> String {
    match count {
        1 => format!("a table of {engine}"),
        _ => format!("{count} tables of {engine}"),
    }
}

/// The first of `names`, and how many more there are.
fn shown(names: &[String]) -> String {
    let first = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// `database.table` of a file, as SQL names it.
fn table_name(file: &Path) -> String {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let stem = text(file.file_stem());
    let stem = stem.split_once("#P#").map_or(stem.as_str(), |(table, _)| table);
    let folder = text(file.parent().and_then(Path::file_name));
    format!("{}.{}", filename::decode(&folder), filename::decode(stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::other_files::OtherFile;
    use crate::backup::plan::Listed;
    use crate::backup::spaces::{ListedSpace, TableName};
    use innodb::datadir::FileIdentity;

    const IDENTITY: FileIdentity =
        FileIdentity { device: 1, inode: 1, size: 1, mtime: 0, ctime: 0 };

    /// A server with these files.
    fn server(files: &[&str]) -> Plan {
        let mut plan = Plan::default();
        for file in files.iter().map(PathBuf::from) {
            match TableName::of_file(&file) {
                Some(name) => {
                    let space = ListedSpace { name, identity: IDENTITY };
                    plan.tables.push(Listed { space, path: file });
                }
                None => plan.plain.push(OtherFile {
                    path: file.clone(),
                    target: file,
                    identity: IDENTITY,
                }),
            }
        }
        plan
    }

    /// Checks the backup that has the files `has`, with `d/t.frm` of a table or partitioned table
    /// of `InnoDB`, of a server that has the files `has` and `lost`.
    fn check(is_partitioned: bool, has: &[&str], lost: &[&str]) -> Result<(), String> {
        let definitions = Definitions::default();
        let table = Definition::Table { engine: Engine::InnoDb, is_partitioned };
        definitions.lock().insert("d/t.frm".into(), Described::Frm(Ok(table)));
        if is_partitioned {
            let names = ["p0", "p1#SP#s"].map(str::to_owned).to_vec();
            definitions.lock().insert("d/t.par".into(), Described::Par(Ok(names)));
        }
        let listed = server(&[has, lost].concat());
        let has: HashSet<&Path> = has.iter().map(Path::new).collect();
        definitions
            .check(&listed, |file| has.contains(file), &Report::to_stderr(false))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tablespaces_of_described_tables() {
        check(false, &["d/t.frm", "d/t.ibd"], &[]).unwrap();
        check(true, &["d/t.frm", "d/t.par", "d/t#P#p0.ibd", "d/t#P#p1#SP#s.ibd"], &[]).unwrap();
        let error = check(false, &["d/t.frm"], &["d/t.ibd"]).unwrap_err();
        assert_eq!(error, "d/t.ibd was not copied");
        let error = check(true, &["d/t.frm", "d/t#P#p0.ibd"], &["d/t#P#p1#SP#s.ibd"]).unwrap_err();
        assert!(error.contains("d/t#P#p1#SP#s.ibd"), "{error}");
    }

    #[test]
    fn tablespaces_that_the_server_lacks_or_does_not_use() {
        check(false, &["d/t.frm"], &["d/junk.ibd", "e/t.ibd"]).unwrap();
        check(true, &["d/t.frm", "d/t.par"], &["d/t.ibd"]).unwrap();
    }

    #[test]
    fn file_of_any_kind_that_the_server_has() {
        let error = check(false, &["d/t.frm"], &["d/u.frm", "d/db.opt"]).unwrap_err();
        assert_eq!(error, "d/db.opt was not copied, one of 2 such files");
    }
}
