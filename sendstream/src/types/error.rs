//! Errors shared by all of the crate: what ended a connection or a task on it, and MsQuic's own
//! status codes.
//!
//! Each operation has its own enum beside it (`WriteError` in `send_stream.rs`, `ReadError` in
//! `recv_stream.rs`, ...); the ones here are the causes that those carry.

use std::{any::Any, fmt, io, sync::Arc};

use sendstream_core::stream::cause::Status;

use crate::types::{
    code::{Alert, TransportCode},
    status,
    system::SystemError,
    text::Printable,
    tls::error::CertificateRefusal,
};

/// What ended a connection. One cause per connection: the first that was recorded.
///
/// Every stream, every pending future and [`Connection::closed`](crate::Connection::closed) of one
/// connection report the same cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer's application closed the connection (CONNECTION_CLOSE of type 0x1d, RFC 9000
    /// §19.19).
    #[error("closed by the peer's application with code {code}{}", ReasonSuffix(.reason))]
    #[non_exhaustive]
    ApplicationClosed {
        /// The code that the peer's application gave.
        code: u64,
        /// The peer's reason phrase; empty when it gave none. Bytes outside UTF-8 are replaced. It is
        /// as the peer wrote it: show it with [`Printable`].
        reason: Arc<str>,
    },
    /// This side's application closed the connection, or dropped its last handle.
    #[error("closed by this side's application with code {code}{}", ReasonSuffix(.reason))]
    #[non_exhaustive]
    LocallyClosed {
        /// The code that was sent to the peer.
        code: u64,
        /// The reason phrase that was sent to the peer; empty where there was none.
        reason: Arc<str>,
    },
    /// A transport closed the connection (CONNECTION_CLOSE of type 0x1c): the peer's, or MsQuic on
    /// this side, because the other broke the protocol. MsQuic does not tell which of the two it
    /// was. What the system on this side refused is [`ConnectionError::System`].
    #[error("closed by the transport with {}", TransportCode(*.code))]
    #[non_exhaustive]
    TransportClosed {
        /// The transport error code of RFC 9000 §20.1.
        code: u64,
        /// MsQuic's name for it.
        status: NativeError,
    },
    /// One of the connection's times was over before the peer answered. Before the handshake is done
    /// also: the server's application did not accept in time, which ends the connection on either
    /// side.
    #[error("timed out: {0}")]
    TimedOut(Timeout),
    /// The peer's application or transport refused the connection before the handshake was done. A
    /// server's transport refuses it when the backlog is full, or when its machine is busy for many
    /// seconds.
    #[error("refused by the peer")]
    Refused,
    /// This side does not believe the peer's certificate: [`Trust`](crate::Trust) says why. The
    /// peer gets [`ConnectionError::Tls`] with [`CertificateRefusal::alert`].
    #[error("the peer is not believed: {0}")]
    CertificateRefused(#[source] CertificateRefusal),
    /// The TLS handshake failed: the peer found fault with this side's certificate or wants one,
    /// the two have nothing in common, or the peer broke the protocol. If this side refused the
    /// peer's certificate, the error is [`ConnectionError::CertificateRefused`].
    #[error("TLS failed with alert {}{}", Alert(*.alert), AlertSuffix(*.alert, .protocols.as_deref()))]
    #[non_exhaustive]
    Tls {
        /// The TLS alert of RFC 8446 §6: 42 bad certificate, 48 unknown CA, 116 certificate
        /// required, 120 no common ALPN, ...
        alert: u8,
        /// MsQuic's name for it.
        status: NativeError,
        /// With alert 120: which application protocols were to be had.
        protocols: Option<Arc<NoCommonProtocol>>,
    },
    /// Client and server share no version of QUIC.
    #[error("no QUIC version in common with the peer")]
    VersionMismatch,
    /// Nobody listens at the peer's address, or a host on the way says that it leads nowhere, in an
    /// ICMP packet. Anybody on the path can say so, and it counts only before the peer's first
    /// packet.
    #[error("the peer's address is unreachable: check that the server runs there, and the network between")]
    Unreachable,
    /// The system on this side refused something, mostly the socket of a client.
    #[error(transparent)]
    System(#[from] SystemError),
    /// This process was forked from the one that used the library first. See the documentation of
    /// the crate, *Forks*.
    #[error("{}", NativeError::FORKED)]
    Forked,
}

impl ConnectionError {
    /// The cause behind what a shutdown event says.
    ///
    /// `code` is MsQuic's close code: the application's when `by_app`, a transport code otherwise.
    pub(crate) fn from_shutdown(by_app: bool, by_peer: bool, code: u64, status: NativeError) -> Self {
        match (by_app, by_peer) {
            (true, true) => Self::ApplicationClosed { code, reason: Arc::from("") },
            (true, false) => Self::LocallyClosed { code, reason: Arc::default() },
            (false, _) => Self::from_transport(code, status),
        }
    }

    /// The same, told before the handshake was done: MsQuic's idle timeout is another then, and a
    /// failure to agree on a protocol has these.
    pub(crate) fn before_the_handshake(self, no_common: impl FnOnce() -> Option<NoCommonProtocol>) -> Self {
        match self {
            Self::TimedOut(Timeout::Idle) => Self::TimedOut(Timeout::Handshake),
            Self::Tls { alert: alert @ NO_APPLICATION_PROTOCOL, status, .. } => {
                Self::Tls { alert, status, protocols: no_common().map(Arc::new) }
            }
            other => other,
        }
    }

    /// The cause behind a transport's close code and MsQuic's status.
    pub(crate) fn from_transport(code: u64, status: NativeError) -> Self {
        // RFC 9000 §20.1: 0x0100-0x01ff are CRYPTO_ERRORs, with the TLS alert in the low byte.
        const CRYPTO_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
        // What a refusal looks like on the wire: CONNECTION_REFUSED; from an application that closes
        // before the handshake is done, whose own code may not be shown yet, APPLICATION_ERROR, for
        // which MsQuic without Sendstream's edits sends 0xb; and the true meaning of 0xb,
        // INVALID_TOKEN: the server does not take the address for the client's.
        const REFUSALS: [u64; 3] = [0x2, 0xb, 0xc];
        // A failure of this side's has that code and the system's own `errno`. None of those that
        // MsQuic has for a peer's code is among them.
        const INTERNAL_ERROR: u64 = 0x1;
        if code == INTERNAL_ERROR
            && let Some(error) = SystemError::from_native(status)
        {
            return Self::System(error);
        }
        match status {
            NativeError::CONNECTION_TIMEOUT => Self::TimedOut(Timeout::Disconnect),
            NativeError::CONNECTION_IDLE => Self::TimedOut(Timeout::Idle),
            NativeError::CONNECTION_REFUSED => Self::Refused,
            NativeError::VER_NEG_ERROR => Self::VersionMismatch,
            NativeError::UNREACHABLE => Self::Unreachable,
            NativeError::FORKED => Self::Forked,
            _ if REFUSALS.contains(&code) => Self::Refused,
            _ if CRYPTO_ERRORS.contains(&code) => Self::Tls { alert: (code & 0xff) as u8, status, protocols: None },
            _ => match status.tls_alert() {
                Some(alert) => Self::Tls { alert, status, protocols: None },
                None => Self::TransportClosed { code, status },
            },
        }
    }
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        let kind = match &error {
            ConnectionError::ApplicationClosed { .. } => io::ErrorKind::ConnectionAborted,
            ConnectionError::LocallyClosed { .. } => io::ErrorKind::NotConnected,
            ConnectionError::TransportClosed { .. } => io::ErrorKind::ConnectionReset,
            ConnectionError::TimedOut(_) => io::ErrorKind::TimedOut,
            ConnectionError::Refused => io::ErrorKind::ConnectionRefused,
            ConnectionError::CertificateRefused(_) | ConnectionError::Tls { .. } => io::ErrorKind::PermissionDenied,
            ConnectionError::VersionMismatch | ConnectionError::Forked => io::ErrorKind::Unsupported,
            ConnectionError::Unreachable => io::ErrorKind::HostUnreachable,
            ConnectionError::System(error) => return (*error).into(),
        };
        Self::new(kind, error)
    }
}

