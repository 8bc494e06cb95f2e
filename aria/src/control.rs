//! The control file `aria_log_control`: newest checkpoint and number of the last log file.
//!
//! ```text
//!  0  FE FE 0C, version 1          4  UUID of the engine
//! 20  length a of the fixed part  22  length b of the changeable part  24  `aria_block_size`
//! a-4 CRC-32 of bytes [0, a-4)
//!  a  CRC-32 of bytes [a+4, a+b)
//! a+4 LSN of the checkpoint      a+11  last log number
//! a+15 greatest transaction id   a+21  recovery failures
//! ```
//!
//! All integers are little-endian. Source: `ma_control_file.c`; checked on files of 10.11.
//!
//! At its start the server believes the last log number: log files beyond it are thrown away, and
//! with them the rows. A copy of the file is as old as its reading, while the log goes on; so a
//! backup's number has to be corrected: [`correct_last_log_number`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::log::{self, FileNo, LogError, LogHeader, LogLsn};

/// Name of the control file.
pub const FILE_NAME: &str = "aria_log_control";

/// Longest file that readers accept, in bytes.
const MAX_LEN: usize = 512;

/// What is wrong with a control file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Too short, or the lengths in it do not fit.
    #[error("the file has {len} bytes, fewer than its parts need, or more than 512")]
    Length {
        /// Bytes in the file.
        len: usize,
    },
    /// Another file, or another version.
    #[error("it does not begin like an Aria control file of version 1")]
    Magic,
    /// A checksum does not match.
    #[error("the checksum of its {part} part is {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// `fixed` or `changeable`.
        part: &'static str,
        /// In the file.
        stored: u32,
        /// Of its bytes.
        computed: u32,
    },
}

/// Start of the fixed part.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    magic: [u8; 3],
    version: u8,
    uuid: [u8; 16],
    len: U16,
    changeable_len: U16,
    block_size: U16,
}
const _: () = assert!(size_of::<Fixed>() == 26);

/// Known fields of the changeable part, after its checksum.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Changeable {
    checkpoint: LogLsn,
    last_log_no: U32,
}
const _: () = assert!(size_of::<Changeable>() == 11);

/// A control file whose checksums are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    bytes: Vec<u8>,
    /// Where the changeable part begins.
    changeable_at: usize,
    uuid: [u8; 16],
    checkpoint: LogLsn,
    last_log_no: u32,
}

impl ControlFile {
    /// Checks and takes apart the bytes of a control file.
    ///
    /// # Errors
    ///
    /// Any [`ControlError`]; on a live server, read the file again first: it is rewritten in place.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        let length = ControlError::Length { len: bytes.len() };
        if bytes.len() > MAX_LEN {
            return Err(length);
        }
        let (head, _) = Fixed::ref_from_prefix(bytes).map_err(|_| length)?;
        if head.magic != [0xFE, 0xFE, 0x0C] || head.version != 1 {
            return Err(ControlError::Magic);
        }
        let fixed_len = usize::from(head.len.get());
        let changeable_len = usize::from(head.changeable_len.get());
        let (fixed, rest) = bytes.split_at_checked(fixed_len).ok_or(length)?;
        if fixed.len() < size_of::<Fixed>() + 4 {
            return Err(length);
        }
        verify("fixed", fixed.split_last_chunk().ok_or(length)?)?;
        let (changeable, _) = rest.split_at_checked(changeable_len).ok_or(length)?;
        let (stored, fields) = changeable.split_first_chunk().ok_or(length)?;
        verify("changeable", (fields, stored))?;
        let (known, _) = Changeable::ref_from_prefix(fields).map_err(|_| length)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            changeable_at: fixed_len,
            uuid: head.uuid,
            checkpoint: known.checkpoint,
            last_log_no: known.last_log_no.get(),
        })
    }

    /// UUID of the engine, in tables too.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Where recovery begins.
    pub fn checkpoint(&self) -> LogLsn {
        self.checkpoint
    }

    /// Number of the last log file; 0 before there is one.
    pub fn last_log_no(&self) -> u32 {
        self.last_log_no
    }

    /// The file with another last log number, all else kept.
    #[must_use]
    pub fn with_last_log_no(&self, last_log_no: u32) -> Self {
        let mut changed = Self { last_log_no, ..self.clone() };
        let fields_at = changed.changeable_at.saturating_add(4);
        let len = usize::from(self.changeable_len());
        let end = changed.changeable_at.saturating_add(len);
        if let Some(fields) = changed.bytes.get_mut(fields_at..end) {
            if let Ok((known, _)) = Changeable::mut_from_prefix(fields) {
                known.last_log_no.set(last_log_no);
            }
            let checksum = crc32fast::hash(fields);
            if let Some(stored) = changed.bytes.get_mut(changed.changeable_at..fields_at) {
                stored.copy_from_slice(&checksum.to_le_bytes());
            }
        }
        changed
    }

    fn changeable_len(&self) -> u16 {
        Fixed::ref_from_prefix(&self.bytes).map_or(0, |(head, _)| head.changeable_len.get())
    }

    /// Number of the last file of the log that the checkpoint is in, among `numbers`, ascending:
    /// the highest of the consecutive run that begins with the file of the checkpoint. (Before the
    /// first checkpoint there is none: then it begins with the last file known here.)
    ///
    /// # Errors
    ///
    /// The file that is missing between the checkpoint's and the last one known here.
    pub fn last_of_run(&self, numbers: &[FileNo]) -> Result<FileNo, FileNo> {
        let first = match self.checkpoint.file_no() {
            0 => self.last_log_no.max(1),
            file_no => file_no,
        };
        let mut next = first;
        for no in numbers.iter().skip_while(|no| no.0 < first) {
            if no.0 != next {
                break;
            }
            next = next.saturating_add(1);
        }
        // At least the file of the checkpoint, and all up to the last one known.
        if next <= first.max(self.last_log_no) { Err(FileNo(next)) } else { Ok(FileNo(next - 1)) }
    }

    /// The bytes to be written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn verify(part: &'static str, (covered, stored): (&[u8], &[u8; 4])) -> Result<(), ControlError> {
    let (stored, computed) = (u32::from_le_bytes(*stored), crc32fast::hash(covered));
    if stored == computed { Ok(()) } else { Err(ControlError::Checksum { part, stored, computed }) }
}

