//! What the user types.

use std::io;

use nix::errno::Errno;
use tokio::sync::mpsc;

/// Ctrl-], as in telnet, `virsh console` and the shim.
pub(super) const ESCAPE: u8 = 0x1d;
/// How much is read at a time.
const PIECE: usize = 2048;

/// Where a piece leaves the console.
pub(super) fn escape(typed: &[u8]) -> Option<usize> {
    typed.iter().position(|byte| *byte == ESCAPE)
}

/// Standard input, read by a thread: a terminal cannot be waited for in
/// another way by everything that may be one.
pub(super) struct Keys {
    pieces: mpsc::Receiver<Vec<u8>>,
}

impl Keys {
    /// Reads from now on, and until the process ends.
    pub(super) fn read() -> Self {
        let (sender, pieces) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut buffer = [0; PIECE];
            loop {
                match nix::unistd::read(io::stdin(), &mut buffer) {
                    Ok(0) => return,
                    Ok(length) if sender.blocking_send(buffer[..length].to_vec()).is_err() => {
                        return;
                    }
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
        });
        Self { pieces }
    }

    /// The next piece; `None` when the input has ended.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.pieces.recv().await
    }
}
