//! The entries of one page onto its image.

use anyhow::Context;
use innodb::page::{CodecError, PageCodec};
use innodb::{Lsn, PageNo, SpaceFlags};
use redo::Ring;
use redo::apply::Frame;
use redo::record::decode_run;

use super::index::Entry;

/// Entries whose runs are fetched from memory together.
const AHEAD: usize = 16;

/// The log in memory.
#[derive(Clone, Copy)]
pub(super) struct Log<'a> {
    bytes: &'a [u8],
    ring: Ring,
}

impl<'a> Log<'a> {
    /// `bytes` is the whole file; it does not wrap.
    pub(super) fn new(bytes: &'a [u8], ring: Ring) -> Self {
        Self { bytes, ring }
    }

    /// The log from `lsn` to the end of the file; empty outside of it.
    pub(super) fn from(&self, lsn: Lsn) -> &'a [u8] {
        let offset = self.ring.offset(lsn).and_then(|offset| usize::try_from(offset).ok());
        offset.and_then(|offset| self.bytes.get(offset..)).unwrap_or_default()
    }

    /// Which LSN is where.
    pub(super) fn ring(&self) -> Ring {
        self.ring
    }

    /// Brings the runs of the first [`AHEAD`] entries into the processor's cache. They are all
    /// over the log: one by one, each would cost a wait for main memory.
    fn touch(&self, entries: &[Entry]) {
        let first_bytes = entries.iter().take(AHEAD).map(|entry| self.from(entry.lsn()).first());
        std::hint::black_box(first_bytes.fold(0, |sum, byte| sum ^ byte.copied().unwrap_or(0)));
    }

    fn run(&self, entry: &Entry) -> &'a [u8] {
        let len = usize::try_from(entry.len()).unwrap_or(usize::MAX);
        self.from(entry.lsn()).get(..len).unwrap_or_default()
    }
}

/// How far a page has been brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Everything that starts before this is in the page already.
    page_lsn: Lsn,
    /// Start of the mini-transaction of the last `INIT_PAGE` or `FREE_PAGE`.
    restart: Lsn,
    /// Start of the mini-transaction that was applied last.
    applied: Option<Lsn>,
    /// End of the last mini-transaction: what the page gets as its LSN.
    end: Lsn,
    /// Whether the page must be written.
    pub is_dirty: bool,
    /// Whether the page was freed at last.
    pub is_freed: bool,
}

impl State {
    /// A page as read from its file.
    pub(super) fn of_image(image: &[u8]) -> Self {
        let page_lsn = innodb::page::Page::new(image).map_or(Lsn(0), |page| page.lsn());
        Self { page_lsn, ..Self::new() }
    }

    /// A page that is built from the log alone.
    pub(super) fn new() -> Self {
        Self {
            page_lsn: Lsn(0),
            restart: Lsn(0),
            applied: None,
            end: Lsn(0),
            is_dirty: false,
            is_freed: false,
        }
    }

    /// Applies entries of the page, which follow those applied before in the log.
    ///
    /// # Errors
    ///
    /// A record that cannot be decoded or applied, with its LSN.
    pub(super) fn apply(
        &mut self,
        image: &mut [u8],
        entries: &[Entry],
        log: Log<'_>,
        frame: Frame,
    ) -> anyhow::Result<()> {
        for (number, entry) in entries.iter().enumerate() {
            if number % AHEAD == 0 {
                log.touch(entries.get(number..).unwrap_or_default());
            }
            let start = entry.mtr_start();
            if entry.is_restart() {
                image.fill(0);
                *self = Self { restart: start, ..Self::new() };
            }
            self.end = entry.mtr_end();
            self.is_freed = entry.is_free();
            if start < self.page_lsn || start < self.restart {
                continue;
            }
            // A mini-transaction that does nothing but free the page leaves it as it is.
            if self.applied != Some(start) {
                self.applied = Some(start);
                self.is_dirty = false;
            }
            self.is_dirty |= !entry.is_free();
            for record in decode_run(log.run(entry), entry.lsn()) {
                redo::apply::apply(&record?, image, frame).with_context(|| {
                    format!("apply the redo log records at LSN {}", entry.lsn())
                })?;
            }
        }
        Ok(())
    }

    /// Brings the page to the form in which it is stored, with LSN and checksums. Returns how many
    /// bytes hold something; the others are zeros.
    ///
    /// # Errors
    ///
    /// An image of the wrong size; a key that is not to be had.
    pub(super) fn encode(
        &self,
        image: &mut [u8],
        codec: &PageCodec<'_>,
        page_no: PageNo,
    ) -> Result<usize, CodecError> {
        codec.encode(image, page_no.0, self.end)
    }
}

/// What records of pages with these flags change.
pub(super) fn frame_of(flags: SpaceFlags) -> Frame {
    if flags.is_row_compressed() { Frame::Compressed } else { Frame::Uncompressed }
}
