//! `pause --sandbox`: the process that holds a pod's namespaces, in place of
//! the pause container. It reaps what is orphaned, if the pod's containers
//! share its process namespace, and ends on TERM or INT. Nothing else.

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

use crate::text;

/// Holds the sandbox until TERM or INT.
pub(super) fn hold() -> anyhow::Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]
        .into_iter()
        .collect();
    // Blocked, they wait until they are asked for: none is missed.
    signals
        .thread_block()
        .context("signals cannot be blocked")?;
    // There is a process like this one for every pod.
    let _ = text::release();
    loop {
        reap();
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error).context("signals cannot be waited for"),
        }
    }
}

/// Reaps every child that has ended.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
