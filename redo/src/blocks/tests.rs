use innodb::encrypted::CipherMode;

use super::*;
use crate::file::LogFile;
use crate::mtr::{Layout, Mtr, Stored, Unfinished};
use crate::test_keys::TestKeys;

const LOG: &[u8] = include_bytes!("../../testdata/10.5/ib_logfile0.head");
const CBC: &[u8] = include_bytes!("../../testdata/10.5/backup-log-cbc");
const CTR: &[u8] = include_bytes!("../../testdata/10.5/backup-log-ctr");
/// The first block of the server's log.
const FIRST: Lsn = Lsn(8704);
const CHECKPOINT: Lsn = Lsn(45_079);
const END: Lsn = Lsn(85_347);

/// The blocks from that of `lsn` on.
fn blocks_from(lsn: Lsn) -> &'static [u8] {
    &LOG[HEADER_SIZE + usize::try_from(block_of(lsn).0 - FIRST.0).unwrap()..]
}

/// Payload from the checkpoint on, and how far it goes.
fn payload() -> (Vec<u8>, Blocks) {
    let mut blocks = Blocks::new(CHECKPOINT, None);
    let mut payload = Vec::new();
    assert_eq!(blocks.take(blocks_from(CHECKPOINT), &mut payload), BlocksEnd::Partial);
    assert_eq!(blocks.end(), END);
    (payload, blocks)
}

/// Ends of all mini-transactions.
fn ends(payload: &[u8], start: Lsn, layout: Payload) -> Vec<Lsn> {
    let (mut at, mut lsn) = (0, first_payload(start));
    let mut ends = Vec::new();
    while let Ok(mtr) = Stored::parse(&payload[at..], lsn, Layout::Blocks(layout)) {
        at += mtr.stored_len();
        lsn = mtr.end();
        ends.push(lsn);
    }
    ends
}

fn sealed(mut block: [u8; BLOCK_LEN], change: impl FnOnce(&mut [u8; BLOCK_LEN])) -> Vec<u8> {
    change(&mut block);
    let crc = crc32c::crc32c(&block[..508]).to_be_bytes();
    block[508..].copy_from_slice(&crc);
    block.to_vec()
}

fn block_at(lsn: Lsn) -> [u8; BLOCK_LEN] {
    *blocks_from(lsn).first_chunk().unwrap()
}

fn take(bytes: &[u8], start: Lsn) -> BlocksEnd {
    Blocks::new(start, None).take(bytes, &mut Vec::new())
}

fn cipher(log: &[u8], mode: CipherMode) -> BlockCipher {
    let log = LogFile::parse(&log[..HEADER_SIZE], log.len() as u64).unwrap();
    let encryption = log.encryption().unwrap();
    BlockCipher::new(encryption, 1, encryption.key(&TestKeys::new(mode), 1).unwrap())
}

#[test]
fn payload_counts_without_headers_and_trailers() {
    let plain = Payload::new(false, Lsn(0));
    let encrypted = Payload::new(true, Lsn(0));
    // LSN, bytes, then: plain, encrypted.
    let cases = [
        (512 + 12, 0, 524, 524),
        (512 + 12, 491, 1015, 1015),
        (512 + 12, 492, 1016, 1036),
        (512 + 12, 495, 1019, 1039),
        (512 + 12, 496, 1036, 1040),
        (512 + 100, 407, 1019, 1039),
        (512 + 100, 408, 1036, 1040),
        (512 + 12, 4960, 512 * 11 + 12, 512 * 11 + 12 + 40),
        // In the header of a block.
        (1024, 1, 1037, 1037),
        (1024 + 11, 1, 1037, 1037),
    ];
    for (lsn, len, in_plain, in_encrypted) in cases {
        assert_eq!(plain.advance(Lsn(lsn), len), Some(Lsn(in_plain)), "{lsn} + {len}");
        assert_eq!(encrypted.advance(Lsn(lsn), len), Some(Lsn(in_encrypted)), "{lsn} + {len}");
    }
    assert_eq!(plain.advance(Lsn(u64::MAX - 100), 101), None);
    assert_eq!(plain.advance(Lsn(512), u64::MAX), None);
}

