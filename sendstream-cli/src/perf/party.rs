//! One end of a run, from its beginning to both ends' reports.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sendstream::{Connection, Incoming, RecvStream};
use tokio::sync::{mpsc, watch};

use super::{
    control::{Outbox, hear},
    counts::{Budget, Counts},
    handshakes::{self, Place},
    latency::Latency,
    ping_pong,
    plan::{Amount, End, Load, Plan},
    protocol::{Frame, Report, Sample, Tally, Total},
    receiving::{self, PeerSent},
    run_error::RunError,
    sending,
    tasks::Stop,
    transport::PATIENCE,
};

/// One end of a run.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) connection: Connection,
    pub(crate) plan: Plan,
    pub(crate) end: End,
    /// When the run began, with what is omitted.
    pub(crate) start: Instant,
    pub(crate) sent: Arc<Counts>,
    pub(crate) received: Arc<Counts>,
    /// How long pings and handshakes took, at the end that makes them.
    pub(crate) latency: Arc<Latency>,
    /// When its senders end in any case, and by when the run must be over.
    end_of_sending: Option<Instant>,
    deadline: Option<Instant>,
    outbox: Outbox,
    stopper: watch::Sender<bool>,
    stop: Stop,
    /// Whether what comes counts: the omitted beginning is over.
    counting: watch::Sender<bool>,
}

/// What only one of the two ends has.
pub(crate) enum Own {
    Client { place: Place, samples: mpsc::Sender<Sample> },
    Server { handshakes: mpsc::Receiver<Incoming> },
}

impl Party {
    /// The run begins now. `longest` is how long its senders may take in any case.
    pub(crate) fn new(connection: Connection, plan: Plan, end: End, outbox: Outbox, longest: Option<Duration>) -> Self {
        let start = Instant::now();
        let end_of_sending = plan.time().or(longest).map(|time| start + time);
        // Who sends a number of bytes knows nothing of this end's clock, and cannot be late by it.
        let grace = if plan.time().is_some() || plan.sends(end) { GRACE } else { Duration::ZERO };
        let (stopper, stop) = Stop::new();
        Self {
            connection,
            plan,
            end,
            start,
            sent: Arc::new(Counts::new(plan.slots())),
            received: Arc::new(Counts::new(plan.slots())),
            latency: Arc::new(Latency::new()),
            end_of_sending,
            deadline: end_of_sending.map(|end| end + grace),
            outbox,
            stopper,
            stop,
            counting: watch::Sender::new(plan.omit.is_zero()),
        }
    }

    /// When what counts began, or begins.
    pub(crate) fn begin(&self) -> Instant {
        self.start + self.plan.omit
    }

    /// Resolves when the omitted beginning is over.
    pub(crate) async fn counting(&self) {
        // This has the sender, so it cannot be gone.
        let _ = self.counting.subscribe().wait_for(|counting| *counting).await;
    }

    /// The senders of this end are to end now.
    pub(crate) fn stop(&self) {
        self.stopper.send_replace(true);
    }

    /// The same at the other end.
    pub(crate) async fn stop_peer(&self) -> Result<(), RunError> {
        self.outbox.say(&Frame::Stop).await
    }

    /// Says the last word, and waits until the peer has it.
    pub(crate) async fn finish(&self) -> Result<(), RunError> {
        self.outbox.finish().await
    }

    /// Carries the run out. Returns the report of this end, and that of the other. `control` is to be
    /// kept until the connection is closed: without it the peer could say no more.
    pub(crate) async fn carry_out(&self, control: &mut RecvStream, own: Own) -> Result<(Report, Report), RunError> {
        let (peer_sent, told) = watch::channel(None);
        let (place, samples, handshakes) = match own {
            Own::Client { place, samples } => (Some(place), Some(samples), None),
            Own::Server { handshakes } => (None, None, Some(handshakes)),
        };
        let act = self.act(told, place, handshakes);
        let both = async { tokio::try_join!(act, self.listen(control, peer_sent, samples)) };
        let result = tokio::select! {
            reports = both => reports,
            error = self.watch() => Err(error),
            () = self.keep_time() => unreachable!("it waits for ever"),
        };
        match result {
            // A stream may end a moment before the connection does, which says why.
            Err(error @ RunError::Breach(_)) => match tokio::time::timeout(LAST_WORD, self.connection.closed()).await {
                Ok(cause) => Err(RunError::Lost(cause)),
                Err(_) => Err(error),
            },
            result => result,
        }
    }

    /// Sends and receives what the plan says, and then reports.
    async fn act(
        &self,
        peer_sent: PeerSent,
        place: Option<Place>,
        handshakes: Option<mpsc::Receiver<Incoming>>,
    ) -> Result<Report, RunError> {
        let sending = async {
            if self.plan.sends(self.end) {
                self.send(place).await?;
                self.sent.end();
                self.outbox.say(&Frame::Sent(self.sent.total())).await?;
            }
            Ok::<_, RunError>(())
        };
        let receiving = async {
            if self.plan.receives(self.end) {
                self.receive(peer_sent, handshakes).await?;
                self.received.end();
            }
            Ok(())
        };
        tokio::select! {
            done = async { tokio::try_join!(sending, receiving) } => done?,
            error = self.tell_samples() => return Err(error),
        };
        let report = self.report().await;
        self.outbox.say(&Frame::Report(report.clone())).await?;
        Ok(report)
    }

