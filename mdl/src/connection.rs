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
            broken: false,
        };
        connection.authenticate(options, &greeting, capabilities)?;
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
