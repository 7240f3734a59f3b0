//! One receiver at the sender: meets it, tells it of the entries, sends what it wants, and comes
//! again when the connection is lost.
//!
//! A connection is given up when nothing has come from the receiver for [`SILENCE`](transport::SILENCE), though both
//! ends send something every two seconds. After a sleep, an outage, or a move to another network a
//! new connection is there sooner than the old one finds out that it may go on. The receiver keeps
//! the session meanwhile, and the sender tries for as long as the user wants (`--timeout`).

use std::{
    error::Error,
    future::Future,
    io,
    net::{SocketAddr, UdpSocket},
    pin::pin,
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{self, Either},
};
use sendstream::{Client, ConnectError, Connection, ConnectionError, OpenError, RecvStream, SendStream};

use super::hub::{Hook, Inflow};
use crate::{
    dial::dial,
    error::{Failure, connection_error},
    progress::Progress,
    protocol::{
        Announced, Code, Hello, ProtocolError, Role, SessionId, Welcome,
        message::{Decoder, Message as _, Part, ToReceiver, ToSender},
    },
    ticket::Ticket,
    timer, transport,
};

/// A receiver to send to.
pub(super) struct Peer<'a> {
    pub(super) client: &'a Client,
    pub(super) ticket: &'a Ticket,
    pub(super) announced: Announced,
    pub(super) hook: Hook,
    pub(super) progress: &'a Progress,
    /// For how long a receiver that is silent may come back.
    pub(super) patience: Duration,
}

/// Why a connection is over.
enum Trouble {
    /// Another one may do better.
    Lost(Failure),
    /// Nothing will.
    Final(Failure),
}

impl Trouble {
    fn of(error: &(dyn Error + 'static), receiver: &str) -> Self {
        let failure = Failure::with_receiver(error, receiver);
        match connection_error(error) {
            Some(ConnectionError::ApplicationClosed { code, .. })
                if matches!(Code::from_wire(*code), Some(Code::Moved | Code::TooSlow)) =>
            {
                Self::Lost(failure)
            }
            // The receiver's word, or nobody's fault but this end's.
            None
            | Some(
                ConnectionError::ApplicationClosed { .. }
                | ConnectionError::CertificateRefused(_)
                | ConnectionError::Tls { .. },
            ) => Self::Final(failure),
            Some(_) => Self::Lost(failure),
        }
    }

    fn protocol(error: ProtocolError) -> Self {
        Self::Final(Failure::new(format!("cannot talk to the receiver: {error}")))
    }

    fn failure(self) -> Failure {
        match self {
            Self::Lost(failure) | Self::Final(failure) => failure,
        }
    }
}

/// A receiver that has welcomed this end.
struct Session {
    connection: Connection,
    control: SendStream,
    answer: RecvStream,
    /// How many entries it knows.
    known: u32,
}

impl Peer<'_> {
    /// Sends all that is to be sent, over as many connections as it takes. `met` is called when the
    /// first is there. `interrupted` ends it.
    pub(super) async fn run(&self, interrupted: impl Future + Unpin, mut met: impl FnMut()) -> Result<(), Failure> {
        let mut interrupted = interrupted;
        let id = SessionId::random().map_err(|error| Failure::new(format!("cannot draw a number: {error}")))?;
        let hello =
            Hello { role: Role::Send, token: self.ticket.token.clone(), session: id, announced: self.announced };
        let first = pin!(self.meet(&hello));
        let mut session = match future::select(first, &mut interrupted).await {
            Either::Left((session, _)) => session.map_err(Trouble::failure)?,
            Either::Right(_) => return Err(Failure::interrupted()),
        };
        met();
        loop {
            let connection = session.connection.clone();
            let inflow = self.hook.hub.borrow_mut().enter(self.hook.peer, session.known);
            let talk = pin!(self.talk(session, inflow));
            let talked = match future::select(talk, &mut interrupted).await {
                Either::Left((talked, _)) => talked,
                Either::Right(_) => {
                    // Before its streams are dropped, so that the receiver is told nothing but this.
                    transport::close(&connection, Code::Interrupted);
                    self.hook.hub.borrow_mut().leave(self.hook.peer);
                    return Err(Failure::interrupted());
                }
            };
            self.hook.hub.borrow_mut().leave(self.hook.peer);
            let Err(lost) = talked else { return Ok(()) };
            let Trouble::Lost(why) = lost else { return Err(lost.failure()) };
            self.progress.note(format_args!("{why}\ntrying again for {}", humantime::format_duration(self.patience)));
            let again = pin!(self.meet_again(&hello, connection.remote_addr(), why));
            session = match future::select(again, &mut interrupted).await {
                Either::Left((session, _)) => session?,
                Either::Right(_) => return Err(Failure::interrupted()),
            };
            self.progress.note(format_args!("{}: going on", self.ticket.authority()));
        }
    }

