//! The result of a transfer on standard output: one line for people, or one JSON object per line
//! for programs.

use std::{
    borrow::Cow,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use indicatif::BinaryBytes;
use sendstream::Printable;
use serde::Serialize;

use crate::{
    error::{Failure, FailureJson},
    protocol::message::{Kind, Lost, Reason},
};

/// What became of one session's entries. The two ends of a session that did not break off say the
/// same.
#[derive(Debug)]
pub(crate) struct Summary {
    direction: Direction,
    peer: String,
    /// How many entries the sender announced.
    announced: u64,
    results: Vec<FileResult>,
    /// How much content went over the network.
    carried: u64,
    started: Option<Instant>,
    took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// What became of one entry.
#[derive(Debug)]
pub(crate) struct FileResult {
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
    pub(crate) outcome: Outcome,
}

/// How it went, with the content's digest if the receiver has it all.
#[derive(Debug)]
pub(crate) enum Outcome {
    Arrived(Option<blake3::Hash>),
    /// The receiver had it before.
    WasThere(Option<blake3::Hash>),
    Lost(Box<Lost>),
}

impl Outcome {
    fn lost(&self) -> Option<&Lost> {
        match self {
            Self::Lost(lost) => Some(lost),
            _ => None,
        }
    }

    fn digest(&self) -> Option<&blake3::Hash> {
        match self {
            Self::Arrived(digest) | Self::WasThere(digest) => digest.as_ref(),
            Self::Lost(_) => None,
        }
    }
}

/// How many entries there are of each sort: their sum is what was announced.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Files and links that the receiver has.
    files: u64,
    /// Those of them that it had before.
    there: u64,
    /// Directories that the receiver has.
    directories: u64,
    /// What the sender could not send.
    skipped: u64,
    /// What did not arrive for another reason.
    failed: u64,
    /// The sizes of the files that the receiver has.
    bytes: u64,
}

impl Summary {
    pub(crate) fn new(direction: Direction, peer: impl Into<String>, announced: u64) -> Self {
        let peer = peer.into();
        Self { direction, peer, announced, results: Vec::new(), carried: 0, started: None, took: Duration::ZERO }
    }

    /// The handshake is over and the files come: the time counts from here.
    pub(crate) fn start(&mut self) {
        self.started = Some(Instant::now());
    }

    /// The sender announces anew what is to come.
    pub(crate) fn announce_again(&mut self, announced: u64) {
        self.announced = announced;
    }

    /// Adds what became of an entry: the time counts up to here.
    pub(crate) fn add(&mut self, result: FileResult) {
        self.results.push(result);
        self.took = self.started.map_or(Duration::ZERO, |started| started.elapsed());
    }

    /// So much content went over the network, what was sent again included.
    pub(crate) fn set_carried(&mut self, bytes: u64) {
        self.carried = bytes;
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Whether all that was announced is there.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let Counts { skipped, failed, .. } = self.counts();
        match skipped + failed {
            0 => Ok(()),
            lost => Err(Failure::new(format!("{lost} of {} did not arrive", count_files(self.announced)))),
        }
    }

    /// Whether nothing is missing but what the sender cannot send: then another receiver gets no more.
    pub(crate) fn has_all_there_is(&self) -> bool {
        self.counts().failed == 0
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for result in &self.results {
            match (&result.outcome, result.kind) {
                (Outcome::Lost(lost), _) if lost.reason.is_senders() => counts.skipped += 1,
                (Outcome::Lost(_), _) => counts.failed += 1,
                (_, Kind::Directory) => counts.directories += 1,
                (outcome, _) => {
                    counts.files += 1;
                    counts.there += u64::from(matches!(outcome, Outcome::WasThere(_)));
                    counts.bytes += result.bytes;
                }
            }
        }
        // What this end was never told of did not arrive.
        counts.failed += self.announced.saturating_sub(self.results.len() as u64);
        counts
    }

    /// One digest for all that arrived, the same at both ends whatever the order.
    ///
    /// Of one file it is the BLAKE3 of the content. Of several it is the BLAKE3 of a listing as
    /// `b3sum` prints it, a line `<digest>  <name>` each, sorted by name.
    fn digest(&self) -> Option<blake3::Hash> {
        let kept = self.results.iter().filter_map(|result| Some((&result.name, result.outcome.digest()?)));
        let mut kept: Vec<_> = kept.collect();
        if let [(_, digest)] = kept[..] {
            return Some(*digest);
        }
        kept.sort_unstable_by_key(|(name, _)| *name);
        let mut hasher = blake3::Hasher::new();
        for (name, digest) in &kept {
            hasher.update(digest.to_hex().as_bytes());
            hasher.update(b"  ").update(name).update(b"\n");
        }
        (!kept.is_empty()).then(|| hasher.finalize())
    }

    /// Prints the summary of a transfer that ended as `result` says.
    pub(crate) fn print(&self, json: bool, result: Result<(), &Failure>) -> Result<(), Failure> {
        if json {
            print_json(&self.to_json(result))
        } else if self.started.is_none() && result.is_err() {
            // Nothing was transferred, and the failure is told on standard error.
            Ok(())
        } else {
            print_line(&self.to_line())
        }
    }

    /// What a program is told, for tests.
    #[cfg(test)]
    pub(crate) fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self.to_json(Ok(()))).expect("it is JSON")
    }

    fn to_line(&self) -> String {
        let (verb, preposition) = match self.direction {
            Direction::Sent => ("sent", "to"),
            Direction::Received => ("received", "from"),
        };
        let Counts { files, there, directories, skipped, failed, bytes } = self.counts();
        let count = match skipped + failed {
            0 => count_entries(self.results.iter().map(|result| result.kind)),
            _ => format!("{files} of {}", count_files(self.announced - directories.min(self.announced))),
        };
        let there = if there == 0 { String::new() } else { format!(" ({there} already there)") };
        let mut line = format!(
            "{verb} {count}{there} {preposition} {}: {} ({bytes} bytes) in {:.2} s, {:.1} MiB/s",
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
        let counts = self.counts();
        let seconds = self.took.as_secs_f64();
        SummaryJson {
            ok: result.is_ok(),
            direction: match self.direction {
                Direction::Sent => "sent",
                Direction::Received => "received",
            },
            peer: &self.peer,
            bytes: counts.bytes,
            seconds,
            mib_per_s: mib_per_s(counts.bytes, seconds),
            digest: self.digest().map(|digest| digest.to_string()),
            failure: result.err().map(Failure::to_json),
            content_sent: self.carried,
            announced: self.announced,
            files_ok: counts.files,
            files_there: counts.there,
            files_failed: counts.failed,
            files_skipped: counts.skipped,
            directories_ok: counts.directories,
            files: Listed(&self.results),
        }
    }
}

