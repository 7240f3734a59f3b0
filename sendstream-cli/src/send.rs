//! `sendstream send`: lists the files, meets the receivers, and reports what each of them has.
//!
//! | module   | what it is for                                                        |
//! | -------- | --------------------------------------------------------------------- |
//! | `hub`    | what each receiver has of each entry, and what is to be read next     |
//! | `peer`   | one receiver: its connections, one after the other                    |
//! | `talk`   | what is said over one of them                                         |
//!
//! The disk is read once for all receivers, by the [reader](crate::reader). Contents go out one file
//! after the other, but nobody waits for the answer to one before sending the next.

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use futures::{
    FutureExt as _,
    executor::block_on,
    future::{self, Either},
    stream::{FuturesUnordered, StreamExt as _},
};
use sendstream::{Client, Printable};
use serde::Serialize;

use crate::{
    caller::{Caller, client_of},
    cli::{ContentArgs, SendArgs},
    destination,
    error::Failure,
    progress::Progress,
    protocol::{Role, message::Kind},
    reader::{self, Wanted},
    sessions::Sessions,
    signal::Interrupt,
    summary::{self, Direction, Summary, count_entries},
    ticket::Ticket,
    timer,
    walk::{Choice, Listing, More},
};

pub(crate) mod hub;
mod peer;
pub(crate) mod talk;

use hub::{Hook, Hub};
use peer::Peer;

/// Sends the files and prints the summary of each receiver.
pub(crate) fn run(args: SendArgs) -> Result<(), Failure> {
    let (files, tickets) = destination::split(&args.arguments)?;
    let progress = Progress::of(args.output);
    let Some(listing) = list(&files, &args.content, args.output.json, &progress)? else { return Ok(()) };

    let mut summaries: Vec<_> = tickets
        .iter()
        .map(|ticket| Summary::new(Direction::Sent, ticket.authority(), listing.announced().entries))
        .collect();
    let result = send(&args, &tickets, &listing, &progress, &mut summaries);
    let results = match result {
        Ok(results) => results,
        // Nobody was met.
        Err(failure) => {
            summaries[0].print(args.output.json, Err(&failure))?;
            return Err(failure);
        }
    };
    let several = tickets.len() > 1;
    let mut failed = Ok(());
    for (summary, result) in summaries.iter().zip(results) {
        summary.print(args.output.json, result.as_ref().copied())?;
        if let Err(failure) = result {
            if several {
                progress.warn(format_args!("{}: {failure}", summary.peer()));
            }
            failed = Err(failure);
        }
    }
    match failed {
        Err(failure) if several && !failure.is_interruption() => Err(Failure::new("not every receiver has it all")),
        other => other,
    }
}

/// Lists what is to be sent, and says what is left out. `None` if that is all that the user wanted.
pub(crate) fn list(
    files: &[PathBuf],
    content: &ContentArgs,
    json: bool,
    progress: &Progress,
) -> Result<Option<Arc<Listing>>, Failure> {
    let choice = Choice::new(content.links, &content.exclude)?;
    let listing = Arc::new(Listing::new(files, &choice)?);
    for (item, why) in listing.left_out() {
        let name = Printable::new(&item.name);
        progress.warn(format_args!("not sent: {name}: {}", Printable::new(&*why.text)));
    }
    if content.dry_run {
        return show(&listing, json).map(|()| None);
    }
    if listing.items.iter().all(|item| matches!(item.more, More::LeftOut(_))) {
        return Err(Failure::new("there is nothing to send").todo("check the names; nothing was sent"));
    }
    Ok(Some(listing))
}

