//! Ring 1: the connection's transitions, without a network.

mod interleavings;
mod random_orders;

use std::sync::{Arc, Weak};

use super::*;
use crate::testing::Task;

/// What ends connections here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    ClosedHere(u64),
    TimedOut,
    PeerClosed,
    TransportClosed,
    PeerRefused,
    AnswerNotTaken,
    StartRefused,
}

/// Streams are numbers, and a stream that did not start lives as long as somebody holds it.
#[derive(Debug)]
struct Numbers;

impl Held for Numbers {
    type Cause = Cause;
    type Stream = u32;
    type Unstarted = Weak<u32>;
    type Verifier = &'static str;
    type Settled = &'static str;

    fn closed_here(code: u64) -> Cause {
        Cause::ClosedHere(code)
    }

    fn timed_out() -> Cause {
        Cause::TimedOut
    }

    fn is_gone(stream: &Weak<u32>) -> bool {
        stream.strong_count() == 0
    }
}

type ConnectionInnerExclusive = super::ConnectionInnerExclusive<Numbers>;
type Ending = super::Ending<Numbers>;

const CODE: u64 = 7;
const INTERNAL_ERROR: u64 = 1;
const SETTLED: &str = "settled";

/// A client's connection whose start has returned.
fn connecting() -> ConnectionInnerExclusive {
    let mut state = ConnectionInnerExclusive::new(false);
    assert_eq!(state.on_start_accepted(), None);
    state
}

/// The same after CONNECTED.
fn connected() -> ConnectionInnerExclusive {
    let mut state = connecting();
    connect(&mut state);
    state
}

fn connect(state: &mut ConnectionInnerExclusive) {
    state.on_connected(SETTLED, None, None).wake_now();
}

/// The same after the peer has closed it.
fn closed() -> ConnectionInnerExclusive {
    let mut state = connected();
    end(state.on_shutdown_initiated_by_peer(Cause::PeerClosed));
    state
}

/// Does what an ending leaves to do, but for what it says to MsQuic.
fn end(ending: Ending) -> Option<u64> {
    ending.wakeups.wake_now();
    ending.shut_down
}

