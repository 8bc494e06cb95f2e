//! Whether a page is what the server wrote last.
//!
//! At least as strict as the server and mariadb-backup (`buf_page_is_corrupted` in `buf0buf.cc`,
//! `page_is_corrupted` in `fil_cur.cc`, 10.5 and 10.11). Stricter in four points, none of which a
//! sound file can fail:
//!
//! - page numbers are compared in the system tablespace too;
//! - only the doublewrite area itself goes unverified, not the same range of every system file;
//! - checksum fields as left by versions before 4.1.1 pass in the system tablespace alone, since
//!   no other tablespace is as old; "none" must stand in both fields or in neither;
//! - the trailer of an encrypted page of the older format must repeat the LSN.

use super::seal::is_special;
use super::{ChecksumAlgorithm, FilHeader, Page, PageError, PageType};
use crate::bytes::{be32, is_zero};
use crate::checksum::{self, NO_CHECKSUM};
use crate::compressed;
use crate::doublewrite::Doublewrite;
use crate::flags::SpaceFlags;
use crate::lsn::{PageId, SpaceId};
use crate::space::{EncryptionMetadata, SpaceHeader};

/// What has to be known of a tablespace to judge its pages.
#[derive(Debug, Clone, Copy)]
pub struct SpaceContext {
    space: SpaceId,
    flags: SpaceFlags,
    /// From page 0, if it lets pages be encrypted.
    encryption: Option<EncryptionMetadata>,
    algorithm: ChecksumAlgorithm,
    doublewrite: Doublewrite,
    check_space_id: bool,
}

impl SpaceContext {
    /// The context of the tablespace with page 0 as in `header`.
    ///
    /// In the system tablespace, the doublewrite area is taken to be where the server creates it.
    pub fn new(header: &SpaceHeader, algorithm: ChecksumAlgorithm) -> Self {
        Self {
            space: header.space_id(),
            flags: header.flags(),
            encryption: header.encryption().copied(),
            algorithm,
            doublewrite: Doublewrite::usual(header.flags().page_size()),
            check_space_id: false,
        }
    }

    /// Sets the doublewrite area to what the `TRX_SYS` page says.
    #[must_use]
    pub fn with_doublewrite(mut self, area: Doublewrite) -> Self {
        self.doublewrite = area;
        self
    }

    /// Replaces what page 0 says about encryption.
    #[must_use]
    pub fn with_encryption(mut self, encryption: Option<EncryptionMetadata>) -> Self {
        self.encryption = encryption;
        self
    }

    /// Compares space ids too, where they can be read. Not for a file that the server may be
    /// importing: it gets its new id page by page.
    #[must_use]
    pub fn with_space_id_checked(mut self) -> Self {
        self.check_space_id = true;
        self
    }

    /// The flags of the tablespace.
    pub fn flags(&self) -> SpaceFlags {
        self.flags
    }

    /// The tablespace.
    pub fn space_id(&self) -> SpaceId {
        self.space
    }

    /// Whether pages of the tablespace may be encrypted. Some can be while page 0 still says that
    /// none is: where encryption begins once more, the server writes page 0 last.
    pub fn may_be_encrypted(&self) -> bool {
        self.encryption.is_some()
    }

    /// Whether pages are encrypted as in the context `other`, if at all.
    pub fn is_encrypted_as(&self, other: &Self) -> bool {
        let seed =
            |context: &Self| context.encryption.map(|metadata| (metadata.key_id, metadata.iv));
        seed(self) == seed(other)
    }

    /// The setting by which checksums are judged.
    pub(super) fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// How pages are encrypted, if they may be.
    pub(super) fn encryption(&self) -> Option<&EncryptionMetadata> {
        self.encryption.as_ref()
    }

    /// How the stored page is encrypted, if it is, and the version of the key.
    pub(super) fn encryption_of(&self, page: &Page<'_>) -> Option<(&EncryptionMetadata, u32)> {
        let version = page.key_version(self.flags);
        let id = PageId { space: self.space, page_no: page.page_no() };
        let metadata = self.encryption.as_ref().filter(|_| version != 0 && !is_special(id))?;
        Some((metadata, version))
    }

