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

#![forbid(unsafe_code)]

mod client;
mod connection;
mod datagram;
mod error;
#[cfg(feature = "tonic")]
mod grpc;
#[cfg(feature = "axum")]
mod serve;
mod stream;

pub use client::Connector;
pub use connection::{Connection, OpenStreams};
pub use datagram::{RecvDatagrams, SendDatagrams};
#[cfg(feature = "tonic")]
pub use grpc::Channel;
#[cfg(feature = "axum")]
pub use serve::{EarlyData, EarlyRequests, Serve, serve};
pub use stream::{BidiStream, RecvStream, SendStream};

/// The protocol's name in TLS, for [`sendstream::ServerBuilder::alpn`] and
/// [`sendstream::ClientBuilder::alpn`] (RFC 9114 §3.1).
pub const ALPN: &str = "h3";
