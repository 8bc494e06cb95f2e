//! What the server derives from the definition of a table: hidden columns, and the fields of each
//! index as its records have them. Source: `dict0dict.cc`, `dict0mem.h`.

use super::charset::character_len;
use super::{DefinitionError, InstantColumns};
use crate::dictionary::definitions::{ColumnDefinition, IndexDefinition, TableDefinition};

/// Main types that have characters.
const CHARACTERS: [u32; 7] = [1, 2, 3, 4, 5, 12, 13];
/// Main types whose values all have the length of the column.
const FIXED: [u32; 6] = [2, 3, 6, 8, 9, 10];
/// `DATA_MYSQL`: as long as its characters.
const MYSQL: u32 = 13;
const NOT_NULL: u32 = 256;
const BINARY: u32 = 1024;
const UNIQUE: u32 = 2;
const FULLTEXT: u32 = 32;
const SPATIAL: u32 = 64;
/// Longest field that counts as one of fixed length.
const FIXED_MAX: u32 = 768;
/// Largest offset of `DB_TRX_ID` that is kept.
const OFFSET_MAX: u32 = 4095;

/// Columns and indexes of a table.
pub struct Layout {
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
}

/// A column that has values in rows.
pub struct Column {
    pub definition: ColumnDefinition,
    /// Shortest and longest character.
    pub character: (u32, u32),
    /// If an index orders by it: the longest prefix that one does by, 0: all of it.
    pub order: Option<u32>,
}

/// An index.
#[derive(Default)]
pub struct Index {
    pub fields: Vec<Field>,
    pub unique_count: usize,
    /// Where `DB_TRX_ID` is, if it is always there.
    pub trx_id_offset: u32,
    /// Bytes of the fixed-length fields of the unique part.
    pub key_len: usize,
}

/// A field of an index.
#[derive(Clone)]
pub struct Field {
    pub name: Vec<u8>,
    pub prefix_len: u32,
    pub fixed_len: u32,
    pub is_descending: bool,
    pub is_nullable: bool,
    /// Length of the column, if it is fixed.
    column_len: u32,
}

impl Layout {
    /// Derives it from the definition; `instant`: as rows have the columns.
    pub fn of(
        table: &TableDefinition,
        instant: Option<&InstantColumns>,
    ) -> Result<Self, DefinitionError> {
        let is_redundant = table.column_count >> 31 == 0;
        let hidden = [("DB_ROW_ID", 256, 6), ("DB_TRX_ID", 257, 6), ("DB_ROLL_PTR", 258, 7)];
        let hidden = hidden.map(|(name, precise_type, len)| ColumnDefinition {
            name: name.into(),
            main_type: 8,
            precise_type,
            len,
        });
        let stored = table.columns.iter().cloned().chain(hidden);
        let mut columns: Vec<Column> = stored.map(Column::new).collect();
        let virtual_columns: Vec<Column> =
            table.virtual_columns.iter().cloned().map(Column::new).collect();
        let count = usize::try_from(table.column_count & 0xffff).unwrap_or(0);
        if count != table.columns.len() {
            let found = table.columns.len();
            return Err(DefinitionError(format!("the table has {count} columns, found {found}")));
        }
        let field = |name: &[u8], prefix_len, is_descending| {
            let column = columns.iter().chain(&virtual_columns);
            let column = column.into_iter().find(|column| column.definition.name == name);
            let unknown = || {
                let name = String::from_utf8_lossy(name);
                DefinitionError(format!("an index has the column {name}, the table does not"))
            };
            Ok(Field::new(column.ok_or_else(unknown)?, prefix_len, is_descending, is_redundant))
        };
        let users = |index: &IndexDefinition| -> Result<Vec<Field>, DefinitionError> {
            let fields = index.fields.iter();
            fields.map(|f| field(&f.column, f.prefix_len, f.is_descending)).collect()
        };
        let mut definitions = table.indexes.iter();
        let first = definitions.next().filter(|index| index.kind & 1 != 0);
        let first = first.ok_or_else(|| DefinitionError("it has no clustered index".to_owned()))?;
        let mut clustered = Index { fields: users(first)?, ..Index::default() };
        if first.kind & UNIQUE == 0 {
            clustered.fields.push(field(b"DB_ROW_ID", 0, false)?);
        }
        clustered.unique_count = clustered.fields.len();
        clustered.key_len = clustered.fields.iter().map(|f| f.column_len as usize).sum();
        clustered.trx_id_offset = offset_behind(&clustered.fields);
        for name in [b"DB_TRX_ID".as_slice(), b"DB_ROLL_PTR"] {
            clustered.fields.push(field(name, 0, false)?);
        }
        let head = clustered.fields.clone();
        for column in &table.columns {
            if !has_whole(&clustered.fields, &column.name) {
                clustered.fields.push(field(&column.name, 0, false)?);
            }
        }
        let mut indexes = vec![clustered];
        for definition in definitions {
            let mut fields = users(definition)?;
            let user_count = fields.len();
            if definition.kind & FULLTEXT != 0 {
                indexes.push(Index { fields, ..Index::default() });
                continue;
            }
            let key = head.get(..head.len() - 2).unwrap_or_default();
            for key_field in key {
                if definition.kind & SPATIAL != 0 || !has_whole(&fields, &key_field.name) {
                    fields.push(key_field.clone());
                }
            }
            let is_unique = definition.kind & UNIQUE != 0;
            let unique_count = if is_unique { user_count } else { fields.len() };
            indexes.push(Index { fields, unique_count, ..Index::default() });
        }
        for index in &indexes {
            for field in index.fields.iter().take(index.unique_count) {
                let column = columns.iter_mut().find(|c| c.definition.name == field.name);
                let Some(column) = column else { continue };
                column.order = Some(match column.order {
                    None => field.prefix_len,
                    Some(0) => 0,
                    Some(_) if field.prefix_len == 0 => 0,
                    Some(longest) => longest.max(field.prefix_len),
                });
            }
        }
        if let (Some(instant), Some(clustered)) = (instant, indexes.first_mut()) {
            clustered.fields = head;
            for code in &instant.0 {
                let field = instant_field(*code, &columns, is_redundant);
                clustered.fields.push(field.ok_or_else(|| {
                    DefinitionError(format!("no column is meant by {code:#06x}"))
                })?);
            }
        }
        Ok(Self { columns, indexes })
    }
}

