//! The tablespaces of a backup by id: their files, and what the log says must become of them.
//!
//! Source of the rules: `fil_space_t`, `Datafile::validate_first_page`, `recv_sys_t::recover_deferred`
//! in 10.11; checked against prepared backups.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::datadir::{DataFilePath, undo_file_name};
use innodb::encrypted::KeySource;
use innodb::page::{ChecksumAlgorithm, Decoded, PageCodec, SpaceContext, verify};
use innodb::space::{EncryptionMetadata, SpaceHeader};
use innodb::tablespace::SystemFiles;
use innodb::{Lsn, PageId, PageNo, PageSize, SpaceFlags, SpaceId};

use super::index::Entry;
use super::markers::Plan;
use super::page::{Log, State, frame_of};
use super::scan::{Scanned, SpaceFacts};
use super::storage::Storage;
use crate::durable;
use crate::metadata::{BackupMyCnf, Info};
use crate::report::Report;

mod follow;

/// A tablespace of this many pages at least has a usable page 0.
const SIZE_MIN: u32 = 4;
/// Files are extended to multiples of this.
const BLOCK: u64 = 4096;

/// A file of a tablespace.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    /// Path in the backup after the moves.
    pub path: PathBuf,
    /// Path in the backup before the moves.
    pub current: PathBuf,
    /// Where its page 0 is.
    head: Head,
    /// Bytes.
    len: u64,
    /// It is not there yet.
    pub is_new: bool,
}

impl DataFile {
    /// Whether the file is there and begins with its page 0: it is not still to be put together.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_new && self.head.offset == 0 && self.head.path.is_some()
    }
}

/// What is known of a data file without its pages.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// In which file its page 0 is; `None`: nowhere yet.
    pub path: Option<PathBuf>,
    /// Where in that.
    pub offset: u64,
    /// Bytes of the data file.
    pub len: u64,
}

impl Head {
    /// Of the data file `path`, as it is.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn of(path: PathBuf) -> anyhow::Result<Self> {
        let len = path.metadata().with_context(|| format!("open {}", path.display()))?.len();
        Ok(Self { path: Some(path), offset: 0, len })
    }

    /// Page 0, as much as is there.
    fn read(&self, page_size: PageSize) -> anyhow::Result<Vec<u8>> {
        match &self.path {
            Some(path) => read_page0(path, self.offset, page_size),
            None => Ok(Vec::new()),
        }
    }

    /// Where page 0 is, for messages.
    fn place(&self) -> String {
        match &self.path {
            Some(path) if self.offset == 0 => format!("page 0 of {}", path.display()),
            Some(path) => format!("page 0 at offset {} of {}", self.offset, path.display()),
            None => "page 0".to_owned(),
        }
    }
}

/// What a tablespace is for; some rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    System,
    Undo,
    Table,
}

/// A tablespace whose pages the log may change.
#[derive(Debug)]
pub(super) struct Space {
    /// Its id.
    pub id: SpaceId,
    kind: Kind,
    /// Files, in the order of their pages.
    pub files: Vec<DataFile>,
    layout: SystemFiles,
    /// Format of its pages.
    pub flags: SpaceFlags,
    /// How its pages are stored now.
    context: SpaceContext,
    /// How they will be stored: the log may change what page 0 says about encryption.
    context_after: SpaceContext,
    /// Whether pages may be encrypted, now or then.
    pub is_encrypted: bool,
    /// The log changes its pages.
    is_changed: bool,
    /// Pages from here on do not exist and cannot be read.
    pub size: u32,
    /// Pages by page 0, at any time.
    declared: u32,
    /// Pages cut off: those from the number on, by mini-transactions that start at the LSN.
    trims: Vec<(Lsn, PageNo)>,
    /// What was logged before is about another file of the same id.
    dropped_at: Option<Lsn>,
    /// New length of the last file in bytes: first cut, then extended.
    cut: Option<u64>,
    extend: Option<u64>,
}

