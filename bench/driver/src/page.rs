//! The Markdown table and the HTML chart.

use std::fmt::Write;

use crate::{
    cases::Case,
    figures::{Figures, Spread},
    verdicts::{Judged, Verdict},
};

/// A table for each case, then the verdicts.
pub(crate) fn markdown(cases: &[Case], figures: &Figures, verdicts: &[Verdict]) -> String {
    let mut page = String::from("# Bench\n\nMedians, with the lowest and the highest of all rounds in brackets.\n");
    for (number, case) in cases.iter().enumerate() {
        let apart = case.place.two_processes;
        if apart && !cases[..number].iter().any(|earlier| earlier.place.two_processes) {
            page.push_str(
                "\n# Two processes\n\nThe client and the server are a process each. CPU time and peak memory are the \
                 sums of both, then the client's and the server's.\n",
            );
        }
        let second = case.second.1;
        let (titles, rule) = if apart {
            (" CPU s, client + server | peak MiB, client + server |", "---|---|")
        } else {
            Default::default()
        };
        let _ = write!(
            page,
            "\n## {}\n\n| stack | suite | {} | x {base} | {second} | x {base} | peak MiB |{titles}\n|---|---|---|---|---|---|---|{rule}\n",
            case.name(),
            case.unit,
            base = case.base(),
        );
        for stack in figures.stacks() {
            let get = |figure: &str| figures.get(&case.name(), stack, figure);
            let failed = figures.failed(&case.name(), stack);
            let Some(first) = get(case.figure) else {
                let _ = match figures.ruled_out(&case.name(), stack) {
                    Some(reason) => writeln!(page, "| {stack} | | not possible here: {reason} | | | | |"),
                    None if failed > 0 => writeln!(page, "| {stack} | | FAILED {failed} times | | | | |"),
                    None => Ok(()),
                };
                continue;
            };
            let second = get(case.second.0);
            let halves = if apart { halves(&get) } else { String::new() };
            let failed = if failed > 0 { format!(" (FAILED {failed} times)") } else { String::new() };
            let _ = writeln!(
                page,
                "| {stack}{failed} | {} | {} | {} | {} | {} | {} |{halves}",
                figures.suite(stack).unwrap_or("unknown"),
                spread(Some(first)),
                ratio(figures, case, case.figure, first),
                spread(second),
                second.map_or(String::new(), |value| ratio(figures, case, case.second.0, value)),
                get("peak_resident_kib").map_or(String::new(), |peak| format!("{:.1}", peak.median / 1024.0)),
            );
        }
    }
    page.push_str("\n## Verdicts\n\n| workload | | wanted | is | |\n|---|---|---|---|---|\n");
    for verdict in verdicts {
        let sides = [("floor", &verdict.floor), ("goal", &verdict.goal)];
        for (side, judged) in sides.into_iter().flat_map(|(side, all)| all.iter().map(move |judged| (side, judged))) {
            let found = judged.found.map_or("not measured".to_owned(), number);
            let (workload, wanted, outcome) = (&verdict.workload, &judged.wanted, outcome(judged));
            let _ = writeln!(page, "| {workload} | {side} | {wanted} | {found} | {outcome} |");
        }
    }
    page.push('\n');
    for (side, judged) in [
        ("Floors", verdicts.iter().flat_map(|verdict| &verdict.floor).collect::<Vec<_>>()),
        ("Goals", verdicts.iter().flat_map(|verdict| &verdict.goal).collect()),
    ] {
        let count = |what| judged.iter().filter(|judged| judged.reached == what).count();
        let (reached, missed, open) = (count(Some(true)), count(Some(false)), count(None));
        let _ = writeln!(page, "{side}: {reached} reached, {missed} NOT REACHED, {open} open.");
    }
    page
}

/// One bar chart for each case, in one file without scripts.
pub(crate) fn html(cases: &[Case], figures: &Figures) -> String {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>Bench</title><style>body{font:14px sans-serif;margin:2em}\
         text{font:12px sans-serif}</style><h1>Bench</h1><p>Bars are medians, lines the range of all rounds.</p>\n",
    );
    for case in cases {
        let name = case.name();
        let bars: Vec<(&str, Spread)> = figures
            .stacks()
            .into_iter()
            .filter_map(|stack| Some((stack, figures.get(&name, stack, case.figure)?)))
            .collect();
        let most = bars.iter().map(|(_, spread)| spread.high).fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        let x = |value: f64| 130.0 + 450.0 * value.max(0.0) / most;
        let height = 24 * bars.len();
        let _ = write!(page, "<h2>{name}: {}</h2><svg width=680 height={height}>", case.unit);
        for (row, (stack, spread)) in bars.iter().enumerate() {
            let (y, color) = (24 * row, if stack.contains("sendstream") { "#27c" } else { "#999" });
            let (low, median, high, middle) = (x(spread.low), x(spread.median), x(spread.high), y + 10);
            let (text, width) = (y + 14, median - 130.0);
            let _ = write!(
                page,
                "<text x=0 y={text}>{stack}</text><rect x=130 y={y} width={width:.1} height=20 fill='{color}'/>\
                 <line x1={low:.1} x2={high:.1} y1={middle} y2={middle} stroke=black />\
                 <text x={:.1} y={text}>{}</text>",
                high + 6.0,
                number(spread.median)
            );
        }
        page.push_str("</svg>\n");
    }
    page
}

/// The CPU time and the peak memory of each of two processes, as cells.
fn halves(get: &impl Fn(&str) -> Option<Spread>) -> String {
    let pair = |what: &str, unit: f64| {
        let half = |side| get(&format!("{side}_{what}")).map(|spread| number(spread.median / unit));
        half("client").zip(half("server")).map_or(String::new(), |(client, server)| format!("{client} + {server}"))
    };
    format!(" {} | {} |", pair("cpu_seconds", 1.0), pair("peak_resident_kib", 1024.0))
}

fn ratio(figures: &Figures, case: &Case, figure: &str, value: Spread) -> String {
    let base = figures.get(&case.name(), case.base(), figure);
    base.map_or(String::new(), |base| format!("{:.2}", value.median / base.median))
}

fn spread(value: Option<Spread>) -> String {
    value.map_or(String::new(), |value| {
        format!("{} ({} to {})", number(value.median), number(value.low), number(value.high))
    })
}

/// Three digits or more.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn outcome(judged: &Judged) -> &'static str {
    match judged.reached {
        Some(true) => "reached",
        Some(false) => "NOT REACHED",
        None => "open",
    }
}
