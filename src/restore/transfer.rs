//! Copies or moves what was planned; undoes it if that fails.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs as unix;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow, bail};

use super::plan::{Plan, PlannedFile};
use crate::durable::{self, FileSystem};
use crate::hooks::dbug;
use crate::options::{RestoreMode, RestoreOptions};
use crate::report::Report;

/// Bytes of a file that one thread copies at a time, so that one big file keeps all threads busy.
const PIECE_LEN: u64 = 64 << 20;

/// Who gets the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Does what was planned.
///
/// # Errors
///
/// What a system call reports, with the file; everything is then as it was before, or the message
/// says what is not.
pub(super) fn run(
    plan: &Plan,
    options: &RestoreOptions,
    owner: Option<Owner>,
    report: &Report,
) -> anyhow::Result<()> {
    let mut done = Done::default();
    let result = transfer(plan, options, owner, report, &mut done);
    report.phase_done();
    let Err(error) = result else { return Ok(()) };
    let left = done.undo(&options.datadir);
    if left.is_empty() {
        return Err(error.context("restore, undone completely"));
    }
    for problem in &left {
        report.say(problem);
    }
    Err(error.context("restore, partly undone: see above for what is left to do by hand"))
}

/// What was done, to be undone.
#[derive(Default)]
struct Done {
    dirs: Vec<PathBuf>,
    created: Mutex<Vec<PathBuf>>,
    /// From, to.
    renamed: Vec<(PathBuf, PathBuf)>,
}

impl Done {
    /// Notes that the created file `from` is now `to`.
    fn created_as(&self, from: &Path, to: &Path) {
        if let Some(file) = lock(&self.created).iter_mut().find(|file| *file == from) {
            to.clone_into(file);
        }
    }

    /// Undoes it, newest first; says what could not be undone. The data directory itself stays, as
    /// scripts expect it of a restore that was begun.
    fn undo(self, datadir: &Path) -> Vec<String> {
        let mut left = Vec::new();
        for (from, to) in self.renamed.iter().rev() {
            if let Err(error) = durable::rename_new(to, from) {
                let (from, to) = (from.display(), to.display());
                left.push(format!("Error: cannot move {to} back to {from}: {error}"));
            }
        }
        for file in lock(&self.created).iter() {
            if let Err(error) = fs::remove_file(file) {
                left.push(format!("Error: cannot remove {}: {error}", file.display()));
            }
        }
        for dir in self.dirs.iter().rev().filter(|dir| !datadir.starts_with(dir)) {
            // What somebody else has put there meanwhile stays.
            if let Err(error) = fs::remove_dir(dir) {
                left.push(format!("Error: cannot remove {}: {error}", dir.display()));
            }
        }
        left
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn transfer(
    plan: &Plan,
    options: &RestoreOptions,
    owner: Option<Owner>,
    report: &Report,
    done: &mut Done,
) -> anyhow::Result<()> {
    create_dirs(plan, owner, report, done)?;
    dbug::fail("copy_file_error")?;
    let file_systems = FileSystems::of(plan)?;
    let (mut copied, renamed): (Vec<_>, Vec<_>) = match options.mode {
        RestoreMode::Copy => (plan.files.iter().collect(), Vec::new()),
        RestoreMode::Move => split_by_file_system(plan)?,
    };
    copy_all(&copied, options, owner, report, done)?;
    // Before anything of the backup goes away, its copy is on stable storage.
    file_systems.sync()?;
    let (last, others): (Vec<_>, Vec<_>) =
        renamed.into_iter().partition(|file| file.temporary.is_some());
    let mut left = rename_all(&others, owner, report, done)?;
    // Last of all: see the head of `restore`.
    left.extend(rename_all(&last, owner, report, done)?);
    if !left.is_empty() {
        copy_all(&left, options, owner, report, done)?;
        file_systems.sync()?;
        copied.extend(left);
    }
    for file in &copied {
        if let Some(temporary) = &file.temporary {
            durable::rename_new(temporary, &file.target).with_context(|| {
                format!("rename {} to {}", temporary.display(), file.target.display())
            })?;
            done.created_as(temporary, &file.target);
        }
    }
    file_systems.sync()?;
    if options.mode == RestoreMode::Move {
        remove_sources(&copied, report);
    }
    Ok(())
}

/// Removes what was copied to be moved. The data directory is complete already; a failure leaves
/// but a copy too many.
fn remove_sources(copied: &[&PlannedFile], report: &Report) {
    for file in copied {
        if let Err(error) = fs::remove_file(&file.source) {
            report.say(format_args!(
                "Warning: {} was copied, but cannot be removed: {error}",
                file.source.display()
            ));
        }
    }
}

fn create_dirs(
    plan: &Plan,
    owner: Option<Owner>,
    report: &Report,
    done: &mut Done,
) -> anyhow::Result<()> {
    for dir in &plan.dirs {
        if dir.is_dir() {
            continue;
        }
        report.say_as(1, format_args!("Creating directory {}", dir.display()));
        let created = durable::create_dir_all(dir)
            .with_context(|| format!("create directory {}", dir.display()))?;
        for dir in &created {
            give(dir, owner)?;
        }
        done.dirs.extend(created);
        report.say_as(1, " ...done.");
    }
    Ok(())
}

fn give(path: &Path, owner: Option<Owner>) -> anyhow::Result<()> {
    let Some(Owner { uid, gid }) = owner else { return Ok(()) };
    unix::lchown(path, Some(uid), Some(gid))
        .with_context(|| format!("give {} to user {uid}", path.display()))
}

/// The file systems that are written to, opened before the first write: so they tell of every
/// error while writing back.
struct FileSystems(Vec<(PathBuf, FileSystem)>);

impl FileSystems {
    fn of(plan: &Plan) -> anyhow::Result<Self> {
        let mut devices = Vec::new();
        let mut systems = Vec::new();
        for dir in &plan.dirs {
            let device = super::device(dir)?;
            if !devices.contains(&device) {
                devices.push(device);
                let system =
                    FileSystem::of(dir).with_context(|| format!("open {}", dir.display()))?;
                systems.push((dir.clone(), system));
            }
        }
        Ok(Self(systems))
    }

    fn sync(&self) -> anyhow::Result<()> {
        for (dir, system) in &self.0 {
            system.sync().with_context(|| format!("sync the file system of {}", dir.display()))?;
        }
        Ok(())
    }
}

/// Files that must be copied to be moved, and those that can be renamed.
fn split_by_file_system(plan: &Plan) -> anyhow::Result<(Vec<&PlannedFile>, Vec<&PlannedFile>)> {
    let (mut copied, mut renamed) = (Vec::new(), Vec::new());
    for file in &plan.files {
        let dir = file.target.parent().unwrap_or(Path::new("/"));
        if super::device(dir)? == file.device { renamed.push(file) } else { copied.push(file) }
    }
    Ok((copied, renamed))
}

/// Renames files; returns those that must be copied after all (bind mounts of one file system).
fn rename_all<'a>(
    files: &[&'a PlannedFile],
    owner: Option<Owner>,
    report: &Report,
    done: &mut Done,
) -> anyhow::Result<Vec<&'a PlannedFile>> {
    let mut left = Vec::new();
    for &file in files {
        let target = &file.target;
        report.say_as(1, message("Moving", file));
        match durable::rename_new(&file.source, target) {
            Ok(()) => {
                done.renamed.push((file.source.clone(), target.clone()));
                give(target, owner)?;
                report.say_as(1, "        ...done");
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => left.push(file),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("move file {} to {}", file.source.display(), target.display())
                });
            }
        }
    }
    Ok(left)
}