/// Why the last log number could not be corrected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorrectError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The control file is damaged.
    #[error("{} is damaged", path.display())]
    Control {
        /// Which.
        path: PathBuf,
        /// How.
        source: ControlError,
    },
    /// A log file is none.
    #[error("{} is damaged", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// How.
        source: LogError,
    },
    /// Log files without a control file: without it the server throws them away.
    #[error("{} has Aria log files but no {FILE_NAME}", dir.display())]
    NoControlFile {
        /// The folder.
        dir: PathBuf,
    },
    /// A log file that recovery needs is missing.
    #[error(
        "{} of {} is missing: recovery begins at {checkpoint}, the last file is number {last}",
        missing.file_name(),
        dir.display()
    )]
    MissingLog {
        /// The folder.
        dir: PathBuf,
        /// The missing file.
        missing: FileNo,
        /// The checkpoint in the control file.
        checkpoint: LogLsn,
        /// The last log number in the control file.
        last: u32,
    },
}

/// What has to be changed in a control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Where the file is.
    pub path: PathBuf,
    /// The last log number in it.
    pub from: u32,
    /// What it must be.
    pub to: u32,
    /// The bytes to be written in place of the file, atomically.
    pub bytes: Vec<u8>,
}

/// Compares the last log number in the control file of folder `dir`, which no server uses, with
/// the log files in it. It must be that of the highest file of the consecutive run that begins
/// with the file of the checkpoint. `None`: it is, or there is no Aria log at all.
///
/// Writes nothing: the caller has the means to replace a file durably.
///
/// # Errors
///
/// A damaged control file; log files without one; a file missing between the checkpoint's and the
/// last number in the control file.
pub fn correct_last_log_number(dir: &Path) -> Result<Option<Correction>, CorrectError> {
    let path = dir.join(FILE_NAME);
    let numbers = existing_logs(dir)?;
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if numbers.is_empty() {
                Ok(None)
            } else {
                Err(CorrectError::NoControlFile { dir: dir.to_owned() })
            };
        }
        Err(source) => return Err(CorrectError::Io { path, source }),
    };
    let control = ControlFile::parse(&bytes)
        .map_err(|source| CorrectError::Control { path: path.clone(), source })?;
    let (checkpoint, from) = (control.checkpoint(), control.last_log_no());
    if numbers.is_empty() && from == 0 {
        return Ok(None);
    }
    let to = control.last_of_run(&numbers).map_err(|missing| CorrectError::MissingLog {
        dir: dir.to_owned(),
        missing,
        checkpoint,
        last: from,
    })?;
    let to = to.0;
    if to == from {
        return Ok(None);
    }
    let bytes = control.with_last_log_no(to).bytes;
    Ok(Some(Correction { path, from, to, bytes }))
}