    /// Comes to the receiver until it has room, for half a minute.
    async fn meet(&self, hello: &Hello) -> Result<Session, Trouble> {
        for (attempt, pause) in (0..).zip(PAUSES) {
            match self.begin(hello).await {
                Err(trouble) => match trouble {
                    Trouble::Lost(failure) | Trouble::Final(failure) if failure.is_passing() => {
                        if attempt == 0 {
                            self.progress.note(format_args!("{failure}\ntrying again"));
                        }
                        pause_for(Duration::from_millis(pause)).await.map_err(Trouble::Final)?;
                    }
                    trouble => return Err(trouble),
                },
                met => return met,
            }
        }
        self.begin(hello).await
    }

    /// Comes again after the connection to `address` was lost.
    async fn meet_again(
        &self,
        hello: &Hello,
        address: Option<SocketAddr>,
        mut why: Failure,
    ) -> Result<Session, Failure> {
        let begin = Instant::now();
        let mut closed = 0;
        while begin.elapsed() < self.patience {
            match self.begin(hello).await {
                Ok(session) => return Ok(session),
                Err(Trouble::Final(failure)) if !failure.is_passing() => return Err(failure),
                Err(trouble) => why = trouble.failure(),
            }
            // The machine is there, and the process is not: what it would know of this session is
            // gone with it.
            closed = if nobody_listens(address).await { closed + 1 } else { 0 };
            if closed >= CLOSED_PORTS {
                return Err(why);
            }
            pause_for(PAUSE).await?;
        }
        Err(why)
    }

    /// Connects, and says hello.
    async fn begin(&self, hello: &Hello) -> Result<Session, Trouble> {
        let receiver = self.ticket.authority();
        let connection = self.connect().await?;
        if connection.session_resumed() {
            self.progress.note("resumed an earlier session");
        }
        let (mut control, mut answer) = match connection.open_bi() {
            Ok(streams) => streams,
            Err(OpenError::ConnectionEnding) => return Err(Trouble::of(&connection.closed().await, &receiver)),
            Err(error) => return Err(Trouble::of(&error, &receiver)),
        };
        // Before its streams are dropped, so that the receiver is told nothing but this.
        let waiting = Waiting(Some(&connection));
        let mut welcome = [0; Welcome::LEN];
        let greeting = async {
            control.write_all(&hello.encode()).await.map_err(|error| Trouble::of(&error, &receiver))?;
            answer.read_exact(&mut welcome).await.map_err(|error| Trouble::of(&error, &receiver))
        };
        let greeted = match future::select(pin!(greeting), pin!(transport::silence(&connection))).await {
            Either::Left((greeted, _)) => Some(greeted),
            Either::Right(_) => None,
        };
        waiting.end();
        match greeted {
            Some(greeted) => greeted?,
            None => {
                transport::close(&connection, Code::Moved);
                return Err(self.silent());
            }
        }
        let Welcome { known, .. } = Welcome::decode(welcome).map_err(Trouble::protocol)?;
        Ok(Session { connection, control, answer, known })
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let receiver = self.ticket.everywhere();
        dial(self.client, self.ticket).await.map_err(|error| match error {
            // The network may be about to come back.
            ConnectError::Unresolved { .. } | ConnectError::NoAddress => {
                Trouble::Lost(Failure::with_receiver(&error, &receiver))
            }
            error => Trouble::of(&error, &receiver),
        })
    }

    /// One connection, to its end.
    async fn talk(&self, session: Session, inflow: Inflow) -> Result<(), Trouble> {
        let Session { connection, control, answer, .. } = session;
        let said = pin!(future::try_join(self.say(control, inflow), self.listen(answer)));
        let talked = match future::select(said, pin!(transport::silence(&connection))).await {
            Either::Left((said, _)) => said.map(|_| ()),
            Either::Right(_) => Err(self.silent()),
        };
        // Before the streams are dropped, which resets them: the receiver is told nothing but this.
        let code = match talked {
            Ok(()) => Code::Done,
            Err(Trouble::Lost(_)) => Code::Moved,
            Err(Trouble::Final(_)) => Code::BadMessage,
        };
        transport::close(&connection, code);
        talked
    }

