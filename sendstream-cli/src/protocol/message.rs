//! The messages of a session, after hello and welcome: `kind (1) · length (4) · body`.
//!
//! | kind | from the sender | body                                                                          |
//! | ---- | --------------- | ----------------------------------------------------------------------------- |
//! | 1    | OFFER           | entry (4) · type (1) · mode (2) · mtime (12) · size (8) · name (2 + n) · link's target (2 + n) |
//! | 2    | PROOF           | entry (4) · whether the file ends there (1) · digest (32)                      |
//! | 3    | BEGIN           | entry (4) · where the content begins (8)                                       |
//! | 4    | DATA            | content, at least a byte                                                       |
//! | 5    | HOLE            | how many zeros (8), at least one                                               |
//! | 6    | END             | size (8) · mode (2) · mtime (12) · digest of all of it (32)                    |
//! | 7    | FAILED          | entry (4) · reason (1) · text (2 + n)                                          |
//! | 8    | SKIPPED         | entry (4) · type (1) · name (2 + n) · reason (1) · text (2 + n)                |
//! | 9    | DONE            | nothing                                                                        |
//!
//! | kind | from the receiver | body                                      |
//! | ---- | ----------------- | ----------------------------------------- |
//! | 17   | WANT              | entry (4) · from which byte on (8)        |
//! | 18   | ASK               | entry (4) · the digest of how many bytes (8) |
//! | 19   | KEPT              | entry (4) · whether it was there before (1) |
//! | 20   | REFUSED           | entry (4) · reason (1) · text (2 + n)     |
//! | 21   | BYE               | nothing                                   |
//!
//! A mode has the nine bits of the permissions. An mtime is the seconds since 1970 (8, signed) and
//! the nanoseconds (4).

use super::{ProtocolError, take, take_u64};

/// A number that stands for an entry.
pub(crate) type Entry = u32;

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File = 0,
    Directory = 1,
    Link = 2,
}

/// What of an entry is kept beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    /// The permissions: nine bits.
    pub(crate) mode: u16,
    /// When the content changed last: seconds since 1970, and nanoseconds.
    pub(crate) mtime: (i64, u32),
}

impl Meta {
    /// The bits of a mode that travel: never the ones that lend a user's rights to others.
    pub(crate) const MODE: u16 = 0o777;
}

/// What the sender says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToReceiver {
    Offer { entry: Entry, kind: Kind, meta: Meta, size: u64, name: Box<[u8]>, target: Box<[u8]> },
    Proof { entry: Entry, ends: bool, digest: blake3::Hash },
    Begin { entry: Entry, from: u64 },
    Hole(u64),
    End { size: u64, meta: Meta, digest: blake3::Hash },
    Failed { entry: Entry, why: Lost },
    Skipped { entry: Entry, kind: Kind, name: Box<[u8]>, why: Lost },
    Done,
}

/// What the receiver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToSender {
    Want { entry: Entry, from: u64 },
    Ask { entry: Entry, len: u64 },
    Kept { entry: Entry, was_there: bool },
    Refused { entry: Entry, why: Lost },
    Bye,
}

/// Why an entry did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) reason: Reason,
    pub(crate) text: Box<str>,
}

impl Lost {
    pub(crate) fn new(reason: Reason, text: impl Into<Box<str>>) -> Self {
        Self { reason, text: text.into() }
    }
}

/// How much of these texts one session remembers.
#[derive(Debug)]
pub(crate) struct Texts {
    left: usize,
}

impl Default for Texts {
    fn default() -> Self {
        Self { left: MAX_TEXTS_LEN }
    }
}

impl Texts {
    /// Counts a text that is to be remembered, and makes it empty when there were too many.
    pub(crate) fn count(&mut self, why: &mut Lost) {
        match self.left.checked_sub(why.text.len()) {
            Some(left) => self.left = left,
            None => why.text = Box::default(),
        }
    }
}

