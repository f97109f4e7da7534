#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| singularity_survey::properties::pytorch(bytes));
