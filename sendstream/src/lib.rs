//! Async QUIC on MsQuic: send streams whose `Ok` can be believed.
//!
//! ```
//! use sendstream::{Client, Identity, Server, Trust};
//!
//! # futures::executor::block_on(async {
//! let identity = Identity::self_signed(["localhost"])?;
//! let hash = identity.certificate_sha256();
//! let server = Server::builder().identity(identity).alpn(["demo"]).bind("127.0.0.1:0".parse()?)?;
//! let address = server.local_addr()?;
//!
//! let client = Client::builder().alpn(["demo"]).trust(Trust::pinned([hash])).build()?;
//! let sending = async {
//!     let connection = client.connect(address, "localhost").await?;
//!     let mut stream = connection.open_uni()?; // nothing on the wire yet
//!     stream.send(b"hello".to_vec()).await?; // acknowledged by the peer's transport
//!     stream.write_chunk(bytes::Bytes::from_static(b" world")).await?; // accepted, in order, under backpressure
//!     stream.finished().await?; // FIN acknowledged, and with it every byte
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! };
//! let receiving = async {
//!     let mut connections = server.connections();
//!     let connection = connections.next().await.expect("the server runs");
//!     let mut stream = connection.accept_uni().await?;
//!     let all = stream.read_to_end(1 << 20).await?;
//!     assert_eq!(all, b"hello world");
//!     connection.closed().await;
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! };
//! futures::try_join!(sending, receiving)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! [`guide`] has a page for each question of the first hours: which call to send with, certificates,
//! graceful shutdown, errors by their text, and [quinn's items](guide::coming_from_quinn).
//!
//! # Features
//!
//! - `self-signed`, on by default: [`Identity::self_signed`].
//! - `tokio`: a tokio runtime does the work of its own connections ([`ServedBy`]); and
//!   `tokio::io::AsyncWrite` for [`SendStream`], `tokio::io::AsyncRead` for [`RecvStream`].
//! - `futures-io`: the same traits of `futures`.
//! - `serde`: [`TransportConfig`] and the choices beside it in configuration files.
//! - `metrics`: the module of this name, with the crate's numbers for exporters.
//!
//! The others are off by default, and none brings a runtime: nothing here needs a particular executor.
//! MsQuic has its own threads and wakes every future from them, unless a runtime does the work.
//!
//! [`cancel_safety`] lists every future: what resolves it, and what a drop does to it.
//!
//! # What runs on MsQuic's threads
//!
//! Wakers, the destructors of what owned sent bytes, [verifiers](Trust::verify_with), [worker
//! tasks](Connection::spawn_on_worker) and the log's subscriber. A worker serves many connections,
//! so none of these may block; least of all for a task, which may be one that the same packets woke:
//! it runs when the worker is done with all of them, and whoever waited for it there would never
//! end.
//!
//! Where a runtime does the work ([`ServedBy::Runtime`]), all of this runs on the runtime's threads,
//! inside of one of its tasks. tokio has calls that panic there: `Handle::block_on`,
//! `blocking_send`, and to drop a `Runtime`.
//!
//! # Forks
//!
//! A process that forks does so before its first use of this crate: its child may use everything. A
//! child that is forked later has memory and sockets of the library's, and none of its threads. There
//! every call fails at once and waits for nothing: with [`ConfigError::Forked`] if it is for
//! something new, and with [`ConnectionError::Forked`] on what was inherited. [`Server::accept`]
//! gives `None`, and waits for the end of something resolve. What is dropped there changes nothing
//! for the parent. A child that [executes](std::os::unix::process::CommandExt::exec) another program,
//! as every [`Command`](std::process::Command) does, is not concerned. The sockets stay open until
//! the child ends or executes. Forks that run no handlers of `pthread_atfork`, such as a bare `clone`,
//! go unnoticed.
//!
//! # Logs
//!
//! Through [`tracing`](https://docs.rs/tracing), mostly from MsQuic's threads. Each connection is a
//! span, and each stream is a span within its connection's. A connection's span is a root: it
//! outlives the span that was current at the call. Targets begin with `sendstream`. Text of a
//! peer's is logged as [`Printable`] shows it.
//!
//! | span | level | fields |
//! | --- | --- | --- |
//! | `connection` | info | `role` (`client`, `server`); `remote`, `local`: addresses, `local` of a client once it is connected; `server_name` |
//! | `stream` | debug | `id`, once it has one; `kind` (`unidirectional`, `bidirectional`); `opened_by` (`this side`, `the peer`) |
//!
//! | level | events | in the span | fields |
//! | --- | --- | --- | --- |
//! | error | foreign code panicked (a waker, a verifier, a buffer's owner); memory is out | its own, if any | |
//! | warn | `connections are refused: nobody accepts those that wait`, for the 1st, 2nd, 4th, 8th, ... of a server | none | `local`, `refused` |
//! | warn | the key log or the qlog cannot be written; a stream's priority or the scheduling was not set | its own, if any | `error` |
//! | info | `the peer's certificate is refused` | `connection` | `refusal` |
//! | debug | `listening`, `no longer listening` | none | `local` |
//! | debug | `connecting`; `a client wants a connection` | `connection` | |
//! | debug | `connected` | `connection` | `alpn`, `cipher_suite` |
//! | debug | `datagrams`: whether they can be sent | `connection` | `send_enabled`, `max_size` |
//! | debug | a session ticket that is not used, kept or sent | `connection` | `error` |
//! | debug | `closed`; `over`: MsQuic is done with it | `connection` | `cause` |
//! | debug | `started`, or not | `stream` | `error`, `peer_accepted` |
//! | debug | `reset`, `stop`; `reset by the peer`, `stopped by the peer` | `stream` | `code` |
//! | debug | `sending ended`; `the peer finished`; `over` | `stream` | `acknowledged`: whether the peer has FIN |
//! | trace | `send`, `send complete`, `received`, `ideal send buffer` | `stream` | `bytes`, `fin`, `canceled` |
//! | trace | `datagram submitted`, `datagram`: what became of it; `datagram received` | `connection` | `id`, `bytes`, `change` |
//!
//! A level that is switched off costs a comparison: nothing is formatted and nothing is allocated.
//! An event is logged after its waiters are woken.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod bi_stream;
pub mod cancel_safety;
mod client;
mod connection;
mod datagram;
mod driver;
mod early;
mod endpoint;
pub mod guide;
mod io;
#[cfg(feature = "metrics")]
pub mod metrics;
mod native;
pub mod process;
mod recv_stream;
#[cfg(all(feature = "tokio", unix))]
mod runtime;
mod send_stream;
mod server;
mod types;

