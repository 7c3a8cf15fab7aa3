//! A qcow2 image's header and table entries, as a stranger may write them.
#![no_main]

use coracle_block::import::qcow2::{Header, L2Entry, l1_entry, l2_entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes) else {
        return;
    };
    assert!((9..=21).contains(&header.cluster_bits));
    for entry in bytes.as_chunks::<8>().0 {
        let entry = u64::from_be_bytes(*entry);
        if let Ok(Some(table)) = l1_entry(&header, entry) {
            assert!(table.is_multiple_of(header.cluster()));
        }
        if let Ok(L2Entry::Compressed { host, len }) = l2_entry(&header, entry) {
            assert!(len <= 2 * header.cluster() && host.checked_add(len).is_some());
        }
    }
});
