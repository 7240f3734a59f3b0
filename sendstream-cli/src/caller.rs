//! A client's way to its server, with a ticket: it is met, and met again when the connection is lost.
//!
//! A connection is given up when nothing has come by it for [`SILENCE`](transport::SILENCE), though both
//! ends send something every two seconds. After a sleep, an outage, or a move to another network a
//! new connection is there sooner than the old one finds out that it may go on. The server keeps
//! the session meanwhile, and the client tries for as long as the user wants (`--timeout`).

use std::{
    cell::Cell,
    error::Error,
    future::Future,
    io,
    net::{SocketAddr, UdpSocket},
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::{self, Either};
use sendstream::{
    Client, ClientBuilder, ConnectError, Connection, ConnectionError, OpenError, RecvStream, SendStream, Trust,
};

use crate::{
    cli::PatienceArgs,
    dial::dial,
    error::{Failure, OtherEnd, connection_error},
    progress::Progress,
    protocol::{ALPN, Code, Hello, ProtocolError, Role, Welcome},
    ticket::Ticket,
    timer,
    transport::{self, Activity},
};

/// Describes a client that believes the server of that ticket alone.
pub(crate) fn client_of(ticket: &Ticket, patience: PatienceArgs) -> ClientBuilder {
    let trust = Trust::pinned([ticket.certificate_hash()]);
    Client::builder().alpn([ALPN]).trust(trust).transport(transport::settings(patience.timeout))
}

/// A client of the server that a ticket leads to.
pub(crate) struct Caller<'a> {
    client: &'a Client,
    pub(crate) ticket: &'a Ticket,
    /// What this end means to do.
    role: Role,
    progress: &'a Progress,
    /// For how long a server that is silent may come back, and how long one may do nothing.
    patience: PatienceArgs,
    /// When it was met last.
    met: Cell<Option<Instant>>,
}

/// Why a connection is over.
pub(crate) enum Trouble {
    /// Another one may do better.
    Lost(Failure),
    /// Nothing will.
    Final(Failure),
}

impl Trouble {
    pub(crate) fn of(error: &(dyn Error + 'static), other: &OtherEnd) -> Self {
        let failure = other.lost(error);
        match connection_error(error) {
            Some(ConnectionError::ApplicationClosed { code, .. })
                if matches!(Code::from_wire(*code), Some(Code::Moved | Code::TooSlow)) =>
            {
                Self::Lost(failure)
            }
            // The other end's word, or nobody's fault but this end's.
            None
            | Some(
                ConnectionError::ApplicationClosed { .. }
                | ConnectionError::CertificateRefused(_)
                | ConnectionError::Tls { .. },
            ) => Self::Final(failure),
            Some(_) => Self::Lost(failure),
        }
    }

    pub(crate) fn protocol(error: ProtocolError, other: &OtherEnd) -> Self {
        Self::Final(other.broke(error))
    }

    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Lost(failure) | Self::Final(failure) => failure,
        }
    }
}

