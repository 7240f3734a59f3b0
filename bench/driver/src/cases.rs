//! What is measured.

/// One workload in one place.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What it is called in tables, without the place.
    pub(crate) workload: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) one_cpu: bool,
    /// The figure that tables and charts show, as the programs name it.
    pub(crate) figure: &'static str,
    /// What that figure counts.
    pub(crate) unit: &'static str,
    /// Its second figure, for the tables.
    pub(crate) second: Option<(&'static str, &'static str)>,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        format!("{}, {}", self.workload, if self.one_cpu { "one CPU" } else { "all CPUs" })
    }

    /// Raw MsQuic has no `AsyncWrite`.
    pub(crate) fn is_for(&self, stack: &str) -> bool {
        !(stack.starts_with("raw") && self.arguments.iter().any(|argument| argument == "--async-write"))
    }
}

/// The names that verdicts ask for.
pub(crate) const BULK_4_KIB: &str = "bulk 4 KiB";
pub(crate) const BULK_64_KIB: &str = "bulk 64 KiB";
pub(crate) const BULK_1_MIB: &str = "bulk 1 MiB";
pub(crate) const BULK_1200: &str = "bulk 1200 B";
pub(crate) const ASYNC_WRITE: &str = "AsyncWrite 1200 B";
pub(crate) const MESSAGES: &str = "messages 1 KiB";
pub(crate) const PING_PONG: &str = "ping-pong 64 B";
pub(crate) const CONNECT: &str = "connect";
pub(crate) const IDLE_CONNECTIONS: &str = "idle connections";
pub(crate) const OPEN_STREAMS: &str = "open streams";

/// Every case, shortened if it is to be quick.
pub(crate) fn all(quick: bool, scale: bool) -> Vec<Case> {
    let size = |full: u64, short: u64| if quick { short } else { full }.to_string();
    let mib = size(1024, 128);
    let mut cases = Vec::new();
    let mut add = |workload: &str, arguments: &[&str], one_cpu, figure, unit, second| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        cases.push(Case { workload: workload.to_owned(), arguments, one_cpu, figure, unit, second });
    };
    let bulk = [(BULK_1200, "1200"), (BULK_4_KIB, "4096"), (BULK_64_KIB, "65536"), (BULK_1_MIB, "1048576")];
    for one_cpu in [true, false] {
        for (name, chunk) in bulk {
            let arguments = ["bulk", "--mib", &mib, "--chunk", chunk];
            add(name, &arguments, one_cpu, "mib_per_second", "MiB/s", CPU_PER_GIB);
        }
        let arguments = ["bulk", "--mib", &mib, "--chunk", "1200", "--async-write"];
        add(ASYNC_WRITE, &arguments, one_cpu, "mib_per_second", "MiB/s", CPU_PER_GIB);
        let arguments = ["messages", "--count", &size(100_000, 10_000)];
        add(MESSAGES, &arguments, one_cpu, "messages_per_second", "messages/s", CPU_PER_MESSAGE);
        let arguments = ["ping-pong", "--count", &size(50_000, 5_000)];
        add(PING_PONG, &arguments, one_cpu, "p50_us", "us, p50", Some(("p99_us", "us, p99")));
    }
    let arguments = ["connect", "--count", &size(1000, 100)];
    add(CONNECT, &arguments, false, "connects_per_second", "connects/s", Some(("max_stall_ms", "ms, max")));
    let arguments = ["memory", "--connections", &size(1000, 200)];
    add(IDLE_CONNECTIONS, &arguments, false, "kib_per_connection", "KiB each", None);
    let arguments = ["memory", "--streams", &size(5000, 1000)];
    add(OPEN_STREAMS, &arguments, false, "kib_per_stream", "KiB each", None);
    if scale {
        for count in ["1", "10", "100", "1000", "10000"] {
            let arguments = ["bulk", "--mib", &mib, "--connections", count];
            add(&format!("{count} connections"), &arguments, false, "mib_per_second", "MiB/s", PEAK);
            let arguments = ["bulk", "--mib", &mib, "--streams", count];
            add(&format!("{count} streams"), &arguments, false, "mib_per_second", "MiB/s", PEAK);
        }
        for count in ["1000", "10000", "100000", "1000000"] {
            let arguments = ["messages", "--count", count];
            add(&format!("{count} messages"), &arguments, false, "us_per_message", "us/message", PEAK);
        }
    }
    cases
}

const CPU_PER_GIB: Option<(&str, &str)> = Some(("cpu_seconds_per_gib", "CPU s/GiB"));
const CPU_PER_MESSAGE: Option<(&str, &str)> = Some(("cpu_us_per_message", "CPU us/message"));
const PEAK: Option<(&str, &str)> = Some(("peak_resident_kib", "KiB, peak"));
