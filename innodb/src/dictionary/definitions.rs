//! All tables with their columns and indexes, as the dictionary defines them.
//!
//! ```text
//! page 0:7     70  roots of SYS_TABLES, (its second index,) SYS_COLUMNS, SYS_INDEXES, SYS_FIELDS: u32 each
//! SYS_TABLES   NAME, trx, roll, ID u64, N_COLS u32, TYPE u32, MIX_ID, MIX_LEN u32, CLUSTER_NAME, SPACE u32
//! SYS_COLUMNS  TABLE_ID u64, POS u32, trx, roll, NAME, MTYPE u32, PRTYPE u32, LEN u32, PREC u32
//! SYS_INDEXES  TABLE_ID u64, ID u64, trx, roll, NAME, N_FIELDS u32, TYPE u32, SPACE u32, PAGE_NO u32
//! SYS_FIELDS   INDEX_ID u64, POS u32, trx, roll, COL_NAME
//! ```
//!
//! Trees are followed, so that this is for data files at rest. Records that are marked as deleted
//! are left out; whether others are committed, the undo logs tell. Source: `dict0boot.h`,
//! `dict0load.cc`; checked on files of 10.5, 10.11 and 11.8.

use std::collections::BTreeMap;

use crate::bytes::{array_at, be32};
use crate::index_page::{Record, TreeError, visit_leaves};
use crate::lsn::{PageId, SpaceId};

/// Page of the system tablespace with the roots of the dictionary's trees.
const HEADER_PAGE: u32 = 7;
/// Where the roots stand in it.
const ROOTS: [usize; 4] = [70, 78, 82, 86];
/// First byte of the name of an index that is still being made.
const UNFINISHED: u8 = 0xff;
/// Bit of `PRTYPE`: computed.
const VIRTUAL: u32 = 8192;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDefinition {
    /// Id in the undo logs.
    pub id: u64,
    /// `N_COLS`: bit 31: not REDUNDANT.
    pub column_count: u32,
    /// `TYPE`
    pub kind: u32,
    /// Tablespace; 0: the system tablespace.
    pub space: u32,
    /// Columns that have values in rows, by position.
    pub columns: Vec<ColumnDefinition>,
    /// Columns that are computed.
    pub virtual_columns: Vec<ColumnDefinition>,
    /// Indexes by id, the clustered one first.
    pub indexes: Vec<IndexDefinition>,
    /// An index is still being made.
    pub has_unfinished_index: bool,
}

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// UTF-8.
    pub name: Vec<u8>,
    /// `MTYPE`
    pub main_type: u32,
    /// `PRTYPE`
    pub precise_type: u32,
    /// `LEN`
    pub len: u32,
}

/// An index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexDefinition {
    /// Id on its pages.
    pub id: u64,
    /// UTF-8.
    pub name: Vec<u8>,
    /// `TYPE`: 1 clustered, 2 unique, 16 corrupted, 32 FULLTEXT, 64 SPATIAL.
    pub kind: u32,
    /// `SPACE`
    pub space: u32,
    /// Root page; 0xFFFFFFFF: none.
    pub root: u32,
    /// Columns in their order.
    pub fields: Vec<IndexField>,
}

/// A column of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexField {
    /// Name of the column.
    pub column: Vec<u8>,
    /// Bytes of it that count; 0: all.
    pub prefix_len: u32,
    /// In descending order.
    pub is_descending: bool,
}

/// Reads all tables, by name as in file names (`database/table`). `read` gives a page in its plain
/// form.
///
/// # Errors
///
/// Those of `read`; trees that are none.
pub fn read<E: From<TreeError>>(
    read: &mut dyn FnMut(PageId) -> Result<Vec<u8>, E>,
) -> Result<BTreeMap<Vec<u8>, TableDefinition>, E> {
    let header = read(PageId::new(SpaceId::SYSTEM.0, HEADER_PAGE))?;
    let [tables, columns, indexes, fields] = ROOTS.map(|at| be32(&header, at).unwrap_or(u32::MAX));
    let mut rows = |root: u32, take: &mut dyn FnMut(&Record<'_>) -> Option<()>| {
        visit_leaves(PageId::new(SpaceId::SYSTEM.0, root), read, &mut |page| {
            for record in page.records().filter(|record| !record.is_deleted()) {
                // A row that has other fields than those of this format is of no table known.
                let _ = take(&record);
            }
            Ok(())
        })
    };
    let mut names = BTreeMap::new();
    let mut found = BTreeMap::new();
    rows(tables, &mut |row| {
        let table = TableDefinition {
            id: u64_of(row, 3)?,
            column_count: u32_of(row, 4)?,
            kind: u32_of(row, 5)?,
            space: u32_of(row, 9)?,
            ..TableDefinition::default()
        };
        names.insert(table.id, row.field(0)?.to_vec());
        found.insert(table.id, table);
        Some(())
    })?;
    rows(columns, &mut |row| {
        let table = found.get_mut(&u64_of(row, 0)?)?;
        let column = ColumnDefinition {
            name: row.field(4)?.to_vec(),
            main_type: u32_of(row, 5)?,
            precise_type: u32_of(row, 6)?,
            len: u32_of(row, 7)?,
        };
        let is_virtual = column.precise_type & VIRTUAL != 0;
        if is_virtual { &mut table.virtual_columns } else { &mut table.columns }.push(column);
        Some(())
    })?;
    let mut owners = BTreeMap::new();
    rows(indexes, &mut |row| {
        let id = u64_of(row, 0)?;
        let table = found.get_mut(&id)?;
        let name = row.field(4)?;
        if name.first() == Some(&UNFINISHED) {
            table.has_unfinished_index = true;
            return None;
        }
        let index = IndexDefinition {
            id: u64_of(row, 1)?,
            name: name.to_vec(),
            kind: u32_of(row, 6)?,
            space: u32_of(row, 7)?,
            root: u32_of(row, 8)?,
            fields: Vec::new(),
        };
        owners.insert(index.id, id);
        table.indexes.push(index);
        Some(())
    })?;
    rows(fields, &mut |row| {
        let id = u64_of(row, 0)?;
        let table = found.get_mut(owners.get(&id)?)?;
        let index = table.indexes.iter_mut().find(|index| index.id == id)?;
        let position = u32_of(row, 1)?;
        // Only the first field, and those in the long form, have more than a position here.
        let details = if index.fields.is_empty() || position > 0xffff { position } else { 0 };
        index.fields.push(IndexField {
            column: row.field(4)?.to_vec(),
            prefix_len: details & 0x7fff,
            is_descending: details & 0x8000 != 0,
        });
        Some(())
    })?;
    let tables = names.into_iter().filter_map(|(id, name)| Some((name, found.remove(&id)?)));
    Ok(tables.collect())
}

fn u32_of(row: &Record<'_>, field: usize) -> Option<u32> {
    be32(row.field(field)?, 0)
}

fn u64_of(row: &Record<'_>, field: usize) -> Option<u64> {
    array_at(row.field(field)?, 0).map(u64::from_be_bytes)
}
