//! One seed: load, backup, prepare, restore, replay, comparison.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::compare::{State, assert_same_file_names, check_tables, replay_binlog};
use crate::definitions::Definitions;
use crate::installation::Series;
use crate::pace::Pace;
use crate::server::{POLL, TestServer, copy_tree};
use crate::tool::{Outcome, Tool};
use crate::workload::{Workload, create_tables};

use super::imports;
use super::kind::{Counts, Kind};
use super::worker::Workers;

/// What the steps need.
pub const SERVER_OPTIONS: [&str; 2] =
    ["--plugin-load-add=ha_archive", "--system-versioning-alter-history=KEEP"];
/// How often each kind of step must have succeeded.
const LEAST: u64 = 2;
/// Threads with tables of their own.
const WORKERS: u64 = 2;
/// How long a backup, or the wait for the rarest kind of step, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The size of the server's redo log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSize {
    /// 16 MiB for even seeds, 96 MiB for odd ones.
    BySeed,
    /// This many MiB.
    Mib(u64),
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// The server.
    pub series: Series,
    /// Takes, prepares and restores the backup.
    pub tool: Tool,
    /// Of the server.
    pub log_size: LogSize,
    /// The folder into which the files of a seed that fails are moved.
    pub keep: PathBuf,
}

/// How a seed went.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// MiB of redo log.
    pub log_size: u64,
    /// What went wrong, where the files are.
    pub result: Result<(), Failure>,
    /// All of it.
    pub time: Duration,
    /// The backup alone.
    pub backup_time: Duration,
    /// All steps that succeeded.
    pub steps: Counts,
    /// Those that began and ended during the backup, give or take one.
    pub steps_in_backup: Counts,
    /// Tables compared.
    pub tables: usize,
}

/// What went wrong.
#[derive(Debug)]
pub struct Failure {
    /// What was done.
    pub stage: &'static str,
    /// What was found.
    pub message: String,
    /// Where the files are.
    pub kept: PathBuf,
}

/// What is there to be kept or dropped.
#[derive(Default)]
struct Servers {
    source: Option<TestServer>,
    restored: Option<TestServer>,
}

