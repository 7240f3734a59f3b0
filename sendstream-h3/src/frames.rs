//! The frames of a stream, checked on their way to h3.
//!
//! h3 0.0.8 keeps each frame but DATA until its last byte is there, however long the frame is. It
//! does not look at some rules of RFC 9114 either. So the bytes of a request stream and of the
//! control stream pass through [`Frames`] first. It has no I/O: bytes go in as they arrive, pieces
//! for h3 come out, or a [`Violation`].
//!
//! h3 gets one thing at a time: the header of a DATA frame, a piece of its payload, or another frame
//! whole. h3 reads from the transport once for each step that it takes. With more than one step's
//! worth it would keep the rest, and a peer that sends DATA frames of one byte would fill the memory
//! although flow control is on.
//!
//! h3 does not get
//!
//! - frames of unknown types (RFC 9114 §9), which it would keep whole before it discards them;
//! - empty DATA frames, which it takes for the end of the body;
//! - interim responses (RFC 9114 §4.1), of which it takes the first for the final one.
//!
//! A frame that h3 keeps whole is collected here, in one piece of memory that grows with the bytes
//! that arrived and never exceeds the limit. So half a header section costs at most the limit, and
//! one that arrives byte by byte costs no more than that.

use std::{error::Error, fmt, mem};

use bytes::{Buf, Bytes};
use h3::error::Code;
use sendstream::Side;

use crate::fields::{self, Section};

/// How the peer broke a rule of HTTP/3, where this crate finds it and h3 does not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A connection error (RFC 9114 §8). The connection was closed with this code.
    #[non_exhaustive]
    Connection {
        /// The code that the peer was told.
        code: Code,
        /// The rule that was broken.
        reason: &'static str,
    },
    /// A stream error (RFC 9114 §8). The request was ended with this code.
    #[non_exhaustive]
    Request {
        /// The code that the peer was told.
        code: Code,
        /// The rule that was broken.
        reason: &'static str,
    },
    /// The first field section of a request or a response is longer than this side takes (RFC 9114
    /// §4.2.2). A server answered with status 431, and a client cancelled the request.
    #[non_exhaustive]
    HeadersTooLong {
        /// The length that the peer announced, in bytes.
        announced: u64,
        /// The longest that is taken, in bytes.
        limit: usize,
        /// Who read it.
        side: Side,
    },
}

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Frames {
    rules: Rules,
    place: Place,
    /// The beginning of a frame's header, until the rest of it arrives.
    header: Vec<u8>,
}

/// What may come next, and how long it may be.
#[derive(Debug)]
enum Rules {
    Request { side: Side, limit: usize, next: Next, interim_responses: usize },
    Control { side: Side, got_settings: bool, max_push_id: u64 },
}

/// The part of a message that comes next on a request stream (RFC 9114 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Head,
    BodyOrTrailers,
    Nothing,
}

/// Where in a frame the stream is.
#[derive(Debug)]
enum Place {
    Header,
    /// In a DATA frame, with so many bytes to come.
    Data(u64),
    /// In a frame that h3 gets whole.
    Whole(Whole),
    /// In a frame that h3 does not get, with so many bytes to come.
    Skipped(u64),
    /// In the bytes of a WebTransport stream, which has no frames.
    Unframed,
}

/// A frame that is collected, with its header.
#[derive(Debug)]
struct Whole {
    kind: u64,
    header_length: usize,
    length: usize,
    bytes: Vec<u8>,
}

/// What becomes of a frame.
enum Fate {
    Data,
    Whole,
    Skipped,
    Unframed,
}

impl Frames {
    /// Those of a request stream. A HEADERS frame may have up to `limit` bytes.
    pub(crate) fn of_request(side: Side, limit: usize) -> Self {
        Self::new(Rules::Request { side, limit, next: Next::Head, interim_responses: 0 })
    }

    /// Those of the peer's control stream, after the stream's type.
    pub(crate) fn of_control(side: Side) -> Self {
        Self::new(Rules::Control { side, got_settings: false, max_push_id: 0 })
    }

