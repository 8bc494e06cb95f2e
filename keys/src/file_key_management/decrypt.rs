//! Encrypted key files, as `openssl enc -aes-256-cbc` writes them.
//!
//! ```text
//! 0          8      16
//! | Salted__ | salt | AES-256-CBC, padded to blocks of 16 bytes
//! ```
//!
//! Key (32 bytes) and IV (16) come from the secret and the salt: in older servers, and if no
//! number of iterations is set, as a chain of digests, each of the one before, the secret and the
//! salt; else by PBKDF2.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use hmac::EagerHash;
use std::num::NonZeroU32;
use std::str::FromStr;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"Salted__";
const KEY_LEN: usize = 32;

/// Key and IV.
type KeyAndIv = Zeroizing<[u8; KEY_LEN + 16]>;

/// `file_key_management_digest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Digest {
    /// `sha1`, the default, and the only one before 12.0.1.
    #[default]
    Sha1,
    /// `sha224`.
    Sha224,
    /// `sha256`.
    Sha256,
    /// `sha384`.
    Sha384,
    /// `sha512`.
    Sha512,
}

impl Digest {
    const NAMES: [(&str, Self); 5] = [
        ("sha1", Self::Sha1),
        ("sha224", Self::Sha224),
        ("sha256", Self::Sha256),
        ("sha384", Self::Sha384),
        ("sha512", Self::Sha512),
    ];
}

impl FromStr for Digest {
    type Err = UnknownDigest;

    /// Takes the value of the server variable, in any case.
    fn from_str(name: &str) -> Result<Self, UnknownDigest> {
        let known = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|&(_, digest)| digest).ok_or_else(|| UnknownDigest(name.to_owned()))
    }
}

/// No server has a digest of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown digest `{0}`")]
pub struct UnknownDigest(String);

/// An encrypted key file.
pub(super) struct Encrypted<'a> {
    salt: [u8; 8],
    /// Decrypted in place.
    data: &'a mut [u8],
}

impl<'a> Encrypted<'a> {
    /// `None` if the file is not encrypted. One that is cut within its salt cannot be decrypted.
    pub(super) fn find(file: &'a mut [u8]) -> Option<Self> {
        if file.len() == MAGIC.len() || !file.starts_with(MAGIC) {
            return None;
        }
        let rest = file.get_mut(MAGIC.len()..)?;
        let cut = rest.len() < 8;
        let (salt, data) = rest.split_at_mut(rest.len().min(8));
        let salt = salt.try_into().unwrap_or_default();
        Some(Self { salt, data: if cut { &mut [] } else { data } })
    }

    /// The text, or `None` if it cannot be decrypted so.
    pub(super) fn decrypt(
        self,
        secret: &[u8],
        digest: Digest,
        iterations: Option<NonZeroU32>,
    ) -> Option<&'a [u8]> {
        let derive = match digest {
            Digest::Sha1 => derive::<sha1::Sha1>,
            Digest::Sha224 => derive::<sha2::Sha224>,
            Digest::Sha256 => derive::<sha2::Sha256>,
            Digest::Sha384 => derive::<sha2::Sha384>,
            Digest::Sha512 => derive::<sha2::Sha512>,
        };
        let key_and_iv = derive(secret, self.salt, iterations);
        let (key, iv) = key_and_iv.split_at(KEY_LEN);
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).ok()?;
        cipher.decrypt_padded::<Pkcs7>(self.data).ok()
    }
}

fn derive<D: sha2::Digest + EagerHash>(
    secret: &[u8],
    salt: [u8; 8],
    iterations: Option<NonZeroU32>,
) -> KeyAndIv {
    let mut derived = KeyAndIv::new([0; KEY_LEN + 16]);
    if let Some(iterations) = iterations {
        pbkdf2::pbkdf2_hmac::<D>(secret, &salt, iterations.get(), derived.as_mut_slice());
        return derived;
    }
    let mut last = Zeroizing::new(Vec::new());
    for part in derived.chunks_mut(<D as sha2::Digest>::output_size()) {
        let digest = D::new().chain_update(&*last).chain_update(secret).chain_update(salt);
        last = Zeroizing::new(digest.finalize().to_vec());
        let (start, _) = last.split_at(part.len());
        part.copy_from_slice(start);
    }
    derived
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &[u8] = include_bytes!("../../testdata/plain");

    fn file(name: &str) -> Vec<u8> {
        let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn decrypted(
        mut file: Vec<u8>,
        secret: &str,
        digest: Digest,
        iterations: u32,
    ) -> Option<Vec<u8>> {
        let encrypted = Encrypted::find(&mut file).unwrap();
        let text = encrypted.decrypt(secret.as_bytes(), digest, NonZeroU32::new(iterations));
        text.map(<[u8]>::to_vec)
    }

    #[test]
    fn files_of_openssl() {
        for (name, digest) in Digest::NAMES {
            assert_eq!(decrypted(file(name), "secret", digest, 0).as_deref(), Some(PLAIN));
            let name = format!("pbkdf2.{name}");
            assert_eq!(decrypted(file(&name), "secret", digest, 1000).as_deref(), Some(PLAIN));
            assert_ne!(decrypted(file(&name), "secret", digest, 1001).as_deref(), Some(PLAIN));
            assert_ne!(decrypted(file(&name), "secret", digest, 0).as_deref(), Some(PLAIN));
        }
    }

    #[test]
    fn wrong_secrets_and_digests() {
        assert_eq!(decrypted(file("sha1"), "Secret", Digest::Sha1, 0), None);
        assert_eq!(decrypted(file("sha1"), "", Digest::Sha1, 0), None);
        assert_eq!(decrypted(file("sha1"), "secret", Digest::Sha256, 0), None);
    }

    #[test]
    fn damaged_files() {
        let whole = file("sha1");
        for len in 9..whole.len() {
            assert_eq!(decrypted(whole[..len].to_vec(), "secret", Digest::Sha1, 0), None, "{len}");
        }
    }

    #[test]
    fn plain_files_are_not_encrypted() {
        for mut plain in [b"".to_vec(), b"Salted__".to_vec(), b"Salted_!12345678".to_vec()] {
            assert!(Encrypted::find(&mut plain).is_none());
        }
        assert!(Encrypted::find(&mut PLAIN.to_vec()).is_none());
    }

    #[test]
    fn digest_names() {
        assert_eq!("SHA384".parse(), Ok(Digest::Sha384));
        assert_eq!("md5".parse::<Digest>(), Err(UnknownDigest("md5".to_owned())));
    }

    proptest! {
        #[test]
        fn never_panics(mut rest in prop::collection::vec(any::<u8>(), 1..100)) {
            rest.splice(0..0, *MAGIC);
            let _ = decrypted(rest, "secret", Digest::Sha512, 0);
        }
    }
}
