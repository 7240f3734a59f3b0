//! The backlog in which a server's connections wait until its application accepts them.
//!
//! # What becomes of a connection
//!
//! ```text
//! reserve --place--> push --> waiting --poll_accept-----------------> accepted
//!    |                 |          |
//!    | full, closed    | closed   +--poll_accept, sweep, reserve: it is over--> expired
//!    v                 v          |
//! refused           refused       +--refuse_waiting-------------------------> refused by the server's end
//! ```
//!
//! When the backlog is full, an origin that has two places less than another takes the place of that
//! one's oldest connection, which is refused. So an origin that sends many cannot keep others out,
//! and many that come from one origin do not drive each other away.
//!
//! A connection that waits may end meanwhile: its client gives up, or its time is over. It keeps
//! its place until the backlog comes to it, is full, or is swept. No transition drops a connection:
//! each hands it out, because a drop shuts the connection down, which nobody does under the lock.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    hash::Hash,
    task::{Context, Poll, Waker},
};

use crate::wait::{Retire, WaiterKey, Waiters, Wakeups};

/// Something that waits to be accepted.
pub trait Waits {
    /// What places are shared fairly between.
    type Origin: Eq + Hash;

    /// Whether it has ended meanwhile, so that accepting it makes no sense. Asked under the lock.
    fn is_over(&self) -> bool;

    /// Where it comes from.
    fn origin(&self) -> Self::Origin;
}

/// Connections that wait, behind a lock of the queue's.
#[derive(Debug)]
pub struct Backlog<W> {
    /// How many may wait.
    limit: usize,
    /// Whether no more will come. Written by: `close`.
    closed: bool,
    /// Those that wait, the oldest first.
    waiting: VecDeque<W>,
    /// The places of those that will be pushed. Written by: `reserve`, `push`.
    reserved: usize,
    /// How many found no room, or had to make it. Written by: `reserve`, `push`.
    refused: u64,
    /// How many ended while they waited. Written by: whatever comes upon them.
    expired: u64,
    /// Tasks in `accept`.
    waiters: Waiters,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

/// How those that waited have fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// How many wait now, those included that are over.
    pub waiting: usize,
    /// How many found no room, or had to make it.
    pub refused: u64,
    /// How many ended while they waited.
    pub expired: u64,
}

impl<W: Waits> Backlog<W> {
    /// An empty one in which up to `limit` may wait.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            closed: false,
            waiting: VecDeque::new(),
            reserved: 0,
            refused: 0,
            expired: 0,
            waiters: Waiters::default(),
            retired: Vec::new(),
        }
    }

    /// Whether no more are taken.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How those that waited have fared.
    pub fn counts(&self) -> Counts {
        Counts { waiting: self.waiting.len(), refused: self.refused, expired: self.expired }
    }

    /// Keeps a place for a connection from `origin`, which [`push`](Self::push) fills. If there is none,
    /// that is counted, and the error is how many that makes. Comes with those that were found to be
    /// over, or whose place it takes.
    pub fn reserve(&mut self, origin: &W::Origin) -> (Result<(), u64>, Vec<W>) {
        let mut over = if self.is_full() { self.sweep() } else { Vec::new() };
        if !self.closed && self.is_full() {
            let displaced = self.place_for(origin).and_then(|place| self.waiting.remove(place));
            self.refused += u64::from(displaced.is_some());
            over.extend(displaced);
        }
        if self.closed || self.is_full() {
            self.refused += 1;
            return (Err(self.refused), over);
        }
        self.reserved += 1;
        (Ok(()), over)
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + self.reserved >= self.limit
    }

    /// The place of the oldest of the origin that has most, if that has two more than `origin`.
    fn place_for(&self, origin: &W::Origin) -> Option<usize> {
        let mut origins = HashMap::new();
        for (place, waiting) in self.waiting.iter().enumerate() {
            origins.entry(waiting.origin()).or_insert((0, place)).0 += 1;
        }
        let own = origins.get(origin).map_or(0, |(count, _)| *count);
        let (most, oldest) = origins.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest)))?;
        (most >= own + 2).then_some(oldest)
    }

    /// Lets `new` wait in the place that was reserved for it. Gives it back, as refused, if no more
    /// are taken.
    pub fn push(&mut self, new: W) -> Result<Wakeups, W> {
        self.reserved -= 1;
        if self.closed {
            self.refused += 1;
            return Err(new);
        }
        let mut wakeups = Wakeups::none();
        self.waiting.push_back(new);
        self.waiters.take_into(&mut wakeups);
        Ok(wakeups)
    }

    /// Takes those out that are over.
    #[must_use = "drop them after the lock"]
    pub fn sweep(&mut self) -> Vec<W> {
        let (over, waiting): (Vec<_>, _) = std::mem::take(&mut self.waiting).into_iter().partition(W::is_over);
        self.waiting = waiting.into();
        self.expired += over.len() as u64;
        over
    }

    /// Takes no more. Those that wait may still be accepted.
    pub fn close(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.closed = true;
        self.waiters.take_into(&mut wakeups);
        wakeups
    }

    /// Takes all out that wait: nobody will accept them.
    #[must_use = "drop them after the lock"]
    pub fn refuse_waiting(&mut self) -> VecDeque<W> {
        std::mem::take(&mut self.waiting)
    }

    /// Ready with the oldest that is not over, or with `None` once no more will come. Comes with
    /// those that were over, which are passed by.
    pub fn poll_accept(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> (Poll<Option<W>>, Vec<W>) {
        let mut over = Vec::new();
        let answer = loop {
            match self.waiting.pop_front() {
                Some(new) if new.is_over() => {
                    self.expired += 1;
                    over.push(new);
                }
                Some(new) => break Poll::Ready(Some(new)),
                None if self.closed => break Poll::Ready(None),
                None => {
                    self.waiters.register(key, cx.waker(), &mut self.retired);
                    break Poll::Pending;
                }
            }
        };
        (answer, over)
    }

    /// Forgets a future of [`Self::poll_accept`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget(&mut self, key: WaiterKey) -> Option<Waker> {
        self.waiters.remove(key)
    }
}