#[test]
fn blocks_are_where_the_checkpoint_says() {
    // 10 blocks; the one of LSN 5140 is the fourth.
    let ring = BlockRing::new(Lsn(5140), 2048 + 3 * 512 + 20, 2048 + 10 * 512 + 100).unwrap();
    assert_eq!(ring.capacity(), 5120);
    let cases = [
        (5120, 2048 + 3 * 512, 7 * 512),
        (5631, 2048 + 3 * 512, 7 * 512),
        (5632, 2048 + 4 * 512, 6 * 512),
        (5120 + 6 * 512, 2048 + 9 * 512, 512),
        (5120 + 7 * 512, 2048, 10 * 512),
        (5120 + 27 * 512, 2048, 10 * 512),
        (5119, 2048 + 2 * 512, 8 * 512),
        (3583, 2048 + 9 * 512, 512),
        (0, 2048 + 3 * 512, 7 * 512),
    ];
    for (lsn, offset, contiguous) in cases {
        assert_eq!(ring.place(Lsn(lsn)), (offset, contiguous), "LSN {lsn}");
    }
    assert_eq!(BlockRing::new(Lsn(5140), 2047, 1 << 20), None);
    assert_eq!(BlockRing::new(Lsn(5140), 2048 + 21, 1 << 20), None, "another place in the block");
    assert_eq!(BlockRing::new(Lsn(5120), 2048 + 512, 2048 + 512), None, "behind the file");
    assert_eq!(BlockRing::new(Lsn(5120), 2048, 2048 + 511), None, "no block");
    assert_eq!(BlockRing::new(Lsn(5120), 2048, 0), None);
}

#[test]
fn payload_of_a_real_log() {
    let (payload, blocks) = payload();
    // FILE_CHECKPOINT(45079), and the 0 that ends the mini-transaction.
    assert_eq!(payload[..12], [0xfa, 0, 0, 0, 0, 0, 0, 0, 0, 0xb0, 0x17, 0]);
    let ends = ends(&payload, CHECKPOINT, blocks.payload());
    assert_eq!((ends.len(), ends.first(), ends.last()), (1196, Some(&Lsn(45_091)), Some(&END)));
}

#[test]
fn the_last_block_is_read_again_until_it_is_full() {
    let (expected, _) = payload();
    let whole = blocks_from(CHECKPOINT);
    let mut blocks = Blocks::new(CHECKPOINT, None);
    let mut payload = Vec::new();
    for stored in whole.chunks_exact(BLOCK_LEN) {
        let lsn = blocks.next_block();
        // First as it may have been before: with less data.
        let from = blocks.end().0;
        let full = Block::read(stored, lsn, None).unwrap();
        let part = Lsn(from + (u64::from(full.data_len()).min(508) - from % 512) / 2);
        let cut = full.cut(lsn, part, None).unwrap();
        assert_eq!(blocks.take(&cut, &mut payload), BlocksEnd::Partial);
        assert_eq!((blocks.end(), blocks.next_block()), (part, lsn));
        // Nothing new.
        assert_eq!(blocks.take(&cut, &mut payload), BlocksEnd::Partial);
        assert_eq!(blocks.end(), part);
        blocks.take(stored, &mut payload);
    }
    assert_eq!(payload, expected);
    assert_eq!(blocks.end(), END);
    // It does not shrink.
    let shorter = Lsn(END.0 - 1);
    let cut = blocks.cut(blocks_from(END), block_of(END), shorter).unwrap();
    let len = u16::try_from(shorter.0 % 512).unwrap();
    assert_eq!(blocks.take(&cut, &mut payload), BlocksEnd::Length(len));
}

