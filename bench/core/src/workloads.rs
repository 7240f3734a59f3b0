//! [`Async`]: both halves of each workload, written against [`Transport`].

use std::{
    collections::VecDeque,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use hdrhistogram::Histogram;
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    half::Half,
    identity::Identity,
    payload::{self, Check, MessageCheck, PING},
    plan::{Bulk, Messages, Suite, Transfer, Work},
    stack::{Listening, Setup, Stack, histogram},
    transport::Transport,
};

/// A [`Stack`] made of a [`Transport`], on a multi-threaded tokio.
pub struct Async<T> {
    transport: T,
    runtime: Runtime,
}

impl<T: Transport> Stack for Async<T> {
    const NAME: &'static str = T::NAME;
    const DESCRIPTORS_PER_CONNECTION: u64 = T::DESCRIPTORS_PER_CONNECTION;
    type Server = Arc<T::Server>;
    type Client = Arc<T::Client>;

    fn new(setup: &Setup) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let transport = runtime.block_on(async { T::new(setup) })?;
        Ok(Self { transport, runtime })
    }

    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(Self::Server, SocketAddr)> {
        let (server, address) = self.runtime.block_on(async { self.transport.listen(setup, identity) })?;
        Ok((Arc::new(server), address))
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<Self::Client> {
        Ok(Arc::new(self.runtime.block_on(async { self.transport.client(setup, server) })?))
    }

    fn suite(&self, client: &Self::Client) -> Option<Suite> {
        T::suite(client)
    }

    fn serve(&self, server: &Self::Server, work: &Work, half: &Half) -> Result<()> {
        self.runtime.block_on(serve::<T>(server, work, half))
    }

    fn drive(&self, client: &Self::Client, work: &Work, half: &Half) -> Result<Histogram<u64>> {
        self.runtime.block_on(drive::<T>(client, work, half))
    }
}

/// The server's half. Its connections stay open until the client is done with them.
async fn serve<T: Transport>(server: &Arc<T::Server>, work: &Work, half: &Half) -> Result<()> {
    match work {
        Work::Bulk(plan) => {
            let connections = accept_all::<T>(server, plan.connections as usize).await?;
            let running = half.start()?;
            each::<T, _, _>(&connections, |connection| read_all::<T>(connection, plan.clone())).await?;
            running.stop()?;
            half.meet()
        }
        Work::Messages(plan) => {
            let connection = T::accept(server).await?;
            let running = half.start()?;
            task::<T, _>(&connection, read_messages::<T>(connection.clone(), plan.clone())).await?;
            running.stop()?;
            half.meet()
        }
        Work::PingPong { count } => {
            let connection = T::accept(server).await?;
            half.follow()?;
            task::<T, _>(&connection, echo::<T>(connection.clone(), *count)).await?;
            half.meet()
        }
        Work::Connect { count } => {
            half.follow()?;
            // On a worker thread, as an application's tasks are.
            let _last = tokio::spawn(accept_closing::<T>(server.clone(), *count)).await?;
            half.meet()
        }
        Work::Transfer(plan) => {
            half.follow()?;
            tokio::spawn(answer_all::<T>(server.clone(), plan.clone())).await??;
            half.meet()
        }
        Work::Hold(plan) => {
            let connections = accept_all::<T>(server, plan.connections).await?;
            let streams =
                each::<T, _, _>(&connections, |connection| hold_accepted::<T>(connection, plan.streams)).await?;
            std::mem::forget((connections, streams));
            half.meet()
        }
    }
}

/// The client's half.
async fn drive<T: Transport>(client: &Arc<T::Client>, work: &Work, half: &Half) -> Result<Histogram<u64>> {
    let mut nanoseconds = histogram();
    match work {
        Work::Bulk(plan) => {
            let connections = connect_all::<T>(client, plan.connections as usize).await?;
            half.follow()?;
            let writers: Vec<_> = connections
                .iter()
                .flat_map(|connection| (0..plan.streams).map(move |_| connection))
                .map(|connection| task::<T, _>(connection, write_all::<T>(connection.clone(), plan.clone())))
                .collect();
            try_join_all(writers).await?;
            half.meet()?;
        }
        Work::Messages(plan) => {
            let connection = T::connect(client).await?;
            half.follow()?;
            let next = Arc::new(AtomicU64::new(0));
            let writers: Vec<_> = (0..plan.in_flight.min(plan.count))
                .map(|_| write_messages::<T>(connection.clone(), next.clone(), plan.count))
                .map(|writer| task::<T, _>(&connection, writer))
                .collect();
            try_join_all(writers).await?;
            half.meet()?;
        }
        Work::PingPong { count } => {
            let connection = T::connect(client).await?;
            let running = half.start()?;
            nanoseconds = task::<T, _>(&connection, ping::<T>(connection.clone(), *count)).await?;
            running.stop()?;
            half.meet()?;
        }
        Work::Connect { count } => {
            let running = half.start()?;
            nanoseconds = tokio::spawn(connect_and_close::<T>(client.clone(), *count)).await??;
            running.stop()?;
            half.meet()?;
        }
        Work::Transfer(plan) => {
            let running = half.start()?;
            nanoseconds = tokio::spawn(transfer_all::<T>(client.clone(), plan.clone())).await??;
            running.stop()?;
            half.meet()?;
        }
        Work::Hold(plan) => {
            let connections = connect_all::<T>(client, plan.connections).await?;
            let streams =
                each::<T, _, _>(&connections, |connection| hold_opened::<T>(connection, plan.streams)).await?;
            std::mem::forget((connections, streams));
            half.meet()?;
        }
    }
    Ok(nanoseconds)
}

