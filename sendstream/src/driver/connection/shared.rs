//! The settings of a connection, which do not change once its handshake may go on.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sendstream_core::stream::lending::Lending;

use crate::{
    native::{
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
    /// Who is believed; `None` on a server that asks for no certificate.
    pub(crate) verify: Option<Verify>,
    /// The stream's in-flight window, where the configuration fixes it.
    pub(crate) fixed_send_window: Option<u64>,
    /// Whether MsQuic copies what streams send.
    pub(crate) send_buffering: bool,
    /// The code for what is given up by dropping it.
    pub(crate) drop_error_code: u64,
    /// How much readers keep without credit for the peer; `None` where nothing can be kept.
    pub(crate) lending: Option<Arc<Lending>>,
    /// How much of the peer's datagrams may wait to be read.
    pub(crate) datagram_receive_buffer: Option<usize>,
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
            verify,
            fixed_send_window: transport.send_window.map(u64::from),
            send_buffering: transport.send_buffering,
            drop_error_code: transport.drop_error_code,
            lending: received::can_be_kept().then(|| Arc::new(lending(transport))),
            datagram_receive_buffer: transport.datagram_receive_buffer,
            scheduling: transport.stream_scheduling,
            initial_rtt: transport.initial_rtt,
            resuming: Resuming::No,
            _configuration: None,
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
    verify: None,
    fixed_send_window: None,
    send_buffering: false,
    drop_error_code: 0,
    lending: None,
    datagram_receive_buffer: None,
    scheduling: StreamScheduling::Fifo,
    initial_rtt: Duration::from_millis(333),
    resuming: Resuming::No,
    _configuration: None,
};

fn lending(transport: &TransportConfig) -> Lending {
    Lending::new(transport.smallest_stream_window().into(), transport.connection_flow_control_window.into())
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
