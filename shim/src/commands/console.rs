//! `console`: this terminal as the guest's.
//!
//! On a terminal everything goes to the guest, Ctrl-C too, but Ctrl-], which
//! leaves. Without a terminal, standard input is copied until it ends, and
//! printing goes on until the VM does.

use std::{
    io::{self, ErrorKind, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use anyhow::Context;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    unistd,
};

/// Ctrl-], as in telnet and `virsh console`.
const ESCAPE: u8 = 0x1d;

/// How much is moved at a time.
const PIECE: usize = 2048;

/// Connects standard input and output with the console until one end is gone.
pub(super) fn attach(console: UnixStream, read_only: bool) -> anyhow::Result<()> {
    console
        .set_nonblocking(true)
        .context("the console cannot be set up")?;
    let terminal = if io::stdin().is_terminal() && !read_only {
        Some(Raw::enter()?)
    } else {
        None
    };
    if terminal.is_some() {
        let _ = write!(
            io::stderr(),
            "Connected to the serial console; Ctrl-] leaves.\r\n"
        );
    }
    let mut session = Session {
        console,
        input: if read_only { Input::Ended } else { Input::Open },
        escape: terminal.is_some(),
        pending: Vec::new(),
    };
    let result = session.run();
    drop(terminal);
    result
}

/// A terminal that passes every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("the terminal cannot be set up")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).context("the terminal cannot be set up")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing is left to do where this fails.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
        let _ = write!(io::stderr(), "\r\n");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

struct Session {
    console: UnixStream,
    input: Input,
    /// Whether [`ESCAPE`] leaves.
    escape: bool,
    /// Input that the console has not taken yet.
    pending: Vec<u8>,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Over,
}

impl Session {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let (readable, typed) = self.wait()?;
            if readable && self.print()? == Flow::Over {
                return Ok(());
            }
            if typed && self.read_input()? == Flow::Over {
                return Ok(());
            }
            self.send()?;
        }
    }

    /// Waits until the console or the input has something, or the console
    /// takes what is pending.
    fn wait(&self) -> anyhow::Result<(bool, bool)> {
        let stdin = io::stdin();
        let mut console = PollFlags::POLLIN;
        console.set(PollFlags::POLLOUT, !self.pending.is_empty());
        let mut polled = vec![PollFd::new(self.console.as_fd(), console)];
        if self.input == Input::Open && self.pending.is_empty() {
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("the console cannot be waited for"),
        }
        let waiting = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let ready = |fd: &PollFd| {
            fd.revents()
                .is_some_and(|events| events.intersects(waiting))
        };
        Ok((ready(&polled[0]), polled.get(1).is_some_and(ready)))
    }

    fn print(&mut self) -> anyhow::Result<Flow> {
        let mut bytes = [0; PIECE];
        let length = match self.console.read(&mut bytes) {
            Ok(0) => return Ok(Flow::Over),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flow::On),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Flow::Over),
            Err(error) => return Err(error).context("the console cannot be read"),
        };
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(&bytes[..length])
            .and_then(|()| stdout.flush())
            .context("standard output failed")?;
        Ok(Flow::On)
    }

    fn read_input(&mut self) -> anyhow::Result<Flow> {
        let mut bytes = [0; PIECE];
        // Not through the buffer of `io::stdin`, which poll does not know of.
        let length = unistd::read(io::stdin(), &mut bytes).context("standard input failed")?;
        let typed = &bytes[..length];
        if typed.is_empty() {
            self.input = Input::Ended;
        }
        let escaped = typed.iter().position(|byte| self.escape && *byte == ESCAPE);
        self.pending
            .extend_from_slice(&typed[..escaped.unwrap_or(length)]);
        Ok(if escaped.is_some() {
            Flow::Over
        } else {
            Flow::On
        })
    }

    fn send(&mut self) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.console.write(&self.pending) {
            Ok(written) => {
                self.pending.drain(..written);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The VM is gone; what it said last is still to be printed.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.pending.clear();
                self.input = Input::Ended;
            }
            Err(error) => return Err(error).context("the console takes no input"),
        }
        Ok(())
    }
}
