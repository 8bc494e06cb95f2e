//! Index pages: inserting and deleting records in their list, heap and directory.
//!
//! ```text
//!   38  N_SLOTS, HEAP_TOP, N_HEAP (bit 15: compact), FREE, GARBAGE, LAST_INSERT, DIRECTION,
//!       N_DIRECTION, N_RECS, ...
//!   64  LEVEL, index id, segment headers
//!   94  infimum, supremum; then the heap, upwards
//!  ...  directory, downwards: slot 0 (infimum) ends 8 bytes before the page's end
//! ```
//!
//! A record is addressed by its origin: header before, data behind. Records form a list from
//! infimum to supremum; a directory slot points to every fourth to eighth, which "owns" (counts)
//! those before it. Source: `page0page.h`, `page0cur.cc`, `rem0rec.h`.

use super::{ApplyError, PAGE_TYPE, TRAILER_LEN};
use super::{byte_at, byte_mut, bytes, bytes_mut, copy, set_u16, u16_at};

const N_SLOTS: usize = 38;
const HEAP_TOP: usize = 40;
const N_HEAP: usize = 42;
const FREE: usize = 44;
const GARBAGE: usize = 46;
const LAST_INSERT: usize = 48;
/// The low byte of `PAGE_DIRECTION`, whose upper 5 bits belong to instant `ALTER TABLE`.
const DIRECTION: usize = 51;
const N_DIRECTION: usize = 52;
const N_RECS: usize = 54;
const LEVEL: usize = 64;
const INFIMUM_HEADER: usize = 94;

/// `PAGE_N_HEAP`: `ROW_FORMAT=COMPACT` or `DYNAMIC`.
const COMPACT_FLAG: usize = 0x8000;
/// `FIL_PAGE_INDEX`.
const TYPE_INDEX: usize = 17855;
/// Low byte of `FIL_PAGE_RTREE`; there the direction of inserts is not kept.
const TYPE_RTREE_LOW: usize = 0xbe;
/// Most records a directory slot can own.
const OWNED_MAX: usize = 8;
/// Fewest records a directory slot (but the first and the last) can own.
const OWNED_MIN: usize = 4;

const DIRECTION_LEFT: u8 = 1;
const DIRECTION_RIGHT: u8 = 2;
const DIRECTION_NONE: u8 = 5;

const COMPACT_RECORDS: &[u8; 26] = b"\x01\0\x02\0\x0dinfimum\0\x01\0\x0b\0\0supremum";
const REDUNDANT_RECORDS: &[u8; 31] =
    b"\x08\x01\0\0\x03\0\x74infimum\0\x09\x01\0\x08\x03\0\0supremum\0";

/// Arguments of an insert, see [`crate::record::Extended::Insert`].
pub(super) struct Insert<'a> {
    /// Predecessor, from infimum.
    pub prev: usize,
    /// Zig-zag.
    pub shift: usize,
    pub enc: usize,
    pub header_copy: usize,
    pub data_copy: usize,
    pub literal: &'a [u8],
}

/// Makes an empty page of `ROW_FORMAT=REDUNDANT`.
pub(super) fn create_redundant(page: &mut [u8]) -> Result<(), ApplyError> {
    create(page, &Format::REDUNDANT, REDUNDANT_RECORDS)
}

/// Makes an empty page of `ROW_FORMAT=COMPACT` or `DYNAMIC`.
pub(super) fn create_dynamic(page: &mut [u8]) -> Result<(), ApplyError> {
    create(page, &Format::DYNAMIC, COMPACT_RECORDS)
}

fn create(page: &mut [u8], format: &Format, records: &[u8]) -> Result<(), ApplyError> {
    set_u16(page, PAGE_TYPE, TYPE_INDEX)?;
    bytes_mut(page, N_SLOTS, LEVEL - N_SLOTS)?.fill(0);
    set_u16(page, N_SLOTS, 2)?;
    *byte_mut(page, DIRECTION)? = DIRECTION_NONE;
    set_u16(page, N_HEAP, 2 | if format.compact { COMPACT_FLAG } else { 0 })?;
    set_u16(page, HEAP_TOP, format.heap_start)?;
    bytes_mut(page, INFIMUM_HEADER, records.len())?.copy_from_slice(records);
    let trailer = page.len().saturating_sub(TRAILER_LEN);
    let cleared = trailer.saturating_sub(format.heap_start);
    bytes_mut(page, format.heap_start, cleared)?.fill(0);
    set_u16(page, trailer.saturating_sub(2), format.infimum)?;
    set_u16(page, trailer.saturating_sub(4), format.supremum)
}