/// Which time of a connection's was over: of [`ConnectionError::TimedOut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Timeout {
    /// The [`handshake_timeout`](crate::TransportConfig::handshake_timeout): the handshake was not
    /// done by then, or the server's application had not accepted.
    #[error(
        "the handshake was not done within `handshake_timeout`; check that the peer runs there and accepts, and that \
         UDP gets through in both directions"
    )]
    Handshake,
    /// The [`idle_timeout`](crate::TransportConfig::idle_timeout), this side's or the peer's: no
    /// packet came for that long.
    #[error(
        "no packet came from the peer for `idle_timeout`, of which the shorter of both sides' counts; `keep_alive` \
         holds a silent connection up"
    )]
    Idle,
    /// The [`disconnect_timeout`](crate::TransportConfig::disconnect_timeout): the peer has not
    /// acknowledged what was sent for that long, which may have been a
    /// [`keep_alive`](crate::TransportConfig::keep_alive).
    #[error(
        "the peer acknowledged nothing for `disconnect_timeout`, though data or a `keep_alive` was sent; it is gone, \
         or the network between failed"
    )]
    Disconnect,
}

/// The application protocols of a handshake that found none in common, as far as they are known: of
/// [`ConnectionError::Tls`] with alert 120.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoCommonProtocol {
    /// Those of this side, the most wanted first.
    pub ours: Vec<Vec<u8>>,
    /// Those of the peer. A server does not tell its own (RFC 7301 §3.2), so a client does not know
    /// them.
    pub peers: Option<Vec<Vec<u8>>>,
}

