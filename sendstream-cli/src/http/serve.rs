//! `sendstream http serve`: serves a folder until the user interrupts it, and answers what has come by
//! then.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::Response,
};
use sendstream::{CertificateHash, Identity, Resumption, Server, TransportConfig};
use sendstream_h3::EarlyRequests;
use serde::Serialize;

use super::{
    certificate::Certificate,
    files::Folder,
    log::Log,
    runtime,
    tcp::{TcpError, TcpServer},
};
use crate::{
    cli::HttpServeArgs,
    error::Failure,
    listen::{Listen, is_for_this_machine_only},
    progress::Progress,
    signal::Interrupt,
    summary,
};

/// Serves until the first signal, and ends when every request that has come is answered.
pub(crate) fn run(args: HttpServeArgs) -> Result<(), Failure> {
    let folder = Folder::open(&args.dir, args.hidden)
        .map_err(|error| Failure::new(format!("cannot serve {}: {error}", args.dir.display())))?;
    let certificate = match (&args.cert, &args.key) {
        (Some(chain), Some(key)) => Certificate::read(chain, key, &args.dir)?,
        _ => Certificate::self_signed(args.listen.host())?,
    };
    let identity = certificate.identity()?;
    let progress = Progress::new(args.output.quiet);
    let interrupt = Interrupt::install()?;
    let runtime = runtime()?;
    let (log, writer) = Log::start(args.output.json, progress.clone())?;

    let served = runtime.block_on(async {
        let (server, tcp) = listen(&args, &certificate, &identity, &progress)?;
        announce(&args, &server, identity.certificate_sha256(), &progress)?;
        let app = Router::new().fallback(answer).with_state(Arc::new(Site { folder, log }));
        let stop = interrupt.wait();
        let by_tcp = tcp.map(|tcp| tokio::spawn(tcp.serve(app.clone(), stop.clone())));
        let noted = {
            let (stop, progress) = (stop.clone(), progress.clone());
            async move {
                let _ = stop.await;
                progress.note("answering what has come; another Ctrl-C ends it at once");
            }
        };
        // GET and HEAD are all that is answered, and asking twice changes nothing.
        let early = if args.zero_rtt { EarlyRequests::Safe } else { EarlyRequests::Wait };
        sendstream_h3::serve(server, app)
            .with_graceful_shutdown(noted)
            .drain_timeout(DRAIN)
            .max_connections(MAX_CONNECTIONS)
            .max_concurrent_requests(MAX_REQUESTS)
            .early_requests(early)
            .await;
        if let Some(by_tcp) = by_tcp {
            let ended = by_tcp.await.map_err(|error| Failure::new(format!("cannot serve by TCP: {error}")))?;
            ended.map_err(|error| Failure::new(format!("cannot serve by TCP: {error}")))?;
        }
        Ok(())
    });
    // The last requests are noted when the last of their tasks is gone. A stuck disk is not waited
    // for.
    runtime.shutdown_timeout(Duration::from_secs(5));
    writer.finish();
    served
}

/// What a request is answered with.
struct Site {
    folder: Folder,
    log: Log,
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response<Body> {
    let (request, _) = request.into_parts();
    let peer = request.extensions.get().map(|ConnectInfo(address)| *address);
    let response = site.folder.answer(&request).await;
    site.log.watch(&request, peer, response)
}

/// Listens, by TCP as well if that is wanted: then both have the same port.
fn listen(
    args: &HttpServeArgs,
    certificate: &Certificate,
    identity: &Identity,
    progress: &Progress,
) -> Result<(Server, Option<TcpServer>), Failure> {
    let resumption = if args.zero_rtt { Resumption::ResumeAndZeroRtt } else { Resumption::Resume };
    let builder = || {
        Server::builder()
            .identity(identity.clone())
            .alpn([sendstream_h3::ALPN])
            .resumption(resumption)
            .transport(settings())
    };
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let server = args.listen.start(builder, progress)?;
        if !args.with_tcp {
            return Ok((server, None));
        }
        match TcpServer::bind(&addresses(&server)?, certificate) {
            Ok(tcp) => return Ok((server, Some(tcp))),
            // Something else has the port that the system chose for QUIC.
            Err(error) if error.is_in_use() && args.listen.port() == 0 && attempts > 0 => {}
            Err(error) => return Err(TcpError::into(error)),
        }
    }
}

fn addresses(server: &Server) -> Result<Vec<SocketAddr>, Failure> {
    server.local_addrs().map_err(|error| Failure::new(format!("cannot listen: {error}")))
}

/// A client that says nothing for half a minute is gone. It opens a stream for each request, and
/// three of its own for HTTP/3; datagrams are not used.
fn settings() -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(Duration::from_secs(30))
        .handshake_timeout(Duration::from_secs(10))
        .max_concurrent_bidi_streams(MAX_REQUESTS)
        .max_concurrent_uni_streams(8)
        .datagram_receive_buffer(None)
}

/// Prints the URL on standard output, and how to be believed on standard error.
fn announce(args: &HttpServeArgs, server: &Server, pin: CertificateHash, progress: &Progress) -> Result<(), Failure> {
    let locals = addresses(server)?;
    let url = url(&args.listen, locals[0].port());
    let made = args.cert.is_none();
    let who =
        if locals.iter().all(|local| is_for_this_machine_only(local.ip())) { ", for this machine only" } else { "" };
    let tcp = if args.with_tcp { " and by TCP" } else { "" };
    let listening = locals.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    progress.note(format_args!(
        "serving {} by HTTP/3{tcp} on {}{who}; Ctrl-C ends it",
        args.dir.display(),
        listening.join(" and ")
    ));
    if made {
        progress.note("nobody vouches for the certificate, which was made for this run; fetch with");
        progress.note(format_args!("  sendstream http get --pin {pin} {url}"));
    }
    if args.output.json {
        let certificate = pin.to_string();
        summary::print_json(&Announcement {
            url,
            certificate,
            self_signed: made,
            tcp: args.with_tcp,
            addresses: &listening,
        })
    } else {
        summary::print_line(&url)
    }
}

/// By what this machine, at least, reaches the server.
fn url(listen: &Listen, port: u16) -> String {
    match listen.host() {
        Some(host) if host.contains(':') => format!("https://[{host}]:{port}/"),
        Some(host) => format!("https://{host}:{port}/"),
        None => format!("https://localhost:{port}/"),
    }
}

#[derive(Serialize)]
struct Announcement<'a> {
    url: String,
    /// The SHA-256 hash that `http get --pin` takes.
    certificate: String,
    self_signed: bool,
    tcp: bool,
    addresses: &'a [String],
}

/// How long the last answers may take.
pub(crate) const DRAIN: Duration = Duration::from_secs(600);
/// How many connections there are at a time.
const MAX_CONNECTIONS: usize = 1024;
/// How many requests a connection has at a time.
const MAX_REQUESTS: u16 = 100;
/// How often the system may choose a port for QUIC that is taken for TCP.
const ATTEMPTS: usize = 16;
