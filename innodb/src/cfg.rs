//! The `.cfg` file of an exported table: what `FLUSH TABLES ... FOR EXPORT` writes beside its
//! tablespace, and `ALTER TABLE ... IMPORT TABLESPACE` compares with the table there.
//!
//! ```text
//! header  u32 1, host name, name, u64 next AUTO_INCREMENT (0: none), u32 page size, u32 flags, u32 columns
//! column  u32 precise type, main type, length, 5 * longest + shortest character, position,
//!         whether an index orders by it, longest prefix in one, then its name
//! indexes u32 their number; each: u64 id, u32 space, root, type, offset of DB_TRX_ID, user's fields,
//!         unique fields, nullable fields, fields, then its name
//! field   u32 prefix, fixed length | descending << 31, then its name
//! ```
//!
//! Integers are big-endian; a name is its length with a zero byte at the end (u32), and itself with
//! that. Source: `row0quiesce.cc`; compared with files of servers of 10.5, 10.11 and 11.8.

mod charset;
mod layout;

use crate::bytes::{array_at, be16, be32};
use crate::dictionary::definitions::TableDefinition;
use crate::index_page::{IndexPage, Record};

use layout::{Field, Layout};

/// Version of the format (`IB_EXPORT_CFG_VERSION_V1`).
const VERSION: u32 = 1;
/// Kind of the first record of a table that was altered instantly.
const INSTANT_METADATA: u8 = 4;

/// What is not in the definition of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export<'a> {
    /// Name of this machine, which nobody compares.
    pub host: &'a str,
    /// `database/table`, in file-name encoding.
    pub name: &'a [u8],
    /// `innodb_page_size`
    pub page_size: u32,
    /// Next value; 0: the table has no such column.
    pub auto_increment: u64,
    /// Columns that were dropped or moved instantly.
    pub instant: Option<InstantColumns>,
}

/// A definition that is no table's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the dictionary does not fit together: {0}")]
pub struct DefinitionError(pub(crate) String);

/// Contents of the file.
///
/// # Errors
///
/// [`DefinitionError`]
pub fn render(table: &TableDefinition, export: &Export<'_>) -> Result<Vec<u8>, DefinitionError> {
    let layout = Layout::of(table, export.instant.as_ref())?;
    let mut out = Out(Vec::new());
    out.u32(VERSION);
    out.text(export.host.as_bytes());
    out.text(export.name);
    out.0.extend(export.auto_increment.to_be_bytes());
    out.u32(export.page_size);
    out.u32(table.kind & 0x3ffe | table.column_count >> 31);
    out.count(layout.columns.len());
    for (position, column) in layout.columns.iter().enumerate() {
        out.u32(column.definition.precise_type);
        out.u32(column.definition.main_type);
        out.u32(column.definition.len);
        out.u32(5 * column.character.1 + column.character.0);
        out.count(position);
        out.u32(u32::from(column.order.is_some()));
        out.u32(column.order.unwrap_or(0));
        out.text(&column.definition.name);
    }
    out.count(layout.indexes.len());
    for (index, definition) in layout.indexes.iter().zip(&table.indexes) {
        out.0.extend(definition.id.to_be_bytes());
        out.u32(definition.space);
        out.u32(definition.root);
        out.u32(definition.kind);
        out.u32(index.trx_id_offset);
        out.count(definition.fields.len());
        out.count(index.unique_count);
        out.count(index.fields.iter().filter(|field| field.is_nullable).count());
        out.count(index.fields.len());
        out.text(&definition.name);
        for Field { prefix_len, fixed_len, is_descending, name, .. } in &index.fields {
            out.u32(*prefix_len);
            out.u32(fixed_len | u32::from(*is_descending) << 31);
            out.text(name);
        }
    }
    Ok(out.0)
}

struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &[u8]) {
        self.count(text.len() + 1);
        self.0.extend(text);
        self.0.push(0);
    }
}

/// The columns of a table as its rows have them, after some were dropped or moved instantly.
///
/// ```text
/// u32 count; each u16: bit 15: dropped. Dropped: bit 14: was NOT NULL, bits 0 to 9: 0 up to 255
///     bytes, 1 more, else the fixed length + 1. Others: bits 0 to 9: position of the column
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstantColumns(pub Vec<u16>);

impl InstantColumns {
    /// From the description that is stored as a BLOB.
    pub fn parse(blob: &[u8]) -> Option<Self> {
        let count = usize::try_from(be32(blob, 0)?).ok()?;
        let codes = blob.get(4..)?.get(..count.checked_mul(2)?)?;
        Some(Self(codes.as_chunks::<2>().0.iter().map(|code| u16::from_be_bytes(*code)).collect()))
    }
}

/// Where the description of [`InstantColumns`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstantMetadata {
    /// There is none: columns were added at the end.
    None,
    /// From `offset` in page `page_no` on, `len` bytes.
    Blob {
        /// First page of it.
        page_no: u32,
        /// All bytes.
        len: u64,
    },
}