    fn new(rules: Rules) -> Self {
        Self { rules, place: Place::Header, header: Vec::new() }
    }

    /// Takes the next piece for h3 from what was received. `None` means that all of `received` was
    /// used and that more is needed.
    pub(crate) fn next(&mut self, received: &mut Bytes) -> Result<Option<Bytes>, Violation> {
        while !received.is_empty() {
            let piece = match &mut self.place {
                Place::Header => self.begin(received)?,
                Place::Data(rest) => {
                    let piece = received.split_to(fitting(*rest, received.len()));
                    *rest -= piece.len() as u64;
                    if *rest == 0 {
                        self.place = Place::Header;
                    }
                    Some(piece)
                }
                Place::Whole(frame) => {
                    frame.collect(received);
                    self.complete()?
                }
                Place::Skipped(rest) => {
                    let skipped = fitting(*rest, received.len());
                    received.advance(skipped);
                    *rest -= skipped as u64;
                    if *rest == 0 {
                        self.place = Place::Header;
                    }
                    None
                }
                Place::Unframed => Some(mem::take(received)),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    /// Says whether the stream may end here. h3 0.0.8 takes a DATA frame that was cut for a whole
    /// one if the stream's end arrives alone.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        match self.place {
            Place::Header if self.header.is_empty() => Ok(()),
            Place::Unframed => Ok(()),
            _ => Err(connection(Code::H3_FRAME_ERROR, "the stream ended within a frame")),
        }
    }

    /// Reads a frame's header, and the frame as well where it is there.
    fn begin(&mut self, received: &mut Bytes) -> Result<Option<Bytes>, Violation> {
        if self.header.is_empty() {
            if let Some(header) = self.parse(received) {
                return self.admit(&header, received);
            }
            self.header.extend_from_slice(received);
            received.clear();
            return Ok(None);
        }
        // Seldom: a header in several pieces. It becomes one piece of its own, up to its last byte.
        while !received.is_empty() {
            self.header.push(received.get_u8());
            if let Some(header) = self.parse(&self.header) {
                let mut bytes = Bytes::from(mem::take(&mut self.header));
                return self.admit(&header, &mut bytes);
            }
        }
        Ok(None)
    }

    fn parse(&self, bytes: &[u8]) -> Option<Header> {
        let mut rest = bytes;
        let kind = varint(&mut rest)?;
        let length = if self.is_unframed(kind) { 0 } else { varint(&mut rest)? };
        Some(Header { kind, length, size: bytes.len() - rest.len() })
    }

    /// Whether the type begins a WebTransport stream, which has no length. Only h3 knows whether
    /// that was negotiated.
    fn is_unframed(&self, kind: u64) -> bool {
        kind == WEBTRANSPORT_STREAM && matches!(self.rules, Rules::Request { side: Side::Server, next: Next::Head, .. })
    }

    /// Enters a frame. `bytes` begins with its header.
    fn admit(&mut self, header: &Header, bytes: &mut Bytes) -> Result<Option<Bytes>, Violation> {
        let fate = if self.is_unframed(header.kind) { Fate::Unframed } else { self.rules.admit(header)? };
        match fate {
            Fate::Data => {
                self.place = Place::Data(header.length);
                Ok(Some(bytes.split_to(header.size)))
            }
            Fate::Skipped => {
                bytes.advance(header.size);
                if header.length > 0 {
                    self.place = Place::Skipped(header.length);
                }
                Ok(None)
            }
            Fate::Unframed => {
                self.place = Place::Unframed;
                Ok(Some(mem::take(bytes)))
            }
            Fate::Whole => {
                // The rules keep it below a limit, so it is no more than memory can hold.
                let length = header.size + header.length as usize;
                if bytes.len() >= length {
                    let frame = bytes.split_to(length);
                    let is_for_h3 = self.rules.check(header.kind, &frame[header.size..])?;
                    return Ok(is_for_h3.then_some(frame));
                }
                let mut frame = Whole { kind: header.kind, header_length: header.size, length, bytes: Vec::new() };
                frame.collect(bytes);
                self.place = Place::Whole(frame);
                Ok(None)
            }
        }
    }

    /// Leaves a frame that is collected once all of it is there.
    fn complete(&mut self) -> Result<Option<Bytes>, Violation> {
        match mem::replace(&mut self.place, Place::Header) {
            Place::Whole(frame) if frame.bytes.len() == frame.length => {
                let is_for_h3 = self.rules.check(frame.kind, &frame.bytes[frame.header_length..])?;
                Ok(is_for_h3.then(|| Bytes::from(frame.bytes)))
            }
            place => {
                self.place = place;
                Ok(None)
            }
        }
    }
}

impl Whole {
    /// Takes what belongs to the frame. The memory doubles as the frame grows, up to its length.
    fn collect(&mut self, received: &mut Bytes) {
        let taken = received.split_to(received.len().min(self.length - self.bytes.len()));
        let needed = self.bytes.len() + taken.len();
        if needed > self.bytes.capacity() {
            let capacity = needed.max(2 * self.bytes.capacity()).min(self.length);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(&taken);
    }
}

impl Rules {
    /// Whether such a frame may come now, and what becomes of it.
    fn admit(&mut self, header: &Header) -> Result<Fate, Violation> {
        match self {
            Self::Request { side, limit, next, .. } => admit_on_request(*side, *limit, *next, header),
            Self::Control { side, got_settings, .. } => admit_on_control(*side, got_settings, header),
        }
    }

