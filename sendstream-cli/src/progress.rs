//! How it goes: bars on a terminal, notes in a pipe, events for programs. Bars and notes go to
//! standard error, events to standard output, where the results are as well (`summary`).
//!
//! A line is written by one call of the system, so that those of several processes stay whole.

use std::{
    fmt,
    io::{self, Write as _},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use console::{Term, measure_text_width, truncate_str};
use indicatif::{BinaryBytes, HumanDuration};
use serde::Serialize;

use crate::{cli::OutputArgs, summary::print_json, terminal};

/// Where a command says how it goes.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// If standard error is a terminal, and the user wants to see how it goes.
    bars: Option<Arc<Bars>>,
    quiet: bool,
    events: bool,
}

impl Progress {
    /// With `quiet`, only warnings are shown.
    pub(crate) fn new(quiet: bool) -> Self {
        let draws = !quiet && Term::stderr().features().is_attended();
        Self { bars: draws.then(Arc::default), quiet, events: false }
    }

    /// What the user wants: with `--json` and without `--quiet`, each transfer prints an event every
    /// second.
    pub(crate) fn of(args: OutputArgs) -> Self {
        Self { events: args.json && !args.quiet, ..Self::new(args.quiet) }
    }

    /// A line that is good to know.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        if !self.quiet {
            self.print(line);
        }
    }

    /// A line that must be known.
    pub(crate) fn warn(&self, line: impl fmt::Display) {
        self.print(line);
    }

    /// A bar that fills up with `total` bytes.
    pub(crate) fn transfer(&self, label: impl Into<String>, total: u64) -> Bar {
        let counts = Arc::new(Counts::new(label.into(), total));
        let events = self.events.then(|| Events::start(Arc::clone(&counts)));
        if let Some(bars) = &self.bars {
            bars.add(&counts);
        }
        Bar(Arc::new(Shown { counts, bars: self.bars.clone(), events }))
    }

    /// Does something that writes to the terminal, while the bars are out of the way.
    pub(crate) fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(work),
            None => work(),
        }
    }

    fn print(&self, line: impl fmt::Display) {
        match &self.bars {
            Some(bars) => bars.print(line),
            None => write_line(line),
        }
    }
}

/// Writes a line to standard error, by one call of the system.
pub(crate) fn write_line(line: impl fmt::Display) {
    write_whole(&format!("{line}\n"));
}

/// Asks for something on standard error.
pub(crate) fn prompt(question: &str) {
    write_whole(question);
}

fn write_whole(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The bars at the bottom of the terminal, a line for each.
#[derive(Debug, Default)]
struct Bars(Mutex<Drawing>);

#[derive(Debug, Default)]
struct Drawing {
    bars: Vec<Arc<Counts>>,
    /// How many lines there are, of which the cursor is on the last.
    lines: usize,
    /// Whether a thread draws them again and again.
    ticks: bool,
}

impl Bars {
    fn add(self: &Arc<Self>, counts: &Arc<Counts>) {
        let mut drawing = lock(&self.0);
        drawing.bars.push(Arc::clone(counts));
        if !drawing.ticks {
            let bars = Arc::clone(self);
            // Without a thread they are drawn when a line is printed.
            drawing.ticks = thread::Builder::new().name("bars".to_owned()).spawn(move || bars.tick()).is_ok();
        }
    }

    fn remove(&self, counts: &Arc<Counts>) {
        let mut drawing = lock(&self.0);
        let before = drawing.bars.len();
        drawing.bars.retain(|bar| !Arc::ptr_eq(bar, counts));
        if drawing.bars.len() < before {
            drawing.draw("");
        }
    }

    fn print(&self, line: impl fmt::Display) {
        lock(&self.0).draw(&format!("{line}\n"));
    }

    fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut drawing = lock(&self.0);
        write_whole(&drawing.clear());
        let done = work();
        drawing.draw("");
        done
    }

    /// Draws them until there are none.
    fn tick(&self) {
        loop {
            thread::sleep(TICK);
            let mut drawing = lock(&self.0);
            if drawing.bars.is_empty() {
                drawing.ticks = false;
                return;
            }
            drawing.draw("");
        }
    }
}

impl Drawing {
    /// Draws the bars anew, below `text`.
    fn draw(&mut self, text: &str) {
        let (rows, columns) = Term::stderr().size();
        let mut frame = self.clear();
        frame.push_str(text);
        let fitting = usize::from(rows).saturating_sub(1).max(1);
        let lines: Vec<_> = self.bars.iter().take(fitting).map(|bar| bar.facts().line(columns.into())).collect();
        self.lines = lines.len();
        frame.push_str(&lines.join("\n"));
        if !frame.is_empty() {
            write_whole(&frame);
        }
    }

    /// What takes the bars off the terminal, and leaves the cursor where they began.
    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            lines => format!("{}\r\x1b[J", "\x1b[A".repeat(lines - 1)),
        }
    }
}

