//! What becomes of the tablespaces of the target: they are found by their ids, under whatever
//! name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::encrypted::KeySource;
use innodb::space::SpaceHeader;
use innodb::{PageNo, SpaceId};

use super::source::{Delta, Source};
use crate::durable;
use crate::prepare::apply::Work;
use crate::prepare::markers::{self, remove_if_there};
use crate::prepare::spaces::{Head, Space, Spaces};

/// Pages of a tablespace that is made for the pages that changed.
const NEW_PAGES: u64 = 4;

/// What becomes of the files of tablespaces. Paths are relative to the target.
pub(super) struct Plan<'s> {
    source: &'s Source,
    /// Files that are renamed or removed.
    moves: markers::Plan,
    /// Bytes that removing frees.
    freed: u64,
    /// Files with changed pages.
    pub changed: Vec<Changed<'s>>,
    /// How long files will be, at least, that take no page but page 0 of another one tells.
    pub extended: Option<(PathBuf, u64)>,
}

/// A data file of the target with changed pages.
pub(super) struct Changed<'s> {
    /// Those pages.
    pub delta: &'s Delta,
    /// What the file is called now; `None`: it is made.
    now: Option<PathBuf>,
    /// Bytes that it has.
    present_len: u64,
    /// Bytes that it will have before the log is applied, and where page 0 is until then.
    pub head: Head,
}

impl<'s> Plan<'s> {
    /// Decides, by the names and first pages in the target. Changes nothing. `is_named`: an
    /// earlier run has given all files their names.
    ///
    /// # Errors
    ///
    /// A file that is missing, two files of one tablespace, a table whose page 0 is unusable; what
    /// reading reports.
    pub(super) fn of(work: Work<'_>, source: &'s Source, is_named: bool) -> anyhow::Result<Self> {
        let dir = work.dir;
        let mut plan = Self {
            source,
            moves: markers::Plan::default(),
            freed: 0,
            changed: Vec::new(),
            extended: None,
        };
        let present = Present::find(dir, usize::try_from(source.cnf.page_size)?)?;
        let mut used = BTreeSet::new();
        for delta in &source.changed {
            let now = if is_named {
                Some(delta.target.as_path()).filter(|path| dir.join(path).is_file())
            } else {
                present.base_of(delta)?
            };
            ensure!(
                now.is_some() || !is_named,
                "{} is missing: an earlier run had made it",
                dir.join(&delta.target).display()
            );
            used.extend(now);
            if let Some(now) = now.filter(|now| *now != delta.target) {
                plan.moves.send(now, Some(delta.target.clone()));
            }
            plan.change(dir, delta, now)?;
        }
        for path in present.files.keys().filter(|path| !is_named && !used.contains(path.as_path()))
        {
            plan.moves.send(path, None);
            plan.freed += dir.join(path).metadata().map_or(0, |file| file.len());
        }
        for delta in &source.shared {
            ensure!(
                dir.join(&delta.target).is_file(),
                "Cannot open file {}, of which {} has changed pages: the target is a backup of \
                 another server, or the server has got another tablespace file since",
                dir.join(&delta.target).display(),
                delta.path.display()
            );
            plan.change(dir, delta, Some(&delta.target))?;
        }
        Ok(plan)
    }

    /// Adds a file with changed pages.
    fn change(&mut self, dir: &Path, delta: &'s Delta, now: Option<&Path>) -> anyhow::Result<()> {
        let mut head = match now {
            Some(now) => Head::of(dir.join(now))?,
            None => Head { path: None, offset: 0, len: self.new_len() },
        };
        let present_len = now.map_or(0, |_| head.len);
        if let Some(offset) = delta.page0 {
            let header = delta.header(offset)?;
            let bytes = u64::from(header.size()) * delta.meta.page_size as u64;
            if header.space_id() == SpaceId::SYSTEM {
                let spec = self.source.cnf.data_file_path.files();
                let fixed: u64 =
                    spec.iter().rev().skip(1).map(innodb::datadir::DataFile::size).sum();
                let last = spec.last().map(|file| PathBuf::from(file.name()));
                self.extended = last.map(|last| (last, bytes.saturating_sub(fixed)));
            } else {
                // As with the reference, no file gets shorter.
                head.len = head.len.max(bytes);
            }
            (head.path, head.offset) = (Some(delta.path.clone()), offset);
        }
        let pages = delta.last.map_or(0, |last| u64::from(last.0) + 1);
        head.len = head.len.max(pages * delta.meta.page_size as u64);
        let now = now.map(Path::to_owned);
        self.changed.push(Changed { delta, now, present_len, head });
        Ok(())
    }