    /// Checks a whole frame, and says whether h3 gets it.
    fn check(&mut self, kind: u64, payload: &[u8]) -> Result<bool, Violation> {
        match self {
            Self::Request { side, next, interim_responses, .. } => {
                let lines = fields::lines(payload)?;
                if *side == Side::Client && *next == Next::Head && is_interim(lines) {
                    *interim_responses += 1;
                    if *interim_responses > MAX_INTERIM_RESPONSES {
                        return Err(request(Code::H3_EXCESSIVE_LOAD, "interim responses without an end"));
                    }
                    return Ok(false);
                }
                let section = match (*next, *side) {
                    (Next::Head, Side::Server) => Section::Request,
                    (Next::Head, Side::Client) => Section::Response,
                    _ => Section::Trailers,
                };
                fields::check(section, lines)?;
                *next = if *next == Next::Head { Next::BodyOrTrailers } else { Next::Nothing };
                Ok(true)
            }
            Self::Control { side, max_push_id, .. } => {
                check_control_frame(*side, max_push_id, kind, payload)?;
                Ok(true)
            }
        }
    }
}

fn admit_on_request(side: Side, limit: usize, next: Next, header: &Header) -> Result<Fate, Violation> {
    match header.kind {
        DATA if next == Next::BodyOrTrailers && header.length == 0 => Ok(Fate::Skipped),
        DATA if next == Next::BodyOrTrailers => Ok(Fate::Data),
        HEADERS if next != Next::Nothing => {
            if header.length <= limit as u64 {
                return Ok(Fate::Whole);
            }
            Err(if next == Next::Head {
                Violation::HeadersTooLong { announced: header.length, limit, side }
            } else {
                request(Code::H3_EXCESSIVE_LOAD, "trailers that are too long")
            })
        }
        DATA | HEADERS => Err(connection(Code::H3_FRAME_UNEXPECTED, "frames of a message in a wrong order")),
        // This client has allowed no push, so each push ID is larger than it allowed (§7.2.5).
        PUSH_PROMISE if side == Side::Client => Err(connection(Code::H3_ID_ERROR, "a push that was not allowed")),
        PUSH_PROMISE | CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID => {
            Err(connection(Code::H3_FRAME_UNEXPECTED, "a frame that a request stream must not have"))
        }
        _ => admit_other(header),
    }
}

fn admit_on_control(side: Side, got_settings: &mut bool, header: &Header) -> Result<Fate, Violation> {
    if !mem::replace(got_settings, true) {
        return match header.kind {
            SETTINGS if header.length <= MAX_SETTINGS_LENGTH => Ok(Fate::Whole),
            SETTINGS => Err(connection(Code::H3_EXCESSIVE_LOAD, "a SETTINGS frame that is too long")),
            _ => Err(connection(Code::H3_MISSING_SETTINGS, "another frame came before SETTINGS")),
        };
    }
    match header.kind {
        GOAWAY | CANCEL_PUSH => admit_single_number(header),
        MAX_PUSH_ID if side == Side::Server => admit_single_number(header),
        DATA | HEADERS | SETTINGS | PUSH_PROMISE | MAX_PUSH_ID => {
            Err(connection(Code::H3_FRAME_UNEXPECTED, "a frame that the control stream must not have"))
        }
        _ => admit_other(header),
    }
}

/// A frame that carries one variable-length integer, of one to eight bytes.
fn admit_single_number(header: &Header) -> Result<Fate, Violation> {
    if (1..=8).contains(&header.length) { Ok(Fate::Whole) } else { Err(wrong_length()) }
}

/// A frame of a type that RFC 9114 does not define.
fn admit_other(header: &Header) -> Result<Fate, Violation> {
    match header.kind {
        // HTTP/2's PRIORITY, PING, WINDOW_UPDATE and CONTINUATION (§7.2.8).
        0x02 | 0x06 | 0x08 | 0x09 => Err(connection(Code::H3_FRAME_UNEXPECTED, "a frame of HTTP/2")),
        _ => Ok(Fate::Skipped),
    }
}

fn check_control_frame(side: Side, max_push_id: &mut u64, kind: u64, mut payload: &[u8]) -> Result<(), Violation> {
    if kind == SETTINGS {
        return check_settings(payload);
    }
    let number = varint(&mut payload).filter(|_| payload.is_empty()).ok_or_else(wrong_length)?;
    match kind {
        // This server promises no push, and this client allows none (§7.2.3).
        CANCEL_PUSH if side == Side::Server => Err(connection(Code::H3_ID_ERROR, "a push that was not promised")),
        CANCEL_PUSH => Err(connection(Code::H3_ID_ERROR, "a push that was not allowed")),
        MAX_PUSH_ID if number < *max_push_id => Err(connection(Code::H3_ID_ERROR, "MAX_PUSH_ID went down")),
        MAX_PUSH_ID => {
            *max_push_id = number;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// h3 checks the rest: identifiers of HTTP/2, and such that occur twice.
fn check_settings(mut payload: &[u8]) -> Result<(), Violation> {
    while !payload.is_empty() {
        let identifier = varint(&mut payload).ok_or_else(wrong_length)?;
        let value = varint(&mut payload).ok_or_else(wrong_length)?;
        if matches!(identifier, ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM) && value > 1 {
            return Err(connection(Code::H3_SETTINGS_ERROR, "a setting that is neither 0 nor 1"));
        }
    }
    Ok(())
}

/// Whether a response's field lines have a status of 1xx. The status is the first field, as names
/// with a colon come first (RFC 9114 §4.3). Its name is in the static table (RFC 9204, appendix A):
/// encoders that spell it out are unknown, and their interim responses count as final.
fn is_interim(lines: &[u8]) -> bool {
    match lines {
        // A whole field of the static table: 24 is `:status: 103`, and 63 `:status: 100`.
        [0xd8, ..] | [0xff, 0, ..] => true,
        // The name is of the static table, where `:status` has the indices 24 to 28 and 63 to 71,
        // which are written as 15 and the difference. The value's first digit is a character, or
        // the five bits that Huffman's code has for it.
        [0x5f | 0x7f, 9..=13 | 48..=56, length, digit, ..] => {
            let is_huffman = length & 0x80 != 0;
            if is_huffman { digit >> 3 == 0b00001 } else { *digit == b'1' }
        }
        _ => false,
    }
}

/// A variable-length integer (RFC 9000 §16), taken from the front of `bytes` if all of it is there.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(number[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

/// The header of a frame.
struct Header {
    kind: u64,
    /// Of the payload.
    length: u64,
    /// Of the header itself.
    size: usize,
}

fn fitting(rest: u64, received: usize) -> usize {
    rest.min(received as u64) as usize
}

pub(crate) fn connection(code: Code, reason: &'static str) -> Violation {
    Violation::Connection { code, reason }
}

pub(crate) fn request(code: Code, reason: &'static str) -> Violation {
    Violation::Request { code, reason }
}

fn wrong_length() -> Violation {
    connection(Code::H3_FRAME_ERROR, "a frame's payload has another length than its fields")
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { code, reason } => write!(f, "connection error {code}: {reason}"),
            Self::Request { code, reason } => write!(f, "stream error {code}: {reason}"),
            Self::HeadersTooLong { announced, limit, .. } => {
                write!(f, "a field section of {announced} bytes, where {limit} are allowed")
            }
        }
    }
}

impl Error for Violation {}

const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
const SETTINGS: u64 = 0x04;
const PUSH_PROMISE: u64 = 0x05;
const GOAWAY: u64 = 0x07;
const MAX_PUSH_ID: u64 = 0x0d;
const WEBTRANSPORT_STREAM: u64 = 0x41;

const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;

/// Browsers send less than 100 bytes.
const MAX_SETTINGS_LENGTH: u64 = 4096;

/// How many interim responses a client skips before the final one.
const MAX_INTERIM_RESPONSES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put(&mut frame, kind);
        put(&mut frame, payload.len() as u64);
        frame.extend_from_slice(payload);
        frame
    }

