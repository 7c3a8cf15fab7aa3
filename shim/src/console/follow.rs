//! Walking along the ring and writing it somewhere.

use std::io;

use tokio::sync::watch;

use super::ring::{Chunk, Ring};

/// How much is taken from the ring at a time.
const CHUNK: usize = 4096;

/// Where console output goes.
pub trait Sink {
    /// Writes some of the bytes, waiting until that is possible.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

/// Copies the ring to the sink from its oldest byte until it is closed and all
/// of it is written.
///
/// # Errors
/// The sink failed.
///
/// # Cancellation
/// The sink may have got part of a chunk.
pub async fn follow(mut ring: watch::Receiver<Ring>, mut sink: impl Sink) -> io::Result<()> {
    let mut place = 0;
    loop {
        // Marked as seen before it is read, so that nothing falls between.
        let Chunk { dropped, bytes } = ring.borrow_and_update().take(&mut place, CHUNK);
        if dropped > 0 {
            write_all(&mut sink, marker(dropped).as_bytes()).await?;
        }
        write_all(&mut sink, &bytes).await?;
        if bytes.len() < CHUNK && ring.changed().await.is_err() {
            // Closed. What came between taking and closing is still to go.
            loop {
                let Chunk { bytes, .. } = ring.borrow().take(&mut place, CHUNK);
                if bytes.is_empty() {
                    return Ok(());
                }
                write_all(&mut sink, &bytes).await?;
            }
        }
    }
}

/// The line that stands for what a listener has missed.
fn marker(dropped: u64) -> String {
    format!("\r\n[coracle: {dropped} bytes of console output were dropped here]\r\n")
}

async fn write_all(sink: &mut impl Sink, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}
