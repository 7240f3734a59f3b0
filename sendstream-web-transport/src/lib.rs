//! WebTransport over HTTP/3 on Sendstream: sessions with browsers, and with everybody else who speaks
//! it.
//!
//! A [`Session`] has streams in both directions and datagrams, and ends with a code and a reason. It
//! implements [`web_transport_trait::Session`], so code that is written for that trait runs on it.
//! Import the trait for the methods.
//!
//! ```no_run
//! use sendstream::{Identity, Server};
//! use sendstream_web_transport::{ALPN, accept, trait_::{RecvStream as _, SendStream as _, Session as _}};
//!
//! # async fn example(identity: Identity) -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().identity(identity).alpn([ALPN]).bind("[::]:4433".parse()?)?;
//! while let Some(incoming) = server.accept().await {
//!     tokio::spawn(async move {
//!         let session = accept(incoming.accept().await?).await?.ok().await?;
//!         let (mut send, mut recv) = session.accept_bi().await?;
//!         let question = recv.read_all().await?;
//!         send.write_chunk(question).await?;
//!         send.finish()?;
//!         send.closed().await?; // the client has it
//!         session.close(0, "done");
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Browsers
//!
//! A page connects with `new WebTransport("https://...", { serverCertificateHashes: [...] })` to a server
//! without a certificate of an authority. Browsers ask more of such a certificate: an ECDSA key, and at
//! most 14 days of validity. [`Identity::self_signed_for`](sendstream::Identity::self_signed_for) makes
//! one, and [`certificate_sha256`](sendstream::Identity::certificate_sha256) is the hash. The example
//! `chat` has a whole page.
//!
//! Look at [`Request::headers`]: `origin` says from which site the page is. Any page of the web may ask.
//!
//! # What is there, and what is not
//!
//! - Draft 02 of `draft-ietf-webtrans-http3`, which Chromium speaks, and the settings of drafts 06 and
//!   07 besides. Subprotocols are those of draft 14. **Later drafts are absent**: flow control of a
//!   session (capsules other than CLOSE_WEBTRANSPORT_SESSION are ignored), DRAIN_WEBTRANSPORT_SESSION,
//!   and `RESET_STREAM_AT`, which MsQuic has not ready.
//! - One session a connection, and no other requests beside it: they are rejected.
//! - A stream that is reset before the peer has its first bytes is not known to the session there.
//!
//! # What a peer can do
//!
//! Requests and answers have at most 16 KiB of fields, capsules and SETTINGS at most 64 KiB, reasons at
//! most 1024 bytes. A peer has five seconds to take a session's end, or a refusal. 16 streams of a kind
//! wait for the application in a session. The others wait in Sendstream, whose limits are those of
//! [`TransportConfig`](sendstream::TransportConfig). A peer that breaks HTTP/3's rules ends its own
//! connection, with the code of RFC 9114; the application sees [`SessionError::Protocol`].
//!
//! # Runtime
//!
//! Each session has a task on the tokio runtime in which it begins. The runtime needs its timer. If it is
//! shut down, its sessions end.

#![forbid(unsafe_code)]

mod capsule;
mod client;
mod error;
mod server;
mod session;
mod stream;
mod wire;

pub use client::connect;
pub use error::{HandshakeError, RecvError, SendError, SessionError};
pub use server::{Request, accept};
pub use session::Session;
pub use stream::{RecvStream, SendStream};
pub use url::Url;
pub use web_transport_proto::{ConnectError, ConnectRequest, http};
/// The traits that sessions and streams implement.
pub use web_transport_trait as trait_;

/// The protocol to offer and to serve: HTTP/3 (RFC 9114).
pub const ALPN: &str = "h3";
