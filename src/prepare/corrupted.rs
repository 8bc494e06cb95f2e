//! Pages that were damaged when they were copied, as `innodb_corrupted_pages` lists them.
//!
//! To a listed page that is damaged no redo is applied: it stays as it is, with the checksum that
//! tells so. When all else is durable each listed page is judged once more. It is as good as
//! repaired if the log has built it from nothing, if it is free (then it is zeroed, so that nobody
//! stumbles over it), if it was cut off, or if its tablespace was dropped. The rest stays listed.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, anyhow};
use innodb::encrypted::KeySource;
use innodb::extent::{descriptor_page_no, is_free};
use innodb::page::{CodecError, Decoded, Page, PageCodec};
use innodb::{PageId, PageNo};

use super::markers::{self, Plan};
use super::spaces::{Space, Spaces, open};
use super::storage::Storage;
use crate::hint::WithHint;
use crate::metadata::{BackupMyCnf, CorruptedPages, corrupted_pages};
use crate::report::Report;

/// Whether the error is that of a damaged page, not of a key or a disk. The keys of tablespaces
/// that the log changes were tried before (`keys`): one that does not fit a listed page is right.
pub(super) fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref()).any(is_damaged_page)
}

fn is_damaged_page(error: &CodecError) -> bool {
    matches!(error, CodecError::Page(_) | CodecError::WrongKey { .. })
}

/// Judges the `listed` pages of a backup whose log was applied, and has the list say which are
/// damaged still: those are returned. Can be repeated after a kill at any point.
///
/// # Errors
///
/// Data files or keys that cannot be used; what reading and writing report.
pub(super) fn settle(
    dir: &Path,
    listed: CorruptedPages,
    cnf: &BackupMyCnf,
    keys: Option<&dyn KeySource>,
    storage: &dyn Storage,
    report: &Report,
) -> anyhow::Result<CorruptedPages> {
    if listed.is_empty() {
        return Ok(listed);
    }
    // The files as they are now: the log may have changed sizes and encryption.
    let spaces = Spaces::discover(dir, &Plan::of(dir)?, cnf, keys)?;
    let mut rest = CorruptedPages::default();
    for (id, pages) in listed.spaces() {
        let name = pages.display_name();
        let path = Path::new(std::ffi::OsStr::from_bytes(&pages.name));
        let mut space = match spaces.get(id) {
            Some(space) => Some(JudgedSpace::open(dir, space, spaces.decoder(space), storage)?),
            None if spaces.is_unusable(path) => None,
            None => {
                report.say(format_args!(
                    "Corrupted pages of tablespace {name} do not matter: it was dropped."
                ));
                continue;
            }
        };
        for &page_no in &pages.pages {
            let is_fixed = match &mut space {
                Some(space) => space.settle(page_no)?,
                None => false,
            };
            if is_fixed {
                report.say(format_args!(
                    "Corrupted page {page_no} of tablespace {name} was successfully fixed."
                ));
            } else {
                rest.add(PageId { space: id, page_no }, &pages.name);
                report.say(format_args!(
                    "Error: corrupted page {page_no} of tablespace {name} can not be fixed"
                ));
            }
        }
        space.map_or(Ok(()), JudgedSpace::sync)?;
    }
    let path = dir.join(corrupted_pages::NAME);
    if rest.is_empty() {
        markers::remove_if_there(storage, &path)?;
        storage.sync_dir(dir).with_context(|| format!("sync {}", dir.display()))?;
    } else if rest != listed {
        let written = storage.replace(&path, &rest.render());
        written.with_context(|| format!("write {}", path.display()))?;
    }
    Ok(rest)
}

/// Fails if pages are damaged still, now that all else is done.
///
/// # Errors
///
/// That, with the pages.
pub(super) fn check_rest(dir: &Path, rest: &CorruptedPages) -> anyhow::Result<()> {
    if rest.is_empty() {
        return Ok(());
    }
    let what = anyhow!(
        "the backup in {} is prepared, but {} pages in it stay damaged, as {} lists them: {}",
        dir.display(),
        rest.count(),
        corrupted_pages::NAME,
        rest.in_words()
    );
    Err(what).hint(
        "take another backup if there is one; this one can be restored, but reads of these pages \
         will fail: find the tables by CHECK TABLE, save what can be read and create them anew",
    )
}

