//! Compressed backups: those of mariadb-backup unpacked by ours, ours unpacked by the programs that
//! know their formats.

#![cfg(test)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use compat_tests::compare::{State, check_tables, replay_binlog};
use compat_tests::installation::{Series, prefixed};
use compat_tests::server::TestServer;
use compat_tests::tool::{Tool, run};
use compat_tests::workload::{Tables, Workload, create_tables_of};

fn tables() -> Tables {
    Tables::new(
        &[
            ("busy.plain", "ENGINE=InnoDB"),
            ("busy.parts", "ENGINE=InnoDB PARTITION BY HASH (id)"),
            ("busy.holes", "ENGINE=InnoDB PAGE_COMPRESSED=1"),
        ],
        &[("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")],
    )
}

fn decompress(backup: &Path, options: &[&str]) -> Command {
    let mut command = Tool::Ours.command();
    command.arg("--decompress").arg(prefixed("--target-dir=", backup)).args(options);
    command
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn check(series: Series) {
    let source = TestServer::start_series(series, &[]);
    create_tables_of(&source, &tables());
    let load = Workload::start_on(&source, &tables(), 3, 2);
    load.wait_for(500);
    let backup = source.dir().join("backup");
    Tool::Reference(series).backup(&source, &backup, &["--compress", "--compress-threads=2"]);
    load.stop();
    let state = State::of(&source);
    let said =
        run(&mut decompress(&backup, &["--remove-original", "--parallel=2"])).expect_success();
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

/// Unpacks every file below `dir` that ends in `extension` by `program`.
fn unpack_by(program: &[&str], extension: &str, dir: &Path) {
    for path in files(dir).iter().filter(|path| path.extension().is_some_and(|e| e == extension)) {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).stdin(File::open(path).unwrap());
        let output = command.stdout(File::create(path.with_extension("")).unwrap()).output();
        let output = output.unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        assert!(output.status.success(), "{}: {output:?}", path.display());
        fs::remove_file(path).unwrap();
    }
}

/// A backup of ours by each way to compress, to a directory and as a stream.
fn check_ours(series: Series) {
    let source = TestServer::start_series(series, &[]);
    create_tables_of(&source, &tables());
    for (index, (option, extension, program)) in [
        ("--compress", "qp", None),
        ("--compress=zstd", "zst", Some(&["zstd", "-d", "-c"])),
        ("--compress=lz4", "lz4", Some(&["lz4", "-d", "-c"])),
    ]
    .into_iter()
    .enumerate()
    {
        let load = Workload::start_on(&source, &tables(), 7 + index as u64, 2);
        load.wait_for(200);
        let dir = |name: &str| source.dir().join(format!("{extension}-{name}"));
        let local = dir("local");
        let said = Tool::Ours.backup(&source, &local, &[option, "--parallel=2"]);
        let line = format!("busy/plain.ibd to busy/plain.ibd.{extension}");
        assert!(said.contains("Compressing ") && said.contains(&line), "{said}");
        let streamed = dir("streamed");
        let stream = dir("stream");
        let mut command =
            Tool::Ours.backup_command(&source, &streamed, &[option, "--stream=mbstream"]);
        command.stdout(File::create(&stream).unwrap());
        let said = run(&mut command).expect_success();
        assert!(said.contains("Compressing and streaming "), "{said}");
        load.stop();
        let state = State::of(&source);
        fs::create_dir(&streamed).unwrap();
        // That of the series reads it.
        let mut mbstream = Tool::Reference(series).mbstream();
        mbstream.arg("-x").arg("-C").arg(&streamed).stdin(File::open(&stream).unwrap());
        let output = mbstream.stdout(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        for (dir, program) in [(&local, None), (&streamed, program)] {
            for path in files(dir) {
                let is_plain = path.to_str().unwrap().ends_with("_checkpoints");
                let is_packed = path.extension().is_some_and(|e| e == extension);
                assert!(is_plain != is_packed, "{}", path.display());
            }
            let refused = run(&mut Tool::Ours.prepare_command(dir, &[]));
            refused.expect_failure(&["is compressed", "--decompress"]);
            if let Some(program) = program {
                unpack_by(program, extension, dir);
            } else {
                let options = ["--remove-original", "--parallel=2"];
                run(&mut decompress(dir, &options)).expect_success();
            }
            let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            let names = ["xtrabackup_info", "mariadb_backup_info"];
            let info = files(dir).into_iter().find(|path| names.contains(&name(path).as_str()));
            let info = info.unwrap();
            let info = fs::read_to_string(info).unwrap();
            assert!(info.contains("\ncompressed = compressed\n"), "{info}");
            Tool::Ours.prepare(dir, &[]);
            if dir == &streamed {
                let restored = Tool::Ours.restore(dir, series, &[]);
                replay_binlog(&source, dir, &restored);
                state.assert_same_as(&State::of(&restored));
                check_tables(&restored);
            }
        }
    }
}

#[test]
fn our_formats_of_10_11() {
    check_ours(Series::V10_11);
}

#[test]
fn our_formats_of_10_5() {
    check_ours(Series::V10_5);
}
