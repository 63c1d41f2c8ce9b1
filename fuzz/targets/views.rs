//! Views are bounded, true and complete: see `fuzz::views`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::views::check(input));