/// A tablespace with listed pages.
struct JudgedSpace<'a> {
    space: &'a Space,
    decoder: PageCodec<'a>,
    files: Vec<File>,
    dir: &'a Path,
    storage: &'a dyn Storage,
    /// Whether something was zeroed.
    is_changed: bool,
}

impl<'a> JudgedSpace<'a> {
    fn open(
        dir: &'a Path,
        space: &'a Space,
        decoder: PageCodec<'a>,
        storage: &'a dyn Storage,
    ) -> anyhow::Result<Self> {
        let files: anyhow::Result<_> =
            space.files.iter().map(|file| open(&dir.join(&file.path))).collect();
        Ok(Self { space, decoder, files: files?, dir, storage, is_changed: false })
    }

    /// Whether the page does no harm any more.
    fn settle(&mut self, page_no: PageNo) -> anyhow::Result<bool> {
        if page_no.0 >= self.space.size {
            return Ok(true);
        }
        if self.is_free(page_no)? {
            self.wipe(page_no)?;
            return Ok(true);
        }
        // A page in use that holds nothing was wiped by somebody else: its contents are lost.
        let page = self.read_good(page_no)?;
        Ok(page.is_some_and(|bytes| Page::new(&bytes).is_some_and(|page| !page.is_zero())))
    }

    /// Whether the page is free, by a page of extent descriptors that is not damaged itself.
    fn is_free(&self, page_no: PageNo) -> anyhow::Result<bool> {
        let page_size = self.space.flags.page_size();
        let descriptors = PageNo(descriptor_page_no(page_no.0, page_size));
        let Some(bytes) = self.read_good(descriptors)? else { return Ok(false) };
        Ok(is_free(&bytes, page_no.0, page_size).unwrap_or(false))
    }

    /// The page in its plain form; `None` if it is damaged.
    fn read_good(&self, page_no: PageNo) -> anyhow::Result<Option<Vec<u8>>> {
        let (file, offset) = self.locate(page_no)?;
        let place = || format!("read {}", self.space.place(self.dir, page_no));
        let mut stored = vec![0; self.space.flags.page_size().physical()];
        match file.read_exact_at(&mut stored, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.with_context(place)?,
        }
        let mut plain = vec![0; stored.len()];
        match self.decoder.decode(&stored, page_no.0, &mut plain) {
            Ok(Decoded::AsStored) => Ok(Some(stored)),
            Ok(Decoded::InBuffer) => Ok(Some(plain)),
            Err(error) if is_damaged_page(&error) => Ok(None),
            Err(error) => Err(error).with_context(place),
        }
    }

    /// Zeroes a free page.
    fn wipe(&mut self, page_no: PageNo) -> anyhow::Result<()> {
        let place = || format!("write {}", self.space.place(self.dir, page_no));
        let (file, offset) = self.locate(page_no)?;
        let zeros = vec![0; self.space.flags.page_size().physical()];
        self.storage.write_at(file, &zeros, offset).with_context(place)?;
        if self.space.flags.page_compression().is_some() {
            let len = zeros.len() as u64;
            self.storage.punch_hole(file, offset, len).with_context(place)?;
        }
        self.is_changed = true;
        Ok(())
    }

    fn locate(&self, page_no: PageNo) -> anyhow::Result<(&File, u64)> {
        let (index, offset) = self.space.locate(page_no);
        let file = self.files.get(index).context("the tablespace has no such file")?;
        Ok((file, offset))
    }

    fn sync(self) -> anyhow::Result<()> {
        for (file, data) in self.files.iter().zip(&self.space.files).filter(|_| self.is_changed) {
            let synced = self.storage.sync(file);
            synced.with_context(|| format!("sync {}", self.dir.join(&data.path).display()))?;
        }
        Ok(())
    }
}
