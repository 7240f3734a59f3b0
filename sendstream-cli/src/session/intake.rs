//! What a sender says, and what becomes of it: the receiver's half of the protocol, without a
//! network.

use std::{cell::Cell, collections::HashMap};

use sendstream::Printable;

use super::{
    Shared,
    place::{Output, Place},
};
use crate::{
    error::{Failure, Kind as FailureKind, OtherEnd},
    inbox::{
        Found, Inbox, StoreError,
        part::{Part, hash},
    },
    name::SafeName,
    progress::Bar,
    protocol::{
        Announced, INODE_LEN, MAX_LISTING_LEN, MAX_OPEN, ProtocolError, listing_len,
        message::{Entry, Kind, Lost, Message as _, Meta, Reason, Texts, ToReceiver, ToSender},
    },
    reader::Stamp,
    summary::{Direction, FileResult, Outcome, Summary},
};

/// A session's entries, over all of its connections.
pub(crate) struct Intake<'a> {
    shared: &'a Shared,
    /// Who sends, for messages.
    peer: String,
    bar: Bar,
    announced: Announced,
    summary: Summary,
    /// Each entry that was told, in the order of their numbers.
    slots: Vec<Slot>,
    /// What they cost: see [`MAX_LISTING_LEN`].
    len: usize,
    /// The files that are not dealt with.
    open: HashMap<Entry, Open<'a>>,
    /// Digests that were asked for: this end makes its own meanwhile.
    to_hash: Vec<Entry>,
    /// The file whose content comes.
    current: Option<Current<'a>>,
    /// The directories, with their entries.
    directories: Vec<(Entry, Meta, bool)>,
    /// How many bytes stay of files that are not complete.
    left: u64,
    /// And of those that the sender could not read to their end.
    left_of_lost: u64,
    /// How much is remembered of why entries did not arrive.
    texts: Texts,
    /// Of how many entries it was said why they did not arrive.
    said: Cell<usize>,
    /// How much content came.
    carried: u64,
    /// Standard output, while no file goes there and none has.
    output: Option<Output>,
    /// The sender has said that it knows what became of everything.
    is_over: bool,
}

/// What became of an entry.
struct Slot {
    name: Box<[u8]>,
    kind: Kind,
    bytes: u64,
    /// `None` while it is open.
    outcome: Option<Outcome>,
}

/// A file that is not dealt with.
struct Open<'a> {
    name: SafeName,
    meta: Meta,
    size: u64,
    expects: Expects<'a>,
}

/// What must come next of it.
enum Expects<'a> {
    /// The digest of as much as there is under its name.
    ProofOfFile { len: u64, digest: Option<(blake3::Hash, Stamp)> },
    /// The digest of what an earlier session left.
    ProofOfPart { part: Box<Place<'a>>, digest: Option<blake3::Hash> },
    /// The content from there on.
    Content { part: Option<Box<Place<'a>>>, from: u64 },
}

/// A file whose content comes.
struct Current<'a> {
    entry: Entry,
    /// `None` once it is refused: the rest of the content is of no interest.
    part: Option<Box<Place<'a>>>,
}

/// Why a session cannot go on.
#[derive(Debug)]
pub(super) enum Fatal {
    Protocol(ProtocolError),
    TooMuch,
    /// `go_on` said no.
    Stopped,
}

impl From<ProtocolError> for Fatal {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl Fatal {
    pub(super) fn failure(self, other: &OtherEnd) -> Failure {
        match self {
            Self::Protocol(error) => other.broke(error),
            Self::TooMuch => Failure::new("the sender sent too many files").kind(FailureKind::Protocol),
            Self::Stopped => Failure::interrupted(),
        }
    }
}

impl<'a> Intake<'a> {
    pub(super) fn new(shared: &'a Shared, peer: String, announced: Announced, bar: Bar) -> Self {
        let mut summary = Summary::new(Direction::Received, peer.clone(), announced.entries);
        summary.start();
        Self {
            shared,
            peer,
            bar,
            announced,
            summary,
            slots: Vec::new(),
            len: 0,
            open: HashMap::new(),
            to_hash: Vec::new(),
            current: None,
            directories: Vec::new(),
            left: 0,
            left_of_lost: 0,
            texts: Texts::default(),
            said: Cell::new(0),
            carried: 0,
            output: shared.inbox.is_none().then(Output::default),
            is_over: false,
        }
    }

