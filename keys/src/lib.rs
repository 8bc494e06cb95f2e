//! The server's key managements, read without the server: each makes a
//! [`KeySource`](innodb::encrypted::KeySource), which pages, logs and Aria tables are decrypted
//! with.
//!
//! No message, no `Debug` output holds a key or a secret, and what held one is wiped from memory.

#![forbid(unsafe_code)]

mod debug_key_management;
mod file_key_management;
mod hashicorp_key_management;
mod hex;

pub use debug_key_management::DebugKeys;
pub use file_key_management::{Digest, FileKeyError, FileKeyOptions, FileKeys, Filekey};
pub use hashicorp_key_management::{VaultError, VaultKeys, VaultOptions};
