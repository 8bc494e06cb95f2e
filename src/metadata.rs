//! The text files of a backup directory beside the data: their names by server series, range of
//! LSNs and state ([`Checkpoints`]), the options that prepare needs ([`BackupMyCnf`]), how the
//! backup was made ([`Info`]), the binary log position; what tablespace changed pages belong to
//! ([`SpaceMeta`]).
//!
//! The checkpoints file is written last, after everything else is on stable storage: a directory
//! without one is no backup, whatever else it holds. (The reference writes `backup-my.cnf` and the
//! info file after it, which no reader misses.) For people, and for what has not been synced yet
//! at a power loss, an unfinished backup has a mark of its own besides: [`incomplete`].

pub mod backup_cnf;
pub mod checkpoints;
pub mod corrupted_pages;
pub mod exported;
pub mod incomplete;
pub mod info;
pub mod my_cnf;
pub mod space_meta;

pub use backup_cnf::BackupCnf;
pub use checkpoints::{BackupType, Checkpoints, Found};
pub use corrupted_pages::CorruptedPages;
pub use info::Info;
pub use my_cnf::{BackupMyCnf, Plugins};
pub use space_meta::SpaceMeta;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use mdl::galera::GaleraPosition;
use mdl::position::BinlogPosition;
use mdl::replica::{Primary, ReplicaPosition};
use mdl::session::string_literal;

/// Longest metadata file that is read; real ones have a few hundred bytes.
const MAX_LEN: u64 = 1 << 20;

/// Names of the metadata files, which depend on the version of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataNames {
    /// Range of LSNs and state: [`Checkpoints`].
    pub checkpoints: &'static str,
    /// How the backup was made: [`Info`].
    pub info: &'static str,
    /// Binary log position: [`binlog_info`].
    pub binlog_info: &'static str,
    /// Where a replica continues.
    pub slave_info: &'static str,
    /// Galera state.
    pub galera_info: &'static str,
}

impl MetadataNames {
    /// Up to 11.0.
    pub const OLD: Self = Self {
        checkpoints: "xtrabackup_checkpoints",
        info: "xtrabackup_info",
        binlog_info: "xtrabackup_binlog_info",
        slave_info: "xtrabackup_slave_info",
        galera_info: "xtrabackup_galera_info",
    };
    /// From 11.1 on.
    pub const NEW: Self = Self {
        checkpoints: "mariadb_backup_checkpoints",
        info: "mariadb_backup_info",
        binlog_info: "mariadb_backup_binlog_info",
        slave_info: "mariadb_backup_slave_info",
        galera_info: "mariadb_backup_galera_info",
    };

    /// The names for a server of version `major.minor`.
    pub const fn for_version(major: u32, minor: u32) -> Self {
        if major > 11 || (major == 11 && minor >= 1) { Self::NEW } else { Self::OLD }
    }
}

/// Name of the file with the options that prepare needs: [`BackupMyCnf`].
pub const BACKUP_MY_CNF: &str = "backup-my.cnf";

/// Contents of the binlog info file.
pub fn binlog_info(at: &BinlogPosition) -> String {
    format!("{}\t{}\t{}\n", at.file, at.position, one_line(&at.gtid))
}

/// The position in the binary log in words, as the info file and the messages have it.
pub fn binlog_in_words(at: &BinlogPosition) -> String {
    let BinlogPosition { file, position, gtid } = at;
    if gtid.is_empty() {
        return format!("filename '{file}', position '{position}'");
    }
    let gtid = one_line(gtid);
    format!("filename '{file}', position '{position}', GTID of the last change '{gtid}'")
}

/// Contents of the slave info file: statements with which a copy becomes such a replica.
pub fn slave_info(at: &ReplicaPosition) -> String {
    let by_gtid = |primary: &Primary| primary.uses_gtid && !at.gtid.is_empty();
    let mut lines = Vec::new();
    if at.primaries.iter().any(by_gtid) {
        lines.push(format!("SET GLOBAL gtid_slave_pos = '{}';\n", one_line(&at.gtid)));
    }
    lines.extend(at.primaries.iter().map(|primary| {
        let Primary { connection, file, position, .. } = primary;
        let name = if connection.is_empty() {
            String::new()
        } else {
            format!("{} ", string_literal(connection))
        };
        if by_gtid(primary) {
            format!("CHANGE MASTER {name}TO master_use_gtid = slave_pos;\n")
        } else {
            format!("CHANGE MASTER {name}TO MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position};\n")
        }
    }));
    lines.concat()
}

/// Where a replica goes on in words, as the messages have it.
pub fn slave_in_words(at: &ReplicaPosition) -> String {
    let by_gtid = |primary: &Primary| primary.uses_gtid && !at.gtid.is_empty();
    let gtid = at.primaries.iter().any(by_gtid);
    let gtid = gtid.then(|| format!("gtid_slave_pos '{}'", one_line(&at.gtid)));
    let primaries = at.primaries.iter().map(|primary| {
        let Primary { connection, file, position, .. } = primary;
        if by_gtid(primary) {
            format!("master '{connection}' master_use_gtid = slave_pos")
        } else {
            format!("master '{connection}' filename '{file}' position '{position}'")
        }
    });
    gtid.into_iter().chain(primaries).collect::<Vec<_>>().join("; ")
}

/// Contents of the Galera info files.
pub fn galera_info(at: &GaleraPosition) -> String {
    format!("{}:{} {}\n", at.uuid, at.seqno, at.domain)
}

/// A second name of the Galera info file, from 10.6 on: the donor's state, which prepare leaves.
pub const DONOR_GALERA_INFO: &str = "donor_galera_info";

/// `text` without what would end its line.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// Reads a metadata file; bytes that are no UTF-8 become replacement characters.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= MAX_LEN, "{} is too long for such a file", path.display());
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_with_11_1() {
        for (major, minor) in [(10, 5), (10, 11), (11, 0)] {
            assert_eq!(MetadataNames::for_version(major, minor), MetadataNames::OLD);
        }
        for (major, minor) in [(11, 1), (11, 8), (12, 0), (13, 0)] {
            assert_eq!(MetadataNames::for_version(major, minor), MetadataNames::NEW);
        }
    }

    #[test]
    fn positions_read_as_those_of_the_reference() {
        let mut at =
            BinlogPosition { file: "mb.000001".into(), position: 6282, gtid: "0-1-33".into() };
        assert_eq!(binlog_info(&at), "mb.000001\t6282\t0-1-33\n");
        assert_eq!(
            binlog_in_words(&at),
            "filename 'mb.000001', position '6282', GTID of the last change '0-1-33'"
        );
        at.gtid = String::new();
        assert_eq!(binlog_info(&at), "mb.000001\t6282\t\n");
        assert_eq!(binlog_in_words(&at), "filename 'mb.000001', position '6282'");
    }

    #[test]
    fn a_long_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("too long"));
    }
}
