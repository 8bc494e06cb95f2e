//! Files of the Aria storage engine: the control file, the transaction log, the tables.
//!
//! Aria recovers its transactional tables from its log at the first start on a backup; nothing
//! here applies log records.

#![forbid(unsafe_code)]

pub mod control;
pub mod encrypted;
pub mod log;
pub mod table;
