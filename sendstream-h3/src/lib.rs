//! HTTP/3 (RFC 9114) and gRPC on Sendstream.
//!
//! The protocol is [`h3`]'s. This crate connects it to Sendstream's streams and datagrams, and
//! serves [axum](https://docs.rs/axum)'s routers and [tonic](https://docs.rs/tonic)'s services with
//! it.
//!
//! # Features
//!
//! - none: [`Connection`], [`OpenStreams`], [`BidiStream`], [`SendStream`] and [`RecvStream`] are
//!   `h3::quic`'s traits, and [`SendDatagrams`] and [`RecvDatagrams`] those of `h3-datagram`;
//! - `axum`: the server, `serve`;
//! - `tonic`: a `Connector` and a `Channel` for tonic's clients. The server is the same.
//!
//! # What is absent
//!
//! - **Server push** (RFC 9114 §4.6). Browsers have given it up.
//! - **QPACK's dynamic table** (RFC 9204 §3.2). Fields are compressed with the static table and
//!   Huffman's code. No stream waits for another's fields.
//! - **Priorities** (RFC 9218). What a client says about them is ignored.
//!
//! # Peers that break the rules
//!
//! h3 0.0.8 keeps each frame but DATA until its last byte is there, takes a body that was cut for a
//! whole one in some cases, and leaves some rules of RFC 9114 and RFC 9204 unchecked. So this crate
//! looks at the bytes before h3 gets them. Each broken rule ends the request or the connection with
//! the code that the RFCs say; [`Violation`] is what the error then holds.
//!
//! What a peer can make this side keep:
//!
//! | what | at most |
//! | --- | --- |
//! | a HEADERS frame, also one that never comes to its end | [`Connection::max_field_section_size`], 64 KiB, for each stream |
//! | a longer one | nothing: the request is answered with status 431, trailers are refused with H3_EXCESSIVE_LOAD |
//! | SETTINGS | 4 KiB; longer ones close the connection with H3_EXCESSIVE_LOAD |
//! | frames of unknown types, empty DATA frames | nothing: they are skipped |
//! | interim responses | nothing: they are skipped, 32 of them before a final one; more end the request with H3_EXCESSIVE_LOAD |
//! | a response that nobody reads | the stream's in-flight window, for as long as the connection lives |
//!
//! An HTTP/3 client here gets no interim responses (status 1xx): h3 0.0.8 would take the first of
//! them for the final one.
//!
//! One thing stays as h3 has it: a request's stream that begins with a WebTransport stream's type
//! (0x41) closes the connection with H3_FRAME_UNEXPECTED where WebTransport was not negotiated. By RFC
//! 9114 §9 it would be skipped.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod client;
mod connection;
mod datagram;
mod error;
mod fields;
mod frames;
#[cfg(feature = "tonic")]
mod grpc;
#[cfg(feature = "axum")]
mod serve;
mod stream;
mod uni;

pub use client::Connector;
pub use connection::{Connection, OpenStreams};
pub use datagram::{RecvDatagrams, SendDatagrams};
pub use frames::Violation;
#[cfg(feature = "tonic")]
pub use grpc::Channel;
#[cfg(feature = "axum")]
pub use serve::{EarlyData, EarlyRequests, Serve, serve};
pub use stream::{BidiStream, RecvStream, SendStream};

/// The protocol's name in TLS, for [`sendstream::ServerBuilder::alpn`] and
/// [`sendstream::ClientBuilder::alpn`] (RFC 9114 §3.1).
pub const ALPN: &str = "h3";
