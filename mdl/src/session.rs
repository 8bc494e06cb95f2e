//! Connecting to the server, and the few kinds of query that a backup needs.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use crate::auth::AuthError;
use crate::connection::Connection;
use crate::holders::Holders;
use crate::lock::TablesInUse;
use crate::tls::TlsError;
use crate::version::ServerVersion;
use crate::wait::ER_LOCK_WAIT_TIMEOUT;
use crate::wire::ProtocolError;

/// Makes the session independent of the server's settings: no time-outs, text in UTF-8.
const FIRST_STATEMENT: &str = "SET SESSION wait_timeout=2147483, max_statement_time=0, \
    autocommit=1, character_set_client=utf8mb4, character_set_connection=utf8mb4, \
    character_set_results=utf8mb4";

/// Keeps a Galera node from waiting for the cluster before it answers. Only servers with Galera
/// support have the variable.
const NO_SYNC_WAIT: &str = "SET SESSION wsrep_sync_wait=0";

/// Longest part of a statement that messages show, in characters.
const SHOWN_STATEMENT_LEN: usize = 300;

const ER_UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;
const ER_CON_COUNT: u16 = 1040;
const ER_HOST_IS_BLOCKED: u16 = 1129;
const ER_HOST_NOT_PRIVILEGED: u16 = 1130;

/// How to reach the server and as whom.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// Account; the operating system's user name when absent.
    pub user: Option<String>,
    /// Password; never printed. The environment's `MYSQL_PWD` when absent.
    pub password: Option<String>,
    /// Host name or address; `localhost` or absent means the socket unless a protocol says TCP.
    pub host: Option<String>,
    /// TCP port; the environment's `MYSQL_TCP_PORT` or 3306 when absent.
    pub port: Option<u16>,
    /// Unix socket; the environment's `MYSQL_UNIX_PORT` or the usual places when absent.
    pub socket: Option<PathBuf>,
    /// Forces TCP or the socket.
    pub protocol: Option<Protocol>,
    /// Transport encryption.
    pub tls: TlsOptions,
    /// Takes note of each connection that is made with these options or a clone of them.
    pub made: Connections,
}

/// Connections of this program, by the server's ids. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<HashSet<u32>>>);

impl Connections {
    fn note(&self, id: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Whether the connection is this program's, or was.
    pub(crate) fn contains(&self, id: u64) -> bool {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(id).is_ok_and(|id| ids.contains(&id))
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("socket", &self.socket)
            .field("protocol", &self.protocol)
            .field("tls", &self.tls)
            .field("made", &self.made)
            .finish()
    }
}

/// Ways to reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, also for `localhost`.
    Tcp,
    /// Unix socket.
    Socket,
}

/// Transport encryption; the names are those of the client options `--ssl-*`.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// `--ssl` / `--skip-ssl`; absent: used where the server offers it and the link is not local.
    pub enabled: Option<bool>,
    /// Certificate authorities, PEM. With these the server's certificate must be theirs.
    pub ca: Option<PathBuf>,
    /// Folder of certificate authorities.
    pub capath: Option<PathBuf>,
    /// Client certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Client key, PEM.
    pub key: Option<PathBuf>,
    /// Cipher list.
    pub cipher: Option<String>,
    /// Revocation list, PEM.
    pub crl: Option<PathBuf>,
    /// Folder of revocation lists.
    pub crlpath: Option<PathBuf>,
    /// Allowed protocol versions, comma separated (`TLSv1.2,TLSv1.3`).
    pub version: Option<String>,
    /// Whether the server's certificate must be valid and name the host.
    pub verify_server_cert: Option<bool>,
}

