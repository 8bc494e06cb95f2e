//! Before and after the copying: may this server be backed up, is the target fit for a backup;
//! the files that describe the backup.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Local};
use innodb::Lsn;
use innodb::datadir::DataFilePath;
use innodb::encrypted::KeySource;
use mdl::facts::ServerFacts;
use mdl::session::Session;

use super::history::stream_format;
use super::key_check;
use super::positions::Positions;
use crate::durable;
use crate::hint::WithHint;
use crate::hooks;
use crate::keys_source;
use crate::metadata::incomplete;
use crate::metadata::{
    self, BackupMyCnf, BackupType, Checkpoints, CorruptedPages, Info, MetadataNames, Plugins,
    corrupted_pages,
};
use crate::options::{BackupOptions, BinlogInfo, Compress, Output, StreamFormat};
use crate::report::Report;
use crate::sink::{Archive, Compressed, LocalDir, Sink, Spool, Stream};
use crate::stdio;

/// What to do about a full disk.
pub const NO_SPACE: &str = "make space on the file system of --target-dir or choose another one, \
     remove what this backup left in the directory, and take the backup again";

/// What to do about a full disk while a backup runs.
pub fn no_space(options: &BackupOptions) -> &'static str {
    match options.output {
        Output::Directory => NO_SPACE,
        Output::Stream(_) => {
            "make space on the file system of --tmpdir or choose another one (the redo log is kept \
             there until the end), and take the backup again"
        }
    }
}

/// Files by which a directory is known to hold a backup, or a server's data, already.
const TAKEN: [&str; 8] = [
    "ib_logfile0",
    "ibdata1",
    "aria_log_control",
    metadata::BACKUP_MY_CNF,
    corrupted_pages::NAME,
    MetadataNames::OLD.checkpoints,
    MetadataNames::NEW.checkpoints,
    "backup.cnf",
];

/// Refuses servers that use what cannot be backed up yet, rather than leaving it out.
///
/// # Errors
///
/// What the server uses.
pub fn check_server(
    facts: &ServerFacts,
    options: &BackupOptions,
    report: &Report,
) -> anyhow::Result<()> {
    report.say(format_args!("Using server version {}", facts.version));
    if let Some(plugin) = facts.unsupported_plugin() {
        bail!("the server uses the plugin {plugin}, whose data this version cannot back up yet");
    }
    if let Some(datadir) = &options.datadir
        && !same_dir(datadir, &facts.datadir)
    {
        report.say(format_args!(
            "Warning: option 'datadir' has different values: '{}' and '{}' (server's); the \
             server's is used.",
            datadir.display(),
            facts.datadir.display()
        ));
    }
    std::fs::read_dir(&facts.datadir)
        .with_context(|| format!("read the server's data directory {}", facts.datadir.display()))
        .hint("run the backup on the server's machine, as a user who may read its files")?;
    Ok(())
}

/// The server's keys, if it has any: those are there that its tablespaces and its redo log use.
///
/// # Errors
///
/// A key management that is not supported, a key that is missing or does not fit.
pub fn keys(
    facts: &ServerFacts,
    options: &BackupOptions,
    session: &mut Session,
) -> anyhow::Result<Option<Arc<dyn KeySource>>> {
    let Some(keys) = keys_source::open(page_plugins(facts).as_ref(), &options.keys)? else {
        return Ok(None);
    };
    let spaces = mdl::facts::encrypted_spaces(session).context("ask which keys the server uses")?;
    let mut used: BTreeSet<u32> = spaces.iter().map(|space| space.key_id).collect();
    if facts.innodb_encrypt_log {
        used.insert(redo::encryption::KEY_ID);
    }
    for key_id in used {
        keys.latest_version(key_id).context("get the server's encryption keys")?;
    }
    key_check::check(facts, &spaces, &*keys)?;
    Ok(Some(keys))
}

/// Plugins without which pages cannot be read.
fn page_plugins(facts: &ServerFacts) -> Option<Plugins> {
    let plugins = &facts.page_plugins;
    let managements = || plugins.iter().filter_map(|plugin| plugin.variables.as_ref());
    (!plugins.is_empty()).then(|| Plugins {
        dir: facts.plugin_dir.display().to_string(),
        load: plugins.iter().map(|p| (p.name.clone(), p.library.clone())).collect(),
        variables: managements().flatten().cloned().collect(),
        encrypt_log: managements().next().map(|_| facts.innodb_encrypt_log),
        encrypt_tables: facts.innodb_encrypt_tables.clone(),
    })
}