/// What kind of thing an entry is, for programs.
pub(crate) fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Link => "link",
    }
}

/// "1 file", "2 files", and directories where there is nothing else.
pub(crate) fn count_entries(kinds: impl Iterator<Item = Kind>) -> String {
    let (mut files, mut directories) = (0, 0);
    kinds.for_each(|kind| *(if kind == Kind::Directory { &mut directories } else { &mut files }) += 1);
    match (files, directories) {
        (0, 1) => "1 directory".to_owned(),
        (0, 2..) => format!("{directories} directories"),
        _ => count_files(files),
    }
}

/// Prints one line of results. A reader that went away, as `head` does, wants no more of them,
/// which is no failure.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    let mut out = results();
    printed(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Standard output is for content: from now on results go to standard error.
pub(crate) fn leave_standard_output() {
    TO_STANDARD_ERROR.store(true, Ordering::Relaxed);
}

fn results() -> Box<dyn io::Write> {
    if TO_STANDARD_ERROR.load(Ordering::Relaxed) {
        Box::new(io::stderr().lock())
    } else {
        Box::new(io::stdout().lock())
    }
}

fn printed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write the result to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

static TO_STANDARD_ERROR: AtomicBool = AtomicBool::new(false);

/// Prints one JSON object on a line of its own. It may be long, so it is not put together first.
pub(crate) fn print_json(object: &impl Serialize) -> Result<(), Failure> {
    let mut out = io::BufWriter::with_capacity(64 << 10, results());
    let written = serde_json::to_writer(Harmless(&mut out), object).map_err(io::Error::from);
    printed(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
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

/// Writes the same JSON, with JSON's escapes for what must not reach a terminal as it is
/// ([`Printable`]). Such a character can only be inside a string, which is written in pieces of whole
/// characters.
struct Harmless<W>(W);

impl<W: io::Write> io::Write for Harmless<W> {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        let text = match str::from_utf8(json) {
            Ok(text) => text,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let mut rest = text;
        while let Some((place, c)) = rest.char_indices().find(|(_, c)| Printable::escapes(*c)) {
            self.0.write_all(&rest.as_bytes()[..place])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(self.0, "\\u{unit:04x}")?;
            }
            rest = &rest[place + c.len_utf8()..];
        }
        self.0.write_all(rest.as_bytes())?;
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// "1 file", "2 files".
pub(crate) fn count_files(count: u64) -> String {
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
    /// How much content went over the network: without what was there, and with what went twice.
    content_sent: u64,
    announced: u64,
    files_ok: u64,
    files_there: u64,
    files_failed: u64,
    files_skipped: u64,
    directories_ok: u64,
    files: Listed<'a>,
}

/// The files and links, and the directories that did not arrive.
struct Listed<'a>(&'a [FileResult]);

impl Serialize for Listed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = |result: &&FileResult| result.kind != Kind::Directory || result.outcome.lost().is_some();
        serializer.collect_seq(self.0.iter().filter(told).map(FileJson::from))
    }
}

#[derive(Serialize)]
struct FileJson<'a> {
    name: Cow<'a, str>,
    /// The bytes of a name that is not UTF-8, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    r#type: &'static str,
    bytes: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> From<&'a FileResult> for FileJson<'a> {
    fn from(result: &'a FileResult) -> Self {
        let name = String::from_utf8_lossy(&result.name);
        let is_other = matches!(name, Cow::Owned(_));
        let lost = result.outcome.lost();
        Self {
            name_bytes: is_other.then(|| result.name.iter().map(|byte| format!("{byte:02x}")).collect()),
            name,
            r#type: type_name(result.kind),
            bytes: result.bytes,
            outcome: match &result.outcome {
                Outcome::Arrived(_) => "arrived",
                Outcome::WasThere(_) => "was-there",
                Outcome::Lost(lost) if lost.reason.is_senders() => "skipped",
                Outcome::Lost(_) => "failed",
            },
            digest: result.outcome.digest().map(|digest| digest.to_string()),
            kind: lost.map(|lost| lost.reason),
            error: lost.map(|lost| &*lost.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, content: &[u8]) -> FileResult {
        let (name, bytes) = (name.as_bytes().into(), content.len() as u64);
        FileResult { name, kind: Kind::File, bytes, outcome: Outcome::Arrived(Some(blake3::hash(content))) }
    }

    fn lost(name: &str, reason: Reason) -> FileResult {
        let outcome = Outcome::Lost(Box::new(Lost::new(reason, "disk full")));
        FileResult { name: name.as_bytes().into(), kind: Kind::File, bytes: 7, outcome }
    }

    fn summary(results: impl IntoIterator<Item = FileResult>) -> Summary {
        let results: Vec<_> = results.into_iter().collect();
        let mut summary = Summary::new(Direction::Sent, "192.0.2.7:4433", results.len() as u64);
        results.into_iter().for_each(|result| summary.add(result));
        summary
    }

    #[test]
    fn the_digest_of_one_file_is_that_of_its_content() {
        assert_eq!(summary([kept("a", b"x"), lost("b", Reason::Exists)]).digest(), Some(blake3::hash(b"x")));
        assert_eq!(summary([lost("b", Reason::Exists)]).digest(), None);
    }

    #[test]
    fn the_digest_of_several_files_does_not_depend_on_their_order() {
        let listing = format!("{}  a\n{}  b\n", blake3::hash(b"x"), blake3::hash(b"y"));
        let digest = Some(blake3::hash(listing.as_bytes()));
        assert_eq!(summary([kept("a", b"x"), kept("b", b"y")]).digest(), digest);
        assert_eq!(summary([kept("b", b"y"), lost("c", Reason::Exists), kept("a", b"x")]).digest(), digest);
    }

    #[test]
    fn a_name_cannot_steer_a_terminal_through_json_and_stays_the_same_name() {
        let name = "gpj\u{202e}exe\u{e0041}\u{9b}日本語";
        let mut json = Vec::new();
        serde_json::to_writer(Harmless(&mut json), &[name]).unwrap();
        assert_eq!(
            json,
            br#"["gpj\u202eexe\udb40\udc41\u009b"#.iter().chain("日本語\"]".as_bytes()).copied().collect::<Vec<_>>()
        );
        assert_eq!(serde_json::from_slice::<[String; 1]>(&json).unwrap(), [name]);
    }

    #[test]
    fn only_what_arrived_is_counted_and_the_counts_are_what_was_announced() {
        let directory =
            FileResult { name: (*b"d").into(), kind: Kind::Directory, bytes: 0, outcome: Outcome::Arrived(None) };
        let mut summary =
            summary([directory, kept("a", b"xyz"), lost("b", Reason::DiskFull), lost("c", Reason::Changed)]);
        summary.announced = 6;
        let line = summary.to_line();
        assert!(line.starts_with("sent 1 of 5 files to 192.0.2.7:4433: 3 B (3 bytes) in 0.00 s, 0.0 MiB/s"), "{line}");
        let failure = summary.verdict().unwrap_err();
        let json = serde_json::to_value(summary.to_json(Err(&failure))).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["bytes"], 3);
        let counts = ["announced", "files_ok", "directories_ok", "files_skipped", "files_failed"];
        assert_eq!(counts.map(|name| json[name].as_u64().unwrap()), [6, 1, 1, 1, 3]);
        assert_eq!(json["files"].as_array().unwrap().len(), 3);
        assert_eq!(json["files"][1]["error"], "disk full");
        assert_eq!((&json["files"][1]["kind"], &json["files"][1]["outcome"]), (&"disk-full".into(), &"failed".into()));
        assert_eq!((&json["files"][2]["kind"], &json["files"][2]["outcome"]), (&"changed".into(), &"skipped".into()));
        assert_eq!(json["error"], "4 of 6 files did not arrive");
    }

    #[test]
    fn a_name_that_is_not_utf8_is_told_in_bytes_as_well() {
        let mut result = kept("x", b"");
        result.name = (*b"caf\xe9").into();
        let json = serde_json::to_value(FileJson::from(&result)).unwrap();
        assert_eq!((&json["name"], &json["name_bytes"]), (&"caf\u{fffd}".into(), &"636166e9".into()));
    }
}
