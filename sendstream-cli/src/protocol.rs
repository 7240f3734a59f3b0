//! The bytes between the two ends, without a network: how they are put together and taken apart.
//!
//! The sender is the QUIC client. All streams are bidirectional and opened by the sender; all
//! numbers are big-endian.
//!
//! ```text
//! first stream, "control":
//!   sender    magic "sendstream" (10) · version (1) · token (16) · files (8) · bytes (8)           FIN when all is said
//!   receiver  version (1), once the token is right                     FIN when every file of the session is dealt with
//!
//! one stream per file:
//!   sender    kind (1) · name length (2) · name · size (8) · content (size) · BLAKE3 of the content (32)   FIN
//!   receiver  verdict (1) · text length (2) · text                                                        FIN
//! ```
//!
//! The digest comes last so that a file is read once, hashed while it is sent. `files` and `bytes`
//! announce what is coming for the progress display and promise nothing. A receiver that does not
//! want a file sends its verdict at once and asks the sender to stop (STOP_SENDING); a sender that
//! cannot read a file to its end resets its stream. A connection that is closed before the sender's
//! FIN on the control stream was a session that broke off.
//!
//! What a peer sends is checked here for form: lengths before anything is stored, no byte too many
//! or too few. Whether a name is acceptable is [`SafeName`]'s to say.

use crate::{
    name::{NameError, SafeName},
    ticket::Token,
};

/// The protocol's name in the TLS handshake. A change that old peers cannot read gets a new one.
pub(crate) const ALPN: &str = "sendstream-file/1";

/// Whom the receiver's certificate is for. It is trusted by its hash, so this names the service
/// only.
pub(crate) const SERVER_NAME: &str = "sendstream";

/// How much one session may make the two ends remember, and the receiver store beside contents: the
/// sum of [`listing_len`] over its files and of [`INODE_LEN`] over the directories that are made for
/// them, in bytes. So a session leaves at most a million files and directories (inodes).
pub(crate) const MAX_LISTING_LEN: usize = 64 << 20;

/// What it costs to remember one file until the session's summary, and to store it.
pub(crate) fn listing_len(name: &str) -> usize {
    name.len() + INODE_LEN
}

/// What a file or directory counts, beside its name.
pub(crate) const INODE_LEN: usize = 64;

/// The unit in which files are read and sent, in bytes.
pub(crate) const CHUNK_LEN: usize = 256 * 1024;

/// Application error codes, on CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// All is done.
    Done = 0,
    /// The user interrupted this end.
    Interrupted = 1,
    /// The token is not the receiver's.
    WrongToken = 2,
    /// The peer broke this protocol, or speaks another version of it.
    BadMessage = 3,
    /// The peer did not send its hello, or did not end the session, in time.
    TooSlow = 4,
    /// The receiver does not want this file; its verdict says why.
    Refused = 5,
    /// The sender cannot read the file to its end.
    Unreadable = 6,
    /// The receiver has no room for this sender now; it may come again.
    Full = 7,
}

impl Code {
    /// The code for the wire.
    pub(crate) fn wire(self) -> u64 {
        self as u64
    }

    /// The code that a peer gave, if it is one of these.
    pub(crate) fn from_wire(code: u64) -> Option<Self> {
        const ALL: [Code; 8] = [
            Code::Done,
            Code::Interrupted,
            Code::WrongToken,
            Code::BadMessage,
            Code::TooSlow,
            Code::Refused,
            Code::Unreadable,
            Code::Full,
        ];
        ALL.into_iter().find(|it| it.wire() == code)
    }
}

/// What a sender says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) token: Token,
    /// How many files the sender means to send.
    pub(crate) files: u64,
    /// How many bytes they have in all.
    pub(crate) bytes: u64,
}

impl Hello {
    /// How long every hello is.
    pub(crate) const LEN: usize = MAGIC.len() + 1 + Token::LEN + 8 + 8;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut message = [0; Self::LEN];
        let mut rest = message.as_mut_slice();
        for field in
            [MAGIC.as_slice(), &[VERSION], self.token.as_bytes(), &self.files.to_be_bytes(), &self.bytes.to_be_bytes()]
        {
            let (place, after) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        }
        message
    }

    pub(crate) fn decode(message: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let mut rest = message.as_slice();
        if take::<{ MAGIC.len() }>(&mut rest)? != *MAGIC {
            return Err(ProtocolError::Magic);
        }
        let [version] = take(&mut rest)?;
        check_version(version)?;
        Ok(Self {
            token: Token::from_bytes(take(&mut rest)?),
            files: u64::from_be_bytes(take(&mut rest)?),
            bytes: u64::from_be_bytes(take(&mut rest)?),
        })
    }
}

