//! A run as a page for people: one file that loads nothing and runs nothing.

use std::fmt::{self, Write as _};

use sendstream::Printable;

use super::{
    chart::{Chart, NARROW, Scale, Series, Shape, Value, WIDE, histogram},
    lines::{PERCENTILES, title},
    outcome::{Ends, Outcome, Path, Point, Way},
    plan::{Direction, Load},
    units,
};

/// The page of a run, with what went wrong.
pub(crate) fn page(outcome: &Outcome, error: Option<&str>) -> String {
    let heading = match outcome.plan.direction {
        Direction::Up if outcome.plan.load.units().is_some() => capital(outcome.plan.load.units().unwrap_or_default()),
        Direction::Up => "Upload".to_owned(),
        Direction::Down => "Download".to_owned(),
        Direction::Both => "Upload and download".to_owned(),
    };
    let preposition = match outcome.plan.direction {
        Direction::Up => "to",
        Direction::Down => "from",
        Direction::Both => "with",
    };
    let heading = format!("{heading} {preposition} {}", outcome.server);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{0}</h1>\n<p>{1}</p>\n",
        Html(&heading),
        Html(&facts(outcome)),
    );
    if let Some(error) = error {
        let _ = writeln!(page, "<p class=error>{}</p>", Html(error));
    }
    page.push_str("</header>\n");
    if let Some(ends) = &outcome.ends {
        tiles(&mut page, outcome, ends);
    }
    over_time(&mut page, outcome);
    latency(&mut page, outcome);
    page.push_str("<div class=pair>\n");
    path(&mut page, outcome, "Round-trip time", "smoothed, the sender's", Scale::Time, |path| path.rtt as f64 * 1e3);
    path(&mut page, outcome, "Congestion window", "bytes in flight at most", Scale::Bytes, |path| path.cwnd as f64);
    page.push_str("</div>\n");
    table(&mut page, outcome);
    let _ = writeln!(page, "<footer>Measured by sendstream {}</footer>\n</body>\n</html>", env!("CARGO_PKG_VERSION"));
    page
}

/// What stands below the heading.
fn facts(outcome: &Outcome) -> String {
    let time = humantime::format_rfc3339_seconds(outcome.began).to_string().replace('T', " ").replace('Z', " UTC");
    let cipher = outcome.cipher.as_deref().map_or_else(String::new, |cipher| format!(" · QUIC with {cipher}"));
    format!("{time} · {}{cipher}", title(outcome))
}

fn tiles(page: &mut String, outcome: &Outcome, ends: &Ends) {
    page.push_str("<div class=tiles>\n");
    for (name, value, more) in figures(outcome, ends) {
        let _ = writeln!(
            page,
            "<div><span>{}</span><b>{}</b><span>{}</span></div>",
            Html(&name),
            Html(&value),
            Html(&more)
        );
    }
    page.push_str("</div>\n");
}

/// What people want to know first: names, values, and what belongs to them.
fn figures(outcome: &Outcome, ends: &Ends) -> Vec<(String, String, String)> {
    let time = |nanoseconds: f64| units::time(nanoseconds).trim().to_owned();
    let (load, times) = (outcome.plan.load, &outcome.latency);
    let mut figures = Vec::new();
    for way in outcome.ways() {
        let received = ends.received(way);
        if let Some(units) = load.units() {
            let rate = units::per_second(received.messages, received.seconds());
            let name = format!("{} per second", capital(units));
            figures.push((name, format!("{rate:.0}"), format!("{} in {:.2} s", received.messages, received.seconds())));
        }
        if !is_timed(load) {
            let rate = units::bits_per_second(units::rate(received.bytes(), received.seconds()));
            let amount = units::bytes(received.bytes());
            let more = format!("{} in {:.2} s", amount.trim(), received.seconds());
            figures.push((capital(way.name()), rate.trim().to_owned(), more));
        }
    }
    if !times.is_empty() {
        let name = match load {
            Load::PingPong(_) => "Median ping",
            Load::Handshakes => "Median handshake",
            _ => "Median round trip",
        };
        let range = format!("{} to {}", time(times.min() as f64), time(times.max() as f64));
        figures.push((name.to_owned(), time(times.value_at_quantile(0.5) as f64), range));
        let more = format!("p99.9 {}", time(times.value_at_quantile(0.999) as f64));
        figures.push(("99th percentile".to_owned(), time(times.value_at_quantile(0.99) as f64), more));
    }
    let losses = outcome.ways().map(|way| {
        if matches!(load, Load::Datagrams(_)) {
            let sent = ends.sent(way).messages;
            (sent.saturating_sub(ends.received(way).messages), sent)
        } else {
            ends.packets(way)
        }
    });
    let (lost, all) =
        losses.fold((0, 0), |sum: (u64, u64), (lost, all)| (sum.0.saturating_add(lost), sum.1.saturating_add(all)));
    let what = if matches!(load, Load::Datagrams(_)) { "Lost datagrams" } else { "Lost packets" };
    let share = lost as f64 * 100.0 / all.max(1) as f64;
    figures.push((what.to_owned(), lost.to_string(), format!("{share:.3}% of {all} sent")));
    figures
}

