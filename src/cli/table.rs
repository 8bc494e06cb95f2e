//! Every option, once: its names, the form of its value, where it may stand, in which modes it
//! matters and whether this version acts on it. The parser, `--help`, the manual page and the
//! dump of variables are all made from this table.

/// One option.
#[derive(Debug)]
pub struct Spec {
    /// Long name with dashes.
    pub name: &'static str,
    /// One-letter name.
    pub short: Option<char>,
    /// Form of the value.
    pub kind: Kind,
    /// Whether a value must, may or cannot follow.
    pub argument: Argument,
    /// Which option files' groups it is read from.
    pub table: Table,
    /// What this version does with it.
    pub support: Support,
    /// Modes in which it matters.
    pub modes: Modes,
    /// Option whose value this one sets.
    pub alias_of: Option<&'static str>,
    /// The text that it has without a value.
    pub bare: &'static str,
    /// Whether its value must not be shown.
    pub is_secret: bool,
    /// Sentence for `--help` and the manual page.
    pub help: &'static str,
}

/// Form of a value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// True or false.
    Flag(bool),
    /// Present or not; never has a value.
    Marker,
    /// A string, a path or a list; the default, if there is one.
    Text(Option<&'static str>),
    /// A whole number, with a suffix K, M, G, T, P or E for powers of 1024.
    Number(Number),
    /// A decimal fraction; only its form is checked.
    Fraction,
    /// One of these names, or the index of one; the default.
    Choice(&'static [&'static str], &'static str),
}

/// Limits of a number. A value outside is moved to the nearest limit, with a warning.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Whether a value below zero is moved to `min` or is an error.
    pub signed: bool,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
    /// Values are rounded down to a multiple of this, without a warning.
    pub multiple_of: u64,
    /// Value if the option is not given; absent if that is decided elsewhere.
    pub default: Option<u64>,
}

/// Whether a value follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// None, apart from the truth value of a flag.
    No,
    /// Perhaps one, after `=` or joined to the letter.
    Optional,
    /// One, after `=`, joined to the letter or as the next word.
    Required,
}

/// Kinds of groups of option files that an option is read from. All are read from the command
/// line and from the groups `[mariabackup]`, `[mariadb-backup]`, `[xtrabackup]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// `[client]` and its relatives.
    Client,
    /// `[mysqld]` and its relatives; also after `--mysqld-args`.
    Server,
    /// Both.
    Both,
    /// Neither: known with `--innobackupex` alone.
    Innobackupex,
}

impl Table {
    /// Whether an option of this table is found where options of `wanted` are looked for.
    pub fn serves(self, wanted: Self) -> bool {
        match wanted {
            Self::Innobackupex => true,
            Self::Both => self != Self::Innobackupex,
            Self::Client | Self::Server => self == wanted || self == Self::Both,
        }
    }
}

/// What this version does with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Acts on it.
    Full,
    /// Nothing, and nothing is missing: the reference ignores it too, or what it tunes does not
    /// exist here.
    NoEffect,
    /// Nothing; a line says so.
    Obsolete,
    /// Acts on it with `--consistency-lock=ftwrl`; otherwise as obsolete.
    ReadLock,
    /// Refuses it in the modes in which it matters.
    NotYet,
}

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `--backup`
    Backup = 1,
    /// `--prepare`
    Prepare = 2,
    /// `--copy-back`
    CopyBack = 4,
    /// `--move-back`
    MoveBack = 8,
    /// `--decompress`
    Decompress = 16,
    /// `verify`, which is a word
    Verify = 32,
}

/// A set of modes.
#[derive(Debug, Clone, Copy)]
pub struct Modes(u8);

const BACKUP: Modes = Modes(1);
const PREPARE: Modes = Modes(2);
const BACKUP_PREPARE: Modes = Modes(3);
const RESTORE: Modes = Modes(12);
const DECOMPRESS: Modes = Modes(16);
const ALL: Modes = Modes(63);

