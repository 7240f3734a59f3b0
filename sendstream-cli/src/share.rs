//! `sendstream share`: lists the files, listens, prints the ticket, and sends to each receiver that comes.
//!
//! Each receiver has its own reading of the disk, and so its own speed; those who are there together read
//! the same pages, which the system keeps in memory.

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::Path,
    pin::pin,
    rc::Rc,
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use futures::{
    StreamExt as _,
    executor::block_on,
    future::{self, Either, select},
};
use sendstream::{Connection, RecvStream, Resumption, SendStream, Server};

use crate::{
    announce::{self, Announcer},
    caller::Trouble,
    cli::ShareArgs,
    error::{Failure, OtherEnd, chain},
    lobby::{Course, Ended, Host, Lobby, Moved, Until, wait_for_client},
    peers::Guests,
    progress::Progress,
    protocol::{ALPN, Code, Hello, ProtocolError, Role, Welcome},
    reader::{self, Wanted},
    send::{
        self,
        hub::{self, Hook, Hub},
        talk::Talk,
    },
    signal::Interrupt,
    strangers::Trusted,
    summary::{Direction, Summary, count_entries, count_files},
    transport,
    walk::{Listing, More},
};

/// Listens until the user ends it, or with `--once` until a receiver has all that can be read.
pub(crate) fn run(args: ShareArgs) -> Result<(), Failure> {
    let progress = Progress::of(args.output);
    let Some(listing) = send::list(&args.files, &args.content, args.output.json, &progress)? else { return Ok(()) };
    let interrupt = Interrupt::install()?;
    let (identity, token) = announce::new_identity()?;
    let builder = || {
        Server::builder()
            .identity(identity.clone())
            .alpn([ALPN])
            .resumption(Resumption::Off)
            .transport(transport::for_strangers(args.patience.timeout))
    };
    let server = args.wait.listen.start(builder, &progress)?;
    let locals = server.local_addrs().map_err(|error| Failure::new(format!("cannot listen: {error}")))?;
    let until = if args.files.iter().any(|file| file == Path::new("-")) {
        // It cannot be read twice.
        Until::OneEnded
    } else if args.once {
        Until::OneHasAll
    } else {
        Until::TheUserEndsIt
    };
    let there = || listing.items.iter().filter(|item| !matches!(item.more, More::LeftOut(_)));
    let announcer = Announcer {
        what: format!("sharing {}, {} bytes,", count_entries(there().map(|item| item.kind)), listing.announced().bytes),
        role: Role::Receive,
        once: until != Until::TheUserEndsIt,
        wait: &args.wait,
        output: args.output,
        progress: &progress,
    };
    // It is offered for as long as this end listens.
    let _offer = announcer.announce(&identity, &token, &locals)?;

    let end = Interrupt::of_nobody();
    let shared = Arc::new(Shared {
        listing,
        limit: args.content.limit,
        progress: progress.clone(),
        patience: args.patience.timeout,
        stall: args.patience.stall_timeout,
        end: end.clone(),
        until,
    });
    let lobby = Lobby {
        guests: &Guests::Holder(token),
        role: Role::Receive,
        until,
        drains: true,
        json: args.output.json,
        progress: &progress,
        interrupt: &interrupt,
        end: &end,
    };
    block_on(async {
        let result = lobby.run(&server, shared).await;
        server.shutdown().await;
        result
    })
}

/// What all sessions share.
struct Shared {
    listing: Arc<Listing>,
    limit: Option<u64>,
    progress: Progress,
    /// For how long a receiver that is silent may come back.
    patience: Duration,
    /// How long one may say and take nothing while the connection is up.
    stall: Duration,
    /// The sessions end now.
    end: Interrupt,
    until: Until,
}

impl Host for Shared {
    fn serve(&self, peer: SocketAddr, first: Trusted, moves: Moved) -> Option<Ended> {
        let announced = self.listing.announced();
        self.progress.note(format_args!("{peer}: gets {}, {} bytes", count_files(announced.entries), announced.bytes));
        let mut summary = Summary::new(Direction::Sent, peer.to_string(), announced.entries);
        summary.start();
        let bar = self.progress.transfer(format!("to {peer}"), announced.bytes);
        bar.expect_files(announced.entries);
        let (jobs, todo) = std_mpsc::channel();
        let wanted = Arc::new(Wanted::new(1));
        let pieces = match reader::spawn(Arc::clone(&self.listing), todo, Arc::clone(&wanted), self.limit) {
            Ok(pieces) => pieces,
            Err(error) => {
                transport::close(&first.connection, Code::Full);
                return Some(Ended::new(summary, Err(Failure::new(format!("cannot start: {error}")))));
            }
        };
        let progress = self.progress.clone();
        let hub = Hub::new(Arc::clone(&self.listing), jobs, wanted, progress, vec![bar.clone()]);
        let hub = Rc::new(RefCell::new(hub));
        let mut session = Session { shared: self, peer, moves, hook: Hook { hub: Rc::clone(&hub), peer: 0 } };
        let result = block_on(async {
            let distributing = pin!(async {
                hub::distribute(&hub, pieces).await;
                // The reader may end before its time.
                future::pending::<()>().await;
            });
            match select(pin!(session.run(first)), distributing).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Ok(Course::Over),
            }
        });
        bar.clear();
        if let Ok(Course::Nothing) = result {
            self.progress.note(format_args!("{peer}: it had all of it before, and came for the farewell"));
            return None;
        }
        hub.borrow_mut().conclude(0, &mut summary);
        Some(Ended::new(summary, result.map(drop)))
    }
}

