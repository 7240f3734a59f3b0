//! The crate's numbers for the exporters of the [`metrics`](https://docs.rs/metrics) facade:
//! Prometheus, StatsD, ...
//!
//! MsQuic counts them in any case. This module adds no counter and no thread. The application calls
//! [`record`] before each scrape or every few seconds, and [`record_connection`] for single
//! connections.
//!
//! ```
//! use sendstream::metrics;
//!
//! # fn install_an_exporter() {}
//! # async fn example(connection: sendstream::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! install_an_exporter(); // such as `PrometheusBuilder::new().install()?`
//! metrics::describe();
//!
//! // Then, each time:
//! metrics::record()?;
//! metrics::record_connection(&connection.stats().await?, &[("peer", "node-7")]);
//! # Ok(())
//! # }
//! ```
//!
//! Without an exporter all of this does nothing.

use std::time::Duration;

use ::metrics::{IntoLabels, Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{
    native::stats::counters,
    types::{
        error::NativeError,
        stats::{ConnectionStats, Counters},
    },
};

/// Gives the exporter that is installed the description and the unit of every metric. Once, after
/// the exporter was installed.
pub fn describe() {
    describe_process();
    describe_connection();
}

/// Makes the functions for the metrics of the process from one list, which names every field of
/// [`Counters`] once.
macro_rules! process_metrics {
    ($($kind:ident $name:literal $unit:ident $field:ident $text:literal;)*) => {
        /// Records the process's [`counters`]. It does not wait.
        ///
        /// | metric | kind | meaning |
        /// | --- | --- | --- |
        $(#[doc = concat!("| `", $name, "` | ", stringify!($kind), " | ", $text, " |")])*
        ///
        /// # Errors
        ///
        /// MsQuic's status, should the library not start.
        pub fn record() -> Result<(), NativeError> {
            let Counters { $($field),* } = counters()?;
            $(set!($kind, $name, Vec::<Label>::new(), $field);)*
            Ok(())
        }

        fn describe_process() {
            $(describe!($kind, $name, $unit, $text);)*
        }
    };
}

/// Makes the functions for the metrics of one connection from one list.
macro_rules! connection_metrics {
    ($stats:ident: $($kind:ident $name:literal $unit:ident ($value:expr) $text:literal;)*) => {
        /// Records the numbers of one connection, from
        /// [`Connection::stats`](crate::Connection::stats), with `labels` that tell it from others.
        ///
        /// The application chooses the labels, because each set of labels is a time series. Use a
        /// name of the peer rather than its address and port, or no label for a single connection.
        /// Most exporters keep a series after its connection's end unless they drop idle ones.
        ///
        /// | metric | kind | meaning |
        /// | --- | --- | --- |
        $(#[doc = concat!("| `", $name, "` | ", stringify!($kind), " | ", $text, " |")])*
        pub fn record_connection(stats: &ConnectionStats, labels: impl IntoLabels) {
            let labels: Vec<Label> = labels.into_labels();
            let $stats = stats;
            $(if let Some(value) = Metric::value($value) {
                set!($kind, $name, labels.clone(), value);
            })*
        }

        fn describe_connection() {
            $(describe!($kind, $name, $unit, $text);)*
        }
    };
}

macro_rules! set {
    (counter, $name:literal, $labels:expr, $value:expr) => {
        counter!($name, $labels).absolute($value)
    };
    (gauge, $name:literal, $labels:expr, $value:expr) => {
        gauge!($name, $labels).set($value as f64)
    };
}

macro_rules! describe {
    (counter, $name:literal, $unit:ident, $text:literal) => {
        describe_counter!($name, Unit::$unit, $text)
    };
    (gauge, $name:literal, $unit:ident, $text:literal) => {
        describe_gauge!($name, Unit::$unit, $text)
    };
}

/// A field of [`ConnectionStats`] as a number, if there is one yet.
trait Metric {
    type Number;

    fn value(self) -> Option<Self::Number>;
}

impl Metric for u64 {
    type Number = Self;

    fn value(self) -> Option<Self> {
        Some(self)
    }
}

impl Metric for u32 {
    type Number = u64;

    fn value(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Metric for u16 {
    type Number = u64;

    fn value(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Metric for Duration {
    type Number = f64;

    fn value(self) -> Option<f64> {
        Some(self.as_secs_f64())
    }
}

impl<M: Metric> Metric for Option<M> {
    type Number = M::Number;

    fn value(self) -> Option<M::Number> {
        self.and_then(M::value)
    }
}

process_metrics! {
    gauge "sendstream_connections_active" Count connections_active "connections that exist now";
    gauge "sendstream_connections_connected" Count connections_connected "connections past their handshake now";
    gauge "sendstream_connections_queued" Count connections_queued "connections that wait for a worker now";
    gauge "sendstream_streams_active" Count streams_active "streams that exist now";
    gauge "sendstream_operations_queued" Count operations_queued "operations of connections that wait now";
    counter "sendstream_connections_created_total" Count connections_created "connections ever made, both ways";
    counter "sendstream_connections_resumed_total" Count connections_resumed "connections that resumed a session";
    counter "sendstream_connections_rejected_by_application_total" Count connections_rejected_by_application
        "connections that a server's application refused";
    counter "sendstream_connections_rejected_by_load_total" Count connections_rejected_by_load
        "connections refused because the workers had too much to do";
    counter "sendstream_handshakes_failed_total" Count handshakes_failed "connections that failed in the handshake";
    counter "sendstream_no_alpn_in_common_total" Count no_alpn_in_common
        "connections without an application protocol in common";
    counter "sendstream_protocol_errors_total" Count protocol_errors
        "connections that ended because a side broke the protocol";
    counter "sendstream_packets_suspected_lost_total" Count packets_suspected_lost "packets that were taken for lost";
    counter "sendstream_packets_dropped_total" Count packets_dropped "received packets that were thrown away";
    counter "sendstream_packets_undecryptable_total" Count packets_undecryptable
        "received packets that could not be decrypted";
    counter "sendstream_udp_received_total" Count udp_received "UDP datagrams received";
    counter "sendstream_udp_received_bytes_total" Bytes udp_received_bytes "bytes of UDP payload received";
    counter "sendstream_udp_receive_events_total" Count udp_receive_events
        "times that the system handed over received datagrams";
    counter "sendstream_udp_sent_total" Count udp_sent "UDP datagrams sent";
    counter "sendstream_udp_sent_bytes_total" Bytes udp_sent_bytes "bytes of UDP payload sent";
    counter "sendstream_udp_send_calls_total" Count udp_send_calls "times that the system was asked to send datagrams";
    counter "sendstream_application_sent_bytes_total" Bytes application_sent_bytes "bytes that applications sent";
    counter "sendstream_application_received_bytes_total" Bytes application_received_bytes
        "bytes that applications received";
    counter "sendstream_operations_completed_total" Count operations_completed "operations of connections that were done";
    counter "sendstream_paths_validated_total" Count paths_validated "paths that were validated (RFC 9000 §8.2)";
    counter "sendstream_paths_failed_total" Count paths_failed "paths whose validation failed";
    counter "sendstream_stateless_resets_sent_total" Count stateless_resets_sent "stateless resets sent (RFC 9000 §10.3)";
    counter "sendstream_stateless_retries_sent_total" Count stateless_retries_sent
        "Retry packets sent (RFC 9000 §8.1.2)";
}

connection_metrics! { stats:
    gauge "sendstream_connection_rtt_seconds" Seconds (stats.rtt) "smoothed round-trip time";
    gauge "sendstream_connection_rtt_variance_seconds" Seconds (stats.rtt_variance)
        "how much the round-trip time varies";
    gauge "sendstream_connection_min_rtt_seconds" Seconds (stats.min_rtt) "shortest round-trip time, once measured";
    gauge "sendstream_connection_max_rtt_seconds" Seconds (stats.max_rtt) "longest round-trip time, once measured";
    gauge "sendstream_connection_congestion_window_bytes" Bytes (stats.congestion_window)
        "bytes that congestion control lets be in flight";
    gauge "sendstream_connection_in_flight_bytes" Bytes (stats.bytes_in_flight)
        "bytes sent and neither acknowledged nor lost";
    gauge "sendstream_connection_path_mtu_bytes" Bytes (stats.path_mtu) "largest packet that the path is known to carry";
    counter "sendstream_connection_sent_packets_total" Count (stats.sent.packets) "packets sent";
    counter "sendstream_connection_sent_bytes_total" Bytes (stats.sent.bytes) "bytes of UDP payload sent";
    counter "sendstream_connection_sent_stream_bytes_total" Bytes (stats.sent.stream_bytes)
        "bytes of stream data sent, with what was sent again";
    counter "sendstream_connection_suspected_lost_packets_total" Count (stats.sent.suspected_lost_packets)
        "packets that were taken for lost";
    counter "sendstream_connection_spuriously_lost_packets_total" Count (stats.sent.spuriously_lost_packets)
        "packets that were taken for lost and acknowledged afterwards";
    counter "sendstream_connection_congestion_events_total" Count (stats.sent.congestion_events)
        "times that congestion made the window smaller";
    counter "sendstream_connection_persistent_congestion_events_total" Count
        (stats.sent.persistent_congestion_events) "times that congestion was persistent";
    counter "sendstream_connection_received_packets_total" Count (stats.received.packets) "packets received";
    counter "sendstream_connection_received_bytes_total" Bytes (stats.received.bytes) "bytes of UDP payload received";
    counter "sendstream_connection_received_stream_bytes_total" Bytes (stats.received.stream_bytes)
        "bytes of stream data received";
    counter "sendstream_connection_received_reordered_packets_total" Count (stats.received.reordered_packets)
        "packets that came after one with a higher number";
    counter "sendstream_connection_received_dropped_packets_total" Count (stats.received.dropped_packets)
        "received packets that were thrown away, with the duplicates";
    counter "sendstream_connection_key_updates_total" Count (stats.key_updates) "times that the keys were updated";
    counter "sendstream_connection_id_changes_total" Count (stats.connection_id_changes)
        "times that this side changed to another of the peer's connection ids";
}