    /// Whether page `page_no` may hold anything: it belongs to the doublewrite area.
    pub fn is_unverified(&self, page_no: u32) -> bool {
        self.space == SpaceId::SYSTEM && self.doublewrite.contains(page_no)
    }
}

/// Checks that `bytes` is page `page_no` as the server wrote it last. `page_no` counts from the
/// start of the tablespace, across all files of the system tablespace.
///
/// Zeros pass: an allocated page that was never written, or wiped. Pages of the doublewrite area
/// pass unseen. No key is needed; where a page of the older formats hides its checksum, the result
/// is [`PageError::NeedsDecompression`] or [`PageError::NeedsDecryption`].
///
/// # Errors
///
/// A [`PageError`]. On a live server read the page again first: it may just be being written.
pub fn verify(bytes: &[u8], page_no: u32, context: &SpaceContext) -> Result<(), PageError> {
    let expected = context.flags.page_size().physical();
    let page = Page::new(bytes).filter(|_| bytes.len() == expected);
    let page = page.ok_or(PageError::Length { len: bytes.len(), expected })?;
    if context.is_unverified(page_no) {
        return Ok(());
    }
    let stored = page.header.page_no.get();
    if stored != page_no {
        // In old system files, zero pages may have a flush LSN.
        let is_system = context.space == SpaceId::SYSTEM;
        let zero =
            if is_system && has_trailer(context.flags) { is_blank(bytes) } else { page.is_zero() };
        let result = Err(PageError::PageNo { stored, expected: page_no });
        return if zero { Ok(()) } else { result };
    }
    if context.flags.is_full_crc32() { full_crc32(&page, context) } else { older(&page, context) }
}

/// Pages of `full_crc32` files: one checksum of the bytes as they are on disk.
#[inline]
fn full_crc32(page: &Page<'_>, context: &SpaceContext) -> Result<(), PageError> {
    let compressed = page.page_type().is_compressed_length();
    let checked = page.checksummed()?;
    let (covered, stored) = checked.split_last_chunk().unwrap_or((checked, &[0; 4]));
    let stored = u32::from_be_bytes(*stored);
    if stored == 0 && !compressed && page.is_zero() {
        return Ok(());
    }
    let computed = checksum::full_crc32(covered);
    if stored != computed {
        return Err(PageError::Checksum { stored, computed });
    }
    if compressed || page.header.key_version_or_checksum.get() != 0 {
        return Ok(());
    }
    let trailer = covered.last_chunk().map_or(0, |low| u32::from_be_bytes(*low));
    check_lsn(page.header, trailer)?;
    check_space_id(page.header, context)
}

/// Pages of older files.
fn older(page: &Page<'_>, context: &SpaceContext) -> Result<(), PageError> {
    let page_type = page.page_type();
    if context.encryption_of(page).is_some() {
        if page_type == PageType::PAGE_COMPRESSED_ENCRYPTED {
            return Err(PageError::NeedsDecryption);
        }
        return encrypted(page, context);
    }
    if page_type.is_compressed() {
        // The header is all that can be checked without decompressing.
        compressed::Stream::find(page, context.flags)?;
        return Err(PageError::NeedsDecompression);
    }
    older_plain(page, context)
}

/// Judges what was decrypted or decompressed, and of which the checksum of `full_crc32` tells
/// nothing.
pub(super) fn plain(bytes: &[u8], context: &SpaceContext) -> Result<(), PageError> {
    let expected = context.flags.page_size().physical();
    let page = Page::new(bytes).filter(|_| bytes.len() == expected);
    let page = page.ok_or(PageError::Length { len: bytes.len(), expected })?;
    if !context.flags.is_full_crc32() {
        return older_plain(&page, context);
    }
    let lsn = be32(bytes, expected - 8).unwrap_or_default();
    check_lsn(page.header, lsn)?;
    check_space_id(page.header, context)
}

