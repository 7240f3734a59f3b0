//! The state machine's transitions, one sentence each.

use super::*;
use crate::testing::Task;

/// What ends connections here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    Closed,
    TimedOut,
}

const CAUSE: Cause = Cause::Closed;

type Datagrams = super::Datagrams<Cause>;

/// Datagrams of a connection whose peer takes 1000 bytes.
fn datagrams() -> Datagrams {
    let mut datagrams = Datagrams::default();
    datagrams.on_state_changed(Some(1000));
    datagrams
}

fn change(datagrams: &mut Datagrams, id: DatagramId, change: SendChange) {
    datagrams.on_send_change(id, change).wake_now();
}

fn read(datagrams: &mut Datagrams, task: &Task) -> Poll<Result<Bytes, Cause>> {
    task.run(|cx| datagrams.poll_read(WaiterKey::new(), cx))
}

#[test]
fn nothing_can_be_sent_before_the_peer_says_that_it_takes_datagrams() {
    let mut datagrams = Datagrams::default();
    assert_eq!(datagrams.max_size(), None);
    assert_eq!(datagrams.begin_send(0), Err(Refused::UnsupportedByPeer));
    datagrams.on_state_changed(Some(10));
    assert_eq!(datagrams.max_size(), Some(10));
    assert!(datagrams.begin_send(10).is_ok());
    datagrams.on_state_changed(None);
    assert_eq!(datagrams.begin_send(0), Err(Refused::UnsupportedByPeer));
}

#[test]
fn what_is_too_large_is_refused_and_not_tracked() {
    let mut datagrams = datagrams();
    for size in [1001, u64::from(u16::MAX) + 1, u64::MAX] {
        assert_eq!(datagrams.begin_send(size), Err(Refused::TooLarge { max: 1000 }));
    }
    assert!(datagrams.tracked.is_empty());
}

#[test]
fn a_sender_waits_until_what_waits_is_within_the_limit() {
    const LIMIT: u64 = 2 * (100 + OVERHEAD as u64);
    let mut datagrams = datagrams();
    let (first, second, third) = (Task::new(), Task::new(), Task::new());
    let (key, other) = (WaiterKey::new(), WaiterKey::new());
    let sent = first.run(|cx| datagrams.poll_begin_send(100, LIMIT, key, cx));
    assert!(matches!(sent, Poll::Ready(Ok(_))));
    // Others are counted, and wait for nothing.
    assert!(datagrams.begin_send(100).is_ok());
    assert_eq!(datagrams.queued(), LIMIT);
    assert!(second.run(|cx| datagrams.poll_begin_send(1, LIMIT, key, cx)).is_pending());
    assert!(third.run(|cx| datagrams.poll_begin_send(1, LIMIT, other, cx)).is_pending());
    // What can never be sent does not wait.
    let large = first.run(|cx| datagrams.poll_begin_send(1001, LIMIT, WaiterKey::new(), cx));
    assert_eq!(large, Poll::Ready(Err(Refused::TooLarge { max: 1000 })));
    drop(datagrams.forget_sender(other));
    datagrams.on_left_queue(100).wake_now();
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    assert!(matches!(second.run(|cx| datagrams.poll_begin_send(1, LIMIT, key, cx)), Poll::Ready(Ok(_))));
}

#[test]
fn one_datagram_is_always_taken_and_the_end_ends_the_wait() {
    let mut datagrams = datagrams();
    let task = Task::new();
    let key = WaiterKey::new();
    let Poll::Ready(Ok(id)) = task.run(|cx| datagrams.poll_begin_send(1000, 0, key, cx)) else { panic!("it waits") };
    assert!(task.run(|cx| datagrams.poll_begin_send(0, 0, key, cx)).is_pending());
    // MsQuic did not take the first, so there is room.
    let (wakeups, waker) = datagrams.on_refused(id, 1000);
    assert!(waker.is_none());
    wakeups.wake_now();
    assert_eq!((task.wakes(), datagrams.queued()), (1, 0));
    assert!(matches!(task.run(|cx| datagrams.poll_begin_send(0, 0, key, cx)), Poll::Ready(Ok(_))));
    assert!(task.run(|cx| datagrams.poll_begin_send(0, 0, key, cx)).is_pending());
    datagrams.on_closed(&CAUSE).wake_now();
    assert_eq!(task.wakes(), 2);
    assert_eq!(task.run(|cx| datagrams.poll_begin_send(0, 0, key, cx)), Poll::Ready(Err(Refused::Lost(CAUSE))));
}