/// The kinds of reasons, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// The sender left it out: it is nothing that can be sent.
    NotSendable,
    /// The sender cannot read it.
    Unreadable,
    /// It changed while it was being sent.
    Changed,
    /// Something else is there at the receiver.
    Exists,
    /// Its name, or what it links to, is none that the receiver may give.
    Name,
    /// It arrived with another digest than the sender's.
    Corrupt,
    /// The receiver's disk is full.
    DiskFull,
    /// The receiver cannot store it.
    Storage,
    /// The session ended before.
    BrokenOff,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::NotSendable,
        Self::Unreadable,
        Self::Changed,
        Self::Exists,
        Self::Name,
        Self::Corrupt,
        Self::DiskFull,
        Self::Storage,
        Self::BrokenOff,
    ];

    /// Whether it is the sender's: the receiver never had a say in it.
    pub(crate) fn is_senders(self) -> bool {
        matches!(self, Self::NotSendable | Self::Unreadable | Self::Changed)
    }
}

/// A message that one end can put together and the other take apart.
pub(crate) trait Message: Sized {
    /// Appends the message, with its length.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the body of a message of a kind.
    fn decode(kind: u8, body: &[u8]) -> Result<Self, ProtocolError>;
    /// Whether content may come in this direction.
    const HAS_CONTENT: bool;
}

/// Appends the front of a message that has `len` bytes of content.
pub(crate) fn encode_data_front(len: usize, out: &mut Vec<u8>) {
    out.push(DATA);
    out.extend_from_slice(&u32::try_from(len).expect("a chunk is smaller than 4 GiB").to_be_bytes());
}

/// How long that front is.
pub(crate) const DATA_FRONT_LEN: usize = 5;

impl Message for ToReceiver {
    const HAS_CONTENT: bool = true;

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Offer { entry, kind, meta, size, name, target } => framed(OFFER, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                out.push(*kind as u8);
                put_meta(*meta, out);
                out.extend_from_slice(&size.to_be_bytes());
                put_bytes(name, out);
                put_bytes(target, out);
            }),
            Self::Proof { entry, ends, digest } => framed(PROOF, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                out.push(u8::from(*ends));
                out.extend_from_slice(digest.as_bytes());
            }),
            Self::Begin { entry, from } => framed(BEGIN, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                out.extend_from_slice(&from.to_be_bytes());
            }),
            Self::Hole(len) => framed(HOLE, out, |out| out.extend_from_slice(&len.to_be_bytes())),
            Self::End { size, meta, digest } => framed(END, out, |out| {
                out.extend_from_slice(&size.to_be_bytes());
                put_meta(*meta, out);
                out.extend_from_slice(digest.as_bytes());
            }),
            Self::Failed { entry, why } => framed(FAILED, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                put_lost(why, out);
            }),
            Self::Skipped { entry, kind, name, why } => framed(SKIPPED, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                out.push(*kind as u8);
                put_bytes(name, out);
                put_lost(why, out);
            }),
            Self::Done => framed(DONE, out, |_| ()),
        }
    }

    fn decode(kind: u8, mut body: &[u8]) -> Result<Self, ProtocolError> {
        let body = &mut body;
        let message = match kind {
            OFFER => Self::Offer {
                entry: take_entry(body)?,
                kind: take_kind(body)?,
                meta: take_meta(body)?,
                size: take_u64(body)?,
                name: take_bytes(body)?.into(),
                target: take_bytes(body)?.into(),
            },
            PROOF => Self::Proof { entry: take_entry(body)?, ends: take_bool(body)?, digest: take_digest(body)? },
            BEGIN => Self::Begin { entry: take_entry(body)?, from: take_u64(body)? },
            HOLE => match take_u64(body)? {
                0 => return Err(ProtocolError::TooLittle),
                len => Self::Hole(len),
            },
            END => Self::End { size: take_u64(body)?, meta: take_meta(body)?, digest: take_digest(body)? },
            FAILED => Self::Failed { entry: take_entry(body)?, why: take_lost(body)? },
            SKIPPED => Self::Skipped {
                entry: take_entry(body)?,
                kind: take_kind(body)?,
                name: take_bytes(body)?.into(),
                why: take_lost(body)?,
            },
            DONE => Self::Done,
            other => return Err(ProtocolError::Kind(other)),
        };
        if body.is_empty() { Ok(message) } else { Err(ProtocolError::TooMuch) }
    }
}