impl fmt::Display for NoCommonProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |protocols: &[Vec<u8>]| {
            let names: Vec<_> = protocols.iter().map(|protocol| Printable::new(protocol).to_string()).collect();
            format!("[{}]", names.join(", "))
        };
        match &self.peers {
            Some(peers) => write!(
                f,
                "no application protocol in common: this side has {}, the peer offers {}",
                list(&self.ours),
                list(peers)
            )?,
            None => write!(f, "the peer has none of this side's application protocols, {}", list(&self.ours))?,
        }
        f.write_str("; give both sides the same with `.alpn(..)`")
    }
}

/// What follows the name of an alert: what to do about it.
struct AlertSuffix<'a>(u8, Option<&'a NoCommonProtocol>);

impl fmt::Display for AlertSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.0, self.1) {
            (NO_APPLICATION_PROTOCOL, Some(protocols)) => return write!(f, ": {protocols}"),
            (NO_APPLICATION_PROTOCOL, None) => ": the sides have no application protocol in common",
            (40, _) => {
                ": the sides have no cipher suite or kind of signature in common; a server's P-521 key is one that few \
                 clients take, and a P-256 key all"
            }
            (42, _) => ": the peer does not take this side's certificate; its own log may say why",
            (43, _) => ": the peer does not take this kind of certificate; give one with a P-256 key",
            (45, _) => {
                ": the peer takes this side's certificate for expired or not yet valid; renew it, check the clocks"
            }
            (46, _) => ": the peer does not believe this side's certificate; is it the one that was pinned there?",
            (48, _) => ": the peer does not know who issued this side's certificate; name the CA there, send the chain",
            (116, _) => ": the server wants a certificate of its clients; give this one with `.identity(..)`",
            _ => return Ok(()),
        })
    }
}

/// The TLS alert of a handshake without a common protocol (RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Why a task on a connection's worker has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerTaskError {
    /// The connection was over while the task still waited for something else, or before it was
    /// spawned; or somebody called [`WorkerTask::abort`](crate::WorkerTask::abort).
    #[error("the task was canceled with its connection")]
    Canceled,
    /// Its future panicked, with this message. The connection goes on.
    #[error("the task panicked: {0}")]
    Panicked(Arc<str>),
}