#[test]
fn a_mini_transaction_that_fills_a_block_needs_the_next_one() {
    // 496 bytes: a WRITE of 495 bytes altogether, and the end.
    let mut records = vec![0x30, 0x81, 0x5f, 5, 3, 46];
    records.resize(495, 7);
    let stream = [&records[..], &[0]].concat();
    let parse = |end| {
        let layout = Layout::Blocks(Payload::new(false, Lsn(end)));
        Stored::parse(&stream, Lsn(1036), layout).map(|mtr| mtr.end())
    };
    assert_eq!(parse(1536), Err(Unfinished::NeedMore));
    assert_eq!(parse(1547), Err(Unfinished::NeedMore));
    assert_eq!(parse(1548), Ok(Lsn(1548)));
    let mtr =
        Stored::parse(&stream, Lsn(1036), Layout::Blocks(Payload::new(false, Lsn(1548)))).unwrap();
    assert_eq!((mtr.stored_len(), mtr.plain().unwrap().records().count()), (496, 1));
    // A byte less ends in the block itself.
    let layout = Layout::Blocks(Payload::new(false, Lsn(1536)));
    let shorter = [&[0x30, 0x81, 0x5e][..], &stream[3..494], &[0]].concat();
    assert_eq!(Stored::parse(&shorter, Lsn(1036), layout).unwrap().end(), Lsn(1531));
}

#[test]
fn padding_is_a_mini_transaction_without_records() {
    let layout = Layout::Blocks(Payload::new(false, Lsn(2000)));
    let mtr = Stored::parse(&[0, 0, 0x12], Lsn(1036), layout).unwrap();
    assert_eq!((mtr.end(), mtr.stored_len()), (Lsn(1037), 1));
    assert_eq!(mtr.plain().unwrap().records().count(), 0);
    assert_eq!(Stored::parse(&[], Lsn(1036), layout), Err(Unfinished::NeedMore));
    // 1 ends nothing here.
    assert_eq!(Stored::parse(&[1, 5, 0], Lsn(1036), layout).unwrap().stored_len(), 3);
    assert_eq!(Stored::parse(&[0x30, 0xf1], Lsn(1036), layout), Err(Unfinished::TooLong));
    // 2 MiB.
    let long = [0x30, 0xe0, 0, 0, 0];
    assert_eq!(Stored::parse(&long, Lsn(1036), layout), Err(Unfinished::TooLong));
}

#[test]
fn blocks_that_do_not_belong_here() {
    let block = block_at(CHECKPOINT);
    assert_eq!(take(&block, CHECKPOINT), BlocksEnd::NeedMore);
    assert_eq!(take(&block[..511], CHECKPOINT), BlocksEnd::NeedMore);
    for at in 0..BLOCK_LEN {
        let mut damaged = block;
        damaged[at] ^= 4;
        // In the number, only what counts as another block.
        let expected = if at < 4 { BlocksEnd::Old } else { BlocksEnd::Torn };
        assert_eq!(take(&damaged, CHECKPOINT), expected, "byte {at}");
    }
    // The flush bit means nothing.
    let flushed = sealed(block, |block| block[0] ^= 0x80);
    assert_eq!(take(&flushed, CHECKPOINT), BlocksEnd::NeedMore);
    // A later block in this place; an earlier one; none.
    assert_eq!(take(&block, Lsn(CHECKPOINT.0 - 512)), BlocksEnd::Overwritten);
    assert_eq!(take(&block, Lsn(CHECKPOINT.0 + 512)), BlocksEnd::Old);
    assert_eq!(take(&[0; BLOCK_LEN], CHECKPOINT), BlocksEnd::Old);
    let zero = sealed(block, |block| block[..4].fill(0));
    assert_eq!(take(&zero, CHECKPOINT), BlocksEnd::Old);
    // Numbers wrap: of the last block before, and the first one after.
    let last = Lsn(((1 << 30) - 1) << 9);
    let numbered =
        |number: u32| sealed(block, |block| block[..4].copy_from_slice(&number.to_be_bytes()));
    assert_eq!(take(&numbered(1 << 30), last), BlocksEnd::NeedMore);
    assert_eq!(take(&numbered(1), Lsn(last.0 + 512)), BlocksEnd::NeedMore);
    assert_eq!(take(&numbered(1), last), BlocksEnd::Overwritten);
    assert_eq!(take(&numbered(1 << 30), Lsn(last.0 + 512)), BlocksEnd::Old);
    assert_eq!(take(&numbered(1 << 30 | 1), Lsn(last.0 + 512)), BlocksEnd::Old);
}

