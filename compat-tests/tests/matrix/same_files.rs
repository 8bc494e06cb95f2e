//! Whether two preparations of a backup are the same.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use compat_tests::compare::{Allowed, differences};
use compat_tests::installation::Series;
use innodb::encrypted::{CipherMode, KeySource};
use innodb::extent;
use innodb::page::{ChecksumAlgorithm, Decoded, PageCodec, SpaceContext};
use innodb::space::SpaceHeader;
use keys::{Digest, FileKeyOptions, FileKeys};

/// Asserts that two folders, prepared by the reference of `series` and by ours, hold the same bytes;
/// where they cannot, the same pages. `mode`: how keys are used, if there are any.
///
/// Compressors differ. And the reference of 10.5 does not know which tables are encrypted by
/// default, so that it leaves pages of theirs in the clear.
#[track_caller]
pub fn assert_same(series: Series, theirs: &Path, ours: &Path, mode: CipherMode) {
    let found = differences(theirs, ours, Allowed::Aria);
    let mut files: Vec<&str> = found.lines().filter_map(|line| line.split(": ").next()).collect();
    files.dedup();
    for file in files {
        let is_compressed = file.starts_with("f/pc_") && file.contains(".ibd");
        let is_data = [".ibd", "ibdata", "undo"].iter().any(|part| file.contains(part));
        assert!(is_compressed || (series == Series::V10_5 && is_data), "{found}");
        assert_same_pages(series, &theirs.join(file), &ours.join(file), mode);
        if is_compressed {
            let blocks = |dir: &Path| fs::metadata(dir.join(file)).expect("stat").blocks();
            let (theirs, ours) = (blocks(theirs), blocks(ours));
            assert!(ours <= theirs + 64, "{file}: {theirs} and {ours} blocks");
        }
    }
}

fn assert_same_pages(series: Series, theirs: &Path, ours: &Path, mode: CipherMode) {
    let keys = keys(mode);
    let (a, b) = (plain_pages(theirs, &keys), plain_pages(ours, &keys));
    assert_eq!(a.len(), b.len(), "{}", ours.display());
    for (page_no, (a, page)) in (0..).zip(a.iter().zip(&b)) {
        // Some of those that were freed the reference of 10.5 fills with zeros too, and some not.
        if series == Series::V10_5 && page.iter().all(|&byte| byte == 0) && is_free(&b, page_no) {
            continue;
        }
        let first = a.iter().zip(page).position(|(a, b)| a != b);
        assert_eq!(first, None, "first difference in page {page_no} of {}", ours.display());
    }
}

fn is_free(pages: &[Vec<u8>], page_no: u32) -> bool {
    let size = SpaceHeader::parse(&pages[0]).expect("a page 0").flags().page_size();
    let descriptors = usize::try_from(extent::descriptor_page_no(page_no, size)).expect("an index");
    extent::is_free(&pages[descriptors], page_no, size).expect("descriptors")
}

fn keys(mode: CipherMode) -> FileKeys {
    FileKeys::open(&FileKeyOptions {
        filename: crate::KEY_FILE.into(),
        filekey: None,
        mode,
        digest: Digest::default(),
        pbkdf2_iterations: None,
    })
    .expect("read the keys")
}

/// The pages of a data file, decrypted and decompressed. All must be valid.
fn plain_pages(path: &Path, keys: &dyn KeySource) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("read a data file");
    let header = SpaceHeader::parse(&bytes).expect("a page 0");
    let context = SpaceContext::new(&header, ChecksumAlgorithm::Crc32);
    let codec = PageCodec::new(context, Some(keys));
    let pages = bytes.chunks_exact(header.flags().page_size().physical());
    (0..)
        .zip(pages)
        .map(|(page_no, page)| {
            let mut plain = vec![0; page.len()];
            let mut page = match codec.decode(page, page_no, &mut plain) {
                Ok(Decoded::AsStored) => page.to_vec(),
                Ok(Decoded::InBuffer) => plain,
                Err(error) => panic!("page {page_no} of {}: {error}", path.display()),
            };
            if header.flags().is_full_crc32() {
                // Of the page as it was stored; it was right.
                let checksum = page.len() - 4;
                page[checksum..].fill(0);
            }
            page
        })
        .collect()
}