impl From<WorkerTaskError> for io::Error {
    fn from(error: WorkerTaskError) -> Self {
        let kind = match error {
            WorkerTaskError::Canceled => io::ErrorKind::Interrupted,
            WorkerTaskError::Panicked(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl WorkerTaskError {
    pub(crate) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::Panicked(message.into())
    }
}

/// A status that MsQuic returned: its own code for a failure of the system or the library.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NativeError(u32);

impl NativeError {
    pub(crate) const SUCCESS: Self = Self(status::SUCCESS);
    pub(crate) const OUT_OF_MEMORY: Self = Self(status::OUT_OF_MEMORY);
    pub(crate) const INVALID_PARAMETER: Self = Self(status::INVALID_PARAMETER);
    pub(crate) const INVALID_STATE: Self = Self(status::INVALID_STATE);
    pub(crate) const NOT_SUPPORTED: Self = Self(status::NOT_SUPPORTED);
    pub(crate) const NOT_FOUND: Self = Self(status::NOT_FOUND);
    pub(crate) const BUFFER_TOO_SMALL: Self = Self(status::BUFFER_TOO_SMALL);
    pub(crate) const HANDSHAKE_FAILURE: Self = Self(status::HANDSHAKE_FAILURE);
    pub(crate) const ABORTED: Self = Self(status::ABORTED);
    pub(crate) const ADDRESS_IN_USE: Self = Self(status::ADDRESS_IN_USE);
    pub(crate) const INVALID_ADDRESS: Self = Self(status::INVALID_ADDRESS);
    pub(crate) const CONNECTION_TIMEOUT: Self = Self(status::CONNECTION_TIMEOUT);
    pub(crate) const CONNECTION_IDLE: Self = Self(status::CONNECTION_IDLE);
    pub(crate) const INTERNAL_ERROR: Self = Self(status::INTERNAL_ERROR);
    pub(crate) const CONNECTION_REFUSED: Self = Self(status::CONNECTION_REFUSED);
    pub(crate) const PROTOCOL_ERROR: Self = Self(status::PROTOCOL_ERROR);
    pub(crate) const VER_NEG_ERROR: Self = Self(status::VER_NEG_ERROR);
    pub(crate) const UNREACHABLE: Self = Self(status::UNREACHABLE);
    pub(crate) const TLS_ERROR: Self = Self(status::TLS_ERROR);
    pub(crate) const USER_CANCELED: Self = Self(status::USER_CANCELED);
    pub(crate) const ALPN_NEG_FAILURE: Self = Self(status::ALPN_NEG_FAILURE);
    pub(crate) const STREAM_LIMIT_REACHED: Self = Self(status::STREAM_LIMIT_REACHED);
    pub(crate) const ALPN_IN_USE: Self = Self(status::ALPN_IN_USE);
    pub(crate) const PERMISSION_DENIED: Self = Self(status::PERMISSION_DENIED);
    pub(crate) const ADDRESS_NOT_AVAILABLE: Self = Self(status::ADDRESS_NOT_AVAILABLE);

    /// This process was forked after the library was first used. No function of MsQuic's returns it.
    pub(crate) const FORKED: Self = Self(status::FORKED);

    /// Wraps a raw `QUIC_STATUS`.
    pub(crate) fn from_status(status: u32) -> Self {
        Self(status)
    }

    /// `Ok` for the statuses that MsQuic calls a success.
    pub(crate) fn check(status: u32) -> Result<(), Self> {
        if status::is_success(status) { Ok(()) } else { Err(Self(status)) }
    }

    /// The raw `QUIC_STATUS`: on POSIX systems mostly an `errno`, on Windows an `HRESULT`.
    pub const fn status(self) -> u32 {
        self.0
    }

    /// The TLS alert (RFC 8446 §6) that this status stands for, if it stands for one.
    pub fn tls_alert(self) -> Option<u8> {
        match self {
            Self::ALPN_NEG_FAILURE => Some(NO_APPLICATION_PROTOCOL),
            Self(status) => u8::try_from(status.checked_sub(status::TLS_ALERT_BASE)?).ok(),
        }
    }

    #[cfg_attr(windows, expect(unreachable_patterns, reason = "two names of one number there"))]
    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "SUCCESS",
            Self::OUT_OF_MEMORY => "OUT_OF_MEMORY",
            Self::INVALID_PARAMETER => "INVALID_PARAMETER",
            Self::INVALID_STATE => "INVALID_STATE",
            Self::NOT_SUPPORTED => "NOT_SUPPORTED",
            Self::NOT_FOUND => "NOT_FOUND",
            Self::BUFFER_TOO_SMALL => "BUFFER_TOO_SMALL",
            Self::HANDSHAKE_FAILURE => "HANDSHAKE_FAILURE",
            Self::ABORTED => "ABORTED",
            Self::ADDRESS_IN_USE => "ADDRESS_IN_USE",
            Self::INVALID_ADDRESS => "INVALID_ADDRESS",
            Self::CONNECTION_TIMEOUT => "CONNECTION_TIMEOUT",
            Self::CONNECTION_IDLE => "CONNECTION_IDLE",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::CONNECTION_REFUSED => "CONNECTION_REFUSED",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::VER_NEG_ERROR => "VER_NEG_ERROR",
            Self::UNREACHABLE => "UNREACHABLE",
            Self::TLS_ERROR => "TLS_ERROR",
            Self::USER_CANCELED => "USER_CANCELED",
            Self::ALPN_NEG_FAILURE => "ALPN_NEG_FAILURE",
            Self::STREAM_LIMIT_REACHED => "STREAM_LIMIT_REACHED",
            Self::ALPN_IN_USE => "ALPN_IN_USE",
            Self::PERMISSION_DENIED => "PERMISSION_DENIED",
            Self::ADDRESS_NOT_AVAILABLE => "ADDRESS_NOT_AVAILABLE",
            Self(status::CERT_EXPIRED) => "CERT_EXPIRED",
            Self(status::CERT_UNTRUSTED_ROOT) => "CERT_UNTRUSTED_ROOT",
            Self(status::CERT_NO_CERT) => "CERT_NO_CERT",
            _ => return None,
        })
    }
}

