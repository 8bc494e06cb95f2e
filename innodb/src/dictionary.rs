//! InnoDB's own dictionary, as far as it says where tables are: leaf pages of `SYS_TABLES` in the
//! system tablespace.
//!
//! ```text
//! fields  NAME, transaction id, roll pointer, ID, N_COLS, TYPE, MIX_ID, MIX_LEN, CLUSTER_NAME, SPACE
//! ```
//!
//! Each page is read on its own, so that nothing depends on the tree, which is not whole in the
//! copy of a running server. Source: `dict0boot.h`, `rem0rec.h`; checked on files of 10.11.

pub mod definitions;

use crate::bytes::{be16, be32};
use crate::index_page::{IndexPage, Record};
use crate::page::PageType;

/// Id of the clustered index of `SYS_TABLES`.
const INDEX_ID: u64 = 1;
/// Numbers of fields.
const NAME: usize = 0;
const MIX_LEN: usize = 7;
const SPACE: usize = 9;
/// Flag in `MIX_LEN`: the tablespace was discarded.
const DISCARDED: u32 = 32;

/// A table or partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `database/table`, or `database/table#P#partition`, as in file names.
    pub name: Vec<u8>,
    /// Number of its tablespace; 0: the system tablespace.
    pub space: u32,
    /// Its tablespace was discarded: there is no file.
    pub is_discarded: bool,
}

/// Whether `page`, in its plain form, is one of the system tablespace that [`tables`] can read.
pub fn has_tables(page: &[u8]) -> bool {
    let index_id = page.get(66..).and_then(<[u8]>::first_chunk).map(|id| u64::from_be_bytes(*id));
    be16(page, 24).map(PageType) == Some(PageType::INDEX)
        && be16(page, 64) == Some(0)
        && index_id == Some(INDEX_ID)
}

/// The tables in a leaf page of `SYS_TABLES`; what cannot be read is left out.
pub fn tables(page: &[u8]) -> impl Iterator<Item = Table> {
    let records = IndexPage::new(page).into_iter().flat_map(IndexPage::records);
    records.filter_map(|record| table(&record))
}

fn table(record: &Record<'_>) -> Option<Table> {
    if record.is_deleted() {
        return None;
    }
    let number = |field| be32(record.field(field)?, 0);
    Some(Table {
        name: record.field(NAME)?.to_vec(),
        space: number(SPACE)?,
        is_discarded: number(MIX_LEN)? & DISCARDED != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata;
    use proptest::prelude::*;

    #[test]
    fn tables_of_a_real_page() {
        let page = testdata::page("full_crc32/ibdata1.8");
        assert!(has_tables(&page));
        let found: Vec<_> = tables(&page).collect();
        let of = |name: &str| found.iter().find(|table| table.name == name.as_bytes());
        let place = |name| of(name).map(|table| (table.space, table.is_discarded));
        assert_eq!(place("d/own"), Some((5, false)));
        assert_eq!(place("d/shared"), Some((0, false)));
        assert_eq!(place("d/discarded").map(|(_, discarded)| discarded), Some(true));
        assert_eq!(place("d/parts#P#p1").map(|(_, discarded)| discarded), Some(false));
        assert_eq!(of("d/dropped"), None);
        assert_eq!(place("SYS_FOREIGN"), Some((0, false)));
    }

    #[test]
    fn other_pages_have_none() {
        for name in ["ibdata1.0", "ibdata1.5", "dynamic.5"] {
            assert!(!has_tables(&testdata::page(&format!("full_crc32/{name}"))), "{name}");
        }
        assert!(!has_tables(&[]));
    }

    proptest! {
        #[test]
        fn damaged_pages_are_read_to_some_end(
            damage in prop::collection::vec((60..2000_usize, any::<u8>()), 0..20),
            len in 0..16385_usize,
        ) {
            let mut page = testdata::page("full_crc32/ibdata1.8");
            for (at, byte) in damage {
                page[at] = byte;
            }
            page.truncate(len);
            prop_assert!(tables(&page).count() <= len);
        }
    }
}
