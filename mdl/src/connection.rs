//! One connection: opening the socket, greeting, transport encryption, authentication, queries.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use openssl::ssl::SslStream;
use rustix::net::sockopt;

use crate::address::{self, Endpoint};
use crate::auth::{Dialogue, Secret};
use crate::session::{ConnectOptions, Rows, SessionError, TlsOptions};
use crate::tls::{self, TlsError};
use crate::version::ServerVersion;
use crate::wire::{self, Greeting, ProtocolError, ServerMessage, capability};

/// Longest wait for a TCP connection, and for each answer until the account is accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle time after which TCP asks whether the server is still there, and the pause and number of
/// further questions: also keeps firewalls from forgetting the connection.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// Most rounds of authentication: an account may have several plugins.
const MAX_AUTH_PACKETS: usize = 32;

/// `utf8mb4_general_ci`
const CHARACTER_SET: u8 = 45;

/// Most columns that a server can send.
const MAX_COLUMNS: u64 = 4096;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

const ER_ACCESS_DENIED: u16 = 1045;
const ER_ACCESS_DENIED_NO_PASSWORD: u16 = 1698;

/// A TCP or Unix socket. A signal does not interrupt a read or write: TLS could not go on.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn open(endpoint: &Endpoint) -> Result<Self, SessionError> {
        match endpoint {
            Endpoint::Socket(path) => UnixStream::connect(path)
                .map(Self::Unix)
                .map_err(|error| SessionError::Socket { path: path.clone(), error }),
            Endpoint::Tcp { host, port } => Self::open_tcp(host, *port),
        }
    }

    fn open_tcp(host: &str, port: u16) -> Result<Self, SessionError> {
        let unknown = |error| SessionError::UnknownHost { host: host.to_owned(), error };
        let addresses = address::resolve(host, port).map_err(unknown)?;
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for address in &addresses {
            match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    return Self::tuned(stream).map_err(|error| SessionError::Tcp {
                        host: host.to_owned(),
                        port,
                        error,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(SessionError::Tcp { host: host.to_owned(), port, error: last })
    }

    fn tuned(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (idle, pause, count) = KEEPALIVE;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, idle)?;
        sockopt::set_tcp_keepintvl(&stream, pause)?;
        sockopt::set_tcp_keepcnt(&stream, count)?;
        Ok(Self::Tcp(stream))
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        })
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Stream {
    Plain(Socket),
    Tls(SslStream<Socket>),
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// Nobody can overhear.
    fn is_private(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Plain(Socket::Unix(_)))
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// An authenticated connection. After a failure of the link every call fails.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<Stream>,
    sequence: u8,
    version: ServerVersion,
    thread_id: u32,
    broken: bool,
}

impl Connection {
    /// Connects and authenticates.
    pub(crate) fn open(options: &ConnectOptions) -> Result<Self, SessionError> {
        let endpoint = Endpoint::choose(options);
        let local = matches!(endpoint, Endpoint::Socket(_));
        // A local link needs no encryption, and is spared it unless the account insists.
        let first = if options.tls.is_refused() || (local && !options.tls.is_demanded()) {
            Encryption::Off
        } else {
            Encryption::WhereOffered
        };
        let mut offered = false;
        match Self::attempt(options, &endpoint, first, &mut offered) {
            Err(SessionError::Denied(_))
                if first == Encryption::Off && offered && !options.tls.is_refused() =>
            {
                Self::attempt(options, &endpoint, Encryption::WhereOffered, &mut offered)
            }
            result => result,
        }
    }

    fn attempt(
        options: &ConnectOptions,
        endpoint: &Endpoint,
        encryption: Encryption,
        offered: &mut bool,
    ) -> Result<Self, SessionError> {
        let mut socket = Socket::open(endpoint)?;
        let lost = |error| SessionError::Handshake { error };
        socket.set_timeout(Some(CONNECT_TIMEOUT)).map_err(lost)?;
        let mut sequence = 0;
        let payload = wire::read_packet(&mut socket, &mut sequence).map_err(lost)?;
        if payload.first() == Some(&0xff) {
            return Err(refusal(ServerMessage::parse(&payload)?));
        }
        let greeting = Greeting::parse(&payload)?;
        let Some(version) = ServerVersion::parse(&greeting.version) else {
            let version = ServerVersion::without_prefix(&greeting.version).to_owned();
            return Err(SessionError::UnsupportedServer { version });
        };
        *offered = greeting.capabilities & capability::SSL != 0;
        let host = match endpoint {
            Endpoint::Tcp { host, .. } => Some(host.as_str()),
            Endpoint::Socket(_) => None,
        };
        let capabilities = capabilities(&greeting);
        let stream = match (encryption, *offered) {
            (Encryption::WhereOffered, true) => {
                let request = response_head(capabilities | capability::SSL);
                wire::write_packet(&mut socket, &mut sequence, &request).map_err(lost)?;
                Stream::Tls(tls::start(socket, &options.tls, host)?)
            }
            (Encryption::WhereOffered, false) if demands(&options.tls, endpoint) => {
                return Err(TlsError::NotOffered.into());
            }
            _ => Stream::Plain(socket),
        };
        let mut connection = Self {
            stream: BufReader::new(stream),
            sequence,
            version,
            thread_id: greeting.thread_id,
            // Not a connection to take leave of before the account is accepted.
            broken: true,
        };
        connection.authenticate(options, &greeting, capabilities)?;
        connection.broken = false;
        connection.set_timeout(None)?;
        Ok(connection)
    }

    fn authenticate(
        &mut self,
        options: &ConnectOptions,
        greeting: &Greeting,
        mut capabilities: u32,
    ) -> Result<(), SessionError> {
        let password = options.password.clone().or_else(|| std::env::var("MYSQL_PWD").ok());
        let password = Secret::new(password.unwrap_or_default());
        let user = options.user.clone().filter(|user| !user.is_empty());
        let user = user.unwrap_or_else(address::default_user);
        let private = self.stream.get_ref().is_private();
        // The default plugin may be one that this account does not use: answer with the usual one,
        // then the server asks again for the right one.
        let usual = "mysql_native_password";
        let mut dialogue = Dialogue::new(usual, &greeting.scramble, &password, private)?;
        let answer = if greeting.plugin == usual || greeting.plugin.is_empty() {
            dialogue.first()?
        } else {
            Vec::new()
        };
        if private && matches!(self.stream.get_ref(), Stream::Tls(_)) {
            capabilities |= capability::SSL;
        }
        let response = response(capabilities, &user, &answer, usual);
        self.send(&response).map_err(|error| SessionError::Handshake { error })?;
        for _ in 0..MAX_AUTH_PACKETS {
            let payload = self.receive().map_err(|error| SessionError::Handshake { error })?;
            let answer = match payload.split_first() {
                Some((0x00, _)) => return Ok(()),
                Some((0xff, _)) => return Err(refusal(ServerMessage::parse(&payload)?)),
                Some((0xfe, [])) => {
                    let name = "mysql_old_password".to_owned();
                    return Err(crate::auth::AuthError::UnknownPlugin(name).into());
                }
                Some((0xfe, switch)) => {
                    let mut fields = wire::Fields::new(switch);
                    let name = String::from_utf8_lossy(fields.until_nul()).into_owned();
                    dialogue = Dialogue::new(&name, fields.rest(), &password, private)?;
                    Some(dialogue.first()?)
                }
                Some((0x01, data)) => dialogue.next(data)?,
                // The first servers with PARSEC left out the byte that marks more data.
                Some((b'P', _)) => dialogue.next(&payload)?,
                Some((&byte, _)) => return Err(ProtocolError::Unexpected(byte).into()),
                None => return Err(ProtocolError::Truncated.into()),
            };
            if let Some(answer) = answer {
                self.send(&answer).map_err(|error| SessionError::Handshake { error })?;
            }
        }
        Err(ProtocolError::Unexpected(0xfe).into())
    }

    pub(crate) fn version(&self) -> &ServerVersion {
        &self.version
    }

    pub(crate) fn thread_id(&self) -> u32 {
        self.thread_id
    }

    /// Whether the link is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.stream.get_ref(), Stream::Tls(_))
    }

    /// Limits the wait for each answer.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), SessionError> {
        let result = self.stream.get_ref().socket().set_timeout(timeout);
        result.map_err(|error| SessionError::Handshake { error })
    }

    /// Runs a statement and reads all rows that it returns.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Rows, SessionError> {
        if self.broken {
            return Err(SessionError::lost(sql, None));
        }
        match self.try_query(sql) {
            Err(QueryError::Server(message)) => {
                Err(SessionError::server(sql, message.code, message.text))
            }
            Err(QueryError::Link(error)) => {
                self.broken = true;
                Err(SessionError::lost(sql, Some(error)))
            }
            Err(QueryError::Protocol(error)) => {
                self.broken = true;
                Err(error.into())
            }
            Ok(rows) => Ok(rows),
        }
    }

    fn try_query(&mut self, sql: &str) -> Result<Rows, QueryError> {
        self.sequence = 0;
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(COM_QUERY);
        payload.extend(sql.as_bytes());
        self.send(&payload)?;
        let first = self.receive_checked()?;
        let count = match first.first() {
            Some(0x00) => return Ok(Rows::default()),
            Some(&byte @ (0xfb | 0xfe)) => return Err(ProtocolError::Unexpected(byte).into()),
            _ => wire::Fields::new(&first).integer()?,
        };
        if count > MAX_COLUMNS {
            return Err(ProtocolError::Truncated.into());
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(wire::column_name(&self.receive_checked()?)?);
        }
        let end = self.receive_checked()?;
        if !wire::is_eof(&end) {
            return Err(ProtocolError::Unexpected(end.first().copied().unwrap_or(0)).into());
        }
        let mut rows = Vec::new();
        loop {
            let payload = self.receive_checked()?;
            if wire::is_eof(&payload) {
                return Ok(Rows::new(columns, rows));
            }
            rows.push(wire::row(&payload, columns.len())?);
        }
    }

    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        wire::write_packet(self.stream.get_mut(), &mut self.sequence, payload)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        wire::read_packet(&mut self.stream, &mut self.sequence)
    }

    /// The next packet, unless it is an error.
    fn receive_checked(&mut self) -> Result<Vec<u8>, QueryError> {
        let payload = self.receive()?;
        if payload.first() == Some(&0xff) {
            return Err(QueryError::Server(ServerMessage::parse(&payload)?));
        }
        Ok(payload)
    }
}

