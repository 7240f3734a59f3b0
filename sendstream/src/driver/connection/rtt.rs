//! A connection's round-trip time, for every thread to read.

use std::time::Duration;

use sendstream_sys as sys;

use crate::{
    driver::connection::owner::ConnectionInstance,
    native::{api::abilities, parameter::SmoothedRtt},
};

impl ConnectionInstance {
    /// The smoothed round-trip time, without waiting for the worker.
    pub(crate) fn rtt(&self) -> Duration {
        let published = if abilities().publishes_rtt { self.parameter().ok() } else { None };
        match published {
            Some(SmoothedRtt(microseconds)) if microseconds != 0 => Duration::from_micros(microseconds.into()),
            _ => self.inner().noted_rtt(),
        }
    }

    /// CONNECTED: the first round trip is known. To be noted where MsQuic does not publish it.
    pub(super) fn note_first_rtt(&self) {
        if !abilities().publishes_rtt
            && let Ok(stats) = self.parameter::<sys::QUIC_STATISTICS_V2>()
        {
            self.inner().note_rtt(stats.Rtt);
        }
    }
}
