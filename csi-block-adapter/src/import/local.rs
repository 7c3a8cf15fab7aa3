//! Sources that can be read anywhere: files and block devices.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek64},
};
use sha2::{Digest as _, Sha256};

use super::{buffer::CHUNK, error::ImportError, hash::hex, sink::Sink};

/// Size of a file or device.
pub(super) fn size(mut file: &File) -> Result<u64, ImportError> {
    Ok(file.seek(SeekFrom::End(0))?)
}

/// Copies a raw image, its holes as holes.
pub(super) fn copy(file: &Arc<File>, size: u64, sink: &mut Sink) -> Result<(), ImportError> {
    let mut at = 0;
    while at < size {
        let data = next(file, at, Whence::SeekData)?.unwrap_or(size).min(size);
        if data > at {
            sink.zero(at, data - at)?;
        }
        let end = if data < size {
            next(file, data, Whence::SeekHole)?
                .unwrap_or(size)
                .min(size)
        } else {
            size
        };
        for place in (data..end).step_by(CHUNK) {
            let len = usize::try_from(end - place).unwrap_or(CHUNK).min(CHUNK);
            sink.copy(file, place, place, len)?;
        }
        at = end;
    }
    Ok(())
}

/// The next data or hole; block devices have no holes.
fn next(file: &File, at: u64, what: Whence) -> Result<Option<u64>, ImportError> {
    let from = i64::try_from(at).map_err(io::Error::other)?;
    match lseek64(file, from, what) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(match what {
            Whence::SeekData => Some(at),
            _ => None,
        }),
        Err(error) => Err(ImportError::Read {
            source: error.into(),
        }),
    }
}

/// A sum that is being made.
pub(super) struct Sum(JoinHandle<io::Result<String>>);

impl Sum {
    pub(super) fn wait(self) -> Result<String, ImportError> {
        let sum = self.0.join().map_err(|_| ImportError::Worker)?;
        Ok(sum?)
    }
}

/// Hashes a file beside its copying; what one reads the other finds in the
/// page cache.
pub(super) fn hash(file: Arc<File>) -> Sum {
    Sum(thread::spawn(move || {
        let mut hash = Sha256::new();
        let mut bytes = vec![0; CHUNK];
        let mut at = 0;
        loop {
            match file.read_at(&mut bytes, at) {
                Ok(0) => return Ok(hex(&hash.finalize())),
                Ok(read) => {
                    hash.update(&bytes[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }))
}

/// The first bytes of a file.
pub(super) fn head(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(len);
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    reader.take(len as u64).read_to_end(&mut head)?;
    Ok(head)
}
