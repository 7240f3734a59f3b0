//! A test in a process of its own: this executable, run for the one test that has the name it is
//! started with.

use std::{
    io::Write as _,
    process::{Command, Output},
};

/// Set in that process.
pub(crate) const CHILD: &str = "SENDSTREAM_TEST_ALONE";

/// Runs the body of `test` in a process of its own; `None` there, where the body follows.
pub(crate) fn parent(test: &str, prepare: impl FnOnce(&mut Command)) -> Option<Output> {
    if std::env::var_os(CHILD).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(CHILD, "1");
    prepare(&mut command);
    let output = command.output().unwrap();
    pass_on(&output.stdout);
    assert!(output.status.success(), "{output:#?}");
    Some(output)
}

/// Prints what a process of [`parent`] printed, its figures also where the output of tests that
/// pass is not shown.
pub(crate) fn pass_on(output: &[u8]) {
    for line in String::from_utf8_lossy(output).lines() {
        if line.starts_with("FIGURE ") {
            let _ = writeln!(std::io::stdout(), "\n{line}");
        } else {
            println!("{line}");
        }
    }
}
