//! Streams between our mbstream and the real one, both ways, and streams of real backups.

#![cfg(test)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;
use compat_tests::workload::{Tables, Workload, create_tables_of};

const REFERENCE: Tool = Tool::Reference(Series::V10_11);

fn create(tool: &Tool, dir: &Path, files: &[PathBuf], stream: &Path) {
    let output = File::create(stream).unwrap();
    let status =
        tool.mbstream().arg("-c").args(files).current_dir(dir).stdout(output).status().unwrap();
    assert!(status.success(), "{status}");
}

fn extract(tool: &Tool, stream: &Path, dir: &Path) -> Output {
    fs::create_dir(dir).unwrap();
    let mut program = tool.mbstream();
    program.arg("-x").arg("-p4").arg("-C").arg(dir);
    program.stdin(File::open(stream).unwrap()).stdout(Stdio::null()).output().unwrap()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All files below `dir`, relative.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn assert_same(one: &Path, other: &Path) {
    assert_eq!(files(one), files(other));
    for name in files(one) {
        let same = fs::read(one.join(&name)).unwrap() == fs::read(other.join(&name)).unwrap();
        assert!(same, "{} differs", name.display());
    }
}

#[test]
fn streams_of_files_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("db")).unwrap();
    // Longer than the chunks of either.
    let big: Vec<u8> = (0..6_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for (name, bytes) in [("ibdata1", &big[..]), ("db/t.frm", b"x"), ("db/empty", b"")] {
        fs::write(source.join(name), bytes).unwrap();
    }
    for (name, packer, unpacker) in [
        ("ours", &Tool::Ours, &REFERENCE),
        ("reference", &REFERENCE, &Tool::Ours),
        ("both", &Tool::Ours, &Tool::Ours),
    ] {
        let stream = dir.path().join(name).with_extension("xbs");
        create(packer, &source, &files(&source), &stream);
        let target = dir.path().join(name);
        assert_success(&extract(unpacker, &stream, &target));
        assert_same(&source, &target);
    }
}

/// A stream of the reference, with tables that are compressed page by page.
fn check_stream_of_the_reference(series: Series) {
    let server = TestServer::start_series(series, &[]);
    let tables = Tables::new(
        &[("busy.plain", "ENGINE=InnoDB"), ("busy.compressed", "ENGINE=InnoDB PAGE_COMPRESSED=1")],
        &[("busy.aria", "ENGINE=Aria TRANSACTIONAL=1"), ("busy.myisam", "ENGINE=MyISAM")],
    );
    create_tables_of(&server, &tables);
    let load = Workload::start_on(&server, &tables, 11, 2);
    load.wait_for(300);
    let stream = server.dir().join("stream");
    let mut command = Tool::Reference(series).backup_command(&server, Path::new("/nowhere"), &[]);
    let status = command
        .arg("--stream=xbstream")
        .stdout(File::create(&stream).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    load.stop();
    assert!(status.success(), "{status}");
    let [ours, theirs] = ["ours", "theirs"].map(|name| server.dir().join(name));
    assert_success(&extract(&Tool::Ours, &stream, &ours));
    assert_success(&extract(&Tool::Reference(series), &stream, &theirs));
    assert_same(&ours, &theirs);
    let blocks = |dir: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        // A table that the server had not written yet is in the other.
        let names = ["busy/compressed.ibd", "busy/compressed.new"].map(|name| dir.join(name));
        names.iter().find_map(|path| path.metadata().ok()).unwrap().blocks()
    };
    assert!(blocks(&ours) <= blocks(&theirs), "{} and {}", blocks(&ours), blocks(&theirs));

    // Cut anywhere, it is noticed.
    let bytes = fs::read(&stream).unwrap();
    for part in [0, 1, 3, 500, 999] {
        let cut = server.dir().join("cut");
        fs::write(&cut, &bytes[..bytes.len() * part / 1000]).unwrap();
        let target = server.dir().join(format!("cut-{part}"));
        let output = extract(&Tool::Ours, &cut, &target);
        assert_eq!(output.status.code(), Some(1), "{part}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("stream"), "{part}: {text}");
    }
}

#[test]
fn stream_of_10_11() {
    check_stream_of_the_reference(Series::V10_11);
}

#[test]
fn stream_of_11_8() {
    check_stream_of_the_reference(Series::V11_8);
}

#[test]
fn stream_of_10_5() {
    check_stream_of_the_reference(Series::V10_5);
}
