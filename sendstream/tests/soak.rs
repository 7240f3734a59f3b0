//! Connections and streams that come and go leave nothing behind: not memory, not descriptors, not
//! threads, not native handles. Alone in its file, because it looks at the process's numbers.
//!
//! 1,000 connections with 100 streams each, which takes ten seconds; `SENDSTREAM_SOAK_SECONDS` goes
//! on that long. A tenth of them goes over a path that changes which packets it carries.

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use sendstream::{Connection, process::counters};
use support::{
    Endpoints, accept, figure,
    memory::{Holdings, holdings},
    relay::{Faults, Relay},
    run_within, soak,
};

const CONNECTIONS: usize = 1000;
const STREAMS: usize = 100;
/// How many connections there are at once.
const AT_ONCE: usize = 10;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn connections_and_streams_that_come_and_go_leave_nothing() {
    let wanted = soak::duration("SENDSTREAM_SOAK_SECONDS", Duration::ZERO);
    run_within(wanted + Duration::from_secs(600), async move {
        let begin = Instant::now();
        let endpoints = Endpoints::new();
        // What is kept for the next time, in MsQuic and in the allocator, is there after a tenth of
        // it.
        come_and_go(&endpoints, endpoints.address, CONNECTIONS / 10).await;
        come_and_go_over_other_sizes(&endpoints, CONNECTIONS / 10).await;
        let before = settled(None).await;
        let mut connections = 0;
        while connections < CONNECTIONS || begin.elapsed() < wanted {
            if connections % CONNECTIONS == 0 {
                come_and_go_over_other_sizes(&endpoints, CONNECTIONS / 10).await;
            } else {
                come_and_go(&endpoints, endpoints.address, CONNECTIONS / 10).await;
            }
            connections += CONNECTIONS / 10;
            if connections % CONNECTIONS == 0 {
                println!("{connections} connections, {:.0?}: {:?}", begin.elapsed(), holdings());
            }
        }
        let after = settled(Some(before)).await;
        figure(format_args!(
            "{connections} connections and {} streams in {:.0?}: {before:?} became {after:?}",
            connections * STREAMS,
            begin.elapsed()
        ));
        let grown = after.resident.saturating_sub(before.resident);
        assert!(grown < 32 << 20, "resident memory grew by {grown} bytes");
        endpoints.end().await;
    });
}

/// So many connections, over a path whose packet size is another one now and then.
async fn come_and_go_over_other_sizes(endpoints: &Endpoints, connections: usize) {
    let relay = Relay::start(endpoints.address, Faults::none().change_mtu(300, usize::MAX));
    come_and_go(endpoints, relay.address(), connections).await;
}

/// So many connections to `address`, some at once, each with its streams.
async fn come_and_go(endpoints: &Endpoints, address: SocketAddr, connections: usize) {
    let clients = stream::iter(0..connections).map(|number| come(endpoints, address, number));
    let servers = stream::iter(0..connections).map(|_| serve(endpoints));
    futures::join!(
        clients.buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
        servers.buffer_unordered(AT_ONCE).collect::<Vec<_>>()
    );
}

async fn come(endpoints: &Endpoints, address: SocketAddr, number: usize) {
    let connection = endpoints.client.connect(address, "localhost").await.unwrap();
    ask(&connection, number).await;
    connection.close(0, "").unwrap();
}

async fn serve(endpoints: &Endpoints) {
    let connection = accept(&endpoints.server).await.unwrap();
    answer(&connection).await;
}

/// Streams of every kind of end: finished, reset, stopped, and dropped.
async fn ask(connection: &Connection, number: usize) {
    for stream in 0..STREAMS {
        let (mut send, mut recv) = connection.open_bi().unwrap();
        match (number + stream) % 5 {
            0 => {
                drop(send.send(vec![0; 2000]));
                send.abort(5).unwrap();
            }
            1 => {
                drop(send.finish_with("question"));
                recv.stop(6).unwrap();
            }
            2 => drop(send.send("dropped")),
            _ => {
                drop(send.finish_with("question"));
                assert_eq!(recv.read_to_end(1000).await.unwrap(), b"question");
            }
        }
    }
}

/// Sends back what comes, until the connection ends.
async fn answer(connection: &Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        if let Ok(question) = recv.read_to_end(10_000).await {
            drop(send.finish_with(question));
        }
    }
}

/// What the process holds once MsQuic itself counts no connection and no stream, and, where
/// `before` is given, holds no more descriptors and threads than that. MsQuic gives them back on
/// its workers after a close, and has no event for that.
async fn settled(before: Option<Holdings>) -> Holdings {
    let begin = Instant::now();
    loop {
        let (counted, now) = (counters().unwrap(), holdings());
        let back = before.is_none_or(|then| now.descriptors <= then.descriptors && now.threads <= then.threads);
        if (counted.connections_active, counted.streams_active) == (0, 0) && back {
            return now;
        }
        assert!(begin.elapsed() < support::HANG, "{counted:?}, {now:?} and not {before:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
