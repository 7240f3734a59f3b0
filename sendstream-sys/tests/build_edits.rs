//! An edit is made exactly as listed, or not at all.

#[path = "../build/apply.rs"]
mod apply;
#[path = "../build/edits.rs"]
mod edits;

use apply::Outcome;
use edits::{Change, Edit, FIXES, SPEED_EDITS};

const HELLO: &str = "src/hello.c";

const GREETING: Edit = Edit {
    name: "greeting",
    prevents: "the program is unfriendly",
    changes: &[Change { file: HELLO, anchor: "exit(0);", replacement: "puts(\"hello\");\nexit(0);" }],
};

/// Makes `edits` to sources with one file.
fn apply_to_hello(edits: &[Edit], text: &str) -> Outcome {
    apply::all(edits, |file| (file == HELLO).then(|| text.to_owned()))
}

/// The one line of an edit that was refused, when nothing was changed.
fn refusal(outcome: Outcome) -> String {
    assert!(outcome.made.is_empty() && outcome.texts.is_empty());
    let [refusal] = &outcome.refused[..] else { panic!("{:?}", outcome.refused) };
    assert_eq!(refusal.lines().count(), 1);
    refusal.clone()
}

#[test]
fn an_edit_replaces_its_anchor_and_nothing_else() {
    let outcome = apply_to_hello(&[GREETING], "before\nexit(0);\nafter\n");
    assert_eq!(
        outcome.texts.into_iter().collect::<Vec<_>>(),
        [(HELLO, "before\nputs(\"hello\");\nexit(0);\nafter\n".to_owned())]
    );
    assert_eq!(outcome.made.len(), 1);
    assert!(outcome.refused.is_empty());
}

#[test]
fn edits_of_one_file_are_made_in_the_order_of_the_list() {
    let name = Edit {
        name: "name",
        prevents: "the reader is not meant",
        changes: &[Change { file: HELLO, anchor: "hello", replacement: "hello, reader" }],
    };
    let outcome = apply_to_hello(&[GREETING, name], "exit(0);\n");
    assert_eq!(outcome.texts[HELLO], "puts(\"hello, reader\");\nexit(0);\n");
    assert_eq!(outcome.made.iter().map(|edit| edit.name).collect::<Vec<_>>(), ["greeting", "name"]);
}

#[test]
fn a_missing_anchor_is_refused_in_one_line_that_names_the_edit() {
    let refusal = refusal(apply_to_hello(&[GREETING], "return 0;\n"));
    assert!(refusal.contains("greeting") && refusal.contains(HELLO), "{refusal}");
}

#[test]
fn an_anchor_that_is_there_twice_is_refused() {
    let refusal = refusal(apply_to_hello(&[GREETING], "exit(0);\nexit(0);\n"));
    assert!(refusal.contains("greeting") && refusal.contains("2 times"), "{refusal}");
}

#[test]
fn a_missing_file_is_refused() {
    let refusal = refusal(apply::all(&[GREETING], |_| None));
    assert!(refusal.contains("greeting") && refusal.contains(HELLO), "{refusal}");
}

#[test]
fn an_edit_of_which_one_change_does_not_fit_changes_nothing() {
    let half = Edit {
        name: "half",
        prevents: "nothing",
        changes: &[
            Change { file: HELLO, anchor: "int", replacement: "long" },
            Change { file: HELLO, anchor: "nowhere", replacement: "" },
        ],
    };
    let outcome = apply_to_hello(&[half, GREETING], "int a; exit(0);");
    assert_eq!(outcome.texts[HELLO], "int a; puts(\"hello\");\nexit(0);");
    assert_eq!(outcome.made.iter().map(|edit| edit.name).collect::<Vec<_>>(), ["greeting"]);
    assert!(outcome.refused[0].contains("half"), "{:?}", outcome.refused);
}

#[test]
fn every_edit_changes_something_and_says_why() {
    for edit in FIXES.iter().chain(SPEED_EDITS) {
        assert!(!edit.prevents.is_empty() && !edit.changes.is_empty(), "{}", edit.name);
        for change in edit.changes {
            assert!(!change.anchor.is_empty() && change.anchor != change.replacement, "{}", edit.name);
            assert!(!change.file.starts_with('/') && !change.file.contains(".."), "{}", edit.name);
        }
    }
}
