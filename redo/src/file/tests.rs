use super::*;
use crate::encryption::Scope;

const BLOCKS: &[u8] = include_bytes!("../../testdata/10.5/ib_logfile0.head");
const BLOCKS_BACKUP: &[u8] = include_bytes!("../../testdata/10.5/backup-header");
const CBC: &[u8] = include_bytes!("../../testdata/10.5/header-cbc");
const CBC_BACKUP: &[u8] = include_bytes!("../../testdata/10.5/backup-log-cbc");
const RING: &[u8] = include_bytes!("../../testdata/10.11/ib_logfile0.head");
const RING_BACKUP: &[u8] = include_bytes!("../../testdata/10.11/backup-header");
const RING_CBC: &[u8] = include_bytes!("../../testdata/10.11/backup-log-cbc");
const FILE_LEN: u64 = 4 << 20;

fn parse(head: &[u8]) -> Result<LogFile, HeaderError> {
    LogFile::parse(head, FILE_LEN)
}

/// The bytes with a valid checksum of the 512 bytes at `at`.
fn sealed(bytes: &[u8], at: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let part = &mut bytes[at..at + 512];
    change(part);
    let crc = crc32c::crc32c(&part[..508]).to_be_bytes();
    part[508..].copy_from_slice(&crc);
    bytes
}

#[test]
fn blocks_of_a_server() {
    let log = parse(&BLOCKS[..2048]).unwrap();
    assert_eq!(log.format(), Format::Blocks);
    assert_eq!(log.creator(), "MariaDB 10.5.23");
    assert!(!log.is_backup());
    let checkpoint = Checkpoint { lsn: Lsn(45_079), end_lsn: Lsn(45_079) };
    assert_eq!((log.checkpoint(), log.is_end_lsn_known()), (checkpoint, false));
    assert_eq!(log.encryption(), None);
    assert_eq!(log.capacity(), FILE_LEN - 2048);
    assert_eq!((log.ring_offset(), log.file_len()), (2048, FILE_LEN));
    // The first block of the log, LSN 8704, is behind the header.
    let place = |lsn, offset| Some(Place { lsn, offset, contiguous: FILE_LEN - offset });
    assert_eq!(log.place(Lsn(8_704)), place(Lsn(8_704), 2048));
    assert_eq!(log.place(Lsn(45_079)), place(Lsn(45_056), 2048 + 45_056 - 8_704));
    let lap = FILE_LEN - 2048;
    assert_eq!(log.place(Lsn(8_704 + lap + 511)), place(Lsn(8_704 + lap), 2048));
}

#[test]
fn encrypted_blocks_of_a_server() {
    let log = parse(CBC).unwrap();
    assert_eq!(log.format(), Format::EncryptedBlocks);
    let encryption = log.encryption().unwrap();
    assert_eq!((encryption.scope(), encryption.key_version()), (Scope::Blocks, 1));
}

#[test]
fn encrypted_ring_of_a_backup() {
    let log = parse(RING_CBC).unwrap();
    assert_eq!(log.format(), Format::EncryptedRing);
    assert!(log.is_backup());
    let encryption = log.encryption().unwrap();
    assert_eq!((encryption.scope(), encryption.key_version()), (Scope::Mtrs, 1));
    assert_eq!(log.place(log.checkpoint().lsn).unwrap().offset, 12_288);
    // Early logs differ in the format alone; the checksum covers it.
    let early = sealed(RING_CBC, 0, |label| label[..4].copy_from_slice(b"Phys"));
    let log = parse(&early).unwrap();
    assert_eq!(log.format(), Format::Ring);
    assert_eq!(log.encryption().unwrap().scope(), Scope::Records);
    assert_eq!(log.copied_header("Backup 10.8.8")[..4], *b"Phys");
}

