//! Sends the same bytes to many peers at once, from the one place in memory where they lie.
//!
//!     cargo run --example broadcast

use std::error::Error;

use futures::future::try_join_all;
use sendstream::{Bytes, Client, Connection, Identity, Server, Trust};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PEERS: usize = 16;
const LENGTH: usize = 8 << 20;

#[tokio::main]
async fn main() -> Result {
    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["broadcast"]).bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;

    let client = Client::builder().alpn(["broadcast"]).trust(Trust::pinned([hash])).build()?;
    let receivers: Vec<_> = (0..PEERS)
        .map(|_| {
            let client = client.connect(address, "localhost");
            async { receive(client.await?).await }
        })
        .collect();
    let sender = async {
        let mut peers = Vec::new();
        // Their handshakes are under way at the same time: none waits for another's.
        let mut connections = server.connections();
        while peers.len() < PEERS {
            peers.push(connections.next().await.ok_or("the server was shut down")?);
        }
        broadcast(&peers).await
    };
    let (received, ()) = futures::try_join!(try_join_all(receivers), sender)?;
    assert_eq!(received, vec![expected_sum(); PEERS]);
    println!("{PEERS} peers received {LENGTH} bytes each");
    client.wait_idle().await;
    server.shutdown().await;
    Ok(())
}

/// Sends to all of `peers`; returns when each of them has acknowledged everything.
async fn broadcast(peers: &[Connection]) -> Result {
    let data = Bytes::from_iter((0..LENGTH).map(byte));
    try_join_all(peers.iter().map(|peer| {
        // A clone of `Bytes` is one more name of the same memory, from which MsQuic itself reads
        // when it makes packets.
        let data = data.clone();
        async move {
            let mut stream = peer.open_uni()?;
            stream.finish_with(data).await?;
            stream.finished().await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        }
    }))
    .await?;
    // What was acknowledged has been given back: this is the only name left, so the memory could be
    // reused.
    assert!(data.is_unique(), "somebody still holds the bytes");
    Ok(())
}

async fn receive(connection: Connection) -> Result<u64> {
    let mut stream = connection.accept_uni().await?;
    let mut sum = 0;
    while let Some(chunk) = stream.read_chunk().await? {
        sum += chunk.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    Ok(sum)
}

fn byte(index: usize) -> u8 {
    (index % 251) as u8
}

fn expected_sum() -> u64 {
    (0..LENGTH).map(|index| u64::from(byte(index))).sum()
}
