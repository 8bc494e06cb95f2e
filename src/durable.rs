//! Files that are there completely or not at all: exclusive creation, atomic replacement, sync of
//! folders and file systems, and a file copy that keeps holes.
//!
//! Callers add the path to an error ([`io::Error`] names none).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::fs::{CWD, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;

/// Bytes copied at a time; the buffer of a copy by reading and writing.
const COPY_LEN: u64 = 1 << 20;

/// Permission bits of new files: 0640, or the environment variable `UMASK` (octal). The process's
/// umask may take away more.
pub fn file_mode() -> u32 {
    static MODE: OnceLock<u32> = OnceLock::new();
    *MODE.get_or_init(|| mode_from(std::env::var_os("UMASK").as_deref(), 0o640, 0o600))
}

/// Permission bits of new folders: 0700, or the environment variable `UMASK_DIR` (octal).
pub fn dir_mode() -> u32 {
    static MODE: OnceLock<u32> = OnceLock::new();
    *MODE.get_or_init(|| mode_from(std::env::var_os("UMASK_DIR").as_deref(), 0o700, 0o700))
}

/// The server's reading of these variables (`my_init`): octal, and the owner's bits, without which
/// nothing would work, always set.
fn mode_from(text: Option<&OsStr>, default: u32, always: u32) -> u32 {
    text.and_then(OsStr::to_str)
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .map_or(default, |mode| (mode & 0o777) | always)
}

/// Creates a file that must not exist yet, for reading and writing, with permission bits `mode`. A
/// symbolic link in its place counts as existing.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`], or what `open` reports.
pub fn create_exclusive(path: &Path, mode: u32) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(no_follow)
        .open(path)?;
    Ok(file)
}

/// Creates a folder with the permission bits of [`dir_mode`].
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`], or what `mkdir` reports.
pub fn create_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(dir_mode()).create(path)
}

/// Creates a folder and those above it that are missing, each with the permission bits of
/// [`dir_mode`]; returns the created ones, outermost first. They are synced into their parents.
///
/// # Errors
///
/// What `mkdir` reports; [`io::ErrorKind::NotADirectory`] where something else has the name.
pub fn create_dir_all(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    let mut at = Some(path);
    while let Some(dir) = at.filter(|dir| !dir.as_os_str().is_empty()) {
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(Errno::NOTDIR.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(dir.to_owned()),
            Err(error) => return Err(error),
        }
        at = dir.parent();
    }
    missing.reverse();
    let mut created = Vec::new();
    for dir in missing {
        match create_dir(&dir) {
            Ok(()) => {
                sync_parent(&dir)?;
                created.push(dir);
            }
            // Another thread was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(created)
}

/// Creates a file in folder `dir` that vanishes with its descriptor.
///
/// # Errors
///
/// What creating reports.
pub fn unnamed_file(dir: &Path) -> io::Result<File> {
    use rustix::fs::Mode;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(File::from(file));
    }
    // Not every file system can do that.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let path = dir.join(format!(".mariabackup_{}_{}.tmp", std::process::id(), now.as_nanos()));
    let file = create_exclusive(&path, 0o600)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Gives `path` the contents `bytes`, durably: at any time, also after a power loss, it holds
/// either what it held before or all of `bytes`.
///
/// # Errors
///
/// What creating, writing, syncing or renaming reports; `path` is then unchanged or complete, and
/// the temporary file beside it removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    remove_leftover(&temporary)?;
    let written = (|| {
        let mut file = create_exclusive(&temporary, file_mode())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(error) = written {
        // The first error is the one to tell of.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Creates `path`, which must not exist yet, with the contents `bytes`, durably.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`], or what writing or syncing reports.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_exclusive(path, file_mode())?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_parent(path)
}

/// Renames `from` to `to`, which must not exist. Not durable by itself.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`], or what renaming reports.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot do that in one step: a hard link cannot replace either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// `.NAME.tmp` beside `path`: copy back leaves such files out, of the reference and of ours.
///
/// # Errors
///
/// A path without a name.
pub fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}