impl Chaos {
    /// Runs one seed.
    pub fn run(&self, seed: u64) -> Report {
        let start = Instant::now();
        let log_size = match self.log_size {
            LogSize::BySeed if seed.is_multiple_of(2) => 16,
            LogSize::BySeed => 96,
            LogSize::Mib(size) => size,
        };
        let mut report = Report {
            seed,
            log_size,
            result: Ok(()),
            time: Duration::ZERO,
            backup_time: Duration::ZERO,
            steps: Counts::default(),
            steps_in_backup: Counts::default(),
            tables: 0,
        };
        let mut servers = Servers::default();
        let mut doing = "load";
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.round_trip(seed, log_size, &mut servers, &mut doing, &mut report);
        }));
        if let Err(panic) = result {
            let message = message(&*panic);
            let kept = self.keep(seed, servers, &format!("{doing}: {message}\n"));
            report.result = Err(Failure { stage: doing, message, kept });
        }
        report.time = start.elapsed();
        report
    }

    fn round_trip(
        &self,
        seed: u64,
        log_size: u64,
        servers: &mut Servers,
        doing: &mut &'static str,
        report: &mut Report,
    ) {
        let options = server_options(seed, log_size);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let source = &*servers.source.insert(TestServer::start_series(self.series, &options));
        create_tables(source);
        let load = Workload::start(source, seed, 1);
        let mut workers = Workers::start(source, seed, WORKERS, Pace::FULL);
        load.wait_for(100);

        *doing = "backup";
        let backup = source.dir().join("backup");
        let before = workers.counts();
        let start = Instant::now();
        let outcome = self.back_up(source, &backup, seed, &mut workers);
        report.backup_time = start.elapsed();
        let counts = workers.counts();
        report.steps_in_backup = counts.since(&before);
        keep_log(source, "backup.log", &outcome).expect_success();

        *doing = "load";
        let start = Instant::now();
        let kinds = Kind::ddl_of(self.series);
        loop {
            report.steps = workers.counts();
            let missing = report.steps.fewer_than(LEAST, &kinds);
            if missing.is_empty() && report.steps.since(&counts).ddl() > 30 {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "too few of {missing:?}");
            std::thread::sleep(POLL);
        }
        let tables = workers.stop();
        load.stop();

        *doing = "state of the source";
        let state = State::of(source);
        let definitions = Definitions::of(source);
        report.tables = state.table_count();
        for table in &tables {
            assert!(state.has(table), "{table} is not on the source");
        }
        let source = servers.source.as_mut().expect("started above");
        source.shutdown();
        // The restored server has these tables at the same place.
        fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).expect("move");

        *doing = "prepare";
        let source = &*source;
        let prepared = source.dir().join("prepared");
        fs::create_dir(&prepared).expect("make a folder");
        copy_tree(&backup, &prepared);
        let outcome = crate::tool::run(&mut self.tool.prepare_command(&prepared, &[]));
        keep_log(source, "prepare.log", &outcome).expect_success();

        *doing = "restore";
        let restored = servers.restored.insert(TestServer::prepare(self.series, &options));
        let mut command = self.tool.restore_command("--move-back", &prepared, restored, &[]);
        let outcome = crate::tool::run(&mut command);
        keep_log(source, "restore.log", &outcome).expect_success();
        *doing = "start of the restored server";
        restored.launch();
        *doing = "import of tablespaces";
        imports::import_missing(restored, &imports::exports_dir(source), WORKERS);
        *doing = "replay";
        replay_binlog(source, &backup, restored);
        *doing = "comparison";
        definitions.assert_same_as(&Definitions::of(restored));
        state.assert_same_as(&State::of(restored));
        assert_same_file_names(&source.datadir(), &restored.datadir());
        *doing = "check of tables";
        check_tables(restored);
    }

    /// Takes the backup, and fails if it takes too long.
    fn back_up(
        &self,
        source: &TestServer,
        backup: &Path,
        seed: u64,
        workers: &mut Workers,
    ) -> Outcome {
        let throttle = match &self.tool {
            // In units of 10 MiB a second. One seed in four is backed up as fast as possible.
            Tool::Ours if seed % 4 == 3 => None,
            Tool::Ours => Some("--throttle=2"),
            // In calls a second, of which every small file takes some.
            Tool::Reference(_) => Some("--throttle=60"),
        };
        let options: Vec<&str> = std::iter::once("--parallel=2").chain(throttle).collect();
        let mut command = self.tool.backup_command(source, backup, &options);
        let mut running = crate::tool::Running::start(&mut command);
        let start = Instant::now();
        while running.child().try_wait().expect("wait for the tool").is_none() {
            workers.counts();
            if start.elapsed() > PATIENCE {
                running.child().kill().expect("kill the tool");
            }
            std::thread::sleep(POLL);
        }
        running.wait()
    }

    /// Moves what a failed seed left to where it is kept.
    fn keep(&self, seed: u64, servers: Servers, failure: &str) -> PathBuf {
        let kept = self.keep.join(format!("{}-{seed}", self.series));
        if kept.exists() {
            fs::remove_dir_all(&kept).expect("remove what an earlier run kept");
        }
        fs::create_dir_all(&kept).expect("make a folder");
        fs::write(kept.join("failure.txt"), failure).expect("write a file");
        for (name, server) in [("source", servers.source), ("restored", servers.restored)] {
            if let Some(server) = server {
                server.keep(&kept.join(name));
            }
        }
        kept
    }
}

fn server_options(seed: u64, log_size: u64) -> Vec<String> {
    let mut options = SERVER_OPTIONS.map(str::to_owned).to_vec();
    let more = [
        "--max-binlog-size=4M",
        "--aria-log-file-size=8M",
        // Every seed has the same files, whether it truncates undo logs or not.
        "--innodb-undo-tablespaces=3",
    ];
    options.extend(more.map(str::to_owned));
    options.push(format!("--innodb-log-file-size={log_size}M"));
    if seed.is_multiple_of(3) {
        options.extend(
            [
                "--innodb-undo-log-truncate=1",
                "--innodb-max-undo-log-size=10M",
                "--innodb-purge-rseg-truncate-frequency=1",
            ]
            .map(str::to_owned),
        );
    }
    if seed % 5 == 1 {
        options.extend(["--general-log=1", "--log-output=TABLE"].map(str::to_owned));
    }
    options
}

fn keep_log(source: &TestServer, name: &str, outcome: &Outcome) -> Outcome {
    let text = format!("{}\n{}{}\n", outcome.command, outcome.stderr, outcome.status);
    fs::write(source.dir().join(name), text).expect("write a log");
    outcome.clone()
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
