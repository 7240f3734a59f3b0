//! Early data arrives early, is refused where it must be, and is delivered once either way.

mod support;

use std::{net::SocketAddr, sync::Arc};

use sendstream::{
    Client, Connection, ConnectionError, EarlyConnection, Identity, MemorySessionCache, RecvStream, Resumption, Server,
    SessionCache, SessionKey, TicketKey, Timeout, TransportConfig, WriteError,
};
use support::{
    TIMEOUT, accept, any_port, assert_closed_here_because, pattern, poll_once,
    relay::{Faults, Relay},
    run,
};

/// A server that takes early data, and a client that has a ticket for it. Between them is a relay.
struct Endpoints {
    identity: Identity,
    relay: Relay,
    server: Server,
    client: Client,
    cache: Arc<MemorySessionCache>,
}

impl Endpoints {
    async fn new() -> Self {
        let identity = support::identity();
        let server = server(&identity, Resumption::ResumeAndZeroRtt, TransportConfig::default());
        let (client, cache) = client(&identity, &["test"]);
        let relay = Relay::start(server.local_addr().unwrap(), Faults::none());
        let endpoints = Self { identity, relay, server, client, cache };
        endpoints.get_ticket().await;
        endpoints
    }

    fn address(&self) -> SocketAddr {
        self.server.local_addr().unwrap()
    }

    async fn get_ticket(&self) {
        let (connected, _accepted) = support::connect(&self.client, &self.server).await;
        connected.session_ticket().await.unwrap();
    }

    /// As long as the relay's gate is closed, which it is now, the client cannot finish its
    /// handshake, and so neither can the server: whatever the client sends until then it sends
    /// early, however slow this test is.
    async fn connect_early(&self) -> EarlyConnection {
        connect_early(&self.client, &self.relay).await
    }

    async fn end(self) {
        self.server.shutdown().await;
        self.client.wait_idle().await;
    }
}

async fn connect_early(client: &Client, relay: &Relay) -> EarlyConnection {
    relay.close_gate();
    let early = client.connect_0rtt(relay.address(), "localhost").await.unwrap();
    assert!(early.offered_0rtt());
    early
}

fn server(identity: &Identity, resumption: Resumption, transport: TransportConfig) -> Server {
    let server = support::server(identity).alpn(["test", "more"]).resumption(resumption);
    let server = server.ticket_keys([TicketKey::from_secret([7; 32])]).transport(transport);
    server.bind(any_port()).unwrap()
}

fn client(identity: &Identity, alpn: &[&str]) -> (Client, Arc<MemorySessionCache>) {
    let cache = Arc::<MemorySessionCache>::default();
    let client = support::client(identity).alpn(alpn.iter().copied()).session_cache(cache.clone());
    (client.build().unwrap(), cache)
}

async fn accept_early(server: &Server) -> EarlyConnection {
    server.accept().await.unwrap().accept_0rtt().await.unwrap()
}

async fn read(mut stream: RecvStream) -> Vec<u8> {
    stream.read_to_end(1 << 24).await.unwrap()
}

/// Every stream that comes until the connection ends, and whether it began early.
async fn streams(connection: Connection) -> Vec<(Vec<u8>, bool)> {
    let mut all = Vec::new();
    while let Ok(stream) = connection.accept_uni().await {
        let early = stream.is_early();
        all.push((read(stream).await, early));
    }
    all
}

#[test]
fn early_data_arrives_before_the_handshake_is_done() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let mut question = early.open_uni_0rtt().unwrap();
        let sent = question.finish_with("what time is it?");

        let accepted = accept_early(&endpoints.server).await;
        let stream = accepted.accept_uni().await.unwrap();
        assert!(stream.is_early());
        assert_eq!(read(stream).await, b"what time is it?");
        let (mut on_server, mut on_client) = (Box::pin(accepted.accepted_0rtt()), Box::pin(early.accepted_0rtt()));
        assert!(poll_once(&mut on_server).is_pending() && poll_once(&mut on_client).is_pending());

        endpoints.relay.open_gate();
        assert!(on_server.await && on_client.await);
        sent.await.unwrap();
        let (connected, accepted) = futures::try_join!(early.connected(), accepted.connected()).unwrap();
        assert!(connected.session_resumed() && accepted.session_resumed());
        assert_eq!(connected.peer_identity().unwrap().certificate(), endpoints.identity.certificate());
        drop((question, connected, accepted));
        endpoints.end().await;
    });
}

