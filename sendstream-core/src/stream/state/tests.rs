//! Ring 1: the send half's transitions, without a network.

mod interleavings;

use std::{num::NonZeroUsize, task::Waker};

use bytes::Bytes;

use super::*;
use crate::{
    stream::cause::Status,
    testing::{Cause, Task},
};

type StreamInnerExclusive = super::StreamInnerExclusive<Cause, Bytes>;
type StreamSendState = super::StreamSendState<Cause>;

const LOST: Cause = Cause::TimedOut;

/// What the transport says when memory is out.
const NO_MEMORY: Status = Status(12);

fn lost() -> SendEnd<Cause> {
    SendEnd::Failed(SendFailure::ConnectionLost(LOST))
}

fn ended() -> SendEnd<Cause> {
    SendEnd::Failed(SendFailure::Ended)
}

fn because(end: SendEnd<Cause>) -> Denied<Cause> {
    Denied::Because(SendClosed::Ended(end))
}

/// A unidirectional stream of this side's, fresh.
fn fresh() -> StreamInnerExclusive {
    StreamInnerExclusive::local(Dir::Uni, None)
}

/// The same, started and admitted.
fn started() -> StreamInnerExclusive {
    let mut stream = fresh();
    assert_eq!(stream.begin_start(), Ok(true));
    stream.on_start_complete(Ok(()), true).wake_now();
    stream
}

/// The same with FIN submitted.
fn finishing() -> StreamInnerExclusive {
    let mut stream = started();
    send(&mut stream, 0, Fin::Yes);
    stream
}

fn submit(stream: &mut StreamInnerExclusive, bytes: u64, fin: Fin) -> Submission {
    stream.begin_send(bytes, fin).expect("data may be sent")
}

/// Submits, and returns the operation's number.
fn send(stream: &mut StreamInnerExclusive, bytes: u64, fin: Fin) -> u64 {
    submit(stream, bytes, fin).seq_no
}

/// Polls once and forgets the waker.
fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

fn acked(stream: &mut StreamInnerExclusive, operations: u64) -> Poll<Result<(), SendEnd<Cause>>> {
    now(|cx| stream.poll_acked(operations, cx))
}

fn finished(stream: &mut StreamInnerExclusive) -> Poll<Result<(), SendEnd<Cause>>> {
    now(|cx| stream.poll_finished(cx))
}

fn start_answer(stream: &mut StreamInnerExclusive) -> Poll<Result<(), SendEnd<Cause>>> {
    now(|cx| stream.poll_started(cx))
}

fn window_answer(stream: &mut StreamInnerExclusive) -> Poll<Result<(), SendClosed<Cause>>> {
    now(|cx| stream.poll_window(cx))
}

fn stop_answer(stream: &mut StreamInnerExclusive) -> Poll<Result<Option<u64>, Cause>> {
    let key = WaiterKey::new();
    let answer = now(|cx| stream.poll_stopped(key, cx));
    drop(stream.forget_stopped(key));
    answer
}

/// How many wakers are stored, of whatever kind.
fn waiting(stream: &StreamInnerExclusive) -> usize {
    let single = [&stream.start_waiter, &stream.send_waiter, &stream.window_waiter, &stream.write_shutdown_waiter];
    single.into_iter().map(Waiter::len).sum::<usize>() + stream.stopped_waiters.len()
}

// ---- The tables ---------------------------------------------------------------------------------

/// One column of a table: an event, or a call of the user's.
type Move = fn(&mut StreamInnerExclusive);

#[test]
fn the_send_half_moves_as_its_table_says() {
    use super::StreamSendState::{Absent, Failed, Failing, FinAcked, FinQueued, Open, Reset, Stopped};

    let moves: [(&str, Move); 9] = [
        ("send complete", |stream| stream.on_send_complete(1, false).wake_now()),
        ("send canceled", |stream| stream.on_send_complete(1, true).wake_now()),
        ("peer receive aborted", |stream| stream.on_peer_receive_aborted(9).wake_now()),
        ("send shutdown complete, graceful", |stream| stream.on_send_shutdown_complete(true).wake_now()),
        ("send shutdown complete, not graceful", |stream| stream.on_send_shutdown_complete(false).wake_now()),
        ("shutdown complete, connection lost", |stream| stream.on_shutdown_complete(Some(LOST)).wake_now()),
        ("shutdown complete", |stream| stream.on_shutdown_complete(None).wake_now()),
        ("reset by the user", |stream| {
            if let Ok((_, wakeups)) = stream.begin_reset(8) {
                wakeups.wake_now();
            }
        }),
        ("fin by the user", |stream| {
            let _ = stream.begin_send(0, Fin::Yes);
        }),
    ];
    let lost = || Failed(SendFailure::ConnectionLost(LOST));
    let ended = || Failed(SendFailure::Ended);
    let same = |state: StreamSendState| std::array::from_fn::<_, 9, _>(|_| state.clone());
    #[rustfmt::skip]
    let table = [
        // from complete canceled stopped graceful not lost over reset fin
        (Open,      [Open,      Failing, Stopped(9), Failing,  Failing, lost(), ended(), Reset(8), FinQueued]),
        (FinQueued, [FinQueued, Failing, Stopped(9), FinAcked, Failing, lost(), ended(), Reset(8), FinQueued]),
        (Failing,   [Failing,   Failing, Stopped(9), Failing,  Failing, lost(), ended(), Reset(8), Failing]),
        (FinAcked,  same(FinAcked)),
        (Stopped(5), same(Stopped(5))),
        (Reset(6),  same(Reset(6))),
        (Failed(SendFailure::Refused(NO_MEMORY)), same(Failed(SendFailure::Refused(NO_MEMORY)))),
    ];
    for (from, row) in table {
        for ((name, event), expected) in moves.iter().zip(row) {
            let mut stream = started();
            stream.send_state = from.clone();
            event(&mut stream);
            assert_eq!(stream.send_state, expected, "{from:?}, {name}");
        }
    }
    // Of a half that is not there only the user can ask, and MsQuic says no more than that the
    // stream is over.
    for index in [6, 7, 8] {
        let mut stream = StreamInnerExclusive::remote(Dir::Uni, None);
        moves[index].1(&mut stream);
        assert_eq!(stream.send_state, Absent, "{}", moves[index].0);
    }
}

