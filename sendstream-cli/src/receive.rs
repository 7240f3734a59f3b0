//! `sendstream recv`: listens, prints the ticket, and reports each session that ends.

use std::{collections::HashMap, fmt::Display, net::SocketAddr, pin::pin, process, sync::Arc, thread, time::Duration};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc, executor::block_on, future};
use sendstream::{Identity, Resumption, Server, process::release_memory};
use serde::Serialize;

use crate::{
    cli::{Advertised, RecvArgs},
    code::ShortCode,
    error::{Failure, chain},
    inbox::{Inbox, Rules},
    interfaces,
    listen::is_for_this_machine_only,
    neighbours::{Offer, Spent},
    peers::{Guests, Peers},
    progress::Progress,
    protocol::{ALPN, Code, Role, SERVER_NAME, SessionId},
    qr,
    session::{self, Ended, Shared},
    signal::Interrupt,
    store::Store,
    strangers::{Greeted, Strangers, Trusted, TurnedAway},
    summary,
    ticket::{Host, MAX_PLACES, Place, Ticket, Token},
    timer::{self, Sleep},
    transport,
};

/// Listens until the user interrupts it, or with `--once` until the first session has ended.
pub(crate) fn run(args: RecvArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    if args.stdout {
        summary::leave_standard_output();
    }
    let progress = Progress::of(args.output);
    let rules = Rules { overwrite: args.overwrite, fsync: args.fsync };
    let inbox = if args.stdout { None } else { Some(Inbox::open(&args.dir, rules, &progress)?) };
    let (identity, guests) = if args.peers { known_peers(&args)? } else { whoever_has_the_ticket()? };

    let resumption = if args.tls_sessions { Resumption::Resume } else { Resumption::Off };
    let builder = || {
        Server::builder()
            .identity(identity.clone())
            .alpn([ALPN])
            .resumption(resumption)
            .transport(transport::for_strangers(args.timeout))
    };
    let server = args.listen.start(builder, &progress)?;
    let locals = server.local_addrs().map_err(|error| Failure::new(format!("cannot listen: {error}")))?;
    // It is offered for as long as this end listens.
    let _offer = match &guests {
        Guests::Holder(token) => {
            let mut certificate = [0; 32];
            certificate.copy_from_slice(identity.certificate_sha256().as_ref());
            let ticket =
                Ticket { places: places(&args.advertise, &locals, &progress), certificate, token: token.clone() };
            let offer = if args.code { Some(offer_code(&ticket, &locals, &args, &progress)?) } else { None };
            announce(&ticket, offer.as_ref().and_then(Offer::code), &locals, &args, &progress)?;
            offer
        }
        Guests::Known(peers) => {
            announce_to_peers(peers.guests()?, &locals, &args, &progress)?;
            None
        }
    };

    let shared = Arc::new(Shared { inbox, progress, interrupt, patience: args.timeout });
    block_on(async {
        let result = listen(&server, &guests, &shared, &args).await;
        server.shutdown().await;
        result
    })
}

/// A certificate and a token for this run alone.
fn whoever_has_the_ticket() -> Result<(Identity, Guests), Failure> {
    let identity = Identity::self_signed([SERVER_NAME])
        .map_err(|error| Failure::new(format!("cannot make a certificate: {}", chain(&error))))?;
    let token = Token::random().map_err(|error| Failure::new(format!("cannot draw a token: {error}")))?;
    Ok((identity, Guests::Holder(token)))
}

/// What stays: this end's identity, and those that were invited.
fn known_peers(args: &RecvArgs) -> Result<(Identity, Guests), Failure> {
    if args.listen.port() == 0 {
        return Err(Failure::usage("known peers must find this end at the same port each time")
            .todo("`--listen :4433` listens where `sendstream peers invite` says"));
    }
    let store = Store::of_user()?;
    Ok((store.identity()?, Guests::Known(Peers::new(store))))
}

