//! Option files: `[group]`, `name=value` and `name` lines, comments, quotes, escapes, `!include`
//! and `!includedir`. Which groups matter and what the options mean is left to [`crate::cli`].

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How deep files may include each other.
const DEPTH_MAX: usize = 10;

/// How many files are read at most: files that include each other twice would multiply.
const FILES_MAX: usize = 1000;

/// Size that no option file has, in bytes.
const LEN_MAX: u64 = 16 << 20;

/// One option of an option file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Group it stands in.
    pub group: String,
    /// Name as it was written.
    pub name: OsString,
    /// Value, if there is a `=`; without quotes and escapes.
    pub value: Option<OsString>,
}

/// An option file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionFileError {
    /// The file was asked for by name and cannot be read.
    #[error("Could not open required defaults file: {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file beyond any sensible size.
    #[error("error: Config file {} is larger than 16 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line that starts with `[` and has no `]`.
    #[error("error: Wrong group definition in config file: {} at line {line}", path.display())]
    Group {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An option above the first group.
    #[error(
        "error: Found option without preceding group in config file: {} at line: {line}",
        path.display()
    )]
    NoGroup {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A directory named by `!includedir`.
    #[error("Can't read dir of '{}' ({source})", path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// All options of one or more files, in the order in which they were read.
#[derive(Debug, Default)]
pub struct OptionFiles {
    /// The options.
    pub entries: Vec<Entry>,
    /// Lines to show to the user.
    pub warnings: Vec<String>,
    files_read: usize,
}

impl OptionFiles {
    /// Reads a file that must be there.
    ///
    /// # Errors
    ///
    /// [`OptionFileError`]
    pub fn read(&mut self, path: &Path) -> Result<(), OptionFileError> {
        self.read_file(path, 0).and_then(|read| {
            read.map_err(|source| OptionFileError::Open { path: path.into(), source })
        })
    }

    /// Reads a file if it is there and may be read.
    ///
    /// # Errors
    ///
    /// [`OptionFileError`], but not [`OptionFileError::Open`].
    pub fn read_if_there(&mut self, path: &Path) -> Result<(), OptionFileError> {
        self.read_file(path, 0).map(drop)
    }

    /// The inner result tells whether the file could be read at all.
    fn read_file(
        &mut self,
        path: &Path,
        depth: usize,
    ) -> Result<Result<(), io::Error>, OptionFileError> {
        let (bytes, metadata) = match read_limited(path) {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        if bytes.len() as u64 > LEN_MAX {
            return Err(OptionFileError::TooLarge { path: path.into() });
        }
        if metadata.is_file() && metadata.permissions().mode() & 0o002 != 0 {
            let path = path.display();
            self.warnings.push(format!("Warning: World-writable config file '{path}' is ignored"));
            return Ok(Ok(()));
        }
        let mut group = None;
        for (at, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
            self.read_line(text.trim_ascii(), (path, at + 1), depth, &mut group)?;
        }
        Ok(Ok(()))
    }

    fn read_line(
        &mut self,
        text: &[u8],
        (path, line): (&Path, usize),
        depth: usize,
        group: &mut Option<String>,
    ) -> Result<(), OptionFileError> {
        match text {
            [] | [b'#' | b';', ..] => {}
            [b'!', directive @ ..] => self.include(directive, (path, line), depth)?,
            [b'[', rest @ ..] => {
                let end = rest.iter().position(|byte| *byte == b']');
                let Some((name, _)) = end.and_then(|end| rest.split_at_checked(end)) else {
                    return Err(OptionFileError::Group { path: path.into(), line });
                };
                *group = Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned());
            }
            text => {
                let Some(group) = group else {
                    return Err(OptionFileError::NoGroup { path: path.into(), line });
                };
                let (name, value) = name_and_value(without_comment(text));
                self.entries.push(Entry { group: group.clone(), name, value });
            }
        }
        Ok(())
    }

    /// `!include FILE`, `!includedir DIR`; other directives are ignored.
    fn include(
        &mut self,
        directive: &[u8],
        (path, line): (&Path, usize),
        depth: usize,
    ) -> Result<(), OptionFileError> {
        let argument = |keyword: &str| {
            let rest = directive.strip_prefix(keyword.as_bytes())?;
            rest.first().is_some_and(u8::is_ascii_whitespace).then(|| rest.trim_ascii())
        };
        let (file, folder) = (argument("include"), argument("includedir"));
        let Some(argument) = file.or(folder) else { return Ok(()) };
        self.files_read += 1;
        if depth >= DEPTH_MAX || self.files_read > FILES_MAX {
            self.warnings.push(format!(
                "Warning: skipping '!{}' directive as maximum include recursion level was reached \
                 in file {} at line {line}",
                String::from_utf8_lossy(directive),
                path.display()
            ));
            return Ok(());
        }
        let argument = PathBuf::from(OsString::from_vec(argument.to_vec()));
        if folder.is_none() {
            return self.read_file(&argument, depth + 1).map(drop);
        }
        match cnf_files(&argument) {
            Ok(files) => {
                files.iter().try_for_each(|file| self.read_file(file, depth + 1).map(drop))
            }
            Err(source) => Err(OptionFileError::Dir { path: argument, source }),
        }
    }
}

/// A file's first [`LEN_MAX`] bytes and one more.
fn read_limited(path: &Path) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(LEN_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Files `*.cnf` of a folder, by name.
fn cnf_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cnf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Cuts a `#` and what follows it, unless it is inside quotes.
fn without_comment(text: &[u8]) -> &[u8] {
    let (mut quote, mut escaped) = (None, false);
    for (at, byte) in text.iter().enumerate() {
        match quote {
            None if *byte == b'#' => return text.get(..at).unwrap_or(text),
            None if matches!(byte, b'"' | b'\'') => quote = Some(*byte),
            Some(open) if open == *byte && !escaped => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && *byte == b'\\' && !escaped;
    }
    text
}

fn name_and_value(text: &[u8]) -> (OsString, Option<OsString>) {
    let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    match text.iter().position(|byte| *byte == b'=') {
        None => (owned(text.trim_ascii()), None),
        Some(at) => {
            let (name, value) = text.split_at(at);
            let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
            let value = unescaped(unquoted(value));
            (owned(name.trim_ascii()), Some(OsString::from_vec(value)))
        }
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    }
}

/// An unknown escape and a backslash at the end stay as they are.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            result.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => result.push(b'\n'),
            Some(b't') => result.push(b'\t'),
            Some(b'r') => result.push(b'\r'),
            Some(b'b') => result.push(8),
            Some(b's') => result.push(b' '),
            Some(escaped @ (b'"' | b'\'' | b'\\')) => result.push(escaped),
            Some(other) => result.extend_from_slice(&[b'\\', other]),
            None => result.push(b'\\'),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `group.name=value` lines of the options in `text`.
    fn read(text: &str) -> Result<Vec<String>, OptionFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        fs::write(&path, text).unwrap();
        let mut files = OptionFiles::default();
        files.read(&path)?;
        assert!(files.warnings.is_empty());
        Ok(shown(&files))
    }

    fn shown(files: &OptionFiles) -> Vec<String> {
        let line = |entry: &Entry| {
            let value = entry.value.as_ref().map(|value| format!("={}", value.display()));
            format!("{}.{}{}", entry.group, entry.name.display(), value.unwrap_or_default())
        };
        files.entries.iter().map(line).collect()
    }

    #[test]
    fn lines_become_options() {
        let text = "# comment\n; comment\n\n[mysqld]\n  parallel = 4 \nverbose\n[client ] x\n\
                    user=a=b # comment\nempty=\r\n!unknown x\n";
        let expected = ["mysqld.parallel=4", "mysqld.verbose", "client.user=a=b", "client.empty="];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn quotes_and_escapes_are_resolved() {
        for (text, expected) in [
            ("\"a b\"", "a b"),
            ("'a#b' # c", "a#b"),
            ("a#b", "a"),
            ("'a", "'a"),
            ("\"a'", "\"a'"),
            ("'a\"", "'a\""),
            (r"a\tb\n\r\b\s\\", "a\tb\n\r\u{8} \\"),
            (r"a\qb", r"a\qb"),
            (r"a\", r"a\"),
            (r#""a\"b#c""#, "a\"b#c"),
            ("\"", "\""),
            ("''", ""),
        ] {
            assert_eq!(read(&format!("[g]\nx={text}\n")).unwrap(), [format!("g.x={expected}")]);
        }
    }

    #[test]
    fn broken_files_are_refused() {
        let error = |text| {
            let message = read(text).unwrap_err().to_string();
            let file = message.rsplit_once("my.cnf").unwrap().1.to_owned();
            (message.split_once(':').unwrap().1.to_owned(), file)
        };
        let (message, place) = error("a=b\n");
        assert!(message.starts_with(" Found option without preceding group"), "{message}");
        assert_eq!(place, " at line: 1");
        let (message, place) = error("\n[mysqld\n");
        assert!(message.starts_with(" Wrong group definition in config file"), "{message}");
        assert_eq!(place, " at line 2");
        assert!(matches!(
            OptionFiles::default().read(Path::new("/nonexistent/my.cnf")),
            Err(OptionFileError::Open { .. })
        ));
        assert!(OptionFiles::default().read_if_there(Path::new("/nonexistent/my.cnf")).is_ok());
    }

    #[test]
    fn a_world_writable_file_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        fs::write(&path, "[mysqld]\nparallel=4\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let mut files = OptionFiles::default();
        files.read(&path).unwrap();
        assert!(files.entries.is_empty());
        let path = path.display();
        let expected = format!("Warning: World-writable config file '{path}' is ignored");
        assert_eq!(files.warnings, [expected]);
    }

    #[test]
    fn files_and_folders_are_included_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("conf.d/b.cnf"), "[b]\ny=2\n").unwrap();
        fs::write(at("conf.d/a.cnf"), "[a]\nx=1\n").unwrap();
        fs::write(at("conf.d/c.txt"), "[c]\nz=3\n").unwrap();
        fs::write(at("one.cnf"), "[one]\nv=0\n").unwrap();
        let text = format!(
            "[g]\nfirst\n!include {}\n!includedir {}\n!include /nonexistent\nlast\n",
            at("one.cnf").display(),
            at("conf.d").display()
        );
        fs::write(at("my.cnf"), text).unwrap();
        let mut files = OptionFiles::default();
        files.read(&at("my.cnf")).unwrap();
        assert_eq!(shown(&files), ["g.first", "one.v=0", "a.x=1", "b.y=2", "g.last"]);

        fs::write(at("my.cnf"), "!includedir /nonexistent\n").unwrap();
        let error = OptionFiles::default().read(&at("my.cnf")).unwrap_err();
        assert!(matches!(error, OptionFileError::Dir { .. }));
    }

    #[test]
    fn including_oneself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        fs::write(&path, format!("[g]\nx\n!include {}\n", path.display())).unwrap();
        let mut files = OptionFiles::default();
        files.read(&path).unwrap();
        assert_eq!(files.entries.len(), DEPTH_MAX + 1);
        assert_eq!(files.warnings.len(), 1);
        assert!(files.warnings[0].contains("maximum include recursion level"));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut files = OptionFiles::default();
            let mut group = Some("g".to_owned());
            let _ = files.read_line(&line, (Path::new("f"), 1), DEPTH_MAX, &mut group);
            assert!(files.entries.len() <= 1);
        }
    }
}
