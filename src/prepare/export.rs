//! `--export`: a `.cfg` file beside the tablespace of each table, so that a server can import it.
//!
//! An import takes every row for committed, and leaves out those that are marked as deleted. So a
//! table is exported as it is only if nothing is to be rolled back in it, nothing waits to be
//! purged or is in the change buffer. For the others a server of the same series does what is left
//! to do, and writes their files: [`server`].

mod server;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow, bail};
use innodb::cfg::{self, Export, InstantColumns, InstantMetadata};
use innodb::dictionary::definitions::{self, TableDefinition};
use innodb::index_page::IndexPage;
use innodb::undo::{self, UndoneTables};
use innodb::{PageId, PageNo, SpaceId, change_buffer};
use mdl::frm;

use super::markers::Plan;
use super::spaces::{Space, Spaces};
use crate::durable;
use crate::hint::WithHint;
use crate::keys_source;
use crate::metadata::{BackupMyCnf, exported};
use crate::options::PrepareOptions;
use crate::report::Report;
use crate::threads::in_threads;

/// Ids of the tables of the dictionary itself.
const DICTIONARY: std::ops::RangeInclusive<u64> = 1..=4;
/// Flag of an index: corrupted.
const CORRUPTED: u32 = 16;
/// Longest description of instantly changed columns: each has 2 bytes, and a table 1023 of them.
const BLOB_MAX: u64 = 1 << 16;

/// Why a table cannot be exported as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Dictionary,
    Prepared,
    Open,
    Unpurged,
    Buffered,
    Index,
}

impl Obstacle {
    fn in_words(self) -> &'static str {
        match self {
            Self::Dictionary => "a transaction that changed definitions is to be rolled back",
            Self::Prepared => "a prepared transaction (XA) is neither committed nor rolled back",
            Self::Open => "changes are to be rolled back",
            Self::Unpurged => "deleted rows are to be purged",
            Self::Buffered => "changes of indexes are in the change buffer",
            Self::Index => "an index is unfinished or corrupted",
        }
    }
}

/// A table, or partition, that is to be exported.
struct Exported<'a> {
    name: &'a [u8],
    table: &'a TableDefinition,
    space: &'a Space,
    /// Relative to the backup.
    file: &'a Path,
}

/// Writes the files of all tables of the prepared backup in `options.target_dir`.
///
/// # Errors
///
/// Tables that need a server, where none is found; pages that cannot be read; what the server or
/// the system reports.
pub(super) fn run(options: &PrepareOptions, report: &Report) -> anyhow::Result<()> {
    let dir = options.target_dir.as_path();
    let cnf = BackupMyCnf::read(dir)?;
    let keys = keys_source::open(cnf.plugins.as_ref(), &options.keys)?;
    let plan = Plan::of(dir)?;
    let spaces = Spaces::discover(dir, &plan, &cnf, keys.as_deref())?;
    // If a server was interrupted, its log is to be applied, which only a server can do.
    if exported::is_marked(dir) {
        let files = spaces.iter().filter_map(|space| space.files.first());
        let files = files.map(|file| file.path.clone());
        let mut files: Vec<PathBuf> = files.filter(|file| is_exported(dir, file)).collect();
        files.sort();
        return server::export(options, &files, report);
    }
    let mut read = |id: PageId| spaces.read_page(dir, id);
    let read: &mut dyn FnMut(PageId) -> anyhow::Result<Vec<u8>> = &mut read;
    let dictionary = definitions::read(read).context("read InnoDB's dictionary")?;
    let undone = undo::tables(read).context("read the undo logs")?;
    let buffered = change_buffer::spaces(read).context("read the change buffer")?;
    let work = Work { dir, spaces: &spaces, undone, buffered, page_size: cnf.page_size };

    let tables = work.tables(&dictionary);
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = options.parallel.map_or_else(processors, NonZeroUsize::get);
    let left = Mutex::new(Vec::new());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    in_threads(threads, &tables, |_, exported| {
        let context = || format!("export {}", exported.file.display());
        if let Some(obstacle) = work.obstacle(exported).with_context(context)? {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push((exported.file.to_owned(), obstacle));
            return Ok(());
        }
        let text = work.render(exported, &host).with_context(context)?;
        let path = dir.join(exported.file.with_extension("cfg"));
        durable::write_atomically(&path, &text)
            .with_context(|| format!("write {}", path.display()))?;
        report.detail(format_args!("Exported {}", exported.file.display()));
        Ok(())
    })?;
    let mut left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
    left.sort();
    if let Some((file, _)) = left.iter().find(|(_, obstacle)| *obstacle == Obstacle::Prepared) {
        let (file, why) = (file.display(), Obstacle::Prepared.in_words());
        return Err(anyhow!("{file} cannot be exported: {why}")).hint(
            "commit or roll back what XA RECOVER lists on the server and take the backup again, or \
             restore the backup and do it there",
        );
    }
    report.say(format_args!("Exported {} tables.", tables.len() - left.len()));
    if left.is_empty() {
        return Ok(());
    }
    for (file, obstacle) in &left {
        report.say(format_args!(
            "A server is needed to export {}: {}.",
            file.display(),
            obstacle.in_words()
        ));
    }
    let files: Vec<PathBuf> = left.into_iter().map(|(file, _)| file).collect();
    server::export(options, &files, report)
}

