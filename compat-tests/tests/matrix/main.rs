//! Servers with every combination of storage settings, under load: each tool backs them up, both
//! prepare both backups to the same bytes, and what is restored and brought up to date from the
//! binary log is what the source has.
//!
//! Each time, some combinations are tried that have every setting; with `MATRIX=all`, all of them,
//! which have every pair of settings; with `MATRIX='10.11, 4k'`, those that begin with that.

#![cfg(test)]

mod config;
mod keys;
mod same_files;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::tool::Tool;
use innodb::encrypted::CipherMode;

use config::Config;
use same_files::assert_same;
use tables::{Load, Table};

/// Keys 1 and 2.
const KEY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/testdata/plain");

/// How many combinations are tried each time.
const EACH_TIME: usize = 12;

/// Options of a server with keys.
fn key_options(mode: CipherMode) -> Vec<String> {
    let mode = if mode == CipherMode::Ctr { "aes_ctr" } else { "aes_cbc" };
    vec![
        "--plugin-load-add=file_key_management".to_owned(),
        format!("--file-key-management-filename={KEY_FILE}"),
        format!("--file-key-management-encryption-algorithm={mode}"),
    ]
}

/// A server whose tables are written to.
struct Source {
    server: TestServer,
    load: Option<Load>,
}

impl Source {
    fn start(series: Series, options: &[String], tables: &[Table]) -> Self {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let server = TestServer::start_series(series, &options);
        tables::create(&server, tables);
        tables::flush(&server);
        let load = Load::start(&server, tables);
        load.wait_for(300);
        Self { server, load: Some(load) }
    }

    /// The load goes on for a while after the backup.
    fn back_up(&self, tool: &Tool, name: &str) -> PathBuf {
        let backup = self.server.dir().join(name);
        tool.backup(&self.server, &backup, &["--parallel=2"]);
        if let Some(load) = &self.load {
            load.wait_for(50);
        }
        backup
    }

    /// What the server holds once nobody writes any more.
    fn stop(&mut self) -> State {
        if let Some(load) = self.load.take() {
            load.stop();
        }
        let state = State::of(&self.server);
        self.server.shutdown();
        state
    }

    /// Both tools prepare a copy of the backup to the same bytes. Ours is restored, started with
    /// `options` and brought up to date; then it must be as `state`.
    fn check(&self, backup: &Path, state: &State, mode: CipherMode, options: &[&str]) {
        let series = self.server.series();
        let (theirs, ours) = (copy(backup, "theirs"), copy(backup, "ours"));
        Tool::Reference(series).prepare(&theirs, &[]);
        Tool::Ours.prepare(&ours, &[]);
        assert_same(series, &theirs, &ours, mode);
        let restored = Tool::Ours.restore(&ours, series, options);
        replay_binlog(&self.server, backup, &restored);
        state.assert_same_as(&State::of(&restored));
        check_tables(&restored);
        for dir in [theirs, ours] {
            fs::remove_dir_all(dir).expect("remove a folder");
        }
    }
}

fn copy(backup: &Path, name: &str) -> PathBuf {
    let copy = backup.with_file_name(name);
    copy_tree(backup, &copy);
    copy
}

fn check(config: &Config) {
    let mut source = Source::start(config.series, &config.options(), &config.tables());
    if config.encrypts_all() {
        wait_until("system and undo tablespaces to be encrypted", || {
            source.server.query_u64(
                "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption \
                 WHERE min_key_version = 0 AND name LIKE 'innodb%'",
            ) == 0
        });
    }
    let by_ours = source.back_up(&Tool::Ours, "by-ours");
    let by_theirs = source.back_up(&Tool::Reference(config.series), "by-theirs");
    let state = source.stop();
    let options: Vec<&str> = source.server.options().iter().map(String::as_str).collect();
    println!("{config}: by ours");
    source.check(&by_ours, &state, config.cipher_mode(), &options);
    println!("{config}: by the reference");
    // It does not record the setting of 10.5, so that both prepare to CRC-32 checksums.
    let options: Vec<String> = options
        .iter()
        .map(|option| option.replace("strict_innodb", "innodb").replace("strict_none", "none"))
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    source.check(&by_theirs, &state, config.cipher_mode(), &options);
}

/// One of four parts: tests run side by side.
fn check_part(part: usize) {
    let mut configs = Config::covering();
    match std::env::var("MATRIX").as_deref() {
        Err(_) => configs.truncate(EACH_TIME),
        Ok("all") => {}
        Ok(start) => configs.retain(|config| config.to_string().starts_with(start)),
    }
    for config in configs.iter().skip(part).step_by(4) {
        println!("{config}");
        check(config);
    }
}

#[test]
fn combinations_part_1() {
    check_part(0);
}

#[test]
fn combinations_part_2() {
    check_part(1);
}

#[test]
fn combinations_part_3() {
    check_part(2);
}

#[test]
fn combinations_part_4() {
    check_part(3);
}
