//! Which files a data directory has.
//!
//! ```text
//! DATADIR/ibdata1 ...          system tablespace: [`DataFilePath`], `innodb_data_home_dir`
//! DATADIR/undo001 ...          undo tablespaces, `innodb_undo_directory`
//! DATADIR/DATABASE/TABLE.ibd   tablespace of a table or partition
//! DATADIR/DATABASE/TABLE.isl   path of one in a `DATA DIRECTORY`
//! ```
//!
//! A listing ([`DatadirListing`]) looks at every entry once, so that one listing serves all
//! engines, and so that two of them show what changed in between.

mod data_file_path;
mod listing;

pub use data_file_path::{DataFile, DataFilePath, DataFilePathError, RawDevice};
pub use listing::{
    DatabaseDir, DatadirError, DatadirListing, Entry, EntryKind, FileIdentity, FoundFile,
    list_tablespaces, read_isl,
};

/// Undo tablespaces that a server may have.
const UNDO_FILES: std::ops::RangeInclusive<u32> = 1..=127;

/// Name of the `n`-th undo tablespace, from 1.
pub fn undo_file_name(n: u32) -> String {
    format!("undo{n:03}")
}

/// Whether `name` is that of an undo tablespace: `undo001` to `undo127`.
pub fn is_undo_file_name(name: &str) -> bool {
    name.strip_prefix("undo")
        .filter(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .is_some_and(|n| UNDO_FILES.contains(&n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_names() {
        assert_eq!(undo_file_name(1), "undo001");
        assert_eq!(undo_file_name(127), "undo127");
        assert!((1..=127).all(|n| is_undo_file_name(&undo_file_name(n))));
        for name in ["undo000", "undo128", "undo1", "undo0001", "undo+01", "Undo001", "undo", ""] {
            assert!(!is_undo_file_name(name), "{name}");
        }
    }
}
