//! Compressed files of a backup, one for each of its files: `.qp` as in mariadb-backup, `.zst` and
//! `.lz4` as the programs `zstd` and `lz4` read them.
//!
//! All are made of pieces that do not depend on each other, so that threads share the work on one
//! file:
//!
//! | | Head | A piece | End |
//! |---|---|---|---|
//! | `.qp` | of the archive | blocks | of the archive |
//! | `.zst`, `.lz4` | a frame that is skipped | a frame with checksum and length | a frame that is skipped, and tells the length of the file |
//!
//! Without the last one a file that was cut between two frames would look whole; the first one says
//! that the last one must be there. Files of other programs have neither, and a single frame.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::hint::WithHint;
use crate::metadata::BACKUP_MY_CNF;

/// Bytes that make a frame, and blocks of about as many are compressed together.
const PIECE: usize = 1 << 20;
/// First bytes of a frame of zstd.
const ZSTD: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// First bytes of a frame of lz4.
const LZ4: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// First bytes of the first and last frame; both formats skip this one and 15 others.
const SKIPPED: [u8; 4] = 0x184D_2A5C_u32.to_le_bytes();
/// What they hold, the last one before the length.
const NAME: [u8; 8] = *b"mbackup1";
/// Bytes of the first frame.
const HEAD_LEN: usize = 16;
/// Bytes of the last frame.
const END_LEN: usize = 24;
const BUFFER: usize = 1 << 20;

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `QuickLZ`, in the archives of `qpress`; bytes of a block.
    QuickLz(usize),
    /// Zstandard; the level.
    Zstd(i32),
    /// LZ4.
    Lz4,
}

/// Extensions of all compressed files.
pub const EXTENSIONS: [&str; 3] = ["qp", "zst", "lz4"];

/// Whether `name` is that of a compressed file.
pub fn is_compressed(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known))
}

/// Refuses the backup in `dir` if it is still compressed.
///
/// # Errors
///
/// It is.
pub fn refuse(dir: &Path) -> anyhow::Result<()> {
    for name in [BACKUP_MY_CNF, "ib_logfile0"] {
        let is_there = |extension: &&str| dir.join(format!("{name}.{extension}")).exists();
        if let Some(extension) = EXTENSIONS.into_iter().find(is_there)
            && !dir.join(name).exists()
        {
            return Err(anyhow!(
                "the backup in {} is compressed: {name}.{extension}",
                dir.display()
            ))
            .hint("unpack it first, by --decompress with the same --target-dir");
        }
    }
    Ok(())
}

impl Compression {
    /// What is added to the name of a file, after a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::QuickLz(_) => "qp",
            Self::Zstd(_) => "zst",
            Self::Lz4 => "lz4",
        }
    }

    /// Bytes of a file that are compressed together.
    pub fn piece_len(self) -> usize {
        match self {
            Self::QuickLz(block_len) => block_len * (PIECE / block_len.max(1)).max(1),
            Self::Zstd(_) | Self::Lz4 => PIECE,
        }
    }

    /// What comes before the first piece of the file `path`.
    pub fn head(self, path: &Path) -> Vec<u8> {
        match self {
            Self::QuickLz(block_len) => {
                qpress::head(path.file_name().unwrap_or_default().as_bytes(), block_len)
            }
            Self::Zstd(_) | Self::Lz4 => [&SKIPPED[..], &[8, 0, 0, 0], &NAME].concat(),
        }
    }

    /// Compresses the piece `bytes`, which stands at `offset` in the file.
    ///
    /// # Errors
    ///
    /// Those of the compressor, which has no memory.
    pub fn piece(self, offset: u64, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::QuickLz(block_len) => {
                let mut out = Vec::with_capacity(bytes.len() / 2);
                let mut at = offset;
                for block in bytes.chunks(block_len.max(1)) {
                    qpress::block(at, block, &mut out);
                    at += block.len() as u64;
                }
                Ok(out)
            }
            Self::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                compressor.compress(bytes)
            }
            Self::Lz4 => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max1MB)
                    .block_mode(BlockMode::Independent)
                    .content_size(Some(bytes.len() as u64))
                    .content_checksum(true);
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(bytes)?;
                encoder.finish().map_err(io::Error::other)
            }
        }
    }

    /// What comes after the last piece of a file of `len` bytes.
    pub fn end(self, len: u64) -> Vec<u8> {
        match self {
            Self::QuickLz(_) => qpress::end().to_vec(),
            Self::Zstd(_) | Self::Lz4 => {
                [&SKIPPED[..], &[16, 0, 0, 0], &NAME, &len.to_le_bytes()].concat()
            }
        }
    }
}