impl Space {
    /// Index of the file that holds a page, and the page's offset in it.
    pub(super) fn locate(&self, page_no: PageNo) -> (usize, u64) {
        self.layout.locate(page_no.0)
    }

    /// Where a page is, for messages.
    pub(super) fn place(&self, dir: &Path, page_no: PageNo) -> String {
        let (index, offset) = self.locate(page_no);
        let path = self.files.get(index).map_or(dir.to_owned(), |file| dir.join(&file.path));
        format!("page {page_no} at offset {offset} of {}", path.display())
    }

    /// Whether the log cut the page off after the mini-transaction that begins at `start`.
    pub(super) fn is_trimmed(&self, page_no: PageNo, start: Lsn) -> bool {
        self.trims
            .iter()
            .any(|&(lsn, first)| (self.kind != Kind::System || page_no >= first) && start < lsn)
            || self.dropped_at.is_some_and(|lsn| start < lsn)
    }

    /// Whether its pages will be read: the log changes them, or they tell the position in the
    /// binary log.
    pub(super) fn is_needed(&self) -> bool {
        self.is_changed || self.kind != Kind::Table
    }

    /// How its pages are stored now.
    pub(super) fn context(&self) -> SpaceContext {
        self.context
    }

    /// The first of the pages that the log cuts off, or builds anew after that; 0: all.
    pub(super) fn first_trimmed(&self) -> Option<PageNo> {
        let first = self.trims.iter().map(|&(_, first)| first).min();
        let first = first.map(|first| if self.kind == Kind::System { first } else { PageNo(0) });
        self.dropped_at.map(|_| PageNo(0)).or(first)
    }

    /// Whether page 0 tells, or told, of the page `page_no`, or the log cuts pages off.
    pub(super) fn knows(&self, page_no: PageNo) -> bool {
        page_no.0 < self.declared || self.has_trims()
    }

    /// The page at `offset` of file `index`.
    pub(super) fn page_at(&self, index: usize, offset: u64) -> Option<PageNo> {
        self.layout.page_no(index, offset).map(PageNo)
    }

    /// Bytes by which the log extends the last file.
    pub(super) fn growth(&self) -> u64 {
        let len = self.files.last().map_or(0, |file| file.len);
        self.extend.map_or(0, |extend| extend.saturating_sub(len))
    }

    /// Whether any pages were cut off.
    pub(super) fn has_trims(&self) -> bool {
        !self.trims.is_empty() || self.dropped_at.is_some()
    }

