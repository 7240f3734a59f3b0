//! One URL, from its request to the end of its content.

use std::{fmt::Display, future::Future, time::Instant};

use axum::http::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, LOCATION},
};
use bytes::Buf as _;
use h3::error::{Code, StreamError};
use sendstream::Printable;
use url::Url;

use super::{
    origins::{Authority, Origin, Origins, Problem},
    sink::{Output, Sink},
};
use crate::progress::{Bar, Progress};

type Stream = h3::client::RequestStream<sendstream_h3::BidiStream, bytes::Bytes>;

/// How URLs are fetched.
pub(crate) struct Fetcher {
    pub(crate) origins: Origins,
    /// How many redirections are followed.
    pub(crate) redirects: usize,
    /// Whether what is said of each response is shown.
    pub(crate) verbose: bool,
    pub(crate) progress: Progress,
    pub(crate) bar: Bar,
}

/// What became of one URL.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) url: Url,
    /// Of the last response.
    pub(crate) status: Option<StatusCode>,
    /// How many bytes of content came.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Whether the handshake was a short one; `None` if there was none.
    pub(crate) resumed: Option<bool>,
    /// The content is where it was to go, all of it; or why not.
    pub(crate) result: Result<(), Problem>,
}

impl Fetcher {
    /// Fetches the URL's content into the output, and follows redirections if that is wanted.
    pub(crate) async fn fetch(&self, url: Url, output: &Output) -> Fetched {
        let begun = Instant::now();
        let mut fetched = Fetched { url, status: None, bytes: 0, seconds: 0.0, resumed: None, result: Ok(()) };
        fetched.result = self.follow(&mut fetched, output).await;
        fetched.seconds = begun.elapsed().as_secs_f64();
        fetched
    }

    async fn follow(&self, fetched: &mut Fetched, output: &Output) -> Result<(), Problem> {
        let mut url = fetched.url.clone();
        for _ in 0..=self.redirects {
            let origin = self.origins.get(&url).await?;
            let authority = Authority::of(&url);
            fetched.resumed = Some(origin.connection.session_resumed());
            let (mut stream, response) = self.ask(&origin, &url, &authority).await?;
            let status = response.status();
            fetched.status = Some(status);
            // A part that nobody asked for is not the content.
            if status.is_success() && status != StatusCode::PARTIAL_CONTENT {
                return self.take(stream, &response, output, &authority, &mut fetched.bytes).await;
            }
            // What is said beside the status is no content of this URL.
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
            let Some(next) = redirection(&url, &response) else {
                let reason = status.canonical_reason().unwrap_or_default();
                return Err(Problem::new(format!("the server answered {} {reason}", status.as_u16()).trim_end()));
            };
            if self.redirects == 0 {
                return Err(Problem::new(format!("it is elsewhere, the server says: {}", Printable::new(&next)))
                    .todo("`-L` goes there"));
            }
            url = next_url(&url, &next)?;
            self.tell(format_args!("* redirected to {url}"));
        }
        Err(Problem::new(format!("it was redirected more than {} times", self.redirects)))
    }

    /// Sends the request and waits for the response, but not for its content.
    async fn ask(&self, origin: &Origin, url: &Url, authority: &Authority) -> Result<(Stream, Response<()>), Problem> {
        let lost = |error: &StreamError| Problem::unanswered(error, authority);
        let request = Request::get(url.as_str())
            .header("accept", "*/*")
            .header("user-agent", USER_AGENT)
            .body(())
            .map_err(|error| Problem::new(format!("cannot ask for {url}: {error}")))?;
        self.tell_connection(origin, authority);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        self.tell(format_args!("> GET {path} HTTP/3\n> host: {authority}"));
        self.tell_fields('>', request.headers());
        let mut stream = send(origin, &request).await.map_err(|error| lost(&error))?;
        for _ in 0..MAX_INTERIM {
            let response = stream.recv_response().await.map_err(|error| lost(&error))?;
            self.tell(format_args!("< HTTP/3 {}", response.status()));
            self.tell_fields('<', response.headers());
            if !response.status().is_informational() {
                return Ok((stream, response));
            }
        }
        stream.stop_sending(Code::H3_EXCESSIVE_LOAD);
        Err(Problem::new(format!("{authority} sends interim responses without end")))
    }

    /// Takes the content, to its very end.
    async fn take(
        &self,
        mut stream: Stream,
        response: &Response<()>,
        output: &Output,
        authority: &Authority,
        bytes: &mut u64,
    ) -> Result<(), Problem> {
        let lost = |error: &StreamError| Problem::unanswered(error, authority);
        let announced = announced(response.headers())?;
        self.bar.expect(announced.unwrap_or(0));
        let mut sink = written(Sink::open(output), output).await?;
        while let Some(mut data) = stream.recv_data().await.map_err(|error| lost(&error))? {
            while data.has_remaining() {
                let chunk = data.chunk();
                let len = chunk.len();
                if announced.is_some_and(|announced| announced < *bytes + len as u64) {
                    return Err(Problem::new(format!("{authority} sends more than it announced")));
                }
                written(sink.write(chunk), output).await?;
                data.advance(len);
                *bytes += len as u64;
                self.bar.advance(len as u64);
            }
        }
        // What looks complete is so only if nothing is wrong behind it.
        if let Some(trailers) = stream.recv_trailers().await.map_err(|error| lost(&error))? {
            self.tell_fields('<', &trailers);
        }
        if let Some(announced) = announced.filter(|announced| announced != bytes) {
            return Err(Problem::new(format!("{authority} announced {announced} bytes and sent {bytes}")));
        }
        written(sink.finish(), output).await
    }

