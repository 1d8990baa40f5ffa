//! See `mofka_fuzz::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|history: mofka_fuzz::operations::History| mofka_fuzz::operations::run(&history));
