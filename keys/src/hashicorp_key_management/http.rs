//! One GET request, HTTP or HTTPS, with one header and a short answer.
//!
//! HTTP/1.0: the answer ends with the connection and is never chunked.

use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest answer that is read, in bytes. A key and its metadata take less than 1 KiB.
const MAX_ANSWER_LEN: u64 = 64 << 10;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    is_tls: bool,
    host: String,
    port: u16,
    /// Begins with a slash and does not end with one.
    path: String,
}

impl Url {
    /// `http://HOST[:PORT]/PATH` or the like with `https`; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_tls, rest) = match text.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let (authority, path) = rest.split_at_checked(rest.find('/')?)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(address) => address.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let default = if is_tls { 443 } else { 80 };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if port.is_empty() => default,
            None => return None,
        };
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let valid = !host.is_empty() && !host.contains('@') && is_plain(host) && is_plain(path);
        let path = path.trim_end_matches('/').to_owned();
        valid.then(|| Self { is_tls, host: host.to_owned(), port, path })
    }

    /// What follows host and port.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// Status and body of an answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Asks for `rest` below the path of `url`. `header` is a whole header line without its end.
///
/// # Errors
///
/// Those of network and TLS; `InvalidData` for what is no HTTP, or too long.
pub(super) fn get(
    url: &Url,
    rest: &str,
    header: &str,
    ca: Option<&Path>,
    timeout: Duration,
) -> io::Result<Answer> {
    let stream = connect(url, timeout)?;
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let request = Zeroizing::new(format!(
        "GET {}{rest} HTTP/1.0\r\nHost: {host}:{}\r\nAccept: application/json\r\n{header}\r\n\r\n",
        url.path, url.port
    ));
    if !url.is_tls {
        return exchange(stream, &request);
    }
    let stream = connector(ca)?.connect(&url.host, stream).map_err(io::Error::other)?;
    exchange(stream, &request)
}

fn connect(url: &Url, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Trusts the authorities in `ca` alone, or the system's; checks the name of the host.
fn connector(ca: Option<&Path>) -> io::Result<SslConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if let Some(ca) = ca {
        let unusable = |error: io::Error| {
            io::Error::new(error.kind(), format!("authorities in {}: {error}", ca.display()))
        };
        let certificates = fs::read(ca).map_err(unusable)?;
        let mut store = X509StoreBuilder::new()?;
        for certificate in
            X509::stack_from_pem(&certificates).map_err(|error| unusable(error.into()))?
        {
            store.add_cert(certificate)?;
        }
        builder.set_cert_store(store.build());
        return Ok(builder.build());
    }
    // A library linked statically does not know where the system keeps its authorities.
    let system = openssl_probe::probe();
    if let Some(file) = &system.cert_file {
        builder.load_verify_locations(Some(file), None)?;
    }
    for folder in &system.cert_dir {
        builder.load_verify_locations(None, Some(folder))?;
    }
    Ok(builder.build())
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    // Never moved, since that would leave copies of what is in it.
    let capacity = usize::try_from(MAX_ANSWER_LEN + 1).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    stream.take(MAX_ANSWER_LEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ANSWER_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
    }
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (bytes.get(..end)?, bytes.get(end + 4..)?);
    let head = std::str::from_utf8(head).ok()?;
    let mut words = head.lines().next()?.split(' ');
    let status = words.next().filter(|word| word.starts_with("HTTP/1.")).and(words.next())?;
    Some(Answer { status: status.parse().ok()?, body: Zeroizing::new(body.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |is_tls, host: &str, port, path: &str| {
            Some(Url { is_tls, host: host.into(), port, path: path.into() })
        };
        for (text, expected) in [
            ("https://vault.example/v1/kv", url(true, "vault.example", 443, "/v1/kv")),
            ("http://127.0.0.1:8200/v1/a/b///", url(false, "127.0.0.1", 8200, "/v1/a/b")),
            ("https://[::1]:8200/v1/kv/", url(true, "::1", 8200, "/v1/kv")),
            ("http://[::1]/v1/kv", url(false, "::1", 80, "/v1/kv")),
            ("https://vault.example", None),
            ("ftp://vault.example/v1/kv", None),
            ("vault.example/v1/kv", None),
            ("https:///v1/kv", None),
            ("https://user@vault.example/v1/kv", None),
            ("https://vault.example:0x50/v1/kv", None),
            ("https://[::1]8200/v1/kv", None),
            ("https://vault.example/v1/k v", None),
            ("https://vault.example/v1/k\r\nX: y", None),
        ] {
            assert_eq!(Url::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn answers() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (404, &b"{}\r\n\r\n"[..]));
        for bytes in ["", "HTTP/1.1 200", "\r\n\r\n", "SSH-2 200 x\r\n\r\n", "HTTP/1.0 x\r\n\r\n"] {
            assert!(parse(bytes.as_bytes()).is_none(), "{bytes:?}");
        }
    }
}
