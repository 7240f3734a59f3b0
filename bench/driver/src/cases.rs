//! What is measured.

/// Every case, shortened if it is to be quick.
///
/// Sizes and rounds are such that all of it ends within 40 minutes on two CPUs: a run takes one
/// second or two for most stacks, up to ten for the slowest.
pub(crate) fn all(quick: bool, scale: bool) -> Vec<Case> {
    let size = |full: u64, short: u64| if quick { short } else { full }.to_string();
    let mut cases = Vec::new();
    let bulk = [(BULK_1200, "1200"), (BULK_4_KIB, "4096"), (BULK_64_KIB, "65536"), (BULK_1_MIB, "1048576")];
    for (name, chunk) in bulk {
        let mib = size(if name == BULK_1200 { 256 } else { 512 }, 128);
        cases.push(Case::bulk(name, &["--mib", &mib, "--chunk", chunk]).on_one_cpu().rounds(3));
    }
    let asynchronous = ["--mib", &size(256, 128), "--chunk", "1200", "--async-write"];
    cases.push(Case::bulk(ASYNC_WRITE, &asynchronous).on_one_cpu().rounds(1));
    for (name, chunk) in bulk {
        // The peak of the memory is judged at 1 GiB.
        let rounds = if name == BULK_1200 { 1 } else { 5 };
        cases.push(Case::bulk(name, &["--mib", &size(1024, 128), "--chunk", chunk]).rounds(rounds));
    }
    cases.push(Case::bulk(ASYNC_WRITE, &asynchronous).rounds(3));

    let (count, trips) = (size(100_000, 10_000), size(20_000, 5000));
    cases.push(Case::messages(MESSAGES, &count).on_one_cpu());
    cases.push(Case::messages(MESSAGES, &count));
    cases.push(Case::ping_pong(&trips).on_one_cpu());
    cases.push(Case::ping_pong(&trips));
    let second = ("max_stall_ms", "ms, max");
    let count = size(1000, 100);
    cases.push(
        Case::new(CONNECT, &["connect", "--count", &count], "connects_per_second", "connects/s", second).rounds(3),
    );
    let arguments = ["memory", "--connections", &size(1000, 200)];
    cases.push(Case::new(IDLE_CONNECTIONS, &arguments, "kib_per_connection", "KiB each", PEAK).rounds(1));
    let arguments = ["memory", "--streams", &size(5000, 1000)];
    cases.push(Case::new(OPEN_STREAMS, &arguments, "kib_per_stream", "KiB each", PEAK).rounds(1));

    if scale {
        for kind in ["connections", "streams"] {
            for count in ["1", "10", "100", "1000", "10000"] {
                let arguments = ["--mib", &size(512, 128), &format!("--{kind}"), count];
                let mut case = Case::bulk(&format!("{count} {kind}"), &arguments).rounds(1).for_scale();
                case.second = PEAK;
                cases.push(case);
            }
        }
        for count in MESSAGE_COUNTS {
            // On one CPU, where the time is the same from run to run.
            let mut case = Case::messages(&message_count(count), &count.to_string()).on_one_cpu().for_scale();
            (case.figure, case.unit, case.second) = ("us_per_message", "us/message", PEAK);
            // What takes a hundredth of a second is hit harder by whatever else happens.
            cases.push(case.rounds(if count <= 10_000 { 15 } else { 3 }));
        }
    }
    if quick {
        cases.iter_mut().for_each(|case| case.rounds = case.rounds.min(2));
    }
    cases
}

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
    /// Its second figure and what that counts, for the tables.
    pub(crate) second: (&'static str, &'static str),
    /// How often it is measured: noisy ones more often, long ones less.
    pub(crate) rounds: usize,
    /// Whether it shows how stacks scale. Where another stack fails in such a case, that is what
    /// there is to show.
    pub(crate) scale: bool,
}

impl Case {
    fn new(
        workload: &str,
        arguments: &[&str],
        figure: &'static str,
        unit: &'static str,
        second: (&'static str, &'static str),
    ) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { workload: workload.to_owned(), arguments, one_cpu: false, figure, unit, second, rounds: 5, scale: false }
    }

    fn bulk(workload: &str, arguments: &[&str]) -> Self {
        let arguments = [&["bulk"], arguments].concat();
        Self::new(workload, &arguments, "mib_per_second", "MiB/s", ("cpu_seconds_per_gib", "CPU s/GiB"))
    }

    fn messages(workload: &str, count: &str) -> Self {
        let second = ("cpu_us_per_message", "CPU us/message");
        Self::new(workload, &["messages", "--count", count], "messages_per_second", "messages/s", second)
    }

    fn ping_pong(count: &str) -> Self {
        Self::new(PING_PONG, &["ping-pong", "--count", count], "p50_us", "us, p50", ("p99_us", "us, p99"))
    }

    fn on_one_cpu(self) -> Self {
        Self { one_cpu: true, ..self }
    }

    fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }

    fn for_scale(self) -> Self {
        Self { scale: true, ..self }
    }

    pub(crate) fn name(&self) -> String {
        name(&self.workload, self.one_cpu)
    }

    /// Raw MsQuic has no `AsyncWrite`.
    pub(crate) fn is_for(&self, stack: &str) -> bool {
        !(stack.starts_with("raw") && self.arguments.iter().any(|argument| argument == "--async-write"))
    }
}

/// What a workload in one place is called.
pub(crate) fn name(workload: &str, one_cpu: bool) -> String {
    format!("{workload}, {}", if one_cpu { "one CPU" } else { "all CPUs" })
}

/// The workload with so many messages.
pub(crate) fn message_count(count: u64) -> String {
    format!("{count} messages")
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

/// How many messages the cases have that show whether each takes the same time.
pub(crate) const MESSAGE_COUNTS: [u64; 4] = [1000, 10_000, 100_000, 1_000_000];

const PEAK: (&str, &str) = ("peak_resident_kib", "KiB, peak");
