//! Walks the tables of a qcow2 file, in the order of the disk.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use super::{ENTRY, ENTRY_BYTES, Header, L2Entry, Qcow2Error, l1_entry, l2_entry};
use crate::import::{
    buffer::CHUNK,
    error::ImportError,
    sink::{Packed, PackedBytes, Sink},
};

/// Puts the disk of the image into the sink.
pub(crate) fn convert(
    image: &Arc<File>,
    header: &Header,
    sink: &mut Sink,
) -> Result<(), ImportError> {
    let read = |place, bytes: &mut [u8]| {
        image
            .read_exact_at(bytes, place)
            .map_err(|source| ImportError::Read { source })
    };
    let mut batch = Batch::new(header);
    let mut l1 = [0; ENTRY_BYTES];
    let mut l2 = vec![0; usize::try_from(header.cluster()).map_err(|_| Qcow2Error::NoHeader)?];
    for index in 0..header.l1_entries {
        let at = index * header.reach();
        read(header.l1_offset + index * ENTRY, &mut l1)?;
        let Some(table) = l1_entry(header, u64::from_be_bytes(l1))? else {
            batch.zero(at, header.reach().min(header.size - at), sink, image)?;
            continue;
        };
        read(table, &mut l2)?;
        for (entry, at) in entries(header, &l2, at) {
            batch.add(at, l2_entry(header, entry)?, sink, image)?;
        }
    }
    batch.flush(sink, image)
}

/// The entries of a second table that the disk has, each with its place on
/// the disk.
pub(super) fn entries<'a>(
    header: &'a Header,
    table: &'a [u8],
    from: u64,
) -> impl Iterator<Item = (u64, u64)> + 'a {
    table
        .as_chunks::<{ ENTRY_BYTES }>()
        .0
        .iter()
        .zip(0_u64..)
        .map(move |(entry, index)| (u64::from_be_bytes(*entry), from + index * header.cluster()))
        .take_while(|(_, at)| *at < header.size)
}

/// Clusters of one kind that follow each other, on the disk and, when they are
/// plain, in the image.
struct Batch<'a> {
    header: &'a Header,
    at: u64,
    len: u64,
    what: What,
}

enum What {
    Zero,
    Plain { host: u64 },
    Packed(Vec<(u64, u64)>),
}

impl<'a> Batch<'a> {
    fn new(header: &'a Header) -> Self {
        Self {
            header,
            at: 0,
            len: 0,
            what: What::Zero,
        }
    }

    fn zero(
        &mut self,
        at: u64,
        len: u64,
        sink: &mut Sink,
        image: &Arc<File>,
    ) -> Result<(), ImportError> {
        if !matches!(self.what, What::Zero) || self.at + self.len != at {
            self.flush(sink, image)?;
            (self.at, self.len, self.what) = (at, 0, What::Zero);
        }
        self.len += len;
        Ok(())
    }

    fn add(
        &mut self,
        at: u64,
        entry: L2Entry,
        sink: &mut Sink,
        image: &Arc<File>,
    ) -> Result<(), ImportError> {
        let cluster = self.header.cluster();
        let len = cluster.min(self.header.size - at);
        let chunk = CHUNK as u64;
        let joins = self.at + self.len == at && self.len + cluster <= chunk.max(cluster);
        match (&mut self.what, entry) {
            (_, L2Entry::Zero) => return self.zero(at, len, sink, image),
            (What::Plain { host }, L2Entry::Plain { host: next })
                if joins && *host + self.len == next => {}
            (What::Packed(parts), L2Entry::Compressed { host, len }) if joins => {
                parts.push((host, len));
            }
            (_, L2Entry::Plain { host }) => {
                self.flush(sink, image)?;
                (self.at, self.len, self.what) = (at, 0, What::Plain { host });
            }
            (_, L2Entry::Compressed { host, len }) => {
                self.flush(sink, image)?;
                (self.at, self.len, self.what) = (at, 0, What::Packed(vec![(host, len)]));
            }
        }
        self.len += len;
        Ok(())
    }

    fn flush(&mut self, sink: &mut Sink, image: &Arc<File>) -> Result<(), ImportError> {
        let (at, len) = (self.at, std::mem::take(&mut self.len));
        if len == 0 {
            return Ok(());
        }
        match std::mem::replace(&mut self.what, What::Zero) {
            What::Zero => sink.zero(at, len),
            What::Plain { host } => {
                // A cluster can be larger than a chunk.
                for done in (0..len).step_by(CHUNK) {
                    let part = usize::try_from(len - done).unwrap_or(CHUNK).min(CHUNK);
                    sink.copy(image, host + done, at + done, part)?;
                }
                Ok(())
            }
            What::Packed(parts) => {
                let parts = parts.into_iter().map(|(host, len)| Packed {
                    bytes: PackedBytes::At(Arc::clone(image), host),
                    len: usize::try_from(len).unwrap_or_default(),
                });
                let header = self.header;
                sink.inflate(
                    header.compressor,
                    header.cluster(),
                    (at, len),
                    parts.collect(),
                )
            }
        }
    }
}