fn older_plain(page: &Page<'_>, context: &SpaceContext) -> Result<(), PageError> {
    if context.flags.is_row_compressed() {
        row_compressed(page, context.algorithm)?;
    } else {
        with_trailer(page, context)?;
    }
    if page.is_zero() { Ok(()) } else { check_space_id(page.header, context) }
}

/// A page with two checksums, the LSN repeated after the second.
fn with_trailer(page: &Page<'_>, context: &SpaceContext) -> Result<(), PageError> {
    let Page { header, bytes } = *page;
    let Some((field2, lsn)) = trailer(bytes) else { return Ok(()) };
    let field1 = header.key_version_or_checksum.get();
    check_lsn(header, lsn)?;
    let algorithm = context.algorithm;
    if algorithm == ChecksumAlgorithm::None {
        return Ok(());
    }
    if field1 == 0 && field2 == 0 && is_blank(bytes) {
        return Ok(());
    }
    let computed = checksum::crc32(bytes);
    if algorithm.accepts_crc32() && field1 == computed && field2 == computed {
        return Ok(());
    }
    if algorithm.accepts_none() && field1 == NO_CHECKSUM && field2 == NO_CHECKSUM {
        return Ok(());
    }
    // The system tablespace may have pages of versions that kept the high half of the LSN in the
    // second field (before 4.0), the space id, always 0, in the first (before 4.1.1).
    let may_be_ancient = context.space == SpaceId::SYSTEM;
    let ancient2 = may_be_ancient && be32(bytes, 16) == Some(field2);
    let ancient1 = may_be_ancient && field1 == 0;
    if algorithm.accepts_innodb()
        && (ancient2 || field2 == checksum::innodb_old(bytes))
        && (ancient1 || field1 == checksum::innodb_new(bytes))
    {
        return Ok(());
    }
    Err(PageError::Checksum { stored: field1, computed })
}

/// A `ROW_FORMAT=COMPRESSED` page: one checksum, in front.
fn row_compressed(page: &Page<'_>, algorithm: ChecksumAlgorithm) -> Result<(), PageError> {
    let stored = page.header.key_version_or_checksum.get();
    if algorithm == ChecksumAlgorithm::None || stored == 0 && page.is_zero() {
        return Ok(());
    }
    let computed = checksum::crc32_row_compressed(page.bytes);
    let valid = algorithm.accepts_crc32() && stored == computed
        || algorithm.accepts_none() && stored == NO_CHECKSUM
        || algorithm.accepts_innodb() && stored == checksum::innodb_row_compressed(page.bytes);
    if valid { Ok(()) } else { Err(PageError::Checksum { stored, computed }) }
}

/// An encrypted page of the older formats: one more checksum, of the encrypted bytes. Servers
/// compute it by CRC-32C whatever the setting, so that strict settings of other formulas are no
/// stricter than the others here.
fn encrypted(page: &Page<'_>, context: &SpaceContext) -> Result<(), PageError> {
    let Page { header, bytes } = *page;
    let algorithm = context.algorithm;
    let stored = header.encrypted_checksum.get();
    let zip = context.flags.is_row_compressed();
    let computed = if zip { checksum::crc32_row_compressed(bytes) } else { checksum::crc32(bytes) };
    let innodb = || {
        if zip { checksum::innodb_row_compressed(bytes) } else { checksum::innodb_new(bytes) }
    };
    let accepts_others = algorithm.accepts_innodb() || algorithm.accepts_none();
    let valid = algorithm == ChecksumAlgorithm::None
        || stored == computed
        || accepts_others && (stored == NO_CHECKSUM || stored == innodb());
    if !valid {
        return Err(PageError::Checksum { stored, computed });
    }
    if !zip && let Some((_, lsn)) = trailer(bytes) {
        check_lsn(header, lsn)?;
    }
    check_space_id(header, context)
}

fn check_lsn(header: &FilHeader, trailer: u32) -> Result<(), PageError> {
    let [.., a, b, c, d] = header.lsn.to_bytes();
    let header = u32::from_be_bytes([a, b, c, d]);
    if header == trailer { Ok(()) } else { Err(PageError::Lsn { header, trailer }) }
}

