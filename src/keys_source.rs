//! Which key management a server uses, and its keys: from the variables of its plugin, as the
//! server tells them or `backup-my.cnf` keeps them, and from options of the same names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use innodb::encrypted::{CipherMode, KeySource};
use keys::{DebugKeys, Digest, FileKeyOptions, FileKeys, Filekey, VaultKeys, VaultOptions};
use zeroize::Zeroizing;

use crate::hint::WithHint;
use crate::metadata::Plugins;

/// Variables of key managements that are options too, with underscores.
pub const VARIABLES: [&str; 10] = [
    "file_key_management_filename",
    FILEKEY,
    "file_key_management_encryption_algorithm",
    "file_key_management_digest",
    "file_key_management_use_pbkdf2",
    VAULT_URL,
    VAULT_TOKEN,
    "hashicorp_key_management_vault_ca",
    "hashicorp_key_management_timeout",
    "hashicorp_key_management_max_retries",
];

/// The server tells nobody this one.
pub const VAULT_TOKEN: &str = "hashicorp_key_management_token";

const FILEKEY: &str = "file_key_management_filekey";
const VAULT_URL: &str = "hashicorp_key_management_vault_url";
/// Plugins that manage keys, as servers name them.
const DEBUG: &str = "debug_key_management";
const FILE: &str = "file_key_management";
const VAULT: &str = "hashicorp_key_management";
/// Part of the names of all plugins that manage keys.
pub const KEY_MANAGEMENT: &str = "key_management";
/// Plugins with names that begin so compress pages.
pub const PROVIDER: &str = "provider_";