impl Message for ToSender {
    const HAS_CONTENT: bool = false;

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Want { entry, from: number } | Self::Ask { entry, len: number } => {
                let kind = if matches!(self, Self::Want { .. }) { WANT } else { ASK };
                framed(kind, out, |out| {
                    out.extend_from_slice(&entry.to_be_bytes());
                    out.extend_from_slice(&number.to_be_bytes());
                });
            }
            Self::Kept { entry, was_there } => framed(KEPT, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                out.push(u8::from(*was_there));
            }),
            Self::Refused { entry, why } => framed(REFUSED, out, |out| {
                out.extend_from_slice(&entry.to_be_bytes());
                put_lost(why, out);
            }),
            Self::Bye => framed(BYE, out, |_| ()),
        }
    }

    fn decode(kind: u8, mut body: &[u8]) -> Result<Self, ProtocolError> {
        let body = &mut body;
        let message = match kind {
            WANT => Self::Want { entry: take_entry(body)?, from: take_u64(body)? },
            ASK => Self::Ask { entry: take_entry(body)?, len: take_u64(body)? },
            KEPT => Self::Kept { entry: take_entry(body)?, was_there: take_bool(body)? },
            REFUSED => Self::Refused { entry: take_entry(body)?, why: take_lost(body)? },
            BYE => Self::Bye,
            other => return Err(ProtocolError::Kind(other)),
        };
        if body.is_empty() { Ok(message) } else { Err(ProtocolError::TooMuch) }
    }
}

/// Takes a direction of the stream apart, however the network cut it into chunks.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The bytes of a message that is not complete yet.
    partial: Vec<u8>,
    /// How much content is still to come in this message.
    content: u64,
}

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a, M> {
    Message(M),
    /// Some of the content, never empty.
    Content(&'a [u8]),
}

impl Decoder {
    /// Takes the next part from the front of `input`; `None` if more input is needed, and then
    /// `input` is empty.
    pub(crate) fn next<'a, M: Message>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a, M>>, ProtocolError> {
        if self.content > 0 {
            if input.is_empty() {
                return Ok(None);
            }
            let len = usize::try_from(self.content).map_or(input.len(), |left| left.min(input.len()));
            let (content, rest) = input.split_at(len);
            *input = rest;
            self.content -= len as u64;
            return Ok(Some(Part::Content(content)));
        }
        if !self.collect(input, FRONT_LEN) {
            return Ok(None);
        }
        let front = &mut self.partial.as_slice();
        let [kind] = take(front)?;
        let len = u32::from_be_bytes(take(front)?);
        if M::HAS_CONTENT && kind == DATA {
            if len == 0 {
                return Err(ProtocolError::TooLittle);
            }
            self.content = len.into();
            self.partial.clear();
            return self.next(input);
        }
        if len > MAX_BODY_LEN {
            return Err(ProtocolError::TooMuch);
        }
        if !self.collect(input, FRONT_LEN + len as usize) {
            return Ok(None);
        }
        let message = M::decode(kind, &self.partial[FRONT_LEN..])?;
        self.partial.clear();
        Ok(Some(Part::Message(message)))
    }

    /// Says whether the stream may end here.
    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        if self.partial.is_empty() && self.content == 0 { Ok(()) } else { Err(ProtocolError::TooLittle) }
    }

    /// Moves bytes from `input` until `len` of them are collected, and says whether they are.
    fn collect(&mut self, input: &mut &[u8], len: usize) -> bool {
        let missing = len.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.partial.extend_from_slice(taken);
        *input = rest;
        self.partial.len() >= len
    }
}

fn framed(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let place = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = (out.len() - place - 4) as u32;
    out[place..place + 4].copy_from_slice(&len.to_be_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES_LEN)];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_lost(Lost { reason, text }: &Lost, out: &mut Vec<u8>) {
    out.push(*reason as u8);
    put_bytes(truncate(text, MAX_TEXT_LEN).as_bytes(), out);
}

fn put_meta(Meta { mode, mtime: (seconds, nanoseconds) }: Meta, out: &mut Vec<u8>) {
    out.extend_from_slice(&mode.to_be_bytes());
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&nanoseconds.to_be_bytes());
}

fn take_entry(input: &mut &[u8]) -> Result<Entry, ProtocolError> {
    take(input).map(u32::from_be_bytes)
}

fn take_kind(input: &mut &[u8]) -> Result<Kind, ProtocolError> {
    match take(input)? {
        [0] => Ok(Kind::File),
        [1] => Ok(Kind::Directory),
        [2] => Ok(Kind::Link),
        [other] => Err(ProtocolError::Kind(other)),
    }
}