    /// Decides about the length of the last file.
    fn plan_size(&mut self, facts: &SpaceFacts) -> anyhow::Result<()> {
        let page_size = self.flags.page_size();
        let physical = page_size.physical() as u64;
        let Some((last, fixed)) = self.files.split_last() else {
            bail!("tablespace {} has no file", self.id)
        };
        self.dropped_at = facts.dropped_at;
        let start: u64 = fixed.iter().map(|file| file.len / physical).sum();
        let mut len = last.len;
        if let Some(&(_, page_no)) = facts.trims.last() {
            let size = match self.kind {
                Kind::System => page_no.0,
                Kind::Undo => facts.size.with_context(|| {
                    format!("the log truncates tablespace {} to an unknown size", self.id)
                })?,
                Kind::Table => bail!("the log truncates tablespace {}, a table", self.id),
            };
            let target = u64::from(size).saturating_sub(start) * physical;
            if target < len {
                self.cut = Some(target);
                len = target;
            }
            self.size = size;
            self.trims.clone_from(&facts.trims);
        }
        let pages = start + len / physical;
        if let Some(size) = facts.size {
            self.declared = self.declared.max(size);
            if u64::from(size) > pages {
                let target = (u64::from(size) - start) * physical / BLOCK * BLOCK;
                let target = target.max(u64::from(SIZE_MIN) * page_size.logical() as u64);
                self.extend = (target > len).then_some(target);
            }
            self.size = self.size.max(size);
        }
        self.size = self.size.max(u32::try_from(pages).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Bytes of page 0 that tell how pages are encrypted.
    pub(super) fn encryption_at(&self) -> Range<u32> {
        let start = EncryptionMetadata::offset(self.flags.page_size());
        let at = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        at(start)..at(start + EncryptionMetadata::LEN)
    }

    /// Finds out how pages will be encrypted, if the log changes that: servers encrypt, decrypt
    /// and encrypt with new keys while they run. Pages may already be encrypted of which page 0
    /// does not know yet.
    fn plan_encryption(&mut self, facts: &SpaceFacts, log: Log<'_>) -> anyhow::Result<()> {
        let Some(file) = self.files.first().filter(|_| !facts.page0.is_empty()) else {
            return Ok(());
        };
        let size = self.flags.page_size();
        let mut page0 = file.head.read(size)?;
        page0.resize(size.physical(), 0);
        let (frame, mut runs) = (frame_of(self.flags), log.runs()?);
        let context = || format!("Unable to apply log to {}", file.head.place());
        let is_used = |metadata: &EncryptionMetadata| metadata.scheme != 0;
        let before = EncryptionMetadata::find(&page0, size);
        // Encryption can have begun and ended between, and pages have been copied meanwhile.
        let mut used = before.filter(is_used);
        let mut image = page0.clone();
        for entry in &facts.page0 {
            let entry = std::slice::from_ref(entry);
            State::new().apply(&mut image, entry, &mut runs, frame).with_context(context)?;
            used = used.or_else(|| EncryptionMetadata::find(&image, size).filter(is_used));
        }
        let mut state = State::of_image(&page0);
        state.apply(&mut page0, &facts.page0, &mut runs, frame).with_context(context)?;
        let after = EncryptionMetadata::find(&page0, size);
        self.context_after = self.context.with_encryption(after);
        self.context = self.context.with_encryption(used.or(before).or(after));
        self.is_encrypted |= used.is_some();
        Ok(())
    }

    /// Makes the file that is not there yet.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn create(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
        for file in self.files.iter().filter(|file| file.is_new) {
            let path = dir.join(&file.path);
            let folder = path.parent().unwrap_or(dir);
            durable::create_dir_all(folder)
                .with_context(|| format!("create {}", folder.display()))?;
            storage.create(&path).with_context(|| format!("create {}", path.display()))?;
            storage.sync_dir(folder).with_context(|| format!("sync {}", folder.display()))?;
        }
        Ok(())
    }

    /// Cuts and extends the last file.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn resize(&self, dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
        let Some(last) = self.files.last() else { return Ok(()) };
        if self.cut.is_none() && self.extend.is_none() {
            return Ok(());
        }
        let path = dir.join(&last.path);
        let file = open(&path)?;
        for len in [self.cut, self.extend].into_iter().flatten() {
            // Pages that are compressed leave most of their place to holes.
            let is_sparse = self.flags.page_compression().is_some();
            let done = if is_sparse {
                storage.set_sparse_len(&file, len)
            } else {
                storage.set_len(&file, len)
            };
            done.with_context(|| format!("set the size of {} to {len}", path.display()))?;
        }
        storage.sync(&file).with_context(|| format!("sync {}", path.display()))
    }
}

/// Opens a data file for reading and writing.
pub(super) fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// A file without a usable page 0.
#[derive(Debug)]
struct Unusable {
    file: DataFile,
    kind: Kind,
    /// The id it claims to have.
    id: SpaceId,
    why: String,
    /// Nothing was ever stored where its page 0 is.
    is_empty: bool,
}

/// What is known of the data file that is called so in the end, and so now.
pub(super) type Heads<'h> = &'h dyn Fn(&Path, &Path) -> anyhow::Result<Head>;

/// The tablespaces of a backup.
pub(super) struct Spaces<'k> {
    by_id: HashMap<SpaceId, Space>,
    unusable: Vec<Unusable>,
    /// Of the instance.
    page_size: PageSize,
    algorithm: ChecksumAlgorithm,
    keys: Option<&'k dyn KeySource>,
    encrypts_by_default: bool,
    /// Files are made, renamed and removed as the log says.
    follows_log: bool,
    /// Tablespaces were left out on purpose.
    is_partial: bool,
}

