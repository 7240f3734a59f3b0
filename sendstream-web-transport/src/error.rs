//! Why a session, a stream or a request ended.
//!
//! Sendstream's enums are `#[non_exhaustive]`, so the compiler wants a last arm of each `match`; a test
//! here finds variants that would reach it.

use sendstream::{ConnectionError, NativeError, OpenError, ReadError, SendDatagramError, StartError, WriteError};
use web_transport_proto::{ConnectError, Frame, SettingsError, error_from_http3, error_to_http3, http::StatusCode};

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer closed the session. A peer that only finished it, or dropped its last handle, gave
    /// code 0 and no reason.
    #[error("closed by the peer with code {code}{}", Suffix(.reason))]
    #[non_exhaustive]
    Closed {
        /// The peer's code.
        code: u32,
        /// The peer's reason, at most 1024 bytes. It is as the peer wrote it: show it with
        /// [`sendstream::Printable`].
        reason: String,
    },
    /// This side closed the session.
    #[error("closed by this side with code {code}{}", Suffix(.reason))]
    #[non_exhaustive]
    ClosedHere {
        /// The code that was sent.
        code: u32,
        /// The reason that was sent.
        reason: String,
    },
    /// The peer gave the session up without a code of WebTransport's: it reset the CONNECT stream.
    #[error("reset by the peer with the HTTP/3 code {code:#x}")]
    #[non_exhaustive]
    Reset {
        /// The code of the reset (RFC 9114 §8.1).
        code: u64,
    },
    /// The peer broke HTTP/3's rules, or WebTransport's. This side closed the connection.
    #[error("the peer broke the protocol: {what} ({code:#x})")]
    #[non_exhaustive]
    Protocol {
        /// The code that the connection was closed with (RFC 9114 §8.1).
        code: u64,
        /// What the peer did.
        what: &'static str,
    },
    /// The connection ended.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// The datagram was not taken.
    #[error(transparent)]
    Datagram(SendDatagramError),
    /// MsQuic or the system failed: out of memory, mostly.
    #[error("MsQuic failed: {0}")]
    Native(#[source] NativeError),
    /// Something that this version of the crate does not know.
    #[error("{0}")]
    Other(String),
}

impl SessionError {
    fn other(error: &dyn std::error::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// A reason after a colon, if there is one.
struct Suffix<'a>(&'a str);

impl std::fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", sendstream::Printable::new(self.0)) }
    }
}

impl web_transport_trait::Error for SessionError {
    fn session_error(&self) -> Option<(u32, String)> {
        match self {
            Self::Closed { code, reason } | Self::ClosedHere { code, reason } => Some((*code, reason.clone())),
            Self::ConnectionLost(error) => session_error(error),
            Self::Reset { code } => error_from_http3(*code).map(|code| (code, String::new())),
            Self::Protocol { .. } | Self::Datagram(_) | Self::Native(_) | Self::Other(_) => None,
        }
    }
}

/// Peers that close the connection in place of the session give the session's code so.
fn session_error(error: &ConnectionError) -> Option<(u32, String)> {
    match error {
        ConnectionError::ApplicationClosed { code, reason, .. }
        | ConnectionError::LocallyClosed { code, reason, .. } => {
            error_from_http3(*code).map(|code| (code, reason.to_string()))
        }
        ConnectionError::TransportClosed { .. }
        | ConnectionError::TimedOut(_)
        | ConnectionError::Refused
        | ConnectionError::CertificateRefused(_)
        | ConnectionError::Tls { .. }
        | ConnectionError::VersionMismatch
        | ConnectionError::Unreachable
        | ConnectionError::System(_)
        | ConnectionError::Forked => None,
        _ => None,
    }
}

impl From<ConnectionError> for SessionError {
    fn from(error: ConnectionError) -> Self {
        Self::ConnectionLost(error)
    }
}

/// Why nothing more can be sent on a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer wants no more. `None` is a code that is none of WebTransport's.
    #[error("stopped by the peer{}", Code(.0))]
    Stopped(Option<u32>),
    /// This side reset the stream.
    #[error("reset by this side")]
    Reset,
    /// This side has finished the stream already.
    #[error("the stream is finished already")]
    Finished,
    /// The session ended.
    #[error(transparent)]
    Session(SessionError),
}

/// Why nothing more can be read from a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer reset the stream. `None` is a code that is none of WebTransport's.
    #[error("reset by the peer{}", Code(.0))]
    Reset(Option<u32>),
    /// This side stopped reading.
    #[error("stopped by this side")]
    Stopped,
    /// The session ended.
    #[error(transparent)]
    Session(SessionError),
}

/// A stream's code, if there is one.
struct Code<'a>(&'a Option<u32>);

impl std::fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " with code {code}"))
    }
}

impl web_transport_trait::Error for SendError {
    fn session_error(&self) -> Option<(u32, String)> {
        match self {
            Self::Session(error) => error.session_error(),
            Self::Stopped(_) | Self::Reset | Self::Finished => None,
        }
    }

