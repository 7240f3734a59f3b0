//! One workload, measured and reported.

use std::{
    env,
    io::{Write, stdin, stdout},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    half::{Half, Side},
    identity::Identity,
    plan::{self, Hold, Messages, Plan, Role, Work, Workload},
    process as measure,
    stack::{Cost, Listening, Setup, Stack},
};

/// The whole of a bench program.
pub fn run<S: Stack>() -> ! {
    let plan = Plan::parse();
    match measured::<S>(&plan) {
        Ok(report) => {
            if let Some(report) = report {
                println!("{report}");
            }
            end(0)
        }
        Err(error) => fail::<S>(&error),
    }
}

fn fail<S: Stack>(error: &anyhow::Error) -> ! {
    eprintln!("bench {}: {error:#}", S::NAME);
    end(1)
}

/// Ends the process. Nothing is torn down: the figures are out, and the system does it better.
fn end(code: i32) -> ! {
    let _ = stdout().flush();
    // SAFETY: it ends the process without running anything else; stdout was flushed.
    unsafe { libc::_exit(code) }
}

/// The report; a server has none, as its client tells it.
fn measured<S: Stack>(plan: &Plan) -> Result<Option<Value>> {
    let (needed, allowed) = (descriptors::<S>(plan), measure::set_file_limit(plan.descriptors)?);
    if needed > allowed {
        let reason = format!("needs {needed} descriptors, the system allows {allowed}");
        return Ok(Some(json!({ "stack": S::NAME, "not_possible_here": reason })));
    }
    if let Some(cpu) = plan.cpu {
        measure::move_threads_to(cpu)?;
    }
    match plan.role {
        Role::Both => {
            let (client, server) = Half::pair(plan.cpu)?;
            let stack = stack::<S>(plan)?;
            let its_plan = plan.clone();
            thread::spawn(move || {
                if let Err(error) = serve(stack, &its_plan, &server) {
                    fail::<S>(&error);
                }
            });
            drive(stack, plan, &client).map(Some)
        }
        Role::Client => {
            let half = start_server::<S>(plan)?;
            drive(stack::<S>(plan)?, plan, &half).map(Some)
        }
        Role::Server => {
            measure::end_with_parent()?;
            let half = Half::apart(Side::Server, plan.cpu, stdin(), stdout());
            serve(stack::<S>(plan)?, plan, &half)?;
            Ok(None)
        }
    }
}

fn stack<S: Stack>(plan: &Plan) -> Result<&'static S> {
    Ok(Box::leak(Box::new(S::new(&setup(plan))?)))
}

fn setup(plan: &Plan) -> Setup {
    Setup { suite: plan.suite, streams: plan.workload.streams() }
}

/// How many files this process has open at once, at most.
fn descriptors<S: Stack>(plan: &Plan) -> u64 {
    // Those of the runtime, of both endpoints, and of connections made before the measurement.
    const BESIDES: u64 = 200;
    match plan.role {
        Role::Server => BESIDES,
        Role::Both | Role::Client => BESIDES + S::DESCRIPTORS_PER_CONNECTION * plan.workload.connections(),
    }
}

