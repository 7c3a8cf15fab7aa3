//! The kernel's device messages, as anyone may send them: no bytes end the program.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_device_plugin::fuzz::uevent(bytes));
