//! Writes a stream.

use std::io::{self, IoSlice, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{END, MAGIC, PATH_LEN_MAX, PAYLOAD, REMOVE, RENAME, REWRITE};

/// Writes chunks, of as many files at a time as wanted. The caller keeps the payloads of each file
/// in order and without gaps, and ends each once.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `output`, in large pieces.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// The bytes of file `path` from `offset` on; `rewrite` in all chunks of a file that stands in
    /// the place of an earlier one of the stream (10.6 and later). Nothing if there are none.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long; those of the output.
    pub fn payload(
        &mut self,
        path: &Path,
        offset: u64,
        bytes: &[u8],
        rewrite: bool,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut head = head(PAYLOAD, path, rewrite)?;
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        head.extend_from_slice(&offset.to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
        write_both(&mut self.output, &head, bytes)
    }

    /// File `path` has ended.
    ///
    /// # Errors
    ///
    /// As [`payload`](Self::payload).
    pub fn end(&mut self, path: &Path, rewrite: bool) -> io::Result<()> {
        self.output.write_all(&head(END, path, rewrite)?)
    }

    /// File `from`, which has ended, is to be called `to` (10.6 and later).
    ///
    /// # Errors
    ///
    /// As [`payload`](Self::payload).
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut chunk = head(RENAME, from, false)?;
        chunk.extend_from_slice(&path_len(to)?.to_le_bytes());
        chunk.extend_from_slice(to.as_os_str().as_bytes());
        self.output.write_all(&chunk)
    }

    /// File `path`, which has ended, is to be removed (10.6 and later).
    ///
    /// # Errors
    ///
    /// As [`payload`](Self::payload).
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.output.write_all(&head(REMOVE, path, false)?)
    }

    /// Writes what the output keeps back.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// The output.
    pub fn get_ref(&self) -> &W {
        &self.output
    }

    /// The output.
    pub fn into_inner(self) -> W {
        self.output
    }
}

/// A chunk up to the end of its path.
fn head(kind: u8, path: &Path, rewrite: bool) -> io::Result<Vec<u8>> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&[if rewrite { REWRITE } else { 0 }, kind]);
    head.extend_from_slice(&path_len(path)?.to_le_bytes());
    head.extend_from_slice(path.as_os_str().as_bytes());
    Ok(head)
}

fn path_len(path: &Path) -> io::Result<u32> {
    let len = path.as_os_str().len();
    let fits = u32::try_from(len).ok().filter(|_| (1..=PATH_LEN_MAX).contains(&len));
    fits.ok_or_else(|| {
        let text = format!("{} has {len} bytes, too many for a stream", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// Both in one write, if that can be.
fn write_both(output: &mut impl Write, head: &[u8], bytes: &[u8]) -> io::Result<()> {
    let written = loop {
        match output.write_vectored(&[IoSlice::new(head), IoSlice::new(bytes)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    output.write_all(head.get(written..).unwrap_or_default())?;
    let of_bytes = written.saturating_sub(head.len());
    output.write_all(bytes.get(of_bytes..).unwrap_or_default())
}
