//! Resumption and 0-RTT, with server and client in one process:
//!
//!     cargo run -p sendstream --example zero_rtt
//!
//! The first connection goes through a full handshake and brings a session ticket. The second shows
//! the ticket and sends its question along with the first packet, before the server has answered
//! anything. Then the server changes its ticket key, as one does every few hours: the third
//! connection's early data is refused and sent again by itself.
//!
//! **What is sent early can be replayed.** Anybody on the path can record it and send it again, so
//! a server may act on it only where acting twice does no harm (RFC 9001 §9.2, RFC 8446 §8). Asking
//! for the time is such a thing; paying is not.

use std::{error::Error, net::SocketAddr, sync::Arc};

use sendstream::{Client, Identity, MemorySessionCache, Resumption, Server, TicketKey, Trust};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // Any executor will do.
    futures::executor::block_on(run())
}

async fn run() -> Result<()> {
    // A server resumes only if it is told to, and takes early data only if it is told that, too.
    // Several servers that share a ticket key accept one another's tickets.
    let identity = Identity::self_signed(["localhost"])?;
    let trust = Trust::pinned([identity.certificate_sha256()]);
    let server = Server::builder()
        .identity(identity)
        .alpn(["time"])
        .resumption(Resumption::ResumeAndZeroRtt)
        .ticket_keys([TicketKey::generate()?])
        .bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;

    // A client resumes only if it has a place for tickets.
    let cache = Arc::new(MemorySessionCache::default());
    let client = Client::builder().alpn(["time"]).trust(trust).session_cache(cache).build()?;

    let (serving, asking) = (serve(&server), ask_three_times(&client, address, &server));
    futures::try_join!(serving, asking)?;
    client.wait_idle().await;
    Ok(())
}

/// Answers one question on each of three connections.
async fn serve(server: &Server) -> Result<()> {
    for number in 1..=3 {
        // One client at a time, as there is only one. A server with more would go on in a task of its
        // own: this client may take its time with the handshake.
        let incoming = server.accept().await.expect("the server runs");
        // `accept` would wait for the handshake. This goes on as soon as early data can be read, if
        // the client sends some.
        let early = incoming.accept_0rtt().await?;
        let (mut answer, mut question) = early.accept_bi().await?;
        let is_early = question.is_early();
        let question = question.read_to_end(64).await?;
        assert_eq!(question, QUESTION.as_bytes());
        println!("server: question {number} came {}", if is_early { "early" } else { "after the handshake" });
        // The first client had no ticket, and the third's is not accepted. The second's question
        // comes early unless this machine is so busy that the handshake was quicker than the
        // question.
        assert!(!is_early || number == 2);

        // What may be done once only has to wait for `connected`: a replayer never gets that far.
        // An answer need not; nobody but the client can read it. Its acknowledgement is not waited
        // for: the client closes the connection once it has the answer.
        drop(answer.finish_with(ANSWER));
        early.connected().await?.closed().await;
    }
    Ok(())
}

async fn ask_three_times(client: &Client, address: SocketAddr, server: &Server) -> Result<()> {
    // 1. There is no ticket yet, so this waits for the handshake. The same code would have sent
    //    early data.
    let first = ask(client, address).await?;
    assert_eq!(first, Outcome { resumed: false, early_data_accepted: false });

    // 2. The ticket of the first connection is in the cache.
    let second = ask(client, address).await?;
    assert_eq!(second, Outcome { resumed: true, early_data_accepted: true });

    // 3. To be kind to clients with older tickets, a server would put the old key behind the new
    //    one. This one does not.
    server.set_ticket_keys([TicketKey::generate()?])?;
    let third = ask(client, address).await?;
    assert_eq!(third, Outcome { resumed: false, early_data_accepted: false });
    Ok(())
}

/// How a connection began.
#[derive(Debug, PartialEq)]
struct Outcome {
    resumed: bool,
    early_data_accepted: bool,
}

/// Connects, asks, and waits for the answer and for the ticket of the next connection.
async fn ask(client: &Client, address: SocketAddr) -> Result<Outcome> {
    let early = client.connect_0rtt(address, "localhost").await?;
    println!("client: connecting, {}", if early.offered_0rtt() { "with early data" } else { "without a ticket" });

    // Only streams that are opened by this name send early.
    let (mut question, mut answer) = early.open_bi_0rtt()?;
    // Acknowledged, whether as early data or because it was sent again. The server has got it once.
    question.finish_with(QUESTION).await?;
    assert_eq!(answer.read_to_end(64).await?, ANSWER.as_bytes());

    let early_data_accepted = early.accepted_0rtt().await;
    let connection = early.connected().await?;
    let outcome = Outcome { resumed: connection.session_resumed(), early_data_accepted };
    println!("client: {outcome:?}");
    // The server sends its ticket when the handshake is done. A program that does not care for the
    // next connection need not wait for it.
    connection.session_ticket().await?;
    connection.close(0, "")?;
    Ok(outcome)
}

const QUESTION: &str = "what time is it?";
const ANSWER: &str = "time for tea";