/// What the two record formats do not share.
struct Format {
    compact: bool,
    infimum: usize,
    supremum: usize,
    heap_start: usize,
    /// Of the byte with the number of owned records, before the origin.
    owned_offset: usize,
    /// Of the word with the heap number, before the origin.
    heap_no_offset: usize,
}

impl Format {
    const DYNAMIC: Self = Self {
        compact: true,
        infimum: 99,
        supremum: 112,
        heap_start: 120,
        owned_offset: 5,
        heap_no_offset: 4,
    };
    const REDUNDANT: Self = Self {
        compact: false,
        infimum: 101,
        supremum: 116,
        heap_start: 125,
        owned_offset: 6,
        heap_no_offset: 5,
    };
}

/// An uncompressed index page.
pub(super) struct IndexPage<'a> {
    page: &'a mut [u8],
    format: &'static Format,
}

/// Header and data lengths of a record, bytes.
#[derive(Clone, Copy)]
struct Sizes {
    header: usize,
    data: usize,
}

impl Sizes {
    fn total(self) -> usize {
        self.header + self.data
    }
}

/// The place of a new record in the list: found before anything is changed.
struct Place {
    prev: usize,
    next: usize,
    owner: usize,
    n_owned: usize,
}

impl<'a> IndexPage<'a> {
    /// A page of `ROW_FORMAT=REDUNDANT`.
    pub(super) fn redundant(page: &'a mut [u8]) -> Result<Self, ApplyError> {
        Self::new(page, &Format::REDUNDANT)
    }

    /// A page of `ROW_FORMAT=COMPACT` or `DYNAMIC`.
    pub(super) fn dynamic(page: &'a mut [u8]) -> Result<Self, ApplyError> {
        Self::new(page, &Format::DYNAMIC)
    }

    fn new(page: &'a mut [u8], format: &'static Format) -> Result<Self, ApplyError> {
        let compact = u16_at(page, N_HEAP)? & COMPACT_FLAG != 0;
        if compact == format.compact {
            Ok(Self { page, format })
        } else {
            Err(ApplyError::RecordFormat)
        }
    }

    /// Inserts a record, into the space of the first free record if `reuse`, else at the heap's
    /// top.
    pub(super) fn insert(&mut self, insert: &Insert<'_>, reuse: bool) -> Result<(), ApplyError> {
        let prev = self.format.infimum.saturating_add(insert.prev);
        let next = self.next(prev)?;
        let (owner, n_owned) = self.owner(next)?;
        let place = Place { prev, next, owner, n_owned };
        let record = if self.format.compact {
            self.store_dynamic(insert, &place, reuse)?
        } else {
            self.store_redundant(insert, &place, reuse)?
        };
        self.link(&place, record)
    }

    /// Writes header and data of a new record; returns its origin.
    fn store_dynamic(
        &mut self,
        insert: &Insert<'_>,
        place: &Place,
        reuse: bool,
    ) -> Result<usize, ApplyError> {
        let (header, data) =
            insert.literal.split_at_checked(insert.enc >> 3).ok_or(ApplyError::InsertLengths)?;
        let sizes = self.within_page(
            insert.header_copy.saturating_add(5 + header.len()),
            insert.data_copy.saturating_add(data.len()),
        )?;
        let (start, heap_no) = if reuse {
            let free = self.first_free()?;
            let magnitude = insert.shift >> 1;
            let start = if insert.shift & 1 == 0 {
                free.saturating_add(magnitude).checked_sub(sizes.header)
            } else {
                free.checked_sub(sizes.header.saturating_add(magnitude))
            };
            let start = start.ok_or(ApplyError::Heap { start: 0, len: sizes.total() })?;
            self.check_heap(start, sizes)?;
            let next_free = self.next(free)?;
            (start, self.take_free(free, next_free, sizes)?)
        } else {
            self.take_heap(sizes)?
        };
        let record = start + sizes.header;
        let page = &mut *self.page;
        bytes_mut(page, start, header.len())?.copy_from_slice(header);
        let source = (place.prev - 5).checked_sub(insert.header_copy);
        copy(page, source.unwrap_or(usize::MAX), start + header.len(), insert.header_copy)?;
        let status = if u16_at(page, LEVEL)? == 0 { insert.enc & 4 } else { 1 };
        *byte_mut(page, record - 5)? = low_byte((insert.enc & 3) << 4);
        set_u16(page, record - 4, heap_no << 3 | status)?;
        copy(page, place.prev, record, insert.data_copy)?;
        bytes_mut(page, record + insert.data_copy, data.len())?.copy_from_slice(data);
        Ok(record)
    }