fn check_space_id(header: &FilHeader, context: &SpaceContext) -> Result<(), PageError> {
    let (stored, expected) = (header.space_id.get(), context.space.0);
    if !context.check_space_id || stored == expected {
        return Ok(());
    }
    Err(PageError::SpaceId { stored, expected })
}

/// Second checksum and low half of the LSN: the last 8 bytes.
fn trailer(bytes: &[u8]) -> Option<(u32, u32)> {
    let start = bytes.len().checked_sub(8)?;
    Some((be32(bytes, start)?, be32(bytes, start + 4)?))
}

fn has_trailer(flags: SpaceFlags) -> bool {
    !flags.is_full_crc32() && !flags.is_row_compressed()
}

/// Whether a page of the older format is zero apart from bytes 26 to 33: old versions stored an
/// LSN there, in the first page of every system file.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.split_at_checked(26).is_some_and(|(head, tail)| {
        is_zero(head) && tail.split_at_checked(8).is_some_and(|(_, rest)| is_zero(rest))
    })
}

#[cfg(test)]
mod tests {
    use super::ChecksumAlgorithm as Algorithm;
    use super::*;
    use crate::page::seal;
    use crate::testdata;
    use crate::{Lsn, PageSize};
    use proptest::prelude::*;

    /// A tablespace `space` with `flags`, without encryption metadata.
    fn context(space: u32, flags: u32, algorithm: Algorithm) -> SpaceContext {
        SpaceContext {
            space: SpaceId(space),
            flags: SpaceFlags::parse(flags).unwrap(),
            encryption: None,
            algorithm,
            doublewrite: Doublewrite::usual(SpaceFlags::parse(flags).unwrap().page_size()),
            check_space_id: false,
        }
    }

    const ENCRYPTION: Option<EncryptionMetadata> = Some(EncryptionMetadata {
        scheme: 1,
        iv: [9; 16],
        min_key_version: 1,
        key_id: 1,
        encryption: 1,
    });

    fn context_of(page0: &str) -> SpaceContext {
        let header = SpaceHeader::parse(&testdata::page(page0)).unwrap();
        SpaceContext::new(&header, Algorithm::StrictFullCrc32)
    }

    /// Page, its number, its tablespace: each valid even by the strict rules.
    fn valid_pages() -> Vec<(&'static str, u32, SpaceContext)> {
        let strict = Algorithm::StrictFullCrc32;
        vec![
            ("full_crc32/ibdata1.0", 0, context_of("full_crc32/ibdata1.0")),
            ("full_crc32/ibdata1.5", 5, context_of("full_crc32/ibdata1.0")),
            ("full_crc32/dynamic.0", 0, context_of("full_crc32/dynamic.0")),
            ("full_crc32/dynamic.5", 5, context_of("full_crc32/dynamic.0")),
            ("full_crc32/page_compressed.1", 1, context(0x17, 0x35, strict)),
            ("full_crc32/encrypted.0", 0, context_of("full_crc32/encrypted.0")),
            ("full_crc32/encrypted.4", 4, context_of("full_crc32/encrypted.0")),
            ("full_crc32_4k/compact.5", 5, context(6, 0x13, strict)),
            ("full_crc32_4k/compressed1.0", 0, context_of("full_crc32_4k/compressed1.0")),
            ("crc32/redundant.5", 5, context(5, 0, strict)),
            ("crc32/compact_instant.3", 3, context(6, 0, strict)),
            ("crc32/compressed8.4", 4, context(24, 0x29, strict)),
            ("crc32/compressed1.0", 0, context_of("crc32/compressed1.0")),
            ("crc32/compressed1.4", 4, context_of("crc32/compressed1.0")),
            ("crc32/encrypted.0", 0, context_of("crc32/encrypted.0")),
            ("crc32/encrypted.4", 4, context_of("crc32/encrypted.0")),
            ("crc32/encrypted_compressed4.0", 0, context_of("crc32/encrypted_compressed4.0")),
            ("crc32/encrypted_compressed4.4", 4, context_of("crc32/encrypted_compressed4.0")),
            ("crc32_4k/dynamic.0", 0, context_of("crc32_4k/dynamic.0")),
            ("crc32_4k/dynamic.5", 5, context_of("crc32_4k/dynamic.0")),
        ]
    }

