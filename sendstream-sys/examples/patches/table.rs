//! The tables of edits in `SECURITY.md`, as the headers of the series have them.

use crate::patch::{EditKind, Header, Patch};

const BEGIN: &str = "<!-- The headers of sendstream-sys/patches make these two tables: make msquic-patches -->\n";
const END: &str = "<!-- End of the two tables -->\n";

/// The page `text` with its tables as they should be.
pub(crate) fn renewed(text: &str, series: &[Patch]) -> Result<String, String> {
    let missing = || format!("SECURITY.md has no place for the tables of edits: {}", BEGIN.trim_end());
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", tables(series)))
}

fn tables(series: &[Patch]) -> String {
    let headers: Vec<_> = series.iter().map(|patch| &patch.header).collect();
    let (of_use, others): (Vec<&Header>, Vec<&Header>) = headers.into_iter().partition(|header| is_of_use(header));
    let mut text = String::from("| edit | without it | MsQuic's change | who could make use of that | test |\n");
    text += "| --- | --- | --- | --- | --- |\n";
    for header in of_use {
        let speed = if header.kind == EditKind::Speed { ", a speed edit" } else { "" };
        text += &row([
            &format!("`{}`{speed}", header.name),
            &header.prevents,
            &upstream(header),
            &header.who,
            &tests(header),
        ]);
    }
    text += "\nNobody could make use of the defects behind the other edits:\n\n";
    text += "| edit | kind | without it | test |\n| --- | --- | --- | --- |\n";
    for header in others {
        text += &row([&format!("`{}`", header.name), &header.kind.to_string(), &header.prevents, &tests(header)]);
    }
    text
}

/// Whether an attacker could make use of MsQuic without the edit, or was thought to.
fn is_of_use(header: &Header) -> bool {
    header.kind == EditKind::Security || !header.who.starts_with("nobody")
}

fn upstream(header: &Header) -> String {
    let Header { upstream, fixed_in, .. } = header;
    if fixed_in == "none" { upstream.clone() } else { format!("{upstream} (in {fixed_in})") }
}

fn tests(header: &Header) -> String {
    match &header.tests {
        Ok(tests) => {
            let tests: Vec<_> = tests
                .iter()
                .map(|(file, name)| format!("`{}`: `{name}`", file.trim_start_matches("sendstream/tests/")))
                .collect();
            tests.join("; ")
        }
        Err(why) => format!("none: {why}"),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> String {
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
