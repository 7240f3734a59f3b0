//! What a peer may not say (RFC 9000, RFC 9221) ends its own connection and nobody else's, or is
//! passed over.
//!
//! The peer is aioquic with its checks and limits taken off (`peers/forbidden_peer.py`): it sends
//! any bytes as the frames of a packet. [`kinds`] is the table of what it sends, with what RFC 9000
//! asks for and what MsQuic does. Skipped, loudly, where aioquic is missing.

mod support;

use std::{fmt::Write as _, sync::Mutex};

use sendstream::{Client, ConnectError, Connection, ConnectionError, Server, TransportConfig, Trust};
use support::{
    HANG, accept,
    aioquic::{Certified, Peer},
    any_port, connect, exchange,
    frames::{crypto, numbers, stream},
    python::python,
    run,
};

const SCRIPT: &str = "forbidden_peer.py";

#[test]
fn a_client_that_says_what_it_may_not_ends_its_own_connection_at_most() {
    let Some(python) = python() else { return };
    run(async move {
        let mut tally = Tally::default();
        for datagrams in [false, true] {
            let target = Target::new(datagrams).await;
            let port = target.server.local_addr().unwrap().port().to_string();
            let arguments = ["client".to_owned(), target.certified.path("certificate"), port];
            let mut peer = Peer::start(&python, SCRIPT, arguments);
            for kind in kinds(Role::Client).iter().filter(|kind| kind.datagrams == datagrams) {
                let Some(expected) = kind.from_client else { continue };
                peer.tell(&kind.order());
                let seen = match kind.space {
                    // Refused before the server knows that there is a client.
                    Space::Initial => expected,
                    Space::Handshake => {
                        let error = accept(&target.server).await.unwrap_err();
                        Answer::of(&error)
                    }
                    Space::Application => answer(accept(&target.server).await.unwrap()).await,
                    Space::Ahead => unreachable!("of servers only, and allowed"),
                };
                tally.add(kind, expected, seen, &peer.says("closed"));
                target.honest_round_trip().await;
            }
            drop(peer);
            target.end().await;
        }
        tally.conclude("a client");
    });
}

#[test]
fn a_server_that_says_what_it_may_not_ends_its_own_connection_at_most() {
    let Some(python) = python() else { return };
    run(async move {
        let mut tally = Tally::default();
        for datagrams in [false, true] {
            let target = Target::new(datagrams).await;
            let (mut peer, address) = Peer::serve(&python, SCRIPT, &target.certified);
            for kind in kinds(Role::Server).iter().filter(|kind| kind.datagrams == datagrams) {
                let Some(expected) = kind.from_server else { continue };
                peer.tell(&kind.order());
                peer.says("set");
                let seen = match target.client.connect(address, "localhost").await {
                    Ok(connection) => answer(connection).await,
                    Err(ConnectError::Connection(error)) => Answer::of(&error),
                    Err(error) => panic!("{}: {error}", kind.name),
                };
                tally.add(kind, expected, seen, &peer.says("closed"));
                target.honest_round_trip().await;
            }
            drop(peer);
            target.end().await;
        }
        tally.conclude("a server");
    });
}