impl<W> Retire for Backlog<W> {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::testing::Task;

    /// A connection with a number, of which the tens are its origin, and whose end somebody else
    /// brings about.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct New(u8, Rc<Cell<bool>>);

    impl New {
        fn end(&self) {
            self.1.set(true);
        }
    }

    impl Waits for New {
        type Origin = u8;

        fn is_over(&self) -> bool {
            self.1.get()
        }

        fn origin(&self) -> u8 {
            self.0 / 10
        }
    }

    fn new(number: u8) -> New {
        New(number, Rc::default())
    }

    /// A backlog of `limit` places in which these wait.
    fn backlog<const N: usize>(limit: usize, waiting: [&New; N]) -> Backlog<New> {
        let mut backlog = Backlog::new(limit);
        for new in waiting {
            come(&mut backlog, new);
        }
        backlog
    }

    /// What the arrival of `new` does while there is room.
    fn come(backlog: &mut Backlog<New>, new: &New) {
        assert_eq!(backlog.reserve(&new.origin()), (Ok(()), Vec::new()));
        push(backlog, new);
    }

    fn push(backlog: &mut Backlog<New>, new: &New) {
        backlog.push(new.clone()).expect("the backlog is open").wake_now();
    }

    fn accept(backlog: &mut Backlog<New>, task: &Task) -> (Poll<Option<New>>, Vec<New>) {
        task.run(|cx| backlog.poll_accept(WaiterKey::new(), cx))
    }

    fn counts(waiting: usize, refused: u64, expired: u64) -> Counts {
        Counts { waiting, refused, expired }
    }

    #[test]
    fn connections_are_accepted_in_the_order_in_which_they_came() {
        let (first, second) = (new(1), new(2));
        let (mut backlog, task) = (backlog(2, [&first, &second]), Task::new());
        assert_eq!(accept(&mut backlog, &task), (Poll::Ready(Some(first)), Vec::new()));
        assert_eq!(accept(&mut backlog, &task), (Poll::Ready(Some(second)), Vec::new()));
        assert_eq!(accept(&mut backlog, &task), (Poll::Pending, Vec::new()));
        assert_eq!(backlog.counts(), counts(0, 0, 0));
    }

    #[test]
    fn a_full_backlog_refuses_and_counts() {
        let (first, second) = (new(1), new(2));
        let mut backlog = backlog(2, [&first, &second]);
        assert_eq!(backlog.reserve(&0), (Err(1), Vec::new()));
        assert_eq!(backlog.reserve(&0), (Err(2), Vec::new()));
        assert_eq!(backlog.counts(), counts(2, 2, 0));
        assert_eq!(accept(&mut backlog, &Task::new()).0, Poll::Ready(Some(first)));
        assert_eq!(backlog.reserve(&0), (Ok(()), Vec::new()));
    }

    #[test]
    fn two_that_come_at_once_do_not_both_get_the_last_place() {
        let first = new(1);
        let mut backlog = backlog(2, [&first]);
        assert_eq!(backlog.reserve(&0), (Ok(()), Vec::new()));
        assert_eq!(backlog.reserve(&0), (Err(1), Vec::new()), "the other is on its way");
        push(&mut backlog, &new(2));
        assert_eq!(backlog.counts(), counts(2, 1, 0));
    }

    #[test]
    fn a_backlog_without_a_place_refuses_everybody() {
        assert_eq!(backlog(0, []).reserve(&0), (Err(1), Vec::new()));
    }

    #[test]
    fn those_that_are_over_give_their_places_to_others_when_it_is_full() {
        let (first, second) = (new(1), new(2));
        let mut backlog = backlog(2, [&first, &second]);
        second.end();
        assert_eq!(backlog.reserve(&0), (Ok(()), vec![second]));
        assert_eq!(backlog.counts(), counts(1, 0, 1));
    }

