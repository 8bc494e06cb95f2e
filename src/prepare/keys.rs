//! Whether the keys of encrypted tablespaces are there, and whether they are the right ones: found
//! out before anything is written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use innodb::page::{CodecError, PageCodec};

use super::spaces::{Space, Spaces};

/// Pages of a tablespace that are looked at. Tablespaces are encrypted from their first pages on.
const PAGES: u32 = 64;

/// Looks for the keys of all tablespaces whose pages will be read.
///
/// # Errors
///
/// A key that is missing or wrong, with its id and the file; what reading reports.
pub(super) fn check(dir: &Path, spaces: &Spaces<'_>) -> anyhow::Result<()> {
    let mut encrypted: Vec<_> =
        spaces.iter().filter(|space| space.is_needed() && space.is_encrypted).collect();
    encrypted.sort_by_key(|space| space.id);
    for space in encrypted {
        check_space(dir, space, &spaces.decoder(space), &spaces.encoder(space))?;
    }
    Ok(())
}

/// Decrypts the first encrypted page of a tablespace.
fn check_space(
    dir: &Path,
    space: &Space,
    decoder: &PageCodec<'_>,
    encoder: &PageCodec<'_>,
) -> anyhow::Result<()> {
    let Some(file) = space.files.first() else { return Ok(()) };
    // The pages of a file that is put together are tried where they are.
    if !file.is_whole() {
        return encoder.check_latest_key().with_context(|| cannot_decrypt(&file.path));
    }
    let path = dir.join(&file.current);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut page = vec![0; space.flags.page_size().physical()];
    let mut plain = page.clone();
    let mut wrong = None;
    for page_no in 0..PAGES {
        let offset = space.flags.page_size().offset(page_no);
        match file.read_exact_at(&mut page, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            read => read.with_context(|| format!("read {}", path.display()))?,
        }
        if decoder.key_of(&page).is_none() {
            continue;
        }
        match decoder.decode(&page, page_no, &mut plain) {
            Ok(_) => return encoder.check_latest_key().with_context(|| cannot_decrypt(&path)),
            // Pages that the log builds may hold anything.
            Err(CodecError::Page(_)) => {}
            Err(error @ CodecError::WrongKey { .. }) => wrong = wrong.or(Some(error)),
            Err(error) => return Err(error).with_context(|| cannot_decrypt(&path)),
        }
    }
    match wrong {
        Some(error) => Err(error).with_context(|| cannot_decrypt(&path)),
        None => encoder.check_latest_key().with_context(|| cannot_decrypt(&path)),
    }
}

fn cannot_decrypt(path: &Path) -> String {
    format!("{} is encrypted. Nothing was changed", path.display())
}