#[test]
fn the_stream_moves_as_its_table_says() {
    use StreamState::{Blocked, Open, Refused, ShutdownComplete, Started, Starting};

    let moves: [(&str, Move); 8] = [
        ("start by the user", |stream| {
            let _ = stream.begin_start();
        }),
        ("send by the user", |stream| {
            let _ = stream.begin_send(1, Fin::No);
        }),
        ("start complete, accepted", |stream| stream.on_start_complete(Ok(()), true).wake_now()),
        ("start complete, blocked", |stream| stream.on_start_complete(Ok(()), false).wake_now()),
        ("peer accepted", |stream| stream.on_peer_accepted().wake_now()),
        ("send complete", |stream| stream.on_send_complete(1, false).wake_now()),
        ("send shutdown complete", |stream| stream.on_send_shutdown_complete(true).wake_now()),
        ("shutdown complete", |stream| stream.on_shutdown_complete(None).wake_now()),
    ];
    // A dash is what cannot happen: no event comes for a stream that never started, and none after
    // the last.
    const NO: Option<StreamState> = None;
    #[rustfmt::skip]
    let table = [
        // from start send accepted blocked accepted acked send over over
        (Open,     [Some(Starting), Some(Starting), NO,            NO,            NO,            NO,            NO,             NO]),
        (Starting, [Some(Starting), Some(Starting), Some(Started), Some(Blocked), NO,            NO,            Some(Starting), Some(ShutdownComplete)]),
        (Blocked,  [Some(Blocked),  Some(Blocked),  NO,            NO,            Some(Started), Some(Started), Some(Blocked),  Some(ShutdownComplete)]),
        (Started,  [Some(Started),  Some(Started),  NO,            NO,            Some(Started), Some(Started), Some(Started),  Some(ShutdownComplete)]),
        (Refused,  [Some(Refused),  Some(Refused),  NO,            NO,            NO,            NO,            NO,             NO]),
        (ShutdownComplete, [Some(ShutdownComplete), Some(ShutdownComplete), NO, NO, NO, NO, NO, NO]),
    ];
    for (from, row) in table {
        for ((name, event), expected) in moves.iter().zip(row) {
            let Some(expected) = expected else { continue };
            let mut stream = fresh();
            stream.state = from;
            event(&mut stream);
            assert_eq!(stream.state(), expected, "{from:?}, {name}");
            assert_eq!(stream.is_live(), matches!(expected, Starting | Blocked | Started));
        }
    }
}

// ---- Starting -----------------------------------------------------------------------------------

#[test]
fn a_stream_is_started_once() {
    let mut stream = fresh();
    assert_eq!(stream.begin_start(), Ok(true));
    assert_eq!(stream.begin_start(), Ok(false));
    assert!(!submit(&mut stream, 1, Fin::No).starts);
}

#[test]
fn the_first_send_starts_the_stream_and_no_other_does() {
    for (bytes, fin) in [(1, Fin::No), (1, Fin::Yes), (0, Fin::Yes)] {
        let mut stream = fresh();
        assert!(submit(&mut stream, bytes, fin).starts);
        assert_eq!(stream.state(), StreamState::Starting);
        assert_eq!(stream.begin_start(), Ok(false));
    }
    let mut stream = fresh();
    send(&mut stream, 1, Fin::No);
    assert!(!submit(&mut stream, 1, Fin::No).starts);
}

#[test]
fn a_start_over_the_limit_waits_until_the_peer_accepts() {
    let task = Task::new();
    let mut stream = fresh();
    assert_eq!(stream.begin_start(), Ok(true));
    assert!(task.run(|cx| stream.poll_started(cx)).is_pending());
    stream.on_start_complete(Ok(()), false).wake_now();
    assert_eq!(task.wakes(), 0);
    assert!(task.run(|cx| stream.poll_started(cx)).is_pending());
    stream.on_peer_accepted().wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(start_answer(&mut stream), Poll::Ready(Ok(())));
}

#[test]
fn what_arrived_at_the_peer_proves_that_it_accepted_the_stream() {
    let arrivals: [Move; 2] = [
        |stream| stream.on_send_complete(1, false).wake_now(),
        |stream| stream.on_send_shutdown_complete(true).wake_now(),
    ];
    for arrival in arrivals {
        let task = Task::new();
        let mut stream = fresh();
        send(&mut stream, 1, Fin::Yes);
        stream.on_start_complete(Ok(()), false).wake_now();
        assert!(task.run(|cx| stream.poll_started(cx)).is_pending());
        arrival(&mut stream);
        assert_eq!(task.wakes(), 1);
        assert_eq!(start_answer(&mut stream), Poll::Ready(Ok(())));
        assert_eq!(stream.state(), StreamState::Started);
    }
}

