//! The entries of one page onto its image.

use anyhow::Context;
use innodb::page::{CodecError, PageCodec};
use innodb::{Lsn, PageNo, SpaceFlags};
use redo::apply::Frame;
use redo::mtr::Mtr;
use redo::reader::{Mtrs, ReadError, Reader};
use redo::record::{Records, decode_run};

use super::index::Entry;

/// Entries whose runs are fetched from memory together.
const AHEAD: usize = 16;

/// The log in memory.
#[derive(Clone, Copy)]
pub(super) struct Log<'a> {
    reader: &'a Reader<'a>,
    start: Lsn,
}

impl<'a> Log<'a> {
    /// The log of `reader` from `start` on, where a mini-transaction begins.
    pub(super) fn new(reader: &'a Reader<'a>, start: Lsn) -> Self {
        Self { reader, start }
    }

    /// The mini-transactions from the start on.
    ///
    /// # Errors
    ///
    /// A key that is not to be had.
    pub(super) fn mtrs(self) -> Result<Mtrs<'a, 'a>, ReadError> {
        self.reader.mtrs(self.start)
    }

    /// For looking up runs; each thread needs its own.
    ///
    /// # Errors
    ///
    /// A key that is not to be had.
    pub(super) fn runs(self) -> Result<LogRuns<'a>, ReadError> {
        Ok(LogRuns { reader: self.reader, mtrs: self.mtrs()? })
    }
}

/// Looks up runs of entries.
pub(super) struct LogRuns<'a> {
    reader: &'a Reader<'a>,
    /// For what is not in place: it is decrypted, or unpacked, again.
    mtrs: Mtrs<'a, 'a>,
}

impl LogRuns<'_> {
    /// Brings the runs of the first [`AHEAD`] entries into the processor's cache. They are all
    /// over the log: one by one, each would cost a wait for main memory.
    fn touch(&self, entries: &[Entry]) {
        let first_bytes =
            entries.iter().take(AHEAD).filter_map(|entry| self.reader.in_place(entry.lsn(), 1));
        std::hint::black_box(first_bytes.flatten().fold(0, |sum, byte| sum ^ byte));
    }

    fn run(&mut self, entry: &Entry) -> anyhow::Result<&[u8]> {
        let len = usize::try_from(entry.len())?;
        if let Some(bytes) = self.reader.in_place(entry.lsn(), len) {
            return Ok(bytes);
        }
        let start = usize::try_from(entry.start_in_mtr())?;
        let mtr = self.mtr(entry)?;
        mtr.records_at(start..start + len).context("the redo log has changed")
    }

    /// The records of an entry.
    ///
    /// # Errors
    ///
    /// The log has changed.
    pub(super) fn records(&mut self, entry: &Entry) -> anyhow::Result<Records<'_>> {
        let lsn = entry.lsn();
        Ok(decode_run(self.run(entry)?, lsn))
    }

    fn mtr_end(&mut self, entry: &Entry) -> anyhow::Result<Lsn> {
        match entry.mtr_end() {
            Some(end) => Ok(end),
            None => Ok(self.mtr(entry)?.end()),
        }
    }

    /// The whole mini-transaction of an entry.
    fn mtr(&mut self, entry: &Entry) -> anyhow::Result<Mtr<'_>> {
        self.mtrs.seek(entry.mtr_start());
        self.mtrs.next()?.context("the redo log has changed")
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
        log: &mut LogRuns<'_>,
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
            self.end = log.mtr_end(entry)?;
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
            for record in decode_run(log.run(entry)?, entry.lsn()) {
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
