//! The bytes between the two ends, without a network: how they are put together and taken apart.
//!
//! One end has files and the other one wants them. The client, who has the ticket, may be either:
//! `send` and `recv`, or `get` and `share`. All of a session goes over one bidirectional stream,
//! which the client opens. All numbers are big-endian.
//!
//! ```text
//! client    magic "sendstream" (10) · version (1) · role (1) · token (16) · session (16) · entries (8) · bytes (8)
//! server    version (1) · known (4) · entries (8) · bytes (8), once the token is right
//! then, in both directions, messages: kind (1) · length (4) · body; see `message`
//! ```
//!
//! `entries` and `bytes` announce what is coming, by the end that sends. A server that receives says 0;
//! a client that receives says in `entries` how many it was told of before in this session.
//!
//! # A file's way
//!
//! Entries (files, directories, links) have numbers, from 0 in the order in which they are first
//! told. The sender tells of up to [`MAX_OPEN`] entries ahead, so no file waits for a round trip:
//!
//! ```text
//! sender                      receiver
//! OFFER  name, size, ...   -> refuses it, or has made the directory or link       KEPT or REFUSED
//!                             has nothing of the file                             WANT from 0
//!                             has as many bytes under its name or in a part file  ASK length
//! PROOF  digest of so many -> has them all                                        KEPT as it was
//!                             has these                                           WANT from there
//!                             has others                                          WANT from 0
//! BEGIN, DATA or HOLE ..., -> stores and hashes it
//! END    size, digest      -> gives it its name                                   KEPT or REFUSED
//! ```
//!
//! A receiver asks for two digests of a file at the most, as long as the connection lasts: of what is
//! under its name, and of a part file. The end that has the bytes tells their digest, and not the one
//! that asks for them: so nobody learns of a file in the receiver's directory but who has it. FAILED
//! takes the place of END, or of BEGIN, when the file cannot be read or changes meanwhile. SKIPPED
//! takes the place of OFFER for what cannot be sent at all. So both ends know of each entry what
//! became of it.
//!
//! DONE follows when every entry is dealt with, and BYE answers it; both end their direction of
//! the stream. A connection that is closed before that broke off. An end that knows of every entry what
//! became of it, and whose peer is gone before DONE or BYE, waits for it, and then counts what it knows: the
//! sender waits some seconds, since the receiver knows the same, and so does the receiver once it has heard
//! DONE; before, it waits as long as the user wants. A client that meets its server again in that state, and
//! finds the session forgotten (`known` is 0), closes the connection with [`Code::Done`] and says nothing: the
//! server counts no session.
//!
//! # When the connection is lost
//!
//! The client comes again with the number of its session, and the server goes on with what it knows:
//! `known` is how many entries the receiver was told of. The sender tells anew of those that are open,
//! with their numbers. `known` is 0 where the server has forgotten the session, and then the sender tells
//! of all of them. A server that sends repeats what its client said, or says 0.
//!
//! What a peer sends is checked here for form: lengths before anything is stored, no byte too many
//! or too few. Whether a name is acceptable is [`SafeName`](crate::name::SafeName)'s to say.

use crate::ticket::Token;

pub(crate) mod message;

/// The protocol's name in the TLS handshake. A change that old peers cannot read gets a new one.
pub(crate) const ALPN: &str = "sendstream-file/2";

/// Whom the receiver's certificate is for. It is trusted by its hash, so this names the service
/// only.
pub(crate) const SERVER_NAME: &str = "sendstream";

/// How much one session may make the two ends remember, and the receiver store beside contents: the
/// sum of [`listing_len`] over its entries and of [`INODE_LEN`] over the directories that are made
/// for them, in bytes. So a session leaves at most a million files and directories (inodes).
pub(crate) const MAX_LISTING_LEN: usize = 64 << 20;

/// What it costs to remember one entry until the session's summary, and to store it.
pub(crate) fn listing_len(name: &[u8]) -> usize {
    name.len() + INODE_LEN
}

