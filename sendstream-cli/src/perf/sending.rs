//! What an end sends: the same bytes over and over, which nobody copies.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sendstream::{Connection, DatagramFate, SendDatagram, SendDatagramError};

use super::{
    counts::{Budget, Counts},
    plan::{Load, MAX_MESSAGE, Plan},
    run_error::RunError,
    tasks::{Stop, Tasks},
};

/// The first `len` bytes of what everybody sends. They are zeros; what goes out is encrypted.
pub(crate) fn block(len: usize) -> Bytes {
    static BLOCK: [u8; MAX_MESSAGE as usize] = [0; MAX_MESSAGE as usize];
    Bytes::from_static(&BLOCK[..len])
}

/// Sends until `stop` is set or the budget is used up, and waits until the peer's transport has it
/// all.
pub(crate) async fn send(
    connection: &Connection,
    plan: &Plan,
    counts: &Arc<Counts>,
    budget: Budget,
    stop: Stop,
) -> Result<(), RunError> {
    let sender = Sender { connection: connection.clone(), counts: Arc::clone(counts), budget: Arc::new(budget), stop };
    let mut tasks = Tasks::default();
    match plan.load {
        Load::Bulk => {
            for slot in 0..plan.slots() {
                let mut stream = connection.open_uni()?;
                // Ids are given in the order of starting, and tell the receiver which is which.
                stream.start().await?;
                tasks.spawn(sender.clone().fill(stream, slot));
            }
        }
        Load::Messages(size) => {
            let size = size as usize;
            let under_way = (UNDER_WAY / size).clamp(2, MESSAGES_UNDER_WAY);
            for _ in 0..usize::from(plan.streams) * under_way {
                tasks.spawn(sender.clone().send_messages(size));
            }
        }
        Load::Datagrams(size) => {
            fits(connection, size as usize).await?;
            for _ in 0..plan.streams {
                tasks.spawn(sender.clone().send_datagrams(size as usize));
            }
        }
        Load::PingPong(_) | Load::Handshakes => unreachable!("those have senders of their own"),
    }
    tasks.all().await
}

#[derive(Clone)]
struct Sender {
    connection: Connection,
    counts: Arc<Counts>,
    budget: Arc<Budget>,
    stop: Stop,
}

impl Sender {
    /// One stream, to its end.
    async fn fill(mut self, mut stream: sendstream::SendStream, slot: usize) -> Result<(), RunError> {
        while !self.stop.is_set() {
            let len = self.budget.take(CHUNK);
            if len == 0 {
                break;
            }
            tokio::select! {
                biased;
                () = self.stop.wait() => break,
                accepted = stream.write_chunk(block(len)) => accepted?,
            }
            self.counts.add(slot, len);
        }
        Ok(stream.finished().await?)
    }

    /// One message after the other, each acknowledged before the next.
    async fn send_messages(self, size: usize) -> Result<(), RunError> {
        while !self.stop.is_set() {
            let len = self.budget.take(size);
            if len == 0 {
                break;
            }
            self.connection.open_uni()?.finish_with(block(len)).await?;
            self.counts.add_message(len);
        }
        Ok(())
    }

    async fn send_datagrams(self, size: usize) -> Result<(), RunError> {
        let mut waiting = VecDeque::with_capacity(DATAGRAMS_WAITING);
        while !self.stop.is_set() {
            let len = self.budget.take(size);
            if len == 0 {
                break;
            }
            if waiting.len() == DATAGRAMS_WAITING {
                self.sent(&mut waiting).await?;
            }
            let datagram = self.connection.send_datagram(block(len));
            match datagram.refusal() {
                None => waiting.push_back((datagram, len)),
                Some(error) => return Err(refused(error, size)),
            }
        }
        let mut last = None;
        while !waiting.is_empty() {
            last = self.sent(&mut waiting).await?;
        }
        self.counts.may_end();
        // The word that all was sent must not overtake the last of it.
        match last {
            Some(last) => match tokio::time::timeout(LAST_DATAGRAM, last).await {
                Ok(Err(error)) => Err(error.into()),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Waits until the first of those that wait has gone out, and counts it.
    async fn sent(&self, waiting: &mut VecDeque<(SendDatagram, usize)>) -> Result<Option<SendDatagram>, RunError> {
        let Some((mut datagram, len)) = waiting.pop_front() else { return Ok(None) };
        if datagram.progress().await? == DatagramFate::Canceled {
            return Err(RunError::Unable(format!("the path no longer carries datagrams of {len} bytes")));
        }
        self.counts.add_message(len);
        Ok(Some(datagram))
    }
}

/// Waits until datagrams of `size` bytes fit into packets: the path's size is found out first.
async fn fits(connection: &Connection, size: usize) -> Result<(), RunError> {
    let begin = Instant::now();
    // Nothing tells when it changes. A connection that takes none is found out by the first one.
    while let Some(max) = connection.max_datagram_size().filter(|max| *max < size) {
        if begin.elapsed() > FOUND {
            return Err(refused(&SendDatagramError::TooLarge { max }, size));
        }
        tokio::time::sleep(SEARCH).await;
    }
    Ok(())
}

fn refused(error: &SendDatagramError, size: usize) -> RunError {
    match error {
        SendDatagramError::TooLarge { max } => {
            RunError::Unable(format!("the path carries datagrams of up to {max} bytes, not of {size}"))
        }
        other => other.clone().into(),
    }
}

/// How much goes to the transport at once.
const CHUNK: usize = 256 << 10;
/// How many messages of one sender are under way, so that it need not wait for each; and how many
/// bytes they may have.
const MESSAGES_UNDER_WAY: usize = 128;
const UNDER_WAY: usize = 4 << 20;
/// How many datagrams of one sender wait for their packet.
const DATAGRAMS_WAITING: usize = 128;
/// How long the last datagram's fate is waited for.
const LAST_DATAGRAM: Duration = Duration::from_secs(1);
/// How long the search for the path's packet size may take, and how often it is looked at.
const FOUND: Duration = Duration::from_secs(2);
const SEARCH: Duration = Duration::from_millis(10);
