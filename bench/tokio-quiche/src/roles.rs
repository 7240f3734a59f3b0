//! What the two sides of each workload do.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use anyhow::{Result, ensure};
use bench_core::{
    Bulk, Messages, Transfer, histogram,
    payload::{self, Check, MessageCheck, PING, check_sum},
};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::mpsc::UnboundedSender;
use tokio_quiche::quic::QuicheConnection;
use tokio_quiche::quiche::Error;

use crate::app::Role;

/// Does nothing.
pub(crate) struct Idle;

impl Role for Idle {}

/// Closes the connection.
pub(crate) struct Close;

impl Role for Close {
    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        // Done: it is closed already.
        let _ = connection.close(true, 0, b"");
        Ok(())
    }
}

/// The client's side of `bulk`.
pub(crate) struct Writer {
    plan: Bulk,
    streams: Vec<Output>,
    /// The id of each stream.
    id: fn(u64) -> u64,
    begun: bool,
}

/// What is left to write on one stream.
struct Output {
    position: u64,
    /// The rest of a chunk that found not enough room.
    rest: Option<Bytes>,
}

impl Writer {
    pub(crate) fn new(plan: &Bulk) -> Self {
        Self::on(plan, client_uni)
    }

    fn on(plan: &Bulk, id: fn(u64) -> u64) -> Self {
        let streams = (0..plan.streams).map(|_| Output { position: 0, rest: None }).collect();
        Self { plan: plan.clone(), streams, id, begun: false }
    }

    fn fill(&mut self, connection: &mut QuicheConnection, id: u64) -> Result<()> {
        let output = &mut self.streams[(id >> 2) as usize];
        let end = self.plan.bytes_per_stream();
        while output.rest.is_some() || output.position < end {
            // tokio-quiche has no AsyncWrite; what comes closest is the call that copies.
            let sent = if self.plan.async_write {
                let length = u64::from(self.plan.chunk).min(end - output.position);
                let data = payload::slice(output.position, length as usize);
                connection.stream_send(id, data, output.position + length == end).map(|sent| {
                    output.position += sent as u64;
                    sent == data.len()
                })
            } else {
                let chunk = output.rest.take().unwrap_or_else(|| {
                    let length = u64::from(self.plan.chunk).min(end - output.position);
                    output.position += length;
                    payload::chunk(output.position - length, length as usize)
                });
                let sent = connection.stream_send_zc(id, chunk.clone(), output.position == end);
                output.rest = match &sent {
                    Ok((_, rest)) => rest.clone().filter(|rest| !rest.is_empty()),
                    Err(_) => Some(chunk),
                };
                sent.map(|_| output.rest.is_none())
            };
            match sent {
                Ok(true) => {}
                Ok(false) | Err(Error::Done) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Role for Writer {
    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        if !self.begun {
            self.begun = true;
            return (0..self.plan.streams).try_for_each(|number| self.fill(connection, (self.id)(number)));
        }
        while let Some(id) = connection.stream_writable_next() {
            self.fill(connection, id)?;
        }
        Ok(())
    }
}

/// The server's side of `bulk`.
pub(crate) struct Reader {
    length: u64,
    streams: HashMap<u64, Check>,
    buffer: Box<[u8]>,
    done: UnboundedSender<()>,
}

impl Reader {
    pub(crate) fn new(plan: &Bulk, done: UnboundedSender<()>) -> Self {
        Self { length: plan.bytes_per_stream(), streams: HashMap::new(), buffer: buffer(), done }
    }
}

impl Role for Reader {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        let (streams, length, done) = (&mut self.streams, self.length, &self.done);
        read(connection, &mut self.buffer, |id, data, end| {
            let check = streams.entry(id).or_insert_with(|| Check::new(length));
            check.take(data)?;
            if end {
                check.finish()?;
                streams.remove(&id);
                let _ = done.send(());
            }
            Ok(())
        })
    }
}

/// The client's side of `transfer`: writes to one stream, and closes when the server has answered.
pub(crate) struct Transferrer {
    writer: Writer,
    answer: Ping,
    answered: bool,
    buffer: [u8; PING],
    done: UnboundedSender<()>,
}

impl Transferrer {
    pub(crate) fn new(plan: &Transfer, done: UnboundedSender<()>) -> Self {
        let (writer, answer) = (Writer::on(&plan.bulk(), client_bidi), Ping::default());
        Self { writer, answer, answered: false, buffer: [0; PING], done }
    }
}

impl Role for Transferrer {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        let Self { answer, answered, buffer, done, .. } = self;
        read(connection, buffer, |_, data, _| {
            if let Some(bytes) = answer.take(data)? {
                ensure!(bytes == payload::ping(0), "wrong bytes in the answer");
                *answered = true;
                let _ = done.send(());
            }
            Ok(())
        })
    }

    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        if self.answered {
            // Done: it is closed already.
            let _ = connection.close(true, 0, b"");
            return Ok(());
        }
        self.writer.writes(connection)
    }
}

