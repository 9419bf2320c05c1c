//! See `portcullis_fuzz::delta`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_fuzz::delta(bytes));
