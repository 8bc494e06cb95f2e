//! Backup, prepare, copy back and binary log replay of busy servers: all rows must be there.

#![cfg(test)]

use std::fs;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::seeds;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;
use compat_tests::workload::{Workload, create_tables};

/// Takes a full backup under load with `tool`, restores it, replays the binary log, compares.
fn round_trip(series: Series, tool: &Tool, seed: u64) {
    // Several undo tablespaces and system tablespace files in one half of the runs.
    let options: &[&str] = if seed.is_multiple_of(2) {
        &[
            "--innodb-undo-tablespaces=3",
            "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend",
        ]
    } else {
        &[]
    };
    let mut source = TestServer::start_series(series, options);
    create_tables(&source);
    let backup = source.dir().join("backup");
    let load = Workload::start(&source, seed, 3);
    load.wait_for(1000);
    tool.backup(&source, &backup, &["--parallel=2"]);
    load.wait_for(500);
    load.stop();
    let state = State::of(&source);
    source.shutdown();
    // The restored server has this table at the same place.
    fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();

    tool.prepare(&backup, &[]);
    let restored = tool.restore(&backup, series, options);
    replay_binlog(&source, &backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

#[test]
fn all_rows_survive_on_10_11() {
    for seed in seeds(1..=2) {
        println!("seed {seed}");
        round_trip(Series::V10_11, &Tool::Ours, seed);
    }
}

#[test]
fn all_rows_survive_on_11_8() {
    for seed in seeds(1..=2) {
        println!("seed {seed}");
        round_trip(Series::V11_8, &Tool::Ours, seed);
    }
}

/// What these tests ask of us, the reference does too.
#[test]
fn the_reference_passes_the_same_test() {
    for series in Series::CURRENT {
        round_trip(series, &Tool::Reference(series), 1);
    }
}
