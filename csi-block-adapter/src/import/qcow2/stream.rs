//! A qcow2 image that comes as a stream.
//!
//! Everything in the image is taken in the order in which it comes by: the
//! first table says where the second ones will be, these say where clusters
//! will be. What an image tool writes in one go (`qemu-img convert`, our own
//! export) has each table before the data it maps, so one reading is enough.
//! What came by before its table was known is left for another reading of the
//! same source; three readings are always enough, as there are three levels.
//!
//! What is known and has not come by is kept as extents, of which there is a
//! bounded number.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::{self, Read},
};

use super::{
    ENTRY, ENTRY_BYTES, Header, L2Entry, Qcow2Error, convert::entries, l1_entry, l2_entry,
};
use crate::import::{
    buffer::CHUNK,
    error::ImportError,
    sink::{Packed, PackedBytes, Sink},
};

/// Most extents that are waited for: some 16 MiB.
const MAX_WAITING: usize = 200_000;
/// What is kept of the stream behind the place where it is: a compressed
/// cluster begins in the sector in which the one before it ends.
const LOOK_BACK: usize = 4096;

/// Something whose place in the image is known.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// The first table.
    L1,
    /// A second table, for the disk from this byte on.
    L2 { at: u64 },
    /// Clusters.
    Plain { at: u64, len: u64 },
    /// A compressed cluster.
    Packed { at: u64, len: u64 },
}

/// What is known of the image.
pub(crate) struct Walk {
    header: Header,
    /// By place in the image.
    waiting: BTreeMap<u64, Item>,
    /// What came by too early.
    missed: BTreeMap<u64, Item>,
}

impl Walk {
    pub(crate) fn new(header: Header) -> Self {
        let missed = BTreeMap::from([(header.l1_offset, Item::L1)]);
        Self {
            header,
            waiting: BTreeMap::new(),
            missed,
        }
    }

    /// Reads the image once; whether that was enough.
    pub(crate) fn read(
        &mut self,
        stream: &mut dyn Read,
        sink: &mut Sink,
    ) -> Result<bool, ImportError> {
        self.waiting = std::mem::take(&mut self.missed);
        let mut stream = Forward::new(stream);
        while let Some((host, item)) = self.waiting.pop_first() {
            if !stream.can_reach(host) {
                self.missed.insert(host, item);
                continue;
            }
            match item {
                Item::L1 => self.first_table(host, &mut stream, sink)?,
                Item::L2 { at } => self.second_table(host, at, &mut stream, sink)?,
                Item::Plain { at, len } => plain(host, at, len, &mut stream, sink)?,
                Item::Packed { at, len } => self.packed(host, at, len, &mut stream, sink)?,
            }
        }
        Ok(self.missed.is_empty())
    }

    fn first_table(
        &mut self,
        host: u64,
        stream: &mut Forward<'_>,
        sink: &mut Sink,
    ) -> Result<(), ImportError> {
        let mut entry = [0; ENTRY_BYTES];
        for index in 0..self.header.l1_entries {
            stream.read_at(host + index * ENTRY, &mut entry)?;
            let at = index * self.header.reach();
            match l1_entry(&self.header, u64::from_be_bytes(entry))? {
                Some(table) => self.wait(table, Item::L2 { at })?,
                None => sink.zero(at, self.header.reach().min(self.header.size - at))?,
            }
        }
        Ok(())
    }

    fn second_table(
        &mut self,
        host: u64,
        at: u64,
        stream: &mut Forward<'_>,
        sink: &mut Sink,
    ) -> Result<(), ImportError> {
        let size = usize::try_from(self.header.cluster()).map_err(|_| Qcow2Error::NoHeader)?;
        let mut table = vec![0; size];
        stream.read_at(host, &mut table)?;
        let header = self.header.clone();
        let mut extent: Option<(u64, u64, u64)> = None;
        for (entry, at) in entries(&header, &table, at) {
            let len = header.cluster().min(header.size - at);
            match (l2_entry(&header, entry)?, &mut extent) {
                (L2Entry::Plain { host }, Some((start, from, bytes)))
                    if *start + *bytes == host && *from + *bytes == at =>
                {
                    *bytes += len;
                }
                (L2Entry::Plain { host }, extent) => {
                    let before = extent.replace((host, at, len));
                    self.wait_for(before)?;
                }
                (L2Entry::Zero, _) => sink.zero(at, len)?,
                (L2Entry::Compressed { host, len }, _) => {
                    self.wait(host, Item::Packed { at, len })?;
                }
            }
        }
        self.wait_for(extent)
    }

    fn wait_for(&mut self, extent: Option<(u64, u64, u64)>) -> Result<(), ImportError> {
        extent.map_or(Ok(()), |(host, at, len)| {
            self.wait(host, Item::Plain { at, len })
        })
    }

