//! Archives that `mbstream` extracts.

use mariabackup::tar::reader::Reader;
use mariabackup::tar::{BLOCK, seal};

/// An archive, every block of which has the checksum of a header.
pub fn tar(data: &[u8]) {
    let mut sealed = data.to_vec();
    for block in sealed.as_chunks_mut::<BLOCK>().0 {
        seal(block);
    }
    for archive in [data, &sealed] {
        let mut reader = Reader::new(archive);
        let mut buffer = [0; 4096];
        while let Ok(Some(_)) = reader.next_entry() {
            while let Ok(Some(_)) = reader.read_piece(&mut buffer) {}
        }
    }
}
