//! `NAME.meta`: what tablespace the changed pages in `NAME.delta` belong to.
//!
//! ```text
//! page_size = 1024                   bytes of a page in the file
//! zip_size = 1024                    the same with ROW_FORMAT=COMPRESSED, else 0; and a blank
//! space_id = 6
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use innodb::delta::is_page_size;
use innodb::{SpaceFlags, SpaceId};

use super::read_text;

/// Contents of such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceMeta {
    /// Bytes of a page, in the tablespace and in the file of changed pages.
    pub page_size: usize,
    /// Whether the pages are those of `ROW_FORMAT=COMPRESSED`.
    pub is_row_compressed: bool,
    /// The tablespace; `None` where the file does not tell.
    pub space_id: Option<SpaceId>,
}

impl SpaceMeta {
    /// Of a tablespace.
    pub fn new(space_id: SpaceId, flags: SpaceFlags) -> Self {
        Self {
            page_size: flags.page_size().physical(),
            is_row_compressed: flags.is_row_compressed(),
            space_id: Some(space_id),
        }
    }

    /// Contents of the file, as the reference writes it.
    pub fn render(&self) -> String {
        let zip_size = if self.is_row_compressed { self.page_size } else { 0 };
        let id = self.space_id.map(|id| format!("space_id = {id}\n")).unwrap_or_default();
        format!("page_size = {}\nzip_size = {zip_size} \n{id}", self.page_size)
    }

    /// Parses the contents of the file. Order, blanks and line ends do not matter, unknown keys
    /// are left alone; all else that is unexpected is an error.
    ///
    /// # Errors
    ///
    /// No `page_size`, a key that is there twice, a value that is none, a line without `=`, by
    /// line; sizes that do not go together.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut page_size, mut zip_size, mut space_id) = (None, None, None);
        for (line_no, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                bail!("line {line_no}: expected `key = value`, found {line:?}");
            };
            let (key, value) = (key.trim(), value.trim());
            let known = match key {
                "page_size" => &mut page_size,
                "zip_size" => &mut zip_size,
                "space_id" => &mut space_id,
                _ => continue,
            };
            // `parse` alone would take a plus sign.
            let number = Some(value).filter(|value| value.bytes().all(|b| b.is_ascii_digit()));
            let number: Option<u32> = number.and_then(|number| number.parse().ok());
            let number =
                number.with_context(|| format!("line {line_no}: {key} is {value:?}, no number"))?;
            ensure!(known.replace(number).is_none(), "line {line_no}: {key} is there twice");
        }
        let page_size = page_size.context("page_size is missing")?;
        let zip_size = zip_size.unwrap_or(0);
        ensure!(
            zip_size == 0 || zip_size == page_size,
            "pages of {page_size} bytes cannot be compressed ones of {zip_size}"
        );
        let page_size = usize::try_from(page_size)?;
        ensure!(is_page_size(page_size), "pages of {page_size} bytes do not exist");
        Ok(Self { page_size, is_row_compressed: zip_size != 0, space_id: space_id.map(SpaceId) })
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// As [`SpaceMeta::parse`], or what reading reports, with the path.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_text(path)?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }
}

/// The names of the files of changed pages and of [`SpaceMeta`] for the data file `file`.
pub fn delta_names(file: &Path) -> (PathBuf, PathBuf) {
    let with = |suffix| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    (with(".delta"), with(".meta"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the reference of 10.11.19 for a server with pages of 4 KiB.
    const PLAIN: &str = "page_size = 4096\nzip_size = 0 \nspace_id = 5\n";
    /// The same with `KEY_BLOCK_SIZE=1`.
    const ROW_COMPRESSED: &str = "page_size = 1024\nzip_size = 1024 \nspace_id = 6\n";

    const META: SpaceMeta =
        SpaceMeta { page_size: 4096, is_row_compressed: false, space_id: Some(SpaceId(5)) };

    #[test]
    fn renders_as_the_reference() {
        let flags = |raw| SpaceFlags::parse(raw).unwrap();
        assert_eq!(SpaceMeta::new(SpaceId(5), flags(0x13)), META);
        assert_eq!(META.render(), PLAIN);
        let compressed = SpaceMeta::new(SpaceId(6), flags(0xe3));
        assert_eq!(compressed.render(), ROW_COMPRESSED);
        let unknown = SpaceMeta { space_id: None, ..META };
        assert_eq!(SpaceMeta::parse(&unknown.render()).unwrap(), unknown);
    }

    #[test]
    fn parses_what_people_and_tools_make_of_it() {
        for text in [
            PLAIN.to_owned(),
            PLAIN.replace('\n', "\r\n"),
            PLAIN.replace(" = ", "="),
            PLAIN.replace("zip_size = 0 \n", ""),
            format!("{}other = x\n\n", PLAIN.trim_end().to_owned() + "\n"),
        ] {
            assert_eq!(SpaceMeta::parse(&text).unwrap(), META, "{text:?}");
        }
        let compressed = SpaceMeta::parse(ROW_COMPRESSED).unwrap();
        assert_eq!((compressed.page_size, compressed.is_row_compressed), (1024, true));
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, message) in [
            ("", "page_size is missing"),
            ("page_size 4096", "line 1: expected `key = value`"),
            (&PLAIN.replace("= 5", "= -5"), "line 3: space_id is \"-5\", no number"),
            (&PLAIN.replace("= 5", "= +5"), "line 3: space_id is \"+5\", no number"),
            (&PLAIN.replace("= 5", "= 4294967296"), "line 3: space_id is \"4294967296\""),
            (&PLAIN.replace("= 0 ", "="), "line 2: zip_size is \"\", no number"),
            (&format!("{PLAIN}page_size = 1"), "line 4: page_size is there twice"),
            (&PLAIN.replace("4096", "4095"), "pages of 4095 bytes do not exist"),
            (&PLAIN.replace("4096", "131072"), "pages of 131072 bytes do not exist"),
            (&PLAIN.replace("= 0 ", "= 1024"), "pages of 4096 bytes cannot be compressed"),
        ] {
            let error = SpaceMeta::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_go_by_the_whole_name_of_the_data_file() {
        let names = |file: &str| {
            let (delta, meta) = delta_names(Path::new(file));
            format!("{} {}", delta.display(), meta.display())
        };
        assert_eq!(names("d/t.ibd"), "d/t.ibd.delta d/t.ibd.meta");
        assert_eq!(names("ibdata1"), "ibdata1.delta ibdata1.meta");
    }
}
