//! The binary log position of the last committed transaction, which InnoDB keeps in the headers of
//! its rollback segments.
//!
//! ```text
//! segment      38  u32 format, 0: with a position
//!      80 + P/4  u64 position; then 512 bytes name, up to the first NUL
//! page 0:5   P-962 u32 magic, u64 position, name: of servers before 10.3
//! ```
//!
//! Source: `trx_rseg_read_binlog_info` in `trx0rseg.cc`, `trx0sys.h`; checked on files of 10.11.

use std::path::Path;

use innodb::doublewrite::TRX_SYS_PAGE_NO;
use innodb::{PageId, SpaceId, rollback};

use super::spaces::Spaces;

const FORMAT_AT: usize = 38;
const NAME_LEN: usize = 512;
const LEGACY_FROM_END: usize = 962;
const LEGACY_MAGIC: u32 = 873_422_344;

/// A file name as stored (`./bin.000001`), and a position. Ordered as the server compares them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Name of the file; empty if there is no position.
    pub file: Vec<u8>,
    /// Bytes from its start.
    pub position: u64,
}

/// Reads the position from the data files of backup `dir`.
///
/// # Errors
///
/// Pages that cannot be read or are damaged.
pub(super) fn read_position(dir: &Path, spaces: &Spaces<'_>) -> anyhow::Result<Position> {
    let trx_sys = spaces.read_page(dir, PageId::new(SpaceId::SYSTEM.0, TRX_SYS_PAGE_NO))?;
    let mut newest = Position::default();
    for segment in rollback::segments(&trx_sys) {
        if spaces.get(segment.space).is_none() {
            continue;
        }
        let page = spaces.read_page(dir, segment)?;
        if be32(&page, FORMAT_AT) == Some(0) {
            let found = position_at(&page, 80 + page.len() / 4);
            newest = newest.max(found.unwrap_or_default());
        }
    }
    if newest.file.is_empty() {
        let at = trx_sys.len().saturating_sub(LEGACY_FROM_END);
        if be32(&trx_sys, at) == Some(LEGACY_MAGIC) {
            newest = position_at(&trx_sys, at + 4).unwrap_or_default();
        }
    }
    Ok(newest)
}

/// The position and name at `at`; `None` if there is no name.
fn position_at(page: &[u8], at: usize) -> Option<Position> {
    let position = page.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))?;
    let name = page.get(at + 8..)?.split(|&b| b == 0).next()?;
    let file = name.get(..NAME_LEN).unwrap_or(name).to_vec();
    (!file.is_empty()).then_some(Position { file, position })
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
