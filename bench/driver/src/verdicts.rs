//! The rows that Sendstream is judged by: each has a floor, which it must not fall below, and a
//! goal.

use serde::Serialize;

use crate::{
    cases::{self, ALL_CPUS, HTTP3, ONE_CPU, Place},
    figures::Figures,
};

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
    /// Sendstream's median over the other's, the difference for `+`, or which part of the runs came
    /// to its end; `None` where one of them was not measured.
    pub(crate) found: Option<f64>,
    /// `None` where it cannot be said.
    pub(crate) reached: Option<bool>,
}

/// A row of the table.
#[derive(Clone)]
struct Row {
    workload: &'static str,
    place: Place,
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
    /// No more than so much above the other's.
    AtMostAbove(f64, &'static str),
    /// At least so much of the best peer's.
    AtLeastBest(f64),
}

use Wanted::{AtLeast, AtLeastBest, AtMost, AtMostAbove, LessThan};

/// Judges every row, as far as its cases were measured.
pub(crate) fn judge(figures: &Figures) -> Vec<Verdict> {
    let rows = rows().into_iter().map(|row| row.judge(figures));
    let completion = [ALL_CPUS, ALL_CPUS.in_two_processes()].map(|place| judge_completion(figures, place));
    let flatness = [TOKIO, LOCAL].map(|stack| judge_flatness(figures, stack));
    rows.chain(completion).chain(flatness).collect()
}

/// Whether a message takes the same time, however many there are: the longest over the shortest of
/// the medians. Each is taken as a ratio to the median of `raw` in the same case, as a machine may
/// be twice as fast some minutes later; `raw` itself is printed too, as it is.
fn judge_flatness(figures: &Figures, stack: &'static str) -> Verdict {
    let times = |stack| {
        cases::MESSAGE_COUNTS.iter().map(move |count| {
            let case = cases::name(&cases::message_count(*count), ONE_CPU);
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

/// Whether all runs with few descriptors came to their end, when the receiver has compared every
/// byte.
fn judge_completion(figures: &Figures, place: Place) -> Verdict {
    let case = cases::name(cases::FEW_DESCRIPTORS, place);
    let found = figures.completed(&case, TOKIO);
    Verdict {
        workload: format!("{case}: runs that end with every byte compared ({TOKIO})"),
        floor: vec![Judged { wanted: "all".to_owned(), found, reached: found.map(|found| found == 1.0) }],
        goal: Vec::new(),
    }
}

impl Row {
    fn new(
        workload: &'static str,
        place: Place,
        stack: &'static str,
        (figure, what): (&'static str, &'static str),
        floor: &'static [Wanted],
        goal: &'static [Wanted],
    ) -> Self {
        Self { workload, place, stack, figure, what, floor, goal }
    }

    fn judge(&self, figures: &Figures) -> Verdict {
        let case = cases::name(self.workload, self.place);
        let median = |stack| figures.get(&case, stack, self.figure).map(|spread| spread.median);
        let compare = |wanted: &Wanted| wanted.judge(median(self.stack), median);
        Verdict {
            workload: format!("{case}: {} ({})", self.what, self.stack),
            floor: self.floor.iter().map(compare).collect(),
            goal: self.goal.iter().map(compare).collect(),
        }
    }

    fn in_two_processes(&self) -> Self {
        Self { place: self.place.in_two_processes(), ..self.clone() }
    }
}

impl Wanted {
    /// `median` gives the figure of another stack.
    fn judge(self, own: Option<f64>, median: impl Fn(&'static str) -> Option<f64>) -> Judged {
        let (wanted, other) = match self {
            AtMost(factor, other) => (format!("<= {factor} x {other}"), median(other)),
            LessThan(factor, other) => (format!("< {factor} x {other}"), median(other)),
            AtLeast(factor, other) => (format!(">= {factor} x {other}"), median(other)),
            AtMostAbove(more, other) => (format!("<= {other} + {more} KiB"), median(other)),
            AtLeastBest(factor) => {
                let medians = PEERS.into_iter().filter_map(|peer| Some((peer, median(peer)?)));
                match medians.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
                    Some((peer, best)) => (format!(">= {factor} x the best peer ({peer})"), Some(best)),
                    None => (format!(">= {factor} x the best peer"), None),
                }
            }
        };
        let found = own.zip(other).map(|(own, other)| match self {
            AtMostAbove(..) => own - other,
            _ => own / other,
        });
        let reached = found.map(|found| match self {
            AtMost(limit, _) | AtMostAbove(limit, _) => found <= limit,
            LessThan(limit, _) => found < limit,
            AtLeast(limit, _) | AtLeastBest(limit) => found >= limit,
        });
        Judged { wanted, found, reached }
    }
}

const TOKIO: &str = "sendstream";
const LOCAL: &str = "sendstream-local";

/// The stacks that are neither ours nor plain MsQuic.
const PEERS: [&str; 4] = ["msquic-async", "quinn", "s2n-quic", "tokio-quiche"];

/// The rows in one process, and those of them that are judged in two as well.
fn rows() -> Vec<Row> {
    let judged_twice = rows_in_both();
    let apart: Vec<Row> = judged_twice.iter().map(Row::in_two_processes).collect();
    [judged_twice, rows_in_one_process(), apart, rows_of_http3()].concat()
}

/// The same handlers on other stacks. The generator's QUIC is Sendstream; what quinn's says stands in
/// the tables.
fn rows_of_http3() -> Vec<Row> {
    let (rate, throughput) = (("requests_per_second", "requests/s"), ("mb_per_second", "MB/s"));
    let cpu = ("server_cpu_us_per_request", "the server's CPU us/request");
    let ahead: &[Wanted] = &[AtLeast(1.3, "http3-quinn")];
    let mut rows = vec![
        Row::new(cases::HTTP3_1_X_1, HTTP3, SERVER, rate, &[AtLeast(1.0, "http3-quinn")], ALSO_AHEAD),
        Row::new(cases::HTTP3_2_X_32, HTTP3, SERVER, rate, ahead, ALSO_AHEAD),
        Row::new(cases::HTTP3_64_X_64, HTTP3, SERVER, rate, ahead, ALSO_AHEAD),
        Row::new(cases::HTTP3_LARGE, HTTP3, SERVER, throughput, ahead, ALSO_AHEAD),
    ];
    for workload in [cases::HTTP3_1_X_1, cases::HTTP3_2_X_32, cases::HTTP3_64_X_64, cases::HTTP3_LARGE] {
        rows.push(Row::new(workload, HTTP3, SERVER, cpu, &[], &[AtMost(0.75, "http3-quinn")]));
    }
    rows
}

const SERVER: &str = "http3-sendstream";

/// The other two.
const ALSO_AHEAD: &[Wanted] = &[AtLeast(1.0, "http3-tokio-quiche"), AtLeast(1.0, "http3-msquic-async")];

/// Plain Sendstream, on tokio without any mode.
fn rows_in_both() -> Vec<Row> {
    let (p50, throughput) = (("p50_us", "p50"), ("mib_per_second", "MiB/s"));
    let peak = ("peak_resident_kib", "peak resident");
    let mut rows = vec![
        Row::new(
            cases::PING_PONG,
            ALL_CPUS,
            TOKIO,
            p50,
            &[AtMost(1.2, "quinn"), AtMost(0.5, "msquic-async")],
            &[AtMost(0.9, "quinn"), AtMost(1.0, "raw")],
        ),
        Row::new(
            cases::PING_PONG,
            ONE_CPU,
            TOKIO,
            p50,
            &[AtMost(1.2, "quinn")],
            &[AtMost(0.9, "quinn"), AtMost(1.0, "raw")],
        ),
        Row::new(
            cases::MESSAGES,
            ONE_CPU,
            TOKIO,
            ("cpu_us_per_message", "CPU us/message"),
            &[AtMost(1.25, "raw"), AtMost(0.75, "s2n-quic")],
            &[AtMost(1.0, "raw"), AtMost(1.0, "tokio-quiche")],
        ),
        Row::new(
            cases::MESSAGES,
            ALL_CPUS,
            TOKIO,
            ("messages_per_second", "messages/s"),
            &[AtLeast(0.8, "raw"), AtLeast(1.3, "quinn"), AtLeast(1.3, "s2n-quic"), AtLeast(3.0, "msquic-async")],
            &[AtLeast(1.0, "raw"), AtLeast(1.0, "tokio-quiche")],
        ),
    ];
    for workload in [cases::BULK_64_KIB, cases::BULK_1_MIB] {
        let floor = &[AtLeast(1.0, "raw"), AtLeast(1.0, "quinn"), AtLeast(1.0, "s2n-quic")];
        rows.push(Row::new(workload, ALL_CPUS, TOKIO, throughput, floor, &[AtLeastBest(1.3)]));
    }
    for workload in [cases::BULK_1200, cases::BULK_4_KIB, cases::BULK_64_KIB, cases::BULK_1_MIB] {
        rows.push(Row::new(
            workload,
            ONE_CPU,
            TOKIO,
            ("cpu_seconds_per_gib", "CPU per GiB"),
            &[AtMost(1.0, "raw"), AtMost(0.7, "quinn")],
            &[AtMost(0.6, "quinn"), AtMost(0.6, "s2n-quic")],
        ));
    }
    for workload in [cases::TRANSFER, cases::TRANSFER_WHOLE] {
        rows.push(Row::new(
            workload,
            ALL_CPUS,
            TOKIO,
            ("p50_ms", "p50"),
            &[AtMost(1.0, "quinn")],
            &[AtMost(1.0, "raw")],
        ));
    }
    rows.extend([
        Row::new(
            cases::CONNECT,
            ONE_CPU,
            TOKIO,
            ("connects_per_second", "connects/s"),
            &[AtLeast(0.9, "quinn")],
            &[AtLeast(1.0, "s2n-quic")],
        ),
        Row::new(
            cases::CONNECTIONS_1000,
            ALL_CPUS,
            TOKIO,
            throughput,
            &[AtLeast(0.9, "s2n-quic")],
            &[AtLeast(1.0, "s2n-quic")],
        ),
        Row::new(cases::CONNECTIONS_1000, ALL_CPUS, TOKIO, peak, &[AtMost(1.5, "quinn")], &[AtMost(1.0, "s2n-quic")]),
        Row::new(
            cases::CONNECTIONS_100,
            ALL_CPUS,
            TOKIO,
            throughput,
            &[AtLeast(1.0, "s2n-quic")],
            &[AtLeast(1.3, "s2n-quic")],
        ),
        Row::new(cases::CONNECTIONS_100, ALL_CPUS, TOKIO, peak, &[AtMost(2.0, "quinn")], &[AtMost(1.0, "quinn")]),
        // Its floor is that it completes.
        Row::new(cases::FEW_DESCRIPTORS, ALL_CPUS, TOKIO, throughput, &[], &[AtLeast(1.0, "s2n-quic")]),
        Row::new(cases::IDLE_CPU, ALL_CPUS, TOKIO, ("cpu_ms_per_second", "CPU ms/s"), &[AtMost(1.0, "quinn")], &[]),
    ]);
    rows
}

/// What is judged in one process only, also of Sendstream's modes.
fn rows_in_one_process() -> Vec<Row> {
    let (p50, throughput) = (("p50_us", "p50"), ("mib_per_second", "MiB/s"));
    let (connects, cpu) = (("connects_per_second", "connects/s"), ("cpu_us_per_message", "CPU us/message"));
    let (each_connection, each_stream) = (("kib_per_connection", "KiB each"), ("kib_per_stream", "KiB each"));
    let mut rows = vec![
        Row::new(cases::BULK_4_KIB, ONE_CPU, TOKIO, throughput, &[AtLeast(0.9, "raw")], &[AtLeast(1.1, "raw")]),
        Row::new(cases::ASYNC_WRITE, ALL_CPUS, TOKIO, throughput, &[AtLeast(1.0, "quinn")], &[AtLeast(1.3, "quinn")]),
        Row::new(
            cases::MESSAGES,
            ONE_CPU,
            LOCAL,
            cpu,
            &[AtMost(1.1, "raw")],
            &[LessThan(1.0, "raw"), LessThan(1.0, "tokio-quiche")],
        ),
        Row::new(cases::PING_PONG, ALL_CPUS, TOKIO, p50, &[AtMost(0.5, "msquic-async")], &[AtMost(1.0, "s2n-quic")]),
        Row::new(
            cases::PING_PONG,
            ONE_CPU,
            LOCAL,
            p50,
            &[AtMost(1.1, "raw")],
            &[LessThan(1.0, "quinn"), AtMost(1.0, "tokio-quiche")],
        ),
        Row::new(cases::CONNECT, ALL_CPUS, TOKIO, connects, &[AtLeast(0.95, "raw")], &[AtLeast(1.0, "quinn")]),
        Row::new(
            cases::IDLE_CONNECTIONS,
            ALL_CPUS,
            TOKIO,
            each_connection,
            &[AtMostAbove(2.0, "raw")],
            &[AtMost(0.5, "raw")],
        ),
        Row::new(cases::OPEN_STREAMS, ALL_CPUS, TOKIO, each_stream, &[AtMostAbove(0.5, "raw")], &[AtMost(0.5, "raw")]),
    ];
    for workload in [cases::BULK_1200, cases::BULK_4_KIB, cases::BULK_64_KIB, cases::BULK_1_MIB] {
        let peak = ("peak_resident_kib", "peak resident");
        rows.push(Row::new(workload, ALL_CPUS, TOKIO, peak, &[AtMostAbove(8192.0, "raw")], &[]));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our figure by another's, as `wanted` judges it.
    fn judged(wanted: Wanted, own: f64, other: f64) -> Judged {
        wanted.judge(Some(own), |_| Some(other))
    }

    #[test]
    fn a_comparison_says_ratio_and_outcome() {
        let at_most = judged(AtMost(1.08, "raw"), 2.16, 2.0);
        assert_eq!((at_most.found, at_most.reached), (Some(1.08), Some(true)));
        assert_eq!(at_most.wanted, "<= 1.08 x raw");
        assert_eq!(judged(LessThan(1.0, "raw"), 1.0, 1.0).reached, Some(false));
        assert_eq!(judged(AtLeast(3.0, "x"), 2.9, 1.0).reached, Some(false));
    }

    #[test]
    fn a_difference_is_in_kib() {
        let judged = judged(AtMostAbove(8192.0, "raw"), 10_000.0, 2000.0);
        assert_eq!((judged.found, judged.reached), (Some(8000.0), Some(true)));
    }

    #[test]
    fn the_best_peer_is_the_one_with_the_most() {
        let figure = |stack| match stack {
            "raw" => Some(9.0),
            "quinn" => Some(2.0),
            "s2n-quic" => Some(4.0),
            _ => None,
        };
        let judged = AtLeastBest(1.3).judge(Some(6.0), figure);
        assert_eq!((judged.found, judged.reached), (Some(1.5), Some(true)));
        assert_eq!(judged.wanted, ">= 1.3 x the best peer (s2n-quic)");
        assert_eq!(AtLeastBest(1.3).judge(Some(6.0), |_| None).reached, None);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(AtMost(1.0, "raw").judge(Some(1.0), |_| None).reached, None);
        assert_eq!(AtMost(1.0, "raw").judge(None, |_| Some(1.0)).reached, None);
    }

    #[test]
    fn times_are_flat_within_a_fifth_of_the_shortest() {
        assert_eq!(judged_flatness(Some(&[4.0, 4.5, 4.75, 4.25])).reached, Some(true));
        assert_eq!(judged_flatness(Some(&[4.0, 5.0, 4.5, 4.5])).found, Some(1.25));
        assert_eq!(judged_flatness(Some(&[4.0, 5.0, 4.5, 4.5])).reached, Some(false));
        assert_eq!(judged_flatness(None).reached, None);
    }

    #[test]
    fn every_row_names_a_case_that_exists() {
        let cases: Vec<String> = cases::all(false, true).iter().map(cases::Case::name).collect();
        for row in rows() {
            let case = cases::name(row.workload, row.place);
            assert!(cases.contains(&case), "{case}");
        }
        for count in cases::MESSAGE_COUNTS {
            assert!(cases.contains(&cases::name(&cases::message_count(count), ONE_CPU)), "{count}");
        }
    }

    #[test]
    fn a_case_that_the_system_does_not_allow_is_not_complete() {
        let place = ALL_CPUS.in_two_processes();
        let name = cases::name(cases::FEW_DESCRIPTORS, place);
        let all = cases::all(false, true);
        let case = all.iter().find(|case| case.name() == name).unwrap();
        let mut figures = Figures::default();
        assert_eq!(judge_completion(&figures, place).floor[0].reached, None);
        figures.add(case, TOKIO, serde_json::json!({}));
        assert_eq!(judge_completion(&figures, place).floor[0].reached, Some(true));
        figures.rule_out(case, TOKIO, "for a test".to_owned());
        assert_eq!(judge_completion(&figures, place).floor[0].reached, Some(false));
    }
}
