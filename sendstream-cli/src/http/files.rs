//! The served folder: what a request gets.
//!
//! Everything is opened relative to the folder's descriptor, by `cap_std`, which follows a symbolic
//! link only if it stays in the folder, whatever others do to the folder meanwhile. Only regular
//! files are opened: to open a device or a pipe may do something.
//!
//! A content is never in memory as a whole. It is read piece by piece as the client takes it, and
//! always as many bytes as were announced: a file that turns out to be shorter breaks the answer off.

use std::{
    fs::{File, Metadata},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts},
};
use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt as _},
};
use futures::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    conditions::{Validators, Verdict, whole_seconds},
    listing::{self, Entry, Kind},
    ranges::Ranges,
    target::{Target, is_hidden},
};

/// A folder that is served.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: Arc<Dir>,
    /// Whether names that begin with a dot are served, too.
    hidden: bool,
    /// One for each file that may be open.
    room: Arc<Semaphore>,
}

impl Folder {
    /// Opens it.
    pub(crate) fn open(path: &Path, hidden: bool) -> io::Result<Self> {
        let root = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { root: Arc::new(root), hidden, room: Arc::new(Semaphore::new(MAX_OPEN)) })
    }

    /// The answer to a request, whose content is read as the body is polled.
    ///
    /// Its field `Content-Length` is what the body will have, or for HEAD what it would have. A body
    /// that cannot be read to that length ends with an error.
    pub(crate) async fn answer(&self, request: &Parts) -> Response<Body> {
        let mut response = match self.look_up(request).await {
            Ok(found) => found.into_response(request),
            Err(status) => refusal(status),
        };
        if request.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        let headers = response.headers_mut();
        insert(headers, header::DATE, httpdate::fmt_http_date(SystemTime::now()));
        insert(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        // It may be kept, but must be asked for each time, which a validator makes cheap.
        insert(headers, header::CACHE_CONTROL, "no-cache");
        response
    }

    async fn look_up(&self, request: &Parts) -> Result<Found, StatusCode> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let target = Target::parse(request.uri.path(), self.hidden).ok_or(StatusCode::NOT_FOUND)?;
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let folder = self.clone();
        let found = spawn_blocking(move || folder.find(&target, room)).await;
        found.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.map_err(|error| status_of(&error))
    }

    /// Finds what the target stands for. Works on the disk.
    fn find(&self, target: &Target, room: OwnedSemaphorePermit) -> io::Result<Found> {
        let metadata = self.root.metadata(target.path())?;
        if !metadata.is_dir() {
            return match self.open_file(target.path())? {
                Some((file, metadata)) if !target.is_folder() => {
                    Ok(Found::Content(Content::new(target.path(), file, &metadata, room)))
                }
                _ => Err(io::ErrorKind::NotFound.into()),
            };
        }
        if !target.is_folder() {
            return Ok(Found::FolderElsewhere(target.as_folder_link()));
        }
        let index = target.path().join(INDEX);
        match self.open_file(&index) {
            Ok(Some((file, metadata))) => Ok(Found::Content(Content::new(&index, file, &metadata, room))),
            Ok(None) => self.list(target).map(Found::Page),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.list(target).map(Found::Page),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file. Anything else is left alone: `None`.
    fn open_file(&self, path: &Path) -> io::Result<Option<(File, Metadata)>> {
        if !self.root.metadata(path)?.is_file() {
            return Ok(None);
        }
        // It may be another one by now: a pipe would wait for its writer without `O_NONBLOCK`.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = self.root.open_with(path, &options)?.into_std();
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some((file, metadata)))
    }

    /// The page of a folder. What could not be served is not listed.
    fn list(&self, target: &Target) -> io::Result<String> {
        let (mut entries, mut complete) = (Vec::new(), true);
        for entry in self.root.read_dir(target.path())? {
            let name = entry?.file_name();
            if !self.hidden && is_hidden(&name) {
                continue;
            }
            if entries.len() == MAX_LISTED {
                complete = false;
                break;
            }
            let Ok(metadata) = self.root.metadata(target.path().join(&name)) else { continue };
            let kind = match (metadata.is_dir(), metadata.is_file()) {
                (true, _) => Kind::Folder,
                (_, true) => Kind::File(metadata.len()),
                _ => continue,
            };
            entries.push(Entry { name, kind, modified: metadata.modified().ok().map(|time| time.into_std()) });
        }
        Ok(listing::folder(target, entries, complete))
    }
}

