//! The state machine under `loom`: the user, who starts the connection and MsQuic's worker as three
//! threads, in every interleaving of their steps with up to [`PREEMPTIONS`] preemptions;
//! `LOOM_MAX_PREEMPTIONS` asks for more.
//!
//! Only what the model itself is made of comes from loom, so this runs in a plain `cargo test`.
//! [`Connection`] does what the driver does around the state: one lock, a native call outside of
//! it, the wake after it. [`Native`] is MsQuic: it starts once and says nothing before, and its
//! worker makes the events. The starter is the background thread, on which `ConnectionStart` blocks
//! while a whole connection may pass.
//!
//! A lost wake-up is a deadlock here, which loom reports, and so is a shutdown that MsQuic should
//! have been told of and was not: [`Script::waits`] waits for it.

use std::future::poll_fn;

use loom::{
    future::block_on,
    model::Builder,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use super::*;

// ---- MsQuic -------------------------------------------------------------------------------------

/// What the worker says, once the connection is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Script {
    /// The handshake comes to its end.
    connects: bool,
    end: NativeEnd,
}

/// Who ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NativeEnd {
    /// SHUTDOWN_INITIATED_BY_PEER comes by itself.
    Peer,
    /// The peer's certificate is refused, and MsQuic ends the connection for it.
    PeerRefused,
    /// Nobody but this side.
    Here,
}

impl Script {
    /// Whether the worker goes on only when it is told to shut down.
    fn waits(self) -> bool {
        self.end == NativeEnd::Here
    }
}

#[derive(Debug, Default)]
struct Native {
    /// `ConnectionStart` has queued its operation, and may not have returned.
    started: bool,
    /// The call has returned.
    start_returned: bool,
    /// The connection was given up before, and never starts.
    never_starts: bool,
    /// The code of `ConnectionShutdown`.
    told: Option<u64>,
}

// ---- The connection -----------------------------------------------------------------------------

struct Connection {
    exclusive: Mutex<ConnectionInnerExclusive>,
    native: Mutex<Native>,
    called: Condvar,
}

