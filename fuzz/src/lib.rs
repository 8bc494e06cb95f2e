//! Fuzz targets: functions that give arbitrary bytes to everything that reads files. They return,
//! whatever the bytes are: no panic, no endless loop, no allocation that the input does not justify.
//!
//! Each target runs in two ways: guided by coverage (`cargo xtask fuzz`), and in `cargo test` on
//! inputs derived from files of real servers, the same in each run.
//!
//! Where a checksum would keep random bytes away from what is behind it, the target sets it.

#![forbid(unsafe_code)]

mod archives;
mod aria_files;
mod bytes;
mod keys;
mod logs;
mod pages;
mod seeds;
mod spaces;
mod text_files;

/// Bytes of memory that a target may take, all in all.
pub const MEMORY: usize = 64 << 20;

/// A function to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called by.
    pub name: &'static str,
    /// Must return.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made from files of real servers.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 17] = [
    Target { name: "log_header", run: logs::header, seeds: seeds::log_headers },
    Target { name: "log_ring", run: logs::ring, seeds: seeds::log_records },
    Target { name: "log_ring_encrypted", run: logs::encrypted_ring, seeds: seeds::log_records },
    Target { name: "log_blocks", run: logs::blocks, seeds: seeds::log_blocks },
    Target { name: "log_blocks_copied", run: logs::copied_blocks, seeds: seeds::log_blocks },
    Target { name: "log_archive", run: logs::archive, seeds: seeds::log_records },
    Target { name: "records", run: logs::records, seeds: seeds::records },
    Target { name: "records_applied", run: pages::apply, seeds: seeds::applied_records },
    Target { name: "space_header", run: spaces::header, seeds: seeds::first_pages },
    Target { name: "page", run: pages::decode, seeds: seeds::pages },
    Target { name: "page_compressed", run: pages::decompress, seeds: seeds::compressed_pages },
    Target { name: "aria_log", run: aria_files::log, seeds: seeds::aria_logs },
    Target { name: "aria_table", run: aria_files::table, seeds: seeds::aria_tables },
    Target { name: "definition", run: text_files::definition, seeds: seeds::definitions },
    Target { name: "metadata", run: text_files::metadata, seeds: seeds::metadata },
    Target { name: "tar", run: archives::tar, seeds: seeds::archives },
    Target { name: "delta", run: spaces::delta, seeds: seeds::deltas },
];

/// The target called `name`.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
