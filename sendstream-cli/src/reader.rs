//! Reads and hashes files, ahead of the network, on a thread of its own.
//!
//! One thread takes the files one after the other: a disk likes that, and it reads and hashes
//! faster than one connection sends. What it has read goes to all receivers that want it, without a
//! copy. It waits in a channel of a few pieces, so memory stays bounded however large the files are.
//!
//! Small files share pieces: a piece is cut when it is full, when the next message has other
//! receivers, or when there is nothing more to do.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{SinkExt as _, channel::mpsc, executor::block_on};

use crate::{
    protocol::{
        CHUNK_LEN,
        message::{DATA_FRONT_LEN, Entry, Lost, Message as _, Reason, ToReceiver, encode_data_front},
    },
    walk::{Item, Listing},
};

mod content;

use content::{Content, Step};
pub(crate) use content::{Stamp, hash_zeros};

/// One connection to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) peer: usize,
    /// How many connections to this receiver there were before.
    pub(crate) turn: u32,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Job {
    /// Tell a receiver the digest of the first bytes of a file.
    Prove { entry: Entry, len: u64, target: Target },
    /// Send a file, to each receiver from another byte on.
    Send { entry: Entry, targets: Vec<(Target, u64)> },
}

/// Messages for some receivers.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) targets: Arc<[Target]>,
    pub(crate) bytes: Bytes,
    /// How many bytes of files are in it, or between what is in it.
    pub(crate) content: u64,
    /// Those of them that are in it.
    pub(crate) data: u64,
    /// Whose content was read last.
    pub(crate) entry: Entry,
    pub(crate) notes: Vec<Note>,
}

/// What turned out about a file.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    Digest {
        entry: Entry,
        size: u64,
        digest: blake3::Hash,
    },
    Failed {
        entry: Entry,
        why: Lost,
    },
    /// A job of these is over, and all of it is on its way.
    Over {
        targets: Arc<[Target]>,
    },
}

/// What the receivers no longer want, as the reader sees it.
#[derive(Debug)]
pub(crate) struct Wanted(Vec<WantedBy>);

#[derive(Debug)]
struct WantedBy {
    turn: AtomicU32,
    refused: Mutex<HashSet<Entry>>,
}

impl WantedBy {
    fn refused(&self) -> MutexGuard<'_, HashSet<Entry>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    pub(crate) fn new(peers: usize) -> Self {
        let nothing = || WantedBy { turn: AtomicU32::new(0), refused: Mutex::default() };
        Self((0..peers).map(|_| nothing()).collect())
    }

    /// A receiver has another connection now, or none.
    pub(crate) fn set_turn(&self, peer: usize, turn: u32) {
        self.0[peer].refused().clear();
        self.0[peer].turn.store(turn, Ordering::Relaxed);
    }

    /// A receiver does not want an entry.
    pub(crate) fn refuse(&self, peer: usize, entry: Entry) {
        self.0[peer].refused().insert(entry);
    }

    fn wants(&self, target: Target, entry: Entry) -> bool {
        let by = &self.0[target.peer];
        by.turn.load(Ordering::Relaxed) == target.turn && !by.refused().contains(&entry)
    }

    fn wants_any(&self, targets: &[(Target, u64)], entry: Entry) -> bool {
        targets.iter().any(|(target, _)| self.wants(*target, entry))
    }
}

/// Starts the thread. It ends when there are no more jobs to come, or nobody takes the pieces.
pub(crate) fn spawn(
    listing: Arc<Listing>,
    jobs: std_mpsc::Receiver<Job>,
    wanted: Arc<Wanted>,
    limit: Option<u64>,
) -> io::Result<mpsc::Receiver<Piece>> {
    let (sink, pieces) = mpsc::channel(PIECES_AHEAD);
    let out = Out {
        sink,
        targets: Arc::new([]),
        buffer: Vec::new(),
        content: 0,
        data: 0,
        entry: 0,
        notes: Vec::new(),
        limit: limit.map(|rate| Limit { rate, due: Instant::now() }),
    };
    let mut reader = Reader { listing, wanted, out, prefixes: HashMap::new(), stdin_was_read: false };
    let work = move || while reader.next(&jobs).is_ok() {};
    thread::Builder::new().name("reader".to_owned()).spawn(work)?;
    Ok(pieces)
}

