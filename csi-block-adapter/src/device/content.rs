//! What is on a disk, by the marks that its first bytes bear: partition table
//! and file systems. Pure on what was read; reads nothing by itself but what
//! it is asked to, and never writes.
//!
//! Offsets and magic numbers are those of each format's own documentation;
//! util-linux `libblkid/src/superblocks` has them all.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::Serialize;

/// Enough for every mark but those of file systems that begin later.
const HEAD: usize = 1 << 20;
/// Bytes that are read of each partition.
const PARTITION_HEAD: usize = 128 << 10;
/// Partitions that are looked into; a table can claim any number.
const PARTITIONS: usize = 128;

/// What is on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The partition table, where there is one.
    pub partition_table: Option<Table>,
    /// What the whole disk bears the mark of.
    pub signatures: Vec<&'static str>,
    /// Whether all that was read is zero: a new disk, most likely.
    pub blank: bool,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// `gpt` or `mbr`.
    pub kind: &'static str,
    /// The partitions that are in use.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// Its number, from 1.
    pub number: usize,
    /// Where it begins, in bytes.
    pub start_bytes: u64,
    /// How long it is, in bytes.
    pub size_bytes: u64,
    /// What it bears the mark of.
    pub signatures: Vec<&'static str>,
}

/// Name, offset and bytes of a mark.
type Mark = (&'static str, usize, &'static [u8]);

const MARKS: [Mark; 20] = [
    ("ext2/3/4", 1024 + 0x38, b"\x53\xef"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("vfat", 82, b"FAT32   "),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 54, b"FAT12   "),
    ("iso9660", 0x8001, b"CD001"),
    ("squashfs", 0, b"hsqs"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM physical volume", 512 + 24, b"LVM2 001"),
    ("LVM physical volume", 24, b"LVM2 001"),
    ("swap", 4096 - 10, b"SWAPSPACE2"),
    ("md RAID member", 4096, b"\xfc\x4e\x2b\xa9"),
    ("bcache", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("Ceph BlueStore", 0, b"bluestore block device"),
    ("qcow2 image", 0, b"QFI\xfb"),
    ("VMDK image", 0, b"KDMV"),
];

/// Looks at what a disk holds.
///
/// # Errors
/// When it cannot be read.
pub(super) fn look(disk: &File, size_bytes: u64, sector: u32) -> io::Result<Content> {
    let head = read(disk, 0, HEAD, size_bytes)?;
    let mut content = Content {
        partition_table: table(&head, u64::from(sector), size_bytes),
        signatures: signatures(&head),
        blank: head.iter().all(|byte| *byte == 0),
    };
    let partitions = content.partition_table.iter_mut();
    for partition in partitions.flat_map(|table| &mut table.partitions) {
        let start = read(disk, partition.start_bytes, PARTITION_HEAD, size_bytes)?;
        partition.signatures = signatures(&start);
    }
    Ok(content)
}

fn read(disk: &File, offset: u64, most: usize, size: u64) -> io::Result<Vec<u8>> {
    let there = size.saturating_sub(offset).min(most as u64);
    let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
    disk.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The names of the marks that the bytes bear, each once.
fn signatures(bytes: &[u8]) -> Vec<&'static str> {
    let mut names: Vec<_> = MARKS
        .iter()
        .filter(|(_, at, mark)| bytes.get(*at..at + mark.len()) == Some(*mark))
        .map(|(name, ..)| *name)
        .collect();
    names.dedup();
    names
}

fn table(head: &[u8], sector: u64, size: u64) -> Option<Table> {
    gpt(head, sector, size).or_else(|| mbr(head, sector, size))
}

/// UEFI specification §5.3: the header is in the second sector.
fn gpt(head: &[u8], sector: u64, size: u64) -> Option<Table> {
    let header = head.get(usize::try_from(sector).ok()?..)?;
    if header.get(..8) != Some(b"EFI PART") {
        return None;
    }
    let entries = number(header, 72, 8)?.checked_mul(sector)?;
    let (count, length) = (number(header, 80, 4)?, number(header, 84, 4)?);
    let mut partitions = Vec::new();
    for index in 0..usize::try_from(count).ok()?.min(PARTITIONS) {
        let at = entries.checked_add((index as u64).checked_mul(length)?)?;
        let Some(entry) = head.get(usize::try_from(at).ok()?..) else {
            break;
        };
        let (Some(first), Some(last)) = (number(entry, 32, 8), number(entry, 40, 8)) else {
            break;
        };
        let used = entry[..16] != [0; 16] && last >= first;
        let sectors = used.then(|| last - first + 1);
        partitions.extend(sectors.and_then(|n| partition(index + 1, first, n, sector, size)));
    }
    Some(Table {
        kind: "gpt",
        partitions,
    })
}

/// The four entries of a master boot record. A boot sector of a file system
/// ends in the same two bytes: it is a table only when an entry makes sense
/// and every one has a status that is allowed.
fn mbr(head: &[u8], sector: u64, size: u64) -> Option<Table> {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let entries = head.get(446..510)?.chunks_exact(16);
    if entries.clone().any(|entry| entry[0] & 0x7f != 0) {
        return None;
    }
    let partitions: Vec<Partition> = entries
        .enumerate()
        .filter(|(_, entry)| entry[4] != 0)
        .filter_map(|(index, entry)| {
            let (first, sectors) = (number(entry, 8, 4)?, number(entry, 12, 4)?);
            partition(index + 1, first, sectors, sector, size)
        })
        .collect();
    (!partitions.is_empty()).then_some(Table {
        kind: "mbr",
        partitions,
    })
}

/// A partition that begins on the disk, and not before its first sector ends.
fn partition(number: usize, first: u64, sectors: u64, sector: u64, size: u64) -> Option<Partition> {
    let start_bytes = first.checked_mul(sector)?;
    let size_bytes = sectors.checked_mul(sector)?;
    let possible = first > 0 && sectors > 0 && start_bytes < size;
    possible.then_some(Partition {
        number,
        start_bytes,
        size_bytes,
        signatures: vec![],
    })
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_boot_sector_is_no_table_without_a_sensible_entry() {
        let mut head = vec![0; 4096];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(table(&head, 512, 4096), None);
        head[446 + 4] = 0x83;
        head[446 + 8] = 2;
        head[446 + 12] = 4;
        let table = table(&head, 512, 4096).expect("is a table");
        assert_eq!(table.kind, "mbr");
        let partition = &table.partitions[0];
        assert_eq!((partition.start_bytes, partition.size_bytes), (1024, 2048));
        // Code of a boot loader where the entries would be.
        head[446] = 0xeb;
        assert_eq!(super::table(&head, 512, 4096), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(
            mut head in prop::collection::vec(any::<u8>(), 0..2048),
            gpt in any::<bool>(),
            size in any::<u64>(),
        ) {
            if gpt && head.len() > 520 {
                head[512..520].copy_from_slice(b"EFI PART");
            }
            signatures(&head);
            if let Some(table) = table(&head, 512, size) {
                prop_assert!(table.partitions.iter().all(|part| part.start_bytes < size));
            }
        }
    }
}