/// The server's side of `transfer`.
pub(crate) struct Answerer {
    check: Check,
    ended: bool,
    buffer: Box<[u8]>,
}

impl Answerer {
    pub(crate) fn new(plan: &Transfer) -> Self {
        Self { check: Check::new(plan.bulk().bytes_per_stream()), ended: false, buffer: buffer() }
    }
}

impl Role for Answerer {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        let Self { check, ended, buffer } = self;
        read(connection, buffer, |_, data, end| {
            check.take(data)?;
            if end {
                check.finish()?;
                *ended = true;
            }
            Ok(())
        })
    }

    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        if std::mem::take(&mut self.ended) {
            let sent = connection.stream_send(CLIENT_BIDI, payload::ping(0), true)?;
            ensure!(sent == PING, "no room for the answer");
        }
        Ok(())
    }
}

/// The client's side of `messages`.
pub(crate) struct MessageWriter {
    plan: Messages,
    next: u64,
    /// Streams that are not known to be acknowledged, oldest first.
    under_way: VecDeque<u64>,
    /// The rest of the newest message, if it found not enough room.
    rest: Option<Bytes>,
}

impl MessageWriter {
    pub(crate) fn new(plan: &Messages) -> Self {
        Self { plan: plan.clone(), next: 0, under_way: VecDeque::new(), rest: None }
    }
}

impl Role for MessageWriter {
    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        // quiche forgets a stream of ours when its end and all its bytes are acknowledged.
        while let Some(oldest) = self.under_way.front()
            && let Err(Error::InvalidStreamState(_)) = connection.stream_capacity(*oldest)
        {
            self.under_way.pop_front();
        }
        while self.rest.is_some()
            || (self.next < self.plan.count && self.under_way.len() < self.plan.in_flight as usize)
        {
            let message = self.rest.take().unwrap_or_else(|| {
                self.under_way.push_back(client_uni(self.next));
                self.next += 1;
                payload::message(self.next - 1)
            });
            match connection.stream_send_zc(client_uni(self.next - 1), message.clone(), true) {
                Ok((_, rest)) => self.rest = rest.filter(|rest| !rest.is_empty()),
                Err(Error::Done) => self.rest = Some(message),
                Err(error) => return Err(error.into()),
            }
            if self.rest.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// The server's side of `messages`.
pub(crate) struct MessageReader {
    expected: u64,
    count: u64,
    sum: u64,
    streams: HashMap<u64, MessageCheck>,
    buffer: Box<[u8]>,
    done: UnboundedSender<()>,
}

impl MessageReader {
    pub(crate) fn new(plan: &Messages, done: UnboundedSender<()>) -> Self {
        Self { expected: plan.count, count: 0, sum: 0, streams: HashMap::new(), buffer: buffer(), done }
    }
}

impl Role for MessageReader {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        let Self { expected, count, sum, streams, buffer, done } = self;
        read(connection, buffer, |id, data, end| {
            let check = streams.entry(id).or_default();
            check.take(data)?;
            if end {
                *sum += check.finish()?;
                *count += 1;
                streams.remove(&id);
                if *count == *expected {
                    check_sum(*expected, *sum)?;
                    let _ = done.send(());
                }
            }
            Ok(())
        })
    }
}

/// The client's side of `ping-pong`.
pub(crate) struct Pinger {
    number: u64,
    count: u64,
    sent: Option<Instant>,
    pong: Ping,
    nanoseconds: Histogram<u64>,
    buffer: Box<[u8]>,
    done: UnboundedSender<Histogram<u64>>,
}

impl Pinger {
    pub(crate) fn new(count: u64, done: UnboundedSender<Histogram<u64>>) -> Self {
        let (pong, buffer) = (Ping::default(), buffer());
        Self { number: 0, count, sent: None, pong, nanoseconds: histogram(), buffer, done }
    }
}

impl Role for Pinger {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        let Self { number, count, sent, pong, nanoseconds, buffer, done } = self;
        read(connection, buffer, |_, data, _| {
            if let (Some(bytes), Some(start)) = (pong.take(data)?, *sent) {
                nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                ensure!(bytes == payload::ping(*number), "wrong bytes in ping {number}");
                *number += 1;
                *sent = None;
                if number == count {
                    let _ = done.send(nanoseconds.clone());
                }
            }
            Ok(())
        })
    }

    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        if self.sent.is_none() && self.number < self.count {
            self.sent = Some(Instant::now());
            let sent = connection.stream_send(CLIENT_BIDI, payload::ping(self.number), false)?;
            ensure!(sent == PING, "no room for a ping");
        }
        Ok(())
    }
}