struct Reader {
    listing: Arc<Listing>,
    wanted: Arc<Wanted>,
    out: Out,
    /// The state of hashing beginnings of files, whose rest may be wanted, and the version of the file
    /// that each is of.
    prefixes: HashMap<(Entry, u64), (Stamp, blake3::Hasher)>,
    stdin_was_read: bool,
}

/// There is nothing more to do.
struct Over;

/// Why a file is not read to its end.
enum Stop {
    Lost(Lost),
    Over,
}

impl Reader {
    fn next(&mut self, jobs: &std_mpsc::Receiver<Job>) -> Result<(), Over> {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(_) => {
                self.out.flush()?;
                jobs.recv().map_err(|_| Over)?
            }
        };
        let (entry, targets, done) = match job {
            Job::Prove { entry, len, target } => (entry, Arc::from([target]), self.prove(entry, len, target)),
            Job::Send { entry, targets } => {
                let all = targets.iter().map(|(target, _)| *target).collect();
                (entry, all, self.send(entry, targets))
            }
        };
        match done {
            Ok(()) => {}
            Err(Stop::Over) => return Err(Over),
            Err(Stop::Lost(why)) => {
                self.out.message(&targets, &ToReceiver::Failed { entry, why: why.clone() })?;
                self.out.notes.push(Note::Failed { entry, why });
            }
        }
        self.out.notes.push(Note::Over { targets });
        Ok(())
    }

    fn open(&mut self, entry: Entry) -> Result<Content, Lost> {
        let listing = Arc::clone(&self.listing);
        let item: &Item = &listing.items[entry as usize];
        if !listing.is_stdin(item) {
            return Content::open(&listing.path(item)).map_err(unreadable);
        }
        if std::mem::replace(&mut self.stdin_was_read, true) {
            return Err(Lost::new(Reason::Unreadable, "standard input cannot be read twice"));
        }
        Content::stdin().map_err(unreadable)
    }

    fn prove(&mut self, entry: Entry, len: u64, target: Target) -> Result<(), Stop> {
        if !self.wanted.wants(target, entry) {
            return Ok(());
        }
        let item = &self.listing.items[entry as usize];
        // What comes from a pipe is known only once it is sent.
        let nothing = (false, blake3::Hash::from_bytes([0; blake3::OUT_LEN]));
        let (ends, digest) = if self.listing.is_stdin(item) {
            nothing
        } else {
            let mut content = self.open(entry).map_err(Stop::Lost)?;
            let mut hasher = blake3::Hasher::new();
            let wanted = Arc::clone(&self.wanted);
            let go_on = || wanted.wants(target, entry);
            if content.hash(len, &mut hasher, go_on).map_err(|error| Stop::Lost(unreadable(error)))? {
                let ends = content.is_at_end().map_err(|error| Stop::Lost(unreadable(error)))?;
                let digest = hasher.finalize();
                // It may have been written to while it was hashed.
                let changed = content.changed().map_err(|error| Stop::Lost(unreadable(error)))?;
                if !ends && !changed && self.prefixes.len() < MAX_PREFIXES {
                    self.prefixes.insert((entry, len), (content.stamp(), hasher));
                }
                (ends, digest)
            } else if !go_on() {
                return Ok(());
            } else {
                // It is shorter than that.
                nothing
            }
        };
        self.out.message(&Arc::from([target]), &ToReceiver::Proof { entry, ends, digest })?;
        if ends {
            // Behind its message, as all notes: so both are in one piece.
            self.out.notes.push(Note::Digest { entry, size: len, digest });
        }
        Ok(())
    }

    fn send(&mut self, entry: Entry, mut targets: Vec<(Target, u64)>) -> Result<(), Stop> {
        targets.retain(|(target, _)| self.wanted.wants(*target, entry));
        targets.sort_by_key(|(_, from)| *from);
        let Some((_, first)) = targets.first() else { return Ok(()) };
        let mut position = *first;
        let mut content = self.open(entry).map_err(Stop::Lost)?;
        let Some(mut hasher) = self.begin_at(entry, &targets, &mut content)? else { return Ok(()) };
        self.out.entry = entry;
        self.prefixes.retain(|(other, _), _| *other != entry);

        let mut now: Arc<[Target]> = Arc::new([]);
        let mut begun = 0;
        loop {
            if begun < targets.len() && targets[begun].1 == position {
                let joining = targets[begun..].iter().take_while(|(_, from)| *from == position).count();
                let new = targets[begun..begun + joining].iter().map(|(target, _)| *target).collect();
                self.out.message(&new, &ToReceiver::Begin { entry, from: position })?;
                begun += joining;
                now = if begun == joining { new } else { targets[..begun].iter().map(|(target, _)| *target).collect() };
            }
            if !self.wanted.wants_any(&targets, entry) {
                let why = Lost::new(Reason::BrokenOff, "the receiver does not want it");
                self.out.message(&now, &ToReceiver::Failed { entry, why })?;
                return Ok(());
            }
            let boundary = targets.get(begun).map_or(u64::MAX, |(_, from)| from - position);
            let room = self.out.room_for(&now)?;
            let place = self.out.buffer.len() + DATA_FRONT_LEN;
            encode_data_front(0, &mut self.out.buffer);
            let step = content.next(&mut self.out.buffer, room as u64, boundary);
            let step = step.inspect_err(|_| self.out.buffer.truncate(place - DATA_FRONT_LEN));
            match step.map_err(|error| Stop::Lost(unreadable(error)))? {
                Step::Data => {
                    let data = &self.out.buffer[place..];
                    hasher.update(data);
                    let len = data.len();
                    let front = (len as u32).to_be_bytes();
                    self.out.buffer[place - front.len()..place].copy_from_slice(&front);
                    position += len as u64;
                    self.out.sent(len as u64)?;
                }
                Step::Hole(len) => {
                    self.out.buffer.truncate(place - DATA_FRONT_LEN);
                    self.out.message(&now, &ToReceiver::Hole(len))?;
                    if hash_zeros(&mut hasher, len, || self.wanted.wants_any(&targets, entry)) {
                        position += len;
                        self.out.content += len;
                    }
                }
                Step::End => {
                    self.out.buffer.truncate(place - DATA_FRONT_LEN);
                    break;
                }
            }
        }
        let changed = content.changed().map_err(|error| Stop::Lost(unreadable(error)))?;
        let why = Lost::new(Reason::Changed, "it changed while it was being sent");
        if changed {
            return Err(Stop::Lost(why));
        }
        let digest = hasher.finalize();
        self.out.message(&now, &ToReceiver::End { size: position, meta: content.meta(), digest })?;
        self.out.notes.push(Note::Digest { entry, size: position, digest });
        if begun < targets.len() {
            // These want what is behind the end, and only these.
            let late = targets[begun..].iter().map(|(target, _)| *target).collect();
            self.out.message(&late, &ToReceiver::Failed { entry, why: why.clone() })?;
            self.out.notes.push(Note::Failed { entry, why });
        }
        Ok(())
    }

    /// Moves to the first place in a file that a target wants, and returns the state of hashing what is before
    /// it; nothing if no target wants the file any more.
    fn begin_at(
        &mut self,
        entry: Entry,
        targets: &[(Target, u64)],
        content: &mut Content,
    ) -> Result<Option<blake3::Hasher>, Stop> {
        let position = targets[0].1;
        if position == 0 {
            return Ok(Some(blake3::Hasher::new()));
        }
        if let Some((stamp, hasher)) = self.prefixes.remove(&(entry, position))
            && stamp == content.stamp()
        {
            content.skip_to(position).map_err(|error| Stop::Lost(unreadable(error)))?;
            return Ok(Some(hasher));
        }
        let mut hasher = blake3::Hasher::new();
        // What nobody waits for must not keep this thread, and the disk, busy.
        let wanted = || self.wanted.wants_any(targets, entry);
        match content.hash(position, &mut hasher, wanted) {
            Ok(true) => Ok(Some(hasher)),
            Ok(false) if !wanted() => Ok(None),
            Ok(false) => Err(Stop::Lost(Lost::new(Reason::Changed, "it changed while it was being sent"))),
            Err(error) => Err(Stop::Lost(unreadable(error))),
        }
    }
}

