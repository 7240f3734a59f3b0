//! What each receiver has of each entry, and what is to be read next for all of them.
//!
//! A file is read when every receiver that is connected has said whether it wants it, so that one
//! reading serves all. Each is told of entries in the same order, and of the first that is open at any
//! rate. Nobody waits for another for longer than the user's patience (`--timeout`): a file is read once
//! more for a receiver that did not say in time whether it wants it, and one that takes no more of what is
//! read is let go, once it has had the time to hash what it asked digests of and something is to be read for
//! another.

use std::{
    cell::RefCell,
    collections::HashMap,
    mem,
    rc::Rc,
    sync::{Arc, mpsc as std_mpsc},
    time::Instant,
};

use futures::channel::{mpsc, oneshot};

use crate::{
    progress::{Bar, Progress},
    protocol::{
        MAX_OPEN, ProtocolError,
        message::{Entry, Kind, Lost, Message as _, Texts, ToReceiver, ToSender},
    },
    reader::{Job, Piece, Target, Wanted},
    walk::{Listing, More},
};

mod distribute;
mod late;
mod outcomes;

pub(crate) use distribute::distribute;

/// What all receivers of a `send` share.
pub(crate) struct Hub {
    listing: Arc<Listing>,
    /// The digest of each file that was read, and its size.
    digests: HashMap<Entry, (blake3::Hash, u64)>,
    peers: Vec<Peer>,
    /// Which receiver is to take a piece, and since when.
    waiting_for: Option<(Target, Instant)>,
    /// Of how many entries it was said why they did not arrive.
    said: usize,
    jobs: std_mpsc::Sender<Job>,
    /// The reader has ended, and does no job any more.
    has_no_reader: bool,
    wanted: Arc<Wanted>,
    progress: Progress,
}

struct Peer {
    /// How many connections there were before this one.
    turn: u32,
    /// Whether it has said something, over any connection.
    was_heard: bool,
    /// Where the pieces for it go, while it is connected.
    pieces: Option<mpsc::Sender<Piece>>,
    /// Rings when there may be more to tell, or all is told.
    bell: mpsc::Sender<()>,
    /// Tells it to go.
    let_go: Option<oneshot::Sender<()>>,
    states: Vec<State>,
    /// From where on it wants the files that are not being sent to it yet, and since when.
    wants: HashMap<Entry, (u64, Instant)>,
    /// Of how much it asked for the digest, of the files that it may ask for still.
    asked: HashMap<Entry, Vec<u64>>,
    /// How many jobs of the reader's are for it, and not over.
    under_way: usize,
    /// What it was told of files that changed, and were read again for others.
    digests: HashMap<Entry, (blake3::Hash, u64)>,
    /// Why entries did not arrive.
    lost: HashMap<Entry, Lost>,
    /// How much is remembered of that.
    texts: Texts,
    /// How many entries are not dealt with.
    left: usize,
    /// How many of them it was told of.
    open: usize,
    /// The first that it was not told of.
    next: usize,
    /// How many bytes of content were sent to it.
    carried: u64,
    bar: Bar,
}

/// What a receiver has of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was not told of it.
    New,
    /// It has not said whether it wants it.
    Offered,
    /// It wants it, and others have not said so yet.
    Wanted,
    /// It is read for it.
    Sending,
    Kept,
    WasThere,
    /// This end cannot send it, and has told so, or is about to.
    Lost,
    /// It does not take it.
    Refused,
}

impl State {
    fn is_final(self) -> bool {
        matches!(self, Self::Kept | Self::WasThere | Self::Lost | Self::Refused)
    }

    /// Whether the receiver is known to know that.
    fn is_the_receivers(self) -> bool {
        matches!(self, Self::Kept | Self::WasThere | Self::Refused)
    }
}

/// A receiver's way to the hub.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) hub: Rc<RefCell<Hub>>,
    pub(crate) peer: usize,
}

/// What comes to a receiver that is connected.
pub(crate) struct Inflow {
    pub(crate) pieces: mpsc::Receiver<Piece>,
    pub(crate) bell: mpsc::Receiver<()>,
    /// Resolves when it holds up the others for too long.
    pub(crate) let_go: oneshot::Receiver<()>,
}

