//! The last bytes of a stream, each at its place counted from the start.

use std::collections::VecDeque;

/// How much is kept: the whole boot log of a typical guest.
pub const RING_SIZE: usize = 64 * 1024;

/// The last [`RING_SIZE`] bytes of a stream.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: VecDeque<u8>,
    /// Place of the byte after the last one.
    end: u64,
}

/// A piece of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// How many bytes before it were no longer there.
    pub dropped: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Ring {
    /// Adds bytes at the end; the oldest make room.
    pub fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(RING_SIZE)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(RING_SIZE);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
    }

    /// At most `limit` bytes from the place `from` on, or from the oldest that
    /// is there. Moves `from` behind them.
    #[must_use]
    pub fn take(&self, from: &mut u64, limit: usize) -> Chunk {
        let oldest = self.end - self.bytes.len() as u64;
        let dropped = oldest.saturating_sub(*from);
        let start = usize::try_from((*from).max(oldest) - oldest).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = self.bytes.iter().skip(start).take(limit).copied().collect();
        *from += dropped + bytes.len() as u64;
        Chunk { dropped, bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_listener_gets_every_byte_or_is_told_how_many_it_missed(
            steps in prop::collection::vec((0..90_000usize, 0..70_000usize), 1..12),
        ) {
            let mut ring = Ring::default();
            let mut written = 0u64;
            let mut place = 0u64;
            for (push, take) in steps {
                let bytes: Vec<u8> = (written..written + push as u64).map(|n| (n % 251) as u8).collect();
                ring.push(&bytes);
                written += push as u64;
                prop_assert!(ring.bytes.len() <= RING_SIZE);
                let before = place;
                let chunk = ring.take(&mut place, take);
                let first = before + chunk.dropped;
                prop_assert_eq!(place, first + chunk.bytes.len() as u64);
                for (at, byte) in (first..).zip(&chunk.bytes) {
                    prop_assert_eq!(*byte, (at % 251) as u8);
                }
                if chunk.bytes.len() < take {
                    prop_assert_eq!(place, written);
                }
            }
        }
    }
}
