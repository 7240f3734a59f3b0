//! [`Transport`]: an async QUIC interface, and the workloads written against it.

use std::{
    any::Any,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    payload::{self, Check, MessageCheck, PING},
    plan::{Bulk, Messages, Suite},
    process::Meter,
    stack::{Cost, Handshakes, RoundTrips, Setup, Stack, histogram},
};

/// A stack with an async interface: a client and a server, both in this process.
///
/// Each operation is what the stack's own users would write. Futures run on a multi-threaded tokio,
/// unless [`spawn`](Self::spawn) puts them elsewhere.
pub trait Transport: Sized + Send + Sync + 'static {
    /// The stack's name in reports.
    const NAME: &'static str;
    /// How many files a connection has open, both sides together; stacks with one socket for all
    /// have none.
    const DESCRIPTORS_PER_CONNECTION: u64 = 0;
    type Connection: Clone + Send + Sync + 'static;
    type SendStream: Send + 'static;
    type RecvStream: Send + 'static;
    /// Received bytes, in the form in which reading costs least.
    type Chunk: AsRef<[u8]> + Send;

    /// Starts the server and prepares the client. Runs within tokio.
    fn new(setup: &Setup) -> Result<Self>;

    /// Connects the client, up to the end of the handshake.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// The server's side of the next connection.
    fn accept(&self) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Closes a connection at once.
    fn close(connection: Self::Connection);

    /// The cipher suite of every connection, where it can be told.
    fn suite(&self) -> Option<Suite>;

    /// Runs `work`, which uses `connection`, to its end.
    fn spawn(_connection: &Self::Connection, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(work);
    }

    fn open_uni(connection: &Self::Connection) -> impl Future<Output = Result<Self::SendStream>> + Send;

    fn accept_uni(connection: &Self::Connection) -> impl Future<Output = Result<Self::RecvStream>> + Send;

    fn open_bi(
        connection: &Self::Connection,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream)>> + Send;

    fn accept_bi(
        connection: &Self::Connection,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream)>> + Send;

    /// Writes a chunk of the caller's, without a copy where the stack can; resolves when the next
    /// may be written.
    fn write(stream: &mut Self::SendStream, chunk: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Writes borrowed bytes through tokio's `AsyncWrite`.
    fn write_borrowed(stream: &mut Self::SendStream, data: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Ends the stream; resolves when the peer has acknowledged the end and every byte before it.
    fn finish(stream: &mut Self::SendStream) -> impl Future<Output = Result<()>> + Send;

    /// Writes the stream's only chunk and ends it, in one operation where the stack has one;
    /// resolves as [`finish`](Self::finish) does.
    fn write_and_finish(stream: &mut Self::SendStream, chunk: Bytes) -> impl Future<Output = Result<()>> + Send {
        async {
            Self::write(stream, chunk).await?;
            Self::finish(stream).await
        }
    }

    /// The next bytes, or `None` at the stream's end.
    fn read(stream: &mut Self::RecvStream) -> impl Future<Output = Result<Option<Self::Chunk>>> + Send;
}

/// The workloads for a [`Transport`].
pub struct Async<T> {
    transport: Arc<T>,
    runtime: Runtime,
    cpu: Option<usize>,
}

impl<T: Transport> Stack for Async<T> {
    const NAME: &'static str = T::NAME;
    const DESCRIPTORS_PER_CONNECTION: u64 = T::DESCRIPTORS_PER_CONNECTION;

    fn new(setup: &Setup) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let transport = Arc::new(runtime.block_on(async { T::new(setup) })?);
        Ok(Self { transport, runtime, cpu: setup.cpu })
    }

    fn suite(&self) -> Option<Suite> {
        self.transport.suite()
    }

    fn bulk(&self, plan: &Bulk) -> Result<Cost> {
        self.runtime.block_on(async {
            let (clients, servers) = connections(&self.transport, plan.connections as usize).await?;
            let meter = Meter::start(self.cpu)?;
            let readers: Vec<_> = servers
                .iter()
                .map(|server| task::<T, _>(server, read_all::<T>(server.clone(), plan.clone())))
                .collect();
            let writers: Vec<_> = clients
                .iter()
                .flat_map(|client| (0..plan.streams).map(move |_| client))
                .map(|client| task::<T, _>(client, write_all::<T>(client.clone(), plan.clone())))
                .collect();
            let received = async {
                try_join_all(readers).await?;
                meter.stop()
            };
            let (cost, _) = tokio::try_join!(received, try_join_all(writers))?;
            Ok(cost)
        })
    }

    fn messages(&self, plan: &Messages) -> Result<Cost> {
        self.runtime.block_on(async {
            let (client, server) = connection(&self.transport).await?;
            let meter = Meter::start(self.cpu)?;
            let reader = task::<T, _>(&server, read_messages::<T>(server.clone(), plan.clone()));
            let next = Arc::new(AtomicU64::new(0));
            let writers: Vec<_> = (0..plan.in_flight.min(plan.count))
                .map(|_| task::<T, _>(&client, write_messages::<T>(client.clone(), next.clone(), plan.count)))
                .collect();
            let received = async {
                reader.await?;
                meter.stop()
            };
            let (cost, _) = tokio::try_join!(received, try_join_all(writers))?;
            Ok(cost)
        })
    }

    fn ping_pong(&self, count: u64) -> Result<RoundTrips> {
        self.runtime.block_on(async {
            let (client, server) = connection(&self.transport).await?;
            let meter = Meter::start(self.cpu)?;
            let echo = task::<T, _>(&server, echo::<T>(server.clone(), count));
            let pings = task::<T, _>(&client, ping::<T>(client.clone(), count));
            let measured = async {
                let nanoseconds = pings.await?;
                Ok(RoundTrips { cost: meter.stop()?, nanoseconds })
            };
            let (trips, _) = tokio::try_join!(measured, echo)?;
            Ok(trips)
        })
    }

    fn connect(&self, count: u64) -> Result<Handshakes> {
        let transport = self.transport.clone();
        let cpu = self.cpu;
        self.runtime.block_on(async move {
            // On a worker thread, as an application's tasks are.
            tokio::spawn(async move {
                let mut nanoseconds = histogram();
                let meter = Meter::start(cpu)?;
                for _ in 0..count {
                    let start = Instant::now();
                    let (client, _server) = connection(&transport).await?;
                    nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                    T::close(client);
                }
                Ok(Handshakes { cost: meter.stop()?, nanoseconds })
            })
            .await?
        })
    }

    fn hold(&self, count: usize, streams: usize) -> Result<Box<dyn Any>> {
        self.runtime.block_on(async {
            let (clients, servers) = connections(&self.transport, count).await?;
            let opened = clients.iter().map(|client| task::<T, _>(client, hold_opened::<T>(client.clone(), streams)));
            let accepted =
                servers.iter().map(|server| task::<T, _>(server, hold_accepted::<T>(server.clone(), streams)));
            let held = tokio::try_join!(try_join_all(opened), try_join_all(accepted))?;
            Ok(Box::new((held, clients, servers)) as Box<dyn Any>)
        })
    }
}

