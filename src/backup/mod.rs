//! Takes backups.

pub mod redo_copy;