#[test]
fn ring_of_a_server() {
    let log = parse(RING).unwrap();
    assert_eq!((log.format(), log.encryption()), (Format::Ring, None));
    let checkpoint = Checkpoint { lsn: Lsn(44_404), end_lsn: Lsn(50_741) };
    assert_eq!((log.checkpoint(), log.is_end_lsn_known()), (checkpoint, true));
    assert_eq!(log.place(Lsn(12_287)), None);
    assert_eq!((log.ring_offset(), log.capacity()), (12_288, FILE_LEN - 12_288));
    assert_eq!(log.place(Lsn(44_404)).unwrap().offset, 44_404);
}

#[test]
fn copied_headers_are_those_of_the_reference() {
    let cases = [
        (BLOCKS, BLOCKS_BACKUP, "Backup 10.5.23-MariaDB"),
        (CBC, &CBC_BACKUP[..2048], "Backup 10.5.23-MariaDB"),
        (RING, RING_BACKUP, "Backup 10.11.19"),
        // The header of a copy of a copy.
        (RING_CBC, &RING_CBC[..12_288], "Backup 10.11.19"),
    ];
    for (server, backup, creator) in cases {
        let copied = parse(server).unwrap().copied_header(creator);
        assert!(copied == backup, "{:?}", parse(server).unwrap().format());
        let log = parse(&copied).unwrap();
        assert_eq!(log.checkpoint(), parse(server).unwrap().checkpoint());
        assert_eq!(log.encryption(), parse(server).unwrap().encryption());
        assert!(log.is_backup());
    }
}

#[test]
fn old_and_unknown_formats_are_refused_by_name() {
    let of_format = |format: u32| {
        let head = sealed(RING, 0, |label| label[..4].copy_from_slice(&format.to_be_bytes()));
        parse(&head).unwrap_err()
    };
    let creator = || "MariaDB 10.11.19".to_owned();
    for (format, versions) in [(0, "MariaDB 10.1 or older"), (0x8000_0067, "MariaDB 10.3")] {
        assert_eq!(of_format(format), HeaderError::TooOld { creator: creator(), versions });
    }
    let format = 0xd068_7973;
    assert_eq!(of_format(format), HeaderError::Unknown { format, creator: creator() });
    assert_eq!(parse(&RING[..511]), Err(HeaderError::TooSmall { len: 511 }));
}

#[test]
fn damaged_block_headers() {
    for at in (4..508).step_by(9) {
        let mut head = BLOCKS[..2048].to_vec();
        head[at] ^= 1;
        assert!(matches!(parse(&head), Err(HeaderError::Checksum { .. })), "byte {at}");
    }
    let head = sealed(&BLOCKS[..2048], 0, |label| label[7] = 1);
    let field = HeaderError::Field { field: "subformat", value: 1 };
    assert_eq!(parse(&head), Err(field));
    assert_eq!(parse(&BLOCKS[..512]), Err(HeaderError::NoCheckpoint));
    assert_eq!(LogFile::parse(BLOCKS, 2048), Err(HeaderError::NoCheckpoint));
}

#[test]
fn the_newest_valid_slot_counts() {
    // Number 4, in the slot for even numbers, is the newest.
    let mut head = BLOCKS[..2048].to_vec();
    assert!(!parse(&head).unwrap().is_end_lsn_known());
    head[512 + 100] ^= 1;
    let log = parse(&head).unwrap();
    assert!(log.is_end_lsn_known(), "the other slot");
    head[1536 + 100] ^= 1;
    assert_eq!(parse(&head), Err(HeaderError::NoCheckpoint));
    // Impossible ones: beyond the file, in the header, ending before they begin.
    let offset = |offset: u64| {
        let head = sealed(&BLOCKS[..2048], 512, |slot| {
            slot[16..24].copy_from_slice(&offset.to_be_bytes());
        });
        parse(&head).unwrap().is_end_lsn_known()
    };
    assert!(offset(FILE_LEN + 23), "the other slot");
    assert!(offset(23), "the other slot");
    assert!(!offset(2048 + 23));
    let head = sealed(&BLOCKS[..2048], 512, |slot| slot[503] = 1);
    assert_eq!(parse(&head).unwrap().checkpoint().end_lsn, Lsn(45_079), "the other slot");
}
