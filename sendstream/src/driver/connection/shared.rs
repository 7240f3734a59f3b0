//! The settings of a connection, which do not change once its handshake may go on.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sendstream_core::stream::lending::Lending;

use crate::{
    native::{
        budget::budget,
        configuration::{Alpn, Configuration},
        received,
    },
    types::{
        config::{StreamScheduling, TransportConfig},
        error::NoCommonProtocol,
        resumption::{SessionCache, SessionKey},
        tls::{ClientAuth, PeerIdentity, Trust},
    },
};

/// What a connection goes by.
#[derive(Debug)]
pub(crate) struct ConnectionInnerShared {
    /// The protocols that this side has.
    pub(crate) alpn: Option<Alpn>,
    /// Those that a client offers, on a server.
    pub(crate) offered: Option<Vec<Vec<u8>>>,
    /// The server's name as a client wants it, on a server.
    pub(crate) requested_name: String,
    /// Who is believed; `None` on a server that asks for no certificate.
    pub(crate) verify: Option<Verify>,
    /// The in-flight window of streams, where it is fixed; else 0.
    pub(crate) fixed_send_window: AtomicU64,
    /// Whether MsQuic copies what streams send.
    pub(crate) send_buffering: bool,
    /// The code for what is given up by dropping it.
    pub(crate) drop_error_code: u64,
    /// How much readers keep without credit for the peer; `None` where nothing can be kept.
    pub(crate) lending: Option<Arc<Lending>>,
    /// How much of the peer's datagrams may wait to be read.
    pub(crate) datagram_receive_buffer: Option<usize>,
    /// How much may wait to be sent as datagrams before senders wait.
    pub(crate) datagram_send_buffer: usize,
    /// Which stream goes first.
    pub(crate) scheduling: StreamScheduling,
    /// The round-trip time before there was one.
    pub(crate) initial_rtt: Duration,
    /// What is done about session tickets.
    pub(crate) resuming: Resuming,
    /// The configuration that a server accepted it with. It is kept open: its registration may be
    /// another than the listener's, and must not close before the connection.
    pub(crate) _configuration: Option<Arc<Configuration>>,
}

impl ConnectionInnerShared {
    /// The part of `transport` that MsQuic need not know.
    pub(crate) fn new(alpn: Alpn, verify: Option<Verify>, transport: &TransportConfig) -> Self {
        Self {
            alpn: Some(alpn),
            offered: None,
            requested_name: String::new(),
            verify,
            fixed_send_window: AtomicU64::new(transport.send_window.map_or(0, u64::from)),
            send_buffering: transport.send_buffering,
            drop_error_code: transport.drop_error_code,
            lending: received::can_be_kept().then(|| Arc::new(lending(transport))),
            datagram_receive_buffer: transport.datagram_receive_buffer,
            datagram_send_buffer: transport.datagram_send_buffer,
            scheduling: transport.stream_scheduling,
            initial_rtt: transport.initial_rtt,
            resuming: Resuming::No,
            _configuration: None,
        }
    }

    /// The in-flight window of streams that begin now, where it is fixed.
    pub(crate) fn fixed_send_window(&self) -> Option<u64> {
        Some(self.fixed_send_window.load(Ordering::Relaxed)).filter(|window| *window > 0)
    }

    /// Fixes the in-flight window of streams that begin from now on; or none, for MsQuic's advice.
    pub(crate) fn fix_send_window(&self, window: Option<NonZeroU32>) {
        self.fixed_send_window.store(window.map_or(0, |window| window.get().into()), Ordering::Relaxed);
    }

    /// The name of the server that the client wants; empty if it names none.
    pub(crate) fn server_name(&self) -> &str {
        match &self.verify {
            Some(Verify::Server { server_name, .. }) => server_name,
            _ => &self.requested_name,
        }
    }

    /// The protocols, of which none was common to both sides.
    pub(super) fn no_common_protocol(&self) -> Option<NoCommonProtocol> {
        let ours = self.alpn.as_ref()?.protocols().to_vec();
        Some(NoCommonProtocol { ours, peers: self.offered.clone() })
    }
}

/// What a server's connection goes by before it is accepted, when MsQuic can only say that it is
/// over.
pub(super) static UNCONFIGURED: ConnectionInnerShared = ConnectionInnerShared {
    alpn: None,
    offered: None,
    requested_name: String::new(),
    verify: None,
    fixed_send_window: AtomicU64::new(0),
    send_buffering: false,
    drop_error_code: 0,
    lending: None,
    datagram_receive_buffer: None,
    datagram_send_buffer: 0,
    scheduling: StreamScheduling::Fifo,
    initial_rtt: Duration::from_millis(333),
    resuming: Resuming::No,
    _configuration: None,
};

fn lending(transport: &TransportConfig) -> Lending {
    Lending::new(transport.smallest_stream_window().into(), transport.connection_flow_control_window.into())
        .within(budget())
}

/// What the peer's certificate is checked against.
#[derive(Debug)]
pub(crate) enum Verify {
    /// By a client: under which name.
    Server { trust: Trust, server_name: String },
    /// By a server. A client without a certificate is refused if one is required.
    Client { trust: Trust, required: bool },
}

impl Verify {
    /// What a server does with its clients' certificates.
    pub(crate) fn clients(auth: &ClientAuth) -> Option<Self> {
        let required = matches!(auth, ClientAuth::Required(_));
        auth.trust().map(|trust| Self::Client { trust: trust.clone(), required })
    }
}

/// How this side of a connection handles session tickets. Only the shown ticket changes.
#[derive(Debug, Default)]
pub(crate) enum Resuming {
    /// Nothing: resumption is off.
    #[default]
    No,
    /// A server sends one when the handshake is done, and takes early data or does not.
    SendTicket { early_data: bool },
    /// A client keeps those that come.
    KeepTickets(KeepTickets),
}

impl Resuming {
    /// The certificates beside the ticket of a resumed session. A server has none: it resumes only
    /// if clients show no certificate.
    pub(crate) fn resumed_identity(&self) -> Option<PeerIdentity> {
        match self {
            Self::KeepTickets(keep) => keep.shown.get().cloned(),
            Self::No | Self::SendTicket { .. } => None,
        }
    }
}

/// Where a client keeps the tickets of a connection.
pub(crate) struct KeepTickets {
    pub(crate) cache: Arc<dyn SessionCache>,
    pub(crate) key: SessionKey,
    /// The certificates of the ticket that the connection begins with, if with any. Written by:
    /// `show_ticket`.
    pub(crate) shown: OnceLock<PeerIdentity>,
}

impl fmt::Debug for KeepTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepTickets").field("key", &self.key).finish_non_exhaustive()
    }
}
