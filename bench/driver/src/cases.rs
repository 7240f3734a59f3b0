//! What is measured.

/// Every case, shortened if it is to be quick.
///
/// Sizes and rounds are such that all of it ends within an hour on two CPUs: a run takes one second
/// or two for most stacks, up to ten for the slowest.
pub(crate) fn all(quick: bool, scale: bool) -> Vec<Case> {
    let size = |full: u64, short: u64| if quick { short } else { full }.to_string();
    let mut cases = Vec::new();
    let bulk = [(BULK_1200, "1200"), (BULK_4_KIB, "4096"), (BULK_64_KIB, "65536"), (BULK_1_MIB, "1048576")];
    for (name, chunk) in bulk {
        let mib = size(if name == BULK_1200 { 256 } else { 512 }, 128);
        let case = Case::bulk(name, &["--mib", &mib, "--chunk", chunk]);
        cases.push(case.on_one_cpu().rounds(3).also_in_two_processes());
    }
    let asynchronous = ["--mib", &size(256, 128), "--chunk", "1200", "--async-write"];
    cases.push(Case::bulk(ASYNC_WRITE, &asynchronous).on_one_cpu().rounds(1));
    for (name, chunk) in bulk {
        // The peak of the memory is judged at 1 GiB.
        let rounds = if name == BULK_1200 { 1 } else { 5 };
        let case = Case::bulk(name, &["--mib", &size(1024, 128), "--chunk", chunk]).rounds(rounds);
        let is_judged_apart = [BULK_64_KIB, BULK_1_MIB].contains(&name);
        cases.push(if is_judged_apart { case.also_in_two_processes() } else { case });
    }
    cases.push(Case::bulk(ASYNC_WRITE, &asynchronous).rounds(3));

    let (count, trips) = (size(100_000, 10_000), size(20_000, 5000));
    cases.push(Case::messages(MESSAGES, &count).on_one_cpu().also_in_two_processes());
    cases.push(Case::messages(MESSAGES, &count).also_in_two_processes());
    cases.push(Case::ping_pong(&trips).on_one_cpu().also_in_two_processes());
    cases.push(Case::ping_pong(&trips).also_in_two_processes());
    for (name, chunk) in [(TRANSFER, "1048576"), (TRANSFER_WHOLE, "4194304")] {
        let arguments = ["transfer", "--count", &size(50, 10), "--chunk", chunk];
        let second = ("cpu_ms_per_transfer", "CPU ms/transfer");
        cases.push(Case::new(name, &arguments, "p50_ms", "ms, p50", second).also_in_two_processes());
    }
    let connect = Case::new(
        CONNECT,
        &["connect", "--count", &size(1000, 100)],
        "connects_per_second",
        "connects/s",
        ("max_stall_ms", "ms, max"),
    );
    cases.push(connect.clone().on_one_cpu().rounds(3).also_in_two_processes());
    cases.push(connect.rounds(3));
    let arguments = ["idle", "--connections", &size(1000, 200), "--seconds", &size(10, 2)];
    let case = Case::new(IDLE_CPU, &arguments, "cpu_ms_per_second", "CPU ms/s", PEAK);
    cases.push(case.rounds(1).also_in_two_processes());
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
                let is_judged = kind == "connections" && ["100", "1000"].contains(&count);
                cases.push(if is_judged { case.rounds(3).also_in_two_processes() } else { case });
            }
        }
        let arguments = ["--mib", &size(512, 128), "--connections", "10000", "--descriptors", "1024"];
        let mut case = Case::bulk(FEW_DESCRIPTORS, &arguments).rounds(1).for_scale().also_in_two_processes();
        case.second = PEAK;
        cases.push(case);
        for count in MESSAGE_COUNTS {
            // On one CPU, where the time is the same from run to run.
            let mut case = Case::messages(&message_count(count), &count.to_string()).on_one_cpu().for_scale();
            (case.figure, case.unit, case.second) = ("us_per_message", "us/message", PEAK);
            // What takes a hundredth of a second is hit harder by whatever else happens.
            cases.push(case.rounds(if count <= 10_000 { 15 } else { 3 }));
        }
    }
    let seconds = if quick { "1" } else { "3" };
    for (name, connections, requests) in
        [(HTTP3_1_X_1, "1", "1"), (HTTP3_2_X_32, "2", "32"), (HTTP3_64_X_64, "64", "64")]
    {
        let arguments = ["--connections", connections, "--requests", requests, "--seconds", seconds];
        let second = ("server_cpu_us_per_request", "server's CPU us/request");
        cases.push(Case::http3(name, &arguments, "requests_per_second", "requests/s", second));
        let name = format!("{name}{BY_QUINN}");
        let arguments = [&arguments[..], &["--client", "quinn"]].concat();
        cases.push(Case::http3(&name, &arguments, "requests_per_second", "requests/s", second));
    }
    for (name, client) in [(HTTP3_LARGE.to_owned(), "sendstream"), (format!("{HTTP3_LARGE}{BY_QUINN}"), "quinn")] {
        let arguments = ["--large", "--connections", "2", "--requests", "4", "--seconds", seconds, "--client", client];
        let second = ("server_cpu_us_per_request", "server's CPU us/request");
        cases.push(Case::http3(&name, &arguments, "mb_per_second", "MB/s", second));
    }
    let apart: Vec<_> = cases.iter().filter(|case| case.also_in_two_processes).map(Case::in_two_processes).collect();
    cases.extend(apart);
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
    pub(crate) place: Place,
    /// Whether there is a second case with the client and the server in two processes.
    also_in_two_processes: bool,
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
        Self {
            workload: workload.to_owned(),
            arguments,
            place: ALL_CPUS,
            also_in_two_processes: false,
            figure,
            unit,
            second,
            rounds: 5,
            scale: false,
        }
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

    /// The load generator and a server, each in a process of its own.
    fn http3(
        workload: &str,
        arguments: &[&str],
        figure: &'static str,
        unit: &'static str,
        second: (&'static str, &'static str),
    ) -> Self {
        Self { place: HTTP3, ..Self::new(workload, arguments, figure, unit, second) }
    }

    fn on_one_cpu(self) -> Self {
        Self { place: ONE_CPU, ..self }
    }

    fn also_in_two_processes(self) -> Self {
        Self { also_in_two_processes: true, ..self }
    }

    fn in_two_processes(&self) -> Self {
        let rounds = self.rounds.min(3);
        Self { place: self.place.in_two_processes(), rounds, ..self.clone() }
    }

    fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }

    fn for_scale(self) -> Self {
        Self { scale: true, ..self }
    }

    pub(crate) fn name(&self) -> String {
        name(&self.workload, self.place)
    }

    /// The stack that the tables compare with.
    pub(crate) fn base(&self) -> &'static str {
        if self.workload.starts_with("HTTP/3") { "http3-quinn" } else { "raw" }
    }

    /// Raw MsQuic has no `AsyncWrite`. In two processes nothing is judged by, or compared with, the
    /// variants of MsQuic and of Sendstream.
    pub(crate) fn is_for(&self, stack: &str) -> bool {
        if self.workload.starts_with("HTTP/3") || stack.starts_with("http3-") {
            return self.workload.starts_with("HTTP/3") && stack.starts_with("http3-");
        }
        let has_none = stack.starts_with("raw") && self.arguments.iter().any(|argument| argument == "--async-write");
        let is_variant = ["raw-edited", "sendstream-threads", "sendstream-local"].contains(&stack);
        !(has_none || is_variant && self.place.two_processes)
    }
}

