//! Whether the keys are those that the server has, before anything is written: a key of the same
//! id, but with other bytes, shows only where a page is decrypted.

use std::collections::BTreeMap;

use anyhow::Context;
use innodb::encrypted::KeySource;
use innodb::page::{CodecError, SpaceContext};
use mdl::facts::{EncryptedSpace, ServerFacts};

use super::copy::PageCheck;
use super::first_page::{self, FirstPage};
use super::source_file::SourceFile;

/// Pages at the start of a file among which encrypted ones are looked for.
const PAGES: u32 = 64;
/// Tablespaces that are looked at for each key.
const SPACES: usize = 8;
/// How often a page is read that the server may just be writing.
const TRIES: u32 = 5;

/// Decrypts a page with each key that the tablespaces `spaces` use.
///
/// # Errors
///
/// A key that fits no page of those that should have it.
pub fn check(
    facts: &ServerFacts,
    spaces: &[EncryptedSpace],
    keys: &dyn KeySource,
) -> anyhow::Result<()> {
    let mut by_key = BTreeMap::<u32, Vec<&EncryptedSpace>>::new();
    for space in spaces {
        by_key.entry(space.key_id).or_default().push(space);
    }
    for spaces in by_key.values() {
        let mut misfit = None;
        for space in spaces.iter().take(SPACES) {
            match try_key(facts, space, keys) {
                Outcome::Fits => {
                    misfit = None;
                    break;
                }
                Outcome::Misfit(error) => misfit = misfit.or(Some((space, error))),
                Outcome::Unknown => {}
            }
        }
        if let Some((space, error)) = misfit {
            return Err(error)
                .with_context(|| format!("decrypt a page of the tablespace {}", space.name));
        }
    }
    Ok(())
}

enum Outcome {
    /// A page was decrypted.
    Fits,
    /// None was, and this one should have been.
    Misfit(CodecError),
    /// There is no encrypted page, or the file has another name. What is wrong with it will show.
    Unknown,
}

fn try_key(facts: &ServerFacts, space: &EncryptedSpace, keys: &dyn KeySource) -> Outcome {
    let path = facts.datadir.join(format!("{}.ibd", space.name));
    let Ok(file) = SourceFile::open(&path) else { return Outcome::Unknown };
    let Ok(FirstPage::Header(header)) = first_page::read(&file, facts.checksum_algorithm) else {
        return Outcome::Unknown;
    };
    let context = SpaceContext::new(&header, facts.checksum_algorithm);
    let mut check = PageCheck::new(context, Some(keys));
    let mut page = vec![0; header.flags().page_size().physical()];
    let mut misfit = None;
    for number in 1..PAGES {
        for attempt in 0..TRIES {
            let at = u64::from(number) * page.len() as u64;
            let is_read = file.read_at(&mut page, at).is_ok_and(|got| got == page.len());
            if !is_read || check.key_of(&page).is_none_or(|(key_id, _)| key_id != space.key_id) {
                break;
            }
            match check.check(&page, number) {
                Ok(()) => return Outcome::Fits,
                Err(error @ CodecError::WrongKey { .. }) if misfit.is_none() => {
                    misfit = Some(error);
                }
                Err(_) => {}
            }
            first_page::pause(attempt);
        }
    }
    misfit.map_or(Outcome::Unknown, Outcome::Misfit)
}
