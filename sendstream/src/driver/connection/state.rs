//! What a connection's state machine, `sendstream_core::connection`, holds here.

use std::sync::{Arc, Weak};

use sendstream_core::connection::{self, Held};

use crate::{
    driver::{connection::judge::Judging, stream::owner::StreamInstance},
    types::{
        error::{ConnectionError, Timeout},
        exporter::Exporter,
        stats::HandshakeInfo,
    },
};

/// The state behind `ConnectionInner`'s lock.
pub(crate) type ConnectionInnerExclusive = connection::ConnectionInnerExclusive<Parts>;

/// What the end of a connection leaves to do.
pub(crate) type Ending = connection::Ending<Parts>;

/// What becomes of a stream that the peer started.
pub(crate) type PeerStream = connection::PeerStream<Arc<StreamInstance>>;

/// What the handshake settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) alpn: Vec<u8>,
    pub(crate) resumed: bool,
    pub(crate) handshake: Option<HandshakeInfo>,
    /// `None` where MsQuic does not tell it.
    pub(crate) exporter: Option<Exporter>,
}

/// What the state holds and gives back.
#[derive(Debug)]
pub(crate) enum Parts {}

impl Held for Parts {
    type Cause = ConnectionError;
    type Stream = Arc<StreamInstance>;
    type Unstarted = Weak<StreamInstance>;
    type Verifier = Arc<Judging>;
    type Settled = Arc<Connected>;

    fn closed_here(code: u64) -> ConnectionError {
        ConnectionError::LocallyClosed { code, reason: Arc::default() }
    }

    fn timed_out() -> ConnectionError {
        ConnectionError::TimedOut(Timeout::Handshake)
    }

    fn is_gone(stream: &Weak<StreamInstance>) -> bool {
        stream.strong_count() == 0
    }
}
