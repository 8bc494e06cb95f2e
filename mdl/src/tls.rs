//! Transport encryption, with the rules of MariaDB's clients of series 10.11.
//!
//! | Asked for | Checked |
//! |---|---|
//! | nothing | encrypted if the server can, certificate not checked |
//! | `ssl-ca` or `ssl-capath` | the certificate's chain, against these authorities alone |
//! | `ssl-verify-server-cert` | the chain (the system's authorities where none are named) and the host's name or address |
//!
//! Names are looked for among the alternative names, and in the common name where there is none
//! (certificates that `openssl req` or MySQL made). X.509 v1 and self-signed certificates pass if
//! they are named as authority, or where nothing is checked.

use std::net::IpAddr;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions,
    SslStream, SslVerifyMode,
};
use openssl::x509::store::{File, HashDir, X509Lookup};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509Ref, X509VerifyResult};

use crate::connection::Socket;
use crate::session::TlsOptions;

/// A failure to set up transport encryption.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file or setting of the TLS options is unusable.
    #[error("option {option}={value} is unusable: {reason}")]
    Option {
        /// Name of the option, without dashes in front.
        option: &'static str,
        /// Its value.
        value: String,
        /// What the library says.
        reason: String,
    },
    /// Encryption was asked for and the server has none.
    #[error("TLS was asked for, but the server does not support it")]
    NotOffered,
    /// The server's certificate is not signed by a known authority, or expired, or revoked.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The server's certificate is for another host.
    #[error("the server's certificate does not name the host '{0}'")]
    WrongHost(String),
    /// The handshake failed for another reason.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
}

impl TlsOptions {
    /// Whether an option asks for encryption, not only permits it.
    pub(crate) fn is_demanded(&self) -> bool {
        self.enabled.unwrap_or(
            self.authorities_named()
                || self.cert.is_some()
                || self.key.is_some()
                || self.cipher.is_some()
                || self.crl.is_some()
                || self.crlpath.is_some()
                || self.verifies_host(),
        )
    }

    /// Whether encryption is switched off.
    pub(crate) fn is_refused(&self) -> bool {
        self.enabled == Some(false)
    }

    fn authorities_named(&self) -> bool {
        self.ca.is_some() || self.capath.is_some()
    }

    fn verifies_host(&self) -> bool {
        self.verify_server_cert == Some(true)
    }
}

/// Encrypts the link. `host`: absent for a Unix socket, where there is no name to check.
pub(crate) fn start(
    socket: Socket,
    options: &TlsOptions,
    host: Option<&str>,
) -> Result<SslStream<Socket>, TlsError> {
    let context = context(options)?;
    let mut ssl = Ssl::new(&context).map_err(library)?;
    let address = host.and_then(|host| host.parse::<IpAddr>().ok());
    let name = if address.is_none() { host } else { None };
    if let Some(name) = name {
        ssl.set_hostname(name).map_err(library)?;
        if options.verifies_host() {
            ssl.param_mut().set_host(name).map_err(library)?;
        }
    }
    let stream = ssl.connect(socket).map_err(|error| failure(error, host))?;
    if let (true, Some(address), Some(host)) = (options.verifies_host(), address, host) {
        let certificate = stream.ssl().peer_certificate();
        if !certificate.is_some_and(|certificate| names_address(&certificate, address, host)) {
            return Err(TlsError::WrongHost(host.to_owned()));
        }
    }
    Ok(stream)
}

fn failure(error: HandshakeError<Socket>, host: Option<&str>) -> TlsError {
    match error {
        HandshakeError::SetupFailure(error) => library(error),
        HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream) => {
            match stream.ssl().verify_result() {
                X509VerifyResult::OK => TlsError::Handshake(match stream.error().ssl_error() {
                    Some(error) => reasons(error),
                    None => stream.error().to_string(),
                }),
                result if result.as_raw() == HOST_MISMATCH => {
                    TlsError::WrongHost(host.unwrap_or_default().to_owned())
                }
                result => TlsError::Untrusted(result.error_string().to_owned()),
            }
        }
    }
}

/// `X509_V_ERR_HOSTNAME_MISMATCH`
const HOST_MISMATCH: i32 = 62;

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn library(error: ErrorStack) -> TlsError {
    TlsError::Handshake(reasons(&error))
}