impl Connection {
    fn new() -> Self {
        Self {
            exclusive: Mutex::new(ConnectionInnerExclusive::new(false)),
            native: Mutex::new(Native::default()),
            called: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionInnerExclusive> {
        self.exclusive.lock().expect("nothing panics under the lock")
    }

    fn native(&self) -> MutexGuard<'_, Native> {
        self.native.lock().expect("nothing panics under the lock")
    }

    /// A transition that may end the connection, and what that leaves to do.
    fn finish_ending(&self, transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending) {
        let Ending { shut_down, wakeups, .. } = {
            let mut state = self.lock();
            let complete = state.shutdown_complete;
            let ending = transition(&mut state);
            assert!(ending.shut_down.is_none() || !complete, "told after SHUTDOWN_COMPLETE");
            ending
        };
        if let Some(code) = shut_down {
            self.shut_down(code);
        }
        wakeups.wake_now();
    }

    fn shut_down(&self, code: u64) {
        let mut native = self.native();
        assert!(native.start_returned, "told before the start has returned");
        assert_eq!(native.told, None, "told twice");
        native.told = Some(code);
        self.called.notify_all();
    }

    // ---- Who starts it --------------------------------------------------------------------------

    fn start(&self) {
        if !self.lock().may_start() {
            self.native().never_starts = true;
            self.called.notify_all();
            return;
        }
        self.native().started = true;
        self.called.notify_all();
        // Here the events may come.
        self.native().start_returned = true;
        let (told, complete) = {
            let mut state = self.lock();
            (state.on_start_accepted(), state.shutdown_complete)
        };
        if let Some(code) = told {
            assert!(!complete, "told after SHUTDOWN_COMPLETE");
            self.shut_down(code);
        }
    }

    // ---- The worker -----------------------------------------------------------------------------

    /// Makes the events until the last one.
    fn work(&self, script: Script) {
        if !self.await_native(|native| native.started) {
            return;
        }
        if script.connects {
            let wakeups = self.lock().on_connected(SETTLED, None, None);
            wakeups.wake_now();
        }
        match script.end {
            NativeEnd::Peer => {
                self.finish_ending(|state| state.on_shutdown_initiated_by_peer(Cause::PeerClosed));
            }
            NativeEnd::PeerRefused => self.finish_ending(|state| state.on_peer_refused(Cause::PeerRefused)),
            NativeEnd::Here => {
                self.await_native(|native| native.told.is_some());
            }
        }
        self.finish_ending(ConnectionInnerExclusive::on_shutdown_complete);
    }

    /// Waits for something that is done to MsQuic; false if the connection never starts.
    fn await_native(&self, done: impl Fn(&Native) -> bool) -> bool {
        let mut native = self.native();
        while !done(&native) && !native.never_starts {
            native = self.called.wait(native).expect("nothing panics under the lock");
        }
        !native.never_starts
    }

    // ---- The user -------------------------------------------------------------------------------

    fn connected(&self) -> Result<(), Cause> {
        block_on(poll_fn(|cx| self.lock().poll_connected(cx)))
    }

    fn handshake(&self) -> Result<(), Cause> {
        let key = WaiterKey::new();
        block_on(poll_fn(|cx| self.lock().poll_handshake(key, cx)))
    }

    fn closed(&self) -> Cause {
        let key = WaiterKey::new();
        block_on(poll_fn(|cx| self.lock().poll_closed(key, cx)))
    }

    fn accepted(&self) -> Result<u32, Cause> {
        let key = WaiterKey::new();
        block_on(poll_fn(|cx| self.lock().poll_accept(Dir::Bi, key, cx)))
    }

    fn close(&self) {
        self.finish_ending(|state| state.close(CODE));
    }

    fn abandon(&self) {
        self.finish_ending(ConnectionInnerExclusive::abandon);
    }

    fn time_out(&self) {
        self.finish_ending(ConnectionInnerExclusive::on_handshake_timeout);
    }
}

// ---- The user's programs ------------------------------------------------------------------------

/// What the user got for an answer.
#[derive(Debug, Default)]
struct Heard {
    /// How the handshake ended.
    connected: Option<Result<(), Cause>>,
    /// Each end that was heard of.
    ends: Vec<Cause>,
}

impl Heard {
    /// The answers fit the state in which all was left, and what MsQuic was told.
    fn judge(self, script: Script, state: &ConnectionInnerExclusive, native: &Native) {
        let cause = state.cause().expect("everything comes to its end");
        assert!(self.ends.iter().all(|end| *end == cause), "one cause: {self:?}, {cause:?}");
        match self.connected {
            Some(Ok(())) => assert!(script.connects),
            Some(Err(error)) => assert_eq!(error, cause),
            None => {}
        }
        assert_eq!(waiting(state), 0, "somebody is left asleep");
        if native.never_starts {
            assert_eq!(native.told, None, "a connection that never started is not shut down");
        }
        match cause {
            Cause::ClosedHere(code) => assert!(native.told.is_none_or(|told| told == code), "{native:?}"),
            Cause::PeerRefused => assert_eq!(native.told, None, "the alert goes first"),
            // Its own start may have returned later, and then MsQuic ignores it.
            _ => assert!(native.told.is_none_or(|told| told == 0), "{native:?}"),
        }
        assert!(!script.waits() || native.never_starts || native.told.is_some(), "this side must end it");
    }
}

type Program = fn(&Connection) -> Heard;

/// Runs `program` against every script, each in all interleavings.
fn explore(scripts: &[Script], program: Program) {
    for script in scripts {
        explore_one(*script, PREEMPTIONS, program, None);
    }
}

/// Runs one, and perhaps another task beside it.
fn explore_one(script: Script, preemptions: usize, program: Program, watcher: Option<Program>) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(move || {
        let connection = Arc::new(Connection::new());
        let spawn = |body: Box<dyn FnOnce(&Connection) -> Heard>| {
            let connection = connection.clone();
            thread::spawn(move || body(&connection))
        };
        let worker = spawn(Box::new(move |connection| {
            connection.work(script);
            Heard::default()
        }));
        let starter = spawn(Box::new(|connection| {
            connection.start();
            Heard::default()
        }));
        let watcher = watcher.map(|watcher| spawn(Box::new(watcher)));
        let mut heard = program(&connection);
        for thread in [Some(worker), Some(starter), watcher].into_iter().flatten() {
            let other = thread.join().expect("every thread ends");
            heard.ends.extend(other.ends);
        }
        heard.ends.push(connection.closed());
        heard.judge(script, &connection.lock(), &connection.native());
    });
}

