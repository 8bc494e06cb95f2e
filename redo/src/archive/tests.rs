use super::*;

fn file(first_lsn: u64, len: u64) -> ArchiveFile {
    ArchiveFile { first_lsn: Lsn(first_lsn), len }
}

const LEN: u64 = 4 << 20;

/// A header that begins with `bytes`.
fn head(bytes: &[u8]) -> Vec<u8> {
    let mut head = bytes.to_vec();
    head.resize(HEADER_SIZE, 0);
    head
}

fn end_lsns(head: &[u8]) -> Vec<u64> {
    let header = ArchiveHeader::parse(head, file(20_000, LEN)).unwrap();
    header.end_lsns().map(|lsn| lsn.0).collect()
}

#[test]
fn names() {
    let lsn = |name: &[u8]| first_lsn_of_name(name).map(|lsn| lsn.0);
    assert_eq!(lsn(b"ib_0000000000003000.log"), Some(12_288));
    assert_eq!(lsn(b"ib_0000000000344ff0.log"), Some(0x34_4ff0));
    assert_eq!(lsn(b"ib_ffffffffffffffff.log"), Some(u64::MAX));
    let others: [&[u8]; 8] = [
        b"ib_0000000000002fff.log",
        b"ib_0000000000344FF0.log",
        b"ib_000000000344ff0.log",
        b"ib_00000000000344ff0.log",
        b"ib_+000000000344ff0.log",
        b"ib_0000000000344ff0.log.gz",
        b"ib_logfile0",
        b"",
    ];
    for name in others {
        assert_eq!(lsn(name), None, "{}", name.escape_ascii());
    }
    assert_eq!(name_of_first_lsn(Lsn(0x34_4ff0)), "ib_0000000000344ff0.log");
    assert_eq!(lsn(name_of_first_lsn(Lsn(12_288)).as_bytes()), Some(12_288));
}

#[test]
fn a_gap_makes_older_files_useless() {
    let step = LEN - 12_288;
    let files = [file(20_000, LEN), file(20_000 + step, LEN), file(20_000 + 2 * step, 2 * LEN)];
    assert_eq!(files[2].end_lsn(), Lsn(20_000 + 2 * step + 2 * LEN - 12_288));
    let [a, b, c] = files;
    assert_eq!(chain([c, a, b]), [a, b, c]);
    assert_eq!(chain([a, c]), [c]);
    assert_eq!(chain([a, b]), [a, b]);
    assert_eq!(chain([a]), [a]);
    assert_eq!(chain([]), []);
    // Files that a server ignores.
    assert_eq!(chain([a, file(b.first_lsn.0, LEN + 1), c]), [c]);
    assert_eq!(chain([file(20_000, LEN - 4096)]), []);
    assert_eq!(chain([file(20_000, 0)]), []);
    let last = file(u64::MAX, LEN);
    assert_eq!(chain([last, a]), [last]);
    assert_eq!(last.end_lsn(), Lsn(u64::MAX));
}

#[test]
fn checkpoints_are_offsets() {
    assert_eq!(end_lsns(&head(&[])), [0; 0]);
    let offsets = [12_288_u64, 12_400, 99_999].map(u64::to_be_bytes).concat();
    assert_eq!(end_lsns(&head(&offsets)), [107_711, 20_112, 20_000]);
    // The list ends at what is no offset.
    for last in [12_287, LEN, u64::MAX] {
        let bytes = [&offsets[..8], &last.to_be_bytes(), &offsets[8..16]].concat();
        assert_eq!(end_lsns(&head(&bytes)), [20_000]);
    }
    let full = 12_288_u64.to_be_bytes().repeat(1536);
    assert_eq!(end_lsns(&full).len(), 1536);
    // Of 4 bytes.
    let short = [12_288_u32, 12_400].map(u32::to_be_bytes).concat();
    assert_eq!(end_lsns(&head(&short)), [20_112, 20_000]);
}

#[test]
fn encrypted_headers() {
    let mut bytes = [0, 0, 0, 1, 0, 0, 0, 7].to_vec();
    bytes.extend([0xaa; 16]);
    bytes.extend([0xbb; 4]);
    bytes.extend([0; 4]);
    bytes.extend(12_400_u64.to_be_bytes());
    let header = ArchiveHeader::parse(&head(&bytes), file(20_000, LEN)).unwrap();
    let encryption = header.encryption().unwrap();
    assert_eq!((encryption.scope(), encryption.key_version()), (Scope::Mtrs, 7));
    assert_eq!((encryption.message, encryption.nonce), ([0xaa; 16], [0xbb; 4]));
    assert_eq!(header.end_lsns().collect::<Vec<_>>(), [Lsn(20_112)]);
    bytes[3] = 2;
    let error = ArchiveHeader::parse(&head(&bytes), file(20_000, LEN));
    let field = HeaderError::Field { field: "encryption key id", value: 2 };
    assert_eq!(error, Err(field));
    let error = ArchiveHeader::parse(&[0; 12_287], file(20_000, LEN));
    assert_eq!(error, Err(HeaderError::TooSmall { len: 12_287 }));
}