/// Starts this program once more, as a server with the same arguments.
fn start_server<S: Stack>(plan: &Plan) -> Result<Half> {
    let mut server = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .args(["--role", "server"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the server")?;
    let (from, to) = (server.stdout.take().expect("a pipe"), server.stdin.take().expect("a pipe"));
    thread::spawn(move || match server.wait() {
        Ok(status) if status.success() => {}
        // It has said why. Nothing else may wait for it.
        _ => fail::<S>(&anyhow::anyhow!("the server has failed")),
    });
    Ok(Half::apart(Side::Client, plan.cpu, from, to))
}

fn serve<S: Stack>(stack: &'static S, plan: &Plan, half: &Half) -> Result<()> {
    let identity = Identity::new()?;
    let (server, address) = stack.listen(&setup(plan), &identity)?;
    let server: &'static S::Server = Box::leak(Box::new(server));
    half.say(&Listening { address, certificate_pem: identity.certificate_pem.clone() })?;
    let share = play(plan, half, |work| stack.serve(server, work, half))?.0;
    half.say(&share)
}

fn drive<S: Stack>(stack: &'static S, plan: &Plan, half: &Half) -> Result<Value> {
    let client: &'static S::Client = Box::leak(Box::new(stack.client(&setup(plan), &half.hear()?)?));
    let (client_share, times) = play(plan, half, |work| stack.drive(client, work, half))?;
    let server_share: Share = half.hear()?;
    let total = if half.is_apart() { client_share.and(&server_share) } else { client_share.or(&server_share) };
    let mut report = figures(&plan.workload, &total, &times)?;
    report.insert("stack".into(), json!(S::NAME));
    report.insert("suite".into(), json!(stack.suite(client).map(|suite| suite.name())));
    report.insert("process".into(), json!(process::id()));
    if half.is_apart() {
        for (side, share) in [("client", client_share), ("server", server_share)] {
            if let Some(cost) = share.cost {
                report.insert(format!("{side}_cpu_seconds"), json!(cost.cpu_seconds));
            }
            report.insert(format!("{side}_peak_resident_kib"), json!(share.peak_resident_kib));
        }
    }
    Ok(Value::Object(report))
}

/// What one process took, or what both did.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Share {
    cost: Option<Cost>,
    /// Before and after what `memory` adds.
    resident_kib: (u64, u64),
    peak_resident_kib: u64,
}

impl Share {
    /// Of two processes.
    fn and(&self, other: &Self) -> Self {
        let cost = self.cost.zip(other.cost).map(|(own, other)| Cost {
            // One of the two hears of the end later.
            seconds: own.seconds.min(other.seconds),
            cpu_seconds: own.cpu_seconds + other.cpu_seconds,
        });
        let ((before, after), (others_before, others_after)) = (self.resident_kib, other.resident_kib);
        Self {
            cost,
            resident_kib: (before + others_before, after + others_after),
            peak_resident_kib: self.peak_resident_kib + other.peak_resident_kib,
        }
    }

    /// Of one process, for which this half speaks. Either half may have ended the measurement.
    fn or(&self, other: &Self) -> Self {
        Self { cost: self.cost.or(other.cost), ..self.clone() }
    }
}

/// One half of a workload. `perform` does what a stack is asked to do.
fn play<T>(plan: &Plan, half: &Half, perform: impl Fn(&Work) -> Result<T>) -> Result<(Share, T)> {
    let mut resident_kib = (0, 0);
    let done = match &plan.workload {
        Workload::Bulk(bulk) => perform(&Work::Bulk(bulk.clone()))?,
        Workload::Messages(messages) => {
            // Connections of their own, so what the other is warmed by is the process: code,
            // allocators, pools.
            perform(&Work::Messages(Messages { count: plan::WARM_UP_MESSAGES, ..messages.clone() }))?;
            perform(&Work::Messages(messages.clone()))?
        }
        Workload::PingPong { count } => perform(&Work::PingPong { count: *count })?,
        Workload::Connect { count } => perform(&Work::Connect { count: *count })?,
        Workload::Transfer(transfer) => perform(&Work::Transfer(transfer.clone()))?,
        Workload::Memory(hold) => {
            // What they take beyond what a few of them took.
            perform(&Work::Hold(Hold { connections: 8, streams: 8 }))?;
            let before = settled_kib(half)?;
            let done = perform(&Work::Hold(hold.clone()))?;
            resident_kib = (before, settled_kib(half)?);
            done
        }
        Workload::Idle { connections, seconds } => {
            let done = perform(&Work::Hold(Hold { connections: *connections, streams: 0 }))?;
            // Whatever follows a handshake comes to its end.
            thread::sleep(Duration::from_secs(3));
            match half.side() {
                Side::Client => {
                    let running = half.start()?;
                    thread::sleep(Duration::from_secs(*seconds));
                    running.stop()?;
                }
                Side::Server => half.follow()?,
            }
            half.meet()?;
            done
        }
    };
    let mut peak_resident_kib = 0;
    if half.speaks() {
        if let Some(cpu) = plan.cpu {
            measure::check_threads_on(cpu)?;
        }
        peak_resident_kib = measure::peak_resident_kib()?;
    }
    Ok((Share { cost: half.cost(), resident_kib, peak_resident_kib }, done))
}

/// The resident memory once it stays the same for a while: handshakes end, caches fill. Both halves
/// wait for it.
fn settled_kib(half: &Half) -> Result<u64> {
    let mut last = 0;
    if half.speaks() {
        last = measure::resident_kib()?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(250));
            let now = measure::resident_kib()?;
            if now == last {
                break;
            }
            last = now;
        }
    }
    half.meet()?;
    Ok(last)
}

