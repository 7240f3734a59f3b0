//! What exporters are given, and that what is given is true.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};
use sendstream::metrics;
use support::{Pair, run};

/// What was recorded under one name, and how it is described.
#[derive(Debug)]
struct Series {
    kind: MetricKind,
    labels: Vec<(String, String)>,
    value: f64,
    described: bool,
}

/// What `record` gives an exporter that was told what to expect.
fn recorded(record: impl FnOnce()) -> BTreeMap<String, Series> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    ::metrics::with_local_recorder(&recorder, || {
        metrics::describe();
        record();
    });
    let mut all = BTreeMap::new();
    for (key, unit, description, value) in snapshotter.snapshot().into_vec() {
        let value = match value {
            DebugValue::Counter(value) => value as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            other => panic!("{other:?}"),
        };
        let labels = key.key().labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        let series = Series { kind: key.kind(), labels, value, described: unit.is_some() && description.is_some() };
        assert!(all.insert(key.key().name().to_owned(), series).is_none(), "{} twice", key.key().name());
    }
    all
}

/// Everything has a description and a unit, and a name as Prometheus wants it.
fn check_names(all: &BTreeMap<String, Series>) {
    for (name, series) in all {
        assert!(series.described, "{name}");
        assert!(name.starts_with("sendstream_"), "{name}");
        assert_eq!(name.ends_with("_total"), series.kind == MetricKind::Counter, "{name}");
    }
}

#[test]
fn the_process_is_recorded_as_it_counts_itself() {
    run(async {
        let pair = Pair::new().await;
        pair.client.open_uni().unwrap().finish_with("some").await.unwrap();
        let before = sendstream::process::counters().unwrap();
        let all = recorded(|| metrics::record().unwrap());
        let after = sendstream::process::counters().unwrap();
        check_names(&all);
        assert!(all["sendstream_connections_active"].value >= 2.0);
        assert!(all["sendstream_connections_connected"].value >= 2.0);
        for (name, before, after) in [
            ("sendstream_connections_created_total", before.connections_created, after.connections_created),
            ("sendstream_udp_sent_bytes_total", before.udp_sent_bytes, after.udp_sent_bytes),
            ("sendstream_application_sent_bytes_total", before.application_sent_bytes, after.application_sent_bytes),
        ] {
            let value = all[name].value;
            assert!(0 < before && before as f64 <= value && value <= after as f64, "{name}: {before} {value} {after}");
        }
        pair.end().await;
    });
}

#[test]
fn a_connection_is_recorded_with_the_labels_that_the_application_chose() {
    run(async {
        let pair = Pair::new().await;
        pair.client.open_uni().unwrap().finish_with(vec![7; 100_000]).await.unwrap();
        let stats = pair.client.stats().await.unwrap();
        let all = recorded(|| metrics::record_connection(&stats, &[("peer", "node-7")]));
        check_names(&all);
        for (name, series) in &all {
            assert_eq!(series.labels, [("peer".to_owned(), "node-7".to_owned())], "{name}");
        }
        for (name, value) in [
            ("sendstream_connection_rtt_seconds", stats.rtt.as_secs_f64()),
            ("sendstream_connection_min_rtt_seconds", stats.min_rtt.unwrap().as_secs_f64()),
            ("sendstream_connection_congestion_window_bytes", stats.congestion_window as f64),
            ("sendstream_connection_path_mtu_bytes", stats.path_mtu.into()),
            ("sendstream_connection_sent_stream_bytes_total", stats.sent.stream_bytes as f64),
            ("sendstream_connection_received_packets_total", stats.received.packets as f64),
            ("sendstream_connection_key_updates_total", stats.key_updates.into()),
        ] {
            assert_eq!(all[name].value, value, "{name}");
        }
        assert!(stats.sent.stream_bytes >= 100_000);
        pair.end().await;
    });
}

#[test]
fn what_is_not_measured_yet_is_left_out() {
    run(async {
        let pair = Pair::new().await;
        let mut stats = pair.client.stats().await.unwrap();
        let measured: BTreeSet<_> =
            recorded(|| metrics::record_connection(&stats, &[("", ""); 0])).into_keys().collect();
        stats.min_rtt = None;
        stats.max_rtt = None;
        let left: BTreeSet<_> = recorded(|| metrics::record_connection(&stats, &[("", ""); 0])).into_keys().collect();
        let missing: Vec<_> = measured.difference(&left).collect();
        assert_eq!(missing, ["sendstream_connection_max_rtt_seconds", "sendstream_connection_min_rtt_seconds"]);
        pair.end().await;
    });
}

#[test]
fn recording_without_an_exporter_does_nothing() {
    metrics::describe();
    metrics::record().unwrap();
}
