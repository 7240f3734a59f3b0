//! A chat: pages connect over WebTransport, and what one says all see.
//!
//! Open the address that it prints in some tabs of Chromium. The page comes over plain HTTP from this
//! machine, with the hash of the server's certificate in it. On the network it would come over HTTPS.

use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use sendstream::{Identity, Server};
use sendstream_web_transport::{
    ALPN, Session, accept,
    http::StatusCode,
    trait_::{RecvStream as _, SendStream as _, Session as _},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::broadcast,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much of a message is passed on, and how many a slow page may be behind.
const LONGEST: usize = 1000;
const BEHIND: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    // Browsers take certificates that nobody vouches for only if they are this short-lived.
    let identity = Identity::self_signed_for(["localhost"], Duration::from_secs(14 * 24 * 3600))?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn([ALPN]).bind("127.0.0.1:0".parse()?)?;
    let page = include_str!("chat.html")
        .replace("{address}", &server.local_addr()?.to_string())
        .replace("{hash}", &format!("{:?}", hash.as_ref()));
    let web = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://localhost:{}", web.local_addr()?.port());
    tokio::spawn(serve_page(web, page));

    let (said, _) = broadcast::channel(BEHIND);
    while let Some(incoming) = server.accept().await {
        let said = said.clone();
        tokio::spawn(async move {
            let request = accept(incoming.accept().await?).await?;
            // Only the page above may connect, not every page of the web.
            let origin = request.headers().get("origin").map_or(&b""[..], |origin| origin.as_bytes());
            if !origin.is_empty() && !origin.starts_with(b"http://localhost:") {
                return Ok(request.reject(StatusCode::FORBIDDEN).await?);
            }
            talk(request.ok().await?, said).await
        });
    }
    Ok(())
}

/// Each message is a stream of its own, in both directions.
async fn talk(session: Session, said: broadcast::Sender<Bytes>) -> Result<()> {
    let mut heard = said.subscribe();
    loop {
        tokio::select! {
            stream = session.accept_uni() => {
                let mut message = Vec::new();
                stream?.read_all_buf(&mut (&mut message).limit(LONGEST)).await?;
                let _ = said.send(message.into());
            }
            message = heard.recv() => {
                let mut stream = session.open_uni().await?;
                stream.write_chunk(message?).await?;
                stream.finish()?;
            }
        }
    }
}

/// Answers each request with the page: all of HTTP/1.1 that this takes.
async fn serve_page(web: TcpListener, page: String) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
    loop {
        let (mut client, _) = web.accept().await?;
        let answer = head.to_owned() + &page;
        tokio::spawn(async move {
            let mut lines = BufReader::new(&mut client).lines();
            while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
            client.write_all(answer.as_bytes()).await
        });
    }
}
