//! Pages between their form in the file, which may be encrypted and compressed as a whole, and
//! their plain form, to which redo applies.

use super::seal::{is_special, put, seal_with};
use super::{Page, PageError, PageType, SpaceContext, verify};
use crate::checksum;
use crate::compressed::{self, is_compressed};
use crate::encrypted::{self, Direction, KeyError, KeySource, OLDER_KEY_VERSION};
use crate::flags::SpaceFlags;
use crate::lsn::{Lsn, PageId, PageNo};
use crate::space::EncryptionMetadata;

/// Reads and writes pages of one tablespace in whatever form they are stored.
#[derive(Debug, Clone, Copy)]
pub struct PageCodec<'k> {
    context: SpaceContext,
    keys: Option<&'k dyn KeySource>,
    encrypts_by_default: bool,
}

/// Where a decoded page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// The stored page is plain: neither encrypted nor compressed as a whole.
    AsStored,
    /// In the buffer that was given for it.
    InBuffer,
}

impl<'k> PageCodec<'k> {
    /// For the pages of a tablespace; `keys` if there is a key management.
    pub fn new(context: SpaceContext, keys: Option<&'k dyn KeySource>) -> Self {
        Self { context, keys, encrypts_by_default: false }
    }

    /// Encrypts pages also where the table does not say so (`innodb_encrypt_tables`), unless it
    /// says `ENCRYPTED=NO` or has no encryption metadata.
    #[must_use]
    pub fn with_default_encryption(mut self, encrypts: bool) -> Self {
        self.encrypts_by_default = encrypts;
        self
    }

    /// Checks that `bytes` is page `page_no` as the server wrote it last, and brings it to its
    /// plain form: into `out`, as long as `bytes`, if that is another. Decides what
    /// [`verify`](verify::verify()) cannot. Key versions are left out of the plain form.
    ///
    /// # Errors
    ///
    /// [`CodecError::Page`] for a damaged page; on a live server read it again first. The others
    /// are about keys. `out` is undefined then.
    pub fn decode(
        &self,
        bytes: &[u8],
        page_no: u32,
        out: &mut [u8],
    ) -> Result<Decoded, CodecError> {
        let context = &self.context;
        match verify::verify(bytes, page_no, context) {
            Err(error) if !error.is_undecided() => return Err(error.into()),
            _ if context.is_unverified(page_no) => return Ok(Decoded::AsStored),
            _ => {}
        }
        let too_short = |len| PageError::Length { len, expected: bytes.len() };
        let page = Page::new(bytes).ok_or(too_short(bytes.len()))?;
        let is_compressed = is_compressed(&page, context.flags());
        let Some((metadata, version)) = context.encryption_of(&page) else {
            if !is_compressed {
                if context.flags().is_full_crc32() && page.checksum_field() != 0 {
                    // Taken for encrypted until now, and therefore not judged completely.
                    verify::plain(bytes, context)?;
                }
                return Ok(Decoded::AsStored);
            }
            compressed::decompress(&page, context.flags(), out)?;
            verify::plain(out, context)?;
            return Ok(Decoded::InBuffer);
        };
        let keys = self.keys(metadata)?;
        if out.len() != bytes.len() {
            return Err(too_short(out.len()).into());
        }
        let key = encrypted::local_key(keys, metadata, version)?;
        out.copy_from_slice(bytes);
        encrypted::apply(Direction::Decrypt, &key, out, context.flags(), context.space_id())?;
        self.judge_decrypted(out, is_compressed).map_err(|source| CodecError::WrongKey {
            key_id: metadata.key_id,
            version,
            source,
        })?;
        let version_at = if context.flags().is_full_crc32() { 0..4 } else { 26..34 };
        if let Some(field) = out.get_mut(version_at) {
            field.fill(0);
        }
        Ok(Decoded::InBuffer)
    }

    fn judge_decrypted(&self, out: &mut [u8], is_compressed: bool) -> Result<(), PageError> {
        if is_compressed {
            let decrypted = out.to_vec();
            let page = Page::new(&decrypted).ok_or(PageError::CompressedHeader)?;
            compressed::decompress(&page, self.context.flags(), out)?;
        }
        verify::plain(out, &self.context)
    }

