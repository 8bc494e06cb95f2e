//! Which data files there are, and how their pages are stored.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use innodb::datadir::{list_tablespaces, undo_file_name};
use innodb::doublewrite::{Doublewrite, TRX_SYS_PAGE_NO};
use innodb::encrypted::KeySource;
use innodb::page::{ChecksumAlgorithm, Decoded, PageCodec, SpaceContext};
use innodb::space::{SpaceHeader, SpaceHeaderError};
use innodb::{SpaceId, rollback};

use super::directory::{Directory, Kind, read_start};
use super::findings::Findings;
use super::redo_log::RedoLog;
use crate::prepare::outlook;

/// A data file whose pages are to be checked.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// In messages.
    pub name: String,
    /// Bytes that hold pages.
    pub len: u64,
    /// Number of its first page.
    pub first_page: u32,
    /// How its pages are stored.
    pub context: SpaceContext,
}

/// All data files.
#[derive(Debug, Default)]
pub(super) struct Tablespaces {
    /// Those whose pages can be checked.
    pub files: Vec<DataFile>,
    /// Tablespaces of tables there are, `DATABASE/TABLE.ibd`, whatever their state.
    pub tables: HashSet<PathBuf>,
}

/// What is needed to look at data files.
pub(super) struct Lister<'a> {
    /// Where.
    pub directory: &'a Directory,
    /// What the log knows.
    pub redo: &'a RedoLog,
    /// Keys of encrypted pages.
    pub keys: Option<&'a dyn KeySource>,
    /// Where findings go.
    pub findings: &'a Findings,
}

