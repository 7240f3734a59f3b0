//! A server, and clients of it.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::{Command, Output},
    thread,
};

use serde_json::Value;

#[allow(dead_code, reason = "the tests of the other commands use all of it")]
#[path = "../tool/support.rs"]
mod tool;

pub(crate) use tool::{HANG, Process, Secret, TicketParts, figure, sendstream, spoil, stderr, stdout_object};

#[cfg(target_os = "linux")]
pub(crate) use tool::namespaces;

/// A running `sendstream perf serve --json`.
pub(crate) struct Serve {
    pub(crate) process: Process,
    /// What clients give: a ticket, or the address of an open server.
    pub(crate) target: String,
    pub(crate) address: SocketAddr,
}

impl Serve {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_as(sendstream(), "127.0.0.1:0", args)
    }

    /// Starts it by a command of which the tool's arguments are the end.
    pub(crate) fn start_as(mut command: Command, listen: &str, args: &[&str]) -> Self {
        command.args(["perf", "serve", "--json", "--listen", listen]).args(args);
        let process = Process::start(command);
        let announced = process.object();
        let address: SocketAddr = announced["addresses"][0].as_str().unwrap().parse().unwrap();
        let target = announced["ticket"].as_str().map_or_else(|| address.to_string(), str::to_owned);
        Self { process, target, address }
    }

    /// Waits for the next run's end, and what the server says of it.
    pub(crate) fn ended(&self) -> Value {
        self.process.object()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        run(&[args, &[&self.target]].concat())
    }

    /// A run that goes well, as JSON.
    pub(crate) fn measure(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["-J"]].concat());
        assert_eq!(stderr(&output), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        stdout_object(&output)
    }
}

/// Runs `sendstream perf run` to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"))
        .args(["perf", "run"])
        .args(args)
        .timeout(HANG)
        .output()
        .unwrap()
}

/// Says that a test is skipped, also where the output of tests that pass is not shown.
pub(crate) fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    // The test runner may be in the middle of a line.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {reason}");
}
