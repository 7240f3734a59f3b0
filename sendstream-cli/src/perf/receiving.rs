//! What an end receives, and counts.

use std::{sync::Arc, task::Poll, time::Duration};

use sendstream::{Connection, RecvStream};
use tokio::sync::watch;

use super::{
    counts::Counts,
    plan::{Load, Plan},
    protocol::Total,
    run_error::RunError,
    tasks::Tasks,
};

/// What the peer says it has sent, once it has.
pub(crate) type PeerSent = watch::Receiver<Option<Total>>;

/// Receives until all that the peer sent is there, or no more of it can come.
pub(crate) async fn receive(
    connection: &Connection,
    plan: &Plan,
    counts: &Arc<Counts>,
    peer_sent: PeerSent,
) -> Result<(), RunError> {
    match plan.load {
        Load::Bulk => read_streams(connection, plan.slots(), counts).await,
        Load::Messages(size) => {
            let mut tasks = Tasks::default();
            for _ in 0..READERS {
                tasks.spawn(read_messages(connection.clone(), size as usize, Arc::clone(counts)));
            }
            tokio::select! {
                ended = tasks.all() => ended,
                all = all_there(counts, peer_sent) => all,
            }
        }
        Load::Datagrams(size) => {
            tokio::select! {
                ended = read_datagrams(connection, size as usize, counts) => ended?,
                all = all_there(counts, peer_sent) => all?,
            }
            count_waiting(connection, size as usize, counts).await
        }
        Load::PingPong(_) | Load::Handshakes => unreachable!("those have receivers of their own"),
    }
}

/// Resolves when as much is there as the peer has sent, or nothing more comes of it.
pub(crate) async fn all_there(counts: &Counts, mut peer_sent: PeerSent) -> Result<(), RunError> {
    let sent = peer_sent.wait_for(Option::is_some).await.map_or(None, |sent| *sent).unwrap_or_default();
    counts.may_end();
    let mut before = counts.total();
    let mut quiet = Duration::ZERO;
    // What comes wakes nobody here: looking is as good, at the end of a run.
    while before.messages < sent.messages && quiet < QUIET {
        tokio::time::sleep(LOOK).await;
        let now = counts.total();
        quiet += LOOK;
        if now != before {
            counts.may_end();
            (before, quiet) = (now, Duration::ZERO);
        }
    }
    Ok(())
}

/// Reads as many streams as were agreed on, each to its end.
async fn read_streams(connection: &Connection, streams: usize, counts: &Arc<Counts>) -> Result<(), RunError> {
    let mut tasks = Tasks::default();
    for _ in 0..streams {
        let stream = connection.accept_uni().await?;
        // The lowest two bits say whose it is, and of which kind (RFC 9000 §2.1).
        let slot = stream.id().and_then(|id| usize::try_from(id >> 2).ok()).filter(|slot| *slot < streams);
        let slot = slot.ok_or_else(|| RunError::breach("it opened a stream that was not agreed on"))?;
        tasks.spawn(read_stream(stream, slot, Arc::clone(counts)));
    }
    tasks.all().await
}

async fn read_stream(mut stream: RecvStream, slot: usize, counts: Arc<Counts>) -> Result<(), RunError> {
    while let Some(chunk) = stream.read_chunk().await? {
        counts.add(slot, chunk.len());
    }
    Ok(())
}

async fn read_messages(connection: Connection, size: usize, counts: Arc<Counts>) -> Result<(), RunError> {
    loop {
        let mut stream = connection.accept_uni().await?;
        let mut len = 0;
        while let Some(chunk) = stream.read_chunk().await? {
            len += chunk.len();
            if len > size {
                return Err(too_long(size));
            }
        }
        counts.add_message(len);
    }
}

async fn read_datagrams(connection: &Connection, size: usize, counts: &Counts) -> Result<(), RunError> {
    loop {
        count(&connection.read_datagram().await?, size, counts)?;
    }
}

/// Counts the datagrams that have come and wait to be read.
async fn count_waiting(connection: &Connection, size: usize, counts: &Counts) -> Result<(), RunError> {
    std::future::poll_fn(|cx| {
        loop {
            match connection.poll_read_datagram(cx) {
                Poll::Ready(datagram) => count(&datagram?, size, counts)?,
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

fn count(datagram: &[u8], size: usize, counts: &Counts) -> Result<(), RunError> {
    if datagram.len() > size {
        return Err(too_long(size));
    }
    counts.add_message(datagram.len());
    Ok(())
}

fn too_long(size: usize) -> RunError {
    RunError::breach(format!("it sent more than the {size} bytes that were agreed on at once"))
}

/// How many messages are read at a time: one that is late holds up none but those behind it.
const READERS: usize = 8;
/// After how long without anything no more is waited for, and how often that is looked at.
const QUIET: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(5);