/// What the first leaf of the clustered index of a table that was altered instantly tells. `None`
/// if it is no such page.
pub fn instant_metadata(
    table: &TableDefinition,
    first_leaf: IndexPage<'_>,
) -> Option<InstantMetadata> {
    let record: Record<'_> = first_leaf.records().next().filter(Record::is_first)?;
    if first_leaf.is_newer() && record.kind() != INSTANT_METADATA {
        return None;
    }
    if !record.is_deleted() {
        return Some(InstantMetadata::None);
    }
    let layout = Layout::of(table, None).ok()?;
    let at = if first_leaf.is_newer() {
        layout.indexes.first()?.key_len
    } else {
        let key = layout.indexes.first()?.unique_count;
        record.field_end(key.checked_sub(1)?)?.0
    };
    // Behind the key, DB_TRX_ID and DB_ROLL_PTR.
    let pointer: [u8; 20] = array_at(record.data(), at + 13)?;
    let len: [u8; 8] = array_at(&pointer, 12)?;
    Some(InstantMetadata::Blob {
        page_no: be32(&pointer, 4)?,
        len: u64::from_be_bytes(len) & 0xffff_ffff,
    })
}

/// The part of a BLOB in `page`, and the page of the next part.
pub fn blob_part(page: &[u8]) -> Option<(&[u8], u32)> {
    (be16(page, 24)? == 10).then_some(())?;
    let len = usize::try_from(be32(page, 38)?).ok()?;
    Some((page.get(46..)?.get(..len)?, be32(page, 42)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dictionary::definitions;
    use crate::index_page::TreeError;
    use crate::lsn::PageId;
    use crate::{change_buffer, testdata};
    use proptest::prelude::*;

    fn page(id: PageId) -> Vec<u8> {
        testdata::page(&format!("export/ibdata1.{}", id.page_no))
    }

    fn tables() -> BTreeMap<Vec<u8>, TableDefinition> {
        definitions::read(&mut |id| Ok::<_, TreeError>(page(id))).unwrap()
    }

    #[test]
    fn file_of_a_real_table() {
        let tables = tables();
        let table = &tables[&b"d/t"[..]];
        let root = testdata::page("export/t.3");
        let root = IndexPage::new(&root).unwrap();
        assert_eq!((root.index_id(), root.is_instant()), (table.indexes[0].id, false));
        assert!(!root.has_deleted_records());
        assert_eq!(root.records().count(), 2);
        let export = Export {
            host: "vm",
            name: b"d/t",
            page_size: 16384,
            auto_increment: root.auto_increment() + 1,
            instant: None,
        };
        assert_eq!(render(table, &export).unwrap(), testdata::page("export/t.cfg"));
        let buffered = change_buffer::spaces(&mut |id| Ok::<_, TreeError>(page(id)));
        assert!(buffered.unwrap().is_empty());
    }

    #[test]
    fn definitions_that_do_not_fit_together() {
        let tables = tables();
        let table = &tables[&b"d/t"[..]];
        let export = Export::default();
        let mut lacking = table.clone();
        lacking.columns.pop();
        let error = render(&lacking, &export).unwrap_err().to_string();
        assert!(error.contains("the table has 3 columns, found 2"), "{error}");
        let mut lacking = table.clone();
        lacking.indexes.remove(0);
        assert!(render(&lacking, &export).unwrap_err().to_string().contains("clustered"));
        let mut wrong = table.clone();
        wrong.indexes[1].fields[0].column = b"x".to_vec();
        assert!(render(&wrong, &export).unwrap_err().to_string().contains("column x"));
        let instant = Some(InstantColumns(vec![7]));
        let export = Export { instant, ..Export::default() };
        assert!(render(table, &export).unwrap_err().to_string().contains("0x0007"));
    }

    #[test]
    fn columns_that_were_dropped_instantly() {
        // Two of three columns left, the last one first; the dropped one was NOT NULL, of 5 bytes.
        let blob = [0, 0, 0, 3, 0, 2, 0xc0, 6, 0, 1];
        let instant = InstantColumns::parse(&blob).unwrap();
        assert_eq!(instant.0, [2, 0xc006, 1]);
        for len in 0..blob.len() {
            assert_eq!(InstantColumns::parse(&blob[..len]), None);
        }
        let tables = tables();
        let layout = Layout::of(&tables[&b"d/t"[..]], Some(&instant)).ok().unwrap();
        let fields: Vec<_> = layout.indexes[0]
            .fields
            .iter()
            .map(|field| (field.name.as_slice(), field.fixed_len, field.is_nullable))
            .collect();
        assert_eq!(
            fields[3..],
            [(&b"c"[..], 3, true), (&b""[..], 5, false), (&b"b"[..], 0, false)]
        );
    }

    proptest! {
        #[test]
        fn damaged_pages_are_read_to_some_end(
            page_no in prop::sample::select(&[8_u32, 10, 11, 12][..]),
            damage in prop::collection::vec((24..2000_usize, any::<u8>()), 1..20),
        ) {
            let mut read = |id: PageId| {
                // Damage can lead to any page.
                let mut page = match id.page_no.0 {
                    7 | 8 | 10 | 11 | 12 => page(id),
                    _ => vec![0; 16384],
                };
                if id.page_no.0 == page_no {
                    for (at, byte) in &damage {
                        page[*at] = *byte;
                    }
                }
                Ok::<_, TreeError>(page)
            };
            if let Ok(tables) = definitions::read(&mut read) {
                for (name, table) in &tables {
                    let _ = render(table, &Export { name, ..Export::default() });
                }
            }
        }
    }
}
