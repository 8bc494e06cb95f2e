//! The first 12288 bytes of a log file: format, first LSN, creator, checkpoints (10.8 and later).
//!
//! ```text
//!     0  format, 0, first LSN, creator, encryption parameters, zeros; CRC-32C at 508
//!  4096  checkpoint slot 1: LSN, end LSN, zeros, CRC-32C; 64 bytes
//!  8192  checkpoint slot 2
//! 12288  mini-transactions (see the module `mtr`)
//! ```
//!
//! Source: `log_t` in `log0log.h`, `log0recv.cc`; checked on files of 10.11 and 11.8.

use innodb::Lsn;

use crate::encryption::{self, Encryption, Scope};
use crate::format::{Format, covered, printable};
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before the first mini-transaction.
pub const HEADER_LEN: u64 = 12_288;
/// [`HEADER_LEN`] as the length of an array.
pub const HEADER_SIZE: usize = 12_288;
/// Bytes of the log that `prepare` leaves behind: the header and one `FILE_CHECKPOINT`.
pub const FINAL_LOG_SIZE: usize = HEADER_SIZE + CHECKPOINT_MTR_LEN;

const LABEL_LEN: usize = 512;
const SLOT_LEN: usize = 64;
const SLOT_OFFSETS: [usize; 2] = [4096, 8192];
/// A mini-transaction of one `FILE_CHECKPOINT`: record, sequence byte, CRC.
const CHECKPOINT_MTR_LEN: usize = 16;

/// Why a log header cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is shorter than any log.
    #[error("the redo log has only {len} bytes")]
    TooSmall {
        /// Bytes.
        len: u64,
    },
    /// Logs before the physical format, and all of MySQL's.
    #[error(
        "the redo log was created with {creator} and has the format of {versions}: \
         use the backup tool of that version"
    )]
    TooOld {
        /// Who wrote the file.
        creator: String,
        /// Versions that write this format.
        versions: &'static str,
    },
    /// A format that is known but not supported.
    #[error(
        "the redo log was created with {creator} and has the format {format}, which this version \
         of the tool does not support yet"
    )]
    NotSupported {
        /// Who wrote the file.
        creator: String,
        /// The format, in words.
        format: &'static str,
    },
    /// Not the format of any known version.
    #[error("the redo log has the unknown format {format:#010x} (creator: {creator})")]
    Unknown {
        /// The first four bytes.
        format: u32,
        /// What stands where the creator is expected.
        creator: String,
    },
    /// The header was damaged.
    #[error("the redo log header has the checksum {computed:#010x}, {stored:#010x} is stored")]
    Checksum {
        /// In the file.
        stored: u32,
        /// Of the bytes in the file.
        computed: u32,
    },
    /// The checksum is right but a field is impossible.
    #[error("the redo log header is corrupted: {field} is {value}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// Both checkpoint slots are invalid.
    #[error("the redo log has no valid checkpoint")]
    NoCheckpoint,
}

#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Label {
    format: U32,
    zero: U32,
    first_lsn: U64,
    creator: [u8; 32],
    crypt: RawEncryption,
    reserved: [u8; 432],
    crc: U32,
}
const _: () = assert!(size_of::<Label>() == LABEL_LEN);

impl Label {
    /// The word at 4: the subformat up to 10.7, 0 from 10.8 on.
    pub(crate) fn word(&self) -> u32 {
        self.zero.get()
    }

    /// A label with its checksum. `creator` is cut to 31 bytes. `word`: at 4, 0 from 10.8 on.
    pub(crate) fn new(
        format: Format,
        word: u32,
        lsn: Lsn,
        creator: &str,
        crypt: RawEncryption,
    ) -> Self {
        let mut label = Self {
            format: format.number().into(),
            zero: word.into(),
            first_lsn: lsn.0.into(),
            creator: [0; 32],
            crypt,
            reserved: [0; 432],
            crc: 0.into(),
        };
        for (to, from) in label.creator.iter_mut().take(31).zip(creator.bytes()) {
            *to = from;
        }
        label.crc = crc32c::crc32c(covered(label.as_bytes())).into();
        label
    }
}

/// Encryption parameters of the log: key id, key version, message, nonce. All zero: plain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct RawEncryption {
    key_id: U32,
    key_version: U32,
    message: [u8; 16],
    nonce: [u8; 4],
}
const _: () = assert!(size_of::<RawEncryption>() == 28);

impl RawEncryption {
    const NONE: Self =
        Self { key_id: U32::ZERO, key_version: U32::ZERO, message: [0; 16], nonce: [0; 4] };

