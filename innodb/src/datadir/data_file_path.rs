//! The value of `innodb_data_file_path`: files of the system tablespace.
//!
//! ```text
//! spec = file *( ";" file )
//! file = path ":" size [ grow ] [ "new" ] [ "raw" ]
//! grow = ":autoextend" [ ":max:" size ] [ ":autoshrink" ]
//! size = digits [ "K" | "M" | "G" ]      in whole MiB, rounded down
//! ```
//!
//! Source: `SysTablespace::parse_params` in `fsp0sysspace.cc`, 10.11; `:autoshrink`, with which a
//! server cuts the file when it starts or stops, is of 11.2 (tried with 11.8).

use std::fmt;

const MIB: u64 = 1 << 20;

/// The files of the system tablespace, in the order of their pages. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFilePath {
    files: Vec<DataFile>,
}

/// One file of the system tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    path: String,
    /// What follows the path, as given.
    attributes: String,
    size: u64,
    autoextend: bool,
    max: Option<u64>,
    raw: Option<RawDevice>,
}

/// A file of the system tablespace that is a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawDevice {
    /// `newraw`: to be initialised at the next start.
    New,
    /// `raw`: in use.
    Initialised,
}

impl DataFilePath {
    /// Takes the value of the server variable.
    ///
    /// # Errors
    ///
    /// A [`DataFilePathError`] that names the file in question.
    pub fn parse(spec: &str) -> Result<Self, DataFilePathError> {
        let mut files = Vec::new();
        let mut rest = spec;
        while !rest.is_empty() {
            let (file, following) = DataFile::parse(rest)?;
            if file.autoextend && !following.is_empty() {
                return Err(DataFilePathError::AutoextendNotLast(file.path));
            }
            files.push(file);
            rest = following;
        }
        if files.is_empty() { Err(DataFilePathError::Empty) } else { Ok(Self { files }) }
    }

    /// The files; only the last may grow.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The same files without directories, as they stand in a backup.
    #[must_use]
    pub fn strip_directories(&self) -> Self {
        let stripped = |file: &DataFile| DataFile { path: file.name().to_owned(), ..file.clone() };
        Self { files: self.files.iter().map(stripped).collect() }
    }
}

impl fmt::Display for DataFilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.files.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{}:{}", file.path, file.attributes)?;
        }
        Ok(())
    }
}

impl DataFile {
    /// The file as given: relative to `innodb_data_home_dir` or the data directory unless
    /// `innodb_data_home_dir` is set to nothing.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Initial size in bytes, whole MiB; for all but the last file, the size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the file grows when it is full.
    pub fn autoextend(&self) -> bool {
        self.autoextend
    }

    /// How many bytes the file may grow to.
    pub fn max(&self) -> Option<u64> {
        self.max
    }

    /// Whether the file is a block device. Its size is the given one.
    pub fn raw(&self) -> Option<RawDevice> {
        self.raw
    }

    /// Takes one file from the start of `spec`; returns it and what follows its semicolon.
    fn parse(spec: &str) -> Result<(Self, &str), DataFilePathError> {
        let error = |kind: fn(String) -> DataFilePathError| {
            kind(spec.split(';').next().unwrap_or(spec).to_owned())
        };
        let colon = path_end(spec).ok_or_else(|| error(DataFilePathError::NoSize))?;
        let (path, rest) = spec.split_at(colon);
        let attributes = rest.strip_prefix(':').unwrap_or(rest);
        if path.is_empty() {
            return Err(error(DataFilePathError::NoPath));
        }
        let (size, mut rest) = size(attributes).ok_or_else(|| error(DataFilePathError::Size))?;
        if size == 0 {
            return Err(error(DataFilePathError::ZeroSize));
        }
        let (mut autoextend, mut max) = (false, None);
        if let Some(after) = rest.strip_prefix(":autoextend") {
            (autoextend, rest) = (true, after);
            if let Some(after) = rest.strip_prefix(":max:") {
                let (limit, after) = self::size(after).ok_or(error(DataFilePathError::Size))?;
                (max, rest) = (Some(limit), after);
            }
            rest = rest.strip_prefix(":autoshrink").unwrap_or(rest);
        }
        let mut raw = None;
        let after_new = rest.strip_prefix("new");
        if let Some(after) = after_new.unwrap_or(rest).strip_prefix("raw") {
            let kind = if after_new.is_some() { RawDevice::New } else { RawDevice::Initialised };
            (raw, rest) = (Some(kind), after);
        }
        let following = match rest.strip_prefix(';') {
            Some(following) => following,
            None if rest.is_empty() => rest,
            None => return Err(error(DataFilePathError::Suffix)),
        };
        let len = attributes.len() - rest.len();
        let attributes = attributes.get(..len).unwrap_or_default().to_owned();
        let file = Self { path: path.to_owned(), attributes, size, autoextend, max, raw };
        Ok((file, following))
    }
}

/// Where the path ends: at the first colon that is not part of a drive letter or device name.
fn path_end(spec: &str) -> Option<usize> {
    spec.match_indices(':').map(|(at, _)| at).find(|&at| {
        let next = spec.as_bytes().get(at + 1);
        !matches!(next, Some(b'/' | b'\\' | b':'))
    })
}

/// Takes a size from the start of `text`; returns bytes (whole MiB) and the rest.
fn size(text: &str) -> Option<(u64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let (mib, rest) = match rest.as_bytes().first() {
        Some(b'K' | b'k') => (number / 1024, rest.get(1..)?),
        Some(b'M' | b'm') => (number, rest.get(1..)?),
        Some(b'G' | b'g') => (number.checked_mul(1024)?, rest.get(1..)?),
        _ => (number / MIB, rest),
    };
    Some((mib.checked_mul(MIB)?, rest))
}

