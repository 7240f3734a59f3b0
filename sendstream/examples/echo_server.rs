//! A server that sends back whatever comes on a bidirectional stream, without copying it.
//!
//!     cargo run --example echo_server [ADDRESS]
//!
//! It prints where it listens and which certificate it shows; `echo_client` takes both. Ctrl-C ends
//! it in good order.

use std::{error::Error, net::SocketAddr};

use sendstream::{Bytes, Connection, ConnectionError, Identity, Incoming, RecvStream, SendStream, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:4433").parse()?;
    // A new certificate with every start; a real server would load its own with
    // `Identity::from_files`.
    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["echo"]).bind(address)?;
    println!("{} {hash}", server.local_addr()?);

    loop {
        tokio::select! {
            incoming = server.accept() => match incoming {
                // The handshake is part of the task: awaited here, a client that never finishes it
                // would hold up all others. `Server::connections` does the same, but does not say
                // which client failed.
                Some(incoming) => drop(tokio::spawn(serve(incoming))),
                None => break,
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        }
    }
    println!("stopping: waiting for open connections to end");
    server.shutdown().await;
    Ok(())
}

/// One connection, whose streams are echoed at the same time.
async fn serve(incoming: Incoming) {
    let client = incoming.remote_addr();
    match connection(incoming).await {
        Ok(reason) => eprintln!("{client}: {reason}"),
        Err(error) => eprintln!("{client}: no connection: {error}"),
    }
}

async fn connection(incoming: Incoming) -> Result<ConnectionError, ConnectionError> {
    let connection: Connection = incoming.accept().await?;
    loop {
        match connection.accept_bi().await {
            Ok((send, recv)) => drop(tokio::spawn(async move {
                if let Err(error) = echo(send, recv).await {
                    eprintln!("a stream was given up: {error}");
                }
            })),
            Err(reason) => return Ok(reason),
        }
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    while let Some(chunk) = recv.read_chunk().await? {
        // The chunk is MsQuic's memory, and MsQuic sends from it: it goes back when the client has
        // acknowledged it. A client that reads nothing makes `write_chunk` wait, then this task,
        // and then the client itself.
        send.write_chunk(Bytes::from(chunk)).await?;
    }
    send.finished().await?;
    Ok(())
}
