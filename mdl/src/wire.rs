//! Packets of the client protocol, as far as text queries need them.
//!
//! ```text
//! packet     3 bytes length | 1 byte sequence number | payload
//!            (a payload of 0xffffff bytes goes on in the next packet)
//! greeting   10 | version NUL | thread id 4 | scramble 8 | NUL | capabilities 2 | charset 1 |
//!            status 2 | capabilities 2 | scramble length 1 | 6 + 4 bytes | rest of scramble | plugin NUL
//! error      0xff | code 2 | '#' | SQL state 5 | message
//! result     column count | column definitions | EOF | rows | EOF
//! ```
//!
//! Source: the knowledge base's pages on the client/server protocol; checked against servers
//! 10.11 and 11.8. All integers are little-endian.

use std::io::{self, Read, Write};

/// Longest payload taken from a server; the longest text a backup asks for, the InnoDB status, is
/// limited to 1 MiB.
const MAX_PAYLOAD_LEN: usize = 64 << 20;

/// Length that says that the payload goes on in the next packet.
const FULL_PACKET_LEN: usize = 0xff_ffff;

/// Capability bits that this client uses.
pub(crate) mod capability {
    /// `CLIENT_LONG_PASSWORD`; MariaDB reads it as "no MariaDB extensions wanted".
    pub(crate) const LONG_PASSWORD: u32 = 1;
    /// `CLIENT_LONG_FLAG`
    pub(crate) const LONG_FLAG: u32 = 1 << 2;
    /// `CLIENT_PROTOCOL_41`
    pub(crate) const PROTOCOL_41: u32 = 1 << 9;
    /// `CLIENT_SSL`
    pub(crate) const SSL: u32 = 1 << 11;
    /// `CLIENT_TRANSACTIONS`
    pub(crate) const TRANSACTIONS: u32 = 1 << 13;
    /// `CLIENT_SECURE_CONNECTION`
    pub(crate) const SECURE_CONNECTION: u32 = 1 << 15;
    /// `CLIENT_PLUGIN_AUTH`
    pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
    /// `CLIENT_CONNECT_ATTRS`
    pub(crate) const CONNECT_ATTRS: u32 = 1 << 20;
    /// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`
    pub(crate) const LENENC_AUTH_DATA: u32 = 1 << 21;
}

/// A packet that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A packet ends before its last field.
    #[error("packet of the server ends inside a field")]
    Truncated,
    /// A packet too long for anything a backup asks for.
    #[error("packet of {0} bytes from the server")]
    TooLong(usize),
    /// A packet out of its order.
    #[error("packet number {found} from the server instead of {expected}")]
    Sequence {
        /// Number in the packet.
        found: u8,
        /// Number that is due.
        expected: u8,
    },
    /// A packet of another kind than the state of the dialogue allows.
    #[error("unexpected packet from the server (first byte {0:#04x})")]
    Unexpected(u8),
    /// The greeting is of another protocol.
    #[error("not the protocol of a MariaDB server (version {0})")]
    Version(u8),
}

/// Reads the next packet; `sequence` is the number it must bear, and is moved on.
pub(crate) fn read_packet(from: &mut impl Read, sequence: &mut u8) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    loop {
        let mut header = [0; 4];
        from.read_exact(&mut header)?;
        let [a, b, c, found] = header;
        if found != *sequence {
            return Err(invalid(ProtocolError::Sequence { found, expected: *sequence }));
        }
        *sequence = sequence.wrapping_add(1);
        let len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let total = payload.len() + len;
        if total > MAX_PAYLOAD_LEN {
            return Err(invalid(ProtocolError::TooLong(total)));
        }
        let taken = from.by_ref().take(len as u64).read_to_end(&mut payload)?;
        if taken < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if len < FULL_PACKET_LEN {
            return Ok(payload);
        }
    }
}

/// Writes one payload and moves the sequence number on.
pub(crate) fn write_packet(
    to: &mut impl Write,
    sequence: &mut u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut rest = payload;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(FULL_PACKET_LEN));
        let [a, b, c, ..] = (chunk.len() as u64).to_le_bytes();
        let mut packet = Vec::with_capacity(chunk.len() + 4);
        packet.extend([a, b, c, *sequence]);
        packet.extend(chunk);
        to.write_all(&packet)?;
        *sequence = sequence.wrapping_add(1);
        rest = after;
        if chunk.len() < FULL_PACKET_LEN {
            return to.flush();
        }
    }
}

