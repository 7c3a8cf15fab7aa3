//! The device plugin's configuration file: no bytes end the program.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_device_plugin::fuzz::config(bytes));
