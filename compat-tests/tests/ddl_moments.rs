//! DDL of each kind at each moment of a backup, which test hooks hold at that point.

#![cfg(test)]

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;

#[test]
fn a_table_renamed_after_the_listing_is_restored_by_its_new_name() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        source.execute("CREATE TABLE test.old ENGINE=InnoDB SELECT seq FROM test.seq_1_to_100");
        let backup = source.dir().join("backup");
        let mut tool = HookedBackup::start(&source, &backup, &[], &["after-listing"]);
        tool.wait_at("after-listing");
        source.execute("RENAME TABLE test.old TO test.renamed");
        tool.go_on("after-listing");
        tool.wait().expect_success();
        let state = State::of(&source);
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        replay_binlog(&source, &backup, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
        source.shutdown();
    }
}
