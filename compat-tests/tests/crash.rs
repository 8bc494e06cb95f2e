//! Prepare is killed at any moment and run again: the same bytes as if nothing had happened.

#![cfg(test)]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::compare::{Allowed, assert_same_files};
use compat_tests::installation::Series;
use compat_tests::random::Random;
use compat_tests::server::{TestServer, copy_tree};
use compat_tests::size;
use compat_tests::tool::{Running, Tool};
use compat_tests::workload::{MUCH_REDO, Workload, create_tables};

/// Kills `COMPAT_KILLS` preparations of one backup in copies below `dir`.
fn killed_prepares_leave_the_same_bytes(dir: &Path, seed: u64) {
    let dir = tempfile::Builder::new().prefix("mb-crash-").tempdir_in(dir).unwrap();
    let series = Series::V10_11;
    let backup = dir.path().join("backup");
    let source = TestServer::start_series(series, &MUCH_REDO);
    create_tables(&source);
    let load = Workload::start(&source, seed, 3);
    load.wait_for_redo(&source, size("COMPAT_REDO_MIB", 40) << 20);
    Tool::Reference(series).backup(&source, &backup, &["--parallel=2"]);
    load.stop();
    drop(source);

    // Small memory: several batches, and so many more different moments.
    let options: [&[&str]; 2] = [&["--use-memory=16M"], &[]];
    let undisturbed = dir.path().join("undisturbed");
    copy_tree(&backup, &undisturbed);
    let start = Instant::now();
    Tool::Ours.prepare(&undisturbed, options[0]);
    let whole = start.elapsed();

    let mut random = Random::new(seed);
    let copy = dir.path().join("copy");
    let mut killed = 0;
    for round in 0..size("COMPAT_KILLS", 12) {
        copy_tree(&backup, &copy);
        // Two kills in a row also hit the repair of the first one.
        let mut moments = Vec::new();
        for _ in 0..=round % 2 {
            let after = whole * u32::try_from(random.below(1000)).unwrap() / 1000;
            let options = *random.pick(&options);
            let mut tool = Running::start(&mut Tool::Ours.prepare_command(&copy, options));
            thread::sleep(after);
            tool.child().kill().unwrap();
            killed += u64::from(!tool.wait().status.success());
            moments.push(after);
        }
        println!("round {round}, killed after {moments:?} of {whole:?}");
        let options = *random.pick(&options);
        Tool::Ours.prepare(&copy, options);
        assert_same_files(&undisturbed, &copy, Allowed::Nothing);
        fs::remove_dir_all(&copy).unwrap();
    }
    assert!(killed > 0 && whole > Duration::ZERO, "every prepare had ended before it was killed");
}

#[test]
fn on_disk() {
    killed_prepares_leave_the_same_bytes(&std::env::temp_dir(), 1);
}

/// There a kill cuts a write in the middle of a page.
#[test]
fn in_memory() {
    killed_prepares_leave_the_same_bytes(Path::new("/dev/shm"), 2);
}
