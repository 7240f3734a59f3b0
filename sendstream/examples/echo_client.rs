//! Sends a message to `echo_server` and checks that the same comes back.
//!
//!     cargo run --example echo_client ADDRESS CERTIFICATE_HASH [MESSAGE]
//!
//! The first two are what `echo_server` prints.

use std::{error::Error, net::SocketAddr};

use sendstream::{CertificateHash, Client, Trust};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(hash)) = (arguments.next(), arguments.next()) else {
        return Err("usage: echo_client ADDRESS CERTIFICATE_HASH [MESSAGE]".into());
    };
    let address: SocketAddr = address.parse()?;
    let hash: CertificateHash = hash.parse()?;
    let message = arguments.next().unwrap_or_else(|| "hello".to_owned());

    // The pin takes the place of an authority: this very certificate, and no other.
    let client = Client::builder().alpn(["echo"]).trust(Trust::pinned([hash])).build()?;
    let connection = client.connect(address, "localhost").await?;

    let (mut send, mut recv) = connection.open_bi()?;
    // A whole message in one operation: it starts the stream, carries the bytes and ends it.
    // Whether somebody reads it is told by what comes back, so the acknowledgement need not be
    // waited for.
    drop(send.finish_with(message.clone()));
    let echoed = recv.read_to_end(message.len()).await?;
    if echoed != message.as_bytes() {
        return Err("something else came back".into());
    }
    println!("{}", String::from_utf8_lossy(&echoed));

    // Dropping the last handles closes the connection. Without the wait the process might end
    // before the server is told.
    drop((send, recv, connection));
    client.wait_idle().await;
    Ok(())
}
