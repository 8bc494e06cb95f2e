//! The encryption parameters of a log, and decrypting its mini-transactions (10.8 and later).
//!
//! A copier needs none of this: checksums cover what is stored, and types and lengths of records
//! are in the clear. Source: `log0crypt.cc`; checked on logs of 10.11 and 11.8 (not
//! [`Scope::Records`], which no version packaged today writes).

use innodb::encrypted::{KeyError, KeySource, LocalKey};

use crate::mtr::{Frame, Stored};
use crate::{Malformed, RedoError, record};

/// The id of the key in the key plugin, for every log.
pub const KEY_ID: u32 = 1;

/// What is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Bytes 4 to 503 of each block (10.5 to 10.7).
    Blocks,
    /// Of each page record, what follows the page id (early releases from 10.8 on).
    Records,
    /// The payloads of all records of a mini-transaction as one.
    Mtrs,
}

/// What the header of a log tells about its encryption; nothing in it is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption {
    pub(crate) scope: Scope,
    pub(crate) key_version: u32,
    pub(crate) message: [u8; 16],
    pub(crate) nonce: [u8; 4],
}

impl Encryption {
    /// What is encrypted.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Version of the key [`KEY_ID`] with which the log is encrypted; single blocks of logs of
    /// 10.5 to 10.7 can have another one ([`crate::blocks::BlocksEnd::KeyVersion`]).
    pub fn key_version(&self) -> u32 {
        self.key_version
    }

    /// The key of the log, derived from version `version` of the server's.
    ///
    /// # Errors
    ///
    /// Those of the key management.
    pub fn key(&self, keys: &dyn KeySource, version: u32) -> Result<LocalKey, KeyError> {
        let key = keys.key(KEY_ID, version)?;
        Ok(LocalKey::derive(&key, &self.message, keys.mode()))
    }
}

/// Decrypts the records of `mtr` into `clear`, which afterwards holds them as in a plain log.
///
/// # Errors
///
/// A record that does not fit into the mini-transaction, or has no page id in the clear
/// ([`Scope::Records`]). A wrong key shows only in what is decoded.
pub(crate) fn decrypt_mtr(
    mtr: &Stored<'_>,
    scope: Scope,
    key: &LocalKey,
    clear: &mut Vec<u8>,
) -> Result<(), RedoError> {
    clear.clear();
    clear.extend_from_slice(mtr.records());
    let Some(nonce) = mtr.nonce() else { return Ok(()) };
    let decrypted = match scope {
        Scope::Blocks => Ok(()),
        Scope::Records => decrypt_records(clear, nonce, key),
        Scope::Mtrs => decrypt_whole(clear, nonce, key),
    };
    decrypted.map_err(|cause| RedoError { lsn: mtr.start(), cause })
}

/// `clear`: records whose payloads are one encrypted stream.
fn decrypt_whole(clear: &mut [u8], nonce: [u8; 8], key: &LocalKey) -> Result<(), Malformed> {
    let mut iv = [0; 16];
    for (to, from) in iv.iter_mut().zip(nonce) {
        *to = from;
    }
    let mut payload = Vec::with_capacity(clear.len());
    for_each_payload(clear, |head, part| {
        if payload.is_empty() {
            // Type and length of the first record; at most 6 bytes.
            for (to, from) in iv.iter_mut().skip(8).zip(head) {
                *to = *from;
            }
        }
        payload.extend_from_slice(part);
        Ok(())
    })?;
    key.decrypt(&iv, &mut payload);
    let mut rest = payload.as_slice();
    for_each_payload(clear, |_, part| {
        let (decrypted, after) = rest.split_at_checked(part.len()).ok_or(Malformed::Overrun)?;
        part.copy_from_slice(decrypted);
        rest = after;
        Ok(())
    })
}

/// `clear`: records of which each page record is encrypted behind the page id.
fn decrypt_records(clear: &mut [u8], nonce: [u8; 8], key: &LocalKey) -> Result<(), Malformed> {
    let mut page = None;
    for_each_payload(clear, |head, payload| {
        let first = head.first().copied().unwrap_or_default();
        let same_page = first & 0x80 != 0;
        let encrypted = if same_page {
            if page.is_none() {
                return Ok(()); // File records are in the clear.
            }
            payload
        } else {
            let (id, rest) = record::page_id(payload)?;
            let len = rest.len();
            page = Some(id);
            let id_len = payload.len() - len;
            payload.get_mut(id_len..).ok_or(Malformed::Overrun)?
        };
        let Some(id) = page else { return Ok(()) };
        let [space, page_no] = [id.space.0, id.page_no.0].map(u32::to_be_bytes);
        let mut iv = [0; 16];
        let parts = nonce.iter().chain(&space).chain(&page_no);
        for (to, from) in iv.iter_mut().zip(parts) {
            *to = *from;
        }
        key.decrypt(&iv, encrypted);
        Ok(())
    })
}

