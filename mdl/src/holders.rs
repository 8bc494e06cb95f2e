//! Other sessions' statements: which may hold up a lock, and how to end them.

use std::fmt;

use crate::session::{Rows, Session, SessionError, shortened, string_literal};

const ER_NO_SUCH_THREAD: u16 = 1094;
const ER_NO_SUCH_QUERY: u16 = 1957;

/// Statements in progress, the oldest first. A session that waits for a lock itself comes last.
const PROCESSLIST: &str = "SELECT id, user, command, time, state, info, query_id \
    FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND info IS NOT NULL \
    ORDER BY state LIKE 'Waiting for %lock', time_ms DESC";

/// Sessions with locks on tables; only servers with the plugin of that name have the table.
const METADATA_LOCKS: &str = "SELECT p.id, p.user, p.command, p.time, p.state, p.info, \
    p.query_id, GROUP_CONCAT(DISTINCT IF(l.table_schema = '', l.lock_type, \
    CONCAT(l.table_schema, '.', l.table_name)) SEPARATOR ', ') \
    FROM information_schema.metadata_lock_info l \
    JOIN information_schema.processlist p ON p.id = l.thread_id \
    WHERE p.id <> CONNECTION_ID() AND p.info IS NULL GROUP BY p.id ORDER BY p.time DESC";

/// Tables that `LOCK TABLES` or a statement uses.
const OPEN_TABLES: &str = "SHOW OPEN TABLES WHERE In_use > 0";

/// Most sessions that are named.
const NAMED: usize = 5;

/// A session that may hold up others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The server's id of the connection.
    pub id: u64,
    /// Account's name.
    pub user: String,
    /// Seconds for which the session has been doing what it does.
    pub seconds: u64,
    /// What the server says that it is doing.
    pub state: String,
    /// The statement, if one runs.
    pub statement: Option<String>,
    /// The server's number of the statement.
    pub query_id: u64,
    /// What it has locked, where the server tells.
    pub locks: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, user, seconds, .. } = self;
        match (&self.statement, &self.locks) {
            (Some(statement), _) => {
                write!(f, "connection {id} ({user}, for {seconds} s): {}", shortened(statement))
            }
            (None, Some(locks)) => {
                write!(f, "connection {id} ({user}, idle for {seconds} s) with a lock on {locks}")
            }
            (None, None) => write!(f, "connection {id} ({user}, idle for {seconds} s)"),
        }
    }
}

/// Who may hold up a lock that somebody waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Sessions.
    pub sessions: Vec<Holder>,
    /// Tables in use, where no session is known.
    pub tables: Vec<String>,
}

impl Holders {
    /// Asks the server. Connections of this program are not among them.
    ///
    /// # Errors
    ///
    /// [`SessionError`]
    pub fn read(session: &mut Session) -> Result<Self, SessionError> {
        let mut sessions = statements(session)?;
        // Who waits for a lock is held up too; but he may have another one, so he counts where
        // nobody else is to blame.
        if !sessions.iter().all(Holder::waits_for_lock) {
            sessions.retain(|holder| !holder.waits_for_lock());
        }
        if let Ok(rows) = session.query(METADATA_LOCKS) {
            sessions.extend(foreign(session, &rows));
        }
        let mut tables = Vec::new();
        if sessions.is_empty() {
            let rows = session.query(OPEN_TABLES)?;
            let name =
                |row: crate::session::Row<'_>| Some(format!("{}.{}", row.at(0)?, row.at(1)?));
            tables.extend(rows.iter().filter_map(name));
        }
        Ok(Self { sessions, tables })
    }

    /// Who has a user lock (`GET_LOCK`).
    ///
    /// # Errors
    ///
    /// [`SessionError`]
    pub fn of_user_lock(session: &mut Session, name: &str) -> Result<Self, SessionError> {
        let name = string_literal(name);
        let rows = session.query(&format!(
            "SELECT id, user, command, time, state, info, query_id, {name} \
             FROM information_schema.processlist WHERE id = IS_USED_LOCK({name})"
        ))?;
        Ok(Self { sessions: foreign(session, &rows).collect(), tables: Vec::new() })
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sessions.is_empty() && self.tables.is_empty() {
            return f.write_str("nobody in the list of processes");
        }
        for (index, holder) in self.sessions.iter().take(NAMED).enumerate() {
            write!(f, "{}{holder}", if index == 0 { "" } else { "; " })?;
        }
        if self.sessions.len() > NAMED {
            write!(f, "; and {} more", self.sessions.len() - NAMED)?;
        }
        if !self.tables.is_empty() {
            write!(f, "an idle connection that has locked {}", self.tables.join(", "))?;
        }
        Ok(())
    }
}