    /// Bytes of a tablespace that is made.
    fn new_len(&self) -> u64 {
        NEW_PAGES * u64::from(self.source.cnf.page_size)
    }

    /// The tablespaces as they will be before the log is applied. Changes nothing.
    ///
    /// # Errors
    ///
    /// As of [`Spaces::discover_as`].
    pub(super) fn spaces<'k>(
        &self,
        dir: &Path,
        keys: Option<&'k dyn KeySource>,
    ) -> anyhow::Result<Spaces<'k>> {
        let mut heads: HashMap<&Path, Head> = HashMap::new();
        for changed in &self.changed {
            heads.insert(&changed.delta.target, changed.head.clone());
        }
        for file in &self.source.whole {
            // An earlier run may have copied a part of it.
            heads.insert(&file.target, Head::of(file.path.clone())?);
        }
        let head = |path: &Path, current: &Path| {
            let known = heads.get(path).cloned();
            let mut head = known.map_or_else(|| Head::of(dir.join(current)), Ok)?;
            if let Some((_, len)) = self.extended.as_ref().filter(|(last, _)| last == path) {
                head.len = head.len.max(*len);
            }
            Ok(head)
        };
        let tables = self.changed.iter().filter(|changed| changed.delta.is_of_table());
        let tables = tables.map(|changed| {
            let target = changed.delta.target.as_path();
            (target, changed.now.as_deref().unwrap_or(target))
        });
        let whole = self.source.whole.iter().map(|f| (f.target.as_path(), f.target.as_path()));
        Spaces::discover_as(dir, tables.chain(whole), &self.source.cnf, keys, &head)
    }

    /// Whether each tablespace is that of which there are changed pages, and has those pages.
    ///
    /// # Errors
    ///
    /// It is another one, or has not.
    pub(super) fn check(&self, spaces: &Spaces<'_>) -> anyhow::Result<()> {
        let by_path = spaces.by_path();
        for changed in &self.changed {
            let delta = changed.delta;
            let Some(&(space, index)) = by_path.get(delta.target.as_path()) else { continue };
            delta.check_space(space)?;
            let Some(last) = delta.last else { continue };
            let offset = u64::from(last.0) * delta.meta.page_size as u64;
            let is_known = |page_no: PageNo| space.knows(page_no) || offset < changed.present_len;
            ensure!(
                space.page_at(index, offset).is_some_and(is_known),
                "{} has page {last}, which is behind the end of {}",
                delta.path.display(),
                delta.target.display()
            );
        }
        Ok(())
    }

    /// Whether the file system has room for what the target will have more, as far as that is
    /// known.
    ///
    /// # Errors
    ///
    /// It has not.
    pub(super) fn check_room(&self, dir: &Path, spaces: &Spaces<'_>) -> anyhow::Result<()> {
        let by_path = spaces.by_path();
        let is_sparse = |path: &Path| {
            by_path.get(path).is_some_and(|(space, _)| space.flags.page_compression().is_some())
        };
        let changed = self.changed.iter().filter(|changed| !is_sparse(&changed.delta.target));
        let mut needed: u64 =
            changed.map(|changed| changed.head.len.saturating_sub(changed.present_len)).sum();
        needed += spaces.iter().map(Space::growth).sum::<u64>();
        for file in self.source.whole.iter().filter(|file| !is_sparse(&file.target)) {
            needed += file.path.metadata().map_or(0, |metadata| metadata.len());
        }
        let Ok(free) = rustix::fs::statvfs(dir) else { return Ok(()) };
        let free = free.f_bavail.saturating_mul(free.f_frsize).saturating_add(self.freed);
        if needed > free {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(full).with_context(|| {
                format!(
                    "{} needs {needed} bytes more, of which {free} are free. Nothing was changed",
                    dir.display()
                )
            });
        }
        Ok(())
    }

    /// Gives all files their names, makes and copies those that are not there; durable when it
    /// returns.
    ///
    /// # Errors
    ///
    /// What the system reports; it can be repeated with a plan of its own.
    pub(super) fn name_files(&self, work: Work<'_>) -> anyhow::Result<()> {
        let Work { dir, storage, report, .. } = work;
        self.moves.execute(dir, storage, report)?;
        let zeros = vec![0; usize::try_from(self.new_len())?];
        for changed in self.changed.iter().filter(|changed| changed.now.is_none()) {
            let path = dir.join(&changed.delta.target);
            make_folder(&path)?;
            work.replace(&path, &zeros)?;
        }
        for file in &self.source.whole {
            let path = dir.join(&file.target);
            report.say(format_args!("Copying {} to {}", file.path.display(), path.display()));
            make_folder(&path)?;
            copy(work, &file.path, &path)?;
        }
        work.sync()
    }
}