#[test]
fn a_start_that_failed_for_good_releases_everybody() {
    for (status, error) in [
        (StartFailed::LimitReached, SendEnd::Failed(SendFailure::LimitReached)),
        (StartFailed::Failed(NO_MEMORY), SendEnd::Failed(SendFailure::StartFailed(NO_MEMORY))),
    ] {
        let (starter, sender) = (Task::new(), Task::new());
        let mut stream = fresh();
        assert_eq!(stream.begin_start(), Ok(true));
        let seq_no = send(&mut stream, 1, Fin::No);
        assert!(starter.run(|cx| stream.poll_started(cx)).is_pending());
        assert!(sender.run(|cx| stream.poll_acked(seq_no + 1, cx)).is_pending());
        stream.on_start_complete(Err(status), false).wake_now();
        assert_eq!((starter.wakes(), sender.wakes()), (1, 1));
        assert_eq!(start_answer(&mut stream), Poll::Ready(Err(error.clone())));
        assert_eq!(acked(&mut stream, 1), Poll::Ready(Err(error.clone())));
        stream.on_send_complete(1, true).wake_now();
        stream.on_shutdown_complete(None).wake_now();
        assert_eq!(start_answer(&mut stream), Poll::Ready(Err(error)));
    }
}

#[test]
fn an_aborted_start_waits_for_the_cause_and_then_fails_with_it() {
    let task = Task::new();
    let mut stream = fresh();
    assert_eq!(stream.begin_start(), Ok(true));
    assert!(task.run(|cx| stream.poll_started(cx)).is_pending());
    stream.on_start_complete(Err(StartFailed::Going), false).wake_now();
    assert_eq!(task.wakes(), 0);
    assert!(task.run(|cx| stream.poll_started(cx)).is_pending());
    assert_eq!(stream.check_sending(), Err(Denied::CauseToCome));
    stream.on_shutdown_complete(Some(LOST)).wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(start_answer(&mut stream), Poll::Ready(Err(lost())));
}

#[test]
fn a_start_refused_on_the_spot_asks_the_connection_when_it_may_know() {
    let task = Task::new();
    let mut stream = fresh();
    assert_eq!(stream.begin_start(), Ok(true));
    assert!(task.run(|cx| stream.poll_started(cx)).is_pending());
    let (refusal, wakeups) = stream.on_start_refused(Refused::Going);
    assert_eq!((refusal, wakeups.len()), (Refusal::AskConnection, 0));
    assert_eq!(stream.state(), StreamState::Refused);
    stream.on_lost(Some(LOST)).wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(start_answer(&mut stream), Poll::Ready(Err(lost())));
    let mut stream = fresh();
    assert_eq!(stream.begin_start(), Ok(true));
    let (refusal, wakeups) = stream.on_start_refused(Refused::Failed(NO_MEMORY));
    wakeups.wake_now();
    assert_eq!(refusal, Refusal::AwaitEvent);
    assert_eq!(start_answer(&mut stream), Poll::Ready(Err(SendEnd::Failed(SendFailure::Refused(NO_MEMORY)))));
}

#[test]
fn a_start_after_the_end_says_what_the_end_was() {
    let mut stream = fresh();
    stream.begin_reset(7).expect("a fresh stream can be reset").1.wake_now();
    assert_eq!(stream.begin_start(), Err(SendEnd::Reset(7)));
    assert_eq!(start_answer(&mut stream), Poll::Ready(Err(SendEnd::Reset(7))));
    assert_eq!(stream.begin_send(1, Fin::No), Err(because(SendEnd::Reset(7))));
}

// ---- Sending ------------------------------------------------------------------------------------

#[test]
fn a_send_resolves_when_it_and_all_before_it_are_acknowledged() {
    let task = Task::new();
    let mut stream = started();
    assert_eq!([0, 1, 2].map(|_| send(&mut stream, 10, Fin::No)), [0, 1, 2]);
    assert_eq!((stream.submitted(), stream.in_flight()), (3, 30));
    assert_eq!(acked(&mut stream, 0), Poll::Ready(Ok(())), "nothing has nothing to wait for");
    for done in 1..=3 {
        assert!(task.run(|cx| stream.poll_acked(done, cx)).is_pending());
        stream.on_send_complete(10, false).wake_now();
        assert_eq!(task.wakes(), done as usize);
        assert_eq!(acked(&mut stream, done), Poll::Ready(Ok(())));
    }
    assert_eq!(stream.in_flight(), 0);
}

#[test]
fn a_canceled_send_waits_for_the_cause_and_then_fails_with_it() {
    let causes: [(Move, SendEnd<Cause>); 4] = [
        (|stream| stream.on_peer_receive_aborted(9).wake_now(), SendEnd::Stopped(9)),
        (|stream| stream.on_shutdown_complete(Some(LOST)).wake_now(), lost()),
        (|stream| stream.on_shutdown_complete(None).wake_now(), ended()),
        (|stream| stream.begin_reset(8).expect("it is failing, not over").1.wake_now(), SendEnd::Reset(8)),
    ];
    for (cause, error) in causes {
        let (sender, writer, finisher) = (Task::new(), Task::new(), Task::new());
        let mut stream = started();
        send(&mut stream, DEFAULT_WINDOW, Fin::No);
        let poll = |stream: &mut StreamInnerExclusive| {
            assert!(sender.run(|cx| stream.poll_acked(1, cx)).is_pending());
            assert!(writer.run(|cx| stream.poll_window(cx)).is_pending());
            assert!(finisher.run(|cx| stream.poll_finished(cx)).is_pending());
        };
        poll(&mut stream);
        stream.on_send_complete(DEFAULT_WINDOW, true).wake_now();
        assert_eq!(stream.in_flight(), 0);
        stream.on_send_shutdown_complete(false).wake_now();
        poll(&mut stream);
        assert_eq!(stream.begin_send(1, Fin::No), Err(Denied::CauseToCome));
        let before = [&sender, &writer, &finisher].map(Task::wakes);
        assert_eq!(before[..2], [0, 0], "nothing to say yet");
        cause(&mut stream);
        assert_eq!([&sender, &writer, &finisher].map(Task::wakes), before.map(|wakes| wakes + 1), "{error:?}");
        assert_eq!(acked(&mut stream, 1), Poll::Ready(Err(error.clone())));
        assert_eq!(window_answer(&mut stream), Poll::Ready(Err(SendClosed::Ended(error.clone()))));
        assert_eq!(finished(&mut stream), Poll::Ready(Err(error)));
    }
}

