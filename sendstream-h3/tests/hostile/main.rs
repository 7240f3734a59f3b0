//! Peers that break the rules of HTTP/3, and what becomes of them: of malformed frames and messages
//! (`server.rs`, `client.rs`), and of memory (`memory.rs`).
//!
//! The peers are quinn, which sends any bytes that it is given.

mod client;
mod memory;
mod raw;
mod server;
mod wire;
