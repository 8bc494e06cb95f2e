//! Answers to the server's question for a password, by authentication plugin.
//!
//! | Plugin | Answer |
//! |---|---|
//! | `mysql_native_password` | SHA-1 of the password, masked by the scramble |
//! | `client_ed25519` | Ed25519 signature; the secret key is the password's SHA-512 |
//! | `parsec` | Ed25519 signature; the secret key is derived by PBKDF2 with a salt the server sends |
//! | `unix_socket`, `auth_socket` | nothing; the server asks the kernel who we are |
//! | `dialog`, `mysql_clear_password` | the password itself, over TLS or a Unix socket only |
//! | `caching_sha2_password` | SHA-256 scramble, then the password itself over TLS or a socket |
//!
//! Source: the plugins' client halves; checked against servers 10.11 and 11.8.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, Signer, SigningKey, VerifyingKey};
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::sha::{Sha1, Sha256, sha1, sha256, sha512};

/// Most doublings of PBKDF2's rounds that are done for a server: about a second of work.
const MAX_PARSEC_FACTOR: u8 = 12;

/// Length of the challenges of Ed25519 and PARSEC in bytes.
const CHALLENGE_LEN: usize = 32;

/// Why no answer can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The account uses a plugin that this client does not know.
    #[error("account needs the authentication plugin '{0}', which is not supported")]
    UnknownPlugin(String),
    /// The plugin wants the password in clear, and the link can be overheard.
    #[error("authentication plugin '{0}' would send the password unencrypted")]
    ClearPassword(String),
    /// The server's challenge is malformed.
    #[error("malformed challenge for the authentication plugin '{0}'")]
    Challenge(String),
    /// The cryptographic library failed.
    #[error("cryptographic library: {0}")]
    Library(String),
}

/// Password that appears in no `Debug` output.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The password as plugins send it in clear.
    fn with_nul(&self) -> Vec<u8> {
        [self.bytes(), &[0]].concat()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// One plugin's side of the dialogue.
#[derive(Debug)]
pub(crate) struct Dialogue<'a> {
    plugin: Plugin,
    name: String,
    challenge: Vec<u8>,
    password: &'a Secret,
    /// Nobody can overhear: TLS or a Unix socket.
    private: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    Native,
    Ed25519,
    Parsec,
    UnixSocket,
    Clear,
    Dialog,
    CachingSha2,
}

impl<'a> Dialogue<'a> {
    /// The dialogue of the plugin of this name, with the server's challenge.
    pub(crate) fn new(
        name: &str,
        challenge: &[u8],
        password: &'a Secret,
        private: bool,
    ) -> Result<Self, AuthError> {
        let plugin = match name {
            // Without a name the server is content with any; this one is what it means.
            "mysql_native_password" | "" => Plugin::Native,
            "client_ed25519" => Plugin::Ed25519,
            "parsec" => Plugin::Parsec,
            "unix_socket" | "auth_socket" => Plugin::UnixSocket,
            "mysql_clear_password" => Plugin::Clear,
            "dialog" => Plugin::Dialog,
            "caching_sha2_password" => Plugin::CachingSha2,
            _ => return Err(AuthError::UnknownPlugin(name.to_owned())),
        };
        if matches!(plugin, Plugin::Clear | Plugin::Dialog) && !private {
            return Err(AuthError::ClearPassword(name.to_owned()));
        }
        Ok(Self { plugin, name: name.to_owned(), challenge: challenge.to_vec(), password, private })
    }

    /// The first answer.
    pub(crate) fn first(&self) -> Result<Vec<u8>, AuthError> {
        match self.plugin {
            Plugin::Native => Ok(native(self.password, self.scramble()?)),
            Plugin::Ed25519 => Ok(ed25519(self.password, self.long_challenge()?).to_vec()),
            // PARSEC asks for the salt with an empty packet.
            Plugin::Parsec | Plugin::UnixSocket => Ok(Vec::new()),
            Plugin::Clear | Plugin::Dialog => Ok(self.password.with_nul()),
            Plugin::CachingSha2 if self.password.is_empty() => Ok(Vec::new()),
            Plugin::CachingSha2 => Ok(caching_sha2(self.password, self.scramble()?)),
        }
    }

    /// The answer to more data from the server; `None`: none is due.
    pub(crate) fn next(&self, data: &[u8]) -> Result<Option<Vec<u8>>, AuthError> {
        match (self.plugin, data) {
            (Plugin::Parsec, data) => self.parsec(data).map(Some),
            (Plugin::CachingSha2, [3]) => Ok(None),
            (Plugin::CachingSha2, [4]) if self.private => Ok(Some(self.password.with_nul())),
            (Plugin::CachingSha2, [4]) => Err(AuthError::ClearPassword(self.name.clone())),
            // Further questions, such as for a one-time code, have no answer here.
            _ => Err(AuthError::Challenge(self.name.clone())),
        }
    }

    fn challenge_error(&self) -> AuthError {
        AuthError::Challenge(self.name.clone())
    }

    fn scramble(&self) -> Result<&[u8], AuthError> {
        self.challenge.get(..20).ok_or_else(|| self.challenge_error())
    }

    fn long_challenge(&self) -> Result<&[u8], AuthError> {
        self.challenge.get(..CHALLENGE_LEN).ok_or_else(|| self.challenge_error())
    }

    /// `data`: `P`, doublings of 1024 rounds, salt.
    fn parsec(&self, data: &[u8]) -> Result<Vec<u8>, AuthError> {
        let ours = random_challenge()?;
        self.parsec_with(data, &ours)
    }

