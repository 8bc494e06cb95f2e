//! Backups under fire: tables of every engine are written to, created, dropped, renamed and changed
//! in every way while a backup runs; then it is restored, the binary log replayed, and everything
//! compared.
//!
//! A seed decides each worker's statements, not how they fall together. Run by
//! `cargo xtask chaos`, and for one seed of each series by the tests.

mod imports;
mod kind;
mod objects;
mod partitions;
mod planner;
mod run;
mod shared;
mod step;
mod tables;
mod worker;

pub use kind::{Counts, Kind};
pub use run::{Chaos, LogSize, Report, SERVER_OPTIONS};
pub use worker::Workers;