impl fmt::Display for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FORKED {
            return f.write_str("this process was forked from one that uses QUIC already: fork before the first use");
        }
        match (self.name(), self.tls_alert(), status::os_error(self.0)) {
            (Some(name), ..) => write!(f, "MsQuic status {name}"),
            (None, Some(alert), _) => write!(f, "MsQuic status TLS_ALERT({alert})"),
            (None, None, Some(number)) => {
                write!(f, "MsQuic status {:#x}: {}", self.0, io::Error::from_raw_os_error(number))
            }
            (None, None, None) => write!(f, "MsQuic status {:#x}", self.0),
        }
    }
}

impl fmt::Debug for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NativeError {}

impl From<NativeError> for Status {
    fn from(error: NativeError) -> Self {
        Self(error.0)
    }
}

impl From<Status> for NativeError {
    fn from(status: Status) -> Self {
        Self(status.0)
    }
}

impl From<NativeError> for io::Error {
    fn from(error: NativeError) -> Self {
        let kind = match error {
            NativeError::OUT_OF_MEMORY => io::ErrorKind::OutOfMemory,
            NativeError::INVALID_PARAMETER => io::ErrorKind::InvalidInput,
            NativeError::ADDRESS_IN_USE | NativeError::ALPN_IN_USE => io::ErrorKind::AddrInUse,
            NativeError::ADDRESS_NOT_AVAILABLE => io::ErrorKind::AddrNotAvailable,
            NativeError::FORKED => io::ErrorKind::Unsupported,
            _ if matches!(
                SystemError::from_native(error),
                Some(SystemError::OutOfDescriptors | SystemError::OutOfThreads)
            ) =>
            {
                io::ErrorKind::QuotaExceeded
            }
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Prints `: <reason>` when there is a reason, [as it can be shown](Printable).
struct ReasonSuffix<'a>(&'a str);

impl fmt::Display for ReasonSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", Printable::new(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_close_is_never_reported_as_the_peers() {
        let local = ConnectionError::from_shutdown(true, false, 7, NativeError::USER_CANCELED);
        assert_eq!(local, ConnectionError::LocallyClosed { code: 7, reason: Arc::default() });
        let peer = ConnectionError::from_shutdown(true, true, 7, NativeError::USER_CANCELED);
        assert_eq!(peer, ConnectionError::ApplicationClosed { code: 7, reason: Arc::from("") });
    }

    #[test]
    fn a_reason_cannot_steer_a_terminal_or_forge_a_line_of_a_log() {
        let reason: Arc<str> = "\u{1b}[2J\nINFO forged\u{202e}".into();
        let peer = ConnectionError::ApplicationClosed { code: 7, reason: reason.clone() };
        let shown = r"closed by the peer's application with code 7: \u{1b}[2J\nINFO forged\u{202e}";
        assert_eq!(peer.to_string(), shown);
        assert_eq!(io::Error::from(peer.clone()).to_string(), shown);
        assert!(!format!("{peer:?}").contains(['\u{1b}', '\n', '\u{202e}']));
        let ConnectionError::ApplicationClosed { reason: data, .. } = peer else { unreachable!() };
        assert_eq!(data, reason);
    }

    #[test]
    fn crypto_errors_carry_their_tls_alert() {
        let error = ConnectionError::from_shutdown(false, true, 0x100 + 42, NativeError::HANDSHAKE_FAILURE);
        assert!(matches!(error, ConnectionError::Tls { alert: 42, .. }));
        let error = ConnectionError::from_shutdown(false, true, 0x100 + 120, NativeError::ALPN_NEG_FAILURE);
        assert!(matches!(error, ConnectionError::Tls { alert: 120, .. }));
    }