/// TLS takes early data there too, but none comes.
#[test]
fn a_server_says_of_early_data_only_what_came() {
    run(async {
        let endpoints = Endpoints::new().await;
        let connecting = async { endpoints.client.connect(endpoints.address(), "localhost").await.unwrap() };
        let accepting = async { endpoints.server.accept().await.unwrap().accept_0rtt().await.unwrap() };
        let (connected, accepted) = futures::join!(connecting, accepting);
        assert!(connected.session_resumed());
        assert!(!accepted.accepted_0rtt().await);
        drop((connected, accepted));
        endpoints.end().await;
    });
}

#[test]
fn a_question_is_answered_before_the_handshake_is_done() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let (mut question, answer) = early.open_bi_0rtt().unwrap();
        let sent = question.finish_with("ping");
        let accepted = accept_early(&endpoints.server).await;
        let (mut answering, asked) = accepted.accept_bi().await.unwrap();
        assert!(asked.is_early());
        assert_eq!(read(asked).await, b"ping");
        let answered = answering.finish_with("pong");
        assert!(poll_once(&mut Box::pin(accepted.accepted_0rtt())).is_pending());
        endpoints.relay.open_gate();
        assert_eq!(read(answer).await, b"pong");
        sent.await.unwrap();
        answered.await.unwrap();
        assert!(early.accepted_0rtt().await);
        drop((question, answering, early, accepted));
        endpoints.end().await;
    });
}

#[test]
fn much_early_data_over_many_streams_arrives_whole() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let data = pattern(300_000);
        let sending = async {
            for part in data.chunks(30_000) {
                let mut stream = early.open_uni_0rtt().unwrap();
                stream.finish_with(part.to_vec()).await.unwrap();
            }
            assert!(early.accepted_0rtt().await);
            // And what follows is a connection as any.
            let connected = early.connected().await.unwrap();
            connected.open_uni().unwrap().finish_with("late").await.unwrap();
        };
        let receiving = async {
            let accepted = accept_early(&endpoints.server).await;
            let first = accepted.accept_uni().await.unwrap();
            assert!(first.is_early());
            endpoints.relay.open_gate();
            let mut received = vec![(read(first).await, true)];
            received.extend(streams(accepted.connected().await.unwrap()).await);
            received
        };
        let (received, ()) = futures::join!(receiving, sending);
        let (late, parts) = received.split_last().unwrap();
        assert_eq!(*late, (b"late".to_vec(), false));
        assert!(parts.iter().map(|(part, _)| &part[..]).collect::<Vec<_>>().concat() == data);
        endpoints.end().await;
    });
}

/// Sends five streams of early data and returns what the server got, all told.
async fn send_five(early: EarlyConnection, relay: &Relay, server: &Server) -> (Connection, Vec<(Vec<u8>, bool)>) {
    let mut streams = [(); 5].map(|()| early.open_uni_0rtt().unwrap());
    let sent: Vec<_> =
        streams.iter_mut().zip(five().chunks(10_000)).map(|(s, part)| s.finish_with(part.to_vec())).collect();
    let receiving = async {
        let mut accepting = Box::pin(server.accept().await.unwrap().accept_0rtt());
        assert!(poll_once(&mut accepting).is_pending());
        relay.wait_until_held();
        relay.open_gate();
        let accepted = accepting.await.unwrap();
        assert!(!accepted.accepted_0rtt().await);
        let accepted = accepted.connected().await.unwrap();
        let mut received = Vec::new();
        for _ in 0..5 {
            let stream = accepted.accept_uni().await.unwrap();
            let early = stream.is_early();
            received.push((read(stream).await, early));
        }
        (accepted, received)
    };
    let ((accepted, mut received), sent) = futures::join!(receiving, futures::future::join_all(sent));
    sent.into_iter().for_each(|sent| sent.unwrap());
    assert!(!early.accepted_0rtt().await);
    let connected = early.connected().await.unwrap();
    // Nothing comes a second time.
    connected.open_uni().unwrap().finish_with("last").await.unwrap();
    connected.session_ticket().await.unwrap();
    received.push((read(accepted.accept_uni().await.unwrap()).await, false));
    assert!(poll_once(&mut Box::pin(accepted.accept_uni())).is_pending());
    (connected, received)
}

fn five() -> Vec<u8> {
    pattern(50_000)
}

/// Each of the five once, whole, and not early; then the last.
fn assert_once(received: &[(Vec<u8>, bool)]) {
    let data = five();
    let expected = data.chunks(10_000).chain([&b"last"[..]]).map(|part| (part.to_vec(), false));
    assert!(received.iter().cloned().eq(expected));
}

