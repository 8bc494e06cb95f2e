//! `hashicorp_key_management`: keys in the key-value store (version 2) of a Vault server.
//!
//! ```text
//! GET <vault url>/data/<key id>[?version=<n>]     X-Vault-Token: <token>
//! {"data": {"data": {"data": "<hexadecimal digits>"}, "metadata": {"version": <n>, ...}}, ...}
//! ```
//!
//! Source: `hashicorp_key_management_plugin.cc`. The plugin uses its keys by AES-CBC.

mod http;

use crate::hex;
use http::Url;
use innodb::encrypted::{CipherMode, Key, KeyError, KeySource};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// The plugin's variables, `hashicorp_key_management_*`.
#[derive(Clone)]
pub struct VaultOptions {
    /// `vault_url`: where the keys are, `http[s]://HOST[:PORT]/v1/MOUNT`.
    pub vault_url: String,
    /// `token`, or the environment variable `VAULT_TOKEN`. The server tells it to nobody.
    pub token: Zeroizing<String>,
    /// `vault_ca`: certificates of the authorities to trust instead of the system's.
    pub vault_ca: Option<PathBuf>,
    /// `timeout`: of connecting, and of each wait for bytes.
    pub timeout: Duration,
    /// `max_retries`: how often a request that failed on its way is sent again.
    pub max_retries: u32,
}

impl fmt::Debug for VaultOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultOptions").field("vault_url", &self.vault_url).finish_non_exhaustive()
    }
}

/// The keys of a Vault server. Each is asked for once and kept, so that all pages written in one
/// run get the same version.
pub struct VaultKeys {
    options: VaultOptions,
    url: Url,
    header: Zeroizing<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: BTreeMap<(u32, u32), Key>,
    latest: BTreeMap<u32, u32>,
}

impl VaultKeys {
    /// Checks the options. Asks the server for nothing.
    ///
    /// # Errors
    ///
    /// [`VaultError::Url`] or [`VaultError::Token`].
    pub fn new(options: VaultOptions) -> Result<Self, VaultError> {
        let url = Url::parse(&options.vault_url).filter(|url| url.path().starts_with("/v1/"));
        let url = url.ok_or_else(|| VaultError::Url(options.vault_url.clone()))?;
        let token = options.token.as_str();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VaultError::Token);
        }
        let header = Zeroizing::new(format!("X-Vault-Token: {token}"));
        Ok(Self { options, url, header, known: Mutex::default() })
    }

    /// The key in `version`, or in its latest, and which that is.
    fn find(&self, key_id: u32, version: Option<u32>) -> Result<(u32, Key), KeyError> {
        // One request at a time: the other threads want the same key.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = version.or_else(|| known.latest.get(&key_id).copied());
        if let Some(version) = wanted
            && let Some(key) = known.keys.get(&(key_id, version))
        {
            return Ok((version, key.clone()));
        }
        let (found, key) = self.ask(key_id, wanted)?;
        known.keys.insert((key_id, found), key.clone());
        if wanted.is_none() {
            known.latest.insert(key_id, found);
        }
        Ok((found, key))
    }

    fn ask(&self, key_id: u32, version: Option<u32>) -> Result<(u32, Key), KeyError> {
        let unavailable = |error| KeyError::Unavailable { key_id, source: Box::new(error) };
        let rest = match version {
            Some(version) => format!("/data/{key_id}?version={version}"),
            None => format!("/data/{key_id}"),
        };
        let mut retries = self.options.max_retries;
        let answer = loop {
            let VaultOptions { vault_ca, timeout, .. } = &self.options;
            match http::get(&self.url, &rest, &self.header, vault_ca.as_deref(), *timeout) {
                Ok(answer) => break answer,
                Err(_) if retries > 0 => retries -= 1,
                Err(error) => return Err(unavailable(VaultError::Io(error))),
            }
        };
        match (answer.status, version) {
            (200, _) => {}
            (404, None) => return Err(KeyError::Missing { key_id }),
            (404, Some(version)) => return Err(KeyError::MissingVersion { key_id, version }),
            (status, _) => return Err(unavailable(VaultError::Status(status))),
        }
        let (found, key) = parse(&answer.body).ok_or_else(|| unavailable(VaultError::Answer))?;
        if version.is_some_and(|version| version != found) {
            return Err(unavailable(VaultError::Answer));
        }
        Ok((found, key))
    }
}

impl KeySource for VaultKeys {
    fn key(&self, key_id: u32, version: u32) -> Result<Key, KeyError> {
        self.find(key_id, Some(version)).map(|(_, key)| key)
    }

    fn latest_version(&self, key_id: u32) -> Result<u32, KeyError> {
        self.find(key_id, None).map(|(version, _)| version)
    }

    fn mode(&self) -> CipherMode {
        CipherMode::Cbc
    }
}

impl fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultKeys").field("options", &self.options).finish_non_exhaustive()
    }
}

/// An answer, as far as it is looked at. The digits stay where they are.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Secret<'a>,
}

#[derive(Deserialize)]
struct Secret<'a> {
    #[serde(borrow)]
    data: Fields<'a>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Fields<'a> {
    data: &'a str,
}

#[derive(Deserialize)]
struct Metadata {
    version: u32,
}

/// `None` for what is not a version and a key.
fn parse(body: &[u8]) -> Option<(u32, Key)> {
    let Answer { data: secret } = serde_json::from_slice(body).ok()?;
    let key = hex::parse_key(secret.data.data.as_bytes())?;
    (secret.metadata.version != 0).then_some((secret.metadata.version, key))
}

/// A Vault server that gives no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Not `http[s]://HOST[:PORT]/v1/...`.
    #[error("`{0}` is not the URL of a Vault store: expected https://HOST:PORT/v1/MOUNT")]
    Url(String),
    /// There is no token, or one that cannot be sent.
    #[error("the token of the Vault server is missing or has characters that no token has")]
    Token,
    /// The server cannot be reached, or does not speak HTTP.
    #[error("cannot ask the Vault server")]
    Io(#[source] io::Error),
    /// The server refused: 403 for a wrong token.
    #[error("the Vault server answered with status {0}")]
    Status(u16),
    /// The answer has no key, or one of another version. What it has is not repeated here.
    #[error("the Vault server's answer holds no key of 32, 48 or 64 hexadecimal digits")]
    Answer,
}

#[cfg(test)]
mod tests;
