//! Entries of the L1 and L2 tables. Pure.

use super::{Header, Qcow2Error};

/// The place in an entry: bits 9 to 55.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The entry's cluster has no other user; says nothing to a reader.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeros (version 3).
const ZERO: u64 = 1;
const SECTOR: u64 = 512;

/// What an L2 entry says of a cluster of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Entry {
    /// Zeros: never written, or zeroed.
    Zero,
    /// A cluster as it is.
    Plain {
        /// Place in the image.
        host: u64,
    },
    /// A compressed cluster.
    Compressed {
        /// Place in the image, to the byte.
        host: u64,
        /// Bytes in which it is; less may be used.
        len: u64,
    },
}

/// Where the second table of an L1 entry is, when there is one.
pub fn l1_entry(header: &Header, entry: u64) -> Result<Option<u64>, Qcow2Error> {
    let offset = entry & OFFSET;
    if entry & !(OFFSET | COPIED) != 0 || !offset.is_multiple_of(header.cluster()) {
        return Err(Qcow2Error::Field {
            field: "L1 entry",
            value: entry,
        });
    }
    Ok((offset != 0).then_some(offset))
}

/// Reads an L2 entry.
pub fn l2_entry(header: &Header, entry: u64) -> Result<L2Entry, Qcow2Error> {
    let wrong = Qcow2Error::Field {
        field: "L2 entry",
        value: entry,
    };
    if entry & COMPRESSED != 0 {
        if entry & COPIED != 0 {
            return Err(wrong);
        }
        // The number of sectors has as many bits as a cluster needs.
        let shift = 62 - (header.cluster_bits - 8);
        let host = entry & ((1 << shift) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> shift;
        let len = (sectors + 1) * SECTOR - host % SECTOR;
        if host == 0 || host > OFFSET {
            return Err(wrong);
        }
        return Ok(L2Entry::Compressed { host, len });
    }
    let zero = entry & ZERO != 0;
    let host = entry & OFFSET;
    let reserved = entry & !(OFFSET | COPIED | ZERO);
    if reserved != 0 || zero && header.version < 3 || !host.is_multiple_of(header.cluster()) {
        return Err(wrong);
    }
    Ok(if zero || host == 0 {
        L2Entry::Zero
    } else {
        L2Entry::Plain { host }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(cluster_bits: u32, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; 112];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
        bytes[24..32].copy_from_slice(&size.to_be_bytes());
        bytes[36..40].copy_from_slice(&(1_u32 << 20).to_be_bytes());
        bytes[40..48].copy_from_slice(&(3_u64 << 21).to_be_bytes());
        bytes[100..104].copy_from_slice(&112_u32.to_be_bytes());
        bytes
    }

    fn refusal(at: usize, value: &[u8]) -> Qcow2Error {
        let mut bytes = image(16, 1 << 30);
        bytes[at..at + value.len()].copy_from_slice(value);
        Header::parse(&bytes).unwrap_err()
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_reason() {
        assert!(Header::parse(&image(16, 1 << 30)).is_ok());
        assert_eq!(
            Header::parse(&image(16, 1 << 30)[..103]),
            Err(Qcow2Error::NoHeader)
        );
        let version = Qcow2Error::Version { version: 4 };
        for (at, value, expected) in [
            (0, &b"KDMV"[..], Qcow2Error::NoHeader),
            (4, &[0, 0, 0, 4], version),
            (8, &[0, 0, 0, 0, 0, 0, 2, 0], Qcow2Error::BackingFile),
            (16, &[0, 0, 0, 9], Qcow2Error::BackingFile),
            (32, &[0, 0, 0, 2], Qcow2Error::Encrypted),
            (79, &[1], Qcow2Error::Dirty),
            (79, &[2], Qcow2Error::Corrupt),
            (79, &[4], Qcow2Error::DataFile),
            (79, &[16], Qcow2Error::ExtendedL2),
            (79, &[32], Qcow2Error::Features { bits: 32 }),
            (79, &[8], Qcow2Error::Compression { kind: 0 }),
            (104, &[1], Qcow2Error::Compression { kind: 1 }),
        ] {
            assert_eq!(refusal(at, value), expected, "at {at}: {value:?}");
        }
        for (at, value) in [
            (20, &[0, 0, 0, 8][..]),
            (24, &[255; 8]),
            (36, &[0; 4]),
            (40, &[0; 8]),
            (47, &[1]),
            (100, &[0; 4]),
        ] {
            assert!(
                matches!(refusal(at, value), Qcow2Error::Field { .. }),
                "at {at}"
            );
        }
        let tables = Header::parse(&image(9, 1 << 50));
        assert_eq!(tables, Err(Qcow2Error::TooManyTables { entries: 1 << 35 }));
    }

    #[test]
    fn entries_say_where_a_cluster_is() {
        let header = Header::parse(&image(16, 1 << 30)).unwrap();
        assert_eq!(l1_entry(&header, COPIED | 0x50000), Ok(Some(0x50000)));
        assert_eq!(l1_entry(&header, 0), Ok(None));
        assert!(l1_entry(&header, 0x50200).is_err());
        assert_eq!(
            l2_entry(&header, COPIED | 0x60000),
            Ok(L2Entry::Plain { host: 0x60000 })
        );
        assert_eq!(l2_entry(&header, 0x60001), Ok(L2Entry::Zero));
        // 62 - 8 = 54 bits of place; three more sectors.
        let packed = COMPRESSED | 3 << 54 | 0x7_0010;
        let expected = L2Entry::Compressed {
            host: 0x7_0010,
            len: 4 * 512 - 16,
        };
        assert_eq!(l2_entry(&header, packed), Ok(expected));
        assert!(l2_entry(&header, 0x60002).is_err());
    }

    proptest! {
        #[test]
        fn a_good_header_with_wrong_bytes_is_refused_or_still_consistent(
            bits in 9_u32..=21,
            changes in proptest::collection::vec((8..112_usize, any::<u8>()), 1..6),
            entries in proptest::collection::vec(any::<u64>(), 1..20),
        ) {
            let mut bytes = image(bits, 1 << 30);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let Ok(header) = Header::parse(&bytes) else {
                return Ok(());
            };
            prop_assert!((9..=21).contains(&header.cluster_bits));
            prop_assert!(header.l1_entries.saturating_mul(header.reach()) >= header.size);
            for entry in entries {
                if let Ok(Some(table)) = l1_entry(&header, entry) {
                    prop_assert!(table.is_multiple_of(header.cluster()));
                }
                let _ = l2_entry(&header, entry);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), entry: u64) {
            let mut bytes = bytes;
            if let Some(head) = bytes.get_mut(..8) {
                head.copy_from_slice(b"QFI\xfb\0\0\0\x03");
            }
            let _ = Header::parse(&bytes);
            for bits in 9..=21 {
                let header = Header::parse(&image(bits, 1 << 20)).unwrap();
                let _ = l1_entry(&header, entry);
                match l2_entry(&header, entry) {
                    Ok(L2Entry::Compressed { host, len }) => {
                        prop_assert!(len > 0 && len <= header.cluster() * 2);
                        prop_assert!(host.checked_add(len).is_some());
                    }
                    Ok(L2Entry::Plain { host }) => prop_assert!(host.is_multiple_of(header.cluster())),
                    _ => {}
                }
            }
        }
    }
}
