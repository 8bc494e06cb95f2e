//! `file_key_management`: all keys in one file, which may be encrypted. A key has one version, 1.
//!
//! Sources: `parser.cc`, `file_key_management_plugin.cc`; what is taken and what is refused was
//! tried on 10.11. Digests and PBKDF2 (12.0.1 and later) were tried on files of the openssl
//! command alone.

mod decrypt;
mod lines;

pub use decrypt::Digest;

use innodb::encrypted::{CipherMode, Key, KeyError, KeySource};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest key file in bytes.
const MAX_FILE_LEN: u64 = 1 << 20;
/// Longest secret in a file of its own, in bytes.
const MAX_SECRET_LEN: u64 = 256;
/// The version of all keys.
const VERSION: u32 = 1;

/// The plugin's variables, `file_key_management_*`.
#[derive(Debug, Clone)]
pub struct FileKeyOptions {
    /// `filename`: the key file.
    pub filename: PathBuf,
    /// `filekey`, if it is set.
    pub filekey: Option<Filekey>,
    /// `encryption_algorithm`.
    pub mode: CipherMode,
    /// `digest`, from 12.0.1 on; older servers use SHA-1.
    pub digest: Digest,
    /// `use_pbkdf2`, from 12.0.1 on: the number of iterations. `None` for 0.
    pub pbkdf2_iterations: Option<NonZeroU32>,
}

/// The secret with which a key file is encrypted.
#[derive(Clone)]
pub struct Filekey(Place);

#[derive(Clone)]
enum Place {
    Here(Zeroizing<Vec<u8>>),
    File(PathBuf),
}

impl Filekey {
    /// Takes the value of the variable: the secret itself, or `FILE:` and the path of a file that
    /// holds it. `None` if it is empty.
    pub fn new(value: &OsStr) -> Option<Self> {
        let bytes = value.as_bytes();
        let place = match bytes.strip_prefix(b"FILE:") {
            Some(path) => Place::File(PathBuf::from(OsStr::from_bytes(path))),
            None => Place::Here(Zeroizing::new(bytes.to_vec())),
        };
        (!bytes.is_empty()).then_some(Self(place))
    }

    /// The secret; empty is none. In a file, line ends after it do not belong to it, nor what
    /// follows a NUL byte.
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, FileKeyError> {
        let path = match &self.0 {
            Place::Here(secret) => return Ok(secret.clone()),
            Place::File(path) => path,
        };
        // The server reads one byte more than it takes, and no end of line after that.
        let mut secret = read_up_to(path, MAX_SECRET_LEN + 1)?;
        if secret.is_empty() {
            return Err(FileKeyError::EmptySecret { path: path.clone() });
        }
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        while secret.last().is_some_and(is_line_end) {
            secret.pop();
        }
        if secret.len() as u64 > MAX_SECRET_LEN {
            return Err(FileKeyError::SecretTooLong { path: path.clone() });
        }
        let end = secret.iter().position(|&byte| byte == 0);
        secret.truncate(end.unwrap_or(usize::MAX));
        Ok(secret)
    }
}

impl fmt::Debug for Filekey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Here(_) => f.write_str("Filekey(..)"),
            Place::File(path) => write!(f, "Filekey(FILE:{})", path.display()),
        }
    }
}

/// The keys of a key file.
#[derive(Debug)]
pub struct FileKeys {
    keys: BTreeMap<u32, Key>,
    mode: CipherMode,
}