fn same_dir(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Where the backup goes, for messages.
pub fn place(options: &BackupOptions) -> String {
    match options.output {
        Output::Stream(_) => "to standard output".to_owned(),
        Output::Directory => format!("in {}", options.target_dir.display()),
    }
}

/// Creates or takes the target directory, or standard output.
///
/// # Errors
///
/// The target holds a backup or data already, lies in the server's data directory, cannot be
/// created or written; standard output is a terminal.
pub fn open(options: &BackupOptions, facts: &ServerFacts) -> anyhow::Result<Box<dyn Sink>> {
    if let Some(dir) = &options.extra_lsndir {
        durable::create_dir_all(dir)
            .with_context(|| format!("create the directory {} of --extra-lsndir", dir.display()))?;
    }
    if let Output::Stream(format) = options.output {
        let output = stdio::output()
            .context("open standard output")
            .hint("redirect it to a file or to a pipe: --stream writes the backup there")?;
        let tmpdir = &options.tmpdir;
        return Ok(match format {
            StreamFormat::Xbstream => spooled(Stream::new(output), options, tmpdir),
            StreamFormat::Tar => spooled(Archive::new(output, tmpdir), options, tmpdir),
        });
    }
    let dir = open_dir(options, facts)?;
    Ok(match options.compress {
        Some(_) => spooled(dir, options, &options.target_dir),
        None => Box::new(dir),
    })
}

/// A sink that makes its writers wait, with what is kept for it in `dir`.
fn spooled(sink: impl Sink + 'static, options: &BackupOptions, dir: &Path) -> Box<dyn Sink> {
    match options.compress {
        Some(Compress { compression, threads }) => {
            Box::new(Spool::new(Compressed::new(sink, compression, threads.get()), dir))
        }
        None => Box::new(Spool::new(sink, dir)),
    }
}

fn open_dir(options: &BackupOptions, facts: &ServerFacts) -> anyhow::Result<LocalDir> {
    let target = &options.target_dir;
    incomplete::refuse(target)?;
    for name in TAKEN {
        let path = target.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(anyhow::anyhow!(
                "the target directory {} holds a backup already: {name} exists",
                target.display()
            ))
            .hint("choose a new or empty directory for --target-dir; nothing is overwritten");
        }
    }
    let datadir = facts.datadir.canonicalize().unwrap_or_else(|_| facts.datadir.clone());
    if real_path(target).is_some_and(|target| target.starts_with(datadir)) {
        return Err(anyhow::anyhow!(
            "the target directory {} lies in the server's data directory {}",
            target.display(),
            facts.datadir.display()
        ))
        .hint("choose a directory elsewhere: there, the server would take it for a database");
    }
    if let Some(parent) = target.parent().filter(|_| options.makes_parents) {
        durable::create_dir_all(parent)
            .with_context(|| format!("create the directory {}", parent.display()))?;
    }
    LocalDir::create(target)
        .with_context(|| format!("create the target directory {}", target.display()))
        .hint_if_full(NO_SPACE)
        .hint("the parent of --target-dir must exist and be writable")
}

/// The path without links of what exists or could be created there.
fn real_path(path: &Path) -> Option<PathBuf> {
    path.canonicalize()
        .ok()
        .or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
}

/// What the files that describe a backup are made of.
pub struct Metadata<'a> {
    /// The command line.
    pub options: &'a BackupOptions,
    /// The server.
    pub facts: &'a ServerFacts,
    /// What an incremental backup is based on.
    pub base: Option<Lsn>,
    /// The newest checkpoint at the end.
    pub checkpoint: Lsn,
    /// The end of the log.
    pub end: Lsn,
    /// Where the server stands in other logs.
    pub positions: &'a Positions,
    /// Pages that were damaged.
    pub corrupted: &'a CorruptedPages,
    /// When the backup began.
    pub started: DateTime<Local>,
    /// How long DDL was blocked.
    pub lock_time: Duration,
}

