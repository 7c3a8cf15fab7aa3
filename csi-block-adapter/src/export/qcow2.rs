//! Writes a qcow2 image front to back (qemu's docs/interop/qcow2.txt):
//! header, first table, then for each part of the disk its second table and
//! its data, and last the reference counts.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use flate2::{Compress as Deflate, Compression, FlushCompress, Status};

use super::{CLUSTER, Clusters};

const CLUSTER_BYTES: u64 = CLUSTER as u64;
const CLUSTER_BITS: u32 = CLUSTER_BYTES.trailing_zeros();
/// Entries of a table that fills a cluster.
const ENTRIES: u64 = CLUSTER_BYTES / 8;
/// Reference counts in a cluster; they have 16 bits.
const COUNTS: u64 = CLUSTER_BYTES / 2;
const SECTOR: u64 = 512;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Incompatible feature: the compression type is not zlib.
const COMPRESSION_TYPE: u64 = 1 << 3;
const HEADER: u32 = 112;
/// qemu unpacks with a window of 4 KiB and refuses references beyond it.
const WINDOW_BITS: u8 = 12;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Deflate: every qemu reads it.
    Zlib,
    /// zstd: faster; qemu 5.1 and newer read it.
    Zstd,
}

/// An image that is being written.
pub(super) struct Writer<'a> {
    file: &'a File,
    size: u64,
    compress: Option<Compress>,
    l1: Vec<u64>,
    l2: Option<Table>,
    /// First free byte.
    end: u64,
    /// Users of each cluster of the file: 2 bytes for 64 KiB.
    counts: Vec<u16>,
}

/// A second table.
struct Table {
    index: u64,
    place: u64,
    entries: Vec<u64>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: &'a File, size: u64, compress: Option<Compress>) -> io::Result<Self> {
        let l1_entries = size.div_ceil(CLUSTER_BYTES * ENTRIES);
        let l1 = vec![0; usize::try_from(l1_entries).map_err(io::Error::other)?];
        let mut writer = Self {
            file,
            size,
            compress,
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

    /// The table for a cluster of the disk, and the entry in it.
    fn table(&mut self, cluster: u64) -> io::Result<(&mut Table, usize)> {
        let (index, entry) = (cluster / ENTRIES, cluster % ENTRIES);
        if self.l2.as_ref().is_none_or(|table| table.index != index) {
            self.flush_table()?;
            let place = self.take(CLUSTER_BYTES);
            self.l1[usize::try_from(index).map_err(io::Error::other)?] = place | COPIED;
            self.l2 = Some(Table {
                index,
                place,
                entries: vec![0; usize::try_from(ENTRIES).map_err(io::Error::other)?],
            });
        }
        let table = self
            .l2
            .as_mut()
            .ok_or_else(|| io::Error::other("no table"))?;
        Ok((table, usize::try_from(entry).map_err(io::Error::other)?))
    }

    /// Puts a compressed cluster behind the last one, to the byte.
    fn put_packed(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let len = bytes.len() as u64;
        let place = self.end;
        self.file.write_all_at(bytes, place)?;
        self.end += len;
        self.count(place, len);
        let sectors = (place % SECTOR + len - 1) / SECTOR;
        Ok(COMPRESSED | sectors << (62 - (CLUSTER_BITS - 8)) | place)
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
        let zstd = self.compress == Some(Compress::Zstd);
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
            b"QFI\xfb".to_vec(),
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
}

impl Clusters for Writer<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.table(at / CLUSTER_BYTES)?;
        let packed = match self.compress {
            Some(compress) => pack(compress, bytes)?,
            None => None,
        };
        let new = if let Some(packed) = packed {
            self.put_packed(&packed)?
        } else {
            let place = self.take(CLUSTER_BYTES);
            self.file.write_all_at(bytes, place)?;
            place | COPIED
        };
        let (table, entry) = self.table(at / CLUSTER_BYTES)?;
        table.entries[entry] = new;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
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

/// A compressed cluster, when it is smaller; the disk's last one is filled up
/// with zeros.
fn pack(compress: Compress, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut full = bytes.to_vec();
    full.resize(CLUSTER, 0);
    let packed = match compress {
        Compress::Zstd => zstd::bulk::compress(&full, 0)?,
        Compress::Zlib => {
            let mut packed = Vec::with_capacity(CLUSTER);
            let mut deflate =
                Deflate::new_with_window_bits(Compression::default(), false, WINDOW_BITS);
            let status = deflate
                .compress_vec(&full, &mut packed, FlushCompress::Finish)
                .map_err(io::Error::other)?;
            if status != Status::StreamEnd {
                return Ok(None);
            }
            packed
        }
    };
    Ok((packed.len() < CLUSTER).then_some(packed))
}