#[test]
fn impossible_lengths_and_old_checkpoint_numbers() {
    let block = block_at(CHECKPOINT);
    let long = |len: u16| sealed(block, |block| block[4..6].copy_from_slice(&len.to_be_bytes()));
    for len in [0, 11, 509, 511, 513, u16::MAX] {
        assert_eq!(take(&long(len), block_of(CHECKPOINT)), BlocksEnd::Length(len));
    }
    for len in [12, 508] {
        assert_eq!(take(&long(len), block_of(CHECKPOINT)), BlocksEnd::Partial);
    }
    let (first, second) = (block_at(CHECKPOINT), block_at(Lsn(CHECKPOINT.0 + 512)));
    let number = |block, no: u32| {
        sealed(block, |block: &mut [u8; BLOCK_LEN]| block[8..12].copy_from_slice(&no.to_be_bytes()))
    };
    let both = |a, b| take(&[number(first, a), number(second, b)].concat(), CHECKPOINT);
    assert_eq!(both(7, 7), BlocksEnd::NeedMore);
    assert_eq!(both(7, 6), BlocksEnd::NeedMore);
    assert_eq!(both(0x8000_0007, 7), BlocksEnd::NeedMore);
    assert_eq!(both(0x8000_0008, 7), BlocksEnd::Old);
}

/// The log of a backup ends at an LSN of the server's choice: each end of a mini-transaction.
#[test]
fn the_log_can_be_cut_everywhere() {
    let (stream, blocks) = payload();
    let ends = ends(&stream, CHECKPOINT, blocks.payload());
    for (number, &end) in ends.iter().enumerate() {
        check_cut(blocks_from(CHECKPOINT), CHECKPOINT, end, number + 1, || None);
    }
    // Not behind the data of the block, and not in its header.
    let last = blocks_from(END);
    let cut = |end| blocks.cut(last, block_of(END), Lsn(end)).map(|cut| cut.len());
    let len = u16::try_from(END.0 % 512).unwrap();
    assert_eq!(blocks.cut(last, block_of(END), END).unwrap()[..], last[..BLOCK_LEN], "nothing cut");
    assert_eq!(cut(END.0 + 1), Err(BlocksEnd::Length(len)));
    assert_eq!(cut(block_of(END).0 + 12), Ok(512));
    assert_eq!(cut(block_of(END).0 + 11), Err(BlocksEnd::Length(len)));
    assert_eq!(cut(block_of(END).0 - 1), Err(BlocksEnd::Length(len)));
    assert_eq!(cut(u64::MAX), Err(BlocksEnd::Length(len)));
    assert_eq!(blocks.cut(last, block_of(CHECKPOINT), CHECKPOINT), Err(BlocksEnd::Overwritten));
}

fn check_cut(
    stored: &[u8],
    start: Lsn,
    end: Lsn,
    mtr_count: usize,
    cipher: impl Fn() -> Option<BlockCipher>,
) {
    let before = usize::try_from(block_of(end).0 - block_of(start).0).unwrap();
    let last = Blocks::new(start, cipher()).cut(&stored[before..], block_of(end), end).unwrap();
    let copy = [&stored[..before], &last].concat();
    let mut blocks = Blocks::new(start, cipher());
    let mut payload = Vec::new();
    assert_eq!(blocks.take(&copy, &mut payload), BlocksEnd::Partial);
    assert_eq!(blocks.end(), end);
    let ends = ends(&payload, start, blocks.payload());
    assert_eq!((ends.len(), ends.last()), (mtr_count, Some(&end)));
    // Nothing is left behind.
    let block = Block::read(&last, block_of(end), cipher().as_ref()).unwrap();
    let at = usize::from(block.data_len());
    let rest = block.bytes().get(at..504).unwrap_or_default();
    assert!(rest.iter().all(|&byte| byte == 0));
    let first_mtr = u16::from_be_bytes([block.bytes()[6], block.bytes()[7]]);
    assert!(usize::from(first_mtr) <= at, "first mini-transaction at {first_mtr}");
}

