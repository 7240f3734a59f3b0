//! An edit is made exactly as its patch has it, or not at all.

#[path = "../build/apply.rs"]
mod apply;
#[expect(dead_code, reason = "there is no series here, and so no folder")]
#[path = "../build/patch.rs"]
mod patch;

use apply::Outcome;
use patch::Patch;

const HELLO: &str = "src/hello.c";

/// The text of a patch of that name, with `more` in its header and these lines of a diff.
fn text(name: &str, needs: &str, diff: &str) -> String {
    format!(
        "Edit: {name}\n\nKind: correctness\nPrevents: The program is\n  unfriendly.\nWho: nobody\nUpstream: none known\n\
         Fixed-in: none\nNeeds: {needs}\nTest: none: it is one\n\n{diff}"
    )
}

fn patch(name: &str, diff: &str) -> Patch {
    Patch::parse(&text(name, "none", diff)).unwrap()
}

/// Puts a line before `exit(0);`.
fn greeting() -> Patch {
    patch("greeting", "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -700,1 +700,2 @@ main(\n+puts(\"hello\");\n exit(0);\n")
}

/// Makes `patches` to sources with one file.
fn apply_to_hello<'a>(patches: impl IntoIterator<Item = &'a Patch>, text: &str) -> Outcome<'a> {
    apply::all(patches, |file| (file == HELLO).then(|| text.to_owned()))
}

fn names<'a>(outcome: &Outcome<'a>) -> Vec<&'a str> {
    outcome.made.iter().map(|patch| patch.header.name.as_str()).collect()
}

/// The one line of an edit that was refused, when nothing was changed.
fn refusal(outcome: Outcome<'_>) -> String {
    assert!(outcome.made.is_empty() && outcome.texts.is_empty());
    let [refusal] = &outcome.refused[..] else { panic!("{:?}", outcome.refused) };
    assert_eq!(refusal.lines().count(), 1);
    refusal.clone()
}

#[test]
fn an_edit_replaces_its_lines_and_nothing_else_wherever_they_are() {
    let greeting = greeting();
    let outcome = apply_to_hello([&greeting], "before\nexit(0);\nafter\n");
    assert_eq!(
        outcome.texts.iter().collect::<Vec<_>>(),
        [(&HELLO, &"before\nputs(\"hello\");\nexit(0);\nafter\n".to_owned())]
    );
    assert_eq!(names(&outcome), ["greeting"]);
    assert!(outcome.refused.is_empty());
}

#[test]
fn edits_of_one_file_are_made_in_the_order_of_the_series() {
    let greeting = greeting();
    let name = patch(
        "name",
        "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -1,1 +1,1 @@\n-puts(\"hello\");\n+puts(\"hello, reader\");\n",
    );
    let outcome = apply_to_hello([&greeting, &name], "exit(0);\n");
    assert_eq!(outcome.texts[HELLO], "puts(\"hello, reader\");\nexit(0);\n");
    assert_eq!(names(&outcome), ["greeting", "name"]);
}

#[test]
fn lines_that_are_missing_are_refused_in_one_line_that_names_the_edit() {
    let greeting = greeting();
    let refusal = refusal(apply_to_hello([&greeting], "return 0;\n"));
    assert!(refusal.contains("greeting") && refusal.contains(HELLO), "{refusal}");
}

#[test]
fn lines_that_are_there_twice_are_refused() {
    let greeting = greeting();
    let refusal = refusal(apply_to_hello([&greeting], "exit(0);\nexit(0);\n"));
    assert!(refusal.contains("greeting") && refusal.contains("2 times"), "{refusal}");
}

#[test]
fn lines_that_overlap_with_themselves_are_counted_each_time() {
    let twice = patch("twice", "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -1,2 +1,1 @@\n-}\n }\n");
    let refusal = refusal(apply_to_hello([&twice], "}\n}\n}\n"));
    assert!(refusal.contains("2 times"), "{refusal}");
}

#[test]
fn a_part_of_a_line_is_no_line() {
    let greeting = greeting();
    for text in ["  exit(0);\n", "exit(0); // now\n", "exit(0);"] {
        let refusal = refusal(apply_to_hello([&greeting], text));
        assert!(refusal.contains("are not in"), "{refusal}");
    }
}

#[test]
fn hunks_that_fit_in_another_order_are_refused() {
    let crossed =
        patch("crossed", "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -1,1 +1,1 @@\n-b\n+B\n@@ -2,1 +2,1 @@\n-a\n+A\n");
    let refusal = refusal(apply_to_hello([&crossed], "a\nb\n"));
    assert!(refusal.contains("out of order"), "{refusal}");
}