/// Accepts connections and reports how they ended.
async fn listen(server: &Server, guests: &Guests, shared: &Arc<Shared>, args: &RecvArgs) -> Result<(), Failure> {
    let (ended_sender, mut ended) = mpsc::unbounded();
    let mut strangers = Strangers::new(guests);
    let mut silent: u64 = 0;
    let (mut sessions, mut taken, mut failed) = (HashMap::<SessionId, Moves>::new(), false, 0u64);
    let mut tidying = Tidying::default();
    let mut interrupted = shared.interrupt.wait();
    let mut accept = pin!(server.accept().fuse());
    let result = loop {
        // The interrupt first: a session that ends because of it must not be taken for one that
        // ended before. New strangers last, however many come: those that are there are looked at.
        futures::select_biased! {
            _ = interrupted => {
                exit_soon();
                break some_failed(failed);
            }
            (id, session) = ended.select_next_some() => {
                sessions.remove(&id);
                tidying.begin();
                let result = report(session, shared, args);
                failed += u64::from(result.is_err());
                if args.takes_one() {
                    break result;
                }
            }
            Greeted { peer, result, .. } = strangers.next().fuse() => match result {
                Ok(trusted) if trusted.hello.role != Role::Send => {
                    transport::close(&trusted.connection, Code::SameRole);
                    warn_of(peer, "it wants to receive as well", shared);
                }
                Ok(trusted) if sessions.contains_key(&trusted.hello.session) => {
                    // The session ends if it is not there to take it, and so does the connection.
                    if let Some(moves) = sessions.get_mut(&trusted.hello.session)
                        && let Err(error) = moves.try_send((peer, trusted))
                        && error.is_full()
                    {
                        // One waits already, which the session takes first.
                        transport::close(&error.into_inner().1.connection, Code::Full);
                    }
                }
                Ok(trusted) if args.takes_one() && taken => {
                    transport::close(&trusted.connection, Code::Refused);
                    warn_of(peer, "another sender came first, and `--once` takes one only", shared);
                }
                Ok(trusted) if sessions.len() >= MAX_SESSIONS => {
                    transport::close(&trusted.connection, Code::Full);
                    warn_of(peer, "there are as many sessions as this end serves at a time", shared);
                }
                Ok(trusted) => {
                    let id = trusted.hello.session;
                    if let Some(moves) = serve_on_thread(peer, trusted, shared, ended_sender.clone()) {
                        sessions.insert(id, moves);
                        taken = true;
                    }
                }
                Err(TurnedAway::Failed(why)) => {
                    tidying.begin();
                    warn_of(peer, why, shared);
                }
                Err(TurnedAway::Silent) => {
                    tidying.begin();
                    silent += 1;
                    // Whoever floods this end must not flood its log.
                    if silent >= MANY_SILENT && silent.is_power_of_two() {
                        shared.progress.warn(format_args!("{silent} strangers said nothing until they had to go"));
                    }
                }
            },
            () = tidying.due().fuse() => if sessions.is_empty() {
                release_memory();
            },
            incoming = accept => {
                let Some(incoming) = incoming else { break Err(Failure::new("the listener ended by itself")) };
                accept.set(server.accept().fuse());
                strangers.admit(incoming);
            }
        }
    };
    // Whatever is still connected ends by this: strangers that said nothing, and sessions if the
    // user interrupted us.
    shared.interrupt.fire();
    strangers.dismiss_all(Code::Interrupted);
    while !strangers.is_empty() {
        let _ = strangers.next().await;
    }
    let mut broken_off = false;
    while !sessions.is_empty()
        && let Some((id, session)) = ended.next().await
    {
        sessions.remove(&id);
        broken_off |= report(session, shared, args).is_err();
    }
    if broken_off { Err(Failure::interrupted()) } else { result }
}

/// The end of a receiver that was idle when the user ended it.
fn some_failed(sessions: u64) -> Result<(), Failure> {
    match sessions {
        0 => Ok(()),
        1 => Err(Failure::new("one of the transfers failed")),
        _ => Err(Failure::new(format!("{sessions} of the transfers failed"))),
    }
}

/// The wait, after a peer has gone, until its connection is no more: then the memory that it took can
/// go back to the system.
#[derive(Default)]
struct Tidying {
    wait: Option<Sleep>,
    /// Another peer has gone meanwhile.
    again: bool,
}

