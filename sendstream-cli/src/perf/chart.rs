//! Charts as SVG, inside of a page whose style they use.
//!
//! Nothing here comes from a peer but numbers, and every text is one of ours.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::{lines::PERCENTILES, units};

/// Values over time.
pub(crate) struct Chart<'a> {
    /// What it shows, for those who cannot see it.
    pub(crate) label: &'a str,
    /// [`WIDE`] or [`NARROW`].
    pub(crate) width: f64,
    pub(crate) series: Vec<Series<'a>>,
    /// The whole time, in seconds. What is before 0 was omitted.
    pub(crate) time: (f64, f64),
    pub(crate) scale: Scale,
    /// Moments to mark, each with what happened.
    pub(crate) marks: Vec<(f64, String)>,
}

pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// `up` or `down`: its colour.
    pub(crate) class: &'a str,
    pub(crate) shape: Shape,
    pub(crate) values: Vec<Value>,
}

/// A value of a part of the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A value that holds for all of its time, over a filled area.
    Area,
    /// A value at the end of its time.
    Line,
}

/// How values are written, and which of them are round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    BitsPerSecond,
    PerSecond,
    Bytes,
    /// In nanoseconds.
    Time,
}

impl Scale {
    fn text(self, value: f64) -> String {
        let text = match self {
            Self::BitsPerSecond => units::bits_per_second(value),
            Self::PerSecond if value >= 10_000.0 => format!("{}k", trim(value / 1000.0)),
            Self::PerSecond => trim(value),
            Self::Bytes => units::bytes(value.max(0.0) as u64),
            Self::Time => units::time(value),
        };
        text.trim_start().to_owned()
    }

    /// The same of a round value, without digits that say nothing.
    fn round_text(self, value: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        let text = self.text(value);
        match text.split_once(' ') {
            Some((number, unit)) if number.contains('.') => {
                format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
            }
            _ => text,
        }
    }

    /// The step between lines: a round number, so that there are three to six of them up to `most`.
    fn step(self, most: f64) -> f64 {
        let rough = most / 5.0;
        let base: f64 = if self == Self::Bytes { 1024.0 } else { 10.0 };
        let power = base.powf(rough.log(base).floor());
        let steps: &[f64] = if self == Self::Bytes {
            &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]
        } else {
            &[1.0, 2.0, 2.5, 5.0, 10.0]
        };
        let step = steps.iter().map(|step| step * power).find(|step| *step >= rough * 0.999);
        step.unwrap_or(power * base)
    }
}

impl Chart<'_> {
    pub(crate) fn svg(&self) -> String {
        let most = self.series.iter().flat_map(|series| &series.values).map(|value| value.value).fold(0.0, f64::max);
        let step = self.scale.step(if most > 0.0 { most } else { 1.0 });
        let top = (most / step).ceil().max(1.0) * step;
        let frame = Frame { x: self.time, y: (0.0, top), right: self.width - MARGIN };
        let mut svg = begin(self.label, self.width);
        if self.time.0 < 0.0 {
            let (left, right) = (frame.x(self.time.0), frame.x(0.0));
            let _ = write!(
                svg,
                "<rect class=omitted x={left:.1} y={TOP} width={:.1} height={}><title>omitted</title></rect>",
                right - left,
                BOTTOM - TOP
            );
        }
        for line in 0..=(top / step).round() as u32 {
            frame.level(&mut svg, f64::from(line) * step, &self.scale.round_text(f64::from(line) * step));
        }
        let time_step =
            Scale::PerSecond.step((self.time.1 - self.time.0).max(0.1) * if self.width < WIDE { 1.0 } else { 0.5 });
        let mut at = (self.time.0 / time_step).ceil() * time_step;
        while at <= self.time.1 + time_step * 1e-6 {
            frame.moment(&mut svg, at, &format!("{} s", trim(at)));
            at += time_step;
        }
        for series in &self.series {
            series.draw(&mut svg, &frame);
        }
        for (at, what) in &self.marks {
            let _ =
                write!(svg, "<circle class=mark cx={:.1} cy={BOTTOM} r=3><title>{what}</title></circle>", frame.x(*at));
        }
        self.tips(&mut svg, &frame);
        svg + "</svg>"
    }

    /// What a pointer over the chart is told.
    fn tips(&self, svg: &mut String, frame: &Frame) {
        let Some(first) = self.series.first() else { return };
        for (index, value) in first.values.iter().enumerate() {
            let mut tip = format!("{}–{} s", trim(value.start), trim(value.end));
            for series in &self.series {
                if let Some(value) = series.values.get(index) {
                    let name = if self.series.len() > 1 { series.name } else { "" };
                    let _ = write!(tip, "\n{name} {}", self.scale.text(value.value));
                }
            }
            let (left, right) = (frame.x(value.start), frame.x(value.end));
            let _ = write!(
                svg,
                "<rect class=tip x={left:.1} y={TOP} width={:.1} height={}><title>{tip}</title></rect>",
                (right - left).max(0.1),
                BOTTOM - TOP
            );
        }
    }
}

