//! One workload, measured and reported.

use std::{io::Write, process, thread, time::Duration};

use anyhow::Result;
use clap::Parser;
use serde_json::{Map, Value, json};

use crate::{
    identity::Identity,
    plan::{self, Messages, Plan, Workload},
    process as measure,
    stack::{Cost, Setup, Stack},
};

/// The whole of a bench program.
pub fn run<S: Stack>() -> ! {
    let plan = Plan::parse();
    // Nothing is torn down, neither here nor on a failure: the figures are out, and the system does
    // it better.
    let code = match measured::<S>(&plan) {
        Ok(report) => {
            println!("{report}");
            0
        }
        Err(error) => {
            eprintln!("bench {}: {error:#}", S::NAME);
            1
        }
    };
    let _ = std::io::stdout().flush();
    // SAFETY: it ends the process without running anything else; stdout was flushed.
    unsafe { libc::_exit(code) }
}

fn measured<S: Stack>(plan: &Plan) -> Result<Value> {
    let (needed, allowed) = (descriptors::<S>(&plan.workload), measure::raise_file_limit()?);
    if needed > allowed {
        let reason = format!("needs {needed} descriptors, the system allows {allowed}");
        return Ok(json!({ "stack": S::NAME, "not_possible_here": reason }));
    }
    if let Some(cpu) = plan.cpu {
        measure::move_threads_to(cpu)?;
    }
    let setup =
        Setup { identity: Identity::new()?, suite: plan.suite, streams: plan.workload.streams(), cpu: plan.cpu };
    let stack = S::new(&setup)?;
    let mut report = match &plan.workload {
        Workload::Bulk(bulk) => {
            let cost = stack.bulk(bulk)?;
            let gib = bulk.mib as f64 / 1024.0;
            report(
                cost,
                [
                    ("mib_per_second", json!(bulk.mib as f64 / cost.seconds)),
                    ("cpu_seconds_per_gib", json!(cost.cpu_seconds / gib)),
                ],
            )
        }
        Workload::Messages(messages) => {
            // Connections of their own, so what the other is warmed by is the process: code,
            // allocators, pools.
            stack.messages(&Messages { count: plan::WARM_UP_MESSAGES, ..messages.clone() })?;
            let cost = stack.messages(messages)?;
            let count = messages.count as f64;
            report(
                cost,
                [
                    ("messages_per_second", json!(count / cost.seconds)),
                    ("us_per_message", json!(cost.seconds * 1e6 / count)),
                    ("cpu_us_per_message", json!(cost.cpu_seconds * 1e6 / count)),
                ],
            )
        }
        Workload::PingPong { count } => {
            let trips = stack.ping_pong(*count)?;
            let microseconds = |quantile| json!(trips.nanoseconds.value_at_quantile(quantile) as f64 / 1e3);
            report(
                trips.cost,
                [
                    ("p50_us", microseconds(0.5)),
                    ("p99_us", microseconds(0.99)),
                    ("cpu_us_per_round_trip", json!(trips.cost.cpu_seconds * 1e6 / *count as f64)),
                ],
            )
        }
        Workload::Connect { count } => {
            let handshakes = stack.connect(*count)?;
            let cost = handshakes.cost;
            report(
                cost,
                [
                    ("connects_per_second", json!(*count as f64 / cost.seconds)),
                    ("p50_us", json!(handshakes.nanoseconds.value_at_quantile(0.5) as f64 / 1e3)),
                    ("max_stall_ms", json!(handshakes.nanoseconds.max() as f64 / 1e6)),
                    ("cpu_us_per_connect", json!(cost.cpu_seconds * 1e6 / *count as f64)),
                ],
            )
        }
        Workload::Memory { connections, streams } => memory(&stack, *connections, *streams)?,
    };
    if let Some(cpu) = plan.cpu {
        measure::check_threads_on(cpu)?;
    }
    report.insert("stack".into(), json!(S::NAME));
    report.insert("suite".into(), json!(stack.suite().map(|suite| suite.name())));
    report.insert("peak_resident_kib".into(), json!(measure::peak_resident_kib()?));
    report.insert("process".into(), json!(process::id()));
    Ok(Value::Object(report))
}

/// How many files a workload has open at once, at most.
fn descriptors<S: Stack>(workload: &Workload) -> u64 {
    // Those of the runtime, of both endpoints, and of connections made before the measurement.
    const BESIDES: u64 = 200;
    BESIDES + S::DESCRIPTORS_PER_CONNECTION * workload.connections()
}

fn report<const N: usize>(cost: Cost, figures: [(&str, Value); N]) -> Map<String, Value> {
    let cost = [("seconds", json!(cost.seconds)), ("cpu_seconds", json!(cost.cpu_seconds))];
    cost.into_iter().chain(figures).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What `connections` connections with `streams` streams each take, beyond what a few of them took.
fn memory<S: Stack>(stack: &S, connections: usize, streams: usize) -> Result<Map<String, Value>> {
    let few = stack.hold(8, 8)?;
    let before = settled_kib()?;
    let many = stack.hold(connections, streams)?;
    let after = settled_kib()?;
    drop((few, many));
    let objects = if streams == 0 { connections } else { connections * streams };
    let kib = (after as f64 - before as f64) / objects as f64;
    let name = if streams == 0 { "kib_per_connection" } else { "kib_per_stream" };
    Ok(Map::from_iter([
        ("resident_before_kib".to_owned(), json!(before)),
        ("resident_after_kib".to_owned(), json!(after)),
        (name.to_owned(), json!(kib)),
    ]))
}

/// The resident memory once it stays the same for a while: handshakes end, caches fill.
fn settled_kib() -> Result<u64> {
    let mut last = measure::resident_kib()?;
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(250));
        let now = measure::resident_kib()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