/// Runs `work` where the stack wants it, and gives its outcome.
fn task<T: Transport, R: Send + 'static>(
    connection: &T::Connection,
    work: impl Future<Output = Result<R>> + Send + 'static,
) -> impl Future<Output = Result<R>> + Send + 'static {
    let (tell, told) = oneshot::channel();
    T::spawn(connection, async move {
        let _ = tell.send(work.await);
    });
    async move { told.await.context("a task was dropped before its end")? }
}

async fn connection<T: Transport>(transport: &Arc<T>) -> Result<(T::Connection, T::Connection)> {
    tokio::try_join!(transport.connect(), transport.accept())
}

/// So many connections: the client's sides and the server's sides, in no common order.
async fn connections<T: Transport>(
    transport: &Arc<T>,
    count: usize,
) -> Result<(Vec<T::Connection>, Vec<T::Connection>)> {
    const AT_ONCE: usize = 16;
    let client = transport.clone();
    let connect = async move {
        stream::iter(0..count).map(|_| client.connect()).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await
    };
    let accept = async {
        let mut accepted = Vec::with_capacity(count);
        while accepted.len() < count {
            accepted.push(transport.accept().await?);
        }
        Ok(accepted)
    };
    tokio::try_join!(connect, accept)
}

async fn write_all<T: Transport>(connection: T::Connection, plan: Bulk) -> Result<()> {
    let mut stream = T::open_uni(&connection).await?;
    for (position, length) in plan.chunks() {
        if plan.async_write {
            T::write_borrowed(&mut stream, payload::slice(position, length)).await?;
        } else {
            T::write(&mut stream, payload::chunk(position, length)).await?;
        }
    }
    T::finish(&mut stream).await
}