#[test]
fn encrypted_blocks_are_cut_as_plain_ones() {
    for (log, mode) in [(CBC, CipherMode::Cbc), (CTR, CipherMode::Ctr)] {
        let file = LogFile::parse(&log[..HEADER_SIZE], log.len() as u64).unwrap();
        let start = file.checkpoint().lsn;
        let stored = &log[HEADER_SIZE..];
        let mut blocks = Blocks::new(start, Some(cipher(log, mode)));
        let mut payload = Vec::new();
        assert_eq!(blocks.take(stored, &mut payload), BlocksEnd::Partial);
        let ends = ends(&payload, start, blocks.payload());
        for (number, &end) in ends.iter().enumerate().step_by(7) {
            check_cut(stored, start, end, number + 1, || Some(cipher(log, mode)));
        }
        let last = &stored[stored.len() - BLOCK_LEN..];
        let cut = blocks.cut(last, blocks.next_block(), blocks.end()).unwrap();
        assert_eq!(cut[..], *last, "nothing cut");
    }
}

#[test]
fn another_key_version_is_asked_for() {
    let file = LogFile::parse(&CBC[..HEADER_SIZE], CBC.len() as u64).unwrap();
    let lsn = file.checkpoint().lsn;
    let first: [u8; BLOCK_LEN] = *CBC[HEADER_SIZE..].first_chunk().unwrap();
    let other = sealed(first, |block| block[507] = 9);
    let mut blocks = Blocks::new(lsn, Some(cipher(CBC, CipherMode::Cbc)));
    assert_eq!(blocks.take(&other, &mut Vec::new()), BlocksEnd::KeyVersion(9));
    assert_eq!(blocks.next_block(), block_of(lsn));
    let key = cipher(CBC, CipherMode::Cbc).key;
    blocks.set_cipher(BlockCipher::new(file.encryption().unwrap(), 9, key));
    assert_eq!(blocks.take(&other, &mut Vec::new()), BlocksEnd::NeedMore);
    // A wrong key: the length of the data is only likely to be wrong.
    let wrong = cipher(CBC, CipherMode::Ctr).key;
    let cipher = BlockCipher::new(file.encryption().unwrap(), 1, wrong);
    let mut blocks = Blocks::new(lsn, Some(cipher));
    assert!(matches!(blocks.take(&first, &mut Vec::new()), BlocksEnd::Length(_)));
}

/// What the file of a live log holds: the stored blocks, cut where the server has come to, then
/// what is left of the lap before.
fn live(stored: &[u8], start: Lsn, end: Lsn, cipher: Option<BlockCipher>) -> Vec<u8> {
    let before = usize::try_from(block_of(end).0 - block_of(start).0).unwrap();
    let last = Blocks::new(start, cipher).cut(&stored[before..], block_of(end), end).unwrap();
    let mut file = [&stored[..before], &last].concat();
    file.resize(stored.len().max(file.len()), 0xee);
    file
}

/// Copies the log while it grows by `step` mini-transactions at a time, with windows of `window`
/// bytes, up to `limit`, which is known from the beginning or only when the log has come there.
fn copy(
    stored: &[u8],
    ends: &[Lsn],
    (step, window, limit): (usize, usize, Lsn),
    cipher: &dyn Fn() -> Option<BlockCipher>,
    start: Lsn,
) -> (Vec<u8>, usize) {
    let mut copier = BlockCopier::new(start, cipher());
    let (mut out, mut seen) = (Vec::new(), 0);
    for (number, &end) in ends.iter().enumerate().filter(|(number, _)| number % step == 0) {
        let file = live(stored, start, end, cipher());
        let known = (number % 2 == 0 || end >= limit).then_some(limit);
        loop {
            let at = usize::try_from(copier.window_start().0 - block_of(start).0).unwrap();
            let part = &file[at..(at + window).min(file.len())];
            let position = copier.position();
            let count = |_: &Mtr<'_>| {
                seen += 1;
                Ok::<(), CopyError>(())
            };
            let taken = copier.take(part, known, count).unwrap();
            out.extend(taken.blocks);
            if let Some(last) = taken.last {
                assert_eq!(copier.position(), limit);
                out.extend(last);
                return (out, seen);
            }
            if copier.position() == position {
                assert!(!taken.is_at_start, "{:?}", taken.end);
                assert!(matches!(taken.end, BlocksEnd::Partial | BlocksEnd::NeedMore));
                break;
            }
        }
    }
    panic!("the limit was not reached");
}

