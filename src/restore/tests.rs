//! Restores of small made-up backups.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::run;
use crate::durable::same_contents;
use crate::options::{RestoreMode, RestoreOptions};
use crate::report::Report;

const CNF: &str = "[mysqld]\ninnodb_page_size=16384\n\
                   innodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend\n";
const PREPARED: &str = "backup_type = log-applied\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 2\n";

struct Case {
    dir: TempDir,
    options: RestoreOptions,
}

impl Case {
    /// A prepared backup in `DIR/backup`, to be restored to `DIR/data`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = RestoreOptions {
            tool_name: "mariabackup".into(),
            target_dir: dir.path().join("backup"),
            mode: RestoreMode::Copy,
            datadir: dir.path().join("data"),
            innodb_data_home_dir: None,
            innodb_data_file_path: None,
            innodb_undo_directory: None,
            innodb_log_group_home_dir: None,
            aria_log_dir_path: None,
            rocksdb_datadir: None,
            innodb_buffer_pool_filename: None,
            parallel: NonZeroUsize::new(3).unwrap(),
            force_non_empty_directories: false,
            force_unprepared: false,
            verbose: false,
        };
        let case = Self { dir, options };
        for (name, text) in [
            ("backup-my.cnf", CNF),
            ("xtrabackup_checkpoints", PREPARED),
            ("xtrabackup_binlog_info", "b\t1\t\n"),
            ("xtrabackup_info", "uuid = x\n"),
            ("ibdata1", "system 1"),
            ("ibdata2", "system 2"),
            ("ib_logfile0", "log"),
            ("undo001", "undo"),
            ("aria_log_control", "control"),
            ("aria_log.00000001", "aria"),
            ("ib_buffer_pool", "1,2"),
            ("d/db.opt", "default"),
            ("d/t.ibd", "table"),
            ("d/t.frm", "definition"),
            ("d/half.tmp", ""),
            ("#rocksdb/1.sst", "rocks"),
        ] {
            case.write(&format!("backup/{name}"), text);
        }
        fs::create_dir(case.path("backup/empty")).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn run(&self) -> anyhow::Result<()> {
        run(&self.options, &Report::to_stderr(false))
    }

    /// Runs, expects an error with `words`, and that no file changed.
    fn refused(&self, words: &str) {
        let before = tree(self.dir.path());
        let error = format!("{:#}", self.run().unwrap_err());
        assert!(error.contains(words), "{error}");
        assert_eq!(tree(self.dir.path()), before, "{error}");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }
}

