//! The numbers that C and Rust share. They stand in a header that one of the patches adds, and
//! nowhere else.

use crate::patch::Patch;

/// The header, relative to the root of MsQuic's sources.
pub(crate) const HEADER: &str = "src/inc/msquic_sendstream.h";

/// One of the header's numbers.
#[derive(Debug)]
pub(crate) struct Number {
    /// Its name, in C and in Rust.
    pub(crate) name: String,
    /// Its value, as C has it and Rust takes it.
    pub(crate) value: String,
}

/// The header's numbers, as the patch has them that adds it.
pub(crate) fn numbers(series: &[Patch]) -> Result<Vec<Number>, String> {
    let mut numbers = Vec::new();
    for line in header(series)?.lines() {
        let Some((name, value)) = line.strip_prefix("#define ").and_then(|rest| rest.split_once(' ')) else { continue };
        let value = value.trim();
        if value.strip_prefix("0x").is_none_or(|digits| u32::from_str_radix(digits, 16).is_err()) {
            return Err(format!("{HEADER} has {name} as {value:?}, which is no hexadecimal number"));
        }
        numbers.push(Number { name: name.to_owned(), value: value.to_owned() });
    }
    Ok(numbers)
}

/// The text of the header.
pub(crate) fn header(series: &[Patch]) -> Result<&str, String> {
    series
        .iter()
        .flat_map(|patch| &patch.files)
        .find(|file| file.path == HEADER && file.is_new)
        .map(|file| file.hunks[0].after.as_str())
        .ok_or_else(|| format!("no patch adds {HEADER}"))
}