    #[test]
    fn an_origin_with_two_places_less_than_another_takes_the_oldest_ones_place() {
        let (other, first, second, third) = (new(11), new(1), new(2), new(21));
        let mut backlog = backlog(3, [&other, &first, &second]);
        // One that has most itself, and one that would have as many then.
        assert_eq!(backlog.reserve(&0), (Err(1), Vec::new()));
        assert_eq!(backlog.reserve(&1), (Err(2), Vec::new()));
        assert_eq!(backlog.reserve(&2), (Ok(()), vec![first]));
        push(&mut backlog, &third);
        assert_eq!(backlog.counts(), counts(3, 3, 0));
        // Each origin has one place now.
        assert_eq!(backlog.reserve(&3), (Err(4), Vec::new()));
        let task = Task::new();
        for waiting in [other, second, third] {
            assert_eq!(accept(&mut backlog, &task).0, Poll::Ready(Some(waiting)));
        }
    }

    #[test]
    fn those_that_are_over_keep_their_places_while_there_is_room() {
        let first = new(1);
        let mut backlog = backlog(2, [&first]);
        first.end();
        assert_eq!(backlog.reserve(&0), (Ok(()), Vec::new()));
        assert_eq!(backlog.counts(), counts(1, 0, 0));
    }

    #[test]
    fn those_that_are_over_are_passed_by_and_counted() {
        let all = [new(1), new(2), new(3), new(4)];
        let (mut backlog, task) = (backlog(4, [&all[0], &all[1], &all[2], &all[3]]), Task::new());
        for index in [0, 1, 3] {
            all[index].end();
        }
        assert_eq!(accept(&mut backlog, &task), (Poll::Ready(Some(all[2].clone())), all[..2].to_vec()));
        assert_eq!(accept(&mut backlog, &task), (Poll::Pending, all[3..].to_vec()), "the wait goes on");
        assert_eq!(backlog.counts(), counts(0, 0, 3));
        assert_eq!(task.stored(), 1);
    }

    #[test]
    fn a_sweep_takes_those_that_are_over_and_leaves_the_others_in_order() {
        let all = [new(1), new(2), new(3)];
        let mut backlog = backlog(3, [&all[0], &all[1], &all[2]]);
        all[1].end();
        assert_eq!(backlog.sweep(), [all[1].clone()]);
        assert_eq!(backlog.sweep(), []);
        assert_eq!(backlog.counts(), counts(2, 0, 1));
        let task = Task::new();
        for index in [0, 2] {
            assert_eq!(accept(&mut backlog, &task).0, Poll::Ready(Some(all[index].clone())));
        }
    }

    #[test]
    fn whoever_waits_is_woken_by_a_connection_and_once() {
        let (mut backlog, tasks) = (backlog(2, []), [Task::new(), Task::new()]);
        for task in &tasks {
            assert!(accept(&mut backlog, task).0.is_pending());
        }
        come(&mut backlog, &new(1));
        come(&mut backlog, &new(2));
        assert!(tasks.iter().all(|task| (task.wakes(), task.stored()) == (1, 0)));
    }

    #[test]
    fn a_closed_backlog_gives_out_what_waits_and_then_nothing() {
        let first = new(1);
        let (mut backlog, task) = (backlog(1, [&first]), Task::new());
        backlog.close().wake_now();
        assert!(backlog.is_closed());
        assert_eq!(accept(&mut backlog, &task).0, Poll::Ready(Some(first)));
        assert_eq!(accept(&mut backlog, &task).0, Poll::Ready(None));
        assert_eq!(task.stored(), 0);
    }

    #[test]
    fn closing_wakes_those_that_wait_and_refuses_those_that_come() {
        let (mut backlog, task) = (backlog(2, []), Task::new());
        assert!(accept(&mut backlog, &task).0.is_pending());
        assert_eq!(backlog.reserve(&0), (Ok(()), Vec::new()));
        backlog.close().wake_now();
        backlog.close().wake_now();
        assert_eq!(task.wakes(), 1);
        assert_eq!(backlog.reserve(&0), (Err(1), Vec::new()));
        assert_eq!(backlog.push(new(1)).unwrap_err().0, 1, "it closed while this one was on its way");
        assert_eq!(backlog.counts(), counts(0, 2, 0));
    }

    #[test]
    fn those_that_wait_at_the_end_are_all_given_back() {
        let all = [new(1), new(2)];
        let mut backlog = backlog(2, [&all[0], &all[1]]);
        assert_eq!(backlog.refuse_waiting(), all);
        assert_eq!(backlog.counts(), counts(0, 0, 0), "neither room nor time was wanting");
    }

    #[test]
    fn a_wait_that_is_dropped_is_forgotten_and_a_waker_that_is_replaced_retires() {
        let (mut backlog, first, second) = (backlog(1, []), Task::new(), Task::new());
        let key = WaiterKey::new();
        for task in [&first, &second] {
            assert!(task.run(|cx| backlog.poll_accept(key, cx)).0.is_pending());
        }
        assert!(backlog.has_retired());
        drop(backlog.take_retired());
        assert_eq!((first.stored(), second.stored()), (0, 1));
        drop(backlog.forget(key));
        assert_eq!(second.stored(), 0);
    }
}