fn message(verb: &str, file: &PlannedFile) -> String {
    format!("{verb} ./{} to {}", file.name.display(), file.target.display())
}

/// A file that is being copied, by several threads.
struct Copying<'a> {
    file: &'a PlannedFile,
    /// Source and target, while they are open.
    open: Mutex<Option<Arc<(File, File)>>>,
    /// Pieces that are not copied yet.
    pieces: AtomicU64,
}

/// Copies files in parallel, the biggest first.
fn copy_all(
    files: &[&PlannedFile],
    options: &RestoreOptions,
    owner: Option<Owner>,
    report: &Report,
    done: &Done,
) -> anyhow::Result<()> {
    let mut files = files.to_vec();
    files.sort_by_key(|file| std::cmp::Reverse(file.len));
    let copying: Vec<Copying> = files
        .iter()
        .map(|file| {
            let pieces = AtomicU64::new(file.len.div_ceil(PIECE_LEN).max(1));
            Copying { file, open: Mutex::new(None), pieces }
        })
        .collect();
    let pieces: Vec<(&Copying, u64)> = copying
        .iter()
        .flat_map(|copying| {
            let count = copying.pieces.load(Ordering::Relaxed);
            (0..count).map(move |piece| (copying, piece.saturating_mul(PIECE_LEN)))
        })
        .collect();
    report.phase("Copying", files.iter().map(|file| file.len).sum());
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = |thread: usize| -> anyhow::Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let Some((copying, start)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let result = copying.piece(*start, owner, thread, report, done);
            if let Err(error) = result {
                failed.store(true, Ordering::Relaxed);
                let file = copying.file;
                return Err(error.context(message("copy", file)));
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let worker = &worker;
        let threads = options.parallel.get().min(pieces.len());
        let threads: Vec<_> =
            (1..=threads).map(|thread| scope.spawn(move || worker(thread))).collect();
        let mut result = Ok(());
        for thread in threads {
            let one = thread.join().unwrap_or_else(|_| Err(anyhow!("a copy thread panicked")));
            result = result.and(one);
        }
        result
    })
}

impl Copying<'_> {
    /// Copies the piece that begins at `start`.
    fn piece(
        &self,
        start: u64,
        owner: Option<Owner>,
        thread: usize,
        report: &Report,
        done: &Done,
    ) -> anyhow::Result<()> {
        let open = self.open(owner, thread, report, done)?;
        let (source, target) = (&open.0, &open.1);
        let end = start.saturating_add(PIECE_LEN).min(self.file.len);
        durable::copy_range(source, target, start, end, &mut |len| report.advance(len))?;
        if self.pieces.fetch_sub(1, Ordering::AcqRel) == 1 {
            *lock(&self.open) = None;
            report.say_as(thread, "        ...done");
        }
        Ok(())
    }

    /// The open files; the first thread opens them.
    fn open(
        &self,
        owner: Option<Owner>,
        thread: usize,
        report: &Report,
        done: &Done,
    ) -> anyhow::Result<Arc<(File, File)>> {
        let mut open = lock(&self.open);
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        report.say_as(thread, message("Copying", self.file));
        let source = File::open(&self.file.source).context("open the source")?;
        let len = source.metadata().context("look at the source")?.len();
        if len != self.file.len {
            bail!("the source had {} bytes, now it has {len}", self.file.len);
        }
        let path = self.file.temporary.as_deref().unwrap_or(&self.file.target);
        let target = durable::create_exclusive(path, durable::file_mode())
            .with_context(|| format!("create {}", path.display()))?;
        lock(&done.created).push(path.to_owned());
        target.set_len(len).context("set the length")?;
        if let Some(Owner { uid, gid }) = owner {
            unix::fchown(&target, Some(uid), Some(gid))
                .with_context(|| format!("give it to user {uid}"))?;
        }
        Ok(Arc::clone(open.insert(Arc::new((source, target)))))
    }
}
