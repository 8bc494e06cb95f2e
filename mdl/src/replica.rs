//! Where a replica stands in the binary logs of its primaries, and how it is made to stand still.

use std::time::{Duration, Instant};

use crate::session::{Rows, Session, SessionError};

const GTID_SLAVE_POS: &str = "SELECT @@GLOBAL.gtid_slave_pos";
const ALL_SLAVES: &str = "SHOW ALL SLAVES STATUS";
const OPEN_TEMP_TABLES: &str = "Slave_open_temp_tables";

/// Pause between two looks at the temporary tables that the replica has open.
const PAUSE: Duration = Duration::from_secs(3);

/// Where a replica goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaPosition {
    /// `gtid_slave_pos`; may be empty.
    pub gtid: String,
    /// Its primaries, at least one, in the order of the server.
    pub primaries: Vec<Primary>,
}

/// A primary of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Name of the connection; empty for the default one.
    pub connection: String,
    /// Whether the replica goes on by GTID.
    pub uses_gtid: bool,
    /// File of the primary's binary log up to which all is executed.
    pub file: String,
    /// Offset in that file.
    pub position: u64,
}

impl ReplicaPosition {
    /// Reads it through `query`. `None`: the server is no replica.
    pub(crate) fn read(
        mut query: impl FnMut(&str) -> Result<Rows, SessionError>,
    ) -> Result<Option<Self>, SessionError> {
        let gtid = query(GTID_SLAVE_POS)?.first_value(GTID_SLAVE_POS)?;
        let rows = query(ALL_SLAVES)?;
        let mut primaries = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            let text =
                |column| row.get(column).ok_or_else(|| SessionError::no_value(ALL_SLAVES, column));
            let position = text("Exec_Master_Log_Pos")?.parse();
            primaries.push(Primary {
                connection: text("Connection_name")?.to_owned(),
                uses_gtid: !text("Using_Gtid")?.eq_ignore_ascii_case("no"),
                file: text("Relay_Master_Log_File")?.to_owned(),
                position: position
                    .map_err(|_| SessionError::no_value(ALL_SLAVES, "Exec_Master_Log_Pos"))?,
            });
        }
        Ok((!primaries.is_empty()).then_some(Self { gtid, primaries }))
    }
}

/// A replica whose SQL thread is stopped until this ends.
#[derive(Debug)]
pub struct StoppedReplica {
    /// Of which the SQL thread is to be started again.
    session: Option<Session>,
}

/// What became of the wish to stop a replica.
#[derive(Debug)]
pub enum Stopped {
    /// It has no temporary tables open, and stays so until the guard ends; absent: its SQL thread
    /// did not run anyway.
    Safe(Option<StoppedReplica>),
    /// The server is no replica.
    NoReplica,
    /// It had temporary tables open all the time.
    TimedOut,
}

impl StoppedReplica {
    /// Stops the SQL thread of the default connection at a moment at which the replica has no
    /// temporary tables open: what was done in those is in no backup. Tells each look by `tell`.
    ///
    /// # Errors
    ///
    /// [`SessionError`]; the SQL thread then runs as before.
    pub fn stop(
        mut session: Session,
        patience: Duration,
        mut tell: impl FnMut(u64),
    ) -> Result<Stopped, SessionError> {
        let rows = session.query("SHOW SLAVE STATUS")?;
        let Some(row) = rows.first() else { return Ok(Stopped::NoReplica) };
        let is_running = row.get("Slave_SQL_Running") == Some("Yes");
        if !is_running {
            return Ok(Stopped::Safe(None));
        }
        let begun = Instant::now();
        loop {
            session.execute("STOP SLAVE SQL_THREAD")?;
            let open = session.status(OPEN_TEMP_TABLES);
            // From here on every way out starts it again.
            let mut stopped = Self { session: Some(session) };
            let open = open?.and_then(|text| text.parse().ok()).unwrap_or(0);
            tell(open);
            if open == 0 {
                return Ok(Stopped::Safe(Some(stopped)));
            }
            if begun.elapsed() >= patience {
                return Ok(Stopped::TimedOut);
            }
            let Some(free) = stopped.restart()? else { return Ok(Stopped::TimedOut) };
            session = free;
            std::thread::sleep(PAUSE.min(patience));
        }
    }

    fn restart(&mut self) -> Result<Option<Session>, SessionError> {
        let Some(mut session) = self.session.take() else { return Ok(None) };
        session.execute("START SLAVE SQL_THREAD")?;
        Ok(Some(session))
    }
}

impl Drop for StoppedReplica {
    fn drop(&mut self) {
        // A server that is gone has no replica to start.
        let _ = self.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(
        gtid: &str,
        primaries: &[[&str; 4]],
    ) -> Result<Option<ReplicaPosition>, SessionError> {
        let text = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let columns =
            ["Connection_name", "Using_Gtid", "Relay_Master_Log_File", "Exec_Master_Log_Pos"];
        ReplicaPosition::read(|sql| {
            if sql == GTID_SLAVE_POS {
                return Ok(Rows::new(text(&["x"]), vec![vec![Some(gtid.to_owned())]]));
            }
            let row = |row: &[&str; 4]| text(row).into_iter().map(Some).collect();
            Ok(Rows::new(text(&columns), primaries.iter().map(row).collect()))
        })
    }

    #[test]
    fn positions_of_replicas() {
        assert_eq!(position("1-1-1", &[]).unwrap(), None);
        let primaries = [["", "Slave_Pos", "a.1", "7"], ["b", "No", "b.2", "8"]];
        let read = position("1-1-1", &primaries).unwrap().unwrap();
        assert_eq!(read.gtid, "1-1-1");
        let [first, second] = &read.primaries[..] else { panic!("{read:?}") };
        assert!(first.uses_gtid && first.connection.is_empty());
        assert!(!second.uses_gtid && second.file == "b.2" && second.position == 8);
        assert!(position("", &[["", "No", "a.1", "x"]]).is_err());
    }
}
