//! What engines other than `InnoDB` have in the data directory, stage by stage.
//!
//! ```text
//! START         Aria's transactional tables, descriptions, what is there of logs and statistics
//! FLUSH         tables that nobody is writing to, each under BACKUP LOCK
//! BLOCK_DDL     everything that is not what was copied; Mroonga's files
//! BLOCK_COMMIT  what changed in logs and statistics; MyRocks' checkpoint; the end of Aria's log
//! END           files of the checkpoint, Aria's log, the check that nothing is missing
//! ```
//!
//! No record of statements (`ddl.log`) is read. Every DDL statement leaves another file under a
//! name, or another time of change: files are made (CREATE, ALTER, OPTIMIZE, REPAIR, CREATE ...
//! SELECT), change their names (RENAME, EXCHANGE PARTITION), vanish (DROP) or are written to
//! (TRUNCATE, ENABLE KEYS, ALTER DATABASE). So comparing names, inodes, sizes and times once DDL is
//! blocked finds more than that log holds: it has no line for TRUNCATE of most engines. What needs
//! more than that: Aria's transactional tables, whose files change all the time and are compared
//! by what their headers say of the log; Mroonga's files, written through memory, which leaves
//! their times as they were; tables the server writes to under locks (`system_tables`).

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use aria::log::LogSnapshot;
use innodb::encrypted::KeySource;
use mdl::facts::ServerFacts;
use mdl::frm::Engine;
use mdl::lock::TableLocks;
use mdl::session::Session;

use super::aria_files::{self, AriaTables};
use super::copy::Check;
use super::other_files::{FileCopy, OtherFile, Writers};
use super::plan::{Plan, is_written_under_locks};
use super::rocksdb::MyRocks;
use super::system_tables::SystemTables;
use crate::hooks::{self, dbug};
use crate::report::Report;
use crate::sink::Sink;
use crate::threads::in_threads;

/// The other engines' part of a backup.
pub struct OtherEngines<'a> {
    facts: &'a ServerFacts,
    sink: &'a dyn Sink,
    report: &'a Report,
    threads: usize,
    locks: &'a TableLocks,
    files: FileCopy<'a>,
    aria: AriaTables<'a>,
    system_tables: SystemTables<'a>,
    rocksdb: Option<MyRocks<'a>>,
}

impl<'a> OtherEngines<'a> {
    /// Copies to `sink` by `threads` as long as `check` finds nothing.
    pub fn new(
        facts: &'a ServerFacts,
        sink: &'a dyn Sink,
        report: &'a Report,
        locks: &'a TableLocks,
        check: Check<'a>,
        threads: usize,
        rocksdb: Option<MyRocks<'a>>,
    ) -> Self {
        Self {
            facts,
            sink,
            report,
            threads,
            locks,
            files: FileCopy::new(sink, report, check, threads),
            aria: AriaTables::new(sink, report, locks, check, threads),
            system_tables: SystemTables::new(sink, threads),
            rocksdb,
        }
    }

    /// The server's keys, if it has any: some tables are encrypted.
    #[must_use]
    pub fn with_keys(mut self, keys: Option<&'a dyn KeySource>) -> Self {
        self.aria.set_keys(keys);
        self
    }

    /// Makes the folders of databases.
    ///
    /// # Errors
    ///
    /// Any failure to write.
    pub fn create_databases(&self, plan: &Plan) -> anyhow::Result<()> {
        for (database, empty) in &plan.databases {
            self.sink
                .create_dir(database)
                .with_context(|| format!("create {} in the backup", database.display()))?;
            // An empty folder would be lost in a stream.
            let opt = database.join("db.opt");
            if *empty && !self.files.has(&opt) {
                self.files.placeholder(&opt)?;
            }
        }
        Ok(())
    }

    /// Copies what may be copied while the server writes.
    ///
    /// # Errors
    ///
    /// Any failure to read or write; tables of an engine that nothing is known of here.
    pub fn copy_online(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.aria.copy_online(plan)?;
        hooks::reach("after-aria");
        dbug::event("after_aria_background");
        self.files.copy_all(&plan.plain, Writers::Possible)?;
        // What is written to them from now on is in the redo log.
        self.files.copy_all(&plan.binlog, Writers::Possible)?;
        self.files.definitions().refuse_unknown_engines(self.facts)?;
        self.system_tables.copy(plan)?;
        if let Some(rocksdb) = &mut self.rocksdb {
            rocksdb.write_out()?;
        }
        hooks::reach("after-plain");
        Ok(())
    }