/// How much went through in each moment.
fn over_time(page: &mut String, outcome: &Outcome) {
    let rate =
        |way| series(outcome, way, Shape::Area, |point| Some(units::rate(point.of(way).bytes(), point.seconds())));
    let count = |way| {
        series(outcome, way, Shape::Area, |point| Some(units::per_second(point.of(way).messages, point.seconds())))
    };
    if let Some(units) = outcome.plan.load.units() {
        let title = format!("{} per second", capital(units));
        chart(page, outcome, &title, "", Scale::PerSecond, outcome.ways().map(count).collect());
    }
    if !is_timed(outcome.plan.load) {
        chart(page, outcome, "Throughput", "", Scale::BitsPerSecond, outcome.ways().map(rate).collect());
    }
}

/// How long things took.
fn latency(page: &mut String, outcome: &Outcome) {
    let times = &outcome.latency;
    if times.is_empty() {
        return;
    }
    let (title, small) = match outcome.plan.load {
        Load::PingPong(_) => ("Latency of pings", "from a ping to the last byte of its answer"),
        Load::Handshakes => ("Latency of handshakes", "from the first packet to a connection that can be used"),
        _ => ("Latency under load", "the sender's smoothed round-trip times"),
    };
    let _ = writeln!(
        page,
        "<section>\n<h2>{title}<small>{small}</small></h2>\n{}",
        histogram("How often which latency was", times)
    );
    page.push_str("<table>\n<thead><tr><th>Count</th><th>Min</th><th>Mean</th>");
    for (name, _) in PERCENTILES {
        let _ = write!(page, "<th>{name}</th>");
    }
    let _ = write!(page, "<th>Max</th></tr></thead>\n<tbody><tr><td>{}</td>", times.len());
    let all = [times.min() as f64, times.mean()].into_iter();
    let all = all.chain(PERCENTILES.map(|(_, quantile)| times.value_at_quantile(quantile) as f64));
    for value in all.chain([times.max() as f64]) {
        let _ = write!(page, "<td>{}</td>", units::time(value).trim());
    }
    page.push_str("</tr></tbody>\n</table>\n</section>\n");
}

/// A number of the senders' paths.
fn path(
    page: &mut String,
    outcome: &Outcome,
    title: &str,
    small: &str,
    scale: Scale,
    of: impl Fn(&Path) -> f64 + Copy,
) {
    let series = outcome.ways().map(|way| series(outcome, way, Shape::Line, |point| point.path(way).map(of)));
    chart(page, outcome, title, small, scale, series.collect());
}

fn series<'a>(outcome: &Outcome, way: Way, shape: Shape, value: impl Fn(&Point) -> Option<f64>) -> Series<'a> {
    let omit = outcome.plan.omit.as_secs_f64();
    // A rest that is much shorter than the others says little of a rate.
    let points = outcome.shown();
    let whole = points.first().map_or(0.0, Point::seconds) / 2.0;
    let points = points.iter().filter(|point| point.seconds() >= whole);
    let values = points.filter_map(|point| {
        let shift = if point.omitted { omit } else { 0.0 };
        Some(Value { start: point.start - shift, end: point.end - shift, value: value(point)? })
    });
    let class = if way == Way::Up { "up" } else { "down" };
    Series { name: way.name(), class, shape, values: values.collect() }
}

fn chart(page: &mut String, outcome: &Outcome, title: &str, small: &str, scale: Scale, series: Vec<Series<'_>>) {
    if series.iter().all(|series| series.values.is_empty()) {
        return;
    }
    let _ = write!(page, "<section>\n<h2>{title}<small>{small}</small><span class=keys>");
    if series.len() > 1 {
        for series in &series {
            let _ = write!(page, "<i class={}></i>{}", series.class, series.name);
        }
    }
    let shape_is_line = series.iter().all(|series| series.shape == Shape::Line);
    // Where packets were lost belongs to what the sender makes of it.
    let marks = if scale == Scale::Bytes { losses(outcome) } else { Vec::new() };
    if !marks.is_empty() {
        page.push_str("<i class=lost></i>packets lost");
    }
    let omit = outcome.plan.omit.as_secs_f64();
    let first = if outcome.points.first().is_some_and(|point| point.omitted) { -omit } else { 0.0 };
    let last = outcome.points.last().map_or(0.0, |point| if point.omitted { point.end - omit } else { point.end });
    let width = if shape_is_line { NARROW } else { WIDE };
    let chart = Chart { label: &format!("{title} over time"), width, series, time: (first, last), scale, marks };
    let _ = writeln!(page, "</span></h2>\n{}\n</section>", chart.svg());
}