/// Runs the same on each connection, all at once.
async fn each<T: Transport, W: Future<Output = Result<R>> + Send + 'static, R: Send + 'static>(
    connections: &[T::Connection],
    work: impl Fn(T::Connection) -> W,
) -> Result<Vec<R>> {
    try_join_all(connections.iter().map(|connection| task::<T, _>(connection, work(connection.clone())))).await
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

/// So many connections, in no particular order.
async fn connect_all<T: Transport>(client: &T::Client, count: usize) -> Result<Vec<T::Connection>> {
    const AT_ONCE: usize = 16;
    stream::iter(0..count).map(|_| T::connect(client)).buffer_unordered(AT_ONCE).try_collect().await
}

/// The server's sides of so many connections.
async fn accept_all<T: Transport>(server: &T::Server, count: usize) -> Result<Vec<T::Connection>> {
    let mut accepted = Vec::with_capacity(count);
    while accepted.len() < count {
        accepted.push(T::accept(server).await?);
    }
    Ok(accepted)
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
    payload::check_sum(plan.count, sum)
}

async fn read_message<T: Transport>(mut stream: T::RecvStream) -> Result<u64> {
    let mut check = MessageCheck::default();
    while let Some(chunk) = T::read(&mut stream).await? {
        check.take(chunk.as_ref())?;
    }
    check.finish()
}

async fn ping<T: Transport>(connection: T::Connection, count: u64) -> Result<Histogram<u64>> {
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

/// Connects and closes. A connection is closed when the next one is there: the server, if it is not
/// late, has it by then.
async fn connect_and_close<T: Transport>(client: Arc<T::Client>, count: u64) -> Result<Histogram<u64>> {
    let mut nanoseconds = histogram();
    let mut last = None;
    for _ in 0..count {
        let start = Instant::now();
        let connection = T::connect(&client).await?;
        nanoseconds.record(start.elapsed().as_nanos() as u64)?;
        if let Some(last) = last.replace(connection) {
            T::close(last);
        }
    }
    last.into_iter().for_each(T::close);
    Ok(nanoseconds)
}

/// Takes such connections, and keeps each until its client has closed it; gives the last ones.
async fn accept_closing<T: Transport>(server: Arc<T::Server>, count: u64) -> VecDeque<T::Connection> {
    let mut open = VecDeque::new();
    for _ in 0..count {
        // A server that is late finds that its client has closed it.
        open.extend(T::accept(&server).await);
        if open.len() > 2 {
            open.pop_front();
        }
    }
    open
}

async fn transfer_all<T: Transport>(client: Arc<T::Client>, plan: Transfer) -> Result<Histogram<u64>> {
    let mut nanoseconds = histogram();
    for _ in 0..plan.count {
        let connection = T::connect(&client).await?;
        let taken = task::<T, _>(&connection, transfer::<T>(connection.clone(), plan.clone())).await?;
        nanoseconds.record(taken.as_nanos() as u64)?;
        T::close(connection);
    }
    Ok(nanoseconds)
}

/// From the opening of the stream to the answer.
async fn transfer<T: Transport>(connection: T::Connection, plan: Transfer) -> Result<Duration> {
    let chunks = plan.bulk().chunks().map(|(position, length)| payload::chunk(position, length));
    let chunks: Vec<Bytes> = chunks.collect();
    let start = Instant::now();
    let (mut send, mut recv) = T::open_bi(&connection).await?;
    let write = async {
        if plan.is_whole() {
            return T::send(&mut send, chunks[0].clone()).await;
        }
        for chunk in &chunks {
            T::write(&mut send, chunk.clone()).await?;
        }
        T::finish(&mut send).await
    };
    let answer = async {
        let answer = read_ping::<T>(&mut recv).await?;
        let taken = start.elapsed();
        ensure!(answer == payload::ping(0), "wrong bytes in the answer");
        ensure!(T::read(&mut recv).await?.is_none(), "more than the answer");
        Ok(taken)
    };
    let ((), taken) = tokio::try_join!(write, answer)?;
    Ok(taken)
}

async fn answer_all<T: Transport>(server: Arc<T::Server>, plan: Transfer) -> Result<()> {
    for _ in 0..plan.count {
        let connection = T::accept(&server).await?;
        task::<T, _>(&connection, answer::<T>(connection.clone(), plan.clone())).await?;
    }
    Ok(())
}

async fn answer<T: Transport>(connection: T::Connection, plan: Transfer) -> Result<()> {
    let (mut send, recv) = T::accept_bi(&connection).await?;
    read_stream::<T>(recv, plan.bulk().bytes_per_stream()).await?;
    T::write(&mut send, Bytes::from_static(payload::ping(0))).await?;
    // The client closes the connection when it has the answer, also before the server knows.
    let _ = T::finish(&mut send).await;
    Ok(())
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
