//! Aria: control file, log, pages of tables.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::Context;
use aria::control::correct_last_log_number;
use aria::encrypted::EncryptedPageError;
use aria::log::{FileNo, LogHeader, PAGE_LEN, file_numbers, verify_page};
use aria::table::{FileKind, IndexHeader, PageError};
use innodb::encrypted::KeySource;

use super::directory::{Directory, Kind, read_start};
use super::files::TableFile;
use super::findings::{BadPage, Findings};

/// Bytes read at a time.
const READ: usize = 1 << 20;

/// Checks the control file and every page of the log; returns how many pages that are.
///
/// # Errors
///
/// The folder cannot be listed.
pub(super) fn check_log(directory: &Directory, findings: &Findings) -> anyhow::Result<u64> {
    let dir = directory.aria_dir.as_path();
    let control = directory.name_of(&dir.join(aria::control::FILE_NAME));
    match correct_last_log_number(dir) {
        // Prepare sets it.
        Ok(Some(_)) if matches!(directory.kind, Kind::Raw | Kind::Incremental) => {}
        Ok(None) => {}
        Ok(Some(wrong)) => findings.add(
            &control,
            format_args!(
                "its last log number is {}, that of the newest log file {}: the server would throw \
             away the rows between",
                wrong.from, wrong.to
            ),
        ),
        Err(error) => {
            let error = anyhow::Error::new(error);
            findings.add(&control, format_args!("{error:#}"));
        }
    }
    let numbers = file_numbers(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut pages = 0;
    for (index, no) in numbers.iter().enumerate() {
        let path = dir.join(no.file_name());
        let name = directory.name_of(&path);
        match check_log_file(&path, *no, &name, index + 1 == numbers.len(), findings) {
            Ok(count) => pages += count,
            Err(error) => findings.add(&name, format_args!("it cannot be read: {error}")),
        }
    }
    Ok(pages)
}

fn check_log_file(
    path: &Path,
    no: FileNo,
    name: &str,
    is_last: bool,
    findings: &Findings,
) -> io::Result<u64> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len < PAGE_LEN as u64 && is_last {
        // It was just being made, nothing is in it.
        return Ok(0);
    }
    let mut buffer = vec![0; READ];
    let mut pages = 0;
    // Pages that were made room for and never written are all at the end.
    let mut empty = None;
    let mut at = 0;
    while at < len {
        let wanted = usize::try_from(len - at).unwrap_or(READ).min(READ);
        let bytes = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(bytes, at)?;
        for page in bytes.chunks(PAGE_LEN) {
            let page_no = u32::try_from(pages).unwrap_or(u32::MAX);
            let offset = pages * PAGE_LEN as u64;
            pages += 1;
            let bad = |page_no: u32, offset, what: String| {
                findings.add_page(name, BadPage { space: None, page_no, offset, what });
            };
            if page_no == 0 {
                if let Err(error) = LogHeader::parse(page, no) {
                    bad(page_no, offset, error.to_string());
                }
            } else if page.iter().all(|&byte| byte == 0) {
                empty = empty.or(Some((page_no, offset)));
            } else {
                if let Some((page_no, offset)) = empty.take() {
                    bad(page_no, offset, "the page is empty, and others follow".to_owned());
                }
                if let Err(error) = verify_page(page, no, page_no) {
                    bad(page_no, offset, error.to_string());
                }
            }
        }
        at += wanted as u64;
    }
    Ok(pages)
}

/// Checks the pages of all Aria tables among `files`, in `threads` threads; returns how many pages
/// that are.
pub(super) fn check_tables(
    directory: &Directory,
    files: &[TableFile],
    keys: Option<&dyn KeySource>,
    threads: usize,
    findings: &Findings,
) -> u64 {
    let tables: Vec<_> = files
        .iter()
        .filter(|file| file.path.extension().is_some_and(|extension| extension == "MAI"))
        .collect();
    let (next, pages) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(tables.len()) {
            scope.spawn(|| {
                while let Some(table) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = check_table(directory, &table.path, keys, findings);
                    pages.fetch_add(checked, Ordering::Relaxed);
                }
            });
        }
    });
    pages.into_inner()
}

fn check_table(
    directory: &Directory,
    index: &Path,
    keys: Option<&dyn KeySource>,
    findings: &Findings,
) -> u64 {
    let name = directory.name_of(index);
    let header = match read_start(index) {
        Ok(start) => IndexHeader::parse(&start).map_err(|error| error.to_string()),
        Err(error) => Err(format!("it cannot be read: {error}")),
    };
    let header = match header {
        Ok(header) => header,
        Err(error) => {
            findings.add(&name, error);
            return 0;
        }
    };
    let mut pages = 0;
    for (path, kind) in
        [(index.to_owned(), FileKind::Index), (index.with_extension("MAD"), FileKind::Data)]
    {
        let name = directory.name_of(&path);
        match check_table_file(&path, &header, kind, keys, &name, findings) {
            Ok(count) => pages += count,
            // That it is missing is found elsewhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => findings.add(&name, format_args!("it cannot be read: {error}")),
        }
    }
    pages
}

fn check_table_file(
    path: &Path,
    header: &IndexHeader,
    kind: FileKind,
    keys: Option<&dyn KeySource>,
    name: &str,
    findings: &Findings,
) -> io::Result<u64> {
    if !header.has_checksums() {
        return Ok(0);
    }
    let file = File::open(path)?;
    let len = fs::metadata(path)?.len();
    let block = header.block_size();
    let mut buffer = vec![0; READ];
    let (mut pages, mut at) = (0, 0);
    while at < len {
        let wanted = usize::try_from(len - at).unwrap_or(READ).min(READ / block * block);
        let bytes = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(bytes, at)?;
        for (index, page) in bytes.chunks(block).enumerate() {
            let offset = at + (index * block) as u64;
            let verified = match keys {
                Some(keys) => header.verify_page_with(keys, kind, offset, page),
                None => header.verify_page(kind, offset, page).map_err(EncryptedPageError::from),
            };
            pages += 1;
            let what = match verified {
                Ok(()) => continue,
                Err(EncryptedPageError::Page(PageError::Encrypted)) => {
                    "the page is encrypted, and no keys are given".to_owned()
                }
                Err(error) => error.to_string(),
            };
            let page_no = u32::try_from(offset / block as u64).unwrap_or(u32::MAX);
            findings.add_page(name, BadPage { space: None, page_no, offset, what });
        }
        at += wanted as u64;
    }
    Ok(pages)
}
