//! HTTP/3 by the byte: what an honest stack would never send.

use std::collections::VecDeque;

pub(crate) const DATA: u64 = 0x00;
pub(crate) const HEADERS: u64 = 0x01;
pub(crate) const CANCEL_PUSH: u64 = 0x03;
pub(crate) const SETTINGS: u64 = 0x04;
pub(crate) const PUSH_PROMISE: u64 = 0x05;
pub(crate) const GOAWAY: u64 = 0x07;
pub(crate) const MAX_PUSH_ID: u64 = 0x0d;
/// The types of frames that only HTTP/2 has (RFC 9114 §7.2.8).
pub(crate) const OF_HTTP2: [u64; 4] = [0x02, 0x06, 0x08, 0x09];
/// A type that is reserved for nothing (RFC 9114 §7.2.8).
pub(crate) const GREASE: u64 = 0x21 + 0x1f * 5;

/// Types of unidirectional streams.
pub(crate) const CONTROL: u8 = 0x00;
pub(crate) const PUSH: u8 = 0x01;
pub(crate) const ENCODER: u8 = 0x02;
pub(crate) const DECODER: u8 = 0x03;

/// Fields of QPACK's static table (RFC 9204, appendix A).
pub(crate) const METHOD_CONNECT: &[u8] = &[0xcf];
pub(crate) const METHOD_GET: &[u8] = &[0xd1];
pub(crate) const METHOD_POST: &[u8] = &[0xd4];
pub(crate) const SCHEME_HTTPS: &[u8] = &[0xd7];
pub(crate) const PATH_ROOT: &[u8] = &[0xc1];
pub(crate) const STATUS_103: &[u8] = &[0xd8];
pub(crate) const STATUS_200: &[u8] = &[0xd9];

/// A variable-length integer (RFC 9000 §16).
pub(crate) fn varint(number: u64) -> Vec<u8> {
    match number {
        0..0x40 => vec![number as u8],
        0x40..0x4000 => (number as u16 | 0x4000).to_be_bytes().to_vec(),
        0x4000..0x4000_0000 => (number as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (number | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

/// A frame's header.
pub(crate) fn header(kind: u64, length: u64) -> Vec<u8> {
    [varint(kind), varint(length)].concat()
}

pub(crate) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&header(kind, payload.len() as u64), payload].concat()
}

/// A SETTINGS frame.
pub(crate) fn settings(settings: &[(u64, u64)]) -> Vec<u8> {
    let payload: Vec<u8> = settings.iter().flat_map(|(id, value)| [varint(*id), varint(*value)].concat()).collect();
    frame(SETTINGS, &payload)
}

/// A HEADERS frame with these field lines, and a prefix that needs no dynamic table.
pub(crate) fn headers(lines: &[&[u8]]) -> Vec<u8> {
    frame(HEADERS, &[&[0, 0], &lines.concat()[..]].concat())
}

/// A field line with a literal name (RFC 9204 §4.5.6).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut line = number(0x20, 3, name.len());
    line.extend_from_slice(name.as_bytes());
    line.extend(number(0, 7, value.len()));
    line.extend_from_slice(value.as_bytes());
    line
}

/// An integer with a prefix of so many bits (RFC 9204 §4.1.1).
fn number(flags: u8, bits: u8, number: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![flags | number as u8];
    }
    let mut bytes = vec![flags | most as u8];
    let mut rest = number - most;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The fields of a GET of `path`, without the HEADERS frame around them.
pub(crate) fn get_fields(path: &str) -> Vec<u8> {
    [METHOD_GET, SCHEME_HTTPS, &field(":authority", "localhost"), &field(":path", path)].concat()
}

/// A whole GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    headers(&[&get_fields(path)])
}

/// The HEADERS frame of a POST whose body the server returns.
pub(crate) fn post() -> Vec<u8> {
    headers(&[&post_fields()])
}

pub(crate) fn post_fields() -> Vec<u8> {
    [METHOD_POST, SCHEME_HTTPS, &field(":authority", "localhost"), &field(":path", "/echo")].concat()
}

/// A response, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Of all bytes of a response stream.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut rest: VecDeque<u8> = bytes.iter().copied().collect();
        let mut response = None;
        while !rest.is_empty() {
            let (kind, length) = (take_varint(&mut rest)?, take_varint(&mut rest)? as usize);
            if length > rest.len() {
                return None;
            }
            let payload: Vec<u8> = rest.drain(..length).collect();
            match (kind, &mut response) {
                (HEADERS, None) => response = Some(Self { status: status(&payload)?, body: Vec::new() }),
                (DATA, Some(response)) => response.body.extend(payload),
                _ => {}
            }
        }
        response
    }
}

fn take_varint(bytes: &mut VecDeque<u8>) -> Option<u64> {
    let first = bytes.pop_front()?;
    (1..1 << (first >> 6))
        .try_fold(u64::from(first & 0x3f), |number, _| Some(number << 8 | u64::from(bytes.pop_front()?)))
}

/// The status, in the forms that the servers here use.
fn status(section: &[u8]) -> Option<u16> {
    match section.get(2..)? {
        [0xd9, ..] => Some(200),
        [0xdb, ..] => Some(404),
        [0xff, 4, ..] => Some(400),
        [0x5f | 0x7f, 9, 3, digits @ ..] => std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok(),
        [0x5f | 0x7f, 9, length, digits @ ..] if length & 0x80 != 0 => huffman_digits(digits),
        _ => None,
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): five bits for 0 to 2, and six for the
/// others.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut number = |count| (0..count).try_fold(0u16, |number, _| Some(number << 1 | u16::from(bits.next()?)));
    (0..3).try_fold(0, |status, _| {
        let digit = match number(5)? {
            digit @ 0..=2 => digit,
            half => (half << 1 | number(1)?).checked_sub(0b011001)? + 3,
        };
        Some(status * 10 + digit)
    })
}