/// Numbers of the log files in `dir` that have their header; one without was just being created
/// when it was copied, and has no records.
fn existing_logs(dir: &Path) -> Result<Vec<FileNo>, CorrectError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| CorrectError::Io { path, source }
    };
    let mut numbers = log::file_numbers(dir).map_err(failed(dir))?;
    if let Some(last) = numbers.last().copied() {
        let path = dir.join(last.file_name());
        let len = fs::metadata(&path).map_err(failed(&path))?.len();
        if len < log::PAGE_LEN as u64 {
            numbers.pop();
        }
    }
    for &no in &numbers {
        let path = dir.join(no.file_name());
        let mut page = vec![0; log::PAGE_LEN];
        let file = File::open(&path).map_err(failed(&path))?;
        file.read_exact_at(&mut page, 0).map_err(failed(&path))?;
        LogHeader::parse(&page, no).map_err(|source| CorrectError::Log { path, source })?;
    }
    Ok(numbers)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Written by a 10.11 server: checkpoint 1,0x64e6c, last log 1, transaction id 230.
    const REAL: [u8; 52] = [
        0xfe, 0xfe, 0x0c, 0x01, 0xb8, 0x50, 0x71, 0x2f, 0xe5, 0xa2, 0x11, 0xf1, 0xb3, 0xb4, 0x02,
        0xfc, 0x00, 0x00, 0x00, 0x01, 0x1e, 0x00, 0x16, 0x00, 0x00, 0x20, 0x2a, 0x61, 0x75, 0x91,
        0xea, 0xa4, 0xbb, 0x04, 0x01, 0x00, 0x00, 0x6c, 0x4e, 0x06, 0x00, 0x01, 0x00, 0x00, 0x00,
        0xe6, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn parses_a_real_file() {
        let control = ControlFile::parse(&REAL).unwrap();
        assert_eq!((control.checkpoint(), control.last_log_no()), (LogLsn::new(1, 0x64e6c), 1));
        assert_eq!(control.uuid()[..2], [0xb8, 0x50]);
        assert_eq!(control.as_bytes(), REAL);
    }

    /// The real file with the checkpoint in file `checkpoint` and another last log number.
    pub(crate) fn control_file(checkpoint: u32, last: u32) -> ControlFile {
        let mut bytes = REAL;
        bytes[34..37].copy_from_slice(&checkpoint.to_le_bytes()[..3]);
        let checksum = crc32fast::hash(&bytes[34..]);
        bytes[30..34].copy_from_slice(&checksum.to_le_bytes());
        ControlFile::parse(&bytes).unwrap().with_last_log_no(last)
    }

    #[test]
    fn another_last_log_number_changes_nothing_else() {
        let control = ControlFile::parse(&REAL).unwrap();
        let changed = control.with_last_log_no(3);
        let parsed = ControlFile::parse(changed.as_bytes()).unwrap();
        assert_eq!(parsed, changed);
        assert_eq!((parsed.checkpoint(), parsed.last_log_no()), (control.checkpoint(), 3));
        let differ: Vec<usize> =
            (0..REAL.len()).filter(|&i| REAL[i] != changed.as_bytes()[i]).collect();
        assert!(differ.iter().all(|i| (30..34).contains(i) || *i == 41), "{differ:?}");
        assert_eq!(changed.with_last_log_no(1).as_bytes(), REAL);
    }

    #[test]
    fn a_longer_file_of_another_version_keeps_its_tail() {
        let mut bytes = REAL.to_vec();
        bytes[22] = 24; // two more bytes in the changeable part
        bytes.extend([5, 6, 7]);
        let checksum = crc32fast::hash(&bytes[..26]);
        bytes[26..30].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[34..54]);
        bytes[30..34].copy_from_slice(&checksum.to_le_bytes());
        let control = ControlFile::parse(&bytes).unwrap().with_last_log_no(9);
        assert_eq!(ControlFile::parse(control.as_bytes()).unwrap(), control);
        assert_eq!(control.as_bytes()[52..], [5, 6, 7]);
    }

    /// The changeable part must not begin within the fixed one.
    #[test]
    fn parts_do_not_overlap() {
        for fixed_len in [13_u8, 16, 29] {
            let mut bytes = REAL;
            bytes[20] = fixed_len;
            let at = usize::from(fixed_len);
            let fixed = crc32fast::hash(&bytes[..at - 4]);
            bytes[at - 4..at].copy_from_slice(&fixed.to_le_bytes());
            let changeable = crc32fast::hash(&bytes[at + 4..at + 22]);
            bytes[at..at + 4].copy_from_slice(&changeable.to_le_bytes());
            let error = ControlFile::parse(&bytes).unwrap_err();
            assert_eq!(error, ControlError::Length { len: 52 }, "{fixed_len}");
        }
    }

    #[test]
    fn damage_is_found() {
        for i in 0..REAL.len() {
            let mut bytes = REAL;
            bytes[i] ^= 0x10;
            let error = ControlFile::parse(&bytes).unwrap_err();
            match i {
                0..4 => assert_eq!(error, ControlError::Magic),
                4..20 | 24..30 => {
                    assert!(matches!(error, ControlError::Checksum { part: "fixed", .. }), "{i}");
                }
                20..24 => {}
                _ => assert!(
                    matches!(error, ControlError::Checksum { part: "changeable", .. }),
                    "{i}"
                ),
            }
        }
        for len in 0..REAL.len() {
            let error = ControlFile::parse(&REAL[..len]).unwrap_err();
            assert_eq!(error, ControlError::Length { len });
        }
        let error = ControlFile::parse(&[REAL.as_slice(), &[0; 461]].concat()).unwrap_err();
        assert_eq!(error, ControlError::Length { len: 513 });
    }

    #[test]
    fn lengths_in_the_file_are_not_trusted() {
        for fixed_len in [0_u16, 3, 4, 29, 31, 52, 0xFFFF] {
            for changeable_len in [0_u16, 3, 4, 14, 23, 0xFFFF] {
                let mut bytes = REAL;
                bytes[20..22].copy_from_slice(&fixed_len.to_le_bytes());
                bytes[22..24].copy_from_slice(&changeable_len.to_le_bytes());
                assert!(ControlFile::parse(&bytes).is_err());
            }
        }
    }

    #[test]
    fn the_run_begins_at_the_checkpoint() {
        for (numbers, checkpoint, last, wanted) in [
            (&[1][..], 1, 1, Ok(1)),
            (&[1, 2, 3], 1, 1, Ok(3)),
            (&[1, 2, 3], 2, 3, Ok(3)),
            (&[1, 3, 4], 3, 3, Ok(4)),
            (&[1, 2, 4], 1, 1, Ok(2)), // 4 is a leftover
            (&[1, 2, 4], 1, 4, Err(3)),
            (&[2, 3], 1, 2, Err(1)),
            (&[1], 2, 2, Err(2)),
            (&[], 1, 1, Err(1)),
            (&[2], 1, 0, Err(1)),
            (&[1, 2], 0, 1, Ok(2)), // before the first checkpoint
            (&[1], 0, 0, Ok(1)),
            (&[], 0, 0, Err(1)),
        ] {
            let numbers: Vec<FileNo> = numbers.iter().copied().map(FileNo).collect();
            let found = control_file(checkpoint, last).last_of_run(&numbers);
            let wanted = wanted.map(FileNo).map_err(FileNo);
            assert_eq!(found, wanted, "{numbers:?} {checkpoint} {last}");
        }
    }

    #[test]
    fn a_stale_number_is_corrected_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(correct_last_log_number(dir.path()).unwrap(), None);
        for no in 1..=3 {
            let name = FileNo(no).file_name();
            fs::write(dir.path().join(name), log::tests::header(no)).unwrap();
        }
        fs::write(dir.path().join("aria_log.00000004"), [0xFE; 10]).unwrap();
        let error = correct_last_log_number(dir.path()).unwrap_err();
        assert!(matches!(error, CorrectError::NoControlFile { .. }), "{error}");

        let path = dir.path().join(FILE_NAME);
        fs::write(&path, REAL).unwrap();
        let correction = correct_last_log_number(dir.path()).unwrap().unwrap();
        assert_eq!((correction.from, correction.to, &correction.path), (1, 3, &path));
        assert_eq!(fs::read(&path).unwrap(), REAL);
        fs::write(&path, &correction.bytes).unwrap();
        assert_eq!(correct_last_log_number(dir.path()).unwrap(), None);

        fs::remove_file(dir.path().join("aria_log.00000002")).unwrap();
        let error = correct_last_log_number(dir.path()).unwrap_err().to_string();
        assert!(error.contains("aria_log.00000002 of"), "{error}");
        fs::write(dir.path().join("aria_log.00000002"), log::tests::header(3)).unwrap();
        let error = correct_last_log_number(dir.path()).unwrap_err();
        assert!(matches!(error, CorrectError::Log { .. }), "{error}");
    }
}
