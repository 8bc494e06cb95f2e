//! Full disks: the command fails, names the file and says what to do; nothing else is touched, the
//! server goes on at once, and with more space the same command comes to the right end.

#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Command;

use compat_tests::compare::{Allowed, assert_same_files, metadata_name};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::{Series, prefixed};
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::tiny_disk::{Lack, TinyDisk};
use compat_tests::tool::{Outcome, Running, Tool, run};
use compat_tests::workload::{Workload, create_tables};

const NO_SPACE: &str = "No space left on device";
const MARK: &str = "mariabackup_incomplete";
/// Less than what is written next, more than what the copy of the log adds for an idle server.
const LITTLE: Lack = Lack::Space(64 << 10);

/// A server and a tiny disk, on which an earlier backup lies that must not change.
struct Site {
    server: TestServer,
    disk: TinyDisk,
}

impl Site {
    fn new(series: Series) -> Self {
        let server = TestServer::start_series(series, &[]);
        server.execute_all(&[
            "CREATE TABLE test.big ENGINE=InnoDB SELECT seq, REPEAT('x', 100) AS text \
             FROM test.seq_1_to_30000",
            "CREATE TABLE test.m ENGINE=MyISAM SELECT * FROM test.big LIMIT 10000",
            "CREATE TABLE test.a ENGINE=Aria TRANSACTIONAL=1 SELECT * FROM test.m",
            // So its pages are in its file, and it is not copied late.
            "FLUSH TABLES test.big FOR EXPORT",
            "UNLOCK TABLES",
        ]);
        let disk = TinyDisk::mount(&server.dir().join("tiny"), 250);
        let site = Self { server, disk };
        let earlier = site.server.dir().join("tiny/earlier");
        run(&mut site.disk.command(&site.backup(&earlier))).expect_success();
        copy_tree(&site.disk.view("earlier"), &site.server.dir().join("earlier"));
        site
    }

    /// Creates a table that the next backup finds in its file.
    fn create_flushed(&self, table: &str) {
        self.server.execute_all(&[
            &format!("CREATE TABLE {table} (id INT) ENGINE=InnoDB"),
            &format!("FLUSH TABLES {table} FOR EXPORT"),
            "UNLOCK TABLES",
        ]);
    }

    fn backup(&self, target: &Path) -> Command {
        Tool::Ours.backup_command(&self.server, target, &[])
    }

    fn start(&self, points: &[&str]) -> HookedBackup {
        let target = self.server.dir().join("tiny/backup");
        HookedBackup::start_by(&self.server, &target, &[], points, |backup| {
            self.disk.command(&backup)
        })
    }

    /// Stops a backup at `point`, where the disk gets full and then `meanwhile` is done; it must
    /// fail with a word of each of `words`.
    fn fails(
        &self,
        points: &[&str],
        lack: Lack,
        meanwhile: impl Fn(&TestServer, &mut Running),
        words: &[&str],
    ) {
        let Some((last, before)) = points.split_last() else { panic!("no point") };
        let mut tool = self.start(points);
        for point in before {
            tool.wait_at(point);
            self.server.execute_all(&[
                "CREATE OR REPLACE TABLE test.late ENGINE=InnoDB SELECT * FROM test.m",
                "DROP TABLE IF EXISTS test.gone",
                "RENAME TABLE IF EXISTS test.old TO test.renamed",
                // So its file has pages already.
                "FLUSH TABLES test.late FOR EXPORT",
                "UNLOCK TABLES",
            ]);
            tool.go_on(point);
        }
        tool.wait_at(last);
        self.disk.fill(lack);
        meanwhile(&self.server, tool.tool());
        tool.go_on(last);
        self.check(tool.wait(), words);
    }

    /// Checks what is left of a backup that failed; makes space.
    fn check(&self, outcome: Outcome, words: &[&str]) {
        println!("{words:?}");
        // Nobody is held up.
        self.server.execute_all(&[
            "SET lock_wait_timeout=3",
            "CREATE OR REPLACE TABLE test.t (id INT) ENGINE=InnoDB",
            "INSERT INTO test.t VALUES (1)",
            "DROP TABLE test.t",
        ]);
        let stderr = outcome.expect_failure(words);
        println!("{stderr}");
        for word in [NO_SPACE, "tiny/backup", "\nHint: make space"] {
            assert!(stderr.contains(word), "no word of {word:?}: {stderr}");
        }
        assert!(self.disk.view("backup").join(MARK).exists(), "no mark: {stderr}");
        let target = self.server.dir().join("tiny/backup");
        let prepare = Tool::Ours.prepare_command(&target, &[]);
        run(&mut self.disk.command(&prepare)).expect_failure(&[MARK]);
        self.disk.make_space();
        let earlier = self.server.dir().join("earlier");
        assert_same_files(&earlier, &self.disk.view("earlier"), Allowed::Nothing);
        fs::remove_dir_all(self.disk.view("backup")).unwrap();
    }

