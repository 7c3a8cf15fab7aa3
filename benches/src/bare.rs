//! The other side: qemu with the arguments that the shim gave it, driven over
//! QMP by the least there can be.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::Value;

/// A bare qemu.
#[derive(Debug)]
pub(crate) struct Bare {
    child: Child,
    qmp: BufReader<UnixStream>,
    serial: UnixStream,
}

impl Bare {
    /// Starts qemu with the arguments of a shim's, its two sockets replaced.
    pub(crate) fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let (qmp, qmp_of_qemu) = UnixStream::pair()?;
        let (serial, serial_of_qemu) = UnixStream::pair()?;
        let (program, rest) = arguments.split_first().context("a command line")?;
        let theirs = [OwnedFd::from(qmp_of_qemu), OwnedFd::from(serial_of_qemu)];
        let mut command = Command::new(program);
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let mut replaced = 0;
        for argument in rest {
            let new = match argument.split_once(",fd=") {
                Some((chardev, _)) if chardev.contains("id=qmp") => with_fd(chardev, &theirs[0]),
                Some((chardev, _)) if chardev.contains("id=serial") => with_fd(chardev, &theirs[1]),
                _ => {
                    command.arg(argument);
                    continue;
                }
            };
            replaced += 1;
            command.arg(new);
        }
        ensure!(replaced == 2, "qemu's two sockets are not among {rest:?}");
        for descriptor in &theirs {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let child = command
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self {
            child,
            qmp: BufReader::new(qmp),
            serial,
        })
    }

    /// Negotiates QMP and lets the virtual CPU run.
    pub(crate) fn cont(&mut self) -> anyhow::Result<()> {
        let greeting = self.message()?;
        ensure!(greeting["QMP"].is_object(), "no greeting: {greeting}");
        self.execute("qmp_capabilities")?;
        self.execute("cont")
    }

    fn execute(&mut self, command: &str) -> anyhow::Result<()> {
        self.qmp
            .get_mut()
            .write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        loop {
            let message = self.message()?;
            if message.get("return").is_some() {
                return Ok(());
            }
            ensure!(message.get("error").is_none(), "{command}: {message}");
        }
    }

    fn message(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        if self.qmp.read_line(&mut line)? == 0 {
            bail!("qemu closed QMP");
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn serial(&self) -> anyhow::Result<BufReader<UnixStream>> {
        Ok(BufReader::new(self.serial.try_clone()?))
    }

    /// What writes to the guest's console.
    pub(crate) fn input(&self) -> anyhow::Result<UnixStream> {
        Ok(self.serial.try_clone()?)
    }

    /// Waits until the guest has powered off. A shim that would have had qemu
    /// end does not exist here.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        while self.message()?["event"] != "SHUTDOWN" {}
        self.qmp
            .get_mut()
            .write_all(b"{\"execute\":\"quit\"}\n")
            .ok();
        let status = self.child.wait()?;
        ensure!(status.success(), "qemu ended with {status}");
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_fd(chardev: &str, descriptor: &OwnedFd) -> String {
    format!("{chardev},fd={}", descriptor.as_raw_fd())
}
