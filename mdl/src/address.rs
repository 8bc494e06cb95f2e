//! Where the server is, and who we are: defaults as MariaDB's clients have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::session::{ConnectOptions, Protocol};

/// Sockets of the usual packages, best first.
const SOCKETS: [&str; 4] = [
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/tmp/mysql.sock",
    "/var/lib/mysql/mysql.sock",
];

const DEFAULT_PORT: u16 = 3306;

const LOCALHOST: &str = "localhost";

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Socket(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Endpoint {
    /// Chooses the socket for `localhost` or no host, unless a protocol says otherwise.
    pub(crate) fn choose(options: &ConnectOptions) -> Self {
        let host = options.host.as_deref().filter(|host| !host.is_empty());
        let local = host.is_none_or(|host| host == LOCALHOST);
        match (options.protocol, local) {
            (Some(Protocol::Socket), _) | (None, true) => {
                Self::Socket(options.socket.clone().unwrap_or_else(default_socket))
            }
            (Some(Protocol::Tcp), _) | (None, false) => {
                let given = options.port.filter(|&port| port != 0);
                let port = given.or_else(port_of_environment).unwrap_or(DEFAULT_PORT);
                Self::Tcp { host: host.unwrap_or(LOCALHOST).to_owned(), port }
            }
        }
    }
}

fn port_of_environment() -> Option<u16> {
    env::var("MYSQL_TCP_PORT").ok()?.parse().ok().filter(|&port| port != 0)
}

fn default_socket() -> PathBuf {
    if let Some(path) = env::var_os("MYSQL_UNIX_PORT").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let found = SOCKETS.iter().map(Path::new).find(|path| path.exists());
    found.unwrap_or(Path::new(SOCKETS[0])).to_owned()
}

/// Addresses of a host, without the name service where that can be done.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host == LOCALHOST {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(loopback.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// Account used when none is given: `root` for root, else the operating system's user name.
pub(crate) fn default_user() -> String {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return "root".to_owned();
    }
    // Not by the name service: a static binary must not load its modules.
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    user_in_passwd(&String::from_utf8_lossy(&passwd), uid.as_raw())
        .or_else(|| ["USER", "LOGNAME", "LOGIN"].iter().find_map(|name| env::var(name).ok()))
        .unwrap_or_else(|| "UNKNOWN_USER".to_owned())
}

/// Line: `name:password:uid:gid:comment:home:shell`.
fn user_in_passwd(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found = fields.nth(1)?.parse() == Ok(uid);
        found.then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(host: Option<&str>, protocol: Option<Protocol>) -> ConnectOptions {
        ConnectOptions {
            host: host.map(Into::into),
            port: Some(4000),
            socket: Some("/s".into()),
            protocol,
            ..ConnectOptions::default()
        }
    }

    fn tcp(host: &str) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port: 4000 }
    }

    #[test]
    fn local_means_socket_unless_told_otherwise() {
        let socket = Endpoint::Socket("/s".into());
        for host in [None, Some(""), Some("localhost")] {
            assert_eq!(Endpoint::choose(&options(host, None)), socket);
            assert_eq!(Endpoint::choose(&options(host, Some(Protocol::Tcp))), tcp("localhost"));
        }
        assert_eq!(Endpoint::choose(&options(Some("db1"), Some(Protocol::Socket))), socket);
        assert_eq!(Endpoint::choose(&options(Some("db1"), None)), tcp("db1"));
        assert_eq!(Endpoint::choose(&options(Some("127.0.0.1"), None)), tcp("127.0.0.1"));
    }

    #[test]
    fn addresses_without_name_service() {
        assert_eq!(resolve("127.0.0.1", 5).unwrap(), ["127.0.0.1:5".parse().unwrap()]);
        assert_eq!(resolve("::1", 5).unwrap(), ["[::1]:5".parse().unwrap()]);
        assert_eq!(resolve("localhost", 5).unwrap().len(), 2);
    }

    #[test]
    fn user_names_in_passwd() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\n\n+::\nbad\nmysql:x:103:109::/x:/bin/false\n";
        assert_eq!(user_in_passwd(passwd, 103).as_deref(), Some("mysql"));
        assert_eq!(user_in_passwd(passwd, 104), None);
    }
}