#[test]
fn what_was_acknowledged_stays_ok_whatever_comes_after() {
    let ends: [Move; 3] = [
        |stream| stream.begin_reset(8).expect("it is open").1.wake_now(),
        |stream| stream.on_peer_receive_aborted(9).wake_now(),
        |stream| stream.on_shutdown_complete(Some(LOST)).wake_now(),
    ];
    for end in ends {
        let mut stream = started();
        send(&mut stream, 1, Fin::No);
        send(&mut stream, 1, Fin::No);
        stream.on_send_complete(1, false).wake_now();
        end(&mut stream);
        assert_eq!(acked(&mut stream, 1), Poll::Ready(Ok(())));
        assert!(matches!(acked(&mut stream, 2), Poll::Ready(Err(_))));
    }
}

#[test]
fn a_send_refused_on_the_spot_gives_its_bytes_back_and_waits_for_the_cause() {
    let mut stream = fresh();
    let submission = submit(&mut stream, 10, Fin::No);
    let (refusal, wakeups) = stream.on_send_refused(10, submission, Refused::Going);
    assert_eq!((refusal, wakeups.len()), (Refusal::AskConnection, 0), "no event comes for what never started");
    assert_eq!((stream.state(), stream.in_flight()), (StreamState::Refused, 0));

    let mut stream = started();
    let submission = submit(&mut stream, 10, Fin::Yes);
    let (refusal, wakeups) = stream.on_send_refused(10, submission, Refused::Going);
    assert_eq!((refusal, wakeups.len()), (Refusal::AwaitEvent, 0));
    assert_eq!((stream.state(), stream.in_flight()), (StreamState::Started, 0));
    assert_eq!(acked(&mut stream, submission.seq_no + 1), Poll::Pending);
    assert_eq!(stream.begin_send(1, Fin::No), Err(Denied::CauseToCome));
    stream.on_peer_receive_aborted(9).wake_now();
    assert_eq!(acked(&mut stream, submission.seq_no + 1), Poll::Ready(Err(SendEnd::Stopped(9))));
}

#[test]
fn a_send_refused_for_want_of_memory_resets_the_stream() {
    let task = Task::new();
    let mut stream = started();
    send(&mut stream, 10, Fin::No);
    assert!(task.run(|cx| stream.poll_acked(1, cx)).is_pending());
    let submission = submit(&mut stream, 10, Fin::No);
    let (refusal, wakeups) = stream.on_send_refused(10, submission, Refused::Failed(NO_MEMORY));
    wakeups.wake_now();
    assert_eq!(refusal, Refusal::ResetNative);
    assert_eq!((task.wakes(), stream.in_flight()), (1, 10));
    let error = SendEnd::Failed(SendFailure::Refused(NO_MEMORY));
    assert_eq!(acked(&mut stream, 1), Poll::Ready(Err(error)));
}

#[test]
fn a_cause_that_came_during_the_refused_call_is_kept() {
    let mut stream = started();
    let submission = submit(&mut stream, 10, Fin::No);
    stream.on_peer_receive_aborted(9).wake_now();
    for refused in [Refused::Going, Refused::Failed(NO_MEMORY)] {
        let (refusal, wakeups) = stream.on_send_refused(10, submission, refused);
        wakeups.wake_now();
        assert_eq!(refusal, Refusal::AwaitEvent);
        assert_eq!(stream.send_state, StreamSendState::Stopped(9));
    }
}

#[test]
fn slices_that_were_taken_before_one_was_refused_still_come_back() {
    let mut stream = StreamInnerExclusive::local(Dir::Uni, Some(80_000));
    let mut submission = submit(&mut stream, 100_000, Fin::Yes);
    assert!(submission.starts);
    // MsQuic takes three, and what was the first has started the stream.
    submission.starts = false;
    let (refusal, wakeups) = stream.on_send_refused(70_000, submission, Refused::Going);
    assert_eq!((refusal, wakeups.len()), (Refusal::AwaitEvent, 0));
    assert_eq!((stream.state(), stream.in_flight()), (StreamState::Starting, 30_000));
    for _ in 0..3 {
        stream.on_send_complete(10_000, false).wake_now();
    }
    assert_eq!(stream.in_flight(), 0);
    assert_eq!(acked(&mut stream, submission.end()), Poll::Pending, "not all of it is acknowledged");
    stream.on_peer_receive_aborted(9).wake_now();
    assert_eq!(acked(&mut stream, submission.end()), Poll::Ready(Err(SendEnd::Stopped(9))));
}

// ---- The window ---------------------------------------------------------------------------------

#[test]
fn a_writer_goes_on_while_the_end_of_a_large_send_is_under_way() {
    let (writer, sender) = (Task::new(), Task::new());
    let mut stream = StreamInnerExclusive::local(Dir::Uni, Some(80_000));
    let submission = submit(&mut stream, 100_000, Fin::No);
    assert_eq!((submission.end(), stream.submitted(), stream.in_flight()), (10, 10, 100_000));
    assert!(writer.run(|cx| stream.poll_window(cx)).is_pending());
    assert!(sender.run(|cx| stream.poll_acked(submission.end(), cx)).is_pending());
    for under_way in (0..10u64).rev() {
        stream.on_send_complete(10_000, false).wake_now();
        assert_eq!(stream.in_flight(), under_way * 10_000);
        assert_eq!(writer.wakes(), usize::from(under_way <= 7), "an eighth of the window is free");
        assert_eq!(sender.wakes(), usize::from(under_way == 0), "the whole send is acknowledged");
    }
    assert_eq!(acked(&mut stream, submission.end()), Poll::Ready(Ok(())));
}

