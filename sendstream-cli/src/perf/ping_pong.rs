//! Pings and their answers, on streams that stay.

use std::{sync::Arc, time::Instant};

use sendstream::{Connection, RecvStream, SendStream};

use super::{
    counts::Counts,
    latency::Latency,
    plan::Plan,
    run_error::RunError,
    sending::block,
    tasks::{Stop, Tasks},
};

/// Sends pings of `size` bytes until `stop` is set, on each stream one after the other.
pub(crate) async fn ping(
    connection: &Connection,
    (plan, size): (&Plan, usize),
    counts: &Arc<Counts>,
    latency: &Arc<Latency>,
    stop: Stop,
) -> Result<(), RunError> {
    let mut tasks = Tasks::default();
    for _ in 0..plan.streams {
        let (send, recv) = connection.open_bi()?;
        tasks.spawn(ping_on(send, recv, size, Arc::clone(counts), Arc::clone(latency), stop.clone()));
    }
    tasks.all().await
}

/// Answers pings until the client has ended each of the streams.
pub(crate) async fn pong(
    connection: &Connection,
    (plan, size): (&Plan, usize),
    counts: &Arc<Counts>,
) -> Result<(), RunError> {
    let mut tasks = Tasks::default();
    for _ in 0..plan.streams {
        let (send, recv) = connection.accept_bi().await?;
        tasks.spawn(pong_on(send, recv, size, Arc::clone(counts)));
    }
    tasks.all().await
}

async fn ping_on(
    mut send: SendStream,
    mut recv: RecvStream,
    size: usize,
    counts: Arc<Counts>,
    latency: Arc<Latency>,
    stop: Stop,
) -> Result<(), RunError> {
    // The peer learns of the stream with the first ping, so there is one in any case.
    loop {
        let begin = Instant::now();
        send.write_chunk(block(size)).await?;
        let mut missing = size;
        while missing > 0 {
            let chunk = recv.read_chunk().await?.ok_or_else(|| RunError::breach("it left a ping without an answer"))?;
            missing = missing
                .checked_sub(chunk.len())
                .ok_or_else(|| RunError::breach("its answer is longer than the ping"))?;
        }
        latency.record(begin.elapsed());
        counts.add_message(size);
        if stop.is_set() {
            break;
        }
    }
    send.finished().await?;
    // Who drops a stream before its end has the peer stop.
    match recv.read_chunk().await? {
        None => Ok(()),
        Some(_) => Err(RunError::breach("its answers are longer than the pings")),
    }
}

async fn pong_on(mut send: SendStream, mut recv: RecvStream, size: usize, counts: Arc<Counts>) -> Result<(), RunError> {
    let mut unanswered = 0;
    while let Some(chunk) = recv.read_chunk().await? {
        unanswered += chunk.len();
        drop(chunk);
        while unanswered >= size {
            unanswered -= size;
            send.write_chunk(block(size)).await?;
            counts.add_message(size);
        }
    }
    if unanswered > 0 {
        return Err(RunError::breach("it ended a stream in the middle of a ping"));
    }
    Ok(send.finished().await?)
}
