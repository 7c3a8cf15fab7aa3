//! A qemu with its two sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coracle_api::machine::Machine;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};

use super::super::super::{Descriptors, PROGRAM, command};
use crate::prepare::Found;

/// Longer than any of this takes on a busy machine; it ends a wait for a qemu
/// that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A qemu that ends with the test.
pub(super) struct Qemu {
    child: Child,
    qmp: BufReader<UnixStream>,
    /// Nobody reads it; it is open so that the guest may write.
    _serial: UnixStream,
}

impl Qemu {
    pub(super) fn start(machine: &Machine, found: &Found) -> Self {
        let (qmp, qmp_theirs) = UnixStream::pair().expect("a socket pair");
        let (serial, serial_theirs) = UnixStream::pair().expect("a socket pair");
        for socket in [&qmp_theirs, &serial_theirs] {
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("inheritable");
        }
        let sockets = Descriptors {
            qmp: qmp_theirs.as_raw_fd(),
            serial: serial_theirs.as_raw_fd(),
        };
        let child = Command::new(PROGRAM)
            .args(command(machine, found, &sockets))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("qemu starts");
        qmp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            child,
            qmp: BufReader::new(qmp),
            _serial: serial,
        }
    }

    /// The next message; `None` when qemu is gone.
    pub(super) fn message(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.qmp.read_line(&mut line) {
            Ok(0) => None,
            // It ended with something of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("qemu says nothing: {error}"),
            Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
        }
    }

    /// The answer to a command; `None` when qemu is gone.
    pub(super) fn execute(&mut self, command: &str) -> Option<Value> {
        let text = json!({ "execute": command }).to_string();
        self.qmp.get_mut().write_all(text.as_bytes()).ok()?;
        loop {
            let message = self.message()?;
            if message.get("event").is_none() {
                return Some(message);
            }
        }
    }

    /// Reads the greeting and takes what is offered.
    pub(super) fn negotiate(mut self) -> Self {
        let greeting = self.message();
        match self.execute("qmp_capabilities") {
            Some(_) if greeting.is_some_and(|greeting| greeting.get("QMP").is_some()) => self,
            _ => panic!("qemu did not start: {}", self.last_words()),
        }
    }

    /// What it said on its standard error until now.
    pub(super) fn last_words(mut self) -> String {
        let mut text = String::new();
        drop(self.child.kill());
        let mut stderr = self.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut text).expect("text");
        text
    }

    pub(super) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("a child").code()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