/// What a request's path stands for.
enum Found {
    Content(Content),
    /// A page about a folder.
    Page(String),
    /// A folder, whose path has a slash at its end: this one.
    FolderElsewhere(String),
}

impl Found {
    fn into_response(self, request: &Parts) -> Response<Body> {
        match self {
            Self::Content(content) => content.into_response(request),
            Self::Page(page) => html(StatusCode::OK, page),
            Self::FolderElsewhere(link) => {
                let mut response = refusal(StatusCode::MOVED_PERMANENTLY);
                insert(response.headers_mut(), header::LOCATION, with_query(link, &request.uri));
                response
            }
        }
    }
}

/// A file to be sent.
struct Content {
    file: Opened,
    len: u64,
    media_type: String,
    validators: Validators,
}

/// An open file, and its place among those that may be open.
#[derive(Clone)]
struct Opened {
    file: Arc<File>,
    _room: Arc<OwnedSemaphorePermit>,
}

impl Content {
    fn new(path: &Path, file: File, metadata: &Metadata, room: OwnedSemaphorePermit) -> Self {
        let file = Opened { file: Arc::new(file), _room: Arc::new(room) };
        Self { file, len: metadata.len(), media_type: media_type(path), validators: validators(metadata) }
    }

    fn into_response(self, request: &Parts) -> Response<Body> {
        let mut response = match self.validators.judge(&request.headers) {
            // With the length that a 200 would have (RFC 9110 §8.6).
            Verdict::NotModified => answer(StatusCode::NOT_MODIFIED, self.len, Body::empty()),
            Verdict::Failed => refusal(StatusCode::PRECONDITION_FAILED),
            Verdict::Go => self.send(request),
        };
        let headers = response.headers_mut();
        insert(headers, header::ETAG, self.validators.etag());
        if let Some(modified) = self.validators.last_modified() {
            insert(headers, header::LAST_MODIFIED, modified);
        }
        insert(headers, header::ACCEPT_RANGES, "bytes");
        response
    }

