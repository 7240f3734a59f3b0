//! Names for what was built, so that it is found again when nothing that matters has changed.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A number that stands for `value`: the same for equal values, with this compiler.
pub(crate) fn of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
