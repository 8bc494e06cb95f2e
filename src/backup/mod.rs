//! `--backup`: a copy of a running server's files that, with the redo log copied meanwhile,
//! stands for one moment.
//!
//! [`run()`] holds the order of the stages. [`redo_copy`] follows the live redo log, [`plan`] says
//! what there is to copy, [`copy`] copies pages, [`engines`] everything else, [`spaces`] finds out
//! which tables were created, renamed or dropped meanwhile.

pub mod aria_files;
mod attempt;
pub mod base;
pub mod copy;
pub mod definitions;
pub mod engines;
pub mod first_page;
pub mod history;
mod key_check;
pub mod log_copy;
mod monitor;
pub mod other_files;
pub mod plan;
mod positions;
pub mod redo_copy;
pub mod rocksdb;
mod run;
pub mod source_file;
pub mod spaces;
pub mod stages;
mod sync;
pub mod system_tables;
mod target;

pub use run::run;