/// One transfer's bar. It vanishes when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Bar(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    counts: Arc<Counts>,
    bars: Option<Arc<Bars>>,
    events: Option<Events>,
}

impl Bar {
    /// So many bytes more are through.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes more are to come than was said before.
    pub(crate) fn expect(&self, bytes: u64) {
        self.0.counts.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many files more are to come than was said before.
    pub(crate) fn expect_files(&self, files: u64) {
        self.0.counts.total_files.fetch_add(files, Ordering::Relaxed);
    }

    /// A file more is through, or has failed.
    pub(crate) fn file_done(&self) {
        self.0.counts.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Says what is being transferred right now.
    pub(crate) fn show(&self, what: impl fmt::Display) {
        if self.0.events.is_some() || self.0.bars.is_some() {
            *lock(&self.0.counts.current) = what.to_string();
        }
    }

    /// Takes the bar off the screen. No event comes after this.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

impl Shown {
    fn clear(&self) {
        if let Some(events) = &self.events {
            events.end();
        }
        if let Some(bars) = &self.bars {
            bars.remove(&self.counts);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How far a transfer is.
#[derive(Debug)]
struct Counts {
    label: String,
    bytes: AtomicU64,
    total: AtomicU64,
    files: AtomicU64,
    /// 0 if nobody counts files.
    total_files: AtomicU64,
    current: Mutex<String>,
    speed: Mutex<Speed>,
}

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
struct Speed {
    /// When that was found, and how many bytes were through then.
    when: Instant,
    bytes: u64,
    per_second: f64,
}

impl Speed {
    /// The speed now, which follows changes within some seconds.
    fn update(&mut self, bytes: u64) -> f64 {
        let seconds = self.when.elapsed().as_secs_f64();
        if seconds >= TICK.as_secs_f64() / 2.0 {
            let now = bytes.saturating_sub(self.bytes) as f64 / seconds;
            let weight = if self.bytes == 0 { 1.0 } else { 1.0 - (-seconds / SMOOTHING).exp() };
            *self =
                Self { when: Instant::now(), bytes, per_second: self.per_second + (now - self.per_second) * weight };
        }
        self.per_second
    }
}

impl Counts {
    fn new(label: String, total: u64) -> Self {
        Self {
            label,
            bytes: 0.into(),
            total: total.into(),
            files: 0.into(),
            total_files: 0.into(),
            current: Mutex::default(),
            speed: Mutex::new(Speed { when: Instant::now(), bytes: 0, per_second: 0.0 }),
        }
    }

    fn facts(&self) -> Facts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let per_second = lock(&self.speed).update(get(&self.bytes));
        Facts {
            label: self.label.clone(),
            bytes: get(&self.bytes),
            total: get(&self.total),
            files: get(&self.files),
            total_files: get(&self.total_files),
            per_second,
            current: lock(&self.current).clone(),
        }
    }
}

/// How far a transfer is at one moment.
#[derive(Debug, Clone)]
struct Facts {
    label: String,
    bytes: u64,
    total: u64,
    files: u64,
    total_files: u64,
    per_second: f64,
    current: String,
}

impl Facts {
    /// Whole percents, which are 100 at the end only.
    fn percent(&self) -> u64 {
        match self.total {
            0 => 100,
            total => (u128::from(self.bytes.min(total)) * 100 / u128::from(total)) as u64,
        }
    }

    /// How long the rest takes at this speed, if that is known and worth saying.
    fn seconds_left(&self) -> Option<f64> {
        let left = self.total.checked_sub(self.bytes).filter(|left| *left > 0)? as f64;
        (self.per_second >= 1.0).then(|| left / self.per_second).filter(|seconds| *seconds < MAX_SECONDS)
    }

    /// A line of less than `width` columns. What matters least is left out first.
    fn line(&self, width: usize) -> String {
        let width = width.saturating_sub(1).min(MAX_WIDTH);
        let percent = self.percent();
        let filled = (percent as usize * BAR_WIDTH) / 100;
        let bar = format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled));
        let files =
            if self.total_files > 0 { format!("{}/{} files", self.files, self.total_files) } else { String::new() };
        let rate =
            if self.per_second >= 1.0 { format!("{}/s", BinaryBytes(self.per_second as u64)) } else { String::new() };
        let eta = self
            .seconds_left()
            .map_or_else(String::new, |left| format!("eta {:#}", HumanDuration(Duration::from_secs_f64(left))));
        // In the order of the line, each with its rank.
        let parts = [
            (1, self.label.clone()),
            (0, format!("{percent:>3}%")),
            (6, bar),
            (5, format!("{}/{}", BinaryBytes(self.bytes), BinaryBytes(self.total))),
            (4, files),
            (2, rate),
            (3, eta),
        ];
        let mut line = String::new();
        for last in (0..=6).rev() {
            let fitting = parts.iter().filter(|(rank, part)| *rank <= last && !part.is_empty());
            line = fitting.map(|(_, part)| part.as_str()).collect::<Vec<_>>().join(" ");
            if line.len() <= width {
                break;
            }
        }
        let left = width.saturating_sub(line.len() + 1);
        let current = terminal::shown(&self.current);
        if left >= MIN_CURRENT && measure_text_width(&current) > 0 {
            line.push(' ');
            line.push_str(&truncate_str(&current, left, "..."));
        }
        line
    }
}

/// A thread that prints how far a transfer is, until this is dropped.
#[derive(Debug)]
struct Events {
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Events {
    fn start(counts: Arc<Counts>) -> Self {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let watched = Arc::clone(&ended);
        let print = move || {
            let (mutex, changed) = &*watched;
            let mut ended = lock(mutex);
            loop {
                let waited = changed.wait_timeout(ended, EVENT_INTERVAL).unwrap_or_else(PoisonError::into_inner);
                ended = waited.0;
                if *ended {
                    return;
                }
                if waited.1.timed_out() {
                    // Under the lock, so that nothing follows the end.
                    print_event(&counts);
                }
            }
        };
        // Without a thread there are no events, but still results.
        let _ = thread::Builder::new().name("events".to_owned()).spawn(print);
        Self { ended }
    }

    fn end(&self) {
        *lock(&self.ended.0) = true;
        self.ended.1.notify_all();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.end();
    }
}

fn print_event(counts: &Counts) {
    let facts = counts.facts();
    // A reader that went away, or cannot be told, misses the result as well, which says so.
    let _ = print_json(&Event {
        event: "progress",
        doing: &facts.label,
        bytes: facts.bytes,
        total_bytes: facts.total,
        percent: facts.percent(),
        files: facts.files,
        total_files: facts.total_files,
        bytes_per_second: facts.per_second,
        eta_seconds: facts.seconds_left(),
        current: &facts.current,
    });
}

#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    doing: &'a str,
    bytes: u64,
    total_bytes: u64,
    percent: u64,
    files: u64,
    total_files: u64,
    /// In the last seconds.
    bytes_per_second: f64,
    /// If it goes on like that; none if nothing comes.
    eta_seconds: Option<f64>,
    /// The file that is under way.
    current: &'a str,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How wide the bar itself is.
const BAR_WIDTH: usize = 20;
/// No line is longer than most terminals are wide when they are narrow: what shrinks to that does not
/// wrap a line that is there, of which a part would stay.
const MAX_WIDTH: usize = 79;
/// How many columns a name is worth.
const MIN_CURRENT: usize = 8;
/// A longer time says no more than that it takes long.
const MAX_SECONDS: f64 = 100.0 * 86400.0;
/// How often the bars are drawn.
const TICK: Duration = Duration::from_millis(200);
/// After how many seconds a change of speed shows for the most part.
const SMOOTHING: f64 = 3.0;
const EVENT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            label: "sending".to_owned(),
            bytes: 512 << 20,
            total: 2 << 30,
            files: 3,
            total_files: 120,
            per_second: f64::from(100 << 20),
            current: "holiday/photo.jpg".to_owned(),
        }
    }

    #[test]
    fn a_line_has_what_fits_into_the_terminal_and_is_shorter_than_that() {
        let line = facts().line(80);
        assert_eq!(line, "sending  25% 512.00 MiB/2.00 GiB 3/120 files 100.00 MiB/s eta 15s holiday/ph...");
        for width in 0..200 {
            let line = facts().line(width);
            assert!(line.len() <= width.saturating_sub(1).max(4), "{width}: {line}");
            assert!(line.contains("25%"));
        }
        assert_eq!(facts().line(30), "sending  25% 100.00 MiB/s");
        let few = Facts { total: 2 << 20, bytes: 512 << 10, total_files: 0, per_second: 0.0, ..facts() };
        assert_eq!(few.line(80), "sending  25% [#####---------------] 512.00 KiB/2.00 MiB holiday/photo.jpg");
    }

    #[test]
    fn all_is_done_only_at_the_end() {
        let percent = |bytes, total| Facts { bytes, total, ..facts() }.percent();
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent((2 << 30) - 1, 2 << 30), 99);
        assert_eq!(percent(3 << 30, 2 << 30), 100);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
    }

    #[test]
    fn events_are_for_programs_that_want_to_know() {
        let events = |json, quiet| Progress::of(OutputArgs { json, quiet }).events;
        assert!(events(true, false));
        assert!(!events(true, true) && !events(false, false) && !events(false, true));
    }

    #[test]
    fn what_a_peer_calls_a_file_steers_no_terminal() {
        let facts =
            Facts { current: "a\x1b[2Jb".to_owned(), label: String::new(), total_files: 0, per_second: 0.0, ..facts() };
        assert!(facts.line(80).ends_with("a\\u{1b}[2Jb"), "{}", facts.line(80));
    }
}
