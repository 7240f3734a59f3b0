//! HTTP/3 by h3 on h3-msquic-async, served by axum-h3.

use bench_core::{Setup, Transport};
use bench_msquic_async::MsquicAsync;
use bytes::Bytes;
use h3_util::server::H3Acceptor;
use msquic_async::Listener;

fn main() -> ! {
    bench_http3::serve(async |setup: &Setup, identity| {
        let stack = MsquicAsync::new(setup)?;
        let listener = stack.server(setup, identity, bench_http3::ALPN)?;
        let address = listener.local_addr()?;
        let serving = axum_h3::H3Router::new(bench_http3::app()).serve(Acceptor { listener, _stack: stack });
        tokio::spawn(serving);
        Ok(address)
    })
}

struct Acceptor {
    listener: Listener,
    /// MsQuic's registration lives as long.
    _stack: MsquicAsync,
}

impl H3Acceptor for Acceptor {
    type CONN = h3_msquic_async::Connection;
    type OS = h3_msquic_async::OpenStreams;
    type SS = h3_msquic_async::SendStream<Bytes>;
    type RS = h3_msquic_async::RecvStream;
    type BS = h3_msquic_async::BidiStream<Bytes>;

    async fn accept(&mut self) -> Result<Option<Self::CONN>, h3_util::Error> {
        Ok(Some(h3_msquic_async::Connection::new(self.listener.accept().await?)))
    }
}