#[test]
fn each_way_through_the_states_ends_in_its_fate() {
    use SendChange::*;
    let ways: [(&[SendChange], DatagramFate, bool); 6] = [
        (&[Sent, Acknowledged], DatagramFate::Acknowledged, false),
        (&[Sent, LostSuspect, AcknowledgedSpurious], DatagramFate::Acknowledged, true),
        (&[Sent, LostSuspect, LostDiscarded], DatagramFate::Lost, true),
        (&[Sent, LostDiscarded], DatagramFate::Lost, false),
        (&[Canceled], DatagramFate::Canceled, false),
        (&[Sent, AcknowledgedSpurious], DatagramFate::Acknowledged, true),
    ];
    for (changes, fate, suspected) in ways {
        let (mut datagrams, task) = (datagrams(), Task::new());
        let id = datagrams.begin_send(1).unwrap();
        for step in changes {
            assert!(task.run(|cx| datagrams.poll_fate(id, cx)).is_pending(), "{changes:?}");
            assert_eq!(task.wakes(), 0, "a step that is not final wakes nobody who waits for the last");
            change(&mut datagrams, id, *step);
        }
        assert!(changes.last().unwrap().is_final());
        assert_eq!(task.wakes(), 1);
        assert_eq!(task.run(|cx| datagrams.poll_fate(id, cx)), Poll::Ready(Ok(fate)));
        assert_eq!(datagrams.fate(id), (Some(fate), suspected));
    }
}

#[test]
fn progress_reports_every_step_once_and_the_last_again() {
    let (mut datagrams, task) = (datagrams(), Task::new());
    let id = datagrams.begin_send(1).unwrap();
    let mut reported = None;
    let steps = [
        (SendChange::Sent, DatagramFate::Sent),
        (SendChange::LostSuspect, DatagramFate::Suspected),
        (SendChange::AcknowledgedSpurious, DatagramFate::Acknowledged),
    ];
    for (number, (step, fate)) in steps.into_iter().enumerate() {
        assert!(task.run(|cx| datagrams.poll_progress(id, reported, cx)).is_pending());
        change(&mut datagrams, id, step);
        assert_eq!(task.wakes(), number + 1);
        assert_eq!(task.run(|cx| datagrams.poll_progress(id, reported, cx)), Poll::Ready(Ok(fate)));
        reported = Some(fate);
    }
    assert_eq!(task.run(|cx| datagrams.poll_progress(id, reported, cx)), Poll::Ready(Ok(DatagramFate::Acknowledged)));
}

#[test]
fn the_end_of_the_connection_ends_every_wait_with_its_cause_and_keeps_what_was_known() {
    let (mut datagrams, task, reader) = (datagrams(), Task::new(), Task::new());
    let ids: Vec<_> = (0..3).map(|_| datagrams.begin_send(1).unwrap()).collect();
    change(&mut datagrams, ids[1], SendChange::Sent);
    change(&mut datagrams, ids[2], SendChange::Sent);
    change(&mut datagrams, ids[2], SendChange::Acknowledged);
    assert!(task.run(|cx| datagrams.poll_fate(ids[0], cx)).is_pending());
    assert!(read(&mut datagrams, &reader).is_pending());

    datagrams.on_closed(&CAUSE).wake_now();
    datagrams.on_closed(&Cause::TimedOut).wake_now();
    assert_eq!((task.wakes(), reader.wakes()), (1, 1));
    // What MsQuic says while it clears away.
    change(&mut datagrams, ids[0], SendChange::Canceled);
    change(&mut datagrams, ids[1], SendChange::LostDiscarded);

    assert_eq!(task.run(|cx| datagrams.poll_fate(ids[0], cx)), Poll::Ready(Err(CAUSE)));
    assert_eq!(task.run(|cx| datagrams.poll_fate(ids[1], cx)), Poll::Ready(Err(CAUSE)));
    assert_eq!(task.run(|cx| datagrams.poll_fate(ids[2], cx)), Poll::Ready(Ok(DatagramFate::Acknowledged)));
    assert_eq!(datagrams.fate(ids[0]).0, None, "it never left");
    assert_eq!(datagrams.fate(ids[1]).0, Some(DatagramFate::Sent), "it was on its way");
    assert_eq!(read(&mut datagrams, &reader), Poll::Ready(Err(CAUSE)));
    assert_eq!(datagrams.begin_send(1), Err(Refused::Lost(CAUSE)));
    assert_eq!(datagrams.max_size(), None);
}

#[test]
fn a_hundred_thousand_waiting_tasks_are_told_of_the_end_without_delay() {
    let mut datagrams = datagrams();
    let waiting: Vec<_> = (0..100_000).map(|_| (datagrams.begin_send(1).unwrap(), Task::new())).collect();
    for (id, task) in &waiting {
        assert!(task.run(|cx| datagrams.poll_fate(*id, cx)).is_pending());
    }
    datagrams.on_closed(&CAUSE).wake_now();
    assert!(waiting.iter().all(|(_, task)| task.wakes() == 1));
}