    fn silent(&self) -> Trouble {
        let receiver = self.ticket.authority();
        Trouble::Lost(
            Failure::new(format!("no answer from the receiver at {receiver}: it ended, or the network between failed"))
                .todo("check that `sendstream recv` still runs there, and that no firewall drops UDP to that port"),
        )
    }

    /// Tells of the entries, and sends what the receiver wants.
    async fn say(&self, mut control: SendStream, mut inflow: Inflow) -> Result<(), Trouble> {
        let receiver = self.ticket.authority();
        let trouble = |error| Trouble::of(&error, &receiver);
        loop {
            if let Some(Some(piece)) = inflow.pieces.next().now_or_never() {
                control.write_chunk(piece.bytes).await.map_err(trouble)?;
                continue;
            }
            let mut offers = Vec::new();
            let done = {
                let mut hub = self.hook.hub.borrow_mut();
                hub.offers(self.hook.peer, &mut offers);
                hub.is_done(self.hook.peer)
            };
            if !offers.is_empty() {
                control.write_chunk(offers.into()).await.map_err(trouble)?;
            } else if done {
                let mut last = Vec::new();
                ToReceiver::Done.encode(&mut last);
                control.write_chunk(last.into()).await.map_err(trouble)?;
                control.finish().map_err(trouble)?;
                // To its end: dropping the stream would reset it.
                return control.finished().await.map_err(trouble);
            } else {
                let piece = match future::select(inflow.pieces.next(), inflow.bell.next()).await {
                    Either::Left((Some(piece), _)) => piece,
                    Either::Left((None, _)) => future::pending().await,
                    Either::Right(_) => continue,
                };
                control.write_chunk(piece.bytes).await.map_err(trouble)?;
            }
        }
    }

    /// Takes the receiver's answers, to the last.
    async fn listen(&self, mut answer: RecvStream) -> Result<(), Trouble> {
        let receiver = self.ticket.authority();
        let mut decoder = Decoder::default();
        let mut bye = false;
        while let Some(chunk) = answer.read_chunk().await.map_err(|error| Trouble::of(&error, &receiver))? {
            let mut input = &chunk[..];
            while let Some(part) = decoder.next::<ToSender>(&mut input).map_err(Trouble::protocol)? {
                let Part::Message(message) = part else { continue };
                if bye {
                    return Err(Trouble::protocol(ProtocolError::TooMuch));
                }
                bye = message == ToSender::Bye;
                self.hook.hub.borrow_mut().hear(self.hook.peer, message).map_err(Trouble::protocol)?;
            }
        }
        decoder.end().map_err(Trouble::protocol)?;
        if bye { Ok(()) } else { Err(Trouble::protocol(ProtocolError::TooLittle)) }
    }
}

/// A wait for a receiver's welcome. Dropping it means that the user wants it no more.
struct Waiting<'a>(Option<&'a Connection>);

impl Waiting<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            transport::close(connection, Code::Interrupted);
        }
    }
}

/// Whether the machine at `address` says that nobody listens there.
async fn nobody_listens(address: Option<SocketAddr>) -> bool {
    let Some(address) = address else { return false };
    let (tell, told) = futures::channel::oneshot::channel();
    let ask = move || {
        let says_no = || -> io::Result<()> {
            let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(local)?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.connect(address)?;
            // A QUIC server drops such a packet.
            socket.send(&[0])?;
            socket.recv(&mut [0]).map(drop)
        };
        let no = says_no().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let _ = tell.send(no);
    };
    let asked = std::thread::Builder::new().name("probe".to_owned()).spawn(ask);
    asked.is_ok() && told.await.unwrap_or(false)
}

/// Waits for a part of `pause`, by chance, so that not all who were turned away together come again
/// together.
async fn pause_for(pause: Duration) -> Result<(), Failure> {
    let mut dice = [0];
    // Without dice they do.
    let _ = getrandom::fill(&mut dice);
    let pause = pause.mul_f64(0.5 + f64::from(dice[0]) / 512.0);
    let sleep = timer::sleep(pause).map_err(|error| Failure::new(format!("cannot wait: {error}")))?;
    let _ = sleep.await;
    Ok(())
}

/// How many milliseconds to stay away from a receiver without room, one time after the other: half
/// of each at least.
const PAUSES: [u64; 12] = [250, 500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
/// How long to wait before another attempt after the connection was lost, at the most.
const PAUSE: Duration = Duration::from_secs(2);
/// How often in a row a machine must say that nobody listens.
const CLOSED_PORTS: usize = 3;
