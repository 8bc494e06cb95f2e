//! Undo logs, as far as they say which tables have changes that are not committed, or not purged.
//!
//! ```text
//! segment header page   50  history: u32 page, u16 offset of the first log's node (page FFFFFFFF: none)
//!                       72  slots, P/16 of u32: header page of an undo log segment, FFFFFFFF: none
//! undo page             42  u16 end of the records    50  u32 next page of the log, FFFFFFFF: none
//! its first page        56  u16 state: 1 active, 2 cached, 3, 4 done, others prepared    58  u16 last log
//! log                    0  u64 transaction    18  u16 first record    30  u16 next log in the page
//!                       34  node of the history: previous, next (u32 page, u16 offset each)
//! record                 0  u16 next record     2  type        3  number, then table id, compressed
//! ```
//!
//! Source: `trx0rseg.h`, `trx0undo.h`, `trx0rec.cc`, `mach0data.inl`; checked on files of 10.5,
//! 10.11 and 11.8.

use std::collections::HashSet;

use crate::bytes::{array_at, be16, be32};
use crate::lsn::{PageId, PageNo};
use crate::rollback;

/// Page of the system tablespace with the places of the rollback segments.
const TRX_SYS: PageId = PageId { space: crate::SpaceId::SYSTEM, page_no: PageNo(5) };
const HISTORY_AT: usize = 50;
const SLOTS_AT: usize = 72;
const PAGE_END_AT: usize = 42;
const NEXT_PAGE_AT: usize = 50;
const STATE_AT: usize = 56;
const LAST_LOG_AT: usize = 58;
/// Where records begin in other pages than the first.
const PAGE_START: usize = 56;
const LOG_START: usize = 18;
const NEXT_LOG: usize = 30;
const NODE: usize = 34;
const NODE_NEXT: usize = 6;
/// State of the log of an open transaction.
const ACTIVE: u16 = 1;
/// States of logs that nobody has to roll back or to commit.
const DONE: [u16; 3] = [2, 3, 4];

/// Ids of tables in undo logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoneTables {
    /// With changes of open transactions.
    pub open: HashSet<u64>,
    /// With changes of prepared transactions, which somebody is to commit or roll back.
    pub prepared: HashSet<u64>,
    /// With committed changes of which the purge is not known to be done.
    pub history: HashSet<u64>,
}

/// Undo logs that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the undo log in page {page} is not understood: {what}")]
pub struct UndoError {
    /// Page of the log.
    pub page: PageId,
    /// Why.
    pub what: &'static str,
}

/// Reads all undo logs. `read` gives a page in its plain form.
///
/// # Errors
///
/// Those of `read`; pages that are no undo logs.
pub fn tables<E: From<UndoError>>(
    read: &mut dyn FnMut(PageId) -> Result<Vec<u8>, E>,
) -> Result<UndoneTables, E> {
    let mut found = UndoneTables::default();
    let trx_sys = read(TRX_SYS)?;
    for segment in rollback::segments(&trx_sys) {
        let header = read(segment)?;
        let page = |page_no| PageId { space: segment.space, page_no: PageNo(page_no) };
        let slots = header.get(SLOTS_AT..).unwrap_or_default().as_chunks::<4>().0;
        for slot in slots.iter().take(header.len() / 16) {
            let page_no = u32::from_be_bytes(*slot);
            if page_no == u32::MAX {
                continue;
            }
            let first = read(page(page_no))?;
            let state = be16(&first, STATE_AT);
            if state.is_some_and(|state| !DONE.contains(&state)) {
                let log = be16(&first, LAST_LOG_AT).unwrap_or(0);
                let is_open = state == Some(ACTIVE);
                let tables = if is_open { &mut found.open } else { &mut found.prepared };
                add(page(page_no), &first, usize::from(log), read, tables)?;
            }
        }
        let mut node = node_at(&header, HISTORY_AT);
        let mut seen = HashSet::new();
        while let Some((page_no, offset)) = node {
            let id = page(page_no);
            let wrong = |what| UndoError { page: id, what };
            if !seen.insert((page_no, offset)) {
                return Err(wrong("the history runs in circles").into());
            }
            let first = read(id)?;
            node = node_at(&first, offset + NODE_NEXT);
            let log = offset.checked_sub(NODE).ok_or_else(|| wrong("it begins nowhere"))?;
            add(id, &first, log, read, &mut found.history)?;
        }
    }
    Ok(found)
}

fn node_at(page: &[u8], at: usize) -> Option<(u32, usize)> {
    let page_no = be32(page, at).filter(|&page_no| page_no != u32::MAX)?;
    Some((page_no, usize::from(be16(page, at + 4)?)))
}

