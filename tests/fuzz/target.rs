//! A fuzzing target: the one of `targets.rs` that has the binary's name.
#![no_main]

mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (_, target) = targets::TARGETS
        .iter()
        .find(|(name, _)| *name == env!("CARGO_BIN_NAME"))
        .expect("a target of this name");
    target(data);
});