    /// As [`Self::store_dynamic`].
    fn store_redundant(
        &mut self,
        insert: &Insert<'_>,
        place: &Place,
        reuse: bool,
    ) -> Result<usize, ApplyError> {
        let n_fields = (insert.enc >> 3) + 1;
        let short = insert.enc >> 2 & 1;
        let header_len = 6 + n_fields.saturating_mul(2 - short);
        let header_copy = insert.header_copy.saturating_add(6);
        let source = place.prev.checked_sub(header_copy).ok_or(ApplyError::InsertLengths)?;
        let (header, data) = header_len
            .checked_sub(header_copy)
            .and_then(|literal| insert.literal.split_at_checked(literal))
            .ok_or(ApplyError::InsertLengths)?;
        // The end of the last field, first in the header, tells the length of the data.
        let copied = bytes(self.page, source, header_copy)?;
        let mut first = header.iter().chain(copied).map(|&b| usize::from(b));
        let (high, low) = (first.next().unwrap_or(0), first.next().unwrap_or(0));
        let data_len = if short == 1 { high & 0x7f } else { (high << 8 | low) & 0x3fff };
        if insert.data_copy.checked_add(data.len()) != Some(data_len) {
            return Err(ApplyError::InsertLengths);
        }
        let sizes = self.within_page(header_len, data_len)?;
        let (start, heap_no) = if reuse {
            let free = self.first_free()?;
            let start = free.checked_sub(self.stored_sizes(free)?.header);
            let start = start.ok_or(ApplyError::Heap { start: 0, len: sizes.total() })?;
            self.check_heap(start, sizes)?;
            let next_free = self.next(free)?;
            (start, self.take_free(free, next_free, sizes)?)
        } else {
            self.take_heap(sizes)?
        };
        let record = start + sizes.header;
        let page = &mut *self.page;
        bytes_mut(page, start, header.len())?.copy_from_slice(header);
        copy(page, source, start + header.len(), header_copy)?;
        *byte_mut(page, record - 6)? = low_byte((insert.enc & 3) << 4);
        let word = u16_at(page, record - 5)? & 7 | heap_no << 3;
        set_u16(page, record - 5, word)?;
        let word = u16_at(page, record - 4)? & !0x7fe | n_fields << 1 & 0x7fe;
        set_u16(page, record - 4, word)?;
        let flag = byte_mut(page, record - 3)?;
        *flag = *flag & 0xfe | low_byte(short);
        copy(page, place.prev, record, insert.data_copy)?;
        bytes_mut(page, record + insert.data_copy, data.len())?.copy_from_slice(data);
        Ok(record)
    }

    /// Puts the new record behind its predecessor, keeps the statistics and the directory.
    fn link(&mut self, place: &Place, record: usize) -> Result<(), ApplyError> {
        let last_insert = u16_at(self.page, LAST_INSERT)?;
        set_u16(self.page, LAST_INSERT, record)?;
        self.set_next(place.prev, record)?;
        self.set_next(record, place.next)?;
        self.set_owned(place.owner, place.n_owned + 1)?;
        self.note_direction(last_insert, place)?;
        let n_recs = u16_at(self.page, N_RECS)?;
        set_u16(self.page, N_RECS, n_recs + 1)?;
        if place.n_owned == OWNED_MAX {
            let slot = self.slot_of(place.owner)?;
            self.split(slot)?;
        }
        Ok(())
    }

