//! See `mofka_fuzz::footer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::footer::run(bytes));