impl Modes {
    /// Whether `mode` is one of these.
    pub fn contain(self, mode: Mode) -> bool {
        self.0 & mode as u8 != 0
    }
}

impl Spec {
    /// The option called `name`, with dashes and in lower case.
    pub fn find(name: &str) -> Option<&'static Self> {
        OPTIONS.iter().find(|spec| spec.name == name)
    }

    /// The option with this letter.
    pub fn find_short(letter: char) -> Option<&'static Self> {
        OPTIONS.iter().find(|spec| spec.short == Some(letter))
    }

    /// Whether it is one of innobackupex's own options: a bad value of these has the exit code 1.
    pub fn is_of_innobackupex(&self) -> bool {
        self.table == Table::Innobackupex || INNOBACKUPEX.contains(&self.name)
    }

    /// Name as the reference's messages spell it.
    pub fn display_name(&self) -> String {
        let underscores = self.table == Table::Server
            && ["innodb-", "open-files", "aria-"].iter().any(|start| self.name.starts_with(start));
        if underscores { self.name.replace('-', "_") } else { self.name.to_owned() }
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        argument: Argument,
        modes: Modes,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            short: None,
            kind,
            argument,
            table: Table::Client,
            support: Support::Full,
            modes,
            alias_of: None,
            bare: "",
            is_secret: false,
            help,
        }
    }

    const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn server(mut self) -> Self {
        self.table = Table::Server;
        self
    }

    const fn innobackupex(mut self) -> Self {
        self.table = Table::Innobackupex;
        self
    }

    const fn no_effect(mut self) -> Self {
        self.support = Support::NoEffect;
        self
    }

    const fn obsolete(mut self) -> Self {
        self.support = Support::Obsolete;
        self
    }

    const fn with_read_lock(mut self) -> Self {
        self.support = Support::ReadLock;
        self
    }

    const fn not_yet(mut self) -> Self {
        self.support = Support::NotYet;
        self
    }

    const fn optional(mut self) -> Self {
        self.argument = Argument::Optional;
        self
    }

    const fn bare(mut self, text: &'static str) -> Self {
        self.bare = text;
        self
    }

    const fn alias_of(mut self, name: &'static str) -> Self {
        self.alias_of = Some(name);
        self
    }
}

const fn flag(name: &'static str, modes: Modes, help: &'static str) -> Spec {
    Spec::new(name, Kind::Flag(false), Argument::No, modes, help)
}

/// A flag that is set unless it is skipped.
const fn flag_on(name: &'static str, modes: Modes, help: &'static str) -> Spec {
    Spec::new(name, Kind::Flag(true), Argument::No, modes, help)
}

const fn text(name: &'static str, modes: Modes, help: &'static str) -> Spec {
    Spec::new(name, Kind::Text(None), Argument::Required, modes, help)
}

const fn text_or(
    name: &'static str,
    default: &'static str,
    modes: Modes,
    help: &'static str,
) -> Spec {
    Spec::new(name, Kind::Text(Some(default)), Argument::Required, modes, help)
}

const fn choice(
    name: &'static str,
    names: &'static [&'static str],
    default: &'static str,
    modes: Modes,
    help: &'static str,
) -> Spec {
    Spec::new(name, Kind::Choice(names, default), Argument::Required, modes, help)
}

/// An unsigned number.
const fn count(
    name: &'static str,
    limits: (u64, u64),
    default: u64,
    modes: Modes,
    help: &'static str,
) -> Spec {
    number(name, false, limits, 1, Some(default), modes, help)
}

/// A number below zero is moved to the lower limit.
const fn signed(
    name: &'static str,
    limits: (u64, u64),
    default: u64,
    modes: Modes,
    help: &'static str,
) -> Spec {
    number(name, true, limits, 1, Some(default), modes, help)
}

