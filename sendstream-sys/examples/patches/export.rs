//! From a git repository to the series.
//!
//! Git finds the lines that differ. How many lines stand around them is decided here: as few as
//! make the place unique, because a hunk must fit where something else changed nearby, and must fit
//! nowhere else.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::Problem;
use crate::apply;
use crate::crate_sources::{self, MSQUIC};
use crate::git::Git;
use crate::patch::{EditKind, Header, Patch};
use crate::series::{self, SERIES};
use crate::tree::BASE;

/// Makes the series in `patches` anew from the commits in `tree`.
pub(crate) fn export(tree: &Path, patches: &Path) -> Result<(), Problem> {
    let git = Git(tree);
    if !git.run(&["status", "--porcelain"])?.is_empty() {
        return Err(format!("{} has changes that are not committed", tree.display()));
    }
    let mut list = String::new();
    let mut texts = Vec::new();
    for commit in git.run(&["rev-list", "--reverse", &format!("{BASE}..HEAD")])?.lines() {
        let text = patch(git, commit)?;
        let wrong = |why| format!("the commit {commit} makes no patch: {why}");
        let path = series::path(&Patch::parse(&text).map_err(wrong)?);
        list += &format!("{path}\n");
        texts.push((path, text));
    }
    let known: BTreeSet<_> = texts.iter().map(|(path, _)| path.clone()).collect();
    for folder in EditKind::ALL.map(EditKind::folder) {
        for entry in fs::read_dir(patches.join(folder)).into_iter().flatten().flatten() {
            if !known.contains(&format!("{folder}/{}", entry.file_name().to_string_lossy())) {
                fs::remove_file(entry.path()).map_err(|error| at(&entry.path(), &error))?;
            }
        }
    }
    for (path, text) in texts.into_iter().chain([(SERIES.to_owned(), list)]) {
        let path = patches.join(path);
        if fs::read_to_string(&path).is_ok_and(|present| says_the_same(&present, &text)) {
            continue;
        }
        println!("{}", path.strip_prefix(patches).unwrap_or(&path).display());
        fs::create_dir_all(path.parent().expect("it is in a folder")).map_err(|error| at(&path, &error))?;
        fs::write(&path, text).map_err(|error| at(&path, &error))?;
    }
    compare(git, patches)
}

/// Whether two files differ in the numbers of lines alone, which an earlier patch of the series
/// moves.
fn says_the_same(present: &str, text: &str) -> bool {
    present == text || Patch::parse(present).is_ok_and(|present| Patch::parse(text) == Ok(present))
}

/// Makes sure that the series makes of the crate's sources what the repository has.
fn compare(git: Git<'_>, patches: &Path) -> Result<(), Problem> {
    let series = series::load(patches)?;
    let source = crate_sources::find(&MSQUIC, Path::new(env!("CARGO_MANIFEST_DIR")))?.root;
    let outcome = apply::all(&series, |file| fs::read_to_string(source.join(file)).ok());
    if let Some(refusal) = outcome.refused.first() {
        return Err(refusal.clone());
    }
    match outcome.texts.iter().find(|(file, text)| git.run(&["show", &format!("HEAD:{file}")]).as_ref() != Ok(*text)) {
        None => Ok(()),
        Some((file, _)) => Err(format!("the series makes another {file} than the repository has")),
    }
}

/// The patch that a commit is.
fn patch(git: Git<'_>, commit: &str) -> Result<String, Problem> {
    let message = git.run(&["show", "--no-patch", "--format=%B", commit])?;
    let message = message.trim_end();
    Header::parse(message).map_err(|why| format!("the message of commit {commit} is no header: {why}"))?;
    let parent = format!("{commit}^");
    let mut text = format!("{message}\n\n");
    for change in git.run(&["diff", "--no-renames", "--name-status", &parent, commit])?.lines() {
        let show = |commit: &str, file| git.run(&["show", &format!("{commit}:{file}")]);
        match change.split_once('\t') {
            Some(("A", file)) => {
                let new = show(commit, file)?;
                text += &format!("--- /dev/null\n+++ b/{file}\n@@ -0,0 +1,{} @@\n", new.lines().count());
                text.extend(new.split_inclusive('\n').map(|line| format!("+{line}")));
            }
            Some(("M", file)) => {
                let differences = differences(git, &parent, commit, file)?;
                text += &format!("--- a/{file}\n+++ b/{file}\n");
                text += &hunks(&show(&parent, file)?, &show(commit, file)?, differences);
            }
            _ => return Err(format!("commit {commit} does more than to add and to change files: {change}")),
        }
    }
    Ok(text)
}

