//! Literal pages; where a page is the result of several records, its checksum was computed by an
//! independent program that is checked against the server's own recovery.

use super::*;
use innodb::{PageNo, SpaceId};

const ID: PageId = PageId { space: SpaceId(5), page_no: PageNo(7) };
const P: usize = 4096;

fn apply_all(page: &mut [u8], records: &[Record<'_>]) -> Result<(), ApplyError> {
    records.iter().try_for_each(|record| apply(record, page, Frame::Uncompressed))
}

fn extended(operation: Extended<'_>) -> Record<'_> {
    Record::Extended(ID, operation)
}

fn insert(
    kind: InsertKind,
    prev: u32,
    shift: u32,
    enc: u32,
    hdr_copy: u32,
    data_copy: u32,
    literal: &[u8],
) -> Record<'_> {
    extended(Extended::Insert { kind, prev, shift, enc, hdr_copy, data_copy, literal })
}

/// A new record at the heap's top with one header byte of its own.
fn insert_dynamic(prev: u32, literal: &[u8]) -> Record<'_> {
    insert(InsertKind::HeapDynamic, prev, 0, 1 << 3, 0, 0, literal)
}

fn dynamic_page() -> Vec<u8> {
    let mut page = vec![0xaa; P];
    let records = [Record::InitPage(ID), extended(Extended::InitRowFormatDynamic)];
    apply_all(&mut page, &records).unwrap();
    page
}

fn redundant_page() -> Vec<u8> {
    let mut page = vec![0xaa; P];
    let records = [Record::InitPage(ID), extended(Extended::InitRowFormatRedundant)];
    apply_all(&mut page, &records).unwrap();
    page
}

#[test]
fn write_memset_and_memmove_change_just_their_bytes() {
    let mut page: Vec<u8> = (0..64).collect();
    let records = [
        Record::Write { page: ID, offset: 8, data: b"abc" },
        Record::Memset { page: ID, offset: 12, len: 5, pattern: b"xy" },
        Record::Memset { page: ID, offset: 18, len: 2, pattern: b"z" },
        Record::Memmove { page: ID, offset: 24, len: 4, source: 22 },
        Record::Memmove { page: ID, offset: 40, len: 4, source: 42 },
        Record::Ignored(ID),
        Record::FreePage(ID),
    ];
    apply_all(&mut page, &records).unwrap();
    let mut expected: Vec<u8> = (0..64).collect();
    expected[8..11].copy_from_slice(b"abc");
    expected[12..17].copy_from_slice(b"xyxyx");
    expected[18..20].copy_from_slice(b"zz");
    expected[24..28].copy_from_slice(&[22, 23, 24, 25]);
    expected[40..44].copy_from_slice(&[42, 43, 44, 45]);
    assert_eq!(page, expected);
}

#[test]
fn the_last_byte_of_the_page_can_be_changed_and_none_behind_it() {
    let mut page = vec![0; 64];
    let fitting = [
        Record::Write { page: ID, offset: 63, data: b"a" },
        Record::Memset { page: ID, offset: 60, len: 4, pattern: b"b" },
        Record::Memmove { page: ID, offset: 8, len: 4, source: 60 },
        Record::Memmove { page: ID, offset: 60, len: 4, source: 8 },
    ];
    apply_all(&mut page, &fitting).unwrap();
    let outside = [
        (Record::Write { page: ID, offset: 63, data: b"ab" }, 63, 2),
        (Record::Write { page: ID, offset: u32::MAX, data: b"ab" }, 0xffff_ffff, 2),
        (Record::Memset { page: ID, offset: 60, len: 5, pattern: b"b" }, 60, 5),
        (Record::Memset { page: ID, offset: 8, len: u32::MAX, pattern: b"b" }, 8, 0xffff_ffff),
        (Record::Memmove { page: ID, offset: 61, len: 4, source: 8 }, 61, 4),
        (Record::Memmove { page: ID, offset: 8, len: 4, source: 61 }, 61, 4),
    ];
    for (record, offset, len) in outside {
        let before = page.clone();
        let error = apply(&record, &mut page, Frame::Uncompressed).unwrap_err();
        assert_eq!(error, ApplyError::Range { offset, len }, "{record:?}");
        assert_eq!(page, before);
    }
}

