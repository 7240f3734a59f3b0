//! The peer's unidirectional streams, sorted by their types before h3 gets them.
//!
//! h3 0.0.8 reads the type of QPACK's two streams and never looks at them again, and it drops push
//! streams. So their rules are kept here: what QPACK's streams may say where no dynamic table is
//! allowed, that they stay open, and that nobody pushes (RFC 9114 §6.2, RFC 9204 §4.2 to §4.4).

use std::task::{Context, Poll};

use h3::{error::Code, quic::RecvStream as _};
use sendstream::{ReadError, Side};

use crate::{
    frames::{Frames, Violation, connection},
    stream::{Failure, RecvStream},
};

/// Those of one connection.
#[derive(Debug, Default)]
pub(crate) struct UniStreams {
    /// Whose types have not arrived, the oldest first. Each is looked at in every poll.
    unsorted: Vec<RecvStream>,
    encoder: Option<QpackStream>,
    decoder: Option<QpackStream>,
}

impl UniStreams {
    /// The next stream for h3: the control stream, or one of a type that only h3 knows.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut accept: impl FnMut(&mut Context<'_>) -> Poll<Result<RecvStream, Failure>>,
    ) -> Poll<Result<RecvStream, Failure>> {
        while let Poll::Ready(stream) = accept(cx) {
            self.unsorted.push(stream?);
        }
        let mut at = 0;
        while let Some(stream) = self.unsorted.get_mut(at) {
            let Poll::Ready(kind) = stream.poll_kind(cx) else {
                at += 1;
                continue;
            };
            let stream = self.unsorted.remove(at);
            // A stream may end before its type (RFC 9114 §6.2).
            if let Some(kind) = kind
                && let Some(stream) = self.sort(stream, kind)?
            {
                return Poll::Ready(Ok(stream));
            }
        }
        let too_many = self.unsorted.len().saturating_sub(MAX_UNSORTED);
        for mut stream in self.unsorted.drain(..too_many) {
            stream.stop_sending(Code::H3_STREAM_CREATION_ERROR.value());
        }
        // After the others: an instruction may have come with its stream.
        for stream in [&mut self.encoder, &mut self.decoder].into_iter().flatten() {
            stream.poll(cx)?;
        }
        Poll::Pending
    }

    /// Keeps a stream of QPACK's, and gives back another one.
    fn sort(&mut self, mut stream: RecvStream, kind: u64) -> Result<Option<RecvStream>, Violation> {
        let side = if stream.is_of_client() { Side::Server } else { Side::Client };
        match kind {
            CONTROL => {
                stream.check(Frames::of_control(side));
                Ok(Some(stream))
            }
            PUSH if side == Side::Server => {
                Err(connection(Code::H3_STREAM_CREATION_ERROR, "a push stream of a client's"))
            }
            PUSH => Err(connection(Code::H3_ID_ERROR, "a push that was not allowed")),
            ENCODER => Self::keep(&mut self.encoder, stream, Instructions::OfEncoder),
            DECODER => Self::keep(&mut self.decoder, stream, Instructions::OfDecoder { length: 0 }),
            _ => Ok(Some(stream)),
        }
    }

    fn keep(
        place: &mut Option<QpackStream>,
        mut stream: RecvStream,
        instructions: Instructions,
    ) -> Result<Option<RecvStream>, Violation> {
        stream.skip_kind();
        match place.replace(QpackStream { stream, instructions }) {
            Some(_) => Err(connection(Code::H3_STREAM_CREATION_ERROR, "a second stream of QPACK's")),
            None => Ok(None),
        }
    }
}

/// The encoder stream or the decoder stream of the peer.
#[derive(Debug)]
struct QpackStream {
    stream: RecvStream,
    instructions: Instructions,
}

impl QpackStream {
    /// Reads what there is.
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        loop {
            match self.stream.poll_received(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(Some(received))) => self.instructions.check(&received)?,
                Poll::Ready(Err(Failure::Read(ReadError::ConnectionLost(cause)))) => return Err(Failure::Lost(cause)),
                Poll::Ready(Ok(None) | Err(_)) => {
                    return Err(connection(Code::H3_CLOSED_CRITICAL_STREAM, "a stream of QPACK's was closed").into());
                }
            }
        }
    }
}

