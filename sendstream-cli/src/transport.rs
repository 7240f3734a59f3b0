//! How both ends set up a connection, and how they end it.

use std::time::Duration;

use sendstream::{Connection, TransportConfig};

use crate::protocol::Code;

/// The settings of both ends. A peer that was killed is noticed within ten seconds; one that only
/// has nothing to say (a slow disk, a user who thinks) keeps the connection up by itself.
pub(crate) fn settings() -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(PATIENCE)
        .disconnect_timeout(PATIENCE)
        .handshake_timeout(PATIENCE)
        .keep_alive(Duration::from_secs(2))
        // Only senders open streams, one for control and one per file. A stream counts until the
        // receiver's answer on it is acknowledged, which the sender's transport may delay, so there
        // must be many more than are in use.
        .max_concurrent_bidi_streams(1024)
        .max_concurrent_uni_streams(0)
        .datagram_receive_buffer(None)
}

/// What a receiver lets a sender do before that has shown the token: the control stream alone, and
/// no more than a few KiB. Few may wait to be let in, since they are let in at once.
pub(crate) fn for_strangers() -> TransportConfig {
    settings().max_concurrent_bidi_streams(1).connection_flow_control_window(4096).accept_backlog(16)
}

/// Ends a connection, if it has not ended yet.
pub(crate) fn close(connection: &Connection, code: Code) {
    connection.close(code.wire(), "").expect("every code is small");
}

/// How long this end waits for a peer that says nothing, and for a stranger in all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
