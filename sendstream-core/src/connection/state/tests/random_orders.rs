//! Random orders of events, of the user's calls and of waits, against what must hold after each of
//! them.

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One of [`STEPS`].
    GoOn(usize),
    /// One of [`ENDS`].
    End(usize),
    StartAccepted,
    /// One of [`WAITS`] is polled for the first time, by a task of its own.
    Wait(usize),
    /// The oldest wait is dropped.
    Forget,
    /// A stream of one kind is asked for once.
    Accept(Dir),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..STEPS.len()).prop_map(Step::GoOn),
        2 => (0..ENDS.len()).prop_map(Step::End),
        1 => Just(Step::StartAccepted),
        4 => (0..WAITS.len()).prop_map(Step::Wait),
        1 => Just(Step::Forget),
        1 => prop_oneof![Just(Dir::Uni), Just(Dir::Bi)].prop_map(Step::Accept),
    ]
}

/// A task in one of [`WAITS`], and whether it was answered.
struct Waiting {
    wait: usize,
    key: WaiterKey,
    task: Task,
}

/// What is known of a connection from outside, beside the connection itself.
struct Model {
    state: ConnectionInnerExclusive,
    waits: Vec<Waiting>,
    cause: Option<Cause>,
    settled: bool,
    start_accepted: bool,
    complete: bool,
    accepts: bool,
    /// Streams of the peer's that wait.
    streams: usize,
    /// How often MsQuic was told, but for answers that it did not take.
    told: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            state: ConnectionInnerExclusive::new(false),
            waits: Vec::new(),
            cause: None,
            settled: false,
            start_accepted: false,
            complete: false,
            accepts: true,
            streams: 0,
            told: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::GoOn(step) => {
                assert_eq!(STEPS[step].1(&mut self.state), None, "only an end is told");
                match STEPS[step].0 {
                    "connected" => self.settled |= self.cause.is_none(),
                    "peer stream started" => self.streams += usize::from(self.accepts),
                    "acceptance stops" => (self.accepts, self.streams) = (false, 0),
                    _ => {}
                }
            }
            Step::End(end) => self.end(end),
            Step::StartAccepted if self.start_accepted => {}
            Step::StartAccepted => {
                let told = self.state.on_start_accepted();
                assert!(told.is_none() || (self.cause.is_some() && !self.complete));
                self.start_accepted = true;
                self.told += usize::from(told.is_some());
            }
            Step::Wait(wait) => self.wait(wait),
            Step::Forget if self.waits.is_empty() => {}
            Step::Forget => {
                let Waiting { wait, key, task } = self.waits.remove(0);
                let forgotten = match WAITS[wait].0 {
                    "handshake" => self.state.forget_handshake(key),
                    "closed" => self.state.forget_closed(key),
                    "ticket" => self.state.forget_ticket(key),
                    "path" => self.state.forget_path_changed(key),
                    "accept uni" => self.state.forget_accept(Dir::Uni, key),
                    "accept bi" => self.state.forget_accept(Dir::Bi, key),
                    // There is one place, where the waker stays until it is replaced.
                    _ => return,
                };
                drop(forgotten);
                assert_eq!(task.stored(), 0);
            }
            Step::Accept(dir) => {
                self.streams -= usize::from(matches!(accept(&mut self.state, dir), Poll::Ready(Ok(_))));
            }
        }
    }

    fn end(&mut self, end: usize) {
        let (event, apply) = ENDS[end];
        let first = self.cause.is_none() && (event != "handshake timeout" || !self.settled);
        let told = apply(&mut self.state);
        if event != "answer not taken" {
            assert!(told.is_none() || (first && self.start_accepted && !self.complete), "{event}");
            self.told += usize::from(told.is_some());
        }
        self.complete |= event == "shutdown complete";
        if event == "abandon" {
            (self.accepts, self.streams) = (false, 0);
        }
        if first {
            self.cause = self.state.cause();
            assert!(self.cause.is_some(), "{event}");
        }
    }

    fn wait(&mut self, wait: usize) {
        // Who makes the connection is one task.
        if wait < 2 {
            self.waits.retain(|other| other.wait >= 2);
        }
        let waiting = Waiting { wait, key: WaiterKey::new(), task: Task::new() };
        match waiting.task.run(|cx| WAITS[wait].1(&mut self.state, waiting.key, cx)) {
            Poll::Pending => self.waits.push(waiting),
            answer => self.streams -= taken(wait, answer),
        }
        drop(self.state.take_retired());
    }

    fn check(&mut self) {
        assert_eq!(self.state.cause(), self.cause, "the first cause stays");
        assert_eq!(self.state.connected().is_some(), self.settled);
        assert_eq!(self.state.accept_uni.streams.len() + self.state.accept_bi.streams.len(), self.streams);
        assert!(self.told <= 1, "MsQuic is told once");
        if self.cause.is_some() {
            assert_eq!(waiting(&self.state), 0, "nobody is left asleep");
            assert!(self.state.unstarted.is_empty() && self.state.verifier.is_none());
        }
        // Whoever can go on was woken once; whoever cannot sleeps on.
        let state = &mut self.state;
        self.waits.retain(|Waiting { wait, key, task }| {
            if task.wakes() == 0 {
                assert_eq!(task.stored(), 1, "{}", WAITS[*wait].0);
                return true;
            }
            assert_eq!((task.wakes(), task.stored()), (1, 0), "{}", WAITS[*wait].0);
            let again = task.run(|cx| WAITS[*wait].1(state, *key, cx));
            drop(state.take_retired());
            // It looks again and may sleep on: after RESUMED, or where another task took the
            // stream.
            self.streams -= taken(*wait, again);
            false
        });
    }
}

/// How many streams the answer to a wait has taken.
fn taken(wait: usize, answer: Poll<Result<(), Cause>>) -> usize {
    usize::from(WAITS[wait].0.starts_with("accept") && answer == Poll::Ready(Ok(())))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn whatever_the_order_the_rules_hold(order in prop::collection::vec(steps(), 0..40)) {
        let mut model = Model::new();
        for step in order {
            model.take(step);
            model.check();
        }
        // And whatever is still to come at the end.
        model.take(Step::End(5));
        model.check();
        prop_assert!(model.waits.is_empty());
    }
}