    #[test]
    fn real_pages_pass() {
        for (name, page_no, strict) in valid_pages() {
            let page = testdata::page(name);
            assert_eq!(verify(&page, page_no, &strict), Ok(()), "{name}");
            for lenient in [Algorithm::FullCrc32, Algorithm::Innodb, Algorithm::None] {
                let context = SpaceContext { algorithm: lenient, ..strict };
                assert_eq!(verify(&page, page_no, &context), Ok(()), "{name} {lenient}");
            }
        }
    }

    /// Bytes that no rule looks at: unencrypted pages of the older formats may have anything in
    /// 26..38 (16..24 too in compressed rows); compressed pages may be followed by anything.
    fn is_unchecked(name: &str, context: &SpaceContext, at: usize, page: &Page<'_>) -> bool {
        if context.flags.is_full_crc32() {
            let page_type = page.page_type();
            return page_type.is_compressed_length() && at >= page_type.compressed_len();
        }
        let encrypted = name.contains("encrypted") && page.page_no().0 != 0;
        match at {
            0..4 => encrypted,
            16..24 if context.flags.is_row_compressed() => true,
            26..30 => true,
            30..34 => !encrypted,
            34..38 => !context.flags.is_row_compressed(),
            _ => {
                let from_end = page.bytes().len() - at;
                encrypted && !context.flags.is_row_compressed() && (5..=8).contains(&from_end)
            }
        }
    }

    #[test]
    fn one_changed_bit_is_found() {
        for (name, page_no, strict) in valid_pages() {
            let mut page = testdata::page(name);
            for algorithm in [Algorithm::StrictCrc32, Algorithm::FullCrc32] {
                let context = SpaceContext { algorithm, ..strict };
                // The lenient rules try slow formulas on each.
                let step = if algorithm == Algorithm::FullCrc32 { 61 } else { 7 };
                for at in
                    (0..38).chain((38..page.len()).step_by(step)).chain(page.len() - 8..page.len())
                {
                    let unchecked = is_unchecked(name, &context, at, &Page::new(&page).unwrap());
                    // Changes of type and key version lead to other rules, which may not decide.
                    page[at] ^= 4;
                    let result = verify(&page, page_no, &context);
                    assert!(unchecked || result.is_err(), "{name} byte {at} {algorithm}");
                    page[at] ^= 4;
                }
            }
        }
    }