    #[test]
    fn a_socket_that_lacks_something_is_not_taken_for_a_peer_without_a_protocol() {
        // The same number is both.
        let error = ConnectionError::from_shutdown(false, false, 1, NativeError::ALPN_NEG_FAILURE);
        assert_eq!(error, ConnectionError::System(SystemError::SocketsNotSupported));
    }

    #[test]
    fn a_peer_of_another_version_is_no_failure_of_this_systems() {
        // MsQuic ends the connection as by a failure of its own.
        for code in [1, 0x53f8] {
            let error = ConnectionError::from_shutdown(false, false, code, NativeError::VER_NEG_ERROR);
            assert_eq!(error, ConnectionError::VersionMismatch);
        }
    }

    #[test]
    fn what_the_system_refused_is_never_reported_as_a_transports() {
        use SystemError::*;
        let refusals = [
            (libc::ENETUNREACH, NoRoute, io::ErrorKind::NetworkUnreachable),
            (libc::EADDRNOTAVAIL, AddressNotAvailable, io::ErrorKind::AddrNotAvailable),
            (libc::ENODEV, AddressNotAvailable, io::ErrorKind::AddrNotAvailable),
            (libc::EADDRINUSE, AddressInUse, io::ErrorKind::AddrInUse),
            (libc::EMFILE, OutOfDescriptors, io::ErrorKind::QuotaExceeded),
            (libc::ENFILE, OutOfDescriptors, io::ErrorKind::QuotaExceeded),
            (libc::EINVAL, InvalidAddress, io::ErrorKind::InvalidInput),
            (libc::EACCES, PermissionDenied, io::ErrorKind::PermissionDenied),
            (libc::EPERM, PermissionDenied, io::ErrorKind::PermissionDenied),
            (libc::EAFNOSUPPORT, FamilyNotSupported, io::ErrorKind::Unsupported),
            (libc::EHOSTDOWN, NoRoute, io::ErrorKind::NetworkUnreachable),
            (libc::ENOPROTOOPT, SocketsNotSupported, io::ErrorKind::Unsupported),
            (libc::EAGAIN, OutOfThreads, io::ErrorKind::QuotaExceeded),
            (libc::ENOMEM, OutOfMemory, io::ErrorKind::OutOfMemory),
            (libc::ENOBUFS, OutOfMemory, io::ErrorKind::OutOfMemory),
        ];
        for (errno, expected, kind) in refusals {
            let error = ConnectionError::from_shutdown(false, false, 1, NativeError(errno.cast_unsigned()));
            assert_eq!(error, ConnectionError::System(expected));
            assert!(!error.to_string().contains("MsQuic") && !error.to_string().contains("closed"), "{error}");
            assert_eq!(io::Error::from(error).kind(), kind);
        }
        // What MsQuic makes of a peer's codes is none of them.
        for status in [0, libc::EPROTO, libc::EIO, libc::ECONNREFUSED, libc::EOWNERDEAD, libc::ECONNABORTED] {
            let error = ConnectionError::from_transport(1, NativeError(status.cast_unsigned()));
            assert!(!matches!(error, ConnectionError::System(_)), "{error}");
        }
    }

    #[test]
    fn codes_alerts_and_statuses_are_told_by_their_names() {
        let closed = |code| ConnectionError::from_transport(code, NativeError::INTERNAL_ERROR).to_string();
        assert_eq!(closed(0xa), "closed by the transport with PROTOCOL_VIOLATION (0xa)");
        assert_eq!(closed(0x99), "closed by the transport with code 0x99");
        assert_eq!(
            closed(0x178),
            "TLS failed with alert no_application_protocol (120): the sides have no application protocol in common"
        );
        assert_eq!(closed(0x132), "TLS failed with alert decode_error (50)");
        assert_eq!(closed(0x1ff), "TLS failed with alert 255");
        // The words are the C library's.
        let (files, words) = (NativeError(status::TOO_MANY_FILES), io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(files.to_string(), format!("MsQuic status 0x18: {words}"));
    }

    #[test]
    fn pending_and_continue_count_as_success() {
        assert_eq!(NativeError::check(0), Ok(()));
        assert_eq!(NativeError::check((-2i32).cast_unsigned()), Ok(()));
        assert_eq!(NativeError::check(22), Err(NativeError::INVALID_PARAMETER));
    }
}