/// What a receiver says when the hello was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Welcome;

impl Welcome {
    pub(crate) const LEN: usize = 1;

    pub(crate) fn encode() -> [u8; Self::LEN] {
        [VERSION]
    }

    pub(crate) fn decode([version]: [u8; Self::LEN]) -> Result<Self, ProtocolError> {
        check_version(version).map(|()| Self)
    }
}

/// What precedes a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) name: SafeName,
    /// The length of the content in bytes.
    pub(crate) size: u64,
}

impl FileHeader {
    /// Appends the header to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let name = self.name.as_str().as_bytes();
        let name_len = u16::try_from(name.len()).expect("a safe name is at most 4096 bytes long");
        out.push(KIND_FILE);
        out.extend_from_slice(&name_len.to_be_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(&self.size.to_be_bytes());
    }
}

/// Takes a file's stream apart, however the network cut it into chunks.
#[derive(Debug)]
pub(crate) struct FileDecoder {
    /// The bytes of a header or a digest that is not complete yet.
    partial: Vec<u8>,
    expects: Expects,
}

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The header; once, before everything else.
    Header(FileHeader),
    /// Some of the content, never empty.
    Content(&'a [u8]),
    /// What the sender says is the content's digest; once, after all of the content.
    Digest(blake3::Hash),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Header,
    Content { left: u64 },
    Digest,
    End,
}

impl FileDecoder {
    pub(crate) fn new() -> Self {
        Self { partial: Vec::new(), expects: Expects::Header }
    }

    /// Takes the next part from the front of `input`; `None` if more input is needed, and then
    /// `input` is empty.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, ProtocolError> {
        match self.expects {
            Expects::Header => self.next_header(input),
            Expects::Content { left } => Ok(self.next_content(input, left)),
            Expects::Digest => Ok(self.next_digest(input)),
            Expects::End if input.is_empty() => Ok(None),
            Expects::End => Err(ProtocolError::TooMuch),
        }
    }

    /// Says whether the stream may end here.
    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        if self.expects == Expects::End { Ok(()) } else { Err(ProtocolError::TooLittle) }
    }

    fn next_header(&mut self, input: &mut &[u8]) -> Result<Option<Part<'static>>, ProtocolError> {
        // The header's length depends on the name's, so the fixed part in front is collected first.
        if !self.collect(input, HEADER_FRONT_LEN) {
            return Ok(None);
        }
        let [kind, high, low] = take(&mut self.partial.as_slice())?;
        if kind != KIND_FILE {
            return Err(ProtocolError::Kind(kind));
        }
        let name_len = usize::from(u16::from_be_bytes([high, low]));
        if name_len > SafeName::MAX_LEN {
            return Err(ProtocolError::Name(NameError::TooLong));
        }
        if !self.collect(input, HEADER_FRONT_LEN + name_len + 8) {
            return Ok(None);
        }
        let (name, mut size) = self.partial[HEADER_FRONT_LEN..].split_at(name_len);
        let name = str::from_utf8(name).map_err(|_| NameError::NotUtf8)?.parse()?;
        let size = u64::from_be_bytes(take(&mut size)?);
        self.partial = Vec::new();
        self.expects = Expects::after_header(size);
        Ok(Some(Part::Header(FileHeader { name, size })))
    }

    fn next_content<'a>(&mut self, input: &mut &'a [u8], left: u64) -> Option<Part<'a>> {
        if input.is_empty() {
            return None;
        }
        let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (content, rest) = input.split_at(len);
        *input = rest;
        self.expects = Expects::after_header(left - len as u64);
        Some(Part::Content(content))
    }

    fn next_digest(&mut self, input: &mut &[u8]) -> Option<Part<'static>> {
        if !self.collect(input, blake3::OUT_LEN) {
            return None;
        }
        let digest = take(&mut self.partial.as_slice()).ok()?;
        self.partial = Vec::new();
        self.expects = Expects::End;
        Some(Part::Digest(blake3::Hash::from_bytes(digest)))
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

impl Expects {
    fn after_header(left: u64) -> Self {
        if left == 0 { Self::Digest } else { Self::Content { left } }
    }
}

