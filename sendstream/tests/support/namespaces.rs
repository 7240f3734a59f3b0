//! Network namespaces, with a process of this test in each. They need root and `ip`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// Some namespaces; gone when dropped. Each has its loopback interface, and nothing else.
pub(crate) struct Network {
    prefix: String,
    names: &'static [&'static str],
}

/// A process in one of them.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// What it said when it was ready.
    pub(crate) ready: String,
}

/// What a process in a namespace is for: in its environment.
const ROLE: &str = "SENDSTREAM_TEST_ROLE";

/// What this process is for, if a test has started it with [`Network::start`].
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

impl Network {
    pub(crate) fn new(names: &'static [&'static str]) -> Result<Self, String> {
        /// How many this process has made: its tests may run side by side.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self { prefix: format!("sendstream-{}-{number}", std::process::id()), names };
        for name in names {
            ip(&["netns", "add", &network.name(name)])?;
            network.ip_in(name, &["link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// The namespace's name on this machine.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs `ip` in a namespace.
    pub(crate) fn ip_in(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name(name)], arguments].concat())
    }

    /// Sets a parameter of a namespace's kernel.
    pub(crate) fn set_in(&self, name: &str, parameter: &str, value: &str) -> Result<(), String> {
        let command = format!("echo {value} > /proc/sys/{parameter}");
        ip(&["netns", "exec", &self.name(name), "sh", "-c", &command])
    }

    /// A command that runs this executable in a namespace.
    pub(crate) fn this_executable_in(&self, name: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name)]).arg(std::env::current_exe().unwrap());
        command
    }

    /// This executable once more, in a namespace, for one test; [`role`] tells what for. It says
    /// `ready` when it is.
    pub(crate) fn start(&self, name: &str, test: &str, role: &str) -> Process {
        let mut child = self
            .this_executable_in(name)
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.unwrap().strip_prefix("ready").map(|rest| rest.trim().to_owned()));
        thread::spawn(move || lines.for_each(drop));
        Process { child, ready: ready.expect("the process gets ready") }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.names {
            let _ = ip(&["netns", "del", &self.name(name)]);
        }
    }
}

impl Process {
    /// Waits until it has ended, and checks that all went well there.
    pub(crate) fn end(mut self) {
        assert!(self.child.wait().unwrap().success(), "see the process's words above");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("`ip` does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
