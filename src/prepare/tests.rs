//! Prepare on a backup of the reference, undisturbed and interrupted at many points: in the end
//! the files are those that the reference makes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::run::run_on;
use super::storage::Storage;
use crate::durable::FileSystem;
use crate::keys_source::KeyOptions;
use crate::options::{EngineBinlog, PrepareOptions};
use crate::report::Report;

mod archived;
mod binlog;
mod incremental;

const BACKUP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/prepare/10.11.19");
/// With a log of blocks, encrypted like some of the pages.
const ENCRYPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/prepare/10.5.23");
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/keys/testdata/plain");
/// Writes are cut at multiples of this.
const PIECE: usize = 4096;

/// Unpacks the stored backup.
fn backup() -> tempfile::TempDir {
    backup_of(BACKUP)
}

fn backup_of(stored: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    unpack(Path::new(stored), dir.path());
    dir
}

fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            unpack(&entry.path(), &to);
        } else if entry.path().extension().is_some_and(|extension| extension == "gz") {
            let mut file = File::create(to.with_extension("")).unwrap();
            let mut packed = flate2::read::GzDecoder::new(File::open(entry.path()).unwrap());
            io::copy(&mut packed, &mut file).unwrap();
        }
    }
}

fn options(dir: &Path) -> PrepareOptions {
    let mut keys = KeyOptions::default();
    keys.set("file_key_management_filename", KEYS.to_owned());
    PrepareOptions {
        tool_name: "mariabackup".to_owned(),
        target_dir: dir.to_owned(),
        incremental_dir: None,
        parallel: std::num::NonZeroUsize::new(2),
        extra_lsndir: None,
        export: false,
        export_server: None,
        use_memory: Some(1),
        keys,
        engine_binlog: EngineBinlog::Saved,
        open_files_limit: None,
        verbose: false,
    }
}

fn prepare(dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
    run_on(&options(dir), &Report::to_stderr(false), storage)
}

/// CRC-32C, length and name of each file, as in the file `expected`.
fn contents(dir: &Path) -> String {
    let mut lines = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                let crc = crc32c::crc32c(&bytes);
                lines.push((name.display().to_string(), crc, bytes.len()));
            }
        }
    }
    lines.sort();
    let lines: Vec<_> =
        lines.iter().map(|(name, crc, len)| format!("{crc:08x} {len} {name}\n")).collect();
    lines.concat()
}

/// What the reference makes of a stored backup.
fn expected(stored: &str) -> String {
    fs::read_to_string(Path::new(stored).join("expected")).unwrap()
}

#[track_caller]
fn assert_contents(dir: &Path, expected: &str, what: &str) {
    let found = contents(dir);
    let wrong: Vec<_> = found.lines().filter(|line| !expected.contains(*line)).collect();
    assert_eq!(wrong, Vec::<&str>::new(), "{what}");
    assert_eq!(found, expected, "{what}");
}

/// Lets the step with a number fail, a write in the middle; counts steps. Syncs nothing, but
/// remembers what was not synced.
struct Faulty {
    left: Mutex<i64>,
    steps: AtomicU64,
    unsynced: Mutex<Vec<Unsynced>>,
}

/// What stood where something was written.
struct Unsynced {
    file: File,
    inode: u64,
    offset: u64,
    before: Vec<u8>,
}

impl Faulty {
    fn after(steps: u64) -> Self {
        let left = Mutex::new(i64::try_from(steps).unwrap());
        Self { left, steps: AtomicU64::new(0), unsynced: Mutex::default() }
    }

    fn step(&self) -> io::Result<()> {
        let mut left = self.left.lock().unwrap();
        *left -= 1;
        self.steps.fetch_add(1, Ordering::Relaxed);
        if *left < 0 { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    /// Takes back about half of what was not synced, in pieces.
    fn lose_power(&self, mut seed: u64) {
        for Unsynced { file, offset, before, .. } in self.unsynced.lock().unwrap().drain(..).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            if seed >> 40 & 1 == 0 {
                file.write_all_at(&before, offset).unwrap();
            }
        }
    }
}

impl Storage for Faulty {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for piece in bytes.chunks(PIECE) {
            let mut before = vec![0; piece.len()];
            let mut old = Vec::new();
            let path =
                PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
            let readable = File::options().read(true).write(true).open(path)?;
            io::Seek::seek(&mut &readable, io::SeekFrom::Start(at))?;
            (&readable).take(piece.len() as u64).read_to_end(&mut old)?;
            before[..old.len()].copy_from_slice(&old);
            let inode = readable.metadata()?.ino();
            let step = self.step();
            let len = if step.is_ok() { piece.len() } else { piece.len() / 3 };
            self.unsynced.lock().unwrap().push(Unsynced {
                file: readable,
                inode,
                offset: at,
                before,
            });
            file.write_all_at(&piece[..len], at)?;
            step?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        let inode = file.metadata()?.ino();
        self.unsynced.lock().unwrap().retain(|write| write.inode != inode);
        Ok(())
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.step()?;
        file.set_len(len)
    }

