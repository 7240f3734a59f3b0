//! The rows that Sendstream is judged by: each has a floor, which it must not fall below, and a
//! goal.

use serde::Serialize;

use crate::{cases, figures::Figures};

/// What came of one row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    pub(crate) workload: String,
    pub(crate) floor: Vec<Judged>,
    pub(crate) goal: Vec<Judged>,
}

/// What came of one comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judged {
    /// Such as `<= 1.08 x raw`.
    pub(crate) wanted: String,
    /// Sendstream's median over the other's, or the difference for `+`; `None` where one of them
    /// was not measured.
    pub(crate) found: Option<f64>,
    /// `None` where it cannot be said.
    pub(crate) reached: Option<bool>,
}

/// A row of the table.
struct Row {
    workload: &'static str,
    one_cpu: bool,
    /// The stack that is judged, and the figure.
    stack: &'static str,
    figure: &'static str,
    what: &'static str,
    floor: &'static [Wanted],
    goal: &'static [Wanted],
}

/// What a figure is compared with.
#[derive(Clone, Copy)]
enum Wanted {
    AtMost(f64, &'static str),
    LessThan(f64, &'static str),
    AtLeast(f64, &'static str),
    MoreThan(f64, &'static str),
    /// No more than so much above the other's.
    AtMostAbove(f64, &'static str),
}

use Wanted::{AtLeast, AtMost, AtMostAbove, LessThan, MoreThan};

/// Judges every row, as far as its cases were measured.
pub(crate) fn judge(figures: &Figures) -> Vec<Verdict> {
    let rows = rows().into_iter().map(|row| row.judge(figures));
    rows.chain([TOKIO, LOCAL].map(|stack| judge_flatness(figures, stack))).collect()
}

/// Whether a message takes the same time, however many there are: the longest over the shortest of
/// the medians. Each is taken as a ratio to the median of `raw` in the same case, as a machine may
/// be twice as fast some minutes later; `raw` itself is printed too, as it is.
fn judge_flatness(figures: &Figures, stack: &'static str) -> Verdict {
    let times = |stack| {
        cases::MESSAGE_COUNTS.iter().map(move |count| {
            let case = cases::name(&cases::message_count(*count), true);
            Some(figures.get(&case, stack, "us_per_message")?.median)
        })
    };
    let ratios: Option<Vec<f64>> = times(stack).zip(times("raw")).map(|(own, raw)| Some(own? / raw?)).collect();
    Verdict {
        workload: format!("1000 to 1000000 messages, one CPU: us/message x raw, longest over shortest ({stack})"),
        floor: vec![judged_flatness(ratios.as_deref())],
        goal: Vec::new(),
    }
}

fn judged_flatness(times: Option<&[f64]>) -> Judged {
    let found = times
        .map(|times| times.iter().copied().fold(0.0, f64::max) / times.iter().copied().fold(f64::INFINITY, f64::min));
    Judged { wanted: format!("<= {FLAT}"), found, reached: found.map(|found| found <= FLAT) }
}

/// How much longer than the shortest time the longest may be.
const FLAT: f64 = 1.2;

impl Row {
    fn judge(&self, figures: &Figures) -> Verdict {
        let case = cases::name(self.workload, self.one_cpu);
        let own = figures.get(&case, self.stack, self.figure).map(|spread| spread.median);
        let compare = |wanted: &Wanted| {
            let other = figures.get(&case, wanted.other(), self.figure).map(|spread| spread.median);
            wanted.judge(own, other)
        };
        Verdict {
            workload: format!("{case}: {} ({})", self.what, self.stack),
            floor: self.floor.iter().map(compare).collect(),
            goal: self.goal.iter().map(compare).collect(),
        }
    }
}

impl Wanted {
    fn other(self) -> &'static str {
        match self {
            AtMost(_, other) | LessThan(_, other) | AtLeast(_, other) | MoreThan(_, other) | AtMostAbove(_, other) => {
                other
            }
        }
    }

    fn judge(self, own: Option<f64>, other: Option<f64>) -> Judged {
        let wanted = match self {
            AtMost(factor, other) => format!("<= {factor} x {other}"),
            LessThan(factor, other) => format!("< {factor} x {other}"),
            AtLeast(factor, other) => format!(">= {factor} x {other}"),
            MoreThan(factor, other) => format!("> {factor} x {other}"),
            AtMostAbove(more, other) => format!("<= {other} + {more} KiB"),
        };
        let found = own.zip(other).map(|(own, other)| match self {
            AtMostAbove(..) => own - other,
            _ => own / other,
        });
        let reached = found.map(|found| match self {
            AtMost(limit, _) | AtMostAbove(limit, _) => found <= limit,
            LessThan(limit, _) => found < limit,
            AtLeast(limit, _) => found >= limit,
            MoreThan(limit, _) => found > limit,
        });
        Judged { wanted, found, reached }
    }
}

const TOKIO: &str = "sendstream";
const LENT: &str = "sendstream-lent";
const LOCAL: &str = "sendstream-local";

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for workload in [cases::BULK_64_KIB, cases::BULK_1_MIB] {
        rows.push(Row {
            workload,
            one_cpu: true,
            stack: TOKIO,
            figure: "cpu_seconds_per_gib",
            what: "CPU per GiB",
            floor: &[AtMost(1.08, "raw")],
            goal: &[AtMost(0.95, "raw"), AtMost(0.6, "quinn"), AtMost(0.6, "s2n-quic")],
        });
        rows.push(Row {
            workload,
            one_cpu: false,
            stack: TOKIO,
            figure: "mib_per_second",
            what: "MiB/s",
            floor: &[AtLeast(0.95, "raw")],
            goal: &[MoreThan(1.0, "raw"), AtLeast(1.4, "quinn"), AtLeast(1.4, "s2n-quic")],
        });
    }
    rows.push(Row {
        workload: cases::BULK_4_KIB,
        one_cpu: true,
        stack: TOKIO,
        figure: "mib_per_second",
        what: "MiB/s",
        floor: &[AtLeast(0.9, "raw")],
        goal: &[AtLeast(1.1, "raw")],
    });
    rows.push(Row {
        workload: cases::ASYNC_WRITE,
        one_cpu: false,
        stack: TOKIO,
        figure: "mib_per_second",
        what: "MiB/s",
        floor: &[AtLeast(1.0, "quinn")],
        goal: &[AtLeast(1.3, "quinn")],
    });
    rows.push(Row {
        workload: cases::MESSAGES,
        one_cpu: false,
        stack: TOKIO,
        figure: "messages_per_second",
        what: "messages/s",
        floor: &[AtLeast(0.75, "raw"), AtLeast(1.0, "quinn"), AtLeast(1.0, "s2n-quic"), AtLeast(3.0, "msquic-async")],
        goal: &[AtLeast(1.0, "raw")],
    });
    rows.push(Row {
        workload: cases::MESSAGES,
        one_cpu: true,
        stack: LOCAL,
        figure: "cpu_us_per_message",
        what: "CPU us/message",
        floor: &[AtMost(1.1, "raw")],
        goal: &[LessThan(1.0, "raw"), LessThan(1.0, "tokio-quiche")],
    });
    // Both are tokio's tasks. Who wants the short time lends it the workers.
    for stack in [TOKIO, LENT] {
        rows.push(Row {
            workload: cases::PING_PONG,
            one_cpu: false,
            stack,
            figure: "p50_us",
            what: "p50",
            floor: &[AtMost(0.5, "msquic-async")],
            goal: &[AtMost(1.0, "s2n-quic")],
        });
    }
    rows.push(Row {
        workload: cases::PING_PONG,
        one_cpu: true,
        stack: LOCAL,
        figure: "p50_us",
        what: "p50",
        floor: &[AtMost(1.1, "raw")],
        goal: &[LessThan(1.0, "quinn"), AtMost(1.0, "tokio-quiche")],
    });
    rows.push(Row {
        workload: cases::CONNECT,
        one_cpu: false,
        stack: TOKIO,
        figure: "connects_per_second",
        what: "connects/s",
        floor: &[AtLeast(0.95, "raw")],
        goal: &[AtLeast(1.0, "quinn")],
    });
    rows.push(Row {
        workload: cases::IDLE_CONNECTIONS,
        one_cpu: false,
        stack: TOKIO,
        figure: "kib_per_connection",
        what: "KiB each",
        floor: &[AtMostAbove(2.0, "raw")],
        goal: &[AtMost(0.5, "raw")],
    });
    rows.push(Row {
        workload: cases::OPEN_STREAMS,
        one_cpu: false,
        stack: TOKIO,
        figure: "kib_per_stream",
        what: "KiB each",
        floor: &[AtMostAbove(0.5, "raw")],
        goal: &[AtMost(0.5, "raw")],
    });
    for workload in [cases::BULK_1200, cases::BULK_4_KIB, cases::BULK_64_KIB, cases::BULK_1_MIB] {
        rows.push(Row {
            workload,
            one_cpu: false,
            stack: TOKIO,
            figure: "peak_resident_kib",
            what: "peak resident",
            floor: &[AtMostAbove(8192.0, "raw")],
            goal: &[],
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_says_ratio_and_outcome() {
        let judged = AtMost(1.08, "raw").judge(Some(2.16), Some(2.0));
        assert_eq!((judged.found, judged.reached), (Some(1.08), Some(true)));
        assert_eq!(judged.wanted, "<= 1.08 x raw");
        assert_eq!(MoreThan(1.0, "raw").judge(Some(1.0), Some(1.0)).reached, Some(false));
        assert_eq!(LessThan(1.0, "raw").judge(Some(1.0), Some(1.0)).reached, Some(false));
        assert_eq!(AtLeast(3.0, "x").judge(Some(2.9), Some(1.0)).reached, Some(false));
    }

    #[test]
    fn a_difference_is_in_kib() {
        let judged = AtMostAbove(8192.0, "raw").judge(Some(10_000.0), Some(2000.0));
        assert_eq!((judged.found, judged.reached), (Some(8000.0), Some(true)));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(AtMost(1.0, "raw").judge(Some(1.0), None).reached, None);
        assert_eq!(AtMost(1.0, "raw").judge(None, Some(1.0)).reached, None);
    }

    #[test]
    fn times_are_flat_within_a_fifth_of_the_shortest() {
        assert_eq!(judged_flatness(Some(&[4.0, 4.5, 4.75, 4.25])).reached, Some(true));
        assert_eq!(judged_flatness(Some(&[4.0, 5.0, 4.5, 4.5])).found, Some(1.25));
        assert_eq!(judged_flatness(Some(&[4.0, 5.0, 4.5, 4.5])).reached, Some(false));
        assert_eq!(judged_flatness(None).reached, None);
    }

    #[test]
    fn every_row_names_a_case_and_a_figure_that_exist() {
        let cases: Vec<String> = cases::all(false, false).iter().map(cases::Case::name).collect();
        for row in rows() {
            let case = cases::name(row.workload, row.one_cpu);
            assert!(cases.contains(&case), "{case}");
        }
        let cases: Vec<String> = cases::all(false, true).iter().map(cases::Case::name).collect();
        for count in cases::MESSAGE_COUNTS {
            assert!(cases.contains(&cases::name(&cases::message_count(count), true)), "{count}");
        }
    }
}
