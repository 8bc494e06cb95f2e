//! Named points at which a test makes a backup wait, so that something happens at just that moment.
//!
//! They do something only with the cargo feature `test-hooks`, which releases leave out, and there
//! only for points that the environment variable `MARIABACKUP_TEST_HOOKS` arms: it names a folder,
//! and a point is armed by a file with its name in it. The first thread to reach an armed point
//! renames the file to `POINT.reached` and waits until that is gone.

use std::fmt::Display;

pub mod dbug;

/// A table or file at a point: the name of the point, a blank, the path with `.` for `/`.
#[cfg(feature = "test-hooks")]
pub fn reach(point: impl Display) {
    let Some(dir) = std::env::var_os("MARIABACKUP_TEST_HOOKS").map(std::path::PathBuf::from) else {
        return;
    };
    let name = point.to_string().replace('/', ".");
    let reached = dir.join(format!("{name}.reached"));
    if std::fs::rename(dir.join(name), &reached).is_ok() {
        while reached.exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// A table or file at a point: the name of the point, a blank, the path with `.` for `/`.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub fn reach(_: impl Display) {}