/// A failure to connect or to run a statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No server behind the Unix socket.
    #[error(
        "Can't connect to local server through socket '{}' ({})",
        path.display(), numbered(error)
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// No server at the address.
    #[error("Can't connect to server on '{host}:{port}' ({})", numbered(error))]
    Tcp {
        /// Host as given.
        host: String,
        /// TCP port.
        port: u16,
        /// What the operating system says.
        error: io::Error,
    },
    /// The host's name has no address.
    #[error("Unknown server host '{host}' ({})", numbered(error))]
    UnknownHost {
        /// Host as given.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// Not MariaDB, or older than 10.5.
    #[error("Unsupported server version: '{version}'.")]
    UnsupportedServer {
        /// Version as the server announces it.
        version: String,
    },
    /// The account does not exist, or the password is wrong.
    #[error("{0}")]
    Denied(String),
    /// The server takes no connection for another reason.
    #[error("{message}")]
    Refused {
        /// The server's error number.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The account cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Transport encryption failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The link failed before the account was accepted.
    #[error("Lost connection to server at the handshake ({})", numbered(error))]
    Handshake {
        /// What the operating system says.
        error: io::Error,
    },
    /// The server broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The server refused a statement.
    #[error("failed to execute query {statement}: {message}")]
    Server {
        /// The statement, shortened if long.
        statement: String,
        /// The server's error number.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The connection is gone: server stopped, connection killed or timed out, network broken.
    #[error("failed to execute query {statement}: Server has gone away")]
    Lost {
        /// The statement, shortened if long.
        statement: String,
        /// What the operating system says, unless the loss was known before.
        source: Option<io::Error>,
    },
    /// The locks of a backup were lost, or may have been.
    #[error("the connection that holds the backup's locks was lost ({reason})")]
    LocksLost {
        /// How that was noticed.
        reason: String,
    },
    /// The thread that keeps the locks alive cannot be started.
    #[error("cannot start the thread of the lock connection")]
    Thread(#[source] io::Error),
    /// A lock was not had in time.
    #[error(
        "failed to execute query {statement}: Lock wait timeout exceeded; try restarting \
         transaction (waited {} s; held up by {holders})", waited.as_secs()
    )]
    LockTimeout {
        /// The statement that asked for it.
        statement: String,
        /// How long it was waited for.
        waited: Duration,
        /// Who held it up.
        holders: Holders,
    },
    /// The wait for a lock was ended by this program.
    #[error("the wait for {statement} was given up")]
    GaveUp {
        /// The statement that asked for it.
        statement: String,
    },
    /// A statement gave no value where one was due.
    #[error("query {statement} gave no usable value of {value}")]
    NoValue {
        /// The statement.
        statement: String,
        /// Name of the value.
        value: String,
    },
}

/// An error of the operating system as MariaDB's clients write it: `2 "No such file or directory"`.
fn numbered(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => {
            let suffix = format!(" (os error {code})");
            format!("{code} \"{}\"", text.strip_suffix(&suffix).unwrap_or(&text))
        }
        None => text,
    }
}

impl SessionError {
    pub(crate) fn server(statement: &str, code: u16, message: String) -> Self {
        Self::Server { statement: shortened(statement), code, message }
    }

    pub(crate) fn lost(statement: &str, source: Option<io::Error>) -> Self {
        Self::Lost { statement: shortened(statement), source }
    }

    pub(crate) fn lock_timeout(statement: &str, waited: Duration, holders: Holders) -> Self {
        Self::LockTimeout { statement: shortened(statement), waited, holders }
    }

    pub(crate) fn gave_up(statement: &str) -> Self {
        Self::GaveUp { statement: shortened(statement) }
    }

    pub(crate) fn no_value(statement: &str, value: &str) -> Self {
        Self::NoValue { statement: shortened(statement), value: value.to_owned() }
    }