impl From<Over> for Stop {
    fn from(Over: Over) -> Self {
        Self::Over
    }
}

fn unreadable(error: io::Error) -> Lost {
    if content::is_change(&error) {
        return Lost::new(Reason::Changed, "it changed while it was being sent");
    }
    Lost::new(Reason::Unreadable, format!("cannot read it: {error}"))
}

/// Gathers messages to pieces.
struct Out {
    sink: mpsc::Sender<Piece>,
    targets: Arc<[Target]>,
    buffer: Vec<u8>,
    content: u64,
    data: u64,
    entry: Entry,
    notes: Vec<Note>,
    limit: Option<Limit>,
}

/// How much may be sent in a second.
struct Limit {
    rate: u64,
    /// When what was sent so far is through at that rate.
    due: Instant,
}

impl Out {
    /// Adds a message for some receivers.
    fn message(&mut self, targets: &Arc<[Target]>, message: &ToReceiver) -> Result<(), Over> {
        self.turn_to(targets)?;
        message.encode(&mut self.buffer);
        Ok(())
    }

    /// How much content the piece still takes, at least some.
    fn room_for(&mut self, targets: &Arc<[Target]>) -> Result<usize, Over> {
        self.turn_to(targets)?;
        Ok(self.piece_len().saturating_sub(self.buffer.len() + DATA_FRONT_LEN).max(1))
    }