    /// Brings `image`, page `page_no` in its plain form, to the form in which it is stored, with
    /// `lsn` and all checksums, by the setting of the context. Returns how many bytes have to be written:
    /// those that follow are zeros and may become a hole.
    ///
    /// Pages are encrypted with the latest version of their key. They are compressed in
    /// `full_crc32` tablespaces alone, with the tablespace's algorithm: older ones do not have
    /// one, and their pages may be stored uncompressed.
    ///
    /// # Errors
    ///
    /// [`CodecError::Page`] if `image` is not one physical page. The others are about keys;
    /// `image` is then sealed, but neither encrypted nor compressed.
    pub fn encode(&self, image: &mut [u8], page_no: u32, lsn: Lsn) -> Result<usize, CodecError> {
        let flags = self.context.flags();
        let id = PageId { space: self.context.space_id(), page_no: PageNo(page_no) };
        seal_with(self.context.algorithm(), image, flags, id, lsn)?;
        if is_special(id) {
            return Ok(image.len());
        }
        let key = match self.encryption_for(image) {
            Some(metadata) => {
                let keys = self.keys(metadata)?;
                let version = keys.latest_version(metadata.key_id)?;
                Some((version, encrypted::local_key(keys, metadata, version)?))
            }
            None => None,
        };
        let may_compress = flags.is_full_crc32() && flags.page_compression().is_some();
        let len = if may_compress { compress(image, flags, lsn) } else { image.len() };
        if let Some((version, key)) = &key {
            let at = if flags.is_full_crc32() { 0 } else { OLDER_KEY_VERSION };
            put(image, at, &version.to_be_bytes());
            encrypted::apply(Direction::Encrypt, key, image, flags, id.space)?;
        } else if !may_compress {
            return Ok(len);
        }
        let (at, checksum) = if flags.is_full_crc32() {
            (len - 4, checksum::full_crc32(image.get(..len - 4).unwrap_or_default()))
        } else if flags.is_row_compressed() {
            (OLDER_KEY_VERSION + 4, checksum::crc32_row_compressed(image))
        } else {
            (OLDER_KEY_VERSION + 4, checksum::crc32(image))
        };
        put(image, at, &checksum.to_be_bytes());
        Ok(len)
    }

    /// Id and version of the key with which the stored page `bytes` is encrypted, if it is.
    pub fn key_of(&self, bytes: &[u8]) -> Option<(u32, u32)> {
        let page = Page::new(bytes).filter(|page| !page.is_zero())?;
        self.context.encryption_of(&page).map(|(metadata, version)| (metadata.key_id, version))
    }

    /// Asks for the key with which [`encode`](Self::encode) encrypts, if it does.
    ///
    /// # Errors
    ///
    /// [`CodecError::NoKeys`], [`CodecError::Key`].
    pub fn check_latest_key(&self) -> Result<(), CodecError> {
        let Some(metadata) = self.encrypts() else { return Ok(()) };
        let keys = self.keys(metadata)?;
        keys.key(metadata.key_id, keys.latest_version(metadata.key_id)?)?;
        Ok(())
    }

    /// The metadata with which pages are encrypted, if they are.
    fn encrypts(&self) -> Option<&EncryptionMetadata> {
        let metadata = self.context.encryption().filter(|metadata| metadata.scheme != 0)?;
        let flags = self.context.flags();
        let encrypts = match metadata.encryption {
            0 => {
                // The server asks less of these.
                let older_compressed = !flags.is_full_crc32() && flags.page_compression().is_some();
                self.encrypts_by_default || older_compressed
            }
            2 => false,
            _ => true,
        };
        encrypts.then_some(metadata)
    }

    /// The metadata with which the plain page `image` is to be encrypted, if it is.
    fn encryption_for(&self, image: &[u8]) -> Option<&EncryptionMetadata> {
        let metadata = self.encrypts()?;
        let flags = self.context.flags();
        let stays_plain = match Page::new(image)?.page_type() {
            PageType::FSP_HDR | PageType::XDES => true,
            PageType::RTREE => !flags.is_full_crc32(),
            _ => false,
        };
        (!stays_plain).then_some(metadata)
    }

