//! A server that was backed up under load, to be compared with what is restored.

use std::fs;
use std::path::PathBuf;

use crate::compare::{State, check_tables, replay_binlog};
use crate::installation::Series;
use crate::server::{TestServer, copy_tree};
use crate::tool::{Tool, run};
use crate::vault::TOKEN;
use crate::workload::{Tables, Workload, create_tables_of};

/// A server with these options and a backup of it by ours, taken while `tables` were written.
pub struct BackedUp {
    /// Still runs.
    pub source: TestServer,
    /// The backup.
    pub backup: PathBuf,
    /// What the source holds since nobody writes any more.
    pub state: State,
}

impl BackedUp {
    /// Starts the server, creates the tables and backs it up.
    pub fn new(series: Series, options: &[&str], tables: &Tables) -> Self {
        let source = TestServer::start_series(series, options);
        create_tables_of(&source, tables);
        Self::of(source, tables, &[])
    }

    /// Backs up a server that has the tables, with `options` for the tool.
    pub fn of(source: TestServer, tables: &Tables, options: &[&str]) -> Self {
        let backup = source.dir().join("backup");
        let load = Workload::start_on(&source, tables, 7, 3);
        load.wait_for(500);
        let options = [&["--parallel=2"], options].concat();
        Tool::Ours.backup(&source, &backup, &options);
        load.wait_for(200);
        load.stop();
        let state = State::of(&source);
        Self { source, backup, state }
    }

    /// Each tool prepares a copy; the restored server must hold what the source does.
    pub fn check(&self) {
        let series = self.source.series();
        // Folders are those of the restored server.
        let dir = self.source.dir().to_str().expect("UTF-8");
        let options = self.source.options().iter().map(|option| option.replace(dir, "{dir}"));
        let options: Vec<String> = options.collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        for tool in [Tool::Reference(series), Tool::Ours] {
            let prepared = self.source.dir().join("prepared");
            copy_tree(&self.backup, &prepared);
            run(tool.prepare_command(&prepared, &[]).env("VAULT_TOKEN", TOKEN)).expect_success();
            let restored = Tool::Ours.restore(&prepared, series, &options);
            println!("prepared by {tool:?}: restored");
            replay_binlog(&self.source, &self.backup, &restored);
            self.state.assert_same_as(&State::of(&restored));
            check_tables(&restored);
            drop(restored);
            fs::remove_dir_all(&prepared).expect("remove a folder");
            if self.source.dir().join("moved").exists() {
                fs::remove_dir_all(self.source.dir().join("elsewhere")).expect("remove a folder");
            }
        }
    }
}
