//! SHA-256 of what passes by.

use std::{
    fmt::Write as _,
    io::{self, Read},
};

use sha2::{Digest as _, Sha256};

use super::progress::Progress;

/// Reads on, hashes and counts.
pub(crate) struct Hashing<'a, R> {
    inner: R,
    hash: Sha256,
    progress: Option<&'a Progress>,
}

impl<'a, R: Read> Hashing<'a, R> {
    pub(crate) fn new(inner: R, progress: Option<&'a Progress>) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            progress,
        }
    }

    /// Reads to the end, and tells the sum of everything.
    pub(crate) fn finish(mut self) -> io::Result<String> {
        let mut scrap = vec![0; 64 << 10];
        loop {
            match self.read(&mut scrap) {
                Ok(0) => return Ok(hex(&self.hash.finalize())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        if let Some(progress) = self.progress {
            progress.add_source(read as u64);
        }
        Ok(read)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