fn take_meta(input: &mut &[u8]) -> Result<Meta, ProtocolError> {
    let mode = u16::from_be_bytes(take(input)?) & Meta::MODE;
    let seconds = i64::from_be_bytes(take(input)?);
    // As many as there are in a second, whatever the peer says.
    let nanoseconds = u32::from_be_bytes(take(input)?).min(999_999_999);
    Ok(Meta { mode, mtime: (seconds, nanoseconds) })
}

fn take_bool(input: &mut &[u8]) -> Result<bool, ProtocolError> {
    match take(input)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(ProtocolError::Kind(other)),
    }
}

fn take_digest(input: &mut &[u8]) -> Result<blake3::Hash, ProtocolError> {
    take(input).map(blake3::Hash::from_bytes)
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], ProtocolError> {
    let len = u16::from_be_bytes(take(input)?);
    let (taken, rest) = input.split_at_checked(len.into()).ok_or(ProtocolError::TooLittle)?;
    *input = rest;
    Ok(taken)
}

fn take_lost(input: &mut &[u8]) -> Result<Lost, ProtocolError> {
    let [reason] = take(input)?;
    let reason = *Reason::ALL.get(usize::from(reason)).ok_or(ProtocolError::Kind(reason))?;
    let text = take_bytes(input)?;
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT_LEN)]);
    // What is put for a wrong byte is longer than that.
    Ok(Lost { reason, text: truncate(&text, MAX_TEXT_LEN).into() })
}

