//! Validated options: the only form in which the rest of the program sees the command line and
//! the option files.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use innodb::Lsn;
use mdl::holders::QueryType;
use mdl::session::ConnectOptions;
use mdl::stage::LockOptions;

use crate::compression::Compression;
use crate::filter::FilterOptions;
use crate::keys_source::KeyOptions;

/// What to do.
#[derive(Clone)]
pub enum Command {
    /// `--backup`
    Backup(Box<BackupOptions>),
    /// `--prepare`
    Prepare(Box<PrepareOptions>),
    /// `--copy-back`, `--move-back`
    Restore(Box<RestoreOptions>),
    /// `--decompress`
    Decompress(DecompressOptions),
    /// `verify`
    Verify(Box<VerifyOptions>),
}

impl Command {
    /// Whether `--verbose` was given.
    pub fn verbose(&self) -> bool {
        match self {
            Self::Backup(options) => options.verbose,
            Self::Prepare(options) => options.verbose,
            Self::Restore(options) => options.verbose,
            Self::Decompress(options) => options.verbose,
            Self::Verify(options) => options.verbose,
        }
    }
}

/// Options of `--backup`.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct BackupOptions {
    /// Name the program was called by, for messages and the info file.
    pub tool_name: String,
    /// The command line without passwords, for the info file.
    pub tool_command: String,
    /// Whether the backup goes to a directory.
    pub output: Output,
    /// The directory.
    pub target_dir: PathBuf,
    /// `--compress`
    pub compress: Option<Compress>,
    /// Whether the directories above it are created too.
    pub makes_parents: bool,
    /// What the backup is incremental to; `None`: it is a full one.
    pub incremental: Option<IncrementalBase>,
    /// `--history`: the name under which the backup is recorded in a table of the server.
    pub history: Option<String>,
    /// `--extra-lsndir`: where the checkpoints file and the info file are written, too.
    pub extra_lsndir: Option<PathBuf>,
    /// How to reach the server.
    pub connection: ConnectOptions,
    /// `--datadir`; only compared with the server's, which wins.
    pub datadir: Option<PathBuf>,
    /// Copy threads.
    pub parallel: NonZeroUsize,
    /// Upper bound of page reads, in units of 10 MiB a second; never applies to the redo log.
    pub throttle: Option<u32>,
    /// Folder for temporary files.
    pub tmpdir: PathBuf,
    /// Wanted limit of open files.
    pub open_files_limit: Option<u64>,
    /// Which locks are taken, and how long each may be waited for.
    pub locks: LockOptions,
    /// `--lock-ddl-per-table`
    pub lock_ddl_per_table: bool,
    /// `--innodb-log-checkpoint-now`: the server is to write a checkpoint first.
    pub checkpoint_now: bool,
    /// What to do about queries in the way of a global read lock.
    pub long_queries: LongQueries,
    /// Variables of the key management.
    pub keys: KeyOptions,
    /// `--log-innodb-page-corruption`
    pub log_page_corruption: bool,
    /// `--extended-validation`
    pub extended_validation: bool,
    /// Which positions of the server belong to the backup.
    pub positions: PositionOptions,
    /// `--binlog`, `--skip-binlog`
    pub engine_binlog: EngineBinlog,
    /// Which databases and tables belong to the backup.
    pub filter: FilterOptions,
    /// `--check-privileges`
    pub check_privileges: bool,
    /// `--verbose`
    pub verbose: bool,
}

/// What an incremental backup is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncrementalBase {
    /// `--incremental-lsn`
    Lsn(Lsn),
    /// `--incremental-basedir`
    Dir(PathBuf),
    /// What the server has recorded of it.
    Recorded(RecordKey),
}

/// What a recorded backup is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKey {
    /// `--incremental-history-name`
    Name(String),
    /// `--incremental-history-uuid`
    Uuid(String),
}

impl RecordKey {
    /// Column of the server's table, and what is in it.
    pub fn column_and_value(&self) -> (&'static str, &str) {
        match self {
            Self::Name(name) => ("name", name),
            Self::Uuid(uuid) => ("uuid", uuid),
        }
    }
}

/// Where a backup goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To the target directory.
    Directory,
    /// To standard output: `--stream`.
    Stream(StreamFormat),
}

/// Format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// `mbstream`, `xbstream`
    Xbstream,
    /// `tar`
    Tar,
}

/// How a backup is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compress {
    /// The format.
    pub compression: Compression,
    /// Threads.
    pub threads: NonZeroUsize,
}

/// Which positions of the server belong to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionOptions {
    /// `--binlog-info`
    pub binlog: BinlogInfo,
    /// `--slave-info`
    pub replica: bool,
    /// `--galera-info`
    pub galera: bool,
    /// `--safe-slave-backup`, and how long at most.
    pub safe_replica: Option<Duration>,
}

/// Where the position in the binary log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinlogInfo {
    /// It is left out.
    Off,
    /// From InnoDB, by `--prepare`.
    Recovered,
    /// From the server, where it writes a binary log.
    Recorded,
}

