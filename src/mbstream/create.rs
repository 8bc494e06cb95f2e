//! Files to a stream.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use xbstream::Writer;

use crate::report::Report;

/// Bytes of a chunk.
const CHUNK: usize = 1 << 20;

/// Writes `files`, relative to `dir`, to `output`, by the names given.
///
/// # Errors
///
/// Anything but regular files, before anything is written; what reading and writing report.
pub fn create(
    dir: &Path,
    files: &[PathBuf],
    output: impl Write,
    report: &Report,
) -> anyhow::Result<()> {
    ensure!(dir.is_dir(), "Can't change dir to '{}': it is no directory", dir.display());
    for name in files {
        let path = dir.join(name);
        let is_file =
            path.metadata().with_context(|| format!("read {}", path.display()))?.is_file();
        ensure!(is_file, "{} is not a regular file, exiting.", path.display());
    }
    let mut writer = Writer::new(output);
    let mut buffer = vec![0; CHUNK];
    for name in files {
        report.detail(name.display());
        add(&dir.join(name), name, &mut writer, &mut buffer)?;
    }
    writer.flush().context("write the stream")
}

fn add(
    path: &Path,
    name: &Path,
    writer: &mut Writer<impl Write>,
    buffer: &mut [u8],
) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut offset = 0;
    loop {
        let len = file.read(buffer).with_context(|| format!("read {}", path.display()))?;
        let Some(bytes) = buffer.get(..len) else { bail!("read beyond the buffer") };
        if bytes.is_empty() {
            break;
        }
        writer.payload(name, offset, bytes, false).context("write the stream")?;
        offset += len as u64;
    }
    writer.end(name, false).context("write the stream")
}
