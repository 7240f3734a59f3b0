//! A load generator for `request_response`: so many connections, each with one request after the
//! other, for so long.
//!
//!     cargo run --release --example load ADDRESS CERTIFICATE_HASH [CONNECTIONS] [SECONDS] [BYTES]
//!
//! It prints how many requests were answered, and how long they took. What is measured is the whole
//! way of a request: open a stream, send, be answered, read.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sendstream::{Bytes, CertificateHash, Client, Connection, Trust};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, hash, ref rest @ ..] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        return Err("usage: load ADDRESS CERTIFICATE_HASH [CONNECTIONS] [SECONDS] [BYTES]".into());
    };
    let number = |at: usize, default: f64| rest.get(at).map_or(Ok(default), |text| text.parse::<f64>());
    let (connections, seconds, bytes) = (number(0, 10.0)? as usize, number(1, 5.0)?, number(2, 100.0)? as usize);

    // One client: its connections share a socket.
    let trust = Trust::pinned([hash.parse::<CertificateHash>()?]);
    let client = Client::builder().alpn(["request-response"]).trust(trust).build()?;
    let mut connected = Vec::new();
    let begin = Instant::now();
    for _ in 0..connections {
        connected.push(client.connect(address.parse()?, "localhost").await?);
    }
    println!("{connections} connections in {:.3} s", begin.elapsed().as_secs_f64());

    let errors = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = connected
        .iter()
        .map(|connection| tokio::spawn(ask_until(end, connection.clone(), vec![b'x'; bytes].into(), errors.clone())))
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await?);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    took.sort_unstable();

    println!(
        "{} requests, {:.0} a second, {} errors",
        took.len(),
        took.len() as f64 / elapsed,
        errors.load(Ordering::Relaxed)
    );
    for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
        println!("{percent}% within {:.3} ms", percentile(&took, percent).as_secs_f64() * 1e3);
    }
    client.close_all(0, "")?;
    client.wait_idle().await;
    Ok(())
}

/// One request after the other; how long each took that was answered.
async fn ask_until(end: Instant, connection: Connection, request: Bytes, errors: Arc<AtomicU64>) -> Vec<Duration> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        match ask(&connection, request.clone()).await {
            Ok(()) => took.push(begin.elapsed()),
            Err(error) => {
                if errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("the first error: {error}");
                }
                if connection.close_reason().is_some() {
                    break;
                }
            }
        }
    }
    took
}

async fn ask(connection: &Connection, request: Bytes) -> Result {
    let length = request.len();
    let (mut send, mut recv) = connection.open_bi()?;
    drop(send.finish_with(request)); // the answer tells that it arrived
    let answer = recv.read_to_end(length).await?;
    if answer.len() == length { Ok(()) } else { Err("the answer is too short".into()) }
}

/// The longest of the shortest `percent`.
fn percentile(sorted: &[Duration], percent: f64) -> Duration {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
