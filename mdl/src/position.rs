//! Positions in the server's logs: InnoDB's redo log, binary log, GTID.

use innodb::Lsn;

use crate::session::{Rows, Session, SessionError, status_query};

const MASTER_STATUS: &str = "SHOW MASTER STATUS";

/// Reads without privileges and waits; always there on a server with a binary log.
const GTID: &str = "SELECT @@GLOBAL.gtid_current_pos";

/// Status variable: end of the log that mini-transactions have reserved.
const LSN_CURRENT: &str = "Innodb_lsn_current";

/// Status variable: end of the log that is on stable storage.
const LSN_FLUSHED: &str = "Innodb_lsn_flushed";

/// End of what is written to the binary log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogPosition {
    /// Name of the file, without folder.
    pub file: String,
    /// Offset in the file.
    pub position: u64,
    /// GTID of the last change in each domain, comma separated; empty if there was none.
    pub gtid: String,
}

impl BinlogPosition {
    /// Reads it through `query`. `None`: the server writes no binary log.
    pub(crate) fn read(
        mut query: impl FnMut(&str) -> Result<Rows, SessionError>,
    ) -> Result<Option<Self>, SessionError> {
        let status = query(MASTER_STATUS)?;
        let Some(row) = status.first() else { return Ok(None) };
        let missing = |value| SessionError::no_value(MASTER_STATUS, value);
        let file = row.get("File").ok_or_else(|| missing("File"))?;
        let position = row.get("Position").and_then(|text| text.parse().ok());
        let position = position.ok_or_else(|| missing("Position"))?;
        let gtid = query(GTID)?.first_value(GTID)?;
        Ok(Some(Self { file: file.to_owned(), position, gtid }))
    }
}

/// Position in the binary log; `None` if the server writes none.
///
/// # Errors
///
/// [`SessionError`], for one if the account lacks `BINLOG MONITOR`.
pub fn binlog(session: &mut Session) -> Result<Option<BinlogPosition>, SessionError> {
    BinlogPosition::read(|sql| session.query(sql))
}

/// End of InnoDB's log in memory: the end of a mini-transaction. `None` from a server that runs
/// without `InnoDB`.
///
/// # Errors
///
/// [`SessionError`]
pub fn innodb_lsn_current(session: &mut Session) -> Result<Option<Lsn>, SessionError> {
    read_lsn(LSN_CURRENT, |sql| session.query(sql))
}

/// End of InnoDB's log on stable storage, likewise.
///
/// # Errors
///
/// [`SessionError`]
pub fn innodb_lsn_flushed(session: &mut Session) -> Result<Option<Lsn>, SessionError> {
    read_lsn(LSN_FLUSHED, |sql| session.query(sql))
}

/// As [`innodb_lsn_current`], through `query`.
pub(crate) fn current_lsn_by(
    query: impl FnMut(&str) -> Result<Rows, SessionError>,
) -> Result<Option<Lsn>, SessionError> {
    read_lsn(LSN_CURRENT, query)
}

/// `None` from a server that runs without `InnoDB`.
fn read_lsn(
    name: &str,
    mut query: impl FnMut(&str) -> Result<Rows, SessionError>,
) -> Result<Option<Lsn>, SessionError> {
    let sql = status_query(name);
    let rows = query(&sql)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let value = row.at(1).and_then(|text| text.parse().ok());
    value.map(|lsn| Some(Lsn(lsn))).ok_or_else(|| SessionError::no_value(&sql, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: &[&str], values: &[&str]) -> Rows {
        let text = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let row = text(values).into_iter().map(Some).collect();
        Rows::new(text(columns), if values.is_empty() { vec![] } else { vec![row] })
    }

    const COLUMNS: [&str; 4] = ["File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB"];

    #[test]
    fn position_of_a_server() {
        let read = BinlogPosition::read(|sql| {
            Ok(match sql {
                MASTER_STATUS => rows(&COLUMNS, &["mb.000001", "7841", "", ""]),
                _ => rows(&["@@GLOBAL.gtid_current_pos"], &["0-7-49,1-7-2"]),
            })
        });
        let expected = BinlogPosition {
            file: "mb.000001".into(),
            position: 7841,
            gtid: "0-7-49,1-7-2".into(),
        };
        assert_eq!(read.unwrap(), Some(expected));
    }

    #[test]
    fn no_binary_log_or_a_strange_one() {
        assert_eq!(BinlogPosition::read(|_| Ok(rows(&COLUMNS, &[]))).unwrap(), None);
        let strange = BinlogPosition::read(|_| Ok(rows(&COLUMNS, &["mb.000001", "x", "", ""])));
        assert!(matches!(strange, Err(SessionError::NoValue { value, .. }) if value == "Position"));
    }

    #[test]
    fn lsn_is_a_number() {
        let columns = ["Variable_name", "Value"];
        let lsn = read_lsn(LSN_CURRENT, |_| Ok(rows(&columns, &[LSN_CURRENT, "79866"])));
        assert_eq!(lsn.unwrap(), Some(Lsn(79866)));
        let nonsense = read_lsn(LSN_CURRENT, |_| Ok(rows(&columns, &[LSN_CURRENT, ""])));
        assert!(nonsense.is_err());
        // Without InnoDB.
        assert_eq!(read_lsn(LSN_CURRENT, |_| Ok(rows(&columns, &[]))).unwrap(), None);
    }
}