/// What is known of the backup.
struct Work<'a> {
    dir: &'a Path,
    spaces: &'a Spaces<'a>,
    undone: UndoneTables,
    /// Tablespaces with changes in the change buffer.
    buffered: HashSet<u32>,
    page_size: u32,
}

impl<'a> Work<'a> {
    /// The tables with a tablespace in the backup; as there, without those with DATA DIRECTORY.
    fn tables(&self, dictionary: &'a BTreeMap<Vec<u8>, TableDefinition>) -> Vec<Exported<'a>> {
        let exported = |(name, table): (&'a Vec<u8>, &'a TableDefinition)| {
            let space = self.spaces.get(SpaceId(table.space)).filter(|_| table.space != 0)?;
            let file = &space.files.first()?.path;
            let is_its = file.with_extension("").as_os_str().as_bytes() == name.as_slice();
            let is_known = is_its && is_exported(self.dir, file);
            is_known.then_some(Exported { name, table, space, file })
        };
        dictionary.iter().filter_map(exported).collect()
    }

    fn obstacle(&self, exported: &Exported<'_>) -> anyhow::Result<Option<Obstacle>> {
        let Exported { table, space, .. } = exported;
        let is_bad = table.has_unfinished_index
            || table.indexes.iter().any(|index| index.kind & CORRUPTED != 0);
        Ok(if self.undone.prepared.contains(&table.id) {
            Some(Obstacle::Prepared)
        } else if DICTIONARY.into_iter().any(|id| self.undone.open.contains(&id)) {
            Some(Obstacle::Dictionary)
        } else if self.undone.open.contains(&table.id) {
            Some(Obstacle::Open)
        } else if self.buffered.contains(&space.id.0) {
            Some(Obstacle::Buffered)
        } else if is_bad {
            Some(Obstacle::Index)
        } else if self.undone.history.contains(&table.id) && self.has_deleted_records(space)? {
            Some(Obstacle::Unpurged)
        } else {
            None
        })
    }

    /// Whether anything is left to be purged. The undo logs also tell of what was purged already:
    /// they are cut off later.
    fn has_deleted_records(&self, space: &Space) -> anyhow::Result<bool> {
        // Their records are compressed.
        if space.flags.is_row_compressed() {
            return Ok(true);
        }
        let found =
            self.find_page(space, |page| page.level() == 0 && page.has_deleted_records())?;
        Ok(found.is_some())
    }

    /// The first page of an index for which `is_wanted` says so.
    fn find_page(
        &self,
        space: &Space,
        is_wanted: impl Fn(IndexPage<'_>) -> bool,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        for page_no in 0..space.size {
            let id = PageId { space: space.id, page_no: PageNo(page_no) };
            let page = self.spaces.read_page(self.dir, id)?;
            if IndexPage::new(&page).is_some_and(&is_wanted) {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn render(&self, exported: &Exported<'_>, host: &str) -> anyhow::Result<Vec<u8>> {
        let Exported { name, table, space, file } = exported;
        let index = table.indexes.first().context("the dictionary has no index of it")?;
        let root_id = PageId { space: space.id, page_no: PageNo(index.root) };
        let root = self.spaces.read_page(self.dir, root_id)?;
        let page = IndexPage::new(&root).filter(|page| page.index_id() == index.id);
        let page = page.with_context(|| format!("page {root_id} is not the root of its rows"))?;
        let export = Export {
            host,
            name,
            page_size: self.page_size,
            auto_increment: match (self.has_auto_increment(file)?, page.auto_increment()) {
                (Some(false), _) | (None, 0) => 0,
                (_, last) => last + 1,
            },
            instant: if page.is_instant() { self.instant_columns(exported, page)? } else { None },
        };
        Ok(cfg::render(table, &export)?)
    }

    /// What the description of the table says; `None` without one.
    fn has_auto_increment(&self, file: &Path) -> anyhow::Result<Option<bool>> {
        let bytes = file.as_os_str().as_bytes();
        let end = bytes.windows(3).position(|part| part == b"#P#" || part == b"#i#");
        let stem = match end.and_then(|end| bytes.get(..end)) {
            Some(stem) => PathBuf::from(std::ffi::OsStr::from_bytes(stem)),
            None => file.with_extension(""),
        };
        let mut path = self.dir.join(stem).into_os_string();
        path.push(".frm");
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            bytes => {
                let path = Path::new(&path);
                let bytes = bytes.with_context(|| format!("read {}", path.display()))?;
                Ok(Some(
                    frm::has_auto_increment(&bytes).with_context(|| path.display().to_string())?,
                ))
            }
        }
    }

    fn instant_columns(
        &self,
        exported: &Exported<'_>,
        root: IndexPage<'_>,
    ) -> anyhow::Result<Option<InstantColumns>> {
        let space = exported.space;
        let index_id = root.index_id();
        let found;
        let first_leaf = if root.level() == 0 {
            root
        } else {
            let is_first = |page: IndexPage<'_>| {
                page.index_id() == index_id && page.level() == 0 && page.prev().is_none()
            };
            found = self.find_page(space, is_first)?.unwrap_or_default();
            IndexPage::new(&found).context("the first page of its rows is missing")?
        };
        let metadata = cfg::instant_metadata(exported.table, first_leaf)
            .context("its columns that were changed instantly are not understood")?;
        let InstantMetadata::Blob { mut page_no, len } = metadata else { return Ok(None) };
        if len > BLOB_MAX {
            bail!("the description of its columns has {len} bytes");
        }
        let mut blob = Vec::new();
        while (blob.len() as u64) < len {
            let page = self
                .spaces
                .read_page(self.dir, PageId { space: space.id, page_no: PageNo(page_no) })?;
            let (part, next) = cfg::blob_part(&page)
                .filter(|(part, _)| !part.is_empty())
                .context("the description of its columns is missing")?;
            blob.extend(part);
            page_no = next;
        }
        let columns = InstantColumns::parse(&blob);
        columns.context("the description of its columns is damaged").map(Some)
    }
}

/// Whether the file is the tablespace of a table or partition that SQL knows, and that has no link
/// (DATA DIRECTORY).
fn is_exported(dir: &Path, file: &Path) -> bool {
    let is_table = file.extension() == Some("ibd".as_ref()) && file.components().count() == 2;
    let name = file.file_name().unwrap_or_default().as_bytes();
    let is_auxiliary = name
        .strip_prefix(b"FTS_")
        .is_some_and(|rest| rest.get(..16).is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit)));
    let is_hidden = is_auxiliary || name.starts_with(b"#sql");
    is_table && !is_hidden && !dir.join(file.with_extension("isl")).exists()
}
