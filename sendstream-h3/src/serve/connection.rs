//! A connection's task: accepts its requests, and brings it to its end.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h3::{
    error::{Code, ConnectionError},
    frame::FrameStream,
    quic::RecvStream as _,
    stream::BufRecvStream,
};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    connection::{Connection, Link},
    serve::{Shared, inline, request},
    stream::BidiStream,
};

/// Serves `connection` until it ends, or has come to its end in good order after `shutdown` did.
pub(super) async fn serve(connection: Connection, shared: Arc<Shared>, mut shutdown: watch::Receiver<()>) {
    let limits = shared.limits;
    let client = request::Client { address: connection.remote_addr(), early: connection.is_early() };
    let link = connection.link().clone();
    let connection = connection.max_field_section_size(limits.field_section_size as usize);
    let building = async {
        let mut builder = h3::server::builder();
        builder.max_field_section_size(limits.field_section_size).build(connection).await
    };
    let h3 = tokio::select! {
        h3 = timeout(STREAMS_WITHIN, building) => h3,
        _ = shutdown.changed() => {
            close(&link, "");
            return;
        }
    };
    let Ok(h3) = h3 else {
        // A client has to allow three streams from the start (RFC 9114 §6.2). The code fits.
        let _ = link.close(Code::H3_GENERAL_PROTOCOL_ERROR.value(), "no unidirectional streams are allowed");
        return;
    };
    let Ok(h3) = h3 else { return };
    let slots = Arc::new(Semaphore::new(limits.requests.into()));
    let tally = Arc::new(request::Tally::new(link.clone()));
    let mut requests = Requests { h3, slots, shared, client, tally, accepted_any: false };
    let shutdown = async { drop(shutdown.changed().await) };
    let end = match requests.accept_until(shutdown).await {
        Ok(()) => timeout(limits.drain_timeout, requests.drain()).await,
        Err(_) => return,
    };
    let reason = match end {
        Ok(Ok(())) => "",
        Ok(Err(_)) => return,
        Err(_) => "the time for shutting down is over",
    };
    // Before h3 is dropped, which would close it with a reason of its own.
    close(&link, reason);
}

/// Ends a connection of which nothing is wanted any more.
fn close(link: &Link, reason: &str) {
    // The code is of the wire, so it fits.
    let _ = link.close(Code::H3_NO_ERROR.value(), reason);
}

/// The requests of one connection.
struct Requests {
    h3: h3::server::Connection<Connection, Bytes>,
    /// One for each request that may be served at once.
    slots: Arc<Semaphore>,
    shared: Arc<Shared>,
    client: request::Client,
    tally: Arc<request::Tally>,
    /// Whether any was accepted yet.
    accepted_any: bool,
}

impl Requests {
    /// Accepts requests until `until` is done, or the client will send no more.
    async fn accept_until(&mut self, until: impl Future<Output = ()>) -> Result<(), ConnectionError> {
        let mut until = pin!(until);
        loop {
            let next = async {
                // At the limit nothing is accepted: what the client sends then waits in the
                // transport, which bounds it.
                let slot = self.slots.clone().acquire_owned().await.expect("nobody closes it");
                (slot, poll_fn(|cx| self.h3.poll_accept_request_stream(cx)).await)
            };
            let (slot, stream) = tokio::select! {
                biased;
                () = &mut until => return Ok(()),
                next = next => next,
            };
            let Some(mut stream) = stream? else { return Ok(()) };
            self.accepted_any = true;
            stream.hold();
            // The slot is given back once the response is acknowledged: until then a connection that is to
            // end in good order must not end. The request's task does not wait for that. The packet that
            // acknowledges one response has the next request, and would wake two tasks.
            let (ended, end) = oneshot::channel();
            let tally = self.tally.clone();
            inline::run(request::end(stream.send().stopped(), end), move |end| {
                if let Some((end, slot)) = end {
                    tally.count(end);
                    drop(slot);
                }
            });
            let acknowledged = stream.send().stopped();
            let early = self.client.early && stream.recv().is_early();
            let client = request::Client { early, ..self.client };
            let resolver = self.h3.create_resolver(FrameStream::new(BufRecvStream::new(stream)));
            // h3 sends it on one stream.
            self.h3.inner.send_grease_frame = false;
            let ended = request::Ended { told: ended, slot };
            tokio::spawn(request::serve(resolver, acknowledged, client, self.shared.clone(), ended));
        }
    }

    /// Has the client send no more requests, refuses those that come nevertheless, and waits for
    /// those that were accepted.
    async fn drain(&mut self) -> Result<(), ConnectionError> {
        let round_trip = self.round_trip();
        if self.accepted_any {
            // What is on its way is accepted still (RFC 9114 §5.2).
            self.h3.shutdown(usize::MAX).await?;
            self.accept_until(sleep(round_trip)).await?;
        }
        // The first that is not accepted is the one behind the last accepted. h3 would take that one.
        self.h3.shutdown(1).await?;
        let slots = self.slots.clone();
        let requests = self.shared.limits.requests.into();
        let mut done = pin!(async move {
            // So that the client hears of the GOAWAY, and not of the end alone.
            sleep(round_trip).await;
            slots.acquire_many(requests).await.map(drop)
        });
        loop {
            let stream = tokio::select! {
                biased;
                _ = &mut done => return Ok(()),
                stream = poll_fn(|cx| self.h3.poll_accept_request_stream(cx)) => stream?,
            };
            match stream {
                Some(stream) => refuse(stream),
                // h3 has none under way any more. Acknowledgements may be.
                None => {
                    let _ = done.await;
                    return Ok(());
                }
            }
        }
    }

    /// How long a message takes to the client and an answer back, with some delay on the way.
    fn round_trip(&self) -> Duration {
        (2 * self.h3.inner.conn.rtt()).clamp(Duration::from_millis(25), Duration::from_secs(1))
    }
}

/// Refuses a request that nobody has looked at.
fn refuse(mut stream: BidiStream) {
    let code = Code::H3_REQUEST_REJECTED.value();
    stream.stop_sending(code);
    h3::quic::SendStream::<Bytes>::reset(&mut stream, code);
}

/// How long the streams that a server opens first, and what is written to them, may wait for the
/// client's limits.
const STREAMS_WITHIN: Duration = Duration::from_secs(10);
