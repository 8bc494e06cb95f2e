//! DDL of each kind at each moment of a backup, which test hooks hold at that point.
//!
//! Some kinds share a backup. Whether one thread or two copy, and whether what changes is in the
//! files or in the log alone, differs from test to test, so that each kind meets both of each.

#![cfg(test)]

use compat_tests::ddl::{Way, check};
use compat_tests::ddl_kinds as kinds;
use compat_tests::installation::Series;

macro_rules! tests {
    ($($test:ident, $threads:literal, $is_flushed:literal: [$($kind:ident),* $(,)?];)*) => {
        mod on_10_11 {
            use super::*;
            $(#[test] fn $test() {
                let series = Series::V10_11;
                check(
                    &[$(kinds::$kind),*],
                    Way { series, threads: $threads, is_flushed: $is_flushed },
                );
            })*
        }

        mod on_11_8 {
            use super::*;
            $(#[test] fn $test() {
                let series = Series::V11_8;
                check(
                    &[$(kinds::$kind),*],
                    Way { series, threads: 3 - $threads, is_flushed: !$is_flushed },
                );
            })*
        }
    };
}

tests! {
    new_tables, 1, false: [CREATE, CREATE_SELECT, BULK_INSERT, DROP, DROP_AND_CREATE, CREATE_OR_REPLACE];
    new_names, 1, true: [RENAME, RENAME_ACROSS, RENAME_CHAIN, RENAME_CIRCLE, RENAME_BACK];
    new_tables_and_names, 2, false: [CREATE_AND_RENAME, SWAP, FOREIGN_KEY, TRUNCATE, SEQUENCE];
    alter, 2, true: [ALTER_COPY, ALTER_REBUILD, ALTER_RENAME, ALTER_INSTANT, INDEX, GENERATED];
    size, 1, false: [OPTIMIZE, SHRINK, GROW, FULLTEXT, SYSTEM_VERSIONED];
    partitions, 1, true: [
        PARTITION_ADD, PARTITION_DROP, PARTITION_REORGANIZE, PARTITION_TRUNCATE, PARTITION_EXCHANGE,
        PARTITION_HASH,
    ];
    places, 2, true: [ENGINE_FROM, ENGINE_TO, DATABASE_CREATE, DATABASE_DROP, DATA_DIRECTORY, DISCARD];
    imports, 2, false: [IMPORT, IMPORT_AGAIN, IMPORT_IN_PLACE];
}
