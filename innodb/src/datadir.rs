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

/// Name of a file of the binary log that `InnoDB` keeps (12.3 and later), by its number from 0.
pub fn binlog_file_name(number: u64) -> String {
    format!("binlog-{number:06}.ibb")
}

/// Number of the file of that binary log called `name`; `None` if that is none.
pub fn binlog_file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("binlog-")?.strip_suffix(".ibb")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
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

    #[test]
    fn binlog_names() {
        assert_eq!(binlog_file_name(7), "binlog-000007.ibb");
        for number in [0, 7, 1_234_567] {
            assert_eq!(binlog_file_number(&binlog_file_name(number)), Some(number));
        }
        for name in ["binlog-.ibb", "binlog-+1.ibb", "binlog-1.ibb2", "binlog.000001", ""] {
            assert_eq!(binlog_file_number(name), None, "{name}");
        }
    }
}
