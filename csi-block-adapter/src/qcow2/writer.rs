//! Writes a qcow2 image front to back (qemu's docs/interop/qcow2.txt):
//! header, first table, then for each part of the disk its second table and
//! its data, and last the reference counts.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::{Compressor, MAGIC};

#[cfg(feature = "import")]
mod data;

#[cfg(feature = "import")]
pub(crate) use self::data::Cluster;

/// Bytes of a cluster.
const CLUSTER_BYTES: u64 = 64 << 10;
const CLUSTER_BITS: u32 = CLUSTER_BYTES.trailing_zeros();
/// Entries of a table that fills a cluster.
const ENTRIES: u64 = CLUSTER_BYTES / 8;
/// Reference counts in a cluster; they have 16 bits.
const COUNTS: u64 = CLUSTER_BYTES / 2;
/// Incompatible feature: the compression type is not zlib.
const COMPRESSION_TYPE: u64 = 1 << 3;
const HEADER: u32 = 112;

/// An image that is being written.
pub(crate) struct Writer<'a> {
    file: &'a File,
    size: u64,
    compressor: Compressor,
    l1: Vec<u64>,
    l2: Option<Table>,
    /// First free byte.
    end: u64,
    /// Users of each cluster of the file: 2 bytes for 64 KiB.
    counts: Vec<u16>,
}

/// A second table.
struct Table {
    #[cfg_attr(
        not(feature = "import"),
        expect(dead_code, reason = "only data needs second tables")
    )]
    index: u64,
    place: u64,
    entries: Vec<u64>,
}

impl<'a> Writer<'a> {
    /// Begins an image of `size` bytes in an empty file.
    pub(crate) fn new(file: &'a File, size: u64, compressor: Compressor) -> io::Result<Self> {
        let l1_entries = size.div_ceil(CLUSTER_BYTES * ENTRIES);
        let l1 = vec![0; usize::try_from(l1_entries).map_err(io::Error::other)?];
        let mut writer = Self {
            file,
            size,
            compressor,
            l1,
            l2: None,
            end: 0,
            counts: Vec::new(),
        };
        writer.take(CLUSTER_BYTES);
        writer.take((l1_entries * 8).next_multiple_of(CLUSTER_BYTES));
        Ok(writer)
    }

    /// Takes the next bytes of the file, whole clusters.
    fn take(&mut self, len: u64) -> u64 {
        let place = self.end.next_multiple_of(CLUSTER_BYTES);
        self.end = place + len;
        self.count(place, len);
        place
    }

    fn count(&mut self, place: u64, len: u64) {
        for cluster in place / CLUSTER_BYTES..=(place + len - 1) / CLUSTER_BYTES {
            let Ok(cluster) = usize::try_from(cluster) else {
                continue;
            };
            if self.counts.len() <= cluster {
                self.counts.resize(cluster + 1, 0);
            }
            self.counts[cluster] += 1;
        }
    }

    fn flush_table(&mut self) -> io::Result<()> {
        match self.l2.take() {
            Some(table) => write_table(self.file, table.place, &table.entries),
            None => Ok(()),
        }
    }

    fn write_counts(&mut self) -> io::Result<(u64, u64)> {
        // The counts count themselves, so their number is found by trying.
        let start = self.end.div_ceil(CLUSTER_BYTES);
        let (mut blocks, mut tables) = (0, 0);
        loop {
            let clusters = start + blocks + tables;
            let (more, wider) = (
                clusters.div_ceil(COUNTS),
                clusters.div_ceil(COUNTS).div_ceil(ENTRIES),
            );
            if (more, wider) == (blocks, tables) {
                break;
            }
            (blocks, tables) = (more, wider);
        }
        let table = self.take(tables * CLUSTER_BYTES);
        let first = self.take(blocks * CLUSTER_BYTES);
        let places: Vec<u64> = (0..blocks).map(|n| first + n * CLUSTER_BYTES).collect();
        write_table(self.file, table, &places)?;
        let counts = self.counts.iter().flat_map(|count| count.to_be_bytes());
        self.file.write_all_at(&counts.collect::<Vec<_>>(), first)?;
        Ok((table, tables))
    }

    fn header(&self, counts: (u64, u64)) -> Vec<u8> {
        let zstd = self.compressor == Compressor::Zstd;
        let words = |words: &[u32]| {
            words
                .iter()
                .flat_map(|w| w.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let longs = |longs: &[u64]| {
            longs
                .iter()
                .flat_map(|l| l.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        [
            MAGIC.to_vec(),
            words(&[3]),
            // No backing file.
            longs(&[0]),
            words(&[0, CLUSTER_BITS]),
            longs(&[self.size]),
            // Not encrypted.
            words(&[0, narrow(self.l1.len() as u64)]),
            longs(&[CLUSTER_BYTES, counts.0]),
            // No snapshots.
            words(&[narrow(counts.1), 0]),
            longs(&[0]),
            // Features: incompatible, compatible, automatic.
            longs(&[if zstd { COMPRESSION_TYPE } else { 0 }, 0, 0]),
            // Reference counts of 2^4 bits.
            words(&[4, HEADER]),
            vec![u8::from(zstd), 0, 0, 0, 0, 0, 0, 0],
            // The end of the header's extensions.
            longs(&[0]),
        ]
        .concat()
    }

    /// Completes the image.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush_table()?;
        let counts = self.write_counts()?;
        write_table(self.file, CLUSTER_BYTES, &self.l1)?;
        self.file
            .set_len(self.end.next_multiple_of(CLUSTER_BYTES))?;
        // Without a header it is no image.
        self.file.sync_all()?;
        self.file.write_all_at(&self.header(counts), 0)
    }
}

fn write_table(file: &File, place: u64, entries: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.to_be_bytes())
        .collect();
    file.write_all_at(&bytes, place)
}
