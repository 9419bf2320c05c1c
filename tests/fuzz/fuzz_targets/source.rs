//! See `portcullis_fuzz::source`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_fuzz::source(bytes));
