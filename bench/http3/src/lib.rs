//! What the HTTP/3 servers of all stacks have in common: the application, and how the load generator
//! (`http3-load`) starts and measures them.

use std::{
    io::{Read, stdin, stdout},
    net::SocketAddr,
};

use anyhow::Result;
use axum::{Router, routing::get};
use bench_core::{Half, Identity, Listening, Setup, Side, Suite, process};
use bytes::Bytes;
use clap::Parser;

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"h3";

/// The path of a small response.
pub const SMALL: &str = "/small";

/// Its body.
pub const SMALL_BODY: &[u8] = &[b'x'; 100];

/// The path of a large response.
pub const LARGE: &str = "/large";

/// How long its body is: 4 MB.
pub const LARGE_LENGTH: usize = 4_000_000;

/// How many requests each connection may have under way.
const STREAMS: u16 = 256;

/// The application, for every stack the same. No body is made: both are static memory.
pub fn app() -> Router {
    static LARGE_BODY: [u8; LARGE_LENGTH] = [b'x'; LARGE_LENGTH];
    Router::new()
        .route(SMALL, get(async || Bytes::from_static(SMALL_BODY)))
        .route(LARGE, get(async || Bytes::from_static(&LARGE_BODY)))
}

/// Serves HTTP/3 to the generator that has started this process.
#[derive(Debug, Parser)]
struct Options {
    /// The cipher suite, for stacks that can be told.
    #[arg(long, value_enum, default_value_t = Suite::Aes128)]
    suite: Suite,
}

/// What both sides are set to.
pub fn setup(suite: Suite) -> Setup {
    Setup { suite, streams: STREAMS }
}

/// The whole of a server's program. `start` starts the server on a multi-threaded tokio, and says
/// where it listens.
pub fn serve(start: impl AsyncFnOnce(&Setup, &Identity) -> Result<SocketAddr>) -> ! {
    match served(start) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("bench-http3: {error:#}");
            std::process::exit(1)
        }
    }
}

fn served(start: impl AsyncFnOnce(&Setup, &Identity) -> Result<SocketAddr>) -> Result<()> {
    let options = Options::parse();
    process::end_with_parent()?;
    process::set_file_limit(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let identity = Identity::new()?;
    let address = runtime.block_on(start(&setup(options.suite), &identity))?;
    let half = Half::apart(Side::Server, None, stdin(), stdout());
    half.say(&Listening { address, certificate_pem: identity.certificate_pem.clone() })?;
    half.follow()?;
    half.meet()?;
    half.say(&(half.cost(), process::peak_resident_kib()?))?;
    // Until the generator is gone.
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