    fn note_direction(&mut self, last_insert: usize, place: &Place) -> Result<(), ApplyError> {
        if byte_at(self.page, PAGE_TYPE + 1)? == TYPE_RTREE_LOW {
            return Ok(());
        }
        let byte = byte_mut(self.page, DIRECTION)?;
        let before = *byte & 7;
        let now = if last_insert == 0 {
            DIRECTION_NONE
        } else if last_insert == place.prev && before != DIRECTION_LEFT {
            DIRECTION_RIGHT
        } else if last_insert == place.next && before != DIRECTION_RIGHT {
            DIRECTION_LEFT
        } else {
            DIRECTION_NONE
        };
        *byte = *byte & !7 | now;
        let count = if now == DIRECTION_NONE { 0 } else { u16_at(self.page, N_DIRECTION)? + 1 };
        set_u16(self.page, N_DIRECTION, count)
    }

    /// Deletes the record behind `prev` (from infimum). `sizes`: of its variable header and of
    /// its data; `REDUNDANT` records carry them.
    pub(super) fn delete(
        &mut self,
        prev: usize,
        sizes: Option<(usize, usize)>,
    ) -> Result<(), ApplyError> {
        let prev = self.format.infimum.saturating_add(prev);
        let record = self.next(prev)?;
        let sizes = match sizes {
            Some((header, data)) => self.within_page(header.saturating_add(5), data)?,
            None => self.stored_sizes(record)?,
        };
        // Supremum cannot be deleted, and the end of the list is no record.
        let start = record.checked_sub(sizes.header).filter(|&s| s >= self.format.heap_start);
        start.ok_or(ApplyError::Heap { start: record, len: sizes.total() })?;
        let next = self.next(record)?;
        let (mut owner, n_owned) = self.owner(record)?;
        let slot = self.slot_of(owner)?;
        if owner == record {
            owner = prev;
            set_u16(self.page, self.slot_offset(slot)?, prev)?;
        }
        self.set_next(prev, next)?;
        // Not 0: owner() looks for a record that owns at least itself.
        let n_owned = n_owned - 1;
        self.set_owned(owner, n_owned)?;
        self.free_space(record, sizes)?;
        if n_owned < OWNED_MIN { self.balance(slot) } else { Ok(()) }
    }

    /// Gives a deleted record's space back to the heap's top, or to the free list; clears it.
    fn free_space(&mut self, record: usize, sizes: Sizes) -> Result<(), ApplyError> {
        let last = u16_at(self.page, N_HEAP)?.checked_sub(1).ok_or(ApplyError::Counter(N_HEAP))?;
        let n_recs = u16_at(self.page, N_RECS)?.checked_sub(1);
        let n_recs = n_recs.ok_or(ApplyError::Counter(N_RECS))?;
        let end = record + sizes.data;
        if self.heap_no(record)? == last & !COMPACT_FLAG {
            let top = u16_at(self.page, HEAP_TOP)?;
            let gap = top.checked_sub(end).ok_or(ApplyError::Counter(HEAP_TOP))?;
            let start = record.checked_sub(sizes.header);
            let start = start.ok_or(ApplyError::Heap { start: 0, len: sizes.total() })?;
            set_u16(self.page, HEAP_TOP, start)?;
            set_u16(self.page, N_HEAP, last)?;
            self.reduce_garbage(gap)?;
            bytes_mut(self.page, start, sizes.total())?.fill(0);
        } else {
            let next_free = u16_at(self.page, FREE)?;
            set_u16(self.page, FREE, record)?;
            let garbage = u16_at(self.page, GARBAGE)? + sizes.total();
            set_u16(self.page, GARBAGE, garbage)?;
            bytes_mut(self.page, record, sizes.data)?.fill(0);
            if next_free == 0 {
                set_u16(self.page, record - 2, 0)?;
            } else {
                self.set_next(record, next_free)?;
            }
        }
        set_u16(self.page, LAST_INSERT, 0)?;
        set_u16(self.page, N_RECS, n_recs)
    }

