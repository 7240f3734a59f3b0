//! HTTP/3 by sendstream-h3.

use bench_core::{Setup, Transport};
use bench_sendstream::{Sendstream, Tokio};

fn main() -> ! {
    bench_http3::serve(async |setup: &Setup, identity| {
        let server = Sendstream::<Tokio>::new(setup)?.server(setup, identity, bench_http3::ALPN)?;
        let address = server.local_addr()?;
        tokio::spawn(sendstream_h3::serve(server, bench_http3::app()).into_future());
        Ok(address)
    })
}
