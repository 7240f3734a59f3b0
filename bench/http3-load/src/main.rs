//! The HTTP/3 load generator: the same client for all servers.
//!
//! It starts a server's program and sends it requests over so many connections, with so many under
//! way on each, from all CPUs. A request is written as it is on the wire, and of a response the
//! status and the length of the body are checked, so that it takes no more of the CPUs than QUIC
//! itself. Its QUIC is Sendstream or quinn: which of them it is must not decide who is ahead.

mod response;

use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench_core::{Cost, Half, Listening, Side, Suite, Transport, limits, process};
use bench_quinn::Quinn;
use bench_sendstream::{Sendstream, Tokio};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures::{
    StreamExt, TryStreamExt,
    future::{Either, select, try_join_all},
    stream,
};
use hdrhistogram::Histogram;
use serde_json::json;

use response::Response;

/// Starts an HTTP/3 server and prints, as one line of JSON, how many requests it answers a second
/// and what each costs it.
#[derive(Debug, Parser)]
struct Options {
    /// The server's program.
    #[arg(long)]
    server: PathBuf,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How many are under way at once on each connection.
    #[arg(long, default_value_t = 1)]
    requests: usize,
    /// Whether the response has 4 MB or 100 bytes.
    #[arg(long)]
    large: bool,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// The QUIC of this side.
    #[arg(long, value_enum, default_value_t = Client::Sendstream)]
    client: Client,
    #[arg(long, value_enum, default_value_t = Suite::Aes128)]
    suite: Suite,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Client {
    Sendstream,
    Quinn,
}

fn main() -> Result<()> {
    let options = Options::parse();
    process::set_file_limit(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _within = runtime.enter();
    let half = start(&options)?;
    let server: Listening = half.hear()?;
    let setup = bench_http3::setup(options.suite);
    match options.client {
        Client::Sendstream => {
            let client = Sendstream::<Tokio>::new(&setup)?.client_of(&setup, bench_http3::ALPN)?;
            let connect = async |address| Ok(client.connect(address, limits::HOST).await?);
            measure::<Sendstream<Tokio>>(&options, &runtime, &half, &server, connect)
        }
        Client::Quinn => {
            let quinn = Quinn::new(&setup)?;
            // One for each connection, so that they share no task.
            let connect =
                async |address| Ok(quinn.client_of(bench_http3::ALPN)?.connect(address, limits::HOST)?.await?);
            measure::<Quinn>(&options, &runtime, &half, &server, connect)
        }
    }
}

/// Starts the server's program.
fn start(options: &Options) -> Result<Half> {
    let mut server = Command::new(&options.server)
        .args(["--suite", options.suite.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", options.server.display()))?;
    let (from, to) = (server.stdout.take().context("no pipe")?, server.stdin.take().context("no pipe")?);
    Ok(Half::apart(Side::Client, None, from, to))
}

fn measure<T: Transport>(
    options: &Options,
    runtime: &tokio::runtime::Runtime,
    half: &Half,
    server: &Listening,
    connect: impl AsyncFn(SocketAddr) -> Result<T::Connection>,
) -> Result<()> {
    let connections: Vec<T::Connection> = runtime.block_on(async {
        let connecting = stream::iter(0..options.connections).map(|_| begun::<T>(connect(server.address)));
        connecting.buffer_unordered(16).try_collect().await
    })?;
    let load = Load::of(options);
    // Code, allocators, pools and congestion windows.
    runtime.block_on(run::<T>(&connections, &load, options.requests, Duration::from_millis(500)))?;
    let running = half.start()?;
    let duration = Duration::from_secs_f64(options.seconds);
    let times = runtime.block_on(run::<T>(&connections, &load, options.requests, duration))?;
    running.stop()?;
    half.meet()?;
    let own = half.cost().context("nothing was measured")?;
    let (servers, servers_peak): (Option<Cost>, u64) = half.hear()?;
    let own_peak = process::peak_resident_kib()?;
    let servers = servers.context("the server measured nothing")?;
    let (count, us) = (times.len() as f64, |nanoseconds: u64| nanoseconds as f64 / 1e3);
    println!(
        "{}",
        json!({
            "requests": times.len(),
            "requests_per_second": count / own.seconds,
            "mb_per_second": count * load.length as f64 / own.seconds / 1e6,
            "server_cpu_us_per_request": servers.cpu_seconds * 1e6 / count,
            "client_cpu_us_per_request": own.cpu_seconds * 1e6 / count,
            "p50_us": us(times.value_at_quantile(0.5)),
            "p99_us": us(times.value_at_quantile(0.99)),
            "client_cpu_seconds": own.cpu_seconds,
            "server_cpu_seconds": servers.cpu_seconds,
            "client_peak_resident_kib": own_peak,
            "server_peak_resident_kib": servers_peak,
            "peak_resident_kib": own_peak + servers_peak,
            "suite": options.suite.name(),
        })
    );
    Ok(())
}

/// A connection with the streams that HTTP/3 begins with.
async fn begun<T: Transport>(connecting: impl Future<Output = Result<T::Connection>>) -> Result<T::Connection> {
    let connection = connecting.await?;
    // The control stream with empty SETTINGS, and QPACK's.
    for bytes in [&[0x00, 0x04, 0x00][..], &[0x02], &[0x03]] {
        let mut stream = T::open_uni(&connection).await?;
        T::write(&mut stream, Bytes::from_static(bytes)).await?;
        // It stays open until the process ends.
        std::mem::forget(stream);
    }
    Ok(connection)
}

/// What is asked for, and what must come.
struct Load {
    request: Bytes,
    length: usize,
}

impl Load {
    fn of(options: &Options) -> Self {
        let (path, length) = match options.large {
            true => (bench_http3::LARGE, bench_http3::LARGE_LENGTH),
            false => (bench_http3::SMALL, bench_http3::SMALL_BODY.len()),
        };
        // GET and https of QPACK's static table, then the names of :authority and :path with values.
        let mut fields = vec![0x00, 0x00, 0xd1, 0xd7];
        for (name, value) in [(0x50, limits::HOST), (0x51, path)] {
            fields.extend([name, value.len() as u8]);
            fields.extend(value.bytes());
        }
        let request = [&[0x01, fields.len() as u8], &fields[..]].concat();
        Self { request: request.into(), length }
    }
}

/// Sends requests for so long, and gives the nanoseconds that each took.
async fn run<T: Transport>(
    connections: &[T::Connection],
    load: &Load,
    at_once: usize,
    duration: Duration,
) -> Result<Histogram<u64>> {
    let end = Instant::now() + duration;
    let loops = connections.iter().flat_map(|connection| (0..at_once).map(move |_| connection)).map(|connection| {
        let (connection, request, length) = (connection.clone(), load.request.clone(), load.length);
        tokio::spawn(async move {
            // Not a histogram each, of which thousands are more than any cache holds.
            let mut times = Vec::new();
            loop {
                let start = Instant::now();
                if start >= end {
                    return Ok::<_, anyhow::Error>(times);
                }
                ask::<T>(&connection, request.clone(), length).await?;
                times.push(start.elapsed().as_nanos() as u64);
            }
        })
    });
    let mut all = bench_core::histogram();
    for times in try_join_all(loops).await? {
        times?.into_iter().try_for_each(|time| all.record(time))?;
    }
    Ok(all)
}

async fn ask<T: Transport>(connection: &T::Connection, request: Bytes, length: usize) -> Result<()> {
    let (mut send, mut recv) = T::open_bi(connection).await?;
    let mut response = Response::default();
    let reading = async {
        while let Some(chunk) = T::read(&mut recv).await? {
            response.take(chunk.as_ref())?;
        }
        Ok::<_, anyhow::Error>(())
    };
    // It is submitted at once. Nothing waits for its acknowledgement alone.
    match select(pin!(T::write_and_finish(&mut send, request)), pin!(reading)).await {
        // A server that does not need the request's end may stop it (RFC 9114, section 4.1).
        Either::Left((_sent_or_stopped, reading)) => reading.await?,
        Either::Right((read, _)) => read?,
    }
    ensure!(response.is_whole_with(length), "not the response: {response:?}");
    Ok(())
}
