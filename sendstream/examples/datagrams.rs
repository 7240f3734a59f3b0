//! Sends datagrams, as a game or a call would, and counts what became of them.
//!
//!     cargo run --example datagrams

use std::{collections::HashSet, error::Error};

use futures::{StreamExt, stream};
use sendstream::{Client, Connection, ConnectionError, DatagramFate, Identity, SendDatagram, Server, Trust};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const DATAGRAMS: u32 = 1000;
/// How many may be on their way at once. Nothing holds datagrams back but the sender itself.
const IN_FLIGHT: usize = 32;

#[tokio::main]
async fn main() -> Result {
    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["datagrams"]).bind("127.0.0.1:0".parse()?)?;
    let client = Client::builder().alpn(["datagrams"]).trust(Trust::pinned([hash])).build()?;
    let address = server.local_addr()?;

    let receiving = async {
        let connection = server.connections().next().await.ok_or("the server was shut down")?;
        receive(&connection).await
    };
    let sending = async {
        let connection = client.connect(address, "localhost").await?;
        let acknowledged = send(&connection).await?;
        connection.close(0, "")?;
        Ok(acknowledged)
    };
    let (received, acknowledged) = futures::try_join!(receiving, sending)?;

    println!("of {DATAGRAMS} datagrams {} were acknowledged and {} received", acknowledged.len(), received.len());
    // Acknowledged means received by the peer's transport, which this receiver always keeps up
    // with. The other way round an acknowledgement may have been lost.
    assert!(acknowledged.is_subset(&received));
    assert!(!received.is_empty());
    client.wait_idle().await;
    server.shutdown().await;
    Ok(())
}

/// Returns the numbers of those that the peer acknowledged.
async fn send(connection: &Connection) -> Result<HashSet<u32>> {
    let room = connection.max_datagram_size().ok_or("the peer takes no datagrams")?;
    println!("a datagram may have {room} bytes on this path");
    stream::iter(0..DATAGRAMS)
        .map(|number| {
            let datagram = connection.send_datagram(number.to_be_bytes().to_vec());
            async move { Ok(fate(datagram).await?.eq(&DatagramFate::Acknowledged).then_some(number)) }
        })
        .buffer_unordered(IN_FLIGHT)
        .filter_map(|known: Result<Option<u32>>| async { known.transpose() })
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

/// Waits no longer than for the first suspicion: what is late is of no use here. Awaiting the
/// datagram itself would wait until it is certain.
async fn fate(mut datagram: SendDatagram) -> Result<DatagramFate> {
    loop {
        match datagram.progress().await? {
            DatagramFate::Sent => {}
            fate => return Ok(fate),
        }
    }
}

/// Reads until the peer closes the connection.
async fn receive(connection: &Connection) -> Result<HashSet<u32>> {
    let mut received = HashSet::new();
    loop {
        match connection.read_datagram().await {
            Ok(datagram) => drop(received.insert(u32::from_be_bytes(datagram[..].try_into()?))),
            Err(ConnectionError::ApplicationClosed { code: 0, .. }) => return Ok(received),
            Err(error) => return Err(error.into()),
        }
    }
}