impl FileKeys {
    /// Reads the key file. Takes and refuses what the server does, so that a file which serves
    /// here serves there.
    ///
    /// # Errors
    ///
    /// A [`FileKeyError`] that names the file, never what is in it.
    pub fn open(options: &FileKeyOptions) -> Result<Self, FileKeyError> {
        let secret = match &options.filekey {
            Some(filekey) => filekey.read()?,
            None => Zeroizing::default(),
        };
        let path = &options.filename;
        let mut bytes = read_up_to(path, MAX_FILE_LEN + 1)?;
        if bytes.len() as u64 > MAX_FILE_LEN {
            return Err(FileKeyError::TooLong { path: path.clone() });
        }
        let text = match decrypt::Encrypted::find(&mut bytes) {
            Some(_) if secret.is_empty() => {
                return Err(FileKeyError::SecretMissing { path: path.clone() });
            }
            Some(encrypted) => {
                let iterations = options.pbkdf2_iterations;
                let decrypted = encrypted.decrypt(&secret, options.digest, iterations);
                decrypted.ok_or_else(|| FileKeyError::WrongSecret { path: path.clone() })?
            }
            None if secret.is_empty() => &bytes,
            None => return Err(FileKeyError::NotEncrypted { path: path.clone() }),
        };
        let keys = lines::parse(text).map_err(|(line, error)| FileKeyError::Line {
            path: path.clone(),
            line,
            error,
        })?;
        // The server's own: of the redo log, and of tables that name none.
        if !keys.contains_key(&1) {
            return Err(FileKeyError::NoSystemKey { path: path.clone() });
        }
        Ok(Self { keys, mode: options.mode })
    }
}

impl KeySource for FileKeys {
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
        let key = self.keys.get(&key_id).ok_or(KeyError::Missing { key_id })?;
        if version != VERSION {
            return Err(KeyError::MissingVersion { key_id, version });
        }
        Ok(key.clone())
    }

    fn latest_version(&self, key_id: u32) -> Result<u32, KeyError> {
        self.keys.get(&key_id).map(|_| VERSION).ok_or(KeyError::Missing { key_id })
    }

    fn mode(&self) -> CipherMode {
        self.mode
    }
}

/// The first `len` bytes of a file, in one buffer that never moves: it would leave copies.
fn read_up_to(path: &Path, len: u64) -> Result<Zeroizing<Vec<u8>>, FileKeyError> {
    let read = || -> io::Result<_> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0)));
        File::open(path)?.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| FileKeyError::Io { path: path.to_owned(), source })
}

/// A key file that gives no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileKeyError {
    /// The key file, or the file of its secret, cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More than 1 MiB.
    #[error("key file {} is too long", path.display())]
    TooLong {
        /// The key file.
        path: PathBuf,
    },
    /// The file of the secret has no byte.
    #[error("{} is empty; it must hold the secret of the key file", path.display())]
    EmptySecret {
        /// The file of the secret.
        path: PathBuf,
    },
    /// More than 256 bytes.
    #[error("the secret in {} is too long", path.display())]
    SecretTooLong {
        /// The file of the secret.
        path: PathBuf,
    },
    /// There is a secret, but the key file is not encrypted.
    #[error("key file {} is not encrypted, but a filekey is given", path.display())]
    NotEncrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The key file is encrypted, but there is no secret.
    #[error("key file {} is encrypted, and no filekey is given", path.display())]
    SecretMissing {
        /// The key file.
        path: PathBuf,
    },
    /// Decryption fails: another secret, digest or number of iterations, or a damaged file.
    #[error("key file {} cannot be decrypted with the filekey given", path.display())]
    WrongSecret {
        /// The key file.
        path: PathBuf,
    },
    /// A line is no key.
    #[error("line {line} of key file {}: {error}", path.display())]
    Line {
        /// The key file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        error: LineError,
    },
    /// Key 1 is missing.
    #[error("key file {} has no key 1", path.display())]
    NoSystemKey {
        /// The key file.
        path: PathBuf,
    },
}