    /// The parameters; none of a plain log.
    pub(crate) fn parameters(&self, scope: Scope) -> Result<Option<Encryption>, HeaderError> {
        match self.key_id.get() {
            0 => Ok(None),
            encryption::KEY_ID => Ok(Some(Encryption {
                scope,
                key_version: self.key_version.get(),
                message: self.message,
                nonce: self.nonce,
            })),
            id => Err(HeaderError::Field { field: "encryption key id", value: id.into() }),
        }
    }
}

impl From<Option<Encryption>> for RawEncryption {
    fn from(encryption: Option<Encryption>) -> Self {
        encryption.map_or(Self::NONE, |parameters| Self {
            key_id: encryption::KEY_ID.into(),
            key_version: parameters.key_version.into(),
            message: parameters.message,
            nonce: parameters.nonce,
        })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Slot {
    lsn: U64,
    end_lsn: U64,
    zero: [u8; 44],
    crc: U32,
}
const _: () = assert!(size_of::<Slot>() == SLOT_LEN);

/// What a log file of 10.8 or later says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHeader {
    first_lsn: Lsn,
    creator: String,
    format: Format,
    encryption: Option<Encryption>,
}

impl LogHeader {
    /// Reads the header of a plain log from the first bytes of a log file, at least 512.
    /// [`crate::file::LogFile`] also takes the other formats.
    ///
    /// # Errors
    ///
    /// Every [`HeaderError`] but [`HeaderError::NoCheckpoint`]. A wrong checksum in a file that
    /// is being written (log resizing) deserves a second reading.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (label, creator, format) = recognise(bytes)?;
        let format = match format {
            Format::Ring if label.crypt.key_id.get() == 0 => {
                return Self::of_label(label, creator, format);
            }
            Format::Ring => {
                let header = Self::of_label(label, creator, format)?;
                let format = "of an encrypted log, 10.8 or later (innodb_encrypt_log)";
                return Err(HeaderError::NotSupported { creator: header.creator, format });
            }
            Format::EncryptedRing => "of an encrypted log, 10.11 or later (innodb_encrypt_log)",
            Format::Blocks => "of 10.5 to 10.7",
            Format::EncryptedBlocks => "of an encrypted log, 10.5 to 10.7",
        };
        Err(HeaderError::NotSupported { creator, format })
    }

    pub(crate) fn of_label(
        label: &Label,
        creator: String,
        format: Format,
    ) -> Result<Self, HeaderError> {
        verify_checksum(label.as_bytes())?;
        let scope = if format == Format::EncryptedRing { Scope::Mtrs } else { Scope::Records };
        let encryption = label.crypt.parameters(scope)?;
        if format == Format::EncryptedRing && encryption.is_none() {
            return Err(HeaderError::Field { field: "encryption key id", value: 0 });
        }
        if label.zero.get() != 0 {
            return Err(HeaderError::Field { field: "word at 4", value: label.zero.get().into() });
        }
        let first_lsn = Lsn(label.first_lsn.get());
        if first_lsn.0 < HEADER_LEN {
            return Err(HeaderError::Field { field: "first LSN", value: first_lsn.0 });
        }
        Ok(Self { first_lsn, creator, format, encryption })
    }

