//! See `mofka_fuzz::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::wire::run(bytes));
