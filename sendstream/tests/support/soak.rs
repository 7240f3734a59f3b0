//! The long forms of tests that could go on for ever, and the seed of those that throw dice.

use std::{env, io::Write, sync::OnceLock, time::Duration};

/// Whether the long forms are wanted: `SENDSTREAM_SOAK=1`.
pub(crate) fn is_long() -> bool {
    env::var("SENDSTREAM_SOAK").is_ok_and(|value| value == "1")
}

/// How long to go on: `short`, or as many seconds as `variable` says.
pub(crate) fn duration(variable: &str, short: Duration) -> Duration {
    let wanted = env::var(variable).ok();
    wanted.map_or(short, |seconds| Duration::from_secs(seconds.parse().expect("a whole number of seconds")))
}

/// What every random decision of this process follows from, printed by the first who asks:
/// `SENDSTREAM_SEED`, else 1, so that a change is judged by the same dice as the last one; the long
/// forms throw new ones each time.
pub(crate) fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = match env::var("SENDSTREAM_SEED") {
            Ok(seed) => seed.parse().expect("SENDSTREAM_SEED is a number below 2^64"),
            Err(_) if is_long() => fastrand::u64(..),
            Err(_) => 1,
        };
        // Not to the standard output, which a test that ends with its process takes along.
        let _ = writeln!(std::io::stderr(), "SENDSTREAM_SEED={seed}");
        seed
    })
}
