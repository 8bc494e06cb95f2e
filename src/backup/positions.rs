//! Where the server stands in logs other than InnoDB's, at the moment for which the backup stands:
//! binary log, replication, Galera. All of it is read with commits blocked, and written after.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, bail};
use mdl::facts::ServerFacts;
use mdl::galera::GaleraPosition;
use mdl::position::BinlogPosition;
use mdl::privileges::{Grants, Privilege, PrivilegeError};
use mdl::replica::{ReplicaPosition, Stopped, StoppedReplica};
use mdl::session::Session;
use mdl::stage::{CommitBlocked, StageSession};

use super::target::write;
use crate::metadata::{self, MetadataNames};
use crate::options::{BackupOptions, BinlogInfo, PositionOptions};
use crate::report::Report;
use crate::sink::Sink;

/// Bytes copied at a time.
const UNIT: usize = 1 << 20;
/// The server's list of pages in its buffer pool, in the backup.
const BUFFER_POOL: &str = "ib_buffer_pool";

/// What was read.
pub struct Positions {
    /// Position in the binary log, if there is one.
    pub binlog: Option<BinlogPosition>,
    replica: Option<ReplicaPosition>,
    galera: Option<GaleraPosition>,
    /// The file of the binary log that begins just now.
    binlog_file: Option<(String, Vec<u8>)>,
}

impl Positions {
    /// Reads what `options` want. For a Galera node with GTIDs a new file of the binary log is
    /// begun: the node that gets the backup goes on with that.
    ///
    /// # Errors
    ///
    /// What the server says; the new file cannot be read.
    pub fn read(
        stage: &mut StageSession<CommitBlocked>,
        facts: &ServerFacts,
        options: PositionOptions,
    ) -> anyhow::Result<Self> {
        let replica = options.replica.then(|| stage.replica_position()).transpose()?.flatten();
        let galera = options.galera.then(|| stage.galera_position()).transpose()?.flatten();
        // Where there is no binary log, the privilege to ask is not needed.
        let asks =
            facts.log_bin && (options.galera || matches!(options.binlog, BinlogInfo::Recorded));
        let mut binlog = None;
        let mut binlog_file = None;
        if asks {
            binlog = stage.binlog_position()?;
            if options.galera && binlog.as_ref().is_some_and(|at| !at.gtid.is_empty()) {
                stage.query("FLUSH BINARY LOGS").context("begin a new file of the binary log")?;
                binlog = stage.binlog_position()?;
                binlog_file = binlog.as_ref().map(|at| read_binlog(facts, at)).transpose()?;
            }
        }
        Ok(Self { binlog, replica, galera, binlog_file })
    }

    /// Writes the files of what was read, and says it.
    ///
    /// # Errors
    ///
    /// Any failure to write.
    pub fn write(
        &self,
        sink: &dyn Sink,
        names: &MetadataNames,
        facts: &ServerFacts,
        options: PositionOptions,
        report: &Report,
    ) -> anyhow::Result<()> {
        if let Some(replica) = &self.replica {
            let words = metadata::slave_in_words(replica);
            report.say(format_args!("MySQL slave binlog position: {words}"));
            write(sink, names.slave_info, &metadata::slave_info(replica))?;
        } else if options.replica {
            // Scripts know this line, blank for blank.
            report.say(
                "Failed to get master binlog coordinates from SHOW SLAVE STATUS.This means that \
                 the server is not a replication slave. Ignoring the --slave-info option",
            );
        }
        if let Some(galera) = &self.galera {
            let text = metadata::galera_info(galera);
            write(sink, names.galera_info, &text)?;
            if facts.version.series() >= (10, 6) {
                write(sink, metadata::DONOR_GALERA_INFO, &text)?;
            }
        } else if options.galera {
            report.say("Warning: failed to get master wsrep state from SHOW STATUS.");
        }
        if let Some((name, bytes)) = &self.binlog_file {
            write(sink, name, bytes)?;
        }
        if let Some(binlog) = &self.binlog {
            let words = metadata::binlog_in_words(binlog);
            report.say(format_args!("MySQL binlog position: {words}"));
            write(sink, names.binlog_info, &metadata::binlog_info(binlog))?;
        }
        if options.galera {
            copy_buffer_pool(sink, facts)?;
        }
        Ok(())
    }
}

/// Checks that the account may do what `options` want beyond the locks.
///
/// # Errors
///
/// [`PrivilegeError`]
pub fn check_privileges(
    session: &mut Session,
    options: PositionOptions,
) -> Result<(), PrivilegeError> {
    let mut needed = Vec::new();
    if options.safe_replica.is_some() {
        needed.push(Privilege::ReplicationSlaveAdmin);
    }
    if options.replica || options.safe_replica.is_some() {
        needed.push(Privilege::SlaveMonitor);
    }
    if needed.is_empty() {
        return Ok(());
    }
    Ok(Grants::read(session)?.require(&needed)?)
}

/// `--safe-slave-backup`: the SQL thread stands still as long as what is returned lives.
///
/// # Errors
///
/// What the server says; temporary tables stay open. The SQL thread then runs as before.
pub fn stop_replica(
    options: &BackupOptions,
    report: &Report,
) -> anyhow::Result<Option<StoppedReplica>> {
    let Some(patience) = options.positions.safe_replica else { return Ok(None) };
    let session = Session::connect(&options.connection)?;
    let tell = |open| report.say(format_args!("Slave open temp tables: {open}"));
    match StoppedReplica::stop(session, patience, tell).context("stop the replica's SQL thread")? {
        Stopped::Safe(stopped) => {
            report.say("Slave is safe to backup");
            Ok(stopped)
        }
        Stopped::NoReplica => {
            report.say(
                "Not checking slave open temp tables for --safe-slave-backup because host is not \
                 a slave",
            );
            Ok(None)
        }
        Stopped::TimedOut => {
            bail!("Slave_open_temp_tables did not become zero after {} seconds", patience.as_secs())
        }
    }
}

fn read_binlog(facts: &ServerFacts, at: &BinlogPosition) -> anyhow::Result<(String, Vec<u8>)> {
    let path =
        facts.binlog_path(&at.file).context("the server does not tell where its binary log is")?;
    let mut bytes = Vec::new();
    // It has just begun; what others may write to it later belongs to another moment.
    File::open(&path)
        .and_then(|file| file.take(at.position).read_to_end(&mut bytes))
        .with_context(|| format!("read {}", path.display()))?;
    Ok((at.file.clone(), bytes))
}

/// The list of pages that the server has dumped, so that a node that is made from this backup can
/// load them.
fn copy_buffer_pool(sink: &dyn Sink, facts: &ServerFacts) -> anyhow::Result<()> {
    let path = facts.datadir.join(&facts.innodb_buffer_pool_filename);
    let Ok(mut file) = File::open(&path) else { return Ok(()) };
    let out = sink.create(Path::new(BUFFER_POOL)).context("create ib_buffer_pool in the backup")?;
    let mut buffer = vec![0; UNIT];
    let mut offset = 0;
    loop {
        let len = file.read(&mut buffer).with_context(|| format!("read {}", path.display()))?;
        let Some(bytes) = buffer.get(..len).filter(|bytes| !bytes.is_empty()) else { break };
        out.write_at(offset, bytes).context("write ib_buffer_pool to the backup")?;
        offset += len as u64;
    }
    out.finish(offset).context("finish ib_buffer_pool in the backup")
}
