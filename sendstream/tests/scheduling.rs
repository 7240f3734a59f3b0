//! Streams of the same priority share a connection fairly, unless it is told otherwise. The path is
//! slow, so that data waits for its turn.

mod support;

use std::{
    future::{Future, pending},
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::select;
use sendstream::{Connection, RecvStream, SendStream, StreamScheduling, TransportConfig};
use support::{
    Endpoints, pattern,
    relay::{Faults, Relay},
    run,
};

/// What a big stream carries, all of which waits in the sender from the beginning.
const BIG: usize = 2 << 20;

/// A connection over a path of 10 Mbit/s that has room for so much, whose client schedules as `client`
/// says.
async fn slowly_connected(
    client: TransportConfig,
    server: TransportConfig,
    room: Duration,
) -> (Endpoints, Relay, Connection, Connection) {
    let endpoints = Endpoints::with(client, server);
    let relay = Relay::start(endpoints.address, Faults::none().rate(1_250_000, room));
    let (client, server) = endpoints.connect_through(relay.address()).await;
    (endpoints, relay, client, server)
}

/// A stream that has `BIG` bytes to send.
fn big(client: &Connection) -> SendStream {
    let mut send = client.open_uni().unwrap();
    drop(send.finish_with(pattern(BIG)));
    send
}

/// How many bytes of `stream` come until `end`.
async fn read_until(stream: &mut RecvStream, end: impl Future<Output = ()>) -> usize {
    let read = AtomicUsize::new(0);
    let reading = async {
        while let Some(chunk) = stream.read_chunk().await.unwrap() {
            read.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        pending::<()>().await;
    };
    select(pin!(reading), pin!(end)).await;
    read.load(Ordering::Relaxed)
}

/// How much of a big stream comes before a small message that is sent after it.
async fn before_a_message(client: TransportConfig) -> usize {
    let room = Duration::from_millis(100);
    let (_endpoints, _relay, client, server) = slowly_connected(client, TransportConfig::default(), room).await;
    let _send = big(&client);
    let mut recv = server.accept_uni().await.unwrap();
    recv.read_exact(&mut [0]).await.unwrap();
    let mut message = client.open_uni().unwrap();
    drop(message.finish_with("ping"));
    let arrival = async {
        assert_eq!(server.accept_uni().await.unwrap().read_to_end(4).await.unwrap(), b"ping");
    };
    read_until(&mut recv, arrival).await
}

#[test]
fn a_small_message_does_not_wait_behind_a_big_one() {
    run(async {
        let before = before_a_message(TransportConfig::default()).await;
        support::figure(format_args!("{before} of {BIG} bytes came before the message"));
        // What is on the path already comes first, and no more than that.
        assert!(before < BIG / 4, "{before}");
    });
}

#[test]
fn first_in_first_out_is_there_for_who_wants_it() {
    run(async {
        let fifo = TransportConfig::default().stream_scheduling(StreamScheduling::Fifo);
        let before = before_a_message(fifo).await;
        assert!(before > BIG / 4 * 3, "{before}");
    });
}

#[test]
fn big_streams_come_on_together() {
    run(async {
        // Nothing is lost: that would come later, and perhaps of one of them alone.
        let room = Duration::from_secs(10);
        // Neither has a start on the other, however long this thread waits for its processor in between:
        // both are admitted at once.
        let none = TransportConfig::default().max_concurrent_uni_streams(0);
        let (_endpoints, _relay, client, server) = slowly_connected(TransportConfig::default(), none, room).await;
        let _sending = [big(&client), big(&client)];
        server.set_max_concurrent_uni_streams(2).await.unwrap();
        let mut first = server.accept_uni().await.unwrap();
        let mut second = server.accept_uni().await.unwrap();
        let ended = async { while first.read_chunk().await.unwrap().is_some() {} };
        let meanwhile = read_until(&mut second, ended).await;
        support::figure(format_args!("{meanwhile} of {BIG} bytes came of one while the other came whole"));
        assert!(meanwhile > BIG / 8 * 7, "{meanwhile}");
    });
}
