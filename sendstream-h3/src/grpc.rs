//! gRPC: [`Channel`], over which tonic's clients call, and deadlines on both sides.
//!
//! `tonic::transport` keeps deadlines for HTTP/2. It has no part in HTTP/3, so they are kept here.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h3_util::{
    client::{H3Channel, H3Connector},
    client_body::H3IncomingClient,
};
use http::{HeaderMap, Request, Response, Uri};
use tonic::{Status, body::Body};
use tower_service::Service;

use crate::{
    client::Connector,
    connection::{Connection, OpenStreams},
    stream::{BidiStream, RecvStream, SendStream},
};

impl H3Connector for Connector {
    type CONN = Connection;
    type OS = OpenStreams;
    type SS = SendStream;
    type RS = RecvStream;
    type BS = BidiStream;

    async fn connect(&self) -> Result<Connection, h3_util::Error> {
        Ok(Self::connect(self).await?)
    }
}

/// The way to a gRPC server, for a tonic client (`GreeterClient::new(channel)`). Clones share one
/// connection, which is made with the first call, and again after it has ended.
///
/// A call with a deadline (`tonic::Request::set_timeout`) ends with the status DEADLINE_EXCEEDED
/// when the response has not begun by then. A call that is dropped is canceled with
/// H3_REQUEST_CANCELLED (RFC 9114 §4.1.1).
///
/// ```no_run
/// # fn example(client: sendstream::Client) {
/// let channel = sendstream_h3::Channel::new(sendstream_h3::Connector::to_host(client, "example.org", 443));
/// # let _ = channel;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    inner: H3Channel<Connector, Body>,
}

impl Channel {
    /// Connects with `connector` when the first call is made. Must be called within a tokio runtime,
    /// on which it spawns its tasks.
    pub fn new(connector: Connector) -> Self {
        let authority = connector.authority();
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query("/").build();
        // What is no name anybody could ask for is told by the connector, as the error of a call.
        let uri = uri.unwrap_or_else(|_| Uri::from_static("https://localhost/"));
        Self { inner: H3Channel::new(connector, uri, None) }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<H3IncomingClient<RecvStream, Bytes>>;
    type Error = h3_util::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let time = timeout(request.headers());
        let called = self.inner.call(request);
        match time {
            None => Box::pin(called),
            Some(time) => Box::pin(async move {
                match tokio::time::timeout(time, called).await {
                    Ok(answered) => answered,
                    Err(_) => Err(too_late().into()),
                }
            }),
        }
    }
}

/// How a call ends that was not answered in time.
pub(crate) fn too_late() -> Status {
    Status::deadline_exceeded("the deadline of the call is over")
}

/// What the caller has left, if it says so (`grpc-timeout`): at most eight digits, and a unit. What
/// is not of this form counts for nothing, as in tonic.
pub(crate) fn timeout(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 60 * 60)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_has_left_is_read_in_every_unit_and_in_no_other_form() {
        let timeout = |text: &str| {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-timeout", text.parse().unwrap());
            super::timeout(&fields)
        };
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("0u"), Some(Duration::ZERO));
        assert_eq!(timeout("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
        assert_eq!(super::timeout(&HeaderMap::new()), None);
    }
}