    fn set_sparse_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.set_len(file, len)
    }

    fn punch_hole(&self, _: &File, _: u64, _: u64) -> io::Result<()> {
        // Zeros stay zeros.
        self.step()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::remove_file(path)
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        File::create_new(path).map(drop)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        let temporary = path.with_extension("replace");
        fs::write(&temporary, bytes)?;
        fs::rename(temporary, path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.step()
    }

    fn sync_all(&self, _: &Path, _: &FileSystem) -> io::Result<()> {
        self.step()?;
        self.unsynced.lock().unwrap().clear();
        Ok(())
    }
}

#[test]
fn the_result_is_that_of_the_reference() {
    let dir = backup();
    prepare(dir.path(), &super::storage::Disk).unwrap();
    assert_contents(dir.path(), &expected(BACKUP), "first run");
    prepare(dir.path(), &super::storage::Disk).unwrap();
    assert_contents(dir.path(), &expected(BACKUP), "second run");
}

#[test]
fn a_killed_run_can_be_repeated() {
    assert_repeatable(&backup, &expected(BACKUP), None, 9);
}

#[test]
fn a_killed_run_on_encrypted_files_can_be_repeated() {
    let dir = backup_of(ENCRYPTED);
    prepare(dir.path(), &super::storage::Disk).unwrap();
    let found = contents(dir.path());
    // Compressors differ.
    let others = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.ends_with("t/p.ibd")).map(str::to_owned).collect()
    };
    assert_eq!(others(&found), others(&expected(ENCRYPTED)));
    assert_repeatable(&|| backup_of(ENCRYPTED), &found, None, 29);
}

/// Kills runs after their first steps, after their last ones, and every so many steps in between.
/// `failure`: with what words a whole run ends, if not well.
fn assert_repeatable(
    backup: &dyn Fn() -> tempfile::TempDir,
    expected: &str,
    failure: Option<&str>,
    every: usize,
) {
    let assert_ended = |result: anyhow::Result<()>| match (result, failure) {
        (Ok(()), None) => {}
        (Err(error), Some(words)) => assert!(format!("{error:#}").contains(words), "{error:#}"),
        (other, _) => panic!("{other:?}"),
    };
    let whole = Faulty::after(1 << 40);
    assert_ended(prepare(backup().path(), &whole));
    let steps = whole.steps.into_inner();
    assert!(steps > 60, "{steps}");
    // The first steps are the renames, the last ones the change of state.
    let points = (0..40).chain((40..steps).step_by(every)).chain(steps.saturating_sub(20)..steps);
    for point in points {
        let dir = backup();
        let faulty = Faulty::after(point);
        prepare(dir.path(), &faulty).unwrap_err();
        if point % 2 == 0 {
            faulty.lose_power(point);
        }
        // The second run is killed too, somewhere.
        let again = Faulty::after(point / 2 + 3);
        if prepare(dir.path(), &again).is_err() && point % 4 == 0 {
            again.lose_power(point + 1);
        }
        assert_ended(prepare(dir.path(), &Faulty::after(1 << 40)));
        assert_contents(dir.path(), expected, &format!("killed at step {point} of {steps}"));
    }
}

/// The pages of a file of the stored backups, whose pages have `size` bytes.
fn pages(dir: &Path, name: &str, size: usize) -> Vec<Vec<u8>> {
    fs::read(dir.join(name)).unwrap().chunks_exact(size).map(<[u8]>::to_vec).collect()
}

/// The stored backup with damaged pages that are listed.
fn damaged_backup() -> tempfile::TempDir {
    let dir = backup();
    for (name, size, page_no) in DAMAGED {
        change(dir.path(), name, page_no * size + size / 2, b"damage");
    }
    let list = "t/d 7\n4 9 13 18 25\nt/z 8\n3 12\nt/a2 11\n3\nt/trunc 14\n3\n";
    fs::write(dir.path().join("innodb_corrupted_pages"), list).unwrap();
    dir
}

