//! Ring 1: the receive half's transitions, without a network.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use proptest::prelude::*;

use super::*;
use crate::{
    stream::copies::Copies,
    testing::{Cause, Task},
};

mod keeping;

type StreamRecv = super::StreamRecv<Cause, Bytes>;
type StreamRecvState = super::StreamRecvState<Cause>;
type Taken = super::Taken<Bytes>;

const LOST: Cause = Cause::TimedOut;

fn lost() -> RecvFailure<Cause> {
    RecvFailure::ConnectionLost(LOST)
}

impl Piece for Bytes {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn split_to(&mut self, at: usize) -> Self {
        Self::split_to(self, at)
    }

    type Block = Infallible;

    fn block(&self) -> Option<Infallible> {
        None
    }
}

/// The block of memory that cannot be kept.
impl Block for Infallible {
    fn keep(&self) {
        match *self {}
    }
}

/// A half that has received `pieces`.
fn received(pieces: &[&'static [u8]], fin: Fin) -> StreamRecv {
    let mut recv = StreamRecv::open();
    receive(&mut recv, pieces, fin).wake_now();
    recv
}

fn receive(recv: &mut StreamRecv, pieces: &[&'static [u8]], fin: Fin) -> Wakeups {
    recv.on_receive(pieces.iter().copied().map(Bytes::from_static), fin)
}

/// Stops, and returns whether the peer must be told.
fn stop(recv: &mut StreamRecv, code: u64) -> bool {
    let (tell, wakeups) = recv.begin_stop(code);
    wakeups.wake_now();
    tell
}

fn bytes(taken: &Taken) -> &[u8] {
    match taken {
        Taken::Lent { lent: bytes, .. } | Taken::Copied(bytes) => bytes,
    }
}

/// What is read next, without waiting.
fn read(recv: &mut StreamRecv, limit: usize) -> Poll<Result<Option<Vec<u8>>, RecvEnd<Cause>>> {
    let taken = recv.poll_take(limit, &mut Context::from_waker(Waker::noop()));
    taken.map_ok(|taken| taken.map(|taken| bytes(&taken).to_vec()))
}

fn reset_answer(recv: &mut StreamRecv) -> Poll<Result<Option<u64>, RecvFailure<Cause>>> {
    let key = WaiterKey::new();
    recv.poll_received_reset(key, &mut Context::from_waker(Waker::noop()))
}

/// Takes `recv` from open to each end that it can have, by the events that lead there.
fn every_end() -> [(StreamRecv, StreamRecvState); 6] {
    let ended = |end: fn(&mut StreamRecv) -> Wakeups| {
        let mut recv = StreamRecv::open();
        end(&mut recv).wake_now();
        recv
    };
    let mut stopped = StreamRecv::open();
    assert!(stop(&mut stopped, 7));
    [
        (ended(StreamRecv::on_fin), StreamRecvState::Finished),
        (StreamRecv::absent(), StreamRecvState::Absent),
        (ended(|recv| recv.on_peer_send_aborted(6)), StreamRecvState::Reset(6)),
        (stopped, StreamRecvState::Stopped(7)),
        (ended(|recv| recv.on_lost(Some(LOST))), StreamRecvState::Failed(lost())),
        (ended(|recv| recv.on_lost(None)), StreamRecvState::Failed(RecvFailure::Ended)),
    ]
}

#[test]
fn each_end_is_the_last() {
    for (mut recv, end) in every_end() {
        assert_eq!(recv.state, end);
        receive(&mut recv, &[b"late"], Fin::Yes).wake_now();
        recv.on_fin().wake_now();
        recv.on_peer_send_aborted(99).wake_now();
        recv.on_lost(Some(Cause::Refused)).wake_now();
        assert!(!stop(&mut recv, 99), "{end:?}: there is nobody to tell");
        assert_eq!(recv.state, end);
        assert!(recv.unread.is_empty(), "{end:?} takes nothing more");
        assert!(!recv.is_open());
    }
}

#[test]
fn each_end_has_its_answer() {
    for (mut recv, end) in every_end() {
        let (expected_read, expected_reset) = match end {
            StreamRecvState::Finished | StreamRecvState::Absent => (Ok(None), Ok(None)),
            StreamRecvState::Reset(code) => (Err(RecvEnd::Reset(code)), Ok(Some(code))),
            StreamRecvState::Stopped(code) => (Err(RecvEnd::Stopped(code)), Ok(None)),
            StreamRecvState::Failed(failure) => (Err(RecvEnd::Failed(failure.clone())), Err(failure)),
            StreamRecvState::Open => unreachable!("open is no end"),
        };
        for _ in 0..2 {
            assert_eq!(read(&mut recv, 10), Poll::Ready(expected_read.clone()));
            assert_eq!(reset_answer(&mut recv), Poll::Ready(expected_reset.clone()));
        }
    }
}

#[test]
fn each_end_wakes_the_reader_and_everybody_who_waits_for_a_reset() {
    let ends: [fn(&mut StreamRecv) -> Wakeups; 5] = [
        |recv| recv.on_fin(),
        |recv| receive(recv, &[b"the rest"], Fin::Yes),
        |recv| recv.on_peer_send_aborted(6),
        |recv| recv.on_lost(Some(LOST)),
        |recv| recv.on_lost(None),
    ];
    for end in ends {
        let (reader, waiters) = (Task::new(), [Task::new(), Task::new()]);
        let mut recv = StreamRecv::open();
        assert!(reader.run(|cx| recv.poll_take(1, cx)).is_pending());
        for waiter in &waiters {
            let key = WaiterKey::new();
            assert!(waiter.run(|cx| recv.poll_received_reset(key, cx)).is_pending());
        }
        end(&mut recv).wake_now();
        assert_eq!([&reader, &waiters[0], &waiters[1]].map(Task::wakes), [1, 1, 1]);
        assert_eq!([&reader, &waiters[0], &waiters[1]].map(Task::stored), [0, 0, 0]);
    }
}

#[test]
fn stopping_wakes_everybody_who_waits_for_a_reset() {
    let (first, second) = (Task::new(), Task::new());
    let mut recv = StreamRecv::open();
    for task in [&first, &second] {
        let key = WaiterKey::new();
        assert!(task.run(|cx| recv.poll_received_reset(key, cx)).is_pending());
    }
    assert!(stop(&mut recv, 7));
    assert_eq!(reset_answer(&mut recv), Poll::Ready(Ok(None)), "their answer is there");
    assert_eq!((first.wakes(), second.wakes()), (1, 1));
}

#[test]
fn data_wakes_the_reader_and_nobody_else() {
    let (reader, waiter) = (Task::new(), Task::new());
    let mut recv = StreamRecv::open();
    let key = WaiterKey::new();
    assert!(waiter.run(|cx| recv.poll_received_reset(key, cx)).is_pending());
    assert!(reader.run(|cx| recv.poll_take(1, cx)).is_pending());
    receive(&mut recv, &[b"x"], Fin::No).wake_now();
    assert_eq!((reader.wakes(), waiter.wakes()), (1, 0));
    assert!(reader.run(|cx| recv.poll_take(1, cx)).is_ready());
}

#[test]
fn pieces_are_handed_out_in_order_and_cut_at_the_limit() {
    let mut recv = received(&[b"abcde", b"", b"fg"], Fin::No);
    assert_eq!(recv.unread.len(), 2, "an empty piece is left out");
    for expected in [&b"ab"[..], b"cd", b"e", b"fg"] {
        assert_eq!(read(&mut recv, 2), Poll::Ready(Ok(Some(expected.to_vec()))));
    }
    assert_eq!(read(&mut recv, 2), Poll::Pending);
    assert!(recv.take(2).is_none());
}

#[test]
fn pieces_dropped_out_of_order_are_given_back_in_order() {
    let mut recv = received(&[b"a", b"bb", b"ccc", b"dddd"], Fin::No);
    let numbers: Vec<_> = (0..4).map(|_| recv.take(10).expect("four pieces").number()).collect();
    assert_eq!(recv.give_back(numbers[2]), Some(0), "a and b are still out");
    assert_eq!(recv.give_back(numbers[1]), Some(0));
    assert_eq!(recv.give_back(numbers[0]), Some(1 + 2 + 3));
    assert_eq!(recv.give_back(numbers[3]), Some(4));
}

#[test]
fn a_piece_that_is_out_comes_back_however_the_stream_ended() {
    let ends: [fn(&mut StreamRecv); 4] = [
        |recv| recv.on_fin().wake_now(),
        |recv| recv.on_peer_send_aborted(6).wake_now(),
        |recv| assert!(stop(recv, 7)),
        |recv| recv.on_lost(Some(LOST)).wake_now(),
    ];
    for end in ends {
        let mut recv = received(&[b"ab", b"c"], Fin::No);
        let out = recv.take(10).expect("a piece");
        end(&mut recv);
        assert_eq!(bytes(&out), b"ab");
        assert_eq!(recv.give_back(out.number()), Some(2));
    }
}

#[test]
fn fin_ends_the_stream_after_what_was_not_read() {
    let mut recv = received(&[b"ab"], Fin::Yes);
    assert_eq!(read(&mut recv, 1), Poll::Ready(Ok(Some(b"a".to_vec()))));
    assert_eq!(reset_answer(&mut recv), Poll::Ready(Ok(None)));
    assert_eq!(read(&mut recv, 1), Poll::Ready(Ok(Some(b"b".to_vec()))));
    assert_eq!(read(&mut recv, 1), Poll::Ready(Ok(None)));
}

#[test]
fn a_reset_discards_what_was_not_read() {
    let mut recv = received(&[b"ab"], Fin::No);
    recv.on_peer_send_aborted(6).wake_now();
    assert_eq!(read(&mut recv, 1), Poll::Ready(Err(RecvEnd::Reset(6))));
    assert!(recv.take(1).is_none());
}

#[test]
fn a_reset_after_fin_takes_nothing_away() {
    let mut recv = received(&[b"ab"], Fin::Yes);
    recv.on_peer_send_aborted(6).wake_now();
    assert_eq!(read(&mut recv, 9), Poll::Ready(Ok(Some(b"ab".to_vec()))));
    assert_eq!(read(&mut recv, 9), Poll::Ready(Ok(None)));
}

#[test]
fn what_arrived_before_the_connection_was_lost_is_still_read() {
    let mut recv = received(&[b"ab"], Fin::No);
    recv.on_lost(Some(LOST)).wake_now();
    assert_eq!(read(&mut recv, 9), Poll::Ready(Ok(Some(b"ab".to_vec()))));
    assert_eq!(read(&mut recv, 9), Poll::Ready(Err(RecvEnd::Failed(lost()))));
}

#[test]
fn a_stop_is_told_when_something_is_left_to_give_up() {
    let mut open = received(&[b"ab"], Fin::No);
    assert!(stop(&mut open, 7));
    assert!(!stop(&mut open, 8), "it was told already");
    assert_eq!(read(&mut open, 9), Poll::Ready(Err(RecvEnd::Stopped(7))));
    assert!(open.take(9).is_none());

    let mut unread = received(&[b"ab"], Fin::Yes);
    assert!(stop(&mut unread, 7), "MsQuic waits for what was not read");

    let mut read_to_the_end = received(&[b"ab"], Fin::Yes);
    assert!(read_to_the_end.take(9).is_some());
    assert!(!stop(&mut read_to_the_end, 7));
    assert_eq!(read(&mut read_to_the_end, 9), Poll::Ready(Ok(None)), "the end stays the end");
}

#[test]
fn what_was_copied_is_read_or_given_up_without_a_word_to_msquic() {
    let copies = Copies::default();
    let copy = |recv: &mut StreamRecv, bytes, fin| {
        let place = copies.place().expect("there is room");
        recv.on_receive_copy(Bytes::from_static(bytes), place, fin).wake_now();
    };
    let whole = || {
        let mut recv = StreamRecv::open();
        copy(&mut recv, b"abc", Fin::Yes);
        recv
    };
    let mut read_in_parts = whole();
    assert!(!read_in_parts.has_lent());
    assert_eq!(read(&mut read_in_parts, 2), Poll::Ready(Ok(Some(b"ab".to_vec()))));
    assert_eq!(read(&mut read_in_parts, 2), Poll::Ready(Ok(Some(b"c".to_vec()))));
    assert_eq!(read(&mut read_in_parts, 2), Poll::Ready(Ok(None)));

    let mut stopped = whole();
    assert!(!stop(&mut stopped, 7), "the peer has finished, and nothing was lent");
    assert_eq!(read(&mut stopped, 9), Poll::Ready(Err(RecvEnd::Stopped(7))));

    let mut goes_on = StreamRecv::open();
    copy(&mut goes_on, b"ab", Fin::No);
    assert!(!goes_on.is_caught_up(), "what comes next is lent, and read after it");
    receive(&mut goes_on, &[b"cd"], Fin::No).wake_now();
    assert_eq!(read(&mut goes_on, 9), Poll::Ready(Ok(Some(b"ab".to_vec()))));
    assert_eq!(read(&mut goes_on, 9), Poll::Ready(Ok(Some(b"cd".to_vec()))));
    assert!(!goes_on.is_caught_up(), "the second piece is out");
    assert_eq!(goes_on.give_back(0), Some(2), "which does not count the copy");
    assert!(goes_on.is_caught_up());
    assert!(stop(&mut goes_on, 7), "the peer may go on sending");
    assert!(!goes_on.is_caught_up());
}

#[test]
fn a_copy_takes_a_place_until_it_is_read_or_given_up() {
    type End = fn(&mut StreamRecv);
    let ends: [(&str, End); 4] = [
        ("read", |recv| assert_eq!(recv.take(9).map(|taken| matches!(taken, Taken::Copied(_))), Some(true))),
        ("stopped", |recv| assert!(stop(recv, 7))),
        ("reset by the peer", |recv| recv.on_peer_send_aborted(7).wake_now()),
        ("dropped", |recv| *recv = StreamRecv::absent()),
    ];
    for (name, end) in ends {
        let copies = Copies::default();
        let mut recv = StreamRecv::open();
        recv.on_receive_copy(Bytes::from_static(b"abc"), copies.place().expect("there is room"), Fin::No).wake_now();
        assert!(recv.take(2).is_some());
        assert_eq!(copies.taken(), 1, "{name}: one byte is left");
        end(&mut recv);
        assert_eq!(copies.taken(), 0, "{name}");
    }
}

#[test]
fn a_stop_is_remembered_for_when_the_stream_starts() {
    for (recv, end) in every_end() {
        let expected = if let StreamRecvState::Stopped(code) = end { Some(code) } else { None };
        assert_eq!(recv.stopped_with(), expected);
    }
    assert_eq!(StreamRecv::open().stopped_with(), None);
}

#[test]
fn a_thousand_polls_store_one_waker() {
    let (reader, waiter) = (Task::new(), Task::new());
    let mut recv = StreamRecv::open();
    let key = WaiterKey::new();
    for _ in 0..1000 {
        assert!(reader.run(|cx| recv.poll_take(1, cx)).is_pending());
        assert!(waiter.run(|cx| recv.poll_received_reset(key, cx)).is_pending());
    }
    assert_eq!((recv.read_waiter.len(), recv.reset_waiters.len()), (1, 1));
    assert_eq!((reader.stored(), waiter.stored()), (1, 1));
}

#[test]
fn a_task_that_polls_last_is_the_one_that_is_woken() {
    let (first, last) = (Task::new(), Task::new());
    let mut recv = StreamRecv::open();
    assert!(first.run(|cx| recv.poll_take(1, cx)).is_pending());
    assert!(last.run(|cx| recv.poll_take(1, cx)).is_pending());
    receive(&mut recv, &[b"x"], Fin::No).wake_now();
    assert_eq!((first.wakes(), last.wakes()), (0, 1));
    assert_eq!(recv.take_retired().len(), 1, "what was replaced is dropped by whoever holds the lock");
    assert_eq!(first.stored(), 0);
}

#[test]
fn a_forgotten_waiter_is_not_woken() {
    let (forgotten, waiting) = (Task::new(), Task::new());
    let mut recv = StreamRecv::open();
    let (key, other) = (WaiterKey::new(), WaiterKey::new());
    assert!(forgotten.run(|cx| recv.poll_received_reset(key, cx)).is_pending());
    assert!(waiting.run(|cx| recv.poll_received_reset(other, cx)).is_pending());
    assert!(recv.forget_reset(key).is_some());
    assert!(recv.forget_reset(key).is_none());
    recv.on_fin().wake_now();
    assert_eq!((forgotten.wakes(), waiting.wakes()), (0, 1));
}

/// What a random reader may do.
#[derive(Debug, Clone)]
enum Step {
    Receive(Vec<usize>),
    Take(usize),
    GiveBack(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(0..5usize, 0..4).prop_map(Step::Receive),
        (1..6usize).prop_map(Step::Take),
        any::<prop::sample::Index>().prop_map(Step::GiveBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Whatever the order of arrivals, reads and drops: the bytes come out as they came in, and
    /// MsQuic has back exactly those before the first one that is still out.
    #[test]
    fn every_byte_comes_out_once_and_goes_back_in_order(steps in prop::collection::vec(step(), 0..60)) {
        let source: Bytes = (0..=u8::MAX).cycle().take(1000).collect();
        let mut recv = StreamRecv::open();
        let (mut arrived, mut read, mut returned) = (0, 0, 0);
        // The pieces that are out: their place in the stream and their number.
        let mut out: Vec<(usize, Taken)> = Vec::new();
        for step in steps {
            match step {
                Step::Receive(lengths) => {
                    let pieces: Vec<_> = lengths
                        .into_iter()
                        .map(|length| {
                            let piece = source.slice(arrived..arrived + length);
                            arrived += length;
                            piece
                        })
                        .collect();
                    recv.on_receive(pieces.into_iter(), Fin::No).wake_now();
                }
                Step::Take(limit) => match recv.poll_take(limit, &mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(Some(taken))) => {
                        let length = taken.lent().len();
                        prop_assert!(length > 0 && length <= limit);
                        prop_assert_eq!(&taken.lent()[..], &source[read..read + length]);
                        out.push((read, taken));
                        read += length;
                    }
                    other => {
                        prop_assert!(other.is_pending());
                        prop_assert_eq!(read, arrived);
                    }
                },
                Step::GiveBack(index) => {
                    if out.is_empty() {
                        continue;
                    }
                    let (_, taken) = out.swap_remove(index.index(out.len()));
                    returned += recv.give_back(taken.number()).expect("nothing is given back early") as usize;
                    let first_out = out.iter().map(|(place, _)| *place).min();
                    prop_assert_eq!(returned, first_out.unwrap_or(read));
                }
            }
        }
    }
}