/// Lines that differ: of the old file, and of the new one, from 0.
#[derive(Clone)]
struct Difference {
    old: Range<usize>,
    new: Range<usize>,
    /// The function that they are in, as git says it.
    heading: String,
}

fn differences(git: Git<'_>, parent: &str, commit: &str, file: &str) -> Result<Vec<Difference>, Problem> {
    let options = ["--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--indent-heuristic"];
    let what = ["--diff-algorithm=histogram", "--unified=0", parent, commit, "--", file];
    let diff = git.run(&[&["diff"], &options[..], &what].concat())?;
    diff.lines().filter_map(|line| line.strip_prefix("@@ -")).map(|line| difference(line).ok_or(diff.clone())).collect()
}

/// Reads what follows `@@ -`.
fn difference(line: &str) -> Option<Difference> {
    let (ranges, heading) = line.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let range = |text: &str| {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        let (start, count) = (start.parse::<usize>().ok()?, count.parse::<usize>().ok()?);
        // Where there are no lines, the number is that of the line before.
        let start = if count == 0 { start } else { start - 1 };
        Some(start..start + count)
    };
    Some(Difference { old: range(old)?, new: range(new)?, heading: heading.to_owned() })
}

/// Hunks with as little context as makes each place unique. Those that touch are one.
fn hunks(old: &str, new: &str, differences: Vec<Difference>) -> String {
    let old_lines: Vec<_> = old.split_inclusive('\n').collect();
    let new_lines: Vec<_> = new.split_inclusive('\n').collect();
    let mut groups: Vec<(Range<usize>, Vec<Difference>)> = Vec::new();
    for mut difference in differences {
        slide(&mut difference, &old_lines, &new_lines);
        let place = unique(old, &old_lines, &difference.old);
        match groups.last_mut() {
            Some((range, members)) if place.start <= range.end => {
                *range = range.start.min(place.start)..range.end.max(place.end);
                members.push(difference);
            }
            _ => groups.push((place, vec![difference])),
        }
    }
    let mut text = String::new();
    for (place, members) in groups {
        let (first, last) = (&members[0], &members[members.len() - 1]);
        let new_place = first.new.start - (first.old.start - place.start)..last.new.end + (place.end - last.old.end);
        let number = |range: &Range<usize>| format!("{},{}", range.start + usize::from(!range.is_empty()), range.len());
        text += &format!("@@ -{} +{} @@{}\n", number(&place), number(&new_place), first.heading);
        let mut at = place.start;
        for Difference { old, new, .. } in &members {
            text.extend(old_lines[at..old.start].iter().map(|line| format!(" {line}")));
            text.extend(old_lines[old.clone()].iter().map(|line| format!("-{line}")));
            text.extend(new_lines[new.clone()].iter().map(|line| format!("+{line}")));
            at = old.end;
        }
        text.extend(old_lines[at..place.end].iter().map(|line| format!(" {line}")));
    }
    text
}

/// Where a comment stands before another one, git may take the second one's first line for the
/// first one's last.
fn slide(Difference { old, new, .. }: &mut Difference, old_lines: &[&str], new_lines: &[&str]) {
    let is_added = old.start == old.end && old.start > 0 && new.start < new.end;
    if is_added && new_lines[new.end - 1].trim() == "//" && new_lines[new.end - 1] == old_lines[old.start - 1] {
        *old = old.start - 1..old.end - 1;
        *new = new.start - 1..new.end - 1;
    }
}

/// The fewest lines around `lines` that are in the text once: as many before as after, or one more
/// before.
fn unique(text: &str, all: &[&str], lines: &Range<usize>) -> Range<usize> {
    for context in 0.. {
        let mut splits: Vec<(usize, usize)> = (0..=context).map(|before| (before, context - before)).collect();
        splits.sort_by_key(|&(before, after)| (before.abs_diff(after), after));
        for (before, after) in splits {
            let (Some(start), end) = (lines.start.checked_sub(before), lines.end + after) else { continue };
            if end > all.len() || start == end {
                continue;
            }
            if apply::places(text, &all[start..end].concat()).len() == 1 {
                return start..end;
            }
        }
    }
    unreachable!("the whole text is in itself once")
}

fn at(path: &Path, error: &std::io::Error) -> Problem {
    format!("{}: {error}", path.display())
}