/// One receiver, over all of its connections.
struct Session<'a> {
    shared: &'a Shared,
    peer: SocketAddr,
    moves: Moved,
    hook: Hook,
}

/// How a connection ended.
enum Over {
    Done,
    Trouble(Trouble),
    /// The receiver has come again.
    Moved(SocketAddr, Trusted),
    /// This end wants no more of it.
    Cut,
}

impl Session<'_> {
    async fn run(&mut self, first: Trusted) -> Result<Course, Failure> {
        let mut trusted = first;
        loop {
            let Trusted { connection, hello, control, answer, .. } = trusted;
            // Of an earlier session of the same number nothing is known here. Its receiver may have missed that
            // this is another, until it has said something.
            let is_told = self.hook.hub.borrow().was_heard(self.hook.peer);
            let known = if is_told { hello.announced.entries } else { 0 };
            let over = self.attend(&connection, &hello, known, control, answer).await;
            self.hook.hub.borrow_mut().leave(self.hook.peer);
            // What the receiver has acknowledged it has, though it could not say farewell.
            let was_heard = self.hook.hub.borrow().was_heard(self.hook.peer);
            let is_done = self.hook.hub.borrow().is_done(self.hook.peer);
            trusted = match over {
                Over::Done => return Ok(Course::Over),
                Over::Cut if is_done => return Ok(Course::Over),
                Over::Cut => return Err(Failure::interrupted()),
                Over::Moved(peer, trusted) => {
                    self.peer = peer;
                    trusted
                }
                // It lost the farewell of an earlier session, and has come for nothing else.
                Over::Trouble(Trouble::Final(_)) if !was_heard && transport::is_closed_as_done(&connection) => {
                    return Ok(Course::Nothing);
                }
                Over::Trouble(Trouble::Final(failure)) if is_done && failure.is_of_the_network() => {
                    return Ok(Course::Over);
                }
                Over::Trouble(Trouble::Final(failure)) => return Err(failure),
                Over::Trouble(Trouble::Lost(why)) => match self.wait_for_receiver(why, is_done).await {
                    Err(_) if is_done => return Ok(Course::Over),
                    trusted => trusted?,
                },
            };
            self.shared.progress.note(format_args!("{}: the receiver came again, going on", self.peer));
        }
    }

    /// One connection, to its end. It is closed then.
    async fn attend(
        &mut self,
        connection: &Connection,
        hello: &Hello,
        known: u64,
        control: RecvStream,
        mut answer: SendStream,
    ) -> Over {
        let shared = self.shared;
        let failed = |code, failure| {
            transport::close(connection, code);
            Over::Trouble(Trouble::Final(failure))
        };
        let Some(known) = u32::try_from(known).ok().filter(|known| *known as usize <= shared.listing.items.len())
        else {
            let error = ProtocolError::Entry(u32::try_from(hello.announced.entries).unwrap_or(u32::MAX));
            return failed(Code::BadMessage, RECEIVER.broke(error));
        };
        if let Err(error) = connection.raise_limits(&transport::settings(shared.patience)).await {
            let failure = Failure::new(format!("cannot make room for the receiver: {}", chain(&error)));
            return failed(Code::Full, failure);
        }
        let talk = pin!(async {
            let welcome = Welcome { known, announced: shared.listing.announced() };
            if let Err(error) = answer.write_all(&welcome.encode()).await {
                return Err(Trouble::of(&error, &RECEIVER));
            }
            let inflow = self.hook.hub.borrow_mut().enter(self.hook.peer, known);
            Talk { hook: &self.hook, other: &RECEIVER, connection, stall: shared.stall }
                .run(answer, control, inflow)
                .await
        });
        match select(talk, select(self.moves.next(), shared.end.wait())).await {
            Either::Left((Ok(()), _)) => Over::Done,
            Either::Left((Err(trouble), _)) => Over::Trouble(trouble),
            // Before its streams are dropped, so that the receiver is told nothing but this.
            Either::Right((Either::Left((Some((peer, trusted)), _)), _)) => {
                transport::close(connection, Code::Moved);
                Over::Moved(peer, trusted)
            }
            Either::Right(_) => {
                let code = if shared.until == Until::OneHasAll { Code::Refused } else { Code::Interrupted };
                transport::close(connection, code);
                Over::Cut
            }
        }
    }

    async fn wait_for_receiver(&mut self, why: Failure, is_done: bool) -> Result<Trusted, Failure> {
        let Shared { progress, patience, end, .. } = self.shared;
        let patience = if is_done { transport::FAREWELL.min(*patience) } else { *patience };
        // A user who ends this waits for those that are in the middle, and may end it at once.
        wait_for_client(&mut self.moves, &mut self.peer, why, patience, progress, end).await
    }
}

/// Who is at the other end.
static RECEIVER: OtherEnd = OtherEnd::Client(Role::Receive);