/// What is wrong with a line of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Neither a comment nor `id;key`.
    #[error("expected a key id, `;` and a key")]
    Syntax,
    /// The id is 0 or does not fit into 32 bits.
    #[error("invalid key id")]
    KeyId,
    /// The key has not 32, 48 or 64 hexadecimal digits.
    #[error("invalid key: expected 32, 48 or 64 hexadecimal digits")]
    Key,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn testdata(name: &str) -> PathBuf {
        PathBuf::from(format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR")))
    }

    fn open(filename: PathBuf, filekey: &str) -> Result<FileKeys, FileKeyError> {
        FileKeys::open(&FileKeyOptions {
            filename,
            filekey: Filekey::new(OsStr::new(filekey)),
            mode: CipherMode::Ctr,
            digest: Digest::Sha1,
            pbkdf2_iterations: None,
        })
    }

    #[test]
    fn keys_of_a_plain_file() {
        let keys = open(testdata("plain"), "").unwrap();
        assert_eq!(keys.mode(), CipherMode::Ctr);
        assert_eq!(keys.key(2, 1).unwrap().bits(), 128);
        assert_eq!(keys.latest_version(1).unwrap(), 1);
        assert!(matches!(keys.key(3, 1), Err(KeyError::Missing { key_id: 3 })));
        assert!(matches!(keys.latest_version(3), Err(KeyError::Missing { key_id: 3 })));
        let error = keys.key(1, 2).unwrap_err();
        assert!(matches!(error, KeyError::MissingVersion { key_id: 1, version: 2 }));
    }

    #[test]
    fn options_of_newer_servers() {
        let options = FileKeyOptions {
            filename: testdata("pbkdf2.sha512"),
            filekey: Filekey::new(OsStr::new("secret")),
            mode: CipherMode::Cbc,
            digest: Digest::Sha512,
            pbkdf2_iterations: NonZeroU32::new(1000),
        };
        assert!(FileKeys::open(&options).is_ok());
        assert!(FileKeys::open(&FileKeyOptions { pbkdf2_iterations: None, ..options }).is_err());
    }

    /// Tried on a server of 10.11, one by one.
    #[test]
    fn secrets_in_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("filekey");
        let with_secret = |file: &str, secret: &[u8]| {
            fs::write(&path, secret).unwrap();
            open(testdata(file), &format!("FILE:{}", path.display()))
        };
        assert!(with_secret("sha1", b"secret").is_ok());
        assert!(with_secret("sha1", b"secret\r\n\n\r\n").is_ok());
        assert!(with_secret("sha1", b"secret\0x\n").is_ok());
        assert!(with_secret("plain", b"\n").is_ok());
        let wrong = with_secret("sha1", b"secret \n");
        assert!(matches!(wrong, Err(FileKeyError::WrongSecret { .. })));
        let wrong = with_secret("sha1", &[b'x'; 256]);
        assert!(matches!(wrong, Err(FileKeyError::WrongSecret { .. })));
        let wrong = with_secret("sha1", &[[b'x'; 256].as_slice(), b"\r\n"].concat());
        assert!(matches!(wrong, Err(FileKeyError::WrongSecret { .. })));
        let long = with_secret("sha1", &[b'x'; 257]);
        assert!(matches!(long, Err(FileKeyError::SecretTooLong { .. })));
        let empty = with_secret("plain", b"");
        assert!(matches!(empty, Err(FileKeyError::EmptySecret { .. })));
        let missing = with_secret("sha1", b"\n");
        assert!(matches!(missing, Err(FileKeyError::SecretMissing { .. })));
        let error = open(testdata("sha1"), "FILE:/nonexistent").unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent");
        // The prefix is taken in this form alone. Of 256 wrong secrets one decrypts to something: this
        // one does not.
        let lower = open(testdata("sha1"), "file:/nonexistent");
        assert!(matches!(lower, Err(FileKeyError::WrongSecret { .. })));
    }

    #[test]
    fn files_that_give_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let with_text = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            open(path.clone(), "").unwrap_err()
        };
        let key = "770A8A65DA156D24EE2A093277530142";
        let error = with_text(format!("2;{key}\n").as_bytes());
        assert!(matches!(error, FileKeyError::NoSystemKey { .. }));
        let error = with_text(format!("1;{key}\n\n2\n").as_bytes());
        let expected = format!("line 3 of key file {}: expected a key id", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        let error = with_text(&[format!("1;{key}\n").as_bytes(), &vec![b'\n'; 1 << 20]].concat());
        assert!(matches!(error, FileKeyError::TooLong { .. }));
        assert!(matches!(open(dir.path().into(), ""), Err(FileKeyError::Io { .. })));
        assert!(matches!(open(testdata("sha1"), ""), Err(FileKeyError::SecretMissing { .. })));
        assert!(matches!(open(testdata("plain"), "x"), Err(FileKeyError::NotEncrypted { .. })));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keys = open(testdata("plain"), "").unwrap();
        let expected = "FileKeys { keys: {1: Key(128 bits), 2: Key(128 bits)}, mode: Ctr }";
        assert_eq!(format!("{keys:?}"), expected);
        assert_eq!(format!("{:?}", Filekey::new(OsStr::new("secret")).unwrap()), "Filekey(..)");
    }
}
