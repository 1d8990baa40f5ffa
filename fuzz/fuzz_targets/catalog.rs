//! See `mofka_fuzz::catalog`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::catalog::run(bytes));