/// Removes what a killed run left; [`create_exclusive`] would stumble over it for ever.
///
/// # Errors
///
/// What removing reports, but not that there is nothing.
pub fn remove_leftover(temporary: &Path) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the names in folder `dir` durable (files created, renamed, removed).
///
/// # Errors
///
/// What `open` or `fsync` reports.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match rustix::fs::fsync(File::open(dir)?) {
        // Some network file systems cannot sync a folder and need not.
        Err(Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// Makes the name `path` durable: syncs the folder that holds it.
///
/// # Errors
///
/// As [`sync_dir`].
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Makes everything on the file system that holds folder `dir` durable, in one call: far cheaper
/// than a sync per file where there are many. Linux reports write-back errors of files that were
/// written after `dir` was opened (5.8 and later), so open it first: [`FileSystem::of`].
///
/// # Errors
///
/// What `open` or `syncfs` reports.
pub fn sync_filesystem(dir: &Path) -> io::Result<()> {
    FileSystem::of(dir)?.sync()
}

/// A file system, to be synced. Opened before the first write to it, it also learns of write-back
/// errors that happened in between.
#[derive(Debug)]
pub struct FileSystem {
    dir: File,
}

impl FileSystem {
    /// The file system that holds folder `dir`.
    ///
    /// # Errors
    ///
    /// What `open` reports.
    pub fn of(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: File::open(dir)? })
    }

    /// Makes everything on it durable.
    ///
    /// # Errors
    ///
    /// What `syncfs` reports: an error since this was opened, or now.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.dir)?)
    }
}

/// Copies bytes `[start, end)` of `from` to the same place in `to`, in which they are still a hole
/// or beyond the end. Holes stay holes; extents are shared where the file system can. `written` is
/// told the length of each piece, holes included. `to` is not extended by a hole at its end: set
/// its length.
///
/// # Errors
///
/// [`io::ErrorKind::UnexpectedEof`] if `from` ends before `end`; what reading or writing reports.
pub fn copy_range(
    from: &File,
    to: &File,
    start: u64,
    end: u64,
    written: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut copier = Copier { from, to, by_kernel: true, buffer: Vec::new() };
    let mut at = start;
    while at < end {
        let data = next_data(from, at)?.unwrap_or(end).clamp(at, end);
        if data > at {
            check_len(from, data)?;
            written(data - at);
        }
        let hole = if data < end { next_hole(from, data)?.clamp(data, end) } else { end };
        at = data;
        // A file cut meanwhile: "data" of no length.
        if hole == at && at < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while at < hole {
            let len = copier.copy(at, (hole - at).min(COPY_LEN))?;
            written(len);
            at += len;
        }
    }
    Ok(())
}

/// Whether `file` is still at least `len` bytes long.
fn check_len(file: &File, len: u64) -> io::Result<()> {
    if file.metadata()?.len() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Where the next data is, from `at` on; `None` if there is none. A file system that knows of no
/// holes, or whose word is not to be trusted, says `at`.
///
/// # Errors
///
/// Those of `lseek`.
pub fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    let found = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Some(data),
        Err(Errno::NXIO) => None,
        Err(Errno::INVAL | Errno::NOTSUP) => Some(at),
        Err(error) => return Err(error.into()),
    };
    if found == Some(at) || tells_holes(file) { Ok(found) } else { Ok(Some(at)) }
}

/// Whether a hole that the file system reports holds zeros for certain. ZFS has reported data that
/// was just written as a hole (`OpenZFS` issue 15526), and zeros are valid pages. Of other file
/// systems not enough is known; there, zeros are read like anything else.
fn tells_holes(file: &File) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|found| {
        u64::try_from(found.f_type).is_ok_and(|kind| [EXT4, XFS, BTRFS, TMPFS].contains(&kind))
    })
}

/// Where the next hole is, from `at` on; the end of the file at the latest.
fn next_hole(file: &File, at: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Hole(at)) {
        Ok(hole) => Ok(if tells_holes(file) { hole } else { u64::MAX }),
        Err(Errno::NXIO) => Ok(at),
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(u64::MAX),
        Err(error) => Err(error.into()),
    }
}

/// Copies pieces, by the kernel while that works.
struct Copier<'a> {
    from: &'a File,
    to: &'a File,
    by_kernel: bool,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    /// Copies at most `len` bytes at `at`; returns how many.
    fn copy(&mut self, at: u64, len: u64) -> io::Result<u64> {
        if self.by_kernel {
            let (mut source, mut target) = (at, at);
            let count = usize::try_from(len).unwrap_or(usize::MAX);
            let copied = rustix::fs::copy_file_range(
                self.from,
                Some(&mut source),
                self.to,
                Some(&mut target),
                count,
            );
            match copied {
                // Some file systems copy nothing where they should fail.
                Ok(0)
                | Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) =>
                {
                    self.by_kernel = false;
                }
                Err(Errno::INTR) => return Ok(0),
                Ok(copied) => return Ok(copied as u64),
                Err(error) => return Err(error.into()),
            }
        }
        self.buffer.resize(usize::try_from(len.min(COPY_LEN)).unwrap_or(0), 0);
        self.from.read_exact_at(&mut self.buffer, at)?;
        self.to.write_all_at(&self.buffer, at)?;
        Ok(self.buffer.len() as u64)
    }
}