#[test]
fn a_file_that_is_missing_or_in_the_way_is_refused() {
    let greeting = greeting();
    let missing = refusal(apply::all([&greeting], |_| None));
    assert!(missing.contains("greeting") && missing.contains(HELLO), "{missing}");
    let new = patch("new", "--- /dev/null\n+++ b/src/hello.c\n@@ -0,0 +1,1 @@\n+exit(1);\n");
    let in_the_way = refusal(apply_to_hello([&new], ""));
    assert!(in_the_way.contains("already"), "{in_the_way}");
    let outcome = apply::all([&new, &greeting], |_| None);
    assert_eq!(outcome.texts[HELLO], "exit(1);\n", "and the later edit sees it");
    assert!(outcome.refused[0].contains("greeting"));
}

#[test]
fn an_edit_of_which_one_hunk_does_not_fit_changes_nothing() {
    let half = patch(
        "half",
        "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -1,1 +1,1 @@\n-int a;\n+long a;\n@@ -9,1 +9,1 @@\n-nowhere\n+here\n",
    );
    let greeting = greeting();
    let outcome = apply_to_hello([&half, &greeting], "int a;\nexit(0);\n");
    assert_eq!(outcome.texts[HELLO], "int a;\nputs(\"hello\");\nexit(0);\n");
    assert_eq!(names(&outcome), ["greeting"]);
    assert!(outcome.refused[0].contains("half"), "{:?}", outcome.refused);
}

#[test]
fn an_edit_whose_need_was_not_made_is_not_made_either() {
    let greeting = greeting();
    let diff = "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -1,1 +1,1 @@\n-int a;\n+long a;\n";
    let needy = Patch::parse(&text("needy", "greeting", diff)).unwrap();
    let outcome = apply_to_hello([&greeting, &needy], "int a;\n");
    let [_, refusal] = &outcome.refused[..] else { panic!("{:?}", outcome.refused) };
    assert!(refusal.contains("\"needy\"") && refusal.contains("needs the edit \"greeting\""), "{refusal}");
    assert_eq!(refusal.lines().count(), 1);
    assert_eq!(names(&apply_to_hello([&greeting, &needy], "int a;\nexit(0);\n")), ["greeting", "needy"]);
}

#[test]
fn a_patch_that_is_not_exactly_one_is_refused_in_one_line() {
    let diff = "--- a/src/hello.c\n+++ b/src/hello.c\n@@ -1,1 +1,1 @@\n-a\n+b\n";
    let good = text("good", "none", diff);
    assert_eq!(Patch::parse(&good).unwrap().header.prevents, "The program is unfriendly.");
    let whole = |diff: &str| text("bad", "none", diff);
    for bad in [
        good.replace("Edit: good\n\n", "Edit: good\n"),
        good.replace("Edit: good", "Edit: Good one"),
        good.replace("Kind: correctness", "Kind: taste"),
        good.replace("Who: nobody\n", ""),
        good.replace("Who: nobody\n", "Who: nobody\nWho: nobody\n"),
        good.replace("Who: nobody", "Who: "),
        good.replace("Who: nobody\n", "Who: nobody\nMood: good\n"),
        good.replace("Test: none: it is one", "Test: none"),
        good.trim_end().to_owned(),
        whole(""),
        whole("--- a/src/hello.c\n+++ b/src/hello.c\n"),
        whole(&diff.replace("+++ b/src/hello.c", "+++ b/src/other.c")),
        whole(&diff.replace("src/hello.c", "../hello.c")),
        whole(&diff.replace("src/hello.c", "/hello.c")),
        whole(&diff.replace("@@ -1,1 +1,1 @@", "@@ -1,2 +1,1 @@")),
        whole(&diff.replace("@@ -1,1 +1,1 @@", "@@ -1,1 +1,0 @@")),
        whole(&diff.replace("-a\n+b\n", " a\n")),
        whole("--- a/src/hello.c\n+++ b/src/hello.c\n@@ -0,0 +1,1 @@\n+b\n"),
        whole("--- /dev/null\n+++ b/src/hello.c\n@@ -1,1 +1,1 @@\n-a\n+b\n"),
        format!("{good}\\ No newline at end of file\n"),
        format!("{good}{diff}"),
    ] {
        let why = Patch::parse(&bad).expect_err(&bad);
        assert_eq!(why.lines().count(), 1, "{why}");
    }
}