impl Tidying {
    /// Begins to wait, or waits once more after a wait that is under way. Without a thread it is not
    /// waited for.
    fn begin(&mut self) {
        match &self.wait {
            Some(_) => self.again = true,
            None => self.wait = timer::sleep(TIDY_AFTER).ok(),
        }
    }

    /// Resolves at the end of each wait.
    async fn due(&mut self) {
        match &mut self.wait {
            Some(sleep) => drop(sleep.await),
            None => future::pending().await,
        }
        self.wait = None;
        if std::mem::take(&mut self.again) {
            self.begin();
        }
    }
}

/// Starts a thread that serves the sender, and returns where its other connections go. Without a
/// thread it has to come again.
fn serve_on_thread(
    peer: SocketAddr,
    trusted: Trusted,
    shared: &Arc<Shared>,
    ended: mpsc::UnboundedSender<(SessionId, Ended)>,
) -> Option<Moves> {
    let shared = Arc::clone(shared);
    let (connection, id) = (trusted.connection.clone(), trusted.hello.session);
    // One that waits is enough.
    let (moves, moved) = mpsc::channel(0);
    let work = move || {
        // The listener waits for this as long as it counts the session.
        let _ = ended.unbounded_send((id, session::serve(peer, trusted, moved, &shared)));
    };
    let started = thread::Builder::new().name("session".to_owned()).spawn(work).is_ok();
    if !started {
        transport::close(&connection, Code::Full);
    }
    started.then_some(moves)
}

/// The way to a session for its sender's other connections.
type Moves = mpsc::Sender<(SocketAddr, Trusted)>;

/// Says why a peer got no session.
fn warn_of(peer: SocketAddr, why: impl Display, shared: &Shared) {
    shared.progress.warn(format_args!("{peer}: turned away: {why}"));
}

/// Prints how a session ended, and returns its result.
fn report(Ended { summary, result }: Ended, shared: &Shared, args: &RecvArgs) -> Result<(), Failure> {
    let progress = &shared.progress;
    let printed = progress.suspend(|| summary.print(args.output.json, result.as_ref().copied()));
    if let Err(failure) = printed {
        progress.warn(&failure);
    }
    match &result {
        // With `--once` this is the last thing that the process says anyway.
        Err(failure) if !args.takes_one() => progress.warn(format_args!("{}: {failure}", summary.peer())),
        _ => {}
    }
    result
}

/// Prints the ticket on standard output, and what to do with it on standard error.
fn announce(
    ticket: &Ticket,
    code: Option<ShortCode>,
    locals: &[SocketAddr],
    args: &RecvArgs,
    progress: &Progress,
) -> Result<(), Failure> {
    let listening = locals.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    let who = if locals.iter().all(|local| is_for_this_machine_only(local.ip())) {
        ", for senders on this machine only; type"
    } else {
        "; at the other machine, type"
    };
    let reach = ticket.places.iter().map(ToString::to_string).collect::<Vec<_>>();
    let place = if args.stdout { "standard output".into() } else { args.dir.display().to_string() };
    let ticket = ticket.to_string();
    let command = format!("sendstream send FILE... {ticket}");
    progress.note(format_args!("receiving into {place} on {}{who}", listening.join(" and ")));
    progress.note(format_args!("  {command}"));
    progress.note(format_args!("or `sendstream send FILE...`, which asks for this ticket to {}:", reach.join(", ")));
    if let Some(code) = code {
        progress.note(format_args!("or, on the same network, `sendstream send FILE... {code}`"));
    }
    if args.qr {
        match qr::lines(&ticket) {
            Some(lines) => lines.iter().for_each(|line| progress.warn(line)),
            None => progress.warn("the ticket is too long for a QR code; name fewer places with `--advertise`"),
        }
    }
    if args.output.json {
        summary::print_json(&Announcement {
            ticket,
            command,
            code: code.map(|code| code.to_string()),
            reach,
            listening: &listening[0],
            addresses: &listening,
        })
    } else {
        summary::print_line(&ticket)
    }
}

