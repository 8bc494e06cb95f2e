//! A backup's sessions with the server: connecting, privileges, `BACKUP STAGE`, table locks and who
//! holds them up, binary log and GTID positions.
//!
//! The client side of the protocol is this crate's own: a backup needs text queries only, but
//! every kind of account and every certificate that MariaDB's own clients take.

#![forbid(unsafe_code)]

mod address;
mod auth;
mod connection;
pub mod definition_locks;
pub mod dictionary;
pub mod facts;
pub mod filename;
pub mod frm;
pub mod galera;
pub mod holders;
mod kept;
pub mod lock;
pub mod position;
pub mod privileges;
pub mod replica;
pub mod rocksdb;
pub mod session;
pub mod stage;
mod tls;
pub mod version;
pub mod wait;
mod wire;