impl Series<'_> {
    fn draw(&self, svg: &mut String, frame: &Frame) {
        let (Some(first), Some(last)) = (self.values.first(), self.values.last()) else { return };
        let mut path = String::new();
        for (index, value) in self.values.iter().enumerate() {
            let (left, right, y) = (frame.x(value.start), frame.x(value.end), frame.y(value.value));
            let verb = if index == 0 { 'M' } else { 'L' };
            match self.shape {
                Shape::Area => drop(write!(path, "{verb}{left:.1} {y:.1}H{right:.1}")),
                Shape::Line => drop(write!(path, "{verb}{right:.1} {y:.1}")),
            }
        }
        if self.shape == Shape::Area {
            let (left, right) = (frame.x(first.start), frame.x(last.end));
            let _ = write!(svg, "<path class=\"area {}\" d=\"{path}L{right:.1} {BOTTOM}H{left:.1}Z\"/>", self.class);
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", self.class);
    }
}

/// How often which times were: the higher, the more. Times are in nanoseconds.
pub(crate) fn histogram(label: &str, times: &Histogram<u64>) -> String {
    let mut svg = begin(label, WIDE);
    if times.is_empty() {
        return svg + "</svg>";
    }
    // From a little below the shortest to a little above the longest, in steps that grow.
    let (low, high) = ((times.min() as f64 * 0.95).max(1.0), (times.max() as f64 * 1.05).max(2.0));
    let (low_log, high_log) = (low.ln(), high.ln().max(low.ln() + 0.05));
    let edge = |index: usize| (low_log + (high_log - low_log) * index as f64 / BARS as f64).exp();
    let counts: Vec<u64> = (0..BARS)
        .map(|index| times.count_between(edge(index).ceil() as u64, (edge(index + 1).ceil() as u64).saturating_sub(1)))
        .collect();
    let share = |count: u64| count as f64 * 100.0 / times.len() as f64;
    let most = counts.iter().copied().map(share).fold(0.0, f64::max);
    let step = Scale::PerSecond.step(most);
    // With room for names above the bars.
    let top = (most * 1.12 / step).ceil().max(1.0) * step;
    let frame = Frame { x: (low_log, high_log), y: (0.0, top), right: WIDE - MARGIN };
    for line in 0..=(top / step).round() as u32 {
        let at = f64::from(line) * step;
        frame.level(&mut svg, at, &format!("{}%", trim(at)));
    }
    for at in round_times(low, high) {
        frame.moment(&mut svg, at.ln(), &Scale::Time.round_text(at));
    }
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (left, right) = (frame.x(edge(index).ln()), frame.x(edge(index + 1).ln()));
        // One of a million is seen as well.
        let height = (BOTTOM - frame.y(share(*count))).max(1.5);
        let _ = write!(
            svg,
            "<rect class=bar x={:.1} y={:.1} width={:.1} height={height:.1}><title>{} to {}\n{count} ({:.2}%)</title></rect>",
            left + 0.5,
            BOTTOM - height,
            (right - left - 1.0).max(0.5),
            Scale::Time.text(edge(index)),
            Scale::Time.text(edge(index + 1)),
            share(*count),
        );
    }
    let mut beside = f64::NEG_INFINITY;
    let mut row = 0.0;
    for (name, quantile) in PERCENTILES {
        let value = times.value_at_quantile(quantile);
        let x = frame.x((value as f64).ln());
        let at_end = x > frame.right - LABEL;
        let (anchor, from, at) = if at_end { ("end", x - LABEL, x - 4.0) } else { ("start", x, x + 4.0) };
        // Labels that would lie on each other go down a row.
        row = if from < beside { row + 1.0 } else { 0.0 };
        beside = from + LABEL;
        let _ = write!(
            svg,
            "<line class=percentile x1={x:.1} x2={x:.1} y1={TOP} y2={BOTTOM}><title>{name} {0}</title></line>\
             <text class=percentile x={1:.1} y={2:.1} text-anchor={anchor}>{name}</text>",
            Scale::Time.text(value as f64),
            at,
            TOP + 10.0 + row * 13.0,
        );
    }
    svg + "</svg>"
}