    fn send(&self, request: &Parts) -> Response<Body> {
        // Ranges are defined for GET alone.
        let asked = request.headers.get(header::RANGE).filter(|_| request.method == Method::GET);
        let ranges = match asked {
            Some(ranges) if self.validators.ranges_apply(&request.headers) => {
                Ranges::parse(ranges.as_bytes(), self.len)
            }
            _ => Ranges::All,
        };
        match ranges {
            Ranges::All => self.respond(StatusCode::OK, self.media_type.clone(), vec![Piece::File(0..self.len)]),
            Ranges::Some(parts) => match parts.as_slice() {
                [part] => {
                    let (pieces, range) = (vec![Piece::File(part.clone())], self.content_range(part));
                    let mut response = self.respond(StatusCode::PARTIAL_CONTENT, self.media_type.clone(), pieces);
                    insert(response.headers_mut(), header::CONTENT_RANGE, range);
                    response
                }
                parts => self.send_parts(parts),
            },
            Ranges::Unsatisfiable => {
                let mut response = refusal(StatusCode::RANGE_NOT_SATISFIABLE);
                insert(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{}", self.len));
                response
            }
        }
    }

    /// Several parts in one answer (RFC 9110 §14.6).
    fn send_parts(&self, parts: &[Range<u64>]) -> Response<Body> {
        let mut random = [0; 16];
        // Without dice the boundary is one that a file could contain, if somebody means it to.
        let _ = getrandom::fill(&mut random);
        let boundary = format!("{:032x}", u128::from_be_bytes(random));
        let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
        for part in parts {
            pieces.push(Piece::Text(Bytes::from(format!(
                "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
                self.media_type,
                self.content_range(part),
            ))));
            pieces.push(Piece::File(part.clone()));
        }
        pieces.push(Piece::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
        let media_type = format!("multipart/byteranges; boundary={boundary}");
        self.respond(StatusCode::PARTIAL_CONTENT, media_type, pieces)
    }

    fn respond(&self, status: StatusCode, media_type: String, pieces: Vec<Piece>) -> Response<Body> {
        let len = pieces.iter().map(Piece::len).sum();
        let mut response = answer(status, len, self.file.body(pieces));
        insert(response.headers_mut(), header::CONTENT_TYPE, media_type);
        response
    }

    fn content_range(&self, part: &Range<u64>) -> String {
        format!("bytes {}-{}/{}", part.start, part.end - 1, self.len)
    }
}

impl Opened {
    /// A body of these pieces, read one ahead of the client.
    fn body(&self, pieces: Vec<Piece>) -> Body {
        let opened = self.clone();
        let chunks = pieces.into_iter().flat_map(Piece::split);
        Body::from_stream(stream::iter(chunks).map(move |piece| opened.clone().load(piece)).buffered(READ_AHEAD))
    }

    async fn load(self, piece: Piece) -> io::Result<Bytes> {
        let range = match piece {
            Piece::Text(text) => return Ok(text),
            Piece::File(range) => range,
        };
        let read = move || {
            let mut chunk = vec![0; (range.end - range.start) as usize];
            // Fails if the file has become shorter.
            self.file.read_exact_at(&mut chunk, range.start)?;
            Ok(chunk.into())
        };
        spawn_blocking(read).await.unwrap_or_else(|_| Err(io::Error::other("the runtime is ending")))
    }
}

/// A piece of a body.
#[derive(Debug, Clone)]
enum Piece {
    Text(Bytes),
    File(Range<u64>),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }

    /// Pieces of at most [`CHUNK`] bytes of the file.
    fn split(self) -> impl Iterator<Item = Self> {
        let (text, range) = match self {
            Self::Text(text) => (Some(Self::Text(text)), 0..0),
            Self::File(range) => (None, range),
        };
        let end = range.end;
        let chunks = range.step_by(CHUNK).map(move |start| Self::File(start..end.min(start + CHUNK as u64)));
        text.into_iter().chain(chunks)
    }
}

/// By what the file's content is known. A tag says nothing of where the file is.
fn validators(metadata: &Metadata) -> Validators {
    let mut hasher = blake3::Hasher::new();
    for number in [metadata.dev(), metadata.ino(), metadata.size()] {
        hasher.update(&number.to_le_bytes());
    }
    // The time of change as well: the other one can be set back.
    for number in [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()] {
        hasher.update(&number.to_le_bytes());
    }
    let now = SystemTime::now();
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(metadata.ctime().max(0).unsigned_abs());
    let modified = metadata.modified().ok().and_then(whole_seconds);
    Validators {
        tag: format!("\"{}\"", &hasher.finalize().to_hex()[..32]),
        // A time in the future counts as now: nothing can be said of it.
        weak: now.duration_since(changed).is_ok_and(|age| age < Duration::from_secs(2)) || changed > now,
        // RFC 9110 §8.8.2.1: no later than now.
        modified: modified.map(|modified| whole_seconds(now).map_or(modified, |now| modified.min(now))),
    }
}

/// The media type by the name's ending. Text is taken for UTF-8.
fn media_type(path: &Path) -> String {
    match mime_guess::from_path(path).first_raw() {
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

/// The status of a path that leads to nothing that can be served.
fn status_of(error: &io::Error) -> StatusCode {
    match error.kind() {
        // This is also what `cap_std` says of a link that leaves the folder.
        io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            StatusCode::NOT_FOUND
        }
        _ => match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENAMETOOLONG) => StatusCode::NOT_FOUND,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

/// An answer that is not what was asked for, with a page that says so.
fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = html(status, listing::status(status));
    let headers = response.headers_mut();
    match status {
        StatusCode::METHOD_NOT_ALLOWED => insert(headers, header::ALLOW, "GET, HEAD"),
        StatusCode::SERVICE_UNAVAILABLE => insert(headers, header::RETRY_AFTER, "1"),
        _ => {}
    }
    response
}

fn html(status: StatusCode, page: String) -> Response<Body> {
    let mut response = answer(status, page.len() as u64, Body::from(page));
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_TYPE, "text/html; charset=utf-8");
    insert(headers, header::CONTENT_SECURITY_POLICY, listing::POLICY);
    response
}

fn answer(status: StatusCode, len: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
    response
}

/// Sets a field to text of this program's, or of the request's that was a part of a URL.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        headers.insert(name, value);
    }
}