impl Drop for Connection {
    /// Takes leave, so that the server does not log an aborted connection.
    fn drop(&mut self) {
        if !self.broken {
            self.sequence = 0;
            // A failure means that the server is gone already.
            let _ = self.set_timeout(Some(Duration::from_millis(200)));
            let _ = self.send(&[COM_QUIT]);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Off,
    WhereOffered,
}

enum QueryError {
    Server(ServerMessage),
    Link(io::Error),
    Protocol(ProtocolError),
}

impl From<io::Error> for QueryError {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

impl From<ProtocolError> for QueryError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// On a Unix socket nobody can overhear or pose as the server, so there encryption is a wish.
fn demands(options: &TlsOptions, endpoint: &Endpoint) -> bool {
    options.is_demanded() && matches!(endpoint, Endpoint::Tcp { .. })
}

fn refusal(message: ServerMessage) -> SessionError {
    match message.code {
        ER_ACCESS_DENIED | ER_ACCESS_DENIED_NO_PASSWORD => SessionError::Denied(message.text),
        code => SessionError::Refused { code, message: message.text },
    }
}

fn capabilities(greeting: &Greeting) -> u32 {
    let wanted = capability::LONG_PASSWORD
        | capability::LONG_FLAG
        | capability::PROTOCOL_41
        | capability::TRANSACTIONS
        | capability::SECURE_CONNECTION
        | capability::PLUGIN_AUTH
        | capability::CONNECT_ATTRS
        | capability::LENENC_AUTH_DATA;
    // MariaDB does not announce the first, but knows it.
    wanted & (greeting.capabilities | capability::LONG_PASSWORD)
}

/// Capabilities 4, longest packet 4, character set 1, 23 bytes; also the request for TLS.
fn response_head(capabilities: u32) -> Vec<u8> {
    let mut bytes = capabilities.to_le_bytes().to_vec();
    bytes.extend((16_u32 << 20).to_le_bytes());
    bytes.push(CHARACTER_SET);
    bytes.extend([0; 23]);
    bytes
}

fn response(capabilities: u32, user: &str, answer: &[u8], plugin: &str) -> Vec<u8> {
    let mut bytes = response_head(capabilities);
    bytes.extend(user.bytes().filter(|&b| b != 0));
    bytes.push(0);
    // As a length-encoded string and as one with a length byte the same: answers are short.
    wire::put_bytes(&mut bytes, answer);
    if capabilities & capability::PLUGIN_AUTH != 0 {
        bytes.extend(plugin.bytes());
        bytes.push(0);
    }
    if capabilities & capability::CONNECT_ATTRS != 0 {
        let mut attributes = Vec::new();
        let pid = std::process::id().to_string();
        for text in ["program_name", "mariabackup", "_pid", &pid] {
            wire::put_bytes(&mut attributes, text.as_bytes());
        }
        wire::put_bytes(&mut bytes, &attributes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener};
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::auth::AuthError;
    use crate::session::Protocol;
    use crate::wire::tests::greeting;

    const PLAIN: u32 = 0x81ff_f7fe;

    /// A server that says these packets, one after each packet of the client, and returns what the
    /// client said.
    fn fake(packets: Vec<Vec<u8>>) -> (ConnectOptions, JoinHandle<Vec<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut sequence, mut heard) = (0, Vec::new());
            for packet in packets {
                let mut header = [0; 4];
                let said = wire::write_packet(&mut stream, &mut sequence, &packet);
                if said.and_then(|()| stream.read_exact(&mut header)).is_err() {
                    break;
                }
                let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
                stream.read_exact(&mut payload).unwrap();
                sequence = header[3].wrapping_add(1);
                heard.push(payload);
            }
            let _ = stream.shutdown(Shutdown::Both);
            heard
        });
        let options = ConnectOptions {
            user: Some("u".into()),
            password: Some("secret".into()),
            host: Some("127.0.0.1".into()),
            port: Some(port),
            protocol: Some(Protocol::Tcp),
            ..ConnectOptions::default()
        };
        (options, server)
    }

    fn refused(packets: Vec<Vec<u8>>) -> (SessionError, Vec<Vec<u8>>) {
        let (options, server) = fake(packets);
        let error = Connection::open(&options).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret"), "{text}");
        (error, server.join().unwrap())
    }

    #[test]
    fn other_servers_are_refused_before_they_learn_the_account() {
        for (version, capabilities, shown) in [
            ("8.0.36", 0xdfff_ffff, "8.0.36"),
            ("5.7.44-log", 0x81ff_ffff, "5.7.44-log"),
            ("5.5.5-10.4.34-MariaDB-log", PLAIN, "10.4.34-MariaDB-log"),
        ] {
            let (error, heard) = refused(vec![greeting(version, capabilities)]);
            assert_eq!(error.to_string(), format!("Unsupported server version: '{shown}'."));
            assert!(heard.is_empty());
        }
    }

    /// Layout of the greeting of `MySQL` 8.0.36, byte by byte.
    #[test]
    fn literal_greeting_of_mysql_8() {
        let mut bytes = b"\x0a8.0.36\0\x08\0\0\0\x4d\x31\x0b\x52\x39\x1f\x55\x6a\0".to_vec();
        bytes.extend(b"\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(b"\x70\x4c\x0a\x1b\x5d\x2f\x33\x52\x5a\x27\x2b\x7e\0caching_sha2_password\0");
        let (error, _) = refused(vec![bytes]);
        assert_eq!(error.to_string(), "Unsupported server version: '8.0.36'.");
    }

    #[test]
    fn refusal_instead_of_a_greeting() {
        let (error, _) = refused(vec![b"\xff\x10\x04Too many connections".to_vec()]);
        assert!(matches!(&error, SessionError::Refused { code: 1040, .. }));
        assert!(error.hint().unwrap().contains("max_connections"));
    }

    #[test]
    fn no_greeting_or_another_protocol() {
        let (error, _) = refused(vec![]);
        assert!(matches!(error, SessionError::Handshake { .. }), "{error:?}");
        let (error, _) = refused(vec![b"SSH-2.0-OpenSSH".to_vec()]);
        assert_eq!(error.to_string(), "not the protocol of a MariaDB server (version 83)");
        let (error, _) = refused(vec![vec![10]]);
        assert!(matches!(error, SessionError::Protocol(ProtocolError::Truncated)));
    }

    #[test]
    fn account_is_denied() {
        let denied = b"\xff\x15\x04#28000Access denied for user 'u'@'localhost'".to_vec();
        let (error, heard) = refused(vec![greeting("10.11.19-MariaDB", PLAIN), denied]);
        assert_eq!(error.to_string(), "Access denied for user 'u'@'localhost'");
        let response = &heard[0];
        assert_eq!(response[32..34], *b"u\0");
        assert!(!response.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn password_is_not_sent_in_clear() {
        let switch = b"\xfemysql_clear_password\0".to_vec();
        let (error, heard) = refused(vec![greeting("10.11.19-MariaDB", PLAIN), switch]);
        assert!(matches!(error, SessionError::Auth(AuthError::ClearPassword(_))));
        assert_eq!(heard.len(), 1);
    }

    #[test]
    fn switching_plugins_for_ever_ends() {
        let mut packets = vec![greeting("10.11.19-MariaDB", PLAIN)];
        let switch = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0";
        packets.extend((0..100).map(|_| switch.to_vec()));
        let (error, heard) = refused(packets);
        assert!(matches!(error, SessionError::Protocol(_)), "{error:?}");
        assert!(heard.len() <= MAX_AUTH_PACKETS + 1);
    }

    #[test]
    fn encryption_that_is_not_offered() {
        let (mut options, _server) = fake(vec![greeting("10.11.19-MariaDB", PLAIN)]);
        options.tls.enabled = Some(true);
        let error = Connection::open(&options).unwrap_err();
        assert!(matches!(&error, SessionError::Tls(TlsError::NotOffered)));
        assert!(error.hint().unwrap().contains("--skip-ssl"));
    }

    const OK: &[u8] = b"\0\0\0\x02\0\0\0";

    #[test]
    fn a_broken_connection_stays_broken() {
        let (options, server) = fake(vec![greeting("10.11.19-MariaDB", PLAIN), OK.to_vec()]);
        let mut connection = Connection::open(&options).unwrap();
        for _ in 0..2 {
            let error = connection.query("DO 1").unwrap_err();
            let text = "failed to execute query DO 1: Server has gone away";
            assert_eq!(error.to_string(), text);
        }
        drop(connection);
        assert_eq!(server.join().unwrap()[1], b"\x03DO 1");
    }

    /// Answers to a query, as packets numbered from 1.
    fn answer(packets: &[&[u8]]) -> Result<Rows, SessionError> {
        let (options, _server) = fake(vec![greeting("10.11.19-MariaDB", PLAIN), OK.to_vec()]);
        let mut connection = Connection::open(&options).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        connection.stream = BufReader::new(Stream::Plain(Socket::Unix(ours)));
        let mut sequence = 1;
        for packet in packets {
            wire::write_packet(&mut theirs, &mut sequence, packet).unwrap();
        }
        theirs.shutdown(Shutdown::Write).unwrap();
        connection.query("SELECT 'x' AS a")
    }

    const COLUMN: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\0\0\0\0\xfd\0\0\0\0\0";
    const EOF: &[u8] = b"\xfe\0\0\x02\0";

    #[test]
    fn rows_of_a_server() {
        let rows = answer(&[b"\x01", COLUMN, EOF, b"\x01x", b"\xfb", EOF]).unwrap();
        let values: Vec<_> = rows.iter().map(|row| row.get("A")).collect();
        assert_eq!(values, [Some("x"), None]);
        assert!(answer(&[OK]).unwrap().is_empty());
    }

    #[test]
    fn errors_before_and_after_the_first_row() {
        let killed = b"\xff\x25\x05#70100Query execution was interrupted";
        for packets in [&[&killed[..]][..], &[b"\x01", COLUMN, EOF, b"\x01x", killed]] {
            let error = answer(packets).unwrap_err();
            assert_eq!(error.code(), Some(1317));
        }
    }

    #[test]
    fn broken_answers_are_errors() {
        let broken: [&[&[u8]]; 7] = [
            &[b""],
            &[b"\xfb/etc/passwd"],
            &[b"\xfd\xff\xff\xff"],
            &[b"\x01", b"\x03de"],
            &[b"\x01", COLUMN, COLUMN],
            &[b"\x01", COLUMN, EOF, b"\x02x"],
            &[b"\x01", COLUMN, EOF, b"\x01x"],
        ];
        for packets in broken {
            assert!(answer(packets).is_err(), "{packets:?}");
        }
    }
}