fn address(port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Polls once and forgets the waker.
fn now<T>(poll: impl FnOnce(WaiterKey, &mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(WaiterKey::new(), &mut Context::from_waker(Waker::noop()))
}

fn accept(state: &mut ConnectionInnerExclusive, dir: Dir) -> Poll<Result<u32, Cause>> {
    let key = WaiterKey::new();
    let answer = state.poll_accept(dir, key, &mut Context::from_waker(Waker::noop()));
    drop(state.forget_accept(dir, key));
    answer
}

/// How many wakers are stored, of whatever kind.
fn waiting(state: &ConnectionInnerExclusive) -> usize {
    let several = [
        &state.handshake_waiters,
        &state.closed_waiters,
        &state.ticket_waiters,
        &state.accept_uni.waiters,
        &state.accept_bi.waiters,
    ];
    state.connected_waiter.len() + several.into_iter().map(Waiters::len).sum::<usize>() + state.path.waiting()
}

/// How far a connection has come, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Connecting,
    Connected,
    Closed(Cause),
}

fn seen(state: &ConnectionInnerExclusive) -> Seen {
    match (state.cause(), state.connected()) {
        (Some(cause), _) => Seen::Closed(cause),
        (None, Some(_)) => Seen::Connected,
        (None, None) => Seen::Connecting,
    }
}

// ---- The tables ---------------------------------------------------------------------------------

/// One column of a table: an event, or a call of the user's, and what MsQuic is told for it.
type Move = fn(&mut ConnectionInnerExclusive) -> Option<u64>;

/// Whatever ends a connection.
const ENDS: [(&str, Move); 9] = [
    ("close", |state| end(state.close(CODE))),
    ("abandon", |state| end(state.abandon())),
    ("handshake timeout", |state| end(state.on_handshake_timeout())),
    ("shutdown initiated by transport", |state| end(state.on_shutdown_initiated_by_transport(Cause::TransportClosed))),
    ("shutdown initiated by peer", |state| end(state.on_shutdown_initiated_by_peer(Cause::PeerClosed))),
    ("shutdown complete", |state| end(state.on_shutdown_complete())),
    ("peer refused", |state| end(state.on_peer_refused(Cause::PeerRefused))),
    ("answer not taken", |state| end(state.on_answer_not_taken(INTERNAL_ERROR, Cause::AnswerNotTaken))),
    ("start refused", |state| end(state.on_start_refused(Cause::StartRefused))),
];

/// Whatever ends no connection.
const STEPS: [(&str, Move); 8] = [
    ("connected", |state| {
        connect(state);
        None
    }),
    ("resumed", |state| {
        state.on_resumed().wake_now();
        None
    }),
    ("ticket kept", |state| {
        state.on_ticket_kept().wake_now();
        None
    }),
    ("early data accepted", |state| {
        state.on_early_data_accepted();
        None
    }),
    ("path changed", |state| {
        state.on_path_changed(address(9), None).wake_now();
        None
    }),
    ("verifier asked", |state| {
        let _ = state.on_judging(&"asked");
        None
    }),
    ("peer stream started", |state| {
        state.on_peer_stream_started(Dir::Bi, 1).wakeups.wake_now();
        None
    }),
    ("acceptance stops", |state| {
        drop(state.stop_accepting());
        None
    }),
];

/// A connection as a row of a table finds it.
type From = fn() -> ConnectionInnerExclusive;

/// A connection in each of its states.
const STATES: [(&str, From); 3] = [("connecting", connecting), ("connected", connected), ("closed", closed)];

#[test]
fn the_connection_moves_as_its_table_says() {
    use Cause::{AnswerNotTaken, ClosedHere, PeerClosed, PeerRefused, StartRefused, TimedOut, TransportClosed};
    use Seen::{Closed, Connected, Connecting};

    let ended = |cause| Closed(cause);
    #[rustfmt::skip]
    let ends = [
        // from         close                  abandon               timeout          transport
        ("connecting", [ended(ClosedHere(CODE)), ended(ClosedHere(0)), ended(TimedOut), ended(TransportClosed),
        //              peer               complete              peer refused        answer                 start
                        ended(PeerClosed), ended(ClosedHere(0)), ended(PeerRefused), ended(AnswerNotTaken), ended(StartRefused)]),
        ("connected",  [ended(ClosedHere(CODE)), ended(ClosedHere(0)), Connected,       ended(TransportClosed),
                        ended(PeerClosed), ended(ClosedHere(0)), ended(PeerRefused), ended(AnswerNotTaken), ended(StartRefused)]),
        ("closed",     [ended(PeerClosed); 9]),
    ];
    for ((name, from), (row, expected)) in STATES.into_iter().zip(ends) {
        assert_eq!(name, row);
        for ((event, apply), expected) in ENDS.into_iter().zip(expected) {
            let mut state = from();
            apply(&mut state);
            assert_eq!(seen(&state), expected, "{name}: {event}");
        }
    }
    let steps = [("connecting", Connecting), ("connected", Connected), ("closed", Closed(PeerClosed))];
    for ((name, from), (row, same)) in STATES.into_iter().zip(steps) {
        assert_eq!(name, row);
        for (event, apply) in STEPS {
            let mut state = from();
            assert_eq!(apply(&mut state), None);
            let expected = if (name, event) == ("connecting", "connected") { Connected } else { same };
            assert_eq!(seen(&state), expected, "{name}: {event}");
        }
    }
}

#[test]
fn msquic_is_told_as_the_table_says() {
    const TOLD: Option<u64> = Some(INTERNAL_ERROR);
    let not_started: From = || ConnectionInnerExclusive::new(false);
    let a_servers: From = || ConnectionInnerExclusive::new(true);
    let complete: From = || {
        let mut state = connecting();
        end(state.on_shutdown_complete());
        state
    };
    #[rustfmt::skip]
    let table: [(&str, From, [Option<u64>; 9]); 6] = [
        //                              close       abandon  timeout  transport peer complete refused answer start
        ("not started", not_started,    [None,       None,    None,    None, None, None, None, TOLD, None]),
        ("a server's",  a_servers,      [Some(CODE), Some(0), Some(0), None, None, None, None, TOLD, None]),
        ("connecting",  connecting,     [Some(CODE), Some(0), Some(0), None, None, None, None, TOLD, None]),
        ("connected",   connected,      [Some(CODE), Some(0), None,    None, None, None, None, TOLD, None]),
        ("closed",      closed,         [None,       None,    None,    None, None, None, None, TOLD, None]),
        ("complete",    complete,       [None,       None,    None,    None, None, None, None, TOLD, None]),
    ];
    for (name, from, row) in table {
        for ((event, apply), expected) in ENDS.into_iter().zip(row) {
            assert_eq!(apply(&mut from()), expected, "{name}: {event}");
        }
    }
}

#[test]
fn what_ended_a_connection_before_its_start_returned_is_told_unless_msquic_knows_it() {
    let after = |end: fn(&mut ConnectionInnerExclusive) -> Ending| {
        let mut state = ConnectionInnerExclusive::new(false);
        end(&mut state).wakeups.wake_now();
        state.on_start_accepted()
    };
    assert_eq!(after(|_| Ending::default()), None);
    assert_eq!(after(|state| state.close(7)), Some(7));
    assert_eq!(after(ConnectionInnerExclusive::on_handshake_timeout), Some(0));
    let refuse = |state: &mut ConnectionInnerExclusive| state.on_peer_refused(Cause::PeerRefused);
    assert_eq!(after(refuse), None, "the peer gets the refusal's alert");
    assert_eq!(after(ConnectionInnerExclusive::on_shutdown_complete), None);
}

#[test]
fn a_connection_that_was_over_before_its_start_returned_is_left_alone() {
    for (event, apply) in ENDS {
        let mut state = ConnectionInnerExclusive::new(false);
        apply(&mut state);
        end(state.on_shutdown_complete());
        assert_eq!(state.on_start_accepted(), None, "{event}");
        assert_eq!(end(state.close(CODE)), None, "{event}");
    }
}

#[test]
fn a_connection_that_was_given_up_is_not_started() {
    assert!(ConnectionInnerExclusive::new(false).may_start());
    let mut state = ConnectionInnerExclusive::new(false);
    end(state.close(CODE));
    assert!(!state.may_start());
}

#[test]
fn the_first_cause_stays_and_nothing_is_woken_twice() {
    for (first_event, first) in ENDS {
        for (second_event, second) in ENDS {
            let (mut state, task) = (connecting(), Task::new());
            assert!(task.run(|cx| state.poll_closed(WaiterKey::new(), cx)).is_pending());
            first(&mut state);
            let cause = state.cause();
            assert!(cause.is_some());
            second(&mut state);
            assert_eq!(state.cause(), cause, "{first_event}, then {second_event}");
            assert_eq!((task.wakes(), task.stored()), (1, 0), "{first_event}, then {second_event}");
        }
    }
}

#[test]
fn what_the_handshake_settled_outlives_the_connection() {
    assert_eq!(connecting().connected(), None);
    assert_eq!(connected().connected(), Some(SETTLED));
    assert_eq!(closed().connected(), Some(SETTLED));
    let mut state = connecting();
    end(state.close(CODE));
    // It comes too late, and the connection never was connected.
    connect(&mut state);
    assert_eq!(state.connected(), None);
}

// ---- Who is woken -------------------------------------------------------------------------------

/// One wait, polled once as a task: whether it is over.
type Wait = fn(&mut ConnectionInnerExclusive, WaiterKey, &mut Context<'_>) -> Poll<Result<(), Cause>>;

const WAITS: [(&str, Wait); 8] = [
    ("connected", |state, _, cx| state.poll_connected(cx)),
    ("early", |state, _, cx| state.poll_early(cx)),
    ("handshake", |state, key, cx| state.poll_handshake(key, cx)),
    ("closed", |state, key, cx| state.poll_closed(key, cx).map(Err)),
    ("ticket", |state, key, cx| state.poll_ticket_kept(key, cx)),
    ("path", |state, key, cx| state.poll_path_changed(0, key, cx)),
    ("accept uni", |state, key, cx| state.poll_accept(Dir::Uni, key, cx).map_ok(|_| ())),
    ("accept bi", |state, key, cx| state.poll_accept(Dir::Bi, key, cx).map_ok(|_| ())),
];

#[test]
fn each_wait_ends_with_what_it_waits_for_and_with_nothing_else() {
    #[rustfmt::skip]
    let table: [(&str, &[&str]); 8] = [
        ("connected",           &["connected", "early", "handshake"]),
        // Whoever makes the connection waits for one of the two, in one place, and looks again.
        ("resumed",             &["connected", "early"]),
        ("ticket kept",         &["ticket"]),
        ("early data accepted", &[]),
        ("path changed",        &["path"]),
        ("verifier asked",      &[]),
        ("peer stream started", &["accept bi"]),
        ("acceptance stops",    &[]),
    ];
    for ((event, apply), (row, woken)) in STEPS.into_iter().zip(table) {
        assert_eq!(event, row);
        for (name, wait) in WAITS {
            let (mut state, task, key) = (connecting(), Task::new(), WaiterKey::new());
            assert!(task.run(|cx| wait(&mut state, key, cx)).is_pending(), "{name}");
            apply(&mut state);
            assert_eq!(task.wakes(), usize::from(woken.contains(&name)), "{event}: {name}");
            let over = task.run(|cx| wait(&mut state, key, cx)).is_ready();
            // RESUMED is nothing to a server that does not look for early data.
            let expected = woken.contains(&name) && (event, name) != ("resumed", "connected");
            assert_eq!(over, expected, "{event}: {name}");
        }
    }
}

#[test]
fn the_end_ends_every_wait_with_its_cause() {
    for (event, apply) in ENDS {
        let mut state = connecting();
        let tasks = WAITS.map(|(name, wait)| {
            let (task, key) = (Task::new(), WaiterKey::new());
            assert!(task.run(|cx| wait(&mut state, key, cx)).is_pending(), "{name}");
            (name, wait, task, key)
        });
        apply(&mut state);
        assert_eq!(waiting(&state), 0, "{event}: nobody is left asleep");
        let cause = state.cause().expect("it is over");
        for (name, wait, task, key) in tasks {
            // The one who makes the connection waits in one place only, where the second poll has
            // replaced the first.
            let expected = usize::from(name != "connected");
            assert_eq!(task.wakes(), expected, "{event}: {name}");
            assert_eq!(task.run(|cx| wait(&mut state, key, cx)), Poll::Ready(Err(cause)), "{event}: {name}");
        }
    }
}

#[test]
fn polling_again_and_again_stores_one_waker_for_each_wait() {
    for (name, wait) in WAITS {
        let (mut state, first, second, key) = (connecting(), Task::new(), Task::new(), WaiterKey::new());
        for _ in 0..1000 {
            assert!(first.run(|cx| wait(&mut state, key, cx)).is_pending());
        }
        assert_eq!((first.stored(), waiting(&state), state.has_retired()), (1, 1, false), "{name}");
        assert!(second.run(|cx| wait(&mut state, key, cx)).is_pending());
        assert!(state.has_retired(), "{name}: the lock is held, so the waker is not dropped yet");
        drop(state.take_retired());
        assert_eq!((first.stored(), second.stored(), waiting(&state)), (0, 1, 1), "{name}");
    }
}

#[test]
fn a_wait_that_is_dropped_is_forgotten() {
    type Forget = fn(&mut ConnectionInnerExclusive, WaiterKey) -> Option<Waker>;
    let forgets: [(&str, Forget); 6] = [
        ("handshake", ConnectionInnerExclusive::forget_handshake),
        ("closed", ConnectionInnerExclusive::forget_closed),
        ("ticket", ConnectionInnerExclusive::forget_ticket),
        ("path", ConnectionInnerExclusive::forget_path_changed),
        ("accept uni", |state, key| state.forget_accept(Dir::Uni, key)),
        ("accept bi", |state, key| state.forget_accept(Dir::Bi, key)),
    ];
    for ((name, wait), (row, forget)) in WAITS[2..].iter().zip(forgets) {
        assert_eq!(*name, row);
        let (mut state, task, key) = (connecting(), Task::new(), WaiterKey::new());
        assert!(task.run(|cx| wait(&mut state, key, cx)).is_pending());
        assert!(forget(&mut state, WaiterKey::new()).is_none(), "{name}: another future's");
        assert!(forget(&mut state, key).is_some(), "{name}");
        assert_eq!((waiting(&state), task.stored()), (0, 0), "{name}");
        end(state.close(CODE));
        assert_eq!(task.wakes(), 0, "{name}");
    }
}

#[test]
fn any_number_of_tasks_may_wait_for_one_thing() {
    let (mut state, tasks) = (connected(), [Task::new(), Task::new(), Task::new()]);
    for task in &tasks {
        assert!(task.run(|cx| state.poll_closed(WaiterKey::new(), cx)).is_pending());
    }
    end(state.close(CODE));
    assert!(tasks.iter().all(|task| task.wakes() == 1));
}

// ---- Streams of the peer's ----------------------------------------------------------------------

#[test]
fn streams_that_wait_are_given_out_before_the_error() {
    for (event, apply) in ENDS {
        if event == "abandon" {
            continue;
        }
        let mut state = connecting();
        for stream in [1, 2] {
            state.on_peer_stream_started(Dir::Uni, stream).wakeups.wake_now();
        }
        apply(&mut state);
        let cause = state.cause().expect("it is over");
        assert_eq!(accept(&mut state, Dir::Uni), Poll::Ready(Ok(1)), "{event}");
        assert_eq!(accept(&mut state, Dir::Uni), Poll::Ready(Ok(2)), "{event}");
        assert_eq!(accept(&mut state, Dir::Uni), Poll::Ready(Err(cause)), "{event}");
        assert_eq!(accept(&mut state, Dir::Bi), Poll::Ready(Err(cause)), "{event}");
    }
}

#[test]
fn the_two_kinds_of_streams_wait_apart() {
    let (mut state, uni, bi) = (connected(), Task::new(), Task::new());
    assert!(uni.run(|cx| state.poll_accept(Dir::Uni, WaiterKey::new(), cx)).is_pending());
    assert!(bi.run(|cx| state.poll_accept(Dir::Bi, WaiterKey::new(), cx)).is_pending());
    state.on_peer_stream_started(Dir::Bi, 1).wakeups.wake_now();
    assert_eq!((uni.wakes(), bi.wakes()), (0, 1));
    assert_eq!(accept(&mut state, Dir::Uni), Poll::Pending);
    assert_eq!(accept(&mut state, Dir::Bi), Poll::Ready(Ok(1)));
}

#[test]
fn a_stream_is_accepted_slowly_while_many_of_its_kind_wait() {
    let mut state = connected();
    for stream in 0..64 {
        let PeerStream { accepted_slowly, refused, .. } = state.on_peer_stream_started(Dir::Uni, stream);
        assert_eq!((accepted_slowly, refused), (None, None));
    }
    assert_eq!(state.on_peer_stream_started(Dir::Uni, 64).accepted_slowly, Some(64));
    assert_eq!(state.on_peer_stream_started(Dir::Bi, 65).accepted_slowly, None, "none of the other kind waits");
    for stream in 0..2 {
        assert_eq!(accept(&mut state, Dir::Uni), Poll::Ready(Ok(stream)));
    }
    assert_eq!(state.on_peer_stream_started(Dir::Uni, 66).accepted_slowly, None);
    assert_eq!(state.on_peer_stream_started(Dir::Uni, 67).accepted_slowly, Some(67));
}

#[test]
fn when_acceptance_stops_streams_that_wait_are_given_back_and_those_that_come_refused() {
    let mut state = connected();
    for (dir, stream) in [(Dir::Uni, 1), (Dir::Bi, 2), (Dir::Uni, 3)] {
        state.on_peer_stream_started(dir, stream).wakeups.wake_now();
    }
    assert_eq!(state.stop_accepting(), [1, 3, 2]);
    assert_eq!(state.stop_accepting(), []);
    for dir in [Dir::Uni, Dir::Bi] {
        let PeerStream { accepted_slowly, refused, wakeups } = state.on_peer_stream_started(dir, 4);
        assert_eq!((accepted_slowly, refused, wakeups.len()), (None, Some(4), 0));
    }
    assert_eq!(seen(&state), Seen::Connected, "the connection goes on for this side's own streams");
}

#[test]
fn an_abandoned_connection_closes_with_code_0_and_gives_back_what_waits() {
    let mut state = connected();
    state.on_peer_stream_started(Dir::Bi, 1).wakeups.wake_now();
    let ending = state.abandon();
    assert_eq!((ending.shut_down, &ending.unaccepted[..]), (Some(0), &[1][..]));
    assert_eq!(state.cause(), Some(Cause::ClosedHere(0)));
    assert_eq!(state.on_peer_stream_started(Dir::Bi, 2).refused, Some(2));
}

#[test]
fn a_connection_that_is_abandoned_after_its_end_gives_back_what_waits() {
    let mut state = connected();
    state.on_peer_stream_started(Dir::Bi, 1).wakeups.wake_now();
    end(state.on_shutdown_initiated_by_peer(Cause::PeerClosed));
    let ending = state.abandon();
    assert_eq!((ending.shut_down, &ending.unaccepted[..]), (None, &[1][..]));
    assert_eq!(state.cause(), Some(Cause::PeerClosed));
}

#[test]
fn closing_leaves_streams_that_wait_to_those_who_may_accept_them() {
    let mut state = connected();
    state.on_peer_stream_started(Dir::Bi, 1).wakeups.wake_now();
    assert_eq!(state.close(CODE).unaccepted, []);
    assert_eq!(accept(&mut state, Dir::Bi), Poll::Ready(Ok(1)));
}

// ---- Streams of this side's that did not start --------------------------------------------------

#[test]
fn streams_that_did_not_start_are_told_once() {
    for (event, apply) in [("peer", ENDS[4].1), ("close", ENDS[0].1)] {
        let (mut state, stream) = (connected(), Arc::new(1));
        assert_eq!(state.tell_when_lost(Arc::downgrade(&stream)), None);
        let ending = state.close(CODE);
        let told: Vec<_> = ending.unstarted.iter().filter_map(Weak::upgrade).collect();
        assert!(told.len() == 1 && Arc::ptr_eq(&told[0], &stream));
        end(ending);
        apply(&mut state);
        assert!(state.close(CODE).unstarted.is_empty(), "{event}");
        assert_eq!(state.tell_when_lost(Arc::downgrade(&stream)), state.cause(), "the cause is known by now");
        assert!(state.unstarted.is_empty());
    }
}

#[test]
fn streams_that_did_not_start_and_are_gone_take_a_bounded_place() {
    let (mut state, held) = (connected(), Arc::new(0));
    assert_eq!(state.tell_when_lost(Arc::downgrade(&held)), None);
    for stream in 1..10_000 {
        assert_eq!(state.tell_when_lost(Arc::downgrade(&Arc::new(stream))), None);
        assert!(state.unstarted.len() <= SWEEP_AT_LEAST);
    }
    let told = state.close(CODE).unstarted;
    assert!(told.iter().any(|stream| stream.ptr_eq(&Arc::downgrade(&held))), "who is still there is told");
}

#[test]
fn many_streams_that_did_not_start_are_swept_seldom() {
    let mut state = connected();
    let held: Vec<_> = (0..1000).map(Arc::new).collect();
    for stream in &held {
        assert_eq!(state.tell_when_lost(Arc::downgrade(stream)), None);
    }
    assert!(state.sweep_at > 1000, "each sweep waits for twice as many as the last one left");
    assert_eq!(state.close(CODE).unstarted.len(), 1000);
}

// ---- The handshake ------------------------------------------------------------------------------

#[test]
fn the_handshakes_time_counts_only_while_connecting() {
    let mut state = connecting();
    assert_eq!(end(state.on_handshake_timeout()), Some(0));
    assert_eq!(state.cause(), Some(Cause::TimedOut));
    let mut state = connected();
    assert_eq!(end(state.on_handshake_timeout()), None);
    assert_eq!(state.cause(), None);
    let mut state = closed();
    assert_eq!(end(state.on_handshake_timeout()), None);
    assert_eq!(state.cause(), Some(Cause::PeerClosed));
}

#[test]
fn early_data_is_waited_for_until_the_handshake_is_done() {
    let early = |state: &mut ConnectionInnerExclusive| now(|_, cx| state.poll_early(cx));
    let mut state = ConnectionInnerExclusive::new(true);
    assert_eq!(early(&mut state), Poll::Pending);
    state.on_resumed().wake_now();
    assert_eq!(early(&mut state), Poll::Ready(Ok(())));
    assert_eq!(now(|_, cx| state.poll_connected(cx)), Poll::Pending, "the handshake is not done");
    end(state.close(CODE));
    assert_eq!(early(&mut state), Poll::Ready(Err(Cause::ClosedHere(CODE))));
    assert_eq!(early(&mut connected()), Poll::Ready(Ok(())), "without a session that is resumed");
}

#[test]
fn whether_early_data_was_taken_is_kept() {
    let mut state = connecting();
    assert!(!state.early_data_accepted());
    state.on_early_data_accepted();
    connect(&mut state);
    end(state.close(CODE));
    assert!(state.early_data_accepted());
}

#[test]
fn a_verifier_is_kept_until_the_end_and_then_given_back_once() {
    for (event, apply) in ENDS {
        let mut state = connecting();
        assert!(state.on_judging(&"asked"));
        let ending = state.close(CODE);
        assert_eq!(ending.verifier, Some("asked"));
        end(ending);
        apply(&mut state);
        assert_eq!(state.verifier, None, "{event}");
    }
}

#[test]
fn a_verifier_is_wanted_only_while_connecting() {
    for mut state in [connected(), closed()] {
        assert!(!state.on_judging(&"asked"));
        assert_eq!(state.close(CODE).verifier, None);
    }
}

#[test]
fn an_answer_that_is_not_taken_shuts_down_also_after_a_refusal() {
    let mut state = connecting();
    assert_eq!(end(state.on_peer_refused(Cause::PeerRefused)), None);
    assert_eq!(end(state.on_answer_not_taken(INTERNAL_ERROR, Cause::AnswerNotTaken)), Some(INTERNAL_ERROR));
    assert_eq!(state.cause(), Some(Cause::PeerRefused));
}

// ---- Tickets and paths --------------------------------------------------------------------------

#[test]
fn a_ticket_that_was_kept_is_known_after_the_end() {
    let ticket = |state: &mut ConnectionInnerExclusive| now(|key, cx| state.poll_ticket_kept(key, cx));
    let mut state = connected();
    assert_eq!(ticket(&mut state), Poll::Pending);
    state.on_ticket_kept().wake_now();
    assert_eq!(ticket(&mut state), Poll::Ready(Ok(())));
    end(state.close(CODE));
    assert_eq!(ticket(&mut state), Poll::Ready(Ok(())));

    let mut state = closed();
    assert_eq!(ticket(&mut state), Poll::Ready(Err(Cause::PeerClosed)));
    // The cache may have been slow.
    state.on_ticket_kept().wake_now();
    assert_eq!(ticket(&mut state), Poll::Ready(Ok(())));
}

#[test]
fn a_path_change_is_told_to_those_who_have_not_seen_it_also_after_the_end() {
    let mut state = connecting();
    state.on_connected(SETTLED, address(1), address(2)).wake_now();
    assert_eq!((state.path().local(), state.path().remote(), state.path().changes()), (address(1), address(2), 0));
    state.on_path_changed(None, address(3)).wake_now();
    assert_eq!((state.path().local(), state.path().remote(), state.path().changes()), (address(1), address(3), 1));
    let changed = |state: &mut ConnectionInnerExclusive, seen| now(|key, cx| state.poll_path_changed(seen, key, cx));
    assert_eq!(changed(&mut state, 0), Poll::Ready(Ok(())));
    assert_eq!(changed(&mut state, 1), Poll::Pending);
    end(state.close(CODE));
    assert_eq!(changed(&mut state, 0), Poll::Ready(Ok(())));
    assert_eq!(changed(&mut state, 1), Poll::Ready(Err(Cause::ClosedHere(CODE))));
    assert_eq!((state.path().local(), state.path().remote()), (address(1), address(3)), "as of the end");
}