fn with_query(mut link: String, uri: &Uri) -> String {
    if let Some(query) = uri.query() {
        link.push('?');
        link.push_str(query);
    }
    link
}

/// The file that is shown in place of its folder's listing.
const INDEX: &str = "index.html";
/// How many files may be open at a time: fewer than the 1024 descriptors that a process commonly has.
const MAX_OPEN: usize = 512;
/// How many names a listing has.
const MAX_LISTED: usize = 10_000;
/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;
/// How many chunks are read before the client takes the first of them.
const READ_AHEAD: usize = 2;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
        thread,
        time::Instant,
    };

    use axum::http::Request;
    use tempfile::TempDir;

    use super::*;
    use crate::http::target::encode;

    /// A served folder in a folder that nobody may look into.
    struct Site {
        parent: TempDir,
        folder: Folder,
        runtime: tokio::runtime::Runtime,
    }

    /// An answer with all of its content.
    #[derive(Debug)]
    struct Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: Result<Bytes, String>,
    }

    impl Answer {
        fn header(&self, name: HeaderName) -> &str {
            self.headers.get(&name).map_or("", |value| value.to_str().unwrap())
        }

        fn body(&self) -> &[u8] {
            self.body.as_ref().unwrap()
        }
    }

    impl Site {
        fn new() -> Self {
            Self::with(false)
        }

        fn with(hidden: bool) -> Self {
            let parent = tempfile::tempdir().unwrap();
            let root = parent.path().join("public");
            fs::create_dir(&root).unwrap();
            fs::write(parent.path().join("secret"), "secret").unwrap();
            fs::write(parent.path().join("public-too"), "secret").unwrap();
            let folder = Folder::open(&root, hidden).unwrap();
            Self { parent, folder, runtime: tokio::runtime::Builder::new_current_thread().build().unwrap() }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.parent.path().join("public").join(name)
        }

        fn file(&self, name: &str, content: &[u8]) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn begin(&self, method: &str, path: &str, fields: &[(HeaderName, &str)]) -> Response<Body> {
            let mut request = Request::builder().method(method).uri(path);
            for (name, value) in fields {
                request = request.header(name, *value);
            }
            let (request, ()) = request.body(()).unwrap().into_parts();
            self.runtime.block_on(self.folder.answer(&request))
        }

        fn end(&self, response: Response<Body>) -> Answer {
            let (head, body) = response.into_parts();
            let body = self.runtime.block_on(axum::body::to_bytes(body, usize::MAX)).map_err(|error| error.to_string());
            Answer { status: head.status, headers: head.headers, body }
        }

        fn ask(&self, method: &str, path: &str, fields: &[(HeaderName, &str)]) -> Answer {
            self.end(self.begin(method, path, fields))
        }

        fn get(&self, path: &str) -> Answer {
            self.ask("GET", path, &[])
        }

        /// Waits until the file's tag is a strong one.
        fn settled(&self, path: &str) -> Answer {
            let begun = Instant::now();
            loop {
                let answer = self.get(path);
                if !answer.header(header::ETAG).starts_with("W/") {
                    return answer;
                }
                assert!(begun.elapsed() < Duration::from_secs(60));
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    #[test]
    fn a_file_is_served_with_its_type_and_length() {
        let site = Site::new();
        for (name, media_type) in [
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.html", "text/html; charset=utf-8"),
            ("a.JPG", "image/jpeg"),
            ("a.wasm", "application/wasm"),
            ("a.json", "application/json"),
            ("a", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            site.file(name, name.as_bytes());
            let answer = site.get(&format!("/{name}"));
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.body(), name.as_bytes());
            assert_eq!(answer.header(header::CONTENT_TYPE), media_type, "{name}");
            assert_eq!(answer.header(header::CONTENT_LENGTH), name.len().to_string());
            assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert_eq!(answer.header(header::ACCEPT_RANGES), "bytes");
        }
    }

    #[test]
    fn contents_of_every_size_are_whole() {
        let site = Site::new();
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            site.file("file", &content);
            let answer = site.get("/file");
            assert_eq!(answer.header(header::CONTENT_LENGTH), size.to_string());
            assert!(answer.body() == content, "{size}");
        }
    }

    #[test]
    fn head_says_what_get_says_without_the_content() {
        let site = Site::new();
        site.file("file", b"content");
        site.file("folder/x", b"");
        for path in ["/file", "/folder/", "/folder", "/nothing"] {
            let (get, head) = (site.get(path), site.ask("HEAD", path, &[]));
            assert_eq!(get.status, head.status);
            let mut fields = (get.headers.clone(), head.headers.clone());
            fields.0.remove(header::DATE);
            fields.1.remove(header::DATE);
            assert_eq!(fields.0, fields.1, "{path}");
            assert_eq!(head.body(), b"");
            assert_eq!(get.header(header::CONTENT_LENGTH), get.body().len().to_string());
        }
        let ranged = site.ask("HEAD", "/file", &[(header::RANGE, "bytes=0-1")]);
        assert_eq!(ranged.status, StatusCode::OK, "a range is for GET alone");
    }

    #[test]
    fn other_methods_are_not_allowed() {
        let site = Site::new();
        site.file("file", b"content");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get"] {
            let answer = site.ask(method, "/file", &[]);
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(answer.header(header::ALLOW), "GET, HEAD");
        }
        assert_eq!(fs::read(site.path("file")).unwrap(), b"content");
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let site = Site::new();
        site.file("inside/file", b"inside");
        symlink("../secret", site.path("relative")).unwrap();
        symlink(site.parent.path().join("secret"), site.path("absolute")).unwrap();
        symlink(site.parent.path(), site.path("folder")).unwrap();
        symlink("..", site.path("inside/up")).unwrap();
        symlink("/proc/self/root", site.path("magic")).unwrap();
        for path in [
            "/../secret",
            "/inside/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/inside/%2e%2e/%2e%2e/secret",
            "/../public-too",
            "//etc/passwd",
            "/%2fetc%2fpasswd",
            "/etc/passwd",
            "/file%00",
            "/inside/file%00.html",
            "/relative",
            "/absolute",
            "/folder/secret",
            "/folder/",
            "/inside/up/../secret",
            "/inside/up/relative",
            "/magic/etc/passwd",
            "/..\\secret",
            "/inside/file/",
            "/inside/file/x",
        ] {
            let answer = site.get(path);
            let refused = matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN);
            assert!(refused, "{path}: {answer:?}");
            assert!(!String::from_utf8_lossy(answer.body()).contains("secret"), "{path}");
        }
        assert_eq!(site.get("/inside/up/inside/file").body(), b"inside", "a link that stays in the folder");
        let listing = site.get("/");
        let listing = String::from_utf8_lossy(listing.body()).into_owned();
        assert!(
            listing.contains("inside/") && !listing.contains("relative") && !listing.contains("magic"),
            "{listing}"
        );
    }

    #[test]
    fn only_files_and_folders_are_opened() {
        let site = Site::new();
        let fifo = site.path("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _socket = UnixListener::bind(site.path("socket")).unwrap();
        symlink("/dev/zero", site.path("zero")).unwrap();
        fs::create_dir(site.path("folder")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(site.path("folder/index.html")).status().unwrap().success());
        for path in ["/fifo", "/socket", "/zero"] {
            let answer = site.get(path);
            assert!(matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN), "{path}: {answer:?}");
        }
        assert_eq!(site.get("/folder/").status, StatusCode::OK, "listed, as there is no index");
        let listing = site.get("/");
        let listing = String::from_utf8_lossy(listing.body()).into_owned();
        assert!(!["fifo", "socket", "zero"].iter().any(|name| listing.contains(name)), "{listing}");
    }

    #[test]
    fn hidden_names_are_there_if_it_is_wanted() {
        for hidden in [false, true] {
            let site = Site::with(hidden);
            site.file(".env", b"password");
            site.file(".git/config", b"url");
            site.file(".well-known/x", b"found");
            for path in ["/.env", "/.git/config", "/.git/", "/%2eenv"] {
                assert_eq!(site.get(path).status.is_success(), hidden, "{path}");
            }
            assert_eq!(site.get("/.well-known/x").body(), b"found");
            let listing = String::from_utf8_lossy(site.get("/").body()).into_owned();
            assert_eq!(listing.contains(".env"), hidden);
            assert!(listing.contains(".well-known/"));
        }
    }

    #[test]
    fn parts_of_a_file_are_served() {
        let site = Site::new();
        site.file("file", b"0123456789");
        let part = |range| site.ask("GET", "/file", &[(header::RANGE, range)]);
        for (range, content, said) in [
            ("bytes=0-0", "0", "bytes 0-0/10"),
            ("bytes=2-5", "2345", "bytes 2-5/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=-2", "89", "bytes 8-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
        ] {
            let answer = part(range);
            assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
            assert_eq!(answer.body(), content.as_bytes());
            assert_eq!(answer.header(header::CONTENT_RANGE), said);
            assert_eq!(answer.header(header::CONTENT_LENGTH), content.len().to_string());
        }
        let beyond = part("bytes=10-");
        assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(beyond.header(header::CONTENT_RANGE), "bytes */10");
        for ignored in ["bytes=5-2", "lines=1-2", "bytes=0-,0-"] {
            let answer = part(ignored);
            assert_eq!((answer.status, answer.body()), (StatusCode::OK, &b"0123456789"[..]), "{ignored}");
        }
    }

    #[test]
    fn several_parts_come_in_one_answer() {
        let site = Site::new();
        site.file("file.txt", b"0123456789");
        let answer = site.ask("GET", "/file.txt", &[(header::RANGE, "bytes=7-8, 0-2")]);
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
        let boundary = answer.header(header::CONTENT_TYPE).strip_prefix("multipart/byteranges; boundary=").unwrap();
        let part = |range: &str, content: &str| {
            format!(
                "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10\r\n\r\n{content}"
            )
        };
        let body = format!("{}{}\r\n--{boundary}--\r\n", part("7-8", "78"), part("0-2", "012"));
        assert_eq!(str::from_utf8(answer.body()).unwrap(), body);
        assert_eq!(answer.header(header::CONTENT_LENGTH), body.len().to_string());
        assert_eq!(answer.header(header::CONTENT_RANGE), "");
    }

    #[test]
    fn who_has_the_file_is_told_so_until_it_changes() {
        let site = Site::new();
        site.file("file", b"0123456789");
        let fresh = site.get("/file");
        assert!(fresh.header(header::ETAG).starts_with("W/\""), "it could change within the clock's tick");
        let first = site.settled("/file");
        let (tag, modified) = (first.header(header::ETAG), first.header(header::LAST_MODIFIED));
        for condition in [(header::IF_NONE_MATCH, tag), (header::IF_MODIFIED_SINCE, modified)] {
            let answer = site.ask("GET", "/file", std::slice::from_ref(&condition));
            assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{condition:?}");
            assert_eq!(answer.body(), b"");
            assert_eq!(answer.header(header::ETAG), tag);
        }
        let resume = |condition: &str| {
            site.ask("GET", "/file", &[(header::RANGE, "bytes=5-"), (header::IF_RANGE, condition)]).status
        };
        assert_eq!(resume(tag), StatusCode::PARTIAL_CONTENT);
        assert_eq!(resume(modified), StatusCode::PARTIAL_CONTENT);
        // As large as before, and as old.
        let time = fs::metadata(site.path("file")).unwrap().modified().unwrap();
        fs::write(site.path("file"), b"9876543210").unwrap();
        File::options().write(true).open(site.path("file")).unwrap().set_modified(time).unwrap();
        assert_eq!(resume(tag), StatusCode::OK, "all of the new one");
        assert_eq!(site.ask("GET", "/file", &[(header::IF_NONE_MATCH, tag)]).body(), b"9876543210");
        assert_eq!(site.ask("GET", "/file", &[(header::IF_MATCH, tag)]).status, StatusCode::PRECONDITION_FAILED);
        assert_ne!(site.settled("/file").header(header::ETAG), tag);
    }

    #[test]
    fn a_file_that_shrinks_is_never_complete() {
        let site = Site::new();
        site.file("file", &vec![1; 10 * CHUNK]);
        let response = site.begin("GET", "/file", &[]);
        File::options().write(true).open(site.path("file")).unwrap().set_len(9 * CHUNK as u64).unwrap();
        let answer = site.end(response);
        assert_eq!(answer.header(header::CONTENT_LENGTH), (10 * CHUNK).to_string());
        assert!(answer.body.is_err());
        // One that grows is served as it was.
        let response = site.begin("GET", "/file", &[]);
        File::options().write(true).open(site.path("file")).unwrap().set_len(20 * CHUNK as u64).unwrap();
        assert_eq!(site.end(response).body().len(), 9 * CHUNK);
    }

    #[test]
    fn a_folder_is_listed_unless_it_has_an_index() {
        let site = Site::new();
        site.file("folder/a b", b"x");
        let moved = site.get("/folder?x=1");
        assert_eq!(moved.status, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(moved.header(header::LOCATION), "/folder/?x=1");
        let listing = site.get("/folder/");
        assert_eq!(listing.header(header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert!(String::from_utf8_lossy(listing.body()).contains("href=\"./a%20b\""));
        site.file("folder/index.html", b"<p>mine");
        let index = site.get("/folder/");
        assert_eq!(index.body(), b"<p>mine");
        assert_eq!(index.header(header::CONTENT_SECURITY_POLICY), "", "it is no page of the tool's");
    }

    #[test]
    fn every_name_can_be_fetched_by_its_link() {
        let site = Site::new();
        for name in [&b"a b?c#d%41"[..], b"\xff\xfe", b"<b>&\"'", "\u{202e}ä日".as_bytes(), b"a:b", b"...x\\y", b"a\nb"]
        {
            let name = std::ffi::OsStr::from_bytes(name);
            fs::write(site.parent.path().join("public").join(name), name.as_bytes()).unwrap();
            if !is_hidden(name) {
                let link = encode(name);
                assert_eq!(site.get(&format!("/{link}")).body(), name.as_bytes());
                assert!(String::from_utf8_lossy(site.get("/").body()).contains(&format!("href=\"./{link}\"")));
            }
        }
    }

    #[test]
    fn who_is_one_too_many_is_told_to_come_again() {
        let site = Site::new();
        site.file("file", &vec![1; CHUNK]);
        let open: Vec<_> = (0..MAX_OPEN).map(|_| site.begin("GET", "/file", &[])).collect();
        let refused = site.get("/file");
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header(header::RETRY_AFTER), "1");
        drop(open);
        assert_eq!(site.get("/file").status, StatusCode::OK);
    }
}