    fn keys(&self, metadata: &EncryptionMetadata) -> Result<&'k dyn KeySource, CodecError> {
        self.keys.ok_or(CodecError::NoKeys { key_id: metadata.key_id })
    }
}

/// Compresses a sealed page where that makes it shorter; its checksum is to be set anew. Returns
/// its length.
fn compress(image: &mut [u8], flags: SpaceFlags, lsn: Lsn) -> usize {
    // As recovery leaves it in the server: there is no checksum yet.
    let [.., a, b, c, d] = lsn.0.to_be_bytes();
    put(image, image.len() - 4, &[a, b, c, d]);
    compressed::compress(image, flags).unwrap_or(image.len())
}

/// A page that cannot be brought from one form to the other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The page is damaged.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The key management does not give the key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no key management.
    #[error("key {key_id} is needed, and no keys are given")]
    NoKeys {
        /// Id of the tablespace's key.
        key_id: u32,
    },
    /// What was decrypted is no page, while the encrypted bytes are as they were written: the key
    /// is another, or used in another mode.
    #[error("key {key_id} in version {version} does not fit the page")]
    WrongKey {
        /// Id of the tablespace's key.
        key_id: u32,
        /// Version of the key, by the page.
        version: u32,
        /// What is wrong with the decrypted page.
        source: PageError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encrypted::CipherMode::{Cbc, Ctr};
    use crate::page::ChecksumAlgorithm;
    use crate::space::SpaceHeader;
    use crate::testdata::{self, Keys};
    use proptest::prelude::*;

    fn codec<'k>(page0: &str, keys: &'k Keys) -> PageCodec<'k> {
        let header = SpaceHeader::parse(&testdata::page(page0)).unwrap();
        let context = SpaceContext::new(&header, ChecksumAlgorithm::StrictCrc32);
        PageCodec::new(context.with_space_id_checked(), Some(keys))
    }

    /// A page, its number, the mode of its server, the CRC-32C of its plain form without the
    /// fields of key versions. Expected values: an independent implementation.
    const PAGES: [(&str, u32, Keys, u32); 24] = [
        ("full_crc32_4k_keys/enc_pc_zlib", 5, Keys(Ctr), 0x6840_3206),
        ("full_crc32_4k_keys/enc_pc_lz4", 5, Keys(Ctr), 0xfabb_9e32),
        ("full_crc32_4k_keys/enc_pc_lzo", 5, Keys(Ctr), 0x1291_d39d),
        ("full_crc32_4k_keys/enc_pc_lzma", 5, Keys(Ctr), 0x92af_767a),
        ("full_crc32_4k_keys/enc_pc_bzip2", 5, Keys(Ctr), 0x75f3_0e5e),
        ("full_crc32_4k_keys/enc_pc_snappy", 5, Keys(Ctr), 0x7442_c25b),
        ("full_crc32_4k_keys/enc_k1", 5, Keys(Ctr), 0x6bdc_6305),
        ("full_crc32_4k_keys/enc_k2", 5, Keys(Ctr), 0xf8a3_485f),
        ("full_crc32_4k_keys/enc_k3", 5, Keys(Ctr), 0x412c_5465),
        ("full_crc32_4k_keys/enc_rtree", 4, Keys(Ctr), 0x82d3_e7c5),
        ("full_crc32_keys/enc_k2", 5, Keys(Cbc), 0xbbfa_8441),
        ("full_crc32_keys/enc_pc_lz4", 5, Keys(Cbc), 0xe621_8e7b),
        ("crc32_4k_keys/enc_pc_zlib", 5, Keys(Ctr), 0x7df9_e9af),
        ("crc32_4k_keys/enc_pc_lz4", 5, Keys(Ctr), 0x079a_6753),
        ("crc32_4k_keys/enc_pc_lzo", 5, Keys(Ctr), 0x4a39_cfd8),
        ("crc32_4k_keys/enc_pc_lzma", 5, Keys(Ctr), 0x8106_52b8),
        ("crc32_4k_keys/enc_pc_bzip2", 5, Keys(Ctr), 0x16f8_128a),
        ("crc32_4k_keys/enc_pc_snappy", 5, Keys(Ctr), 0xbe01_462b),
        ("crc32_4k_keys/enc_k1", 5, Keys(Ctr), 0x691d_925a),
        ("crc32_4k_keys/enc_k3", 5, Keys(Ctr), 0xc085_dae7),
        ("crc32_4k_keys/enc_zip1", 6, Keys(Ctr), 0x4fd8_c2d6),
        ("crc32_keys/enc_k2", 5, Keys(Cbc), 0xe714_3fd0),
        ("crc32_keys/enc_pc_lz4", 5, Keys(Cbc), 0xce06_d338),
        ("crc32_keys/enc_zip2", 6, Keys(Cbc), 0xc6dc_0183),
    ];

    /// Bytes of the page, its codec, and its plain form.
    fn decoded(index: usize) -> (Vec<u8>, PageCodec<'static>, Vec<u8>) {
        let (name, page_no, keys, _) = &PAGES[index];
        let stored = testdata::page(&format!("{name}.{page_no}"));
        let codec = codec(&format!("{name}.0"), keys);
        let mut plain = vec![0xee; stored.len()];
        let decoded = codec.decode(&stored, *page_no, &mut plain);
        assert_eq!(decoded.unwrap(), Decoded::InBuffer, "{name}");
        (stored, codec, plain)
    }

    #[test]
    fn encrypted_pages_become_plain() {
        for (index, (name, _, _, expected)) in PAGES.into_iter().enumerate() {
            assert_eq!(crc32c::crc32c(&decoded(index).2), expected, "{name}");
        }
    }

    /// Where encryption begins once more, page 0 says until the end that no page is encrypted.
    #[test]
    fn pages_are_encrypted_before_page_0_says_so() {
        for (index, (name, page_no, ..)) in PAGES.into_iter().enumerate() {
            let (stored, mut codec, plain) = decoded(index);
            let metadata = codec.context.encryption().copied().unwrap();
            let unused = EncryptionMetadata { scheme: 0, ..metadata };
            codec.context = codec.context.with_encryption(Some(unused));
            let mut out = vec![0xee; stored.len()];
            let decoded = codec.decode(&stored, page_no, &mut out);
            assert_eq!(decoded.unwrap(), Decoded::InBuffer, "{name}");
            assert!(out == plain, "{name}");
            // They are written as page 0 says.
            assert!(codec.encrypts().is_none(), "{name}");
        }
    }

    #[test]
    fn pages_are_encrypted_as_the_server_does() {
        for (index, (name, page_no, ..)) in PAGES.into_iter().enumerate() {
            let (stored, codec, plain) = decoded(index);
            let lsn = Page::new(&stored).unwrap().lsn();
            let mut image = plain.clone();
            let len = codec.encode(&mut image, page_no, lsn).unwrap();
            if !name.contains("pc") {
                assert_eq!(len, image.len(), "{name}");
                assert!(image == stored, "{name}");
                continue;
            }
            // Compressors differ, and recovery has the LSN where the server has nothing.
            let mut again = vec![0; image.len()];
            assert_eq!(codec.decode(&image, page_no, &mut again).unwrap(), Decoded::InBuffer);
            let end = again.len() - if name.starts_with("full") { 4 } else { 0 };
            assert!(again[..end] == plain[..end], "{name}");
            assert_eq!(image[..24] == stored[..24], name.starts_with("full"), "{name}");
            assert_eq!(len < 2 * image.len() / 5, name.starts_with("full"), "{name}");
            assert!(image[len..].iter().all(|&byte| byte == 0), "{name}");
            assert!(verify::verify(&image, page_no, &codec.context).is_ok(), "{name}");
        }
    }

    #[test]
    fn pages_that_are_plain_already() {
        for (page0, page_no) in [
            ("full_crc32_4k_keys/enc_k1.0", 0),
            ("crc32_4k_keys/enc_k1.0", 0),
            ("crc32_keys/enc_zip2.0", 0),
        ] {
            let stored = testdata::page(page0);
            let codec = codec(page0, &Keys(Ctr));
            let mut out = [];
            assert_eq!(codec.decode(&stored, page_no, &mut out).unwrap(), Decoded::AsStored);
            let zero = vec![0; stored.len()];
            assert_eq!(codec.decode(&zero, 9, &mut out).unwrap(), Decoded::AsStored);
            let mut image = stored.clone();
            let len = codec.encode(&mut image, 0, Page::new(&stored).unwrap().lsn());
            assert_eq!(len.unwrap(), stored.len());
            assert!(image == stored, "{page0}");
        }
    }

    #[test]
    fn doublewrite_area_may_hold_anything() {
        let header = SpaceHeader::parse(&testdata::page("full_crc32/ibdata1.0")).unwrap();
        let codec = PageCodec::new(SpaceContext::new(&header, ChecksumAlgorithm::Crc32), None);
        let encrypted = testdata::page("full_crc32/encrypted.4");
        assert_eq!(codec.decode(&encrypted, 64, &mut []).unwrap(), Decoded::AsStored);
    }

    #[test]
    fn damage_is_no_matter_of_keys() {
        for (index, (name, page_no, ..)) in PAGES.into_iter().enumerate() {
            let (mut stored, codec, _) = decoded(index);
            let mut out = vec![0; stored.len()];
            if name.contains("pc") && name.starts_with("crc32") {
                // No checksum of what is encrypted: this may as well be the wrong key.
                stored[60] ^= 1;
                let error = codec.decode(&stored, page_no, &mut out).unwrap_err();
                assert!(matches!(error, CodecError::WrongKey { version: 1, .. }), "{name}");
                stored[38] = 0xff;
                let error = codec.decode(&stored, page_no, &mut out).unwrap_err();
                assert!(matches!(error, CodecError::Page(PageError::CompressedHeader)), "{name}");
            } else {
                stored[60] ^= 1;
                let error = codec.decode(&stored, page_no, &mut out).unwrap_err();
                assert!(matches!(error, CodecError::Page(PageError::Checksum { .. })), "{name}");
            }
        }
    }

    #[test]
    fn wrong_keys() {
        for (index, (name, page_no, keys, _)) in PAGES.into_iter().enumerate() {
            let (stored, codec, plain) = decoded(index);
            let mut out = vec![0; stored.len()];
            let other_mode = Keys(if keys.0 == Cbc { Ctr } else { Cbc });
            let codec = PageCodec { keys: Some(&other_mode), ..codec };
            let error = codec.decode(&stored, page_no, &mut out).unwrap_err();
            let CodecError::WrongKey { key_id, version: 1, .. } = error else {
                panic!("{name}: {error}");
            };
            assert_eq!(Some(key_id), codec.context.encryption().map(|metadata| metadata.key_id));

            let codec = PageCodec { keys: None, ..codec };
            let error = codec.decode(&stored, page_no, &mut out).unwrap_err();
            assert!(matches!(error, CodecError::NoKeys { key_id: id } if id == key_id), "{name}");
            let mut image = plain.clone();
            let error = codec.encode(&mut image, page_no, Lsn(1)).unwrap_err();
            assert!(matches!(error, CodecError::NoKeys { .. }), "{name}");
        }
    }

    #[test]
    fn missing_versions() {
        let (mut stored, codec, _) = decoded(6);
        stored[3] = 2;
        let end = stored.len() - 4;
        let checksum = checksum::full_crc32(&stored[..end]).to_be_bytes();
        stored[end..].copy_from_slice(&checksum);
        let error = codec.decode(&stored, 5, &mut vec![0; 4096]).unwrap_err();
        assert_eq!(error.to_string(), "there is no version 2 of key 1");
    }

    #[test]
    fn short_buffer() {
        let (stored, codec, _) = decoded(6);
        let error = codec.decode(&stored, 5, &mut [0; 4095]).unwrap_err();
        let expected = PageError::Length { len: 4095, expected: 4096 };
        assert!(matches!(error, CodecError::Page(error) if error == expected));
    }

    /// Key version in the field of `flags` after `page` was encoded.
    fn encoded_version(codec: &PageCodec<'_>, page_type: PageType) -> u32 {
        let mut page = vec![7; codec.context.flags().page_size().physical()];
        page[24..26].copy_from_slice(&page_type.0.to_be_bytes());
        page[..4].fill(0);
        page[4..8].copy_from_slice(&9_u32.to_be_bytes());
        page[26..34].fill(0);
        codec.encode(&mut page, 9, Lsn(77)).unwrap();
        assert_eq!(verify::verify(&page, 9, &codec.context), Ok(()));
        Page::new(&page).unwrap().key_version(codec.context.flags())
    }

    #[test]
    fn which_pages_are_encrypted() {
        const FULL: &str = "full_crc32_4k_keys/enc_k1.0";
        const OLDER: &str = "crc32_4k_keys/enc_k1.0";
        const OLDER_COMPRESSED: &str = "crc32_4k_keys/enc_pc_lz4.0";
        for (page0, encryption, by_default, page_type, expected) in [
            (FULL, 1, false, PageType::INDEX, 1),
            (FULL, 1, false, PageType::RTREE, 1),
            (FULL, 1, true, PageType::XDES, 0),
            (FULL, 1, true, PageType::FSP_HDR, 0),
            (FULL, 0, false, PageType::INDEX, 0),
            (FULL, 0, true, PageType::INDEX, 1),
            (FULL, 2, true, PageType::INDEX, 0),
            (OLDER, 1, false, PageType::INDEX, 1),
            (OLDER, 1, true, PageType::RTREE, 0),
            (OLDER, 0, false, PageType::INDEX, 0),
            (OLDER, 0, true, PageType::INDEX, 1),
            (OLDER_COMPRESSED, 0, false, PageType::INDEX, 1),
            (OLDER_COMPRESSED, 2, true, PageType::INDEX, 0),
        ] {
            let mut bytes = testdata::page(page0);
            let offset = bytes.windows(6).position(|window| window == b"s\x0e\x0cREt").unwrap();
            bytes[offset + 32] = encryption;
            let header = SpaceHeader::parse(&bytes).unwrap();
            let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
            let codec = PageCodec::new(context, Some(&Keys(Ctr)));
            let codec = codec.with_default_encryption(by_default);
            let version = encoded_version(&codec, page_type);
            assert_eq!(version, expected, "{page0} {encryption} {by_default} {page_type:?}");
        }
    }

    #[test]
    fn checksums_are_those_of_the_setting() {
        let header = SpaceHeader::parse(&testdata::page("crc32_4k/dynamic.0")).unwrap();
        for (name, algorithm) in [
            ("innodb_4k/t_DYNAMIC.5", ChecksumAlgorithm::StrictInnodb),
            ("none_4k/t_DYNAMIC.5", ChecksumAlgorithm::StrictNone),
        ] {
            let stored = testdata::page_of("10.5", name);
            let codec = PageCodec::new(SpaceContext::new(&header, algorithm), None);
            assert_eq!(codec.decode(&stored, 5, &mut []).unwrap(), Decoded::AsStored, "{name}");
            let mut image = stored.clone();
            codec.encode(&mut image, 5, Page::new(&stored).unwrap().lsn()).unwrap();
            assert!(image == stored, "{name}");
        }
    }

    #[test]
    fn transaction_system_header_is_never_encrypted() {
        for page0 in ["full_crc32_4k_keys/enc_k1.0", "crc32_4k_keys/enc_k1.0"] {
            let mut bytes = testdata::page(page0);
            bytes[34..42].fill(0);
            let header = SpaceHeader::parse(&bytes).unwrap();
            let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
            let codec = PageCodec::new(context, Some(&Keys(Ctr)));
            let mut page = vec![3; 4096];
            page[4..8].copy_from_slice(&5_u32.to_be_bytes());
            codec.encode(&mut page, 5, Lsn(77)).unwrap();
            assert_eq!(page[40], 3);
            assert_eq!(codec.decode(&page, 5, &mut []).unwrap(), Decoded::AsStored);
        }
    }

    #[test]
    fn key_version_without_metadata() {
        // A plain page with garbage in the field passes, an encrypted one does not.
        let mut plain = decoded(6).2;
        let header = {
            let mut page0 = testdata::page("full_crc32_4k_keys/enc_k1.0");
            let offset = page0.windows(6).position(|window| window == b"s\x0e\x0cREt").unwrap();
            page0[offset] = 0;
            SpaceHeader::parse(&page0).unwrap()
        };
        let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
        let codec = PageCodec::new(context, None);
        plain[3] = 1;
        let end = plain.len() - 4;
        let checksum = checksum::full_crc32(&plain[..end]).to_be_bytes();
        plain[end..].copy_from_slice(&checksum);
        assert_eq!(codec.decode(&plain, 5, &mut []).unwrap(), Decoded::AsStored);
        let encrypted = testdata::page("full_crc32_4k_keys/enc_k1.5");
        let error = codec.decode(&encrypted, 5, &mut []).unwrap_err();
        assert!(matches!(error, CodecError::Page(PageError::Lsn { .. })));
    }

    fn page0s() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "full_crc32_4k_keys/enc_k1.0",
            "full_crc32_4k_keys/enc_pc_zlib.0",
            "full_crc32_4k_keys/enc_pc_snappy.0",
            "full_crc32_keys/enc_pc_lz4.0",
            "crc32_4k_keys/enc_k3.0",
            "crc32_4k_keys/enc_pc_lzo.0",
            "crc32_4k_keys/enc_zip1.0",
            "crc32_keys/enc_zip2.0",
            "crc32_keys/enc_k2.0",
        ])
    }

    proptest! {
        #[test]
        fn encoded_pages_come_back(
            page0 in page0s(),
            words in prop::collection::vec(any::<u32>(), 1..200),
            page_no in 1_u32..100_000,
            lsn in 1_u64..,
            page_type in prop::sample::select(vec![17855_u16, 17854, 6, 2, 0, 9, 10]),
            ctr in any::<bool>(),
        ) {
            let keys = Keys(if ctr { Ctr } else { Cbc });
            let codec = codec(page0, &keys);
            let len = codec.context.flags().page_size().physical();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut plain: Vec<u8> = bytes.iter().copied().cycle().take(len).collect();
            plain[..4].fill(0);
            plain[4..8].copy_from_slice(&page_no.to_be_bytes());
            plain[24..26].copy_from_slice(&page_type.to_be_bytes());
            plain[26..34].fill(0);
            plain[34..38].copy_from_slice(&codec.context.space_id().0.to_be_bytes());
            let mut stored = plain.clone();
            codec.encode(&mut stored, page_no, Lsn(lsn)).unwrap();
            let mut out = vec![0; len];
            let decoded = codec.decode(&stored, page_no, &mut out).unwrap();
            let result = if decoded == Decoded::AsStored { &stored } else { &out };
            // Types may be repaired in old files.
            prop_assert!(result[26..len - 8] == plain[26..len - 8]);
            prop_assert_eq!(&result[16..24], &lsn.to_be_bytes()[..]);
        }

        #[test]
        fn never_panics(
            page0 in page0s(),
            bytes in prop::collection::vec(any::<u8>(), 42..1000),
            page_type in prop::sample::select(vec![17855_u16, 34354, 37401, 0x8001, 0x8004]),
            len in 0_u16..300,
            valid in any::<bool>(),
        ) {
            let keys = Keys(Ctr);
            let codec = codec(page0, &keys);
            let mut page = bytes;
            page.resize(codec.context.flags().page_size().physical(), 0);
            page[..4].copy_from_slice(&if valid { checksum::NO_CHECKSUM } else { 1 }.to_be_bytes());
            page[4..8].copy_from_slice(&5_u32.to_be_bytes());
            page[24..26].copy_from_slice(&page_type.to_be_bytes());
            page[26..30].copy_from_slice(&1_u32.to_be_bytes());
            page[38..40].copy_from_slice(&len.to_be_bytes());
            page[40..42].copy_from_slice(&(len % 8).to_be_bytes());
            let n = usize::from(page_type & 0x7fff) << 8;
            if codec.context.flags().is_full_crc32() && n < page.len() {
                let n = n.max(256);
                let checksum = checksum::full_crc32(&page[..n - 4]).to_be_bytes();
                page[n - 4..n].copy_from_slice(&checksum);
            }
            let mut out = vec![0; page.len()];
            let _ = codec.decode(&page, 5, &mut out);
            let _ = codec.encode(&mut page, 5, Lsn(1));
        }
    }
}
