//! The way of what was read to the receivers that want it.

use std::{cell::RefCell, mem, sync::Arc, time::Instant};

use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use sendstream::Printable;

use super::Hub;
use crate::reader::{Note, Piece};

/// Hands pieces to the receivers that they are for. One that takes none holds up the others, until it
/// has left, or is let go ([`Hub::wait_no_longer_than`]).
pub(crate) async fn distribute(hub: &RefCell<Hub>, mut pieces: mpsc::Receiver<Piece>) {
    while let Some(mut piece) = pieces.next().await {
        let notes = mem::take(&mut piece.notes);
        let targets = Arc::clone(&piece.targets);
        // A receiver may answer a file before this goes on, but not before the digest is on its way.
        let (digests, others): (Vec<_>, Vec<_>) = notes.into_iter().partition(|it| matches!(it, Note::Digest { .. }));
        digests.into_iter().for_each(|note| hub.borrow_mut().note(&targets, note));
        for target in targets.iter() {
            let sink = hub.borrow_mut().at(*target).and_then(|it| it.pieces.clone());
            if !piece.bytes.is_empty()
                && let Some(mut sink) = sink
            {
                hub.borrow_mut().waiting_for = Some((*target, Instant::now()));
                // It may have left meanwhile.
                let _ = sink.send(piece.clone()).await;
                hub.borrow_mut().waiting_for = None;
            }
        }
        let mut hub = hub.borrow_mut();
        others.into_iter().for_each(|note| hub.note(&targets, note));
        let listing = Arc::clone(&hub.listing);
        for target in targets.iter() {
            if let Some(it) = hub.at(*target) {
                if piece.content > 0 {
                    it.bar.show(Printable::new(&listing.items[piece.entry as usize].name));
                }
                it.bar.advance(piece.content);
                it.carried += piece.data;
                it.ring();
            }
        }
    }
    // Nothing of this end's is waited for any more.
    hub.borrow_mut().has_no_reader = true;
}