#[test]
fn a_copy_of_a_growing_log_ends_at_its_limit() {
    let cases = [
        (LOG, blocks_from(CHECKPOINT), None),
        (CBC, &CBC[HEADER_SIZE..], Some(CipherMode::Cbc)),
        (CTR, &CTR[HEADER_SIZE..], Some(CipherMode::Ctr)),
    ];
    for (log, stored, mode) in cases {
        let cipher = || mode.map(|mode| cipher(log, mode));
        let start = LogFile::parse(&log[..HEADER_SIZE], 4 << 20).unwrap().checkpoint().lsn;
        let mut blocks = Blocks::new(start, cipher());
        let mut payload = Vec::new();
        blocks.take(stored, &mut payload);
        let ends = ends(&payload, start, blocks.payload());
        for (step, window, number) in
            [(1, 4096, 40), (3, 16 << 10, 300), (17, 8192, 612), (999, 1 << 20, 900)]
        {
            // The log goes on beyond the limit before anybody looks.
            let limit = ends[number];
            let (copied, seen) = copy(stored, &ends, (step, window, limit), &cipher, start);
            let len = usize::try_from(block_of(limit).0 - block_of(start).0).unwrap() + BLOCK_LEN;
            assert_eq!((copied.len(), seen), (len, number + 1), "{step}, {window}");
            assert!(copied == live(stored, start, limit, cipher())[..len]);
        }
    }
}

#[test]
fn copies_that_cannot_go_on() {
    let stored = blocks_from(CHECKPOINT);
    let taken = |window: &[u8], limit| {
        let mut copier = BlockCopier::new(CHECKPOINT, None);
        copier
            .take(window, limit, |_| Ok::<(), CopyError>(()))
            .map(|taken| (taken.end, taken.is_at_start, taken.blocks.len(), taken.last.is_some()))
    };
    // The first mini-transactions end at 45091 and 45097.
    let inside =
        CopyError::LimitInside { limit: Lsn(45_092), start: Lsn(45_091), end: Lsn(45_097) };
    assert_eq!(taken(stored, Some(Lsn(45_092))), Err(inside));
    assert_eq!(taken(stored, Some(CHECKPOINT)), Ok((BlocksEnd::Partial, false, 0, true)));
    // Overwritten or torn: in the first block, or behind others.
    let later = blocks_from(Lsn(CHECKPOINT.0 + 5120));
    assert_eq!(taken(later, None), Ok((BlocksEnd::Overwritten, true, 0, false)));
    let mut torn = stored[..5 * BLOCK_LEN].to_vec();
    torn[4 * BLOCK_LEN + 100] ^= 1;
    let (end, is_at_start, len, _) = taken(&torn, None).unwrap();
    assert_eq!((end, is_at_start), (BlocksEnd::Torn, false));
    assert_eq!(len % BLOCK_LEN, 0);
    assert_eq!(taken(&torn[..BLOCK_LEN], None).unwrap().0, BlocksEnd::NeedMore);
    assert_eq!(taken(&[], None).unwrap().0, BlocksEnd::NeedMore);
    // What cannot be a record, in a block with a right checksum.
    let at = usize::try_from(CHECKPOINT.0 % 512).unwrap();
    let block =
        sealed(block_at(CHECKPOINT), |block| block[at..at + 2].copy_from_slice(b"\x30\xff"));
    assert_eq!(taken(&block, None), Err(CopyError::Malformed { lsn: CHECKPOINT }));
    // What the caller returns.
    let mut copier = BlockCopier::new(CHECKPOINT, None);
    let mut count = 0;
    let result = copier.take(stored, None, |_| {
        count += 1;
        if count < 3 { Ok(()) } else { Err(CopyError::Malformed { lsn: Lsn(1) }) }
    });
    assert_eq!(result, Err(CopyError::Malformed { lsn: Lsn(1) }));
    assert_eq!(copier.position(), Lsn(45_097), "those before were taken");
}

#[test]
fn files_longer_than_any_have_no_ring() {
    let lsn = Lsn(u64::MAX - 4096);
    let offset = HEADER_LEN + lsn.0 % BLOCK;
    assert!(BlockRing::new(lsn, offset, i64::MAX as u64).is_some_and(|ring| {
        let (place, left) = ring.place(Lsn(0));
        place >= HEADER_LEN && left > 0
    }));
    assert_eq!(BlockRing::new(lsn, offset, 1 << 63), None);
}