impl Lister<'_> {
    /// Finds all data files.
    ///
    /// # Errors
    ///
    /// Folders that cannot be listed, markers of renamed tables that contradict each other.
    pub(super) fn list(&self) -> anyhow::Result<Tablespaces> {
        let mut spaces = Tablespaces::default();
        let trx_sys = self.system(&mut spaces);
        self.undo(&mut spaces, trx_sys.as_deref());
        for (target, path) in self.table_files()? {
            let path = self.directory.dir.join(path);
            self.single(&mut spaces, &path);
            spaces.tables.insert(target);
        }
        Ok(spaces)
    }

    /// The files of tables: what they are or will be called, and where they are.
    fn table_files(&self) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        match self.directory.kind {
            Kind::Raw | Kind::Prepared => outlook::table_files(&self.directory.dir),
            Kind::Incremental => Ok(Vec::new()),
            Kind::DataDirectory => {
                let found = list_tablespaces(&self.directory.dir)?;
                let there = found.into_iter().filter(|file| file.identity.is_some());
                let named = there.map(|file| {
                    let mut name = file.table;
                    name.push(".ibd");
                    (Path::new(&file.database).join(name), file.path)
                });
                Ok(named.collect())
            }
        }
    }

    fn algorithm(&self) -> ChecksumAlgorithm {
        let told = self.directory.cnf.as_ref().map(|cnf| cnf.checksum_algorithm.parse());
        told.and_then(Result::ok).unwrap_or(ChecksumAlgorithm::Crc32)
    }

    fn context(&self, header: &SpaceHeader) -> SpaceContext {
        let context = SpaceContext::new(header, self.algorithm());
        // In a running server, an import gives the pages their new id one by one.
        match self.directory.kind {
            Kind::Raw => context,
            _ => context.with_space_id_checked(),
        }
    }

    /// The system tablespace; returns its `TRX_SYS` page.
    fn system(&self, spaces: &mut Tablespaces) -> Option<Vec<u8>> {
        let files = &self.directory.system_files;
        if self.directory.kind == Kind::Incremental {
            return None;
        }
        let mut lens = Vec::new();
        for (number, (path, size)) in files.iter().enumerate() {
            let name = self.directory.name_of(path);
            match fs::metadata(path) {
                Err(error) => self.findings.add(&name, missing(&error)),
                Ok(metadata) if number + 1 < files.len() && metadata.len() < *size => {
                    self.findings.add(
                        &name,
                        format_args!(
                            "it has {} bytes, less than the {size} of innodb_data_file_path",
                            metadata.len()
                        ),
                    );
                    lens.push(metadata.len());
                }
                Ok(_) if number + 1 < files.len() => lens.push(*size),
                Ok(metadata) => lens.push(metadata.len()),
            }
        }
        let (path, _) = files.first()?;
        let name = self.directory.name_of(path);
        let start = read_start(path).ok()?;
        let header = match SpaceHeader::parse(&start) {
            Ok(header) => header,
            Err(error) => {
                self.findings.add(&name, format_args!("page 0 is unusable: {error}"));
                return None;
            }
        };
        if lens.len() != files.len() {
            return None;
        }
        let outlook = self.redo.outlook.as_ref().and_then(|outlook| {
            outlook.space(path.strip_prefix(&self.directory.dir).unwrap_or(path))
        });
        let context = outlook.map_or_else(|| self.context(&header), |outlook| outlook.context);
        let page_size = header.flags().page_size();
        let trx_sys = read_page(path, TRX_SYS_PAGE_NO, &context, self.keys);
        let area = trx_sys.as_ref().and_then(|page| Doublewrite::parse(page, page_size).ok());
        let context = area.map_or(context, |area| context.with_doublewrite(area));
        let mut first_page = 0;
        for ((path, _), len) in files.iter().zip(&lens) {
            let name = self.directory.name_of(path);
            spaces.files.push(DataFile {
                path: path.clone(),
                name,
                len: *len,
                first_page,
                context,
            });
            first_page += page_size.pages_in(*len);
        }
        let last = files.last().map_or_else(String::new, |(path, _)| self.directory.name_of(path));
        if outlook.is_none_or(|outlook| !outlook.is_cut && outlook.pages <= first_page) {
            self.check_size(&last, &header, first_page);
        }
        trx_sys
    }

    /// Undo tablespaces: those that are there, and those that rollback segments are in.
    fn undo(&self, spaces: &mut Tablespaces, trx_sys: Option<&[u8]>) {
        if self.directory.kind == Kind::Incremental {
            return;
        }
        let mut ids = Vec::new();
        for number in 1..=127 {
            let path = self.directory.undo_dir.join(undo_file_name(number));
            if path.symlink_metadata().is_ok() {
                let id = self.single(spaces, &path);
                ids.push((number, id));
            }
        }
        let mut needed: Vec<u32> = trx_sys
            .into_iter()
            .flat_map(rollback::segments)
            .map(|segment| segment.space.0)
            .filter(|&space| space != SpaceId::SYSTEM.0)
            .collect();
        needed.sort_unstable();
        needed.dedup();
        // Their ids follow each other.
        let first = ids.iter().find_map(|(number, id)| id.map(|id| id.0 + 1 - number));
        let first = first.or_else(|| needed.first().copied());
        for id in needed {
            let number = first.and_then(|first| (id + 1).checked_sub(first)).unwrap_or(id);
            if !ids
                .iter()
                .any(|(known, found)| *known == number || found.is_some_and(|f| f.0 == id))
            {
                let path = self.directory.undo_dir.join(undo_file_name(number));
                self.findings.add(
                    &self.directory.name_of(&path),
                    format_args!("it is missing: rollback segments are in undo tablespace {id}"),
                );
            }
        }
    }

    /// A tablespace of one file; returns its id.
    fn single(&self, spaces: &mut Tablespaces, path: &Path) -> Option<SpaceId> {
        let relative = path.strip_prefix(&self.directory.dir).unwrap_or(path);
        let name = self.directory.name_of(path);
        let read = fs::metadata(path).and_then(|metadata| Ok((metadata.len(), read_start(path)?)));
        let (len, start) = match read {
            Ok(read) => read,
            Err(error) => {
                self.findings.add(&name, missing(&error));
                return None;
            }
        };
        let mut push = |context| {
            let path = path.to_owned();
            spaces.files.push(DataFile { path, name: name.clone(), len, first_page: 0, context });
        };
        let outlook = self.redo.outlook.as_ref().and_then(|outlook| outlook.space(relative));
        let header = match (SpaceHeader::parse(&start), outlook) {
            (Ok(header), _) => header,
            (Err(_), Some(outlook)) => {
                push(outlook.context);
                return Some(outlook.context.space_id());
            }
            (Err(error), None) => {
                // What the server had created, but not written yet.
                let is_unwritten =
                    matches!(error, SpaceHeaderError::Zero | SpaceHeaderError::TooShort { .. })
                        && start.iter().all(|&byte| byte == 0);
                if !is_unwritten || !self.redo.names.contains(&in_backup(relative)) {
                    self.findings.add(&name, format_args!("page 0 is unusable: {error}"));
                }
                return None;
            }
        };
        let pages = header.flags().page_size().pages_in(len);
        push(outlook.map_or_else(|| self.context(&header), |outlook| outlook.context));
        // The log cuts and extends files.
        if outlook
            .is_none_or(|outlook| !outlook.is_cut && outlook.pages <= pages.max(header.size()))
        {
            self.check_size(&name, &header, pages);
        }
        Some(header.space_id())
    }

    /// A file has all pages that page 0 tells of, but for the last ones where they are so small
    /// that several make a block of the file system.
    fn check_size(&self, name: &str, header: &SpaceHeader, pages: u32) {
        let block_pages = 4096 / header.flags().page_size().physical().min(4096);
        let lacking = header.size().saturating_sub(pages);
        if usize::try_from(lacking).unwrap_or(usize::MAX) >= block_pages && lacking > 0 {
            self.findings.add(
                name,
                format_args!(
                    "it ends too early: it has {pages} pages, and page 0 tells of {}",
                    header.size()
                ),
            );
        }
    }
}

/// `DATABASE/TABLE.ibd`
fn in_backup(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(Path::file_name).unwrap_or(OsStr::new(""));
    Path::new(folder).join(path.file_name().unwrap_or_default()).with_extension("ibd")
}

fn missing(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it is missing".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// A page in its plain form, if it is good.
fn read_page(
    path: &Path,
    page_no: u32,
    context: &SpaceContext,
    keys: Option<&dyn KeySource>,
) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let size = context.flags().page_size();
    let (mut page, mut plain) = (vec![0; size.physical()], vec![0; size.physical()]);
    fs::File::open(path).ok()?.read_exact_at(&mut page, size.offset(page_no)).ok()?;
    match PageCodec::new(*context, keys).decode(&page, page_no, &mut plain).ok()? {
        Decoded::AsStored => Some(page),
        Decoded::InBuffer => Some(plain),
    }
}