/// Every path below `dir`, in order, with contents.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            found.push((path, b"link".to_vec()));
        } else if path.is_dir() {
            found.push((path.clone(), b"folder".to_vec()));
            found.extend(tree(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Names of files and empty folders below `dir`.
fn names(dir: &Path) -> Vec<String> {
    tree(dir)
        .into_iter()
        .filter(|(path, _)| !path.is_dir() || fs::read_dir(path).unwrap().next().is_none())
        .map(|(path, _)| path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned())
        .collect()
}

const RESTORED: [&str; 12] = [
    "#rocksdb/1.sst",
    "aria_log.00000001",
    "aria_log_control",
    "d/db.opt",
    "d/t.frm",
    "d/t.ibd",
    "empty",
    "ib_logfile0",
    "ibdata1",
    "ibdata2",
    "undo001",
    "xtrabackup_info",
];

#[test]
fn copies_what_the_server_needs_and_leaves_the_backup() {
    let case = Case::new();
    let before = tree(&case.path("backup"));
    case.run().unwrap();
    assert_eq!(names(&case.path("data")), RESTORED);
    assert_eq!(tree(&case.path("backup")), before);
    assert_eq!(case.read("data/d/t.ibd"), "table");
    assert_eq!(case.read("data/ibdata1"), "system 1");
    for (name, mode) in [("data", 0o700), ("data/d", 0o700), ("data/d/t.ibd", 0o640)] {
        assert_eq!(case.mode(name), mode, "{name}");
    }
    assert_eq!(case.mode("data/ibdata1"), 0o640);
}

#[test]
fn files_of_backup_server_stay_in_the_backup() {
    let case = Case::new();
    for name in ["backup.cnf", "backup-prepare.cnf"] {
        case.write(&format!("backup/{name}"), "[server]\n");
    }
    case.run().unwrap();
    assert_eq!(names(&case.path("data")), RESTORED);
}

#[test]
fn what_backup_server_leaves_must_be_prepared() {
    let mut case = Case::new();
    fs::remove_file(case.path("backup/xtrabackup_checkpoints")).unwrap();
    case.write("backup/backup.cnf", "[server]\n");
    for force in [false, true] {
        case.options.force_unprepared = force;
        case.refused("made by BACKUP SERVER, is not prepared; run --prepare first");
    }
}

#[test]
fn moves_all_but_the_metadata() {
    let mut case = Case::new();
    case.options.mode = RestoreMode::Move;
    let inode = fs::metadata(case.path("backup/d/t.ibd")).unwrap().ino();
    fs::set_permissions(case.path("backup/d/t.ibd"), fs::Permissions::from_mode(0o600)).unwrap();
    case.run().unwrap();
    assert_eq!(names(&case.path("data")), RESTORED);
    assert_eq!(fs::metadata(case.path("data/d/t.ibd")).unwrap().ino(), inode);
    assert_eq!(case.mode("data/d/t.ibd"), 0o600);
    assert_eq!(
        names(&case.path("backup")),
        [
            "#rocksdb",
            "backup-my.cnf",
            "d/half.tmp",
            "empty",
            "ib_buffer_pool",
            "xtrabackup_binlog_info",
            "xtrabackup_checkpoints"
        ]
    );
}

#[test]
fn every_kind_of_file_has_its_folder() {
    let mut case = Case::new();
    let outside = case.path("outside");
    case.options.innodb_data_home_dir = Some("home".into());
    case.options.innodb_data_file_path =
        Some(format!("ibdata1:12M;{}/ibdata2:12M:autoextend", outside.display()));
    case.options.innodb_undo_directory = Some("./".into());
    case.options.innodb_log_group_home_dir = Some(case.path("log"));
    case.options.aria_log_dir_path = Some(case.path("aria/deep"));
    case.options.rocksdb_datadir = Some("rocks".into());
    case.options.innodb_buffer_pool_filename = Some("pool".into());
    let remote = case.path("remote/d/t.ibd");
    case.write("backup/d/t.isl", &format!("{}\n", remote.display()));
    case.write("backup/undo128", "stray");
    case.run().unwrap();
    for name in [
        "data/home/ibdata1",
        "outside/ibdata2",
        "data/undo001",
        "data/undo128",
        "log/ib_logfile0",
        "aria/deep/aria_log_control",
        "aria/deep/aria_log.00000001",
        "data/rocks/1.sst",
        "data/pool",
        "remote/d/t.ibd",
        "data/d/t.isl",
        "data/d/t.frm",
    ] {
        assert!(case.path(name).is_file(), "{name}");
    }
    assert!(!case.path("data/d/t.ibd").exists());
    assert_eq!(case.mode("remote/d"), 0o700);
}

#[test]
fn nothing_is_written_where_anything_is_in_the_way() {
    let mut case = Case::new();
    case.write("data/note", "");
    case.refused(&format!("Original data directory {} is not empty!", case.path("data").display()));
    case.options.force_non_empty_directories = true;
    case.write("data/d/t.frm", "mine");
    case.refused("data/d/t.frm' (errno: 17 \"File exists\"); nothing was written");
    fs::remove_file(case.path("data/d/t.frm")).unwrap();
    symlink("nowhere", case.path("data/ibdata2")).unwrap();
    case.refused("data/ibdata2' (errno: 17");
    fs::remove_file(case.path("data/ibdata2")).unwrap();
    case.run().unwrap();
    assert_eq!(case.read("data/note"), "");
    assert_eq!(case.read("data/d/t.frm"), "definition");
}

#[test]
fn files_outside_of_the_datadir_are_looked_at_too() {
    let mut case = Case::new();
    let remote = case.path("remote/d/t.ibd");
    case.write("backup/d/t.isl", remote.to_str().unwrap());
    case.write("remote/d/t.ibd", "another table");
    case.refused("remote/d/t.ibd' (errno: 17");
    fs::remove_file(&remote).unwrap();

    let spec = format!("{}:12M;ibdata2:12M:autoextend", case.path("fast/ibdata1").display());
    case.options.innodb_data_file_path = Some(spec);
    case.write("fast/ibdata1", "another server");
    case.refused("fast/ibdata1' (errno: 17");
    fs::rename(case.path("fast/ibdata1"), case.path("fast/ibdata1.restoring")).unwrap();
    case.refused("fast/ibdata1.restoring' (errno: 17");
    fs::remove_dir_all(case.path("fast")).unwrap();
    fs::write(case.path("fast"), "a file").unwrap();
    case.refused("is no directory");
}

#[test]
fn only_a_prepared_backup_is_restored() {
    let mut case = Case::new();
    let checkpoints = case.path("backup/xtrabackup_checkpoints");
    case.write("backup/xtrabackup_checkpoints", &PREPARED.replace("log-applied", "incremental"));
    case.refused("is an incremental backup");
    case.options.force_unprepared = true;
    case.refused("is an incremental backup");
    for text in [PREPARED.replace("log-applied", "full-backuped"), "rubbish".into(), String::new()]
    {
        fs::write(&checkpoints, text).unwrap();
        case.options.force_unprepared = false;
        case.refused("--force-unprepared");
    }
    fs::remove_file(&checkpoints).unwrap();
    case.refused("holds no finished backup");
    case.options.force_unprepared = true;
    case.run().unwrap();
    assert_eq!(case.read("data/ibdata1"), "system 1");
}

#[test]
fn a_backup_that_is_not_whole_is_refused() {
    for (missing, words) in [
        ("ibdata2", "ibdata2 is missing"),
        ("ib_logfile0", "ib_logfile0 is missing"),
        ("backup-my.cnf", "--innodb-data-file-path"),
    ] {
        let case = Case::new();
        fs::remove_file(case.path("backup").join(missing)).unwrap();
        case.refused(words);
    }
    let mut case = Case::new();
    case.options.innodb_data_file_path = Some("ibdata1:12M:autoextend".into());
    case.refused("names must be the same");
    let case = Case::new();
    case.write("backup/d/u.ibd.qp", "packed");
    case.refused("d/u.ibd.qp is compressed");
    let mut case = Case::new();
    case.options.target_dir = case.path("none");
    case.refused("open backup");
    let case = Case::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, case.path("backup/d/pipe"), 0o600.into()).unwrap();
    let error = run(&case.options, &Report::to_stderr(false)).unwrap_err().to_string();
    assert!(error.contains("neither file nor folder"), "{error}");
    assert!(!case.path("data").exists());
}

#[test]
fn two_files_never_become_one() {
    let mut case = Case::new();
    case.options.innodb_data_home_dir = Some("d".into());
    case.write("backup/d/ibdata2", "a table?");
    case.refused("would both become");
    let mut case = Case::new();
    case.options.innodb_undo_directory = Some("d/t.ibd".into());
    case.refused("must be a file and a folder");
}

#[test]
fn links_of_a_backup_lead_nowhere_else() {
    for (text, words) in [
        ("/etc/cron.d/x", "is no place for d/t.ibd"),
        ("/remote/d/u.ibd", "is no place for d/t.ibd"),
        ("remote/d/t.ibd", "is no place for d/t.ibd"),
        ("/x/../etc/d/t.ibd", "has a path with `..`"),
        ("", "names no path"),
    ] {
        let case = Case::new();
        case.write("backup/d/t.isl", text);
        case.refused(words);
    }
    let mut case = Case::new();
    fs::create_dir(case.path("backup/d/deep")).unwrap();
    symlink(case.path("backup"), case.path("backup/d/deep/er")).unwrap();
    case.refused("is a link to a folder");
    fs::remove_dir_all(case.path("backup/d/deep")).unwrap();
    fs::rename(case.path("backup/undo001"), case.path("u")).unwrap();
    symlink(case.path("u"), case.path("backup/undo001")).unwrap();
    case.options.mode = RestoreMode::Move;
    case.refused("is a link, which cannot be moved");
    case.options.mode = RestoreMode::Copy;
    case.run().unwrap();
    assert!(!case.path("data/undo001").is_symlink());
    assert_eq!(case.read("data/undo001"), "undo");
}

#[test]
fn a_datadir_inside_the_backup_is_refused() {
    let mut case = Case::new();
    case.options.datadir = case.path("backup/new");
    case.refused("is inside the backup");
    case.options.datadir = case.path("data/../backup/new");
    case.refused("has `..` below a folder that does not exist");
    case.options.datadir = case.path("backup/../backup/new");
    case.refused("is inside the backup");
    symlink(case.path("backup"), case.path("link")).unwrap();
    case.options.datadir = case.path("link/new");
    case.refused("is inside the backup");
}

#[test]
fn a_relative_datadir_is_below_the_current_directory() {
    let mut case = Case::new();
    let current = std::env::current_dir().unwrap();
    let mut up: PathBuf = current.components().skip(1).map(|_| "..").collect();
    up.push(case.path("data").strip_prefix("/").unwrap());
    assert!(up.is_relative());
    case.options.datadir = up;
    case.options.innodb_undo_directory = Some("undo".into());
    case.run().unwrap();
    assert_eq!(case.read("data/undo/undo001"), "undo");
    assert_eq!(case.read("data/ibdata1"), "system 1");
}

#[test]
fn big_files_are_copied_by_all_threads_with_their_holes() {
    let case = Case::new();
    let big = fs::File::create(case.path("backup/d/big.ibd")).unwrap();
    let len = ((3 * 64) << 20) + 12_345;
    for piece in 0..25_u8 {
        big.write_all_at(&vec![piece + 1; 200_000], u64::from(piece) * (8 << 20)).unwrap();
    }
    big.set_len(len).unwrap();
    for i in 0..40 {
        case.write(&format!("backup/many/t{i}.ibd"), &"x".repeat(i * 1000));
    }
    case.run().unwrap();
    let copy = case.path("data/d/big.ibd");
    assert!(same_contents(&case.path("backup/d/big.ibd"), &copy).unwrap());
    let metadata = fs::metadata(&copy).unwrap();
    assert_eq!(metadata.len(), len);
    assert!(metadata.blocks() * 512 < 16 << 20, "{} blocks", metadata.blocks());
    for i in 0..40 {
        assert_eq!(case.read(&format!("data/many/t{i}.ibd")).len(), i * 1000);
    }
}

#[test]
fn moves_to_another_file_system() {
    let mut case = Case::new();
    let other = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is needed by this test");
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(other.path()), device(case.dir.path()), "/dev/shm is no other file system");
    case.options.mode = RestoreMode::Move;
    case.options.datadir = other.path().join("data");
    case.options.innodb_log_group_home_dir = Some(case.path("log"));
    case.run().unwrap();
    let mut restored = RESTORED.to_vec();
    restored.retain(|name| *name != "ib_logfile0");
    assert_eq!(names(&case.options.datadir), restored);
    assert_eq!(case.read("log/ib_logfile0"), "log");
    assert_eq!(fs::read(case.options.datadir.join("ibdata1")).unwrap(), b"system 1");
    let left = names(&case.path("backup"));
    assert!(
        !left.iter().any(|name| RESTORED.contains(&name.as_str()) && name != "empty"),
        "{left:?}"
    );
}

#[test]
fn a_failed_copy_is_undone() {
    let mut case = Case::new();
    fs::create_dir(case.path("data")).unwrap();
    let before = tree(case.dir.path());
    // Too long a name, which no check foresees; it is the last but one.
    case.options.innodb_buffer_pool_filename = Some("x".repeat(300));
    for mode in [RestoreMode::Copy, RestoreMode::Move] {
        case.options.mode = mode;
        let error = format!("{:#}", case.run().unwrap_err());
        assert!(error.starts_with("restore, undone completely: "), "{error}");
        assert!(error.contains("ib_buffer_pool") && error.contains("too long"), "{error}");
        assert_eq!(tree(case.dir.path()), before);
    }
}

#[test]
fn root_gives_the_files_to_the_owner_of_the_datadir() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away; the others' files are their own.
        let case = Case::new();
        case.run().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(fs::metadata(case.path("data/ibdata1")).unwrap().uid(), uid);
        return;
    }
    for mode in [RestoreMode::Copy, RestoreMode::Move] {
        let mut case = Case::new();
        case.options.mode = mode;
        case.options.innodb_undo_directory = Some(case.path("undo"));
        fs::create_dir(case.path("data")).unwrap();
        std::os::unix::fs::chown(case.path("data"), Some(1234), Some(1235)).unwrap();
        case.run().unwrap();
        for name in ["data/ibdata1", "data/d", "data/d/t.ibd", "undo", "undo/undo001"] {
            let metadata = fs::metadata(case.path(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235), "{name}");
        }
    }
}
