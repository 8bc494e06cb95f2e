//! What an incremental backup is based on: from which LSN on pages count as changed, and whether
//! the base can be one of this server.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow, ensure};
use innodb::Lsn;
use innodb::datadir::DataFilePath;
use innodb::doublewrite::{Doublewrite, TRX_SYS_PAGE_NO};
use innodb::page::Page;
use mdl::facts::ServerFacts;
use mdl::session::Session;

use super::first_page::{self, FirstPage};
use super::history::History;
use super::source_file::SourceFile;
use crate::hint::WithHint;
use crate::metadata::{BACKUP_MY_CNF, BackupMyCnf, Checkpoints, MetadataNames, incomplete, info};
use crate::options::{IncrementalBase, RecordKey};
use crate::report::Report;

/// Pages of the system tablespace that are compared with those of the base.
const COMPARED: u32 = 1024;
/// Pages that must contradict: of one that was freed the server does not write the last changes.
const PROOF: usize = 3;

/// The base of an incremental backup.
#[derive(Debug)]
pub struct Base {
    /// It has all changes up to here.
    pub lsn: Lsn,
    /// When it was begun, if that is known.
    pub time: Option<SystemTime>,
    /// Where it is, if that is known.
    dir: Option<PathBuf>,
}

impl Base {
    /// Finds it where that needs no server; `None`: it is to be [`recorded`](Self::recorded) there.
    ///
    /// # Errors
    ///
    /// A directory without a finished backup.
    pub fn find(base: &IncrementalBase) -> anyhow::Result<Option<Self>> {
        match base {
            IncrementalBase::Lsn(lsn) => Ok(Some(Self { lsn: *lsn, time: None, dir: None })),
            IncrementalBase::Recorded(_) => Ok(None),
            IncrementalBase::Dir(dir) => Self::in_dir(dir)
                .map(Some)
                .context("find the base of the incremental backup")
                .hint("--incremental-basedir is the directory of the backup before this one, or of its --extra-lsndir"),
        }
    }

    /// The recorded backup that `key` names.
    ///
    /// # Errors
    ///
    /// The server has recorded none.
    pub fn recorded(
        key: &RecordKey,
        facts: &ServerFacts,
        session: &mut Session,
        report: &Report,
    ) -> anyhow::Result<Self> {
        let (lsn, time) = History::of(&facts.version).find(session, key, report)?;
        Ok(Self { lsn, time, dir: None })
    }

    fn in_dir(dir: &Path) -> anyhow::Result<Self> {
        incomplete::refuse(dir)?;
        let found = Checkpoints::find_finished(dir)?;
        let time = [MetadataNames::NEW, MetadataNames::OLD]
            .iter()
            .find_map(|names| info::start_time(&dir.join(names.info)));
        Ok(Self { lsn: found.checkpoints.to_lsn, time, dir: Some(dir.to_path_buf()) })
    }

    /// Refuses a base that this server cannot have made, as far as that can be told.
    ///
    /// # Errors
    ///
    /// What speaks against it, or that a file cannot be read.
    pub fn check(
        &self,
        facts: &ServerFacts,
        session: &mut Session,
        report: &Report,
    ) -> anyhow::Result<()> {
        report.say(format_args!("incremental backup from {} is enabled.", self.lsn));
        let Some(current) = mdl::position::innodb_lsn_current(session)? else {
            // Without InnoDB there are no pages.
            return Ok(());
        };
        if self.lsn > current {
            return Err(anyhow!(
                "the base of the incremental backup goes up to LSN {}, but the server is at LSN \
                 {current}: it is not a backup of this server, or the server was set back since",
                self.lsn
            ))
            .hint("give the newest backup of this very server, or take a full backup");
        }
        if self.time.is_none() {
            report.say(
                "Warning: it is not known when the base was taken: tables that were imported since \
                 (ALTER TABLE ... IMPORT TABLESPACE) are not recognised. Give the base by \
                 --incremental-basedir.",
            );
        }
        let Some(dir) = &self.dir else { return Ok(()) };
        let result = check_options(dir, facts)
            .and_then(|()| self.check_pages(dir, facts))
            .with_context(|| format!("{} cannot be the base", dir.display()));
        result.hint("give the newest backup of this very server, or take a full backup")
    }

