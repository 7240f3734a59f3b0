//! How both ends set up a connection, and how they end it.

use std::{
    cell::Cell,
    future,
    time::{Duration, Instant},
};

use sendstream::{Connection, ConnectionError, TransportConfig};

use crate::{protocol::Code, timer};

/// The settings of both ends, with how long a peer may be silent. One that only has nothing to say
/// (a slow disk, a user who thinks) keeps the connection up by itself.
pub(crate) fn settings(patience: Duration) -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(patience)
        .disconnect_timeout(patience)
        .handshake_timeout(PATIENCE)
        .keep_alive(Duration::from_secs(2).min(patience / 3))
        // The one stream of a session.
        .max_concurrent_bidi_streams(1)
        .max_concurrent_uni_streams(0)
        .datagram_receive_buffer(None)
}

/// What a receiver lets a sender do before that has shown the token: no more than a few KiB. Few may
/// wait to be let in, since they are let in at once.
pub(crate) fn for_strangers(patience: Duration) -> TransportConfig {
    settings(patience).connection_flow_control_window(4096).accept_backlog(16)
}

/// Ends a connection, if it has not ended yet.
pub(crate) fn close(connection: &Connection, code: Code) {
    connection.close(code.wire(), "").expect("every code is small");
}

/// Whether the other end has closed a connection because all is done.
pub(crate) fn is_closed_as_done(connection: &Connection) -> bool {
    let done = Code::Done.wire();
    matches!(connection.close_reason(), Some(ConnectionError::ApplicationClosed { code, .. }) if code == done)
}

/// Resolves when nothing has come by a connection for [`SILENCE`].
pub(crate) async fn silence(connection: &Connection) {
    let (mut packets, mut since) = (None, Instant::now());
    loop {
        match timer::sleep(SILENCE / 5) {
            Ok(sleep) => drop(sleep.await),
            // Without a thread nobody can look; the connection's own timeout is left.
            Err(_) => return future::pending().await,
        }
        let now = connection.stats().await.ok().map(|stats| stats.received.packets);
        if now != packets {
            (packets, since) = (now, Instant::now());
        }
        if since.elapsed() >= SILENCE {
            return;
        }
    }
}

/// When the other end said or took something last.
#[derive(Debug)]
pub(crate) struct Activity(Cell<Instant>);

impl Activity {
    /// It did now.
    pub(crate) fn new() -> Self {
        Self(Cell::new(Instant::now()))
    }

    /// It did now.
    pub(crate) fn note(&self) {
        self.0.set(Instant::now());
    }

    /// Resolves when it did not for so long, though it is its turn. While it is not, no time counts.
    pub(crate) async fn stalls(&self, limit: Duration, is_its_turn: impl Fn() -> bool) {
        loop {
            let mut left = limit.saturating_sub(self.0.get().elapsed());
            if left.is_zero() {
                if is_its_turn() {
                    return;
                }
                self.note();
                left = limit;
            }
            match timer::sleep(left) {
                Ok(sleep) => drop(sleep.await),
                // Without a thread nobody can look.
                Err(_) => return future::pending().await,
            }
        }
    }
}

/// How long a peer may be silent before it is met anew. Both ends send something every two seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(8);

/// How long an end waits for one that is gone, where both know that all is there and only the farewell is missing.
pub(crate) const FAREWELL: Duration = Duration::from_secs(16);

/// How long this end waits for a handshake, and for a stranger in all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn no_time_counts_while_it_is_not_the_other_ends_turn() {
        let asked = Cell::new(0);
        let is_its_turn = || asked.replace(asked.get() + 1) == 2;
        block_on(Activity::new().stalls(Duration::from_millis(1), is_its_turn));
        assert_eq!(asked.get(), 3);
    }
}
