//! Paths in a stream.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The path meant by `bytes`, if it stays inside of the directory that it is relative to.
pub fn relative(bytes: &[u8]) -> Option<PathBuf> {
    if bytes.contains(&0) || bytes.last() == Some(&b'/') {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Whether a removal of `path` means `other`: the file, one in the folder; or, if `path` is the
/// beginning of paths (`is_prefix`), one that begins so and goes on without a slash.
pub fn is_removed(other: &Path, path: &Path, is_prefix: bool) -> bool {
    if !is_prefix {
        return other.starts_with(path);
    }
    let (bytes, prefix) = (other.as_os_str().as_bytes(), path.as_os_str().as_bytes());
    bytes.strip_prefix(prefix).is_some_and(|rest| !rest.contains(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_stay_inside() {
        for (bytes, path) in [
            ("ibdata1", "ibdata1"),
            ("./ibdata1", "ibdata1"),
            ("db/t.ibd", "db/t.ibd"),
            ("db//./t.ibd", "db/t.ibd"),
            ("..a/b..", "..a/b.."),
            (".hidden", ".hidden"),
        ] {
            assert_eq!(relative(bytes.as_bytes()), Some(PathBuf::from(path)), "{bytes}");
        }
    }

    #[test]
    fn paths_that_do_not() {
        for bytes in ["", ".", "./", "/etc/passwd", "..", "../x", "db/../x", "db/..", "a\0b", "db/"]
        {
            assert_eq!(relative(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