    /// Tables that nobody is writing to: from BACKUP STAGE FLUSH on nobody can begin to, so that
    /// they stay as they are. Those that DDL has in hand are left until it is blocked: that stage
    /// holds it up, possibly with the table locked, so that nobody may wait for it here.
    ///
    /// # Errors
    ///
    /// Any failure to read, write or lock.
    pub fn copy_idle(&self, session: &mut Session, plan: &Plan) -> anyhow::Result<()> {
        let in_use = session.tables_in_use()?;
        let left = |file: &&OtherFile| !self.aria.has(&file.target);
        let tables: Vec<_> = plan
            .engine_tables
            .iter()
            .filter(|((database, table), entry)| {
                !is_written_under_locks(database, table)
                    && !in_use.contains(database, table)
                    && entry.files.iter().any(|file| left(&file))
            })
            .collect();
        self.locks.wait_no_more()?;
        in_threads(self.threads, &tables, |thread, ((database, table), entry)| {
            let Some(lock) = self.locks.try_lock(thread, database, table)? else { return Ok(()) };
            hooks::reach(format_args!("locked {database}.{table}"));
            for file in entry.files.iter().filter(left) {
                // The server may not tell this account of all tables that are in use.
                self.files.copy(file, Writers::Possible, thread)?;
            }
            drop(lock);
            dbug::table_event("after_ce_table_copy", &Path::new(database).join(table));
            Ok(())
        })
    }

    /// With DDL blocked: makes the backup hold what the server has now. `before` is the listing
    /// that the copies were made by.
    ///
    /// # Errors
    ///
    /// Any failure to read or write.
    pub fn reconcile(&mut self, before: &Plan, plan: &Plan) -> anyhow::Result<()> {
        self.report.say("Starting to backup non-InnoDB tables and files");
        self.aria.reconcile(plan)?;
        let empty: BTreeSet<PathBuf> = plan
            .databases
            .iter()
            .filter(|(_, empty)| *empty)
            .map(|(database, _)| database.join("db.opt"))
            .collect();
        let mut now = plan.plain.clone();
        for ((database, table), entry) in &plan.engine_tables {
            if !is_written_under_locks(database, table) {
                let files = entry.files.iter().filter(|file| !self.aria.has(&file.target));
                now.extend(files.cloned());
            }
        }
        let is_binlog = |target: &Path| before.binlog.iter().any(|file| file.target == target);
        let keep =
            |target: &Path| empty.contains(target) || self.aria.has(target) || is_binlog(target);
        self.files.reconcile(&now, keep, Writers::Blocked)?;
        self.files.definitions().refuse_unknown_engines(self.facts)?;
        // Never copied before: only the lock makes them stand still.
        self.files.copy_all(&plan.mapped, Writers::Blocked)?;
        self.copy_files_of_connect(plan)?;
        self.create_databases(plan)?;
        for (database, _) in &before.databases {
            if plan.databases.iter().all(|(name, _)| name != database) {
                self.sink
                    .remove_empty_dir(database)
                    .with_context(|| format!("remove {} from the backup", database.display()))?;
            }
        }
        self.system_tables.copy(plan)?;
        if let Some(rocksdb) = &mut self.rocksdb {
            rocksdb.write_out()?;
        }
        self.report.say("Finished backing up non-InnoDB tables and files");
        Ok(())
    }

    /// The files of CONNECT have any name: where there are tables of that engine, all files of the
    /// folder that no other engine knows. Elsewhere such files are named and left.
    fn copy_files_of_connect(&self, plan: &Plan) -> anyhow::Result<()> {
        let databases = self.files.definitions().databases_with(&Engine::Connect);
        let (connect, unknown): (Vec<&OtherFile>, Vec<&OtherFile>) = plan
            .unknown
            .iter()
            .partition(|file| file.target.parent().is_some_and(|dir| databases.contains(dir)));
        for file in unknown {
            self.report.say(format_args!(
                "Skipping {}: no engine known here uses such a file.",
                file.target.display()
            ));
        }
        let connect: Vec<OtherFile> = connect.into_iter().cloned().collect();
        self.files.copy_all(&connect, Writers::Blocked)
    }

    /// Whether a log makes up for changes of the file `target`.
    pub fn is_logged(&self, target: &Path) -> bool {
        self.aria.has(target)
    }

    /// With commits blocked; says nothing.
    ///
    /// # Errors
    ///
    /// Any failure to read or write, or to make the checkpoint of `MyRocks`.
    pub fn copy_tails(&mut self) -> anyhow::Result<()> {
        self.system_tables.update()?;
        if let Some(rocksdb) = &mut self.rocksdb {
            rocksdb.create()?;
        }
        Ok(())
    }

    /// After the locks: what no longer changes, and the check that `plan`, the listing with DDL
    /// blocked, is in the backup, whose tablespaces of tables are `tablespaces`.
    ///
    /// # Errors
    ///
    /// Any failure to read or write; a file that was lost.
    pub fn finish(
        self,
        plan: &Plan,
        tablespaces: &HashSet<PathBuf>,
        aria_log: &LogSnapshot,
    ) -> anyhow::Result<()> {
        aria_files::copy_log(aria_log, self.sink)?;
        if let Some(rocksdb) = self.rocksdb {
            rocksdb.copy(self.sink, &self.files, self.report)?;
        }
        let has = |target: &Path| {
            self.files.has(target)
                || self.aria.has(target)
                || self.system_tables.has(target)
                || tablespaces.contains(target)
        };
        let definitions = self.files.definitions();
        definitions.refuse_unknown_engines(self.facts)?;
        definitions.report_engines(self.facts, self.report)?;
        definitions.check(plan, has, self.report)
    }
}
