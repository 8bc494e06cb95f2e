//! Page 0 of a tablespace file on a live server.

use std::io;
use std::time::Duration;

use innodb::page::{self, ChecksumAlgorithm, SpaceContext};
use innodb::space::{SpaceHeader, SpaceHeaderError};

use super::source_file::SourceFile;

/// The largest page there is, bytes.
pub const MAX_PAGE: usize = 64 << 10;
/// How often page 0 is read before it is called unusable.
const TRIES: u32 = 10;
/// How often a page 0 that was never written is read: the server may just be writing it.
pub const UNWRITTEN_TRIES: u32 = 3;

/// What stands at the start of a tablespace file.
#[derive(Debug)]
pub enum FirstPage {
    /// A valid header.
    Header(SpaceHeader),
    /// Zeros, or not even a page: the server has not written it yet.
    Unwritten,
    /// Something else, after several readings.
    Damaged(String),
}

/// Reads and verifies page 0. Reads again what may just be being written.
///
/// # Errors
///
/// Those of reading.
pub fn read(file: &SourceFile, algorithm: ChecksumAlgorithm) -> io::Result<FirstPage> {
    let mut buffer = vec![0; MAX_PAGE];
    read_start(file, algorithm, UNWRITTEN_TRIES, &mut buffer).map(|(outcome, _)| outcome)
}

/// As [`read()`], with as much of the start of the file as `buffer` takes, at least the largest
/// page; also returns how many bytes that are. A page that was never written is read
/// `unwritten_tries` times.
///
/// # Errors
///
/// Those of reading.
pub fn read_start(
    file: &SourceFile,
    algorithm: ChecksumAlgorithm,
    unwritten_tries: u32,
    buffer: &mut [u8],
) -> io::Result<(FirstPage, usize)> {
    for attempt in 1.. {
        let len = file.read_at(buffer, 0)?;
        let start = buffer.get(..len.min(MAX_PAGE)).unwrap_or_default();
        let outcome = judge(start, algorithm);
        let settled = match outcome {
            FirstPage::Header(_) => true,
            FirstPage::Unwritten => attempt >= unwritten_tries,
            FirstPage::Damaged(_) => attempt > TRIES,
        };
        if settled {
            return Ok((outcome, len));
        }
        pause(attempt - 1);
    }
    Ok((FirstPage::Unwritten, 0))
}

fn judge(bytes: &[u8], algorithm: ChecksumAlgorithm) -> FirstPage {
    let header = match SpaceHeader::parse(bytes) {
        Ok(header) => header,
        Err(SpaceHeaderError::Zero | SpaceHeaderError::TooShort { .. }) => {
            return FirstPage::Unwritten;
        }
        Err(error) => return FirstPage::Damaged(error.to_string()),
    };
    let page = bytes.get(..header.flags().page_size().physical()).unwrap_or_default();
    match page::verify(page, 0, &SpaceContext::new(&header, algorithm)) {
        Ok(()) => FirstPage::Header(header),
        Err(error) => FirstPage::Damaged(error.to_string()),
    }
}

/// Waits after failed reading number `attempt`: 1, 2, 4, ... at most 128 ms, half a second in all.
pub fn pause(attempt: u32) {
    std::thread::sleep(Duration::from_millis(1 << attempt.min(7)));
}