/// What an entry counts, beside its name.
pub(crate) const INODE_LEN: usize = 64;

/// The unit in which files are read and sent, in bytes.
pub(crate) const CHUNK_LEN: usize = 256 * 1024;

/// Of how many entries a sender may tell that are not dealt with.
pub(crate) const MAX_OPEN: usize = 1024;

/// Application error codes, on CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// All is done.
    Done = 0,
    /// The user interrupted this end.
    Interrupted = 1,
    /// The token is not the server's.
    WrongToken = 2,
    /// The peer broke this protocol, or speaks another version of it.
    BadMessage = 3,
    /// The peer did not send its hello, or did not say farewell, in time. It may come again.
    TooSlow = 4,
    /// The server serves nobody else.
    Refused = 5,
    /// The same session goes on with another connection.
    Moved = 6,
    /// The server has no room for this client now; it may come again.
    Full = 7,
    /// Both ends want to send, or both to receive.
    SameRole = 8,
    /// The peer did nothing for too long, or held up others. It need not come again: this end has given it up.
    Stalled = 9,
}

impl Code {
    /// The code for the wire.
    pub(crate) fn wire(self) -> u64 {
        self as u64
    }

    /// The code that a peer gave, if it is one of these.
    pub(crate) fn from_wire(code: u64) -> Option<Self> {
        const ALL: [Code; 10] = [
            Code::Done,
            Code::Interrupted,
            Code::WrongToken,
            Code::BadMessage,
            Code::TooSlow,
            Code::Refused,
            Code::Moved,
            Code::Full,
            Code::SameRole,
            Code::Stalled,
        ];
        ALL.into_iter().find(|it| it.wire() == code)
    }
}

/// What a client means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Send = 0,
    Receive = 1,
}

impl Role {
    /// What the server of such a client means to do.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }

    /// What one of this role is called.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Send => "sender",
            Self::Receive => "receiver",
        }
    }

    /// What is typed where such a client finds its server.
    pub(crate) fn server_command(self) -> &'static str {
        match self {
            Self::Send => "sendstream recv",
            Self::Receive => "sendstream share",
        }
    }

    /// What such a client did that was not let in.
    pub(crate) fn nothing(self) -> &'static str {
        match self {
            Self::Send => "nothing was sent",
            Self::Receive => "nothing was received",
        }
    }
}

/// The number of a session, which the client draws. Who knows it, and the token, goes on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    /// Draws a number.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What comes, as the end that sends announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Announced {
    /// How many files, directories and links.
    pub(crate) entries: u64,
    /// How many bytes the files have in all, as far as that is known.
    pub(crate) bytes: u64,
}

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) role: Role,
    pub(crate) token: Token,
    pub(crate) session: SessionId,
    /// What comes, if it is the client that sends. Of one that receives, `entries` is how many it was
    /// told of.
    pub(crate) announced: Announced,
}

impl Hello {
    /// How long every hello is.
    pub(crate) const LEN: usize = MAGIC.len() + 1 + 1 + Token::LEN + 16 + 8 + 8;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(Self::LEN);
        message.extend_from_slice(MAGIC);
        message.extend_from_slice(&[VERSION, self.role as u8]);
        message.extend_from_slice(self.token.as_bytes());
        message.extend_from_slice(&self.session.0);
        message.extend_from_slice(&self.announced.entries.to_be_bytes());
        message.extend_from_slice(&self.announced.bytes.to_be_bytes());
        message
    }

    pub(crate) fn decode(message: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let mut rest = message.as_slice();
        if take::<{ MAGIC.len() }>(&mut rest)? != *MAGIC {
            return Err(ProtocolError::Magic);
        }
        let [version] = take(&mut rest)?;
        check_version(version)?;
        let role = match take(&mut rest)? {
            [0] => Role::Send,
            [1] => Role::Receive,
            [other] => return Err(ProtocolError::Kind(other)),
        };
        Ok(Self {
            role,
            token: Token::from_bytes(take(&mut rest)?),
            session: SessionId(take(&mut rest)?),
            announced: Announced { entries: take_u64(&mut rest)?, bytes: take_u64(&mut rest)? },
        })
    }
}

