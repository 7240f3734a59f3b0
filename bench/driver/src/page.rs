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
    for case in cases {
        let second = case.second.map_or("", |(_, unit)| unit);
        let _ = write!(
            page,
            "\n## {}\n\n| stack | suite | {} | x raw | {second} | x raw | peak MiB |\n|---|---|---|---|---|---|---|\n",
            case.name(),
            case.unit
        );
        for stack in figures.stacks() {
            let get = |figure: &str| figures.get(&case.name(), stack, figure);
            let failed = figures.failed(&case.name(), stack);
            let Some(first) = get(case.figure) else {
                if failed > 0 {
                    let _ = writeln!(page, "| {stack} | | failed {failed} times | | | | |");
                }
                continue;
            };
            let second = case.second.map(|(figure, _)| figure);
            let failed = if failed > 0 { format!(" (failed {failed} times)") } else { String::new() };
            let _ = writeln!(
                page,
                "| {stack}{failed} | {} | {} | {} | {} | {} | {} |",
                figures.suite(stack).unwrap_or("unknown"),
                spread(Some(first)),
                ratio(figures, case, case.figure, first),
                spread(second.and_then(get)),
                second
                    .zip(second.and_then(get))
                    .map_or(String::new(), |(figure, value)| ratio(figures, case, figure, value)),
                get("peak_resident_kib").map_or(String::new(), |peak| format!("{:.1}", peak.median / 1024.0)),
            );
        }
    }
    page.push_str("\n## Verdicts\n\n| workload | floor | | goal | |\n|---|---|---|---|---|\n");
    for verdict in verdicts {
        let side = |judged: &[Judged]| {
            let texts: Vec<_> = judged.iter().map(judged_text).collect();
            (texts.join("; "), outcome(judged))
        };
        let ((floor, held), (goal, reached)) = (side(&verdict.floor), side(&verdict.goal));
        let _ = writeln!(page, "| {} | {floor} | {held} | {goal} | {reached} |", verdict.workload);
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
            let (y, color) = (24 * row, if stack.starts_with("sendstream") { "#27c" } else { "#999" });
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

fn ratio(figures: &Figures, case: &Case, figure: &str, value: Spread) -> String {
    let raw = figures.get(&case.name(), "raw", figure);
    raw.map_or(String::new(), |raw| format!("{:.2}", value.median / raw.median))
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

fn judged_text(judged: &Judged) -> String {
    match judged.found {
        Some(found) => format!("{} (is {})", judged.wanted, number(found)),
        None => format!("{} (not measured)", judged.wanted),
    }
}

/// Whether all comparisons were reached; one that was missed decides.
fn outcome(judged: &[Judged]) -> &'static str {
    if judged.is_empty() {
        ""
    } else if judged.iter().any(|judged| judged.reached == Some(false)) {
        "NOT REACHED"
    } else if judged.iter().any(|judged| judged.reached.is_none()) {
        "open"
    } else {
        "reached"
    }
}
