//! `create`: a shim in the background that takes over once the VM is created.
//!
//! The background shim is this program again. It gets a socket as standard
//! input and says on it that the VM is created; when it ends without saying
//! so, its exit code is the answer, and why is on standard error, which the
//! two share.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
};

use anyhow::Context;
use coracle_api::names::exit;
use nix::unistd::{dup2_stdin, setsid};

use super::vm::{self, Ready};
use crate::{args::Options, supervisor::Mode};

/// Starts the background shim and waits until it has created the VM.
pub(super) fn create(options: &Options) -> anyhow::Result<u8> {
    let (mut ours, theirs) = UnixStream::pair().context("a socket cannot be made")?;
    let mut child = Command::new("/proc/self/exe")
        .arg("serve")
        .arg("--config-dir")
        .arg(&options.config_dir)
        .arg("--run-dir")
        .arg(&options.run_dir)
        .arg("--qemu")
        .arg(&options.qemu)
        .arg("--termination-log")
        .arg(&options.termination_log)
        .arg(format!("--qmp-timeout={}", options.qmp_timeout))
        .arg(format!("--log-level={}", options.log_level))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .context("the background shim cannot be started")?;
    if ours.read(&mut [0]).is_ok_and(|length| length > 0) {
        return Ok(exit::OK);
    }
    let status = child
        .wait()
        .context("the background shim cannot be waited for")?;
    match status.code() {
        // It ended well before it was ready: it was told to.
        Some(code) if code != 0 => Ok(u8::try_from(code).unwrap_or(exit::GUEST)),
        _ => anyhow::bail!("the background shim ended before the VM was created ({status})"),
    }
}

/// The background shim.
pub(super) fn serve(options: &Options) -> anyhow::Result<u8> {
    // Fails for a leader of a process group, which a shell may have made it;
    // then it is apart already.
    let _ = setsid();
    let parent = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("standard input is missing")?;
    let null = File::open("/dev/null").context("/dev/null cannot be opened")?;
    dup2_stdin(null).context("standard input cannot be replaced")?;
    let ready: Ready = Box::new(move || {
        // The parent may have gone; the VM is created all the same.
        let _ = UnixStream::from(parent).write_all(b"+");
    });
    vm::run(options, Mode::Create, Some(ready))
}
