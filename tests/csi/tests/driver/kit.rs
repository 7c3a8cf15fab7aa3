//! A driver in a directory of its own, and clients of its services.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use coracle_test_csi::proto::controller_client::ControllerClient;
use coracle_test_csi::proto::node_client::NodeClient;
use coracle_tests::{skip, until};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// A driver that runs. Its end takes everything along.
pub(crate) struct Driver {
    dir: TempDir,
    child: Child,
}

impl Driver {
    /// Starts one; `None`, after saying why, where it cannot work.
    pub(crate) fn start() -> anyhow::Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            skip("loop devices and mounts need root");
            return Ok(None);
        }
        let loops = Command::new("losetup").arg("--find").output();
        if !loops.is_ok_and(|found| found.status.success()) {
            skip("there are no loop devices");
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("coracle-csi.").tempdir()?;
        let child = spawn(dir.path())?;
        let driver = Self { dir, child };
        driver.serves()?;
        Ok(Some(driver))
    }

    fn serves(&self) -> anyhow::Result<()> {
        let socket = self.endpoint();
        until("the driver serves", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })?;
        Ok(())
    }

    /// Kills it and starts another in its place.
    pub(crate) fn replace(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(self.dir())?;
        self.serves()
    }

    /// A directory that is removed with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn endpoint(&self) -> PathBuf {
        self.dir().join("csi.sock")
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        let address = format!("unix://{}", self.endpoint().display());
        let endpoint = Endpoint::from_shared(address)?;
        endpoint.connect().await.context("reaching the driver")
    }

    pub(crate) async fn controller(&self) -> anyhow::Result<ControllerClient<Channel>> {
        Ok(ControllerClient::new(self.channel().await?))
    }

    pub(crate) async fn node(&self) -> anyhow::Result<NodeClient<Channel>> {
        Ok(NodeClient::new(self.channel().await?))
    }

    /// Every volume, snapshot, mount and loop device that is still there.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<_> = self.mounts().into_iter().collect();
        left.extend(self.devices());
        for kind in ["volumes", "snapshots"] {
            let all = fs::read_dir(self.dir().join("data").join(kind));
            let all = all.into_iter().flatten().flatten();
            left.extend(all.map(|entry| entry.path().display().to_string()));
        }
        left
    }

    fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        let mark = self.dir().display().to_string();
        points
            .filter(|point| point.starts_with(&mark))
            .map(str::to_owned)
            .collect()
    }

    fn devices(&self) -> Vec<String> {
        let list = ["--list", "--noheadings", "--output", "NAME,BACK-FILE"];
        let list = Command::new("losetup").args(list).output();
        let list = list.map_or(String::new(), |list| {
            String::from_utf8_lossy(&list.stdout).into_owned()
        });
        let mark = self.dir().display().to_string();
        let lines = list.lines().filter(|line| line.contains(&mark));
        lines
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    }
}

fn spawn(dir: &Path) -> anyhow::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let child = Command::new(env!("CARGO_BIN_EXE_coracle-test-csi"))
        .arg("--endpoint")
        .arg(dir.join("csi.sock"))
        .arg("--data")
        .arg(dir.join("data"))
        .args(["--node", "node1"])
        .stderr(log)
        .stdin(Stdio::null())
        .spawn();
    child.context("the driver cannot be run")
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for point in self.mounts().iter().rev() {
            let _ = umount2(Path::new(point), MntFlags::MNT_DETACH);
        }
        for device in self.devices() {
            let _ = Command::new("losetup").arg("--detach").arg(device).status();
        }
    }
}
