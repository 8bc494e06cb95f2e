//! The six algorithms, as far as pages use them: from and to one block of known size.

use crate::flags::PageCompression;
use std::io::{Read, Write};

/// Largest dictionary of an .xz container, in KiB: 64 MiB for `innodb_compression_level` 9, and
/// what its decoder needs besides.
const XZ_MEMORY_LIMIT: u32 = (64 << 10) + 256;

/// Decompresses `stream` into all of `out`; bytes after the end of the stream are ignored where
/// the stream knows its own end. False if the stream is damaged or has another length; what `out`
/// holds is undefined then.
pub(super) fn decompress(algorithm: PageCompression, stream: &[u8], out: &mut [u8]) -> bool {
    let len = match algorithm {
        PageCompression::NamedInPage => None,
        PageCompression::Zlib => zlib(stream, out),
        PageCompression::Lz4 => lz4_flex::block::decompress_into(stream, out).ok(),
        PageCompression::Lzo => lzokay::decompress::decompress(stream, out).ok(),
        PageCompression::Lzma => xz(stream, out),
        PageCompression::Bzip2 => bzip2(stream, out),
        PageCompression::Snappy => snap::raw::Decoder::new().decompress(stream, out).ok(),
    };
    len == Some(out.len())
}

fn zlib(stream: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut decoder = flate2::Decompress::new(true);
    let status = decoder.decompress(stream, out, flate2::FlushDecompress::Finish).ok()?;
    (status == flate2::Status::StreamEnd).then(|| usize::try_from(decoder.total_out()).ok())?
}

fn bzip2(stream: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut decoder = bzip2::Decompress::new(false);
    let status = decoder.decompress(stream, out).ok()?;
    (status == bzip2::Status::StreamEnd).then(|| usize::try_from(decoder.total_out()).ok())?
}

fn xz(stream: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut reader = lzma_rust2::XzReader::new_mem_limit(stream, false, XZ_MEMORY_LIMIT);
    reader.read_exact(out).ok()?;
    // The end of the stream is checked by reading on.
    let at_end = reader.read(&mut [0]).ok()? == 0;
    at_end.then_some(out.len())
}

/// Compresses `image` into a stream that the server decompresses to the same bytes; `None` if the
/// algorithm fails. Streams are not those that the server would write.
pub(super) fn compress(algorithm: PageCompression, image: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        PageCompression::NamedInPage => None,
        PageCompression::Zlib => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(image).ok()?;
            encoder.finish().ok()
        }
        PageCompression::Lz4 => Some(lz4_flex::block::compress(image)),
        PageCompression::Lzo => lzokay::compress::compress(image).ok(),
        PageCompression::Lzma => {
            let mut options = lzma_rust2::XzOptions::with_preset(6);
            options.set_check_sum_type(lzma_rust2::CheckType::None);
            options.lzma_options.dict_size = u32::try_from(image.len()).ok()?;
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).ok()?;
            encoder.write_all(image).ok()?;
            encoder.finish().ok()
        }
        PageCompression::Bzip2 => {
            let level = bzip2::Compression::fast();
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(image).ok()?;
            encoder.finish().ok()
        }
        PageCompression::Snappy => snap::raw::Encoder::new().compress_vec(image).ok(),
    }
}