    /// Content was added.
    fn sent(&mut self, len: u64) -> Result<(), Over> {
        self.content += len;
        self.data += len;
        if self.buffer.len() + MIN_ROOM >= self.piece_len() { self.flush() } else { Ok(()) }
    }

    fn turn_to(&mut self, targets: &Arc<[Target]>) -> Result<(), Over> {
        let is_same = Arc::ptr_eq(&self.targets, targets) || self.targets == *targets;
        if !is_same || self.buffer.len() + MIN_ROOM >= self.piece_len() {
            self.flush()?;
            self.targets = Arc::clone(targets);
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(self.piece_len() + SPARE);
        }
        Ok(())
    }

    /// At a low rate pieces are small, so that bytes come all the time.
    fn piece_len(&self) -> usize {
        let of_rate = self.limit.as_ref().map_or(CHUNK_LEN as u64, |limit| limit.rate / 10);
        of_rate.clamp(2 * MIN_ROOM as u64, CHUNK_LEN as u64) as usize
    }

    fn flush(&mut self) -> Result<(), Over> {
        if self.buffer.is_empty() && self.notes.is_empty() {
            return Ok(());
        }
        let len = self.buffer.len() as u64;
        // A short piece must not hold the memory of a long one.
        let bytes = if self.buffer.len() < self.buffer.capacity() / 4 {
            let bytes = Bytes::copy_from_slice(&self.buffer);
            self.buffer.clear();
            bytes
        } else {
            std::mem::take(&mut self.buffer).into()
        };
        let content = std::mem::take(&mut self.content);
        let data = std::mem::take(&mut self.data);
        let notes = std::mem::take(&mut self.notes);
        let piece = Piece { targets: Arc::clone(&self.targets), bytes, content, data, entry: self.entry, notes };
        block_on(self.sink.send(piece)).map_err(|_| Over)?;
        if let Some(limit) = &mut self.limit {
            let now = Instant::now();
            // What was not sent in time may not be made up for later.
            limit.due = limit.due.max(now) + Duration::from_secs_f64(len as f64 / limit.rate as f64);
            thread::sleep(limit.due - now);
        }
        Ok(())
    }
}

/// How many pieces wait between the disk and the network, besides the one in each hand.
const PIECES_AHEAD: usize = 4;
/// A piece with less room than this is full.
const MIN_ROOM: usize = 2048;
/// Room for the messages around content, so that the buffer need not grow.
const SPARE: usize = 4096;
/// Of how many files the state of hashing is kept.
const MAX_PREFIXES: usize = 256;

#[cfg(test)]
mod tests;