async fn read_all<T: Transport>(connection: T::Connection, plan: Bulk) -> Result<()> {
    let mut readers = Vec::new();
    for _ in 0..plan.streams {
        let stream = T::accept_uni(&connection).await?;
        readers.push(task::<T, _>(&connection, read_stream::<T>(stream, plan.bytes_per_stream())));
    }
    try_join_all(readers).await.map(drop)
}

async fn read_stream<T: Transport>(mut stream: T::RecvStream, length: u64) -> Result<()> {
    let mut check = Check::new(length);
    while let Some(chunk) = T::read(&mut stream).await? {
        check.take(chunk.as_ref())?;
    }
    check.finish()
}

/// One of the messages that may be under way at once, and after it the next that nobody has taken.
async fn write_messages<T: Transport>(connection: T::Connection, next: Arc<AtomicU64>, count: u64) -> Result<()> {
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= count {
            return Ok(());
        }
        let mut stream = T::open_uni(&connection).await?;
        T::write_and_finish(&mut stream, payload::message(number)).await?;
    }
}

async fn read_messages<T: Transport>(connection: T::Connection, plan: Messages) -> Result<()> {
    let mut sum = 0;
    for _ in 0..plan.count {
        sum += read_message::<T>(T::accept_uni(&connection).await?).await?;
    }
    check_sum(plan.count, sum)
}

/// Fails unless the numbers of `count` messages add up to what those from 0 do.
pub fn check_sum(count: u64, sum: u64) -> Result<()> {
    ensure!(sum == count * (count - 1) / 2, "a message is missing, or came twice");
    Ok(())
}

async fn read_message<T: Transport>(mut stream: T::RecvStream) -> Result<u64> {
    let mut check = MessageCheck::default();
    while let Some(chunk) = T::read(&mut stream).await? {
        check.take(chunk.as_ref())?;
    }
    check.finish()
}

async fn ping<T: Transport>(connection: T::Connection, count: u64) -> Result<hdrhistogram::Histogram<u64>> {
    let (mut send, mut recv) = T::open_bi(&connection).await?;
    let mut nanoseconds = histogram();
    for number in 0..count {
        let ping = payload::ping(number);
        let start = Instant::now();
        T::write(&mut send, Bytes::from_static(ping)).await?;
        let pong = read_ping::<T>(&mut recv).await?;
        nanoseconds.record(start.elapsed().as_nanos() as u64)?;
        ensure!(pong == ping, "wrong bytes in ping {number}");
    }
    T::finish(&mut send).await?;
    Ok(nanoseconds)
}

async fn echo<T: Transport>(connection: T::Connection, count: u64) -> Result<()> {
    let (mut send, mut recv) = T::accept_bi(&connection).await?;
    for _ in 0..count {
        let ping = read_ping::<T>(&mut recv).await?;
        T::write(&mut send, Bytes::copy_from_slice(&ping)).await?;
    }
    T::finish(&mut send).await?;
    // Whoever drops a stream before its end stops the peer, who may not have finished yet.
    ensure!(T::read(&mut recv).await?.is_none(), "more than the last ping");
    Ok(())
}

async fn read_ping<T: Transport>(stream: &mut T::RecvStream) -> Result<[u8; PING]> {
    let mut ping = [0; PING];
    let mut filled = 0;
    while filled < PING {
        let chunk = T::read(stream).await?.context("the stream ended before the last ping")?;
        let chunk = chunk.as_ref();
        ensure!(chunk.len() <= PING - filled, "more than one ping at once");
        ping[filled..filled + chunk.len()].copy_from_slice(chunk);
        filled += chunk.len();
    }
    Ok(ping)
}

type Halves<T> = (<T as Transport>::SendStream, <T as Transport>::RecvStream);

async fn hold_opened<T: Transport>(connection: T::Connection, streams: usize) -> Result<Vec<Halves<T>>> {
    let mut held = Vec::with_capacity(streams);
    for number in 0..streams {
        let (mut send, recv) = T::open_bi(&connection).await?;
        T::write(&mut send, Bytes::from_static(payload::ping(number as u64))).await?;
        held.push((send, recv));
    }
    Ok(held)
}

async fn hold_accepted<T: Transport>(connection: T::Connection, streams: usize) -> Result<Vec<Halves<T>>> {
    let mut held = Vec::with_capacity(streams);
    for _ in 0..streams {
        let (send, mut recv) = T::accept_bi(&connection).await?;
        read_ping::<T>(&mut recv).await?;
        held.push((send, recv));
    }
    Ok(held)
}
