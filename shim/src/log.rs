//! The shim's own log: one line per event on standard error, which the
//! container runtime collects beside the guest's console. A line that finds
//! the pipe full is dropped and counted: the log never makes the shim wait.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::Mutex,
};

use tracing::level_filters::LevelFilter;

use crate::console::Output;

/// Starts logging to standard error.
///
/// # Errors
/// Standard error cannot be duplicated, or logging was started before.
pub fn start(level: LevelFilter) -> io::Result<()> {
    let output = Output::new(io::stderr().as_fd())?;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(Mutex::new(Lossy { output, dropped: 0 }))
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)
}

/// A writer that loses what cannot be written at once.
struct Lossy {
    output: Output,
    dropped: u64,
}

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 {
            let note = format!("({} log lines were dropped here)\n", self.dropped);
            if self.output.try_write(note.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        if self.dropped > 0 || self.output.try_write(line).is_err() {
            self.dropped += 1;
        }
        // There is nobody to tell about an error of the log.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_full_pipe_costs_lines_and_says_how_many() {
        let (mut read, write) = io::pipe().expect("pipe");
        let output = Output::new(write.as_fd()).expect("output");
        let mut log = Lossy { output, dropped: 0 };
        let line = [b'l'; 1023];
        while log.dropped < 3 {
            log.write_all(&line).expect("never fails");
        }
        let mut taken = vec![0; 8192];
        read.read_exact(&mut taken).expect("read");
        log.write_all(b"after\n").expect("never fails");
        drop((log, write));
        let mut rest = String::new();
        read.read_to_string(&mut rest).expect("read");
        assert!(rest.ends_with("(3 log lines were dropped here)\nafter\n"));
    }
}