impl Metadata<'_> {
    /// Writes all of them and has the whole backup on stable storage when it returns. Returns what
    /// the info file tells.
    ///
    /// # Errors
    ///
    /// Any failure to write or sync.
    pub fn write(
        &self,
        sink: &dyn Sink,
        session: &mut Session,
        report: &Report,
    ) -> anyhow::Result<Info> {
        let version = &self.facts.version;
        let names = MetadataNames::for_version(version.major, version.minor);
        let place = place(self.options);
        let target = self.options.target_dir.display();
        report.say(format_args!("Backup created in directory '{target}/'"));
        hooks::reach("before-metadata");
        self.positions.write(sink, &names, self.facts, self.options.positions, report)?;
        report.say("Writing backup-my.cnf");
        write(sink, metadata::BACKUP_MY_CNF, &self.my_cnf(report)?.render())?;
        report.say(format_args!("Writing {}", names.info));
        let uuid = session.query_value("SELECT UUID()").context("ask the server for a UUID")?;
        let info = Info {
            uuid,
            name: self.options.history.clone().unwrap_or_default(),
            tool_name: self.options.tool_name.clone(),
            tool_command: self.options.tool_command.clone(),
            tool_version: version.series_text(),
            server_version: version.to_string(),
            start_time: self.started,
            end_time: Local::now(),
            lock_time: self.lock_time.as_secs(),
            binlog_pos: self.positions.binlog.clone(),
            from_lsn: self.base.unwrap_or(Lsn(0)),
            to_lsn: self.checkpoint,
            partial: self.options.filter.is_given(),
            incremental: self.base.is_some(),
            format: match self.options.output {
                Output::Directory => "file",
                Output::Stream(StreamFormat::Tar) => "tar",
                Output::Stream(StreamFormat::Xbstream) => stream_format(version),
            },
            compressed: self.options.compress.is_some(),
        };
        self.write_for_scripts(sink, names.info, &info.render())?;
        if !self.corrupted.is_empty() {
            report.say(format_args!("Writing {}", corrupted_pages::NAME));
            write(sink, corrupted_pages::NAME, &self.corrupted.render())?;
        }
        report.say("Syncing the backup to stable storage");
        sink.sync().with_context(|| format!("sync the backup {place}"))?;
        hooks::reach("before-checkpoints");
        let checkpoints = Checkpoints {
            backup_type: match self.base {
                Some(_) => BackupType::Incremental,
                None => BackupType::FullBackuped,
            },
            from_lsn: self.base.unwrap_or(Lsn(0)),
            to_lsn: self.checkpoint,
            last_lsn: self.end,
            recover_binlog_info: (version.series() >= (10, 6))
                .then_some(self.options.positions.binlog == BinlogInfo::Recovered),
        };
        self.write_for_scripts(sink, names.checkpoints, &checkpoints.render())?;
        sink.complete().with_context(|| format!("sync the backup {place}"))?;
        Ok(info)
    }

    /// Writes a file to the backup, and to the directory of `--extra-lsndir`.
    fn write_for_scripts(&self, sink: &dyn Sink, name: &str, text: &str) -> anyhow::Result<()> {
        write(sink, name, text)?;
        let Some(dir) = &self.options.extra_lsndir else { return Ok(()) };
        let path = dir.join(name);
        let written = durable::write_atomically(&path, text.as_bytes());
        written.with_context(|| format!("write {}", path.display()))
    }

    fn my_cnf(&self, report: &Report) -> anyhow::Result<BackupMyCnf> {
        let facts = self.facts;
        let mut plugins = page_plugins(facts);
        if plugins.as_mut().is_some_and(keys_source::leave_out_secrets) {
            report.say(
                "The filekey of the key file is not written to backup-my.cnf: give it to --prepare \
                 by --file-key-management-filekey=FILE:PATH, in a file.",
            );
        }
        let data_file_path = DataFilePath::parse(&facts.innodb_data_file_path)
            .with_context(|| format!("understand {}", facts.innodb_data_file_path))?;
        Ok(BackupMyCnf {
            checksum_algorithm: facts.checksum_algorithm.to_string(),
            data_file_path: data_file_path.strip_directories(),
            log_file_size: facts.innodb_log_file_size,
            page_size: u32::try_from(facts.innodb_page_size).context("innodb_page_size")?,
            undo_directory: facts.innodb_undo_directory_as_set.clone(),
            undo_tablespaces: facts.innodb_undo_tablespaces,
            compression_level: facts.innodb_compression_level,
            buffer_pool_filename: None,
            plugins,
        })
    }
}

/// Writes a whole file to the backup.
///
/// # Errors
///
/// Any failure to write.
pub fn write(
    sink: &dyn Sink,
    name: &str,
    text: &(impl AsRef<[u8]> + ?Sized),
) -> anyhow::Result<()> {
    let written = sink.create(&PathBuf::from(name)).and_then(|out| {
        let bytes = text.as_ref();
        out.write_at(0, bytes)?;
        out.finish(bytes.len() as u64)
    });
    written.with_context(|| format!("write {name} to the backup"))
}