/// Round times within bounds: one, two and five of each power of ten, or finer if these are few.
fn round_times(low: f64, high: f64) -> Vec<f64> {
    if high / low < 4.0 {
        let step = Scale::Time.step(high - low);
        let first = (low / step).ceil();
        return (0..8).map(|index| (first + f64::from(index)) * step).filter(|at| (low..=high).contains(at)).collect();
    }
    let steps: &[f64] = if high / low < 2000.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let times = (0..11).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    times.filter(|at| (low..=high).contains(at)).collect()
}

/// The part of the picture in which values are.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    /// Where it ends.
    right: f64,
}

impl Frame {
    fn x(&self, at: f64) -> f64 {
        LEFT + (self.right - LEFT) * ((at - self.x.0) / (self.x.1 - self.x.0).max(1e-9)).clamp(0.0, 1.0)
    }

    fn y(&self, at: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * ((at - self.y.0) / (self.y.1 - self.y.0).max(1e-9)).clamp(0.0, 1.0)
    }

    /// A line across, with its value.
    fn level(&self, svg: &mut String, at: f64, text: &str) {
        let y = self.y(at);
        let _ = write!(
            svg,
            "<line class=grid x1={LEFT} x2={} y1={y:.1} y2={y:.1} /><text class=axis x={:.1} y={:.1} text-anchor=end>{text}</text>",
            self.right,
            LEFT - 8.0,
            y + 4.0
        );
    }

    /// A value of the lower axis.
    fn moment(&self, svg: &mut String, at: f64, text: &str) {
        let x = self.x(at);
        let _ = write!(
            svg,
            "<line class=tick x1={x:.1} x2={x:.1} y1={BOTTOM} y2={} /><text class=axis x={x:.1} y={} text-anchor=middle>{text}</text>",
            BOTTOM + 4.0,
            BOTTOM + 18.0
        );
    }
}

fn begin(label: &str, width: f64) -> String {
    format!("<svg viewBox=\"0 0 {width} {HEIGHT}\" role=img aria-label=\"{label}\">")
}

/// A number with up to two decimals, of which those at the end that are 0 are left out.
fn trim(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// How wide a chart is that has a row for itself, and one of two in a row.
pub(crate) const WIDE: f64 = 1040.0;
pub(crate) const NARROW: f64 = 510.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 92.0;
/// How much of it is beyond the last value.
const MARGIN: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 222.0;
/// How much room a percentile's name takes.
const LABEL: f64 = 48.0;
/// How many bars a histogram has.
const BARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_at_round_values() {
        assert_eq!(Scale::BitsPerSecond.step(941e6), 200e6);
        assert_eq!(Scale::PerSecond.step(1.0), 0.2);
        assert_eq!(Scale::Bytes.step(1_373_634.0), 524_288.0);
        assert_eq!(Scale::Time.step(420_000.0), 100_000.0);
        assert_eq!(Scale::BitsPerSecond.round_text(200e6), "200 Mbits/sec");
        assert_eq!(Scale::BitsPerSecond.round_text(1.5e9), "1.5 Gbits/sec");
        assert_eq!(Scale::Bytes.round_text(524_288.0), "512 KBytes");
        assert_eq!(Scale::PerSecond.round_text(20_000.0), "20k");
        assert_eq!(round_times(90.0, 2100.0), [100.0, 200.0, 500.0, 1000.0, 2000.0]);
        assert_eq!(round_times(41_000.0, 60_000.0).len(), 4);
    }

    #[test]
    fn a_chart_of_nothing_or_of_one_value_is_drawn_as_well() {
        let value = Value { start: 0.0, end: 1.0, value: 0.0 };
        for values in [vec![], vec![value], vec![Value { value: f64::from(u32::MAX), ..value }]] {
            for shape in [Shape::Area, Shape::Line] {
                let series = vec![Series { name: "upload", class: "up", shape, values: values.clone() }];
                let svg =
                    Chart { label: "x", width: WIDE, series, time: (0.0, 0.0), scale: Scale::Bytes, marks: Vec::new() }
                        .svg();
                assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn a_histogram_counts_everything_once() {
        let mut times = Histogram::<u64>::new(3).unwrap();
        for time in [1, 1, 50_000, 60_000_000_000] {
            times.record(time).unwrap();
        }
        let svg = histogram("x", &times);
        let counted: u64 = svg
            .split("class=bar")
            .skip(1)
            .map(|bar| bar.split_once('\n').unwrap().1.split_once(' ').unwrap().0.parse::<u64>().unwrap())
            .sum();
        assert_eq!(counted, 4);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        histogram("x", &Histogram::new(3).unwrap());
    }
}