/// What the receiver answers to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file is complete, checked, and has its name.
    Kept,
    /// It is not, for this reason.
    Refused(String),
}

impl Verdict {
    /// The longest verdict in bytes.
    pub(crate) const MAX_LEN: usize = 3 + Self::MAX_TEXT_LEN;
    const MAX_TEXT_LEN: usize = 1024;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (status, text) = match self {
            Self::Kept => (STATUS_KEPT, ""),
            Self::Refused(text) => (STATUS_REFUSED, truncate(text, Self::MAX_TEXT_LEN)),
        };
        let mut message = vec![status];
        message.extend_from_slice(&(text.len() as u16).to_be_bytes());
        message.extend_from_slice(text.as_bytes());
        message
    }

    pub(crate) fn decode(mut message: &[u8]) -> Result<Self, ProtocolError> {
        let [status] = take(&mut message)?;
        let text_len = usize::from(u16::from_be_bytes(take(&mut message)?));
        match message.len() {
            len if len < text_len => return Err(ProtocolError::TooLittle),
            len if len > text_len => return Err(ProtocolError::TooMuch),
            _ => {}
        }
        match status {
            STATUS_KEPT => Ok(Self::Kept),
            STATUS_REFUSED => Ok(Self::Refused(String::from_utf8_lossy(message).into_owned())),
            status => Err(ProtocolError::Status(status)),
        }
    }
}

/// How a peer broke this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("it does not speak Sendstream's protocol")]
    Magic,
    #[error("it speaks version {0} of the protocol, this is version {VERSION}; install the same release at both ends")]
    Version(u8),
    #[error("it sent a message of the unknown kind {0}")]
    Kind(u8),
    #[error("it answered with the unknown status {0}")]
    Status(u8),
    #[error("it sent less than it announced")]
    TooLittle,
    #[error("it sent more than it announced")]
    TooMuch,
    #[error("the name {0}")]
    Name(#[from] NameError),
}

fn check_version(version: u8) -> Result<(), ProtocolError> {
    if version == VERSION { Ok(()) } else { Err(ProtocolError::Version(version)) }
}

/// The longest beginning of `text` that has at most `len` bytes and ends between two characters.
fn truncate(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Takes `N` bytes from the front of `input`.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], ProtocolError> {
    let (taken, rest) = input.split_first_chunk().ok_or(ProtocolError::TooLittle)?;
    *input = rest;
    Ok(*taken)
}