/// What becomes of the binary log that `InnoDB` keeps (12.3 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineBinlog {
    /// It belongs to the backup.
    Saved,
    /// It is left out.
    Skipped,
}

/// What to do about queries that run for long before `FLUSH TABLES WITH READ LOCK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongQueries {
    /// Queries that have been running for this long are waited for, as long as a lock may be.
    pub wait_threshold: Duration,
    /// Which queries are waited for.
    pub wait_type: QueryType,
    /// When the lock has been waited for so long, queries that ran before it are killed; absent:
    /// none are.
    pub kill_after: Option<Duration>,
    /// Which queries are killed.
    pub kill_type: QueryType,
}

/// Options of `--prepare`.
#[derive(Clone)]
pub struct PrepareOptions {
    /// Name the program was called by.
    pub tool_name: String,
    /// The backup.
    pub target_dir: PathBuf,
    /// `--incremental-dir`: an incremental backup to be applied to it.
    pub incremental_dir: Option<PathBuf>,
    /// Threads; absent: as many as there are processors.
    pub parallel: Option<NonZeroUsize>,
    /// `--extra-lsndir`: where the checkpoints file is written, too.
    pub extra_lsndir: Option<PathBuf>,
    /// `--export`
    pub export: bool,
    /// `--export-server`: the server that exports tables with open changes; absent: is looked for.
    pub export_server: Option<PathBuf>,
    /// Bytes of memory to use; absent: chosen from free memory and log size.
    pub use_memory: Option<u64>,
    /// Variables of the key management.
    pub keys: KeyOptions,
    /// `--binlog`, `--skip-binlog`
    pub engine_binlog: EngineBinlog,
    /// Wanted limit of open files.
    pub open_files_limit: Option<u64>,
    /// `--verbose`
    pub verbose: bool,
}

/// Options of `--copy-back` and `--move-back`. Directories are absolute.
#[derive(Clone)]
pub struct RestoreOptions {
    /// Name the program was called by.
    pub tool_name: String,
    /// The backup.
    pub target_dir: PathBuf,
    /// Copy, or move.
    pub mode: RestoreMode,
    /// Where the data goes.
    pub datadir: PathBuf,
    /// `innodb_data_home_dir`; absent: the data directory.
    pub innodb_data_home_dir: Option<PathBuf>,
    /// `innodb_data_file_path`; absent: that of the backup.
    pub innodb_data_file_path: Option<String>,
    /// `innodb_undo_directory`; absent: the data directory.
    pub innodb_undo_directory: Option<PathBuf>,
    /// `innodb_log_group_home_dir`; absent: the data directory.
    pub innodb_log_group_home_dir: Option<PathBuf>,
    /// `aria_log_dir_path`; absent: the data directory.
    pub aria_log_dir_path: Option<PathBuf>,
    /// `rocksdb_datadir`; absent: `#rocksdb` in the data directory.
    pub rocksdb_datadir: Option<PathBuf>,
    /// Name under which a dump of the buffer pool is restored; absent: it is not.
    pub innodb_buffer_pool_filename: Option<String>,
    /// Threads.
    pub parallel: NonZeroUsize,
    /// `--force-non-empty-directories`
    pub force_non_empty_directories: bool,
    /// `--force-unprepared`
    pub force_unprepared: bool,
    /// `--verbose`
    pub verbose: bool,
}

/// Options of `--decompress`.
#[derive(Debug, Clone)]
pub struct DecompressOptions {
    /// The backup.
    pub target_dir: PathBuf,
    /// Threads; absent: one.
    pub parallel: Option<NonZeroUsize>,
    /// `--remove-original`
    pub remove_original: bool,
    /// `--verbose`
    pub verbose: bool,
}

/// How a backup is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// The backup stays.
    Copy,
    /// The backup's files become the data.
    Move,
}

/// Options of `verify`. Directories are absolute, or relative to the data directory.
#[derive(Clone)]
pub struct VerifyOptions {
    /// The backup or data directory.
    pub dir: PathBuf,
    /// Of a data directory: `innodb_data_home_dir`; absent: the data directory.
    pub innodb_data_home_dir: Option<PathBuf>,
    /// Of a data directory: `innodb_data_file_path`; absent: the default.
    pub innodb_data_file_path: Option<String>,
    /// Of a data directory: `innodb_undo_directory`; absent: the data directory.
    pub innodb_undo_directory: Option<PathBuf>,
    /// Of a data directory: `innodb_log_group_home_dir`; absent: the data directory.
    pub innodb_log_group_home_dir: Option<PathBuf>,
    /// Of a data directory: `aria_log_dir_path`; absent: the data directory.
    pub aria_log_dir_path: Option<PathBuf>,
    /// Variables of the key management.
    pub keys: KeyOptions,
    /// Threads; absent: as many as there are processors.
    pub parallel: Option<NonZeroUsize>,
    /// `--verbose`
    pub verbose: bool,
}