#[test]
fn room_in_the_window_comes_back_with_acknowledgements() {
    let task = Task::new();
    let mut stream = StreamInnerExclusive::local(Dir::Uni, Some(10));
    assert_eq!(window_answer(&mut stream), Poll::Ready(Ok(())));
    send(&mut stream, 9, Fin::No);
    assert_eq!(window_answer(&mut stream), Poll::Ready(Ok(())), "one byte is free: one chunk may go beyond");
    send(&mut stream, 100, Fin::No);
    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    stream.on_send_complete(9, false).wake_now();
    assert_eq!(task.wakes(), 0, "100 bytes are over the window still");
    stream.on_send_complete(100, false).wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(window_answer(&mut stream), Poll::Ready(Ok(())));
}

#[test]
fn a_window_shrinks_as_the_budget_is_used_up_and_a_writer_waits_for_the_smaller_one() {
    let budget: &'static Budget = Box::leak(Box::new(Budget::new(300_000)));
    let flight: &'static Flight = Box::leak(Box::new(Flight::new(NonZeroUsize::MIN)));
    let task = Task::new();
    let [mut stream, mut other] = [(); 2].map(|()| {
        let mut stream = StreamInnerExclusive::local(Dir::Uni, Some(1_000_000));
        stream.share(budget, flight);
        stream
    });
    assert_eq!(stream.window(), 300_000);
    send(&mut stream, 100_000, Fin::No);
    assert_eq!((stream.window(), other.window()), (200_000, 200_000));
    send(&mut other, 2_000_000, Fin::No);
    assert_eq!(budget.used(), 1_100_000, "no more than a window of a larger send counts");
    assert_eq!(stream.window(), Budget::LEAST_WINDOW);
    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    stream.on_send_complete(85_000, false).wake_now();
    assert_eq!(task.wakes(), 0, "too little is free of the smaller window");
    stream.on_send_complete(5_000, false).wake_now();
    assert_eq!(task.wakes(), 1);
    drop(other);
    assert!(stream.window() > 250_000);
    drop(stream);
    assert_eq!(budget.used(), 0);
}

#[test]
fn advice_is_followed_until_the_window_is_fixed() {
    let task = Task::new();
    let mut stream = fresh();
    send(&mut stream, DEFAULT_WINDOW, Fin::No);
    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    stream.on_ideal_send_buffer_size(DEFAULT_WINDOW - 1, None).wake_now();
    assert_eq!(task.wakes(), 0);
    stream.on_ideal_send_buffer_size(DEFAULT_WINDOW + 1, None).wake_now();
    assert_eq!((task.wakes(), stream.window()), (1, DEFAULT_WINDOW + 1));
    stream.on_ideal_send_buffer_size(0, None).wake_now();
    assert_eq!(stream.window(), 1, "a window of nothing would wait for ever");

    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    stream.set_window(DEFAULT_WINDOW * 2).wake_now();
    assert_eq!(task.wakes(), 2);
    stream.on_ideal_send_buffer_size(5, None).wake_now();
    assert_eq!(stream.window(), DEFAULT_WINDOW * 2);
    let mut fixed = StreamInnerExclusive::local(Dir::Uni, Some(3));
    fixed.on_ideal_send_buffer_size(5, None).wake_now();
    assert_eq!(fixed.window(), 3);
}

#[test]
fn a_writer_that_waits_is_woken_for_more_than_one_chunk() {
    let task = Task::new();
    let mut stream = fresh();
    stream.set_window(800).wake_now();
    for _ in 0..90 {
        send(&mut stream, 10, Fin::No);
    }
    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    for _ in 0..19 {
        stream.on_send_complete(10, false).wake_now();
    }
    assert_eq!((task.wakes(), stream.in_flight()), (0, 710));
    stream.on_send_complete(10, false).wake_now();
    assert_eq!((task.wakes(), stream.in_flight()), (1, 700));
}

#[test]
fn advice_beyond_what_the_path_can_hold_is_cut() {
    const MIB: u64 = 1024 * 1024;
    let near = Some(Duration::from_micros(100));
    let far = Some(Duration::from_millis(100));
    let mut stream = fresh();
    for (ideal, min_rtt, window) in [
        (16 * MIB, near, MIB + 125_000),
        (MIB / 2, near, MIB / 2),
        (16 * MIB, far, 16 * MIB),
        (16 * MIB, None, 16 * MIB),
        (u64::MAX, Some(Duration::MAX), u64::MAX),
    ] {
        stream.on_ideal_send_buffer_size(ideal, min_rtt).wake_now();
        assert_eq!(stream.window(), window);
    }
}

#[test]
fn a_writer_waits_for_less_while_other_streams_keep_the_processors_busy() {
    const MIB: u64 = 1024 * 1024;
    let budget: &'static Budget = Box::leak(Box::new(Budget::new(1 << 40)));
    let flight: &'static Flight = Box::leak(Box::new(Flight::new(NonZeroUsize::MIN)));
    let near = Some(Duration::ZERO);
    let task = Task::new();
    let [mut stream, mut first, mut second] = [(); 3].map(|()| {
        let mut stream = StreamInnerExclusive::local(Dir::Uni, None);
        stream.share(budget, flight);
        stream.on_ideal_send_buffer_size(16 * MIB, near).wake_now();
        stream
    });
    assert_eq!(stream.window(), MIB);
    send(&mut first, MIB, Fin::No);
    assert_eq!(stream.window(), MIB, "the other processor is free");
    send(&mut second, MIB / 2, Fin::No);
    assert!((MIB / 2..MIB).contains(&stream.window()));
    send(&mut second, 16 * MIB, Fin::No);
    let least = stream.window();
    assert!((DEFAULT_WINDOW + 1..DEFAULT_WINDOW * 2).contains(&least));
    send(&mut stream, MIB / 2, Fin::No);
    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    drop((first, second));
    assert!(task.run(|cx| stream.poll_window(cx)).is_ready());
    assert!(flight.taken() > 0);
    stream.set_window(4 * MIB).wake_now();
    assert_eq!(stream.window(), 4 * MIB, "a fixed window is the user's");
    assert_eq!((budget.used(), flight.taken()), (MIB / 2, 0));
}