    /// Divides the records of a slot that owns 9 among it and a new slot before it.
    fn split(&mut self, slot: usize) -> Result<(), ApplyError> {
        let before = slot.checked_sub(1).ok_or(ApplyError::NoSlot(0))?;
        let mut record = u16_at(self.page, self.slot_offset(before)?)?;
        for _ in 0..OWNED_MIN {
            record = self.next(record)?;
        }
        let n_slots = u16_at(self.page, N_SLOTS)?;
        let (new_last, at) = (self.slot_offset(n_slots)?, self.slot_offset(slot)?);
        copy(self.page, new_last + 2, new_last, at.saturating_sub(new_last))?;
        set_u16(self.page, N_SLOTS, n_slots + 1)?;
        set_u16(self.page, at, record)?;
        self.set_owned(record, OWNED_MIN)?;
        let moved = u16_at(self.page, at - 2)?;
        self.set_owned(moved, OWNED_MAX + 1 - OWNED_MIN)
    }

    /// Merges a slot that owns 3 records with the one after it, or takes a record from that.
    fn balance(&mut self, slot: usize) -> Result<(), ApplyError> {
        let n_slots = u16_at(self.page, N_SLOTS)?;
        if slot + 1 == n_slots {
            return Ok(());
        }
        let (at, up_at) = (self.slot_offset(slot)?, self.slot_offset(slot + 1)?);
        let (record, up) = (u16_at(self.page, at)?, u16_at(self.page, up_at)?);
        let up_owned = self.owned(up)?;
        self.set_owned(record, 0)?;
        if up_owned <= OWNED_MIN {
            self.set_owned(up, up_owned + OWNED_MIN - 1)?;
            let last = self.slot_offset(n_slots.saturating_sub(1))?;
            copy(self.page, last, last + 2, at.saturating_sub(last))?;
            set_u16(self.page, last, 0)?;
            set_u16(self.page, N_SLOTS, n_slots.saturating_sub(1))
        } else {
            let next = self.next(record)?;
            self.set_owned(next, OWNED_MIN)?;
            self.set_owned(up, up_owned - 1)?;
            set_u16(self.page, at, next)
        }
    }

    /// Takes a new heap number and `sizes` bytes at the heap's top; returns the start and the
    /// number.
    fn take_heap(&mut self, sizes: Sizes) -> Result<(usize, usize), ApplyError> {
        let start = u16_at(self.page, HEAP_TOP)?;
        self.check_heap(start, sizes)?;
        let n_heap = u16_at(self.page, N_HEAP)?;
        set_u16(self.page, N_HEAP, n_heap + 1)?;
        set_u16(self.page, HEAP_TOP, start + sizes.total())?;
        Ok((start, n_heap & !COMPACT_FLAG))
    }

    /// Takes the first record off the free list for a record of `sizes`; returns its heap number.
    fn take_free(
        &mut self,
        free: usize,
        next_free: usize,
        sizes: Sizes,
    ) -> Result<usize, ApplyError> {
        let heap_no = self.heap_no(free)?;
        self.reduce_garbage(sizes.total())?;
        set_u16(self.page, FREE, next_free)?;
        Ok(heap_no)
    }

    fn first_free(&self) -> Result<usize, ApplyError> {
        match u16_at(self.page, FREE)? {
            0 => Err(ApplyError::NothingFree),
            record => Ok(record),
        }
    }

    fn reduce_garbage(&mut self, len: usize) -> Result<(), ApplyError> {
        let garbage = u16_at(self.page, GARBAGE)?.checked_sub(len);
        set_u16(self.page, GARBAGE, garbage.ok_or(ApplyError::Counter(GARBAGE))?)
    }

    /// Both lengths are less than the page's, so that sums of them cannot overflow.
    fn within_page(&self, header: usize, data: usize) -> Result<Sizes, ApplyError> {
        if header < self.page.len() && data < self.page.len() {
            Ok(Sizes { header, data })
        } else {
            Err(ApplyError::InsertLengths)
        }
    }

    fn check_heap(&self, start: usize, sizes: Sizes) -> Result<(), ApplyError> {
        let n_slots = u16_at(self.page, N_SLOTS)?;
        let directory = self.slot_offset(n_slots.saturating_sub(1))?;
        let len = sizes.total();
        if start < self.format.heap_start || start + len > directory {
            return Err(ApplyError::Heap { start, len });
        }
        Ok(())
    }

