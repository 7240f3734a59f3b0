//! Publish and subscribe, for many: every subscriber gets every message, and one that is slow misses
//! some and holds up nobody.
//!
//!     cargo run --example publish
//!
//! Server and subscribers are in one process here. Each subscriber has one stream, on which messages
//! follow each other, each with 4 bytes of length before it.

use std::{error::Error, sync::Arc, time::Duration};

use sendstream::{Bytes, Client, Connection, Identity, RecvStream, Server, TransportConfig, Trust};
use tokio::sync::{Notify, broadcast, mpsc};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SUBSCRIBERS: usize = 200;
const MESSAGES: u32 = 100;
/// How many messages wait for a subscriber before the oldest are dropped for it.
const BACKLOG: usize = 32;

#[tokio::main]
async fn main() -> Result {
    let identity = Identity::self_signed(["localhost"])?;
    let trust = Trust::pinned([identity.certificate_sha256()]);
    let server = Server::builder().identity(identity).alpn(["publish"]).bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;
    let (publisher, _) = broadcast::channel::<Bytes>(BACKLOG);

    let (joined, mut joining) = mpsc::channel(SUBSCRIBERS);
    let messages = publisher.clone();
    let serving = tokio::spawn(async move {
        let mut connections = server.connections();
        while let Some(connection) = connections.next().await {
            // Whoever is here gets what is published from now on.
            tokio::spawn(deliver(connection, messages.subscribe()));
            let _ = joined.send(()).await;
        }
    });

    // What a subscriber has not read waits at the server, where it can be dropped, and not here.
    let frugal = TransportConfig::default().stream_receive_window(16 << 10);
    let client = Client::builder().alpn(["publish"]).trust(trust).transport(frugal).build()?;
    let published = Arc::new(Notify::new());
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let connection = client.connect(address, "localhost").await?;
        // The first is slow: it reads nothing before everything is published.
        let wait = (number == 0).then(|| published.clone());
        subscribers.push(tokio::spawn(subscribe(connection, wait)));
    }
    for _ in 0..SUBSCRIBERS {
        joining.recv().await.ok_or("the server has ended")?;
    }

    for number in 0..MESSAGES {
        let mut message = number.to_be_bytes().to_vec();
        message.resize(4 << 10, 7);
        publisher.send(Bytes::from(message))?;
        tokio::time::sleep(Duration::from_millis(10)).await; // messages come now and then
    }
    publisher.send(Bytes::new())?; // the last one, by which subscribers end
    published.notify_one();
    let mut missed = Vec::new();
    for subscriber in subscribers {
        missed.push(MESSAGES - subscriber.await??);
    }
    let quick = missed[1..].iter().filter(|&&missed| missed == 0).count();
    println!("{quick} of {} missed nothing; the slow one missed {}", SUBSCRIBERS - 1, missed[0]);
    client.close_all(0, "")?;
    serving.abort();
    Ok(())
}

/// Sends one subscriber what is published, as fast as it reads.
async fn deliver(connection: Connection, mut messages: broadcast::Receiver<Bytes>) -> Result {
    let mut stream = connection.open_uni()?;
    // What is under way to a subscriber is bounded; the rest waits in the channel, or is dropped there.
    stream.set_send_window(16 << 10);
    loop {
        match messages.recv().await {
            Ok(message) => {
                let length = u32::try_from(message.len())?.to_be_bytes();
                // The message is shared by all of the subscribers, and copied for none.
                stream.write_chunks(&mut [Bytes::copy_from_slice(&length), message]).await?;
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {} // goes on with the oldest that is left
            Err(broadcast::error::RecvError::Closed) => return Ok(stream.finished().await?),
        }
    }
}

/// How many messages came.
async fn subscribe(connection: Connection, wait: Option<Arc<Notify>>) -> Result<u32> {
    let mut stream = connection.accept_uni().await?;
    if let Some(published) = wait {
        published.notified().await;
    }
    let mut count = 0;
    while let Some(message) = next(&mut stream).await? {
        assert_eq!(message.len(), 4 << 10);
        count += 1;
    }
    Ok(count)
}

/// The next message; `None` for the empty one.
async fn next(stream: &mut RecvStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut message = vec![0; u32::from_be_bytes(length).min(1 << 20) as usize];
    stream.read_exact(&mut message).await?;
    Ok((!message.is_empty()).then_some(message))
}