// ---- Ending -------------------------------------------------------------------------------------

#[test]
fn fin_is_ok_only_when_graceful() {
    let ends: [(Move, Result<(), SendEnd<Cause>>); 5] = [
        (|stream| stream.on_send_shutdown_complete(true).wake_now(), Ok(())),
        (|stream| stream.on_shutdown_complete(Some(LOST)).wake_now(), Err(lost())),
        (|stream| stream.on_shutdown_complete(None).wake_now(), Err(ended())),
        (|stream| stream.on_peer_receive_aborted(9).wake_now(), Err(SendEnd::Stopped(9))),
        (|stream| stream.begin_reset(8).expect("it is finishing").1.wake_now(), Err(SendEnd::Reset(8))),
    ];
    for (end, expected) in ends {
        let task = Task::new();
        let mut stream = finishing();
        assert!(task.run(|cx| stream.poll_finished(cx)).is_pending());
        end(&mut stream);
        assert_eq!(task.wakes(), 1);
        assert_eq!(finished(&mut stream), Poll::Ready(expected.clone()));
        // What comes after, in whatever order, takes nothing back.
        stream.on_send_shutdown_complete(true).wake_now();
        stream.on_shutdown_complete(Some(Cause::Refused)).wake_now();
        assert_eq!(finished(&mut stream), Poll::Ready(expected));
    }
}

#[test]
fn a_send_shutdown_that_is_not_graceful_waits_for_the_cause() {
    let task = Task::new();
    let mut stream = finishing();
    assert!(task.run(|cx| stream.poll_finished(cx)).is_pending());
    stream.on_send_shutdown_complete(false).wake_now();
    assert_eq!(task.wakes(), 0);
    assert!(task.run(|cx| stream.poll_finished(cx)).is_pending());
    stream.on_shutdown_complete(Some(LOST)).wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(finished(&mut stream), Poll::Ready(Err(lost())));
}

#[test]
fn an_empty_last_send_is_no_operation_of_its_own() {
    let mut stream = started();
    send(&mut stream, 1, Fin::No);
    let submission = submit(&mut stream, 0, Fin::Yes);
    assert_eq!((submission.seq_no, stream.submitted()), (1, 1), "what it waits for is everything before it");
    assert_eq!(acked(&mut stream, submission.seq_no), Poll::Pending);
    stream.on_send_complete(1, false).wake_now();
    assert_eq!(acked(&mut stream, submission.seq_no), Poll::Ready(Ok(())));
}

#[test]
fn nothing_is_taken_after_fin() {
    let mut stream = finishing();
    for _ in 0..2 {
        assert_eq!(stream.begin_send(1, Fin::No), Err(Denied::Because(SendClosed::Finished)));
        assert_eq!(stream.begin_send(0, Fin::Yes), Err(Denied::Because(SendClosed::Finished)));
        assert_eq!(window_answer(&mut stream), Poll::Ready(Err(SendClosed::Finished)));
        stream.on_send_shutdown_complete(true).wake_now();
    }
    assert_eq!((stream.submitted(), stream.in_flight()), (0, 0), "a bare FIN is no operation");
}

#[test]
fn a_reset_before_the_start_tells_nobody() {
    let task = Task::new();
    let mut stream = fresh();
    assert!(task.run(|cx| stream.poll_window(cx)).is_ready());
    let key = WaiterKey::new();
    assert!(task.run(|cx| stream.poll_stopped(key, cx)).is_pending());
    let (tell, wakeups) = stream.begin_reset(7).expect("a fresh stream can be reset");
    assert!(!tell);
    wakeups.wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(stop_answer(&mut stream), Poll::Ready(Ok(None)));
    assert_eq!(now(|cx| stream.poll_aborted(cx)), Poll::Ready(()));
}

#[test]
fn a_reset_of_a_live_stream_tells_msquic_once() {
    let lives: [Move; 3] = [
        |stream| assert_eq!(stream.begin_start(), Ok(true)),
        |stream| {
            send(stream, 1, Fin::No);
            stream.on_start_complete(Ok(()), false).wake_now();
        },
        |stream| {
            send(stream, 1, Fin::Yes);
            stream.on_start_complete(Ok(()), true).wake_now();
        },
    ];
    for live in lives {
        let mut stream = fresh();
        live(&mut stream);
        let (tell, wakeups) = stream.begin_reset(7).expect("it is live");
        wakeups.wake_now();
        assert!(tell);
        let (tell, wakeups) = stream.begin_reset(8).expect("resetting again does nothing");
        assert_eq!((tell, wakeups.len()), (false, 0));
        assert_eq!(stream.send_end(), Some(SendEnd::Reset(7)));
    }
}

#[test]
fn a_reset_after_the_end_says_what_the_end_was() {
    for (end, error) in [
        (StreamSendState::Absent, SendClosed::Finished),
        (StreamSendState::FinAcked, SendClosed::Finished),
        (StreamSendState::Stopped(9), SendClosed::Ended(SendEnd::Stopped(9))),
        (StreamSendState::Failed(SendFailure::ConnectionLost(LOST)), SendClosed::Ended(lost())),
    ] {
        let mut stream = started();
        stream.send_state = end.clone();
        assert_eq!(stream.begin_reset(7).expect_err("it is over"), error);
        assert_eq!(stream.send_state, end);
    }
}

