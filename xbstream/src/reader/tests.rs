use proptest::prelude::*;

use super::*;
use crate::Writer;

/// What `mbstream -c a.txt empty d/b` of 10.11 writes: 5 bytes, none, and 20.
const REAL: &[u8] =
    b"XBSTCK01\0P\x05\0\0\0a.txt\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x86\xa6\x10\x36hello\
      XBSTCK01\0E\x05\0\0\0a.txtXBSTCK01\0E\x05\0\0\0empty\
      XBSTCK01\0P\x03\0\0\0d/b\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x47\x42\xad\x27xxxxxxxxxxxxxxxxxxxx\
      XBSTCK01\0E\x03\0\0\0d/b";
/// Where files end in it.
const ENDS: [usize; 2] = [63, 82];

/// A chunk without what follows the path.
fn head(flags: u8, kind: u8, path: &str) -> Vec<u8> {
    let len = u32::try_from(path.len()).unwrap();
    [&MAGIC[..], &[flags, kind], &len.to_le_bytes(), path.as_bytes()].concat()
}

fn payload(flags: u8, path: &str, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut chunk = head(flags, PAYLOAD, path);
    chunk.extend((bytes.len() as u64).to_le_bytes());
    chunk.extend(offset.to_le_bytes());
    chunk.extend(crc32fast::hash(bytes).to_le_bytes());
    chunk.extend(bytes);
    chunk
}

fn end(path: &str) -> Vec<u8> {
    head(0, END, path)
}

fn rename(from: &str, to: &str) -> Vec<u8> {
    let len = u32::try_from(to.len()).unwrap();
    [&head(0, RENAME, from)[..], &len.to_le_bytes(), to.as_bytes()].concat()
}

fn seek(path: &str, offset: u64) -> Vec<u8> {
    [&head(0, SEEK, path)[..], &offset.to_le_bytes()].concat()
}

/// All chunks, with the bytes of payloads.
fn read(stream: &[u8]) -> Result<Vec<(Chunk, Vec<u8>)>, StreamError> {
    let mut reader = Reader::new(stream);
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        let mut bytes = Vec::new();
        let mut buffer = [0; 7];
        loop {
            let len = reader.read_payload(&mut buffer)?;
            if len == 0 {
                break;
            }
            bytes.extend(&buffer[..len]);
        }
        chunks.push((chunk, bytes));
    }
    assert_eq!(reader.position(), stream.len() as u64);
    Ok(chunks)
}

fn chunk(path: &str, body: Body) -> Chunk {
    Chunk { path: path.into(), body }
}

fn fails(parts: &[Vec<u8>]) -> String {
    read(&parts.concat()).unwrap_err().to_string()
}

#[test]
fn stream_of_mbstream() {
    let bytes = |offset| Body::Payload { offset, rewrite: false };
    let end = Body::End { rewrite: false };
    assert_eq!(
        read(REAL).unwrap(),
        [
            (chunk("a.txt", bytes(0)), b"hello".to_vec()),
            (chunk("a.txt", end.clone()), Vec::new()),
            (chunk("empty", end.clone()), Vec::new()),
            (chunk("d/b", bytes(0)), [b'x'; 20].to_vec()),
            (chunk("d/b", end), Vec::new()),
        ]
    );
}

#[test]
fn writer_writes_the_same() {
    let mut writer = Writer::new(Vec::new());
    for (path, bytes) in [("a.txt", &b"hello"[..]), ("empty", b""), ("d/b", &[b'x'; 20])] {
        let path = Path::new(path);
        writer.payload(path, 0, bytes, false).unwrap();
        writer.end(path, false).unwrap();
    }
    assert_eq!(writer.into_inner(), REAL);
}

#[test]
fn writer_renames_removes_and_rewrites() {
    let mut writer = Writer::new(Vec::new());
    let [t, u] = ["d/t.ibd", "d/u.ibd"].map(Path::new);
    writer.payload(t, 0, b"old", false).unwrap();
    writer.end(t, false).unwrap();
    writer.payload(t, 0, b"newer", true).unwrap();
    writer.end(t, true).unwrap();
    writer.rename(t, u).unwrap();
    writer.remove(u).unwrap();
    let stream = writer.into_inner();
    let expected = [
        payload(0, "d/t.ibd", 0, b"old"),
        end("d/t.ibd"),
        payload(REWRITE, "d/t.ibd", 0, b"newer"),
        head(REWRITE, END, "d/t.ibd"),
        rename("d/t.ibd", "d/u.ibd"),
        head(0, REMOVE, "d/u.ibd"),
    ];
    assert_eq!(stream, expected.concat());
    let chunks = read(&stream).unwrap();
    assert_eq!(chunks[2].0.body, Body::Payload { offset: 0, rewrite: true });
    assert_eq!(chunks[4].0.body, Body::Rename { to: u.into() });
    assert_eq!(chunks[5].0.body, Body::Remove { is_prefix: false });
}

