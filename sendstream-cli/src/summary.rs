//! The result of a transfer on standard output: one line for people, or one JSON object per line
//! for programs.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use indicatif::BinaryBytes;
use sendstream::Printable;
use serde::Serialize;

use crate::error::{Failure, FailureJson};

/// What became of one session's files.
#[derive(Debug)]
pub(crate) struct Summary {
    direction: Direction,
    peer: String,
    files: Vec<FileResult>,
    started: Option<Instant>,
    took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// What became of one file.
#[derive(Debug)]
pub(crate) struct FileResult {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The content's digest if the receiver has it all, else why not.
    pub(crate) outcome: Result<blake3::Hash, String>,
}

impl Summary {
    pub(crate) fn new(direction: Direction, peer: impl Into<String>) -> Self {
        Self { direction, peer: peer.into(), files: Vec::new(), started: None, took: Duration::ZERO }
    }

    /// The handshake is over and the files come: the time counts from here.
    pub(crate) fn start(&mut self) {
        self.started = Some(Instant::now());
    }

    /// Another file is through, or has failed: the time counts up to here.
    pub(crate) fn add(&mut self, file: FileResult) {
        self.files.push(file);
        self.took = self.started.map_or(Duration::ZERO, |started| started.elapsed());
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// How many files arrived.
    fn kept(&self) -> usize {
        self.files.iter().filter(|file| file.outcome.is_ok()).count()
    }

    /// How many did not.
    pub(crate) fn failed(&self) -> usize {
        self.files.len() - self.kept()
    }

    /// The sum of the sizes of the files that arrived.
    fn bytes(&self) -> u64 {
        self.files.iter().filter(|file| file.outcome.is_ok()).map(|file| file.bytes).sum()
    }

    /// One digest for all that arrived, the same at both ends whatever the order.
    ///
    /// Of one file it is the BLAKE3 of the content. Of several it is the BLAKE3 of a listing as
    /// `b3sum` prints it, a line `<digest> <name>` each, sorted by name.
    fn digest(&self) -> Option<blake3::Hash> {
        let mut kept: Vec<_> =
            self.files.iter().filter_map(|file| Some((file.name.as_str(), file.outcome.as_ref().ok()?))).collect();
        if let [(_, digest)] = kept[..] {
            return Some(*digest);
        }
        kept.sort_unstable_by_key(|(name, _)| *name);
        let mut hasher = blake3::Hasher::new();
        for (name, digest) in &kept {
            hasher.update(format!("{}  {name}\n", digest.to_hex()).as_bytes());
        }
        (!kept.is_empty()).then(|| hasher.finalize())
    }

    /// Prints the summary of a transfer that ended as `result` says.
    pub(crate) fn print(&self, json: bool, result: Result<(), &Failure>) -> Result<(), Failure> {
        if json {
            print_json(&self.to_json(result))
        } else if self.files.is_empty() && result.is_err() {
            // Nothing was transferred, and the failure is told on standard error.
            Ok(())
        } else {
            print_line(&self.to_line(result.is_ok()))
        }
    }

    fn to_line(&self, ok: bool) -> String {
        let (verb, preposition) = match self.direction {
            Direction::Sent => ("sent", "to"),
            Direction::Received => ("received", "from"),
        };
        let (kept, all) = (self.kept(), self.files.len());
        let all = count_files(all);
        let count = if kept == self.files.len() && ok { all } else { format!("{kept} of {all}") };
        let bytes = self.bytes();
        let mut line = format!(
            "{verb} {count} {preposition} {}: {} ({bytes} bytes) in {:.2} s, {:.1} MiB/s",
            Printable::new(&self.peer),
            BinaryBytes(bytes),
            self.took.as_secs_f64(),
            mib_per_s(bytes, self.took.as_secs_f64()),
        );
        if let Some(digest) = self.digest() {
            line.push_str(", blake3 ");
            line.push_str(&digest.to_hex());
        }
        line
    }

    fn to_json<'a>(&'a self, result: Result<(), &'a Failure>) -> SummaryJson<'a> {
        let (bytes, seconds) = (self.bytes(), self.took.as_secs_f64());
        SummaryJson {
            ok: result.is_ok(),
            direction: match self.direction {
                Direction::Sent => "sent",
                Direction::Received => "received",
            },
            peer: &self.peer,
            bytes,
            seconds,
            mib_per_s: mib_per_s(bytes, seconds),
            digest: self.digest().map(|digest| digest.to_string()),
            failure: result.err().map(Failure::to_json),
            files_ok: self.kept(),
            files_failed: self.failed(),
            files: self.files.iter().map(FileJson::from).collect(),
        }
    }
}

/// Prints one line of results. A reader that went away, as `head` does, wants no more of them,
/// which is no failure.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write the result to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON object on a line of its own.
pub(crate) fn print_json(object: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(object).map_err(|error| Failure::new(format!("cannot print as JSON: {error}")))?;
    print_line(&harmless(&line))
}

/// Prints the failure of a command that printed no other result.
pub(crate) fn print_failure(failure: &Failure) {
    #[derive(Serialize)]
    struct Failed<'a> {
        ok: bool,
        #[serde(flatten)]
        failure: FailureJson<'a>,
    }
    // The failure is told on standard error in any case.
    let _ = print_json(&Failed { ok: false, failure: failure.to_json() });
}

/// The same JSON, with JSON's escapes for what must not reach a terminal as it is ([`Printable`]).
/// Such a character can only be inside a string.
fn harmless(json: &str) -> String {
    let mut harmless = String::with_capacity(json.len());
    for c in json.chars() {
        if Printable::escapes(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| harmless.push_str(&format!("\\u{unit:04x}")));
        } else {
            harmless.push(c);
        }
    }
    harmless
}