    /// A backup with enough space, after all of this.
    fn succeeds(&self) {
        let target = self.server.dir().join("tiny/backup");
        run(&mut self.disk.command(&self.backup(&target))).expect_success();
        run(&mut self.disk.command(&Tool::Ours.prepare_command(&target, &[]))).expect_success();
    }
}

fn nothing(_: &TestServer, _: &mut Running) {}

#[test]
fn a_backup_names_the_data_file_for_which_there_is_no_space() {
    for series in Series::CURRENT {
        let site = Site::new(series);
        let write = "write test/big.ibd to the backup";
        site.fails(&["in-file test.big.ibd"], LITTLE, nothing, &[write]);
        site.fails(&["locked test.m"], LITTLE, nothing, &["test/m.MYD to the backup"]);
        site.fails(&["after-tablespaces"], LITTLE, nothing, &[".MA", ": write: No space"]);
        site.fails(&["after-aria"], Lack::Names(0), nothing, &[".frm in the backup"]);
        site.fails(&["after-end"], Lack::Names(0), nothing, &["aria_log.00000001 in the backup"]);
        site.succeeds();
    }
}

#[test]
fn a_backup_names_the_redo_log_for_which_there_is_no_space() {
    let site = Site::new(Series::V10_11);
    let write = |server: &TestServer, tool: &mut Running| {
        // The thread is gone when it has failed.
        let tasks = format!("/proc/{}/task", tool.child().id());
        let copies = || {
            let threads = fs::read_dir(&tasks).unwrap();
            let mut names =
                threads.filter_map(|thread| fs::read(thread.unwrap().path().join("comm")).ok());
            names.any(|name| name == b"redo copy\n")
        };
        assert!(copies(), "no thread copies the log");
        wait_until("the end of the copy of the log", || {
            server.execute("UPDATE test.big SET seq = seq + 1 LIMIT 1000");
            !copies()
        });
    };
    // With locks held too.
    for point in ["after-listing", "in-block-ddl"] {
        site.fails(&[point], Lack::Space(0), write, &["ib_logfile0"]);
    }
    site.succeeds();
}

#[test]
fn a_backup_names_the_marker_for_which_there_is_no_space() {
    let site = Site::new(Series::V10_11);
    let points = ["after-tablespaces", "in-block-ddl"];
    site.create_flushed("test.gone");
    site.fails(&points, Lack::Names(0), nothing, &["write test/gone.del to the backup"]);
    site.server.execute("DROP TABLE test.late");
    site.create_flushed("test.old");
    site.fails(&points, Lack::Names(0), nothing, &["write test/old.ren to the backup"]);
    site.server.execute("DROP TABLE test.late");
    site.fails(&points, LITTLE, nothing, &["write test/late.new to the backup"]);
    site.succeeds();
}

/// Commits are blocked when this is found out.
#[test]
fn a_backup_names_the_log_table_for_which_there_is_no_space() {
    let site = Site::new(Series::V10_11);
    site.server.execute("SET GLOBAL log_output='TABLE', general_log=1");
    let log = |server: &TestServer, _: &mut Running| {
        for _ in 0..20 {
            server.execute(format!("DO LENGTH('{}')", "x".repeat(100_000)));
        }
        server.execute("SET GLOBAL general_log=0");
    };
    let tail = "general_log.CSV to mysql/general_log.CSV in the backup";
    site.fails(&["before-block-commit"], LITTLE, log, &[tail]);
    site.succeeds();
}

#[test]
fn a_backup_names_the_metadata_for_which_there_is_no_space() {
    for series in Series::CURRENT {
        let site = Site::new(series);
        let write = |suffix| format!("write {} to the backup", metadata_name(series, suffix));
        let metadata = ["before-metadata"];
        site.fails(&metadata, Lack::Space(0), nothing, &[&write("binlog_info")]);
        site.fails(&metadata, Lack::Space(4096), nothing, &["write backup-my.cnf to the backup"]);
        site.fails(&metadata, Lack::Space(8192), nothing, &[&write("info")]);
        let last = ["before-checkpoints"];
        site.fails(&last, Lack::Space(0), nothing, &[&write("checkpoints")]);
        site.fails(&last, Lack::Names(0), nothing, &[&write("checkpoints")]);
        site.succeeds();
    }
}

