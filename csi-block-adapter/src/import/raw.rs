//! Streams that are not compressed and have no format: what they begin with, and
//! all of them onto the disk.

use std::io::{self, Read};

use super::{buffer::CHUNK, error::ImportError, sink::Sink};

/// Bytes at a source's start that tell its format.
pub(super) const HEAD: usize = 4096;

/// The first bytes of a stream.
pub(super) fn peek(stream: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    stream.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Copies a stream onto the disk, from its start to its end.
pub(super) fn copy_stream(stream: &mut dyn Read, sink: &mut Sink) -> Result<(), ImportError> {
    let mut at = 0;
    loop {
        let mut chunk = sink.chunk()?;
        let mut len = 0;
        while len < CHUNK {
            match stream.read(&mut chunk.bytes_mut()[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ImportError::Read { source }),
            }
        }
        chunk.set_len(len);
        if len > 0 {
            sink.write(at, chunk)?;
        }
        at += len as u64;
        if len < CHUNK {
            return Ok(());
        }
    }
}
