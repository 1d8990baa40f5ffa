//! See `mofka_fuzz::descriptor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mofka_fuzz::descriptor::run(bytes));