#[test]
fn a_backup_that_has_no_space_from_the_start_is_marked() {
    let site = Site::new(Series::V10_11);
    let target = site.server.dir().join("tiny/backup");
    let mut backup = site.disk.command(&site.backup(&target));
    site.disk.fill(Lack::Space(0));
    site.check(run(&mut backup), &[MARK]);
    // Not even a directory, or nothing in it.
    for made in [false, true] {
        if made {
            fs::create_dir(site.disk.view("backup")).unwrap();
        }
        site.disk.fill(Lack::Names(0));
        run(&mut backup).expect_failure(&[NO_SPACE, "tiny/backup", "\nHint: make space"]);
        site.disk.make_space();
        assert_eq!(fs::read_dir(site.disk.view("backup")).map_or(0, Iterator::count), 0);
    }
    site.succeeds();
}

#[test]
fn a_full_disk_fails_the_preparation_which_can_be_repeated() {
    let server = TestServer::start(&[]);
    create_tables(&server);
    let backup = server.dir().join("backup");
    let load = Workload::start(&server, 3, 2);
    // The log must make files grow, and must touch pages.
    let mut tool = HookedBackup::start(&server, &backup, &[], &["after-tablespaces"]);
    tool.wait_at("after-tablespaces");
    load.wait_for(1000);
    server.execute_all(&[
        "CREATE TABLE test.big ENGINE=InnoDB SELECT seq, REPEAT('x', 100) AS text \
         FROM test.seq_1_to_20000",
    ]);
    tool.go_on("after-tablespaces");
    tool.wait().expect_success();
    load.stop();
    let expected = server.dir().join("expected");
    copy_tree(&backup, &expected);
    Tool::Ours.prepare(&expected, &[]);

    let du = Command::new("du").args(["-sm"]).arg(&backup).output().unwrap();
    let mib: u64 =
        String::from_utf8(du.stdout).unwrap().split('\t').next().unwrap().parse().unwrap();
    let disk = TinyDisk::mount(&server.dir().join("tiny"), mib * 2 + 100);
    let prepare = Tool::Ours
        .prepare_command(&server.dir().join("tiny/copy"), &["--use-memory=8M", "--parallel=1"]);
    let mut failed = Vec::new();
    for step in 0.. {
        let room = if step == 0 { 0 } else { 4096 << (2 * (step - 1)) };
        let copy = disk.view("copy");
        copy_tree(&backup, &copy);
        disk.fill(Lack::Space(room));
        let outcome = run(&mut disk.command(&prepare));
        let enough = outcome.status.success();
        if enough {
            outcome.expect_success();
        } else {
            let words = [NO_SPACE, "tiny/copy", "\nHint: make space"];
            let stderr = outcome.expect_failure(&words);
            println!("{room}: {stderr}");
            failed.push(room);
            // It does not get any better by itself.
            run(&mut disk.command(&prepare)).expect_failure(&words);
        }
        disk.make_space();
        run(&mut disk.command(&prepare)).expect_success();
        assert_same_files(&expected, &copy, Allowed::Nothing);
        fs::remove_dir_all(&copy).unwrap();
        if enough {
            break;
        }
    }
    assert!(failed.len() > 2, "it fails only with {failed:?} bytes free");
}

#[test]
fn a_full_disk_fails_a_restore_and_leaves_the_backup_as_it_is() {
    let server = TestServer::start(&[]);
    for table in ["one", "two", "three"] {
        server.execute(format!("CREATE TABLE test.{table} SELECT * FROM test.seq_1_to_1000"));
    }
    let backup = server.dir().join("backup");
    Tool::Ours.backup(&server, &backup, &[]);
    Tool::Ours.prepare(&backup, &[]);
    let before = server.dir().join("before");
    copy_tree(&backup, &before);
    let disk = TinyDisk::mount(&server.dir().join("tiny"), 250);
    for verb in ["--copy-back", "--move-back"] {
        let mut restore = Tool::Ours.command();
        restore
            .arg(verb)
            .arg(prefixed("--target-dir=", &backup))
            .arg(prefixed("--datadir=", &server.dir().join("tiny/data")));
        let mut restore = disk.command(&restore);
        // Found out before; found out in the midst of it.
        for (lack, word) in [
            (LITTLE, "not enough space on the file system of"),
            (Lack::Names(50), NO_SPACE),
            (Lack::Names(0), NO_SPACE),
        ] {
            disk.fill(lack);
            run(&mut restore).expect_failure(&[word, "tiny", "\nHint: make space"]);
            disk.make_space();
            assert_same_files(&before, &backup, Allowed::Nothing);
            // The data directory itself may have been made.
            let left = fs::read_dir(disk.view("data")).map_or(0, Iterator::count);
            assert_eq!(left, 0);
        }
        run(&mut restore).expect_success();
        for name in ["ibdata1", "test/three.ibd"] {
            let (there, here) =
                (fs::read(disk.view("data").join(name)), fs::read(before.join(name)));
            assert!(there.unwrap() == here.unwrap(), "{name} was not restored");
        }
        fs::remove_dir_all(disk.view("data")).unwrap();
    }
}