/// Unpacks `file`, whose name is `path`, into `output`.
///
/// # Errors
///
/// A file that is damaged or cut, or holds more than it says; what reading and writing report.
/// `output` then holds what came before.
pub fn unpack(mut file: File, path: &Path, output: &mut dyn Write) -> anyhow::Result<()> {
    if path.extension() == Some(OsStr::new("qp")) {
        qpress::unpack(BufReader::with_capacity(BUFFER, file), output)?;
        return Ok(());
    }
    let len = read_len(&mut file).context("read the first and the last frame")?;
    let input = BufReader::with_capacity(BUFFER, file);
    Frames { input, output, left: len.unwrap_or(u64::MAX), count: 0 }.unpack(len.is_some())
}

/// The length that the last frame tells; absent in files of other programs. The file is then read
/// up to the first frame that is not skipped.
fn read_len(file: &mut File) -> anyhow::Result<Option<u64>> {
    let len = file.metadata()?.len();
    let mut head = [0; HEAD_LEN];
    let is_ours = len >= HEAD_LEN as u64 && {
        file.read_exact(&mut head)?;
        Compression::Lz4.head(Path::new("")) == head
    };
    if !is_ours {
        file.seek(SeekFrom::Start(0))?;
        return Ok(None);
    }
    let mut end = [0; END_LEN];
    let at = len.checked_sub(END_LEN as u64).filter(|at| *at >= HEAD_LEN as u64);
    file.seek(SeekFrom::Start(at.context("the file is cut: its last frame is missing")?))?;
    file.read_exact(&mut end)?;
    file.seek(SeekFrom::Start(HEAD_LEN as u64))?;
    let told = end.last_chunk().map(|len| u64::from_le_bytes(*len)).unwrap_or_default();
    ensure!(Compression::Lz4.end(told) == end, "the file is cut: its last frame is missing");
    Ok(Some(told))
}

/// The frames of a file, while they are unpacked.
struct Frames<'a> {
    input: BufReader<File>,
    output: &'a mut dyn Write,
    /// Bytes that may still come.
    left: u64,
    /// Frames that were unpacked.
    count: u64,
}

impl Frames<'_> {
    fn unpack(mut self, has_end: bool) -> anyhow::Result<()> {
        loop {
            let mut magic = [0; 4];
            let read = self.peek(&mut magic)?;
            match magic {
                ZSTD => {
                    let mut input = &mut self.input;
                    let decoder = zstd::stream::read::Decoder::with_buffer(&mut input)?;
                    copy(decoder.single_frame(), self.output, &mut self.left)?;
                }
                LZ4 => copy(FrameDecoder::new(&mut self.input), self.output, &mut self.left)?,
                SKIPPED if has_end => break,
                _ if read == 0 && self.count == 1 => return Ok(()),
                _ if read < magic.len() => {
                    bail!("the file is cut: frame {} or what follows is missing", self.count + 1)
                }
                _ => bail!("no frame of zstd or lz4 after frame {}", self.count),
            }
            self.count += 1;
        }
        ensure!(self.left == 0, "{} bytes are missing that the file should hold", self.left);
        let mut end = [0; END_LEN];
        self.input.read_exact(&mut end)?;
        ensure!(self.input.fill_buf()?.is_empty(), "something follows the end of the file");
        Ok(())
    }

    /// The next four bytes, as far as there are so many, which stay to be read.
    fn peek(&mut self, bytes: &mut [u8; 4]) -> io::Result<usize> {
        // The buffer is refilled only when it is empty.
        if self.input.buffer().len() < bytes.len() {
            let at = self.input.stream_position()?;
            self.input.seek(SeekFrom::Start(at))?;
        }
        let mut len = 0;
        for (to, from) in bytes.iter_mut().zip(self.input.fill_buf()?) {
            *to = *from;
            len += 1;
        }
        Ok(len)
    }
}