/// Which statements an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryType {
    /// `SELECT` and everything that writes.
    All,
    /// Everything that writes.
    Update,
    /// `SELECT` alone.
    Select,
}

/// First words of statements that write or define.
const UPDATES: [&str; 12] = [
    "INSERT", "UPDATE", "DELETE", "REPLACE", "ALTER", "LOAD", "CREATE", "DROP", "TRUNCATE",
    "RENAME", "OPTIMIZE", "REPAIR",
];

/// First words of statements that wait until nobody uses the table any more. ANALYZE does not.
/// Seen on 10.11 and 11.8, where CREATE TRIGGER and DROP DATABASE keep `BLOCK_DDL` from being had
/// while they wait.
const DDL: [&str; 7] = ["ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE", "OPTIMIZE", "REPAIR"];

/// First words of statements that read, or may do either.
const OTHERS: [&str; 6] = ["DO", "HANDLER", "CALL", "EXECUTE", "BEGIN", "WITH"];

impl QueryType {
    /// Whether it means `statement`.
    pub fn contains(self, statement: &str) -> bool {
        let word = first_word(statement);
        let (select, update) = (word == "SELECT", UPDATES.contains(&word.as_str()));
        match self {
            Self::All => select || update || OTHERS.contains(&word.as_str()),
            Self::Update => update,
            Self::Select => select,
        }
    }
}

impl Holder {
    fn waits_for_lock(&self) -> bool {
        self.state.starts_with("Waiting for") && self.state.ends_with("lock")
    }

    /// Whether the session waits for a lock on a table's definition with a statement that changes
    /// one. Of compound statements and procedures, the server shows the statement within.
    pub fn is_waiting_ddl(&self) -> bool {
        self.state == "Waiting for table metadata lock"
            && self.statement.as_deref().is_some_and(|sql| DDL.contains(&&*statement_word(sql)))
    }

    /// Whether the session is the server's own, such as the SQL thread of a replica.
    pub fn is_system(&self) -> bool {
        self.user == "system user"
    }

    /// Ends the statement; the session goes on. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// [`SessionError`], for one if the account lacks `CONNECTION ADMIN`.
    pub fn kill(&self, session: &mut Session) -> Result<(), SessionError> {
        let sql = match self.query_id {
            0 => format!("KILL QUERY {}", self.id),
            query_id => format!("KILL QUERY ID {query_id}"),
        };
        match session.execute(&sql) {
            Err(error) if matches!(error.code(), Some(ER_NO_SUCH_THREAD | ER_NO_SUCH_QUERY)) => {
                Ok(())
            }
            result => result,
        }
    }
}

/// Other programs' statements that run now, the longest first.
///
/// # Errors
///
/// [`SessionError`]
pub fn statements(session: &mut Session) -> Result<Vec<Holder>, SessionError> {
    let rows = session.query(PROCESSLIST)?;
    Ok(foreign(session, &rows).collect())
}

/// Those that are not connections of this program.
fn foreign(session: &Session, rows: &Rows) -> impl Iterator<Item = Holder> {
    let own = session.own_connections();
    holders(rows).filter(|holder| !own.contains(holder.id))
}

fn holders(rows: &Rows) -> impl Iterator<Item = Holder> {
    rows.iter().filter_map(|row| {
        let number = |index| row.at(index).and_then(|text: &str| text.parse().ok());
        let text = |index| row.at(index).unwrap_or_default().to_owned();
        (row.at(2) != Some("Killed")).then_some(())?;
        Some(Holder {
            id: number(0)?,
            user: text(1),
            seconds: number(3).unwrap_or(0),
            state: text(4),
            statement: row.at(5).map(str::to_owned),
            query_id: number(6).unwrap_or(0),
            locks: row.at(7).map(str::to_owned),
        })
    })
}

/// The first word of the statement that `SET STATEMENT ... FOR`, if there, is for.
fn statement_word(statement: &str) -> String {
    let word = first_word(statement);
    let rest = statement.to_ascii_uppercase();
    match rest.split_once("STATEMENT").and_then(|(_, settings)| settings.split_once(" FOR ")) {
        Some((_, rest)) if word == "SET" => first_word(rest),
        _ => word,
    }
}

