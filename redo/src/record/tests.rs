use super::*;

const LSN: Lsn = Lsn(7_000);

fn decode(bytes: &[u8]) -> Result<Vec<Record<'_>>, RedoError> {
    decode_run(bytes, LSN).collect()
}

/// Why the last of these records is refused; `at`: where it begins.
fn refusal(bytes: &[u8], at: u64) -> Malformed {
    let error = decode(bytes).unwrap_err();
    assert_eq!(error.lsn, Lsn(LSN.0 + at), "{bytes:02x?}");
    error.cause
}

fn page() -> PageId {
    PageId::new(5, 3)
}

#[test]
fn page_records() {
    let long_id = [0x19, 0xf0, 0xef, 0xdf, 0xbf, 0x71, 0xe0, 0, 0, 1];
    let cases: [(&[u8], Record<'_>); 9] = [
        (&[0x02, 5, 3], Record::FreePage(page())),
        (&[0x12, 5, 3], Record::InitPage(page())),
        (&long_id, Record::InitPage(PageId::new(0xffff_fff1, 2_113_665))),
        (&[0x63, 5, 3, 10], Record::Ignored(page())),
        (&[0x23, 5, 3, 10], Record::TrimPages(page())),
        (&[0x34, 5, 3, 8, 9], Record::Write { page: page(), offset: 8, data: &[9] }),
        (
            &[0x46, 5, 3, 0x80, 0, 2, 0xee],
            Record::Memset { page: page(), offset: 128, len: 2, pattern: &[0xee] },
        ),
        (
            &[0x55, 5, 3, 100, 4, 8],
            Record::Memmove { page: page(), offset: 100, len: 4, source: 105 },
        ),
        (
            &[0x55, 5, 3, 100, 4, 9],
            Record::Memmove { page: page(), offset: 100, len: 4, source: 95 },
        ),
    ];
    for (bytes, record) in cases {
        assert_eq!(decode(bytes), Ok(vec![record]), "{bytes:02x?}");
    }
}

#[test]
fn offsets_count_from_the_change_before() {
    let bytes = [
        0x12, 5, 3, // INIT_PAGE: 24
        0xb3, 2, 1, 2, // WRITE at 26, 2 bytes
        0xc3, 0, 9, 0, // MEMSET at 28, 9 bytes
        0xd3, 3, 6, 1, // MEMMOVE to 40 from 39, 6 bytes
        0xe1, 9, // RESERVED
        0xf1, 9, // OPTION
        0xb2, 4, 7, // WRITE at 50
        0xa1, 1, // INIT_ROW_FORMAT_DYNAMIC: 24 again
        0xb2, 0, 7, // WRITE at 24
        0x35, 6, 4, 8, 1, 2, // WRITE to 6:4 at 8
        0xb2, 0, 3, // WRITE to 6:4 at 10
    ];
    let other = PageId::new(6, 4);
    let expected = vec![
        Record::InitPage(page()),
        Record::Write { page: page(), offset: 26, data: &[1, 2] },
        Record::Memset { page: page(), offset: 28, len: 9, pattern: &[0] },
        Record::Memmove { page: page(), offset: 40, len: 6, source: 39 },
        Record::Ignored(page()),
        Record::Ignored(page()),
        Record::Write { page: page(), offset: 50, data: &[7] },
        Record::Extended(page(), Extended::InitRowFormatDynamic),
        Record::Write { page: page(), offset: 24, data: &[7] },
        Record::Write { page: other, offset: 8, data: &[1, 2] },
        Record::Write { page: other, offset: 10, data: &[3] },
    ];
    assert_eq!(decode(&bytes), Ok(expected));
}

#[test]
fn index_and_undo_page_operations() {
    let insert = |kind, shift| Extended::Insert {
        kind,
        prev: 130,
        shift,
        enc: 16,
        hdr_copy: 1,
        data_copy: 2,
        literal: &[0xaa, 0xbb],
    };
    let cases: [(&[u8], Extended<'_>); 10] = [
        (&[0], Extended::InitRowFormatRedundant),
        (&[1], Extended::InitRowFormatDynamic),
        (&[2], Extended::UndoInit),
        (&[3, 8, 9], Extended::UndoAppend(&[8, 9])),
        (&[4, 0x80, 2, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::HeapRedundant, 0)),
        (&[5, 0x80, 2, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::ReuseRedundant, 0)),
        (&[6, 0x80, 2, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::HeapDynamic, 0)),
        (&[7, 0x80, 2, 11, 16, 1, 2, 0xaa, 0xbb], insert(InsertKind::ReuseDynamic, 11)),
        (&[8, 100], Extended::DeleteRowFormatRedundant { prev: 100 }),
        (
            &[9, 100, 4, 50],
            Extended::DeleteRowFormatDynamic { prev: 100, hdr_size: 4, data_size: 50 },
        ),
    ];
    for (payload, extended) in cases {
        let len = u8::try_from(2 + payload.len()).unwrap();
        let bytes = [&[0x20 | len, 5, 3], payload].concat();
        assert_eq!(decode(&bytes), Ok(vec![Record::Extended(page(), extended)]));
        // Not on the first three pages.
        let bytes = [&[0x20 | len, 5, 2], payload].concat();
        assert_eq!(refusal(&bytes, 0), Malformed::Page(2));
    }
}

#[test]
fn file_records() {
    let (a, b) = (&b"./d/a.ibd"[..], &b"./d/b.ibd"[..]);
    let space = SpaceId(9);
    let record = |kind: u8, payload: &[u8]| {
        let len = u8::try_from(payload.len() + 1 - 15).unwrap();
        [&[kind, len][..], payload].concat()
    };
    // 15 to 142 bytes after the type byte take a length of one byte.
    let name = b"./database/table.ibd";
    let cases = [
        (0x80, FileRecord::Create { space, name }),
        (0x90, FileRecord::Delete { space, name }),
        (0xb0, FileRecord::Modify { space, name }),
    ];
    for (kind, expected) in cases {
        let bytes = record(kind, &[&[9, 0][..], name].concat());
        assert_eq!(decode(&bytes), Ok(vec![Record::File(expected)]));
    }
    let bytes = record(0xa0, &[&[9, 0], a, &[0], b].concat());
    let rename = FileRecord::Rename { space, from: a, to: b };
    assert_eq!(decode(&bytes), Ok(vec![Record::File(rename)]));
    // One after the other; the page record behind them ends the file records.
    let bytes = [&record(0xb0, &[&[9, 0][..], name].concat())[..], &bytes, &[0x12, 9, 0]].concat();
    let expected = vec![
        Record::File(FileRecord::Modify { space, name }),
        Record::File(rename),
        Record::InitPage(PageId::new(9, 0)),
    ];
    assert_eq!(decode(&bytes), Ok(expected));
    let short = [0x8b, 9, 0, b'.', b'/', b'd', b'/', b'a', b'.', b'i', b'b', b'd'];
    assert_eq!(decode(&short), Ok(vec![Record::File(FileRecord::Create { space, name: a })]));
}

#[test]
fn checkpoints_and_padding() {
    let checkpoint = [0xfa, 0, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0x90];
    let expected = Record::File(FileRecord::Checkpoint(Lsn(44_944)));
    assert_eq!(decode(&checkpoint), Ok(vec![expected]));
    let padding = Record::File(FileRecord::Padding);
    assert_eq!(decode(&[0xf1, 0]), Ok(vec![padding]));
    assert_eq!(decode(&[0xf2, 0, 0]), Ok(vec![padding]));
    assert_eq!(decode(&[0xf5, 0, 0, 0, 0, 0, 0xf1, 0]), Ok(vec![padding, padding]));
    let followed = [&checkpoint[..], &[0xf1, 0]].concat();
    assert_eq!(refusal(&followed, 0), Malformed::CheckpointNotLast);
    assert_eq!(refusal(&[0xf3, 0, 0, 1], 0), Malformed::Length(0xf3));
    assert_eq!(refusal(&[0xfa, 1, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0x90], 0), Malformed::File);
    assert_eq!(refusal(&[0xf1, 1], 0), Malformed::Integer);
}

#[test]
fn impossible_file_records() {
    let name = *b"./d/a.ibd";
    let bytes = |kind: u8, space: u8, page_no: u8, name: &[u8]| {
        let len = u8::try_from(name.len() + 2).unwrap();
        [&[kind | len, space, page_no][..], name].concat()
    };
    assert_eq!(refusal(&bytes(0x80, 0, 0, &name), 0), Malformed::File, "system tablespace");
    assert_eq!(refusal(&bytes(0x80, 9, 1, &name), 0), Malformed::File, "page number");
    assert_eq!(refusal(&bytes(0x80, 9, 0, b"./d/a.frm"), 0), Malformed::File, "suffix");
    assert_eq!(refusal(&bytes(0x80, 9, 0, b".\0d/a.ibd"), 0), Malformed::File, "NUL");
    assert_eq!(refusal(&bytes(0xb0, 9, 0, b""), 0), Malformed::File, "no name");
    assert_eq!(refusal(&bytes(0xa0, 9, 0, &name), 0), Malformed::File, "one name");
    assert_eq!(refusal(&bytes(0xa0, 9, 0, b"a.ibd\0b.ibd\0"), 0), Malformed::File, "three");
    for kind in [0xc0, 0xd0, 0xe0] {
        let bytes = bytes(kind, 9, 0, &name);
        assert_eq!(refusal(&bytes, 0), Malformed::Type(bytes[0]));
    }
}

#[test]
fn wrong_lengths() {
    let cases: [(&[u8], Malformed); 12] = [
        (&[0x03, 5, 3, 0], Malformed::Length(0x03)),
        (&[0x13, 5, 3, 0], Malformed::Length(0x13)),
        (&[0x22, 5, 3], Malformed::Length(0x22)),
        (&[0x24, 5, 3, 0, 0], Malformed::Length(0x24)),
        (&[0x24, 5, 3, 10, 0], Malformed::Length(0x24)),
        (&[0x25, 5, 3, 8, 100, 0], Malformed::Length(0x25)),
        (&[0x25, 5, 3, 9, 100, 4], Malformed::Integer),
        (&[0x23, 5, 3, 11], Malformed::Subtype(11)),
        (&[0x32, 5, 3], Malformed::Integer),
        (&[0x44, 5, 3, 46, 2], Malformed::Length(0x44)),
        (&[0x46, 5, 3, 46, 1, 7, 7], Malformed::Length(0x46)),
        (&[0x56, 5, 3, 46, 2, 1, 0], Malformed::Length(0x56)),
    ];
    for (bytes, cause) in cases {
        assert_eq!(refusal(bytes, 0), cause, "{bytes:02x?}");
    }
    // A record longer than what is left; a run that begins in the middle of one.
    assert_eq!(refusal(&[0x12, 5, 3, 0x35, 5, 3, 46], 3), Malformed::Overrun);
    assert_eq!(refusal(&[0x30], 0), Malformed::Integer);
}

#[test]
fn ranges_outside_of_any_page() {
    let range = |offset, len| Malformed::Range { offset, len };
    let cases: [(&[u8], Malformed); 9] = [
        (&[0x34, 5, 3, 7, 0], range(7, 1)),
        (&[0x33, 5, 3, 8], range(8, 0)),
        // 65536, and 65535 with two bytes.
        (&[0x36, 5, 3, 0xc0, 0xbf, 0x80, 1], range(65_536, 1)),
        (&[0x37, 5, 3, 0xc0, 0xbf, 0x7f, 1, 2], range(65_535, 2)),
        (&[0x45, 5, 3, 46, 0, 1], range(46, 0)),
        (&[0x48, 5, 3, 0xc0, 0xbf, 0x7f, 2, 0, 0], range(65_535, 2)),
        // From 7; from behind the page; from before it.
        (&[0x55, 5, 3, 9, 2, 3], range(7, 2)),
        (&[0x57, 5, 3, 0xc0, 0xbf, 0x7e, 2, 0], range(65_535, 2)),
        (&[0x55, 5, 3, 9, 2, 21], range(9, 2)),
    ];
    for (bytes, cause) in cases {
        assert_eq!(refusal(bytes, 0), cause, "{bytes:02x?}");
    }
    let last = Record::Write { page: page(), offset: 65_535, data: &[1] };
    assert_eq!(decode(&[0x36, 5, 3, 0xc0, 0xbf, 0x7f, 1]), Ok(vec![last]));
    // Integers of four bytes are not offsets, however small.
    assert_eq!(refusal(&[0x37, 5, 3, 0xe0, 0, 0, 0, 1], 0), Malformed::Integer);
}

#[test]
fn pages_of_the_binary_log_begin_with_their_first_byte() {
    // WRITE to 0xfffffff1:2 at 0; same page at 7.
    let id = [0xf0, 0xef, 0xdf, 0xbf, 0x71, 2];
    let bytes = [&[0x39][..], &id, &[0, 0xaa, 0xbb], &[0xb2, 5, 0xcc]].concat();
    let page = PageId::new(0xffff_fff1, 2);
    assert!(is_binlog(page) && page.space.is_reserved());
    assert_eq!(
        decode(&bytes),
        Ok(vec![
            Record::Write { page, offset: 0, data: &[0xaa, 0xbb] },
            Record::Write { page, offset: 7, data: &[0xcc] },
        ])
    );
    // Nowhere else.
    let other = [0x39, 0xf0, 0xef, 0xdf, 0xbf, 0x72, 2, 0, 0xaa, 0xbb];
    assert_eq!(refusal(&other, 0), Malformed::Range { offset: 0, len: 2 });
    assert!(!is_binlog(PageId::new(0xffff_fff2, 0)));
    assert!(!is_binlog(PageId::new(0xffff_ffef, 0)));
}

#[test]
fn same_page_needs_something_to_continue() {
    let cases: [(&[u8], u64); 6] = [
        (&[0x02, 5, 3, 0xb2, 46, 7], 3),
        (&[0x02, 5, 3, 0xa1, 1], 3),
        (&[0x23, 5, 3, 10, 0xc3, 46, 7, 0], 4),
        // The ignored record changes nothing.
        (&[0x02, 5, 3, 0xe1, 1, 0xb2, 46, 7], 5),
        (&[0x12, 5, 3, 0x91, 1], 3),
        (&[0x12, 5, 3, 0x81, 1], 3),
    ];
    for (bytes, at) in cases {
        assert_eq!(refusal(bytes, at), Malformed::SamePage, "{bytes:02x?}");
    }
    // TRIM_PAGES names its page.
    assert_eq!(refusal(&[0x12, 5, 3, 0xa1, 10], 3), Malformed::Length(0xa1));
}

#[test]
fn an_error_ends_the_iteration() {
    let mut records = decode_run(&[0x12, 5, 3, 0x81, 1, 0x12, 5, 4], LSN);
    assert!(records.next().is_some_and(|record| record.is_ok()));
    assert!(records.next().is_some_and(|record| record.is_err()));
    assert_eq!(records.next(), None);
    assert_eq!(decode(&[]), Ok(vec![]));
}
