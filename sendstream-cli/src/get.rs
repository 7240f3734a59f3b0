//! `sendstream get`: comes to a `share`, and receives what it has, over as many connections as it takes.

use std::{future, pin::pin};

use futures::executor::block_on;
use sendstream::Client;

use crate::{
    caller::{Caller, Met, client_of},
    cli::{GetArgs, PatienceArgs, parse_inbox},
    destination,
    error::Failure,
    inbox::{Inbox, Rules},
    lobby::Ended,
    progress::Progress,
    protocol::{Announced, Code, Hello, ProtocolError, Role, SessionId},
    session::{
        Shared,
        intake::Intake,
        receiving::{Over, Receiving},
    },
    signal::Interrupt,
    summary::{self, Direction, Summary, count_files},
    ticket::Ticket,
    transport,
};

/// Gets the files, and prints the summary.
pub(crate) fn run(args: GetArgs) -> Result<(), Failure> {
    if args.stdout {
        summary::leave_standard_output();
    }
    let (ticket, dir) = destination::source(&args.arguments)?;
    if args.stdout && dir.is_some() {
        return Err(Failure::usage("with `--stdout` there is no directory to put files into"));
    }
    let dir = dir.unwrap_or_else(|| ".".into());
    let dir = parse_inbox(&dir).map_err(Failure::usage)?;
    let progress = Progress::of(args.output);
    let rules = Rules { overwrite: args.overwrite, fsync: args.fsync };
    let inbox = if args.stdout { None } else { Some(Inbox::open(&dir, rules, &progress)?) };
    let client = client_of(&ticket, args.patience).build().map_err(|error| Failure::setting_up(&error))?;
    let shared = Shared {
        inbox,
        progress,
        interrupt: Interrupt::install()?,
        patience: args.patience.timeout,
        stall: args.patience.stall_timeout,
    };
    shared.interrupt.exits_soon();
    let Ended { summary, result, .. } = block_on(async {
        let ended = get(&client, &ticket, &shared, args.patience).await;
        // The process must not end before the sender is told.
        client.wait_idle().await;
        ended
    });
    summary.print(args.output.json, result.as_ref().copied())?;
    result
}

/// Comes to the sender, and receives what it has.
async fn get(client: &Client, ticket: &Ticket, shared: &Shared, patience: PatienceArgs) -> Ended {
    let Shared { progress, interrupt, .. } = shared;
    let caller = Caller::new(client, ticket, Role::Receive, progress, patience);
    let unmet = |failure| Ended::new(Summary::new(Direction::Received, ticket.authority(), 0), Err(failure));
    let session = match SessionId::random() {
        Ok(session) => session,
        Err(error) => return unmet(Failure::new(format!("cannot draw a number: {error}"))),
    };
    let mut hello =
        Hello { role: Role::Receive, token: ticket.token.clone(), session, announced: Announced::default() };
    let met = match caller.meet(&hello, interrupt.wait()).await {
        Ok(met) => met,
        Err(failure) => return unmet(failure),
    };
    let announced = met.welcome.announced;
    let files = count_files(announced.entries);
    progress.note(format_args!("{}: has {files}, {} bytes", ticket.authority(), announced.bytes));
    let mut intake = shared.intake(ticket.authority(), announced);
    let result = receive(&caller, &mut hello, met, &mut intake, shared).await;
    shared.end(intake, result)
}

/// Receives over one connection after the other.
async fn receive<'a>(
    caller: &Caller<'_>,
    hello: &mut Hello,
    first: Met,
    intake: &mut Intake<'a>,
    shared: &'a Shared,
) -> Result<(), Failure> {
    let other = caller.other();
    let mut met = first;
    loop {
        let Met { connection, mut control, mut answer, welcome } = met;
        if welcome.known == 0 && intake.known() > 0 {
            intake.begin_again(welcome.announced);
        }
        let over = if welcome.known == intake.known() {
            let mut receiving = Receiving { shared, intake, other: &other, connection: &connection };
            // Nobody comes here.
            receiving.run(&mut answer, &mut control, pin!(future::pending())).await
        } else {
            Over::Final(Code::BadMessage, other.broke(ProtocolError::Entry(welcome.known)))
        };
        let why = match over {
            Over::Done => return Ok(()),
            Over::Final(code, failure) => {
                transport::close(&connection, code);
                if intake.has_all() && failure.is_of_the_network() {
                    return Ok(());
                }
                return Err(failure);
            }
            Over::Lost(why) => why,
            Over::Moved(..) => return Err(Failure::new("a client has no other connections")),
        };
        // If it is there after all, it hears of the next one.
        transport::close(&connection, Code::Moved);
        intake.break_off();
        hello.announced.entries = intake.known().into();
        let has_all = intake.has_all();
        let is_over = intake.is_over();
        met = match caller.meet_again(hello, connection.remote_addr(), why, is_over, shared.interrupt.wait()).await {
            Err(failure) if has_all && failure.is_of_the_network() => return Ok(()),
            met => met?,
        };
        if has_all && met.welcome.known == 0 {
            // It has ended the session, or forgotten it. Nothing is missing here.
            transport::close(&met.connection, Code::Done);
            return Ok(());
        }
    }
}
