//! Limits the short pieces that are copied before anybody reads them.
//!
//! MsQuic has the memory of a copied piece back at once. So the peer may send more, or open another
//! stream if the piece was all of this one. A connection therefore counts the copied pieces of all
//! its streams. At the limit further pieces are lent, and count against the peer's limits until
//! they are read.

use std::sync::Arc;

/// How many pieces of a connection are copied and not read: as many as there are other references to
/// the same nothing.
#[derive(Debug, Default)]
pub struct Copies(Arc<()>);

/// The right to hold one.
#[derive(Debug)]
pub struct CopyPlace(#[expect(dead_code, reason = "it counts by its being there")] Arc<()>);

impl Copies {
    const MOST: usize = 128;

    /// A place for one more, if there is one. For the connection's worker only.
    #[inline]
    pub fn place(&self) -> Option<CopyPlace> {
        // Nobody else adds to it.
        (self.taken() < Self::MOST).then(|| CopyPlace(self.0.clone()))
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let copies = Copies::default();
        let mut places: Vec<_> = std::iter::from_fn(|| copies.place()).collect();
        assert_eq!((places.len(), copies.taken()), (Copies::MOST, Copies::MOST));
        places.pop();
        drop(copies.place().expect("one was dropped"));
        let _last = copies.place().expect("that one was dropped, too");
        assert!(copies.place().is_none());
    }
}