impl Hub {
    pub(crate) fn new(
        listing: Arc<Listing>,
        jobs: std_mpsc::Sender<Job>,
        wanted: Arc<Wanted>,
        progress: Progress,
        bars: Vec<Bar>,
    ) -> Self {
        let count = listing.items.len();
        let peer = |bar| Peer {
            turn: 0,
            was_heard: false,
            pieces: None,
            bell: mpsc::channel(0).0,
            let_go: None,
            states: vec![State::New; count],
            wants: HashMap::new(),
            asked: HashMap::new(),
            under_way: 0,
            digests: HashMap::new(),
            lost: HashMap::new(),
            texts: Texts::default(),
            left: count,
            open: 0,
            next: 0,
            carried: 0,
            bar,
        };
        let peers = bars.into_iter().map(peer).collect();
        Self {
            digests: HashMap::new(),
            listing,
            peers,
            waiting_for: None,
            said: 0,
            jobs,
            has_no_reader: false,
            wanted,
            progress,
        }
    }

    /// A receiver is connected, and knows so many entries already.
    pub(crate) fn enter(&mut self, peer: usize, known: u32) -> Inflow {
        let (pieces, pieces_here) = mpsc::channel(PIECES_AHEAD);
        let (bell, bell_here) = mpsc::channel(1);
        let (let_go, let_go_here) = oneshot::channel();
        let it = &mut self.peers[peer];
        it.turn += 1;
        self.wanted.set_turn(peer, it.turn);
        it.pieces = Some(pieces);
        it.bell = bell;
        it.let_go = Some(let_go);
        it.asked.clear();
        it.under_way = 0;
        for (entry, state) in it.states.iter_mut().enumerate() {
            // What it does not know was lost on the way, as may be the word that an entry does not come; and one
            // that has forgotten all finds again what is there.
            if entry >= known as usize || !state.is_the_receivers() {
                *state = State::New;
            }
        }
        it.left = it.states.iter().filter(|state| !state.is_final()).count();
        (it.open, it.next) = (0, 0);
        Inflow { pieces: pieces_here, bell: bell_here, let_go: let_go_here }
    }

    /// A receiver is not connected any more.
    pub(crate) fn leave(&mut self, peer: usize) {
        let it = &mut self.peers[peer];
        it.pieces = None;
        it.wants.clear();
        self.wanted.set_turn(peer, u32::MAX);
        // The others no longer wait for what it wants.
        let mut waiting: Vec<Entry> = self.peers.iter().flat_map(|it| it.wants.keys().copied()).collect();
        waiting.sort_unstable();
        waiting.dedup();
        waiting.into_iter().for_each(|entry| self.send_if_all_know(entry));
    }

    /// Puts together what a receiver is to be told of next; nothing while it was told of enough.
    pub(crate) fn offers(&mut self, peer: usize, out: &mut Vec<u8>) {
        let it = &mut self.peers[peer];
        while it.next < it.states.len() && it.open < MAX_OPEN && out.len() < OFFERS_LEN {
            let (entry, item) = (it.next as Entry, &self.listing.items[it.next]);
            it.next += 1;
            if it.states[entry as usize].is_final() {
                continue;
            }
            let (kind, name) = (item.kind, item.name.clone());
            let target = match &item.more {
                More::LeftOut(why) => {
                    let why = Lost::clone(why);
                    ToReceiver::Skipped { entry, kind, name, why: why.clone() }.encode(out);
                    it.end(entry, State::Lost);
                    it.lost.insert(entry, why);
                    continue;
                }
                More::Target(target) => target.clone(),
                More::Nothing => Box::default(),
            };
            ToReceiver::Offer { entry, kind, meta: item.meta, size: item.size, name, target }.encode(out);
            it.states[entry as usize] = State::Offered;
            it.open += 1;
        }
    }

    /// Whether all entries are dealt with.
    pub(crate) fn is_done(&self, peer: usize) -> bool {
        self.peers[peer].left == 0
    }

    /// Whether a receiver has said something: then it was told of something in this session.
    pub(crate) fn was_heard(&self, peer: usize) -> bool {
        self.peers[peer].was_heard
    }

    /// Whether this end is at work for a receiver, or has it wait for others, so that it owes this end nothing.
    pub(crate) fn is_at_work_for(&self, peer: usize) -> bool {
        let it = &self.peers[peer];
        !self.has_no_reader && (it.under_way > 0 || !it.wants.is_empty())
    }