fn context(options: &TlsOptions) -> Result<SslContext, TlsError> {
    let paths = [
        ("ssl-ca", &options.ca),
        ("ssl-capath", &options.capath),
        ("ssl-cert", &options.cert),
        ("ssl-key", &options.key),
        ("ssl-crl", &options.crl),
        ("ssl-crlpath", &options.crlpath),
    ];
    for (option, path) in paths {
        if let Some(path) = path {
            check_readable(option, path)?;
        }
    }
    let mut context = SslContext::builder(SslMethod::tls_client()).map_err(library)?;
    let verify = options.verifies_host() || options.authorities_named();
    context.set_verify(if verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    if verify {
        set_authorities(&mut context, options)?;
        set_revocations(&mut context, options)?;
    }
    set_identity(&mut context, options)?;
    if let Some(list) = options.cipher.as_deref().filter(|list| !list.is_empty()) {
        set_ciphers(&mut context, list).map_err(unusable("ssl-cipher", list))?;
    }
    if let Some(versions) = options.version.as_deref().filter(|list| !list.is_empty()) {
        set_versions(&mut context, versions)?;
    }
    Ok(context.build())
}

fn unusable(option: &'static str, value: &str) -> impl FnOnce(ErrorStack) -> TlsError + use<> {
    let value = value.to_owned();
    move |error| TlsError::Option { option, value, reason: reasons(&error) }
}

fn unusable_path(option: &'static str, path: &Path) -> impl FnOnce(ErrorStack) -> TlsError + use<> {
    unusable(option, &path.to_string_lossy())
}

/// Checks that a file or folder can be opened: the library's words for that are hard to read.
fn check_readable(option: &'static str, path: &Path) -> Result<(), TlsError> {
    std::fs::File::open(path).map(drop).map_err(|error| TlsError::Option {
        option,
        value: path.to_string_lossy().into_owned(),
        reason: error.to_string(),
    })
}

/// The library's reasons without its code positions.
fn reasons(error: &ErrorStack) -> String {
    let reasons: Vec<_> = error.errors().iter().filter_map(openssl::error::Error::reason).collect();
    if reasons.is_empty() { error.to_string() } else { reasons.join("; ") }
}

fn set_authorities(context: &mut SslContextBuilder, options: &TlsOptions) -> Result<(), TlsError> {
    if let Some(file) = &options.ca {
        context.load_verify_locations(Some(file), None).map_err(unusable_path("ssl-ca", file))?;
    }
    if let Some(folder) = &options.capath {
        context
            .load_verify_locations(None, Some(folder))
            .map_err(unusable_path("ssl-capath", folder))?;
    }
    if options.authorities_named() {
        return Ok(());
    }
    // A library linked statically does not know where the system keeps its authorities.
    let system = openssl_probe::probe();
    if let Some(file) = &system.cert_file {
        context
            .load_verify_locations(Some(file), None)
            .map_err(unusable_path("SSL_CERT_FILE", file))?;
    }
    for folder in &system.cert_dir {
        context
            .load_verify_locations(None, Some(folder))
            .map_err(unusable_path("SSL_CERT_DIR", folder))?;
    }
    Ok(())
}

fn set_revocations(context: &mut SslContextBuilder, options: &TlsOptions) -> Result<(), TlsError> {
    if options.crl.is_none() && options.crlpath.is_none() {
        return Ok(());
    }
    let store = context.cert_store_mut();
    if let Some(file) = &options.crl {
        let lookup: &'static _ = X509Lookup::<File>::file();
        store
            .add_lookup(lookup)
            .and_then(|lookup| lookup.load_crl_file(file, SslFiletype::PEM))
            .map_err(unusable_path("ssl-crl", file))?;
    }
    if let Some(folder) = &options.crlpath {
        let lookup: &'static _ = X509Lookup::<HashDir>::hash_dir();
        let text = folder.to_string_lossy();
        store
            .add_lookup(lookup)
            .and_then(|lookup| lookup.add_dir(&text, SslFiletype::PEM))
            .map_err(unusable_path("ssl-crlpath", folder))?;
    }
    store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL).map_err(library)
}

