//! Standard output and standard error, made so that nobody's reading decides
//! whether the shim goes on: containerd can be away for minutes, and the FIFO
//! between it and us then fills up.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::unix::pipe;

use super::follow::Sink;

/// A descriptor that does not block, of what another one is open on.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// Flags to give back, where the open file is shared with the process that
    /// started us.
    restore: Option<OFlag>,
    /// Made in [`Sink::write`], where a runtime is there, once a write would
    /// block. Tokio's type is named after pipes and does for all that can be
    /// waited for; files and the like cannot, and never block.
    wait: Option<pipe::Sender>,
}

impl Output {
    /// Takes a descriptor of its own on what `of` is open on.
    ///
    /// # Errors
    /// It cannot be duplicated.
    pub fn new(of: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(of.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            // Opened again, it has flags of its own. A regular file must not
            // be: it would have a place of its own as well.
            let opened = OpenOptions::new()
                .write(true)
                .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
                .open(format!("/proc/self/fd/{}", of.as_raw_fd()));
            if let Ok(file) = opened {
                return Ok(Self {
                    file,
                    restore: None,
                    wait: None,
                });
            }
        }
        if kind.is_file() {
            return Ok(Self {
                file,
                restore: None,
                wait: None,
            });
        }
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            file,
            restore: Some(flags),
            wait: None,
        })
    }

    /// Writes what can be written without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, and what else the system says.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn watch(&self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_owned_fd_unchecked(self.file.as_fd().try_clone_to_owned()?)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(flags) = self.restore {
            // Nothing is left to do where this fails.
            let _ = fcntl(&self.file, FcntlArg::F_SETFL(flags));
        }
    }
}

impl Sink for Output {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match &self.wait {
                Some(wait) => wait.try_write(bytes),
                None => self.file.write(bytes),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return result,
            }
            match &self.wait {
                Some(wait) => wait.writable().await?,
                None => self.wait = Some(self.watch()?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_full_pipe_does_not_block_and_its_other_descriptor_keeps_its_flags() {
        let (mut read, write) = io::pipe().expect("pipe");
        let mut output = Output::new(write.as_fd()).expect("output");
        let error = loop {
            if let Err(error) = output.try_write(&[b'x'; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let flags = OFlag::from_bits_retain(fcntl(&write, FcntlArg::F_GETFL).expect("flags"));
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        drop((output, write));
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).expect("read");
        assert!(bytes.len() >= 4096);
    }

    #[test]
    fn a_file_is_appended_to_where_it_stands() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"before ").expect("write");
        Output::new(file.as_fd())
            .expect("output")
            .try_write(b"after")
            .expect("write");
        let mut text = String::new();
        io::Seek::rewind(&mut file).expect("rewind");
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "before after");
    }
}
