//! copy-back and move-back: every file in its place, none overwritten.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use compat_tests::compare::{Allowed, State, assert_same_files, check_tables};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::tool::{Tool, run};
use compat_tests::workload::create_tables;

/// Parts of the data lie outside of the data directory.
const SCATTERED: [&str; 6] = [
    "--innodb-data-home-dir={dir}/home",
    "--innodb-data-file-path=ibdata1:12M;ibdata2:12M:autoextend",
    "--innodb-undo-directory={dir}/undo",
    "--innodb-undo-tablespaces=3",
    "--innodb-log-group-home-dir={dir}/log",
    "--aria-log-dir-path={dir}/aria",
];

/// A prepared backup of a server that is stopped, and what its tables held. The reference makes
/// it, so that a failure here is one of the restore.
fn prepared(series: Series, options: &[&str]) -> (TestServer, PathBuf, State) {
    let mut source = TestServer::start_series(series, options);
    create_tables(&source);
    let backup = source.dir().join("backup");
    Tool::Reference(series).backup(&source, &backup, &[]);
    let state = State::of(&source);
    source.shutdown();
    Tool::Reference(series).prepare(&backup, &[]);
    (source, backup, state)
}

/// Makes room for the table with a DATA DIRECTORY, which is restored to where it was.
fn move_elsewhere(source: &TestServer) {
    fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();
}

fn scattered_files_are_restored(verb: &str) {
    for series in Series::CURRENT {
        let (source, backup, state) = prepared(series, &SCATTERED);
        move_elsewhere(&source);
        let mut restored = TestServer::prepare(series, &SCATTERED);
        run(&mut Tool::Ours.restore_command(verb, &backup, &restored, &[])).expect_success();
        for file in ["home/ibdata1", "home/ibdata2", "undo/undo001", "undo/undo003"] {
            assert!(restored.dir().join(file).is_file(), "{file} is missing");
        }
        for file in ["log/ib_logfile0", "aria/aria_log_control", "aria/aria_log.00000001"] {
            assert!(restored.dir().join(file).is_file(), "{file} is missing");
            let (_, name) = file.split_once('/').unwrap();
            assert!(!restored.datadir().join(name).exists(), "{name} is in the data directory too");
        }
        assert!(source.dir().join("elsewhere/busy/t_elsewhere.ibd").is_file());
        assert_eq!(backup.join("ibdata1").exists(), verb == "--copy-back");
        restored.launch();
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}

#[test]
fn copy_back_puts_every_file_in_its_place() {
    scattered_files_are_restored("--copy-back");
}

#[test]
fn move_back_puts_every_file_in_its_place() {
    scattered_files_are_restored("--move-back");
}

/// Every regular file below `dir` with its length, for a look at what has changed.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            let len = fs::metadata(&path).unwrap().len();
            found.push((path, len));
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_is_ever_overwritten() {
    let (source, backup, state) = prepared(Series::V10_11, &[]);
    let untouched = backup.with_file_name("untouched");
    copy_tree(&backup, &untouched);
    for verb in ["--copy-back", "--move-back"] {
        // The table with a DATA DIRECTORY is still there.
        let target = TestServer::prepare(Series::V10_11, &[]);
        let restore = |options: &[&str]| {
            run(&mut Tool::Ours.restore_command(verb, &backup, &target, options))
        };
        restore(&[]).expect_failure(&["t_elsewhere.ibd"]);
        assert!(listing(&target.datadir()).is_empty(), "{verb} wrote before it looked");

        // Any file in the data directory is one too many.
        let own = target.datadir().join("notes.txt");
        fs::write(&own, "mine").unwrap();
        restore(&[]).expect_failure(&["is not empty", target.datadir().to_str().unwrap()]);

        // With force, files in the way are still not touched.
        let force = ["--force-non-empty-directories"];
        let in_the_way = target.datadir().join("ibdata1");
        fs::write(&in_the_way, "an old one").unwrap();
        let before = listing(&target.datadir());
        restore(&force).expect_failure(&["File exists", "nothing was written"]);
        assert_eq!(listing(&target.datadir()), before);
        assert_eq!(fs::read_to_string(&in_the_way).unwrap(), "an old one");
        assert_same_files(&untouched, &backup, Allowed::Nothing);
    }

    move_elsewhere(&source);
    let mut target = TestServer::prepare(Series::V10_11, &[]);
    let own = target.datadir().join("notes.txt");
    fs::write(&own, "mine").unwrap();
    run(&mut Tool::Ours.restore_command(
        "--copy-back",
        &backup,
        &target,
        &["--force-non-empty-directories"],
    ))
    .expect_success();
    assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    target.launch();
    state.assert_same_as(&State::of(&target));
}

#[test]
fn an_unprepared_backup_is_refused() {
    let source = TestServer::start(&[]);
    let backup = source.dir().join("backup");
    Tool::Reference(Series::V10_11).backup(&source, &backup, &[]);
    let target = TestServer::prepare(Series::V10_11, &[]);
    let restore = |options: &[&str]| {
        run(&mut Tool::Ours.restore_command("--copy-back", &backup, &target, options))
    };
    restore(&[]).expect_failure(&["--prepare"]);
    assert!(listing(&target.datadir()).is_empty());
    restore(&["--force-unprepared"]).expect_success();
    assert!(target.datadir().join("ibdata1").is_file());
}

#[test]
fn a_directory_that_is_no_backup_is_refused() {
    let target = TestServer::prepare(Series::V10_11, &[]);
    let no_backup = target.dir().join("no-backup");
    fs::create_dir(&no_backup).unwrap();
    fs::write(no_backup.join("a"), "b").unwrap();
    let missing = target.dir().join("missing");
    for dir in [&no_backup, &missing] {
        run(&mut Tool::Ours.restore_command("--copy-back", dir, &target, &[]))
            .expect_failure(&[dir.to_str().unwrap()]);
        assert!(listing(&target.datadir()).is_empty());
    }
}

/// Root gives the files to whom the data directory belongs; others own what they write.
#[test]
fn files_belong_to_the_owner_of_the_data_directory() {
    let (source, backup, _) = prepared(Series::V10_11, &[]);
    move_elsewhere(&source);
    let target = TestServer::prepare(Series::V10_11, &[]);
    let me = fs::metadata("/proc/self").unwrap().uid();
    let owner = if me == 0 { 12345 } else { me };
    let status = Command::new("chown").arg(owner.to_string()).arg(target.datadir()).status();
    assert!(status.unwrap().success());
    Tool::Ours.copy_back(&backup, &target);
    let files = listing(&target.datadir());
    assert!(files.len() > 50, "{files:?}");
    for (path, _) in files {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.uid(), owner, "{}", path.display());
        // Readable for the owner, closed to everybody else.
        assert_eq!(metadata.mode() & 0o607, 0o600, "{}", path.display());
    }
}