    /// Number of the server's error, where it is one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } | Self::Refused { code, .. } => Some(*code),
            Self::LockTimeout { .. } => Some(ER_LOCK_WAIT_TIMEOUT),
            _ => None,
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Socket { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "run as a user who may use the socket, or connect by --host=127.0.0.1"
            }
            Self::Socket { .. } => {
                "is the server running? name its socket by --socket, or connect by --host and \
                 --port (SELECT @@socket shows the socket)"
            }
            Self::Tcp { .. } => {
                "check --host and --port, that the server runs, and that skip-networking, \
                 bind-address or a firewall does not shut it off"
            }
            Self::UnknownHost { .. } => "check --host",
            Self::UnsupportedServer { .. } => "MariaDB 10.5 or later is needed",
            Self::Denied(_) => {
                "check --user, --password and that the account may connect from this host; without \
                 --user the operating system's user name is used"
            }
            Self::Refused { code: ER_CON_COUNT, .. } => {
                "wait, or raise max_connections; a backup needs --parallel connections and 4 more"
            }
            Self::Refused { code: ER_HOST_IS_BLOCKED, .. } => "run FLUSH HOSTS on the server",
            Self::Refused { code: ER_HOST_NOT_PRIVILEGED, .. } => {
                "create an account that may connect from this host"
            }
            Self::Auth(AuthError::UnknownPlugin(_)) => {
                "use an account with mysql_native_password, unix_socket, ed25519 or parsec"
            }
            Self::Auth(AuthError::ClearPassword(_)) => {
                "connect with TLS (--ssl) or through the Unix socket"
            }
            Self::Tls(TlsError::NotOffered) => {
                "enable TLS on the server (ssl_cert, ssl_key), or connect with --skip-ssl"
            }
            Self::Tls(TlsError::Untrusted(_)) => "name the authority that signed it by --ssl-ca",
            Self::Tls(TlsError::WrongHost(_)) => {
                "connect by a name in the certificate, or leave out --ssl-verify-server-cert"
            }
            Self::Tls(TlsError::Handshake(_)) => {
                "check --tls-version and --ssl-cipher against the server's settings"
            }
            Self::Server { code: ER_LOCK_WAIT_TIMEOUT, .. } => {
                "find who holds the lock (SHOW FULL PROCESSLIST, or another backup), or wait longer"
            }
            Self::LockTimeout { .. } => {
                "end what holds it up (KILL), choose a quieter hour, or wait longer \
                 (--startup-wait-timeout); no lock is left"
            }
            Self::LocksLost { .. } => {
                "the backup is not consistent and must be taken again: was the connection killed, \
                 the server stopped, or this program suspended?"
            }
            Self::Protocol(_) => "is this the port of a MariaDB server?",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

pub(crate) fn shortened(statement: &str) -> String {
    match statement.char_indices().nth(SHOWN_STATEMENT_LEN) {
        Some((end, _)) => format!("{}...", statement.get(..end).unwrap_or_default()),
        None => statement.to_owned(),
    }
}

/// Rows of a result, all values as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    pub(crate) fn new(columns: Vec<String>, rows: Vec<Vec<Option<String>>>) -> Self {
        Self { columns, rows }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in the server's order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    /// The first row.
    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }

    /// First value of the first row; `sql` names the statement in the error.
    pub(crate) fn first_value(&self, sql: &str) -> Result<String, SessionError> {
        let value = self.first().and_then(|row| row.at(0));
        value.map(str::to_owned).ok_or_else(|| SessionError::no_value(sql, "its first column"))
    }

    /// The first two columns as names and values; names in lower case, rows with NULL left out.
    pub fn into_map(self) -> HashMap<String, String> {
        let pair = |row: Vec<Option<String>>| {
            let mut values = row.into_iter();
            Some((values.next()??.to_lowercase(), values.next()??))
        };
        self.rows.into_iter().filter_map(pair).collect()
    }
}

/// A row of a result.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl<'a> Row<'a> {
    /// Value of the column at an index from 0; `None` for NULL or no such column.
    pub fn at(&self, index: usize) -> Option<&'a str> {
        self.values.get(index)?.as_deref()
    }

    /// Value of the column of this name, in any case; `None` for NULL or no such column.
    pub fn get(&self, column: &str) -> Option<&'a str> {
        self.at(self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?)
    }
}

/// A session with the server.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    own: Connections,
}

impl Session {
    /// Connects, authenticates, and frees the session from the server's time-outs.
    ///
    /// # Errors
    ///
    /// [`SessionError`]; [`SessionError::hint`] says what to do.
    pub fn connect(options: &ConnectOptions) -> Result<Self, SessionError> {
        let connection = Connection::open(options)?;
        options.made.note(connection.thread_id());
        let mut session = Self { connection, own: options.made.clone() };
        session.execute(FIRST_STATEMENT)?;
        match session.execute(NO_SYNC_WAIT) {
            Err(error) if error.code() == Some(ER_UNKNOWN_SYSTEM_VARIABLE) => {}
            result => result?,
        }
        Ok(session)
    }

    /// Version of the server.
    pub fn version(&self) -> &ServerVersion {
        self.connection.version()
    }

    /// The server's id of this connection, as `KILL` and `SHOW PROCESSLIST` have it.
    pub fn connection_id(&self) -> u32 {
        self.connection.thread_id()
    }