    fn wait(&mut self, host: u64, item: Item) -> Result<(), ImportError> {
        if self.waiting.len() + self.missed.len() >= MAX_WAITING {
            return Err(Qcow2Error::Scattered.into());
        }
        match self.waiting.entry(host) {
            Entry::Vacant(place) => {
                place.insert(item);
                Ok(())
            }
            Entry::Occupied(_) => Err(Qcow2Error::Shared { offset: host }.into()),
        }
    }

    fn packed(
        &self,
        host: u64,
        at: u64,
        len: u64,
        stream: &mut Forward<'_>,
        sink: &mut Sink,
    ) -> Result<(), ImportError> {
        let header = &self.header;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Qcow2Error::NoHeader)?];
        let read = stream.read_up_to(host, &mut bytes)?;
        bytes.truncate(read);
        let part = Packed {
            len: bytes.len(),
            bytes: PackedBytes::Here(bytes),
        };
        let len = header.cluster().min(header.size - at);
        sink.inflate(header.compressor, header.cluster(), (at, len), vec![part])
    }
}

fn plain(
    host: u64,
    at: u64,
    len: u64,
    stream: &mut Forward<'_>,
    sink: &mut Sink,
) -> Result<(), ImportError> {
    for done in (0..len).step_by(CHUNK) {
        let mut chunk = sink.chunk()?;
        chunk.set_len(usize::try_from(len - done).unwrap_or(CHUNK));
        stream.read_at(host + done, chunk.bytes_mut())?;
        sink.write(at + done, chunk)?;
    }
    Ok(())
}

/// A stream with places in it.
struct Forward<'a> {
    stream: &'a mut dyn Read,
    /// Place of the next byte of `stream`.
    position: u64,
    /// The last bytes before it.
    behind: Vec<u8>,
}

impl<'a> Forward<'a> {
    fn new(stream: &'a mut dyn Read) -> Self {
        Self {
            stream,
            position: 0,
            behind: Vec::with_capacity(2 * LOOK_BACK),
        }
    }

    fn can_reach(&self, place: u64) -> bool {
        place >= self.position - self.behind.len() as u64
    }

    fn read_at(&mut self, place: u64, bytes: &mut [u8]) -> Result<(), ImportError> {
        if self.read_up_to(place, bytes)? == bytes.len() {
            return Ok(());
        }
        Err(ImportError::Read {
            source: io::Error::new(io::ErrorKind::UnexpectedEof, "the qcow2 image is cut short"),
        })
    }

    /// Reads from a place that can be reached; less at the stream's end.
    fn read_up_to(&mut self, place: u64, bytes: &mut [u8]) -> Result<usize, ImportError> {
        let again = usize::try_from(self.position.saturating_sub(place)).unwrap_or_default();
        let again = again.min(self.behind.len());
        let start = self.behind.len() - again;
        let mut done = again.min(bytes.len());
        bytes[..done].copy_from_slice(&self.behind[start..start + done]);
        let mut scrap = [0; LOOK_BACK];
        while self.position < place {
            let skip = usize::try_from(place - self.position).unwrap_or(LOOK_BACK);
            let skip = skip.min(LOOK_BACK);
            if self.fill(&mut scrap[..skip])? < skip {
                return Ok(done);
            }
        }
        if done < bytes.len() {
            done += self.fill(&mut bytes[done..])?;
        }
        Ok(done)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, ImportError> {
        let mut done = 0;
        while done < bytes.len() {
            match self.stream.read(&mut bytes[done..]) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ImportError::Read { source }),
            }
        }
        self.position += done as u64;
        let seen = &bytes[..done];
        self.behind
            .extend_from_slice(&seen[seen.len().saturating_sub(LOOK_BACK)..]);
        let excess = self.behind.len().saturating_sub(LOOK_BACK);
        self.behind.drain(..excess);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_at_places_and_a_little_back() {
        let data: Vec<u8> = (0..100_000_u32)
            .map(|n| ((n / 256) ^ n).to_le_bytes()[0])
            .collect();
        let mut source = data.as_slice();
        let mut forward = Forward::new(&mut source);
        for (place, len) in [
            (0, 10),
            (8, 600),
            (5000, 3000),
            (7990, 9000),
            (90_000, 10_000),
        ] {
            assert!(forward.can_reach(place as u64), "{place}");
            let mut bytes = vec![0; len];
            forward.read_at(place as u64, &mut bytes).unwrap();
            assert_eq!(bytes, data[place..place + len], "{place}");
        }
        assert!(!forward.can_reach(80_000));
        let mut bytes = [0; 20];
        assert_eq!(forward.read_up_to(99_990, &mut bytes).unwrap(), 10);
        assert_eq!(bytes[..10], data[99_990..]);
    }
}