    /// Takes what a receiver says.
    pub(crate) fn hear(&mut self, peer: usize, message: ToSender) -> Result<(), ProtocolError> {
        let it = &mut self.peers[peer];
        it.was_heard = true;
        let (ToSender::Want { entry, .. }
        | ToSender::Ask { entry, .. }
        | ToSender::Kept { entry, .. }
        | ToSender::Refused { entry, .. }) = message
        else {
            return if it.left == 0 { Ok(()) } else { Err(ProtocolError::TooLittle) };
        };
        let state = *it.states.get(entry as usize).ok_or(ProtocolError::Entry(entry))?;
        let is_file = self.listing.items[entry as usize].kind == Kind::File;
        match message {
            ToSender::Want { from, .. } if state == State::Offered && is_file => {
                // It has compared what it has.
                if from > 0 && !it.asked.get(&entry).is_some_and(|asked| asked.contains(&from)) {
                    return Err(ProtocolError::Entry(entry));
                }
                it.states[entry as usize] = State::Wanted;
                it.wants.insert(entry, (from, Instant::now()));
                it.bar.advance(from);
                self.send_if_all_know(entry);
            }
            ToSender::Ask { len, .. } if state == State::Offered && is_file => {
                let asked = it.asked.entry(entry).or_default();
                asked.push(len);
                if asked.len() > MAX_ASKED {
                    return Err(ProtocolError::Entry(entry));
                }
                let target = Target { peer, turn: it.turn };
                it.under_way += 1;
                // The reader ends last.
                let _ = self.jobs.send(Job::Prove { entry, len, target });
            }
            ToSender::Kept { was_there, .. } if matches!(state, State::Offered | State::Sending) => {
                // It cannot have what was not read, nor all of it before it was told the digest.
                if is_file && !self.digests.contains_key(&entry) {
                    return Err(ProtocolError::Entry(entry));
                }
                if was_there {
                    it.bar.advance(self.listing.items[entry as usize].size);
                }
                it.end(entry, if was_there { State::WasThere } else { State::Kept });
            }
            ToSender::Refused { why, .. } if !state.is_final() && state != State::New => {
                self.lose(peer, entry, State::Refused, why);
                self.wanted.refuse(peer, entry);
                self.send_if_all_know(entry);
            }
            // The sender gave it up meanwhile.
            ToSender::Want { .. } | ToSender::Ask { .. } | ToSender::Refused { .. }
                if matches!(state, State::Lost | State::Refused) => {}
            _ => return Err(ProtocolError::Entry(entry)),
        }
        self.peers[peer].ring();
        Ok(())
    }

    /// Has a file read if all that are connected have said whether they want it.
    fn send_if_all_know(&mut self, entry: Entry) {
        let connected = || self.peers.iter().filter(|it| it.pieces.is_some());
        if connected().any(|it| matches!(it.states[entry as usize], State::New | State::Offered)) {
            return;
        }
        self.send_now(entry);
    }

    /// Has a file read for those that want it.
    fn send_now(&mut self, entry: Entry) {
        let mut targets = Vec::new();
        for (peer, it) in self.peers.iter_mut().enumerate() {
            if it.states[entry as usize] == State::Wanted
                && let Some((from, _)) = it.wants.remove(&entry)
            {
                it.states[entry as usize] = State::Sending;
                it.under_way += 1;
                targets.push((Target { peer, turn: it.turn }, from));
            }
        }
        if !targets.is_empty() {
            // The reader ends last.
            let _ = self.jobs.send(Job::Send { entry, targets });
        }
    }

    fn at(&mut self, target: Target) -> Option<&mut Peer> {
        let it = &mut self.peers[target.peer];
        (it.turn == target.turn && it.pieces.is_some()).then_some(it)
    }
}

impl Peer {
    fn end(&mut self, entry: Entry, state: State) {
        let before = mem::replace(&mut self.states[entry as usize], state);
        self.left -= 1;
        self.open -= usize::from(before != State::New);
        self.wants.remove(&entry);
        self.asked.remove(&entry);
        self.bar.file_done();
    }

    fn ring(&mut self) {
        // It rings already.
        let _ = self.bell.try_send(());
    }
}

/// How many pieces wait for a connection.
const PIECES_AHEAD: usize = 1;
/// How many digests of one file a receiver asks for: of what is under its name, and of a part file.
const MAX_ASKED: usize = 2;
/// How much is told at a time.
const OFFERS_LEN: usize = 16 << 10;

#[cfg(test)]
mod tests;