/// Says what would be sent.
fn show(listing: &Listing, json: bool) -> Result<(), Failure> {
    let sent = || listing.items.iter().filter(|item| !matches!(item.more, More::LeftOut(_)));
    let left_out = listing.left_out().count();
    if json {
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        summary::print_json(&Plan {
            dry_run: true,
            ok: left_out == 0,
            bytes: listing.announced().bytes,
            files: sent()
                .map(|item| Planned { name: name(&item.name), r#type: summary::type_name(item.kind), bytes: item.size })
                .collect(),
            skipped: listing
                .left_out()
                .map(|(item, why)| Skipped { name: name(&item.name), error: &why.text })
                .collect(),
        })?;
    } else {
        for item in sent() {
            let slash = if item.kind == Kind::Directory { "/" } else { "" };
            summary::print_line(&format!("{:>14} {}{slash}", item.size, Printable::new(&item.name)))?;
        }
        let what = count_entries(sent().map(|item| item.kind));
        summary::print_line(&format!("would send {what}, {} bytes", listing.announced().bytes))?;
    }
    match left_out {
        0 => Ok(()),
        1 => Err(Failure::new("1 entry would not be sent")),
        left_out => Err(Failure::new(format!("{left_out} entries would not be sent"))),
    }
}

#[derive(Serialize)]
struct Plan<'a> {
    dry_run: bool,
    ok: bool,
    bytes: u64,
    files: Vec<Planned>,
    skipped: Vec<Skipped<'a>>,
}

#[derive(Serialize)]
struct Planned {
    name: String,
    r#type: &'static str,
    bytes: u64,
}

#[derive(Serialize)]
struct Skipped<'a> {
    name: String,
    error: &'a str,
}

/// Sends to all receivers, and returns how it went with each.
fn send(
    args: &SendArgs,
    tickets: &[Ticket],
    listing: &Arc<Listing>,
    progress: &Progress,
    summaries: &mut [Summary],
) -> Result<Vec<Result<(), Failure>>, Failure> {
    let interrupt = Interrupt::install()?;
    let clients = tickets.iter().map(|ticket| client(args, ticket)).collect::<Result<Vec<_>, _>>()?;
    let (jobs, todo) = std_mpsc::channel();
    let wanted = Arc::new(Wanted::new(tickets.len()));
    let pieces = reader::spawn(Arc::clone(listing), todo, Arc::clone(&wanted), args.content.limit)
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let announced = listing.announced();
    let bar = |ticket: &Ticket| match tickets {
        [_] => progress.transfer("sending", announced.bytes),
        _ => progress.transfer(ticket.authority(), announced.bytes),
    };
    let bars: Vec<_> = tickets.iter().map(bar).collect();
    bars.iter().for_each(|bar| bar.expect_files(announced.entries));
    let hub = Rc::new(RefCell::new(Hub::new(Arc::clone(listing), jobs, wanted, progress.clone(), bars.clone())));

    let results = block_on(async {
        let mut running: FuturesUnordered<_> = tickets
            .iter()
            .zip(&clients)
            .zip(summaries.iter_mut())
            .enumerate()
            .map(|(number, ((ticket, client), summary))| {
                let hook = Hook { hub: Rc::clone(&hub), peer: number };
                let caller = Caller::new(client, ticket, Role::Send, progress, args.patience);
                let peer = Peer { caller, announced, hook, stall: args.patience.stall_timeout };
                let (interrupted, bar, hub) = (interrupt.wait(), bars[number].clone(), Rc::clone(&hub));
                async move {
                    let result = peer.run(interrupted, || summary.start()).await;
                    bar.clear();
                    hub.borrow_mut().conclude(number, summary);
                    (number, result.and_then(|()| summary.verdict()))
                }
                .boxed_local()
            })
            .collect();
        // The reader may end before its time.
        let distributing = hub::distribute(&hub, pieces);
        let looking = look_for_the_late(&hub, args.patience.timeout);
        let mut distributing = future::join(distributing, looking).boxed_local().fuse();
        let mut results: Vec<_> = tickets.iter().map(|_| Ok(())).collect();
        loop {
            match future::select(running.next(), &mut distributing).await {
                Either::Left((Some((number, result)), _)) => results[number] = result,
                Either::Left((None, _)) => break,
                Either::Right(_) => {}
            }
        }
        drop(running);
        // The process must not end before the receivers are told.
        for client in &clients {
            client.wait_idle().await;
        }
        results
    });
    Ok(results)
}

/// Looks again and again whether receivers wait for others for too long. Resolves if it cannot.
async fn look_for_the_late(hub: &RefCell<Hub>, patience: Duration) {
    while let Ok(sleep) = timer::sleep((patience / 4).min(Duration::from_secs(5))) {
        let _ = sleep.await;
        hub.borrow_mut().wait_no_longer_than(patience);
    }
}

fn client(args: &SendArgs, ticket: &Ticket) -> Result<Client, Failure> {
    let mut client = client_of(ticket, args.patience);
    if let Some(dir) = &args.sessions {
        client = client.session_cache(Arc::new(Sessions::open(dir, ticket.certificate_hash())?));
    }
    client.build().map_err(|error| Failure::setting_up(&error))
}