/// Calls `each` with type and length, and the payload, of each record.
fn for_each_payload(
    records: &mut [u8],
    mut each: impl FnMut(&[u8], &mut [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut rest = records;
    while !rest.is_empty() {
        let frame = Frame::of(rest).map_err(|_| Malformed::Integer)?;
        let (record, after) = rest.split_at_mut_checked(frame.len).ok_or(Malformed::Overrun)?;
        let (head, payload) =
            record.split_at_mut_checked(frame.header_len).ok_or(Malformed::Overrun)?;
        each(head, payload)?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use innodb::encrypted::{CipherMode, Key};

    use super::*;
    use crate::mtr::Layout;
    use crate::record::{FileRecord, Record};
    use crate::{Lsn, PageId, Ring};

    const NONCE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
    const LSN: Lsn = Lsn(50_000);

    fn key() -> LocalKey {
        LocalKey::derive(&Key::new(&[9; 32]).unwrap(), &[3; 16], CipherMode::Cbc)
    }

    fn parameters(scope: Scope) -> Encryption {
        Encryption { scope, key_version: 1, message: [3; 16], nonce: [0; 4] }
    }

    /// Adds sequence byte, nonce and CRC.
    fn framed(records: &[u8]) -> Vec<u8> {
        let crc = crc32c::crc32c_append(crc32c::crc32c(records), &NONCE).to_be_bytes();
        [records, &[1], &NONCE, &crc].concat()
    }

    fn stored(bytes: &[u8]) -> Stored<'_> {
        Stored::parse(bytes, LSN, Layout::EncryptedRing(Ring::endless(LSN))).unwrap()
    }

    #[test]
    fn payloads_of_a_mini_transaction_are_one_stream() {
        // WRITE 5:3 at 46; same page MEMSET at 54; WRITE of 16 bytes to 5:4.
        let plain =
            [&[0x37, 5, 3, 46, 0, 0, 1, 0, 0xc3, 4, 64, 0, 0x30, 5, 5, 4, 46][..], &[0xab; 16]]
                .concat();
        let mut stream = [&plain[1..8], &plain[9..12], &plain[14..]].concat();
        // Nonce, and the type byte of the first record.
        key().encrypt(&[1, 2, 3, 4, 5, 6, 7, 8, 0x37, 0, 0, 0, 0, 0, 0, 0], &mut stream);
        let mut records = plain.clone();
        records[1..8].copy_from_slice(&stream[..7]);
        records[9..12].copy_from_slice(&stream[7..10]);
        records[14..].copy_from_slice(&stream[10..]);
        let bytes = framed(&records);
        let mtr = stored(&bytes);
        assert_eq!((mtr.plain(), mtr.stored_len()), (None, plain.len() + 13));
        assert_eq!((mtr.end(), mtr.sequence_at()), (Lsn(LSN.0 + 46), plain.len()));
        let mut clear = vec![7; 100];
        let decrypted = mtr.decrypt(&parameters(Scope::Mtrs), &key(), &mut clear).unwrap();
        assert_eq!((decrypted.start(), decrypted.end()), (mtr.start(), mtr.end()));
        let records: Vec<_> = decrypted.records().map(Result::unwrap).collect();
        let page = PageId::new(5, 3);
        assert_eq!(records[0], Record::Write { page, offset: 46, data: &[0, 0, 1, 0] });
        assert_eq!(records[1], Record::Memset { page, offset: 54, len: 64, pattern: &[0] });
        let page = PageId::new(5, 4);
        assert_eq!(records[2], Record::Write { page, offset: 46, data: &[0xab; 16] });
    }

    #[test]
    fn early_logs_encrypt_behind_the_page_id_of_each_record() {
        let name = b"./d/a.ibd";
        let file = [&[0xbb, 9, 0][..], name].concat();
        let mut change = [0x37, 9, 3, 46, 0, 0, 1, 0];
        let mut same_page = [0xc3, 4, 64, 0];
        let init = [0x12, 9, 4];
        // Nonce, tablespace, page number.
        let iv = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0, 3];
        key().encrypt(&iv, &mut change[3..]);
        key().encrypt(&iv, &mut same_page[1..]);
        let bytes = framed(&[&file[..], &change, &same_page, &init].concat());
        let mut clear = Vec::new();
        let mtr = stored(&bytes);
        let decrypted = mtr.decrypt(&parameters(Scope::Records), &key(), &mut clear).unwrap();
        let records: Vec<_> = decrypted.records().map(Result::unwrap).collect();
        let (space, page) = (crate::SpaceId(9), PageId::new(9, 3));
        assert_eq!(records[0], Record::File(FileRecord::Modify { space, name }));
        assert_eq!(records[1], Record::Write { page, offset: 46, data: &[0, 0, 1, 0] });
        assert_eq!(records[2], Record::Memset { page, offset: 54, len: 64, pattern: &[0] });
        assert_eq!(records[3], Record::InitPage(PageId::new(9, 4)));
    }

    #[test]
    fn a_record_without_page_id_cannot_be_decrypted() {
        let bytes = framed(&[0x12, 9, 0xf1]);
        let error = stored(&bytes)
            .decrypt(&parameters(Scope::Records), &key(), &mut Vec::new())
            .unwrap_err();
        assert_eq!(error, RedoError { lsn: LSN, cause: Malformed::Integer });
    }

    #[test]
    fn every_byte_of_a_stored_mini_transaction_counts() {
        let good = framed(&[0x37, 5, 3, 46, 0, 0, 1, 0]);
        let layout = Layout::EncryptedRing(Ring::endless(LSN));
        for at in 1..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            assert!(Stored::parse(&bytes, LSN, layout).is_err(), "byte {at}");
            assert!(Stored::parse(&good[..at], LSN, layout).is_err(), "{at} bytes");
        }
    }
}
