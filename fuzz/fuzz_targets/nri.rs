//! What a container runtime sends to its plugins, as anyone may send it: no bytes end the program.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_device_plugin::fuzz::nri(bytes));
