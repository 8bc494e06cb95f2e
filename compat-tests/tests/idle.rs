//! Servers that do nothing, and servers that hold nothing.

#![cfg(test)]

use std::fs;

use compat_tests::compare::{State, check_tables, metadata_name, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;
use compat_tests::workload::create_tables;

#[test]
fn an_idle_server_is_backed_up() {
    for series in Series::CURRENT {
        let mut source = TestServer::start_series(series, &[]);
        create_tables(&source);
        let backup = source.dir().join("backup");
        Tool::Ours.backup(&source, &backup, &[]);
        let state = State::of(&source);
        source.shutdown();
        fs::rename(source.dir().join("elsewhere"), source.dir().join("moved")).unwrap();
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        // Without writes there is nothing to replay, before or after.
        state.assert_same_as(&State::of(&restored));
        replay_binlog(&source, &backup, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
    }
}

#[test]
fn a_new_server_without_tables_is_backed_up() {
    for series in Series::CURRENT {
        let source = TestServer::start_series(series, &[]);
        let backup = source.dir().join("backup");
        Tool::Ours.backup(&source, &backup, &[]);
        let state = State::of(&source);
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &[]);
        state.assert_same_as(&State::of(&restored));
        // Empty schemas are there too.
        assert_eq!(restored.query("SHOW DATABASES LIKE 'test'").len(), 1);
        check_tables(&restored);
    }
}

#[test]
fn a_server_without_binary_log_has_no_position() {
    for series in Series::CURRENT {
        let source = TestServer::start_series(series, &["--skip-log-bin"]);
        let backup = source.dir().join("backup");
        Tool::Ours.backup(&source, &backup, &[]);
        assert!(!backup.join(metadata_name(series, "binlog_info")).exists());
        assert!(backup.join(metadata_name(series, "checkpoints")).exists());
        let state = State::of(&source);
        Tool::Ours.prepare(&backup, &[]);
        let restored = Tool::Ours.restore(&backup, series, &["--skip-log-bin"]);
        state.assert_same_as(&State::of(&restored));
    }
}