/// "1 file", "2 files".
pub(crate) fn count_files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// Bytes over time in MiB/s; 0 if there was no time.
pub(crate) fn mib_per_s(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 / f64::from(1 << 20) / seconds } else { 0.0 }
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    ok: bool,
    direction: &'static str,
    peer: &'a str,
    bytes: u64,
    seconds: f64,
    mib_per_s: f64,
    digest: Option<String>,
    /// Why it failed: `error`, `kind`, `hint`.
    #[serde(flatten)]
    failure: Option<FailureJson<'a>>,
    files_ok: usize,
    files_failed: usize,
    files: Vec<FileJson<'a>>,
}

#[derive(Serialize)]
struct FileJson<'a> {
    name: &'a str,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> From<&'a FileResult> for FileJson<'a> {
    fn from(file: &'a FileResult) -> Self {
        Self {
            name: &file.name,
            bytes: file.bytes,
            digest: file.outcome.as_ref().ok().map(|digest| digest.to_string()),
            error: file.outcome.as_ref().err().map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, content: &[u8]) -> FileResult {
        FileResult { name: name.to_owned(), bytes: content.len() as u64, outcome: Ok(blake3::hash(content)) }
    }

    fn lost(name: &str) -> FileResult {
        FileResult { name: name.to_owned(), bytes: 7, outcome: Err("disk full".to_owned()) }
    }

    fn summary(files: impl IntoIterator<Item = FileResult>) -> Summary {
        let mut summary = Summary::new(Direction::Sent, "192.0.2.7:4433");
        files.into_iter().for_each(|file| summary.add(file));
        summary
    }

    #[test]
    fn the_digest_of_one_file_is_that_of_its_content() {
        assert_eq!(summary([kept("a", b"x"), lost("b")]).digest(), Some(blake3::hash(b"x")));
        assert_eq!(summary([lost("b")]).digest(), None);
    }

    #[test]
    fn the_digest_of_several_files_does_not_depend_on_their_order() {
        let listing = format!("{}  a\n{}  b\n", blake3::hash(b"x"), blake3::hash(b"y"));
        let digest = Some(blake3::hash(listing.as_bytes()));
        assert_eq!(summary([kept("a", b"x"), kept("b", b"y")]).digest(), digest);
        assert_eq!(summary([kept("b", b"y"), lost("c"), kept("a", b"x")]).digest(), digest);
    }

    #[test]
    fn a_name_cannot_steer_a_terminal_through_json_and_stays_the_same_name() {
        let name = "gpj\u{202e}exe\u{e0041}\u{9b}日本語";
        let json = harmless(&serde_json::to_string(&[name]).unwrap());
        assert_eq!(json, r#"["gpj\u202eexe\udb40\udc41\u009b日本語"]"#);
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [name]);
    }

    #[test]
    fn only_what_arrived_is_counted() {
        let summary = summary([kept("a", b"xyz"), lost("b")]);
        let line = summary.to_line(false);
        assert!(line.starts_with("sent 1 of 2 files to 192.0.2.7:4433: 3 B (3 bytes) in 0.00 s, 0.0 MiB/s"), "{line}");
        let json = serde_json::to_value(summary.to_json(Err(&Failure::new("1 of 2 files failed")))).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["bytes"], 3);
        assert_eq!(json["files_ok"], 1);
        assert_eq!(json["files_failed"], 1);
        assert_eq!(json["files"][1]["error"], "disk full");
        assert_eq!(json["error"], "1 of 2 files failed");
    }
}
