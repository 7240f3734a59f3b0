//! [`Frame`]: what is in a packet, as far as a qlog tells of it. The peer wrote what is received, and
//! nobody has checked it before.

use serde_json::{Map, Value, json};

/// A frame of a packet, without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The first ranges of packet numbers that it acknowledges, the highest first.
    Ack(Box<[(u64, u64)]>),
    Stream {
        id: u64,
        offset: u64,
        length: u64,
        fin: bool,
    },
    /// Any other, with the numbers that its layout names, in that order.
    Other(&'static Layout, [u64; MOST_NUMBERS]),
    /// One of a type that has no layout here. All behind it is unknown as well.
    Unknown {
        kind: u64,
    },
}

/// How the frames of a type are called and written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    kind: u64,
    name: &'static str,
    fields: &'static [Field],
}

#[derive(Debug, PartialEq, Eq)]
enum Field {
    /// A number, and what a qlog calls it.
    Number(&'static str),
    /// The number of the bytes that follow it. They are not told.
    Counted(&'static str),
    /// All that is left of the packet. Its length is told.
    Rest(&'static str),
    /// The zeros that follow the type, which is one as well. Their number is told.
    Zeros(&'static str),
    /// So many bytes, which are not told.
    Bytes(u64),
    /// Nothing in the packet. The type says it.
    Says(&'static str, &'static str),
}

/// The frames of a packet in their order, [`MOST`] at most, up to one that is not whole. Of several ACK
/// frames only the first is there, without ranges that are not all below `end`: those acknowledge what
/// was never sent.
pub(crate) fn read(mut packet: &[u8], end: u64) -> Box<[Frame]> {
    let mut frames = Vec::new();
    let mut has_ack = false;
    while frames.len() < MOST {
        let Some(frame) = read_one(&mut packet, end) else { break };
        if let Frame::Ack(ranges) = &frame {
            if has_ack || ranges.is_empty() {
                continue;
            }
            has_ack = true;
        }
        frames.push(frame);
    }
    frames.into()
}

/// `None` at the end, or if the frame is not whole.
fn read_one(bytes: &mut &[u8], end: u64) -> Option<Frame> {
    const ACK: u64 = 0x02;
    const ACK_ECN: u64 = 0x03;
    match number(bytes)? {
        ACK => Some(Frame::Ack(ranges(bytes, end)?)),
        ACK_ECN => {
            let ranges = ranges(bytes, end)?;
            for _count in ["ECT(0)", "ECT(1)", "ECN-CE"] {
                number(bytes)?;
            }
            Some(Frame::Ack(ranges))
        }
        kind @ 0x08..=0x0f => stream(kind, bytes),
        kind => match LAYOUTS.iter().find(|layout| layout.kind == kind) {
            Some(layout) => layout.read(bytes),
            None => {
                *bytes = &[];
                Some(Frame::Unknown { kind })
            }
        },
    }
}

/// The ranges of an ACK frame (RFC 9000 §19.3): the first [`MOST_RANGES`] of those below `end`.
fn ranges(bytes: &mut &[u8], end: u64) -> Option<Box<[(u64, u64)]>> {
    let mut ranges = Vec::new();
    let mut high = number(bytes)?;
    let _delay = number(bytes)?;
    let mut further = number(bytes)?;
    loop {
        let low = high.checked_sub(number(bytes)?)?;
        if high < end && ranges.len() < MOST_RANGES {
            ranges.push((low, high));
        }
        if further == 0 {
            return Some(ranges.into());
        }
        further -= 1;
        high = low.checked_sub(number(bytes)?)?.checked_sub(2)?;
    }
}

/// The fields of RFC 9000 §19.8. Bits of the type say which are there.
fn stream(kind: u64, bytes: &mut &[u8]) -> Option<Frame> {
    const FIN: u64 = 0x01;
    const LEN: u64 = 0x02;
    const OFF: u64 = 0x04;
    let id = number(bytes)?;
    let offset = if kind & OFF != 0 { number(bytes)? } else { 0 };
    let length = if kind & LEN != 0 { number(bytes)? } else { bytes.len() as u64 };
    skip(bytes, length)?;
    Some(Frame::Stream { id, offset, length, fin: kind & FIN != 0 })
}

impl Layout {
    fn read(&'static self, bytes: &mut &[u8]) -> Option<Frame> {
        let mut numbers = [0; MOST_NUMBERS];
        let mut places = numbers.iter_mut();
        for field in self.fields {
            let number = match *field {
                Field::Number(_) => number(bytes)?,
                Field::Counted(_) => {
                    let count = number(bytes)?;
                    skip(bytes, count)?;
                    count
                }
                Field::Rest(_) => {
                    let rest = bytes.len() as u64;
                    skip(bytes, rest)?;
                    rest
                }
                Field::Zeros(_) => {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count() as u64;
                    skip(bytes, zeros)?;
                    1 + zeros
                }
                Field::Bytes(count) => {
                    skip(bytes, count)?;
                    continue;
                }
                Field::Says(..) => continue,
            };
            *places.next()? = number;
        }
        Some(Frame::Other(self, numbers))
    }
}

impl Frame {
    /// As qlog has it.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Ack(ranges) => json!({ "frame_type": "ack", "acked_ranges": ranges }),
            Self::Stream { id, offset, length, fin } => json!({
                "frame_type": "stream", "stream_id": id, "offset": offset, "length": length, "fin": fin,
            }),
            Self::Other(layout, numbers) => {
                let mut told = Map::new();
                told.insert("frame_type".to_owned(), layout.name.into());
                let mut numbers = numbers.iter();
                for field in layout.fields {
                    let (name, value) = match *field {
                        Field::Number(name) | Field::Counted(name) | Field::Rest(name) | Field::Zeros(name) => {
                            (name, numbers.next().copied().into())
                        }
                        Field::Says(name, text) => (name, text.into()),
                        Field::Bytes(_) => continue,
                    };
                    told.insert(name.to_owned(), value);
                }
                Value::Object(told)
            }
            Self::Unknown { kind } => json!({ "frame_type": "unknown", "raw_frame_type": kind }),
        }
    }
}

/// Takes an integer of variable length (RFC 9000 §16).
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    *bytes = rest;
    Some(number[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

fn skip(bytes: &mut &[u8], count: u64) -> Option<()> {
    *bytes = bytes.get(usize::try_from(count).ok()?..)?;
    Some(())
}

/// No packet of MsQuic's has more frames than 12. A peer could make thousands of lines of one packet.
pub(crate) const MOST: usize = 64;

/// An ACK frame that acknowledges more is about packets that earlier ones were about as well.
const MOST_RANGES: usize = 8;

/// No layout names more.
const MOST_NUMBERS: usize = 4;

/// The frames of RFC 9000 §19 but ACK and STREAM, by their names in qlog; DATAGRAM (RFC 9221); and
/// those of two drafts that MsQuic sends: ack-frequency and address-discovery. qlog 0.3 does not know
/// the latter.
static LAYOUTS: [Layout; 27] = {
    use Field::{Bytes, Counted, Number, Rest, Says, Zeros};

    const fn layout(kind: u64, name: &'static str, fields: &'static [Field]) -> Layout {
        Layout { kind, name, fields }
    }
    const BIDIRECTIONAL: Field = Says("stream_type", "bidirectional");
    const UNIDIRECTIONAL: Field = Says("stream_type", "unidirectional");
    const APPLICATION: Field = Says("error_space", "application");
    const TRANSPORT: Field = Says("error_space", "transport");
    [
        layout(0x00, "padding", &[Zeros("payload_length")]),
        layout(0x01, "ping", &[]),
        layout(0x04, "reset_stream", &[Number("stream_id"), Number("error_code"), Number("final_size")]),
        layout(0x05, "stop_sending", &[Number("stream_id"), Number("error_code")]),
        layout(0x06, "crypto", &[Number("offset"), Counted("length")]),
        layout(0x07, "new_token", &[Counted("length")]),
        layout(0x10, "max_data", &[Number("maximum")]),
        layout(0x11, "max_stream_data", &[Number("stream_id"), Number("maximum")]),
        layout(0x12, "max_streams", &[BIDIRECTIONAL, Number("maximum")]),
        layout(0x13, "max_streams", &[UNIDIRECTIONAL, Number("maximum")]),
        layout(0x14, "data_blocked", &[Number("limit")]),
        layout(0x15, "stream_data_blocked", &[Number("stream_id"), Number("limit")]),
        layout(0x16, "streams_blocked", &[BIDIRECTIONAL, Number("limit")]),
        layout(0x17, "streams_blocked", &[UNIDIRECTIONAL, Number("limit")]),
        // The length is a byte, and a valid one is the same as a number. A token ends the frame.
        layout(
            0x18,
            "new_connection_id",
            &[Number("sequence_number"), Number("retire_prior_to"), Counted("connection_id_length"), Bytes(16)],
        ),
        layout(0x19, "retire_connection_id", &[Number("sequence_number")]),
        layout(0x1a, "path_challenge", &[Bytes(8)]),
        layout(0x1b, "path_response", &[Bytes(8)]),
        layout(
            0x1c,
            "connection_close",
            &[TRANSPORT, Number("error_code"), Number("trigger_frame_type"), Counted("reason_length")],
        ),
        layout(0x1d, "connection_close", &[APPLICATION, Number("error_code"), Counted("reason_length")]),
        layout(0x1e, "handshake_done", &[]),
        layout(0x1f, "immediate_ack", &[]),
        layout(0x30, "datagram", &[Rest("length")]),
        layout(0x31, "datagram", &[Counted("length")]),
        layout(
            0xaf,
            "ack_frequency",
            &[
                Number("sequence_number"),
                Number("ack_eliciting_threshold"),
                Number("request_max_ack_delay"),
                Number("reordering_threshold"),
            ],
        ),
        // An address and a port.
        layout(0x9f81, "observed_address", &[Number("sequence_number"), Bytes(4 + 2)]),
        layout(0x9f82, "observed_address", &[Number("sequence_number"), Bytes(16 + 2)]),
    ]
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One frame of each layout that has its length in it, of ACK and of STREAM, with what is told.
    fn each() -> Vec<(Vec<u8>, Value)> {
        let ipv6 = [&[0x80, 0, 0x9f, 0x82, 1][..], &[0xff; 18]].concat();
        let cid = [&[0x18, 2, 1, 4, 9, 9, 9, 9][..], &[7; 16]].concat();
        [
            (&[0x00][..], json!({ "frame_type": "padding", "payload_length": 1 })),
            (&[0x01], json!({ "frame_type": "ping" })),
            (&[0x02, 10, 0, 1, 1, 1, 2], json!({ "frame_type": "ack", "acked_ranges": [[9, 10], [4, 6]] })),
            (
                &[0x04, 8, 0x41, 0x00, 5],
                json!({ "frame_type": "reset_stream", "stream_id": 8, "error_code": 256, "final_size": 5 }),
            ),
            (&[0x05, 8, 3], json!({ "frame_type": "stop_sending", "stream_id": 8, "error_code": 3 })),
            (&[0x06, 1, 2, 0, 0], json!({ "frame_type": "crypto", "offset": 1, "length": 2 })),
            (&[0x07, 1, 0xff], json!({ "frame_type": "new_token", "length": 1 })),
            (
                &[0x0a, 3, 2, 0xff, 0xff],
                json!({ "frame_type": "stream", "stream_id": 3, "offset": 0, "length": 2, "fin": false }),
            ),
            (
                &[0x0f, 4, 0x80, 1, 0, 0, 1, 0xff],
                json!({ "frame_type": "stream", "stream_id": 4, "offset": 65536, "length": 1, "fin": true }),
            ),
            (&[0x10, 5], json!({ "frame_type": "max_data", "maximum": 5 })),
            (&[0x11, 4, 5], json!({ "frame_type": "max_stream_data", "stream_id": 4, "maximum": 5 })),
            (&[0x12, 6], json!({ "frame_type": "max_streams", "stream_type": "bidirectional", "maximum": 6 })),
            (&[0x13, 6], json!({ "frame_type": "max_streams", "stream_type": "unidirectional", "maximum": 6 })),
            (&[0x14, 7], json!({ "frame_type": "data_blocked", "limit": 7 })),
            (&[0x15, 4, 7], json!({ "frame_type": "stream_data_blocked", "stream_id": 4, "limit": 7 })),
            (&[0x16, 7], json!({ "frame_type": "streams_blocked", "stream_type": "bidirectional", "limit": 7 })),
            (&[0x17, 7], json!({ "frame_type": "streams_blocked", "stream_type": "unidirectional", "limit": 7 })),
            (
                &cid,
                json!({
                    "frame_type": "new_connection_id",
                    "sequence_number": 2, "retire_prior_to": 1, "connection_id_length": 4,
                }),
            ),
            (&[0x19, 1], json!({ "frame_type": "retire_connection_id", "sequence_number": 1 })),
            (&[0x1a, 0xff, 0, 0, 0, 0, 0, 0, 0], json!({ "frame_type": "path_challenge" })),
            (&[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0], json!({ "frame_type": "path_response" })),
            (
                &[0x1c, 10, 6, 2, b'n', b'o'],
                json!({
                    "frame_type": "connection_close", "error_space": "transport",
                    "error_code": 10, "trigger_frame_type": 6, "reason_length": 2,
                }),
            ),
            (
                &[0x1d, 11, 0],
                json!({
                    "frame_type": "connection_close", "error_space": "application",
                    "error_code": 11, "reason_length": 0,
                }),
            ),
            (&[0x1e], json!({ "frame_type": "handshake_done" })),
            (&[0x1f], json!({ "frame_type": "immediate_ack" })),
            (&[0x31, 1, 0xff], json!({ "frame_type": "datagram", "length": 1 })),
            (
                &[0x40, 0xaf, 1, 2, 3, 4],
                json!({
                    "frame_type": "ack_frequency", "sequence_number": 1, "ack_eliciting_threshold": 2,
                    "request_max_ack_delay": 3, "reordering_threshold": 4,
                }),
            ),
            (
                &[0x80, 0, 0x9f, 0x81, 0, 0xff, 0, 0, 0, 0, 0],
                json!({ "frame_type": "observed_address", "sequence_number": 0 }),
            ),
            (&ipv6, json!({ "frame_type": "observed_address", "sequence_number": 1 })),
        ]
        .map(|(bytes, told)| (bytes.to_vec(), told))
        .to_vec()
    }

    fn told(packet: &[u8]) -> Vec<Value> {
        read(packet, u64::MAX).iter().map(Frame::json).collect()
    }

    #[test]
    fn every_type_is_told_by_its_name_and_its_numbers() {
        for (bytes, expected) in each() {
            assert_eq!(told(&bytes), [expected], "{bytes:02x?}");
        }
        // And there is no other layout, but the datagram that has no length.
        let kinds: Vec<_> = each().iter().map(|(bytes, _)| number(&mut &bytes[..]).unwrap()).collect();
        for layout in &LAYOUTS {
            assert!(layout.kind == 0x30 || kinds.contains(&layout.kind), "{layout:?}");
        }
    }

    #[test]
    fn a_packet_that_is_cut_anywhere_tells_of_the_frames_that_are_whole() {
        let (frames, expected): (Vec<_>, Vec<_>) = each().into_iter().unzip();
        let packet = frames.concat();
        assert_eq!(told(&packet), expected);
        for cut in 0..packet.len() {
            let mut end = 0;
            let ends = frames.iter().map(|frame| {
                end += frame.len();
                end
            });
            let whole = ends.take_while(|end| *end <= cut).count();
            assert_eq!(told(&packet[..cut]), expected[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_without_a_length_reaches_to_the_end_of_the_packet() {
        assert_eq!(
            told(&[0x01, 0x0d, 4, 7, 0x01, 0x01]),
            [
                json!({ "frame_type": "ping" }),
                json!({ "frame_type": "stream", "stream_id": 4, "offset": 7, "length": 2, "fin": true }),
            ]
        );
        assert_eq!(
            told(&[0x08, 4]),
            [json!({ "frame_type": "stream", "stream_id": 4, "offset": 0, "length": 0, "fin": false })]
        );
        assert_eq!(told(&[0x30, 0x01, 0x01]), [json!({ "frame_type": "datagram", "length": 2 })]);
        assert_eq!(
            told(&[0, 0, 0, 0x01]),
            [json!({ "frame_type": "padding", "payload_length": 3 }), json!({ "frame_type": "ping" })]
        );
    }

    #[test]
    fn nothing_behind_an_unknown_type_is_told() {
        assert_eq!(
            told(&[0x01, 0x20, 0x01, 0x01]),
            [json!({ "frame_type": "ping" }), json!({ "frame_type": "unknown", "raw_frame_type": 0x20 })]
        );
    }

    #[test]
    fn lengths_that_lead_out_of_the_packet_are_not_followed() {
        for wrong in [
            &[0x0a, 4, 3, 1, 1][..],
            &[0x0e, 4, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x06, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x31, 2, 1],
            &[0x18, 1, 0, 20, 1],
        ] {
            assert_eq!(told(wrong), [] as [Value; 0], "{wrong:02x?}");
        }
    }

    #[test]
    fn a_packet_of_many_frames_is_told_in_part() {
        assert_eq!(told(&[0x01; 1200]).len(), MOST);
    }

    fn acknowledged(packet: &[u8], end: u64) -> Vec<(u64, u64)> {
        match &*read(packet, end) {
            [.., Frame::Ack(ranges)] => ranges.to_vec(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let ranges = |packet: &[u8]| acknowledged(packet, u64::MAX);
        // Of packet 10 and 9, then of 6 to 4.
        assert_eq!(ranges(&[0, 1, 0x02, 10, 0, 1, 1, 1, 2]), [(9, 10), (4, 6)]);
        assert_eq!(ranges(&[0x03, 0x41, 0x00, 0x40, 0x25, 0, 0, 1, 2, 3]), [(256, 256)]);
        // A peer may write what it likes.
        for wrong in
            [&[][..], &[0x02], &[0x02, 5, 0, 0, 6], &[0x02, 5, 0, 1, 1, 9, 1], &[0x02, 0xff, 1], &[0x02, 9, 0, 0]]
        {
            assert_eq!(ranges(wrong), [], "{wrong:?}");
        }
        let many: Vec<u8> = [0x02, 0x41, 0x00, 0, 63].into_iter().chain([0; 127]).collect();
        assert_eq!(ranges(&many).len(), MOST_RANGES);
        assert_eq!(read(&[0x02, 1, 0, 0, 0, 0x02, 0, 0, 0, 0], u64::MAX), [Frame::Ack([(1, 1)].into())].into());
    }

    #[test]
    fn ranges_of_packets_that_were_never_sent_are_left_out() {
        // Of packet 10 and 9, then of 6 to 4.
        let two = [0x02, 10, 0, 1, 1, 1, 2];
        assert_eq!(acknowledged(&two, 11), [(9, 10), (4, 6)]);
        assert_eq!(acknowledged(&two, 10), [(4, 6)]);
        assert_eq!(acknowledged(&two, 6), []);
        assert_eq!(acknowledged(&two, 0), []);
        // Of all packets that there can be.
        let all = [&[0x02][..], &[0xff; 8], &[0, 0], &[0xff; 8]].concat();
        assert_eq!(acknowledged(&all, u64::MAX), [(0, (1 << 62) - 1)]);
        assert_eq!(acknowledged(&all, 1000), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

        #[test]
        fn whatever_a_peer_writes_is_read_within_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            end in any::<u64>(),
        ) {
            // Types and small numbers are half of them, so that many frames are whole.
            let packet: Vec<_> = bytes.iter().map(|byte| if *byte < 0x80 { byte % 0x32 } else { *byte }).collect();
            let frames = read(&packet, end);
            prop_assert!(frames.len() <= MOST);
            let mut told = 0;
            for frame in &frames {
                if let Frame::Stream { length, .. } = frame {
                    told += length;
                }
                frame.json();
            }
            prop_assert!(told <= packet.len() as u64);
        }
    }
}