fn instant_field(code: u16, columns: &[Column], is_redundant: bool) -> Option<Field> {
    let number = u32::from(code & 0x3ff);
    if code & 0x8000 == 0 {
        let column = columns.get(usize::try_from(number).ok()?)?;
        return Some(Field::new(column, 0, false, is_redundant));
    }
    Some(Field {
        name: Vec::new(),
        prefix_len: 0,
        fixed_len: number.saturating_sub(1),
        is_descending: false,
        is_nullable: code & 0x4000 == 0,
        column_len: 0,
    })
}

/// Whether the column is among `fields` without a prefix.
fn has_whole(fields: &[Field], name: &[u8]) -> bool {
    fields.iter().any(|field| field.prefix_len == 0 && field.name == name)
}

/// Where the field behind `fields` is, if that is always the same.
fn offset_behind(fields: &[Field]) -> u32 {
    let is_fixed = |field: &Field| field.column_len != 0 && field.prefix_len == 0;
    let sum: u32 = fields.iter().map(|field| field.column_len).sum();
    if fields.iter().all(is_fixed) && sum <= OFFSET_MAX { sum } else { 0 }
}

impl Column {
    fn new(definition: ColumnDefinition) -> Self {
        let has_characters = CHARACTERS.contains(&definition.main_type);
        let collation = definition.precise_type >> 16 & 0x7fff;
        let character = if has_characters { character_len(collation) } else { (0, 0) };
        Self { definition, character, order: None }
    }

    fn fixed_len(&self, is_redundant: bool) -> u32 {
        let ColumnDefinition { main_type, precise_type, len, .. } = self.definition;
        let has_fixed_characters =
            precise_type & BINARY != 0 || is_redundant || self.character.0 == self.character.1;
        let is_fixed = FIXED.contains(&main_type) || main_type == MYSQL && has_fixed_characters;
        if is_fixed { len } else { 0 }
    }
}

impl Field {
    fn new(column: &Column, prefix_len: u32, is_descending: bool, is_redundant: bool) -> Self {
        let column_len = column.fixed_len(is_redundant);
        let shortened = if prefix_len == 0 { column_len } else { column_len.min(prefix_len) };
        Self {
            name: column.definition.name.clone(),
            prefix_len,
            fixed_len: if shortened > FIXED_MAX { 0 } else { shortened },
            is_descending,
            is_nullable: column.definition.precise_type & NOT_NULL == 0,
            column_len,
        }
    }
}