/// It may do so while this side judges its certificate, and say more with it (RFC 9000 §19.20, RFC
/// 9001 §4.1.2).
#[test]
fn a_server_that_confirms_the_handshake_before_it_is_believed_ends_its_own_connection_at_most() {
    let Some(python) = python() else { return };
    run(async move {
        const HANDSHAKE_DONE: u8 = 0x1e;
        // The beginning of a session ticket, and something far behind, for which the buffer must
        // grow.
        let ticket = crypto(0, &[4, 0, 0, 100]);
        let far = crypto(8000, b"x");
        let target = Target::new(false).await;
        let (mut peer, address) = Peer::serve(&python, SCRIPT, &target.certified);
        for more in [Vec::new(), ticket.clone(), far.clone(), [ticket, far].concat()] {
            for judged_at_once in [false, true] {
                let (judge, verdict) = futures::channel::oneshot::channel();
                let verdict = Mutex::new(Some(verdict));
                let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
                    let verdict = verdict.lock().unwrap().take();
                    async move {
                        if !judged_at_once {
                            verdict.expect("there is one certificate").await.unwrap();
                        }
                        Ok(())
                    }
                });
                let client = support::client_with(trust).build().unwrap();
                let frames = [&more[..], &[HANDSHAKE_DONE]].concat();
                peer.tell(&kind("ahead", 0, frames).within(Space::Ahead).order());
                peer.says("set");
                let connecting = client.connect(address, "localhost");
                let judging = futures::future::lazy(|_| {
                    // All that it sent has arrived, in one datagram.
                    peer.says("heard");
                    let _ = judge.send(());
                });
                let (connected, ()) = futures::join!(connecting, judging);
                let Err(ConnectError::Connection(error)) = connected else { panic!("{connected:?}") };
                assert_eq!(Answer::of(&error), Answer::Closes(PROTOCOL_VIOLATION));
                assert_eq!(peer.says("closed"), "transport 10");
                client.wait_idle().await;
                target.honest_round_trip().await;
            }
        }
        drop(peer);
        target.end().await;
    });
}

/// Asks the peer for its packet, and says what came of it. The connection is over afterwards.
async fn answer(connection: Connection) -> Answer {
    // Streams of ours that exist: a unidirectional and a bidirectional one.
    let mut alone = connection.open_uni().unwrap();
    drop(alone.send("there is this stream"));
    let (mut send, mut recv) = connection.open_bi().unwrap();
    drop(send.finish_with("go"));
    match recv.read_to_end(100).await.as_deref() {
        Ok(b"acknowledged") => Answer::GoesOn,
        Ok(b"dropped") => Answer::Dropped,
        Ok(said) => panic!("{said:?}"),
        Err(_) => Answer::of(&connection.closed().await),
    }
}

/// An honest client at a server, for as long as this lives; the client also connects elsewhere.
struct Target {
    certified: Certified,
    server: Server,
    client: Client,
    honest: (Connection, Connection),
}

impl Target {
    async fn new(datagrams: bool) -> Self {
        let transport = TransportConfig::default()
            .max_concurrent_uni_streams(STREAMS)
            .max_concurrent_bidi_streams(STREAMS)
            .stream_receive_window(STREAM_WINDOW)
            .connection_flow_control_window(CONNECTION_WINDOW)
            .datagram_receive_buffer(datagrams.then_some(1 << 20))
            // The peer is a slow one, and the machine may be busy.
            .idle_timeout(2 * HANG)
            .handshake_timeout(2 * HANG)
            .disconnect_timeout(HANG);
        let certified = Certified::new();
        let server = support::server(&certified.identity).transport(transport.clone()).bind(any_port()).unwrap();
        let client = support::client(&certified.identity).transport(transport).build().unwrap();
        let honest = connect(&client, &server).await;
        Self { certified, server, client, honest }
    }

    /// Something there and back between those who keep to the rules.
    async fn honest_round_trip(&self) {
        let (client, server) = &self.honest;
        exchange(client, server, HONEST_BYTES).await;
    }

    /// Nothing of all those connections is left.
    async fn end(self) {
        let Self { server, client, honest, .. } = self;
        drop(honest);
        server.shutdown().await;
        client.wait_idle().await;
    }
}

/// What was seen so far.
#[derive(Default)]
struct Tally {
    as_due: usize,
    other_code: usize,
    passed_over: usize,
    differences: String,
    mistakes: Vec<String>,
}

impl Tally {
    /// Notes what became of `kind`, as this side saw it and as the peer did.
    fn add(&mut self, kind: &Kind, expected: Answer, seen: Answer, peer: &str) {
        let Kind { name, due, .. } = kind;
        let wire = match expected {
            Answer::Closes(code) => format!("transport {code}"),
            // This side let it go, with the code that its application has not set.
            Answer::GoesOn | Answer::Dropped => "application 0".to_owned(),
        };
        if seen != expected || peer != wire {
            self.mistakes.push(format!("{name}: {seen:x?}, and for the peer {peer:?}; not {expected:x?}"));
        }
        match expected {
            Answer::Closes(code) if code == *due => return self.as_due += 1,
            Answer::Closes(_) => self.other_code += 1,
            Answer::GoesOn | Answer::Dropped => self.passed_over += 1,
        }
        writeln!(self.differences, "    {name}: {expected:x?}, not Closes({due:x})").unwrap();
    }