impl<'k> Spaces<'k> {
    /// Looks at every data file of backup `dir`. Changes nothing. `keys`: of encrypted pages.
    ///
    /// # Errors
    ///
    /// Missing or unusable files of the system tablespace, two files of one tablespace, what
    /// reading reports.
    pub(super) fn discover(
        dir: &Path,
        plan: &Plan,
        cnf: &BackupMyCnf,
        keys: Option<&'k dyn KeySource>,
    ) -> anyhow::Result<Self> {
        let head = |_: &Path, current: &Path| Head::of(dir.join(current));
        Self::discover_as(dir, plan.tables(), cnf, keys, &head)
    }

    /// As [`discover`](Self::discover), of files that are still to be put together: `tables` have
    /// their later names and their present ones, and `head` knows more about files of these names.
    ///
    /// # Errors
    ///
    /// As of [`discover`](Self::discover).
    pub(super) fn discover_as<'p>(
        dir: &Path,
        tables: impl Iterator<Item = (&'p Path, &'p Path)>,
        cnf: &BackupMyCnf,
        keys: Option<&'k dyn KeySource>,
        head: Heads<'_>,
    ) -> anyhow::Result<Self> {
        let page_size = usize::try_from(cnf.page_size)
            .ok()
            .and_then(PageSize::uncompressed)
            .with_context(|| format!("innodb_page_size {} is no page size", cnf.page_size))?;
        let algorithm = cnf.checksum_algorithm.parse()?;
        let encrypts_by_default =
            cnf.plugins.as_ref().is_some_and(|plugins| plugins.encrypt_tables != "OFF");
        let mut spaces = Self {
            by_id: HashMap::new(),
            unusable: Vec::new(),
            page_size,
            algorithm,
            keys,
            encrypts_by_default,
            follows_log: false,
            is_partial: false,
        };
        spaces.add_system(dir, &cnf.data_file_path, head)?;
        for n in 1..=127 {
            let name = PathBuf::from(undo_file_name(n));
            if dir.join(&name).exists() {
                spaces.add(&name, &name, Kind::Undo, head)?;
            }
        }
        for (path, current) in tables {
            spaces.add(path, current, Kind::Table, head)?;
        }
        Ok(spaces)
    }

    /// The tablespace `id`.
    pub(super) fn get(&self, id: SpaceId) -> Option<&Space> {
        self.by_id.get(&id)
    }

    /// Whether the file of table `name` has no usable page 0.
    pub(super) fn is_unusable(&self, name: &Path) -> bool {
        self.unusable.iter().any(|file| file.file.path.with_extension("") == name)
    }

    /// Reads the pages of `space`.
    pub(super) fn decoder(&self, space: &Space) -> PageCodec<'k> {
        PageCodec::new(space.context, self.keys)
    }

    /// Writes the pages of `space`.
    pub(super) fn encoder(&self, space: &Space) -> PageCodec<'k> {
        PageCodec::new(space.context_after, self.keys)
            .with_default_encryption(self.encrypts_by_default)
    }

    /// Each file, by its later path, with its tablespace and its index there.
    pub(super) fn by_path(&self) -> HashMap<&Path, (&Space, usize)> {
        let mut files = HashMap::new();
        for space in self.iter() {
            let own = space.files.iter().enumerate();
            files.extend(own.map(|(index, file)| (file.path.as_path(), (space, index))));
        }
        files
    }

    /// A page of the backup `dir` in its plain form.
    ///
    /// # Errors
    ///
    /// A tablespace that is not there, a page that cannot be read or is damaged.
    pub(super) fn read_page(&self, dir: &Path, id: PageId) -> anyhow::Result<Vec<u8>> {
        let space = self.get(id.space);
        let space = space.with_context(|| format!("tablespace {} is not there", id.space))?;
        let (index, offset) = space.locate(id.page_no);
        let path = space.files.get(index).map_or(dir.to_owned(), |file| dir.join(&file.path));
        let context = || format!("read {}", space.place(dir, id.page_no));
        let mut page = vec![0; space.flags.page_size().physical()];
        File::open(&path).and_then(|f| f.read_exact_at(&mut page, offset)).with_context(context)?;
        let mut plain = vec![0; page.len()];
        match self.decoder(space).decode(&page, id.page_no.0, &mut plain).with_context(context)? {
            Decoded::AsStored => Ok(page),
            Decoded::InBuffer => Ok(plain),
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Space> {
        self.by_id.values()
    }

    fn add_system(
        &mut self,
        dir: &Path,
        spec: &DataFilePath,
        head: Heads<'_>,
    ) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for file in spec.files() {
            let path = PathBuf::from(file.name());
            let head = head(&path, &path)?;
            let len = head.len;
            files.push(DataFile { current: path.clone(), path, head, len, is_new: false });
        }
        for (file, spec) in files.iter_mut().zip(spec.files()).rev().skip(1) {
            ensure!(
                file.len >= spec.size(),
                "{} has {} bytes, less than the {} of innodb_data_file_path",
                dir.join(&file.path).display(),
                file.len,
                spec.size()
            );
            file.len = spec.size();
        }
        let first = files.first().context("innodb_data_file_path names no file")?;
        let page0 = first.head.read(self.page_size)?;
        let header = self
            .check_page0(&page0)
            .with_context(|| format!("{} is unusable", first.head.place()))?;
        ensure!(
            header.space_id() == SpaceId::SYSTEM,
            "{} belongs to tablespace {}",
            dir.join(&first.path).display(),
            header.space_id()
        );
        self.insert(Kind::System, files, &header)
    }

    fn add(
        &mut self,
        path: &Path,
        current: &Path,
        kind: Kind,
        head: Heads<'_>,
    ) -> anyhow::Result<()> {
        let head = head(path, current)?;
        let page0 = head.read(self.page_size)?;
        let (path, current, len) = (path.to_owned(), current.to_owned(), head.len);
        let file = DataFile { path, current, head, len, is_new: false };
        match self.check_page0(&page0) {
            Ok(header) if header.space_id() != SpaceId::SYSTEM => {
                self.insert(kind, vec![file], &header)
            }
            Ok(_) => bail!("{} claims to be the system tablespace", file.head.place()),
            Err(error) => {
                let id = innodb::page::Page::new(&page0).map_or(0, |page| page.space_id().0);
                let why = format!("{error:#}");
                let is_empty = page0.iter().all(|&byte| byte == 0);
                self.unusable.push(Unusable { file, kind, id: SpaceId(id), why, is_empty });
                Ok(())
            }
        }
    }

    fn check_page0(&self, page0: &[u8]) -> anyhow::Result<SpaceHeader> {
        let header = SpaceHeader::parse(page0)?;
        let size = header.flags().page_size();
        ensure!(
            size.logical() == self.page_size.logical(),
            "its page size is {}, that of the server {}",
            size.logical(),
            self.page_size.logical()
        );
        let context = SpaceContext::new(&header, self.algorithm);
        verify(page0.get(..size.physical()).unwrap_or_default(), 0, &context)?;
        Ok(header)
    }

    fn insert(
        &mut self,
        kind: Kind,
        files: Vec<DataFile>,
        header: &SpaceHeader,
    ) -> anyhow::Result<()> {
        let id = header.space_id();
        let flags = header.flags();
        let lens: Vec<u64> = files.iter().map(|file| file.len).collect();
        let layout = SystemFiles::new(flags.page_size(), &lens)
            .with_context(|| format!("tablespace {id} is too large"))?;
        if let (Some(other), [file, ..]) = (self.by_id.get(&id), files.as_slice()) {
            bail!(
                "{} and {} are both tablespace {id}",
                other.files.first().map_or(Path::new(""), |file| &file.path).display(),
                file.path.display()
            );
        }
        let pages: u64 = lens.iter().map(|len| len / flags.page_size().physical() as u64).sum();
        let space = Space {
            id,
            kind,
            files,
            layout,
            flags,
            context: SpaceContext::new(header, self.algorithm),
            context_after: SpaceContext::new(header, self.algorithm),
            is_encrypted: header.encryption().is_some_and(|metadata| metadata.scheme != 0),
            size: header.size().max(u32::try_from(pages).unwrap_or(u32::MAX)),
            declared: header.size(),
            is_changed: false,
            trims: Vec::new(),
            dropped_at: None,
            cut: None,
            extend: None,
        };
        self.by_id.insert(id, space);
        Ok(())
    }

    /// Decides about every tablespace in the log of the backup in `dir`. Changes nothing.
    ///
    /// # Errors
    ///
    /// A tablespace that the log never explains, a file that can be neither used nor rebuilt, page
    /// formats that are not supported.
    pub(super) fn resolve(
        &mut self,
        dir: &Path,
        scanned: &Scanned,
        log: Log<'_>,
        report: &Report,
    ) -> anyhow::Result<()> {
        let mut ids: Vec<_> = scanned.spaces.iter().filter(|(_, facts)| facts.has_pages).collect();
        ids.sort_by_key(|&(id, _)| *id);
        let owners = owners(scanned);
        self.is_partial = Info::is_partial(dir)?;
        for (&id, facts) in ids {
            if !self.by_id.contains_key(&id) {
                self.find_or_ignore(id, facts, &owners, log, report)?;
            }
            let Some(space) = self.by_id.get_mut(&id) else { continue };
            let path = space.files.first().map_or(Path::new(""), |file| &file.path).display();
            if facts.is_deleted {
                // The reference leaves such a file as it is.
                report.detail(format_args!("{path} was dropped; its redo log is ignored"));
                self.by_id.remove(&id);
                continue;
            }
            space.plan_size(facts)?;
            space.is_changed = true;
            space.plan_encryption(facts, log)?;
        }
        self.check_unexplained(scanned, report)
    }

    /// A tablespace of the log for which no file was found by its id.
    fn find_or_ignore(
        &mut self,
        id: SpaceId,
        facts: &SpaceFacts,
        owners: &HashMap<PathBuf, SpaceId>,
        log: Log<'_>,
        report: &Report,
    ) -> anyhow::Result<()> {
        if facts.is_deleted {
            return Ok(());
        }
        let named = facts.name.as_ref().map(|(_, name)| path_in_backup(name));
        let position = match &named {
            Some(path) => self
                .unusable
                .iter()
                .position(|unusable| unusable.file.path == *path && owners.get(path) == Some(&id)),
            None => self.unusable.iter().position(|u| u.kind == Kind::Undo && u.id == id),
        };
        if let Some(position) = position {
            return self.rebuild(position, id, facts, log, report);
        }
        let Some(path) = named else {
            bail!(
                "Missing FILE_CREATE, FILE_DELETE or FILE_MODIFY before FILE_CHECKPOINT for \
                 tablespace {id}: the log changes it, but does not name it, and it is in no file \
                 of the backup"
            );
        };
        if self.follows_log {
            return self.make(path, id, facts, owners, log, report);
        }
        let name = path.display().to_string();
        if self.is_partial {
            report.detail(format_args!(
                "tablespace {id} ({name}) is not in this partial backup; its redo log is ignored"
            ));
        } else if !name.contains("/#sql") {
            report.say(format_args!(
                "Warning: tablespace {id} ({name}) is not in the backup. All redo log for it is \
                 ignored."
            ));
        }
        Ok(())
    }

    /// Builds page 0 from the log for a file that was copied before it was written.
    fn rebuild(
        &mut self,
        position: usize,
        id: SpaceId,
        facts: &SpaceFacts,
        log: Log<'_>,
        report: &Report,
    ) -> anyhow::Result<()> {
        let Some(unusable) = self.unusable.get(position) else { return Ok(()) };
        let path = unusable.file.path.display();
        if facts.page0.is_empty() {
            report.say(format_args!(
                "Warning: {path} is unusable ({}); the log does not change its page 0, so the file \
                 is ignored.",
                unusable.why
            ));
            return Ok(());
        }
        let cannot = || format!("Cannot apply log to {path} of corrupted file ({})", unusable.why);
        let header = self.page0_of_log(id, facts, log, &cannot)?;
        report.detail(format_args!("{path} is rebuilt from the redo log"));
        let unusable = self.unusable.swap_remove(position);
        self.insert(unusable.kind, vec![unusable.file], &header)
    }

    /// Page 0 of a tablespace as the log builds it. `cannot`: what to say if it does not.
    fn page0_of_log(
        &self,
        id: SpaceId,
        facts: &SpaceFacts,
        log: Log<'_>,
        cannot: &dyn Fn() -> String,
    ) -> anyhow::Result<SpaceHeader> {
        ensure!(facts.page0.first().is_some_and(Entry::is_init), cannot());
        let default = SpaceFlags::full_crc32(self.page_size).raw();
        let flags = SpaceFlags::parse(facts.flags.unwrap_or(default)).with_context(cannot)?;
        let mut image = vec![0; flags.page_size().physical()];
        let mut state = State::new();
        state
            .apply(&mut image, &facts.page0, &mut log.runs()?, frame_of(flags))
            .with_context(cannot)?;
        let header = SpaceHeader::parse(&image).with_context(cannot)?;
        // Flags that are 0 need not be written.
        let size = header.flags().page_size();
        ensure!(
            size.physical() == image.len() && size.logical() == self.page_size.logical(),
            cannot()
        );
        ensure!(header.space_id() == id && header.size() >= SIZE_MIN, cannot());
        Ok(header)
    }

    /// A file without a page 0 is fine if the log names it: its table was just being created.
    fn check_unexplained(&self, scanned: &Scanned, report: &Report) -> anyhow::Result<()> {
        let names: std::collections::HashSet<PathBuf> = scanned
            .spaces
            .values()
            .filter_map(|facts| Some(path_in_backup(&facts.name.as_ref()?.1)))
            .collect();
        for unusable in &self.unusable {
            let path = unusable.file.path.display();
            if !names.contains(&unusable.file.path) {
                if unusable.is_empty {
                    report.say(format_args!("Warning: {path} holds nothing; left as it is."));
                    continue;
                }
                bail!("page 0 of {path} is unusable: {}", unusable.why);
            }
            report.detail(format_args!("{path} is ignored: {}", unusable.why));
        }
        Ok(())
    }
}

