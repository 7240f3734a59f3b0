//! What became of entries, as the reader and the receivers tell it, and the report of it.

use sendstream::Printable;

use super::{Hub, State};
use crate::{
    protocol::message::{Entry, Lost, Reason},
    reader::{Note, Target},
    summary::{FileResult, Outcome, Summary},
    walk::More,
};

impl Hub {
    /// Takes what turned out, in messages for `targets`.
    pub(super) fn note(&mut self, targets: &[Target], note: Note) {
        match note {
            Note::Digest { entry, size, digest } => {
                let new = (digest, size);
                let old = self.digests.insert(entry, new).filter(|old| *old != new);
                for (peer, it) in self.peers.iter_mut().enumerate() {
                    if targets.iter().any(|target| target.peer == peer) {
                        it.digests.remove(&entry);
                    } else if let Some(old) = old {
                        // What others were told, if they were, is not true of this reading.
                        it.digests.entry(entry).or_insert(old);
                    }
                }
            }
            Note::Failed { entry, why } => {
                for target in targets {
                    if self.at(*target).is_some_and(|it| !it.states[entry as usize].is_final()) {
                        self.lose(target.peer, entry, State::Lost, why.clone());
                    }
                }
            }
            Note::Over { targets } => self.work_is_over(&targets),
        }
    }

    /// Jobs are over.
    fn work_is_over(&mut self, targets: &[Target]) {
        for target in targets {
            if let Some(it) = self.at(*target) {
                it.under_way = it.under_way.saturating_sub(1);
                // From now on it is the receiver's turn.
                it.ring();
            }
        }
    }

    /// Says why an entry does not arrive, unless that was said of many: a receiver must not flood this end's log.
    fn say(&mut self, entry: Entry, why: &Lost) {
        self.said += 1;
        if self.said <= MAX_SAID {
            let name = Printable::new(&self.listing.items[entry as usize].name);
            self.progress.warn(format_args!("{name}: {}", Printable::new(&*why.text)));
        } else if self.said == MAX_SAID + 1 {
            self.progress.warn("and others; `--json` lists all of them");
        }
    }

    /// An entry does not arrive.
    pub(super) fn lose(&mut self, peer: usize, entry: Entry, state: State, mut why: Lost) {
        self.say(entry, &why);
        let it = &mut self.peers[peer];
        it.end(entry, state);
        it.texts.count(&mut why);
        it.lost.insert(entry, why);
    }

    /// Fills in what became of the entries.
    pub(crate) fn conclude(&mut self, peer: usize, summary: &mut Summary) {
        let it = &mut self.peers[peer];
        summary.set_carried(it.carried);
        for (entry, item) in self.listing.items.iter().enumerate() {
            let digest = it.digests.get(&(entry as Entry)).or_else(|| self.digests.get(&(entry as Entry))).copied();
            let (size, digest) = match digest {
                Some((digest, size)) => (size, Some(digest)),
                None => (item.size, None),
            };
            let outcome = match it.states[entry] {
                State::Kept => Outcome::Arrived(digest),
                State::WasThere => Outcome::WasThere(digest),
                State::Lost | State::Refused => {
                    Outcome::Lost(Box::new(it.lost.remove(&(entry as Entry)).unwrap_or_else(broken_off)))
                }
                _ => match &item.more {
                    More::LeftOut(why) => Outcome::Lost(why.clone()),
                    _ => Outcome::Lost(Box::new(broken_off())),
                },
            };
            summary.add(FileResult { name: item.name.clone(), kind: item.kind, bytes: size, outcome });
        }
    }
}

pub(super) fn broken_off() -> Lost {
    Lost::new(Reason::BrokenOff, "the session ended before it arrived")
}

/// Of how many entries it is said why they did not arrive.
const MAX_SAID: usize = 1000;