    fn conclude(self, who: &str) {
        let Self { as_due, other_code, passed_over, differences, mistakes } = self;
        let kinds = as_due + other_code + passed_over;
        println!(
            "{who}: {kinds} kinds, of which {as_due} end as RFC 9000 says, {other_code} with another code, and \
             {passed_over} are passed over; {kinds} honest round trips of {HONEST_BYTES} bytes"
        );
        print!("{differences}");
        assert!(mistakes.is_empty(), "{mistakes:#?}");
    }
}

// ---- The table ----------------------------------------------------------------------------------

/// Whose part the peer plays.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Client,
    Server,
}

/// Where the frames go.
#[derive(Clone, Copy)]
enum Space {
    Initial,
    Handshake,
    Application,
    /// The application's, right behind a server's part of the handshake.
    Ahead,
}

/// What MsQuic makes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// It closes the connection with this code, which both sides see.
    Closes(u64),
    /// It acknowledges the packet, and the connection goes on.
    GoesOn,
    /// It does not even acknowledge the packet, and the connection goes on.
    Dropped,
}

impl Answer {
    fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TransportClosed { code, .. } => Self::Closes(*code),
            ConnectionError::Tls { alert, .. } => Self::Closes(0x100 + u64::from(*alert)),
            error => panic!("{error:?}"),
        }
    }
}

struct Kind {
    name: &'static str,
    space: Space,
    /// What the two reserved bits of the packet are.
    reserved: u8,
    /// Whether the side that is told has offered datagrams.
    datagrams: bool,
    frames: Vec<u8>,
    /// The code that RFC 9000 asks for or allows.
    due: u64,
    /// What MsQuic does as a server; `None` where a client may say it.
    from_client: Option<Answer>,
    /// What MsQuic does as a client; `None` where a server may say it.
    from_server: Option<Answer>,
}

impl Kind {
    /// MsQuic does other than what is due.
    fn but(mut self, answer: Answer) -> Self {
        (self.from_client, self.from_server) = (Some(answer), Some(answer));
        self
    }

    fn but_from_client(mut self, answer: Answer) -> Self {
        self.from_client = Some(answer);
        self
    }

    fn but_from_server(mut self, answer: Answer) -> Self {
        self.from_server = Some(answer);
        self
    }

    /// A server may say it.
    fn of_clients(mut self) -> Self {
        self.from_server = None;
        self
    }

    /// A client's is another kind.
    fn of_servers(mut self) -> Self {
        self.from_client = None;
        self
    }

    fn within(mut self, space: Space) -> Self {
        self.space = space;
        self
    }

    fn order(&self) -> String {
        let Self { space, reserved, frames, .. } = self;
        let space = match space {
            Space::Initial => "initial",
            Space::Handshake => "handshake",
            Space::Application => "application",
            Space::Ahead => "ahead",
        };
        frames.iter().fold(format!("{space} {reserved} "), |mut line, byte| {
            write!(line, "{byte:02x}").unwrap();
            line
        })
    }
}

fn kind(name: &'static str, due: u64, frames: impl Into<Vec<u8>>) -> Kind {
    let as_due = Some(Answer::Closes(due));
    Kind {
        name,
        space: Space::Application,
        reserved: 0,
        datagrams: false,
        frames: frames.into(),
        due,
        from_client: as_due,
        from_server: as_due,
    }
}

