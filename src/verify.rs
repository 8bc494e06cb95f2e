//! `mariabackup verify DIR`: checks a backup, or the data directory of a stopped server. Reads
//! only.
//!
//! ```text
//! directory     what kind of directory it is, what its metadata says, whether it is in use
//! redo_log      the log from its checkpoint to its end
//! tablespaces   which data files there are, and how their pages are stored
//! pages         every page of them
//! aria          Aria's log and tables
//! files         what must be there: metadata, and the data files of each table
//! findings      what is wrong, by file
//! ```
//!
//! Findings go to standard output, a line each: what is wrong is the result of this command.

mod aria;
mod directory;
mod files;
mod findings;
mod pages;
mod redo_log;
mod run;
mod tablespaces;

pub use findings::Damaged;
pub use run::run;
