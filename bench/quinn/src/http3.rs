//! HTTP/3 by h3 on h3-quinn, served by axum-h3.

use bench_core::{Setup, Transport};
use bench_quinn::Quinn;

fn main() -> ! {
    bench_http3::serve(async |setup: &Setup, identity| {
        let endpoint = Quinn::new(setup)?.server(identity, bench_http3::ALPN)?;
        let address = endpoint.local_addr()?;
        let acceptor = h3_util::quinn::H3QuinnAcceptor::new(endpoint);
        tokio::spawn(async { axum_h3::H3Router::new(bench_http3::app()).serve(acceptor).await });
        Ok(address)
    })
}