/// What a stream of QPACK's may say where neither side allows a dynamic table.
#[derive(Debug)]
enum Instructions {
    /// The peer's encoder may say that its table has no room.
    OfEncoder,
    /// The peer's decoder may cancel streams. So many bytes of a stream's number have come.
    OfDecoder { length: u8 },
}

impl Instructions {
    fn check(&mut self, received: &[u8]) -> Result<(), Violation> {
        match self {
            Self::OfEncoder => match received.iter().all(|byte| *byte == NO_CAPACITY) {
                true => Ok(()),
                false => Err(connection(Code::QPACK_ENCODER_STREAM_ERROR, "a dynamic table that was not allowed")),
            },
            Self::OfDecoder { length } => received.iter().try_for_each(|byte| {
                *length = match *length {
                    // An instruction's first byte: two bits say what it is, six begin the number.
                    0 if byte & 0xc0 != STREAM_CANCELLATION => return Err(wrong_decoder()),
                    0 if byte & 0x3f == 0x3f => 1,
                    0 => 0,
                    LONGEST_NUMBER => return Err(wrong_decoder()),
                    so_far if byte & 0x80 != 0 => so_far + 1,
                    _ => 0,
                };
                Ok(())
            }),
        }
    }
}

fn wrong_decoder() -> Violation {
    connection(Code::QPACK_DECODER_STREAM_ERROR, "an acknowledgement of what was never sent")
}

/// How many streams may be without a type at once. Honest peers send it with the stream.
const MAX_UNSORTED: usize = 32;

const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const ENCODER: u64 = 0x02;
const DECODER: u64 = 0x03;

/// `Set Dynamic Table Capacity` to 0 (RFC 9204 §4.3.1).
const NO_CAPACITY: u8 = 0x20;

/// The first two bits of `Stream Cancellation` (RFC 9204 §4.4.2).
const STREAM_CANCELLATION: u8 = 0x40;

/// Bytes after the first of a number with 62 bits, each of which has seven.
const LONGEST_NUMBER: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: Result<(), Violation>) -> Option<Code> {
        match outcome {
            Ok(()) => None,
            Err(Violation::Connection { code, .. }) => Some(code),
            Err(violation) => panic!("{violation}"),
        }
    }

    #[test]
    fn an_encoder_without_a_table_says_no_more_than_that() {
        assert_eq!(code(Instructions::OfEncoder.check(&[0x20, 0x20])), None);
        // A capacity of 1, an insertion with each kind of name, and a duplicate.
        for instruction in [0x21, 0xc1, 0x81, 0x41, 0x00] {
            let outcome = Instructions::OfEncoder.check(&[0x20, instruction]);
            assert_eq!(code(outcome), Some(Code::QPACK_ENCODER_STREAM_ERROR), "{instruction:#x}");
        }
    }

    #[test]
    fn a_decoder_without_a_table_cancels_streams_and_no_more() {
        let allowed: [&[u8]; 4] = [&[0x40], &[0x7e, 0x41], &[0x7f, 0], &[0x7f, 0xff, 0xff, 0x7f, 0x41]];
        for instructions in allowed {
            let mut decoder = Instructions::OfDecoder { length: 0 };
            for byte in instructions {
                assert_eq!(code(decoder.check(&[*byte])), None, "{instructions:?}");
            }
        }
        // An acknowledged section, insertions that were counted, and a number without an end.
        let forbidden: [&[u8]; 4] =
            [&[0x80], &[0x00], &[0x01], &[0x7f, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]];
        for instructions in forbidden {
            let outcome = Instructions::OfDecoder { length: 0 }.check(instructions);
            assert_eq!(code(outcome), Some(Code::QPACK_DECODER_STREAM_ERROR), "{instructions:?}");
        }
    }
}
