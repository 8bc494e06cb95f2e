//! A server with the part of Vault's API that key managements use, over HTTP.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// The token that is asked for.
pub const TOKEN: &str = "s.oXmTvMqD9rYkLwZb3NcP";

/// Gives keys of every id, in all versions up to the newest, until the tests end.
pub struct Vault {
    port: u16,
    newest: Arc<AtomicU32>,
}

impl Vault {
    /// Starts with version 1 of each key.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("a bound socket").port();
        let newest = Arc::new(AtomicU32::new(1));
        let versions = Arc::clone(&newest);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let versions = Arc::clone(&versions);
                // A client that has gone is no matter.
                thread::spawn(move || answer(&stream, versions.load(Ordering::Relaxed)));
            }
        });
        Self { port, newest }
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/kv", self.port)
    }

    /// Makes a new version of each key.
    pub fn rotate(&self) {
        self.newest.fetch_add(1, Ordering::Relaxed);
    }

    /// Options of a server that has its keys here, and asks for new versions often.
    pub fn server_options(&self) -> Vec<String> {
        [
            "--plugin-load-add=hashicorp_key_management",
            "--plugin-maturity=unknown",
            "--hashicorp-key-management-check-kv-version=OFF",
            "--hashicorp-key-management-caching-enabled=OFF",
            &format!("--hashicorp-key-management-token={TOKEN}"),
            &format!("--hashicorp-key-management-vault-url={}", self.url()),
        ]
        .map(str::to_owned)
        .into()
    }
}

fn answer(stream: &TcpStream, newest: u32) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next()?;
    let mut is_allowed = false;
    for header in lines.by_ref().take_while(|line| !line.is_empty()) {
        let Some((name, token)) = header.split_once(':') else { continue };
        is_allowed |= name.eq_ignore_ascii_case("X-Vault-Token") && token.trim() == TOKEN;
    }
    let path = request.strip_prefix("GET /v1/kv/data/")?.split(' ').next()?;
    let (id, version) = path.split_once("?version=").unwrap_or((path, ""));
    let id: u32 = id.parse().ok()?;
    let version = if version.is_empty() { newest } else { version.parse().ok()? };
    let (status, body) = if !is_allowed {
        ("403 Forbidden", r#"{"errors":["permission denied"]}"#.to_owned())
    } else if version > newest {
        ("404 Not Found", r#"{"errors":[]}"#.to_owned())
    } else {
        let key = format!("{:032X}", u128::from(id) << 64 | u128::from(version));
        let data = format!(r#"{{"data":{{"data":"{key}"}},"metadata":{{"version":{version}}}}}"#);
        ("200 OK", format!(r#"{{"data":{data}}}"#))
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()
}