/// A server that has welcomed this end.
pub(crate) struct Met {
    pub(crate) connection: Connection,
    pub(crate) control: SendStream,
    pub(crate) answer: RecvStream,
    pub(crate) welcome: Welcome,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        client: &'a Client,
        ticket: &'a Ticket,
        role: Role,
        progress: &'a Progress,
        patience: PatienceArgs,
    ) -> Self {
        Self { client, ticket, role, progress, patience, met: Cell::new(None) }
    }

    /// The server, for messages.
    pub(crate) fn other(&self) -> OtherEnd {
        self.other_at(self.ticket.authority())
    }

    fn other_at(&self, place: String) -> OtherEnd {
        OtherEnd::Server { client: self.role, place }
    }

    /// Comes to the server until it has room, for half a minute. `interrupted` ends it.
    pub(crate) async fn meet(&self, hello: &Hello, interrupted: impl Future + Unpin) -> Result<Met, Failure> {
        match future::select(pin!(self.meet_first(hello)), interrupted).await {
            Either::Left((met, _)) => met.map_err(Trouble::failure),
            Either::Right(_) => Err(Failure::interrupted()),
        }
    }

    async fn meet_first(&self, hello: &Hello) -> Result<Met, Trouble> {
        for (attempt, pause) in (0..).zip(PAUSES) {
            match self.begin(hello, self.patience.stall_timeout).await {
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
        self.begin(hello, self.patience.stall_timeout).await
    }

    /// Comes again after the connection to `address` was lost. `interrupted` ends it. Where all is said but
    /// farewell (`is_done`), it is not tried for long.
    pub(crate) async fn meet_again(
        &self,
        hello: &Hello,
        address: Option<SocketAddr>,
        why: Failure,
        is_done: bool,
        interrupted: impl Future + Unpin,
    ) -> Result<Met, Failure> {
        let PatienceArgs { timeout, stall_timeout } = self.patience;
        // A server that hashes a large file welcomes nobody meanwhile.
        let (patience, stall) = match timeout.min(transport::FAREWELL) {
            farewell if is_done => (farewell, farewell),
            _ => (timeout, stall_timeout),
        };
        self.progress.note(format_args!("{why}\ntrying again for {}", humantime::format_duration(patience)));
        let met = match future::select(pin!(self.try_again(hello, address, why, patience, stall)), interrupted).await {
            Either::Left((met, _)) => met?,
            Either::Right(_) => return Err(Failure::interrupted()),
        };
        self.progress.note(format_args!("{}: going on", self.ticket.authority()));
        Ok(met)
    }

    async fn try_again(
        &self,
        hello: &Hello,
        address: Option<SocketAddr>,
        mut why: Failure,
        patience: Duration,
        stall: Duration,
    ) -> Result<Met, Failure> {
        if self.met.get().is_some_and(|met| met.elapsed() < PAUSE) {
            // A server that breaks off at once, again and again, sets no pace.
            pause_for(PAUSE).await?;
        }
        let begin = Instant::now();
        let mut closed = 0;
        while begin.elapsed() < patience {
            match self.begin(hello, stall).await {
                Ok(met) => return Ok(met),
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

    /// Connects, says hello, and is welcomed within `stall`.
    async fn begin(&self, hello: &Hello, stall: Duration) -> Result<Met, Trouble> {
        let other = self.other();
        let connection = self.connect().await?;
        if connection.session_resumed() {
            self.progress.note("resumed an earlier session");
        }
        let (mut control, mut answer) = match connection.open_bi() {
            Ok(streams) => streams,
            Err(OpenError::ConnectionEnding) => return Err(Trouble::of(&connection.closed().await, &other)),
            Err(error) => return Err(Trouble::of(&error, &other)),
        };
        // Before its streams are dropped, so that the server is told nothing but this.
        let waiting = Waiting(Some(&connection));
        let mut welcome = [0; Welcome::LEN];
        let greeting = async {
            control.write_all(&hello.encode()).await.map_err(|error| Trouble::of(&error, &other))?;
            answer.read_exact(&mut welcome).await.map_err(|error| Trouble::of(&error, &other))
        };
        let ended = async {
            let activity = Activity::new();
            let stalled = pin!(activity.stalls(stall, || true));
            match future::select(pin!(transport::silence(&connection)), stalled).await {
                Either::Left(_) => (Code::Moved, Trouble::Lost(other.went_silent())),
                Either::Right(_) => (Code::Stalled, Trouble::Final(other.stalled(stall))),
            }
        };
        let greeted = match future::select(pin!(greeting), pin!(ended)).await {
            Either::Left((greeted, _)) => greeted,
            Either::Right(((code, trouble), _)) => {
                transport::close(&connection, code);
                Err(trouble)
            }
        };
        waiting.end();
        greeted?;
        let welcome = Welcome::decode(welcome).map_err(|error| Trouble::protocol(error, &other))?;
        self.met.set(Some(Instant::now()));
        Ok(Met { connection, control, answer, welcome })
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let other = self.other_at(self.ticket.everywhere());
        dial(self.client, self.ticket).await.map_err(|error| match error {
            // The network may be about to come back.
            ConnectError::Unresolved { .. } | ConnectError::NoAddress => Trouble::Lost(other.lost(&error)),
            error => Trouble::of(&error, &other),
        })
    }
}

/// A wait for a server's welcome. Dropping it means that the user wants it no more.
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

/// How many milliseconds to stay away from a server without room, one time after the other: half
/// of each at least.
const PAUSES: [u64; 12] = [250, 500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
/// How long to wait before another attempt after the connection was lost, at the most.
const PAUSE: Duration = Duration::from_secs(2);
/// How often in a row a machine must say that nobody listens.
const CLOSED_PORTS: usize = 3;