    fn tell_connection(&self, origin: &Origin, authority: &Authority) {
        if self.verbose {
            let resumed = if origin.connection.session_resumed() { ", resumed" } else { "" };
            match origin.connection.remote_addr() {
                Some(address) => self.tell(format_args!("* {authority} at {address}{resumed}")),
                None => self.tell(format_args!("* {authority}{resumed}")),
            }
        }
    }

    fn tell_fields(&self, direction: char, fields: &HeaderMap) {
        for (name, value) in fields {
            self.tell(format_args!("{direction} {name}: {}", Printable::new(value)));
        }
    }

    fn tell(&self, what: impl Display) {
        if self.verbose {
            self.progress.warn(what);
        }
    }
}

/// Sends a request that has no content.
async fn send(origin: &Origin, request: &Request<()>) -> Result<Stream, StreamError> {
    let mut stream = origin.requests.clone().send_request(request.clone()).await?;
    // A server that has answered already may want no more of the request (H3_NO_ERROR of RFC 9114 §4.1). What
    // matters is the answer, or why there is none.
    let _ = stream.finish().await;
    Ok(stream)
}

/// Where the server says that the content is, if it says so: the value of `Location`.
fn redirection(url: &Url, response: &Response<()>) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let is_one = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    is_one.then(|| url.join(location).map_or_else(|_| location.to_owned(), String::from))
}

fn next_url(url: &Url, next: &str) -> Result<Url, Problem> {
    let problem =
        || Problem::new(format!("{url} is redirected to where HTTP/3 does not lead: {}", Printable::new(next)));
    parse_url(next).map_err(|_| problem())
}

/// Reads a URL. `https://` may be left out.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("https://{text}")) };
    let mut url = url.map_err(|error| error.to_string())?;
    if url.scheme() != "https" {
        return Err("HTTP/3 is for https:// URLs only".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("names and passwords in a URL are not sent".to_owned());
    }
    // It is for the reader of the content.
    url.set_fragment(None);
    Ok(url)
}

/// How long the content is said to be.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let parsed = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let parsed = parsed.and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| Problem::new(format!("the server announced a length of {}", Printable::new(length))))
}

/// Says where something could not be written.
async fn written<T>(work: impl Future<Output = std::io::Result<T>>, output: &Output) -> Result<T, Problem> {
    work.await.map_err(|error| match output {
        Output::Stdout => Problem::new(format!("cannot write to standard output: {error}")),
        Output::File(path) => Problem::new(format!("cannot write {}: {error}", path.display())),
    })
}

const USER_AGENT: &str = concat!("sendstream/", env!("CARGO_PKG_VERSION"));
/// How many responses of the kind 1xx may come before the one that counts.
const MAX_INTERIM: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_https_and_says_so_or_nothing() {
        assert_eq!(parse_url("https://example.org/a?b#c").unwrap().as_str(), "https://example.org/a?b");
        assert_eq!(parse_url("example.org").unwrap().as_str(), "https://example.org/");
        assert_eq!(parse_url("localhost:4433/a b").unwrap().as_str(), "https://localhost:4433/a%20b");
        assert_eq!(parse_url("[::1]:4433").unwrap().as_str(), "https://[::1]:4433/");
        assert_eq!(parse_url("https://Ä.example/").unwrap().as_str(), "https://xn--4ca.example/");
        for wrong in
            ["", "http://example.org", "ftp://x/", "https://", "https://u:p@example.org/", "u@example.org", "a b"]
        {
            assert!(parse_url(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn redirections_are_relative_to_the_url() {
        let url = parse_url("https://example.org/a/b?c").unwrap();
        let target = |status: u16, location: &str| {
            let response = Response::builder().status(status).header(LOCATION, location).body(()).unwrap();
            redirection(&url, &response)
        };
        assert_eq!(target(301, "d").as_deref(), Some("https://example.org/a/d"));
        assert_eq!(target(302, "/d?e").as_deref(), Some("https://example.org/d?e"));
        assert_eq!(target(308, "//other/").as_deref(), Some("https://other/"));
        assert_eq!(target(307, "http://other/").as_deref(), Some("http://other/"));
        assert!(next_url(&url, "http://other/").is_err());
        assert_eq!(target(300, "d"), None);
        assert_eq!(target(404, "d"), None);
    }

    #[test]
    fn a_length_is_digits() {
        let length = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, axum::http::HeaderValue::from_static(text));
            announced(&headers)
        };
        assert_eq!(announced(&HeaderMap::new()), Ok(None));
        assert_eq!(length("12"), Ok(Some(12)));
        for wrong in ["", "+1", "-1", "1, 1", "99999999999999999999"] {
            assert!(length(wrong).is_err(), "{wrong:?}");
        }
    }
}
