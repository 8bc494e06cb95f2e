//! Prepare on what `BACKUP SERVER` of 13 leaves, made from a stored backup: the log in files of an
//! archive, and no more of DDL than the log tells.

use std::os::unix::fs::PermissionsExt;

use innodb::Lsn;
use redo::archive::name_of_first_lsn;
use redo::file::LogFile;
use redo::header::HEADER_SIZE;

use super::*;
use crate::metadata::Checkpoints;

/// The smallest file that servers make.
const FILE_LEN: usize = 4 << 20;
/// The first file of the archive.
const FIRST: Lsn = Lsn(12_288);

/// The stored backup as an archive; the log as it was.
struct Archived {
    dir: tempfile::TempDir,
    start: Lsn,
    target: Lsn,
}

impl Archived {
    fn new() -> Self {
        let dir = backup();
        let path = dir.path();
        let log = fs::read(path.join("ib_logfile0")).unwrap();
        let file = LogFile::parse(&log[..HEADER_SIZE], log.len() as u64).unwrap();
        let checkpoint = file.checkpoint();
        let last_lsn = Checkpoints::find(path).unwrap().unwrap().checkpoints.last_lsn;
        // What is before the checkpoint does not matter.
        let mut bytes = vec![0; HEADER_SIZE];
        let offset = HEADER_SIZE as u64 + checkpoint.end_lsn.since(FIRST);
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        let before = usize::try_from(checkpoint.lsn.since(FIRST)).unwrap();
        bytes.resize(HEADER_SIZE + before, 0x5e);
        bytes.extend(&log[HEADER_SIZE..]);
        assert!(bytes.len() < FILE_LEN);
        bytes.resize(FILE_LEN, 0);
        let cnf = format!(
            "[server]\n# checkpoint={}\ninnodb_log_recovery_start={}\n\
             innodb_log_recovery_target={last_lsn}\n",
            checkpoint.lsn, checkpoint.end_lsn
        );
        for (name, contents) in [
            (name_of_first_lsn(FIRST), bytes.as_slice()),
            // Made ahead, with nothing in it.
            (name_of_first_lsn(next_file()), &vec![0; FILE_LEN]),
            ("backup.cnf".to_owned(), cnf.as_bytes()),
        ] {
            fs::write(path.join(name), contents).unwrap();
        }
        for name in [
            "ib_logfile0",
            "backup-my.cnf",
            "xtrabackup_checkpoints",
            "t/a1.ren",
            "t/a2.ren",
            "t/moved.ren",
            "t/late.new",
            "t/later.new",
            "t/trunc.new",
        ] {
            fs::remove_file(path.join(name)).unwrap();
        }
        Self { dir, start: checkpoint.end_lsn, target: last_lsn }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> PathBuf {
        self.path().join(name_of_first_lsn(FIRST))
    }

    /// Replaces a part of `backup.cnf`.
    fn edit(&self, from: &str, to: &str) {
        let path = self.path().join("backup.cnf");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

fn next_file() -> Lsn {
    Lsn(FIRST.0 + (FILE_LEN - HEADER_SIZE) as u64)
}

/// The lines of `expected` about data files, and what else there is.
fn data_files(contents: &str) -> (Vec<&str>, Vec<&str>) {
    contents.lines().partition(|line| line.contains(".ibd") || line.contains("ibdata"))
}

fn names<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect()
}

#[test]
fn the_result_is_that_of_the_other_form() {
    let archived = Archived::new();
    prepare(archived.path(), &super::super::storage::Disk).unwrap();
    let found = contents(archived.path());
    let expected = expected(BACKUP);
    let ((data, others), (expected, _)) = (data_files(&found), data_files(&expected));
    assert_eq!(data, expected);
    assert_eq!(
        names(&others),
        [
            "backup-my.cnf",
            "backup.cnf",
            "ib_logfile0",
            "mariadb_backup_checkpoints",
            "undo001",
            "undo002",
            "xtrabackup_binlog_pos_innodb"
        ]
    );
    let state = Checkpoints::find(archived.path()).unwrap().unwrap().checkpoints;
    assert_eq!(
        state.render(),
        format!(
            "backup_type = log-applied\nfrom_lsn = 0\nto_lsn = {}\nlast_lsn = {}\n\
             recover_binlog_info = 0\n",
            archived.start, archived.target
        )
    );
    let log = fs::read(archived.path().join("ib_logfile0")).unwrap();
    let log = LogFile::parse(&log[..HEADER_SIZE], log.len() as u64).unwrap();
    assert_eq!((log.creator(), log.checkpoint().lsn), ("Backup 13.0", Lsn(archived.target.0 - 16)));
    // Nothing happens again.
    prepare(archived.path(), &super::super::storage::Disk).unwrap();
    assert_eq!(contents(archived.path()), found);
}

#[test]
fn a_killed_run_can_be_repeated() {
    let whole = Archived::new();
    prepare(whole.path(), &super::super::storage::Disk).unwrap();
    assert_repeatable(&|| Archived::new().dir, &contents(whole.path()), None, 9);
}

/// `backup-prepare.cnf` has it; a run that was killed finds it there again.
#[test]
fn the_secret_of_the_key_file_is_not_written() {
    let archived = Archived::new();
    let text = format!(
        "[mariadbd]\ninnodb_page_size=4096\ninnodb_data_file_path=ibdata1:3M:autoextend\n\
         plugin-load-add=file_key_management.so\n\
         loose-file_key_management_filename={}/keys/testdata/sha1\n\
         loose-file_key_management_filekey=secret\n",
        env!("CARGO_MANIFEST_DIR")
    );
    fs::write(archived.path().join("backup-prepare.cnf"), text).unwrap();
    let options = PrepareOptions { keys: KeyOptions::default(), ..options(archived.path()) };
    run_on(&options, &Report::to_stderr(false), &super::super::storage::Disk).unwrap();
    let written = fs::read_to_string(archived.path().join("backup-my.cnf")).unwrap();
    assert!(written.contains("file_key_management_filename"), "{written}");
    assert!(!written.contains("=secret"), "{written}");
}

/// The server's own files are neither written nor cut, whatever their mode.
#[test]
fn links_to_files_of_the_server_stay_as_they_are() {
    for mode in [0o444, 0o644] {
        let archived = Archived::new();
        let server = tempfile::tempdir_in(archived.path().parent().unwrap()).unwrap();
        let linked = server.path().join("linked");
        fs::hard_link(archived.log(), &linked).unwrap();
        fs::set_permissions(&linked, fs::Permissions::from_mode(mode)).unwrap();
        let before = (fs::read(&linked).unwrap(), fs::metadata(&linked).unwrap());
        prepare(archived.path(), &super::super::storage::Disk).unwrap();
        assert!(!archived.log().exists());
        let after = fs::metadata(&linked).unwrap();
        assert!(fs::read(&linked).unwrap() == before.0);
        assert_eq!((after.mtime(), after.mode()), (before.1.mtime(), before.1.mode()));
        assert_eq!(data_files(&contents(archived.path())).0, data_files(&expected(BACKUP)).0);
    }
}

#[track_caller]
fn assert_archive_refused(damage: impl FnOnce(&Archived), message: &str) {
    let archived = Archived::new();
    damage(&archived);
    assert_refused_of(&archived.dir, |_| (), message);
}

#[test]
fn archives_that_do_not_fit_are_refused_before_the_first_write() {
    let remove = |name: &'static str| {
        move |archived: &Archived| fs::remove_file(archived.path().join(name)).unwrap()
    };
    let later = |archived: &Archived| {
        archived.edit(&format!("target={}", archived.target), "target=5000000");
    };
    let end = Archived::new().target;
    assert_archive_refused(
        later,
        &format!(
            "innodb_log_recovery_target=5000000 cannot be reached: the redo log ends at LSN {end}"
        ),
    );
    let cut = |archived: &Archived| {
        let mut bytes = fs::read(archived.log()).unwrap();
        let start = usize::try_from(archived.start.since(FIRST)).unwrap();
        bytes[HEADER_SIZE + start + 5_000..].fill(0);
        fs::write(archived.log(), bytes).unwrap();
    };
    assert_archive_refused(cut, "cannot be reached: the redo log ends at LSN 38");
    let inside = |archived: &Archived| {
        archived
            .edit(&format!("start={}", archived.start), &format!("start={}", archived.start.0 + 1));
    };
    assert_archive_refused(inside, "has no FILE_CHECKPOINT there");
    let early = |archived: &Archived| {
        archived.edit(&format!("start={}", archived.start), "start=12287");
    };
    assert_archive_refused(early, "begin with ib_0000000000003000.log");
    let other = |archived: &Archived| archived.edit("checkpoint=", "checkpoint=1");
    assert_archive_refused(other, "but the redo log has FILE_CHECKPOINT(");
    // Gaps, of two kinds.
    let gap = |archived: &Archived| {
        let next = archived.path().join(name_of_first_lsn(next_file()));
        fs::rename(&next, archived.path().join(name_of_first_lsn(Lsn(next_file().0 + 4096))))
            .unwrap();
    };
    assert_archive_refused(gap, "begin with ib_00000000004");
    let odd = |archived: &Archived| {
        File::options().write(true).open(archived.log()).unwrap().set_len(5 << 20).unwrap();
    };
    assert_archive_refused(odd, "begin with ib_00000000004");
    assert_archive_refused(
        |archived| {
            for name in [FIRST, next_file()].map(name_of_first_lsn) {
                fs::remove_file(archived.path().join(name)).unwrap();
            }
        },
        "has no file of the redo log (ib_*.log)",
    );
    assert_archive_refused(remove("backup.cnf"), "the directory is no backup");
    assert_archive_refused(remove("ibdata1"), "ibdata1");
    assert_archive_refused(
        |archived| {
            let other = Archived::new();
            fs::copy(other.log(), archived.path().join("ib_logfile0")).unwrap();
        },
        "BACKUP SERVER leaves no such file",
    );
    assert_archive_refused(
        |archived| archived.edit("innodb_log_recovery_start", "x"),
        "innodb_log_recovery_start is missing",
    );
    // A table that was there at the checkpoint.
    assert_archive_refused(remove("t/d.ibd"), "t/d.ibd) is not in the backup, and the redo log");
    assert_archive_refused(
        |archived| {
            fs::write(
                archived.path().join("backup-prepare.cnf"),
                "# mariadbd=/usr/sbin/mariadbd\n[mariadbd]\ninnodb_page_size=16384\n\
                 innodb_data_file_path=ibdata1:3M:autoextend\n",
            )
            .unwrap();
        },
        "its page size is 4096, that of the server 16384",
    );
}