const MAGIC: &[u8; 10] = b"sendstream";
const VERSION: u8 = 1;
const KIND_FILE: u8 = 1;
const HEADER_FRONT_LEN: usize = 3;
const STATUS_KEPT: u8 = 0;
const STATUS_REFUSED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> Vec<u8> {
        let mut stream = Vec::new();
        FileHeader { name: name.parse().unwrap(), size: content.len() as u64 }.encode(&mut stream);
        stream.extend_from_slice(content);
        stream.extend_from_slice(blake3::hash(content).as_bytes());
        stream
    }

    /// Feeds `stream` in pieces of `step` bytes and returns what came out: name, size, content,
    /// digest.
    fn decode(stream: &[u8], step: usize) -> Result<(FileHeader, Vec<u8>, blake3::Hash), ProtocolError> {
        let (mut header, mut content, mut digest) = (None, Vec::new(), None);
        let mut decoder = FileDecoder::new();
        for mut input in stream.chunks(step) {
            while let Some(part) = decoder.next(&mut input)? {
                match part {
                    Part::Header(it) => assert_eq!(header.replace(it), None),
                    Part::Content(bytes) => {
                        assert!(header.is_some() && digest.is_none() && !bytes.is_empty());
                        content.extend_from_slice(bytes);
                    }
                    Part::Digest(it) => assert_eq!(digest.replace(it), None),
                }
            }
            assert!(input.is_empty());
        }
        decoder.end()?;
        Ok((header.unwrap(), content, digest.unwrap()))
    }

    #[test]
    fn a_hello_survives_the_round_trip() {
        let hello = Hello { token: Token::random().unwrap(), files: 3, bytes: u64::MAX };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }

    #[test]
    fn a_hello_of_another_protocol_or_version_is_told_apart() {
        let hello = Hello { token: Token::random().unwrap(), files: 0, bytes: 0 }.encode();
        let mut foreign = hello;
        foreign[0] ^= 1;
        assert_eq!(Hello::decode(&foreign), Err(ProtocolError::Magic));
        let mut newer = hello;
        newer[MAGIC.len()] = VERSION + 1;
        assert_eq!(Hello::decode(&newer), Err(ProtocolError::Version(VERSION + 1)));
        assert_eq!(Welcome::decode(Welcome::encode()), Ok(Welcome));
        assert_eq!(Welcome::decode([9]), Err(ProtocolError::Version(9)));
    }

    #[test]
    fn a_file_is_read_alike_however_the_network_cuts_it() {
        for content in [&b""[..], b"x", &[7; 1000]] {
            let stream = file("some dir/ü 1.txt", content);
            for step in 1..=stream.len() {
                let (header, received, digest) = decode(&stream, step).unwrap();
                assert_eq!(header.name.as_str(), "some dir/ü 1.txt");
                assert_eq!(header.size, content.len() as u64);
                assert_eq!(received, content);
                assert_eq!(digest, blake3::hash(content));
            }
        }
    }

    #[test]
    fn a_file_may_end_nowhere_but_at_its_end() {
        let stream = file("x", b"content");
        for len in 1..stream.len() {
            assert_eq!(decode(&stream[..len], 5), Err(ProtocolError::TooLittle), "{len}");
        }
        assert_eq!(FileDecoder::new().end(), Err(ProtocolError::TooLittle));
        for step in [1, 1000] {
            assert_eq!(decode(&[&stream[..], b"!"].concat(), step), Err(ProtocolError::TooMuch));
        }
    }

    #[test]
    fn bad_headers_are_refused_before_anything_is_stored() {
        let header = |kind: u8, name: &[u8]| {
            let mut stream = vec![kind];
            stream.extend_from_slice(&(name.len() as u16).to_be_bytes());
            stream.extend_from_slice(name);
            stream.extend_from_slice(&0u64.to_be_bytes());
            decode(&stream, 1).unwrap_err()
        };
        assert_eq!(header(2, b"x"), ProtocolError::Kind(2));
        assert_eq!(header(KIND_FILE, b""), ProtocolError::Name(NameError::Empty));
        assert_eq!(header(KIND_FILE, b"\xff"), ProtocolError::Name(NameError::NotUtf8));
        assert_eq!(header(KIND_FILE, b"../x"), ProtocolError::Name(NameError::Dots));
        // The length alone is enough to refuse it.
        assert_eq!(decode(&[KIND_FILE, 0xff, 0xff], 3), Err(ProtocolError::Name(NameError::TooLong)));
    }

    #[test]
    fn a_size_near_the_top_of_u64_is_only_a_number() {
        let mut stream = Vec::new();
        FileHeader { name: "x".parse().unwrap(), size: u64::MAX }.encode(&mut stream);
        stream.extend_from_slice(&[0; 100]);
        assert_eq!(decode(&stream, 10), Err(ProtocolError::TooLittle));
    }

    #[test]
    fn verdicts_survive_the_round_trip_and_are_bounded() {
        for verdict in [Verdict::Kept, Verdict::Refused(String::new()), Verdict::Refused("disk full – ü".to_owned())]
        {
            assert_eq!(Verdict::decode(&verdict.encode()), Ok(verdict));
        }
        let long = Verdict::Refused("ü".repeat(5000)).encode();
        assert!(long.len() <= Verdict::MAX_LEN);
        assert!(matches!(Verdict::decode(&long), Ok(Verdict::Refused(text)) if text == "ü".repeat(512)));
    }

    #[test]
    fn malformed_verdicts_are_refused() {
        assert_eq!(Verdict::decode(&[]), Err(ProtocolError::TooLittle));
        assert_eq!(Verdict::decode(&[0, 0]), Err(ProtocolError::TooLittle));
        assert_eq!(Verdict::decode(&[1, 0, 2, b'x']), Err(ProtocolError::TooLittle));
        assert_eq!(Verdict::decode(&[0, 0, 0, b'x']), Err(ProtocolError::TooMuch));
        assert_eq!(Verdict::decode(&[2, 0, 0]), Err(ProtocolError::Status(2)));
    }

    #[test]
    fn codes_survive_the_round_trip() {
        for code in 0..8 {
            assert_eq!(Code::from_wire(code).unwrap().wire(), code);
        }
        assert_eq!(Code::from_wire(8), None);
    }
}