/// Of the tablespaces that had a name, the one that has it at the end.
fn owners(scanned: &Scanned) -> HashMap<PathBuf, SpaceId> {
    let mut owners = HashMap::<PathBuf, (Lsn, SpaceId)>::new();
    for (&id, facts) in &scanned.spaces {
        let Some((lsn, name)) = facts.name.as_ref().filter(|_| !facts.is_deleted) else { continue };
        let owner = owners.entry(path_in_backup(name)).or_insert((*lsn, id));
        *owner = (*owner).max((*lsn, id));
    }
    owners.into_iter().map(|(path, (_, id))| (path, id)).collect()
}

/// `db/table.ibd` of the name that the server used, which may begin with any folder.
pub(super) fn path_in_backup(name: &[u8]) -> PathBuf {
    let mut parts = name.rsplitn(3, |&b| b == b'/');
    let (file, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let part = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
    part(folder).join(part(file))
}

/// The bytes of a file from `offset` on, as many as the largest page 0 can have.
fn read_page0(path: &Path, offset: u64, page_size: PageSize) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut page0 = vec![0; page_size.logical()];
    let mut filled = 0;
    while let Some(rest) = page0.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = file.read_at(rest, offset + filled as u64);
        match read.with_context(|| format!("read {}", path.display()))? {
            0 => break,
            len => filled += len,
        }
    }
    page0.truncate(filled);
    Ok(page0)
}