    fn parsec_with(&self, data: &[u8], ours: &[u8; CHALLENGE_LEN]) -> Result<Vec<u8>, AuthError> {
        let (factor, salt) = match data {
            [b'P', factor, salt @ ..] if *factor <= MAX_PARSEC_FACTOR => (*factor, salt),
            _ => return Err(self.challenge_error()),
        };
        let mut seed = [0; 32];
        let password = self.password.bytes();
        pbkdf2_hmac(password, salt, 1024 << factor, MessageDigest::sha512(), &mut seed)
            .map_err(|error| AuthError::Library(error.to_string()))?;
        let message = [self.long_challenge()?, ours].concat();
        let signature = SigningKey::from_bytes(&seed).sign(&message).to_bytes();
        Ok([&ours[..], &signature].concat())
    }
}

fn random_challenge() -> Result<[u8; CHALLENGE_LEN], AuthError> {
    let mut bytes = [0; CHALLENGE_LEN];
    openssl::rand::rand_bytes(&mut bytes).map_err(|error| AuthError::Library(error.to_string()))?;
    Ok(bytes)
}

/// SHA1(password) xor SHA1(scramble, SHA1(SHA1(password))); nothing for no password.
fn native(password: &Secret, scramble: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let hash = sha1(password.bytes());
    let mut mask = Sha1::new();
    mask.update(scramble);
    mask.update(&sha1(&hash));
    xor(&hash, &mask.finish())
}

/// SHA256(password) xor SHA256(SHA256(SHA256(password)), scramble)
fn caching_sha2(password: &Secret, scramble: &[u8]) -> Vec<u8> {
    let hash = sha256(password.bytes());
    let mut mask = Sha256::new();
    mask.update(&sha256(&hash));
    mask.update(scramble);
    xor(&hash, &mask.finish())
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// Ed25519 as usual, except that the password of any length takes the place of the 32-byte seed.
fn ed25519(password: &Secret, challenge: &[u8]) -> [u8; 64] {
    let secret = ExpandedSecretKey::from_bytes(&sha512(password.bytes()));
    let public = VerifyingKey::from(&secret);
    raw_sign::<Sha512>(&secret, challenge, &public).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signature;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn native_password_passes_the_servers_check() {
        let scramble = b"abcdefghijklmnopqrst";
        let answer = native(&secret("natpw"), scramble);
        // The server knows SHA1(SHA1(password)) alone.
        let stored = sha1(&sha1(b"natpw"));
        let mut mask = Sha1::new();
        mask.update(scramble);
        mask.update(&stored);
        assert_eq!(sha1(&xor(&answer, &mask.finish())), stored);
        assert!(native(&secret(""), scramble).is_empty());
    }

    /// What server 10.11.19 stored for `VIA ed25519 USING PASSWORD('edpw')`.
    const ED25519_PUBLIC_KEY: [u8; 32] = [
        0x2c, 0x81, 0x2f, 0x18, 0x31, 0xa3, 0x1d, 0x39, 0x8a, 0xcb, 0x3d, 0xe9, 0x78, 0xb4, 0x63,
        0x3e, 0xa6, 0xa1, 0x39, 0xcb, 0x79, 0x9f, 0xaf, 0xc1, 0x40, 0x23, 0x66, 0xd5, 0xb3, 0xaf,
        0xa2, 0xde,
    ];

    #[test]
    fn ed25519_signature_fits_the_servers_public_key() {
        let challenge = [9; 32];
        let signature = Signature::from_bytes(&ed25519(&secret("edpw"), &challenge));
        let public = ExpandedSecretKey::from_bytes(&sha512(b"edpw"));
        let public = VerifyingKey::from(&public);
        assert!(public.verify_strict(&challenge, &signature).is_ok());
        assert_eq!(public.as_bytes(), &ED25519_PUBLIC_KEY);
    }

    #[test]
    fn parsec_answer_is_challenge_and_signature() {
        let password = secret("pw");
        let dialogue = Dialogue::new("parsec", &[5; 32], &password, false).unwrap();
        assert!(dialogue.first().unwrap().is_empty());
        let answer = dialogue.parsec_with(b"P\x00salt of 18 bytes..", &[6; 32]).unwrap();
        assert_eq!(answer.len(), 96);
        assert_eq!(answer[..32], [6; 32]);
        let bad: [&[u8]; 4] = [b"", b"P", b"Q\x00salt", b"P\x20salt"];
        for bad in bad {
            assert!(dialogue.next(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn short_challenge_and_unknown_plugin_are_errors() {
        let password = secret("pw");
        for name in ["mysql_native_password", "client_ed25519", "caching_sha2_password"] {
            let dialogue = Dialogue::new(name, b"short", &password, true).unwrap();
            assert_eq!(dialogue.first(), Err(AuthError::Challenge(name.into())));
        }
        let error = Dialogue::new("auth_gssapi_client", b"", &password, true).unwrap_err();
        assert_eq!(error, AuthError::UnknownPlugin("auth_gssapi_client".into()));
    }

    #[test]
    fn password_leaves_in_clear_over_private_links_only() {
        let password = secret("pw");
        for name in ["mysql_clear_password", "dialog"] {
            let error = Dialogue::new(name, b"", &password, false).unwrap_err();
            assert_eq!(error, AuthError::ClearPassword(name.into()));
            let dialogue = Dialogue::new(name, b"", &password, true).unwrap();
            assert_eq!(dialogue.first().unwrap(), b"pw\0");
        }
        let dialogue = Dialogue::new("caching_sha2_password", &[0; 20], &password, false).unwrap();
        assert!(dialogue.next(&[4]).is_err());
    }

    #[test]
    fn debug_output_has_no_password() {
        let password = secret("hidden");
        let dialogue = Dialogue::new("dialog", b"", &password, true).unwrap();
        assert!(!format!("{dialogue:?}").contains("hidden"));
    }
}
