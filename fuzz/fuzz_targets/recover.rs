//! See `mofka_fuzz::recover`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::recover::run(bytes));
