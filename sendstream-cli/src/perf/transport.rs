//! How the two ends of a run set up their connection.

use std::time::Duration;

use sendstream::TransportConfig;

use super::plan::{End, Load, Plan};

/// What both ends have in common. A peer that was killed is noticed in time.
fn settings() -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(PATIENCE)
        .disconnect_timeout(PATIENCE)
        .handshake_timeout(PATIENCE)
        .keep_alive(Duration::from_secs(2))
        .max_concurrent_bidi_streams(0)
        .max_concurrent_uni_streams(0)
}

/// What a server lets a client do before it has shown that it may: the control stream alone, and no
/// more than a few KiB. The room for datagrams cannot be changed later.
///
/// The backlog is that large for handshakes that are measured: from half of it on, clients have to
/// prove their addresses, which takes a round trip.
pub(crate) fn for_strangers() -> TransportConfig {
    settings()
        .max_concurrent_bidi_streams(1)
        .connection_flow_control_window(4096)
        .datagram_receive_buffer(1 << 20)
        .accept_backlog(512)
}

/// What a server lets a client do in a run.
pub(crate) fn for_run(plan: &Plan) -> TransportConfig {
    let pings = if matches!(plan.load, Load::PingPong(_)) { plan.streams } else { 0 };
    for_end(plan, End::Server).max_concurrent_bidi_streams(1 + pings)
}

/// The settings of a client.
pub(crate) fn for_client(plan: &Plan) -> TransportConfig {
    let datagrams = matches!(plan.load, Load::Datagrams(_)) && plan.receives(End::Client);
    for_end(plan, End::Client).datagram_receive_buffer(datagrams.then_some(1 << 20))
}

/// What an end takes from its peer.
fn for_end(plan: &Plan, end: End) -> TransportConfig {
    let streams = match plan.load {
        _ if !plan.receives(end) => 0,
        Load::Bulk => plan.streams,
        Load::Messages(_) => 4096,
        Load::Datagrams(_) | Load::PingPong(_) | Load::Handshakes => 0,
    };
    settings().max_concurrent_uni_streams(streams).connection_flow_control_window(WINDOW)
}

/// How long an end waits for a peer that says nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a run may have under way: enough for 2.7 Gbit/s over a path of 100 ms.
const WINDOW: u32 = 32 << 20;