/// Announces a code, and says what becomes of it.
fn offer_code(ticket: &Ticket, locals: &[SocketAddr], args: &RecvArgs, progress: &Progress) -> Result<Offer, Failure> {
    if !locals.iter().all(|local| local.ip().is_unspecified()) {
        return Err(Failure::usage("a code is announced, and asked for, at every address of this machine")
            .todo("leave out `--code`, or the address of `--listen`"));
    }
    let (progress, json, once) = (progress.clone(), args.output.json, args.once);
    Offer::start(ticket.clone(), move |spent| {
        let next = match spent {
            Spent::Used { .. } if once => return,
            Spent::Used { by, next } => {
                progress.note(format_args!("{by} knew the code; for another sender it is {next}"));
                Some(next)
            }
            Spent::Guessed { by, next } => {
                progress.warn(format_args!("{by} guessed a wrong code, which ends it; now it is {next}"));
                Some(next)
            }
            Spent::Over { by } => {
                progress.warn(format_args!(
                    "{by} guessed a wrong code once more; there is no code now, but the ticket is good"
                ));
                None
            }
            Spent::Flooded => {
                progress.warn(
                    "somebody floods this network with multicast DNS; there is no code now, but the ticket is good",
                );
                None
            }
        };
        if json {
            // A reader that went away wants no more of it.
            let code = next.map(|code| code.to_string());
            let _ = progress.suspend(|| summary::print_json(&serde_json::json!({ "event": "code", "code": code })));
        }
    })
}

/// Says that it begins, to a receiver of known peers.
fn announce_to_peers(
    guests: usize,
    locals: &[SocketAddr],
    args: &RecvArgs,
    progress: &Progress,
) -> Result<(), Failure> {
    let listening = locals.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    let dir = args.dir.display();
    progress.note(format_args!(
        "receiving into {dir} on {} from known peers; {guests} are invited",
        listening.join(" and ")
    ));
    if guests == 0 {
        progress.note("  sendstream peers invite NAME");
    }
    if args.output.json {
        summary::print_json(
            &serde_json::json!({ "listening": listening[0], "addresses": listening, "peers": guests }),
        )?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Announcement<'a> {
    ticket: String,
    /// What to type at the other end.
    command: String,
    /// What stands for the ticket on this network.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Where the ticket leads to.
    reach: Vec<String>,
    /// The first of the addresses that are listened on.
    listening: &'a str,
    addresses: &'a [String],
}

/// The places that a ticket tells: what `--advertise` says, or else every address by which others
/// may reach this end.
pub(crate) fn places(advertise: &[Advertised], locals: &[SocketAddr], progress: &Progress) -> Vec<Place> {
    let port = locals[0].port();
    if !advertise.is_empty() {
        let advertised = advertise.iter().cloned();
        let places = advertised.map(|Advertised { host, port: own }| Place::new(host, own.unwrap_or(port)));
        // The grammar lets no more through.
        return places.take(MAX_PLACES).collect();
    }
    let mut places = Vec::new();
    for local in locals {
        let reachable = if local.ip().is_unspecified() { interfaces::reachable(*local) } else { vec![local.ip()] };
        places.extend(reachable.into_iter().map(|ip| Place::new(Host::Ip(ip.to_canonical()), local.port())));
    }
    let is_loopback = |place: &Place| matches!(place.host, Host::Ip(ip) if ip.is_loopback());
    if locals.iter().any(|local| local.ip().is_unspecified()) && places.iter().all(is_loopback) {
        progress.warn("this machine has no address but its own loopback's, so the ticket works on this machine only;");
        progress.warn("`--advertise HOST` puts another address into it");
    }
    places.truncate(MAX_PLACES);
    places
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

/// How long a connection that has ended may take to be gone.
const TIDY_AFTER: Duration = Duration::from_secs(2);
/// How many senders that have the ticket are served at the same time.
const MAX_SESSIONS: usize = 32;
/// From how many on it is said how many strangers said nothing.
const MANY_SILENT: u64 = 32;
