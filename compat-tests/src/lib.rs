//! Tests against real servers and the real mariadb-backup: what starts the servers, runs both
//! tools, writes to the tables meanwhile and compares the results.
//!
//! Everything here runs programs; nothing of the tool itself is linked. Whatever goes wrong ends
//! in a panic that says what was run: a server that is missing is a failure, never a skipped test.

// A panic is how a test fails, so that nearly every function here may panic.
#![allow(clippy::missing_panics_doc)]

pub mod compare;
pub mod installation;
pub mod random;
pub mod server;
pub mod tool;
pub mod workload;
