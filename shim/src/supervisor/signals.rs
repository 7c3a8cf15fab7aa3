//! Signals as things to wait for, and the reaping that PID 1 owes.
//!
//! TERM is what the kubelet sends; it may send it again when it or the
//! container runtime was restarted in between, so a second TERM is no news and
//! never shortens the guest's time. INT is what a person types: the first one
//! is a TERM, the second one means it.

use std::io;

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::debug;

use crate::lifecycle::ExitCode;

/// The signals that the shim listens to, from when this was made.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    interrupt: Signal,
    child: Signal,
    interrupted: bool,
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The guest is to power off.
    Stop,
    /// The VM is to end at once.
    StopNow,
    /// A child has ended.
    Child,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// A handler cannot be set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
            interrupted: false,
        })
    }

    /// The next signal.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn next(&mut self) -> Woken {
        tokio::select! {
            Some(()) = self.child.recv() => Woken::Child,
            Some(()) = self.term.recv() => Woken::Stop,
            Some(()) = self.interrupt.recv() => {
                if std::mem::replace(&mut self.interrupted, true) {
                    Woken::StopNow
                } else {
                    Woken::Stop
                }
            }
            else => std::future::pending().await,
        }
    }
}

/// Reaps every child that has ended, adopted ones too; how qemu ended, if it
/// was among them.
pub(super) fn reap(qemu: Option<Pid>) -> Option<ExitCode> {
    let mut found = None;
    loop {
        let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitCode::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitCode::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) => return found,
            // Stops and continuations are not asked for.
            Ok(_) | Err(Errno::EINTR) => continue,
            // There is no child.
            Err(_) => return found,
        };
        if Some(pid) == qemu {
            found = Some(code);
        } else {
            debug!(%pid, %code, "reaped an orphan");
        }
    }
}
