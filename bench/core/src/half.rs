//! [`Half`]: the client's or the server's half of a workload, and what it agrees with the other.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};

use anyhow::{Result, ensure};
use serde::{Serialize, de::DeserializeOwned};

use crate::{process::Meter, stack::Cost};

/// One half of a workload.
///
/// The two halves send each other lines of JSON: over a pair of sockets in one process, over the
/// server's stdin and stdout where it is a process of its own. All calls block, also those that are
/// made within a runtime's `block_on`: its workers go on.
///
/// Measuring begins when both halves say so. The half that knows the end calls
/// [`start`](Self::start), the other one [`follow`](Self::follow).
pub struct Half {
    side: Side,
    cpu: Option<usize>,
    /// Whether the other half is in another process.
    is_apart: bool,
    to: Mutex<Box<dyn Write + Send>>,
    from: Arc<Mutex<Lines>>,
    /// What was measured last.
    cost: Mutex<Option<Cost>>,
    /// Waits for the other half's word to stop this process's meter.
    follower: Mutex<Option<JoinHandle<Result<Cost>>>>,
}

/// The client's half or the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// A measurement that this half ends.
#[must_use]
pub struct Running<'a> {
    half: &'a Half,
    meter: Meter,
}

type Lines = Box<dyn BufRead + Send>;

impl Half {
    /// The client's half and the server's, both in this process.
    pub(crate) fn pair(cpu: Option<usize>) -> Result<(Self, Self)> {
        let (client, server) = UnixStream::pair()?;
        let half =
            |side, stream: UnixStream| Ok::<_, anyhow::Error>(Self::new(side, cpu, false, stream.try_clone()?, stream));
        Ok((half(Side::Client, client)?, half(Side::Server, server)?))
    }

    /// A half whose other one is in another process.
    pub fn apart(
        side: Side,
        cpu: Option<usize>,
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
    ) -> Self {
        Self::new(side, cpu, true, from, to)
    }

    fn new(
        side: Side,
        cpu: Option<usize>,
        is_apart: bool,
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
    ) -> Self {
        let from: Lines = Box::new(BufReader::new(from));
        Self {
            side,
            cpu,
            is_apart,
            to: Mutex::new(Box::new(to)),
            from: Arc::new(Mutex::new(from)),
            cost: Mutex::default(),
            follower: Mutex::default(),
        }
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Whether the other half is in another process.
    pub(crate) fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// Whether this half speaks for its process: one of two in the same process does.
    pub(crate) fn speaks(&self) -> bool {
        self.is_apart || self.side == Side::Client
    }

    /// Returns when the other half has called it too.
    pub fn meet(&self) -> Result<()> {
        self.say(&())?;
        self.hear()
    }

    /// Starts to measure, together with the other half's [`follow`](Self::follow).
    pub fn start(&self) -> Result<Running<'_>> {
        Ok(Running { half: self, meter: self.start_meter()? })
    }

    /// Starts to measure, together with the other half's [`start`](Self::start), until that half
    /// says that it is done.
    pub fn follow(&self) -> Result<()> {
        let meter = self.start_meter()?;
        // In one process the other half's meter measures everything.
        if self.is_apart {
            let from = self.from.clone();
            let follow = move || {
                let () = hear(&from)?;
                meter.stop()
            };
            *locked(&self.follower) = Some(thread::spawn(follow));
        }
        Ok(())
    }

    fn start_meter(&self) -> Result<Meter> {
        self.meet()?;
        let meter = Meter::start(self.cpu)?;
        // Nobody begins before both measure.
        self.meet()?;
        Ok(meter)
    }

    /// What was measured last by this half's meter.
    pub fn cost(&self) -> Option<Cost> {
        *locked(&self.cost)
    }

    /// Sends the other half a value.
    pub fn say(&self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let mut to = locked(&self.to);
        to.write_all(&line)?;
        Ok(to.flush()?)
    }

    /// Waits for the next value from the other half.
    pub fn hear<T: DeserializeOwned>(&self) -> Result<T> {
        if let Some(follower) = locked(&self.follower).take() {
            *locked(&self.cost) = Some(follower.join().expect("it does not panic")?);
        }
        hear(&self.from)
    }
}

impl Running<'_> {
    /// Ends the measurement.
    pub fn stop(self) -> Result<()> {
        let Self { half, meter } = self;
        *locked(&half.cost) = Some(meter.stop()?);
        if half.is_apart { half.say(&()) } else { Ok(()) }
    }
}

fn hear<T: DeserializeOwned>(from: &Mutex<Lines>) -> Result<T> {
    let mut line = String::new();
    ensure!(locked(from).read_line(&mut line)? > 0, "the other half is gone");
    Ok(serde_json::from_str(&line)?)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a workload in which the server ends the measurement.
    fn play(client: Half, server: Half) -> (Half, Half) {
        let server = thread::spawn(move || {
            server.start().unwrap().stop().unwrap();
            server.meet().unwrap();
            server.say(&7).unwrap();
            server
        });
        client.follow().unwrap();
        client.meet().unwrap();
        assert_eq!(client.hear::<u32>().unwrap(), 7);
        (client, server.join().unwrap())
    }

    #[test]
    fn in_one_process_one_half_measures() {
        let (client, server) = Half::pair(None).unwrap();
        let (client, server) = play(client, server);
        assert!(server.cost().is_some());
        assert!(client.cost().is_none());
        assert!(client.speaks() && !server.speaks());
    }

    #[test]
    fn in_two_processes_both_halves_measure() {
        let (client, server) = UnixStream::pair().unwrap();
        let half = |side, stream: UnixStream| Half::apart(side, None, stream.try_clone().unwrap(), stream);
        let (client, server) = play(half(Side::Client, client), half(Side::Server, server));
        assert!(server.cost().is_some());
        assert!(client.cost().is_some());
        assert!(client.speaks() && server.speaks());
    }

    #[test]
    fn a_half_that_is_alone_is_told() {
        let (client, server) = Half::pair(None).unwrap();
        drop(server);
        assert!(client.meet().is_err());
    }
}
