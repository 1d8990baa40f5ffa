//! See `mofka_fuzz::cursors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::cursors::run(bytes));
