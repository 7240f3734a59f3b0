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
//!     let connection = server.accept().await.expect("the server runs").accept().await?;
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
//! # Features
//!
//! - `tokio`: `tokio::io::AsyncWrite` for [`SendStream`], `tokio::io::AsyncRead` for [`RecvStream`].
//! - `futures-io`: the same traits of `futures`.
//!
//! Both are off by default, and neither brings a runtime: nothing here needs a particular executor.
//! MsQuic has its own threads, and every future is woken from them.

mod client;
mod config;
mod connection;
mod datagram;
mod endpoint;
mod error;
mod io;
mod key_log;
mod local_task;
mod native;
mod process;
mod recv_stream;
mod send_stream;
mod server;
mod stats;
mod stream;
mod tls;
mod waiters;

pub use bytes::Bytes;
pub use client::{Client, ClientBuilder, ConnectError};
pub use config::{ConfigError, CongestionControl, StreamScheduling, TransportConfig};
pub use connection::{Connection, OpenError, path::RebindError};
pub use datagram::{DatagramFate, SendDatagram, SendDatagramError};
pub use error::{ConnectionError, NativeError};
pub use local_task::{LocalTask, LocalTaskError};
pub use native::{
    info::{NativeInfo, native_info},
    registration::{ExecutionProfile, Registration},
};
pub use process::{LoadBalancing, RetryPolicy, set_load_balancing, set_retry_policy};
pub use recv_stream::{ReadError, ReadExactError, ReadToEndError, RecvChunk, RecvStream};
pub use send_stream::{SendData, SendStream, StartError, WriteError};
pub use sendstream_sys::{EditInfo, EditKind};
pub use server::{
    BindError, Server, ServerBuilder,
    config::ServerConfig,
    incoming::{Incoming, ServerStats},
};
pub use stats::{
    CipherSuite, ConnectionStats, Counters, HandshakeInfo, HandshakeStats, ReceivedStats, SendStreamStats, SentStats,
    TlsVersion, counters,
};
pub use stream::{buffer::Payload, instance::CodeOutOfRange};
pub use tls::{
    CertificateHash, CertificateRefusal, ClientAuth, Identity, IdentityError, ParseCertificateHashError,
    PeerCertificate, PeerIdentity, Trust, TrustError,
};
