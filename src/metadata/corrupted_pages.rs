//! `innodb_corrupted_pages`: pages that were damaged when they were copied
//! (`--log-innodb-page-corruption`), and after `--prepare` those that still are.
//!
//! ```text
//! test/t 5    table, or file of the system or an undo tablespace; id of the tablespace
//! 10 30       its pages
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, anyhow, ensure};
use innodb::{PageId, PageNo, SpaceId};

use crate::hint::WithHint;

/// Name of the file in the backup's directory.
pub const NAME: &str = "innodb_corrupted_pages";
/// Longest file that is read: twenty million pages.
const MAX_LEN: u64 = 128 << 20;
/// Pages that a message names of one tablespace, and tablespaces that it names.
const NAMED: usize = 10;

/// Damaged pages, by tablespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorruptedPages(BTreeMap<SpaceId, SpacePages>);

/// Damaged pages of a tablespace: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpacePages {
    /// `db/table`, or the name of a file of the system or an undo tablespace; as in the file
    /// system.
    pub name: Vec<u8>,
    /// Their numbers.
    pub pages: BTreeSet<PageNo>,
}

impl SpacePages {
    /// The name for messages.
    pub fn display_name(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }
}

impl CorruptedPages {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.values().map(|space| space.pages.len()).sum()
    }

    /// Adds a page of the tablespace `name`.
    pub fn add(&mut self, page: PageId, name: &[u8]) {
        let empty = || SpacePages { name: name.to_owned(), pages: BTreeSet::new() };
        self.0.entry(page.space).or_insert_with(empty).pages.insert(page.page_no);
    }

    /// Adds those of `other`, whose names count for tablespaces in both.
    pub fn extend(&mut self, other: Self) {
        for (id, mut space) in other.0 {
            let before = self.0.remove(&id).map(|before| before.pages);
            space.pages.extend(before.unwrap_or_default());
            self.0.insert(id, space);
        }
    }

    /// Whether the page is among them.
    pub fn contains(&self, page: PageId) -> bool {
        self.0.get(&page.space).is_some_and(|space| space.pages.contains(&page.page_no))
    }

    /// Those of each tablespace, by id.
    pub fn spaces(&self) -> impl Iterator<Item = (SpaceId, &SpacePages)> {
        self.0.iter().map(|(id, space)| (*id, space))
    }

    /// Keeps the tablespaces that `keep` wants, which may change their names.
    pub fn retain(&mut self, mut keep: impl FnMut(SpaceId, &mut SpacePages) -> bool) {
        self.0.retain(|id, space| keep(*id, space));
    }

    /// The file of backup `dir`; nothing if there is none.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no such list.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.with_context(|| format!("open {}", path.display()))?,
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_LEN + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("read {}", path.display()))?;
        ensure!(bytes.len() as u64 <= MAX_LEN, "{} is too long for such a file", path.display());
        Self::parse(&bytes).with_context(|| format!("{} is damaged", path.display())).hint(
            "it lists the damaged pages of the backup, two lines for each tablespace: name and id, \
             and the numbers of its pages; restore it from where the backup came from",
        )
    }

    /// Understands the contents of the file.
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut list = Self::default();
        let mut lines = bytes.split(|&byte| byte == b'\n').enumerate();
        while let Some((at, line)) = lines.next() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let wrong = || anyhow!("line {} is no tablespace and its id", at + 1);
            let blank = line.iter().rposition(|&byte| byte == b' ').with_context(wrong)?;
            let (name, id) = line.split_at(blank);
            let id = SpaceId(number(id.trim_ascii()).with_context(wrong)?);
            let (at, pages) = lines.next().unwrap_or((at + 1, b""));
            let wrong = || anyhow!("line {} is no list of pages", at + 1);
            let numbers = pages.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let pages: Option<BTreeSet<_>> = numbers.map(|word| number(word).map(PageNo)).collect();
            let pages = pages.filter(|pages| !pages.is_empty()).with_context(wrong)?;
            let space = list.0.entry(id);
            let empty = || SpacePages { name: name.to_owned(), pages: BTreeSet::new() };
            space.or_insert_with(empty).pages.extend(pages);
        }
        Ok(list)
    }

    /// The contents of the file.
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, space) in self.spaces() {
            bytes.extend_from_slice(&space.name);
            bytes.extend(format!(" {id}\n").bytes());
            let pages: Vec<String> = space.pages.iter().map(PageNo::to_string).collect();
            bytes.extend(pages.join(" ").bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// The first of them in words: `test/t (page 10, 30), test/u (page 12)`.
    pub fn in_words(&self) -> String {
        let mut words = String::new();
        for (number, (_, space)) in self.spaces().enumerate() {
            if number == NAMED {
                let _ = write!(words, " and {} more tablespaces", self.0.len() - NAMED);
                break;
            }
            let pages: Vec<_> = space.pages.iter().take(NAMED).map(PageNo::to_string).collect();
            let comma = if number == 0 { "" } else { ", " };
            let _ = write!(words, "{comma}{} (page {}", space.display_name(), pages.join(", "));
            if let more @ 1.. = space.pages.len() - pages.len() {
                let _ = write!(words, " and {more} more");
            }
            words.push(')');
        }
        words
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    // Neither a sign nor anything else that a parser might take.
    bytes.iter().all(u8::is_ascii_digit).then_some(())?;
    u32::from_str(str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint;

    /// As mariadb-backup 10.11 writes it.
    const REAL: &[u8] = b"ibdata1 0\n700 701\ntest/t 5\n10 30\ntest/g 9\n12 13\n";

    fn pages(list: &[(u32, &str, u32)]) -> CorruptedPages {
        let mut pages = CorruptedPages::default();
        for (id, name, page_no) in list {
            pages.add(PageId::new(*id, *page_no), name.as_bytes());
        }
        pages
    }

    #[test]
    fn file_of_the_reference() {
        let list = [
            (9, "test/g", 12),
            (5, "test/t", 30),
            (0, "ibdata1", 701),
            (0, "ibdata1", 700),
            (5, "test/t", 10),
            (9, "test/g", 13),
        ];
        let pages = pages(&list);
        assert_eq!(pages.render(), REAL);
        let read = CorruptedPages::parse(REAL).unwrap();
        assert_eq!(read, pages);
        assert_eq!(read.count(), 6);
        assert!(read.contains(PageId::new(5, 30)));
        assert!(!read.contains(PageId::new(5, 12)));
        assert!(!read.contains(PageId::new(6, 12)));
    }

    #[test]
    fn no_file_lists_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(CorruptedPages::read(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, problem) in [
            ("test/t\n1\n", "line 1 is no tablespace and its id"),
            ("test/t five\n1\n", "line 1 is no tablespace and its id"),
            ("test/t 4294967296\n1\n", "line 1 is no tablespace and its id"),
            ("test/t 5", "line 2 is no list of pages"),
            ("test/t 5\n\n", "line 2 is no list of pages"),
            ("test/t 5\n1 2\ntest/u 6\n1 x\n", "line 4 is no list of pages"),
            ("test/t 5\n-1\n", "line 2 is no list of pages"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(NAME), text).unwrap();
            let (error, hint) = hint::describe(&CorruptedPages::read(dir.path()).unwrap_err());
            assert!(error.ends_with(&format!("{NAME} is damaged: {problem}")), "{error}");
            assert!(hint.is_some());
        }
    }

    #[test]
    fn words_stay_short() {
        let few = pages(&[(5, "test/t", 30), (5, "test/t", 10), (6, "test/u", 12)]);
        assert_eq!(few.in_words(), "test/t (page 10, 30), test/u (page 12)");
        let many: Vec<_> = (0..12).map(|n| (1, "d/t", n)).collect();
        let words = pages(&many).in_words();
        assert_eq!(words, "d/t (page 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more)");
        let many: Vec<_> = (0..12).map(|n| (n, "d/t", 4)).collect();
        assert!(pages(&many).in_words().ends_with("d/t (page 4) and 2 more tablespaces"));
    }

    #[test]
    fn tablespaces_that_are_gone_are_left_out() {
        let mut list = pages(&[(5, "test/t", 30), (6, "test/u", 12)]);
        list.retain(|id, space| {
            space.name = b"test/v".to_vec();
            id == SpaceId(6)
        });
        list.extend(pages(&[(7, "test/w", 1)]));
        assert_eq!(list.render(), b"test/v 6\n12\ntest/w 7\n1\n");
    }
}
