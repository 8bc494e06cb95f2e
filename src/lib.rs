//! Physical backups of MariaDB: order of steps, policy, messages. Formats of the server's files
//! stand in the crates `innodb`, `redo` and `aria`; talking to the server in `mdl`.

pub mod backup;
pub mod cli;
pub mod compression;
pub mod decompress;
pub mod defaults_file;
pub mod durable;
pub mod filter;
pub mod hint;
mod hints;
mod hooks;
pub mod keys_source;
mod mapped;
pub mod mbstream;
pub mod metadata;
pub mod names;
pub mod options;
pub mod prepare;
pub mod report;
pub mod restore;
pub mod sink;
mod stdio;
pub mod tar;
mod threads;
pub mod verify;
