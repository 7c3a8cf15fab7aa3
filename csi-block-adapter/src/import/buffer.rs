//! Memory that direct I/O accepts, and telling zeros from data in it.

/// What direct I/O wants memory, places and lengths to be multiples of, on
/// every device there is.
pub(crate) const ALIGN: usize = 4096;
/// Bytes that are moved at once.
pub(crate) const CHUNK: usize = 1 << 20;
/// Shortest run of zeros that is made a hole instead of being written.
pub(crate) const HOLE: usize = 64 << 10;

/// A chunk's memory, aligned.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let bytes = vec![0; CHUNK + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        // align_offset may decline; unaligned memory is then merely refused
        // by the device.
        let start = if start <= ALIGN { start } else { 0 };
        Self {
            bytes,
            start,
            len: CHUNK,
        }
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = len.min(CHUNK);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Most data shows itself at once; only then is the loop worth its start.
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    head.iter().all(|byte| *byte == 0)
        && rest
            .chunks(ALIGN)
            .all(|part| part.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// A part of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) zero: bool,
}

/// Divides a chunk into data, and runs of zeros that are worth a hole.
pub(crate) fn runs(bytes: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for start in (0..bytes.len()).step_by(HOLE) {
        let end = bytes.len().min(start + HOLE);
        let zero = is_zero(&bytes[start..end]);
        match runs.last_mut() {
            Some(last) if last.zero == zero => last.end = end,
            _ => runs.push(Run { start, end, zero }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.bytes().as_ptr() as usize % ALIGN, 0);
        buffer.set_len(7);
        assert_eq!(buffer.bytes_mut().len(), 7);
    }

    #[test]
    fn long_runs_of_zeros_are_found_and_a_single_byte_ends_them() {
        let mut bytes = vec![0; 3 * HOLE + 100];
        let run = |start, end, zero| Run { start, end, zero };
        assert_eq!(runs(&bytes), [run(0, 3 * HOLE + 100, true)]);
        bytes[2 * HOLE - 1] = 1;
        let expected = [
            run(0, HOLE, true),
            run(HOLE, 2 * HOLE, false),
            run(2 * HOLE, 3 * HOLE + 100, true),
        ];
        assert_eq!(runs(&bytes), expected);
        assert!(runs(&[]).is_empty());
        for at in 0..bytes.len() / 7 {
            let mut bytes = vec![0; bytes.len() / 7];
            bytes[at] = 128;
            assert!(!is_zero(&bytes), "{at}");
            if at > 200 {
                break;
            }
        }
    }
}
