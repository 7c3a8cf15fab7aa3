//! Data in an image that is being written; the shim's images begin empty.

use std::{io, os::unix::fs::FileExt as _};

use super::{CLUSTER_BITS, CLUSTER_BYTES, ENTRIES, Table, Writer};

const SECTOR: u64 = 512;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// The data of a cluster.
pub(crate) enum Cluster<'a> {
    /// As the guest sees it; the disk's last one may be short.
    Plain(&'a [u8]),
    /// Compressed, and smaller than a cluster.
    Packed(&'a [u8]),
}

impl Writer<'_> {
    /// Writes the data of the cluster at byte `at` of the disk.
    pub(crate) fn put(&mut self, at: u64, cluster: &Cluster<'_>) -> io::Result<()> {
        self.table(at / CLUSTER_BYTES)?;
        let new = match cluster {
            Cluster::Packed(packed) => self.put_packed(packed)?,
            Cluster::Plain(bytes) => {
                let place = self.take(CLUSTER_BYTES);
                self.file.write_all_at(bytes, place)?;
                place | COPIED
            }
        };
        let (table, entry) = self.table(at / CLUSTER_BYTES)?;
        table.entries[entry] = new;
        Ok(())
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
}
