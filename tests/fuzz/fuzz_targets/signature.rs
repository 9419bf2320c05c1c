//! See `portcullis_fuzz::signature`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_fuzz::signature(bytes));