fn invalid(error: ProtocolError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads fields off the front of a payload.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], ProtocolError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(ProtocolError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(ProtocolError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Bytes up to a NUL, which is taken too. Some servers leave the last NUL of a packet out.
    pub(crate) fn until_nul(&mut self) -> &'a [u8] {
        let len = self.bytes.iter().position(|&b| b == 0).unwrap_or(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(len);
        self.bytes = rest.split_first().map_or(&[][..], |(_, rest)| rest);
        taken
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Length-encoded integer.
    pub(crate) fn integer(&mut self) -> Result<u64, ProtocolError> {
        match self.u8()? {
            byte @ 0..=0xfa => Ok(byte.into()),
            0xfc => self.u16().map(Into::into),
            0xfd => {
                let [a, b, c] = self.array()?;
                Ok(u32::from_le_bytes([a, b, c, 0]).into())
            }
            0xfe => self.array().map(u64::from_le_bytes),
            byte => Err(ProtocolError::Unexpected(byte)),
        }
    }

    /// Length-encoded bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], ProtocolError> {
        let len = self.integer()?;
        self.take(usize::try_from(len).map_err(|_| ProtocolError::Truncated)?)
    }

    /// Length-encoded bytes of a row, or NULL.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        match self.bytes.split_first() {
            Some((0xfb, rest)) => {
                self.bytes = rest;
                Ok(None)
            }
            _ => self.bytes().map(Some),
        }
    }
}

/// Appends length-encoded bytes.
pub(crate) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len() as u64;
    let [a, b, c, ..] = len.to_le_bytes();
    match len {
        0..=0xfa => to.push(a),
        0xfb..=0xffff => to.extend([0xfc, a, b]),
        0x1_0000..=0xff_ffff => to.extend([0xfd, a, b, c]),
        _ => {
            to.push(0xfe);
            to.extend(len.to_le_bytes());
        }
    }
    to.extend(bytes);
}

/// What the server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) thread_id: u32,
    pub(crate) capabilities: u32,
    /// Challenge for the password, without its final NUL.
    pub(crate) scramble: Vec<u8>,
    /// Name of the authentication plugin that the scramble is for.
    pub(crate) plugin: String,
}

impl Greeting {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new(payload);
        let protocol = fields.u8()?;
        if protocol != 10 {
            return Err(ProtocolError::Version(protocol));
        }
        let version = String::from_utf8_lossy(fields.until_nul()).into_owned();
        let thread_id = fields.u32()?;
        let mut scramble = fields.take(8)?.to_vec();
        fields.take(1)?;
        let low = fields.u16()?;
        fields.take(3)?; // character set, status
        let high = fields.u16()?;
        let capabilities = u32::from(low) | u32::from(high) << 16;
        let scramble_len = fields.u8()?;
        fields.take(10)?;
        let rest_len = usize::from(scramble_len).saturating_sub(8).max(13);
        let rest = fields.take(rest_len)?;
        scramble.extend(rest.strip_suffix(&[0]).unwrap_or(rest));
        let plugin = String::from_utf8_lossy(fields.until_nul()).into_owned();
        Ok(Self { version, thread_id, capabilities, scramble, plugin })
    }
}

/// An error packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerMessage {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl ServerMessage {
    /// Parses an error packet, its first byte included. Before the greeting it has no SQL state.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new(payload);
        fields.u8()?;
        let code = fields.u16()?;
        let text = fields.rest();
        let text = match text.split_first_chunk::<6>() {
            Some(([b'#', ..], text)) => text,
            _ => text,
        };
        Ok(Self { code, text: String::from_utf8_lossy(text).into_owned() })
    }
}

/// Name of a column, from its definition packet.
pub(crate) fn column_name(payload: &[u8]) -> Result<String, ProtocolError> {
    let mut fields = Fields::new(payload);
    for _ in ["catalog", "database", "alias of the table", "table"] {
        fields.bytes()?;
    }
    fields.bytes().map(|name| String::from_utf8_lossy(name).into_owned())
}

/// Values of a row.
pub(crate) fn row(payload: &[u8], columns: usize) -> Result<Vec<Option<String>>, ProtocolError> {
    let mut fields = Fields::new(payload);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let row = (0..columns).map(|_| fields.nullable().map(|value| value.map(text))).collect();
    if fields.is_empty() { row } else { Err(ProtocolError::Truncated) }
}

