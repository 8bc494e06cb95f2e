//! Whether pages that were read are good; those that are not are read again.

use std::fmt;

use anyhow::{Context, bail};
use innodb::PageNo;
use innodb::page::{self, CodecError, SpaceContext};

use super::page_check::{self, PageCheck};
use super::queue::{OpenFile, Queue};
use super::{DecryptedPages, PageCopy, TRIES};
use crate::backup::first_page::{self, FirstPage};

/// Pages at the start of a file among which one is looked for that a key fits.
const PAGES_WITH_KEY: u32 = 64;

/// A page that failed.
struct Failed {
    page_no: u32,
    /// Its bytes begin here, in the file and in the unit.
    offset: u64,
    start: usize,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} at offset {}", self.page_no, self.offset)
    }
}

impl PageCopy<'_> {
    /// Verifies every page in `bytes`, which stand at `offset`, reading failed ones again. Returns
    /// where in `bytes` those begin that were listed as damaged.
    pub(super) fn verify(
        &self,
        queue: &Queue,
        file: &OpenFile,
        offset: u64,
        bytes: &mut [u8],
    ) -> anyhow::Result<Vec<usize>> {
        let Some(context) = &file.context else { return Ok(Vec::new()) };
        let size = context.flags().page_size().physical();
        let mut check = PageCheck::new(*context, self.keys);
        let mut failed = Vec::new();
        for (index, page) in bytes.chunks_exact(size).enumerate() {
            let at = offset + (index * size) as u64;
            let Ok(in_file) = u32::try_from(at / size as u64) else {
                bail!("{} has more pages than a tablespace can", file.source.path.display());
            };
            let page_no = file.first_page.saturating_add(in_file);
            if check.check(page, page_no).is_err() {
                failed.push(Failed { page_no, offset: at, start: index * size });
            }
        }
        if failed.is_empty() {
            return Ok(Vec::new());
        }
        self.read_again(queue, file, &mut check, failed, bytes)
    }

    /// Reads pages again until they are good, all of them with the same pauses: there may be many.
    fn read_again(
        &self,
        queue: &Queue,
        file: &OpenFile,
        check: &mut PageCheck<'_>,
        mut failed: Vec<Failed>,
        bytes: &mut [u8],
    ) -> anyhow::Result<Vec<usize>> {
        let path = &file.source.path;
        let size = check.context().flags().page_size().physical();
        for attempt in 0.. {
            let mut problems = Vec::new();
            failed.retain(|page| {
                let image = bytes.get(page.start..page.start + size).unwrap_or_default();
                check.check(image, page.page_no).map_err(|problem| problems.push(problem)).is_err()
            });
            let Some(first) = failed.first() else { return Ok(Vec::new()) };
            if attempt < TRIES && self.learn_encryption(file, check)? {
                continue;
            }
            if attempt == 1 && queue.note_replaced(file) {
                return Ok(Vec::new());
            }
            let is_last = attempt == TRIES;
            if attempt > 2 && !is_last {
                self.report.say(format_args!(
                    "Database page corruption detected at page {} of {}, retrying...",
                    first.page_no,
                    path.display()
                ));
            }
            let needs_key = |problem: &CodecError| {
                page_check::is_final(problem)
                    || is_last
                        && page_check::is_about_keys(problem)
                        && !fits_other_pages(file, check, problem)
            };
            if let Some(at) = problems.iter().position(needs_key) {
                let (page, problem) = (failed.swap_remove(at), problems.swap_remove(at));
                let place = format!("decrypt {page} of {}", path.display());
                return Err(anyhow::Error::new(problem).context(place));
            }
            if is_last {
                if self.decrypted_pages == DecryptedPages::AreNamed {
                    // Pages of the older formats that are compressed, too, have no such checksum.
                    let is_sound = |page: &Failed| {
                        bytes.get(page.start..page.start + size).is_some_and(|image| {
                            page::verify(image, page.page_no, check.context()).is_ok()
                        })
                    };
                    self.name_undecryptable(file, &mut failed, &mut problems, is_sound);
                }
                return self.damaged(queue, file, &failed, &problems);
            }
            first_page::pause(attempt);
            let mut is_shorter = false;
            for page in &failed {
                let Some(image) = bytes.get_mut(page.start..page.start + size) else { continue };
                let got = file.file.read_at(image, page.offset).with_context(|| {
                    format!("read {} at offset {}", path.display(), page.offset)
                })?;
                if got < image.len() {
                    let problem = format!("the file ends at byte {}", page.offset + got as u64);
                    queue.suspect(file, problem)?;
                    image.fill(0);
                    is_shorter = true;
                }
            }
            if is_shorter {
                return Ok(Vec::new());
            }
        }
        Ok(Vec::new())
    }

    /// Names pages that are as the server wrote them, going by their checksum, but are not what they should be when they are
    /// decrypted, and leaves them alone.
    fn name_undecryptable(
        &self,
        file: &OpenFile,
        failed: &mut Vec<Failed>,
        problems: &mut Vec<CodecError>,
        is_sound: impl Fn(&Failed) -> bool,
    ) {
        let all = std::mem::take(failed).into_iter().zip(std::mem::take(problems));
        for (page, problem) in all {
            if page_check::is_about_keys(&problem) && is_sound(&page) {
                self.report.say(format_args!(
                    "Warning: {page} of {} has the right checksum, but {problem}. It is copied as \
                     it is; with --extended-validation this is an error.",
                    file.source.path.display()
                ));
            } else {
                failed.push(page);
                problems.push(problem);
            }
        }
    }

    /// Takes note of pages of a unit that stay damaged. Returns where those begin that are listed.
    fn damaged(
        &self,
        queue: &Queue,
        file: &OpenFile,
        pages: &[Failed],
        problems: &[CodecError],
    ) -> anyhow::Result<Vec<usize>> {
        let (Some(first), Some(problem)) = (pages.first(), problems.first()) else {
            return Ok(Vec::new());
        };
        let problem = format!("{first} is damaged: {problem}");
        if !self.lists_corruption {
            return queue.suspect(file, problem).map(|()| Vec::new());
        }
        let is_listed = queue.list_corrupted(file, pages.iter().map(|page| PageNo(page.page_no)));
        if is_listed {
            let more = match pages.len() {
                1 => String::new(),
                count => format!(" (and {} more pages near it)", count - 1),
            };
            self.report.say(format_args!(
                "Error: failed to read page after {TRIES} retries. File {} seems to be corrupted. \
                 WARNING!!! The corruption is ignored due to log-innodb-page-corruption option, \
                 the backup can contain corrupted data: {problem}{more}",
                file.source.path.display()
            ));
        }
        Ok(pages.iter().map(|page| page.start).filter(|_| is_listed).collect())
    }

    /// Whether the tablespace can have pages encrypted in another way now than was known: the
    /// server writes page 0, which tells how, before it encrypts any other.
    fn learn_encryption(&self, file: &OpenFile, check: &mut PageCheck<'_>) -> anyhow::Result<bool> {
        if file.first_page != 0 {
            return Ok(false);
        }
        let first = first_page::read(&file.file, self.algorithm)
            .with_context(|| format!("read {}", file.source.path.display()))?;
        let FirstPage::Header(header) = first else { return Ok(false) };
        let context = SpaceContext::new(&header, self.algorithm);
        let is_same = context.space_id() == check.context().space_id();
        let is_news = context.may_be_encrypted() && !context.is_encrypted_as(check.context());
        let learned = is_same && is_news;
        if learned {
            check.set_context(context);
        }
        Ok(learned)
    }
}

/// Whether the key that does not fit a page fits others of the file. Then the page is damaged:
/// of a page that was compressed and encrypted the older formats have no other proof.
fn fits_other_pages(file: &OpenFile, check: &mut PageCheck<'_>, problem: &CodecError) -> bool {
    let CodecError::WrongKey { key_id, version, .. } = problem else { return false };
    let mut page = vec![0; check.context().flags().page_size().physical()];
    (0..PAGES_WITH_KEY).any(|number| {
        let at = u64::from(number) * page.len() as u64;
        // What cannot be read proves nothing.
        file.file.read_at(&mut page, at).is_ok_and(|got| got == page.len())
            && check.key_of(&page) == Some((*key_id, *version))
            && check.check(&page, file.first_page.saturating_add(number)).is_ok()
    })
}