/// How often a thread may be interrupted where it would not have waited anyway. Three threads with
/// one lock between them need few for any order of their critical sections.
const PREEMPTIONS: usize = 2;

const CONNECTS: Script = Script { connects: true, end: NativeEnd::Here };
const HANGS: Script = Script { connects: false, end: NativeEnd::Here };
const PEER_CLOSES: Script = Script { connects: true, end: NativeEnd::Peer };
const PEER_REFUSES: Script = Script { connects: false, end: NativeEnd::Peer };
const NOT_BELIEVED: Script = Script { connects: false, end: NativeEnd::PeerRefused };
const ALL: [Script; 5] = [CONNECTS, HANGS, PEER_CLOSES, PEER_REFUSES, NOT_BELIEVED];
/// Those in which the handshake is heard of without the user's doing.
const SETTLING: [Script; 4] = [CONNECTS, PEER_CLOSES, PEER_REFUSES, NOT_BELIEVED];
/// Those that end without the user's doing.
const ENDING: [Script; 3] = [PEER_CLOSES, PEER_REFUSES, NOT_BELIEVED];

#[test]
fn connecting_and_closing() {
    explore(&SETTLING, |connection| {
        let connected = Some(connection.connected());
        connection.close();
        Heard { connected, ends: vec![connection.closed()] }
    });
}

#[test]
fn connecting_and_dropping_the_last_handle() {
    explore(&SETTLING, |connection| {
        let connected = Some(connection.connected());
        connection.abandon();
        Heard { connected, ends: vec![] }
    });
}

#[test]
fn giving_up_before_the_handshake_is_done() {
    explore(&ALL, |connection| {
        let first = now(|_, cx| connection.lock().poll_connected(cx));
        connection.abandon();
        let connected = match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => connection.connected(),
        };
        // Those who closed it and still find it connected have looked before.
        Heard { connected: Some(connected), ends: vec![connection.closed()] }
    });
}

#[test]
fn closing_and_then_dropping_the_last_handle() {
    explore(&ALL, |connection| {
        connection.close();
        connection.abandon();
        Heard { connected: None, ends: vec![connection.closed()] }
    });
}

#[test]
fn a_handshake_whose_time_is_over() {
    explore(&ALL, |connection| {
        connection.time_out();
        let connected = Some(connection.handshake());
        connection.close();
        Heard { connected, ends: vec![connection.closed()] }
    });
}

#[test]
fn waiting_for_the_end() {
    explore(&ENDING, |connection| Heard { connected: None, ends: vec![connection.closed()] });
}

#[test]
fn waiting_for_a_stream_until_the_end() {
    explore(&ENDING, |connection| Heard { connected: None, ends: connection.accepted().err().into_iter().collect() });
}

#[test]
fn another_task_that_waits_while_the_connection_is_closed() {
    for script in ALL {
        // A fourth thread multiplies the interleavings.
        explore_one(
            script,
            PREEMPTIONS - 1,
            |connection| {
                connection.close();
                Heard::default()
            },
            Some(|connection| Heard { connected: None, ends: vec![connection.closed()] }),
        );
    }
}