/// File, page size, page: in use (4, 9; 3), freed by the log (13), free from the start (25), built
/// by the log (18; 12), of a table that is renamed and of one that is dropped.
const DAMAGED: [(&str, usize, usize); 9] = [
    ("t/d.ibd", 4096, 4),
    ("t/d.ibd", 4096, 9),
    ("t/d.ibd", 4096, 13),
    ("t/d.ibd", 4096, 18),
    ("t/d.ibd", 4096, 25),
    ("t/z.ibd", 2048, 3),
    ("t/z.ibd", 2048, 12),
    ("t/a1.ibd", 4096, 3),
    ("t/trunc.ibd", 4096, 3),
];

/// What the log repairs is repaired, and all other pages are as if nothing had been damaged.
#[test]
fn damaged_pages_are_repaired_or_listed() {
    let good = backup();
    prepare(good.path(), &super::storage::Disk).unwrap();
    let damaged = damaged_backup();
    let dir = damaged_backup();
    let error = prepare(dir.path(), &super::storage::Disk).unwrap_err();
    let (text, hint) = crate::hint::describe(&error);
    assert!(text.contains("is prepared, but 4 pages in it stay damaged"), "{text}");
    assert!(text.ends_with("t/d (page 4, 9), t/z (page 3), t/a2 (page 3)"), "{text}");
    assert!(hint.unwrap().contains("CHECK TABLE"));
    let list = fs::read_to_string(dir.path().join("innodb_corrupted_pages")).unwrap();
    assert_eq!(list, "t/d 7\n4 9\nt/z 8\n3\nt/a2 11\n3\n");
    for (name, before, size) in
        [("t/d.ibd", "t/d.ibd", 4096), ("t/z.ibd", "t/z.ibd", 2048), ("t/a2.ibd", "t/a1.ibd", 4096)]
    {
        let before = pages(damaged.path(), before, size);
        let (good, found) = (pages(good.path(), name, size), pages(dir.path(), name, size));
        assert_eq!(good.len(), found.len());
        for (page_no, (good, found)) in good.iter().zip(&found).enumerate() {
            let expected = match (name, page_no) {
                // Not one byte of these is changed.
                ("t/d.ibd", 4 | 9) | ("t/z.ibd" | "t/a2.ibd", 3) => before[page_no].clone(),
                ("t/d.ibd", 13 | 25) => vec![0; size],
                _ => good.clone(),
            };
            assert_eq!(*found, expected, "page {page_no} of {name}");
        }
    }
    let is_damaged = |line: &&str| DAMAGED.iter().any(|(name, ..)| line.ends_with(name));
    let others = |contents: &str| -> Vec<String> {
        let lines =
            contents.lines().filter(|line| !is_damaged(line) && !line.ends_with("t/a2.ibd"));
        lines.filter(|line| !line.ends_with("innodb_corrupted_pages")).map(str::to_owned).collect()
    };
    assert_eq!(others(&contents(dir.path())), others(&contents(good.path())));

    // Once more: the same.
    let before = contents(dir.path());
    let error = prepare(dir.path(), &super::storage::Disk).unwrap_err();
    assert!(format!("{error:#}").contains("4 pages in it stay damaged"), "{error:#}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_killed_run_on_damaged_pages_can_be_repeated() {
    let dir = damaged_backup();
    prepare(dir.path(), &super::storage::Disk).unwrap_err();
    let expected = contents(dir.path());
    assert_repeatable(&damaged_backup, &expected, Some("stay damaged"), 29);
}

#[test]
fn a_list_without_damage_that_stays_is_removed() {
    let dir = damaged_backup();
    // Repaired by other means.
    for (name, size, page_no) in DAMAGED.into_iter().filter(|(name, ..)| *name != "t/d.ibd") {
        let good = backup();
        let page = pages(good.path(), name, size).swap_remove(page_no);
        change(dir.path(), name, page_no * size, &page);
    }
    for page_no in [4, 9] {
        let good = backup();
        let page = pages(good.path(), "t/d.ibd", 4096).swap_remove(page_no);
        change(dir.path(), "t/d.ibd", page_no * 4096, &page);
    }
    prepare(dir.path(), &super::storage::Disk).unwrap();
    assert!(!dir.path().join("innodb_corrupted_pages").exists());
    let state = fs::read_to_string(dir.path().join("xtrabackup_checkpoints")).unwrap();
    assert!(state.contains("log-applied"));
}

/// Another page than those listed.
#[test]
fn damage_that_is_not_listed_is_an_error() {
    let dir = damaged_backup();
    change(dir.path(), "t/d.ibd", 5 * 4096 + 100, b"damage");
    let error = format!("{:#}", prepare(dir.path(), &Faulty::after(1 << 40)).unwrap_err());
    assert!(error.contains("corrupted page 5 at offset 20480 of"), "{error}");
    let state = fs::read_to_string(dir.path().join("xtrabackup_checkpoints")).unwrap();
    assert!(state.contains("full-backuped"));
}

/// What is not right is found before anything is written.
#[track_caller]
fn assert_refused(damage: impl FnOnce(&Path), message: &str) {
    assert_refused_of(&backup(), damage, message);
}

#[track_caller]
fn assert_refused_of(dir: &tempfile::TempDir, damage: impl FnOnce(&Path), message: &str) {
    damage(dir.path());
    let before = contents(dir.path());
    let error = format!("{:#}", prepare(dir.path(), &Faulty::after(1 << 40)).unwrap_err());
    assert!(error.contains(message), "{error}");
    assert_eq!(contents(dir.path()), before);
}

fn change(dir: &Path, name: &str, at: usize, value: &[u8]) {
    let mut bytes = fs::read(dir.join(name)).unwrap();
    bytes[at..at + value.len()].copy_from_slice(value);
    fs::write(dir.join(name), bytes).unwrap();
}

#[test]
fn bad_backups_are_refused_before_the_first_write() {
    let log = "ib_logfile0";
    let cut = |dir: &Path| {
        let bytes = fs::read(dir.join(log)).unwrap();
        fs::write(dir.join(log), &bytes[..bytes.len() - 5]).unwrap();
    };
    assert_refused(cut, "The log was only applied up to LSN");
    let list = |dir: &Path| fs::write(dir.join("innodb_corrupted_pages"), "t/d\n4\n").unwrap();
    assert_refused(list, "innodb_corrupted_pages is damaged: line 1");
    assert_refused(|dir| change(dir, log, 200_000, &[0; 8]), "The log was only applied up to LSN");
    assert_refused(|dir| change(dir, log, 20, b"x"), "ib_logfile0 is unusable");
    assert_refused(|dir| change(dir, log, 4100, b"x"), "no valid checkpoint");
    assert_refused(|dir| change(dir, "ibdata1", 60, b"x"), "page 0 of");
    let remove = |name| move |dir: &Path| fs::remove_file(dir.join(name)).unwrap();
    assert_refused(remove("ibdata1"), "ibdata1");
    assert_refused(remove("backup-my.cnf"), "backup-my.cnf");
    assert_refused(remove("xtrabackup_checkpoints"), "is no backup");
    assert_refused(remove("undo001"), "Missing FILE_CREATE");
    let copy = |dir: &Path| {
        fs::copy(dir.join("t/d.ibd"), dir.join("t/e.ibd")).unwrap();
    };
    assert_refused(copy, "are both tablespace");
    let rename = |dir: &Path| fs::write(dir.join("t/d.ren"), "t/r").unwrap();
    assert_refused(rename, "neither renamed nor dropped");
    let outside = |dir: &Path| fs::write(dir.join("t/d.ren"), "../r").unwrap();
    assert_refused(outside, "holds no name of a table");
    let incremental = |dir: &Path| {
        let path = dir.join("xtrabackup_checkpoints");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("full-backuped", "incremental")).unwrap();
    };
    assert_refused(incremental, "This target does not have correct metadata");
}

#[test]
fn a_damaged_page_is_named() {
    let dir = backup();
    change(dir.path(), "t/d.ibd", 4 * 4096 + 100, b"damage");
    let error = format!("{:#}", prepare(dir.path(), &Faulty::after(1 << 40)).unwrap_err());
    assert!(error.contains("corrupted page 4 at offset 16384 of"), "{error}");
    assert!(error.contains("t/d.ibd"), "{error}");
    // Not marked as prepared.
    let state = fs::read_to_string(dir.path().join("xtrabackup_checkpoints")).unwrap();
    assert!(state.contains("full-backuped"));
}

#[test]
fn two_at_a_time_are_one_too_many() {
    let dir = backup();
    let lock = File::open(dir.path()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = prepare(dir.path(), &Faulty::after(1 << 40)).unwrap_err();
    assert!(error.to_string().contains("by another process"), "{error}");
}
