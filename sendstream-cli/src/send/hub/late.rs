//! Receivers for which others have waited for too long.

use std::time::Duration;

use super::Hub;
use crate::{protocol::message::Entry, reader::Target};

impl Hub {
    /// Lets a receiver go that has taken nothing for so long while others wait. Has the files read for which
    /// somebody has waited for so long that others say whether they want them: those get them later.
    pub(crate) fn wait_no_longer_than(&mut self, patience: Duration) {
        if let Some((target, since)) = self.waiting_for
            && since.elapsed() >= patience
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

    /// Whether a receiver that takes nothing holds up another.
    fn holds_up_others(&self, target: Target) -> bool {
        let others = self.peers.iter().enumerate().filter(|(peer, _)| *peer != target.peer);
        others.map(|(_, it)| it).any(|it| it.pieces.is_some() && it.left > 0)
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