/// Everything that the peer tries, in its part.
fn kinds(role: Role) -> Vec<Kind> {
    let (its, ours) = match role {
        Role::Client => (0, 1),
        Role::Server => (1, 0),
    };
    // Streams by who opens them. Of ours there are the first of each kind, and only those; of the
    // peer's there are none.
    let its_bi = |n: u64| 4 * n + its;
    let its_uni = |n: u64| 4 * n + 2 + its;
    let our_bi = |n: u64| 4 * n + ours;
    let our_uni = |n: u64| 4 * n + 2 + ours;
    let limit = u64::from(STREAMS);
    let (stream_window, window) = (u64::from(STREAM_WINDOW), u64::from(CONNECTION_WINDOW));

    let mut kinds = vec![
        // Limits (§4.6, §4.1).
        kind("a unidirectional stream beyond the limit", STREAM_LIMIT, stream(its_uni(limit), 0, b"x", false)),
        kind("a bidirectional stream beyond the limit", STREAM_LIMIT, stream(its_bi(limit), 0, b"x", false)),
        kind("the reset of a stream beyond the limit", STREAM_LIMIT, numbers(&[0x04, its_uni(limit), 1, 0])),
        kind("STREAM_DATA_BLOCKED beyond the limit", STREAM_LIMIT, numbers(&[0x15, its_uni(limit), 0])),
        kind("STOP_SENDING beyond the limit", STREAM_LIMIT, numbers(&[0x05, its_bi(limit), 1])),
        kind("a stream of the highest number", STREAM_LIMIT, stream(its_uni((1 << 60) - 1), 0, b"x", false)),
        kind("data beyond the stream's window", FLOW_CONTROL, stream(its_uni(0), stream_window, b"x", false)),
        kind(
            "data beyond the connection's window",
            FLOW_CONTROL,
            (0..=window / stream_window)
                .flat_map(|n| stream(its_uni(n), stream_window - 1, b"x", false))
                .collect::<Vec<_>>(),
        ),
        kind("data that ends beyond 2^62 - 1", FLOW_CONTROL, stream(its_uni(0), MOST, b"xy", false)),
        // MsQuic takes the final size for the mistake.
        kind("a reset beyond the connection's window", FLOW_CONTROL, numbers(&[0x04, its_uni(0), 1, window + 1]))
            .but(Answer::Closes(FINAL_SIZE)),
        // Nothing came and nothing will: MsQuic counts it for the connection only.
        kind("a reset beyond the stream's window", FLOW_CONTROL, numbers(&[0x04, its_uni(0), 1, stream_window + 1]))
            .but(Answer::GoesOn),
        // Final sizes (§4.5).
        kind(
            "data beyond the final size",
            FINAL_SIZE,
            [stream(its_uni(0), 5, b"", true), stream(its_uni(0), 5, b"x", false)].concat(),
        ),
        // It was delivered and is over, and nobody need remember how long it was.
        kind(
            "data beyond the final size of a stream that came whole",
            FINAL_SIZE,
            [stream(its_uni(0), 0, b"whole", true), stream(its_uni(0), 5, b"x", false)].concat(),
        )
        .but(Answer::GoesOn),
        kind(
            "a final size that grows",
            FINAL_SIZE,
            [stream(its_uni(0), 5, b"", true), stream(its_uni(0), 6, b"", true)].concat(),
        ),
        kind(
            "a final size that shrinks",
            FINAL_SIZE,
            [stream(its_uni(0), 5, b"", true), stream(its_uni(0), 4, b"", true)].concat(),
        ),
        // The edit `end-not-before-what-was-sent`.
        kind(
            "an end before data that has come",
            FINAL_SIZE,
            [stream(its_uni(0), 0, b"0123456789", false), stream(its_uni(0), 5, b"", true)].concat(),
        ),
        kind(
            "an end at zero after data that has come",
            FINAL_SIZE,
            [stream(its_uni(0), 0, b"0123456789", false), stream(its_uni(0), 0, b"", true)].concat(),
        ),
        kind(
            "an end before data that has come out of order",
            FINAL_SIZE,
            [stream(its_uni(0), 100, b"x", false), stream(its_uni(0), 0, b"whole", true)].concat(),
        ),
        kind(
            "a reset before data that has come",
            FINAL_SIZE,
            [stream(its_uni(0), 0, b"0123456789", false), numbers(&[0x04, its_uni(0), 1, 5])].concat(),
        ),
        // A reset ends a stream in any case, with an error; MsQuic does not look at what was said
        // before.
        kind(
            "a reset with another final size than the end",
            FINAL_SIZE,
            [stream(its_uni(0), 5, b"", true), numbers(&[0x04, its_uni(0), 1, 8])].concat(),
        )
        .but(Answer::GoesOn),
        kind(
            "a second reset with another final size",
            FINAL_SIZE,
            [numbers(&[0x04, its_uni(0), 1, 5]), numbers(&[0x04, its_uni(0), 1, 6])].concat(),
        )
        .but(Answer::GoesOn),
        kind(
            "data beyond the final size of a reset",
            FINAL_SIZE,
            [numbers(&[0x04, its_uni(0), 1, 5]), stream(its_uni(0), 5, b"x", false)].concat(),
        )
        .but(Answer::GoesOn),
        // Streams that only we send on (§19.4, §19.8, §19.13).
        kind("data on a stream that only we send on", STREAM_STATE, stream(our_uni(0), 0, b"x", false)),
        kind("the reset of a stream that only we send on", STREAM_STATE, numbers(&[0x04, our_uni(0), 1, 0])),
        kind("STREAM_DATA_BLOCKED where only we send", STREAM_STATE, numbers(&[0x15, our_uni(0), 0])),
        kind("data on a stream of ours that is not there", STREAM_STATE, stream(our_uni(1), 0, b"x", false)),
        // Streams that only the peer sends on (§19.5, §19.10).
        kind("STOP_SENDING where only the peer sends", STREAM_STATE, numbers(&[0x05, its_uni(0), 1])),
        kind("MAX_STREAM_DATA where only the peer sends", STREAM_STATE, numbers(&[0x11, its_uni(0), 9])),
        // Streams that are ours to open (§19.4, §19.5, §19.8, §19.10). MsQuic has another name for
        // it, and within what the peer lets us open not the same as beyond.
        kind("data on a stream that we have not opened", STREAM_STATE, stream(our_bi(1), 0, b"x", false))
            .but(Answer::Closes(PROTOCOL_VIOLATION)),
        kind("the reset of a stream that we have not opened", STREAM_STATE, numbers(&[0x04, our_bi(1), 1, 0]))
            .but(Answer::Closes(PROTOCOL_VIOLATION)),
        kind("STOP_SENDING for a stream that we have not opened", STREAM_STATE, numbers(&[0x05, our_uni(1), 1]))
            .but(Answer::Closes(PROTOCOL_VIOLATION)),
        kind("MAX_STREAM_DATA for a stream that we have not opened", STREAM_STATE, numbers(&[0x11, our_bi(1), 9]))
            .but(Answer::Closes(PROTOCOL_VIOLATION)),
        kind("data on a stream that we may not open", STREAM_STATE, stream(our_bi(1 << 20), 0, b"x", false))
            .but(Answer::Closes(STREAM_LIMIT)),
        // Numbers of streams (§19.11, §19.14).
        kind("MAX_STREAMS beyond 2^60, bidirectional", FRAME_ENCODING, numbers(&[0x12, (1 << 60) + 1]))
            .but(Answer::Closes(STREAM_LIMIT)),
        kind("MAX_STREAMS beyond 2^60, unidirectional", FRAME_ENCODING, numbers(&[0x13, (1 << 60) + 1]))
            .but(Answer::Closes(STREAM_LIMIT)),
        kind("STREAMS_BLOCKED beyond 2^60, bidirectional", FRAME_ENCODING, numbers(&[0x16, (1 << 60) + 1]))
            .but(Answer::GoesOn),
        kind("STREAMS_BLOCKED beyond 2^60, unidirectional", FRAME_ENCODING, numbers(&[0x17, (1 << 60) + 1]))
            .but(Answer::GoesOn),
        // CRYPTO (§7.5, which allows to pass it over after the handshake; RFC 9001 §6). Servers do,
        // and clients that want no session tickets, as this one: TLS is put away. Such a client
        // sees what the first message is.
        kind("CRYPTO beyond what is kept", CRYPTO_BUFFER_EXCEEDED, crypto(1 << 20, b"x")).but(Answer::GoesOn),
        kind("CRYPTO that ends beyond 2^62 - 1", CRYPTO_BUFFER_EXCEEDED, crypto(MOST, b"xy")).but(Answer::GoesOn),
        kind("a KeyUpdate of TLS", UNEXPECTED_MESSAGE, crypto(0, &[24, 0, 0, 1, 0])).but_from_client(Answer::GoesOn),
        kind("a session ticket that is none", DECODE_ERROR, crypto(0, &[4, 0, 0, 4, 1, 2, 3, 4]))
            .but(Answer::GoesOn)
            .of_servers(),
        // Acknowledgements (§13.1, §19.3.1).
        kind("an acknowledgement of what was not sent", PROTOCOL_VIOLATION, numbers(&[0x02, 1 << 40, 0, 0, 0]))
            .but(Answer::Closes(FRAME_ENCODING)),
        kind("a first range below zero", FRAME_ENCODING, numbers(&[0x02, 1, 0, 0, 2])),
        kind("a gap below zero", FRAME_ENCODING, numbers(&[0x02, 1, 0, 1, 0, 5, 0])),
        kind("a later range below zero", FRAME_ENCODING, numbers(&[0x02, 4, 0, 1, 0, 0, 9])),
        kind("fewer ranges than announced", FRAME_ENCODING, numbers(&[0x02, 4, 0, 4, 0])),
        kind("more ranges than a packet has room for", FRAME_ENCODING, numbers(&[0x02, 4, 0, MOST, 0, 0, 0])),
        kind("an ACK without the ECN counts of its type", FRAME_ENCODING, numbers(&[0x03, 0, 0, 0, 0]))
            .but(Answer::Dropped),
        // Connection ids (§19.15, §19.16). The peer has given some already, from 0 on.
        kind("an id that retires those after it", FRAME_ENCODING, new_connection_id(4, 5, 8)),
        kind("an id of no bytes", FRAME_ENCODING, new_connection_id(4, 0, 0)),
        kind("an id of 21 bytes", FRAME_ENCODING, new_connection_id(4, 0, 21)),
        kind("an id of 255 bytes", FRAME_ENCODING, new_connection_id(4, 0, 255)),
        kind("two ids of one number", PROTOCOL_VIOLATION, new_connection_id(1, 0, 8)).but(Answer::GoesOn),
        kind(
            "more ids than may be",
            CONNECTION_ID_LIMIT,
            (4..9).flat_map(|number| new_connection_id(number, 0, 8)).collect::<Vec<_>>(),
        ),
        kind("the end of an id that was never given", PROTOCOL_VIOLATION, numbers(&[0x19, 1 << 40]))
            .but(Answer::GoesOn),
        // What only one of the two may say (§19.7, §19.20). MsQuic makes no use of tokens, and does
        // not look at them.
        kind("NEW_TOKEN from a client", PROTOCOL_VIOLATION, [&numbers(&[0x07, 5])[..], b"token"].concat())
            .of_clients()
            .but_from_client(Answer::GoesOn),
        kind("NEW_TOKEN without a token", FRAME_ENCODING, numbers(&[0x07, 0]))
            .of_servers()
            .but_from_server(Answer::GoesOn),
        kind("HANDSHAKE_DONE from a client", PROTOCOL_VIOLATION, numbers(&[0x1e])).of_clients(),
        kind("PATH_RESPONSE to no challenge", PROTOCOL_VIOLATION, [0x1b, 1, 2, 3, 4, 5, 6, 7, 8]).but(Answer::GoesOn),
        // Frames that nobody knows, or that were not agreed upon (§12.4).
        kind("a type that is not taken", FRAME_ENCODING, numbers(&[0x20])),
        kind("a type that is reserved", FRAME_ENCODING, numbers(&[31 * 7 + 27])),
        kind("a type of eight bytes", FRAME_ENCODING, numbers(&[MOST])),
        kind("RESET_STREAM_AT that was not agreed upon", FRAME_ENCODING, numbers(&[0x21, its_uni(0), 1, 0, 0]))
            .but(Answer::Closes(TRANSPORT_PARAMETER)),
        kind("TIMESTAMP that was not agreed upon", FRAME_ENCODING, numbers(&[0x2f5, 1]))
            .but(Answer::Closes(PROTOCOL_VIOLATION)),
        // The edit `no-addresses-from-servers`: MsQuic's clients took these from any server.
        kind("ADD_ADDRESS, for IPv4", FRAME_ENCODING, [&numbers(&[0x3d7e90, 1])[..], &[127, 0, 0, 1, 0, 9]].concat()),
        kind("ADD_ADDRESS, for IPv6", FRAME_ENCODING, [&numbers(&[0x3d7e91, 1])[..], &[1; 18]].concat()),
        kind("PUNCH_ME_NOW", FRAME_ENCODING, [&numbers(&[0x3d7e92, 1, 1])[..], &[127, 0, 0, 1, 0, 9]].concat()),
        kind("REMOVE_ADDRESS", FRAME_ENCODING, numbers(&[0x3d7e94, 1])),
        kind("DATAGRAM that was not offered", PROTOCOL_VIOLATION, [&numbers(&[0x31, 3])[..], b"abc"].concat()),
        kind("DATAGRAM without length that was not offered", PROTOCOL_VIOLATION, [&[0x30][..], b"abc"].concat()),
        // Packets (§12.4, §17.3.1).
        Kind { reserved: 1, ..kind("a reserved bit", PROTOCOL_VIOLATION, [0x01]) },
        Kind { reserved: 3, ..kind("both reserved bits", PROTOCOL_VIOLATION, [0x01]) },
        kind("a packet without frames", PROTOCOL_VIOLATION, []).but(Answer::GoesOn),
        kind("a type that is longer than it need be", PROTOCOL_VIOLATION, [0x40, 0x01]).but(Answer::GoesOn),
        // Frames of another space (§12.5). MsQuic has another name for it.
        kind("data in a Handshake packet", PROTOCOL_VIOLATION, stream(its_uni(0), 0, b"x", false))
            .within(Space::Handshake)
            .but(Answer::Closes(FRAME_ENCODING)),
        kind("HANDSHAKE_DONE in a Handshake packet", PROTOCOL_VIOLATION, [0x1e])
            .within(Space::Handshake)
            .but(Answer::Closes(FRAME_ENCODING)),
        kind("an id in a Handshake packet", PROTOCOL_VIOLATION, new_connection_id(1, 0, 8))
            .within(Space::Handshake)
            .but(Answer::Closes(FRAME_ENCODING)),
        kind("an application's close in a Handshake packet", PROTOCOL_VIOLATION, numbers(&[0x1d, 9, 0]))
            .within(Space::Handshake)
            .but(Answer::Closes(FRAME_ENCODING)),
        kind(
            "an acknowledgement of what was not sent in a Handshake packet",
            PROTOCOL_VIOLATION,
            numbers(&[0x02, 1 << 40, 0, 0, 0]),
        )
        .within(Space::Handshake)
        .but(Answer::Closes(FRAME_ENCODING)),
        kind("CRYPTO beyond what is kept in a Handshake packet", CRYPTO_BUFFER_EXCEEDED, crypto(1 << 20, b"x"))
            .within(Space::Handshake),
        kind("data in an Initial packet", PROTOCOL_VIOLATION, stream(its_uni(0), 0, b"x", false))
            .within(Space::Initial)
            .but(Answer::Closes(FRAME_ENCODING)),
        kind("MAX_DATA in an Initial packet", PROTOCOL_VIOLATION, numbers(&[0x10, MOST]))
            .within(Space::Initial)
            .but(Answer::Closes(FRAME_ENCODING)),
        kind("CRYPTO beyond what is kept in an Initial packet", CRYPTO_BUFFER_EXCEEDED, crypto(1 << 20, b"x"))
            .within(Space::Initial),
    ];
    // Frames that end before they should (§12.4).
    let cut: [(&str, Vec<u8>); _] = [
        ("a type cut short", vec![0x40]),
        ("ACK cut short", vec![0x02]),
        ("RESET_STREAM cut short", numbers(&[0x04, its_uni(0), 1])),
        ("STOP_SENDING cut short", numbers(&[0x05, our_uni(0)])),
        ("CRYPTO cut short", numbers(&[0x06, 0])),
        ("CRYPTO longer than the packet", numbers(&[0x06, 0, 100])),
        ("NEW_TOKEN longer than the packet", numbers(&[0x07, 100])),
        ("a stream's number cut short", vec![0x08, 0xc0]),
        ("STREAM cut short", numbers(&[0x0e, its_uni(0), 1])),
        ("STREAM longer than the packet", [&numbers(&[0x0a, its_uni(0), 100])[..], b"x"].concat()),
        ("STREAM of 2^62 - 1 bytes", [&numbers(&[0x0a, its_uni(0), MOST])[..], b"x"].concat()),
        ("MAX_DATA cut short", vec![0x10]),
        ("MAX_STREAM_DATA cut short", numbers(&[0x11, our_uni(0)])),
        ("MAX_STREAMS cut short", vec![0x12]),
        ("DATA_BLOCKED cut short", vec![0x14]),
        ("STREAM_DATA_BLOCKED cut short", numbers(&[0x15, its_uni(0)])),
        ("STREAMS_BLOCKED cut short", vec![0x16]),
        ("NEW_CONNECTION_ID cut short", new_connection_id(4, 0, 8)[..20].to_vec()),
        ("RETIRE_CONNECTION_ID cut short", vec![0x19]),
        ("PATH_CHALLENGE cut short", vec![0x1a, 1, 2, 3, 4, 5, 6, 7]),
        ("PATH_RESPONSE cut short", vec![0x1b, 1, 2, 3, 4, 5, 6, 7]),
        ("a close's reason longer than the packet", numbers(&[0x1c, 0, 0, 50])),
        ("an application's close cut short", numbers(&[0x1d, 9])),
    ];
    kinds.extend(cut.map(|(name, frames)| kind(name, FRAME_ENCODING, frames)));
    kinds.push(Kind {
        datagrams: true,
        ..kind("DATAGRAM longer than the packet", FRAME_ENCODING, [&numbers(&[0x31, 100])[..], b"abc"].concat())
    });
    kinds
}