const fn number(
    name: &'static str,
    signed: bool,
    limits: (u64, u64),
    multiple_of: u64,
    default: Option<u64>,
    modes: Modes,
    help: &'static str,
) -> Spec {
    let (min, max) = limits;
    let number = Number { signed, min, max, multiple_of, default };
    Spec::new(name, Kind::Number(number), Argument::Required, modes, help)
}

const U32_MAX: u64 = u32::MAX as u64;
const I32_MAX: u64 = i32::MAX as u64;
const MIB: u64 = 1 << 20;

/// Kinds of queries that options name.
pub const QUERY_TYPES: &[&str] = &["ALL", "UPDATE", "SELECT"];

/// Options that innobackupex has too, but for those of the server.
const INNOBACKUPEX: &[&str] = &[
    "apply-log",
    "close-files",
    "compress",
    "compress-chunk-size",
    "compress-threads",
    "copy-back",
    "databases",
    "decompress",
    "export",
    "extra-lsndir",
    "force-non-empty-directories",
    "ftwrl-wait-query-type",
    "ftwrl-wait-threshold",
    "ftwrl-wait-timeout",
    "galera-info",
    "history",
    "host",
    "incremental-basedir",
    "incremental-dir",
    "incremental-force-scan",
    "incremental-history-name",
    "incremental-history-uuid",
    "incremental-lsn",
    "kill-long-queries-timeout",
    "kill-long-query-type",
    "log-copy-interval",
    "move-back",
    "no-backup-locks",
    "no-lock",
    "no-version-check",
    "password",
    "port",
    "rsync",
    "safe-slave-backup",
    "safe-slave-backup-timeout",
    "slave-info",
    "socket",
    "startup-wait-timeout",
    "stream",
    "tables-file",
    "throttle",
    "use-memory",
    "user",
];

