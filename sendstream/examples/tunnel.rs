//! A tunnel: TCP connections over one QUIC connection, each on a stream of its own.
//!
//!     cargo run --example tunnel exit ADDRESS TCP_TARGET
//!     cargo run --example tunnel entry TCP_ADDRESS EXIT_ADDRESS CERTIFICATE_HASH
//!
//! The exit prints what the entry needs. Ends travel as ends, and resets as resets: a TCP connection
//! that is broken off never looks complete on the other side. **Whoever knows the exit's address can
//! use it**: a real one asks for client certificates, as the example `mtls` does.

use std::{error::Error, net::SocketAddr};

use sendstream::{BiStream, CertificateHash, Client, Connection, Identity, RecvStream, SendStream, Server, Trust};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["exit", address, target] => exit(address.parse()?, target.parse()?).await,
        ["entry", tcp, address, hash] => entry(tcp.parse()?, address.parse()?, hash.parse()?).await,
        _ => Err("usage: tunnel exit ADDRESS TCP_TARGET, or entry TCP_ADDRESS EXIT_ADDRESS CERTIFICATE_HASH".into()),
    }
}

async fn exit(address: SocketAddr, target: SocketAddr) -> Result {
    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["tunnel"]).bind(address)?;
    println!("{} {hash}", server.local_addr()?);
    let mut connections = server.connections();
    while let Some(connection) = connections.next().await {
        tokio::spawn(async move {
            while let Ok((send, recv)) = connection.accept_bi().await {
                tokio::spawn(async move {
                    // Without a target both halves are dropped, which resets them.
                    let tcp = TcpStream::connect(target).await?;
                    carry(tcp, send, recv).await
                });
            }
        });
    }
    Ok(())
}

async fn entry(tcp: SocketAddr, exit: SocketAddr, hash: CertificateHash) -> Result {
    let client = Client::builder().alpn(["tunnel"]).trust(Trust::pinned([hash])).build()?;
    let mut connection = client.connect(exit, "localhost").await?;
    let listener = TcpListener::bind(tcp).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        if connection.close_reason().is_some() {
            connection = client.connect(exit, "localhost").await?;
        }
        tokio::spawn(open(connection.clone(), tcp));
    }
}

async fn open(connection: Connection, tcp: TcpStream) -> Result {
    let (send, recv) = connection.open_bi()?;
    carry(tcp, send, recv).await
}

/// Both directions, each until its own end. On an error the stream is dropped, which resets it, and
/// the TCP connection with it.
async fn carry(mut tcp: TcpStream, send: SendStream, recv: RecvStream) -> Result {
    tcp.set_nodelay(true)?;
    if let Err(error) = copy_bidirectional(&mut tcp, &mut BiStream::from((send, recv))).await {
        tcp.set_zero_linger()?; // closes with RST
        return Err(error.into());
    }
    Ok(())
}
