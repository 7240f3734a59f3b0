//! `sendstream recv`: listens, prints the ticket, and receives of each sender.

use std::{net::SocketAddr, sync::Arc};

use futures::executor::block_on;
use sendstream::{Identity, Resumption, Server};

use crate::{
    announce::{self, Announcer},
    cli::RecvArgs,
    error::Failure,
    inbox::{Inbox, Rules},
    lobby::{Lobby, Until},
    peers::{Guests, Peers},
    progress::Progress,
    protocol::{ALPN, Role},
    session::Shared,
    signal::Interrupt,
    store::Store,
    summary, transport,
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
            .transport(transport::for_strangers(args.patience.timeout))
    };
    let server = args.wait.listen.start(builder, &progress)?;
    let locals = server.local_addrs().map_err(|error| Failure::new(format!("cannot listen: {error}")))?;
    // It is offered for as long as this end listens.
    let _offer = match &guests {
        Guests::Holder(token) => {
            let place = if args.stdout { "standard output".into() } else { args.dir.display().to_string() };
            let announcer = Announcer {
                what: format!("receiving into {place}"),
                role: Role::Send,
                once: args.once,
                wait: &args.wait,
                output: args.output,
                progress: &progress,
            };
            announcer.announce(&identity, token, &locals)?
        }
        Guests::Known(peers) => {
            announce_to_peers(peers.guests()?, &locals, &args, &progress)?;
            None
        }
    };

    let shared = Arc::new(Shared {
        inbox,
        progress,
        interrupt,
        patience: args.patience.timeout,
        stall: args.patience.stall_timeout,
    });
    let lobby = Lobby {
        guests: &guests,
        role: Role::Send,
        until: if args.once || args.stdout { Until::OneEnded } else { Until::TheUserEndsIt },
        drains: false,
        json: args.output.json,
        progress: &shared.progress,
        interrupt: &shared.interrupt,
        end: &shared.interrupt,
    };
    block_on(async {
        let result = lobby.run(&server, Arc::clone(&shared)).await;
        server.shutdown().await;
        result
    })
}

fn whoever_has_the_ticket() -> Result<(Identity, Guests), Failure> {
    let (identity, token) = announce::new_identity()?;
    Ok((identity, Guests::Holder(token)))
}

/// What stays: this end's identity, and those that were invited.
fn known_peers(args: &RecvArgs) -> Result<(Identity, Guests), Failure> {
    if args.wait.listen.port() == 0 {
        return Err(Failure::usage("known peers must find this end at the same port each time")
            .todo("`--listen :4433` listens where `sendstream peers invite` says"));
    }
    let store = Store::of_user()?;
    Ok((store.identity()?, Guests::Known(Peers::new(store))))
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
