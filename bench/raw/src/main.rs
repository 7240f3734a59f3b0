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
    net::SocketAddr,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use anyhow::Result;
use bench_core::{Half, Identity, Listening, Setup, Stack, Suite, Work};
use hdrhistogram::Histogram;

use native::Handle;

fn main() -> ! {
    bench_core::run::<Raw>()
}

struct Raw {
    registration: Handle,
}

struct Client {
    native: native::Client,
    suite: Suite,
}

impl Stack for Raw {
    const NAME: &'static str = "raw";
    /// A client's socket, and three events of its.
    const DESCRIPTORS_PER_CONNECTION: u64 = 4;
    type Server = native::Server;
    type Client = Client;

    fn new(_setup: &Setup) -> Result<Self> {
        Ok(Self { registration: native::open() })
    }

    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(native::Server, SocketAddr)> {
        native::Server::listen(self.registration, setup, identity)
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<Client> {
        Ok(Client { native: native::Client::new(self.registration, setup, server)?, suite: setup.suite })
    }

    fn suite(&self, client: &Client) -> Option<Suite> {
        Some(client.suite)
    }

    fn serve(&self, server: &native::Server, work: &Work, half: &Half) -> Result<()> {
        let (tell, told) = channel();
        server.accept(match work {
            Work::Bulk(plan) => bulk::reader(plan, tell),
            Work::Messages(plan) => messages::reader(plan, tell),
            Work::PingPong { .. } => ping::echo(),
            Work::Connect { .. } => Box::new(|_| panic!("nobody opens a stream")),
            Work::Transfer(plan) => bulk::answerer(plan, tell),
            Work::Hold(_) => hold::reader(tell),
        });
        // Now clients may come.
        half.meet()?;
        match work {
            Work::Bulk(plan) => {
                server.wait(plan.connections as usize);
                let running = half.start()?;
                for _ in 0..plan.connections * plan.streams {
                    told.recv()?;
                }
                running.stop()?;
            }
            Work::Messages(_) => {
                server.wait(1);
                let running = half.start()?;
                told.recv()?;
                running.stop()?;
            }
            Work::PingPong { .. } => {
                server.wait(1);
                half.follow()?;
            }
            Work::Connect { count } => {
                half.follow()?;
                server.wait(*count as usize);
            }
            Work::Transfer(plan) => {
                half.follow()?;
                server.wait(plan.count as usize);
                for _ in 0..plan.count {
                    told.recv()?;
                }
            }
            Work::Hold(plan) => {
                server.wait(plan.connections);
                for _ in 0..plan.connections * plan.streams {
                    told.recv_timeout(Duration::from_secs(60))?;
                }
            }
        }
        half.meet()
    }

    fn drive(&self, client: &Client, work: &Work, half: &Half) -> Result<Histogram<u64>> {
        let mut nanoseconds = bench_core::histogram();
        half.meet()?;
        let client = &client.native;
        match work {
            Work::Bulk(plan) => {
                anyhow::ensure!(!plan.async_write, "raw has no AsyncWrite");
                let connections = client.connect(plan.connections as usize);
                half.follow()?;
                for connection in connections {
                    (0..plan.streams).for_each(|_| bulk::write(connection, plan));
                }
            }
            Work::Messages(plan) => {
                let connection = client.connect(1)[0];
                half.follow()?;
                messages::write(connection, plan);
            }
            Work::PingPong { count } => {
                let (tell, told) = channel();
                let connection = client.connect(1)[0];
                let running = half.start()?;
                ping::ping(connection, *count, tell);
                nanoseconds = told.recv()?;
                running.stop()?;
            }
            Work::Connect { count } => {
                let running = half.start()?;
                let mut last = None;
                for _ in 0..*count {
                    let start = Instant::now();
                    let connection = client.connect(1)[0];
                    nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                    // By now the server has the one before.
                    last.replace(connection).into_iter().for_each(native::shut_down);
                }
                last.into_iter().for_each(native::shut_down);
                running.stop()?;
            }
            Work::Transfer(plan) => {
                let (tell, told) = channel();
                let running = half.start()?;
                for _ in 0..plan.count {
                    let connection = client.connect(1)[0];
                    let start = Instant::now();
                    bulk::transfer(connection, plan, tell.clone());
                    told.recv()?;
                    nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                    native::shut_down(connection);
                }
                running.stop()?;
            }
            // They stay until the process ends.
            Work::Hold(plan) => {
                for connection in client.connect(plan.connections) {
                    (0..plan.streams).for_each(|number| hold::open(connection, number as u64));
                }
            }
        }
        half.meet()?;
        Ok(nanoseconds)
    }
}