/// Whether the contents of two files are equal.
///
/// # Errors
///
/// What reading reports.
pub fn same_contents(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&one).take(COPY_LEN).read_to_end(&mut left)?;
        (&other).take(COPY_LEN).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Whether `name` ends in `suffix`, byte by byte.
pub fn name_ends_with(name: &OsStr, suffix: &str) -> bool {
    name.as_bytes().ends_with(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn copy_whole(from: &Path, to: &Path) -> io::Result<u64> {
        let source = File::open(from)?;
        let len = source.metadata()?.len();
        let target = create_exclusive(to, file_mode())?;
        let mut seen = 0;
        copy_range(&source, &target, 0, len, &mut |len| seen += len)?;
        target.set_len(len)?;
        Ok(seen)
    }

    #[test]
    fn modes_are_octal_and_keep_the_owners_bits() {
        assert_eq!(mode_from(None, 0o640, 0o600), 0o640);
        assert_eq!(mode_from(Some(OsStr::new("0600")), 0o640, 0o600), 0o600);
        assert_eq!(mode_from(Some(OsStr::new("664")), 0o640, 0o600), 0o664);
        assert_eq!(mode_from(Some(OsStr::new("0")), 0o640, 0o600), 0o600);
        assert_eq!(mode_from(Some(OsStr::new("rw")), 0o640, 0o600), 0o640);
    }

    #[test]
    fn an_existing_file_or_link_is_never_opened_for_creation() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "kept").unwrap();
        let link = dir.path().join("l");
        symlink(dir.path().join("elsewhere"), &link).unwrap();
        for path in [&file, &link] {
            let error = create_exclusive(path, 0o640).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn missing_folders_are_created_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert_eq!(create_dir_all(&deep).unwrap(), [dir.path().join("a"), deep.clone()]);
        assert_eq!(create_dir_all(&deep).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(deep.join("f"), "").unwrap();
        let error = create_dir_all(&deep.join("f")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn atomic_write_replaces_and_survives_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(dir.path().join(".f.tmp"), "half of an earlier run").unwrap();
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_failed_atomic_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::create_dir(&path).unwrap();
        write_atomically(&path, b"one").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn new_files_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_new(&path, b"one").unwrap();
        let error = write_new(&path, b"two").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn copies_keep_bytes_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let file = File::create(&from).unwrap();
        file.write_all_at(&vec![7; 70_000], 0).unwrap();
        file.write_all_at(&[8; 10], 40 << 20).unwrap();
        file.set_len(80 << 20).unwrap();
        let to = dir.path().join("to");
        assert_eq!(copy_whole(&from, &to).unwrap(), 80 << 20);
        assert!(same_contents(&from, &to).unwrap());
        let blocks = fs::metadata(&to).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks of 512");
    }

    #[test]
    fn a_range_copies_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::write(&from, vec![1; 3 << 20]).unwrap();
        let to = create_exclusive(&dir.path().join("to"), 0o600).unwrap();
        let source = File::open(&from).unwrap();
        copy_range(&source, &to, 1 << 20, (2 << 20) + 5, &mut |_| {}).unwrap();
        let copied = fs::read(dir.path().join("to")).unwrap();
        assert_eq!(copied.len(), (2 << 20) + 5);
        assert!(copied[..1 << 20].iter().all(|&b| b == 0));
        assert!(copied[1 << 20..].iter().all(|&b| b == 1));
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        for len in [0_usize, 100, 8192] {
            fs::write(&from, vec![1; len]).unwrap();
            let to = dir.path().join(format!("to{len}"));
            let to = create_exclusive(&to, 0o600).unwrap();
            let source = File::open(&from).unwrap();
            let error = copy_range(&source, &to, 0, 10_000, &mut |_| {}).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{len}");
        }
    }

    #[test]
    fn folders_and_file_systems_sync() {
        let dir = tempfile::tempdir().unwrap();
        sync_dir(dir.path()).unwrap();
        sync_parent(dir.path()).unwrap();
        sync_dir(Path::new("")).unwrap();
        sync_filesystem(dir.path()).unwrap();
        assert!(sync_dir(&dir.path().join("none")).is_err());
    }

    #[test]
    fn contents_differ_by_length_or_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "one").unwrap();
        for (text, equal) in [("one", true), ("onE", false), ("ones", false)] {
            fs::write(&b, text).unwrap();
            assert_eq!(same_contents(&a, &b).unwrap(), equal);
        }
    }
}
