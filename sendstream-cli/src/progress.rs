//! Bars on a terminal, notes in a pipe. All of it goes to standard error; results are `summary`'s.

use std::{fmt, io::Write as _, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where a command says how it goes.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// Draws on standard error if that is a terminal, else nowhere.
    bars: MultiProgress,
    quiet: bool,
}

impl Progress {
    /// With `quiet`, only warnings are shown.
    pub(crate) fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { bars: MultiProgress::with_draw_target(target), quiet }
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
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant and was tried");
        let bar = self.bars.add(ProgressBar::new(total).with_style(style).with_prefix(label.into()));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Bar(bar)
    }

    /// Does something that writes to the terminal, while the bars are out of the way.
    pub(crate) fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bars.suspend(work)
    }

    fn print(&self, line: impl fmt::Display) {
        // Nobody is left to tell when standard error is closed.
        self.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }
}

/// One transfer's bar. It vanishes when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// So many bytes more are through.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// So many bytes more are to come than was said before.
    pub(crate) fn expect(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    /// Says what is being transferred right now.
    pub(crate) fn show(&self, what: impl fmt::Display) {
        if !self.0.is_hidden() {
            self.0.set_message(what.to_string());
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

const TEMPLATE: &str =
    "{prefix} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}";
