//! A backup's sessions with the server: connecting, privileges, `BACKUP STAGE`, table locks,
//! binary log and GTID positions.

#![forbid(unsafe_code)]

pub mod session;
