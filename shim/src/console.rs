//! The guest's serial console: one reader, any number of listeners.
//!
//! ```text
//!   qemu ══ socketpair ══ pump ──▶ ring (64 KiB) ──▶ standard output
//!                          ▲          └───────────▶ client, client, …
//!                          └── input ◀─────────────────┘
//! ```
//! The pump reads whatever comes and puts it into the ring; it waits for
//! nobody, so that no reader can make the guest's output block. Each listener
//! walks along the ring at its own pace; one that falls behind by more than
//! the ring holds loses the oldest bytes and gets a line that says how many.
//! When qemu is gone the ring is closed, and the listeners come to its end.

use std::io;

use tokio::{
    io::AsyncReadExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
};

mod descriptor;
mod follow;
mod ring;

pub use descriptor::Output;
pub use follow::{Sink, follow};
pub use ring::{Chunk, RING_SIZE, Ring};

/// How much is read from the guest or from a client at a time.
const READ_SIZE: usize = 2048;

/// How many pieces of input may wait for the guest. A client whose input finds
/// no place waits, and nothing else does.
const INPUT_QUEUE: usize = 8;

/// What the listeners hold on to.
#[derive(Clone, Debug)]
pub struct Console {
    ring: watch::Receiver<Ring>,
    input: mpsc::Sender<Vec<u8>>,
}

/// The reader of the serial console.
#[derive(Debug)]
pub struct Pump {
    serial: UnixStream,
    ring: watch::Sender<Ring>,
    input: mpsc::Receiver<Vec<u8>>,
}

/// A console on the socket whose other end qemu has.
#[must_use]
pub fn console(serial: UnixStream) -> (Console, Pump) {
    let (ring, listen) = watch::channel(Ring::default());
    let (send, input) = mpsc::channel(INPUT_QUEUE);
    (
        Console {
            ring: listen,
            input: send,
        },
        Pump {
            serial,
            ring,
            input,
        },
    )
}

impl Pump {
    /// Moves bytes until qemu has closed its end and all it wrote is in the
    /// ring; then the ring is closed.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn run(self) -> io::Result<()> {
        let Self {
            serial,
            ring,
            mut input,
        } = self;
        let mut to_guest = Vec::new();
        loop {
            tokio::select! {
                ready = serial.readable() => ready?,
                ready = serial.writable(), if !to_guest.is_empty() => {
                    ready?;
                    write_some(&serial, &mut to_guest)?;
                    continue;
                }
                Some(bytes) = input.recv(), if to_guest.is_empty() => {
                    to_guest = bytes;
                    continue;
                }
            }
            let mut bytes = [0; READ_SIZE];
            match serial.try_read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    ring.send_modify(|ring| ring.push(&bytes[..length]));
                    // The listeners come first: in a burst they would find
                    // more than the ring holds to be gone.
                    tokio::task::yield_now().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes what the guest takes at once, and keeps the rest.
fn write_some(serial: &UnixStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match serial.try_write(bytes) {
        Ok(written) => {
            bytes.drain(..written);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        // qemu is gone; reading comes to what it has left behind.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            bytes.clear();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

impl Console {
    /// Copies the console to an output, from the oldest byte there is.
    ///
    /// # Errors
    /// The output failed.
    pub async fn copy_to(&self, output: impl Sink) -> io::Result<()> {
        follow(self.ring.clone(), output).await
    }

    /// Serves a client: what the ring holds, then all that comes, and the
    /// client's input to the guest unless it only reads. A client that closes
    /// its sending side goes on listening. Returns when the client is gone or
    /// has got everything there will ever be.
    pub async fn serve(self, client: UnixStream, access: Access) {
        let Self { ring, input } = self;
        let (read, write) = client.into_split();
        let listen = follow(ring, ClientSink(write));
        let talk = forward(read, input, access);
        tokio::select! {
            // The client is gone, or has everything: nobody is left to tell.
            _ = listen => {}
            () = talk => {}
        }
    }
}

/// What a console client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Listen only; what it sends is thrown away.
    Listen,
    /// Listen and send.
    ListenAndSend,
}

/// Forwards a client's input. Ends only when the client's socket fails.
async fn forward(mut client: OwnedReadHalf, input: mpsc::Sender<Vec<u8>>, access: Access) {
    let mut bytes = [0; READ_SIZE];
    loop {
        match client.read(&mut bytes).await {
            // It has said all it wants to say, and may still listen.
            Ok(0) => return std::future::pending().await,
            Ok(length) => {
                if access == Access::ListenAndSend
                    && input.send(bytes[..length].to_vec()).await.is_err()
                {
                    // The guest is gone; its last words are still being sent.
                    return std::future::pending().await;
                }
            }
            Err(_) => return,
        }
    }
}

struct ClientSink(OwnedWriteHalf);

impl Sink for ClientSink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests;
