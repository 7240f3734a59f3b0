//! Clients that have not shown the token yet: a pool of their own, so that they take no run's place.
//!
//! It gives its [`MAX_STRANGERS`] places as that of [`strangers`](crate::strangers) does: when it is full, a newcomer takes the place of the oldest of the address that has most.
//! Each has [`PATIENCE`] from its first packet on.

use std::{collections::VecDeque, net::SocketAddr};

use sendstream::{Connection, Incoming, RecvStream, SendStream};
use tokio::{sync::oneshot, task::JoinSet};

use super::{protocol::Hello, run_error::close, transport::PATIENCE};
use crate::{
    protocol::Code,
    strangers::{crowded, network},
    ticket::Token,
};

/// The pool.
pub(crate) struct Strangers {
    /// What they have to show; nothing at an open server.
    token: Option<Token>,
    /// Those that may still show it, the oldest first.
    waiting: VecDeque<Stranger>,
    greetings: JoinSet<Greeted>,
    /// Number of the next one.
    next: u64,
}

struct Stranger {
    number: u64,
    peer: SocketAddr,
    /// Sends it away.
    dismiss: oneshot::Sender<Code>,
}

/// How a client's greeting ended.
pub(crate) struct Greeted {
    number: u64,
    pub(crate) peer: SocketAddr,
    /// A client that may run; or why it may not, unless it said nothing.
    pub(crate) result: Result<Trusted, Option<String>>,
}

/// A client that may run, and was told nothing yet.
pub(crate) struct Trusted {
    pub(crate) connection: Connection,
    pub(crate) hello: Hello,
    pub(crate) control: RecvStream,
    pub(crate) answer: SendStream,
}

impl Strangers {
    /// An empty pool of those that may show `token`, if that is asked for.
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self { token, waiting: VecDeque::new(), greetings: JoinSet::new(), next: 0 }
    }

    /// Gives a connection a place, which it may take from another.
    pub(crate) fn admit(&mut self, incoming: Incoming) {
        if self.waiting.len() >= MAX_STRANGERS {
            let place = crowded(self.waiting.iter().map(|stranger| network(stranger.peer)));
            if let Some(stranger) = self.waiting.remove(place) {
                // It may be through already.
                let _ = stranger.dismiss.send(Code::Full);
            }
        }
        let (number, peer) = (self.next, incoming.remote_addr());
        let (dismiss, dismissed) = oneshot::channel();
        self.next += 1;
        self.waiting.push_back(Stranger { number, peer, dismiss });
        let greeting = greet(incoming, self.token.clone(), dismissed);
        self.greetings.spawn(async move { Greeted { number, peer, result: greeting.await } });
    }

    /// Waits until one may run or goes. Dropping the future loses nobody.
    pub(crate) async fn next(&mut self) -> Greeted {
        loop {
            match self.greetings.join_next().await {
                Some(Ok(greeted)) => {
                    self.waiting.retain(|stranger| stranger.number != greeted.number);
                    return greeted;
                }
                // A greeting that panicked has let go of its connection.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Accepts the connection and hears its hello, until the time is over or it is dismissed.
async fn greet(
    incoming: Incoming,
    token: Option<Token>,
    dismissed: oneshot::Receiver<Code>,
) -> Result<Trusted, Option<String>> {
    let mut accepted = None;
    let greeting = async {
        // Whoever it was: it may have been nobody.
        let connection = incoming.accept().await.map_err(|_| None)?;
        accepted = Some(connection.clone());
        hear(connection, token).await
    };
    let code = tokio::select! {
        greeted = greeting => return greeted,
        code = dismissed => code.unwrap_or(Code::Interrupted),
        () = tokio::time::sleep(PATIENCE) => Code::TooSlow,
    };
    if let Some(connection) = accepted {
        close(&connection, code, "");
    }
    Err(None)
}

async fn hear(connection: Connection, token: Option<Token>) -> Result<Trusted, Option<String>> {
    let (answer, mut control) = connection.accept_bi().await.map_err(|_| None)?;
    let mut hello = [0; Hello::LEN];
    control.read_exact(&mut hello).await.map_err(|_| None)?;
    match Hello::decode(&hello) {
        Ok(hello) if token.is_none_or(|token| token == hello.token) => {
            Ok(Trusted { connection, hello, control, answer })
        }
        Ok(_) => {
            close(&connection, Code::WrongToken, "");
            Err(Some("it has the wrong token".to_owned()))
        }
        Err(error) => {
            close(&connection, Code::BadMessage, &error.to_string());
            Err(Some(format!("cannot talk to the client: {error}")))
        }
    }
}

/// How many may wait. Each may have a MiB of datagrams wait here ([`transport::for_strangers`](super::transport::for_strangers)).
const MAX_STRANGERS: usize = 16;