    #[test]
    fn torn_pages_are_found() {
        for (name, page_no, context) in valid_pages().into_iter().filter(|page| page.1 != 0) {
            let page = testdata::page(name);
            if name.contains("page_compressed") {
                continue;
            }
            for cut in (512..page.len()).step_by(512).filter(|&cut| !is_zero(&page[cut..])) {
                let mut torn = page.clone();
                torn[cut..].fill(0);
                assert!(verify(&torn, page_no, &context).is_err(), "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn zero_pages_pass() {
        for (_, page_no, context) in valid_pages() {
            let zero = vec![0; context.flags.page_size().physical()];
            assert_eq!(verify(&zero, page_no, &context), Ok(()));
            assert_eq!(verify(&zero, 77, &context), Ok(()));
            let mut lsn_alone = zero.clone();
            lsn_alone[20] = 1;
            assert!(verify(&lsn_alone, 7, &context).is_err());
            assert!(verify(&lsn_alone, 0, &context).is_err());
        }
    }

    #[test]
    fn flush_lsn_on_zeros_passes_in_old_system_files_alone() {
        let mut page = vec![0; 16384];
        page[33] = 1;
        assert_eq!(verify(&page, 768, &context(0, 0, Algorithm::FullCrc32)), Ok(()));
        assert_eq!(
            verify(&page, 768, &context(9, 0, Algorithm::FullCrc32)),
            Err(PageError::PageNo { stored: 0, expected: 768 })
        );
        assert!(verify(&page, 768, &context(0, 0x15, Algorithm::FullCrc32)).is_err());
    }

    #[test]
    fn length() {
        let context = context(7, 0x15, Algorithm::FullCrc32);
        for len in [0, 37, 4096, 16383, 16385] {
            let expected = Err(PageError::Length { len, expected: 16384 });
            assert_eq!(verify(&vec![0; len], 0, &context), expected);
        }
    }

    #[test]
    fn page_number() {
        for (name, page_no, context) in valid_pages() {
            let page = testdata::page(name);
            let error = PageError::PageNo { stored: page_no, expected: page_no + 1 };
            assert_eq!(verify(&page, page_no + 1, &context), Err(error), "{name}");
        }
    }

    #[test]
    fn doublewrite_area_is_not_judged() {
        let garbage = vec![9; 16384];
        let usual = context(0, 0x15, Algorithm::FullCrc32);
        for page_no in [64, 127, 128, 191] {
            assert_eq!(verify(&garbage, page_no, &usual), Ok(()));
            assert!(
                verify(&garbage, page_no, &usual.with_doublewrite(Doublewrite::ABSENT)).is_err()
            );
            assert!(verify(&garbage, page_no, &context(1, 0x15, Algorithm::FullCrc32)).is_err());
        }
        assert!(verify(&garbage, 63, &usual).is_err() && verify(&garbage, 192, &usual).is_err());
    }

    #[test]
    fn space_id_if_asked() {
        for (name, page_no, mut context) in valid_pages() {
            let page = testdata::page(name);
            context = context.with_space_id_checked();
            let stored = Page::new(&page).unwrap().space_id().0;
            let unreadable = context.flags.is_full_crc32() && stored > 1000;
            assert_eq!(verify(&page, page_no, &context), Ok(()), "{name}");
            context.space = SpaceId(999);
            let error = PageError::SpaceId { stored, expected: 999 };
            let expected = if unreadable { Ok(()) } else { Err(error) };
            assert_eq!(verify(&page, page_no, &context), expected, "{name}");
            let zero = vec![0; page.len()];
            assert_eq!(verify(&zero, page_no, &context), Ok(()));
        }
    }

    #[test]
    fn lsn_of_header_and_trailer() {
        let mut page = testdata::page("crc32/redundant.5");
        page[16383] ^= 1;
        let error = PageError::Lsn { header: 0x236cb, trailer: 0x236ca };
        for algorithm in [Algorithm::FullCrc32, Algorithm::StrictCrc32, Algorithm::None] {
            assert_eq!(verify(&page, 5, &context(5, 0, algorithm)), Err(error));
        }
        let mut page = testdata::page("full_crc32/dynamic.5");
        page[16376] ^= 0x80;
        let computed = checksum::full_crc32(&page[..16380]);
        page[16380..].copy_from_slice(&computed.to_be_bytes());
        assert_eq!(
            verify(&page, 5, &context(7, 0x15, Algorithm::FullCrc32)),
            Err(PageError::Lsn { header: 0x00a4_632a, trailer: 0x80a4_632a })
        );
    }

    #[test]
    fn lengths_of_compressed_pages() {
        let context = context(7, 0x35, Algorithm::FullCrc32);
        let mut page = testdata::page("full_crc32/dynamic.5");
        page[24..26].copy_from_slice(&[0x80, 0x40]);
        assert_eq!(verify(&page, 5, &context), Err(PageError::CompressedLength { len: 16384 }));
        page[24..26].copy_from_slice(&[0x80, 0]);
        assert_eq!(verify(&page, 5, &context), Err(PageError::CompressedLength { len: 0 }));
        page[24..26].copy_from_slice(&[0x80, 0x3f]);
        assert!(matches!(verify(&page, 5, &context), Err(PageError::Checksum { .. })));
    }

    #[test]
    fn older_compressed_pages_are_undecided() {
        let plain = context(26, 0x10021, Algorithm::FullCrc32);
        let page = testdata::page("crc32/page_compressed.1");
        let result = verify(&page, 1, &plain);
        assert_eq!(result, Err(PageError::NeedsDecompression));
        assert!(result.unwrap_err().is_undecided());
        for (at, value) in [(0, 0), (26, 1), (33, 7), (33, 0), (38, 0x40)] {
            let mut page = page.clone();
            page[at] = value;
            let result = verify(&page, 1, &plain);
            assert_eq!(result, Err(PageError::CompressedHeader), "byte {at}");
            assert!(!result.unwrap_err().is_undecided());
        }

        let encrypted = SpaceContext { encryption: ENCRYPTION, space: SpaceId(33), ..plain };
        let page = testdata::page("crc32/encrypted_page_compressed.1");
        assert_eq!(verify(&page, 1, &encrypted), Err(PageError::NeedsDecryption));
        assert!(PageError::NeedsDecryption.is_undecided());
    }

    /// `crc32/redundant.5` as a server with other settings would have stored it.
    fn restamped(field1: u32, field2: u32) -> Vec<u8> {
        let mut page = testdata::page("crc32/redundant.5");
        page[..4].copy_from_slice(&field1.to_be_bytes());
        page[16376..16380].copy_from_slice(&field2.to_be_bytes());
        page
    }

    fn accepting(page: &[u8], page_no: u32, space: u32, flags: u32) -> Vec<Algorithm> {
        let accepts = |&algorithm: &Algorithm| {
            verify(page, page_no, &context(space, flags, algorithm)).is_ok()
        };
        Algorithm::NAMES.map(|(_, algorithm)| algorithm).into_iter().filter(accepts).collect()
    }

    const LENIENT: [Algorithm; 4] =
        [Algorithm::Crc32, Algorithm::FullCrc32, Algorithm::Innodb, Algorithm::None];

    #[test]
    fn settings_accept_their_formulas() {
        let innodb = {
            let mut page = testdata::page("crc32/redundant.5");
            let new = checksum::innodb_new(&page);
            page[..4].copy_from_slice(&new.to_be_bytes());
            restamped(new, checksum::innodb_old(&page))
        };
        let with = |strict: &[Algorithm]| {
            let is_accepted =
                |algorithm: &Algorithm| LENIENT.contains(algorithm) || strict.contains(algorithm);
            let all = Algorithm::NAMES.map(|(_, algorithm)| algorithm);
            all.into_iter().filter(is_accepted).collect::<Vec<_>>()
        };
        let crc32 = testdata::page("crc32/redundant.5");
        let only_crc32 = with(&[Algorithm::StrictCrc32, Algorithm::StrictFullCrc32]);
        assert_eq!(accepting(&crc32, 5, 5, 0), only_crc32);
        assert_eq!(accepting(&innodb, 5, 5, 0), with(&[Algorithm::StrictInnodb]));
        let none = restamped(NO_CHECKSUM, NO_CHECKSUM);
        assert_eq!(accepting(&none, 5, 5, 0), with(&[Algorithm::StrictNone]));
        let one_none = restamped(NO_CHECKSUM, 1);
        assert_eq!(accepting(&one_none, 5, 5, 0), [Algorithm::None]);

        let mut page = testdata::page("crc32/compressed1.4");
        assert_eq!(accepting(&page, 4, 21, 0x23), only_crc32);
        page[..4].copy_from_slice(&0x921f_4d87_u32.to_be_bytes());
        assert_eq!(accepting(&page, 4, 21, 0x23), with(&[Algorithm::StrictInnodb]));
        page[..4].copy_from_slice(&NO_CHECKSUM.to_be_bytes());
        assert_eq!(accepting(&page, 4, 21, 0x23), with(&[Algorithm::StrictNone]));
        page[..4].copy_from_slice(&[0; 4]);
        assert_eq!(accepting(&page, 4, 21, 0x23), [Algorithm::None]);
    }

    #[test]
    fn checksums_of_encrypted_bytes() {
        for (name, page0) in [
            ("crc32/encrypted.4", "crc32/encrypted.0"),
            ("crc32/encrypted_compressed4.4", "crc32/encrypted_compressed4.0"),
        ] {
            let mut page = testdata::page(name);
            let of_all = |page: &[u8]| {
                let accepts = |&algorithm: &Algorithm| {
                    let context = SpaceContext { algorithm, ..context_of(page0) };
                    verify(page, 4, &context).is_ok()
                };
                let all = Algorithm::NAMES.map(|(_, algorithm)| algorithm);
                all.into_iter().filter(accepts).collect::<Vec<_>>()
            };
            // Checked on pages that 10.5 wrote with these settings.
            assert_eq!(of_all(&page), Algorithm::NAMES.map(|(_, algorithm)| algorithm), "{name}");
            let others = [
                Algorithm::Crc32,
                Algorithm::FullCrc32,
                Algorithm::Innodb,
                Algorithm::StrictInnodb,
                Algorithm::None,
                Algorithm::StrictNone,
            ];
            let innodb = if context_of(page0).flags.is_row_compressed() {
                checksum::innodb_row_compressed(&page)
            } else {
                checksum::innodb_new(&page)
            };
            for stored in [innodb, NO_CHECKSUM] {
                page[30..34].copy_from_slice(&stored.to_be_bytes());
                assert_eq!(of_all(&page), others, "{name}");
            }
            page[30..34].copy_from_slice(&[1; 4]);
            assert_eq!(of_all(&page), [Algorithm::None], "{name}");
        }
    }

    #[test]
    fn ancient_checksum_fields_pass_in_the_system_tablespace_alone() {
        // High half of the LSN in the second field, the space id in the first: both 0 here.
        let ancient = restamped(0, 0);
        assert_eq!(accepting(&ancient, 5, 5, 0), [Algorithm::None]);
        let mut lenient = LENIENT.to_vec();
        lenient.insert(3, Algorithm::StrictInnodb);
        assert_eq!(accepting(&ancient, 5, 0, 0), lenient);
    }

    proptest! {
        #[test]
        fn never_panics(
            mut page in prop::collection::vec(any::<u8>(), 1024),
            page_no in 0_u32..3,
            page_type in prop::sample::select(vec![0_u16, 17855, 34354, 37401, 0x8001, 0x80ff]),
            flags in prop::sample::select(vec![0x13_u32, 0x15, 0, 0x23, 0x29, 0xe3, 0x10021]),
            encryptable in any::<bool>(),
        ) {
            page[24..26].copy_from_slice(&page_type.to_be_bytes());
            page[4..8].copy_from_slice(&page_no.to_be_bytes());
            let encryption = ENCRYPTION.filter(|_| encryptable);
            let context = SpaceContext { encryption, ..context(1, flags, Algorithm::FullCrc32) };
            let len = context.flags.page_size().physical();
            page.resize(len, 0x5a);
            let _ = verify(&page, page_no, &context);
        }

        #[test]
        fn sealed_pages_pass(
            fill in any::<u8>(),
            page_no in 1_u32..1000,
            lsn in any::<u64>(),
            flags in prop::sample::select(vec![0x13_u32, 0x15, 0x17, 0, 0xc1, 0x23, 0x29, 0xe3]),
        ) {
            let context = context(9, flags, Algorithm::StrictCrc32);
            let mut page = vec![fill & 0x3f; context.flags.page_size().physical()];
            page[4..8].copy_from_slice(&page_no.to_be_bytes());
            seal(&mut page, context.flags, PageId::new(9, page_no), Lsn(lsn)).unwrap();
            prop_assert_eq!(verify(&page, page_no, &context), Ok(()));
        }
    }

    #[test]
    fn context_tells_what_it_was_made_of() {
        let context = context_of("full_crc32/dynamic.0");
        assert_eq!(context.space_id(), SpaceId(7));
        assert_eq!(context.flags().page_size(), PageSize::DEFAULT);
    }
}
