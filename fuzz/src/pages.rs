//! Pages of every format: judged, decoded, encoded again; records applied to them.

use innodb::encrypted::CipherMode;
use innodb::page::{ChecksumAlgorithm, PageCodec, SpaceContext, verify};
use innodb::space::{EncryptionMetadata, SpaceHeader};
use innodb::{Lsn, SpaceFlags, checksum};
use redo::apply::{Frame, apply as apply_record};
use redo::record;

use crate::bytes::{first, piece, put, take};
use crate::keys::AnyKey;
use crate::seeds::file;

/// Flags of all kinds of tablespaces.
const FLAGS: [u32; 24] = [
    0x13, 0x14, 0x15, 0x16, 0x17, 0x33, 0x35, 0x55, 0x75, 0x95, 0xb5, 0xd5, 0, 0x21, 0x23, 0x25,
    0x27, 0x29, 0x2b, 0xe3, 0x1e1, 0xe1, 0x1_0021, 0x1_00e1,
];
const ALGORITHMS: [ChecksumAlgorithm; 8] = [
    ChecksumAlgorithm::Crc32,
    ChecksumAlgorithm::StrictCrc32,
    ChecksumAlgorithm::FullCrc32,
    ChecksumAlgorithm::StrictFullCrc32,
    ChecksumAlgorithm::Innodb,
    ChecksumAlgorithm::StrictInnodb,
    ChecksumAlgorithm::None,
    ChecksumAlgorithm::StrictNone,
];

/// A tablespace: flags by `kind`, checksum algorithm, encryption metadata by `choice`.
fn context(kind: u8, choice: u8) -> Option<(SpaceFlags, SpaceContext)> {
    let flags = FLAGS.get(usize::from(kind) % FLAGS.len()).copied()?;
    let flags = SpaceFlags::parse(flags).ok()?;
    let size = flags.page_size();
    let mut page0 = vec![0; size.physical()];
    let space_id = if choice & 0x10 == 0 { 7_u32 } else { 0 };
    for at in [34, 38] {
        put(&mut page0, at, &space_id.to_be_bytes());
    }
    put(&mut page0, 46, &[1]);
    put(&mut page0, 54, &flags.raw().to_be_bytes());
    if choice & 8 != 0 {
        let metadata = EncryptionMetadata::offset(size);
        put(&mut page0, metadata, b"s\x0e\x0cREt\x01\x10");
        let key_id = if choice & 0x20 == 0 { 1 } else { 9 };
        put(&mut page0, metadata + 28, &[0, 0, 0, key_id, choice >> 6]);
    }
    let header = SpaceHeader::parse(&page0).ok()?;
    let algorithm = ALGORITHMS.get(usize::from(choice & 7))?;
    Some((flags, SpaceContext::new(&header, *algorithm).with_space_id_checked()))
}

/// Sets the checksums that a page with these flags has in the file.
fn seal(page: &mut [u8], flags: SpaceFlags, is_encrypted: bool) {
    let len = page.len();
    if flags.is_full_crc32() {
        let stored = page
            .get(24..26)
            .map_or(0, |kind| u16::from_be_bytes(kind.try_into().unwrap_or_default()));
        let end = if stored & 0x8000 != 0 { usize::from(stored & 0x7fff) * 256 } else { len };
        let end = end.clamp(4, len);
        let computed = checksum::full_crc32(page.get(..end - 4).unwrap_or_default());
        put(page, end - 4, &computed.to_be_bytes());
    } else if flags.is_row_compressed() {
        let computed = checksum::crc32_row_compressed(page);
        put(page, if is_encrypted { 30 } else { 0 }, &computed.to_be_bytes());
    } else {
        let computed = checksum::crc32(page).to_be_bytes();
        if is_encrypted {
            put(page, 30, &computed);
        } else {
            put(page, 0, &computed);
            put(page, len - 8, &computed);
        }
    }
}