/// The longest beginning of `text` that has at most `len` bytes and ends between two characters.
fn truncate(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

const OFFER: u8 = 1;
const PROOF: u8 = 2;
const BEGIN: u8 = 3;
const DATA: u8 = 4;
const HOLE: u8 = 5;
const END: u8 = 6;
const FAILED: u8 = 7;
const SKIPPED: u8 = 8;
const DONE: u8 = 9;
const WANT: u8 = 17;
const ASK: u8 = 18;
const KEPT: u8 = 19;
const REFUSED: u8 = 20;
const BYE: u8 = 21;

const FRONT_LEN: usize = 5;
/// Room for a name and a link's target, of some more bytes than they may have: it is said which of
/// them are too long.
const MAX_BODY_LEN: u32 = 16 << 10;
const MAX_BYTES_LEN: usize = 6 << 10;
const MAX_TEXT_LEN: usize = 1024;
/// How much of the texts one session remembers.
const MAX_TEXTS_LEN: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta { mode: 0o640, mtime: (-7, 999_999_999) }
    }

    fn lost(text: &str) -> Lost {
        Lost::new(Reason::DiskFull, text)
    }

    fn to_receiver() -> Vec<ToReceiver> {
        let digest = blake3::hash(b"x");
        let offer = |kind, target: &[u8]| ToReceiver::Offer {
            entry: 7,
            kind,
            meta: meta(),
            size: u64::MAX,
            name: (*b"dir/caf\xe9\n").into(),
            target: target.into(),
        };
        vec![
            offer(Kind::File, b""),
            offer(Kind::Directory, b""),
            offer(Kind::Link, b"../x"),
            ToReceiver::Proof { entry: u32::MAX, ends: true, digest },
            ToReceiver::Begin { entry: 0, from: 1 << 40 },
            ToReceiver::Hole(u64::MAX),
            ToReceiver::End { size: 0, meta: meta(), digest },
            ToReceiver::Failed { entry: 1, why: lost("") },
            ToReceiver::Skipped { entry: 2, kind: Kind::File, name: (*b"x").into(), why: lost("disk full – ü") },
            ToReceiver::Done,
        ]
    }

    fn to_sender() -> Vec<ToSender> {
        vec![
            ToSender::Want { entry: 1, from: 2 },
            ToSender::Ask { entry: 3, len: u64::MAX },
            ToSender::Kept { entry: 4, was_there: true },
            ToSender::Refused { entry: 5, why: lost("why") },
            ToSender::Bye,
        ]
    }

    /// Feeds `stream` in pieces of `step` bytes and returns what came out.
    fn decode<M: Message>(stream: &[u8], step: usize) -> Result<(Vec<M>, Vec<u8>), ProtocolError> {
        let (mut messages, mut content, mut decoder) = (Vec::new(), Vec::new(), Decoder::default());
        for mut input in stream.chunks(step) {
            while let Some(part) = decoder.next(&mut input)? {
                match part {
                    Part::Message(message) => messages.push(message),
                    Part::Content(bytes) => content.extend_from_slice(bytes),
                }
            }
            assert!(input.is_empty());
        }
        decoder.end()?;
        Ok((messages, content))
    }

    #[test]
    fn messages_are_read_alike_however_the_network_cuts_them() {
        let mut stream = Vec::new();
        for message in to_receiver() {
            message.encode(&mut stream);
            encode_data_front(3, &mut stream);
            stream.extend_from_slice(b"abc");
        }
        for step in 1..=stream.len() {
            let (messages, content) = decode::<ToReceiver>(&stream, step).unwrap();
            assert_eq!(messages, to_receiver());
            assert_eq!(content, b"abc".repeat(10));
        }
        let mut stream = Vec::new();
        to_sender().iter().for_each(|message| message.encode(&mut stream));
        for step in 1..=stream.len() {
            assert_eq!(decode::<ToSender>(&stream, step).unwrap().0, to_sender());
        }
    }

    #[test]
    fn a_stream_may_end_nowhere_but_between_messages() {
        for message in to_receiver() {
            let mut stream = Vec::new();
            message.encode(&mut stream);
            for len in 1..stream.len() {
                assert_eq!(decode::<ToReceiver>(&stream[..len], 5), Err(ProtocolError::TooLittle), "{len}");
            }
            // A body that is shorter or longer than its parts.
            let len = stream.len() as u32 - 5;
            if len > 0 {
                stream[1..5].copy_from_slice(&(len - 1).to_be_bytes());
                assert!(decode::<ToReceiver>(&stream[..stream.len() - 1], 1000).is_err(), "{message:?}");
            }
            stream.push(0);
            stream[1..5].copy_from_slice(&(len + 1).to_be_bytes());
            assert_eq!(decode::<ToReceiver>(&stream[..len as usize + 6], 1000), Err(ProtocolError::TooMuch));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_before_it_is_collected() {
        let front = |kind: u8, len: u32| [&[kind], len.to_be_bytes().as_slice()].concat();
        assert_eq!(decode::<ToReceiver>(&front(99, 0), 1), Err(ProtocolError::Kind(99)));
        assert_eq!(decode::<ToReceiver>(&front(WANT, 0), 1), Err(ProtocolError::Kind(WANT)));
        assert_eq!(decode::<ToReceiver>(&front(OFFER, u32::MAX), 1), Err(ProtocolError::TooMuch));
        assert_eq!(decode::<ToReceiver>(&front(DATA, 0), 1), Err(ProtocolError::TooLittle));
        assert_eq!(decode::<ToSender>(&front(DATA, 0), 1), Err(ProtocolError::Kind(DATA)));
        let hole = [front(HOLE, 8), vec![0; 8]].concat();
        assert_eq!(decode::<ToReceiver>(&hole, 100), Err(ProtocolError::TooLittle));
    }

    #[test]
    fn texts_and_modes_are_bounded() {
        let mut stream = Vec::new();
        ToSender::Refused { entry: 0, why: lost(&"ü".repeat(5000)) }.encode(&mut stream);
        let (messages, _) = decode::<ToSender>(&stream, 1000).unwrap();
        assert_eq!(messages, [ToSender::Refused { entry: 0, why: lost(&"ü".repeat(512)) }]);

        // Each byte that is no character becomes three.
        let mut body = [&[0, 0, 0, 0, Reason::Exists as u8, 4, 0], [0xff; 1024].as_slice()].concat();
        let Ok(ToSender::Refused { mut why, .. }) = ToSender::decode(REFUSED, &body) else { panic!() };
        assert_eq!(&*why.text, "\u{fffd}".repeat(341));
        body.truncate(7);
        let mut texts = Texts { left: why.text.len() + 1 };
        texts.count(&mut why);
        assert_eq!(why.text.len(), 1023);
        texts.count(&mut why);
        assert_eq!(&*why.text, "", "it is too much");

        let mut stream = Vec::new();
        let meta = Meta { mode: 0o7777, mtime: (0, u32::MAX) };
        ToReceiver::End { size: 0, meta, digest: blake3::hash(b"") }.encode(&mut stream);
        let (messages, _) = decode::<ToReceiver>(&stream, 1000).unwrap();
        assert!(matches!(messages[0], ToReceiver::End { meta: Meta { mode: 0o777, mtime: (0, 999_999_999) }, .. }));
    }
}