#[test]
fn an_initialised_page_holds_just_its_identity() {
    for (frame, len) in [(Frame::Uncompressed, P), (Frame::Compressed, 1024)] {
        let mut page = vec![0xaa; len];
        apply(&Record::InitPage(ID), &mut page, frame).unwrap();
        let mut expected = vec![0; len];
        expected[4..8].copy_from_slice(&[0, 0, 0, 7]);
        expected[8..16].fill(0xff);
        expected[34..38].copy_from_slice(&[0, 0, 0, 5]);
        assert_eq!(page, expected);
    }
}

#[test]
fn empty_index_pages_have_two_records_and_two_slots() {
    let page = dynamic_page();
    assert_eq!(page[24..26], [0x45, 0xbf]);
    let header = [0, 2, 0, 120, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0];
    assert_eq!(page[38..56], header);
    assert_eq!(&page[94..120], b"\x01\0\x02\0\x0dinfimum\0\x01\0\x0b\0\0supremum");
    assert!(page[120..P - 12].iter().all(|&b| b == 0));
    assert_eq!(page[P - 12..], [0, 112, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0]);

    let page = redundant_page();
    let header = [0, 2, 0, 125, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0];
    assert_eq!(page[38..56], header);
    let records = b"\x08\x01\0\0\x03\0\x74infimum\0\x09\x01\0\x08\x03\0\0supremum\0";
    assert_eq!(&page[94..125], records);
    assert_eq!(page[P - 12..], [0, 116, 0, 101, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn index_page_creation_keeps_level_index_id_and_segments() {
    let mut page = vec![0xaa; P];
    apply_all(&mut page, &[extended(Extended::InitRowFormatDynamic)]).unwrap();
    assert!(page[64..94].iter().all(|&b| b == 0xaa));
    assert!(page[P - 8..].iter().all(|&b| b == 0xaa));
}

#[test]
fn undo_records_stand_between_the_offsets_of_their_ends() {
    let mut page = vec![0xaa; P];
    let records = [
        extended(Extended::UndoInit),
        extended(Extended::UndoAppend(b"first")),
        extended(Extended::UndoAppend(b"2")),
    ];
    apply_all(&mut page, &records).unwrap();
    assert_eq!(page[24..26], [0, 2]);
    let header = [0, 0, 0, 56, 0, 70, 255, 255, 255, 255, 0, 0, 255, 255, 255, 255, 0, 0];
    assert_eq!(page[38..56], header);
    assert_eq!(&page[56..65], b"\0\x41first\0\x38");
    assert_eq!(&page[65..70], b"\0\x462\0\x41");
    assert!(page[70..86].iter().all(|&b| b == 0xaa));
    assert!(page[86..P - 8].iter().all(|&b| b == 0));
    assert!(page[P - 8..].iter().all(|&b| b == 0xaa));
}

#[test]
fn an_undo_record_must_fit() {
    let mut page = vec![0; 128];
    apply_all(&mut page, &[extended(Extended::UndoInit)]).unwrap();
    let longest = [1; 128 - 8 - 2 - 56 - 4 - 1];
    apply_all(&mut page.clone(), &[extended(Extended::UndoAppend(&longest))]).unwrap();
    let longer = [1; 128 - 8 - 2 - 56 - 4];
    let error = apply_all(&mut page, &[extended(Extended::UndoAppend(&longer))]).unwrap_err();
    assert_eq!(error, ApplyError::UndoFull { free: 56, len: 58 });
    page[43] = 55;
    let error = apply_all(&mut page, &[extended(Extended::UndoAppend(b"x"))]).unwrap_err();
    assert_eq!(error, ApplyError::UndoFull { free: 55, len: 1 });
}

#[test]
fn a_dynamic_record_is_inserted_at_the_heaps_top() {
    let mut page = dynamic_page();
    // Header 5 + 1 at 120; origin 126; data "key1".
    apply_all(&mut page, &[insert_dynamic(0, b"\x04key1")]).unwrap();
    assert_eq!(&page[120..130], b"\x04\0\0\x10\xff\xf2key1");
    assert_eq!(page[97..99], [0, 27]);
    // N_SLOTS 2, HEAP_TOP 130, N_HEAP 3, FREE 0, GARBAGE 0, LAST_INSERT 126, NONE, 0, N_RECS 1.
    let header = [0, 2, 0, 130, 0x80, 3, 0, 0, 0, 0, 0, 126, 0, 5, 0, 0, 0, 1];
    assert_eq!(page[38..56], header);
    assert_eq!(page[112 - 5] & 15, 2);
    // Behind the first: its header byte and "key" are copied. Direction: right.
    let second = insert(InsertKind::HeapDynamic, 27, 0, 2, 1, 3, b"2");
    apply_all(&mut page, &[second]).unwrap();
    assert_eq!(&page[130..140], b"\x04\x20\0\x18\xff\xe8key2");
    assert_eq!(page[124..126], [0, 10]);
    let header = [0, 2, 0, 140, 0x80, 4, 0, 0, 0, 0, 0, 136, 0, 2, 0, 1, 0, 2];
    assert_eq!(page[38..56], header);
}

#[test]
fn a_deleted_dynamic_record_is_reused_or_given_back() {
    let mut page = dynamic_page();
    let records = [insert_dynamic(0, b"\x04key1"), insert_dynamic(27, b"\x04key2")];
    apply_all(&mut page, &records).unwrap();
    let one = page.clone();
    // The first of two: goes to the free list.
    let first = extended(Extended::DeleteRowFormatDynamic { prev: 0, hdr_size: 1, data_size: 4 });
    apply_all(&mut page, &[first]).unwrap();
    let header = [0, 2, 0, 140, 0x80, 4, 0, 126, 0, 10, 0, 0, 0, 2, 0, 1, 0, 1];
    assert_eq!(page[38..56], header);
    assert_eq!(&page[120..130], b"\x04\0\0\x10\0\0\0\0\0\0");
    assert_eq!(page[97..99], [0, 37]);
    // Its space and heap number are taken by a shorter record, shifted by one byte to the right.
    let reuse = insert(InsertKind::ReuseDynamic, 0, 2, 1 << 3, 0, 0, b"\x03new");
    apply_all(&mut page, &[reuse]).unwrap();
    assert_eq!(&page[120..130], b"\x04\x03\0\0\x10\0\x09new");
    let header = [0, 2, 0, 140, 0x80, 4, 0, 0, 0, 1, 0, 127, 0, 5, 0, 0, 0, 2];
    assert_eq!(page[38..56], header);
    // The last of the heap is given back with its header.
    let mut page = one;
    let last = extended(Extended::DeleteRowFormatDynamic { prev: 27, hdr_size: 1, data_size: 4 });
    apply_all(&mut page, &[last]).unwrap();
    assert!(page[130..140].iter().all(|&b| b == 0));
    let header = [0, 2, 0, 130, 0x80, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 1];
    assert_eq!(page[38..56], header);
}

#[test]
fn a_redundant_record_is_inserted_deleted_and_reused() {
    let mut page = redundant_page();
    // One field, short: header 7. The six bytes before the origin are infimum's, then corrected.
    let first = insert(InsertKind::HeapRedundant, 0, 0, 1 << 2, 0, 0, b"\x04key1");
    apply_all(&mut page, &[first]).unwrap();
    assert_eq!(&page[125..136], b"\x04\0\0\x10\x03\0\x74key1");
    assert_eq!(page[99..101], [0, 132]);
    let header = [0, 2, 0, 136, 0, 3, 0, 0, 0, 0, 0, 132, 0, 5, 0, 0, 0, 1];
    assert_eq!(page[38..56], header);
    // The header's first byte and "key" from the first.
    let second = insert(InsertKind::HeapRedundant, 31, 0, 1 << 2 | 2, 1, 3, b"2");
    apply_all(&mut page, &[second]).unwrap();
    assert_eq!(&page[136..147], b"\x04\x20\0\x18\x03\0\x74key2");
    assert_eq!(page[130..132], [0, 143]);
    let delete = extended(Extended::DeleteRowFormatRedundant { prev: 0 });
    apply_all(&mut page, &[delete]).unwrap();
    assert_eq!(&page[125..136], b"\x04\0\0\x10\x03\0\0\0\0\0\0");
    let header = [0, 2, 0, 147, 0, 4, 0, 132, 0, 11, 0, 0, 0, 2, 0, 1, 0, 1];
    assert_eq!(page[38..56], header);
    let reuse = insert(InsertKind::ReuseRedundant, 0, 0, 1 << 2, 0, 0, b"\x04key0");
    apply_all(&mut page, &[reuse]).unwrap();
    assert_eq!(&page[125..136], b"\x04\0\0\x10\x03\0\x8fkey0");
    let header = [0, 2, 0, 147, 0, 4, 0, 0, 0, 0, 0, 132, 0, 5, 0, 0, 0, 2];
    assert_eq!(page[38..56], header);
}

/// Ascending inserts split slots; deletes from the front balance them both ways.
#[test]
fn the_directory_follows_inserts_and_deletes() {
    let mut page = dynamic_page();
    let mut prev = 0;
    for n in 0..40_u8 {
        apply_all(&mut page, &[insert_dynamic(prev, &[4, b'k', b'e', b'y', n])]).unwrap();
        prev = 27 + 10 * u32::from(n);
    }
    assert_eq!(page[38..40], [0, 11]);
    assert_eq!(crc32c::crc32c(&page), 0x9b61_a069);
    let delete = extended(Extended::DeleteRowFormatDynamic { prev: 0, hdr_size: 1, data_size: 4 });
    for _ in 0..17 {
        apply_all(&mut page, &[delete]).unwrap();
    }
    let delete =
        extended(Extended::DeleteRowFormatDynamic { prev: 247, hdr_size: 1, data_size: 4 });
    for _ in 0..5 {
        apply_all(&mut page, &[delete]).unwrap();
    }
    assert_eq!(crc32c::crc32c(&page), 0xf918_5f51);
}

#[test]
fn the_same_in_redundant_format_with_descending_keys() {
    let mut page = redundant_page();
    for n in 0..40_u8 {
        let literal = [4, b'k', b'e', b'y', 255 - n];
        let record = insert(InsertKind::HeapRedundant, 0, 0, 1 << 2, 0, 0, &literal);
        apply_all(&mut page, &[record]).unwrap();
    }
    assert_eq!(crc32c::crc32c(&page), 0xf501_b26e);
    let delete = extended(Extended::DeleteRowFormatRedundant { prev: 0 });
    for _ in 0..30 {
        apply_all(&mut page, &[delete]).unwrap();
    }
    assert_eq!(crc32c::crc32c(&page), 0x1cac_5b15);
}

#[test]
fn direction_is_not_kept_in_spatial_indexes() {
    let mut page = dynamic_page();
    page[25] = 0xbe;
    let records = [insert_dynamic(0, b"\x04key1"), insert_dynamic(27, b"\x04key2")];
    apply_all(&mut page, &records).unwrap();
    assert_eq!(page[50..54], [0, 5, 0, 0]);
}

#[test]
fn records_of_a_node_page_are_node_pointers() {
    let mut page = dynamic_page();
    page[65] = 1;
    apply_all(&mut page, &[insert_dynamic(0, b"\x04key1")]).unwrap();
    assert_eq!(page[122..124], [0, 0x11]);
    let mut page = dynamic_page();
    let instant = insert(InsertKind::HeapDynamic, 0, 0, 1 << 3 | 4, 0, 0, b"\x04key1");
    apply_all(&mut page, &[instant]).unwrap();
    assert_eq!(page[122..124], [0, 0x14]);
}

#[test]
fn operations_that_cannot_be_are_refused() {
    let init = extended(Extended::InitRowFormatDynamic);
    let mut page = dynamic_page();
    let error = apply(&init, &mut page, Frame::Compressed).unwrap_err();
    assert_eq!(error, ApplyError::NotIndexOrUndo(ID));
    let id = PageId::new(5, 2);
    let error = apply_all(&mut page, &[Record::Extended(id, Extended::UndoInit)]).unwrap_err();
    assert_eq!(error, ApplyError::NotIndexOrUndo(id));
    let error = apply_all(&mut page, &[Record::TrimPages(ID)]).unwrap_err();
    assert_eq!(error, ApplyError::NotForPage);
}

/// A record, damage done to a sound page, what comes of it.
type Case<'a> = (Record<'a>, fn(&mut [u8]), ApplyError);

#[test]
fn contradictions_on_index_pages_are_refused() {
    let sound = {
        let mut page = dynamic_page();
        let records = [insert_dynamic(0, b"\x04key1"), insert_dynamic(27, b"\x04key2")];
        apply_all(&mut page, &records).unwrap();
        page
    };
    let delete = |prev, hdr_size, data_size| {
        extended(Extended::DeleteRowFormatDynamic { prev, hdr_size, data_size })
    };
    let redundant = insert(InsertKind::HeapRedundant, 0, 0, 4, 0, 0, b"\x04key1");
    let reuse = insert(InsertKind::ReuseDynamic, 0, 0, 8, 0, 0, b"\x04key1");
    let too_short = insert(InsertKind::HeapDynamic, 0, 0, 6 << 3, 0, 0, b"\x04key1");
    let too_long = insert(InsertKind::HeapDynamic, 0, 0, 8, 0, 4000, b"\x04key1");
    let cases: [Case<'_>; 9] = [
        (redundant, |_| {}, ApplyError::RecordFormat),
        (reuse, |_| {}, ApplyError::NothingFree),
        (too_short, |_| {}, ApplyError::InsertLengths),
        (too_long, |_| {}, ApplyError::Heap { start: 140, len: 4010 }),
        (delete(0, 1, 4), |page| page[54..56].fill(0), ApplyError::Counter(54)),
        (delete(27, 1, 9), |_| {}, ApplyError::Counter(40)),
        (delete(37, 1, 4), |_| {}, ApplyError::Heap { start: 112, len: 10 }),
        (delete(0, 1, 4), |page| page[P - 11] = 111, ApplyError::NoSlot(112)),
        (insert_dynamic(60_000, b"\x04key1"), |_| {}, ApplyError::Range { offset: 60_097, len: 2 }),
    ];
    for (n, (record, damage, expected)) in cases.into_iter().enumerate() {
        let mut page = sound.clone();
        damage(&mut page);
        assert_eq!(apply_all(&mut page, &[record]), Err(expected), "case {n}");
    }
}

/// A list that never comes to an owner, and one that runs in a circle.
#[test]
fn damaged_lists_end() {
    let mut page = dynamic_page();
    apply_all(&mut page, &[insert_dynamic(0, b"\x04key1")]).unwrap();
    page[124..126].copy_from_slice(&[0, 0]);
    assert!(apply_all(&mut page, &[insert_dynamic(0, b"\x04key2")]).is_err());
    // 126 + 65536 is 126 again.
    page[124..126].copy_from_slice(&[0, 0]);
    page[112 - 5] = 0;
    page[124..126].copy_from_slice(&[0xff, 0xf2]);
    page[110..112].copy_from_slice(&[0, 14]);
    let error = apply_all(&mut page, &[insert_dynamic(0, b"\x04key2")]).unwrap_err();
    assert_eq!(error, ApplyError::NoOwner(126));
}

/// Damaged pages give errors or nonsense, never a panic.
#[test]
fn no_page_content_makes_a_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        u32::try_from(seed & 0xffff).unwrap()
    };
    let mut errors = 0;
    for round in 0..20_000_u32 {
        let (mut page, compact) =
            if round % 2 == 0 { (dynamic_page(), true) } else { (redundant_page(), false) };
        if round % 3 == 0 {
            page.truncate(128);
        }
        for _ in 0..random() % 40 {
            let at = 38 + usize::try_from(random()).unwrap() % (page.len() - 38);
            page[at] = random().to_be_bytes()[3];
        }
        page[42] = if compact { page[42] | 0x80 } else { page[42] & 0x7f };
        let literal = [random().to_be_bytes()[3]; 20];
        let small = random() % 40;
        let kind = match (compact, random() % 2) {
            (true, 0) => InsertKind::HeapDynamic,
            (true, _) => InsertKind::ReuseDynamic,
            (false, 0) => InsertKind::HeapRedundant,
            (false, _) => InsertKind::ReuseRedundant,
        };
        let record = match random() % 4 {
            0 if compact => Extended::DeleteRowFormatDynamic {
                prev: small,
                hdr_size: random() % 300,
                data_size: random(),
            },
            0 => Extended::DeleteRowFormatRedundant { prev: small },
            1 => Extended::UndoAppend(&literal),
            _ => Extended::Insert {
                kind,
                prev: small,
                shift: random() % 100,
                enc: random() % 100,
                hdr_copy: random() % 10,
                data_copy: random() % 100,
                literal: &literal,
            },
        };
        errors += u32::from(apply_all(&mut page, &[extended(record)]).is_err());
    }
    assert!(errors > 1000);
}