#[test]
fn after_a_key_rotation_early_data_is_refused_and_delivered_once() {
    run(async {
        let endpoints = Endpoints::new().await;
        endpoints.server.set_ticket_keys([TicketKey::generate().unwrap()]).unwrap();
        let early = endpoints.connect_early().await;
        let (connected, received) = send_five(early, &endpoints.relay, &endpoints.server).await;
        assert!(!connected.session_resumed());
        assert_once(&received);
        drop(connected);
        endpoints.end().await;
    });
}

#[test]
fn a_server_that_resumes_only_refuses_early_data_and_gets_it_once() {
    run(async {
        let endpoints = Endpoints::new().await;
        let careful = server(&endpoints.identity, Resumption::Resume, TransportConfig::default());
        let relay = Relay::start(careful.local_addr().unwrap(), Faults::none());
        // The ticket is of a server that takes early data.
        let early = connect_early(&endpoints.client, &relay).await;
        let (connected, received) = send_five(early, &relay, &careful).await;
        assert!(connected.session_resumed(), "only the early data is refused");
        assert_once(&received);
        drop(connected);

        // Its own tickets do not even offer.
        let (client, cache) = client(&endpoints.identity, &["test"]);
        for resumed in [false, true] {
            let connecting = client.connect_0rtt(careful.local_addr().unwrap(), "localhost");
            let (early, accepted) = futures::join!(connecting, accept(&careful));
            let early = early.unwrap();
            assert!(!early.offered_0rtt());
            let connected = early.connected().await.unwrap();
            assert_eq!(connected.session_resumed(), resumed);
            connected.session_ticket().await.unwrap();
            drop(accepted);
        }
        drop(cache);
        client.wait_idle().await;
        careful.shutdown().await;
        endpoints.end().await;
    });
}

#[test]
fn without_a_ticket_it_is_a_connection_as_any() {
    run(async {
        let endpoints = Endpoints::new().await;
        while endpoints.cache.take(&SessionKey::new("localhost", ["test"])).is_some() {}
        let serving = async { accept_early(&endpoints.server).await.connected().await.unwrap() };
        let (early, accepted) =
            futures::join!(endpoints.client.connect_0rtt(endpoints.address(), "localhost"), serving);
        let early = early.unwrap();
        assert!(!early.offered_0rtt() && !early.accepted_0rtt().await);
        let mut stream = early.open_uni_0rtt().unwrap();
        let connected = early.connected().await.unwrap();
        let receiving = async { read(accepted.accept_uni().await.unwrap()).await };
        let (sent, received) = futures::join!(stream.finish_with("hello"), receiving);
        sent.unwrap();
        assert_eq!(received, b"hello");
        assert!(!connected.session_resumed());
        drop((stream, connected, accepted));
        endpoints.end().await;
    });
}

#[test]
fn who_waits_for_the_handshake_gets_early_data_behind_it() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let mut stream = early.open_uni_0rtt().unwrap();
        let sent = stream.finish_with("hello");
        let mut accepting = Box::pin(endpoints.server.accept().await.unwrap().accept());
        assert!(poll_once(&mut accepting).is_pending());
        endpoints.relay.wait_until_held();
        assert!(poll_once(&mut accepting).is_pending());
        endpoints.relay.open_gate();
        let accepted = accepting.await.unwrap();
        assert_eq!(read(accepted.accept_uni().await.unwrap()).await, b"hello");
        sent.await.unwrap();
        drop((stream, early, accepted));
        endpoints.end().await;
    });
}

#[test]
fn with_several_protocols_no_data_goes_early() {
    run(async {
        let endpoints = Endpoints::new().await;
        let (several, _) = client(&endpoints.identity, &["test", "more"]);
        for resumed in [false, true] {
            let connecting = several.connect_0rtt(endpoints.address(), "localhost");
            let (early, accepted) = futures::join!(connecting, accept(&endpoints.server));
            let early = early.unwrap();
            assert!(!early.offered_0rtt());
            let connected = early.connected().await.unwrap();
            assert_eq!(connected.session_resumed(), resumed);
            connected.session_ticket().await.unwrap();
            drop(accepted);
        }
        several.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_connection_that_is_given_up_in_the_handshake_leaves_nothing_behind() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let mut stream = early.open_uni_0rtt().unwrap();
        let sent = stream.finish_with("hello");
        let incoming = endpoints.server.accept().await.unwrap();
        early.close(7, "never mind").unwrap();
        assert!(!early.accepted_0rtt().await);
        assert_closed_here_because(&early.connected().await.unwrap_err(), 7, "never mind");
        assert!(sent.await.is_err());
        drop(stream);
        endpoints.client.wait_idle().await;
        drop(incoming);
        // And with a stream that is not finished, which goes with it.
        endpoints.get_ticket().await;
        let early = endpoints.connect_early().await;
        let mut stream = early.open_uni_0rtt().unwrap();
        drop(stream.send("hello"));
        drop((early, stream));
        endpoints.client.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_server_may_let_go_of_early_data_it_does_not_want() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let mut stream = early.open_uni_0rtt().unwrap();
        drop(stream.finish_with("hello"));
        drop(accept_early(&endpoints.server).await);
        endpoints.relay.open_gate();
        let error = match early.connected().await {
            // A client that had its part of the handshake by then is connected first.
            Ok(connected) => connected.closed().await,
            Err(error) => error,
        };
        assert!(matches!(error, ConnectionError::Refused | ConnectionError::ApplicationClosed { .. }), "{error}");
        drop(stream);
        endpoints.end().await;
    });
}

