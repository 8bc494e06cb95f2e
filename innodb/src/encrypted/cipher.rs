//! Encryption scheme 1 (`CRYPT_SCHEME_1`): a key of 128 bits derived for each tablespace, and AES
//! in either mode. Lengths never change. Aria tables and the redo log use it with other IVs.
//!
//! Source: `encryption_scheme_encrypt` in `encryption.cc`, `my_aes_crypt_nopad` in
//! `my_crypt.cc`; checked on files of 10.11, both modes, all key lengths.

use super::keys::{CipherMode, Key, KeyBytes};
use aes::cipher::{
    Array, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
    StreamCipher, StreamCipherCoreWrapper,
};
use aes::{Aes128, Aes192, Aes256};
use std::fmt;
use zeroize::Zeroize;

/// A key derived from one of the key management. Wiped from memory after use.
pub struct LocalKey {
    cipher: Aes128,
    mode: CipherMode,
}

impl LocalKey {
    /// Derives the key of a tablespace with `seed` in its encryption metadata, or of a log.
    pub fn derive(key: &Key, seed: &[u8; 16], mode: CipherMode) -> Self {
        let mut local = Array::from(*seed);
        match &key.0 {
            KeyBytes::Bits128(key) => Aes128::new((&**key).into()).encrypt_block(&mut local),
            KeyBytes::Bits192(key) => Aes192::new((&**key).into()).encrypt_block(&mut local),
            KeyBytes::Bits256(key) => Aes256::new((&**key).into()).encrypt_block(&mut local),
        }
        let cipher = Aes128::new(&local);
        local.as_mut_slice().zeroize();
        Self { cipher, mode }
    }

    /// Encrypts `data` in place.
    pub fn encrypt(&self, iv: &[u8; 16], data: &mut [u8]) {
        match self.mode {
            CipherMode::Ctr => self.count(iv, data),
            CipherMode::Cbc => {
                let (blocks, rest) = Array::slice_as_chunks_mut(data);
                cbc::Encryptor::inner_iv_init(&self.cipher, iv.into()).encrypt_blocks(blocks);
                self.mask(iv, rest);
            }
        }
    }

    /// Decrypts `data` in place.
    pub fn decrypt(&self, iv: &[u8; 16], data: &mut [u8]) {
        match self.mode {
            CipherMode::Ctr => self.count(iv, data),
            CipherMode::Cbc => {
                let (blocks, rest) = Array::slice_as_chunks_mut(data);
                cbc::Decryptor::inner_iv_init(&self.cipher, iv.into()).decrypt_blocks(blocks);
                self.mask(iv, rest);
            }
        }
    }

    /// Counter mode: the IV is the first counter. Encrypting twice gives the data back.
    fn count(&self, iv: &[u8; 16], data: &mut [u8]) {
        let core =
            ctr::CtrCore::<_, ctr::flavors::Ctr128BE>::inner_iv_init(&self.cipher, iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    /// What follows the last whole block is combined with the encrypted IV, whatever precedes it.
    fn mask(&self, iv: &[u8; 16], rest: &mut [u8]) {
        let mut mask = Array::from(*iv);
        self.cipher.encrypt_block(&mut mask);
        rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("mode", &self.mode).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plain text of the AES examples in NIST SP 800-38A.
    const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";
    /// Initial counter of its examples of counter mode.
    const COUNTER: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
    /// IV of its examples of CBC.
    const IV: &str = "000102030405060708090a0b0c0d0e0f";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    fn array(text: &str) -> [u8; 16] {
        hex(text).try_into().unwrap()
    }

    /// The scheme's key is always one encrypted block: the examples' keys are used as they are.
    fn local(key: &str, mode: CipherMode) -> LocalKey {
        LocalKey { cipher: Aes128::new((&array(key)).into()), mode }
    }

    #[test]
    fn examples_of_the_standard() {
        let key = "2b7e151628aed2a6abf7158809cf4f3c";
        let mut data = hex(PLAIN);
        local(key, CipherMode::Cbc).encrypt(&array(IV), &mut data);
        let cbc = "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2";
        assert_eq!(data, hex(cbc));
        local(key, CipherMode::Cbc).decrypt(&array(IV), &mut data);
        assert_eq!(data, hex(PLAIN));
        local(key, CipherMode::Ctr).encrypt(&array(COUNTER), &mut data);
        let ctr = "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff";
        assert_eq!(data, hex(ctr));
    }

    #[test]
    fn local_keys_of_all_key_lengths() {
        // ECB examples of the standard: what a block becomes is the local key, which then
        // encrypts a block of zeros in the tail of CBC.
        for (key, block) in [
            ("2b7e151628aed2a6abf7158809cf4f3c", "3ad77bb40d7a3660a89ecaf32466ef97"),
            (
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "bd334f1d6e45f25ff712a214571fa5cc",
            ),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f3eed1bdb5d2a03c064b5a7e3db181f8",
            ),
        ] {
            let key = Key::new(&hex(key)).unwrap();
            let derived = LocalKey::derive(&key, &array(&PLAIN[..32]), CipherMode::Cbc);
            let (mut ours, mut expected) = ([0; 15], [0; 15]);
            derived.encrypt(&[0; 16], &mut ours);
            local(block, CipherMode::Cbc).encrypt(&[0; 16], &mut expected);
            assert_eq!(ours, expected);
            assert_ne!(ours, [0; 15]);
        }
    }

    #[test]
    fn counter_carries_into_all_bytes() {
        let key = local("2b7e151628aed2a6abf7158809cf4f3c", CipherMode::Ctr);
        let (mut both, mut second) = ([0; 32], [0; 16]);
        key.encrypt(&[0xff; 16], &mut both);
        key.encrypt(&[0; 16], &mut second);
        assert_eq!(both[16..], second);
    }

    #[test]
    fn keys_are_not_printed() {
        let key = local("2b7e151628aed2a6abf7158809cf4f3c", CipherMode::Ctr);
        assert_eq!(format!("{key:?}"), "LocalKey { mode: Ctr, .. }");
    }

    proptest! {
        #[test]
        fn decrypts_what_it_encrypted(
            data in prop::collection::vec(any::<u8>(), 0..200),
            key in any::<[u8; 32]>(),
            len in prop::sample::select(vec![16_usize, 24, 32]),
            seed in any::<[u8; 16]>(),
            iv in any::<[u8; 16]>(),
            ctr in any::<bool>(),
        ) {
            let mode = if ctr { CipherMode::Ctr } else { CipherMode::Cbc };
            let key = LocalKey::derive(&Key::new(&key[..len]).unwrap(), &seed, mode);
            let mut copy = data.clone();
            key.encrypt(&iv, &mut copy);
            prop_assert!(data.len() < 8 || copy != data);
            key.decrypt(&iv, &mut copy);
            prop_assert_eq!(copy, data);
        }
    }
}