/// Whether the payload is the end of a list of packets.
pub(crate) fn is_eof(payload: &[u8]) -> bool {
    payload.first() == Some(&0xfe) && payload.len() < 9
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A greeting as a server sends it, without the packet header.
    pub(crate) fn greeting(version: &str, capabilities: u32) -> Vec<u8> {
        let [a, b, c, d] = capabilities.to_le_bytes();
        let mut bytes = vec![10];
        bytes.extend(version.as_bytes());
        bytes.extend([0, 7, 0, 0, 0]);
        bytes.extend(b"abcdefgh\0");
        bytes.extend([a, b, 45, 2, 0, c, d, 21]);
        bytes.extend([0; 10]);
        bytes.extend(b"ijklmnopqrst\0mysql_native_password\0");
        bytes
    }

    #[test]
    fn greeting_of_a_server() {
        // Sent by 10.11.19.
        let parsed = Greeting::parse(&greeting("5.5.5-10.11.19-MariaDB-log", 0x81ff_f7fe)).unwrap();
        assert_eq!(parsed.version, "5.5.5-10.11.19-MariaDB-log");
        assert_eq!(parsed.thread_id, 7);
        assert_eq!(parsed.capabilities, 0x81ff_f7fe);
        assert_eq!(parsed.scramble, b"abcdefghijklmnopqrst");
        assert_eq!(parsed.plugin, "mysql_native_password");
    }

    #[test]
    fn greeting_cut_anywhere_is_an_error_or_lacks_the_plugin() {
        let whole = greeting("10.11.19-MariaDB", u32::MAX);
        let plugin_at = whole.len() - "mysql_native_password\0".len();
        for len in 0..plugin_at {
            assert!(Greeting::parse(&whole[..len]).is_err(), "{len}");
        }
        assert_eq!(Greeting::parse(&whole[..plugin_at]).unwrap().plugin, "");
        assert_eq!(Greeting::parse(&[9]), Err(ProtocolError::Version(9)));
    }

    #[test]
    fn packets_round_trip_at_the_boundaries() {
        for len in [0, 1, FULL_PACKET_LEN - 1, FULL_PACKET_LEN, FULL_PACKET_LEN + 1] {
            let payload = vec![7; len];
            let (mut wire, mut sequence) = (Vec::new(), 254);
            write_packet(&mut wire, &mut sequence, &payload).unwrap();
            let mut read_sequence = 254;
            let read = read_packet(&mut wire.as_slice(), &mut read_sequence).unwrap();
            assert!(read == payload, "{len}");
            assert_eq!(read_sequence, sequence);
        }
    }

    #[test]
    fn wrong_number_and_cut_packet_are_errors() {
        let error = read_packet(&mut &[1, 0, 0, 5, 0][..], &mut 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = read_packet(&mut &[3, 0, 0, 4, 0][..], &mut 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn endless_packet_is_refused() {
        let packet = |sequence| {
            let mut packet = vec![0xff, 0xff, 0xff, sequence];
            packet.resize(4 + FULL_PACKET_LEN, 0);
            packet
        };
        let bytes: Vec<u8> = (0..5).flat_map(packet).collect();
        let error = read_packet(&mut bytes.as_slice(), &mut 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn length_encoded_bytes_round_trip() {
        for len in [0, 250, 251, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000] {
            let mut packed = Vec::new();
            put_bytes(&mut packed, &vec![1; len]);
            let mut fields = Fields::new(&packed);
            assert_eq!(fields.bytes().unwrap().len(), len);
            assert!(fields.is_empty());
        }
        assert_eq!(Fields::new(&[0xff]).integer(), Err(ProtocolError::Unexpected(0xff)));
        assert_eq!(Fields::new(&[2, 0]).bytes(), Err(ProtocolError::Truncated));
        let huge = [0xfe, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(Fields::new(&huge).bytes(), Err(ProtocolError::Truncated));
    }

    #[test]
    fn rows_and_errors() {
        assert_eq!(
            row(b"\x02ab\xfb\x00", 3),
            Ok(vec![Some("ab".into()), None, Some(String::new())])
        );
        assert_eq!(row(b"\x02ab", 2), Err(ProtocolError::Truncated));
        assert_eq!(row(b"\x01a\x01b", 1), Err(ProtocolError::Truncated));
        let message = ServerMessage::parse(b"\xff\x15\x04#28000Access denied").unwrap();
        assert_eq!(message, ServerMessage { code: 1045, text: "Access denied".into() });
        let message = ServerMessage::parse(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!(message, ServerMessage { code: 1040, text: "Too many connections".into() });
        assert!(ServerMessage::parse(b"\xff\x10").is_err());
        assert_eq!(column_name(b"\x03def\x00\x01t\x00\x04Name\x00").unwrap(), "Name");
    }
}
