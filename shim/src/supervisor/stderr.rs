//! qemu's standard error: into our log line by line, and its end kept for the
//! termination message. qemu says what is wrong with an option there, and
//! nowhere else.

use std::{collections::VecDeque, io};

use tokio::net::unix::pipe;
use tracing::{info, warn};

/// How much is kept, in bytes. A termination message has 4 KiB in all.
const TAIL_SIZE: usize = 2048;

/// The longest line; a longer one is cut in pieces.
const LINE_MAX: usize = 1024;

/// qemu's standard error.
#[derive(Debug)]
pub(super) struct Stderr {
    pipe: Option<pipe::Receiver>,
    lines: Lines,
}

impl Stderr {
    pub(super) fn new(pipe: pipe::Receiver) -> Self {
        Self {
            pipe: Some(pipe),
            lines: Lines::default(),
        }
    }

    /// Whether all of it has been read.
    pub(super) fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// The last lines as one text.
    pub(super) fn tail(&mut self) -> String {
        self.lines.tail()
    }

    /// Reads a piece; never returns once all has been read.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(super) async fn read(&mut self) {
        let Some(pipe) = &self.pipe else {
            return std::future::pending().await;
        };
        let mut bytes = [0; 1024];
        let result = match pipe.readable().await {
            Ok(()) => pipe.try_read(&mut bytes),
            Err(error) => Err(error),
        };
        match result {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                for line in self.lines.push(&bytes[..length]) {
                    info!(line, "qemu says");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!(%error, "qemu's standard error cannot be read");
                self.pipe = None;
            }
        }
    }
}

/// Bytes to lines, with a bounded memory.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    /// The lines that these bytes complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
            if *byte == b'\n' || self.partial.len() >= LINE_MAX {
                whole.extend(self.complete());
            }
        }
        whole
    }

    /// Ends the line that has been begun.
    fn complete(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.partial).trim().to_owned();
        self.partial.clear();
        if line.is_empty() {
            return None;
        }
        self.last.push_back(line.clone());
        while self.last.iter().map(|line| line.len() + 2).sum::<usize>() > TAIL_SIZE {
            self.last.pop_front();
        }
        Some(line)
    }

    fn tail(&mut self) -> String {
        self.complete();
        Vec::from_iter(std::mem::take(&mut self.last)).join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_memory_is_bounded() {
        let mut lines = Lines::default();
        for number in 0..10_000 {
            lines.push(format!("line {number}\r\n\n").as_bytes());
        }
        lines.push(&[0xff; 3 * LINE_MAX]);
        lines.push(b"unfinished");
        assert!(lines.last.iter().map(String::len).sum::<usize>() <= TAIL_SIZE + 3 * LINE_MAX);
        assert!(lines.tail().ends_with("unfinished"));
    }

    #[test]
    fn lines_come_out_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        assert!(lines.push(b"qemu: -dev").is_empty());
        assert_eq!(lines.push(b"ice x: no\nand "), ["qemu: -device x: no"]);
        assert_eq!(lines.tail(), "qemu: -device x: no; and");
    }
}
