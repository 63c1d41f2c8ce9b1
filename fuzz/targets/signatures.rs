//! Any bytes are a signature file: see `fuzz::signatures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::signatures::check(input));