#[test]
fn an_abort_is_done_when_msquic_is_done_with_the_send_half() {
    let ends: [Move; 3] = [
        |stream| stream.on_send_shutdown_complete(false).wake_now(),
        // FIN and the reset crossed on the wire.
        |stream| stream.on_send_shutdown_complete(true).wake_now(),
        |stream| stream.on_shutdown_complete(Some(LOST)).wake_now(),
    ];
    for end in ends {
        let task = Task::new();
        let mut stream = finishing();
        stream.begin_reset(7).expect("it is finishing").1.wake_now();
        assert!(task.run(|cx| stream.poll_aborted(cx)).is_pending());
        end(&mut stream);
        assert_eq!(task.wakes(), 1);
        assert!(task.run(|cx| stream.poll_aborted(cx)).is_ready());
        assert_eq!(stream.send_end(), Some(SendEnd::Reset(7)));
    }
}

#[test]
fn dropping_the_handle_resets_only_what_is_unfinished() {
    for (state, unfinished) in [
        (StreamSendState::Open, true),
        (StreamSendState::Failing, true),
        (StreamSendState::FinQueued, false),
        (StreamSendState::FinAcked, false),
        (StreamSendState::Stopped(9), false),
        (StreamSendState::Reset(9), false),
        (StreamSendState::Failed(SendFailure::ConnectionLost(LOST)), false),
        (StreamSendState::Absent, false),
    ] {
        let mut stream = started();
        stream.send_state = state.clone();
        assert_eq!(stream.is_unfinished(), unfinished, "{state:?}");
    }
}

#[test]
fn every_end_has_its_answer_to_who_waits_for_a_stop() {
    for (state, answer) in [
        (StreamSendState::Open, Poll::Pending),
        (StreamSendState::FinQueued, Poll::Pending),
        (StreamSendState::Failing, Poll::Pending),
        (StreamSendState::FinAcked, Poll::Ready(Ok(None))),
        (StreamSendState::Reset(8), Poll::Ready(Ok(None))),
        (StreamSendState::Failed(SendFailure::LimitReached), Poll::Ready(Ok(None))),
        (StreamSendState::Failed(SendFailure::StartFailed(NO_MEMORY)), Poll::Ready(Ok(None))),
        (StreamSendState::Failed(SendFailure::Refused(NO_MEMORY)), Poll::Ready(Ok(None))),
        (StreamSendState::Failed(SendFailure::Ended), Poll::Ready(Ok(None))),
        (StreamSendState::Absent, Poll::Ready(Ok(None))),
        (StreamSendState::Stopped(9), Poll::Ready(Ok(Some(9)))),
        (StreamSendState::Failed(SendFailure::ConnectionLost(LOST)), Poll::Ready(Err(LOST))),
    ] {
        let mut stream = started();
        stream.send_state = state.clone();
        assert_eq!(stop_answer(&mut stream), answer, "{state:?}");
    }
}

#[test]
fn the_readers_of_a_stream_that_can_never_start_are_told() {
    let dead_ends: [(&str, Move); 3] = [
        ("reset before the start", |stream| stream.begin_reset(7).expect("it is fresh").1.wake_now()),
        ("a start refused for want of memory", |stream| {
            assert_eq!(stream.begin_start(), Ok(true));
            stream.on_start_refused(Refused::Failed(NO_MEMORY)).1.wake_now();
        }),
        ("a first send refused for want of memory", |stream| {
            let submission = submit(stream, 1, Fin::No);
            stream.on_send_refused(1, submission, Refused::Failed(NO_MEMORY)).1.wake_now();
        }),
    ];
    for (name, dead_end) in dead_ends {
        let task = Task::new();
        let mut stream = StreamInnerExclusive::local(Dir::Bi, None);
        assert!(task.run(|cx| stream.recv().poll_take(1, cx)).is_pending());
        dead_end(&mut stream);
        assert_eq!(task.wakes(), 1, "{name}: no event will ever come, so nobody else wakes the reader");
        assert!(task.run(|cx| stream.recv().poll_take(1, cx)).is_ready(), "{name}");
    }
}

#[test]
fn a_stream_that_has_not_started_asks_the_connection_once() {
    let mut stream = fresh();
    assert!(stream.must_ask_connection());
    assert!(!stream.must_ask_connection());
    assert!(!started().must_ask_connection(), "events will tell");
    let key = WaiterKey::new();
    let task = Task::new();
    assert!(task.run(|cx| stream.poll_stopped(key, cx)).is_pending());
    stream.on_lost(Some(LOST)).wake_now();
    assert_eq!(task.wakes(), 1);
    assert_eq!(stop_answer(&mut stream), Poll::Ready(Err(LOST)));
}

#[test]
fn only_a_live_stream_with_fin_under_way_is_delivering() {
    let mut stream = fresh();
    assert!(!stream.is_delivering());
    send(&mut stream, 1, Fin::No);
    assert!(!stream.is_delivering());
    send(&mut stream, 0, Fin::Yes);
    assert!(stream.is_delivering());
    let ends: [Move; 4] = [
        |stream| stream.on_send_shutdown_complete(true).wake_now(),
        |stream| stream.on_shutdown_complete(Some(LOST)).wake_now(),
        |stream| stream.on_peer_receive_aborted(9).wake_now(),
        |stream| stream.begin_reset(8).expect("it is finishing").1.wake_now(),
    ];
    for end in ends {
        let mut stream = finishing();
        assert!(stream.is_delivering());
        end(&mut stream);
        assert!(!stream.is_delivering());
    }
}