/// Variables of key managements that options set: they go before those of the server and of the
/// backup.
#[derive(Clone, Default)]
pub struct KeyOptions(BTreeMap<&'static str, Zeroizing<String>>);

impl KeyOptions {
    /// Sets one of [`VARIABLES`].
    pub fn set(&mut self, name: &'static str, value: String) {
        self.0.insert(name, Zeroizing::new(value));
    }

    /// What was set.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl fmt::Debug for KeyOptions {
    /// Names alone: some of the values are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Opens the key management that is among `plugins`, or that `options` describe; `None` if there
/// is none.
///
/// # Errors
///
/// A key management that is not supported, a value that its plugin does not have, keys that are
/// not to be had. No message holds a key or a secret.
pub fn open(
    plugins: Option<&Plugins>,
    options: &KeyOptions,
) -> anyhow::Result<Option<Arc<dyn KeySource>>> {
    let loaded = plugins.map(|plugins| plugins.load.as_slice()).unwrap_or_default();
    let mut managements =
        loaded.iter().map(|(name, _)| name.as_str()).filter(|name| !name.starts_with(PROVIDER));
    let described = || {
        let places = [(FILE, "file_key_management_filename"), (VAULT, VAULT_URL)];
        places
            .into_iter()
            .find(|(_, place)| options.0.contains_key(place))
            .map(|(plugin, _)| plugin)
    };
    let Some(plugin) = managements.next().or_else(described) else { return Ok(None) };
    let variables = Variables { plugins, options, plugin };
    let opened: anyhow::Result<Arc<dyn KeySource>> = match plugin {
        FILE => variables.key_file().map(|keys| Arc::new(keys) as _),
        DEBUG => variables.number("version", 1).map(|latest| Arc::new(DebugKeys::new(latest)) as _),
        VAULT => variables.vault().map(|keys| Arc::new(keys) as _),
        _ => bail!("the key management {plugin} is not supported"),
    };
    opened.with_context(|| format!("use the key management {plugin}")).map(Some)
}

/// Leaves out of what a backup stores the secret by which the key file is encrypted; a `FILE:` and
/// a path stay. Returns whether there was one.
pub fn leave_out_secrets(plugins: &mut Plugins) -> bool {
    let mut is_secret = false;
    for (name, value) in &mut plugins.variables {
        if name == FILEKEY && !value.is_empty() && !value.starts_with("FILE:") {
            value.clear();
            is_secret = true;
        }
    }
    is_secret
}

/// The variables of a plugin.
struct Variables<'a> {
    plugins: Option<&'a Plugins>,
    options: &'a KeyOptions,
    plugin: &'a str,
}

impl Variables<'_> {
    /// The value of the variable `name`, without the plugin's name before it, unless it is empty.
    fn text(&self, name: &str) -> Option<&str> {
        let name = format!("{}_{name}", self.plugin);
        let given = self.options.0.get(name.as_str()).map(|value| value.as_str());
        let told = || {
            let variables = &self.plugins?.variables;
            variables
                .iter()
                .rev()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.as_str())
        };
        given.or_else(told).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str, default: u32) -> anyhow::Result<u32> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().with_context(|| format!("{}_{name} is {text:?}, no number", self.plugin))
    }

    fn key_file(&self) -> anyhow::Result<FileKeys> {
        let filename = self.text("filename").context("file_key_management_filename is not set")?;
        let mode = match self.text("encryption_algorithm") {
            None | Some("aes_cbc") => CipherMode::Cbc,
            Some("aes_ctr") => CipherMode::Ctr,
            Some(other) => {
                bail!(
                    "file_key_management_encryption_algorithm is {other:?}, not aes_cbc or aes_ctr"
                )
            }
        };
        let digest = match self.text("digest") {
            Some(name) => name.parse().context("file_key_management_digest")?,
            None => Digest::default(),
        };
        let keys = FileKeys::open(&FileKeyOptions {
            filename: PathBuf::from(filename),
            filekey: self.text("filekey").and_then(|value| Filekey::new(OsStr::new(value))),
            mode,
            digest,
            pbkdf2_iterations: NonZeroU32::new(self.number("use_pbkdf2", 0)?),
        });
        keys.hint(
            "--file-key-management-filename and --file-key-management-filekey tell where the keys \
             are, if not where the server has them",
        )
    }

    fn vault(&self) -> anyhow::Result<VaultKeys> {
        let timeout = self.number("timeout", 15)?;
        let keys = VaultKeys::new(VaultOptions {
            vault_url: self.text("vault_url").unwrap_or_default().to_owned(),
            token: Zeroizing::new(self.text("token").unwrap_or_default().to_owned()),
            vault_ca: self.text("vault_ca").map(PathBuf::from),
            // The plugin takes 0 for its default.
            timeout: Duration::from_secs(if timeout == 0 { 15 } else { timeout }.into()),
            max_retries: self.number("max_retries", 3)?,
        });
        keys.hint(
            "the server tells nobody its token: give it by --hashicorp-key-management-token or by \
             the environment variable VAULT_TOKEN",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/keys/testdata/plain");
    const ENCRYPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/keys/testdata/sha1");

    fn plugins(load: &[&str], variables: &[(&str, &str)]) -> Plugins {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Plugins {
            load: load.iter().map(|name| pair(&(*name, *name))).collect(),
            variables: variables.iter().map(pair).collect(),
            ..Plugins::default()
        }
    }

    fn options(variables: &[(&'static str, &str)]) -> KeyOptions {
        let mut options = KeyOptions::default();
        for (name, value) in variables {
            options.set(name, (*value).to_owned());
        }
        options
    }

    fn error(plugins: &Plugins, given: &KeyOptions) -> String {
        format!("{:#}", open(Some(plugins), given).unwrap_err())
    }

    #[test]
    fn keys_of_the_servers_plugin() {
        let with_lz4 = plugins(
            &["provider_lz4", FILE],
            &[
                ("file_key_management_encryption_algorithm", "aes_ctr"),
                ("file_key_management_filekey", ""),
                ("file_key_management_filename", KEY_FILE),
            ],
        );
        let keys = open(Some(&with_lz4), &KeyOptions::default()).unwrap().unwrap();
        assert_eq!(keys.mode(), CipherMode::Ctr);
        assert_eq!(keys.latest_version(2).unwrap(), 1);
    }

    #[test]
    fn no_key_management() {
        assert!(open(None, &KeyOptions::default()).unwrap().is_none());
        let compression = plugins(&["provider_lz4"], &[]);
        let token = options(&[(VAULT_TOKEN, "x")]);
        assert!(open(Some(&compression), &token).unwrap().is_none());
    }

    #[test]
    fn options_go_before_what_is_known_of_the_server() {
        let elsewhere = plugins(&[FILE], &[("file_key_management_filename", "/nonexistent/keys")]);
        assert!(error(&elsewhere, &KeyOptions::default()).contains("/nonexistent/keys"));
        let mut given = options(&[("file_key_management_filename", ENCRYPTED)]);
        assert!(error(&elsewhere, &given).contains("no filekey is given"));
        given.set("file_key_management_filekey", "secret".to_owned());
        assert!(open(Some(&elsewhere), &given).unwrap().is_some());
        // Alone they will do.
        assert!(open(None, &given).unwrap().is_some());
    }

    #[test]
    fn values_that_no_server_has() {
        let file = plugins(&[FILE], &[("file_key_management_filename", KEY_FILE)]);
        for (name, value) in [
            ("file_key_management_encryption_algorithm", "aes_xts"),
            ("file_key_management_digest", "md5"),
            ("file_key_management_use_pbkdf2", "many"),
        ] {
            let error = error(&file, &options(&[(name, value)]));
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        let none = plugins(&[FILE], &[]);
        assert!(error(&none, &KeyOptions::default()).contains("filename is not set"));
        let other = plugins(&["aws_key_management"], &[]);
        let expected = "the key management aws_key_management is not supported";
        assert_eq!(error(&other, &KeyOptions::default()), expected);
    }

    #[test]
    fn vault_needs_a_url_and_a_token() {
        let vault = plugins(&[VAULT], &[(VAULT_URL, "https://vault:8200/v1/mariadb")]);
        assert!(open(Some(&vault), &options(&[(VAULT_TOKEN, "t.1")])).unwrap().is_some());
        let broken = error(&vault, &options(&[(VAULT_TOKEN, "t 1")]));
        assert!(broken.contains("token") && !broken.contains("t 1"), "{broken}");
        let vault = plugins(&[VAULT], &[(VAULT_URL, "vault:8200")]);
        assert!(error(&vault, &options(&[(VAULT_TOKEN, "t.1")])).contains("vault:8200"));
    }

    #[test]
    fn nothing_secret_is_stored() {
        for (value, stored, is_secret) in
            [("secret", "", true), ("FILE:/etc/key", "FILE:/etc/key", false), ("", "", false)]
        {
            let mut known = plugins(&[FILE], &[(FILEKEY, value), ("file_key_management_x", "y")]);
            assert_eq!(leave_out_secrets(&mut known), is_secret);
            let expected = plugins(&[FILE], &[(FILEKEY, stored), ("file_key_management_x", "y")]);
            assert_eq!(known.variables, expected.variables);
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let given = options(&[(VAULT_TOKEN, "t.1")]);
        assert_eq!(format!("{given:?}"), "{\"hashicorp_key_management_token\"}");
    }
}