#[cfg(benching)]
#[doc(hidden)]
pub mod benching;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

pub use bi_stream::BiStream;
pub use bytes::Bytes;
pub use client::{Client, ClientBuilder, ConnectError};
pub use connection::{Connection, OpenError, Side};
pub use datagram::{SendDatagram, SendDatagramError};
pub use driver::worker_task::WorkerTask;
pub use early::EarlyConnection;
pub use endpoint::ServedBy;
#[cfg(feature = "qlog")]
pub use native::qlog::QlogStream;
pub use native::{
    info::native_info,
    registration::{ExecutionProfile, Registration},
};
pub use recv_stream::{ReadError, ReadExactError, ReadToEndError, RecvChunk, RecvStream};
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};
pub use send_stream::{SendData, SendStream, StartError, WriteError};
pub use sendstream_core::datagrams::DatagramFate;
pub use server::{
    BindError, Server, ServerBuilder,
    config::ServerConfig,
    connections::Connections,
    incoming::{Incoming, ServerStats},
};
pub use types::{
    code::CodeOutOfRange,
    config::{ConfigError, CongestionControl, StreamScheduling, TransportConfig},
    error::{ConnectionError, NativeError, NoCommonProtocol, Timeout, WorkerTaskError},
    exporter::ExportError,
    native_info::{EditInfo, EditKind, NativeInfo},
    payload::Payload,
    rebind::RebindError,
    resumption::{MemorySessionCache, Resumption, SessionCache, SessionKey, TicketKey},
    socket::SocketRefusal,
    stats::{
        CipherSuite, ConnectionStats, HandshakeInfo, HandshakeStats, ReceivedStats, SendStreamStats, SentStats,
        TlsVersion,
    },
    system::SystemError,
    text::Printable,
    tls::{
        CertificateHash, CertificateRefusal, ClientAuth, Identity, IdentityError, ParseCertificateHashError,
        ParsePublicKeyHashError, PeerCertificate, PeerIdentity, PublicKeyHash, Trust, TrustError,
    },
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