/// What a server says when the hello was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// How many entries of this session the receiver was told of before, as far as the server knows.
    pub(crate) known: u32,
    /// What comes, if it is the server that sends.
    pub(crate) announced: Announced,
}

impl Welcome {
    pub(crate) const LEN: usize = 1 + 4 + 8 + 8;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = vec![VERSION];
        message.extend_from_slice(&self.known.to_be_bytes());
        message.extend_from_slice(&self.announced.entries.to_be_bytes());
        message.extend_from_slice(&self.announced.bytes.to_be_bytes());
        message
    }

    pub(crate) fn decode(message: [u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let mut rest = message.as_slice();
        let [version] = take(&mut rest)?;
        check_version(version)?;
        let known = u32::from_be_bytes(take(&mut rest)?);
        Ok(Self { known, announced: Announced { entries: take_u64(&mut rest)?, bytes: take_u64(&mut rest)? } })
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
    #[error("it sent less than it announced")]
    TooLittle,
    #[error("it sent more than it announced")]
    TooMuch,
    #[error("it told of entry {0}, which is not its turn")]
    Entry(u32),
    #[error("it told of more entries than may be open at a time")]
    TooManyOpen,
    #[error("it sent content where none belongs")]
    Content,
}

fn check_version(version: u8) -> Result<(), ProtocolError> {
    if version == VERSION { Ok(()) } else { Err(ProtocolError::Version(version)) }
}

/// Takes `N` bytes from the front of `input`.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], ProtocolError> {
    let (taken, rest) = input.split_first_chunk().ok_or(ProtocolError::TooLittle)?;
    *input = rest;
    Ok(*taken)
}

fn take_u64(input: &mut &[u8]) -> Result<u64, ProtocolError> {
    take(input).map(u64::from_be_bytes)
}

const MAGIC: &[u8; 10] = b"sendstream";
const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            role: Role::Receive,
            token: Token::random().unwrap(),
            session: SessionId::random().unwrap(),
            announced: Announced { entries: 3, bytes: u64::MAX },
        }
    }

    #[test]
    fn a_hello_survives_the_round_trip() {
        let hello = hello();
        assert_eq!(Hello::decode(&hello.encode().try_into().unwrap()), Ok(hello));
    }

    #[test]
    fn a_hello_of_another_protocol_or_version_is_told_apart() {
        let hello: [u8; Hello::LEN] = hello().encode().try_into().unwrap();
        let with = |place: usize, byte: u8| {
            let mut other = hello;
            other[place] = byte;
            Hello::decode(&other)
        };
        assert_eq!(with(0, b'S'), Err(ProtocolError::Magic));
        assert_eq!(with(MAGIC.len(), VERSION + 1), Err(ProtocolError::Version(VERSION + 1)));
        assert_eq!(with(MAGIC.len() + 1, 2), Err(ProtocolError::Kind(2)));
    }

    #[test]
    fn a_welcome_survives_the_round_trip() {
        let welcome = Welcome { known: 7, announced: Announced { entries: 1, bytes: 2 } };
        let message: [u8; Welcome::LEN] = welcome.encode().try_into().unwrap();
        assert_eq!(Welcome::decode(message), Ok(welcome));
        let mut newer = message;
        newer[0] = 9;
        assert_eq!(Welcome::decode(newer), Err(ProtocolError::Version(9)));
    }

    #[test]
    fn codes_survive_the_round_trip() {
        for code in 0..10 {
            assert_eq!(Code::from_wire(code).unwrap().wire(), code);
        }
        assert_eq!(Code::from_wire(10), None);
    }
}
