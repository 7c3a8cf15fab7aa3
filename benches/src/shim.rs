//! The shim on the host, outside of any container: its own work and nothing
//! else.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use coracle_api::machine::Machine;
use coracle_api::names::{DESIRED_FILE, MACHINE_FILE};
use tempfile::TempDir;

use crate::process;

const QEMU: &str = "qemu-system-x86_64";

/// The programs.
#[derive(Debug)]
pub(crate) struct Setup {
    pub shim: PathBuf,
    pub qemu: PathBuf,
}

/// Directories as a pod has them.
#[derive(Debug)]
pub(crate) struct Pod {
    dir: TempDir,
}

impl Pod {
    /// Directories with an empty disk, or with one that begins as `disk` does.
    pub(crate) fn new(disk: Option<&Path>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("coracle-bench.")
            .tempdir_in("/run")?;
        for name in ["config", "run"] {
            fs::create_dir(dir.path().join(name))?;
        }
        let pod = Self { dir };
        if let Some(disk) = disk {
            fs::copy(disk, pod.disk()).with_context(|| format!("copying {}", disk.display()))?;
        }
        fs::File::options()
            .create(true)
            .append(true)
            .open(pod.disk())?
            .set_len(16 << 20)?;
        Ok(pod)
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    /// Starts the shim of a machine.
    pub(crate) fn start(&self, setup: &Setup, machine: &Machine) -> anyhow::Result<Shim> {
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("config").join(MACHINE_FILE), machine.to_json())?;
        fs::write(path("config").join(DESIRED_FILE), "Running")?;
        let mut command = Command::new(&setup.shim);
        command
            .arg("run")
            .arg("--config-dir")
            .arg(path("config"))
            .arg("--run-dir")
            .arg(path("run"))
            .arg("--termination-log")
            .arg(path("termination-log"))
            .arg("--qemu")
            .arg(&setup.qemu)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn();
        let child = child.with_context(|| format!("starting {}", setup.shim.display()))?;
        Ok(Shim { child })
    }
}

/// A running shim.
#[derive(Debug)]
pub(crate) struct Shim {
    child: Child,
}

impl Shim {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The guest's console.
    pub(crate) fn stdout(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        Ok(BufReader::new(
            self.child.stdout.take().context("taken once")?,
        ))
    }

    /// The shim's log.
    pub(crate) fn stderr(&mut self) -> anyhow::Result<BufReader<ChildStderr>> {
        Ok(BufReader::new(
            self.child.stderr.take().context("taken once")?,
        ))
    }

    /// Its qemu, once there is one.
    pub(crate) fn qemu(&self) -> anyhow::Result<u32> {
        process::until("the shim's qemu", || process::child(self.pid(), QEMU))
    }

    /// Waits until the guest has powered off.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the shim ended with {status}");
        Ok(())
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let qemu = process::child(self.pid(), QEMU);
        let _ = self.child.kill();
        let _ = self.child.wait();
        // It dies with the shim; its files must not be used again before.
        if let Some(pid) = qemu {
            let _ = process::until("the end of qemu", || process::has_ended(pid).then_some(()));
        }
    }
}