    /// Connections made with the same options as this one.
    pub(crate) fn own_connections(&self) -> &Connections {
        &self.own
    }

    /// Whether the link is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    ///
    /// [`SessionError::Server`] if the server refuses it, [`SessionError::Lost`] if the connection
    /// is gone.
    pub fn query(&mut self, sql: &str) -> Result<Rows, SessionError> {
        self.connection.query(sql)
    }

    /// Runs a statement whose rows, if any, do not matter.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn execute(&mut self, sql: &str) -> Result<(), SessionError> {
        self.query(sql).map(drop)
    }

    /// First value of the first row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`SessionError::NoValue`] if there is no row or it is NULL.
    pub fn query_value(&mut self, sql: &str) -> Result<String, SessionError> {
        self.query(sql)?.first_value(sql)
    }

    /// All system variables; names in lower case.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn variables(&mut self) -> Result<HashMap<String, String>, SessionError> {
        Ok(self.query("SHOW VARIABLES")?.into_map())
    }

    /// A status variable; `None` if the server does not have it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn status(&mut self, name: &str) -> Result<Option<String>, SessionError> {
        Ok(self.query(&status_query(name))?.first().and_then(|row| row.at(1)).map(Into::into))
    }

    /// Tables that a statement or `LOCK TABLES` is using now, as far as the account may see them.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn tables_in_use(&mut self) -> Result<TablesInUse, SessionError> {
        self.query("SHOW OPEN TABLES WHERE In_use > 0").map(|rows| TablesInUse::new(&rows))
    }

    /// Limits the wait for each answer; a late one breaks the session.
    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), SessionError> {
        self.connection.set_timeout(timeout)
    }
}

/// Statement that reads one status variable; the underscores of its name are no wildcards.
pub(crate) fn status_query(name: &str) -> String {
    format!("SHOW GLOBAL STATUS WHERE Variable_name = {}", string_literal(name))
}

/// A string literal that means the same under every `sql_mode`.
pub fn string_literal(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-. ,:/@%".contains(&b);
    if text.bytes().all(plain) {
        return format!("'{text}'");
    }
    let mut literal = String::from("_utf8mb4 X'");
    for byte in text.bytes() {
        // Writing to a string does not fail.
        let _ = write!(literal, "{byte:02X}");
    }
    literal.push('\'');
    literal
}

/// An identifier in backquotes.
pub fn quoted(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_password() {
        let options =
            ConnectOptions { password: Some("hidden".into()), ..ConnectOptions::default() };
        let text = format!("{options:?}");
        assert!(!text.contains("hidden") && text.contains("password: Some"), "{text}");
    }

    #[test]
    fn errors_of_the_operating_system_read_as_the_clients_write_them() {
        let error = SessionError::Socket {
            path: "/run/x.sock".into(),
            error: io::Error::from_raw_os_error(2),
        };
        let text = "Can't connect to local server through socket '/run/x.sock' \
                    (2 \"No such file or directory\")";
        assert_eq!(error.to_string(), text);
        assert!(error.hint().unwrap().contains("--socket"));
    }

    #[test]
    fn rows_by_index_and_name() {
        let rows = Rows::new(
            vec!["Variable_name".into(), "Value".into()],
            vec![vec![Some("Abc".into()), Some("1".into())], vec![Some("n".into()), None]],
        );
        let row = rows.first().unwrap();
        assert_eq!((row.get("VALUE"), row.at(0), row.get("x")), (Some("1"), Some("Abc"), None));
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.into_map(), HashMap::from([("abc".into(), "1".into())]));
    }

    #[test]
    fn literals_and_identifiers_are_quoted() {
        assert_eq!(string_literal("wsrep_ready"), "'wsrep_ready'");
        assert_eq!(string_literal("a'b\\"), "_utf8mb4 X'6127625C'");
        assert_eq!(string_literal("ä"), "_utf8mb4 X'C3A4'");
        assert_eq!(quoted("a`b"), "`a``b`");
    }

    #[test]
    fn long_statements_are_shortened_at_a_character() {
        let long = "ä".repeat(SHOWN_STATEMENT_LEN + 1);
        let text = shortened(&long);
        assert_eq!(text.chars().count(), SHOWN_STATEMENT_LEN + 3);
        assert_eq!(shortened("DO 1"), "DO 1");
    }
}