    /// How many entries are known.
    pub(crate) fn known(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Takes a message, and appends what is to be answered. Says whether it was the last one.
    pub(super) fn take(
        &mut self,
        message: ToReceiver,
        go_on: &dyn Fn() -> bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fatal> {
        match message {
            ToReceiver::Offer { entry, kind, meta, size, name, target } => {
                self.tell(entry, kind, name)?;
                if let Some(outcome) = &self.slots[entry as usize].outcome {
                    // The answer was lost with another connection.
                    answer(entry, outcome).encode(out);
                    return Ok(false);
                }
                match self.offered(entry, kind, meta, size, &target, go_on) {
                    Ok(message) => message.encode(out),
                    Err(lost) => self.refuse(entry, lost, out),
                }
                if self.open.len() > MAX_OPEN {
                    return Err(ProtocolError::TooManyOpen.into());
                }
            }
            // This end refused it meanwhile.
            ToReceiver::Proof { entry, .. } if self.is_settled(entry) => {}
            ToReceiver::Proof { entry, ends, digest } => {
                let open = self.open.remove(&entry).ok_or(ProtocolError::Entry(entry))?;
                match self.proven(entry, open, (ends, digest), go_on) {
                    Ok(message) => message?.encode(out),
                    Err(lost) => self.refuse(entry, lost, out),
                }
            }
            ToReceiver::Begin { entry, from } => self.begin(entry, from)?,
            ToReceiver::Hole(len) => {
                let current = self.current.as_mut().ok_or(ProtocolError::Content)?;
                self.bar.advance(len);
                if let Some(part) = &mut current.part
                    && let Err(error) = part.hole(len, go_on)
                {
                    if matches!(error, StoreError::Stopped) {
                        return Err(Fatal::Stopped);
                    }
                    self.give_up(&error, out);
                }
            }
            ToReceiver::End { size, meta, digest } => {
                let Current { entry, part } = self.current.take().ok_or(ProtocolError::Content)?;
                if let Some(part) = part {
                    match part.keep(size, meta, digest) {
                        Ok(made) => {
                            self.cost(made * INODE_LEN)?;
                            self.slots[entry as usize].bytes = size;
                            self.close(entry, Outcome::Arrived(Some(digest)), out);
                        }
                        Err(error) => self.refuse(entry, to_lost(&error), out),
                    }
                }
            }
            ToReceiver::Failed { entry, why } => {
                let current = self.current.take_if(|current| current.entry == entry);
                let open = self.open.remove(&entry);
                // This end may have refused it meanwhile.
                if current.is_none() && open.is_none() && !self.is_settled(entry) {
                    return Err(ProtocolError::Entry(entry).into());
                }
                let part = current.and_then(|current| current.part).or(open.and_then(Open::into_part));
                if let Some(Place::Inbox(part)) = part.map(|part| *part)
                    && why.reason == Reason::Unreadable
                {
                    // The sender may be able to read it another time.
                    self.left_of_lost += part.leave();
                }
                self.lose(entry, why);
            }
            ToReceiver::Skipped { entry, kind, name, why } => {
                self.tell(entry, kind, name)?;
                if self.slots[entry as usize].outcome.is_none() {
                    self.lose(entry, why);
                }
            }
            ToReceiver::Done => {
                let is_open = !self.open.is_empty() || self.current.as_ref().is_some_and(|it| it.part.is_some());
                if is_open || self.slots.len() as u64 != self.announced.entries {
                    return Err(ProtocolError::TooLittle.into());
                }
                self.finish_directories();
                self.is_over = true;
                ToSender::Bye.encode(out);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes what became of an entry.
    fn settle(&mut self, entry: Entry, mut outcome: Outcome) {
        self.bar.file_done();
        if let Outcome::Lost(why) = &mut outcome {
            self.texts.count(why);
        }
        self.slots[entry as usize].outcome = Some(outcome);
    }

    /// Whether it is known what became of an entry.
    fn is_settled(&self, entry: Entry) -> bool {
        self.slots.get(entry as usize).is_some_and(|slot| slot.outcome.is_some())
    }

    /// Takes content.
    pub(super) fn content(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fatal> {
        let current = self.current.as_mut().ok_or(ProtocolError::Content)?;
        self.bar.advance(bytes.len() as u64);
        self.carried += bytes.len() as u64;
        if let Some(part) = &mut current.part
            && let Err(error) = part.write(bytes)
        {
            self.give_up(&error, out);
        }
        Ok(())
    }

    /// Whether digests were asked for.
    pub(super) fn is_asked(&self) -> bool {
        !self.to_hash.is_empty()
    }

    /// Hashes what is here of the files whose digests were asked for, while the sender does the same.
    /// Fails if it is stopped, and then all of them are open still.
    pub(super) fn hash_meanwhile(&mut self, go_on: &dyn Fn() -> bool, out: &mut Vec<u8>) -> Result<(), Fatal> {
        let inbox = self.inbox();
        for entry in std::mem::take(&mut self.to_hash) {
            if !go_on() {
                return Err(Fatal::Stopped);
            }
            let Some(open) = self.open.get_mut(&entry) else { continue };
            let hashed = match &mut open.expects {
                Expects::ProofOfFile { len, digest } => {
                    inbox.map_or(Err(StoreError::OneFile), |inbox| inbox.read(&open.name)).and_then(|mut file| {
                        // Before it is hashed: who writes to it meanwhile makes another file of it.
                        let stamp = Stamp::of(&file.metadata()?);
                        let mut hasher = blake3::Hasher::new();
                        hash(&mut file, *len, &mut hasher, go_on)?;
                        *digest = Some((hasher.finalize(), stamp));
                        Ok(())
                    })
                }
                Expects::ProofOfPart { part, digest } => part.resume(go_on).map(|own| *digest = Some(own)),
                Expects::Content { .. } => Ok(()),
            };
            if let Err(error) = hashed {
                if matches!(error, StoreError::Stopped) || !go_on() {
                    return Err(Fatal::Stopped);
                }
                self.open.remove(&entry);
                self.refuse(entry, to_lost(&error), out);
            }
        }
        Ok(())
    }

    /// Whether it is known of all that was announced what became of it, so that only the sender's last word
    /// is missing.
    pub(crate) fn has_all(&self) -> bool {
        self.slots.len() as u64 == self.announced.entries && self.slots.iter().all(|slot| slot.outcome.is_some())
    }

    /// Whether the sender has heard all of that, so that nobody waits for anything but a farewell.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The connection is lost: what has come so far stays for another one, or for another session.
    pub(crate) fn break_off(&mut self) {
        if self.current.is_none() && self.open.is_empty() {
            return;
        }
        let current = self.current.take().and_then(|current| current.part);
        let waiting = self.open.drain().filter_map(|(_, open)| open.into_part());
        let places: Vec<_> = current.into_iter().chain(waiting).collect();
        self.left = 0;
        for place in places {
            match *place {
                Place::Inbox(part) => self.left += part.leave(),
                Place::Output(output) => self.output = Some(output),
            }
        }
        self.to_hash.clear();
    }

    /// The sender has forgotten what it told, and tells all of it anew, with other numbers perhaps. What is
    /// there is found again. What it cost so far counts on, so nobody costs more by forgetting.
    pub(crate) fn begin_again(&mut self, announced: Announced) {
        self.break_off();
        self.is_over = false;
        self.announced = announced;
        self.summary.announce_again(announced.entries);
        self.slots.clear();
        self.directories.clear();
    }

    /// The session is over. Returns what became of its entries, and how many bytes stay of files that
    /// are not complete.
    pub(super) fn end(mut self) -> (Summary, u64) {
        self.break_off();
        // Directories stay writable if it broke off: what is missing in them may come later.
        if self.has_all() {
            self.finish_directories();
        }
        self.summary.set_carried(self.carried);
        for slot in std::mem::take(&mut self.slots) {
            let Slot { name, kind, bytes, outcome } = slot;
            let outcome = outcome.unwrap_or_else(|| {
                let lost = Lost::new(Reason::BrokenOff, "the session ended before all of it was there");
                self.say(&name, &lost.text);
                Outcome::Lost(Box::new(lost))
            });
            self.summary.add(FileResult { name, kind, bytes, outcome });
        }
        self.bar.clear();
        (self.summary, self.left + self.left_of_lost)
    }

    /// Where files go, unless it is to standard output.
    fn inbox(&self) -> Option<&'a Inbox> {
        self.shared.inbox.as_ref()
    }

    /// Notes an entry, or finds it again.
    fn tell(&mut self, entry: Entry, kind: Kind, name: Box<[u8]>) -> Result<(), Fatal> {
        if self.open.contains_key(&entry) {
            return Err(ProtocolError::Entry(entry).into());
        }
        match self.slots.get(entry as usize) {
            Some(slot) if slot.name == name && slot.kind == kind => Ok(()),
            None if entry as usize == self.slots.len() => {
                self.cost(listing_len(&name))?;
                self.slots.push(Slot { name, kind, bytes: 0, outcome: None });
                Ok(())
            }
            _ => Err(ProtocolError::Entry(entry).into()),
        }
    }

    /// Fails if these are more than one session may have.
    fn cost(&mut self, len: usize) -> Result<(), Fatal> {
        self.len += len;
        if self.len <= MAX_LISTING_LEN { Ok(()) } else { Err(Fatal::TooMuch) }
    }

    /// Decides what is wanted of an entry.
    fn offered(
        &mut self,
        entry: Entry,
        kind: Kind,
        meta: Meta,
        size: u64,
        target: &[u8],
        go_on: &dyn Fn() -> bool,
    ) -> Result<ToSender, Lost> {
        let name = SafeName::new(self.slots[entry as usize].name.clone())
            .map_err(|error| Lost::new(Reason::Name, format!("its name {error}")))?;
        let Some(inbox) = &self.shared.inbox else {
            return self.offered_to_output(entry, kind, name, meta, size).map_err(|error| to_lost(&error));
        };
        match kind {
            Kind::Directory => {
                let made = inbox.make_directory(&name, meta).map_err(|error| to_lost(&error))?;
                self.directories.push((entry, meta, made > 0));
                // What it costs counts with the next.
                self.len += made.saturating_sub(1) * INODE_LEN;
                let outcome = if made > 0 { Outcome::Arrived(None) } else { Outcome::WasThere(None) };
                let message = answer(entry, &outcome);
                self.settle(entry, outcome);
                Ok(message)
            }
            Kind::Link => {
                let (was_there, made) = inbox.make_link(&name, target).map_err(|error| to_lost(&error))?;
                self.len += made * INODE_LEN;
                let outcome = if was_there { Outcome::WasThere(None) } else { Outcome::Arrived(None) };
                let message = answer(entry, &outcome);
                self.settle(entry, outcome);
                Ok(message)
            }
            Kind::File => {
                self.bar.show(&name);
                self.slots[entry as usize].bytes = size;
                match inbox.look(&name).map_err(|error| to_lost(&error))? {
                    // No other length is asked for: the sender would learn how long the file is.
                    Found::File(len) if len == size => {
                        let expects = Expects::ProofOfFile { len, digest: None };
                        self.open.insert(entry, Open { name, meta, size, expects });
                        self.to_hash.push(entry);
                        Ok(ToSender::Ask { entry, len })
                    }
                    Found::File(_) if !inbox.overwrites() => Err(to_lost(&StoreError::Exists)),
                    _ => self.look_for_part(entry, name, meta, size, go_on).map_err(|error| to_lost(&error)),
                }
            }
        }
    }

    /// Decides what is wanted of an entry where one file goes to standard output.
    fn offered_to_output(
        &mut self,
        entry: Entry,
        kind: Kind,
        name: SafeName,
        meta: Meta,
        size: u64,
    ) -> Result<ToSender, StoreError> {
        let output = self.output.take_if(|_| kind == Kind::File).ok_or(StoreError::OneFile)?;
        self.slots[entry as usize].bytes = size;
        let (len, digest) = output.so_far();
        let part = Box::new(Place::Output(output));
        let (message, expects) = match len {
            0 => (ToSender::Want { entry, from: 0 }, Expects::Content { part: Some(part), from: 0 }),
            len => (ToSender::Ask { entry, len }, Expects::ProofOfPart { part, digest: Some(digest) }),
        };
        self.open.insert(entry, Open { name, meta, size, expects });
        Ok(message)
    }

    /// Asks for all of a file, or for what an earlier session has not left of it.
    fn look_for_part(
        &mut self,
        entry: Entry,
        name: SafeName,
        meta: Meta,
        size: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<ToSender, StoreError> {
        // Each is an open file.
        let parts = self.open.values().filter(|open| !matches!(open.expects, Expects::ProofOfFile { .. }));
        let found = match parts.filter(|open| open.has_part()).count() {
            0..MAX_PARTS => self.inbox().map_or(Ok(None), |inbox| Part::find(inbox, &name, go_on))?,
            _ => None,
        };
        let Some(part) = found else {
            let expects = Expects::Content { part: None, from: 0 };
            self.open.insert(entry, Open { name, meta, size, expects });
            return Ok(ToSender::Want { entry, from: 0 });
        };
        let len = part.found_len()?;
        self.open.insert(
            entry,
            Open {
                name,
                meta,
                size,
                expects: Expects::ProofOfPart { part: Box::new(Place::Inbox(part)), digest: None },
            },
        );
        self.to_hash.push(entry);
        Ok(ToSender::Ask { entry, len })
    }

    /// Compares the sender's digest with this end's. The outer error is the entry's, the inner one
    /// the session's.
    fn proven(
        &mut self,
        entry: Entry,
        open: Open<'a>,
        (ends, theirs): (bool, blake3::Hash),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Result<ToSender, ProtocolError>, Lost> {
        let Open { name, meta, size, expects } = open;
        match expects {
            // Nobody proves what this end does not know yet.
            Expects::ProofOfFile { digest: None, .. } | Expects::ProofOfPart { digest: None, .. } => {
                Ok(Err(ProtocolError::Entry(entry)))
            }
            Expects::ProofOfFile { len, digest: Some((ours, hashed)) } => {
                let replacing = self.inbox().filter(|inbox| inbox.overwrites());
                if ends && ours == theirs {
                    if let Some(inbox) = replacing {
                        inbox.touch(&name, hashed, meta).map_err(|error| to_lost(&error))?;
                    }
                    self.bar.advance(len);
                    self.slots[entry as usize].bytes = len;
                    let outcome = Outcome::WasThere(Some(theirs));
                    let message = answer(entry, &outcome);
                    self.settle(entry, outcome);
                    return Ok(Ok(message));
                }
                if replacing.is_none() {
                    return Err(to_lost(&StoreError::Exists));
                }
                self.look_for_part(entry, name, meta, size, go_on).map(Ok).map_err(|error| to_lost(&error))
            }
            Expects::ProofOfPart { mut part, digest } => {
                let mut from = part.found_len().map_err(|error| to_lost(&error))?;
                if digest != Some(theirs) {
                    part.start_over().map_err(|error| to_lost(&error))?;
                    from = 0;
                }
                self.bar.advance(from);
                let expects = Expects::Content { part: Some(part), from };
                self.open.insert(entry, Open { name, meta, size, expects });
                Ok(Ok(ToSender::Want { entry, from }))
            }
            Expects::Content { .. } => Ok(Err(ProtocolError::Entry(entry))),
        }
    }

    fn begin(&mut self, entry: Entry, at: u64) -> Result<(), Fatal> {
        if self.current.as_ref().is_some_and(|current| current.part.is_some()) {
            return Err(ProtocolError::Content.into());
        }
        match self.open.remove(&entry) {
            Some(Open { name, expects: Expects::Content { part, from }, .. }) if from == at => {
                self.bar.show(&name);
                self.left = 0;
                let new = |inbox| Box::new(Place::Inbox(Part::new(inbox, name)));
                self.current = Some(Current { entry, part: part.or_else(|| self.inbox().map(new)) });
                Ok(())
            }
            _ => Err(ProtocolError::Entry(entry).into()),
        }
    }

    /// The current file cannot be stored. The rest of its content passes by.
    fn give_up(&mut self, error: &StoreError, out: &mut Vec<u8>) {
        if let Some(current) = &mut self.current {
            current.part = None;
            let entry = current.entry;
            self.refuse_with(entry, error, out);
        }
    }

    fn refuse_with(&mut self, entry: Entry, error: &StoreError, out: &mut Vec<u8>) {
        self.say(&self.slots[entry as usize].name, &error.local_text());
        let outcome = Outcome::Lost(Box::new(error.lost()));
        answer(entry, &outcome).encode(out);
        self.settle(entry, outcome);
    }

    fn refuse(&mut self, entry: Entry, lost: Lost, out: &mut Vec<u8>) {
        ToSender::Refused { entry, why: lost.clone() }.encode(out);
        self.lose(entry, lost);
    }

    fn close(&mut self, entry: Entry, outcome: Outcome, out: &mut Vec<u8>) {
        answer(entry, &outcome).encode(out);
        self.settle(entry, outcome);
    }

    /// An entry did not arrive, unless that is known already.
    fn lose(&mut self, entry: Entry, why: Lost) {
        let Some(slot) = self.slots.get(entry as usize).filter(|slot| slot.outcome.is_none()) else { return };
        self.say(&slot.name, &why.text);
        self.settle(entry, Outcome::Lost(Box::new(why)));
    }

    fn say(&self, name: &[u8], why: &str) {
        let said = self.said.replace(self.said.get() + 1);
        if said == MAX_SAID {
            self.shared.progress.warn(format_args!("{}: and others; `--json` lists all of them", self.peer));
        }
        if said >= MAX_SAID {
            return;
        }
        self.shared.progress.warn(format_args!("{}: {}: {}", self.peer, Printable::new(name), Printable::new(why)));
    }

    /// The innermost first: what is done in a directory changes its time.
    fn finish_directories(&mut self) {
        for (entry, meta, made) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let (Some(inbox), Ok(name)) = (self.inbox(), SafeName::new(self.slots[entry as usize].name.clone())) {
                inbox.finish_directory(&name, meta, made);
            }
        }
    }
}

impl<'a> Open<'a> {
    fn into_part(self) -> Option<Box<Place<'a>>> {
        match self.expects {
            Expects::ProofOfPart { part, .. } => Some(part),
            Expects::Content { part, .. } => part,
            Expects::ProofOfFile { .. } => None,
        }
    }

    fn has_part(&self) -> bool {
        matches!(self.expects, Expects::ProofOfPart { .. } | Expects::Content { part: Some(_), .. })
    }
}

/// What a sender is told of what became of an entry.
fn answer(entry: Entry, outcome: &Outcome) -> ToSender {
    match outcome {
        Outcome::Arrived(_) => ToSender::Kept { entry, was_there: false },
        Outcome::WasThere(_) => ToSender::Kept { entry, was_there: true },
        Outcome::Lost(why) => ToSender::Refused { entry, why: (**why).clone() },
    }
}

fn to_lost(error: &StoreError) -> Lost {
    error.lost()
}

/// Of how many entries it is said why they did not arrive.
const MAX_SAID: usize = 1000;
/// How many part files are open at a time, of files whose turn has not come.
const MAX_PARTS: usize = 16;

#[cfg(test)]
mod tests;
