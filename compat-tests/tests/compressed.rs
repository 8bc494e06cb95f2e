//! Backups that mariadb-backup compressed, unpacked by ours.

#![cfg(test)]

use std::ffi::OsStr;

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::{Tool, run};
use compat_tests::workload::{Tables, Workload, create_tables_of};

fn check(series: Series) {
    let source = TestServer::start_series(series, &[]);
    let tables = Tables::new(
        &[("busy.plain", "ENGINE=InnoDB"), ("busy.parts", "ENGINE=InnoDB PARTITION BY HASH (id)")],
        &[("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")],
    );
    create_tables_of(&source, &tables);
    let load = Workload::start_on(&source, &tables, 3, 2);
    load.wait_for(500);
    let backup = source.dir().join("backup");
    Tool::Reference(series).backup(&source, &backup, &["--compress", "--compress-threads=2"]);
    load.stop();
    let state = State::of(&source);
    let mut command = Tool::Ours.command();
    command
        .args(["--decompress", "--remove-original", "--parallel=2"])
        .arg([OsStr::new("--target-dir="), backup.as_os_str()].join(OsStr::new("")));
    let said = run(&mut command).expect_success();
    assert!(said.contains("decompressing ./busy/plain.frm.qp"), "{said}");
    assert!(!backup.join("ibdata1.qp").exists());
    Tool::Ours.prepare(&backup, &[]);
    let restored = Tool::Ours.restore(&backup, series, &[]);
    replay_binlog(&source, &backup, &restored);
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
}

#[test]
fn compressed_by_10_11() {
    check(Series::V10_11);
}

#[test]
fn compressed_by_11_8() {
    check(Series::V11_8);
}
