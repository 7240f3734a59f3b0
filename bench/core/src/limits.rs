//! What every stack is set to, so that none wins by its defaults.

use std::time::Duration;

/// The application protocol.
pub const ALPN: &[u8] = b"bench";

/// The server's name.
pub const HOST: &str = "localhost";

/// How many bytes may be sent on one stream ahead of the reader. As large as the connection's
/// window, so that stacks that begin small and grow their windows have nothing over those that do
/// not.
pub const STREAM_WINDOW: u32 = 16 << 20;

/// How many bytes may be sent on all streams of a connection ahead of the readers.
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// How many streams of each kind the peer may have open, at least. No more than is needed: quinn
/// sets memory aside for each.
pub const STREAMS: u16 = 256;

/// How long a connection may be silent. Longer than it takes to open 10,000 of them on a slow
/// machine.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How many packets may be in flight at first (RFC 9002 §7.2). All stacks then follow CUBIC.
pub const INITIAL_WINDOW_PACKETS: u32 = 10;

/// The largest UDP payload: an IPv4 packet of 1500 bytes. Every stack probes the path for it, but
/// for tokio-quiche, which begins with it.
pub const UDP_PAYLOAD: u16 = 1472;

/// The largest IP packet.
pub const MTU: u16 = 1500;

/// What the sockets ask for as send and receive buffers, as far as the system lets them. MsQuic
/// asks for all it can get.
pub const SOCKET_BUFFER: usize = 4 << 20;
