#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgevict_fuzz::query(data));
