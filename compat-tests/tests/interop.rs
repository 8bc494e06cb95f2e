//! Each tool works on what the other one left, and both prepare a backup to the same bytes.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};

use compat_tests::compare::{Allowed, State, assert_same_files, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::tool::Tool;
use compat_tests::workload::{MUCH_REDO, Workload, create_tables};
use compat_tests::{seeds, size};

/// One tool backs up, the other one prepares, ours restores.
fn one_backs_up_the_other_prepares(series: Series, first: &Tool, second: &Tool) {
    let mut source = TestServer::start_series(series, &[]);
    create_tables(&source);
    let backup = source.dir().join("backup");
    let load = Workload::start(&source, 11, 3);
    load.wait_for(1000);
    first.backup(&source, &backup, &["--parallel=2"]);
    load.wait_for(200);
    load.stop();
    let state = State::of(&source);
    source.shutdown();
    fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();
    second.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, series, &[]);
    replay_binlog(&source, &backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

#[test]
fn the_reference_prepares_our_backup() {
    for series in Series::CURRENT {
        one_backs_up_the_other_prepares(series, &Tool::Ours, &Tool::Reference(series));
    }
}

#[test]
fn we_prepare_the_backup_of_the_reference() {
    for series in Series::CURRENT {
        one_backs_up_the_other_prepares(series, &Tool::Reference(series), &Tool::Ours);
    }
}

/// Backs up a server with `tool` after `COMPAT_REDO_MIB` of writes without a checkpoint.
fn backup_with_much_redo(series: Series, tool: &Tool, seed: u64) -> (TestServer, PathBuf) {
    // Small pools of changed pages and several undo tablespaces alternate.
    let mut options = MUCH_REDO.to_vec();
    if seed.is_multiple_of(2) {
        options.push("--innodb-undo-tablespaces=3");
    }
    let source = TestServer::start_series(series, &options);
    create_tables(&source);
    let backup = source.dir().join("backup");
    let load = Workload::start(&source, seed, 3);
    load.wait_for_redo(&source, size("COMPAT_REDO_MIB", 40) << 20);
    tool.backup(&source, &backup, &["--parallel=2"]);
    load.stop();
    (source, backup)
}

/// Prepares a copy of the backup, which stays.
fn prepare_copy(tool: &Tool, backup: &Path, name: &str, options: &[&str]) -> PathBuf {
    let copy = backup.with_file_name(name);
    copy_tree(backup, &copy);
    tool.prepare(&copy, options);
    copy
}

fn both_prepare_to_the_same_bytes(series: Series, backed_up_by: &Tool) {
    for seed in seeds(1..=1) {
        println!("seed {seed}");
        let (mut source, backup) = backup_with_much_redo(series, backed_up_by, seed);
        source.kill();
        let theirs = prepare_copy(&Tool::Reference(series), &backup, "theirs", &[]);
        let ours = prepare_copy(&Tool::Ours, &backup, "ours", &[]);
        assert_same_files(&theirs, &ours, Allowed::Aria);
        // Small memory needs several batches of pages. The bytes stay the same.
        for memory in ["--use-memory=8M", "--use-memory=96M", "--use-memory=1G"] {
            let again = prepare_copy(&Tool::Ours, &backup, "again", &[memory]);
            assert_same_files(&ours, &again, Allowed::Nothing);
            fs::remove_dir_all(again).unwrap();
        }
    }
}

#[test]
fn both_prepare_a_10_11_backup_of_the_reference_to_the_same_bytes() {
    both_prepare_to_the_same_bytes(Series::V10_11, &Tool::Reference(Series::V10_11));
}

#[test]
fn both_prepare_an_11_8_backup_of_the_reference_to_the_same_bytes() {
    both_prepare_to_the_same_bytes(Series::V11_8, &Tool::Reference(Series::V11_8));
}

#[test]
fn both_prepare_our_10_11_backup_to_the_same_bytes() {
    both_prepare_to_the_same_bytes(Series::V10_11, &Tool::Ours);
}

#[test]
fn both_prepare_our_11_8_backup_to_the_same_bytes() {
    both_prepare_to_the_same_bytes(Series::V11_8, &Tool::Ours);
}