    /// Compares pages of the system tablespace, where the base has it, with the server's.
    fn check_pages(&self, dir: &Path, facts: &ServerFacts) -> anyhow::Result<()> {
        let files = DataFilePath::parse(&facts.innodb_data_file_path)
            .with_context(|| format!("understand {}", facts.innodb_data_file_path))?;
        let Some(first) = files.files().first() else { return Ok(()) };
        let path = facts.data_home_dir().join(first.path());
        let copy = match File::open(dir.join(first.name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("open {} of the base", first.name()))?,
        };
        let server = SourceFile::open(&path).with_context(|| format!("open {}", path.display()))?;
        let read = || format!("read {}", path.display());
        let header = first_page::read(&server, facts.checksum_algorithm).with_context(read)?;
        let FirstPage::Header(header) = header else { return Ok(()) };
        let size = header.flags().page_size();
        let mut page = vec![0; size.physical()];
        server.read_at(&mut page, size.offset(TRX_SYS_PAGE_NO)).with_context(read)?;
        let doublewrite = Doublewrite::parse(&page, size);
        // What stands in the doublewrite area has the LSNs of other pages.
        let own = |number: &u32| !doublewrite.as_ref().is_ok_and(|area| area.contains(*number));
        let mut before = vec![0; size.physical()];
        let mut older = Vec::new();
        for number in (0..COMPARED).filter(own) {
            let offset = size.offset(number);
            let got = server.read_at(&mut page, offset).with_context(read)?;
            if got < page.len() || !read_page(&copy, &mut before, offset)? {
                break;
            }
            let lsn = |bytes: &[u8]| Page::new(bytes).map_or(Lsn(0), |page| page.lsn());
            if is_older(lsn(&page), lsn(&before), self.lsn) {
                older.push(number);
            }
        }
        ensure!(
            older.len() < PROOF,
            "it is of another server, or of another past of this one: the server has older \
             versions of {} pages of {}, such as page {}",
            older.len(),
            first.name(),
            older.first().copied().unwrap_or_default()
        );
        Ok(())
    }
}

/// Whether the server has a page with LSN `now` that has `before` in a base up to LSN `base`: the
/// server had written all changes up to there. A page that was freed can have become zeros.
fn is_older(now: Lsn, before: Lsn, base: Lsn) -> bool {
    now > Lsn(0) && now < before && before <= base
}

/// Fills `page`; false at the end of the file.
fn read_page(file: &File, page: &mut [u8], offset: u64) -> anyhow::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    match file.read_exact_at(page, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).context("read the system tablespace of the base"),
    }
}

/// Compares what cannot change in the life of a server.
fn check_options(dir: &Path, facts: &ServerFacts) -> anyhow::Result<()> {
    // Beside the metadata of --extra-lsndir there is none.
    if !dir.join(BACKUP_MY_CNF).exists() {
        return Ok(());
    }
    let options = BackupMyCnf::read(dir)?;
    let size = usize::try_from(options.page_size)?;
    ensure!(
        size == facts.innodb_page_size,
        "it has pages of {size} bytes, the server of {}",
        facts.innodb_page_size
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FULL: &str =
        "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45441\nlast_lsn = 286330\n";

    #[test]
    fn directory_with_a_finished_backup_is_a_base() {
        let dir = tempfile::tempdir().unwrap();
        let find = || Base::find(&IncrementalBase::Dir(dir.path().to_path_buf()));
        let error = format!("{:#}", find().unwrap_err());
        assert!(error.contains("holds no finished backup"), "{error}");
        for name in ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"] {
            let path = dir.path().join(name);
            fs::write(&path, FULL).unwrap();
            let base = find().unwrap().unwrap();
            assert_eq!((base.lsn, base.time), (Lsn(45441), None));
            fs::write(&path, FULL.replace("to_lsn = 45441", "to_lsn = x")).unwrap();
            let error = format!("{:#}", find().unwrap_err());
            assert!(error.contains(name) && error.contains("to_lsn is \"x\""), "{error}");
            fs::remove_file(&path).unwrap();
        }
        fs::write(dir.path().join("xtrabackup_checkpoints"), FULL).unwrap();
        fs::write(dir.path().join("xtrabackup_info"), "start_time = 2026-11-21 11:58:20\n")
            .unwrap();
        assert!(find().unwrap().unwrap().time.is_some());
        fs::write(dir.path().join("mariabackup_incomplete"), "").unwrap();
        let error = format!("{:#}", find().unwrap_err());
        assert!(error.contains("not a complete backup"), "{error}");
    }

    #[test]
    fn the_server_never_has_an_older_page_than_a_base_of_its_own() {
        for (now, before, expected) in [
            (50, 50, false),
            (90, 50, false),
            (40, 50, true),
            (40, 100, true),
            // Not written by the server yet, but in the log of the base.
            (40, 101, false),
            (40, 0, false),
            (0, 50, false),
        ] {
            assert_eq!(is_older(Lsn(now), Lsn(before), Lsn(100)), expected, "{now} {before}");
        }
    }
}