fn losses(outcome: &Outcome) -> Vec<(f64, String)> {
    let omit = outcome.plan.omit.as_secs_f64();
    let lost = |point: &Point| {
        let paths = outcome.ways().filter_map(|way| point.path(way));
        let lost = paths.fold(0u64, |sum, path| sum.saturating_add(path.lost));
        let at = if point.omitted { point.end - omit } else { point.end };
        (lost > 0).then(|| (at, format!("{lost} lost")))
    };
    outcome.shown().iter().filter_map(lost).collect()
}

/// The lines as numbers.
fn table(page: &mut String, outcome: &Outcome) {
    if outcome.lines.is_empty() {
        return;
    }
    let units = outcome.plan.load.units();
    page.push_str("<section>\n<details>\n<summary>Intervals</summary>\n<table>\n<thead><tr><th>Seconds</th><th></th>");
    if let Some(units) = units {
        let _ = write!(page, "<th>{}</th>", capital(units));
    }
    page.push_str("<th>Transfer</th><th>Bitrate</th><th>Lost</th><th>Window</th><th>RTT</th></tr></thead>\n<tbody>\n");
    for index in 0..outcome.lines.len() {
        let point = outcome.line(index);
        for way in outcome.ways() {
            let counted = point.of(way);
            let class = if point.omitted { " class=omit" } else { "" };
            let (omitted, name) = (if point.omitted { " (omitted)" } else { "" }, way.name());
            let _ = write!(page, "<tr{class}><td>{:.2}–{:.2}{omitted}</td><td>{name}</td>", point.start, point.end);
            if units.is_some() {
                let _ = write!(page, "<td>{}</td>", counted.messages);
            }
            let rate = units::bits_per_second(units::rate(counted.bytes(), point.seconds()));
            let _ = write!(page, "<td>{}</td><td>{}</td>", units::bytes(counted.bytes()).trim(), rate.trim());
            let _ = match point.path(way) {
                Some(path) => writeln!(
                    page,
                    "<td>{}</td><td>{}</td><td>{}</td></tr>",
                    path.lost,
                    units::bytes(path.cwnd).trim(),
                    units::time(path.rtt as f64 * 1e3).trim()
                ),
                None => writeln!(page, "<td></td><td></td><td></td></tr>"),
            };
        }
    }
    page.push_str("</tbody>\n</table>\n</details>\n</section>\n");
}

/// Whether times are what the run is about.
fn is_timed(load: Load) -> bool {
    matches!(load, Load::PingPong(_) | Load::Handshakes)
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

/// Text that means nothing to a browser but itself.
struct Html<'a>(&'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in Printable::new(self.0).to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::{
        outcome::tests::outcome,
        plan::{Plan, example},
    };

    #[test]
    fn a_page_loads_nothing_and_runs_nothing() {
        for load in [Load::Bulk, Load::Messages(1024), Load::Datagrams(1200), Load::PingPong(64), Load::Handshakes] {
            for direction in [Direction::Up, Direction::Down, Direction::Both] {
                let page = page(&outcome(Plan { load, direction, ..example() }, 3), None);
                for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
                    assert!(!page.contains(outside), "{outside}");
                }
                assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
            }
        }
    }

    #[test]
    fn text_of_others_stays_text() {
        let mut run = outcome(example(), 1);
        run.server = "<script>alert(1)</script>".to_owned();
        let page = page(&run, Some("it said \"<b>&\u{202e}\""));
        assert!(page.contains("Upload to &lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(page.contains("it said &quot;&lt;b&gt;&amp;"));
        assert!(!page.contains("<script") && !page.contains("<b>&") && !page.contains('\u{202e}'));
    }

    #[test]
    fn a_run_that_broke_off_has_a_page_of_what_it_had() {
        let mut run = outcome(example(), 2);
        run.ends = None;
        assert!(page(&run, Some("why")).contains("<p class=error>why</p>"));
        run.points.clear();
        run.lines.clear();
        page(&run, Some("why"));
    }
}