/// An `innodb_data_file_path` that a server would refuse; with the file in question as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataFilePathError {
    /// There is no file.
    #[error("innodb_data_file_path names no file")]
    Empty,
    /// A file has no size.
    #[error("innodb_data_file_path: `{0}` has no size")]
    NoSize(String),
    /// A file has no name.
    #[error("innodb_data_file_path: `{0}` has no file name")]
    NoPath(String),
    /// A size is not a number, or too big.
    #[error("innodb_data_file_path: `{0}` has an invalid size")]
    Size(String),
    /// A file is smaller than 1 MiB.
    #[error("innodb_data_file_path: `{0}` has less than 1 MiB")]
    ZeroSize(String),
    /// Something unknown follows the size.
    #[error("innodb_data_file_path: `{0}` has unknown attributes")]
    Suffix(String),
    /// Only the last file may grow.
    #[error("innodb_data_file_path: `{0}` grows but is not the last file")]
    AutoextendNotLast(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn default_value() {
        let spec = DataFilePath::parse("ibdata1:12M:autoextend").unwrap();
        let [file] = spec.files() else { panic!("{spec:?}") };
        assert_eq!((file.path(), file.name(), file.size()), ("ibdata1", "ibdata1", 12 << 20));
        assert!(file.autoextend());
        assert_eq!((file.max(), file.raw()), (None, None));
        assert_eq!(spec.to_string(), "ibdata1:12M:autoextend");
    }

    #[test]
    fn several_files_with_directories() {
        let text = "/a/b/ibdata1:1G;c/ibdata2:3072k;ibdata3:2097153:autoextend:max:5g";
        let spec = DataFilePath::parse(text).unwrap();
        let sizes: Vec<_> = spec.files().iter().map(DataFile::size).collect();
        assert_eq!(sizes, [1 << 30, 3 << 20, 2 << 20]);
        assert_eq!(spec.files()[2].max(), Some(5 << 30));
        assert_eq!(spec.to_string(), text);
        assert_eq!(
            spec.strip_directories().to_string(),
            "ibdata1:1G;ibdata2:3072k;ibdata3:2097153:autoextend:max:5g"
        );
    }

    #[test]
    fn files_that_shrink() {
        for text in ["a:12M:autoextend:autoshrink", "a:12M:autoextend:max:50M:autoshrink"] {
            let spec = DataFilePath::parse(text).unwrap();
            assert!(spec.files()[0].autoextend());
            assert_eq!(spec.to_string(), text);
        }
        for text in ["a:12M:autoshrink", "a:12M:autoextend:autoshrink:max:50M"] {
            let refused = DataFilePathError::Suffix(text.into());
            assert_eq!(DataFilePath::parse(text), Err(refused));
        }
    }

    #[test]
    fn raw_devices() {
        let spec = DataFilePath::parse("/dev/sda1:5Gnewraw;/dev/sda2:2Graw").unwrap();
        let raw: Vec<_> = spec.files().iter().map(|file| (file.name(), file.raw())).collect();
        assert_eq!(raw, [("sda1", Some(RawDevice::New)), ("sda2", Some(RawDevice::Initialised))]);
        let spec = DataFilePath::parse("\\\\.\\D::10M:autoextendraw;").unwrap();
        assert_eq!(spec.files()[0].path(), "\\\\.\\D:");
        assert_eq!(spec.files()[0].raw(), Some(RawDevice::Initialised));
        let spec = DataFilePath::parse("C:\\data\\ibdata1:10M").unwrap();
        assert_eq!(spec.files()[0].path(), "C:\\data\\ibdata1");
    }

    #[test]
    fn each_error() {
        use DataFilePathError as Error;
        for (spec, error) in [
            ("", Error::Empty),
            ("ibdata1", Error::NoSize("ibdata1".into())),
            ("ibdata1:12M;x", Error::NoSize("x".into())),
            (":12M", Error::NoPath(":12M".into())),
            ("ibdata1:M", Error::Size("ibdata1:M".into())),
            ("ibdata1:99999999999999G;b:1M", Error::Size("ibdata1:99999999999999G".into())),
            ("ibdata1:12M:autoextend:max:x", Error::Size("ibdata1:12M:autoextend:max:x".into())),
            ("ibdata1:1023K", Error::ZeroSize("ibdata1:1023K".into())),
            ("ibdata1:12MB", Error::Suffix("ibdata1:12MB".into())),
            ("ibdata1:12Mnew", Error::Suffix("ibdata1:12Mnew".into())),
            ("a:1M:autoextend;b:1M", Error::AutoextendNotLast("a".into())),
        ] {
            assert_eq!(DataFilePath::parse(spec), Err(error), "{spec}");
        }
    }

    #[test]
    fn a_path_ends_at_its_colon_only() {
        let spec = DataFilePath::parse("ibdata1:12M;a;b:1M").unwrap();
        assert_eq!(spec.files()[1].path(), "a;b");
    }

    proptest! {
        #[test]
        fn text_round_trips(spec in "[a:;0-9KMGraw/]{0,30}") {
            if let Ok(parsed) = DataFilePath::parse(&spec) {
                prop_assert_eq!(DataFilePath::parse(&parsed.to_string()), Ok(parsed));
            }
        }

        #[test]
        fn never_panics(spec in any::<String>()) {
            let _ = DataFilePath::parse(&spec);
        }
    }
}
