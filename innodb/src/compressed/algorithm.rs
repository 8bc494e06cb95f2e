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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [PageCompression; 6] = [
        PageCompression::Zlib,
        PageCompression::Lz4,
        PageCompression::Lzo,
        PageCompression::Lzma,
        PageCompression::Bzip2,
        PageCompression::Snappy,
    ];

    /// An .xz container of zeros whose header asks for a dictionary of this size (coded).
    fn xz_with_dictionary(size: u8) -> Vec<u8> {
        let mut stream = compress(PageCompression::Lzma, &[0; 4096]).unwrap();
        let header_len = (usize::from(stream[12]) + 1) * 4;
        let header = &mut stream[12..12 + header_len];
        let filter = header.windows(2).position(|field| field == [0x21, 1]).unwrap();
        header[filter + 2] = size;
        let mut crc = flate2::Crc::new();
        crc.update(&header[..header_len - 4]);
        header[header_len - 4..].copy_from_slice(&crc.sum().to_le_bytes());
        stream
    }

    #[test]
    fn memory_for_dictionaries_is_limited() {
        let accepted = |size: u8| {
            let stream = xz_with_dictionary(size);
            decompress(PageCompression::Lzma, &stream, &mut [0; 4096])
        };
        // 4 KiB, 8 MiB as level 6 has it, 64 MiB as level 9; 96 MiB, 4 GiB.
        assert!([0, 22, 28].into_iter().all(accepted));
        assert!(![29, 40].into_iter().any(accepted));
    }

    #[test]
    fn streams_fill_the_page() {
        for algorithm in ALL {
            let image = b"some page ".repeat(500);
            let stream = compress(algorithm, &image).unwrap();
            for (len, fits) in [(4999, false), (5000, true), (5001, false), (0, false)] {
                let result = decompress(algorithm, &stream, &mut vec![0; len]);
                assert_eq!(result, fits, "{algorithm} {len}");
            }
            assert!(!decompress(algorithm, &[], &mut [0; 10]), "{algorithm}");
            // Padding, where the stream knows its own end.
            let padded = [stream.as_slice(), &[0; 7]].concat();
            let fits = decompress(algorithm, &padded, &mut vec![0; 5000]);
            let knows = super::super::knows_its_end(algorithm);
            assert!(fits || !knows, "{algorithm}");
        }
        assert!(!decompress(PageCompression::NamedInPage, &[1], &mut [0; 1]));
        assert!(compress(PageCompression::NamedInPage, &[1]).is_none());
    }

    proptest! {
        #[test]
        fn damaged_streams_never_panic(
            algorithm in prop::sample::select(ALL.to_vec()),
            words in prop::collection::vec(any::<u32>(), 1..100),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let image: Vec<u8> = bytes.iter().copied().cycle().take(4096).collect();
            let mut stream = compress(algorithm, &image).unwrap();
            for (at, value) in changes {
                let at = at.index(stream.len());
                stream[at] = value;
            }
            let mut out = vec![0; 4096];
            let _ = decompress(algorithm, &stream, &mut out);
            let _ = decompress(algorithm, &stream[..cut.index(stream.len())], &mut out);
        }
    }
}
