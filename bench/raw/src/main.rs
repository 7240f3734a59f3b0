//! MsQuic by plain callbacks: no futures, no wake-ups, no threads but MsQuic's. The floor that
//! Sendstream is measured against.
//!
//! Everything happens in the callbacks, on the connection's own worker: what a callback learns, it
//! acts upon. The main thread starts a workload and waits for its end. Send buffering is off as in
//! Sendstream, and senders keep as many bytes under way as MsQuic finds ideal. A callback that
//! finds something wrong panics, which ends the process.
//!
//! Contexts that callbacks use are leaked, or freed at the event that is the last; nothing is torn
//! down at the end.

mod bulk;
mod hold;
mod messages;
mod native;
mod ping;

use std::{
    any::Any,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use anyhow::Result;
use bench_core::{Bulk, Cost, Handshakes, Messages, Meter, RoundTrips, Setup, Stack, Suite};

use native::Native;

fn main() -> ! {
    bench_core::run::<Raw>()
}

struct Raw {
    native: Native,
    suite: Suite,
    cpu: Option<usize>,
}

impl Stack for Raw {
    const NAME: &'static str = "raw";
    /// A client's socket, and three events of its.
    const DESCRIPTORS_PER_CONNECTION: u64 = 4;

    fn new(setup: &Setup) -> Result<Self> {
        Ok(Self { native: Native::open(setup)?, suite: setup.suite, cpu: setup.cpu })
    }

    fn suite(&self) -> Option<Suite> {
        Some(self.suite)
    }

    fn bulk(&self, plan: &Bulk) -> Result<Cost> {
        anyhow::ensure!(!plan.async_write, "raw has no AsyncWrite");
        let (tell, told) = channel();
        let clients = self.native.connect(plan.connections as usize, bulk::reader(plan, tell));
        let meter = Meter::start(self.cpu)?;
        for client in &clients {
            for _ in 0..plan.streams {
                bulk::write(*client, plan);
            }
        }
        for _ in 0..plan.connections * plan.streams {
            told.recv()?;
        }
        meter.stop()
    }

    fn messages(&self, plan: &Messages) -> Result<Cost> {
        let (tell, told) = channel();
        let clients = self.native.connect(1, messages::reader(plan, tell));
        let meter = Meter::start(self.cpu)?;
        messages::write(clients[0], plan);
        told.recv()?;
        meter.stop()
    }

    fn ping_pong(&self, count: u64) -> Result<RoundTrips> {
        let (tell, told) = channel();
        let clients = self.native.connect(1, ping::echo());
        let meter = Meter::start(self.cpu)?;
        ping::ping(clients[0], count, tell);
        let nanoseconds = told.recv()?;
        Ok(RoundTrips { cost: meter.stop()?, nanoseconds })
    }

    fn connect(&self, count: u64) -> Result<Handshakes> {
        let mut nanoseconds = bench_core::histogram();
        let meter = Meter::start(self.cpu)?;
        for _ in 0..count {
            let start = Instant::now();
            let clients = self.native.connect(1, Box::new(|_| panic!("nobody opens a stream")));
            nanoseconds.record(start.elapsed().as_nanos() as u64)?;
            native::shut_down(clients[0]);
        }
        Ok(Handshakes { cost: meter.stop()?, nanoseconds })
    }

    fn hold(&self, connections: usize, streams: usize) -> Result<Box<dyn Any>> {
        let (tell, told) = channel();
        let clients = self.native.connect(connections, hold::reader(tell));
        for client in &clients {
            (0..streams).for_each(|number| hold::open(*client, number as u64));
        }
        for _ in 0..connections * streams {
            told.recv_timeout(Duration::from_secs(60))?;
        }
        // They stay until the process ends.
        Ok(Box::new(()))
    }
}
