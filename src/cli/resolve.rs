//! From the values of all options to what is to be done.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use innodb::Lsn;
use mdl::holders::QueryType;
use mdl::session::{ConnectOptions, Connections, Protocol, TlsOptions};
use mdl::stage::{LockKind, LockOptions};

use super::settings::Origin;
use super::table::{Mode, OPTIONS, Support};
use super::usage_error::UsageError;
use super::value::{self, Value};
use super::{Action, Interface, Parser, help, secret};
use crate::compression::Compression;
use crate::filter::{FilterOptions, ListFile};
use crate::keys_source::{self, KeyOptions};
use crate::options::{
    BackupOptions, BinlogInfo, Command, Compress, DecompressOptions, EngineBinlog, IncrementalBase,
    LongQueries, Output, PositionOptions, PrepareOptions, RecordKey, RestoreMode, RestoreOptions,
    StreamFormat, VerifyOptions,
};

/// Where Debian's server keeps its data.
pub(super) const DATADIR: &str = "/var/lib/mysql";

/// Characters that the column for names holds.
const HISTORY_NAME_LEN: usize = 255;

impl Parser<'_> {
    /// Decides what is to be done, once everything is read.
    pub(super) fn decide(&mut self, tool_name: &str) -> Result<Action, UsageError> {
        match self.first_error.take() {
            Some(error) if error.rank() == 0 => return Err(error),
            error => {
                // The reference comes to these before it looks for unknown options.
                if self.settings.flag("version") {
                    return Ok(self.version());
                }
                if self.settings.flag("help") {
                    return Ok(Action::Help(self.help()));
                }
                error.map_or(Ok(()), Err)?;
            }
        }
        self.check_values()?;
        if self.interface == Interface::Innobackupex {
            self.adapt_innobackupex()?;
        }
        let mode = self.mode()?;
        if self.settings.flag("print-param") {
            return Ok(Action::PrintParam(self.param()));
        }
        self.check_support(mode)?;
        let mut ask_password = false;
        let command = match mode {
            Mode::Backup => {
                if let Some(typed) = self.asked_by.take() {
                    if !self.environment.interactive {
                        return Err(UsageError::NoPassword(typed));
                    }
                    ask_password = true;
                }
                Command::Backup(Box::new(self.backup(tool_name)?))
            }
            Mode::Prepare => Command::Prepare(Box::new(self.prepare(tool_name)?)),
            Mode::CopyBack => self.restore(tool_name, RestoreMode::Copy)?,
            Mode::MoveBack => self.restore(tool_name, RestoreMode::Move)?,
            Mode::Verify => Command::Verify(Box::new(self.verify()?)),
            Mode::Decompress => Command::Decompress(DecompressOptions {
                target_dir: self.target_dir()?,
                parallel: self.parallel(),
                remove_original: self.settings.flag("remove-original"),
                verbose: self.settings.flag("verbose"),
            }),
        };
        Ok(Action::Run { command, ask_password })
    }

    /// The help, with the values that the options have now.
    pub fn help(&self) -> String {
        help::help(&self.program, &self.settings, self.environment)
    }

    fn version(&self) -> Action {
        match self.interface {
            Interface::Innobackupex => Action::InnobackupexVersion(help::innobackupex_version()),
            Interface::Usual | Interface::Verify => Action::Version,
        }
    }

    fn check_values(&self) -> Result<(), UsageError> {
        self.protocol()?;
        self.check_name("stream", &["mbstream", "xbstream", "tar"])?;
        self.check_name("compress", &["quicklz", "zstd", "lz4"])?;
        let is_set = |name| self.settings.flag(name);
        if is_set("slave-info") && is_set("no-lock") && !is_set("safe-slave-backup") {
            let text = "Error: --slave-info is used with --no-lock but without \
                        --safe-slave-backup. The binlog position cannot be consistent with the \
                        backup data.";
            return Err(UsageError::Message(text.to_owned()));
        }
        if self.settings.text("datadir").is_some_and(|datadir| datadir == "./") {
            let text = "mariabackup: Error: Please set parameter 'datadir'";
            return Err(UsageError::Message(text.to_owned()));
        }
        Ok(())
    }

    /// The text of `option`, also an empty one, and that of one that is taken back: there, it has
    /// the value 0.
    fn given_text(&self, option: &str) -> Option<std::ffi::OsString> {
        self.settings.origin(option)?;
        match self.settings.value(option) {
            Value::Text(text) => Some(text),
            _ => Some("0".into()),
        }
    }

    /// The text of `option` must be one of `names`, in any case.
    fn check_name(&self, option: &str, names: &[&str]) -> Result<(), UsageError> {
        let Some(text) = self.given_text(option) else { return Ok(()) };
        if names.iter().any(|name| text.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let message = format!("Invalid --{option} argument: {}", text.display());
        Err(match self.interface {
            Interface::Innobackupex => UsageError::Innobackupex(message),
            Interface::Usual | Interface::Verify => UsageError::Message(message),
        })
    }

    fn mode(&self) -> Result<Mode, UsageError> {
        let others = [
            (Mode::Decompress, "decompress"),
            (Mode::CopyBack, "copy-back"),
            (Mode::MoveBack, "move-back"),
            (Mode::Prepare, "prepare"),
        ];
        let mut chosen = others.iter().filter(|(_, name)| self.settings.flag(name));
        let shown = |name| if name == "prepare" { "apply-log" } else { name };
        if self.interface == Interface::Verify {
            let other = chosen.next().map(|(_, name)| *name);
            let other = other.or(self.settings.flag("backup").then_some("backup"));
            return match other {
                None => Ok(Mode::Verify),
                Some(name) => {
                    let text = format!("Error: verify and --{name} are mutually exclusive");
                    Err(UsageError::Message(text))
                }
            };
        }
        let (one, other) = (chosen.next(), chosen.next());
        let is_backup = match self.interface {
            Interface::Innobackupex => one.is_none(),
            Interface::Usual | Interface::Verify => {
                self.settings.flag("backup") || (one.is_none() && self.settings.flag("print-param"))
            }
        };
        match (one, other, is_backup) {
            (Some((_, one)), Some((_, two)), _) => {
                Err(UsageError::Exclusive(shown(one), shown(two)))
            }
            (Some((mode, _)), None, false) => Ok(*mode),
            (None, _, true) => Ok(Mode::Backup),
            _ => Err(UsageError::NoMode(self.help())),
        }
    }

    /// Refuses what this version cannot serve in this mode, and says what has no effect.
    fn check_support(&mut self, mode: Mode) -> Result<(), UsageError> {
        for spec in OPTIONS {
            let name = spec.name;
            // A server's own options may stand in its groups; they are not a wish to this program.
            // This one tells that the server itself is damaged.
            let is_wish = name == "innodb-force-recovery"
                || self.settings.origin(name).is_some_and(|at| at != Origin::ServerGroup);
            if !is_wish || self.settings.value(name) == value::default_of(spec) {
                continue;
            }
            match spec.support {
                Support::NotYet if name == "innodb-force-recovery" && mode == Mode::Backup => {
                    let mode = match self.interface {
                        Interface::Innobackupex => "--apply-log",
                        Interface::Usual | Interface::Verify => "--prepare",
                    };
                    return Err(UsageError::Message(format!(
                        "mariabackup: The option \"innodb_force_recovery\" should only be used \
                         with \"{mode}\"."
                    )));
                }
                Support::NotYet if spec.modes.contain(mode) => {
                    return Err(UsageError::NotSupported(name.to_owned()));
                }
                Support::Obsolete => {
                    self.warnings.push(format!("Obsolete option: {name}. Ignored"));
                }
                Support::ReadLock if mode == Mode::Backup && !self.read_lock() => {
                    self.warnings.push(format!(
                        "Obsolete option: {name}. Ignored; it takes effect with \
                         --consistency-lock=ftwrl"
                    ));
                }
                Support::NotYet | Support::NoEffect | Support::Full | Support::ReadLock => {}
            }
        }
        match self.settings.number("innodb-log-write-ahead-size") {
            Some(size) if mode == Mode::Backup && !size.is_power_of_two() => {
                let text =
                    format!("InnoDB: innodb_log_write_ahead_size={size} is not a power of two");
                Err(UsageError::Message(text))
            }
            _ => Ok(()),
        }
    }

    fn backup(&self, tool_name: &str) -> Result<BackupOptions, UsageError> {
        let tmpdir = self.settings.text("tmpdir").or_else(|| {
            self.environment.variable("TMPDIR").filter(|path| !path.is_empty()).cloned()
        });
        let positive = |name| self.settings.number(name).filter(|number| *number > 0);
        let seconds = |name| positive(name).map(Duration::from_secs);
        Ok(BackupOptions {
            tool_name: tool_name.to_owned(),
            tool_command: secret::masked(self.arguments, &self.secrets, "...")
                .iter()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
            output: match self.settings.text("stream") {
                Some(format) if format.eq_ignore_ascii_case("tar") => {
                    Output::Stream(StreamFormat::Tar)
                }
                Some(_) => Output::Stream(StreamFormat::Xbstream),
                None => Output::Directory,
            },
            target_dir: self.target_dir()?,
            compress: self.compress(),
            makes_parents: self.interface == Interface::Innobackupex,
            incremental: self.incremental_base()?,
            history: self.history()?,
            extra_lsndir: self.path("extra-lsndir"),
            connection: self.connection()?,
            datadir: self.path("datadir"),
            parallel: self.parallel().unwrap_or(NonZeroUsize::MIN),
            throttle: positive("throttle").and_then(|limit| u32::try_from(limit).ok()),
            tmpdir: self.environment.absolute(&first_of_list(tmpdir.as_deref())),
            open_files_limit: positive("open-files-limit"),
            locks: self.locks()?,
            lock_ddl_per_table: self.settings.flag("lock-ddl-per-table"),
            checkpoint_now: self.settings.flag("innodb-log-checkpoint-now"),
            long_queries: LongQueries {
                wait_threshold: seconds("ftwrl-wait-threshold").unwrap_or_default(),
                wait_type: self.query_type("ftwrl-wait-query-type")?,
                kill_after: seconds("kill-long-queries-timeout"),
                kill_type: self.query_type("kill-long-query-type")?,
            },
            keys: self.keys(Mode::Backup)?,
            positions: self.positions(),
            extended_validation: self.settings.flag("extended-validation"),
            log_page_corruption: self.settings.flag("log-innodb-page-corruption"),
            engine_binlog: self.engine_binlog(),
            filter: self.filter(),
            check_privileges: self.settings.flag("check-privileges"),
            verbose: self.settings.flag("verbose"),
        })
    }

    fn filter(&self) -> FilterOptions {
        let list = |name| self.settings.text(name).map(OsString::into_vec);
        let file = |name| {
            let typed = PathBuf::from(self.settings.text(name)?);
            Some(ListFile { path: self.environment.absolute(typed.as_os_str()), typed })
        };
        FilterOptions {
            databases: list("databases"),
            databases_file: file("databases-file"),
            databases_exclude: list("databases-exclude"),
            tables: list("tables"),
            tables_file: file("tables-file"),
            tables_exclude: list("tables-exclude"),
        }
    }

    fn compress(&self) -> Option<Compress> {
        let name = self.given_text("compress")?;
        let number = |option| self.settings.number(option).unwrap_or_default();
        let compression = match name.to_string_lossy().to_ascii_lowercase().as_str() {
            "zstd" => Compression::Zstd(i32::try_from(number("compress-level")).unwrap_or(1)),
            "lz4" => Compression::Lz4,
            _ => {
                let len = usize::try_from(number("compress-chunk-size")).unwrap_or(usize::MAX);
                Compression::QuickLz(len.min(qpress::BLOCK_LEN_MAX))
            }
        };
        let given = self.settings.origin("compress-threads").map(|_| number("compress-threads"));
        let threads = given.and_then(|count| NonZeroUsize::new(usize::try_from(count).ok()?));
        let threads = threads.or_else(|| thread::available_parallelism().ok());
        Some(Compress { compression, threads: threads.unwrap_or(NonZeroUsize::MIN) })
    }

    /// The name to record the backup by; `--history` alone gives an empty one.
    fn history(&self) -> Result<Option<String>, UsageError> {
        let Some(name) = self.words("history")? else { return Ok(None) };
        // The column takes no more, and cut it would not be found again.
        if name.chars().count() > HISTORY_NAME_LEN || name.chars().any(|c| c > '\u{FFFF}') {
            let text = format!(
                "Error: value of --history is longer than {HISTORY_NAME_LEN} characters or has \
                 characters of four bytes, which the server's table does not take"
            );
            return Err(UsageError::Message(text));
        }
        Ok(Some(name))
    }

    /// The text of `option`, also an empty one; `None` where it is not given or taken back.
    fn words(&self, option: &str) -> Result<Option<String>, UsageError> {
        match self.settings.value(option) {
            Value::Text(_) => Ok(Some(self.utf8(option)?.unwrap_or_default())),
            _ => Ok(None),
        }
    }

    fn recorded_base(&self) -> Result<Option<IncrementalBase>, UsageError> {
        let name = self.words("incremental-history-name")?.map(RecordKey::Name);
        let uuid = self.words("incremental-history-uuid")?.map(RecordKey::Uuid);
        if name.is_some() && uuid.is_some() {
            let text = "It is allowed to use either --incremental-history-name or \
                        --incremental-history-uuid, but not both.";
            return Err(UsageError::Message(text.to_owned()));
        }
        Ok(name.or(uuid).map(IncrementalBase::Recorded))
    }

    /// The first of these that is given counts, as in the reference.
    fn incremental_base(&self) -> Result<Option<IncrementalBase>, UsageError> {
        let recorded = self.recorded_base()?;
        let is_given = |name| self.settings.origin(name).is_some();
        if is_given("incremental-lsn") {
            let text = self.settings.text("incremental-lsn").unwrap_or_default();
            let text = text.to_string_lossy();
            // The reference takes these before the digits.
            let digits = text.trim_ascii_start();
            let digits = digits.strip_prefix('+').unwrap_or(digits);
            let is_number = digits.starts_with(|first: char| first.is_ascii_digit());
            return match digits.parse() {
                Ok(lsn) if is_number => Ok(Some(IncrementalBase::Lsn(Lsn(lsn)))),
                _ => Err(UsageError::Message(format!(
                    "mariabackup: value '{text}' may be wrong format for incremental option."
                ))),
            };
        }
        let dir = self.path("incremental-basedir").map(IncrementalBase::Dir);
        // Not a full backup, where a script has set a variable to nothing.
        if dir.is_none() && is_given("incremental-basedir") {
            let text = "Error: --incremental-basedir is empty";
            return Err(UsageError::Message(text.to_owned()));
        }
        Ok(dir.or(recorded))
    }

    fn positions(&self) -> PositionOptions {
        let binlog = match self.settings.value("binlog-info") {
            Value::Choice("off") => BinlogInfo::Off,
            Value::Choice("lockless") => BinlogInfo::Recovered,
            _ => BinlogInfo::Recorded,
        };
        let patience = self.settings.number("safe-slave-backup-timeout").unwrap_or(300);
        let is_safe = self.settings.flag("safe-slave-backup");
        PositionOptions {
            binlog,
            replica: self.settings.flag("slave-info"),
            galera: self.settings.flag("galera-info"),
            safe_replica: is_safe.then(|| Duration::from_secs(patience)),
        }
    }

    fn engine_binlog(&self) -> EngineBinlog {
        if self.settings.flag("binlog") { EngineBinlog::Saved } else { EngineBinlog::Skipped }
    }

    /// Whether a global read lock takes the place of the stages.
    fn read_lock(&self) -> bool {
        self.settings.value("consistency-lock") == Value::Choice("ftwrl")
    }

    fn locks(&self) -> Result<LockOptions, UsageError> {
        let kind = match (self.settings.flag("no-lock"), self.read_lock()) {
            (false, false) => LockKind::Stages,
            (false, true) => LockKind::ReadLock,
            (true, false) => LockKind::None,
            (true, true) => return Err(UsageError::Exclusive("no-lock", "consistency-lock=ftwrl")),
        };
        let seconds = self.settings.number("startup-wait-timeout").filter(|seconds| *seconds > 0);
        Ok(LockOptions { kind, patience: seconds.map(Duration::from_secs) })
    }

    /// The kind of queries that the option `name` means; without a read lock, its value is not
    /// looked at.
    fn query_type(&self, name: &'static str) -> Result<QueryType, UsageError> {
        let text = match self.settings.value(name) {
            Value::Choice(text) => text.to_owned(),
            Value::Text(text) => text.to_string_lossy().to_ascii_uppercase(),
            _ => "ALL".to_owned(),
        };
        match text.as_str() {
            "ALL" | "0" => Ok(QueryType::All),
            "UPDATE" | "1" => Ok(QueryType::Update),
            "SELECT" | "2" => Ok(QueryType::Select),
            _ if !self.read_lock() => Ok(QueryType::All),
            _ => Err(UsageError::Value { option: name.to_owned(), value: text, why: None }),
        }
    }

    fn prepare(&self, tool_name: &str) -> Result<PrepareOptions, UsageError> {
        Ok(PrepareOptions {
            tool_name: tool_name.to_owned(),
            target_dir: self.target_dir()?,
            incremental_dir: self.path("incremental-dir"),
            parallel: self.parallel(),
            extra_lsndir: self.path("extra-lsndir"),
            export: self.settings.flag("export"),
            export_server: self.path("export-server"),
            use_memory: self.settings.number("use-memory"),
            keys: self.keys(Mode::Prepare)?,
            engine_binlog: self.engine_binlog(),
            open_files_limit: self.settings.number("open-files-limit").filter(|limit| *limit > 0),
            verbose: self.settings.flag("verbose"),
        })
    }

    fn verify(&self) -> Result<VerifyOptions, UsageError> {
        let given = self.settings.origin("target-dir").and_then(|_| self.path("target-dir"));
        let dir = given.ok_or_else(|| {
            let text = "Error: verify needs the directory to be verified: verify DIRECTORY";
            UsageError::Message(text.to_owned())
        })?;
        // A server's option file is about its own data directory alone.
        let datadir = self.path("datadir").unwrap_or_else(|| PathBuf::from(DATADIR));
        let same = match (dir.canonicalize(), datadir.canonicalize()) {
            (Ok(dir), Ok(datadir)) => dir == datadir,
            _ => dir == datadir,
        };
        let counts = |name: &str| same || self.settings.origin(name) != Some(Origin::ServerGroup);
        let place = |name| self.settings.text(name).filter(|_| counts(name)).map(PathBuf::from);
        let data_file_path = "innodb-data-file-path";
        Ok(VerifyOptions {
            dir,
            innodb_data_home_dir: place("innodb-data-home-dir"),
            innodb_data_file_path: self.utf8(data_file_path)?.filter(|_| counts(data_file_path)),
            innodb_undo_directory: place("innodb-undo-directory"),
            innodb_log_group_home_dir: place("innodb-log-group-home-dir"),
            aria_log_dir_path: place("aria-log-dir-path"),
            keys: self.keys(if same { Mode::Prepare } else { Mode::Verify })?,
            parallel: self.parallel(),
            verbose: self.settings.flag("verbose"),
        })
    }

    /// Variables of the key management. A running server tells its own better than its option
    /// files, but for the token, which it keeps for itself.
    fn keys(&self, mode: Mode) -> Result<KeyOptions, UsageError> {
        let mut keys = KeyOptions::default();
        if let Some(token) = self.environment.variable("VAULT_TOKEN").and_then(|t| t.to_str()) {
            keys.set(keys_source::VAULT_TOKEN, token.to_owned());
        }
        for variable in keys_source::VARIABLES {
            let name = variable.replace('_', "-");
            let is_servers = matches!(mode, Mode::Backup | Mode::Verify)
                && variable != keys_source::VAULT_TOKEN
                && self.settings.origin(&name) == Some(Origin::ServerGroup);
            if let Some(value) = self.utf8(&name)?.filter(|_| !is_servers) {
                keys.set(variable, value);
            }
        }
        Ok(keys)
    }

    fn restore(&self, tool_name: &str, mode: RestoreMode) -> Result<Command, UsageError> {
        let datadir = self.path("datadir").unwrap_or_else(|| PathBuf::from(DATADIR));
        // The server takes these for relative to its data directory.
        let below =
            |name| self.settings.text(name).map(|path| datadir.join(path).components().collect());
        let options = RestoreOptions {
            tool_name: tool_name.to_owned(),
            target_dir: self.target_dir()?,
            mode,
            innodb_data_home_dir: below("innodb-data-home-dir"),
            innodb_data_file_path: self.utf8("innodb-data-file-path")?,
            innodb_undo_directory: below("innodb-undo-directory"),
            innodb_log_group_home_dir: below("innodb-log-group-home-dir"),
            aria_log_dir_path: below("aria-log-dir-path"),
            rocksdb_datadir: below("rocksdb-datadir"),
            innodb_buffer_pool_filename: self.utf8("innodb-buffer-pool-filename")?,
            parallel: self
                .parallel()
                .or_else(|| thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            force_non_empty_directories: self.settings.flag("force-non-empty-directories"),
            force_unprepared: self.settings.flag("force-unprepared"),
            verbose: self.settings.flag("verbose"),
            datadir,
        };
        Ok(Command::Restore(Box::new(options)))
    }

    fn target_dir(&self) -> Result<PathBuf, UsageError> {
        self.path("target-dir")
            .ok_or_else(|| UsageError::Message("Error: --target-dir is empty".to_owned()))
    }

    /// The number of threads, if anything sets it.
    fn parallel(&self) -> Option<NonZeroUsize> {
        self.settings.origin("parallel")?;
        let count = usize::try_from(self.settings.number("parallel")?).ok()?;
        NonZeroUsize::new(count)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.settings.text(name).map(|path| self.environment.absolute(&path))
    }

    fn utf8(&self, name: &str) -> Result<Option<String>, UsageError> {
        let into_utf8 = |text: std::ffi::OsString| {
            let error = |_| UsageError::Message(format!("Error: value of --{name} is not UTF-8"));
            text.into_string().map_err(error)
        };
        self.settings.text(name).map(into_utf8).transpose()
    }

    fn connection(&self) -> Result<ConnectOptions, UsageError> {
        let environment = |name| self.environment.variable(name).cloned();
        let password = match self.settings.value("password") {
            Value::Text(_) => Some(self.utf8("password")?.unwrap_or_default()),
            _ => environment("MYSQL_PWD")
                .map(|password| {
                    password.into_string().map_err(|_| {
                        UsageError::Message("Error: MYSQL_PWD is not UTF-8".to_owned())
                    })
                })
                .transpose()?,
        };
        let port = match self.settings.number("port") {
            Some(port) if port > 0 => u16::try_from(port).ok(),
            _ => environment("MYSQL_TCP_PORT").and_then(|port| port.to_str()?.parse().ok()),
        };
        // In the server's own group it is where the server listens: better than a guess.
        let socket = self
            .settings
            .text("socket")
            .or_else(|| environment("MYSQL_UNIX_PORT"))
            .or_else(|| self.server_socket.clone())
            .filter(|path| !path.is_empty());
        Ok(ConnectOptions {
            user: self.utf8("user")?,
            password,
            host: self.utf8("host")?,
            port,
            socket: socket.map(PathBuf::from),
            protocol: self.protocol()?,
            tls: self.tls()?,
            made: Connections::default(),
        })
    }

    fn protocol(&self) -> Result<Option<Protocol>, UsageError> {
        let Some(text) = self.given_text("protocol") else { return Ok(None) };
        let text = text.to_string_lossy();
        let upper = text.to_uppercase();
        // The reference takes beginnings too.
        if text.is_empty() {
            Err(UsageError::Protocol("No option given", String::new()))
        } else if "TCP".starts_with(&upper) {
            Ok(Some(Protocol::Tcp))
        } else if "SOCKET".starts_with(&upper) {
            Ok(Some(Protocol::Socket))
        } else {
            Err(UsageError::Protocol("Unknown option", format!(": {text}")))
        }
    }

    fn tls(&self) -> Result<TlsOptions, UsageError> {
        let path = |name| self.settings.text(name).map(PathBuf::from);
        let implied = ["ca", "capath", "cert", "cipher", "key", "crl", "crlpath"]
            .iter()
            .any(|name| self.settings.text(&format!("ssl-{name}")).is_some());
        Ok(TlsOptions {
            enabled: self.settings.flag_if_set("ssl").or(implied.then_some(true)),
            ca: path("ssl-ca"),
            capath: path("ssl-capath"),
            cert: path("ssl-cert"),
            key: path("ssl-key"),
            cipher: self.utf8("ssl-cipher")?,
            crl: path("ssl-crl"),
            crlpath: path("ssl-crlpath"),
            version: self.utf8("tls-version")?,
            verify_server_cert: self.settings.flag_if_set("ssl-verify-server-cert"),
        })
    }
}

/// First path of a list separated by colons.
fn first_of_list(list: Option<&OsStr>) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    let list = list.unwrap_or(OsStr::new("/tmp")).as_bytes();
    let first = list.split(|byte| *byte == b':').find(|path| !path.is_empty());
    OsString::from_vec(first.unwrap_or(b"/tmp").to_vec())
}
