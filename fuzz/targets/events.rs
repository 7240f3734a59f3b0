//! MsQuic's events and the user's calls on one stream, in any legal order, against a model: every
//! four bytes choose a step.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sendstream::fuzzing;

fuzz_target!(|data: &[u8]| {
    let (steps, _) = data.as_chunks::<4>();
    fuzzing::events(steps.iter().map(|&[a, b, c, d]| (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))));
});
