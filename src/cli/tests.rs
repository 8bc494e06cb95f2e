//! Whole command lines and option files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use innodb::Lsn;
use mdl::holders::QueryType;
use mdl::session::Protocol;
use mdl::stage::{LockKind, LockOptions};
use proptest::prelude::*;

use super::*;
use crate::compression::Compression;
use crate::keys_source::KeyOptions;
use crate::options::{
    BackupOptions, IncrementalBase, LongQueries, PrepareOptions, RecordKey, RestoreMode,
    RestoreOptions,
};

/// An environment without any option file, whose working directory is `/start`.
fn bare() -> Environment {
    Environment {
        variables: [("HOME".to_owned(), "/nonexistent".into())].into(),
        directory: "/start".into(),
        usual_files: Vec::new(),
        interactive: false,
    }
}

fn parse_in(environment: &Environment, words: &[&str]) -> Invocation {
    let arguments: Vec<OsString> = ["prog"].iter().chain(words).map(OsString::from).collect();
    parse(&arguments, environment)
}

/// Exit code and lines of a refused command line.
fn refused_in(environment: &Environment, words: &[&str]) -> (u8, String) {
    match parse_in(environment, words).action {
        Err(error) => (error.exit_code(), error.lines("prog", "NOW")),
        Ok(_) => panic!("{words:?} is accepted"),
    }
}

fn refused(words: &[&str]) -> (u8, String) {
    refused_in(&bare(), words)
}

fn command_in(environment: &Environment, words: &[&str]) -> (Command, Vec<String>) {
    let invocation = parse_in(environment, words);
    match invocation.action {
        Ok(Action::Run { command, .. }) => (command, invocation.warnings),
        Ok(_) => panic!("{words:?} runs nothing"),
        Err(error) => panic!("{words:?}: {error}"),
    }
}

fn backup_in(environment: &Environment, words: &[&str]) -> BackupOptions {
    match command_in(environment, &[words, &["--backup"]].concat()).0 {
        Command::Backup(options) => *options,
        _ => panic!("{words:?} is no backup"),
    }
}

fn backup(words: &[&str]) -> BackupOptions {
    backup_in(&bare(), words)
}

fn prepare(words: &[&str]) -> PrepareOptions {
    match command_in(&bare(), &[words, &["--prepare"]].concat()).0 {
        Command::Prepare(options) => *options,
        _ => panic!("{words:?} is no prepare"),
    }
}

fn restore_in(environment: &Environment, words: &[&str]) -> RestoreOptions {
    match command_in(environment, words).0 {
        Command::Restore(options) => *options,
        _ => panic!("{words:?} is no restore"),
    }
}

fn warnings(words: &[&str]) -> Vec<String> {
    command_in(&bare(), words).1
}

/// Words, exit code, lines.
fn check_refusals(cases: &[(&[&str], u8, &str)]) {
    for (words, code, lines) in cases {
        assert_eq!(refused(words), (*code, (*lines).to_owned()), "{words:?}");
    }
}

/// A folder with option files; files are named by `my.cnf` or another name.
struct Files {
    folder: tempfile::TempDir,
    environment: Environment,
}

