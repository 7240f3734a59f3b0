//! `sendstream recv`: listens, prints the ticket, and reports each session that ends.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::pin,
    process,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc, executor::block_on};
use sendstream::{Identity, Incoming, Resumption, Server};
use serde::Serialize;

use crate::{
    cli::RecvArgs,
    error::{Failure, chain},
    inbox::{Inbox, Rules},
    progress::Progress,
    protocol::{ALPN, SERVER_NAME},
    session::{self, Ended, Shared},
    signal::Interrupt,
    summary,
    ticket::{Host, Ticket, Token},
    transport,
};

/// Listens until the user interrupts it, or with `--once` until the first session has ended.
pub(crate) fn run(args: RecvArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let inbox = Inbox::open(&args.dir, Rules { overwrite: args.overwrite, fsync: args.fsync })?;
    let identity = Identity::self_signed([SERVER_NAME])
        .map_err(|error| Failure::new(format!("cannot make a certificate: {}", chain(&error))))?;
    let mut certificate = [0; 32];
    certificate.copy_from_slice(identity.certificate_sha256().as_ref());
    let token = Token::random().map_err(|error| Failure::new(format!("cannot draw a token: {error}")))?;
    let progress = Progress::new(args.output.quiet);

    let resumption = if args.resume { Resumption::Resume } else { Resumption::Off };
    let server = Server::builder()
        .identity(identity)
        .alpn([ALPN])
        .resumption(resumption)
        .transport(transport::settings())
        .bind(args.listen)
        .map_err(|error| {
            Failure::new(format!("cannot listen on {}: {}", args.listen, chain(&error)))
                .todo("choose another address with `--listen IP:PORT`; port 0 takes a free one")
        })?;
    let local = server.local_addr().map_err(|error| Failure::new(format!("cannot listen: {error}")))?;

    let (host, port) = match args.advertise.clone() {
        Some(advertised) => (advertised.host, advertised.port.unwrap_or(local.port())),
        None => (Host::of(reachable(local, &progress)), local.port()),
    };
    let ticket = Ticket { host, port, certificate, token: token.clone() };
    announce(&ticket, local, &args, &progress)?;

    let (once, taken) = (args.once, AtomicBool::new(false));
    let shared = Arc::new(Shared { token, inbox, progress, interrupt, once, taken });
    block_on(async {
        let result = listen(&server, &shared, args.output.json).await;
        server.shutdown().await;
        result
    })
}

/// Accepts connections and reports how they ended.
async fn listen(server: &Server, shared: &Arc<Shared>, json: bool) -> Result<(), Failure> {
    let (ended_sender, mut ended) = mpsc::unbounded();
    let mut active = 0;
    let mut interrupted = shared.interrupt.wait();
    let mut accept = pin!(server.accept().fuse());
    let result = loop {
        // The interrupt first: a session that ends because of it must not be taken for one that
        // ended before.
        futures::select_biased! {
            _ = interrupted => {
                exit_soon();
                break Ok(());
            }
            incoming = accept => {
                let Some(incoming) = incoming else { break Err(Failure::new("the listener ended by itself")) };
                accept.set(server.accept().fuse());
                if active >= MAX_CONNECTIONS {
                    incoming.refuse();
                } else if serve_on_thread(incoming, shared, ended_sender.clone()) {
                    active += 1;
                }
            }
            connection = ended.select_next_some() => {
                active -= 1;
                match report(connection, shared, json) {
                    Some(result) if shared.once => break result,
                    _ => {}
                }
            }
        }
    };
    // Whatever is still connected ends by this: sessions if the user interrupted us, else strangers
    // that said nothing.
    shared.interrupt.fire();
    let mut broken_off = false;
    while active > 0
        && let Some(connection) = ended.next().await
    {
        active -= 1;
        broken_off |= report(connection, shared, json).is_some_and(|result| result.is_err());
    }
    if broken_off { Err(Failure::interrupted()) } else { result }
}

/// Says whether there is a thread now that serves the connection; without one the connection is
/// refused.
fn serve_on_thread(incoming: Incoming, shared: &Arc<Shared>, ended: mpsc::UnboundedSender<Ended>) -> bool {
    let shared = Arc::clone(shared);
    let work = move || {
        // The listener waits for this as long as it counts the connection.
        let _ = ended.unbounded_send(session::serve(incoming, &shared));
    };
    thread::Builder::new().name("session".to_owned()).spawn(work).is_ok()
}

/// Prints how a connection ended. Returns the result of its session if there was one.
fn report(ended: Ended, shared: &Shared, json: bool) -> Option<Result<(), Failure>> {
    let progress = &shared.progress;
    match ended {
        Ended::TurnedAway(peer, failure) => {
            progress.warn(format_args!("{peer}: turned away: {failure}"));
            None
        }
        Ended::Session(summary, result) => {
            let printed = progress.suspend(|| summary.print(json, result.as_ref().copied()));
            if let Err(failure) = printed {
                progress.warn(&failure);
            }
            match &result {
                // With `--once` this is the last thing that the process says anyway.
                Err(failure) if !shared.once => progress.warn(format_args!("{}: {failure}", summary.peer())),
                _ => {}
            }
            Some(result)
        }
    }
}

/// Prints the ticket on standard output, and what to do with it on standard error.
fn announce(ticket: &Ticket, local: SocketAddr, args: &RecvArgs, progress: &Progress) -> Result<(), Failure> {
    progress.note(format_args!("receiving into {} on {local}; at the other machine, type", args.dir.display()));
    progress.note("  sendstream send FILE... TICKET");
    progress.note("with this ticket:");
    let ticket = ticket.to_string();
    if args.output.json {
        summary::print_json(&Announcement { ticket, listening: local.to_string() })
    } else {
        summary::print_line(&ticket)
    }
}

#[derive(Serialize)]
struct Announcement {
    ticket: String,
    listening: String,
}

/// An address by which other machines reach a socket bound to `local`.
fn reachable(local: SocketAddr, progress: &Progress) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return local;
    }
    let v4 = || source_address(Ipv4Addr::UNSPECIFIED.into(), DOCUMENTATION_V4.into());
    let v6 = || source_address(Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION_V6.into());
    let found = if local.is_ipv4() { v4() } else { v6().or_else(v4) };
    let ip = found.unwrap_or_else(|| {
        progress.warn("this machine has no route to others, so the ticket works on this machine only;");
        progress.warn("`--advertise HOST` puts another address into it");
        if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
    });
    SocketAddr::new(ip, local.port())
}

/// The address that this machine sends from when it sends to `to`. Connecting a UDP socket asks the
/// routing table and sends nothing.
fn source_address(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Ends the process in a few seconds, should a stuck disk keep it from ending in good order.
fn exit_soon() {
    let work = || {
        thread::sleep(Duration::from_secs(5));
        process::exit(130);
    };
    // Without a thread, a second Ctrl-C does the same.
    let _ = thread::Builder::new().name("exit".to_owned()).spawn(work);
}

/// How many connections are served at the same time, strangers that have not shown the token
/// included.
const MAX_CONNECTIONS: usize = 32;
/// Addresses that stand for "elsewhere" and belong to nobody (RFC 5737, RFC 3849).
const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
