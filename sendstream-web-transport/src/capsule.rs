//! What comes on the CONNECT stream once there is a session: DATA frames, and capsules in them (RFC 9297
//! §3.2).

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    task::consume_budget,
};
use web_transport_proto::{Capsule, Frame, VarInt, VarIntUnexpectedEnd};

use crate::{
    error::{Violation, h3},
    wire::{LARGEST, skip},
};

/// The longest reason (draft-ietf-webtrans-http3 §6).
pub(crate) const MAX_REASON: usize = 1024;

/// The type of CLOSE_WEBTRANSPORT_SESSION.
const CLOSE: u64 = 0x2843;

/// Reads the capsules of a stream. One that is not whole waits in memory, with at most a frame after it.
pub(crate) struct Capsules<R> {
    stream: R,
    /// The payload of DATA frames, which capsules need not respect.
    data: BytesMut,
}

/// Why there is no next capsule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The stream ended in the middle of something, as it seems to when it was reset.
    CutOff,
    /// The peer broke a rule.
    Broken(Violation),
}

impl<R: AsyncRead + Unpin> Capsules<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, data: BytesMut::new() }
    }

    /// The next capsule; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Capsule>, Unread> {
        loop {
            if let Some(capsule) = take_capsule(&mut self.data)? {
                return Ok(Some(capsule));
            }
            if !self.read_frame().await? {
                return if self.data.is_empty() { Ok(None) } else { Err(Unread::CutOff) };
            }
        }
    }

    /// Reads one frame; `false` at the end of the stream.
    async fn read_frame(&mut self) -> Result<bool, Unread> {
        // Sendstream's reads have no part in tokio's budget: without this, a peer that sends fast enough
        // would have a thread of the runtime to itself.
        consume_budget().await;
        let Some(kind) = VarInt::read_optional(&mut self.stream).await? else { return Ok(false) };
        let length = VarInt::read(&mut self.stream).await?.into_inner();
        if length > LARGEST {
            return Err(Violation::new(h3::EXCESSIVE_LOAD, "a frame was too large").into());
        }
        if Frame(kind) == Frame::DATA {
            let start = self.data.len();
            self.data.resize(start + length as usize, 0);
            self.stream.read_exact(&mut self.data[start..]).await.map_err(|_| Unread::CutOff)?;
        } else if !skip(&mut self.stream, length).await {
            return Err(Unread::CutOff);
        }
        Ok(true)
    }
}

/// Takes the first capsule off `data`, if all of it is there. What can be told from its type and length
/// is told before the rest comes.
fn take_capsule(data: &mut BytesMut) -> Result<Option<Capsule>, Violation> {
    let mut rest = &data[..];
    let Ok(kind) = VarInt::decode(&mut rest) else { return Ok(None) };
    let Ok(length) = VarInt::decode(&mut rest) else { return Ok(None) };
    let length = length.into_inner();
    if length > LARGEST {
        return Err(Violation::new(h3::EXCESSIVE_LOAD, "a capsule was too large"));
    }
    let length = length as usize;
    if kind.into_inner() == CLOSE && length < 4 {
        return Err(Violation::new(h3::MESSAGE_ERROR, "a session was closed without a code"));
    }
    if kind.into_inner() == CLOSE && length > 4 + MAX_REASON {
        return Err(Violation::new(h3::MESSAGE_ERROR, "a reason had more than 1024 bytes"));
    }
    if rest.len() < length {
        return Ok(None);
    }
    let mut whole = data.split_to(data.len() - rest.len() + length);
    match Capsule::decode(&mut whole) {
        Ok(capsule) => Ok(Some(capsule)),
        // It is all there, so an end is no reason to wait for more.
        Err(_) => Err(Violation::new(h3::MESSAGE_ERROR, "a capsule was malformed")),
    }
}

impl From<Violation> for Unread {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

impl From<VarIntUnexpectedEnd> for Unread {
    fn from(VarIntUnexpectedEnd: VarIntUnexpectedEnd) -> Self {
        Self::CutOff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [kind, payload.len() as u64] {
            VarInt::from_u64(number).unwrap().encode(&mut bytes);
        }
        bytes.extend(payload);
        bytes
    }

    fn closed(code: u32, reason: &str) -> Capsule {
        Capsule::CloseWebTransportSession { code, reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn a_capsule_is_read_from_frames_of_any_size() {
        let mut capsule = frame(0x17, b"grease");
        closed(7, "done").encode(&mut capsule);
        for size in 1..=capsule.len() {
            let mut wire = frame(0x21, b"no data");
            for piece in capsule.chunks(size) {
                wire.extend([frame(0, b""), frame(0, piece)].concat());
            }
            let mut capsules = Capsules::new(&wire[..]);
            assert_eq!(capsules.next().await, Ok(Some(Capsule::Grease { num: 0 })), "{size}");
            assert_eq!(capsules.next().await, Ok(Some(closed(7, "done"))), "{size}");
            assert_eq!(capsules.next().await, Ok(None), "{size}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_in_a_frame_or_a_capsule_is_cut_off() {
        let mut capsule = Vec::new();
        closed(7, "done").encode(&mut capsule);
        let whole = frame(0, &capsule);
        for end in 1..whole.len() {
            assert_eq!(Capsules::new(&whole[..end]).next().await, Err(Unread::CutOff), "{end}");
        }
        for end in 1..capsule.len() {
            let wire = frame(0, &capsule[..end]);
            assert_eq!(Capsules::new(&wire[..]).next().await, Err(Unread::CutOff), "{end}");
        }
    }

    #[tokio::test]
    async fn frames_without_end_leave_time_for_other_tasks() {
        let wire = frame(0, b"").repeat(100_000);
        let mut capsules = Capsules::new(&wire[..]);
        let next = std::pin::pin!(capsules.next());
        assert!(futures::poll!(next).is_pending());
    }

    #[tokio::test]
    async fn nothing_that_a_peer_sends_grows_without_bound() {
        let more = frame(0, &[0; 60_000]).repeat(170);
        for (name, capsule, code) in [
            ("no code", frame(CLOSE, &[]), h3::MESSAGE_ERROR),
            ("a short code", frame(CLOSE, &[0; 3]), h3::MESSAGE_ERROR),
            ("a long reason", frame(CLOSE, &[b'x'; 4 + MAX_REASON + 1])[..8].to_vec(), h3::MESSAGE_ERROR),
            ("a long capsule", frame(0x17, &[0; LARGEST as usize + 1])[..8].to_vec(), h3::EXCESSIVE_LOAD),
        ] {
            let wire = [frame(0, &capsule), more.clone()].concat();
            let mut left = &wire[..];
            let mut capsules = Capsules::new(&mut left);
            let Err(Unread::Broken(violation)) = capsules.next().await else { panic!("{name}") };
            assert_eq!(violation.code, code, "{name}: {}", violation.what);
            assert!(left.len() == more.len(), "{name}: it read on");
        }
        // A stream of capsules that mean nothing.
        let wire = frame(0, &frame(0x21, &[0; 50_000])).repeat(200);
        let mut capsules = Capsules::new(&wire[..]);
        while capsules.next().await.unwrap().is_some() {
            assert!(capsules.data.capacity() <= 4 * LARGEST as usize, "{}", capsules.data.capacity());
        }
    }
}