/// Adds the tables in the records of the log at `log` in `first`, page `id`.
fn add<E: From<UndoError>>(
    id: PageId,
    first: &[u8],
    log: usize,
    read: &mut dyn FnMut(PageId) -> Result<Vec<u8>, E>,
    tables: &mut HashSet<u64>,
) -> Result<(), E> {
    let cut = || UndoError { page: id, what: "it is cut" };
    let offset = |page: &[u8], at| be16(page, at).map(usize::from).ok_or_else(cut);
    let next_log = offset(first, log + NEXT_LOG)?;
    let start = offset(first, log + LOG_START)?;
    let end = if next_log == 0 { offset(first, PAGE_END_AT)? } else { next_log };
    add_records(first, start, end, tables).ok_or_else(cut)?;
    // Only the last log of a page goes on in others.
    let mut next = be32(first, NEXT_PAGE_AT).filter(|_| next_log == 0);
    let mut seen = HashSet::from([id.page_no.0]);
    while let Some(page_no) = next.filter(|&page_no| page_no != u32::MAX) {
        if !seen.insert(page_no) {
            return Err(UndoError { page: id, what: "its pages run in circles" }.into());
        }
        let page = read(PageId { space: id.space, page_no: PageNo(page_no) })?;
        add_records(&page, PAGE_START, offset(&page, PAGE_END_AT)?, tables).ok_or_else(cut)?;
        next = be32(&page, NEXT_PAGE_AT);
    }
    Ok(())
}

/// Adds the tables in the records from `start` to `end`; `None` where they cannot be followed.
fn add_records(page: &[u8], start: usize, end: usize, tables: &mut HashSet<u64>) -> Option<()> {
    let mut at = start;
    while at != end {
        let mut rest = page.get(at + 3..end)?;
        much_compressed(&mut rest)?;
        tables.insert(much_compressed(&mut rest)?);
        let next = usize::from(be16(page, at)?);
        if next <= at || next > end {
            return None;
        }
        at = next;
    }
    Some(())
}

/// A number of 64 bits: if it is larger than 32 bits, FF and its upper half go before.
fn much_compressed(bytes: &mut &[u8]) -> Option<u64> {
    let Some((0xff, rest)) = bytes.split_first() else { return Some(compressed(bytes)?.into()) };
    *bytes = rest;
    let high = u64::from(compressed(bytes)?);
    Some(high << 32 | u64::from(compressed(bytes)?))
}

/// A number of 32 bits in 1 to 5 bytes; the first bits tell how many.
fn compressed(bytes: &mut &[u8]) -> Option<u32> {
    let first = *bytes.first()?;
    let padded = |at, len: usize| {
        let mut word = [0; 4];
        word.get_mut(4 - len..)?.copy_from_slice(bytes.get(at..at + len)?);
        Some(u32::from_be_bytes(word))
    };
    let (len, value) = match first {
        0..0x80 => (1, u32::from(first)),
        0x80..0xc0 => (2, padded(0, 2)? & 0x3fff),
        0xc0..0xe0 => (3, padded(0, 3)? & 0x1f_ffff),
        0xe0..0xf0 => (4, padded(0, 4)? & 0x0fff_ffff),
        0xf0..0xf8 => (5, u32::from_be_bytes(array_at(bytes, 1)?)),
        0xf8..0xfc => (2, padded(0, 2)? & 0x3ff | 0xffff_fc00),
        0xfc..0xfe => (3, padded(0, 3)? & 0x1_ffff | 0xfffe_0000),
        _ => (4, padded(1, 3)? | 0xff00_0000),
    };
    *bytes = bytes.get(len..)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length() {
        for (bytes, expected) in [
            (&[0x7f][..], 0x7f),
            (&[0x80, 0x80], 0x80),
            (&[0xbf, 0xff], 0x3fff),
            (&[0xc0, 0x40, 0x00], 0x4000),
            (&[0xef, 0xff, 0xff, 0xff], 0x0fff_ffff),
            (&[0xf0, 0x10, 0, 0, 0], 0x1000_0000),
            (&[0xfb, 0xff], 0xffff_ffff),
            (&[0xff, 0x01, 0x02], 0x1_0000_0002),
        ] {
            let mut rest = bytes;
            assert_eq!(much_compressed(&mut rest), Some(expected), "{bytes:x?}");
            assert!(rest.is_empty());
            for len in 0..bytes.len() {
                assert_eq!(much_compressed(&mut &bytes[..len]), None, "{bytes:x?} {len}");
            }
        }
    }

    #[test]
    fn records_that_cannot_be_followed() {
        let mut tables = HashSet::new();
        // Two records: of table 20, of table 300.
        let page = [0, 6, 11, 0, 20, 0, 0, 13, 12, 1, 0x81, 0x2c, 0];
        assert_eq!(add_records(&page, 0, 13, &mut tables), Some(()));
        assert_eq!(tables, HashSet::from([20, 300]));
        for (at, byte) in [(1, 0), (1, 14), (7, 200), (7, 6)] {
            let mut damaged = page;
            damaged[at] = byte;
            assert_eq!(add_records(&damaged, 0, 13, &mut HashSet::new()), None, "{at} {byte}");
        }
    }
}
