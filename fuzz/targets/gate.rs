//! What the prefilter clears is clean: see `fuzz::gate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::gate::check(input));
