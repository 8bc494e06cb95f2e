//! Positional reads of data files, and the files of the system tablespace as one.

use crate::flags::PageSize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open data file.
#[derive(Debug)]
pub struct TablespaceFile {
    file: File,
}

impl TablespaceFile {
    /// Opens the file for reading.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// Current length in bytes. The server may extend the file or, for undo logs, cut it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The file itself, for hints to the system and its identity.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from byte `offset` on and returns how many bytes it got: fewer than
    /// `buffer` has room for only at the end of the file.
    ///
    /// # Errors
    ///
    /// Those of the system; an interrupted read is repeated.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_fully(buffer, offset, |part, offset| self.file.read_at(part, offset))
    }
}

/// Calls `read` until `buffer` is full or there is nothing more.
fn read_fully(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let position = u64::try_from(filled).ok().and_then(|filled| offset.checked_add(filled));
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        match read(rest, position) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// How the pages of the system tablespace are spread over its files, in their configured order.
/// Every file but the last has a fixed number of pages; the last takes all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFiles {
    page_size: PageSize,
    /// First page of each file.
    starts: Vec<u32>,
}

impl SystemFiles {
    /// Files of `lens` bytes. For a file but the last, its configured length is meant, see
    /// [`DataFile::size`](crate::datadir::DataFile::size); the last length does not matter.
    ///
    /// `None` if there is no file, or if the pages cannot be numbered with 32 bits.
    pub fn new(page_size: PageSize, lens: &[u64]) -> Option<Self> {
        let (_, fixed) = lens.split_last()?;
        let mut starts = vec![0_u32];
        let mut start = 0_u32;
        for &len in fixed {
            start = start.checked_add(page_size.pages_in(len))?;
            starts.push(start);
        }
        Some(Self { page_size, starts })
    }

    /// Index of the file that holds page `page_no`, and the byte offset of the page in it.
    pub fn locate(&self, page_no: u32) -> (usize, u64) {
        // A file may have no page at all: the last of those that start here is meant.
        let index = self.starts.partition_point(|&start| start <= page_no).saturating_sub(1);
        let start = self.starts.get(index).copied().unwrap_or_default();
        (index, self.page_size.offset(page_no - start))
    }

    /// Number of the page at byte `offset` of the file with this index; `None` if there is no such
    /// file or no such page in it.
    pub fn page_no(&self, index: usize, offset: u64) -> Option<u32> {
        let start = *self.starts.get(index)?;
        let pages = offset >> self.page_size.physical().ilog2();
        let page_no = start.checked_add(u32::try_from(pages).ok()?)?;
        let end = self.starts.get(index + 1).copied();
        end.is_none_or(|end| page_no < end).then_some(page_no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn reads_at_offsets_up_to_the_end() {
        let path = format!("{}/testdata/10.11/full_crc32/dynamic.0", env!("CARGO_MANIFEST_DIR"));
        let file = TablespaceFile::open(Path::new(&path)).unwrap();
        assert_eq!(file.len().unwrap(), 16384);
        assert!(!file.is_empty().unwrap());
        let mut flags = [0; 4];
        assert_eq!(file.read_at(&mut flags, 54).unwrap(), 4);
        assert_eq!(flags, [0, 0, 0, 0x15]);
        let mut over = [9; 8];
        assert_eq!(file.read_at(&mut over, 16380).unwrap(), 4);
        assert_eq!(file.read_at(&mut over, 16384).unwrap(), 0);
        assert_eq!(
            TablespaceFile::open(Path::new("/nonexistent/t.ibd")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn short_and_interrupted_reads_go_on() {
        let calls = Cell::new(0);
        let mut buffer = [0; 7];
        let got = read_fully(&mut buffer, 100, |part, offset| {
            calls.set(calls.get() + 1);
            if calls.get() % 2 == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            part[0] = u8::try_from(offset).unwrap();
            Ok(1)
        });
        assert_eq!(got.unwrap(), 7);
        assert_eq!(buffer, [100, 101, 102, 103, 104, 105, 106]);

        let failed = read_fully(&mut buffer, 0, |_, _| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let failed = read_fully(&mut buffer, u64::MAX, |_, _| Ok(1));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn system_pages_are_numbered_across_files() {
        let files = SystemFiles::new(PageSize::DEFAULT, &[12 << 20, 8 << 20, 1]).unwrap();
        assert_eq!(files.locate(0), (0, 0));
        assert_eq!(files.locate(767), (0, 767 * 16384));
        assert_eq!(files.locate(768), (1, 0));
        assert_eq!(files.locate(1279), (1, 511 * 16384));
        assert_eq!(files.locate(1280), (2, 0));
        assert_eq!(files.locate(u32::MAX), (2, u64::from(u32::MAX - 1280) * 16384));

        assert_eq!(files.page_no(0, 0), Some(0));
        assert_eq!(files.page_no(1, 16384), Some(769));
        assert_eq!(files.page_no(0, 12 << 20), None);
        assert_eq!(files.page_no(2, 1 << 30), Some(1280 + 65536));
        assert_eq!(files.page_no(3, 0), None);
        assert_eq!(files.page_no(2, u64::MAX), None);
    }

    #[test]
    fn impossible_system_files() {
        assert_eq!(SystemFiles::new(PageSize::DEFAULT, &[]), None);
        assert_eq!(SystemFiles::new(PageSize::DEFAULT, &[u64::MAX, 1 << 20, 0]), None);
    }
}