/// The first word in upper case, after blanks, brackets and comments.
fn first_word(statement: &str) -> String {
    let mut rest = statement;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        rest = if let Some(comment) = rest.strip_prefix("/*") {
            match comment.strip_prefix('!') {
                // Runs: digits may tell the version from which on.
                Some(code) => code.trim_start_matches(|c: char| c == '!' || c.is_ascii_digit()),
                None => comment.split_once("*/").map_or("", |(_, rest)| rest),
            }
        } else if rest.starts_with('#') || rest.starts_with("-- ") {
            rest.split_once('\n').map_or("", |(_, rest)| rest)
        } else {
            break;
        };
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(state: &str, statement: Option<&str>) -> Holder {
        Holder {
            id: 7,
            user: "app".into(),
            seconds: 12,
            state: state.into(),
            statement: statement.map(str::to_owned),
            query_id: 70,
            locks: None,
        }
    }

    #[test]
    fn statements_by_their_first_word() {
        for (sql, word) in [
            ("select 1", "SELECT"),
            (" ((/* a */ -- b\n# c\nSELECT(1)", "SELECT"),
            ("/*!50001 CREATE view v as select 1 */", "CREATE"),
            ("/* open", ""),
            ("", ""),
            ("ü", ""),
        ] {
            assert_eq!(first_word(sql), word, "{sql}");
        }
        for (sql, all, update, select) in [
            ("SELECT 1", true, false, true),
            ("update t set a = 1", true, true, false),
            ("ALTER TABLE t FORCE", true, true, false),
            ("CALL p()", true, false, false),
            ("SHOW PROCESSLIST", false, false, false),
            ("BACKUP STAGE START", false, false, false),
        ] {
            let means = [QueryType::All, QueryType::Update, QueryType::Select];
            assert_eq!(means.map(|types| types.contains(sql)), [all, update, select], "{sql}");
        }
    }

    #[test]
    fn ddl_that_waits_for_a_definition() {
        let mdl = "Waiting for table metadata lock";
        for sql in [
            "ALTER TABLE t FORCE",
            "/* a */ create trigger tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "DROP DATABASE d",
            "RENAME TABLE t TO u",
            "TRUNCATE t",
            "OPTIMIZE TABLE t",
            "REPAIR TABLE t",
            "SET STATEMENT lock_wait_timeout=8, max_statement_time=1 FOR DROP TABLE t",
        ] {
            assert!(holder(mdl, Some(sql)).is_waiting_ddl(), "{sql}");
        }
        for sql in [
            "SELECT * FROM t",
            "SELECT 'CREATE'",
            "LOCK TABLES t WRITE",
            "FLUSH TABLES t",
            "CALL p()",
            "SHOW CREATE TABLE t",
            "SET STATEMENT lock_wait_timeout=8 FOR SELECT * FROM t",
            "SET GLOBAL x = (SELECT 1 FROM t)",
        ] {
            assert!(!holder(mdl, Some(sql)).is_waiting_ddl(), "{sql}");
        }
        assert!(!holder("copy to tmp table", Some("ALTER TABLE t FORCE")).is_waiting_ddl());
        assert!(!holder(mdl, None).is_waiting_ddl());
    }

    #[test]
    fn threads_of_the_server_itself_are_known() {
        let replica = Holder { user: "system user".into(), ..holder("", Some("DROP TABLE t")) };
        assert!(replica.is_system() && !holder("", None).is_system());
    }

    #[test]
    fn holders_in_words() {
        let statement = holder("", Some("SELECT SLEEP(9)"));
        let idle = Holder { locks: Some("d.t".into()), ..holder("", None) };
        let tables = Vec::new();
        let holders = Holders { sessions: vec![statement.clone(), idle], tables };
        assert_eq!(
            holders.to_string(),
            "connection 7 (app, for 12 s): SELECT SLEEP(9); \
             connection 7 (app, idle for 12 s) with a lock on d.t"
        );
        let many = Holders { sessions: vec![statement; 7], ..Holders::default() };
        assert!(many.to_string().ends_with("; and 2 more"));
        let tables = vec!["d.t".to_owned()];
        let idle = Holders { tables, ..Holders::default() };
        assert_eq!(idle.to_string(), "an idle connection that has locked d.t");
        assert_eq!(Holders::default().to_string(), "nobody in the list of processes");
    }
}
