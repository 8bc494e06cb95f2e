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

    /// Checks that for each description the backup has the data files that the server has, as far
    /// as engines of one set of files for each table are concerned; `InnoDB`'s tables are known by
    /// their tablespaces. `listed` is what the server has, `has` tells what the backup has.
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
        let on_server: HashSet<&Path> = engine_files.map(|file| file.target.as_path()).collect();
        let definitions = self.lock();
        let (mut lost, mut lacking) = (Vec::new(), Vec::new());
        for (target, described) in &*definitions {
            let expected = match described {
                Described::Frm(Ok(definition)) => expected_files(&definitions, target, definition),
                Described::Par(Ok(_)) => continue,
                Described::Frm(Err(error)) | Described::Par(Err(error)) => {
                    let target = target.display();
                    report.say(format_args!("Warning: {target} is not understood: {error}."));
                    continue;
                }
            };
            for file in expected {
                match (has(&file), on_server.contains(file.as_path())) {
                    (true, _) => {}
                    (false, true) => lost.push(file),
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
        match lost.first() {
            None => Ok(()),
            Some(file) => bail!("{} of {} data files was not copied", file.display(), lost.len()),
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

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Described>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The data files of the table whose description is `target`.
fn expected_files(
    definitions: &HashMap<PathBuf, Described>,
    target: &Path,
    definition: &Definition,
) -> Vec<PathBuf> {
    let Definition::Table { engine, is_partitioned } = definition else { return Vec::new() };
    if *engine == Engine::InnoDb {
        return Vec::new();
    }
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
