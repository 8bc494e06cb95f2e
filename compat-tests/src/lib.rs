//! Tests against real servers and the real mariadb-backup: what starts the servers, runs both
//! tools, writes to the tables meanwhile and compares the results.
//!
//! Everything here runs programs; nothing of the tool itself is linked. Whatever goes wrong ends
//! in a panic that says what was run: a server that is missing is a failure, never a skipped test.

// A panic is how a test fails, so that nearly every function here may panic.
#![allow(clippy::missing_panics_doc)]

pub mod backed_up;
pub mod chaos;
pub mod compare;
pub mod ddl;
pub mod ddl_kinds;
pub mod definitions;
pub mod hooks;
pub mod installation;
pub mod pace;
pub mod random;
pub mod server;
pub mod statement;
pub mod tiny_disk;
pub mod tool;
pub mod vault;
pub mod workload;

use std::ops::RangeInclusive;

/// The seeds to try: `COMPAT_SEEDS=1..10` or `COMPAT_SEEDS=7`; without it `default`.
pub fn seeds(default: RangeInclusive<u64>) -> RangeInclusive<u64> {
    let Ok(text) = std::env::var("COMPAT_SEEDS") else { return default };
    let (first, last) = text.split_once("..").unwrap_or((&text, &text));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is not a seed"));
    number(first)..=number(last)
}

/// A number from the environment that makes a test bigger or smaller.
pub fn size(variable: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number"))
}
