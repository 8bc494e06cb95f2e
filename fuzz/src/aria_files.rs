//! Aria: control file, log files, tables.

use aria::control::ControlFile;
use aria::log::{FileNo, LogHeader};
use aria::table::{FileKind, IndexHeader};
use innodb::encrypted::CipherMode;

use crate::bytes::{first, put, take};
use crate::keys::AnyKey;

/// The control file, also with the checksums that would show damage, and the header of a log file.
pub fn log(data: &[u8]) {
    let (how, data) = first(data);
    let mut bytes = data.to_vec();
    if how & 1 != 0 {
        let (lens, _) = take::<4>(data.get(20..).unwrap_or_default());
        let [a, b, c, d] = lens;
        let fixed = usize::from(u16::from_le_bytes([a, b]));
        let end = fixed + usize::from(u16::from_le_bytes([c, d]));
        if let Some(covered) = fixed.checked_sub(4).and_then(|end| bytes.get(..end)) {
            let stored = crc32fast::hash(covered).to_le_bytes();
            put(&mut bytes, fixed - 4, &stored);
        }
        if let Some(covered) = bytes.get(fixed + 4..end) {
            let stored = crc32fast::hash(covered).to_le_bytes();
            put(&mut bytes, fixed, &stored);
        }
    }
    if let Ok(control) = ControlFile::parse(&bytes) {
        let changed = control.with_last_log_no(7);
        assert_eq!(ControlFile::parse(changed.as_bytes()).as_ref(), Ok(&changed));
        let _ = control.last_of_run(&[FileNo(1), FileNo(3), FileNo(u32::MAX)]);
    }
    let _ = LogHeader::parse(&bytes, FileNo(u32::from(how)));
    bytes.resize(aria::log::PAGE_LEN, 0);
    let _ = LogHeader::parse(&bytes, FileNo(1));
    let _ = std::str::from_utf8(data).map(FileNo::from_file_name);
}

/// The header of an index file, and pages judged by it.
pub fn table(data: &[u8]) {
    let (offset, data) = take(data);
    let Ok(header) = IndexHeader::parse(data) else { return };
    let keys = AnyKey(CipherMode::Cbc);
    let offset = u64::from_le_bytes(offset);
    for kind in [FileKind::Index, FileKind::Data] {
        for (number, page) in (0..).zip(data.chunks(header.block_size())) {
            let at = number * header.block_size() as u64;
            for at in [at, offset, offset & !0x7fff] {
                let _ = header.verify_page(kind, at, page);
                let _ = header.verify_page_with(&keys, kind, at, page);
            }
        }
    }
}
