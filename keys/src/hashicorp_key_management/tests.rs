//! Against a server that answers as Vault's API is documented, over HTTP and HTTPS.

use super::*;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

const KEY: &str = "770A8A65DA156D24EE2A093277530142";
const NEWER: &str = "603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4";

/// A server on this machine, until the tests end.
struct Vault {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Vault {
    /// Key 1 has versions 1 and 2, key 7 is broken.
    fn start(acceptor: Option<SslAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                match &acceptor {
                    Some(acceptor) => {
                        if let Ok(mut stream) = acceptor.accept(stream) {
                            answer(&mut stream);
                            let _ = stream.shutdown();
                        }
                    }
                    None => answer(stream),
                }
            }
        });
        Self { port, requests }
    }

    fn options(&self, scheme: &str) -> VaultOptions {
        VaultOptions {
            vault_url: format!("{scheme}://localhost:{}/v1/kv/", self.port),
            token: Zeroizing::new("s.token".to_owned()),
            vault_ca: None,
            timeout: Duration::from_secs(20),
            max_retries: 0,
        }
    }
}

fn answer(mut stream: impl Read + Write) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let target = request.split(' ').nth(1).unwrap();
    let secret = |key: &str, version: u32| {
        (
            200,
            format!(
                "{{\"request_id\":\"x\",\"lease_id\":\"\",\"renewable\":false,\"data\":{{\"data\":\
             {{\"data\":\"{key}\"}},\"metadata\":{{\"created_time\":\"2024-01-01T00:00:00Z\",\
             \"custom_metadata\":null,\"deletion_time\":\"\",\"destroyed\":false,\"version\":\
             {version}}}}},\"wrap_info\":null,\"warnings\":null,\"auth\":null}}\n"
            ),
        )
    };
    let (status, body) = match target {
        _ if !request.contains("\r\nX-Vault-Token: s.token\r\n") => {
            (403, "{\"errors\":[\"permission denied\"]}".to_owned())
        }
        "/v1/kv/data/1?version=1" => secret(KEY, 1),
        "/v1/kv/data/1" | "/v1/kv/data/1?version=2" => secret(NEWER, 2),
        "/v1/kv/data/7" => secret("no key", 1),
        "/v1/kv/data/8?version=3" => secret(KEY, 4),
        "/v1/kv/data/9" => (200, "x".repeat(100_000)),
        _ => (404, "{\"errors\":[]}".to_owned()),
    };
    let head = format!("HTTP/1.0 {status} Some Reason\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
}

#[test]
fn keys_and_versions() {
    let vault = Vault::start(None);
    let keys = VaultKeys::new(vault.options("http")).unwrap();
    assert_eq!(keys.key(1, 1).unwrap().bits(), 128);
    assert_eq!(keys.latest_version(1).unwrap(), 2);
    assert_eq!(keys.key(1, 2).unwrap().bits(), 256);
    assert_eq!(keys.mode(), CipherMode::Cbc);
    // The answer about the latest version was its key.
    assert_eq!(vault.requests.load(Ordering::Relaxed), 2);
    assert_eq!(keys.latest_version(1).unwrap(), 2);
    assert_eq!(keys.key(1, 1).unwrap().bits(), 128);
    assert_eq!(vault.requests.load(Ordering::Relaxed), 2);

    assert!(matches!(keys.key(2, 1), Err(KeyError::MissingVersion { key_id: 2, version: 1 })));
    assert!(matches!(keys.latest_version(2), Err(KeyError::Missing { key_id: 2 })));
}

/// The error behind `result`.
fn cause<T: fmt::Debug>(result: Result<T, KeyError>) -> VaultError {
    match result.unwrap_err() {
        KeyError::Unavailable { source, .. } => *source.downcast().unwrap(),
        error => panic!("{error}"),
    }
}