/// Copies a frame, of at most `left` bytes.
fn copy(mut from: impl Read, to: &mut dyn Write, left: &mut u64) -> anyhow::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.context("unpack a frame: it is damaged or cut")?,
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        *left = left
            .checked_sub(read as u64)
            .context("the file holds more than the length at its end says")?;
        to.write_all(bytes).context("write what is unpacked")?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ALL: [Compression; 3] =
        [Compression::QuickLz(65536), Compression::Zstd(1), Compression::Lz4];

    fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut out = compression.head(Path::new("d/t.ibd"));
        let mut at = 0;
        for piece in bytes.chunks(compression.piece_len()) {
            out.extend(compression.piece(at, piece).unwrap());
            at += piece.len() as u64;
        }
        out.extend(compression.end(at));
        out
    }

    fn unpacked(extension: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.ibd").with_extension(extension);
        fs::write(&path, bytes).unwrap();
        let mut out = Vec::new();
        unpack(File::open(&path).unwrap(), &path, &mut out).map(|()| out)
    }

    fn sample() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..600_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        bytes.extend(vec![0; 1 << 20]);
        bytes
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for compression in ALL {
            for bytes in [&sample()[..], b"", b"x"] {
                let packed = packed(compression, bytes);
                assert!(unpacked(compression.extension(), &packed).unwrap() == bytes);
                assert!(bytes.len() < 100 || packed.len() < bytes.len() / 2, "{compression:?}");
            }
        }
    }

    #[test]
    fn every_cut_and_flipped_byte_is_noticed() {
        let bytes = b"some text, some text and a bit more of the same text".repeat(9);
        for compression in [Compression::Zstd(3), Compression::Lz4] {
            // Two frames, so that there is a border to cut at.
            let frame = compression.piece(0, &bytes).unwrap();
            let end = compression.end(2 * bytes.len() as u64);
            let whole = [&compression.head(Path::new("t"))[..], &frame, &frame, &end].concat();
            let twice = bytes.repeat(2);
            assert!(unpacked(compression.extension(), &whole).unwrap() == twice);
            for len in 0..whole.len() {
                let result = unpacked(compression.extension(), &whole[..len]);
                assert!(result.is_err(), "{len} of {}", whole.len());
            }
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                let result = unpacked(compression.extension(), &damaged);
                assert!(!result.is_ok_and(|found| found != twice), "byte {at}");
            }
            let more = [&whole[..], b"x"].concat();
            assert!(unpacked(compression.extension(), &more).is_err());
        }
    }

    #[test]
    fn more_than_the_end_says_is_an_error() {
        for compression in [Compression::Zstd(1), Compression::Lz4] {
            let file = |bytes: &[u8]| {
                let head = compression.head(Path::new("t"));
                [head, compression.piece(0, bytes).unwrap(), compression.end(1000)].concat()
            };
            let error = unpacked(compression.extension(), &file(&vec![0; 1 << 20])).unwrap_err();
            assert!(error.to_string().contains("holds more"), "{error:#}");
            let error = unpacked(compression.extension(), &file(b"x")).unwrap_err();
            assert!(error.to_string().contains("999 bytes are missing"), "{error:#}");
        }
    }

    /// Those of `zstd` and `lz4` themselves, where they are installed.
    #[test]
    fn files_of_other_programs_are_single_frames() {
        let bytes = sample();
        let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
        assert!(unpacked("zst", &zstd).unwrap() == bytes);
        assert!(unpacked("zst", &zstd.repeat(2)).is_err());
    }

    #[test]
    fn a_compressed_backup_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        refuse(dir.path()).unwrap();
        fs::write(dir.path().join("backup-my.cnf.zst"), b"").unwrap();
        let error = refuse(dir.path()).unwrap_err();
        let (text, hint) = crate::hint::describe(&error);
        assert!(text.ends_with("is compressed: backup-my.cnf.zst"), "{text}");
        assert!(hint.unwrap().contains("--decompress"));
        fs::write(dir.path().join("backup-my.cnf"), b"").unwrap();
        refuse(dir.path()).unwrap();
    }

    #[test]
    fn extensions_tell() {
        for name in ["t.ibd.qp", "t.zst", "t.lz4"] {
            assert!(is_compressed(OsStr::new(name)), "{name}");
        }
        for name in ["t.ibd", "qp", "lz4.frm"] {
            assert!(!is_compressed(OsStr::new(name)), "{name}");
        }
    }
}
