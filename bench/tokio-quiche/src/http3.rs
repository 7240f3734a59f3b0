//! HTTP/3 by quiche, driven by tokio-quiche.
//!
//! Its requests go through the same axum router as those of the other stacks.

use anyhow::{Context, Result};
use axum::{Router, body::Body, http::Request};
use bench_core::Setup;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio_quiche::{
    ServerH3Controller, ServerH3Driver,
    http3::{
        driver::{H3Event, IncomingH3Headers, OutboundFrame, ServerH3Event},
        settings::Http3Settings,
    },
    quiche::h3::{Header, NameValue},
};
use tower_service::Service;

fn main() -> ! {
    bench_http3::serve(async |setup: &Setup, identity| {
        let (mut incoming, address) = bench_tokio_quiche::incoming(setup, identity, bench_http3::ALPN)?;
        tokio::spawn(async move {
            let app: Router = bench_http3::app();
            while let Some(connection) = incoming.next().await {
                let Ok(connection) = connection else { continue };
                let (driver, controller) = ServerH3Driver::new(Http3Settings::default());
                connection.start(driver);
                tokio::spawn(serve(controller, app.clone()));
            }
        });
        Ok(address)
    })
}

async fn serve(mut controller: ServerH3Controller, app: Router) {
    while let Some(event) = controller.event_receiver_mut().recv().await {
        match event {
            ServerH3Event::Headers { incoming_headers, .. } => {
                let app = app.clone();
                tokio::spawn(async move {
                    // A client that is gone needs no answer.
                    let _ = answer(incoming_headers, app).await;
                });
            }
            ServerH3Event::Core(H3Event::ConnectionError(_) | H3Event::ConnectionShutdown(_)) => return,
            ServerH3Event::Core(_) => {}
        }
    }
}

async fn answer(incoming: IncomingH3Headers, mut app: Router) -> Result<()> {
    let mut request = Request::builder();
    for header in &incoming.headers {
        request = match header.name() {
            b":method" => request.method(header.value()),
            b":path" => request.uri(header.value()),
            [b':', ..] => request,
            name => request.header(name, header.value()),
        };
    }
    let response = app.call(request.body(Body::empty())?).await?;
    let (parts, body) = response.into_parts();
    let mut headers = vec![Header::new(b":status", parts.status.as_str().as_bytes())];
    headers.extend(parts.headers.iter().map(|(name, value)| Header::new(name.as_str().as_bytes(), value.as_bytes())));
    let mut send = incoming.send;
    send.send(OutboundFrame::Headers(headers, None)).await.ok().context("it is gone")?;
    let body = body.collect().await?.to_bytes();
    // Each of its chunks is one that it does not copy.
    send.send(OutboundFrame::Body(body, false)).await.ok().context("it is gone")?;
    send.send(OutboundFrame::Body(Bytes::new(), true)).await.ok().context("it is gone")
}
