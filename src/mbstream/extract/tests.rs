use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::mbstream::create::create;
use xbstream::Writer;

fn report() -> Report {
    Report::to_stderr(false)
}

fn extract_to(dir: &Path, stream: &[u8]) -> anyhow::Result<()> {
    extract(stream, dir, NonZeroUsize::new(3).unwrap(), &report())
}

fn stream_of(write: impl FnOnce(&mut Writer<Vec<u8>>)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    write(&mut writer);
    writer.into_inner()
}

fn put(writer: &mut Writer<Vec<u8>>, path: &str, bytes: &[u8]) {
    let path = Path::new(path);
    writer.payload(path, 0, bytes, false).unwrap();
    writer.end(path, false).unwrap();
}

#[test]
fn created_streams_are_extracted() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::create_dir(&to).unwrap();
    let mut big: Vec<u8> =
        (0..1_250_000_u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect();
    big.push(1);
    let files = ["small", "a/empty", "a/b/big", "zeros"].map(PathBuf::from);
    let contents = [&b"x"[..], b"", &big, &vec![0; 3 << 20]];
    for (name, bytes) in files.iter().zip(contents) {
        fs::write(from.join(name), bytes).unwrap();
    }
    let mut stream = Vec::new();
    create(&from, &files, &mut stream, &report()).unwrap();
    extract_to(&to, &stream).unwrap();
    for (name, bytes) in files.iter().zip(contents) {
        assert!(fs::read(to.join(name)).unwrap() == bytes, "{}", name.display());
    }
    assert_eq!(fs::metadata(to.join("zeros")).unwrap().blocks(), 0);
}

#[test]
fn nothing_but_regular_files_is_streamed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"x").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for (name, text) in [("folder", "folder is not a regular file"), ("missing", "missing")] {
        let mut stream = Vec::new();
        let files = ["file", name].map(PathBuf::from);
        let error = create(dir.path(), &files, &mut stream, &report()).unwrap_err();
        assert!(format!("{error:#}").contains(text), "{error:#}");
        assert!(stream.is_empty());
    }
}

#[test]
fn existing_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), b"old").unwrap();
    let stream = stream_of(|writer| put(writer, "precious", b"new"));
    let error = extract_to(dir.path(), &stream).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with("Can't create/write to file 'precious'"), "{text}");
    assert!(text.contains("File exists"), "{text}");
    assert_eq!(fs::read(dir.path().join("precious")).unwrap(), b"old");
}

#[test]
fn damage_fails() {
    let stream = stream_of(|writer| put(writer, "d/t.ibd", &vec![7; 3 << 20]));
    for stream in [&stream[..0], &stream[..5], &stream[..2 << 20], &stream[..stream.len() - 20]] {
        let dir = tempfile::tempdir().unwrap();
        assert!(extract_to(dir.path(), stream).is_err(), "{} bytes", stream.len());
    }
    let mut damaged = stream;
    damaged[1 << 20] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let error = extract_to(dir.path(), &damaged).unwrap_err();
    assert!(error.to_string().contains("invalid checksum"), "{error:#}");
}

#[test]
fn a_stream_that_ends_before_the_backup() {
    let begin = |writer: &mut Writer<Vec<u8>>| {
        put(writer, "aria_log_control", b"1");
        put(writer, "ib_logfile0", b"2");
    };
    for info in ["xtrabackup_info", "xtrabackup_info.qp", "mariadb_backup_info"] {
        let dir = tempfile::tempdir().unwrap();
        let whole = stream_of(|writer| {
            begin(writer);
            put(writer, "mariadb_backup_checkpoints", b"3");
            put(writer, info, b"4");
        });
        extract_to(dir.path(), &whole).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let error = extract_to(dir.path(), &stream_of(begin)).unwrap_err();
    assert!(error.to_string().starts_with("the stream ends before the backup does"), "{error}");
}

#[test]
fn files_are_replaced_renamed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream_of(|writer| {
        put(writer, "d/t.ibd", b"first");
        put(writer, "d/u.ibd", b"dropped");
        let t = Path::new("d/t.ibd");
        writer.payload(t, 0, b"2nd", true).unwrap();
        writer.end(t, true).unwrap();
        writer.rename(t, Path::new("e/t.ibd")).unwrap();
        writer.remove(Path::new("d")).unwrap();
    });
    extract_to(dir.path(), &stream).unwrap();
    assert_eq!(fs::read(dir.path().join("e/t.ibd")).unwrap(), b"2nd");
    assert!(!dir.path().join("d").exists());
}

#[test]
fn bytes_are_written_over_after_a_seek() {
    let dir = tempfile::tempdir().unwrap();
    let path = "aria_log.00000001";
    let zeros = vec![0; 1 << 20];
    let mut stream = stream_of(|writer| {
        writer.payload(Path::new(path), 0, &vec![1; 2 << 20], false).unwrap();
    });
    stream.extend(b"XBSTCK01\0S\x11\0\0\0aria_log.00000001\0\0\x04\0\0\0\0\0");
    stream.extend(stream_of(|writer| {
        writer.payload(Path::new(path), 4 << 16, &zeros, false).unwrap();
        writer.end(Path::new(path), false).unwrap();
    }));
    extract_to(dir.path(), &stream).unwrap();
    let bytes = fs::read(dir.path().join(path)).unwrap();
    assert_eq!(bytes.len(), 2 << 20);
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(*byte == 0, (4 << 16..(4 << 16) + zeros.len()).contains(&at), "{at}");
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend(tar::head(Path::new(name), content.len() as u64, 0).unwrap());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(tar::BLOCK), 0);
    }
    bytes
}

#[test]
fn tar_is_known_by_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let files =
        [("ib_0000000000003000.log", &b"log"[..]), ("d/t.ibd", &[7; 3000]), ("backup.cnf", b"x")];
    // As BACKUP SERVER writes it: there is no end.
    let whole = tar_of(&files);
    extract_to(dir.path(), &whole).unwrap();
    for (name, bytes) in files {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), bytes);
    }
    let error = extract_to(dir.path(), &whole).unwrap_err();
    assert!(format!("{error:#}").contains("failed to create file"), "{error:#}");
    for (bytes, text) in [
        (tar_of(&files[..2]), "without backup.cnf"),
        ([&tar_of(&[("ib_logfile0", b"")])[..], &tar::END].concat(), "ends before the backup does"),
        (tar_of(&[("a", b""), ("a", b""), ("backup.cnf", b"")]), "a comes twice"),
        (tar_of(&[("../a", b"")]), "invalid filename ../a"),
        (whole[..whole.len() - 100].to_vec(), "the archive is cut"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = format!("{:#}", extract_to(dir.path(), &bytes).unwrap_err());
        assert!(error.contains(text), "{error}");
    }
}