#[test]
fn paths_too_long_are_not_written() {
    let mut writer = Writer::new(Vec::new());
    let path = "x".repeat(PATH_LEN_MAX);
    writer.end(Path::new(&path), false).unwrap();
    for bad in [format!("{path}x"), String::new()] {
        let error = writer.end(Path::new(&bad), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(read(&writer.into_inner()).unwrap().len(), 1);
}

#[test]
fn files_interleave() {
    let stream = [
        payload(0, "a", 0, b"12"),
        payload(0, "b", 0, b"345"),
        payload(0, "a", 2, b"6"),
        end("b"),
        payload(0, "a", 3, b""),
        end("a"),
    ];
    assert_eq!(read(&stream.concat()).unwrap().len(), 6);
}

#[test]
fn every_cut_is_noticed() {
    assert!(matches!(read(b""), Err(StreamError::Empty)));
    for len in 1..REAL.len() {
        match read(&REAL[..len]) {
            // Between two files the format does not show it.
            Ok(_) => assert!(ENDS.contains(&len), "{len}"),
            Err(StreamError::Cut { offset, .. } | StreamError::Unfinished { offset, .. }) => {
                assert_eq!(offset, len as u64);
            }
            Err(error) => panic!("{len}: {error}"),
        }
    }
    assert_eq!(
        read(&REAL[..41]).unwrap_err().to_string(),
        "unexpected end of stream at offset 0x29, in the middle of a.txt"
    );
    assert_eq!(
        read(&REAL[..44]).unwrap_err().to_string(),
        "the stream ends at offset 0x2c, but a.txt has not ended"
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = read(REAL).unwrap();
    let starts = REAL.windows(8).enumerate().filter(|(_, bytes)| *bytes == MAGIC);
    let flags: Vec<_> = starts.map(|(start, _)| start + 8).collect();
    assert_eq!(flags.len(), 5);
    for at in 0..REAL.len() {
        for bit in 0..8 {
            let mut stream = REAL.to_vec();
            stream[at] ^= 1 << bit;
            // Names have no checksum: an empty file may get another one.
            let noticed = read(&stream).is_ok_and(|chunks| chunks == whole);
            assert!(!noticed || flags.contains(&at), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn damage_is_named() {
    let mut bad = payload(0, "d/t.ibd", 0, b"rows");
    *bad.last_mut().unwrap() ^= 1;
    let text = fails(&[bad, end("d/t.ibd")]);
    assert!(text.starts_with("invalid checksum at offset 0x0: expected 0x"), "{text}");
    assert!(text.ends_with("(d/t.ibd)"), "{text}");
    assert!(fails(&[b"PK\x03\x04".to_vec()]).starts_with("wrong chunk magic at offset 0x0"));
    assert_eq!(fails(&[head(0, b'Z', "a")]), "unknown chunk type 0x5a at offset 0x0");
    assert_eq!(fails(&[head(0, END, "../a")]), "invalid filename ../a at offset 0x0");
    assert_eq!(fails(&[head(0, END, "/a\n")]), "invalid filename /a\\n at offset 0x0");
    assert_eq!(fails(&[head(0, END, "")]), "path of 0 bytes at offset 0x0");
    assert_eq!(fails(&[rename("a", "b/../../c")]), "invalid filename b/../../c at offset 0x0");
    let long = "x".repeat(PATH_LEN_MAX + 1);
    assert_eq!(fails(&[head(0, END, &long)]), "path of 512 bytes at offset 0x0");
}

#[test]
fn order_of_a_file() {
    let gap = fails(&[payload(0, "a", 0, b"12"), payload(0, "a", 3, b"4")]);
    assert_eq!(gap, "a chunk of a at offset 0x25 belongs at byte 3 of the file, not at 2");
    let again = [payload(0, "a", 0, b"12"), end("a")];
    let twice = fails(&[again.concat(), again.concat()]);
    assert_eq!(twice, "a comes twice, again at offset 0x34");
    assert!(fails(&[payload(0, "a", u64::MAX, b"")]).contains("belongs at byte"));
    let huge = [payload(0, "a", 0, b"12"), seek("a", u64::MAX), payload(0, "a", u64::MAX, b"1")];
    assert!(fails(&huge).contains("belongs at byte"));
    let sought = [payload(0, "a", 0, b"1234"), seek("a", 1), payload(0, "a", 1, b"5"), end("a")];
    assert_eq!(read(&sought.concat()).unwrap().len(), 4);
}

#[test]
fn renames_and_removals() {
    let file = |path| [payload(0, path, 0, b"1"), end(path)].concat();
    assert!(fails(&[payload(0, "a", 0, b"1"), rename("a", "b")]).contains("has not ended"));
    assert!(fails(&[payload(0, "d/a", 0, b"1"), head(0, REMOVE, "d")]).contains("has not ended"));
    assert!(fails(&[file("a"), file("b"), rename("a", "b")]).contains("b comes twice"));
    let stream = [
        file("d/a"),
        file("d/a#P#p0"),
        file("d/a#P#p1"),
        file("e/a"),
        rename("missing", "still missing"),
        rename("e/a", "e/b"),
        file("e/a"),
        head(0, REMOVE, "d/a#P#*"),
        head(0, REMOVE, "nowhere"),
    ];
    let stream = stream.concat();
    let mut reader = Reader::new(&*stream);
    while reader.next_chunk().unwrap().is_some() {}
    let mut left: Vec<_> = reader.ended().iter().map(|path| path.to_str().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, ["d/a", "e/a", "e/b"]);
}

#[test]
fn unknown_kinds_can_be_skipped() {
    let mut strange = payload(IGNORABLE, "a", 7, b"who knows");
    strange[9] = b'Z';
    let stream = [strange.clone(), end("a")].concat();
    assert_eq!(read(&stream).unwrap(), [(chunk("a", Body::End { rewrite: false }), Vec::new())]);
    *strange.last_mut().unwrap() ^= 1;
    assert!(fails(&[strange, end("a")]).starts_with("invalid checksum"));
}

#[test]
fn lengths_are_not_believed() {
    let mut chunk = payload(0, "a", 0, b"12");
    chunk[15..23].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    assert!(fails(&[chunk]).contains("in the middle of a"));
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&[&MAGIC[..], &bytes].concat());
    }

    #[test]
    fn never_panics_on_damage(at in 0..REAL.len(), byte: u8) {
        let mut stream = REAL.to_vec();
        stream[at] = byte;
        let _ = read(&stream);
    }
}
