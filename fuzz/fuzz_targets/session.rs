//! See `mofka_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::session::run(bytes));