    async fn send(&self, place: Option<Place>) -> Result<(), RunError> {
        let (plan, stop) = (&self.plan, self.stop.clone());
        match (plan.load, place) {
            (Load::PingPong(size), _) => {
                let sized = (plan, size as usize);
                ping_pong::ping(&self.connection, sized, &self.sent, &self.latency, stop).await
            }
            (Load::Handshakes, Some(place)) => handshakes::connect(place, plan, &self.sent, &self.latency, stop).await,
            _ => {
                let bytes = match plan.amount {
                    Amount::Time(_) => None,
                    Amount::Bytes(bytes) => Some(bytes),
                };
                sending::send(&self.connection, plan, &self.sent, Budget::new(bytes, self.begin()), stop).await
            }
        }
    }

    async fn receive(&self, peer_sent: PeerSent, handshakes: Option<mpsc::Receiver<Incoming>>) -> Result<(), RunError> {
        match (self.plan.load, handshakes) {
            (Load::PingPong(size), _) => {
                ping_pong::pong(&self.connection, (&self.plan, size as usize), &self.received).await
            }
            (Load::Handshakes, Some(incoming)) => handshakes::accept(incoming, &self.received, peer_sent).await,
            _ => receiving::receive(&self.connection, &self.plan, &self.received, peer_sent).await,
        }
    }

    async fn report(&self) -> Report {
        let tally = |counts: &Counts, there: bool| {
            if there { counts.tally(self.begin()) } else { Tally::default() }
        };
        // A connection that does not tell is lost, which is told elsewhere.
        let stats = self.connection.stats().await.ok();
        Report {
            sent: tally(&self.sent, self.plan.sends(self.end)),
            received: tally(&self.received, self.plan.receives(self.end)),
            lost: stats.as_ref().map_or(0, lost),
            packets: stats.as_ref().map_or(0, |stats| stats.sent.packets),
        }
    }

    /// Hears the other end until its report.
    async fn listen(
        &self,
        control: &mut RecvStream,
        peer_sent: watch::Sender<Option<Total>>,
        samples: Option<mpsc::Sender<Sample>>,
    ) -> Result<Report, RunError> {
        loop {
            match hear(control).await? {
                Frame::Sample(sample) => {
                    if let Some(samples) = &samples {
                        // Who does not look for them in time misses some.
                        let _ = samples.try_send(sample);
                    }
                }
                Frame::Stop if self.end == End::Server => self.stop(),
                Frame::Sent(total) if peer_sent.borrow().is_none() => {
                    peer_sent.send_replace(Some(total));
                }
                Frame::Report(report) => return self.checked(report),
                _ => return Err(RunError::breach("it said what it may not say now")),
            }
        }
    }

    /// A report has as many streams as were agreed on, or none where it says nothing, and adds up.
    fn checked(&self, report: Report) -> Result<Report, RunError> {
        let peer = self.end.other();
        let adds_up = |tally: &Tally| {
            let counted = Total { bytes: tally.bytes(), messages: tally.messages };
            if self.plan.omit.is_zero() {
                counted == tally.total
            } else {
                counted.bytes <= tally.total.bytes && counted.messages <= tally.total.messages
            }
        };
        let fits = |tally: &Tally, there| {
            tally.streams.len() == if there { self.plan.slots() } else { 0 } && (!there || adds_up(tally))
        };
        if fits(&report.sent, self.plan.sends(peer)) && fits(&report.received, self.plan.receives(peer)) {
            Ok(report)
        } else {
            Err(RunError::breach("its report does not add up, or is of streams that were not agreed on"))
        }
    }

    /// Begins to count after the omitted time, and stops the senders at the end.
    async fn keep_time(&self) {
        if !self.plan.omit.is_zero() {
            tokio::time::sleep_until(self.begin().into()).await;
            self.sent.omit();
            self.received.omit();
            self.latency.reset();
            self.counting.send_replace(true);
        }
        if let Some(end) = self.end_of_sending {
            tokio::time::sleep_until(end.into()).await;
            self.stop();
        }
        std::future::pending().await
    }

    /// Returns once nothing has moved for too long, or the run takes too long.
    async fn watch(&self) -> RunError {
        let mut moved = (Instant::now(), self.totals(), 0);
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return RunError::Late;
            }
            let bytes = self
                .connection
                .stats()
                .await
                .map_or(0, |stats| stats.sent.stream_bytes.saturating_add(stats.received.stream_bytes));
            let totals = self.totals();
            if totals != moved.1 || bytes >= moved.2 + MURMUR {
                moved = (Instant::now(), totals, bytes);
            } else if moved.0.elapsed() > PATIENCE {
                return RunError::Stalled;
            }
        }
    }

    fn totals(&self) -> [Total; 2] {
        [self.sent.total(), self.received.total()]
    }

    /// Tells the client how the server's sending goes.
    async fn tell_samples(&self) -> RunError {
        if self.end != End::Server || !self.plan.sends(self.end) || self.plan.sample.is_zero() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval_at((self.start + self.plan.sample).into(), self.plan.sample);
        for number in 1.. {
            ticks.tick().await;
            let Ok(stats) = self.connection.stats().await else { continue };
            let rtt = u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX);
            let sample = Sample { number, rtt, cwnd: stats.congestion_window, lost: lost(&stats) };
            if let Err(error) = self.outbox.say(&Frame::Sample(sample)).await {
                return error;
            }
        }
        std::future::pending().await
    }
}

/// How many of its packets a connection has lost for good.
pub(crate) fn lost(stats: &sendstream::ConnectionStats) -> u64 {
    stats.sent.suspected_lost_packets.saturating_sub(stats.sent.spuriously_lost_packets)
}

/// How long what is under way at the end of the run may take to arrive.
const GRACE: Duration = Duration::from_secs(30);
/// How long the reason of an end may take to follow it.
const LAST_WORD: Duration = Duration::from_millis(300);
/// Fewer bytes than this within an end's patience are no traffic: samples are not more.
const MURMUR: u64 = 8 << 10;