/// Where a workload runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) one_cpu: bool,
    /// Whether client and server are a process each.
    pub(crate) two_processes: bool,
}

pub(crate) const ONE_CPU: Place = Place { one_cpu: true, two_processes: false };
/// Where HTTP/3 is measured.
pub(crate) const HTTP3: Place = Place { one_cpu: false, two_processes: true };
pub(crate) const ALL_CPUS: Place = Place { one_cpu: false, two_processes: false };

impl Place {
    pub(crate) fn in_two_processes(self) -> Self {
        Self { two_processes: true, ..self }
    }
}

/// What a workload in one place is called.
pub(crate) fn name(workload: &str, place: Place) -> String {
    let cpus = if place.one_cpu { "one CPU" } else { "all CPUs" };
    format!("{workload}, {cpus}{}", if place.two_processes { ", two processes" } else { "" })
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
pub(crate) const TRANSFER: &str = "4 MiB in 1 MiB chunks";
pub(crate) const TRANSFER_WHOLE: &str = "4 MiB in one send";
pub(crate) const CONNECT: &str = "connect";
pub(crate) const IDLE_CPU: &str = "CPU of idle connections";
pub(crate) const IDLE_CONNECTIONS: &str = "idle connections";
pub(crate) const OPEN_STREAMS: &str = "open streams";
pub(crate) const CONNECTIONS_100: &str = "100 connections";
pub(crate) const CONNECTIONS_1000: &str = "1000 connections";
pub(crate) const FEW_DESCRIPTORS: &str = "10000 connections, 1024 descriptors";

pub(crate) const HTTP3_1_X_1: &str = "HTTP/3, 1 x 1";
pub(crate) const HTTP3_2_X_32: &str = "HTTP/3, 2 x 32";
pub(crate) const HTTP3_64_X_64: &str = "HTTP/3, 64 x 64";
pub(crate) const HTTP3_LARGE: &str = "HTTP/3, bodies of 4 MB";
/// What follows those names where the generator's QUIC is quinn and not Sendstream.
pub(crate) const BY_QUINN: &str = " asked by quinn";

/// How many messages the cases have that show whether each takes the same time.
pub(crate) const MESSAGE_COUNTS: [u64; 4] = [1000, 10_000, 100_000, 1_000_000];

const PEAK: (&str, &str) = ("peak_resident_kib", "KiB, peak");
