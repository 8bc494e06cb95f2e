//! What `.frm` files say of a table: its engine; and `.par` files: its partitions.
//!
//! ```text
//! .frm table  0  FE 01     3  engine number     4  length of the records at 64
//!             6  offset of the keys' place      14  bytes of it; FFFF: they stand at 47 (4 bytes)
//!            16  bytes of the default row       61  engine number of the partitions
//!            64  records: type (1), length (1; 0: 2 more bytes), data; type 1: engine of the
//!                partitions; `/` in place of the first type: no records
//!     behind the default row: length (2) and text of the CONNECTION option, then of the engine
//! .frm view   `TYPE=VIEW` and a new line
//! .par        0  length in words (4)      4  checksum      8  count n of partitions
//!            12  n engine numbers, filled up to words; length of the names (4); names, each
//!                ended by a zero byte, as they stand in file names; behind these words,
//!                connection strings
//! ```
//!
//! All integers are little-endian. Numbers from 45 on are given to engines when the server loads
//! them, so that only the name tells. Source: `create_frm` and `open_binary_frm` in `table.cc`,
//! `ha_partition::create_handler_file`; checked on files of 10.11 and 11.8.

/// Bytes of the header.
const HEADER_LEN: usize = 64;
/// Type of the record that names the engine of the partitions (`EXTRA2_DEFAULT_PART_ENGINE`).
const PARTITION_ENGINE: u8 = 1;
/// Number of the engine of all partitioned tables (`DB_TYPE_PARTITION_DB`).
const PARTITIONED: u8 = 20;
/// How the values of a column are made: `NEXT_NUMBER`.
const AUTO_INCREMENT: u8 = 15;
/// Length of the keys' place that says that it stands elsewhere.
const LONG_KEYS: u16 = 0xFFFF;

/// A storage engine, as far as a backup treats it differently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// `InnoDB`.
    InnoDb,
    /// `MyISAM`.
    MyIsam,
    /// MERGE (`MRG_MyISAM`).
    Merge,
    /// Aria.
    Aria,
    /// ARCHIVE.
    Archive,
    /// CSV.
    Csv,
    /// `MyRocks`.
    RocksDb,
    /// Mroonga.
    Mroonga,
    /// CONNECT.
    Connect,
    /// Another, by its name.
    Other(String),
}

impl Engine {
    fn from_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "innodb" => Self::InnoDb,
            "myisam" => Self::MyIsam,
            "mrg_myisam" => Self::Merge,
            "aria" => Self::Aria,
            "archive" => Self::Archive,
            "csv" => Self::Csv,
            "rocksdb" => Self::RocksDb,
            "mroonga" => Self::Mroonga,
            "connect" => Self::Connect,
            _ => Self::Other(name.to_owned()),
        }
    }

    /// Engines of fixed numbers (`legacy_db_type` in `handler.h`).
    fn from_number(number: u8) -> Self {
        match number {
            9 => Self::MyIsam,
            10 => Self::Merge,
            12 => Self::InnoDb,
            16 => Self::Archive,
            17 => Self::Csv,
            42 => Self::Aria,
            _ => Self::Other(format!("number {number}")),
        }
    }

    /// The server's name of the engine.
    pub fn name(&self) -> &str {
        match self {
            Self::InnoDb => "InnoDB",
            Self::MyIsam => "MyISAM",
            Self::Merge => "MRG_MyISAM",
            Self::Aria => "Aria",
            Self::Archive => "ARCHIVE",
            Self::Csv => "CSV",
            Self::RocksDb => "ROCKSDB",
            Self::Mroonga => "Mroonga",
            Self::Connect => "CONNECT",
            Self::Other(name) => name,
        }
    }

    /// Extensions of the files that every table, or partition of one, of this engine has.
    pub fn extensions(&self) -> &'static [&'static str] {
        match self {
            Self::InnoDb => &["ibd"],
            Self::MyIsam => &["MYI", "MYD"],
            Self::Merge => &["MRG"],
            Self::Aria => &["MAI", "MAD"],
            Self::Archive => &["ARZ"],
            Self::Csv => &["CSM", "CSV"],
            Self::RocksDb | Self::Mroonga | Self::Connect | Self::Other(_) => &[],
        }
    }
}

/// What a `.frm` file describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A view.
    View,
    /// A table or sequence.
    Table {
        /// Where its rows are; of a partitioned table, those of all partitions.
        engine: Engine,
        /// Whether there is a `.par` file with the names of partitions.
        is_partitioned: bool,
    },
}