/// Copies a file in place of another. Neither durable nor in one step.
///
/// # Errors
///
/// What the system reports.
pub(super) fn copy(work: Work<'_>, from: &Path, to: &Path) -> anyhow::Result<()> {
    remove_if_there(work.storage, to)?;
    let copied = work.storage.copy(from, to);
    copied.with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// Makes the folder of a file, if it is not there.
///
/// # Errors
///
/// What the system reports.
pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let made = durable::create_dir_all(folder);
    made.with_context(|| format!("create {}", folder.display())).map(drop)
}

/// The tables of the target.
struct Present {
    /// What page 0 says, by path.
    files: BTreeMap<PathBuf, FirstPage>,
    by_id: HashMap<SpaceId, PathBuf>,
}

/// What page 0 of a table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstPage {
    Of(SpaceId),
    /// Nothing was ever stored there.
    Empty,
    Unusable,
}

impl Present {
    fn find(dir: &Path, page_size: usize) -> anyhow::Result<Self> {
        let plan = markers::Plan::of(dir)?;
        let (mut files, mut by_id) = (BTreeMap::new(), HashMap::new());
        for (path, current) in plan.tables() {
            ensure!(
                path == current,
                "{} is a prepared backup, but has {}, which is not resolved",
                dir.display(),
                current.display()
            );
            let first = first_page(&dir.join(path), page_size)?;
            if let FirstPage::Of(id) = first
                && let Some(other) = by_id.insert(id, path.to_owned())
            {
                bail!("{} and {} are both tablespace {id}", other.display(), path.display());
            }
            files.insert(path.to_owned(), first);
        }
        Ok(Self { files, by_id })
    }

    /// The file whose pages changed; `None`: all pages that it has are among the changed ones.
    fn base_of(&self, delta: &Delta) -> anyhow::Result<Option<&Path>> {
        let same_name = self.files.get_key_value(&delta.target);
        let Some(id) = delta.meta.space_id else {
            let (path, _) = same_name.with_context(|| {
                format!(
                    "Can't handle DDL operation on tablespace {}: what belongs to {} does not tell \
                     its id",
                    delta.target.display(),
                    delta.path.display()
                )
            })?;
            return Ok(Some(path));
        };
        if let Some(path) = self.by_id.get(&id) {
            return Ok(Some(path));
        }
        match same_name {
            Some((path, FirstPage::Unusable)) => {
                ensure!(
                    delta.page0.is_some(),
                    "page 0 of {} is unusable, and {} has no other one",
                    path.display(),
                    delta.path.display()
                );
                Ok(Some(path))
            }
            _ => Ok(None),
        }
    }
}

fn first_page(path: &Path, page_size: usize) -> anyhow::Result<FirstPage> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(page_size as u64).read_to_end(&mut bytes))
        .with_context(|| format!("read {}", path.display()))?;
    Ok(match SpaceHeader::parse(&bytes) {
        Ok(header) => FirstPage::Of(header.space_id()),
        Err(_) if bytes.iter().all(|&byte| byte == 0) => FirstPage::Empty,
        Err(_) => FirstPage::Unusable,
    })
}