    /// In four bytes, so that headers have several.
    fn put(bytes: &mut Vec<u8>, number: u64) {
        bytes.extend_from_slice(&(0x8000_0000 | number as u32).to_be_bytes());
    }

    fn request_frames(side: Side) -> Frames {
        Frames::of_request(side, LIMIT)
    }

    /// Passes the pieces, and then the end.
    fn pass<'a>(
        frames: &mut Frames,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Bytes>, Result<(), Violation>) {
        let mut passed = Vec::new();
        for piece in pieces {
            let mut received = Bytes::copy_from_slice(piece);
            loop {
                match frames.next(&mut received) {
                    Ok(Some(piece)) => passed.push(piece),
                    Ok(None) => break assert!(received.is_empty()),
                    Err(violation) => return (passed, Err(violation)),
                }
            }
        }
        let end = frames.end();
        (passed, end)
    }

    fn code(outcome: &Result<(), Violation>) -> Option<Code> {
        match outcome {
            Err(Violation::Connection { code, .. } | Violation::Request { code, .. }) => Some(*code),
            _ => None,
        }
    }

    const HEAD: &[u8] = &[0, 0, 0xd1];

    #[test]
    fn h3_gets_one_thing_at_a_time() {
        let bytes = [frame(HEADERS, HEAD), frame(DATA, b"one"), frame(DATA, b"two"), frame(HEADERS, &[0, 0])].concat();
        let (passed, end) = pass(&mut request_frames(Side::Server), [&bytes[..]]);
        assert_eq!(end, Ok(()));
        let lengths: Vec<_> = passed.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [8 + 3, 8, 3, 8, 3, 8 + 2]);
        assert_eq!(passed.concat(), bytes);
    }

    #[test]
    fn h3_does_not_get_frames_without_a_meaning() {
        let bytes = [
            frame(0x21, b"grease"),
            frame(HEADERS, HEAD),
            frame(DATA, b""),
            frame(0x40, &[0; 300]),
            frame(DATA, b"body"),
            frame(0x1f * 7 + 0x21, b""),
        ]
        .concat();
        let expected = [frame(HEADERS, HEAD), frame(DATA, b"body")].concat();
        for size in 1..bytes.len() {
            let (passed, end) = pass(&mut request_frames(Side::Server), bytes.chunks(size));
            assert_eq!((passed.concat(), end), (expected.clone(), Ok(())));
        }
    }

    #[test]
    fn a_field_section_that_is_too_long_is_found_by_its_announcement() {
        let mut bytes = Vec::new();
        put(&mut bytes, HEADERS);
        put(&mut bytes, LIMIT as u64 + 1);
        let (passed, end) = pass(&mut request_frames(Side::Server), [&bytes[..]]);
        assert!(passed.is_empty());
        assert_eq!(
            end,
            Err(Violation::HeadersTooLong { announced: LIMIT as u64 + 1, limit: LIMIT, side: Side::Server })
        );
        let trailers = [frame(HEADERS, HEAD), bytes].concat();
        let (_, end) = pass(&mut request_frames(Side::Server), [&trailers[..]]);
        assert_eq!(code(&end), Some(Code::H3_EXCESSIVE_LOAD));
    }

    #[test]
    fn a_field_section_byte_by_byte_takes_no_more_memory_than_its_length() {
        let mut frames = request_frames(Side::Server);
        let bytes = frame(HEADERS, &[&[0, 0], &[0xc2; LIMIT - 2][..]].concat());
        for (count, byte) in bytes.iter().enumerate() {
            let piece = frames.next(&mut Bytes::copy_from_slice(&[*byte])).unwrap();
            assert_eq!(piece.is_some(), count + 1 == bytes.len());
            if let Place::Whole(frame) = &frames.place {
                assert!(frame.bytes.capacity() <= bytes.len());
            }
        }
    }

    #[test]
    fn an_announcement_alone_takes_no_memory() {
        let mut frames = Frames::of_request(Side::Server, 1 << 30);
        let bytes = [0x01, 0x80 | 0x3f, 0xff, 0xff, 0xff];
        assert_eq!(frames.next(&mut Bytes::copy_from_slice(&bytes)), Ok(None));
        let Place::Whole(frame) = &frames.place else { panic!("{frames:?}") };
        assert!(frame.bytes.capacity() < 64);
    }

    #[test]
    fn interim_responses_are_skipped_and_counted() {
        let interim: [&[u8]; 7] = [
            &[0, 0, 0xd8],
            &[0, 0x7f, 0, 0xd8],
            &[0, 0, 0xff, 0],
            // `100`, plain; then `102` in Huffman's code: 00001 00000 00010, and a padding of ones.
            &[0, 0, 0x5f, 9, 3, b'1', b'0', b'0'],
            &[0, 0, 0x5f, 9, 0x82, 0b0000_1000, 0b0000_0101],
            &[0, 0, 0x7f, 48, 3, b'1', b'9', b'9'],
            &[0, 0, 0x5f, 56, 3, b'1', b'0', b'2'],
        ];
        for section in interim {
            let response = [frame(HEADERS, section), frame(HEADERS, &[0, 0, 0xd9]), frame(DATA, b"body")].concat();
            let (passed, end) = pass(&mut request_frames(Side::Client), [&response[..]]);
            assert_eq!((passed.concat().len(), end), (8 + 3 + 8 + 4, Ok(())), "{section:?}");
            let endless: Vec<_> = (0..=MAX_INTERIM_RESPONSES).flat_map(|_| frame(HEADERS, section)).collect();
            let (passed, end) = pass(&mut request_frames(Side::Client), [&endless[..]]);
            assert!(passed.is_empty());
            assert_eq!(code(&end), Some(Code::H3_EXCESSIVE_LOAD));
        }
        let finals: [&[u8]; 4] =
            [&[0, 0, 0xd9], &[0, 0, 0xff, 1], &[0, 0, 0x5f, 9, 3, b'2'], &[0, 0, 0x5f, 9, 0x82, 0b0001_0000]];
        for section in finals {
            assert!(!is_interim(section), "{section:?}");
        }
    }

    #[test]
    fn each_broken_rule_has_its_code() {
        use Code as C;
        use Side::{Client, Server};
        let head = frame(HEADERS, HEAD);
        let response = frame(HEADERS, &[0, 0, 0xd9]);
        let trailers = frame(HEADERS, &[0, 0]);
        let settings = frame(SETTINGS, &[]);
        let after_head = |bytes: Vec<u8>| [head.clone(), bytes].concat();
        let after_settings = |bytes: Vec<u8>| [settings.clone(), bytes].concat();
        let on_request = |side| move || Frames::of_request(side, LIMIT);
        let on_control = |side| move || Frames::of_control(side);
        type Case = (Box<dyn Fn() -> Frames>, Vec<u8>, Code);
        let cases: Vec<Case> = vec![
            (Box::new(on_request(Server)), frame(DATA, b"body"), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), frame(DATA, b""), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Client)), frame(DATA, b"body"), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), [&head[..], &trailers, &frame(DATA, b"x")].concat(), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), [&head[..], &trailers, &trailers].concat(), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), after_head(frame(PUSH_PROMISE, &[0])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Client)), [response, frame(PUSH_PROMISE, &[0])].concat(), C::H3_ID_ERROR),
            (Box::new(on_request(Server)), head.repeat(2), C::H3_MESSAGE_ERROR),
            (Box::new(on_request(Server)), after_head(frame(SETTINGS, &[9])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), after_head(frame(GOAWAY, &[])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), after_head(frame(CANCEL_PUSH, &[])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), after_head(frame(MAX_PUSH_ID, &[])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), after_head(frame(0x09, &[])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), frame(0x02, &[]), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_request(Server)), frame(HEADERS, &[]), C::QPACK_DECOMPRESSION_FAILED),
            (Box::new(on_request(Server)), frame(HEADERS, &[1, 0]), C::QPACK_DECOMPRESSION_FAILED),
            (Box::new(on_request(Server)), frame(HEADERS, &[0, 0x80]), C::QPACK_DECOMPRESSION_FAILED),
            (Box::new(on_request(Server)), head[..head.len() - 1].to_vec(), C::H3_FRAME_ERROR),
            (Box::new(on_request(Server)), head[..7].to_vec(), C::H3_FRAME_ERROR),
            (Box::new(on_request(Server)), after_head(frame(DATA, b"body")[..11].to_vec()), C::H3_FRAME_ERROR),
            (Box::new(on_request(Server)), after_head(frame(0x21, b"more")[..9].to_vec()), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), frame(0x21, &[]), C::H3_MISSING_SETTINGS),
            (Box::new(on_control(Server)), frame(GOAWAY, &[0]), C::H3_MISSING_SETTINGS),
            (Box::new(on_control(Client)), frame(DATA, &[0]), C::H3_MISSING_SETTINGS),
            (Box::new(on_control(Server)), settings.repeat(2), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Server)), after_settings(frame(DATA, &[])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Server)), after_settings(frame(HEADERS, HEAD)), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Server)), after_settings(frame(PUSH_PROMISE, HEAD)), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Client)), after_settings(frame(PUSH_PROMISE, HEAD)), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Client)), after_settings(frame(MAX_PUSH_ID, &[1])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Server)), after_settings(frame(0x06, &[])), C::H3_FRAME_UNEXPECTED),
            (Box::new(on_control(Server)), after_settings(frame(GOAWAY, &[])), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), after_settings(frame(GOAWAY, &[0x40])), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), after_settings(frame(GOAWAY, &[0, 0])), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), after_settings(frame(MAX_PUSH_ID, &[0; 9])), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), after_settings(frame(CANCEL_PUSH, &[0])), C::H3_ID_ERROR),
            (Box::new(on_control(Client)), after_settings(frame(CANCEL_PUSH, &[0])), C::H3_ID_ERROR),
            (
                Box::new(on_control(Server)),
                after_settings([frame(MAX_PUSH_ID, &[9]), frame(MAX_PUSH_ID, &[8])].concat()),
                C::H3_ID_ERROR,
            ),
            (Box::new(on_control(Server)), frame(SETTINGS, &[0x21]), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), frame(SETTINGS, &[0x21, 0x40]), C::H3_FRAME_ERROR),
            (Box::new(on_control(Server)), frame(SETTINGS, &[0x33, 2]), C::H3_SETTINGS_ERROR),
            (Box::new(on_control(Server)), frame(SETTINGS, &[0x08, 2]), C::H3_SETTINGS_ERROR),
            (Box::new(on_control(Server)), frame(SETTINGS, &[0; 4097]), C::H3_EXCESSIVE_LOAD),
            (Box::new(on_control(Server)), settings[..6].to_vec(), C::H3_FRAME_ERROR),
        ];
        for (number, (frames, bytes, expected)) in cases.iter().enumerate() {
            let (_, end) = pass(&mut frames(), [&bytes[..]]);
            assert_eq!(code(&end), Some(*expected), "case {number}: {end:?}");
            let (_, end) = pass(&mut frames(), bytes.chunks(1));
            assert_eq!(code(&end), Some(*expected), "case {number}, byte by byte: {end:?}");
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        let control = [
            frame(SETTINGS, &[0x06, 0x3f, 0x33, 1, 0x08, 0, 0x21, 0x40, 0xff]),
            frame(0x21, &[0; 5000]),
            frame(MAX_PUSH_ID, &[8]),
            frame(MAX_PUSH_ID, &[8]),
            frame(GOAWAY, &[0x40, 0x04]),
        ]
        .concat();
        let (passed, end) = pass(&mut Frames::of_control(Side::Server), [&control[..]]);
        assert_eq!((passed.concat().len(), end), (control.len() - 5008, Ok(())));
        // A type may be longer than it need be, as QUIC's own types may not.
        let mut long = vec![0x40, 0x01, 0x40, 0x03];
        long.extend_from_slice(HEAD);
        let (passed, end) = pass(&mut request_frames(Side::Server), [&long[..]]);
        assert_eq!((passed.concat(), end), (long, Ok(())));
        let stream = [0x40, 0x41, 0, 1, 2, 3];
        for size in 1..stream.len() {
            let (passed, end) = pass(&mut request_frames(Side::Server), stream.chunks(size));
            assert_eq!((passed.concat(), end), (stream.to_vec(), Ok(())));
        }
    }

    fn any_frames() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![
            4 => Just(DATA), 2 => Just(HEADERS), 1 => Just(SETTINGS), 1 => Just(GOAWAY), 1 => Just(0x21u64), 1 => 0u64..80,
        ];
        let payload = prop_oneof![Just(vec![0, 0, 0xd9]), prop::collection::vec(any::<u8>(), 0..100)];
        let frame = (kind, payload).prop_map(|(kind, payload)| frame(kind, &payload));
        let sane = prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat());
        (any::<bool>(), sane, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(first, sane, noise)| {
            let start = if first { frame_of_head() } else { Vec::new() };
            [start, sane, noise].concat()
        })
    }

    fn frame_of_head() -> Vec<u8> {
        frame(HEADERS, HEAD)
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_changes_nothing(
            bytes in any_frames(),
            cuts in prop::collection::vec(1usize..40, 1..20),
            client in any::<bool>(),
            control in any::<bool>(),
        ) {
            let side = if client { Side::Client } else { Side::Server };
            let new = || if control { Frames::of_control(side) } else { Frames::of_request(side, LIMIT) };
            let (at_once, end) = pass(&mut new(), [&bytes[..]]);
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for size in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, others) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = others;
            }
            let (cut, cut_end) = pass(&mut new(), pieces);
            prop_assert_eq!(at_once.concat(), cut.concat());
            prop_assert_eq!(end, cut_end);
        }
    }
}