impl Definition {
    /// Parses a whole `.frm` file.
    ///
    /// # Errors
    ///
    /// [`FrmError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FrmError> {
        if bytes.starts_with(b"TYPE=VIEW\n") {
            return Ok(Self::View);
        }
        if !bytes.starts_with(&[0xFE, 1]) {
            return Err(FrmError::Magic);
        }
        let number = byte(bytes, 3)?;
        if number != PARTITIONED {
            let engine = engine_name(bytes)?.filter(|name| !name.is_empty());
            let engine = engine.map_or_else(|| Engine::from_number(number), Engine::from_name);
            return Ok(Self::Table { engine, is_partitioned: false });
        }
        let engine = match record(bytes, PARTITION_ENGINE)? {
            Some(name) => Engine::from_name(text(name)?),
            None => Engine::from_number(byte(bytes, 61)?),
        };
        Ok(Self::Table { engine, is_partitioned: true })
    }
}

/// The engine's name behind the default row; `None` in files that end there.
fn engine_name(bytes: &[u8]) -> Result<Option<&str>, FrmError> {
    let keys_len = match u16_at(bytes, 14)? {
        LONG_KEYS => u32_at(bytes, 47)? as usize,
        len => usize::from(len),
    };
    let connection_at = [keys_len, usize::from(u16_at(bytes, 16)?)]
        .into_iter()
        .fold(usize::from(u16_at(bytes, 6)?), usize::saturating_add);
    let Some(rest) = bytes.get(connection_at..).filter(|rest| !rest.is_empty()) else {
        return Ok(None);
    };
    let (_, rest) = sized(rest)?;
    if rest.is_empty() {
        return Ok(None);
    }
    text(sized(rest)?.0).map(Some)
}

/// The data of the first of the records at 64 that has type `wanted`.
fn record(bytes: &[u8], wanted: u8) -> Result<Option<&[u8]>, FrmError> {
    let end = HEADER_LEN.saturating_add(usize::from(u16_at(bytes, 4)?));
    let mut records = bytes.get(HEADER_LEN..end).ok_or(FrmError::Truncated)?;
    if records.first() == Some(&b'/') {
        return Ok(None);
    }
    while let [kind, len, rest @ ..] = records {
        let (data, rest) = match len {
            0 => sized(rest)?,
            len => rest.split_at_checked(usize::from(*len)).ok_or(FrmError::Truncated)?,
        };
        if *kind == wanted {
            return Ok(Some(data));
        }
        records = rest;
    }
    Ok(None)
}

/// Whether one of the columns of the table described by the `.frm` file `bytes` is `AUTO_INCREMENT`.
///
/// ```text
/// 4  length of the records at 64; behind them u32: place of the form
/// form  258  number of columns    260  bytes of screens    288  screens, then 17 bytes a column:
///       10  how its values are made; 15: AUTO_INCREMENT
/// ```
///
/// # Errors
///
/// [`FrmError`]
pub fn has_auto_increment(bytes: &[u8]) -> Result<bool, FrmError> {
    let form = u32_at(bytes, HEADER_LEN + usize::from(u16_at(bytes, 4)?))? as usize;
    let columns = usize::from(u16_at(bytes, form.saturating_add(258))?);
    let first = form + 288 + usize::from(u16_at(bytes, form + 260)?);
    let columns = bytes.get(first..).and_then(|rest| rest.as_chunks::<17>().0.get(..columns));
    Ok(columns.ok_or(FrmError::Truncated)?.iter().any(|column| column[10] == AUTO_INCREMENT))
}