#[test]
fn a_handshake_that_began_with_early_data_has_its_time_as_any() {
    run(async {
        let endpoints = Endpoints::new().await;
        // A second ticket: the first one would be used up for it.
        let key = SessionKey::new("localhost", ["test"]);
        let first = endpoints.cache.take(&key).unwrap();
        endpoints.get_ticket().await;
        endpoints.cache.put(&key, first);
        let transport = TransportConfig::default().handshake_timeout(TIMEOUT);
        let hasty = support::client(&endpoints.identity).session_cache(endpoints.cache.clone());
        let hasty = hasty.transport(transport).build().unwrap();
        endpoints.relay.close_gate();
        let address = endpoints.relay.address();
        let (kept, given_up) =
            futures::try_join!(hasty.connect_0rtt(address, "localhost"), hasty.connect_0rtt(address, "localhost"))
                .unwrap();
        assert!(kept.offered_0rtt() && given_up.offered_0rtt());
        let mut stream = given_up.open_uni_0rtt().unwrap();
        let sent = stream.finish_with("a question");
        drop(given_up);
        assert!(!kept.accepted_0rtt().await);
        assert_eq!(kept.connected().await.unwrap_err(), ConnectionError::TimedOut(Timeout::Handshake));
        assert_eq!(sent.await, Err(WriteError::ConnectionLost(ConnectionError::TimedOut(Timeout::Handshake))));
        endpoints.relay.open_gate();
        drop(stream);
        hasty.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn early_data_is_taken_with_another_configuration_that_has_the_keys() {
    run(async {
        let identity = support::identity();
        // By itself the server resumes nothing.
        let server = support::server(&identity).bind(any_port()).unwrap();
        let resuming = support::server(&identity).resumption(Resumption::ResumeAndZeroRtt).build().unwrap();
        let (client, _cache) = client(&identity, &["test"]);
        let address = server.local_addr().unwrap();
        let accepted = async { server.accept().await.unwrap().accept_with(&resuming).await };
        let (connected, accepted) = futures::join!(client.connect(address, "localhost"), accepted);
        connected.as_ref().unwrap().session_ticket().await.unwrap();
        drop((connected, accepted));

        let early = client.connect_0rtt(address, "localhost").await.unwrap();
        let mut question = early.open_uni_0rtt().unwrap();
        let sent = question.finish_with("what time is it?");
        let accepted = server.accept().await.unwrap().accept_0rtt_with(&resuming).await.unwrap();
        let stream = accepted.accept_uni().await.unwrap();
        assert_eq!(read(stream).await, b"what time is it?");
        assert!(early.accepted_0rtt().await);
        sent.await.unwrap();
        assert!(accepted.connected().await.unwrap().session_resumed());
        drop((question, early));
        server.shutdown().await;
        client.wait_idle().await;
    });
}

#[test]
fn streams_that_came_early_are_refused_once_nobody_can_accept_them() {
    run(async {
        let endpoints = Endpoints::new().await;
        let early = endpoints.connect_early().await;
        let (mut kept, answer) = early.open_bi_0rtt().unwrap();
        let sent = kept.finish_with("this one is accepted");
        let accepted = accept_early(&endpoints.server).await;
        let (mut answering, asked) = accepted.accept_bi().await.unwrap();
        assert_eq!(read(asked).await, b"this one is accepted");

        // The connection goes on for the stream that is left, but nobody can accept another.
        drop(accepted);
        let mut unwanted = early.open_uni_0rtt().unwrap();
        unwanted.write_all(b"nobody will read this").await.unwrap();
        endpoints.relay.open_gate();
        assert!(matches!(unwanted.stopped().await, Ok(Some(_))));
        answering.finish_with("done").await.unwrap();
        assert_eq!(read(answer).await, b"done");
        sent.await.unwrap();
        drop((kept, unwanted, answering, early));
        endpoints.end().await;
    });
}
