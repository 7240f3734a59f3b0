//! Receivers for which others have waited for too long.

use std::time::Duration;

use super::{Hub, State};
use crate::{protocol::message::Entry, reader::Target};

impl Hub {
    /// Lets a receiver go that has taken nothing for so long while others wait. Has the files read for which
    /// somebody has waited for so long that others say whether they want them: those get them later.
    pub(crate) fn wait_no_longer_than(&mut self, patience: Duration) {
        if let Some((target, since)) = self.waiting_for
            && since.elapsed() >= patience + self.may_hash_for(target)
            && self.holds_up_others(target)
        {
            self.let_go(target);
        }
        let wants = self.peers.iter().flat_map(|it| &it.wants);
        let late = wants.filter(|(_, (_, since))| since.elapsed() >= patience);
        let mut late: Vec<Entry> = late.map(|(entry, _)| *entry).collect();
        late.sort_unstable();
        late.dedup();
        late.into_iter().for_each(|entry| self.send_now(entry));
    }

    /// How long a receiver may be busy with what it asked digests of: it makes its own, and takes nothing
    /// meanwhile.
    fn may_hash_for(&self, target: Target) -> Duration {
        let it = &self.peers[target.peer];
        let open = it.asked.iter().filter(|(entry, _)| it.states[**entry as usize] == State::Offered);
        let len = |(entry, asked): (&Entry, &Vec<u64>)| {
            let size = self.listing.items[*entry as usize].size;
            asked.iter().map(|len| (*len).min(size)).fold(0, u64::saturating_add)
        };
        Duration::from_secs(open.map(len).fold(0, u64::saturating_add) / SLOW_DISK)
    }

    /// Whether a receiver that takes nothing holds up another, for which something is read or is to be.
    fn holds_up_others(&self, target: Target) -> bool {
        let others = self.peers.iter().enumerate().filter(|(peer, _)| *peer != target.peer);
        others.map(|(_, it)| it).any(|it| it.pieces.is_some() && it.left > 0 && it.under_way > 0)
    }

    /// Tells a receiver to go. What is read for it passes by.
    fn let_go(&mut self, target: Target) {
        if let Some(it) = self.at(target) {
            it.pieces = None;
            // It may be gone already.
            let _ = it.let_go.take().map(|it| it.send(()));
        }
    }
}

/// How many bytes any disk reads in a second.
const SLOW_DISK: u64 = 1 << 20;
