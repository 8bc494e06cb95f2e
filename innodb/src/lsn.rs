//! The numbers that everything is addressed by: log sequence numbers, tablespaces and pages.

use std::fmt;

/// A position in the redo log stream, in bytes (format of 10.8 and later: one LSN, one byte of
/// mini-transactions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position `len` bytes after this one, or `None` where it would not fit into 64 bits.
    pub fn checked_add(self, len: u64) -> Option<Self> {
        self.0.checked_add(len).map(Self)
    }

    /// Bytes from `earlier` to this position; 0 when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a tablespace. 0 is the system tablespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// The system tablespace, `ibdata1` and its fellows.
    pub const SYSTEM: Self = Self(0);
    /// Ids from here on are reserved: 0xFFFFFFFE is the temporary tablespace.
    pub const FIRST_RESERVED: u32 = 0xFFFF_FFF0;

    /// Whether no data file may carry this id (`SRV_SPACE_ID_UPPER_BOUND` in `srv0srv.h`).
    pub fn is_reserved(self) -> bool {
        self.0 >= Self::FIRST_RESERVED
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a page in its tablespace, from 0; for the system tablespace continuous across files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u32);

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page of a tablespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId {
    /// The tablespace.
    pub space: SpaceId,
    /// The page in it.
    pub page_no: PageNo,
}

impl PageId {
    /// The page `page_no` of tablespace `space`.
    pub fn new(space: u32, page_no: u32) -> Self {
        Self { space: SpaceId(space), page_no: PageNo(page_no) }
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.space, self.page_no)
    }
}
