//! Keys that are missing or wrong, and encryption that begins and ends.

use std::fs;
use std::path::PathBuf;

use compat_tests::compare::{Allowed, differences};
use compat_tests::installation::Series;
use compat_tests::tool::{Tool, run};
use innodb::encrypted::CipherMode;

use crate::tables::Table;
use crate::{KEY_FILE, Source, copy, key_options};

/// The backup of a server with these options by the reference. The server is there as long as the
/// first of both.
fn reference_backup(series: Series, more: &[&str], tables: &[Table]) -> (Source, PathBuf) {
    let source = Source::start(series, &options_with_keys(more), tables);
    let backup = source.back_up(&Tool::Reference(series), "backup");
    (source, backup)
}

fn options_with_keys(more: &[&str]) -> Vec<String> {
    let mut options = key_options(CipherMode::Ctr);
    options.extend(more.iter().map(|&option| option.to_owned()));
    options
}

/// What cannot be decrypted is found before anything is written.
#[test]
fn wrong_and_missing_keys() {
    let tables = [
        Table::new("enc_1", "ENCRYPTED=YES"),
        Table::new("enc_2", "ENCRYPTED=YES ENCRYPTION_KEY_ID=2 ROW_FORMAT=REDUNDANT"),
    ];
    let (_source, dir) = reference_backup(Series::V10_11, &[], &tables);
    let keys = dir.with_file_name("keys");
    let file = format!("--file-key-management-filename={}", keys.display());
    let good = fs::read_to_string(KEY_FILE).expect("read the keys");
    let (first, second) = good.trim_end().split_once('\n').expect("two keys");
    let cases = [
        (good.replace("770A", "770B"), "--open-files-limit=1000", "key 1 "),
        (good.replace("F0F1", "F0F2"), "--open-files-limit=1000", "key 2 "),
        (good.clone(), "--file-key-management-encryption-algorithm=aes_cbc", "key 1 "),
        (format!("{first}\n"), "--open-files-limit=1000", "there is no key 2"),
        (second.replacen('2', "1", 1), "--open-files-limit=1000", "key 1 "),
    ];
    let copy = copy(&dir, "copy");
    for (content, option, message) in cases {
        fs::write(&keys, &content).expect("write the keys");
        let mut command = Tool::Ours.prepare_command(&copy, &[&file, option]);
        run(&mut command).expect_failure(&[message, "f/enc_", "Nothing was changed"]);
        assert_eq!(differences(&dir, &copy, Allowed::Nothing), "", "{message}");
    }
    fs::write(&keys, &good).expect("write the keys");
    Tool::Ours.prepare(&copy, &[&file]);
}

#[test]
fn wrong_and_missing_keys_of_logs() {
    for series in [Series::V10_5, Series::V10_11] {
        let tables = [Table::new("plain", "")];
        let (_source, dir) = reference_backup(series, &["--innodb-encrypt-log=ON"], &tables);
        let keys = dir.with_file_name("keys");
        let file = format!("--file-key-management-filename={}", keys.display());
        let good = fs::read_to_string(KEY_FILE).expect("read the keys");
        let copy = copy(&dir, "copy");
        let second = good.lines().last().expect("a second key");
        for content in [&good.replace("770A", "770B"), second] {
            fs::write(&keys, content).expect("write the keys");
            let mut command = Tool::Ours.prepare_command(&copy, &[&file]);
            run(&mut command).expect_failure(&["key 1"]);
            assert_eq!(differences(&dir, &copy, Allowed::Nothing), "", "{series}");
        }
    }
}

/// Servers encrypt and decrypt while they run: page 0 tells only later than other pages.
#[test]
fn encryption_that_begins_and_ends() {
    let tables: Vec<Table> = [
        ("no", "ENCRYPTED=NO"),
        ("default", ""),
        ("redundant", "ROW_FORMAT=REDUNDANT"),
        ("zip_1", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"),
        ("zip_4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ]
    .map(|(name, definition)| Table::new(name, definition))
    .to_vec();
    let series = Series::V10_11;
    for (before, after) in [("OFF", "ON"), ("ON", "OFF")] {
        let before = format!("--innodb-encrypt-tables={before}");
        let options = options_with_keys(&["--innodb-encryption-threads=4", &before]);
        let mut source = Source::start(series, &options, &tables);
        source.server.execute(format!("SET GLOBAL innodb_encrypt_tables={after}"));
        let backup = source.back_up(&Tool::Reference(series), "backup");
        let state = source.stop();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        source.check(&backup, &state, CipherMode::Ctr, &options);
    }
}
