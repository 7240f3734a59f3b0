//! One receiver at a `send`: it is met, sent what it wants, and met again when the connection is lost.

use std::{future::Future, pin::pin, time::Duration};

use futures::future::{self, Either};

use super::{hub::Hook, talk::Talk};
use crate::{
    caller::{Caller, Trouble},
    error::Failure,
    protocol::{Announced, Code, Hello, Role, SessionId},
    transport,
};

/// A receiver to send to.
pub(super) struct Peer<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) announced: Announced,
    pub(super) hook: Hook,
    /// How long it may say and take nothing while the connection is up.
    pub(super) stall: Duration,
}

impl Peer<'_> {
    /// Sends all that is to be sent, over as many connections as it takes. `met` is called when the
    /// first is there. `interrupted` ends it.
    pub(super) async fn run(&self, interrupted: impl Future + Unpin, mut met: impl FnMut()) -> Result<(), Failure> {
        let mut interrupted = interrupted;
        let Self { caller, hook, announced, stall } = self;
        let session = SessionId::random().map_err(|error| Failure::new(format!("cannot draw a number: {error}")))?;
        let token = caller.ticket.token.clone();
        let hello = Hello { role: Role::Send, token, session, announced: *announced };
        let other = caller.other();
        let mut server = caller.meet(&hello, &mut interrupted).await?;
        met();
        loop {
            let connection = server.connection.clone();
            let inflow = hook.hub.borrow_mut().enter(hook.peer, server.welcome.known);
            let talk = Talk { hook, other: &other, connection: &connection, stall: *stall };
            let talk = pin!(talk.run(server.control, server.answer, inflow));
            let talked = match future::select(talk, &mut interrupted).await {
                Either::Left((talked, _)) => talked,
                Either::Right(_) => {
                    // Before its streams are dropped, so that the receiver is told nothing but this.
                    transport::close(&connection, Code::Interrupted);
                    hook.hub.borrow_mut().leave(hook.peer);
                    return Err(Failure::interrupted());
                }
            };
            hook.hub.borrow_mut().leave(hook.peer);
            // What the receiver has acknowledged it has, though it could not say farewell.
            let is_done = hook.hub.borrow().is_done(hook.peer);
            let why = match talked {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(failure)) if is_done && failure.is_of_the_network() => return Ok(()),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Lost(why)) => why,
            };
            server = match caller.meet_again(&hello, connection.remote_addr(), why, is_done, &mut interrupted).await {
                Err(failure) if is_done && failure.is_of_the_network() => return Ok(()),
                met => met?,
            };
            if is_done && server.welcome.known == 0 {
                // It has ended the session, and so it has heard that it is over. Its files may be elsewhere by now.
                transport::close(&server.connection, Code::Done);
                return Ok(());
            }
        }
    }
}