#[test]
fn answers_without_a_key() {
    let vault = Vault::start(None);
    let keys = VaultKeys::new(vault.options("http")).unwrap();
    assert!(matches!(cause(keys.latest_version(7)), VaultError::Answer));
    assert!(matches!(cause(keys.key(8, 3)), VaultError::Answer));
    assert!(matches!(cause(keys.latest_version(9)), VaultError::Io(_)));

    let token = Zeroizing::new("s.other".to_owned());
    let keys = VaultKeys::new(VaultOptions { token, ..vault.options("http") }).unwrap();
    assert!(matches!(cause(keys.key(1, 1)), VaultError::Status(403)));
}

#[test]
fn requests_are_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        // Hangs up twice.
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
        answer(listener.accept().unwrap().0);
    });
    let vault = Vault { port, requests: Arc::default() };
    let options = VaultOptions { max_retries: 2, ..vault.options("http") };
    let keys = VaultKeys::new(options).unwrap();
    assert_eq!(keys.key(1, 1).unwrap().bits(), 128);
    server.join().unwrap();
    // Nobody listens any more.
    assert!(matches!(cause(keys.key(1, 2)), VaultError::Io(_)));
}

#[test]
fn certificates_are_checked() {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    let names = SubjectAlternativeName::new()
        .dns("localhost")
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    let vault = Vault::start(Some(acceptor.build()));

    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, certificate.to_pem().unwrap()).unwrap();
    let trusting = VaultOptions { vault_ca: Some(ca.clone()), ..vault.options("https") };
    let keys = VaultKeys::new(trusting.clone()).unwrap();
    assert_eq!(keys.key(1, 2).unwrap().bits(), 256);

    let unknown = VaultKeys::new(vault.options("https")).unwrap();
    assert!(matches!(cause(unknown.key(1, 2)), VaultError::Io(_)));
    let missing = VaultOptions { vault_ca: Some(dir.path().join("none")), ..trusting.clone() };
    let VaultError::Io(error) = cause(VaultKeys::new(missing).unwrap().key(1, 2)) else { panic!() };
    assert!(error.to_string().contains("/none: "), "{error}");
    let other_name = trusting.vault_url.replace("localhost", "127.0.0.1");
    let other_name = VaultOptions { vault_url: other_name, ..trusting };
    let other_name = VaultKeys::new(other_name).unwrap();
    assert!(matches!(cause(other_name.key(1, 2)), VaultError::Io(_)));
}

#[test]
fn impossible_options() {
    let vault = Vault { port: 1, requests: Arc::default() };
    for url in ["https://localhost:8200/kv", "localhost:8200/v1/kv", "https://localhost:8200/v1/"] {
        let options = VaultOptions { vault_url: url.to_owned(), ..vault.options("http") };
        assert!(matches!(VaultKeys::new(options), Err(VaultError::Url(_))), "{url}");
    }
    for token in ["", "a b", "a\r\nX: y"] {
        let token = Zeroizing::new(token.to_owned());
        let options = VaultOptions { token, ..vault.options("http") };
        assert!(matches!(VaultKeys::new(options), Err(VaultError::Token)));
    }
}

#[test]
fn nothing_secret_is_printed() {
    let vault = Vault::start(None);
    let keys = VaultKeys::new(vault.options("http")).unwrap();
    keys.key(1, 1).unwrap();
    let printed = format!("{keys:?}");
    assert!(!printed.contains("s.token") && !printed.contains(KEY), "{printed}");
    assert!(printed.contains("/v1/kv/"));
}

#[test]
fn answers_are_parsed_strictly() {
    let whole = |key: &str, version: &str| {
        format!(
            "{{\"data\":{{\"data\":{{\"data\":\"{key}\"}},\"metadata\":{{\"version\":{version}}}}}}}"
        )
    };
    assert_eq!(parse(whole(KEY, "3").as_bytes()).map(|(version, _)| version), Some(3));
    for body in [
        whole(KEY, "0"),
        whole(KEY, "-1"),
        whole(KEY, "\"3\""),
        whole(&format!("{KEY}0"), "3"),
        whole(&format!(" {KEY}"), "3"),
        "{\"data\":{\"data\":null,\"metadata\":{\"version\":1}}}".to_owned(),
        "{}".to_owned(),
        String::new(),
    ] {
        assert!(parse(body.as_bytes()).is_none(), "{body}");
    }
}
