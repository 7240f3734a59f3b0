//! An edit is made exactly as listed, or the build stops.

#[path = "../build/apply.rs"]
mod apply;
#[path = "../build/edits.rs"]
mod edits;

use edits::{Edit, FIXES, SPEED_EDITS};

const GREETING: Edit = Edit {
    name: "greeting",
    file: "src/hello.c",
    prevents: "an unfriendly program",
    anchor: "exit(0);",
    replacement: "puts(\"hello\");\nexit(0);",
};

fn apply_to_hello(edits: &[Edit], text: &str) -> Result<String, String> {
    apply::to_text(edits, "src/hello.c", text.to_owned())
}

#[test]
fn an_edit_replaces_its_anchor_and_nothing_else() {
    let edited = apply_to_hello(&[GREETING], "before\nexit(0);\nafter\n").unwrap();
    assert_eq!(edited, "before\nputs(\"hello\");\nexit(0);\nafter\n");
}

#[test]
fn an_edit_leaves_other_files_alone() {
    let text = "before\nexit(0);\nafter\n";
    assert_eq!(apply::to_text(&[GREETING], "src/other.c", text.to_owned()).unwrap(), text);
}

#[test]
fn edits_of_one_file_are_made_in_the_order_of_the_list() {
    let name = Edit { name: "name", anchor: "hello", replacement: "hello, reader", ..GREETING };
    let edited = apply_to_hello(&[GREETING, name], "exit(0);\n").unwrap();
    assert_eq!(edited, "puts(\"hello, reader\");\nexit(0);\n");
}

#[test]
fn a_missing_anchor_is_refused_in_one_line_that_names_the_edit() {
    let refusal = apply_to_hello(&[GREETING], "return 0;\n").unwrap_err();
    assert!(refusal.contains("greeting") && refusal.contains("src/hello.c"), "{refusal}");
    assert_eq!(refusal.lines().count(), 1);
}

#[test]
fn an_anchor_that_is_there_twice_is_refused() {
    let refusal = apply_to_hello(&[GREETING], "exit(0);\nexit(0);\n").unwrap_err();
    assert!(refusal.contains("greeting") && refusal.contains("2 times"), "{refusal}");
}

#[test]
fn a_missing_file_is_refused() {
    assert!(apply::check_files(&[GREETING], |file| file == "src/hello.c").is_ok());
    let refusal = apply::check_files(&[GREETING], |file| file == "src/other.c").unwrap_err();
    assert!(refusal.contains("greeting"), "{refusal}");
}

#[test]
fn every_edit_changes_something_and_names_one_file() {
    for edit in FIXES.iter().chain(SPEED_EDITS) {
        assert!(!edit.anchor.is_empty() && edit.anchor != edit.replacement, "{}", edit.name);
        assert!(!edit.prevents.is_empty(), "{}", edit.name);
        assert!(!edit.file.starts_with('/') && !edit.file.contains(".."), "{}", edit.name);
    }
}