/// Parses a whole `.par` file: the names of the partitions, or of subpartitions where there are
/// some, as they stand in file names behind `#P#`.
///
/// # Errors
///
/// [`FrmError`].
pub fn partition_names(bytes: &[u8]) -> Result<Vec<String>, FrmError> {
    let len = (u32_at(bytes, 0)? as usize).checked_mul(4).ok_or(FrmError::Truncated)?;
    let bytes = bytes.get(..len).ok_or(FrmError::Truncated)?;
    let words = bytes.chunks_exact(4).filter_map(|word| word.first_chunk());
    if words.fold(0, |sum, word| sum ^ u32::from_le_bytes(*word)) != 0 {
        return Err(FrmError::Checksum);
    }
    let count = u32_at(bytes, 8)?;
    let names_at = count.checked_next_multiple_of(4).and_then(|len| len.checked_add(12));
    let names_at = names_at.ok_or(FrmError::Truncated)? as usize;
    let len = u32_at(bytes, names_at)? as usize;
    let names = bytes.get(names_at..).and_then(|rest| rest.get(4..)?.get(..len));
    let names = names.ok_or(FrmError::Truncated)?;
    let names = names.strip_suffix(&[0]).unwrap_or(names).split(|byte| *byte == 0);
    let names: Vec<String> =
        names.map(|name| text(name).map(str::to_owned)).collect::<Result<_, _>>()?;
    if names.len() == count as usize {
        Ok(names)
    } else {
        Err(FrmError::PartitionCount { count, names: names.len() })
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrmError {
    /// It ends too early.
    #[error("the file ends before what it says it holds")]
    Truncated,
    /// Another kind of file.
    #[error("it does not begin like the description of a table or view")]
    Magic,
    /// A name in it is no text.
    #[error("a name in it is not valid UTF-8")]
    Name,
    /// The checksum of a `.par` file is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// A `.par` file has more or fewer names than partitions.
    #[error("it has {count} partitions and {names} names")]
    PartitionCount {
        /// Partitions.
        count: u32,
        /// Names.
        names: usize,
    },
}

/// Text after its length in two bytes, and the rest.
fn sized(bytes: &[u8]) -> Result<(&[u8], &[u8]), FrmError> {
    let (len, rest) = bytes.split_first_chunk().ok_or(FrmError::Truncated)?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or(FrmError::Truncated)
}

fn text(bytes: &[u8]) -> Result<&str, FrmError> {
    std::str::from_utf8(bytes).map_err(|_| FrmError::Name)
}

fn byte(bytes: &[u8], offset: usize) -> Result<u8, FrmError> {
    bytes.get(offset).copied().ok_or(FrmError::Truncated)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, FrmError> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, FrmError> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], FrmError> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or(FrmError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MYISAM: &[u8] = include_bytes!("../testdata/10.11/m1.frm");
    const PARTITIONED_ARIA: &[u8] = include_bytes!("../testdata/10.11/ap.frm");
    const SUBPARTITIONS: &[u8] = include_bytes!("../testdata/10.11/sub.par");
    /// Two partitions, `p0` and `p1`, of a MyISAM table of 10.11.
    const PAR: [u8; 36] = [
        7, 0, 0, 0, 0x4b, 0x39, 0, 0x70, 2, 0, 0, 0, 9, 9, 0, 0, 6, 0, 0, 0, b'p', b'0', 0, b'p',
        b'1', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn engine_of(bytes: &[u8]) -> (Engine, bool) {
        match Definition::parse(bytes).unwrap() {
            Definition::Table { engine, is_partitioned } => (engine, is_partitioned),
            Definition::View => panic!("a view"),
        }
    }

    #[test]
    fn engines_of_real_files() {
        let file = |bytes: &'static [u8]| engine_of(bytes);
        assert_eq!(file(MYISAM), (Engine::MyIsam, false));
        assert_eq!(file(PARTITIONED_ARIA), (Engine::Aria, true));
        assert_eq!(file(include_bytes!("../testdata/10.11/arc.frm")), (Engine::Archive, false));
        assert_eq!(file(include_bytes!("../testdata/10.11/con2.frm")), (Engine::Connect, false));
        assert_eq!(file(include_bytes!("../testdata/10.11/sub.frm")), (Engine::MyIsam, true));
        assert_eq!(file(include_bytes!("../testdata/10.11/rp.frm")), (Engine::RocksDb, true));
        assert_eq!(file(include_bytes!("../testdata/11.8/rp.frm")), (Engine::RocksDb, true));
        let view = include_bytes!("../testdata/10.11/v.frm");
        assert_eq!(Definition::parse(view), Ok(Definition::View));
    }

    #[test]
    fn columns_that_count_by_themselves() {
        let auto = include_bytes!("../testdata/10.11/auto.frm");
        assert_eq!(has_auto_increment(auto), Ok(true));
        assert_eq!(has_auto_increment(MYISAM), Ok(false));
        for len in 0..auto.len() {
            let cut = has_auto_increment(&auto[..len]);
            assert!(cut == Ok(true) || cut == Err(FrmError::Truncated), "{len}: {cut:?}");
        }
    }

    #[test]
    fn a_file_without_names_tells_by_numbers() {
        // The default row of a file of that age ends it.
        let keys = usize::from(u16_at(MYISAM, 14).unwrap());
        let row = usize::from(u16_at(MYISAM, 16).unwrap());
        let end = usize::from(u16_at(MYISAM, 6).unwrap()) + keys + row;
        for (number, engine) in [
            (9, Engine::MyIsam),
            (10, Engine::Merge),
            (12, Engine::InnoDb),
            (16, Engine::Archive),
            (17, Engine::Csv),
            (42, Engine::Aria),
            (7, Engine::Other("number 7".into())),
        ] {
            let mut old = MYISAM[..end].to_vec();
            old[3] = number;
            assert_eq!(engine_of(&old), (engine.clone(), false));
            // A connection string alone.
            old.extend([1, 0, b'x']);
            assert_eq!(engine_of(&old), (engine, false));
        }
        let mut old = PARTITIONED_ARIA.to_vec();
        old[64] = b'/';
        assert_eq!(engine_of(&old), (Engine::Aria, true));
        old[61] = 9;
        assert_eq!(engine_of(&old), (Engine::MyIsam, true));
    }

    #[test]
    fn an_unknown_engine_is_named() {
        let at = MYISAM.windows(6).rposition(|window| window == b"MyISAM").unwrap();
        let mut other = MYISAM.to_vec();
        other[at..at + 6].copy_from_slice(b"SPIDER");
        assert_eq!(engine_of(&other), (Engine::Other("SPIDER".into()), false));
        other[at] = 0xFF;
        assert_eq!(Definition::parse(&other), Err(FrmError::Name));
    }

    #[test]
    fn records_of_long_data_are_skipped() {
        let mut bytes = PARTITIONED_ARIA[..64].to_vec();
        bytes[4..6].copy_from_slice(&310_u16.to_le_bytes());
        bytes.extend([0x80, 0, 44, 1]);
        bytes.extend([b'x'; 300]);
        bytes.extend([1, 4]);
        bytes.extend(*b"Aria");
        assert_eq!(engine_of(&bytes), (Engine::Aria, true));
        for len in 64..bytes.len() {
            assert_eq!(Definition::parse(&bytes[..len]), Err(FrmError::Truncated), "{len}");
        }
    }

    #[test]
    fn a_cut_or_foreign_file_is_an_error() {
        for len in 2..MYISAM.len() {
            // Whatever is left, no panic; the header is needed in any case.
            let parsed = Definition::parse(&MYISAM[..len]);
            assert!(len >= 18 || parsed == Err(FrmError::Truncated), "{len}: {parsed:?}");
        }
        for bytes in [&b""[..], b"\xFE", b"\xFE\x02\x0a\x09", b"TYPE=VIEW", b"frm"] {
            assert_eq!(Definition::parse(bytes), Err(FrmError::Magic));
        }
        let mut far = MYISAM.to_vec();
        far[14..16].fill(0xFF);
        far[47..51].fill(0xFF);
        assert_eq!(engine_of(&far), (Engine::MyIsam, false));
    }

    #[test]
    fn names_of_partitions() {
        assert_eq!(partition_names(&PAR).unwrap(), ["p0", "p1"]);
        assert_eq!(
            partition_names(SUBPARTITIONS).unwrap(),
            ["p0#SP#p0sp0", "p0#SP#p0sp1", "p@00201#SP#p@00201sp0", "p@00201#SP#p@00201sp1"]
        );
    }

    #[test]
    fn a_damaged_list_of_partitions_is_an_error() {
        for at in 0..28 {
            let mut bytes = PAR;
            bytes[at] ^= 0x10;
            assert!(partition_names(&bytes).is_err(), "byte {at}");
        }
        for len in 0..28 {
            assert_eq!(partition_names(&PAR[..len]), Err(FrmError::Truncated), "{len}");
        }
        let mut bytes = PAR;
        bytes[4] ^= 2 ^ 3;
        bytes[8] = 3;
        let error = FrmError::PartitionCount { count: 3, names: 2 };
        assert_eq!(partition_names(&bytes), Err(error));
        bytes[4..8].fill(0xFF);
        bytes[8..12].fill(0xFF);
        assert_eq!(partition_names(&bytes), Err(FrmError::Checksum));
    }
}
