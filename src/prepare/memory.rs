//! How much memory to use, and for what.

use std::fs;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Used in any case: less makes nothing work.
const TOTAL_MIN: u64 = 32 * MIB;
/// Used at most unless `--use-memory` asks for more: more gains nothing.
const TOTAL_DEFAULT: u64 = 640 * MIB;
/// Pages are read and written in pieces of about this size, if memory allows.
const BATCH_MAX: u64 = 2 * MIB;
/// Batches at the same time, from reading to written.
const BATCHES: u64 = 20;

/// Sizes of what prepare holds in memory, in bytes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Index entries; more are spilled.
    pub index: usize,
    /// Page images of one batch.
    pub batch: usize,
    /// How many batches are there at a time.
    pub batches: usize,
}

impl Budget {
    /// Divides `use_memory` bytes, or what the machine can spare.
    pub(super) fn new(use_memory: Option<u64>) -> Self {
        let total = use_memory.unwrap_or_else(|| (free_memory() / 2).min(TOTAL_DEFAULT));
        let total = total.max(TOTAL_MIN);
        let batch = (total / (2 * BATCHES)).next_power_of_two().min(2 * BATCH_MAX) / 2;
        let batches = (total / 2 / batch.max(1)).clamp(8, 3 * BATCHES);
        Self { index: to_usize(total * 2 / 5), batch: to_usize(batch), batches: to_usize(batches) }
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX / 2)
}

/// Memory that can be had without swapping: that of the machine, or of the control group if that
/// is less.
fn free_memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(available).unwrap_or(u64::MAX);
    machine.min(cgroup_free().unwrap_or(u64::MAX))
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Limit less use of the control group (version 2, else 1), its parents included where visible.
fn cgroup_free() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    membership
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            match controllers {
                "" => Some(("/sys/fs/cgroup", path, "memory.max", "memory.current")),
                _ if controllers.split(',').any(|name| name == "memory") => Some((
                    "/sys/fs/cgroup/memory",
                    path,
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                )),
                _ => None,
            }
        })
        .flat_map(|(root, path, limit, usage)| {
            let path = Path::new(path);
            path.ancestors().filter_map(move |group| {
                let dir = Path::new(root).join(group.strip_prefix("/").unwrap_or(group));
                let read = |name: &str| -> Option<u64> {
                    fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok()
                };
                let limit = read(limit)?;
                // The page cache counts as used, but can be had.
                let reclaimable = read_stat(&dir.join("memory.stat"), "file ")
                    .or_else(|| read_stat(&dir.join("memory.stat"), "cache "));
                let used = read(usage)?.saturating_sub(reclaimable.unwrap_or(0));
                Some(limit.saturating_sub(used))
            })
        })
        .min()
}

fn read_stat(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_by_its_parts() {
        for use_memory in [0, 1, 16 * MIB, 96 * MIB, 100 * MIB, 1 << 30, 4 << 30] {
            let Budget { index, batch, batches } = Budget::new(Some(use_memory));
            let total = usize::try_from(use_memory.max(TOTAL_MIN)).unwrap();
            assert!(index + batch * batches <= total, "{use_memory}: {index} {batch} {batches}");
            assert!(batch >= 1 << 18 && batch.is_power_of_two());
        }
    }

    #[test]
    fn available_memory_is_found() {
        let meminfo = "MemTotal:  24000 kB\nMemFree: 1 kB\nMemAvailable:   20000 kB\n";
        assert_eq!(available(meminfo), Some(20_480_000));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert!(free_memory() > 0);
    }
}