    fn stream_error(&self) -> Option<u32> {
        match self {
            Self::Stopped(code) => *code,
            Self::Reset | Self::Finished | Self::Session(_) => None,
        }
    }
}

impl web_transport_trait::Error for RecvError {
    fn session_error(&self) -> Option<(u32, String)> {
        match self {
            Self::Session(error) => error.session_error(),
            Self::Reset(_) | Self::Stopped => None,
        }
    }

    fn stream_error(&self) -> Option<u32> {
        match self {
            Self::Reset(code) => *code,
            Self::Stopped | Self::Session(_) => None,
        }
    }
}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped(error_from_http3(code)),
            // Codes of WebTransport's are in range.
            WriteError::Reset(_) | WriteError::CodeOutOfRange(_) => Self::Reset,
            WriteError::Finished => Self::Finished,
            WriteError::Start(error) => error.into(),
            WriteError::ConnectionLost(error) => Self::Session(error.into()),
            WriteError::Native(error) => Self::Session(SessionError::Native(error)),
            error => Self::Session(SessionError::other(&error)),
        }
    }
}

impl From<StartError> for SendError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Stopped(code) => Self::Stopped(error_from_http3(code)),
            // No start is told not to wait, and none comes after a reset or FIN.
            StartError::Reset(_) | StartError::LimitReached => Self::Reset,
            StartError::Finished => Self::Finished,
            StartError::ConnectionLost(error) => Self::Session(error.into()),
            StartError::Native(error) => Self::Session(SessionError::Native(error)),
            error => Self::Session(SessionError::other(&error)),
        }
    }
}

impl From<ReadError> for RecvError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(error_from_http3(code)),
            // A bidirectional stream that was reset before it started is over for both halves.
            ReadError::Stopped(_) | ReadError::NotStarted => Self::Stopped,
            ReadError::ConnectionLost(error) => Self::Session(error.into()),
            ReadError::Native(error) => Self::Session(SessionError::Native(error)),
            error => Self::Session(SessionError::other(&error)),
        }
    }
}

impl From<OpenError> for SessionError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::ConnectionLost(error) => error.into(),
            // The caller waits for the cause, which comes this moment.
            error @ OpenError::ConnectionEnding => Self::other(&error),
            OpenError::Native(error) => Self::Native(error),
            error => Self::other(&error),
        }
    }
}

impl From<SendDatagramError> for SessionError {
    fn from(error: SendDatagramError) -> Self {
        match error {
            SendDatagramError::ConnectionLost(error) => error.into(),
            error @ (SendDatagramError::TooLarge { .. } | SendDatagramError::UnsupportedByPeer) => {
                Self::Datagram(error)
            }
            SendDatagramError::Native(error) => Self::Native(error),
            error => Self::Datagram(error),
        }
    }
}

/// What only the session's end knows better.
impl From<SendError> for SessionError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Session(error) => error,
            error @ (SendError::Stopped(_) | SendError::Reset | SendError::Finished) => Self::other(&error),
        }
    }
}

/// Why there is no session with the peer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer speaks HTTP/3, and no WebTransport.
    #[error("the peer does not offer WebTransport")]
    Unsupported,
    /// The server answered with another status than a success.
    #[error("the server refused the session with status {0}")]
    Refused(StatusCode),
    /// This side's request or answer cannot be written: a field that is no text, or more than 16 KiB of
    /// them, a subprotocol that is not printable ASCII, a URL with a user or a password. Nothing was sent.
    #[error("it cannot be sent: {0}")]
    Invalid(#[source] ConnectError),
    /// The server chose a subprotocol that was not asked for.
    #[error("the server chose a subprotocol that was not asked for")]
    WrongProtocol,
    /// The session ended before it began.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<ConnectionError> for HandshakeError {
    fn from(error: ConnectionError) -> Self {
        Self::Session(error.into())
    }
}

/// The code of a stream, on the wire.
pub(crate) fn stream_code(code: u32) -> u64 {
    error_to_http3(code)
}

/// HTTP/3's own codes (RFC 9114 §8.1, RFC 9204 §6), and WebTransport's.
pub(crate) mod h3 {
    pub(crate) const NO_ERROR: u64 = 0x100;
    pub(crate) const STREAM_CREATION_ERROR: u64 = 0x103;
    pub(crate) const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    pub(crate) const FRAME_UNEXPECTED: u64 = 0x105;
    pub(crate) const FRAME_ERROR: u64 = 0x106;
    pub(crate) const EXCESSIVE_LOAD: u64 = 0x107;
    pub(crate) const SETTINGS_ERROR: u64 = 0x109;
    pub(crate) const MISSING_SETTINGS: u64 = 0x10a;
    pub(crate) const REQUEST_REJECTED: u64 = 0x10b;
    pub(crate) const REQUEST_CANCELLED: u64 = 0x10c;
    pub(crate) const REQUEST_INCOMPLETE: u64 = 0x10d;
    pub(crate) const MESSAGE_ERROR: u64 = 0x10e;
    pub(crate) const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
    /// A stream of a session that is not here.
    pub(crate) const BUFFERED_STREAM_REJECTED: u64 = 0x3994_bd84;
}