/// All options, in the order of `--help`.
pub static OPTIONS: &[Spec] = &[
    // What to do.
    flag("backup", ALL, "Take a backup of a running server into the target directory."),
    flag("prepare", ALL, "Make a backup consistent, so that it can be restored."),
    flag("apply-log", ALL, "The same as --prepare.").alias_of("prepare"),
    flag("copy-back", ALL, "Copy a prepared backup to where the server looks for its data."),
    flag("move-back", ALL, "As --copy-back, but move the files: the backup is used up."),
    flag("decompress", DECOMPRESS, "Unpack the files of a backup taken with --compress."),
    text_or(
        "target-dir",
        "./xtrabackup_backupfiles/",
        ALL,
        "Directory of the backup. A leading ~ is the home directory.",
    ),
    flag("verbose", ALL, "Say more.").short('V'),
    flag("version", ALL, "Print the version and exit.").short('v'),
    // Connection.
    text("user", BACKUP, "Account to connect as; by default the name of the system's user.")
        .short('u'),
    text("host", BACKUP, "Host to connect to. The files are read from this machine all the same.")
        .short('H'),
    count("port", (0, 65535), 0, BACKUP, "TCP port to connect to.").short('P'),
    text(
        "password",
        BACKUP,
        "Password; without a value it is asked for on the terminal. The environment variable \
         MYSQL_PWD serves as well.",
    )
    .short('p')
    .secret(),
    text("protocol", BACKUP, "How to connect: tcp or socket."),
    text("socket", BACKUP, "Unix socket to connect to.").short('S'),
    flag_on("ssl", BACKUP, "Use TLS where the server offers it.").optional(),
    text("ssl-ca", BACKUP, "File of certificate authorities, PEM. Implies --ssl."),
    text("ssl-capath", BACKUP, "Directory of certificate authorities. Implies --ssl."),
    text("ssl-cert", BACKUP, "Certificate to show to the server, PEM. Implies --ssl."),
    text("ssl-cipher", BACKUP, "Allowed ciphers. Implies --ssl."),
    text("ssl-key", BACKUP, "Key of --ssl-cert, PEM. Implies --ssl."),
    text("ssl-crl", BACKUP, "Certificate revocation list, PEM. Implies --ssl."),
    text("ssl-crlpath", BACKUP, "Directory of revocation lists. Implies --ssl."),
    text("tls-version", BACKUP, "Allowed versions of TLS, separated by commas."),
    flag("ssl-verify-server-cert", BACKUP, "Demand a valid certificate that names the host.")
        .optional(),
    text("ssl-fp", BACKUP, "Fingerprint that the server's certificate must have.").not_yet(),
    text("ssl-fplist", BACKUP, "File of fingerprints, one of which must match.").not_yet(),
    flag_on("secure-auth", BACKUP, "Refuse the old authentication of MySQL before 4.1.")
        .no_effect(),
    text("login-path", ALL, "Further group of the option files to read connection options from."),
    // Backup.
    signed(
        "throttle",
        (0, I32_MAX),
        0,
        BACKUP,
        "Upper limit of reads per second, each of up to 10 MiB; 0 is none. The redo log is not \
         slowed.",
    ),
    count(
        "startup-wait-timeout",
        (0, U32_MAX),
        0,
        BACKUP,
        "Seconds to wait for each lock before giving up, with the names of those who hold it up; \
         0 waits for ever.",
    ),
    count(
        "ftwrl-wait-timeout",
        (0, U32_MAX),
        0,
        BACKUP,
        "The same as --startup-wait-timeout. With --consistency-lock=ftwrl, also how long to wait \
         for long queries to end before the lock is asked for.",
    )
    .alias_of("startup-wait-timeout"),
    signed(
        "log-copy-interval",
        (0, I32_MAX),
        1000,
        BACKUP,
        "No effect: the redo log is followed within milliseconds.",
    )
    .no_effect(),
    text("extra-lsndir", BACKUP_PREPARE, "Directory for further copies of the metadata files."),
    text(
        "incremental-lsn",
        BACKUP,
        "Back up only pages newer than this log sequence number: the to_lsn of an earlier backup. \
         Better give its directory: tables imported since then are recognised with that alone.",
    ),
    text(
        "incremental-basedir",
        BACKUP,
        "Back up only pages newer than the backup there. Its checkpoints file and its info file, \
         as in --extra-lsndir, are enough.",
    ),
    text("incremental-dir", PREPARE, "Incremental backup to apply to the target; it is only read."),
    text(
        "incremental-history-name",
        BACKUP,
        "Back up only pages newer than the newest backup that the server has recorded by this name \
         (--history).",
    ),
    text(
        "incremental-history-uuid",
        BACKUP,
        "Back up only pages newer than the recorded backup that has this UUID.",
    ),
    flag("incremental-force-scan", BACKUP, "No effect.").no_effect(),
    text(
        "tables",
        BACKUP,
        "Only tables whose DATABASE.TABLE, as in file names, has a match for one of these POSIX \
         extended regular expressions; a comma is between two.",
    ),
    text("tables-file", BACKUP, "Only the tables in this file, DATABASE.TABLE on each line."),
    text(
        "tables-exclude",
        BACKUP,
        "No tables that match one of these patterns; goes before --tables.",
    ),
    text(
        "databases",
        BACKUP,
        "Only these databases, or tables (DATABASE.TABLE); a space is between two.",
    ),
    text("databases-file", BACKUP, "Only the databases or tables in this file, each on its line."),
    text("databases-exclude", BACKUP, "Not these databases or tables; a space is between two."),
    text("stream", BACKUP, "Write the backup to standard output: mbstream or xbstream, or tar."),
    text(
        "compress",
        BACKUP,
        "Compress each file: quicklz (.qp, as without a value), zstd (.zst) or lz4 (.lz4).",
    )
    .optional()
    .bare("quicklz"),
    count(
        "compress-threads",
        (1, U32_MAX),
        1,
        BACKUP,
        "Threads for --compress, which share the pieces of all files; as many as there are \
         processors, unless this tells another number.",
    ),
    signed("compress-level", (1, 19), 1, BACKUP, "Level of --compress=zstd: 1 is fastest."),
    number(
        "compress-chunk-size",
        false,
        (1024, u64::MAX),
        1,
        Some(65536),
        BACKUP,
        "Bytes of a block of --compress=quicklz.",
    ),
    flag("remove-original", DECOMPRESS, "Delete compressed files once all are unpacked."),
    flag(
        "galera-info",
        BACKUP,
        "Record the state of the Galera node, begin a new file of its binary log, and copy the list \
         of pages in its buffer pool.",
    ),
    flag("slave-info", BACKUP, "Record the position of the replica in its primaries' logs."),
    flag(
        "safe-slave-backup",
        BACKUP,
        "Stop the SQL thread of the replica, at a moment at which it has no temporary tables open.",
    ),
    count(
        "safe-slave-backup-timeout",
        (0, U32_MAX),
        300,
        BACKUP,
        "Seconds that --safe-slave-backup may take.",
    ),
    flag(
        "no-lock",
        BACKUP,
        "Take no lock at all: for servers with InnoDB tables alone, where nobody runs DDL. The \
         position in the binary log is not exact.",
    ),
    text(
        "history",
        BACKUP,
        "Record the backup by this name in a table of the server, mysql.mariadb_backup_history \
         (before 10.11, PERCONA_SCHEMA.xtrabackup_history).",
    )
    .optional(),
    flag_on(
        "binlog",
        BACKUP_PREPARE,
        "The binary log that InnoDB keeps (12.3 and later) belongs to the backup.",
    ),
    choice(
        "binlog-info",
        &["off", "lockless", "on", "auto"],
        "auto",
        BACKUP,
        "Whether to record the position in the binary log.",
    )
    .optional(),
    flag(
        "log-innodb-page-corruption",
        BACKUP,
        "Go on where a page of InnoDB is damaged: it is copied as it is and listed in \
         innodb_corrupted_pages, and the backup, complete otherwise, ends with an error. \
         --prepare repairs what the redo log can repair and lists the rest.",
    ),
    flag("close-files", BACKUP, "No effect: files are open only while they are copied.")
        .no_effect(),
    flag("rsync", BACKUP, "Obsolete.").obsolete(),
    flag("no-backup-locks", BACKUP, "Obsolete.").obsolete(),
    choice(
        "consistency-lock",
        &["stage", "ftwrl"],
        "stage",
        BACKUP,
        "What makes the moment of the backup: BACKUP STAGE, which blocks commits for milliseconds, \
         or FLUSH TABLES WITH READ LOCK, which blocks all writes and waits for those in progress.",
    ),
    text_or(
        "ftwrl-wait-query-type",
        "ALL",
        BACKUP,
        "Queries that --ftwrl-wait-timeout waits for: ALL, UPDATE or SELECT. Only with \
         --consistency-lock=ftwrl.",
    )
    .with_read_lock(),
    choice(
        "kill-long-query-type",
        QUERY_TYPES,
        "SELECT",
        BACKUP,
        "Queries that --kill-long-queries-timeout ends. Only with --consistency-lock=ftwrl.",
    )
    .with_read_lock(),
    count(
        "kill-long-queries-timeout",
        (0, U32_MAX),
        0,
        BACKUP,
        "Seconds to wait for FLUSH TABLES WITH READ LOCK before queries that have been running \
         since before it are killed; 0 kills none. Only with --consistency-lock=ftwrl.",
    )
    .with_read_lock(),
    count(
        "ftwrl-wait-threshold",
        (0, U32_MAX),
        60,
        BACKUP,
        "Seconds after which a query counts as long for --ftwrl-wait-timeout. Only with \
         --consistency-lock=ftwrl.",
    )
    .with_read_lock(),
    // Prepare.
    number(
        "use-memory",
        false,
        (8 * MIB, u64::MAX),
        8 * MIB,
        None,
        PREPARE,
        "Memory to use; by default chosen from the free memory and the size of the log.",
    ),
    flag("export", PREPARE, "Write .cfg files, to import single tables elsewhere."),
    text(
        "export-server",
        PREPARE,
        "Server (mariadbd) of the backup's series for --export: it is run for tables with changes \
         that are to be rolled back or purged. By default the first one found.",
    ),
    // Restore.
    flag(
        "force-non-empty-directories",
        RESTORE,
        "Restore into directories that are not empty. Existing files are never overwritten.",
    ),
    flag("force-unprepared", RESTORE, "Restore a backup that was not prepared."),
    // Of innobackupex alone.
    text("include", BACKUP, "The same as --tables, by its older name.")
        .alias_of("tables")
        .innobackupex(),
    flag("incremental", BACKUP, "Allow the other options for incremental backups.").innobackupex(),
    flag("no-timestamp", BACKUP, "Back up to the directory itself, not to one below it.")
        .innobackupex(),
    // The rest.
    flag("print-param", ALL, "Print the server options that --copy-back needs."),
    flag(
        "no-version-check",
        ALL,
        "No effect: there is no version check as the option --version-check had it elsewhere.",
    )
    .no_effect(),
    Spec::new("core-file", Kind::Marker, Argument::No, ALL, "No effect.").no_effect(),
    Spec { table: Table::Both, ..text("log", ALL, "No effect.").optional().no_effect() },
    // Options of the server.
    text("datadir", ALL, "Directory of the server's data: where --copy-back puts it.")
        .short('h')
        .server(),
    text("tmpdir", ALL, "Directory for temporary files.").short('t').server(),
    count("parallel", (1, 1024), 1, ALL, "Number of threads that copy.").server(),
    flag(
        "extended-validation",
        BACKUP,
        "Fail at an encrypted page that is not good once it is decrypted, although its checksum is \
         right; otherwise it is named and copied. All else is verified in any case.",
    )
    .server(),
    flag_on("encrypted-backup", BACKUP, "Take a page with a key version for encrypted.")
        .server()
        .not_yet(),
    text("log-bin", BACKUP, "No effect.").optional().server().no_effect(),
    text("innodb", ALL, "No effect.").optional().server().no_effect(),
    flag("innodb-adaptive-hash-index", PREPARE, "No effect.").server().no_effect(),
    count("innodb-autoextend-increment", (1, 1000), 8, PREPARE, "No effect.").server().no_effect(),
    text("innodb-data-file-path", RESTORE, "Files of the system tablespace and their sizes.")
        .server(),
    text("innodb-data-home-dir", RESTORE, "Directory of the system tablespace.").server(),
    choice("innodb-doublewrite", &["OFF", "ON", "fast"], "OFF", PREPARE, "No effect.")
        .optional()
        .server()
        .no_effect(),
    count("innodb-io-capacity", (100, u64::MAX), 200, PREPARE, "No effect.")
        .optional()
        .server()
        .no_effect(),
    signed("innodb-file-io-threads", (4, 64), 4, PREPARE, "No effect.").server().no_effect(),
    signed("innodb-read-io-threads", (1, 64), 4, PREPARE, "No effect.").server().no_effect(),
    signed("innodb-write-io-threads", (1, 64), 4, PREPARE, "No effect.").server().no_effect(),
    flag("innodb-file-per-table", BACKUP_PREPARE, "No effect.").server().no_effect(),
    choice(
        "innodb-flush-method",
        &["fsync", "O_DSYNC", "littlesync", "nosync", "O_DIRECT", "O_DIRECT_NO_FSYNC"],
        "O_DIRECT",
        PREPARE,
        "No effect.",
    )
    .server()
    .no_effect(),
    number(
        "innodb-log-buffer-size",
        false,
        (2 * MIB, u64::MAX),
        1,
        Some(2 * MIB),
        BACKUP_PREPARE,
        "No effect.",
    )
    .server()
    .no_effect(),
    flag("innodb-log-file-mmap", BACKUP, "No effect.").server().no_effect(),
    flag_on("innodb-log-file-buffering", BACKUP, "No effect.").server().no_effect(),
    number(
        "innodb-log-file-size",
        false,
        (4 * MIB, u64::MAX),
        1,
        Some(96 * MIB),
        BACKUP,
        "No effect.",
    )
    .server()
    .no_effect(),
    signed("innodb-log-files-in-group", (1, 100), 1, BACKUP, "No effect.").server().no_effect(),
    text("innodb-log-group-home-dir", RESTORE, "Directory of the redo log.").server(),
    count("innodb-log-write-ahead-size", (512, 4096), 512, BACKUP, "No effect.")
        .server()
        .no_effect(),
    Spec::new(
        "innodb-max-dirty-pages-pct",
        Kind::Fraction,
        Argument::Required,
        PREPARE,
        "No effect.",
    )
    .server()
    .no_effect(),
    flag_on("innodb-use-native-aio", PREPARE, "No effect.").server().no_effect(),
    choice("innodb-linux-aio", &["auto", "io_uring", "aio"], "auto", PREPARE, "No effect.")
        .server()
        .no_effect(),
    flag("innodb-data-file-buffering", BACKUP_PREPARE, "No effect.").server().no_effect(),
    flag("innodb-data-file-write-through", PREPARE, "No effect.").server().no_effect(),
    signed("innodb-page-size", (4096, 65536), 16384, PREPARE, "Size of a page.").server(),
    text("innodb-buffer-pool-filename", RESTORE, "Name for the dump of the buffer pool.").server(),
    choice(
        "innodb-checksum-algorithm",
        // The last four are of 10.5.
        &[
            "crc32",
            "strict_crc32",
            "full_crc32",
            "strict_full_crc32",
            "innodb",
            "strict_innodb",
            "none",
            "strict_none",
        ],
        "crc32",
        BACKUP_PREPARE,
        "No effect: each file tells how its pages are checked.",
    )
    .server()
    .no_effect(),
    text("innodb-undo-directory", RESTORE, "Directory of the undo tablespaces.").server(),
    count("innodb-undo-tablespaces", (0, 126), 0, PREPARE, "Number of undo tablespaces.").server(),
    count("innodb-compression-level", (0, 9), 6, PREPARE, "No effect.").server().no_effect(),
    text_or("defaults-group", "mysqld", ALL, "Further group of the option files to read.").server(),
    text("plugin-dir", BACKUP_PREPARE, "No effect.").server().no_effect(),
    // Key managements.
    text(
        "file-key-management-filename",
        BACKUP_PREPARE,
        "File of the keys of encrypted tables and logs; by default where the server has it.",
    )
    .server(),
    text(
        "file-key-management-filekey",
        BACKUP_PREPARE,
        "Secret with which that file is encrypted, or FILE: and the path of a file that holds it.",
    )
    .server()
    .secret(),
    text(
        "file-key-management-encryption-algorithm",
        BACKUP_PREPARE,
        "How its keys are used: aes_cbc or aes_ctr.",
    )
    .server(),
    text("file-key-management-digest", BACKUP_PREPARE, "Digest that makes a key of the secret.")
        .server(),
    text(
        "file-key-management-use-pbkdf2",
        BACKUP_PREPARE,
        "Number of iterations that make a key of the secret; 0: the digest alone.",
    )
    .server(),
    text(
        "hashicorp-key-management-vault-url",
        BACKUP_PREPARE,
        "Where a Vault server has the keys: https://HOST:PORT/v1/MOUNT; by default as the server.",
    )
    .server(),
    text(
        "hashicorp-key-management-token",
        BACKUP_PREPARE,
        "Token for the Vault server. The environment variable VAULT_TOKEN serves as well.",
    )
    .server()
    .secret(),
    text(
        "hashicorp-key-management-vault-ca",
        BACKUP_PREPARE,
        "File of certificate authorities for the Vault server, PEM.",
    )
    .server(),
    text(
        "hashicorp-key-management-timeout",
        BACKUP_PREPARE,
        "Seconds to wait for the Vault server.",
    )
    .server(),
    text(
        "hashicorp-key-management-max-retries",
        BACKUP_PREPARE,
        "How often a request that failed on its way to the Vault server is sent again.",
    )
    .server(),
    // Other options of the server.
    text("aria-log-dir-path", RESTORE, "Directory of Aria's log.").server(),
    count(
        "open-files-limit",
        (0, u64::MAX),
        0,
        BACKUP_PREPARE,
        "Number of open files to allow this process.",
    )
    .server(),
    flag(
        "lock-ddl-per-table",
        BACKUP,
        "Keep DDL off all InnoDB tables from before the first is copied; statements that wait for \
         that when the locks are taken are killed.",
    )
    .server(),
    text("rocksdb-datadir", RESTORE, "Directory of RocksDB's data.").server(),
    flag_on("rocksdb-backup", BACKUP, "No effect.").server().no_effect(),
    flag_on("check-privileges", BACKUP, "Check the account's privileges first.").server(),
    count(
        "innodb-force-recovery",
        (0, 1),
        0,
        BACKUP_PREPARE,
        "Prepare a damaged backup as far as it goes.",
    )
    .optional()
    .server()
    .not_yet(),
    flag("innodb-log-checkpoint-now", BACKUP, "Have the server write a checkpoint first.")
        .optional()
        .server(),
    flag(
        "mysqld-args",
        ALL,
        "Everything that follows is an option of the server; those of no use here are ignored.",
    )
    .server(),
    #[cfg(feature = "test-hooks")]
    text("dbug", ALL, "Do what tests want: +d,NAME,...").short('#').optional().server().no_effect(),
    flag("help", ALL, "Print this help and exit.").short('?').server(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_aliases_lead_somewhere() {
        for (at, spec) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS.iter().skip(at + 1).all(|other| other.name != spec.name));
            if let Some(letter) = spec.short {
                assert!(
                    OPTIONS.iter().skip(at + 1).all(|other| other.short != Some(letter)),
                    "-{letter}"
                );
            }
            assert_eq!(spec.name, spec.name.to_lowercase().replace('_', "-"));
            if let Some(name) = spec.alias_of {
                let target = Spec::find(name).unwrap();
                assert!(target.alias_of.is_none());
                assert_eq!(target.argument, spec.argument);
            }
        }
    }

    #[test]
    fn letters_are_those_of_the_reference() {
        let mut letters: Vec<char> = OPTIONS.iter().filter_map(|spec| spec.short).collect();
        letters.sort_unstable();
        assert_eq!(letters, ['?', 'H', 'P', 'S', 'V', 'h', 'p', 't', 'u', 'v']);
    }

    #[test]
    fn options_of_innobackupex_are_there() {
        for name in INNOBACKUPEX {
            let spec = Spec::find(name).unwrap();
            assert!(spec.table == Table::Client, "{name}");
        }
    }

    #[test]
    fn defaults_are_within_their_limits() {
        for spec in OPTIONS {
            match spec.kind {
                Kind::Number(number) => {
                    let default = number.default.unwrap_or(number.min);
                    assert!((number.min..=number.max).contains(&default), "{}", spec.name);
                }
                Kind::Choice(names, default) => assert!(names.contains(&default)),
                Kind::Flag(_) | Kind::Marker | Kind::Text(_) | Kind::Fraction => {}
            }
        }
    }
}