impl Files {
    fn new(my_cnf: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = bare();
        environment.usual_files = vec![folder.path().join("my.cnf")];
        let files = Self { folder, environment };
        files.write("my.cnf", my_cnf);
        files
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn the_base_is_an_lsn_or_a_directory() {
    let base = |words: &[&str]| backup(&[words, &["--backup"]].concat()).incremental;
    assert_eq!(base(&[]), None);
    for text in ["007", "+7", " 7"] {
        let option = format!("--incremental-lsn={text}");
        assert_eq!(base(&[&option]), Some(IncrementalBase::Lsn(Lsn(7))));
        assert_eq!(base(&["--incremental-basedir=/b", &option]), base(&[&option]));
    }
    assert_eq!(base(&["--incremental-basedir=/b"]), Some(IncrementalBase::Dir("/b".into())));
    let name = |name: &str| Some(IncrementalBase::Recorded(RecordKey::Name(name.to_owned())));
    assert_eq!(base(&["--incremental-history-name=n"]), name("n"));
    // That of backups with --history alone; never a full backup.
    assert_eq!(base(&["--incremental-history-name="]), name(""));
    let uuid = IncrementalBase::Recorded(RecordKey::Uuid("u".to_owned()));
    assert_eq!(base(&["--incremental-history-uuid=u"]), Some(uuid));
    for first in ["--incremental-lsn=7", "--incremental-basedir=/b"] {
        assert_eq!(base(&["--incremental-history-name=n", first]), base(&[first]));
    }
}

#[test]
fn a_backup_is_recorded_by_a_name() {
    let history = |words: &[&str]| backup(&[words, &["--backup"]].concat()).history;
    assert_eq!(history(&[]), None);
    assert_eq!(history(&["--history"]), Some(String::new()));
    assert_eq!(history(&["--history=week 3"]), Some("week 3".to_owned()));
    assert_eq!(history(&["--history=n", "--skip-history"]), None);
    let longest = "ä".repeat(255);
    assert_eq!(history(&[&format!("--history={longest}")]), Some(longest.clone()));
    for name in [format!("{longest}x"), "\u{1F600}".to_owned()] {
        let (code, text) = refused(&["--backup", &format!("--history={name}")]);
        assert_eq!(code, 1);
        assert!(text.contains("--history is longer than 255 characters"), "{text}");
    }
}

#[test]
fn misspelt_options_have_their_message_and_exit_code() {
    check_refusals(&[
        (&["--nosuch"], 2, "prog: unknown option '--nosuch'"),
        (&["--nosuch=1"], 7, "prog: unknown variable 'nosuch=1'"),
        (&["-z"], 2, "prog: unknown option '-z'"),
        (&["-Vz"], 2, "prog: unknown option '-z'"),
        (&["--back"], 2, "prog: unknown option '--back'"),
        (&["--skip-nosuch"], 2, "prog: unknown option '--skip-nosuch'"),
        (&["--maximum-nosuch=5"], 7, "prog: unknown variable 'maximum-nosuch=5'"),
        (&["--include=x"], 7, "prog: unknown variable 'include=x'"),
        (&["--target-dir"], 5, "prog: option '--target-dir' requires an argument"),
        (&["-u"], 5, "prog: option '-u' requires an argument"),
        (&["--core-file=1"], 4, "prog: option '--core-file' cannot take an argument"),
        (&["--binlog-info=foo"], 13, "prog: Error while setting value 'foo' to 'binlog-info'"),
        (
            &["--autoset-parallel"],
            13,
            "prog: automatic setup request is unsupported by option '--parallel'",
        ),
        (&["--prepare", "foo"], 1, "[00] NOW mariabackup: Error: unknown argument: 'foo'"),
        (
            &["--backup", "--", "--user=x"],
            1,
            "[00] NOW mariabackup: Error: unknown argument: '--user=x'",
        ),
        (&["--history", "foo"], 1, "[00] NOW mariabackup: Error: unknown argument: 'foo'"),
        (&["--skip-stream", "--backup"], 1, "[00] NOW Invalid --stream argument: 0"),
        (&["--backup", "--compress=x"], 1, "[00] NOW Invalid --compress argument: x"),
        (&["--backup", "--compress="], 1, "[00] NOW Invalid --compress argument: "),
        (
            &["--autoset-user"],
            13,
            "prog: automatic setup request is unsupported by option '--user'",
        ),
        (
            &["--protocol="],
            1,
            "No option given to protocol\nAlternatives are: 'TCP','SOCKET','PIPE'",
        ),
        (
            &["--protocol=foo"],
            1,
            "Unknown option to protocol: foo\nAlternatives are: 'TCP','SOCKET','PIPE'",
        ),
    ]);
}

#[test]
fn misplaced_and_contradicting_options_have_theirs() {
    check_refusals(&[
        (
            &["--backup", "--defaults-file=/x"],
            1,
            "[00] FATAL ERROR: NOW --defaults-file must be specified first on the command line",
        ),
        (
            &["--no-defaults", "--defaults-extra-file=/x"],
            1,
            "[00] FATAL ERROR: NOW --defaults-extra-file must be specified first on the command line",
        ),
        (&["--backup", "--no-defaults"], 2, "prog: unknown option '--no-defaults'"),
        (
            &["--verbose", "--defaults-group-suffix=x"],
            7,
            "prog: unknown variable 'defaults-group-suffix=x'",
        ),
        (&["--defaults-file"], 2, "prog: unknown option '--defaults-file'"),
        (
            &["--defaults-file=/nonexistent/f"],
            1,
            "Could not open required defaults file: /nonexistent/f\nFatal error in defaults \
             handling. Program aborted",
        ),
        (
            &["--prepare", "--copy-back"],
            1,
            "[00] NOW Error: --copy-back and --apply-log are mutually exclusive",
        ),
        (
            &["--apply-log", "--move-back"],
            1,
            "[00] NOW Error: --move-back and --apply-log are mutually exclusive",
        ),
        (
            &["--copy-back", "--decompress"],
            1,
            "[00] NOW Error: --decompress and --copy-back are mutually exclusive",
        ),
        (
            &["--datadir=./", "--copy-back"],
            1,
            "[00] NOW mariabackup: Error: Please set parameter 'datadir'",
        ),
        (
            &["--innodb-force-recovery=1", "--backup"],
            1,
            "[00] NOW mariabackup: The option \"innodb_force_recovery\" should only be used with \
             \"--prepare\".",
        ),
        (
            &["--innodb-log-write-ahead-size=600", "--backup"],
            1,
            "[00] NOW InnoDB: innodb_log_write_ahead_size=600 is not a power of two",
        ),
        (&["--backup", "--stream=zip"], 1, "[00] NOW Invalid --stream argument: zip"),
        (
            &["--backup", "--incremental-lsn=0:389000"],
            1,
            "[00] NOW mariabackup: value '0:389000' may be wrong format for incremental option.",
        ),
        (
            &["--backup", "--incremental-lsn=5k"],
            1,
            "[00] NOW mariabackup: value '5k' may be wrong format for incremental option.",
        ),
        (
            &["--backup", "--incremental-lsn="],
            1,
            "[00] NOW mariabackup: value '' may be wrong format for incremental option.",
        ),
        (
            &["--backup", "--incremental-lsn=-1"],
            1,
            "[00] NOW mariabackup: value '-1' may be wrong format for incremental option.",
        ),
        (
            &["--backup", "--incremental-lsn=18446744073709551616"],
            1,
            "[00] NOW mariabackup: value '18446744073709551616' may be wrong format for incremental \
             option.",
        ),
        (
            &["--backup", "--incremental-basedir="],
            1,
            "[00] NOW Error: --incremental-basedir is empty",
        ),
        (
            &["--backup", "--incremental-history-name=a", "--incremental-history-uuid=b"],
            1,
            "[00] NOW It is allowed to use either --incremental-history-name or \
             --incremental-history-uuid, but not both.",
        ),
        (&["--mariadbd"], 1, "[00] NOW option '--mariadbd' is not supported yet by this version"),
        (&["--backup", "--target-dir="], 1, "[00] NOW Error: --target-dir is empty"),
    ]);
}

#[test]
fn no_mode_and_two_modes_show_the_help() {
    for words in [&[][..], &["--backup", "--prepare"], &["--skip-backup"], &["--backup=0"]] {
        match parse_in(&bare(), words).action {
            Err(error @ UsageError::NoMode(_)) => assert_eq!(error.exit_code(), 1),
            _ => panic!("{words:?}"),
        }
    }
}

#[test]
fn version_and_help_win_over_unknown_options() {
    for words in
        [&["--version"][..], &["-uroot", "-v"], &["--nosuch", "--version"], &["-v=1", "-v"]]
    {
        assert!(matches!(parse_in(&bare(), words).action, Ok(Action::Version)), "{words:?}");
    }
    for words in [&["--help"][..], &["-?"], &["--help", "--nosuch=1"]] {
        assert!(matches!(parse_in(&bare(), words).action, Ok(Action::Help(_))), "{words:?}");
    }
    assert_eq!(refused(&["--parallel=x", "--version"]).0, 9);
}

#[test]
fn values_may_stand_in_any_form() {
    for words in [
        &["--user=root", "--target-dir=/b", "--parallel=4"][..],
        &["--user", "root", "--target-dir", "/b", "--parallel", "4"],
        &["-uroot", "--target_dir=/b", "--PARALLEL=4"],
        &["-u", "root", "--Target_Dir", "/b/", "--loose-parallel=4"],
        &["-Vuroot", "--skip-verbose", "--target-dir=/b/.", "--mysqld-args", "--parallel=4"],
    ] {
        let mut all = vec!["--backup"];
        all.extend(words);
        let Command::Backup(options) = command_in(&bare(), &all).0 else { panic!("{words:?}") };
        assert_eq!(options.connection.user.as_deref(), Some("root"), "{words:?}");
        assert_eq!(options.target_dir, Path::new("/b"));
        assert_eq!(options.parallel.get(), 4);
        assert!(!options.verbose);
    }
}

#[test]
fn letters_mean_what_they_mean_in_the_reference() {
    let options = backup(&["-V", "-H", "h", "-P3307", "-S/s", "-h/data", "-t/t1:/t2", "-ppw"]);
    assert!(options.verbose);
    assert_eq!(options.connection.host.as_deref(), Some("h"));
    assert_eq!(options.connection.port, Some(3307));
    assert_eq!(options.connection.socket.as_deref(), Some(Path::new("/s")));
    assert_eq!(options.datadir.as_deref(), Some(Path::new("/data")));
    assert_eq!(options.tmpdir, Path::new("/t1"));
    assert_eq!(options.connection.password.as_deref(), Some("pw"));
}

#[test]
fn the_last_of_two_values_counts() {
    assert_eq!(backup(&["--parallel=2", "--parallel=3"]).parallel.get(), 3);
    assert!(!backup(&["--verbose", "--disable-verbose"]).verbose);
    assert!(backup(&["--skip-verbose", "--enable-verbose"]).verbose);
    assert_eq!(backup(&[]).engine_binlog, crate::options::EngineBinlog::Saved);
    assert_eq!(backup(&["--skip-binlog"]).engine_binlog, crate::options::EngineBinlog::Skipped);
    assert_eq!(backup(&["--user=a", "--skip-user"]).connection.user, None);
    assert_eq!(
        backup(&["--startup-wait-timeout=1", "--ftwrl-wait-timeout=2"]).locks.patience,
        Some(Duration::from_secs(2))
    );
    assert_eq!(backup(&["--parallel=2", "--maximum-parallel=9"]).parallel.get(), 2);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let options = backup(&[]);
    assert_eq!(options.target_dir, Path::new("/start/xtrabackup_backupfiles"));
    assert_eq!(options.parallel.get(), 1);
    assert_eq!(options.tmpdir, Path::new("/tmp"));
    assert_eq!(options.tool_name, "prog");
    assert!(options.check_privileges);
    assert!(options.throttle.is_none() && options.open_files_limit.is_none());
    assert!(options.locks.patience.is_none() && options.datadir.is_none());
    let connection = options.connection;
    assert!(connection.user.is_none() && connection.password.is_none());
    assert!(connection.port.is_none() && connection.socket.is_none());
    assert!(connection.protocol.is_none() && connection.tls.enabled.is_none());

    let options = prepare(&["--target-dir=b"]);
    assert_eq!(options.target_dir, Path::new("/start/b"));
    assert!(options.use_memory.is_none() && options.parallel.is_none());
    assert_eq!(prepare(&["--use-memory=129m"]).use_memory, Some(134_217_728));

    let options = restore_in(&bare(), &["--copy-back"]);
    assert_eq!(options.datadir, Path::new("/var/lib/mysql"));
    assert_eq!(options.mode, RestoreMode::Copy);
}

#[test]
fn paths_are_relative_to_the_start_or_to_the_datadir() {
    let options = restore_in(
        &bare(),
        &[
            "--move-back",
            "--target-dir=~/b",
            "--datadir=new/",
            "--innodb-undo-directory=./",
            "--innodb-log-group-home-dir=logs",
            "--innodb-data-home-dir=/abs/",
            "--aria-log-dir-path=../aria",
            "--rocksdb-datadir=./rocks",
        ],
    );
    assert_eq!(options.mode, RestoreMode::Move);
    assert_eq!(options.target_dir, Path::new("/nonexistent/b"));
    assert_eq!(options.datadir, Path::new("/start/new"));
    let path = |path: &'static str| Some(PathBuf::from(path));
    assert_eq!(options.innodb_undo_directory, path("/start/new"));
    assert_eq!(options.innodb_log_group_home_dir, path("/start/new/logs"));
    assert_eq!(options.innodb_data_home_dir, path("/abs"));
    assert_eq!(options.aria_log_dir_path, path("/start/new/../aria"));
    assert_eq!(options.rocksdb_datadir, path("/start/new/rocks"));
}

#[test]
fn loose_and_bad_truth_values_only_warn() {
    assert_eq!(
        warnings(&["--backup", "--loose-nosuch=1", "--LOOSE_nosuch", "--verbose=maybe"]),
        [
            "Warning: prog: unknown variable 'loose-nosuch=1'",
            "Warning: prog: unknown option '--LOOSE_nosuch'",
            "Warning: prog: ignoring option '--verbose' due to invalid value 'maybe'",
        ]
    );
    assert_eq!(
        warnings(&["--backup", "--parallel=0"]),
        ["Warning: option 'parallel': unsigned value 0 adjusted to 1"]
    );
}

#[test]
fn obsolete_options_warn_and_the_rest_without_effect_is_silent() {
    assert_eq!(
        warnings(&["--backup", "--rsync", "--no-backup-locks", "--kill-long-queries-timeout=9"]),
        [
            "Obsolete option: rsync. Ignored",
            "Obsolete option: no-backup-locks. Ignored",
            "Obsolete option: kill-long-queries-timeout. Ignored; it takes effect with \
             --consistency-lock=ftwrl",
        ]
    );
    let silent = [
        "--backup",
        "--no-version-check",
        "--close-files",
        "--innodb-flush-method=FSYNC",
        "--log-copy-interval=1",
        "--core-file",
        "--skip-galera-info",
        "--binlog-info=auto",
    ];
    assert!(warnings(&silent).is_empty());
}

#[test]
fn a_global_read_lock_makes_its_options_count() {
    let options = backup(&[
        "--consistency-lock=FTWRL",
        "--ftwrl-wait-timeout=9",
        "--ftwrl-wait-query-type=update",
        "--kill-long-queries-timeout=3",
    ]);
    let patience = Some(Duration::from_secs(9));
    assert_eq!(options.locks, LockOptions { kind: LockKind::ReadLock, patience });
    let wanted = LongQueries {
        wait_threshold: Duration::from_secs(60),
        wait_type: QueryType::Update,
        kill_after: Some(Duration::from_secs(3)),
        kill_type: QueryType::Select,
    };
    assert_eq!(options.long_queries, wanted);
    let ftwrl = "--consistency-lock=ftwrl";
    assert!(warnings(&["--backup", ftwrl, "--ftwrl-wait-threshold=1"]).is_empty());
    assert_eq!(refused(&["--backup", ftwrl, "--ftwrl-wait-query-type=x"]).0, 13);
    assert_eq!(backup(&["--ftwrl-wait-query-type=x"]).locks, LockOptions::default());
    assert_eq!(refused(&["--backup", "--consistency-lock=x"]).0, 13);
    assert_eq!(refused(&["--backup", "--kill-long-query-type=x"]).0, 13);
    assert_eq!(backup(&["--no-lock"]).locks.kind, LockKind::None);
    assert_eq!(refused(&["--backup", "--no-lock", ftwrl]).0, 1);
    assert!(backup(&["--lock-ddl-per-table"]).lock_ddl_per_table);
}

#[test]
fn filters() {
    assert!(!backup(&[]).filter.is_given());
    let options = backup(&["--databases=a b", "--tables-exclude=x", "--tables-file=l/x"]);
    assert!(options.filter.is_given());
    assert_eq!(options.filter.databases.as_deref(), Some(&b"a b"[..]));
    let file = options.filter.tables_file.unwrap();
    assert_eq!((file.path, file.typed), (bare().directory.join("l/x"), "l/x".into()));
    // Without effect elsewhere, as they may stand in option files.
    assert!(command_in(&bare(), &["--prepare", "--tables=(", "--databases=a/b"]).1.is_empty());
}

#[test]
fn options_that_are_never_needed_are_unknown_with_a_hint() {
    let (code, lines) = refused(&["--prepare", "--apply-log-only"]);
    assert_eq!(code, 2);
    assert!(
        lines.starts_with("prog: unknown option '--apply-log-only'\nHint: leave it"),
        "{lines}"
    );
    let prepared = command_in(&bare(), &["--prepare", "--incremental-dir=/i"]).0;
    let Command::Prepare(options) = prepared else { panic!("no prepare") };
    assert_eq!(options.incremental_dir.as_deref(), Some(Path::new("/i")));
}

#[test]
fn what_is_not_supported_is_refused_only_where_it_matters() {
    assert!(refused(&["--backup", "--ssl-fp=00"]).1.contains("'--ssl-fp'"));
    assert_eq!(refused(&["--backup", "--skip-encrypted-backup"]).0, 1);
    let files = Files::new("[mysqld]\nrocksdb_datadir=/r\nlock_ddl_per_table\n");
    let options = restore_in(&files.environment, &["--copy-back"]);
    assert_eq!(options.rocksdb_datadir.as_deref(), Some(Path::new("/r")));
    assert!(command_in(&files.environment, &["--backup"]).1.is_empty());
    let files = Files::new("[mysqld]\ninnodb_force_recovery=3\n");
    assert_eq!(refused_in(&files.environment, &["--backup"]).0, 1);
    let options =
        restore_in(&bare(), &["--move-back", "--galera-info", "--force-non-empty-directories"]);
    assert!(options.force_non_empty_directories);
}

#[test]
fn mysqld_args_swallow_the_rest() {
    let words =
        ["--user=a", "--mysqld-args", "--nosuch=1", "-z", "--user=b", "word", "--datadir=/d"];
    let (command, _) = command_in(&bare(), &[&["--backup"], &words[..]].concat());
    let Command::Backup(options) = command else { panic!("no backup") };
    assert_eq!(options.connection.user.as_deref(), Some("a"));
    assert_eq!(options.datadir.as_deref(), Some(Path::new("/d")));
}

#[test]
fn groups_and_command_line_have_their_precedence() {
    let files = Files::new(
        "[mariabackup]\nparallel=3\nuser=backup\n[mysqld]\nparallel=2\nuser=mysql\nsocket=/m\n\
         nosuch=1\n[client]\nuser=client\npassword=pw\nport=3310\nparallel=9\nnosuch\n\
         [mariadb-client]\nhost=h\n[MARIADBD]\nopen_files_limit=77\n",
    );
    let options = backup_in(&files.environment, &[]);
    assert_eq!(options.parallel.get(), 3);
    assert_eq!(options.connection.user.as_deref(), Some("backup"));
    assert_eq!(options.connection.password.as_deref(), Some("pw"));
    assert_eq!(options.connection.port, Some(3310));
    assert_eq!(options.connection.host, None);
    assert_eq!(options.connection.socket.as_deref(), Some(Path::new("/m")));
    assert_eq!(options.open_files_limit, Some(77));
    let options = backup_in(&files.environment, &["--parallel=4", "-ux", "--socket=/s"]);
    assert_eq!(options.parallel.get(), 4);
    assert_eq!(options.connection.user.as_deref(), Some("x"));
    assert_eq!(options.connection.socket.as_deref(), Some(Path::new("/s")));
    let words = ["--backup", "--parallel=4", "--mysqld-args", "--parallel=5"];
    let Command::Backup(options) = command_in(&files.environment, &words).0 else {
        panic!("no backup")
    };
    assert_eq!(options.parallel.get(), 5);
}

#[test]
fn within_a_file_the_later_line_counts() {
    let files = Files::new("[xtrabackup]\nuser=a\n[client]\nuser=b\n[mariabackup]\nuser=c\n");
    assert_eq!(backup_in(&files.environment, &[]).connection.user.as_deref(), Some("c"));
    let files = Files::new("[login]\nuser=a\n[client]\nuser=b\n");
    let options = backup_in(&files.environment, &["--login-path=login"]);
    assert_eq!(options.connection.user.as_deref(), Some("b"));
}

#[test]
fn files_come_in_order() {
    let mut files = Files::new("[client]\nuser=global\nhost=global\nport=1\n");
    let extra = files.write("extra.cnf", "[client]\nuser=extra\nhost=extra\n");
    files.write("home/.my.cnf", "[client]\nuser=home\n");
    files.write("server/my.cnf", "[client]\nport=2\n");
    let folder = files.folder.path().to_owned();
    let set = |environment: &mut Environment, name: &str, path: &str| {
        environment.variables.insert(name.to_owned(), folder.join(path).into());
    };
    set(&mut files.environment, "HOME", "home");
    set(&mut files.environment, "MYSQL_HOME", "server");
    let first = format!("--defaults-extra-file={extra}");
    let connection = backup_in(&files.environment, &[&first]).connection;
    assert_eq!(connection.user.as_deref(), Some("home"));
    assert_eq!(connection.host.as_deref(), Some("extra"));
    assert_eq!(connection.port, Some(2));
    let only = format!("--defaults-file={extra}");
    let connection = backup_in(&files.environment, &[&only]).connection;
    assert_eq!(connection.user.as_deref(), Some("extra"));
    assert_eq!(connection.port, None);
    assert_eq!(backup_in(&files.environment, &["--no-defaults"]).connection.user, None);
}

#[test]
fn groups_may_have_a_suffix_and_be_named() {
    let mut files = Files::new(
        "[client.1]\nuser=one\n[mysqld.1]\nparallel=5\n[galera9]\nparallel=6\n[client]\nport=7\n",
    );
    let options = backup_in(&files.environment, &["--defaults-group-suffix=.1"]);
    assert_eq!(options.connection.user.as_deref(), Some("one"));
    assert_eq!(options.connection.port, Some(7));
    assert_eq!(options.parallel.get(), 5);
    let options = backup_in(&files.environment, &["--defaults-group=galera9"]);
    assert_eq!(options.parallel.get(), 6);
    files.environment.variables.insert("MYSQL_GROUP_SUFFIX".to_owned(), ".1".into());
    assert_eq!(backup_in(&files.environment, &[]).parallel.get(), 5);
}

#[test]
fn unknown_options_matter_only_in_the_groups_of_this_program() {
    for (line, expected) in [
        ("foo=1", (7, "prog: unknown variable 'foo=1'".to_owned())),
        ("foo", (2, "prog: unknown option '--foo'".to_owned())),
        ("parallel 4", (2, "prog: unknown option '--parallel 4'".to_owned())),
        ("user", (5, "prog: option '--user' requires an argument".to_owned())),
    ] {
        for group in files::BACKUP_GROUPS {
            let files = Files::new(&format!("[{group}]\n{line}\n"));
            assert_eq!(refused_in(&files.environment, &["--backup"]), expected);
        }
    }
    let files = Files::new("[mysqld]\nfoo=1\ninnodb_flush_method=new\n[client]\nbar\n");
    assert!(command_in(&files.environment, &["--backup"]).1.is_empty());
    let files = Files::new("[mysqld]\nparallel=x\n");
    assert_eq!(refused_in(&files.environment, &["--backup"]).0, 9);
    let files = Files::new("a=b\n");
    assert_eq!(refused_in(&files.environment, &["--version"]).0, 1);
}

#[test]
fn prepare_reads_the_options_of_the_backup() {
    let files = Files::new("[mysqld]\nparallel=x\n[mariabackup]\nnosuch\nuse-memory=1G\n");
    let target = files.folder.path().join("backup");
    files.write("backup/backup-my.cnf", "[mysqld]\ninnodb_page_size=8192\nplugin_load=x\n");
    let target = format!("--target-dir={}", target.display());
    let run = |words: &[&str]| parse_in(&files.environment, words);
    let Ok(Action::Run { command: Command::Prepare(options), .. }) =
        run(&["--prepare", &target]).action
    else {
        panic!("no prepare")
    };
    assert_eq!(options.use_memory, None);
    let own = files.write("own.cnf", "[mariabackup]\nuse-memory=1G\n");
    let own = format!("--defaults-file={own}");
    let Ok(Action::Run { command: Command::Prepare(options), .. }) =
        run(&[&own, "--prepare", &target]).action
    else {
        panic!("no prepare")
    };
    assert_eq!(options.use_memory, Some(1 << 30));
    files.write("backup/backup-my.cnf", "[mysqld]\ninnodb_force_recovery=1\n");
    assert_eq!(refused_in(&files.environment, &["--prepare", &target]).0, 1);
}

#[test]
fn restore_reads_the_groups_of_the_backups_series() {
    let files = Files::new("[mysqld-10.11]\ndatadir=/new\n[mariadb-11.8]\ndatadir=/newer\n");
    let target = format!("--target-dir={}/b", files.folder.path().display());
    let words = ["--copy-back", &target];
    assert_eq!(restore_in(&files.environment, &words).datadir, Path::new(super::resolve::DATADIR));
    files.write("b/xtrabackup_info", "uuid = x\nserver_version = 10.11.19-MariaDB-log\n");
    assert_eq!(restore_in(&files.environment, &words).datadir, Path::new("/new"));
    files.write("b/mariadb_backup_info", "server_version = 11.8.6-MariaDB\n");
    assert_eq!(restore_in(&files.environment, &words).datadir, Path::new("/newer"));
}

#[test]
fn environment_variables_fill_gaps() {
    let mut environment = bare();
    for (name, value) in [
        ("MYSQL_PWD", "pw"),
        ("MYSQL_UNIX_PORT", "/e"),
        ("MYSQL_TCP_PORT", "3333"),
        ("TMPDIR", "/scratch"),
        ("MYSQL_HOST", "ignored"),
    ] {
        environment.variables.insert(name.to_owned(), value.into());
    }
    let options = backup_in(&environment, &[]);
    let connection = options.connection;
    assert_eq!(connection.password.as_deref(), Some("pw"));
    assert_eq!(connection.socket.as_deref(), Some(Path::new("/e")));
    assert_eq!(connection.port, Some(3333));
    assert_eq!(connection.host, None);
    assert_eq!(options.tmpdir, Path::new("/scratch"));
    let connection = backup_in(&environment, &["--password=", "--port=1"]).connection;
    assert_eq!(connection.password.as_deref(), Some(""));
    assert_eq!(connection.port, Some(1));
}

#[test]
fn protocols_and_tls() {
    assert_eq!(backup(&["--protocol=tcp"]).connection.protocol, Some(Protocol::Tcp));
    assert_eq!(backup(&["--protocol=Socket"]).connection.protocol, Some(Protocol::Socket));
    assert_eq!(backup(&["--skip-ssl"]).connection.tls.enabled, Some(false));
    let tls = backup(&["--ssl", "--ssl-ca", "/ca", "--ssl-verify-server-cert"]).connection.tls;
    assert_eq!(tls.enabled, Some(true));
    assert_eq!(tls.ca.as_deref(), Some(Path::new("/ca")));
    assert_eq!(tls.verify_server_cert, Some(true));
    assert_eq!(backup(&["--ssl-cert=/c"]).connection.tls.enabled, Some(true));
}

#[test]
fn passwords_are_found_wherever_they_stand() {
    for (words, shown) in [
        (&["--password=secret"][..], "--password=..."),
        (&["--Loose_Password=secret"], "--Loose_Password=..."),
        (&["--password", "secret"], "--password ..."),
        (&["-psecret"], "-p..."),
        (&["-Vpsecret"], "-Vp..."),
        (&["-p", "secret"], "-p ..."),
        (&["-psecret", "--password=secret"], "-p... --password=..."),
    ] {
        let options = backup(words);
        assert_eq!(options.connection.password.as_deref(), Some("secret"), "{words:?}");
        assert_eq!(options.tool_command, format!("{shown} --backup"));
    }
    let words = ["prog", "--backup", "--password=", "--user=x"].map(OsString::from);
    assert!(secrets(&words, &bare()).is_empty());
}

#[test]
fn secrets_of_key_managements_are_hidden() {
    let filekey = "--file-key-management-filekey";
    let token = "--Hashicorp_Key_Management_Token";
    for (words, shown) in [
        (vec![format!("{filekey}=secret")], format!("{filekey}=... --backup")),
        (vec![token.to_owned(), "secret".to_owned()], format!("{token} ... --backup")),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(backup(&words).tool_command, shown);
        assert!(matches!(
            parse_in(&bare(), &[&words[..], &["--help"]].concat()).action,
            Ok(Action::Help(help)) if !help.contains("secret\n")
        ));
    }
    let words = ["prog", "--backup", "--mysqld-args", filekey, "secret"].map(OsString::from);
    assert_eq!(secrets(&words, &bare()), [Secret { argument: 4, keep: 0 }]);
    // A password that is still to be asked for stays so.
    let words = ["--backup", "-p", "--hashicorp-key-management-token=x"];
    assert_eq!(refused(&words).0, 5);
}

#[test]
fn variables_of_key_managements() {
    let shown = |options: &KeyOptions| format!("{options:?}");
    let given = prepare(&["--file-key-management-filename=/keys"]);
    assert_eq!(shown(&given.keys), "{\"file_key_management_filename\"}");
    // A running server tells them itself, but for the token.
    let files = Files::new(
        "[mysqld]\nfile_key_management_filename=/keys\nloose-hashicorp-key-management-token=x\n",
    );
    let given = backup_in(&files.environment, &[]);
    assert_eq!(shown(&given.keys), "{\"hashicorp_key_management_token\"}");
    let mut environment = bare();
    environment.variables.insert("VAULT_TOKEN".to_owned(), "x".into());
    let given = backup_in(&environment, &["--file-key-management-filename=/keys"]);
    let expected = "{\"file_key_management_filename\", \"hashicorp_key_management_token\"}";
    assert_eq!(shown(&given.keys), expected);
}

#[test]
fn an_option_is_no_password() {
    for words in [
        &["--backup", "-p", "--target-dir=/x"][..],
        &["--backup", "--password", "--target-dir=/x"],
        &["--backup", "-p"],
        &["-p", "-uroot", "--backup"],
    ] {
        let (code, lines) = refused(words);
        assert_eq!(code, 5, "{words:?}");
        assert!(lines.contains("write --password=PASSWORD"), "{lines}");
    }
    let interactive = Environment { interactive: true, ..bare() };
    let asks = |words: &[&str]| match parse_in(&interactive, words).action {
        Ok(Action::Run { ask_password, .. }) => ask_password,
        _ => panic!("{words:?}"),
    };
    assert!(asks(&["--backup", "-p"]));
    assert!(asks(&["-p", "--backup"]));
    assert!(!asks(&["-p", "--backup", "--password=x"]));
    assert!(!asks(&["--prepare", "-p"]));
}

#[test]
fn print_defaults_shows_server_options_and_the_command_line() {
    let files = Files::new("[mysqld]\ndatadir = /d\nskip-log-bin\n[client]\nuser=x\n");
    let words = ["--print-defaults", "--backup", "-psecret"];
    match parse_in(&files.environment, &words).action {
        Ok(Action::PrintDefaults(text)) => assert_eq!(
            text,
            "prog would have been started with the following arguments:\n\
             --datadir=/d --skip-log-bin --backup -p... \n"
        ),
        _ => panic!("no defaults"),
    }
}

#[test]
fn a_world_writable_file_is_skipped_with_a_warning() {
    let files = Files::new("[client]\nuser=x\n");
    let path = &files.environment.usual_files[0];
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    let (command, warnings) = command_in(&files.environment, &["--backup"]);
    let Command::Backup(options) = command else { panic!("no backup") };
    assert_eq!(options.connection.user, None);
    assert!(warnings[0].starts_with("Warning: World-writable config file "));
}

/// Words that look like options, and others.
fn any_word() -> impl Strategy<Value = OsString> {
    use std::os::unix::ffi::OsStringExt;
    let names: Vec<&'static str> = table::OPTIONS.iter().map(|spec| spec.name).collect();
    let prefixes = ["--", "--skip-", "--loose-", "--autoset-", "--maximum-", "--enable-", "-", ""];
    let values = ["", "=", "=1", "=x", "=-1", "=18446744073709551616", "=9E", "=/nonexistent"];
    prop_oneof![
        (
            proptest::sample::select(prefixes.to_vec()),
            proptest::sample::select(names),
            proptest::sample::select(values.to_vec())
        )
            .prop_map(|(prefix, name, value)| format!("{prefix}{name}{value}").into()),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(OsString::from_vec),
        "-[a-zA-Z?#]{0,4}".prop_map(OsString::from),
    ]
}

proptest! {
    #[test]
    fn any_command_line_is_read(words in proptest::collection::vec(any_word(), 0..8)) {
        let mut arguments = vec![OsString::from("prog")];
        arguments.extend(words);
        let invocation = parse(&arguments, &bare());
        for secret in secrets(&arguments, &bare()) {
            prop_assert!(arguments[secret.argument].len() > secret.keep);
        }
        if let Err(error) = invocation.action {
            prop_assert!(error.exit_code() > 0);
            prop_assert!(!error.lines("prog", "NOW").is_empty());
        }
    }
}

fn verify_in(environment: &Environment, words: &[&str]) -> crate::options::VerifyOptions {
    match command_in(environment, &[&["verify"], words].concat()).0 {
        Command::Verify(options) => *options,
        _ => panic!("{words:?} verifies nothing"),
    }
}

#[test]
fn verify_is_a_word_and_takes_a_directory() {
    let options = verify_in(&bare(), &["--no-defaults", "b", "--parallel=3", "-V"]);
    assert_eq!(options.dir, Path::new("/start/b"));
    assert_eq!((options.parallel.map(usize::from), options.verbose), (Some(3), true));
    assert_eq!(verify_in(&bare(), &["--target-dir=/b"]).dir, Path::new("/b"));
    let options = verify_in(&bare(), &["/b", "--innodb-undo-directory=u"]);
    assert_eq!(options.innodb_undo_directory.as_deref(), Some(Path::new("u")));
    check_refusals(&[
        (&["verify", "a", "b"], 1, "[00] NOW mariabackup: Error: unknown argument: 'b'"),
        (
            &["verify", "a", "--prepare"],
            1,
            "[00] NOW Error: verify and --prepare are mutually exclusive",
        ),
        (
            &["verify", "a", "--backup"],
            1,
            "[00] NOW Error: verify and --backup are mutually exclusive",
        ),
        (
            &["verify"],
            1,
            "[00] NOW Error: verify needs the directory to be verified: verify DIRECTORY",
        ),
        (&["--backup", "verify"], 1, "[00] NOW mariabackup: Error: unknown argument: 'verify'"),
    ]);
}

/// The server's options are about its own data directory; a backup has its own.
#[test]
fn options_of_the_server_count_for_its_data_directory_alone() {
    let files = Files::new(
        "[mysqld]\ndatadir=/data\ninnodb_data_home_dir=/home\n\
         file_key_management_filename=/keys\n",
    );
    let own = verify_in(&files.environment, &["/data"]);
    assert_eq!(own.innodb_data_home_dir.as_deref(), Some(Path::new("/home")));
    assert_ne!(format!("{:?}", own.keys), format!("{:?}", KeyOptions::default()));
    let other = verify_in(&files.environment, &["/backup"]);
    assert_eq!(other.innodb_data_home_dir, None);
    assert_eq!(format!("{:?}", other.keys), format!("{:?}", KeyOptions::default()));
}

fn innobackupex(words: &[&str]) -> Command {
    command_in(&bare(), &[&["--innobackupex"], words].concat()).0
}

#[test]
fn innobackupex_takes_a_directory_and_backs_up_below_it() {
    let Command::Backup(options) = innobackupex(&["-uroot", "base", "--no-lock"]) else { panic!() };
    let stamp = options.target_dir.strip_prefix("/start/base").unwrap().to_str().unwrap();
    assert!(chrono::NaiveDateTime::parse_from_str(stamp, "%Y-%m-%d_%H-%M-%S").is_ok(), "{stamp}");
    assert!(options.makes_parents && options.locks.kind == LockKind::None);
    assert_eq!(
        (options.tool_name.as_str(), options.connection.user),
        ("prog", Some("root".into()))
    );
    for words in
        [&["--no-timestamp"][..], &["--stream=xbstream"], &["--target-dir=/x", "--no-timestamp"]]
    {
        let Command::Backup(options) = innobackupex(&[words, &["/d"]].concat()) else { panic!() };
        assert_eq!(options.target_dir, Path::new("/d"), "{words:?}");
    }
}

#[test]
fn innobackupex_has_modes_of_its_own() {
    let Command::Prepare(options) = innobackupex(&["--Apply_log", "-u", "root", "d"]) else {
        panic!()
    };
    assert_eq!(options.target_dir, Path::new("/start/d"));
    let Command::Restore(options) = innobackupex(&["--move-back", "--backup", "./"]) else {
        panic!()
    };
    assert_eq!(options.target_dir, Path::new("/start"));
    assert!(matches!(innobackupex(&["--decompress", "d"]), Command::Decompress(_)));
    let warnings = command_in(&bare(), &["--innobackupex", "--apply-log", "d"]).1;
    let [banner] = &*warnings else { panic!("{warnings:?}") };
    let (time, text) = banner.split_once(" innobackupex: ").unwrap();
    assert!(chrono::NaiveDateTime::parse_from_str(time, "%y%m%d %H:%M:%S").is_ok(), "{time}");
    assert_eq!(
        text,
        "Starting the apply-log operation\n\nIMPORTANT: Please check that the apply-log run \
         completes successfully.\n           At the end of a successful apply-log run \
         innobackupex\n           prints \"completed OK!\".\n"
    );
}

#[test]
fn innobackupex_has_complaints_of_its_own() {
    let refused = |words: &[&str]| {
        let words = [&["--innobackupex"], words].concat();
        let invocation = parse_in(&bare(), &words);
        let Err(error) = invocation.action else { panic!("{words:?} is accepted") };
        let now = "2026-11-22 00:51:02";
        (error.exit_code(), error.lines(&invocation.program, now))
    };
    for (words, code, lines) in [
        (&[][..], 1, "261122 00:51:02 innobackupex: Missing argument"),
        (&["a", "b"], 1, "261122 00:51:02 innobackupex: Error: extra argument found b"),
        (&["--stream=zip", "d"], 1, "261122 00:51:02 innobackupex: Invalid --stream argument: zip"),
        (
            &["--incremental-lsn=5", "d"],
            1,
            "261122 00:51:02 innobackupex: Error: --incremental-lsn, --incremental-basedir, \
             --incremental-history-name and --incremental-history-uuid require the --incremental \
             option.",
        ),
        (&["--nosuch", "d"], 2, "innobackupex: unknown option '--nosuch'"),
        (&["--user"], 1, "innobackupex: option '--user' requires an argument"),
        (&["-u"], 1, "innobackupex: option '-u' requires an argument"),
        (&["--core-file=1", "d"], 4, "innobackupex: option '--core-file' cannot take an argument"),
        (
            &["--kill-long-query-type=x", "d"],
            1,
            "innobackupex: Error while setting value 'x' to 'kill-long-query-type'",
        ),
        (
            &["--copy-back", "--apply-log", "d"],
            1,
            "[00] 2026-11-22 00:51:02 Error: --copy-back and --apply-log are mutually exclusive",
        ),
        (
            &["--innodb-force-recovery=1", "d"],
            1,
            "[00] 2026-11-22 00:51:02 mariabackup: The option \"innodb_force_recovery\" should only \
             be used with \"--apply-log\".",
        ),
    ] {
        assert_eq!(refused(words), (code, lines.to_owned()), "{words:?}");
    }
    // Elsewhere its options are unknown.
    for word in ["--include=x", "--incremental", "--no-timestamp"] {
        assert!([2, 7].contains(&self::refused(&[word, "--backup"]).0), "{word}");
    }
    let files = Files::new("[mariabackup]\nno-timestamp\ncopy-back\n");
    assert_eq!(refused_in(&files.environment, &["--backup"]).0, 2);
    let options = restore_in(&files.environment, &["--innobackupex", "d"]);
    assert_eq!(options.target_dir, Path::new("/start/d"));
}

#[test]
fn innobackupex_tells_its_version_on_standard_output() {
    match parse_in(&bare(), &["--innobackupex", "--version"]).action {
        Ok(Action::InnobackupexVersion(text)) => {
            assert!(text.starts_with("innobackupex version 10.11.19-MariaDB "), "{text}");
            assert!(!text.ends_with('\n'));
        }
        _ => panic!("no version"),
    }
}

#[test]
fn param_are_the_options_of_a_restore_in_their_order() {
    let files = Files::new(
        "[mariabackup]\ninnodb_compression_level=3\n[mysqld]\ndatadir=/data\nparallel=3\n\
         innodb-page-size=4k\ninnodb_flush_method=fsync\n[foo]\naria_log_dir_path=al\n",
    );
    let words = ["--print-param", "--defaults-group=foo", "-t/u", "--innodb-checksum-algorithm=0"];
    let Ok(Action::PrintParam(text)) = parse_in(&files.environment, &words).action else {
        panic!()
    };
    assert_eq!(
        text,
        "# This MySQL options file was generated by XtraBackup.\n[foo]\ndatadir=/data\n\
         innodb_page_size=4096\ninnodb_flush_method=fsync\naria_log_dir_path=al\ntmpdir=/u\n\
         innodb_checksum_algorithm=crc32\ninnodb_compression_level=3\ntmpdir=/u\n\
         innodb_checksum_algorithm=crc32\n"
    );
    assert_eq!(refused(&["--print-param", "--prepare", "--copy-back"]).0, 1);
}

#[test]
fn compression_has_a_format_threads_and_a_level() {
    let compress =
        |words: &[&str]| backup(words).compress.map(|c| (c.compression, c.threads.get()));
    assert_eq!(compress(&[]), None);
    let quicklz = Compression::QuickLz(65536);
    for word in ["--compress", "--compress=QuickLZ"] {
        assert_eq!(compress(&[word, "--compress-threads=3"]), Some((quicklz, 3)), "{word}");
    }
    assert!(compress(&["--compress"]).is_some_and(|(_, threads)| threads > 0));
    let (small, _) = compress(&["--compress", "--compress-chunk-size=4k"]).unwrap();
    assert_eq!(small, Compression::QuickLz(4096));
    assert_eq!(compress(&["--compress=zstd"]).unwrap().0, Compression::Zstd(1));
    let level = ["--compress=zstd", "--compress-level=9"];
    assert_eq!(compress(&level).unwrap().0, Compression::Zstd(9));
    assert_eq!(compress(&["--compress=lz4"]).unwrap().0, Compression::Lz4);
}
