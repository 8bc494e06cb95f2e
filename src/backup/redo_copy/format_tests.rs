//! Logs of every format, as real servers wrote them.

use std::sync::Arc;

use innodb::encrypted::CipherMode;
use redo::file::LogFile;
use redo::reader::Reader;
use tempfile::TempDir;

use super::tests::Sink;
use super::*;

#[path = "../../../redo/tests/keys/mod.rs"]
mod test_keys;
use test_keys::TestKeys;

const CREATOR: &str = "Backup 10.11.19";
const LONG: Duration = Duration::from_secs(20);

/// The start of a log file of 4 MiB, and how it is encrypted.
pub(super) const LOGS: [(&[u8], Option<CipherMode>); 6] = [
    (include_bytes!("../../../redo/testdata/10.5/ib_logfile0.head"), None),
    (include_bytes!("../../../redo/testdata/10.5/backup-log-cbc"), Some(CipherMode::Cbc)),
    (include_bytes!("../../../redo/testdata/10.5/backup-log-ctr"), Some(CipherMode::Ctr)),
    (include_bytes!("../../../redo/testdata/10.11/ib_logfile0.head"), None),
    (include_bytes!("../../../redo/testdata/10.11/backup-log-cbc"), Some(CipherMode::Cbc)),
    (include_bytes!("../../../redo/testdata/10.11/backup-log-ctr"), Some(CipherMode::Ctr)),
];

pub(super) fn keys(mode: CipherMode) -> Arc<dyn KeySource> {
    Arc::new(TestKeys::new(mode))
}

/// End and records of each mini-transaction from the checkpoint on.
pub(super) fn mtrs(bytes: &[u8], mode: Option<CipherMode>) -> Vec<(Lsn, String)> {
    let keys = mode.map(keys);
    let log = LogFile::parse(bytes, bytes.len() as u64).unwrap();
    let reader = Reader::new(bytes, &log, keys.as_deref());
    let mut mtrs = reader.mtrs(log.checkpoint().lsn).unwrap();
    let mut found = Vec::new();
    while let Some(mtr) = mtrs.next().unwrap() {
        let records: Vec<_> = mtr.records().map(Result::unwrap).collect();
        found.push((mtr.end(), format!("{records:?}")));
    }
    found
}

/// The log file of a server that does not write any more.
fn file(dir: &TempDir, log: &[u8]) -> (PathBuf, Vec<u8>) {
    let mut bytes = log.to_vec();
    bytes.resize(4 << 20, 0);
    let path = dir.path().join("ib_logfile0");
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

#[test]
fn logs_of_every_format_are_copied() {
    for (number, (log, mode)) in LOGS.into_iter().enumerate() {
        let dir = TempDir::new().unwrap();
        let (path, bytes) = file(&dir, log);
        let expected = mtrs(&bytes, mode);
        assert!(expected.len() > 400, "{number}: {}", expected.len());
        let limit = expected.last().map_or(Lsn(0), |(end, _)| *end);
        let sink = Sink::default();
        let (copier, events) =
            RedoCopier::start(&path, CREATOR, mode.map(keys), sink.clone()).unwrap();
        copier.set_limit(limit).unwrap();
        let (whole, _) = copier.drain(LONG).unwrap();
        assert_eq!(whole.end_lsn, limit);
        let copy = sink.0.lock().unwrap();
        assert!(mtrs(&copy, mode) == expected, "{number}");
        // Names in encrypted logs were decrypted.
        let is_named = |event: FileEvent| match event.change {
            FileChange::Modify { path } | FileChange::Create { path } => path.starts_with("./t"),
            _ => false,
        };
        assert!(events.try_iter().any(is_named), "{number}");
    }
}

#[test]
fn keys_that_are_missing_or_do_not_fit() {
    for (log, mode) in LOGS {
        let Some(mode) = mode else { continue };
        let dir = TempDir::new().unwrap();
        let (path, _) = file(&dir, log);
        let start = |keys| RedoCopier::start(&path, CREATOR, keys, Sink::default());
        let error = start(None).err().unwrap();
        assert!(matches!(error, RedoCopyError::NoKeys), "{error}");
        assert!(error.to_string().contains("key 1"));
        let none: Arc<dyn KeySource> = Arc::new(TestKeys { mode, newest: 0 });
        let error = start(Some(none)).err().unwrap();
        assert!(matches!(error, RedoCopyError::Key(_)), "{error}");
        assert!(error.to_string().contains("key 1"));
        let other = if mode == CipherMode::Cbc { CipherMode::Ctr } else { CipherMode::Cbc };
        let (copier, _events) = start(Some(keys(other))).unwrap();
        let result = copier.wait_for(Lsn(u64::MAX), Duration::from_millis(200));
        // Blocks that mean nothing are waited for, as half written ones are.
        assert!(!matches!(result, Ok(true)), "{mode:?}");
    }
}