/// What the peer did, and the code for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u64,
    pub(crate) what: &'static str,
}

impl Violation {
    pub(crate) const fn new(code: u64, what: &'static str) -> Self {
        Self { code, what }
    }

    /// Of the peer's SETTINGS.
    pub(crate) fn of_settings(error: &SettingsError) -> Self {
        match error {
            SettingsError::UnexpectedFrame(Frame::SETTINGS) => Self::new(h3::FRAME_UNEXPECTED, "SETTINGS came twice"),
            SettingsError::UnexpectedFrame(_) => Self::new(h3::MISSING_SETTINGS, "another frame came before SETTINGS"),
            SettingsError::InvalidSize => Self::new(h3::FRAME_ERROR, "a setting was cut off"),
            SettingsError::FrameTooLarge => Self::new(h3::EXCESSIVE_LOAD, "SETTINGS were too large"),
            SettingsError::UnexpectedEnd | SettingsError::Io(_) => {
                Self::new(h3::CLOSED_CRITICAL_STREAM, "the control stream ended")
            }
            _ => Self::new(h3::SETTINGS_ERROR, "SETTINGS were wrong"),
        }
    }

    /// Of the headers of a request or an answer. `Err` is a fault of one stream.
    pub(crate) fn of_headers(error: &ConnectError) -> Result<Self, Self> {
        let message = Self::new(h3::MESSAGE_ERROR, "a request or an answer was malformed");
        match error {
            ConnectError::UnexpectedFrame(_) => {
                Ok(Self::new(h3::FRAME_UNEXPECTED, "another frame came before HEADERS"))
            }
            ConnectError::QpackError(_) => {
                Ok(Self::new(h3::QPACK_DECOMPRESSION_FAILED, "a header block could not be decoded"))
            }
            ConnectError::UnexpectedEnd | ConnectError::Io(_) => {
                Err(Self::new(h3::REQUEST_INCOMPLETE, "a request or an answer ended early"))
            }
            ConnectError::FrameTooLarge | ConnectError::FieldSectionTooLarge => {
                Err(Self::new(h3::EXCESSIVE_LOAD, "a request or an answer was too large"))
            }
            ConnectError::InvalidMethod
            | ConnectError::InvalidUrl(_)
            | ConnectError::InvalidStatus
            | ConnectError::WrongStatus(_)
            | ConnectError::WrongMethod(_)
            | ConnectError::WrongScheme(_)
            | ConnectError::WrongAuthority
            | ConnectError::WrongProtocol(_)
            | ConnectError::WrongPath
            | ConnectError::InvalidProtocol
            | ConnectError::StructuredFieldError(_)
            | ConnectError::ErrorStatus(_)
            | ConnectError::InvalidHttpHeaderValue
            | ConnectError::InvalidHttpHeaderName => Err(message),
            _ => Err(message),
        }
    }
}

impl From<Violation> for SessionError {
    fn from(violation: Violation) -> Self {
        Self::Protocol { code: violation.code, what: violation.what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use web_transport_trait::Error as _;

    /// The variants of `pub enum name` in Rust source.
    fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
        let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        lines
            .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
            .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap())
            .collect()
    }

    #[test]
    fn every_error_of_sendstream_is_mapped_by_its_name() {
        let mapping = include_str!("error.rs");
        for (name, source) in [
            ("ConnectionError", include_str!("../../sendstream/src/types/error.rs")),
            ("OpenError", include_str!("../../sendstream/src/connection.rs")),
            ("StartError", include_str!("../../sendstream/src/send_stream.rs")),
            ("WriteError", include_str!("../../sendstream/src/send_stream.rs")),
            ("ReadError", include_str!("../../sendstream/src/recv_stream.rs")),
            ("SendDatagramError", include_str!("../../sendstream/src/datagram.rs")),
        ] {
            let variants = variants(source, name);
            assert!(variants.len() >= 3, "{name}: {variants:?}");
            for variant in variants {
                assert!(mapping.contains(&format!("{name}::{variant}")), "{name}::{variant} is not mapped");
            }
        }
    }

    #[test]
    fn codes_of_sessions_and_streams_are_told_and_no_others() {
        let closed = SessionError::Closed { code: 7, reason: "done".into() };
        assert_eq!(closed.session_error(), Some((7, "done".into())));
        assert_eq!(SendError::Session(closed).session_error(), Some((7, "done".into())));
        assert_eq!(SendError::from(WriteError::Stopped(stream_code(u32::MAX))).stream_error(), Some(u32::MAX));
        assert_eq!(SendError::from(WriteError::Stopped(h3::NO_ERROR)).stream_error(), None);
        assert_eq!(RecvError::from(ReadError::Reset(stream_code(5))).stream_error(), Some(5));
        let lost = SessionError::from(ConnectionError::TimedOut(sendstream::Timeout::Idle));
        assert_eq!((lost.session_error(), lost.stream_error()), (None, None));
    }
}