/// The server's side of `ping-pong`.
pub(crate) struct Echo {
    ping: Ping,
    buffer: Box<[u8]>,
    back: Option<[u8; PING]>,
}

impl Default for Echo {
    fn default() -> Self {
        Self { ping: Ping::default(), buffer: buffer(), back: None }
    }
}

impl Role for Echo {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        let Self { ping, buffer, back } = self;
        read(connection, buffer, |_, data, _| {
            if let Some(bytes) = ping.take(data)? {
                *back = Some(bytes);
            }
            Ok(())
        })
    }

    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        if let Some(back) = self.back.take() {
            let sent = connection.stream_send(CLIENT_BIDI, &back, false)?;
            ensure!(sent == PING, "no room for a ping");
        }
        Ok(())
    }
}

/// Opens streams that carry one ping each.
pub(crate) struct Opener {
    next: u64,
    streams: u64,
}

impl Opener {
    pub(crate) fn new(streams: usize) -> Self {
        Self { next: 0, streams: streams as u64 }
    }
}

impl Role for Opener {
    fn writes(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        while self.next < self.streams {
            match connection.stream_capacity(CLIENT_BIDI) {
                Ok(room) if room < PING => break,
                _ => {}
            }
            match connection.stream_send(client_bidi(self.next), payload::ping(self.next), false) {
                Ok(sent) => ensure!(sent == PING, "no room for a ping"),
                Err(Error::Done) => break,
                Err(error) => return Err(error.into()),
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// Takes such streams, and tells of each.
pub(crate) struct Holder {
    /// How much is there of pings that came in pieces.
    pieces: HashMap<u64, usize>,
    done: UnboundedSender<()>,
}

impl Holder {
    pub(crate) fn new(done: UnboundedSender<()>) -> Self {
        Self { pieces: HashMap::new(), done }
    }
}

impl Role for Holder {
    fn reads(&mut self, connection: &mut QuicheConnection) -> Result<()> {
        // Not kept, as what is held is what is measured.
        let mut buffer = [0; PING];
        let Self { pieces, done } = self;
        read(connection, &mut buffer, |id, data, _| {
            let length = pieces.remove(&id).unwrap_or_default() + data.len();
            if length < PING {
                pieces.insert(id, length);
            } else {
                let _ = done.send(());
            }
            Ok(())
        })
    }
}

/// A ping that comes in.
struct Ping {
    filled: usize,
    bytes: [u8; PING],
}

impl Default for Ping {
    fn default() -> Self {
        Self { filled: 0, bytes: [0; PING] }
    }
}

impl Ping {
    /// Takes the next piece, and gives the ping when it is whole.
    fn take(&mut self, data: &[u8]) -> Result<Option<[u8; PING]>> {
        ensure!(data.len() <= PING - self.filled, "more than one ping at once");
        self.bytes[self.filled..self.filled + data.len()].copy_from_slice(data);
        self.filled += data.len();
        if self.filled < PING {
            return Ok(None);
        }
        self.filled = 0;
        Ok(Some(self.bytes))
    }
}

/// Hands everything that can be read to `take`: the stream, the bytes, and whether they are the
/// last.
fn read(
    connection: &mut QuicheConnection,
    buffer: &mut [u8],
    mut take: impl FnMut(u64, &[u8], bool) -> Result<()>,
) -> Result<()> {
    while let Some(id) = connection.stream_readable_next() {
        loop {
            match connection.stream_recv(id, buffer) {
                Ok((length, end)) => {
                    take(id, &buffer[..length], end)?;
                    if end {
                        break;
                    }
                }
                Err(Error::Done) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn buffer() -> Box<[u8]> {
    vec![0; 64 << 10].into()
}

/// The client's unidirectional streams, from 0 (RFC 9000 §2.1).
fn client_uni(number: u64) -> u64 {
    4 * number + 2
}

/// The client's bidirectional streams.
fn client_bidi(number: u64) -> u64 {
    4 * number
}

/// The first of them.
const CLIENT_BIDI: u64 = 0;
