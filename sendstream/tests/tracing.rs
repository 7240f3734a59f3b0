//! What the library logs, as a subscriber of the whole process sees it.

mod support;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::SocketAddr,
    sync::{Condvar, Mutex, OnceLock, PoisonError},
};

use sendstream::{DatagramFate, TransportConfig, Trust};
use support::{Endpoints, HANG, Pair, accept, any_port, identity, run};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

type Fields = BTreeMap<&'static str, String>;

/// One event, with its fields and those of its spans, the outermost first.
#[derive(Debug, Clone)]
struct Logged {
    level: Level,
    message: String,
    fields: Fields,
    spans: Vec<(&'static str, Fields)>,
}

impl Logged {
    fn is(&self, level: Level, message: &str) -> bool {
        self.level == level && self.message == message
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

#[derive(Default)]
struct Captured {
    events: Mutex<Vec<Logged>>,
    more: Condvar,
}

struct Capture(&'static Captured);

struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(&mut Collect(span.extensions_mut().get_mut::<Fields>().unwrap()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("sendstream") {
            return;
        }
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = scope.map(|span| (span.name(), span.extensions().get::<Fields>().unwrap().clone())).collect();
        let message = fields.remove("message").unwrap_or_default();
        let logged = Logged { level: *event.metadata().level(), message, fields, spans };
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).push(logged);
        self.0.more.notify_all();
    }
}

impl Captured {
    /// The process's, which captures from now on.
    fn get() -> &'static Self {
        static CAPTURED: OnceLock<Captured> = OnceLock::new();
        static SET: OnceLock<()> = OnceLock::new();
        let captured = CAPTURED.get_or_init(Self::default);
        SET.get_or_init(|| {
            let subscriber = tracing_subscriber::registry().with(Capture(captured));
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        captured
    }

    /// The first event that `wanted` says yes to, once there is one: what is woken may run before
    /// the event is logged.
    fn first(&self, what: &str, wanted: impl Fn(&Logged) -> bool) -> Logged {
        let events = self.events.lock().unwrap();
        let (events, waited) = self
            .more
            .wait_timeout_while(events, HANG, |events| !events.iter().any(&wanted))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "never logged: {what}");
        events.iter().find(|event| wanted(event)).unwrap().clone()
    }
}

/// One side of a connection in the log.
#[derive(Clone, Copy)]
struct Side {
    captured: &'static Captured,
    role: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Side {
    fn owns(&self, event: &Logged) -> bool {
        event.spans.first().is_some_and(|(name, fields)| {
            *name == "connection"
                && fields["role"] == self.role
                && fields.get("local").is_some_and(|local| *local == self.local.to_string())
                && fields["remote"] == self.remote.to_string()
        })
    }

    /// Something about the connection itself.
    fn connection(&self, level: Level, message: &str) -> Logged {
        self.captured.first(message, |event| self.owns(event) && event.spans.len() == 1 && event.is(level, message))
    }

    /// Something about its stream `id`.
    fn stream(&self, id: u64, level: Level, message: &str) -> Logged {
        self.captured.first(message, |event| {
            self.owns(event)
                && event.spans.get(1).is_some_and(|(name, fields)| {
                    *name == "stream" && fields.get("id").is_some_and(|known| *known == id.to_string())
                })
                && event.is(level, message)
        })
    }
}

fn sides(pair: &Pair) -> (Side, Side) {
    let captured = Captured::get();
    let (client, server) = (pair.client.local_addr().unwrap(), pair.endpoints.address);
    (
        Side { captured, role: "client", local: client, remote: server },
        Side { captured, role: "server", local: server, remote: client },
    )
}

#[test]
fn what_a_peer_calls_its_protocol_cannot_steer_a_terminal() {
    let captured = Captured::get();
    run(async move {
        let identity = identity();
        let protocol = "\u{9b}2J\u{2028}\u{202e}";
        let server = support::server(&identity).alpn([protocol]).bind(any_port()).unwrap();
        let client = support::client(&identity).alpn([protocol]).build().unwrap();
        let ends = support::connect(&client, &server).await;
        let shown = r"\u{9b}2J\u{2028}\u{202e}";
        captured.first(shown, |event| event.is(Level::DEBUG, "connected") && event.field("alpn") == shown);
        drop(ends);
    });
}

#[test]
fn a_connections_life_is_told_at_debug_in_a_span_with_its_addresses() {
    let captured = Captured::get();
    run(async move {
        let pair = Pair::new().await;
        let (client, server) = sides(&pair);
        let listening = captured.first("listening", |event| {
            event.is(Level::DEBUG, "listening") && event.fields["local"] == server.local.to_string()
        });
        assert!(listening.spans.is_empty());
        for side in [client, server] {
            let connected = side.connection(Level::DEBUG, "connected");
            assert_eq!(connected.field("alpn"), "test");
            assert!(connected.field("cipher_suite").starts_with("TLS_"), "{connected:?}");
            assert_eq!(connected.spans[0].1["server_name"], "localhost");
        }
        server.connection(Level::DEBUG, "a client wants a connection");
        // When it was logged, the client's own address was not known yet.
        captured.first("connecting", |event| {
            event.is(Level::DEBUG, "connecting") && event.spans[0].1["remote"] == client.remote.to_string()
        });
        pair.client.close(7, "\u{1b}[2J\nforged").unwrap();
        pair.server.closed().await;
        let closed = client.connection(Level::DEBUG, "closed");
        assert_eq!(closed.field("cause"), r"closed by this side's application with code 7: \u{1b}[2J\nforged");
        let closed = server.connection(Level::DEBUG, "closed");
        assert_eq!(closed.field("cause"), r"closed by the peer's application with code 7: \u{1b}[2J\nforged");
        for side in [client, server] {
            side.connection(Level::DEBUG, "over");
        }
        pair.end().await;
        captured.first("no longer listening", |event| {
            event.is(Level::DEBUG, "no longer listening") && event.fields["local"] == server.local.to_string()
        });
    });
}

#[test]
fn a_streams_life_is_told_at_debug_within_its_connection_and_each_send_at_trace() {
    Captured::get();
    run(async {
        let pair = Pair::new().await;
        let (client, server) = sides(&pair);
        let mut send = pair.client.open_uni().unwrap();
        send.send("some").await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        let id = send.id().unwrap();
        let started = client.stream(id, Level::DEBUG, "started");
        assert_eq!(started.spans[1].1["kind"], "unidirectional");
        assert_eq!(started.spans[1].1["opened_by"], "this side");
        let complete = client.stream(id, Level::TRACE, "send complete");
        assert_eq!((complete.field("bytes"), complete.field("canceled")), ("4", "false"));
        let received = server.stream(id, Level::TRACE, "received");
        assert_eq!((received.field("bytes"), received.field("fin")), ("4", "false"));
        assert_eq!(received.spans[1].1["opened_by"], "the peer");
        send.finished().await.unwrap();
        // The first send is the start as well, so the stream had no id when it was logged.
        let sent = client.captured.first("send", |event| client.owns(event) && event.is(Level::TRACE, "send"));
        assert_eq!((sent.field("bytes"), sent.field("fin"), sent.spans[1].0), ("4", "false", "stream"));
        recv.read_to_end(4).await.unwrap();
        assert_eq!(client.stream(id, Level::DEBUG, "sending ended").field("acknowledged"), "true");
        for side in [client, server] {
            side.stream(id, Level::DEBUG, "over");
        }
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn resets_and_stops_are_told_by_both_sides_with_their_codes() {
    Captured::get();
    run(async {
        let pair = Pair::new().await;
        let (client, server) = sides(&pair);
        let (mut send, mut recv) = pair.client.open_bi().unwrap();
        send.send("some").await.unwrap();
        let id = send.id().unwrap();
        let (their_send, their_recv) = pair.server.accept_bi().await.unwrap();
        send.abort(21).unwrap();
        assert_eq!(their_recv.received_reset().await.unwrap(), Some(21));
        recv.stop(22).unwrap();
        assert_eq!(their_send.stopped().await.unwrap(), Some(22));
        assert_eq!(client.stream(id, Level::DEBUG, "reset").field("code"), "21");
        assert_eq!(client.stream(id, Level::DEBUG, "stop").field("code"), "22");
        assert_eq!(server.stream(id, Level::DEBUG, "reset by the peer").field("code"), "21");
        let stopped = server.stream(id, Level::DEBUG, "stopped by the peer");
        assert_eq!(stopped.field("code"), "22");
        assert_eq!(stopped.spans[1].1["kind"], "bidirectional");
        drop((send, recv, their_send, their_recv));
        pair.end().await;
    });
}

#[test]
fn datagrams_are_told_at_trace_in_their_connection() {
    Captured::get();
    run(async {
        let pair = Pair::new().await;
        let (client, server) = sides(&pair);
        let datagram = pair.client.send_datagram("1234567");
        assert_eq!(pair.server.read_datagram().await.unwrap(), "1234567");
        assert_eq!(datagram.await, Ok(DatagramFate::Acknowledged));
        assert_eq!(client.connection(Level::TRACE, "datagram submitted").field("bytes"), "7");
        assert_eq!(server.connection(Level::TRACE, "datagram received").field("bytes"), "7");
        client.captured.first("its acknowledgement", |event| {
            client.owns(event) && event.is(Level::TRACE, "datagram") && event.field("change") == "Acknowledged"
        });
        pair.end().await;
    });
}

#[test]
fn an_operator_hears_of_a_refused_certificate_at_info() {
    let captured = Captured::get();
    run(async move {
        let endpoints = Endpoints::new();
        let client = support::client_with(Trust::pinned([[7; 32]])).build().unwrap();
        let (refused, accepted) =
            futures::join!(client.connect(endpoints.address, "localhost"), accept(&endpoints.server));
        refused.unwrap_err();
        drop(accepted);
        let message = "the peer's certificate is refused";
        let logged = captured.first(message, |event| {
            event.is(Level::INFO, message) && event.spans[0].1["remote"] == endpoints.address.to_string()
        });
        assert!(logged.field("refusal").contains("is not pinned"), "{logged:?}");
        client.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn an_operator_is_warned_of_refused_connections_and_not_of_each() {
    let captured = Captured::get();
    run(async move {
        let server = TransportConfig::default().accept_backlog(1);
        let endpoints = Endpoints::with(TransportConfig::default(), server);
        let waiting = endpoints.client.connect(endpoints.address, "localhost");
        let mut waiting = Box::pin(waiting);
        assert!(support::poll_once(&mut waiting).is_pending());
        for refused in 1..=5 {
            // Which of two clients comes first is open, so one of them is refused, again and again.
            while endpoints.server.stats().refused < refused {
                let another = endpoints.client.connect(endpoints.address, "localhost");
                match futures::future::select(Box::pin(another), &mut waiting).await {
                    futures::future::Either::Left((result, _)) => drop(result.unwrap_err()),
                    futures::future::Either::Right((result, another)) => {
                        result.unwrap_err();
                        waiting = another;
                    }
                }
            }
        }
        let of_this = |event: &Logged| {
            event.message.starts_with("connections are refused")
                && event.fields["local"] == endpoints.address.to_string()
        };
        captured.first("the fourth", |event| of_this(event) && event.field("refused") == "4");
        let warnings: Vec<_> = captured.events.lock().unwrap().iter().filter(|event| of_this(event)).cloned().collect();
        assert!(warnings.iter().all(|event| event.level == Level::WARN && event.spans.is_empty()), "{warnings:?}");
        let told: Vec<_> = warnings.iter().map(|event| event.field("refused")).collect();
        assert_eq!(told, ["1", "2", "4"]);
        drop(waiting);
        endpoints.end().await;
    });
}