    /// That of an archive; its files have no such header.
    pub(crate) fn of_archive(first_lsn: Lsn, encryption: Option<Encryption>) -> Self {
        let format = if encryption.is_some() { Format::EncryptedRing } else { Format::Ring };
        Self { first_lsn, creator: String::new(), format, encryption }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// How the log is encrypted, if it is.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// LSN of the byte behind the header in the ring's first lap, at least 12288.
    pub fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// Who wrote the file: `MariaDB 10.11.19`, or `Backup 10.11.19`.
    pub fn creator(&self) -> &str {
        &self.creator
    }

    /// Whether a backup tool wrote the file.
    pub fn is_backup(&self) -> bool {
        self.creator.starts_with("Backup ")
    }

    /// The payload of this log as a ring, for a file of `file_len` bytes.
    ///
    /// # Errors
    ///
    /// [`HeaderError::TooSmall`].
    pub fn ring(&self, file_len: u64) -> Result<crate::Ring, HeaderError> {
        crate::Ring::new(self.first_lsn, file_len).ok_or(HeaderError::TooSmall { len: file_len })
    }

    /// The header of the copy that a backup makes of this log from `checkpoint` on: its first
    /// LSN is the checkpoint's, and it never wraps, so every sequence byte in it is 1.
    /// `creator` is cut to 31 bytes; the server knows backups by `Backup ` and a version.
    pub fn copied(&self, checkpoint: Checkpoint, creator: &str) -> [u8; HEADER_SIZE] {
        header_area(checkpoint, creator, self.format, self.encryption.into())
    }
}

/// The log that `prepare` leaves behind once everything up to `end` is in the data files: empty
/// but for a checkpoint, and ending at `end`. `None` if `end` is too small to be an LSN.
/// `creator` as in [`LogHeader::copied`].
pub fn final_log(end: Lsn, creator: &str) -> Option<[u8; FINAL_LOG_SIZE]> {
    let start = Lsn(end.0.checked_sub(CHECKPOINT_MTR_LEN as u64)?);
    if start.0 < HEADER_LEN {
        return None;
    }
    let checkpoint = Checkpoint { lsn: start, end_lsn: start };
    let mut record = [0; 11];
    // FILE_CHECKPOINT, 10 more bytes: tablespace 0, page 0, LSN.
    let [kind, _, _, lsn @ ..] = &mut record;
    *kind = 0xfa;
    lsn.copy_from_slice(&start.0.to_be_bytes());
    let crc = crc32c::crc32c(&record).to_be_bytes();
    let header = header_area(checkpoint, creator, Format::Ring, RawEncryption::NONE);
    let mut bytes = header.iter().chain(&record).chain(&[1]).chain(&crc);
    Some(std::array::from_fn(|_| bytes.next().copied().unwrap_or_default()))
}

/// A checkpoint slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// All pages changed before this LSN were durable; recovery starts here.
    pub lsn: Lsn,
    /// Start of the mini-transactions `FILE_MODIFY`..., `FILE_CHECKPOINT(lsn)`.
    pub end_lsn: Lsn,
}

impl Checkpoint {
    /// Reads one slot (64 bytes); `None` if it is torn, unused or impossible for this log.
    pub fn parse(slot: &[u8], first_lsn: Lsn) -> Option<Self> {
        let (slot, _) = Slot::ref_from_prefix(slot).ok()?;
        let checkpoint = Self { lsn: Lsn(slot.lsn.get()), end_lsn: Lsn(slot.end_lsn.get()) };
        let valid = slot.crc.get() == crc32c::crc32c(covered(slot.as_bytes()))
            && slot.zero.iter().all(|&b| b == 0)
            && checkpoint.lsn >= first_lsn
            && checkpoint.end_lsn >= checkpoint.lsn;
        valid.then_some(checkpoint)
    }

    /// The newest valid checkpoint of a log whose first 12288 bytes are `header_area`. The server
    /// writes the slots in turn, so at most one is torn at any time.
    ///
    /// # Errors
    ///
    /// [`HeaderError::NoCheckpoint`].
    pub fn newest(header_area: &[u8], first_lsn: Lsn) -> Result<Self, HeaderError> {
        SLOT_OFFSETS
            .iter()
            .filter_map(|&at| Self::parse(header_area.get(at..)?, first_lsn))
            .max_by_key(|checkpoint| checkpoint.lsn)
            .ok_or(HeaderError::NoCheckpoint)
    }

    fn to_slot(self) -> Slot {
        let mut slot = Slot {
            lsn: self.lsn.0.into(),
            end_lsn: self.end_lsn.0.into(),
            zero: [0; 44],
            crc: 0.into(),
        };
        slot.crc = crc32c::crc32c(covered(slot.as_bytes())).into();
        slot
    }
}

/// Header and checkpoint of a log that begins with its checkpoint.
fn header_area(
    checkpoint: Checkpoint,
    creator: &str,
    format: Format,
    crypt: RawEncryption,
) -> [u8; HEADER_SIZE] {
    let label = Label::new(format, 0, checkpoint.lsn, creator, crypt);
    let slot = checkpoint.to_slot();
    let mut area = [0; HEADER_SIZE];
    let parts = [(0, label.as_bytes()), (SLOT_OFFSETS[0], slot.as_bytes())];
    for (at, part) in parts {
        for (to, from) in area.iter_mut().skip(at).zip(part) {
            *to = *from;
        }
    }
    area
}

/// Label, creator and format of a log file whose first bytes are given.
pub(crate) fn recognise(bytes: &[u8]) -> Result<(&Label, String, Format), HeaderError> {
    let len = bytes.len() as u64;
    let (label, _) = Label::ref_from_prefix(bytes).map_err(|_| HeaderError::TooSmall { len })?;
    let creator = printable(&label.creator);
    let format = Format::recognise(label.format.get(), &creator)?;
    Ok((label, creator, format))
}

