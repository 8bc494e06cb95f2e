//! What describes tables, and the metadata of a backup.

use innodb::datadir::DataFilePath;
use mariabackup::metadata::{BackupMyCnf, Checkpoints, SpaceMeta};
use mdl::filename;
use mdl::frm::{Definition, partition_names};

/// `.frm` and `.par` files, names of tables.
pub fn definition(data: &[u8]) {
    let _ = Definition::parse(data);
    let _ = partition_names(data);
    let _ = filename::decode(&String::from_utf8_lossy(data));
}

/// `backup-my.cnf`, the checkpoints file, `.meta` files.
pub fn metadata(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(options) = BackupMyCnf::parse(&text) {
        let _ = options.render();
    }
    if let Ok(checkpoints) = Checkpoints::parse(&text) {
        let again = Checkpoints::parse(&checkpoints.render());
        assert!(again.is_ok_and(|again| again == checkpoints));
    }
    if let Ok(meta) = SpaceMeta::parse(&text) {
        let again = SpaceMeta::parse(&meta.render());
        assert!(again.is_ok_and(|again| again == meta));
    }
    if let Ok(files) = DataFilePath::parse(&text) {
        assert_eq!(DataFilePath::parse(&files.to_string()), Ok(files));
    }
}