    /// Sizes of a `REDUNDANT` record, from its own header.
    fn stored_sizes(&self, record: usize) -> Result<Sizes, ApplyError> {
        let outside = ApplyError::Range { offset: record, len: 0 };
        let before = |len: usize| record.checked_sub(len).ok_or(outside);
        let n_fields = (u16_at(self.page, before(4)?)? & 0x7fe) >> 1;
        if byte_at(self.page, before(3)?)? & 1 == 1 {
            let header = 6 + n_fields;
            Ok(Sizes { header, data: byte_at(self.page, before(header)?)? & 0x7f })
        } else {
            let header = 6 + 2 * n_fields;
            Ok(Sizes { header, data: u16_at(self.page, before(header)?)? & 0x3fff })
        }
    }

    /// The first record from `record` on that has a directory slot, and how many it owns.
    fn owner(&self, record: usize) -> Result<(usize, usize), ApplyError> {
        let mut at = record;
        // A sound list needs 8 steps; in a damaged one the search ends after the heap's records.
        for _ in 0..=u16_at(self.page, N_HEAP)? & !COMPACT_FLAG {
            match self.owned(at)? {
                0 => at = self.next(at)?,
                n_owned => return Ok((at, n_owned)),
            }
        }
        Err(ApplyError::NoOwner(record))
    }

    fn owned_offset(&self, record: usize) -> Result<usize, ApplyError> {
        let offset = record.checked_sub(self.format.owned_offset);
        offset.ok_or(ApplyError::Range { offset: record, len: 0 })
    }

    fn owned(&self, record: usize) -> Result<usize, ApplyError> {
        Ok(byte_at(self.page, self.owned_offset(record)?)? & 15)
    }

    fn set_owned(&mut self, record: usize, n_owned: usize) -> Result<(), ApplyError> {
        let offset = self.owned_offset(record)?;
        let byte = byte_mut(self.page, offset)?;
        *byte = *byte & 0xf0 | low_byte(n_owned & 15);
        Ok(())
    }

    fn heap_no(&self, record: usize) -> Result<usize, ApplyError> {
        let offset = record.checked_sub(self.format.heap_no_offset);
        let offset = offset.ok_or(ApplyError::Range { offset: record, len: 0 })?;
        Ok(u16_at(self.page, offset)? >> 3)
    }

    /// The record after `record`; 0 at the end. `COMPACT` stores the distance, modulo 65536.
    fn next(&self, record: usize) -> Result<usize, ApplyError> {
        let offset = record.checked_sub(2).ok_or(ApplyError::Range { offset: record, len: 0 })?;
        match u16_at(self.page, offset)? {
            0 => Ok(0),
            distance if self.format.compact => Ok((record + distance) & 0xffff),
            next => Ok(next),
        }
    }

    fn set_next(&mut self, record: usize, next: usize) -> Result<(), ApplyError> {
        let offset = record.checked_sub(2).ok_or(ApplyError::Range { offset: record, len: 0 })?;
        let stored = if self.format.compact { next.wrapping_sub(record) } else { next };
        set_u16(self.page, offset, stored)
    }

    fn slot_offset(&self, slot: usize) -> Result<usize, ApplyError> {
        let from_end = TRAILER_LEN + 2 * (slot + 1);
        let offset = self.page.len().checked_sub(from_end);
        offset.ok_or(ApplyError::Range { offset: usize::MAX, len: from_end })
    }

    /// The slot, not the first, that points to `record`.
    fn slot_of(&self, record: usize) -> Result<usize, ApplyError> {
        let n_slots = u16_at(self.page, N_SLOTS)?;
        let last = n_slots.checked_sub(1).ok_or(ApplyError::NoSlot(record))?;
        let [.., high, low] = record.to_be_bytes();
        let slots = bytes(self.page, self.slot_offset(last)?, 2 * last)?;
        let from_last = slots.chunks_exact(2).position(|slot| slot == [high, low]);
        from_last.map(|n| last - n).ok_or(ApplyError::NoSlot(record))
    }
}

fn low_byte(value: usize) -> u8 {
    let [.., low] = value.to_be_bytes();
    low
}
