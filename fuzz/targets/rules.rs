//! Rule files are taken or refused, and mean what they say: see `fuzz::rules`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::rules::check(input));