#[test]
fn a_datagram_that_nobody_asks_about_is_not_tracked() {
    let (mut datagrams, task) = (datagrams(), Task::new());
    let id = datagrams.begin_send(1).unwrap();
    assert!(task.run(|cx| datagrams.poll_fate(id, cx)).is_pending());
    assert_eq!(task.stored(), 1);
    drop(datagrams.forget(id));
    assert_eq!(task.stored(), 0);
    change(&mut datagrams, id, SendChange::Sent);
    change(&mut datagrams, id, SendChange::Acknowledged);
    assert!(datagrams.tracked.is_empty());
    assert_ne!(datagrams.begin_send(1).unwrap(), id, "names are not used twice");
}

#[test]
fn a_task_that_takes_over_a_wait_takes_the_place_of_the_one_before() {
    let (mut datagrams, first, second) = (datagrams(), Task::new(), Task::new());
    let id = datagrams.begin_send(1).unwrap();
    for task in [&first, &second] {
        assert!(task.run(|cx| datagrams.poll_fate(id, cx)).is_pending());
    }
    drop(datagrams.take_retired());
    assert_eq!((first.stored(), second.stored()), (0, 1));
    change(&mut datagrams, id, SendChange::Canceled);
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
}

#[test]
fn received_datagrams_are_read_in_order_and_before_the_end() {
    let (mut datagrams, task) = (datagrams(), Task::new());
    assert!(read(&mut datagrams, &task).is_pending());
    datagrams.on_received(Bytes::from_static(b"a"), 1000).wake_now();
    assert_eq!(task.wakes(), 1);
    datagrams.on_received(Bytes::new(), 1000).wake_now();
    datagrams.on_closed(&CAUSE).wake_now();
    datagrams.on_received(Bytes::from_static(b"too late"), 1000).wake_now();
    assert_eq!(read(&mut datagrams, &task), Poll::Ready(Ok(Bytes::from_static(b"a"))));
    assert_eq!(read(&mut datagrams, &task), Poll::Ready(Ok(Bytes::new())));
    assert_eq!(read(&mut datagrams, &task), Poll::Ready(Err(CAUSE)));
    assert_eq!(datagrams.dropped(), 0);
}

#[test]
fn a_flood_of_empty_datagrams_takes_a_bounded_place() {
    let mut datagrams = datagrams();
    for _ in 0..100_000 {
        datagrams.on_received(Bytes::new(), 96 * 10 + 95).wake_now();
    }
    assert_eq!((datagrams.received.len(), datagrams.dropped()), (10, 99_990));
    assert!(datagrams.received.capacity() < 100);
}

#[test]
fn the_oldest_give_way_until_the_newest_fits() {
    let (mut datagrams, task) = (datagrams(), Task::new());
    let limit = 3 * (96 + 10) + 1;
    for number in 0..3 {
        datagrams.on_received(Bytes::from(vec![number; 10]), limit).wake_now();
    }
    assert_eq!(datagrams.dropped(), 0);
    datagrams.on_received(Bytes::from(vec![3; 11]), limit).wake_now();
    assert_eq!(datagrams.dropped(), 1);
    datagrams.on_received(Bytes::from(vec![4; 100]), limit).wake_now();
    assert_eq!(datagrams.dropped(), 3);
    let expected = [vec![3; 11], vec![4; 100]];
    for datagram in expected {
        assert_eq!(read(&mut datagrams, &task), Poll::Ready(Ok(Bytes::from(datagram))));
    }
    assert_eq!(datagrams.received_cost, 0);
}

#[test]
fn the_newest_is_kept_however_small_the_buffer() {
    let (mut datagrams, task) = (datagrams(), Task::new());
    for number in 0..3 {
        datagrams.on_received(Bytes::from(vec![number; 1000]), 0).wake_now();
    }
    assert_eq!(datagrams.dropped(), 2);
    assert_eq!(read(&mut datagrams, &task), Poll::Ready(Ok(Bytes::from(vec![2; 1000]))));
}

#[test]
fn what_waits_is_dropped_when_nobody_can_read_it_any_more() {
    let mut datagrams = datagrams();
    datagrams.on_received(Bytes::from(vec![1; 1000]), usize::MAX).wake_now();
    datagrams.on_closed(&CAUSE).wake_now();
    datagrams.abandon();
    assert_eq!((datagrams.received.capacity(), datagrams.received_cost), (0, 0));
}