/// A NEW_CONNECTION_ID frame (§19.15) with an id of `length` bytes.
fn new_connection_id(sequence: u64, retire_prior_to: u64, length: u8) -> Vec<u8> {
    let id = vec![sequence as u8; length.into()];
    [&numbers(&[0x18, sequence, retire_prior_to])[..], &[length], &id, &[0xa5; 16]].concat()
}

// ---- Numbers ------------------------------------------------------------------------------------

// The codes of RFC 9000 §20.1.
const FLOW_CONTROL: u64 = 0x3;
const STREAM_LIMIT: u64 = 0x4;
const STREAM_STATE: u64 = 0x5;
const FINAL_SIZE: u64 = 0x6;
const FRAME_ENCODING: u64 = 0x7;
const TRANSPORT_PARAMETER: u64 = 0x8;
const CONNECTION_ID_LIMIT: u64 = 0x9;
const PROTOCOL_VIOLATION: u64 = 0xa;
const CRYPTO_BUFFER_EXCEEDED: u64 = 0xd;
// CRYPTO_ERRORs, with TLS's alerts `unexpected_message` and `decode_error` (RFC 8446 §6).
const UNEXPECTED_MESSAGE: u64 = 0x10a;
const DECODE_ERROR: u64 = 0x132;

/// The largest number that there is in a frame.
const MOST: u64 = (1 << 62) - 1;

/// How many streams of each kind the peer may open.
const STREAMS: u16 = 16;
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

const HONEST_BYTES: usize = 10_000;