/// Any bytes as a page of any tablespace.
pub fn decode(data: &[u8]) {
    let ([kind, choice, page_no, how], data) = take(data);
    let Some((flags, context)) = context(kind, choice) else { return };
    let mut page = data.to_vec();
    page.resize(flags.page_size().physical(), 0);
    if how & 1 == 0 {
        put(&mut page, 4, &[0, 0, 0, page_no]);
    }
    if how & 2 == 0 {
        seal(&mut page, flags, how & 4 == 0);
    }
    judge(&page, page_no.into(), context);
}

/// Any stream in a compressed page whose header and checksums are right.
pub fn decompress(data: &[u8]) {
    let ([kind, algorithm, choice, short], stream) = take(data);
    // Of full_crc32, or older with the algorithm in the page.
    let kind = if kind & 1 == 0 { 5 + algorithm % 7 } else { 22 + algorithm % 2 };
    let Some((flags, context)) = context(kind, choice) else { return };
    let mut page = vec![0; flags.page_size().physical()];
    put(&mut page, 4, &[0, 0, 0, 5]);
    put(&mut page, 34, &[0, 0, 0, 7]);
    let room = page.len() - 300;
    let stream = stream.get(..room).unwrap_or(stream);
    if flags.is_full_crc32() {
        put(&mut page, 26, stream);
        let enough = 26 + stream.len() + 1 + 4;
        let len = enough.next_multiple_of(256);
        put(&mut page, 24, &(0x8000 | u16::try_from(len / 256).unwrap_or(0)).to_be_bytes());
        let end = u8::try_from(enough % 256).unwrap_or(0).wrapping_sub(short & 1);
        put(&mut page, len - 5, &[end]);
    } else {
        let len = u16::try_from(stream.len()).unwrap_or(0).to_be_bytes();
        put(&mut page, 0, &0xdead_beef_u32.to_be_bytes());
        put(&mut page, 38, &len);
        if choice & 8 == 0 {
            put(&mut page, 24, &34354_u16.to_be_bytes());
            put(&mut page, 33, &[algorithm / 2 % 8]);
            put(&mut page, 40, stream);
        } else {
            put(&mut page, 24, &37401_u16.to_be_bytes());
            put(&mut page, 29, &[short & 1]);
            put(&mut page, 40, &[0, algorithm / 2 % 8]);
            put(&mut page, 42, stream);
        }
    }
    if flags.is_full_crc32() {
        seal(&mut page, flags, false);
    }
    judge(&page, 5, context);
}

/// Judges and decodes a page, and encodes what came out.
fn judge(page: &[u8], page_no: u32, context: SpaceContext) {
    let _ = verify(page, page_no, &context);
    let mut out = vec![0; page.len()];
    for mode in [CipherMode::Cbc, CipherMode::Ctr] {
        let keys = AnyKey(mode);
        let codec = PageCodec::new(context, Some(&keys));
        let _ = codec.key_of(page);
        if codec.decode(page, page_no, &mut out).is_ok() {
            let _ = codec.with_default_encryption(true).encode(&mut out, page_no, Lsn(1 << 33));
        }
    }
    let _ = PageCodec::new(context, None).decode(page, page_no, &mut out);
}

/// Records onto a page: a real one with some bytes changed, or any bytes.
pub fn apply(data: &[u8]) {
    let (how, data) = first(data);
    let (records, data) = piece(data, 1 << 12);
    let (at, data) = take::<2>(data);
    let mut page = match how % 6 {
        0 => file("innodb/testdata/10.11/full_crc32/dynamic.5"),
        1 => file("innodb/testdata/10.11/crc32/redundant.5"),
        2 => file("innodb/testdata/10.11/full_crc32_4k/compact.5"),
        3 => file("innodb/testdata/10.11/crc32/compressed1.4"),
        4 => vec![0; 1024],
        _ => vec![0; 16384],
    };
    put(&mut page, usize::from(u16::from_le_bytes(at)), data);
    let frame = if how & 0x80 == 0 { Frame::Uncompressed } else { Frame::Compressed };
    for record in record::decode_run(records, Lsn(1 << 20)).map_while(Result::ok) {
        let _ = apply_record(&record, &mut page, frame);
    }
}
