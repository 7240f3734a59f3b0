//! A server that answers requests, and stops in good order; and a client for it.
//!
//!     cargo run --example request_response serve [ADDRESS]
//!     cargo run --example request_response ask ADDRESS CERTIFICATE_HASH REQUEST...
//!
//! The server prints what the client needs. Each request has a stream of its own: a whole message
//! there, a whole message back. On Ctrl-C the server takes nobody new, answers what it has begun with,
//! and tells clients that stay to go.

use std::{error::Error, sync::Arc, time::Duration};

use sendstream::{
    CertificateHash, Client, Connection, ConnectionError, Identity, RecvStream, SendStream, Server, Trust,
};
use tokio::{sync::Semaphore, time::timeout};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a client may make the server hold: so many bytes, in so many requests at once.
const MAX_REQUEST: usize = 64 << 10;
const MAX_AT_ONCE: usize = 1000;

/// How long one request may take, and how long the server waits for clients when it stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// The codes of this protocol, for streams and connections.
const TOO_LATE: u64 = 1;
const GOING_AWAY: u64 = 2;

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve("127.0.0.1:4433").await,
        ["serve", address] => serve(address).await,
        ["ask", address, hash, ref requests @ ..] => ask(address, hash, requests).await,
        _ => Err("usage: request_response serve [ADDRESS], or ask ADDRESS CERTIFICATE_HASH REQUEST...".into()),
    }
}

async fn serve(address: &str) -> Result {
    // A real server loads its own: `Identity::from_files`.
    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["request-response"]).bind(address.parse()?)?;
    println!("{} {hash}", server.local_addr()?);

    let room = Arc::new(Semaphore::new(MAX_AT_ONCE));
    let mut connections = server.connections();
    loop {
        tokio::select! {
            next = connections.next() => match next {
                Some(connection) => drop(tokio::spawn(serve_one(connection, room.clone()))),
                None => break,
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        }
    }
    drop(connections);
    server.stop_listening();
    // Once nothing is under way, nobody loses an answer. This waits for all of the room, and requests
    // that come now wait behind it.
    let _ = timeout(PATIENCE, room.acquire_many(MAX_AT_ONCE as u32)).await;
    server.close_all(GOING_AWAY, "the server stops")?;
    server.shutdown().await;
    Ok(())
}

/// One client, whose requests are answered at the same time.
async fn serve_one(connection: Connection, room: Arc<Semaphore>) -> ConnectionError {
    loop {
        let (send, recv) = match connection.accept_bi().await {
            Ok(stream) => stream,
            Err(end) => return end,
        };
        // Without room for it the request waits here, and later ones in the client.
        let place = room.clone().acquire_owned().await.expect("nobody closes it");
        tokio::spawn(async move {
            if let Err(error) = answer(send, recv).await {
                eprintln!("a request was given up: {error}");
            }
            drop(place);
        });
    }
}

async fn answer(mut send: SendStream, mut recv: RecvStream) -> Result {
    let answering = async {
        let request = recv.read_to_end(MAX_REQUEST).await?;
        let response = request.to_ascii_uppercase(); // the work
        Ok(send.finish_with(response).await?)
    };
    match timeout(PATIENCE, answering).await {
        Ok(done) => done,
        Err(_) => Ok(send.abort(TOO_LATE)?),
    }
}

async fn ask(address: &str, hash: &str, requests: &[&str]) -> Result {
    let trust = Trust::pinned([hash.parse::<CertificateHash>()?]);
    let client = Client::builder().alpn(["request-response"]).trust(trust).build()?;
    let connection = client.connect(address.parse()?, "localhost").await?;
    for request in requests {
        println!("{}", timeout(PATIENCE, ask_one(&connection, request)).await??);
    }
    connection.close(0, "")?;
    client.wait_idle().await; // the server is told before the process ends
    Ok(())
}

async fn ask_one(connection: &Connection, request: &str) -> Result<String> {
    let (mut send, mut recv) = connection.open_bi()?;
    // While the server lets no more streams start, a request that is given up here is never sent.
    send.start().await?;
    drop(send.finish_with(request.to_owned())); // the answer tells that it arrived
    Ok(String::from_utf8(recv.read_to_end(MAX_REQUEST).await?)?)
}
