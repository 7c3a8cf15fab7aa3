//! The name of an image's source, as a manifest may have it.
#![no_main]

use coracle_block::import::Source;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(source) = Source::parse(text) {
        assert!(!source.to_string().is_empty());
    }
});
