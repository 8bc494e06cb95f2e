//! DDL of each kind at each moment of a backup, which test hooks hold at that point.

#![cfg(test)]

use compat_tests::ddl::check;
use compat_tests::ddl_kinds as kinds;
use compat_tests::installation::Series;

macro_rules! tests {
    ($($test:ident: $kind:ident,)*) => {
        mod on_10_11 {
            use super::*;
            $(#[test] fn $test() { check(&kinds::$kind, Series::V10_11); })*
        }

        mod on_11_8 {
            use super::*;
            $(#[test] fn $test() { check(&kinds::$kind, Series::V11_8); })*
        }
    };
}

tests! {
    create: CREATE,
    create_select: CREATE_SELECT,
    bulk_insert: BULK_INSERT,
    drop: DROP,
    drop_and_create: DROP_AND_CREATE,
    create_or_replace: CREATE_OR_REPLACE,
    rename: RENAME,
    rename_across: RENAME_ACROSS,
    rename_chain: RENAME_CHAIN,
    rename_circle: RENAME_CIRCLE,
    rename_back: RENAME_BACK,
    create_and_rename: CREATE_AND_RENAME,
    swap: SWAP,
    foreign_key: FOREIGN_KEY,
    truncate: TRUNCATE,
    alter_copy: ALTER_COPY,
    alter_rebuild: ALTER_REBUILD,
    alter_rename: ALTER_RENAME,
    alter_instant: ALTER_INSTANT,
    index: INDEX,
    optimize: OPTIMIZE,
    shrink: SHRINK,
    grow: GROW,
    fulltext: FULLTEXT,
    partition_add: PARTITION_ADD,
    partition_drop: PARTITION_DROP,
    partition_reorganize: PARTITION_REORGANIZE,
    partition_truncate: PARTITION_TRUNCATE,
    partition_exchange: PARTITION_EXCHANGE,
    partition_hash: PARTITION_HASH,
    discard: DISCARD,
    import: IMPORT,
    import_again: IMPORT_AGAIN,
    import_in_place: IMPORT_IN_PLACE,
    engine_from: ENGINE_FROM,
    engine_to: ENGINE_TO,
    database_create: DATABASE_CREATE,
    database_drop: DATABASE_DROP,
    data_directory: DATA_DIRECTORY,
    sequence: SEQUENCE,
    system_versioned: SYSTEM_VERSIONED,
    generated: GENERATED,
}