/// A certificate without a key may hold the key in the same file, and the other way round.
fn set_identity(context: &mut SslContextBuilder, options: &TlsOptions) -> Result<(), TlsError> {
    let (Some(cert), Some(key)) = (
        options.cert.as_ref().or(options.key.as_ref()),
        options.key.as_ref().or(options.cert.as_ref()),
    ) else {
        return Ok(());
    };
    context.set_certificate_chain_file(cert).map_err(unusable_path("ssl-cert", cert))?;
    context.set_private_key_file(key, SslFiletype::PEM).map_err(unusable_path("ssl-key", key))?;
    context.check_private_key().map_err(unusable_path("ssl-key", key))
}

/// The names of TLS 1.3 stand in the same list as the older ones.
fn set_ciphers(context: &mut SslContextBuilder, list: &str) -> Result<(), ErrorStack> {
    let (new, old): (Vec<&str>, Vec<&str>) =
        list.split(':').partition(|name| name.starts_with("TLS_"));
    if !new.is_empty() {
        context.set_ciphersuites(&new.join(":"))?;
    }
    if !old.is_empty() {
        context.set_cipher_list(&old.join(":"))?;
    }
    Ok(())
}

fn set_versions(context: &mut SslContextBuilder, list: &str) -> Result<(), TlsError> {
    let mut refused = SslOptions::NO_TLSV1
        | SslOptions::NO_TLSV1_1
        | SslOptions::NO_TLSV1_2
        | SslOptions::NO_TLSV1_3;
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        refused.remove(match name.to_ascii_lowercase().as_str() {
            "tlsv1.0" => SslOptions::NO_TLSV1,
            "tlsv1.1" => SslOptions::NO_TLSV1_1,
            "tlsv1.2" => SslOptions::NO_TLSV1_2,
            "tlsv1.3" => SslOptions::NO_TLSV1_3,
            _ => {
                let reason = "known are TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3".to_owned();
                return Err(TlsError::Option {
                    option: "tls-version",
                    value: list.to_owned(),
                    reason,
                });
            }
        });
    }
    context.set_options(refused);
    Ok(())
}

/// As for names: an alternative name that is the address, or the common name where there are no
/// alternative names.
fn names_address(certificate: &X509Ref, address: IpAddr, text: &str) -> bool {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    match certificate.subject_alt_names() {
        Some(names) => names.iter().any(|name| name.ipaddress() == Some(bytes.as_slice())),
        None => certificate
            .subject_name()
            .entries_by_nid(Nid::COMMONNAME)
            .any(|name| name.data().as_slice() == text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_demanded_by_any_tls_option() {
        assert!(!TlsOptions::default().is_demanded());
        let options = TlsOptions { ca: Some("ca.pem".into()), ..TlsOptions::default() };
        assert!(options.is_demanded());
        let options = TlsOptions { enabled: Some(false), ..options };
        assert!(!options.is_demanded() && options.is_refused());
        assert!(TlsOptions { enabled: Some(true), ..TlsOptions::default() }.is_demanded());
    }

    #[test]
    fn unusable_options_are_named() {
        let no_file = || Some("/nonexistent.pem".into());
        let default = TlsOptions::default;
        for (options, name) in [
            (TlsOptions { ca: no_file(), ..default() }, "ssl-ca"),
            (TlsOptions { cert: no_file(), ..default() }, "ssl-cert"),
            (TlsOptions { cipher: Some("NOSUCH".into()), ..default() }, "ssl-cipher"),
            (TlsOptions { version: Some("TLSv1.2,SSLv2".into()), ..default() }, "tls-version"),
            (TlsOptions { crl: no_file(), verify_server_cert: Some(true), ..default() }, "ssl-crl"),
        ] {
            match context(&options).err() {
                Some(TlsError::Option { option, .. }) => assert_eq!(option, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn lists_of_ciphers_and_versions() {
        let options = TlsOptions {
            cipher: Some("TLS_AES_256_GCM_SHA384:ECDHE-RSA-AES256-GCM-SHA384".into()),
            version: Some("TLSv1.2, tlsv1.3".into()),
            ..TlsOptions::default()
        };
        let context = context(&options).unwrap();
        assert!(Ssl::new(&context).is_ok());
    }
}
