//! Connecting to the server, and the few kinds of query that a backup needs.

use std::path::PathBuf;

/// How to reach the server and as whom.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// Account; the operating system's user name when absent.
    pub user: Option<String>,
    /// Password; never printed.
    pub password: Option<String>,
    /// Host name or address; `localhost` or absent means the socket unless a protocol says TCP.
    pub host: Option<String>,
    /// TCP port; 3306 when absent.
    pub port: Option<u16>,
    /// Unix socket; the usual places are tried when absent.
    pub socket: Option<PathBuf>,
    /// Forces TCP or the socket.
    pub protocol: Option<Protocol>,
    /// Transport encryption.
    pub tls: TlsOptions,
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
    /// Certificate authorities, PEM.
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
