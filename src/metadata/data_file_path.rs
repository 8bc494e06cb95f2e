//! `innodb_data_file_path`: the files of the system tablespace.
//!
//! ```text
//! ibdata1:12M;/fast/ibdata2:50M:autoextend:max:1G
//! ```

use std::path::Path;

use anyhow::{Context, bail, ensure};

/// Sizes are whole MiB.
const MIB: u64 = 1 << 20;

/// One file of the system tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path as written: absolute, or below `innodb_data_home_dir`.
    pub path: String,
    /// First size in bytes, whole MiB. What counts for a raw device alone.
    pub len: u64,
    /// The last file may grow.
    pub autoextend: bool,
    /// A raw device (`raw`, `newraw`).
    pub raw: bool,
}

impl DataFile {
    /// Name without folders: under this name the file stands in a backup.
    pub fn name(&self) -> &str {
        Path::new(&self.path).file_name().and_then(|name| name.to_str()).unwrap_or(&self.path)
    }
}

/// Parses a value of `innodb_data_file_path`. Source: `SysTablespace::parse_params` in
/// `fsp0sysspace.cc`.
///
/// # Errors
///
/// A file without name or size, `autoextend` before the last file, text that is nothing of the
/// format, two files with one name (which a backup could not hold).
pub fn parse(spec: &str) -> anyhow::Result<Vec<DataFile>> {
    let mut files = Vec::<DataFile>::new();
    let mut parts = spec.trim().split(';').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let file = data_file(part)
            .with_context(|| format!("parse {part:?} of innodb_data_file_path {spec:?}"))?;
        ensure!(
            !file.autoextend || parts.peek().is_none(),
            "innodb_data_file_path {spec:?}: only the last file may have autoextend"
        );
        ensure!(
            files.iter().all(|other| other.name() != file.name()),
            "innodb_data_file_path {spec:?}: two files are named {:?}",
            file.name()
        );
        files.push(file);
    }
    ensure!(!files.is_empty(), "innodb_data_file_path {spec:?} names no file");
    Ok(files)
}

/// The same value without folders, as `backup-my.cnf` has it.
///
/// # Errors
///
/// As [`parse`].
pub fn without_folders(spec: &str) -> anyhow::Result<String> {
    parse(spec)?;
    let parts: Vec<&str> = spec
        .trim()
        .split(';')
        .filter(|part| !part.is_empty())
        .map(|part| part.rsplit_once('/').map_or(part, |(_, name)| name))
        .collect();
    Ok(parts.join(";"))
}

fn data_file(part: &str) -> anyhow::Result<DataFile> {
    // A colon before a slash belongs to the path (drive names).
    let (at, _) = part
        .match_indices(':')
        .find(|&(at, _)| !part.get(at + 1..).is_some_and(|rest| rest.starts_with(['/', '\\', ':'])))
        .context("no size")?;
    let (path, rest) = (part.get(..at).unwrap_or_default(), part.get(at + 1..).unwrap_or_default());
    let name = path.rsplit('/').next().unwrap_or_default();
    ensure!(!matches!(name, "" | "." | ".."), "no file name");
    let mut words = rest.split(':');
    let mut size = words.next().unwrap_or_default();
    let mut raw = false;
    for suffix in ["newraw", "raw"] {
        if let Some(stripped) = size.strip_suffix(suffix) {
            (size, raw) = (stripped, true);
            break;
        }
    }
    let len = size_in_bytes(size)?;
    let autoextend = match words.next() {
        None => false,
        Some("autoextend") => true,
        Some(word) => bail!("{word:?} after the size"),
    };
    match (words.next(), words.next(), words.next()) {
        (None, ..) => {}
        (Some("max"), Some(max), None) => {
            size_in_bytes(max)?;
        }
        _ => bail!("expected `max:SIZE` after autoextend"),
    }
    Ok(DataFile { path: path.to_owned(), len, autoextend, raw })
}

fn size_in_bytes(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.strip_prefix(digits).unwrap_or_default();
    let unit = match suffix.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => MIB,
        "g" => 1 << 30,
        _ => bail!("unknown unit {suffix:?} of size {text:?}"),
    };
    let count: u64 = digits.parse().with_context(|| format!("size {text:?}"))?;
    let len = count.checked_mul(unit).with_context(|| format!("size {text:?} is too large"))?;
    ensure!(len >= MIB, "size {text:?} is less than 1 MiB");
    Ok(len / MIB * MIB)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, mib: u64) -> DataFile {
        DataFile { path: path.into(), len: mib << 20, autoextend: false, raw: false }
    }

    #[test]
    fn parses_values_seen_on_servers() {
        for (spec, files) in [
            ("ibdata1:12M:autoextend", vec![DataFile { autoextend: true, ..file("ibdata1", 12) }]),
            (
                "ibdata1:4M;/a/b/ibdata2:1g:autoextend:max:4G",
                vec![
                    file("ibdata1", 4),
                    DataFile { autoextend: true, ..file("/a/b/ibdata2", 1024) },
                ],
            ),
            ("a:2048K;b:3145728;", vec![file("a", 2), file("b", 3)]),
            ("a:2097151", vec![file("a", 1)]),
            ("/dev/sdb1:3Gnewraw", vec![DataFile { raw: true, ..file("/dev/sdb1", 3072) }]),
            ("c:/x/ibdata1:4Mraw", vec![DataFile { raw: true, ..file("c:/x/ibdata1", 4) }]),
        ] {
            assert_eq!(parse(spec).unwrap(), files, "{spec}");
        }
    }

    #[test]
    fn refuses_what_the_server_refuses_and_what_a_backup_cannot_hold() {
        for spec in [
            "",
            ";",
            "ibdata1",
            "ibdata1:",
            "ibdata1:x",
            "ibdata1:12T",
            ":12M",
            "a/:12M",
            "..:12M",
            "a:1023K",
            "a:0",
            "a:12M:auto",
            "a:12M:autoextend;b:12M",
            "a:12M:autoextend:max",
            "a:12M:autoextend:max:1G:x",
            "a:99999999999999999999M",
            "a:18446744073709551615G",
            "/one/a:12M;/two/a:12M",
        ] {
            assert!(parse(spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn strips_folders() {
        assert_eq!(
            without_folders("/x/ibdata1:4M;y/ibdata2:4M:autoextend").unwrap(),
            "ibdata1:4M;ibdata2:4M:autoextend"
        );
        assert_eq!(parse("/x/ibdata1:4M").unwrap()[0].name(), "ibdata1");
    }

    proptest! {
        #[test]
        fn any_text_returns(spec in "[a:;0-9MG/.x]{0,40}") {
            let _ = parse(&spec);
            let _ = without_folders(&spec);
        }
    }
}