/// Checks the CRC-32C in the last four bytes.
pub(crate) fn verify_checksum(bytes: &[u8]) -> Result<(), HeaderError> {
    let computed = crc32c::crc32c(covered(bytes));
    let stored = bytes.last_chunk().map_or(0, |crc| u32::from_be_bytes(*crc));
    if stored == computed { Ok(()) } else { Err(HeaderError::Checksum { stored, computed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &[u8] = include_bytes!("../testdata/10.11/ib_logfile0.head");
    const BACKUP: &[u8] = include_bytes!("../testdata/10.11/backup-header");
    const PREPARED: &[u8] = include_bytes!("../testdata/10.11/prepared-log");

    /// A header with this format, and a valid checksum.
    fn label(change: impl FnOnce(&mut Label)) -> Vec<u8> {
        let (mut label, _) = Label::read_from_prefix(SERVER).unwrap();
        change(&mut label);
        label.crc = crc32c::crc32c(covered(label.as_bytes())).into();
        label.as_bytes().to_vec()
    }

    fn of_format(format: u32, creator: &[u8]) -> Result<LogHeader, HeaderError> {
        LogHeader::parse(&label(|label| {
            label.format = format.into();
            label.creator = [0; 32];
            label.creator[..creator.len()].copy_from_slice(creator);
        }))
    }

    #[test]
    fn header_of_a_server() {
        let header = LogHeader::parse(SERVER).unwrap();
        assert_eq!(header.first_lsn(), Lsn(12_288));
        assert_eq!(header.creator(), "MariaDB 10.11.19");
        assert!(!header.is_backup());
        assert_eq!(header.ring(4 << 20).unwrap().capacity(), (4 << 20) - 12_288);
        assert_eq!(header.ring(12_303), Err(HeaderError::TooSmall { len: 12_303 }));
        let slots = [(4096, 44_388, 44_388), (8192, 44_404, 50_741)];
        for (at, lsn, end_lsn) in slots {
            let checkpoint = Checkpoint { lsn: Lsn(lsn), end_lsn: Lsn(end_lsn) };
            assert_eq!(Checkpoint::parse(&SERVER[at..], Lsn(12_288)), Some(checkpoint));
        }
        assert_eq!(Checkpoint::newest(SERVER, Lsn(12_288)).unwrap().lsn, Lsn(44_404));
    }

    #[test]
    fn copied_header_is_that_of_the_reference() {
        let server = LogHeader::parse(SERVER).unwrap();
        let checkpoint = Checkpoint::newest(SERVER, server.first_lsn()).unwrap();
        assert_eq!(server.copied(checkpoint, "Backup 10.11.19")[..], *BACKUP);
        let backup = LogHeader::parse(BACKUP).unwrap();
        assert!(backup.is_backup());
        assert_eq!(backup.first_lsn(), checkpoint.lsn);
        assert_eq!(Checkpoint::newest(BACKUP, backup.first_lsn()), Ok(checkpoint));
    }

    #[test]
    fn final_log_is_that_of_the_reference() {
        assert_eq!(final_log(Lsn(94_228), "Backup 10.11.19").unwrap()[..], *PREPARED);
        assert!(final_log(Lsn(12_304), "").is_some());
        assert_eq!(final_log(Lsn(12_303), ""), None);
        assert_eq!(final_log(Lsn(0), ""), None);
    }

    #[test]
    fn creators_are_cut_to_their_field() {
        let server = LogHeader::parse(SERVER).unwrap();
        let checkpoint = Checkpoint { lsn: Lsn(20_000), end_lsn: Lsn(20_000) };
        let header = LogHeader::parse(&server.copied(checkpoint, &"x".repeat(99))).unwrap();
        assert_eq!(header.creator(), "x".repeat(31));
        let header = LogHeader::parse(&server.copied(checkpoint, "")).unwrap();
        assert_eq!(header.creator(), "an unnamed version");
    }

    #[test]
    fn old_formats_are_refused_by_name() {
        let old = [
            (0, "MariaDB 10.1 or older"),
            (1, "MariaDB 10.2 or MySQL 5.7"),
            (103, "MariaDB 10.3"),
            (104, "MariaDB 10.4"),
            (0x8000_0068, "MariaDB 10.4"),
            (0x8000_0000, "MariaDB 10.1 or older"),
            (6, "MySQL 8"),
        ];
        for (format, versions) in old {
            let error = of_format(format, b"MySQL 8.0.36").unwrap_err();
            let creator = "MySQL 8.0.36".to_owned();
            assert_eq!(error, HeaderError::TooOld { creator, versions });
            assert!(error.to_string().contains("MySQL 8.0.36"), "{error}");
        }
        // Logs up to 10.1 have neither creator nor header checksum.
        let error = LogHeader::parse(&[0; 512]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the redo log was created with an unnamed version and has the format of MariaDB 10.1 \
             or older: use the backup tool of that version"
        );
    }

    #[test]
    fn known_but_unsupported_formats_are_told_apart() {
        let formats = [
            (0x5048_5953, "of 10.5 to 10.7"),
            (0xd048_5953, "of an encrypted log, 10.5 to 10.7"),
            (0xf09f_979d, "of an encrypted log, 10.11 or later (innodb_encrypt_log)"),
        ];
        for (number, format) in formats {
            let creator = "MariaDB 10.5.23".to_owned();
            let error = of_format(number, b"MariaDB 10.5.23").unwrap_err();
            assert_eq!(error, HeaderError::NotSupported { creator, format });
        }
        let encrypted = label(|label| label.crypt.key_id = 1.into());
        assert!(matches!(LogHeader::parse(&encrypted), Err(HeaderError::NotSupported { .. })));
        assert_eq!(
            of_format(0xd068_7973, b"x\x1b[31m"),
            Err(HeaderError::Unknown { format: 0xd068_7973, creator: "x?[31m".to_owned() })
        );
    }

    #[test]
    fn damaged_headers() {
        assert_eq!(LogHeader::parse(&SERVER[..511]), Err(HeaderError::TooSmall { len: 511 }));
        assert_eq!(LogHeader::parse(&[]), Err(HeaderError::TooSmall { len: 0 }));
        for at in 4..LABEL_LEN {
            let mut bytes = SERVER[..LABEL_LEN].to_vec();
            bytes[at] ^= 0x10;
            let error = LogHeader::parse(&bytes).unwrap_err();
            assert!(matches!(error, HeaderError::Checksum { .. }), "byte {at}: {error}");
        }
        let field = |field, value| Err(HeaderError::Field { field, value });
        let bytes = label(|label| label.zero = 7.into());
        assert_eq!(LogHeader::parse(&bytes), field("word at 4", 7));
        let bytes = label(|label| label.first_lsn = 12_287.into());
        assert_eq!(LogHeader::parse(&bytes), field("first LSN", 12_287));
        let bytes = label(|label| label.crypt.key_id = 2.into());
        assert_eq!(LogHeader::parse(&bytes), field("encryption key id", 2));
    }

    #[test]
    fn invalid_checkpoints_are_passed_over() {
        let first_lsn = Lsn(12_288);
        let mut bytes = SERVER[..HEADER_SIZE].to_vec();
        for at in 8192..8192 + SLOT_LEN {
            bytes[at] ^= 1;
            let checkpoint = Checkpoint::newest(&bytes, first_lsn).unwrap();
            assert_eq!(checkpoint.lsn, Lsn(44_388), "byte {at}");
            bytes[at] ^= 1;
        }
        let slot = |lsn, end_lsn, change: fn(&mut Slot)| {
            let mut slot = Checkpoint { lsn: Lsn(lsn), end_lsn: Lsn(end_lsn) }.to_slot();
            change(&mut slot);
            slot.crc = crc32c::crc32c(covered(slot.as_bytes())).into();
            Checkpoint::parse(slot.as_bytes(), first_lsn)
        };
        assert!(slot(12_288, 12_288, |_| {}).is_some());
        assert_eq!(slot(12_287, 12_288, |_| {}), None, "before the first LSN");
        assert_eq!(slot(20_000, 19_999, |_| {}), None, "ends before it begins");
        assert_eq!(slot(20_000, 20_000, |slot| slot.zero[43] = 1), None, "not zero");
        assert_eq!(Checkpoint::parse(&[0; SLOT_LEN], Lsn(0)), None, "never written");
        assert_eq!(Checkpoint::parse(&SERVER[4096..4159], first_lsn), None, "too short");
        let none = Checkpoint::newest(&[0; HEADER_SIZE], first_lsn);
        assert_eq!(none, Err(HeaderError::NoCheckpoint));
        assert_eq!(Checkpoint::newest(&[], first_lsn), Err(HeaderError::NoCheckpoint));
    }

    #[test]
    fn of_two_equal_checkpoints_the_second_counts() {
        let mut bytes = SERVER[..HEADER_SIZE].to_vec();
        for (at, end_lsn) in [(4096, 30_000), (8192, 30_001)] {
            let slot = Checkpoint { lsn: Lsn(20_000), end_lsn: Lsn(end_lsn) }.to_slot();
            bytes[at..at + SLOT_LEN].copy_from_slice(slot.as_bytes());
        }
        assert_eq!(Checkpoint::newest(&bytes, Lsn(12_288)).unwrap().end_lsn, Lsn(30_001));
    }
}