/// What the share says of the workload. `nanoseconds` has the times of what was done more than
/// once.
fn figures(workload: &Workload, share: &Share, nanoseconds: &Histogram<u64>) -> Result<Map<String, Value>> {
    let cost = || share.cost.context("nothing was measured");
    let microseconds = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
    let of_workload = match workload {
        Workload::Bulk(bulk) => {
            let (cost, mib) = (cost()?, bulk.mib as f64);
            vec![("mib_per_second", mib / cost.seconds), ("cpu_seconds_per_gib", cost.cpu_seconds / (mib / 1024.0))]
        }
        Workload::Messages(messages) => {
            let (cost, count) = (cost()?, messages.count as f64);
            vec![
                ("messages_per_second", count / cost.seconds),
                ("us_per_message", cost.seconds * 1e6 / count),
                ("cpu_us_per_message", cost.cpu_seconds * 1e6 / count),
            ]
        }
        Workload::PingPong { count } => vec![
            ("p50_us", microseconds(0.5)),
            ("p99_us", microseconds(0.99)),
            ("cpu_us_per_round_trip", cost()?.cpu_seconds * 1e6 / *count as f64),
        ],
        Workload::Connect { count } => {
            let (cost, count) = (cost()?, *count as f64);
            vec![
                ("connects_per_second", count / cost.seconds),
                ("p50_us", microseconds(0.5)),
                ("max_stall_ms", nanoseconds.max() as f64 / 1e6),
                ("cpu_us_per_connect", cost.cpu_seconds * 1e6 / count),
            ]
        }
        Workload::Transfer(transfer) => vec![
            ("p50_ms", microseconds(0.5) / 1e3),
            ("p99_ms", microseconds(0.99) / 1e3),
            ("cpu_ms_per_transfer", cost()?.cpu_seconds * 1e3 / transfer.count as f64),
        ],
        Workload::Memory(Hold { connections, streams }) => {
            let (before, after) = (share.resident_kib.0 as f64, share.resident_kib.1 as f64);
            let (name, objects) = match streams {
                0 => ("kib_per_connection", *connections),
                _ => ("kib_per_stream", connections * streams),
            };
            vec![
                ("resident_before_kib", before),
                ("resident_after_kib", after),
                (name, (after - before) / objects as f64),
            ]
        }
        Workload::Idle { .. } => {
            let cost = cost()?;
            vec![("cpu_ms_per_second", (cost.cpu_seconds * 1e3 / cost.seconds).max(LEAST_CPU_MS_PER_SECOND))]
        }
    };
    let cost = share.cost.map(|cost| [("seconds", cost.seconds), ("cpu_seconds", cost.cpu_seconds)]);
    let peak = ("peak_resident_kib", share.peak_resident_kib as f64);
    let all = cost.into_iter().flatten().chain(of_workload).chain([peak]);
    Ok(all.map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

/// What takes less is not told apart from what the measuring takes.
const LEAST_CPU_MS_PER_SECOND: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(seconds: f64) -> Share {
        let cost = Some(Cost { seconds, cpu_seconds: 2.0 });
        Share { cost, resident_kib: (10, 20), peak_resident_kib: 30 }
    }

    #[test]
    fn two_processes_add_up_but_for_the_time() {
        let both = share(1.5).and(&share(1.0));
        let cost = both.cost.unwrap();
        assert_eq!((cost.seconds, cost.cpu_seconds), (1.0, 4.0));
        assert_eq!((both.resident_kib, both.peak_resident_kib), ((20, 40), 60));
    }

    #[test]
    fn one_process_counts_once() {
        let ended_by_the_server = Share { cost: None, ..share(1.0) }.or(&share(3.0));
        assert_eq!(ended_by_the_server.cost.unwrap().seconds, 3.0);
        assert_eq!((ended_by_the_server.resident_kib, ended_by_the_server.peak_resident_kib), ((10, 20), 30));
    }
}
