//! Makes edits, or says which do not fit.

use std::collections::BTreeMap;

use crate::edits::{Change, Edit};

/// What became of a list of edits.
pub(crate) struct Outcome {
    /// The edits that were made, in order.
    pub(crate) made: Vec<Edit>,
    /// One line for each edit that was not.
    pub(crate) refused: Vec<String>,
    /// The files that they changed, as they are now.
    pub(crate) texts: BTreeMap<&'static str, String>,
}

/// Makes `edits` in order, each with all of its changes or not at all. `read` gives a file's text, or `None` where there
/// is no such file.
pub(crate) fn all(edits: &[Edit], read: impl Fn(&str) -> Option<String>) -> Outcome {
    let mut outcome = Outcome { made: Vec::new(), refused: Vec::new(), texts: BTreeMap::new() };
    for edit in edits {
        let mut texts = outcome.texts.clone();
        match edit.changes.iter().try_for_each(|change| make(change, &mut texts, &read)) {
            Ok(()) => {
                outcome.texts = texts;
                outcome.made.push(*edit);
            }
            Err(why) => {
                let Edit { name, prevents, .. } = edit;
                outcome.refused.push(format!(
                    "the edit {name:?} does not fit these MsQuic sources: {why}; it prevents that {prevents}"
                ));
            }
        }
    }
    outcome
}

fn make(
    change: &Change,
    texts: &mut BTreeMap<&'static str, String>,
    read: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let Change { file, anchor, replacement } = change;
    let text = match texts.get(file) {
        Some(text) => text.clone(),
        None => read(file).ok_or_else(|| format!("there is no {file} among them"))?,
    };
    match text.matches(anchor).count() {
        1 => texts.insert(file, text.replacen(anchor, replacement, 1)),
        0 => return Err(format!("an anchor of it is not in {file}")),
        n => return Err(format!("an anchor of it is {n} times in {file}")),
    };
    Ok(())
}