// ---- Who waits ----------------------------------------------------------------------------------

#[test]
fn a_thousand_polls_store_one_waker_of_each_kind() {
    let (first, task) = (Task::new(), Task::new());
    let mut stream = fresh();
    send(&mut stream, DEFAULT_WINDOW, Fin::No);
    let keys = [WaiterKey::new(), WaiterKey::new()];
    for round in 0..1000 {
        let task = if round == 0 { &first } else { &task };
        task.run(|cx| {
            assert!(stream.poll_started(cx).is_pending());
            assert!(stream.poll_acked(1, cx).is_pending());
            assert!(stream.poll_window(cx).is_pending());
            assert!(stream.poll_finished(cx).is_pending());
            assert!(stream.poll_aborted(cx).is_pending());
            for key in keys {
                assert!(stream.poll_stopped(key, cx).is_pending());
            }
        });
    }
    assert_eq!(waiting(&stream), 4 + keys.len());
    assert_eq!(stream.take_retired().len(), 4 + keys.len(), "what was replaced is dropped by whoever holds the lock");
    assert_eq!((first.stored(), task.stored()), (0, 4 + keys.len()), "the task that polled first is forgotten");
}

#[test]
fn the_last_event_leaves_nobody_asleep_and_wakes_each_task_once() {
    let ends: [Move; 2] = [
        |stream| stream.on_shutdown_complete(Some(LOST)).wake_now(),
        |stream| stream.on_shutdown_complete(None).wake_now(),
    ];
    let befores: [Move; 4] = [
        |_| {},
        |stream| stream.on_send_complete(DEFAULT_WINDOW, true).wake_now(),
        |stream| stream.on_send_shutdown_complete(false).wake_now(),
        |stream| stream.on_start_complete(Err(StartFailed::Going), false).wake_now(),
    ];
    for (end, before) in ends.iter().flat_map(|end| befores.iter().map(move |before| (end, before))) {
        let task = Task::new();
        let mut stream = StreamInnerExclusive::local(Dir::Bi, None);
        send(&mut stream, DEFAULT_WINDOW, Fin::No);
        before(&mut stream);
        let (stopped, reset) = (WaiterKey::new(), WaiterKey::new());
        task.run(|cx| {
            assert!(stream.poll_started(cx).is_pending());
            assert!(stream.poll_acked(1, cx).is_pending());
            assert!(stream.poll_window(cx).is_pending());
            assert!(stream.poll_finished(cx).is_pending());
            assert!(stream.poll_stopped(stopped, cx).is_pending());
            assert!(stream.recv().poll_take(1, cx).is_pending());
            assert!(stream.recv().poll_received_reset(reset, cx).is_pending());
        });
        end(&mut stream);
        assert_eq!((task.wakes(), task.stored()), (1, 0));
    }
}

#[test]
fn a_forgotten_waiter_is_not_woken() {
    let (forgotten, waiting) = (Task::new(), Task::new());
    let mut stream = started();
    let (key, other) = (WaiterKey::new(), WaiterKey::new());
    assert!(forgotten.run(|cx| stream.poll_stopped(key, cx)).is_pending());
    assert!(waiting.run(|cx| stream.poll_stopped(other, cx)).is_pending());
    assert!(stream.forget_stopped(key).is_some());
    assert!(stream.forget_stopped(key).is_none());
    stream.on_peer_receive_aborted(9).wake_now();
    assert_eq!((forgotten.wakes(), waiting.wakes()), (0, 1));
}

#[test]
fn a_stream_of_the_peers_is_started_and_sends_only_if_bidirectional() {
    let mut one_way = StreamInnerExclusive::remote(Dir::Uni, None);
    assert_eq!(one_way.begin_send(1, Fin::No), Err(Denied::Because(SendClosed::Finished)));
    assert!(!one_way.is_unfinished());
    assert!(one_way.is_live());

    let mut both_ways = StreamInnerExclusive::remote(Dir::Bi, Some(5));
    assert_eq!(start_answer(&mut both_ways), Poll::Ready(Ok(())));
    assert!(!submit(&mut both_ways, 1, Fin::No).starts);
    assert_eq!(both_ways.window(), 5);
}

#[test]
fn what_msquic_has_copied_is_acknowledged_only_with_fin() {
    let mut stream = started();
    stream.set_buffered(true);
    stream.set_window(10).wake_now();
    let task = Task::new();
    let operation = send(&mut stream, 10, Fin::No);
    assert!(task.run(|cx| stream.poll_window(cx)).is_pending());
    stream.on_send_complete(10, false).wake_now();
    assert_eq!(task.wakes(), 1, "a copy makes room");
    assert!(acked(&mut stream, operation + 1).is_pending(), "and acknowledges nothing");
    send(&mut stream, 0, Fin::Yes);
    assert!(acked(&mut stream, operation + 1).is_pending());
    stream.on_send_shutdown_complete(true).wake_now();
    assert_eq!(acked(&mut stream, operation + 1), Poll::Ready(Ok(())));
    assert_eq!(finished(&mut stream), Poll::Ready(Ok(())));
}

#[test]
fn what_msquic_has_copied_is_not_acknowledged_when_the_connection_is_lost() {
    let mut stream = started();
    stream.set_buffered(true);
    let operation = send(&mut stream, 10, Fin::Yes);
    stream.on_send_complete(10, false).wake_now();
    stream.on_send_shutdown_complete(false).wake_now();
    stream.on_shutdown_complete(Some(LOST)).wake_now();
    assert_eq!(acked(&mut stream, operation + 1), Poll::Ready(Err(lost())));
    assert_eq!(finished(&mut stream), Poll::Ready(Err(lost())));
}
